package wire

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"outrider/field-tests/bench"
	"outrider/field-tests/linkemu"
	"outrider/field-tests/netns"
	"outrider/field-tests/scenario"
)

// What decisions 21 fixes, and how much bulk lies beside.
const (
	flashBytes  = 300
	flashEvery  = 10 * time.Second
	flashCount  = 200 // OUTRIDER_FLASH_SAMPLES asks for fewer, to look
	bulkBytes   = 2048
	bulkAlone   = 2 * time.Minute
	flashTag    = "eaaaaaaaaaaab"
	bulkTag     = "eaaaaaaaaaaac"
	flashMargin = 20 * time.Minute // beyond the samples, for set-up and what is late
)

// BenchmarkFlash measures how long a FLASH bundle of 300 bytes takes over an
// emulated half-duplex radio without loss, from the call that submits it to
// its durable arrival at the far node, one every 10 s, while bulk of 2 KiB
// bundles (ROUTINE) fills the link (decisions 21; aims: p99 of 250, 500, 1,000
// ms).
//
//	p50-ms, p99-ms, max-ms  of the samples
//	samples                 that arrived; less than were sent fails
//	bulk-%                  bulk payload in per cent of the link's bits, before
//	                        any FLASH
//	beside-%                the same beside FLASH, whose own payload is not in it
//
// The nodes meet before the link is made slow, and the emulated radio adds
// 5 ms of delay and no keying time to a frame.
func BenchmarkFlash(b *testing.B) {
	for _, r := range []struct {
		name, profile string
		rate          float64
	}{{"256k", "wifi", 256e3}, {"64k", "radio", 64e3}, {"9k6", "radio", 9600}} {
		b.Run(r.name, func(b *testing.B) {
			for b.Loop() {
				flash(b, r.profile, r.rate)
			}
		})
	}
}

func flashSamples(b *testing.B) int {
	text := os.Getenv("OUTRIDER_FLASH_SAMPLES")
	if text == "" {
		return flashCount
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 1 {
		b.Fatalf("OUTRIDER_FLASH_SAMPLES=%q: want a number from 1", text)
	}
	return n
}

// arrivals notes when what came.
type arrivals struct {
	mu sync.Mutex
	at map[string]time.Time // by the payload's hash
}

func (a *arrivals) saw(sha string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if _, known := a.at[sha]; !known {
		a.at[sha] = time.Now()
	}
}

func (a *arrivals) of(payload []byte) (time.Time, bool) {
	h := sha256.Sum256(payload)
	a.mu.Lock()
	defer a.mu.Unlock()
	at, ok := a.at[hex.EncodeToString(h[:])]
	return at, ok
}

// between counts what came in a stretch of time.
func (a *arrivals) between(from, to time.Time) (n int) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, at := range a.at {
		if !at.Before(from) && at.Before(to) {
			n++
		}
	}
	return n
}

func flash(b *testing.B, profile string, rate float64) {
	b.Helper()
	samples := flashSamples(b)
	length := time.Duration(samples)*flashEvery + bulkAlone
	ctx, cancel := context.WithTimeout(b.Context(), length+flashMargin)
	defer cancel()
	world := netns.New(b, linkemu.Scenario{
		Nodes: []string{"a", "b"},
		Nets:  []linkemu.Net{{Name: "air", Subnet: "10.79.0.0/24", Duplex: "half", DelayMS: 5, Rate: 10e6}},
	})
	pair, err := bench.NewPair(ctx, profile, boxes(world, bench.Dir(b), bench.Binary(b)))
	if err != nil {
		b.Fatal(err)
	}
	defer pair.Kill()
	if err := pair.Up(ctx); err != nil {
		b.Fatal(err)
	}
	urgent, bulk := &arrivals{at: map[string]time.Time{}}, &arrivals{at: map[string]time.Time{}}
	watching, stop := context.WithCancel(ctx)
	defer stop()
	for tag, a := range map[string]*arrivals{flashTag: urgent, bulkTag: bulk} {
		go func() { _ = pair.B.API.Arrived(watching, tag, a.saw) }()
	}
	if err := world.Apply(linkemu.Change{Net: "air", Rate: &rate}); err != nil {
		b.Fatal(err)
	}
	n := int(rate/8*length.Seconds()/bulkBytes) + 1 // as much as the link could carry if it carried nothing else
	if err := fillBulk(ctx, pair.A, n); err != nil {
		b.Fatal(err)
	}
	begin := time.Now()
	<-time.After(bulkAlone)
	middle := time.Now()
	sent, err := sendFlash(ctx, pair.A, samples)
	if err != nil {
		b.Fatalf("%v\na: %s\nb: %s", err, pair.A.Tail(), pair.B.Tail())
	}
	end := time.Now()
	took, err := latencies(ctx, urgent, sent)
	if err != nil {
		b.Errorf("%v\na: %s\nb: %s", err, pair.A.Tail(), pair.B.Tail())
	}
	share := func(from, to time.Time) float64 {
		return 100 * float64(bulk.between(from, to)*bulkBytes*8) / (rate * to.Sub(from).Seconds())
	}
	if len(took) > 0 {
		for name, q := range map[string]float64{"p50-ms": 0.5, "p99-ms": 0.99, "max-ms": 1} {
			b.ReportMetric(float64(took[int(q*float64(len(took)-1)+0.5)].Microseconds())/1000, name)
		}
	}
	b.ReportMetric(float64(len(took)), "samples")
	b.ReportMetric(share(begin, middle), "bulk-%")
	b.ReportMetric(share(middle, end), "beside-%")
}

// submit gives a node a bundle of its own.
func submit(ctx context.Context, box *scenario.Box, tag, precedence string, payload []byte) error {
	path := fmt.Sprintf("/v1/bundles?lifetime_min=600&tag=%s&precedence=%s", tag, precedence)
	return box.API.Do(ctx, "POST", path, bytes.NewReader(payload), nil)
}

func randomBytes(r *rand.ChaCha8, n int) []byte {
	out := make([]byte, n)
	r.Read(out)
	return out
}

func fillBulk(ctx context.Context, box *scenario.Box, n int) error {
	r := rand.NewChaCha8([32]byte{21})
	for range n {
		if err := submit(ctx, box, bulkTag, "routine", randomBytes(r, bulkBytes)); err != nil {
			return err
		}
	}
	return nil
}

type sample struct {
	payload []byte
	at      time.Time
}

func sendFlash(ctx context.Context, box *scenario.Box, n int) (sent []sample, err error) {
	// The node may just be closing the connection that was idle meanwhile; a
	// question is asked again by itself, a submission is not.
	if _, err := box.API.Status(ctx); err != nil {
		return nil, err
	}
	r := rand.NewChaCha8([32]byte{22})
	tick := time.NewTicker(flashEvery)
	defer tick.Stop()
	for range n {
		s := sample{payload: randomBytes(r, flashBytes), at: time.Now()}
		if err := submit(ctx, box, flashTag, "flash", s.payload); err != nil {
			return sent, err
		}
		sent = append(sent, s)
		select {
		case <-tick.C:
		case <-ctx.Done():
			return sent, ctx.Err()
		}
	}
	return sent, nil
}

// latencies waits for what is on its way and returns how long each took, in
// ascending order.
func latencies(ctx context.Context, a *arrivals, sent []sample) (took []time.Duration, err error) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Minute)
	defer cancel()
	for _, s := range sent {
		perr := scenario.Poll(ctx, "a FLASH bundle to arrive", func() (bool, error) {
			_, ok := a.of(s.payload)
			return ok, nil
		})
		if perr != nil {
			err = fmt.Errorf("%d of %d FLASH bundles did not arrive: %w", len(sent)-len(took), len(sent), perr)
			continue
		}
		at, _ := a.of(s.payload)
		took = append(took, at.Sub(s.at))
	}
	slices.Sort(took)
	return took, err
}
