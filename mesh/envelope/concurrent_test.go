package envelope

import (
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"
)

// Many goroutines draft, seal, open, accept and sweep at once.
func TestConcurrentUse(t *testing.T) {
	w := newWorld(t)
	alice, bob := w.node('a', 1), w.node('b', 1)
	e := alice.start(bob)
	const senders, each = 4, 50
	mails := make(chan mail, senders*each)
	var sending sync.WaitGroup
	for s := range senders {
		sending.Go(func() {
			for i := range each {
				m, err := alice.trySend(e, fmt.Sprint(s, "/", i), i%2 == 0)
				if err != nil {
					t.Error(err)
					return
				}
				mails <- m
			}
		})
	}
	go func() { sending.Wait(); close(mails) }()
	var mu sync.Mutex
	seen := map[uint32]bool{}
	var working sync.WaitGroup
	for range 3 {
		working.Go(func() {
			for m := range mails {
				o, err := bob.open(m)
				if err == nil {
					err = errors.Join(bob.Accept(o), bob.Commit(), bob.Sweep())
				}
				if err != nil {
					t.Error(err)
					return
				}
				mu.Lock()
				if seen[o.Index] {
					t.Errorf("index %d twice", o.Index)
				}
				seen[o.Index] = true
				mu.Unlock()
				bob.Tags()
				bob.Received(e)
				bob.SetTagKeys([][32]byte{w.tagKey})
				w.pass(time.Millisecond)
			}
		})
	}
	working.Wait()
	if len(seen) != senders*each {
		t.Fatalf("%d of %d", len(seen), senders*each)
	}
}
