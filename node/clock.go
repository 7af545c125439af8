package node

import (
	"context"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"outrider/mesh/identity"
	"outrider/node/chat"
	"outrider/offline/roster"
)

// nodeClock is what chat knows of time: the date as certificates are judged
// by, and the node's own time as ages are counted in.
type nodeClock struct{ n *Node }

var _ chat.Clock = nodeClock{}

// Now and Trusted are the clock's.
func (c nodeClock) Now() time.Time { return c.n.clock.Now() }
func (c nodeClock) Trusted() bool  { return c.n.clock.Trusted() }

// Elapsed returns the time this node has lived through.
func (c nodeClock) Elapsed() time.Duration { return c.n.agent.Elapsed() }

// Source asks the kernel once more: NTP may have found its servers after an
// admin's time had made the clock trusted.
func (c nodeClock) Source() chat.ClockSource {
	c.n.watch.confirm(c.n)
	switch c.n.clock.VouchedBy() {
	case roster.VouchedTime:
		return chat.ClockTime
	case roster.VouchedAdmin:
		return chat.ClockPeer
	}
	return chat.ClockUnsynced
}

// setClock is the clock a join link's expiry is judged by: one that has been
// set, confirmed or not. Only a clock below its floor, as that of a board
// without a battery, lets an ended link pass (decisions.md 12); its neighbours
// judge the certificate in it by their own clocks.
type setClock struct{ *roster.Clock }

var _ identity.Clock = setClock{}

func (c setClock) Trusted() bool { return !c.Suspect() }

// Certain reports whether something better than a battery vouches for the
// time; without, a join is marked and judged again (joinclock.go).
func (c setClock) Certain() bool { return c.Clock.Trusted() || kernelSynced() }

// timeOff tells how long the node was switched off, by the wall clock, and
// whether that can be believed: the clock is not below its floor, and
// something better than a battery has set it (decisions.md 4). Otherwise it
// remembers the date for when the clock becomes trusted.
func (n *Node) timeOff(saved time.Time) (off time.Duration, certain bool) {
	n.watch.confirm(n)
	n.watch.mu.Lock()
	defer n.watch.mu.Unlock()
	if n.clock.Suspect() || !n.clock.Trusted() {
		n.watch.saved = saved
		return 0, false
	}
	off = time.Since(saved)
	return off, off >= 0
}

// clockLook is how often the node asks whether its clock can be trusted now.
const clockLook = 10 * time.Second

// A clockWatch waits for the moment when the clock becomes trusted: because
// the kernel says that NTP or GPS disciplines it, or an admin signed a time
// that agrees with it.
type clockWatch struct {
	synced func() bool // kernelSynced, but for tests
	tick   time.Duration

	mu    sync.Mutex
	saved time.Time // when the node was last up, zero if there is nothing to count
}

func newClockWatch() clockWatch { return clockWatch{synced: kernelSynced, tick: clockLook} }

// confirm takes the kernel's word for the time.
func (w *clockWatch) confirm(n *Node) {
	if n.clock.VouchedBy() != roster.VouchedTime && w.synced() {
		n.clock.Vouch()
	}
}

// watchClock does what has waited for a trusted clock, as soon as there is
// one.
func (n *Node) watchClock(ctx context.Context) error {
	tick := time.NewTicker(n.watch.tick)
	defer tick.Stop()
	for {
		n.watch.confirm(n)
		if n.clock.Trusted() && !n.clock.Suspect() {
			return n.clockTrusted()
		}
		select {
		case <-ctx.Done():
			return nil
		case <-n.roster.Changed():
		case <-tick.C:
		}
	}
}

// clockTrusted counts the time switched off and judges the join again.
func (n *Node) clockTrusted() error {
	ran := time.Since(n.started)
	n.watch.mu.Lock()
	saved := n.watch.saved
	n.watch.mu.Unlock()
	if !saved.IsZero() {
		off := n.clock.Now().Sub(saved) - ran
		n.agent.CountOff(off)
		n.log.Info("the clock can be trusted now; time switched off is counted", "dur", off)
	}
	if err := n.rules.confirm(n.clock.Now(), ran, clockStepped(n.started, ran)); err != nil {
		return err
	}
	return n.judgeJoin(ran)
}

// kernelSynced reports whether something disciplines the kernel's clock: NTP,
// or a daemon that listens to GPS.
func kernelSynced() bool {
	var t unix.Timex
	state, err := unix.Adjtimex(&t)
	return err == nil && state != unix.TIME_ERROR && t.Status&unix.STA_UNSYNC == 0
}

// keepFloor writes the lowest time that can be right, now and then and at the
// end, for the next start.
func (n *Node) keepFloor(ctx context.Context) error {
	tick := time.NewTicker(floorStep)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return n.home.raiseFloor(n.clock.Floor())
		}
		if err := n.home.raiseFloor(n.clock.Floor()); err != nil {
			return err
		}
	}
}
