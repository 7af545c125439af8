package sim

import (
	"math/rand/v2"
	"time"

	"outrider/mesh"
	"outrider/mesh/bundle"
	"outrider/mesh/cla"
)

// A kind of link.
type kind struct {
	class cla.Class
	rate  int // bytes per second
	delay time.Duration
}

// The first two are fit for the healed network.
var kinds = []kind{
	{cla.LAN, 5_000_000, time.Millisecond},
	{cla.WiFi, 250_000, 5 * time.Millisecond},
	{cla.WiFi, 25_000, 30 * time.Millisecond},
	{cla.Radio, 8_000, 75 * time.Millisecond},
	{cla.Radio, 1_200, 300 * time.Millisecond},
}

// A contact is a link between two nodes while it lasts.
type contact struct {
	w     *World
	key   [2]int
	ends  [2]*end
	kind  kind
	rand  *rand.Rand
	ended bool
}

// An end is one node's side of a contact, with what it is sending.
type end struct {
	c      *contact
	node   *node
	other  *end
	id     mesh.LinkID
	boots  int // of the node, when the contact began
	queue  []mesh.Send
	busy   bool
	past   [][]byte // frames that a replaying neighbour repeats
	down   bool     // the node knows
	opened bool
	heard  map[uint64]bundle.ID // transfers that came, by number
}

// meet opens a contact, for a length or (0) for good. Nodes that are off,
// apart or already in contact do not meet.
func (w *World) meet(a, b int, k kind, length time.Duration, seed uint64) {
	key := [2]int{min(a, b), max(a, b)}
	x, y := w.nodes[key[0]], w.nodes[key[1]]
	if w.pairs[key] != nil || x.machine == nil || y.machine == nil || w.apart(a, b) {
		return
	}
	c := &contact{w: w, key: key, kind: k, rand: rand.New(rand.NewPCG(seed, 1))}
	w.pairs[key] = c
	w.count.Contacts++
	for i, n := range []*node{x, y} {
		w.lastID++
		c.ends[i] = &end{c: c, node: n, id: w.lastID, boots: n.boots, heard: map[uint64]bundle.ID{}}
		n.links[w.lastID] = c.ends[i]
	}
	c.ends[0].other, c.ends[1].other = c.ends[1], c.ends[0]
	for i, e := range c.ends {
		w.after(time.Duration(i)*k.delay, func() { e.open() })
	}
	if length > 0 {
		w.after(length, func() { c.cut(5 * time.Second) })
	}
}

func (e *end) open() {
	if e.c.ended || e.down || e.node.boots != e.boots || e.node.machine == nil {
		return
	}
	e.opened = true
	cursor, _ := e.node.store.Value(mesh.CursorKey(e.other.node.id))
	e.node.step(mesh.PeerUp{
		Link: e.id, Peer: e.other.node.id, Cursor: cursor,
		Info: cla.Info{Class: e.c.kind.class, RateBps: uint64(e.c.kind.rate) * 8},
	})
}

// cut ends a contact. Each side learns of it within late.
func (c *contact) cut(late time.Duration) {
	if c.ended {
		return
	}
	c.ended = true
	delete(c.w.pairs, c.key)
	for _, e := range c.ends {
		e.queue = nil
		if late == 0 {
			e.close()
			continue
		}
		c.w.after(time.Duration(c.rand.Int64N(int64(late))), e.close)
	}
}

func (e *end) close() {
	if e.down {
		return
	}
	e.down = true
	if e.node.boots == e.boots && e.node.machine != nil {
		delete(e.node.links, e.id)
		if e.opened {
			e.node.step(mesh.PeerDown{Link: e.id})
		}
	}
}

// send queues a frame; one is on the air at a time.
func (e *end) send(o mesh.Send) {
	if e.c.ended {
		return
	}
	if o.Load == nil {
		e.c.w.checkAck(e, o.Head)
	}
	e.queue = append(e.queue, o)
	if !e.busy {
		e.transmit()
	}
}

// transmit completes the next frame and puts it on the air.
func (e *end) transmit() {
	e.busy = false
	if e.c.ended || len(e.queue) == 0 || e.node.boots != e.boots || e.node.machine == nil {
		return
	}
	o := e.queue[0]
	e.queue = e.queue[1:]
	frame, err := e.node.fill(o)
	if err != nil {
		e.busy = true
		e.c.w.after(0, func() {
			if e.node.boots == e.boots {
				e.node.step(mesh.Unsent{Link: e.id, Head: mesh.UnsentHead(o), Gone: true})
			}
			e.transmit()
		})
		return
	}
	w := e.c.w
	w.count.Frames++
	w.count.FrameBytes += int64(len(frame))
	w.note(e.node.index, 's', frame)
	air := time.Duration(len(frame)+40) * time.Second / time.Duration(e.c.kind.rate)
	e.busy = true
	w.after(air, e.transmit)
	w.after(air+e.c.kind.delay, func() { e.other.hear(frame) })
}

// hear delivers a frame, and what a hostile neighbour makes of it.
func (e *end) hear(frame []byte) {
	w, r := e.c.w, e.c.rand
	if e.c.ended || e.down || !e.opened {
		return
	}
	if w.faults.Replay && !w.healed && r.IntN(200) == 0 {
		e.take(frame)
		if len(e.past) > 0 {
			e.take(e.past[r.IntN(len(e.past))])
		}
	}
	if w.faults.Replay && len(e.past) < 16 {
		e.past = append(e.past, frame)
	}
	if w.faults.Flip && !w.healed && r.IntN(300) == 0 {
		frame = append([]byte(nil), frame...)
		frame[r.IntN(len(frame))] ^= 1 << r.IntN(8)
		if r.IntN(4) == 0 {
			frame = frame[:r.IntN(len(frame))+1]
		}
	}
	e.take(frame)
}

func (e *end) take(frame []byte) {
	n := e.node
	if e.down || n.boots != e.boots || n.machine == nil || len(frame) == 0 {
		return
	}
	f, err := mesh.ParseFrame(frame)
	if err != nil {
		n.step(mesh.Malformed{Link: e.id, Type: frame[0]})
		return
	}
	if d := mesh.Describe(f); d.ID != (bundle.ID{}) && d.Kind != bundle.KindControl {
		e.heard[d.Num] = d.ID
	}
	n.step(mesh.Received{Link: e.id, Frame: f, Token: n.keep(mesh.Body(f))})
}
