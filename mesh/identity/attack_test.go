package identity

import (
	"errors"
	"testing"
	"time"
)

// An attack is a chain that somebody with real keys of the network made, and
// the class of failure it must meet.
type attack struct {
	name   string
	chain  Chain
	expect string
}

// forge signs a certificate without asking whether that is allowed.
func forge(t testing.TB, id NetworkID, issuer PrivateKey, c Certificate) Certificate {
	t.Helper()
	if c.NotBefore.IsZero() {
		c.NotBefore, c.NotAfter = epoch, epoch.AddDate(0, 0, 5)
	}
	if c.Generation == 0 {
		c.Generation = 1
	}
	return must2[Certificate](t)(Issue(id, issuer, c))
}

func attacks(t testing.TB, n *network) []attack {
	id := n.root.ID()
	user := func(signer PrivateKey, c Certificate) Certificate {
		c.Class = ClassUser
		return forge(t, id, signer, c)
	}
	mallory := seeded("mallory")
	newcomer := Certificate{Subject: subject("newcomer"), Key: mallory.Public()}
	with := func(c Certificate, change func(*Certificate)) Certificate {
		change(&c)
		return c
	}
	revokeOnly := must2[Certificate](t)(n.key.IssueAdmin(id, Certificate{Key: mallory.Public(), Roles: RoleRevoke, Generation: 1, NotBefore: epoch, NotAfter: epoch.AddDate(0, 1, 0)}))
	nodeOnlyKey := seeded("node only")
	nodeOnly := forge(t, id, n.adminKey, Certificate{Class: ClassDelegate, Subject: subject("ticket"), Key: nodeOnlyKey.Public(), Roles: RoleNode})
	userOnlyKey := seeded("user only")
	userOnly := forge(t, id, n.adminKey, Certificate{Class: ClassDelegate, Subject: subject("newcomer"), Key: userOnlyKey.Public(), Roles: RoleUser})
	guestKey := seeded("guest delegate")
	guestOnly := forge(t, id, n.adminKey, Certificate{Class: ClassDelegate, Subject: subject("visitor"), Key: guestKey.Public(), Roles: RoleUser | RoleGuest})
	deviceByAdmin := must2[Certificate](t)(IssueDevice(id, n.adminKey, mallory, Certificate{Subject: subject("user"), Generation: 1, NotBefore: epoch, NotAfter: epoch.AddDate(0, 1, 0)}))
	deviceOfOther := must2[Certificate](t)(IssueDevice(id, n.userKey, mallory, Certificate{Subject: subject("guest"), Generation: 1, NotBefore: epoch, NotAfter: epoch.AddDate(0, 1, 0)}))
	stolen := stolenDevice(t, n)
	return []attack{
		{"device signed by the admin instead of the user", Chain{deviceByAdmin, n.admin}, "role"},
		{"device signed by the admin, user in between", Chain{deviceByAdmin, n.user, n.admin}, "signature"},
		{"device of one user under another's certificate", Chain{deviceOfOther, n.user, n.admin}, "role"},
		{"somebody else's device without its signature", Chain{stolen, n.user, n.admin}, "signature"},
		{"user signed by a user", Chain{user(n.userKey, newcomer), n.user, n.admin}, "role"},
		{"user signed by a device", Chain{user(n.deviceKey, newcomer), n.device, n.user, n.admin}, "role"},
		{"user signed by an admin who may only revoke", Chain{user(mallory, newcomer), revokeOnly}, "role"},
		{"federation by an admin who may only revoke", Chain{forge(t, id, mallory, Certificate{Class: ClassFederation, Subject: subject("x"), Key: mallory.Public()}), revokeOnly}, "role"},
		{"admin signed by an admin", Chain{forge(t, id, n.adminKey, Certificate{Class: ClassAdmin, Key: mallory.Public(), Roles: RoleAdmin}), n.admin}, "role"},
		{"admin signed by an admin, as its own chain's end", Chain{forge(t, id, n.adminKey, Certificate{Class: ClassAdmin, Key: mallory.Public(), Roles: RoleAdmin})}, "foreign"},
		{"user signed by the root", Chain{forge(t, id, n.key.ed, Certificate{Class: ClassUser, Subject: subject("user"), Key: mallory.Public()})}, "role"},
		{"delegate signed by a delegate", Chain{forge(t, id, n.delegateKey, Certificate{Class: ClassDelegate, Subject: subject("newcomer"), Key: mallory.Public(), Roles: RoleUser}), n.delegate, n.admin}, "role"},
		{"delegate for nodes certifies a user", Chain{user(nodeOnlyKey, Certificate{Subject: subject("ticket"), Key: mallory.Public()}), nodeOnly, n.admin}, "role"},
		{"delegate for users certifies a node", Chain{forge(t, id, userOnlyKey, Certificate{Class: ClassNode, Subject: subject("newcomer"), Key: mallory.Public()}), userOnly, n.admin}, "role"},
		{"delegate certifies another user", Chain{user(n.delegateKey, Certificate{Subject: subject("user"), Key: mallory.Public()}), n.delegate, n.admin}, "role"},
		{"delegate adds a role", Chain{user(n.delegateKey, with(newcomer, func(c *Certificate) { c.Roles = RoleModerator })), n.delegate, n.admin}, "role"},
		{"guest's delegate certifies a member", Chain{user(guestKey, Certificate{Subject: subject("visitor"), Key: mallory.Public()}), guestOnly, n.admin}, "role"},
		{"delegate makes a gateway", Chain{forge(t, id, n.delegateKey, Certificate{Class: ClassNode, Subject: subject("newcomer"), Key: mallory.Public(), Roles: RoleGateway}), n.delegate, n.admin}, "role"},
		{"delegate's node without its subject", Chain{forge(t, id, n.delegateKey, Certificate{Class: ClassNode, Key: mallory.Public()}), n.delegate, n.admin}, "role"},
		{"delegate certifies a higher generation", Chain{user(n.delegateKey, with(newcomer, func(c *Certificate) { c.Generation = 2 })), n.delegate, n.admin}, "role"},
		{"delegate certifies beyond its own end", Chain{user(n.delegateKey, with(newcomer, func(c *Certificate) { c.NotBefore, c.NotAfter = epoch, n.delegate.NotAfter.Add(time.Minute) })), n.delegate, n.admin}, "role"},
		{"right names, wrong key", Chain{func() Certificate {
			c := user(mallory, newcomer)
			return reissued(t, c, n.adminKey.Public().ID())
		}(), n.admin}, "signature"},
		{"chain without its admin", Chain{n.device, n.user}, "role"},
		{"chain in the wrong order", Chain{n.admin, n.user}, "role"},
		{"admin twice", Chain{n.user, n.admin, n.admin}, "role"},
	}
}

// stolenDevice is a certificate by which the user claims a device whose key
// it does not have: the possession signature is the user's own.
func stolenDevice(t testing.TB, n *network) Certificate {
	c := Certificate{Class: ClassDevice, Subject: subject("user"), Key: n.provDeviceKey.Public(), Generation: 1, NotBefore: epoch, NotAfter: epoch.AddDate(0, 1, 0)}
	return must2[Certificate](t)(issue(n.root.ID(), n.userKey, c, func(msg []byte) []byte {
		sig := n.userKey.Sign(DomainPossession, msg)
		return sig[:]
	}))
}

// reissued puts another issuer's name on a certificate, leaving the signature.
func reissued(t testing.TB, c Certificate, issuer KeyID) Certificate {
	var b certBody
	split := len(c.raw) - SignatureSize
	if err := Unmarshal(c.raw[:split], &b); err != nil {
		t.Fatal(err)
	}
	b.Issuer = issuer[:]
	body := must2[[]byte](t)(Marshal(b))
	return must2[Certificate](t)(ParseCertificate(append(body, c.raw[split:]...)))
}

func TestAttacks(t *testing.T) {
	n := newNetwork(t, "eagle")
	v := NewVerifier(n.root, 64)
	for _, c := range n.chains { // what is remembered must not help an attacker
		if err := v.Verify(c, noon); err != nil {
			t.Fatal(err)
		}
	}
	for _, a := range attacks(t, n) {
		for range 2 {
			if err := a.chain.Verify(n.root, noon); !errors.Is(err, failures[a.expect]) {
				t.Errorf("%s: got %v, want %s", a.name, err, a.expect)
			}
			if err := v.Verify(a.chain, noon); !errors.Is(err, failures[a.expect]) {
				t.Errorf("%s, with a memory: got %v, want %s", a.name, err, a.expect)
			}
		}
	}
}

// TestWrongNetwork has the same root keys make two networks: the certificates
// of one hold in the other for nobody, though every issuer's name matches.
func TestWrongNetwork(t *testing.T) {
	n := newNetwork(t, "eagle")
	twin, err := createRoot("eagle", PresetLean, epoch, n.key, func(msg []byte) ([]byte, error) { return n.key.pq.Sign(nil, msg, nil) })
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range n.chains {
		if err := c.Verify(twin, noon); !errors.Is(err, ErrSignature) {
			t.Errorf("%s: got %v, want a signature that does not hold", name, err)
		}
	}
}

func TestGuestLease(t *testing.T) {
	n := newNetwork(t, "eagle")
	c := Certificate{Class: ClassUser, Subject: subject("guest"), Key: seeded("guest").Public(), Roles: RoleGuest, NotBefore: epoch, NotAfter: epoch.Add(GuestLease + time.Minute)}
	if _, err := Issue(n.root.ID(), n.adminKey, c); !errors.Is(err, ErrRole) {
		t.Fatalf("a lease one minute too long: %v", err)
	}
	if !n.guest.Guest() || n.user.Guest() {
		t.Fatal("guests and members are not told apart")
	}
}
