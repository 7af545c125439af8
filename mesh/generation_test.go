package mesh_test

import (
	"testing"
	"time"

	"outrider/mesh"
	"outrider/mesh/bundle"
	"outrider/mesh/cla"
	"outrider/mesh/reconcile"
)

// Two nodes with much to compare change the generation one after the other,
// in the middle of a contact. Nothing is lost, and afterwards their sets are
// equal under the new salt: a further contact costs no reconciliation.
func TestGenerationChangesAmidAContact(t *testing.T) {
	r := newRig(t)
	a, b := r.node(1, nil), r.node(2, nil)
	for i := range uint64(40) {
		for k, x := range []*rigNode{a, b} {
			bn, _ := makeBundle(t, tagOf(byte(i%5)), i*2+uint64(k), 100, bundle.Precedence(i%4))
			if err := x.submit(bn, mesh.SubmitOptions{}); err != nil {
				t.Fatal(err)
			}
		}
	}
	b.watch(tagOf(1))
	r.connect(a, b, cla.LAN)
	next := mesh.GenerationChanged{Salt: reconcile.Salt{2}, Generation: 2}
	a.input(next)
	r.run()
	if len(a.hangups) != 1 {
		t.Fatalf("the link was not closed once but %v", a.hangups)
	}
	// One side is behind: all is told by full id.
	late, _ := makeBundle(t, tagOf(9), 1000, 100, bundle.Routine)
	if err := a.submit(late, mesh.SubmitOptions{}); err != nil {
		t.Fatal(err)
	}
	cut := r.connect(a, b, cla.LAN)
	r.advance(time.Minute)
	if sa, sb := a.Status(r.now).Held, b.Status(r.now).Held; sa != 81 || sb != 81 {
		t.Fatalf("with different generations a holds %d bundles and b %d, want 81", sa, sb)
	}
	cut()
	b.input(next)
	b.input(next) // twice is once
	r.run()
	before := a.Status(r.now).Counters.EqualContacts
	r.connect(a, b, cla.LAN)
	r.advance(time.Minute)
	if got := a.Status(r.now).Counters.EqualContacts; got != before+1 {
		t.Errorf("under one new generation the roots are not equal at once")
	}
	if a.drops(mesh.DropMalformed) != 0 || b.drops(mesh.DropMalformed) != 0 {
		t.Errorf("malformed frames were seen")
	}
}
