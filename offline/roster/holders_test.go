package roster

import (
	"slices"
	"testing"

	"outrider/mesh/identity"
)

// A name is held by who bears it and by whoever can still redeem a link for
// it; nobody holds it once the link has ended.
func TestHolders(t *testing.T) {
	n := newNetwork(t, "eagle")
	r := n.roster()
	alice := n.person("alice")
	k := n.ticket("bravo", 1)
	want := func(name string, ids ...identity.UserID) {
		t.Helper()
		if got := r.Holders(name); !slices.Equal(got, ids) {
			t.Errorf("%s is held by %v, want %v", name, got, ids)
		}
	}
	want("Alice")
	if r.Met(alice.id) || r.Met(uid("bravo")) {
		t.Error("somebody was met before anything has arrived")
	}
	n.accept(r, n.objects(alice, "Álice")...)
	want("áLICE", alice.id)
	n.accept(r, n.profile(uid("bravo"), "Bravo", 1, n.admin))
	if r.Met(uid("bravo")) {
		t.Error("a name alone is a meeting")
	}
	n.accept(r, Certificate(k.chain))
	want("bravo", uid("bravo"))
	if !r.Met(alice.id) || !r.Met(uid("bravo")) {
		t.Error("who was met is not known")
	}
	again := n.ticket("bravo", 2)
	n.accept(r, Certificate(again.chain))
	want("bravo", uid("bravo")) // once, however many links
	n.clock.set(k.chain.Leaf().NotAfter.AddDate(0, 0, 1), true)
	want("bravo")
	want("álice", alice.id)
}

func TestNameIn(t *testing.T) {
	n := newNetwork(t, "eagle")
	r := n.roster()
	payload := ok2(t)(r.Seal(n.profile(uid("bravo"), "Bravo", 1, n.admin)))
	if id, name, found := r.NameIn(payload); !found || id != uid("bravo") || name != "Bravo" {
		t.Errorf("%v %q %v", id, name, found)
	}
	payload[len(payload)-1] ^= 1
	for _, bad := range [][]byte{nil, payload, payload[:10], ok2(t)(r.Seal(Certificate(n.ticket("bravo", 1).chain)))} {
		if _, name, found := r.NameIn(bad); found {
			t.Errorf("%d bytes give the name %q", len(bad), name)
		}
	}
}
