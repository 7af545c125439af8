package sframe

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"os"
	"strconv"
	"testing"
)

type vectors struct {
	Header []struct{ KID, CTR, Encoded string }
	SFrame struct {
		Suite   int    `json:"cipher_suite"`
		KID     uint64 `json:"kid"`
		CTR     uint64 `json:"ctr"`
		BaseKey string `json:"base_key"`
		Salt    string `json:"sframe_salt"`
		Meta    string `json:"metadata"`
		Nonce   string `json:"nonce"`
		PT, CT  string
	}
}

func unhex(t *testing.T, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(s)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func load(t *testing.T) (v vectors) {
	t.Helper()
	raw, err := os.ReadFile("testdata/rfc9605.json")
	if err == nil {
		err = json.Unmarshal(raw, &v)
	}
	if err != nil || len(v.Header) < 30 {
		t.Fatal(err, len(v.Header))
	}
	return v
}

func TestC01HeadersOfTheRFC(t *testing.T) {
	for _, v := range load(t).Header {
		kid, _ := strconv.ParseUint(v.KID, 10, 64)
		ctr, _ := strconv.ParseUint(v.CTR, 10, 64)
		want := unhex(t, v.Encoded)
		if got := (Header{kid, ctr}).Append(nil); !bytes.Equal(got, want) {
			t.Errorf("%d/%d: %x, want %x", kid, ctr, got, want)
		}
		h, n, err := ParseHeader(append(want, 1, 2, 3))
		if err != nil || n != len(want) || h != (Header{kid, ctr}) {
			t.Errorf("%s: %+v %d %v", v.Encoded, h, n, err)
		}
		for cut := range want {
			if _, _, err := ParseHeader(want[:cut]); !errors.Is(err, ErrMalformed) {
				t.Errorf("%s cut at %d: %v", v.Encoded, cut, err)
			}
		}
	}
}

func TestC01HeadersHaveOneForm(t *testing.T) {
	for _, long := range []string{"0807", "8007", "090001", "9000ff", "0f00000000000000ff", "f00000000000000001"} {
		if _, _, err := ParseHeader(unhex(t, long)); !errors.Is(err, ErrMalformed) {
			t.Errorf("%s was taken: %v", long, err)
		}
	}
}

func TestC01FrameOfTheRFC(t *testing.T) {
	v := load(t).SFrame
	if v.Suite != Suite {
		t.Fatalf("suite %d", v.Suite)
	}
	base, meta, pt, ct := unhex(t, v.BaseKey), unhex(t, v.Meta), unhex(t, v.PT), unhex(t, v.CT)
	s, err := NewSealer(base, v.KID)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(s.key.salt[:], unhex(t, v.Salt)) || !bytes.Equal(s.key.nonce(v.CTR), unhex(t, v.Nonce)) {
		t.Errorf("salt %x, nonce %x", s.key.salt, s.key.nonce(v.CTR))
	}
	s.next = v.CTR
	got, err := s.Seal([]byte("before"), pt, meta)
	if err != nil || !bytes.Equal(got, append([]byte("before"), ct...)) {
		t.Fatalf("%x %v", got, err)
	}
	o := NewOpener()
	if err := o.Add(v.KID, base); err != nil {
		t.Fatal(err)
	}
	if got, err := o.Open([]byte("x"), ct, meta); err != nil || !bytes.Equal(got, append([]byte("x"), pt...)) {
		t.Fatalf("%x %v", got, err)
	}
}

// pair is a sealer with an opener of the same key.
func pair(t *testing.T) (*Sealer, *Opener) {
	t.Helper()
	base := bytes.Repeat([]byte{7}, 32)
	s, err := NewSealer(base, 1)
	o := NewOpener()
	if err = errors.Join(err, o.Add(1, base)); err != nil {
		t.Fatal(err)
	}
	return s, o
}

func (s *Sealer) at(t *testing.T, ctr uint64) []byte {
	t.Helper()
	s.next = ctr
	b, err := s.Seal(nil, []byte("frame"), nil)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestC01AlteredFramesAreRefusedAndMoveNothing(t *testing.T) {
	s, o := pair(t)
	good := s.at(t, 5)
	for i := range good {
		for bit := range 8 {
			bad := bytes.Clone(good)
			bad[i] ^= 1 << bit
			if _, err := o.Open(nil, bad, nil); err == nil {
				t.Fatalf("byte %d bit %d: an altered frame opens", i, bit)
			}
		}
	}
	for cut := range good {
		if _, err := o.Open(nil, good[:cut], nil); err == nil {
			t.Fatalf("a frame cut at %d opens", cut)
		}
	}
	if _, err := o.Open(nil, good, []byte("other metadata")); !errors.Is(err, ErrForged) {
		t.Errorf("other metadata: %v", err)
	}
	if _, err := o.Open(nil, good, nil); err != nil {
		t.Errorf("the frame itself: %v", err)
	}
}

func TestC01WrongKeyOpensNothing(t *testing.T) {
	s, _ := pair(t)
	o := NewOpener()
	if err := o.Add(1, bytes.Repeat([]byte{8}, 32)); err != nil {
		t.Fatal(err)
	}
	if _, err := o.Open(nil, s.at(t, 0), nil); !errors.Is(err, ErrForged) {
		t.Errorf("another key: %v", err)
	}
	o.Remove(1)
	if _, err := o.Open(nil, s.at(t, 1), nil); !errors.Is(err, ErrUnknownKey) {
		t.Errorf("no key: %v", err)
	}
}

func TestC01ReplayWindow(t *testing.T) {
	s, o := pair(t)
	open := func(ctr uint64, want error) {
		t.Helper()
		if _, err := o.Open(nil, s.at(t, ctr), nil); !errors.Is(err, want) {
			t.Fatalf("counter %d: %v, want %v", ctr, err, want)
		}
	}
	open(1000, nil)
	open(1000, ErrReplay)
	open(1000-Window+1, nil)
	open(1000-Window+1, ErrReplay)
	open(1000-Window, ErrReplay) // one past the window
	open(1001, nil)
	open(999, nil)
	open(1000, ErrReplay)
	open(1001+63, nil)
	open(1001, ErrReplay)
	open(1002, nil)
	open(1001+63+200, nil)
	open(1001+63, ErrReplay)
	open(1001+63+199, nil)
}

// Against a map, over counters in a random walk.
func TestC01ReplayWindowAgainstAModel(t *testing.T) {
	in := &incoming{}
	seen := map[uint64]bool{}
	newest, x := uint64(0), uint64(88172645463325252)
	for i := range 20000 {
		x ^= x << 13
		x ^= x >> 7
		x ^= x << 17
		ctr := newest + x%300
		if ctr >= 200 {
			ctr -= 200
		}
		want := i == 0 || ctr > newest || newest-ctr < Window && !seen[ctr]
		if got := in.check(ctr) == nil; got != want {
			t.Fatalf("step %d: counter %d with newest %d: %v, want %v", i, ctr, newest, got, want)
		}
		if want {
			in.note(ctr)
			seen[ctr] = true
			newest = max(newest, ctr)
		}
	}
}

func TestC01CounterMayNotLeap(t *testing.T) {
	s, o := pair(t)
	if _, err := o.Open(nil, s.at(t, 70_000), nil); err != nil {
		t.Fatalf("the first frame of a late joiner: %v", err)
	}
	if _, err := o.Open(nil, s.at(t, 70_000+MaxJump+1), nil); !errors.Is(err, ErrJump) {
		t.Errorf("one past the leap: %v", err)
	}
	if _, err := o.Open(nil, s.at(t, 70_000+MaxJump), nil); err != nil {
		t.Errorf("the leap itself: %v", err)
	}
}

func TestC01LimitsOfKeysAndFrames(t *testing.T) {
	s, o := pair(t)
	s.next = MaxFrames
	if _, err := s.Seal(nil, nil, nil); !errors.Is(err, ErrSpent) {
		t.Errorf("a spent key: %v", err)
	}
	if b := s.at(t, MaxFrames-1); len(b) > 5+MaxOverhead {
		t.Errorf("%d bytes of overhead", len(b)-5)
	}
	s.next = 0
	if _, err := s.Seal(nil, make([]byte, MaxFrame+1), nil); !errors.Is(err, ErrMalformed) {
		t.Errorf("a huge frame: %v", err)
	}
	if _, err := o.Open(nil, make([]byte, MaxFrame+MaxOverhead+1), nil); !errors.Is(err, ErrMalformed) {
		t.Errorf("a huge sealed frame: %v", err)
	}
	for kid := uint64(2); kid <= MaxKeys; kid++ {
		if err := o.Add(kid, make([]byte, 32)); err != nil {
			t.Fatal(err)
		}
	}
	if err := o.Add(MaxKeys+1, make([]byte, 32)); !errors.Is(err, ErrKey) {
		t.Errorf("one key too many: %v", err)
	}
	if err := o.Add(1, make([]byte, minBase-1)); !errors.Is(err, ErrKey) {
		t.Errorf("a short key: %v", err)
	}
}

func FuzzOpen(f *testing.F) {
	base := bytes.Repeat([]byte{7}, 32)
	s, err := NewSealer(base, 300)
	if err != nil {
		f.Fatal(err)
	}
	good, err := s.Seal(nil, []byte("frame"), nil)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good)
	f.Add([]byte{})
	f.Add([]byte{0xff, 1, 2})
	f.Fuzz(func(t *testing.T, b []byte) {
		h, n, err := ParseHeader(b)
		if err != nil {
			if !errors.Is(err, ErrMalformed) {
				t.Fatalf("error %v", err)
			}
		} else if !bytes.Equal(h.Append(nil), b[:n]) {
			t.Fatalf("%x is read as %+v, which is written %x", b[:n], h, h.Append(nil))
		}
		o := NewOpener()
		if err := o.Add(300, base); err != nil {
			t.Fatal(err)
		}
		if got, err := o.Open(nil, b, nil); err == nil && !bytes.Equal(b, good) {
			t.Fatalf("a frame that nobody sealed opens: %x", got)
		}
	})
}
