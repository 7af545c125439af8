package envelope

import (
	"encoding/binary"
	"math/bits"

	"outrider/mesh/identity"
)

// The issuer of an epoch signs the root of a tree over all its wraps, so that
// each wrap can travel alone with its path. The tree is that of RFC 9162,
// section 2.1.1, with labelled hashes:
//
//	leaf  H("wrap-tree", 0x00 || device (16) || prekey number (4) || header length (2) || header || enc || wrapped secret (60) || reply key)
//	node  H("wrap-tree", 0x01 || left || right)
type treeHash [32]byte

var treeLeaf, treeNode = []byte{0}, []byte{1}

func wrapLeaf(device identity.DeviceID, number uint32, header, enc, wrapped, reply []byte) treeHash {
	fixed := append(make([]byte, 0, 22), device[:]...)
	fixed = binary.BigEndian.AppendUint32(fixed, number)
	fixed = binary.BigEndian.AppendUint16(fixed, uint16(len(header)))
	return treeHash(identity.Hash(identity.LabelWrapTree, treeLeaf, fixed, header, enc, wrapped, reply))
}

func treeParent(l, r treeHash) treeHash {
	return treeHash(identity.Hash(identity.LabelWrapTree, treeNode, l[:], r[:]))
}

// treeLevels returns all levels of the tree, the leaves first; a node without
// a partner moves up unchanged.
func treeLevels(leaves []treeHash) [][]treeHash {
	levels := [][]treeHash{leaves}
	for len(leaves) > 1 {
		up := make([]treeHash, 0, (len(leaves)+1)/2)
		for i := 0; i+1 < len(leaves); i += 2 {
			up = append(up, treeParent(leaves[i], leaves[i+1]))
		}
		if len(leaves)%2 == 1 {
			up = append(up, leaves[len(leaves)-1])
		}
		leaves = up
		levels = append(levels, leaves)
	}
	return levels
}

// treePath returns the nodes beside leaf i's way to the root, one after the other.
func treePath(levels [][]treeHash, i int) (path []byte) {
	for _, level := range levels {
		if sibling := i ^ 1; sibling < len(level) {
			path = append(path, level[sibling][:]...)
		}
		i /= 2
	}
	return path
}

// climb returns the root to which a path leads from leaf i of count, and
// whether the path has the right length.
func climb(node treeHash, path []byte, i, count int) (root treeHash, ok bool) {
	if i < 0 || i >= count || len(path)%32 != 0 || len(path)/32 > bits.Len(MaxMembers) {
		return root, false
	}
	for ; count > 1; i, count = i/2, (count+1)/2 {
		sibling := i ^ 1
		if sibling >= count {
			continue
		}
		if len(path) == 0 {
			return root, false
		}
		uncle := treeHash(path[:32])
		if sibling < i {
			node = treeParent(uncle, node)
		} else {
			node = treeParent(node, uncle)
		}
		path = path[32:]
	}
	return node, len(path) == 0
}
