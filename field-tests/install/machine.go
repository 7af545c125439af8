package install

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"outrider/field-tests/scenario"
)

// A Machine is a computer with Debian on its disk.
type Machine struct {
	Name string
	// Launch starts the machine's first process; nil gives it a network of its
	// own with nothing in it.
	Launch func(*exec.Cmd) error

	lower, dir string // what all machines share, what this one has written
	cgroup     string
	cmd        *exec.Cmd
	exited     chan struct{}
}

// console is what came out of the machine before it had a journal.
func (m *Machine) console() string {
	raw, _ := os.ReadFile(filepath.Join(m.dir, "console"))
	return strings.TrimSpace(string(raw[max(0, len(raw)-4000):]))
}

// New describes a machine with a fresh disk below dir.
func New(ctx context.Context, dir, name string) (*Machine, error) {
	lower, err := Root(ctx)
	if err != nil {
		return nil, err
	}
	m := &Machine{Name: name, lower: lower, dir: filepath.Join(dir, name)}
	for _, d := range []string{"upper", "work", "root"} {
		if err := os.MkdirAll(filepath.Join(m.dir, d), 0o755); err != nil {
			return nil, fmt.Errorf("install: %w", err)
		}
	}
	return m, nil
}

// boot makes the root file system of the machine and becomes its init. The
// first part enters the machine's cgroup, the second sees it as the root one.
const boot = `set -e
echo 0 >"$CGROUP/cgroup.procs"
exec unshare --cgroup sh -e -c '
mount --make-rprivate /
mount -t overlay overlay -o "lowerdir=$LOWER,upperdir=$DIR/upper,workdir=$DIR/work" "$DIR/root"
cd "$DIR/root"
mount -t proc proc proc
mount -t sysfs sysfs sys
mount -t cgroup2 cgroup2 sys/fs/cgroup
mount -t tmpfs -o mode=755 tmpfs dev
mkdir dev/pts dev/shm
for d in null zero full random urandom tty; do touch dev/$d; mount --bind /dev/$d dev/$d; done
mount -t devpts -o newinstance,ptmxmode=0666 devpts dev/pts
ln -s pts/ptmx dev/ptmx
mount -t tmpfs -o mode=755 tmpfs run
mount -t tmpfs tmpfs tmp
hostname "$NAME"
mkdir -p .old
pivot_root . .old
umount -l /.old
exec env -i container=outrider PATH=/usr/sbin:/usr/bin:/sbin:/bin /usr/lib/systemd/systemd --show-status=0
'`

// Boot switches the machine on and waits until it has started its services.
func (m *Machine) Boot(ctx context.Context) error {
	if err := m.makeCgroup(); err != nil {
		return err
	}
	screen, err := os.Create(filepath.Join(m.dir, "console"))
	if err != nil {
		return err
	}
	defer screen.Close()
	cmd := exec.Command("sh", "-c", boot)
	cmd.Env = append(os.Environ(), "CGROUP="+m.cgroup, "LOWER="+m.lower, "DIR="+m.dir, "NAME="+m.Name)
	cmd.Stdout, cmd.Stderr = screen, screen
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWPID | unix.CLONE_NEWNS | unix.CLONE_NEWIPC | unix.CLONE_NEWUTS}
	launch := m.Launch
	if launch == nil {
		cmd.SysProcAttr.Cloneflags |= unix.CLONE_NEWNET
		launch = (*exec.Cmd).Start
	}
	if err := launch(cmd); err != nil {
		return fmt.Errorf("install: boot %s: %w", m.Name, err)
	}
	exited := make(chan struct{})
	m.cmd, m.exited = cmd, exited
	go func() {
		_ = cmd.Wait() // it ends by a signal
		close(exited)
	}()
	return scenario.Poll(ctx, m.Name+" to boot", func() (bool, error) {
		select {
		case <-exited:
			return false, fmt.Errorf("its init ended: %s", m.console())
		default:
		}
		_, err := m.Run(ctx, "", "systemctl", "is-active", "--quiet", "multi-user.target")
		return err == nil, err
	})
}

// makeCgroup makes an empty cgroup in the unified hierarchy.
func (m *Machine) makeCgroup() error {
	mounts, err := os.ReadFile("/proc/self/mounts")
	if err != nil {
		return err
	}
	for _, line := range strings.Split(string(mounts), "\n") {
		if f := strings.Fields(line); len(f) > 2 && f[2] == "cgroup2" {
			m.cgroup = filepath.Join(f[1], fmt.Sprintf("outrider-%d-%s", time.Now().UnixNano(), m.Name))
			if err := os.Mkdir(m.cgroup, 0o755); err != nil {
				return fmt.Errorf("install: a machine needs a cgroup of its own: %w", err)
			}
			return nil
		}
	}
	return errors.New("install: no cgroup2 is mounted here, and systemd needs it: mount -t cgroup2 none /sys/fs/cgroup")
}

// PowerCut ends everything that runs on the machine at once. What is on its
// disk stays.
func (m *Machine) PowerCut() error {
	if m.cmd == nil {
		return nil
	}
	err := m.cmd.Process.Kill() // the first process takes all others with it
	<-m.exited
	m.cmd = nil
	return errors.Join(err, removeCgroups(m.cgroup))
}

// removeCgroups removes a tree of cgroups that nobody is in any more, the
// innermost first.
func removeCgroups(top string) error {
	var dirs []string
	err := filepath.WalkDir(top, func(path string, d fs.DirEntry, err error) error {
		if err == nil && d.IsDir() {
			dirs = append(dirs, path)
		}
		return err
	})
	slices.Reverse(dirs)
	for _, d := range dirs {
		err = errors.Join(err, os.Remove(d))
	}
	return err
}

// Run runs a command on the machine as root and returns what it printed; an
// error carries that too.
func (m *Machine) Run(ctx context.Context, stdin string, argv ...string) (string, error) {
	cmd := m.Command(ctx, argv...)
	cmd.Stdin = strings.NewReader(stdin)
	out, err := cmd.CombinedOutput()
	if err != nil {
		err = fmt.Errorf("install: %s: %s: %w: %s", m.Name, strings.Join(argv, " "), err, bytes.TrimSpace(out))
	}
	return string(out), err
}

// Command is a command that runs on the machine as root, as from a console.
func (m *Machine) Command(ctx context.Context, argv ...string) *exec.Cmd {
	args := []string{"--target", fmt.Sprint(m.cmd.Process.Pid), "--mount", "--uts", "--ipc", "--net", "--pid", "--root", "--wd", "--",
		"env", "-i", "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/root", "LANG=C.UTF-8", "TERM=xterm", "DEBIAN_FRONTEND=noninteractive"}
	return exec.CommandContext(ctx, "nsenter", append(args, argv...)...)
}

// Put copies a file onto the machine, into /root.
func (m *Machine) Put(ctx context.Context, path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	to := "/root/" + filepath.Base(path)
	cmd := m.Command(ctx, "sh", "-c", `cat >"$0"`, to)
	cmd.Stdin = f
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("install: %s: put %s: %w: %s", m.Name, to, err, out)
	}
	return to, nil
}
