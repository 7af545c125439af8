package mesh

import (
	"errors"

	"outrider/mesh/bundle"
	"outrider/mesh/routing"
)

// An arrival is a bundle on its way into the store, from a neighbour or from
// a caller.
type arrival struct {
	head   transferHead
	token  Token
	link   LinkID // 0 for a caller's
	peer   *peer
	req    uint64
	opts   SubmitOptions
	pieces bool // put together here, so that its hash is still to be checked
	mixed  bool // and from more than one source
	begun  Time // when it was first put off
}

func (a *arrival) own() bool { return a.link == 0 }

// receivedBundle takes a whole bundle from a neighbour.
func (m *Machine) receivedBundle(l *link, f bundleFrame, t Token) {
	m.count.Received++
	a := &arrival{head: f.transferHead, token: t, link: l.id, peer: l.peer}
	m.answered(a.head.ID)
	if code, known := m.screen(l, a.head); known {
		m.free(t)
		m.ack(l.id, f.Num, code)
		return
	}
	m.proceed(a)
}

// screen refuses cheaply what is known or too old already.
func (m *Machine) screen(l *link, h transferHead) (Code, bool) {
	slot := m.idx.find(h.ID)
	if slot == 0 {
		switch {
		case m.idx.collides(h.ID):
			m.drop(DropCollision)
			return CodeBad, true
		case h.Hop.Age >= m.life(h.Header):
			m.drop(DropOld)
			m.avoid(l.peer, m.idx.short(h.ID))
			return CodeExpired, true
		case h.Header.Kind == bundle.KindControl && m.waiting(h.ID):
			m.drop(DropDuplicate)
			return CodeLater, true
		}
		return 0, false
	}
	e := &m.idx.entries[slot]
	e.has |= l.bit
	switch e.state {
	case refused:
		if e.wanted() {
			return 0, false // perhaps there is room now
		}
	case purged, purging:
		if m.lacksKept(e) {
			return 0, false
		}
		e.has &^= l.bit // it does not know
		m.queueFor(l, slot)
		m.drop(DropPurged)
		return CodePurged, true
	case superseded:
		m.drop(DropSuperseded)
		return CodeSuperseded, true
	case expired:
		m.drop(DropOld)
		m.avoid(l.peer, m.idx.short(h.ID))
		return CodeExpired, true
	}
	m.drop(DropDuplicate)
	m.younger(slot, h.Hop)
	return CodeDuplicate, true
}

// proceed passes a new bundle to the judge or to the store.
func (m *Machine) proceed(a *arrival) {
	if a.head.Header.Kind != bundle.KindControl {
		m.admit(a, Judgement{})
		return
	}
	if m.judging[a.token] != nil || len(m.judging) >= maxJudging || a.token == 0 {
		m.refuse(a, CodeLater, ErrRefused)
		return
	}
	m.judging[a.token] = a
	m.emit(JudgeControl{a.token})
}

// admit finds room for a bundle and writes it.
func (m *Machine) admit(a *arrival, v Judgement) {
	e, code := m.entryFor(a, v)
	if code != CodeDurable {
		m.refuse(a, code, ErrExists)
		return
	}
	g := m.grantFor(a, &e)
	if g.refusal != "" {
		m.refuseForSpace(a, e, g.refusal)
		return
	}
	if old := m.idx.find(e.id); old != 0 { // wanted, and here it is
		e.set(flagOwn, e.is(flagOwn) || m.idx.entries[old].is(flagOwn)) // our own, damaged, comes home
		m.removeEntry(old)
	}
	e.state, e.seq = pending, m.arrive()
	ops := deletions(m, g.victims)
	m.evicted(g.victims)
	slot := m.addEntry(e)
	ops = append(ops, m.supersede(slot, v)...)
	rec := Record{
		ID: e.id, Hop: a.head.Hop, Header: a.head.Header, PayloadHash: a.head.PayloadHash,
		Size: a.head.Size, Blob: a.head.Blob, Meta: m.meta(slot),
	}
	m.writing += int64(a.head.Size)
	at := m.idx.ref(slot)
	ops = append(ops, PutBundle{Record: rec, Token: a.token, Check: a.pieces})
	m.commit(func(err error) { m.stored(a, at, g.victims, err) }, ops...)
}

// entryFor makes the entry of an arrival. The bundle may have become known
// since it was screened.
func (m *Machine) entryFor(a *arrival, v Judgement) (entry, Code) {
	h := a.head
	if slot := m.idx.find(h.ID); slot != 0 && !m.idx.entries[slot].wanted() && !m.lacksKept(&m.idx.entries[slot]) {
		return entry{}, CodeDuplicate
	}
	if m.idx.collides(h.ID) {
		m.drop(DropCollision)
		return entry{}, CodeBad
	}
	e := m.newEntry(h.ID, h.Header, h.Size, h.Hop.Age)
	if v.Left > 0 {
		e.deadline = min(e.deadline, m.now.Add(v.Left).secs())
	}
	e.set(flagUrgent, v.Urgent || a.own() && a.opts.Urgent)
	e.set(flagOwn, a.own())
	e.budget = h.Hop.Budget
	if a.own() {
		return e, CodeDurable
	}
	e.ingress = a.peer.index
	if l := m.links[a.link]; l != nil {
		e.has = l.bit
	}
	return e, CodeDurable
}

func (m *Machine) grantFor(a *arrival, e *entry) grant {
	need := int64(e.size) + RecordCost
	if a.own() {
		return m.admitOwn(need, e.served())
	}
	e.set(flagDemoted, m.demote(a.peer, e.header, int(e.size)))
	return m.admitFrom(a.peer, need, e.served(), m.tags.watched(e.tag))
}

// refuseForSpace remembers what could not be taken, to ask for it when there
// is room.
func (m *Machine) refuseForSpace(a *arrival, e entry, why Reason) {
	m.drop(why)
	if !a.own() && m.idx.find(e.id) == 0 && m.idx.len() < m.lim.Known {
		e.state = refused
		slot := m.addEntry(e)
		m.join(slot)
		m.wantNext = min(m.wantNext, m.now.Add(wantPeriod))
	}
	m.refuse(a, CodeNoSpace, ErrFull)
}

// refuse ends an arrival that is not stored.
func (m *Machine) refuse(a *arrival, code Code, err error) {
	m.free(a.token)
	if a.own() {
		m.emit(Reply{a.req, err})
		return
	}
	m.ack(a.link, a.head.Num, code)
}

// stored is the store's answer. Only now is custody accepted, and only now is
// the bundle offered to anybody.
func (m *Machine) stored(a *arrival, at ref, victims []uint32, err error) {
	m.writing -= int64(a.head.Size)
	m.spreadWindow()
	e := m.idx.at(at)
	if e == nil {
		panic("mesh: a pending entry is gone") // nothing removes one before its answer
	}
	if err != nil {
		m.notStored(a, at, victims, err)
		return
	}
	m.landed(e.seq)
	e.has |= m.bitsOf(a.peer) // the link it came over may have been replaced since
	if len(victims) > 0 {
		m.freed()
	}
	if a.own() {
		m.count.Submitted++
		m.emit(Reply{a.req, nil})
	} else {
		m.ack(a.link, a.head.Num, CodeDurable)
		m.accepted(a, e)
		if l := m.links[a.link]; l != nil {
			l.backoff = l.pace.settle // comparing was of use
		}
	}
	if e.state != pending {
		m.keep(at.slot, e.state == purging) // a purge record came in between and is being written
		return
	}
	m.superseding(at.slot)
	m.to(at.slot, held)
	m.join(at.slot)
	if a.head.Blob != nil {
		m.blobRef(at.slot, *a.head.Blob)
	}
	m.deliver(at.slot)
	m.spread(at.slot)
}

func (m *Machine) notStored(a *arrival, at ref, victims []uint32, err error) {
	m.unevict(victims)
	m.restoreSuperseded(at.slot)
	if m.idx.entries[at.slot].state == pending {
		m.forgetPending(at.slot)
	} else {
		m.landed(m.idx.entries[at.slot].seq) // its purge record is being written
	}
	code, reply := CodeFailed, err
	switch {
	case errors.Is(err, ErrStoreFull):
		code, reply = CodeNoSpace, ErrFull
		m.drop(DropNoSpace)
	case errors.Is(err, ErrVerify):
		code = m.hashFailed(a)
	default:
		m.drop(DropStore)
	}
	if a.own() {
		m.emit(Reply{a.req, reply})
		return
	}
	m.ack(a.link, a.head.Num, code)
}

// hashFailed decides who is to blame for bytes that are not those announced:
// nobody, if they came from several neighbours; then they are fetched whole.
func (m *Machine) hashFailed(a *arrival) Code {
	m.drop(DropHash)
	if a.mixed {
		return CodeRestart
	}
	if l := m.links[a.link]; l != nil {
		m.blame(l, DropHash)
		m.avoid(l.peer, m.idx.short(a.head.ID))
	}
	return CodeBad
}

// deliver announces a bundle whose tag is watched here, and every control
// object.
func (m *Machine) deliver(slot uint32) {
	e := &m.idx.entries[slot]
	here := e.state == held || e.state == purged && e.is(flagKept) && m.archives(e)
	if !here || e.is(flagConsumed) || e.deadline <= m.now.secs() {
		return
	}
	if !m.tags.watched(e.tag) && e.kind != uint8(bundle.KindControl) {
		return
	}
	m.count.Delivered++
	m.event(Arrived{ID: e.id, Tag: e.tag, Kind: bundle.Kind(e.kind)})
}

// spread offers or pushes a bundle or tombstone to every neighbour that does
// not have it.
func (m *Machine) spread(slot uint32) {
	e := &m.idx.entries[slot]
	if m.idx.scope(e) == routing.Spray && e.state != purged {
		m.spreadSpray(slot)
		return
	}
	ready := m.readyLinks()
	for _, l := range m.slots {
		if l == nil || !l.ready || e.has&l.bit != 0 {
			continue
		}
		reads := l.peer.serves(m.tags.hash(m, e.tag))
		if routing.Push(e.served(), e.state == purged, reads, int(e.size), ready, l.remote.FreeKiB == 0) {
			m.queueFor(l, slot)
		} else {
			m.offerLive(l, slot)
		}
	}
}

func (m *Machine) readyLinks() (n int) {
	for _, l := range m.slots {
		if l != nil && l.ready {
			n++
		}
	}
	return n
}

// spreadWindow lets acknowledgements flow again after writes have caught up.
func (m *Machine) spreadWindow() {
	if m.writing < maxPending {
		for _, l := range m.slots {
			if l != nil && l.got != l.gotTold {
				l.dirty = true
			}
		}
	}
}
