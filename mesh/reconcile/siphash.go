package reconcile

import (
	"encoding/binary"
	"math/bits"
)

// Salt keys the short ids of one network key generation.
type Salt [16]byte

// Short returns the eight-byte short id of a bundle, live or purged.
func (s Salt) Short(id [16]byte, purged bool) uint64 {
	var msg [17]byte
	copy(msg[:], id[:])
	if purged {
		msg[16] = 1
	}
	return s.Hash(msg[:])
}

// Hash is SipHash-2-4 of msg under the salt (Aumasson and Bernstein, 2012).
func (s Salt) Hash(msg []byte) uint64 {
	k0 := binary.LittleEndian.Uint64(s[:8])
	k1 := binary.LittleEndian.Uint64(s[8:])
	h := sip{k0 ^ 0x736f6d6570736575, k1 ^ 0x646f72616e646f6d, k0 ^ 0x6c7967656e657261, k1 ^ 0x7465646279746573}
	last := uint64(len(msg)) << 56
	for len(msg) >= 8 {
		h.block(binary.LittleEndian.Uint64(msg))
		msg = msg[8:]
	}
	for i, b := range msg {
		last |= uint64(b) << (8 * i)
	}
	h.block(last)
	h.v2 ^= 0xff
	for range 4 {
		h.round()
	}
	return h.v0 ^ h.v1 ^ h.v2 ^ h.v3
}

type sip struct{ v0, v1, v2, v3 uint64 }

func (h *sip) block(m uint64) {
	h.v3 ^= m
	h.round()
	h.round()
	h.v0 ^= m
}

func (h *sip) round() {
	h.v0 += h.v1
	h.v2 += h.v3
	h.v1 = bits.RotateLeft64(h.v1, 13) ^ h.v0
	h.v3 = bits.RotateLeft64(h.v3, 16) ^ h.v2
	h.v0 = bits.RotateLeft64(h.v0, 32)
	h.v2 += h.v1
	h.v0 += h.v3
	h.v1 = bits.RotateLeft64(h.v1, 17) ^ h.v2
	h.v3 = bits.RotateLeft64(h.v3, 21) ^ h.v0
	h.v2 = bits.RotateLeft64(h.v2, 32)
}
