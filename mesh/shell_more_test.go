package mesh_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"outrider/mesh"
	"outrider/mesh/bundle"
	"outrider/mesh/cla"
	"outrider/mesh/cla/memcla"
	"outrider/mesh/identity"
	"outrider/mesh/meshtest"
)

func TestRestartForgetsNothing(t *testing.T) {
	st := meshtest.NewStore(1)
	a := startNode(t, 1, st, nil)
	var ids []bundle.ID
	for i := range uint64(50) {
		b, _ := makeBundle(t, tagOf(byte(i%2)), i, 300, bundle.Routine)
		submit(t, a, b)
		ids = append(ids, b.ID())
	}
	if err := a.Consumed(context.Background(), ids[:10]); err != nil {
		t.Fatal(err)
	}
	before := a.Status()
	a.stop()
	st.Crash()

	sh := startNode(t, 1, st, nil)
	got := sh.Events()
	sh.Watch([]identity.Tag{tagOf(0), tagOf(1)}, nil)
	seen := map[bundle.ID]bool{}
	for len(seen) < 40 {
		seen[wait(t, got, func(mesh.Arrived) bool { return true }).ID] = true
	}
	for _, id := range ids[:10] {
		if seen[id] {
			t.Fatal("announced again although it was consumed")
		}
	}
	if after := sh.Status(); after.Held != before.Held || after.Root != before.Root || after.Bytes != before.Bytes {
		t.Fatalf("before %+v\nafter %+v", before, after)
	}
}

func TestTimeSwitchedOff(t *testing.T) {
	for _, c := range []struct {
		name      string
		off       func(time.Time) (time.Duration, bool)
		want      time.Duration
		uncertain bool
	}{
		{"clock agrees", func(time.Time) (time.Duration, bool) { return 20 * time.Minute, true }, 20 * time.Minute, false},
		{"clock is not to be trusted", func(time.Time) (time.Duration, bool) { return 300 * time.Hour, false }, 0, true},
		{"clock went backwards", func(time.Time) (time.Duration, bool) { return -time.Hour, true }, 0, false},
		{"no clock", nil, 0, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			st := meshtest.NewStore(1)
			a := startNode(t, 1, st, nil)
			b, _ := makeBundle(t, tagOf(1), 1, 10, bundle.Routine) // an hour
			submit(t, a, b)
			a.stop()
			a = startNode(t, 1, st, func(s *mesh.ShellConfig) { s.TimeOff = c.off })
			x := a.Explain(b.ID())
			if x.State != "held" || x.Age < c.want || x.Age > c.want+5*time.Minute {
				t.Fatalf("%s at an age of %v, want %v", x.State, x.Age, c.want)
			}
			if got := a.Status().AgeUncertain; got != c.uncertain {
				t.Fatalf("age uncertain: %v", got)
			}
			back, err := a.Load(context.Background(), b.ID())
			if err != nil || back.Hop.AgeDuration() < c.want {
				t.Fatalf("loaded with age %v: %v", back.Hop.AgeDuration(), err)
			}
		})
	}
}

// A date written by a clock that nobody vouched for is not counted from, and
// time off that becomes known later counts from then on, once.
func TestTimeSwitchedOffLater(t *testing.T) {
	for name, sure := range map[string]bool{"saved by a clock to be relied on": true, "saved by one that was not": false} {
		t.Run(name, func(t *testing.T) {
			st := meshtest.NewStore(1)
			a := startNode(t, 1, st, func(s *mesh.ShellConfig) { s.WallCertain = func() bool { return sure } })
			b, _ := makeBundle(t, tagOf(1), 1, 10, bundle.Routine) // an hour
			submit(t, a, b)
			a.stop()
			asked := false
			a = startNode(t, 1, st, func(s *mesh.ShellConfig) {
				s.TimeOff = func(time.Time) (time.Duration, bool) { asked = true; return 0, false }
			})
			if !a.Status().AgeUncertain || asked != sure {
				t.Fatalf("uncertain %v, asked %v", a.Status().AgeUncertain, asked)
			}
			a.CountOff(20 * time.Minute)
			a.CountOff(300 * time.Hour)
			if x := a.Explain(b.ID()); x.State != "held" || x.Age < 20*time.Minute || x.Age > 21*time.Minute {
				t.Fatalf("%s at an age of %v", x.State, x.Age)
			}
			if a.Status().AgeUncertain {
				t.Error("still uncertain")
			}
		})
	}
}

func TestExpiryWhileRunningAndWhileOff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		st := meshtest.NewStore(1)
		a := startNode(t, 1, st, nil)
		x, _ := makeBundle(t, tagOf(1), 1, 10, bundle.Routine)
		submit(t, a, x)
		time.Sleep(30 * time.Minute) // fake time
		y, _ := makeBundle(t, tagOf(1), 2, 10, bundle.Routine)
		submit(t, a, y)
		time.Sleep(30*time.Minute + 5*time.Second)
		synctest.Wait()
		if st.Holds(x.ID()) || !st.Holds(y.ID()) {
			t.Fatalf("after an hour: first held %v, second held %v", st.Holds(x.ID()), st.Holds(y.ID()))
		}
		a.stop()
		a = startNode(t, 1, st, func(s *mesh.ShellConfig) {
			s.TimeOff = func(time.Time) (time.Duration, bool) { return 3 * time.Hour, true }
		})
		if a.Explain(y.ID()).State != "expired" {
			t.Fatalf("%+v", a.Explain(y.ID()))
		}
		synctest.Wait()
		if st.Holds(y.ID()) {
			t.Fatal("what died while the node was off is still on disk")
		}
		if _, err := a.Load(context.Background(), y.ID()); !errors.Is(err, mesh.ErrUnknown) {
			t.Fatalf("load: %v", err)
		}
		a.stop()
	})
}

func TestStoppedShellSaysSo(t *testing.T) {
	a := startNode(t, 1, meshtest.NewStore(1), nil)
	sub := a.Events()
	b, key := makeBundle(t, tagOf(1), 1, 10, bundle.Routine)
	submit(t, a, b)
	a.stop()
	ctx := context.Background()
	if err := a.Submit(ctx, b, mesh.SubmitOptions{}); !errors.Is(err, mesh.ErrClosed) {
		t.Errorf("submit: %v", err)
	}
	if err := a.Purge(ctx, bundle.NewPurgeRecord(b, key)); !errors.Is(err, mesh.ErrClosed) {
		t.Errorf("purge: %v", err)
	}
	la, lb := memcla.Pipe(nodeID(1), nodeID(2), 1, lan)
	defer lb.Close()
	if err := a.AddLink(ctx, la); !errors.Is(err, mesh.ErrClosed) {
		t.Errorf("link: %v", err)
	}
	if err := a.Run(ctx); err == nil {
		t.Error("ran twice")
	}
	if _, err := sub.Next(ctx); !errors.Is(err, mesh.ErrClosed) {
		t.Errorf("subscription: %v", err)
	}
	sub.Close()
}

func TestUnreadableStoreIsAFault(t *testing.T) {
	sh := mesh.NewShell(mesh.ShellConfig{Self: nodeID(1), Store: brokenStore{meshtest.NewStore(1)}, Judge: acceptAll{}, Log: slog.New(slog.DiscardHandler)})
	if err := sh.Run(context.Background()); err == nil {
		t.Fatal("ran on a store that cannot be read")
	}
	if _, err := sh.Load(context.Background(), bundle.ID{}); !errors.Is(err, mesh.ErrClosed) {
		t.Fatalf("load: %v", err)
	}
}

type brokenStore struct{ *meshtest.Store }

func (brokenStore) Value(string) ([]byte, error) { return nil, errors.New("unreadable") }

// A full disk pushes back, loses nothing, and needs nobody to restart
// anything: when there is room again, what was refused is fetched.
func TestFullDiskPushesBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		full := meshtest.NewStore(2)
		full.Limit = 2500
		a, b := startNode(t, 1, meshtest.NewStore(1), nil), startNode(t, 2, full, nil)
		sub := b.Events()
		b.Watch([]identity.Tag{tagOf(2)}, nil)
		own, key := makeBundle(t, tagOf(1), 1, 1000, bundle.Routine)
		submit(t, b, own)
		x, _ := makeBundle(t, tagOf(1), 2, 2000, bundle.Routine)
		if err := b.Submit(context.Background(), x, mesh.SubmitOptions{}); !errors.Is(err, mesh.ErrFull) {
			t.Fatalf("submit to a full disk: %v", err)
		}
		cut := join(t, a, b, 1, lan)
		mail, _ := makeBundle(t, tagOf(2), 3, 2000, bundle.Routine)
		submit(t, a, mail)
		time.Sleep(time.Minute)
		if full.Holds(mail.ID()) || b.Status().Counters.Dropped[mesh.DropNoSpace] == 0 {
			t.Fatalf("refusal is not counted: %+v", b.Status().Counters.Dropped)
		}
		if err := b.Purge(context.Background(), bundle.NewPurgeRecord(own, key)); err != nil {
			t.Fatal(err)
		}
		wait(t, sub, func(e mesh.Arrived) bool { return e.ID == mail.ID() })
		cut()
		a.stop()
		b.stop()
	})
}

// A subscriber that does not read stops intake, and nothing is lost.
func TestSlowSubscriberHoldsIntakeBack(t *testing.T) {
	a := startNode(t, 1, meshtest.NewStore(1), nil)
	sub := a.Events()
	a.Watch([]identity.Tag{tagOf(1)}, nil)
	ctx, cancel := context.WithTimeout(context.Background(), 3*patience) // for 17,000 bundles
	defer cancel()
	var mu sync.Mutex
	next, accepted := uint64(0), 0
	blocked, stop := context.WithCancel(ctx)
	var clients sync.WaitGroup
	for range 8 {
		clients.Go(func() {
			for {
				mu.Lock()
				next++
				n := next
				mu.Unlock()
				b, _ := makeBundle(t, tagOf(1), n, 1, bundle.Routine)
				if err := a.Submit(blocked, b, mesh.SubmitOptions{}); err != nil {
					return
				}
				mu.Lock()
				accepted++
				if accepted == 17_000 { // beyond the backlog: intake does not stop
					stop()
				}
				mu.Unlock()
			}
		})
	}
	// When the backlog is full and nobody gets on any more, intake has stopped.
	for last := -1; ; {
		select {
		case <-time.After(300 * time.Millisecond):
		case <-blocked.Done():
		}
		mu.Lock()
		now := accepted
		mu.Unlock()
		if now == last && now >= 16_384 || blocked.Err() != nil {
			break
		}
		last = now
	}
	stop()
	clients.Wait()
	if accepted < 16_384 || accepted >= 17_000 {
		t.Fatalf("%d bundles accepted while nobody read", accepted)
	}
	for seen := map[bundle.ID]bool{}; len(seen) < accepted; {
		ev, err := sub.Next(ctx)
		if err != nil {
			t.Fatalf("%d of %d announcements, then %v", len(seen), accepted, err)
		}
		if e, ok := ev.(mesh.Arrived); ok {
			seen[e.ID] = true
		}
	}
	b, _ := makeBundle(t, tagOf(1), 1<<40, 1, bundle.Routine)
	submit(t, a, b) // intake goes on
	sub.Close()
}

// A rawLink is a link whose other end the test plays.
type rawLink struct {
	peer identity.NodeID
	in   chan []byte
	out  chan []byte // nil: nothing is ever read
	end  chan struct{}
	once sync.Once
}

func newRawLink(peer byte, reads bool) *rawLink {
	l := &rawLink{peer: nodeID(peer), in: make(chan []byte), end: make(chan struct{})}
	if reads {
		l.out = make(chan []byte, 1<<16)
	}
	return l
}

func (l *rawLink) Peer() identity.NodeID     { return l.peer }
func (l *rawLink) Info() cla.Info            { return cla.Info{Class: cla.LAN} }
func (l *rawLink) Counters() (tx, rx uint64) { return 0, 0 }
func (l *rawLink) Close() error              { l.once.Do(func() { close(l.end) }); return nil }

func (l *rawLink) Send(ctx context.Context, frame []byte) error {
	select {
	case l.out <- frame:
		return nil
	case <-l.end:
		return cla.ErrClosed
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (l *rawLink) Recv(ctx context.Context) ([]byte, error) {
	select {
	case f := <-l.in:
		return f, nil
	case <-l.end:
		return nil, cla.ErrClosed
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// say plays frames until the link closes.
func (l *rawLink) say(frame []byte) bool {
	select {
	case l.in <- frame:
		return true
	case <-l.end:
		return false
	}
}

// stateFrame is a STATE by hand, as PROTOCOL.md has it.
func stateFrame(epoch byte) []byte {
	f := []byte{0x01, 1, 1, 0, 0, 0}          // versions, no heads, no features, generation 0
	f = append(f, epoch, 0, 0, 0, 0, 0, 0, 0) // epoch
	f = append(f, 0)                          // sequence number
	f = append(f, make([]byte, 8)...)         // known epoch
	f = append(f, 0, 0)                       // known sequence numbers
	f = append(f, make([]byte, 16)...)        // root
	f = binary.AppendUvarint(f, 1<<20)        // free KiB
	return append(f, 1)                       // acknowledge every frame
}

func TestNeighbourThatDoesNotRead(t *testing.T) {
	a := startNode(t, 1, meshtest.NewStore(1), nil)
	l := newRawLink(7, false)
	done := make(chan error, 1)
	go func() { done <- a.AddLink(context.Background(), l) }()
	l.say(stateFrame(1))
	ask := append([]byte{0x12, 1}, make([]byte, 32)...) // BLOBWANT of a blob that is not here
	ask = append(ask, 0, 1, 0, 0)
	sent := 0
	for l.say(ask) {
		if sent++; sent > 100_000 {
			t.Fatal("answers pile up without bound")
		}
	}
	if err := <-done; err != nil {
		t.Fatalf("AddLink: %v", err)
	}
	b, _ := makeBundle(t, tagOf(1), 1, 10, bundle.Routine)
	submit(t, a, b) // the node is none the worse
}

func TestNeighbourThatTalksNonsense(t *testing.T) {
	a := startNode(t, 1, meshtest.NewStore(1), nil)
	for _, nonsense := range [][]byte{{0x42}, bytes.Repeat([]byte{0xff}, 4000), {0x45, 0}, {0x01}, {0x05, 9, 9, 9}} {
		l := newRawLink(7, true)
		done := make(chan error, 1)
		go func() { done <- a.AddLink(context.Background(), l) }()
		l.say(stateFrame(1))
		for i := 0; l.say(nonsense); i++ {
			if nonsense[0] == 0xff && i == 200 { // a type nobody knows is no crime
				l.Close()
			}
			if i > 1000 {
				t.Fatalf("%x is put up with for ever", nonsense[:min(len(nonsense), 8)])
			}
		}
		if err := <-done; err != nil {
			t.Fatalf("AddLink: %v", err)
		}
	}
	if st := a.Status(); st.Counters.Dropped[mesh.DropMalformed] < 64 || st.Counters.Dropped[mesh.DropUnknown] == 0 {
		t.Fatalf("not counted: %+v", st.Counters.Dropped)
	}
	b, _ := makeBundle(t, tagOf(1), 1, 10, bundle.Routine)
	submit(t, a, b)
}

// The validity of a control object ends with its date, if the clock is to be
// trusted, and with its lifetime at the latest.
func TestControlObjectDiesWithItsValidity(t *testing.T) {
	for _, trusted := range []bool{true, false} {
		t.Run(fmt.Sprint("trusted ", trusted), func(t *testing.T) {
			now := time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC)
			a := startNode(t, 1, meshtest.NewStore(1), func(c *mesh.ShellConfig) {
				c.Judge = dated{now.Add(10 * time.Minute)}
				c.Clock = fixedClock{now, trusted}
			})
			b := control(t, 1, "certificate", 24*time.Hour)
			submit(t, a, b)
			want := 24 * time.Hour
			if trusted {
				want = 10 * time.Minute
			}
			if left := a.Explain(b.ID()).Left; left > want || left < want-5*time.Minute {
				t.Fatalf("%v left, want %v", left, want)
			}
		})
	}
}

type dated struct{ until time.Time }

func (d dated) Judge([]byte) mesh.Verdict {
	return mesh.Verdict{Code: mesh.VerdictAccept, Key: [16]byte{1}, Number: 1, NotAfter: d.until}
}

type fixedClock struct {
	now     time.Time
	trusted bool
}

func (c fixedClock) Now() time.Time { return c.now }
func (c fixedClock) Trusted() bool  { return c.trusted }

// Links that are cut in the middle of everything cost neither bundles nor
// goroutines (complaints 1 and 2 of dtn.md: a ferry re-sends and loses its
// own; one failed transfer drops the peer).
func TestFerryAcrossCutLinks(t *testing.T) {
	a, b := startNode(t, 1, meshtest.NewStore(1), nil), startNode(t, 2, meshtest.NewStore(2), nil)
	gotA, gotB := a.Events(), b.Events()
	a.Watch([]identity.Tag{tagOf(1)}, nil)
	b.Watch([]identity.Tag{tagOf(2)}, nil)
	const n = 1000
	for i := range uint64(n) {
		x, _ := makeBundle(t, tagOf(2), i, 700, bundle.Routine)
		submit(t, a, x)
		y, _ := makeBundle(t, tagOf(1), n+i, 700, bundle.Routine)
		submit(t, b, y)
	}
	for i := range uint64(12) { // cut after so many frames, more each time
		la, lb := memcla.Pipe(a.id, b.id, i, lan)
		var wg sync.WaitGroup
		wg.Go(func() { a.AddLink(context.Background(), la) })
		wg.Go(func() { b.AddLink(context.Background(), &cutLink{Link: lb, left: int(20 + 10*i)}) })
		wg.Wait()
	}
	join(t, a, b, 99, lan)
	for _, sub := range []*mesh.Subscription{gotA, gotB} {
		seen := map[bundle.ID]bool{}
		for len(seen) < n {
			id := wait(t, sub, func(mesh.Arrived) bool { return true }).ID
			if seen[id] {
				t.Fatal("announced twice")
			}
			seen[id] = true
		}
	}
	received := a.Status().Counters.Received + b.Status().Counters.Received
	if received > 2*n+2*n/50 {
		t.Errorf("%d bundles crossed for %d\na %+v\nb %+v", received, 2*n, a.Status().Counters, b.Status().Counters)
	}
}

// A cutLink breaks after so many frames were sent.
type cutLink struct {
	*memcla.Link
	left int
}

func (l *cutLink) Send(ctx context.Context, frame []byte) error {
	if l.left--; l.left < 0 {
		l.Link.Close()
		return cla.ErrClosed
	}
	return l.Link.Send(ctx, frame)
}

// A purge record may be called unneeded only where its tombstone is on disk.
func TestStandingGone(t *testing.T) {
	for state, gone := range map[string]bool{"unknown": false, "writing": false, "held": false, "purging": false, "refused": false, "purged": true, "superseded": true, "expired": true} {
		if got := (mesh.Standing{State: state}).Gone(); got != gone {
			t.Errorf("%s: gone is %v", state, got)
		}
	}
}
