package gossip

import (
	"sync"
	"time"
)

// foreign counts what came to our sockets and is sealed with no key of ours.
type foreign struct {
	mu   sync.Mutex
	n    uint64
	last time.Time
}

func (f *foreign) note(now time.Time) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.n++
	f.last = now
}

// Foreign returns how many packets and streams came that no key of this
// network opens since the start, and when the last did: another network uses
// the port, this node or a neighbour has an old key, or somebody makes noise.
func (g *Gossip) Foreign() (n uint64, last time.Time) {
	g.foreign.mu.Lock()
	defer g.foreign.mu.Unlock()
	return g.foreign.n, g.foreign.last
}
