package envelope

import (
	"bytes"
	"errors"
	"slices"
	"testing"

	"outrider/mesh/identity"
)

// The attackers of crypto.md, section 11, as far as they reach this package.
// Each is refused with the right class and leaves the state as it was.

// flip returns b with one bit of byte i changed.
func flip(b []byte, i int) []byte {
	c := bytes.Clone(b)
	c[i] ^= 1 << (i % 8)
	return c
}

func TestAttackFlipAnyBitOfAMessage(t *testing.T) {
	w := newWorld(t)
	alice, bob := w.node('a', 1), w.node('b', 1)
	e := alice.start(bob)
	bob.receive(alice.send(e, "x"))
	m := alice.send(e, "intact")
	before := bob.disk.state()
	for i := range m.payload {
		if _, err := bob.Open(m.tag, m.header, flip(m.payload, i)); err == nil {
			t.Fatalf("byte %d of the payload does not count", i)
		}
	}
	for i := range m.header {
		if _, err := bob.Open(m.tag, flip(m.header, i), m.payload); !errors.Is(err, ErrForged) {
			t.Fatalf("byte %d of the header: %v", i, err)
		}
	}
	for n := range m.payload {
		if _, err := bob.Open(m.tag, m.header, m.payload[:n]); err == nil {
			t.Fatalf("cut after %d bytes and opened", n)
		}
	}
	for name, p := range map[string][]byte{"longer": append(bytes.Clone(m.payload), 0), "empty": {}, "huge": make([]byte, MaxPayload+1)} {
		if _, err := bob.Open(m.tag, m.header, p); err == nil {
			t.Fatalf("%s payload opened", name)
		}
	}
	for name, h := range map[string][]byte{"no": nil, "huge": make([]byte, MaxHeader+1)} {
		if _, err := bob.Open(m.tag, h, m.payload); !errors.Is(err, ErrMalformed) {
			t.Fatalf("%s header: %v", name, err)
		}
	}
	if bob.disk.state() != before || bob.epochs[e].members[int(bobSlotOf(alice, e))].mail.next != 1 {
		t.Fatal("refused bytes changed the state")
	}
	bob.receive(m)
}

func bobSlotOf(n *node, e EpochID) int { return n.epochs[e].slot }

func TestAttackFlipAnyBitOfAWrap(t *testing.T) {
	w := newWorld(t)
	alice, bob := w.node('a', 1), w.node('b', 1)
	_, wraps := alice.startOnly(bob)
	wrap := wraps[0]
	before := bob.disk.state()
	for i := range wrap.Payload {
		if _, err := bob.OpenEpoch(wrap.Tag, wrap.Header, flip(wrap.Payload, i)); !errors.Is(err, ErrForged) {
			t.Fatalf("byte %d of the payload: %v", i, err)
		}
	}
	for i := range wrap.Header {
		if _, err := bob.OpenEpoch(wrap.Tag, flip(wrap.Header, i), wrap.Payload); !errors.Is(err, ErrForged) {
			t.Fatalf("byte %d of the header: %v", i, err)
		}
	}
	for _, n := range []int{0, 1, encSize, encSize + aeadExtra - 1, len(wrap.Payload) - 1} {
		if _, err := bob.OpenEpoch(wrap.Tag, wrap.Header, wrap.Payload[:n]); err == nil {
			t.Fatalf("cut after %d bytes and opened", n)
		}
	}
	if _, err := bob.OpenEpoch(identity.Tag{1}, wrap.Header, wrap.Payload); !errors.Is(err, ErrNotForUs) {
		t.Fatalf("unknown tag: %v", err)
	}
	other := identity.InboxTag(w.tagKey, bob.self.Device, 2)
	if _, err := bob.OpenEpoch(other, wrap.Header, wrap.Payload); !errors.Is(err, ErrForged) {
		t.Fatalf("tag of another prekey: %v", err)
	}
	if bob.disk.state() != before || len(bob.epochs) != 0 {
		t.Fatal("refused bytes changed the state")
	}
	if _, err := bob.OpenEpoch(wrap.Tag, wrap.Header, wrap.Payload); err != nil {
		t.Fatal(err)
	}
}

func TestAttackReplay(t *testing.T) {
	w := newWorld(t)
	alice, bob := w.node('a', 1), w.node('b', 1)
	e := alice.start(bob)
	m := alice.send(e, "once")
	bob.receive(m)
	before := bob.disk.state()
	for range 100 {
		bob.refuse(m, ErrDuplicate)
	}
	bob.restart()
	for range maxRecent + 10 { // out of memory, still a duplicate
		bob.receive(alice.send(e, "next"))
	}
	bob.refuse(m, ErrDuplicate)
	if len(bob.recent.keys) != maxRecent || len(bob.recent.order) != maxRecent {
		t.Fatalf("%d keys of used messages in memory, at most %d", len(bob.recent.keys), maxRecent)
	}
	if before == bob.disk.state() {
		t.Fatal("the state does not show what happens")
	}
}

func TestAttackReplayUnderAnotherHeader(t *testing.T) {
	w := newWorld(t)
	alice, bob := w.node('a', 1), w.node('b', 1)
	e := alice.start(bob)
	m := alice.send(e, "once")
	again := m
	again.header = append(bytes.Clone(m.header), 7, 1) // a flag added
	bob.refuse(again, ErrForged)
	bob.receive(m)
	if o, err := bob.open(again); !errors.Is(err, ErrForged) || o != nil {
		t.Fatalf("%v", err)
	}
	for j := range uint32(Days) { // under the tag of another day
		again = m
		again.tag = dayTag(bob.epochs[e].tag, j)
		bob.refuse(again, ErrDuplicate)
	}
}

// A reader knows all chains of an epoch. It seals the signed fields of a
// message again, in another place.
func TestAttackSameInnerInANewEnvelope(t *testing.T) {
	w := newWorld(t)
	alice, bob, mallory := w.node('a', 1), w.node('b', 1), w.node('b', 2)
	e := alice.start(bob, mallory)
	chain := *mallory.epochs[e].members[alice.epochs[e].slot]
	m := alice.send(e, "signed by alice")

	bound := mallory.epochs[e].binding()
	at, err := bound.locate(m.payload)
	if err != nil {
		t.Fatal(err)
	}
	_, k0, next := chain.mail.seek(at.counter())
	u, err := bound.openSeal(k0, at, m.header, m.payload)
	if err != nil {
		t.Fatal(err)
	}
	reseal := func(k key, at position, header []byte) []byte {
		plain, err := pad(PadBucket, u.fields, u.sig)
		if err != nil {
			t.Fatal(err)
		}
		payload := k.derive(identity.LabelMessageSeal).seal(make([]byte, prefixSize), plain, messageAAD(bound.op, at, header))
		prefix, m := at.bytes(), mask(bound.header, payload)
		for i := range m {
			payload[i] = prefix[i] ^ m[i]
		}
		return payload
	}
	// The control: the same place and header is what opens.
	if _, err := bob.Open(m.tag, m.header, reseal(k0, at, m.header)); err != nil {
		t.Fatal(err)
	}
	k1, _ := next.step()
	for name, c := range map[string]struct {
		k      key
		at     position
		header []byte
	}{
		"next index":     {k1, position{at.slot, at.index + 1}, m.header},
		"another header": {k0, at, flip(m.header, len(m.header)-3)},
		"live chain":     {firstKey(chain.live), position{at.slot, liveBit}, m.header},
		"another sender": {firstKey(mallory.epochs[e].members[mallory.epochs[e].slot].mail), position{uint16(mallory.epochs[e].slot), 0}, m.header},
	} {
		if _, err := bob.Open(m.tag, c.header, reseal(c.k, c.at, c.header)); !errors.Is(err, ErrForged) {
			t.Errorf("%s: %v", name, err)
		}
	}
	bob.receive(m)
}

func firstKey(r ratchet) key { m, _ := r.key.step(); return m }

// A reader seals under another sender's chain with its own signature.
func TestAttackReaderForgesAsAnotherSender(t *testing.T) {
	w := newWorld(t)
	alice, bob, mallory := w.node('a', 1), w.node('b', 1), w.node('b', 2)
	e := alice.start(bob, mallory)
	me := mallory.epochs[e]
	victim := me.roster.slot(alice.self.Device)
	in, err := textInner(w, "I am alice").encode(PadBucket)
	if err != nil {
		t.Fatal(err)
	}
	h := []byte("header")
	k := firstKey(me.members[victim].mail)
	payload, _, err := me.binding().sealMessage(k, position{uint16(victim), 0}, mallory.self.Key, h, in, PadBucket)
	if err != nil {
		t.Fatal(err)
	}
	before := bob.disk.state()
	if _, err := bob.Open(dayTag(me.tag, 0), h, payload); !errors.Is(err, ErrForged) {
		t.Fatalf("%v", err)
	}
	// Nor can it make the victim believe in a copy of itself.
	if _, err := alice.Open(dayTag(me.tag, 0), h, payload); !errors.Is(err, ErrForged) {
		t.Fatalf("at the victim's: %v", err)
	}
	if bob.disk.state() != before {
		t.Fatal("the forgery changed the state")
	}
	bob.receive(alice.send(e, "the real alice, index 0"))
}

func TestAttackIndexJump(t *testing.T) {
	w := newWorld(t)
	alice, bob := w.node('a', 1), w.node('b', 1)
	e := alice.start(bob)
	far := alice.epochs[e].member(alice.epochs[e].slot)
	sealAt := func(counter uint32) mail {
		_, k, _ := far.mail.seek(min(counter, 6000)) // the true key as far as it can be had
		h := []byte("header")
		fields, err := textInner(w, "jump").encode(PadBucket)
		if err != nil {
			t.Fatal(err)
		}
		payload, _, err := alice.epochs[e].binding().sealMessage(k, position{uint16(alice.epochs[e].slot), counter}, alice.self.Key, h, fields, PadBucket)
		if err != nil {
			t.Fatal(err)
		}
		return mail{dayTag(alice.epochs[e].tag, 0), h, payload, counter, PurgeKey{}, "jump"}
	}
	before := bob.disk.state()
	for _, counter := range []uint32{MaxJump + 1, 1 << 30, liveBit - 1} {
		bob.refuse(sealAt(counter), ErrTooFarAhead)
	}
	if bob.disk.state() != before {
		t.Fatal("a jump changed the state")
	}
	bob.receive(sealAt(MaxJump))
	// Of the 5,000 it passed, the last 2,000 can still come.
	if n := len(bob.epochs[e].member(alice.epochs[e].slot).mail.gaps); n != MaxGaps {
		t.Fatalf("%d gaps, want %d", n, MaxGaps)
	}
	bob.restart()
	bob.refuse(sealAt(MaxJump-MaxGaps-1), ErrKeyGone)
	bob.receive(sealAt(MaxJump - MaxGaps))
	bob.receive(sealAt(MaxJump - 1))
	bob.refuse(sealAt(MaxJump), ErrDuplicate)
	if got := bob.Missing(e); len(got) != 1 || !slices.Equal(got[0].Ranges, []Range{{0, MaxJump - MaxGaps - 1}}) {
		t.Fatalf("missing %v", got)
	}
}

func TestAttackGapsInTotalAreBounded(t *testing.T) {
	w := newWorld(t)
	bob := w.node('b', 1)
	var es []EpochID
	var senders []*node
	for i := range 12 {
		n := w.node(byte(100+i), 1)
		senders, es = append(senders, n), append(es, n.start(bob))
	}
	victim := senders[0].send(es[0], "one honest gap")
	bob.receive(senders[0].send(es[0], "x"))
	for i, n := range senders[1:] {
		for range 2 {
			for range MaxGaps {
				if _, err := n.Draft(es[i+1]); err != nil {
					t.Fatal(err)
				}
			}
			bob.receive(n.send(es[i+1], "far"))
		}
	}
	total := 0
	for _, e := range bob.epochs {
		for _, c := range e.members {
			total += c.gapCount()
		}
	}
	if total > MaxGapsTotal || total < MaxGapsTotal-MaxGaps {
		t.Fatalf("%d gaps, at most %d", total, MaxGapsTotal)
	}
	keys := 0
	for id := range bob.disk.durable {
		if v := bob.disk.durable[id]; len(v) == 32 {
			keys++
		}
	}
	if keys > MaxGapsTotal+10 {
		t.Fatalf("%d keys in the vault for %d gaps", keys, total)
	}
	bob.receive(victim) // the flooders lost theirs first
}

func TestAttackManyFakeTagsAndPayloads(t *testing.T) {
	w := newWorld(t)
	alice, bob := w.node('a', 1), w.node('b', 1)
	e := alice.start(bob)
	before := bob.disk.state()
	payload := make([]byte, 200)
	for i := range 20000 {
		tag := identity.Tag{byte(i), byte(i >> 8), byte(i >> 16)}
		if _, err := bob.Open(tag, []byte("h"), payload); !errors.Is(err, ErrUnknownEpoch) {
			t.Fatal(err)
		}
	}
	live := bob.Tags()[0]
	for i := range 2000 {
		payload[i%200]++
		if _, err := bob.Open(live, []byte("h"), payload); err == nil {
			t.Fatal("garbage opened")
		}
	}
	if bob.disk.state() != before || len(bob.epochs[e].members[alice.epochs[e].slot].mail.gaps) != 0 {
		t.Fatal("garbage changed the state")
	}
}

func TestAttackUnacceptedIsBounded(t *testing.T) {
	w := newWorld(t)
	alice, bob := w.node('a', 1), w.node('b', 1)
	e := alice.start(bob)
	var opened []*Opened
	for range maxUnaccepted {
		o, err := bob.open(alice.send(e, "x"))
		if err != nil {
			t.Fatal(err)
		}
		opened = append(opened, o)
	}
	m := alice.send(e, "one past the limit")
	bob.refuse(m, ErrBusy)
	if err := errors.Join(bob.Accept(opened...), bob.Commit()); err != nil {
		t.Fatal(err)
	}
	bob.receive(m)
}

func TestAttackSubstitutedPrekey(t *testing.T) {
	w := newWorld(t)
	alice, bob, mallory := w.node('a', 1), w.node('b', 1), w.node('m', 1)
	genuine := *bob.recipient().Prekey
	mallorys := *mallory.recipient().Prekey
	unsigned := Prekey{Device: bob.self.Device, Number: 9, KEM: KEMID, Public: mallorys.Public, NotBefore: genuine.NotBefore, NotAfter: genuine.NotAfter}
	resigned, err := unsigned.Sign(w.network, mallory.self.Key)
	if err != nil {
		t.Fatal(err)
	}
	resigned.Device = bob.self.Device
	foreign, err := Prekey{Number: 9, KEM: KEMID, Public: genuine.Public, NotBefore: genuine.NotBefore, NotAfter: genuine.NotAfter}.Sign(identity.NetworkID{66}, bob.self.Key)
	if err != nil {
		t.Fatal(err)
	}
	weak, err := Prekey{Number: 9, KEM: 0x0020, Public: genuine.Public[:32], NotBefore: genuine.NotBefore, NotAfter: genuine.NotAfter}.Sign(w.network, bob.self.Key)
	if err != nil {
		t.Fatal(err)
	}
	short, err := Prekey{Number: 9, KEM: KEMID, Public: genuine.Public[:publicSize-1], NotBefore: genuine.NotBefore, NotAfter: genuine.NotAfter}.Sign(w.network, bob.self.Key)
	if err != nil {
		t.Fatal(err)
	}
	for name, p := range map[string]*Prekey{
		"none": nil, "another device's": &mallorys, "unsigned": &unsigned, "signed by another": &resigned,
		"of another network": &foreign, "of a classical KEM": &weak, "too short": &short,
	} {
		to := bob.recipient()
		to.Prekey = p
		if _, _, err := alice.StartEpoch([]Recipient{to}, EpochOptions{Header: headerFunc}); !errors.Is(err, ErrPrekey) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if len(alice.epochs) != 0 {
		t.Fatal("an epoch was started with a bad prekey")
	}
}

func TestStartEpochRefuses(t *testing.T) {
	w := newWorld(t)
	alice, bob, carol := w.node('a', 1), w.node('b', 1), w.node('c', 1)
	both := []Recipient{bob.recipient(), carol.recipient()}
	for name, c := range map[string]struct {
		to   []Recipient
		opts EpochOptions
	}{
		"three users":     {both, EpochOptions{Header: headerFunc}},
		"twice":           {[]Recipient{both[0], both[0]}, EpochOptions{Header: headerFunc}},
		"itself":          {[]Recipient{alice.recipient()}, EpochOptions{Header: headerFunc}},
		"no header":       {both[:1], EpochOptions{}},
		"header fails":    {both[:1], EpochOptions{Header: func(identity.Tag, PurgeKey) ([]byte, error) { return nil, errors.New("no") }}},
		"header empty":    {both[:1], EpochOptions{Header: func(identity.Tag, PurgeKey) ([]byte, error) { return nil, nil }}},
		"header too long": {both[:1], EpochOptions{Header: func(identity.Tag, PurgeKey) ([]byte, error) { return make([]byte, MaxHeader+1), nil }}},
		"too many":        {crowd(bob, maxInline), EpochOptions{Header: headerFunc}},
		"far too many":    {crowd(bob, MaxMembers), EpochOptions{Header: headerFunc}},
	} {
		if _, _, err := alice.StartEpoch(c.to, c.opts); err == nil {
			t.Errorf("%s: started", name)
		}
	}
	if len(alice.epochs) != 0 {
		t.Fatal("an epoch was left behind")
	}
}

// crowd is n devices of a user.
func crowd(n *node, devices int) (to []Recipient) {
	for i := range devices {
		r := n.recipient()
		r.Device = identity.DeviceID{byte(i >> 8), byte(i)}
		to = append(to, r)
	}
	return to
}

func TestLargestDirectConversation(t *testing.T) {
	w := newWorld(t)
	alice := w.node('a', 1)
	var to []Recipient
	var last *node
	for i := range maxInline - 1 {
		last = w.node('b', byte(i))
		to = append(to, last.recipient())
	}
	e, wraps, err := alice.StartEpoch(to, EpochOptions{Header: headerFunc})
	if err != nil {
		t.Fatal(err)
	}
	wr := wraps[len(wraps)-1]
	if _, err := last.OpenEpoch(wr.Tag, wr.Header, wr.Payload); err != nil {
		t.Fatal(err)
	}
	last.receive(alice.send(e, "to all sixty-three"))
}

// A message of one epoch is spliced into another of the same members.
func TestAttackSpliceIntoAnotherEpoch(t *testing.T) {
	w := newWorld(t)
	alice, bob := w.node('a', 1), w.node('b', 1)
	e1, e2 := alice.start(bob), alice.start(bob)
	m := alice.send(e1, "in the first")
	spliced := m
	spliced.tag = dayTag(bob.epochs[e2].tag, 0)
	before := bob.disk.state()
	if _, err := bob.open(spliced); err == nil {
		t.Fatal("opened in another epoch")
	}
	// Even sealed with the keys of the second, the signature is of the first.
	b1, b2 := bob.epochs[e1].binding(), bob.epochs[e2].binding()
	at, err := b1.locate(m.payload)
	if err != nil {
		t.Fatal(err)
	}
	u, err := b1.openSeal(firstKey(bob.epochs[e1].members[int(at.slot)].mail), at, m.header, m.payload)
	if err != nil {
		t.Fatal(err)
	}
	plain, err := pad(PadBucket, u.fields, u.sig)
	if err != nil {
		t.Fatal(err)
	}
	k := firstKey(bob.epochs[e2].members[int(at.slot)].mail)
	payload := k.derive(identity.LabelMessageSeal).seal(make([]byte, prefixSize), plain, messageAAD(b2.op, at, m.header))
	prefix, ms := at.bytes(), mask(b2.header, payload)
	for i := range ms {
		payload[i] = prefix[i] ^ ms[i]
	}
	if _, err := bob.Open(spliced.tag, m.header, payload); !errors.Is(err, ErrForged) {
		t.Fatalf("spliced by a reader: %v", err)
	}
	if bob.disk.state() != before {
		t.Fatal("state changed")
	}
	bob.receive(m)
}
