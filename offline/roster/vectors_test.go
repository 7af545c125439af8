package roster

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"flag"
	"log/slog"
	"os"
	"path/filepath"
	"testing"

	"outrider/mesh/identity"
)

var update = flag.Bool("update", false, "write testdata/vectors anew")

// A vector file holds a network and objects of it. The root record's ML-DSA
// signature and the seals are random, so the file is made once and opened for
// ever; plaintexts without them are compared byte for byte too.
type vectorFile struct {
	Root    string   `json:"root"`
	Secret  string   `json:"secret"`
	Admin   string   `json:"admin_seed"`
	Vectors []vector `json:"vectors"`
}

// A vector is a payload and what comes of judging it after those before it.
type vector struct {
	Name   string `json:"name"`
	Plain  string `json:"plain"`
	Sealed string `json:"sealed"`
	Code   Code   `json:"code"` // 1 accept, 2 superseded, 3 forged, 4 later
	Key    string `json:"key"`
	Number uint64 `json:"number"`
}

const vectorPath = "testdata/vectors/roster.json"

func TestVectors(t *testing.T) {
	if *update {
		writeVectors(t)
	}
	b, err := os.ReadFile(vectorPath)
	ok(t, b, err)
	var f vectorFile
	if err := json.Unmarshal(b, &f); err != nil {
		t.Fatal(err)
	}
	n := networkOf(t, f)
	r := n.roster()
	if len(f.Vectors) < 12 {
		t.Fatalf("%d vectors", len(f.Vectors))
	}
	for _, v := range f.Vectors {
		sealed, err := hex.DecodeString(v.Sealed)
		got := r.Judge(ok(t, sealed, err))
		if got.Code != v.Code || hex.EncodeToString(got.Key[:]) != v.Key || got.Number != v.Number {
			t.Errorf("%s: %+v", v.Name, got)
		}
		plain, _, err := r.open(sealed)
		if v.Plain != "" && (err != nil || hex.EncodeToString(plain) != v.Plain) {
			t.Errorf("%s: opens to something else: %v", v.Name, err)
		}
		if got.Code == Accept {
			if err := r.Apply(sealed); err != nil {
				t.Errorf("%s: %v", v.Name, err)
			}
		}
	}
	compareEncodings(t, n, f)
}

// compareEncodings makes the objects anew from their seeds.
func compareEncodings(t *testing.T, n *network, f vectorFile) {
	made := map[string]string{}
	for _, o := range vectorObjects(n) {
		plain, err := o.o.encode()
		made[o.name] = hex.EncodeToString(ok(t, plain, err))
	}
	for _, v := range f.Vectors {
		if want, deterministic := made[v.Name]; deterministic && want != v.Plain {
			t.Errorf("%s: encoding has changed", v.Name)
		}
	}
}

func networkOf(t *testing.T, f vectorFile) *network {
	unhex := func(s string) []byte { b, err := hex.DecodeString(s); return ok(t, b, err) }
	root, err := identity.ParseRoot(unhex(f.Root))
	ok(t, root, err)
	key, err := identity.RootKeyFromSeed(sha256.Sum256([]byte("vector root")))
	n := &network{
		t: t, root: root, key: ok(t, key, err), admin: identity.PrivateKeyFromSeed([32]byte(unhex(f.Admin))),
		secret: identity.NetworkSecret{Generation: 1, Secret: [32]byte(unhex(f.Secret))},
		clock:  &fixedClock{now: epoch.AddDate(0, 0, 1), trusted: true},
	}
	n.aCert = n.makeAdmin(n.admin, identity.RoleAdmin)
	return n
}

type named struct {
	name string
	o    Object
}

func vectorObjects(n *network) []named {
	alice, bob := n.person("alice"), n.person("bob")
	k := n.ticket("carol", 1)
	carol, node := n.redeem(k, "carol")
	revocation, err := newRevocation(n.root.ID(), n.admin, 1, epoch, []identity.KeyID{bob.device.Public().ID()})
	ok(n.t, revocation, err)
	return []named{
		{"admin", Certificate(identity.Chain{n.aCert})}, {"delegate", Certificate(k.chain)},
		{"user", Certificate(alice.chain)}, {"device", Certificate(alice.devChain)},
		{"profile by a device", n.profile(alice.id, "Alice", 1, alice.device)}, {"profile by an admin", n.profile(alice.id, "Pvt. A.", 1, n.admin)},
		{"prekey", n.prekey(alice.device, 1)}, {"last resort", n.prekey(alice.device, 0)},
		{"node", Certificate(n.node(seeded("relay"), nil))}, {"provisional user", Certificate(carol.chain)},
		{"provisional device", Certificate(carol.devChain)}, {"provisional node", Certificate(node)},
		{"revocation", revocation}, {"device that is revoked", Certificate(bob.devChain)},
		{"prekey of an unknown device", n.prekey(seeded("nobody"), 1)},
		{"profile by somebody else's device", n.profile(alice.id, "Mallory", 2, carol.device)},
		{"prekey again", n.prekey(alice.device, 1)},
	}
}

func writeVectors(t *testing.T) {
	key, err := identity.RootKeyFromSeed(sha256.Sum256([]byte("vector root")))
	ok(t, key, err)
	var old vectorFile
	if b, err := os.ReadFile(vectorPath); err == nil { // the root is random: keep the one there is
		if err := json.Unmarshal(b, &old); err != nil {
			t.Fatal(err)
		}
	}
	seed, secret := sha256.Sum256([]byte("vector admin")), sha256.Sum256([]byte("vector secret"))
	f := vectorFile{Root: old.Root, Admin: hex.EncodeToString(seed[:]), Secret: hex.EncodeToString(secret[:])}
	if f.Root == "" {
		t.Fatal("there is no root record to go on from")
	}
	n := networkOf(t, f)
	r := n.roster()
	add := func(name string, sealed []byte) {
		v := r.Judge(sealed)
		plain, _, _ := r.open(sealed)
		if v.Code == Accept {
			if err := r.Apply(sealed); err != nil {
				t.Fatal(err)
			}
		}
		f.Vectors = append(f.Vectors, vector{name, hex.EncodeToString(plain), hex.EncodeToString(sealed), v.Code, hex.EncodeToString(v.Key[:]), v.Number})
	}
	for _, o := range vectorObjects(n) {
		add(o.name, ok2(t)(r.Seal(o.o)))
	}
	changed := ok2(t)(r.Seal(Certificate(n.person("dave").chain)))
	changed[40] ^= 1
	add("seal broken", changed)
	add("too short", changed[:31])
	changed[3] = 9
	add("network secret unknown", changed)
	b, err := json.MarshalIndent(f, "", " ")
	ok(t, b, err)
	if err := os.MkdirAll(filepath.Dir(vectorPath), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(vectorPath, append(b, '\n'), 0o644); err != nil {
		t.Fatal(err)
	}
}

// FuzzObject goes behind the seal, where every member of the network could.
func FuzzObject(f *testing.F) {
	n := newNetwork(f, "eagle")
	r := n.roster()
	for _, o := range vectorObjects(n) {
		plain, err := o.o.encode()
		f.Add(ok(f, plain, err))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		o, err := parseObject(b)
		if err != nil {
			if !errors.Is(err, ErrForged) && !errors.Is(err, ErrLater) {
				t.Fatal(err)
			}
			return
		}
		w := objectWire{Kind: o.Kind, Body: o.body, Parents: [][]byte{}}
		for _, p := range o.parents {
			w.Parents = append(w.Parents, p.Leaf().Raw())
		}
		if again, err := identity.Marshal(w); err != nil || !bytes.Equal(again, b) {
			t.Fatalf("accepted, but written differently: %v", err)
		}
		r.Judge(sealRaw(r, b))
	})
}

func FuzzJudge(f *testing.F) {
	n := newNetwork(f, "eagle")
	r := New(n.root, []identity.NetworkSecret{n.secret}, n.clock, slog.New(slog.DiscardHandler))
	f.Add(ok2(f)(r.Seal(Certificate(n.person("alice").chain))))
	f.Fuzz(func(t *testing.T, b []byte) {
		if v := r.Judge(b); v.Code != Forged && v.Code != Later || v.Err == nil {
			t.Fatalf("%+v", v)
		}
	})
}

// BenchmarkStart applies what a network of 100 users leaves in the store.
func BenchmarkStart(b *testing.B) {
	n := newNetwork(b, "eagle")
	var payloads [][]byte
	source := n.roster()
	for i := range 100 {
		name := string(rune('a'+i/26)) + string(rune('a'+i%26))
		for _, o := range n.objects(n.person(name), name) {
			payloads = append(payloads, ok2(b)(source.Seal(o)))
		}
	}
	b.ReportAllocs()
	for b.Loop() {
		r := n.roster()
		for _, p := range payloads {
			if err := r.Apply(p); err != nil {
				b.Fatal(err)
			}
		}
		if len(r.Users()) != 100 {
			b.Fatal("users are missing")
		}
	}
	b.ReportMetric(float64(len(payloads)), "objects/op")
}
