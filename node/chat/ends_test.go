package chat

import (
	"errors"
	"testing"
	"time"

	"outrider/mesh/bundle"
	"outrider/mesh/envelope"
)

func TestExpiry(t *testing.T) {
	scene(t, func(t *testing.T, p *pair) {
		s := p.da.session()
		m, err := s.Send(t.Context(), Draft{To: p.bob.id, Text: "secret plan", TTL: time.Hour})
		if err != nil {
			t.Fatal(err)
		}
		long := p.da.text(p.bob, "longer")
		p.rest(59 * time.Minute)
		p.da.wantState(m.ID, StateQueued)
		p.rest(time.Minute + time.Second)
		got := p.da.wantState(m.ID, StateExpired)
		if got.Reason.Code != "expired" {
			t.Errorf("reason %+v", got.Reason)
		}
		p.rest(2 * time.Minute)
		if got := p.da.wantState(m.ID, StateExpired); got.Text != "" {
			t.Errorf("the content is still there: %q", got.Text)
		}
		if p.a.vaults[p.alice.id].disk[m.ID] != nil {
			t.Error("the key of an expired message is still in the vault")
		}
		if f, _ := s.Failures(t.Context()); len(f) != 1 || f[0].ID != m.ID {
			t.Errorf("failures %+v", f)
		}
		if _, err := s.Recall(t.Context(), m.ID); !errors.Is(err, ErrState) {
			t.Errorf("recall of an expired message: %v", err)
		}
		if _, err := s.Retry(t.Context(), m.ID); !errors.Is(err, ErrState) {
			t.Errorf("retry of an expired message: %v", err)
		}
		p.settle()
		p.db.wantTexts(p.alice, "longer")
		p.da.wantState(long.ID, StateDelivered)
		p.rest(8 * 24 * time.Hour)
		if _, err := s.Message(t.Context(), m.ID); !errors.Is(err, ErrNotFound) {
			t.Errorf("the note is not forgotten: %v", err)
		}
	})
}

func TestReceivedMessagesExpireToo(t *testing.T) {
	scene(t, func(t *testing.T, p *pair) {
		m, err := p.da.session().Send(t.Context(), Draft{To: p.bob.id, Text: "x", TTL: 2 * time.Hour})
		if err != nil {
			t.Fatal(err)
		}
		p.rest(time.Hour)
		p.settle()
		p.db.wantTexts(p.alice, "x")
		p.rest(62 * time.Minute) // counted from sending, not from receiving
		p.db.wantTexts(p.alice)
		if _, err := p.da.session().Message(t.Context(), m.ID); !errors.Is(err, ErrNotFound) {
			t.Errorf("delivered and expired: %v", err)
		}
		for _, v := range []*vaultDisk{p.a.vaults[p.alice.id], p.b.vaults[p.bob.id]} {
			if v.disk[m.ID] != nil {
				t.Error("a key is left")
			}
		}
		if c, err := p.db.session().Conversations(t.Context()); err != nil || len(c) != 1 || c[0].Last != nil || c[0].Unread != 0 {
			t.Errorf("conversations %+v, %v", c, err)
		}
	})
}

func TestLateMessageIsNotShownAndNotAcknowledged(t *testing.T) {
	scene(t, func(t *testing.T, p *pair) {
		m, err := p.da.session().Send(t.Context(), Draft{To: p.bob.id, Text: "x", TTL: time.Hour})
		if err != nil {
			t.Fatal(err)
		}
		p.rest(2 * time.Hour)
		p.a.mu.Lock() // a hostile relay made the bundle young again
		for _, h := range p.a.held {
			h.at, h.age = time.Now(), 0
		}
		p.a.mu.Unlock()
		p.settle()
		p.db.wantTexts(p.alice)
		p.da.wantState(m.ID, StateExpired)
	})
}

func TestUntrustedClockKeepsMessagesAlive(t *testing.T) {
	scene(t, func(t *testing.T, p *pair) {
		p.b.change(func() { p.b.untrusted = true })
		if _, err := p.da.session().Send(t.Context(), Draft{To: p.bob.id, Text: "x", TTL: time.Hour}); err != nil {
			t.Fatal(err)
		}
		p.rest(20 * time.Minute)
		p.settle()
		m := p.db.with(p.alice)[0]
		if left := time.Until(m.Expires); left > 41*time.Minute || left < 38*time.Minute {
			t.Errorf("expires in %v, want 40 min by the age of the bundle", left)
		}
	})
}

func TestBurnAfterReading(t *testing.T) {
	scene(t, func(t *testing.T, p *pair) {
		m, err := p.da.session().Send(t.Context(), Draft{To: p.bob.id, Text: "burn this", Burn: 90 * time.Second})
		if err != nil {
			t.Fatal(err)
		}
		p.settle()
		p.rest(time.Hour)
		got := p.db.with(p.alice)[0]
		if got.Text != "burn this" || got.BurnAfter != 90*time.Second {
			t.Fatalf("%+v", got)
		}
		if _, err := p.db.session().Read(t.Context(), got.ID); err != nil {
			t.Fatal(err)
		}
		p.rest(60 * time.Second)
		p.db.wantTexts(p.alice, "burn this")
		p.rest(3 * time.Minute)
		left := p.db.message(got.ID)
		if left.Text != "" || left.Reason.Code != "burned" || left.State != StateRead {
			t.Errorf("%+v", left)
		}
		if p.b.vaults[p.bob.id].disk[got.ID] != nil {
			t.Error("the key of a burned message is still in the vault")
		}
		p.settle()
		p.da.wantState(m.ID, StateRead)
	})
}

func TestRecall(t *testing.T) {
	t.Run("before anybody has it", func(t *testing.T) {
		scene(t, func(t *testing.T, p *pair) {
			m := p.da.text(p.bob, "no")
			got, err := p.da.session().Recall(t.Context(), m.ID)
			if err != nil || got.State != StateRecalled || got.Text != "" {
				t.Errorf("%+v, %v", got, err)
			}
			p.settle()
			p.db.wantTexts(p.alice)
			if _, err := p.da.session().Recall(t.Context(), m.ID); !errors.Is(err, ErrState) {
				t.Errorf("twice: %v", err)
			}
		})
	})
	t.Run("after it was read", func(t *testing.T) {
		scene(t, func(t *testing.T, p *pair) {
			m := p.da.text(p.bob, "no")
			p.settle()
			id := p.db.with(p.alice)[0].ID
			if _, err := p.db.session().Read(t.Context(), id); err != nil {
				t.Fatal(err)
			}
			p.settle()
			if _, err := p.da.session().Recall(t.Context(), m.ID); err != nil {
				t.Fatal(err)
			}
			p.settle()
			if got := p.db.wantState(id, StateRecalled); got.Text != "" {
				t.Errorf("%+v", got)
			}
			if p.b.vaults[p.bob.id].disk[id] != nil {
				t.Error("the reader's key is still in the vault")
			}
		})
	})
	t.Run("overtakes the message", func(t *testing.T) {
		scene(t, func(t *testing.T, p *pair) {
			p.da.text(p.bob, "first") // so that Bob knows the epoch
			p.settle()
			m := p.da.text(p.bob, "no")
			p.a.mu.Lock()
			held := make(map[bundle.ID]*heldBundle)
			for id, h := range p.a.held {
				held[id] = h
			}
			p.a.mu.Unlock()
			if _, err := p.da.session().Recall(t.Context(), m.ID); err != nil {
				t.Fatal(err)
			}
			p.settle()
			p.b.mu.Lock() // the message comes from elsewhere, from somebody who missed the purge
			for id, h := range held {
				delete(p.b.purges, id)
				p.b.accept(h.b, 0, true)
			}
			p.b.mu.Unlock()
			p.settle()
			p.db.wantTexts(p.alice, "first")
		})
	})
	t.Run("of another's message", func(t *testing.T) {
		scene(t, func(t *testing.T, p *pair) {
			p.da.text(p.bob, "mine")
			p.settle()
			got := p.db.with(p.alice)[0]
			if _, err := p.db.session().Recall(t.Context(), got.ID); !errors.Is(err, ErrState) {
				t.Errorf("Bob recalls Alice's message: %v", err)
			}
			// A hostile Bob sends the recall all the same.
			s := p.db.session()
			r, err := s.get(got.ID)
			if err != nil {
				t.Fatal(err)
			}
			body, err := envelope.Recall{Messages: []envelope.Ref{{Epoch: r.Sealed.Epoch, Slot: r.Sealed.Slot, Index: r.Sealed.Index}}}.Encode()
			if err != nil {
				t.Fatal(err)
			}
			s.mu.Lock()
			_, err = s.sendControl(t.Context(), r.Sealed.Epoch, envelope.TypeRecall, body, bundle.Flash, time.Hour)
			s.mu.Unlock()
			if err != nil {
				t.Fatal(err)
			}
			p.settle()
			p.da.wantTexts(p.bob, "mine")
			p.da.wantState(p.da.with(p.bob)[0].ID, StateDelivered)
		})
	})
}
