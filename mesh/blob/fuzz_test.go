package blob

import (
	"bytes"
	"errors"
	"testing"
)

func FuzzParseProof(f *testing.F) {
	for _, n := range []int{1, 33, 100, 3000} {
		raw, _ := Proof(tree(n), 0).MarshalBinary()
		f.Add(raw)
		f.Add(raw[:len(raw)-1])
	}
	h := tree(100)
	f.Fuzz(func(t *testing.T, raw []byte) {
		p, err := ParseProof(raw)
		if err != nil {
			if !errors.Is(err, ErrMalformed) {
				t.Fatal(err)
			}
			return
		}
		if back, err := p.MarshalBinary(); err != nil || !bytes.Equal(back, raw) {
			t.Fatalf("round trip: %v", err)
		}
		for g := range 4 {
			genuine, _ := Proof(h, g).MarshalBinary()
			if p.Verify(h.Root(), h.Length(), g) == nil && !bytes.Equal(raw, genuine) {
				t.Fatal("a forged proof verifies")
			}
		}
	})
}

func FuzzParseDescriptor(f *testing.F) {
	raw, _ := Descriptor{Root: Root{9}, Length: 5_000_000_000}.MarshalBinary()
	f.Add(raw)
	f.Add(raw[:20])
	f.Fuzz(func(t *testing.T, raw []byte) {
		d, err := ParseDescriptor(raw)
		if err != nil {
			if !errors.Is(err, ErrMalformed) && !errors.Is(err, ErrLength) {
				t.Fatal(err)
			}
			return
		}
		if back, err := d.MarshalBinary(); err != nil || !bytes.Equal(back, raw) {
			t.Fatalf("round trip: %v", err)
		}
	})
}

func FuzzBitmap(f *testing.F) {
	for _, has := range []func(int) bool{
		func(i int) bool { return i%2 == 0 },
		func(i int) bool { return i/50%2 == 0 },
		func(i int) bool { return true },
	} {
		raw, _ := fill(1000, has).MarshalBinary()
		f.Add(raw, uint16(1000))
	}
	f.Fuzz(func(t *testing.T, raw []byte, leaves uint16) {
		b := NewBitmap(int(leaves))
		first, end, err := b.Merge(raw)
		if err != nil {
			if !errors.Is(err, ErrMalformed) || b.Count() != 0 {
				t.Fatalf("%v; count %d", err, b.Count())
			}
			return
		}
		if b.Next(0) < first && b.Count() > 0 || b.Next(end) != b.Len() {
			t.Fatal("leaves outside the stretch were set")
		}
		again, _ := b.MarshalBinary()
		if c, err := ParseBitmap(again, int(leaves)); err != nil || !same(b, c) {
			t.Fatalf("round trip: %v", err)
		}
	})
}

func FuzzParseHashes(f *testing.F) {
	raw, _ := tree(3).AppendBinary(nil)
	f.Add(raw, uint64(3*LeafSize-7))
	f.Fuzz(func(t *testing.T, raw []byte, length uint64) {
		h, err := ParseHashes(raw, length)
		if err != nil {
			if !errors.Is(err, ErrMalformed) && !errors.Is(err, ErrLength) {
				t.Fatal(err)
			}
			return
		}
		if back, _ := h.AppendBinary(nil); !bytes.Equal(back, raw) {
			t.Fatal("round trip")
		}
	})
}
