package reconcile

import (
	"encoding/binary"
	"errors"
	"math/bits"
)

// ErrMalformed is returned for bytes that are not of the form they claim.
var ErrMalformed = errors.New("reconcile: malformed")

// maxCount bounds the count of a symbol from outside.
const maxCount = 1 << 40

func expected(n uint64, i int) int64 {
	hi, lo := bits.Mul64(n, 2)
	if hi >= uint64(2+i) {
		return maxCount
	}
	q, _ := bits.Div64(hi, lo, uint64(2+i))
	return int64(min(q, maxCount))
}

// AppendSymbols appends the wire form of symbols start, start+1, ... of a set
// of n items.
func AppendSymbols(dst []byte, start int, n uint64, cells []Symbol) []byte {
	for i, c := range cells {
		dst = binary.BigEndian.AppendUint64(dst, c.Sum)
		dst = binary.BigEndian.AppendUint32(dst, c.Check)
		dst = binary.AppendVarint(dst, c.Count-expected(n, start+i))
	}
	return dst
}

// ParseSymbols reads what AppendSymbols wrote. All of data must be symbols,
// at least one, and none beyond MaxSymbols.
func ParseSymbols(data []byte, start int, n uint64) ([]Symbol, error) {
	if start < 0 || start >= MaxSymbols || n > maxCount {
		return nil, ErrMalformed
	}
	var out []Symbol
	for i := start; len(data) > 0; i++ {
		if i >= MaxSymbols || len(data) < 13 {
			return nil, ErrMalformed
		}
		c := Symbol{Sum: binary.BigEndian.Uint64(data), Check: binary.BigEndian.Uint32(data[8:])}
		v, k := varint(data[12:])
		if k == 0 || v > maxCount || v < -maxCount {
			return nil, ErrMalformed
		}
		c.Count = v + expected(n, i)
		out = append(out, c)
		data = data[12+k:]
	}
	if out == nil {
		return nil, ErrMalformed
	}
	return out, nil
}

// varint reads a zig-zag varint in its shortest form; k is 0 if it is not.
func varint(data []byte) (v int64, k int) {
	v, k = binary.Varint(data)
	if k <= 0 || (k > 1 && data[k-1] == 0) {
		return 0, 0
	}
	return v, k
}
