package node

import (
	"context"
	"net/http"
	"sync"
)

// A turnstile lets requests through to whoever has the turn: first the node
// that is enrolling, then the whole one. Who comes between two turns waits, so
// nobody is turned away by the change.
type turnstile struct {
	mu   sync.Mutex
	turn *turn
	next chan struct{} // closed when the next turn begins
}

type turn struct {
	handler http.Handler
	over    context.Context
	inside  sync.WaitGroup
}

func newTurnstile() *turnstile { return &turnstile{next: make(chan struct{})} }

// serve gives h the turn until ctx ends, and returns when the last request is
// out. The contexts of requests end with ctx.
func (t *turnstile) serve(ctx context.Context, h http.Handler) {
	now := &turn{handler: h, over: ctx}
	t.mu.Lock()
	t.turn = now
	close(t.next)
	t.next = make(chan struct{})
	t.mu.Unlock()
	<-ctx.Done()
	t.mu.Lock()
	t.turn = nil
	t.mu.Unlock()
	now.inside.Wait()
}

// enter returns the turn, once there is one.
func (t *turnstile) enter(ctx context.Context) (*turn, error) {
	for {
		t.mu.Lock()
		now, next := t.turn, t.next
		if now != nil {
			now.inside.Add(1)
		}
		t.mu.Unlock()
		if now != nil {
			return now, nil
		}
		select {
		case <-next:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

func (t *turnstile) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	now, err := t.enter(r.Context())
	if err != nil {
		return // the caller is gone
	}
	defer now.inside.Done()
	ctx, cancel := context.WithCancel(r.Context())
	defer cancel()
	defer context.AfterFunc(now.over, cancel)()
	now.handler.ServeHTTP(w, r.WithContext(ctx))
}
