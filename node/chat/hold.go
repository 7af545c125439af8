package chat

import (
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"fmt"

	"outrider/mesh/identity"
)

// A wrap holds a user's keys for a program that acts for the user, such as a
// bridge, sealed under a random secret of 32 bytes that the node does not
// keep: whoever has the secret, and the node, together open the user. Unlike a
// password the secret cannot be guessed, so no work is put before it.

const wrapInfo = "outrider/v1/service-wrap"

// WrapKeys seals keys under a random secret.
func WrapKeys(user identity.UserID, secret [32]byte, k Keys) ([]byte, error) {
	b, err := identity.Marshal(keystoreWire{
		Version: keystoreVersion, User: k.User.Seed(), Device: k.Device.Seed(), Chain: k.Chain.Marshal(), KEK: k.KEK,
	})
	if err != nil {
		return nil, fmt.Errorf("chat: wrap keys: %w", err)
	}
	defer clear(b)
	nonce := make([]byte, 12)
	if _, err := rand.Read(nonce); err != nil {
		return nil, fmt.Errorf("chat: wrap keys: %w", err)
	}
	aead, err := wrapCipher(secret)
	if err != nil {
		return nil, fmt.Errorf("chat: wrap keys: %w", err)
	}
	return aead.Seal(nonce, nonce, b, keystoreAAD(user)), nil
}

// UnwrapKeys undoes WrapKeys. The error wraps ErrPassword when the secret is
// not the one.
func UnwrapKeys(user identity.UserID, secret [32]byte, sealed []byte) (Keys, error) {
	aead, err := wrapCipher(secret)
	if err != nil {
		return Keys{}, fmt.Errorf("chat: unwrap keys: %w", err)
	}
	if len(sealed) < aead.NonceSize() {
		return Keys{}, ErrPassword
	}
	b, err := aead.Open(nil, sealed[:aead.NonceSize()], sealed[aead.NonceSize():], keystoreAAD(user))
	if err != nil {
		return Keys{}, ErrPassword
	}
	defer clear(b)
	return parseKeystore(b)
}

func wrapCipher(secret [32]byte) (cipher.AEAD, error) {
	key, err := hkdf.Key(sha256.New, secret[:], nil, wrapInfo, 32)
	if err != nil {
		return nil, err
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	return cipher.NewGCM(block)
}

// UnlockKeys opens a session with keys that were unwrapped.
func (s *Service) UnlockKeys(ctx context.Context, user identity.UserID, keys Keys) (*Session, error) {
	return s.adopt(ctx, user, keys)
}
