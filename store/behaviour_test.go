package store_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"outrider/mesh/bundle"
	"outrider/mesh/identity"
	"outrider/store"
	"outrider/store/storetest"
)

// put commits a bundle with a payload of n bytes, different each time.
func put(t testing.TB, s *store.Store, n int) store.PutBundle {
	t.Helper()
	p := newBundle(t, n)
	must(t, s.Commit(context.Background(), p))
	return p
}

func readable(t testing.TB, s *store.Store, p store.PutBundle) {
	t.Helper()
	got, err := s.Payload(p.Record.ID)
	if err != nil || !bytes.Equal(got, p.Payload) {
		t.Fatalf("payload of %v: %v", p.Record.ID, err)
	}
}

func statsOf(t testing.TB, s *store.Store) store.Stats {
	t.Helper()
	st, err := s.Stats()
	must(t, err)
	return st
}

func TestSecondOpenIsRefused(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir, store.Options{})
	_, err := store.Open(dir, store.Options{})
	wantErr(t, err, store.ErrInUse)
	must(t, s.Close())
	must(t, s.Close())
	must(t, open(t, dir, store.Options{}).Close())
}

func TestCloseLeavesNothing(t *testing.T) {
	before := goleak.IgnoreCurrent()
	s := open(t, t.TempDir(), store.Options{SegmentBytes: 1 << 20})
	for range 40 { // enough garbage that tidying is under way
		p := put(t, s, 60_000)
		put(t, s, 60_000)
		must(t, s.Commit(t.Context(), store.DeleteBundle{ID: p.Record.ID}))
	}
	must(t, s.Close())
	for end := time.Now().Add(time.Minute); goleak.Find(before) != nil && time.Now().Before(end); { // they may take their time to end
	}
	goleak.VerifyNone(t, before)
}

func TestEpochIsOfTheDatabase(t *testing.T) {
	a, b := open(t, t.TempDir(), store.Options{}), open(t, t.TempDir(), store.Options{})
	if a.Epoch() == b.Epoch() || a.Epoch() == [8]byte{} {
		t.Fatalf("epochs %x and %x", a.Epoch(), b.Epoch())
	}
	must(t, errors.Join(a.Close(), b.Close()))
}

// Commits that wait together share their syncs.
func TestGroupCommit(t *testing.T) {
	s := open(t, t.TempDir(), store.Options{})
	before := statsOf(t, s)
	const writers, each = 16, 50
	var bundles [writers * each]store.PutBundle // made before: who makes one meanwhile waits with nobody
	for i := range bundles {
		bundles[i] = newBundle(t, 1000)
	}
	var wg sync.WaitGroup
	for mine := range slices.Chunk(bundles[:], each) {
		wg.Go(func() {
			for _, b := range mine {
				if err := s.Commit(context.Background(), b); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	after := statsOf(t, s)
	commits, batches, syncs := after.Commits-before.Commits, after.Batches-before.Batches, after.Syncs-before.Syncs
	if commits != writers*each || after.Bundles != writers*each {
		t.Fatalf("%d commits, %d bundles", commits, after.Bundles)
	}
	if batches > commits/2 || syncs > 2*batches+10 {
		t.Fatalf("%d commits in %d batches with %d syncs", commits, batches, syncs)
	}
	must(t, s.Close())
}

// So do the transactions of one CommitEach.
func TestEachSharesSyncs(t *testing.T) {
	s := open(t, t.TempDir(), store.Options{})
	put(t, s, 1)
	before := s.Syncs()
	var txns [][]store.Op
	for range 100 {
		txns = append(txns, []store.Op{newBundle(t, 1000)})
	}
	must(t, errors.Join(s.CommitEach(t.Context(), txns)...))
	if n := s.Syncs() - before; n != 2 {
		t.Fatalf("%d syncs for 100 transactions, want 2", n)
	}
	must(t, s.Close())
}

// One call that fails does not take others down with it.
func TestFailureIsOnesOwn(t *testing.T) {
	s := open(t, t.TempDir(), store.Options{})
	var wg sync.WaitGroup
	for w := range 16 {
		wg.Go(func() {
			for range 30 {
				p := newBundle(t, 100)
				ops := []store.Op{p}
				if w%2 == 0 {
					ops = append(ops, store.SetMeta{ID: bundle.ID{1}})
				}
				err := s.Commit(context.Background(), ops...)
				_, missing := s.Bundle(p.Record.ID)
				if (w%2 == 0) != errors.Is(err, store.ErrNotFound) || (w%2 == 0) != errors.Is(missing, store.ErrNotFound) {
					t.Errorf("writer %d: %v, %v", w, err, missing)
				}
			}
		})
	}
	wg.Wait()
	if st := statsOf(t, s); st.Bundles != 8*30 {
		t.Fatalf("%d bundles", st.Bundles)
	}
	must(t, s.Close())
}

// Near the floor of free space growth ends first, bookkeeping and deletion
// later; with space everything goes on.
func TestFreeFloor(t *testing.T) {
	d := storetest.NewDisk()
	s := open(t, t.TempDir(), store.Options{FS: d, FreeFloor: 64 << 20})
	defer func() { must(t, s.Close()) }()
	p := put(t, s, 100)
	d.Capacity = 32 << 20
	ctx := t.Context()
	wantErr(t, s.Commit(ctx, newBundle(t, 1)), store.ErrFull)
	wantErr(t, s.Commit(ctx, store.PutRow{}), store.ErrFull)
	must(t, s.Commit(ctx, store.SetMeta{ID: p.Record.ID}, store.PutKV{Bucket: "b", Key: "k"}))
	readable(t, s, p)
	d.Capacity = 15 << 20
	wantErr(t, s.Commit(ctx, store.SetMeta{ID: p.Record.ID}), store.ErrFull)
	d.Capacity = 17 << 20
	must(t, s.Commit(ctx, store.DeleteBundle{ID: p.Record.ID}))
	d.Capacity = 0
	put(t, s, 1)
}

func TestOpenOnFullDisk(t *testing.T) {
	d := storetest.NewDisk()
	d.Capacity = 1 << 20
	dir := t.TempDir()
	_, err := store.Open(dir, store.Options{FS: d})
	wantErr(t, err, store.ErrFull)
	if !strings.Contains(err.Error(), "free some space") {
		t.Errorf("%v does not say what to do", err)
	}
	d.Capacity = 0
	must(t, open(t, dir, store.Options{FS: d}).Close())
}

// A payload that finds no space fails its call; others in the batch, and
// later ones, succeed.
func TestDiskFullUnderPayload(t *testing.T) {
	d := storetest.NewDisk()
	s := open(t, t.TempDir(), store.Options{FS: d, FreeFloor: 1})
	defer func() { must(t, s.Close()) }()
	p := put(t, s, 50_000)
	d.Capacity = 70_000
	wantErr(t, s.Commit(t.Context(), newBundle(t, 50_000)), store.ErrFull)
	must(t, s.Commit(t.Context(), store.SetMeta{ID: p.Record.ID, Meta: store.Meta{Consumed: true}}))
	small := put(t, s, 5000)
	d.Capacity = 0
	large := put(t, s, 50_000)
	for _, p := range []store.PutBundle{p, small, large} {
		readable(t, s, p)
	}
}

// After a sync has failed nothing is acknowledged any more; a restart goes on
// with what had been.
func TestFailedSyncEndsIt(t *testing.T) {
	d := storetest.NewDisk()
	dir := t.TempDir()
	var log bytes.Buffer
	s := open(t, dir, store.Options{FS: d, Log: slog.New(slog.NewTextHandler(&log, nil))})
	p := put(t, s, 100)
	d.OnOp = func(op, _ string) error {
		if op == "sync" {
			return errors.New("the disk is dying")
		}
		return nil
	}
	lost := newBundle(t, 100)
	if err := s.Commit(t.Context(), lost); err == nil {
		t.Fatal("acknowledged without a sync")
	}
	d.OnOp = nil
	wantErr(t, s.Commit(t.Context(), newBundle(t, 100)), store.ErrBroken)
	wantErr(t, s.Commit(t.Context(), store.DeleteBundle{ID: p.Record.ID}), store.ErrBroken)
	if !strings.Contains(log.String(), "level=ERROR") {
		t.Errorf("nobody was told: %q", log.String())
	}
	must(t, s.Close())
	s = open(t, dir, store.Options{FS: d})
	readable(t, s, p)
	_, err := s.Bundle(lost.Record.ID)
	wantErr(t, err, store.ErrNotFound)
	put(t, s, 100)
	must(t, s.Close())
}

// Deleting gives the disk's space back: segments do not keep much more than
// what lives, and nothing that lives is lost on the way.
func TestTidying(t *testing.T) {
	dir := t.TempDir()
	o := store.Options{SegmentBytes: 1 << 20}
	s := open(t, dir, o)
	r := rand.New(rand.NewPCG(1, 1))
	live := make(map[bundle.ID]store.PutBundle)
	for range 600 {
		p := put(t, s, 30_000+r.IntN(35_000))
		if r.IntN(6) == 0 {
			live[p.Record.ID] = p
			continue
		}
		must(t, s.Commit(t.Context(), store.DeleteBundle{ID: p.Record.ID}))
	}
	for range 2 {
		var payload uint64
		for _, p := range live {
			readable(t, s, p)
			payload += uint64(len(p.Payload))
		}
		must(t, s.Close()) // waits for tidying
		s = open(t, dir, o)
		st := statsOf(t, s)
		if limit := payload + payload/2 + 12<<20; st.SegmentBytes > limit {
			t.Fatalf("%d bytes of segments for %d of payload", st.SegmentBytes, payload)
		}
		if onDisk := folderBytes(t, filepath.Join(dir, "payload")); onDisk != st.SegmentBytes {
			t.Fatalf("%d bytes on disk, %d known", onDisk, st.SegmentBytes)
		}
	}
	for id := range live {
		must(t, s.Commit(t.Context(), store.DeleteBundle{ID: id}))
	}
	if st := statsOf(t, s); st.SegmentBytes > 1<<20 || st.Bytes != 0 {
		t.Fatalf("stats of an empty store: %+v", st)
	}
	must(t, s.Close())
}

func folderBytes(t *testing.T, dir string) (sum uint64) {
	t.Helper()
	list, err := os.ReadDir(dir)
	must(t, err)
	for _, e := range list {
		info, err := e.Info()
		must(t, err)
		sum += uint64(info.Size())
	}
	return sum
}

// Readers see whole payloads while their segments are tidied away.
func TestReadWhileTidying(t *testing.T) {
	s := open(t, t.TempDir(), store.Options{SegmentBytes: 256 << 10})
	var keep []store.PutBundle
	for range 10 {
		keep = append(keep, put(t, s, 20_000))
		put(t, s, 1)
	}
	done := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		for i := 0; ; i++ {
			select {
			case <-done:
				return
			default:
			}
			p := keep[i%len(keep)]
			if got, err := s.Payload(p.Record.ID); err != nil || !bytes.Equal(got, p.Payload) {
				t.Errorf("payload: %v", err)
				return
			}
		}
	})
	for range 400 {
		p := put(t, s, 60_000)
		must(t, s.Commit(t.Context(), store.DeleteBundle{ID: p.Record.ID}))
	}
	close(done)
	wg.Wait()
	must(t, s.Close())
}

// A segment that is gone or rotten costs what was in it, with a clear error,
// and nothing else.
func TestDamagedSegment(t *testing.T) {
	dir := t.TempDir()
	o := store.Options{SegmentBytes: 64 << 10}
	s := open(t, dir, o)
	var all []store.PutBundle
	for range 6 {
		all = append(all, put(t, s, 30_000)) // two in a segment
	}
	must(t, s.Close())
	must(t, os.Remove(filepath.Join(dir, "payload", "00000001.seg")))
	must(t, os.Truncate(filepath.Join(dir, "payload", "00000003.seg"), 40_000))
	rotten := filepath.Join(dir, "payload", "00000002.seg")
	raw, err := os.ReadFile(rotten)
	must(t, err)
	raw[500] ^= 1
	must(t, os.WriteFile(rotten, raw, 0o600))
	var log bytes.Buffer
	o.Log = slog.New(slog.NewTextHandler(&log, nil))
	s = open(t, dir, o)
	if n := strings.Count(log.String(), "level=ERROR"); n != 2 {
		t.Errorf("%d complaints about two damaged segments: %s", n, log.String())
	}
	for i, p := range all {
		_, err := s.Payload(p.Record.ID)
		if lost := i < 3 || i == 5; lost != errors.Is(err, store.ErrCorrupt) || !lost && err != nil {
			t.Errorf("payload %d: %v", i, err)
		}
	}
	more := put(t, s, 30_000)
	readable(t, s, more)
	for _, p := range all {
		must(t, s.Commit(t.Context(), store.DeleteBundle{ID: p.Record.ID}))
	}
	readable(t, s, more)
	must(t, s.Close())
}

// Seq survives the deletion of what had it, so that cursors stay true.
func TestLastSeqSurvives(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir, store.Options{})
	p := newBundle(t, 1)
	p.Record.Meta.Seq = 77
	must(t, s.Commit(t.Context(), p, store.DeleteBundle{ID: p.Record.ID}))
	must(t, s.Close())
	s = open(t, dir, store.Options{})
	if s.LastSeq() != 77 {
		t.Fatalf("last seq %d", s.LastSeq())
	}
	must(t, s.Close())
}

// A batch too large for one transaction of the index is split, not refused.
func TestManyLargeCommitsTogether(t *testing.T) {
	s := open(t, t.TempDir(), store.Options{})
	var wg sync.WaitGroup
	for w := range 16 {
		wg.Go(func() {
			var ops []store.Op
			for i := range 3 {
				ops = append(ops, store.PutKV{Bucket: "b", Key: fmt.Sprint(w, i), Value: make([]byte, store.MaxValue)})
			}
			if err := s.Commit(context.Background(), ops...); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	n := 0
	for _, err := range s.List("b", "") {
		must(t, err)
		n++
	}
	if n != 48 {
		t.Fatalf("%d values", n)
	}
	var ops []store.Op
	for i := range 5 {
		ops = append(ops, store.PutKV{Bucket: "b", Key: fmt.Sprint(i), Value: make([]byte, store.MaxValue)})
	}
	wantErr(t, s.Commit(t.Context(), ops...), store.ErrTooLarge)
	var large []store.Op
	for i := range 129 {
		large = append(large, newBundleOf(t, bytes.Repeat([]byte{byte(i)}, bundle.MaxPayload), 0, identity.Tag{}))
	}
	wantErr(t, s.Commit(t.Context(), large...), store.ErrTooLarge)
	must(t, s.Commit(t.Context(), large[:128]...))
	must(t, s.Close())
}

func TestForeignFormatIsRefused(t *testing.T) {
	dir := t.TempDir()
	must(t, open(t, dir, store.Options{}).Close())
	must(t, store.SetFormat(dir, 9))
	_, err := store.Open(dir, store.Options{})
	if err == nil || !strings.Contains(err.Error(), "use the program that wrote it") {
		t.Fatalf("error %v", err)
	}
}
