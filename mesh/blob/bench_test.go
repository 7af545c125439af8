package blob

import "testing"

func BenchmarkAddLeaf(b *testing.B) {
	leaf := content(LeafSize)
	b.SetBytes(LeafSize)
	b.ReportAllocs()
	bld := new(Builder)
	for b.Loop() {
		if len(bld.hashes) == 4096 {
			bld = new(Builder)
		}
		if err := bld.AddLeaf(leaf); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkVerifyProof5GB(b *testing.B) {
	const length = 5_000_000_000
	h := newHashes(length, make([][HashSize]byte, Geometry{length}.Leaves()))
	p, root := Proof(h, 4000), h.Root()
	b.ReportAllocs()
	for b.Loop() {
		if err := p.Verify(root, length, 4000); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkBitmapStretch5GB(b *testing.B) {
	bm := fill(Geometry{5_000_000_000}.Leaves(), func(i int) bool { return i/GroupLeaves%2 == 0 })
	b.ReportAllocs()
	var out []byte
	for b.Loop() {
		out, _ = bm.AppendStretch(out[:0], 0, 1024)
	}
	b.ReportMetric(float64(len(out)), "wire-B")
}
