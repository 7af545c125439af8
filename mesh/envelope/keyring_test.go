package envelope

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"outrider/mesh/identity"
)

func TestTextBothWays(t *testing.T) {
	w := newWorld(t)
	alice, bob := w.node('a', 1), w.node('b', 1)
	e := alice.start(bob)
	for i := range 70 { // past two blocks
		m := alice.send(e, fmt.Sprint("to bob ", i))
		o := bob.receive(m)
		if o.User != alice.self.User || o.Device != alice.self.Device || o.Index != uint32(i) || o.Epoch != e {
			t.Fatalf("message %d: %+v", i, o)
		}
		if !o.ReaderPurges || o.PurgeKey != m.purge {
			t.Fatal("the only reader has not the sender's purge key")
		}
		bob.refuse(m, ErrDuplicate)
		alice.refuse(m, ErrOwn)
		alice.receive(bob.send(e, fmt.Sprint("to alice ", i)))
	}
	conv := DirectConversation(w.network, bob.self.User, alice.self.User)
	for _, n := range []*node{alice, bob} {
		if got, ok := n.EpochFor(conv, nil); !ok || got != e {
			t.Fatalf("epoch for the conversation: %v, %v", got, ok)
		}
	}
}

func TestSeveralDevices(t *testing.T) {
	w := newWorld(t)
	alice, alice2, bob, bob2 := w.node('a', 1), w.node('a', 2), w.node('b', 1), w.node('b', 2)
	e := alice.start(alice2, bob, bob2)
	all := []*node{alice, alice2, bob, bob2}
	for _, from := range all {
		m := from.send(e, "hello")
		for _, to := range all {
			if to == from {
				to.refuse(m, ErrOwn)
				continue
			}
			if o := to.receive(m); o.ReaderPurges || o.PurgeKey != (PurgeKey{}) {
				t.Fatal("one reader of three has the purge key")
			}
		}
	}
}

func TestNotesToSelf(t *testing.T) {
	w := newWorld(t)
	alice, alice2 := w.node('a', 1), w.node('a', 2)
	e := alice.start(alice2)
	alice2.receive(alice.send(e, "milk"))
	lone := w.node('c', 1)
	id, wraps := lone.startOnly()
	if len(wraps) != 0 {
		t.Fatal("a wrap for nobody")
	}
	lone.refuse(lone.send(id, "note"), ErrOwn)
}

func TestEverythingSurvivesARestart(t *testing.T) {
	w := newWorld(t)
	alice, bob := w.node('a', 1), w.node('b', 1)
	e := alice.start(bob)
	tags := bob.Tags()
	early := alice.send(e, "overtaken")
	bob.receive(alice.send(e, "first"))
	alice.restart()
	bob.restart()
	bob.receive(early)
	bob.refuse(early, ErrDuplicate)
	bob.receive(alice.send(e, "after"))
	alice.receive(bob.send(e, "answer"))
	if !slices.Equal(tags, bob.Tags()) {
		t.Fatal("tags changed")
	}
}

func TestTags(t *testing.T) {
	w := newWorld(t)
	alice, bob := w.node('a', 1), w.node('b', 1)
	prekeys := bob.prekeys()
	watched := func(tag identity.Tag) bool { return slices.Contains(bob.Tags(), tag) }
	for _, p := range prekeys {
		if !watched(identity.InboxTag(w.tagKey, bob.self.Device, p.Number)) {
			t.Fatalf("inbox tag of prekey %d not watched", p.Number)
		}
	}
	before := len(bob.Tags())
	e := alice.start(bob)
	if tags := bob.EpochTags(e); len(tags) != Days || !watched(tags[8]) || bob.EpochTags(EpochID{1}) != nil {
		t.Fatalf("tags of the epoch: %v", tags)
	}
	if got := len(bob.Tags()); got != before+Days {
		t.Fatalf("%d tags more for an epoch, want %d", got-before, Days)
	}
	seen := map[identity.Tag]bool{}
	for day := range 12 {
		m := alice.send(e, fmt.Sprint("day ", day))
		if !watched(m.tag) {
			t.Fatalf("tag of day %d not watched", day)
		}
		if seen[m.tag] != (day > 8) {
			t.Fatalf("day %d: tag seen before: %v", day, seen[m.tag])
		}
		seen[m.tag] = true
		bob.receive(m)
		w.pass(24 * time.Hour)
	}
	old := identity.InboxTag(w.tagKey, bob.self.Device, 1)
	bob.SetTagKeys([][32]byte{{8}, w.tagKey})
	if !watched(old) || !watched(identity.InboxTag([32]byte{8}, bob.self.Device, 1)) {
		t.Fatal("not both generations of the tag key are watched")
	}
}

func TestOnlyTheNewest64PrekeysAreWatched(t *testing.T) {
	w := newWorld(t)
	bob := w.node('b', 1)
	for range 70 {
		bob.prekeys()
		w.pass(PrekeyLife)
	}
	if n := len(bob.Tags()); n != WatchedPrekeys+1 {
		t.Fatalf("%d inbox tags, want %d", n, WatchedPrekeys+1)
	}
}

func TestPrekeysRotateAndAreDestroyed(t *testing.T) {
	w := newWorld(t)
	alice, bob := w.node('a', 1), w.node('b', 1)
	first := bob.prekeys()
	numbers := func(ps []Prekey) (ns []uint32) {
		for _, p := range ps {
			if !p.Verify(w.network, bob.self.Key.Public()) {
				t.Fatal("prekey not signed by its device")
			}
			ns = append(ns, p.Number)
		}
		return ns
	}
	if got := numbers(first); !slices.Equal(got, []uint32{0, 1, 2}) {
		t.Fatalf("published %v", got)
	}
	w.pass(PrekeyLife - time.Minute)
	if got := numbers(bob.prekeys()); !slices.Equal(got, []uint32{0, 1, 2}) {
		t.Fatalf("published too early: %v", got)
	}
	w.pass(2 * time.Minute)
	if got := numbers(bob.prekeys()); !slices.Equal(got, []uint32{0, 2, 3}) {
		t.Fatalf("after one life %v", got)
	}
	// A wrap for the first one is on its way for as long as the network allows.
	to := bob.recipient()
	to.Prekey = &first[1]
	_, wraps, err := alice.StartEpoch([]Recipient{to}, EpochOptions{Header: headerFunc})
	if err != nil || !wraps[0].Stale || wraps[0].NoFS {
		t.Fatalf("stale %v, no-fs %v: %v", wraps[0].Stale, wraps[0].NoFS, err)
	}
	for range 29 {
		w.pass(24 * time.Hour)
		if err := bob.Sweep(); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := bob.OpenEpoch(wraps[0].Tag, wraps[0].Header, wraps[0].Payload); err != nil {
		t.Fatalf("opened within D: %v", err)
	}
	for range 2 {
		w.pass(24 * time.Hour)
		if err := bob.Sweep(); err != nil {
			t.Fatal(err)
		}
	}
	bob.restart()
	if _, err := bob.OpenEpoch(wraps[0].Tag, wraps[0].Header, wraps[0].Payload); !errors.Is(err, ErrNoPrekey) {
		t.Fatalf("opened after D: %v", err)
	}
	if _, ok := bob.disk.durable[bob.box.prekeyID(1)]; ok {
		t.Fatal("the secret is still in the vault")
	}
	w.pass(300 * 24 * time.Hour)
	if got := numbers(bob.prekeys()); !slices.Equal(got, []uint32{0, 4, 5}) {
		t.Fatalf("after a long time away %v", got)
	}
}

func TestLastResort(t *testing.T) {
	w := newWorld(t)
	alice, bob := w.node('a', 1), w.node('b', 1)
	known := bob.prekeys()
	if p := ChoosePrekey(known[:1], w.clock(), DefaultMaxDelay, false); p != nil {
		t.Fatal("last resort against the policy")
	}
	if p := ChoosePrekey(nil, w.clock(), DefaultMaxDelay, true); p != nil {
		t.Fatal("a prekey out of nothing")
	}
	to := bob.recipient()
	to.Prekey = ChoosePrekey(known[:1], w.clock(), DefaultMaxDelay, true)
	_, wraps, err := alice.StartEpoch([]Recipient{to}, EpochOptions{Header: headerFunc})
	if err != nil || !wraps[0].NoFS {
		t.Fatalf("no-fs %v: %v", wraps[0].NoFS, err)
	}
	for range 80 {
		w.pass(24 * time.Hour)
		if err := bob.Sweep(); err != nil {
			t.Fatal(err)
		}
	}
	bob.restart()
	info, err := bob.OpenEpoch(wraps[0].Tag, wraps[0].Header, wraps[0].Payload)
	if err != nil || info.Number != 0 {
		t.Fatalf("number %d: %v", info.Number, err)
	}
	if again := bob.prekeys(); string(again[0].Raw()) != string(known[0].Raw()) {
		t.Fatal("the last-resort bundle changes from call to call")
	}
}

func TestChoosePrekey(t *testing.T) {
	w := newWorld(t)
	bob := w.node('b', 1)
	ps := bob.prekeys() // 0, 1, 2
	for _, c := range []struct {
		after time.Duration
		known []Prekey
		want  uint32
	}{
		{0, ps, 1},
		{PrekeyLife + time.Hour, ps, 2},
		{0, []Prekey{ps[2]}, 2}, // not yet begun is better than nothing
		{3 * PrekeyLife, ps, 2}, // past, but its secret is kept
		{2*PrekeyLife + DefaultMaxDelay, ps, 0},
	} {
		if p := ChoosePrekey(c.known, w.now.Add(c.after), DefaultMaxDelay, true); p == nil || p.Number != c.want {
			t.Errorf("after %v: %+v, want number %d", c.after, p, c.want)
		}
	}
}

func TestReplyKeysServeOnce(t *testing.T) {
	w := newWorld(t)
	alice, bob := w.node('a', 1), w.node('b', 1)
	_, wraps, err := alice.StartEpoch([]Recipient{bob.recipient()}, EpochOptions{Header: headerFunc, ReplyKeys: true})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := bob.OpenEpoch(wraps[0].Tag, wraps[0].Header, wraps[0].Payload); err != nil {
		t.Fatal(err)
	}
	if err := bob.Commit(); err != nil {
		t.Fatal(err)
	}
	alice.restart()
	bob.restart()
	to := alice.recipient()
	to.Prekey = nil // the reply key suffices
	e, back, err := bob.StartEpoch([]Recipient{to}, EpochOptions{Header: headerFunc})
	if err != nil || back[0].Number&replyBit == 0 {
		t.Fatalf("number %x: %v", back[0].Number, err)
	}
	if !slices.Contains(alice.Tags(), back[0].Tag) {
		t.Fatal("tag of the reply key not watched")
	}
	if _, err := alice.OpenEpoch(back[0].Tag, back[0].Header, back[0].Payload); err != nil {
		t.Fatal(err)
	}
	if err := alice.Commit(); err != nil {
		t.Fatal(err)
	}
	if _, err := alice.OpenEpoch(back[0].Tag, back[0].Header, back[0].Payload); !errors.Is(err, ErrNoPrekey) {
		t.Fatalf("second use of a reply key: %v", err)
	}
	if _, _, err := bob.StartEpoch([]Recipient{to}, EpochOptions{Header: headerFunc}); !errors.Is(err, ErrPrekey) {
		t.Fatalf("reply key used twice by its holder: %v", err)
	}
	alice.receive(bob.send(e, "sealed to a reply key"))
	alice.restart()
	alice.receive(bob.send(e, "again"))
}

func TestReplyKeysAreBounded(t *testing.T) {
	w := newWorld(t)
	alice, bob := w.node('a', 1), w.node('b', 1)
	alice.prekeys()
	for range maxReplies {
		alice.Keyring.prekeys.replies = append(alice.Keyring.prekeys.replies, ownPrekey{number: replyBit, notBefore: w.now, until: 1 << 40})
	}
	_, wraps, err := alice.StartEpoch([]Recipient{bob.recipient()}, EpochOptions{Header: headerFunc, ReplyKeys: true})
	if err != nil {
		t.Fatal(err)
	}
	if len(wraps[0].Payload) > 2500 || len(alice.Keyring.prekeys.replies) != maxReplies {
		t.Fatalf("one reply key past the limit: payload %d bytes", len(wraps[0].Payload))
	}
}

func TestRefreshRules(t *testing.T) {
	w := newWorld(t)
	alice, bob := w.node('a', 1), w.node('b', 1)
	conv := DirectConversation(w.network, alice.self.User, bob.self.User)
	usable := func() bool { _, ok := alice.EpochFor(conv, nil); return ok }

	e := alice.start(bob)
	if usable() {
		t.Fatal("an epoch whose wraps may not be out is offered")
	}
	bob.receive(alice.send(e, "x"))
	if !usable() {
		t.Fatal("epoch not offered")
	}
	w.pass(RefreshAge - time.Minute)
	if !usable() {
		t.Fatal("refreshed too early")
	}
	w.pass(2 * time.Minute)
	if usable() {
		t.Fatal("7 days old and not due")
	}
	if info, _ := alice.Info(e); !info.Due {
		t.Fatal("not shown as due")
	}

	e = alice.start(bob)
	for i := range RefreshMessages {
		if !usable() && i > 0 {
			t.Fatalf("due after %d messages", i)
		}
		if _, err := alice.Draft(e); err != nil {
			t.Fatal(err)
		}
	}
	if usable() {
		t.Fatal("1,000 messages and not due")
	}

	w.pass(time.Second)
	e = bob.start(alice)
	alice.receive(bob.send(e, "x"))
	if !usable() {
		t.Fatal("a newer epoch of the other side is not used")
	}
	if err := alice.Refresh(conv); err != nil {
		t.Fatal(err)
	}
	alice.restart()
	if usable() {
		t.Fatal("reset security did not last")
	}
}

func TestEpochForAsksForTheExactRoster(t *testing.T) {
	w := newWorld(t)
	alice, bob, bob2 := w.node('a', 1), w.node('b', 1), w.node('b', 2)
	e := alice.start(bob)
	alice.send(e, "x")
	conv := DirectConversation(w.network, alice.self.User, bob.self.User)
	member := func(n *node) Member { return Member{User: n.self.User, Device: n.self.Device} }
	if _, ok := alice.EpochFor(conv, []Member{member(bob), member(alice)}); !ok {
		t.Fatal("same roster in another order refused")
	}
	if _, ok := alice.EpochFor(conv, []Member{member(bob), member(alice), member(bob2)}); ok {
		t.Fatal("a new device would be left out")
	}
	if _, ok := alice.EpochFor(conv, []Member{member(alice)}); ok {
		t.Fatal("a removed device would read on")
	}
}

func TestUnusedEpochIsNotOfferedAfterARestart(t *testing.T) {
	w := newWorld(t)
	alice, bob := w.node('a', 1), w.node('b', 1)
	e, wraps := alice.startOnly(bob)
	alice.restart()
	conv := DirectConversation(w.network, alice.self.User, bob.self.User)
	if _, ok := alice.EpochFor(conv, nil); ok {
		t.Fatal("offered")
	}
	// But a wrap may have got out: what the other side sends in it is read.
	if _, err := bob.OpenEpoch(wraps[0].Tag, wraps[0].Header, wraps[0].Payload); err != nil {
		t.Fatal(err)
	}
	alice.receive(bob.send(e, "x"))
}

func TestEpochsEndAndAreDestroyed(t *testing.T) {
	w := newWorld(t)
	alice, bob := w.node('a', 1), w.node('b', 1)
	e1 := alice.start(bob)
	late, lost := alice.send(e1, "late"), alice.send(e1, "lost")
	bob.receive(alice.send(e1, "x"))
	w.pass(8 * 24 * time.Hour)
	e2 := alice.start(bob)
	bob.receive(alice.send(e2, "y"))
	if info, _ := bob.Info(e1); !info.Superseded {
		t.Fatal("old epoch not superseded")
	}
	sweep := func(days int) {
		for range days {
			w.pass(24 * time.Hour)
			if err := errors.Join(alice.Sweep(), bob.Sweep()); err != nil {
				t.Fatal(err)
			}
		}
	}
	sweep(20)
	bob.restart()
	bob.receive(late)
	sweep(3)
	bob.refuse(lost, ErrKeyGone) // its gap is 31 days old
	sweep(8)
	bob.restart()
	bob.refuse(lost, ErrUnknownEpoch)
	if _, ok := bob.Info(e1); ok {
		t.Fatal("superseded epoch still held")
	}
	sweep(100)
	bob.restart()
	bob.receive(alice.send(e2, "the newest stays"))
	// Nothing of the first epoch is left on the disk.
	for name := range bob.disk.records {
		if strings.Contains(name, e1.String()) {
			t.Fatalf("record %q left", name)
		}
	}
	for _, id := range []secretID{bob.box.epochID(e1), bob.box.chainsID(e1, 0), bob.box.chainsID(e1, 1), bob.box.gapID(e1, position{1, 0}), bob.box.gapID(e1, position{0, 1})} {
		if _, ok := bob.disk.durable[id]; ok {
			t.Fatal("a secret of a destroyed epoch is in the vault")
		}
	}
}

func TestEpochsPerConversationAreBounded(t *testing.T) {
	w := newWorld(t)
	alice, bob, carol := w.node('a', 1), w.node('b', 1), w.node('c', 1)
	kept := carol.start(bob)
	for range maxConversationEpochs + 1 {
		alice.start(bob)
		w.pass(time.Second)
	}
	if n := len(bob.conversations[DirectConversation(w.network, alice.self.User, bob.self.User)]); n != maxConversationEpochs {
		t.Fatalf("%d epochs of one conversation", n)
	}
	bob.receive(carol.send(kept, "not pushed out"))
	for i := len(bob.epochs); i < maxEpochs; i++ {
		bob.epochs[EpochID{0xff, 0xff, byte(i >> 8), byte(i)}] = &epoch{}
	}
	dave := w.node('d', 1)
	_, wraps := dave.startOnly(bob)
	if _, err := bob.OpenEpoch(wraps[0].Tag, wraps[0].Header, wraps[0].Payload); !errors.Is(err, ErrFull) {
		t.Fatalf("one epoch past the limit: %v", err)
	}
}

// A clock that jumps ahead and back must not make a device destroy what it
// still needs, nor bring anything back.
func TestJumpingClock(t *testing.T) {
	w := newWorld(t)
	alice, bob := w.node('a', 1), w.node('b', 1)
	e := alice.start(bob)
	late := alice.send(e, "late")
	bob.receive(alice.send(e, "x"))
	_, wraps := alice.startOnly(bob)
	for _, jump := range []time.Duration{10 * 365 * 24 * time.Hour, -20 * 365 * 24 * time.Hour, 20 * 365 * 24 * time.Hour, -10 * 365 * 24 * time.Hour} {
		w.pass(jump)
		if _, err := bob.Prekeys(); err != nil {
			t.Fatal(err)
		}
		if err := bob.Sweep(); err != nil {
			t.Fatal(err)
		}
		bob.restart()
	}
	bob.receive(late)
	if _, err := bob.OpenEpoch(wraps[0].Tag, wraps[0].Header, wraps[0].Payload); err != nil {
		t.Fatal(err)
	}
	now := w.clock()
	if p := ChoosePrekey(bob.prekeys(), now, DefaultMaxDelay, false); p == nil || p.NotBefore.After(now) || !p.NotAfter.After(now) {
		t.Fatalf("no prekey for now: %+v", p)
	}
}

func TestWaitingForKeys(t *testing.T) {
	w := newWorld(t)
	alice, bob := w.node('a', 1), w.node('b', 1)
	cert := w.certs[alice.self.Device]
	_, wraps := alice.startOnly(bob)
	delete(w.certs, alice.self.Device)
	_, err := bob.OpenEpoch(wraps[0].Tag, wraps[0].Header, wraps[0].Payload)
	var unknown *UnknownDevice
	if !errors.Is(err, ErrUnknownSender) || !errors.As(err, &unknown) || unknown.Device != alice.self.Device {
		t.Fatalf("%v", err)
	}
	w.certs[alice.self.Device] = cert
	info, err := bob.OpenEpoch(wraps[0].Tag, wraps[0].Header, wraps[0].Payload)
	if err != nil || info.Known {
		t.Fatal(err)
	}
	m := alice.send(info.ID, "x")
	delete(w.certs, alice.self.Device)
	bob.refuse(m, ErrUnknownSender)
	w.certs[alice.self.Device] = cert
	bob.receive(m)
	info, err = bob.OpenEpoch(wraps[0].Tag, wraps[0].Header, wraps[0].Payload)
	if err != nil || !info.Known {
		t.Fatalf("second opening of a wrap: known %v, %v", info.Known, err)
	}
	bob.refuse(m, ErrDuplicate)
}

func TestDraftSealsOnce(t *testing.T) {
	w := newWorld(t)
	alice, bob := w.node('a', 1), w.node('b', 1)
	e := alice.start(bob)
	d, err := alice.Draft(e)
	if err != nil {
		t.Fatal(err)
	}
	h := header(d.Tag(), d.PurgeKey())
	if _, err := d.Seal(h, Inner{Type: TypeText, Body: make([]byte, MaxBody+1)}); !errors.Is(err, ErrTooLarge) {
		t.Fatalf("one byte past the limit: %v", err)
	}
	if _, err := d.Seal(make([]byte, MaxHeader+1), Inner{Type: TypeText}); !errors.Is(err, ErrTooLarge) {
		t.Fatalf("header one byte past the limit: %v", err)
	}
	if _, err := d.Seal(h, Inner{Type: TypeText, Parents: make([]MessageHash, MaxParents+1)}); !errors.Is(err, ErrTooLarge) {
		t.Fatalf("one parent past the limit: %v", err)
	}
	if _, err := d.Seal(h, Inner{Type: TypeText, TTL: -time.Second}); !errors.Is(err, ErrTooLarge) {
		t.Fatalf("negative time to live: %v", err)
	}
	in := Inner{
		Type: 4711, Sent: 1 << 50, TTL: maxSeconds * time.Second, Burn: time.Minute, Parents: []MessageHash{{1}, {2}, {3}, {4}},
		Head: RevocationHead{7, [4]byte{1, 2, 3, 4}}, Body: slices.Repeat([]byte{0xa5}, MaxBody),
	}
	payload, err := d.Seal(h, in)
	if err != nil || len(payload) > MaxPayload {
		t.Fatalf("%d bytes: %v", len(payload), err)
	}
	if _, err := d.Seal(h, in); !errors.Is(err, ErrUsed) {
		t.Fatalf("sealed twice: %v", err)
	}
	o, err := bob.Open(d.Tag(), h, payload)
	if err != nil {
		t.Fatal(err)
	}
	if o.Hash != d.Hash() || o.Hash == (MessageHash{}) {
		t.Fatal("sender and reader disagree about the message's hash")
	}
	if got, want := fmt.Sprintf("%+v", o.Inner), fmt.Sprintf("%+v", in); got != want {
		t.Fatal("inner fields of an unknown type did not come through")
	}
}

func TestComplianceReaderOnlyReads(t *testing.T) {
	w := newWorld(t)
	alice, bob, archive := w.node('a', 1), w.node('b', 1), w.node('z', 1)
	to := []Recipient{bob.recipient(), archive.recipient()}
	to[1].Flags = MemberCompliance
	e, wraps, err := alice.StartEpoch(to, EpochOptions{Header: headerFunc})
	if err != nil {
		t.Fatal(err)
	}
	for i, n := range []*node{bob, archive} {
		if _, err := n.OpenEpoch(wraps[i].Tag, wraps[i].Header, wraps[i].Payload); err != nil {
			t.Fatal(err)
		}
	}
	m := alice.send(e, "on record")
	if o := bob.receive(m); !o.ReaderPurges || o.PurgeKey != m.purge {
		t.Fatal("the compliance reader is counted as a reader")
	}
	if o := archive.receive(m); o.ReaderPurges || o.PurgeKey != (PurgeKey{}) {
		t.Fatal("the compliance reader may purge")
	}
	if _, err := archive.Draft(e); !errors.Is(err, ErrReceiveOnly) {
		t.Fatalf("compliance reader drafts: %v", err)
	}
	if _, ok := archive.EpochFor(DirectConversation(w.network, alice.self.User, bob.self.User), nil); ok {
		t.Fatal("compliance reader is offered an epoch to write in")
	}
	// Not even when it ignores its own rules.
	cheat := archive.epochs[e]
	cheat.roster = slices.Clone(cheat.roster)
	cheat.roster[cheat.slot].Flags = 0
	bob.refuse(archive.send(e, "forged"), ErrForged)
}
