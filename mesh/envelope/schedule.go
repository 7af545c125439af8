package envelope

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"fmt"

	"outrider/mesh/identity"
)

// A key is 32 secret bytes.
type key [32]byte

// Format implements fmt.Formatter, so that no verb prints the key.
func (key) Format(s fmt.State, _ rune) { fmt.Fprint(s, "redacted") }

// A PurgeKey lets whoever holds it remove one bundle from every node. It is a
// secret until somebody who may releases it.
type PurgeKey [16]byte

// Format implements fmt.Formatter, so that no verb prints the key.
func (PurgeKey) Format(s fmt.State, _ rune) { fmt.Fprint(s, "redacted") }

// seal appends nonce, ciphertext and tag to dst. The nonce is random: keys are
// used once, but a restored snapshot of a device must not repeat one either.
func (k key) seal(dst, plain, aad []byte) []byte { return k.gcm().Seal(dst, nil, plain, aad) }

func (k key) open(sealed, aad []byte) ([]byte, error) {
	plain, err := k.gcm().Open(nil, nil, sealed, aad)
	if err != nil {
		return nil, ErrForged
	}
	return plain, nil
}

func (k key) gcm() cipher.AEAD {
	block, err := aes.NewCipher(k[:])
	if err != nil {
		panic("envelope: " + err.Error()) // the key has 32 bytes
	}
	gcm, err := cipher.NewGCMWithRandomNonce(block)
	if err != nil {
		panic("envelope: " + err.Error()) // AES has blocks of 16 bytes
	}
	return gcm
}

func (k key) derive(l identity.Label, context ...[]byte) key {
	return key(identity.Derive(k, l, context...))
}

// epochKeys is what an epoch secret yields (crypto.md 4.3, 5.2). root makes
// the chains and is destroyed with the secret once they are all made.
type epochKeys struct {
	root    key
	tag     key
	header  key
	control key
	carry   key
}

// epochSecret binds a wrapped secret to its operation and roster, and to the
// carry of the first parent if there is one: who lacks either cannot derive it.
func epochSecret(wrapped key, carry []byte, op opHash, roster rosterHash) key {
	return key(identity.DeriveSalted(wrapped, carry, identity.LabelEpochChild, op[:], roster[:]))
}

func expand(secret key) epochKeys {
	return epochKeys{
		root:    secret.derive(identity.LabelEpochRoot),
		tag:     secret.derive(identity.LabelEpochTag),
		header:  secret.derive(identity.LabelEpochHeader),
		control: secret.derive(identity.LabelEpochControl),
		carry:   secret.derive(identity.LabelEpochCarry),
	}
}

// chainStart is the first key of a device's chain for mail or for live positions.
func (e epochKeys) chainStart(d identity.DeviceID, live bool) key {
	kind := []byte{0}
	if live {
		kind[0] = 1
	}
	return e.root.derive(identity.LabelEpochChain, d[:], kind)
}

// step splits a chain key into the key of its message and the next chain key.
func (k key) step() (message, next key) {
	return key(identity.MAC(k, identity.LabelChainMessage)), key(identity.MAC(k, identity.LabelChainNext))
}

func (k key) messagePurge() PurgeKey {
	p := k.derive(identity.LabelMessagePurge)
	return PurgeKey(p[:16])
}

// dayTag is the routing tag of an epoch on the j-th day.
func dayTag(tag key, j uint32) identity.Tag {
	m := identity.MAC(tag, identity.LabelEpochTagDay, binary.BigEndian.AppendUint32(nil, j))
	return identity.Tag(m[:8])
}

// mask is what hides slot and index of a payload (decisions.md 3).
func mask(header key, payload []byte) (m [prefixSize]byte) {
	h := hmac.New(sha256.New, header[:])
	h.Write(payload[len(payload)-16:])
	copy(m[:], h.Sum(nil))
	return m
}
