package p2p

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"log/slog"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"outrider/mesh/cla"
	"outrider/mesh/identity"
)

func TestGate(t *testing.T) {
	g := &gate{}
	a, b, la, lb := linked(t, newLayer(t, 0, func(c *Config) { c.Gate = g }), newLayer(t, 1, nil))
	g.set(b.self, false)
	a.Recheck()
	wantEnd(t, la)
	wantEnd(t, lb)
	if err := a.Dial(soon(t), b.self, b.Addrs()); !errors.Is(err, cla.ErrRefused) {
		t.Fatalf("dial to a peer that is switched off: %v", err)
	}
	if _, err := a.FetchRoot(soon(t), b.self, b.Addrs()); !errors.Is(err, cla.ErrRefused) {
		t.Fatalf("fetch from a peer that is switched off: %v", err)
	}
	if err := b.Dial(soon(t), a.self, a.Addrs()); err == nil || errors.Is(err, cla.ErrRefused) {
		t.Fatalf("dial by a peer that is switched off: %v, want a connection that ends without an answer", err)
	}
	g.set(b.self, true)
	a.Recheck()
	if err := b.Dial(soon(t), a.self, a.Addrs()); err != nil {
		t.Fatal(err)
	}
	passes(t, a.next(t), b.next(t))
}

func TestRevocationEndsLinksAtOnce(t *testing.T) {
	c := newClub("ours")
	a, b, la, lb := linked(t, newLayer(t, 0, func(cfg *Config) { cfg.Admission = c }), newLayer(t, 1, nil))
	a.Recheck()
	passes(t, la, lb) // nothing was wrong
	c.revoke(b.self)
	a.Recheck()
	wantEnd(t, la)
	wantEnd(t, lb)
	if err := b.Dial(soon(t), a.self, a.Addrs()); !errors.Is(err, cla.ErrRefused) {
		t.Fatalf("dial by a revoked node: %v", err)
	}
	if err := a.Dial(soon(t), b.self, b.Addrs()); !errors.Is(err, cla.ErrRefused) {
		t.Fatalf("dial to a revoked node: %v", err)
	}
}

// clock is a time that a test sets.
type clock struct{ ns atomic.Int64 }

func (c *clock) now() time.Time          { return time.Unix(0, c.ns.Load()) }
func (c *clock) advance(d time.Duration) { c.ns.Add(int64(d)) }

func TestAdmissionIsACacheWithAnEnd(t *testing.T) {
	ck := &clock{}
	ck.advance(1000 * time.Hour)
	c := newClub("ours")
	c.until = ck.now().Add(time.Hour)
	l := newLayer(t, 0, func(cfg *Config) { cfg.Admission, cfg.Now = c, ck.now })
	a, b, la, lb := linked(t, l, newLayer(t, 1, nil))

	look := func() {
		a.mu.Lock()
		one := a.peers[b.self].conns[0]
		a.mu.Unlock()
		a.look(one)
	}
	asked := c.times()
	ck.advance(59 * time.Minute)
	look()
	passes(t, la, lb)
	if c.times() != asked {
		t.Fatal("the admission was judged again before its end")
	}
	c.mu.Lock()
	c.until = ck.now().Add(time.Hour) // a renewed certificate
	c.mu.Unlock()
	ck.advance(2 * time.Minute)
	look()
	passes(t, la, lb)
	ck.advance(time.Hour)
	look()
	wantEnd(t, la)
	wantEnd(t, lb)
	if err := b.Dial(soon(t), a.self, a.Addrs()); !errors.Is(err, cla.ErrRefused) || !strings.Contains(err.Error(), "expired") {
		t.Fatalf("dial with an ended admission: %v", err)
	}
}

// The end comes by itself, without anybody asking.
func TestAdmissionEndsByItself(t *testing.T) {
	ck := &clock{}
	ck.advance(1000 * time.Hour)
	c := newClub("ours")
	c.until = ck.now().Add(700 * time.Millisecond) // so it is looked at about so often
	l := newLayer(t, 0, func(cfg *Config) { cfg.Admission, cfg.Now = c, ck.now })
	_, _, la, lb := linked(t, l, newLayer(t, 1, nil))
	passes(t, la, lb)
	c.mu.Lock()
	c.word = []byte("nobody")
	c.mu.Unlock()
	passes(t, la, lb)
	ck.advance(time.Second)
	wantEnd(t, la)
	wantEnd(t, lb)
}

func TestVersionsAndFeatures(t *testing.T) {
	speak := func(lo, hi uint16, features uint64) func(*Config) {
		return func(c *Config) { c.protocolMin, c.protocolMax, c.Features = lo, hi, features }
	}
	_, _, la, lb := linked(t, newLayer(t, 0, speak(1, 3, 0b0110)), newLayer(t, 1, speak(2, 9, 0b1100)))
	for _, k := range []cla.Link{la, lb} {
		if i := k.Info(); i.Version != 3 || i.Features != 0b0100 {
			t.Fatalf("version %d, features %b", i.Version, i.Features)
		}
	}
	old, later := start(t, newLayer(t, 2, speak(1, 1, 0))), start(t, newLayer(t, 3, speak(2, 2, 0)))
	for _, d := range [][2]*node{{old, later}, {later, old}} {
		err := d[0].Dial(soon(t), d[1].self, d[1].Addrs())
		if !errors.Is(err, cla.ErrRefused) || !strings.Contains(err.Error(), "version") {
			t.Fatalf("no common version: %v", err)
		}
	}
}

func TestClassIsTheThinnerOne(t *testing.T) {
	_, _, la, lb := linked(t,
		newLayer(t, 0, func(c *Config) { c.Profile = calm(cla.Radio, false) }), newLayer(t, 1, nil))
	if la.Info().Class != cla.Radio || lb.Info().Class != cla.Radio || lb.Info().RateBps != 64_000 {
		t.Fatalf("%+v, %+v", la.Info(), lb.Info())
	}
}

// Nobody answers any more, and nobody says so.
func TestSilentMediumEndsTheLink(t *testing.T) {
	for name, quic := range map[string]bool{"TCP": false, "QUIC": true} {
		t.Run(name, func(t *testing.T) {
			set := func(c *Config) {
				c.Profile = quick(cla.LAN, quic)
			}
			a, b := start(t, newLayer(t, 0, set)), start(t, newLayer(t, 1, set))
			r := newRelay(t, b.Addrs()[0])
			if err := a.Dial(soon(t), b.self, []string{r.addr}); err != nil {
				t.Fatal(err)
			}
			la, lb := a.next(t), b.next(t)
			passes(t, la, lb)
			r.silence(true)
			wantEnd(t, la)
			wantEnd(t, lb)
		})
	}
}

// One side has lost the link and the other does not know yet: a new dial
// replaces it, whoever leads and whoever dials.
func TestNewLinkReplacesALostOne(t *testing.T) {
	for name, who := range map[string]struct{ a, dialler int }{
		"FollowerLost": {0, 1}, "LeaderLost": {1, 0},
	} {
		t.Run(name, func(t *testing.T) {
			patient := func(c *Config) { c.Profile.KeepAlive, c.Profile.WriteTimeout = time.Hour, time.Hour }
			a, b := start(t, newLayer(t, who.a, patient)), start(t, newLayer(t, who.dialler, patient))
			r := newRelay(t, b.Addrs()[0])
			if err := a.Dial(soon(t), b.self, []string{r.addr}); err != nil {
				t.Fatal(err)
			}
			la, lb := a.next(t), b.next(t)
			passes(t, la, lb)
			r.silence(true)
			lb.(*link).cut() // b notices, a does not
			if err := b.Dial(soon(t), a.self, a.Addrs()); err != nil {
				t.Fatal(err)
			}
			passes(t, b.next(t), a.next(t))
			wantEnd(t, la)
		})
	}
}

// A node that restarted has another instance, so its first link replaces the
// one that its former life left behind.
func TestRestartedPeer(t *testing.T) {
	for name, who := range map[string][2]int{"Follower": {0, 1}, "Leader": {1, 0}} {
		t.Run(name, func(t *testing.T) {
			patient := func(c *Config) { c.Profile.KeepAlive, c.Profile.WriteTimeout = time.Hour, time.Hour }
			a, b := start(t, newLayer(t, who[0], patient)), start(t, newLayer(t, who[1], patient))
			r := newRelay(t, b.Addrs()[0])
			if err := a.Dial(soon(t), b.self, []string{r.addr}); err != nil {
				t.Fatal(err)
			}
			la, _ := a.next(t), b.next(t)
			r.silence(true)
			b.stop(t)()
			again := start(t, newLayer(t, who[1], patient))
			if err := again.Dial(soon(t), a.self, a.Addrs()); err != nil {
				t.Fatal(err)
			}
			passes(t, again.next(t), a.next(t))
			wantEnd(t, la)
		})
	}
}

// A node that was killed says no goodbye on QUIC, but when it is back it
// resets what it does not know.
func TestRestartIsNoticedOnQUIC(t *testing.T) {
	set := func(c *Config) {
		c.Profile = calm(cla.LAN, true)
		c.Profile.KeepAlive = time.Hour
	}
	a, b := start(t, newLayer(t, 0, set)), start(t, newLayer(t, 1, set))
	r := newRelay(t, b.Addrs()[0])
	r.mu.Lock()
	r.udpOnly = true // or TCP would win where a handshake of QUIC takes long
	r.mu.Unlock()
	if err := a.Dial(soon(t), b.self, []string{r.addr}); err != nil {
		t.Fatal(err)
	}
	la := a.next(t)
	if _, ok := la.(*link).conn.session.(*quicSession); !ok {
		t.Fatal("the link is not on QUIC")
	}
	r.silence(true)
	b.stop(t)()
	r.moveTo(start(t, newLayer(t, 1, set)).Addrs()[0]) // for a, where it was before
	r.silence(false)
	if err := la.Send(soon(t), make([]byte, 1000)); err != nil {
		t.Fatal(err)
	}
	wantEnd(t, la)
}

// The time is made to pass in the link's own note of its last frame: frames
// keep a link, whatever their number, and silence ends it.
func TestIdleLinkIsClosed(t *testing.T) {
	const limit = time.Hour
	idle := func(c *Config) { c.Profile.IdleClose = limit }
	a, b, la, lb := linked(t, newLayer(t, 0, idle), newLayer(t, 1, idle))
	quiet := func(d time.Duration) { // until now, at both ends
		for _, k := range []cla.Link{la, lb} {
			k := k.(*link)
			k.used.Store(int64(time.Since(k.since) - d))
		}
	}
	look := func() {
		la.(*link).closeIdle()
		lb.(*link).closeIdle()
	}
	for range 3 {
		quiet(limit - time.Minute)
		look()
		quiet(2 * limit)
		passes(t, la, lb)
		look() // a frame has just passed
	}
	passes(t, la, lb)
	quiet(limit)
	look()
	wantEnd(t, la)
	wantEnd(t, lb)
	if err := a.Dial(soon(t), b.self, b.Addrs()); err != nil {
		t.Fatalf("dial on need: %v", err)
	}
	passes(t, a.next(t), b.next(t))
}

// A link looks at its idleness by itself.
func TestIdleLinkClosesByItself(t *testing.T) {
	idle := func(c *Config) { c.Profile.IdleClose = time.Second }
	_, _, la, lb := linked(t, newLayer(t, 0, idle), newLayer(t, 1, idle))
	wantEnd(t, la)
	wantEnd(t, lb)
}

// Five nodes behind one address knock at once; the door takes them one by
// one, and all come in.
func TestNodesBehindOneAddress(t *testing.T) {
	a := start(t, newLayer(t, 0, nil))
	var wg sync.WaitGroup
	for k := 1; k <= 5; k++ {
		n := start(t, newLayer(t, k, nil))
		wg.Go(func() {
			ctx := soon(t)
			for {
				err := n.Dial(ctx, a.self, a.Addrs())
				if err == nil {
					return
				}
				if !errors.Is(err, cla.ErrUnreachable) || ctx.Err() != nil {
					t.Errorf("node %d: %v", k, err)
					return
				}
			}
		})
	}
	wg.Wait()
	for range 5 {
		a.next(t)
	}
}

func TestDialErrors(t *testing.T) {
	a, b := start(t, newLayer(t, 0, nil)), start(t, newLayer(t, 1, nil))
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	closed := ln.Addr().String()
	ln.Close()
	for name, addrs := range map[string][]string{
		"no address": nil, "nobody there": {closed}, "no port": {"127.0.0.1"}, "not an address": {"!"},
	} {
		if err := a.Dial(soon(t), id(2), addrs); !errors.Is(err, cla.ErrUnreachable) {
			t.Errorf("%s: %v, want cla.ErrUnreachable", name, err)
		}
	}
	if err := a.Dial(soon(t), id(2), b.Addrs()); !errors.Is(err, cla.ErrUnreachable) {
		t.Errorf("another node answers there: %v", err)
	}
	if err := a.Dial(soon(t), a.self, a.Addrs()); !errors.Is(err, cla.ErrRefused) {
		t.Errorf("dial to oneself: %v", err)
	}
	if err := a.Dial(soon(t), b.self, append([]string{closed}, b.Addrs()...)); err != nil {
		t.Errorf("the second address has it: %v", err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if err := a.Dial(ctx, id(3), b.Addrs()); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
	a.stop(t)()
	if err := a.Dial(soon(t), b.self, b.Addrs()); !errors.Is(err, ErrNotRunning) {
		t.Errorf("after the end: %v", err)
	}
	if _, err := a.FetchRoot(soon(t), b.self, b.Addrs()); !errors.Is(err, ErrNotRunning) {
		t.Errorf("after the end: %v", err)
	}
}

func TestNewAndRunRefuse(t *testing.T) {
	good := Config{Key: key(0), Admission: newClub("ours"), Log: slog.New(slog.DiscardHandler)}
	for name, spoil := range map[string]func(*Config){
		"no key":       func(c *Config) { c.Key = identity.PrivateKey{} },
		"no admission": func(c *Config) { c.Admission = nil },
		"no log":       func(c *Config) { c.Log = nil },
	} {
		c := good
		spoil(&c)
		if _, err := New(c); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	a := start(t, newLayer(t, 0, nil))
	for name, quic := range map[string]bool{"TCP": false, "QUIC": true} {
		l := newLayer(t, 1, func(c *Config) { c.Listen, c.Profile.QUIC = a.Addrs(), quic })
		if err := l.Run(soon(t), nil); err == nil || !strings.Contains(err.Error(), "in use") {
			t.Errorf("%s: run on a busy port: %v", name, err)
		}
		if err := l.Run(soon(t), nil); err == nil {
			t.Errorf("%s: a second Run was accepted", name)
		}
	}
	ln, pc := bothPorts(t)
	defer pc.Close()
	ln.Close() // free on TCP
	l := newLayer(t, 1, func(c *Config) { c.Listen, c.Profile.QUIC = []string{pc.LocalAddr().String()}, true })
	if err := l.Run(soon(t), nil); err == nil || !strings.Contains(err.Error(), "QUIC") {
		t.Errorf("run with a busy UDP port: %v", err)
	}
}

// slowConn takes bytes only when told to.
type slowConn struct {
	net.Conn
	gate chan struct{}
}

func (s slowConn) Write(b []byte) (int, error) {
	<-s.gate
	return len(b), nil
}

func TestPaceCountsOneStream(t *testing.T) {
	s := slowConn{gate: make(chan struct{}, 10)}
	p := &pace{secured: s, sent: make(chan struct{}, 1)}
	frame := func(kind byte, stream uint32, n int) []byte {
		b := make([]byte, yamuxHeader+n)
		b[1] = kind
		binary.BigEndian.PutUint32(b[4:], stream)
		return b
	}
	p.count(7)
	queued := func() uint64 {
		n, _ := p.queued(100)
		return n
	}
	for i, w := range []struct {
		b    []byte
		want uint64
	}{
		{frame(0, 9, 50), 100}, {frame(1, 7, 0), 100}, {frame(0, 7, 30), 70}, {frame(0, 7, 70), 0},
	} {
		s.gate <- struct{}{}
		p.Write(w.b)
		if got := queued(); got != w.want {
			t.Fatalf("write %d: %d bytes queued, want %d", i, got, w.want)
		}
	}
}

// On a radio nothing but a little may wait above the wire when Send returns:
// what is urgent then comes next.
func TestSendWaitsForTheWire(t *testing.T) {
	set := func(c *Config) { c.Profile = calm(cla.Radio, false) }
	a, b := start(t, newLayer(t, 0, set)), start(t, newLayer(t, 1, set))
	if err := a.Dial(soon(t), b.self, b.Addrs()); err != nil {
		t.Fatal(err)
	}
	la, lb := a.next(t).(*link), b.next(t)
	var wg sync.WaitGroup
	defer wg.Wait()
	wg.Go(func() {
		for range 50 {
			if _, err := lb.Recv(soon(t)); err != nil {
				t.Error(err)
				return
			}
		}
	})
	for range 50 {
		if err := la.Send(soon(t), bytes.Repeat([]byte{1}, 16<<10)); err != nil {
			t.Fatal(err)
		}
		if n, _ := la.stream.Queued(la.handed); n > 512 {
			t.Fatalf("%d bytes wait above the socket after Send", n)
		}
	}
}

func TestMemoryIsBounded(t *testing.T) {
	all := newBudget(1000)
	w := &wire{}
	a := &account{all: all, wire: w, limit: 600}
	first, _ := a.span()
	if first.ReserveMemory(500, 255) != nil || all.left.Load() != 1000 {
		t.Fatal("a stranger was charged to the budget of the admitted")
	}
	if first.ReserveMemory(101, 255) == nil {
		t.Fatal("a session passed its limit")
	}
	w.admitted.Store(true)
	first.Done()
	second, _ := a.span()
	if second.ReserveMemory(600, 255) != nil || all.left.Load() != 400 {
		t.Fatalf("%d left", all.left.Load())
	}
	other := &account{all: all, wire: w, limit: 600}
	third, _ := other.span()
	if third.ReserveMemory(401, 255) == nil || other.held.Load() != 0 {
		t.Fatal("the budget was passed")
	}
	second.Done()
	second.Done()
	if all.left.Load() != 1000 || a.held.Load() != 0 {
		t.Fatalf("%d left, %d held at the end", all.left.Load(), a.held.Load())
	}
}
