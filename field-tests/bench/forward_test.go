package bench

import (
	"context"
	"testing"
	"time"

	"outrider/field-tests/scenario"
)

// What decisions 27 and the references' baseline run fix.
const (
	forwardBundles = 5000
	forwardBytes   = 1024
	forwardLimit   = 5 * time.Minute
)

// BenchmarkForward1KB moves 5,000 bundles of 1 KiB from one process to another
// over loopback.
//
// Live: both are in contact while 16 clients submit; time runs from the first
// submission to the last arrival. Backlog: everything is submitted while the
// receiver's gate is shut; time runs from the contact to the last arrival.
func BenchmarkForward1KB(b *testing.B) {
	b.Run("live", func(b *testing.B) { benchForward(b, live) })
	b.Run("backlog", func(b *testing.B) { benchForward(b, backlog) })
}

// figures are what one run costs.
type figures struct {
	took   time.Duration
	submit time.Duration
	cpu    time.Duration
	fsyncs uint64
	rss    float64
}

func benchForward(b *testing.B, way func(context.Context, *Pair, *Load) (figures, error)) {
	var sum figures
	seed := uint64(0)
	runs := 0
	lost := 0
	for b.Loop() {
		seed++
		f, gone := forwardOnce(b, way, seed)
		sum.took, sum.submit, sum.cpu, sum.fsyncs = sum.took+f.took, sum.submit+f.submit, sum.cpu+f.cpu, sum.fsyncs+f.fsyncs
		sum.rss = max(sum.rss, f.rss)
		lost += gone
		runs++
	}
	bundles := float64(runs * forwardBundles)
	b.ReportMetric(bundles/sum.took.Seconds(), "bundles/s")
	b.ReportMetric(bundles/sum.submit.Seconds(), "submits/s")
	b.ReportMetric(float64(lost), "lost")
	b.ReportMetric(sum.rss, "rss-MB")
	b.ReportMetric(float64(sum.fsyncs)/float64(runs), "fsyncs")
	b.ReportMetric(float64(sum.cpu.Microseconds())/bundles, "cpu-us")
}

// forwardOnce makes a fresh pair and moves one load over it.
func forwardOnce(b *testing.B, way func(context.Context, *Pair, *Load) (figures, error), seed uint64) (figures, int) {
	b.Helper()
	ctx, cancel := context.WithTimeout(b.Context(), forwardLimit)
	defer cancel()
	p, err := NewPair(ctx, "lan", Loopback(Dir(b), Binary(b)))
	if err != nil {
		b.Fatal(err)
	}
	defer p.Kill()
	p.Profile(b)
	if err := p.Up(ctx); err != nil {
		b.Fatal(err)
	}
	l := NewLoad(forwardBundles, forwardBytes, seed)
	watching, stop := context.WithCancel(ctx)
	defer stop()
	end := l.Watch(watching, p.B)
	f, err := measured(ctx, p, func() (figures, error) { return way(ctx, p, l) })
	if err != nil {
		b.Fatalf("%v (lost %d)", err, l.Lost())
	}
	stop()
	<-end
	if err := p.Stop(); err != nil {
		b.Fatal(err)
	}
	return f, l.Lost()
}

// measured adds what both processes spent on a run.
func measured(ctx context.Context, p *Pair, run func() (figures, error)) (f figures, err error) {
	before, err := spent(ctx, p)
	if err != nil {
		return f, err
	}
	if f, err = run(); err != nil {
		return f, err
	}
	after, err := spent(ctx, p)
	f.cpu, f.fsyncs, f.rss = after.cpu-before.cpu, after.fsyncs-before.fsyncs, after.rss
	return f, err
}

func spent(ctx context.Context, p *Pair) (f figures, err error) {
	for _, box := range []*scenario.Box{p.A, p.B} {
		n, err := Syncs(ctx, box)
		if err != nil {
			return f, err
		}
		cpu, err := CPU(box.Pid())
		if err != nil {
			return f, err
		}
		rss, err := PeakRSS(box.Pid())
		if err != nil {
			return f, err
		}
		f.fsyncs, f.cpu, f.rss = f.fsyncs+n, f.cpu+cpu, max(f.rss, rss)
	}
	return f, nil
}

func live(ctx context.Context, p *Pair, l *Load) (f figures, err error) {
	start := time.Now()
	if err := l.Submit(ctx, p.A); err != nil {
		return f, err
	}
	f.submit = time.Since(start)
	err = l.Await(ctx)
	f.took = l.Last().Sub(start)
	return f, err
}

func backlog(ctx context.Context, p *Pair, l *Load) (f figures, err error) {
	if err := p.B.API.SetLink(ctx, p.AID, false); err != nil {
		return f, err
	}
	if err := p.Part(ctx); err != nil {
		return f, err
	}
	start := time.Now()
	if err := l.Submit(ctx, p.A); err != nil {
		return f, err
	}
	f.submit = time.Since(start)
	contact, err := p.reopen(ctx)
	if err != nil {
		return f, err
	}
	err = l.Await(ctx)
	f.took = l.Last().Sub(contact)
	return f, err
}
