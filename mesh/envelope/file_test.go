package envelope

import (
	"bytes"
	"errors"
	"io"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/klauspost/compress/zstd"

	"outrider/mesh/blob"
)

func noise(n int) []byte {
	b := make([]byte, n)
	rng := rand.NewChaCha8([32]byte{byte(n)})
	rng.Read(b)
	return b
}

func words(n int) []byte {
	return []byte(strings.Repeat("the quick brown fox jumps over the lazy dog. ", n/45+1))[:n]
}

func encrypt(t testing.TB, raw []byte, p Padding) (FileSeal, *leafStore, blob.Hashes) {
	t.Helper()
	var l leafStore
	s, h, err := EncryptFile(iotest.HalfReader(bytes.NewReader(raw)), &l, p)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Check(); err != nil {
		t.Fatal(err)
	}
	return s, &l, h
}

func TestFileRoundTrip(t *testing.T) {
	sizes := []int{0, 1, 100, leafPlain - 1, leafPlain, leafPlain + 1, 2 * leafPlain, 100_000, packProbe - 1, packProbe, packProbe + 1, 3_000_000}
	for _, size := range sizes {
		for name, raw := range map[string][]byte{"noise": noise(size), "words": words(size), "zeros": make([]byte, size)} {
			for _, p := range []Padding{PadBucket, Pad64, PadOff} {
				s, l, h := encrypt(t, raw, p)
				if s.Packed != (name != "noise" && size > 1) {
					t.Errorf("%d bytes of %s: packed %v", size, name, s.Packed)
				}
				if h.Root() != s.Blob.Root || h.Length() != s.Blob.Length || len(l.leaves) != s.Blob.Geometry().Leaves() {
					t.Fatalf("%d bytes of %s: hashes, leaves and seal differ", size, name)
				}
				for i, leaf := range l.leaves {
					if len(leaf) != s.Blob.Geometry().LeafLen(i) {
						t.Fatalf("leaf %d has %d bytes", i, len(leaf))
					}
				}
				var out bytes.Buffer
				if err := DecryptFile(s, l, &out); err != nil || !bytes.Equal(out.Bytes(), raw) {
					t.Fatalf("%d bytes of %s, padding %d: got %d bytes back: %v", size, name, p, out.Len(), err)
				}
			}
		}
	}
}

func TestFileOverheadAndPadding(t *testing.T) {
	for _, size := range []uint64{1, 64, 513, 5000, 16356, 20_000, 1 << 20, 5_000_000, 5_000_000_000} {
		n := paddedLength(PadBucket, size, size)
		if n < size || size > 512 && float64(n) > 1.12*float64(size) || size >= 5_000_000 && float64(n) > 1.03*float64(size) {
			t.Errorf("%d padded to %d", size, n)
		}
		if again := paddedLength(PadBucket, n, size); again != n {
			t.Errorf("%d padded to %d and that to %d", size, n, again)
		}
	}
	// Files of nearly the same length cannot be told apart.
	if a, b := paddedLength(PadBucket, 5_000_000, 1), paddedLength(PadBucket, 5_010_000, 1); a != b {
		t.Errorf("%d and %d", a, b)
	}
	if n := paddedLength(PadOff, 10, 100_000); n != 1000 {
		t.Errorf("a stream a hundredth of the file must be %d bytes, not %d", 1000, n)
	}
}

func TestEqualFilesAreNotRecognisable(t *testing.T) {
	raw := noise(50_000)
	a, la, _ := encrypt(t, raw, PadBucket)
	b, lb, _ := encrypt(t, raw, PadBucket)
	if a.Blob.Root == b.Blob.Root || a.Key == b.Key || bytes.Equal(la.leaves[0], lb.leaves[0]) {
		t.Fatal("two seals of one file are alike")
	}
}

func TestFileRandomAccess(t *testing.T) {
	raw := noise(5*leafPlain + 77)
	s, l, _ := encrypt(t, raw, PadBucket)
	for _, c := range []struct {
		offset uint64
		n      int
	}{{0, 1}, {0, 10}, {leafPlain - 5, 10}, {3 * leafPlain, leafPlain}, {7, 4 * leafPlain}, {uint64(len(raw)) - 10, 100}, {uint64(len(raw)), 5}, {1 << 60, 5}, {0, len(raw)}} {
		want := raw[min(c.offset, uint64(len(raw))):]
		want = want[:min(len(want), c.n)]
		got, err := s.ReadRange(l, c.offset, c.n)
		if err != nil || !bytes.Equal(got, want) {
			t.Errorf("%d bytes from %d: got %d bytes, %v", c.n, c.offset, len(got), err)
		}
	}
	reads := &countingLeaves{leafStore: l}
	if _, err := s.ReadRange(reads, 3*leafPlain+1, 10); err != nil || reads.n != 1 {
		t.Errorf("%d leaves read for ten bytes: %v", reads.n, err)
	}
	packed, lp, _ := encrypt(t, words(50_000), PadBucket)
	if _, err := packed.ReadRange(lp, 0, 1); !errors.Is(err, ErrUnsupported) {
		t.Errorf("range of a packed file: %v", err)
	}
}

type countingLeaves struct {
	*leafStore
	n int
}

func (c *countingLeaves) ReadLeaf(i int) ([]byte, error) { c.n++; return c.leafStore.ReadLeaf(i) }

func TestAttackLeaves(t *testing.T) {
	raw := noise(6*leafPlain + 100)
	s, l, h := encrypt(t, raw, PadBucket)
	last := len(l.leaves) - 1
	_, lo, _ := encrypt(t, raw, PadBucket)
	change := func(f func(ls [][]byte) [][]byte) *leafStore { return &leafStore{f(slices.Clone(l.leaves))} }
	for name, bad := range map[string]*leafStore{
		"swapped":           change(func(ls [][]byte) [][]byte { ls[1], ls[2] = ls[2], ls[1]; return ls }),
		"repeated":          change(func(ls [][]byte) [][]byte { ls[2] = ls[1]; return ls }),
		"bit flipped":       change(func(ls [][]byte) [][]byte { ls[3] = flip(ls[3], 9000); return ls }),
		"last truncated":    change(func(ls [][]byte) [][]byte { ls[last] = ls[last][:len(ls[last])-1]; return ls }),
		"inner truncated":   change(func(ls [][]byte) [][]byte { ls[1] = ls[1][:100]; return ls }),
		"empty":             change(func(ls [][]byte) [][]byte { ls[0] = nil; return ls }),
		"of another file":   change(func(ls [][]byte) [][]byte { ls[0] = lo.leaves[0]; return ls }),
		"last in the midst": change(func(ls [][]byte) [][]byte { ls[0] = ls[last]; return ls }),
	} {
		var out bytes.Buffer
		if err := DecryptFile(s, bad, &out); !errors.Is(err, ErrForged) {
			t.Errorf("leaf %s: %v", name, err)
		}
		if !bytes.HasPrefix(raw, out.Bytes()) {
			t.Errorf("leaf %s: wrote bytes that are not the file's", name)
		}
	}
	if err := DecryptFile(s, &leafStore{l.leaves[:last]}, io.Discard); err == nil {
		t.Error("missing last leaf: nothing said")
	}
	// Cutting the blob at a leaf's end, with the descriptor to match, fails:
	// the leaf that is last now was not sealed as the last.
	short := s
	short.Size = uint64(3 * leafPlain)
	short.Stream = short.Size
	var b blob.Builder
	for _, leaf := range l.leaves[:3] {
		if err := b.AddLeaf(leaf); err != nil {
			t.Fatal(err)
		}
	}
	short.Blob.Length = b.Length()
	short.Blob.Root, _ = b.Finish()
	if err := DecryptFile(short, l, io.Discard); !errors.Is(err, ErrForged) {
		t.Errorf("cut at a leaf's end: %v", err)
	}
	// A reader who knows the key cannot exchange a leaf either: the author
	// signed the root.
	forgedLeaf := fileLeafKey(s.Key).seal(nil, make([]byte, leafPlain), leafAAD(2, false))
	bad := change(func(ls [][]byte) [][]byte { ls[2] = forgedLeaf; return ls })
	if err := DecryptFile(s, bad, io.Discard); !errors.Is(err, ErrForged) {
		t.Errorf("leaf by a reader: %v", err)
	}
	p := blob.Proof(h, 0)
	if err := p.CheckLeaf(2, forgedLeaf); !errors.Is(err, blob.ErrMismatch) {
		t.Errorf("relays take it: %v", err)
	}
	wrong := s
	wrong.Key[0] ^= 1
	if err := DecryptFile(wrong, l, io.Discard); !errors.Is(err, ErrForged) {
		t.Errorf("wrong key: %v", err)
	}
	for _, i := range []int{-1, len(l.leaves)} {
		if _, err := s.OpenLeaf(i, l.leaves[0]); !errors.Is(err, ErrForged) {
			t.Errorf("leaf %d: %v", i, err)
		}
	}
}

// sealStream seals a stream as it is, honest or not.
func sealStream(t *testing.T, stream []byte) (FileSeal, *leafStore) {
	t.Helper()
	var l leafStore
	s := FileSeal{Key: FileKey{5}, Stream: uint64(len(stream)), Packed: true}
	c := &leafCutter{out: &l, key: fileLeafKey(s.Key)}
	if _, err := c.Write(stream); err != nil {
		t.Fatal(err)
	}
	if err := c.close(); err != nil {
		t.Fatal(err)
	}
	root, _ := c.tree.Finish()
	s.Blob = blob.Descriptor{Root: root, Length: c.tree.Length()}
	return s, &l
}

func TestAttackDecompressionBomb(t *testing.T) {
	pack := func(raw []byte, o ...zstd.EOption) []byte {
		e, err := zstd.NewWriter(nil, o...)
		if err != nil {
			t.Fatal(err)
		}
		defer e.Close()
		return e.EncodeAll(raw, nil)
	}
	bomb := pack(make([]byte, 64<<20))
	for name, c := range map[string]struct {
		stream []byte
		size   uint64
		want   error
	}{
		"the control":         {pack(words(5000)), 5000, nil},
		"size told too small": {bomb, uint64(50 * len(bomb)), ErrMalformed},
		"size beyond ratio":   {bomb, 64 << 20, ErrMalformed},
		"size told too large": {pack(words(5000)), 5001, ErrMalformed},
		"size told one less":  {pack(words(5000)), 4999, ErrMalformed},
		"not zstd":            {noise(500), 500, ErrMalformed},
		"cut short":           {pack(words(5000))[:60], 5000, ErrMalformed},
		"huge window":         {pack(noise(100), zstd.WithWindowSize(512<<20), zstd.WithSingleSegment(false)), 100, nil},
	} {
		s, l := sealStream(t, c.stream)
		s.Size = c.size
		var out counter
		if err := DecryptFile(s, l, &out); !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", name, err, c.want)
		}
		if uint64(out) > c.size+1 {
			t.Errorf("%s: %d bytes written of a file of %d", name, out, c.size)
		}
	}
	// A frame that demands a window beyond the limit, whatever it holds.
	s, l := sealStream(t, append([]byte{0x28, 0xb5, 0x2f, 0xfd, 0x00, 0x98}, make([]byte, 100)...)) // window 2^29
	s.Size = 50
	if err := DecryptFile(s, l, io.Discard); !errors.Is(err, ErrMalformed) {
		t.Errorf("window of 512 MiB: %v", err)
	}
}

func TestPaddingOfAFileMustBeZero(t *testing.T) {
	s, l := sealStream(t, noise(1000))
	s.Packed, s.Size, s.Stream = false, 900, 900
	if err := DecryptFile(s, l, io.Discard); !errors.Is(err, ErrMalformed) {
		t.Fatalf("%v", err)
	}
}

func TestFileErrorsComeThrough(t *testing.T) {
	boom := errors.New("boom")
	if _, _, err := EncryptFile(iotest.ErrReader(boom), &leafStore{}, PadBucket); !errors.Is(err, boom) {
		t.Errorf("source: %v", err)
	}
	late := io.MultiReader(bytes.NewReader(noise(packProbe+10)), iotest.ErrReader(boom))
	if _, _, err := EncryptFile(late, &leafStore{}, PadBucket); !errors.Is(err, boom) {
		t.Errorf("source, later: %v", err)
	}
	for _, raw := range [][]byte{noise(100_000), words(10_000_000)} {
		if _, _, err := EncryptFile(bytes.NewReader(raw), failingLeaves{boom}, PadBucket); !errors.Is(err, boom) {
			t.Errorf("leaf writer: %v", err)
		}
		s, l, _ := encrypt(t, raw, PadBucket)
		if err := DecryptFile(s, failingLeaves{boom}, io.Discard); !errors.Is(err, boom) {
			t.Errorf("leaf reader: %v", err)
		}
		if err := DecryptFile(s, l, failingWriter{boom}); !errors.Is(err, boom) {
			t.Errorf("destination: %v", err)
		}
		if err := DecryptFile(s, l, failingWriter{boom}); errors.Is(err, ErrMalformed) || errors.Is(err, ErrForged) {
			t.Errorf("a full disk is blamed on the file: %v", err)
		}
	}
}

type failingLeaves struct{ err error }

func (f failingLeaves) WriteLeaf(int, []byte) error  { return f.err }
func (f failingLeaves) ReadLeaf(int) ([]byte, error) { return nil, f.err }

type failingWriter struct{ err error }

func (f failingWriter) Write([]byte) (int, error) { return 0, f.err }
