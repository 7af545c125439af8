package bundle_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"flag"
	"math"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/fxamacker/cbor/v2"
	"pgregory.net/rapid"

	"outrider/mesh/bundle"
	"outrider/mesh/identity"
)

var update = flag.Bool("update", false, "rewrite testdata/vectors")

func header() bundle.Header {
	h := bundle.Header{
		Version: 1, Tag: identity.Tag{1, 2, 3, 4, 5, 6, 7, 8}, Precedence: bundle.Priority,
		Lifetime: 30 * 24 * time.Hour, Kind: bundle.KindMessage,
	}
	h.Commitment = bundle.PurgeKey{9}.Commit(h.Tag)
	return h
}

func mustNew(t testing.TB, h bundle.Header, payload string) bundle.Bundle {
	t.Helper()
	b, err := bundle.New(h, []byte(payload), 8)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// Header and hop part together are what every message pays on every link.
func TestHeaderFitsFortyBytes(t *testing.T) {
	b := mustNew(t, header(), "x")
	b.Hop = bundle.Hop{Age: 30 * 24 * 3600, Count: 12, Budget: 32}
	if n := len(b.Header.Raw()) + len(b.Hop.Append(nil)); n > 40 {
		t.Fatalf("header and hop part are %d bytes, want at most 40", n)
	}
}

type vector struct {
	Name       string
	Bundle     string // hex
	Hash       string `json:",omitempty"`
	Class      string `json:",omitempty"` // of the failure
	Version    uint64 `json:",omitempty"`
	Precedence string `json:",omitempty"`
	Minutes    int    `json:",omitempty"`
}

func TestVectors(t *testing.T) {
	const file = "testdata/vectors/bundles.json"
	if *update {
		writeVectors(t, file)
	}
	raw, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var vectors []vector
	if err := json.Unmarshal(raw, &vectors); err != nil {
		t.Fatal(err)
	}
	for _, v := range vectors {
		t.Run(v.Name, func(t *testing.T) {
			data, err := hex.DecodeString(v.Bundle)
			if err != nil {
				t.Fatal(err)
			}
			b, err := bundle.Parse(data)
			if v.Class != "" {
				if !errors.Is(err, bundle.ErrMalformed) {
					t.Fatalf("error %v, want class %s", err, v.Class)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			h := b.Hash()
			if got := hex.EncodeToString(h[:]); got != v.Hash {
				t.Errorf("hash %s, want %s", got, v.Hash)
			}
			if b.Header.Version != v.Version || b.Header.Precedence.String() != v.Precedence || int(b.Header.Lifetime/time.Minute) != v.Minutes {
				t.Errorf("header %+v does not say what the vector does", b.Header)
			}
			if again := b.Append(nil); !bytes.Equal(again, data) {
				t.Errorf("encodes again as %x", again)
			}
		})
	}
}

func writeVectors(t *testing.T, file string) {
	good := func(name string, b bundle.Bundle) vector {
		h := b.Hash()
		return vector{Name: name, Bundle: hex.EncodeToString(b.Append(nil)), Hash: hex.EncodeToString(h[:]), Version: b.Header.Version,
			Precedence: b.Header.Precedence.String(), Minutes: int(b.Header.Lifetime / time.Minute)}
	}
	flash := header()
	flash.Precedence, flash.Flags, flash.Lifetime = bundle.Flash, bundle.FlagArchive, time.Minute
	typical := mustNew(t, header(), "sealed")
	v2, err := bundle.Parse(versionTwo(t))
	if err != nil {
		t.Fatal(err)
	}
	data := typical.Append(nil)
	out := []vector{
		good("typical", typical), good("flash-archive", mustNew(t, flash, "")), good("version-2-with-unknown-keys", v2),
		{Name: "truncated", Class: "malformed", Bundle: hex.EncodeToString(data[:len(data)-1])},
		{Name: "trailing", Class: "malformed", Bundle: hex.EncodeToString(append(bytes.Clone(data), 0))},
		{Name: "length-4-GiB", Class: "malformed", Bundle: "8080808010" + hex.EncodeToString(data)},
		{Name: "length-not-shortest", Class: "malformed", Bundle: "8400" + hex.EncodeToString(data[1:])},
		{Name: "empty", Class: "malformed", Bundle: ""},
	}
	raw, err := json.MarshalIndent(out, "", "\t")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, append(raw, '\n'), 0o644); err != nil {
		t.Fatal(err)
	}
}

// versionTwo is a bundle of a version that does not exist yet: known keys 1 to
// 5, a kind we do not know, a key 9, and a fourth hop field.
func versionTwo(t testing.TB) []byte {
	t.Helper()
	enc, err := cbor.CoreDetEncOptions().EncMode()
	if err != nil {
		t.Fatal(err)
	}
	marshal := func(v any) []byte {
		b, err := enc.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	h := marshal(map[int]any{1: 2, 2: make([]byte, 8), 3: 1, 4: 90, 5: make([]byte, 8), 6: 77, 9: "later"})
	hop := marshal([]any{61, 2, 4, []byte("new")})
	data := append([]byte{byte(len(hop))}, hop...)
	data = append(append(data, byte(len(h))), h...)
	return append(data, 3, 'a', 'b', 'c')
}

// Decision 5: a relay keeps what it does not understand byte for byte.
func TestUnknownVersionIsKeptExactly(t *testing.T) {
	data := versionTwo(t)
	b, err := bundle.Parse(data)
	if err != nil {
		t.Fatal(err)
	}
	if got := b.Append(nil); !bytes.Equal(got, data) {
		t.Fatalf("encodes as %x, came as %x", got, data)
	}
	b.Hop = b.Hop.Older(2 * time.Minute).Next(3)
	again, err := bundle.Parse(b.Append(nil))
	if err != nil {
		t.Fatal(err)
	}
	if again.ID() != b.ID() || again.Hop.Age != 181 || again.Hop.Count != 3 || again.Hop.Budget != 3 {
		t.Fatalf("after a hop: %+v", again.Hop)
	}
	if !bytes.Contains(again.Append(nil), []byte("new")) {
		t.Fatal("the hop field of the later version was lost")
	}
	if _, err := b.Header.Encode(); err == nil {
		t.Fatal("a version that is not ours was encoded")
	}
}

func TestLimits(t *testing.T) {
	if _, err := bundle.New(header(), make([]byte, bundle.MaxPayload), 1); err != nil {
		t.Errorf("payload at the limit: %v", err)
	}
	if _, err := bundle.New(header(), make([]byte, bundle.MaxPayload+1), 1); err == nil {
		t.Error("payload one past the limit was accepted")
	}
	for name, h := range map[string]bundle.Header{
		"no lifetime":     {Version: 1},
		"half a minute":   {Version: 1, Lifetime: 90 * time.Second},
		"a year too long": {Version: 1, Lifetime: bundle.MaxLifetime + time.Minute},
		"precedence 4":    {Version: 1, Lifetime: time.Minute, Precedence: 4},
		"version 2":       {Version: 2, Lifetime: time.Minute},
	} {
		if _, err := h.Encode(); err == nil {
			t.Errorf("%s: encoded", name)
		}
	}
	if _, err := bundle.ParseHeader(make([]byte, bundle.MaxHeader+1)); !errors.Is(err, bundle.ErrMalformed) {
		t.Errorf("header one past the limit: %v", err)
	}
	if _, err := bundle.ParseHop(make([]byte, bundle.MaxHop+1)); !errors.Is(err, bundle.ErrMalformed) {
		t.Errorf("hop part one past the limit: %v", err)
	}
}

func TestHopIsClampedNeverRefused(t *testing.T) {
	enc, _ := cbor.CoreDetEncOptions().EncMode()
	raw, err := enc.Marshal([]uint64{math.MaxUint64, math.MaxUint64, 200})
	if err != nil {
		t.Fatal(err)
	}
	h, err := bundle.ParseHop(raw)
	if err != nil {
		t.Fatal(err)
	}
	if h.Age != math.MaxUint32 || h.Count != 255 || h.Budget != 32 {
		t.Fatalf("%+v", h)
	}
	if h = h.Older(time.Hour).Next(99); h.Age != math.MaxUint32 || h.Count != 255 || h.Budget != 32 {
		t.Fatalf("after one more hop: %+v", h)
	}
}

// A simple value is no number, though the CBOR library would read it as one.
func TestHopTakesIntegersOnly(t *testing.T) {
	for name, raw := range map[string][]byte{
		"simple value": {0x83, 0x00, 0xe5, 0x00}, "true": {0x83, 0xf5, 0x00, 0x00}, "negative": {0x83, 0x00, 0x00, 0x20},
		"null": {0x83, 0x00, 0xf6, 0x00}, "text": {0x83, 0x00, 0x00, 0x61, 'x'}, "two fields": {0x82, 0x00, 0x00},
	} {
		if h, err := bundle.ParseHop(raw); !errors.Is(err, bundle.ErrMalformed) {
			t.Errorf("%s: %+v, %v", name, h, err)
		}
	}
}

// Any change of header or payload is another bundle, and no other key purges.
func TestIdentityAndPurge(t *testing.T) {
	b := mustNew(t, header(), "payload")
	other := b
	other.Payload = []byte("payloaD")
	if other.ID() == b.ID() {
		t.Fatal("two payloads have one id")
	}
	r := bundle.NewPurgeRecord(b, bundle.PurgeKey{9})
	if !r.Valid() || r.ID() != b.ID() {
		t.Fatal("the author's key does not purge")
	}
	if forged := bundle.NewPurgeRecord(b, bundle.PurgeKey{8}); forged.Valid() {
		t.Fatal("another key purges")
	}
	data := r.Append(nil)
	if len(data) > 90 {
		t.Errorf("a purge record has %d bytes, want about 80", len(data))
	}
	got, err := bundle.ParsePurgeRecord(data)
	if err != nil {
		t.Fatal(err)
	}
	if got.ID() != b.ID() || !got.Valid() {
		t.Fatal("the record does not survive its encoding")
	}
	for n := range data {
		if _, err := bundle.ParsePurgeRecord(data[:n]); !errors.Is(err, bundle.ErrMalformed) {
			t.Fatalf("truncated to %d bytes: %v", n, err)
		}
	}
	if s := r.Key.String(); strings.ContainsAny(s, "9") {
		t.Errorf("the key prints as %q", s)
	}
}

func TestRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		h := bundle.Header{
			Version: 1, Precedence: bundle.Precedence(rapid.IntRange(0, 3).Draw(t, "precedence")),
			Lifetime: time.Duration(rapid.IntRange(1, 366*24*60).Draw(t, "minutes")) * time.Minute,
			Kind:     bundle.Kind(rapid.Uint64().Draw(t, "kind")), Flags: bundle.Flags(rapid.Uint64().Draw(t, "flags")),
		}
		copy(h.Tag[:], rapid.SliceOfN(rapid.Byte(), 8, 8).Draw(t, "tag"))
		b, err := bundle.New(h, rapid.SliceOfN(rapid.Byte(), 0, 300).Draw(t, "payload"), uint8(rapid.IntRange(0, 255).Draw(t, "budget")))
		if err != nil {
			t.Fatal(err)
		}
		got, err := bundle.Parse(b.Append(nil))
		if err != nil {
			t.Fatal(err)
		}
		if got.ID() != b.ID() || got.Header.Kind != h.Kind || got.Header.Flags != h.Flags || got.Header.Lifetime != h.Lifetime {
			t.Fatalf("%+v came back as %+v", b, got)
		}
		if got.Hash() != bundle.HashOf(b.Header.Raw(), sha256.Sum256(b.Payload)) {
			t.Fatal("hash changed")
		}
	})
}

func TestIDText(t *testing.T) {
	id := mustNew(t, header(), "x").ID()
	if got, err := bundle.ParseID(id.String()); err != nil || got != id {
		t.Fatalf("%v, %v", got, err)
	}
	for _, bad := range []string{"", "zz", id.String() + "00", strings.Repeat("g", 32)} {
		if _, err := bundle.ParseID(bad); !errors.Is(err, bundle.ErrMalformed) {
			t.Errorf("%q: %v", bad, err)
		}
	}
	for p := bundle.Routine; p <= bundle.Flash; p++ {
		if got, err := bundle.ParsePrecedence(p.String()); err != nil || got != p {
			t.Errorf("%v: %v, %v", p, got, err)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add(mustNew(f, header(), "payload").Append(nil))
	f.Add(versionTwo(f))
	f.Fuzz(func(t *testing.T, data []byte) {
		b, err := bundle.Parse(data)
		if err != nil {
			if !errors.Is(err, bundle.ErrMalformed) {
				t.Fatalf("error of another class: %v", err)
			}
			return
		}
		again, err := bundle.Parse(b.Append(nil))
		if err != nil {
			t.Fatalf("what was accepted does not parse again: %v", err)
		}
		if again.ID() != b.ID() || again.Hop.Age != b.Hop.Age {
			t.Fatal("changed by a round trip")
		}
	})
}

func FuzzParsePurgeRecord(f *testing.F) {
	f.Add(bundle.NewPurgeRecord(mustNew(f, header(), "payload"), bundle.PurgeKey{9}).Append(nil))
	f.Fuzz(func(t *testing.T, data []byte) {
		r, err := bundle.ParsePurgeRecord(data)
		if err != nil {
			if !errors.Is(err, bundle.ErrMalformed) {
				t.Fatalf("error of another class: %v", err)
			}
			return
		}
		again, err := bundle.ParsePurgeRecord(r.Append(nil))
		if err != nil || again.ID() != r.ID() {
			t.Fatalf("changed by a round trip: %v", err)
		}
	})
}

func BenchmarkHeader(b *testing.B) {
	x := mustNew(b, header(), "x")
	b.ReportAllocs()
	for b.Loop() {
		if _, err := bundle.ParseHeader(x.Header.Raw()); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(len(x.Header.Raw())+len(x.Hop.Append(nil))), "header-B")
}
