package identity

import (
	"crypto/sha256"
	"sync"
	"testing"
	"time"
)

// epoch is when the fixtures' network was made.
var epoch = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

// seeded returns the key whose seed is the hash of a word.
func seeded(word string) PrivateKey { return PrivateKeyFromSeed(sha256.Sum256([]byte(word))) }

func subject(word string) []byte {
	h := sha256.Sum256([]byte("subject " + word))
	return h[:SubjectSize]
}

// A fixedClock stands still.
type fixedClock struct {
	now     time.Time
	trusted bool
}

func (c fixedClock) Now() time.Time { return c.now }
func (c fixedClock) Trusted() bool  { return c.trusted }

// A network is the fixtures' cast, made from fixed seeds.
type network struct {
	key  RootKey
	root *RootRecord

	admin, user, device, node, delegate     Certificate
	provUser, provDevice, provNode          Certificate
	guest, compliance, federation           Certificate
	adminKey, userKey, deviceKey, nodeKey   PrivateKey
	delegateKey, provUserKey, provDeviceKey PrivateKey
	chains                                  map[string]Chain
}

func must2[T any](t testing.TB) func(T, error) T {
	return func(v T, err error) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

var fixtures sync.Map

// newNetwork makes the network that a word stands for: the same word, the
// same bytes.
func newNetwork(t testing.TB, word string) *network {
	t.Helper()
	if n, ok := fixtures.Load(word); ok {
		return n.(*network)
	}
	n := &network{
		adminKey: seeded(word + " admin"), userKey: seeded(word + " user"), deviceKey: seeded(word + " device"),
		nodeKey: seeded(word + " node"), delegateKey: seeded(word + " delegate"),
		provUserKey: seeded(word + " provisional user"), provDeviceKey: seeded(word + " provisional device"),
	}
	key, err := RootKeyFromSeed(sha256.Sum256([]byte(word)))
	if err != nil {
		t.Fatal(err)
	}
	n.key = key
	n.root = must2[*RootRecord](t)(createRoot(word, PresetStandard, epoch, key, func(msg []byte) ([]byte, error) {
		return key.pq.SignDeterministic(msg, nil)
	}))
	n.issueAll(t)
	fixtures.Store(word, n)
	return n
}

func (n *network) issueAll(t testing.TB) {
	t.Helper()
	ok, id := must2[Certificate](t), n.root.ID()
	year := func(c Certificate) Certificate {
		c.NotBefore, c.NotAfter = epoch, epoch.AddDate(1, 0, 0)
		return c
	}
	short := func(c Certificate) Certificate {
		c.NotBefore, c.NotAfter = epoch, epoch.Add(7*24*time.Hour+ProvisionalGrace)
		return c
	}
	n.admin = ok(n.key.IssueAdmin(id, year(Certificate{Key: n.adminKey.Public(), Roles: RoleAdmin, Generation: 1})))
	n.user = ok(Issue(id, n.adminKey, year(Certificate{Class: ClassUser, Subject: subject("user"), Key: n.userKey.Public(), Roles: RoleModerator, Generation: 1})))
	n.device = ok(IssueDevice(id, n.userKey, n.deviceKey, year(Certificate{Subject: subject("user"), Generation: 1})))
	n.node = ok(Issue(id, n.adminKey, year(Certificate{Class: ClassNode, Key: n.nodeKey.Public(), Roles: RoleGateway, Generation: 1})))
	n.delegate = ok(Issue(id, n.adminKey, short(Certificate{Class: ClassDelegate, Subject: subject("newcomer"), Key: n.delegateKey.Public(), Roles: RoleUser | RoleNode, Generation: 1})))
	n.provUser = ok(Issue(id, n.delegateKey, short(Certificate{Class: ClassUser, Subject: subject("newcomer"), Key: n.provUserKey.Public(), Generation: 1})))
	n.provDevice = ok(IssueDevice(id, n.provUserKey, n.provDeviceKey, short(Certificate{Subject: subject("newcomer"), Generation: 1})))
	n.provNode = ok(Issue(id, n.delegateKey, short(Certificate{Class: ClassNode, Subject: subject("newcomer"), Key: seeded("newcomer's node").Public(), Generation: 1})))
	week := year(Certificate{Class: ClassUser, Subject: subject("guest"), Key: seeded("guest").Public(), Roles: RoleGuest, Generation: 1})
	week.NotAfter = epoch.Add(GuestLease)
	n.guest = ok(Issue(id, n.adminKey, week))
	n.compliance = ok(Issue(id, n.adminKey, year(Certificate{Class: ClassCompliance, Subject: subject("archive"), Key: seeded("archive").Public(), Generation: 1})))
	n.federation = ok(Issue(id, n.adminKey, year(Certificate{Class: ClassFederation, Subject: subject("other"), Key: seeded("other root").Public(), Roles: RoleGuest, Generation: 1})))
	n.chains = map[string]Chain{
		"admin": {n.admin}, "user": {n.user, n.admin}, "device": {n.device, n.user, n.admin}, "node": {n.node, n.admin},
		"delegate": {n.delegate, n.admin}, "provisional user": {n.provUser, n.delegate, n.admin},
		"provisional device": {n.provDevice, n.provUser, n.delegate, n.admin}, "provisional node": {n.provNode, n.delegate, n.admin},
		"guest": {n.guest, n.admin}, "compliance": {n.compliance, n.admin}, "federation": {n.federation, n.admin},
	}
}

// noon is a trusted clock on the day after the network was made.
var noon = fixedClock{epoch.AddDate(0, 0, 1), true}
