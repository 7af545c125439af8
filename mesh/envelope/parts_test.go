package envelope

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"outrider/mesh/identity"
)

func TestPaddingSteps(t *testing.T) {
	for _, c := range []struct{ n, bucket, step64 int }{
		{1, 64, 64}, {64, 64, 64}, {65, 128, 128}, {511, 512, 512}, {512, 512, 512}, {513, 576, 576}, {577, 640, 640},
		{1024, 1024, 1024}, {1025, 1152, 1088}, {2049, 2304, 2112}, {32768, 32768, 32768}, {32769, 36864, 32832}, {57345, 61440, 57408},
	} {
		if got := PadBucket.size(c.n); got != c.bucket {
			t.Errorf("bucket of %d is %d, want %d", c.n, got, c.bucket)
		}
		if got := Pad64.size(c.n); got != c.step64 {
			t.Errorf("64-byte step of %d is %d, want %d", c.n, got, c.step64)
		}
		if got := PadOff.size(c.n); got != c.n {
			t.Errorf("no padding of %d is %d", c.n, got)
		}
	}
	for n := 513; n <= maxPlain; n++ {
		if got := PadBucket.size(n); got < n || float64(got) > 1.125*float64(n)+1 {
			t.Fatalf("%d padded to %d", n, got)
		}
	}
	if maxPlain+aeadExtra+prefixSize > MaxPayload || PadBucket.size(maxPlain) != maxPlain {
		t.Fatal("the largest plaintext does not fit a payload")
	}
}

func TestPaddingRoundTripAndStrictness(t *testing.T) {
	for _, p := range []Padding{PadBucket, Pad64, PadOff} {
		plain, err := pad(p, []byte("fields"), make([]byte, sigSize))
		if err != nil {
			t.Fatal(err)
		}
		f, tail, err := unpad(plain, sigSize)
		if err != nil || string(f) != "fields" || len(tail) != sigSize {
			t.Fatalf("%q, %d bytes: %v", f, len(tail), err)
		}
	}
	if _, err := pad(PadOff, make([]byte, maxPlain-2-sigSize+1), make([]byte, sigSize)); !errors.Is(err, ErrTooLarge) {
		t.Fatalf("one past the limit: %v", err)
	}
	if _, err := pad(PadOff, make([]byte, maxPlain-2-sigSize), make([]byte, sigSize)); err != nil {
		t.Fatalf("at the limit: %v", err)
	}
	plain, _ := pad(Pad64, []byte("fields"), nil)
	plain[len(plain)-1] = 1
	for name, bad := range map[string][]byte{"padding not zero": plain, "empty": {}, "one byte": {0}, "length beyond": {0, 9, 1}, "no room for the trailer": {0, 1, 1}} {
		if _, _, err := unpad(bad, min(len(bad), 1)); !errors.Is(err, ErrMalformed) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// All members of an epoch must pad alike to be read alike: any policy opens.
func TestAnyPaddingOpens(t *testing.T) {
	for _, p := range []Padding{PadBucket, Pad64, PadOff} {
		w := newWorld(t)
		w.padding = p
		alice := w.node('a', 1)
		w.padding = PadBucket
		bob := w.node('b', 1)
		e := alice.start(bob)
		bob.receive(alice.send(e, strings.Repeat("padding ", 200)))
	}
}

func TestBodiesArePackedOnlyIfItHelps(t *testing.T) {
	w := newWorld(t)
	alice, bob := w.node('a', 1), w.node('b', 1)
	e := alice.start(bob)
	long := strings.Repeat("the quick brown fox jumps over the lazy dog; ", 40)
	plain := len(alice.send(e, randomText(len(long))).payload)
	m := alice.send(e, long)
	if len(m.payload)*2 > plain {
		t.Fatalf("%d bytes packed, %d unpacked", len(m.payload), plain)
	}
	bob.receive(m)
	for _, text := range []string{strings.Repeat("a", MaxText), strings.Repeat("ab", 48), randomText(300), ""} {
		bob.receive(alice.send(e, text))
	}
	// Only texts: a location's length must not depend on where it is.
	d, err := alice.Draft(e)
	if err != nil {
		t.Fatal(err)
	}
	h := header(d.Tag(), d.PurgeKey())
	p, err := d.Seal(h, Inner{Type: TypeLocation, Body: make([]byte, 2000)})
	if err != nil || len(p) < 2000 {
		t.Fatalf("%d bytes: %v", len(p), err)
	}
}

func TestBodyBomb(t *testing.T) {
	for name, body := range map[string][]byte{
		"over the ratio": make([]byte, MaxBody),
		"over the size":  bytes.Repeat([]byte(randomText(900)), 100),
	} {
		packed := packBody(body)
		if _, err := unpackBody(packed); !errors.Is(err, ErrMalformed) {
			t.Errorf("%s: %d bytes became %d: %v", name, len(packed), len(body), err)
		}
	}
	ok := bytes.Repeat([]byte(randomText(900)), 60)
	if got, err := unpackBody(packBody(ok)); err != nil || !bytes.Equal(got, ok) {
		t.Fatalf("within bounds: %v", err)
	}
}

func TestOpRoundTrip(t *testing.T) {
	o := Op{
		Kind: OpRekey, Conversation: ConversationID{1}, Issuer: identity.DeviceID{2}, Nonce: [16]byte{3}, Parents: [][32]byte{{4}, {5}},
		Sent: 6, RosterHash: [32]byte{7}, Transport: TransportSubtree, Body: []byte{8},
	}
	raw, err := o.encode()
	if err != nil {
		t.Fatal(err)
	}
	got, err := ParseOp(raw)
	if err != nil {
		t.Fatal(err)
	}
	again, err := got.encode()
	if err != nil || !bytes.Equal(raw, again) {
		t.Fatalf("%+v, %v", got, err)
	}
	for name, bad := range map[string]Op{
		"parents": {Parents: make([][32]byte, maxOpParents+1)}, "body": {Body: make([]byte, maxOpBody+1)},
	} {
		if _, err := bad.encode(); !errors.Is(err, ErrTooLarge) {
			t.Errorf("%s one past the limit: %v", name, err)
		}
	}
	type m = map[int]any
	id := make([]byte, 16)
	base := m{1: 1, 2: 9, 3: id, 4: id, 5: id, 7: 1}
	with := func(k int, v any) m {
		c := m{}
		for i, x := range base {
			c[i] = x
		}
		c[k] = v
		return c
	}
	for name, c := range map[string]struct {
		v    m
		want error
	}{
		"control": {base, nil}, "unknown key": {with(99, 1), nil}, "suite 2": {with(1, 2), ErrUnsupported},
		"kind": {with(2, 256), ErrMalformed}, "conversation": {with(3, id[1:]), ErrMalformed}, "issuer": {with(4, id[1:]), ErrMalformed},
		"nonce": {with(5, id[1:]), ErrMalformed}, "parent": {with(6, []any{id}), ErrMalformed}, "parents": {with(6, make([][]byte, maxOpParents+1)), ErrMalformed},
		"roster": {with(8, id), ErrMalformed}, "transport": {with(9, 256), ErrMalformed}, "body": {with(10, make([]byte, maxOpBody+1)), ErrMalformed},
		"too long": {with(99, make([]byte, maxOp)), ErrMalformed},
	} {
		raw, err := identity.Marshal(c.v)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := ParseOp(raw); !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", name, err, c.want)
		}
	}
}

func TestRoster(t *testing.T) {
	ms := []Member{{User: identity.UserID{1}, Device: identity.DeviceID{9}}, {User: identity.UserID{1}, Device: identity.DeviceID{3}, Flags: 0x81}}
	r, err := newRoster(ms)
	if err != nil || r[0].Device[0] != 3 || r.slot(identity.DeviceID{9}) != 1 || r.slot(identity.DeviceID{1}) != -1 {
		t.Fatalf("%+v, %v", r, err)
	}
	got, err := parseRoster(r.encode())
	if err != nil || !slices.Equal(got, r) {
		t.Fatalf("%+v, %v", got, err)
	}
	raw := r.encode()
	swapped := append(append(bytes.Clone(raw[:2]), raw[2+memberSize:]...), raw[2:2+memberSize]...)
	twice := append(append(bytes.Clone(raw[:2]), raw[2:2+memberSize]...), raw[2:2+memberSize]...)
	for name, bad := range map[string][]byte{
		"empty": nil, "none": {0, 0}, "short": raw[:len(raw)-1], "long": append(bytes.Clone(raw), 0), "unsorted": swapped, "twice": twice,
		"too many": append([]byte{4, 1}, make([]byte, (MaxMembers+1)*memberSize)...),
	} {
		if _, err := parseRoster(bad); !errors.Is(err, ErrMalformed) {
			t.Errorf("%s: %v", name, err)
		}
	}
	full := make([]Member, MaxMembers+1)
	for i := range full {
		full[i].Device = identity.DeviceID{byte(i >> 8), byte(i)}
	}
	if _, err := newRoster(full[:MaxMembers]); err != nil {
		t.Fatalf("at the limit: %v", err)
	}
	if _, err := newRoster(full); !errors.Is(err, ErrMalformed) {
		t.Fatalf("one past the limit: %v", err)
	}
}

func TestWrapTree(t *testing.T) {
	for _, n := range []int{1, 2, 3, 7, 8, 9, 500, MaxMembers - 1} {
		leaves := make([]treeHash, n)
		for i := range leaves {
			leaves[i] = wrapLeaf(identity.DeviceID{byte(i), byte(i >> 8)}, uint32(i), []byte("h"), []byte("e"), []byte("s"), nil)
		}
		levels := treeLevels(leaves)
		root := levels[len(levels)-1][0]
		for i := range leaves {
			path := treePath(levels, i)
			if got, ok := climb(leaves[i], path, i, n); !ok || got != root {
				t.Fatalf("leaf %d of %d", i, n)
			}
			if got, ok := climb(leaves[i], path, (i+1)%n, n); n > 1 && ok && got == root {
				t.Fatalf("leaf %d of %d passes as its neighbour", i, n)
			}
			if _, ok := climb(leaves[i], append(path, root[:]...), i, n); ok {
				t.Fatalf("leaf %d of %d: path too long", i, n)
			}
			if len(path) > 0 {
				if _, ok := climb(leaves[i], path[32:], i, n); ok {
					t.Fatalf("leaf %d of %d: path too short", i, n)
				}
			}
		}
	}
	// The parts of a leaf cannot be shifted against each other.
	if wrapLeaf(identity.DeviceID{}, 0, []byte("ab"), []byte("c"), nil, nil) == wrapLeaf(identity.DeviceID{}, 0, []byte("a"), []byte("bc"), nil, nil) {
		t.Fatal("header and exchange run into each other")
	}
}

// decisions.md 3, computed by hand.
func TestPrefixIsMaskedAsDecided(t *testing.T) {
	b := binding{opHash{1}, key{2}}
	in := position{0x0102, 0x03040506}
	payload, _, err := b.sealMessage(key{3}, in, identity.PrivateKeyFromSeed([32]byte{4}), []byte("header"), []byte("fields"), PadOff)
	if err != nil {
		t.Fatal(err)
	}
	m := hmac.New(sha256.New, b.header[:])
	m.Write(payload[len(payload)-16:])
	mask, want := m.Sum(nil), []byte{1, 2, 3, 4, 5, 6}
	for i := range want {
		if payload[i]^mask[i] != want[i] {
			t.Fatalf("byte %d", i)
		}
	}
	if at, err := b.locate(payload); err != nil || at != in {
		t.Fatalf("%+v, %v", at, err)
	}
}

func TestRatchetAgainstModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		r := ratchet{key: key{1}}
		truth := map[uint32]key{}
		k := key{1}
		for c := range uint32(300) {
			truth[c], k = k.step()
		}
		got := map[uint32]bool{}
		for _, c := range rapid.SliceOfN(rapid.Uint32Range(0, 299), 1, 60).Draw(t, "counters") {
			switch g := r.gaps[c]; {
			case c >= r.next:
				passed, m, next := r.seek(c)
				if m != truth[c] {
					t.Fatalf("key of %d", c)
				}
				r.advance(c, passed, next, 0)
			case g != nil:
				if g.key != truth[c] {
					t.Fatalf("key of gap %d", c)
				}
				delete(r.gaps, c)
			default:
				if !got[c] {
					t.Fatalf("%d is neither ahead nor a gap", c)
				}
			}
			got[c] = true
		}
		count := uint32(0)
		for _, x := range r.received() {
			for c := x.From; c <= x.To; c++ {
				if !got[c] {
					t.Fatalf("%d counted as received", c)
				}
				count++
			}
		}
		if int(count) != len(got) {
			t.Fatalf("%d received, want %d", count, len(got))
		}
	})
}

func TestLostRangesAreBounded(t *testing.T) {
	var r ratchet
	for i := range uint32(3 * maxLost) {
		r.lose(Range{4 * i, 4*i + 1})
	}
	if len(r.lost) != maxLost || !r.isLost(4*(3*maxLost-1)) || r.isLost(2) {
		t.Fatalf("%d ranges", len(r.lost))
	}
	r.lose(Range{0, 1 << 30})
	if len(r.lost) != 1 {
		t.Fatalf("not merged: %v", r.lost)
	}
}

func TestAgeFollowsTheClockWithBounds(t *testing.T) {
	w := newWorld(t)
	a := age{now: 1, clock: w.now, maxStep: 1000 * time.Second}
	tick := func(seconds float64, want int64) {
		t.Helper()
		w.pass(time.Duration(seconds * float64(time.Second)))
		a.tick(w.now)
		if a.now != want {
			t.Fatalf("age %d, want %d", a.now, want)
		}
	}
	tick(10, 11)
	tick(0.5, 11)
	tick(0.5, 12) // halves add up
	tick(-500, 12)
	tick(3, 15)
	tick(1e9, 1015) // a jump costs no more than a step
	tick(1, 1016)
}

func TestReceivedAndMissing(t *testing.T) {
	w := newWorld(t)
	alice, bob := w.node('a', 1), w.node('b', 1)
	e := alice.start(bob)
	var mails []mail
	for i := range 8 {
		m, err := alice.trySend(e, string(rune('a'+i)), i >= 6)
		if err != nil {
			t.Fatal(err)
		}
		mails = append(mails, m)
	}
	for _, i := range []int{0, 1, 3, 5, 7} {
		bob.receive(mails[i])
	}
	want := []Range{{0, 1}, {3, 3}, {5, 5}, {liveBit + 1, liveBit + 1}}
	check := func() {
		t.Helper()
		got := bob.Received(e)
		if len(got) != 1 || int(got[0].Slot) != alice.epochs[e].slot || !slices.Equal(got[0].Ranges, want) {
			t.Fatalf("%v", got)
		}
	}
	check()
	bob.restart()
	check()
	if len(bob.Missing(e)) != 0 || bob.Received(EpochID{9}) != nil {
		t.Fatal("something is missing already")
	}
	if _, err := (Receipt{bob.Received(e)}).Encode(); err != nil {
		t.Fatal(err)
	}
}

func TestKeyringRefusesAWrongSelf(t *testing.T) {
	w := newWorld(t)
	self := w.node('a', 1).self
	for name, change := range map[string]func(*Self){
		"key of another device": func(s *Self) { s.Key = identity.PrivateKeyFromSeed([32]byte{1}) },
		"no key":                func(s *Self) { s.Key = identity.PrivateKey{} },
		"no tag key":            func(s *Self) { s.TagKeys = nil },
		"no lookup":             func(s *Self) { s.Lookup = nil },
	} {
		bad := self
		change(&bad)
		d := newDisk()
		if _, err := NewKeyring(d, d, bad, w.clock); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

func TestDamagedRecordsAreNamed(t *testing.T) {
	w := newWorld(t)
	alice, bob := w.node('a', 1), w.node('b', 1)
	e := alice.start(bob)
	late := alice.send(e, "late")
	bob.receive(alice.send(e, "x"))
	_ = late
	for name, value := range bob.disk.records {
		d := bob.disk.snapshot()
		d.records[name] = value[:len(value)-1]
		if _, err := NewKeyring(d, d, bob.self, w.clock); !errors.Is(err, ErrMalformed) {
			t.Errorf("%s cut short: %v", strings.Split(name, "/")[0], err)
		}
	}
}
