package blob

import (
	"bytes"
	"errors"
	"testing"

	"pgregory.net/rapid"
)

func fill(n int, has func(i int) bool) *Bitmap {
	b := NewBitmap(n)
	for i := range n {
		if has(i) {
			b.Set(i)
		}
	}
	return b
}

func same(a, b *Bitmap) bool {
	if a.n != b.n || a.count != b.count {
		return false
	}
	for i := range a.words {
		if a.words[i] != b.words[i] {
			return false
		}
	}
	return true
}

func TestBitmapAgainstMap(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.IntRange(0, 500).Draw(t, "n")
		b, model := NewBitmap(n), map[int]bool{}
		for range rapid.IntRange(0, 40).Draw(t, "steps") {
			if n == 0 {
				break
			}
			i := rapid.IntRange(0, n-1).Draw(t, "i")
			if rapid.Bool().Draw(t, "set") {
				if b.Set(i) == model[i] {
					t.Fatal("Set reports wrongly")
				}
				model[i] = true
			} else {
				b.Clear(i)
				delete(model, i)
			}
		}
		if b.Count() != len(model) || b.Full() != (len(model) == n) {
			t.Fatalf("count %d of %d, full %v", b.Count(), len(model), b.Full())
		}
		at := rapid.IntRange(-5, n+5).Draw(t, "at")
		if b.Has(at) != model[at] {
			t.Fatal("Has")
		}
		next, missing := max(at, 0), max(at, 0)
		for next < n && !model[next] {
			next++
		}
		for missing < n && model[missing] {
			missing++
		}
		if got := b.Next(at); got != min(next, n) {
			t.Fatalf("Next(%d) = %d, want %d", at, got, next)
		}
		if got := b.NextMissing(at); got != min(missing, n) {
			t.Fatalf("NextMissing(%d) = %d, want %d", at, got, missing)
		}
	})
}

// Whatever the limit, stretches cover the bitmap without a gap, stay within
// the limit and rebuild it.
func TestBitmapStretches(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.IntRange(0, 3000).Draw(t, "n")
		b := NewBitmap(n)
		for at := 0; at < n; {
			end := min(n, at+rapid.IntRange(1, 200).Draw(t, "run"))
			if rapid.Bool().Draw(t, "present") {
				b.setRange(at, end)
			}
			at = end
		}
		limit := rapid.IntRange(MinStretch, 300).Draw(t, "limit")
		got := NewBitmap(n)
		for next := 0; ; {
			raw, then := b.AppendStretch([]byte("x"), next, limit)
			if raw = raw[1:]; len(raw) > limit {
				t.Fatalf("%d bytes for a limit of %d", len(raw), limit)
			}
			first, end, err := got.Merge(raw)
			if err != nil || first != next || end != then {
				t.Fatalf("merged %d to %d, want %d to %d: %v", first, end, next, then, err)
			}
			if then == n {
				break
			}
			if then <= next {
				t.Fatal("no progress")
			}
			next = then
		}
		if !same(b, got) {
			t.Fatal("rebuilt bitmap differs")
		}
	})
}

func TestBitmapWireIsSmall(t *testing.T) {
	n := Geometry{5_000_000_000}.Leaves()
	for name, c := range map[string]struct {
		has  func(i int) bool
		most int
	}{
		"empty":             {func(int) bool { return false }, 6},
		"full":              {func(int) bool { return true }, 7},
		"half":              {func(i int) bool { return i < n/2 }, 9},
		"every other group": {func(i int) bool { return i/GroupLeaves%2 == 0 }, n/GroupLeaves + 20},
		"every other leaf":  {func(i int) bool { return i%2 == 0 }, n/8 + MinStretch},
	} {
		b := fill(n, c.has)
		raw, err := b.MarshalBinary()
		if err != nil || len(raw) > c.most {
			t.Errorf("%s: %d bytes, want at most %d; %v", name, len(raw), c.most, err)
		}
		if got, err := ParseBitmap(raw, n); err != nil || !same(got, b) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestLargestBitmap(t *testing.T) {
	b := fill(MaxLeaves, func(i int) bool { return i%3 == 0 })
	raw, err := b.MarshalBinary()
	if err != nil || len(raw) > maxBitmap {
		t.Fatalf("%d bytes, %v", len(raw), err)
	}
	if got, err := ParseBitmap(raw, MaxLeaves); err != nil || !same(got, b) {
		t.Fatal(err)
	}
	if _, err := ParseBitmap(raw, MaxLeaves+1); !errors.Is(err, ErrMalformed) {
		t.Errorf("one leaf past the limit: %v", err)
	}
	if _, err := ParseBitmap(make([]byte, maxBitmap+1), MaxLeaves); !errors.Is(err, ErrMalformed) {
		t.Errorf("one byte past the limit: %v", err)
	}
}

func TestBitmapDecodingIsStrict(t *testing.T) {
	for name, raw := range map[string][]byte{
		"empty":                  {},
		"unknown form":           {3, 0, 1},
		"no first leaf":          {formRuns},
		"first past the end":     {formRuns, 101},
		"long varint":            {formRuns, 0x80, 0x00},
		"runs past the end":      {formRuns, 0, 50, 51},
		"empty run":              {formRuns, 0, 5, 0, 5},
		"run of 2^64":            {formRuns, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01},
		"endless varint":         bytes.Repeat([]byte{formRuns, 0xff}, 9),
		"bits past the end":      append([]byte{formBits, 50, 51}, make([]byte, 7)...),
		"bits too short":         {formBits, 0, 9, 1},
		"bits too long":          {formBits, 0, 8, 1, 0},
		"unused bits set":        {formBits, 0, 7, 0x80},
		"bits without count":     {formBits, 0},
		"count beyond the bytes": {formBits, 0, 100},
	} {
		b := fill(100, func(i int) bool { return i == 7 })
		if _, _, err := b.Merge(raw); !errors.Is(err, ErrMalformed) {
			t.Errorf("%s: %v", name, err)
		}
		if b.Count() != 1 || !b.Has(7) {
			t.Errorf("%s: refused, but the bitmap changed", name)
		}
	}
	if _, err := ParseBitmap([]byte{formRuns, 0, 99}, 100); !errors.Is(err, ErrMalformed) {
		t.Errorf("part of a bitmap taken for the whole: %v", err)
	}
	if _, err := ParseBitmap([]byte{formRuns, 1, 99}, 100); !errors.Is(err, ErrMalformed) {
		t.Errorf("part of a bitmap taken for the whole: %v", err)
	}
}
