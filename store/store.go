// Package store keeps what a node must not lose: bundles with their payloads,
// purge records, the rows of its users' timelines, small state in buckets,
// large content as blobs, and secrets behind vaults.
//
// Everything but blobs and vaults changes through Commit: a list of Ops that
// happen together or not at all, and that are on the disk when Commit returns.
// Concurrent calls share one sync of the disk.
//
// On disk, below the folder given to Open:
//
//	index/             ordered map (store/internal/kv): records and indexes, see keys.go
//	payload/*.seg      payloads in append-only segments (store/internal/segment)
//	blobs/xx/<root>.*  leaves of blobs with what proves them, see blobs.go
//
// A vault has a folder of its own: see OpenVault. The why is in DESIGN.md.
package store

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"path/filepath"
	"sync"
	"syscall"

	"outrider/mesh/bundle"
	"outrider/store/internal/group"
	"outrider/store/internal/kv"
	"outrider/store/internal/segment"
	"outrider/store/internal/vfs"
)

var (
	// ErrNotFound is wrapped by errors about something that is not stored.
	ErrNotFound = kv.ErrNotFound
	// ErrFull is wrapped by errors of writes refused for want of space, in
	// the store's quota or on the disk. Deleting is still possible.
	ErrFull = errors.New("store is full")
	// ErrCorrupt is wrapped by errors about bytes on disk that are not what
	// was written.
	ErrCorrupt = kv.ErrCorrupt
	// ErrInUse is wrapped by Open when another process has the folder.
	ErrInUse = errors.New("in use by another process: stop that one first")
	// ErrClosed is wrapped by errors of calls after Close.
	ErrClosed = kv.ErrClosed
	// ErrTooLarge is wrapped by errors about a value or a list of Ops beyond
	// its limit.
	ErrTooLarge = kv.ErrTooLarge
	// ErrInvalid is wrapped by errors about an Op that contradicts itself.
	ErrInvalid = errors.New("invalid")
	// ErrBroken is wrapped by errors of writes after a sync has failed.
	ErrBroken = kv.ErrBroken
)

// Limits we chose.
const (
	MaxOps   = 1024      // Ops in one Commit
	MaxValue = 64 << 10  // bytes of a bucket's value or of a timeline row
	MaxKey   = 512       // bytes of a bucket's key
	MaxExtra = 512       // bytes of Meta.Extra
	maxPlan  = 8 << 20   // bytes of payload in one Commit, and about what a batch gathers
	maxIndex = 256 << 10 // bytes of index in one Commit; a batch gathers up to kv.MaxBatch

	// RecordCost is what a bundle or purge record counts against
	// Options.MaxBytes besides its payload.
	RecordCost = 512
)

// Options of Open. The zero value of a field is its default.
type Options struct {
	// MaxBytes limits bundles and purge records: payloads and RecordCost for
	// each. Default 1 GiB. What goes to whom within it is the agent's affair.
	MaxBytes uint64
	// MaxBlobBytes limits verified leaves of blobs. Default 4 GiB.
	MaxBlobBytes uint64
	// FreeFloor is the free space of the disk, in bytes, below which nothing
	// that grows is accepted. Default 64 MiB. Bookkeeping, purges and deletion
	// go on to a quarter of it.
	FreeFloor uint64
	// SegmentBytes is the size at which a new payload segment is begun.
	// Default 16 MiB, at most 1 GiB.
	SegmentBytes uint32
	Log          *slog.Logger // nil discards

	// FS is replaced by tests. The index always lies on the real one.
	FS vfs.FS

	noSync bool // see export_test.go
}

func (o Options) withDefaults() Options {
	set := func(v *uint64, to uint64) {
		if *v == 0 {
			*v = to
		}
	}
	set(&o.MaxBytes, 1<<30)
	set(&o.MaxBlobBytes, 4<<30)
	set(&o.FreeFloor, 64<<20)
	if o.SegmentBytes == 0 {
		o.SegmentBytes = 16 << 20
	}
	o.SegmentBytes = min(o.SegmentBytes, 1<<30)
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.FS == nil {
		o.FS = vfs.OS{}
	}
	if o.noSync {
		o.FS = vfs.NoSync{FS: o.FS}
	}
	return o
}

// A Store is an open store. All its methods may be called from any goroutine.
type Store struct {
	dir   string
	o     Options
	kv    *kv.DB
	log   *segment.Log
	group group.Group[*call]
	ended bool // used by the group: Close has begun
	blobs *Blobs
	epoch [8]byte

	mu      sync.Mutex // guards the rest
	state   state
	untidy  map[uint32]bool // segments that cannot be emptied
	broken  error
	calls   uint64 // Commits that succeeded
	batches uint64
	tidying bool
	closing bool
	tidied  sync.WaitGroup
}

// Open opens the store in dir, or creates it.
func Open(dir string, o Options) (_ *Store, err error) {
	o = o.withDefaults()
	s := &Store{dir: dir, o: o, untidy: make(map[uint32]bool)}
	s.group = group.Group[*call]{Do: s.commitBatch, Max: MaxOps}
	if err := s.makeRoom(); err != nil {
		return nil, err
	}
	if s.kv, err = kv.Open(filepath.Join(dir, "index"), kv.Options{Log: o.Log, NoSync: o.noSync}); err != nil {
		return nil, fmt.Errorf("store: open %s: %w", dir, openHint(err))
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, s.Close())
		}
	}()
	if err := s.loadState(); err != nil {
		return nil, err
	}
	if err := s.openSegments(); err != nil {
		return nil, err
	}
	s.blobs, err = openBlobs(o.FS, filepath.Join(dir, "blobs"), o)
	return s, err
}

// minFree is what opening the index may write, in bytes.
const minFree = 16 << 20

// makeRoom makes the folder and checks that opening cannot run the disk full:
// that would kill the process, because the index writes through mapped files.
func (s *Store) makeRoom() error {
	if err := s.o.FS.MkdirAll(s.dir); err != nil {
		return fmt.Errorf("store: open %s: %w", s.dir, translate(err))
	}
	free, err := s.o.FS.Free(s.dir)
	if err != nil {
		return fmt.Errorf("store: open %s: %w", s.dir, err)
	}
	if need := min(minFree, s.o.FreeFloor/4); free < need {
		return fmt.Errorf("store: open %s: %d MiB free, %d needed: free some space on this disk: %w", s.dir, free>>20, need>>20, ErrFull)
	}
	return nil
}

func openHint(err error) error {
	switch {
	case errors.Is(err, kv.ErrInUse):
		return ErrInUse
	case errors.Is(err, kv.ErrCorrupt):
		return fmt.Errorf("%w; keep a copy of the folder db, then restore it from a backup, or remove its parts index and payload (what is stored only here is lost then)", err)
	}
	return translate(err)
}

// translate turns errors of the packages below into ours.
func translate(err error) error {
	switch {
	case err == nil || errors.Is(err, ErrFull):
		return err
	case errors.Is(err, kv.ErrFull), errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT):
		return fmt.Errorf("%w: %v", ErrFull, err)
	}
	return err
}

// loadState reads what the store knows of itself, or writes it for the first
// time.
func (s *Store) loadState() error {
	version, err := s.kv.Get(keyVersion)
	if errors.Is(err, ErrNotFound) {
		if err := s.checkNew(); err != nil {
			return err
		}
		return s.initState()
	}
	if err != nil {
		return fmt.Errorf("store: open: %w", err)
	}
	if len(version) != 1 || version[0] != formatVersion {
		return fmt.Errorf("store: open %s: format %x is not the %d this program knows: use the program that wrote it, or a newer one", s.dir, version, formatVersion)
	}
	epoch, err := s.kv.Get(keyEpoch)
	if err != nil || len(epoch) != len(s.epoch) {
		return fmt.Errorf("store: open %s: epoch unreadable (%v): %w", s.dir, err, ErrCorrupt)
	}
	copy(s.epoch[:], epoch)
	s.state, err = readState(s.kv)
	if err != nil {
		return fmt.Errorf("store: open %s: %w", s.dir, err)
	}
	return nil
}

// checkNew refuses to take a store for new whose index has lost everything:
// its payloads would be removed as belonging to nobody.
func (s *Store) checkNew() error {
	found, err := s.o.FS.ReadDir(s.payloadDir())
	if errors.Is(err, fs.ErrNotExist) || err == nil && len(found) == 0 {
		return nil
	}
	if err == nil {
		err = openHint(fmt.Errorf("the index is empty although there are payloads: %w", kv.ErrCorrupt))
	}
	return fmt.Errorf("store: open %s: %w", s.dir, err)
}

func (s *Store) payloadDir() string { return filepath.Join(s.dir, "payload") }

func (s *Store) initState() error {
	rand.Read(s.epoch[:])
	s.state = newState()
	var b kv.Batch
	b.Set(keyVersion, []byte{formatVersion})
	b.Set(keyEpoch, s.epoch[:])
	s.state.put(&b)
	if err := s.kv.Write(&b); err != nil {
		return fmt.Errorf("store: create %s: %w", s.dir, translate(err))
	}
	return s.o.FS.SyncDir(s.dir)
}

func (s *Store) openSegments() error {
	ends := make(map[uint32]uint32)
	for n, seg := range s.state.segments {
		ends[n] = seg.end
	}
	log, damaged, err := segment.Open(s.o.FS, s.payloadDir(), ends)
	if err != nil {
		return fmt.Errorf("store: open %s: %w", s.dir, translate(err))
	}
	s.log = log
	for _, n := range damaged {
		s.o.Log.Error("store: a payload segment is missing or short: the bundles in it cannot be read; restore the file from a backup or delete them", "segment", n)
		s.state.seal(n)
	}
	return nil
}

// Epoch identifies this database. It is random, and new whenever the database
// is created anew, so that a neighbour's cursor into an older one is not used.
func (s *Store) Epoch() [8]byte { return s.epoch }

// Blobs returns the part of the store that keeps large content.
func (s *Store) Blobs() *Blobs { return s.blobs }

// LastSeq returns the highest Meta.Seq ever committed.
func (s *Store) LastSeq() uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.state.count.lastSeq
}

// Stats are figures of a store.
type Stats struct {
	Bundles      uint64 // stored
	Purges       uint64 // purge records stored
	Rows         uint64 // timeline rows stored
	Bytes        uint64 // counted against MaxBytes
	MaxBytes     uint64
	BlobBytes    uint64 // verified leaves
	MaxBlobBytes uint64
	SegmentBytes uint64 // payload segments on disk
	IndexBytes   uint64 // index on disk, about
	FreeBytes    uint64 // free on the disk
	Commits      uint64 // since Open
	Batches      uint64 // since Open; several Commits share one
	Syncs        uint64 // since Open, of index and segments
}

// Stats returns the figures of now.
func (s *Store) Stats() (Stats, error) {
	free, err := s.o.FS.Free(s.dir)
	if err != nil {
		return Stats{}, fmt.Errorf("store: stats: %w", err)
	}
	index, err := s.kv.Size()
	if err != nil {
		return Stats{}, fmt.Errorf("store: stats: %w", err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	c := s.state.count
	return Stats{
		Bundles: c.bundles, Purges: c.purges, Rows: c.rows, Bytes: c.bytes(), MaxBytes: s.o.MaxBytes,
		BlobBytes: s.blobs.Bytes(), MaxBlobBytes: s.o.MaxBlobBytes,
		SegmentBytes: s.state.segmentBytes(), IndexBytes: index, FreeBytes: free,
		Commits: s.calls, Batches: s.batches, Syncs: s.Syncs(),
	}, nil
}

// Syncs returns how often the index and the segments have made the disk sync
// since Open. It is Stats().Syncs without asking the disk.
func (s *Store) Syncs() uint64 { return s.kv.Syncs() + s.log.Syncs() }

// Close ends the store. Commits under way finish first; iterations must have
// been ended.
func (s *Store) Close() error {
	s.mu.Lock()
	s.closing = true
	s.mu.Unlock()
	s.tidied.Wait()
	err := s.group.Submit(context.Background(), &call{last: true})
	if errors.Is(err, ErrClosed) {
		return nil
	}
	err = nil // a broken store has said so before
	if s.blobs != nil {
		err = errors.Join(err, s.blobs.close())
	}
	if s.kv != nil {
		err = errors.Join(err, s.kv.Close())
	}
	if s.log != nil {
		err = errors.Join(err, s.log.Close())
	}
	return err
}

// gone reports whether err says that a file is not there (any more).
func gone(err error) bool { return errors.Is(err, fs.ErrNotExist) }

// Bundle returns the record of a bundle.
func (s *Store) Bundle(id bundle.ID) (Record, error) {
	raw, err := s.kv.Get(keyBundle(id))
	if err != nil {
		return Record{}, fmt.Errorf("store: bundle %v: %w", id, err)
	}
	return parseRecord(id, raw)
}
