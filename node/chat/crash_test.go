package chat

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// A crashCase is something to be cut off between any two of its durable steps.
// run is what a user does; check is what must hold in the end, with ok telling
// whether the user was told that it worked.
type crashCase struct {
	name  string
	run   func(t *testing.T, p *pair) error
	check func(t *testing.T, p *pair, ok bool)
}

func sendOne(t *testing.T, p *pair) error {
	_, err := p.da.session().Send(context.Background(), Draft{To: p.bob.id, Text: "hold the bridge"})
	return err
}

// once checks that the message arrived exactly once, or, if the user was told
// that it was not sent, at most once; and that the mesh is empty afterwards.
func once(t *testing.T, p *pair, ok bool) {
	t.Helper()
	got := texts(p.db.with(p.alice))
	if !slices.Equal(got, []string{"hold the bridge"}) && (ok || len(got) != 0) {
		t.Errorf("Bob has %q (told that it was sent: %v)", got, ok)
	}
	sent := p.da.with(p.bob)
	if len(sent) != len(got) {
		t.Errorf("Alice has %d messages, Bob %d", len(sent), len(got))
	}
	for _, m := range sent {
		if m.State != StateDelivered {
			t.Errorf("Alice sees %s: %+v", m.State, m.Reason)
		}
	}
	empty(t, p)
}

// empty checks that no bundle is left anywhere but starts of epochs that were
// given up.
func empty(t *testing.T, p *pair) {
	t.Helper()
	for _, n := range p.nodes {
		for id, h := range n.held {
			if !h.consumed && !slices.ContainsFunc(p.nodes, func(n *node) bool { _, gone := n.purges[id]; return gone }) {
				t.Errorf("%s still waits for bundle %v of kind %d", n.name, id, h.b.Header.Kind)
			}
		}
	}
}

var fileBytes = bytes.Repeat([]byte("0123456789abcdef the file's own words "), 3000)

var crashCases = []crashCase{
	{"text", sendOne, once},
	{"text to a user without keys", func(t *testing.T, p *pair) error {
		p.a.hide(p.bob)
		err := sendOne(t, p)
		synctest.Wait()
		p.a.show(p.bob)
		return err
	}, once},
	{"file", func(t *testing.T, p *pair) error {
		_, err := p.da.session().SendFile(context.Background(), FileDraft{To: p.bob.id, Name: "orders.txt"}, bytes.NewReader(fileBytes))
		return err
	}, func(t *testing.T, p *pair, ok bool) {
		got := p.db.with(p.alice)
		if len(got) > 1 || ok && len(got) == 0 {
			t.Fatalf("Bob has %d messages (told that it was sent: %v)", len(got), ok)
		}
		for _, m := range got {
			if !m.File.Complete || !bytes.Equal(readAll(t, p.db.session(), m.ID), fileBytes) {
				t.Errorf("Bob's file is not what Alice sent: %+v", m.File)
			}
		}
		for _, m := range p.da.with(p.bob) {
			if m.State != StateDelivered || !bytes.Equal(readAll(t, p.da.session(), m.ID), fileBytes) {
				t.Errorf("Alice sees %s: %+v", m.State, m.Reason)
			}
		}
		empty(t, p)
	}},
	{"recall after delivery", func(t *testing.T, p *pair) error {
		m, err := p.da.session().Send(context.Background(), Draft{To: p.bob.id, Text: "hold the bridge"})
		if err != nil {
			return err
		}
		p.settle()
		s, ok := p.a.svc.Session(p.alice.id)
		if !ok {
			return ErrLocked
		}
		_, err = s.Recall(context.Background(), m.ID)
		return err
	}, func(t *testing.T, p *pair, ok bool) {
		if !ok {
			once(t, p, false) // sent, or not, but not recalled: unless the recall was durable
			return
		}
		for _, m := range append(p.da.with(p.bob), p.db.with(p.alice)...) {
			if m.State != StateRecalled || m.Text != "" {
				t.Errorf("recalled message is %s with text %q", m.State, m.Text)
			}
		}
		empty(t, p)
	}},
	{"live share, stopped", func(t *testing.T, p *pair) error {
		if _, err := p.shares(time.Hour, 1); err != nil {
			return err
		}
		s, ok := p.a.svc.Session(p.alice.id)
		if !ok {
			return ErrLocked
		}
		_, err := s.StopLive(context.Background(), p.bob.id)
		return err
	}, func(t *testing.T, p *pair, ok bool) {
		left, err := p.da.session().LiveShares(context.Background())
		if err != nil || ok && len(left) > 0 {
			t.Errorf("left %+v, %v", left, err)
		}
		if at, on := p.seen(); on && len(left) == 0 || ok && at == nil {
			t.Errorf("Bob has %+v, it goes on: %v, told that it has ended: %v", at, on, ok)
		}
		empty(t, p)
	}},
	{"answer and read", func(t *testing.T, p *pair) error {
		if err := sendOne(t, p); err != nil {
			return err
		}
		p.settle()
		s, ok := p.b.svc.Session(p.bob.id)
		if !ok {
			return errCrash
		}
		came := texts2(p)
		if len(came) == 0 {
			return errCrash // nothing to read yet
		}
		for _, m := range came {
			if _, err := s.Read(context.Background(), m.ID); err != nil {
				return err
			}
		}
		return nil
	}, func(t *testing.T, p *pair, ok bool) {
		for _, m := range p.da.with(p.bob) {
			if ok && m.State != StateRead {
				t.Errorf("Alice sees %s", m.State)
			}
		}
		if got := texts(p.db.with(p.alice)); len(got) > 1 {
			t.Errorf("Bob has %q", got)
		}
		empty(t, p)
	}},
}

func texts2(p *pair) []Message {
	defer func() { recover() }() // a crash may have closed the session meanwhile
	return p.db.with(p.alice)
}

// TestCrashBetweenAnyTwoSteps kills one of the nodes before each of its durable
// operations in turn.
func TestCrashBetweenAnyTwoSteps(t *testing.T) {
	for _, c := range crashCases {
		for _, victim := range []string{"alpha", "bravo"} {
			t.Run(c.name+"/"+victim, func(t *testing.T) {
				total := c.steps(t, victim)
				if total == 0 {
					t.Fatal("nothing durable happens here")
				}
				stride := 1
				if testing.Short() {
					stride = 5
				}
				for k := 1; k <= total; k += stride {
					t.Run(fmt.Sprint(k), func(t *testing.T) { synctest.Test(t, func(t *testing.T) { c.crash(t, victim, k) }) })
				}
			})
		}
	}
}

func (p *pair) node(name string) *node {
	return p.nodes[slices.IndexFunc(p.nodes, func(n *node) bool { return n.name == name })]
}

// steps counts the durable operations of a run without a crash.
func (c crashCase) steps(t *testing.T, victim string) (n int) {
	synctest.Test(t, func(t *testing.T) {
		p := newPair(t)
		defer p.close()
		before := p.node(victim).steps
		if err := c.run(t, p); err != nil {
			t.Fatal(err)
		}
		p.settle()
		n = p.node(victim).steps - before
		c.check(t, p, true)
	})
	return n
}

func (c crashCase) crash(t *testing.T, victim string, k int) {
	p := newPair(t)
	defer p.close()
	v := p.node(victim)
	v.mu.Lock()
	v.crashAt = v.steps + k
	v.mu.Unlock()
	err := c.run(t, p)
	if err != nil && !errors.Is(err, errCrash) && !errors.Is(err, ErrLocked) {
		t.Fatalf("crash before step %d: %v", k, err)
	}
	p.settle()
	v.restart()
	p.settle()
	p.settle()
	p.rest(2 * 60e9)
	p.settle()
	if strings.HasPrefix(c.name, "recall") && err != nil && len(p.da.with(p.bob)) == 1 && p.da.with(p.bob)[0].State == StateRecalled {
		err = nil // durable before the crash
	}
	c.check(t, p, err == nil)
}

// TestManyCrashes kills Bob's node over and over while messages pour in, and
// none is lost or doubled.
func TestManyCrashes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPair(t)
		defer p.close()
		var want []string
		for i := range 60 {
			text := fmt.Sprint("message ", i)
			want = append(want, text)
			p.da.text(p.bob, text)
			p.b.mu.Lock()
			p.b.crashAt = p.b.steps + 1 + i*7%23
			p.b.mu.Unlock()
			meet(p.a, p.b)
			synctest.Wait()
			p.b.restart()
		}
		p.settle()
		got := texts(p.db.with(p.alice)) // those that a crash held up come later
		slices.Sort(got)
		slices.Sort(want)
		if !slices.Equal(got, want) {
			t.Errorf("Bob has %q", got)
		}
		for _, m := range p.da.with(p.bob) {
			if m.State != StateDelivered {
				t.Errorf("%s is %s", m.Text, m.State)
			}
		}
		empty(t, p)
	})
}
