package node

import (
	"slices"
	"sync"

	"outrider/mesh/identity"
)

// A gate is the operator's switch for single neighbours: refusal at this
// node's own listener and dialler, in gossip and in the mesh alike. It
// survives restarts.
type gate struct {
	home *Home

	mu      sync.RWMutex
	blocked map[identity.NodeID]bool
}

func newGate(h *Home) *gate {
	g := &gate{home: h, blocked: map[identity.NodeID]bool{}}
	for _, id := range h.blockedNodes() {
		g.blocked[id] = true
	}
	return g
}

// Allowed reports whether this node may talk to another.
func (g *gate) Allowed(id identity.NodeID) bool {
	g.mu.RLock()
	defer g.mu.RUnlock()
	return !g.blocked[id]
}

// Blocked lists the nodes the gate is shut for.
func (g *gate) Blocked() []identity.NodeID {
	g.mu.RLock()
	defer g.mu.RUnlock()
	out := make([]identity.NodeID, 0, len(g.blocked))
	for id := range g.blocked {
		out = append(out, id)
	}
	slices.SortFunc(out, identity.NodeID.Compare)
	return out
}

// set opens or shuts the gate; the change is durable when it returns nil.
func (g *gate) set(id identity.NodeID, up bool) error {
	if err := g.home.SetBlocked(id, !up); err != nil {
		return err
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if up {
		delete(g.blocked, id)
	} else {
		g.blocked[id] = true
	}
	return nil
}
