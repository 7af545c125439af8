package attack

import (
	"bufio"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"outrider/field-tests/netns"
	"outrider/field-tests/scenario"
)

// villainEnv names the file with the targets; the test binary is then the
// attackers. With neighbourEnv they leave the account they began with.
const (
	villainEnv   = "OUTRIDER_ATTACK_TARGETS"
	neighbourEnv = "OUTRIDER_ATTACK_NEIGHBOUR"
)

func TestMain(m *testing.M) {
	if file := os.Getenv(villainEnv); file != "" {
		os.Exit(attackers(file))
	}
	os.Exit(netns.Main(func() int {
		code := m.Run()
		scenario.Clean()
		return code
	}))
}

// attackers does as standard input says: "on N" begins row N, "off" ends it
// and is answered by what was done.
func attackers(file string) int {
	var at targets
	raw, err := os.ReadFile(file)
	if err == nil {
		err = json.Unmarshal(raw, &at)
	}
	if err == nil && os.Getenv(neighbourEnv) != "" { // the group stays: it is the socket's
		err = errors.Join(syscall.Setgroups(nil), syscall.Setuid(neighbourUID))
	}
	if err != nil {
		fmt.Println(err)
		return 1
	}
	in := bufio.NewScanner(os.Stdin)
	off := func() int64 { return 0 }
	for in.Scan() {
		var n int
		if _, err := fmt.Sscanf(in.Text(), "on %d", &n); err != nil {
			fmt.Println(off())
			continue
		}
		r := rows[n]
		a := &assault{targets: at, from: r.from, rate: r.rate, hold: r.hold}
		ctx, cancel := context.WithCancel(context.Background())
		ended := make(chan struct{})
		go func() {
			r.run(ctx, a)
			close(ended)
		}()
		off = func() int64 {
			cancel()
			<-ended
			return a.done.Load()
		}
	}
	return 0
}

// A stage is two honest nodes, those who use them, and the attackers.
type stage struct {
	a, b *scenario.Box
	work *work
	at   targets

	outside, next crew
}

// A crew is a process of attackers: those outside, and those on the node's own
// machine.
type crew struct {
	in  io.WriteCloser
	out *bufio.Scanner
}

// crewOf says who plays a row.
func (s *stage) crewOf(n int) *crew {
	if rows[n].from().IsLoopback() {
		return &s.next
	}
	return &s.outside
}

func newStage(t *testing.T, f form) *stage {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	if err := ownStage(); err != nil {
		t.Fatal(err)
	}
	dir, err := os.MkdirTemp("", "attack-") // short: sockets lie in it
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	s := &stage{}
	bin := scenario.Binary(t)
	s.a = scenario.NewBoxAlone(dir, "a", bin, nodeA.String())
	s.b = scenario.NewBoxAlone(dir, "b", bin, nodeB.String())
	s.b.Page = 7580 // loopback is shared
	must(t, s.provision(ctx))
	t.Cleanup(func() { s.a.Kill(); s.b.Kill() })
	must(t, s.a.Up(ctx))
	if _, err := s.a.CLI(ctx, "", "page", "--ca-for", "2h"); err != nil {
		t.Fatal(err)
	}
	rec, err := newRecorder()
	must(t, err)
	must(t, s.b.Up(ctx))
	must(t, s.meet(ctx))
	s.work, err = newWork(ctx, s.a, s.b, f.pace)
	must(t, err)
	t.Cleanup(s.work.stop)
	must(t, rec.enough(ctx))
	s.at = targets{
		Mesh: addr(nodeA, 7411), Gossip: addr(nodeA, 7410), Page: addr(nodeA, 7443), CA: addr(nodeA, 7481), Metrics: "127.0.0.1:7490", MDNS: addr(nodeA, 5353),
		Socket: s.a.Socket(), Datagrams: rec.datagrams, Streams: rec.beginnings(),
	}
	must(t, openTo(dir, s.a.Dir))
	file := filepath.Join(dir, "targets.json")
	must(t, s.outside.start(t, s.at, file))
	must(t, s.next.start(t, s.at, file, neighbourEnv+"=1"))
	return s
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func addr(a netip.Addr, port int) string { return netip.AddrPortFrom(a, uint16(port)).String() }

// provision makes the network: alice on A, and bob, who joins on B.
func (s *stage) provision(ctx context.Context) error {
	for _, b := range []*scenario.Box{s.a, s.b} {
		if _, err := b.Init(ctx); err != nil {
			return err
		}
		if err := b.Configure("lan", ""); err != nil {
			return err
		}
	}
	file := filepath.Join(s.a.Dir, "outrider.toml")
	raw, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	text := strings.Replace(string(raw), `"127.0.0.1:7480"`, `"127.0.0.1:7480", "10.66.0.1:7443"`, 1) + "\n[metrics]\nlisten = \"127.0.0.1:7490\"\n"
	if err := os.WriteFile(file, []byte(text), 0o640); err != nil {
		return err
	}
	if err := s.a.CreateNetwork(ctx, "eagle"); err != nil {
		return err
	}
	if err := s.a.HostUser(ctx, "alice"); err != nil {
		return err
	}
	inv, err := s.a.Invite(ctx, "bob", s.a.GossipAddr())
	if err != nil {
		return err
	}
	return s.b.Join(ctx, inv)
}

// meet waits until both nodes have each other as a contact.
func (s *stage) meet(ctx context.Context) error {
	return scenario.Poll(ctx, "the nodes to meet", func() (bool, error) {
		for _, b := range []*scenario.Box{s.a, s.b} {
			st, err := b.API.Status(ctx)
			if err != nil || st.Contacts != 1 {
				return false, err
			}
		}
		return true, nil
	})
}

// openTo lets the group's other accounts reach the socket.
func openTo(dirs ...string) error {
	for _, d := range dirs {
		if err := os.Chmod(d, 0o711); err != nil {
			return err
		}
	}
	return nil
}

// start starts a process that attacks, on what processor time nobody else
// wants (sched(7), SCHED_IDLE).
func (c *crew) start(t *testing.T, at targets, file string, env ...string) error {
	raw, err := json.Marshal(at)
	if err != nil {
		return err
	}
	if err := os.WriteFile(file, raw, 0o600); err != nil {
		return err
	}
	self, err := os.Executable()
	if err != nil {
		return err
	}
	cmd := exec.Command("chrt", "--idle", "0", self) // util-linux, on every Debian
	cmd.Env = append(os.Environ(), villainEnv+"="+file)
	cmd.Env = append(cmd.Env, env...)
	cmd.Stderr = os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if c.in, err = cmd.StdinPipe(); err != nil {
		return err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	c.out = bufio.NewScanner(out)
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("start the attackers: %w", err)
	}
	t.Cleanup(func() {
		_ = c.in.Close()
		_ = cmd.Wait()
	})
	return nil
}

func (c *crew) on(n int) error {
	_, err := fmt.Fprintf(c.in, "on %d\n", n)
	return err
}

// off ends the attack and returns what was done.
func (c *crew) off() (n int64, err error) {
	if _, err := fmt.Fprintln(c.in, "off"); err != nil {
		return 0, err
	}
	if !c.out.Scan() {
		return 0, fmt.Errorf("the attackers are gone: %v", c.out.Err())
	}
	if _, err = fmt.Sscan(c.out.Text(), &n); err != nil {
		err = fmt.Errorf("the attackers say %q", c.out.Text())
	}
	return n, err
}

// A recorder keeps what passes to A: datagrams whole, streams from their
// beginning, as anybody on the same air can.
type recorder struct {
	mu        sync.Mutex
	datagrams map[string][][]byte
	streams   map[[2]string][]byte // from, to
	order     [][2]string
}

// What is kept at most.
const (
	maxDatagrams = 256
	maxStreams   = 32
	maxStream    = 8 << 10
)

func newRecorder() (*recorder, error) {
	r := &recorder{datagrams: map[string][][]byte{}, streams: map[[2]string][]byte{}}
	for _, proto := range []int{unix.IPPROTO_UDP, unix.IPPROTO_TCP} {
		fd, err := unix.Socket(unix.AF_INET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, proto)
		if err != nil {
			return nil, fmt.Errorf("attack: record: %w", err)
		}
		go r.read(fd, proto)
	}
	return r, nil
}

// read ends with the process.
func (r *recorder) read(fd, proto int) {
	b := make([]byte, 1<<16)
	for {
		n, err := unix.Read(fd, b)
		if err != nil {
			return
		}
		r.packet(b[:n], proto)
	}
}

func (r *recorder) packet(p []byte, proto int) {
	if len(p) < 40 {
		return
	}
	ip := int(p[0]&15) * 4
	l4 := p[ip:]
	from := netip.AddrPortFrom(netip.AddrFrom4([4]byte(p[12:16])), binary.BigEndian.Uint16(l4)).String()
	dst := netip.AddrFrom4([4]byte(p[16:20]))
	to := netip.AddrPortFrom(dst, binary.BigEndian.Uint16(l4[2:])).String()
	if dst != nodeA {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if proto == unix.IPPROTO_UDP {
		if len(r.datagrams[to]) < maxDatagrams && len(l4) > 8 {
			r.datagrams[to] = append(r.datagrams[to], append([]byte(nil), l4[8:]...))
		}
		return
	}
	data := l4[min(len(l4), int(l4[12]>>4)*4):]
	key := [2]string{from, to}
	if _, known := r.streams[key]; !known {
		if len(r.order) >= maxStreams || len(data) == 0 {
			return
		}
		r.order = append(r.order, key)
	}
	if len(r.streams[key]) < maxStream {
		r.streams[key] = append(r.streams[key], data...)
	}
}

// enough waits until there is something of everything.
func (r *recorder) enough(ctx context.Context) error {
	return scenario.Poll(ctx, "recordings of real traffic", func() (bool, error) {
		r.mu.Lock()
		defer r.mu.Unlock()
		mesh, gossip := addr(nodeA, 7411), addr(nodeA, 7410)
		streams := map[string]bool{}
		for _, k := range r.order {
			streams[k[1]] = true
		}
		return len(r.datagrams[mesh]) > 20 && len(r.datagrams[gossip]) > 2 && streams[gossip] && streams[addr(nodeA, 7443)], nil
	})
}

// beginnings are the recorded streams by where they went.
func (r *recorder) beginnings() map[string][][]byte {
	r.mu.Lock()
	defer r.mu.Unlock()
	out := map[string][][]byte{}
	for _, k := range r.order {
		out[k[1]] = append(out[k[1]], r.streams[k])
	}
	if mesh := addr(nodeA, 7411); len(out[mesh]) == 0 { // the link runs over QUIC: a dial's first words are these
		out[mesh] = [][]byte{append(append([]byte(nil), noiseOpening...), append([]byte{0, 32}, garbage(32)...)...)}
	}
	return out
}

// from dials from a given address.
func from(a netip.Addr) func(context.Context, string, string) (net.Conn, error) {
	d := net.Dialer{LocalAddr: &net.TCPAddr{IP: a.AsSlice()}, Timeout: 5 * time.Second}
	return d.DialContext
}
