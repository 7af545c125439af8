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

// benchStore has n bundles of 1 KB.
func benchStore(b *testing.B, n int) (*store.Store, []bundle.ID) {
	b.Helper()
	s := openBench(b, store.Options{})
	var ids []bundle.ID
	for len(ids) < n {
		var ops []store.Op
		for range 200 {
			p := newBundle(b, 1024)
			ids = append(ids, p.Record.ID)
			ops = append(ops, p)
		}
		if err := s.Commit(context.Background(), ops...); err != nil {
			b.Fatal(err)
		}
	}
	return s, ids
}

func BenchmarkPayload(b *testing.B) {
	s, ids := benchStore(b, 20_000)
	b.SetBytes(1024)
	b.ResetTimer()
	for i := range b.N {
		if _, err := s.Payload(ids[i*7919%len(ids)]); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "bundles/s")
}

// BenchmarkScan visits all records, as a node does when it starts.
func BenchmarkScan(b *testing.B) {
	s, ids := benchStore(b, 20_000)
	b.ResetTimer()
	for range b.N {
		n := 0
		for _, err := range s.Bundles(store.Query{}) {
			if err != nil {
				b.Fatal(err)
			}
			n++
		}
		if n != len(ids) {
			b.Fatalf("%d records", n)
		}
	}
	b.ReportMetric(float64(b.N*len(ids))/b.Elapsed().Seconds(), "bundles/s")
}

// BenchmarkPage asks for pages of 64 of a tag, as a contact does.
func BenchmarkPage(b *testing.B) {
	s, _ := benchStore(b, 20_000)
	q := store.Query{Index: store.ByTag, Tag: identity.Tag{1, 2, 3}, Limit: 64}
	b.ResetTimer()
	for range b.N {
		var last store.Record
		for r, err := range s.Bundles(q) {
			if err != nil {
				b.Fatal(err)
			}
			last = r
		}
		if q.After = &last; last.ID.IsZero() {
			q.After = nil
		}
	}
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "pages/s")
}

func BenchmarkSetMeta(b *testing.B) {
	s, ids := benchStore(b, 20_000)
	b.ResetTimer()
	b.SetParallelism(8)
	var n atomic.Uint64
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			i := n.Add(1)
			if err := s.Commit(context.Background(), store.SetMeta{ID: ids[i*7919%uint64(len(ids))], Meta: store.Meta{Seq: i, Due: i}}); err != nil {
				b.Error(err)
			}
		}
	})
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "commits/s")
}

func BenchmarkOpen(b *testing.B) {
	dir := filepath.Join(benchDir(b), "store")
	s, err := store.Open(dir, store.Options{})
	if err != nil {
		b.Fatal(err)
	}
	for range 100 {
		var ops []store.Op
		for range 200 {
			ops = append(ops, newBundle(b, 1024))
		}
		if err := s.Commit(context.Background(), ops...); err != nil {
			b.Fatal(err)
		}
	}
	if err := s.Close(); err != nil {
		b.Fatal(err)
	}
	b.ResetTimer()
	for range b.N {
		s, err := store.Open(dir, store.Options{})
		if err != nil {
			b.Fatal(err)
		}
		if err := s.Close(); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkVaultCommit changes one secret and makes that durable.
func BenchmarkVaultCommit(b *testing.B) {
	for _, writers := range []int{1, 16} {
		b.Run(fmt.Sprintf("writers=%d", writers), func(b *testing.B) {
			v, err := store.OpenVault(filepath.Join(benchDir(b), "vault"), kek)
			if err != nil {
				b.Fatal(err)
			}
			defer v.Close()
			for n := range 2000 {
				if err := v.Put(vaultID(n), []byte("value")); err != nil {
					b.Fatal(err)
				}
			}
			if err := v.Commit(); err != nil {
				b.Fatal(err)
			}
			before := v.Syncs()
			b.ResetTimer()
			var wg sync.WaitGroup
			for w := range writers {
				wg.Go(func() {
					for i := w; i < b.N; i += writers {
						s := v.NewSession()
						if err := s.Put(vaultID(i%2000), []byte(fmt.Sprint(i))); err != nil {
							b.Error(err)
						}
						if err := s.Commit(); err != nil {
							b.Error(err)
						}
					}
				})
			}
			wg.Wait()
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "commits/s")
			b.ReportMetric(float64(v.Syncs()-before)/float64(b.N), "fsyncs/op")
		})
	}
}

// BenchmarkBlobWrite stores a blob leaf by leaf, verified and durable.
func BenchmarkBlobWrite(b *testing.B) {
	const mb = 16
	smp := newSample(b, 1, mb<<20)
	s := openBench(b, store.Options{})
	blobs := s.Blobs()
	b.SetBytes(mb << 20)
	b.ResetTimer()
	for range b.N {
		if err := blobs.Create(smp.Descriptor); err != nil {
			b.Fatal(err)
		}
		for i := range smp.leaves {
			if i%32 == 0 {
				if err := smp.putLeaf(blobs, i); err != nil {
					b.Fatal(err)
				}
			} else if err := blobs.PutLeaf(smp.Root, i, smp.leaves[i]); err != nil {
				b.Fatal(err)
			}
		}
		if err := blobs.Sync(context.Background(), smp.Root); err != nil {
			b.Fatal(err)
		}
		if err := blobs.Delete(smp.Root); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkBlobRead(b *testing.B) {
	const mb = 16
	smp := newSample(b, 1, mb<<20)
	s := openBench(b, store.Options{})
	w, err := s.Blobs().NewWriter()
	if err != nil {
		b.Fatal(err)
	}
	for _, leaf := range smp.leaves {
		if err := w.WriteLeaf(leaf); err != nil {
			b.Fatal(err)
		}
	}
	if _, err := w.Finish(context.Background()); err != nil {
		b.Fatal(err)
	}
	b.SetBytes(mb << 20)
	b.ResetTimer()
	for range b.N {
		for i := range smp.leaves {
			if _, err := s.Blobs().ReadLeaf(smp.Root, i); err != nil {
				b.Fatal(err)
			}
		}
	}
}
