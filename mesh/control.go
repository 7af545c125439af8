package mesh

import (
	"bytes"
	"time"

	"outrider/mesh/bundle"
)

const (
	maxJudging  = 256              // control objects with the judge at once
	maxLater    = 256              // control objects put off
	laterBytes  = 1 << 20          // and their payload bytes together
	laterPeriod = 10 * time.Second // between two attempts
	laterMax    = 10 * time.Minute // after which one is dropped; a neighbour will bring it again
	dailyNew    = 2                // new objects of one key that neighbours may bring in a day
)

// A controlHead is the newest object of a key.
type controlHead struct {
	slot   uint32
	number uint64
	day    Time         // begin of the day that the next two count
	today  int          // higher numbers
	swaps  int          // other headers around the same number
	undo   *controlHead // what it superseded, until it is stored
	at     ref
}

// judged takes the verdict on a control object.
func (m *Machine) judged(in Judged) {
	a := m.judging[in.Token]
	if a == nil {
		return
	}
	delete(m.judging, in.Token)
	switch in.Verdict.Code {
	case VerdictAccept:
		m.accept(a, in.Verdict)
	case VerdictSuperseded:
		m.outdated(a)
	case VerdictLater:
		m.putOff(a)
	default:
		m.forged(a)
	}
}

// accept stores a control object if it is the newest of its key.
func (m *Machine) accept(a *arrival, v Judgement) {
	head, known := m.control[v.Key]
	if known && !m.newer(a, v, head) {
		m.outdated(a)
		return
	}
	if !a.own() && !v.Urgent && known && !dayOver(m.now, head) {
		spent := head.today
		if v.Number == head.number {
			spent = head.swaps // apart, so that re-wrapping does not stop a real update
		}
		if spent >= dailyNew {
			m.putOff(a)
			return
		}
	}
	m.admit(a, v)
}

// newer orders the objects of a key alike at all nodes: by number, then by
// lifetime, then by id. Any member can put a header of its own around an
// object's payload; the order, and that control objects are never purged,
// see to it that nobody can make one die early.
func (m *Machine) newer(a *arrival, v Judgement, head controlHead) bool {
	cur := &m.idx.entries[head.slot]
	life := m.life(a.head.Header)
	switch {
	case v.Number != head.number:
		return v.Number > head.number
	case life != cur.life:
		return life > cur.life
	}
	return bytes.Compare(a.head.ID[:], cur.id[:]) < 0
}

// dayOver reports whether the day that a head counts is over.
func dayOver(now Time, h controlHead) bool { return now.Sub(h.day) >= 24*time.Hour }

// outdated remembers an object that lost, outside the set: sets hold the
// newest only and so become equal everywhere.
func (m *Machine) outdated(a *arrival) {
	m.drop(DropSuperseded)
	if !a.own() && m.idx.find(a.head.ID) == 0 && m.idx.len() < m.lim.Known && !m.idx.collides(a.head.ID) {
		e := m.newEntry(a.head.ID, a.head.Header, a.head.Size, a.head.Hop.Age)
		e.ingress, e.state = a.peer.index, superseded
		m.addEntry(e)
	}
	m.refuse(a, CodeSuperseded, ErrRefused)
}

func (m *Machine) forged(a *arrival) {
	if l := m.links[a.link]; l != nil {
		m.blame(l, DropForged)
		m.avoid(l.peer, m.idx.short(a.head.ID))
	} else {
		m.drop(DropForged)
	}
	m.refuse(a, CodeBad, ErrRefused)
}

// putOff keeps an object in memory until what it depends on may have come.
func (m *Machine) putOff(a *arrival) {
	if a.own() {
		m.refuse(a, CodeLater, ErrLater)
		return
	}
	if a.begun == 0 {
		a.begun = m.now
		m.ack(a.link, a.head.Num, CodeLater)
		a.link = noLink // it is answered
	}
	size := a.head.Size
	for _, other := range m.later {
		size += other.head.Size
	}
	if len(m.later) >= maxLater || size > laterBytes || m.now.Sub(a.begun) > laterMax {
		m.drop(DropLater)
		m.free(a.token)
		return
	}
	m.later = append(m.later, a)
	m.judgeAt = min(m.judgeAt, m.now.Add(laterPeriod))
}

// noLink marks an arrival that has been answered: no link has this number.
const noLink = LinkID(1<<64 - 1)

// rejudge asks again about everything that was put off.
func (m *Machine) rejudge() {
	m.judgeAt = never
	again := m.later
	m.later = nil
	for _, a := range again {
		if len(m.judging) >= maxJudging {
			m.later = append(m.later, a)
			m.judgeAt = m.now.Add(laterPeriod)
			continue
		}
		m.judging[a.token] = a
		m.emit(JudgeControl{a.token})
	}
}

// supersede makes an entry the newest of its key and returns what deletes the
// one before it, in the same transaction.
func (m *Machine) supersede(slot uint32, v Judgement) (ops []Op) {
	if v.Code != VerdictAccept {
		return nil
	}
	head := controlHead{slot: slot, number: v.Number, day: m.now, today: 1, at: m.idx.ref(slot)}
	if old, ok := m.control[v.Key]; ok {
		if !dayOver(m.now, old) {
			head.day, head.today, head.swaps = old.day, old.today, old.swaps
			if v.Number == old.number {
				head.swaps++
			} else {
				head.today++
			}
		}
		head.undo = &old
		delete(m.byEntry, old.slot)
		m.drop(DropSuperseded)
		m.leave(old.slot)
		ops = append(ops, DeleteBundle{m.idx.entries[old.slot].id})
		m.to(old.slot, superseded)
	}
	m.control[v.Key] = head
	m.byEntry[slot] = v.Key
	return ops
}

// restoreSuperseded undoes supersede after a failed write.
func (m *Machine) restoreSuperseded(slot uint32) {
	key, ok := m.byEntry[slot]
	if !ok || m.control[key].slot != slot {
		return
	}
	undo := m.control[key].undo
	delete(m.byEntry, slot)
	delete(m.control, key)
	if undo == nil {
		return
	}
	if old := m.idx.at(undo.at); old != nil && old.state == superseded {
		m.control[key] = *undo
		m.byEntry[undo.slot] = key
		m.to(undo.slot, held)
		m.join(undo.slot)
	}
}

// superseding is over: the newest is stored.
func (m *Machine) superseding(slot uint32) {
	if key, ok := m.byEntry[slot]; ok {
		head := m.control[key]
		head.undo = nil
		m.control[key] = head
	}
}

// waiting reports whether a bundle is with the judge or put off.
func (m *Machine) waiting(id bundle.ID) bool {
	for _, a := range m.later {
		if a.head.ID == id {
			return true
		}
	}
	for _, a := range m.judging {
		if a.head.ID == id {
			return true
		}
	}
	return false
}

// giveUpControl lets a control object go that a neighbour calls superseded or
// bad, if this agent cannot judge by itself: it would keep it for its whole
// lifetime otherwise, and its sets would never equal those of nodes that know
// better. Only the agent of a stick is blind; what a lying neighbour makes it
// forget is still at the nodes that gave it.
func (m *Machine) giveUpControl(slot uint32) {
	e := &m.idx.entries[slot]
	key, ok := m.byEntry[slot]
	if !m.cfg.Blind || !ok || e.state != held {
		return
	}
	delete(m.byEntry, slot)
	delete(m.control, key)
	m.leave(slot)
	m.to(slot, superseded)
	m.commit(func(error) {}, DeleteBundle{e.id})
}
