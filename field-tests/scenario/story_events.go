package scenario

import (
	"context"
	"encoding/json"
	"fmt"
	"sync"
	"time"
)

// Say prints one line of the story, in the name of a box. It is for what a node
// or a program at a node has just told, never for what should come.
func (s *Story) Say(box, format string, args ...any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	fmt.Fprintf(s.out, "%6.1f s  %-8s %s\n", time.Since(s.start).Seconds(), box, fmt.Sprintf(format, args...))
}

// Title prints the heading of what comes.
func (s *Story) Title(title string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	fmt.Fprintf(s.out, "\n%s\n", title)
}

// Took tells the summary how long a part took.
func (s *Story) Took(title string, d time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.took = append(s.took, fmt.Sprintf("%5.1f s  %s", d.Seconds(), title))
}

// follow prints what a node tells, its own events and its user's, until the
// process ends. The user is logged in when the node has met its network. A
// stream that ends is opened again: a node closes them once, when it has met
// its network.
func (s *Story) follow(b *Box, user string) {
	ctx, cancel := context.WithCancel(s.alive)
	defer cancel()
	exited := b.Exited()
	go func() {
		select {
		case <-exited:
		case <-ctx.Done():
		}
		cancel()
	}()
	var streams sync.WaitGroup
	streams.Go(func() {
		own := NewClient(b.Socket()) // without a session: the node's own events
		again(ctx, func() { _ = own.Events(ctx, func(e Event) { s.tellNode(b, e) }) })
	})
	if user != "" {
		s.followUser(ctx, b, user)
	}
	streams.Wait()
}

// again repeats f until ctx ends, with a short pause in between.
func again(ctx context.Context, f func()) {
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for ctx.Err() == nil {
		f()
		select {
		case <-ctx.Done():
		case <-tick.C:
		}
	}
}

func (s *Story) followUser(ctx context.Context, b *Box, user string) {
	err := Poll(ctx, user+" to log in", func() (bool, error) {
		_, err := b.API.Login(ctx, user, UserPassword)
		return err == nil, err
	})
	if err != nil {
		return
	}
	s.Say(b.Name, "%s is logged in", user)
	shown := map[string]int64{}
	again(ctx, func() { _ = b.API.Events(ctx, func(e Event) { s.tellUser(b, user, e, shown) }) })
}

func (s *Story) tellNode(b *Box, e Event) {
	var l Link
	if e.Name != "link" || json.Unmarshal(e.Data, &l) != nil {
		return
	}
	name := b.Name + l.Node
	s.mu.Lock()
	before, known := s.links[name]
	s.links[name] = l.Up
	s.mu.Unlock()
	if known && before == l.Up || !known && !l.Up {
		return // its gate was touched, or a class was measured: nothing that the story tells
	}
	names := map[string]string{s.AlphaID: "alpha", s.BravoID: "bravo", s.CharlieID: "charlie"}
	name = names[l.Node]
	if name == "" {
		name = "the stick" // a node that sleeps, with a key of its own
	}
	word := "down"
	if l.Up {
		word = "up"
	}
	s.Say(b.Name, "link to %s %s (%s)", name, word, l.Class)
}

func (s *Story) tellUser(b *Box, user string, e Event, shown map[string]int64) {
	var m Message
	if json.Unmarshal(e.Data, &m) != nil {
		return
	}
	what := m.Type
	switch {
	case m.Type == "file" && m.File != nil:
		what = fmt.Sprintf("file %s (%d bytes)", m.File.Name, m.File.Size)
	case m.Type == "location" && m.Location != nil:
		what = fmt.Sprintf("position %.5f %.5f", m.Location.Lat, m.Location.Lon)
	case m.Text != "":
		what = fmt.Sprintf("%q", m.Text)
	}
	switch e.Name {
	case "message", "state":
		if m.From.Name == user {
			s.Say(b.Name, "%s to %s: %s", what, m.To.Name, m.State)
		} else if e.Name == "message" {
			s.Say(b.Name, "%s from %s, over %d links", what, m.From.Name, m.Hops)
		}
	case "file":
		s.tellProgress(b, m, shown)
	}
}

// tellProgress prints a file's progress in quarters.
func (s *Story) tellProgress(b *Box, m Message, shown map[string]int64) {
	if m.File == nil || m.File.Total == 0 {
		return
	}
	if quarter := m.File.Have * 4 / m.File.Total; quarter > shown[m.ID] || m.File.Complete && shown[m.ID] < 5 {
		shown[m.ID] = quarter + int64(btoi(m.File.Complete))
		s.Say(b.Name, "file %s: %d of %d sealed bytes are here", m.File.Name, m.File.Have, m.File.Total)
	}
}
