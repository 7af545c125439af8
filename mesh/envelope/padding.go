package envelope

import (
	"encoding/binary"
	"fmt"
	"math/bits"
)

// Padding is a network's policy for hiding lengths.
type Padding uint8

// The policies. A reader accepts all of them.
const (
	PadBucket Padding = 0 // 64-byte steps up to 512 bytes, then steps of an eighth
	Pad64     Padding = 1 // 64-byte steps
	PadOff    Padding = 2
)

// size is the length to which n bytes are padded.
func (p Padding) size(n int) int {
	step := 64
	switch {
	case p == PadOff:
		return n
	case p == PadBucket && n > 512:
		step = 1 << (bits.Len(uint(n-1)) - 4)
	}
	return (n + step - 1) / step * step
}

// pad lays out a plaintext: length of fields (2 B), fields, a trailer of
// fixed length, zeros.
func pad(p Padding, fields, trailer []byte) ([]byte, error) {
	n := 2 + len(fields) + len(trailer)
	if n > maxPlain {
		return nil, fmt.Errorf("envelope: %d bytes to seal, at most %d: %w", n, maxPlain, ErrTooLarge)
	}
	plain := make([]byte, 0, p.size(n))
	plain = binary.BigEndian.AppendUint16(plain, uint16(len(fields)))
	plain = append(plain, fields...)
	plain = append(plain, trailer...)
	return plain[:cap(plain)][:p.size(n)], nil
}

// unpad takes a plaintext apart again. Anything but zeros behind the trailer
// is malformed.
func unpad(plain []byte, trailer int) (fields, tail []byte, err error) {
	if len(plain) < 2 {
		return nil, nil, malformed("plaintext too short")
	}
	n := int(binary.BigEndian.Uint16(plain))
	if 2+n+trailer > len(plain) {
		return nil, nil, malformed("plaintext too short for its fields")
	}
	for _, b := range plain[2+n+trailer:] {
		if b != 0 {
			return nil, nil, malformed("padding is not zero")
		}
	}
	return plain[2 : 2+n], plain[2+n : 2+n+trailer], nil
}
