package stranger

import (
	"bytes"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/base32"
	"errors"
	"fmt"
	"strings"

	"github.com/fxamacker/cbor/v2"
	"golang.org/x/crypto/argon2"
)

// A member is a node with a certificate: what comes of a join link.
type member struct {
	network []byte
	key     ed25519.PrivateKey
	chain   []byte // CBOR array: node, delegate, admin
	salt    [16]byte
	gen     uint64
}

func (m *member) id() []byte { return m.key.Public().(ed25519.PublicKey) }

// DEEPLINK.md: the frame.

func openFrame(link, password string) (content, issuer, signed, signature []byte, err error) {
	_, text, ok := strings.Cut(link, "#")
	frame, berr := base32.StdEncoding.WithPadding(base32.NoPadding).DecodeString(text)
	if !ok || berr != nil || len(frame) < 53 || string(frame[:3]) != "OR1" || frame[3] != 1 {
		return nil, nil, nil, nil, fmt.Errorf("stranger: not a link with argon2id: %v", berr)
	}
	body, check := frame[:len(frame)-2], frame[len(frame)-2:]
	if sum := sha256.Sum256(body); !bytes.Equal(sum[:2], check) {
		return nil, nil, nil, nil, errors.New("stranger: damaged link")
	}
	memory, passes, lanes := uint32(body[4]), uint32(body[5]), body[6]
	if memory < 19 || memory > 64 || passes < 2 || passes > 6 || lanes < 1 || lanes > 4 {
		return nil, nil, nil, nil, errors.New("stranger: parameters out of bounds")
	}
	key := argon2.IDKey([]byte(password), body[7:23], passes, memory<<10, lanes, 32)
	plain, err := unseal(key, body[23:], body[:23])
	if err != nil || len(plain) < 72 {
		return nil, nil, nil, nil, fmt.Errorf("stranger: wrong password: %v", err)
	}
	n := len(plain) - 72
	return plain[:n], plain[n : n+8], plain[:n+8], plain[n+8:], nil
}

type joinObject struct {
	_                      struct{} `cbor:",toarray"`
	Kind                   uint64
	Network                []byte
	Name, User             string
	Admin, Delegate, Seed  []byte
	TicketID, TicketSecret []byte
	Generation             uint64
	Secret                 []byte
	Addresses              []cbor.RawMessage
	Policy, Expiry         uint64
}

// IDENTITY.md 3: certificates.

type certificate struct {
	_                    struct{} `cbor:",toarray"`
	Class                uint64
	Subject, Key, Issuer []byte
	Roles, Generation    uint64
	NotBefore, NotAfter  uint64
}

type compactDelegate struct {
	_                   struct{} `cbor:",toarray"`
	Subject             []byte
	Roles, Generation   uint64
	NotBefore, NotAfter uint64
}

func keyID(public []byte) []byte { h := hash("key-id", public); return h[:8] }

func sign(key ed25519.PrivateKey, domain string, message ...[]byte) []byte {
	return ed25519.Sign(key, append(label(domain), join(message...)...))
}

func verify(public []byte, domain string, signature []byte, message ...[]byte) bool {
	return len(public) == 32 && ed25519.Verify(public, append(label(domain), join(message...)...), signature)
}

func split(raw []byte) (body, signature []byte, err error) {
	if len(raw) < 64 {
		return nil, nil, errors.New("stranger: certificate too short")
	}
	return raw[:len(raw)-64], raw[len(raw)-64:], nil
}

// redeem spends a link on a node of our own making: the node key is drawn
// until fits says yes to the NodeID.
func redeem(link, password string, fits func(id []byte) bool) (*member, error) {
	content, issuer, signed, signature, err := openFrame(link, password)
	if err != nil {
		return nil, err
	}
	var j joinObject
	if err := cbor.Unmarshal(content, &j); err != nil || j.Kind != 1 {
		return nil, fmt.Errorf("stranger: join object: %v", err)
	}
	adminBody, _, err := split(j.Admin)
	if err != nil {
		return nil, err
	}
	var admin certificate
	if err := cbor.Unmarshal(adminBody, &admin); err != nil {
		return nil, fmt.Errorf("stranger: admin's certificate: %v", err)
	}
	if !bytes.Equal(keyID(admin.Key), issuer) || !verify(admin.Key, "link", signature, signed) {
		return nil, errors.New("stranger: the link is not signed by the admin it names")
	}
	ticket := ed25519.NewKeyFromSeed(j.Seed)
	delegate, d, err := expand(j, admin, ticket.Public().(ed25519.PublicKey))
	if err != nil {
		return nil, err
	}
	m := &member{network: j.Network, gen: j.Generation}
	for {
		_, m.key, err = ed25519.GenerateKey(nil)
		if err != nil {
			return nil, err
		}
		if fits(m.id()) {
			break
		}
	}
	node := encode(certificate{
		Class: 4, Subject: d.Subject, Key: m.id(), Issuer: keyID(d.Key), Generation: d.Generation, NotBefore: d.NotBefore, NotAfter: d.NotAfter,
	})
	node = append(node, sign(ticket, "certificate", m.network, node)...)
	m.chain = encode([][]byte{node, delegate, j.Admin})
	copy(m.salt[:], derive(j.Secret, nil, "reconcile-salt", u32(uint32(j.Generation))))
	return m, nil
}

// expand makes the delegate's whole certificate of the compact one.
func expand(j joinObject, admin certificate, public []byte) ([]byte, certificate, error) {
	body, signature, err := split(j.Delegate)
	if err != nil {
		return nil, certificate{}, err
	}
	var c compactDelegate
	if err := cbor.Unmarshal(body, &c); err != nil {
		return nil, certificate{}, fmt.Errorf("stranger: delegate's certificate: %v", err)
	}
	d := certificate{
		Class: 5, Subject: c.Subject, Key: public, Issuer: keyID(admin.Key),
		Roles: c.Roles, Generation: c.Generation, NotBefore: c.NotBefore, NotAfter: c.NotAfter,
	}
	whole := encode(d)
	if !verify(admin.Key, "certificate", signature, j.Network, whole) {
		return nil, d, errors.New("stranger: the admin did not issue the delegate")
	}
	return append(whole, signature...), d, nil
}
