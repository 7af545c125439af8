package report

import (
	"bytes"
	"fmt"
	"os"
	"runtime"
	"runtime/debug"
	"strings"

	"golang.org/x/sys/unix"
)

// cpuLines are the fields of /proc/cpuinfo that tell what a processor can do;
// its serial number is not among them.
var cpuLines = []string{"model name", "Hardware", "Model", "Features", "flags", "CPU architecture", "CPU part"}

// Machine describes the machine and the program: kernel, processor, memory,
// the file system of the folder. The machine's own name is left out.
func Machine(dir string) []byte {
	var b bytes.Buffer
	fmt.Fprintf(&b, "go        %s %s/%s\n", runtime.Version(), runtime.GOOS, runtime.GOARCH)
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, s := range info.Settings {
			if strings.HasPrefix(s.Key, "GO") || strings.HasPrefix(s.Key, "CGO_ENABLED") {
				fmt.Fprintf(&b, "build     %s=%s\n", s.Key, s.Value)
			}
		}
	}
	var u unix.Utsname
	if unix.Uname(&u) == nil {
		fmt.Fprintf(&b, "kernel    %s %s %s\n", text(u.Sysname[:]), text(u.Release[:]), text(u.Machine[:]))
	}
	fmt.Fprintf(&b, "cpus      %d\n", runtime.NumCPU())
	processor(&b)
	copyLines(&b, "/proc/meminfo", 8)
	copyLines(&b, "/proc/loadavg", 1)
	copyLines(&b, "/proc/uptime", 1)
	var st unix.Statfs_t
	if unix.Statfs(dir, &st) == nil {
		fmt.Fprintf(&b, "disk      type %#x, %d of %d bytes free, %d of %d inodes free\n",
			uint32(st.Type), st.Bavail*uint64(st.Bsize), st.Blocks*uint64(st.Bsize), st.Ffree, st.Files)
	}
	return b.Bytes()
}

func processor(b *bytes.Buffer) {
	raw, err := os.ReadFile("/proc/cpuinfo")
	if err != nil {
		return
	}
	told := map[string]bool{}
	for line := range strings.Lines(string(raw)) {
		key, _, _ := strings.Cut(line, ":")
		key = strings.TrimSpace(key)
		for _, want := range cpuLines {
			if key == want && !told[key] {
				told[key] = true
				b.WriteString(line)
			}
		}
	}
}

func copyLines(b *bytes.Buffer, path string, most int) {
	raw, err := os.ReadFile(path)
	if err != nil {
		return
	}
	for line := range strings.Lines(string(raw)) {
		if most--; most < 0 {
			return
		}
		fmt.Fprintf(b, "%-9s %s", path[len("/proc/"):], line)
	}
}

func text(b []byte) string {
	s, _, _ := strings.Cut(string(b), "\x00")
	return s
}
