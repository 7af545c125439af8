package chat

import (
	"testing"
	"testing/synctest"
	"time"

	"outrider/mesh/identity"
)

// anew enrols bob again: another user key, another device on another node, and
// what he had is gone.
func (p *pair) anew() *device {
	u := p.bob
	p.db.node.down()
	n := p.world.node("charlie")
	p.change(func() {
		p.db.dead = true
		u.key = must(identity.NewPrivateKey())
		c := must(identity.Issue(p.network, p.admin, p.year(identity.Certificate{Class: identity.ClassUser, Subject: u.id[:], Key: u.key.Public(), Generation: 2})))
		u.chain = identity.Chain{c, p.cert}
	})
	d := p.device(u, n)
	n.up()
	d.unlock()
	synctest.Wait()
	p.nodes = []*node{p.a, n}
	p.a.rosterChanged()
	return d
}

// What was on its way to somebody who was enrolled anew is sealed again for
// the new keys, once, and arrives (P04).
func TestP04StrandedIsSealedAgain(t *testing.T) {
	for _, locked := range []bool{false, true} {
		scene(t, func(t *testing.T, p *pair) {
			p.da.text(p.bob, "seen")
			p.settle()
			m := p.da.text(p.bob, "on its way")
			f := p.da.text(p.bob, "and this")
			bob := p.anew()
			if locked { // the sender learns of it at the next login
				p.a.restart()
			}
			p.rest(2 * time.Minute)
			p.settle()
			bob.wantTexts(p.alice, "on its way", "and this")
			p.da.wantState(m.ID, StateDelivered)
			p.da.wantState(f.ID, StateDelivered)
			if r, err := p.da.session().get(m.ID); err != nil || len(r.Past) != 1 {
				t.Errorf("sealed again %d times, %v", len(r.Past), err)
			}
		})
	}
}

// Who had compared the old key decides first: nothing is sealed for another
// key behind the user's back (P04).
func TestP04StrandedWaitsForWhoComparedTheKey(t *testing.T) {
	scene(t, func(t *testing.T, p *pair) {
		p.da.text(p.bob, "seen")
		p.settle()
		old := person(t, p.da, p.bob.id)
		if _, err := p.da.session().Trust(t.Context(), p.bob.id, old.Fingerprint, true); err != nil {
			t.Fatal(err)
		}
		m := p.da.text(p.bob, "for the key that I compared")
		bob := p.anew()
		p.rest(2 * time.Minute)
		p.settle()
		bob.wantTexts(p.alice)
		if got := p.da.wantState(m.ID, StateFailed); got.Reason.Code != failKeyChanged || got.Reason.Hint == "" {
			t.Errorf("reason %+v", got.Reason)
		}
		if f, err := p.da.session().Failures(t.Context()); err != nil || len(f) != 1 || f[0].ID != m.ID {
			t.Errorf("failures %v, %v", f, err)
		}
		if _, err := p.da.session().Retry(t.Context(), m.ID); err != nil {
			t.Fatal(err)
		}
		p.settle()
		bob.wantTexts(p.alice, "for the key that I compared")
		p.da.wantState(m.ID, StateDelivered)
	})
}

// A message that one of the devices can still open stays as it is.
func TestP04NotStranded(t *testing.T) {
	scene(t, func(t *testing.T, p *pair) {
		p.da.text(p.bob, "seen")
		p.settle()
		m := p.da.text(p.bob, "x")
		p.a.rosterChanged()
		p.rest(2 * time.Minute)
		r, err := p.da.session().get(m.ID)
		if err != nil || len(r.Past) != 0 {
			t.Errorf("sealed again: %d, %v", len(r.Past), err)
		}
	})
}
