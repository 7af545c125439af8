package mesh

import (
	"outrider/mesh/bundle"
)

// purgeAsked releases a purge record on this node.
func (m *Machine) purgeAsked(in PurgeAsked) {
	if !in.Record.Valid() {
		m.emit(Reply{in.Req, ErrPurgeKey})
		return
	}
	done := func(err error) { m.emit(Reply{in.Req, err}) }
	if code := m.purge(in.Record, in.Record.ID(), nil, done); code != CodeDurable {
		err := error(nil) // purged already, or its lifetime is over: nothing is left to do
		switch code {
		case CodeNoSpace:
			err = ErrFull
		case CodeBad:
			err = ErrRefused
		}
		done(err)
	}
}

// receivedPurge takes a purge record from a neighbour.
func (m *Machine) receivedPurge(l *link, f purgeFrame) {
	m.answered(f.ID)
	if !f.Valid {
		m.blame(l, DropForged)
		m.ack(l.id, f.Num, CodeBad)
		return
	}
	id, num := l.id, f.Num
	code := m.purge(f.Record, f.ID, l, func(err error) {
		if err != nil {
			m.ack(id, num, CodeFailed)
			return
		}
		m.ack(id, num, CodeDurable)
	})
	if code != CodeDurable {
		m.ack(l.id, f.Num, code)
	}
}

// purge writes a tombstone and deletes the bundle in one transaction. Done is
// called when the store has answered; any other code than CodeDurable means
// that nothing is written and done is not called.
func (m *Machine) purge(r bundle.PurgeRecord, id bundle.ID, from *link, done func(error)) Code {
	if r.Header.Kind == bundle.KindControl {
		return CodeBad // state, not mail: only a newer one replaces it
	}
	slot := m.idx.find(id)
	if slot == 0 {
		if r.Hop.Age >= m.life(r.Header) {
			return CodeExpired
		}
		return m.purgeUnknown(r, id, from, done)
	}
	e := &m.idx.entries[slot]
	if from != nil {
		e.has |= from.bit
	}
	switch e.state {
	case purged, purging:
		return CodeDuplicate
	case expired:
		return CodeExpired
	}
	var g grant
	if e.cost() == 0 {
		if g = m.admitTomb(); g.refusal != "" {
			m.drop(g.refusal)
			return CodeNoSpace
		}
	}
	m.writeTomb(slot, r, from, g, done)
	return CodeDurable
}

// purgeUnknown keeps the record of a bundle that is not here, so that it
// never comes.
func (m *Machine) purgeUnknown(r bundle.PurgeRecord, id bundle.ID, from *link, done func(error)) Code {
	e := m.newEntry(id, r.Header, 0, r.Hop.Age)
	if m.idx.collides(id) {
		m.drop(DropCollision)
		return CodeBad
	}
	p := m.peers[0]
	if from != nil {
		p = from.peer
		e.has = from.bit
	}
	g := m.admitTomb()
	if g.refusal == "" && (m.idx.len() >= m.lim.Known && !m.forget() || from != nil && p.bytes+RecordCost > m.share(m.relayLimit())) {
		g.refusal = DropShare
	}
	if g.refusal != "" {
		m.drop(g.refusal)
		return CodeNoSpace
	}
	e.ingress, e.state = p.index, pending
	slot := m.addEntry(e)
	m.writeTomb(slot, r, from, g, done)
	return CodeDurable
}

// writeTomb commits a tombstone. Until the answer the entry is purging:
// neither offered nor removed.
func (m *Machine) writeTomb(slot uint32, r bundle.PurgeRecord, from *link, g grant, done func(error)) {
	e := &m.idx.entries[slot]
	before, seq := e.state, m.arrive()
	t := Tombstone{ID: e.id, Record: r, Seq: seq, Stored: e.stored, Deadline: e.deadline}
	t.Record.Hop.Age = e.age(m.now)
	t.Kept = m.keeps(e, before)
	if e.ingress != 0 {
		t.Ingress = m.peers[e.ingress].id
	}
	ops := append(deletions(m, g.victims), PutTombstone{t})
	m.evicted(g.victims)
	if (before == held || before == pending) && !t.Kept {
		ops = append(ops, DeleteBundle{e.id})
	}
	var teller *peer
	if from != nil {
		teller = from.peer
	}
	m.to(slot, purging)
	m.keep(slot, before == held)
	at := m.idx.ref(slot)
	m.commit(func(err error) {
		m.landed(seq)
		if err != nil {
			m.unevict(g.victims)
			m.purgeFailed(at.slot, before)
		} else {
			m.tombWritten(at.slot, seq, m.bitsOf(teller), t)
			if t.Kept && before == pending {
				m.deliver(at.slot) // its own answer found it purged
			}
			m.tellReaders(at.slot)
		}
		done(err)
	}, ops...)
}

// tombWritten makes a bundle purged. Whoever did not tell of it is to hear.
func (m *Machine) tombWritten(slot uint32, seq, teller uint64, t Tombstone) {
	e := &m.idx.entries[slot]
	if !t.Kept {
		m.unblob(slot) // a compliance reader needs the leaves too
	}
	m.leave(slot)
	m.keep(slot, t.Kept)
	m.to(slot, purged)
	e.seq, e.has = seq, teller
	m.idx.alias(slot)
	m.join(slot)
	m.drop(DropPurged)
	m.event(Purged{ID: e.id, Key: t.Record.Key})
	m.freed()
	m.spread(slot)
}

// purgeFailed puts an entry back as it was.
func (m *Machine) purgeFailed(slot uint32, before state) {
	m.drop(DropStore)
	e := &m.idx.entries[slot]
	onDisk := e.is(flagKept)
	m.keep(slot, false)
	switch {
	case onDisk: // held, or written while the tombstone was on its way
		m.to(slot, held)
		m.join(slot)
	case before == pending:
		m.removeEntry(slot)
	default:
		m.to(slot, before)
	}
}
