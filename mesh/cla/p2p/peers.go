package p2p

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"outrider/mesh/cla"
	"outrider/mesh/identity"
)

// One live link per pair.
//
// Both nodes may dial at once and a node may dial anew because it lost a link
// that the other still believes in. So that both always choose the same
// connection, one of the two decides alone: the one with the smaller NodeID
// leads. Only it opens the mesh stream, on one connection at a time, and a
// link begins with the follower's answer, before which no frame is sent.
//
// What the leader cannot see is whether a second connection is a duplicate,
// made while the link was coming up, or a replacement by a follower that lost
// it. The follower numbers the mesh streams it accepts and says the number in
// its answer; in each hello it says the highest number that is over. A second
// connection whose hello says the live link's number, or a higher one, or
// comes from another run of the node, replaces it; any other is a duplicate.

var (
	errVersion   = errors.New("no common protocol version")
	errCrowded   = errors.New("no room for another connection")
	errDuplicate = errors.New("linked already")
)

// A peerState is what we have with one admitted peer. Layer.mu guards it.
type peerState struct {
	conns   []*conn
	live    *link
	opening *conn         // we lead, and wait for the answer to an opening on it
	dialing bool          // a Dial is at work
	served  chan struct{} // closed when serve of the newest link has returned
	changed chan struct{} // closed and renewed at any change
}

// peer returns the state of a peer. l.mu is held.
func (l *Layer) peer(id identity.NodeID) *peerState {
	p := l.peers[id]
	if p == nil {
		p = &peerState{changed: make(chan struct{})}
		l.peers[id] = p
	}
	return p
}

func (p *peerState) wake() {
	close(p.changed)
	p.changed = make(chan struct{})
}

// leads reports whether we decide about links with the peer.
func (l *Layer) leads(peer identity.NodeID) bool { return l.self.Compare(peer) < 0 }

// over returns the number of the newest accepted link with peer that is over,
// and whether there is one that is not.
func (l *Layer) over(peer identity.NodeID) (number uint64, live bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if p := l.peers[peer]; p != nil && p.live != nil {
		return p.live.number - 1, true // numbers begin at 1
	}
	return l.accepted, false
}

// admit makes c one of the peer's connections.
func (l *Layer) admit(c *conn) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.run == nil {
		return ErrNotRunning
	}
	if !l.allowed(c.Peer()) {
		return cla.ErrRefused
	}
	if l.full(c.Peer()) {
		return errCrowded
	}
	p := l.peer(c.Peer())
	if l.usable(p) >= maxPeerConns && !l.closeSpare(p) {
		return errCrowded
	}
	if c.judged != l.rechecks {
		l.wg.Go(func() { l.recheck(c) })
	}
	c.Admitted()
	p.conns = append(p.conns, c)
	l.conns++
	c.timer = time.AfterFunc(l.nextLook(c), func() { l.look(c) })
	c.unused = time.AfterFunc(l.profile.HelloTimeout, c.closeUnused)
	if l.leads(c.Peer()) {
		l.decide(c.Peer(), p)
	}
	p.wake()
	return nil
}

// full reports whether there is no room for a connection of a peer that has
// none yet. l.mu is held.
func (l *Layer) full(peer identity.NodeID) bool {
	p := l.peers[peer]
	return l.conns >= maxConns && (p == nil || len(p.conns) == 0)
}

// usable counts the connections that are not being closed, and hurries those
// that are when they become many. l.mu is held.
func (l *Layer) usable(p *peerState) (n int) {
	for _, c := range p.conns {
		if !c.spent {
			n++
		} else if len(p.conns) > maxPeerConns {
			l.wg.Go(c.Close)
		}
	}
	return n
}

// ended notes that a link is over, so that another may be made at once, while
// the last frames of this one are still under way.
func (l *Layer) ended(k *link) {
	l.mu.Lock()
	defer l.mu.Unlock()
	k.conn.spent = true
	p := l.peers[k.Peer()]
	if p == nil || p.live != k {
		return
	}
	p.live = nil
	if l.run != nil && l.leads(k.Peer()) {
		l.decide(k.Peer(), p)
	}
	p.wake()
}

// closeSpare ends a connection of p that carries nothing. It stays in the
// list until attend has noticed.
func (l *Layer) closeSpare(p *peerState) bool {
	for _, c := range p.conns {
		if c.link == nil && p.opening != c && !c.spent {
			c.spent = true
			l.wg.Go(c.Close)
			return true
		}
	}
	return false
}

// closeUnused ends a connection on which no link began in good time.
func (c *conn) closeUnused() {
	c.layer.mu.Lock()
	unused := c.link == nil
	c.layer.mu.Unlock()
	if unused {
		c.Close()
	}
}

// forget removes an ended connection.
func (l *Layer) forget(c *conn) {
	l.mu.Lock()
	defer l.mu.Unlock()
	c.timer.Stop()
	c.unused.Stop()
	p := l.peers[c.Peer()]
	p.conns = slices.DeleteFunc(p.conns, func(x *conn) bool { return x == c })
	l.conns--
	c.spent = true
	if p.live != nil && p.live.conn == c {
		p.live = nil
	}
	if l.run != nil && l.leads(c.Peer()) {
		l.decide(c.Peer(), p)
	}
	p.wake()
	l.tidy(c.Peer(), p)
}

// tidy drops a state that says nothing any more. l.mu is held.
func (l *Layer) tidy(id identity.NodeID, p *peerState) {
	if len(p.conns) > 0 || p.dialing || p.opening != nil {
		return
	}
	if p.served != nil {
		select {
		case <-p.served:
		default:
			return // the next link must wait for it
		}
	}
	delete(l.peers, id)
}

// decide opens a mesh stream if one is needed and there is a connection for
// it. We lead; l.mu is held.
func (l *Layer) decide(id identity.NodeID, p *peerState) {
	if p.opening != nil {
		return
	}
	for _, c := range slices.Clone(p.conns) {
		if c.link != nil || c.spent {
			continue
		}
		if p.live != nil && !replaces(c, p.live) {
			c.spent = true
			l.wg.Go(c.Close)
			continue
		}
		if p.live != nil {
			l.wg.Go(p.live.cut)
			p.live = nil
		}
		p.opening = c
		l.opened++
		serial := l.opened
		l.wg.Go(func() { l.openMesh(id, c, serial) })
		return
	}
}

// replaces reports whether c was made after the peer had lost the live link.
func replaces(c *conn, live *link) bool {
	return !bytes.Equal(c.theirs.Instance, live.conn.theirs.Instance) || c.over >= live.number
}

// openMesh opens the mesh stream on c and starts the link.
func (l *Layer) openMesh(id identity.NodeID, c *conn, serial uint64) {
	ctx, cancel := context.WithTimeout(context.Background(), l.profile.HelloTimeout)
	defer cancel()
	stop := context.AfterFunc(ctx, c.Close)
	s, r, number, err := c.proposeMesh(ctx, serial)
	if !stop() && err == nil {
		err = ctx.Err()
	}

	l.mu.Lock()
	p := l.peer(id)
	p.opening = nil
	if err != nil || l.run == nil {
		l.log.Debug("link not begun", "peer", id.Short(), "err", err)
		c.spent = true
		if l.run != nil {
			l.decide(id, p)
		}
		p.wake()
		l.tidy(id, p)
		l.mu.Unlock()
		c.Close()
		return
	}
	k := l.begin(p, c, s, r, serial, number)
	l.decide(id, p) // a second connection may have come meanwhile
	l.mu.Unlock()
	l.serveLink(p, k)
}

func (c *conn) proposeMesh(ctx context.Context, serial uint64) (stream, *bufio.Reader, uint64, error) {
	s, err := c.Open(ctx)
	if err != nil {
		return nil, nil, 0, err
	}
	first, err := appendMessage(nil, message{Serial: serial})
	if err != nil {
		return nil, nil, 0, err
	}
	if err := propose(s, protoMesh, first); err != nil {
		return nil, nil, 0, err
	}
	r := bufio.NewReaderSize(s, readBuffer)
	if err := agreed(r, protoMesh); err != nil {
		return nil, nil, 0, err
	}
	answer, err := readMessage(r)
	if err != nil {
		return nil, nil, 0, err
	}
	if answer.Code != codeOK {
		return nil, nil, 0, fmt.Errorf("peer answers: %v", answer.Code)
	}
	if answer.Number == 0 {
		return nil, nil, 0, fmt.Errorf("peer does not number its links: %w", identity.ErrMalformed)
	}
	return s, r, answer.Number, nil
}

// meshOpened answers the leader's opening.
func (l *Layer) meshOpened(c *conn, s stream, r *bufio.Reader) {
	m, err := readMessage(r)
	if err != nil || l.leads(c.Peer()) {
		s.Reset()
		c.Close() // only the leader opens, and it knows how
		return
	}
	k, p, answer := l.acceptMesh(c, s, r, m.Serial)
	if k == nil {
		c.refuse(context.Background(), s, answer.Code)
		c.Close()
		return
	}
	if err := writeMessage(s, answer); err != nil {
		c.Close() // the link ends with it, as serveLink finds out
	}
	_ = s.SetDeadline(time.Time{})
	l.serveLink(p, k)
}

// acceptMesh decides about an opening and makes it the live link. A late one,
// overtaken by another on a faster path, is refused.
func (l *Layer) acceptMesh(c *conn, s stream, r *bufio.Reader, serial uint64) (*link, *peerState, message) {
	l.mu.Lock()
	defer l.mu.Unlock()
	p := l.peer(c.Peer())
	old := p.live
	late := old != nil && bytes.Equal(old.conn.theirs.Instance, c.theirs.Instance) && serial <= old.serial
	if l.run == nil || c.link != nil || c.spent || late {
		return nil, p, message{Code: codeDuplicate}
	}
	if old != nil {
		l.wg.Go(old.cut)
	}
	l.accepted++
	return l.begin(p, c, s, r, serial, l.accepted), p, message{Number: l.accepted}
}

// begin makes the link on c the live one. l.mu is held.
func (l *Layer) begin(p *peerState, c *conn, s stream, r *bufio.Reader, serial, number uint64) *link {
	k := newLink(c, s, r)
	k.serial, k.number = serial, number
	k.before, p.served = p.served, k.served
	c.link, p.live = k, k
	p.wake()
	return k
}

// serveLink runs serve for a new link, after that for the one before.
func (l *Layer) serveLink(p *peerState, k *link) {
	ctx, leave, err := l.enter()
	if err != nil {
		close(k.served)
		k.cut()
		return
	}
	k.start()
	if l.leads(k.Peer()) {
		l.wg.Go(func() { l.handOver(k.conn) })
	}
	go func() {
		defer leave()
		if k.before != nil {
			<-k.before
		}
		l.log.Info("link up", "peer", k.Peer().Short())
		l.serve(ctx, k)
		_ = k.Close()
		l.mu.Lock()
		close(k.served)
		l.tidy(k.Peer(), p)
		l.mu.Unlock()
		<-k.Done()
		tx, rx := k.Counters()
		l.log.Info("link down", "peer", k.Peer().Short(), "bytes", tx+rx, "dur", time.Since(k.since))
	}()
}

// nextLook is when the admission of c is to be looked at again.
func (l *Layer) nextLook(c *conn) time.Duration {
	if c.until.IsZero() {
		return judgeEvery
	}
	return min(max(c.until.Sub(l.now()), 0), judgeEvery)
}

// look ends c if its admission has ended. The clock may have been set, so it
// looks every minute.
func (l *Layer) look(c *conn) {
	l.mu.Lock()
	over := !c.until.IsZero() && !c.until.After(l.now())
	if !over {
		c.timer.Reset(l.nextLook(c))
	}
	l.mu.Unlock()
	if over && l.recheck(c) {
		l.mu.Lock()
		c.timer.Reset(l.nextLook(c))
		l.mu.Unlock()
	}
}

// Recheck asks the gate and the admission about all connected peers again and
// closes at once those that may not stay. Call it when a revocation arrived
// or the gate changed.
func (l *Layer) Recheck() {
	l.mu.Lock()
	l.rechecks++
	var all []*conn
	for _, p := range l.peers {
		all = append(all, p.conns...)
	}
	l.mu.Unlock()
	for _, c := range all {
		l.recheck(c)
	}
}

// recheck judges c anew and reports whether it may stay.
func (l *Layer) recheck(c *conn) bool {
	err := error(cla.ErrRefused)
	var until time.Time
	if l.allowed(c.Peer()) {
		until, err = l.admission.Admit(c.Peer(), c.theirs.Chain)
	}
	if err == nil && !until.IsZero() && !until.After(l.now()) {
		err = identity.ErrExpired
	}
	if err != nil {
		l.log.Info("peer may not stay", "peer", c.Peer().Short(), "err", err)
		c.Close()
		return false
	}
	l.mu.Lock()
	c.until = until
	l.mu.Unlock()
	return true
}
