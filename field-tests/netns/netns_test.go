package netns

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"outrider/field-tests/linkemu"
	"outrider/field-tests/pcap"
)

// helperEnv makes the test binary a small program inside a node.
const helperEnv = "NETNS_TEST_HELPER"

func TestMain(m *testing.M) {
	if arg := os.Getenv(helperEnv); arg != "" {
		os.Exit(helper(arg))
	}
	os.Exit(Main(func() int {
		code := m.Run()
		if err := goleak.Find(); code == 0 && err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		return code
	}))
}

// helper echoes on a TCP port, says so on standard output, and starts a child
// when asked to.
func helper(arg string) int {
	if arg == "sleep" {
		select {}
	}
	if arg == "crash" { // builds a world and dies without a word
		if _, err := Build(twoNodes()); err != nil {
			fmt.Println(err)
			return 1
		}
		_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
	}
	l, err := net.Listen("tcp", arg)
	if err != nil {
		fmt.Println(err)
		return 1
	}
	child := exec.Command("/proc/self/exe")
	child.Env = append(os.Environ(), helperEnv+"=sleep")
	if err := child.Start(); err != nil {
		fmt.Println(err)
		return 1
	}
	fmt.Println("ready", child.Process.Pid)
	for {
		c, err := l.Accept()
		if err != nil {
			return 1
		}
		go func() { _, _ = io.Copy(c, c); c.Close() }()
	}
}

func twoNodes() linkemu.Scenario {
	return linkemu.Scenario{Seed: 1, Nodes: []string{"a", "b"}, Nets: []linkemu.Net{
		{Name: "wifi", Subnet: "10.9.1.0/24", Rate: 10e6, DelayMS: 2},
	}}
}

// patience is how long a test waits for what must happen.
const patience = time.Minute

// startEcho starts the helper in a node and waits until it listens.
func startEcho(t *testing.T, w *World, node string) (p *Process, child int) {
	t.Helper()
	r, out, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = append(os.Environ(), helperEnv+"="+netip.AddrPortFrom(w.Addr(node, "wifi"), 7).String())
	cmd.Stdout = out
	p, err = w.Node(node).Start(cmd)
	out.Close()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := fmt.Fscanf(r, "ready %d\n", &child); err != nil {
		t.Fatal(err)
	}
	return p, child
}

func echo(t *testing.T, w *World, text string) error {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	c, err := w.Node("a").Dial(ctx, "tcp", netip.AddrPortFrom(w.Addr("b", "wifi"), 7).String())
	if err != nil {
		return err
	}
	defer c.Close()
	if err := c.SetDeadline(time.Now().Add(patience)); err != nil {
		return err
	}
	if _, err := io.WriteString(c, text); err != nil {
		return err
	}
	got := make([]byte, len(text))
	if _, err := io.ReadFull(c, got); err != nil {
		return err
	}
	if string(got) != text {
		return fmt.Errorf("got %q", got)
	}
	return nil
}

func TestProgramsTalkAndLinksAreCut(t *testing.T) {
	w := New(t, twoNodes())
	startEcho(t, w, "b")
	path := filepath.Join(t.TempDir(), "a.pcap")
	c, err := w.Node("a").Capture("wifi", path)
	if err != nil {
		t.Fatal(err)
	}
	const text = "a word that crosses the air"
	if err := echo(t, w, text); err != nil {
		t.Fatal(err)
	}
	if tx, rx := w.Bytes("a", "wifi"); tx < int64(len(text)) || rx < int64(len(text)) {
		t.Errorf("counters %d, %d", tx, rx)
	}
	if err := w.Cut("wifi", "a", "b"); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	if conn, err := w.Node("a").Dial(ctx, "tcp", netip.AddrPortFrom(w.Addr("b", "wifi"), 7).String()); err == nil {
		conn.Close()
		t.Error("connected over a cut link")
	}
	if err := w.Heal("", "a", ""); err != nil {
		t.Fatal(err)
	}
	if err := echo(t, w, text); err != nil {
		t.Error(err)
	}
	res, err := c.Close()
	if err != nil || res.Packets < 10 {
		t.Errorf("capture: %+v, %v", res, err)
	}
	checkCapture(t, path, text, res.Packets)
	if again, err := c.Close(); again != res || err != nil {
		t.Errorf("second close: %+v, %v", again, err)
	}
}

// checkCapture reads the capture back.
func checkCapture(t *testing.T, path, text string, packets int64) {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	r, err := pcap.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	n, seen := int64(0), map[string]bool{}
	for {
		p, err := r.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		n++
		if bytes.Contains(p.Data, []byte(text)) {
			const tcp = 14 + 20                    // behind Ethernet and IPv4
			seen[string(p.Data[tcp:tcp+8])] = true // ports and number: TCP may send a segment twice
		}
	}
	if n != packets || len(seen) != 4 { // there and back, twice
		t.Errorf("%d packets, the text in %d", n, len(seen))
	}
}

func TestNodesAreApart(t *testing.T) {
	w := New(t, twoNodes())
	l, err := w.Node("a").Listen("tcp", "127.0.0.1:7777")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	l2, err := w.Node("b").Listen("tcp", "127.0.0.1:7777") // the same port, another machine
	if err != nil {
		t.Fatal(err)
	}
	l2.Close()
	if c, err := w.Node("b").Dial(t.Context(), "tcp", "127.0.0.1:7777"); err == nil {
		c.Close()
		t.Error("b reaches a's loopback")
	}
	if c, err := net.Dial("tcp", "127.0.0.1:7777"); err == nil {
		c.Close()
		t.Error("the test reaches a's loopback")
	}
	if _, err := w.Node("a").Dial(t.Context(), "tcp", "localhost:7777"); err == nil {
		t.Error("a name was looked up")
	}
}

func TestKillTakesTheChildrenToo(t *testing.T) {
	w := New(t, twoNodes())
	p, child := startEcho(t, w, "b")
	p.Kill()
	if err := p.Wait(t.Context()); err == nil {
		t.Error("a killed process ended well")
	}
	for deadline := time.Now().Add(patience); syscall.Kill(child, 0) == nil && !zombie(child); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("the child outlived its parent's kill")
		}
	}
	if err := echo(t, w, "x"); err == nil {
		t.Error("a killed program answers")
	}
	p.Kill() // again: nothing happens
}

func zombie(pid int) bool {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	return err != nil || bytes.Contains(b, []byte(") Z "))
}

func TestStopAndWait(t *testing.T) {
	w := New(t, twoNodes())
	p, _ := startEcho(t, w, "b")
	if err := p.Stop(t.Context()); err == nil {
		t.Error("SIGTERM ended a program without a handler well")
	}
	p, _ = startEcho(t, w, "b")
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	if err := p.Wait(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("wait: %v", err)
	}
	if err := w.Close(); err != nil {
		t.Error(err)
	}
	if _, err := w.Node("a").Start(exec.Command("true")); err == nil {
		t.Error("started in a closed world")
	}
	if err := w.Node("a").Run(t.Context(), exec.Command("true")); err == nil {
		t.Error("ran in a closed world")
	}
}

// A test that dies in the middle leaves nothing: here a second copy of this
// program builds a world in namespaces of its own and kills itself.
func TestNothingIsLeftAfterACrash(t *testing.T) {
	before := interfaces(t)
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = append(os.Environ(), helperEnv+"=crash")
	out, err := cmd.CombinedOutput()
	if err == nil || len(out) > 0 {
		t.Fatalf("the copy did not crash: %v %s", err, out)
	}
	if after := interfaces(t); after != before {
		t.Errorf("interfaces before %q, after %q", before, after)
	}
}

func interfaces(t *testing.T) string {
	t.Helper()
	is, err := net.Interfaces()
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, i := range is {
		names = append(names, i.Name)
	}
	return strings.Join(names, " ")
}

func TestWeAreAlone(t *testing.T) {
	if got := interfaces(t); got != "lo" {
		t.Errorf("the test sees interfaces %q of the machine", got)
	}
	if os.Getpid() != 1 {
		t.Errorf("process id %d, want 1 of a namespace of our own", os.Getpid())
	}
}

func TestForwardingRoutes(t *testing.T) {
	s := linkemu.Scenario{Seed: 1, Nodes: []string{"a", "b", "c"}, Forward: []string{"b"}, Nets: []linkemu.Net{
		{Name: "left", Subnet: "10.9.1.0/24", Nodes: []string{"a", "b"}},
		{Name: "right", Subnet: "10.9.2.0/24", Nodes: []string{"b", "c"}},
	}}
	w := New(t, s)
	route := func(node, to, via string) {
		out := new(bytes.Buffer)
		cmd := exec.Command("ip", "route", "add", to, "via", via)
		cmd.Stderr = out
		if err := w.Node(node).Run(t.Context(), cmd); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
	}
	route("a", "10.9.2.0/24", w.Addr("b", "left").String())
	route("c", "10.9.1.0/24", w.Addr("b", "right").String())
	to := netip.AddrPortFrom(w.Addr("c", "right"), 99).String()
	in, err := w.Node("c").ListenPacket("udp", to)
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	out, err := w.Node("a").Dial(t.Context(), "udp", to)
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	if _, err := out.Write([]byte("over the hill")); err != nil {
		t.Fatal(err)
	}
	if err := in.SetReadDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, 99)
	if n, _, err := in.ReadFrom(buf); err != nil || string(buf[:n]) != "over the hill" {
		t.Errorf("%q, %v", buf[:n], err)
	}
}

func TestBadScenario(t *testing.T) {
	if _, err := Build(linkemu.Scenario{}); err == nil {
		t.Error("an empty scenario was built")
	}
	w := New(t, twoNodes())
	if err := w.Cut("wifi", "a", "nobody"); err == nil {
		t.Error("cut a link to nobody")
	}
	if _, err := w.Node("a").Capture("nonet", filepath.Join(t.TempDir(), "x")); err == nil {
		t.Error("captured what is not there")
	}
}
