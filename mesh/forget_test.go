package mesh_test

import (
	"testing"
	"time"

	"outrider/mesh"
	"outrider/mesh/cla"
)

// What ends at once is deleted in transactions that a store takes.
func TestManyLifetimesEndAtOnce(t *testing.T) {
	r := newRig(t)
	a := r.node(1, nil)
	const n = 2*mesh.MaxCommitOps + 100
	for i := range n {
		if err := a.submit(msg(t, uint64(i), 10, 0), mesh.SubmitOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	r.advance(61 * time.Minute)
	if left, _ := a.store.Len(); left != 0 || a.drops(mesh.DropExpired) != n || a.Status(r.now).Counters.CommitErrors != 0 {
		t.Errorf("%d bundles are left on disk, %d have ended of %d, %d transactions failed", left, a.drops(mesh.DropExpired), n, a.Status(r.now).Counters.CommitErrors)
	}
	r.noLeaks()
}

// A node that was told of as much as it can remember goes on taking mail: what
// has ended and was handed over is forgotten, the longest ago first.
func TestFullMemoryOfEndedMailRefusesNone(t *testing.T) {
	r := newRig(t)
	const known = 1000
	a, b := r.node(1, nil), r.node(2, func(c *mesh.Config) { c.Limits.Known = known })
	b.watch(tagOf(9))
	r.connect(a, b, cla.LAN)
	number := uint64(0)
	send := func(n int) {
		t.Helper()
		for range n {
			number++
			x := msg(t, number, 10, 0)
			if err := a.submit(x, mesh.SubmitOptions{}); err != nil {
				t.Fatal(err)
			}
			if err := b.consume(x.ID()); err != nil {
				t.Fatalf("bundle %d did not arrive: %v (%s)", number, err, b.state(x.ID()))
			}
		}
	}
	send(known / 2)
	r.advance(30 * time.Minute)
	send(known / 2)
	first, later := msg(t, 1, 10, 0), msg(t, known/2+1, 10, 0)
	r.advance(61 * time.Minute) // all have ended; none is an hour past its end in both halves
	send(1)
	if b.state(first.ID()) == "expired" || b.state(later.ID()) != "expired" {
		t.Errorf("what ended first is %q, what ended later %q", b.state(first.ID()), b.state(later.ID()))
	}
	if held, _ := b.store.Len(); held > known {
		t.Errorf("%d bundles lie on disk, %d are known", held, known)
	}
	if n := b.drops(mesh.DropNoSpace); n != 0 {
		t.Errorf("%d refused", n)
	}
	send(known) // and so on
	r.noLeaks()
}
