package mesh_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"testing"
	"time"

	"outrider/mesh"
	"outrider/mesh/bundle"
	"outrider/mesh/cla"
	"outrider/mesh/identity"
)

func msg(t testing.TB, n uint64, size int, prec bundle.Precedence) bundle.Bundle {
	b, _ := makeBundle(t, tagOf(9), n, size, prec)
	return b
}

func TestSubmitIsAnsweredAfterTheStore(t *testing.T) {
	r := newRig(t)
	a := r.node(1, nil)
	a.hold = true
	b := msg(t, 1, 100, bundle.Routine)
	req := a.submitOnly(b, mesh.SubmitOptions{})
	r.run()
	if _, ok := a.replies[req]; ok {
		t.Fatal("answered before the store was")
	}
	a.hold = false
	r.run()
	if err, ok := a.replies[req]; !ok || err != nil || !a.store.Holds(b.ID()) {
		t.Fatalf("answered %v (%v), on disk %v", err, ok, a.store.Holds(b.ID()))
	}
	if err := a.submit(b, mesh.SubmitOptions{}); !errors.Is(err, mesh.ErrExists) {
		t.Fatalf("second submission: %v", err)
	}
	a.store.Fail = func([]mesh.Op) error { return mesh.ErrStoreFull }
	if err := a.submit(msg(t, 2, 100, 0), mesh.SubmitOptions{}); !errors.Is(err, mesh.ErrFull) {
		t.Fatalf("submission to a full store: %v", err)
	}
	a.store.Fail = func([]mesh.Op) error { return errors.New("disk on fire") }
	if err := a.submit(msg(t, 3, 100, 0), mesh.SubmitOptions{}); err == nil || errors.Is(err, mesh.ErrFull) {
		t.Fatalf("submission to a broken store: %v", err)
	}
	if st := a.Status(r.now); st.Known != 1 || st.Bytes != 100+mesh.RecordCost {
		t.Fatalf("failed writes left traces: %+v", st)
	}
	r.noLeaks()
}

func TestLifetimeCeiling(t *testing.T) {
	r := newRig(t)
	a := r.node(1, func(c *mesh.Config) { c.Limits.Ceiling = 59 * time.Minute })
	if err := a.submit(msg(t, 1, 10, 0), mesh.SubmitOptions{}); !errors.Is(err, mesh.ErrLifetime) {
		t.Fatalf("an hour under a ceiling of 59 minutes: %v", err)
	}
	if err := a.submit(control(t, 1, "certificate", 300*24*time.Hour), mesh.SubmitOptions{}); err != nil {
		t.Fatalf("control objects are exempt: %v", err)
	}
	// A relay keeps others' bundles no longer than the ceiling.
	b := r.node(2, nil)
	long := msg(t, 2, 10, 0)
	if err := b.submit(long, mesh.SubmitOptions{}); err != nil {
		t.Fatal(err)
	}
	r.connect(a, b, cla.LAN)
	if x := a.Explain(r.now, long.ID()); x.State != "held" || x.Left > 59*time.Minute {
		t.Fatalf("relay holds it as %+v", x)
	}
}

func TestCustodyIsAcknowledgedAfterTheStore(t *testing.T) {
	r := newRig(t)
	a, b := r.node(1, nil), r.node(2, nil)
	r.connect(a, b, cla.LAN)
	b.hold = true
	x := msg(t, 1, 500, bundle.Flash)
	if err := a.submit(x, mesh.SubmitOptions{}); err != nil {
		t.Fatal(err)
	}
	carried := func(e mesh.Carried) bool { return e.ID == x.ID() }
	r.advance(10 * time.Second)
	if n := count(a, carried); n != 0 {
		t.Fatal("custody was acknowledged before the store answered")
	}
	b.hold = false
	r.run()
	if n := count(a, carried); n != 1 {
		t.Fatalf("%d custody reports after the store answered", n)
	}
	if a.state(x.ID()) != "held" {
		t.Fatal("an acknowledgement let the origin's copy go")
	}
	r.noLeaks()
}

// A bundle of a later version, with header keys and hop fields nobody here
// knows, goes through relays byte for byte (decisions 5).
func TestUnknownVersionIsRelayedUnchanged(t *testing.T) {
	raw := []byte{0xa8, 1, 2, 2, 0x48, 1, 2, 3, 4, 5, 6, 7, 8, 3, 1, 4, 0x18, 60, 5, 0x48, 8, 7, 6, 5, 4, 3, 2, 1, 6, 0x18, 99, 7, 0, 8, 0x63, 'n', 'e', 'w'}
	h, err := bundle.ParseHeader(raw)
	if err != nil {
		t.Fatal(err)
	}
	hop, err := bundle.ParseHop([]byte{0x85, 0, 0, 0, 0x18, 42, 0x61, 'x'})
	if err != nil {
		t.Fatal(err)
	}
	for _, size := range []int{300, 50_000} {
		r := newRig(t)
		var chain []*rigNode
		for i := range 4 {
			chain = append(chain, r.node(byte(i+1), nil))
		}
		chain[3].watch(identity.Tag{1, 2, 3, 4, 5, 6, 7, 8})
		for i := range 3 {
			r.connect(chain[i], chain[i+1], cla.LAN)
		}
		payload := bytes.Repeat([]byte{7}, size)
		b := bundle.Bundle{Hop: hop, Header: h, Payload: payload}
		if err := chain[0].submit(b, mesh.SubmitOptions{}); err != nil {
			t.Fatal(err)
		}
		r.advance(time.Minute)
		rec, got, err := chain[3].store.Load(t.Context(), b.ID())
		if err != nil {
			t.Fatalf("%d bytes: did not arrive: %v", size, err)
		}
		if !bytes.Equal(rec.Header.Raw(), raw) || !bytes.Equal(got, payload) {
			t.Fatal("header or payload changed on the way")
		}
		if tail := rec.Hop.Append(nil); !bytes.HasSuffix(tail, []byte{0x18, 42, 0x61, 'x'}) || rec.Hop.Count != 3 {
			t.Fatalf("hop part became %x", tail)
		}
		if chain[3].arrivals(b.ID()) != 1 {
			t.Fatal("not announced to the reader, who may refuse it")
		}
	}
}

func TestCutTransferResumesByOffset(t *testing.T) {
	r := newRig(t)
	a, b, c := r.node(1, nil), r.node(2, nil), r.node(3, nil)
	x, _ := makeBundle(t, tagOf(9), 1, 60_000, bundle.Routine)
	b.watch(tagOf(9))
	for _, n := range []*rigNode{a, c} {
		if err := n.submit(x, mesh.SubmitOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	// A thin link that loses everything after some frames of data.
	seen := 0
	cutAt := 20
	cut := r.connectWatching(a, b, cla.Radio, func(kind string) bool {
		if kind == "DATA" {
			seen++
		}
		return seen <= cutAt
	})
	r.advance(time.Minute)
	cut()
	if b.state(x.ID()) != "unknown" || b.Status(r.now).Partials != 1 {
		t.Fatalf("after the cut: %s, %d partials", b.state(x.ID()), b.Status(r.now).Partials)
	}
	c.bytes = 0
	r.connect(c, b, cla.Radio) // another neighbour goes on
	r.advance(10 * time.Minute)
	if b.arrivals(x.ID()) != 1 || b.Status(r.now).Counters.Resumed != 1 {
		t.Fatalf("%d arrivals, %d resumed", b.arrivals(x.ID()), b.Status(r.now).Counters.Resumed)
	}
	if left := 60_000 - 20*512; c.bytes > left+left/10 {
		t.Fatalf("%d bytes sent for the %d that were missing", c.bytes, left)
	}
	r.noLeaks()
}

// Bytes from two sources that do not make the announced bundle blame nobody;
// it is then fetched whole.
func TestMixedTransferThatFailsIsFetchedWhole(t *testing.T) {
	r := newRig(t)
	a, b, c := r.node(1, nil), r.node(2, nil), r.node(3, nil)
	x, _ := makeBundle(t, tagOf(9), 1, 30_000, bundle.Routine)
	for _, n := range []*rigNode{a, c} {
		if err := n.submit(x, mesh.SubmitOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	seen := 0
	cut := r.connectWatching(a, b, cla.Radio, func(kind string) bool {
		if kind == "DATA" {
			seen++
		}
		return seen <= 5
	})
	b.watch(tagOf(9))
	r.advance(time.Minute)
	cut()
	for tok, p := range b.payloads { // what a sent was wrong
		p[100] ^= 1
		b.payloads[tok] = p
	}
	r.connect(c, b, cla.Radio)
	r.advance(20 * time.Minute)
	if b.arrivals(x.ID()) != 1 || b.drops(mesh.DropHash) != 1 {
		t.Fatalf("%d arrivals after %d hash failures", b.arrivals(x.ID()), b.drops(mesh.DropHash))
	}
	if n := b.Neighbours(); len(n) != 1 || n[0].Faults != 0 {
		t.Fatalf("an honest neighbour was blamed: %+v", n)
	}
}

func TestPurgeRemovesAndKeepsOut(t *testing.T) {
	r := newRig(t)
	a, b, c := r.node(1, nil), r.node(2, nil), r.node(3, nil)
	x, key := makeBundle(t, tagOf(9), 1, 5000, bundle.Routine) // sprayed: its purge floods all the same
	if err := a.submit(x, mesh.SubmitOptions{}); err != nil {
		t.Fatal(err)
	}
	rec := bundle.NewPurgeRecord(x, key)
	bad := rec
	bad.Key[0] ^= 1
	if err := a.purge(bad); !errors.Is(err, mesh.ErrPurgeKey) {
		t.Fatalf("a wrong key: %v", err)
	}
	// C knows the purge record and never had the bundle.
	if err := c.purge(rec); err != nil {
		t.Fatal(err)
	}
	r.connect(b, c, cla.LAN)
	r.connect(a, b, cla.LAN)
	r.advance(time.Minute)
	for i, n := range []*rigNode{a, b, c} {
		if n.state(x.ID()) != "purged" || n.store.Holds(x.ID()) || !n.store.Tombed(x.ID()) {
			t.Errorf("node %d: %s", i, n.state(x.ID()))
		}
		if got := count(n, func(e mesh.Purged) bool { return e.ID == x.ID() && e.Key == key }); got != 1 {
			t.Errorf("node %d: %d purge events", i, got)
		}
	}
	if err := b.submit(x, mesh.SubmitOptions{}); !errors.Is(err, mesh.ErrExists) {
		t.Fatalf("a purged bundle was taken back: %v", err)
	}
	if err := b.purge(rec); err != nil {
		t.Fatalf("purging twice: %v", err)
	}
	r.advance(2 * time.Hour)
	if bundles, tombs := b.store.Len(); bundles+tombs != 0 {
		t.Fatalf("%d bundles and %d purge records outlive the lifetime", bundles, tombs)
	}
}

func TestPurgeOvertakesTheWrite(t *testing.T) {
	for _, fail := range []bool{false, true} {
		t.Run(fmt.Sprint("store fails ", fail), func(t *testing.T) {
			r := newRig(t)
			a := r.node(1, nil)
			a.hold = true
			x, key := makeBundle(t, tagOf(9), 1, 500, bundle.Routine)
			req := a.submitOnly(x, mesh.SubmitOptions{})
			r.run()
			rigReq++
			a.input(mesh.PurgeAsked{Req: rigReq, Record: bundle.NewPurgeRecord(x, key)})
			r.run()
			if fail {
				a.store.Fail = func(ops []mesh.Op) error {
					if _, tomb := ops[0].(mesh.PutTombstone); tomb {
						return errors.New("no")
					}
					return nil
				}
			}
			a.hold = false
			r.run()
			if err := a.replies[req]; err != nil {
				t.Fatal(err)
			}
			want := "purged"
			if fail {
				want = "held"
			}
			if a.state(x.ID()) != want || a.store.Holds(x.ID()) != fail {
				t.Fatalf("state %s, on disk %v", a.state(x.ID()), a.store.Holds(x.ID()))
			}
			r.noLeaks()
		})
	}
}

func TestArchivedBundleStaysAtItsOrigin(t *testing.T) {
	r := newRig(t)
	a, b := r.node(1, nil), r.node(2, nil)
	var key bundle.PurgeKey
	x, err := bundle.New(bundle.Header{
		Version: 1, Tag: tagOf(9), Lifetime: time.Hour, Commitment: key.Commit(tagOf(9)), Kind: bundle.KindMessage, Flags: bundle.FlagArchive,
	}, []byte("for the record"), 0)
	if err != nil {
		t.Fatal(err)
	}
	if err := a.submit(x, mesh.SubmitOptions{}); err != nil {
		t.Fatal(err)
	}
	r.connect(a, b, cla.LAN)
	if err := b.purge(bundle.NewPurgeRecord(x, key)); err != nil {
		t.Fatal(err)
	}
	r.advance(time.Minute)
	if !a.store.Holds(x.ID()) || a.state(x.ID()) != "purged" || b.store.Holds(x.ID()) {
		t.Fatalf("origin %s (on disk %v), relay on disk %v", a.state(x.ID()), a.store.Holds(x.ID()), b.store.Holds(x.ID()))
	}
	a.start() // and through a restart
	if !a.store.Holds(x.ID()) || a.state(x.ID()) != "purged" {
		t.Fatalf("after a restart: %s", a.state(x.ID()))
	}
	r.advance(2 * time.Hour)
	if bundles, tombs := a.store.Len(); bundles+tombs != 0 {
		t.Fatal("it outlives its lifetime")
	}
}

func TestAgeGoesOnAcrossHopsAndRestarts(t *testing.T) {
	r := newRig(t)
	a, b := r.node(1, nil), r.node(2, nil)
	x := msg(t, 1, 100, 0) // an hour
	if err := a.submit(x, mesh.SubmitOptions{}); err != nil {
		t.Fatal(err)
	}
	r.advance(25 * time.Minute)
	r.connect(a, b, cla.LAN)
	r.advance(20 * time.Minute)
	b.start() // node time is the rig's: it goes on
	if got := b.Explain(r.now, x.ID()).Age; got < 44*time.Minute || got > 46*time.Minute {
		t.Fatalf("age %v after 45 minutes and a restart", got)
	}
	r.advance(16 * time.Minute)
	for i, n := range []*rigNode{a, b} {
		if n.state(x.ID()) != "expired" || n.store.Holds(x.ID()) {
			t.Errorf("node %d after the lifetime: %s", i, n.state(x.ID()))
		}
		if n.drops(mesh.DropExpired) != 1 {
			t.Errorf("node %d counts %d expired", i, n.drops(mesh.DropExpired))
		}
	}
	if count(a, func(e mesh.Expired) bool { return e.ID == x.ID() && e.Own }) != 1 {
		t.Error("the origin was not told")
	}
	// Whoever brings it now is refused, and not because it is unknown.
	c := r.node(3, nil)
	old := x
	old.Hop.Age = 100
	if err := c.submit(old, mesh.SubmitOptions{}); err != nil {
		t.Fatal(err)
	}
	r.connect(b, c, cla.LAN)
	r.advance(time.Minute)
	if b.state(x.ID()) != "expired" {
		t.Fatalf("an expired bundle came back: %s", b.state(x.ID()))
	}
}

// The smallest age any neighbour states counts, within one lifetime of when
// the bundle came; at the origin none does.
func TestSmallestAge(t *testing.T) {
	r := newRig(t)
	a, b, c := r.node(1, nil), r.node(2, nil), r.node(3, nil)
	x := msg(t, 1, 100, 0)
	young, old := x, x
	old.Hop.Age = 3000
	for n, v := range map[*rigNode]bundle.Bundle{a: old, c: young} {
		if err := n.submit(v, mesh.SubmitOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	r.connect(a, b, cla.LAN)
	if got := b.Explain(r.now, x.ID()).Age; got != 3000*time.Second {
		t.Fatalf("age %v", got)
	}
	r.connect(c, b, cla.LAN) // c pushes nothing: b has it. It must be told by a BUNDLE.
	b.hearFrom(c, bundleFrame(1, young))
	r.run()
	if got := b.Explain(r.now, x.ID()).Age; got > 10*time.Second {
		t.Fatalf("age %v although a neighbour states 0", got)
	}
	a.hearFrom(b, bundleFrame(1, young))
	r.run()
	if got := a.Explain(r.now, x.ID()).Age; got < 3000*time.Second {
		t.Fatalf("the origin let itself be told an age: %v", got)
	}
}

// bundleFrame builds a BUNDLE frame by hand, as PROTOCOL.md has it.
func bundleFrame(num uint64, b bundle.Bundle) []byte {
	return b.Append(binary.AppendUvarint([]byte{0x42}, num))
}

// hearFrom hands x a frame as if peer had sent it.
func (x *rigNode) hearFrom(peer *rigNode, frame []byte) {
	for link, e := range x.peers {
		if e.node == peer {
			x.hear(link, frame)
			return
		}
	}
	x.r.t.Fatal("not connected")
}
