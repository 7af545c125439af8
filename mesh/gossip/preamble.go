package gossip

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"

	"outrider/mesh/crowd"
	"outrider/mesh/identity"
)

// Both sides of a stream begin with a preamble: who they are and on which
// port they gossip, sealed with a group key. Outsiders get nowhere with a
// stream, and a gate knows whom it has before a word of state passes.
const (
	preambleMagic = "OGS2"
	preambleText  = len(identity.NodeID{}) + 2
	preambleSize  = len(preambleMagic) + nonceSize + preambleText + tagSize

	nonceSize, tagSize = 12, 16
)

var (
	preambleAAD = []byte("outrider/v1/gossip-stream\x00")
	confirmAAD  = []byte("outrider/v1/gossip-confirm\x00")
)

// confirmSize is a confirmation: nonce and tag over nothing. By it the dialler
// proves that it is here now: its preamble alone may be a recording.
const confirmSize = nonceSize + tagSize

var (
	errForged   = errors.New("signature is not the node's")
	errOutsider = errors.New("not sealed with a key of the group")
	errBlocked  = errors.New("node is switched off")
)

// A greeting is what a preamble says.
type greeting struct {
	id   identity.NodeID
	port uint16
}

func sealer(key []byte) (cipher.AEAD, error) {
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	return cipher.NewGCM(block)
}

// sealPreamble seals a preamble; to is the one that it answers, nil for the
// dialler's.
func sealPreamble(key []byte, g greeting, to []byte) ([]byte, error) {
	aead, err := sealer(key)
	if err != nil {
		return nil, err
	}
	b := append(make([]byte, 0, preambleSize), preambleMagic...)
	b = b[:len(b)+nonceSize]
	nonce := b[len(preambleMagic):]
	if _, err := rand.Read(nonce); err != nil {
		return nil, err
	}
	text := binary.BigEndian.AppendUint16(append([]byte(nil), g.id[:]...), g.port)
	return aead.Seal(b, nonce, text, bound(preambleAAD, to)), nil
}

// bound is the additional data that ties a text to the one it answers.
func bound(domain, to []byte) []byte { return append(domain[:len(domain):len(domain)], to...) }

// openPreamble tries the keys in turn.
func openPreamble(keys [][]byte, b, to []byte) (g greeting, err error) {
	if len(b) != preambleSize || string(b[:len(preambleMagic)]) != preambleMagic {
		return g, fmt.Errorf("preamble: %w", identity.ErrMalformed)
	}
	sealed := b[len(preambleMagic):]
	for _, key := range keys {
		aead, err := sealer(key)
		if err != nil {
			return g, err
		}
		text, err := aead.Open(nil, sealed[:nonceSize], sealed[nonceSize:], bound(preambleAAD, to))
		if err != nil {
			continue
		}
		g.port = binary.BigEndian.Uint16(text[len(g.id):])
		copy(g.id[:], text)
		if g.port == 0 {
			return g, fmt.Errorf("preamble: port 0: %w", identity.ErrMalformed)
		}
		return g, nil
	}
	return g, errOutsider
}

func sealConfirm(key, to []byte) ([]byte, error) {
	aead, err := sealer(key)
	if err != nil {
		return nil, err
	}
	b := make([]byte, nonceSize, confirmSize)
	if _, err := rand.Read(b); err != nil {
		return nil, err
	}
	return aead.Seal(b, b, nil, bound(confirmAAD, to)), nil
}

// openConfirm checks the confirmation of the preamble to.
func openConfirm(keys [][]byte, b, to []byte) error {
	if len(b) != confirmSize {
		return fmt.Errorf("confirmation: %w", identity.ErrMalformed)
	}
	for _, key := range keys {
		aead, err := sealer(key)
		if err != nil {
			return err
		}
		if _, err := aead.Open(nil, b[:nonceSize], b[nonceSize:], bound(confirmAAD, to)); err == nil {
			return nil
		}
	}
	return errOutsider
}

// exchange swaps preambles. The dialler speaks first, the other side answers
// members only, and the dialler's confirmation of the answer ends it.
func (t *transport) exchange(c net.Conn, dialled bool) (greeting, error) {
	keys := t.keys()
	if len(keys) == 0 {
		return greeting{}, errOutsider
	}
	if dialled {
		return t.introduce(c, keys)
	}
	return t.hear(c, keys)
}

// introduce is the dialler's side.
func (t *transport) introduce(c net.Conn, keys [][]byte) (g greeting, err error) {
	ours, err := sealPreamble(keys[0], greeting{t.self, t.port}, nil)
	if err != nil {
		return g, err
	}
	if _, err := c.Write(ours); err != nil {
		return g, err
	}
	theirs := make([]byte, preambleSize)
	if _, err := io.ReadFull(c, theirs); err != nil {
		return g, err
	}
	if g, err = openPreamble(keys, theirs, ours); err != nil {
		if t.foreign != nil {
			t.foreign()
		}
		return g, err
	}
	t.meet(c, g)
	if !t.allowed(g.id) {
		return g, errBlocked
	}
	confirm, err := sealConfirm(keys[0], theirs)
	if err == nil {
		_, err = c.Write(confirm)
	}
	t.vouch(crowd.Of(c.RemoteAddr().String()))
	return g, err
}

// hear is the other side.
func (t *transport) hear(c net.Conn, keys [][]byte) (g greeting, err error) {
	theirs := make([]byte, preambleSize)
	if _, err := io.ReadFull(c, theirs); err != nil {
		return g, err
	}
	if g, err = openPreamble(keys, theirs, nil); err != nil {
		if t.foreign != nil {
			t.foreign()
		}
		return g, err
	}
	if !t.allowed(g.id) {
		t.meet(c, g)
		return g, errBlocked
	}
	ours, err := sealPreamble(keys[0], greeting{t.self, t.port}, theirs)
	if err != nil {
		return g, err
	}
	if _, err := c.Write(ours); err != nil {
		return g, err
	}
	confirm := make([]byte, confirmSize)
	if _, err := io.ReadFull(c, confirm); err != nil {
		return g, err
	}
	if err := openConfirm(keys, confirm, ours); err != nil {
		return g, err
	}
	t.meet(c, g)
	t.vouch(crowd.Of(c.RemoteAddr().String()))
	return g, nil
}

// meet notes where a member gossips.
func (t *transport) meet(c net.Conn, g greeting) {
	if at, err := netip.ParseAddrPort(c.RemoteAddr().String()); err == nil {
		t.met(g.id, netip.AddrPortFrom(at.Addr().Unmap(), g.port))
	}
}
