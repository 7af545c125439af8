package roster

import (
	"errors"
	"log/slog"
	"testing"

	"outrider/mesh/identity"
)

// TestAdmission: decisions.md 11. The peer was never heard of, the admin is
// off; the chain is enough.
func TestAdmission(t *testing.T) {
	n, other := newNetwork(t, "eagle"), newNetwork(t, "falcon")
	r := n.roster()
	k := n.ticket("carol", 1)
	carol, prov := n.redeem(k, "carol")
	relay := n.node(seeded("relay"), nil)
	for name, c := range map[string]identity.Chain{"node": relay, "provisional": prov} {
		until, err := r.AdmitNode(c.Leaf().NodeID(), c.Marshal())
		if err != nil || !until.Equal(c.Until()) {
			t.Errorf("%s: until %v, %v", name, until, err)
		}
	}
	foreign := other.node(seeded("relay"), nil)
	id := relay.Leaf().NodeID()
	bad := relay.Marshal()
	bad[len(bad)-1] ^= 1
	for name, c := range map[string]struct {
		peer  identity.NodeID
		hello []byte
		want  error
	}{
		"foreign network":       {id, foreign.Marshal(), identity.ErrForeign},
		"somebody else's hello": {seeded("thief").Public().NodeID(), relay.Marshal(), identity.ErrRole},
		"user":                  {carol.user.Public().NodeID(), carol.chain.Marshal(), identity.ErrRole},
		"delegate":              {k.key.Public().NodeID(), k.chain.Marshal(), identity.ErrRole},
		"admin":                 {n.admin.Public().NodeID(), identity.Chain{n.aCert}.Marshal(), identity.ErrRole},
		"nothing":               {id, nil, identity.ErrMalformed},
		"too much":              {id, make([]byte, 5000), identity.ErrMalformed},
		"signature":             {id, bad, identity.ErrSignature},
	} {
		if until, err := r.AdmitNode(c.peer, c.hello); !errors.Is(err, c.want) || !until.IsZero() {
			t.Errorf("%s: %v", name, err)
		}
	}
	n.clock.set(prov.Until(), true)
	if _, err := r.AdmitNode(prov.Leaf().NodeID(), prov.Marshal()); !errors.Is(err, identity.ErrExpired) {
		t.Errorf("30 days after the ticket: %v", err)
	}
	n.clock.set(prov.Until(), false)
	if until, err := r.AdmitNode(prov.Leaf().NodeID(), prov.Marshal()); err != nil || !until.Equal(prov.Until().Add(identity.Grace)) {
		t.Errorf("with a clock that is not trusted: %v %v", until, err)
	}
}

// TestHello: a node shows its provisional chain until the admin's arrives.
func TestHello(t *testing.T) {
	n := newNetwork(t, "eagle")
	r := New(n.root, []identity.NetworkSecret{n.secret}, n.clock, slog.New(slog.DiscardHandler))
	if r.Hello() != nil {
		t.Error("a hello from nobody")
	}
	k := n.ticket("carol", 1)
	carol, prov := n.redeem(k, "carol")
	if err := r.SetOwn(carol.chain); !errors.Is(err, identity.ErrRole) {
		t.Errorf("a user as node: %v", err)
	}
	if err := r.SetOwn(newNetwork(t, "falcon").node(seeded("x"), nil)); !errors.Is(err, identity.ErrForeign) {
		t.Errorf("a foreigner: %v", err)
	}
	if err := r.SetOwn(prov); err != nil {
		t.Fatal(err)
	}
	if string(r.Hello()) != string(prov.Marshal()) {
		t.Error("hello is not our chain")
	}
	final := n.node(seeded("carol node"), prov.Leaf().Subject)
	n.accept(r, Certificate(final))
	if string(r.Hello()) != string(final.Marshal()) {
		t.Error("hello is still provisional")
	}
}

// TestTwoRedemptions: decisions.md 11 and crypto.md 3.4.
func TestTwoRedemptions(t *testing.T) {
	n := newNetwork(t, "eagle")
	r := n.roster()
	k := n.ticket("carol", 1)
	carol, carolNode := n.redeem(k, "carol")
	thief, thiefNode := n.redeem(k, "thief")
	third, thirdNode := n.redeem(k, "third")
	n.accept(r, n.objects(carol, "Carol")...)
	if u, _ := r.User(carol.id); !u.Provisional || u.Frozen || u.Name != "Carol" {
		t.Errorf("one redemption: %+v", u)
	}
	n.accept(r, Certificate(thief.chain))
	u, _ := r.User(carol.id)
	if !u.Frozen || len(r.Conflicts(carol.id)) != 2 || len(r.Devices(carol.id)) != 1 {
		t.Errorf("two redemptions: %+v, %d conflicts", u, len(r.Conflicts(carol.id)))
	}
	n.refuse(r, Certificate(third.chain), Superseded, ErrSuperseded)
	for _, c := range []identity.Chain{carolNode, thiefNode, thirdNode} { // all relay on
		if _, err := r.AdmitNode(c.Leaf().NodeID(), c.Marshal()); err != nil {
			t.Error(err)
		}
	}

	// The admin decides for carol; her node first, so that she is never out.
	finalNode := n.node(seeded("carol node"), carolNode.Leaf().Subject)
	n.accept(r, Certificate(finalNode))
	final := n.issue(n.admin, identity.Certificate{Class: identity.ClassUser, Subject: carol.id[:], Key: carol.user.Public()})
	n.accept(r, Certificate(identity.Chain{final, n.aCert}))
	u, _ = r.User(carol.id)
	if u.Frozen || u.Provisional || u.Key != carol.user.Public() || u.Name != "Carol" || r.Conflicts(carol.id) != nil {
		t.Errorf("after the decision: %+v", u)
	}
	if d := r.Devices(carol.id); len(d) != 1 || d[0].Chain.Provisional() {
		t.Error("carol's device is not on the final chain")
	}
	if _, err := r.AdmitNode(carolNode.Leaf().NodeID(), carolNode.Marshal()); err != nil {
		t.Errorf("carol's node, which does not know yet that it is confirmed: %v", err)
	}
	if _, err := r.AdmitNode(thiefNode.Leaf().NodeID(), thiefNode.Marshal()); !errors.Is(err, ErrClosed) {
		t.Errorf("the thief's node: %v", err)
	}
	late, lateNode := n.redeem(k, "late")
	n.refuse(r, Certificate(late.chain), Superseded, ErrClosed)
	n.refuse(r, Certificate(lateNode), Superseded, ErrClosed)
	n.refuse(r, Certificate(thief.devChain), Superseded, ErrClosed)
	if u, _ = r.User(carol.id); u.Frozen {
		t.Error("a late redemption froze the user")
	}

	// Re-enrolment: a ticket of the next generation is open.
	next, _ := n.redeem(n.ticket("carol", 2), "carol again")
	n.accept(r, Certificate(next.chain))
	if u, _ = r.User(carol.id); u.Generation != 2 || !u.Provisional || u.Frozen {
		t.Errorf("the next generation: %+v", u)
	}
}

// TestRevokingOneThaws: revoking the thief's key is a decision too.
func TestRevokingOneThaws(t *testing.T) {
	n := newNetwork(t, "eagle")
	r := n.roster()
	k := n.ticket("carol", 1)
	carol, _ := n.redeem(k, "carol")
	thief, _ := n.redeem(k, "thief")
	n.accept(r, n.objects(carol, "Carol")...)
	n.accept(r, n.objects(thief, "also Carol")...)
	if u, _ := r.User(carol.id); !u.Frozen || len(r.Devices(carol.id)) != 2 {
		t.Errorf("%+v", u)
	}
	n.accept(r, n.revoke(r, n.admin, thief.user.Public()))
	if u, _ := r.User(carol.id); u.Frozen || u.Key != carol.user.Public() || u.Name != "Carol" || len(r.Devices(carol.id)) != 1 {
		t.Errorf("%+v", u)
	}
}

func TestNodes(t *testing.T) {
	n := newNetwork(t, "eagle")
	r := n.roster()
	_, prov := n.redeem(n.ticket("carol", 1), "carol")
	n.accept(r, Certificate(prov), Certificate(n.node(seeded("relay"), nil)))
	nodes := r.Nodes()
	if len(nodes) != 2 || nodes[0].Provisional == nodes[1].Provisional {
		t.Fatalf("%+v", nodes)
	}
	n.accept(r, n.revoke(r, n.admin, seeded("relay").Public()))
	if nodes = r.Nodes(); len(nodes) != 1 || !nodes[0].Provisional || nodes[0].ID != prov.Leaf().NodeID() {
		t.Errorf("%+v", nodes)
	}
}
