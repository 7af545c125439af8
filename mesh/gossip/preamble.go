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

	"outrider/mesh/identity"
)

// Both sides of a stream begin with a preamble: who they are and on which
// port they gossip, sealed with a group key. Outsiders get nowhere with a
// stream, and a gate knows whom it has before a word of state passes.
const (
	preambleMagic = "OGS1"
	preambleText  = len(identity.NodeID{}) + 2
	preambleSize  = len(preambleMagic) + nonceSize + preambleText + tagSize

	nonceSize, tagSize = 12, 16
)

var preambleAAD = []byte("outrider/v1/gossip-stream\x00")

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

func sealPreamble(key []byte, g greeting) ([]byte, error) {
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
	return aead.Seal(b, nonce, text, preambleAAD), nil
}

// openPreamble tries the keys in turn.
func openPreamble(keys [][]byte, b []byte) (g greeting, err error) {
	if len(b) != preambleSize || string(b[:len(preambleMagic)]) != preambleMagic {
		return g, fmt.Errorf("preamble: %w", identity.ErrMalformed)
	}
	sealed := b[len(preambleMagic):]
	for _, key := range keys {
		aead, err := sealer(key)
		if err != nil {
			return g, err
		}
		text, err := aead.Open(nil, sealed[:nonceSize], sealed[nonceSize:], preambleAAD)
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

// exchange sends our preamble and reads the other's. The dialler speaks first
// and the other only to members.
func (t *transport) exchange(c net.Conn, dialled bool) (g greeting, err error) {
	keys := t.keys()
	if len(keys) == 0 {
		return g, errOutsider
	}
	ours, err := sealPreamble(keys[0], greeting{t.self, t.port})
	if err != nil {
		return g, err
	}
	if dialled {
		if _, err := c.Write(ours); err != nil {
			return g, err
		}
	}
	b := make([]byte, preambleSize)
	if _, err := io.ReadFull(c, b); err != nil {
		return g, err
	}
	if g, err = openPreamble(keys, b); err != nil {
		return g, err
	}
	if at, err := netip.ParseAddrPort(c.RemoteAddr().String()); err == nil {
		t.met(g.id, netip.AddrPortFrom(at.Addr().Unmap(), g.port))
	}
	if !t.allowed(g.id) {
		return g, errBlocked
	}
	if !dialled {
		_, err = c.Write(ours)
	}
	return g, err
}
