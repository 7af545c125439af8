package mesh

import (
	"encoding/binary"
	"errors"
	"math/bits"
)

// ErrMalformed is wrapped by every error about a frame that is not of the
// form its type demands.
var ErrMalformed = errors.New("mesh: malformed frame")

// A reader takes a frame apart. The first thing that does not fit makes it
// bad, and everything read from then on is zero.
type reader struct {
	data []byte
	bad  bool
}

func (r *reader) bytes(n int) []byte {
	if r.bad || n < 0 || n > len(r.data) {
		r.bad = true
		return nil
	}
	out := r.data[:n:n]
	r.data = r.data[n:]
	return out
}

func (r *reader) u8() byte {
	if b := r.bytes(1); b != nil {
		return b[0]
	}
	return 0
}

func (r *reader) u64() uint64 {
	if b := r.bytes(8); b != nil {
		return binary.BigEndian.Uint64(b)
	}
	return 0
}

// num reads an unsigned varint of at most limit, in its shortest form.
func (r *reader) num(limit uint64) uint64 {
	if r.bad {
		return 0
	}
	v, n := binary.Uvarint(r.data)
	if n <= 0 || v > limit || n != (bits.Len64(v|1)+6)/7 {
		r.bad = true
		return 0
	}
	r.data = r.data[n:]
	return v
}

// part reads a byte string with its length in front.
func (r *reader) part(limit int) []byte { return r.bytes(int(r.num(uint64(limit)))) }

func (r *reader) id() (id [16]byte) {
	copy(id[:], r.bytes(16))
	return id
}

func (r *reader) root() (id [32]byte) {
	copy(id[:], r.bytes(32))
	return id
}

func (r *reader) rest() []byte { return r.bytes(len(r.data)) }

// words reads what is left as eight-byte words, at most limit.
func (r *reader) words(limit int) []uint64 {
	if r.bad || len(r.data)%8 != 0 || len(r.data)/8 > limit {
		r.bad = true
		return nil
	}
	out := make([]uint64, len(r.data)/8)
	for i := range out {
		out[i] = r.u64()
	}
	return out
}

func (r *reader) end() error {
	if r.bad || len(r.data) != 0 {
		return ErrMalformed
	}
	return nil
}

func appendNum(dst []byte, v uint64) []byte { return binary.AppendUvarint(dst, v) }

func appendPart(dst, b []byte) []byte { return append(appendNum(dst, uint64(len(b))), b...) }

func appendWords(dst []byte, words []uint64) []byte {
	for _, w := range words {
		dst = binary.BigEndian.AppendUint64(dst, w)
	}
	return dst
}
