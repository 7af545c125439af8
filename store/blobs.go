package store

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"iter"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"outrider/mesh/blob"
	"outrider/store/internal/vfs"
)

// Limits we chose.
const (
	maxOpenBlobs = 16      // blobs whose files are kept open
	maxBlobs     = 1 << 16 // blobs of any state
)

const (
	leavesExt = ".leaves"
	proofsExt = ".proofs"
	importDir = "import" // unfinished BlobWriters
)

// Blobs keep large content in plain files: the leaves of a blob in one, what
// proves them and which of them are there in another. Nothing here can open
// what it keeps.
//
// A leaf is verified before it is written, and Have claims it only after it
// has been synced. It counts against the quota from when it is written.
type Blobs struct {
	fs  vfs.FS
	dir string
	o   Options

	mu     sync.Mutex // guards the rest
	known  map[blob.Root]*blobInfo
	used   uint64 // bytes of verified leaves, in known and in writers
	closed bool
}

type blobInfo struct {
	desc blob.Descriptor
	held uint64    // bytes of verified leaves
	file *blobFile // nil while closed
}

func openBlobs(fsys vfs.FS, dir string, o Options) (*Blobs, error) {
	b := &Blobs{fs: fsys, dir: dir, o: o, known: make(map[blob.Root]*blobInfo)}
	if err := fsys.MkdirAll(filepath.Join(dir, importDir)); err != nil {
		return nil, fmt.Errorf("store: open blobs: %w", translate(err))
	}
	if err := b.removeAll(importDir); err != nil {
		return nil, err
	}
	folders, err := fsys.ReadDir(dir)
	if err != nil {
		return nil, fmt.Errorf("store: open blobs: %w", err)
	}
	for _, f := range folders {
		if f.Dir && f.Name != importDir {
			if err := b.scan(f.Name); err != nil {
				return nil, err
			}
		}
	}
	return b, nil
}

func (b *Blobs) removeAll(sub string) error {
	entries, err := b.fs.ReadDir(filepath.Join(b.dir, sub))
	if err != nil {
		return fmt.Errorf("store: open blobs: %w", err)
	}
	for _, e := range entries {
		if err := b.fs.Remove(filepath.Join(b.dir, sub, e.Name)); err != nil {
			return fmt.Errorf("store: open blobs: %w", err)
		}
	}
	return nil
}

// scan finds the blobs of one folder. Halves of blobs, which a crash while one
// was made or deleted can leave, are removed.
func (b *Blobs) scan(sub string) error {
	entries, err := b.fs.ReadDir(filepath.Join(b.dir, sub))
	if err != nil {
		return fmt.Errorf("store: open blobs: %w", err)
	}
	for _, e := range entries {
		base, ext := strings.TrimSuffix(e.Name, filepath.Ext(e.Name)), filepath.Ext(e.Name)
		root, ok := parseRoot(base)
		if e.Dir || !ok || ext != leavesExt && ext != proofsExt {
			continue // not ours
		}
		if ext == proofsExt {
			continue
		}
		if err := b.adopt(root); err != nil {
			return err
		}
	}
	for _, e := range entries {
		root, ok := parseRoot(strings.TrimSuffix(e.Name, proofsExt))
		if ok && b.known[root] == nil && filepath.Ext(e.Name) == proofsExt {
			if err := b.removeFiles(root); err != nil {
				return err
			}
		}
	}
	return nil
}

func parseRoot(s string) (root blob.Root, ok bool) {
	n, err := hex.Decode(root[:], []byte(s[:min(len(s), 2*len(root))]))
	return root, err == nil && n == len(root) && len(s) == 2*len(root)
}

// adopt enters a blob found on disk. One whose head cannot be read is removed:
// its leaves could not be told from garbage.
func (b *Blobs) adopt(root blob.Root) error {
	f, err := openBlobFile(b.fs, b.name(root, leavesExt), b.name(root, proofsExt))
	if gone(err) || errors.Is(err, ErrCorrupt) || err == nil && f.desc.Root != root {
		if f != nil {
			f.close()
		}
		b.o.Log.Warn("store: removed a blob without a readable head", "err", err)
		return b.removeFiles(root)
	}
	if err != nil {
		return fmt.Errorf("store: open blobs: %w", err)
	}
	held := heldBytes(f.desc.Geometry(), f.have)
	b.known[root] = &blobInfo{desc: f.desc, held: held}
	b.used += held
	return f.close()
}

func (b *Blobs) name(root blob.Root, ext string) string {
	text := root.String()
	return filepath.Join(b.dir, text[:2], text+ext)
}

func (b *Blobs) removeFiles(root blob.Root) error {
	for _, ext := range []string{proofsExt, leavesExt} { // first what claims, then what is claimed
		if err := b.fs.Remove(b.name(root, ext)); err != nil && !gone(err) {
			return fmt.Errorf("store: remove blob: %w", err)
		}
	}
	return nil
}

// Create makes an empty blob, of which groups and leaves can then be put. A
// blob that exists is left as it is; one of another length, to which its root
// commits too, is replaced as long as no leaf of it has verified, and after that
// the error wraps blob.ErrMismatch.
func (b *Blobs) Create(d blob.Descriptor) error {
	if err := d.Check(); err != nil {
		return fmt.Errorf("store: create blob: %w: %w", err, ErrInvalid)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	old := b.known[d.Root]
	switch {
	case b.closed:
		return fmt.Errorf("store: create blob: %w", ErrClosed)
	case old != nil && old.desc == d:
		return nil
	case old != nil && old.held > 0:
		return fmt.Errorf("store: create blob of %d bytes, which has leaves as one of %d: %w", d.Length, old.desc.Length, blob.ErrMismatch)
	case old != nil:
		if err := b.remove(old); err != nil {
			return fmt.Errorf("store: create blob: %w", err)
		}
	case len(b.known) >= maxBlobs:
		return fmt.Errorf("store: create blob: %d blobs already: %w", len(b.known), ErrFull)
	}
	if err := b.makeFiles(d); err != nil {
		return fmt.Errorf("store: create blob: %w", errors.Join(translate(err), b.removeFiles(d.Root)))
	}
	b.known[d.Root] = &blobInfo{desc: d}
	return nil
}

func (b *Blobs) makeFiles(d blob.Descriptor) error {
	if err := b.room(0); err != nil {
		return err
	}
	dir := filepath.Dir(b.name(d.Root, leavesExt))
	if err := b.fs.MkdirAll(dir); err != nil {
		return err
	}
	data, err := b.fs.Create(b.name(d.Root, leavesExt))
	if err != nil {
		return err
	}
	proofs, err := b.fs.Create(b.name(d.Root, proofsExt))
	if err != nil {
		return errors.Join(err, data.Close())
	}
	_, err = proofs.WriteAt(encodeDescriptor(d), 0)
	if err == nil {
		err = proofs.Sync()
	}
	return errors.Join(err, data.Close(), proofs.Close(), b.fs.SyncDir(dir))
}

// room reports whether n more bytes fit the quota and the disk. The caller
// holds mu.
func (b *Blobs) room(n uint64) error {
	if b.used+n > b.o.MaxBlobBytes {
		return fmt.Errorf("%d of %d bytes of blobs used: %w", b.used, b.o.MaxBlobBytes, ErrFull)
	}
	free, err := b.fs.Free(b.dir)
	if err != nil {
		return err
	}
	if free < b.o.FreeFloor+n {
		return fmt.Errorf("%d MiB free on the disk, %d are kept free: %w", free>>20, b.o.FreeFloor>>20, ErrFull)
	}
	return nil
}

// use opens a blob for the caller, who must call done.
func (b *Blobs) use(root blob.Root) (f *blobFile, done func(), err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	info := b.known[root]
	switch {
	case b.closed:
		return nil, nil, fmt.Errorf("store: blob: %w", ErrClosed)
	case info == nil:
		return nil, nil, fmt.Errorf("store: blob: %w", ErrNotFound)
	}
	if info.file == nil {
		if err := b.makeWay(); err != nil {
			return nil, nil, err
		}
		if info.file, err = openBlobFile(b.fs, b.name(root, leavesExt), b.name(root, proofsExt)); err != nil {
			info.file = nil
			return nil, nil, fmt.Errorf("store: open blob: %w", err)
		}
	}
	f = info.file
	f.uses++
	return f, func() { b.release(f) }, nil
}

// makeWay closes files of blobs nobody uses while too many are open.
func (b *Blobs) makeWay() error {
	open := 0
	for _, info := range b.known {
		if info.file != nil {
			open++
		}
	}
	for _, info := range b.known {
		if open < maxOpenBlobs {
			return nil
		}
		if info.file == nil || info.file.uses > 0 {
			continue
		}
		f := info.file
		info.file = nil
		open--
		lost, err := f.flush()
		b.giveBack(info, lost)
		if err := errors.Join(err, f.close()); err != nil {
			return fmt.Errorf("store: close blob: %w", translate(err))
		}
	}
	return nil // all in use: then there are more than we like
}

// release ends a use. The files of a blob that was deleted meanwhile are
// closed by its last user.
func (b *Blobs) release(f *blobFile) {
	b.mu.Lock()
	defer b.mu.Unlock()
	f.uses--
	info := b.known[f.desc.Root]
	if f.uses == 0 && (info == nil || info.file != f) {
		f.close()
	}
}

// giveBack takes bytes out of the account of a blob. The caller holds mu.
func (b *Blobs) giveBack(info *blobInfo, n uint64) {
	info.held -= n
	b.used -= n
}

// PutGroupProof stores what proves the leaves of a group. A proof that does
// not lead to the root wraps blob.ErrMismatch or blob.ErrMalformed.
func (b *Blobs) PutGroupProof(root blob.Root, group int, p blob.GroupProof) error {
	f, done, err := b.use(root)
	if err != nil {
		return err
	}
	defer done()
	if err := p.Verify(root, f.desc.Length, group); err != nil {
		return fmt.Errorf("store: put proof: %w", err)
	}
	if err := b.checkRoom(0); err != nil {
		return fmt.Errorf("store: put proof: %w", err)
	}
	if err := f.putProof(group, p); err != nil {
		return fmt.Errorf("store: put proof: %w", translate(err))
	}
	return nil
}

func (b *Blobs) checkRoom(n uint64) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.room(n)
}

// GroupProof returns the stored proof of a group, ErrNotFound if it has not
// been put.
func (b *Blobs) GroupProof(root blob.Root, group int) (blob.GroupProof, error) {
	f, done, err := b.use(root)
	if err != nil {
		return blob.GroupProof{}, err
	}
	defer done()
	if group < 0 || group >= f.desc.Geometry().Groups() {
		return blob.GroupProof{}, fmt.Errorf("store: blob: no group %d: %w", group, ErrNotFound)
	}
	return f.groupProof(group)
}

// PutLeaf verifies a leaf and writes it. It becomes durable, and Have claims
// it, by Sync, or by itself after some more leaves. The proof of its group
// must have been put (else ErrNotFound). A leaf that does not fit its proof
// wraps blob.ErrMismatch and changes nothing.
func (b *Blobs) PutLeaf(root blob.Root, i int, leaf []byte) error {
	f, done, err := b.use(root)
	if err != nil {
		return err
	}
	defer done()
	g := f.desc.Geometry()
	if n := g.LeafLen(i); n == 0 || n != len(leaf) {
		return fmt.Errorf("store: put leaf %d of %d bytes, want %d: %w", i, len(leaf), n, ErrInvalid)
	}
	if f.has(i) {
		return nil
	}
	p, err := f.groupProof(g.GroupOf(i))
	if err != nil {
		return fmt.Errorf("store: put leaf %d: %w", i, err)
	}
	if err := p.CheckLeaf(i%blob.GroupLeaves, leaf); err != nil {
		return fmt.Errorf("store: put leaf: %w", err)
	}
	if err := b.writeLeaf(f, i, leaf); err != nil {
		return fmt.Errorf("store: put leaf: %w", translate(err))
	}
	if f.full() {
		return b.flush(f)
	}
	return nil
}

// writeLeaf reserves the space of a verified leaf, and gives it back if the
// leaf was not written.
func (b *Blobs) writeLeaf(f *blobFile, i int, leaf []byte) error {
	n := uint64(len(leaf))
	b.mu.Lock()
	info := b.known[f.desc.Root]
	if info == nil || info.file != f {
		b.mu.Unlock()
		return fmt.Errorf("deleted meanwhile: %w", ErrNotFound)
	}
	if err := b.room(n); err != nil {
		b.mu.Unlock()
		return err
	}
	info.held += n
	b.used += n
	b.mu.Unlock()

	fresh, err := f.putLeaf(i, leaf)
	if err != nil || !fresh {
		b.account(f, n)
	}
	return err
}

// account gives bytes back, if the blob still has them.
func (b *Blobs) account(f *blobFile, n uint64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if info := b.known[f.desc.Root]; info != nil && info.file == f {
		b.giveBack(info, n)
	}
}

func (b *Blobs) flush(f *blobFile) error {
	lost, err := f.flush()
	if lost > 0 {
		b.account(f, lost)
	}
	if err != nil {
		return fmt.Errorf("store: sync blob: %w", translate(err))
	}
	return nil
}

// Sync makes all leaves and proofs of a blob durable that have been put.
func (b *Blobs) Sync(ctx context.Context, root blob.Root) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	f, done, err := b.use(root)
	if err != nil {
		return err
	}
	defer done()
	return b.flush(f)
}

// Have returns which leaves of a blob are stored and durable.
func (b *Blobs) Have(root blob.Root) (*blob.Bitmap, error) {
	f, done, err := b.use(root)
	if err != nil {
		return nil, err
	}
	defer done()
	return f.bitmap(), nil
}

// ReadLeaf returns a leaf that Have claims. It is verified anew, which costs
// one hash: a leaf that has rotted is ErrCorrupt, once, and is then one that
// Have does not claim. A leaf that is not there is ErrNotFound.
func (b *Blobs) ReadLeaf(root blob.Root, i int) ([]byte, error) {
	f, done, err := b.use(root)
	if err != nil {
		return nil, err
	}
	defer done()
	g := f.desc.Geometry()
	if g.LeafLen(i) == 0 || !f.has(i) {
		return nil, fmt.Errorf("store: read leaf %d: %w", i, ErrNotFound)
	}
	p, err := f.groupProof(g.GroupOf(i))
	if err == nil {
		leaf := make([]byte, g.LeafLen(i))
		if _, err = f.data.ReadAt(leaf, g.Offset(i)); err == nil {
			err = p.CheckLeaf(i%blob.GroupLeaves, leaf)
		}
		if err == nil {
			return leaf, nil
		}
	}
	if f.disown(i) {
		b.account(f, uint64(g.LeafLen(i)))
	}
	return nil, fmt.Errorf("store: read leaf %d: %w (%v); it will be fetched again", i, ErrCorrupt, err)
}

// BlobInfo describes a stored blob.
type BlobInfo struct {
	blob.Descriptor
	Bytes uint64 // of leaves verified and written
}

// Complete reports whether every leaf has been written.
func (i BlobInfo) Complete() bool { return i.Bytes == i.Length }

// Info describes one blob.
func (b *Blobs) Info(root blob.Root) (BlobInfo, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	info := b.known[root]
	if info == nil {
		return BlobInfo{}, fmt.Errorf("store: blob: %w", ErrNotFound)
	}
	return BlobInfo{Descriptor: info.desc, Bytes: info.held}, nil
}

// List visits all blobs, in order of their roots.
func (b *Blobs) List() iter.Seq[BlobInfo] {
	b.mu.Lock()
	defer b.mu.Unlock()
	list := make([]BlobInfo, 0, len(b.known))
	for info := range maps.Values(b.known) {
		list = append(list, BlobInfo{Descriptor: info.desc, Bytes: info.held})
	}
	slices.SortFunc(list, func(x, y BlobInfo) int { return slices.Compare(x.Root[:], y.Root[:]) })
	return slices.Values(list)
}

// Bytes is what counts against the quota.
func (b *Blobs) Bytes() uint64 {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.used
}

// Delete removes a blob. It is no error if there is none.
func (b *Blobs) Delete(root blob.Root) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if info := b.known[root]; info != nil {
		return b.remove(info)
	}
	return nil
}

// remove takes a blob off the disk. The caller holds mu.
func (b *Blobs) remove(info *blobInfo) error {
	root := info.desc.Root
	if err := b.removeFiles(root); err != nil {
		return err
	}
	b.used -= info.held
	delete(b.known, root)
	if f := info.file; f != nil && f.uses == 0 {
		return f.close()
	}
	return nil
}

func (b *Blobs) close() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.closed = true
	var err error
	for _, info := range b.known {
		if f := info.file; f != nil {
			info.file = nil
			_, ferr := f.flush()
			err = errors.Join(err, ferr)
			if f.uses == 0 {
				err = errors.Join(err, f.close())
			}
		}
	}
	return err
}
