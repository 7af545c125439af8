package mesh_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
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

func control(t testing.TB, n uint64, payload string, life time.Duration) bundle.Bundle {
	t.Helper()
	var key bundle.PurgeKey
	binary.BigEndian.PutUint64(key[:], n)
	b, err := bundle.New(bundle.Header{Version: 1, Tag: tagOf(200), Lifetime: life, Commitment: key.Commit(tagOf(200)), Kind: bundle.KindControl}, []byte(payload), 0)
	if err != nil {
		t.Fatal(err)
	}
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
	if st := a.Status(r.now); st.Known != 1 || st.Bytes != 260 {
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

func TestFullNodeRefusesOwnMailAndEvictsNoneOfIt(t *testing.T) {
	r := newRig(t)
	a := r.node(1, func(c *mesh.Config) { c.Limits.Bytes = 10 * 1160 })
	for i := range 10 {
		if err := a.submit(msg(t, uint64(i), 1000, 0), mesh.SubmitOptions{}); err != nil {
			t.Fatalf("bundle %d of 10: %v", i+1, err)
		}
	}
	if err := a.submit(msg(t, 11, 1000, bundle.Flash), mesh.SubmitOptions{}); !errors.Is(err, mesh.ErrFull) {
		t.Fatalf("the eleventh: %v", err)
	}
	if n, _ := a.store.Len(); n != 10 {
		t.Fatalf("%d bundles left", n)
	}
}

func TestEvictionForHigherPrecedenceOnly(t *testing.T) {
	r := newRig(t)
	// Room for 10 relayed bundles of 1,000 B: 70 % of the limit.
	relay := r.node(5, func(c *mesh.Config) { c.Limits.Bytes = 11700 * 100 / 70 })
	a, b := r.node(1, nil), r.node(2, nil)
	cutA := r.connect(a, relay, cla.LAN)
	r.connect(b, relay, cla.LAN)
	for i := range 5 {
		for j, n := range []*rigNode{a, b} {
			x := msg(t, uint64(10*i+j), 1000, bundle.Priority)
			if err := n.submit(x, mesh.SubmitOptions{}); err != nil {
				t.Fatal(err)
			}
		}
	}
	r.advance(time.Minute)
	cutA()
	same, higher := msg(t, 100, 1000, bundle.Priority), msg(t, 101, 1000, bundle.Immediate)
	for _, x := range []bundle.Bundle{same, higher} {
		if err := b.submit(x, mesh.SubmitOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	r.advance(time.Minute)
	if got := relay.state(same.ID()); got != "refused" {
		t.Errorf("equal precedence: %s", got)
	}
	if got := relay.state(higher.ID()); got != "held" {
		t.Errorf("higher precedence: %s", got)
	}
	if relay.drops(mesh.DropEvicted) != 1 {
		t.Errorf("%d evicted, want 1", relay.drops(mesh.DropEvicted))
	}
	st := relay.Status(r.now)
	if st.Wanted != 2 || st.Bytes > st.MaxByte*70/100 {
		t.Errorf("%d wanted, %d bytes of %d", st.Wanted, st.Bytes, st.MaxByte)
	}
	// Space comes back: what was refused is asked for.
	for i := range 4 {
		x, key := makeBundle(t, tagOf(9), uint64(10*i+1), 1000, bundle.Priority)
		if err := b.purge(bundle.NewPurgeRecord(x, key)); err != nil {
			t.Fatal(err)
		}
	}
	r.advance(20 * time.Minute)
	if got := relay.state(same.ID()); got != "held" {
		t.Errorf("after space came back: %s", got)
	}
	r.noLeaks()
}

func TestOneNeighbourCannotFillTheNode(t *testing.T) {
	r := newRig(t)
	relay := r.node(9, func(c *mesh.Config) { c.Limits.Bytes = 100 * 1160 })
	flooder := r.node(1, nil)
	for i := byte(2); i < 8; i++ { // six more neighbours
		r.connect(r.node(i, nil), relay, cla.LAN)
	}
	r.connect(flooder, relay, cla.LAN)
	for i := range 100 {
		if err := flooder.submit(msg(t, uint64(i), 1000, 0), mesh.SubmitOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	r.advance(time.Minute)
	st := relay.Status(r.now)
	if max := 70 * 25 / 100; st.Held > max || st.Held < max-1 {
		t.Fatalf("%d of the flooder's bundles held, want a quarter of 70", st.Held)
	}
	if relay.drops(mesh.DropShare) == 0 || st.Wanted == 0 {
		t.Fatalf("refusals are not counted: %+v", st.Counters.Dropped)
	}
}

// A neighbour that has used up its share still gets FLASH through: its own
// bundles of lower precedence make room.
func TestShareGivesWayToTheSameNeighboursFlash(t *testing.T) {
	r := newRig(t)
	relay := r.node(9, func(c *mesh.Config) { c.Limits.Bytes = 100 * 1160 })
	a := r.node(1, nil)
	for i := byte(2); i < 6; i++ {
		r.connect(r.node(i, nil), relay, cla.LAN)
	}
	r.connect(a, relay, cla.LAN)
	for i := range 30 {
		if err := a.submit(msg(t, uint64(i), 1000, 0), mesh.SubmitOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	flash := msg(t, 99, 1000, bundle.Flash)
	if err := a.submit(flash, mesh.SubmitOptions{}); err != nil {
		t.Fatal(err)
	}
	r.advance(time.Minute)
	if got := relay.state(flash.ID()); got != "held" || relay.drops(mesh.DropEvicted) != 1 {
		t.Fatalf("flash is %s after %d evictions", got, relay.drops(mesh.DropEvicted))
	}
}

func TestFlashBeyondItsRateIsServedAsRoutine(t *testing.T) {
	r := newRig(t)
	a, b := r.node(1, nil), r.node(2, nil)
	r.connect(a, b, cla.LAN)
	var all []bundle.Bundle
	for i := range 13 {
		x := msg(t, uint64(i), 300, bundle.Flash)
		all = append(all, x)
		if err := a.submit(x, mesh.SubmitOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	demoted := 0
	for _, x := range all {
		e := b.Explain(r.now, x.ID())
		if e.Precedence != bundle.Flash || e.State != "held" {
			t.Fatalf("header or custody suffered: %+v", e)
		}
		if e.Served == bundle.Routine {
			demoted++
		}
	}
	if demoted != 1 || b.Status(r.now).Counters.Demoted != 1 {
		t.Fatalf("%d of 13 demoted, want the one beyond 12 a minute", demoted)
	}
	b.start()
	if got := b.Explain(r.now, all[12].ID()).Served; got != bundle.Routine {
		t.Fatalf("served as %v after a restart", got)
	}
	r.advance(time.Minute)
	x := msg(t, 99, 300, bundle.Flash)
	r.connect(a, b, cla.LAN)
	if err := a.submit(x, mesh.SubmitOptions{}); err != nil {
		t.Fatal(err)
	}
	if got := b.Explain(r.now, x.ID()).Served; got != bundle.Flash {
		t.Fatalf("a minute later it is served as %v", got)
	}
}

func TestReplicaBudgetIsWrittenBeforeTheReplicaIsSent(t *testing.T) {
	r := newRig(t)
	a, b := r.node(1, nil), r.node(2, nil)
	x := msg(t, 1, 10_000, 0) // 12 replicas
	if err := a.submit(x, mesh.SubmitOptions{}); err != nil {
		t.Fatal(err)
	}
	r.connect(a, b, cla.LAN)
	a.hold = true // not reached: the connection ran it all
	if rec, _, err := a.store.Load(t.Context(), x.ID()); err != nil || rec.Meta.Budget != 6 {
		t.Fatalf("budget on disk %d, %v", rec.Meta.Budget, err)
	}
	if rec, _, err := b.store.Load(t.Context(), x.ID()); err != nil || rec.Meta.Budget != 6 {
		t.Fatalf("budget given %d, %v", rec.Meta.Budget, err)
	}
	// With the store slow, nothing goes out.
	c := r.node(3, nil)
	a.frames = nil
	r.connect(a, c, cla.LAN)
	if a.sentFrames("BUNDLE") != 0 || a.Explain(r.now, x.ID()).Budget != 3 {
		t.Fatalf("sent %v before the budget was on disk", a.frames)
	}
	// A crash now: a replica too few, none too many, and not lost.
	a.hold = false
	a.start()
	if got := a.Explain(r.now, x.ID()).Budget; got != 6 {
		t.Fatalf("budget %d after a crash before the commit", got)
	}
	r.noLeaks()
}

func TestReplicaThatDidNotArriveComesBack(t *testing.T) {
	r := newRig(t)
	a, b := r.node(1, nil), r.node(2, nil)
	x := msg(t, 1, 60_000, 0) // 6 replicas
	if err := a.submit(x, mesh.SubmitOptions{}); err != nil {
		t.Fatal(err)
	}
	n := 0
	cut := r.connectWatching(a, b, cla.Radio, func(kind string) bool {
		if kind == "DATA" {
			n++
		}
		return n < 5
	})
	if got := a.Explain(r.now, x.ID()).Budget; got != 3 {
		t.Fatalf("budget %d while sending", got)
	}
	cut()
	if got := a.Explain(r.now, x.ID()).Budget; got != 6 {
		t.Fatalf("budget %d after the cut", got)
	}
}

// The last replica finds its reader across nodes that do not read it.
func TestLastReplicaFollowsThePath(t *testing.T) {
	r := newRig(t)
	var chain []*rigNode
	for i := range 8 {
		chain = append(chain, r.node(byte(i+1), nil))
	}
	x, _ := makeBundle(t, tagOf(9), 1, 9000, bundle.Routine)
	if err := chain[0].submit(x, mesh.SubmitOptions{Budget: 1}); err != nil {
		t.Fatal(err)
	}
	chain[7].watch(tagOf(9))
	for i := range 7 {
		r.connect(chain[i], chain[i+1], cla.LAN)
	}
	r.advance(2 * time.Minute)
	if chain[7].arrivals(x.ID()) != 1 {
		for i, n := range chain {
			t.Logf("node %d: %+v", i, n.Explain(r.now, x.ID()))
		}
		t.Fatal("did not arrive")
	}
	if chain[0].state(x.ID()) != "held" {
		t.Fatal("the origin let its own copy go")
	}
}

func TestOpsecFloodsAndTellsNoTag(t *testing.T) {
	r := newRig(t)
	opsec := func(c *mesh.Config) { c.Opsec = true }
	a, b, c := r.node(1, opsec), r.node(2, opsec), r.node(3, opsec)
	c.watch(tagOf(9))
	r.connect(a, b, cla.LAN)
	r.connect(b, c, cla.LAN)
	x := msg(t, 1, 60_000, 0)
	if err := a.submit(x, mesh.SubmitOptions{}); err != nil {
		t.Fatal(err)
	}
	r.advance(time.Minute)
	if c.arrivals(x.ID()) != 1 {
		t.Fatal("did not arrive")
	}
	for i, n := range r.nodes {
		if n.sentFrames("TAGS")+n.sentFrames("QUERY") != 0 {
			t.Errorf("node %d told tags", i)
		}
	}
}

func TestControlObjectsWaitForTheirParents(t *testing.T) {
	r := newRig(t)
	a, b := r.node(1, nil), r.node(2, nil)
	known := false
	b.judge = func(p []byte) mesh.Judgement {
		j := mesh.Judgement{Code: mesh.VerdictAccept, Key: [16]byte{p[0]}, Number: 1}
		if p[0] == 'c' && !known {
			j.Code = mesh.VerdictLater
		}
		return j
	}
	child, parent := control(t, 1, "child", time.Hour), control(t, 2, "parent", time.Hour)
	if err := a.submit(child, mesh.SubmitOptions{}); err != nil {
		t.Fatal(err)
	}
	r.connect(a, b, cla.LAN)
	if got := b.Status(r.now).Put; b.state(child.ID()) != "unknown" || got != 1 {
		t.Fatalf("state %s, %d put off", b.state(child.ID()), got)
	}
	if err := a.submit(parent, mesh.SubmitOptions{}); err != nil {
		t.Fatal(err)
	}
	if b.arrivals(parent.ID()) != 1 {
		t.Fatal("control objects are announced whatever is watched")
	}
	known = true // the roster has applied it
	if err := b.consume(parent.ID()); err != nil {
		t.Fatal(err)
	}
	if b.state(child.ID()) != "held" {
		t.Fatalf("after its parent came: %s", b.state(child.ID()))
	}
	if err := b.submit(control(t, 3, "c2", time.Hour), mesh.SubmitOptions{}); err != nil {
		t.Fatal(err)
	}
	known = false
	if err := b.submit(control(t, 4, "c3", time.Hour), mesh.SubmitOptions{}); !errors.Is(err, mesh.ErrLater) {
		t.Fatalf("submitted before its parent: %v", err)
	}
	r.noLeaks()
}

func versions(p []byte) mesh.Judgement {
	if p[0] == 'x' {
		return mesh.Judgement{Code: mesh.VerdictForged}
	}
	return mesh.Judgement{Code: mesh.VerdictAccept, Key: [16]byte{p[0]}, Number: uint64(p[1])}
}

func TestNewestControlObjectOnly(t *testing.T) {
	r := newRig(t)
	a, b, c := r.node(1, nil), r.node(2, nil), r.node(3, nil)
	for _, n := range r.nodes {
		n.judge = versions
	}
	v1, v2 := control(t, 1, "k1", time.Hour), control(t, 2, "k2", time.Hour)
	if err := a.submit(v1, mesh.SubmitOptions{}); err != nil {
		t.Fatal(err)
	}
	if err := c.submit(v2, mesh.SubmitOptions{}); err != nil {
		t.Fatal(err)
	}
	r.connect(a, b, cla.LAN)
	r.connect(b, c, cla.LAN)
	r.advance(time.Minute)
	for i, n := range r.nodes {
		if n.store.Holds(v1.ID()) || !n.store.Holds(v2.ID()) {
			t.Errorf("node %d holds the old one %v, the new one %v", i, n.store.Holds(v1.ID()), n.store.Holds(v2.ID()))
		}
		if n.Status(r.now).Root != a.Status(r.now).Root {
			t.Errorf("node %d: sets differ for good", i)
		}
	}
	if err := a.submit(v1, mesh.SubmitOptions{}); err == nil {
		t.Error("an old version was taken back")
	}
	if err := a.submit(control(t, 9, "x9", time.Hour), mesh.SubmitOptions{}); !errors.Is(err, mesh.ErrRefused) {
		t.Errorf("a forged object: %v", err)
	}
}

// Nobody can make a control object die early by putting another header
// around it, nor by a purge key of their own.
func TestControlObjectInAnotherHeader(t *testing.T) {
	r := newRig(t)
	a := r.node(1, nil)
	a.judge = versions
	real := control(t, 1, "k1", 24*time.Hour)
	if err := a.submit(real, mesh.SubmitOptions{}); err != nil {
		t.Fatal(err)
	}
	short := control(t, 2, "k1", time.Minute)
	if err := a.submit(short, mesh.SubmitOptions{}); err == nil || a.state(real.ID()) != "held" {
		t.Fatalf("a shorter life replaced the object: %v", err)
	}
	long := control(t, 3, "k1", 48*time.Hour)
	if err := a.submit(long, mesh.SubmitOptions{}); err != nil {
		t.Fatal(err)
	}
	var key bundle.PurgeKey
	binary.BigEndian.PutUint64(key[:], 3)
	if err := a.purge(bundle.NewPurgeRecord(long, key)); !errors.Is(err, mesh.ErrRefused) || a.state(long.ID()) != "held" {
		t.Fatalf("a control object was purged: %v, %s", err, a.state(long.ID()))
	}
}

func TestTwoNewControlObjectsADay(t *testing.T) {
	r := newRig(t)
	a, b := r.node(1, nil), r.node(2, nil)
	for _, n := range r.nodes {
		n.judge = versions
	}
	r.connect(a, b, cla.LAN)
	for v := byte(1); v <= 3; v++ {
		if err := a.submit(control(t, uint64(v), string([]byte{'k', v}), 90*24*time.Hour), mesh.SubmitOptions{}); err != nil {
			t.Fatal(err)
		}
		r.advance(time.Second)
	}
	third := control(t, 3, string([]byte{'k', 3}), 90*24*time.Hour).ID()
	if b.state(third) == "held" {
		t.Fatal("a third version within a day was taken at once")
	}
	r.advance(25 * time.Hour)
	if b.state(third) != "held" {
		t.Fatalf("a day later it is %s", b.state(third))
	}
}

func TestFailedSupersedingKeepsTheOld(t *testing.T) {
	r := newRig(t)
	a := r.node(1, nil)
	a.judge = versions
	v1, v2 := control(t, 1, "k1", time.Hour), control(t, 2, "k2", time.Hour)
	if err := a.submit(v1, mesh.SubmitOptions{}); err != nil {
		t.Fatal(err)
	}
	root := a.Status(r.now).Root
	a.store.Fail = func([]mesh.Op) error { return errors.New("no") }
	if err := a.submit(v2, mesh.SubmitOptions{}); err == nil {
		t.Fatal("stored in a broken store")
	}
	if a.state(v1.ID()) != "held" || a.Status(r.now).Root != root {
		t.Fatalf("the old version is %s", a.state(v1.ID()))
	}
	a.store.Fail = nil
	if err := a.submit(v2, mesh.SubmitOptions{}); err != nil || a.state(v1.ID()) != "superseded" {
		t.Fatalf("%v, %s", err, a.state(v1.ID()))
	}
}

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
