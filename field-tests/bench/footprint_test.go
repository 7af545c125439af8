package bench

import (
	"context"
	"os"
	"testing"
	"time"

	"outrider/field-tests/scenario"
)

// idleAfter is how long a node is left alone before its memory is read.
const idleAfter = 10 * time.Second

// BenchmarkFootprint measures a node that does nothing: a member of a network
// with a user, its page, mesh and gossip listening, alone.
func BenchmarkFootprint(b *testing.B) {
	bin := Binary(b)
	st, err := os.Stat(bin)
	if err != nil {
		b.Fatal(err)
	}
	var rss, start float64
	runs := 0
	for b.Loop() {
		m, s := footprint(b, bin)
		rss, start, runs = rss+m, start+s, runs+1
	}
	b.ReportMetric(rss/float64(runs), "rss-MB")
	b.ReportMetric(start/float64(runs), "start-ms")
	b.ReportMetric(float64(st.Size())/1e6, "binary-MB")
}

// footprint starts a node for the second time, since the first makes the
// database, and returns its memory when idle and the time to its first answer.
func footprint(b *testing.B, bin string) (rssMiB, startMS float64) {
	b.Helper()
	ctx, cancel := context.WithTimeout(b.Context(), 2*time.Minute)
	defer cancel()
	box, err := member(ctx, Dir(b), bin)
	if err != nil {
		b.Fatal(err)
	}
	defer box.Kill()
	if err := box.Up(ctx); err != nil {
		b.Fatal(err)
	}
	if err := box.Stop(); err != nil {
		b.Fatal(err)
	}
	begin := time.Now()
	answered := firstAnswer(ctx, box)
	if err := box.Up(ctx); err != nil {
		b.Fatal(err)
	}
	at := <-answered
	if at.IsZero() {
		b.Fatal("the socket never answered")
	}
	<-time.After(idleAfter)
	if rssMiB, err = RSS(box.Pid()); err != nil {
		b.Fatal(err)
	}
	if err := box.Stop(); err != nil {
		b.Fatal(err)
	}
	return rssMiB, float64(at.Sub(begin).Microseconds()) / 1000
}

// member makes a node with a network of its own and a user.
func member(ctx context.Context, dir, bin string) (*scenario.Box, error) {
	box, err := scenario.NewBox(dir, "n", bin, "127.0.0.1")
	if err != nil {
		return nil, err
	}
	if _, err := box.Init(ctx); err != nil {
		return nil, err
	}
	if err := box.Configure("lan", ""); err != nil {
		return nil, err
	}
	if err := box.CreateNetwork(ctx, "bench"); err != nil {
		return nil, err
	}
	return box, box.HostUser(ctx, "alice")
}

// firstAnswer asks until the socket answers, a hundred times as often as
// scenario does, and sends the moment it did.
func firstAnswer(ctx context.Context, box *scenario.Box) <-chan time.Time {
	at := make(chan time.Time, 1)
	go func() {
		defer close(at)
		tick := time.NewTicker(time.Millisecond / 2)
		defer tick.Stop()
		for ctx.Err() == nil {
			if _, err := box.API.Status(ctx); err == nil {
				at <- time.Now()
				return
			}
			<-tick.C
		}
	}()
	return at
}
