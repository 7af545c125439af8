package reconcile

import (
	"encoding/hex"
	"encoding/json"
	"flag"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"testing"
)

var update = flag.Bool("update", false, "write testdata/vectors from the code")

type vectors struct {
	Salt    string     `json:"salt"`
	Shorts  []shortVec `json:"shorts"`
	Walks   []walkVec  `json:"walks"`
	Sketch  sketchVec  `json:"sketch"`
	Root    string     `json:"root_of_sketch_and_empty"`
	Rice    riceVec    `json:"rice"`
	BadRice []badVec   `json:"bad_rice"`
	BadSyms []badVec   `json:"bad_symbols"`
}

type shortVec struct {
	ID     string `json:"id"`
	Purged bool   `json:"purged"`
	Short  string `json:"short"`
}

type walkVec struct {
	Short   string   `json:"short"`
	Indices []uint64 `json:"indices_below_4096"`
}

type sketchVec struct {
	Shorts  []string `json:"shorts"`
	Count   uint64   `json:"count"`
	Sum     string   `json:"sum"`
	Symbols string   `json:"symbols_0_to_15"`
}

type riceVec struct {
	Values []uint32 `json:"values"`
	Wire   string   `json:"wire"`
}

type badVec struct {
	Wire string `json:"wire"`
	N    int    `json:"n"`
	Why  string `json:"why"`
}

func word(x uint64) string {
	s := strconv.FormatUint(x, 16)
	return "0000000000000000"[len(s):] + s
}

func makeVectors() vectors {
	salt := Salt{0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15}
	v := vectors{Salt: hex.EncodeToString(salt[:])}
	r := rand.New(rand.NewPCG(42, 42))
	s := NewSketch(16)
	for i := range 12 {
		var id [16]byte
		for j := range id {
			id[j] = byte(r.Uint32())
		}
		x := salt.Short(id, i%3 == 0)
		s.Add(x)
		v.Shorts = append(v.Shorts, shortVec{hex.EncodeToString(id[:]), i%3 == 0, word(x)})
		v.Sketch.Shorts = append(v.Sketch.Shorts, word(x))
		if i < 4 {
			wv := walkVec{Short: word(x)}
			for w := startWalk(x); w.index < 4096; w.next() {
				wv.Indices = append(wv.Indices, w.index)
			}
			v.Walks = append(v.Walks, wv)
		}
	}
	f := s.Fingerprint()
	v.Sketch.Count, v.Sketch.Sum = f.Count, word(f.Sum)
	v.Sketch.Symbols = hex.EncodeToString(AppendSymbols(nil, 0, f.Count, s.Range(0, 16, nil)))
	root := Root(f, Fingerprint{})
	v.Root = hex.EncodeToString(root[:])
	v.Rice.Values = []uint32{0, 1, 77, 65536, 1 << 30, 1<<32 - 1}
	v.Rice.Wire = hex.EncodeToString(AppendRice(nil, v.Rice.Values))
	v.BadRice = []badVec{
		{"", 0, "no parameter"}, {"20", 0, "parameter above 31"}, {"0000", 0, "trailing byte"},
		{"00ff", 1, "unary runs past the end"}, {"0001", 1, "padding is not zero"},
	}
	v.BadSyms = []badVec{
		{"", 0, "no symbol"}, {"000000000000000000000000", 0, "no count"},
		{"0000000000000000000000008000", 0, "count not in its shortest form"},
	}
	return v
}

func TestVectors(t *testing.T) {
	const path = "testdata/vectors/reconcile.json"
	want, err := json.MarshalIndent(makeVectors(), "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	want = append(want, '\n')
	if *update {
		if err := os.WriteFile(path, want, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(got, want) {
		t.Fatal("the code no longer makes the published vectors; peers would not understand it")
	}
	var v vectors
	if err := json.Unmarshal(got, &v); err != nil {
		t.Fatal(err)
	}
	for _, b := range v.BadRice {
		data, _ := hex.DecodeString(b.Wire)
		if _, err := ParseRice(data, b.N); err == nil {
			t.Errorf("bad set parsed: %s", b.Why)
		}
	}
	for _, b := range v.BadSyms {
		data, _ := hex.DecodeString(b.Wire)
		if _, err := ParseSymbols(data, 0, uint64(b.N)); err == nil {
			t.Errorf("bad symbols parsed: %s", b.Why)
		}
	}
}
