package store_test

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"outrider/mesh/bundle"
	"outrider/mesh/identity"
	"outrider/store"
	"outrider/store/internal/vfs"
)

// benchDir is a folder on a disk. A file system in memory would measure
// nothing, so it is refused.
func benchDir(b *testing.B) string {
	b.Helper()
	dir, err := os.MkdirTemp(os.Getenv("OUTRIDER_BENCH_DIR"), "store-bench-")
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { os.RemoveAll(dir) })
	if inMemory, err := vfs.IsTmpfs(dir); err != nil || inMemory {
		b.Fatalf("%s is on a file system in memory (%v): set OUTRIDER_BENCH_DIR to a folder on a disk", dir, err)
	}
	return dir
}

func openBench(b *testing.B, o store.Options) *store.Store {
	b.Helper()
	s, err := store.Open(filepath.Join(benchDir(b), "store"), o)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		if err := s.Close(); err != nil {
			b.Error(err)
		}
	})
	return s
}

var seq atomic.Uint64

// newBundle returns a PutBundle with a random payload.
func newBundle(tb testing.TB, size int) store.PutBundle {
	tb.Helper()
	payload := make([]byte, size)
	rand.Read(payload)
	return newBundleOf(tb, payload, bundle.Priority, identity.Tag{1, 2, 3})
}

func newBundleOf(tb testing.TB, payload []byte, p bundle.Precedence, tag identity.Tag) store.PutBundle {
	tb.Helper()
	h := bundle.Header{Version: 1, Tag: tag, Precedence: p, Lifetime: 48 * time.Hour, Kind: bundle.KindMessage}
	bn, err := bundle.New(h, payload, 8)
	if err != nil {
		tb.Fatal(err)
	}
	n := seq.Add(1)
	return store.PutBundle{Payload: payload, Record: store.Record{
		ID: bn.ID(), Hop: bn.Hop, Header: bn.Header.Raw(), PayloadHash: sha256.Sum256(payload),
		Meta: store.Meta{Seq: n, Due: 1000 + n, Own: true, Budget: 8},
	}}
}

// BenchmarkPut measures durable bundles: each is its own Commit.
func BenchmarkPut(b *testing.B) {
	for _, writers := range []int{1, 16} {
		for _, size := range []int{200, 1024, 16 << 10} {
			b.Run(fmt.Sprintf("writers=%d/bytes=%d", writers, size), func(b *testing.B) { benchPut(b, writers, size) })
		}
	}
}

func benchPut(b *testing.B, writers, size int) {
	s := openBench(b, store.Options{MaxBytes: 16 << 30})
	work := make(chan store.PutBundle, writers)
	var wg sync.WaitGroup
	before, err := s.Stats()
	if err != nil {
		b.Fatal(err)
	}
	b.SetBytes(int64(size))
	b.ResetTimer()
	start := time.Now()
	for range writers {
		wg.Go(func() {
			for p := range work {
				if err := s.Commit(context.Background(), p); err != nil {
					b.Error(err)
				}
			}
		})
	}
	for range b.N {
		work <- newBundle(b, size)
	}
	close(work)
	wg.Wait()
	elapsed := time.Since(start)
	b.StopTimer()
	after, err := s.Stats()
	if err != nil {
		b.Fatal(err)
	}
	if after.Bundles != uint64(b.N) {
		b.Fatalf("%d bundles stored, want %d", after.Bundles, b.N)
	}
	b.ReportMetric(float64(b.N)/elapsed.Seconds(), "bundles/s")
	b.ReportMetric(float64(after.Syncs-before.Syncs)/float64(b.N), "fsyncs/op")
	b.ReportMetric(rssMB(b), "rss-MB")
}

// rssMB is the resident set of this process, in MB.
func rssMB(b *testing.B) float64 {
	b.Helper()
	raw, err := os.ReadFile("/proc/self/status")
	if err != nil {
		b.Fatal(err)
	}
	for line := range strings.Lines(string(raw)) {
		var kb float64
		if _, err := fmt.Sscanf(line, "VmRSS: %f kB", &kb); err == nil {
			return kb / 1024
		}
	}
	b.Fatalf("no VmRSS on %s", runtime.GOOS)
	return 0
}
