package bench

import (
	"context"
	"testing"
	"time"
)

// BenchmarkContact measures how long a waiting bundle waits once two nodes can
// talk: from the contact, which both sides have announced by then, to the
// bundle's arrival, durable and seen at the receiver's interface. gate-ms is
// the time from opening the gate to the contact.
func BenchmarkContact(b *testing.B) {
	ctx, cancel := context.WithTimeout(b.Context(), forwardLimit)
	defer cancel()
	p, err := NewPair(ctx, "lan", Loopback(Dir(b), Binary(b)))
	if err != nil {
		b.Fatal(err)
	}
	defer p.Kill()
	if err := p.Up(ctx); err != nil {
		b.Fatal(err)
	}
	var first, gate time.Duration
	runs := 0
	for b.Loop() {
		f, g := contactOnce(ctx, b, p, uint64(runs))
		first, gate, runs = first+f, gate+g, runs+1
	}
	b.ReportMetric(float64(first.Microseconds())/1000/float64(runs), "contact-ms")
	b.ReportMetric(float64(gate.Microseconds())/1000/float64(runs), "gate-ms")
	if err := p.Stop(); err != nil {
		b.Fatal(err)
	}
}

func contactOnce(ctx context.Context, b *testing.B, p *Pair, seed uint64) (first, gate time.Duration) {
	b.Helper()
	if err := p.B.API.SetLink(ctx, p.AID, false); err != nil {
		b.Fatal(err)
	}
	if err := p.Part(ctx); err != nil {
		b.Fatal(err)
	}
	l := NewLoad(1, forwardBytes, seed)
	watching, stop := context.WithCancel(ctx)
	end := l.Watch(watching, p.B)
	if err := l.Submit(ctx, p.A); err != nil {
		b.Fatal(err)
	}
	opened := time.Now()
	contact, err := p.reopen(ctx)
	if err != nil {
		b.Fatal(err)
	}
	if err := l.Await(ctx); err != nil {
		b.Fatal(err)
	}
	stop()
	<-end
	return max(l.Last().Sub(contact), 0), contact.Sub(opened)
}
