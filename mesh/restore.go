package mesh

import "outrider/mesh/bundle"

// restoreBundle takes a bundle from the store at start. Times are node time,
// which goes on after a restart; what has expired goes in started.
func (m *Machine) restoreBundle(r Record) {
	if m.idx.find(r.ID) != 0 || m.idx.collides(r.ID) || m.idx.len() >= m.lim.Known {
		m.drop(DropNoSpace) // stays on disk and is found again when there is room
		return
	}
	e := m.newEntry(r.ID, r.Header, r.Size, 0)
	meta := r.Meta
	e.stored, e.deadline, e.seq = meta.Stored, meta.Deadline, meta.Seq
	e.budget, e.replicas = meta.Budget, meta.Replicas
	e.set(flagOwn, meta.Own)
	e.set(flagConsumed, meta.Consumed)
	e.set(flagUrgent, meta.Urgent)
	e.set(flagDemoted, meta.Served < r.Header.Precedence)
	if !meta.Own {
		e.ingress = m.restorePeer(meta.Ingress)
	}
	m.seq = max(m.seq, meta.Seq)
	if r.Header.Kind == bundle.KindControl && !m.restoreControl(&e, meta) {
		return
	}
	e.state = held
	slot := m.addEntry(e)
	if r.Header.Kind == bundle.KindControl && meta.Key != ([16]byte{}) {
		m.control[meta.Key] = controlHead{slot: slot, number: meta.Number, day: m.now, at: m.idx.ref(slot)}
		m.byEntry[slot] = meta.Key
	}
	m.join(slot)
	if r.Blob != nil {
		m.blobRef(slot, *r.Blob)
	}
}

// restoreControl reports whether an object is still the newest of its key. A
// crash leaves one at most, but a copied store may hold more.
func (m *Machine) restoreControl(e *entry, meta Meta) bool {
	head, ok := m.control[meta.Key]
	if !ok || meta.Key == ([16]byte{}) {
		return true
	}
	old := &m.idx.entries[head.slot]
	if head.number > meta.Number || head.number == meta.Number && old.life >= e.life {
		m.commit(func(error) {}, DeleteBundle{e.id})
		return false
	}
	m.commit(func(error) {}, DeleteBundle{old.id})
	m.removeEntry(head.slot)
	return true
}

func (m *Machine) restoreTombstone(t Tombstone) {
	m.seq = max(m.seq, t.Seq)
	slot := m.idx.find(t.ID)
	if slot != 0 { // an archived bundle of ours, restored before
		m.leave(slot)
		e := &m.idx.entries[slot]
		e.set(flagKept, true)
		e.seq = t.Seq
		m.to(slot, purged)
		m.idx.alias(slot)
		m.join(slot)
		return
	}
	if m.idx.collides(t.ID) || m.idx.len() >= m.lim.Known {
		m.drop(DropNoSpace)
		return
	}
	e := m.newEntry(t.ID, t.Record.Header, 0, 0)
	e.stored, e.deadline, e.seq, e.state = t.Stored, t.Deadline, t.Seq, purged
	e.ingress = m.restorePeer(t.Ingress)
	slot = m.addEntry(e)
	m.idx.alias(slot)
	m.join(slot)
}

// restorePeer returns the index of the neighbour to charge; 0, this node, if
// there are too many.
func (m *Machine) restorePeer(id [32]byte) uint16 {
	if id == ([32]byte{}) {
		return 0
	}
	if p := m.peerOf(id); p != nil {
		return p.index
	}
	return 0
}

// started ends the restoring. Only now is the time known, and with it what
// died while the node was off.
func (m *Machine) started() {
	m.rootStale = true
	m.expire()
}
