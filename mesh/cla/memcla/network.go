// Package memcla is a convergence layer in memory: links with rate, delay,
// jitter and cuts, networks with partitions, all chosen by a seed that a
// failing test prints. It works inside testing/synctest, where two days of
// it take microseconds.
//
// A link here keeps the promises of cla.Link (clatest runs against it):
// whatever goes wrong cuts the link as a whole. Only Options.Hostile loses,
// repeats, swaps or flips single frames, for tests of what stands above.
package memcla

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"outrider/mesh/cla"
	"outrider/mesh/identity"
)

// ErrNotRunning is returned by Dial of a layer whose Run is not in progress.
var ErrNotRunning = errors.New("memcla: layer is not running")

// A Network is a set of nodes that can reach one another in memory.
type Network struct {
	o    Options
	seed uint64

	mu     sync.Mutex
	layers map[identity.NodeID]*Layer
	links  map[pair]*Link // the newest, either end of it
	down   map[pair]bool
	made   uint64 // links so far, mixed into their seeds
}

// A pair is two nodes in order.
type pair struct{ lo, hi identity.NodeID }

func pairOf(a, b identity.NodeID) pair {
	if a.Compare(b) > 0 {
		a, b = b, a
	}
	return pair{a, b}
}

// NewNetwork returns a network whose links all have the given options.
func NewNetwork(seed uint64, o Options) *Network {
	return &Network{
		o: o, seed: seed,
		layers: make(map[identity.NodeID]*Layer),
		links:  make(map[pair]*Link),
		down:   make(map[pair]bool),
	}
}

// Layer returns the convergence layer of node id, made on first use.
func (n *Network) Layer(id identity.NodeID) *Layer {
	n.mu.Lock()
	defer n.mu.Unlock()
	l := n.layers[id]
	if l == nil {
		l = &Layer{net: n, id: id, ready: make(chan struct{}), serving: make(map[identity.NodeID]chan struct{})}
		n.layers[id] = l
	}
	return l
}

// SetLink switches the path between a and b. Down cuts a live link and makes
// dials fail.
func (n *Network) SetLink(a, b identity.NodeID, up bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.set(pairOf(a, b), up)
}

func (n *Network) set(p pair, up bool) {
	n.down[p] = !up
	if l := n.links[p]; l != nil && !up {
		l.Cut()
	}
}

// Cut breaks the live link between a and b, if any; they may dial again.
func (n *Network) Cut(a, b identity.NodeID) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if l := n.links[pairOf(a, b)]; l != nil {
		l.Cut()
	}
}

// Partition leaves paths only within the groups. A node in no group is alone.
func (n *Network) Partition(groups ...[]identity.NodeID) {
	n.mu.Lock()
	defer n.mu.Unlock()
	group := make(map[identity.NodeID]int)
	for i, g := range groups {
		for _, id := range g {
			group[id] = i + 1
		}
	}
	for a := range n.layers {
		for b := range n.layers {
			if a.Compare(b) < 0 {
				n.set(pair{a, b}, group[a] != 0 && group[a] == group[b])
			}
		}
	}
}

// Heal opens all paths again.
func (n *Network) Heal() {
	n.mu.Lock()
	defer n.mu.Unlock()
	clear(n.down)
}

// connect makes a link from a to b, or finds that there is one.
func (n *Network) connect(a, b *Layer) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	p := pairOf(a.id, b.id)
	if l := n.links[p]; l != nil && !l.gone() {
		return nil
	}
	if n.down[p] || !b.running() {
		return fmt.Errorf("memcla: dial %s: %w", b.id.Short(), cla.ErrUnreachable)
	}
	if !a.running() {
		return ErrNotRunning
	}
	n.made++
	la, lb := Pipe(a.id, b.id, n.seed+n.made, n.o)
	n.links[p] = la
	b.accept(lb)
	a.accept(la)
	return nil
}

// A Layer is one node's end of a Network. It implements cla.Layer.
type Layer struct {
	net *Network
	id  identity.NodeID

	mu      sync.Mutex
	ready   chan struct{}   // closed while Run is in progress
	ctx     context.Context // of Run, nil when it is not in progress
	serve   func(context.Context, cla.Link)
	serving map[identity.NodeID]chan struct{} // closed when serve of the newest link has returned
	wg      sync.WaitGroup
}

var _ cla.Layer = (*Layer)(nil)

// Run implements cla.Layer. It may be called again after it has returned, as
// a restarted node.
func (l *Layer) Run(ctx context.Context, serve func(context.Context, cla.Link)) error {
	l.mu.Lock()
	if l.ctx != nil {
		l.mu.Unlock()
		return errors.New("memcla: run: already running")
	}
	l.ctx, l.serve = ctx, serve
	close(l.ready)
	l.mu.Unlock()

	<-ctx.Done()
	l.mu.Lock()
	l.ctx = nil
	l.ready = make(chan struct{})
	l.mu.Unlock()
	l.wg.Wait()
	return nil
}

// Ready returns a channel that is closed as soon as Run is in progress.
func (l *Layer) Ready() <-chan struct{} {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.ready
}

func (l *Layer) running() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.ctx != nil && l.ctx.Err() == nil
}

// Dial implements cla.Layer. Addresses mean nothing in memory.
func (l *Layer) Dial(ctx context.Context, peer identity.NodeID, _ []string) error {
	if !l.running() {
		return ErrNotRunning
	}
	l.net.mu.Lock()
	other := l.net.layers[peer]
	l.net.mu.Unlock()
	if d := 2 * l.net.o.Delay; d > 0 {
		t := time.NewTimer(d)
		defer t.Stop()
		select {
		case <-t.C:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	if other == nil || other == l {
		return fmt.Errorf("memcla: dial %s: %w", peer.Short(), cla.ErrUnreachable)
	}
	return l.net.connect(l, other)
}

// accept serves a new link, after the one before to the same peer.
func (l *Layer) accept(link *Link) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.ctx == nil {
		link.Cut()
		return
	}
	ctx, serve := l.ctx, l.serve
	before, done := l.serving[link.peer], make(chan struct{})
	l.serving[link.peer] = done
	l.wg.Go(func() {
		if before != nil {
			<-before
		}
		stop := context.AfterFunc(ctx, link.Cut)
		defer stop()
		serve(ctx, link)
		link.Close()
		close(done)
		link.awaitEnd()
	})
}

// awaitEnd gives the other side a moment to take what was sent, then ends the
// link whether it did or not.
func (l *Link) awaitEnd() {
	ctx, cancel := context.WithTimeout(context.Background(), linger)
	defer cancel()
	l.m.mu.Lock()
	defer l.m.mu.Unlock()
	for !l.m.dead {
		if l.m.wait(ctx, -1) != nil {
			l.m.end()
		}
	}
}

// linger is how long a closed link waits for its last frames to be taken.
const linger = 5 * time.Second
