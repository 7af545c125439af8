package roster

import (
	"bytes"
	"fmt"
	"unicode"
	"unicode/utf8"

	"outrider/mesh/identity"
)

// MaxName is the most a display name may have, in bytes of UTF-8.
const MaxName = 64

// A profile is a display name, signed by a device of the user or by an admin.
type profile struct {
	user   identity.UserID
	number uint64
	name   string
	signer identity.KeyID

	signed, sig []byte
}

type profileWire struct {
	_      struct{} `cbor:",toarray"`
	User   []byte
	Number uint64
	Name   string
	Signer []byte
}

// Profile returns the object that gives a user a display name. signer is a
// device of the user or the admin that issued him; what a device says beats
// what an admin said. Of one signer the higher number wins.
func Profile(network identity.NetworkID, user identity.UserID, name string, number uint64, signer identity.PrivateKey) (Object, error) {
	if err := checkName(name); err != nil {
		return Object{}, fmt.Errorf("roster: profile: %w", err)
	}
	id := signer.Public().ID()
	body, err := identity.Marshal(profileWire{User: user[:], Number: number, Name: name, Signer: id[:]})
	if err != nil {
		return Object{}, fmt.Errorf("roster: profile: %w", err)
	}
	return Object{
		Kind: KindProfile, Subject: user[:], Number: number,
		Body: signBody(network, identity.DomainProfile, body, signer),
	}, nil
}

// signBody appends the signature of network and body to body.
func signBody(network identity.NetworkID, d identity.Domain, body []byte, signer identity.PrivateKey) []byte {
	sig := signer.Sign(d, append(network[:], body...))
	return append(body, sig[:]...)
}

func verifyBody(network identity.NetworkID, d identity.Domain, signed, sig []byte, key identity.PublicKey) bool {
	return key.Verify(d, append(network[:], signed...), sig)
}

// splitBody parts a body from the signature behind it.
func splitBody(b []byte) (signed, sig []byte, err error) {
	if len(b) <= identity.SignatureSize {
		return nil, nil, fmt.Errorf("body of %d bytes: %w", len(b), identity.ErrMalformed)
	}
	at := len(b) - identity.SignatureSize
	return b[:at], b[at:], nil
}

func parseProfile(body []byte) (p profile, err error) {
	if p.signed, p.sig, err = splitBody(body); err != nil {
		return p, err
	}
	var w profileWire
	if err := identity.Unmarshal(p.signed, &w); err != nil {
		return p, err
	}
	if len(w.User) != len(p.user) || len(w.Signer) != len(p.signer) {
		return p, fmt.Errorf("profile: field of wrong length: %w", identity.ErrMalformed)
	}
	p.user, p.number, p.name, p.signer = identity.UserID(w.User), w.Number, w.Name, identity.KeyID(w.Signer)
	return p, checkName(p.name)
}

// checkName refuses what would not be read as a name: control characters,
// line breaks, marks that turn the text around.
func checkName(name string) error {
	if name == "" || len(name) > MaxName || !utf8.ValidString(name) || string(bytes.TrimSpace([]byte(name))) != name {
		return fmt.Errorf("a display name must have 1 to %d bytes of UTF-8, without spaces around it: %w", MaxName, identity.ErrMalformed)
	}
	for _, c := range name {
		if !unicode.IsGraphic(c) {
			return fmt.Errorf("a display name must be printable: %w", identity.ErrMalformed)
		}
	}
	return nil
}
