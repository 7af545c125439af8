package coresync

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

// What a development core's desk lets its streams take.
const (
	devBoxBytes   = 10 << 30
	devFilesBytes = 100 << 30
)

const (
	devRestart = time.Second      // before a server that died is started again
	devStop    = 10 * time.Second // for a server to end when told to
	devUp      = 30 * time.Second // for all of them to listen
)

// ErrNoServer: there is no nats-server to start.
var ErrNoServer = errors.New("coresync: there is no nats-server on the PATH nor beside this program; " +
	"build it with `make bin/nats-server`, install Debian's package nats-server (2.10 or later), or name it with --nats-server")

// FindServer looks for the server program: the one named, on the PATH, beside
// this program.
func FindServer(named string) (string, error) {
	if named != "" {
		path, err := exec.LookPath(named)
		if err != nil {
			return "", fmt.Errorf("coresync: %s cannot be run: %v", named, err)
		}
		return filepath.Abs(path)
	}
	if path, err := exec.LookPath("nats-server"); err == nil {
		return filepath.Abs(path)
	}
	if self, err := os.Executable(); err == nil {
		if path, err := exec.LookPath(filepath.Join(filepath.Dir(self), "nats-server")); err == nil {
			return path, nil
		}
	}
	return "", ErrNoServer
}

// Run starts three servers and the desk, calls ready when nodes are served,
// and ends them all with ctx. A server that dies is started again.
func (d *Dev) Run(ctx context.Context, server string, log *slog.Logger, ready func()) error {
	if err := d.alone(); err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	var servers sync.WaitGroup
	for i := range devServers {
		servers.Go(func() { d.keep(ctx, server, i, log) })
	}
	defer servers.Wait()
	defer cancel()
	if err := d.await(ctx); err != nil || ctx.Err() != nil {
		return err
	}
	desk, err := d.desk(log)
	if err != nil {
		return err
	}
	return desk.Run(ctx, ready)
}

func (d *Dev) desk(log *slog.Logger) (*Desk, error) {
	c, err := d.nodeConfig("desk")
	if err != nil {
		return nil, err
	}
	return NewDesk(DeskConfig{Config: c, Replicas: devServers, BoxBytes: devBoxBytes, FilesBytes: devFilesBytes}, log)
}

// alone fails while this folder's servers run already.
func (d *Dev) alone() error {
	for i := range devServers {
		if pid, ok := d.running(i); ok {
			return fmt.Errorf("coresync: the core in %s runs already (process %d)", d.dir, pid)
		}
	}
	return nil
}

// running is the process of a server of this folder, told by the file it was
// started with.
func (d *Dev) running(i int) (pid int, ok bool) {
	raw, err := os.ReadFile(d.pidFile(i))
	if err != nil {
		return 0, false
	}
	if pid, err = strconv.Atoi(strings.TrimSpace(string(raw))); err != nil || pid <= 1 {
		return 0, false
	}
	args, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
	return pid, err == nil && bytes.Contains(args, []byte(d.confFile(i)))
}

// reload tells the servers that run of new nodes.
func (d *Dev) reload() error {
	for i := range devServers {
		if pid, ok := d.running(i); ok {
			if err := syscall.Kill(pid, syscall.SIGHUP); err != nil {
				return fmt.Errorf("coresync: tell server %d: %w", i+1, err)
			}
		}
	}
	return nil
}

// keep runs one server again and again.
func (d *Dev) keep(ctx context.Context, server string, i int, log *slog.Logger) {
	// The servers end with the thread that started them, should this program
	// be killed.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	for ctx.Err() == nil {
		err := d.serve(ctx, server, i)
		if ctx.Err() != nil {
			return
		}
		log.Warn("a server ended; it is started again", "server", i+1, "err", err)
		pause(ctx, context.Background(), devRestart)
	}
}

func (d *Dev) serve(ctx context.Context, server string, i int) error {
	out, err := os.OpenFile(d.path(fmt.Sprintf("core-n%d.log", i+1)), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer out.Close()
	cmd := exec.CommandContext(ctx, server, "-c", d.confFile(i))
	cmd.Stdout, cmd.Stderr = out, out
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = devStop
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGTERM, Setpgid: true}
	return cmd.Run()
}

// await waits until all three listen.
func (d *Dev) await(ctx context.Context) error {
	ctx, cancel := context.WithTimeoutCause(ctx, devUp, errors.New("coresync: the servers did not start; see core-n1.log in "+d.dir))
	defer cancel()
	for _, addr := range d.Servers() {
		for {
			var dialer net.Dialer
			c, err := dialer.DialContext(ctx, "tcp", addr)
			if err == nil {
				c.Close()
				break
			}
			if !pause(ctx, context.Background(), 20*time.Millisecond) {
				if errors.Is(ctx.Err(), context.DeadlineExceeded) {
					return context.Cause(ctx)
				}
				return nil
			}
		}
	}
	return nil
}

// Count tells how many messages the core has on subjects, which may be a
// pattern: for tests, and for whoever tries the core out.
func (d *Dev) Count(ctx context.Context, subjects string) (int, error) {
	c, err := d.nodeConfig("desk")
	if err != nil {
		return 0, err
	}
	desk, err := NewDesk(DeskConfig{Config: c}, slog.New(slog.DiscardHandler))
	if err != nil {
		return 0, err
	}
	return desk.count(ctx, subjects)
}
