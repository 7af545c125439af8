package attack

import (
	"crypto/ed25519"
	"crypto/rand"
	"encoding/binary"
	"fmt"
	"io"
	"net"

	"github.com/flynn/noise"
)

// secured is a connection behind libp2p's Noise XX, made by hand so that it
// can stop anywhere.
type secured struct {
	net.Conn
	enc *noise.CipherState
}

// token is a message of multistream-select.
func token(protos ...string) (b []byte) {
	for _, p := range protos {
		b = append(binary.AppendUvarint(b, uint64(len(p)+1)), p...)
		b = append(b, '\n')
	}
	return b
}

var noiseOpening = token("/multistream/1.0.0", "/noise")

// secure runs the handshake as a stranger with a key of its own.
func secure(c net.Conn, key ed25519.PrivateKey) (*secured, error) {
	if _, err := c.Write(noiseOpening); err != nil {
		return nil, err
	}
	if _, err := io.ReadFull(c, make([]byte, len(noiseOpening))); err != nil {
		return nil, err
	}
	suite := noise.NewCipherSuite(noise.DH25519, noise.CipherChaChaPoly, noise.HashSHA256)
	static, err := suite.GenerateKeypair(rand.Reader)
	if err != nil {
		return nil, err
	}
	h, err := noise.NewHandshakeState(noise.Config{
		CipherSuite: suite, Pattern: noise.HandshakeXX, Initiator: true, StaticKeypair: static, Random: rand.Reader,
	})
	if err != nil {
		return nil, err
	}
	first, _, _, err := h.WriteMessage(nil, nil)
	if err != nil {
		return nil, err
	}
	if err := writeFramed(c, first); err != nil {
		return nil, err
	}
	answer, err := readFramed(c)
	if err != nil {
		return nil, err
	}
	if _, _, _, err := h.ReadMessage(nil, answer); err != nil {
		return nil, fmt.Errorf("attack: noise: %v", err)
	}
	last, enc, _, err := h.WriteMessage(nil, payload(key, static.Public))
	if err != nil {
		return nil, err
	}
	return &secured{c, enc}, writeFramed(c, last)
}

// payload is libp2p's NoiseHandshakePayload: the identity and its signature
// over the static key.
func payload(key ed25519.PrivateKey, static []byte) []byte {
	pub := append([]byte{0x08, 1, 0x12, 32}, key.Public().(ed25519.PublicKey)...) // protobuf: type Ed25519, data
	sig := ed25519.Sign(key, append([]byte("noise-libp2p-static-key:"), static...))
	b := append([]byte{0x0a, byte(len(pub))}, pub...)
	return append(append(b, 0x12, byte(len(sig))), sig...)
}

func writeFramed(w io.Writer, b []byte) error {
	_, err := w.Write(append(binary.BigEndian.AppendUint16(nil, uint16(len(b))), b...))
	return err
}

func readFramed(r io.Reader) ([]byte, error) {
	var n [2]byte
	if _, err := io.ReadFull(r, n[:]); err != nil {
		return nil, err
	}
	b := make([]byte, binary.BigEndian.Uint16(n[:]))
	_, err := io.ReadFull(r, b)
	return b, err
}

// say sends one sealed message.
func (s *secured) say(b []byte) error {
	sealed, err := s.enc.Encrypt(nil, nil, b)
	if err != nil {
		return err
	}
	return writeFramed(s.Conn, sealed)
}

// frame is a yamux frame; length may promise more than body has.
func frame(kind byte, flags uint16, stream, length uint32, body []byte) []byte {
	b := []byte{0, kind}
	b = binary.BigEndian.AppendUint16(b, flags)
	b = binary.BigEndian.AppendUint32(b, stream)
	b = binary.BigEndian.AppendUint32(b, length)
	return append(b, body...)
}

// Kinds and flags of yamux frames.
const (
	yamuxData = 0
	yamuxSYN  = 1
)
