package blob

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"testing"

	"pgregory.net/rapid"
)

// content returns n deterministic bytes.
func content(n int) []byte {
	b := make([]byte, 0, n+sha256.Size)
	for i := uint64(0); len(b) < n; i++ {
		sum := sha256.Sum256(binary.BigEndian.AppendUint64([]byte("blob"), i))
		b = append(b, sum[:]...)
	}
	return b[:n]
}

func leavesOf(b []byte) (leaves [][]byte) {
	for len(b) > 0 {
		n := min(len(b), LeafSize)
		leaves, b = append(leaves, b[:n]), b[n:]
	}
	return leaves
}

func build(t testing.TB, b []byte) (Root, Hashes) {
	t.Helper()
	var bld Builder
	for _, l := range leavesOf(b) {
		if err := bld.AddLeaf(l); err != nil {
			t.Fatal(err)
		}
	}
	if bld.Length() != uint64(len(b)) {
		t.Fatalf("length %d, want %d", bld.Length(), len(b))
	}
	return bld.Finish()
}

// rfc9162 is the recursive definition of RFC 9162, section 2.1.1.
func rfc9162(hashes [][HashSize]byte) [HashSize]byte {
	if len(hashes) == 1 {
		return hashes[0]
	}
	k := 1
	for 2*k < len(hashes) {
		k *= 2
	}
	l, r := rfc9162(hashes[:k]), rfc9162(hashes[k:])
	return sha256.Sum256(append(append([]byte{1}, l[:]...), r[:]...))
}

// tree makes Hashes of n leaves out of thin air, the last one short.
func tree(n int) Hashes {
	leaves := make([][HashSize]byte, n)
	for i := range leaves {
		leaves[i] = sha256.Sum256(binary.BigEndian.AppendUint32(nil, uint32(i)))
	}
	return newHashes(uint64(n)*LeafSize-7, leaves)
}

func TestTreeIsThatOfRFC9162(t *testing.T) {
	for n := 1; n < 300; n++ {
		h := tree(n)
		if want := NewRoot(h.Length(), rfc9162(h.leaves)); h.Root() != want {
			t.Fatalf("%d leaves: root %v, want %v", n, h.Root(), want)
		}
	}
	for _, n := range []int{4095, 4096, 4097, 32*1024 + 1} {
		h := tree(n)
		if want := NewRoot(h.Length(), rfc9162(h.leaves)); h.Root() != want {
			t.Fatalf("%d leaves: root %v, want %v", n, h.Root(), want)
		}
	}
}

func TestEveryGroupIsProven(t *testing.T) {
	for _, n := range []int{1, 2, 31, 32, 33, 63, 64, 65, 96, 97, 321, 1024, 1025, 3000} {
		h := tree(n)
		root, groups := h.Root(), Geometry{h.Length()}.Groups()
		for g := range groups {
			p := Proof(h, g)
			if err := p.Verify(root, h.Length(), g); err != nil {
				t.Fatalf("%d leaves, group %d: %v", n, g, err)
			}
			if other := (g + 1) % groups; other != g {
				if err := p.Verify(root, h.Length(), other); err == nil {
					t.Fatalf("%d leaves: proof of group %d taken for %d", n, g, other)
				}
			}
			raw, err := p.MarshalBinary()
			if err != nil || len(raw) > MaxProof {
				t.Fatalf("encode: %d bytes, %v", len(raw), err)
			}
			q, err := ParseProof(raw)
			if err != nil || q.Verify(root, h.Length(), g) != nil {
				t.Fatalf("decode: %v", err)
			}
		}
		for _, g := range []int{-1, groups} {
			if err := Proof(h, g).Verify(root, h.Length(), g); !errors.Is(err, ErrMalformed) {
				t.Fatalf("group %d of %d: %v", g, groups, err)
			}
		}
	}
}

func TestLargestBlobProof(t *testing.T) {
	// 5 GB and the very limit, without hashing that much data.
	for _, length := range []uint64{5_000_000_000, MaxLength} {
		n := Geometry{length}.Leaves()
		h := newHashes(length, make([][HashSize]byte, n))
		for _, g := range []int{0, Geometry{length}.Groups() / 2, Geometry{length}.Groups() - 1} {
			raw, err := Proof(h, g).MarshalBinary()
			if err != nil {
				t.Fatal(err)
			}
			p, err := ParseProof(raw)
			if err != nil {
				t.Fatal(err)
			}
			if err := p.Verify(h.Root(), length, g); err != nil {
				t.Fatal(err)
			}
		}
	}
}

func TestLeavesAreChecked(t *testing.T) {
	b := content(40*LeafSize + 5)
	root, h := build(t, b)
	leaves := leavesOf(b)
	p := Proof(h, 1)
	if err := p.Verify(root, h.Length(), 1); err != nil {
		t.Fatal(err)
	}
	for i, leaf := range leaves[GroupLeaves:] {
		if err := p.CheckLeaf(i, leaf); err != nil {
			t.Fatal(err)
		}
	}
	for name, leaf := range map[string][]byte{
		"swapped":   leaves[GroupLeaves+1],
		"truncated": leaves[GroupLeaves][:LeafSize-1],
		"longer":    append(bytes.Clone(leaves[GroupLeaves]), 0),
		"empty":     nil,
		"flipped":   append([]byte{leaves[GroupLeaves][0] ^ 1}, leaves[GroupLeaves][1:]...),
	} {
		if err := p.CheckLeaf(0, leaf); !errors.Is(err, ErrMismatch) {
			t.Errorf("%s leaf: %v", name, err)
		}
	}
	for _, i := range []int{-1, len(p.Leaves)} {
		if err := p.CheckLeaf(i, leaves[0]); !errors.Is(err, ErrMalformed) {
			t.Errorf("leaf %d: %v", i, err)
		}
	}
}

func TestProofOfAnotherBlobIsRefused(t *testing.T) {
	h := tree(100)
	root, length := h.Root(), h.Length()
	p := Proof(h, 2)
	flip := func(change func(*GroupProof)) GroupProof {
		q := GroupProof{append([][HashSize]byte{}, p.Leaves...), append([][HashSize]byte{}, p.Uncles...)}
		change(&q)
		return q
	}
	cases := map[string]struct {
		p      GroupProof
		length uint64
		want   error
	}{
		"leaf changed":        {flip(func(q *GroupProof) { q.Leaves[31][0] ^= 1 }), length, ErrMismatch},
		"leaves swapped":      {flip(func(q *GroupProof) { q.Leaves[0], q.Leaves[1] = q.Leaves[1], q.Leaves[0] }), length, ErrMismatch},
		"uncle changed":       {flip(func(q *GroupProof) { q.Uncles[0][0] ^= 1 }), length, ErrMismatch},
		"uncle missing":       {flip(func(q *GroupProof) { q.Uncles = q.Uncles[1:] }), length, ErrMalformed},
		"uncle too many":      {flip(func(q *GroupProof) { q.Uncles = append(q.Uncles, q.Uncles[0]) }), length, ErrMalformed},
		"leaf missing":        {flip(func(q *GroupProof) { q.Leaves = q.Leaves[1:] }), length, ErrMalformed},
		"length one less":     {p, length - 1, ErrMismatch},
		"length zero":         {p, 0, ErrLength},
		"length one too many": {p, MaxLength + 1, ErrLength},
		"length 2^40":         {p, 1 << 40, ErrLength},
		"length 2^64-1":       {p, 1<<64 - 1, ErrLength},
	}
	for name, c := range cases {
		if err := c.p.Verify(root, c.length, 2); !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", name, err, c.want)
		}
	}
}

func TestBuilderRefuses(t *testing.T) {
	full := make([]byte, LeafSize)
	var b Builder
	for name, leaf := range map[string][]byte{"empty": nil, "too long": make([]byte, LeafSize+1)} {
		if err := b.AddLeaf(leaf); !errors.Is(err, ErrLength) {
			t.Errorf("%s leaf: %v", name, err)
		}
	}
	if root, _ := b.Finish(); !root.IsZero() {
		t.Error("a blob without leaves has a root")
	}
	if err := errors.Join(b.AddLeaf(full), b.AddLeaf(full[:1])); err != nil {
		t.Fatal(err)
	}
	if err := b.AddLeaf(full); !errors.Is(err, ErrLength) {
		t.Errorf("leaf after a short one: %v", err)
	}
	b = Builder{length: MaxLength}
	if err := b.AddLeaf(full[:1]); !errors.Is(err, ErrLength) {
		t.Errorf("one past the limit: %v", err)
	}
}

func TestGeometry(t *testing.T) {
	for _, c := range []struct {
		length         uint64
		leaves, groups int
		last           int
	}{
		{1, 1, 1, 1},
		{LeafSize, 1, 1, LeafSize},
		{LeafSize + 1, 2, 1, 1},
		{32 * LeafSize, 32, 1, LeafSize},
		{32*LeafSize + 9, 33, 2, 9},
		{5_000_000_000, 305_176, 9537, 12_800},
		{MaxLength, MaxLeaves, MaxLeaves / 32, LeafSize},
	} {
		g := Geometry{c.length}
		if err := g.Check(); err != nil {
			t.Fatal(err)
		}
		if g.Leaves() != c.leaves || g.Groups() != c.groups || g.LeafLen(c.leaves-1) != c.last {
			t.Errorf("%d: %d leaves, %d groups, last %d", c.length, g.Leaves(), g.Groups(), g.LeafLen(c.leaves-1))
		}
		if g.LeafLen(-1) != 0 || g.LeafLen(c.leaves) != 0 {
			t.Errorf("%d: a leaf outside the blob has a length", c.length)
		}
		first, end := g.GroupRange(c.groups - 1)
		if end != c.leaves || first != (c.groups-1)*GroupLeaves || g.GroupOf(first) != c.groups-1 {
			t.Errorf("%d: last group %d to %d", c.length, first, end)
		}
		if a, b := g.GroupRange(c.groups); a != b {
			t.Errorf("%d: a group outside the blob has leaves", c.length)
		}
		if g.Offset(c.leaves-1)+int64(c.last) != int64(c.length) {
			t.Errorf("%d: last leaf at %d", c.length, g.Offset(c.leaves-1))
		}
	}
	for _, length := range []uint64{0, MaxLength + 1, 1 << 40, 1<<64 - 1} {
		if err := (Geometry{length}).Check(); !errors.Is(err, ErrLength) {
			t.Errorf("%d bytes: %v", length, err)
		}
	}
}

func TestHashesRoundTrip(t *testing.T) {
	h := tree(77)
	raw, err := h.AppendBinary(nil)
	if err != nil {
		t.Fatal(err)
	}
	g, err := ParseHashes(raw, h.Length())
	if err != nil || g.Root() != h.Root() || g.Leaf(76) != h.Leaf(76) {
		t.Fatalf("round trip: %v", err)
	}
	for _, bad := range [][]byte{nil, raw[1:], append(raw, 0)} {
		if _, err := ParseHashes(bad, h.Length()); !errors.Is(err, ErrMalformed) {
			t.Errorf("%d bytes: %v", len(bad), err)
		}
	}
	if _, err := ParseHashes(nil, 1<<40); !errors.Is(err, ErrLength) {
		t.Errorf("2^40 bytes: %v", err)
	}
}

func TestProofEncodingIsStrict(t *testing.T) {
	raw, err := Proof(tree(100), 1).MarshalBinary()
	if err != nil {
		t.Fatal(err)
	}
	for name, bad := range map[string][]byte{
		"empty":           {},
		"truncated":       raw[:len(raw)-1],
		"trailing":        append(bytes.Clone(raw), 0),
		"no leaves":       append([]byte{0, raw[1]}, raw[2:]...),
		"33 leaves":       append([]byte{33, 0}, make([]byte, 33*HashSize)...),
		"16 uncles":       append([]byte{1, 16}, make([]byte, 17*HashSize)...),
		"uncles miscount": append([]byte{raw[0], raw[1] + 1}, raw[2:]...),
	} {
		if _, err := ParseProof(bad); !errors.Is(err, ErrMalformed) {
			t.Errorf("%s: %v", name, err)
		}
	}
	for _, p := range []GroupProof{{}, {Leaves: make([][HashSize]byte, 33)}, {Leaves: make([][HashSize]byte, 1), Uncles: make([][HashSize]byte, 16)}} {
		if _, err := p.MarshalBinary(); !errors.Is(err, ErrMalformed) {
			t.Errorf("encoded %d leaves, %d uncles: %v", len(p.Leaves), len(p.Uncles), err)
		}
	}
}

func TestDescriptor(t *testing.T) {
	d := Descriptor{Root: Root{1, 2, 3}, Length: 5_000_000_000}
	raw, err := d.MarshalBinary()
	if err != nil || len(raw) != DescriptorSize {
		t.Fatalf("%d bytes, %v", len(raw), err)
	}
	if got, err := ParseDescriptor(raw); err != nil || got != d {
		t.Fatalf("%+v, %v", got, err)
	}
	with := func(at int, v byte) []byte { b := bytes.Clone(raw); b[at] = v; return b }
	for name, c := range map[string]struct {
		raw  []byte
		want error
	}{
		"empty":     {nil, ErrMalformed},
		"truncated": {raw[:len(raw)-1], ErrMalformed},
		"trailing":  {append(bytes.Clone(raw), 0), ErrMalformed},
		"version 2": {with(0, 2), ErrMalformed},
		"2^40":      {with(DescriptorSize-6, 1), ErrLength},
		"no length": {append(bytes.Clone(raw[:33]), make([]byte, 8)...), ErrLength},
		"no root":   {append(append([]byte{1}, make([]byte, 32)...), raw[33:]...), ErrMalformed},
	} {
		if _, err := ParseDescriptor(c.raw); !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", name, err, c.want)
		}
	}
	if _, err := (Descriptor{Root: Root{1}, Length: MaxLength + 1}).MarshalBinary(); !errors.Is(err, ErrLength) {
		t.Errorf("one past the limit: %v", err)
	}
}

// A blob arrives leaf by leaf in any order from sources that lie.
func TestBlobArrivesInAnyOrder(t *testing.T) {
	b := content(70*LeafSize + 100)
	root, h := build(t, b)
	leaves, geo := leavesOf(b), Geometry{h.Length()}
	rapid.Check(t, func(t *rapid.T) {
		have := NewBitmap(geo.Leaves())
		order := rapid.Permutation(seq(geo.Leaves())).Draw(t, "order")
		for _, i := range order {
			p := Proof(h, geo.GroupOf(i))
			if err := p.Verify(root, h.Length(), geo.GroupOf(i)); err != nil {
				t.Fatal(err)
			}
			first, _ := geo.GroupRange(geo.GroupOf(i))
			lie := rapid.IntRange(0, len(leaves)-1).Draw(t, "lie")
			if err := p.CheckLeaf(i-first, leaves[lie]); (err == nil) != (lie == i) {
				t.Fatalf("leaf %d offered as %d: %v", lie, i, err)
			}
			if p.CheckLeaf(i-first, leaves[i]) == nil {
				have.Set(i)
			}
		}
		if !have.Full() {
			t.Fatalf("%d of %d", have.Count(), have.Len())
		}
	})
}

func seq(n int) []int {
	s := make([]int, n)
	for i := range s {
		s[i] = i
	}
	return s
}
