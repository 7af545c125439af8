package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"fmt"
	"io"
	"sync"
	"time"

	"outrider/field-tests/scenario"
)

const (
	theText  = "Bridge at the ford is out. Use the northern track."
	theReply = "Understood, northern track. Moving at dusk."
	fileSize = 5_000_000 // bytes
	fileName = "route-overlay.kmz"
)

// A story is one performance: three nodes, and what was sent and seen.
type story struct {
	*scenario.Trio
	out   io.Writer
	start time.Time
	file  []byte

	mu        sync.Mutex
	sent      int
	delivered int
	hashes    int // bodies compared equal at the reader
	traffic   map[string]uint64
	listeners sync.WaitGroup
	stop      context.CancelFunc
	alive     context.Context
}

func newStory(ctx context.Context, parent, bin string, out io.Writer) (*story, error) {
	s := &story{out: out, start: time.Now(), file: make([]byte, fileSize), traffic: map[string]uint64{}}
	if _, err := rand.Read(s.file); err != nil {
		return nil, err
	}
	var err error
	ip := "127.0.0.1"
	if s.Trio, err = scenario.NewTrio(ctx, parent, bin, [3]string{ip, ip, ip}); err != nil {
		return nil, err
	}
	s.alive, s.stop = context.WithCancel(ctx)
	return s, nil
}

func (s *story) close() {
	s.stop()
	s.listeners.Wait()
	if err := s.Trio.Stop(); err != nil {
		complain(err)
	}
}

// play runs the story. With Bravo missing nothing can arrive, and it fails
// after a while.
func (s *story) play(ctx context.Context, withBravo bool) error {
	if err := s.raise(ctx, withBravo); err != nil {
		return err
	}
	if err := s.outbound(ctx, withBravo); err != nil {
		return err
	}
	return s.inbound(ctx)
}

// raise brings the nodes up and people in. Charlie enters through Bravo, which
// never heard of it, and stays with it until everything known is exchanged.
func (s *story) raise(ctx context.Context, withBravo bool) error {
	if err := s.up(ctx, s.Alpha, "alice"); err != nil {
		return err
	}
	if withBravo {
		if err := s.up(ctx, s.Bravo, "bob"); err != nil {
			return err
		}
		if err := s.BravoHears(ctx, s.AlphaID); err != nil {
			return err
		}
		if err := s.contact(ctx, s.Bravo, s.AlphaID); err != nil {
			return err
		}
	}
	if err := s.loggedIn(ctx, s.Alpha); err != nil {
		return err
	}
	if !withBravo {
		return s.up(ctx, s.Charlie, "carol")
	}
	if err := s.BravoHears(ctx, s.CharlieID); err != nil {
		return err
	}
	return s.up(ctx, s.Charlie, "carol")
}

// loggedIn waits until the user of a node can write.
func (s *story) loggedIn(ctx context.Context, b *scenario.Box) error {
	return scenario.Poll(ctx, "the user of "+b.Name+" to log in", func() (bool, error) {
		_, err := b.API.Users(ctx)
		return err == nil, err
	})
}

// up starts a node, follows its events, and logs its user in as soon as the
// node has met its network.
func (s *story) up(ctx context.Context, b *scenario.Box, user string) error {
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
func (s *story) contact(ctx context.Context, b *scenario.Box, node string) error {
	return scenario.Poll(ctx, b.Name+" to meet its neighbour", func() (bool, error) {
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
func (s *story) outbound(ctx context.Context, withBravo bool) error {
	api := s.Alpha.API
	if _, err := api.Send(ctx, s.Carol, theText); err != nil {
		return err
	}
	if _, err := api.SendFile(ctx, s.Carol, fileName, bytes.NewReader(s.file)); err != nil {
		return err
	}
	if _, err := api.SendLocation(ctx, s.Carol, 48.20817, 16.37382, "rally point"); err != nil {
		return err
	}
	s.count(func() { s.sent += 3 })
	if withBravo {
		if err := s.loggedIn(ctx, s.Charlie); err != nil {
			return err
		}
		if _, err := s.stay(ctx, s.CharlieID, true, func() (bool, error) { return false, nil }); err != nil {
			return err
		}
		if err := s.killOnTheWay(ctx); err != nil {
			return err
		}
	}
	return s.ferry(ctx, withBravo, func() (bool, error) { return s.arrived(ctx) })
}

// killOnTheWay lets Bravo hear Alpha, kills it when the file is under way, and
// brings it back.
func (s *story) killOnTheWay(ctx context.Context) error {
	if err := s.BravoHears(ctx, s.AlphaID); err != nil {
		return err
	}
	before, err := s.received(ctx)
	if err != nil {
		return err
	}
	now := before
	err = scenario.Poll(ctx, "Bravo to take part of the file", func() (bool, error) {
		now, err = s.received(ctx)
		return now > before+fileSize/4, err
	})
	if err != nil {
		return err
	}
	s.countTraffic(ctx, s.Bravo)
	s.Bravo.Kill()
	s.say("bravo", "killed (SIGKILL), %d bytes received from alpha", now)
	return s.up(ctx, s.Bravo, "")
}

// received is what Bravo has received from Alpha on the link, in bytes.
func (s *story) received(ctx context.Context) (uint64, error) {
	links, err := s.Bravo.API.Links(ctx)
	for _, l := range links {
		if l.Node == s.AlphaID {
			return l.RxBytes, err
		}
	}
	return 0, err
}

// ferry lets Bravo hear Alpha and Charlie in turn until done.
func (s *story) ferry(ctx context.Context, withBravo bool, done func() (bool, error)) error {
	for turn := 0; ; turn++ {
		side := []string{s.AlphaID, s.CharlieID}[turn%2]
		if withBravo {
			if err := s.BravoHears(ctx, side); err != nil {
				return err
			}
		}
		ok, err := s.stay(ctx, side, withBravo, done)
		if ok || err != nil {
			return err
		}
	}
}

// stay waits with one side until everything is done or nothing more comes:
// the link's counters have stood still for a second.
func (s *story) stay(ctx context.Context, side string, withBravo bool, done func() (bool, error)) (bool, error) {
	var last uint64
	still := time.Now()
	var finished bool
	err := scenario.Poll(ctx, "messages to arrive", func() (bool, error) {
		ok, err := done()
		if ok {
			finished = true
			return true, nil
		}
		if !withBravo {
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
func (s *story) arrived(ctx context.Context) (bool, error) {
	inbox, err := s.Charlie.API.Inbox(ctx)
	if err != nil {
		return false, err // carol may not be in yet
	}
	here, equal := 0, 0
	for _, m := range inbox {
		switch {
		case m.From.Name != "alice":
		case m.Type == "text":
			here++
			equal += btoi(m.Text == theText)
		case m.Type == "location":
			here++
			equal += btoi(near(m.Location.Lat, 48.20817) && near(m.Location.Lon, 16.37382))
		case m.Type == "file" && m.File.Complete:
			here++
			ok, err := s.sameFile(ctx, m.ID)
			if err != nil {
				return false, err
			}
			equal += btoi(ok)
		}
	}
	s.count(func() { s.delivered, s.hashes = here, equal })
	return here == 3, nil
}

func (s *story) sameFile(ctx context.Context, message string) (bool, error) {
	h := sha256.New()
	if err := s.Charlie.API.File(ctx, message, h); err != nil {
		return false, err
	}
	return [32]byte(h.Sum(nil)) == sha256.Sum256(s.file), nil
}

// inbound sends the answer and carries it home, with the receipts.
func (s *story) inbound(ctx context.Context) error {
	if _, err := s.Charlie.API.Send(ctx, "alice", theReply); err != nil {
		return err
	}
	s.count(func() { s.sent++ })
	var counted bool
	return s.ferry(ctx, true, func() (bool, error) {
		inbox, err := s.Alpha.API.Inbox(ctx)
		if err != nil {
			return false, err
		}
		answered, confirmed := false, 0
		for _, m := range inbox {
			if m.From.Name == "carol" && m.Text == theReply {
				answered = true
			}
			if m.To.Name == "carol" && (m.State == "delivered" || m.State == "read") {
				confirmed++
			}
		}
		if answered && !counted {
			counted = true
			s.count(func() { s.delivered++; s.hashes++ })
		}
		return answered && confirmed == 3, nil
	})
}

// summary tells what was sent and what came, and what each link carried by the
// nodes' own counters.
func (s *story) summary(ctx context.Context) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
	defer cancel()
	s.countTraffic(ctx, s.Alpha, s.Bravo, s.Charlie)
	s.mu.Lock()
	defer s.mu.Unlock()
	fmt.Fprintf(s.out, "\nsent %d, delivered %d, contents equal %d, %.1f s\n", s.sent, s.delivered, s.hashes, time.Since(s.start).Seconds())
	for _, l := range [][2]string{{"alpha", "bravo"}, {"bravo", "alpha"}, {"bravo", "charlie"}, {"charlie", "bravo"}, {"alpha", "charlie"}, {"charlie", "alpha"}} {
		fmt.Fprintf(s.out, "  %-7s -> %-7s %9d bytes\n", l[0], l[1], s.traffic[l[0]+l[1]])
	}
}

// countTraffic adds up what the nodes' links have carried since the nodes
// came up.
func (s *story) countTraffic(ctx context.Context, boxes ...*scenario.Box) {
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

func (s *story) invite() {
	fmt.Fprintf(s.out, "\nJoin in with a browser; the password of all three is: %s\n", scenario.UserPassword)
	for _, x := range []struct {
		b    *scenario.Box
		user string
	}{{s.Alpha, "alice"}, {s.Bravo, "bob"}, {s.Charlie, "carol"}} {
		fmt.Fprintf(s.out, "  %-8s %s  as %s\n", x.b.Name, x.b.PageURL(), x.user)
	}
	fmt.Fprintln(s.out, "Ctrl-C ends it.")
}

func (s *story) count(f func()) {
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

func near(a, b float64) bool { return a-b < 1e-6 && b-a < 1e-6 }
