package reconcile

import "math/bits"

// MaxRice is the largest set AppendRice and ParseRice take.
const MaxRice = 16384

// AppendRice appends a sorted set of distinct 32-bit values as a Golomb-Rice
// coded sequence of differences:
//
//	k      1 B, the Rice parameter, 0 to 31
//	bits   for each value, most significant bit first: the difference to the
//	       previous value less one (the first: the value itself), its
//	       quotient by 2^k in unary (ones ended by a zero), then k bits
//
// The last byte is padded with zeros. The number of values is told apart.
// The parameter is chosen so that 1.5 + log2(2^32/n) bits go to each value.
func AppendRice(dst []byte, sorted []uint32) []byte {
	k := riceParameter(sorted)
	dst = append(dst, k)
	w := bitWriter{out: dst}
	prev := int64(-1)
	for _, v := range sorted {
		d := uint64(int64(v) - prev - 1)
		for range d >> k {
			w.put(1, 1)
		}
		w.put(0, 1)
		w.put(d&(1<<k-1), uint(k))
		prev = int64(v)
	}
	return w.flush()
}

func riceParameter(sorted []uint32) byte {
	if len(sorted) == 0 {
		return 0
	}
	mean := (uint64(sorted[len(sorted)-1]) + 1) / uint64(len(sorted))
	return byte(min(31, max(0, bits.Len64(mean)-1)))
}

// ParseRice reads n values written by AppendRice. The data must hold nothing
// else, and the padding must be zero.
func ParseRice(data []byte, n int) ([]uint32, error) {
	if n < 0 || n > MaxRice || len(data) < 1 || data[0] > 31 {
		return nil, ErrMalformed
	}
	r := bitReader{data: data[1:]}
	k := uint(data[0])
	out := make([]uint32, 0, min(n, 8*len(data)))
	prev := int64(-1)
	for range n {
		v, ok := r.rice(k)
		next := prev + 1 + int64(v)
		if !ok || next > 1<<32-1 {
			return nil, ErrMalformed
		}
		out = append(out, uint32(next))
		prev = next
	}
	if !r.atEnd() {
		return nil, ErrMalformed
	}
	return out, nil
}

type bitWriter struct {
	out  []byte
	acc  uint64
	held uint
}

func (w *bitWriter) put(v uint64, n uint) {
	for n > 0 {
		n--
		w.acc = w.acc<<1 | v>>n&1
		if w.held++; w.held == 8 {
			w.out, w.acc, w.held = append(w.out, byte(w.acc)), 0, 0
		}
	}
}

func (w *bitWriter) flush() []byte {
	if w.held > 0 {
		w.put(0, 8-w.held)
	}
	return w.out
}

type bitReader struct {
	data []byte
	pos  uint
}

func (r *bitReader) bit() (uint64, bool) {
	if r.pos>>3 >= uint(len(r.data)) {
		return 0, false
	}
	b := r.data[r.pos>>3] >> (7 - r.pos&7) & 1
	r.pos++
	return uint64(b), true
}

func (r *bitReader) rice(k uint) (uint64, bool) {
	var q, v uint64
	for {
		b, ok := r.bit()
		if !ok {
			return 0, false
		}
		if b == 0 {
			break
		}
		q++
	}
	for range k {
		b, ok := r.bit()
		if !ok {
			return 0, false
		}
		v = v<<1 | b
	}
	if q > 1<<32>>k {
		return 0, false
	}
	return q<<k | v, true
}

// atEnd reports whether less than a byte of zero padding is left.
func (r *bitReader) atEnd() bool {
	if (r.pos+7)/8 != uint(len(r.data)) {
		return false
	}
	for r.pos < 8*uint(len(r.data)) {
		if b, _ := r.bit(); b != 0 {
			return false
		}
	}
	return true
}
