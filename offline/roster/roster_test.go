package roster

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"outrider/mesh/identity"
)

func TestViews(t *testing.T) {
	n := newNetwork(t, "eagle")
	r := n.roster()
	changed := r.Changed()
	alice, bob := n.person("alice"), n.person("bob")
	n.accept(r, n.objects(bob, "Bob")...)
	n.accept(r, n.objects(alice, "Álice")...)
	select {
	case <-changed:
	default:
		t.Error("nobody was told of a change")
	}
	users := r.Users()
	if len(users) != 2 || users[0].Name != "Bob" || users[1].Name != "Álice" || users[0].ID != bob.id || users[0].Provisional || users[0].Frozen {
		t.Fatalf("%+v", users)
	}
	if got := r.ByName("álice"); len(got) != 1 || got[0].ID != alice.id || got[0].Key != alice.user.Public() {
		t.Errorf("by name: %+v", got)
	}
	devices := r.Devices(alice.id)
	if len(devices) != 1 {
		t.Fatalf("%d devices", len(devices))
	}
	d := devices[0]
	if d.ID != alice.device.Public().DeviceID() || d.Key != alice.device.Public() || d.User != alice.id || d.Prekey == nil || d.Prekey.Number != 1 ||
		d.LastResort == nil || d.LastResort.Number != 0 || d.Chain.Verify(n.root, n.clock) != nil {
		t.Errorf("%+v", d)
	}
	if got, found := r.Device(d.ID); !found || !reflect.DeepEqual(got, d) {
		t.Error("one device is not what the list says")
	}
	if _, found := r.Device(identity.DeviceID{1}); found {
		t.Error("found a device nobody has")
	}
	if _, found := r.User(identity.UserID{1}); found || len(r.Devices(identity.UserID{1})) != 0 || len(r.ByName("Eve")) != 0 {
		t.Error("found somebody nobody is")
	}
}

// TestAnyOrder applies one set of objects in many orders, with repeats, and
// wants one result: a restart must not change what the roster says.
func TestAnyOrder(t *testing.T) {
	n := newNetwork(t, "eagle")
	source := n.roster()
	var payloads [][]byte
	add := func(objects ...Object) {
		for _, o := range objects {
			payloads = append(payloads, ok2(t)(source.Seal(o)))
		}
	}
	alice, bob := n.person("alice"), n.person("bob")
	add(n.objects(alice, "Alice")...)
	add(n.objects(bob, "Bob")...)
	add(Certificate(identity.Chain{n.aCert}), Certificate(n.node(seeded("relay"), nil)))
	add(n.profile(alice.id, "Alice II", 2, alice.device), n.profile(alice.id, "by the book", 9, n.admin), n.prekey(alice.device, 2))
	k := n.ticket("carol", 1)
	for _, who := range []string{"carol", "thief"} {
		p, node := n.redeem(k, who)
		add(n.objects(p, who)...)
		add(Certificate(node))
	}
	done := n.ticket("dave", 1)
	dave, node := n.redeem(done, "dave")
	add(n.objects(dave, "Dave")...)
	add(Certificate(node))
	final := n.issue(n.admin, identity.Certificate{Class: identity.ClassUser, Subject: dave.id[:], Key: dave.user.Public()})
	add(Certificate(identity.Chain{final, n.aCert}))
	// Two certificates with one number: everybody must still pick the same.
	for _, word := range []string{"x", "y"} {
		id := uid("eve")
		c := n.issue(n.admin, identity.Certificate{Class: identity.ClassUser, Subject: id[:], Key: seeded(word).Public()})
		add(Certificate(identity.Chain{c, n.aCert}))
	}
	lost, err := source.Revoke(n.admin, epoch, bob.device.Public())
	ok(t, lost, err)
	add(lost)

	want := ""
	for seed := range uint64(60) {
		r := n.roster()
		for _, p := range shuffled(seed, append(payloads, payloads[:10]...)) {
			if err := r.Apply(p); err != nil {
				t.Fatal(err)
			}
		}
		if len(r.waiting) != 0 || len(r.parked) != 0 {
			t.Fatalf("seed %d: %d objects still wait", seed, len(r.waiting))
		}
		got := describe(r)
		if want == "" {
			want = got
			t.Log("\n" + got)
		}
		if got != want {
			t.Fatalf("seed %d:\n%s\nwant:\n%s", seed, got, want)
		}
	}
	for _, s := range []string{"Alice II", "frozen=true", "Dave", "provisional=false"} {
		if !strings.Contains(want, s) {
			t.Errorf("%q is missing", s)
		}
	}
}

// describe writes down all that the views say.
func describe(r *Roster) string {
	var b strings.Builder
	for _, u := range r.Users() {
		fmt.Fprintf(&b, "%s %q key=%s generation=%d provisional=%v frozen=%v\n", u.ID.String()[:6], u.Name, u.Key.String()[:6], u.Generation, u.Provisional, u.Frozen)
		for _, d := range r.Devices(u.ID) {
			fmt.Fprintf(&b, "  device %s chain=%d", d.ID.String()[:6], len(d.Chain))
			if d.Prekey != nil {
				fmt.Fprintf(&b, " prekey=%d", d.Prekey.Number)
			}
			fmt.Fprintln(&b, " last resort", d.LastResort != nil)
		}
	}
	for _, x := range r.Nodes() {
		fmt.Fprintf(&b, "node %s provisional=%v\n", x.ID.Short(), x.Provisional)
	}
	return b.String()
}

func TestLater(t *testing.T) {
	n := newNetwork(t, "eagle")
	r, alice := n.roster(), n.person("alice")
	for _, o := range n.objects(alice, "Alice")[2:] {
		n.refuse(r, o, Later, ErrLater) // its device is unknown
	}
	alone := Certificate(alice.devChain)
	alone.Chain = nil
	n.refuse(r, alone, Later, ErrLater)
	n.accept(r, Certificate(alice.devChain), n.prekey(alice.device, 1)) // the device brings its user along
	if len(r.Users()) != 0 || len(r.Devices(alice.id)) != 0 {
		t.Error("a user is shown whose own certificate has not arrived")
	}
	n.accept(r, Certificate(alice.chain))
	if d := r.Devices(alice.id); len(d) != 1 || d[0].Prekey == nil {
		t.Errorf("%+v", d)
	}

	stranger := New(n.root, nil, n.clock, slog.New(slog.DiscardHandler))
	payload := ok2(t)(r.Seal(Certificate(alice.chain)))
	if v := stranger.Judge(payload); v.Code != Later || !errors.Is(stranger.Apply(payload), ErrLater) {
		t.Errorf("secret unknown: %+v", v)
	}
	if _, err := stranger.Seal(Certificate(alice.chain)); err == nil {
		t.Error("sealed without a secret")
	}
	stranger.AddSecret(n.secret)
	if v := stranger.Judge(payload); v.Code != Later {
		t.Errorf("admin unknown: %+v", v)
	}
	if err := stranger.Apply(payload); err != nil || len(stranger.Users()) != 0 {
		t.Errorf("applied before its admin: %v", err)
	}
	if err := stranger.SetOwn(n.node(seeded("own node"), nil)); err != nil {
		t.Fatal(err)
	}
	if len(stranger.Users()) != 1 {
		t.Error("what waited for the admin is lost")
	}
	plain := ok(t, objectWire{Kind: 77, Body: []byte{1}, Parents: [][]byte{}}, nil)
	b, err := identity.Marshal(plain)
	if v := r.Judge(sealRaw(r, ok(t, b, err))); v.Code != Later {
		t.Errorf("kind of a later version: %+v", v)
	}
}

// sealRaw seals any plaintext as a member could.
func sealRaw(r *Roster, plain []byte) []byte {
	head := []byte{0, 0, 0, 1}
	s := r.secrets[1]
	return append(head, identity.Seal(s.ControlKey(), plain, aad(r.root.ID(), head))...)
}

// TestForged: what any member, or anybody, could send.
func TestForged(t *testing.T) {
	n, other := newNetwork(t, "eagle"), newNetwork(t, "falcon")
	other.secret = n.secret // the worst case: the foreigner has our secret
	r, alice, eve := n.roster(), n.person("alice"), n.person("eve")
	n.accept(r, n.objects(alice, "Alice")...)
	n.accept(r, n.objects(eve, "Eve")...)
	foreign := other.person("alice")
	withAdmin := Certificate(foreign.chain)
	withAdmin.Chain = identity.Chain{other.aCert}
	n.refuse(r, withAdmin, Forged, identity.ErrForeign)
	n.refuse(r, n.profile(alice.id, "Mallory", 9, eve.device), Forged, identity.ErrRole)
	n.refuse(r, n.prekey(seeded("nobody"), 3), Later, ErrLater)

	stolen := Certificate(alice.devChain) // eve's user certifies alice's device, without its signature
	c, err := identity.IssueDevice(n.root.ID(), eve.user, eve.device, identity.Certificate{Subject: eve.id[:], Generation: 9, NotBefore: epoch, NotAfter: epoch.AddDate(1, 0, 0)})
	raw := bytes.Replace(ok(t, c, err).Raw(), keyOf(eve.device), keyOf(alice.device), 1)
	stolen.Body, stolen.Chain = raw, identity.Chain{eve.chain.Leaf()}
	n.refuse(r, stolen, Forged, identity.ErrSignature)

	weak := seeded("config admin")
	n.accept(r, Certificate(identity.Chain{n.makeAdmin(weak, identity.RoleConfig)}))
	revocation, err := r.Revoke(weak, epoch, alice.user.Public())
	n.refuse(r, ok(t, revocation, err), Forged, identity.ErrRole)
	revocation, err = r.Revoke(eve.device, epoch, alice.device.Public())
	n.refuse(r, ok(t, revocation, err), Forged, identity.ErrRole)
	n.refuse(r, n.profile(alice.id, "Mallory", 9, weak), Forged, identity.ErrRole)
	id := uid("new")
	byWeak := n.issue(weak, identity.Certificate{Class: identity.ClassUser, Subject: id[:], Key: eve.user.Public()})
	n.refuse(r, Certificate(identity.Chain{byWeak, n.aCert}), Forged, identity.ErrRole)
	if users := r.Users(); len(users) != 2 || users[0].Name != "Alice" {
		t.Errorf("%+v", users)
	}
}

func keyOf(k identity.PrivateKey) []byte { p := k.Public(); return p[:] }

// TestEveryByte changes every byte of every kind of object, sealed and, as a
// member could, below the seal.
func TestEveryByte(t *testing.T) {
	n := newNetwork(t, "eagle")
	r, alice := n.roster(), n.person("alice")
	objects := n.objects(alice, "Alice")
	n.accept(r, objects[:2]...)
	revocation, err := r.Revoke(n.admin, epoch, seeded("lost").Public())
	for _, o := range append(objects, ok(t, revocation, err)) {
		payload := ok2(t)(r.Seal(o))
		for i := 0; i < len(payload); i += 1 + i/100*9 {
			bad := bytes.Clone(payload)
			bad[i] ^= 1
			if v := r.Judge(bad); v.Code != Forged && (i >= 4 || v.Code != Later) {
				t.Fatalf("kind %d, byte %d of the payload: %+v", o.Kind, i, v)
			}
			if i < 4+identity.SealOverhead {
				if v := r.Judge(payload[:i]); v.Code != Forged {
					t.Fatalf("kind %d cut to %d: %+v", o.Kind, i, v)
				}
			}
		}
		plain, err := o.encode()
		ok(t, plain, err)
		end := bytes.Index(plain, o.Body) + len(o.Body) // behind it come parents, which are known here anyway
		for i := range plain {
			bad := bytes.Clone(plain)
			bad[i] ^= 1
			if v := r.Judge(sealRaw(r, bad)); v.Code != Forged && v.Code != Later && (i < end || v.Code != Superseded) {
				t.Fatalf("kind %d, byte %d of the plaintext: %+v", o.Kind, i, v)
			}
		}
	}
	if v := r.Judge(make([]byte, MaxPayload+1)); v.Code != Forged {
		t.Errorf("too large: %+v", v)
	}
}

func TestNumbersWin(t *testing.T) {
	n := newNetwork(t, "eagle")
	r, alice := n.roster(), n.person("alice")
	n.accept(r, n.objects(alice, "Alice")...)
	same := n.prekey(alice.device, 1)
	payload := ok2(t)(r.Seal(same))
	if v := r.Judge(payload); v.Code != Accept || v.Key == [16]byte{} || v.Number != 1 || v.Kind != KindPrekey {
		t.Errorf("known, the same sealed again elsewhere: %+v", v)
	}
	more := same
	more.Chain = append(slices.Clone(same.Chain), n.aCert)
	n.refuse(r, more, Superseded, ErrSuperseded) // the same words in another dress
	two := ok2(t)(r.Seal(n.prekey(alice.device, 2)))
	first := r.Judge(two)
	if first.Code != Accept || first.Number != 2 || !first.End.Equal(epoch.AddDate(0, 0, 2+7+30)) {
		t.Errorf("next number: %+v", first)
	}
	if err := errors.Join(r.Apply(two), r.Apply(two)); err != nil {
		t.Fatal(err)
	}
	if v := r.Judge(two); v.Code != Accept || v.Key != first.Key {
		t.Errorf("the same payload again, as after a crash: %+v", v)
	}
	n.refuse(r, same, Superseded, ErrSuperseded)
	if d := r.Devices(alice.id)[0]; d.Prekey.Number != 2 {
		t.Errorf("prekey %d", d.Prekey.Number)
	}
	next := identity.NetworkSecret{Generation: 2, Secret: [32]byte{2}}
	r.AddSecret(next)
	if v := n.give(r, n.prekey(alice.device, 2)); v.Code != Accept {
		t.Errorf("sealed under a newer secret: %+v", v)
	}
	if s := r.Secrets(); len(s) != 2 || s[0].Generation != 2 {
		t.Errorf("%d secrets", len(s))
	}
	newKey := seeded("alice user, again")
	c := n.issue(n.admin, identity.Certificate{Class: identity.ClassUser, Subject: alice.id[:], Key: newKey.Public(), Generation: 2})
	n.accept(r, Certificate(identity.Chain{c, n.aCert}))
	if u, _ := r.User(alice.id); u.Generation != 2 || u.Key != newKey.Public() || len(r.Devices(alice.id)) != 0 {
		t.Errorf("after a new generation: %+v, %d devices of the old key", u, len(r.Devices(alice.id)))
	}
	n.refuse(r, Certificate(alice.chain), Superseded, ErrSuperseded)
}

// TestDailyBudget: two new objects of a kind per signer and day of elapsed
// time, whatever the clock says.
func TestDailyBudget(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNetwork(t, "eagle")
		r, alice := n.roster(), n.person("alice")
		n.accept(r, n.objects(alice, "Alice")...)
		n.accept(r, n.prekey(alice.device, 2))
		third := ok2(t)(r.Seal(n.prekey(alice.device, 3)))
		if v := r.Judge(third); v.Code != Later || !errors.Is(v.Err, ErrLater) {
			t.Fatalf("third of the day: %+v", v)
		}
		n.clock.set(epoch.AddDate(0, 0, 3), true) // the clock has no say
		time.Sleep(24*time.Hour - time.Second)
		if v := r.Judge(third); v.Code != Later {
			t.Fatalf("a second too early: %+v", v)
		}
		time.Sleep(time.Second)
		if v := r.Judge(third); v.Code != Accept {
			t.Fatalf("the day after: %+v", v)
		}
		for range 5 { // asking again costs nothing
			if v := r.Judge(third); v.Code != Accept {
				t.Fatalf("asked again: %+v", v)
			}
		}
		for i := range 3 { // of devices a user may add two a day, each being a new subject
			dev := Certificate(n.deviceOf(alice, seeded(fmt.Sprint("extra", i))))
			if v := n.give(r, dev); (v.Code == Accept) != (i < 2) {
				t.Fatalf("device %d: %+v", i, v)
			}
		}
		for i := range 10 { // an admin may issue as many users as there are
			n.accept(r, Certificate(n.person(fmt.Sprint("user", i)).chain))
		}
		for i := range 10 { // and nothing holds up a revocation
			o, err := r.Revoke(n.admin, epoch, seeded(fmt.Sprint("lost", i)).Public())
			n.accept(r, ok(t, o, err))
		}
	})
}

func TestBudgetStaysSmall(t *testing.T) {
	b := budget{}
	for i := range 5000 {
		o := &object{Kind: KindUser, subject: []byte(fmt.Sprint(i)), sum: [32]byte{byte(i), byte(i >> 8)}}
		now := time.Duration(i) * time.Hour
		b.prune(now)
		if !b.allow(spenderOf(o, true), o, now) {
			t.Fatal("first object refused")
		}
	}
	if len(b) > 1100 {
		t.Errorf("%d entries", len(b))
	}
}

func TestDeviceLimit(t *testing.T) {
	n := newNetwork(t, "eagle")
	r, alice := n.roster(), n.person("alice")
	n.accept(r, Certificate(alice.chain))
	for i := range maxDevices + 1 { // Apply has no daily budget
		if err := r.Apply(ok2(t)(r.Seal(Certificate(n.deviceOf(alice, seeded(fmt.Sprint("device", i))))))); err != nil {
			t.Fatal(err)
		}
	}
	if got := len(r.Devices(alice.id)); got != maxDevices {
		t.Errorf("%d devices", got)
	}
	n.refuse(r, Certificate(alice.devChain), Superseded, ErrSuperseded)
}

func TestParkingIsBounded(t *testing.T) {
	n := newNetwork(t, "eagle")
	r := n.roster()
	nobody := seeded("nobody")
	for i := range maxParked {
		if err := r.Apply(ok2(t)(r.Seal(n.profile(uid("x"), "x", uint64(i), nobody)))); err != nil {
			t.Fatal(err)
		}
	}
	one := n.profile(uid("x"), "x", maxParked, nobody)
	if err := r.Apply(ok2(t)(r.Seal(one))); !errors.Is(err, ErrLater) {
		t.Errorf("one past the limit: %v", err)
	}
	if err := r.Apply(ok2(t)(r.Seal(n.profile(uid("x"), "x", 0, nobody)))); err != nil {
		t.Errorf("one that waits already: %v", err)
	}
}

func TestProfiles(t *testing.T) {
	n := newNetwork(t, "eagle")
	r, alice := n.roster(), n.person("alice")
	n.accept(r, Certificate(alice.chain), Certificate(alice.devChain))
	name := func() string { u, _ := r.User(alice.id); return u.Name }
	n.accept(r, n.profile(alice.id, "Pvt. A.", 1000, n.admin))
	if name() != "Pvt. A." {
		t.Errorf("admin's word: %q", name())
	}
	n.accept(r, n.profile(alice.id, "Alice", 1, alice.device))
	if name() != "Alice" {
		t.Errorf("user beats admin: %q", name())
	}
	n.accept(r, n.profile(alice.id, "Alice 2", 2, alice.device))
	n.refuse(r, n.profile(alice.id, "Alice", 1, alice.device), Superseded, ErrSuperseded)
	if name() != "Alice 2" {
		t.Errorf("highest number: %q", name())
	}
	for _, bad := range []string{"", strings.Repeat("x", 65), " x", "x\n", "a\x00b", "\xff", "a\u202eb", "a\u200bb"} {
		if _, err := Profile(n.root.ID(), alice.id, bad, 1, alice.device); !errors.Is(err, identity.ErrMalformed) {
			t.Errorf("%q is a name: %v", bad, err)
		}
	}
	if _, err := Profile(n.root.ID(), alice.id, strings.Repeat("x", MaxName), 1, alice.device); err != nil {
		t.Error(err)
	}
}

// TestStaleThings: what has ended is not shown, but a prekey is, while its
// owner still has the secret.
func TestStaleThings(t *testing.T) {
	n := newNetwork(t, "eagle")
	r, alice := n.roster(), n.person("alice")
	n.clock.set(epoch.AddDate(0, 0, 1+7+29), true)
	n.accept(r, n.objects(alice, "Alice")...)
	if r.Devices(alice.id)[0].Prekey == nil {
		t.Error("a stale prekey is gone before its secret")
	}
	n.clock.set(epoch.AddDate(0, 0, 2+7+30), true)
	n.refuse(r, n.prekey(alice.device, 2), Superseded, identity.ErrExpired)
	n.clock.set(epoch.AddDate(1, 0, 1), true)
	if len(r.Users()) != 0 || len(r.Devices(alice.id)) != 0 {
		t.Error("an expired user is shown")
	}
	n.refuse(r, Certificate(n.person("bob").chain), Superseded, identity.ErrExpired)
	n.clock.set(epoch.AddDate(1, 0, 1), false)
	if len(r.Users()) != 1 {
		t.Error("a clock that is not trusted hides a user")
	}
	n.clock.set(epoch.AddDate(0, 0, -1), true)
	n.refuse(r, Certificate(n.person("carol").chain), Later, identity.ErrNotYetValid)
}

// TestConcurrent has everything happen at once, for the race detector.
func TestConcurrent(t *testing.T) {
	n := newNetwork(t, "eagle")
	r := n.roster()
	var payloads [][]byte
	for i := range 8 {
		for _, o := range n.objects(n.person(fmt.Sprint("p", i)), fmt.Sprint("P", i)) {
			payloads = append(payloads, ok2(t)(r.Seal(o)))
		}
	}
	hello := n.node(seeded("peer"), nil)
	var g sync.WaitGroup
	for w := range uint64(4) {
		g.Go(func() {
			for _, p := range shuffled(w, payloads) {
				r.Judge(p)
				if err := r.Apply(p); err != nil {
					t.Error(err)
				}
				r.Users()
				r.Changed()
				r.Hello()
				if _, err := r.AdmitNode(hello.Leaf().NodeID(), hello.Marshal()); err != nil {
					t.Error(err)
				}
				o, err := r.Revoke(n.admin, epoch, seeded(fmt.Sprint(w)).Public())
				if err != nil {
					t.Error(err)
				}
				n.give(r, o)
			}
		})
	}
	g.Wait()
	if users := r.Users(); len(users) != 8 || len(r.Devices(users[7].ID)) != 1 {
		t.Errorf("%d users", len(users))
	}
}
