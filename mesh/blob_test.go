package mesh_test

import (
	"bytes"
	"math/rand/v2"
	"testing"
	"time"

	"outrider/mesh"
	"outrider/mesh/blob"
	"outrider/mesh/bundle"
	"outrider/mesh/cla"
	"outrider/mesh/meshtest"
)

// giveBlob puts a blob of n bytes into a node's store and submits the bundle
// that names it.
func giveBlob(t *testing.T, x *rigNode, n int) (data []byte, d blob.Descriptor, b bundle.Bundle) {
	t.Helper()
	data = make([]byte, n)
	rand.NewChaCha8([32]byte{byte(n)}).Read(data)
	d = x.store.PutBlob(data)
	b = blobBundle(t, d)
	if err := x.submit(b, mesh.SubmitOptions{}); err != nil {
		t.Fatal(err)
	}
	return data, d, b
}

func blobBundle(t *testing.T, d blob.Descriptor) bundle.Bundle {
	t.Helper()
	payload, err := d.MarshalBinary()
	if err != nil {
		t.Fatal(err)
	}
	b, err := bundle.New(bundle.Header{
		Version: 1, Tag: tagOf(9), Lifetime: time.Hour, Commitment: bundle.PurgeKey{}.Commit(tagOf(9)), Kind: bundle.KindBlob,
	}, payload, 0)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func (x *rigNode) hasBlob(d blob.Descriptor, want []byte) bool {
	got, ok := x.store.Blob(d)
	return ok && bytes.Equal(got, want)
}

func TestBlobResumesInsideALeaf(t *testing.T) {
	r := newRig(t)
	a, b, c := r.node(1, nil), r.node(2, nil), r.node(3, nil)
	data, d, x := giveBlob(t, a, 40_000)
	c.store.PutBlob(data)
	if err := c.submit(x, mesh.SubmitOptions{}); err != nil {
		t.Fatal(err)
	}
	leaves := 0
	cut := r.connectWatching(a, b, cla.Radio, func(kind string) bool {
		if kind == "LEAF" {
			leaves++
		}
		return leaves <= 40 // 40 frames of 512 bytes: in the middle of the second leaf
	})
	r.advance(time.Minute)
	cut()
	if got := b.Status(r.now).LeafParts; got != 1 {
		t.Fatalf("%d leaves kept in part", got)
	}
	c.bytes = 0
	r.connect(c, b, cla.Radio) // another neighbour goes on
	r.advance(20 * time.Minute)
	if !b.hasBlob(d, data) {
		t.Fatal("not complete")
	}
	if left := 40_000 - 40*512; c.bytes > left+left/10+600 {
		t.Fatalf("%d bytes sent for the %d that were missing", c.bytes, left)
	}
	if count(b, func(e mesh.BlobComplete) bool { return e.Root == d.Root }) != 1 {
		t.Fatal("completion is not announced once")
	}
	r.noLeaks()
}

// A leaf that one neighbour spoiled is blamed on it and fetched from another.
func TestSpoiledLeaf(t *testing.T) {
	r := newRig(t)
	bad, good, b := r.node(1, nil), r.node(2, nil), r.node(3, nil)
	data, d, x := giveBlob(t, bad, 100_000)
	bad.store.Spoil(d.Root, 3)
	r.connect(bad, b, cla.LAN)
	r.advance(time.Minute)
	if n := b.Neighbours(); len(n) != 1 || n[0].Faults == 0 || b.drops(mesh.DropLeaf) == 0 {
		t.Fatalf("nobody is blamed: %+v", n)
	}
	if b.hasBlob(d, data) {
		t.Fatal("a spoiled leaf was taken")
	}
	good.store.PutBlob(data)
	if err := good.submit(x, mesh.SubmitOptions{}); err != nil {
		t.Fatal(err)
	}
	r.connect(good, b, cla.LAN)
	r.advance(time.Minute)
	if !b.hasBlob(d, data) {
		t.Fatal("not fetched from the honest neighbour")
	}
	r.noLeaks()
}

// Pieces of two sources that make no leaf blame nobody.
func TestMixedLeafThatFailsIsFetchedWhole(t *testing.T) {
	r := newRig(t)
	a, b, c := r.node(1, nil), r.node(2, nil), r.node(3, nil)
	data, d, x := giveBlob(t, a, 16_000)
	a.store.Spoil(d.Root, 0)
	c.store.PutBlob(data)
	if err := c.submit(x, mesh.SubmitOptions{}); err != nil {
		t.Fatal(err)
	}
	leaves := 0
	cut := r.connectWatching(a, b, cla.Radio, func(kind string) bool {
		if kind == "LEAF" {
			leaves++
		}
		return leaves <= 5
	})
	cut()
	r.connect(c, b, cla.Radio)
	r.advance(20 * time.Minute)
	if n := b.Neighbours(); !b.hasBlob(d, data) || n[0].Faults != 0 {
		t.Fatalf("complete %v, honest neighbour blamed %d times", b.hasBlob(d, data), n[0].Faults)
	}
}

func TestBlobSpace(t *testing.T) {
	r := newRig(t)
	a := r.node(1, nil)
	relay := r.node(2, func(c *mesh.Config) { c.Limits.BlobBytes = 1 << 20 })
	giveBlob(t, a, 3<<20)
	r.connect(a, relay, cla.LAN)
	r.advance(time.Minute)
	st := relay.Status(r.now)
	if st.BlobBytes > 1<<20 || st.BlobBytes == 0 || relay.drops(mesh.DropBlobSpace) == 0 {
		t.Fatalf("%d of %d bytes taken, refusals %+v", st.BlobBytes, st.MaxBlobBytes, st.Counters.Dropped)
	}
	// Our own blobs are not relayed ones: no quota.
	own := r.node(3, func(c *mesh.Config) { c.Limits.BlobBytes = 1 << 20 })
	giveBlob(t, own, 2<<20)
	if st := own.Status(r.now); st.Blobs != 1 || st.BlobBytes != 0 {
		t.Fatalf("own leaves are charged: %+v", st)
	}
}

// Claimed lengths take no space, and a claim that contradicts the root does
// not keep the true blob out.
func TestFalseLength(t *testing.T) {
	r := newRig(t)
	liar, a, b := r.node(1, nil), r.node(2, nil), r.node(3, nil)
	data := bytes.Repeat([]byte{1, 2, 3}, 20_000)
	d := meshtest.NewStore(9).PutBlob(data)
	false1 := blob.Descriptor{Root: d.Root, Length: 16 << 30}
	if err := liar.submit(blobBundle(t, false1), mesh.SubmitOptions{}); err != nil {
		t.Fatal(err)
	}
	r.connect(liar, b, cla.LAN)
	if st := b.Status(r.now); st.Blobs != 1 || st.BlobBytes != 0 {
		t.Fatalf("%d blobs, %d bytes for a claim", st.Blobs, st.BlobBytes)
	}
	a.store.PutBlob(data)
	if err := a.submit(blobBundle(t, d), mesh.SubmitOptions{}); err != nil {
		t.Fatal(err)
	}
	r.connect(a, b, cla.LAN)
	r.advance(time.Minute)
	if !b.hasBlob(d, data) {
		t.Fatal("a false claim kept the true blob out")
	}
}

// A relay that lies after the truth has come, and goes on lying that it has
// leaves, delays a file and does not keep it out.
func TestFalseLengthAfterTheTrueOne(t *testing.T) {
	r := newRig(t)
	liar, a, b := r.node(1, nil), r.node(2, nil), r.node(3, nil)
	data := bytes.Repeat([]byte{1, 2, 3}, 20_000)
	d := meshtest.NewStore(9).PutBlob(data)
	claim := blobBundle(t, d)
	lie := blobBundle(t, blob.Descriptor{Root: d.Root, Length: 1 << 30})
	if err := b.submit(claim, mesh.SubmitOptions{}); err != nil { // known, and nobody has a leaf yet
		t.Fatal(err)
	}
	for i := range 5 {
		if err := liar.submit(blobBundle(t, blob.Descriptor{Root: d.Root, Length: uint64(i+2) << 20}), mesh.SubmitOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	if err := liar.submit(lie, mesh.SubmitOptions{}); err != nil {
		t.Fatal(err)
	}
	r.connect(liar, b, cla.LAN)
	r.advance(10 * time.Second)
	a.store.PutBlob(data)
	if err := a.submit(claim, mesh.SubmitOptions{}); err != nil {
		t.Fatal(err)
	}
	r.connect(a, b, cla.LAN)
	r.advance(time.Minute)
	if !b.hasBlob(d, data) {
		t.Fatal("a false claim kept the true blob out")
	}
}

// An author who held a lie about the file before announcing it goes on serving
// it after a crash, whichever answer of the store comes first.
func TestFalseLengthOverACrash(t *testing.T) {
	for name, own := range map[string]bool{"author": true, "relay": false} {
		r := newRig(t)
		liar, a, b := r.node(1, nil), r.node(2, nil), r.node(3, nil)
		data := bytes.Repeat([]byte{1, 2, 3}, 20_000)
		d := meshtest.NewStore(9).PutBlob(data)
		if err := liar.submit(blobBundle(t, blob.Descriptor{Root: d.Root, Length: 1 << 30}), mesh.SubmitOptions{}); err != nil {
			t.Fatal(err)
		}
		r.connect(liar, a, cla.LAN)()
		r.run()
		if own {
			a.store.PutBlob(data)
			if err := a.submit(blobBundle(t, d), mesh.SubmitOptions{}); err != nil {
				t.Fatal(err)
			}
		} else {
			author := r.node(4, nil)
			author.store.PutBlob(data)
			if err := author.submit(blobBundle(t, d), mesh.SubmitOptions{}); err != nil {
				t.Fatal(err)
			}
			cut := r.connect(author, a, cla.LAN)
			r.advance(time.Minute)
			cut()
			r.run()
		}
		if !a.hasBlob(d, data) {
			t.Fatalf("%s: has no file", name)
		}
		a.start()
		r.run()
		r.connect(a, b, cla.LAN)
		r.advance(time.Minute)
		if !a.hasBlob(d, data) || !b.hasBlob(d, data) {
			t.Errorf("%s: after a crash: there %v, served %v", name, a.hasBlob(d, data), b.hasBlob(d, data))
		}
	}
}

// What a bundle says that is gone does not count: the next claim takes its
// place, and with the last one the leaves go.
func TestClaimsEnd(t *testing.T) {
	r := newRig(t)
	a, b := r.node(1, nil), r.node(2, nil)
	data := bytes.Repeat([]byte{1, 2, 3}, 20_000)
	d := a.store.PutBlob(data)
	payload, err := blob.Descriptor{Root: d.Root, Length: 5}.MarshalBinary()
	if err != nil {
		t.Fatal(err)
	}
	short, err := bundle.New(bundle.Header{
		Version: 1, Tag: tagOf(9), Lifetime: 2 * time.Minute, Commitment: bundle.PurgeKey{}.Commit(tagOf(9)), Kind: bundle.KindBlob,
	}, payload, 0)
	if err != nil {
		t.Fatal(err)
	}
	for _, x := range []bundle.Bundle{short, blobBundle(t, d)} {
		if err := b.submit(x, mesh.SubmitOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	r.advance(5 * time.Minute) // the lie has expired
	if err := a.submit(blobBundle(t, d), mesh.SubmitOptions{}); err != nil {
		t.Fatal(err)
	}
	r.connect(a, b, cla.LAN)
	r.advance(time.Minute)
	if !b.hasBlob(d, data) {
		t.Fatal("what a dead bundle claimed is still believed")
	}
	r.advance(2 * time.Hour)
	if st := b.Status(r.now); st.Blobs != 0 || st.BlobBytes != 0 {
		t.Fatalf("%d blobs, %d bytes without a claim", st.Blobs, st.BlobBytes)
	}
}

// Two neighbours that each have it share the work; nothing comes twice.
func TestBlobFromTwoNeighbours(t *testing.T) {
	r := newRig(t)
	a, b, c := r.node(1, nil), r.node(2, nil), r.node(3, nil)
	data, d, x := giveBlob(t, a, 5<<20)
	b.store.PutBlob(data)
	if err := b.submit(x, mesh.SubmitOptions{}); err != nil {
		t.Fatal(err)
	}
	r.connect(a, c, cla.WiFi)
	r.connect(b, c, cla.WiFi)
	r.advance(5 * time.Minute)
	if !c.hasBlob(d, data) {
		t.Fatal("not complete")
	}
	if total := a.bytes + b.bytes; total > len(data)+len(data)/20 {
		t.Fatalf("%d bytes sent for %d", total, len(data))
	}
}

// The blob goes with the last bundle that names it.
func TestBlobLivesAsLongAsItIsNamed(t *testing.T) {
	r := newRig(t)
	a := r.node(1, nil)
	data, d, x := giveBlob(t, a, 50_000)
	again := blobBundle(t, d)
	again.Header.Lifetime = 2 * time.Hour
	again, err := bundle.New(again.Header, again.Payload, 0)
	if err != nil {
		t.Fatal(err)
	}
	if err := a.submit(again, mesh.SubmitOptions{}); err != nil {
		t.Fatal(err)
	}
	if err := a.purge(bundle.NewPurgeRecord(x, bundle.PurgeKey{})); err != nil {
		t.Fatal(err)
	}
	if !a.hasBlob(d, data) {
		t.Fatal("deleted although a bundle still names it")
	}
	r.advance(2*time.Hour + time.Minute)
	if _, ok := a.store.Blob(d); ok {
		t.Fatal("it outlives the bundles that name it")
	}
}

// FLASH goes ahead of a bundle that is being sent, at the next frame.
func TestFlashOvertakesBulk(t *testing.T) {
	r := newRig(t)
	a, b := r.node(1, nil), r.node(2, nil)
	bulk, _ := makeBundle(t, tagOf(9), 1, 60_000, bundle.Routine)
	if err := a.submit(bulk, mesh.SubmitOptions{}); err != nil {
		t.Fatal(err)
	}
	flash := msg(t, 2, 300, bundle.Flash)
	data, at := 0, 0
	r.connectWatching(a, b, cla.Radio, func(kind string) bool {
		switch kind {
		case "DATA":
			if data++; data == 10 {
				a.submitOnly(flash, mesh.SubmitOptions{})
			}
		case "BUNDLE":
			at = data
		}
		return true
	})
	r.advance(time.Minute)
	if at < 10 || at > 13 {
		t.Fatalf("FLASH went after %d frames of bulk, accepted after the tenth", at)
	}
	if b.state(flash.ID()) != "held" || b.state(bulk.ID()) != "held" {
		t.Fatal("not everything arrived")
	}
}
