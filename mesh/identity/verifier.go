package identity

import (
	"crypto/sha256"
	"sync"
)

// A Verifier authenticates chains and remembers which certificates it has
// found genuine, so that five hundred chains under one admin cost the admin's
// signature once. It is safe for concurrent use.
type Verifier struct {
	root *RootRecord
	size int

	mu       sync.Mutex
	now, old map[[32]byte]struct{} // two generations: when now is full it becomes old
}

// NewVerifier returns a Verifier for one network that remembers at least
// size, and never more than twice size, certificates of 32 bytes each.
func NewVerifier(root *RootRecord, size int) *Verifier {
	return &Verifier{root: root, size: max(size, 1), now: map[[32]byte]struct{}{}}
}

// Authenticate is Chain.Authenticate under the verifier's root.
func (v *Verifier) Authenticate(c Chain) error { return c.authenticate(v.root, v) }

// Verify is Chain.Verify under the verifier's root.
func (v *Verifier) Verify(c Chain, clock Clock) error {
	if err := v.Authenticate(c); err != nil {
		return err
	}
	return c.CheckTime(clock)
}

// verify checks one certificate under one key; only what holds is remembered,
// so garbage cannot push out what is known.
func (v *Verifier) verify(network NetworkID, c Certificate, key PublicKey) bool {
	if v == nil {
		return c.verify(network, key)
	}
	h := sha256.New()
	h.Write(key[:])
	h.Write(c.raw)
	sum := [32]byte(h.Sum(nil))
	if v.known(sum) {
		return true
	}
	if !c.verify(network, key) {
		return false
	}
	v.remember(sum)
	return true
}

func (v *Verifier) known(sum [32]byte) bool {
	v.mu.Lock()
	defer v.mu.Unlock()
	if _, ok := v.now[sum]; ok {
		return true
	}
	_, ok := v.old[sum]
	if ok {
		v.put(sum)
	}
	return ok
}

func (v *Verifier) remember(sum [32]byte) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.put(sum)
}

func (v *Verifier) put(sum [32]byte) {
	if len(v.now) >= v.size {
		v.old, v.now = v.now, make(map[[32]byte]struct{}, v.size)
	}
	v.now[sum] = struct{}{}
}
