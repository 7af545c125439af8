package blob

import "fmt"

const (
	// maxUncles is the height of the largest tree above its groups.
	maxUncles = 15 // 2^15 groups of 512 KiB = MaxLength
	// MaxProof is the size of the longest encoded GroupProof, in bytes.
	MaxProof = 2 + (GroupLeaves+maxUncles)*HashSize
)

// A GroupProof shows that a group of leaves belongs to a blob. A proof says
// nothing until Verify has returned nil; from then on CheckLeaf can be asked.
//
// Encoded: number of leaf hashes (1 byte), number of uncles (1 byte), leaf
// hashes in order, uncles from the group's level upwards.
type GroupProof struct {
	Leaves [][HashSize]byte // hashes of the group's leaves, 1 to GroupLeaves
	Uncles [][HashSize]byte // the nodes beside the group's way to the top, lowest first
}

// Proof returns the proof of group g. If there is no such group the result is
// the zero GroupProof, which verifies against nothing.
func Proof(h Hashes, g int) GroupProof {
	first, end := Geometry{h.length}.GroupRange(g)
	if first == end || len(h.leaves) < end {
		return GroupProof{}
	}
	p := GroupProof{Leaves: h.leaves[first:end]}
	for _, level := range h.levels {
		if sibling := g ^ 1; sibling < len(level) {
			p.Uncles = append(p.Uncles, level[sibling])
		}
		g /= 2
	}
	return p
}

// Verify reports whether p proves group g of the blob of that root and
// length. Errors wrap ErrLength, ErrMalformed or ErrMismatch.
func (p GroupProof) Verify(root Root, length uint64, g int) error {
	geo := Geometry{length}
	if err := geo.Check(); err != nil {
		return err
	}
	first, end := geo.GroupRange(g)
	if first == end {
		return fmt.Errorf("blob: verify proof: no group %d in %d: %w", g, geo.Groups(), ErrMalformed)
	}
	if len(p.Leaves) != end-first {
		return fmt.Errorf("blob: verify proof: %d leaves for a group of %d: %w", len(p.Leaves), end-first, ErrMalformed)
	}
	top, ok := climb(fold(p.Leaves), p.Uncles, g, geo.Groups())
	if !ok {
		return fmt.Errorf("blob: verify proof: %d uncles do not fit group %d of %d: %w", len(p.Uncles), g, geo.Groups(), ErrMalformed)
	}
	if NewRoot(length, top) != root {
		return fmt.Errorf("blob: verify proof of group %d: %w", g, ErrMismatch)
	}
	return nil
}

// climb folds the uncles onto node, which is at place g of a level of the
// given width, and reports whether their number is exactly right.
func climb(node [HashSize]byte, uncles [][HashSize]byte, g, width int) (top [HashSize]byte, ok bool) {
	for ; width > 1; g, width = g/2, (width+1)/2 {
		sibling := g ^ 1
		if sibling >= width {
			continue // no partner: moves up unchanged
		}
		if len(uncles) == 0 {
			return top, false
		}
		if sibling < g {
			node = nodeHash(uncles[0], node)
		} else {
			node = nodeHash(node, uncles[0])
		}
		uncles = uncles[1:]
	}
	return node, len(uncles) == 0
}

// CheckLeaf reports whether leaf is the i-th leaf of the group (counted from
// the group's first), by a proof that has been verified.
func (p GroupProof) CheckLeaf(i int, leaf []byte) error {
	if i < 0 || i >= len(p.Leaves) {
		return fmt.Errorf("blob: check leaf: no leaf %d in a group of %d: %w", i, len(p.Leaves), ErrMalformed)
	}
	if LeafHash(leaf) != p.Leaves[i] {
		return fmt.Errorf("blob: check leaf %d of the group: %w", i, ErrMismatch)
	}
	return nil
}

// MarshalBinary encodes p, which must have at most the hashes of the largest
// blob's proof.
func (p GroupProof) MarshalBinary() ([]byte, error) {
	if len(p.Leaves) == 0 || len(p.Leaves) > GroupLeaves || len(p.Uncles) > maxUncles {
		return nil, fmt.Errorf("blob: encode proof: %d leaves and %d uncles: %w", len(p.Leaves), len(p.Uncles), ErrMalformed)
	}
	b := make([]byte, 0, 2+(len(p.Leaves)+len(p.Uncles))*HashSize)
	b = append(b, byte(len(p.Leaves)), byte(len(p.Uncles)))
	for _, h := range p.Leaves {
		b = append(b, h[:]...)
	}
	for _, h := range p.Uncles {
		b = append(b, h[:]...)
	}
	return b, nil
}

// ParseProof decodes a proof; it must still be verified.
func ParseProof(raw []byte) (GroupProof, error) {
	if len(raw) < 2 {
		return GroupProof{}, fmt.Errorf("blob: parse proof: %d bytes: %w", len(raw), ErrMalformed)
	}
	leaves, uncles := int(raw[0]), int(raw[1])
	if leaves == 0 || leaves > GroupLeaves || uncles > maxUncles || len(raw) != 2+(leaves+uncles)*HashSize {
		return GroupProof{}, fmt.Errorf("blob: parse proof: %d leaves, %d uncles in %d bytes: %w", leaves, uncles, len(raw), ErrMalformed)
	}
	all := make([][HashSize]byte, leaves+uncles)
	for i := range all {
		copy(all[i][:], raw[2+i*HashSize:])
	}
	p := GroupProof{Leaves: all[:leaves:leaves]}
	if uncles > 0 {
		p.Uncles = all[leaves:]
	}
	return p, nil
}
