package roster

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"outrider/mesh/identity"
)

func (n *network) revoke(r *Roster, signer identity.PrivateKey, keys ...identity.PublicKey) Object {
	n.t.Helper()
	o, err := r.Revoke(signer, epoch.AddDate(0, 0, 1), keys...)
	return ok(n.t, o, err)
}

func TestRevocation(t *testing.T) {
	n := newNetwork(t, "eagle")
	r := n.roster()
	alice, bob := n.person("alice"), n.person("bob")
	n.accept(r, n.objects(alice, "Alice")...)
	n.accept(r, n.objects(bob, "Bob")...)
	second := n.deviceOf(alice, seeded("second"))
	n.accept(r, Certificate(second))
	n.accept(r, n.revoke(r, n.admin, alice.device.Public()))
	if d := r.Devices(alice.id); len(d) != 1 || d[0].Key != second.Leaf().Key || !r.KeyRevoked(alice.device.Public()) {
		t.Errorf("after revoking one device: %d", len(d))
	}
	n.refuse(r, n.prekey(alice.device, 9), Superseded, ErrRevoked)
	n.refuse(r, n.profile(alice.id, "Mallory", 9, alice.device), Superseded, ErrRevoked)
	if !r.RevokedAsOf().Equal(epoch.AddDate(0, 0, 1)) {
		t.Errorf("as of %v", r.RevokedAsOf())
	}
	n.accept(r, n.revoke(r, n.admin, bob.user.Public()))
	if len(r.Users()) != 1 || len(r.Devices(bob.id)) != 0 {
		t.Error("a revoked user is shown")
	}
	if _, found := r.Device(bob.device.Public().DeviceID()); found {
		t.Error("a revoked user's device is found")
	}
	if set := n.revoke(r, n.admin); len(set.Body) != 1+9+1+5+1+2*8+64 || set.Number != 3 {
		t.Errorf("a set of two has %d bytes and number %d", len(set.Body), set.Number)
	}
	if !r.Revoked(bob.id) || r.Revoked(alice.id) || r.Revoked(uid("nobody")) {
		t.Error("the wrong user is revoked")
	}
	again := n.issue(n.admin, identity.Certificate{Class: identity.ClassUser, Subject: bob.id[:], Key: bob.user.Public(), Generation: 7})
	n.refuse(r, Certificate(identity.Chain{again, n.aCert}), Superseded, ErrRevoked)
	fresh := n.issue(n.admin, identity.Certificate{Class: identity.ClassUser, Subject: bob.id[:], Key: seeded("bob's new").Public(), Generation: 2})
	n.accept(r, Certificate(identity.Chain{fresh, n.aCert}))
	if u, found := r.User(bob.id); !found || u.Generation != 2 {
		t.Error("a new key and generation do not bring a user back")
	}
}

// TestRevocationRollback: old sets, shrunken sets and contradicting sets may
// come in any order, and nobody who was revoked comes back.
func TestRevocationRollback(t *testing.T) {
	n := newNetwork(t, "eagle")
	a, b, c := seeded("a").Public(), seeded("b").Public(), seeded("c").Public()
	set := func(number uint64, keys ...identity.PublicKey) Object {
		var ids []identity.KeyID
		for _, k := range keys {
			ids = append(ids, k.ID())
		}
		o, err := newRevocation(n.root.ID(), n.admin, number, epoch, ids)
		return ok(t, o, err)
	}
	r := n.roster()
	first := n.give(r, set(1, a))
	second := n.give(r, set(2, a, b))
	if first.Code != Accept || second.Code != Accept || first.Key != second.Key || !second.End.IsZero() {
		t.Fatalf("%+v %+v", first, second)
	}
	n.refuse(r, set(1, a), Superseded, ErrSuperseded)
	n.refuse(r, set(2, b), Superseded, ErrSuperseded)
	shrunk := n.give(r, set(3, b)) // an admin restored from an old backup
	if shrunk.Code != Accept || shrunk.Key == second.Key || !r.KeyRevoked(a) {
		t.Errorf("a set that leaves a key out: %+v, still revoked %v", shrunk, r.KeyRevoked(a))
	}
	split := n.give(r, set(2, a, c)) // the same number, said elsewhere
	if split.Code != Accept || split.Key == second.Key || split.Key == shrunk.Key || !r.KeyRevoked(c) {
		t.Errorf("an equivocation: %+v", split)
	}
	if v := r.Judge(ok2(t)(r.Seal(set(3, b)))); v.Code != Accept || v.Key != shrunk.Key {
		t.Errorf("judged again: %+v", v)
	}
	next := n.revoke(r, n.admin, seeded("d").Public())
	if v := n.give(r, next); v.Code != Accept || v.Key != second.Key || v.Number != 4 {
		t.Errorf("the next set covers all: %+v", v)
	}
	payloads := [][]byte{}
	for _, o := range []Object{set(1, a), set(2, a, b), set(3, b), set(2, a, c), next} {
		payloads = append(payloads, ok2(t)(r.Seal(o)))
	}
	for seed := range uint64(20) {
		restarted := n.roster()
		for _, p := range shuffled(seed, payloads) {
			if err := restarted.Apply(p); err != nil {
				t.Fatal(err)
			}
		}
		for i, k := range []identity.PublicKey{a, b, c, seeded("d").Public()} {
			if !restarted.KeyRevoked(k) {
				t.Fatalf("seed %d: key %d came back", seed, i)
			}
		}
	}
}

func TestRevocationConflictsAreBounded(t *testing.T) {
	n := newNetwork(t, "eagle")
	r := n.roster()
	accepted := 0
	for i := range maxConflicts + 10 {
		o, err := newRevocation(n.root.ID(), n.admin, 1, epoch, []identity.KeyID{{byte(i + 1)}})
		if v := n.give(r, ok(t, o, err)); v.Code == Accept {
			accepted++
		} else if v.Code != Superseded {
			t.Fatalf("%+v", v)
		}
	}
	if accepted != 1+maxConflicts {
		t.Errorf("%d sets of one number accepted", accepted)
	}
}

func TestRevocationLimits(t *testing.T) {
	n := newNetwork(t, "eagle")
	r := n.roster()
	var ids []identity.KeyID
	for i := range MaxRevoked + 1 {
		ids = append(ids, identity.KeyID{byte(i), byte(i >> 8), 1})
	}
	if _, err := newRevocation(n.root.ID(), n.admin, 1, epoch, ids); err == nil {
		t.Error("one past the limit was signed")
	}
	full, err := newRevocation(n.root.ID(), n.admin, 1, epoch, ids[:MaxRevoked])
	n.accept(r, ok(t, full, err))
	if _, err := newRevocation(n.root.ID(), n.admin, 1, epoch, nil); err == nil {
		t.Error("an empty set was signed")
	}
	for name, keys := range map[string]string{"no keys": "", "half a key": strings.Repeat("k", 12), "twice": strings.Repeat("k", 16), "descending": "bbbbbbbbaaaaaaaa"} {
		body, err := identity.Marshal(revocationWire{Signer: make([]byte, 8), Number: 1, Keys: []byte(keys)})
		if _, err := parseRevocation(append(ok(t, body, err), make([]byte, 64)...)); !errors.Is(err, identity.ErrMalformed) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestSelfRevocation: a lost device, or a user from the recovery sheet, takes
// itself out, and nobody else.
func TestSelfRevocation(t *testing.T) {
	n := newNetwork(t, "eagle")
	r, alice := n.roster(), n.person("alice")
	n.accept(r, n.objects(alice, "Alice")...)
	n.refuse(r, n.revoke(r, alice.device, alice.user.Public()), Forged, identity.ErrRole)
	n.refuse(r, n.revoke(r, alice.user, alice.user.Public(), alice.device.Public()), Forged, identity.ErrRole)
	self := n.revoke(r, alice.device, alice.device.Public())
	payload := ok2(t)(r.Seal(self))
	n.accept(r, self)
	if v := r.Judge(payload); v.Code != Accept {
		t.Errorf("the same again: %+v", v)
	}
	if len(r.Devices(alice.id)) != 0 || len(r.Users()) != 1 {
		t.Error("the device is still there, or its user is not")
	}
	n.accept(r, n.revoke(r, alice.user, alice.user.Public()))
	if len(r.Users()) != 0 {
		t.Error("the user is still there")
	}
}

// TestRevokedAdmin: what a revoked admin issued falls with it; new
// revocations of its are not taken, those known stay.
func TestRevokedAdmin(t *testing.T) {
	n := newNetwork(t, "eagle")
	r, alice := n.roster(), n.person("alice")
	n.accept(r, n.objects(alice, "Alice")...)
	rogue := seeded("rogue")
	rCert := n.makeAdmin(rogue, identity.RoleAdmin)
	n.accept(r, Certificate(identity.Chain{rCert}))
	id := uid("mole")
	mole := identity.Chain{n.issue(rogue, identity.Certificate{Class: identity.ClassUser, Subject: id[:], Key: seeded("mole").Public()}), rCert}
	n.accept(r, Certificate(mole), n.revoke(r, rogue, alice.user.Public()))
	n.accept(r, n.revoke(r, n.admin, rogue.Public()))
	if len(r.Users()) != 0 {
		t.Errorf("%d users", len(r.Users()))
	}
	n.refuse(r, n.revoke(r, rogue, n.admin.Public()), Superseded, ErrRevoked)
	if r.KeyRevoked(n.admin.Public()) {
		t.Error("a revoked admin revoked the other")
	}
}

func TestRevokedNodesAreNotAdmitted(t *testing.T) {
	n := newNetwork(t, "eagle")
	r := n.roster()
	k := n.ticket("carol", 1)
	_, prov := n.redeem(k, "carol")
	for i, c := range []struct {
		chain identity.Chain
		lost  identity.PublicKey
	}{{n.node(seeded("relay"), nil), seeded("relay").Public()}, {prov, k.key.Public()}} {
		if _, err := r.AdmitNode(c.chain.Leaf().NodeID(), c.chain.Marshal()); err != nil {
			t.Fatal(err)
		}
		changed := r.Changed()
		n.accept(r, n.revoke(r, n.admin, c.lost))
		select {
		case <-changed:
		default:
			t.Error("nobody is told to look at the connections again")
		}
		if _, err := r.AdmitNode(c.chain.Leaf().NodeID(), c.chain.Marshal()); !errors.Is(err, ErrRevoked) {
			t.Errorf("%d: %v", i, err)
		}
	}
}

func BenchmarkAdmit(b *testing.B) {
	n := newNetwork(b, "eagle")
	r := n.roster()
	for i := range 2000 {
		n.accept(r, n.revoke(r, n.admin, seeded(fmt.Sprint(i)).Public()))
		if i > 3 {
			break
		}
	}
	chain := n.node(seeded("peer"), nil)
	hello, id := chain.Marshal(), chain.Leaf().NodeID()
	for b.Loop() {
		if _, err := r.AdmitNode(id, hello); err != nil {
			b.Fatal(err)
		}
	}
}
