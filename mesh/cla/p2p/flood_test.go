package p2p

import (
	"bytes"
	"context"
	"encoding/binary"
	"io"
	"net"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// A flood of strangers leaves an admitted link, newcomers from elsewhere, and
// memory alone.
func TestFloods(t *testing.T) {
	half := func(b []byte) []byte { return b[:len(b)/2] }
	hello := encode(t, helloOf("theirs"))
	floods := map[string]func(t *testing.T, n *node, c net.Conn){
		"silent": func(*testing.T, *node, net.Conn) {},
		"slow": func(_ *testing.T, _ *node, c net.Conn) {
			for _, b := range appendToken(nil, protoMultistream) {
				if _, err := c.Write([]byte{b}); err != nil {
					return
				}
			}
		},
		"garbage": func(_ *testing.T, _ *node, c net.Conn) { c.Write(slices.Repeat([]byte{0x42}, 64<<10)) },
		"noise garbage": func(_ *testing.T, _ *node, c net.Conn) {
			propose(c, protoNoise, slices.Repeat([]byte{0xff}, 64<<10))
		},
		"key only":        afterNoise(nil),
		"half a hello":    afterNoise(half(hello)),
		"4 GiB hello":     afterNoise(binary.AppendUvarint(nil, 1<<32-1)),
		"too many bytes":  afterNoise(bytes.Repeat([]byte{0x80}, 2*maxStrangerBytes)),
		"foreign network": afterNoise(hello),
	}
	for name, attack := range floods {
		t.Run(name, func(t *testing.T) {
			a, _, la, lb := linked(t, newLayer(t, 0, nil), newLayer(t, 1, nil))
			heap, routines := heapBytes(), runtime.NumGoroutine()
			attempts, stop := flood(t, a, attack)
			for attempts() < 300 {
				passes(t, lb, la) // during the flood, which goes on meanwhile
				passes(t, la, lb)
				pause(t.Context(), 2*time.Millisecond) // the helpers keep a context of each frame to the end
			}
			if n := a.door.count(); n > maxStrangers {
				t.Errorf("%d strangers inside", n)
			}
			served := count("(*Layer).knock.func") // one for each place taken
			if served > 2*maxStrangers {
				t.Errorf("%d goroutines serve strangers", served)
			}
			if h := heapBytes(); h > heap+24<<20 { // two ends of 100 connections are ours
				t.Errorf("heap grew by %d kB during the flood", (h-heap)>>10)
			}
			elsewhere := newRelayFrom(t, "127.0.0.2", a.Addrs()[0])
			c := start(t, newLayer(t, 2, nil))
			if err := c.Dial(soon(t), a.self, []string{elsewhere.addr}); err != nil {
				t.Errorf("a newcomer from another address: %v", err)
			}
			passes(t, c.next(t), a.next(t))
			stop()
			eventually(t, "the crowd is gone", func() bool {
				return a.door.count() == 0 && runtime.NumGoroutine() < routines+30
			})
			passes(t, la, lb)
		})
	}
}

func count(function string) int {
	b := make([]byte, 8<<20)
	return bytes.Count(b[:runtime.Stack(b, true)], []byte(function))
}

func heapBytes() uint64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	end := time.After(patience)
	for !ok() {
		select {
		case <-tick.C:
		case <-end:
			t.Fatalf("never happened: %s", what)
		}
	}
}

// afterNoise proves a key and then writes first on a hello stream, or nothing
// if first is nil.
func afterNoise(first []byte) func(*testing.T, *node, net.Conn) {
	return func(t *testing.T, n *node, c net.Conn) {
		l := newLayer(t, 70, nil)
		p, err := peerID(n.self)
		if err != nil {
			t.Error(err)
			return
		}
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		s, err := l.secure(ctx, newWire(c), p)
		if err != nil || first == nil {
			return
		}
		st, err := s.Open(ctx)
		if err != nil {
			return
		}
		st.SetDeadline(time.Now().Add(time.Second))
		propose(st, protoHello, first)
	}
}

// flood keeps 100 connections at the door of n, each beginning with attack.
func flood(t *testing.T, n *node, attack func(*testing.T, *node, net.Conn)) (attempts func() int64, stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	var made atomic.Int64
	begun := make(chan struct{}, 100)
	for range 100 {
		wg.Go(func() {
			first := true
			for ctx.Err() == nil {
				c, err := net.Dial("tcp", n.Addrs()[0])
				if err != nil {
					continue
				}
				end := context.AfterFunc(ctx, func() { c.Close() })
				if first {
					first = false
					begun <- struct{}{}
				}
				attack(t, n, c)
				made.Add(1)
				c.SetReadDeadline(time.Now().Add(300 * time.Millisecond))
				io.Copy(io.Discard, c)
				end()
				c.Close()
				pause(ctx, 50*time.Millisecond)
			}
		})
	}
	for range 100 {
		<-begun
	}
	return made.Load, func() {
		cancel()
		wg.Wait()
	}
}

// newRelayFrom makes a relay that connects from a given address.
func newRelayFrom(t *testing.T, from, to string) *relay {
	t.Helper()
	r := newRelay(t, to)
	r.mu.Lock()
	r.from = &net.TCPAddr{IP: net.ParseIP(from)}
	r.mu.Unlock()
	return r
}
