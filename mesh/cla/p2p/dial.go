package p2p

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"syscall"
	"time"

	"outrider/mesh/cla"
	"outrider/mesh/crowd"
	"outrider/mesh/identity"
)

// linkRetries bounds how often Dial connects anew because a connection ended
// before it became a link.
const linkRetries = 3

// Dial implements cla.Layer. Addresses are "host:port", best first. There is
// no back-off in here: whoever calls decides how often a silent peer is worth
// the air.
func (l *Layer) Dial(ctx context.Context, id identity.NodeID, addrs []string) error {
	ctx, leave, err := l.join(ctx)
	if err != nil {
		return err
	}
	defer leave()
	if !l.allowed(id) {
		return fmt.Errorf("p2p: dial %s: peer is switched off: %w", id.Short(), cla.ErrRefused)
	}
	for range linkRetries {
		mine, err := l.turn(ctx, id)
		if mine {
			err = l.connect(ctx, id, addrs)
			l.endTurn(id)
		}
		if l.Connected(id) { // or they dialled meanwhile
			return nil
		}
		if err != nil && !errors.Is(err, errDuplicate) {
			return fmt.Errorf("p2p: dial %s: %w", id.Short(), err)
		}
	}
	// The last connection may still become a link.
	mine, err := l.turn(ctx, id)
	if mine {
		l.endTurn(id)
		err = fmt.Errorf("connected, but no link came up: %w", cla.ErrUnreachable)
	}
	if err != nil {
		return fmt.Errorf("p2p: dial %s: %w", id.Short(), err)
	}
	return nil
}

// join makes ctx end with Run, and Run wait for the caller.
func (l *Layer) join(ctx context.Context) (context.Context, func(), error) {
	run, leave, err := l.enter()
	if err != nil {
		return nil, nil, err
	}
	ctx, cancel := context.WithCancel(ctx)
	stop := context.AfterFunc(run, cancel)
	return ctx, func() {
		stop()
		cancel()
		leave()
	}, nil
}

// turn waits until there is a live link, and reports false, or nothing is
// under way to one, and reports true: it is the caller's turn to dial, until
// it calls endTurn.
func (l *Layer) turn(ctx context.Context, id identity.NodeID) (mine bool, err error) {
	for {
		l.mu.Lock()
		p := l.peer(id)
		if p.live != nil {
			l.mu.Unlock()
			return false, nil
		}
		if !p.dialing && l.usable(p) == 0 && p.opening == nil {
			p.dialing = true
			l.mu.Unlock()
			return true, nil
		}
		changed := p.changed
		l.mu.Unlock()
		select {
		case <-changed:
		case <-ctx.Done():
			return false, ctx.Err()
		}
	}
}

func (l *Layer) endTurn(id identity.NodeID) {
	l.mu.Lock()
	defer l.mu.Unlock()
	p := l.peer(id)
	p.dialing = false
	p.wake()
	l.tidy(id, p)
}

// connect makes an admitted connection to the first address that has the
// peer.
func (l *Layer) connect(ctx context.Context, id identity.NodeID, addrs []string) error {
	return l.each(ctx, id, addrs, func(ctx context.Context, s session) error {
		c := &conn{session: s, layer: l, dialled: true}
		stop := context.AfterFunc(ctx, c.Close)
		err := c.introduce(ctx)
		if !stop() && err == nil {
			err = ctx.Err()
		}
		if err != nil {
			c.Close()
			if c.timer != nil {
				l.forget(c)
			}
			return err
		}
		l.crowd.Vouch(crowd.Of(c.Addr()))
		l.wg.Go(func() { l.attend(c) })
		return nil
	})
}

// FetchRoot returns the root record that the node id at one of addrs serves.
// It proves nothing but that this node serves it: the caller knows the hash.
func (l *Layer) FetchRoot(ctx context.Context, id identity.NodeID, addrs []string) ([]byte, error) {
	ctx, leave, err := l.join(ctx)
	if err != nil {
		return nil, err
	}
	defer leave()
	var root []byte
	err = l.each(ctx, id, addrs, func(ctx context.Context, s session) (err error) {
		defer s.Close()
		stop := context.AfterFunc(ctx, s.Close)
		defer stop()
		root, err = fetchRoot(ctx, s)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("p2p: fetch root from %s: %w", id.Short(), err)
	}
	return root, nil
}

func fetchRoot(ctx context.Context, s session) ([]byte, error) {
	st, err := s.Open(ctx)
	if err != nil {
		return nil, err
	}
	if err := propose(st, protoRoot, nil); err != nil {
		return nil, err
	}
	r := bufio.NewReaderSize(st, readBuffer)
	if err := agreed(r, protoRoot); err != nil {
		return nil, err
	}
	return readBlock(r, maxRoot)
}

// each secures a connection to the addresses in turn until use succeeds with
// one. A refusal ends it: the peer was there.
func (l *Layer) each(ctx context.Context, id identity.NodeID, addrs []string, use func(context.Context, session) error) error {
	if !l.allowed(id) {
		return fmt.Errorf("peer is switched off: %w", cla.ErrRefused)
	}
	select {
	case l.dialing <- struct{}{}:
		defer func() { <-l.dialing }()
	case <-ctx.Done():
		return ctx.Err()
	}
	errs := []error{cla.ErrUnreachable}
	for _, addr := range addrs {
		err := l.secured(ctx, id, addr, use)
		if err == nil || errors.Is(err, cla.ErrRefused) || errors.Is(err, errDuplicate) {
			return err
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		errs = append(errs, fmt.Errorf("%s: %v", addr, err))
	}
	return errors.Join(errs...)
}

// secured connects to one address and calls use within the time that a
// stranger has.
func (l *Layer) secured(ctx context.Context, id identity.NodeID, addr string, use func(context.Context, session) error) error {
	timed := func(s session) error {
		ctx, cancel := context.WithTimeout(ctx, l.profile.HelloTimeout)
		defer cancel()
		return use(ctx, s)
	}
	raced := false
	s, err := l.patiently(ctx, func(ctx context.Context) (s session, err error) {
		s, raced, err = l.dialFastest(ctx, id, addr)
		return s, err
	})
	if err != nil {
		return err
	}
	err = timed(s)
	if err == nil || !raced || ctx.Err() != nil || errors.Is(err, cla.ErrRefused) || errors.Is(err, errDuplicate) {
		return err
	}
	// At the door there our own attempt on TCP has put out the one on QUIC,
	// whose address counts as claimed only, and which won here all the same.
	s, err = l.patiently(ctx, func(ctx context.Context) (session, error) { return l.dialTCP(ctx, id, addr) })
	if err != nil {
		return err
	}
	return timed(s)
}

// patiently dials, again if the door there was full.
func (l *Layer) patiently(ctx context.Context, dial func(context.Context) (session, error)) (s session, err error) {
	err = errBusy
	for try := 0; errors.Is(err, errBusy) && try <= busyRetries; try++ {
		if try > 0 && !pause(ctx, jitter(busyPause<<(try-1))) {
			return nil, ctx.Err()
		}
		dctx, cancel := context.WithTimeout(ctx, l.profile.DialTimeout)
		s, err = dial(dctx)
		cancel()
	}
	return s, err
}

// jitter returns between d/2 and 3d/2, so that two nodes that met at a door
// do not meet there again.
func jitter(d time.Duration) time.Duration { return d/2 + rand.N(d) }

// dialFastest connects over QUIC if the profile has it, and over TCP when
// that fails or takes long. It says whether QUIC won although TCP had begun.
func (l *Layer) dialFastest(ctx context.Context, id identity.NodeID, addr string) (s session, raced bool, err error) {
	q := l.quicPort()
	if q == nil {
		s, err = l.dialTCP(ctx, id, addr)
		return s, false, err
	}
	type result struct {
		s   session
		err error
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	quicDone, tcpDone := make(chan result, 1), make(chan result, 1)
	l.wg.Go(func() {
		s, err := q.dial(ctx, id, addr)
		quicDone <- result{s, err}
	})
	var first result
	select {
	case first = <-quicDone:
		if first.err == nil {
			return first.s, false, nil
		}
		s, err = l.dialTCP(ctx, id, addr)
		return s, false, err
	case <-time.After(quicLead):
	}
	l.wg.Go(func() {
		s, err := l.dialTCP(ctx, id, addr)
		tcpDone <- result{s, err}
	})
	other := tcpDone
	select {
	case first = <-quicDone:
	case first = <-tcpDone:
		other = quicDone
	}
	if first.err != nil && !errors.Is(first.err, syscall.ECONNREFUSED) { // refused: the node is not up
		first = <-other
		other = nil
	}
	cancel()
	if other != nil {
		l.wg.Go(func() {
			if late := <-other; late.err == nil {
				late.s.Close()
			}
		})
	}
	_, raced = first.s.(*quicSession)
	return first.s, raced, first.err
}
