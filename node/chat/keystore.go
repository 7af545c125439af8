package chat

import (
	"context"
	"errors"
	"fmt"

	"outrider/mesh/identity"
	"outrider/mesh/identity/kdf"
)

// Keys are a hosted user's secrets, as the keystore holds them.
type Keys struct {
	User   identity.PrivateKey // signs certificates of the user's devices
	Device identity.PrivateKey
	Chain  identity.Chain // device, user, ..., admin
	KEK    [32]byte       // opens the vault
}

// keystoreWire is the CBOR form that a password seals.
type keystoreWire struct {
	Version uint64   `cbor:"1,keyasint"`
	User    [32]byte `cbor:"2,keyasint"`
	Device  [32]byte `cbor:"3,keyasint"`
	Chain   []byte   `cbor:"4,keyasint"`
	KEK     [32]byte `cbor:"5,keyasint"`
}

const keystoreVersion = 1

func keystoreAAD(user identity.UserID) []byte {
	return append(identity.LabelKeystore.Prefix(), user[:]...)
}

// SealKeys seals keys under a password, for Accounts.SaveKeystore. A zero KEK
// is replaced by a random one.
func SealKeys(ctx context.Context, user identity.UserID, password []byte, k Keys, p kdf.Params) ([]byte, error) {
	if len(password) == 0 {
		return nil, fmt.Errorf("chat: seal keystore: empty password: %w", ErrInvalid)
	}
	if k.KEK == ([32]byte{}) {
		k.KEK = newKey()
	}
	b, err := k.marshal()
	if err != nil {
		return nil, fmt.Errorf("chat: seal keystore: %w", err)
	}
	defer clear(b)
	sealed, err := kdf.Lock(ctx, password, b, keystoreAAD(user), p)
	if err != nil {
		return nil, fmt.Errorf("chat: seal keystore: %w", kdfError(err))
	}
	return sealed, nil
}

// OpenKeys undoes SealKeys. The error wraps ErrPassword or ErrBusy where that
// is the cause.
func OpenKeys(ctx context.Context, user identity.UserID, password, sealed []byte) (Keys, error) {
	b, err := kdf.Unlock(ctx, password, sealed, keystoreAAD(user))
	if err != nil {
		return Keys{}, kdfError(err)
	}
	defer clear(b)
	return parseKeystore(b)
}

func parseKeystore(b []byte) (Keys, error) {
	var w keystoreWire
	if err := identity.Unmarshal(b, &w); err != nil {
		return Keys{}, fmt.Errorf("chat: read keystore: %w", err)
	}
	if w.Version != keystoreVersion {
		return Keys{}, fmt.Errorf("chat: read keystore: version %d is unknown to this program", w.Version)
	}
	chain, err := identity.ParseChain(w.Chain)
	if err != nil {
		return Keys{}, fmt.Errorf("chat: read keystore: %w", err)
	}
	return Keys{
		User: identity.PrivateKeyFromSeed(w.User), Device: identity.PrivateKeyFromSeed(w.Device), Chain: chain, KEK: w.KEK,
	}, nil
}

// kdfError turns kdf's errors into ours.
func kdfError(err error) error {
	switch {
	case errors.Is(err, kdf.ErrPassword):
		return ErrPassword
	case errors.Is(err, kdf.ErrBusy):
		return ErrBusy
	case errors.Is(err, kdf.ErrDamaged):
		return fmt.Errorf("the user's keystore is damaged: restore the folder users from a backup: %w", err)
	}
	return err
}
