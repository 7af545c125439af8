package deeplink

import (
	"context"
	"crypto/rand"
	"fmt"

	"outrider/mesh/identity"
	"outrider/mesh/identity/kdf"
)

const (
	// kindUpdate is the first element of an update.
	kindUpdate = 2
	// flagUpdate is set in the kdf id of a frame that holds an update.
	flagUpdate = 0x80
	// kdfNetwork is the kdf id of a frame without a password. Its parameters
	// are the low 24 bits of the generation of the network secret.
	kdfNetwork = 3
)

// An Update is a signed config on its way to a node of the network, with the
// certificate of the admin who issued it: the node may never have heard of
// that admin.
type Update struct {
	Config identity.SignedConfig
	Admin  identity.Certificate
}

type updateWire struct {
	_      struct{} `cbor:",toarray"`
	Kind   uint8
	Config []byte
	Admin  []byte
}

// IsUpdate reports whether a frame holds an update. It needs no password; what
// the frame really holds is known when it is open.
func IsUpdate(frame []byte) bool {
	return checkFrame(frame) == nil && frame[len(magic)]&flagUpdate != 0
}

// NeedsPassword reports whether a frame opens with a password only.
func NeedsPassword(frame []byte) bool {
	return checkFrame(frame) != nil || frame[len(magic)]&^flagUpdate != kdfNetwork
}

// content encodes an update.
func (u Update) content() ([]byte, error) {
	c, err := identity.Marshal(updateWire{Kind: kindUpdate, Config: u.Config.Raw(), Admin: u.Admin.Raw()})
	if err != nil {
		return nil, fmt.Errorf("deeplink: new update: %w", err)
	}
	return c, nil
}

// SealUpdate seals an update under a password.
func SealUpdate(ctx context.Context, u Update, issuer identity.PrivateKey, password []byte, p kdf.Params) ([]byte, error) {
	content, err := u.content()
	if err != nil {
		return nil, err
	}
	return sealFrame(ctx, content, issuer, password, p, flagUpdate)
}

// SealUpdateTo seals an update to the nodes that know a network's secret.
func SealUpdateTo(u Update, issuer identity.PrivateKey, s identity.NetworkSecret) ([]byte, error) {
	content, err := u.content()
	if err != nil {
		return nil, err
	}
	if len(content)+overhead > MaxFrame {
		return nil, fmt.Errorf("deeplink: seal: %d bytes of content: %w", len(content), ErrTooLarge)
	}
	var salt [16]byte
	if _, err := rand.Read(salt[:]); err != nil {
		return nil, fmt.Errorf("deeplink: seal: %w", err)
	}
	g := s.Generation
	params := [4]byte{flagUpdate | kdfNetwork, byte(g >> 16), byte(g >> 8), byte(g)}
	return assemble(params, salt, s.LinkKey(salt), content, issuer), nil
}

// OpenUpdate opens a frame, and checks that the admin named in it signed it.
// That this admin belongs to the network, and signed the config for it, is the
// caller's to check: Chain and then Config.Verify. password is used if the frame needs one, secrets if it does not.
// Every error wraps one of ErrDamaged, ErrVersion, ErrTooLarge, ErrPassword,
// ErrSecret, ErrIsJoin, ErrIssuer, kdf.ErrParams, kdf.ErrBusy or the context's.
func OpenUpdate(ctx context.Context, frame, password []byte, secrets []identity.NetworkSecret) (Update, error) {
	if err := checkFrame(frame); err != nil {
		return Update{}, fmt.Errorf("deeplink: open: %w", err)
	}
	if !IsUpdate(frame) {
		return Update{}, fmt.Errorf("deeplink: open: %w", ErrIsJoin)
	}
	f, err := openEither(ctx, frame, password, secrets)
	if err != nil {
		return Update{}, err
	}
	return parseUpdate(f)
}

func openEither(ctx context.Context, frame, password []byte, secrets []identity.NetworkSecret) (Frame, error) {
	if NeedsPassword(frame) {
		return Open(ctx, frame, password)
	}
	p := frame[len(magic)+1:]
	low := uint32(p[0])<<16 | uint32(p[1])<<8 | uint32(p[2])
	for _, s := range secrets {
		if s.Generation&0xffffff != low {
			continue
		}
		if f, err := openWith(s.LinkKey([16]byte(frame[len(magic)+4:])), frame, ErrSecret); err == nil {
			return f, nil
		}
	}
	return Frame{}, fmt.Errorf("deeplink: open: %w", ErrSecret)
}

func parseUpdate(f Frame) (u Update, err error) {
	var w updateWire
	if err := identity.Unmarshal(f.content, &w); err != nil {
		return u, fmt.Errorf("deeplink: read update: %v: %w", err, ErrDamaged)
	}
	if w.Kind != kindUpdate {
		return u, fmt.Errorf("deeplink: read update: content of another kind than an update: %w", ErrVersion)
	}
	if u.Admin, err = identity.ParseCertificate(w.Admin); err == nil {
		u.Config, err = identity.ParseConfig(w.Config)
	}
	if err != nil {
		return Update{}, fmt.Errorf("deeplink: read update: %v: %w", err, ErrDamaged)
	}
	if _, err := f.Verify(u.Admin.Key); err != nil {
		return Update{}, err
	}
	if u.Config.Issuer != u.Admin.Key.ID() {
		return Update{}, fmt.Errorf("deeplink: read update: a config by somebody else than the frame: %w", ErrIssuer)
	}
	return u, nil
}

// Chain returns the issuer's chain, to be verified against the root record.
func (u Update) Chain() identity.Chain { return identity.Chain{u.Admin} }
