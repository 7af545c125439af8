package identity

import (
	"bytes"
	"fmt"
	"time"
)

// Limits of a signed config, fixed by the format.
const (
	// MaxConfig is the most a signed config may have, in bytes: with its
	// issuer's chain it fits a control object, whatever its group.
	MaxConfig = 48 << 10
	// MaxScope is the longest scope, in bytes.
	MaxScope = 32
)

// A Handout says how an issuer brings a config out. It is signed, so that
// nobody can make a link pass for a push, which would outrank newer links.
type Handout uint8

// The ways.
const (
	HandedOut Handout = 1 // as a link, a code or a file
	Pushed    Handout = 2 // by the mesh
)

// A SignedConfig is one version of what an admin says about a scope of the
// network's configuration (crypto.md 7). This package and the roster know who
// said it and in which order; what Body means is package policy's.
type SignedConfig struct {
	Issuer     KeyID
	Scope      string // what it is about: 1 to 32 bytes
	Sequence   uint64 // from 1; the higher one replaces the lower
	Supersedes [32]byte
	Handout    Handout
	NotBefore  time.Time     // whole minutes: when it was made
	Expires    time.Time     // whole minutes: until when it may be applied; zero: no end
	MaxAge     time.Duration // whole minutes after NotBefore, by times that admins have signed; 0: none
	Body       []byte

	raw []byte
}

type configBody struct {
	_          struct{} `cbor:",toarray"`
	Issuer     []byte
	Scope      string
	Sequence   uint64
	Supersedes []byte // 32 bytes, empty for none
	Handout    Handout
	NotBefore  uint32
	Expires    uint32 // 0: none
	MaxAge     uint32 // minutes
	Body       []byte
}

// Sign signs c as admin and returns it with Issuer and its bytes filled in;
// times are cut to whole minutes.
func (c SignedConfig) Sign(network NetworkID, admin PrivateKey) (SignedConfig, error) {
	c.Issuer = admin.Public().ID()
	w, err := c.wire()
	if err != nil {
		return c, fmt.Errorf("identity: sign config: %w", err)
	}
	body, err := Marshal(w)
	if err != nil {
		return c, err
	}
	sig := admin.Sign(DomainConfig, certMessage(network, body))
	return ParseConfig(append(body, sig[:]...))
}

func (c SignedConfig) wire() (configBody, error) {
	nb, ok := minutes(c.NotBefore)
	end := uint32(0)
	if !c.Expires.IsZero() {
		var ok2 bool
		end, ok2 = minutes(c.Expires)
		ok = ok && ok2
	}
	age := c.MaxAge / time.Minute
	if !ok || age < 0 || age > maxMinutes {
		return configBody{}, fmt.Errorf("time out of range: %w", ErrMalformed)
	}
	w := configBody{
		Issuer: c.Issuer[:], Scope: c.Scope, Sequence: c.Sequence, Supersedes: []byte{}, Handout: c.Handout,
		NotBefore: nb, Expires: end, MaxAge: uint32(age), Body: c.Body,
	}
	if c.Supersedes != [32]byte{} {
		w.Supersedes = c.Supersedes[:]
	}
	return w, nil
}

// ParseConfig reads a signed config. Verify checks its signature.
func ParseConfig(raw []byte) (SignedConfig, error) {
	if len(raw) <= SignatureSize || len(raw) > MaxConfig {
		return SignedConfig{}, fmt.Errorf("identity: parse config: %d bytes: %w", len(raw), ErrMalformed)
	}
	var w configBody
	if err := Unmarshal(raw[:len(raw)-SignatureSize], &w); err != nil {
		return SignedConfig{}, fmt.Errorf("identity: parse config: %w", err)
	}
	if len(w.Issuer) != len(KeyID{}) || w.Supersedes == nil || len(w.Supersedes) != 0 && (len(w.Supersedes) != 32 || isZero(w.Supersedes)) {
		return SignedConfig{}, fmt.Errorf("identity: parse config: issuer or hash of wrong length: %w", ErrMalformed)
	}
	c := SignedConfig{
		Issuer: KeyID(w.Issuer), Scope: w.Scope, Sequence: w.Sequence, Handout: w.Handout,
		NotBefore: fromMinutes(w.NotBefore), MaxAge: time.Duration(w.MaxAge) * time.Minute, Body: w.Body, raw: bytes.Clone(raw),
	}
	copy(c.Supersedes[:], w.Supersedes)
	if w.Expires != 0 {
		c.Expires = fromMinutes(w.Expires)
	}
	if err := c.check(w); err != nil {
		return SignedConfig{}, fmt.Errorf("identity: parse config: %w", err)
	}
	return c, nil
}

func (c SignedConfig) check(w configBody) error {
	switch {
	case c.Scope == "" || len(c.Scope) > MaxScope:
		return fmt.Errorf("scope of %d bytes: %w", len(c.Scope), ErrMalformed)
	case c.Sequence == 0:
		return fmt.Errorf("sequence 0: %w", ErrMalformed)
	case c.Handout != HandedOut && c.Handout != Pushed:
		return fmt.Errorf("handed out in the unknown way %d: %w", c.Handout, ErrMalformed)
	case w.NotBefore > maxMinutes || w.Expires > maxMinutes || w.MaxAge > maxMinutes:
		return fmt.Errorf("time out of range: %w", ErrMalformed)
	case w.Expires != 0 && w.Expires <= w.NotBefore:
		return fmt.Errorf("ends before it begins: %w", ErrMalformed)
	case w.Expires == 0 && c.Handout == HandedOut:
		return fmt.Errorf("handed out without an end: %w", ErrMalformed)
	case w.Body == nil:
		return fmt.Errorf("no body: %w", ErrMalformed)
	}
	return nil
}

// Verify checks that an admin who may configure the network signed c while
// the certificate was valid. The certificate's own chain is the caller's
// matter.
func (c SignedConfig) Verify(network NetworkID, admin Certificate) error {
	switch {
	case admin.Class != ClassAdmin || admin.Roles&RoleConfig == 0:
		return fmt.Errorf("identity: verify config: signed by a %v without the role config: %w", admin.Class, ErrRole)
	case c.NotBefore.Before(admin.NotBefore.Add(-skew)) || !c.NotBefore.Before(admin.NotAfter):
		return fmt.Errorf("identity: verify config: signed outside the admin's validity: %w", ErrRole)
	case admin.Key.ID() != c.Issuer || len(c.raw) <= SignatureSize:
		return fmt.Errorf("identity: verify config: %w", ErrSignature)
	}
	split := len(c.raw) - SignatureSize
	if !admin.Key.Verify(DomainConfig, certMessage(network, c.raw[:split]), c.raw[split:]) {
		return fmt.Errorf("identity: verify config: %w", ErrSignature)
	}
	return nil
}

// Hash names this version: it is what the next one's Supersedes holds.
func (c SignedConfig) Hash() [32]byte { return Hash(LabelVersionHash, c.raw) }

// Raw returns the config's bytes. The caller must not change them.
func (c SignedConfig) Raw() []byte { return c.raw }

// CheckTime judges whether a config that was handed out may still be applied.
// A clock that is trusted is obeyed. One that is not never refuses by the date
// it shows: unverified then tells the caller to keep a mark and to judge again
// when the time is known. What such a clock cannot be earlier than is certain:
// a config older than its maximum age by that is refused by any clock.
func (c SignedConfig) CheckTime(clock Clock) (unverified bool, err error) {
	if c.Handout == Pushed {
		return false, nil // state of the network, in force until the next one
	}
	now := clock.Now()
	if floor, ok := clock.(interface{ Lowest() time.Time }); ok && c.MaxAge > 0 && floor.Lowest().Sub(c.NotBefore) > c.MaxAge {
		return false, fmt.Errorf("identity: config of %s is older than its maximum age of %v: %w", c.NotBefore.Format(time.RFC3339), c.MaxAge, ErrExpired)
	}
	if !clock.Trusted() {
		return true, nil
	}
	switch {
	case now.Before(c.NotBefore.Add(-skew)):
		return false, fmt.Errorf("identity: config begins %s: %w", c.NotBefore.Format(time.RFC3339), ErrNotYetValid)
	case !now.Before(c.Expires):
		return false, fmt.Errorf("identity: config ended %s: %w", c.Expires.Format(time.RFC3339), ErrExpired)
	case c.MaxAge > 0 && now.Sub(c.NotBefore) > c.MaxAge:
		return false, fmt.Errorf("identity: config of %s is older than its maximum age of %v: %w", c.NotBefore.Format(time.RFC3339), c.MaxAge, ErrExpired)
	}
	return false, nil
}
