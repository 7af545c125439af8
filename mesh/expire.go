package mesh

import (
	"time"

	"outrider/mesh/bundle"
)

// expire ends lifetimes. It scans the whole index, which takes milliseconds
// at its limit, at most once a second and only when something is due.
func (m *Machine) expire() {
	now := m.now.secs()
	next := uint32(1<<32 - 1)
	var ops []Op
	for slot, e := range m.idx.all() {
		if e.deadline > now {
			next = min(next, e.deadline)
			continue
		}
		if e.state == expired {
			if now-e.deadline < graceSecs {
				next = min(next, e.deadline+graceSecs)
				continue
			}
			if e.is(flagKept) {
				ops = append(ops, DeleteBundle{e.id})
			}
			m.removeEntry(slot)
			continue
		}
		ops = append(ops, m.expireOne(slot)...)
		if e.state == expired {
			next = min(next, e.deadline+graceSecs)
		} else {
			next = min(next, now+sweepSecs)
		}
	}
	m.expiry = never
	if next != 1<<32-1 {
		m.expiry = max(fromSecs(next), m.now.Add(sweepSecs*time.Second))
	}
	if len(ops) > 0 {
		m.remove(ops)
		m.freed()
	}
}

// expireOne ends one lifetime. What was handed over here stays on disk for
// the grace as well, so that not even a restart forgets that it was.
func (m *Machine) expireOne(slot uint32) (ops []Op) {
	e := &m.idx.entries[slot]
	m.unblob(slot)
	switch e.state {
	case pending, purging:
		return nil // the answer of the store is on its way; next sweep
	case held:
		m.drop(DropExpired)
		m.event(Expired{ID: e.id, Own: e.is(flagOwn)})
		if !e.is(flagConsumed) {
			ops = append(ops, DeleteBundle{e.id})
		}
	case purged:
		ops = append(ops, DropTomb{e.id})
		if e.is(flagKept) {
			ops = append(ops, DeleteBundle{e.id})
		}
	}
	m.leave(slot)
	wasHeld := e.state == held
	m.to(slot, expired)
	e.set(flagKept, wasHeld && e.is(flagConsumed))
	return ops
}

// younger takes the smallest age any neighbour states, but never more than
// one lifetime from when the bundle came, and never for our own.
func (m *Machine) younger(slot uint32, hop bundle.Hop) {
	e := &m.idx.entries[slot]
	if e.is(flagOwn) || e.state != held || hop.Age >= e.age(m.now) {
		return
	}
	deadline := min(m.now.secs()+e.life-hop.Age, e.stored+e.life)
	if deadline <= e.deadline+1 { // within rounding: not worth a write
		return
	}
	e.deadline = deadline
	m.commit(func(error) {}, SetMeta{e.id, m.meta(slot)})
}

// freed is called when space was given back: what was refused for want of it
// can be asked for.
func (m *Machine) freed() { m.wantNext = min(m.wantNext, m.now.Add(wantDelay)) }
