package p2p

import (
	"bufio"
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"log/slog"
	"time"

	"outrider/mesh/cla"
	"outrider/mesh/identity"
)

// A conn is a connection and what its peer said in its hello.
type conn struct {
	session
	layer   *Layer
	dialled bool
	theirs  message // their hello

	// Guarded by layer.mu.
	over   uint64      // number of the newest link that the peer said is over
	until  time.Time   // end of the admission, zero for none
	link   *link       // once there is one; a connection carries one
	spent  bool        // being closed, not to be used any more
	timer  *time.Timer // looks at the admission
	unused *time.Timer // closes the connection if no link begins

	judged uint64 // layer.rechecks when the peer was admitted
}

// welcome serves an inbound connection from its first stream on: as a
// stranger until ctx ends, then, if admitted, until it ends.
func (l *Layer) welcome(ctx context.Context, s session, v *visitor) {
	c := &conn{session: s, layer: l}
	defer c.Close()
	if !l.allowed(c.Peer()) {
		l.turned.refused.Add(1)
		l.log.Debug("connection refused: peer is switched off", "peer", c.Peer().Short())
		return
	}
	stop := context.AfterFunc(ctx, c.Close)
	err := c.hearOut(ctx, v)
	if !stop() && err == nil {
		err = context.Cause(ctx)
	}
	if err != nil {
		l.turned.refused.Add(1)
		l.crowd.Refuse(v.source)
		l.log.Log(ctx, l.refused.level(slog.LevelInfo), "peer not admitted", "peer", c.Peer().Short(), "addr", v.source.String(), "err", err)
		return
	}
	v.leave()
	l.crowd.Vouch(v.source)
	l.attend(c)
}

// hearOut serves a stranger's streams until it is admitted.
func (c *conn) hearOut(ctx context.Context, v *visitor) error {
	for range maxStrangerStreams {
		s, err := c.Accept(ctx)
		if err != nil {
			return fmt.Errorf("ended before a hello: %v", err)
		}
		proto, err := choose(s, protoRoot, protoHello)
		if err != nil {
			s.Reset()
			return fmt.Errorf("no protocol for strangers: %v", err)
		}
		v.speaks()
		if proto == protoHello {
			return c.answerHello(ctx, s)
		}
		c.serveRoot(s)
	}
	return fmt.Errorf("%d streams without a hello", maxStrangerStreams)
}

// serveRoot hands out the root record. The other side checks it by its hash.
func (c *conn) serveRoot(s stream) {
	root := c.layer.admission.RootRecord()
	if len(root) == 0 || len(root) > maxRoot {
		c.layer.log.Error("root record cannot be served", "bytes", len(root))
		s.Reset()
		return
	}
	if _, err := s.Write(append(binary.AppendUvarint(nil, uint64(len(root))), root...)); err != nil {
		s.Reset()
		return
	}
	_ = s.Close()
}

// answerHello reads a hello, answers it and hears whether the other side
// takes us as well.
func (c *conn) answerHello(ctx context.Context, s stream) error {
	r := bufio.NewReaderSize(s, readBuffer)
	hello, err := readMessage(r)
	if err == nil {
		err = c.judgeHello(hello)
	}
	if err != nil {
		c.refuse(ctx, s, codeFor(err))
		return fmt.Errorf("hello: %w", err)
	}
	if err := writeMessage(s, c.layer.hello(c.Peer())); err != nil {
		return fmt.Errorf("answer hello: %v", err)
	}
	last, err := readMessage(r)
	if err != nil {
		return fmt.Errorf("hello not confirmed: %v", err)
	}
	if last.Code != codeOK {
		return fmt.Errorf("peer would not have us: %v", last.Code)
	}
	_ = s.Close()
	c.over = last.Number
	return c.layer.admit(c)
}

// refuse tells a stranger why and gives it a moment to read that.
func (c *conn) refuse(ctx context.Context, s stream, why code) {
	if writeMessage(s, message{Code: why}) != nil || s.CloseWrite() != nil {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, answerLinger)
	defer cancel()
	select {
	case <-c.Done():
	case <-ctx.Done():
	}
}

// introduce says hello on an outbound connection and admits the peer.
func (c *conn) introduce(ctx context.Context) error {
	s, err := c.Open(ctx)
	if err != nil {
		return fmt.Errorf("open hello: %v", err)
	}
	first, err := appendMessage(nil, c.layer.hello(c.Peer()))
	if err != nil {
		return err
	}
	if err := propose(s, protoHello, first); err != nil {
		return fmt.Errorf("say hello: %v", err)
	}
	r := bufio.NewReaderSize(s, readBuffer)
	if err := agreed(r, protoHello); err != nil {
		return fmt.Errorf("say hello: %v", err)
	}
	answer, err := readMessage(r)
	if err != nil {
		return fmt.Errorf("hear answer to hello: %v", err)
	}
	if answer.Code != codeOK {
		return fmt.Errorf("%w: peer answers: %v", cla.ErrRefused, answer.Code)
	}
	if err := c.judgeHello(answer); err != nil {
		_ = writeMessage(s, message{Code: codeFor(err)})
		_ = s.CloseWrite()
		return fmt.Errorf("%w: %w", cla.ErrRefused, err)
	}
	return c.confirm(s)
}

// confirm tells the peer that it is admitted, unless it was linked meanwhile.
func (c *conn) confirm(s stream) error {
	over, live := c.layer.over(c.Peer())
	if live {
		_ = writeMessage(s, message{Code: codeDuplicate})
		return errDuplicate
	}
	if err := writeMessage(s, message{Number: over}); err != nil {
		return fmt.Errorf("confirm hello: %v", err)
	}
	_ = s.Close()
	return c.layer.admit(c)
}

// hello returns what we say of ourselves.
func (l *Layer) hello(to identity.NodeID) message {
	over, _ := l.over(to)
	return message{
		MinVersion: l.versions[0], MaxVersion: l.versions[1], Features: l.features,
		Class: uint8(l.profile.Class), Instance: l.instance, Number: over,
		Chain: l.admission.Hello(),
	}
}

// judgeHello decides whether the peer may become a neighbour.
func (c *conn) judgeHello(m message) error {
	if err := m.hello(); err != nil {
		return err
	}
	if m.MaxVersion < c.layer.versions[0] || m.MinVersion > c.layer.versions[1] {
		return fmt.Errorf("versions %d to %d: %w", m.MinVersion, m.MaxVersion, errVersion)
	}
	c.layer.mu.Lock()
	c.judged = c.layer.rechecks
	full := c.layer.full(c.Peer())
	c.layer.mu.Unlock()
	if full {
		return errCrowded
	}
	until, err := c.layer.admission.Admit(c.Peer(), m.Chain)
	if err != nil {
		return err
	}
	if !until.IsZero() && !until.After(c.layer.now()) {
		return fmt.Errorf("admission has ended: %w", identity.ErrExpired)
	}
	c.theirs, c.until, c.over = m, until, m.Number
	return nil
}

// info describes the link that c will carry.
func (c *conn) info() cla.Info {
	p := c.layer.profile
	class := min(p.Class, cla.Class(c.theirs.Class))
	return cla.Info{
		Class: class, RateBps: min(p.RateBps, ProfileOf(class).RateBps),
		Addr: c.Addr(), Dialled: c.dialled,
		Version:  min(c.layer.versions[1], c.theirs.MaxVersion),
		Features: c.layer.features & c.theirs.Features,
	}
}

// attend serves the streams of an admitted connection until it ends.
func (l *Layer) attend(c *conn) {
	defer l.forget(c)
	defer c.Close()
	for {
		s, err := c.Accept(context.Background()) // Close ends it
		if err != nil {
			return
		}
		l.wg.Go(func() { l.handle(c, s) })
	}
}

// handle serves one stream of an admitted peer.
func (l *Layer) handle(c *conn, s stream) {
	_ = s.SetDeadline(time.Now().Add(l.profile.HelloTimeout))
	r := bufio.NewReaderSize(s, readBuffer)
	ours := []string{protoRoot, protoMesh}
	if l.secrets != nil {
		ours = append(ours, protoSecret)
	}
	proto, err := choose(buffered{r, s}, ours...)
	switch {
	case err != nil:
		s.Reset()
	case proto == protoRoot:
		c.serveRoot(s)
	case proto == protoSecret:
		l.answerSecrets(c, s, r)
	default:
		l.meshOpened(c, s, r)
	}
}

func writeMessage(w io.Writer, m message) error {
	b, err := appendMessage(nil, m)
	if err != nil {
		return err
	}
	_, err = w.Write(b)
	return err
}
