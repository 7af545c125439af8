package mesh

import (
	"time"

	"outrider/mesh/bundle"
	"outrider/mesh/identity"
	"outrider/mesh/routing"
)

const (
	pathLife    = 10 * time.Minute // that a path to a tag is believed, and between two queries for one tag
	maxQueries  = 64               // tags asked for at once
	maxSeen     = 2048             // queries of others remembered
	maxPaths    = 4096
	queryDelay  = time.Second // so that a contact's own tags come first
	queryMinute = 60          // queries that one neighbour may send in a minute
)

// spreadSpray offers a large bundle to every neighbour that may get a
// replica, and looks for its reader if none of them is it.
func (m *Machine) spreadSpray(slot uint32) {
	e := &m.idx.entries[slot]
	for _, l := range m.slots {
		if l == nil || !l.ready || e.has&l.bit != 0 {
			continue
		}
		st := m.standing(l, e)
		if _, _, ok := routing.Split(e.budget, st); !ok {
			continue
		}
		if st.Reads && e.served() >= bundle.Immediate {
			m.queueFor(l, slot)
		} else {
			m.offerLive(l, slot)
		}
	}
	m.queries.soon(m)
}

// reserve takes a replica out of the budget, on disk, before it is sent
// (decisions 17): after a crash there may be a replica too few or a bundle
// twice, but never a replica too many and never none.
func (m *Machine) reserve(l *link, o *outgoing, e *entry) {
	give, keep, ok := routing.Split(e.budget, m.standing(l, e))
	if !ok {
		return
	}
	o.give = give
	if keep == e.budget {
		l.reserved[o.level] = append(l.reserved[o.level], o) // a reader's copy costs no replica
		l.dirty = true
		return
	}
	e.budget = keep
	o.spray = true
	l.pledged++
	m.commit(func(err error) { m.pledged(l, o, err) }, SetMeta{e.id, m.meta(o.at.slot)})
}

func (m *Machine) pledged(l *link, o *outgoing, err error) {
	l.pledged--
	l.dirty = true
	if err != nil || m.links[l.id] != l {
		m.refund(o)
		return
	}
	l.reserved[o.level] = append(l.reserved[o.level], o)
}

// refund puts back a replica that did not reach the neighbour.
func (m *Machine) refund(o *outgoing) {
	e := m.idx.at(o.at)
	if !o.spray || e == nil || e.state != held {
		return
	}
	o.spray = false
	e.budget = min(e.budget+o.give, bundle.MaxBudget)
	m.commit(func(error) {}, SetMeta{e.id, m.meta(o.at.slot)})
}

// queryTable finds the way to whoever reads a tag, inside the connected
// component: an eight-byte query floods, the answer comes back the same way
// and leaves a path.
type queryTable struct {
	next  Time
	asked map[identity.Tag]Time
	seen  map[uint64]*seenQuery
	paths map[identity.Tag]path
}

type seenQuery struct {
	from     LinkID // 0: ours
	at       Time
	answered bool
}

type path struct {
	link  LinkID
	until Time
}

func newQueryTable() queryTable {
	return queryTable{next: never, asked: map[identity.Tag]Time{}, seen: map[uint64]*seenQuery{}, paths: map[identity.Tag]path{}}
}

func (q *queryTable) onPath(now Time, t identity.Tag, id LinkID) bool {
	p, ok := q.paths[t]
	return ok && p.link == id && now < p.until
}

func (q *queryTable) linkDown(id LinkID) {
	for t, p := range q.paths { // only deletes
		if p.link == id {
			delete(q.paths, t)
		}
	}
}

func (q *queryTable) soon(m *Machine) {
	if !m.cfg.Opsec {
		q.next = min(q.next, m.now.Add(queryDelay))
	}
}

// forget drops what is too old to matter, and everything if there is too much.
func (q *queryTable) forget(now Time) {
	for t, at := range q.asked {
		if now >= at.Add(pathLife) {
			delete(q.asked, t)
		}
	}
	for id, s := range q.seen {
		if now >= s.at.Add(pathLife) || len(q.seen) > maxSeen {
			delete(q.seen, id)
		}
	}
	for t, p := range q.paths {
		if now >= p.until {
			delete(q.paths, t)
		}
	}
}

// askPaths sends queries for sprayed bundles that no neighbour reads.
func (m *Machine) askPaths() {
	q := &m.queries
	q.forget(m.now)
	q.next = never
	if m.readyLinks() == 0 {
		return
	}
	sent := 0
	for _, e := range m.idx.all() {
		if e.state != held || e.budget == 0 || m.idx.scope(e) != routing.Spray || m.tags.watched(e.tag) || m.readByPeer(e) {
			continue
		}
		q.next = m.now.Add(pathLife)
		if _, ok := q.paths[e.tag]; ok || sent >= maxQueries {
			continue
		}
		if _, ok := q.asked[e.tag]; ok {
			continue
		}
		q.asked[e.tag] = m.now
		f := queryFrame{Query: m.rand.Uint64(), Tag: e.tag, Hops: maxQueryHops}
		q.seen[f.Query] = &seenQuery{at: m.now}
		sent++
		m.floodQuery(f, nil)
	}
}

func (m *Machine) readByPeer(e *entry) bool {
	hash := m.tags.hash(m, e.tag)
	for _, l := range m.slots {
		// Who takes everything may be a gateway with no reader behind it.
		if l != nil && l.ready && !l.peer.allTags && l.peer.serves(hash) {
			return true
		}
	}
	return false
}

func (m *Machine) floodQuery(f queryFrame, except *link) {
	for _, l := range m.slots {
		if l != nil && l.ready && l != except {
			m.send(l, f)
		}
	}
}

func (m *Machine) receivedQuery(l *link, f queryFrame) {
	q := &m.queries
	if m.cfg.Opsec || q.seen[f.Query] != nil {
		return
	}
	if !l.queryTokens.take(m.now, Rate{Bundles: queryMinute, Bytes: 1}, 0) {
		m.drop(DropQuery)
		return
	}
	if len(q.seen) >= maxSeen {
		q.forget(m.now)
	}
	q.seen[f.Query] = &seenQuery{from: l.id, at: m.now}
	if m.tags.tags[f.Tag]&watchLoud != 0 {
		m.send(l, pathFrame{Query: f.Query, Tag: f.Tag})
		return
	}
	if f.Hops > 1 && f.Hops <= maxQueryHops {
		f.Hops--
		m.floodQuery(f, l)
	}
}

// receivedPath notes the first answer to a query and passes it back.
func (m *Machine) receivedPath(l *link, f pathFrame) {
	q := &m.queries
	s := q.seen[f.Query]
	if s == nil || s.answered || f.Hops > maxQueryHops || len(q.paths) >= maxPaths {
		m.drop(DropUnexpected)
		return
	}
	s.answered = true
	q.paths[f.Tag] = path{l.id, m.now.Add(pathLife)}
	if back := m.links[s.from]; back != nil && back.ready {
		m.send(back, pathFrame{Query: f.Query, Tag: f.Tag, Hops: f.Hops + 1})
	}
	m.offerReaders(l)
}
