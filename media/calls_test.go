package media

import (
	"bytes"
	"errors"
	"strings"
	"testing"
	"time"

	"outrider/mesh/identity"
)

var (
	alice, bob, carol = identity.UserID{1}, identity.UserID{2}, identity.UserID{3}
	home              = identity.NodeID{9}
	began             = time.Date(2026, 11, 23, 8, 0, 0, 0, time.UTC)
	commit            = bytes.Repeat([]byte{1}, CommitSize)
	key               = bytes.Repeat([]byte{4}, KeySize)
)

// A line carries the signals of two machines, as sealed messages would.
type line struct {
	t       *testing.T
	now     time.Time
	at      map[identity.UserID]*Calls
	told    map[identity.UserID][]State
	records []Record
}

// newLine is two users on two machines, or both on one.
func newLine(t *testing.T, same bool) *line {
	l := &line{t: t, now: began, at: map[identity.UserID]*Calls{}, told: map[identity.UserID][]State{}}
	l.at[alice] = NewCalls(home)
	l.at[bob] = NewCalls(home)
	if same {
		l.at[bob] = l.at[alice]
	}
	l.at[carol] = l.at[alice]
	return l
}

// do carries out effects, and what comes of them.
func (l *line) do(effects ...Effect) {
	for len(effects) > 0 {
		e := effects[0]
		effects = effects[1:]
		l.told[e.Call.User] = append(l.told[e.Call.User], e.Call.State)
		if e.Record != nil {
			l.records = append(l.records, *e.Record)
		}
		if e.Send != nil {
			effects = append(effects, l.at[e.Call.Peer].Take(l.now, e.Call.Peer, e.Call.User, *e.Send)...)
		}
	}
}

func (l *line) must(e Effect, err error) Call {
	l.t.Helper()
	if err != nil {
		l.t.Fatal(err)
	}
	l.do(e)
	return e.Call
}

func (l *line) start() CallID {
	l.t.Helper()
	return l.must(l.at[alice].Start(l.now, alice, bob, CallID{7}, commit)).ID
}

func (l *line) answered() CallID {
	l.t.Helper()
	id := l.start()
	l.must(l.at[bob].Answer(l.now, bob, id, key))
	l.must(l.at[alice].Reveal(alice, id, key))
	return id
}

// over checks the last states, the record, and that nothing is left.
func (l *line) over(a, b State, status Status, d time.Duration) {
	l.t.Helper()
	last := func(u identity.UserID) State {
		if n := len(l.told[u]); n > 0 {
			return l.told[u][n-1]
		}
		return ""
	}
	if last(alice) != a || last(bob) != b {
		l.t.Errorf("alice %v, bob %v", l.told[alice], l.told[bob])
	}
	if len(l.records) != 1 || l.records[0].Status != status || l.records[0].Duration != d || !l.records[0].Began.Equal(began) {
		l.t.Errorf("records %+v", l.records)
	}
	if l.at[alice].Len()+l.at[bob].Len() != 0 {
		l.t.Error("sides are left")
	}
}

func TestC01CallFromRingToHangup(t *testing.T) {
	for _, same := range []bool{true, false} {
		l := newLine(t, same)
		id := l.start()
		if c, err := l.at[alice].Get(alice, id); err != nil || c.State != StateRinging {
			t.Fatalf("%+v %v", c, err)
		}
		if c, err := l.at[bob].Get(bob, id); err != nil || c.State != StateRinging || !bytes.Equal(c.Commit, commit) {
			t.Fatalf("%+v %v", c, err)
		}
		l.must(l.at[bob].Answer(l.now, bob, id, key))
		if c, _ := l.at[alice].Get(alice, id); c.State != StateAccepted || !bytes.Equal(c.PeerKey, key) || c.Ready {
			t.Fatalf("%+v", c)
		}
		l.must(l.at[alice].Reveal(alice, id, key))
		if c, _ := l.at[bob].Get(bob, id); !bytes.Equal(c.PeerKey, key) || !c.Ready {
			t.Fatalf("%+v", c)
		}
		if _, ok := l.at[alice].Connected(alice, id); !ok {
			t.Error("connected")
		}
		l.now = l.now.Add(90 * time.Second)
		l.must(l.at[bob].End(l.now, bob, id, ReasonHangup))
		l.over(StateEnded, StateEnded, StatusCompleted, 90*time.Second)
	}
}

func TestC08Records(t *testing.T) {
	cases := []struct {
		name   string
		do     func(l *line)
		a, b   State
		status Status
		d      time.Duration
	}{
		{"declined", func(l *line) { l.must(l.at[bob].End(l.now, bob, l.start(), ReasonHangup)) }, StateDeclined, StateDeclined, StatusDeclined, 0},
		{"cancelled", func(l *line) { l.must(l.at[alice].End(l.now, alice, l.start(), ReasonHangup)) }, StateCancelled, StateCancelled, StatusCancelled, 0},
		{"missed", func(l *line) {
			l.start()
			l.do(l.at[alice].Tick(l.now.Add(RingTime - 1))...)
			if l.at[alice].Len() == 0 {
				l.t.Error("it was missed too early")
			}
			l.do(l.at[alice].Tick(l.now.Add(RingTime))...)
		}, StateMissed, StateMissed, StatusMissed, 0},
		{"callee leaves", func(l *line) { l.start(); l.do(l.at[bob].EndAll(l.now, bob)...) }, StateMissed, StateMissed, StatusMissed, 0},
		{"caller leaves", func(l *line) { l.answered(); l.do(l.at[alice].EndAll(l.now.Add(time.Second), alice)...) }, StateEnded, StateEnded, StatusCompleted, time.Second},
		{"media never came", func(l *line) { l.answered(); l.do(l.at[bob].Tick(l.now.Add(SetupTime))...) }, StateFailed, StateFailed, StatusCompleted, 0},
		{"keys differ", func(l *line) { l.must(l.at[bob].End(l.now, bob, l.answered(), ReasonKeys)) }, StateFailed, StateFailed, StatusCompleted, 0},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			l := newLine(t, false)
			c.do(l)
			if c.name == "media never came" { // each side counts for itself
				l.records[0].Duration = 0
			}
			l.over(c.a, c.b, c.status, c.d)
		})
	}
}

func TestC01MediaMayComeBack(t *testing.T) {
	l := newLine(t, true)
	id := l.answered()
	calls := l.at[alice]
	for _, u := range []identity.UserID{alice, bob} {
		if _, first := calls.Connected(u, id); !first {
			t.Error("not connected")
		}
	}
	calls.Lost(l.now, bob, id)
	l.now = l.now.Add(LostTime - 1)
	if e := calls.Tick(l.now); e != nil {
		t.Errorf("too early: %+v", e)
	}
	if _, first := calls.Connected(bob, id); first {
		t.Error("it was connected before")
	}
	if e := calls.Tick(l.now.Add(LostTime)); e != nil {
		t.Errorf("it came back: %+v", e)
	}
	calls.Lost(l.now, bob, id)
	calls.Lost(l.now.Add(time.Second), bob, id) // told twice
	l.now = l.now.Add(LostTime)
	l.do(calls.Tick(l.now)...)
	l.over(StateFailed, StateFailed, StatusCompleted, 2*LostTime-1)
}

func TestC01OneAnswerWins(t *testing.T) {
	l := newLine(t, true)
	id := l.start()
	l.must(l.at[bob].Answer(l.now, bob, id, key))
	if _, err := l.at[bob].Answer(l.now, bob, id, key); !errors.Is(err, ErrState) {
		t.Errorf("a second answer: %v", err)
	}
	n := len(l.told[alice])
	l.do(l.at[alice].Take(l.now, alice, bob, Signal{Call: id, Kind: KindAnswer, Key: bytes.Repeat([]byte{5}, KeySize)})...)
	if c, _ := l.at[alice].Get(alice, id); !bytes.Equal(c.PeerKey, key) || len(l.told[alice]) != n {
		t.Error("a later answer replaced the first one's key")
	}
}

func TestC01WrongStatesChangeNothing(t *testing.T) {
	l := newLine(t, true)
	id := l.start()
	calls := l.at[alice]
	short := key[:KeySize-1]
	for name, c := range map[string]struct {
		err  error
		want error
	}{
		"answer by the caller":     {second(calls.Answer(l.now, alice, id, key)), ErrState},
		"reveal before the answer": {second(calls.Reveal(alice, id, key)), ErrState},
		"answer by a stranger":     {second(calls.Answer(l.now, carol, id, key)), ErrNotFound},
		"end by a stranger":        {second(calls.End(l.now, carol, id, ReasonHangup)), ErrNotFound},
		"reveal by a stranger":     {second(calls.Reveal(carol, id, key)), ErrNotFound},
		"a short key":              {second(calls.Answer(l.now, bob, id, short)), ErrInvalid},
		"a second call":            {second(calls.Start(l.now, alice, carol, CallID{}, commit)), ErrBusy},
		"oneself":                  {second(calls.Start(l.now, carol, carol, CallID{}, commit)), ErrInvalid},
		"nobody":                   {second(calls.Start(l.now, carol, identity.UserID{}, CallID{}, commit)), ErrInvalid},
		"a short commitment":       {second(calls.Start(l.now, carol, alice, CallID{}, commit[1:])), ErrInvalid},
		"a taken id":               {second(calls.Start(l.now, carol, alice, id, commit)), ErrInvalid},
	} {
		if !errors.Is(c.err, c.want) {
			t.Errorf("%s: %v, want %v", name, c.err, c.want)
		}
	}
	for name, s := range map[string]Signal{
		"ring at the callee": {Call: id, Kind: KindRing}, "reveal too early": {Call: id, Kind: KindReveal, Key: key}, "answer at the callee": {Call: id, Kind: KindAnswer, Key: key},
		"unknown kind": {Call: id, Kind: 77}, "unknown call": {Call: CallID{1, 1}, Kind: KindEnd}, "again": {Call: id, Kind: KindInvite, Node: home, Commit: commit},
	} {
		if e := calls.Take(l.now, bob, alice, s); e != nil {
			t.Errorf("%s: %+v", name, e)
		}
	}
	if e := calls.Take(l.now, bob, carol, Signal{Call: id, Kind: KindEnd}); e != nil {
		t.Errorf("carol ended a call of alice and bob: %+v", e)
	}
	if e := calls.Take(l.now, carol, alice, Signal{Call: CallID{5}, Kind: KindInvite, Node: identity.NodeID{1}, Commit: commit}); e != nil {
		t.Errorf("a call whose media is elsewhere rings: %+v", e)
	}
}

func second(_ Effect, err error) error { return err }

func TestC01BusyUserIsNotDisturbed(t *testing.T) {
	l := newLine(t, true)
	l.start()
	l.must(l.at[carol].Start(l.now, carol, bob, CallID{8}, commit))
	if got := l.told[carol]; got[len(got)-1] != StateDeclined {
		t.Errorf("carol: %v", got)
	}
	if c, err := l.at[bob].Get(bob, CallID{7}); err != nil || c.State != StateRinging {
		t.Errorf("bob's call: %+v %v", c, err)
	}
}

func TestC01LimitOfCalls(t *testing.T) {
	c := NewCalls(home)
	for i := range MaxCalls {
		if _, err := c.Start(began, identity.UserID{1, byte(i)}, identity.UserID{2, byte(i)}, CallID{}, commit); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := c.Start(began, carol, bob, CallID{}, commit); !errors.Is(err, ErrFull) {
		t.Errorf("one call too many: %v", err)
	}
	e := c.Take(began, bob, carol, Signal{Call: CallID{1}, Kind: KindInvite, Node: home, Commit: commit})
	if len(e) != 1 || e[0].Send == nil || e[0].Send.Reason != ReasonBusy || c.Len() != MaxCalls || c.Running() != MaxCalls {
		t.Errorf("%+v, %d sides", e, c.Len())
	}
}

func TestC01OffersHaveBounds(t *testing.T) {
	good := "v=0\r\n" + strings.Repeat("a", MaxSDP-5)
	if err := (Offer{SDP: good}).Check(); err != nil {
		t.Errorf("the largest offer: %v", err)
	}
	for _, bad := range []string{good + "a", "", "v=1\r\n", "garbage", "v=0\r\n\xff", strings.Repeat("x", 1<<20)} {
		if err := (Offer{SDP: bad}).Check(); !errors.Is(err, ErrInvalid) {
			t.Errorf("%d bytes: %v", len(bad), err)
		}
	}
}

func TestC01CallIDText(t *testing.T) {
	id := CallID{1, 2, 3, 255}
	if got, err := ParseCallID(strings.ToUpper(id.String())); err != nil || got != id {
		t.Errorf("%v %v", got, err)
	}
	for _, bad := range []string{"", "a", id.String() + "a", strings.Repeat("1", 26), "../../../../etc/passwd....."} {
		if _, err := ParseCallID(bad); !errors.Is(err, ErrInvalid) {
			t.Errorf("%q: %v", bad, err)
		}
	}
}

// Whatever signals come in whatever order: no panic, no side more than the
// limit, and each side that is over is gone.
func FuzzTake(f *testing.F) {
	f.Add([]byte{1, 0, 2, 1, 3, 0, 4, 1, 5, 0})
	f.Fuzz(func(t *testing.T, steps []byte) {
		c, now := NewCalls(home), began
		users := []identity.UserID{alice, bob, carol}
		for i := 0; i+1 < len(steps) && i < 200; i += 2 {
			kind, who := Kind(steps[i]%7), steps[i+1]
			user, peer := users[who%3], users[who/3%3]
			now = now.Add(time.Duration(who) * time.Second)
			s := Signal{Call: CallID{who >> 6}, Kind: kind, Node: home, Commit: commit, Key: key, Reason: Reason(who % 9)}
			for _, e := range append(c.Take(now, user, peer, s), c.Tick(now)...) {
				if _, err := c.Get(e.Call.User, e.Call.ID); e.Call.State.Over() && e.Call.Reason != ReasonBusy && err == nil {
					t.Fatalf("%+v is over and still there", e.Call)
				}
				_ = e.Call.Reason.String()
			}
			if c.Len() > len(users) {
				t.Fatalf("%d sides of %d users", c.Len(), len(users))
			}
		}
	})
}
