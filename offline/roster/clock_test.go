package roster

import (
	"log/slog"
	"testing"
	"testing/synctest"
	"time"

	"outrider/mesh/identity"
)

func TestClock(t *testing.T) {
	wall := epoch
	now := func() time.Time { return wall }
	c := NewClock(now, epoch.Add(-time.Hour))
	if !c.Now().Equal(epoch) || c.Trusted() || c.Suspect() {
		t.Errorf("%v %v %v", c.Now(), c.Trusted(), c.Suspect())
	}
	wall = time.Unix(0, 0) // the battery is out
	c = NewClock(now, epoch)
	if !c.Now().Equal(epoch) || !c.Suspect() || c.Trusted() {
		t.Errorf("below the floor: %v", c.Now())
	}
	wall = wall.Add(time.Hour)
	if want := epoch.Add(time.Hour); !c.Now().Equal(want) || !c.Floor().Equal(want) {
		t.Errorf("the floor stands still: %v", c.Now())
	}
	c.Observe(epoch.AddDate(0, 1, 0))
	if !c.Now().Equal(epoch.AddDate(0, 1, 0)) || c.Trusted() {
		t.Errorf("an admin's time: %v %v", c.Now(), c.Trusted())
	}
	c.Observe(epoch)
	if !c.Now().Equal(epoch.AddDate(0, 1, 0)) {
		t.Errorf("an old time turned the clock back: %v", c.Now())
	}
	gps := epoch.AddDate(0, 2, 0)
	if c.Confirm(gps) || !c.Trusted() || !c.Now().Equal(gps) {
		t.Errorf("GPS, ahead of the local clock: %v %v", c.Now(), c.Trusted())
	}
}

// TestClockFarAhead: a clock ten years ahead must not expire the world, nor
// leave a trace.
func TestClockFarAhead(t *testing.T) {
	wall := epoch.AddDate(10, 0, 0)
	c := NewClock(func() time.Time { return wall }, epoch)
	c.Observe(epoch.AddDate(0, 0, 3))
	if c.Trusted() {
		t.Error("a clock ten years off is trusted")
	}
	if !c.Floor().Equal(epoch.AddDate(0, 0, 3)) {
		t.Errorf("the wrong time is kept: %v", c.Floor())
	}
	if c.Confirm(epoch.AddDate(0, 0, 4)) || c.Trusted() {
		t.Error("GPS says otherwise and the clock is trusted")
	}
	wall = epoch.AddDate(0, 0, 4)
	if !c.Confirm(epoch.AddDate(0, 0, 4)) || !c.Trusted() || !c.Now().Equal(wall) {
		t.Errorf("set right: %v", c.Now())
	}
}

func TestClockAgreement(t *testing.T) {
	for off, want := range map[time.Duration]bool{-agreement - time.Second: false, -agreement: true, 0: true, agreement: true, agreement + time.Second: false} {
		wall := epoch.Add(off)
		c := NewClock(func() time.Time { return wall }, time.Time{})
		c.Observe(epoch)
		if c.Trusted() != want {
			t.Errorf("local clock %v off: trusted %v", off, !want)
		}
	}
}

// TestClockRemembersWhoVouched for what it shows: the best of them, and none
// that it did not agree with.
func TestClockRemembersWhoVouched(t *testing.T) {
	wall := epoch
	c := NewClock(func() time.Time { return wall }, epoch.AddDate(0, 0, -1))
	want := func(after string, by Voucher, trusted bool) {
		t.Helper()
		if c.VouchedBy() != by || c.Trusted() != trusted {
			t.Errorf("after %s: vouched for by %d, trusted %v", after, c.VouchedBy(), c.Trusted())
		}
	}
	want("its making", VouchedNot, false)
	c.Observe(epoch.Add(-2 * agreement))
	want("an admin's time of long ago", VouchedNot, false)
	c.Confirm(epoch.Add(-2 * agreement))
	want("a GPS time far behind", VouchedNot, false)
	c.Observe(epoch.Add(-time.Second))
	want("an admin's time", VouchedAdmin, true)
	c.Vouch()
	want("NTP", VouchedTime, true)
	c.Observe(epoch)
	want("another time of an admin", VouchedTime, true)
	c.Observe(epoch.Add(agreement))
	want("an admin's time an hour ahead, which is shown", VouchedAdmin, true)
	c.Observe(epoch.Add(agreement + time.Second))
	want("an admin's time that is only a bound", VouchedNot, true)
	c.Confirm(epoch.Add(2 * agreement))
	want("a GPS time ahead of all", VouchedTime, true)
}

// TestClockIsMonotonic: with the real clock of the bubble, elapsed time moves
// the floor.
func TestClockIsMonotonic(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		floor := time.Now().AddDate(1, 0, 0)
		c := NewClock(time.Now, floor)
		time.Sleep(90 * time.Minute)
		if got := c.Now().Sub(floor); got != 90*time.Minute {
			t.Errorf("moved by %v", got)
		}
	})
}

// TestRosterFeedsClock: times that admins signed reach the clock, times that
// users signed do not.
func TestRosterFeedsClock(t *testing.T) {
	n := newNetwork(t, "eagle")
	wall := time.Unix(0, 0)
	c := NewClock(func() time.Time { return wall }, time.Time{})
	r := New(n.root, []identity.NetworkSecret{n.secret}, c, slog.New(slog.DiscardHandler))
	if err := r.SetOwn(n.node(seeded("own node"), nil)); err != nil {
		t.Fatal(err)
	}
	if !c.Now().Equal(epoch) || c.Trusted() {
		t.Errorf("our own certificate: %v", c.Now())
	}
	alice := n.person("alice")
	n.accept(r, Certificate(alice.chain))
	cert, err := identity.IssueDevice(n.root.ID(), alice.user, alice.device, identity.Certificate{Subject: alice.id[:], Generation: 1, NotBefore: epoch.AddDate(0, 2, 0), NotAfter: epoch.AddDate(0, 3, 0)})
	if err := r.Apply(ok2(t)(r.Seal(Certificate(append(identity.Chain{ok(t, cert, err)}, alice.chain...))))); err != nil {
		t.Fatal(err)
	}
	if !c.Now().Equal(epoch) {
		t.Errorf("a user moved the clock to %v", c.Now())
	}
	n.accept(r, n.revoke(r, n.admin, seeded("x").Public()))
	if !c.Now().Equal(epoch.AddDate(0, 0, 1)) {
		t.Errorf("a revocation: %v", c.Now())
	}
}
