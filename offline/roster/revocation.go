package roster

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"time"

	"outrider/mesh/identity"
)

const (
	// MaxRevoked is how many keys one signer's set may hold.
	MaxRevoked = 4096
	// maxConflicts is how many sets of one signer that contradict each other
	// are kept beside the newest.
	maxConflicts = 16
)

// A revocation is one signer's set of revoked keys. Each set contains all
// earlier ones: it only grows.
type revocation struct {
	signer identity.KeyID
	number uint64
	at     uint32 // minutes since 1970, as the signer's clock had it
	keys   []identity.KeyID

	signed, sig []byte
}

type revocationWire struct {
	_      struct{} `cbor:",toarray"`
	Signer []byte
	Number uint64
	At     uint32
	Keys   []byte // key ids of 8 bytes, ascending, without gaps
}

// newRevocation encodes and signs a set. keys must not be empty.
func newRevocation(network identity.NetworkID, signer identity.PrivateKey, number uint64, at time.Time, keys []identity.KeyID) (Object, error) {
	keys = slices.Clone(keys)
	slices.SortFunc(keys, compareKeyIDs)
	keys = slices.Compact(keys)
	if len(keys) == 0 || len(keys) > MaxRevoked {
		return Object{}, fmt.Errorf("roster: revoke: %d keys, a set has 1 to %d", len(keys), MaxRevoked)
	}
	minutes := at.Unix() / 60
	if minutes < 0 || minutes > 1<<32-1 {
		return Object{}, errors.New("roster: revoke: time out of range")
	}
	id := signer.Public().ID()
	w := revocationWire{Signer: id[:], Number: number, At: uint32(minutes)}
	for _, k := range keys {
		w.Keys = append(w.Keys, k[:]...)
	}
	body, err := identity.Marshal(w)
	if err != nil {
		return Object{}, fmt.Errorf("roster: revoke: %w", err)
	}
	return Object{
		Kind: KindRevocation, Subject: id[:], Number: number,
		Body: signBody(network, identity.DomainRevocation, body, signer),
	}, nil
}

func parseRevocation(body []byte) (v revocation, err error) {
	if v.signed, v.sig, err = splitBody(body); err != nil {
		return v, err
	}
	var w revocationWire
	if err := identity.Unmarshal(v.signed, &w); err != nil {
		return v, err
	}
	const size = len(identity.KeyID{})
	n := len(w.Keys) / size
	if len(w.Signer) != size || len(w.Keys)%size != 0 || n == 0 || n > MaxRevoked {
		return v, fmt.Errorf("revocation of %d bytes of keys: %w", len(w.Keys), identity.ErrMalformed)
	}
	v.signer, v.number, v.at = identity.KeyID(w.Signer), w.Number, w.At
	for i := range n {
		k := identity.KeyID(w.Keys[i*size:])
		if i > 0 && compareKeyIDs(v.keys[i-1], k) >= 0 {
			return v, fmt.Errorf("revocation out of order: %w", identity.ErrMalformed)
		}
		v.keys = append(v.keys, k)
	}
	return v, nil
}

func compareKeyIDs(a, b identity.KeyID) int { return bytes.Compare(a[:], b[:]) }

// within reports whether every key of v is in set.
func (v revocation) within(set map[identity.KeyID]bool) bool {
	for _, k := range v.keys {
		if !set[k] {
			return false
		}
	}
	return true
}

// covers reports whether every key of set is in v.
func (v revocation) covers(set map[identity.KeyID]bool) bool {
	n := 0
	for _, k := range v.keys {
		if set[k] {
			n++
		}
	}
	return n == len(set)
}

// Revoke returns the object that revokes keys, signed by an admin (or by a
// user's or a device's own key, for itself only). It contains all that the
// signer has revoked before, as far as the roster knows; at is the signer's
// time. A key once revoked stays so: whoever is to come back gets a new key
// and a higher generation.
func (r *Roster) Revoke(signer identity.PrivateKey, at time.Time, keys ...identity.PublicKey) (Object, error) {
	id := signer.Public().ID()
	var ids []identity.KeyID
	for _, k := range keys {
		ids = append(ids, k.ID())
	}
	r.mu.RLock()
	number := uint64(1)
	if by := r.state.revokers[id]; by != nil {
		number = by.number + 1
		for k := range by.keys {
			ids = append(ids, k)
		}
	}
	r.mu.RUnlock()
	return newRevocation(r.root.ID(), signer, number, at, ids)
}

// KeyRevoked reports whether a key is revoked, as far as this node has heard.
func (r *Roster) KeyRevoked(key identity.PublicKey) bool {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return r.state.revoked[key.ID()]
}

// Revoked reports whether a user is known and every certificate of theirs has
// fallen to a revocation.
func (r *Roster) Revoked(user identity.UserID) bool {
	r.mu.RLock()
	defer r.mu.RUnlock()
	certs := r.state.users[user]
	for _, o := range certs {
		if !r.state.chainRevoked(o.chain) {
			return false
		}
	}
	return len(certs) > 0
}

// RevokedAsOf returns the latest time at which an admin whose revocations
// have arrived here signed them, for "admin status as of".
func (r *Roster) RevokedAsOf() time.Time {
	r.mu.RLock()
	defer r.mu.RUnlock()
	var at uint32
	for _, by := range r.state.revokers {
		at = max(at, by.at)
	}
	if at == 0 {
		return time.Time{}
	}
	return time.Unix(int64(at)*60, 0).UTC()
}
