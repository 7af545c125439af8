package blob

import (
	"encoding/binary"
	"fmt"
	"math/bits"
)

// A Bitmap is the set of leaves of one blob that a node has. The zero value is
// the bitmap of a blob without leaves.
type Bitmap struct {
	words []uint64
	n     int // number of leaves
	count int // number of leaves in the set
}

// NewBitmap returns an empty bitmap for a blob of n leaves, 0 <= n <= MaxLeaves.
func NewBitmap(n int) *Bitmap {
	if n < 0 || n > MaxLeaves {
		panic(fmt.Sprintf("blob: bitmap of %d leaves", n)) // callers take n from a checked Geometry
	}
	return &Bitmap{words: make([]uint64, (n+63)/64), n: n}
}

// Len is the number of leaves the bitmap speaks of.
func (b *Bitmap) Len() int { return b.n }

// Count is the number of leaves in the set.
func (b *Bitmap) Count() int { return b.count }

// Full reports whether every leaf is in the set.
func (b *Bitmap) Full() bool { return b.count == b.n }

// Has reports whether leaf i is in the set; a leaf that does not exist is not.
func (b *Bitmap) Has(i int) bool {
	return i >= 0 && i < b.n && b.words[i/64]>>(i%64)&1 == 1
}

// Set puts leaf i, which must exist, into the set and reports whether it is new there.
func (b *Bitmap) Set(i int) bool {
	if b.Has(i) {
		return false
	}
	b.words[i/64] |= 1 << (i % 64)
	b.count++
	return true
}

// Clear takes leaf i, which must exist, out of the set.
func (b *Bitmap) Clear(i int) {
	if b.Has(i) {
		b.words[i/64] &^= 1 << (i % 64)
		b.count--
	}
}

// Next returns the first leaf at or after i that is in the set, or Len.
func (b *Bitmap) Next(i int) int { return b.seek(i, 0) }

// NextMissing returns the first leaf at or after i that is not in the set, or Len.
func (b *Bitmap) NextMissing(i int) int { return b.seek(i, ^uint64(0)) }

// seek finds the first bit at or after i that differs from the flipped one:
// flip 0 looks for ones, flip ^0 for zeros.
func (b *Bitmap) seek(i int, flip uint64) int {
	i = max(i, 0)
	for i < b.n {
		if w := (b.words[i/64] ^ flip) >> (i % 64); w != 0 {
			return min(i+bits.TrailingZeros64(w), b.n)
		}
		i = (i/64 + 1) * 64
	}
	return b.n
}

// The encoded forms of a stretch of a bitmap. Both begin with a byte for the
// form and the first leaf as a varint.
//
//	runs  varints: absent, present, absent, present ... leaves; the first may
//	      be 0, the others not; an odd number of them is permitted
//	bits  number of leaves as a varint, then one bit each, lowest bit first,
//	      unused bits of the last byte zero
//
// Varints are those of encoding/binary, in their shortest form.
const (
	formRuns = 1
	formBits = 2
)

// MinStretch is the smallest limit AppendStretch can work with, in bytes.
const MinStretch = 1 + 4*binary.MaxVarintLen32

// AppendStretch appends to dst as much of the bitmap from leaf first on as fits
// into limit bytes (at least MinStretch), in the form that says more, and
// returns the first leaf it does not speak of: Len when all is said.
func (b *Bitmap) AppendStretch(dst []byte, first, limit int) (out []byte, next int) {
	if limit < MinStretch {
		panic("blob: bitmap stretch limit too small") // a constant of the caller's
	}
	first = min(max(first, 0), b.n)
	runs, runsNext := b.appendRuns(nil, first, limit)
	if bitsNext := b.bitsNext(first, limit); bitsNext > runsNext || bitsNext == runsNext && b.bitsSize(first, bitsNext) < len(runs) {
		return b.appendBits(dst, first, bitsNext), bitsNext
	}
	return append(dst, runs...), runsNext
}

func (b *Bitmap) appendRuns(dst []byte, first, limit int) (out []byte, next int) {
	dst = binary.AppendUvarint(append(dst, formRuns), uint64(first))
	for have := false; first < b.n; have = !have {
		var end int
		if have {
			end = b.NextMissing(first)
		} else {
			end = b.Next(first)
		}
		longer := binary.AppendUvarint(dst, uint64(end-first))
		if len(longer) > limit {
			break
		}
		dst, first = longer, end
	}
	return dst, first
}

// bitsNext is where the bits form from first on must stop to fit limit bytes.
func (b *Bitmap) bitsNext(first, limit int) int {
	room := limit - 1 - 2*binary.MaxVarintLen32
	return min(b.n, first+8*room)
}

func (b *Bitmap) bitsSize(first, end int) int {
	return 1 + uvarintLen(uint64(first)) + uvarintLen(uint64(end-first)) + (end-first+7)/8
}

func (b *Bitmap) appendBits(dst []byte, first, end int) []byte {
	dst = binary.AppendUvarint(append(dst, formBits), uint64(first))
	dst = binary.AppendUvarint(dst, uint64(end-first))
	at := len(dst)
	dst = append(dst, make([]byte, (end-first+7)/8)...)
	for i := b.Next(first); i < end; i = b.Next(i + 1) {
		dst[at+(i-first)/8] |= 1 << ((i - first) % 8)
	}
	return dst
}

// Merge adds to the set what an encoded stretch says is present, and returns
// the range of leaves the stretch spoke of. On error, which wraps
// ErrMalformed, the bitmap is unchanged.
func (b *Bitmap) Merge(raw []byte) (first, end int, err error) {
	dry := func(int, int) {}
	if first, end, err = b.walk(raw, dry); err != nil {
		return 0, 0, err
	}
	b.walk(raw, b.setRange)
	return first, end, nil
}

func (b *Bitmap) setRange(from, to int) {
	for i := from; i < to; i++ {
		b.Set(i)
	}
}

// walk decodes a stretch and calls present for each range of leaves in it.
func (b *Bitmap) walk(raw []byte, present func(from, to int)) (first, end int, err error) {
	if len(raw) == 0 {
		return 0, 0, fmt.Errorf("blob: bitmap: empty: %w", ErrMalformed)
	}
	form := raw[0]
	first, raw, ok := readCount(raw[1:], b.n)
	if !ok {
		return 0, 0, fmt.Errorf("blob: bitmap: first leaf: %w", ErrMalformed)
	}
	switch form {
	case formRuns:
		end, ok = walkRuns(raw, first, b.n, present)
	case formBits:
		end, ok = walkBits(raw, first, b.n, present)
	default:
		ok = false
	}
	if !ok {
		return 0, 0, fmt.Errorf("blob: bitmap of form %d from leaf %d: %w", form, first, ErrMalformed)
	}
	return first, end, nil
}

func walkRuns(raw []byte, at, n int, present func(from, to int)) (end int, ok bool) {
	for k := 0; len(raw) > 0; k++ {
		var run int
		if run, raw, ok = readCount(raw, n-at); !ok || run == 0 && k > 0 {
			return 0, false
		}
		if k%2 == 1 {
			present(at, at+run)
		}
		at += run
	}
	return at, true
}

func walkBits(raw []byte, first, n int, present func(from, to int)) (end int, ok bool) {
	count, raw, ok := readCount(raw, n-first)
	if !ok || len(raw) != (count+7)/8 {
		return 0, false
	}
	if count%8 != 0 && raw[len(raw)-1]>>(count%8) != 0 {
		return 0, false
	}
	for i := range count {
		if raw[i/8]>>(i%8)&1 == 1 {
			present(first+i, first+i+1)
		}
	}
	return first + count, true
}

// readCount reads a varint of at most limit in its shortest form.
func readCount(raw []byte, limit int) (v int, rest []byte, ok bool) {
	u, n := binary.Uvarint(raw)
	if n <= 0 || u > uint64(limit) || n != uvarintLen(u) {
		return 0, nil, false
	}
	return int(u), raw[n:], true
}

func uvarintLen(u uint64) int { return (bits.Len64(u|1) + 6) / 7 }

// maxBitmap is the size of the longest MarshalBinary.
const maxBitmap = MaxLeaves/8 + MinStretch

// MarshalBinary encodes the whole bitmap, for disk: at most 128 KiB and some bytes.
func (b *Bitmap) MarshalBinary() ([]byte, error) {
	raw, _ := b.AppendStretch(nil, 0, maxBitmap)
	return raw, nil
}

// ParseBitmap decodes the whole bitmap of a blob of n leaves, as MarshalBinary
// wrote it.
func ParseBitmap(raw []byte, n int) (*Bitmap, error) {
	if n < 0 || n > MaxLeaves || len(raw) > maxBitmap {
		return nil, fmt.Errorf("blob: bitmap of %d leaves in %d bytes: %w", n, len(raw), ErrMalformed)
	}
	b := NewBitmap(n)
	switch first, end, err := b.Merge(raw); {
	case err != nil:
		return nil, err
	case first != 0 || end != n:
		return nil, fmt.Errorf("blob: bitmap speaks of leaves %d to %d of %d: %w", first, end, n, ErrMalformed)
	}
	return b, nil
}
