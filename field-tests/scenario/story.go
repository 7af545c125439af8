package scenario

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"
	"time"
)

// What the story's people send, and how much of it.
const (
	StoryText  = "Bridge at the ford is out. Use the northern track."
	StoryReply = "Understood, northern track. Moving at dusk."
	StoryNote  = "rally point by the old kiln"
	StoryFile  = "route-overlay-northern-track.kmz"
	StoryBytes = 5_000_000
	StoryLat   = 48.20817
	StoryLon   = 16.37382
)

// A Story is one performance: three nodes, and what was sent and seen. A
// message, a file and a position go from Alpha to Charlie, which never hear
// each other, and an answer comes back. Bravo carries all of it, hears one of
// them at a time, and is killed hard once on the way.
type Story struct {
	*Trio
	// Hears lets Bravo hear one node only. Default: the nodes' own gates.
	Hears func(ctx context.Context, node string) error
	File  []byte

	// WithBravo is false for a story in which nothing can arrive.
	WithBravo bool

	out   io.Writer
	start time.Time

	mu        sync.Mutex
	own       Tally // the story's own four
	more      Tally // what steps after it counted
	traffic   map[string]uint64
	links     map[string]bool // what the nodes have told of their links
	took      []string
	after     []func() error
	listeners sync.WaitGroup
	stop      context.CancelFunc
	alive     context.Context
}

// A Tally counts what was sent, what its readers have, and how much of that
// was compared with what was sent and is equal.
type Tally struct{ Sent, Delivered, Equal int }

// NewStory tells the story of t, which is provisioned and not yet up, on out.
func NewStory(ctx context.Context, t *Trio, out io.Writer) *Story {
	s := &Story{Trio: t, Hears: t.BravoHears, WithBravo: true, out: out, start: time.Now(), File: make([]byte, StoryBytes), traffic: map[string]uint64{}, links: map[string]bool{}}
	rand.Read(s.File)
	s.alive, s.stop = context.WithCancel(ctx)
	return s
}

// Close ends the nodes in good order, and then, the last one first, what
// AtClose was given.
func (s *Story) Close() error {
	s.stop()
	s.listeners.Wait()
	err := s.Trio.Stop()
	s.mu.Lock()
	after := s.after
	s.after = nil
	s.mu.Unlock()
	for i := len(after) - 1; i >= 0; i-- {
		err = errors.Join(err, after[i]())
	}
	return err
}

// AtClose has f called when the nodes have ended, such as to end a server that
// they use. Until then what f ends stays up, for whoever joins in.
func (s *Story) AtClose(f func() error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.after = append(s.after, f)
}

// Count adds to what the summary tells.
func (s *Story) Count(t Tally) {
	s.count(func() {
		s.more.Sent += t.Sent
		s.more.Delivered += t.Delivered
		s.more.Equal += t.Equal
	})
}

// Play runs the story. With Bravo missing nothing can arrive, and it fails
// after a while.
func (s *Story) Play(ctx context.Context) error {
	if err := s.Raise(ctx); err != nil {
		return err
	}
	if err := s.outbound(ctx); err != nil {
		return err
	}
	return s.inbound(ctx)
}

// Raise brings the nodes up and people in. Charlie enters through Bravo, which
// never heard of it, and stays with it until everything known is exchanged.
func (s *Story) Raise(ctx context.Context) error {
	if err := s.up(ctx, s.Alpha, s.People[0]); err != nil {
		return err
	}
	if s.WithBravo {
		if err := s.up(ctx, s.Bravo, s.People[1]); err != nil {
			return err
		}
		if err := s.Hears(ctx, s.AlphaID); err != nil {
			return err
		}
		if err := s.contact(ctx, s.Bravo, s.AlphaID); err != nil {
			return err
		}
	}
	if err := s.loggedIn(ctx, s.Alpha); err != nil {
		return err
	}
	if !s.WithBravo {
		return s.up(ctx, s.Charlie, s.People[2])
	}
	if err := s.Hears(ctx, s.CharlieID); err != nil {
		return err
	}
	return s.up(ctx, s.Charlie, s.People[2])
}

// loggedIn waits until the user of a node can write.
func (s *Story) loggedIn(ctx context.Context, b *Box) error {
	return Poll(ctx, "the user of "+b.Name+" to log in", func() (bool, error) {
		_, err := b.API.Users(ctx)
		return err == nil, err
	})
}

// up starts a node, follows its events, and logs its user in as soon as the
// node has met its network.
func (s *Story) up(ctx context.Context, b *Box, user string) error {
	if err := b.Up(ctx); err != nil {
		return err
	}
	s.listeners.Add(1)
	go func() {
		defer s.listeners.Done()
		s.follow(b, user)
	}()
	return nil
}

// contact waits until a node's link to another is up.
func (s *Story) contact(ctx context.Context, b *Box, node string) error {
	return Poll(ctx, b.Name+" to meet its neighbour", func() (bool, error) {
		links, err := b.API.Links(ctx)
		for _, l := range links {
			if l.Node == node && l.Up {
				return true, nil
			}
		}
		return false, err
	})
}

// outbound sends the three things and carries them over. Alice has nobody's
// keys yet: what she sends waits for them, and goes by itself. Bravo is killed
// hard once, while it takes the file from Alpha.
func (s *Story) outbound(ctx context.Context) error {
	api := s.Alpha.API
	if _, err := api.Send(ctx, s.Carol, StoryText); err != nil {
		return err
	}
	if _, err := api.SendFile(ctx, s.Carol, StoryFile, bytes.NewReader(s.File)); err != nil {
		return err
	}
	if _, err := api.SendLocation(ctx, s.Carol, StoryLat, StoryLon, StoryNote); err != nil {
		return err
	}
	s.count(func() { s.own.Sent += 3 })
	if s.WithBravo {
		if err := s.loggedIn(ctx, s.Charlie); err != nil {
			return err
		}
		if err := s.keysAtBravo(ctx); err != nil {
			return err
		}
		if _, err := s.stay(ctx, s.CharlieID, func() (bool, error) { return false, nil }); err != nil {
			return err
		}
		if err := s.killOnTheWay(ctx); err != nil {
			return err
		}
	}
	return s.Ferry(ctx, s.AlphaID, func() (bool, error) { return s.arrived(ctx) })
}

// keysAtBravo waits until Bravo has carol's keys, without which Alpha has nothing
// to give it.
func (s *Story) keysAtBravo(ctx context.Context) error {
	return Poll(ctx, "carol's keys to reach Bravo", func() (bool, error) {
		users, err := s.Bravo.API.Users(ctx)
		return slices.ContainsFunc(users, func(p Person) bool { return p.ID == s.Carol && p.HasKeys }), err
	})
}

// killOnTheWay lets Bravo hear Alpha, kills it when the file is under way, and
// brings it back.
func (s *Story) killOnTheWay(ctx context.Context) error {
	if err := s.Hears(ctx, s.AlphaID); err != nil {
		return err
	}
	before, err := s.received(ctx)
	if err != nil {
		return err
	}
	now := before
	err = Poll(ctx, "Bravo to take part of the file", func() (bool, error) {
		now, err = s.received(ctx)
		return now > before+StoryBytes/4, err
	})
	if err != nil {
		return err
	}
	s.countTraffic(ctx, s.Bravo)
	s.Bravo.Kill()
	s.count(func() { delete(s.links, s.Bravo.Name+s.AlphaID) })
	s.Say("bravo", "killed (SIGKILL), %d bytes received from alpha", now)
	return s.up(ctx, s.Bravo, "")
}

// received is what Bravo has received from Alpha on the link, in bytes.
func (s *Story) received(ctx context.Context) (uint64, error) {
	links, err := s.Bravo.API.Links(ctx)
	for _, l := range links {
		if l.Node == s.AlphaID {
			return l.RxBytes, err
		}
	}
	return 0, err
}

// Sent is what a node has sent to another, in bytes, by its own counter.
func (s *Story) Sent(ctx context.Context, b *Box, node string) (uint64, error) {
	links, err := b.API.Links(ctx)
	for _, l := range links {
		if l.Node == node {
			return l.TxBytes, err
		}
	}
	return 0, err
}

// Ferry lets Bravo hear Alpha and Charlie in turn, the given one first, until
// done.
func (s *Story) Ferry(ctx context.Context, first string, done func() (bool, error)) error {
	sides := []string{s.AlphaID, s.CharlieID}
	if first == s.CharlieID {
		slices.Reverse(sides)
	}
	for turn := 0; ; turn++ {
		side := sides[turn%2]
		if s.WithBravo {
			if err := s.Hears(ctx, side); err != nil {
				return err
			}
		}
		ok, err := s.stay(ctx, side, done)
		if ok || err != nil {
			return err
		}
	}
}

// Meet lets Bravo hear one node until done, or until nothing more comes.
func (s *Story) Meet(ctx context.Context, node string, done func() (bool, error)) error {
	if err := s.Hears(ctx, node); err != nil {
		return err
	}
	_, err := s.stay(ctx, node, done)
	return err
}

// stay waits with one side until everything is done or nothing more comes:
// the link's counters have stood still for a second.
func (s *Story) stay(ctx context.Context, side string, done func() (bool, error)) (bool, error) {
	var last uint64
	still := time.Now()
	var finished bool
	err := Poll(ctx, "messages to arrive", func() (bool, error) {
		ok, err := done()
		if ok {
			finished = true
			return true, nil
		}
		if !s.WithBravo {
			return false, err
		}
		links, _ := s.Bravo.API.Links(ctx)
		var now uint64
		up := false
		for _, l := range links {
			if l.Node == side && l.Up {
				now, up = l.TxBytes+l.RxBytes, true
			}
		}
		if now != last || !up {
			last, still = now, time.Now()
		}
		return time.Since(still) > time.Second, err
	})
	return finished, err
}

// arrived reports whether carol has all three, and compares the bodies.
func (s *Story) arrived(ctx context.Context) (bool, error) {
	inbox, err := s.Charlie.API.Inbox(ctx)
	if err != nil {
		return false, err // carol may not be in yet
	}
	here, equal := 0, 0
	for _, m := range inbox {
		switch {
		case m.From.Name != s.People[0]:
		case m.Type == "text":
			here++
			equal += btoi(m.Text == StoryText)
		case m.Type == "location":
			here++
			equal += btoi(Near(m.Location.Lat, StoryLat) && Near(m.Location.Lon, StoryLon))
		case m.Type == "file" && m.File.Complete:
			here++
			ok, err := s.sameFile(ctx, m.ID)
			if err != nil {
				return false, err
			}
			equal += btoi(ok)
		}
	}
	s.count(func() { s.own.Delivered, s.own.Equal = here, equal })
	return here == 3, nil
}

func (s *Story) sameFile(ctx context.Context, message string) (bool, error) {
	h := sha256.New()
	if err := s.Charlie.API.File(ctx, message, h); err != nil {
		return false, err
	}
	return [32]byte(h.Sum(nil)) == sha256.Sum256(s.File), nil
}

// inbound sends the answer and carries it home, with the receipts.
func (s *Story) inbound(ctx context.Context) error {
	reply, err := s.Charlie.API.Send(ctx, s.People[0], StoryReply)
	if err != nil {
		return err
	}
	s.count(func() { s.own.Sent++ })
	err = s.Meet(ctx, s.CharlieID, func() (bool, error) {
		m, err := s.Charlie.API.Message(ctx, reply.ID)
		return m.State == "carried", err
	})
	if err != nil {
		return err
	}
	var counted bool
	return s.Ferry(ctx, s.AlphaID, func() (bool, error) {
		inbox, err := s.Alpha.API.Inbox(ctx)
		if err != nil {
			return false, err
		}
		answered, confirmed := false, 0
		for _, m := range inbox {
			if m.From.Name == s.People[2] && m.Text == StoryReply {
				answered = true
			}
			if m.To.Name == s.People[2] && (m.State == "delivered" || m.State == "read") {
				confirmed++
			}
		}
		if answered && !counted {
			counted = true
			s.count(func() { s.own.Delivered++; s.own.Equal++ })
		}
		return answered && confirmed == 3, nil
	})
}

// total adds up what was counted; the caller holds mu.
func (s *Story) total() Tally {
	return Tally{s.own.Sent + s.more.Sent, s.own.Delivered + s.more.Delivered, s.own.Equal + s.more.Equal}
}

// Whole is nil when all that was sent has arrived and is what was sent.
func (s *Story) Whole() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if all := s.total(); all.Sent == 0 || all.Delivered != all.Sent || all.Equal != all.Sent {
		return fmt.Errorf("scenario: of %d sent, %d were delivered and %d are equal", all.Sent, all.Delivered, all.Equal)
	}
	return nil
}

// Summary tells what was sent and what came, and what each link carried by the
// nodes' own counters.
func (s *Story) Summary(ctx context.Context) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
	defer cancel()
	s.countTraffic(ctx, s.Alpha, s.Bravo, s.Charlie)
	s.mu.Lock()
	defer s.mu.Unlock()
	all := s.total()
	fmt.Fprintf(s.out, "\nsent %d, delivered %d, contents equal %d, %.1f s\n", all.Sent, all.Delivered, all.Equal, time.Since(s.start).Seconds())
	for _, line := range s.took {
		fmt.Fprintf(s.out, "  %s\n", line)
	}
	for _, l := range [][2]string{{"alpha", "bravo"}, {"bravo", "alpha"}, {"bravo", "charlie"}, {"charlie", "bravo"}, {"alpha", "charlie"}, {"charlie", "alpha"}} {
		fmt.Fprintf(s.out, "  %-7s -> %-7s %9d bytes\n", l[0], l[1], s.traffic[l[0]+l[1]])
	}
}

// countTraffic adds up what the nodes' links have carried since the nodes
// came up.
func (s *Story) countTraffic(ctx context.Context, boxes ...*Box) {
	names := map[string]string{s.AlphaID: "alpha", s.BravoID: "bravo", s.CharlieID: "charlie"}
	for _, b := range boxes {
		links, err := b.API.Links(ctx)
		if err != nil {
			continue // it is not up, and its links say nothing
		}
		s.mu.Lock()
		for _, l := range links {
			s.traffic[b.Name+names[l.Node]] += l.TxBytes
		}
		s.mu.Unlock()
	}
}

// Invite tells how to join in with a browser.
func (s *Story) Invite() {
	fmt.Fprintf(s.out, "\nJoin in with a browser; the password of all three is: %s\n", UserPassword)
	for _, x := range []struct {
		b    *Box
		user string
	}{{s.Alpha, s.People[0]}, {s.Bravo, s.People[1]}, {s.Charlie, s.People[2]}} {
		fmt.Fprintf(s.out, "  %-8s %s  as %s\n", x.b.Name, x.b.PageURL(), x.user)
	}
	fmt.Fprintln(s.out, "Ctrl-C ends it.")
}

func (s *Story) count(f func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f()
}

func btoi(b bool) int {
	if b {
		return 1
	}
	return 0
}

// Near tells whether two coordinates are the same, as far as positions travel.
func Near(a, b float64) bool { return a-b < 1e-6 && b-a < 1e-6 }
