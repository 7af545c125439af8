package node

import (
	"context"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"outrider/mesh/cla"
	"outrider/mesh/gossip"
	"outrider/mesh/identity"
)

// How long the dialer waits before it tries a neighbour again: after a dial
// that failed, growing, and after a link that ended by itself.
const (
	retryFirst = time.Second
	retryMost  = time.Minute
)

// maxStrays is how many peers are dialled at once that gossip does not see.
const maxStrays = 2

// A dialer keeps contact with the neighbours gossip tells of. On a fat link
// there is always one; on a thin one a link that has nothing to carry closes,
// and is dialled again when this node has something new or after a while.
type dialer struct {
	dial      func(ctx context.Context, peer identity.NodeID, addrs []string) error
	connected func(identity.NodeID) bool
	allowed   func(identity.NodeID) bool
	members   func() []gossip.Neighbour
	strays    func() []gossip.Neighbour // remembered, but not around
	changes   <-chan gossip.Change
	idle      time.Duration // between contacts when there is nothing new

	mu    sync.Mutex
	peers map[identity.NodeID]*attempt
	kick  chan struct{}
}

// An attempt is when a neighbour is tried next.
type attempt struct {
	busy  bool
	stray bool // gossip did not see it
	next  time.Time
	pause time.Duration
}

// idleContact is how often neighbours are met when there is nothing new.
func idleContact(c cla.Class) time.Duration {
	switch c {
	case cla.Radio:
		return 15 * time.Minute
	case cla.WiFi:
		return 5 * time.Minute
	}
	return retryFirst
}

func (d *dialer) run(ctx context.Context) error {
	var dials sync.WaitGroup
	defer dials.Wait()
	tick := time.NewTicker(retryFirst / 2)
	defer tick.Stop()
	for {
		around := d.members()
		for _, nb := range around {
			if d.due(nb.ID, false) {
				dials.Go(func() { d.try(ctx, nb) })
			}
		}
		for _, nb := range d.search(around) {
			if d.due(nb.ID, true) {
				dials.Go(func() { d.try(ctx, nb) })
			}
		}
		select {
		case <-ctx.Done():
			return nil
		case _, more := <-d.changes:
			if !more {
				return nil
			}
		case <-d.kick:
		case <-tick.C:
		}
	}
}

// search returns peers to be looked for where they were last, while there is
// no link at all: gossip may be what does not get through, or be sealed by now
// under a network secret that only a link can bring. Those who wait for their
// turn longest come first.
func (d *dialer) search(around []gossip.Neighbour) []gossip.Neighbour {
	linked := func(nb gossip.Neighbour) bool { return d.connected(nb.ID) }
	if slices.ContainsFunc(around, linked) {
		return nil
	}
	all := d.strays()
	if slices.ContainsFunc(all, linked) {
		return nil
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	free := maxStrays
	for _, a := range d.peers {
		if a.busy && a.stray {
			free--
		}
	}
	turn := func(nb gossip.Neighbour) time.Time {
		if a := d.peers[nb.ID]; a != nil {
			return a.next
		}
		return time.Time{}
	}
	slices.SortStableFunc(all, func(a, b gossip.Neighbour) int { return turn(a).Compare(turn(b)) })
	return all[:min(len(all), max(0, free))]
}

// due reports whether a neighbour is to be dialled now, and notes that it is.
func (d *dialer) due(peer identity.NodeID, stray bool) bool {
	if !d.allowed(peer) || d.connected(peer) {
		return false
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	a := d.peers[peer]
	if a == nil {
		a = &attempt{pause: retryFirst}
		d.peers[peer] = a
	}
	if a.busy || time.Now().Before(a.next) {
		return false
	}
	a.busy, a.stray = true, stray
	return true
}

func (d *dialer) try(ctx context.Context, nb gossip.Neighbour) {
	err := d.dial(ctx, nb.ID, nb.Addrs)
	d.mu.Lock()
	defer d.mu.Unlock()
	a := d.peers[nb.ID]
	a.busy = false
	if err == nil {
		a.pause = retryFirst
		a.next = time.Now().Add(d.idle)
		return
	}
	a.next = time.Now().Add(a.pause/2 + rand.N(a.pause))
	most := retryMost
	if a.stray {
		most = max(most, d.idle) // nobody may be there any more
	}
	a.pause = min(2*a.pause, most)
}

// wakeUp tries all neighbours now: a way was opened.
func (d *dialer) wakeUp() {
	d.forgive()
	d.rouse()
}

// news tries all neighbours now: there is something for them. Under load that
// is so all the time, and mostly they are all linked.
func (d *dialer) news() {
	if d.forgive() {
		d.rouse()
	}
}

// forgive ends all pauses and reports whether any neighbour is not linked.
func (d *dialer) forgive() (apart bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for id, a := range d.peers {
		if !a.busy {
			a.next, a.pause = time.Time{}, retryFirst
			apart = apart || !d.connected(id)
		}
	}
	return apart
}

func (d *dialer) rouse() {
	select {
	case d.kick <- struct{}{}:
	default:
	}
}
