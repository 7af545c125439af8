package roster

import (
	"bytes"
	"errors"
	"fmt"
	"slices"

	"outrider/mesh/identity"
)

// The hand-over of network secrets (decisions.md 13). It happens inside an
// admitted connection between two neighbours: each says which generations it
// has, and each gives the other what that one lacks, the secret with the
// voucher of the admin who made it. IDENTITY.md section 8 has the bytes.

// maxHandover is the most that is given or read at once, in bytes.
const maxHandover = 8 << 10

// A Generation is a network secret and the admin's word for it. The voucher
// and the certificate are empty for a secret that came with a join link,
// until a neighbour hands them over.
type Generation struct {
	Secret  identity.NetworkSecret
	Voucher []byte
	Admin   []byte // certificate of whoever signed the voucher
}

func (g Generation) vouched() bool { return len(g.Voucher) > 0 }

// heldWire and givenWire are what stands in the lists of the two messages.
type heldWire struct {
	_          struct{} `cbor:",toarray"`
	Generation uint32
	Hash       []byte // of the secret; empty if there is no voucher for it
}

type givenWire struct {
	_       struct{} `cbor:",toarray"`
	Secret  []byte
	Voucher []byte
	Admin   []byte
}

// AddGeneration adds a generation that this node made or has kept. Objects
// are sealed under the highest one known and opened under any.
func (r *Roster) AddGeneration(g Generation) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.addSecret(g.Secret)
	if g.vouched() {
		r.vouchers[g.Secret.Generation] = g
	}
	r.announce()
}

// HeldSecrets says which generations this node has: the first message of a
// hand-over.
func (r *Roster) HeldSecrets() []byte {
	list := []heldWire{}
	r.mu.RLock()
	for g, s := range r.secrets {
		h := heldWire{Generation: g, Hash: []byte{}}
		if _, ok := r.vouchers[g]; ok {
			sum := s.Hash()
			h.Hash = sum[:]
		}
		list = append(list, h)
	}
	r.mu.RUnlock()
	slices.SortFunc(list, func(a, b heldWire) int { return int(int64(b.Generation) - int64(a.Generation)) })
	return mustMarshal(list)
}

// GiveSecrets answers held, what a neighbour has, with what it lacks of ours.
// The caller has made sure that the neighbour is admitted now. A generation
// that a revocation led to is kept back until that revocation has arrived
// here: before, the neighbour might be the revoked one.
func (r *Roster) GiveSecrets(held []byte) ([]byte, error) {
	theirs, err := parseHeld(held)
	if err != nil {
		return nil, err
	}
	list := []givenWire{}
	r.mu.RLock()
	defer r.mu.RUnlock()
	for n, g := range r.vouchers {
		v, err := identity.ParseVoucher(g.Voucher)
		if err != nil || theirs[n] == v.Hash || !r.mayPassOn(v) {
			continue
		}
		list = append(list, givenWire{Secret: g.Secret.Secret[:], Voucher: g.Voucher, Admin: g.Admin})
	}
	return mustMarshal(list), nil
}

// mayPassOn reports whether the revocations that led to a generation are
// known here. The lock is held.
func (r *Roster) mayPassOn(v identity.Voucher) bool {
	if v.After == 0 {
		return true
	}
	by := r.state.revokers[v.Signer]
	return by != nil && by.number >= v.After
}

// ReadSecrets checks what a neighbour has given and returns what is new. The
// caller makes it durable and then calls AddGeneration.
func (r *Roster) ReadSecrets(given []byte) (news []Generation, err error) {
	if len(given) > maxHandover {
		return nil, fmt.Errorf("roster: read secrets: %d bytes: %w", len(given), identity.ErrMalformed)
	}
	var list []givenWire
	if err := identity.Unmarshal(given, &list); err != nil {
		return nil, fmt.Errorf("roster: read secrets: %w", err)
	}
	if len(list) > maxSecrets {
		return nil, fmt.Errorf("roster: read secrets: %d generations: %w", len(list), identity.ErrMalformed)
	}
	for _, w := range list {
		g, err := r.checkGiven(w)
		if errors.Is(err, ErrSuperseded) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("roster: read secrets: %w", err)
		}
		news = append(news, g)
	}
	return news, nil
}

// checkGiven verifies one generation: the voucher is about this secret, an
// admin of ours who is not revoked signed it, and we have nothing better.
func (r *Roster) checkGiven(w givenWire) (g Generation, err error) {
	v, err := identity.ParseVoucher(w.Voucher)
	if err != nil {
		return g, err
	}
	admin, err := identity.ParseCertificate(w.Admin)
	if err != nil {
		return g, err
	}
	if len(w.Secret) != 32 {
		return g, fmt.Errorf("secret of %d bytes: %w", len(w.Secret), identity.ErrMalformed)
	}
	g = Generation{Secret: identity.NetworkSecret{Generation: v.Generation, Secret: [32]byte(w.Secret)}, Voucher: w.Voucher, Admin: w.Admin}
	chain := identity.Chain{admin}
	switch {
	case !v.For(g.Secret):
		return g, fmt.Errorf("the secret is not the one vouched for: %w", identity.ErrSignature)
	case r.verifier.Authenticate(chain) != nil:
		return g, fmt.Errorf("voucher by a stranger: %w", identity.ErrRole)
	}
	if err := v.Verify(r.root.ID(), admin); err != nil {
		return g, err
	}
	r.mu.RLock()
	defer r.mu.RUnlock()
	if r.state.chainRevoked(chain) {
		return g, fmt.Errorf("voucher: %w", ErrRevoked)
	}
	return g, r.newSecret(g, v)
}

// newSecret returns ErrSuperseded for what is known or of no use. Of two
// secrets that admins made under one number apart from each other, everybody
// takes the one with the smaller hash. The lock is held.
func (r *Roster) newSecret(g Generation, v identity.Voucher) error {
	known, ok := r.secrets[v.Generation]
	_, vouched := r.vouchers[v.Generation]
	switch hash := known.Hash(); {
	case !ok && len(r.secrets) >= maxSecrets && v.Generation < r.oldestSecret():
		return ErrSuperseded
	case !ok, !vouched:
		return nil
	case hash == v.Hash:
		return ErrSuperseded
	case bytes.Compare(v.Hash[:], hash[:]) > 0:
		return ErrSuperseded
	}
	r.log.Warn("two admins made one generation of the network secret", "err", "equivocation")
	return nil
}

func (r *Roster) oldestSecret() uint32 {
	oldest := r.newest
	for g := range r.secrets {
		oldest = min(oldest, g)
	}
	return oldest
}

func parseHeld(held []byte) (map[uint32][32]byte, error) {
	if len(held) > maxHandover {
		return nil, fmt.Errorf("roster: give secrets: %d bytes: %w", len(held), identity.ErrMalformed)
	}
	var list []heldWire
	if err := identity.Unmarshal(held, &list); err != nil {
		return nil, fmt.Errorf("roster: give secrets: %w", err)
	}
	if len(list) > maxSecrets {
		return nil, fmt.Errorf("roster: give secrets: %d generations: %w", len(list), identity.ErrMalformed)
	}
	out := make(map[uint32][32]byte, len(list))
	for _, h := range list {
		switch len(h.Hash) {
		case 0:
		case 32:
			out[h.Generation] = [32]byte(h.Hash)
		default:
			return nil, fmt.Errorf("roster: give secrets: hash of %d bytes: %w", len(h.Hash), identity.ErrMalformed)
		}
	}
	return out, nil
}

func mustMarshal(v any) []byte {
	b, err := identity.Marshal(v)
	if err != nil {
		panic("roster: byte strings and numbers do not encode: " + err.Error())
	}
	return b
}

// Heads is a digest of all revocations known here, 16 bytes; empty if there
// are none. Two nodes with equal heads have heard the same.
func (r *Roster) Heads() []byte {
	r.mu.RLock()
	defer r.mu.RUnlock()
	if len(r.state.revoked) == 0 {
		return nil
	}
	keys := make([]identity.KeyID, 0, len(r.state.revoked))
	for k := range r.state.revoked {
		keys = append(keys, k)
	}
	slices.SortFunc(keys, compareKeyIDs)
	var all []byte
	for _, k := range keys {
		all = append(all, k[:]...)
	}
	sum := identity.Hash(identity.LabelHeads, all)
	return sum[:16]
}
