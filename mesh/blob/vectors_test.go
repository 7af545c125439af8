package blob

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"flag"
	"os"
	"testing"
)

var update = flag.Bool("update", false, "rewrite testdata/vectors")

// A vector of testdata/vectors/blob.json. The blob is the first Length bytes
// of SHA-256("blob" || 0, 8 bytes big-endian) || SHA-256("blob" || 1) || ...
type vector struct {
	Length     int    `json:"length"`
	Root       string `json:"root"`
	Descriptor string `json:"descriptor"`
	Group      int    `json:"group"`
	Proof      string `json:"proof"`
}

type bitmapVector struct {
	Name   string `json:"name"`
	Leaves int    `json:"leaves"`
	Has    []int  `json:"has"`
	Wire   string `json:"wire"`
}

type badVector struct {
	Name  string `json:"name"`
	Kind  string `json:"kind"` // descriptor, proof, bitmap (of 100 leaves)
	Wire  string `json:"wire"`
	Class string `json:"class"` // malformed, length
}

type vectors struct {
	Blobs   []vector       `json:"blobs"`
	Bitmaps []bitmapVector `json:"bitmaps"`
	Bad     []badVector    `json:"bad"`
}

const vectorFile = "testdata/vectors/blob.json"

func TestVectors(t *testing.T) {
	if *update {
		writeVectors(t)
	}
	raw, err := os.ReadFile(vectorFile)
	if err != nil {
		t.Fatal(err)
	}
	var v vectors
	if err := json.Unmarshal(raw, &v); err != nil {
		t.Fatal(err)
	}
	if len(v.Blobs) == 0 || len(v.Bitmaps) == 0 || len(v.Bad) == 0 {
		t.Fatal("no vectors")
	}
	for _, b := range v.Blobs {
		if got := makeVector(t, b.Length, b.Group); got != b {
			t.Errorf("blob of %d bytes: got %+v", b.Length, got)
		}
		d, err := ParseDescriptor(unhex(t, b.Descriptor))
		if err != nil || d.Root.String() != b.Root || d.Length != uint64(b.Length) {
			t.Errorf("descriptor of %d bytes: %v", b.Length, err)
			continue
		}
		p, err := ParseProof(unhex(t, b.Proof))
		if err != nil || p.Verify(d.Root, d.Length, b.Group) != nil {
			t.Errorf("proof in %d bytes: %v", b.Length, err)
		}
	}
	for _, b := range v.Bitmaps {
		if got := makeBitmapVector(b.Name, b.Leaves, b.Has); got.Wire != b.Wire {
			t.Errorf("bitmap %s: got %s", b.Name, got.Wire)
		}
		m, err := ParseBitmap(unhex(t, b.Wire), b.Leaves)
		if err != nil || m.Count() != len(b.Has) {
			t.Errorf("bitmap %s: %v", b.Name, err)
			continue
		}
		for _, i := range b.Has {
			if !m.Has(i) {
				t.Errorf("bitmap %s: leaf %d missing", b.Name, i)
			}
		}
	}
	for _, b := range v.Bad {
		checkBad(t, b)
	}
}

func checkBad(t *testing.T, b badVector) {
	t.Helper()
	var err error
	switch raw := unhex(t, b.Wire); b.Kind {
	case "descriptor":
		_, err = ParseDescriptor(raw)
	case "proof":
		_, err = ParseProof(raw)
	case "bitmap":
		_, err = ParseBitmap(raw, 100)
	default:
		t.Fatalf("%s: unknown kind %s", b.Name, b.Kind)
	}
	want := map[string]error{"malformed": ErrMalformed, "length": ErrLength}[b.Class]
	if want == nil || !errors.Is(err, want) {
		t.Errorf("%s: %v, want %s", b.Name, err, b.Class)
	}
}

func makeVector(t *testing.T, length, group int) vector {
	t.Helper()
	root, h := build(t, content(length))
	d, err := Descriptor{root, uint64(length)}.MarshalBinary()
	if err != nil {
		t.Fatal(err)
	}
	p, err := Proof(h, group).MarshalBinary()
	if err != nil {
		t.Fatal(err)
	}
	return vector{length, root.String(), hex.EncodeToString(d), group, hex.EncodeToString(p)}
}

func makeBitmapVector(name string, leaves int, has []int) bitmapVector {
	b := NewBitmap(leaves)
	for _, i := range has {
		b.Set(i)
	}
	wire, _ := b.MarshalBinary()
	return bitmapVector{name, leaves, has, hex.EncodeToString(wire)}
}

func unhex(t *testing.T, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(s)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func writeVectors(t *testing.T) {
	t.Helper()
	var v vectors
	for _, c := range [][2]int{{1, 0}, {LeafSize, 0}, {LeafSize + 1, 0}, {33 * LeafSize, 1}, {100*LeafSize - 5, 2}} {
		v.Blobs = append(v.Blobs, makeVector(t, c[0], c[1]))
	}
	odd := []int{}
	for i := 1; i < 40; i += 2 {
		odd = append(odd, i)
	}
	v.Bitmaps = []bitmapVector{
		makeBitmapVector("empty", 300, []int{}),
		makeBitmapVector("full", 5, []int{0, 1, 2, 3, 4}),
		makeBitmapVector("one hole", 8, []int{0, 1, 2, 4, 5, 6, 7}),
		makeBitmapVector("every other", 40, odd),
		makeBitmapVector("no leaves", 0, []int{}),
	}
	zeros := hex.EncodeToString(make([]byte, 32))
	v.Bad = []badVector{
		{"no root", "descriptor", "01" + zeros + "0000000000000001", "malformed"},
		{"version 2", "descriptor", "02" + "11" + zeros[2:] + "0000000000000001", "malformed"},
		{"no length", "descriptor", "01" + "11" + zeros[2:] + "0000000000000000", "length"},
		{"one past the limit", "descriptor", "01" + "11" + zeros[2:] + "0000000400000001", "length"},
		{"2^40", "descriptor", "01" + "11" + zeros[2:] + "0000010000000000", "length"},
		{"no leaves", "proof", "0000", "malformed"},
		{"hash missing", "proof", "0101" + zeros, "malformed"},
		{"runs past the end", "bitmap", "01003233", "malformed"},
		{"unused bits set", "bitmap", "02000780", "malformed"},
		{"not the whole", "bitmap", "010063", "malformed"},
	}
	raw, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll("testdata/vectors", 0o755); err != nil {
		t.Fatal(err)
	}
	if old, err := os.ReadFile(vectorFile); err == nil && bytes.Equal(old, append(raw, '\n')) {
		return
	}
	if err := os.WriteFile(vectorFile, append(raw, '\n'), 0o644); err != nil {
		t.Fatal(err)
	}
}
