package gossip

import (
	"context"
	"log/slog"
	"slices"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

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

// memBook is a book in memory.
type memBook struct {
	mu    sync.Mutex
	peers map[identity.NodeID]Peer
}

func newBook(peers ...Peer) *memBook {
	b := &memBook{peers: make(map[identity.NodeID]Peer)}
	for _, p := range peers {
		b.peers[p.ID] = p
	}
	return b
}

func (b *memBook) Peers() ([]Peer, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	var all []Peer
	for _, p := range b.peers {
		all = append(all, p)
	}
	return all, nil
}

func (b *memBook) Remember(p Peer) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.peers[p.ID] = p
	return nil
}

func (b *memBook) get(id identity.NodeID) (p Peer, ok bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	p, ok = b.peers[id]
	return p, ok
}

func (b *memBook) has(id identity.NodeID) bool {
	_, ok := b.get(id)
	return ok
}

// gate blocks peers.
type gate struct {
	mu      sync.Mutex
	blocked map[identity.NodeID]bool
}

func newGate() *gate { return &gate{blocked: make(map[identity.NodeID]bool)} }

func (g *gate) Allowed(id identity.NodeID) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return !g.blocked[id]
}

func (g *gate) set(id identity.NodeID, allowed bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.blocked[id] = !allowed
}

func key(n int) identity.PrivateKey { return identity.PrivateKeyFromSeed([32]byte{byte(n), 7}) }
func id(n int) identity.NodeID      { return key(n).Public().NodeID() }

// quick is a profile that notices everything within a second or two.
func quick() Profile {
	return Profile{
		ProbeInterval: 200 * time.Millisecond, ProbeTimeout: 100 * time.Millisecond, IndirectChecks: 2,
		SuspicionMult: 2, SuspicionMaxMul: 2, AwarenessMax: 2,
		GossipInterval: 50 * time.Millisecond, GossipNodes: 3, RetransmitMult: 3,
		GossipToTheDeadTime: 500 * time.Millisecond, PacketBytes: 1400, StreamTimeout: 2 * time.Second,
		RejoinInterval: 200 * time.Millisecond, RejoinMax: time.Second,
	}
}

// calm is a profile that probes as often but takes nobody for dead whom a busy
// machine keeps from answering.
func calm() Profile {
	p := quick()
	p.SuspicionMult, p.StreamTimeout = 100, 20*time.Second
	return p
}

func calmly(c *Config) { c.Profile = calm() }

var oneKey = [][]byte{slices.Repeat([]byte{1}, 32)}

// node is a Gossip that runs until the test ends.
type node struct {
	*Gossip
	book   *memBook
	gate   *gate
	cancel context.CancelFunc
	done   chan error

	mu  sync.Mutex
	ups map[identity.NodeID]bool // as Changes told
}

func start(t testing.TB, n int, change func(*Config)) *node {
	t.Helper()
	nd := &node{book: newBook(), gate: newGate(), done: make(chan error, 1), ups: make(map[identity.NodeID]bool)}
	c := Config{
		Self: id(n), Key: key(n), SecretKeys: oneKey, Bind: "127.0.0.1:0", MeshPort: 7000 + n,
		Profile: quick(), Book: nd.book, Gate: nd.gate, Log: slog.New(slog.DiscardHandler),
	}
	if change != nil {
		change(&c)
	}
	if b, ok := c.Book.(*memBook); ok {
		nd.book = b
	}
	if g, ok := c.Gate.(*gate); ok {
		nd.gate = g
	}
	g, err := New(c)
	if err != nil {
		t.Fatal(err)
	}
	nd.Gossip = g
	ctx, cancel := context.WithCancel(context.Background())
	nd.cancel = cancel
	go func() { nd.done <- g.Run(ctx) }()
	go nd.follow()
	select {
	case <-g.Ready():
	case err := <-nd.done:
		t.Fatalf("run: %v", err)
	}
	t.Cleanup(func() { nd.stop(t) })
	return nd
}

func (n *node) follow() {
	for c := range n.Changes() {
		n.mu.Lock()
		n.ups[c.Neighbour.ID] = c.Up
		n.mu.Unlock()
	}
}

func (n *node) stop(t testing.TB) {
	n.cancel()
	select {
	case err := <-n.done:
		if err != nil {
			t.Errorf("run: %v", err)
		}
		n.done <- nil
	case <-time.After(patience):
		t.Error("run did not return")
	}
}

// knows reports whether Members has a node.
func (n *node) knows(k int) bool {
	return slices.ContainsFunc(n.Members(), func(m Neighbour) bool { return m.ID == id(k) })
}

// hears reports whether a node is around and was heard.
func (n *node) hears(k int) bool {
	return slices.ContainsFunc(n.Members(), func(m Neighbour) bool { return m.ID == id(k) && !m.LastHeard.IsZero() })
}

// sees reports whether both Members and Changes have exactly these nodes.
func (n *node) sees(want ...int) bool {
	got := n.Members()
	if len(got) != len(want) {
		return false
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	up := 0
	for _, u := range n.ups {
		if u {
			up++
		}
	}
	for _, w := range want {
		if !n.ups[id(w)] || !slices.ContainsFunc(got, func(m Neighbour) bool { return m.ID == id(w) }) {
			return false
		}
	}
	return up == len(want)
}

// eventually polls until ok, since real sockets and timers are involved.
func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	end := time.After(patience)
	for !ok() {
		select {
		case <-tick.C:
		case <-end:
			t.Fatalf("never happened: %s", what)
		}
	}
}
