package sim

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"slices"
	"strings"
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

// checkAck: custody is acknowledged only for what is on disk.
func (w *World) checkAck(e *end, head []byte) {
	f, err := mesh.ParseFrame(head)
	if err != nil {
		w.fail("node %d sends a frame that does not parse: %v", e.node.index, err)
		return
	}
	for _, num := range mesh.Describe(f).Durable {
		id, ok := e.heard[num]
		if ok && !e.node.store.Holds(id) && !e.node.store.Tombed(id) && !w.faults.Flip {
			w.fail("node %d acknowledged custody of %v, which is not on its disk", e.node.index, id)
		}
	}
}

// checkArrived: handed over at most once, never after its time, never to
// somebody else.
func (w *World) checkArrived(n *node, ev mesh.Arrived) {
	m := w.sent[ev.ID]
	if m == nil {
		if !w.faults.Flip {
			w.fail("node %d was handed %v, which nobody sent", n.index, ev.ID)
		}
		return
	}
	late := w.age(m) > m.lifetime+slack
	switch {
	case late && !w.faults.Forgetful && !w.faults.Flip:
		w.fail("node %d was handed %v %v after its end", n.index, ev.ID, w.age(m)-m.lifetime)
	case n.consumed[ev.ID] && !late && !(w.faults.Small && w.faults.Kills): // evicted, and then a crash: see mesh/DESIGN.md
		w.fail("node %d was handed %v again", n.index, ev.ID)
	case !m.control && m.to != n.index:
		w.fail("node %d was handed mail of node %d", n.index, m.to)
	}
}

// delivered is called when the reader opens a message.
func (w *World) delivered(m *message, payload []byte) {
	if !bytes.Equal(payload, m.payload) {
		w.fail("message %v arrived altered", m.id)
	}
	if !m.arrived {
		m.arrived = true
		w.count.Delivered++
		w.say("delivered %v from %d to %d after %v", m.id, m.from, m.to, w.age(m))
	}
}

// checkPurged: nothing is purged but what its reader released.
func (w *World) checkPurged(n *node, ev mesh.Purged) {
	m := w.sent[ev.ID]
	if m == nil && w.faults.Flip {
		return // a flipped bit made the record of a bundle that never was
	}
	if m == nil || !w.purged[ev.ID] || m.key != ev.Key || !m.arrived {
		w.fail("node %d purged %v, which its reader did not release", n.index, ev.ID)
	}
	w.count.Purged++
}

// checkBlob: a complete file is the file.
func (w *World) checkBlob(n *node, root blob.Root) {
	for _, m := range w.messages() {
		if m.blob == nil || m.blob.Root != root {
			continue
		}
		got, ok := n.store.Blob(*m.blob)
		want, _ := w.nodes[m.from].store.Blob(*m.blob)
		if !ok || want != nil && !bytes.Equal(got, want) {
			w.fail("node %d completed blob %v wrongly", n.index, root)
		}
		if n.index == m.to && !m.arrived {
			m.arrived = true
			w.count.BlobsDone++
		}
	}
}

// messages lists what was sent, in a fixed order.
func (w *World) messages() []*message {
	list := make([]*message, 0, len(w.sent))
	for _, m := range w.sent {
		list = append(list, m)
	}
	slices.SortFunc(list, func(a, b *message) int { return bytes.Compare(a.id[:], b.id[:]) })
	return list
}

// checkNow: budgets and quotas hold at every moment.
func (w *World) checkNow() {
	budgets := map[bundle.ID]int{}
	for _, n := range w.nodes {
		if n.machine == nil {
			continue
		}
		st := n.machine.Status(n.time())
		if st.Bytes > st.MaxByte || st.BlobBytes > st.MaxBlobBytes {
			w.fail("node %d: %d of %d bytes, %d of %d blob bytes", n.index, st.Bytes, st.MaxByte, st.BlobBytes, st.MaxBlobBytes)
		}
		for r := range n.store.Records() {
			if m := w.sent[r.ID]; m != nil && m.to != n.index {
				budgets[r.ID] += int(r.Meta.Budget)
			}
		}
	}
	for id, sum := range budgets {
		if m := w.sent[id]; !w.faults.Flip && !w.faults.Replay && sum > int(routing.Copies(len(m.payload))) {
			w.fail("%d replicas of %v, whose budget is %d", sum, id, routing.Copies(len(m.payload)))
		}
	}
}

// checkEnd: after the network healed, everything alive is where it belongs.
func (w *World) checkEnd() {
	w.checkNow()
	for _, m := range w.messages() {
		switch {
		case !w.alive(m) || w.faults.Small || m.control:
		case !m.arrived:
			w.fail("message %v from %d to %d (%d bytes, blob %v) was not delivered in %v: %s",
				m.id, m.from, m.to, len(m.payload), m.blob != nil, w.age(m), w.where(m))
		case len(m.payload) <= routing.FloodMax:
			w.checkEverywhere(m)
		}
	}
	for _, n := range w.nodes {
		w.checkTokens(n)
		if !w.faults.Small {
			w.checkControl(n)
		}
	}
}

// where tells, for a message that did not arrive, how it stands at each node.
func (w *World) where(m *message) string {
	var b strings.Builder
	for _, n := range w.nodes {
		x := n.machine.Explain(n.time(), m.id)
		if x.State != "unknown" {
			fmt.Fprintf(&b, "\n    node %d: %s, budget %d, %s", n.index, x.State, x.Budget, x.Why)
		}
	}
	return b.String()
}

// checkEverywhere: what floods is, or is known to be purged, at every node.
func (w *World) checkEverywhere(m *message) {
	for _, n := range w.nodes {
		if n.store.Tombed(m.id) || n.store.Holds(m.id) && !w.purged[m.id] {
			continue
		}
		w.fail("node %d: flooded message %v (purged %v) is not there: %+v", n.index, m.id, w.purged[m.id], n.machine.Explain(n.time(), m.id))
		return
	}
}

// checkControl: every node knows the newest of every control object.
func (w *World) checkControl(n *node) {
	for _, m := range w.messages() {
		if !m.control || !m.accepted {
			continue
		}
		key, number := [16]byte(m.payload), binary.BigEndian.Uint64(m.payload[32:])
		if n.applied[key] < number {
			w.fail("node %d knows version %d of control object %x, not %d of %v: %+v", n.index, n.applied[key], key[:2], number, m.id, n.machine.Explain(n.time(), m.id))
			return
		}
	}
}

// checkTokens: every payload handed to the machine was given back or is
// still needed.
func (w *World) checkTokens(n *node) {
	st := n.machine.Status(n.time())
	want := st.Partials + st.LeafParts + st.Put + st.Judging
	for _, c := range n.commits {
		for _, op := range c.Ops {
			if p, ok := op.(mesh.PutBundle); ok && p.Token != 0 {
				want++
			}
		}
	}
	for _, o := range n.blobOps {
		switch o.(type) {
		case mesh.WriteLeaf, mesh.WriteProof:
			want++
		}
	}
	if len(n.payloads) != want {
		w.fail("node %d: %d payloads kept, %d needed", n.index, len(n.payloads), want)
	}
}
