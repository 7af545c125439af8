package chat

import (
	"fmt"

	"outrider/mesh/identity"
)

// recoveryKey seals a copy of a user's keystore under the user key's seed,
// which is what a recovery sheet holds.
func recoveryKey(user identity.UserID, seed [32]byte) [32]byte {
	return identity.Derive(seed, identity.LabelRecovery, user[:])
}

// SealRecovery seals keys so that a recovery sheet opens them: everything but
// the seed on the sheet.
func SealRecovery(user identity.UserID, k Keys) ([]byte, error) {
	b, err := k.marshal()
	if err != nil {
		return nil, fmt.Errorf("chat: seal recovery copy: %w", err)
	}
	defer clear(b)
	return identity.Seal(recoveryKey(user, k.User.Seed()), b, keystoreAAD(user)), nil
}

// OpenRecovery undoes SealRecovery. The error wraps ErrPassword when the seed
// is another user's.
func OpenRecovery(user identity.UserID, seed [32]byte, sealed []byte) (Keys, error) {
	b, err := identity.Open(recoveryKey(user, seed), sealed, keystoreAAD(user))
	if err != nil {
		return Keys{}, fmt.Errorf("chat: open recovery copy: %w", ErrPassword)
	}
	defer clear(b)
	return parseKeystore(b)
}

func (k Keys) marshal() ([]byte, error) {
	return identity.Marshal(keystoreWire{
		Version: keystoreVersion, User: k.User.Seed(), Device: k.Device.Seed(), Chain: k.Chain.Marshal(), KEK: k.KEK,
	})
}
