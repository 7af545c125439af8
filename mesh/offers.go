package mesh

import (
	"outrider/mesh/routing"
)

const maxOffers = 4 // OFFERs of one link that wait for their PICK

// A walk goes through the index and offers what it finds, frame by frame, in
// the pace the link allows.
type walk struct {
	kind  walkKind
	scope routing.Scope
	since uint64 // arrivals after this number only
	upto  uint64 // arrival number at which the walk began
	slot  uint32 // the last one looked at
	any   bool   // something was offered
	done  bool
}

type walkKind uint8

const (
	walkList    walkKind = iota // all of a scope
	walkCursor                  // what arrived since the last contact
	walkSpray                   // sprayed bundles, for which there are replicas
	walkReaders                 // sprayed bundles whose tag the peer serves
)

// addWalk starts a walk, from the beginning if the same is under way.
func (l *link) addWalk(w *walk) {
	for i, old := range l.walks {
		if old.kind == w.kind && old.scope == w.scope {
			w.since = min(w.since, old.since)
			l.walks[i] = w
			return
		}
	}
	l.walks = append(l.walks, w)
}

func (m *Machine) walkSpray(l *link) {
	since := uint64(0)
	if l.remote.KnownEpoch == m.cfg.Epoch {
		since = l.remote.KnownSpray
	}
	l.addWalk(&walk{kind: walkSpray, since: since, upto: m.settledSeq()})
	l.dirty = true
}

// offerReaders offers, whatever the cursor says, what a neighbour has begun
// to serve.
func (m *Machine) offerReaders(l *link) {
	if l.ready {
		l.addWalk(&walk{kind: walkReaders})
		l.dirty = true
	}
}

// offerLive offers a bundle that has just arrived.
func (m *Machine) offerLive(l *link, slot uint32) {
	if len(l.live) >= maxQueued {
		l.respray = true
		return
	}
	l.live = append(l.live, m.idx.ref(slot))
	l.dirty = true
}

// sendOffer sends the next OFFER, if there is something to offer.
func (m *Machine) sendOffer(l *link) bool {
	if len(l.offers) >= maxOffers {
		return false
	}
	if refs := m.liveBatch(l); len(refs) > 0 {
		m.putOffer(l, offerFrame{}, refs, false)
		return true
	}
	for len(l.walks) > 0 {
		w := l.walks[0]
		refs := m.walkOn(l, w)
		if w.done {
			l.walks = l.walks[1:]
		}
		f := offerFrame{Scope: w.scope, List: w.kind == walkList, Spray: w.kind == walkSpray, Last: w.done}
		if w.done && w.kind == walkSpray {
			f.Upto = w.upto
		}
		if len(refs) > 0 || w.done && (w.kind == walkList || w.any) {
			w.any = true
			m.putOffer(l, f, refs, w.kind == walkReaders)
			return true
		}
	}
	return false
}

func (m *Machine) liveBatch(l *link) (refs []ref) {
	n := min(len(l.live), l.perFrame(8))
	for _, r := range l.live[:n] {
		if e := m.idx.at(r); e != nil && e.has&l.bit == 0 && (e.state == held || e.state == purged) {
			refs = append(refs, r)
		}
	}
	if l.live = l.live[n:]; len(l.live) == 0 {
		l.live = nil
	}
	return refs
}

// walkOn collects what goes into one OFFER.
func (m *Machine) walkOn(l *link, w *walk) (refs []ref) {
	limit := l.perFrame(8)
	for int(w.slot)+1 < len(m.idx.entries) {
		if len(refs) == limit {
			return refs
		}
		w.slot++
		e := &m.idx.entries[w.slot]
		kept := w.kind == walkReaders && e.state == purged && e.left(m.now) > 0 && m.offersKept(l, e, m.idx.ref(w.slot))
		if kept || m.offers(l, w, e) {
			refs = append(refs, m.idx.ref(w.slot))
		}
	}
	w.done = true
	return refs
}

func (m *Machine) offers(l *link, w *walk, e *entry) bool {
	if e.state == pending && w.kind == walkList {
		return m.idx.scope(e) == w.scope // so that it is not sent here; if it is picked, it goes when it is written
	}
	if e.state != held && e.state != purged || e.seq <= w.since || e.left(m.now) <= 0 {
		return false
	}
	scope := m.idx.scope(e)
	switch w.kind {
	case walkList:
		return scope == w.scope && e.is(flagInSet)
	case walkCursor:
		return e.is(flagInSet) && e.has&l.bit == 0
	}
	if scope != routing.Spray || e.has&l.bit != 0 || e.state != held {
		return false
	}
	st := m.standing(l, e)
	_, _, ok := routing.Split(e.budget, st)
	return ok && (w.kind == walkSpray || st.Reads || st.OnPath)
}

// putOffer sends an offer. live offers what is purged and kept as what it was.
func (m *Machine) putOffer(l *link, f offerFrame, refs []ref, live bool) {
	l.offerNum++
	f.Num = l.offerNum
	for _, r := range refs {
		e := m.idx.at(r)
		switch {
		case l.remote.Generation == m.cfg.Generation && live:
			f.Shorts = append(f.Shorts, m.idx.short(e.id))
		case l.remote.Generation == m.cfg.Generation:
			f.Shorts = append(f.Shorts, m.idx.setShort(e))
		default:
			f.IDs = append(f.IDs, e.id)
		}
	}
	l.offers[f.Num] = refs
	m.sendCounted(l, appendFrame(nil, f), nil, 0, loadOf{})
}

// receivedOffer picks what is lacking.
func (m *Machine) receivedOffer(l *link, f offerFrame) {
	if f.List && !l.listing[f.Scope] {
		m.beginList(l, f.Scope)
	}
	shorts := f.Shorts
	for _, id := range f.IDs {
		shorts = append(shorts, m.idx.short(id))
	}
	pick := pickFrame{Num: f.Num, Bits: make([]byte, (len(shorts)+7)/8)}
	for i, short := range shorts {
		if m.picks(l, short) {
			pick.Bits[i/8] |= 1 << (i % 8)
		}
	}
	m.send(l, pick)
	if f.Spray && f.Upto > 0 {
		l.sprayUpto = f.Upto
	}
	if f.List {
		m.listed(l, f)
	}
	m.tellPartials(l) // picked transfers may go on where they were cut
}

func (m *Machine) picks(l *link, short uint64) bool {
	slot := m.idx.byShort[short]
	if slot == 0 {
		return !m.avoided(l.peer, short) && m.ask(l, short)
	}
	e := &m.idx.entries[slot]
	if m.lacksKept(e) {
		return m.ask(l, short)
	}
	if e.state == purged && short == m.idx.short(e.id) {
		m.want(l, slot) // the neighbour has not heard that it is purged
		return false
	}
	e.has |= l.bit
	if e.wanted() && m.freeKiB() > uint64(e.size+RecordCost)>>10 {
		return m.ask(l, short)
	}
	return false
}

// beginList forgets what the neighbour was believed to have of a scope: its
// list will tell.
func (m *Machine) beginList(l *link, s routing.Scope) {
	l.listing[s] = true
	for _, e := range m.idx.all() {
		if m.idx.scope(e) == s {
			e.has &^= l.bit
		}
	}
}

// listed takes part of a neighbour's whole scope. After the last part, what
// was not in it goes the other way.
func (m *Machine) listed(l *link, f offerFrame) {
	if d := l.decoding[f.Scope]; d != nil {
		l.sessionEnd = m.now.Add(l.pace.stall)
	}
	if !f.Last {
		return
	}
	l.listing[f.Scope] = false
	for slot, e := range m.idx.all() {
		if e.has&l.bit == 0 && e.is(flagInSet) && (e.state == held || e.state == purged) && m.idx.scope(e) == f.Scope {
			m.queueFor(l, slot)
		}
	}
	if l.inSession() && m.decodes(l) {
		m.closeScope(l, f.Scope)
	}
}

// receivedPick queues what the neighbour wants; the rest it has.
func (m *Machine) receivedPick(l *link, f pickFrame) {
	refs, ok := l.offers[f.Num]
	if !ok || len(f.Bits) != (len(refs)+7)/8 {
		m.blame(l, DropUnexpected)
		return
	}
	delete(l.offers, f.Num)
	l.dirty = true
	for i, r := range refs {
		e := m.idx.at(r)
		if e == nil {
			continue
		}
		switch {
		case f.Bits[i/8]>>(i%8)&1 == 1:
			if l.kept[r] == keptOffered {
				l.kept[r] = keptPicked
			}
			m.want(l, r.slot)
		case l.kept[r] != 0: // says nothing of its purge record
		default:
			e.has |= l.bit
		}
	}
}
