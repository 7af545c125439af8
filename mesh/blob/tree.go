package blob

import (
	"crypto/sha256"
	"fmt"
	"hash"
)

// A Builder computes a blob's root from its leaves, given in order. The zero
// value is ready for use.
type Builder struct {
	hashes [][HashSize]byte
	length uint64
	ended  bool // a short leaf was added: it is the last
	digest hash.Hash
}

// AddLeaf adds the next leaf: LeafSize bytes, or fewer for the last one.
func (b *Builder) AddLeaf(leaf []byte) error {
	switch {
	case b.ended:
		return fmt.Errorf("blob: add leaf %d after a short one: %w", len(b.hashes), ErrLength)
	case len(leaf) == 0 || len(leaf) > LeafSize:
		return fmt.Errorf("blob: add leaf %d of %d bytes: %w", len(b.hashes), len(leaf), ErrLength)
	case b.length+uint64(len(leaf)) > MaxLength:
		return fmt.Errorf("blob: add leaf %d: more than %d bytes: %w", len(b.hashes), uint64(MaxLength), ErrLength)
	}
	if b.digest == nil {
		b.digest = sha256.New()
	}
	b.digest.Reset()
	b.digest.Write(leafMark)
	b.digest.Write(leaf)
	b.hashes = append(b.hashes, [HashSize]byte{})
	b.digest.Sum(b.hashes[len(b.hashes)-1][:0])
	b.length += uint64(len(leaf))
	b.ended = len(leaf) < LeafSize
	return nil
}

var leafMark = []byte{leafPrefix}

// Length is the number of bytes added so far.
func (b *Builder) Length() uint64 { return b.length }

// Finish returns the root and all hashes of the tree. Without a leaf the
// result is the zero Root, which no descriptor accepts.
func (b *Builder) Finish() (Root, Hashes) {
	if len(b.hashes) == 0 {
		return Root{}, Hashes{}
	}
	h := newHashes(b.length, b.hashes)
	return h.Root(), h
}

// Hashes is a whole hash tree: all that is needed to prove any group.
type Hashes struct {
	length uint64
	leaves [][HashSize]byte
	levels [][][HashSize]byte // levels[0] are the groups' roots, the last has one node
}

// ParseHashes rebuilds a tree from the encoded leaf hashes of a blob of the
// given length. The caller compares Root with the root it knows.
func ParseHashes(raw []byte, length uint64) (Hashes, error) {
	g := Geometry{length}
	if err := g.Check(); err != nil {
		return Hashes{}, err
	}
	if len(raw) != g.Leaves()*HashSize {
		return Hashes{}, fmt.Errorf("blob: parse hashes: %d bytes for %d leaves: %w", len(raw), g.Leaves(), ErrMalformed)
	}
	leaves := make([][HashSize]byte, g.Leaves())
	for i := range leaves {
		copy(leaves[i][:], raw[i*HashSize:])
	}
	return newHashes(length, leaves), nil
}

func newHashes(length uint64, leaves [][HashSize]byte) Hashes {
	groups := make([][HashSize]byte, 0, Geometry{length}.Groups())
	for first := 0; first < len(leaves); first += GroupLeaves {
		groups = append(groups, fold(leaves[first:min(first+GroupLeaves, len(leaves))]))
	}
	h := Hashes{length: length, leaves: leaves, levels: [][][HashSize]byte{groups}}
	for len(groups) > 1 {
		groups = pairUp(groups)
		h.levels = append(h.levels, groups)
	}
	return h
}

// pairUp returns the level above nodes; a last node without a partner is
// moved up as it is.
func pairUp(nodes [][HashSize]byte) [][HashSize]byte {
	up := make([][HashSize]byte, 0, (len(nodes)+1)/2)
	for i := 0; i+1 < len(nodes); i += 2 {
		up = append(up, nodeHash(nodes[i], nodes[i+1]))
	}
	if len(nodes)%2 == 1 {
		up = append(up, nodes[len(nodes)-1])
	}
	return up
}

// fold returns the top of the tree over at most GroupLeaves hashes, of which
// there is at least one.
func fold(hashes [][HashSize]byte) [HashSize]byte {
	var buf [GroupLeaves][HashSize]byte
	n := copy(buf[:], hashes)
	for n > 1 {
		m := 0
		for i := 0; i+1 < n; i += 2 {
			buf[m] = nodeHash(buf[i], buf[i+1])
			m++
		}
		if n%2 == 1 {
			buf[m] = buf[n-1]
			m++
		}
		n = m
	}
	return buf[0]
}

// Length is the length of the blob in bytes.
func (h Hashes) Length() uint64 { return h.length }

// Root returns the blob's root, zero for a zero Hashes.
func (h Hashes) Root() Root {
	if len(h.levels) == 0 {
		return Root{}
	}
	return NewRoot(h.length, h.levels[len(h.levels)-1][0])
}

// Leaf returns the hash of leaf i, which must exist.
func (h Hashes) Leaf(i int) [HashSize]byte { return h.leaves[i] }

// AppendBinary appends the leaf hashes in order; ParseHashes reads them.
func (h Hashes) AppendBinary(b []byte) ([]byte, error) {
	for i := range h.leaves {
		b = append(b, h.leaves[i][:]...)
	}
	return b, nil
}
