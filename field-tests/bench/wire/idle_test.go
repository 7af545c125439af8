package wire

import (
	"context"
	"path/filepath"
	"testing"
	"time"

	"outrider/field-tests/bench"
	"outrider/field-tests/linkemu"
	"outrider/field-tests/netns"
)

const (
	idleSettle = 90 * time.Second // from the contact until what comes with it is over
	idleWindow = 5 * time.Minute
)

// BenchmarkIdle measures what two nodes of a network that are in contact and
// have nothing to say put on a LAN: all Ethernet frames in both directions,
// over five minutes, as bytes of an hour.
//
//	mesh-B/h    of the link that carries bundles
//	gossip-B/h  of what finds neighbours
//	idle-B/h    of everything, ARP included
func BenchmarkIdle(b *testing.B) {
	for _, profile := range []string{"lan", "wifi", "radio"} {
		b.Run(profile, func(b *testing.B) {
			for b.Loop() {
				idle(b, profile)
			}
		})
	}
}

func idle(b *testing.B, profile string) {
	b.Helper()
	ctx, cancel := context.WithTimeout(b.Context(), limit)
	defer cancel()
	dir := bench.Dir(b)
	world := netns.New(b, linkemu.Scenario{
		Nodes: []string{"a", "b"},
		Nets:  []linkemu.Net{{Name: "air", Subnet: "10.80.0.0/24", DelayMS: 1}},
	})
	pair, err := bench.NewPair(ctx, profile, boxes(world, dir, bench.Binary(b)))
	if err != nil {
		b.Fatal(err)
	}
	defer pair.Kill()
	if err := pair.Up(ctx); err != nil {
		b.Fatal(err)
	}
	<-time.After(idleSettle)
	path := filepath.Join(dir, "idle.pcap")
	capture, err := world.Node("a").Capture("air", path)
	if err != nil {
		b.Fatal(err)
	}
	w := []Window{{From: time.Now()}}
	<-time.After(idleWindow)
	w[0].To = time.Now()
	if r, err := capture.Close(); err != nil {
		b.Fatalf("capture of %d frames, %d dropped: %v", r.Packets, r.Dropped, err)
	}
	hour := float64(time.Hour) / float64(w[0].To.Sub(w[0].From))
	for unit, port := range map[string]uint16{"mesh-B/h": uint16(pair.A.Mesh), "gossip-B/h": uint16(pair.A.Gossip), "idle-B/h": AnyPort} {
		sizes, _, err := Count(path, port, w)
		if err != nil {
			b.Fatal(err)
		}
		b.ReportMetric(float64(sizes[0])*hour, unit)
	}
}
