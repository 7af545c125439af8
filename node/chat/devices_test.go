package chat

import (
	"bytes"
	"testing"
	"testing/synctest"
	"time"

	"outrider/mesh/bundle"
	"outrider/mesh/envelope"
)

func TestTwoDevicesOfTheRecipient(t *testing.T) {
	scene(t, func(t *testing.T, p *pair) {
		c := p.world.node("charlie")
		c.up()
		dc := p.device(p.bob, c)
		dc.unlock()
		synctest.Wait()
		p.nodes = []*node{p.a, p.b}
		m := p.da.text(p.bob, "both")
		p.settle()
		got := p.da.wantState(m.ID, StateDelivered)
		if got.Delivered != 1 || got.Devices != 2 {
			t.Errorf("delivered %d of %d, want 1 of 2", got.Delivered, got.Devices)
		}
		p.db.wantTexts(p.alice, "both")
		if p.a.count() == 0 {
			t.Error("the message was dropped before the second device had it")
		}
		p.nodes = []*node{p.a, p.b, c}
		p.settle()
		p.settle()
		if got := p.da.wantState(m.ID, StateDelivered); got.Delivered != 2 {
			t.Errorf("delivered %d of %d", got.Delivered, got.Devices)
		}
		dc.wantTexts(p.alice, "both")
		for _, n := range p.nodes {
			for _, h := range n.held {
				if h.b.Header.Kind == bundle.KindMessage && !h.consumed && n.watched[h.b.Header.Tag] {
					t.Errorf("%s still waits for something", n.name)
				}
			}
		}
		// Reading on one device is reading on the other.
		id := p.db.with(p.alice)[0].ID
		if _, err := p.db.session().Read(t.Context(), id); err != nil {
			t.Fatal(err)
		}
		p.settle()
		p.settle()
		p.da.wantState(m.ID, StateRead)
		if other := dc.with(p.alice)[0]; other.Unread || other.State != StateRead {
			t.Errorf("on the other device it is %s, unread %v", other.State, other.Unread)
		}
		// What one device sends, the other has.
		p.db.text(p.alice, "answer")
		p.settle()
		if own := dc.with(p.alice); len(own) != 2 || own[1].Text != "answer" || !own[1].Out {
			t.Errorf("the other device has %+v", own)
		}
		// A file is delivered where all of it is.
		f, err := p.da.session().SendFile(t.Context(), FileDraft{To: p.bob.id, Name: "f.bin"}, bytes.NewReader(fileBytes))
		if err != nil {
			t.Fatal(err)
		}
		p.settle()
		p.settle()
		if got := p.da.wantState(f.ID, StateDelivered); got.Delivered != 2 {
			t.Errorf("file delivered %d of %d", got.Delivered, got.Devices)
		}
		for _, d := range []*device{p.db, dc} {
			ms := d.with(p.alice)
			if got := readAll(t, d.session(), ms[len(ms)-1].ID); !bytes.Equal(got, fileBytes) {
				t.Error("a device has another file")
			}
		}
		// A recall reaches all of them.
		if _, err := p.da.session().Recall(t.Context(), m.ID); err != nil {
			t.Fatal(err)
		}
		p.settle()
		for _, d := range []*device{p.db, dc} {
			if got := d.with(p.alice)[0]; got.State != StateRecalled {
				t.Errorf("recalled message is %s", got.State)
			}
		}
	})
}

func TestNewDeviceStartsANewEpoch(t *testing.T) {
	scene(t, func(t *testing.T, p *pair) {
		first := p.da.text(p.bob, "one")
		second := p.da.text(p.bob, "two")
		p.settle()
		c := p.world.node("charlie").up()
		dc := p.device(p.bob, c)
		dc.unlock()
		synctest.Wait()
		third := p.da.text(p.bob, "three")
		s := p.da.session()
		epoch := func(id MessageID) envelope.EpochID {
			r, err := s.get(id)
			if err != nil {
				t.Fatal(err)
			}
			return r.Sealed.Epoch
		}
		if epoch(first.ID) != epoch(second.ID) || epoch(second.ID) == epoch(third.ID) {
			t.Error("epochs do not follow the devices")
		}
		p.settle()
		dc.wantTexts(p.alice, "three")
		p.world.change(func() { p.bob.devices[1].dead = true }) // revoked
		fourth := p.da.text(p.bob, "four")
		if epoch(third.ID) == epoch(fourth.ID) {
			t.Error("a revoked device still reads")
		}
		p.settle()
		dc.wantTexts(p.alice, "three")
	})
}

func TestUnconfirmedStartIsReplaced(t *testing.T) {
	scene(t, func(t *testing.T, p *pair) {
		s := p.da.session()
		epoch := func(m Message) envelope.EpochID {
			r, err := s.get(m.ID)
			if err != nil {
				t.Fatal(err)
			}
			return r.Sealed.Epoch
		}
		one := p.da.text(p.bob, "one")
		p.rest(20 * time.Hour)
		two := p.da.text(p.bob, "two")
		p.rest(5 * time.Hour)
		three := p.da.text(p.bob, "three")
		if epoch(one) != epoch(two) || epoch(two) == epoch(three) {
			t.Error("an unconfirmed epoch is kept too long, or given up too early")
		}
		p.settle()
		p.db.wantTexts(p.alice, "one", "two", "three")
		p.rest(48 * time.Hour)
		if epoch(p.da.text(p.bob, "four")) != epoch(three) {
			t.Error("a confirmed epoch is given up")
		}
	})
}

func TestNeedRekey(t *testing.T) {
	scene(t, func(t *testing.T, p *pair) {
		p.da.text(p.bob, "before")
		p.settle()
		m := p.da.text(p.bob, "cannot be opened")
		p.da.text(p.bob, "neither")
		// Bob's node lost what opens the epoch.
		b := p.db.session()
		r, err := p.da.session().get(m.ID)
		if err != nil {
			t.Fatal(err)
		}
		h, err := bundle.ParseHeader(r.Sealed.Header)
		if err != nil {
			t.Fatal(err)
		}
		p.b.mu.Lock()
		for _, n := range []*node{p.a} {
			for id, held := range n.held {
				if held.b.Header.Tag == h.Tag {
					p.b.purges[id] = bundle.PurgeRecord{} // it never gets there
				}
			}
		}
		p.b.mu.Unlock()
		b.mu.Lock()
		b.askRekey(t.Context(), h.Tag, envelope.RekeyKeyGone)
		b.mu.Unlock()
		p.settle()
		p.settle()
		p.db.wantTexts(p.alice, "before", "cannot be opened", "neither")
		p.da.wantState(m.ID, StateDelivered)
		again, err := p.da.session().get(m.ID)
		if err != nil || again.Sealed.Epoch == r.Sealed.Epoch || len(again.Past) != 1 {
			t.Errorf("sealed again: %+v, %v", again.Sealed, err)
		}
		// Once a day.
		before := p.b.count()
		b.mu.Lock()
		b.askRekey(t.Context(), h.Tag, envelope.RekeyKeyGone)
		b.mu.Unlock()
		if p.b.count() != before {
			t.Error("asked twice in a day")
		}
	})
}

func TestForeignPurgeKeyMakesItGoOutAgain(t *testing.T) {
	scene(t, func(t *testing.T, p *pair) {
		m := p.da.text(p.bob, "x")
		s := p.da.session()
		r, err := s.get(m.ID)
		if err != nil {
			t.Fatal(err)
		}
		p.a.mu.Lock()
		delete(p.a.held, r.Sealed.ID)
		p.a.tell(Purged{ID: r.Sealed.ID, Key: bundle.PurgeKey{1, 2, 3}}) // 2^64 work
		p.a.mu.Unlock()
		synctest.Wait()
		again, err := s.get(m.ID)
		if err != nil || again.Sealed.ID == r.Sealed.ID {
			t.Errorf("%+v, %v", again.Sealed, err)
		}
		p.settle()
		p.db.wantTexts(p.alice, "x")
		p.da.wantState(m.ID, StateDelivered)
	})
}
