package mesh

import "outrider/mesh/reconcile"

// changeGeneration goes over to another generation of the network secret.
// Short ids and told tags change with the salt, so all links are closed: the
// next contacts begin with the new generation in their STATE, and two nodes
// that differ offer each other everything by its full id.
func (m *Machine) changeGeneration(in GenerationChanged) {
	if in.Generation == m.cfg.Generation && in.Salt == m.cfg.Salt {
		return
	}
	for _, l := range m.slots {
		if l == nil {
			continue
		}
		m.dropSession(l)
		l.asked = 0
		m.hangup(l, "new generation of the network secret")
	}
	clear(m.asked)
	for _, p := range m.peers {
		p.shun, p.tags, p.allTags, p.archive = nil, nil, false, false
	}
	m.cfg.Salt, m.cfg.Generation = in.Salt, in.Generation
	m.idx.resalt(in.Salt)
	m.resetSets()
	if m.tags.begun && !m.cfg.Opsec {
		m.retell()
	}
}

// resalt works out all short ids anew. Two bundles that get the same one, by a
// chance of 3e-10 at 100,000 bundles, stay: only one of them can be compared.
func (x *index) resalt(salt reconcile.Salt) {
	x.salt = salt
	clear(x.byShort)
	for slot, e := range x.all() {
		x.byShort[x.short(e.id)] = slot
		if e.state == purged {
			x.alias(slot)
		}
	}
}

// resetSets builds the sets of all scopes anew from the index.
func (m *Machine) resetSets() {
	m.sets = newSets()
	for _, e := range m.idx.all() {
		if e.is(flagInSet) {
			m.sets.change(m.idx.scope(e), m.idx.setShort(e), 1)
		}
	}
	m.rootStale = true
}
