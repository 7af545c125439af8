package roster

import (
	"sync"
	"time"
)

// agreement is how near an independent time must be for the local clock to
// count as right.
const agreement = time.Hour

// A Voucher says what a clock is trusted for. The later ones are better.
type Voucher uint8

const (
	VouchedNot   Voucher = iota // nothing has confirmed it
	VouchedAdmin                // a time that an admin signed agrees with it
	VouchedTime                 // NTP or GPS
)

// A Clock is the node's clock for certificates (crypto.md 3.2): never earlier
// than a floor that only ever rises, through times that admins signed and
// through GPS or NTP, and that moves on with the time that has passed. What
// ordinary members say never touches it. It is safe for concurrent use.
type Clock struct {
	now func() time.Time

	mu    sync.Mutex
	floor time.Time // no earlier than this ...
	mark  time.Time // ... when now() said this
	under Voucher   // who said so
	by    Voucher   // the best of those who agreed with now()
}

// NewClock returns a clock over now, with the floor kept from the last run.
// It is not trusted until Observe or Confirm makes it so.
func NewClock(now func() time.Time, floor time.Time) *Clock {
	return &Clock{now: now, floor: floor.Round(0), mark: now()}
}

// Now returns the larger of the local clock and the floor.
func (c *Clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	now, lowest := c.read()
	if now.Before(lowest) {
		return lowest.UTC()
	}
	return now.UTC()
}

// read returns the local clock, and the floor moved on by elapsed time. The
// elapsed time is monotonic where now gives that, so setting the clock does
// not move it.
func (c *Clock) read() (wall, lowest time.Time) {
	now := c.now()
	return now.Round(0), c.floor.Add(max(0, now.Sub(c.mark)))
}

// Lowest returns the time before which it cannot be, whatever the local clock
// shows: the floor, moved on by the time that has passed.
func (c *Clock) Lowest() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	_, lowest := c.read()
	return lowest.UTC()
}

// Trusted reports whether the time was confirmed since the clock was made.
func (c *Clock) Trusted() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.by != VouchedNot
}

// VouchedBy returns the best of what vouches for Now as it stands: for the
// local clock, or, where that is behind, for the floor. An old time that an
// admin signed is only a bound.
func (c *Clock) VouchedBy() Voucher {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch now, lowest := c.read(); {
	case !now.Before(lowest):
		return c.by
	case c.under == VouchedTime:
		return VouchedTime
	case lowest.Sub(now) <= agreement:
		return min(c.by, VouchedAdmin)
	}
	return VouchedNot
}

// Suspect reports whether the local clock stands below the floor, which is
// wrong by definition: show it, and issue no certificates.
func (c *Clock) Suspect() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	now, lowest := c.read()
	return now.Before(lowest)
}

// Observe takes a time that an admin signed, once the signature has been
// checked. It raises the floor. It makes the clock trusted only if the local
// clock agrees: the object may be weeks old, so a local clock behind it is
// wrong and the floor is merely a bound, while one far ahead may be right or
// years off.
func (c *Clock) Observe(signed time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	now, lowest := c.read()
	if signed.After(lowest) {
		c.raise(signed, VouchedAdmin)
	}
	if now.Sub(signed).Abs() <= agreement {
		c.by = max(c.by, VouchedAdmin)
	}
}

// Confirm takes a time from GPS or NTP. If the local clock agrees with it the
// clock is trusted; if it is behind, the floor is raised and the clock is
// trusted; if it is ahead, somebody has to set it.
func (c *Clock) Confirm(t time.Time) (agrees bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	now, lowest := c.read()
	if t.After(lowest) {
		c.raise(t, VouchedTime)
	}
	agrees = now.Sub(t).Abs() <= agreement
	if !now.After(t.Add(agreement)) {
		c.by = VouchedTime
	}
	return agrees
}

// Vouch takes somebody's word that the local clock is right as it stands, such
// as the kernel's that NTP or GPS disciplines it.
func (c *Clock) Vouch() {
	c.Confirm(c.now())
}

func (c *Clock) raise(t time.Time, by Voucher) { c.floor, c.mark, c.under = t.Round(0), c.now(), by }

// Floor returns what to keep for the next start: the floor moved on by the
// time that has passed, and the local time once that is trusted. An untrusted
// local clock leaves no trace, or one wrong minute in 2036 would last.
func (c *Clock) Floor() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	now, lowest := c.read()
	if c.by != VouchedNot && now.After(lowest) {
		return now.UTC()
	}
	return lowest.UTC()
}
