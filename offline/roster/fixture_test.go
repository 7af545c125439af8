package roster

import (
	"crypto/sha256"
	"errors"
	"log/slog"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"outrider/mesh/identity"
)

var epoch = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

func seeded(word string) identity.PrivateKey {
	return identity.PrivateKeyFromSeed(sha256.Sum256([]byte(word)))
}

func uid(word string) identity.UserID {
	h := sha256.Sum256([]byte("uid " + word))
	return identity.UserID(h[:])
}

type fixedClock struct {
	mu      sync.Mutex
	now     time.Time
	trusted bool
}

func (c *fixedClock) Now() time.Time { c.mu.Lock(); defer c.mu.Unlock(); return c.now }
func (c *fixedClock) Trusted() bool  { c.mu.Lock(); defer c.mu.Unlock(); return c.trusted }
func (c *fixedClock) set(t time.Time, trusted bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now, c.trusted = t, trusted
}

// A network is a root, one admin, and the means to issue.
type network struct {
	t      testing.TB
	root   *identity.RootRecord
	key    identity.RootKey
	admin  identity.PrivateKey
	aCert  identity.Certificate
	secret identity.NetworkSecret
	clock  *fixedClock
}

var roots sync.Map

func newNetwork(t testing.TB, name string) *network {
	t.Helper()
	type pair struct {
		root *identity.RootRecord
		key  identity.RootKey
	}
	p, ok := roots.Load(name)
	if !ok {
		root, key, err := identity.CreateRoot(name, identity.PresetStandard, epoch)
		if err != nil {
			t.Fatal(err)
		}
		p, _ = roots.LoadOrStore(name, pair{root, key})
	}
	n := &network{
		t: t, root: p.(pair).root, key: p.(pair).key, admin: seeded(name + " admin"),
		secret: identity.NetworkSecret{Generation: 1, Secret: sha256.Sum256([]byte(name))},
		clock:  &fixedClock{now: epoch.AddDate(0, 0, 1), trusted: true},
	}
	n.aCert = n.makeAdmin(n.admin, identity.RoleAdmin)
	return n
}

func (n *network) makeAdmin(key identity.PrivateKey, roles identity.Role) identity.Certificate {
	n.t.Helper()
	c, err := n.key.IssueAdmin(n.root.ID(), identity.Certificate{Key: key.Public(), Roles: roles, Generation: 1, NotBefore: epoch, NotAfter: epoch.AddDate(2, 0, 0)})
	return ok(n.t, c, err)
}

func ok[T any](t testing.TB, v T, err error) T {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// roster returns an empty roster that has met the admin, as every node has
// through its own certificate.
func (n *network) roster() *Roster {
	n.t.Helper()
	r := New(n.root, []identity.NetworkSecret{n.secret}, n.clock, slog.New(slog.DiscardHandler))
	if err := r.SetOwn(n.node(seeded("own node"), nil)); err != nil {
		n.t.Fatal(err)
	}
	return r
}

func (n *network) issue(signer identity.PrivateKey, c identity.Certificate) identity.Certificate {
	n.t.Helper()
	if c.NotAfter.IsZero() {
		c.NotBefore, c.NotAfter = epoch, epoch.AddDate(1, 0, 0)
	}
	if c.Generation == 0 {
		c.Generation = 1
	}
	c, err := identity.Issue(n.root.ID(), signer, c)
	return ok(n.t, c, err)
}

func (n *network) node(key identity.PrivateKey, subject []byte) identity.Chain {
	n.t.Helper()
	return identity.Chain{n.issue(n.admin, identity.Certificate{Class: identity.ClassNode, Subject: subject, Key: key.Public()}), n.aCert}
}

// A person is a user with one device and everything it publishes.
type person struct {
	id           identity.UserID
	user, device identity.PrivateKey
	chain        identity.Chain // the user's
	devChain     identity.Chain
}

func (n *network) person(name string) person {
	n.t.Helper()
	p := person{id: uid(name), user: seeded(name + " user"), device: seeded(name + " device")}
	c := n.issue(n.admin, identity.Certificate{Class: identity.ClassUser, Subject: p.id[:], Key: p.user.Public()})
	p.chain = identity.Chain{c, n.aCert}
	p.devChain = n.deviceOf(p, p.device)
	return p
}

func (n *network) deviceOf(p person, key identity.PrivateKey) identity.Chain {
	n.t.Helper()
	leaf := p.chain.Leaf()
	c, err := identity.IssueDevice(n.root.ID(), p.user, key, identity.Certificate{Subject: p.id[:], Generation: 1, NotBefore: leaf.NotBefore, NotAfter: leaf.NotAfter})
	return append(identity.Chain{ok(n.t, c, err)}, p.chain...)
}

func (n *network) prekey(device identity.PrivateKey, number uint32) Object {
	n.t.Helper()
	from := epoch.AddDate(0, 0, int(number))
	to := from.AddDate(0, 0, 7)
	if number == 0 {
		to = from.AddDate(1, 0, 0) // the last resort lasts as long as the device
	}
	p, err := identity.PrekeyBundle{Number: number, NotBefore: from, NotAfter: to, KEM: 0x647a, Public: make([]byte, 1216)}.Sign(n.root.ID(), device)
	return Prekey(ok(n.t, p, err))
}

func (n *network) profile(user identity.UserID, name string, number uint64, signer identity.PrivateKey) Object {
	n.t.Helper()
	o, err := Profile(n.root.ID(), user, name, number, signer)
	return ok(n.t, o, err)
}

// objects is all that a person publishes.
func (n *network) objects(p person, name string) []Object {
	n.t.Helper()
	return []Object{
		Certificate(p.chain), Certificate(p.devChain), n.profile(p.id, name, 1, p.device),
		n.prekey(p.device, 0), n.prekey(p.device, 1),
	}
}

// A ticket is a delegate and its key.
type ticket struct {
	key   identity.PrivateKey
	chain identity.Chain
}

func (n *network) ticket(user string, generation uint32) ticket {
	n.t.Helper()
	id := uid(user)
	k := seeded(user + " delegate " + string(rune('0'+generation)))
	c := n.issue(n.admin, identity.Certificate{
		Class: identity.ClassDelegate, Subject: id[:], Key: k.Public(), Roles: identity.RoleUser | identity.RoleNode,
		Generation: generation, NotBefore: epoch, NotAfter: epoch.AddDate(0, 0, 37),
	})
	return ticket{k, identity.Chain{c, n.aCert}}
}

// redeem makes a provisional user with a device, and a node.
func (n *network) redeem(k ticket, who string) (p person, node identity.Chain) {
	n.t.Helper()
	d := k.chain.Leaf()
	c := identity.Certificate{Subject: d.Subject, Generation: d.Generation, NotBefore: d.NotBefore, NotAfter: d.NotAfter}
	p = person{id: identity.UserID(d.Subject), user: seeded(who + " user"), device: seeded(who + " device")}
	c.Class, c.Key = identity.ClassUser, p.user.Public()
	p.chain = append(identity.Chain{n.issue(k.key, c)}, k.chain...)
	p.devChain = n.deviceOf(p, p.device)
	c.Class, c.Key = identity.ClassNode, seeded(who+" node").Public()
	return p, append(identity.Chain{n.issue(k.key, c)}, k.chain...)
}

// give judges an object and applies it if it is accepted.
func (n *network) give(r *Roster, o Object) Verdict {
	n.t.Helper()
	payload := ok2(n.t)(r.Seal(o))
	v := r.Judge(payload)
	if v.Code == Accept {
		if err := r.Apply(payload); err != nil {
			n.t.Fatal(err)
		}
	}
	return v
}

func ok2(t testing.TB) func([]byte, error) []byte {
	return func(b []byte, err error) []byte {
		t.Helper()
		return ok(t, b, err)
	}
}

// accept gives objects that must be accepted.
func (n *network) accept(r *Roster, objects ...Object) {
	n.t.Helper()
	for _, o := range objects {
		if v := n.give(r, o); v.Code != Accept {
			n.t.Fatalf("kind %d: %v", o.Kind, v.Err)
		}
	}
}

// refuse gives an object that must get a code, and an error if one is named.
func (n *network) refuse(r *Roster, o Object, code Code, want error) {
	n.t.Helper()
	v := n.give(r, o)
	if v.Code != code || want != nil && !errors.Is(v.Err, want) {
		n.t.Errorf("kind %d: code %d, %v; want %d, %v", o.Kind, v.Code, v.Err, code, want)
	}
}

func shuffled[T any](seed uint64, s []T) []T {
	out := append([]T(nil), s...)
	rand.New(rand.NewPCG(seed, 0)).Shuffle(len(out), func(i, j int) { out[i], out[j] = out[j], out[i] })
	return out
}
