package doctor

import (
	"bufio"
	"context"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"

	"golang.org/x/sys/cpu"
	"golang.org/x/sys/unix"
)

// What a login needs: the derivation of a key (decisions 25), and room for
// what goes on beside it. A node that does not run yet needs its own, too.
const (
	deriveBytes = 64 << 20
	besideBytes = 16 << 20
	nodeBytes   = 48 << 20
)

func checkMemory(_ context.Context, e Env) (out []Finding) {
	need := uint64(deriveBytes + besideBytes)
	if !e.Running.Answers {
		need += nodeBytes
	}
	if free, ok := available(filepath.Join(e.Proc, "meminfo")); ok && free < need {
		out = append(out, found("memory-low", "free", size(free), "need", size(need)))
	}
	pid := "self"
	if e.Running.PID > 0 {
		pid = strconv.Itoa(e.Running.PID)
	}
	for _, g := range groups(e.Proc, e.Sys, pid) {
		if free := g.limit - min(g.used, g.limit); free < need {
			out = append(out, found("memory-cgroup", "group", g.name, "free", size(free), "need", size(need)))
		}
		if l := uint64(e.Config.MemoryLimit()); l > g.limit {
			out = append(out, found("memory-setting", "setting", size(l), "limit", size(g.limit), "group", g.name))
		}
	}
	return out
}

// available reads how much memory can be had without swapping (proc_meminfo(5)).
func available(path string) (bytes uint64, ok bool) {
	f, err := os.Open(path)
	if err != nil {
		return 0, false
	}
	defer f.Close()
	for sc := bufio.NewScanner(f); sc.Scan(); {
		w := strings.Fields(sc.Text())
		if len(w) >= 2 && (w[0] == "MemAvailable:" || w[0] == "SwapFree:") {
			n, err := strconv.ParseUint(w[1], 10, 64)
			if err == nil {
				bytes, ok = bytes+n*1024, true
			}
		}
	}
	return bytes, ok
}

// A group is a control group with a limit.
type group struct {
	name        string
	limit, used uint64 // bytes
}

// groups lists the control groups with a memory limit that a process is in,
// of either version (cgroups(7)).
func groups(proc, sys, pid string) (out []group) {
	raw, err := os.ReadFile(filepath.Join(proc, pid, "cgroup"))
	if err != nil {
		return nil
	}
	for line := range strings.Lines(string(raw)) {
		f := strings.SplitN(strings.TrimSpace(line), ":", 3)
		if len(f) != 3 {
			continue
		}
		switch {
		case f[0] == "0":
			for _, root := range []string{"fs/cgroup", "fs/cgroup/unified"} {
				out = append(out, limits(filepath.Join(sys, root), f[2], "memory.max", "memory.current")...)
			}
		case strings.Contains(","+f[1]+",", ",memory,"):
			out = append(out, limits(filepath.Join(sys, "fs/cgroup/memory"), f[2], "memory.limit_in_bytes", "memory.usage_in_bytes")...)
		}
	}
	return out
}

// limits walks up from a group to the root. Inactive pages of files can be
// had back, so they do not count as used.
func limits(root, name, limitFile, usedFile string) (out []group) {
	const none = 1 << 60 // version 1 writes a huge number for "no limit"
	for at := filepath.Clean("/" + name); ; at = filepath.Dir(at) {
		limit, ok := figure(filepath.Join(root, at, limitFile))
		used, ok2 := figure(filepath.Join(root, at, usedFile))
		if ok && ok2 && limit < none {
			used -= min(used, statFigure(filepath.Join(root, at, "memory.stat"), "inactive_file"))
			out = append(out, group{at, limit, used})
		}
		if at == "/" {
			return out
		}
	}
}

func figure(path string) (uint64, bool) {
	raw, err := os.ReadFile(path)
	if err != nil {
		return 0, false
	}
	n, err := strconv.ParseUint(strings.TrimSpace(string(raw)), 10, 64)
	return n, err == nil // "max" is no number
}

func statFigure(path, key string) uint64 {
	raw, err := os.ReadFile(path)
	if err != nil {
		return 0
	}
	for line := range strings.Lines(string(raw)) {
		if v, ok := strings.CutPrefix(line, key+" "); ok {
			n, _ := strconv.ParseUint(strings.TrimSpace(v), 10, 64)
			return n
		}
	}
	return 0
}

// checkCPU asks what crypto/aes would ask.
func checkCPU(context.Context, Env) []Finding {
	has := true
	switch runtime.GOARCH {
	case "amd64":
		has = cpu.X86.HasAES && cpu.X86.HasPCLMULQDQ
	case "arm64":
		has = cpu.ARM64.HasAES && cpu.ARM64.HasPMULL
	case "arm":
		has = false // Go has no AES of its own for it, whatever the processor has
	}
	if has {
		return nil
	}
	return []Finding{found("cpu-no-aes")}
}

// filesNeeded is what connections of page, links, gossip, store and socket may
// need at once.
const filesNeeded = 1024

func checkFiles(_ context.Context, e Env) []Finding {
	var lim unix.Rlimit
	pid := e.Running.PID // 0: this process, which the node's will resemble
	if unix.Prlimit(pid, unix.RLIMIT_NOFILE, nil, &lim) != nil || lim.Max >= filesNeeded {
		return nil
	}
	return []Finding{found("files-limit", "limit", number(lim.Max), "need", number(filesNeeded))}
}
