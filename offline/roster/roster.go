// Package roster keeps who is who: certificates, revocations, prekeys and
// display names, as far as this node has heard of them.
//
// They travel as control objects (decisions.md 10). A control object is
// state, not mail: of each kind and subject the highest number wins, and
// nothing is stored, forwarded or believed before the chain of signatures up
// to the root record has been checked. On the air, on disk and on sticks an
// object is
//
//	generation 4 B | nonce 12 B | AES-256-GCM( CBOR [kind, body, parents] )
//
// under the control key of a network secret's generation, which only admitted
// nodes have. IDENTITY.md in mesh/identity lists the kinds and their bodies.
//
// The roster stores nothing. The agent keeps the objects it judged; at the
// start each is applied again, in any order, and gives the same roster: the
// views are a function of the set of objects, not of their arrival.
package roster

import (
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"outrider/mesh/identity"
)

// Limits.
const (
	// MaxPayload is the most a sealed object may have, in bytes.
	MaxPayload = 64 << 10
	// maxSecrets is how many generations of network secret are kept.
	maxSecrets = 16
	// maxParked is how many applied objects may wait for a parent.
	maxParked = 8192
	// verifierSize is how many certificates are remembered as genuine.
	verifierSize = 4096
	// maxDevices is how many devices one user's key may certify.
	maxDevices = 16
	// maxProvisional is how many redemptions of one ticket are kept. Two are
	// enough to freeze both; more would only be more.
	maxProvisional = 2
)

var (
	// ErrRevoked: a key in the chain was revoked.
	ErrRevoked = errors.New("revoked")
	// ErrClosed: the ticket was closed by an admin's final certificate.
	ErrClosed = errors.New("the ticket it was made with is closed")
	// ErrForged: the bytes are not a genuine control object of this network.
	ErrForged = errors.New("not a genuine control object")
	// ErrLater: a parent or a network secret is not known here yet.
	ErrLater = errors.New("cannot be judged yet")
	// ErrSuperseded: known already, or replaced by what is known.
	ErrSuperseded = errors.New("superseded")
)

// A Roster is safe for concurrent use.
type Roster struct {
	root     *identity.RootRecord
	clock    identity.Clock
	log      *slog.Logger
	verifier *identity.Verifier
	started  time.Time // for elapsed time, which no clock setting moves

	mu      sync.RWMutex
	secrets map[uint32]identity.NetworkSecret
	newest  uint32
	// vouchers are the secrets that an admin's word is known for; only those
	// are handed over.
	vouchers map[uint32]Generation
	own      identity.Chain // this node's chain
	state    state
	budget   budget
	parked   map[string][]*object // applied objects by the issuer they wait for
	waiting  map[[32]byte]bool    // their sums
	changed  chan struct{}
}

// New returns an empty roster of the network that root makes. clock judges
// certificates; if it has a method Observe(time.Time), as Clock has, it is
// told the times that admins have signed.
func New(root *identity.RootRecord, secrets []identity.NetworkSecret, clock identity.Clock, log *slog.Logger) *Roster {
	r := &Roster{
		root: root, clock: clock, log: log, verifier: identity.NewVerifier(root, verifierSize), started: time.Now(),
		secrets: map[uint32]identity.NetworkSecret{}, vouchers: map[uint32]Generation{}, state: newState(), budget: budget{},
		parked: map[string][]*object{}, waiting: map[[32]byte]bool{}, changed: make(chan struct{}),
	}
	for _, s := range secrets {
		r.addSecret(s)
	}
	return r
}

// Root returns the network's root record.
func (r *Roster) Root() *identity.RootRecord { return r.root }

// AddSecret adds a generation of the network secret. Objects are sealed under
// the highest one known and opened under any.
func (r *Roster) AddSecret(s identity.NetworkSecret) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.addSecret(s)
}

func (r *Roster) addSecret(s identity.NetworkSecret) {
	r.secrets[s.Generation] = s
	r.newest = max(r.newest, s.Generation)
	for len(r.secrets) > maxSecrets {
		oldest := r.oldestSecret()
		delete(r.secrets, oldest)
		delete(r.vouchers, oldest)
	}
}

// Secrets returns the generations known, the newest first.
func (r *Roster) Secrets() []identity.NetworkSecret {
	r.mu.RLock()
	defer r.mu.RUnlock()
	var out []identity.NetworkSecret
	for _, s := range r.secrets {
		out = append(out, s)
	}
	slices.SortFunc(out, func(a, b identity.NetworkSecret) int { return int(int64(b.Generation) - int64(a.Generation)) })
	return out
}

// Seal encodes o and seals it under the newest generation.
func (r *Roster) Seal(o Object) (payload []byte, err error) {
	r.mu.RLock()
	s, ok := r.secrets[r.newest]
	r.mu.RUnlock()
	if !ok {
		return nil, fmt.Errorf("roster: seal: no network secret is known")
	}
	return Seal(r.root.ID(), s, o)
}

// Seal encodes o and seals it under one generation of a network's secret.
func Seal(network identity.NetworkID, s identity.NetworkSecret, o Object) (payload []byte, err error) {
	plain, err := o.encode()
	if err != nil {
		return nil, fmt.Errorf("roster: seal: %w", err)
	}
	if n := 4 + identity.SealOverhead + len(plain); n > MaxPayload {
		return nil, fmt.Errorf("roster: seal: %d bytes exceed %d", n, MaxPayload)
	}
	head := binary.BigEndian.AppendUint32(nil, s.Generation)
	return append(head, identity.Seal(s.ControlKey(), plain, aad(network, head))...), nil
}

// open unseals a payload. It returns ErrForged or ErrLater.
func (r *Roster) open(payload []byte) (plain []byte, generation uint32, err error) {
	if len(payload) < 4+identity.SealOverhead || len(payload) > MaxPayload {
		return nil, 0, fmt.Errorf("%d bytes: %w", len(payload), ErrForged)
	}
	generation = binary.BigEndian.Uint32(payload)
	r.mu.RLock()
	s, ok := r.secrets[generation]
	r.mu.RUnlock()
	if !ok {
		return nil, generation, fmt.Errorf("network secret of generation %d is not known: %w", generation, ErrLater)
	}
	plain, err = identity.Open(s.ControlKey(), payload[4:], aad(r.root.ID(), payload[:4]))
	if err != nil {
		return nil, generation, fmt.Errorf("%v: %w", err, ErrForged)
	}
	return plain, generation, nil
}

func aad(network identity.NetworkID, generation []byte) []byte {
	return append(append(identity.LabelControlObject.Prefix(), network[:]...), generation...)
}

// Changed returns a channel that is closed at the next change of what the
// roster says. Ask for it before reading, or a change may slip through.
func (r *Roster) Changed() <-chan struct{} {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return r.changed
}

// announce wakes those who wait for a change. The lock is held.
func (r *Roster) announce() {
	close(r.changed)
	r.changed = make(chan struct{})
}
