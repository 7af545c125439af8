package envelope

import (
	"bytes"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"outrider/mesh/blob"
	"outrider/mesh/identity"
)

func sampleFile() File {
	return File{Name: "report.pdf", Type: "application/pdf", Seal: FileSeal{
		Blob: blob.Descriptor{Root: blob.Root{1}, Length: 5000 + aeadExtra}, Key: FileKey{7}, Size: 5000, Stream: 5000,
	}}
}

func samplePrekey(t testing.TB) Prekey {
	p, err := Prekey{Number: 3, NotBefore: time.Unix(60, 0).UTC(), NotAfter: time.Unix(120, 0).UTC(), KEM: KEMID, Public: make([]byte, publicSize)}.Sign(identity.NetworkID{1}, identity.PrivateKeyFromSeed([32]byte{1}))
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// contents are all bodies with the functions that read them again.
func contents(t testing.TB) map[string]struct {
	value  interface{ Encode() ([]byte, error) }
	decode func([]byte) (any, error)
} {
	packed := sampleFile()
	packed.Type, packed.Seal.Packed, packed.Seal.Size, packed.Seal.Stream = "", true, 400_000, 4990
	return map[string]struct {
		value  interface{ Encode() ([]byte, error) }
		decode func([]byte) (any, error)
	}{
		"text":        {Text{"grüße an alle"}, func(b []byte) (any, error) { return ParseText(b) }},
		"empty text":  {Text{}, func(b []byte) (any, error) { return ParseText(b) }},
		"file":        {sampleFile(), func(b []byte) (any, error) { return ParseFile(b) }},
		"packed file": {packed, func(b []byte) (any, error) { return ParseFile(b) }},
		"location": {Location{
			Kind: LocationLive, Latitude: -338_568_800, Longitude: 1_512_092_900, Altitude: -420, Accuracy: 550,
			Time: 1_777_777_777_777, Valid: 3600, Holds: 75, Course: 35_999, Speed: 1234,
		}, func(b []byte) (any, error) { return ParseLocation(b) }},
		"location with a note": {Location{
			Kind: LocationStatic, Latitude: maxLatitude, Longitude: -maxLongitude, Altitude: AltitudeUnknown, Accuracy: AccuracyUnknown,
			Course: CourseUnknown, Speed: SpeedUnknown, Note: "Brücke",
		}, func(b []byte) (any, error) { return ParseLocation(b) }},
		"receipt": {Receipt{[]ChainRanges{
			{EpochID{1}, 0, []Range{{0, 0}, {2, 9}, {liveBit, 1<<32 - 1}}},
			{EpochID{2}, MaxMembers - 1, []Range{{7, 7}}},
		}}, func(b []byte) (any, error) { return ParseReceipt(b) }},
		"recall": {Recall{[]Ref{{EpochID{1}, 3, 1<<32 - 1}, {EpochID{2}, 0, 0}}}, func(b []byte) (any, error) { return ParseRecall(b) }},
		"need-rekey": {NeedRekey{
			RekeyKeyGone, []EpochID{{1}, {2}}, []ChainRanges{{EpochID{1}, 1, []Range{{4, 5}}}}, []Prekey{samplePrekey(t)},
		}, func(b []byte) (any, error) { return ParseNeedRekey(b) }},
		"profile": {Profile{"Sgt. Müller"}, func(b []byte) (any, error) { return ParseProfile(b) }},
		"call invite": {CallSignal{
			Call: [callIDSize]byte{1, 2}, Kind: CallInvite, Node: identity.NodeID{9}, Commit: bytes.Repeat([]byte{3}, callCommitSize),
		}, func(b []byte) (any, error) { return ParseCall(b) }},
		"call answer": {CallSignal{Call: [callIDSize]byte{1, 2}, Kind: CallAnswer, Key: bytes.Repeat([]byte{4}, callKeySize)}, func(b []byte) (any, error) { return ParseCall(b) }},
		"call end":    {CallSignal{Call: [callIDSize]byte{1, 2}, Kind: CallEnd, Reason: 255}, func(b []byte) (any, error) { return ParseCall(b) }},
		"call record": {CallRecord{[callIDSize]byte{1}, CallDeclined, maxFix, 1<<32 - 1}, func(b []byte) (any, error) { return ParseCallRecord(b) }},
	}
}

func TestContentRoundTrips(t *testing.T) {
	for name, c := range contents(t) {
		body, err := c.value.Encode()
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		got, err := c.decode(body)
		if err != nil || !reflect.DeepEqual(got, c.value) {
			t.Errorf("%s: got %+v, want %+v; %v", name, got, c.value, err)
		}
		for n := range body {
			if _, err := c.decode(body[:n]); err == nil && !strings.HasPrefix(name, "location") {
				t.Errorf("%s: cut after %d bytes and read", name, n)
			}
		}
		if !strings.HasPrefix(name, "location") { // whose note ends with the body
			if _, err := c.decode(append(bytes.Clone(body), 0)); !errors.Is(err, ErrMalformed) {
				t.Errorf("%s with a trailing byte: %v", name, err)
			}
		}
	}
}

// A later version may add map keys; this one skips them.
func TestContentSkipsUnknownKeys(t *testing.T) {
	body, err := identity.Marshal(map[int]any{1: "hello", 99: "from a later version"})
	if err != nil {
		t.Fatal(err)
	}
	if got, err := ParseText(body); err != nil || got.Text != "hello" {
		t.Fatalf("%q, %v", got.Text, err)
	}
	fields, err := identity.Marshal(map[int]any{1: 1, 2: 3, 7: body, 77: []int{1, 2}})
	if err != nil {
		t.Fatal(err)
	}
	if in, err := parseInner(fields); err != nil || in.Type != TypeText || !bytes.Equal(in.Body, body) {
		t.Fatalf("%+v, %v", in, err)
	}
}

func TestContentLimits(t *testing.T) {
	ranges := func(n int) (rs []Range) {
		for i := range n {
			rs = append(rs, Range{uint32(2 * i), uint32(2 * i)})
		}
		return rs
	}
	long := sampleFile()
	long.Name = strings.Repeat("x", maxFileName+1)
	badType := sampleFile()
	badType.Type = strings.Repeat("x", maxMediaType+1)
	bomb := sampleFile()
	bomb.Seal.Packed, bomb.Seal.Size = true, 100*5000+1
	longer := sampleFile()
	longer.Seal.Stream, longer.Seal.Size = 5001, 5001
	for name, v := range map[string]interface{ Encode() ([]byte, error) }{
		"text":               Text{strings.Repeat("x", MaxText+1)},
		"text not UTF-8":     Text{"\xff"},
		"file name":          long,
		"media type":         badType,
		"file too small":     bomb,
		"stream too long":    longer,
		"latitude":           Location{Kind: LocationStatic, Latitude: maxLatitude + 1},
		"longitude":          Location{Kind: LocationStatic, Longitude: -maxLongitude - 1},
		"location kind":      Location{Kind: 3},
		"course":             Location{Kind: LocationStatic, Course: maxCourse},
		"stale":              Location{Kind: LocationStatic, Holds: 76},
		"fix":                Location{Kind: LocationStatic, Time: maxFix + 1},
		"call without a key": CallSignal{Kind: CallAnswer},
		"call with a key":    CallSignal{Kind: CallEnd, Key: make([]byte, callKeySize)},
		"call kind":          CallSignal{Kind: maxCall + 1},
		"call reason":        CallSignal{Kind: CallRing, Reason: 1},
		"call key":           CallSignal{Kind: CallReveal, Key: make([]byte, callKeySize+1)},
		"call commitment":    CallSignal{Kind: CallInvite, Node: identity.NodeID{1}, Commit: make([]byte, callCommitSize-1)},
		"call status":        CallRecord{Status: maxCallStatus + 1},
		"call time":          CallRecord{Began: maxFix + 1},
		"note":               Location{Kind: LocationStatic, Note: strings.Repeat("x", MaxNote+1)},
		"chains":             Receipt{make([]ChainRanges, MaxChains+1)},
		"ranges":             Receipt{[]ChainRanges{{Ranges: ranges(MaxRanges + 1)}}},
		"ranges descending":  Receipt{[]ChainRanges{{Ranges: []Range{{5, 6}, {6, 7}}}}},
		"range backwards":    Receipt{[]ChainRanges{{Ranges: []Range{{5, 4}}}}},
		"recalls":            Recall{make([]Ref, MaxRecalls+1)},
		"rekeys":             NeedRekey{Epochs: make([]EpochID, MaxRekeys+1)},
		"prekeys in request": NeedRekey{Prekeys: make([]Prekey, maxBundles+1)},
		"display name":       Profile{strings.Repeat("x", MaxName+1)},
	} {
		if _, err := v.Encode(); err == nil {
			t.Errorf("%s one past the limit: encoded", name)
		}
	}
	if _, err := (Receipt{[]ChainRanges{{Ranges: ranges(MaxRanges)}}}).Encode(); err != nil {
		t.Errorf("ranges at the limit: %v", err)
	}
	if body, err := (Text{strings.Repeat("x", MaxText)}).Encode(); err != nil || len(body) > MaxBody {
		t.Errorf("text at the limit: %d bytes, %v", len(body), err)
	}
}

// What the encoders would not write, a peer may.
func TestContentDecodingIsStrict(t *testing.T) {
	type m = map[int]any
	epoch := make([]byte, 8)
	chain := func(epoch []byte, slot int, ranges ...uint64) []any {
		if ranges == nil {
			ranges = []uint64{}
		}
		return []any{epoch, slot, ranges}
	}
	many := make([]any, MaxChains+1)
	for i := range many {
		many[i] = chain(epoch, 0)
	}
	text := func(b []byte) error { _, err := ParseText(b); return err }
	file := func(b []byte) error { _, err := ParseFile(b); return err }
	receipt := func(b []byte) error { _, err := ParseReceipt(b); return err }
	recall := func(b []byte) error { _, err := ParseRecall(b); return err }
	rekey := func(b []byte) error { _, err := ParseNeedRekey(b); return err }
	profile := func(b []byte) error { _, err := ParseProfile(b); return err }
	inner := func(b []byte) error { _, err := parseInner(b); return err }
	good := m{1: "n", 3: 10, 4: bytes.Repeat([]byte{1}, 32), 5: 10 + aeadExtra, 6: make([]byte, 32)}
	with := func(k int, v any) m {
		c := m{}
		for i, x := range good {
			c[i] = x
		}
		c[k] = v
		return c
	}
	if raw, _ := identity.Marshal(good); file(raw) != nil {
		t.Fatal("the control is refused: ", file(raw))
	}
	for name, c := range map[string]struct {
		parse func([]byte) error
		value any
	}{
		"text a number":         {text, m{1: 5}},
		"text too long":         {text, m{1: strings.Repeat("x", MaxText+1)}},
		"text no map":           {text, []int{1}},
		"name too long":         {file, with(1, strings.Repeat("x", maxFileName+1))},
		"media type too long":   {file, with(2, strings.Repeat("x", maxMediaType+1))},
		"size of 2^64-1":        {file, with(3, uint64(1<<64-1))},
		"size not the stream's": {file, with(3, 11)},
		"root short":            {file, with(4, make([]byte, 31))},
		"root zero":             {file, with(4, make([]byte, 32))},
		"length 2^40":           {file, with(5, uint64(1<<40))},
		"length 0":              {file, with(5, 0)},
		"last leaf empty":       {file, with(5, blob.LeafSize+aeadExtra)},
		"key long":              {file, with(6, make([]byte, 33))},
		"stream unpacked":       {file, with(7, 10)},
		"packed without stream": {file, with(8, 1)},
		"epoch short":           {receipt, m{1: []any{chain(epoch[1:], 0)}}},
		"slot too high":         {receipt, m{1: []any{chain(epoch, MaxMembers)}}},
		"half a range":          {receipt, m{1: []any{chain(epoch, 0, 1)}}},
		"range past 2^32":       {receipt, m{1: []any{chain(epoch, 0, 1<<31, 1<<31)}}},
		"range overflows":       {receipt, m{1: []any{chain(epoch, 0, 1<<63, 1<<63)}}},
		"too many chains":       {receipt, m{1: many}},
		"recall of a torn ref":  {recall, m{1: []any{[]any{epoch, 0}}}},
		"recall index 2^32":     {recall, m{1: []any{[]any{epoch, 0, uint64(1 << 32)}}}},
		"recall slot":           {recall, m{1: []any{[]any{epoch, MaxMembers, 0}}}},
		"rekey bad prekey":      {rekey, m{1: 1, 4: []any{[]byte{1, 2, 3}}}},
		"rekey bad epoch":       {rekey, m{1: 1, 2: []any{[]byte{1, 2, 3}}}},
		"rekey reason":          {rekey, m{1: 256}},
		"name too long for us":  {profile, m{1: strings.Repeat("x", MaxName+1)}},
		"inner parents torn":    {inner, m{1: 1, 2: 1, 5: make([]byte, 9)}},
		"inner parents many":    {inner, m{1: 1, 2: 1, 5: make([]byte, 40)}},
		"inner head torn":       {inner, m{1: 1, 2: 1, 6: make([]byte, 7)}},
		"inner ttl":             {inner, m{1: 1, 2: 1, 3: uint64(1 << 32)}},
		"inner body":            {inner, m{1: 1, 2: 1, 7: make([]byte, MaxBody+1)}},
		"inner deep":            {inner, m{1: 1, 2: 1, 9: []any{[]any{[]any{[]any{[]any{[]any{[]any{[]any{[]any{}}}}}}}}}}},
		"inner packed garbage":  {inner, m{1: 1, 2: 1, 7: []byte("not zstd"), 8: 1}},
	} {
		raw, err := identity.Marshal(c.value)
		if err != nil {
			t.Fatal(name, err)
		}
		if err := c.parse(raw); !errors.Is(err, ErrMalformed) {
			t.Errorf("%s: %v", name, err)
		}
	}
	for name, value := range map[string]any{"inner": m{1: 1, 2: 1, 7: []byte("x"), 8: 2}, "file": with(8, 2)} {
		raw, _ := identity.Marshal(value)
		parse := map[string]func([]byte) error{"inner": inner, "file": file}[name]
		if err := parse(raw); !errors.Is(err, ErrUnsupported) {
			t.Errorf("%s of a later packing: %v", name, err)
		}
	}
}

func TestLocationsHaveOneSize(t *testing.T) {
	size := 0
	for _, l := range []Location{
		{Kind: LocationStatic}, {Kind: LocationLive, Latitude: maxLatitude, Longitude: maxLongitude, Altitude: 1 << 30, Accuracy: 1 << 30, Time: maxFix, Valid: 1 << 31, Speed: 9},
	} {
		b, err := l.Encode()
		if err != nil {
			t.Fatal(err)
		}
		if size != 0 && len(b) != size {
			t.Fatalf("%d and %d bytes", size, len(b))
		}
		size = len(b)
	}
	if size != locationSize {
		t.Fatalf("%d bytes, documented are %d", size, locationSize)
	}
}

func TestSafeName(t *testing.T) {
	for name, want := range map[string]string{
		"report.pdf":                      "report.pdf",
		"Grüße – Übersicht.txt":           "Grüße – Übersicht.txt",
		"":                                "file",
		".":                               "file",
		"..":                              "file",
		"/":                               "file",
		"../../etc/passwd":                "passwd",
		`..\..\windows\system32\a.dll`:    "a.dll",
		"/abs/olute":                      "olute",
		"a/b/../c":                        "c",
		".bashrc":                         "bashrc",
		"-rf":                             "rf",
		"~root":                           "root",
		"a\x00b":                          "ab",
		"a\nb\r\tc":                       "abc",
		"gpj.\u202eexe":                   "gpj.exe",
		"zero\u200bwidth":                 "zerowidth",
		"a:b|c?d*e<f>g\"h":                "a_b_c_d_e_f_g_h",
		"CON":                             "_CON",
		"con.txt":                         "_con.txt",
		"Com1.log":                        "_Com1.log",
		"lpt0":                            "_lpt0",
		"nul .txt":                        "_nul .txt",
		"console.log":                     "console.log",
		"trailing. . ":                    "trailing",
		"C:":                              "C_",
		"\xff\xfe":                        "_",
		"\u202e\u200b\x07":                "file",
		"dir/":                            "dir",
		strings.Repeat("a", 300):          strings.Repeat("a", 255),
		strings.Repeat("ü", 200):          strings.Repeat("ü", 127),
		strings.Repeat("a", 300) + ".tar": strings.Repeat("a", 251) + ".tar",
	} {
		got := SafeName(name)
		if got != want {
			t.Errorf("SafeName(%q) = %q, want %q", name, got, want)
		}
		if again := SafeName(got); again != got {
			t.Errorf("SafeName(%q) = %q: not stable", got, again)
		}
	}
}

func FuzzSafeName(f *testing.F) {
	for _, s := range []string{"a/b", `..\x`, "CON", "\u202e", strings.Repeat("ü", 300) + ".x"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		n := SafeName(s)
		if n == "" || n == "." || n == ".." || len(n) > maxFileName || !utf8.ValidString(n) || strings.ContainsAny(n, "/\\\x00\n\r") || n[0] == '.' {
			t.Fatalf("SafeName(%q) = %q", s, n)
		}
	})
}

func TestSecretsDoNotPrint(t *testing.T) {
	secret := [32]byte{0xde, 0xad, 0xbe, 0xef}
	f := sampleFile()
	f.Seal.Key = FileKey(secret)
	for _, v := range []any{key(secret), FileKey(secret), PurgeKey(secret[:16]), f, &f, Wrap{PurgeKey: PurgeKey(secret[:16])}, Opened{PurgeKey: PurgeKey(secret[:16])}} {
		for _, verb := range []string{"%v", "%+v", "%#v", "%x", "%s", "%q", "%d"} {
			out := strings.ToLower(fmt.Sprintf(verb, v))
			if strings.Contains(out, "dead") || strings.Contains(out, "222 173") || strings.Contains(out, "0xde, 0xad") {
				t.Errorf("%s of %T prints the key: %s", verb, v, out)
			}
		}
	}
}
