package identity

import (
	"bytes"
	"fmt"
	"time"
)

const (
	// MaxChain is the most a chain may have, in bytes: the size of a hello.
	MaxChain = 4096
	// maxLinks: device, user, delegate, admin.
	maxLinks = 4
)

// A Chain is a certificate and those that vouch for it: leaf first, the
// admin's last. The root record is implied.
type Chain []Certificate

// Leaf returns the certificate the chain is about.
func (c Chain) Leaf() Certificate {
	if len(c) == 0 {
		return Certificate{}
	}
	return c[0]
}

// Parents returns the chain of the leaf's issuer.
func (c Chain) Parents() Chain {
	if len(c) == 0 {
		return nil
	}
	return c[1:]
}

// Provisional tells a chain that rests on a delegate: it counts until an
// admin confirms it or its ticket is closed.
func (c Chain) Provisional() bool {
	for _, cert := range c[min(1, len(c)):] {
		if cert.Class == ClassDelegate {
			return true
		}
	}
	return false
}

// Until returns when the first certificate of the chain ends.
func (c Chain) Until() time.Time {
	var t time.Time
	for i, cert := range c {
		if i == 0 || cert.NotAfter.Before(t) {
			t = cert.NotAfter
		}
	}
	return t
}

// Marshal encodes the chain as a CBOR array of byte strings.
func (c Chain) Marshal() []byte {
	list := make([][]byte, len(c))
	for i := range c {
		list[i] = c[i].raw
	}
	b, err := Marshal(list)
	if err != nil {
		panic("identity: a list of byte strings does not encode: " + err.Error())
	}
	return b
}

// ParseChain reads a chain of one to four certificates and at most 4 KiB. No
// signature is checked.
func ParseChain(data []byte) (Chain, error) {
	if len(data) > MaxChain {
		return nil, fmt.Errorf("identity: parse chain: %d bytes exceed %d: %w", len(data), MaxChain, ErrMalformed)
	}
	var list [][]byte
	if err := Unmarshal(data, &list); err != nil {
		return nil, fmt.Errorf("identity: parse chain: %w", err)
	}
	if len(list) == 0 || len(list) > maxLinks {
		return nil, fmt.Errorf("identity: parse chain: %d certificates, want 1 to %d: %w", len(list), maxLinks, ErrMalformed)
	}
	c := make(Chain, len(list))
	for i, raw := range list {
		cert, err := ParseCertificate(raw)
		if err != nil {
			return nil, err
		}
		c[i] = cert
	}
	return c, nil
}

// Verify checks that root vouches for the chain's leaf now: form, roles,
// signatures and times.
func (c Chain) Verify(root *RootRecord, clock Clock) error {
	if err := c.Authenticate(root); err != nil {
		return err
	}
	return c.CheckTime(clock)
}

// Authenticate checks everything that does not depend on the time. Who
// verifies many chains uses a Verifier, which remembers.
func (c Chain) Authenticate(root *RootRecord) error {
	return c.authenticate(root, nil)
}

// CheckTime judges every certificate of the chain by a clock.
func (c Chain) CheckTime(clock Clock) error {
	for _, cert := range c {
		if err := cert.CheckTime(clock); err != nil {
			return err
		}
	}
	return nil
}

func (c Chain) authenticate(root *RootRecord, seen *Verifier) error {
	if err := c.checkShape(); err != nil {
		return err
	}
	if c[len(c)-1].Issuer != root.key.ID() {
		return fmt.Errorf("identity: verify chain: admin not certified by root %s: %w", root.id.Short(), ErrForeign)
	}
	for i := len(c) - 1; i >= 0; i-- { // from the root down: a stranger costs one signature
		key := root.key
		if i < len(c)-1 {
			key = c[i+1].Key
			if err := mayIssue(c[i+1], c[i]); err != nil {
				return fmt.Errorf("identity: verify chain: %w", err)
			}
		}
		if !seen.verify(root.id, c[i], key) {
			return fmt.Errorf("identity: verify chain: %v certificate: %w", c[i].Class, ErrSignature)
		}
	}
	return nil
}

// checkShape checks that the classes follow each other as they may.
func (c Chain) checkShape() error {
	if len(c) == 0 || len(c) > maxLinks {
		return fmt.Errorf("identity: verify chain: %d certificates: %w", len(c), ErrMalformed)
	}
	if last := c[len(c)-1].Class; last != ClassAdmin {
		return fmt.Errorf("identity: verify chain: ends in a certificate of class %v, not admin: %w", last, ErrRole)
	}
	return nil
}

// VerifyIssued checks that the holder of issuer's key issued c and was allowed
// to. Who has the root record verifies a chain instead; a join link is read
// before the root record is there.
func VerifyIssued(network NetworkID, issuer, c Certificate) error {
	if err := mayIssue(issuer, c); err != nil {
		return fmt.Errorf("identity: verify certificate: %w", err)
	}
	if !c.verify(network, issuer.Key) {
		return fmt.Errorf("identity: verify certificate: %v: %w", c.Class, ErrSignature)
	}
	return nil
}

// mayIssue checks that the holder of issuer may have signed c.
func mayIssue(issuer, c Certificate) error {
	need := Role(0)
	switch [2]Class{issuer.Class, c.Class} {
	case [2]Class{ClassAdmin, ClassUser}, [2]Class{ClassAdmin, ClassNode},
		[2]Class{ClassAdmin, ClassDelegate}, [2]Class{ClassAdmin, ClassCompliance}:
		need = RoleIssue
	case [2]Class{ClassAdmin, ClassFederation}:
		need = RoleFederate
	case [2]Class{ClassDelegate, ClassUser}:
		need = RoleUser
	case [2]Class{ClassDelegate, ClassNode}:
		need = RoleNode
	case [2]Class{ClassUser, ClassDevice}:
	default:
		return fmt.Errorf("%v certificate issued by a certificate of class %v: %w", c.Class, issuer.Class, ErrRole)
	}
	if issuer.Key.ID() != c.Issuer {
		return fmt.Errorf("%v certificate names another issuer than the %v above it: %w", c.Class, issuer.Class, ErrSignature)
	}
	if issuer.Roles&need != need {
		return fmt.Errorf("%v certificate issued without the role for it: %w", c.Class, ErrRole)
	}
	if issuer.Class != ClassAdmin && !bytes.Equal(issuer.Subject, c.Subject) {
		return fmt.Errorf("%v certificate is about another subject than the %v that issued it: %w", c.Class, issuer.Class, ErrRole)
	}
	if issuer.Class == ClassDelegate {
		return delegateAllows(issuer, c)
	}
	return nil
}

// delegateAllows checks that a delegate stayed within what the admin fixed:
// this generation, exactly these roles, no longer than itself.
func delegateAllows(d, c Certificate) error {
	roles := d.Roles & userRoles
	if c.Class == ClassNode {
		roles = 0
	}
	switch {
	case c.Generation != d.Generation:
		return fmt.Errorf("%v certificate of generation %d by a delegate for %d: %w", c.Class, c.Generation, d.Generation, ErrRole)
	case c.Roles != roles:
		return fmt.Errorf("%v certificate with roles %#x by a delegate for %#x: %w", c.Class, uint32(c.Roles), uint32(roles), ErrRole)
	case c.NotAfter.After(d.NotAfter):
		return fmt.Errorf("%v certificate outlives its delegate: %w", c.Class, ErrRole)
	}
	return nil
}
