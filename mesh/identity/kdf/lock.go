package kdf

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"

	"outrider/mesh/identity"
)

// A locked blob is
//
//	"OL1" | id and parameters 4 | salt 16 | nonce 12 | AES-256-GCM ciphertext and tag
//
// with additional data "outrider/v1/lock\x00" || the first 23 bytes || aad.
const (
	lockMagic  = "OL1"
	lockHeader = len(lockMagic) + 4 + 16

	// MaxLocked is the most that Lock takes and Unlock gives, in bytes.
	MaxLocked = 1 << 20
)

var (
	// ErrPassword is returned by Unlock when the password is wrong, or the
	// bytes or what they are for were changed: the three look alike.
	ErrPassword = errors.New("wrong password")
	// ErrDamaged is returned by Unlock for what is no locked blob.
	ErrDamaged = errors.New("damaged")
)

// Lock seals plaintext under a password. aad says what the blob is for, so
// that one cannot stand for another.
func Lock(ctx context.Context, password, plaintext, aad []byte, p Params) ([]byte, error) {
	if len(plaintext) > MaxLocked {
		return nil, fmt.Errorf("kdf: lock: %d bytes exceed %d", len(plaintext), MaxLocked)
	}
	var salt [16]byte
	if _, err := rand.Read(salt[:]); err != nil {
		return nil, fmt.Errorf("kdf: lock: %w", err)
	}
	key, err := Derive(ctx, password, salt, p)
	if err != nil {
		return nil, err
	}
	params := p.Bytes()
	out := append([]byte(lockMagic), params[:]...)
	out = append(out, salt[:]...)
	return append(out, identity.Seal(key, plaintext, lockAAD(out, aad))...), nil
}

// Unlock opens what Lock sealed.
func Unlock(ctx context.Context, password, sealed, aad []byte) ([]byte, error) {
	if len(sealed) < lockHeader+identity.SealOverhead || len(sealed) > lockHeader+identity.SealOverhead+MaxLocked ||
		string(sealed[:len(lockMagic)]) != lockMagic {
		return nil, fmt.Errorf("kdf: unlock: not a locked blob: %w", ErrDamaged)
	}
	header, body := sealed[:lockHeader], sealed[lockHeader:]
	p, err := FromBytes([4]byte(header[len(lockMagic):]))
	if err != nil {
		return nil, err
	}
	key, err := Derive(ctx, password, [16]byte(header[len(lockMagic)+4:]), p)
	if err != nil {
		return nil, err
	}
	plaintext, err := identity.Open(key, body, lockAAD(header, aad))
	if err != nil {
		return nil, fmt.Errorf("kdf: unlock: %w", ErrPassword)
	}
	return plaintext, nil
}

func lockAAD(header, aad []byte) []byte {
	return append(append(identity.LabelLock.Prefix(), header...), aad...)
}
