package roster

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"time"

	"outrider/mesh/identity"
)

// A Code is what to do with a control object.
type Code uint8

// The codes.
const (
	Accept     Code = 1 // store it, forward it, Apply it
	Superseded Code = 2 // genuine, but of no use: never ask for it again
	Forged     Code = 3 // not genuine: charge it to the neighbour that gave it
	Later      Code = 4 // cannot be judged yet: ask again after something else arrived, or tomorrow
)

// A Verdict is the answer of Judge.
type Verdict struct {
	Code   Code
	Kind   Kind      // revocations and config go first, prekeys not on thin links; 0 if not genuine
	Key    [16]byte  // of the objects with one Key keep the highest Number
	Number uint64    // set with Accept and Superseded
	End    time.Time // when it may be forgotten; zero is never
	Err    error     // why, unless accepted
}

// needError says what must arrive before an object can be judged.
type needError struct{ on string }

func (e *needError) Error() string   { return "its issuer is not known here yet" }
func (e *needError) Is(t error) bool { return t == ErrLater }

func onKey(k identity.KeyID) string       { return "k" + string(k[:]) }
func onDevice(d identity.DeviceID) string { return "d" + string(d[:]) }

// Judge says whether a sealed control object is genuine and new, and changes
// nothing but the daily budget. The whole chain of signatures up to the root
// record is checked before anything else is believed.
func (r *Roster) Judge(payload []byte) Verdict {
	o, err := r.read(payload)
	if err == nil {
		err = r.admissible(o)
	}
	v := Verdict{Code: codeOf(err), Err: err}
	if o != nil && o.chain != nil {
		v.Kind, v.Key, v.Number, v.End = o.Kind, r.agentKey(o), o.number, o.end(r.root.Preset().MaxDelay())
	}
	return v
}

func codeOf(err error) Code {
	switch {
	case err == nil:
		return Accept
	case errors.Is(err, ErrLater), errors.Is(err, identity.ErrNotYetValid):
		return Later
	case errors.Is(err, ErrSuperseded), errors.Is(err, ErrRevoked), errors.Is(err, ErrClosed), errors.Is(err, identity.ErrExpired):
		return Superseded
	}
	return Forged
}

// read opens, parses and authenticates a payload. The object it returns
// besides an error is nil or not authenticated (its chain is nil).
func (r *Roster) read(payload []byte) (*object, error) {
	plain, generation, err := r.open(payload)
	if err != nil {
		return nil, err
	}
	o, err := parseObject(plain)
	if err != nil {
		return nil, err
	}
	o.generation, o.plain = generation, sha256.Sum256(plain)
	return o, r.authenticate(o)
}

// authenticate checks the signatures of o and of the chain above it.
func (r *Roster) authenticate(o *object) error {
	r.mu.RLock()
	chain, err := r.chainFor(o)
	r.mu.RUnlock()
	if err != nil {
		return err
	}
	if err := r.verifier.Authenticate(chain); err != nil {
		return err
	}
	if err := r.checkBody(o, chain); err != nil {
		return err
	}
	o.chain = chain
	o.settle()
	return nil
}

// chainFor assembles the chain that o rests on: its own if o is a
// certificate, else its signer's.
func (r *Roster) chainFor(o *object) (identity.Chain, error) {
	switch o.Kind {
	case KindPrekey, KindLastResort:
		if c := r.state.deviceChain(o.prekey.Device); c != nil {
			o.signer, o.holder = c.Leaf().Key.ID(), c.Leaf().UserID()
			return c, nil
		}
		return r.carriedSigner(o, func(c identity.Certificate) bool { return c.DeviceID() == o.prekey.Device }, onDevice(o.prekey.Device))
	case KindProfile, KindRevocation, KindConfig:
		if c := r.state.signerChain(o.signer); c != nil {
			return c, nil
		}
		return r.carriedSigner(o, func(c identity.Certificate) bool { return c.Key.ID() == o.signer }, onKey(o.signer))
	}
	return r.upward(o.cert, o.parents)
}

// carriedSigner takes the signer's certificate from what came with o.
func (r *Roster) carriedSigner(o *object, is func(identity.Certificate) bool, need string) (identity.Chain, error) {
	if len(o.parents) == 0 || !is(o.parents[0].Leaf()) {
		return nil, &needError{need}
	}
	c := o.parents[0].Leaf()
	o.signer, o.holder = c.Key.ID(), c.UserID()
	return r.upward(c, o.parents[1:])
}

// upward builds the chain from c to its admin, from what came along and what
// is known.
func (r *Roster) upward(c identity.Certificate, carried []identity.Chain) (identity.Chain, error) {
	chain := identity.Chain{c}
	for c.Issuer != r.root.Key().ID() || c.Class != identity.ClassAdmin {
		if c.Class == identity.ClassAdmin || len(chain) > 4 {
			return nil, fmt.Errorf("admin of another root: %w", identity.ErrForeign)
		}
		if len(carried) > 0 && carried[0].Leaf().Key.ID() == c.Issuer {
			c, carried = carried[0].Leaf(), carried[1:]
			chain = append(chain, c)
			continue
		}
		known := r.state.issuerChain(c)
		if known == nil {
			return nil, &needError{onKey(c.Issuer)}
		}
		return append(chain, known...), nil
	}
	return chain, nil
}

// issuerChain returns the chain of whoever issued c, if known.
func (s *state) issuerChain(c identity.Certificate) identity.Chain {
	if c.Class == identity.ClassDevice {
		if o := s.userWithKey(c.UserID(), c.Issuer); o != nil {
			return o.chain
		}
		return nil
	}
	return s.issuers[c.Issuer]
}

// userWithKey returns the best user certificate of uid with the given key:
// final before provisional, since certNumber says so.
func (s *state) userWithKey(uid identity.UserID, key identity.KeyID) (best *object) {
	for _, o := range s.users[uid] {
		if o.cert.Key.ID() == key && (best == nil || o.number > best.number) {
			best = o
		}
	}
	return best
}

// deviceChain returns the chain of a device over what is now known of its
// user, failing that the one it came with, or nil.
func (s *state) deviceChain(id identity.DeviceID) identity.Chain {
	d := s.devices[id]
	if d == nil {
		return nil
	}
	if u := s.userWithKey(d.cert.UserID(), d.cert.Issuer); u != nil {
		return append(identity.Chain{d.cert}, u.chain...)
	}
	return d.chain
}

// signerChain returns the chain of the admin, device or user with a key.
func (s *state) signerChain(id identity.KeyID) identity.Chain {
	if c := s.issuers[id]; c != nil && c.Leaf().Class == identity.ClassAdmin {
		return c
	}
	if d, ok := s.deviceKeys[id]; ok {
		return s.deviceChain(d)
	}
	if uid, ok := s.userKeys[id]; ok {
		if u := s.userWithKey(uid, id); u != nil {
			return u.chain
		}
	}
	return nil
}

// checkBody checks what is signed by the leaf of chain, and that it may.
func (r *Roster) checkBody(o *object, chain identity.Chain) error {
	signer := chain.Leaf()
	ok, allowed := true, true
	switch o.Kind {
	case KindPrekey, KindLastResort:
		ok = o.prekey.Verify(r.root.ID(), signer.Key)
		allowed = signer.Class == identity.ClassDevice
	case KindProfile:
		ok = verifyBody(r.root.ID(), identity.DomainProfile, o.profile.signed, o.profile.sig, signer.Key)
		allowed = signer.Class == identity.ClassDevice && signer.UserID() == o.profile.user ||
			signer.Class == identity.ClassAdmin && signer.Roles&identity.RoleIssue != 0
	case KindRevocation:
		ok = verifyBody(r.root.ID(), identity.DomainRevocation, o.revoked.signed, o.revoked.sig, signer.Key)
		allowed = mayRevoke(signer, o.revoked)
	case KindConfig:
		return o.config.Verify(r.root.ID(), signer)
	}
	switch {
	case !ok:
		return fmt.Errorf("kind %d: %w", o.Kind, identity.ErrSignature)
	case !allowed:
		return fmt.Errorf("kind %d by a %v: %w", o.Kind, signer.Class, identity.ErrRole)
	}
	return nil
}

// mayRevoke: an admin with the role revokes anybody; a user or a device, when
// lost, itself.
func mayRevoke(signer identity.Certificate, v revocation) bool {
	switch signer.Class {
	case identity.ClassAdmin:
		return signer.Roles&identity.RoleRevoke != 0
	case identity.ClassUser, identity.ClassDevice:
		return len(v.keys) == 1 && v.keys[0] == signer.Key.ID()
	}
	return false
}

// admissible judges an authenticated object against what is known.
func (r *Roster) admissible(o *object) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if o.Kind == KindRevocation {
		return r.admissibleRevocation(o)
	}
	if r.state.chainRevoked(o.chain) {
		return ErrRevoked
	}
	if err := o.chain.CheckTime(r.clock); err != nil {
		return err
	}
	if end := o.end(r.root.Preset().MaxDelay()); r.clock.Trusted() && !r.clock.Now().Before(end) {
		return fmt.Errorf("prekey: %w", identity.ErrExpired)
	}
	if r.state.ticketClosed(o.chain) {
		return ErrClosed
	}
	if old := r.state.objects[o.key()]; old != nil {
		switch {
		case old.sum == o.sum && (old.plain == o.plain && o.generation == old.generation || o.generation > old.generation):
			// The same again: after a crash, sealed under a newer secret, or
			// sealed by two nodes apart, as the giver and the taker of a join
			// do. Of those the agent keeps one, the same at all nodes; were
			// each to refuse the other's, their sets would never be equal.
			return nil
		case old.sum == o.sum || !o.wins(old):
			return ErrSuperseded
		}
		if old.number == o.number {
			r.log.Warn("two different control objects with one number", "err", "equivocation")
		}
	}
	if !r.state.roomFor(o) {
		return fmt.Errorf("limit for one user or ticket reached: %w", ErrSuperseded)
	}
	return r.spend(o)
}

func (r *Roster) admissibleRevocation(o *object) error {
	by := r.state.revokers[o.revoked.signer]
	if by != nil && by.has(o.sum) {
		return nil // the same again, after a crash
	}
	if r.state.chainRevoked(o.chain) {
		return ErrRevoked
	}
	switch r.state.standingOf(o.revoked) {
	case repeats:
		return ErrSuperseded
	case conflicts:
		r.log.Warn("an admin's revocations contradict each other, all are kept", "err", "equivocation")
		if by.conflicts >= maxConflicts {
			return fmt.Errorf("too many contradicting revocations: %w", ErrSuperseded)
		}
	}
	return nil
}

// spend books a new object on its signer's day. Config is exempt: only admins
// make it, and it must not wait.
func (r *Roster) spend(o *object) error {
	if o.Kind == KindConfig {
		return nil
	}
	now := time.Since(r.started)
	signer := o.chain.Leaf()
	if o.Kind <= KindFederation {
		signer = o.chain.Parents().Leaf() // zero for an admin's own: the root signed it
	}
	byAdmin := signer.Class == identity.ClassAdmin || signer.Class == 0
	r.budget.prune(now)
	if !r.budget.allow(spenderOf(o, byAdmin), o, now) {
		return fmt.Errorf("more than %d new objects of this kind in a day: %w", newPerDay, ErrLater)
	}
	return nil
}

// agentKey is the key the agent keeps the highest number of. Revocation sets
// that contradict their signer's others stand for themselves, so that none is
// lost.
func (r *Roster) agentKey(o *object) [16]byte {
	r.mu.RLock()
	defer r.mu.RUnlock()
	if o.Kind == KindRevocation && r.state.inConflict(o) {
		return [16]byte(o.sum[:16])
	}
	return o.key()
}
