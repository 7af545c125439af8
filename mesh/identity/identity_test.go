package identity

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"reflect"
	"strings"
	"testing"
	"time"
)

func TestChainsHold(t *testing.T) {
	n := newNetwork(t, "eagle")
	for name, c := range n.chains {
		again, err := ParseChain(c.Marshal())
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if !reflect.DeepEqual(again, c) {
			t.Errorf("%s: comes back different", name)
		}
		if err := again.Verify(n.root, noon); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if want := strings.HasPrefix(name, "provisional"); c.Provisional() != want {
			t.Errorf("%s: provisional %v", name, !want)
		}
	}
	if c := n.chains["provisional device"]; c.Leaf().DeviceID() != n.provDeviceKey.Public().DeviceID() || c.Leaf().UserID() != UserID(subject("newcomer")) ||
		!c.Until().Equal(epoch.Add(7*24*time.Hour+ProvisionalGrace)) || len(c.Parents()) != 3 {
		t.Errorf("device's chain says %v %v until %v", c.Leaf().DeviceID(), c.Leaf().UserID(), c.Until())
	}
	if n.node.NodeID() != NodeID(n.nodeKey.Public()) || n.node.UserID() != (UserID{}) || n.user.NodeID() != (NodeID{}) || n.user.DeviceID() != (DeviceID{}) {
		t.Error("a certificate names what it is not about")
	}
}

// TestSizes holds the budget of a join link: decisions.md 12, crypto.md 3.1.
func TestSizes(t *testing.T) {
	n := newNetwork(t, "eagle")
	worst := Certificate{Key: n.adminKey.Public(), Roles: RoleAdmin, Generation: 255, NotBefore: epoch, NotAfter: epoch.AddDate(100, 0, 0)}
	admin, err := n.key.IssueAdmin(n.root.ID(), worst)
	if err != nil {
		t.Fatal(err)
	}
	worst = Certificate{Class: ClassDelegate, Subject: subject("x"), Key: n.delegateKey.Public(), Roles: classRoles[ClassDelegate], Generation: 1<<32 - 1, NotBefore: epoch, NotAfter: epoch.AddDate(100, 0, 0)}
	delegate, err := Issue(n.root.ID(), n.adminKey, worst)
	if err != nil {
		t.Fatal(err)
	}
	compact, err := CompactDelegate(delegate)
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range []struct {
		what      string
		got, most int
	}{
		{"admin", len(admin.Raw()), 125}, {"compact delegate", len(compact), 110},
		{"user", len(n.user.Raw()), 185}, {"device", len(n.device.Raw()), 171 + SignatureSize}, {"node", len(n.node.Raw()), 171},
		{"device's chain", len(n.chains["device"].Marshal()), 520}, {"longest chain", len(n.chains["provisional device"].Marshal()), MaxChain / 4},
		{"root record", len(n.root.Raw()), 5500},
	} {
		t.Logf("%s: %d B", s.what, s.got)
		if s.got > s.most {
			t.Errorf("%s has %d B, at most %d are allowed", s.what, s.got, s.most)
		}
	}
}

// TestBitFlips changes every bit of every chain and of the root record's
// first and last parts: none may still be accepted.
func TestBitFlips(t *testing.T) {
	n := newNetwork(t, "eagle")
	for name, c := range n.chains {
		raw := c.Marshal()
		for i := range raw {
			for bit := range 8 {
				bad := bytes.Clone(raw)
				bad[i] ^= 1 << bit
				if got, err := ParseChain(bad); err == nil && got.Verify(n.root, noon) == nil {
					t.Fatalf("%s: bit %d of byte %d makes no difference", name, bit, i)
				}
			}
		}
	}
	raw := n.root.Raw()
	for i := 0; i < len(raw); i += 1 + i/200*7 {
		if _, err := ParseRoot(flipped(raw, i)); err == nil {
			t.Fatalf("root record: byte %d makes no difference", i)
		}
	}
}

// TestTruncated cuts every encoding at every length.
func TestTruncated(t *testing.T) {
	n := newNetwork(t, "eagle")
	p, err := PrekeyBundle{Number: 1, NotBefore: epoch, NotAfter: epoch.AddDate(0, 0, 1), KEM: 1, Public: []byte("key")}.Sign(n.root.ID(), n.deviceKey)
	if err != nil {
		t.Fatal(err)
	}
	compact, err := CompactDelegate(n.delegate)
	if err != nil {
		t.Fatal(err)
	}
	for name, f := range map[string]struct {
		raw  []byte
		read func([]byte) error
	}{
		"certificate": {n.device.Raw(), func(b []byte) error { _, err := ParseCertificate(b); return err }},
		"chain":       {n.chains["node"].Marshal(), func(b []byte) error { _, err := ParseChain(b); return err }},
		"root":        {n.root.Raw(), func(b []byte) error { _, err := ParseRoot(b); return err }},
		"prekey":      {p.Raw(), func(b []byte) error { _, err := ParsePrekey(b); return err }},
		"delegate": {compact, func(b []byte) error {
			_, err := ExpandDelegate(b, n.delegateKey.Public(), n.adminKey.Public().ID())
			return err
		}},
	} {
		if err := f.read(f.raw); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		for i := range f.raw {
			if err := f.read(f.raw[:i]); !errors.Is(err, ErrMalformed) {
				t.Fatalf("%s cut to %d bytes: %v", name, i, err)
			}
		}
		if err := f.read(append(bytes.Clone(f.raw), 0)); !errors.Is(err, ErrMalformed) {
			t.Errorf("%s with a byte behind it: %v", name, err)
		}
	}
}

func TestOversized(t *testing.T) {
	for name, err := range map[string]error{
		"certificate": second(ParseCertificate(make([]byte, MaxCertificate+1))),
		"chain":       second(ParseChain(make([]byte, MaxChain+1))),
		"root":        second(ParseRoot(make([]byte, MaxRoot+1))),
		"prekey":      second(ParsePrekey(make([]byte, MaxPrekey+1))),
		"anything":    Unmarshal(make([]byte, maxEncoded+1), new([]byte)),
	} {
		if !errors.Is(err, ErrMalformed) {
			t.Errorf("%s one byte too large: %v", name, err)
		}
	}
	n := newNetwork(t, "eagle")
	five := Chain{n.provDevice, n.provUser, n.delegate, n.admin, n.admin}
	if _, err := ParseChain(five.Marshal()); !errors.Is(err, ErrMalformed) {
		t.Errorf("five certificates: %v", err)
	}
	if err := five.Verify(n.root, noon); !errors.Is(err, ErrMalformed) {
		t.Errorf("five certificates: %v", err)
	}
	if err := (Chain{}).Verify(n.root, noon); !errors.Is(err, ErrMalformed) {
		t.Errorf("no certificate: %v", err)
	}
}

func second[T any](_ T, err error) error { return err }

func TestCBORIsStrict(t *testing.T) {
	type pair struct {
		_ struct{} `cbor:",toarray"`
		A uint32
		B [2]byte
	}
	type keyed struct {
		A uint32 `cbor:"1,keyasint"`
		B uint32 `cbor:"2,keyasint"`
	}
	bad := func(name string, b []byte, v any) {
		t.Helper()
		if err := Unmarshal(b, v); !errors.Is(err, ErrMalformed) {
			t.Errorf("%s: %v", name, err)
		}
	}
	var p pair
	if err := Unmarshal([]byte{0x82, 1, 0x42, 2, 3}, &p); err != nil || p.A != 1 || p.B != [2]byte{2, 3} {
		t.Fatalf("good pair: %v %v", p, err)
	}
	bad("integer in two bytes that fits one", []byte{0x82, 0x18, 1, 0x42, 2, 3}, &p)
	bad("length in two bytes that fits one", []byte{0x82, 1, 0x58, 2, 2, 3}, &p)
	bad("byte string too short", []byte{0x82, 1, 0x41, 2}, &p)
	bad("byte string too long", []byte{0x82, 1, 0x43, 2, 3, 4}, &p)
	bad("array for a byte string", []byte{0x82, 1, 0x82, 2, 3}, &p)
	bad("null for a number", []byte{0x82, 0xf6, 0x42, 2, 3}, &p)
	bad("indefinite length", []byte{0x9f, 1, 0x42, 2, 3, 0xff}, &p)
	bad("one element too many", []byte{0x83, 1, 0x42, 2, 3, 4}, &p)
	bad("bytes behind", []byte{0x82, 1, 0x42, 2, 3, 0}, &p)
	bad("tag", []byte{0xc1, 0x82, 1, 0x42, 2, 3}, &p)
	bad("4 GiB length", []byte{0x5a, 0xff, 0xff, 0xff, 0xff}, new([]byte))
	var k keyed
	if err := Unmarshal([]byte{0xa2, 1, 5, 2, 6}, &k); err != nil {
		t.Fatal(err)
	}
	bad("keys out of order", []byte{0xa2, 2, 6, 1, 5}, &k)
	bad("duplicate key", []byte{0xa2, 1, 5, 1, 5}, &k)
	bad("unknown key", []byte{0xa3, 1, 5, 2, 6, 3, 7}, &k)
	if err := UnmarshalOpen([]byte{0xa3, 1, 5, 2, 6, 3, 7}, &k); err != nil || k.B != 6 {
		t.Errorf("unknown key, open: %v", err)
	}
	var deep any
	bad("depth", append(bytes.Repeat([]byte{0x81}, maxDepth+1), 0), &deep)
	if _, err := Marshal(make(chan int)); err == nil {
		t.Error("a channel was encoded")
	}
}

func TestDomainsSeparate(t *testing.T) {
	k := seeded("k")
	sig := k.Sign(DomainMessage, []byte("m"))
	if !k.Public().Verify(DomainMessage, []byte("m"), sig[:]) {
		t.Fatal("a signature does not hold")
	}
	if k.Public().Verify(DomainEpoch, []byte("m"), sig[:]) || k.Public().Verify(DomainMessage, []byte("n"), sig[:]) ||
		seeded("l").Public().Verify(DomainMessage, []byte("m"), sig[:]) || k.Public().Verify(DomainMessage, []byte("m"), sig[:63]) {
		t.Fatal("a signature holds for what was not signed")
	}
}

// TestSecretsDoNotPrint formats every secret type in every usual way.
func TestSecretsDoNotPrint(t *testing.T) {
	k, n := seeded("printed"), newNetwork(t, "eagle")
	seed, rootSeed := k.Seed(), n.key.Seed()
	s := NetworkSecret{1, seed}
	for _, v := range []any{k, &k, []PrivateKey{k}, n.key, &n.key, s, &s, []NetworkSecret{s}, struct{ K PrivateKey }{k}} {
		var log bytes.Buffer
		slog.New(slog.NewTextHandler(&log, nil)).Info("x", "v", v)
		slog.New(slog.NewJSONHandler(&log, nil)).Info("x", "v", v)
		out := log.String() + fmt.Sprint(v) + fmt.Sprintf("%v %+v %#v %s %x %q %d", v, v, v, v, v, v, v)
		for _, secret := range [][]byte{seed[:], rootSeed[:]} {
			for _, form := range []string{string(secret), fmt.Sprintf("%x", secret), fmt.Sprintf("%X", secret), strings.Trim(fmt.Sprint(secret), "[]"), fmt.Sprintf("%#v", secret)[7:60]} {
				if strings.Contains(out, form) {
					t.Errorf("%T prints its secret", v)
				}
			}
		}
	}
	if j, _ := json.Marshal([]any{k}); string(j) != "[{}]" {
		t.Errorf("a key encodes to JSON as %s", j)
	}
}

func TestDerivedKeysDiffer(t *testing.T) {
	a, err := NewNetworkSecret(1)
	if err != nil {
		t.Fatal(err)
	}
	b := NetworkSecret{2, a.Secret} // same bytes, next generation
	seen := map[[32]byte]bool{}
	for _, s := range []NetworkSecret{a, b} {
		for _, k := range [][32]byte{s.GossipKey(), s.TagKey(), s.ControlKey()} {
			if seen[k] {
				t.Fatal("two derived keys are equal")
			}
			seen[k] = true
		}
	}
	if a.ReconcileSalt() == b.ReconcileSalt() {
		t.Error("salt does not depend on the generation")
	}
	d := seeded("d").Public().DeviceID()
	if InboxTag(a.TagKey(), d, 0) == InboxTag(a.TagKey(), d, 1) || ControlTag(a.TagKey()) == ControlTag(b.TagKey()) {
		t.Error("tags repeat")
	}
}

func TestClockJudges(t *testing.T) {
	n := newNetwork(t, "eagle")
	c := n.chains["provisional user"]
	end := c.Until()
	for _, k := range []struct {
		name  string
		clock fixedClock
		want  error
	}{
		{"a minute before the end", fixedClock{end.Add(-time.Minute), true}, nil},
		{"at the end", fixedClock{end, true}, ErrExpired},
		{"at the end, untrusted", fixedClock{end, false}, nil},
		{"at the end of grace, untrusted", fixedClock{end.Add(Grace), false}, ErrExpired},
		{"a little early", fixedClock{epoch.Add(-skew), true}, nil},
		{"too early", fixedClock{epoch.Add(-skew - time.Second), true}, ErrNotYetValid},
		{"1970, untrusted", fixedClock{time.Unix(0, 0), false}, nil},
		{"1970, trusted", fixedClock{time.Unix(0, 0), true}, ErrNotYetValid},
	} {
		if err := c.Verify(n.root, k.clock); !errors.Is(err, k.want) {
			t.Errorf("%s: %v", k.name, err)
		}
	}
}

func TestRoot(t *testing.T) {
	r, key, err := CreateRoot("Wolfsrudel", PresetOpsec, epoch.Add(30*time.Second))
	if err != nil {
		t.Fatal(err)
	}
	if r.Name() != "Wolfsrudel" || r.Preset().MaxDelay() != 72*time.Hour || !r.Created().Equal(epoch) || r.Key() != key.Public() {
		t.Errorf("root record says %v %v %v", r.Name(), r.Preset(), r.Created())
	}
	again, err := RootKeyFromSeed(key.Seed())
	if err != nil || again.Public() != key.Public() || !again.pq.Equal(key.pq) {
		t.Errorf("a root key does not come back from its seed: %v", err)
	}
	for _, name := range []string{"", strings.Repeat("x", 17), " a", "a ", "a\nb", "a\x00b", "\xff\xfe", "a\u202eb"} {
		if _, _, err := CreateRoot(name, PresetStandard, epoch); err == nil {
			t.Errorf("a network was named %q", name)
		}
	}
	if _, _, err := CreateRoot("x", 9, epoch); err == nil {
		t.Error("a preset was invented")
	}
}

// resign builds a root record around any body, with both signatures right.
func resign(t *testing.T, n *network, body []byte) []byte {
	t.Helper()
	ed := n.key.ed.Sign(DomainRoot, body)
	pq := must2[[]byte](t)(n.key.pq.SignDeterministic(append(DomainRoot.Prefix(), body...), nil))
	return must2[[]byte](t)(Marshal(rootWire{Body: body, Ed25519: ed[:], MLDSA: pq}))
}

func TestRootOfLaterVersions(t *testing.T) {
	n := newNetwork(t, "eagle")
	pub := n.key.ed.Public()
	body := map[uint64]any{1: 1, 2: 1, 3: "eagle", 4: 1, 5: 100, 6: pub[:], 7: n.key.pq.PublicKey().Bytes()}
	try := func(key uint64, v any) error {
		old, had := body[key]
		body[key] = v
		_, err := ParseRoot(resign(t, n, must2[[]byte](t)(Marshal(body))))
		if had {
			body[key] = old
		} else {
			delete(body, key)
		}
		return err
	}
	if err := try(40, "remark"); err != nil {
		t.Errorf("a key that may be skipped: %v", err)
	}
	for key, v := range map[uint64]any{8: 1, 31: 1, 1: 2, 2: 2, 4: 4, 3: "", 6: pub[:31], 7: []byte("short")} {
		if err := try(key, v); !errors.Is(err, ErrMalformed) {
			t.Errorf("key %d = %v: %v", key, v, err)
		}
	}
}

func TestPresets(t *testing.T) {
	for _, p := range []Preset{PresetStandard, PresetLean, PresetOpsec} {
		if again, err := ParsePreset(p.String()); err != nil || again != p || p.MaxDelay() == 0 {
			t.Errorf("%v: %v %v", p, again, err)
		}
	}
	for _, s := range []string{"", "unknown", "Standard"} {
		if _, err := ParsePreset(s); !errors.Is(err, ErrMalformed) {
			t.Errorf("%q is a preset", s)
		}
	}
}

func TestPrekeys(t *testing.T) {
	n, other := newNetwork(t, "eagle"), newNetwork(t, "falcon")
	p, err := PrekeyBundle{Number: 3, NotBefore: epoch, NotAfter: epoch.AddDate(0, 0, 7), KEM: 0x647a, Public: make([]byte, 1216)}.Sign(n.root.ID(), n.deviceKey)
	if err != nil {
		t.Fatal(err)
	}
	if len(p.Raw()) > 1318 {
		t.Errorf("a bundle has %d bytes, 1,318 are planned for", len(p.Raw()))
	}
	again, err := ParsePrekey(p.Raw())
	if err != nil || !reflect.DeepEqual(again, p) {
		t.Errorf("comes back different: %v", err)
	}
	if !again.Verify(n.root.ID(), n.deviceKey.Public()) || again.Verify(other.root.ID(), n.deviceKey.Public()) || again.Verify(n.root.ID(), n.provDeviceKey.Public()) {
		t.Error("verifies wrongly")
	}
	stolen := p
	stolen.Device = n.provDeviceKey.Public().DeviceID()
	if stolen.Verify(n.root.ID(), n.provDeviceKey.Public()) {
		t.Error("a bundle holds for another device")
	}
	for name, q := range map[string]PrekeyBundle{
		"no key":       {NotBefore: epoch, NotAfter: epoch.AddDate(0, 0, 7)},
		"large key":    {NotBefore: epoch, NotAfter: epoch.AddDate(0, 0, 7), Public: make([]byte, MaxPrekey)},
		"no validity":  {NotBefore: epoch, NotAfter: epoch, Public: []byte("k")},
		"before epoch": {NotBefore: time.Unix(-90, 0), NotAfter: epoch, Public: []byte("k")},
	} {
		if _, err := q.Sign(n.root.ID(), n.deviceKey); err == nil {
			t.Errorf("%s was signed", name)
		}
	}
}

func TestIssueRefuses(t *testing.T) {
	n := newNetwork(t, "eagle")
	good := Certificate{Class: ClassUser, Subject: subject("user"), Key: n.userKey.Public(), NotBefore: epoch, NotAfter: epoch.Add(time.Hour)}
	for name, change := range map[string]func(*Certificate){
		"no class":          func(c *Certificate) { c.Class = 0 },
		"unknown class":     func(c *Certificate) { c.Class = 8 },
		"device":            func(c *Certificate) { c.Class = ClassDevice },
		"no subject":        func(c *Certificate) { c.Subject = nil },
		"short subject":     func(c *Certificate) { c.Subject = c.Subject[:15] },
		"zero subject":      func(c *Certificate) { c.Subject = make([]byte, 16) },
		"admin's subject":   func(c *Certificate) { c.Class = ClassAdmin },
		"no key":            func(c *Certificate) { c.Key = PublicKey{} },
		"end before begin":  func(c *Certificate) { c.NotAfter = c.NotBefore.Add(-time.Minute) },
		"less than minute":  func(c *Certificate) { c.NotAfter = c.NotBefore.Add(59 * time.Second) },
		"1969":              func(c *Certificate) { c.NotBefore = time.Unix(-60, 0) },
		"role of admins":    func(c *Certificate) { c.Roles = RoleIssue },
		"role of nobody":    func(c *Certificate) { c.Roles = 1 << 30 },
		"idle delegate":     func(c *Certificate) { c.Class = ClassDelegate },
		"node's odd length": func(c *Certificate) { c.Class, c.Subject = ClassNode, []byte{1} },
	} {
		c := good
		change(&c)
		if _, err := Issue(n.root.ID(), n.adminKey, c); err == nil {
			t.Errorf("%s: was issued", name)
		}
	}
	if _, err := CompactDelegate(n.user); !errors.Is(err, ErrRole) {
		t.Errorf("a user was shortened to a delegate: %v", err)
	}
}

// TestVerifierForgets fills a verifier far beyond its size and then makes
// sure that it still verifies, and stays small.
func TestVerifierForgets(t *testing.T) {
	n := newNetwork(t, "eagle")
	v := NewVerifier(n.root, 8)
	for i := range 100 {
		c := Chain{forge(t, n.root.ID(), n.adminKey, Certificate{Class: ClassNode, Key: seeded(fmt.Sprint(i)).Public()}), n.admin}
		if err := v.Verify(c, noon); err != nil {
			t.Fatal(err)
		}
		if len(v.now)+len(v.old) > 16 {
			t.Fatalf("%d certificates remembered", len(v.now)+len(v.old))
		}
	}
	if err := v.Verify(n.chains["device"], noon); err != nil {
		t.Fatal(err)
	}
	if err := v.Verify(n.chains["device"], fixedClock{epoch.AddDate(5, 0, 0), true}); !errors.Is(err, ErrExpired) {
		t.Fatalf("what is remembered never expires: %v", err)
	}
}

func TestSealOpen(t *testing.T) {
	key := [32]byte{1}
	sealed := Seal(key, []byte("text"), []byte("what"))
	if len(sealed) != 4+SealOverhead {
		t.Errorf("%d bytes", len(sealed))
	}
	if p, err := Open(key, sealed, []byte("what")); err != nil || string(p) != "text" {
		t.Fatalf("%q %v", p, err)
	}
	for i := range sealed {
		if _, err := Open(key, flipped(sealed, i), []byte("what")); !errors.Is(err, ErrSealed) {
			t.Fatalf("byte %d makes no difference", i)
		}
	}
	for n := range sealed {
		if _, err := Open(key, sealed[:n], []byte("what")); !errors.Is(err, ErrSealed) {
			t.Fatalf("%d bytes open: %v", n, err)
		}
	}
	if _, err := Open(key, sealed, []byte("else")); !errors.Is(err, ErrSealed) {
		t.Error("opens as something else")
	}
}

func TestIDs(t *testing.T) {
	k := seeded("id").Public()
	node, dev, user := k.NodeID(), k.DeviceID(), UserID(subject("u"))
	if got, err := ParseNodeID(strings.ToUpper(node.String())); err != nil || got != node || got.PublicKey() != k || node.Short() != node.String()[:8] {
		t.Errorf("node id: %v", err)
	}
	if got, err := ParseDeviceID(dev.String()); err != nil || got != dev {
		t.Errorf("device id: %v", err)
	}
	if got, err := ParseUserID(user.String()); err != nil || got != user {
		t.Errorf("user id: %v", err)
	}
	for _, s := range []string{"", "1", node.String()[1:], node.String() + "a", strings.Repeat("8", 52)} {
		if _, err := ParseNodeID(s); !errors.Is(err, ErrMalformed) {
			t.Errorf("%q is a node id: %v", s, err)
		}
	}
}
