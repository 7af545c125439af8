package node

import (
	"context"
	"errors"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"outrider/mesh/gossip"
	"outrider/mesh/identity"
)

// A radio is the world as a dialer sees it.
type radio struct {
	mu     sync.Mutex
	around []identity.NodeID
	lost   []identity.NodeID // remembered, not around
	up     map[identity.NodeID]bool
	shut   map[identity.NodeID]bool
	dials  map[identity.NodeID][]time.Time
	answer func(ctx context.Context, peer identity.NodeID) error // nil refuses

	changes chan gossip.Change
	dialer  *dialer
}

var errNobody = errors.New("nobody there")

func newRadio(idle time.Duration, around ...identity.NodeID) *radio {
	r := &radio{
		around: around, up: map[identity.NodeID]bool{}, shut: map[identity.NodeID]bool{}, dials: map[identity.NodeID][]time.Time{},
		changes: make(chan gossip.Change, 1),
	}
	r.dialer = &dialer{
		dial: r.dial, connected: r.connected, allowed: r.allowed, members: r.members, strays: r.strays, changes: r.changes, idle: idle,
		peers: map[identity.NodeID]*attempt{}, kick: make(chan struct{}, 1),
	}
	return r
}

func (r *radio) dial(ctx context.Context, peer identity.NodeID, addrs []string) error {
	r.mu.Lock()
	r.dials[peer] = append(r.dials[peer], time.Now())
	answer := r.answer
	r.mu.Unlock()
	if answer == nil {
		return errNobody
	}
	return answer(ctx, peer)
}

func (r *radio) connected(id identity.NodeID) bool { return r.is(r.up, id) }
func (r *radio) allowed(id identity.NodeID) bool   { return !r.is(r.shut, id) }

func (r *radio) is(m map[identity.NodeID]bool, id identity.NodeID) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return m[id]
}

func (r *radio) set(m map[identity.NodeID]bool, id identity.NodeID, v bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	m[id] = v
}

func (r *radio) members() []gossip.Neighbour { return r.listed(&r.around) }
func (r *radio) strays() []gossip.Neighbour  { return r.listed(&r.lost) }

func (r *radio) listed(ids *[]identity.NodeID) []gossip.Neighbour {
	r.mu.Lock()
	defer r.mu.Unlock()
	out := make([]gossip.Neighbour, len(*ids))
	for i, id := range *ids {
		out[i] = gossip.Neighbour{ID: id, Addrs: []string{"192.0.2.1:7411"}}
	}
	return out
}

func (r *radio) dialled(id identity.NodeID) []time.Time {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.dials[id])
}

// during runs the dialer in a bubble of fake time while do looks at it.
func (r *radio) during(t *testing.T, do func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- r.dialer.run(ctx) }()
	do()
	cancel()
	if err := <-done; err != nil {
		t.Errorf("the dialer ended with %v", err)
	}
}

func TestDialerBacksOff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		id := madeUpNode(1)
		r := newRadio(time.Second, id)
		r.during(t, func() { time.Sleep(3 * time.Hour) })
		at := r.dialled(id)
		pause := retryFirst
		for i := range len(at) - 1 {
			gap := at[i+1].Sub(at[i])
			// Jitter is half the pause to one and a half; then comes the next tick.
			if gap < pause/2 || gap > pause*3/2+retryFirst/2 {
				t.Fatalf("dial %d came after %v, the pause was %v", i+1, gap, pause)
			}
			pause = min(2*pause, retryMost)
		}
		if len(at) < 120 || len(at) > 370 {
			t.Errorf("%d dials in three hours", len(at))
		}
	})
}

func TestDialerWakeUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		id := madeUpNode(1)
		r := newRadio(time.Second, id)
		r.during(t, func() {
			time.Sleep(time.Hour)
			before := len(r.dialled(id))
			now := time.Now()
			r.dialer.wakeUp()
			synctest.Wait()
			at := r.dialled(id)
			if len(at) != before+1 || !at[before].Equal(now) {
				t.Fatalf("woken up, it dialled %d times at once", len(at)-before)
			}
			time.Sleep(2*retryFirst + retryFirst/2)
			if len(r.dialled(id)) < before+2 {
				t.Error("after waking up the pauses did not begin anew")
			}
		})
	})
}

func TestDialerLeavesAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		met, shut, gone := madeUpNode(1), madeUpNode(2), madeUpNode(3)
		r := newRadio(time.Second, met, shut)
		r.set(r.up, met, true)
		r.set(r.shut, shut, true)
		r.during(t, func() {
			time.Sleep(time.Hour)
			r.dialer.wakeUp()
			time.Sleep(time.Hour)
			for _, id := range []identity.NodeID{met, shut, gone} {
				if n := len(r.dialled(id)); n != 0 {
					t.Errorf("%v was dialled %d times", id.Short(), n)
				}
			}
			r.set(r.shut, shut, false)
			r.set(r.up, met, false)
			time.Sleep(retryFirst)
			for _, id := range []identity.NodeID{met, shut} {
				if len(r.dialled(id)) == 0 {
					t.Errorf("%v was not dialled when it could be", id.Short())
				}
			}
		})
	})
}

// A thin link that closed because there was nothing to carry is dialled again
// after the idle time, or at once when there is something new.
func TestDialerIdle(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		id, idle := madeUpNode(1), 15*time.Minute
		r := newRadio(idle, id)
		r.answer = func(context.Context, identity.NodeID) error { return nil }
		r.during(t, func() {
			time.Sleep(idle - retryFirst)
			if n := len(r.dialled(id)); n != 1 {
				t.Fatalf("%d dials before the idle time was over", n)
			}
			time.Sleep(2 * retryFirst)
			if n := len(r.dialled(id)); n != 2 {
				t.Fatalf("%d dials after the idle time", n)
			}
			r.dialer.wakeUp()
			synctest.Wait()
			if n := len(r.dialled(id)); n != 3 {
				t.Fatalf("%d dials with something new", n)
			}
		})
	})
}

// News for neighbours that are all linked costs no look at who is around.
func TestDialerUnderLoad(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		id := madeUpNode(1)
		r := newRadio(time.Hour, id)
		r.answer = func(context.Context, identity.NodeID) error { r.set(r.up, id, true); return nil }
		r.during(t, func() {
			synctest.Wait()
			if len(r.dialled(id)) != 1 {
				t.Fatal("not dialled at the start")
			}
			r.dialer.news()
			if len(r.dialer.kick) != 0 {
				t.Error("news roused the dialer though everybody is linked")
			}
			r.set(r.up, id, false)
			r.dialer.news()
			synctest.Wait()
			if n := len(r.dialled(id)); n != 2 {
				t.Errorf("%d dials after news for somebody who is not linked, want 2", n)
			}
		})
	})
}

// A dial that hangs is not doubled, does not hold up others, and ends with the
// dialer.
func TestDialerHangingDial(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		stuck, other := madeUpNode(1), madeUpNode(2)
		r := newRadio(time.Second, stuck, other)
		r.answer = func(ctx context.Context, peer identity.NodeID) error {
			if peer == stuck {
				<-ctx.Done()
			}
			return errNobody
		}
		r.during(t, func() {
			for range 10 {
				time.Sleep(time.Minute)
				r.dialer.wakeUp()
			}
			if n := len(r.dialled(stuck)); n != 1 {
				t.Errorf("a dial that hangs was begun %d times", n)
			}
			if n := len(r.dialled(other)); n < 10 {
				t.Errorf("another node was dialled only %d times meanwhile", n)
			}
		})
	})
}

func TestDialerNews(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRadio(time.Second)
		id := madeUpNode(1)
		r.during(t, func() {
			time.Sleep(retryFirst/2 + 1)
			r.mu.Lock()
			r.around = []identity.NodeID{id}
			r.mu.Unlock()
			r.changes <- gossip.Change{Neighbour: gossip.Neighbour{ID: id}, Up: true}
			synctest.Wait()
			if len(r.dialled(id)) != 1 {
				t.Error("a neighbour that came was not dialled at once")
			}
		})
		close(r.changes)
		if err := r.dialer.run(t.Context()); err != nil {
			t.Errorf("when gossip ends: %v", err)
		}
	})
}

// While nobody at all is linked, those of the book are looked for where they
// were, few at once and each in its turn; with one link gossip does the rest.
func TestDialerSearchesWhileAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		around := madeUpNode(0)
		r := newRadio(time.Second, around)
		for i := range 40 {
			r.lost = append(r.lost, madeUpNode(i+1))
		}
		var busy, most int
		r.answer = func(ctx context.Context, peer identity.NodeID) error {
			if peer == around {
				return errNobody
			}
			r.mu.Lock()
			busy++
			most = max(most, busy)
			r.mu.Unlock()
			time.Sleep(10 * time.Second) // as long as a dial to a dead host takes
			r.mu.Lock()
			busy--
			r.mu.Unlock()
			return errNobody
		}
		r.during(t, func() {
			time.Sleep(15 * time.Minute)
			r.mu.Lock()
			if most != maxStrays {
				t.Errorf("%d peers were looked for at once", most)
			}
			r.mu.Unlock()
			for i, id := range r.lost {
				if n := len(r.dialled(id)); n < 3 {
					t.Errorf("peer %d was looked for %d times", i, n)
				}
			}
			r.set(r.up, around, true)
			time.Sleep(15 * time.Second)
			before := len(r.dialled(r.lost[0]))
			time.Sleep(time.Hour)
			if n := len(r.dialled(r.lost[0])); n != before {
				t.Errorf("a peer was looked for %d times beside an open link", n-before)
			}
		})
	})
}
