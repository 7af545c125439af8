package storetest

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"

	"outrider/store/internal/vfs"
)

// ErrPower is what every call on a Disk returns after its power was cut.
var ErrPower = errors.New("storetest: power is cut")

// sector is the unit a disk writes as a whole.
const sector = 512

// A Disk is a file system in memory that can lose power. It promises what vfs
// does and breaks everything else: after PowerCut a write that was not synced
// is there, or not, or in part, whatever became of the writes around it; so is
// a name whose folder was not synced.
type Disk struct {
	// Capacity limits the sum of all file sizes, in bytes. 0 is 1 TiB.
	Capacity uint64
	// OnWrite, if set, sees every byte on its way to the disk.
	OnWrite func(name string, off int64, data []byte)
	// OnOp, if set, is asked before each change; an error makes it fail. The
	// operations are create, write, truncate, sync, syncdir, rename, remove.
	OnOp func(op, name string) error

	mu      sync.Mutex
	names   map[string]*inode // as running programs see them
	durable map[string]*inode
	dirs    map[string]bool
	pending []nameOp
	locks   map[string]bool
	left    int // changes until the power is cut; negative: never
	cut     bool
	used    uint64
	changes int
}

// NewDisk returns an empty disk.
func NewDisk() *Disk {
	return &Disk{
		names: make(map[string]*inode), durable: make(map[string]*inode),
		dirs: map[string]bool{"/": true}, locks: make(map[string]bool), left: -1,
	}
}

var _ vfs.FS = (*Disk)(nil)

// An inode is a file without its name.
type inode struct {
	data    []byte
	durable []byte
	pending []write
}

// A write is a change of a file that is not synced: of content or, if data is
// nil, of size.
type write struct {
	off  int64
	data []byte
}

// A nameOp is a change of names that is not synced.
type nameOp struct {
	from, to string // from is "" for create, to is "" for remove
	inode    *inode
}

func (o nameOp) touches(dir string) bool {
	return o.from != "" && filepath.Dir(o.from) == dir || o.to != "" && filepath.Dir(o.to) == dir
}

func (o nameOp) names(name string) bool { return name != "" && (o.from == name || o.to == name) }

// CutAfter cuts the power after n more changes. Tests count changes of a run
// with Changes and then cut at each.
func (d *Disk) CutAfter(n int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.left = n
}

// Changes is the number of changes asked for so far.
func (d *Disk) Changes() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.changes
}

// step accounts for a change. The caller holds mu.
func (d *Disk) step(op, name string) error {
	if d.cut {
		return ErrPower
	}
	d.changes++
	if d.left == 0 {
		d.cut = true
		return ErrPower
	}
	if d.left > 0 {
		d.left--
	}
	if d.OnOp != nil {
		return d.OnOp(op, name)
	}
	return nil
}

// PowerCut returns a disk as it may be found after the power is lost now. The
// old one is not usable any more.
func (d *Disk) PowerCut(r *rand.Rand) *Disk {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.cut = true
	after := NewDisk()
	after.Capacity = d.Capacity
	for dir := range d.dirs {
		after.dirs[dir] = true
	}
	for len(d.pending) > 0 {
		if op := d.pending[0]; r.IntN(2) == 0 {
			d.settle(func(o nameOp) bool { return o == op })
		} else {
			d.pending = d.pending[1:]
		}
	}
	for name, ino := range d.durable {
		data := ino.survive(r)
		fresh := &inode{data: data, durable: slices.Clone(data)}
		after.names[name], after.durable[name] = fresh, fresh
		after.used += uint64(len(data))
	}
	return after
}

// survive returns what a file holds after a power cut.
func (i *inode) survive(r *rand.Rand) []byte {
	data := slices.Clone(i.durable)
	for _, w := range i.pending {
		switch r.IntN(3) {
		case 0: // lost
		case 1:
			data = w.apply(data)
		case 2:
			data = w.tear(data, r)
		}
	}
	return data
}

func (w write) apply(data []byte) []byte {
	if w.data == nil {
		return resize(data, w.off)
	}
	data = resize(data, max(int64(len(data)), w.off+int64(len(w.data))))
	copy(data[w.off:], w.data)
	return data
}

// tear applies some sectors of a write.
func (w write) tear(data []byte, r *rand.Rand) []byte {
	for off := w.off; off < w.off+int64(len(w.data)); {
		end := min((off/sector+1)*sector, w.off+int64(len(w.data)))
		if r.IntN(2) == 0 {
			data = write{off, w.data[off-w.off : end-w.off]}.apply(data)
		}
		off = end
	}
	return data
}

func resize(data []byte, n int64) []byte {
	if n <= int64(len(data)) {
		return data[:n:n]
	}
	return append(data, make([]byte, n-int64(len(data)))...)
}

// settle makes those pending changes of names durable that match, and forgets
// earlier ones of the same names, which they supersede.
func (d *Disk) settle(match func(nameOp) bool) {
	var rest []nameOp
	for i := len(d.pending) - 1; i >= 0; i-- {
		op := d.pending[i]
		if !match(op) {
			rest = append(rest, op)
		}
	}
	slices.Reverse(rest)
	for _, op := range d.pending {
		if !match(op) {
			continue
		}
		if op.from != "" {
			delete(d.durable, op.from)
		}
		if op.to != "" {
			d.durable[op.to] = op.inode
		}
		rest = slices.DeleteFunc(rest, func(o nameOp) bool {
			return (o.names(op.from) || o.names(op.to)) && d.before(o, op)
		})
	}
	d.pending = rest
}

func (d *Disk) before(a, b nameOp) bool {
	return slices.Index(d.pending, a) < slices.Index(d.pending, b)
}

type diskFile struct {
	d    *Disk
	name string
	ino  *inode
}

// Open implements vfs.FS.
func (d *Disk) Open(name string) (vfs.File, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.cut {
		return nil, ErrPower
	}
	ino := d.names[name]
	if ino == nil {
		return nil, fmt.Errorf("open %s: %w", name, fs.ErrNotExist)
	}
	return &diskFile{d, name, ino}, nil
}

// Create implements vfs.FS.
func (d *Disk) Create(name string) (vfs.File, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if !d.dirs[filepath.Dir(name)] {
		return nil, fmt.Errorf("create %s: %w", name, fs.ErrNotExist)
	}
	if d.names[name] != nil {
		return nil, fmt.Errorf("create %s: %w", name, fs.ErrExist)
	}
	if err := d.step("create", name); err != nil {
		return nil, err
	}
	ino := new(inode)
	d.names[name] = ino
	d.pending = append(d.pending, nameOp{to: name, inode: ino})
	return &diskFile{d, name, ino}, nil
}

// Rename implements vfs.FS.
func (d *Disk) Rename(from, to string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	ino := d.names[from]
	if ino == nil || !d.dirs[filepath.Dir(to)] {
		return fmt.Errorf("rename %s: %w", from, fs.ErrNotExist)
	}
	if err := d.step("rename", from); err != nil {
		return err
	}
	delete(d.names, from)
	if old := d.names[to]; old != nil {
		d.used -= uint64(len(old.data))
	}
	d.names[to] = ino
	d.pending = append(d.pending, nameOp{from: from, to: to, inode: ino})
	return nil
}

// Remove implements vfs.FS.
func (d *Disk) Remove(name string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	ino := d.names[name]
	if ino == nil {
		return fmt.Errorf("remove %s: %w", name, fs.ErrNotExist)
	}
	if err := d.step("remove", name); err != nil {
		return err
	}
	delete(d.names, name)
	d.used -= uint64(len(ino.data))
	d.pending = append(d.pending, nameOp{from: name, inode: ino})
	return nil
}

// MkdirAll implements vfs.FS. Folders are durable at once.
func (d *Disk) MkdirAll(dir string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.cut {
		return ErrPower
	}
	for ; !d.dirs[dir]; dir = filepath.Dir(dir) {
		d.dirs[dir] = true
	}
	return nil
}

// ReadDir implements vfs.FS.
func (d *Disk) ReadDir(dir string) ([]vfs.Entry, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.cut {
		return nil, ErrPower
	}
	if !d.dirs[dir] {
		return nil, fmt.Errorf("read %s: %w", dir, fs.ErrNotExist)
	}
	var out []vfs.Entry
	for name := range d.names {
		if filepath.Dir(name) == dir {
			out = append(out, vfs.Entry{Name: filepath.Base(name)})
		}
	}
	for sub := range d.dirs {
		if filepath.Dir(sub) == dir && sub != dir {
			out = append(out, vfs.Entry{Name: filepath.Base(sub), Dir: true})
		}
	}
	slices.SortFunc(out, func(a, b vfs.Entry) int { return strings.Compare(a.Name, b.Name) })
	return out, nil
}

// SyncDir implements vfs.FS.
func (d *Disk) SyncDir(dir string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := d.step("syncdir", dir); err != nil {
		return err
	}
	d.settle(func(o nameOp) bool { return o.touches(dir) })
	return nil
}

func (d *Disk) capacity() uint64 {
	if d.Capacity == 0 {
		return 1 << 40
	}
	return d.Capacity
}

// Free implements vfs.FS.
func (d *Disk) Free(string) (uint64, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.cut {
		return 0, ErrPower
	}
	return d.capacity() - min(d.used, d.capacity()), nil
}

type diskLock struct {
	d    *Disk
	name string
}

func (l diskLock) Close() error {
	l.d.mu.Lock()
	defer l.d.mu.Unlock()
	delete(l.d.locks, l.name)
	return nil
}

// Lock implements vfs.FS. A power cut ends all locks.
func (d *Disk) Lock(name string) (io.Closer, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.cut {
		return nil, ErrPower
	}
	if d.locks[name] {
		return nil, fmt.Errorf("lock %s: %w", name, vfs.ErrInUse)
	}
	d.locks[name] = true
	return diskLock{d, name}, nil
}

// Content returns what programs would read from a file, nil if there is none.
func (d *Disk) Content(name string) []byte {
	d.mu.Lock()
	defer d.mu.Unlock()
	if ino := d.names[name]; ino != nil {
		return slices.Clone(ino.data)
	}
	return nil
}

// Durable returns what of a file would survive a power cut for sure.
func (d *Disk) Durable(name string) []byte {
	d.mu.Lock()
	defer d.mu.Unlock()
	if ino := d.durable[name]; ino != nil {
		return slices.Clone(ino.durable)
	}
	return nil
}

// Damage changes a byte of a file, as a worn medium would.
func (d *Disk) Damage(name string, off int64) {
	d.mu.Lock()
	defer d.mu.Unlock()
	ino := d.names[name]
	ino.data[off] ^= 0x55
	if off < int64(len(ino.durable)) {
		ino.durable[off] ^= 0x55
	}
}

func (f *diskFile) ReadAt(p []byte, off int64) (int, error) {
	f.d.mu.Lock()
	defer f.d.mu.Unlock()
	if f.d.cut {
		return 0, ErrPower
	}
	if off >= int64(len(f.ino.data)) {
		return 0, io.EOF
	}
	n := copy(p, f.ino.data[off:])
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

func (f *diskFile) WriteAt(p []byte, off int64) (int, error) {
	f.d.mu.Lock()
	defer f.d.mu.Unlock()
	w := write{off, append([]byte{}, p...)}
	if f.d.left == 0 { // the last write before the cut may reach the disk, or part of it
		f.ino.pending = append(f.ino.pending, w)
	}
	if err := f.d.step("write", f.name); err != nil {
		return 0, err
	}
	grow := max(off+int64(len(p))-int64(len(f.ino.data)), 0)
	if f.d.used+uint64(grow) > f.d.capacity() {
		return 0, fmt.Errorf("write %s: %w", f.name, syscall.ENOSPC)
	}
	f.d.used += uint64(grow)
	f.ino.data = w.apply(f.ino.data)
	f.ino.pending = append(f.ino.pending, w)
	if f.d.OnWrite != nil {
		f.d.OnWrite(f.name, off, w.data)
	}
	return len(p), nil
}

func (f *diskFile) Truncate(size int64) error {
	f.d.mu.Lock()
	defer f.d.mu.Unlock()
	if err := f.d.step("truncate", f.name); err != nil {
		return err
	}
	f.d.used += uint64(size) - uint64(len(f.ino.data))
	f.ino.data = resize(f.ino.data, size)
	f.ino.pending = append(f.ino.pending, write{off: size})
	return nil
}

func (f *diskFile) Sync() error {
	f.d.mu.Lock()
	defer f.d.mu.Unlock()
	if err := f.d.step("sync", f.name); err != nil {
		return err
	}
	f.ino.durable, f.ino.pending = slices.Clone(f.ino.data), nil
	return nil
}

func (f *diskFile) Size() (int64, error) {
	f.d.mu.Lock()
	defer f.d.mu.Unlock()
	if f.d.cut {
		return 0, ErrPower
	}
	return int64(len(f.ino.data)), nil
}

func (f *diskFile) Close() error { return nil }
