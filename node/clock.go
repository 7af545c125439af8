package node

import (
	"context"
	"time"

	"golang.org/x/sys/unix"

	"outrider/mesh"
	"outrider/mesh/identity"
	"outrider/node/chat"
	"outrider/offline/roster"
)

// nodeClock is what chat knows of time: the date as certificates are judged
// by, and the node's own time as ages are counted in.
type nodeClock struct {
	*roster.Clock
	agent *mesh.Shell
}

var _ chat.Clock = nodeClock{}

// Elapsed returns the time this node has lived through.
func (c nodeClock) Elapsed() time.Duration { return c.agent.Elapsed() }

// setClock is the clock a join link's expiry is judged by: one that has been
// set, confirmed or not. Only a clock below its floor, as that of a board
// without a battery, lets an ended link pass (decisions.md 12); its neighbours
// judge the certificate in it by their own clocks.
type setClock struct{ *roster.Clock }

var _ identity.Clock = setClock{}

func (c setClock) Trusted() bool { return !c.Suspect() }

// timeOff tells how long the node was switched off, by the wall clock, and
// whether that can be believed: the clock is not below its floor, and
// something better than a battery has set it (decisions.md 4).
func (n *Node) timeOff(saved time.Time) (off time.Duration, certain bool) {
	if n.clock.Suspect() || !n.clock.Trusted() && !kernelSynced() {
		return 0, false
	}
	off = time.Since(saved)
	return off, off >= 0
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
