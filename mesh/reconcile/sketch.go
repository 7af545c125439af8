package reconcile

import (
	"crypto/sha256"
	"encoding/binary"
	"iter"
	"math/bits"
)

// A Fingerprint tells equal sets from different ones. It does not depend on
// the order in which items were added.
type Fingerprint struct {
	Count uint64
	Sum   uint64
}

// Root combines the fingerprints of all scopes, in the protocol's order.
func Root(scopes ...Fingerprint) (root [16]byte) {
	h := sha256.New()
	h.Write([]byte("outrider/v1/root\x00"))
	var b [16]byte
	for _, f := range scopes {
		binary.BigEndian.PutUint64(b[:8], f.Count)
		binary.BigEndian.PutUint64(b[8:], f.Sum)
		h.Write(b[:])
	}
	copy(root[:], h.Sum(nil))
	return root
}

// A Symbol is one coded symbol.
type Symbol struct {
	Sum   uint64
	Count int64
	Check uint32
}

func (c *Symbol) add(short uint64, n int64) {
	c.Sum ^= short
	c.Check ^= check(short)
	c.Count += n
}

func (c *Symbol) pure() bool {
	return (c.Count == 1 || c.Count == -1) && c.Check == check(c.Sum)
}

func (c *Symbol) empty() bool { return *c == Symbol{} }

// check is a 32-bit hash of a short id (the finaliser of MurmurHash3). It
// need not be keyed: the short id is.
func check(x uint64) uint32 {
	x ^= x >> 33
	x *= 0xff51afd7ed558ccd
	x ^= x >> 33
	x *= 0xc4ceb9fe1a85ec53
	x ^= x >> 33
	return uint32(x)
}

// MaxSymbols is the longest prefix of symbols that is ever computed.
const MaxSymbols = 1 << 16

// A walk visits the indices of the symbols that hold one short id.
type walk struct{ state, index uint64 }

func startWalk(short uint64) walk { return walk{state: short} }

func (w *walk) next() {
	w.state += 0x9e3779b97f4a7c15
	u := w.state
	u = (u ^ u>>30) * 0xbf58476d1ce4e5b9
	u = (u ^ u>>27) * 0x94d049bb133111eb
	u ^= u >> 31
	s := max(u>>32, u&0xffffffff) + 1
	hi, lo := bits.Mul64(2*w.index+3, 1<<63/s-1<<31)
	if hi >= 1<<30 {
		w.index = 1 << 62 // beyond every prefix
		return
	}
	step := hi<<32 | lo>>32
	if lo&0xffffffff != 0 {
		step++
	}
	w.index += max(1, step)
}

// A Sketch is a set of short ids, kept as its fingerprint and a prefix of its
// symbols. Adding or removing an item touches O(log m) of m symbols.
type Sketch struct {
	print Fingerprint
	cells []Symbol
	base  int
}

// NewSketch returns an empty set that keeps m symbols up to date.
func NewSketch(m int) *Sketch {
	m = min(max(m, 1), MaxSymbols)
	return &Sketch{cells: make([]Symbol, m), base: m}
}

// Add puts a short id into the set. It must not be in it.
func (s *Sketch) Add(short uint64) { s.apply(short, 1) }

// Remove takes a short id out of the set. It must be in it.
func (s *Sketch) Remove(short uint64) { s.apply(short, -1) }

func (s *Sketch) apply(short uint64, n int64) {
	s.print.Count += uint64(n)
	s.print.Sum += short * uint64(n)
	for w := startWalk(short); w.index < uint64(len(s.cells)); w.next() {
		s.cells[w.index].add(short, n)
	}
}

// Fingerprint returns the set's fingerprint.
func (s *Sketch) Fingerprint() Fingerprint { return s.print }

// Len returns how many symbols are kept.
func (s *Sketch) Len() int { return len(s.cells) }

// Grow extends the prefix to m symbols, at most MaxSymbols. Items must yield
// the whole set; the cost is one walk for each item.
func (s *Sketch) Grow(m int, items iter.Seq[uint64]) {
	m = min(m, MaxSymbols)
	from := uint64(len(s.cells))
	if uint64(m) <= from {
		return
	}
	s.cells = append(s.cells, make([]Symbol, m-len(s.cells))...)
	for short := range items {
		for w := startWalk(short); w.index < uint64(m); w.next() {
			if w.index >= from {
				s.cells[w.index].add(short, 1)
			}
		}
	}
}

// Shrink gives back what Grow added.
func (s *Sketch) Shrink() {
	if len(s.cells) > s.base {
		s.cells = append([]Symbol(nil), s.cells[:s.base]...)
	}
}

// A Change is an item that entered (Delta 1) or left (Delta -1) a set.
type Change struct {
	Short uint64
	Delta int8
}

// Range returns symbols [from, to) of the set as it was before the given
// changes, so that a stream of symbols stays consistent while the set moves
// on. To must not exceed Len.
func (s *Sketch) Range(from, to int, since []Change) []Symbol {
	out := append([]Symbol(nil), s.cells[from:to]...)
	for _, c := range since {
		for w := startWalk(c.Short); w.index < uint64(to); w.next() {
			if w.index >= uint64(from) {
				out[w.index-uint64(from)].add(c.Short, -int64(c.Delta))
			}
		}
	}
	return out
}
