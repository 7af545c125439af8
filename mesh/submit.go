package mesh

import (
	"slices"

	"outrider/mesh/bundle"
	"outrider/mesh/identity"
	"outrider/mesh/reconcile"
	"outrider/mesh/routing"
)

// submitted takes a bundle made on this node.
func (m *Machine) submitted(in Submitted) {
	a := &arrival{
		head: transferHead{
			ID: in.ID, Hop: in.Hop, Header: in.Header, PayloadHash: in.PayloadHash, Size: in.Size, Blob: in.Blob,
		},
		token: in.Token, req: in.Req, opts: in.Options, peer: m.peers[0],
	}
	if err := m.acceptable(a); err != nil {
		m.free(in.Token)
		m.emit(Reply{in.Req, err})
		return
	}
	if m.idx.scope(&entry{header: in.Header.Precedence, kind: kindByte(in.Header.Kind), size: uint32(in.Size)}) == routing.Spray {
		a.head.Hop.Budget = min(in.Options.Budget, bundle.MaxBudget)
		if a.head.Hop.Budget == 0 {
			a.head.Hop.Budget = routing.Copies(in.Size)
		}
	}
	m.proceed(a)
}

func (m *Machine) acceptable(a *arrival) error {
	h := a.head
	switch {
	case h.Header.Kind != bundle.KindControl && h.Header.Lifetime > m.lim.Ceiling:
		return ErrLifetime
	case h.Hop.Age >= m.life(h.Header):
		return ErrLifetime
	case m.idx.collides(h.ID):
		m.drop(DropCollision)
		return ErrExists
	}
	if slot := m.idx.find(h.ID); slot != 0 && !m.idx.entries[slot].wanted() {
		return ErrExists
	}
	return nil
}

// consumedAsked marks bundles as handed over: they are not announced again.
func (m *Machine) consumedAsked(in ConsumedAsked) {
	var ops []Op
	var marked []ref
	control := false
	for _, id := range in.IDs {
		slot := m.idx.find(id)
		if slot == 0 {
			continue // purged or expired meanwhile: there is nothing to announce
		}
		e := &m.idx.entries[slot]
		control = control || e.kind == uint8(bundle.KindControl)
		if e.is(flagConsumed) || e.state != held && !(e.state == purged && e.is(flagKept)) {
			continue
		}
		e.set(flagConsumed, true)
		marked = append(marked, m.idx.ref(slot))
		ops = append(ops, SetMeta{id, m.meta(slot)})
	}
	if control {
		m.rejudge() // what waited for this object may be judged now
	}
	if len(ops) == 0 {
		m.emit(Reply{in.Req, nil})
		return
	}
	m.commit(func(err error) {
		for _, r := range marked {
			if e := m.idx.at(r); err != nil && e != nil {
				e.set(flagConsumed, false)
			}
		}
		m.emit(Reply{in.Req, err})
	}, ops...)
}

const (
	watchLoud  = 1 // told to neighbours
	watchQuiet = 2 // watched only here
)

// served is what this node delivers.
type served struct {
	tags map[identity.Tag]uint8
	told []uint32 // their hashes, sorted
	all  bool     // too many to tell: neighbours are to send everything

	archive bool   // some are a compliance reader's
	version uint64 // of told; 0 if nothing was ever told
	begun   bool   // something was watched: control objects were announced
}

func newServed() served { return served{tags: map[identity.Tag]uint8{}} }

func (s *served) watched(t identity.Tag) bool { return s.tags[t] != 0 }

// hash is how a tag is told to neighbours: the upper half of SipHash-2-4
// under the network's salt.
func (s *served) hash(m *Machine, t identity.Tag) uint32 {
	return uint32(m.cfg.Salt.Hash(t[:]) >> 32)
}

// watched changes what is delivered here and announces what waited for it.
func (m *Machine) watched(in Watched) {
	if in.Archive {
		m.watchedArchive(in)
		return
	}
	kind := uint8(watchLoud)
	if in.Quiet {
		kind = watchQuiet
	}
	for _, t := range in.Remove {
		if m.tags.tags[t] &^= kind | watchArchive; m.tags.tags[t] == 0 {
			delete(m.tags.tags, t)
		}
	}
	added := make(map[identity.Tag]bool, len(in.Add))
	for _, t := range in.Add {
		m.tags.tags[t] |= kind
		added[t] = true
	}
	if len(added) > 0 {
		for slot, e := range m.idx.all() {
			if added[e.tag] || !m.tags.begun && e.kind == uint8(bundle.KindControl) {
				m.deliver(slot)
			}
		}
		m.tags.begun = true
	}
	if !in.Quiet && !m.cfg.Opsec {
		m.retell()
	}
}

// retell works out what neighbours are to know of the served tags. A set too
// large to tell is told as "everything", which costs bytes and loses nothing.
func (m *Machine) retell() {
	var hashes []uint32
	for t, kind := range m.tags.tags { // order does not matter: sorted below
		if kind&watchLoud != 0 {
			hashes = append(hashes, m.tags.hash(m, t))
		}
	}
	slices.Sort(hashes)
	hashes = slices.Compact(hashes)
	all := m.cfg.ReadsAll || len(hashes) > reconcile.MaxRice
	if all {
		hashes = nil
	}
	if all == m.tags.all && slices.Equal(hashes, m.tags.told) {
		return
	}
	m.tags.told, m.tags.all = hashes, all
	m.tags.version++
	for _, l := range m.slots {
		if l != nil && l.ready {
			m.tellTags(l)
		}
	}
}

// tellTags sends what a neighbour does not know of the served tags.
func (m *Machine) tellTags(l *link) {
	if l.tagsVersion == m.tags.version {
		return
	}
	add, remove := difference(l.tagsTold, m.tags.told)
	f := tagsFrame{All: m.tags.all, Archive: m.tags.archive, Add: add, Remove: remove}
	if l.tagsVersion == 0 || len(add)+len(remove) > len(m.tags.told) {
		f.Replace, f.Add, f.Remove = true, m.tags.told, nil
	}
	l.tagsTold, l.tagsVersion = m.tags.told, m.tags.version
	m.send(l, f)
}

// difference returns what is only in new and what is only in old, both of
// which are sorted.
func difference(old, new []uint32) (add, remove []uint32) {
	for len(old) > 0 || len(new) > 0 {
		switch {
		case len(old) == 0 || len(new) > 0 && new[0] < old[0]:
			add, new = append(add, new[0]), new[1:]
		case len(new) == 0 || old[0] < new[0]:
			remove, old = append(remove, old[0]), old[1:]
		default:
			old, new = old[1:], new[1:]
		}
	}
	return add, remove
}

// receivedTags takes what a neighbour serves, and offers it what it reads.
func (m *Machine) receivedTags(l *link, f tagsFrame) {
	p := l.peer
	if f.Replace {
		p.tags = nil
	}
	merged := append(only(p.tags, f.Remove), f.Add...)
	slices.Sort(merged)
	merged = slices.Compact(merged)
	if p.allTags = f.All; len(merged) > reconcile.MaxRice {
		merged, p.allTags = nil, true
	}
	p.tags, p.archive = merged, f.Archive
	l.kept = nil // what was offered in vain may be wanted now
	if f.All || len(f.Add) > 0 {
		m.offerReaders(l)
	}
}

func only(set, without []uint32) []uint32 {
	_, keep := difference(set, without)
	return keep
}
