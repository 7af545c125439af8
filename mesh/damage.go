package mesh

import "outrider/mesh/bundle"

// damaged gives up a copy that the disk has changed. It leaves the set, so
// that neighbours bring it, and is asked for; a control object is forgotten
// altogether, as only one that is not known is judged again. What was handed
// over here is not wanted again.
//
// A copy of our own stays on disk until another is here: it may be the last,
// and a disk that could not read it once may read it later.
func (m *Machine) damaged(id bundle.ID) {
	slot := m.idx.find(id)
	if slot == 0 || m.idx.entries[slot].state != held {
		return
	}
	e := &m.idx.entries[slot]
	m.drop(DropDamaged)
	m.unblob(slot)
	if !e.is(flagOwn) {
		m.commit(func(error) {}, DeleteBundle{id}) // one that fails is found damaged again
	}
	switch {
	case e.kind == uint8(bundle.KindControl):
		m.removeEntry(slot)
	case e.is(flagConsumed):
		m.to(slot, refused)
		return
	default:
		m.leave(slot)
		e.has = 0
		m.to(slot, refused)
	}
	m.freed()
	for _, l := range m.slots {
		if l != nil && l.ready {
			m.checkIn(l, l.pace.settle)
		}
	}
}
