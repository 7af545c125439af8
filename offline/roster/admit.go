package roster

import (
	"fmt"
	"time"

	"outrider/mesh/identity"
)

// SetOwn sets this node's own chain, which Hello gives away.
func (r *Roster) SetOwn(chain identity.Chain) error {
	if err := r.verifier.Authenticate(chain); err != nil {
		return fmt.Errorf("roster: own certificate: %w", err)
	}
	if chain.Leaf().Class != identity.ClassNode {
		return fmt.Errorf("roster: own certificate: of class %v, not node: %w", chain.Leaf().Class, identity.ErrRole)
	}
	r.mu.Lock()
	r.own = chain
	r.mu.Unlock()
	r.met(chain)
	return nil
}

// met takes in the issuers of an authenticated chain and what waited for them.
func (r *Roster) met(chain identity.Chain) {
	r.mu.Lock()
	if r.state.learn(chain) {
		r.announce()
	}
	woken := r.wake(chain)
	r.mu.Unlock()
	r.observe(chain)
	for _, o := range r.revive(woken) {
		r.enter(o)
	}
}

// Confirmed reports whether an admin's final certificate for this node is
// known.
func (r *Roster) Confirmed() bool {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return r.own != nil && (!r.own.Provisional() || r.state.finalNode(r.own.Leaf().NodeID()) != nil)
}

// OwnUntil returns when the certificate that Hello gives away ends.
func (r *Roster) OwnUntil() (time.Time, bool) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	if r.own == nil {
		return time.Time{}, false
	}
	return r.ownBest().Until(), true
}

// ownBest is this node's chain, the final one if it is known. The lock is
// held.
func (r *Roster) ownBest() identity.Chain {
	best := r.own
	if o := r.state.finalNode(best.Leaf().NodeID()); o != nil && o.number > certNumber(best.Leaf(), best.Parents().Leaf()) {
		best = o.chain
	}
	return best
}

// Hello returns the chain that proves this node to a neighbour, at most 4
// KiB: the final one once an admin has issued it. It is nil before SetOwn.
func (r *Roster) Hello() []byte {
	r.mu.RLock()
	defer r.mu.RUnlock()
	if r.own == nil {
		return nil
	}
	return r.ownBest().Marshal()
}

// finalNode returns the certificate that an admin issued to a node, if known.
func (s *state) finalNode(id identity.NodeID) (best *object) {
	for _, o := range s.nodes[id] {
		if !o.chain.Provisional() && (best == nil || o.wins(best)) {
			best = o
		}
	}
	return best
}

// AdmitNode verifies the hello of the neighbour whose key the transport has
// proven, and returns until when it is admitted. The neighbour need not have
// been heard of: its chain is enough. Errors wrap identity.ErrMalformed,
// ErrForeign, ErrSignature, ErrRole, ErrExpired or ErrNotYetValid, or
// ErrRevoked or ErrClosed of this package. Ask again after Changed: an
// admission ends with a revocation.
func (r *Roster) AdmitNode(peer identity.NodeID, hello []byte) (until time.Time, err error) {
	chain, err := identity.ParseChain(hello)
	if err != nil {
		return time.Time{}, fmt.Errorf("roster: admit: %w", err)
	}
	if leaf := chain.Leaf(); leaf.Class != identity.ClassNode || leaf.NodeID() != peer {
		return time.Time{}, fmt.Errorf("roster: admit: the certificate is not for this node's key: %w", identity.ErrRole)
	}
	if err := r.verifier.Authenticate(chain); err != nil {
		return time.Time{}, fmt.Errorf("roster: admit: %w", err)
	}
	until, err = r.admit(chain)
	if err != nil {
		return time.Time{}, fmt.Errorf("roster: admit: %w", err)
	}
	r.met(chain)
	return until, nil
}

func (r *Roster) admit(chain identity.Chain) (time.Time, error) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	peer := chain.Leaf().NodeID()
	if r.state.ticketClosed(chain) {
		// The neighbour may not know yet that it has been confirmed.
		final := r.state.finalNode(peer)
		if final == nil {
			return time.Time{}, ErrClosed
		}
		chain = final.chain
	}
	if r.state.chainRevoked(chain) {
		return time.Time{}, ErrRevoked
	}
	if err := chain.CheckTime(r.clock); err != nil {
		return time.Time{}, err
	}
	until := chain.Until()
	if !r.clock.Trusted() {
		until = until.Add(identity.Grace)
	}
	return until, nil
}
