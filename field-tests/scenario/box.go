// Package scenario drives real nodes: it starts the outrider binary, speaks
// to it through its command line and its socket, cuts and kills, and waits for
// what must happen. The demonstration (field-tests/demo) and the scenario tests
// stand on it. It knows the product from outside only.
package scenario

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"
)

// A Box is one node: a folder, addresses, and at times a process.
type Box struct {
	Name   string
	Dir    string
	Bin    string   // the outrider binary
	Wrap   []string // command put before Bin, such as ip netns exec or qemu
	IP     string   // where it listens
	Gossip int      // ports; all other listeners hang on these
	Mesh   int
	Page   int
	// Launch starts the node's process; nil is cmd.Start.
	Launch func(cmd *exec.Cmd) error

	API *Client

	mu     sync.Mutex
	cmd    *exec.Cmd
	exited chan struct{}
	err    error
}

// NewBox describes a node in a new folder below parent, with ports on ip that
// are free now.
func NewBox(parent, name, bin, ip string) (*Box, error) {
	ports, err := FreePorts(ip, 3)
	if err != nil {
		return nil, err
	}
	b := NewBoxAlone(parent, name, bin, ip)
	b.Gossip, b.Mesh, b.Page = ports[0], ports[1], ports[2]
	return b, nil
}

// NewBoxAlone describes a node in a new folder below parent that has ip for
// itself and so uses the default ports.
func NewBoxAlone(parent, name, bin, ip string) *Box {
	b := &Box{Name: name, Dir: filepath.Join(parent, name), Bin: bin, IP: ip, Gossip: 7410, Mesh: 7411, Page: 7480}
	b.API = NewClient(b.Socket())
	return b
}

// Socket is the node's unix socket.
func (b *Box) Socket() string { return filepath.Join(b.Dir, "outrider.sock") }

// GossipAddr is where others find the node.
func (b *Box) GossipAddr() string { return fmt.Sprintf("%s:%d", b.IP, b.Gossip) }

// PageURL is the node's page on its own machine.
func (b *Box) PageURL() string { return fmt.Sprintf("http://127.0.0.1:%d/", b.Page) }

// Configure writes the node's settings. extra is appended as it is.
func (b *Box) Configure(profile, extra string) error {
	toml := fmt.Sprintf("profile = %q\n\n[gossip]\nlisten = \"%s:%d\"\n\n[mesh]\nlisten = [\"%s:%d\"]\n\n[page]\nlisten = [\"127.0.0.1:%d\"]\n%s",
		profile, b.IP, b.Gossip, b.IP, b.Mesh, b.Page, extra)
	return os.WriteFile(filepath.Join(b.Dir, "outrider.toml"), []byte(toml), 0o640)
}

// Append adds to the node's settings; a node reads them when it comes up.
func (b *Box) Append(toml string) error {
	f, err := os.OpenFile(filepath.Join(b.Dir, "outrider.toml"), os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	_, err = f.WriteString("\n" + toml)
	return errors.Join(err, f.Close())
}

// CLI runs one outrider command on the node's folder and returns what it
// printed. A failure carries the command's own message.
func (b *Box) CLI(ctx context.Context, stdin string, args ...string) (string, error) {
	cmd := b.command(ctx, args...)
	cmd.Stdin = strings.NewReader(stdin)
	var out, errOut bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errOut
	if err := cmd.Run(); err != nil {
		return out.String(), fmt.Errorf("scenario: %s: outrider %s: %w: %s", b.Name, strings.Join(args, " "), err, strings.TrimSpace(errOut.String()))
	}
	return out.String(), nil
}

func (b *Box) command(ctx context.Context, args ...string) *exec.Cmd {
	argv := append(append([]string{}, b.Wrap...), b.Bin, "--dir", b.Dir)
	argv = append(argv, args...)
	return exec.CommandContext(ctx, argv[0], argv[1:]...)
}

// Up starts the node and waits until its socket answers.
func (b *Box) Up(ctx context.Context) error {
	log, err := os.OpenFile(b.Log(), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o640)
	if err != nil {
		return err
	}
	cmd := b.command(context.WithoutCancel(ctx), "up")
	cmd.Stdout, cmd.Stderr = log, log
	// A node must not outlive whoever started it, nor hear its Ctrl-C.
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Setpgid: true}
	launch := b.Launch
	if launch == nil {
		launch = (*exec.Cmd).Start
	}
	if err := launch(cmd); err != nil {
		log.Close()
		return fmt.Errorf("scenario: start %s: %w", b.Name, err)
	}
	exited := make(chan struct{})
	b.mu.Lock()
	b.cmd, b.exited = cmd, exited
	b.mu.Unlock()
	go func() {
		err := cmd.Wait()
		log.Close()
		b.mu.Lock()
		b.err = err
		b.mu.Unlock()
		close(exited)
	}()
	return b.awaitUp(ctx, exited)
}

func (b *Box) awaitUp(ctx context.Context, exited <-chan struct{}) error {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Minute)
	defer cancel()
	return Poll(ctx, b.Name+" to come up", func() (bool, error) {
		select {
		case <-exited:
			cancel()
			return false, fmt.Errorf("the process ended: %s", b.Tail())
		default:
		}
		_, err := b.API.Status(ctx)
		return err == nil, err
	})
}

// Log is the file that takes the node's output.
func (b *Box) Log() string { return b.Dir + ".log" }

// Tail is the end of what the node wrote.
func (b *Box) Tail() string {
	raw, _ := os.ReadFile(b.Log())
	return strings.TrimSpace(string(raw[max(0, len(raw)-2000):]))
}

// Pid returns the process, 0 when there is none.
func (b *Box) Pid() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.cmd == nil {
		return 0
	}
	return b.cmd.Process.Pid
}

// Exited returns a channel that is closed when the process that runs now has
// ended.
func (b *Box) Exited() <-chan struct{} {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.exited
}

// Kill ends the process at once, as a power cut ends it for its memory.
func (b *Box) Kill() { _ = b.end(syscall.SIGKILL, time.Minute) }

// Stop ends the node in good order and fails if it does not end, or ends with
// an error.
func (b *Box) Stop() error { return b.end(syscall.SIGTERM, time.Minute) }

func (b *Box) end(sig syscall.Signal, limit time.Duration) error {
	b.mu.Lock()
	cmd, exited := b.cmd, b.exited
	b.cmd = nil
	b.mu.Unlock()
	if cmd == nil {
		return nil
	}
	// The group, because a wrapper may stand between us and the node.
	_ = syscall.Kill(-cmd.Process.Pid, sig)
	select {
	case <-exited:
	case <-time.After(limit):
		_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
		<-exited
		return fmt.Errorf("scenario: %s did not end within %v of %v", b.Name, limit, sig)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.err
}
