package mesh

import (
	"outrider/mesh/reconcile"
	"outrider/mesh/routing"
)

const (
	keptSymbols = 4096 // symbols kept up to date for each scope: 96 KiB
	maxChanges  = 4096 // changes a running reconciliation bears with
)

// sets holds the reconciled scopes. The sketches are in step with the index:
// an entry is in its scope's sketch while flagInSet is on.
type sets struct {
	sketch [routing.Scopes]*reconcile.Sketch
	open   [routing.Scopes][]*snapshot
}

// A snapshot lets one reconciliation see a set as it was when it began.
type snapshot struct {
	scope  routing.Scope
	count  uint64
	since  []reconcile.Change
	broken bool // too many changes
}

func newSets() sets {
	var s sets
	for i := range s.sketch {
		s.sketch[i] = reconcile.NewSketch(keptSymbols)
	}
	return s
}

func (s *sets) change(scope routing.Scope, short uint64, delta int8) {
	if delta > 0 {
		s.sketch[scope].Add(short)
	} else {
		s.sketch[scope].Remove(short)
	}
	for _, snap := range s.open[scope] {
		if len(snap.since) >= maxChanges {
			snap.broken, snap.since = true, nil
		}
		if !snap.broken {
			snap.since = append(snap.since, reconcile.Change{Short: short, Delta: delta})
		}
	}
}

func (s *sets) prints() (p [routing.Scopes]reconcile.Fingerprint) {
	for i := range p {
		p[i] = s.sketch[i].Fingerprint()
	}
	return p
}

func (s *sets) root() [16]byte {
	p := s.prints()
	return reconcile.Root(p[:]...)
}

func (s *sets) snap(scope routing.Scope) *snapshot {
	n := &snapshot{scope: scope, count: s.sketch[scope].Fingerprint().Count}
	s.open[scope] = append(s.open[scope], n)
	return n
}

// addPending makes snapshots count what is just being written as held: it is
// here and need not come again. Should the write fail, a later comparison
// finds it.
func (m *Machine) addPending(snaps *[routing.Scopes]*snapshot) {
	if len(m.young) == 0 {
		return
	}
	for _, e := range m.idx.all() {
		if e.state != pending {
			continue
		}
		if scope := m.idx.scope(e); scope < routing.Scopes && snaps[scope] != nil {
			n := snaps[scope]
			n.count++
			n.since = append(n.since, reconcile.Change{Short: m.idx.setShort(e), Delta: -1})
		}
	}
}

// drop ends a snapshot; the last one gives back what the sketch grew by.
func (s *sets) drop(n *snapshot) {
	if n == nil {
		return
	}
	list := s.open[n.scope]
	for i := range list {
		if list[i] == n {
			list = append(list[:i], list[i+1:]...)
			break
		}
	}
	s.open[n.scope] = list
	if len(list) == 0 {
		s.sketch[n.scope].Shrink()
	}
}

// symbols returns [from, to) of a snapshot, growing the sketch as needed.
func (m *Machine) symbols(n *snapshot, from, to int) []reconcile.Symbol {
	sk := m.sets.sketch[n.scope]
	if to > sk.Len() {
		sk.Grow(min(max(to, 2*sk.Len()), reconcile.MaxSymbols), m.idx.members(n.scope))
	}
	return sk.Range(from, to, n.since)
}

// join puts an entry into its scope's set, leave takes it out. They must be
// called around every change of what the set says of it.
func (m *Machine) join(slot uint32) {
	e := &m.idx.entries[slot]
	scope := m.idx.scope(e)
	if scope >= routing.Scopes || e.is(flagInSet) {
		return
	}
	e.set(flagInSet, true)
	m.sets.change(scope, m.idx.setShort(e), 1)
	m.rootStale = true
}

func (m *Machine) leave(slot uint32) {
	e := &m.idx.entries[slot]
	if !e.is(flagInSet) {
		return
	}
	e.set(flagInSet, false)
	m.sets.change(m.idx.scope(e), m.idx.setShort(e), -1)
	m.rootStale = true
}
