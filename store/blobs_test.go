package store_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"runtime"
	"slices"
	"strings"
	"testing"

	"outrider/mesh/blob"
	"outrider/store"
	"outrider/store/internal/vfs"
	"outrider/store/storetest"
)

// A sample is a blob with all that is needed to store it.
type sample struct {
	blob.Descriptor
	leaves [][]byte
	hashes blob.Hashes
}

func newSample(t testing.TB, seed uint64, length int) sample {
	t.Helper()
	content := make([]byte, length)
	r := rand.NewChaCha8([32]byte{byte(seed), byte(seed >> 8)})
	r.Read(content)
	var s sample
	var b blob.Builder
	for leaf := range slices.Chunk(content, blob.LeafSize) {
		s.leaves = append(s.leaves, leaf)
		must(t, b.AddLeaf(leaf))
	}
	s.Root, s.hashes = b.Finish()
	s.Length = uint64(length)
	return s
}

// putLeaf puts a leaf, and its group's proof before it.
func (s sample) putLeaf(b *store.Blobs, i int) error {
	g := s.Geometry().GroupOf(i)
	if err := b.PutGroupProof(s.Root, g, blob.Proof(s.hashes, g)); err != nil {
		return err
	}
	return b.PutLeaf(s.Root, i, s.leaves[i])
}

func openBlobs(t testing.TB, fsys vfs.FS, o store.Options) *store.Blobs {
	t.Helper()
	o.FS = fsys
	b, err := store.OpenBlobs("/blobs", o)
	must(t, err)
	return b
}

func TestBlobRoundTrip(t *testing.T) {
	d := storetest.NewDisk()
	b := openBlobs(t, d, store.Options{})
	s := newSample(t, 1, 40*blob.LeafSize+5) // two groups, a short last leaf
	must(t, b.Create(s.Descriptor))
	must(t, b.Create(s.Descriptor))
	for _, i := range rand.New(rand.NewPCG(1, 1)).Perm(len(s.leaves)) {
		must(t, s.putLeaf(b, i))
		must(t, s.putLeaf(b, i))
	}
	have, err := b.Have(s.Root)
	must(t, err)
	if have.Count() != 0 {
		t.Fatalf("%d leaves claimed before a sync", have.Count())
	}
	must(t, b.Sync(t.Context(), s.Root))
	for range 2 {
		checkComplete(t, b, s)
		must(t, store.CloseBlobs(b))
		b = openBlobs(t, d, store.Options{})
	}
	must(t, b.Delete(s.Root))
	must(t, b.Delete(s.Root))
	if n := b.Bytes(); n != 0 {
		t.Fatalf("%d bytes after deleting", n)
	}
	_, err = b.Have(s.Root)
	wantErr(t, err, store.ErrNotFound)
	must(t, store.CloseBlobs(b))
}

func checkComplete(t *testing.T, b *store.Blobs, s sample) {
	t.Helper()
	have, err := b.Have(s.Root)
	must(t, err)
	if !have.Full() {
		t.Fatalf("%d of %d leaves", have.Count(), have.Len())
	}
	for i := range s.leaves {
		leaf, err := b.ReadLeaf(s.Root, i)
		if err != nil || !bytes.Equal(leaf, s.leaves[i]) {
			t.Fatalf("leaf %d: %v", i, err)
		}
	}
	for g := range s.Geometry().Groups() {
		p, err := b.GroupProof(s.Root, g)
		must(t, err)
		must(t, p.Verify(s.Root, s.Length, g))
	}
	info, err := b.Info(s.Root)
	must(t, err)
	if !info.Complete() || b.Bytes() != s.Length {
		t.Fatalf("info %+v, %d bytes in all", info, b.Bytes())
	}
	if list := slices.Collect(b.List()); len(list) != 1 || list[0].Root != s.Root {
		t.Fatalf("list %+v", list)
	}
}

func TestBlobRefuses(t *testing.T) {
	b := openBlobs(t, storetest.NewDisk(), store.Options{})
	defer func() { must(t, store.CloseBlobs(b)) }()
	s, other := newSample(t, 1, 3*blob.LeafSize), newSample(t, 2, 3*blob.LeafSize)
	wantErr(t, b.PutLeaf(s.Root, 0, s.leaves[0]), store.ErrNotFound)
	must(t, b.Create(s.Descriptor))
	wantErr(t, b.PutLeaf(s.Root, 0, s.leaves[0]), store.ErrNotFound) // no proof yet
	wantErr(t, b.PutGroupProof(s.Root, 0, blob.Proof(other.hashes, 0)), blob.ErrMismatch)
	wantErr(t, b.PutGroupProof(s.Root, 1, blob.Proof(s.hashes, 0)), blob.ErrMalformed)
	must(t, b.PutGroupProof(s.Root, 0, blob.Proof(s.hashes, 0)))
	wantErr(t, b.PutLeaf(s.Root, 0, s.leaves[1]), blob.ErrMismatch)
	for _, i := range []int{-1, 3, 1 << 30} {
		wantErr(t, b.PutLeaf(s.Root, i, s.leaves[0]), store.ErrInvalid)
		_, err := b.ReadLeaf(s.Root, i)
		wantErr(t, err, store.ErrNotFound)
		_, err = b.GroupProof(s.Root, i)
		wantErr(t, err, store.ErrNotFound)
	}
	wantErr(t, b.PutLeaf(s.Root, 0, s.leaves[0][:100]), store.ErrInvalid)
	for _, d := range []blob.Descriptor{{}, {Root: s.Root}, {Root: s.Root, Length: blob.MaxLength + 1}, {Root: s.Root, Length: 1<<64 - 1}} {
		wantErr(t, b.Create(d), store.ErrInvalid)
	}
	if b.Bytes() != 0 {
		t.Fatalf("%d bytes counted of what was refused", b.Bytes())
	}
}

// A claimed length costs nothing; verified leaves count.
// A root commits to a length. Which, the first leaf shows.
func TestBlobOfAnotherLength(t *testing.T) {
	b := openBlobs(t, storetest.NewDisk(), store.Options{})
	s := newSample(t, 1, 5*blob.LeafSize)
	wrong := blob.Descriptor{Root: s.Root, Length: 40 * blob.LeafSize}
	for _, d := range []blob.Descriptor{wrong, s.Descriptor, wrong, s.Descriptor} {
		must(t, b.Create(d))
		if have, err := b.Have(s.Root); err != nil || have.Len() != d.Geometry().Leaves() {
			t.Fatalf("%d leaves, %v", have.Len(), err)
		}
	}
	must(t, s.putLeaf(b, 2))
	wantErr(t, b.Create(wrong), blob.ErrMismatch)
	must(t, b.Create(s.Descriptor))
	must(t, b.Sync(t.Context(), s.Root))
	if have, err := b.Have(s.Root); err != nil || have.Count() != 1 {
		t.Errorf("%d leaves, %v", have.Count(), err)
	}
}

func TestBlobQuota(t *testing.T) {
	d := storetest.NewDisk()
	b := openBlobs(t, d, store.Options{MaxBlobBytes: 2*blob.LeafSize + 10})
	defer func() { must(t, store.CloseBlobs(b)) }()
	huge := blob.Descriptor{Root: blob.Root{1}, Length: blob.MaxLength}
	must(t, b.Create(huge))
	if n := len(d.Content("/blobs/01/" + huge.Root.String() + ".leaves")); n != 0 || b.Bytes() != 0 {
		t.Fatalf("a claimed length occupies %d bytes, counts %d", n, b.Bytes())
	}
	s := newSample(t, 1, 3*blob.LeafSize)
	must(t, b.Create(s.Descriptor))
	must(t, s.putLeaf(b, 0))
	must(t, s.putLeaf(b, 1))
	wantErr(t, s.putLeaf(b, 2), store.ErrFull)
	must(t, b.Sync(t.Context(), s.Root))
	must(t, b.Delete(s.Root))
	must(t, b.Create(s.Descriptor))
	must(t, s.putLeaf(b, 2))
}

func TestBlobDiskFull(t *testing.T) {
	d := storetest.NewDisk()
	d.Capacity = 1 << 20
	b := openBlobs(t, d, store.Options{FreeFloor: 1 << 10})
	s := newSample(t, 1, 100*blob.LeafSize)
	must(t, b.Create(s.Descriptor))
	stored := 0
	var err error
	for i := range s.leaves {
		if err = s.putLeaf(b, i); err != nil {
			break
		}
		stored++
	}
	wantErr(t, err, store.ErrFull)
	must(t, b.Sync(t.Context(), s.Root))
	must(t, store.CloseBlobs(b))
	b = openBlobs(t, d, store.Options{FreeFloor: 1 << 10})
	have, err := b.Have(s.Root)
	must(t, err)
	if have.Count() != stored || stored < 50 {
		t.Fatalf("%d leaves after reopening, %d were stored", have.Count(), stored)
	}
	must(t, store.CloseBlobs(b))
}

// A leaf that has rotted is reported and no longer claimed, and can be put
// again.
func TestBlobRot(t *testing.T) {
	d := storetest.NewDisk()
	b := openBlobs(t, d, store.Options{})
	s := newSample(t, 1, 3*blob.LeafSize)
	must(t, b.Create(s.Descriptor))
	for i := range s.leaves {
		must(t, s.putLeaf(b, i))
	}
	must(t, b.Sync(t.Context(), s.Root))
	name := "/blobs/" + s.Root.String()[:2] + "/" + s.Root.String()
	d.Damage(name+".leaves", blob.LeafSize+7)
	_, err := b.ReadLeaf(s.Root, 1)
	wantErr(t, err, store.ErrCorrupt)
	_, err = b.ReadLeaf(s.Root, 1)
	wantErr(t, err, store.ErrNotFound)
	if b.Bytes() != 2*blob.LeafSize {
		t.Fatalf("%d bytes counted", b.Bytes())
	}
	must(t, s.putLeaf(b, 1))
	must(t, b.Sync(t.Context(), s.Root))
	must(t, store.CloseBlobs(b))

	// The proof of the group, then the bitmap, then the head.
	d.Damage(name+".proofs", 2*512+100)
	b = openBlobs(t, d, store.Options{})
	_, err = b.ReadLeaf(s.Root, 0)
	wantErr(t, err, store.ErrCorrupt)
	must(t, s.putLeaf(b, 0))
	must(t, store.CloseBlobs(b))
	d.Damage(name+".proofs", 512+100)
	b = openBlobs(t, d, store.Options{})
	if b.Bytes() != 0 {
		t.Fatalf("%d bytes claimed by a damaged bitmap", b.Bytes())
	}
	must(t, store.CloseBlobs(b))
	d.Damage(name+".proofs", 3)
	b = openBlobs(t, d, store.Options{})
	if n := len(slices.Collect(b.List())); n != 0 {
		t.Fatalf("%d blobs although the head is unreadable", n)
	}
	must(t, store.CloseBlobs(b))
}

func TestBlobWriter(t *testing.T) {
	d := storetest.NewDisk()
	b := openBlobs(t, d, store.Options{MaxBlobBytes: 100 * blob.LeafSize})
	s := newSample(t, 3, 70*blob.LeafSize+1)
	w, err := b.NewWriter()
	must(t, err)
	for _, leaf := range s.leaves {
		must(t, w.WriteLeaf(leaf))
	}
	got, err := w.Finish(t.Context())
	must(t, err)
	if got != s.Descriptor {
		t.Fatalf("descriptor %+v, want %+v", got, s.Descriptor)
	}
	must(t, w.Abort()) // too late
	checkComplete(t, b, s)

	// One that does not fit, one that is given up, one that a crash leaves.
	w, err = b.NewWriter()
	must(t, err)
	for err == nil {
		err = w.WriteLeaf(s.leaves[0])
	}
	wantErr(t, err, store.ErrFull)
	must(t, w.Abort())
	w, err = b.NewWriter()
	must(t, err)
	_, err = w.Finish(t.Context())
	wantErr(t, err, blob.ErrMalformed)
	w, err = b.NewWriter()
	must(t, err)
	must(t, w.WriteLeaf(s.leaves[0]))
	must(t, store.CloseBlobs(b))
	b = openBlobs(t, d, store.Options{})
	if left, err := d.ReadDir("/blobs/import"); err != nil || len(left) != 0 {
		t.Fatalf("%v left (%v)", left, err)
	}
	checkComplete(t, b, s)
	must(t, store.CloseBlobs(b))
}

func TestBlobFilesAreClosed(t *testing.T) {
	b := openBlobs(t, storetest.NewDisk(), store.Options{})
	for i := range 40 {
		s := newSample(t, uint64(i), 2*blob.LeafSize)
		must(t, b.Create(s.Descriptor))
		must(t, s.putLeaf(b, 1))
	}
	if n := store.OpenBlobFiles(b); n > 16 {
		t.Fatalf("%d blobs open", n)
	}
	for info := range b.List() {
		have, err := b.Have(info.Root)
		must(t, err)
		if info.Bytes != blob.LeafSize || have.Has(0) {
			t.Fatalf("info %+v", info)
		}
	}
	must(t, store.CloseBlobs(b))
}

// The power is cut at every change of the disk: whatever Have claims can be
// read, and what was claimed before the cut still is.
func TestBlobPowerCut(t *testing.T) {
	if lost, err := cutBlobsEverywhere(t, func(d *storetest.Disk) vfs.FS { return d }); err != nil || lost != 0 {
		t.Fatalf("%d synced leaves lost, %v", lost, err)
	}
}

func TestBlobPowerCutControl(t *testing.T) {
	if lost, err := cutBlobsEverywhere(t, func(d *storetest.Disk) vfs.FS { return vfs.NoSync{FS: d} }); err == nil && lost == 0 {
		t.Fatal("nothing was lost although nothing was synced: the test proves nothing")
	}
}

// runBlobs stores one blob leaf by leaf and one by a writer. It returns how
// many leaves of the first were synced, and whether the second was finished.
func runBlobs(fsys vfs.FS, a, w sample) (synced []int, finished bool, err error) {
	b, err := store.OpenBlobs("/blobs", store.Options{FS: fsys})
	if err != nil {
		return nil, false, err
	}
	if err := b.Create(a.Descriptor); err != nil {
		return nil, false, err
	}
	var put []int
	for _, i := range rand.New(rand.NewPCG(3, 3)).Perm(len(a.leaves)) {
		if err := a.putLeaf(b, i); err != nil {
			return synced, false, err
		}
		if put = append(put, i); len(put)%5 == 0 {
			if err := b.Sync(context.Background(), a.Root); err != nil {
				return synced, false, err
			}
			synced = slices.Clone(put)
		}
	}
	writer, err := b.NewWriter()
	if err != nil {
		return synced, false, err
	}
	for _, leaf := range w.leaves {
		if err := writer.WriteLeaf(leaf); err != nil {
			return synced, false, err
		}
	}
	_, err = writer.Finish(context.Background())
	return synced, err == nil, err
}

func cutBlobsEverywhere(t *testing.T, wrap func(*storetest.Disk) vfs.FS) (lost int, err error) {
	a, w := newSample(t, 1, 36*blob.LeafSize+9), newSample(t, 2, 2*blob.LeafSize)
	whole := storetest.NewDisk()
	if _, _, err := runBlobs(wrap(whole), a, w); err != nil {
		return 0, err
	}
	for cut := range whole.Changes() + 1 {
		for seed := range 3 {
			d := storetest.NewDisk()
			d.CutAfter(cut)
			synced, finished, _ := runBlobs(wrap(d), a, w)
			after := d.PowerCut(rand.New(rand.NewPCG(uint64(cut), uint64(seed))))
			n, err := lostLeaves(after, a, synced)
			if err == nil && finished {
				var all int
				all, err = lostLeaves(after, w, []int{0, 1})
				n += all
			}
			if err != nil {
				return lost, fmt.Errorf("cut at change %d, seed %d: %w", cut, seed, err)
			}
			lost += n
		}
	}
	return lost, nil
}

// lostLeaves reads everything that is claimed, and counts the leaves that
// should be there and are not.
func lostLeaves(d *storetest.Disk, s sample, synced []int) (lost int, err error) {
	b, err := store.OpenBlobs("/blobs", store.Options{FS: d})
	if err != nil {
		return 0, err
	}
	defer store.CloseBlobs(b)
	have, err := b.Have(s.Root)
	if errors.Is(err, store.ErrNotFound) {
		return len(synced), nil
	}
	if err != nil {
		return 0, err
	}
	for i := have.Next(0); i < have.Len(); i = have.Next(i + 1) {
		leaf, err := b.ReadLeaf(s.Root, i)
		if err != nil || !bytes.Equal(leaf, s.leaves[i]) {
			return lost, fmt.Errorf("leaf %d is claimed and cannot be read: %w", i, err)
		}
	}
	for _, i := range synced {
		if !have.Has(i) {
			lost++
		}
	}
	return lost, nil
}

// nowhere is a file system that forgets the leaves, so that a large blob can
// be written without a large disk.
type nowhere struct{ *storetest.Disk }

type nowhereFile struct{ vfs.File }

func (nowhereFile) WriteAt(p []byte, _ int64) (int, error) { return len(p), nil }
func (nowhereFile) ReadAt([]byte, int64) (int, error)      { return 0, io.EOF }

func (n nowhere) Create(name string) (vfs.File, error) {
	f, err := n.Disk.Create(name)
	if err == nil && strings.HasSuffix(name, ".leaves") {
		return nowhereFile{f}, nil
	}
	return f, err
}

// heapBytes is what is in use after collections. Pools give back what they
// hold at the second one.
func heapBytes() int64 {
	var m runtime.MemStats
	runtime.GC()
	runtime.GC()
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

// A blob of 5 GB needs memory for its hashes, 32 bytes for each leaf, and
// little else.
func TestBlobStreamNeedsLittleMemory(t *testing.T) {
	before := heapBytes() // of the tests before
	d := storetest.NewDisk()
	b := openBlobs(t, nowhere{d}, store.Options{MaxBlobBytes: 8 << 30})
	w, err := b.NewWriter()
	must(t, err)
	leaf := make([]byte, blob.LeafSize)
	const leaves = 5 << 30 / blob.LeafSize / 16 // a sixteenth: the rest would only take time
	for range leaves {
		must(t, w.WriteLeaf(leaf))
	}
	if grown := heapBytes() - before; grown > 32<<20 {
		t.Fatalf("%d MB of heap for a stream of %d MB", grown>>20, leaves*blob.LeafSize>>20)
	}
	must(t, w.Abort())
	must(t, store.CloseBlobs(b))
}
