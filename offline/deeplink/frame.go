// Package deeplink seals signed configuration under a password and carries it
// as a link, a QR code or a file: the same bytes each time.
//
//	"OR1" | kdf id 1 | kdf parameters 3 | salt 16 | nonce 12 |
//	AES-256-GCM( CBOR of the content | issuer's key id 8 | Ed25519 signature 64 ) | check 2
//
// There are two contents: the join object, which brings a new node into a
// network, and the update, a signed config for nodes that are in it. The first
// bit of the kdf id tells them apart before a password is asked for. An update
// may go without a password: it is then sealed to the nodes of its network.
//
// The signature says who issued it, the seal keeps it from whoever finds the
// link; knowing the password does not help to alter it. DEEPLINK.md has the
// format in full.
package deeplink

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"

	"outrider/mesh/identity"
	"outrider/mesh/identity/kdf"
)

// Fixed by the format.
const (
	magic      = "OR1"
	headerSize = len(magic) + 4 + 16
	sealedSize = len(identity.KeyID{}) + identity.SignatureSize // what follows the content inside the seal
	checkSize  = 2
	overhead   = headerSize + identity.SealOverhead + sealedSize + checkSize
)

// Chosen.
const (
	// MaxFrame is the most a frame may have, in bytes, on any carrier.
	MaxFrame = 64 << 10
	// MinPassword is the shortest password that may be chosen, in characters
	// (config-and-ui.md 2, P01).
	MinPassword = 12
)

// Why a link is not accepted. The texts are for people.
var (
	// ErrDamaged: characters are missing or changed.
	ErrDamaged = errors.New("damaged link: copy it again, whole")
	// ErrNoLink: it is something else altogether. It is an ErrDamaged too.
	ErrNoLink = fmt.Errorf("no link or file of this program: %w", ErrDamaged)
	// ErrVersion: the frame is of a version this program does not know.
	ErrVersion = errors.New("link of another version: update this node, or ask for a link made by one like it")
	// ErrPassword: the password does not open it.
	ErrPassword = errors.New("wrong password")
	// ErrIssuer: the content is not signed by whom it names.
	ErrIssuer = errors.New("not signed by the issuer it names: do not use it")
	// ErrExpired: its time is over.
	ErrExpired = errors.New("link has expired: ask for a new one")
	// ErrTooLarge: it does not fit its carrier.
	ErrTooLarge = errors.New("too large")
	// ErrIsUpdate: a config update was given where a join link is wanted.
	ErrIsUpdate = errors.New("this is no join link but a config for nodes that are in the network already; use it there with: outrider config apply")
	// ErrIsJoin: a join link was given where a config update is wanted.
	ErrIsJoin = errors.New("this is a join link, not a config; use it with: outrider join")
	// ErrSecret: it is sealed to a network, or to a time of it, that this node
	// does not know.
	ErrSecret = errors.New("sealed without a password for nodes of another network, or of a newer network secret than this node has heard of")
	// ErrWeakPassword: the password is too short to protect what it seals.
	ErrWeakPassword = errors.New("password must have at least 12 characters: take a longer one, for example six words")
)

// A Frame is an opened link: content and who is said to have signed it. The
// content is out of reach until Verify or a parser has checked that.
type Frame struct {
	Issuer identity.KeyID

	content []byte
	sig     []byte
}

// Seal signs content as issuer and seals it under password. content is
// deterministic CBOR, a non-empty array whose first element is its kind.
func Seal(ctx context.Context, content []byte, issuer identity.PrivateKey, password []byte, p kdf.Params) ([]byte, error) {
	return sealFrame(ctx, content, issuer, password, p, 0)
}

func sealFrame(ctx context.Context, content []byte, issuer identity.PrivateKey, password []byte, p kdf.Params, flags byte) ([]byte, error) {
	if len(content)+overhead > MaxFrame {
		return nil, fmt.Errorf("deeplink: seal: %d bytes of content: %w", len(content), ErrTooLarge)
	}
	password = canonicalPassword(password)
	if err := CheckPassword(password); err != nil {
		return nil, fmt.Errorf("deeplink: seal: %w", err)
	}
	var salt [16]byte
	if _, err := rand.Read(salt[:]); err != nil {
		return nil, fmt.Errorf("deeplink: seal: %w", err)
	}
	key, err := kdf.Derive(ctx, password, salt, p)
	if err != nil {
		return nil, fmt.Errorf("deeplink: seal: %w", err)
	}
	params := p.Bytes()
	params[0] |= flags
	return assemble(params, salt, key, content, issuer), nil
}

// assemble makes the frame of a header, a key and a content.
func assemble(params [4]byte, salt [16]byte, key [32]byte, content []byte, issuer identity.PrivateKey) []byte {
	header := append([]byte(magic), params[:]...)
	header = append(header, salt[:]...)
	frame := append(header[:headerSize:headerSize], identity.Seal(key, sign(content, issuer), header)...)
	return appendCheck(frame)
}

// sign returns what the seal holds: content, issuer, signature.
func sign(content []byte, issuer identity.PrivateKey) []byte {
	id := issuer.Public().ID()
	signed := append(content[:len(content):len(content)], id[:]...)
	sig := issuer.Sign(identity.DomainLink, signed)
	return append(signed, sig[:]...)
}

// Open opens a frame. Form and derivation parameters are checked before any
// work is done for the password. The signature is not checked here: Verify
// does, or ParseJoin.
func Open(ctx context.Context, frame, password []byte) (Frame, error) {
	if err := checkFrame(frame); err != nil {
		return Frame{}, fmt.Errorf("deeplink: open: %w", err)
	}
	header, _ := parts(frame)
	params := [4]byte(header[len(magic):])
	params[0] &^= flagUpdate
	p, err := kdf.FromBytes(params)
	if err != nil {
		return Frame{}, fmt.Errorf("deeplink: open: %w", err)
	}
	key, err := kdf.Derive(ctx, canonicalPassword(password), [16]byte(header[len(magic)+4:]), p)
	if err != nil {
		return Frame{}, fmt.Errorf("deeplink: open: %w", err)
	}
	return openWith(key, frame, ErrPassword)
}

// parts cuts a frame that checkFrame has passed.
func parts(frame []byte) (header, body []byte) {
	return frame[:headerSize], frame[headerSize : len(frame)-checkSize]
}

// openWith opens a frame with its key; wrong is the error if that is not it.
func openWith(key [32]byte, frame []byte, wrong error) (Frame, error) {
	header, body := parts(frame)
	plain, err := identity.Open(key, body, header)
	if err != nil {
		return Frame{}, fmt.Errorf("deeplink: open: %w", wrong)
	}
	split := len(plain) - sealedSize
	if split <= 0 {
		return Frame{}, fmt.Errorf("deeplink: open: nothing inside: %w", ErrDamaged)
	}
	return Frame{
		Issuer:  identity.KeyID(plain[split : split+len(identity.KeyID{})]),
		content: plain[:split:split], sig: plain[len(plain)-identity.SignatureSize:],
	}, nil
}

// checkFrame checks what can be known of a frame without its password.
func checkFrame(frame []byte) error {
	switch {
	case len(frame) > MaxFrame:
		return fmt.Errorf("%d bytes exceed %d: %w", len(frame), MaxFrame, ErrTooLarge)
	case len(frame) < len(magic) || string(frame[:2]) != magic[:2]:
		return fmt.Errorf("no config link: %w", ErrDamaged)
	case string(frame[:len(magic)]) != magic:
		return ErrVersion
	case len(frame) <= overhead:
		return fmt.Errorf("%d bytes are too few: %w", len(frame), ErrDamaged)
	}
	split := len(frame) - checkSize
	if string(appendCheck(frame[:split:split])) != string(frame) {
		return fmt.Errorf("check bytes differ: %w", ErrDamaged)
	}
	return nil
}

// appendCheck adds the two bytes that tell a damaged link from a wrong
// password. They protect nothing: the seal does.
func appendCheck(frame []byte) []byte {
	sum := sha256.Sum256(frame)
	return append(frame, sum[:checkSize]...)
}

// Verify checks that key signed the content, and returns it.
func (f Frame) Verify(key identity.PublicKey) ([]byte, error) {
	signed := append(f.content[:len(f.content):len(f.content)], f.Issuer[:]...)
	if key.ID() != f.Issuer || !key.Verify(identity.DomainLink, signed, f.sig) {
		return nil, fmt.Errorf("deeplink: verify: %w", ErrIssuer)
	}
	return f.content, nil
}
