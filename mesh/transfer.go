package mesh

import (
	"cmp"
	"slices"
	"time"

	"outrider/mesh/bundle"
	"outrider/mesh/routing"
)

// queueFor lets a bundle or tombstone wait for a link. A full queue forgets
// it: the next reconciliation finds it again.
func (m *Machine) queueFor(l *link, slot uint32) {
	e := &m.idx.entries[slot]
	level := routing.LevelOf(e.served(), e.is(flagUrgent))
	if len(l.queue[level]) >= maxQueued {
		l.respray = l.respray || m.idx.scope(e) == routing.Spray
		return
	}
	reads := l.peer.serves(m.tags.hash(m, e.tag))
	left := time.Duration(e.left(m.now)) * time.Second
	l.queue[level].push(ranked{routing.Rank(reads, e.state == purged, int(e.size), left, e.seq), m.idx.ref(slot)})
	l.dirty = true
}

// want queues what a neighbour has asked for, whatever we believed it had.
func (m *Machine) want(l *link, slot uint32) {
	m.idx.entries[slot].has &^= l.bit
	m.queueFor(l, slot)
}

// pump sends as long as the window is open: FLASH, then what reconciles, then
// by precedence, then leaves.
func (m *Machine) pump(l *link) {
	if !l.ready {
		return
	}
	for l.flashRoom() {
		if m.sendLevel(l, routing.LevelFlash) {
			continue
		}
		if !l.room() || !m.sendNext(l) {
			break
		}
	}
	m.noteQuiet(l)
}

func (m *Machine) sendNext(l *link) bool {
	if m.sendControl(l) {
		return true
	}
	for level := routing.LevelUrgent; level < routing.Levels; level++ {
		if m.sendLevel(l, level) {
			return true
		}
	}
	return m.sendLeaf(l)
}

// sendControl sends one frame of a reconciliation.
func (m *Machine) sendControl(l *link) bool {
	if len(l.ctl) > 0 {
		m.sendCounted(l, appendFrame(nil, l.ctl[0]), nil, 0, loadOf{})
		l.ctl = l.ctl[1:]
		return true
	}
	return m.sendOffer(l)
}

// sendLevel sends one frame of a level: the rest of what is begun, or the
// next that waits.
func (m *Machine) sendLevel(l *link, level routing.Level) bool {
	if o := l.active[level]; o != nil {
		return m.sendMore(l, o)
	}
	if len(l.unacked) >= maxUnacked {
		return false
	}
	if list := l.reserved[level]; len(list) > 0 {
		l.reserved[level] = list[1:]
		if e := m.idx.at(list[0].at); e != nil && e.state == held {
			m.sendBundle(l, list[0], e)
			return true
		}
	}
	for len(l.queue[level]) > 0 && l.pledged < maxReserving {
		at := l.queue[level].pop().at
		e := m.idx.at(at)
		if e == nil || e.has&l.bit != 0 || e.left(m.now) <= 0 {
			continue
		}
		o := &outgoing{at: at, id: e.id, level: level, size: int(e.size)}
		switch {
		case e.state == purged && l.kept[at] == keptPicked && e.is(flagKept):
			m.sendBundle(l, o, e)
			return true
		case e.state == purged:
			m.sendPurge(l, o, e)
			return true
		case e.state != held:
		case m.idx.scope(e) == routing.Spray:
			m.reserve(l, o, e)
		default:
			o.give = 0
			m.sendBundle(l, o, e)
			return true
		}
	}
	return false
}

func (m *Machine) number(l *link, o *outgoing, e *entry) {
	l.num++
	o.num = l.num
	l.unacked[o.num] = o
	e.has |= l.bit
	m.count.Sent++
}

func (m *Machine) sendPurge(l *link, o *outgoing, e *entry) {
	o.purged = true
	m.number(l, o, e)
	head := appendNum([]byte{typePurge}, o.num)
	m.sendCounted(l, head, LoadTombstone{ID: e.id, Age: e.age(m.now)}, 0, loadOf{num: o.num})
}

// sendBundle begins a transfer: in one frame if it fits, at the offset the
// neighbour told if it has a part.
func (m *Machine) sendBundle(l *link, o *outgoing, e *entry) {
	m.number(l, o, e)
	chunk := l.chunk()
	o.next = min(l.hints[o.id], o.size)
	delete(l.hints, o.id)
	if o.next == o.size {
		o.next = 0
	}
	load := LoadBundle{ID: o.id, Num: o.num, Age: e.age(m.now), Budget: o.give, Offset: o.next}
	if o.size <= chunk && o.next == 0 {
		o.next, load.End = o.size, o.size
		m.sendCounted(l, nil, load, o.size, loadOf{num: o.num})
		return
	}
	load.Begin, load.End = true, min(o.next+chunk, o.size)
	m.sendCounted(l, nil, load, load.End-load.Offset, loadOf{num: o.num})
	o.begun, o.next = true, load.End
	if o.next < o.size {
		l.active[o.level] = o
	}
}

func (m *Machine) sendMore(l *link, o *outgoing) bool {
	e := m.idx.at(o.at)
	if e == nil || !e.onDisk() || e.state == purged && l.kept[o.at] != keptPicked {
		l.active[o.level] = nil
		delete(l.unacked, o.num)
		m.send(l, abortFrame{o.num})
		return true
	}
	end := min(o.next+l.chunk(), o.size)
	head := appendFrame(nil, dataFrame{Num: o.num, Offset: o.next})
	m.sendCounted(l, head, LoadPayload{ID: o.id, Offset: o.next, End: end}, end-o.next, loadOf{num: o.num})
	if o.next = end; end == o.size {
		l.active[o.level] = nil
	}
	return true
}

// unsent handles a frame that could not be filled: what it names was deleted
// between the decision and the read, or the store lost it.
func (m *Machine) unsent(in Unsent) {
	l := m.links[in.Link]
	if l == nil || len(in.Head) == 0 {
		return
	}
	r := &reader{data: in.Head[1:]}
	num := r.num(1 << 62)
	leaves := in.Head[0] == typeLeaf || in.Head[0] == typeProof
	m.uncount(l, loadOf{leaves, num})
	if leaves {
		m.leafUnsent(l, num)
		return
	}
	o := l.unacked[num]
	if o == nil {
		return
	}
	delete(l.unacked, num)
	if l.active[o.level] == o {
		l.active[o.level] = nil
	}
	m.send(l, abortFrame{num})
	e := m.idx.at(o.at)
	switch {
	case e == nil:
	case in.Gone && e.state == held && !o.purged:
		m.drop(DropStore)
		m.unblob(o.at.slot)
		m.removeEntry(o.at.slot)
	default:
		e.has &^= l.bit
		m.checkIn(l, l.pace.settle)
	}
}

// An answer waits to be sent in an ACK.
type answer struct {
	num  uint64
	code Code
}

// ack answers a transfer if its link is still there.
func (m *Machine) ack(id LinkID, num uint64, code Code) {
	if l := m.links[id]; l != nil && !l.closed {
		l.acks = append(l.acks, answer{num, code})
		l.dirty = true
	}
}

// flushAcks tells what has gathered: codes at once, received frames every so
// many or after a short while. While the store lags behind, no more window is
// given.
func (m *Machine) flushAcks(l *link) {
	if l.closed {
		return
	}
	due := l.got-l.gotTold >= max(l.remote.AckEvery, 1) || m.now >= l.creditAt
	if m.writing >= maxPending {
		due = false
	}
	if !due && len(l.acks) == 0 {
		if l.got != l.gotTold && l.creditAt == never {
			l.creditAt = m.now.Add(l.pace.credit)
		}
		return
	}
	if m.writing < maxPending {
		l.gotTold, l.creditAt = l.got, never
	} else if l.creditAt <= m.now {
		l.creditAt = never // spreadWindow sends it when the store has caught up
	}
	runs := ackRuns(l.acks)
	l.acks = l.acks[:0]
	for first := true; first || len(runs) > 0; first = false {
		n := min(len(runs), maxRuns)
		m.send(l, ackFrame{Got: l.gotTold, Runs: runs[:n]})
		runs = runs[n:]
	}
}

// ackRuns joins neighbouring answers of one code.
func ackRuns(list []answer) (runs []ackRun) {
	slices.SortFunc(list, func(a, b answer) int { return cmp.Compare(a.num, b.num) })
	for _, a := range list {
		if n := len(runs); n > 0 {
			last := &runs[n-1]
			if a.num < last.First+last.Count {
				continue // answered twice; the first counts
			}
			if a.code == last.Code && a.num == last.First+last.Count {
				last.Count++
				continue
			}
		}
		runs = append(runs, ackRun{First: a.num, Count: 1, Code: a.code})
	}
	return runs
}

// receivedAck takes credit and answers.
func (m *Machine) receivedAck(l *link, f ackFrame) {
	m.credit(l, f.Got)
	l.dirty = true
	for _, run := range f.Runs {
		if run.First+run.Count > l.num+1 {
			m.blame(l, DropUnexpected)
			return
		}
		for num := run.First; num < run.First+run.Count; num++ {
			if o := l.unacked[num]; o != nil {
				delete(l.unacked, num)
				m.answeredTransfer(l, o, run.Code)
			}
		}
	}
}

func (m *Machine) answeredTransfer(l *link, o *outgoing, code Code) {
	if l.active[o.level] == o {
		l.active[o.level] = nil
	}
	e := m.idx.at(o.at)
	if e == nil {
		return
	}
	if code >= codes {
		code = CodeFailed // of a later version
	}
	switch code {
	case CodeDurable:
		if !o.purged {
			m.carried(l, e)
		}
		return
	case CodeRestart:
		m.refund(o)
		m.want(l, o.at.slot)
		return
	case CodeSuperseded, CodeBad:
		m.giveUpControl(o.at.slot)
	case CodeLater, CodeBusy, CodeFailed:
		e.has &^= l.bit // a later comparison tries again
		l.respray = l.respray || o.spray
		m.checkIn(l, l.pace.settle)
	}
	m.refund(o)
}

// carried counts a neighbour that accepted custody.
func (m *Machine) carried(l *link, e *entry) {
	l.backoff = l.pace.settle
	m.count.Payload[classOf(l)].SentBytes += uint64(e.size)
	if e.replicas < 255 {
		e.replicas++
	}
	if e.is(flagOwn) {
		m.event(Carried{ID: e.id, Peer: l.peer.id, Replicas: int(e.replicas), AtReader: l.peer.serves(m.tags.hash(m, e.tag))})
	}
}

// receivedPartial takes a neighbour's offsets.
func (m *Machine) receivedPartial(l *link, f partialFrame) {
	for _, p := range f.Items {
		if len(l.hints) >= maxHints {
			return
		}
		l.hints[bundle.ID(p.ID)] = p.Have
	}
}
