package store

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"path/filepath"
	"sync"

	"outrider/store/internal/group"
	"outrider/store/internal/vfs"
)

var (
	// ErrLocked is wrapped by errors of calls after Lock.
	ErrLocked = errors.New("vault is locked")
	// ErrWrongKey is wrapped by errors of opening a vault when the key encryption key is not
	// the one the vault was made with: usually a wrong password.
	ErrWrongKey = errors.New("wrong key")
	// ErrExists is wrapped by errors of creating a vault where there is one.
	ErrExists = errors.New("exists already")
)

// A Vault keeps small secrets so that a shredded one cannot be recovered from
// anything the disk ever held, but for 32 bytes: the anchor.
//
// Secrets lie in pages, each under a random key that lies in the page above
// it; the anchor opens the topmost. A commit writes changed pages, and those
// above them, anew under new keys at places not in use, then replaces the
// anchor: what was before stays readable until then, and is noise after it.
// The anchor is of class C: a file overwritten in place, under a key given by
// the caller. On flash a remnant of an old anchor may survive the overwriting;
// whoever finds it needs the key encryption key too.
//
// Put, Shred and Get of a Vault work on one shared Session. Parts of a program
// that must not see each other's half-made changes committed take a Session
// each.
type Vault struct {
	Session
	dir    string
	fs     vfs.FS
	log    *slog.Logger
	lock   io.Closer
	pages  vfs.File
	anchor vfs.File
	group  group.Group[*Session]
	newKey func() [32]byte // replaced by a test

	commits sync.Mutex // held while pages are written, and by whoever wants none written

	// mu guards the rest; who holds commits may read without.
	mu     sync.RWMutex
	kek    [32]byte
	tree   *tree
	slot   int // of the anchor
	fell   bool
	broken error
	locked bool
	syncs  uint64
}

// VaultOptions say how to open a vault. The zero value is the default.
type VaultOptions struct {
	// Salvage goes on without pages that are damaged. The secrets in them are
	// lost; without Salvage, Open returns ErrCorrupt.
	Salvage bool
	Log     *slog.Logger // nil discards
	FS      vfs.FS       // replaced by tests
}

func (o VaultOptions) withDefaults() VaultOptions {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.FS == nil {
		o.FS = vfs.OS{}
	}
	return o
}

// Names in a vault's folder.
const (
	pagesName     = "pages"
	anchorName    = "anchor"
	anchorNewName = "anchor.new"
	lockName      = "lock"
)

func newVault(dir string, kek [32]byte, o VaultOptions) *Vault {
	v := &Vault{dir: dir, fs: o.FS, log: o.Log, kek: kek}
	v.newKey = func() (key [32]byte) { rand.Read(key[:]); return key }
	v.Session = Session{v: v}
	v.group = group.Group[*Session]{Do: v.commitSessions}
	return v
}

// OpenVault opens the vault in dir, after creating an empty one if there is
// none. Errors are those of VaultOptions.Open.
func OpenVault(dir string, kek [32]byte) (*Vault, error) {
	var o VaultOptions
	v, err := o.Open(dir, kek)
	if errors.Is(err, ErrNotFound) {
		return o.Create(dir, kek)
	}
	return v, err
}

// Create makes an empty vault in dir, where none may be (ErrExists), and opens
// it. What a crash during Create leaves is no vault, and is overwritten.
func (o VaultOptions) Create(dir string, kek [32]byte) (*Vault, error) {
	v := newVault(dir, kek, o.withDefaults())
	if err := v.create(); err != nil {
		return nil, fmt.Errorf("store: create vault %s: %w", dir, errors.Join(translate(err), v.closeFiles()))
	}
	return v, nil
}

// Open opens the vault in dir. Without one there, the error wraps ErrNotFound;
// with another key, ErrWrongKey; with a damaged file, ErrCorrupt; while it is
// open elsewhere, ErrInUse.
func (o VaultOptions) Open(dir string, kek [32]byte) (*Vault, error) {
	v := newVault(dir, kek, o.withDefaults())
	if err := v.open(o.Salvage); err != nil {
		return nil, fmt.Errorf("store: open vault %s: %w", dir, errors.Join(translate(err), v.closeFiles()))
	}
	return v, nil
}

func (v *Vault) create() error {
	if err := v.fs.MkdirAll(v.dir); err != nil {
		return err
	}
	if err := v.takeLock(); err != nil {
		return err
	}
	if err := v.clearRemains(); err != nil {
		return err
	}
	var err error
	if v.pages, err = v.fs.Create(v.path(pagesName)); err != nil {
		return err
	}
	if v.anchor, err = v.fs.Create(v.path(anchorNewName)); err != nil {
		return err
	}
	if err := v.anchor.Truncate(anchorFile); err != nil {
		return err
	}
	v.tree = newTree()
	rand.Read(v.tree.vault[:])
	v.slot = 1
	if err := v.commit(newPlan(v)); err != nil {
		return err
	}
	// The name that makes it a vault comes last.
	if err := v.fs.SyncDir(v.dir); err != nil {
		return err
	}
	if err := v.fs.Rename(v.path(anchorNewName), v.path(anchorName)); err != nil {
		return err
	}
	return v.fs.SyncDir(v.dir)
}

// clearRemains removes what an unfinished Create left.
func (v *Vault) clearRemains() error {
	entries, err := v.fs.ReadDir(v.dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if e.Name == anchorName {
			return ErrExists
		}
	}
	for _, name := range []string{pagesName, anchorNewName} {
		if err := v.fs.Remove(v.path(name)); err != nil && !gone(err) {
			return err
		}
	}
	return nil
}

func (v *Vault) path(name string) string { return filepath.Join(v.dir, name) }

func (v *Vault) takeLock() (err error) {
	v.lock, err = v.fs.Lock(v.path(lockName))
	if errors.Is(err, vfs.ErrInUse) {
		return ErrInUse
	}
	return err
}

func (v *Vault) open(salvage bool) (err error) {
	if v.anchor, err = v.fs.Open(v.path(anchorName)); gone(err) {
		return ErrNotFound
	} else if err != nil {
		return err
	}
	if err := v.takeLock(); err != nil {
		return err
	}
	a, slot, other, err := readAnchor(v.anchor, v.kek)
	if errors.Is(err, errNoAnchor) {
		return fmt.Errorf("the file %s is damaged: restore the folder from a backup made while the vault was closed: %w", anchorName, ErrCorrupt)
	}
	if err != nil {
		return err
	}
	v.slot = slot
	if v.pages, err = v.fs.Open(v.path(pagesName)); err != nil {
		return fmt.Errorf("%w: the file %s is missing: restore the folder from a backup (%v)", ErrCorrupt, pagesName, err)
	}
	if v.tree, err = v.loadTree(a, salvage); err != nil {
		return err
	}
	switch other {
	case restAnchor:
		return eraseAnchor(v.anchor, 1-slot)
	case restDamaged: // stays until the next commit overwrites it, so that nobody misses it
		v.fell = true
		v.log.Error("store: vault: the newest anchor is damaged; what was committed last is lost", "err", ErrCorrupt)
	}
	return nil
}

// FellBack reports whether a damaged anchor made Open go back by a commit:
// what Commit acknowledged last may be lost. Whoever keeps counters here must
// not count on from them. It stays true until the vault is closed, and is true
// again when the vault is opened before something was committed.
func (v *Vault) FellBack() bool { return v.fell }

// Syncs returns how often the vault has made the disk sync.
func (v *Vault) Syncs() uint64 {
	v.mu.RLock()
	defer v.mu.RUnlock()
	return v.syncs
}

// Len is the number of secrets committed.
func (v *Vault) Len() int {
	v.mu.RLock()
	defer v.mu.RUnlock()
	if v.locked {
		return 0
	}
	return len(v.tree.where)
}

// Lock forgets all keys. What was not committed is lost. The vault can then
// only be closed. Go's memory may hold copies until it is used for something
// else: no more than that is promised.
func (v *Vault) Lock() {
	v.commits.Lock()
	defer v.commits.Unlock()
	v.Session.drop()
	v.mu.Lock()
	defer v.mu.Unlock()
	v.locked = true
	clear(v.kek[:])
	v.tree.wipe()
}

// Close locks the vault and closes its files.
func (v *Vault) Close() error {
	v.Lock()
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.closeFiles()
}

func (v *Vault) closeFiles() (err error) {
	for _, c := range []io.Closer{v.pages, v.anchor, v.lock} {
		if c != nil {
			err = errors.Join(err, c.Close())
		}
	}
	v.pages, v.anchor, v.lock = nil, nil, nil
	return err
}

// DestroyVault makes the vault in dir unreadable for good: it overwrites the
// anchor, then removes the files. It needs no key, and may be repeated after a
// crash. A vault that is open elsewhere is destroyed all the same.
func DestroyVault(dir string, o VaultOptions) error {
	o = o.withDefaults()
	for _, name := range []string{anchorName, anchorNewName} {
		f, err := o.FS.Open(filepath.Join(dir, name))
		if gone(err) {
			continue
		}
		if err != nil {
			return fmt.Errorf("store: destroy vault %s: %w", dir, err)
		}
		err = errors.Join(eraseAnchor(f, 0), eraseAnchor(f, 1), f.Close())
		if err != nil {
			return fmt.Errorf("store: destroy vault %s: %w", dir, err)
		}
	}
	for _, name := range []string{anchorName, anchorNewName, pagesName, lockName} {
		if err := o.FS.Remove(filepath.Join(dir, name)); err != nil && !gone(err) {
			return fmt.Errorf("store: destroy vault %s: %w", dir, err)
		}
	}
	return nil
}

// A Session is a set of changes to a vault that are committed together. Its
// methods may be called from any goroutine.
type Session struct {
	v      *Vault
	mu     sync.Mutex
	staged map[[16]byte]change
	flying map[[16]byte]change // being committed
	rekey  *[32]byte           // see Vault.Rekey
}

type change struct {
	shred bool
	value []byte
	hour  uint32
}

// NewSession returns a Session without changes.
func (v *Vault) NewSession() *Session { return &Session{v: v} }

// Put sets the secret with that id. It counts at once for Get of this
// Session, and becomes durable, and the old value unreadable, by Commit.
func (s *Session) Put(id [16]byte, value []byte) error { return s.PutExpiring(id, value, 0) }

// PutExpiring is Put of a secret that will be shredded at about expires, in
// seconds of whatever clock the caller counts by. Secrets of the same hour
// share pages, so that shredding an hour is cheap; that is all expires does.
// Zero is no expiry.
func (s *Session) PutExpiring(id [16]byte, value []byte, expires uint64) error {
	if len(value) > MaxSecret {
		return fmt.Errorf("store: vault: secret of %d bytes (at most %d): %w", len(value), MaxSecret, ErrTooLarge)
	}
	return s.stage(id, change{value: bytes.Clone(value), hour: hourOf(expires)})
}

func hourOf(seconds uint64) uint32 { return uint32(min(seconds/3600, 1<<32-1)) }

// Shred removes the secret with that id: from Get of this Session at once,
// from everything the disk holds by Commit. It is no error if there is none.
func (s *Session) Shred(id [16]byte) error { return s.stage(id, change{shred: true}) }

func (s *Session) stage(id [16]byte, c change) error {
	if err := s.v.usable(); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.staged == nil {
		s.staged = make(map[[16]byte]change)
	}
	s.staged[id] = c
	return nil
}

func (v *Vault) usable() error {
	v.mu.RLock()
	defer v.mu.RUnlock()
	if v.locked {
		return fmt.Errorf("store: vault: %w", ErrLocked)
	}
	return v.broken
}

// Get returns the secret with that id, as this Session or the last commit left
// it.
func (s *Session) Get(id [16]byte) ([]byte, error) {
	s.mu.Lock()
	c, ok := s.staged[id]
	if !ok {
		c, ok = s.flying[id]
	}
	s.mu.Unlock()
	if ok && !c.shred {
		return bytes.Clone(c.value), nil
	}
	if ok {
		return nil, fmt.Errorf("store: vault: secret: %w", ErrNotFound)
	}
	return s.v.get(id)
}

func (v *Vault) get(id [16]byte) ([]byte, error) {
	v.mu.RLock()
	defer v.mu.RUnlock()
	if v.locked {
		return nil, fmt.Errorf("store: vault: %w", ErrLocked)
	}
	at, ok := v.tree.where[id]
	if !ok {
		return nil, fmt.Errorf("store: vault: secret: %w", ErrNotFound)
	}
	l, err := v.readLeaf(v.tree, at.leaf)
	if err != nil {
		return nil, fmt.Errorf("store: vault: %w", err)
	}
	return bytes.Clone(l.slots[at.slot].value), nil
}

// Commit makes the Session's changes durable, all or none, and what they
// replaced or shredded unreadable. Concurrent Commits share their syncs. On
// error the changes stay staged; those of a Session that is no longer wanted
// are forgotten with it.
func (s *Session) Commit() error {
	if err := s.v.usable(); err != nil {
		return err
	}
	return s.v.group.Submit(context.Background(), s)
}

// take moves the staged changes into flight.
func (s *Session) take() map[[16]byte]change {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.flying, s.staged = s.staged, nil
	if s.flying == nil {
		s.flying = make(map[[16]byte]change)
	}
	return s.flying
}

// flies reports whether the changes are being committed.
func (s *Session) flies() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.flying != nil
}

// land ends the flight; if it failed, the changes are staged again unless
// newer ones are.
func (s *Session) land(failed bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if failed {
		for id, c := range s.flying {
			if _, newer := s.staged[id]; newer {
				continue
			}
			if s.staged == nil {
				s.staged = make(map[[16]byte]change)
			}
			s.staged[id] = c
		}
	}
	s.flying = nil
}

func (s *Session) drop() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, c := range s.staged {
		clear(c.value)
	}
	s.staged = nil
}

// ShredBefore stages the shredding of every committed secret whose expiry
// lies in an hour that is over at now, and returns their number.
func (s *Session) ShredBefore(now uint64) (int, error) {
	ids, err := s.v.expired(hourOf(now))
	if err != nil {
		return 0, err
	}
	for _, id := range ids {
		if err := s.Shred(id); err != nil {
			return 0, err
		}
	}
	return len(ids), nil
}

func (v *Vault) expired(hour uint32) (ids [][16]byte, err error) {
	v.mu.RLock()
	defer v.mu.RUnlock()
	if v.locked {
		return nil, fmt.Errorf("store: vault: %w", ErrLocked)
	}
	for id, at := range v.tree.where {
		if h := v.tree.leaves[at.leaf].hour; h != 0 && h < hour {
			ids = append(ids, id)
		}
	}
	return ids, nil
}

// Rekey puts the anchor under another key encryption key. The old one opens
// nothing any more.
func (v *Vault) Rekey(kek [32]byte) error {
	if err := v.usable(); err != nil {
		return err
	}
	return v.group.Submit(context.Background(), &Session{v: v, rekey: &kek})
}
