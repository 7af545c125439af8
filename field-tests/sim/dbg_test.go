package sim

import (
	"fmt"
	"testing"

	"outrider/mesh"
	"outrider/mesh/bundle"
)

func TestDbg(t *testing.T) {
	c := standard(42)
	dbgHook = func(w *World) {
		key := [16]byte{2, 0}
		for _, n := range w.nodes {
			s := ""
			for r := range n.store.Records() {
				_, p, _ := n.store.Load(background, r.ID)
				if r.Header.Kind == bundle.KindControl && len(p) == 48 && [16]byte(p) == key {
					s += fmt.Sprintf(" %v n=%d cons=%v life=%v tag=%v dl=%d;", r.ID.String()[:8], p[39], r.Meta.Consumed, r.Header.Lifetime, r.Header.Tag, r.Meta.Deadline)
				}
			}
			st := n.machine.Status(n.time())
			t.Logf("node %d applied %d: %s known=%d later %d judging %d root %x drops %v", n.index, n.applied[key], s, st.Known, st.Put, st.Judging, st.Root[:3], st.Counters.Dropped)
		}
	}
	_, _, b := Run(c)
	t.Log(b)
	_ = mesh.Time(0)
}
