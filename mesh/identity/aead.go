package identity

import (
	"crypto/aes"
	"crypto/cipher"
	"errors"
	"fmt"
)

// SealOverhead is how much longer Seal's result is than its plaintext: a
// nonce of 12 bytes and a tag of 16.
const SealOverhead = 12 + 16

// ErrSealed is returned by Open for bytes that were not sealed under this key
// with this additional data, or were changed since.
var ErrSealed = errors.New("identity: wrong key, or altered")

// Seal encrypts with AES-256-GCM under a random nonce of the library's own
// making, the only general GCM that FIPS mode allows (crypto.md D7). The
// result is nonce, ciphertext, tag. aad must not be empty: it says what this
// is.
func Seal(key [32]byte, plaintext, aad []byte) []byte {
	return gcm(key, aad).Seal(nil, nil, plaintext, aad)
}

// Open undoes Seal.
func Open(key [32]byte, sealed, aad []byte) ([]byte, error) {
	plaintext, err := gcm(key, aad).Open(nil, nil, sealed, aad)
	if err != nil {
		return nil, ErrSealed
	}
	return plaintext, nil
}

func gcm(key [32]byte, aad []byte) cipher.AEAD {
	if len(aad) == 0 {
		panic("identity: sealing without additional data")
	}
	block, err := aes.NewCipher(key[:])
	if err != nil {
		panic(fmt.Sprintf("identity: AES with a 32-byte key: %v", err))
	}
	a, err := cipher.NewGCMWithRandomNonce(block)
	if err != nil {
		panic(fmt.Sprintf("identity: GCM: %v", err))
	}
	return a
}
