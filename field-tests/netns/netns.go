// Package netns runs real programs in network namespaces joined by emulated
// links, for tests that must not know more of the network than a node does.
//
// A test package calls Main from TestMain: the test binary then runs in
// namespaces of its own (network, mounts, processes, and users when it is not
// root). Everything below lives in those, so that the kernel removes nodes,
// interfaces, mounts and processes when the test ends, in whatever way it
// ends: passed, failed, panicked or killed.
//
// Build makes one network namespace per node of a linkemu.Scenario and joins
// them; links are cut and healed by name, frames captured to pcap files,
// programs started in a node, killed and awaited.
//
// It needs Linux, /dev/net/tun, and root or unprivileged user namespaces.
package netns

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"runtime"
	"syscall"

	"golang.org/x/sys/unix"
)

// insideEnv marks the process that runs inside the namespaces.
const insideEnv = "OUTRIDER_NETNS_INSIDE"

// Main calls run inside fresh namespaces and returns its exit code:
//
//	func TestMain(m *testing.M) { os.Exit(netns.Main(m.Run)) }
func Main(run func() int) int {
	if os.Getenv(insideEnv) == "1" {
		if err := settle(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		return run()
	}
	code, err := reexec()
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return code
}

// reexec starts this program again inside new namespaces and waits for it.
func reexec() (int, error) {
	runtime.LockOSThread() // the child dies with this thread (Pdeathsig)
	defer runtime.UnlockOSThread()
	cmd := exec.Command("/proc/self/exe", os.Args[1:]...)
	cmd.Args[0] = os.Args[0]
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.Env = append(os.Environ(), insideEnv+"=1")
	attr := &syscall.SysProcAttr{
		Cloneflags: unix.CLONE_NEWNET | unix.CLONE_NEWNS | unix.CLONE_NEWPID,
		Pdeathsig:  syscall.SIGKILL,
	}
	if os.Geteuid() != 0 {
		attr.Cloneflags |= unix.CLONE_NEWUSER
		attr.UidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Geteuid(), Size: 1}}
		attr.GidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getegid(), Size: 1}}
	}
	cmd.SysProcAttr = attr
	if err := cmd.Start(); err != nil {
		return 1, fmt.Errorf("netns: make namespaces: %w (run as root, or allow unprivileged user namespaces)", err)
	}
	// What is meant for the test goes to it: SIGQUIT makes it print its stacks.
	sigs := make(chan os.Signal, 8)
	signal.Notify(sigs, syscall.SIGINT, syscall.SIGTERM, syscall.SIGQUIT, syscall.SIGHUP)
	go func() {
		for s := range sigs {
			_ = cmd.Process.Signal(s) // it may have ended
		}
	}()
	err := cmd.Wait()
	signal.Stop(sigs)
	close(sigs)
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		if exit.ExitCode() >= 0 {
			return exit.ExitCode(), nil
		}
		return 1, fmt.Errorf("netns: the test ended: %v", exit)
	}
	return 0, err
}

// settle makes the fresh namespaces livable: mounts do not leak out, /proc
// shows the processes there are.
func settle() error {
	if err := os.Unsetenv(insideEnv); err != nil {
		return fmt.Errorf("netns: %w", err)
	}
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("netns: make mounts private: %w", err)
	}
	if err := unix.Mount("proc", "/proc", "proc", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, ""); err != nil {
		return fmt.Errorf("netns: mount /proc: %w", err)
	}
	return loopbackUp()
}

// loopbackUp brings lo up in the calling thread's namespace.
func loopbackUp() error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("netns: loopback: %w", err)
	}
	defer unix.Close(fd)
	req, err := unix.NewIfreq("lo")
	if err == nil {
		req.SetUint16(unix.IFF_UP | unix.IFF_LOOPBACK | unix.IFF_RUNNING)
		err = unix.IoctlIfreq(fd, unix.SIOCSIFFLAGS, req)
	}
	if err != nil {
		return fmt.Errorf("netns: loopback: %w", err)
	}
	return nil
}

// A namespace is a network namespace held open by a file.
type namespace struct{ f *os.File }

// newNamespace makes a network namespace with loopback up and IPv6 off: its
// neighbour discovery would put frames on the air that no program sent.
func newNamespace() (*namespace, error) {
	var ns *namespace
	err := onOwnThread(func() error {
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			return fmt.Errorf("netns: new network namespace: %w", err)
		}
		f, err := os.Open("/proc/thread-self/ns/net")
		if err != nil {
			return fmt.Errorf("netns: %w", err)
		}
		ns = &namespace{f}
		for _, key := range []string{"all", "default"} {
			if err := sysctl("net/ipv6/conf/"+key+"/disable_ipv6", "1"); err != nil && !errors.Is(err, os.ErrNotExist) {
				return err
			}
		}
		return loopbackUp()
	})
	if err != nil && ns != nil {
		err = errors.Join(err, ns.f.Close())
	}
	return ns, err
}

func sysctl(key, value string) error {
	if err := os.WriteFile("/proc/sys/"+key, []byte(value), 0o644); err != nil {
		return fmt.Errorf("netns: sysctl: %w", err)
	}
	return nil
}

// do runs f on a thread inside the namespace. Sockets and processes made by f
// belong to it; f must not start goroutines that make some.
func (ns *namespace) do(f func() error) error {
	return onOwnThread(func() error {
		if err := unix.Setns(int(ns.f.Fd()), unix.CLONE_NEWNET); err != nil {
			return fmt.Errorf("netns: enter: %w", err)
		}
		return f()
	})
}

// onOwnThread runs f on a thread that ends with it, since a thread whose
// namespace was changed must not serve other goroutines.
func onOwnThread(f func() error) error {
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // never unlocked: the runtime ends the thread
		done <- f()
	}()
	return <-done
}
