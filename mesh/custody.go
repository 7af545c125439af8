package mesh

import (
	"cmp"
	"slices"
	"time"

	"outrider/mesh/bundle"
)

// RecordCost is what a bundle is charged besides its payload, and a tombstone,
// in bytes.
const RecordCost = 256

// What we chose about space; other nodes may choose otherwise.
const (
	ownReserve   = 30        // per cent of the store that neighbours' bundles never take, if nothing is configured
	leastShare   = 25        // per cent of the rest that any one neighbour may take
	maxVictims   = 1024      // candidates for eviction found by one scan
	forgetMost   = 256       // entries forgotten at once when the index is full
	graceSecs    = 3600      // how long an ended lifetime is remembered, so that the bundle does not come back
	sweepSecs    = 1         // least time between two scans for ended lifetimes
	maxPending   = 8 << 20   // payload bytes being written at which neighbours get no more window
	minuteTokens = 60 * 1000 // a bucket's unit: thousandths of a second of its rate
)

// space is what bundles take, by who is charged.
type space struct {
	total, own int64
	victims    []ref // found by the last scan, next victim last
}

// cost is what an entry is charged in its present state.
func (e *entry) cost() int64 {
	switch e.state {
	case pending, held:
		return int64(e.size) + RecordCost
	case purging, purged:
		if e.is(flagKept) {
			return int64(e.size) + RecordCost
		}
		return RecordCost
	}
	return 0
}

// to changes the state of an entry and what it is charged.
func (m *Machine) to(slot uint32, s state) {
	e := &m.idx.entries[slot]
	before := e.cost()
	e.state = s
	m.charge(e, e.cost()-before)
}

// keep notes whether a purged or purging bundle's payload is on disk.
func (m *Machine) keep(slot uint32, on bool) {
	e := &m.idx.entries[slot]
	before := e.cost()
	e.set(flagKept, on)
	m.charge(e, e.cost()-before)
}

func (m *Machine) charge(e *entry, n int64) {
	m.space.total += n
	if e.is(flagOwn) {
		m.space.own += n
		return
	}
	m.peers[e.ingress].bytes += n
}

// addEntry makes a bundle known and charges it.
func (m *Machine) addEntry(e entry) uint32 {
	slot := m.idx.add(e)
	p := &m.idx.entries[slot]
	m.charge(p, p.cost())
	m.peers[p.ingress].ids++
	m.expiry = min(m.expiry, fromSecs(p.deadline))
	return slot
}

// removeEntry forgets a bundle altogether.
func (m *Machine) removeEntry(slot uint32) {
	m.leave(slot)
	e := &m.idx.entries[slot]
	m.charge(e, -e.cost())
	m.peers[e.ingress].ids--
	if key, ok := m.byEntry[slot]; ok {
		delete(m.byEntry, slot)
		if m.control[key].slot == slot {
			delete(m.control, key)
		}
	}
	m.idx.remove(slot)
}

// forgetPending takes back an entry whose write failed.
func (m *Machine) forgetPending(slot uint32) {
	m.landed(m.idx.entries[slot].seq)
	m.removeEntry(slot)
}

// ownSpace is what neighbours' bundles never take.
func (m *Machine) ownSpace() int64 { return m.lim.Bytes * int64(m.lim.Reserve) / 100 }

func (m *Machine) relayLimit() int64 { return m.lim.Bytes - m.ownSpace() }

// share is what one neighbour may take of a limit.
func (m *Machine) share(limit int64) int64 {
	n := int64(0)
	for _, p := range m.peers[1:] {
		if p.ids > 0 || p.links > 0 {
			n++
		}
	}
	return max(limit*leastShare/100, limit/max(n, 1))
}

// admitTomb finds room for the purge record of a bundle that takes none yet.
func (m *Machine) admitTomb() grant {
	if m.space.total+RecordCost <= m.lim.Bytes {
		return grant{}
	}
	return m.evict(RecordCost, bundle.Flash+1)
}

// A grant is what admit decided: the bundles that must go in the same
// transaction, or why there is no room.
type grant struct {
	victims []uint32
	refusal Reason
}

// admitOwn finds room for a bundle submitted here. Others' bundles go only
// while the reserve is not used up.
func (m *Machine) admitOwn(need int64, served bundle.Precedence) grant {
	if m.idx.len() >= m.lim.Known && !m.forget() {
		return grant{refusal: DropNoSpace}
	}
	if m.space.total+need <= m.lim.Bytes {
		return grant{}
	}
	if m.space.own+need <= m.ownSpace() {
		return m.evict(need, bundle.Flash+1)
	}
	return m.evict(need, served)
}

// admitFrom finds room for a bundle from a neighbour. What the neighbour may
// take is bounded by its share; what has been acknowledged gives way only to
// higher precedence. What is read here (mine) may use the reserve.
func (m *Machine) admitFrom(p *peer, need int64, served bundle.Precedence, mine bool) grant {
	if m.idx.len() >= m.lim.Known && !m.forget() {
		return grant{refusal: DropNoSpace}
	}
	if int64(p.ids)+1 > m.share(int64(m.lim.Known)) {
		return grant{refusal: DropShare}
	}
	if p.bytes+need > m.share(m.relayLimit()) {
		return m.evictOf(p, need, served)
	}
	relayed := m.space.total - m.space.own
	if (mine || relayed+need <= m.relayLimit()) && m.space.total+need <= m.lim.Bytes {
		return grant{}
	}
	return m.evict(need, served)
}

// evict names victims of lower precedence that free as much as is needed.
func (m *Machine) evict(need int64, served bundle.Precedence) grant {
	var g grant
	rescanned := false
	for need > 0 {
		if len(m.space.victims) == 0 {
			if rescanned {
				return grant{refusal: DropNoSpace}
			}
			rescanned = true
			m.findVictims()
			continue
		}
		last := len(m.space.victims) - 1
		r := m.space.victims[last]
		e := m.idx.at(r)
		if e == nil || !evictable(e) {
			m.space.victims = m.space.victims[:last]
			continue
		}
		if e.served() >= served {
			return grant{refusal: DropNoSpace}
		}
		m.space.victims = m.space.victims[:last]
		g.victims = append(g.victims, r.slot)
		need -= e.cost()
	}
	return g
}

// evictOf is evict for a neighbour whose share is used up: only its own
// bundles of lower precedence make room for it.
func (m *Machine) evictOf(p *peer, need int64, served bundle.Precedence) (g grant) {
	if served == bundle.Routine {
		return grant{refusal: DropShare}
	}
	var all []uint32
	for slot, e := range m.idx.all() {
		if evictable(e) && e.ingress == p.index && e.served() < served {
			all = append(all, slot)
		}
	}
	slices.SortFunc(all, func(a, b uint32) int { return m.evictOrder(&m.idx.entries[a], &m.idx.entries[b]) })
	for _, slot := range all {
		if need <= 0 {
			break
		}
		g.victims = append(g.victims, slot)
		need -= m.idx.entries[slot].cost()
	}
	if need > 0 {
		return grant{refusal: DropShare}
	}
	return g
}

func evictable(e *entry) bool { return e.state == held && !e.is(flagOwn) }

// findVictims scans once for the next candidates. The order is that of
// decisions 17: lowest precedence; copies that may not be the last of their
// kind before those that may; the neighbour with the largest share; most
// replicas; oldest.
func (m *Machine) findVictims() {
	type candidate struct {
		ref
		e *entry
	}
	var all []candidate
	for slot, e := range m.idx.all() {
		if evictable(e) {
			all = append(all, candidate{m.idx.ref(slot), e})
		}
	}
	slices.SortFunc(all, func(a, b candidate) int { return m.evictOrder(a.e, b.e) })
	all = all[:min(len(all), maxVictims)]
	m.space.victims = m.space.victims[:0]
	for _, c := range slices.Backward(all) {
		m.space.victims = append(m.space.victims, c.ref)
	}
}

func (m *Machine) evictOrder(a, b *entry) int {
	last := func(e *entry) int64 {
		if e.budget == 1 {
			return 1
		}
		return 0
	}
	done := func(e *entry) int64 { // what was handed over here is remembered only while it is here
		if e.is(flagConsumed) {
			return 1
		}
		return 0
	}
	for _, d := range [...]int64{
		int64(a.served()) - int64(b.served()),
		last(a) - last(b),
		done(a) - done(b),
		m.peers[b.ingress].bytes - m.peers[a.ingress].bytes,
		int64(b.replicas) - int64(a.replicas),
		int64(a.seq) - int64(b.seq),
	} {
		if d != 0 {
			return int(max(-1, min(1, d)))
		}
	}
	return 0
}

// evicted turns victims into wanted ids: they stay in the set, so that they
// are not offered in vain, and are asked for again when there is room. What
// was handed over here is not wanted again (see wanted).
func (m *Machine) evicted(victims []uint32) {
	for _, slot := range victims {
		m.drop(DropEvicted)
		m.unblob(slot)
		m.idx.entries[slot].has = 0
		m.to(slot, refused)
	}
}

// unevict takes an eviction back that was not written.
func (m *Machine) unevict(victims []uint32) {
	for _, slot := range victims {
		if e := &m.idx.entries[slot]; e.state == refused {
			m.to(slot, held)
		}
	}
}

// wanted reports whether a bundle was refused or evicted for want of space
// and is still of use.
func (e *entry) wanted() bool { return e.state == refused && !e.is(flagConsumed) }

func deletions(m *Machine, victims []uint32) (ops []Op) {
	for _, slot := range victims {
		ops = append(ops, DeleteBundle{m.idx.entries[slot].id})
	}
	return ops
}

// forget makes room in a full index, some at a time because it has to look at
// all: what is remembered only so as not to be asked for goes first, then what
// was handed over here and has ended, the longest ago first. A node that is
// told of more in an hour than it can remember takes mail all the same.
func (m *Machine) forget() bool {
	var gone, handed []uint32
	for slot, e := range m.idx.all() {
		switch {
		case e.state == superseded || e.state == expired && !e.is(flagConsumed):
			gone = append(gone, slot)
		case e.state == expired:
			handed = append(handed, slot)
		}
		if len(gone) == forgetMost {
			break
		}
	}
	if len(gone) == 0 {
		slices.SortStableFunc(handed, func(a, b uint32) int { return cmp.Compare(m.idx.entries[a].deadline, m.idx.entries[b].deadline) })
		gone = handed[:min(len(handed), forgetMost)]
	}
	var ops []Op
	for _, slot := range gone {
		if e := m.idx.entries[slot]; e.is(flagKept) {
			ops = append(ops, DeleteBundle{e.id})
		}
		m.removeEntry(slot)
	}
	m.remove(ops)
	return len(gone) > 0
}

// remove commits deletions that nobody waits for, in transactions that a store
// takes. One that fails is found again at the next start.
func (m *Machine) remove(ops []Op) {
	for some := range slices.Chunk(ops, MaxCommitOps) {
		m.commit(func(error) {}, some...)
	}
}

// A bucket bounds what a neighbour gets served with a precedence.
type bucket struct {
	bundles, bytes int64 // in units of 1/minuteTokens
	at             Time
	begun          bool
}

// take reports whether one bundle of size bytes is within the rate.
func (b *bucket) take(now Time, r Rate, size int64) bool {
	if !b.begun {
		b.bundles, b.bytes, b.begun = r.Bundles*minuteTokens, r.Bytes*minuteTokens, true
	}
	ms := min(now.Sub(b.at), time.Minute).Milliseconds()
	if b.at == 0 || ms > 0 {
		b.bundles = min(b.bundles+ms*r.Bundles, r.Bundles*minuteTokens)
		b.bytes = min(b.bytes+ms*r.Bytes, r.Bytes*minuteTokens)
		b.at = now
	}
	if b.bundles < minuteTokens || b.bytes < size*minuteTokens {
		return false
	}
	b.bundles -= minuteTokens
	b.bytes -= size * minuteTokens
	return true
}

// demote decides whether a bundle of that precedence is beyond its
// neighbour's rate and is served as ROUTINE.
func (m *Machine) demote(p *peer, prec bundle.Precedence, size int) bool {
	var r Rate
	switch prec {
	case bundle.Flash:
		r = m.lim.Flash
	case bundle.Immediate:
		r = m.lim.Immediate
	case bundle.Priority:
		r = m.lim.Priority
	default:
		return false
	}
	if p.buckets[prec].take(m.now, r, int64(size)) {
		return false
	}
	m.count.Demoted++
	return true
}
