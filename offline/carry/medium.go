package carry

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io/fs"
	"iter"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"golang.org/x/sys/unix"

	"outrider/mesh/blob"
	"outrider/mesh/bundle"
	"outrider/mesh/identity"
)

// Folder is what a medium's root directory shows.
const Folder = "outrider-carry"

const (
	labelName  = "label"
	rootName   = "root"
	lockName   = "lock"
	labelMagic = "ORCARRY1"
	labelSize  = len(labelMagic) + 32 + 32 + 8 + 4
)

// A label says which medium this is and whose.
type label struct {
	id      identity.NodeID
	network identity.NetworkID
	epoch   [8]byte
}

func (l label) encode() []byte {
	b := append([]byte(labelMagic), l.id[:]...)
	b = append(b, l.network[:]...)
	b = append(b, l.epoch[:]...)
	return binary.BigEndian.AppendUint32(b, crc32.Checksum(b, castagnoli))
}

func parseLabel(b []byte) (l label, err error) {
	if len(b) != labelSize || !bytes.HasPrefix(b, []byte(labelMagic)) ||
		crc32.Checksum(b[:labelSize-4], castagnoli) != binary.BigEndian.Uint32(b[labelSize-4:]) {
		return l, ErrNotMedium
	}
	b = b[len(labelMagic):]
	copy(l.id[:], b)
	copy(l.network[:], b[32:])
	copy(l.epoch[:], b[64:])
	return l, nil
}

// A Medium is an open carry folder. Its methods may be called by several
// goroutines.
type Medium struct {
	dir   string
	label label
	lock  *os.File

	mu     sync.Mutex
	state  *state
	logs   map[uint32]*os.File
	sizes  map[uint32]int64
	newest uint32
	broken error
	full   bool // something found no room since it was opened
	lost   Damage
	proof  *blob.GroupProof // of the group written or read last
	group  proofKey
}

type proofKey struct {
	root  blob.Root
	group int
}

func folderOf(dir string, network identity.NetworkID) string {
	return filepath.Join(dir, Folder, network.String()[:16])
}

// Made reports whether there is a carry folder of a network below dir, which
// must exist.
func Made(dir string, network identity.NetworkID) (bool, error) {
	if _, err := os.Stat(dir); err != nil {
		return false, fmt.Errorf("carry: open: %w", err)
	}
	_, err := os.Stat(folderOf(dir, network))
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("carry: open: %w", err)
	}
	return true, nil
}

// Open opens the carry folder of a network below dir, the root of a stick or
// any folder, and makes one if there is none. What does not check is left out
// and counted in Damage.
func Open(dir string, network identity.NetworkID) (_ *Medium, err error) {
	m := &Medium{dir: folderOf(dir, network), state: newState(), logs: map[uint32]*os.File{}, sizes: map[uint32]int64{}}
	if _, err := os.Stat(dir); err != nil {
		return nil, fmt.Errorf("carry: open: %w", err) // never make the mount point of a stick that is not in
	}
	if err := os.MkdirAll(m.dir, 0o755); err != nil {
		return nil, fmt.Errorf("carry: open: %w", err)
	}
	defer func() {
		if err != nil {
			m.closeFiles()
		}
	}()
	if err := m.acquire(); err != nil {
		return nil, err
	}
	if err := m.readLabel(network); err != nil {
		return nil, err
	}
	if err := m.readLogs(); err != nil {
		return nil, err
	}
	if err := m.tidy(); err != nil {
		return nil, err
	}
	return m, nil
}

func (m *Medium) acquire() (err error) {
	if m.lock, err = os.OpenFile(filepath.Join(m.dir, lockName), os.O_CREATE|os.O_RDWR, 0o644); err != nil {
		return fmt.Errorf("carry: open: %w", err)
	}
	switch err := unix.Flock(int(m.lock.Fd()), unix.LOCK_EX|unix.LOCK_NB); {
	case errors.Is(err, unix.EWOULDBLOCK):
		return ErrBusy
	case errors.Is(err, unix.ENOTSUP), errors.Is(err, unix.ENOSYS), errors.Is(err, unix.EINVAL):
		return nil // some file systems have no locks
	case err != nil:
		return fmt.Errorf("carry: lock: %w", err)
	}
	return nil
}

// readLabel reads the label or, in a folder with no logs, writes one.
func (m *Medium) readLabel(network identity.NetworkID) error {
	name := filepath.Join(m.dir, labelName)
	raw, err := os.ReadFile(name)
	if err == nil && len(raw) > 0 {
		if m.label, err = parseLabel(raw); err == nil && m.label.network != network {
			err = ErrForeign
		}
		return err
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("carry: open: %w", err)
	}
	if logs, err := m.logNumbers(); err != nil || len(logs) > 0 {
		return errors.Join(ErrNotMedium, err)
	}
	m.label.network = network
	rand.Read(m.label.id[:])
	rand.Read(m.label.epoch[:])
	if err := writeSynced(name, m.label.encode()); err != nil {
		return m.failure(err)
	}
	return m.syncDir()
}

func writeSynced(name string, data []byte) error {
	f, err := os.Create(name)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	return errors.Join(err, f.Sync(), f.Close())
}

func (m *Medium) syncDir() error {
	d, err := os.Open(m.dir)
	if err != nil {
		return fmt.Errorf("carry: sync folder: %w", err)
	}
	defer d.Close()
	if err := d.Sync(); err != nil && !errors.Is(err, unix.EINVAL) {
		return fmt.Errorf("carry: sync folder: %w", err)
	}
	return nil
}

func logName(n uint32) string { return fmt.Sprintf("log-%08d", n) }

func (m *Medium) logNumbers() (out []uint32, err error) {
	entries, err := os.ReadDir(m.dir)
	if err != nil {
		return nil, fmt.Errorf("carry: open: %w", err)
	}
	for _, e := range entries {
		var n uint32
		if _, err := fmt.Sscanf(e.Name(), "log-%08d", &n); err == nil && e.Name() == logName(n) && n > 0 {
			out = append(out, n)
		}
	}
	slices.Sort(out)
	return out, nil
}

// readLogs rebuilds the state. A log that begins as a replacement counts only
// when it was finished, and then alone with those after it.
func (m *Medium) readLogs() error {
	numbers, err := m.logNumbers()
	if err != nil {
		return err
	}
	for _, n := range numbers {
		next, err := m.readLog(n)
		if err != nil {
			return err
		}
		if !next.based {
			continue
		}
		if !next.whole {
			err = m.removeLog(n)
		} else {
			m.state = next
			for old := range m.logs {
				if old < n {
					err = errors.Join(err, m.removeLog(old))
				}
			}
		}
		if err != nil {
			return err
		}
	}
	if m.newest == 0 {
		return m.newLog()
	}
	return nil
}

// readLog applies a log to the state, or to one of its own if it replaces.
func (m *Medium) readLog(n uint32) (*state, error) {
	f, err := os.OpenFile(filepath.Join(m.dir, logName(n)), os.O_RDWR, 0)
	if err != nil {
		return nil, fmt.Errorf("carry: open: %w", err)
	}
	m.logs[n], m.newest = f, n
	into := m.state
	end, lost, err := scan(f, n, func(at place, ops []Op) {
		if at.offset == 0 && len(ops) > 0 && ops[0].Kind == kindBase {
			into = newState()
		}
		for i, op := range ops {
			at.op = i
			into.apply(at, op)
		}
	})
	if err != nil {
		return nil, err
	}
	// What a cut-off write left must not be read behind what comes next.
	if err := f.Truncate(end); err != nil {
		return nil, fmt.Errorf("carry: open: %w", err)
	}
	m.lost.Frames += lost.Frames
	m.lost.Bytes += lost.Bytes
	m.sizes[n] = end
	return into, nil
}

func (m *Medium) removeLog(n uint32) error {
	m.logs[n].Close()
	delete(m.logs, n)
	delete(m.sizes, n)
	if n == m.newest {
		m.newest = 0
		for n := range m.logs {
			m.newest = max(m.newest, n)
		}
	}
	if err := os.Remove(filepath.Join(m.dir, logName(n))); err != nil {
		return fmt.Errorf("carry: tidy: %w", err)
	}
	return nil
}

func (m *Medium) newLog() error {
	f, err := os.OpenFile(filepath.Join(m.dir, logName(m.newest+1)), os.O_CREATE|os.O_EXCL|os.O_RDWR, 0o644)
	if err != nil {
		return m.failure(err)
	}
	m.newest++
	m.logs[m.newest] = f
	return m.syncDir()
}

// failure words what the file system said.
func (m *Medium) failure(err error) error {
	if errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EDQUOT) {
		m.full = true
		return ErrFull
	}
	return fmt.Errorf("carry: write: %w", err)
}

// Full reports whether something found no room since the medium was opened.
func (m *Medium) Full() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.full
}

// ID is the medium's name in the mesh, chosen at random when it was made.
func (m *Medium) ID() identity.NodeID { return m.label.id }

// MaxRoot bounds a root record, in bytes.
const MaxRoot = 8 << 10

// Root returns the network's root record, nil if the medium has none. A node
// that has joined and met nobody yet can learn it from here; it checks the
// record itself.
func (m *Medium) Root() []byte {
	raw, err := os.ReadFile(filepath.Join(m.dir, rootName))
	if err != nil || len(raw) == 0 || len(raw) > MaxRoot {
		return nil
	}
	return raw
}

// SetRoot keeps the network's root record.
func (m *Medium) SetRoot(raw []byte) error {
	if len(raw) == 0 || len(raw) > MaxRoot {
		return fmt.Errorf("carry: root record of %d bytes", len(raw))
	}
	if bytes.Equal(m.Root(), raw) {
		return nil
	}
	if err := writeSynced(filepath.Join(m.dir, rootName), raw); err != nil {
		return m.failure(err)
	}
	return m.syncDir()
}

// Dir is the folder, for whoever asks how much room there is.
func (m *Medium) Dir() string { return m.dir }

// Epoch is chosen with the ID.
func (m *Medium) Epoch() [8]byte { return m.label.epoch }

// Damage tells what could not be read when the medium was opened.
func (m *Medium) Damage() Damage { return m.lost }

// Commit applies transactions, each as a whole. When it returns nil they are
// on the medium; on an error none of them is.
func (m *Medium) Commit(_ context.Context, txns [][]Op) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.commit(txns)
}

func (m *Medium) commit(txns [][]Op) error {
	if m.broken != nil {
		return m.broken
	}
	if err := m.admit(txns); err != nil {
		return err
	}
	if m.sizes[m.newest] > logRoll {
		if err := m.newLog(); err != nil {
			return err
		}
	}
	var buf []byte
	var ends []int
	for _, ops := range txns {
		var err error
		if buf, err = appendFrame(buf, m.newest, ops); err != nil {
			return err
		}
		ends = append(ends, len(buf))
	}
	base := m.sizes[m.newest]
	if err := m.write(buf, base); err != nil {
		return err
	}
	m.sizes[m.newest] += int64(len(buf))
	start := 0
	for i, ops := range txns {
		at := place{log: m.newest, offset: base + int64(start), length: ends[i] - start}
		for at.op = range ops {
			m.state.apply(at, ops[at.op])
		}
		start = ends[i]
	}
	return nil
}

// admit refuses what would be passed over when it is read again.
func (m *Medium) admit(txns [][]Op) error {
	more := 0
	for _, ops := range txns {
		for _, op := range ops {
			if !op.check() {
				return fmt.Errorf("carry: operation of kind %d does not check", op.Kind)
			}
			if op.Kind == KindBundle || op.Kind == KindPurge {
				more++
			}
		}
	}
	if len(m.state.bundles)+len(m.state.purges)+more > MaxEntries {
		m.full = true
		return ErrFull
	}
	return nil
}

func (m *Medium) write(buf []byte, at int64) error {
	f := m.logs[m.newest]
	if _, err := f.WriteAt(buf, at); err != nil {
		if terr := f.Truncate(at); terr != nil {
			m.broken = ErrBroken
		}
		return m.failure(err)
	}
	if err := f.Sync(); err != nil {
		m.broken = ErrBroken // the system forgets which pages failed
		return m.failure(err)
	}
	return nil
}

// Bundles yields what is held, without payloads, in no order.
func (m *Medium) Bundles() iter.Seq[Record] {
	m.mu.Lock()
	list := make([]Record, 0, len(m.state.bundles))
	for _, r := range m.state.bundles {
		list = append(list, *r)
	}
	m.mu.Unlock()
	return slices.Values(list)
}

// Purges yields all purge records.
func (m *Medium) Purges() iter.Seq[Purge] {
	m.mu.Lock()
	list := make([]Purge, 0, len(m.state.purges))
	for _, p := range m.state.purges {
		list = append(list, *p)
	}
	m.mu.Unlock()
	return slices.Values(list)
}

// Load reads a bundle with its payload. One that has rotted is ErrNotFound.
func (m *Medium) Load(id bundle.ID) (Record, []byte, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	r := m.state.bundles[id]
	if r == nil {
		return Record{}, nil, ErrNotFound
	}
	op, err := readOp(m.logs[r.at.log], r.at)
	if err != nil {
		return Record{}, nil, errors.Join(ErrNotFound, err)
	}
	b, err := bundle.Parse(op.Data)
	if err != nil || b.ID() != id {
		return Record{}, nil, ErrNotFound
	}
	return *r, b.Payload, nil
}

// Purge returns the purge record of a bundle.
func (m *Medium) Purge(id bundle.ID) (Purge, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if p := m.state.purges[id]; p != nil {
		return *p, nil
	}
	return Purge{}, ErrNotFound
}

// Value returns what was put under a name, nil if nothing.
func (m *Medium) Value(key string) []byte {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Clone(m.state.values[key])
}

// Close writes everything out and gives the folder free. The stick may be
// taken out when it has returned nil.
func (m *Medium) Close() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	err := m.broken
	if d, derr := os.Open(m.dir); derr == nil {
		err = errors.Join(err, unix.Syncfs(int(d.Fd())), d.Close())
	}
	m.broken = ErrBroken
	return errors.Join(err, m.closeFiles())
}

func (m *Medium) closeFiles() error {
	var errs []error
	for _, f := range m.logs {
		errs = append(errs, f.Close())
	}
	if m.lock != nil {
		errs = append(errs, m.lock.Close())
	}
	return errors.Join(errs...)
}

// isPart reports whether a file name is one of leaves.
func isPart(name string) bool { return strings.HasPrefix(name, "blob-") }
