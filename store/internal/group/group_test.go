package group_test

import (
	"context"
	"errors"
	"slices"
	"sync"
	"testing"
	"testing/synctest"

	"outrider/store/internal/group"
)

// A lone caller is served at once; those who come while it works share the
// next batch, in order, each with its own error.
func TestBatches(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hold := make(chan struct{})
		odd := errors.New("odd")
		var batches [][]int
		g := group.Group[int]{Do: func(items []int) []error {
			batches = append(batches, slices.Clone(items))
			<-hold
			errs := make([]error, len(items))
			for i, n := range items {
				if n%2 == 1 {
					errs[i] = odd
				}
			}
			return errs
		}, Max: 4}
		var wg sync.WaitGroup
		for n := range 8 {
			wg.Go(func() {
				if err := g.Submit(t.Context(), n); (n%2 == 1) != errors.Is(err, odd) {
					t.Errorf("item %d: %v", n, err)
				}
			})
			synctest.Wait()
		}
		for range 3 {
			hold <- struct{}{}
			synctest.Wait()
		}
		wg.Wait()
		want := [][]int{{0}, {1, 2, 3, 4}, {5, 6, 7}}
		if !slices.EqualFunc(batches, want, slices.Equal[[]int]) {
			t.Fatalf("batches %v, want %v", batches, want)
		}
	})
}

// A caller whose context ends while it waits is gone; one already in a batch
// waits for its outcome.
func TestCancel(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hold := make(chan struct{})
		var seen []int
		g := group.Group[int]{Do: func(items []int) []error {
			seen = append(seen, items...)
			<-hold
			return make([]error, len(items))
		}}
		if err := g.Submit(cancelled(t), 100); !errors.Is(err, context.Canceled) {
			t.Fatalf("error %v", err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		wg.Go(func() {
			if err := g.Submit(ctx, 0); err != nil {
				t.Errorf("the leader: %v", err)
			}
		})
		synctest.Wait()
		wg.Go(func() {
			if err := g.Submit(ctx, 1); !errors.Is(err, context.Canceled) {
				t.Errorf("who waits: %v", err)
			}
		})
		synctest.Wait()
		wg.Go(func() {
			if err := g.Submit(t.Context(), 2); err != nil {
				t.Errorf("who stays: %v", err)
			}
		})
		synctest.Wait()
		cancel()
		synctest.Wait()
		close(hold)
		wg.Wait()
		if !slices.Equal(seen, []int{0, 2}) {
			t.Fatalf("worked on %v, want 0 and 2", seen)
		}
	})
}

func cancelled(t *testing.T) context.Context {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	return ctx
}

// Under load every item is worked on once, by one goroutine at a time.
func TestLoad(t *testing.T) {
	var mu sync.Mutex
	count := make(map[int]int)
	g := group.Group[int]{Do: func(items []int) []error {
		if !mu.TryLock() {
			t.Error("two batches at once")
			return make([]error, len(items))
		}
		defer mu.Unlock()
		for _, n := range items {
			count[n]++
		}
		return make([]error, len(items))
	}}
	var wg sync.WaitGroup
	for w := range 16 {
		wg.Go(func() {
			for i := range 500 {
				if err := g.Submit(t.Context(), w*1000+i); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	for n, times := range count {
		if times != 1 {
			t.Errorf("item %d worked on %d times", n, times)
		}
	}
	if len(count) != 16*500 {
		t.Errorf("%d items", len(count))
	}
}
