package chat

import (
	"bytes"
	"context"
	"errors"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"outrider/mesh/bundle"
	"outrider/mesh/envelope"
	"outrider/mesh/identity"
	"outrider/mesh/identity/kdf"
)

func testKeys(w *world) (*device, Keys) {
	d := w.device(w.user("Alice"), w.node("alpha"))
	return d, d.keys
}

func TestKeystore(t *testing.T) {
	d, k := testKeys(newWorld(t))
	ctx := t.Context()
	sealed, err := SealKeys(ctx, d.user.id, []byte("correct horse"), k, kdf.Floor())
	if err != nil {
		t.Fatal(err)
	}
	got, err := OpenKeys(ctx, d.user.id, []byte("correct horse"), sealed)
	if err != nil || got.KEK != k.KEK || got.Device.Seed() != k.Device.Seed() || got.User.Seed() != k.User.Seed() || !bytes.Equal(got.Chain.Marshal(), k.Chain.Marshal()) {
		t.Errorf("%v", err)
	}
	if _, err := OpenKeys(ctx, d.user.id, []byte("wrong"), sealed); !errors.Is(err, ErrPassword) {
		t.Errorf("wrong password: %v", err)
	}
	if _, err := OpenKeys(ctx, identity.UserID{1}, []byte("correct horse"), sealed); !errors.Is(err, ErrPassword) {
		t.Errorf("another user's keystore: %v", err)
	}
	if _, err := SealKeys(ctx, d.user.id, nil, k, kdf.Floor()); !errors.Is(err, ErrInvalid) {
		t.Errorf("empty password: %v", err)
	}
	k.KEK = [32]byte{}
	sealed, err = SealKeys(ctx, d.user.id, []byte("x"), k, kdf.Floor())
	if err != nil {
		t.Fatal(err)
	}
	if got, err := OpenKeys(ctx, d.user.id, []byte("x"), sealed); err != nil || got.KEK == ([32]byte{}) {
		t.Errorf("no KEK was chosen: %v", err)
	}
	if bytes.Contains(sealed, d.user.id[:]) {
		t.Error("the keystore names its user")
	}
}

func TestLogin(t *testing.T) {
	scene(t, func(t *testing.T, p *pair) {
		p.a.svc.Lock(p.alice.id)
		sealed, err := SealKeys(t.Context(), p.alice.id, []byte("correct horse"), p.da.keys, kdf.Floor())
		if err != nil {
			t.Fatal(err)
		}
		if err := (accounts{p.a}).SaveKeystore(p.alice.id, sealed); err != nil {
			t.Fatal(err)
		}
		login := func(name, password string) (*Session, error) {
			return p.a.svc.Login(t.Context(), name, []byte(password))
		}
		for _, c := range [][2]string{{"Alice", "wrong"}, {"Bob", "correct horse"}, {"", "x"}, {"Alice", ""}, {p.bob.id.String(), "correct horse"}} {
			if _, err := login(c[0], c[1]); !errors.Is(err, ErrPassword) {
				t.Errorf("%v: %v", c, err)
			}
		}
		s, err := login("Alice", "correct horse")
		if err != nil || s.Self().ID != p.alice.id || s.Self().Name != "Alice" {
			t.Fatalf("%v", err)
		}
		again, err := login(p.alice.id.String(), "correct horse")
		if err != nil || again != s {
			t.Errorf("a second login opens a second session: %v", err)
		}
		if _, err := login("Alice", "wrong"); !errors.Is(err, ErrPassword) {
			t.Errorf("an open session lets a wrong password in: %v", err)
		}
		namesake := p.user("Alice")
		d := p.device(namesake, p.a) // on the same node
		for password, want := range map[string]error{"another horse": nil, "correct horse": ErrAmbiguous} {
			sealed, err := SealKeys(t.Context(), namesake.id, []byte(password), d.keys, kdf.Floor())
			if err != nil {
				t.Fatal(err)
			}
			if err := (accounts{p.a}).SaveKeystore(namesake.id, sealed); err != nil {
				t.Fatal(err)
			}
			if s, err := login("Alice", "correct horse"); !errors.Is(err, want) || want == nil && s.Self().ID != p.alice.id {
				t.Errorf("a namesake whose password is %q: %v", password, err)
			}
			if _, err := login("Alice", "wrong"); !errors.Is(err, ErrPassword) {
				t.Errorf("a wrong password tells of namesakes: %v", err)
			}
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if _, err := p.a.svc.Login(ctx, p.alice.id.String(), []byte("correct horse")); err == nil {
			t.Error("a cancelled login goes on")
		}
	})
}

func TestResolve(t *testing.T) {
	scene(t, func(t *testing.T, p *pair) {
		s := p.da.session()
		if id, err := s.Resolve(t.Context(), "Bob"); err != nil || id != p.bob.id {
			t.Errorf("%v, %v", id, err)
		}
		if _, err := s.Resolve(t.Context(), "Mallory"); !errors.Is(err, ErrNotFound) {
			t.Errorf("unknown name: %v", err)
		}
		p.user("Bob")
		if _, err := s.Resolve(t.Context(), "Bob"); !errors.Is(err, ErrAmbiguous) {
			t.Errorf("ambiguous name: %v", err)
		}
		frank := identity.UserID{0xfa}
		p.change(func() { p.invited = map[identity.UserID]string{frank: "Frank", {0xfb}: "Bob"} })
		if id, err := s.Resolve(t.Context(), "Frank"); err != nil || id != frank {
			t.Errorf("somebody invited: %v, %v", id, err)
		}
		people, err := s.People(t.Context())
		if err != nil || len(people) != 3 {
			t.Fatalf("%v, %v", people, err)
		}
		for _, q := range people {
			want := Person{ID: q.ID, Name: q.Name, Fingerprint: q.Fingerprint}
			switch q.ID {
			case p.alice.id:
				want.Self, want.Here, want.HasKeys, want.Devices = true, true, true, 1
			case p.bob.id:
				want.HasKeys, want.Devices = true, 1
			}
			if q != want {
				t.Errorf("%+v, want %+v", q, want)
			}
		}
	})
}

func TestPages(t *testing.T) {
	scene(t, func(t *testing.T, p *pair) {
		var ids []MessageID
		for range 7 {
			ids = append(ids, p.da.text(p.bob, "x").ID)
		}
		s := p.da.session()
		conv := s.convOf(p.bob.id)
		page := func(before MessageID, n int) (out []MessageID) {
			t.Helper()
			ms, err := s.Messages(t.Context(), conv, before, n)
			if err != nil {
				t.Fatal(err)
			}
			for _, m := range ms {
				out = append(out, m.ID)
			}
			return out
		}
		if got := page(MessageID{}, 3); !slices.Equal(got, ids[4:]) {
			t.Error("first page")
		}
		if got := page(ids[4], 3); !slices.Equal(got, ids[1:4]) {
			t.Error("second page")
		}
		if got := page(ids[1], 3); !slices.Equal(got, ids[:1]) {
			t.Error("last page")
		}
		for _, n := range []int{0, -1, MaxPage + 1} {
			if _, err := s.Messages(t.Context(), conv, MessageID{}, n); !errors.Is(err, ErrInvalid) {
				t.Errorf("a page of %d: %v", n, err)
			}
		}
		if _, err := s.Messages(t.Context(), conv, MessageID{1}, 1); !errors.Is(err, ErrNotFound) {
			t.Errorf("before an unknown message: %v", err)
		}
		if _, err := s.Messages(t.Context(), ConversationID{1}, MessageID{}, 1); !errors.Is(err, ErrNotFound) {
			t.Errorf("unknown conversation: %v", err)
		}
	})
}

// A member of an epoch that sends absurd receipts costs bounded work.
func TestAbsurdReceipts(t *testing.T) {
	scene(t, func(t *testing.T, p *pair) {
		m := p.da.text(p.bob, "x")
		p.settle()
		s := p.db.session()
		r, err := s.get(p.db.with(p.alice)[0].ID)
		if err != nil {
			t.Fatal(err)
		}
		chain := func(from, to uint32) envelope.ChainRanges {
			return envelope.ChainRanges{Epoch: r.Sealed.Epoch, Slot: r.Sealed.Slot, Ranges: []envelope.Range{{From: from, To: to}}}
		}
		for _, chains := range [][]envelope.ChainRanges{
			{chain(5, 1<<32-2)}, {chain(1000, 1<<31)}, {{Epoch: envelope.EpochID{9}, Ranges: []envelope.Range{{From: 0, To: 9}}}}, {{Epoch: r.Sealed.Epoch, Slot: 900}},
		} {
			body, err := envelope.Receipt{Chains: chains}.Encode()
			if err != nil {
				t.Fatal(err)
			}
			s.mu.Lock()
			_, err = s.sendControl(t.Context(), r.Sealed.Epoch, envelope.TypeRead, body, bundle.Routine, time.Hour)
			s.mu.Unlock()
			if err != nil {
				t.Fatal(err)
			}
			p.settle()
		}
		p.da.wantState(m.ID, StateDelivered)
		count := 0
		for range news([]envelope.Range{{From: 0, To: 1<<32 - 1}}, nil) {
			count++
		}
		if count != maxNews {
			t.Errorf("%d indexes looked at, want %d", count, maxNews)
		}
	})
}

func TestRangesAgainstSet(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		set := make(map[uint32]bool)
		var rs []envelope.Range
		for _, n := range rapid.SliceOf(rapid.Uint32Range(0, 40)).Draw(t, "indexes") {
			set[n] = true
			rs = addIndex(rs, n)
		}
		last := int64(-2)
		count := 0
		for _, r := range rs {
			if int64(r.From) <= last+1 || r.To < r.From {
				t.Fatalf("ranges %v are not ascending and apart", rs)
			}
			last = int64(r.To)
			for n := r.From; n <= r.To; n++ {
				if count++; !set[n] {
					t.Fatalf("%v has %d", rs, n)
				}
			}
		}
		if count != len(set) {
			t.Fatalf("%v has %d of %d", rs, count, len(set))
		}
		told := []envelope.Range{{From: rapid.Uint32Range(0, 20).Draw(t, "from"), To: rapid.Uint32Range(20, 50).Draw(t, "to")}}
		var got []uint32
		for n := range news(told, rs) {
			got = append(got, n)
		}
		var want []uint32
		for n := told[0].From; n <= told[0].To; n++ {
			if !set[n] {
				want = append(want, n)
			}
		}
		if !slices.Equal(got, want) {
			t.Fatalf("news of %v beyond %v: %v, want %v", told, rs, got, want)
		}
	})
}

func TestPadding(t *testing.T) {
	for n := range 3 * rowPad {
		b := bytes.Repeat([]byte{0x80}, n)
		p := pad(b)
		if len(p)%rowPad != 0 || len(p) <= n || len(p) > n+rowPad {
			t.Fatalf("%d bytes padded to %d", n, len(p))
		}
		if got, err := unpad(p); err != nil || !bytes.Equal(got, b) {
			t.Fatalf("%d: %v", n, err)
		}
	}
	for _, bad := range [][]byte{nil, {0}, {0, 0}, {0x80, 1}} {
		if _, err := unpad(bad); err == nil {
			t.Errorf("%v is unpadded", bad)
		}
	}
}

func TestIDs(t *testing.T) {
	m, c := newID(), ConversationID(newID())
	if got, err := ParseMessageID(m.String()); err != nil || got != m {
		t.Errorf("%v, %v", got, err)
	}
	if got, err := ParseConversationID(c.String()); err != nil || got != c {
		t.Errorf("%v, %v", got, err)
	}
	for _, bad := range []string{"", "x", m.String() + "a", m.String()[1:], "0" + m.String()[1:]} {
		if _, err := ParseMessageID(bad); !errors.Is(err, ErrInvalid) {
			t.Errorf("%q: %v", bad, err)
		}
	}
}

func TestLocationRoundTrip(t *testing.T) {
	for _, l := range []Location{{}, {Lat: -90, Lon: 180}, {Lat: 48.1371541, Lon: 11.5761242, AccuracyM: 12, Note: "n", Live: true}, {AccuracyM: 1 << 31}} {
		b, err := encodeLocation(l, time.Now())
		if err != nil {
			t.Fatal(err)
		}
		got := locationView(b)
		if got != nil {
			got.Fix = nil // TestFixRoundTrip
		}
		l.AccuracyM = min(l.AccuracyM, 42949673)
		if got == nil || *got != l {
			t.Errorf("%+v became %+v", l, got)
		}
	}
}

func TestRunLeavesNothingBehind(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPair(t)
		p.da.text(p.bob, "x")
		p.close() // the bubble fails when a goroutine is left
		if p.a.svc != nil {
			t.Error("still there")
		}
	})
}

// What an attacker puts in the place of a row's plaintext, having the key, is
// decoded or refused.
func FuzzRow(f *testing.F) {
	good, err := identity.Marshal(&record{Msg: MessageID{1}, Type: TypeText, Text: "x", Sealed: &sealedRecord{}, Devices: []deviceRecord{{}}})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(pad(good))
	f.Add([]byte{0x80})
	f.Fuzz(func(t *testing.T, b []byte) {
		r := new(record)
		if err := decodePadded(b, r); err != nil {
			return
		}
		again, err := identity.Marshal(r)
		if err != nil {
			t.Fatal(err)
		}
		if err := decodePadded(pad(again), new(record)); err != nil {
			t.Fatalf("what was read cannot be written and read: %v", err)
		}
	})
}

func FuzzKeystore(f *testing.F) {
	f.Add([]byte{0xa0})
	f.Fuzz(func(t *testing.T, b []byte) {
		if k, err := parseKeystore(b); err == nil && k.Device.IsZero() {
			t.Error("keys without a device key")
		}
	})
}

func FuzzContent(f *testing.F) {
	f.Add(uint64(1), []byte{0xa1, 1, 0x61, 'x'})
	f.Add(uint64(3), make([]byte, 38))
	f.Fuzz(func(t *testing.T, kind uint64, body []byte) {
		s, r := &Session{}, &record{}
		if s.fillContent(r, envelope.Inner{Type: envelope.Type(kind), Body: body}) != nil || r.Type == "" {
			return
		}
		in, err := s.innerOf(r)
		if err != nil {
			t.Fatalf("what was received cannot be sent: %v", err)
		}
		if err := s.fillContent(&record{}, in); err != nil {
			t.Fatalf("what was sent again cannot be read: %v", err)
		}
		r.live()
	})
}
