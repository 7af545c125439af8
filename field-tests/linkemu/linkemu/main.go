// Linkemu joins network namespaces by emulated radio links. See ../README.md.
package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"outrider/field-tests/linkemu"
)

// stateDir holds, for each run, the names of its namespaces, so that those of
// a run killed with SIGKILL can be found and removed.
const stateDir = "/run/linkemu"

const usage = `usage: linkemu run [-control SOCK] [-events FILE.csv] SCENARIO.json [-- DRIVER ARGS...]
       linkemu check SCENARIO.json
       linkemu ctl SOCK JSON...
       linkemu clean`

func main() {
	if err := realMain(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "linkemu:", err)
		os.Exit(1)
	}
}

func realMain(args []string) error {
	switch {
	case len(args) > 0 && args[0] == "run":
		return run(args[1:])
	case len(args) == 2 && args[0] == "check":
		_, err := linkemu.Load(args[1])
		return err
	case len(args) > 2 && args[0] == "ctl":
		return ctl(args[1], args[2:])
	case len(args) == 1 && args[0] == "clean":
		return clean()
	}
	return errors.New(usage)
}

func run(args []string) error {
	fs := flag.NewFlagSet("run", flag.ContinueOnError)
	sock := fs.String("control", "", "Unix socket for live changes and counters")
	schedule := fs.String("events", "", "CSV schedule, added to the scenario's events")
	if err := fs.Parse(args); err != nil {
		return err
	}
	if fs.NArg() < 1 {
		return errors.New("run: which scenario?")
	}
	s, err := linkemu.Load(fs.Arg(0))
	if err != nil {
		return err
	}
	if *schedule != "" {
		ev, err := linkemu.LoadCSV(*schedule)
		if err != nil {
			return err
		}
		s.Events = append(s.Events, ev...)
		if err := s.Check(); err != nil {
			return err
		}
	}
	driver := fs.Args()[1:]
	if len(driver) > 0 && driver[0] == "--" {
		driver = driver[1:]
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	defer stop()
	if s.Duration > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, time.Duration(s.Duration*float64(time.Second)))
		defer cancel()
	}
	return emulate(ctx, s, *sock, driver)
}

// emulate builds the scenario, runs it until ctx or the driver ends, and
// takes everything down again.
func emulate(ctx context.Context, s *linkemu.Scenario, sock string, driver []string) (err error) {
	r := &runner{s: s}
	if r.ether, err = linkemu.NewEther(s); err != nil {
		return err
	}
	defer r.removeNamespaces()
	if err := r.build(); err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	ended := make(chan error, 1)
	go func() { ended <- r.ether.Run(ctx) }()
	defer func() {
		cancel()
		err = errors.Join(err, <-ended)
	}()
	if sock != "" {
		l, err := r.control(sock)
		if err != nil {
			return err
		}
		defer l.Close()
	}
	fmt.Println(`{"ready":true}`)
	defer r.stopPrograms()
	r.startPrograms(ctx)
	driverErr := r.drive(ctx, driver, sock)
	report, err := json.Marshal(r.ether.Report())
	if err != nil {
		return err
	}
	fmt.Println(string(report))
	return driverErr
}

// drive runs the driver, or waits for ctx when there is none.
func (r *runner) drive(ctx context.Context, driver []string, sock string) error {
	if len(driver) == 0 {
		<-ctx.Done()
		return nil
	}
	c := exec.CommandContext(ctx, driver[0], driver[1:]...)
	c.Stdin, c.Stdout, c.Stderr = os.Stdin, os.Stderr, os.Stderr
	c.Env = append(os.Environ(), "LINKEMU_PREFIX="+r.s.Prefix, "LINKEMU_CONTROL="+sock)
	c.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	c.Cancel = func() error { return syscall.Kill(-c.Process.Pid, syscall.SIGTERM) }
	c.WaitDelay = 3 * time.Second
	if err := c.Run(); err != nil && ctx.Err() == nil {
		return fmt.Errorf("driver: %w", err)
	}
	return nil
}

type runner struct {
	s     *linkemu.Scenario
	ether *linkemu.Ether
	names []string // of the namespaces made
	state string

	mu   sync.Mutex
	kids []*exec.Cmd
	done sync.WaitGroup
}

func ip(args ...string) error {
	out, err := exec.Command("ip", args...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("ip %s: %v: %s", strings.Join(args, " "), err, strings.TrimSpace(string(out)))
	}
	return nil
}

// build makes the namespaces and puts a TAP interface for every net in them.
func (r *runner) build() error {
	if err := os.MkdirAll(stateDir, 0o700); err != nil {
		return err
	}
	for _, n := range r.s.Nodes {
		if _, err := os.Stat("/run/netns/" + r.s.Prefix + n); err == nil {
			return fmt.Errorf("namespace %s%s is there already (a run in progress? else: linkemu clean)", r.s.Prefix, n)
		}
	}
	r.state = filepath.Join(stateDir, strconv.Itoa(os.Getpid()))
	for _, n := range r.s.Nodes {
		if err := r.addNamespace(n); err != nil {
			return err
		}
	}
	for i, f := range r.ether.Interfaces() {
		tmp := fmt.Sprintf("le%x.%d", os.Getpid()&0xffffff, i)
		tap, err := linkemu.OpenTAP(tmp)
		if err != nil {
			return err
		}
		if err := r.ether.Attach(f.Net, f.Node, tap); err != nil {
			return errors.Join(err, tap.Close())
		}
		ns := r.s.Prefix + f.Node
		for _, c := range [][]string{
			{"link", "set", tmp, "netns", ns},
			{"-n", ns, "link", "set", tmp, "name", f.Net},
			{"-n", ns, "link", "set", f.Net, "address", net.HardwareAddr(f.MAC[:]).String(), "mtu", strconv.Itoa(f.MTU)},
			{"-n", ns, "addr", "add", f.Addr.String(), "broadcast", "+", "dev", f.Net},
			{"-n", ns, "link", "set", f.Net, "up"},
		} {
			if err := ip(c...); err != nil {
				return err
			}
		}
	}
	return nil
}

func (r *runner) addNamespace(node string) error {
	ns := r.s.Prefix + node
	r.names = append(r.names, ns)
	if err := os.WriteFile(r.state, []byte(strings.Join(r.names, "\n")), 0o600); err != nil {
		return err
	}
	if err := ip("netns", "add", ns); err != nil {
		return err
	}
	sys := []string{"netns", "exec", ns, "sysctl", "-qw", "net.ipv6.conf.all.disable_ipv6=1", "net.ipv6.conf.default.disable_ipv6=1"}
	for _, f := range r.s.Forward {
		if f == node {
			sys = append(sys, "net.ipv4.ip_forward=1", "net.ipv4.conf.all.send_redirects=0", "net.ipv4.conf.default.send_redirects=0")
		}
	}
	if err := ip(sys...); err != nil {
		return err
	}
	return ip("-n", ns, "link", "set", "lo", "up")
}

func (r *runner) removeNamespaces() {
	for _, ns := range r.names {
		if err := ip("netns", "del", ns); err != nil {
			fmt.Fprintln(os.Stderr, "linkemu:", err)
		}
	}
	if r.state != "" {
		os.Remove(r.state)
	}
}

// startPrograms starts the scenario's programs at their times.
func (r *runner) startPrograms(ctx context.Context) {
	start := time.Now()
	for _, p := range r.s.Run {
		go func() {
			select {
			case <-time.After(time.Until(start.Add(time.Duration(p.At * float64(time.Second))))):
			case <-ctx.Done():
				return
			}
			if err := r.spawn(p); err != nil {
				fmt.Fprintln(os.Stderr, "linkemu:", err)
			}
		}()
	}
}

func (r *runner) spawn(p linkemu.RunCmd) error {
	var out io.Writer = os.Stderr
	if p.Out != "" {
		f, err := os.Create(p.Out)
		if err != nil {
			return err
		}
		defer f.Close()
		out = f
	}
	c := exec.Command("ip", append([]string{"netns", "exec", r.s.Prefix + p.Node}, p.Cmd...)...)
	c.Stdout, c.Stderr = out, out
	c.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	r.mu.Lock()
	defer r.mu.Unlock()
	if err := c.Start(); err != nil {
		return err
	}
	r.kids = append(r.kids, c)
	r.done.Go(func() { _ = c.Wait() }) // how it ended is in its own output
	return nil
}

// stopPrograms ends what spawn started: politely, then not.
func (r *runner) stopPrograms() {
	r.mu.Lock()
	kids := r.kids
	r.mu.Unlock()
	ended := make(chan struct{})
	go func() { r.done.Wait(); close(ended) }()
	for _, sig := range []syscall.Signal{syscall.SIGTERM, syscall.SIGKILL} {
		for _, k := range kids {
			_ = syscall.Kill(-k.Process.Pid, sig) // gone already is what we want
		}
		select {
		case <-ended:
			return
		case <-time.After(3 * time.Second):
		}
	}
}

// control takes JSON lines on a Unix socket, a change (as in events) or
// {"counters":true}, and answers each with one JSON line.
func (r *runner) control(path string) (net.Listener, error) {
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	l, err := net.Listen("unix", path)
	if err != nil {
		return nil, err
	}
	if err := os.Chmod(path, 0o600); err != nil {
		return nil, errors.Join(err, l.Close())
	}
	start := time.Now()
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return // closed
			}
			go r.answer(c, start)
		}
	}()
	return l, nil
}

func (r *runner) answer(c net.Conn, start time.Time) {
	defer c.Close()
	sc := bufio.NewScanner(c)
	enc := json.NewEncoder(c)
	for sc.Scan() {
		var req struct {
			linkemu.Change
			Counters bool `json:"counters"`
		}
		err := json.Unmarshal(sc.Bytes(), &req)
		var out any
		switch {
		case err == nil && req.Counters:
			out = r.ether.Report()
		case err == nil:
			if err = r.ether.Apply(req.Change); err == nil {
				out = map[string]any{"ok": true, "at": time.Since(start).Seconds()}
			}
		}
		if err != nil {
			out = map[string]string{"error": err.Error()}
		}
		if enc.Encode(out) != nil {
			return
		}
	}
}

// clean removes namespaces of runs that died without cleaning up.
func clean() error {
	files, err := filepath.Glob(stateDir + "/*")
	if err != nil {
		return err
	}
	for _, f := range files {
		pid, err := strconv.Atoi(filepath.Base(f))
		if err != nil {
			continue
		}
		if exe, err := os.Readlink(fmt.Sprintf("/proc/%d/exe", pid)); err == nil && strings.Contains(filepath.Base(exe), "linkemu") {
			continue // still running
		}
		b, err := os.ReadFile(f)
		if err != nil {
			return err
		}
		for _, ns := range strings.Fields(string(b)) {
			if err := ip("netns", "del", ns); err == nil {
				fmt.Println("removed", ns)
			}
		}
		if err := os.Remove(f); err != nil {
			return err
		}
	}
	return nil
}

func ctl(path string, lines []string) error {
	c, err := net.Dial("unix", path)
	if err != nil {
		return err
	}
	defer c.Close()
	sc := bufio.NewScanner(c)
	sc.Buffer(nil, 16<<20)
	for _, l := range lines {
		if _, err := fmt.Fprintln(c, strings.ReplaceAll(l, "\n", " ")); err != nil {
			return err
		}
		if !sc.Scan() {
			return errors.New("no answer")
		}
		fmt.Println(sc.Text())
	}
	return nil
}
