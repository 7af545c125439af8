package roster

import (
	"errors"
	"fmt"
	"log/slog"
	"testing"
	"time"

	"outrider/mesh/identity"
)

func (n *network) config(key identity.PrivateKey, sequence uint64, scope, body string) identity.SignedConfig {
	n.t.Helper()
	c, err := identity.SignedConfig{
		Scope: scope, Sequence: sequence, Handout: identity.Pushed, NotBefore: epoch.Add(time.Hour), Body: []byte(body),
	}.Sign(n.root.ID(), key)
	return ok(n.t, c, err)
}

func take(t *testing.T, r *Roster, o Object) Verdict {
	t.Helper()
	payload := ok(t, must(r.Seal(o)), nil)
	v := r.Judge(payload)
	if v.Code == Accept {
		if err := r.Apply(payload); err != nil {
			t.Fatal(err)
		}
	}
	return v
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

// TestP05PushedConfig: accepted from an admin, at any number a day; the higher
// number wins where two would take one place.
func TestP05PushedConfig(t *testing.T) {
	n := newNetwork(t, "eagle")
	r := n.roster()
	for i := range 20 {
		if v := take(t, r, Config(n.config(n.admin, uint64(i+1), "convoy", fmt.Sprint(i)))); v.Code != Accept || v.Kind != KindConfig {
			t.Fatalf("version %d: %+v", i+1, v)
		}
	}
	list := r.Configs()
	if len(list) == 0 || len(list) > configSlots || list[len(list)-1].Config.Sequence != 20 || list[0].Chain.Leaf().Class != identity.ClassAdmin {
		t.Fatalf("%d are kept", len(list))
	}
	same := Config(n.config(n.admin, 20, "convoy", "19"))
	if v := take(t, r, same); v.Code != Accept {
		t.Errorf("the same again: %+v", v)
	}
	// What one slot holds now is what it holds at a node that heard them in
	// another order.
	other := n.roster()
	for i := 19; i >= 0; i-- {
		take(t, other, Config(n.config(n.admin, uint64(i+1), "convoy", fmt.Sprint(i))))
	}
	if a, b := fmt.Sprint(r.Configs()), fmt.Sprint(other.Configs()); a != b {
		t.Errorf("the order matters:\n%s\n%s", a, b)
	}
}

func TestP05PushedConfigRefused(t *testing.T) {
	n := newNetwork(t, "eagle")
	r := n.roster()
	weak := seeded("weak admin")
	weakCert := n.makeAdmin(weak, identity.RoleIssue)
	if v := take(t, r, Certificate(identity.Chain{weakCert})); v.Code != Accept {
		t.Fatal(v.Err)
	}
	handed, err := identity.SignedConfig{Scope: "convoy", Sequence: 1, Handout: identity.HandedOut, NotBefore: epoch, Expires: epoch.AddDate(0, 0, 1), Body: []byte{0xa0}}.Sign(n.root.ID(), n.admin)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := r.Seal(Config(handed)); !errors.Is(err, ErrForged) {
		t.Errorf("a link passes for a push: %v", err)
	}
	if v := take(t, r, Config(n.config(weak, 1, "convoy", "x"))); v.Code != Forged || !errors.Is(v.Err, identity.ErrRole) {
		t.Errorf("by an admin without the role: %+v", v)
	}
	raven := newNetwork(t, "raven")
	if v := take(t, r, Config(raven.config(n.admin, 1, "convoy", "x"))); v.Code != Forged {
		t.Errorf("signed for another network: %+v", v)
	}
	if v := take(t, r, Config(n.config(seeded("stranger"), 1, "convoy", "x"))); v.Code != Later {
		t.Errorf("by somebody unknown: %+v", v)
	}
	good := Config(n.config(n.admin, 1, "convoy", "x"))
	good.Body[len(good.Body)-1] ^= 1
	if v := take(t, r, good); v.Code != Forged {
		t.Errorf("altered: %+v", v)
	}

	// A revoked admin's configs count no more, and new ones are refused.
	second := seeded("second admin")
	take(t, r, Certificate(identity.Chain{n.makeAdmin(second, identity.RoleAdmin)}))
	if v := take(t, r, Config(n.config(second, 1, "scouts", "x"))); v.Code != Accept || len(r.Configs()) != 1 {
		t.Fatalf("by the second admin: %+v", v)
	}
	take(t, r, must(r.Revoke(n.admin, epoch, second.Public())))
	if len(r.Configs()) != 0 {
		t.Error("a revoked admin's config counts")
	}
	if _, revoked := r.AdminChain(second.Public().ID()); !revoked {
		t.Error("the admin does not count as revoked")
	}
	if v := take(t, r, Config(n.config(second, 2, "scouts", "x"))); v.Code != Superseded || !errors.Is(v.Err, ErrRevoked) {
		t.Errorf("by a revoked admin: %+v", v)
	}
}

// One past the limit of scopes of one admin.
func TestA14ScopesAreBounded(t *testing.T) {
	n := newNetwork(t, "eagle")
	r := n.roster()
	for i := range maxScopes {
		if v := take(t, r, Config(n.config(n.admin, 1, fmt.Sprint("g", i), "x"))); v.Code != Accept {
			t.Fatalf("scope %d: %+v", i, v)
		}
	}
	if v := take(t, r, Config(n.config(n.admin, 1, "one-more", "x"))); v.Code != Superseded {
		t.Errorf("one more: %+v", v)
	}
	if v := take(t, r, Config(n.config(n.admin, 2, "g7", "x"))); v.Code != Accept {
		t.Errorf("another version of one there is: %+v", v)
	}
}

// A config that comes before its admin's certificate waits, as everything does.
func TestP05ConfigBeforeItsAdmin(t *testing.T) {
	n := newNetwork(t, "eagle")
	r := New(n.root, []identity.NetworkSecret{n.secret}, n.clock, slog.New(slog.DiscardHandler))
	payload := must(r.Seal(Config(n.config(n.admin, 3, "convoy", "x"))))
	if v := r.Judge(payload); v.Code != Later {
		t.Errorf("judged %+v", v)
	}
	if err := r.Apply(payload); err != nil || len(r.Configs()) != 0 {
		t.Fatalf("%v, %d", err, len(r.Configs()))
	}
	if err := r.Apply(must(r.Seal(Certificate(identity.Chain{n.aCert})))); err != nil || len(r.Configs()) != 1 {
		t.Errorf("%v, %d", err, len(r.Configs()))
	}
}
