package p2p

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"outrider/mesh/cla"
	"outrider/mesh/identity"
)

// A code answers a hello or a mesh opening. It is all that a node tells
// somebody it will not have.
type code uint16

// The codes, fixed by the protocol.
const (
	codeOK        code = 0
	codeRefused   code = 1 // not admitted, no reason given
	codeForeign   code = 2 // certificate of another network
	codeExpired   code = 3 // certificate has ended
	codeMalformed code = 4 // hello cannot be read
	codeVersion   code = 5 // no common protocol version
	codeBusy      code = 6 // no room for another connection
	codeDuplicate code = 7 // we have a better connection already
)

func (c code) String() string {
	switch c {
	case codeOK:
		return "ok"
	case codeForeign:
		return "node of another network"
	case codeExpired:
		return "certificate has expired: renew it"
	case codeMalformed:
		return "hello could not be read"
	case codeVersion:
		return "no common protocol version: upgrade one of the nodes"
	case codeBusy:
		return "no room for another connection"
	case codeDuplicate:
		return "connected already"
	}
	return "not admitted"
}

// codeFor says as much about an admission error as the other side may know.
func codeFor(err error) code {
	switch {
	case errors.Is(err, identity.ErrMalformed):
		return codeMalformed
	case errors.Is(err, identity.ErrForeign):
		return codeForeign
	case errors.Is(err, identity.ErrExpired):
		return codeExpired
	case errors.Is(err, errVersion):
		return codeVersion
	case errors.Is(err, errCrowded):
		return codeBusy
	}
	return codeRefused
}

// A message is what passes on hello streams and opens mesh streams: a CBOR
// map with integer keys, of which each step uses some (STREAMS.md). Unknown
// keys are skipped, so that later versions may add some.
type message struct {
	Code       code   `cbor:"0,keyasint,omitempty"`
	MinVersion uint16 `cbor:"1,keyasint,omitempty"`
	MaxVersion uint16 `cbor:"2,keyasint,omitempty"`
	Features   uint64 `cbor:"3,keyasint,omitempty"`
	Class      uint8  `cbor:"4,keyasint,omitempty"`
	Instance   []byte `cbor:"5,keyasint,omitempty"` // 8 bytes, drawn at start
	Number     uint64 `cbor:"6,keyasint,omitempty"` // of an accepted mesh stream (peers.go)
	Serial     uint64 `cbor:"7,keyasint,omitempty"` // of a mesh stream, counted by its opener
	Chain      []byte `cbor:"8,keyasint,omitempty"` // certificates, opaque here
}

const instanceSize = 8

// hello checks what a hello must hold.
func (m message) hello() error {
	switch {
	case m.MinVersion == 0 || m.MaxVersion < m.MinVersion:
		return fmt.Errorf("versions %d to %d: %w", m.MinVersion, m.MaxVersion, identity.ErrMalformed)
	case len(m.Instance) != instanceSize:
		return fmt.Errorf("instance of %d bytes: %w", len(m.Instance), identity.ErrMalformed)
	case m.Class < uint8(cla.Radio) || m.Class > uint8(cla.LAN):
		return fmt.Errorf("link class %d: %w", m.Class, identity.ErrMalformed)
	case len(m.Chain) == 0:
		return fmt.Errorf("no certificates: %w", identity.ErrMalformed)
	}
	return nil
}

// appendMessage appends m behind its length.
func appendMessage(b []byte, m message) ([]byte, error) {
	body, err := identity.Marshal(m)
	if err != nil {
		return nil, err
	}
	if len(body) > maxHello {
		return nil, fmt.Errorf("message of %d bytes, at most %d allowed", len(body), maxHello)
	}
	return append(binary.AppendUvarint(b, uint64(len(body))), body...), nil
}

// decodeMessage reads the body of a message.
func decodeMessage(body []byte) (m message, err error) {
	if err := identity.UnmarshalOpen(body, &m); err != nil {
		return message{}, err
	}
	return m, nil
}

func readMessage(r byteReader) (message, error) {
	body, err := readBlock(r, maxHello)
	if err != nil {
		return message{}, err
	}
	return decodeMessage(body)
}

// A byteReader is what length prefixes are read from.
type byteReader interface {
	io.Reader
	io.ByteReader
}

// readBlock reads a uvarint length and so many bytes. Lengths of 0, over
// limit or not in their shortest form are ErrMalformed, and nothing is
// allocated for them.
func readBlock(r byteReader, limit int) ([]byte, error) {
	n, err := readLength(r, limit)
	if err != nil {
		return nil, err
	}
	b := make([]byte, n)
	if _, err := io.ReadFull(r, b); err != nil {
		return nil, noEOF(err)
	}
	return b, nil
}

// readLength reads a block's length. It returns io.EOF only if nothing at all
// came before the end.
func readLength(r io.ByteReader, limit int) (int, error) {
	var n uint64
	for shift := 0; ; shift += 7 {
		c, err := r.ReadByte()
		if err != nil {
			if shift > 0 {
				err = noEOF(err)
			}
			return 0, err
		}
		n |= uint64(c&0x7f) << shift
		if c < 0x80 {
			if shift > 0 && c == 0 {
				return 0, fmt.Errorf("length with needless bytes: %w", identity.ErrMalformed)
			}
			break
		}
		if shift >= 28 { // more than 32 bits are over any limit
			return 0, fmt.Errorf("length over %d: %w", limit, identity.ErrMalformed)
		}
	}
	if n == 0 || n > uint64(limit) {
		return 0, fmt.Errorf("length %d, want 1 to %d: %w", n, limit, identity.ErrMalformed)
	}
	return int(n), nil
}

// noEOF makes an end in the middle of something an unexpected one.
func noEOF(err error) error {
	if err == io.EOF {
		return io.ErrUnexpectedEOF
	}
	return err
}
