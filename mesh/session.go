package mesh

import (
	"errors"

	"outrider/mesh/reconcile"
	"outrider/mesh/routing"
)

// A reconciliation of two nodes. The one with the larger id decodes:
//
//	decoder                       streamer
//	SCOPES (fingerprints)    ->
//	                         <-   DIFFER, SYMBOLS of each scope that differs
//	ASK (more)               ->
//	                         <-   SYMBOLS ...
//	WANT (ids, closes scope) ->
//	bundles the other lacks  ->   <- bundles asked for
//
// Instead of WANT the decoder may send LIST; the streamer then offers all of
// the scope.

func (l *link) inSession() bool { return l.sessionEnd != never }

func (m *Machine) startSession(l *link) {
	m.dropSession(l)
	m.count.Sessions++
	l.sessionEnd = m.now.Add(l.pace.stall)
	f := scopesFrame{Prints: m.sets.prints()}
	var snaps [routing.Scopes]*snapshot
	for s := range l.decoding {
		snaps[s] = m.sets.snap(routing.Scope(s))
		l.decoding[s] = &decoding{snap: snaps[s], dec: reconcile.NewDecoder(reconcile.MaxSymbols)}
	}
	m.addPending(&snaps)
	m.send(l, f)
}

// endSession closes a reconciliation and says when the next may begin: later
// each time, as long as none changes anything.
func (m *Machine) endSession(l *link) {
	m.dropSession(l)
	l.notBefore = m.now.Add(l.backoff)
	l.backoff = min(2*l.backoff, maxBackoff)
	if l.remote.Root != m.currentRoot() {
		m.checkIn(l, l.pace.settle)
	}
}

func (m *Machine) dropSession(l *link) {
	for s := range l.decoding {
		if d := l.decoding[s]; d != nil {
			m.sets.drop(d.snap)
			l.decoding[s] = nil
		}
		m.sets.drop(l.streaming[s])
		l.streaming[s] = nil
	}
	l.sessionEnd = never
}

func (m *Machine) closeScope(l *link, s routing.Scope) {
	if d := l.decoding[s]; d != nil {
		m.sets.drop(d.snap)
		l.decoding[s] = nil
	}
	for _, d := range l.decoding {
		if d != nil {
			return
		}
	}
	m.endSession(l)
}

// perFrame is how many things of n bytes go into one counted frame.
func (l *link) perFrame(n int) int { return min(max(l.chunk()/n, 16), maxBatch) }

// receivedScopes begins to stream.
func (m *Machine) receivedScopes(l *link, f scopesFrame) {
	if m.decodes(l) {
		m.blame(l, DropUnexpected)
		return
	}
	m.dropSession(l)
	var d differFrame
	mine := m.sets.prints()
	for s := range routing.Scopes {
		if mine[s] == f.Prints[s] {
			continue
		}
		d.Mask |= 1 << s
		if routing.SymbolCap(mine[s].Count, f.Prints[s].Count, reconcile.MaxSymbols) == 0 {
			m.list(l, s)
			continue
		}
		l.streaming[s] = m.sets.snap(s)
	}
	m.addPending(&l.streaming)
	for s, snap := range l.streaming {
		if snap != nil {
			m.stream(l, routing.Scope(s), 0, routing.FirstBatch(mine[s].Count, f.Prints[s].Count, l.perFrame(13)))
		}
	}
	l.sessionEnd = m.now.Add(l.pace.stall)
	l.dirty = true
	m.send(l, d)
}

// stream sends count symbols from start on.
func (m *Machine) stream(l *link, s routing.Scope, start, count int) {
	snap := l.streaming[s]
	end := min(start+min(count, l.perFrame(13)), reconcile.MaxSymbols)
	if snap.broken || end <= start {
		m.list(l, s)
		return
	}
	l.ctl = append(l.ctl, symbolsFrame{Scope: s, Start: start, Total: snap.count, Symbols: m.symbols(snap, start, end)})
	l.dirty = true
}

func (m *Machine) receivedAsk(l *link, f askFrame) {
	if l.streaming[f.Scope] == nil || len(l.ctl) > 2*int(routing.Scopes) {
		m.drop(DropUnexpected)
		return
	}
	l.sessionEnd = m.now.Add(l.pace.stall)
	m.stream(l, f.Scope, f.Start, f.Count)
}

func (m *Machine) receivedList(l *link, f listFrame) {
	if m.decodes(l) {
		m.blame(l, DropUnexpected)
		return
	}
	m.list(l, f.Scope)
	l.dirty = true
}

// list offers all of a scope instead of streaming it.
func (m *Machine) list(l *link, s routing.Scope) {
	m.sets.drop(l.streaming[s])
	l.streaming[s] = nil
	m.count.Lists++
	l.addWalk(&walk{kind: walkList, scope: s})
}

// receivedDiffer closes the scopes that the streamer found equal.
func (m *Machine) receivedDiffer(l *link, f differFrame) {
	if !m.decodes(l) || !l.inSession() {
		m.drop(DropUnexpected)
		return
	}
	for s := range routing.Scopes {
		if f.Mask&(1<<s) == 0 && l.inSession() {
			m.closeScope(l, s)
		}
	}
}

func (m *Machine) receivedSymbols(l *link, f symbolsFrame) {
	d := l.decoding[f.Scope]
	if d == nil || f.Start != d.dec.Len() {
		m.drop(DropUnexpected)
		return
	}
	l.sessionEnd = m.now.Add(l.pace.stall)
	if d.max == 0 {
		d.max = max(1, routing.SymbolCap(f.Total, d.snap.count, reconcile.MaxSymbols))
	}
	if d.snap.broken {
		m.giveUp(l, f.Scope)
		return
	}
	end := f.Start + len(f.Symbols)
	switch err := d.dec.Add(f.Symbols, m.symbols(d.snap, f.Start, end)); {
	case errors.Is(err, reconcile.ErrInconsistent):
		m.blame(l, DropUnexpected)
		m.giveUp(l, f.Scope)
	case err != nil || !d.dec.Done() && end >= d.max:
		m.giveUp(l, f.Scope)
	case d.dec.Done():
		m.decoded(l, f.Scope, d.dec)
	default:
		m.send(l, askFrame{Scope: f.Scope, Start: end, Count: routing.NextBatch(end, min(l.perFrame(13), d.max-end))})
	}
}

// giveUp asks for the plain list. The scope closes with its last offer.
func (m *Machine) giveUp(l *link, s routing.Scope) { m.send(l, listFrame{s}) }

// decoded asks for what is only there and queues what is only here.
func (m *Machine) decoded(l *link, s routing.Scope, dec *reconcile.Decoder) {
	remote := dec.Remote()
	there := make(map[uint64]bool, len(remote))
	var want []uint64
	for _, short := range remote {
		there[short] = true
		if m.idx.byShort[short] == 0 && !m.avoided(l.peer, short) && m.ask(l, short) {
			want = append(want, short)
		}
	}
	for _, short := range dec.Local() {
		slot := m.idx.byShort[short]
		if slot == 0 {
			continue // gone since
		}
		e := &m.idx.entries[slot]
		if e.state == purged || e.state == held && !there[m.idx.salt.Short(e.id, true)] {
			m.want(l, slot)
		}
	}
	m.sendWants(l, s, want)
	m.closeScope(l, s)
}

func (m *Machine) sendWants(l *link, s routing.Scope, want []uint64) {
	for first := true; first || len(want) > 0; first = false {
		n := min(len(want), maxShorts)
		m.send(l, wantFrame{Scope: s, Last: n == len(want), Shorts: want[:n]})
		want = want[n:]
	}
}

// receivedWant queues what is asked for and says what is not here.
func (m *Machine) receivedWant(l *link, f wantFrame) {
	var gone goneFrame
	for _, short := range f.Shorts {
		slot := m.idx.byShort[short]
		if slot == 0 {
			gone.Shorts = append(gone.Shorts, short)
			continue
		}
		switch m.idx.entries[slot].state {
		case held, purged, purging:
			m.want(l, slot)
		default:
			gone.Shorts = append(gone.Shorts, short)
		}
	}
	if len(gone.Shorts) > 0 {
		m.send(l, gone)
	}
	if f.Last && l.streaming[f.Scope] != nil {
		m.sets.drop(l.streaming[f.Scope])
		l.streaming[f.Scope] = nil
		l.sessionEnd = m.now.Add(l.pace.stall)
	}
	m.streamDone(l)
}

// streamDone ends the streamer's part when no scope is open.
func (m *Machine) streamDone(l *link) {
	if m.decodes(l) || !l.inSession() {
		return
	}
	for _, s := range l.streaming {
		if s != nil {
			return
		}
	}
	l.sessionEnd = never
}

// An asking is an id that a neighbour was asked for.
type asking struct {
	link LinkID
	at   Time
}

// ask notes that a neighbour is asked for an id, unless another is already.
func (m *Machine) ask(l *link, short uint64) bool {
	if a, ok := m.asked[short]; ok {
		other := m.links[a.link]
		if other != nil && (other == l || m.now.Sub(a.at) < patience(other.info.Class)) {
			return false
		}
		if other != nil {
			other.asked--
		}
	} else if len(m.asked) >= maxAsked {
		return false
	}
	m.asked[short] = asking{l.id, m.now}
	l.asked++
	return true
}

func (m *Machine) unasked(short uint64) {
	if a, ok := m.asked[short]; ok {
		delete(m.asked, short)
		if l := m.links[a.link]; l != nil {
			l.asked--
			l.dirty = true
		}
	}
}

// answered notes that a bundle or its purge record came.
func (m *Machine) answered(id [16]byte) {
	m.unasked(m.idx.salt.Short(id, false))
	m.unasked(m.idx.salt.Short(id, true))
}

// receivedGone notes what a neighbour cannot deliver after all.
func (m *Machine) receivedGone(l *link, f goneFrame) {
	for _, short := range f.Shorts {
		if a, ok := m.asked[short]; ok && a.link == l.id {
			m.unasked(short)
			m.avoid(l.peer, short)
		}
	}
}
