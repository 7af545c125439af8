package node

import (
	"errors"
	"fmt"
	"io/fs"
	"os"

	"outrider/mesh/envelope"
	"outrider/mesh/identity"
	"outrider/node/chat"
	"outrider/store"
)

var _ chat.Accounts = (*Home)(nil)

// Users returns the users hosted on this node.
func (h *Home) Users() ([]identity.UserID, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	ids := make([]identity.UserID, len(h.state.Users))
	for i, u := range h.state.Users {
		ids[i] = u.ID
	}
	return ids, nil
}

// Keystore returns a hosted user's keys as their password sealed them.
func (h *Home) Keystore(user identity.UserID) ([]byte, error) {
	if err := h.settle(user); err != nil {
		return nil, err
	}
	sealed, err := os.ReadFile(h.path("users", user.String(), "keystore"))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("node: keystore: %w", chat.ErrNotFound)
	}
	if err != nil {
		return nil, fmt.Errorf("node: keystore: %v", err)
	}
	return sealed, nil
}

// SaveKeystore replaces a keystore, all or nothing.
func (h *Home) SaveKeystore(user identity.UserID, sealed []byte) error {
	dir := h.path("users", user.String())
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("node: save keystore: %w", err)
	}
	if err := replaceFile(h.path("users", user.String(), "keystore"), sealed); err != nil {
		return err
	}
	return errors.Join(syncDir(h.path("users")), syncDir(h.dir))
}

// OpenVault opens the vault of a hosted user, empty at first.
func (h *Home) OpenVault(user identity.UserID, kek [32]byte) (chat.Vault, error) {
	v, err := store.OpenVault(h.path("users", user.String(), "vault"), kek)
	if err != nil {
		return nil, fmt.Errorf("node: open vault: %w", err)
	}
	return vault{v}, nil
}

// vault is the store's vault with the errors chat knows.
type vault struct{ *store.Vault }

func (v vault) Get(id [16]byte) ([]byte, error) {
	value, err := v.Vault.Get(id)
	if errors.Is(err, store.ErrNotFound) {
		return nil, fmt.Errorf("%w: %v", envelope.ErrNoSecret, err)
	}
	return value, err
}
