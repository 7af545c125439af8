package reconcile

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"pgregory.net/rapid"
)

// The vectors are those of the SipHash-2-4 reference implementation: key
// 00 01 ... 0f, message 00 01 ... of the given length.
func TestSipHashReferenceVectors(t *testing.T) {
	var key Salt
	msg := make([]byte, 64)
	for i := range msg {
		msg[i] = byte(i)
	}
	copy(key[:], msg)
	for n, want := range map[int]uint64{
		0: 0x726fdb47dd0e0e31, 1: 0x74f839c593dc67fd, 8: 0x93f5f5799a932462, 15: 0xa129ca6149be45e5,
	} {
		if got := key.Hash(msg[:n]); got != want {
			t.Errorf("length %d: got %x, want %x", n, got, want)
		}
	}
}

func TestShortDependsOnSaltAndPurge(t *testing.T) {
	id := [16]byte{1, 2, 3}
	a, b, c := (Salt{1}).Short(id, false), (Salt{1}).Short(id, true), (Salt{2}).Short(id, false)
	if a == b || a == c || b == c {
		t.Fatal("salt and purge bit must change the short id")
	}
}

func TestFingerprintIsOrderIndependent(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		items := rapid.SliceOfDistinct(rapid.Uint64(), rapid.ID[uint64]).Draw(t, "items")
		extra := rapid.Uint64().Draw(t, "extra")
		a, b := NewSketch(8), NewSketch(64)
		for _, x := range items {
			a.Add(x)
		}
		shuffled := rapid.Permutation(items).Draw(t, "order")
		b.Add(extra)
		for _, x := range shuffled {
			b.Add(x)
		}
		b.Remove(extra)
		if a.Fingerprint() != b.Fingerprint() {
			t.Fatal("fingerprints of equal sets differ")
		}
		if Root(a.Fingerprint()) != Root(b.Fingerprint()) {
			t.Fatal("roots of equal sets differ")
		}
		a.Add(extra)
		if a.Fingerprint() == b.Fingerprint() || Root(a.Fingerprint()) == Root(b.Fingerprint()) {
			t.Fatal("fingerprints of different sets are equal")
		}
	})
}

// The walk must visit symbol i with probability 1/(1+i/2).
func TestWalkDensity(t *testing.T) {
	const items, m = 200_000, 512
	r := rand.New(rand.NewPCG(1, 2))
	var hits [m]int
	for range items {
		for w := startWalk(r.Uint64()); w.index < m; w.next() {
			hits[w.index]++
		}
	}
	for _, i := range []int{0, 1, 2, 3, 5, 10, 50, 100, 500} {
		want := items * 2 / (2 + i)
		if slack := want/20 + 60; hits[i] < want-slack || hits[i] > want+slack {
			t.Errorf("symbol %d holds %d items, want about %d", i, hits[i], want)
		}
	}
}

// run plays the protocol of two honest nodes over the wire form and
// returns the decoder and the bytes of symbols sent.
func run(t testing.TB, remote, local *Sketch, max, batch int) (*Decoder, int, error) {
	t.Helper()
	d, sent := NewDecoder(max), 0
	n := remote.Fingerprint().Count
	for !d.Done() {
		from := d.Len()
		to := min(from+batch, remote.Len(), max)
		if to == from {
			return d, sent, ErrCap
		}
		wire := AppendSymbols(nil, from, n, remote.Range(from, to, nil))
		sent += len(wire)
		cells, err := ParseSymbols(wire, from, n)
		if err != nil {
			t.Fatalf("own symbols do not parse: %v", err)
		}
		if err := d.Add(cells, local.Range(from, to, nil)); err != nil {
			return d, sent, err
		}
	}
	return d, sent, nil
}

func TestDecodeEqualsBruteForce(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		r := rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "seed"), 0))
		common := rapid.IntRange(0, 300).Draw(t, "common")
		left, right := rapid.IntRange(0, 80).Draw(t, "left"), rapid.IntRange(0, 80).Draw(t, "right")
		a, b := NewSketch(1024), NewSketch(1024)
		for range common {
			x := r.Uint64()
			a.Add(x)
			b.Add(x)
		}
		onlyA, onlyB := fill(a, r, left), fill(b, r, right)
		d := NewDecoder(1024)
		for !d.Done() {
			from := d.Len()
			to := from + rapid.IntRange(1, 40).Draw(t, "batch")
			if err := d.Add(a.Range(from, to, nil), b.Range(from, to, nil)); err != nil {
				t.Fatal(err)
			}
		}
		gotA, gotB := d.Remote(), d.Local()
		slices.Sort(gotA)
		slices.Sort(gotB)
		if !slices.Equal(gotA, onlyA) || !slices.Equal(gotB, onlyB) {
			t.Fatalf("difference wrong: %d and %d items, want %d and %d", len(gotA), len(gotB), left, right)
		}
	})
}

func fill(s *Sketch, r *rand.Rand, n int) (items []uint64) {
	for range n {
		x := r.Uint64()
		s.Add(x)
		items = append(items, x)
	}
	slices.Sort(items)
	return items
}

// A stream must stay consistent while the set changes and while the prefix
// grows.
func TestRangeIsASnapshot(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		r := rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "seed"), 0))
		set, still := NewSketch(16), NewSketch(256)
		items := fill(set, r, 50)
		for _, x := range items {
			still.Add(x)
		}
		var since []Change
		for range rapid.IntRange(0, 30).Draw(t, "changes") {
			if len(items) > 0 && rapid.Bool().Draw(t, "remove") {
				set.Remove(items[0])
				since = append(since, Change{items[0], -1})
				items = items[1:]
				continue
			}
			x := r.Uint64()
			set.Add(x)
			items = append(items, x)
			since = append(since, Change{x, 1})
		}
		set.Grow(256, slices.Values(items))
		if !slices.Equal(set.Range(3, 256, since), still.Range(3, 256, nil)) {
			t.Fatal("the symbols of a snapshot moved")
		}
		set.Shrink()
		if set.Len() != 16 {
			t.Fatalf("%d symbols kept after Shrink", set.Len())
		}
	})
}

func TestCapStopsAtOnePast(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	a, b := NewSketch(512), NewSketch(512)
	fill(a, r, 300)
	if _, _, err := run(t, a, b, 100, 10); !errors.Is(err, ErrCap) {
		t.Fatalf("300 differences in 100 symbols: %v", err)
	}
	d := NewDecoder(10)
	if err := d.Add(make([]Symbol, 11), make([]Symbol, 11)); !errors.Is(err, ErrCap) {
		t.Fatalf("11 symbols in a cap of 10: %v", err)
	}
}

// A liar's symbols end in an error or in a bounded wrong answer, never in
// unbounded work.
func TestLyingSymbolsAreBounded(t *testing.T) {
	r := rand.New(rand.NewPCG(5, 6))
	for range 200 {
		d := NewDecoder(256)
		for range 8 {
			cells := make([]Symbol, 32)
			for i := range cells {
				x := r.Uint64()
				cells[i] = Symbol{Sum: x, Check: check(x), Count: int64(r.IntN(3) - 1)}
			}
			if d.Add(cells, make([]Symbol, 32)) != nil {
				break
			}
		}
		if len(d.found) > d.Len() {
			t.Fatalf("%d items from %d symbols", len(d.found), d.Len())
		}
	}
}

// BenchmarkDifference states the bytes and the time that d differences cost
// among n items, symbols only; half of the differences on each side.
func BenchmarkDifference(b *testing.B) {
	for _, n := range []int{10_000, 100_000} {
		for _, d := range []int{1, 10, 100, 1000} {
			b.Run(fmt.Sprintf("n=%d/d=%d", n, d), func(b *testing.B) {
				r := rand.New(rand.NewPCG(uint64(n), uint64(d)))
				remote, local := NewSketch(4096), NewSketch(4096)
				for range n {
					x := r.Uint64()
					remote.Add(x)
					local.Add(x)
				}
				total := 0
				for b.Loop() {
					mine, theirs := fill(local, r, d/2), fill(remote, r, d-d/2)
					_, sent, err := run(b, remote, local, 4096, max(1, d/16))
					if err != nil {
						b.Fatal(err)
					}
					total += sent
					for _, x := range mine {
						local.Remove(x)
					}
					for _, x := range theirs {
						remote.Remove(x)
					}
				}
				b.ReportMetric(float64(total)/float64(b.N), "B/reconcile")
				b.ReportMetric(float64(total)/float64(b.N)/float64(d), "B/difference")
			})
		}
	}
}

func BenchmarkAdd(b *testing.B) {
	s := NewSketch(4096)
	x := uint64(1)
	for b.Loop() {
		x = x*0x5851f42d4c957f2d + 1
		s.Add(x)
	}
}

func TestFourHundredBytesForTenOfHundredThousand(t *testing.T) {
	r := rand.New(rand.NewPCG(7, 8))
	remote, local := NewSketch(4096), NewSketch(4096)
	for range 100_000 {
		x := r.Uint64()
		remote.Add(x)
		local.Add(x)
	}
	total := 0
	for range 50 {
		mine, theirs := fill(local, r, 5), fill(remote, r, 5)
		_, sent, err := run(t, remote, local, 4096, 1)
		if err != nil {
			t.Fatal(err)
		}
		total += sent
		for i := range mine {
			local.Remove(mine[i])
			remote.Remove(theirs[i])
		}
	}
	if mean := total / 50; mean > 400 {
		t.Fatalf("10 differences among 100,000 cost %d bytes of symbols, goal 400", mean)
	}
}

func FuzzParseSymbols(f *testing.F) {
	s := NewSketch(64)
	fill(s, rand.New(rand.NewPCG(1, 1)), 40)
	f.Add(AppendSymbols(nil, 0, 40, s.Range(0, 20, nil)), uint16(0), uint64(40))
	f.Add([]byte{}, uint16(0), uint64(0))
	f.Add(make([]byte, 12), uint16(65535), uint64(1)<<62)
	f.Fuzz(func(t *testing.T, data []byte, start uint16, n uint64) {
		cells, err := ParseSymbols(data, int(start), n)
		if err != nil {
			if !errors.Is(err, ErrMalformed) {
				t.Fatal(err)
			}
			return
		}
		if !slices.Equal(AppendSymbols(nil, int(start), n, cells), data) {
			t.Fatal("does not round-trip")
		}
		_ = NewDecoder(len(cells)).Add(cells, make([]Symbol, len(cells)))
	})
}

func FuzzParseRice(f *testing.F) {
	f.Add(AppendRice(nil, []uint32{1, 2, 3, 1 << 31}), 4)
	f.Add(AppendRice(nil, nil), 0)
	f.Add([]byte{0, 0xff, 0xff}, 9)
	f.Fuzz(func(t *testing.T, data []byte, n int) {
		set, err := ParseRice(data, n)
		if err != nil {
			if !errors.Is(err, ErrMalformed) {
				t.Fatal(err)
			}
			return
		}
		if len(set) != n || !slices.IsSorted(set) {
			t.Fatal("not a sorted set of the stated size")
		}
		again, err := ParseRice(AppendRice(nil, set), n)
		if err != nil || !slices.Equal(again, set) {
			t.Fatal("does not round-trip")
		}
	})
}

func TestRiceIsExactAndSmall(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		set := rapid.SliceOfDistinct(rapid.Uint32(), rapid.ID[uint32]).Draw(t, "set")
		slices.Sort(set)
		wire := AppendRice(nil, set)
		got, err := ParseRice(wire, len(set))
		if err != nil || !slices.Equal(got, set) {
			t.Fatalf("round trip of %d values: %v", len(set), err)
		}
		if len(wire) > 1 {
			if _, err := ParseRice(wire[:len(wire)-1], len(set)); err == nil {
				t.Fatal("a truncated set parsed")
			}
		}
		if _, err := ParseRice(append(wire, 0), len(set)); err == nil {
			t.Fatal("trailing bytes parsed")
		}
	})
	r := rand.New(rand.NewPCG(9, 9))
	var set []uint32
	for range 200 {
		set = append(set, r.Uint32())
	}
	slices.Sort(set)
	if got := len(AppendRice(nil, set)); got > 200*27/8+8 {
		t.Fatalf("200 tags take %d bytes", got)
	}
	if _, err := ParseRice(nil, 1); err == nil {
		t.Fatal("no bytes parsed as a set")
	}
	if _, err := ParseRice(make([]byte, 1<<16), MaxRice+1); err == nil {
		t.Fatal("a set one larger than MaxRice parsed")
	}
}

func TestParseSymbolsRefusesOnePast(t *testing.T) {
	one := AppendSymbols(nil, MaxSymbols-1, 5, make([]Symbol, 1))
	if _, err := ParseSymbols(one, MaxSymbols-1, 5); err != nil {
		t.Fatal(err)
	}
	two := AppendSymbols(nil, MaxSymbols-1, 5, make([]Symbol, 2))
	if _, err := ParseSymbols(two, MaxSymbols-1, 5); err == nil {
		t.Fatal("symbol 65536 parsed")
	}
	long := binary.AppendVarint(make([]byte, 12), maxCount+1)
	if _, err := ParseSymbols(long, 0, 0); err == nil {
		t.Fatal("a count above the limit parsed")
	}
	if _, err := ParseSymbols(append(make([]byte, 12), 0x80, 0x00), 0, 0); err == nil {
		t.Fatal("a varint not in its shortest form parsed")
	}
}
