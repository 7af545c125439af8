package crowd

import (
	"bytes"
	"log/slog"
	"net/netip"
	"strings"
	"testing"
	"time"
)

var testLimits = Limits{
	Stranger: Rate{Burst: 3, Every: time.Second},
	All:      Rate{Burst: 10, Every: 100 * time.Millisecond},
	Known:    Rate{Burst: 5, Every: 100 * time.Millisecond},
}

// newCrowd returns a crowd on a clock of its own.
func newCrowd(log *bytes.Buffer) (*Crowd, *time.Time) {
	now := time.Unix(1e9, 0)
	c := New("test", testLimits, slog.New(slog.NewTextHandler(log, nil)))
	c.now = func() time.Time { return now }
	return c, &now
}

func ip(n int) netip.Addr { return netip.AddrFrom4([4]byte{10, byte(n >> 16), byte(n >> 8), byte(n)}) }

func admitted(c *Crowd, source func(i int) netip.Addr, tries int) (n int) {
	for i := range tries {
		if c.Admit(source(i)) {
			n++
		}
	}
	return n
}

func one(a netip.Addr) func(int) netip.Addr { return func(int) netip.Addr { return a } }

func TestOneHouseholdHasItsAllowance(t *testing.T) {
	c, now := newCrowd(new(bytes.Buffer))
	if n := admitted(c, one(ip(1)), 100); n != testLimits.Stranger.Burst {
		t.Errorf("%d admitted at once", n)
	}
	*now = now.Add(2 * time.Second)
	if n := admitted(c, one(ip(1)), 100); n != 2 {
		t.Errorf("%d admitted after two seconds", n)
	}
	if n := admitted(c, one(ip(2)), 1); n != 1 {
		t.Error("another household pays for the first")
	}
}

func TestManyHouseholdsShareOne(t *testing.T) {
	c, now := newCrowd(new(bytes.Buffer))
	if n := admitted(c, ip, 5000); n != testLimits.All.Burst {
		t.Errorf("%d admitted at once", n)
	}
	*now = now.Add(time.Second)
	if n := admitted(c, ip, 5000); n != 10 {
		t.Errorf("%d admitted in the next second", n)
	}
}

func TestKnownHouseholdsAreNotInTheCrowd(t *testing.T) {
	c, now := newCrowd(new(bytes.Buffer))
	c.Vouch(ip(9999))
	admitted(c, ip, 5000)
	if n := admitted(c, one(ip(9999)), 100); n != testLimits.Known.Burst {
		t.Errorf("%d of a known household admitted in the crowd", n)
	}
	if !c.Known(ip(9999)) || c.Known(ip(1)) {
		t.Error("known and unknown are mixed up")
	}
	*now = now.Add(knownTime)
	if c.Known(ip(9999)) {
		t.Error("a vouching holds for ever")
	}
	c.Admit(ip(9999))
	if n := admitted(c, one(ip(9999)), 100); n != testLimits.Stranger.Burst-1 {
		t.Errorf("%d admitted after the vouching ended", n)
	}
}

func TestMemoryIsBounded(t *testing.T) {
	c, now := newCrowd(new(bytes.Buffer))
	for i := range 3*maxStrangers + 1 {
		c.Admit(ip(i))
	}
	for i := range maxKnown + 1 {
		*now = now.Add(time.Millisecond)
		c.Vouch(ip(i))
	}
	if len(c.young) > maxStrangers || len(c.old) > maxStrangers || len(c.known) > maxKnown {
		t.Errorf("%d and %d strangers, %d known", len(c.young), len(c.old), len(c.known))
	}
	if c.Known(ip(0)) || !c.Known(ip(maxKnown)) {
		t.Error("not the oldest was forgotten")
	}
}

// An offender is named, and the log stays short however long it goes on.
func TestOffendersAreNamed(t *testing.T) {
	var log bytes.Buffer
	c, now := newCrowd(&log)
	for range 3 * 60 {
		*now = now.Add(time.Second)
		for range 100 {
			c.Admit(ip(7))
		}
		c.Refuse(ip(8))
	}
	lines := strings.Count(log.String(), "\n")
	if lines < 3 || lines > 4 {
		t.Errorf("%d lines in three minutes:\n%s", lines, &log)
	}
	if !strings.Contains(log.String(), ip(7).String()) || !strings.Contains(log.String(), "listener=test") {
		t.Errorf("the log does not name the offender: %s", &log)
	}
	r := c.Report()
	if len(r.Offenders) != 2 || r.Offenders[0].Addr != ip(7) || r.Offenders[1].Refused != 180 ||
		r.Refused != r.Offenders[0].Refused+r.Offenders[1].Refused {
		t.Errorf("report %+v", r)
	}
	for i := range 100 {
		c.Refuse(ip(i))
	}
	if n := len(c.Report().Offenders); n != maxOffenders {
		t.Errorf("%d offenders reported", n)
	}
}

// Who is worst is remembered through a flood of others.
func TestWorstOffendersAreNotForgotten(t *testing.T) {
	c, _ := newCrowd(new(bytes.Buffer))
	for range 50 {
		c.Refuse(ip(1 << 20))
	}
	for i := range 10 * maxStrangers {
		c.Refuse(ip(i))
	}
	if o := c.Report().Offenders; len(o) == 0 || o[0].Addr != ip(1<<20) || o[0].Refused != 50 {
		t.Errorf("offenders %+v", o)
	}
}

// A listener that refuses a lot rests until the slot is over.
func TestRest(t *testing.T) {
	c, now := newCrowd(new(bytes.Buffer))
	for range pacePerSlot - 1 {
		c.Refuse(ip(1))
	}
	if d := c.Rest(); d != 0 {
		t.Errorf("rests %v below the limit", d)
	}
	c.Refuse(ip(1))
	if d := c.Rest(); d <= 0 || d > paceSlot {
		t.Errorf("rests %v", d)
	}
	*now = now.Add(paceSlot)
	if d := c.Rest(); d != 0 {
		t.Errorf("rests %v in the next slot", d)
	}
}

func TestHousehold(t *testing.T) {
	for in, want := range map[string]string{
		"192.0.2.7": "192.0.2.7", "::ffff:192.0.2.7": "192.0.2.7",
		"2001:db8:1:2:3:4:5:6": "2001:db8:1:2::", "fe80::1%eth0": "fe80::1",
	} {
		if got := Household(netip.MustParseAddr(in)); got != netip.MustParseAddr(want) {
			t.Errorf("%s: %v, want %s", in, got, want)
		}
	}
	if Of("192.0.2.7:80") != netip.MustParseAddr("192.0.2.7") || Of("@").IsValid() {
		t.Error("addresses are not read")
	}
}

// Accounts of this machine are counted one by one, and apart from households:
// what one of them uses up is missing nobody else.
func TestAccountsHaveAnAllowanceEach(t *testing.T) {
	var log bytes.Buffer
	c, now := newCrowd(&log)
	c.limits.Account = Rate{Burst: 4, Every: time.Second}
	n := 0
	for range 100 {
		if c.AdmitAccount(1000) {
			n++
		}
	}
	if n != 4 {
		t.Errorf("%d admitted at once", n)
	}
	if !c.AdmitAccount(0) || !c.Admit(ip(1)) {
		t.Error("others pay for an account")
	}
	*now = now.Add(time.Second)
	if !c.AdmitAccount(1000) || c.AdmitAccount(1000) {
		t.Error("the allowance does not come back, or not one by one")
	}
	c.RefuseAccount(1000)
	r := c.Report()
	if len(r.Offenders) != 1 || r.Offenders[0].Who != "uid 1000" || r.Offenders[0].Addr.IsValid() || r.Offenders[0].Refused != 98 {
		t.Errorf("report %+v", r)
	}
	if !strings.Contains(log.String(), `addr="uid 1000"`) {
		t.Errorf("the log does not name the account: %s", &log)
	}
}
