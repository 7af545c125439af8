// Package kv is an ordered, durable map of byte strings. It holds badger, and
// nothing outside it may know that.
//
// Write applies a batch as a whole or not at all and returns after the batch
// is on the disk. It is meant to be called by one writer with everything it
// has gathered (store does that): one batch costs one badger transaction and
// so one sync of badger's log, however many callers are in it.
//
// What was read in badger 4.9.6 and is guarded against here (DESIGN.md tells
// more):
//
//   - With SyncWrites off, DB.Sync covers the current log only: a batch just
//     before a log rotation is not covered. SyncWrites is therefore on.
//   - With SyncWrites on, badger syncs its log once for each transaction. Hence
//     one transaction for many callers.
//   - A failing sync of badger's value log is logged and forgotten. No value
//     is large enough to go there: see MaxValue.
//   - A crash between creating (or truncating) and filling (or unlinking) a log
//     leaves a file of no bytes, which badger then refuses to open. Open
//     removes such files: nothing can have been in them.
//   - The name of a new log is not made durable. Write syncs the folder when a
//     new log has appeared.
//   - On a full disk, storing into a mapped file kills the process. The store
//     keeps a floor of free space for that reason.
package kv

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/dgraph-io/badger/v4"
	"github.com/dgraph-io/badger/v4/options"
)

var (
	// ErrNotFound is returned by Get for a key that is not there.
	ErrNotFound = errors.New("not found")
	// ErrFull is wrapped by errors of writes that found no space.
	ErrFull = errors.New("disk is full")
	// ErrCorrupt is wrapped by errors about files that are not what was
	// written.
	ErrCorrupt = errors.New("corrupt")
	// ErrInUse is wrapped by Open when another process has the folder.
	ErrInUse = errors.New("in use by another process")
	// ErrClosed is returned after Close.
	ErrClosed = errors.New("closed")
	// ErrTooLarge is wrapped by errors about a key, value or batch beyond its
	// limit.
	ErrTooLarge = errors.New("too large")
	// ErrBroken is wrapped by every Write after one whose sync failed: what
	// the disk holds is then unknown until the next Open.
	ErrBroken = errors.New("a write to the disk failed earlier; nothing more is accepted until the node is restarted")
)

// Limits we chose. A batch must stay below 15 % of badger's memory table, and
// a value below the size at which badger would move it to its value log.
const (
	MaxKey       = 1 << 10  // bytes
	MaxValue     = 72 << 10 // bytes
	MaxBatch     = 480 << 10
	MaxBatchOps  = 4 << 10
	entryBytes   = 64 // what an entry costs besides key and value
	memTable     = 4 << 20
	logThreshold = 512 << 10
)

// Options of Open.
type Options struct {
	Log *slog.Logger // nil discards

	// NoSync acknowledges without syncing. It exists so that tests of
	// durability can show that they fail without it.
	NoSync bool
}

// A DB is an open map. Get and Scan may be called from any goroutine, Write
// from one at a time.
type DB struct {
	dir    string
	db     *badger.DB
	noSync bool
	log    int // number of the newest log seen
	syncs  atomic.Uint64

	mu     sync.Mutex
	broken error

	users users
}

// Open opens or creates the map in dir.
func Open(dir string, o Options) (*DB, error) {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("kv: open %s: %v", dir, err)
	}
	if err := repair(dir, o.Log); err != nil {
		return nil, err
	}
	if err := checkTables(dir); err != nil {
		return nil, err
	}
	b, err := badger.Open(small(dir).WithSyncWrites(!o.NoSync).WithLogger(logger{o.Log}))
	if err != nil {
		return nil, fmt.Errorf("kv: open %s: %w", dir, translate(err))
	}
	d := &DB{dir: dir, db: b, noSync: o.NoSync, log: newestLog(dir)}
	if err := d.syncDir(); err != nil {
		b.Close()
		return nil, err
	}
	return d, nil
}

// small are the options for boards (the measurements are in DESIGN.md). The
// value log is never used, so it is as short as badger permits.
func small(dir string) badger.Options {
	return badger.DefaultOptions(dir).
		WithMemTableSize(memTable).
		WithNumMemtables(2).
		WithValueLogFileSize(1 << 20).
		WithBlockCacheSize(0).
		WithIndexCacheSize(1 << 20).
		WithNumLevelZeroTables(2).
		WithNumLevelZeroTablesStall(4).
		WithNumCompactors(2).
		WithBaseTableSize(1 << 20).
		WithBaseLevelSize(4 << 20).
		WithCompression(options.None).
		WithValueThreshold(logThreshold).
		WithMetricsEnabled(false).
		WithDetectConflicts(false).
		WithNumGoroutines(1)
}

// translate turns badger's errors, which it has mostly flattened to text
// itself, into ours.
func translate(err error) error {
	text := err.Error()
	has := func(s string) bool { return strings.Contains(text, s) }
	switch {
	case errors.Is(err, badger.ErrKeyNotFound):
		return ErrNotFound
	case errors.Is(err, badger.ErrDBClosed), errors.Is(err, badger.ErrBlockedWrites):
		return ErrClosed
	case errors.Is(err, badger.ErrTxnTooBig):
		return fmt.Errorf("%v: %w", err, ErrTooLarge)
	case has("no space left"), has("disk quota exceeded"):
		return fmt.Errorf("%v: %w", err, ErrFull)
	case has("Cannot acquire directory lock"):
		return ErrInUse
	case has("checksum"), has("manifest has bad magic"), has("manifest has unsupported version"), has("file does not exist for table"),
		has("unable to parse"), has("Unable to parse"), has("MANIFEST"), has("Manifest"), has("failed to initialize table"),
		has("Invalid datakey id"), has("Encryption key mismatch"), has("reading sanity text"):
		return fmt.Errorf("%v: %w", err, ErrCorrupt)
	}
	return fmt.Errorf("%v", err) // %v: badger's errors are no part of our API
}

// Get returns a copy of the value at key, or ErrNotFound.
func (d *DB) Get(key []byte) ([]byte, error) {
	if !d.users.enter() {
		return nil, ErrClosed
	}
	defer d.users.leave()
	txn := d.db.NewTransaction(false)
	defer txn.Discard()
	item, err := txn.Get(key)
	if errors.Is(err, badger.ErrKeyNotFound) {
		return nil, ErrNotFound
	}
	if err != nil {
		return nil, fmt.Errorf("kv: get: %w", translate(err))
	}
	v, err := item.ValueCopy(nil)
	if err != nil {
		return nil, fmt.Errorf("kv: get: %w", translate(err))
	}
	return v, nil
}

// A Range says which keys Scan visits: those that begin with Prefix, from
// From on (inclusive, if it is set), backwards if Reverse.
type Range struct {
	Prefix   []byte
	From     []byte
	Reverse  bool
	KeysOnly bool
}

// A Pair is a key with its value. Both are valid until the scan's next step.
type Pair struct{ Key, Value []byte }

// Scan visits a range in the state of the moment Scan began. Close waits for
// scans, so end them.
func (d *DB) Scan(r Range) iter.Seq2[Pair, error] {
	return func(yield func(Pair, error) bool) {
		if !d.users.enter() {
			yield(Pair{}, ErrClosed)
			return
		}
		defer d.users.leave()
		txn := d.db.NewTransaction(false)
		defer txn.Discard()
		it := txn.NewIterator(badger.IteratorOptions{Prefix: r.Prefix, Reverse: r.Reverse})
		defer it.Close()
		for it.Seek(r.start()); it.ValidForPrefix(r.Prefix); it.Next() {
			p, err := read(it.Item(), r.KeysOnly)
			if !yield(p, err) || err != nil {
				return
			}
		}
	}
}

func read(item *badger.Item, keysOnly bool) (Pair, error) {
	p := Pair{Key: item.Key()}
	if keysOnly {
		return p, nil
	}
	if err := item.Value(func(b []byte) error { p.Value = b; return nil }); err != nil {
		return p, fmt.Errorf("kv: scan: %w", translate(err))
	}
	return p, nil
}

// start is the key to seek. Backwards, a key that is larger than all with the
// prefix.
func (r Range) start() []byte {
	switch {
	case r.From != nil:
		return r.From
	case r.Reverse:
		end := append([]byte{}, r.Prefix...)
		for len(end) < MaxKey {
			end = append(end, 0xff)
		}
		return end
	}
	return r.Prefix
}

// Write applies b and returns when it is durable.
func (d *DB) Write(b *Batch) error {
	if !d.users.enter() {
		return ErrClosed
	}
	defer d.users.leave()
	if err := d.state(); err != nil {
		return fmt.Errorf("kv: write: %w", err)
	}
	if err := b.check(); err != nil {
		return err
	}
	txn := d.db.NewTransaction(true)
	defer txn.Discard()
	if err := b.fill(txn); err != nil {
		return fmt.Errorf("kv: write: %w", translate(err))
	}
	err := txn.Commit()
	if err == nil {
		d.syncs.Add(1)
		err = d.syncNewLogs()
	}
	if err != nil {
		err = translate(err)
		d.breakDown(err)
		return fmt.Errorf("kv: write: %w", err)
	}
	return nil
}

func (d *DB) state() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.broken
}

// breakDown refuses all later writes: after a failed sync Linux forgets which
// pages were not written, so a later sync proves nothing.
func (d *DB) breakDown(cause error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.broken = fmt.Errorf("%v: %w", cause, ErrBroken)
}

// syncNewLogs makes the names of logs durable that have appeared since.
func (d *DB) syncNewLogs() error {
	fresh := false
	for exists(filepath.Join(d.dir, fmt.Sprintf(logName, d.log+1))) {
		d.log++
		fresh = true
	}
	if !fresh {
		return nil
	}
	return d.syncDir()
}

func exists(name string) bool {
	_, err := os.Stat(name)
	return err == nil
}

func (d *DB) syncDir() error {
	if d.noSync {
		return nil
	}
	f, err := os.Open(d.dir)
	if err != nil {
		return fmt.Errorf("kv: sync %s: %v", d.dir, err)
	}
	d.syncs.Add(1)
	if err := errors.Join(f.Sync(), f.Close()); err != nil {
		return fmt.Errorf("kv: sync %s: %v", d.dir, err)
	}
	return nil
}

// Syncs returns how often Write has made the disk sync.
func (d *DB) Syncs() uint64 { return d.syncs.Load() }

// Size returns the bytes of files the map occupies.
func (d *DB) Size() (uint64, error) {
	list, err := os.ReadDir(d.dir)
	if err != nil {
		return 0, fmt.Errorf("kv: size: %v", err)
	}
	var sum uint64
	for _, e := range list {
		if info, err := e.Info(); err == nil && strings.HasSuffix(e.Name(), ".sst") {
			sum += uint64(info.Size())
		}
	}
	return sum + memTable, nil
}

// Close ends the map. It waits for whoever still reads.
func (d *DB) Close() error {
	if !d.users.close() {
		return nil
	}
	if err := d.db.Close(); err != nil {
		return fmt.Errorf("kv: close: %w", translate(err))
	}
	return nil
}

// users counts who is inside, so that Close does not unmap files under them.
// A lock would not do: the body of a scan may well call Get.
type users struct {
	mu     sync.Mutex
	n      int
	closed bool
	gone   chan struct{} // closed when the last one leaves after close
}

func (u *users) enter() bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.closed {
		return false
	}
	u.n++
	return true
}

func (u *users) leave() {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.n--; u.n == 0 && u.closed {
		close(u.gone)
	}
}

// close bars the door and waits; it reports whether this call was the first.
func (u *users) close() bool {
	u.mu.Lock()
	first := !u.closed
	if first {
		u.closed, u.gone = true, make(chan struct{})
		if u.n == 0 {
			close(u.gone)
		}
	}
	u.mu.Unlock()
	<-u.gone
	return first
}

// logger passes on what badger has to say. Its debug lines may contain keys
// and are dropped.
type logger struct{ log *slog.Logger }

func (l logger) say(level slog.Level, format string, args []any) {
	if l.log.Enabled(context.Background(), level) {
		l.log.Log(context.Background(), level, "kv: "+strings.TrimSpace(fmt.Sprintf(format, args...)))
	}
}
func (l logger) Errorf(f string, a ...any)   { l.say(slog.LevelError, f, a) }
func (l logger) Warningf(f string, a ...any) { l.say(slog.LevelWarn, f, a) }
func (l logger) Infof(f string, a ...any)    { l.say(slog.LevelDebug, f, a) }
func (l logger) Debugf(string, ...any)       {}
