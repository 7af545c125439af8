package mesh

import (
	"slices"
	"time"

	"outrider/mesh/cla"
	"outrider/mesh/routing"
)

const (
	maxAsked   = 65536           // ids asked for and not answered
	maxBackoff = time.Hour       // between comparisons that change nothing
	wantDelay  = time.Second     // from space given back to asking for what was refused
	wantPeriod = 5 * time.Minute // between two askings
	maxWanted  = 64              // refused ids asked for in one contact (decisions 16)
)

func (m *Machine) peerUp(in PeerUp) {
	slot := slices.Index(m.slots[:], nil)
	p := m.peerOf(in.Peer)
	if slot < 0 || p == nil || m.links[in.Link] != nil {
		m.emit(Hangup{in.Link, "too many links"})
		return
	}
	if p.known == (cursor{}) {
		p.known = parseCursor(in.Cursor)
		p.saved = p.known
	}
	l := m.newLink(in, p, slot)
	m.links[in.Link], m.slots[slot] = l, l
	p.links++
	for _, e := range m.idx.all() {
		e.has &^= l.bit // the slot was somebody else's
	}
	l.told, l.sentCursor, l.sentSeq = m.currentRoot(), p.known, m.settledSeq()
	m.send(l, stateFrame{
		Min: protocolMin, Max: protocolMax, Heads: m.heads, Generation: m.cfg.Generation,
		Epoch: m.cfg.Epoch, Seq: l.sentSeq, KnownEpoch: p.known.epoch, KnownSeq: p.known.seq, KnownSpray: p.known.spray,
		Root: l.told, FreeKiB: m.freeKiB(), AckEvery: l.pace.ackEvery,
	})
	if !m.cfg.Opsec {
		m.tellTags(l)
	}
	m.tellPartials(l)
}

func (m *Machine) freeKiB() uint64 {
	return uint64(max(0, min(m.lim.Bytes-m.space.total, m.relayLimit()-(m.space.total-m.space.own))) >> 10)
}

func (m *Machine) peerDown(in PeerDown) {
	l := m.links[in.Link]
	if l == nil {
		return
	}
	wasReady := l.remote.Max != 0
	l.closed, l.ready = true, false
	delete(m.links, in.Link)
	m.slots[l.slot] = nil
	l.peer.links--
	m.idlePartials(l.id)
	m.unask(l)
	m.dropSession(l)
	m.cutTransfers(l)
	m.blobDown(l)
	m.queries.linkDown(l.id)
	m.saveCursor(l.peer)
	if wasReady {
		m.event(LinkDown{Peer: l.peer.id, Class: l.info.Class})
	}
}

// unask lets other neighbours be asked for what this one did not deliver.
func (m *Machine) unask(l *link) {
	if l.asked == 0 {
		return
	}
	for short, a := range m.asked { // only deletes: order does not matter
		if a.link == l.id {
			delete(m.asked, short)
		}
	}
	for _, other := range m.slots {
		if other != nil && other.ready {
			m.checkIn(other, other.pace.settle)
		}
	}
}

// cutTransfers gives back replicas that cannot have arrived: those whose last
// byte was not sent.
func (m *Machine) cutTransfers(l *link) {
	for _, list := range l.reserved {
		for _, o := range list {
			m.refund(o)
		}
	}
	nums := make([]uint64, 0, len(l.unacked))
	for num := range l.unacked {
		nums = append(nums, num)
	}
	slices.Sort(nums)
	for _, num := range nums {
		if o := l.unacked[num]; o.next < o.size {
			m.refund(o)
		}
	}
}

// received takes one frame.
func (m *Machine) received(in Received) {
	l := m.links[in.Link]
	if l == nil || l.closed {
		m.free(in.Token)
		return
	}
	if in.Frame.kind() >= countedFrames {
		l.got++
		l.dirty = true
	}
	if f, ok := in.Frame.(stateFrame); ok != !l.ready {
		m.free(in.Token)
		m.blame(l, DropUnexpected)
		return
	} else if ok {
		m.receivedState(l, f)
		return
	}
	if !m.receivedBundles(l, in) && !m.receivedSets(l, in.Frame) && !m.receivedBlobs(l, in) {
		m.free(in.Token)
		m.drop(DropUnknown)
	}
}

func (m *Machine) receivedBundles(l *link, in Received) bool {
	switch f := in.Frame.(type) {
	case bundleFrame:
		m.receivedBundle(l, f, in.Token)
	case beginFrame:
		m.receivedBegin(l, f, in.Token)
	case dataFrame:
		m.receivedData(l, f, in.Token)
	case abortFrame:
		m.receivedAbort(l, f)
	case purgeFrame:
		m.receivedPurge(l, f)
	case ackFrame:
		m.receivedAck(l, f)
	case partialFrame:
		m.receivedPartial(l, f)
	default:
		return false
	}
	return true
}

func (m *Machine) receivedSets(l *link, frame Frame) bool {
	switch f := frame.(type) {
	case syncFrame:
		m.receivedSync(l, f)
	case tagsFrame:
		m.receivedTags(l, f)
	case scopesFrame:
		m.receivedScopes(l, f)
	case differFrame:
		m.receivedDiffer(l, f)
	case askFrame:
		m.receivedAsk(l, f)
	case symbolsFrame:
		m.receivedSymbols(l, f)
	case wantFrame:
		m.receivedWant(l, f)
	case listFrame:
		m.receivedList(l, f)
	case offerFrame:
		m.receivedOffer(l, f)
	case pickFrame:
		m.receivedPick(l, f)
	case goneFrame:
		m.receivedGone(l, f)
	case queryFrame:
		m.receivedQuery(l, f)
	case pathFrame:
		m.receivedPath(l, f)
	default:
		return false
	}
	return true
}

// malformed counts a frame that did not parse. It used up window all the same.
func (m *Machine) malformed(in Malformed) {
	l := m.links[in.Link]
	if l == nil || l.closed {
		return
	}
	if in.Type >= countedFrames {
		l.got++
		l.dirty = true
	}
	m.blame(l, DropMalformed)
}

// receivedState begins the contact proper.
func (m *Machine) receivedState(l *link, f stateFrame) {
	if f.Min > protocolMax || f.Max < protocolMin || f.Max == 0 {
		m.hangup(l, "no common protocol version")
		return
	}
	if p := l.peer; p.known.epoch != f.Epoch {
		p.known, p.shun = cursor{epoch: f.Epoch}, nil // its store is a new one
	}
	f.Heads = slices.Clone(f.Heads)
	l.remote, l.ready, l.dirty, l.progress = f, true, true, m.now
	m.event(LinkUp{Peer: l.peer.id, Class: l.info.Class})
	if len(f.Heads) > 0 {
		m.event(PeerHeads{Peer: l.peer.id, Heads: f.Heads})
	}
	m.beginContact(l)
	m.walkSpray(l)
	m.blobUp(l)
	m.queries.soon(m)
	m.wantNext = min(m.wantNext, m.now.Add(wantDelay))
}

// beginContact chooses how the difference is found. Both sides choose from
// the same numbers, so they choose alike.
func (m *Machine) beginContact(l *link) {
	f := l.remote
	switch {
	case f.Generation != m.cfg.Generation:
		for s := range routing.Scopes { // short ids do not compare: tell all
			l.addWalk(&walk{kind: walkList, scope: s})
		}
	case f.Root == l.told:
		m.count.EqualContacts++
		m.inSync(l)
		l.addWalk(&walk{kind: walkCursor, since: l.sentSeq}) // what came while the STATEs crossed
	case m.cursorsHold(l):
		m.count.CursorContacts++
		l.addWalk(&walk{kind: walkCursor, since: f.KnownSeq})
		m.checkIn(l, 3*l.pace.settle) // both will have told their new root
	case m.decodes(l):
		m.startSession(l)
	default:
		m.checkIn(l, l.pace.stall) // the peer begins
	}
}

// cursorsHold reports whether both sides know of each other how far they
// were, and little has come since.
func (m *Machine) cursorsHold(l *link) bool {
	f, known := l.remote, l.sentCursor
	if f.KnownEpoch != m.cfg.Epoch || known.epoch != f.Epoch || f.KnownSeq > l.sentSeq || known.seq > f.Seq {
		return false
	}
	if f.KnownSeq == 0 || known.seq == 0 {
		return false // never compared
	}
	return routing.UseCursor(l.sentSeq - f.KnownSeq + f.Seq - known.seq)
}

// decodes reports whether this side decodes and the peer streams: the node
// with the smaller id streams.
func (m *Machine) decodes(l *link) bool { return l.peer.id.Compare(m.cfg.Self) < 0 }

// inSync notes that the peer's set equals ours as of what it last told.
func (m *Machine) inSync(l *link) {
	l.peer.known.seq = max(l.peer.known.seq, l.remote.Seq)
	l.backoff = l.pace.settle
}

// quiet reports whether nothing is on its way in either direction, as far as
// this side can know.
func (l *link) quiet() bool {
	if l.asked > 0 || len(l.unacked) > 0 || len(l.ctl) > 0 || len(l.walks) > 0 || len(l.live) > 0 || len(l.offers) > 0 {
		return false
	}
	for level := range l.queue {
		if len(l.queue[level]) > 0 || len(l.reserved[level]) > 0 {
			return false
		}
	}
	return l.pledged == 0
}

// noteQuiet advances the cursor of sprayed bundles when all came.
func (m *Machine) noteQuiet(l *link) {
	if l.asked == 0 && l.sprayUpto > 0 {
		l.peer.known.spray = max(l.peer.known.spray, l.sprayUpto)
		l.sprayUpto = 0
	}
}

// tellRoot sends a SYNC.
func (m *Machine) tellRoot(l *link) {
	l.syncAt = never
	if !l.ready || l.told == m.currentRoot() {
		return
	}
	l.told = m.currentRoot()
	m.send(l, syncFrame{Seq: m.settledSeq(), Root: l.told, FreeKiB: m.freeKiB()})
	m.judgeRoots(l)
}

func (m *Machine) receivedSync(l *link, f syncFrame) {
	l.remote.Seq, l.remote.Root, l.remote.FreeKiB = f.Seq, f.Root, f.FreeKiB
	m.judgeRoots(l)
}

func (m *Machine) judgeRoots(l *link) {
	if l.remote.Root == m.currentRoot() {
		m.inSync(l)
		return
	}
	m.checkIn(l, l.pace.settle)
}

// checkIn looks for a difference after a while, not before the back-off ends.
func (m *Machine) checkIn(l *link, d time.Duration) {
	if l.closed {
		return
	}
	l.checkAt = min(l.checkAt, max(m.now.Add(d), l.notBefore))
}

// compare starts a reconciliation if the sets still differ and nothing is on
// its way that would change that.
func (m *Machine) compare(l *link) {
	if !l.ready || l.remote.Generation != m.cfg.Generation {
		return
	}
	if l.respray {
		l.respray = false
		l.addWalk(&walk{kind: walkSpray})
		l.dirty = true
	}
	switch {
	case l.remote.Root == m.currentRoot():
		m.inSync(l)
	case l.inSession():
	case !l.quiet():
		m.checkIn(l, l.pace.settle)
	case m.decodes(l):
		m.startSession(l)
	default:
		m.tellRoot(l)
	}
}

// askWanted asks for what was refused for want of space, highest precedence
// first.
func (m *Machine) askWanted() {
	m.wantNext = never
	var list []*entry
	for _, e := range m.idx.all() {
		if e.wanted() && e.left(m.now) > 0 {
			list = append(list, e)
		}
	}
	if len(list) == 0 {
		return
	}
	m.wantNext = m.now.Add(wantPeriod)
	slices.SortStableFunc(list, func(a, b *entry) int { return int(b.served()) - int(a.served()) })
	for _, l := range m.slots {
		if l == nil || !l.ready {
			continue
		}
		room := int64(m.freeKiB()) << 10
		var f wantFrame
		for _, e := range list {
			short := m.idx.short(e.id)
			if l.wanted >= maxWanted || room < int64(e.size)+RecordCost {
				break
			}
			if m.avoided(l.peer, short) || !m.ask(l, short) {
				continue
			}
			room -= int64(e.size) + RecordCost
			l.wanted++
			f.Shorts = append(f.Shorts, short)
		}
		if len(f.Shorts) > 0 {
			m.send(l, f)
		}
	}
}

// patience bounds how long an answer may be on its way before somebody else is
// asked.
func patience(c cla.Class) time.Duration {
	if c == cla.Radio {
		return 30 * time.Minute
	}
	return 2 * time.Minute
}
