package sim

import (
	"os"
	"runtime"
	"strconv"
	"sync"
	"testing"
	"time"
)

// The first simulation of every commit: 30 nodes, two hours of faults, and
// forty minutes in which the healed network must deliver the rest.
func standard(seed uint64) Config {
	return Config{Seed: seed, Nodes: 30, Faulty: 2 * time.Hour, Heal: 40 * time.Minute, Messages: 150}
}

func env(t testing.TB, name string, def int) int {
	v := os.Getenv(name)
	if v == "" {
		return def
	}
	n, err := strconv.Atoi(v)
	if err != nil || n < 0 {
		t.Fatalf("%s=%q: want a number", name, v)
	}
	return n
}

// TestSeeds plays SIM_SEEDS seeds (default 20). A failing one is printed;
// SIM_SEED=n plays it alone and tells what happens.
func TestSeeds(t *testing.T) {
	if os.Getenv("SIM_SEED") != "" {
		c := standard(uint64(env(t, "SIM_SEED", 0)))
		c.Verbose = t.Logf
		hash, stats, broken := Run(c)
		t.Logf("log %s  %+v", hash, stats)
		for _, b := range broken {
			t.Error(b)
		}
		return
	}
	count, first := env(t, "SIM_SEEDS", 20), env(t, "SIM_FIRST", 1)
	begin := time.Now()
	seeds := make(chan uint64)
	var mu sync.Mutex
	var total Stats
	var wg sync.WaitGroup
	for range runtime.GOMAXPROCS(0) {
		wg.Go(func() {
			for seed := range seeds {
				_, s, broken := Run(standard(seed))
				mu.Lock()
				total.add(s)
				if len(broken) > 0 {
					t.Errorf("SEED %d (%s ): replay it with SIM_SEED=%d go test -run TestSeeds -v ./field-tests/sim\n  %s", seed, s.Faults, seed, broken[0])
				}
				mu.Unlock()
			}
		})
	}
	for i := range count {
		seeds <- uint64(first + i)
	}
	close(seeds)
	wg.Wait()
	if total.Delivered == 0 || total.Purged == 0 || total.Expired == 0 || total.BlobsDone == 0 {
		t.Errorf("nothing happened: %+v", total)
	}
	t.Logf("%d seeds in %v: %+v", count, time.Since(begin).Round(time.Millisecond), total)
}

func (s *Stats) add(o Stats) {
	s.Steps += o.Steps
	s.Frames += o.Frames
	s.FrameBytes += o.FrameBytes
	s.Contacts += o.Contacts
	s.Kills += o.Kills
	s.Accepted += o.Accepted
	s.Refused += o.Refused
	s.Delivered += o.Delivered
	s.Purged += o.Purged
	s.Expired += o.Expired
	s.Blobs += o.Blobs
	s.BlobsDone += o.BlobsDone
}

// One seed must give one event log, whatever maps and schedulers do.
func TestSameSeedSameLog(t *testing.T) {
	c := standard(7)
	c.Nodes, c.Faulty, c.Heal = 12, 40*time.Minute, 10*time.Minute
	first, _, _ := Run(c)
	for range 2 {
		if again, _, _ := Run(c); again != first {
			t.Fatalf("SEED %d: logs differ: %s and %s", c.Seed, first, again)
		}
	}
	c.Seed++
	if other, _, _ := Run(c); other == first {
		t.Fatal("another seed gave the same log: the log hashes nothing")
	}
}
