package mesh_test

import (
	"errors"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"outrider/mesh"
	"outrider/mesh/bundle"
	"outrider/mesh/cla"
)

func TestMailForALateReader(t *testing.T) {
	r := newRig(t)
	a, b := r.node(1, nil), r.node(2, nil)
	r.connect(a, b, cla.LAN)
	x := msg(t, 1, 300, 0)
	if err := a.submit(x, mesh.SubmitOptions{}); err != nil {
		t.Fatal(err)
	}
	if b.arrivals(x.ID()) != 0 {
		t.Fatal("announced although nobody watches")
	}
	b.watch(tagOf(9))
	b.watch(tagOf(9)) // not consumed: again
	if b.arrivals(x.ID()) != 2 {
		t.Fatalf("announced %d times, want once for each watch", b.arrivals(x.ID()))
	}
	if err := b.consume(x.ID()); err != nil {
		t.Fatal(err)
	}
	b.events = nil
	b.watch(tagOf(9))
	b.start()
	b.watch(tagOf(9))
	if b.arrivals(x.ID()) != 0 {
		t.Fatal("announced after it was consumed")
	}
	b.store.Fail = func([]mesh.Op) error { return errors.New("no") }
	y := msg(t, 2, 300, 0)
	b.store.Fail = nil
	if err := b.submit(y, mesh.SubmitOptions{}); err != nil || b.arrivals(y.ID()) != 1 {
		t.Fatalf("mail between users of one node: %v, %d", err, b.arrivals(y.ID()))
	}
	b.store.Fail = func([]mesh.Op) error { return errors.New("no") }
	if err := b.consume(y.ID()); err == nil {
		t.Fatal("consumed although nothing was written")
	}
	b.store.Fail = nil
	b.watch(tagOf(9))
	if b.arrivals(y.ID()) != 2 {
		t.Fatal("not announced again after a failed write")
	}
}

// Two nodes that meet again after little has happened list it; those that
// have not met search; a restored database voids what was believed.
func TestCursorsAndStoreEpochs(t *testing.T) {
	r := newRig(t)
	a, b := r.node(1, nil), r.node(2, nil)
	for i := range 300 {
		if err := a.submit(msg(t, uint64(i), 100, 0), mesh.SubmitOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	cut := r.connect(a, b, cla.LAN)
	r.advance(5 * time.Second)
	cut()
	counters := func() mesh.Counters { return b.Status(r.now).Counters }
	if c := counters(); c.CursorContacts != 0 {
		t.Fatalf("first contact: %+v", c)
	}
	for i := range 5 {
		if err := a.submit(msg(t, uint64(1000+i), 100, 0), mesh.SubmitOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	a.bytes, b.bytes = 0, 0
	cut = r.connect(a, b, cla.LAN)
	if c := counters(); c.CursorContacts != 1 || b.Status(r.now).Held != 305 {
		t.Fatalf("second contact: %+v, %d held", c, b.Status(r.now).Held)
	}
	if got := a.bytes + b.bytes; got > 1100 {
		t.Errorf("%d bytes for five bundles of 100", got)
	}
	r.advance(5 * time.Second)
	cut()
	a.bytes, b.bytes = 0, 0
	cut = r.connect(a, b, cla.LAN) // nothing new
	if got := a.bytes + b.bytes; got > 200 {
		t.Errorf("an idle contact cost %d bytes, goal 200", got)
	}
	cut()
	// B's disk is replaced.
	b.store = newStoreOf(99)
	b.start()
	r.connect(a, b, cla.LAN)
	r.advance(10 * time.Second)
	if got := b.Status(r.now).Held; got != 305 {
		t.Fatalf("%d of 305 bundles after the disk was replaced", got)
	}
	r.noLeaks()
}

// Whatever two nodes hold, one contact makes their sets equal.
func TestReconciliationOfRandomSets(t *testing.T) {
	for seed := range uint64(8) {
		r := newRig(t)
		a, b := r.node(byte(1+seed%2), nil), r.node(byte(2-seed%2), nil)
		rnd := rand.New(rand.NewPCG(seed, 5))
		common, left, right := rnd.IntN(400), rnd.IntN(300), rnd.IntN(40)
		for i := range common + left + right {
			x, key := makeBundle(t, tagOf(9), uint64(i), 50, bundle.Precedence(i%4))
			for j, n := range []*rigNode{a, b} {
				if i >= common && (i < common+left) != (j == 0) {
					continue
				}
				if err := n.submit(x, mesh.SubmitOptions{}); err != nil {
					t.Fatal(err)
				}
				if rnd.IntN(10) == 0 {
					if err := n.purge(bundle.NewPurgeRecord(x, key)); err != nil {
						t.Fatal(err)
					}
				}
			}
		}
		r.connect(a, b, cla.LAN)
		r.advance(time.Minute)
		if x, y := a.Status(r.now), b.Status(r.now); x.Root != y.Root || x.Held != y.Held || x.Tombstones != y.Tombstones {
			t.Fatalf("seed %d (%d common, %d, %d): %d and %d held, %d and %d purged", seed, common, left, right, x.Held, y.Held, x.Tombstones, y.Tombstones)
		}
		r.noLeaks()
	}
}

func TestStalledNeighbourIsDropped(t *testing.T) {
	r := newRig(t)
	a, b := r.node(1, nil), r.node(2, nil)
	r.connect(a, b, cla.LAN)
	for _, e := range a.peers {
		e.mute = true
	}
	if err := a.submit(msg(t, 1, 500, 0), mesh.SubmitOptions{}); err != nil {
		t.Fatal(err)
	}
	r.advance(29 * time.Second)
	if len(a.hangups) != 0 {
		t.Fatal("dropped too early")
	}
	r.advance(2 * time.Second)
	if !slices.Contains(a.hangups, "stalled") || a.Status(r.now).Counters.Stalls != 1 {
		t.Fatalf("hangups %v", a.hangups)
	}
}

func TestProtocolVersions(t *testing.T) {
	r := newRig(t)
	a := r.node(1, nil)
	b := r.node(2, nil)
	r.links++
	a.peers[r.links] = &rigEnd{node: b, mute: true}
	a.input(mesh.PeerUp{Link: r.links, Peer: b.id, Info: cla.Info{Class: cla.LAN}})
	r.run()
	state := slices.Clone(a.raw[0])
	state[1], state[2] = 2, 7
	a.hear(r.links, state)
	r.run()
	if len(a.hangups) != 1 {
		t.Fatalf("a peer that speaks 2 to 7 only: %v", a.hangups)
	}
}

func TestUnknownFramesAreCountedNotPunished(t *testing.T) {
	r := newRig(t)
	a, b := r.node(1, nil), r.node(2, nil)
	r.connect(a, b, cla.LAN)
	for i := range 100 {
		a.hearFrom(b, []byte{0x7f, byte(i)})
	}
	r.run()
	if a.drops(mesh.DropUnknown) != 100 || len(a.hangups) != 0 {
		t.Fatalf("%d counted, hangups %v", a.drops(mesh.DropUnknown), a.hangups)
	}
	for range 64 {
		a.hearFrom(b, []byte{0x42, 0xff})
	}
	r.run()
	if a.drops(mesh.DropMalformed) != 64 || len(a.hangups) != 1 {
		t.Fatalf("%d malformed counted, hangups %v", a.drops(mesh.DropMalformed), a.hangups)
	}
}

// TestUnsentFramesLeaveNoHole: what is gone from the store when its frame is to
// be filled does not stay in flight. A link on which that happens goes on, and
// is not taken for stalled once it is idle.
func TestUnsentFramesLeaveNoHole(t *testing.T) {
	for _, class := range []cla.Class{cla.LAN, cla.Radio} {
		r := newRig(t)
		a, b := r.node(1, nil), r.node(2, nil)
		small, large, stays := msg(t, 1, 300, bundle.Routine), msg(t, 2, 60_000, bundle.Routine), msg(t, 3, 300, bundle.Routine)
		for _, m := range []bundle.Bundle{small, large, stays} {
			if err := a.submit(m, mesh.SubmitOptions{}); err != nil {
				t.Fatal(err)
			}
		}
		ended, key := makeBundle(t, tagOf(9), 5, 300, bundle.Routine)
		if err := errors.Join(a.submit(ended, mesh.SubmitOptions{}), a.purge(bundle.NewPurgeRecord(ended, key))); err != nil {
			t.Fatal(err)
		}
		_, d, _ := giveBlob(t, a, 100_000)
		lost := []mesh.Op{mesh.DeleteBundle{ID: small.ID()}, mesh.DeleteBundle{ID: large.ID()}, mesh.DropTomb{ID: ended.ID()}}
		if err := errors.Join(a.store.Commit(t.Context(), lost), a.store.DropBlob(t.Context(), d.Root)); err != nil {
			t.Fatal(err)
		}
		r.connect(a, b, class)
		r.advance(10 * time.Minute)
		if got := b.state(stays.ID()); got != "held" {
			t.Errorf("%v: what is there is %s at the neighbour", class, got)
		}
		if len(a.hangups) != 0 {
			t.Errorf("%v: hung up: %v", class, a.hangups)
		}
		later := msg(t, 4, 300, bundle.Routine)
		if err := a.submit(later, mesh.SubmitOptions{}); err != nil {
			t.Fatal(err)
		}
		r.advance(time.Minute)
		if got := b.state(later.ID()); got != "held" {
			t.Errorf("%v: what came later is %s at the neighbour", class, got)
		}
	}
}
