package identity

import (
	"bytes"
	"crypto/ed25519"
	"crypto/rand"
	"fmt"
	"log/slog"
)

// SignatureSize is the length of an Ed25519 signature in bytes.
const SignatureSize = ed25519.SignatureSize

// A PublicKey is an Ed25519 public key (RFC 8032).
type PublicKey [32]byte

// A KeyID is the first 8 bytes of SHA-256("outrider/v1/key-id\x00" || key).
// It finds a key; it never stands for one.
type KeyID [8]byte

// ID returns the short name by which certificates point at the key.
func (p PublicKey) ID() KeyID {
	h := Hash(LabelKeyID, p[:])
	return KeyID(h[:8])
}

// DeviceID returns the identifier of the device that owns the key.
func (p PublicKey) DeviceID() DeviceID {
	h := Hash(LabelDeviceID, p[:])
	return DeviceID(h[:16])
}

// NodeID returns the identifier of the node that owns the key.
func (p PublicKey) NodeID() NodeID { return NodeID(p) }

// PublicKey returns the key that the identifier is.
func (id NodeID) PublicKey() PublicKey { return PublicKey(id) }

// IsZero tells a key that was never set.
func (p PublicKey) IsZero() bool { return p == PublicKey{} }

// String returns the key as lower-case base32.
func (p PublicKey) String() string { return idText.EncodeToString(p[:]) }

// Compare orders keys by their bytes.
func (p PublicKey) Compare(o PublicKey) int { return bytes.Compare(p[:], o[:]) }

// String returns the key id as lower-case base32.
func (k KeyID) String() string { return idText.EncodeToString(k[:]) }

// Verify reports whether sig is p's signature of msg in domain d.
func (p PublicKey) Verify(d Domain, msg, sig []byte) bool {
	if len(sig) != SignatureSize {
		return false
	}
	return ed25519.Verify(p[:], append(d.Prefix(), msg...), sig)
}

// A PrivateKey is an Ed25519 private key. It prints as "redacted" and has no
// encoding of its own: whoever stores it asks for the Seed.
type PrivateKey struct{ key ed25519.PrivateKey }

// NewPrivateKey makes a random key.
func NewPrivateKey() (PrivateKey, error) {
	var seed [32]byte
	if _, err := rand.Read(seed[:]); err != nil {
		return PrivateKey{}, fmt.Errorf("identity: make key: %w", err)
	}
	return PrivateKeyFromSeed(seed), nil
}

// PrivateKeyFromSeed returns the key with the given RFC 8032 seed.
func PrivateKeyFromSeed(seed [32]byte) PrivateKey {
	return PrivateKey{ed25519.NewKeyFromSeed(seed[:])}
}

// IsZero tells a key that was never set. Using one is a programming error.
func (k PrivateKey) IsZero() bool { return k.key == nil }

// Seed returns the 32 secret bytes the key is made from.
func (k PrivateKey) Seed() [32]byte { return [32]byte(k.key.Seed()) }

// Public returns the public half.
func (k PrivateKey) Public() PublicKey { return PublicKey(k.key[32:]) }

// Sign signs msg in domain d.
func (k PrivateKey) Sign(d Domain, msg []byte) [64]byte {
	return [64]byte(ed25519.Sign(k.key, append(d.Prefix(), msg...)))
}

const redacted = "redacted"

// Format implements fmt.Formatter, so that no verb prints the key.
func (k PrivateKey) Format(s fmt.State, _ rune) { fmt.Fprint(s, redacted) }

// LogValue implements slog.LogValuer.
func (k PrivateKey) LogValue() slog.Value { return slog.StringValue(redacted) }
