// Package bench measures the whole node: real processes of the shipped binary,
// driven through their socket as any program on the node would.
//
// Every benchmark fails when something was lost or did not work; a figure that
// is printed is a figure of work that was done. What they print, beside Go's
// own columns:
//
//	bundles/s    durable at the sender, then durable and seen at the receiver
//	lost         acknowledged and not seen at the receiver; anything but 0 fails
//	rss-MB       resident memory in MiB: a peak under load, the present when idle
//	fsyncs       syncs of the disk by the stores of both nodes
//	cpu-us       processor time of both nodes for one bundle, in microseconds
//	header-B     header and hop part of one bundle
//	sealed-B     its payload
//	wire-B       Ethernet bytes in both directions, see BenchmarkMessageWire
//	s/4-logins   until four users who log in at once all are, in seconds
//	start-ms     from exec to the first answer of the socket
//	binary-MB    size of the binary in 10^6 bytes
//	idle-B/h     Ethernet bytes of two idle nodes in contact, see BenchmarkIdle
//	p99-ms       of FLASH over a radio, see BenchmarkFlash
//	contact-ms   from the contact (both nodes have said so) to the first bundle
//
// The nodes' folders lie below the system's folder for temporary files, or
// below OUTRIDER_BENCH_DIR; a file system in memory is refused.
package bench

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"outrider/field-tests/scenario"
)

// tmpfsMagic and ramfsMagic are file systems in memory; statfs(2).
const (
	tmpfsMagic = 0x01021994
	ramfsMagic = 0x858458f6
)

// OnDisk refuses folders on a file system in memory: a sync costs nothing
// there, and whoever measured it would measure something else.
func OnDisk(dir string) error {
	var st syscall.Statfs_t
	if err := syscall.Statfs(dir, &st); err != nil {
		return fmt.Errorf("bench: file system of %s: %w", dir, err)
	}
	switch uint32(st.Type) {
	case tmpfsMagic, ramfsMagic:
		return fmt.Errorf("bench: %s lies on a file system in memory, where durable means nothing: set OUTRIDER_BENCH_DIR to a folder on a disk", dir)
	}
	return nil
}

// Dir makes a folder on a disk that is removed at the benchmark's end. Its
// name is short, since sockets lie in it.
func Dir(tb testing.TB) string {
	tb.Helper()
	dir, err := os.MkdirTemp(os.Getenv("OUTRIDER_BENCH_DIR"), "outrider-bench-")
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = os.RemoveAll(dir) })
	if err := OnDisk(dir); err != nil {
		tb.Fatal(err)
	}
	return dir
}

// shipped is the binary as make release builds it, made once.
var shipped struct {
	once sync.Once
	path string
	err  error
}

// Binary builds outrider as it is shipped for this machine. With OUTRIDER_BIN
// set it returns that.
func Binary(tb testing.TB) string {
	tb.Helper()
	if bin := os.Getenv("OUTRIDER_BIN"); bin != "" {
		return bin
	}
	shipped.once.Do(func() { shipped.path, shipped.err = build() })
	if shipped.err != nil {
		tb.Fatal(shipped.err)
	}
	return shipped.path
}

func build() (string, error) {
	root, err := scenario.Root()
	if err != nil {
		return "", err
	}
	path := filepath.Join(root, "bin", "_test", fmt.Sprintf("outrider-bench-%d", os.Getpid()))
	cmd := exec.Command("go", "build", "-trimpath", "-buildvcs=false", "-ldflags", "-s -w -buildid=", "-o", path, "./node/outrider")
	cmd.Dir, cmd.Env = root, append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("bench: build outrider: %w: %s", err, out)
	}
	return path, nil
}

// Clean removes what Binary built. Call it at the end of TestMain.
func Clean() {
	if shipped.path != "" {
		_ = os.Remove(shipped.path)
	}
}

// A Pair is two nodes of one network: A with alice, and B, which A enrolled,
// with bob.
type Pair struct {
	A, B     *scenario.Box
	AID, BID string
}

// NewPair makes the two nodes, A first, with the settings of a profile.
// Nothing runs when it returns.
func NewPair(ctx context.Context, profile string, newBox func(name string) (*scenario.Box, error)) (*Pair, error) {
	p := &Pair{}
	for _, x := range []struct {
		box  **scenario.Box
		id   *string
		name string
	}{{&p.A, &p.AID, "a"}, {&p.B, &p.BID, "b"}} {
		box, err := newBox(x.name)
		if err != nil {
			return nil, err
		}
		*x.box = box
		if *x.id, err = box.Init(ctx); err != nil {
			return nil, err
		}
		if err := box.Configure(profile, ""); err != nil {
			return nil, err
		}
	}
	if err := p.A.CreateNetwork(ctx, "bench"); err != nil {
		return nil, err
	}
	if err := p.A.HostUser(ctx, "alice"); err != nil {
		return nil, err
	}
	inv, err := p.A.Invite(ctx, "bob", p.A.GossipAddr())
	if err != nil {
		return nil, err
	}
	return p, p.B.Join(ctx, inv)
}

// Loopback makes boxes below dir for NewPair.
func Loopback(dir, bin string) func(name string) (*scenario.Box, error) {
	return func(name string) (*scenario.Box, error) { return scenario.NewBox(dir, name, bin, "127.0.0.1") }
}

// Profile lets both nodes write profiles when they stop, if
// OUTRIDER_BENCH_PROFILE names a folder for them; call it before Up.
func (p *Pair) Profile(tb testing.TB) {
	tb.Helper()
	to := os.Getenv("OUTRIDER_BENCH_PROFILE")
	if to == "" {
		return
	}
	bin := filepath.Join(filepath.Dir(p.A.Dir), "profiled")
	root, err := scenario.Root()
	if err != nil {
		tb.Fatal(err)
	}
	cmd := exec.Command("go", "build", "-o", bin, "./field-tests/bench/profiled")
	cmd.Dir, cmd.Env = root, append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		tb.Fatalf("build the profiled node: %v: %s", err, out)
	}
	p.A.Bin, p.B.Bin = bin, bin
	tb.Cleanup(func() { // before the folders go, which were registered earlier
		for _, b := range []*scenario.Box{p.A, p.B} {
			for _, name := range []string{"cpu", "heap"} {
				raw, err := os.ReadFile(filepath.Join(b.Dir, name+".pprof"))
				if err == nil {
					err = os.WriteFile(filepath.Join(to, b.Name+"-"+name+".pprof"), raw, 0o640)
				}
				if err != nil {
					tb.Error(err)
				}
			}
		}
	})
}

// Up starts both nodes and waits for their contact.
func (p *Pair) Up(ctx context.Context) error {
	for _, b := range []*scenario.Box{p.A, p.B} {
		if err := b.Up(ctx); err != nil {
			return err
		}
	}
	return p.Meet(ctx)
}

// Meet waits until both nodes count the other as a contact.
func (p *Pair) Meet(ctx context.Context) error {
	return p.await(ctx, "the nodes to meet", 1)
}

// Part waits until neither has a contact.
func (p *Pair) Part(ctx context.Context) error {
	return p.await(ctx, "the nodes to part", 0)
}

func (p *Pair) await(ctx context.Context, what string, contacts int) error {
	return scenario.Poll(ctx, what, func() (bool, error) {
		for _, b := range []*scenario.Box{p.A, p.B} {
			st, err := b.API.Status(ctx)
			if err != nil || st.Contacts != contacts {
				return false, err
			}
		}
		return true, nil
	})
}

// Stop ends both in good order.
func (p *Pair) Stop() error { return errors.Join(p.A.Stop(), p.B.Stop()) }

// Kill ends what still runs.
func (p *Pair) Kill() {
	p.A.Kill()
	p.B.Kill()
}

// Syncs is how often the store of a running node has synced the disk.
func Syncs(ctx context.Context, b *scenario.Box) (uint64, error) {
	var st struct {
		Store struct{ Syncs *uint64 }
	}
	if err := b.API.Do(ctx, "GET", "/v1/status", nil, &st); err != nil {
		return 0, err
	}
	if st.Store.Syncs == nil {
		return 0, fmt.Errorf("bench: %s does not tell how often its store syncs", b.Name)
	}
	return *st.Store.Syncs, nil
}

// PeakRSS and RSS are the resident memory of a process in MiB, its highest and
// its present; proc_pid_status(5).
func PeakRSS(pid int) (float64, error) { return statusMiB(pid, "VmHWM:") }
func RSS(pid int) (float64, error)     { return statusMiB(pid, "VmRSS:") }

func statusMiB(pid int, field string) (float64, error) {
	raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0, fmt.Errorf("bench: memory of the node: %w", err)
	}
	for line := range strings.Lines(string(raw)) {
		rest, ok := strings.CutPrefix(line, field)
		if !ok {
			continue
		}
		kib, err := strconv.ParseFloat(strings.TrimSuffix(strings.TrimSpace(rest), " kB"), 64)
		return kib / 1024, err
	}
	return 0, fmt.Errorf("bench: no %s of process %d on %s", field, pid, runtime.GOOS)
}

// ticksPerSecond is USER_HZ, which Linux fixes at 100 for user space.
const ticksPerSecond = 100

// CPU is the processor time a process has used; proc_pid_stat(5).
func CPU(pid int) (time.Duration, error) {
	raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, fmt.Errorf("bench: processor time of the node: %w", err)
	}
	// The name, in parentheses, may hold blanks: count from its end.
	f := strings.Fields(string(raw[bytes.LastIndexByte(raw, ')')+1:]))
	if len(f) < 13 {
		return 0, fmt.Errorf("bench: %d fields in the stat of process %d", len(f), pid)
	}
	user, err1 := strconv.ParseInt(f[11], 10, 64)
	system, err2 := strconv.ParseInt(f[12], 10, 64)
	return time.Duration(user+system) * time.Second / ticksPerSecond, errors.Join(err1, err2)
}
