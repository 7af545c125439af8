package node

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"sync"

	"outrider/mesh"
	"outrider/mesh/bundle"
	"outrider/mesh/identity"
	"outrider/node/api"
	"outrider/node/chat"
)

// rawTags lets programs on the node send and receive payloads of their own:
// gateways, benchmarks. What they seal, and whether, is their affair.
type rawTags struct {
	agent *mesh.Shell
	wake  func()

	mu       sync.Mutex
	watchers map[identity.Tag]*watcher
}

// A watcher takes the bundles of one tag.
type watcher struct {
	mu    sync.Mutex
	queue []bundle.ID
	wake  chan struct{}
}

var _ api.Bundles = (*rawTags)(nil)

func newRawTags(agent *mesh.Shell, wake func()) *rawTags {
	return &rawTags{agent: agent, wake: wake, watchers: map[identity.Tag]*watcher{}}
}

// SubmitRaw stores a bundle; it is durable when it returns nil.
func (r *rawTags) SubmitRaw(ctx context.Context, b api.RawBundle) (bundle.ID, error) {
	var key bundle.PurgeKey
	rand.Read(key[:])
	h := bundle.Header{
		Version: bundle.Version, Tag: b.Tag, Precedence: b.Precedence, Lifetime: b.Lifetime,
		Commitment: key.Commit(b.Tag), Kind: bundle.KindMessage,
	}
	unit, err := bundle.New(h, b.Payload, 0)
	if err != nil {
		return bundle.ID{}, fmt.Errorf("node: submit: %v: %w", err, chat.ErrInvalid)
	}
	err = r.agent.Submit(ctx, unit, mesh.SubmitOptions{})
	switch {
	case errors.Is(err, mesh.ErrFull), errors.Is(err, mesh.ErrStoreFull):
		return bundle.ID{}, fmt.Errorf("%w: %v", chat.ErrFull, err)
	case errors.Is(err, mesh.ErrLifetime):
		return bundle.ID{}, fmt.Errorf("%v: %w", err, chat.ErrInvalid)
	case err != nil && !errors.Is(err, mesh.ErrExists):
		return bundle.ID{}, err
	}
	r.wake()
	return unit.ID(), nil
}

// consumeEvery bounds how many bundles are marked consumed in one go.
const consumeEvery = 256

// Arrived calls each for every bundle of tag, until ctx ends.
func (r *rawTags) Arrived(ctx context.Context, tag identity.Tag, each func(api.RawArrived) error) error {
	w, err := r.watch(tag)
	if err != nil {
		return err
	}
	defer r.unwatch(tag)
	for {
		ids := w.take()
		for len(ids) > 0 {
			n := min(len(ids), consumeEvery)
			if err := r.hand(ctx, ids[:n], each); err != nil {
				return ignoreEnd(ctx, err)
			}
			ids = ids[n:]
		}
		select {
		case <-ctx.Done():
			return nil
		case <-w.wake:
		}
	}
}

func (r *rawTags) hand(ctx context.Context, ids []bundle.ID, each func(api.RawArrived) error) error {
	for _, id := range ids {
		b, err := r.agent.Load(ctx, id)
		if errors.Is(err, mesh.ErrUnknown) {
			continue
		}
		if err != nil {
			return err
		}
		if err := each(api.RawArrived{ID: id, SHA256: sha256.Sum256(b.Payload), Size: len(b.Payload)}); err != nil {
			return err
		}
	}
	if err := r.agent.Consumed(ctx, ids); err != nil && !errors.Is(err, mesh.ErrUnknown) {
		return err
	}
	return nil
}

func (r *rawTags) watch(tag identity.Tag) (*watcher, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.watchers[tag] != nil {
		return nil, fmt.Errorf("node: watch tag: another program watches it: %w", api.ErrConflict)
	}
	w := &watcher{wake: make(chan struct{}, 1)}
	r.watchers[tag] = w
	r.agent.Watch([]identity.Tag{tag}, nil)
	return w, nil
}

func (r *rawTags) unwatch(tag identity.Tag) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.watchers, tag)
	r.agent.Watch(nil, []identity.Tag{tag})
}

// arrived passes an event to whoever watches its tag. What nobody takes is
// announced again when somebody does.
func (r *rawTags) arrived(e mesh.Arrived) bool {
	r.mu.Lock()
	w := r.watchers[e.Tag]
	r.mu.Unlock()
	if w == nil {
		return false
	}
	w.mu.Lock()
	w.queue = append(w.queue, e.ID)
	w.mu.Unlock()
	select {
	case w.wake <- struct{}{}:
	default:
	}
	return true
}

func (w *watcher) take() []bundle.ID {
	w.mu.Lock()
	defer w.mu.Unlock()
	ids := w.queue
	w.queue = nil
	return ids
}
