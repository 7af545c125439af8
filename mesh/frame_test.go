package mesh

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"flag"
	"math/rand/v2"
	"os"
	"reflect"
	"slices"
	"testing"
	"time"
	"unsafe"

	"outrider/mesh/blob"
	"outrider/mesh/bundle"
	"outrider/mesh/cla"
	"outrider/mesh/identity"
	"outrider/mesh/reconcile"
	"outrider/mesh/routing"
)

var update = flag.Bool("update", false, "write testdata/vectors from the code")

func testHeader() bundle.Header {
	tag := identity.Tag{1, 2, 3, 4, 5, 6, 7, 8}
	h, err := bundle.Header{
		Version: 1, Tag: tag, Precedence: bundle.Priority, Lifetime: time.Hour, Commitment: bundle.PurgeKey{9}.Commit(tag), Kind: bundle.KindMessage,
	}.Encode()
	if err != nil {
		panic(err)
	}
	return h
}

// A sample is a frame of a type, as it goes over a link.
type sample struct {
	name  string
	frame Frame
	body  []byte
}

// samples has at least one frame of every type. Their wire forms are the
// vectors.
func samples() []sample {
	h := testHeader()
	hop := bundle.Hop{Age: 77, Count: 2, Budget: 4}
	payload := []byte("thirty-two bytes of ciphertext..")
	b := bundle.Bundle{Hop: hop, Header: h, Payload: payload}
	head := transferHead{Num: 5, Hop: hop, Header: h, Size: len(payload)}
	record := bundle.NewPurgeRecord(b, bundle.PurgeKey{9})
	root := blob.Root{0xaa, 0xbb}
	list := []sample{
		{"state", stateFrame{
			Min: 1, Max: 1, Heads: []byte{1, 2}, Features: 0, Generation: 1, Epoch: [8]byte{1}, Seq: 300, KnownEpoch: [8]byte{2},
			KnownSeq: 7, KnownSpray: 8, Root: [16]byte{3}, FreeKiB: 1 << 18, AckEvery: 8,
		}, nil},
		{"sync", syncFrame{Seq: 301, Root: [16]byte{4}, FreeKiB: 0}, nil},
		{"tags-all", tagsFrame{Replace: true, Add: []uint32{5, 500, 1 << 31}, Remove: []uint32{}}, nil},
		{"tags-change", tagsFrame{Add: []uint32{1 << 30}, Remove: []uint32{5}}, nil},
		{"tags-archive", tagsFrame{Archive: true, Add: []uint32{5}, Remove: []uint32{}}, nil},
		{"tags-everything", tagsFrame{Replace: true, All: true, Add: []uint32{}, Remove: []uint32{}}, nil},
		{"scopes", scopesFrame{[5]reconcile.Fingerprint{{Count: 1, Sum: 2}, {}, {Count: 300, Sum: 1 << 63}}}, nil},
		{"differ", differFrame{Mask: 0b101}, nil},
		{"ask", askFrame{Scope: routing.FloodRoutine, Start: 16, Count: 8}, nil},
		{"want", wantFrame{Scope: routing.Control, Last: true, Shorts: []uint64{1, 1 << 63}}, nil},
		{"want-nothing", wantFrame{Scope: routing.FloodFlash, Last: true, Shorts: []uint64{}}, nil},
		{"list", listFrame{Scope: routing.FloodPriority}, nil},
		{"pick", pickFrame{Num: 9, Bits: []byte{0b101, 1}}, nil},
		{"gone", goneFrame{Shorts: []uint64{42}}, nil},
		{"ack", ackFrame{Got: 12, Runs: []ackRun{{First: 3, Count: 4, Code: CodeDurable}, {First: 8, Count: 1, Code: CodeNoSpace}}}, nil},
		{"ack-credit", ackFrame{Got: 13}, nil},
		{"abort", abortFrame{Num: 6}, nil},
		{"partial", partialFrame{Items: []partialItem{{ID: bundle.ID{7}, Have: 1024}}}, nil},
		{"query", queryFrame{Query: 1 << 60, Tag: h.Tag, Hops: 16}, nil},
		{"path", pathFrame{Query: 1 << 60, Tag: h.Tag, Hops: 3}, nil},
		{"blobask", blobAskFrame{Roots: []blob.Root{root}}, nil},
		{"blobhave", blobHaveFrame{Root: root, Length: 40000, Stretch: []byte{1, 0, 0, 2}}, nil},
		{"blobwant", blobWantFrame{Pull: 2, Root: root, First: 1, Count: 2, Offset: 512, Proof: true}, nil},
		{"blobend", blobEndFrame{Pull: 2}, nil},
		{"symbols", symbolsFrame{Scope: routing.FloodRoutine, Start: 2, Total: 10, Symbols: []reconcile.Symbol{{Sum: 5, Count: 4, Check: 6}}}, nil},
		{"offer", offerFrame{Num: 1, Scope: routing.FloodRoutine, Shorts: []uint64{3, 4}}, nil},
		{"offer-list", offerFrame{Num: 2, List: true, Last: true, Scope: routing.Control, Shorts: []uint64{}}, nil},
		{"offer-spray", offerFrame{Num: 3, Spray: true, Last: true, Upto: 99, Shorts: []uint64{5}}, nil},
		{"offer-ids", offerFrame{Num: 4, IDs: []bundle.ID{{1}, {2}}}, nil},
		{"data", dataFrame{Num: 5, Offset: 16}, payload[16:]},
		{"proof", proofFrame{Pull: 2, Group: 0}, bytes.Repeat([]byte{1}, 66)},
		{"leaf", leafFrame{Pull: 2, Leaf: 1, Offset: 512}, payload},
	}
	head.PayloadHash = record.PayloadHash
	list = append(list,
		sample{"bundle", nil, append(appendTransfer(nil, false, head, 0), payload...)},
		sample{"begin", nil, append(appendTransfer(nil, true, head, 8), payload[8:16]...)},
		sample{"purge", nil, record.Append(appendNum([]byte{typePurge}, 6))},
	)
	return list
}

func (s sample) wire() []byte {
	if s.frame == nil {
		return s.body
	}
	return append(appendFrame(nil, s.frame), s.body...)
}

func TestEveryFrameTypeHasASample(t *testing.T) {
	seen := map[byte]bool{}
	for _, s := range samples() {
		seen[s.wire()[0]] = true
	}
	for kind, name := range frameNames {
		if !seen[kind] {
			t.Errorf("no sample of %s", name)
		}
	}
}

func TestFramesRoundTrip(t *testing.T) {
	for _, s := range samples() {
		wire := s.wire()
		f, err := ParseFrame(wire)
		if err != nil {
			t.Errorf("%s does not parse: %v", s.name, err)
			continue
		}
		if !bytes.Equal(rewrite(f), wire) {
			t.Errorf("%s: %x became %x", s.name, wire, rewrite(f))
		}
		if s.frame != nil && s.body == nil && !reflect.DeepEqual(f, s.frame) {
			t.Errorf("%s: %+v became %+v", s.name, s.frame, f)
		}
		for n := range wire {
			if _, err := ParseFrame(wire[:n]); err == nil && !cuttable(wire[0]) && n > 0 {
				t.Errorf("%s parses when cut to %d of %d bytes", s.name, n, len(wire))
			}
		}
		if _, err := ParseFrame(append(slices.Clone(wire), 0)); err == nil && !openEnded(wire[0]) {
			t.Errorf("%s parses with a byte too many", s.name)
		}
	}
}

// cuttable frames end in a list or in payload, so that a shorter one may be
// whole as well; the link delivers frames whole or not at all.
func cuttable(kind byte) bool {
	switch kind {
	case typeWant, typeGone, typePick, typeOffer, typeAck, typePartial, typeBlobAsk, typeBlobHave, typeData, typeLeaf, typeProof, typeBegin, typeSymbols:
		return true
	}
	return false
}

// openEnded frames may be longer than this version writes them.
func openEnded(kind byte) bool {
	switch kind {
	case typeState, typePick, typeBlobHave, typeData, typeLeaf, typeProof, typeBegin:
		return true
	}
	return false
}

// rewrite makes the wire form of a parsed frame again.
func rewrite(f Frame) []byte {
	switch f := f.(type) {
	case bundleFrame:
		return append(appendTransfer(nil, false, f.transferHead, 0), f.Body...)
	case beginFrame:
		return append(appendTransfer(nil, true, f.transferHead, f.Offset), f.Body...)
	case purgeFrame:
		return f.Record.Append(appendNum([]byte{typePurge}, f.Num))
	}
	return append(appendFrame(nil, f), Body(f)...)
}

func TestFrameLimitsOnePast(t *testing.T) {
	words := func(n int) []uint64 { return make([]uint64, n) }
	for _, c := range []struct {
		name     string
		fits, no Frame
	}{
		{"want", wantFrame{Shorts: words(maxShorts)}, wantFrame{Shorts: words(maxShorts + 1)}},
		{"gone", goneFrame{Shorts: words(maxShorts)}, goneFrame{Shorts: words(maxShorts + 1)}},
		{"offer", offerFrame{Shorts: words(maxBatch)}, offerFrame{Shorts: words(maxBatch + 1)}},
		{"offer ids", offerFrame{IDs: make([]bundle.ID, maxBatch)}, offerFrame{IDs: make([]bundle.ID, maxBatch+1)}},
		{"symbols", symbolsFrame{Symbols: make([]reconcile.Symbol, maxBatch)}, symbolsFrame{Symbols: make([]reconcile.Symbol, maxBatch+1)}},
		{"heads", stateFrame{Heads: make([]byte, maxHeads)}, stateFrame{Heads: make([]byte, maxHeads+1)}},
		{"partials", partialFrame{Items: make([]partialItem, maxPartials)}, partialFrame{Items: make([]partialItem, maxPartials+1)}},
		{"roots", blobAskFrame{Roots: make([]blob.Root, maxRoots)}, blobAskFrame{Roots: make([]blob.Root, maxRoots+1)}},
		{"stretch", blobHaveFrame{Stretch: make([]byte, maxStretch)}, blobHaveFrame{Stretch: make([]byte, maxStretch+1)}},
		{"pick", pickFrame{Bits: make([]byte, maxBatch/8)}, pickFrame{Bits: make([]byte, maxBatch/8+1)}},
		{"runs", ackFrame{Runs: manyRuns(maxRuns)}, ackFrame{Runs: manyRuns(maxRuns + 1)}},
		{"count", blobWantFrame{Count: blob.GroupLeaves}, blobWantFrame{Count: blob.GroupLeaves + 1}},
	} {
		if _, err := ParseFrame(appendFrame(nil, c.fits)); err != nil {
			t.Errorf("%s at its limit: %v", c.name, err)
		}
		if _, err := ParseFrame(appendFrame(nil, c.no)); !errors.Is(err, ErrMalformed) {
			t.Errorf("%s one past its limit: %v", c.name, err)
		}
	}
	if _, err := ParseFrame(nil); !errors.Is(err, ErrMalformed) {
		t.Errorf("an empty frame: %v", err)
	}
	huge := appendNum([]byte{typeBundle, 1, 3, 0x83, 0, 0, 0}, 4<<30)[:9]
	if _, err := ParseFrame(huge); !errors.Is(err, ErrMalformed) {
		t.Errorf("a header of 4 GiB: %v", err)
	}
}

func manyRuns(n int) (runs []ackRun) {
	for i := range n {
		runs = append(runs, ackRun{First: uint64(2 * i), Count: 1})
	}
	return runs
}

type frameVector struct {
	Name string `json:"name"`
	Type string `json:"type,omitempty"`
	Wire string `json:"wire"`
}

// TestFrameVectors holds the wire to what was published.
func TestFrameVectors(t *testing.T) {
	const path = "testdata/vectors/frames.json"
	var list struct {
		Good []frameVector `json:"good"`
		Bad  []frameVector `json:"malformed"`
	}
	for _, s := range samples() {
		list.Good = append(list.Good, frameVector{s.name, FrameName(s.wire()[0]), hex.EncodeToString(s.wire())})
	}
	for name, wire := range map[string]string{
		"empty": "", "sync-cut": "020104", "differ-unknown-scope": "0fff", "ask-scope-out-of-range": "05051008",
		"number-not-shortest": "0b8600", "want-not-whole-ids": "06010101", "ack-empty-run": "0a0c030000",
		"tags-unknown-flag": "0308000100000100", "data-without-bytes": "440510", "bundle-header-cut": "42050383000000ff",
	} {
		list.Bad = append(list.Bad, frameVector{Name: name, Wire: wire})
	}
	slices.SortFunc(list.Bad, func(a, b frameVector) int { return bytes.Compare([]byte(a.Name), []byte(b.Name)) })
	for _, v := range list.Bad {
		raw, err := hex.DecodeString(v.Wire)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := ParseFrame(raw); !errors.Is(err, ErrMalformed) {
			t.Errorf("%s parses: %v", v.Name, err)
		}
	}
	want, err := json.MarshalIndent(list, "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	want = append(want, '\n')
	if *update {
		if err := os.MkdirAll("testdata/vectors", 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, want, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Fatal("the code no longer makes the published frames; peers would not understand it")
	}
}

// fuzzFrames checks, for all types with the given ones as seeds, that a frame
// round-trips or is ErrMalformed.
func fuzzFrames(f *testing.F, kinds ...byte) {
	for _, s := range samples() {
		if slices.Contains(kinds, s.wire()[0]) {
			f.Add(s.wire()[1:], s.wire()[0])
		}
	}
	f.Fuzz(func(t *testing.T, data []byte, kind byte) {
		if !slices.Contains(kinds, kind) {
			kind = kinds[int(kind)%len(kinds)]
		}
		raw := append([]byte{kind}, data...)
		frame, err := ParseFrame(raw)
		if err != nil {
			if !errors.Is(err, ErrMalformed) {
				t.Fatal(err)
			}
			return
		}
		if len(Body(frame)) > maxData {
			t.Fatalf("%d bytes of payload", len(Body(frame)))
		}
		again, err := ParseFrame(rewrite(frame))
		if err != nil {
			t.Fatalf("%s does not parse again: %v", FrameName(kind), err)
		}
		if !bytes.Equal(rewrite(again), rewrite(frame)) {
			t.Fatalf("%s does not round-trip", FrameName(kind))
		}
		Describe(frame)
	})
}

func FuzzStateFrames(f *testing.F) {
	fuzzFrames(f, typeState, typeSync, typeTags, typeQuery, typePath, typePartial)
}

func FuzzSetFrames(f *testing.F) {
	fuzzFrames(f, typeScopes, typeDiffer, typeAsk, typeWant, typeList, typePick, typeGone, typeSymbols, typeOffer)
}

func FuzzTransferFrames(f *testing.F) {
	fuzzFrames(f, typeBundle, typeBegin, typeData, typeAbort, typePurge, typeAck)
}

func FuzzBlobFrames(f *testing.F) {
	fuzzFrames(f, typeBlobAsk, typeBlobHave, typeBlobWant, typeBlobEnd, typeProof, typeLeaf)
}

// FuzzMachine lets a hostile neighbour say whatever it likes, in any order.
// The machine must not panic, must answer in bounded measure, and must give
// every payload back.
func FuzzMachine(f *testing.F) {
	var seed []byte
	for _, s := range samples() {
		seed = append(appendNum(seed, uint64(len(s.wire()))), s.wire()...)
	}
	f.Add(seed)
	f.Add(seed[:len(seed)/2])
	f.Fuzz(func(t *testing.T, script []byte) {
		m := NewMachine(Config{Self: identity.NodeID{9}, Generation: 1, Rand: rand.NewPCG(1, 1)})
		held := map[Token]bool{}
		var next Token
		var do func(in Input)
		now := Time(0)
		do = func(in Input) {
			now += Time(time.Millisecond)
			for _, out := range slices.Clone(m.Step(now, in)) {
				switch o := out.(type) {
				case Free:
					if !held[o.Token] {
						t.Fatal("token given back twice")
					}
					delete(held, o.Token)
				case Join:
					delete(held, o.From)
				case JudgeControl:
					do(Judged{Token: o.Token, Verdict: Judgement{Code: VerdictCode(o.Token % 4), Key: [16]byte{byte(o.Token % 3)}, Number: uint64(o.Token)}})
				case Commit:
					for _, op := range o.Ops {
						if p, ok := op.(PutBundle); ok {
							delete(held, p.Token)
						}
					}
					var err error
					if o.Commit%5 == 0 {
						err = ErrStoreFull
					}
					do(Committed{[]CommitResult{{o.Commit, err}}})
				case WriteLeaf:
					delete(held, o.Token)
					do(BlobsWritten{[]BlobResult{{Root: o.Root, Leaf: o.Leaf}}})
				case WriteProof:
					delete(held, o.Token)
				case OpenBlob:
					do(BlobOpened{Blob: o.Blob, Have: blob.NewBitmap(o.Blob.Geometry().Leaves())})
				}
			}
		}
		do(Started{})
		do(PeerUp{Link: 1, Peer: identity.NodeID{1}, Info: cla.Info{Class: cla.WiFi}})
		do(Received{Link: 1, Frame: stateFrame{Min: 1, Max: 1, Generation: 1, Epoch: [8]byte{1}, Root: [16]byte{1}}})
		r := reader{data: script}
		for range 200 {
			raw := r.part(2048)
			if r.bad || len(raw) == 0 {
				break
			}
			frame, err := ParseFrame(raw)
			if err != nil {
				do(Malformed{Link: 1, Type: raw[0]})
				continue
			}
			in := Received{Link: 1, Frame: frame}
			if len(Body(frame)) > 0 {
				next++
				held[next] = true
				in.Token = next
			}
			do(in)
			if len(m.idx.entries) > 1000 || len(m.asked) > maxAsked || len(m.out) > 4096 {
				t.Fatal("unbounded")
			}
		}
		now += Time(time.Hour)
		do(Wake{})
		do(PeerDown{Link: 1})
		st := m.Status(now)
		if want := st.Partials + st.LeafParts + st.Put + st.Judging; len(held) != want {
			t.Fatalf("%d payloads kept, %d needed", len(held), want)
		}
	})
}

// Decisions 14: at most 64 bytes for a known bundle.
func TestEntryIsSixtyFourBytes(t *testing.T) {
	if n := unsafe.Sizeof(entry{}); n != 64 {
		t.Fatalf("an entry takes %d bytes", n)
	}
}
