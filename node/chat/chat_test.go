package chat

import (
	"testing"
	"testing/synctest"
	"time"

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

// Whoever logs in before the network has their device's certificate is reachable
// as soon as it has: with the next change of the roster, or within a minute.
func TestPrekeysFollowTheCertificate(t *testing.T) {
	for name, later := range map[string]func(p *pair){
		"the roster changes": func(p *pair) { p.b.rosterChanged() },
		"a minute passes":    func(p *pair) { p.rest(2 * time.Minute) },
	} {
		t.Run(name, func(t *testing.T) {
			scene(t, func(t *testing.T, p *pair) {
				p.b.down()
				p.world.change(func() { delete(p.prekeys, p.db.id) })
				p.b.change(func() { p.b.uncertified = true })
				p.b.up()
				p.db.unlock()
				m := p.da.text(p.bob, "Can you read this?")
				p.settle()
				p.da.wantState(m.ID, StateWaiting)
				p.b.change(func() { p.b.uncertified = false })
				later(p)
				synctest.Wait()
				p.a.rosterChanged()
				p.settle()
				p.da.wantState(m.ID, StateDelivered)
			})
		})
	}
}
