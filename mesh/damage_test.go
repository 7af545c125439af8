package mesh_test

import (
	"testing"
	"time"

	"outrider/mesh"
	"outrider/mesh/bundle"
	"outrider/mesh/cla"
)

// A copy found damaged is dropped and comes again from a neighbour, whatever
// way it travels.
func TestDamagedCopyIsFetchedAgain(t *testing.T) {
	for name, size := range map[string]int{"flood": 1000, "spray": 9000} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t)
			a, relay := r.node(1, nil), r.node(2, nil)
			r.connect(a, relay, cla.LAN)
			x := msg(t, 1, size, bundle.Priority)
			if err := a.submit(x, mesh.SubmitOptions{}); err != nil {
				t.Fatal(err)
			}
			r.advance(time.Minute)
			if got := relay.state(x.ID()); got != "held" {
				t.Fatalf("before: %s", got)
			}
			relay.input(mesh.Damaged{ID: x.ID()})
			r.run()
			if n, _ := relay.store.Len(); n != 0 {
				t.Errorf("%d bundles on disk right after, want 0", n)
			}
			r.advance(time.Minute)
			if got := relay.state(x.ID()); got != "held" {
				t.Errorf("after a minute in contact: %s", got)
			}
			if relay.drops(mesh.DropDamaged) != 1 {
				t.Errorf("%d counted as damaged", relay.drops(mesh.DropDamaged))
			}
			r.noLeaks()
		})
	}
}

// Our own copy stays on disk until a neighbour has brought another, and is our
// own then too: no neighbour's mail makes it go.
func TestDamagedOwnCopyComesHome(t *testing.T) {
	r := newRig(t)
	a, relay := r.node(1, nil), r.node(2, nil)
	cut := r.connect(a, relay, cla.LAN)
	x := msg(t, 1, 1000, bundle.Routine)
	if err := a.submit(x, mesh.SubmitOptions{}); err != nil {
		t.Fatal(err)
	}
	r.advance(time.Minute)
	cut()
	a.input(mesh.Damaged{ID: x.ID()})
	r.advance(time.Minute)
	if n, _ := a.store.Len(); n != 1 {
		t.Fatalf("%d bundles on the origin's disk while nobody is in reach, want 1", n)
	}
	if got := a.state(x.ID()); got != "refused" {
		t.Fatalf("alone: %s", got)
	}
	r.connect(a, relay, cla.LAN)
	r.advance(10 * time.Minute)
	got := a.Explain(r.now, x.ID())
	if got.State != "held" || !got.Own {
		t.Fatalf("after a contact: %s, own %v", got.State, got.Own)
	}
	r.noLeaks()
}

// What was handed over is not fetched again, and not announced again.
func TestDamagedAfterDelivery(t *testing.T) {
	r := newRig(t)
	a, reader := r.node(1, nil), r.node(2, nil)
	r.connect(a, reader, cla.LAN)
	x := msg(t, 1, 1000, bundle.Routine)
	reader.watch(x.Header.Tag)
	if err := a.submit(x, mesh.SubmitOptions{}); err != nil {
		t.Fatal(err)
	}
	r.advance(time.Minute)
	if err := reader.consume(x.ID()); err != nil {
		t.Fatal(err)
	}
	before := reader.arrivals(x.ID())
	reader.input(mesh.Damaged{ID: x.ID()})
	r.advance(time.Hour / 2)
	if got := reader.arrivals(x.ID()); got != before {
		t.Errorf("announced %d times more", got-before)
	}
	if got := reader.state(x.ID()); got != "refused" {
		t.Errorf("state %s", got)
	}
	r.noLeaks()
}
