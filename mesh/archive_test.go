package mesh_test

import (
	"testing"
	"time"

	"outrider/mesh"
	"outrider/mesh/bundle"
	"outrider/mesh/cla"
	"outrider/mesh/identity"
)

// kept makes a bundle for a compliance reader too, under tag 9.
func kept(t *testing.T, key bundle.PurgeKey) bundle.Bundle {
	t.Helper()
	x, err := bundle.New(bundle.Header{
		Version: 1, Tag: tagOf(9), Lifetime: time.Hour, Commitment: key.Commit(tagOf(9)), Kind: bundle.KindMessage, Flags: bundle.FlagArchive,
	}, []byte("for the record"), 0)
	if err != nil {
		t.Fatal(err)
	}
	return x
}

func (x *rigNode) archives() {
	x.input(mesh.Watched{Add: []identity.Tag{tagOf(9)}, Archive: true})
	x.watch(tagOf(9))
}

// TestK05PurgedBundleReachesTheArchiveLater: the reader has purged it, the
// archive's node has even heard so, and gets it from its origin all the same.
// The reader's node is offered nothing in vain.
func TestK05PurgedBundleReachesTheArchiveLater(t *testing.T) {
	r := newRig(t)
	a, b, c := r.node(1, nil), r.node(2, nil), r.node(3, nil)
	key := bundle.PurgeKey{1}
	x := kept(t, key)
	b.watch(tagOf(9))
	if err := a.submit(x, mesh.SubmitOptions{}); err != nil {
		t.Fatal(err)
	}
	r.connect(a, b, cla.LAN)
	if err := b.purge(bundle.NewPurgeRecord(x, key)); err != nil {
		t.Fatal(err)
	}
	r.connect(b, c, cla.LAN)
	r.advance(time.Minute)
	if c.state(x.ID()) != "purged" || c.store.Holds(x.ID()) || b.store.Holds(x.ID()) || !a.store.Holds(x.ID()) {
		t.Fatalf("before: archive %s, on disk %v", c.state(x.ID()), c.store.Holds(x.ID()))
	}
	c.archives() // the epoch's start has come
	r.advance(time.Minute)
	if c.arrivals(x.ID()) != 0 {
		t.Fatal("it came from nobody")
	}
	r.connect(a, c, cla.LAN)
	r.advance(2 * time.Minute)
	if c.arrivals(x.ID()) != 1 || !c.store.Holds(x.ID()) {
		t.Fatalf("the archive got it %d times, on disk %v", c.arrivals(x.ID()), c.store.Holds(x.ID()))
	}
	if b.store.Holds(x.ID()) || b.arrivals(x.ID()) != 1 || a.state(x.ID()) != "purged" || b.state(x.ID()) != "purged" {
		t.Fatalf("it came back: origin %s, reader %s, %d arrivals", a.state(x.ID()), b.state(x.ID()), b.arrivals(x.ID()))
	}
	// It was told again that it is purged, and keeps it, over a restart too.
	if c.state(x.ID()) != "purged" {
		t.Errorf("at the archive it is %s", c.state(x.ID()))
	}
	c.start()
	c.archives()
	r.connect(a, c, cla.LAN)
	r.advance(2 * time.Minute)
	if c.arrivals(x.ID()) == 0 || !c.store.Holds(x.ID()) {
		t.Error("lost over a restart before it was archived")
	}
	if err := c.consume(x.ID()); err != nil {
		t.Fatal(err)
	}
	had := c.arrivals(x.ID())
	c.start()
	c.archives()
	r.connect(a, c, cla.LAN)
	r.advance(2 * time.Minute)
	if got := c.arrivals(x.ID()); got != had && got != 0 {
		t.Errorf("archived, and handed over again: %d then %d", had, got)
	}
	r.advance(2 * time.Hour)
	for i, n := range []*rigNode{a, b, c} {
		if n.store.Holds(x.ID()) {
			t.Errorf("node %d keeps it past its lifetime", i)
		}
	}
	r.noLeaks()
}

// TestK05PurgeWhileTheArchiveIsInContact: the purge comes before the bundle.
func TestK05PurgeWhileTheArchiveIsInContact(t *testing.T) {
	r := newRig(t)
	a, c := r.node(1, nil), r.node(3, nil)
	key := bundle.PurgeKey{1}
	x := kept(t, key)
	if err := a.submit(x, mesh.SubmitOptions{}); err != nil {
		t.Fatal(err)
	}
	if err := a.purge(bundle.NewPurgeRecord(x, key)); err != nil {
		t.Fatal(err)
	}
	c.archives()
	r.connect(a, c, cla.LAN)
	r.advance(2 * time.Minute)
	if c.arrivals(x.ID()) != 1 {
		t.Errorf("%d arrivals", c.arrivals(x.ID()))
	}
}

// TestK05LockedArchiveKeeps: what came before its purge stays at the node of a
// reader who is locked; without the flag it goes.
func TestK05LockedArchiveKeeps(t *testing.T) {
	r := newRig(t)
	a, c := r.node(1, nil), r.node(3, nil)
	c.archives()
	r.connect(a, c, cla.LAN)
	key := bundle.PurgeKey{1}
	x, plain := kept(t, key), msg(t, 9, 100, 0)
	for _, b := range []bundle.Bundle{x, plain} {
		if err := a.submit(b, mesh.SubmitOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	r.advance(time.Minute)
	if err := a.purge(bundle.NewPurgeRecord(x, key)); err != nil {
		t.Fatal(err)
	}
	r.advance(time.Minute)
	if !c.store.Holds(x.ID()) || c.state(x.ID()) != "purged" {
		t.Errorf("%s, on disk %v", c.state(x.ID()), c.store.Holds(x.ID()))
	}
	c.input(mesh.Watched{Remove: []identity.Tag{tagOf(9)}})
	had := c.arrivals(x.ID())
	c.archives()
	r.run()
	if c.arrivals(x.ID()) <= had {
		t.Error("unlocked, and not delivered")
	}
	r.noLeaks()
}

// Without a compliance reader a purge is a purge: nobody is offered anything.
func TestK05NobodyElseGetsWhatIsKept(t *testing.T) {
	r := newRig(t)
	a, b := r.node(1, nil), r.node(2, nil)
	key := bundle.PurgeKey{1}
	x := kept(t, key)
	if err := a.submit(x, mesh.SubmitOptions{}); err != nil {
		t.Fatal(err)
	}
	if err := a.purge(bundle.NewPurgeRecord(x, key)); err != nil {
		t.Fatal(err)
	}
	b.watch(tagOf(9))
	r.connect(a, b, cla.LAN)
	r.advance(2 * time.Minute)
	if b.arrivals(x.ID()) != 0 || b.store.Holds(x.ID()) {
		t.Error("a member got a purged bundle")
	}
}
