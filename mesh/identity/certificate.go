package identity

import (
	"bytes"
	"errors"
	"fmt"
	"time"
)

// A Class says what a certificate is for.
type Class uint8

// The classes of certificate.
const (
	ClassAdmin      Class = 1
	ClassUser       Class = 2
	ClassDevice     Class = 3
	ClassNode       Class = 4
	ClassDelegate   Class = 5
	ClassCompliance Class = 6
	ClassFederation Class = 7
)

var classNames = [...]string{"unknown", "admin", "user", "device", "node", "delegate", "compliance", "federation"}

func (c Class) String() string {
	if int(c) < len(classNames) {
		return classNames[c]
	}
	return fmt.Sprintf("class %d", uint8(c))
}

// A Role is a set of things the holder of a certificate may do.
type Role uint32

// The roles. A bit means the same in every class; classRoles says which class
// may bear it.
const (
	RoleIssue     Role = 1 << 0 // admin: certify users, nodes, delegates, compliance readers
	RoleRevoke    Role = 1 << 1 // admin: revoke
	RoleConfig    Role = 1 << 2 // admin: push configuration and network secrets
	RoleFederate  Role = 1 << 3 // admin: certify other networks
	RoleUser      Role = 1 << 4 // delegate: certify the one user it names
	RoleNode      Role = 1 << 5 // delegate: certify one node
	RoleGuest     Role = 1 << 6 // user: guest, leased for at most GuestLease
	RoleModerator Role = 1 << 7 // user: may create and moderate rooms where policy restricts that
	RoleGateway   Role = 1 << 8 // node: carries mail to and from the core

	// RoleAdmin is everything an admin may do.
	RoleAdmin = RoleIssue | RoleRevoke | RoleConfig | RoleFederate

	userRoles = RoleGuest | RoleModerator
)

var classRoles = [...]Role{
	ClassAdmin:      RoleAdmin,
	ClassUser:       userRoles,
	ClassDevice:     0,
	ClassNode:       RoleGateway,
	ClassDelegate:   RoleUser | RoleNode | userRoles,
	ClassCompliance: 0,
	ClassFederation: RoleGuest,
}

// Limits fixed by the format.
const (
	// MaxCertificate is the most a certificate may have, in bytes.
	MaxCertificate = 512
	// SubjectSize is the length of a subject in bytes, where there is one.
	SubjectSize = 16
	// GuestLease is the longest validity of a guest's certificate.
	GuestLease = 7 * 24 * time.Hour
	// ProvisionalGrace is how long after the expiry of its ticket a
	// provisional certificate ends (decisions.md 11).
	ProvisionalGrace = 30 * 24 * time.Hour
)

// Why a certificate, a chain or a root record is not accepted.
var (
	// ErrExpired: the certificate's time is over.
	ErrExpired = errors.New("expired")
	// ErrNotYetValid: the certificate's time has not begun.
	ErrNotYetValid = errors.New("not yet valid")
	// ErrForeign: it belongs to another network.
	ErrForeign = errors.New("of another network")
	// ErrSignature: a signature does not hold.
	ErrSignature = errors.New("signature does not hold")
	// ErrRole: the issuer may not issue this, or the holder not do it.
	ErrRole = errors.New("not allowed by role")
)

// A Certificate binds a key to what its holder is and may do. The network is
// not in it: it is in the signed bytes, so that a certificate of one network
// holds in no other.
type Certificate struct {
	Class Class
	// Subject is whom the certificate is about, 16 bytes:
	//	user        the user's id
	//	device      the id of the user it belongs to; the device's id comes from Key
	//	delegate    the user it may certify, or the ticket's id if it certifies a node only
	//	node        empty, or the subject of the delegate whose ticket this uses or closes
	//	compliance  the reader's user id
	//	federation  the first 16 bytes of the other network's id
	//	admin       empty: the key is the id
	Subject    []byte
	Key        PublicKey
	Issuer     KeyID
	Roles      Role
	Generation uint32    // a higher one replaces all lower ones of the subject
	NotBefore  time.Time // whole minutes
	NotAfter   time.Time // whole minutes

	raw []byte
}

// certBody is the signed part: a CBOR array of eight.
type certBody struct {
	_          struct{} `cbor:",toarray"`
	Class      Class
	Subject    []byte
	Key        []byte
	Issuer     []byte
	Roles      Role
	Generation uint32
	NotBefore  uint32
	NotAfter   uint32
}

// Issue signs c as issuer and returns it with its Issuer and bytes filled in;
// times are cut to whole minutes. A device certificate needs the device's
// signature too: see IssueDevice.
func Issue(network NetworkID, issuer PrivateKey, c Certificate) (Certificate, error) {
	if c.Class == ClassDevice {
		return c, errors.New("identity: issue certificate: a device must prove that it has its key, use IssueDevice")
	}
	return issue(network, issuer, c, func(msg []byte) []byte { return nil })
}

// IssueDevice certifies device as one of the user's devices. c gives Subject
// (the user's id), Generation and validity; Class and Key are set here.
//
// The device signs too. Without that, a user could have somebody else's
// device certified as his own, and that device's messages would be his.
func IssueDevice(network NetworkID, user, device PrivateKey, c Certificate) (Certificate, error) {
	c.Class, c.Key = ClassDevice, device.Public()
	return issue(network, user, c, func(msg []byte) []byte {
		sig := device.Sign(DomainPossession, msg)
		return sig[:]
	})
}

func issue(network NetworkID, issuer PrivateKey, c Certificate, more func(msg []byte) []byte) (Certificate, error) {
	c.Issuer = issuer.Public().ID()
	c.Subject = bytes.Clone(c.Subject)
	nb, ok1 := minutes(c.NotBefore)
	na, ok2 := minutes(c.NotAfter)
	if !ok1 || !ok2 {
		return c, errors.New("identity: issue certificate: validity is outside 1970 to 6053")
	}
	c.NotBefore, c.NotAfter = fromMinutes(nb), fromMinutes(na)
	if err := c.check(); err != nil {
		return c, fmt.Errorf("identity: issue certificate: %w", err)
	}
	subject := c.Subject
	if len(subject) == 0 {
		c.Subject, subject = nil, []byte{} // null is not an empty byte string
	}
	body, err := Marshal(certBody{
		Class: c.Class, Subject: subject, Key: c.Key[:], Issuer: c.Issuer[:],
		Roles: c.Roles, Generation: c.Generation, NotBefore: nb, NotAfter: na,
	})
	if err != nil {
		return c, err
	}
	msg := certMessage(network, body)
	sig := issuer.Sign(DomainCertificate, msg)
	c.raw = append(append(body, sig[:]...), more(msg)...)
	return c, nil
}

// certMessage is what the signatures of a certificate cover.
func certMessage(network NetworkID, body []byte) []byte {
	return append(network[:], body...)
}

// ParseCertificate reads a certificate. No signature is checked: only a chain
// can be.
func ParseCertificate(raw []byte) (Certificate, error) {
	c, err := parseCertificate(raw)
	if err != nil {
		return Certificate{}, fmt.Errorf("identity: parse certificate: %w", err)
	}
	return c, nil
}

func parseCertificate(raw []byte) (Certificate, error) {
	if len(raw) > MaxCertificate {
		return Certificate{}, fmt.Errorf("%d bytes exceed %d: %w", len(raw), MaxCertificate, ErrMalformed)
	}
	if len(raw) < 2+SignatureSize {
		return Certificate{}, fmt.Errorf("%d bytes are too few: %w", len(raw), ErrMalformed)
	}
	tail := SignatureSize
	if Class(raw[1]) == ClassDevice { // after the array's head: classes are one byte
		tail = 2 * SignatureSize
	}
	if len(raw) < tail {
		return Certificate{}, fmt.Errorf("%d bytes are too few: %w", len(raw), ErrMalformed)
	}
	var b certBody
	if err := Unmarshal(raw[:len(raw)-tail], &b); err != nil {
		return Certificate{}, err
	}
	if len(b.Key) != len(PublicKey{}) || len(b.Issuer) != len(KeyID{}) || b.Subject == nil {
		return Certificate{}, fmt.Errorf("key, issuer or subject of wrong length: %w", ErrMalformed)
	}
	c := Certificate{
		Class: b.Class, Subject: b.Subject, Key: PublicKey(b.Key), Issuer: KeyID(b.Issuer), Roles: b.Roles,
		Generation: b.Generation, NotBefore: fromMinutes(b.NotBefore), NotAfter: fromMinutes(b.NotAfter),
		raw: bytes.Clone(raw),
	}
	if len(c.Subject) == 0 {
		c.Subject = nil
	}
	return c, c.check()
}

// check holds for every certificate by itself, whoever issued it.
func (c Certificate) check() error {
	if c.Class < ClassAdmin || c.Class > ClassFederation {
		return fmt.Errorf("%v is not known: %w", c.Class, ErrMalformed)
	}
	if err := c.checkSubject(); err != nil {
		return err
	}
	switch {
	case c.Key.IsZero():
		return fmt.Errorf("%v certificate without key: %w", c.Class, ErrMalformed)
	case c.NotAfter.Unix()/60 > maxMinutes:
		return fmt.Errorf("%v certificate ends after 6053: %w", c.Class, ErrMalformed)
	case !c.NotBefore.Before(c.NotAfter):
		return fmt.Errorf("%v certificate ends before it begins: %w", c.Class, ErrMalformed)
	case c.Roles&^classRoles[c.Class] != 0:
		return fmt.Errorf("%v certificate with roles %#x: %w", c.Class, uint32(c.Roles), ErrRole)
	case c.Class == ClassDelegate && c.Roles&(RoleUser|RoleNode) == 0:
		return fmt.Errorf("delegate that may certify nothing: %w", ErrRole)
	case c.Class == ClassUser && c.Roles&RoleGuest != 0 && c.NotAfter.Sub(c.NotBefore) > GuestLease:
		return fmt.Errorf("guest for longer than %v: %w", GuestLease, ErrRole)
	}
	return nil
}

func (c Certificate) checkSubject() error {
	empty, full := len(c.Subject) == 0, len(c.Subject) == SubjectSize && !isZero(c.Subject)
	ok := full
	switch c.Class {
	case ClassAdmin:
		ok = empty
	case ClassNode:
		ok = empty || full
	}
	if !ok {
		return fmt.Errorf("%v certificate with a subject of %d bytes: %w", c.Class, len(c.Subject), ErrMalformed)
	}
	return nil
}

func isZero(b []byte) bool {
	for _, x := range b {
		if x != 0 {
			return false
		}
	}
	return true
}

// Raw returns the certificate's bytes. The caller must not change them.
func (c Certificate) Raw() []byte { return c.raw }

// UserID returns the user that a user, device, compliance or delegate
// certificate is about, and zero for other classes.
func (c Certificate) UserID() UserID {
	switch c.Class {
	case ClassUser, ClassDevice, ClassCompliance, ClassDelegate:
		return UserID(c.Subject)
	}
	return UserID{}
}

// DeviceID returns the device that a device certificate is about.
func (c Certificate) DeviceID() DeviceID {
	if c.Class != ClassDevice {
		return DeviceID{}
	}
	return c.Key.DeviceID()
}

// NodeID returns the node that a node certificate is about.
func (c Certificate) NodeID() NodeID {
	if c.Class != ClassNode {
		return NodeID{}
	}
	return c.Key.NodeID()
}

// Guest tells a guest's certificate.
func (c Certificate) Guest() bool { return c.Roles&RoleGuest != 0 }

// CheckTime judges the certificate by a clock. A trusted clock is obeyed. One
// that is not grants Grace after the end, and asks nothing of the begin: it
// may simply stand at 1970.
func (c Certificate) CheckTime(clock Clock) error {
	now, end := clock.Now(), c.NotAfter
	if !clock.Trusted() {
		end = end.Add(Grace)
	}
	if !now.Before(end) {
		return fmt.Errorf("identity: %v certificate ended %s: %w", c.Class, c.NotAfter.Format(time.RFC3339), ErrExpired)
	}
	if clock.Trusted() && now.Before(c.NotBefore.Add(-skew)) {
		return fmt.Errorf("identity: %v certificate begins %s: %w", c.Class, c.NotBefore.Format(time.RFC3339), ErrNotYetValid)
	}
	return nil
}

// verify checks c's signatures under the issuer's key.
func (c Certificate) verify(network NetworkID, issuer PublicKey) bool {
	tail := SignatureSize
	if c.Class == ClassDevice {
		tail = 2 * SignatureSize
	}
	if len(c.raw) <= tail {
		return false
	}
	body, sigs := c.raw[:len(c.raw)-tail], c.raw[len(c.raw)-tail:]
	msg := certMessage(network, body)
	if !issuer.Verify(DomainCertificate, msg, sigs[:SignatureSize]) {
		return false
	}
	return c.Class != ClassDevice || c.Key.Verify(DomainPossession, msg, sigs[SignatureSize:])
}
