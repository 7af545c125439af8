package store_test

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

// What must be seen before the child acknowledges a step, in this order:
// a system call on a file whose path ends so.
var wantedBefore = [][]string{
	// A bundle, the first of its payload segment.
	{"pwrite64 .seg", "fdatasync .seg", "fsync /payload", "msync .mem"},
	// Its meta.
	{"msync .mem"},
	// A secret.
	{"pwrite64 /pages", "fdatasync /pages", "pwrite64 /anchor", "fdatasync /anchor"},
	// Its shredding, which erases the old anchor after the new one is there.
	{"pwrite64 /pages", "fdatasync /pages", "fdatasync /anchor", "pwrite64 /anchor", "fdatasync /anchor"},
	// A leaf of a blob, before what claims it.
	{"pwrite64 .leaves", "fdatasync .leaves", "fdatasync .proofs", "pwrite64 .proofs", "fdatasync .proofs"},
	// A batch for which the index began another log: its name too.
	{"mmap .mem", "msync .mem", "fsync /index"},
}

// The system calls of a process show that it syncs, and that it does so before
// it acknowledges.
func TestSyncBeforeAcknowledge(t *testing.T) {
	missing := missingSyncs(t, traceSteps(t))
	for _, m := range missing {
		t.Error(m)
	}
}

// Without syncs the same check must complain of every step.
func TestSyncBeforeAcknowledgeControl(t *testing.T) {
	missing := missingSyncs(t, traceSteps(t, noSyncEnv+"=1"))
	if len(missing) != len(wantedBefore) {
		t.Fatalf("%d steps found wanting of %d that did not sync: the test proves nothing", len(missing), len(wantedBefore))
	}
}

// traceSteps runs a child under strace and returns what it did.
func traceSteps(t *testing.T, env ...string) []event {
	t.Helper()
	strace, err := exec.LookPath("strace")
	if err != nil {
		t.Fatal("strace is not installed; run as root: apt-get install strace")
	}
	program, err := os.Executable()
	must(t, err)
	dir := t.TempDir()
	trace := filepath.Join(dir, "trace")
	cmd := exec.Command(strace, "-f", "-y", "-s", "64", "-o", trace,
		"-e", "trace=mmap,?mmap2,munmap,mremap,msync,fsync,fdatasync,write,pwrite64", "-e", "signal=none", program)
	cmd.Env = append(os.Environ(), append([]string{childEnv + "=steps", dirEnv + "=" + dir}, env...)...)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	f, err := os.Open(trace)
	must(t, err)
	defer f.Close()
	events, err := parseTrace(bufio.NewScanner(f))
	must(t, err)
	return events
}

// An event is a system call, or the acknowledgement of a step.
type event struct {
	call, path string
	ack        int // of a step; -1 for calls
}

var (
	callForm    = regexp.MustCompile(`^(\d+) +(\w+)\((.*)$`)
	resumedForm = regexp.MustCompile(`^(\d+) +<\.\.\. (\w+) resumed>(.*)$`)
	pathForm    = regexp.MustCompile(`\d+<([^>]*)>`)
	ackForm     = regexp.MustCompile(`"done (\d+)`)
)

// parseTrace reads strace's output. A call counts when it has returned; an
// acknowledgement when it begins.
func parseTrace(lines *bufio.Scanner) (events []event, err error) {
	begun := make(map[string]string)
	var maps mappings
	for lines.Scan() {
		line := lines.Text()
		if m := resumedForm.FindStringSubmatch(line); m != nil {
			line = fmt.Sprintf("%s %s(%s%s", m[1], m[2], begun[m[1]], m[3])
		} else if m := callForm.FindStringSubmatch(line); m != nil {
			if ack := ackForm.FindStringSubmatch(m[3]); m[2] == "write" && ack != nil {
				n, err := strconv.Atoi(ack[1])
				if err != nil {
					return nil, err
				}
				events = append(events, event{ack: n})
				continue
			}
			if rest, unfinished := strings.CutSuffix(m[3], " <unfinished ...>"); unfinished {
				begun[m[1]] = rest
				continue
			}
		}
		if m := callForm.FindStringSubmatch(line); m != nil {
			events = maps.see(events, m[2], m[3])
		}
	}
	return events, lines.Err()
}

// mappings know which file is mapped where.
type mappings []mapped

type mapped struct {
	from, to uint64
	path     string
}

func (m *mappings) see(events []event, call, rest string) []event {
	path := ""
	if p := pathForm.FindStringSubmatch(rest); p != nil {
		path = p[1]
	}
	_, result, _ := cutLast(rest, "= ")
	switch call {
	case "mmap", "mmap2":
		var size uint64
		fmt.Sscanf(strings.Split(rest, ", ")[1], "%v", &size)
		if from, err := strconv.ParseUint(strings.TrimSpace(result), 0, 64); err == nil && path != "" {
			*m = append(*m, mapped{from, from + size, path})
			events = append(events, event{call: "mmap", path: path, ack: -1})
		}
		return events
	case "mremap": // at the end of files only: what follows is not of interest
		return events
	case "munmap":
		addr, _, _ := strings.Cut(rest, ",")
		from, _ := strconv.ParseUint(addr, 0, 64)
		for i := range *m {
			if (*m)[i].from == from {
				(*m)[i].to = from
			}
		}
		return events
	case "msync":
		addr, _, _ := strings.Cut(rest, ",")
		at, _ := strconv.ParseUint(addr, 0, 64)
		for _, x := range *m {
			if x.from <= at && at < x.to {
				path = x.path
			}
		}
	}
	if strings.HasPrefix(result, "-") {
		return events
	}
	return append(events, event{call: call, path: path, ack: -1})
}

func cutLast(s, sep string) (before, after string, found bool) {
	i := strings.LastIndex(s, sep)
	if i < 0 {
		return s, "", false
	}
	return s[:i], s[i+len(sep):], true
}

// missingSyncs says for which steps something wanted was not seen since the
// acknowledgement before.
func missingSyncs(t *testing.T, events []event) (missing []string) {
	t.Helper()
	step, from := 0, 0
	for i, e := range events {
		if e.ack < 0 {
			continue
		}
		if e.ack != step {
			t.Fatalf("step %d acknowledged after %d", e.ack, step-1)
		}
		if m := firstMissing(events[from:i], wantedBefore[step]); m != "" {
			missing = append(missing, fmt.Sprintf("step %d was acknowledged without %s (in this order: %q)", step, m, wantedBefore[step]))
		}
		step, from = step+1, i
	}
	if step != len(wantedBefore) {
		t.Fatalf("%d steps acknowledged, want %d", step, len(wantedBefore))
	}
	return missing
}

// firstMissing returns the first of the wanted calls that does not follow the
// ones before it.
func firstMissing(events []event, wanted []string) string {
	for _, e := range events {
		if len(wanted) == 0 {
			break
		}
		call, suffix, _ := strings.Cut(wanted[0], " ")
		// A new vault's anchor has another name until it is whole.
		if e.call == call && (strings.HasSuffix(e.path, suffix) || suffix == "/anchor" && strings.HasSuffix(e.path, "/anchor.new")) {
			wanted = wanted[1:]
		}
	}
	if len(wanted) > 0 {
		return wanted[0]
	}
	return ""
}
