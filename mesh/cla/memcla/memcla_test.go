package memcla_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"outrider/mesh/cla"
	"outrider/mesh/cla/clatest"
	"outrider/mesh/cla/memcla"
	"outrider/mesh/identity"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var alpha, bravo, charlie = identity.NodeID{1}, identity.NodeID{2}, identity.NodeID{3}

func TestLinkConformance(t *testing.T) {
	media := map[string]memcla.Options{
		"Instant": {},
		"Slow":    {RateBps: 8_000_000, Delay: 5 * time.Millisecond, Jitter: 5 * time.Millisecond},
		"Silent":  {Silence: 50 * time.Millisecond},
	}
	for name, o := range media {
		t.Run(name, func(t *testing.T) {
			clatest.TestLink(t, synctest.Test, func(t *testing.T) clatest.Pair {
				a, b := memcla.Pipe(alpha, bravo, 1, o)
				return clatest.Pair{A: a, B: b, Cut: a.Cut}
			})
		})
	}
}

func TestLayerConformance(t *testing.T) {
	clatest.TestLayer(t, synctest.Test, func(t *testing.T) (a, b clatest.Node) {
		n := memcla.NewNetwork(1, memcla.Options{Delay: time.Millisecond})
		return node(n, alpha), node(n, bravo)
	})
}

func node(n *memcla.Network, id identity.NodeID) clatest.Node {
	l := n.Layer(id)
	return clatest.Node{ID: id, Layer: l, Addrs: func(ctx context.Context) []string {
		select {
		case <-l.Ready():
		case <-ctx.Done():
		}
		return nil
	}}
}

func TestRateAndDelay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b := memcla.Pipe(alpha, bravo, 1, memcla.Options{RateBps: 9600, Delay: time.Second, Window: 1200})
		start := time.Now()
		go func() {
			for range 4 {
				if err := a.Send(t.Context(), make([]byte, 1200)); err != nil {
					t.Error(err)
				}
			}
		}()
		for i := 1; i <= 4; i++ { // one second on the air and one of delay each: the window holds one
			if _, err := b.Recv(t.Context()); err != nil {
				t.Fatal(err)
			}
			if d := time.Since(start); d != time.Duration(i)*2*time.Second {
				t.Fatalf("frame %d after %v", i, d)
			}
		}
	})
}

func TestSilentCutLosesAndThenEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b := memcla.Pipe(alpha, bravo, 1, memcla.Options{Silence: 30 * time.Second})
		a.Cut()
		if err := a.Send(t.Context(), []byte("into the void")); err != nil {
			t.Fatalf("send during the silence: %v", err)
		}
		start := time.Now()
		if _, err := b.Recv(t.Context()); !errors.Is(err, cla.ErrClosed) {
			t.Fatal(err)
		}
		if d := time.Since(start); d != 30*time.Second {
			t.Fatalf("the cut was noticed after %v", d)
		}
	})
}

func TestSeedRepeats(t *testing.T) {
	survives := func(seed uint64) (n int) {
		a, b := memcla.Pipe(alpha, bravo, seed, memcla.Options{CutPPM: 100_000})
		for ; ; n++ {
			if a.Send(t.Context(), []byte{1}) != nil {
				return n
			}
			if _, err := b.Recv(t.Context()); err != nil {
				return n
			}
		}
	}
	different := false
	for seed := range uint64(8) {
		once, again := survives(seed), survives(seed)
		if once != again {
			t.Fatalf("seed %d did not repeat", seed)
		}
		different = different || survives(seed) != survives(0)
	}
	if !different {
		t.Fatal("all seeds cut at the same frame")
	}
}

func TestHostile(t *testing.T) {
	count := func(h memcla.Hostile) (arrived, changed int) {
		a, b := memcla.Pipe(alpha, bravo, 3, memcla.Options{Hostile: h})
		for i := range 100 {
			if err := a.Send(t.Context(), []byte{byte(i), 0}); err != nil {
				t.Fatal(err)
			}
		}
		a.Close()
		for i := 0; ; i++ {
			f, err := b.Recv(t.Context())
			if err != nil {
				return arrived, changed
			}
			arrived++
			if f[0] != byte(i) || f[1] != 0 {
				changed++
			}
		}
	}
	const always, often = 1_000_000, 300_000
	if n, c := count(memcla.Hostile{}); n != 100 || c != 0 {
		t.Fatalf("an honest link: %d arrived, %d changed", n, c)
	}
	if n, _ := count(memcla.Hostile{DropPPM: often}); n >= 100 || n == 0 {
		t.Fatalf("drop: %d of 100 arrived", n)
	}
	if n, _ := count(memcla.Hostile{DuplicatePPM: always}); n != 200 {
		t.Fatalf("duplicate: %d of 100 arrived", n)
	}
	if n, c := count(memcla.Hostile{SwapPPM: often}); n != 100 || c == 0 {
		t.Fatalf("swap: %d arrived, %d out of place", n, c)
	}
	if n, c := count(memcla.Hostile{CorruptPPM: always}); n != 100 || c != 100 {
		t.Fatalf("corrupt: %d arrived, %d changed", n, c)
	}
}

func TestPartition(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		n := memcla.NewNetwork(1, memcla.Options{})
		for _, id := range []identity.NodeID{alpha, bravo, charlie} {
			go n.Layer(id).Run(ctx, func(ctx context.Context, l cla.Link) {
				for {
					if _, err := l.Recv(ctx); err != nil {
						return
					}
				}
			})
		}
		synctest.Wait()
		n.Partition([]identity.NodeID{alpha, bravo}, []identity.NodeID{charlie})
		if err := n.Layer(alpha).Dial(ctx, charlie, nil); !errors.Is(err, cla.ErrUnreachable) {
			t.Fatalf("dial across a partition: %v", err)
		}
		if err := n.Layer(alpha).Dial(ctx, bravo, nil); err != nil {
			t.Fatalf("dial inside a group: %v", err)
		}
		n.Heal()
		if err := n.Layer(alpha).Dial(ctx, charlie, nil); err != nil {
			t.Fatalf("dial after healing: %v", err)
		}
		n.SetLink(alpha, charlie, false)
		if err := n.Layer(charlie).Dial(ctx, alpha, nil); !errors.Is(err, cla.ErrUnreachable) {
			t.Fatalf("dial over a link that is down: %v", err)
		}
		n.SetLink(alpha, charlie, true)
		synctest.Wait()
		if err := n.Layer(charlie).Dial(ctx, alpha, nil); err != nil {
			t.Fatalf("dial after the link is up: %v", err)
		}
	})
}
