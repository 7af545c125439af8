package mesh_test

import (
	"context"
	"sync"
	"testing"
	"time"

	"outrider/mesh"
	"outrider/mesh/bundle"
	"outrider/mesh/identity"
	"outrider/mesh/meshtest"
)

// BenchmarkShellForward1KB moves bundles of 1 KB from one agent to another
// over a link and stores in memory: what the agent itself costs, without disk
// and transport. 16 clients submit, each bundle alone.
func BenchmarkShellForward1KB(b *testing.B) {
	const batch = 5000
	var took time.Duration
	lost := 0
	n := uint64(0)
	for b.Loop() {
		x, y := startNode(b, 1, meshtest.NewStore(1), nil), startNode(b, 2, meshtest.NewStore(2), nil)
		got := y.Events()
		y.Watch([]identity.Tag{tagOf(1)}, nil)
		cut := join(b, x, y, 1, lan)
		bundles := make([]bundle.Bundle, batch)
		for i := range bundles {
			n++
			bundles[i], _ = makeBundle(b, tagOf(1), n, 1000, bundle.Routine)
		}
		begin := time.Now()
		next := make(chan bundle.Bundle)
		var clients sync.WaitGroup
		for range 16 {
			clients.Go(func() {
				for msg := range next {
					if err := x.Submit(context.Background(), msg, mesh.SubmitOptions{}); err != nil {
						b.Error(err)
					}
				}
			})
		}
		for _, msg := range bundles {
			next <- msg
		}
		close(next)
		clients.Wait()
		seen := map[bundle.ID]bool{}
		for len(seen) < batch {
			seen[wait(b, got, func(mesh.Arrived) bool { return true }).ID] = true
		}
		took += time.Since(begin)
		lost += batch - len(seen)
		cut()
		x.stop()
		y.stop()
	}
	b.ReportMetric(float64(batch*b.N)/took.Seconds(), "bundles/s")
	b.ReportMetric(float64(lost), "lost")
}
