package mesh

import (
	"context"
	"errors"
	"sync"

	"outrider/mesh/cla"
)

// A shellLink is a link being served: its reader is the goroutine that called
// AddLink, its writer a second one.
type shellLink struct {
	id     LinkID
	cla    cla.Link
	cancel context.CancelFunc

	mu    sync.Mutex
	queue []Send
	bytes int
	wake  chan struct{}
	why   string
}

// AddLink serves a link until it closes, the machine hangs up, ctx ends or
// the agent stops, and closes it. Several links may be served at once. It
// returns nil when the link just ended.
func (s *Shell) AddLink(ctx context.Context, link cla.Link) error {
	defer link.Close()
	select {
	case <-s.ready:
	case <-s.done:
		return ErrClosed
	case <-ctx.Done():
		return ctx.Err()
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	l, ok := s.register(link, cancel)
	if !ok {
		return ErrClosed
	}
	defer s.users.Done()
	stop := context.AfterFunc(ctx, func() { link.Close() })
	defer stop()

	cursor, err := s.cfg.Store.Value(CursorKey(link.Peer()))
	if err != nil {
		s.log.Warn("no cursor of a neighbour", "peer", link.Peer().Short(), "err", err)
		cursor = nil // the sets are reconciled in full
	}
	if !s.post(PeerUp{Link: l.id, Peer: link.Peer(), Info: link.Info(), Cursor: cursor}) {
		return ErrClosed
	}
	var writer sync.WaitGroup
	writer.Go(func() { s.writeLoop(ctx, l) })
	err = s.readLoop(ctx, l)
	cancel()
	writer.Wait()
	s.unregister(l)
	s.post(PeerDown{Link: l.id})
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.why != "" {
		s.log.Warn("link closed", "peer", link.Peer().Short(), "err", l.why)
	}
	if errors.Is(err, cla.ErrClosed) || errors.Is(err, context.Canceled) || errors.Is(err, ErrClosed) {
		return nil
	}
	return err
}

func (s *Shell) register(link cla.Link, cancel context.CancelFunc) (*shellLink, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.state != shellRunning {
		return nil, false
	}
	s.users.Add(1)
	s.nextID++
	l := &shellLink{id: s.nextID, cla: link, cancel: cancel, wake: make(chan struct{}, 1)}
	s.links[l.id] = l
	return l, true
}

func (s *Shell) unregister(l *shellLink) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.links, l.id)
}

// readLoop parses frames and hands them to the machine. It stops reading
// while too much is on its way to disk or a subscriber lags behind.
func (s *Shell) readLoop(ctx context.Context, l *shellLink) error {
	for {
		if err := s.events.wait(ctx, s.done); err != nil {
			return err
		}
		raw, err := l.cla.Recv(ctx)
		if err != nil {
			return err
		}
		if len(raw) == 0 {
			continue
		}
		f, err := ParseFrame(raw)
		if err != nil {
			if !s.post(Malformed{l.id, raw[0]}) {
				return ErrClosed
			}
			continue
		}
		in := Received{Link: l.id, Frame: f}
		if body := Body(f); len(body) > 0 {
			if in.Token, err = s.payloads.add(ctx, body); err != nil {
				return err
			}
		}
		if !s.post(in) {
			return ErrClosed
		}
	}
}

// sendOn queues a frame for a link. A peer that does not read loses the link.
func (s *Shell) sendOn(o Send) {
	s.mu.Lock()
	l := s.links[o.Link]
	s.mu.Unlock()
	if l == nil {
		return
	}
	l.mu.Lock()
	l.queue = append(l.queue, o)
	l.bytes += len(o.Head)
	full := len(l.queue) > linkFrames || l.bytes > linkQueue
	if full {
		l.why = "neighbour does not read"
	}
	l.mu.Unlock()
	if full {
		l.cancel()
	}
	select {
	case l.wake <- struct{}{}:
	default:
	}
}

func (s *Shell) hangup(o Hangup) {
	s.mu.Lock()
	l := s.links[o.Link]
	s.mu.Unlock()
	if l == nil {
		return
	}
	l.mu.Lock()
	l.why = o.Reason
	l.mu.Unlock()
	l.cancel()
}

// writeLoop completes and sends frames, in order.
func (s *Shell) writeLoop(ctx context.Context, l *shellLink) {
	defer l.cla.Close() // so that the reader ends too
	for {
		l.mu.Lock()
		list := l.queue
		l.queue, l.bytes = nil, 0
		l.mu.Unlock()
		for _, o := range list {
			if !s.sendOne(ctx, l, o) {
				return
			}
		}
		if len(list) > 0 {
			continue
		}
		select {
		case <-l.wake:
		case <-ctx.Done():
			return
		case <-s.done:
			return
		}
	}
}

func (s *Shell) sendOne(ctx context.Context, l *shellLink, o Send) bool {
	frame, err := s.frame(ctx, o)
	if err != nil {
		if !errors.Is(err, ErrNotStored) {
			s.log.Error("cannot read what is to be sent", "peer", l.cla.Peer().Short(), "err", err)
		}
		return s.post(Unsent{Link: l.id, Head: UnsentHead(o), Gone: errors.Is(err, ErrNotStored)})
	}
	return l.cla.Send(ctx, frame) == nil
}
