package mesh

import (
	"context"
	"slices"
	"sync"
)

// events passes on what happens to all subscribers.
type events struct {
	mu     sync.Mutex
	subs   []*Subscription
	room   chan struct{} // closed when a backlog went down; nil while none is long
	closed bool
}

// A Subscription receives events in order. See Shell.Events.
type Subscription struct {
	hub    *events
	queue  []Event       // guarded by hub.mu
	wake   chan struct{} // holds one token while there may be something
	closed bool
}

func (e *events) subscribe() *Subscription {
	e.mu.Lock()
	defer e.mu.Unlock()
	s := &Subscription{hub: e, wake: make(chan struct{}, 1), closed: e.closed}
	e.subs = append(e.subs, s)
	return s
}

func (e *events) emit(ev Event) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, s := range e.subs {
		s.queue = append(s.queue, ev)
		if len(s.queue) > eventBacklog && e.room == nil {
			e.room = make(chan struct{})
		}
		s.rouse()
	}
}

func (s *Subscription) rouse() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// wait blocks while a subscriber lags behind.
func (e *events) wait(ctx context.Context, done <-chan struct{}) error {
	e.mu.Lock()
	room := e.room
	e.mu.Unlock()
	if room == nil {
		return nil
	}
	select {
	case <-room:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	case <-done:
		return ErrClosed
	}
}

// relieve ends the waiting when no backlog is long any more.
func (e *events) relieve() {
	if e.room == nil || slices.ContainsFunc(e.subs, func(s *Subscription) bool { return len(s.queue) > eventBacklog/2 }) {
		return
	}
	close(e.room)
	e.room = nil
}

func (e *events) close() {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.closed = true
	for _, s := range e.subs {
		s.closed = true
		s.rouse()
	}
	if e.room != nil {
		close(e.room)
		e.room = nil
	}
}

// Next waits for the next event. It returns ErrClosed when the subscription
// was closed, or when the agent has ended and everything was read.
func (s *Subscription) Next(ctx context.Context) (Event, error) {
	for {
		s.hub.mu.Lock()
		if len(s.queue) > 0 {
			ev := s.queue[0]
			s.queue[0] = nil
			if s.queue = s.queue[1:]; len(s.queue) == 0 {
				s.queue = nil
			}
			s.hub.relieve()
			s.hub.mu.Unlock()
			return ev, nil
		}
		closed := s.closed
		s.hub.mu.Unlock()
		if closed {
			s.rouse() // for others that wait
			return nil, ErrClosed
		}
		select {
		case <-s.wake:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// Close ends the subscription; what is unread is gone.
func (s *Subscription) Close() {
	s.hub.mu.Lock()
	defer s.hub.mu.Unlock()
	s.closed, s.queue = true, nil
	s.hub.subs = slices.DeleteFunc(s.hub.subs, func(o *Subscription) bool { return o == s })
	s.hub.relieve()
	s.rouse()
}
