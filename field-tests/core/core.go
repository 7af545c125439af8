package core

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// A Core is `outrider core dev` as a process of its own.
type Core struct {
	Bin, Dir string
	Servers  []string // where nodes reach them

	cmd    *exec.Cmd
	exited chan struct{}
	err    error
}

// Start runs a development core in dir, on ports that are free, and returns
// when nodes are served.
func Start(ctx context.Context, bin, dir string) (*Core, error) {
	server, err := Server()
	if err != nil {
		return nil, err
	}
	c := &Core{Bin: bin, Dir: dir, exited: make(chan struct{})}
	log, err := os.OpenFile(dir+".log", os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, err
	}
	c.cmd = exec.Command(bin, "core", "dev", "--dir", dir, "--nats-server", server, "--port", "0", "--json")
	c.cmd.Stderr = log
	c.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Setpgid: true}
	out, err := c.cmd.StdoutPipe()
	if err != nil {
		return nil, errors.Join(err, log.Close())
	}
	if err := c.cmd.Start(); err != nil {
		return nil, errors.Join(err, log.Close())
	}
	line := make(chan string, 1)
	go func() {
		defer close(c.exited)
		r := bufio.NewReader(out)
		s, _ := r.ReadString('\n')
		line <- s
		_, _ = r.Discard(1 << 20) // nothing more is said
		c.err = errors.Join(c.cmd.Wait(), log.Close())
	}()
	select {
	case s := <-line:
		var ready struct {
			Ready   bool
			Servers []string
		}
		if err := json.Unmarshal([]byte(s), &ready); err != nil || !ready.Ready {
			c.Kill()
			raw, _ := os.ReadFile(dir + ".log")
			return nil, fmt.Errorf("core dev did not start: %q %s", s, raw)
		}
		c.Servers = ready.Servers
		return c, nil
	case <-ctx.Done():
		c.Kill()
		return nil, ctx.Err()
	}
}

// Stop ends it in good order.
func (c *Core) Stop() error {
	_ = c.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-c.exited:
		return c.err
	case <-time.After(time.Minute):
		c.Kill()
		return errors.New("core dev did not end")
	}
}

// Kill ends it at once.
func (c *Core) Kill() {
	_ = c.cmd.Process.Kill()
	<-c.exited
}

// Pid is the process of one of its servers, 1 to 3.
func (c *Core) Pid(server int) (int, error) {
	raw, err := os.ReadFile(filepath.Join(c.Dir, fmt.Sprintf("core-n%d.pid", server)))
	if err != nil {
		return 0, err
	}
	return strconv.Atoi(strings.TrimSpace(string(raw)))
}

// Settings are a node's, as `outrider core dev add` tells them.
type Settings struct {
	Servers  []string `json:"servers"`
	SeedFile string   `json:"seed_file"`
	CertFile string   `json:"cert_file"`
	KeyFile  string   `json:"key_file"`
	CAFile   string   `json:"ca_file"`
	Pins     []string `json:"pins"`
}

// Add makes a node's credentials.
func (c *Core) Add(ctx context.Context, name string) (s Settings, err error) {
	out, err := exec.CommandContext(ctx, c.Bin, "core", "dev", "add", name, "--dir", c.Dir, "--json").Output()
	if err != nil {
		return s, fmt.Errorf("core dev add %s: %w", name, err)
	}
	return s, json.Unmarshal(out, &s)
}

// TOML is the table for the node's outrider.toml.
func (s Settings) TOML() string {
	quoted := func(list []string) string {
		out := make([]string, len(list))
		for i, v := range list {
			out[i] = strconv.Quote(v)
		}
		return strings.Join(out, ", ")
	}
	return fmt.Sprintf("\n[core]\nservers = [%s]\nseed_file = %q\ncert_file = %q\nkey_file = %q\nca_file = %q\npins = [%s]\n",
		quoted(s.Servers), s.SeedFile, s.CertFile, s.KeyFile, s.CAFile, quoted(s.Pins))
}

// A Backhaul is a way to all servers of a core that can be cut as a radio
// fade cuts it: nothing arrives any more, and nobody is told.
type Backhaul struct {
	Addrs []string // instead of the servers' own

	listeners []net.Listener
	gate      gate
}

// NewBackhaul makes one for each server address.
func NewBackhaul(servers []string) (*Backhaul, error) {
	b := &Backhaul{}
	b.gate.init()
	for _, to := range servers {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return nil, errors.Join(err, b.Close())
		}
		b.listeners, b.Addrs = append(b.listeners, l), append(b.Addrs, l.Addr().String())
		go b.serve(l, to)
	}
	return b, nil
}

// Cut and Restore take the way away and give it back. What was under way waits,
// as in the buffers of a TCP stack, if its connection still exists then.
func (b *Backhaul) Cut()     { b.gate.set(false) }
func (b *Backhaul) Restore() { b.gate.set(true) }

// Limit lets so many bytes up from now on, and then cuts.
func (b *Backhaul) Limit(bytes int64) { b.gate.limit(bytes) }

// IsCut says whether it is cut now.
func (b *Backhaul) IsCut() bool { return b.gate.shut() }

// Close ends it, with all connections.
func (b *Backhaul) Close() error {
	var err error
	for _, l := range b.listeners {
		err = errors.Join(err, l.Close())
	}
	b.gate.close()
	return err
}

func (b *Backhaul) serve(l net.Listener, to string) {
	for {
		c, err := l.Accept()
		if err != nil {
			return
		}
		go b.relay(c, to)
	}
}

func (b *Backhaul) relay(down net.Conn, to string) {
	defer down.Close()
	if !b.gate.pass(0) {
		return
	}
	up, err := net.Dial("tcp", to)
	if err != nil {
		return
	}
	defer up.Close()
	done := make(chan struct{}, 2)
	copyGated := func(dst, src net.Conn, count bool) {
		defer func() { done <- struct{}{} }()
		buf := make([]byte, 16<<10)
		for {
			n, err := src.Read(buf)
			bytes := int64(0)
			if count {
				bytes = int64(n)
			}
			if n > 0 && !b.gate.pass(bytes) {
				return
			}
			if _, werr := dst.Write(buf[:n]); err != nil || werr != nil {
				return
			}
		}
	}
	go copyGated(up, down, true)
	go copyGated(down, up, false)
	<-done
}
