package sim

import (
	"bytes"
	"time"

	"outrider/mesh"
	"outrider/mesh/blob"
	"outrider/mesh/bundle"
	"outrider/mesh/routing"
)

// slack is by how much ages may be off at honest nodes with honest clocks:
// each hop rounds to seconds, and clocks drift by a thousandth.
const slack = time.Minute

func (w *World) age(m *message) time.Duration { return w.now - m.at }

// alive reports whether a message has so much of its lifetime left that no
// node can think it expired.
func (w *World) alive(m *message) bool {
	return m.accepted && w.age(m)+slack+m.lifetime/500 < m.lifetime
}

// checkAccepted: accepted means on disk.
func (w *World) checkAccepted(m *message) {
	n := w.nodes[m.from]
	if !n.store.Holds(m.id) && !n.store.Tombed(m.id) && !m.control {
		w.fail("node %d accepted %v, which is not on its disk", m.from, m.id)
	}
}

// checkBoot: a crash loses nothing that was accepted here.
func (w *World) checkBoot(n *node) {
	for _, m := range w.sent {
		if m.from == n.index && w.alive(m) && !m.control && !n.store.Holds(m.id) && !w.purged[m.id] {
			w.fail("node %d lost %v, which it had accepted, in a crash", n.index, m.id)
		}
	}
}

// checkSent: custody is acknowledged only for what is on disk.
func (w *World) checkSent(e *end, frame []byte) {
	for _, id := range mesh.AckedDurable(frame, e.node.machine, e.id) {
		if !e.node.store.Holds(id) && !e.node.store.Tombed(id) {
			w.fail("node %d acknowledged custody of %v, which is not on its disk", e.node.index, id)
		}
	}
}
