package mesh

import (
	"slices"

	"outrider/mesh/bundle"
)

const (
	maxPartialBytes = 2 << 20 // payload bytes of unfinished transfers, all links together
	maxIncoming     = 8       // unfinished transfers on one link
)

// A partial is a bundle that has come in part. It outlives the link it came
// over, and the next neighbour that has the bundle goes on where it stopped.
type partial struct {
	head  transferHead
	token Token
	have  int
	link  LinkID // 0 while nobody sends
	num   uint64
	mixed bool
	at    Time
}

// receivedBegin starts or continues a bundle that takes several frames.
func (m *Machine) receivedBegin(l *link, f beginFrame, t Token) {
	m.answered(f.ID)
	code, known := m.screen(l, f.transferHead)
	if !known {
		code, known = m.begin(l, f, t)
		if !known {
			return
		}
	}
	m.free(t)
	m.ack(l.id, f.Num, code)
}

// begin reports a code if the transfer is refused; the token is used if not.
func (m *Machine) begin(l *link, f beginFrame, t Token) (Code, bool) {
	p := m.partial(f.ID)
	switch {
	case p != nil && p.link != 0 && p.link != l.id:
		return CodeBusy, true
	case m.incoming(l) >= maxIncoming:
		return CodeBusy, true
	case p != nil && f.Offset == p.have && f.Offset > 0:
		m.count.Resumed++
		p.mixed = true
		p.head.Hop, p.head.Num = f.Hop, f.Num
		m.emit(Join{Into: p.token, From: t})
	case f.Offset > 0:
		return CodeRestart, true
	default:
		if p != nil {
			m.forgetPartial(p)
		}
		if !m.partialRoom(f.Size) {
			return CodeBusy, true
		}
		p = &partial{head: f.transferHead, token: t}
		m.partials = append(m.partials, p)
	}
	p.link, p.num, p.at = l.id, f.Num, m.now
	m.grow(l, p, len(f.Body))
	return 0, false
}

// receivedData continues a transfer that BEGIN began on this link.
func (m *Machine) receivedData(l *link, f dataFrame, t Token) {
	i := slices.IndexFunc(m.partials, func(p *partial) bool { return p.link == l.id && p.num == f.Num })
	if i < 0 {
		m.free(t) // answered already, the sender has not heard yet
		m.drop(DropUnexpected)
		return
	}
	p := m.partials[i]
	if f.Offset != p.have {
		m.free(t)
		p.link = 0
		m.blame(l, DropUnexpected)
		m.ack(l.id, f.Num, CodeRestart)
		return
	}
	m.emit(Join{Into: p.token, From: t})
	m.grow(l, p, len(f.Body))
}

func (m *Machine) grow(l *link, p *partial, n int) {
	p.have += n
	p.at = m.now
	switch {
	case p.have > p.head.Size:
		m.blame(l, DropHash)
		m.ack(l.id, p.num, CodeBad)
		m.forgetPartial(p)
	case p.have == p.head.Size:
		m.complete(l, p)
	}
}

func (m *Machine) complete(l *link, p *partial) {
	m.count.Received++
	m.partials = slices.DeleteFunc(m.partials, func(q *partial) bool { return q == p })
	a := &arrival{head: p.head, token: p.token, link: l.id, peer: l.peer, pieces: true, mixed: p.mixed}
	a.head.Num = p.num
	if code, known := m.screen(l, a.head); known { // it came another way meanwhile
		m.free(a.token)
		m.ack(l.id, p.num, code)
		return
	}
	m.proceed(a)
}

func (m *Machine) partial(id bundle.ID) *partial {
	for _, p := range m.partials {
		if p.head.ID == id {
			return p
		}
	}
	return nil
}

func (m *Machine) incoming(l *link) (n int) {
	for _, p := range m.partials {
		if p.link == l.id {
			n++
		}
	}
	return n
}

// partialRoom makes room by forgetting what nobody sends, oldest first.
func (m *Machine) partialRoom(size int) bool {
	for {
		total := size
		for _, p := range m.partials {
			total += p.head.Size
		}
		if len(m.partials) < maxPartials && total <= maxPartialBytes {
			return true
		}
		var oldest *partial
		for _, p := range m.partials {
			if p.link == 0 && (oldest == nil || p.at < oldest.at) {
				oldest = p
			}
		}
		if oldest == nil {
			return false
		}
		m.drop(DropPartial)
		m.forgetPartial(oldest)
	}
}

func (m *Machine) forgetPartial(p *partial) {
	m.free(p.token)
	m.partials = slices.DeleteFunc(m.partials, func(q *partial) bool { return q == p })
}

// idlePartials keeps what a lost link had begun.
func (m *Machine) idlePartials(id LinkID) {
	for _, p := range m.partials {
		if p.link == id {
			p.link = 0
		}
	}
}

// receivedAbort stops a transfer; what has come is kept.
func (m *Machine) receivedAbort(l *link, f abortFrame) {
	for _, p := range m.partials {
		if p.link == l.id && p.num == f.Num {
			p.link = 0
		}
	}
}

// tellPartials tells a new neighbour where to go on.
func (m *Machine) tellPartials(l *link) {
	var f partialFrame
	for _, p := range m.partials {
		if p.have > 0 && p.link == 0 {
			f.Items = append(f.Items, partialItem{p.head.ID, p.have})
		}
	}
	if len(f.Items) > 0 {
		m.send(l, f)
	}
}
