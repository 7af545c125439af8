package chat

import (
	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestTextIsDeliveredAndRead(t *testing.T) {
	scene(t, func(t *testing.T, p *pair) {
		m := p.da.text(p.bob, "Bridge is open.")
		p.da.wantState(m.ID, StateQueued)
		p.settle()
		p.db.wantTexts(p.alice, "Bridge is open.")
		if got := p.da.wantState(m.ID, StateDelivered); got.Delivered != 1 || got.Devices != 1 {
			t.Errorf("delivered %d of %d", got.Delivered, got.Devices)
		}
		got := p.db.with(p.alice)[0]
		if got.From.ID != p.alice.id || got.From.Name != "Alice" || !got.Unread || got.State != StateDelivered || got.Hops != 1 {
			t.Errorf("received %+v", got)
		}
		if _, err := p.db.session().Read(t.Context(), got.ID); err != nil {
			t.Fatal(err)
		}
		p.settle()
		p.da.wantState(m.ID, StateRead)
		p.db.text(p.alice, "Seen.")
		p.settle()
		p.da.wantTexts(p.bob, "Bridge is open.", "Seen.")
		for _, n := range p.nodes {
			if c := n.count(); c != 0 {
				t.Errorf("%s still holds %d bundles", n.name, c)
			}
		}
	})
}
