package sframe

import (
	"encoding/binary"
	"errors"
	"math/bits"
)

// MaxHeader is the longest header, in bytes: RFC 9605, section 4.3.
const MaxHeader = 1 + 8 + 8

// ErrMalformed means that bytes are no sealed frame, or a header is not in
// its shortest form.
var ErrMalformed = errors.New("sframe: malformed frame")

// A Header says which key sealed a frame, and which of its frames it is.
type Header struct {
	KID uint64
	CTR uint64
}

// Append appends the header's shortest form: RFC 9605, section 4.3.
func (h Header) Append(b []byte) []byte {
	at := len(b)
	b = append(b, 0)
	var x, y byte
	x, b = appendField(b, h.KID)
	y, b = appendField(b, h.CTR)
	b[at] = x<<4 | y
	return b
}

// appendField appends a value's bytes and returns its four bits of the config.
func appendField(b []byte, v uint64) (byte, []byte) {
	if v < 8 {
		return byte(v), b
	}
	n := (bits.Len64(v) + 7) / 8
	var whole [8]byte
	binary.BigEndian.PutUint64(whole[:], v)
	return 8 | byte(n-1), append(b, whole[8-n:]...)
}

// ParseHeader reads the header that a frame begins with and returns its
// length in bytes.
func ParseHeader(frame []byte) (Header, int, error) {
	if len(frame) == 0 {
		return Header{}, 0, ErrMalformed
	}
	config, at := frame[0], 1
	kid, at, ok := field(frame, at, config>>4)
	if !ok {
		return Header{}, 0, ErrMalformed
	}
	ctr, at, ok := field(frame, at, config&15)
	if !ok {
		return Header{}, 0, ErrMalformed
	}
	return Header{kid, ctr}, at, nil
}

func field(b []byte, at int, config byte) (v uint64, next int, ok bool) {
	if config < 8 {
		return uint64(config), at, true
	}
	n := int(config&7) + 1
	if len(b)-at < n {
		return 0, 0, false
	}
	for _, c := range b[at : at+n] {
		v = v<<8 | uint64(c)
	}
	// Two forms of one header would be two names of one frame.
	return v, at + n, v >= 8 && (n == 1 || v>>(8*(n-1)) != 0)
}
