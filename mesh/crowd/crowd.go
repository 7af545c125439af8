// Package crowd bounds what sources that nobody vouches for may cost a
// listener, so that a crowd at the door takes nothing from those inside.
//
// A source is a household: an IPv4 address, or the /64 that an IPv6 host
// chooses its addresses from. Each household has an allowance of its own, and
// all that nobody vouches for share one besides, so that a thousand addresses
// get no more work out of a node than a few do. A listener vouches for a
// household when somebody in it has proved who they are; for an hour it is then
// known: it has a larger allowance of its own and does not touch the shared one.
//
// On listeners that only this machine reaches, a source is one of its accounts,
// since all of them have the same address.
//
// Who is refused is counted, and named in the log at most once a minute.
// Memory is bounded: 4,096 strangers and 1,024 known households, some 100
// bytes each.
package crowd

import (
	"cmp"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"sync"
	"time"
)

// What we chose.
const (
	maxStrangers = 2048        // households remembered in each of two generations
	maxKnown     = 1024        // households vouched for
	knownTime    = time.Hour   // how long a vouching holds
	tellEvery    = time.Minute // between two lines in the log
	tellFrom     = 8           // refusals that are worth a line
	maxOffenders = 8           // households named in a report
	paceSlot     = 100 * time.Millisecond
	pacePerSlot  = 500 // refusals in a slot, after which a listener rests; each costs some 20 µs
)

// A Rate allows Burst at once and one more in every Every.
type Rate struct {
	Burst int
	Every time.Duration
}

// take counts against a meter and reports whether it was within the rate. A
// meter is the time at which the allowance would be whole again.
func (r Rate) take(meter *time.Time, now time.Time) bool {
	if !r.has(*meter, now) {
		return false
	}
	if meter.Before(now) {
		*meter = now
	}
	*meter = meter.Add(r.Every)
	return true
}

func (r Rate) has(meter, now time.Time) bool {
	return meter.Sub(now) <= time.Duration(r.Burst-1)*r.Every
}

// Limits say what a listener can afford.
type Limits struct {
	Stranger Rate // one household nobody vouches for
	All      Rate // all of those together
	Known    Rate // one household that somebody vouched for
	Account  Rate // one account of this machine
}

// A source is who counts as one.
type source struct {
	at      netip.Addr // a household; invalid for an account
	account uint32     // of this machine
	local   bool
}

func household(a netip.Addr) source { return source{at: Household(a)} }

func account(uid uint32) source { return source{account: uid, local: true} }

func (s source) String() string {
	if s.local {
		return fmt.Sprintf("uid %d", s.account)
	}
	return s.at.String()
}

// A Crowd is who knocks at one listener. Its methods may be called from
// several goroutines.
type Crowd struct {
	name   string
	limits Limits
	log    *slog.Logger
	now    func() time.Time

	mu       sync.Mutex
	all      time.Time // meter of all strangers
	young    map[source]*guest
	old      map[source]*guest // the generation before
	known    map[source]*guest
	refused  uint64
	slot     time.Time // begin of the slot in which refusals are counted
	inSlot   int
	told     time.Time
	untold   uint64            // refusals since told
	untoldBy map[source]uint64 // at most maxOffenders of them
}

// A guest is a household or an account.
type guest struct {
	meter   time.Time
	vouched time.Time // zero for a stranger
	refused uint64
	last    time.Time // when it was refused last
}

// New returns a crowd for the listener called name in log and reports.
func New(name string, l Limits, log *slog.Logger) *Crowd {
	return &Crowd{
		name: name, limits: l, log: log, now: time.Now,
		young: map[source]*guest{}, old: map[source]*guest{}, known: map[source]*guest{},
		untoldBy: map[source]uint64{},
	}
}

// Household is what counts as one source. Link-local addresses are the hosts'
// own.
func Household(a netip.Addr) netip.Addr {
	a = a.Unmap().WithZone("")
	if a.Is6() && !a.IsLinkLocalUnicast() {
		if p, err := a.Prefix(64); err == nil {
			return p.Addr()
		}
	}
	return a
}

// Of returns the address in "ip:port", zero if there is none.
func Of(addr string) netip.Addr {
	ap, err := netip.ParseAddrPort(addr)
	if err != nil {
		return netip.Addr{}
	}
	return ap.Addr()
}

// Admit counts a knock and reports whether it may be heard. A refusal is
// counted and, at times, logged.
func (c *Crowd) Admit(from netip.Addr) bool { return c.admit(household(from)) }

// AdmitAccount is Admit for an account of this machine.
func (c *Crowd) AdmitAccount(uid uint32) bool { return c.admit(account(uid)) }

func (c *Crowd) admit(from source) bool {
	c.mu.Lock()
	now := c.now()
	g := c.guest(from, now)
	ok := false
	switch {
	case from.local:
		ok = c.limits.Account.take(&g.meter, now)
	case !g.vouched.IsZero():
		ok = c.limits.Known.take(&g.meter, now)
	case c.limits.Stranger.has(g.meter, now) && c.limits.All.take(&c.all, now):
		ok = c.limits.Stranger.take(&g.meter, now)
	}
	var tell func()
	if !ok {
		tell = c.refuse(g, from, now)
	}
	c.mu.Unlock()
	if tell != nil {
		tell()
	}
	return ok
}

// Refuse counts a refusal that was decided elsewhere.
func (c *Crowd) Refuse(from netip.Addr) { c.countRefusal(household(from)) }

// RefuseAccount is Refuse for an account of this machine.
func (c *Crowd) RefuseAccount(uid uint32) { c.countRefusal(account(uid)) }

func (c *Crowd) countRefusal(from source) {
	c.mu.Lock()
	now := c.now()
	tell := c.refuse(c.guest(from, now), from, now)
	c.mu.Unlock()
	if tell != nil {
		tell()
	}
}

// Vouch makes a household known: somebody in it has proved who they are.
func (c *Crowd) Vouch(from netip.Addr) {
	c.mu.Lock()
	defer c.mu.Unlock()
	now, at := c.now(), household(from)
	g := c.guest(at, now)
	if g.vouched.IsZero() {
		if len(c.known) >= maxKnown {
			c.forgetKnown()
		}
		g.meter = time.Time{}
		delete(c.young, at)
		c.known[at] = g
	}
	g.vouched = now
}

// Known reports whether somebody vouched for a household lately.
func (c *Crowd) Known(from netip.Addr) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	g := c.known[household(from)]
	return g != nil && c.now().Sub(g.vouched) < knownTime
}

// Rest returns for how long the listener should accept nothing, so that
// refusing costs little as well. It is mostly 0.
func (c *Crowd) Rest() time.Duration {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.inSlot < pacePerSlot {
		return 0
	}
	return max(0, c.slot.Add(paceSlot).Sub(c.now()))
}

// guest returns the record of a source, making it if need be. c.mu is held.
func (c *Crowd) guest(at source, now time.Time) *guest {
	if g := c.known[at]; g != nil {
		if now.Sub(g.vouched) < knownTime {
			return g
		}
		delete(c.known, at)
		g.vouched = time.Time{}
		c.remember(at, g)
		return g
	}
	if g := c.young[at]; g != nil {
		return g
	}
	g := c.old[at]
	if g == nil {
		g = &guest{}
	}
	delete(c.old, at)
	c.remember(at, g)
	return g
}

// remember puts a stranger into the young generation. When that is full the
// old one is forgotten, all at once, so that a flood of addresses pays for it
// rarely; but the worst offenders stay, for the reports. c.mu is held.
func (c *Crowd) remember(at source, g *guest) {
	if len(c.young) >= maxStrangers {
		worst := offenders(c.old)
		forgotten := c.old
		c.old, c.young = c.young, make(map[source]*guest, maxStrangers)
		for _, o := range worst {
			c.young[o.source] = forgotten[o.source]
		}
	}
	c.young[at] = g
}

// forgetKnown drops the household that was vouched for longest ago. c.mu is
// held.
func (c *Crowd) forgetKnown() {
	var oldest source
	for at, g := range c.known {
		if o := c.known[oldest]; o == nil || g.vouched.Before(o.vouched) {
			oldest = at
		}
	}
	delete(c.known, oldest)
}

// refuse notes a refusal and returns what logs it, nil if nothing does. c.mu
// is held.
func (c *Crowd) refuse(g *guest, at source, now time.Time) (tell func()) {
	c.refused++
	g.refused++
	g.last = now
	if now.Sub(c.slot) >= paceSlot {
		c.slot, c.inSlot = now, 0
	}
	c.inSlot++
	c.untold++
	if _, ok := c.untoldBy[at]; ok || len(c.untoldBy) < maxOffenders {
		c.untoldBy[at]++
	}
	if c.untold < tellFrom || (!c.told.IsZero() && now.Sub(c.told) < tellEvery) {
		return nil
	}
	var worst source
	for a, n := range c.untoldBy {
		if n > c.untoldBy[worst] {
			worst = a
		}
	}
	n, of := c.untold, c.untoldBy[worst]
	c.told, c.untold = now, 0
	clear(c.untoldBy)
	return func() {
		c.log.Warn("strangers refused: more than the listener takes from one address, or from all that it does not know",
			"listener", c.name, "refused", n, "addr", worst.String(), "of_addr", of)
	}
}

// An Offender is a household, or an account of this machine, that was refused.
type Offender struct {
	Who     string     // the address, or "uid 1000"
	Addr    netip.Addr // invalid for an account
	Refused uint64
	Last    time.Time

	source source
}

// A Report says who was refused since the start.
type Report struct {
	Listener  string
	Refused   uint64     // in all
	Offenders []Offender // the worst that are remembered, at most 8
}

// Report returns the counts.
func (c *Crowd) Report() Report {
	c.mu.Lock()
	defer c.mu.Unlock()
	return Report{Listener: c.name, Refused: c.refused, Offenders: offenders(c.known, c.young, c.old)}
}

// offenders returns the worst of some sources, at most maxOffenders.
func offenders(of ...map[source]*guest) (out []Offender) {
	for _, m := range of {
		for at, g := range m {
			if g.refused > 0 {
				out = append(out, Offender{at.String(), at.at, g.refused, g.last, at})
			}
		}
	}
	slices.SortFunc(out, func(a, b Offender) int {
		return cmp.Or(cmp.Compare(b.Refused, a.Refused), a.Addr.Compare(b.Addr), cmp.Compare(a.source.account, b.source.account))
	})
	return out[:min(len(out), maxOffenders)]
}
