// Package group merges concurrent calls into batches, which is how many
// callers share one fsync.
//
// There is no timer and no goroutine: the first caller works for everybody
// who has queued up by the time it starts, then hands the work to the first
// one still waiting. A lone caller is never delayed; while a slow disk works
// on one batch, the next one grows.
package group

import (
	"context"
	"slices"
	"sync"
)

// A Group runs Do over batches of items. Do is called by one goroutine at a
// time, with items in the order they were submitted, and returns one error
// for each.
type Group[T any] struct {
	Do  func(items []T) []error
	Max int // items in a batch; 0 is no limit

	mu    sync.Mutex
	queue []*call[T]
	busy  bool // somebody leads
}

type call[T any] struct {
	item T
	lead chan struct{} // closed when this caller must lead
	done chan error
}

// Submit hands item to Do and returns its error. When ctx ends before a batch
// has taken the item, Submit withdraws it and returns the context's error;
// after that it waits, because the outcome could not be told otherwise.
func (g *Group[T]) Submit(ctx context.Context, item T) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	c := &call[T]{item: item, lead: make(chan struct{}), done: make(chan error, 1)}
	if g.enqueue(c) {
		return g.run()
	}
	select {
	case err := <-c.done:
		return err
	case <-c.lead:
		return g.run()
	case <-ctx.Done():
		if g.withdraw(c) {
			return ctx.Err()
		}
	}
	select {
	case err := <-c.done:
		return err
	case <-c.lead:
		return g.run()
	}
}

// enqueue adds c and reports whether its caller leads.
func (g *Group[T]) enqueue(c *call[T]) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.queue = append(g.queue, c)
	if g.busy {
		return false
	}
	g.busy = true
	return true
}

// withdraw removes c if no batch has it and nobody made it the leader.
func (g *Group[T]) withdraw(c *call[T]) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	select {
	case <-c.lead:
		return false
	default:
	}
	i := slices.Index(g.queue, c)
	if i < 0 {
		return false
	}
	g.queue = slices.Delete(g.queue, i, i+1)
	return true
}

// run takes the batch at whose head the caller stands, works on it, and hands
// the lead on.
func (g *Group[T]) run() error {
	batch := g.take()
	items := make([]T, len(batch))
	for i, c := range batch {
		items[i] = c.item
	}
	errs := g.Do(items)
	for i, c := range batch[1:] {
		c.done <- errs[i+1]
	}
	g.handOn()
	return errs[0]
}

func (g *Group[T]) take() []*call[T] {
	g.mu.Lock()
	defer g.mu.Unlock()
	n := len(g.queue)
	if g.Max > 0 {
		n = min(n, g.Max)
	}
	batch := slices.Clone(g.queue[:n])
	g.queue = slices.Delete(g.queue, 0, n)
	return batch
}

func (g *Group[T]) handOn() {
	g.mu.Lock()
	defer g.mu.Unlock()
	if len(g.queue) == 0 {
		g.busy = false
		return
	}
	close(g.queue[0].lead)
}
