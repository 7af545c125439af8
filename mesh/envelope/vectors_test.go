package envelope

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"flag"
	"maps"
	"os"
	"slices"
	"testing"
	"time"

	"outrider/mesh/blob"
	"outrider/mesh/identity"
)

var update = flag.Bool("update", false, "rewrite testdata/vectors (sealed bytes change)")

// A bin is a byte string that JSON has in hexadecimal.
type bin []byte

func (b bin) MarshalText() ([]byte, error) { return []byte(hex.EncodeToString(b)), nil }

func (b *bin) UnmarshalText(t []byte) (err error) { *b, err = hex.DecodeString(string(t)); return err }

// classes are the failure classes that vectors name.
var classes = map[string]error{
	"ok": nil, "malformed": ErrMalformed, "forged": ErrForged, "unsupported": ErrUnsupported, "duplicate": ErrDuplicate,
	"unknown-epoch": ErrUnknownEpoch, "unknown-sender": ErrUnknownSender, "too-far-ahead": ErrTooFarAhead,
	"not-for-us": ErrNotForUs, "no-prekey": ErrNoPrekey, "own": ErrOwn,
}

func checkClass(t *testing.T, name, class string, err error) bool {
	t.Helper()
	want, known := classes[class]
	if !known {
		t.Fatalf("%s: unknown class %q", name, class)
	}
	if !errors.Is(err, want) || want == nil && err != nil {
		t.Errorf("%s: %v, want %s", name, err, class)
		return false
	}
	return err == nil
}

func loadVectors(t *testing.T, file string, v any, write func()) {
	t.Helper()
	if *update {
		write()
		raw, err := json.MarshalIndent(v, "", "  ")
		if err != nil {
			t.Fatal(err)
		}
		if err := os.MkdirAll("testdata/vectors", 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile("testdata/vectors/"+file, append(raw, '\n'), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	raw, err := os.ReadFile("testdata/vectors/" + file)
	if err != nil {
		t.Fatal(err)
	}
	dec := json.NewDecoder(bytes.NewReader(raw))
	dec.DisallowUnknownFields()
	if err := dec.Decode(v); err != nil {
		t.Fatal(err)
	}
}

// schedule.json: everything that is derived, byte by byte.
type scheduleVector struct {
	Network      bin   `json:"network"`
	Op           bin   `json:"op"`
	Roster       bin   `json:"roster"`
	Wrapped      bin   `json:"wrapped_secret"`
	Carry        bin   `json:"parent_carry"` // empty: none
	RosterHash   bin   `json:"roster_hash"`
	OpHash       bin   `json:"op_hash"`
	Epoch        bin   `json:"epoch"`
	Secret       bin   `json:"epoch_secret"`
	Root         bin   `json:"root"`
	Tag          bin   `json:"tag_key"`
	Header       bin   `json:"header_key"`
	Control      bin   `json:"control_key"`
	ChildCarry   bin   `json:"carry"`
	DayTags      []bin `json:"day_tags"`
	Device       bin   `json:"device"`
	MailStart    bin   `json:"mail_chain_0"`
	LiveStart    bin   `json:"live_chain_0"`
	MailMessages []bin `json:"mail_message_keys"` // of counters 0, 1, 2
	MailNext     bin   `json:"mail_chain_3"`
	SealKey      bin   `json:"seal_key_0"`
	PurgeKey     bin   `json:"purge_key_0"`
	Conversation bin   `json:"conversation"`
}

func makeSchedule(carry bin) scheduleVector {
	network := identity.NetworkID{0xaa, 0xbb}
	r, _ := newRoster([]Member{
		{User: identity.UserID{1}, Device: identity.DeviceID{0x10}}, {User: identity.UserID{2}, Device: identity.DeviceID{0x20}},
		{User: identity.UserID{3}, Device: identity.DeviceID{0x30}, Flags: MemberCompliance},
	})
	conv := DirectConversation(network, identity.UserID{2}, identity.UserID{1})
	op := Op{
		Kind: OpDirect, Conversation: conv, Issuer: identity.DeviceID{0x10}, Nonce: [16]byte{0x55}, Sent: 1_777_777_777_777,
		RosterHash: hashRoster(r.encode()), Transport: TransportCold,
	}
	raw, _ := op.encode()
	wrapped := key(bytes.Repeat([]byte{0x77}, 32))
	hash := hashOp(network, raw)
	secret := epochSecret(wrapped, carry, hash, op.RosterHash)
	keys := expand(secret)
	v := scheduleVector{
		Network: network[:], Op: raw, Roster: r.encode(), Wrapped: wrapped[:], Carry: carry, RosterHash: op.RosterHash[:], OpHash: hash[:],
		Secret: secret[:], Root: keys.root[:], Tag: keys.tag[:], Header: keys.header[:], Control: keys.control[:], ChildCarry: keys.carry[:],
		Device: op.Issuer[:], Conversation: conv[:],
	}
	e := hash.epoch()
	v.Epoch = e[:]
	for j := range uint32(Days) {
		tag := dayTag(keys.tag, j)
		v.DayTags = append(v.DayTags, tag[:])
	}
	mail, live := keys.chainStart(op.Issuer, false), keys.chainStart(op.Issuer, true)
	v.MailStart, v.LiveStart = mail[:], live[:]
	r3 := ratchet{key: mail}
	passed, m2, next := r3.seek(2)
	for _, k := range append(passed, m2) {
		v.MailMessages = append(v.MailMessages, bytes.Clone(k[:]))
	}
	seal, purge := passed[0].derive(identity.LabelMessageSeal), passed[0].messagePurge()
	v.MailNext, v.SealKey, v.PurgeKey = next[:], seal[:], purge[:]
	return v
}

func TestScheduleVectors(t *testing.T) {
	var vs []scheduleVector
	carries := []bin{{}, bytes.Repeat([]byte{0x99}, 32)}
	loadVectors(t, "schedule.json", &vs, func() {
		for _, c := range carries {
			vs = append(vs, makeSchedule(c))
		}
	})
	if len(vs) != len(carries) {
		t.Fatalf("%d vectors", len(vs))
	}
	for i, want := range vs {
		got, _ := json.Marshal(makeSchedule(carries[i]))
		if w, _ := json.Marshal(want); !bytes.Equal(got, w) {
			t.Errorf("schedule %d:\n got %s\nwant %s", i, got, w)
		}
	}
}

// content.json: bodies and fields, good and bad, and padding.
type contentVector struct {
	Name  string `json:"name"`
	Kind  string `json:"kind"`
	Bytes bin    `json:"bytes"`
	Class string `json:"class"`
	// Value is what the bytes mean, for people: Go's notation of it.
	Value string `json:"value,omitempty"`
}

type contentVectors struct {
	Contents []contentVector `json:"contents"`
	Padding  [][3]int        `json:"padding"` // length, bucket, 64-byte steps
}

func decoders() map[string]func([]byte) (any, error) {
	return map[string]func([]byte) (any, error){
		"text":       func(b []byte) (any, error) { return ParseText(b) },
		"file":       func(b []byte) (any, error) { return ParseFile(b) },
		"location":   func(b []byte) (any, error) { return ParseLocation(b) },
		"receipt":    func(b []byte) (any, error) { return ParseReceipt(b) },
		"recall":     func(b []byte) (any, error) { return ParseRecall(b) },
		"need-rekey": func(b []byte) (any, error) { return ParseNeedRekey(b) },
		"profile":    func(b []byte) (any, error) { return ParseProfile(b) },
		"call":       func(b []byte) (any, error) { return ParseCall(b) },
		"record":     func(b []byte) (any, error) { return ParseCallRecord(b) },
		"inner":      func(b []byte) (any, error) { return parseInner(b) },
		"operation":  func(b []byte) (any, error) { return ParseOp(b) },
		"roster":     func(b []byte) (any, error) { return parseRoster(b) },
	}
}

func writeContent(t *testing.T) (v contentVectors) {
	add := func(name, kind, class string, raw []byte, value any) {
		c := contentVector{name, kind, raw, class, ""}
		if value != nil {
			text, _ := json.Marshal(value)
			c.Value = string(text)
		}
		v.Contents = append(v.Contents, c)
	}
	all := contents(t)
	kinds := map[string]string{"empty text": "text", "packed file": "file", "location with a note": "location", "call invite": "call", "call answer": "call", "call end": "call", "call record": "record"}
	for _, name := range slices.Sorted(maps.Keys(all)) {
		body, err := all[name].value.Encode()
		if err != nil {
			t.Fatal(err)
		}
		kind := name
		if k, ok := kinds[name]; ok {
			kind = k
		}
		add(name, kind, "ok", body, all[name].value)
	}
	in := Inner{
		Type: TypeText, Sent: 1_777_777_777_777, TTL: time.Hour, Burn: time.Minute, Parents: []MessageHash{{1}, {2}},
		Head: RevocationHead{7, [4]byte{8}}, Body: []byte{0xa1, 1, 0x62, 'h', 'i'},
	}
	fields, _ := in.encode(PadBucket)
	add("inner with all fields", "inner", "ok", fields, in)
	small, _ := Inner{Type: 4711, Sent: 1}.encode(PadBucket)
	add("inner of an unknown type", "inner", "ok", small, nil)
	s := makeSchedule(nil)
	add("operation", "operation", "ok", s.Op, nil)
	add("roster", "roster", "ok", s.Roster, nil)
	type m = map[int]any
	bad := func(name, kind, class string, value any) {
		raw, err := identity.Marshal(value)
		if err != nil {
			t.Fatal(err)
		}
		add(name, kind, class, raw, nil)
	}
	bad("text with a key of a later version", "text", "ok", m{1: "hi", 50: 1})
	bad("text that is a number", "text", "malformed", m{1: 1})
	add("text with a key twice", "text", "malformed", []byte{0xa2, 1, 0x61, 'a', 1, 0x61, 'b'}, nil)
	add("text of indefinite length", "text", "malformed", []byte{0xbf, 1, 0x61, 'a', 0xff}, nil)
	add("text not UTF-8", "text", "malformed", []byte{0xa1, 1, 0x61, 0xff}, nil)
	add("text with trailing bytes", "text", "malformed", []byte{0xa1, 1, 0x61, 'a', 0}, nil)
	add("location one byte short", "location", "malformed", make([]byte, locationSize-1), nil)
	north, _ := Location{Kind: LocationStatic, Latitude: maxLatitude}.Encode()
	add("location beyond the pole", "location", "malformed", append(append(bytes.Clone(north[:2]), 0x35, 0xa4, 0xe9, 0x01), north[6:]...), nil)
	bad("range past 2^32", "receipt", "malformed", m{1: []any{[]any{make([]byte, 8), 0, []uint64{1 << 31, 1 << 31}}}})
	bad("inner packed with a later dictionary", "inner", "unsupported", m{1: 1, 2: 1, 7: []byte("x"), 8: 2})
	bad("inner with half a parent", "inner", "malformed", m{1: 1, 2: 1, 5: make([]byte, 4)})
	bad("file one byte over the ratio", "file", "malformed", m{1: "x", 3: 100*64 + 1, 4: bytes.Repeat([]byte{1}, 32), 5: 64 + aeadExtra, 6: make([]byte, 32), 7: 60, 8: 1})
	bad("file of 2^40 bytes", "file", "malformed", m{1: "x", 3: 5, 4: bytes.Repeat([]byte{1}, 32), 5: uint64(1 << 40), 6: make([]byte, 32)})
	bad("operation of suite 2", "operation", "unsupported", m{1: 2, 2: 9, 3: make([]byte, 16), 4: make([]byte, 16), 5: make([]byte, 16), 7: 1})
	add("roster unsorted", "roster", "malformed", append(append(bytes.Clone(s.Roster[:2]), s.Roster[2+memberSize:]...), s.Roster[2:2+memberSize]...), nil)
	for _, n := range []int{1, 64, 65, 512, 513, 577, 1025, 4000, 32769, 61440} {
		v.Padding = append(v.Padding, [3]int{n, PadBucket.size(n), Pad64.size(n)})
	}
	return v
}

func TestContentVectors(t *testing.T) {
	var v contentVectors
	loadVectors(t, "content.json", &v, func() { v = writeContent(t) })
	if len(v.Contents) < 20 || len(v.Padding) == 0 {
		t.Fatal("vectors missing")
	}
	for _, c := range v.Contents {
		decode := decoders()[c.Kind]
		if decode == nil {
			t.Fatalf("%s: unknown kind %s", c.Name, c.Kind)
		}
		got, err := decode(c.Bytes)
		if !checkClass(t, c.Name, c.Class, err) {
			continue
		}
		if c.Value != "" {
			if text, _ := json.Marshal(got); string(text) != c.Value {
				t.Errorf("%s: got %s, want %s", c.Name, text, c.Value)
			}
		}
		if e, ok := got.(interface{ Encode() ([]byte, error) }); ok && c.Value != "" {
			if raw, err := e.Encode(); err != nil || !bytes.Equal(raw, c.Bytes) {
				t.Errorf("%s: encoded again as %x, %v", c.Name, raw, err)
			}
		}
	}
	for _, p := range v.Padding {
		if PadBucket.size(p[0]) != p[1] || Pad64.size(p[0]) != p[2] {
			t.Errorf("padding of %d", p[0])
		}
	}
}

// open.json: keys and bytes to content or failure class, in the order given.
type openVectors struct {
	Network bin `json:"network"`
	TagKey  bin `json:"tag_key"`
	User    bin `json:"user"`
	Seed    bin `json:"device_seed"`
	Prekeys []struct {
		Number uint32 `json:"number"`
		Seed   bin    `json:"seed"`
	} `json:"prekeys"`
	Devices []struct {
		User bin `json:"user"`
		Key  bin `json:"key"`
	} `json:"devices"`
	Steps []openStep `json:"steps"`
}

type openStep struct {
	Name    string       `json:"name"`
	Kind    string       `json:"kind"` // epoch or message
	Tag     bin          `json:"tag"`
	Header  bin          `json:"header"`
	Payload bin          `json:"payload"`
	Class   string       `json:"class"`
	Epoch   bin          `json:"epoch,omitempty"`
	Purge   bin          `json:"purge_key,omitempty"`
	Message *openMessage `json:"message,omitempty"`
}

type openMessage struct {
	Device bin    `json:"device"`
	Slot   uint16 `json:"slot"`
	Index  uint32 `json:"index"`
	Type   uint64 `json:"type"`
	Sent   uint64 `json:"sent_ms"`
	TTL    uint64 `json:"ttl_s"`
	Hash   bin    `json:"hash"`
	Body   bin    `json:"body"`
}

// reader makes the keyring of the vectors' reader.
func (v openVectors) reader(t *testing.T) *node {
	t.Helper()
	w := newWorld(t)
	w.network, w.tagKey = identity.NetworkID(v.Network), [32]byte(v.TagKey)
	devKey := identity.PrivateKeyFromSeed([32]byte(v.Seed))
	n := &node{world: w, disk: newDisk(), self: Self{
		Network: w.network, TagKeys: [][32]byte{w.tagKey}, User: identity.UserID(v.User), Device: devKey.Public().DeviceID(), Key: devKey,
		NotAfter: w.now.Add(time.Hour), Lookup: LookupFunc(w.lookup),
	}}
	w.certs[n.self.Device] = Device{n.self.User, devKey.Public()}
	for _, d := range v.Devices {
		pub := identity.PublicKey(d.Key)
		w.certs[pub.DeviceID()] = Device{identity.UserID(d.User), pub}
	}
	n.restart()
	for _, p := range v.Prekeys {
		if err := n.box.put(n.box.prekeyID(p.Number), p.Seed); err != nil {
			t.Fatal(err)
		}
		if p.Number >= n.Keyring.prekeys.next {
			n.Keyring.prekeys.next = p.Number + 1
		}
	}
	n.indexInbox()
	return n
}

func (n *node) step(t *testing.T, s openStep) (openStep, error) {
	t.Helper()
	got := openStep{Name: s.Name, Kind: s.Kind, Tag: s.Tag, Header: s.Header, Payload: s.Payload, Class: s.Class}
	if s.Kind == "epoch" {
		info, err := n.OpenEpoch(identity.Tag(s.Tag), s.Header, s.Payload)
		if err == nil {
			got.Epoch, got.Purge = info.ID[:], info.PurgeKey[:]
		}
		return got, err
	}
	o, err := n.Open(identity.Tag(s.Tag), s.Header, s.Payload)
	if err != nil {
		return got, err
	}
	got.Epoch = o.Epoch[:]
	if o.ReaderPurges {
		got.Purge = o.PurgeKey[:]
	}
	got.Message = &openMessage{
		Device: o.Device[:], Slot: o.Slot, Index: o.Index, Type: uint64(o.Inner.Type), Sent: o.Inner.Sent,
		TTL: uint64(o.Inner.TTL / time.Second), Hash: o.Hash[:], Body: o.Inner.Body,
	}
	return got, errors.Join(n.Accept(o), n.Commit())
}

func TestOpenVectors(t *testing.T) {
	var v openVectors
	loadVectors(t, "open.json", &v, func() { v = writeOpen(t) })
	if len(v.Steps) < 15 {
		t.Fatal("vectors missing")
	}
	n := v.reader(t)
	for _, s := range v.Steps {
		got, err := n.step(t, s)
		if !checkClass(t, s.Name, s.Class, err) {
			continue
		}
		a, _ := json.Marshal(got)
		if b, _ := json.Marshal(s); !bytes.Equal(a, b) {
			t.Errorf("%s:\n got %s\nwant %s", s.Name, a, b)
		}
	}
}

func writeOpen(t *testing.T) (v openVectors) {
	w := newWorld(t)
	alice, stranger := w.node('a', 1), w.node('s', 1)
	delete(w.certs, stranger.self.Device)
	v.Network, v.TagKey, v.User, v.Seed = w.network[:], w.tagKey[:], bytes.Repeat([]byte{0xb0}, 16), bytes.Repeat([]byte{0xb1}, 32)
	seed1, seed0 := key(bytes.Repeat([]byte{0x11}, 32)), key(bytes.Repeat([]byte{0x22}, 32))
	v.Prekeys = append(v.Prekeys, struct {
		Number uint32 `json:"number"`
		Seed   bin    `json:"seed"`
	}{1, seed1[:]}, struct {
		Number uint32 `json:"number"`
		Seed   bin    `json:"seed"`
	}{0, seed0[:]})
	alicePub := alice.self.Key.Public()
	v.Devices = append(v.Devices, struct {
		User bin `json:"user"`
		Key  bin `json:"key"`
	}{alice.self.User[:], alicePub[:]})
	bobKey := identity.PrivateKeyFromSeed([32]byte(v.Seed))
	bob := bobKey.Public().DeviceID()
	to := func(number uint32, seed key) Recipient {
		public, err := kemPublic(seed)
		if err != nil {
			t.Fatal(err)
		}
		p, err := Prekey{Number: number, NotBefore: w.now, NotAfter: w.now.Add(PrekeyLife), KEM: KEMID, Public: public}.Sign(w.network, bobKey)
		if err != nil {
			t.Fatal(err)
		}
		return Recipient{User: identity.UserID(v.User), Device: bob, DeviceKey: bobKey.Public(), Prekey: &p}
	}
	begin := func(from *node, r Recipient) (EpochID, Wrap) {
		id, wraps, err := from.StartEpoch([]Recipient{r}, EpochOptions{Header: headerFunc})
		if err != nil {
			t.Fatal(err)
		}
		w.pass(time.Second)
		return id, wraps[0]
	}
	reader := v.reader(t)
	add := func(name, kind, class string, tag identity.Tag, h, p []byte) {
		s, err := reader.step(t, openStep{Name: name, Kind: kind, Tag: bytes.Clone(tag[:]), Header: h, Payload: p, Class: class})
		checkClass(t, name, class, err)
		v.Steps = append(v.Steps, s)
	}
	e1, w1 := begin(alice, to(1, seed1))
	m0 := alice.send(e1, "first message")
	add("message before its epoch", "message", "unknown-epoch", m0.tag, m0.header, m0.payload)
	add("wrap with a flipped bit in the exchange", "epoch", "forged", w1.Tag, w1.Header, flip(w1.Payload, 100))
	add("wrap with a flipped bit in the frame", "epoch", "forged", w1.Tag, w1.Header, flip(w1.Payload, encSize+100))
	add("wrap under another header", "epoch", "forged", w1.Tag, flip(w1.Header, 3), w1.Payload)
	add("wrap cut short", "epoch", "malformed", w1.Tag, w1.Header, w1.Payload[:encSize])
	add("wrap under a tag of nobody", "epoch", "not-for-us", identity.Tag{1}, w1.Header, w1.Payload)
	add("wrap for prekey 1", "epoch", "ok", w1.Tag, w1.Header, w1.Payload)
	_, w0 := begin(alice, to(0, seed0))
	add("wrap for the last resort", "epoch", "ok", w0.Tag, w0.Header, w0.Payload)
	_, ws := begin(stranger, to(1, seed1))
	add("wrap of an unknown device", "epoch", "unknown-sender", ws.Tag, ws.Header, ws.Payload)

	add("message, prefix flipped", "message", "forged", m0.tag, m0.header, flip(m0.payload, 0))
	add("message, nonce flipped", "message", "forged", m0.tag, m0.header, flip(m0.payload, prefixSize))
	add("message, ciphertext flipped", "message", "forged", m0.tag, m0.header, flip(m0.payload, 50))
	add("message under another header", "message", "forged", m0.tag, flip(m0.header, 3), m0.payload)
	add("message cut short", "message", "malformed", m0.tag, m0.header, m0.payload[:90])
	add("first message", "message", "ok", m0.tag, m0.header, m0.payload)
	add("first message again", "message", "duplicate", m0.tag, m0.header, m0.payload)
	m1, m2 := alice.send(e1, "overtaken"), alice.send(e1, "packed, packed, packed, packed, packed, packed, packed, packed, packed, packed, packed, packed, packed, packed, packed, packed, packed")
	add("third message, packed", "message", "ok", m2.tag, m2.header, m2.payload)
	add("second message, late", "message", "ok", m1.tag, m1.header, m1.payload)
	w.pass(3 * 24 * time.Hour)
	m3 := alice.send(e1, "under the tag of the fourth day")
	add("message of the fourth day", "message", "ok", m3.tag, m3.header, m3.payload)
	d, err := alice.DraftLive(e1)
	if err != nil {
		t.Fatal(err)
	}
	body, _ := Location{Kind: LocationLive, Latitude: 525_200_000, Longitude: 134_050_000, Altitude: AltitudeUnknown, Accuracy: 500, Time: 1_777_777_777_777, Valid: 600, Course: CourseUnknown, Speed: 150}.Encode()
	h := header(d.Tag(), d.PurgeKey())
	p, err := d.Seal(h, Inner{Type: TypeLocation, Sent: 1_777_777_777_777, Body: body})
	if err != nil {
		t.Fatal(err)
	}
	add("live position", "message", "ok", d.Tag(), h, p)
	ep := alice.epochs[e1]
	fields, _ := Inner{Type: TypeText, Sent: 1}.encode(PadBucket)
	for _, c := range []struct {
		name, class string
		at          position
		signer      identity.PrivateKey
	}{
		{"message far ahead", "too-far-ahead", position{uint16(ep.slot), 6000}, alice.self.Key},
		{"message of a slot that is not", "forged", position{7, 0}, alice.self.Key},
		{"message under an unused key", "forged", position{uint16(ep.slot), 4}, alice.self.Key},
		{"message of the reader's own chain", "own", position{uint16(1 - ep.slot), 9000}, alice.self.Key},
	} {
		payload, _, err := ep.binding().sealMessage(key{1}, c.at, c.signer, []byte("header"), fields, PadBucket)
		if err != nil {
			t.Fatal(err)
		}
		add(c.name, "message", c.class, dayTag(ep.tag, 0), []byte("header"), payload)
	}
	m4, err := alice.Draft(e1)
	if err != nil {
		t.Fatal(err)
	}
	wrong, _, err := ep.binding().sealMessage(m4.message, m4.at, stranger.self.Key, []byte("header"), fields, PadBucket)
	if err != nil {
		t.Fatal(err)
	}
	add("message signed by another device", "message", "forged", m4.Tag(), []byte("header"), wrong)
	return v
}

// file.json: leaves and what is in them.
type fileVector struct {
	Name   string `json:"name"`
	Leaves []bin  `json:"leaves"`
	Body   bin    `json:"body"` // of the message
	Class  string `json:"class"`
	Size   int    `json:"size"`
	SHA256 bin    `json:"sha256"` // of the file
}

func TestFileVectors(t *testing.T) {
	var vs []fileVector
	loadVectors(t, "file.json", &vs, func() { vs = writeFiles(t) })
	if len(vs) < 4 {
		t.Fatal("vectors missing")
	}
	for _, v := range vs {
		f, err := ParseFile(v.Body)
		if err != nil {
			checkClass(t, v.Name, v.Class, err)
			continue
		}
		l := &leafStore{}
		for _, leaf := range v.Leaves {
			l.leaves = append(l.leaves, leaf)
		}
		var out bytes.Buffer
		if !checkClass(t, v.Name, v.Class, DecryptFile(f.Seal, l, &out)) {
			continue
		}
		if sum := sha256.Sum256(out.Bytes()); out.Len() != v.Size || !bytes.Equal(sum[:], v.SHA256) {
			t.Errorf("%s: %d bytes, %x", v.Name, out.Len(), sum)
		}
	}
}

func writeFiles(t *testing.T) (vs []fileVector) {
	add := func(name, class string, raw []byte, change func(f *File, l *leafStore)) {
		s, l, _ := encrypt(t, raw, PadBucket)
		f := File{Name: "sample.bin", Type: "application/octet-stream", Seal: s}
		if change != nil {
			change(&f, l)
		}
		body, err := f.Encode()
		if err != nil {
			t.Fatal(err)
		}
		sum := sha256.Sum256(raw)
		v := fileVector{Name: name, Body: body, Class: class, Size: len(raw), SHA256: sum[:]}
		for _, leaf := range l.leaves {
			v.Leaves = append(v.Leaves, leaf)
		}
		vs = append(vs, v)
	}
	add("empty file", "ok", nil, nil)
	add("one byte", "ok", []byte{0x42}, nil)
	add("packed", "ok", words(20_000), nil)
	add("two leaves", "ok", noise(leafPlain+10), nil)
	add("leaves swapped", "forged", noise(leafPlain+10), func(_ *File, l *leafStore) { slices.Reverse(l.leaves) })
	add("leaf with a flipped bit", "forged", noise(100), func(_ *File, l *leafStore) { l.leaves[0] = flip(l.leaves[0], 50) })
	add("another root", "forged", noise(100), func(f *File, _ *leafStore) { f.Seal.Blob.Root = blob.Root{1} })
	add("size one less than the stream unpacks to", "malformed", words(20_000), func(f *File, _ *leafStore) { f.Seal.Size-- })
	return vs
}
