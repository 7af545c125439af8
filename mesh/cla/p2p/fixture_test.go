package p2p

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"sync"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"outrider/mesh/cla"
	"outrider/mesh/cla/clatest"
	"outrider/mesh/identity"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(settling{m}) }

// settling gives what the last test left behind the time to end, which on a
// busy machine is more than goleak does.
type settling struct{ *testing.M }

func (s settling) Run() int {
	code := s.M.Run()
	for end := time.Now().Add(patience); goleak.Find() != nil && time.Now().Before(end); {
	}
	return code
}

// patience bounds what has to happen; nothing waits so long unless it fails.
const patience = time.Minute

func soon(t testing.TB) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	t.Cleanup(cancel)
	return ctx
}

// club admits who says the same word, and nobody it has revoked.
type club struct {
	word  []byte
	until time.Time

	mu      sync.Mutex
	revoked map[identity.NodeID]bool
	asked   int
}

func newClub(word string) *club {
	return &club{word: []byte(word), revoked: make(map[identity.NodeID]bool)}
}

func (c *club) Hello() []byte      { return c.word }
func (c *club) RootRecord() []byte { return bytes.Repeat(c.word, 5000/len(c.word)) }

func (c *club) Admit(peer identity.NodeID, hello []byte) (time.Time, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.asked++
	switch {
	case !bytes.Equal(hello, c.word):
		return time.Time{}, fmt.Errorf("club: %w", identity.ErrForeign)
	case c.revoked[peer]:
		return time.Time{}, errors.New("club: revoked")
	}
	return c.until, nil
}

// times returns how often the admission was judged.
func (c *club) times() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.asked
}

func (c *club) revoke(peer identity.NodeID) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.revoked[peer] = true
}

// gate blocks peers.
type gate struct {
	mu      sync.Mutex
	blocked map[identity.NodeID]bool
}

func (g *gate) Allowed(id identity.NodeID) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return !g.blocked[id]
}

func (g *gate) set(id identity.NodeID, allowed bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.blocked == nil {
		g.blocked = make(map[identity.NodeID]bool)
	}
	g.blocked[id] = !allowed
}

// calm is a profile whose times no busy machine exceeds.
func calm(c cla.Class, quic bool) Profile {
	p := ProfileOf(c)
	p.QUIC = quic
	p.KeepAlive, p.WriteTimeout = 20*time.Second, time.Minute
	p.DialTimeout, p.HelloTimeout = 30*time.Second, 30*time.Second
	return p
}

// quick is a profile that notices a dead medium within a few seconds.
func quick(c cla.Class, quic bool) Profile {
	p := calm(c, quic)
	p.KeepAlive, p.WriteTimeout = 2*time.Second, 6*time.Second
	return p
}

// grace is how long a stranger at the doors of the tests may be silent.
const grace = 250 * time.Millisecond

// key makes the same key for the same number; node 0 leads node 1 leads ...
func key(n int) identity.PrivateKey {
	keysOnce.Do(func() {
		for i := range keys {
			keys[i] = identity.PrivateKeyFromSeed([32]byte{byte(i), 99})
		}
		for i := range keys { // a few keys: the simplest sort will do
			for j := i + 1; j < len(keys); j++ {
				if keys[j].Public().Compare(keys[i].Public()) < 0 {
					keys[i], keys[j] = keys[j], keys[i]
				}
			}
		}
	})
	return keys[n]
}

var (
	keysOnce sync.Once
	keys     [80]identity.PrivateKey
)

func id(n int) identity.NodeID { return key(n).Public().NodeID() }

// newLayer makes a layer that listens on loopback.
func newLayer(t testing.TB, n int, change func(*Config)) *Layer {
	t.Helper()
	c := Config{
		Key: key(n), Listen: []string{"127.0.0.1:0"}, Admission: newClub("ours"),
		Profile: calm(cla.LAN, false), Log: slog.New(slog.DiscardHandler),
	}
	if change != nil {
		change(&c)
	}
	l, err := New(c)
	if err != nil {
		t.Fatal(err)
	}
	l.door.grace = grace
	return l
}

// node is a layer that runs until the test ends.
type node struct {
	*Layer
	links  chan cla.Link
	cancel context.CancelFunc
	done   chan error
}

func start(t testing.TB, l *Layer) *node {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	n := &node{Layer: l, links: make(chan cla.Link, 100), cancel: cancel, done: make(chan error, 1)}
	go func() { n.done <- l.Run(ctx, n.serveAll) }()
	select {
	case <-l.Ready():
	case err := <-n.done:
		t.Fatalf("run: %v", err)
	}
	t.Cleanup(n.stop(t))
	return n
}

func (n *node) stop(t testing.TB) func() {
	return func() {
		n.cancel()
		select {
		case err := <-n.done:
			if err != nil {
				t.Errorf("run: %v", err)
			}
			n.done <- nil // for a second stop
		case <-time.After(patience):
			t.Error("run did not return")
		}
	}
}

// serveAll hands links to the test and holds them until they end.
func (n *node) serveAll(ctx context.Context, k cla.Link) {
	n.links <- k
	select {
	case <-k.(*link).closed:
	case <-k.(*link).ended:
	case <-ctx.Done():
	}
}

func (n *node) next(t testing.TB) cla.Link {
	t.Helper()
	select {
	case k := <-n.links:
		return k
	case <-time.After(patience):
		t.Fatal("no link came up")
		return nil
	}
}

// linked starts two nodes and connects them.
func linked(t testing.TB, a, b *Layer) (*node, *node, cla.Link, cla.Link) {
	t.Helper()
	na, nb := start(t, a), start(t, b)
	if err := na.Dial(soon(t), nb.self, nb.Addrs()); err != nil {
		t.Fatal(err)
	}
	return na, nb, na.next(t), nb.next(t)
}

// passes checks that a frame gets from one end to the other.
func passes(t testing.TB, from, to cla.Link) {
	t.Helper()
	want := []byte("still here")
	if err := from.Send(soon(t), want); err != nil {
		t.Fatalf("send: %v", err)
	}
	if got, err := to.Recv(soon(t)); err != nil || !bytes.Equal(got, want) {
		t.Fatalf("recv: %q, %v", got, err)
	}
}

func wantEnd(t testing.TB, k cla.Link) {
	t.Helper()
	for {
		_, err := k.Recv(soon(t))
		if errors.Is(err, cla.ErrClosed) {
			return
		}
		if err != nil {
			t.Fatalf("link did not end: %v", err)
		}
	}
}

// A relay forwards TCP and UDP on one port, and can stop doing so.
type relay struct {
	addr    string
	mu      sync.Mutex
	to      string
	conns   []net.Conn
	quiet   bool     // forward nothing, say nothing
	udpOnly bool     // put out who comes on TCP
	from    net.Addr // to connect from, nil for any
}

func newRelay(t testing.TB, to string) *relay {
	t.Helper()
	ln, pc := bothPorts(t)
	r := &relay{addr: ln.Addr().String(), to: to}
	var wg sync.WaitGroup
	wg.Go(func() { r.tcp(&wg, ln) })
	wg.Go(func() { r.udp(&wg, pc) })
	t.Cleanup(func() {
		ln.Close()
		pc.Close()
		r.reset()
		wg.Wait()
	})
	return r
}

// bothPorts listens on a port that is free on TCP and on UDP.
func bothPorts(t testing.TB) (net.Listener, net.PacketConn) {
	t.Helper()
	for {
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		pc, err := net.ListenPacket("udp", ln.Addr().String())
		if err == nil {
			return ln, pc
		}
		ln.Close()
		if !errors.Is(err, syscall.EADDRINUSE) {
			t.Fatal(err)
		}
	}
}

func (r *relay) keep(c ...net.Conn) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.conns = append(r.conns, c...)
}

// reset breaks all connections through the relay, in the middle of whatever.
func (r *relay) reset() {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, c := range r.conns {
		if tc, ok := c.(*net.TCPConn); ok {
			tc.SetLinger(0)
		}
		c.Close()
	}
	r.conns = nil
}

// moveTo makes the relay forward to another address what comes from now on.
func (r *relay) moveTo(to string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.to = to
}

func (r *relay) target() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.to
}

// silence makes the relay swallow everything.
func (r *relay) silence(on bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.quiet = on
}

func (r *relay) muted() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.quiet
}

func (r *relay) tcp(wg *sync.WaitGroup, ln net.Listener) {
	for {
		in, err := ln.Accept()
		if err != nil {
			return
		}
		r.mu.Lock()
		d, to, refuse := net.Dialer{LocalAddr: r.from}, r.to, r.udpOnly
		r.mu.Unlock()
		if refuse {
			in.Close()
			continue
		}
		out, err := d.Dial("tcp", to)
		if err != nil {
			in.Close()
			continue
		}
		r.keep(in, out)
		for _, p := range [][2]net.Conn{{in, out}, {out, in}} {
			wg.Go(func() {
				defer p[0].Close()
				defer p[1].Close()
				io.Copy(mutable{r, p[1]}, p[0])
			})
		}
	}
}

type mutable struct {
	r *relay
	w io.Writer
}

func (m mutable) Write(b []byte) (int, error) {
	if m.r.muted() {
		return len(b), nil
	}
	return m.w.Write(b)
}

func (r *relay) udp(wg *sync.WaitGroup, pc net.PacketConn) {
	back := make(map[string]net.Conn)
	b := make([]byte, 2048)
	for {
		n, from, err := pc.ReadFrom(b)
		if err != nil {
			return
		}
		to := r.target()
		way := from.String() + " " + to
		c := back[way]
		if c == nil {
			if c, err = net.Dial("udp", to); err != nil {
				return
			}
			back[way] = c
			r.keep(c)
			wg.Go(func() {
				b := make([]byte, 2048)
				for {
					n, err := c.Read(b)
					if err != nil {
						return
					}
					if !r.muted() {
						pc.WriteTo(b[:n], from)
					}
				}
			})
		}
		if !r.muted() {
			c.Write(b[:n])
		}
	}
}

func conformanceProfiles() map[string]Profile {
	return map[string]Profile{
		"TCP":   quick(cla.LAN, false),
		"QUIC":  quick(cla.LAN, true),
		"WiFi":  quick(cla.WiFi, false),
		"Radio": quick(cla.Radio, false),
	}
}

func TestLinkConformance(t *testing.T) {
	for name, profile := range conformanceProfiles() {
		t.Run(name, func(t *testing.T) {
			clatest.TestLink(t, clatest.Plain, func(t *testing.T) clatest.Pair {
				set := func(c *Config) { c.Profile = profile }
				a, b := start(t, newLayer(t, 0, set)), start(t, newLayer(t, 1, set))
				r := newRelay(t, b.Addrs()[0])
				if err := a.Dial(soon(t), b.self, []string{r.addr}); err != nil {
					t.Fatal(err)
				}
				cut := r.reset
				if profile.QUIC {
					cut = func() { r.silence(true) }
				}
				return clatest.Pair{A: a.next(t), B: b.next(t), Cut: cut}
			})
		})
	}
}

func TestLayerConformance(t *testing.T) {
	for name, profile := range conformanceProfiles() {
		for order, who := range map[string][2]int{"LeaderDials": {0, 1}, "FollowerDials": {1, 0}} {
			t.Run(name+"/"+order, func(t *testing.T) {
				clatest.TestLayer(t, clatest.Plain, func(t *testing.T) (a, b clatest.Node) {
					set := func(c *Config) { c.Profile = profile }
					return testNode(newLayer(t, who[0], set)), testNode(newLayer(t, who[1], set))
				})
			})
		}
	}
}

func testNode(l *Layer) clatest.Node {
	return clatest.Node{ID: l.self, Layer: l, Addrs: func(ctx context.Context) []string {
		select {
		case <-l.Ready():
		case <-ctx.Done():
		}
		return l.Addrs()
	}}
}
