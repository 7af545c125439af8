package mesh_test

import (
	"errors"
	"testing"
	"time"

	"outrider/mesh"
	"outrider/mesh/bundle"
	"outrider/mesh/cla"
)

func TestFullNodeRefusesOwnMailAndEvictsNoneOfIt(t *testing.T) {
	r := newRig(t)
	a := r.node(1, func(c *mesh.Config) { c.Limits.Bytes = 10 * (1000 + mesh.RecordCost) })
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
	relay := r.node(5, func(c *mesh.Config) { c.Limits.Bytes = 12660 * 100 / 70 })
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

// What neighbours may fill is what the node does not keep for its own.
func TestReserveAsConfigured(t *testing.T) {
	for reserve, want := range map[int]int{-1: 10, 0: 7, 40: 6, 90: 1} {
		r := newRig(t)
		relay := r.node(9, func(c *mesh.Config) {
			c.Limits.Bytes, c.Limits.Reserve = 10*(1000+mesh.RecordCost), reserve
		})
		a := r.node(1, nil)
		r.connect(a, relay, cla.LAN)
		for i := range 12 {
			if err := a.submit(msg(t, uint64(i), 1000, 0), mesh.SubmitOptions{}); err != nil {
				t.Fatal(err)
			}
		}
		r.advance(time.Minute)
		if st := relay.Status(r.now); st.Held != want || st.MaxRelayed != int64(want)*(1000+mesh.RecordCost) {
			t.Errorf("with %d %% reserved %d bundles are held in %d bytes, want %d", reserve, st.Held, st.MaxRelayed, want)
		}
	}
}

func TestOneNeighbourCannotFillTheNode(t *testing.T) {
	r := newRig(t)
	relay := r.node(9, func(c *mesh.Config) { c.Limits.Bytes = 100 * (1000 + mesh.RecordCost) })
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
	relay := r.node(9, func(c *mesh.Config) { c.Limits.Bytes = 100 * (1000 + mesh.RecordCost) })
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
