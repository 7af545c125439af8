package stranger

import (
	"crypto/sha256"
	"math/bits"
)

// PROTOCOL.md 4 and 7: sets and coded symbols.

const scopes = 5

type print struct{ count, sum uint64 }

func root(prints [scopes]print) []byte {
	var b []byte
	for _, p := range prints {
		b = append(b, join(u64(p.count), u64(p.sum))...)
	}
	h := hash("root", b)
	return h[:16]
}

// mapping calls f for the index of each symbol that holds a short id, until f
// says no.
func mapping(short uint64, f func(i uint64) bool) {
	s, i := short, uint64(0)
	for i <= 65_535 && f(i) {
		s += 0x9e3779b97f4a7c15
		u := (s ^ s>>30) * 0xbf58476d1ce4e5b9
		u = (u ^ u>>27) * 0x94d049bb133111eb
		u ^= u >> 31
		m := max(u>>32, u&(1<<32-1)) + 1
		hi, lo := bits.Mul64(2*i+3, (1<<63)/m-1<<31)
		if lo+(1<<32-1) < lo {
			hi++
		}
		i += max(1, hi<<32|(lo+(1<<32-1))>>32)
	}
}

func checkOf(x uint64) uint32 {
	x ^= x >> 33
	x *= 0xff51afd7ed558ccd
	x ^= x >> 33
	x *= 0xc4ceb9fe1a85ec53
	x ^= x >> 33
	return uint32(x)
}

type symbol struct {
	shorts uint64
	checks uint32
	number int64
}

func (s *symbol) toggle(short uint64, n int64) {
	s.shorts ^= short
	s.checks ^= checkOf(short)
	s.number += n
}

// symbols are the first n of a set.
func symbols(set []uint64, n uint64) []symbol {
	out := make([]symbol, n)
	for _, short := range set {
		mapping(short, func(i uint64) bool {
			if i < n {
				out[i].toggle(short, 1)
			}
			return i < n
		})
	}
	return out
}

// peel finds the difference in the streamer's symbols less our own: what only
// the streamer has, what only we have; done is false if more are needed.
func peel(diff []symbol) (theirs, ours []uint64, done bool) {
	for again := true; again; {
		again = false
		for i := range diff {
			s := diff[i]
			if s.number != 1 && s.number != -1 || s.checks != checkOf(s.shorts) {
				continue
			}
			if s.number == 1 {
				theirs = append(theirs, s.shorts)
			} else {
				ours = append(ours, s.shorts)
			}
			mapping(s.shorts, func(j uint64) bool {
				if j < uint64(len(diff)) {
					diff[j].toggle(s.shorts, -s.number)
				}
				return j < uint64(len(diff))
			})
			again = true
		}
	}
	for _, s := range diff {
		if s != (symbol{}) {
			return nil, nil, false
		}
	}
	return theirs, ours, true
}

// appendSymbol writes the symbol of index i of a set of n.
func appendSymbol(b []byte, s symbol, i, n uint64) []byte {
	return append(b, join(u64(s.shorts), u32(s.checks), zigzag(s.number-int64(2*n/(2+i))))...)
}

func readSymbol(r *reader, i, n uint64) (s symbol) {
	s.shorts = r.u64()
	c := r.bytes(4)
	s.checks = uint32(c[0])<<24 | uint32(c[1])<<16 | uint32(c[2])<<8 | uint32(c[3])
	s.number = r.zigzag() + int64(2*n/(2+i))
	return s
}

// PROTOCOL.md 3: bundles.

type bundle struct{ hop, header, payload []byte }

func (b bundle) id() []byte {
	sum := sha256.Sum256(b.payload)
	h := hash("bundle", u16(len(b.header)), b.header, sum[:])
	return h[:16]
}

// header keys that matter to a peer
type header struct {
	Version    uint64 `cbor:"1,keyasint"`
	Tag        []byte `cbor:"2,keyasint"`
	Precedence uint64 `cbor:"3,keyasint"`
	Lifetime   uint64 `cbor:"4,keyasint"`
	Commitment []byte `cbor:"5,keyasint"`
	Kind       uint64 `cbor:"6,keyasint"`
}

// scope is the set that a bundle belongs to; false for one that is sprayed.
func (h header) scope(size int) (int, bool) {
	switch {
	case h.Kind == 3:
		return 1, true
	case size > 4096:
		return 0, false
	case h.Precedence == 3:
		return 0, true
	}
	return 4 - int(min(h.Precedence, 2)), true
}
