// Package agree is how the two ends of a call agree on its keys, so that
// whoever carries their messages learns none.
//
// Each end makes a P-256 key for this one call. The caller sends a commitment
// to its public key, the callee answers with its own, and only then the caller
// shows the key it had committed to:
//
//	caller -> callee   invite   SHA-256(label || call || caller's key)
//	caller <- callee   answer   callee's key
//	caller -> callee   reveal   caller's key
//
// From the shared secret both derive the call secret, from that a base key
// for each sender (media/sframe), and a code of six digits that the two people
// read to each other. Whoever stands between them and shows each a key of its
// own must have chosen it before it knew the other's: its codes are equal once
// in a million calls. Without the commitment it could try keys until they are.
//
// Only the ends of a call import this package: the page has the same in
// node/web/static/call/keys.mjs, and testdata/vectors.json is for both.
package agree

import (
	"crypto/ecdh"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"crypto/sha512"
	"crypto/subtle"
	"encoding/binary"
	"errors"
	"fmt"
)

// Sizes fixed by the protocol, in bytes.
const (
	CallSize   = 16
	KeySize    = 65 // an uncompressed point of P-256: SEC 1, section 2.3.3
	CommitSize = sha256.Size
	secretSize = 32
	baseSize   = 32
)

// Labels of derivations; each ends in a zero byte, so none is the beginning
// of another.
const (
	labelCommit = "outrider/v1/call-commit\x00"
	labelSecret = "outrider/v1/call-secret\x00"
	labelSender = "outrider/v1/call-sender\x00"
	labelCode   = "outrider/v1/call-code\x00"
)

// The senders of a call between two.
const (
	Caller = 0
	Callee = 1
)

// codes is how many different codes there are.
const codes = 1_000_000

// Errors that callers tell apart.
var (
	// ErrKey means that bytes are no public key.
	ErrKey = errors.New("agree: not a public key")
	// ErrCommitment means that the revealed key is not the one the caller had
	// committed to: somebody stands between the two.
	ErrCommitment = errors.New("agree: the key is not the one that was announced")
)

// A Call names one call.
type Call [CallSize]byte

// A Key is one end's key for one call.
type Key struct{ private *ecdh.PrivateKey }

// NewKey makes a key.
func NewKey() (Key, error) {
	k, err := ecdh.P256().GenerateKey(rand.Reader)
	if err != nil {
		return Key{}, fmt.Errorf("agree: make a key: %w", err)
	}
	return Key{k}, nil
}

// Public is the half that is sent.
func (k Key) Public() []byte { return k.private.PublicKey().Bytes() }

// Commit is what the caller sends first.
func Commit(call Call, callerKey []byte) [CommitSize]byte {
	return sha256.Sum256(append(append([]byte(labelCommit), call[:]...), callerKey...))
}

// CheckCommit tells whether the revealed key is the announced one.
func CheckCommit(call Call, commit [CommitSize]byte, callerKey []byte) error {
	want := Commit(call, callerKey)
	if subtle.ConstantTimeCompare(want[:], commit[:]) != 1 {
		return ErrCommitment
	}
	return nil
}

// Secrets are what both ends have in the end.
type Secrets struct {
	base [2][baseSize]byte
	code string
}

// Agree computes them. Both public keys are given as they were sent; own is
// one of the two.
func (k Key) Agree(call Call, callerKey, calleeKey []byte) (Secrets, error) {
	peer := callerKey
	if string(k.Public()) == string(callerKey) {
		peer = calleeKey
	}
	pub, err := ecdh.P256().NewPublicKey(peer)
	if err != nil || len(peer) != KeySize {
		return Secrets{}, ErrKey
	}
	shared, err := k.private.ECDH(pub)
	if err != nil {
		return Secrets{}, ErrKey
	}
	info := labelSecret + string(callerKey) + string(calleeKey)
	secret, err := hkdf.Key(sha512.New, shared, call[:], info, secretSize)
	if err != nil {
		return Secrets{}, fmt.Errorf("agree: derive: %w", err)
	}
	return expand(secret)
}

func expand(secret []byte) (s Secrets, err error) {
	for sender := range s.base {
		b, err := hkdf.Key(sha512.New, secret, nil, labelSender+string([]byte{byte(sender)}), baseSize)
		if err != nil {
			return s, fmt.Errorf("agree: derive: %w", err)
		}
		s.base[sender] = [baseSize]byte(b)
	}
	b, err := hkdf.Key(sha512.New, secret, nil, labelCode, 8)
	if err != nil {
		return s, fmt.Errorf("agree: derive: %w", err)
	}
	s.code = fmt.Sprintf("%06d", binary.BigEndian.Uint64(b)%codes)
	return s, nil
}

// Base is a sender's base key for media/sframe; its KID is the sender.
func (s Secrets) Base(sender int) []byte { return s.base[sender][:] }

// Code is what the two people compare by voice.
func (s Secrets) Code() string { return s.code }
