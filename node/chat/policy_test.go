package chat

import (
	"bytes"
	"errors"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"outrider/mesh/bundle"
	"outrider/mesh/envelope"
	"outrider/mesh/identity"
)

// rulesOf are the policies that a node knows.
type rulesOf struct{ n *node }

func (r rulesOf) Policy(u identity.UserID) Policy {
	r.n.mu.Lock()
	defer r.n.mu.Unlock()
	return r.n.rules[u]
}

func (r rulesOf) Changed() <-chan struct{} {
	r.n.mu.Lock()
	defer r.n.mu.Unlock()
	return r.n.ruled
}

// rule changes what a node knows of a user's policy.
func (n *node) rule(u *user, p Policy) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.rules[u.id] = p
	close(n.ruled)
	n.ruled = make(chan struct{})
}

func (d *device) place(t *testing.T, to *user, live bool) Message {
	t.Helper()
	m, err := d.session().SendLocation(t.Context(), LocationDraft{To: to.id, Location: Location{Lat: 47, Lon: 8, Live: live}})
	if err != nil {
		t.Fatal(err)
	}
	return m
}

var noFiles, noPlace = Policy{NoFiles: "convoy"}, Policy{NoLocation: "scouts"}

// TestF03SendingIsRefused: files for F03, positions for L02; a text goes.
func TestF03SendingIsRefused(t *testing.T) {
	scene(t, func(t *testing.T, p *pair) {
		p.a.rule(p.alice, Policy{NoFiles: "convoy", NoLocation: "scouts"})
		s := p.da.session()
		before := len(p.a.blobs)
		_, err := s.SendFile(t.Context(), FileDraft{To: p.bob.id, Name: "memo.opus", MediaType: "audio/ogg"}, bytes.NewReader(noise(100_000)))
		var refused *PolicyError
		if !errors.As(err, &refused) || refused.Group != "convoy" || refused.Type != TypeFile || !errors.Is(err, ErrPolicy) {
			t.Errorf("a file: %v", err)
		}
		_, err = s.SendLocation(t.Context(), LocationDraft{To: p.bob.id, Location: Location{Lat: 47, Lon: 8}})
		if !errors.As(err, &refused) || refused.Group != "scouts" || refused.Type != TypeLocation {
			t.Errorf("a position: %v", err)
		}
		if _, err := s.ShareLive(t.Context(), LiveDraft{To: p.bob.id, Span: time.Hour, Every: time.Minute}); !errors.Is(err, ErrPolicy) {
			t.Errorf("a live share: %v", err)
		}
		p.settle()
		if len(p.a.blobs) != before || len(p.da.with(p.bob)) != 0 {
			t.Error("something refused is there all the same")
		}
		p.da.text(p.bob, "a text")
		p.settle()
		p.db.wantTexts(p.alice, "a text")
		p.a.rule(p.alice, Policy{})
		p.da.place(t, p.bob, false)
	})
}

// TestF03StaleSenderIsStopped: Alice's node has not heard that she may send no
// files. Bob's has, and withholds hers; nothing is lost, and she is not told
// that it was delivered before it is.
func TestF03StaleSenderIsStopped(t *testing.T) {
	scene(t, func(t *testing.T, p *pair) {
		p.b.rule(p.alice, noFiles)
		content := noise(300_000)
		m := sendFile(t, p.da, p.bob, "overlay.bin", content)
		text := p.da.text(p.bob, "after the file")
		p.settle()
		p.settle()
		p.da.wantState(text.ID, StateDelivered)
		got := p.db.with(p.alice)[0]
		if got.Withheld != "convoy" || got.File != nil || got.Reason.Code != "withheld" || got.Reason.Text != "a file was withheld by the policy of group convoy" {
			t.Fatalf("Bob sees %+v", got)
		}
		if _, _, err := p.db.session().OpenFile(t.Context(), got.ID); !errors.Is(err, ErrPolicy) {
			t.Errorf("opened: %v", err)
		}
		if list, err := p.db.session().Files(t.Context(), MessageID{}, 10); err != nil || len(list) != 0 {
			t.Errorf("listed: %v, %v", list, err)
		}
		if read, err := p.db.session().Read(t.Context(), got.ID); err != nil || !read.Unread {
			t.Errorf("what nobody saw was read: %+v, %v", read, err)
		}
		sent := p.da.wantState(m.ID, StateAtNode)
		if sent.Delivered != 0 {
			t.Errorf("Alice is told of %d devices", sent.Delivered)
		}
		p.a.rule(p.bob, noFiles) // now her node knows as much
		if r := p.da.message(m.ID).Reason; r.Code != "withheld" || r.Text != "the policy of group convoy withholds it from Bob" {
			t.Errorf("Alice is told %+v", r)
		}
		p.a.rule(p.bob, Policy{})
		p.b.restart()
		p.settle()
		if got := p.db.message(got.ID); got.Withheld == "" {
			t.Fatal("a restart sets it free")
		}
		p.da.wantState(m.ID, StateAtNode)

		p.b.rule(p.alice, Policy{})
		p.settle()
		p.settle()
		if got := p.db.message(got.ID); got.Withheld != "" || got.File == nil || got.File.Name != "overlay.bin" || !got.File.Complete {
			t.Fatalf("free: %+v, %+v", got, got.File)
		}
		if b := readAll(t, p.db.session(), got.ID); !bytes.Equal(b, content) {
			t.Error("the file is another")
		}
		p.da.wantState(m.ID, StateDelivered)
	})
}

// TestL02ReceiverSeesNoPosition: the receiver's own switch, static and live,
// and what was there before it.
func TestL02ReceiverSeesNoPosition(t *testing.T) {
	scene(t, func(t *testing.T, p *pair) {
		early := p.da.place(t, p.bob, false)
		p.settle()
		p.da.wantState(early.ID, StateDelivered)
		p.b.rule(p.bob, noPlace)
		synctest.Wait()
		static, live := p.da.place(t, p.bob, false), p.da.place(t, p.bob, true)
		p.settle()
		p.settle()
		for _, m := range p.db.with(p.alice) {
			if m.Location != nil || m.Withheld != "scouts" || m.Reason.Text != "a position was withheld by the policy of group scouts" {
				t.Errorf("Bob sees %+v", m)
			}
		}
		for _, id := range []MessageID{static.ID, live.ID} {
			if m := p.da.wantState(id, StateAtNode); m.Delivered != 0 {
				t.Errorf("Alice is told of %d devices", m.Delivered)
			}
		}
		p.b.change(func() { p.b.updates = nil })
		p.b.rule(p.bob, Policy{})
		p.settle()
		p.settle()
		if all := p.db.with(p.alice); len(all) != 3 || slices.ContainsFunc(all, func(m Message) bool { return m.Location == nil }) {
			t.Errorf("free: %+v", all)
		}
		p.da.wantState(static.ID, StateDelivered)
		p.da.wantState(live.ID, StateDelivered)
		p.b.mu.Lock()
		defer p.b.mu.Unlock()
		shown, policy := 0, 0
		for _, u := range p.b.updates {
			if u.Kind == UpdateMessage && u.Message.Location != nil {
				shown++
			}
			if u.Kind == UpdatePolicy {
				policy++
			}
		}
		if shown != 2 || policy == 0 {
			t.Errorf("%d positions were shown when they came free, %d updates of the policy", shown, policy)
		}
	})
}

// TestF03TwoDevices: where receipts are cumulative, that of what is withheld
// is left out and follows.
func TestF03TwoDevices(t *testing.T) {
	scene(t, func(t *testing.T, p *pair) {
		c := p.world.node("charlie")
		c.up()
		p.device(p.bob, c).unlock()
		synctest.Wait()
		p.nodes = []*node{p.a, p.b}
		p.b.rule(p.alice, noPlace)
		first, place, last := p.da.text(p.bob, "one"), p.da.place(t, p.bob, false), p.da.text(p.bob, "two")
		p.settle()
		p.settle()
		p.da.wantState(first.ID, StateDelivered)
		p.da.wantState(last.ID, StateDelivered)
		if m := p.da.message(place.ID); m.Delivered != 0 || m.Devices != 2 {
			t.Fatalf("delivered %d of %d", m.Delivered, m.Devices)
		}
		p.b.rule(p.alice, Policy{})
		p.settle()
		p.settle()
		if m := p.da.wantState(place.ID, StateDelivered); m.Delivered != 1 {
			t.Errorf("delivered %d", m.Delivered)
		}
		p.nodes = []*node{p.a, p.b, c}
	})
}

// TestF03QueuedWaits: what has not left when the policy comes does not leave,
// and goes by itself when it may again.
func TestF03QueuedWaits(t *testing.T) {
	scene(t, func(t *testing.T, p *pair) {
		p.a.hide(p.bob) // no keys: it waits here
		m := sendFile(t, p.da, p.bob, "f", noise(1000))
		p.a.rule(p.alice, noFiles)
		synctest.Wait()
		p.a.show(p.bob)
		p.settle()
		if got := p.da.message(m.ID); got.State != StateWaiting && got.State != StateQueued || got.Reason.Code != "policy" {
			t.Errorf("it is %s, %+v", got.State, got.Reason)
		}
		if n := len(p.db.with(p.alice)); n != 0 {
			t.Fatalf("%d messages arrived", n)
		}
		p.a.rule(p.alice, Policy{})
		p.settle()
		p.settle()
		p.da.wantState(m.ID, StateDelivered)
	})
}

// TestF03OwnLifetimeEnds: a policy keeps nothing for longer than its time.
func TestF03OwnLifetimeEnds(t *testing.T) {
	scene(t, func(t *testing.T, p *pair) {
		p.b.rule(p.bob, noFiles)
		if _, err := p.da.session().SendFile(t.Context(), FileDraft{To: p.bob.id, Name: "f", TTL: time.Hour}, bytes.NewReader(noise(1000))); err != nil {
			t.Fatal(err)
		}
		p.settle()
		if got := p.db.with(p.alice); len(got) != 1 || got[0].Withheld == "" {
			t.Fatalf("%+v", got)
		}
		p.rest(2 * time.Hour)
		if got := p.db.with(p.alice); len(got) != 0 {
			t.Errorf("still there: %+v", got)
		}
		p.b.rule(p.bob, Policy{})
		p.settle()
		if len(p.b.blobs) != 0 {
			t.Error("its leaves are still there")
		}
	})
}

// One past the limit is withheld as well, and its author told.
func TestF03HeldReceiptsAreBounded(t *testing.T) {
	scene(t, func(t *testing.T, p *pair) {
		p.b.rule(p.bob, noPlace)
		s := p.db.session()
		s.mu.Lock()
		for i := range maxHeld {
			id := bundle.ID{byte(i), byte(i >> 8), 1}
			s.recs.note(heldName(id), must(identity.Marshal(heldReceipt{Bundle: id, Type: TypeLocation, Ends: 1 << 40})))
		}
		s.mu.Unlock()
		m := p.da.place(t, p.bob, false)
		p.settle()
		p.settle()
		p.da.wantState(m.ID, StateDelivered)
		if got := p.db.with(p.alice); got[0].Withheld == "" {
			t.Error("shown")
		}
	})
}

func TestWithoutIndex(t *testing.T) {
	rs := []envelope.Range{{From: 1, To: 3}, {From: 5, To: 5}, {From: 7, To: 9}}
	for n, want := range map[uint32][]envelope.Range{
		0: rs, 1: {{From: 2, To: 3}, rs[1], rs[2]}, 2: {{From: 1, To: 1}, {From: 3, To: 3}, rs[1], rs[2]}, 3: {{From: 1, To: 2}, rs[1], rs[2]}, 5: {rs[0], rs[2]}, 10: rs,
	} {
		if got := withoutIndex(rs, n); !slices.Equal(got, want) {
			t.Errorf("without %d: %v", n, got)
		}
	}
}
