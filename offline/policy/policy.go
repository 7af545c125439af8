// Package policy is what an admin decides for the users of a network: security
// groups (features.md A14) with switches that say what their members may do,
// and which reader, if any, archives what the network says.
//
// One version of a group's policy is the body of an identity.SignedConfig,
// whose scope is the group's name: CBOR, a map with integer keys.
//
//	1  members    user ids, 16 bytes each, ascending; absent for the group "default"
//	2  switches   map of what is forbidden: 1 files, 2 location; absent: everything is allowed
//	3  compliance user id of the reader of everything; absent: none
//	4  withdrawn  true: this version and all before it count no more
//
// Keys that are not known here are skipped and noticed: a later version may
// forbid more, and what is known is enforced all the same.
//
// Which version of a group is in force is a function of the set of versions
// and their ways here (Judge), never of when they came.
package policy

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"time"

	"outrider/mesh/identity"
)

// Limits.
const (
	// MaxGroups is how many groups a network has at most (features.md A14).
	MaxGroups = 100
	// MaxMembers is how many members a group lists at most.
	MaxMembers = 2048
	// MaxName is the longest name of a group: it is a file's name too.
	MaxName = identity.MaxScope
	// MaxExpiry is the longest time for which a version may be handed out.
	MaxExpiry = 30 * 24 * time.Hour
	// MaxPrivilegedExpiry is the same for one that names a compliance reader
	// (features.md P07).
	MaxPrivilegedExpiry = 24 * time.Hour
)

// Default is the group of all who are in no other.
const Default = "default"

// ErrMalformed is wrapped by every error about a form that is not right.
var ErrMalformed = identity.ErrMalformed

// Switches say what a user may do; true is allowed.
type Switches struct {
	Files    bool // file attachments, voice memos among them (features.md F03)
	Location bool // sharing positions (features.md L02)
}

// Allowed is what holds where no policy says otherwise.
var Allowed = Switches{Files: true, Location: true}

// Stricter returns the stricter value of each switch.
func (s Switches) Stricter(t Switches) Switches {
	return Switches{Files: s.Files && t.Files, Location: s.Location && t.Location}
}

// A Config is one version of a group's policy.
type Config struct {
	Group      string
	Sequence   uint64
	Supersedes [32]byte // hash of the version its issuer meant to replace; zero: none
	Pushed     bool     // goes by the mesh; else it is handed out
	NotBefore  time.Time
	Expires    time.Time // until when it may be applied; needed for what is handed out
	MaxAge     time.Duration
	Members    []identity.UserID
	Switches   Switches
	Compliance identity.UserID // archives everything; zero: nobody
	Withdrawn  bool

	// Later is set by Read: a later program has written more than is known
	// here, which cannot be enforced.
	Later bool
}

type body struct {
	Members    []byte     `cbor:"1,keyasint,omitempty"`
	Forbidden  *forbidden `cbor:"2,keyasint,omitempty"`
	Compliance []byte     `cbor:"3,keyasint,omitempty"`
	Withdrawn  bool       `cbor:"4,keyasint,omitempty"`
}

type forbidden struct {
	Files    bool `cbor:"1,keyasint,omitempty"`
	Location bool `cbor:"2,keyasint,omitempty"`
}

// The highest keys known here.
const knownKeys, knownSwitches = 4, 2

// Sign signs c as admin.
func (c Config) Sign(network identity.NetworkID, admin identity.PrivateKey) (identity.SignedConfig, error) {
	c.Members = slices.Clone(c.Members)
	slices.SortFunc(c.Members, identity.UserID.Compare)
	c.Members = slices.Compact(c.Members)
	if err := c.check(); err != nil {
		return identity.SignedConfig{}, fmt.Errorf("policy: sign: %w", err)
	}
	b := body{Withdrawn: c.Withdrawn}
	for _, m := range c.Members {
		b.Members = append(b.Members, m[:]...)
	}
	if c.Switches != Allowed {
		b.Forbidden = &forbidden{Files: !c.Switches.Files, Location: !c.Switches.Location}
	}
	if !c.Compliance.IsZero() {
		b.Compliance = c.Compliance[:]
	}
	raw, err := identity.Marshal(b)
	if err != nil {
		return identity.SignedConfig{}, fmt.Errorf("policy: sign: %w", err)
	}
	s, err := identity.SignedConfig{
		Scope: c.Group, Sequence: c.Sequence, Supersedes: c.Supersedes, Handout: c.handout(),
		NotBefore: c.NotBefore, Expires: c.Expires, MaxAge: c.MaxAge, Body: raw,
	}.Sign(network, admin)
	if err != nil {
		return s, fmt.Errorf("policy: sign: %w", err)
	}
	return s, nil
}

func (c Config) handout() identity.Handout {
	if c.Pushed {
		return identity.Pushed
	}
	return identity.HandedOut
}

// Read reads what a signed config says. Its signature is not checked here.
func Read(s identity.SignedConfig) (Config, error) {
	c := Config{
		Group: s.Scope, Sequence: s.Sequence, Supersedes: s.Supersedes, Pushed: s.Handout == identity.Pushed,
		NotBefore: s.NotBefore, Expires: s.Expires, MaxAge: s.MaxAge, Switches: Allowed,
	}
	err := c.readBody(s.Body)
	if err == nil {
		err = c.check()
	}
	if err != nil {
		return Config{}, fmt.Errorf("policy: read: %w", err)
	}
	return c, nil
}

func (c *Config) readBody(raw []byte) error {
	var b body
	if err := identity.UnmarshalOpen(raw, &b); err != nil {
		return err
	}
	var err error
	if c.Later, err = laterKeys(raw); err != nil {
		return err
	}
	const size = len(identity.UserID{})
	if len(b.Members)%size != 0 || len(b.Compliance) != 0 && len(b.Compliance) != size {
		return fmt.Errorf("user id of wrong length: %w", ErrMalformed)
	}
	for id := range slices.Chunk(b.Members, size) {
		c.Members = append(c.Members, identity.UserID(id))
	}
	if f := b.Forbidden; f != nil {
		c.Switches = Switches{Files: !f.Files, Location: !f.Location}
	}
	copy(c.Compliance[:], b.Compliance)
	c.Withdrawn = b.Withdrawn
	if c.Later {
		return nil // only the program that wrote it knows its one form
	}
	again, err := identity.Marshal(b)
	if err != nil || !bytes.Equal(again, raw) {
		return fmt.Errorf("not the deterministic form: %w", ErrMalformed)
	}
	return nil
}

// laterKeys reports whether a body has keys that are not known here.
func laterKeys(raw []byte) (bool, error) {
	var all map[uint64]any
	if err := identity.UnmarshalOpen(raw, &all); err != nil {
		return false, err
	}
	for k, v := range all {
		if k > knownKeys {
			return true, nil
		}
		if m, ok := v.(map[any]any); ok {
			for k := range m {
				if n, ok := k.(uint64); !ok || n > knownSwitches {
					return true, nil
				}
			}
		}
	}
	return false, nil
}

// ErrWindow means that something would be valid for longer than it may.
var ErrWindow = errors.New("valid for too long")

// check holds on both sides.
func (c Config) check() error {
	if err := CheckName(c.Group); err != nil {
		return err
	}
	switch {
	case len(c.Members) > MaxMembers:
		return fmt.Errorf("%d members, a group has at most %d: %w", len(c.Members), MaxMembers, ErrMalformed)
	case c.Group == Default && len(c.Members) > 0:
		return fmt.Errorf("group %s lists no members, it has all who are in no other: %w", Default, ErrMalformed)
	}
	for i, m := range c.Members {
		if m.IsZero() || i > 0 && c.Members[i-1].Compare(m) >= 0 {
			return fmt.Errorf("members out of order: %w", ErrMalformed)
		}
	}
	if c.Pushed {
		return nil
	}
	window, longest := c.Expires.Sub(c.NotBefore), MaxExpiry
	if !c.Compliance.IsZero() {
		longest = MaxPrivilegedExpiry
	}
	if window > longest {
		return fmt.Errorf("%w: %v, at most %v are possible: %w", ErrWindow, window, longest, ErrMalformed)
	}
	return nil
}

// CheckName refuses what cannot name a group: it is 1 to 32 small letters,
// digits and hyphens, the first of them no hyphen.
func CheckName(s string) error {
	ok := s != "" && len(s) <= MaxName && s[0] != '-'
	for _, r := range s {
		ok = ok && (r >= 'a' && r <= 'z' || r >= '0' && r <= '9' || r == '-')
	}
	if !ok {
		return fmt.Errorf("a group's name has 1 to %d small letters, digits and hyphens: %w", MaxName, ErrMalformed)
	}
	return nil
}
