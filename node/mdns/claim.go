package mdns

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"time"
)

// What the protocol fixes (RFC 6762, sections 8 and 9).
const (
	probes         = 3
	probePause     = 250 * time.Millisecond
	announcements  = 2
	announcePause  = time.Second
	deferTime      = time.Second // who loses a tie probes again after so long
	conflictsMost  = 15          // within conflictsTime; then each further try waits
	conflictsTime  = 10 * time.Second
	conflictsPause = 5 * time.Second
)

// What we chose.
const (
	tiesMost   = 3                // ties lost about one name before it counts as taken
	namesMost  = 20               // names tried, -2 to -20, before the LAN is left alone
	silentTime = 10 * time.Minute // for so long
)

// An action is what a claim wants sent.
type action int

const (
	nothing action = iota
	probe
	announce
)

// A claim is how far a name is ours. It reads no clock and sends nothing; now
// comes from outside.
type claim struct {
	base string // without .local
	n    int    // 1 is the base itself, then base-2 and so on

	ours   bool      // probed, and nobody objected
	sent   int       // probes, or announcements once it is ours
	at     time.Time // of the next action; zero for none
	ties   int
	lost   []time.Time // conflicts of the last conflictsTime
	silent bool        // all names are taken
}

func newClaim(name string, now time.Time) *claim {
	c := &claim{base: strings.TrimSuffix(name, ".local"), n: 1}
	c.restart(now)
	return c
}

// name is the whole name that is claimed, "" while none is.
func (c *claim) name() string {
	switch {
	case c.silent:
		return ""
	case c.n == 1:
		return c.base + ".local"
	}
	return numbered(c.base, c.n) + ".local"
}

// numbered adds a number to a label, which has at most 63 bytes.
func numbered(base string, n int) string {
	suffix := fmt.Sprintf("-%d", n)
	return base[:min(len(base), 63-len(suffix))] + suffix
}

// restart probes for the name, as at the start or when there is a new
// interface. The first probe waits a random time, since machines start
// together when the power comes back.
func (c *claim) restart(now time.Time) {
	if c.silent {
		return
	}
	c.ours, c.sent = false, 0
	c.at = now.Add(time.Duration(rand.Int64N(int64(probePause))))
	if len(c.lost) >= conflictsMost {
		c.at = now.Add(conflictsPause)
	}
}

// due returns what is to be sent now.
func (c *claim) due(now time.Time) action {
	if c.at.IsZero() || now.Before(c.at) {
		return nothing
	}
	switch {
	case c.silent: // perhaps somebody has gone
		c.silent, c.n, c.lost = false, 1, nil
		c.restart(now)
		return nothing
	case !c.ours && c.sent < probes:
		c.sent++
		c.at = now.Add(probePause)
		return probe
	case !c.ours:
		c.ours, c.sent, c.ties = true, 0, 0
		fallthrough
	default:
		c.sent++
		c.at = now.Add(announcePause)
		if c.sent == announcements {
			c.at = time.Time{}
		}
		return announce
	}
}

// conflict notes that another machine has the name. One that was ours is
// probed for again, so that of two that met each keeps or leaves it by the same
// rules; one that was not is left to the other.
func (c *claim) conflict(now time.Time) {
	switch {
	case c.silent || c.sent == 0 && !c.ours: // not probed for yet: the first probe will be answered
		return
	case c.ours:
		c.note(now)
		c.restart(now)
		return
	}
	c.note(now)
	c.next(now)
}

// note remembers a conflict for as long as it counts.
func (c *claim) note(now time.Time) {
	for len(c.lost) > 0 && (now.Sub(c.lost[0]) > conflictsTime || len(c.lost) >= conflictsMost) {
		c.lost = c.lost[1:]
	}
	c.lost = append(c.lost, now)
}

// next goes on to another name.
func (c *claim) next(now time.Time) {
	if c.n++; c.n > namesMost {
		c.silent, c.ours, c.at = true, false, now.Add(silentTime)
		return
	}
	c.ties = 0
	c.restart(now)
}

// tie notes that another machine probes for the name at the same moment.
func (c *claim) tie(won bool, now time.Time) {
	if c.ours || c.silent || won || c.sent == 0 {
		return
	}
	if c.ties++; c.ties >= tiesMost {
		c.note(now)
		c.next(now)
		return
	}
	c.sent, c.at = 0, now.Add(deferTime)
}
