package mesh

// A bundle with the header flag archive is for a compliance reader too, whose
// node may meet nobody before the others' purge is everywhere. Its origin
// keeps it until its lifetime ends (decisions.md 6), and hands it to a
// neighbour that says it serves such a reader; there it is kept as well, so
// that nothing is lost while the reader is locked.

const watchArchive = 4 // of a compliance reader: kept although purged

// archives tells whether a compliance reader of this node reads a bundle.
func (m *Machine) archives(e *entry) bool {
	return e.is(flagArchive) && m.tags.tags[e.tag]&watchArchive != 0
}

// lacksKept tells whether a purged bundle is wanted here all the same.
func (m *Machine) lacksKept(e *entry) bool {
	return e.state == purged && !e.is(flagKept) && !e.is(flagConsumed) && m.archives(e)
}

// keeps tells whether a bundle's payload stays when it is purged. What is only
// known by its purge record has none.
func (m *Machine) keeps(e *entry, before state) bool {
	here := before == held || before == pending && e.size > 0
	return e.is(flagArchive) && (e.is(flagOwn) || here && m.archives(e))
}

// watchedArchive notes tags of a compliance reader.
func (m *Machine) watchedArchive(in Watched) {
	for _, t := range in.Add {
		m.tags.tags[t] |= watchArchive
		m.tags.archive = true
	}
	for slot, e := range m.idx.all() {
		if e.state == purged && e.is(flagKept) && m.archives(e) {
			m.deliver(slot)
		}
	}
}

// How far the offer of a kept bundle to one neighbour is.
const (
	keptOffered = 1
	keptPicked  = 2
)

// offersKept tells whether a purged bundle is offered to a neighbour that
// serves a compliance reader: once on each link.
func (m *Machine) offersKept(l *link, e *entry, at ref) bool {
	if e.state != purged || !e.is(flagKept) || !e.is(flagArchive) || !l.peer.archive || !l.peer.serves(m.tags.hash(m, e.tag)) || l.kept[at] != 0 {
		return false
	}
	if l.kept == nil {
		l.kept = map[ref]uint8{}
	}
	l.kept[at] = keptOffered
	return true
}

// tellReaders offers a bundle that was just purged to compliance readers in
// contact, who may not have it yet.
func (m *Machine) tellReaders(slot uint32) {
	e := &m.idx.entries[slot]
	if !e.is(flagKept) {
		return
	}
	hash := m.tags.hash(m, e.tag)
	for _, l := range m.slots {
		if l != nil && l.ready && l.peer.archive && l.peer.serves(hash) {
			m.offerReaders(l)
		}
	}
}
