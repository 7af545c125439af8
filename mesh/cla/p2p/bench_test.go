package p2p

import (
	"bufio"
	"context"
	"net"
	"sync/atomic"
	"testing"
	"time"

	"outrider/mesh/cla"
)

// BenchmarkFrames1KB sends frames of 1 KB over loopback, as fast as the other
// side takes them.
func BenchmarkFrames1KB(b *testing.B) {
	for _, p := range []struct {
		name    string
		profile Profile
	}{
		{"TCP", lanWithout(true)}, {"QUIC", ProfileOf(cla.LAN)}, {"WiFi", ProfileOf(cla.WiFi)}, {"Radio", ProfileOf(cla.Radio)},
	} {
		b.Run(p.name, func(b *testing.B) {
			set := func(c *Config) { c.Profile = p.profile }
			_, _, from, to := linked(b, newLayer(b, 0, set), newLayer(b, 1, set))
			frame := make([]byte, 1024)
			done := make(chan error, 1)
			b.SetBytes(int64(len(frame)))
			b.ResetTimer()
			go func() {
				for range b.N {
					if _, err := to.Recv(context.Background()); err != nil {
						done <- err
						return
					}
				}
				done <- nil
			}()
			for range b.N {
				if err := from.Send(context.Background(), frame); err != nil {
					b.Fatal(err)
				}
			}
			if err := <-done; err != nil {
				b.Fatal(err)
			}
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "frames/s")
		})
	}
}

func lanWithout(quic bool) Profile {
	p := ProfileOf(cla.LAN)
	p.QUIC = !quic
	return p
}

// BenchmarkSetUp makes a link and counts the bytes of TCP payload and the
// writes, both ways, from connecting to the first frame.
func BenchmarkSetUp(b *testing.B) {
	for _, who := range []struct {
		name     string
		dialler  int
		answerer int
	}{{"LeaderDials", 0, 1}, {"FollowerDials", 1, 0}} {
		b.Run(who.name, func(b *testing.B) {
			set := func(c *Config) { c.Profile = lanWithout(true) }
			n := start(b, newLayer(b, who.answerer, set))
			var total, writes atomic.Int64
			addr := countingRelay(b, n.Addrs()[0], &total, &writes)
			d := start(b, newLayer(b, who.dialler, set))
			b.ResetTimer()
			for range b.N {
				if err := d.Dial(soon(b), n.self, []string{addr}); err != nil {
					b.Fatal(err)
				}
				from, to := d.next(b), n.next(b)
				passes(b, from, to)
				b.StopTimer()
				from.Close()
				wantEnd(b, to)
				wantGone(b, from.(*link).conn)
				b.StartTimer()
			}
			b.ReportMetric(float64(total.Load())/float64(b.N), "setup-B")
			b.ReportMetric(float64(writes.Load())/float64(b.N), "setup-writes")
		})
	}
}

// countingRelay forwards connections and counts what passes, goodbyes
// included.
func countingRelay(b *testing.B, to string, total, writes *atomic.Int64) string {
	b.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { ln.Close() })
	pump := func(dst, src net.Conn) {
		defer dst.Close()
		r := bufio.NewReaderSize(src, 64<<10)
		for {
			if _, err := r.Peek(1); err != nil {
				return
			}
			n := r.Buffered()
			total.Add(int64(n))
			writes.Add(1)
			buf := make([]byte, n)
			if _, err := r.Read(buf); err != nil {
				return
			}
			if _, err := dst.Write(buf); err != nil {
				return
			}
		}
	}
	go func() {
		for {
			in, err := ln.Accept()
			if err != nil {
				return
			}
			out, err := net.DialTimeout("tcp", to, time.Second)
			if err != nil {
				in.Close()
				continue
			}
			go pump(out, in)
			go pump(in, out)
		}
	}()
	return ln.Addr().String()
}
