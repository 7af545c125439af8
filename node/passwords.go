package node

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strconv"

	"outrider/mesh/identity"
	"outrider/mesh/identity/kdf"
	"outrider/node/api"
	"outrider/node/chat"
	"outrider/offline/deeplink"
	"outrider/offline/roster"
)

// keyCost is what a password costs to try, wherever this node seals under one.
var keyCost = kdf.Default() // tests seal at the floor: they make hundreds

// hostCertified makes a user who was certified already live on this node. The
// name of a new user must be free in r, which is nil for a user there is.
func (h *Home) hostCertified(ctx context.Context, id identity.UserID, key identity.PrivateKey, chain identity.Chain, name string, r *roster.Roster, password []byte) error {
	h.ops.Lock()
	defer h.ops.Unlock()
	if slices.ContainsFunc(h.hostedUsers(), func(u hosted) bool { return u.ID == id }) {
		return fmt.Errorf("node: host user: %w", api.ErrConflict)
	}
	if err := h.freeName(name, r); err != nil {
		return err
	}
	dev, err := h.newDevice(ctx, h.network().ID, id, key, chain, password)
	if err != nil {
		return err
	}
	err = h.change(func() error { return errors.Join(h.addHosted(dev), h.publishName(dev.key, id, name)) })
	if err == nil {
		h.nameGiven(id, name)
	}
	return err
}

// hosts reports whether a user lives here.
func (h *Home) hosts(user identity.UserID) bool {
	return slices.ContainsFunc(h.hostedUsers(), func(u hosted) bool { return u.ID == user })
}

func (h *Home) hostedUsers() []hosted {
	h.mu.Lock()
	defer h.mu.Unlock()
	return slices.Clone(h.state.Users)
}

// replaceKeys gives a user who lives here new keys of a later generation. What
// the old ones sealed is set aside, as sealed as it was. The state file
// decides: before it is written the old keys are the user's, from then on the
// new ones; the files follow in settle, after a crash too.
func (h *Home) replaceKeys(ctx context.Context, id identity.UserID, key identity.PrivateKey, chain identity.Chain, name string, password []byte) error {
	if err := deeplink.CheckPassword(password); err != nil {
		return fmt.Errorf("node: replace keys: %w", err)
	}
	h.ops.Lock()
	defer h.ops.Unlock()
	at := slices.IndexFunc(h.hostedUsers(), func(u hosted) bool { return u.ID == id })
	if at < 0 {
		return fmt.Errorf("node: replace keys: %w", chat.ErrNotFound)
	}
	aside := h.hostedUsers()[at].Aside + 1
	device, err := identity.NewPrivateKey()
	if err != nil {
		return err
	}
	network := h.network().ID
	cert, err := identity.IssueDevice(network, key, device, identity.Certificate{
		Subject: id[:], Generation: chain.Leaf().Generation, NotBefore: chain.Leaf().NotBefore, NotAfter: chain.Leaf().NotAfter,
	})
	if err != nil {
		return err
	}
	whole := append(identity.Chain{cert}, chain...)
	sealed, err := chat.SealKeys(ctx, id, password, chat.Keys{User: key, Device: device, Chain: whole}, keyCost)
	if err != nil {
		return err
	}
	if err := replaceFile(h.nextKeystore(id, aside), sealed); err != nil {
		return err
	}
	err = h.change(func() error {
		u := &h.state.Users[at]
		u.Key, u.Aside = key.Public(), aside
		return errors.Join(h.publish(roster.Certificate(chain[1:]), roster.Certificate(chain), roster.Certificate(whole)), h.publishName(device, id, name))
	})
	if err != nil {
		return err
	}
	return h.settle(id)
}

func (h *Home) nextKeystore(id identity.UserID, aside uint32) string {
	return h.path("users", id.String(), "next-"+strconv.FormatUint(uint64(aside), 10))
}

func (h *Home) asideDir(id identity.UserID, aside uint32) string {
	return h.path("users", id.String(), "aside-"+strconv.FormatUint(uint64(aside), 10))
}

// asideOf returns how often a user's keys were replaced here.
func (h *Home) asideOf(id identity.UserID) uint32 {
	for _, u := range h.hostedUsers() {
		if u.ID == id {
			return u.Aside
		}
	}
	return 0
}

// settle brings a user's files to what the state says: old keystore, recovery
// copy and vault into a folder of their own, the new keystore into its place.
// Each step is done or not; doing all again after a crash ends the same.
func (h *Home) settle(id identity.UserID) error {
	aside := h.asideOf(id)
	next := h.nextKeystore(id, aside)
	if _, err := os.Stat(next); aside == 0 || errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	dir := h.asideDir(id, aside)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("node: set old keys aside: %w", err)
	}
	for _, name := range []string{"keystore", "recovery", "vault"} {
		to := dir + "/" + name
		if _, err := os.Lstat(to); err == nil {
			continue
		}
		if err := os.Rename(h.path("users", id.String(), name), to); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("node: set old keys aside: %w", err)
		}
	}
	if err := syncDir(dir); err != nil {
		return fmt.Errorf("node: set old keys aside: %w", err)
	}
	if err := os.Rename(next, h.path("users", id.String(), "keystore")); err != nil {
		return fmt.Errorf("node: set old keys aside: %w", err)
	}
	return syncDir(h.path("users", id.String()))
}

// outgrown is chat.Outgrown.
func (h *Home) outgrown(id identity.UserID) (uint32, func() error, error) {
	aside := h.asideOf(id)
	if aside == 0 {
		return 0, nil, nil
	}
	mark := h.asideDir(id, aside) + "/moved"
	switch _, err := os.Stat(mark); {
	case err == nil:
		return 0, nil, nil
	case !errors.Is(err, fs.ErrNotExist):
		return 0, nil, fmt.Errorf("node: set old content aside: %w", err)
	}
	return aside, func() error { return replaceFile(mark, nil) }, nil
}

// aside lists what the content of replaced keys is called.
func (h *Home) aside() (out []identity.UserID) {
	for _, u := range h.hostedUsers() {
		for n := range u.Aside {
			out = append(out, chat.AsideID(u.ID, n+1))
		}
	}
	return out
}

// ChangePassword is part of api.Accounts.
func (a *accounts) ChangePassword(ctx context.Context, user identity.UserID, old, password []byte) error {
	h := a.n.home
	h.ops.Lock()
	defer h.ops.Unlock()
	keys, err := h.openKeys(ctx, user, old)
	if err != nil {
		return err
	}
	return h.lockKeys(ctx, user, keys, password)
}

func (h *Home) openKeys(ctx context.Context, user identity.UserID, password []byte) (chat.Keys, error) {
	sealed, err := h.Keystore(user)
	if err != nil {
		return chat.Keys{}, err
	}
	return chat.OpenKeys(ctx, user, password, sealed)
}

func (h *Home) lockKeys(ctx context.Context, user identity.UserID, keys chat.Keys, password []byte) error {
	if err := deeplink.CheckPassword(password); err != nil {
		return fmt.Errorf("node: seal keys: %w", err)
	}
	sealed, err := chat.SealKeys(ctx, user, password, keys, keyCost)
	if err != nil {
		return err
	}
	return h.SaveKeystore(user, sealed)
}

// RecoverySheet is part of api.Accounts. Beside the words, which hold the
// user's key, it leaves a copy of the keystore here that the words open.
func (a *accounts) RecoverySheet(ctx context.Context, user identity.UserID, password []byte) (api.Sheet, error) {
	h := a.n.home
	h.ops.Lock()
	defer h.ops.Unlock()
	keys, err := h.openKeys(ctx, user, password)
	if err != nil {
		return api.Sheet{}, err
	}
	sealed, err := chat.SealRecovery(user, keys)
	if err != nil {
		return api.Sheet{}, err
	}
	if err := replaceFile(h.path("users", user.String(), "recovery"), sealed); err != nil {
		return api.Sheet{}, err
	}
	sheet := api.Sheet{User: user, NetworkName: h.network().Name, Words: deeplink.SheetFrom(keys.User.Seed())}
	if u, ok := a.n.roster.User(user); ok {
		sheet.Name = u.Name
	}
	return sheet, nil
}

// Restore is part of api.Accounts: on the node the sheet was made on it brings
// everything back; on another one the user's identity, without the messages
// that are elsewhere.
func (a *accounts) Restore(ctx context.Context, words string, password []byte) (api.Restored, error) {
	if a.n.agent == nil {
		return api.Restored{}, errEnrolling
	}
	seed, err := deeplink.ReadSheet(words)
	if err != nil {
		return api.Restored{}, fmt.Errorf("%w: %v", api.ErrWords, err)
	}
	key := identity.PrivateKeyFromSeed(seed)
	for _, u := range a.n.home.hostedUsers() {
		keys, err := a.n.home.openRecovery(u.ID, seed)
		if err == nil && keys.User.Public() == key.Public() {
			return api.Restored{User: u.ID, Content: true}, a.relock(ctx, u.ID, keys, password)
		}
	}
	user, chain, ok := a.n.roster.ByKey(key.Public())
	if !ok {
		return api.Restored{}, api.ErrWords
	}
	u, _ := a.n.roster.User(user)
	if err := a.n.home.hostCertified(ctx, user, key, chain, u.Name, nil, password); err != nil {
		return api.Restored{}, provisionError(err)
	}
	a.n.publishSoon()
	return api.Restored{User: user}, nil
}

func (a *accounts) relock(ctx context.Context, user identity.UserID, keys chat.Keys, password []byte) error {
	a.n.home.ops.Lock()
	defer a.n.home.ops.Unlock()
	return a.n.home.lockKeys(ctx, user, keys, password)
}

func (h *Home) openRecovery(user identity.UserID, seed [32]byte) (chat.Keys, error) {
	if err := h.settle(user); err != nil {
		return chat.Keys{}, err
	}
	sealed, err := os.ReadFile(h.path("users", user.String(), "recovery"))
	if err != nil {
		return chat.Keys{}, fmt.Errorf("node: read recovery copy: %w", err)
	}
	return chat.OpenRecovery(user, seed, sealed)
}
