// Package blob describes large sealed content that relays carry in pieces:
// what they need in order to verify a piece, and nothing that opens it.
//
// A blob is ciphertext cut into leaves of 16 KiB (the last may be shorter).
// Its root commits to every leaf and to the length:
//
//	leaf hash  SHA-256(0x00 || leaf)
//	node       SHA-256(0x01 || left || right)
//	root       SHA-256(0x02 || length, 8 bytes big-endian || top)
//
// The tree is that of RFC 9162, section 2.1.1: built upwards in pairs, a node
// without a partner moving up unchanged. Leaves are proven in groups of 32: a
// group proof is the hashes of the group's leaves and the tree nodes beside
// its way to the top, so one proof of at most 1.6 kB opens half a mebibyte,
// and each of its leaves can be checked before it is stored, in any order and
// from any source.
//
// Which leaves a node has is told by a Bitmap, what a relay is asked to carry
// by a Descriptor, which is the payload of a blob bundle.
package blob

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
)

// Fixed by the protocol: changing one breaks other nodes.
const (
	// LeafSize is the size of every leaf but the last, in bytes.
	LeafSize = 16384
	// GroupLeaves is the number of leaves one GroupProof covers.
	GroupLeaves = 32
	// HashSize is the size of a leaf hash, a node and a Root, in bytes.
	HashSize = sha256.Size
	// MaxLength is the length of the largest blob, in bytes: 16 GiB, so that a
	// list of all leaf hashes stays under 32 MiB.
	MaxLength = 16 << 30
	// MaxLeaves is the number of leaves of the largest blob.
	MaxLeaves = MaxLength / LeafSize
)

const (
	leafPrefix = 0x00
	nodePrefix = 0x01
	rootPrefix = 0x02
)

// ErrMalformed is wrapped by every error of a decoder in this package that was
// handed bytes not of its form.
var ErrMalformed = errors.New("malformed")

// ErrLength is wrapped by errors about a blob that is empty or longer than
// MaxLength.
var ErrLength = errors.New("length out of bounds")

// ErrMismatch is wrapped by errors about a leaf or a proof that does not lead
// to the root it was offered for.
var ErrMismatch = errors.New("does not match")

// A Root names a blob: equal roots mean equal bytes.
type Root [HashSize]byte

func (r Root) String() string { return hex.EncodeToString(r[:]) }

// IsZero reports whether r is unset.
func (r Root) IsZero() bool { return r == Root{} }

// NewRoot binds the top of a tree to the blob's length.
func NewRoot(length uint64, top [HashSize]byte) Root {
	var buf [1 + 8 + HashSize]byte
	buf[0] = rootPrefix
	binary.BigEndian.PutUint64(buf[1:], length)
	copy(buf[9:], top[:])
	return sha256.Sum256(buf[:])
}

// LeafHash returns the hash by which a tree holds one leaf.
func LeafHash(leaf []byte) (sum [HashSize]byte) {
	h := sha256.New()
	h.Write([]byte{leafPrefix})
	h.Write(leaf)
	h.Sum(sum[:0])
	return sum
}

func nodeHash(left, right [HashSize]byte) [HashSize]byte {
	var buf [1 + 2*HashSize]byte
	buf[0] = nodePrefix
	copy(buf[1:], left[:])
	copy(buf[1+HashSize:], right[:])
	return sha256.Sum256(buf[:])
}

// Geometry answers how a blob of Length bytes is divided. Its methods are
// meaningful only after Check returned nil.
type Geometry struct{ Length uint64 }

// Check returns an error that wraps ErrLength unless 1 <= Length <= MaxLength.
func (g Geometry) Check() error {
	if g.Length == 0 || g.Length > MaxLength {
		return fmt.Errorf("blob: %d bytes (want 1 to %d): %w", g.Length, uint64(MaxLength), ErrLength)
	}
	return nil
}

// Leaves is the number of leaves.
func (g Geometry) Leaves() int { return int((g.Length + LeafSize - 1) / LeafSize) }

// Groups is the number of groups of leaves.
func (g Geometry) Groups() int { return (g.Leaves() + GroupLeaves - 1) / GroupLeaves }

// LeafLen is the length of leaf i in bytes, 0 if there is no such leaf.
func (g Geometry) LeafLen(i int) int {
	switch n := g.Leaves(); {
	case i < 0 || i >= n:
		return 0
	case i == n-1:
		return int(g.Length - uint64(i)*LeafSize)
	}
	return LeafSize
}

// Offset is where leaf i begins in the blob, in bytes.
func (g Geometry) Offset(i int) int64 { return int64(i) * LeafSize }

// GroupRange returns the leaves of a group as a half-open range, which is
// empty if there is no such group.
func (g Geometry) GroupRange(group int) (first, end int) {
	if group < 0 || group >= g.Groups() {
		return 0, 0
	}
	first = group * GroupLeaves
	return first, min(first+GroupLeaves, g.Leaves())
}

// GroupOf is the group that holds leaf i.
func (g Geometry) GroupOf(i int) int { return i / GroupLeaves }
