package gossip

import (
	"bytes"
	"context"
	"log/slog"
	"net"
	"net/netip"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"outrider/mesh/identity"
)

func seeds(nodes ...*node) func(*Config) {
	return func(c *Config) {
		for _, n := range nodes {
			c.Seeds = append(c.Seeds, n.Addr())
		}
	}
}

// with makes several changes.
func with(changes ...func(*Config)) func(*Config) {
	return func(c *Config) {
		for _, change := range changes {
			change(c)
		}
	}
}

func TestFindEachOther(t *testing.T) {
	a := start(t, 1, calmly)
	b := start(t, 2, with(seeds(a), calmly))
	c := start(t, 3, with(seeds(b), calmly))
	eventually(t, "three nodes see one another", func() bool {
		return a.sees(2, 3) && b.sees(1, 3) && c.sees(1, 2)
	})
	for _, m := range a.Members() {
		want := map[bool]string{true: "127.0.0.1:7002", false: "127.0.0.1:7003"}[m.ID == id(2)]
		if len(m.Addrs) != 1 || m.Addrs[0] != want {
			t.Fatalf("mesh addresses %v, want %s", m.Addrs, want)
		}
	}
	eventually(t, "all have all others in their books", func() bool {
		return a.book.has(id(2)) && a.book.has(id(3)) && c.book.has(id(1)) && c.book.has(id(2))
	})
	eventually(t, "direct contact is noted", func() bool {
		return a.hears(2) && a.hears(3)
	})
}

func TestGoneAndBackElsewhere(t *testing.T) {
	a := start(t, 1, nil)
	b := start(t, 2, seeds(a))
	eventually(t, "a and b meet", func() bool { return a.sees(2) && b.sees(1) })
	b.stop(t)
	eventually(t, "a notices that b left", func() bool { return a.sees() })
	was, _ := b.book.get(id(2))

	// Back with its book, without seeds, on another port.
	b2 := start(t, 2, func(c *Config) { c.Book = b.book })
	eventually(t, "b is back at another address", func() bool { return a.sees(2) && b2.sees(1) })
	if now, _ := b2.book.get(id(2)); now.Epoch <= was.Epoch {
		t.Fatalf("epoch went from %d to %d over a restart", was.Epoch, now.Epoch)
	}
}

// After a crash the others still believe in the old address; the node is
// taken back at the new one when they have given that up.
func TestCrashedAndBackElsewhere(t *testing.T) {
	a := start(t, 1, nil)
	b := start(t, 2, seeds(a))
	eventually(t, "a and b meet", func() bool { return a.sees(2) && b.sees(1) })
	port := netip.MustParseAddrPort(b.Addr())
	a.gate.set(id(2), false) // so that a does not hear it leave
	b.stop(t)
	a.gate.set(id(2), true)
	taken, err := net.ListenTCP("tcp", net.TCPAddrFromAddrPort(port)) // so that b gets another port
	if err == nil {                                                   // else somebody else has it, which is as good
		defer taken.Close()
	}
	b2 := start(t, 2, func(c *Config) { c.Book = b.book })
	eventually(t, "b is back at another address, in the book too", func() bool {
		p, _ := a.book.get(id(2))
		return a.sees(2) && b2.sees(1) && len(p.Gossip) > 0 && p.Gossip[0] == b2.Addr()
	})
}

// A probe to a silent peer waits for its interval. Run does not, and leaves no
// probe behind.
func TestRunEndsAmidProbes(t *testing.T) {
	const interval = 8 * time.Second
	a := start(t, 1, nil)
	b := start(t, 2, func(c *Config) {
		seeds(a)(c)
		c.Profile.ProbeInterval, c.Profile.ProbeTimeout = interval, interval-100*time.Millisecond
		c.Profile.SuspicionMult = 50
	})
	eventually(t, "they meet", func() bool { return a.sees(2) && b.sees(1) })
	a.gate.set(id(2), false) // so that b does not hear it leave
	a.stop(t)
	eventually(t, "b probes a", func() bool { return count("memberlist.(*Memberlist).probeNode") > 0 })
	begin := time.Now()
	b.stop(t)
	for count("hashicorp/memberlist") > 0 {
		if d := time.Since(begin); d > interval*3/4 { // the probe has only begun
			t.Fatalf("memberlist still runs %v after the end amid a probe", d)
		}
		runtime.Gosched()
	}
}

// count counts the goroutines that are in a function.
func count(function string) int {
	b := make([]byte, 4<<20)
	return bytes.Count(b[:runtime.Stack(b, true)], []byte(function))
}

// A node hears nothing from one that has switched it off, whoever else
// vouches for the two.
func TestGateIsALinkDown(t *testing.T) {
	b := start(t, 2, nil)
	a := start(t, 1, func(c *Config) {
		seeds(b)(c)
		g := newGate()
		g.set(id(3), false)
		c.Gate = g
	})
	c := start(t, 3, seeds(b)) // c would talk to a
	eventually(t, "b sees both, c sees both", func() bool { return b.sees(1, 3) && c.sees(1, 2) })
	eventually(t, "a sees only b", func() bool { return a.sees(2) })
	rounds := c.rounds(t, 2, 20) // c has probed in turn, so a as well
	for _, m := range c.Members() {
		if m.ID == id(1) && !m.LastHeard.IsZero() {
			t.Fatalf("a, which has switched c off, sent something to c within %d rounds", rounds)
		}
	}

	// With c's gate closed as well, neither lists the other.
	c.gate.set(id(1), false)
	c.Recheck()
	eventually(t, "c sees only b", func() bool { return c.sees(2) })

	// And up again.
	a.gate.set(id(3), true)
	a.Recheck()
	c.gate.set(id(1), true)
	c.Recheck()
	eventually(t, "all see all", func() bool { return a.sees(2, 3) && c.sees(1, 2) })
	eventually(t, "a and c talk", func() bool {
		return slices.ContainsFunc(c.Members(), func(m Neighbour) bool { return m.ID == id(1) && !m.LastHeard.IsZero() })
	})
}

// rounds waits until n has heard node `from` so many more times.
func (n *node) rounds(t *testing.T, from, times int) int {
	var last time.Time
	for i := 0; i < times; {
		eventually(t, "another probe", func() bool {
			for _, m := range n.Members() {
				if m.ID == id(from) && m.LastHeard.After(last) {
					last = m.LastHeard
					return true
				}
			}
			return false
		})
		i++
	}
	return times
}

// Two clusters that took each other for dead, and forgot each other, find
// together when the link is back, with nobody telling them.
func TestSplitHeals(t *testing.T) {
	for name, told := range map[string]bool{"Told": true, "NotTold": false} {
		t.Run(name, func(t *testing.T) {
			var all []*node
			for i := 1; i <= 4; i++ {
				all = append(all, start(t, i, seeds(all...)))
			}
			eventually(t, "four meet", func() bool {
				return all[0].sees(2, 3, 4) && all[1].sees(1, 3, 4) && all[2].sees(1, 2, 4) && all[3].sees(1, 2, 3)
			})
			split := func(up bool) { // at one moment, as when a link comes or goes
				for _, n := range all {
					n.gate.mu.Lock()
					defer n.gate.mu.Unlock()
				}
				for i, n := range all {
					for j := range all {
						if i/2 != j/2 {
							n.gate.blocked[id(j+1)] = !up
						}
					}
				}
			}
			split(false)
			apart := func() bool {
				return all[0].dead(3, 4) && all[1].dead(3, 4) && all[2].dead(1, 2) && all[3].dead(1, 2)
			}
			eventually(t, "the halves take each other for dead", apart)
			all[0].rounds(t, 2, 15) // long enough for memberlist to forget them
			split(true)
			if told {
				for _, n := range all {
					n.Recheck()
				}
			}
			begin := time.Now()
			eventually(t, "the split heals", func() bool {
				return all[0].sees(2, 3, 4) && all[1].sees(1, 3, 4) && all[2].sees(1, 2, 4) && all[3].sees(1, 2, 3)
			})
			t.Logf("healed after %v, turns every %v", time.Since(begin).Round(time.Millisecond), quick().RejoinInterval)
		})
	}
}

// dead reports whether memberlist, not only the gate, has given up on nodes.
func (n *node) dead(nodes ...int) bool {
	n.Gossip.mu.Lock()
	defer n.Gossip.mu.Unlock()
	for _, i := range nodes {
		if m := n.members[id(i)]; m == nil || m.live {
			return false
		}
	}
	return true
}

func TestWrongKeyIsIgnored(t *testing.T) {
	var log lockedBuffer
	a := start(t, 1, func(c *Config) {
		c.Profile, c.Log = calm(), slog.New(slog.NewTextHandler(&log, nil))
	})
	b := start(t, 2, with(seeds(a), calmly))
	x := start(t, 3, func(c *Config) {
		with(seeds(a, b), calmly)(c)
		c.SecretKeys = [][]byte{slices.Repeat([]byte{9}, 32)}
		c.Book = newBook(Peer{ID: id(1), Gossip: []string{a.Addr()}}, Peer{ID: id(2), Gossip: []string{b.Addr()}})
	})
	eventually(t, "a and b meet", func() bool { return a.sees(2) && b.sees(1) })
	at := netip.MustParseAddrPort(a.Addr())
	c, err := net.DialUDP("udp", nil, net.UDPAddrFromAddrPort(at))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	aead, _ := sealer(slices.Repeat([]byte{9}, 32))
	sealed := aead.Seal(append([]byte{1}, make([]byte, 12)...), make([]byte, 12), []byte("hello"), nil)
	eventually(t, "a warns of packets it cannot open", func() bool {
		c.Write(sealed)
		return strings.Contains(log.String(), "no key of this network opens")
	})
	b.rounds(t, 1, 10)
	if !x.sees() || a.knows(3) || b.knows(3) || a.book.has(id(3)) || b.book.has(id(3)) {
		t.Fatal("a node with another key got in")
	}
	eventually(t, "a and b go on", func() bool { return a.sees(2) && b.sees(1) })
}

type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(b)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

func TestKeyRotation(t *testing.T) {
	older, newer := oneKey[0], slices.Repeat([]byte{2}, 32)
	a := start(t, 1, calmly)
	b := start(t, 2, with(seeds(a), calmly))
	eventually(t, "they meet", func() bool { return a.sees(2) && b.sees(1) })
	for _, step := range []struct {
		n    *node
		keys [][]byte
	}{
		{a, [][]byte{older, newer}}, {b, [][]byte{newer, older}}, {a, [][]byte{newer, older}},
		{b, [][]byte{newer}}, {a, [][]byte{newer}},
	} {
		if err := step.n.SetKeys(step.keys); err != nil {
			t.Fatal(err)
		}
		a.rounds(t, 2, 3)
		b.rounds(t, 1, 3)
	}
	c := start(t, 3, func(c *Config) {
		with(seeds(a), calmly)(c)
		c.SecretKeys = [][]byte{newer}
	})
	eventually(t, "a newcomer with the new key gets in", func() bool { return c.sees(1, 2) })
	late := start(t, 4, seeds(a)) // still has the old key only
	a.rounds(t, 2, 5)
	if !late.sees() || a.knows(4) {
		t.Fatal("a node that has only the forgotten key got in")
	}
	eventually(t, "the others go on", func() bool { return a.sees(2, 3) })
	for _, bad := range [][][]byte{nil, {make([]byte, 31)}} {
		if a.SetKeys(bad) == nil {
			t.Fatalf("%d keys of a wrong kind were taken", len(bad))
		}
	}
}

func TestOffReportsTheBook(t *testing.T) {
	heard := time.Unix(1_700_000_000, 0).UTC()
	n := start(t, 1, func(c *Config) {
		c.Profile.Off = true
		c.Book = newBook(Peer{ID: id(2), Addrs: []string{"10.0.0.2:7411"}, LastHeard: heard}, Peer{ID: id(3)})
		c.Gate = newGate()
		c.Gate.(*gate).set(id(3), false)
	})
	eventually(t, "the allowed peer of the book is reported", func() bool { return n.sees(2) })
	if m := n.Members()[0]; m.Addrs[0] != "10.0.0.2:7411" || !m.LastHeard.Equal(heard) {
		t.Fatalf("reported %+v", m)
	}
	if n.Addr() != "" {
		t.Fatal("a socket is open though memberlist is off")
	}
}

// When the interface gets another address, the node moves there.
func TestOwnAddressChanges(t *testing.T) {
	a := start(t, 1, nil)
	var second atomic.Bool
	moving := newMoving(t, &second, a)
	eventually(t, "they meet", func() bool { return a.sees(2) && moving.sees(1) })
	second.Store(true)
	eventually(t, "a follows b to its new address", func() bool {
		m := a.Members()
		return len(m) == 1 && m[0].Addrs[0] == "127.0.0.2:7002" && moving.sees(1)
	})
}

func newMoving(t *testing.T, second *atomic.Bool, a *node) *node {
	n := &node{book: newBook(), gate: newGate(), done: make(chan error, 1), ups: make(map[identity.NodeID]bool)}
	g, err := New(Config{
		Key: key(2), SecretKeys: oneKey, Bind: "0.0.0.0:0", MeshPort: 7002, Profile: quick(),
		Book: n.book, Gate: n.gate, Seeds: []string{a.Addr()}, Log: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	g.look = 10 * time.Millisecond
	g.locate = func(port uint16) place {
		ip := netip.MustParseAddr("127.0.0.1")
		if second.Load() {
			ip = netip.MustParseAddr("127.0.0.2")
		}
		return place{at: netip.AddrPortFrom(ip, port)}
	}
	n.Gossip = g
	ctx, cancel := context.WithCancel(context.Background())
	n.cancel = cancel
	go func() { n.done <- g.Run(ctx) }()
	go n.follow()
	t.Cleanup(func() { n.stop(t) })
	return n
}

func TestNewRefuses(t *testing.T) {
	good := Config{
		Key: key(1), SecretKeys: oneKey, Bind: "127.0.0.1:0", MeshPort: 7411,
		Book: newBook(), Log: slog.New(slog.DiscardHandler),
	}
	if _, err := New(good); err != nil {
		t.Fatal(err)
	}
	for name, spoil := range map[string]func(*Config){
		"no key":         func(c *Config) { c.Key = identity.PrivateKey{} },
		"no book":        func(c *Config) { c.Book = nil },
		"no log":         func(c *Config) { c.Log = nil },
		"another's name": func(c *Config) { c.Self = id(2) },
		"bind":           func(c *Config) { c.Bind = "somewhere" },
		"mesh port":      func(c *Config) { c.MeshPort = 65536 },
		"no group key":   func(c *Config) { c.SecretKeys = nil },
		"short key":      func(c *Config) { c.SecretKeys = [][]byte{make([]byte, 16)} },
	} {
		c := good
		spoil(&c)
		if _, err := New(c); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

func TestBusyPortIsAnError(t *testing.T) {
	a := start(t, 1, nil)
	g, err := New(Config{
		Key: key(2), SecretKeys: oneKey, Bind: a.Addr(), MeshPort: 1, Book: newBook(), Log: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := g.Run(t.Context()); err == nil || !strings.Contains(err.Error(), "in use") {
		t.Fatalf("run on a busy port: %v", err)
	}
	if err := g.Run(t.Context()); err == nil {
		t.Fatal("a second Run was accepted")
	}
}
