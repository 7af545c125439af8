package core

import "sync"

// A gate lets bytes pass or holds them back.
type gate struct {
	mu     sync.Mutex
	turned *sync.Cond
	open   bool
	left   int64 // bytes until it shuts, if counted
	counts bool
	ended  bool
}

func (g *gate) init() {
	g.turned = sync.NewCond(&g.mu)
	g.open = true
}

func (g *gate) set(open bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.open, g.counts = open, false
	g.turned.Broadcast()
}

func (g *gate) limit(bytes int64) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.open, g.counts, g.left = true, true, bytes
	g.turned.Broadcast()
}

func (g *gate) shut() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return !g.open
}

func (g *gate) close() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.ended = true
	g.turned.Broadcast()
}

// pass waits until n bytes may pass; false when the gate is gone.
func (g *gate) pass(n int64) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	for !g.open && !g.ended {
		g.turned.Wait()
	}
	if g.counts && n > 0 {
		if g.left -= n; g.left < 0 {
			g.open, g.counts = false, false
		}
	}
	return !g.ended
}
