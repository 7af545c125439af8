package store

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"path/filepath"

	"outrider/mesh/blob"
	"outrider/store/internal/vfs"
)

// A BlobWriter makes a blob whose root is not known before its last leaf.
// It must be ended by Finish or Abort. What a crash leaves of it is removed by
// the next Open.
type BlobWriter struct {
	b       *Blobs
	builder blob.Builder
	data    vfs.File
	name    string // of the data file, without its extension
	ended   bool
}

// NewWriter begins a blob.
func (b *Blobs) NewWriter() (*BlobWriter, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed {
		return nil, fmt.Errorf("store: write blob: %w", ErrClosed)
	}
	name := filepath.Join(b.dir, importDir, rand.Text())
	f, err := b.fs.Create(name + leavesExt)
	if err != nil {
		return nil, fmt.Errorf("store: write blob: %w", translate(err))
	}
	return &BlobWriter{b: b, data: f, name: name}, nil
}

// WriteLeaf adds the next leaf: blob.LeafSize bytes, or fewer for the last.
func (w *BlobWriter) WriteLeaf(leaf []byte) error {
	if w.ended {
		return fmt.Errorf("store: write blob: %w", ErrClosed)
	}
	if err := w.reserve(uint64(len(leaf))); err != nil {
		return fmt.Errorf("store: write blob: %w", err)
	}
	at := w.builder.Length()
	err := w.builder.AddLeaf(leaf)
	if err == nil {
		_, err = w.data.WriteAt(leaf, int64(at))
	}
	if err != nil {
		w.giveBack(uint64(len(leaf)))
		// A leaf that was hashed but not written cannot be taken back.
		return fmt.Errorf("store: write blob: %w", errors.Join(translate(err), w.Abort()))
	}
	return nil
}

func (w *BlobWriter) reserve(n uint64) error {
	w.b.mu.Lock()
	defer w.b.mu.Unlock()
	if err := w.b.room(n); err != nil {
		return err
	}
	w.b.used += n
	return nil
}

func (w *BlobWriter) giveBack(n uint64) {
	w.b.mu.Lock()
	defer w.b.mu.Unlock()
	w.b.used -= n
}

// Length is the number of bytes written so far.
func (w *BlobWriter) Length() uint64 { return w.builder.Length() }

// Abort drops what was written. After Finish it does nothing.
func (w *BlobWriter) Abort() error {
	if w.ended {
		return nil
	}
	w.ended = true
	w.giveBack(w.builder.Length())
	err := w.data.Close()
	for _, ext := range []string{proofsExt, leavesExt} {
		if rerr := w.b.fs.Remove(w.name + ext); !gone(rerr) {
			err = errors.Join(err, rerr)
		}
	}
	return err
}

// Finish makes the blob durable and returns what describes it. On error
// nothing is kept.
func (w *BlobWriter) Finish(ctx context.Context) (blob.Descriptor, error) {
	d, err := w.finish(ctx)
	if err != nil {
		return d, fmt.Errorf("store: finish blob: %w", errors.Join(translate(err), w.Abort()))
	}
	return d, nil
}

func (w *BlobWriter) finish(ctx context.Context) (blob.Descriptor, error) {
	if w.ended {
		return blob.Descriptor{}, ErrClosed
	}
	root, hashes := w.builder.Finish()
	d := blob.Descriptor{Root: root, Length: w.builder.Length()}
	if err := errors.Join(ctx.Err(), d.Check()); err != nil {
		return d, err
	}
	if err := w.data.Sync(); err != nil {
		return d, err
	}
	if err := w.writeProofs(d, hashes); err != nil {
		return d, err
	}
	return d, w.moveIn(d)
}

func (w *BlobWriter) writeProofs(d blob.Descriptor, hashes blob.Hashes) error {
	f, err := w.b.fs.Create(w.name + proofsExt)
	if err != nil {
		return err
	}
	g := d.Geometry()
	_, err = f.WriteAt(encodeDescriptor(d), 0)
	for group := 0; group < g.Groups() && err == nil; group++ {
		var sector int64
		var raw []byte
		if sector, raw, err = encodeProof(g, group, blob.Proof(hashes, group)); err == nil {
			_, err = f.WriteAt(raw, sector*sectorSize)
		}
	}
	all := blob.NewBitmap(g.Leaves())
	for i := range g.Leaves() {
		all.Set(i)
	}
	for i := 0; i < g.Leaves() && err == nil; i += sectorBits {
		sector, raw := bitmapSector(all, i)
		_, err = f.WriteAt(raw, sector*sectorSize)
	}
	if err == nil {
		err = f.Sync()
	}
	return errors.Join(err, f.Close())
}

// moveIn gives the files their final names, the claiming one last.
func (w *BlobWriter) moveIn(d blob.Descriptor) error {
	b := w.b
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed {
		return ErrClosed
	}
	if b.known[d.Root] != nil {
		return fmt.Errorf("there is a blob with this root: %w", ErrInvalid)
	}
	dir := filepath.Dir(b.name(d.Root, leavesExt))
	if err := b.fs.MkdirAll(dir); err != nil {
		return err
	}
	if err := b.fs.Rename(w.name+leavesExt, b.name(d.Root, leavesExt)); err != nil {
		return err
	}
	if err := b.fs.SyncDir(dir); err != nil {
		return errors.Join(err, b.removeFiles(d.Root))
	}
	if err := b.fs.Rename(w.name+proofsExt, b.name(d.Root, proofsExt)); err != nil {
		return errors.Join(err, b.removeFiles(d.Root))
	}
	if err := errors.Join(b.fs.SyncDir(dir), w.data.Close()); err != nil {
		return errors.Join(err, b.removeFiles(d.Root))
	}
	w.ended = true
	b.known[d.Root] = &blobInfo{desc: d, held: d.Length}
	return nil
}
