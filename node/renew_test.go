package node

import (
	"errors"
	"fmt"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"outrider/node/chat"
	"outrider/offline/roster"
)

// later makes a node live so much later than it is, by a clock that something
// vouches for.
func later(d time.Duration) func(*Node) {
	return func(n *Node) {
		n.clock = roster.NewClock(func() time.Time { return time.Now().Add(d) }, time.Time{})
		n.watch.synced = func() bool { return true }
	}
}

func (r *running) warnings() (codes []string, err error) {
	var out struct {
		Warnings []struct{ Code, Message, Hint string }
	}
	err = r.do("GET", "/v1/status", nil, &out)
	for _, w := range out.Warnings {
		if w.Message == "" || w.Hint == "" {
			err = fmt.Errorf("warning %s says nothing", w.Code)
		}
		codes = append(codes, w.Code)
	}
	return codes, err
}

func (r *running) awaitWarning(code string, want bool) {
	r.t.Helper()
	eventually(r.t, fmt.Sprintf("warning %s: %v", code, want), func() error {
		codes, err := r.warnings()
		if err == nil && slices.Contains(codes, code) != want {
			err = fmt.Errorf("there are %v", codes)
		}
		return err
	})
}

// TestRenewal: eleven months on, the user's certificate is about to end and
// the device has ended. Logging in renews the device as far as the user
// lasts, the admin renews the user, and the next login the device.
func TestRenewal(t *testing.T) {
	h, alice, _ := founded(t)
	const months = 340 * 24 * time.Hour
	r := upWith(t, h, onLoopback(t), later(months))
	r.awaitWarning("user_ends", true)
	ends := func() time.Time {
		sealed, err := h.Keystore(alice)
		if err != nil {
			t.Fatal(err)
		}
		k, err := chat.OpenKeys(t.Context(), alice, []byte(alicePassword), sealed)
		if err != nil {
			t.Fatal(err)
		}
		return k.Chain.Leaf().NotAfter
	}
	if got := time.Until(ends()); got > deviceValidity {
		t.Fatalf("a new device lasts %v", got)
	}
	r.login(alice, alicePassword)
	if got := time.Until(ends()) - months; got < 20*24*time.Hour || got > 26*24*time.Hour {
		t.Errorf("after the login the device lasts %v, and its user 25 days", got)
	}
	r.awaitWarning("device_ends", true)
	var done struct{ Users, Nodes int }
	if err := r.do("POST", "/v1/network/renew", map[string]string{"admin_password": adminPassword}, &done); err != nil || done.Users != 1 || done.Nodes != 0 {
		t.Fatalf("renewed %+v, %v", done, err)
	}
	r.awaitWarning("user_ends", false)
	if err := r.do("POST", "/v1/network/renew", map[string]string{"admin_password": adminPassword}, &done); err != nil || done.Users != 0 {
		t.Errorf("renewed again: %+v, %v", done, err)
	}
	r.login(alice, alicePassword)
	if got := time.Until(ends()) - months; got < 89*24*time.Hour {
		t.Errorf("after the second login the device lasts %v", got)
	}
	r.awaitWarning("device_ends", false)
	down(t, r)
}

// TestNodeRenewal: two years on the nodes' own certificates are renewed by the
// admin's node while its key is open.
func TestNodeRenewal(t *testing.T) {
	h, _, _ := founded(t)
	r := upWith(t, h, onLoopback(t), later(nodeValidity-20*24*time.Hour))
	r.awaitWarning("node_ends", true)
	if err := r.do("POST", "/v1/network/admin/unlock", map[string]string{"admin_password": adminPassword}, &struct{}{}); err != nil {
		t.Fatal(err)
	}
	r.awaitWarning("node_ends", false)
	down(t, r)
}

// A blindClock stands somewhere, and nobody vouches for it.
type blindClock time.Time

func (c blindClock) Now() time.Time { return time.Time(c) }
func (c blindClock) Trusted() bool  { return false }

// TestJoinJudgedAgain: a link that an unset clock has accepted after its end
// counts until the clock is right, then no more; a new link mends it.
func TestJoinJudgedAgain(t *testing.T) {
	s, link := newSquad(t)
	h := newHome(t)
	if _, _, err := h.Join(t.Context(), joinRequest(link), blindClock(link.Expires.Add(time.Hour))); err != nil {
		t.Fatal(err)
	}
	if m := h.network().Unverified; m == nil || m.Expiry != link.Expires.Unix() {
		t.Fatalf("the join is marked %+v", m)
	}
	var synced atomic.Bool
	r := upWith(t, h, s.settings(), func(n *Node) {
		later(linkTTLDefault + 2*time.Hour)(n) // the link has ended
		n.watch.synced, n.watch.tick = synced.Load, 20*time.Millisecond
	})
	r.awaitLink(s.admin.home.ID(), true)
	r.awaitWarning("join_unverified", true)
	synced.Store(true)
	r.awaitWarning("join_void", true)
	r.awaitLink(s.admin.home.ID(), false)
	if !h.network().Void || h.network().Unverified != nil {
		t.Errorf("the state says %+v", h.network().Unverified)
	}
	newLink, password, _ := s.invite("Bob Again")
	body := map[string]string{"link": newLink, "password": password, "user_password": bobPassword}
	if err := r.do("POST", "/v1/network/join", body, &struct{}{}); err != nil {
		t.Fatal(err)
	}
	r.awaitWarning("join_void", false)
	r.awaitLink(s.admin.home.ID(), true)
	down(t, r, s.admin)
}

func TestJoinedLate(t *testing.T) {
	end := time.Date(2026, 5, 1, 12, 0, 0, 0, time.UTC)
	mark := func(at time.Time) unverified {
		return unverified{Expiry: end.Unix(), At: at.Unix(), From: end.Add(-7 * 24 * time.Hour).Unix()}
	}
	for name, c := range map[string]struct {
		at      time.Time
		now     time.Time
		ran     time.Duration
		stepped bool
		want    bool
	}{
		"in time":                      {end.Add(-time.Hour), end.Add(48 * time.Hour), 0, false, false},
		"late":                         {end.Add(time.Hour), end.Add(48 * time.Hour), 0, false, true},
		"clock stood at 1970, late":    {time.Unix(60, 0), end.Add(time.Hour), 10 * time.Minute, false, true},
		"clock stood at 1970, in time": {time.Unix(60, 0), end.Add(time.Hour), 2 * time.Hour, false, false},
		"clock was set, long up":       {end.Add(time.Hour), end.Add(time.Hour), 2 * time.Hour, true, false},
		"clock was set, just up":       {end.Add(-time.Hour), end.Add(time.Hour), time.Minute, true, true},
		"clock was ahead, in time":     {end.Add(900 * time.Hour), end.Add(-time.Hour), time.Minute, false, false},
		"the last moment still counts": {end, end.Add(time.Hour), 0, false, false},
		"one second after: no more":    {end.Add(time.Second), end.Add(time.Hour), 0, false, true},
	} {
		t.Run(name, func(t *testing.T) {
			if got := joinedLate(mark(c.at), c.now, c.ran, c.stepped); got != c.want {
				t.Errorf("late: %v", got)
			}
		})
	}
	if unverifiedJoin(today(), end, end) != nil {
		t.Error("a join by a clock that is right is marked")
	}
}

// TestTimeOffCountedLater: a clock that is confirmed after the start still
// makes the time switched off count.
func TestTimeOffCountedLater(t *testing.T) {
	h, _, _ := founded(t)
	c := onLoopback(t)
	r := upWith(t, h, c, later(0))
	r.awaitWarning("clock_unconfirmed", false)
	down(t, r)
	var synced atomic.Bool
	unsure := func(n *Node) {
		n.clock = roster.NewClock(func() time.Time { return time.Now().Add(2 * time.Hour) }, time.Time{})
		n.watch.synced, n.watch.tick = synced.Load, 20*time.Millisecond
	}
	r = upWith(t, h, c, unsure)
	r.awaitWarning("age_uncertain", true)
	r.awaitWarning("clock_unconfirmed", true)
	synced.Store(true)
	r.awaitWarning("age_uncertain", false)
	r.awaitWarning("clock_unconfirmed", false)
	down(t, r)
}

// A clock below what an admin has signed issues nothing, and says so.
func TestWrongClockIssuesNothing(t *testing.T) {
	h, _, _ := founded(t)
	if err := h.raiseFloor(time.Now().Add(72 * time.Hour)); err != nil {
		t.Fatal(err)
	}
	r := up(t, h, onLoopback(t))
	r.awaitWarning("clock_behind", true)
	down(t, r)
	n := New(Options{Home: h, Config: onLoopback(t)})
	if _, err := n.confirm(admin{}, roster.Enrolment{}, nil, nil); !errors.Is(err, ErrClockWrong) {
		t.Errorf("confirmed by a wrong clock: %v", err)
	}
}
