package node

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"
	"unicode"

	"golang.org/x/sys/unix"

	"outrider/mesh/identity"
	"outrider/offline/roster"
)

// Errors of a node's folder. Each has a message that says what to type next.
var (
	// ErrNotInitialised means that the folder holds no node.
	ErrNotInitialised = errors.New("no node in this folder; run `outrider init` first")
	// ErrStateLost means that the folder holds what only its state file opens.
	ErrStateLost = errors.New("this folder holds keys or mail of a node, but its state file is missing; restore it from a backup, or use another --dir")
	// ErrInitialised means that the folder already holds a node.
	ErrInitialised = errors.New("this folder already holds a node; `outrider up` starts it")
	// ErrNoNetwork means that the node belongs to no network yet.
	ErrNoNetwork = errors.New("this node belongs to no network yet; run `outrider network create NAME` or `outrider join`")
	// ErrHasNetwork means that the node already belongs to a network.
	ErrHasNetwork = errors.New("this node already belongs to a network")
	// ErrRunning means that a running node has the folder open.
	ErrRunning = errors.New("a node is already running on this folder; stop it, or use another --dir")
	// ErrAtWork means that another process has the folder open, which answers
	// nobody.
	ErrAtWork = errors.New("another outrider command is at work on this folder, or a node is starting or stopping; try again in a moment")
)

// A Home is a node's folder, opened by this process alone.
//
//	state        what the node is: keys, network, addresses (0600, replaced atomically)
//	lock         held while a process has the folder open
//	outrider.sock, outrider.toml
//	admin/       an administrator's keys, sealed under a password
//	users/ID/    a user's keystore and key vault
//	db/ blobs/   the store
type Home struct {
	dir  string
	lock *os.File
	key  identity.PrivateKey

	// ops is held through an operator's whole action, which derives keys from
	// passwords for seconds on a small board. It is taken before mu.
	ops   sync.Mutex
	mu    sync.Mutex // guards the state and its file; never held while a key is derived
	state state

	// named is what users issued since the folder was opened are called, until
	// the roster has heard of them (namesake). ops guards it.
	named map[identity.UserID]string
}

// state is the content of the state file. The node's own key and the network
// secret lie in it unencrypted: a relay that must come back alone after a
// power cut has no password to ask for. It opens links, never envelopes.
type state struct {
	Version  uint64            `cbor:"1,keyasint"`
	NodeSeed [32]byte          `cbor:"2,keyasint"`
	Network  *membership       `cbor:"3,keyasint,omitempty"`
	Publish  []publication     `cbor:"4,keyasint,omitempty"`
	Users    []hosted          `cbor:"5,keyasint,omitempty"`
	Clock    clockState        `cbor:"6,keyasint"`
	Blocked  []identity.NodeID `cbor:"7,keyasint,omitempty"`
}

// membership is what the node knows of its network.
type membership struct {
	ID      identity.NetworkID `cbor:"1,keyasint"`
	Name    string             `cbor:"2,keyasint"`
	Root    []byte             `cbor:"3,keyasint,omitempty"` // absent until a neighbour has given it
	Secrets []networkSecret    `cbor:"4,keyasint"`           // newest first
	Chain   []byte             `cbor:"5,keyasint"`           // this node's certificate chain
	Seeds   []string           `cbor:"6,keyasint,omitempty"` // addresses from the join link
	// Unverified is set while the clock that accepted the join link has not
	// been confirmed, Void once it is certain that the link had ended.
	Unverified *unverified `cbor:"7,keyasint,omitempty"`
	Void       bool        `cbor:"8,keyasint,omitempty"`
}

// publication is a control object this node must bring into the mesh, sealed
// as it will travel. It is kept until the store has it.
type publication struct {
	Payload []byte `cbor:"1,keyasint"`
	Urgent  bool   `cbor:"2,keyasint,omitempty"`
}

// hosted is a user whose keys lie on this node. Names are not written here:
// they travel and lie sealed, in profiles.
type hosted struct {
	ID  identity.UserID    `cbor:"1,keyasint"`
	Key identity.PublicKey `cbor:"2,keyasint,omitempty"` // the user's public key
	// Aside counts how often the keys were replaced here (replaceKeys).
	Aside uint32 `cbor:"3,keyasint,omitempty"`
}

// networkSecret is how a secret is written; identity.NetworkSecret has no
// encoding of its own.
type networkSecret struct {
	Generation uint32   `cbor:"1,keyasint"`
	Secret     [32]byte `cbor:"2,keyasint"`
	Voucher    []byte   `cbor:"3,keyasint,omitempty"` // an admin's word for it, absent until a neighbour has given it
	Admin      []byte   `cbor:"4,keyasint,omitempty"` // that admin's certificate
	Retired    int64    `cbor:"5,keyasint,omitempty"` // Unix seconds when a newer one was learnt, 0 for the newest
}

func secretState(s identity.NetworkSecret) networkSecret {
	return networkSecret{Generation: s.Generation, Secret: s.Secret}
}

func (s networkSecret) secret() identity.NetworkSecret {
	return identity.NetworkSecret{Generation: s.Generation, Secret: s.Secret}
}

type clockState struct {
	Floor int64 `cbor:"1,keyasint"` // Unix seconds; no time below it is believed
}

const stateVersion = 1

// Init makes a new node in dir, which may exist but must hold no node.
func Init(dir string) (*Home, error) {
	if err := os.MkdirAll(dir, 0o750); err != nil {
		return nil, fmt.Errorf("node: init %s: %v", dir, err)
	}
	h, err := lockHome(dir)
	if err != nil {
		return nil, err
	}
	if err := h.create(); err != nil {
		h.Close()
		return nil, fmt.Errorf("node: init %s: %w", dir, err)
	}
	return h, nil
}

// create makes a node where there is none. A state file that cannot be looked
// at is left alone: it may be somebody's only key.
func (h *Home) create() (err error) {
	switch err := LookHome(h.dir); {
	case err == nil:
		return ErrInitialised
	case !errors.Is(err, ErrNotInitialised):
		return err
	}
	if h.key, err = identity.NewPrivateKey(); err != nil {
		return err
	}
	h.state = state{Version: stateVersion, NodeSeed: h.key.Seed()}
	return h.save()
}

// LookHome says whether a folder holds a node, without opening it: if not, the
// error is ErrNotInitialised, or ErrStateLost where a new node would make
// worthless what is there.
func LookHome(dir string) error {
	_, err := os.Stat(filepath.Join(dir, "state"))
	if !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	for _, part := range []string{"db", "users", "admin"} {
		if _, err := os.Lstat(filepath.Join(dir, part)); !errors.Is(err, fs.ErrNotExist) {
			return ErrStateLost
		}
	}
	return ErrNotInitialised
}

// OpenHome opens the node in dir for this process alone. It fails with
// ErrRunning or ErrAtWork when another process has it.
func OpenHome(dir string) (*Home, error) {
	if err := LookHome(dir); errors.Is(err, ErrNotInitialised) || errors.Is(err, ErrStateLost) {
		return nil, fmt.Errorf("node: open %s: %w", dir, err)
	}
	h, err := lockHome(dir)
	if err != nil {
		return nil, err
	}
	if err := h.load(); err != nil {
		h.Close()
		return nil, err
	}
	return h, nil
}

func lockHome(dir string) (*Home, error) {
	f, err := os.OpenFile(filepath.Join(dir, "lock"), os.O_CREATE|os.O_RDWR, 0o640)
	if err != nil {
		return nil, fmt.Errorf("node: open %s: %v", dir, err)
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		f.Close()
		if errors.Is(err, unix.EWOULDBLOCK) {
			err = ErrAtWork
			if answers(dir) {
				err = ErrRunning
			}
		}
		return nil, fmt.Errorf("node: open %s: %w", dir, err)
	}
	return &Home{dir: dir, lock: f}, nil
}

// answers reports whether a node takes requests on a folder. Its path may be
// longer than an address can be (unix(7)), so it is reached through a short one.
func answers(dir string) bool {
	d, err := os.Open(dir)
	if err != nil {
		return false
	}
	defer d.Close()
	c, err := net.DialTimeout("unix", fmt.Sprintf("/proc/self/fd/%d/%s", d.Fd(), socketName), time.Second)
	return err == nil && c.Close() == nil
}

// Close gives the folder back.
func (h *Home) Close() error { return h.lock.Close() }

// Dir returns the folder.
func (h *Home) Dir() string { return h.dir }

// Key returns the node's own key.
func (h *Home) Key() identity.PrivateKey { return h.key }

// ID returns the node's identifier.
func (h *Home) ID() identity.NodeID { return h.key.Public().NodeID() }

func (h *Home) path(elem ...string) string {
	return filepath.Join(append([]string{h.dir}, elem...)...)
}

func (h *Home) load() error {
	raw, err := os.ReadFile(h.path("state"))
	if err != nil {
		return fmt.Errorf("node: read state: %v", err)
	}
	if v := laterVersion(raw); v != 0 {
		return fmt.Errorf("node: read state: written by a later version (%d); install that version again", v)
	}
	err = identity.Unmarshal(raw, &h.state)
	if err == nil && h.state.Version != stateVersion {
		err = fmt.Errorf("version %d", h.state.Version)
	}
	if err != nil {
		return fmt.Errorf("node: read state: damaged (%v); restore %s from a backup, or remove the folder and join again", err, h.path("state"))
	}
	h.key = identity.PrivateKeyFromSeed(h.state.NodeSeed)
	return nil
}

// laterVersion returns the version of a state that this program is too old to
// read, else 0. It looks before the strict decoding, to which whatever a later
// version has added would be damage.
func laterVersion(raw []byte) uint64 {
	var head struct {
		Version uint64 `cbor:"1,keyasint"`
	}
	if err := identity.UnmarshalOpen(raw, &head); err != nil || head.Version <= stateVersion {
		return 0
	}
	return head.Version
}

// attempt changes the state and saves it. When either fails the state is what
// it was: a full disk must not leave in memory what is not in the file. The
// caller holds mu.
func (h *Home) attempt(change func() error) error {
	before := h.state.clone()
	err := change()
	if err == nil {
		err = h.save()
	}
	if err != nil {
		h.state = before
	}
	return err
}

// change is attempt for a caller that does not hold mu.
func (h *Home) change(f func() error) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.attempt(f)
}

func (s state) clone() state {
	if s.Network != nil {
		m := *s.Network
		s.Network = &m
	}
	s.Publish, s.Users, s.Blocked = slices.Clone(s.Publish), slices.Clone(s.Users), slices.Clone(s.Blocked)
	return s
}

// save replaces the state file: after it returns nil the new state survives a
// power cut, before that the old one does. What could not be read back, such
// as thousands of objects that wait for a node that never ran, is refused.
func (h *Home) save() error {
	raw, err := identity.Marshal(h.state)
	if err != nil {
		return fmt.Errorf("node: write state: %v", err)
	}
	if err := identity.Unmarshal(raw, new(state)); err != nil {
		return fmt.Errorf("node: write state: %v; if much waits to be told to the network, run `outrider up` first", err)
	}
	return replaceFile(h.path("state"), raw)
}

// replaceFile writes data beside path, syncs it, and renames it into place.
func replaceFile(path string, data []byte) (err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("node: write %s: %w", filepath.Base(path), err)
		}
	}()
	tmp := path + ".new"
	f, err := os.OpenFile(tmp, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	err = errors.Join(err, f.Sync(), f.Close())
	if err != nil {
		return errors.Join(err, os.Remove(tmp))
	}
	if err := os.Rename(tmp, path); err != nil {
		return err
	}
	return syncDir(filepath.Dir(path))
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// checkName refuses names that could not be told apart on a screen or typed
// on a command line.
func checkName(what, name string, maxBytes int) error {
	switch {
	case name == "" || strings.TrimSpace(name) != name:
		return fmt.Errorf("node: the %s name must not be empty or start or end with a space", what)
	case len(name) > maxBytes:
		return fmt.Errorf("node: the %s name has %d bytes, at most %d are allowed", what, len(name), maxBytes)
	}
	if _, err := identity.ParseUserID(name); err == nil {
		return fmt.Errorf("node: the %s name %s reads as an identifier, and would be taken for one; choose another", what, name)
	}
	for _, r := range name {
		if !unicode.IsLetter(r) && !unicode.IsDigit(r) && !unicode.IsMark(r) && !strings.ContainsRune(" .-_'", r) {
			return fmt.Errorf("node: the %s name holds %U, use letters, digits, spaces and .-_'", what, r)
		}
	}
	return nil
}

// SetBlocked shuts or opens the operator's gate towards another node.
func (h *Home) SetBlocked(id identity.NodeID, blocked bool) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	at := slices.Index(h.state.Blocked, id)
	switch {
	case blocked == (at >= 0):
		return nil
	case blocked && len(h.state.Blocked) >= maxBlocked:
		return fmt.Errorf("node: at most %d nodes can be blocked; revoke those that must never be heard again", maxBlocked)
	}
	return h.attempt(func() error {
		if blocked {
			h.state.Blocked = append(h.state.Blocked, id)
		} else {
			h.state.Blocked = slices.Delete(h.state.Blocked, at, at+1)
		}
		return nil
	})
}

const maxBlocked = 1024

func (h *Home) blockedNodes() []identity.NodeID {
	h.mu.Lock()
	defer h.mu.Unlock()
	return slices.Clone(h.state.Blocked)
}

// floorStep is how far the clock's floor moves before it is written again:
// every write wears the flash.
const floorStep = time.Hour

// raiseFloor keeps the lowest time that can be right.
func (h *Home) raiseFloor(t time.Time) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if t.Unix() < h.state.Clock.Floor+int64(floorStep/time.Second) {
		return nil
	}
	return h.attempt(func() error {
		h.state.Clock.Floor = t.Unix()
		return nil
	})
}

// clock returns the clock certificates are judged by.
func (h *Home) clock() *roster.Clock {
	h.mu.Lock()
	defer h.mu.Unlock()
	return roster.NewClock(time.Now, time.Unix(h.state.Clock.Floor, 0))
}

// network returns what the node knows of its network, nil before it has one.
func (h *Home) network() *membership {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.state.Network == nil {
		return nil
	}
	m := *h.state.Network
	return &m
}

// setRoot keeps the root record that a neighbour gave. Its hash is the
// network's id, which the join link fixed.
func (h *Home) setRoot(root *identity.RootRecord) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.attempt(func() error {
		h.state.Network.Root = root.Raw()
		return nil
	})
}

// unpublished returns the control objects that are still to be brought into
// the mesh, and published forgets the first n of them.
func (h *Home) unpublished() []publication {
	h.mu.Lock()
	defer h.mu.Unlock()
	return slices.Clone(h.state.Publish)
}

func (h *Home) published(n int) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.attempt(func() error {
		h.state.Publish = slices.Delete(h.state.Publish, 0, n)
		return nil
	})
}
