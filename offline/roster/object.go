package roster

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"time"

	"outrider/mesh/identity"
)

// A Kind says what a control object's body is.
type Kind uint8

// The kinds. An object of a kind not known here is judged Later.
const (
	KindAdmin      Kind = 1
	KindDelegate   Kind = 2
	KindUser       Kind = 3
	KindDevice     Kind = 4
	KindNode       Kind = 5
	KindCompliance Kind = 6
	KindFederation Kind = 7
	KindPrekey     Kind = 8  // prekey bundle with a number above 0
	KindLastResort Kind = 9  // prekey bundle with number 0
	KindProfile    Kind = 10 // display name
	KindRevocation Kind = 11
	KindConfig     Kind = 12
)

var certificateKinds = map[identity.Class]Kind{
	identity.ClassAdmin: KindAdmin, identity.ClassDelegate: KindDelegate, identity.ClassUser: KindUser,
	identity.ClassDevice: KindDevice, identity.ClassNode: KindNode,
	identity.ClassCompliance: KindCompliance, identity.ClassFederation: KindFederation,
}

// An Object is a control object before sealing. The constructors fill it in.
type Object struct {
	Kind    Kind
	Subject []byte // whom it is about; found in Body, repeated here for the caller
	Number  uint64 // the higher one wins; found in Body
	Body    []byte
	// Chain holds the certificates above Body that travel with it, nearest
	// first. The admin's may be left out: every admitted node has it.
	Chain identity.Chain
}

// Certificate returns the object that publishes the leaf of a chain. What
// stands between leaf and admin travels along, so that a node that missed it
// can still judge.
func Certificate(chain identity.Chain) Object {
	leaf := chain.Leaf()
	o := Object{Kind: certificateKinds[leaf.Class], Subject: subjectOf(leaf), Number: certNumber(leaf, chain.Parents().Leaf()), Body: leaf.Raw()}
	for _, c := range chain.Parents() {
		if c.Class != identity.ClassAdmin {
			o.Chain = append(o.Chain, c)
		}
	}
	return o
}

// Prekey returns the object that publishes a prekey bundle.
func Prekey(p identity.PrekeyBundle) Object {
	o := Object{Kind: KindPrekey, Subject: p.Device[:], Number: uint64(p.Number), Body: p.Raw()}
	if p.Number == 0 {
		o.Kind, o.Number = KindLastResort, uint64(p.NotBefore.Unix()/60)
	}
	return o
}

// objectWire is the plaintext of a control object.
type objectWire struct {
	_       struct{} `cbor:",toarray"`
	Kind    Kind
	Body    []byte
	Parents [][]byte
}

func (o Object) encode() ([]byte, error) {
	w := objectWire{Kind: o.Kind, Body: o.Body, Parents: [][]byte{}}
	for _, c := range o.Chain {
		w.Parents = append(w.Parents, c.Raw())
	}
	plain, err := identity.Marshal(w)
	if err != nil {
		return nil, err
	}
	if _, err := parseObject(plain); err != nil {
		return nil, err // better here than at every neighbour
	}
	return plain, nil
}

// An object is a parsed control object and what the roster knows of it.
type object struct {
	Kind    Kind
	body    []byte
	sum     [32]byte         // SHA-256 of kind and body: what it says, however sealed
	parents []identity.Chain // as carried, nearest first; one element each

	subject []byte
	number  uint64
	signer  identity.KeyID // who must be known to judge it
	holder  identity.UserID

	cert    identity.Certificate // the certificate kinds
	prekey  identity.PrekeyBundle
	profile profile
	revoked revocation
	config  identity.SignedConfig

	chain      identity.Chain // of the signer, or of cert itself; set once authenticated
	generation uint32         // of the network secret it came under
	plain      [32]byte       // hash of the plaintext it was applied from, parents and all
}

// parseObject reads a control object's plaintext. Every error is ErrForged,
// but for a kind of a later version, which is ErrLater.
func parseObject(plain []byte) (*object, error) {
	var w objectWire
	if err := identity.Unmarshal(plain, &w); err != nil {
		return nil, fmt.Errorf("%v: %w", err, ErrForged)
	}
	if w.Parents == nil || len(w.Parents) > 3 {
		return nil, fmt.Errorf("list of parents: %w", ErrForged)
	}
	o := &object{Kind: w.Kind, body: w.Body, sum: sha256.Sum256(append([]byte{byte(w.Kind)}, w.Body...))}
	for _, raw := range w.Parents {
		c, err := identity.ParseCertificate(raw)
		if err != nil {
			return nil, fmt.Errorf("%v: %w", err, ErrForged)
		}
		o.parents = append(o.parents, identity.Chain{c})
	}
	if err := o.parseBody(); err != nil {
		return nil, err
	}
	return o, nil
}

func (o *object) parseBody() (err error) {
	switch {
	case o.Kind >= KindAdmin && o.Kind <= KindFederation:
		err = o.parseCertificate()
	case o.Kind == KindPrekey || o.Kind == KindLastResort:
		err = o.parsePrekey()
	case o.Kind == KindProfile:
		o.profile, err = parseProfile(o.body)
		o.subject = append(o.profile.user[:], o.profile.signer[:]...)
		o.number, o.signer, o.holder = o.profile.number, o.profile.signer, o.profile.user
	case o.Kind == KindRevocation:
		o.revoked, err = parseRevocation(o.body)
		o.subject, o.number, o.signer = o.revoked.signer[:], o.revoked.number, o.revoked.signer
	case o.Kind == KindConfig:
		err = o.parseConfig()
	default:
		return fmt.Errorf("kind %d is of a later version: %w", o.Kind, ErrLater)
	}
	if err != nil {
		return fmt.Errorf("%v: %w", err, ErrForged)
	}
	return nil
}

func (o *object) parseCertificate() (err error) {
	if o.cert, err = identity.ParseCertificate(o.body); err != nil {
		return err
	}
	if certificateKinds[o.cert.Class] != o.Kind {
		return fmt.Errorf("a certificate of class %v in an object of kind %d", o.cert.Class, o.Kind)
	}
	o.signer, o.holder = o.cert.Issuer, o.cert.UserID()
	return nil // subject and number follow when the issuer is known: see settle
}

func (o *object) parsePrekey() (err error) {
	if o.prekey, err = identity.ParsePrekey(o.body); err != nil {
		return err
	}
	if (o.prekey.Number == 0) != (o.Kind == KindLastResort) {
		return fmt.Errorf("prekey number %d in an object of kind %d", o.prekey.Number, o.Kind)
	}
	p := Prekey(o.prekey)
	o.subject, o.number = p.Subject, p.Number
	return nil
}

// settle fills in what depends on who issued a certificate.
func (o *object) settle() {
	if o.Kind > KindFederation {
		return
	}
	issuer := o.chain.Parents().Leaf()
	o.subject, o.number = subjectOf(o.cert), certNumber(o.cert, issuer)
	if issuer.Class == identity.ClassDelegate {
		// Redemptions of one ticket stand side by side, or nobody would see
		// that there were two.
		o.subject = append(append(bytes.Clone(o.subject), o.cert.Key[:]...), o.cert.Issuer[:]...)
	}
}

// subjectOf is what certificates of a class replace each other by.
func subjectOf(c identity.Certificate) []byte {
	switch c.Class {
	case identity.ClassUser, identity.ClassCompliance, identity.ClassFederation:
		return c.Subject
	case identity.ClassDevice:
		id := c.DeviceID()
		return id[:]
	}
	return c.Key[:] // admins, nodes, delegates are their keys
}

// certNumber orders certificates of one subject: by generation, then final
// before provisional, then by begin of validity.
func certNumber(c, issuer identity.Certificate) uint64 {
	n := uint64(c.Generation)<<32 | uint64(c.NotBefore.Unix()/60) // minutes have 31 bits
	if issuer.Class != identity.ClassDelegate {
		n |= 1 << 31
	}
	return n
}

// key is what the agent keeps the highest number of.
func (o *object) key() (k [16]byte) {
	h := identity.Hash(identity.LabelSupersede, []byte{byte(o.Kind)}, binary.BigEndian.AppendUint16(nil, uint16(len(o.subject))), o.subject)
	copy(k[:], h[:])
	return k
}

// end is when the object may be forgotten; zero is never. A certificate is
// kept for the grace that untrusted clocks have, a prekey while its owner
// still holds the secret.
func (o *object) end(maxDelay time.Duration) time.Time {
	switch o.Kind {
	case KindRevocation:
		return time.Time{}
	case KindPrekey, KindLastResort:
		return o.prekey.NotAfter.Add(maxDelay)
	}
	return o.chain.Until().Add(identity.Grace)
}
