package roster

import (
	"bytes"
	"errors"
	"fmt"
	"testing"
	"time"

	"outrider/mesh/identity"
)

// generation makes a vouched secret of the network.
func (n *network) generation(number uint32, word byte, after uint64) Generation {
	n.t.Helper()
	s := identity.NetworkSecret{Generation: number, Secret: [32]byte{word}}
	v, err := s.Vouch(n.root.ID(), n.admin, after, epoch.AddDate(0, 0, 1))
	return Generation{Secret: s, Voucher: ok(n.t, v, err).Raw(), Admin: n.aCert.Raw()}
}

// handOver gives b what it lacks of a's secrets.
func handOver(t *testing.T, a, b *Roster) []Generation {
	t.Helper()
	given, err := a.GiveSecrets(b.HeldSecrets())
	if err != nil {
		t.Fatal(err)
	}
	news, err := b.ReadSecrets(given)
	if err != nil {
		t.Fatal(err)
	}
	for _, g := range news {
		b.AddGeneration(g)
	}
	return news
}

func TestHandOver(t *testing.T) {
	n := newNetwork(t, "eagle")
	a, b := n.roster(), n.roster() // both have generation 1, as from a join link
	if got := handOver(t, a, b); len(got) != 0 {
		t.Fatalf("a secret that nobody vouches for was handed over: %v", got)
	}
	first := Generation{Secret: n.secret}
	v, err := n.secret.Vouch(n.root.ID(), n.admin, 0, epoch)
	first.Voucher, first.Admin = ok(t, v, err).Raw(), n.aCert.Raw()
	a.AddGeneration(first)
	a.AddGeneration(n.generation(2, 2, 0))
	if got := handOver(t, a, b); len(got) != 2 {
		t.Fatalf("%d generations handed over, want the first with its voucher and the second", len(got))
	}
	if got := handOver(t, a, b); len(got) != 0 {
		t.Errorf("handed over again: %v", got)
	}
	if !bytes.Equal(a.HeldSecrets(), b.HeldSecrets()) || b.Secrets()[0].Generation != 2 {
		t.Error("the two do not hold the same")
	}
	c := n.roster()
	if got := handOver(t, b, c); len(got) != 2 {
		t.Errorf("the second does not hand on: %v", got)
	}
}

// A generation that follows a revocation is kept back by whoever has not heard
// the revocation: the one who asks might be the revoked.
func TestHandOverWaitsForTheRevocation(t *testing.T) {
	n := newNetwork(t, "eagle")
	admin, giver, taker := n.roster(), n.roster(), n.roster()
	lost := n.node(seeded("lost node"), nil)
	o, err := admin.Revoke(n.admin, epoch.AddDate(0, 0, 1), lost.Leaf().Key)
	if err != nil {
		t.Fatal(err)
	}
	giver.AddGeneration(n.generation(2, 2, o.Number))
	if got := handOver(t, giver, taker); len(got) != 0 {
		t.Fatalf("handed over before the revocation is known: %v", got)
	}
	n.give(giver, ok(t, o, nil))
	if got := handOver(t, giver, taker); len(got) != 1 {
		t.Errorf("not handed over after it: %v", got)
	}
	if bytes.Equal(giver.Heads(), taker.Heads()) || len(giver.Heads()) != 16 || taker.Heads() != nil {
		t.Errorf("heads %x and %x", giver.Heads(), taker.Heads())
	}
}

// Two secrets of one number: all end with the same one, whatever they meet
// first.
func TestTwoSecretsOfOneGeneration(t *testing.T) {
	n := newNetwork(t, "eagle")
	a, b := n.roster(), n.roster()
	a.AddGeneration(n.generation(2, 2, 0))
	b.AddGeneration(n.generation(2, 3, 0))
	handOver(t, a, b)
	handOver(t, b, a)
	if a.Secrets()[0].Hash() != b.Secrets()[0].Hash() {
		t.Error("they keep different ones")
	}
}

func TestReadSecretsRefuses(t *testing.T) {
	n, other := newNetwork(t, "eagle"), newNetwork(t, "falcon")
	good := n.generation(2, 2, 0)
	wire := func(secret, voucher, admin []byte) []byte {
		return mustMarshal([]givenWire{{Secret: secret, Voucher: voucher, Admin: admin}})
	}
	strange := other.generation(2, 2, 0)
	user := n.person("user").chain.Leaf()
	many := make([]givenWire, maxSecrets+1)
	for i := range many {
		many[i] = givenWire{Secret: good.Secret.Secret[:], Voucher: []byte{1}, Admin: []byte{1}}
	}
	for name, c := range map[string]struct {
		given []byte
		want  error
	}{
		"another secret":   {wire(make([]byte, 32), good.Voucher, good.Admin), identity.ErrSignature},
		"a short secret":   {wire(good.Secret.Secret[:31], good.Voucher, good.Admin), identity.ErrMalformed},
		"another network":  {wire(strange.Secret.Secret[:], strange.Voucher, strange.Admin), identity.ErrRole},
		"no admin":         {wire(good.Secret.Secret[:], good.Voucher, user.Raw()), identity.ErrRole},
		"no voucher":       {wire(good.Secret.Secret[:], nil, good.Admin), identity.ErrMalformed},
		"too many":         {mustMarshal(many), identity.ErrMalformed},
		"too long":         {make([]byte, maxHandover+1), identity.ErrMalformed},
		"not CBOR":         {[]byte{0xff}, identity.ErrMalformed},
		"nothing at all":   {nil, identity.ErrMalformed},
		"an empty element": {[]byte{0x81, 0x80}, identity.ErrMalformed},
	} {
		t.Run(name, func(t *testing.T) {
			r := n.roster()
			if news, err := r.ReadSecrets(c.given); !errors.Is(err, c.want) || news != nil {
				t.Errorf("%d taken, %v, want %v", len(news), err, c.want)
			}
			if len(r.Secrets()) != 1 {
				t.Error("something was kept")
			}
		})
	}
	r := n.roster()
	o, err := r.Revoke(n.admin, epoch, n.aCert.Key)
	n.give(r, ok(t, o, err))
	if _, err := r.ReadSecrets(wire(good.Secret.Secret[:], good.Voucher, good.Admin)); !errors.Is(err, ErrRevoked) {
		t.Errorf("a revoked admin's voucher: %v", err)
	}
	for i, held := range [][]byte{nil, {0xff}, make([]byte, maxHandover+1), mustMarshal([]heldWire{{Generation: 1, Hash: []byte{1}}})} {
		if _, err := r.GiveSecrets(held); !errors.Is(err, identity.ErrMalformed) {
			t.Errorf("held %d: %v", i, err)
		}
	}
}

// As many generations are kept as a hand-over can carry, and no more.
func TestManyGenerations(t *testing.T) {
	n := newNetwork(t, "eagle")
	a, b := n.roster(), n.roster()
	for i := uint32(2); i < 2*maxSecrets; i++ {
		a.AddGeneration(n.generation(i, byte(i), 0))
	}
	if got := len(a.Secrets()); got != maxSecrets {
		t.Fatalf("%d generations kept", got)
	}
	given, err := a.GiveSecrets(b.HeldSecrets())
	if err != nil || len(given) > maxHandover {
		t.Fatalf("%d bytes to hand over, %v", len(given), err)
	}
	if got := handOver(t, a, b); len(got) != maxSecrets || b.Secrets()[0].Generation != 2*maxSecrets-1 {
		t.Errorf("%d handed over", len(got))
	}
	old := n.generation(1, 9, 0)
	if news, err := a.ReadSecrets(mustMarshal([]givenWire{{Secret: old.Secret.Secret[:], Voucher: old.Voucher, Admin: old.Admin}})); err != nil || len(news) != 0 {
		t.Errorf("one older than all that are kept is taken: %d, %v", len(news), err)
	}
}

func FuzzHandOver(f *testing.F) {
	n := newNetwork(f, "eagle")
	a := n.roster()
	a.AddGeneration(n.generation(2, 2, 0))
	given, err := a.GiveSecrets(mustMarshal([]heldWire{}))
	if err != nil {
		f.Fatal(err)
	}
	r := n.roster() // reading and giving change nothing
	f.Add(given)
	f.Add(a.HeldSecrets())
	f.Fuzz(func(t *testing.T, raw []byte) {
		if news, err := r.ReadSecrets(raw); err == nil {
			for _, g := range news {
				if g.Secret.Generation != 2 || !g.vouched() {
					t.Fatalf("taken: %v", g.Secret)
				}
			}
		} else if !errors.Is(err, identity.ErrMalformed) && !errors.Is(err, identity.ErrSignature) && !errors.Is(err, identity.ErrRole) {
			t.Fatalf("%v is of no class", err)
		}
		if given, err := r.GiveSecrets(raw); err == nil && len(given) > maxHandover {
			t.Fatalf("%d bytes given", len(given))
		}
	})
}

func TestEnrolments(t *testing.T) {
	n := newNetwork(t, "eagle")
	r := n.roster()
	k := n.ticket("bravo", 1)
	n.give(r, Certificate(k.chain))
	n.give(r, n.profile(uid("bravo"), "Bravo", 1, n.admin))
	state := func(want string) Enrolment {
		t.Helper()
		list := r.Enrolments()
		got := "none"
		var e Enrolment
		if len(list) == 1 {
			e = list[0]
			got = fmt.Sprintf("%s %d %d", e.Name, len(e.Users), len(e.Nodes))
		}
		if got != want || len(list) > 1 {
			t.Fatalf("%d enrolments, %s, want %s", len(list), got, want)
		}
		return e
	}
	state("Bravo 0 0")
	if got := r.Invited(); len(got) != 1 || got[0].ID != uid("bravo") || got[0].Name != "Bravo" {
		t.Errorf("invited: %+v", got)
	}
	if name, known := r.Heard(uid("bravo")); name != "Bravo" || !known {
		t.Errorf("heard of the invited: %q, %v", name, known)
	}
	if name, known := r.Heard(uid("mallory")); name != "" || known {
		t.Errorf("heard of nobody: %q, %v", name, known)
	}
	p, node := n.redeem(k, "bravo one")
	q, node2 := n.redeem(k, "bravo two")
	for _, c := range []identity.Chain{p.chain, p.devChain, node} {
		n.give(r, Certificate(c))
	}
	state("Bravo 1 1")
	if got := r.Invited(); len(got) != 0 {
		t.Errorf("who has come is still invited: %+v", got)
	}
	n.give(r, Certificate(q.chain))
	n.give(r, Certificate(node2))
	state("Bravo 2 2")
	keys := r.UserKeys(p.id)
	if len(keys.Own) != 2 || len(keys.Tickets) != 1 || len(r.NodeKeys(node.Leaf().NodeID()).Tickets) != 1 {
		t.Errorf("to revoke: %d keys, %d tickets", len(keys.Own), len(keys.Tickets))
	}
	if ids, err := r.FindUser("bravo"); err != nil || len(ids) != 1 || ids[0] != p.id {
		t.Errorf("found %v, %v", ids, err)
	}
	final := n.issue(n.admin, identity.Certificate{Class: identity.ClassUser, Subject: p.id[:], Key: p.user.Public()})
	n.give(r, Certificate(identity.Chain{final, n.aCert}))
	state("Bravo 0 2") // the nodes still wait
	n.give(r, Certificate(n.node(seeded("bravo one node"), p.id[:])))
	if got := r.UserChain(p.id, p.user.Public()); len(got) != 2 {
		t.Errorf("the user's chain has %d certificates", len(got))
	}
	state("none")
	if got := r.UserChain(p.id, q.user.Public()); got != nil {
		t.Errorf("the other redemption still counts")
	}
	if got := r.Ending(epoch.AddDate(2, 0, 0)); len(got) != 2 {
		t.Errorf("%d certificates end within two years", len(got))
	}
	if got := r.Ending(epoch.Add(time.Hour)); len(got) != 0 {
		t.Errorf("%d certificates end within an hour", len(got))
	}
}
