// Package segment keeps payloads in append-only files beside the index.
//
// A segment is a run of frames:
//
//	id      16 bytes
//	length   4 bytes, big-endian, at least 1
//	payload
//
// Nothing in a segment says whether a frame is still wanted, or whether its
// payload is intact: the index does (a record names segment, offset, length
// and hash), and it tells Open how far each segment counts. What lies beyond
// is from a commit that never happened and is cut off, so that the frames of a
// segment can always be walked from its beginning.
package segment

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"path/filepath"
	"sync"

	"outrider/store/internal/vfs"
)

// FrameHeader is what a frame costs besides its payload, in bytes.
const FrameHeader = 16 + 4

// maxOpen bounds the files held open for reading.
const maxOpen = 8

// ErrUnsynced is wrapped by errors of Append after which nobody knows what the
// disk holds.
var ErrUnsynced = errors.New("sync failed")

// A Place says where a frame begins. Segments count from 1.
type Place struct {
	Segment uint32
	Offset  uint32
}

// An Item is a payload to append.
type Item struct {
	ID      [16]byte
	Payload []byte
}

// Size is the length of the item's frame.
func (i Item) Size() uint32 { return FrameHeader + uint32(len(i.Payload)) }

// A Log is a folder of segments. Append and Remove are for one caller at a
// time; Read and Frames for any number.
type Log struct {
	fs  vfs.FS
	dir string

	mu    sync.RWMutex
	files map[uint32]vfs.File // nil after Close
	syncs uint64
}

// Open opens the segments in dir, creating it if need be. ends says how far
// each segment counts; segments it does not name are removed. The returned
// list names segments that are missing or too short.
func Open(fsys vfs.FS, dir string, ends map[uint32]uint32) (l *Log, damaged []uint32, err error) {
	if err := fsys.MkdirAll(dir); err != nil {
		return nil, nil, fmt.Errorf("segment: open: %w", err)
	}
	l = &Log{fs: fsys, dir: dir, files: make(map[uint32]vfs.File)}
	found, err := l.list()
	if err != nil {
		return nil, nil, err
	}
	for n := range found {
		if _, ok := ends[n]; ok {
			continue
		}
		if err := l.Remove(n); err != nil {
			return nil, nil, err
		}
	}
	for n, end := range ends {
		ok := found[n]
		if ok {
			if ok, err = l.cut(n, end); err != nil {
				return nil, nil, err
			}
		}
		if !ok {
			damaged = append(damaged, n)
		}
	}
	return l, damaged, nil
}

func (l *Log) list() (map[uint32]bool, error) {
	entries, err := l.fs.ReadDir(l.dir)
	if err != nil {
		return nil, fmt.Errorf("segment: list: %w", err)
	}
	found := make(map[uint32]bool)
	for _, e := range entries {
		var n uint32
		if _, err := fmt.Sscanf(e.Name, nameForm, &n); err == nil && l.name(n) == filepath.Join(l.dir, e.Name) {
			found[n] = true
		}
	}
	return found, nil
}

// cut removes what lies beyond end and reports whether the segment reaches
// that far.
func (l *Log) cut(n, end uint32) (bool, error) {
	f, err := l.fs.Open(l.name(n))
	if err != nil {
		return false, fmt.Errorf("segment: open %d: %w", n, err)
	}
	defer f.Close()
	size, err := f.Size()
	if err != nil {
		return false, fmt.Errorf("segment: open %d: %w", n, err)
	}
	if size <= int64(end) {
		return size == int64(end), nil
	}
	if err := errors.Join(f.Truncate(int64(end)), f.Sync()); err != nil {
		return false, fmt.Errorf("segment: cut %d: %w", n, err)
	}
	return true, nil
}

const nameForm = "%08d.seg"

func (l *Log) name(n uint32) string { return filepath.Join(l.dir, fmt.Sprintf(nameForm, n)) }

// Append writes items at their places, which must follow each other without a
// gap within a segment, and returns when they are durable. On error nothing
// counts, and the space may be written again.
func (l *Log) Append(items []Item, places []Place) error {
	for len(items) > 0 {
		n := 1
		for n < len(items) && places[n].Segment == places[0].Segment {
			n++
		}
		if err := l.appendRun(places[0], items[:n]); err != nil {
			return err
		}
		items, places = items[n:], places[n:]
	}
	return nil
}

func (l *Log) appendRun(at Place, items []Item) error {
	size := 0
	for _, it := range items {
		size += int(it.Size())
	}
	buf := make([]byte, 0, size)
	for _, it := range items {
		buf = append(buf, it.ID[:]...)
		buf = binary.BigEndian.AppendUint32(buf, uint32(len(it.Payload)))
		buf = append(buf, it.Payload...)
	}
	f, fresh, err := l.forWriting(at)
	if err != nil {
		return fmt.Errorf("segment: append to %d: %w", at.Segment, err)
	}
	if _, err := f.WriteAt(buf, int64(at.Offset)); err != nil {
		return fmt.Errorf("segment: append to %d: %w", at.Segment, err)
	}
	if err := f.Sync(); err != nil {
		return fmt.Errorf("segment: sync %d: %w: %v", at.Segment, ErrUnsynced, err)
	}
	l.countSyncs(1)
	if fresh {
		if err := l.fs.SyncDir(l.dir); err != nil {
			return fmt.Errorf("segment: sync folder: %w: %v", ErrUnsynced, err)
		}
		l.countSyncs(1)
	}
	return nil
}

// forWriting opens the segment of at, or makes it if at is its beginning.
func (l *Log) forWriting(at Place) (f vfs.File, fresh bool, err error) {
	if at.Offset > 0 {
		f, err = l.file(at.Segment)
		return f, false, err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if f, ok := l.files[at.Segment]; ok { // an earlier append failed
		return f, true, nil
	}
	f, err = l.fs.Create(l.name(at.Segment))
	if errors.Is(err, fs.ErrExist) {
		f, err = l.fs.Open(l.name(at.Segment))
	}
	if err != nil {
		return nil, false, err
	}
	l.keep(at.Segment, f)
	return f, true, nil
}

// file returns the open file of a segment. It stays open at least until the
// caller of file lets go of l.mu or, for Append, for as long as Append runs:
// only Append and readers open files, and readers hold l.mu while they read.
func (l *Log) file(n uint32) (vfs.File, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.open(n)
}

func (l *Log) open(n uint32) (vfs.File, error) {
	if f, ok := l.files[n]; ok {
		return f, nil
	}
	if l.files == nil {
		return nil, fs.ErrClosed
	}
	f, err := l.fs.Open(l.name(n))
	if err != nil {
		return nil, err
	}
	l.keep(n, f)
	return f, nil
}

// keep remembers an open file and closes another one when there are too many.
// The newest segment, to which Append writes, is never the other one.
func (l *Log) keep(n uint32, f vfs.File) {
	newest := n
	for m := range l.files {
		newest = max(newest, m)
	}
	for m, other := range l.files {
		if len(l.files) >= maxOpen && m != newest {
			other.Close()
			delete(l.files, m)
		}
	}
	l.files[n] = f
}

// Read returns the payload of n bytes of the frame at p. The error wraps
// fs.ErrNotExist if the segment has been removed.
func (l *Log) Read(p Place, n uint32) ([]byte, error) {
	buf := make([]byte, n)
	err := l.readAt(p.Segment, buf, int64(p.Offset)+FrameHeader)
	if err != nil {
		return nil, fmt.Errorf("segment: read %d at %d: %w", p.Segment, p.Offset, err)
	}
	return buf, nil
}

func (l *Log) readAt(n uint32, buf []byte, off int64) error {
	l.mu.RLock()
	if f, ok := l.files[n]; ok {
		defer l.mu.RUnlock()
		_, err := f.ReadAt(buf, off)
		return err
	}
	l.mu.RUnlock()
	l.mu.Lock()
	defer l.mu.Unlock()
	f, err := l.open(n)
	if err != nil {
		return err
	}
	_, err = f.ReadAt(buf, off)
	return err
}

// A Frame is what Frames finds.
type Frame struct {
	ID    [16]byte
	Place Place
	Len   uint32 // of the payload
}

// Frames walks a segment up to end. It does not read the payloads.
func (l *Log) Frames(n, end uint32) iter.Seq2[Frame, error] {
	return func(yield func(Frame, error) bool) {
		for off := uint32(0); off < end; {
			var h [FrameHeader]byte
			if err := l.readAt(n, h[:], int64(off)); err != nil {
				yield(Frame{}, fmt.Errorf("segment: walk %d at %d: %w", n, off, err))
				return
			}
			fr, err := parseHeader(h, Place{n, off}, end)
			if !yield(fr, err) || err != nil {
				return
			}
			off += FrameHeader + fr.Len
		}
	}
}

// ErrMalformed is wrapped by errors about a segment whose frames do not add up.
var ErrMalformed = errors.New("malformed")

func parseHeader(h [FrameHeader]byte, at Place, end uint32) (Frame, error) {
	fr := Frame{ID: [16]byte(h[:16]), Place: at, Len: binary.BigEndian.Uint32(h[16:])}
	if fr.Len == 0 || uint64(at.Offset)+FrameHeader+uint64(fr.Len) > uint64(end) {
		return Frame{}, fmt.Errorf("segment: walk %d at %d: frame of %d bytes before %d: %w", at.Segment, at.Offset, fr.Len, end, ErrMalformed)
	}
	return fr, nil
}

// Remove removes a segment. A crash may bring it back; Open then removes it.
func (l *Log) Remove(n uint32) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if f, ok := l.files[n]; ok {
		f.Close()
		delete(l.files, n)
	}
	if err := l.fs.Remove(l.name(n)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("segment: remove %d: %w", n, err)
	}
	return nil
}

func (l *Log) countSyncs(n uint64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.syncs += n
}

// Syncs returns how often Append has made the disk sync.
func (l *Log) Syncs() uint64 {
	l.mu.RLock()
	defer l.mu.RUnlock()
	return l.syncs
}

// Close closes all files.
func (l *Log) Close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	var err error
	for _, f := range l.files {
		err = errors.Join(err, f.Close())
	}
	l.files = nil
	return err
}
