package chat

import (
	"errors"
	"testing"
	"time"
)

// What is over is not shown a second later, though the sweep, and with it the
// shredding, comes by within the minute.
func TestEndedIsHiddenAtOnce(t *testing.T) {
	scene(t, func(t *testing.T, p *pair) {
		sent, err := p.da.session().Send(t.Context(), Draft{To: p.bob.id, Text: "for an hour", TTL: time.Hour})
		if err != nil {
			t.Fatal(err)
		}
		p.settle()
		got := p.db.with(p.alice)[0]
		p.rest(time.Until(got.Expires) - 2*time.Second)
		p.db.wantTexts(p.alice, "for an hour")
		p.rest(4 * time.Second)
		p.db.wantTexts(p.alice)
		for id, d := range map[MessageID]*device{got.ID: p.db, sent.ID: p.da} {
			if m, err := d.session().Message(t.Context(), id); !errors.Is(err, ErrNotFound) {
				t.Errorf("message: %+v, %v", m, err)
			}
			if w, err := d.session().Why(t.Context(), id); !errors.Is(err, ErrNotFound) {
				t.Errorf("why: %+v, %v", w, err)
			}
			if c, err := d.session().Conversations(t.Context()); err != nil || len(c) != 1 || c[0].Last != nil {
				t.Errorf("conversations %+v, %v", c, err)
			}
		}
	})
}

func TestUndeliveredAndEndedIsANoteAtOnce(t *testing.T) {
	scene(t, func(t *testing.T, p *pair) {
		m, err := p.da.session().Send(t.Context(), Draft{To: p.bob.id, Text: "for an hour", TTL: time.Hour})
		if err != nil {
			t.Fatal(err)
		}
		p.rest(time.Hour + time.Second)
		if got := p.da.wantState(m.ID, StateExpired); got.Text != "" {
			t.Errorf("the text %q is still shown", got.Text)
		}
	})
}

func TestBurnedIsHiddenAtOnce(t *testing.T) {
	scene(t, func(t *testing.T, p *pair) {
		if _, err := p.da.session().Send(t.Context(), Draft{To: p.bob.id, Text: "burn this", Burn: 90 * time.Second}); err != nil {
			t.Fatal(err)
		}
		p.settle()
		id := p.db.with(p.alice)[0].ID
		if _, err := p.db.session().Read(t.Context(), id); err != nil {
			t.Fatal(err)
		}
		p.rest(89 * time.Second)
		p.db.wantTexts(p.alice, "burn this")
		p.rest(2 * time.Second)
		if left := p.db.message(id); left.Text != "" {
			t.Errorf("the text %q is still shown", left.Text)
		}
	})
}
