package mesh_test

import (
	"context"
	"testing"

	"outrider/mesh"
	"outrider/mesh/bundle"
	"outrider/mesh/identity"
	"outrider/mesh/meshtest"
)

// An agent that reads all gets sprayed bundles too, and takes no replica from
// whoever gave them; the giver can be asked how bundles stand.
func TestGatewayGetsEverything(t *testing.T) {
	a := startNode(t, 1, meshtest.NewStore(1), nil)
	gate := startNode(t, 2, meshtest.NewStore(2), func(c *mesh.ShellConfig) { c.ReadsAll, c.Blind = true, true })
	big, _ := makeBundle(t, tagOf(1), 1, 20_000, bundle.Routine)
	small, _ := makeBundle(t, tagOf(2), 2, 100, bundle.Routine)
	if err := a.Submit(context.Background(), big, mesh.SubmitOptions{Budget: 1}); err != nil { // its last replica
		t.Fatal(err)
	}
	submit(t, a, small)
	events := a.Events()
	join(t, a, gate, 1, lan)
	for range 2 {
		wait(t, events, func(c mesh.Carried) bool { return c.AtReader })
	}
	ids := []bundle.ID{big.ID(), small.ID(), {9}}
	for _, sh := range []*testNode{a, gate} {
		list := sh.Standings(ids)
		if len(list) != 3 || !list[0].Settled() || !list[1].Settled() || list[2].Settled() || list[2].Refused() || list[0].Own != (sh == a) {
			t.Errorf("%+v", list)
		}
	}
	if x := a.Explain(big.ID()); x.Budget != 1 {
		t.Errorf("the gateway took a replica: %d are left", x.Budget)
	}
	a.Watch([]identity.Tag{tagOf(5)}, nil)
	a.WatchQuiet([]identity.Tag{tagOf(6)}, nil)
	if tags := a.Served(); len(tags) != 2 {
		t.Errorf("%d tags", len(tags))
	}
}
