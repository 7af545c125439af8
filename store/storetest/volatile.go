package storetest

import (
	"errors"
	"io"
	"math/rand/v2"
	"sync"

	"outrider/store/internal/vfs"
)

// Volatile is the machine's file system with the cache taken out of the
// kernel: what is written stays in this process until it is synced. So when
// the process is killed, unsynced writes are lost as if the power were cut,
// and a kill during Sync leaves part of them.
type Volatile struct {
	vfs.OS

	mu    sync.Mutex
	files map[string]*volatileFile
}

// NewVolatile returns the file system.
func NewVolatile() *Volatile { return &Volatile{files: make(map[string]*volatileFile)} }

// A volatileFile is shared by all who have it open.
type volatileFile struct {
	vfs.File
	mu    sync.Mutex
	dirty []write
	size  int64
}

// Open implements vfs.FS.
func (v *Volatile) Open(name string) (vfs.File, error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if f := v.files[name]; f != nil {
		return f, nil
	}
	return v.keep(name)(v.OS.Open(name))
}

// Create implements vfs.FS.
func (v *Volatile) Create(name string) (vfs.File, error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.keep(name)(v.OS.Create(name))
}

func (v *Volatile) keep(name string) func(vfs.File, error) (vfs.File, error) {
	return func(f vfs.File, err error) (vfs.File, error) {
		if err != nil {
			return nil, err
		}
		size, err := f.Size()
		if err != nil {
			return nil, errors.Join(err, f.Close())
		}
		v.files[name] = &volatileFile{File: f, size: size}
		return v.files[name], nil
	}
}

// Rename implements vfs.FS.
func (v *Volatile) Rename(from, to string) error {
	v.mu.Lock()
	defer v.mu.Unlock()
	if f := v.files[from]; f != nil {
		delete(v.files, from)
		v.files[to] = f
	}
	return v.OS.Rename(from, to)
}

// Remove implements vfs.FS.
func (v *Volatile) Remove(name string) error {
	v.mu.Lock()
	defer v.mu.Unlock()
	delete(v.files, name)
	return v.OS.Remove(name)
}

func (f *volatileFile) WriteAt(p []byte, off int64) (int, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.dirty = append(f.dirty, write{off, append([]byte{}, p...)})
	f.size = max(f.size, off+int64(len(p)))
	return len(p), nil
}

func (f *volatileFile) Truncate(size int64) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.dirty = append(f.dirty, write{off: size})
	f.size = size
	return nil
}

func (f *volatileFile) Size() (int64, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.size, nil
}

func (f *volatileFile) ReadAt(p []byte, off int64) (int, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if off >= f.size {
		return 0, io.EOF
	}
	n := int(min(int64(len(p)), f.size-off))
	clear(p)
	if _, err := f.File.ReadAt(p[:n], off); err != nil && !errors.Is(err, io.EOF) {
		return 0, err
	}
	for _, w := range f.dirty {
		w.onto(p[:n], off)
	}
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

// onto lays a write over p, which shows the file from off on.
func (w write) onto(p []byte, off int64) {
	if w.data == nil {
		if w.off < off+int64(len(p)) {
			clear(p[max(w.off-off, 0):])
		}
		return
	}
	from, to := max(w.off, off), min(w.off+int64(len(w.data)), off+int64(len(p)))
	if from < to {
		copy(p[from-off:to-off], w.data[from-w.off:])
	}
}

// Sync writes what is dirty, overlapping writes in order and the others in
// any, and syncs.
func (f *volatileFile) Sync() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if ordered := overlapping(f.dirty); !ordered {
		rand.Shuffle(len(f.dirty), func(i, j int) { f.dirty[i], f.dirty[j] = f.dirty[j], f.dirty[i] })
	}
	for _, w := range f.dirty {
		var err error
		if w.data == nil {
			err = f.File.Truncate(w.off)
		} else {
			_, err = f.File.WriteAt(w.data, w.off)
		}
		if err != nil {
			return err
		}
	}
	f.dirty = nil
	return f.File.Sync()
}

func overlapping(writes []write) bool {
	for i, a := range writes {
		if a.data == nil {
			return true
		}
		for _, b := range writes[:i] {
			if a.off < b.off+int64(len(b.data)) && b.off < a.off+int64(len(a.data)) {
				return true
			}
		}
	}
	return false
}

// Close keeps the file: others may have it open, and what is dirty must be
// read again.
func (f *volatileFile) Close() error { return nil }
