package identity

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"flag"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"testing"
)

var update = flag.Bool("update", false, "write testdata/vectors anew")

// A vector is one encoding and what a reader must make of it. Expect is "ok"
// or a class of failure. Input holds secrets and parameters by name.
type vector struct {
	Name   string            `json:"name"`
	Type   string            `json:"type"`
	Input  map[string]string `json:"input,omitempty"`
	Hex    string            `json:"hex"`
	Expect string            `json:"expect"`
}

var failures = map[string]error{
	"malformed": ErrMalformed, "expired": ErrExpired, "not-yet-valid": ErrNotYetValid,
	"foreign": ErrForeign, "signature": ErrSignature, "role": ErrRole,
}

// TestVectors makes every encoding anew from fixed seeds and compares it with
// the frozen file, byte for byte, then reads the frozen file and compares
// what comes of each vector.
func TestVectors(t *testing.T) {
	path := filepath.Join("testdata", "vectors", "identity.json")
	made := makeVectors(t)
	if *update {
		b, err := json.MarshalIndent(made, "", " ")
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, append(b, '\n'), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var frozen []vector
	if err := json.Unmarshal(b, &frozen); err != nil {
		t.Fatal(err)
	}
	if len(frozen) != len(made) || len(frozen) < 40 {
		t.Fatalf("%d vectors in the file, %d made", len(frozen), len(made))
	}
	for i, v := range frozen {
		if v.Hex != made[i].Hex || v.Name != made[i].Name {
			t.Errorf("%s: encoding has changed", v.Name)
		}
		raw, err := hex.DecodeString(v.Hex)
		if err != nil {
			t.Fatal(err)
		}
		got := readVector(t, v, raw)
		if want := failures[v.Expect]; v.Expect != "ok" && (want == nil || !errors.Is(got, want)) || v.Expect == "ok" && got != nil {
			t.Errorf("%s: got %v, want %s", v.Name, got, v.Expect)
		}
	}
}

// readVector does with a vector what its type says.
func readVector(t *testing.T, v vector, raw []byte) error {
	n := newNetwork(t, "eagle")
	switch v.Type {
	case "root":
		_, err := ParseRoot(raw)
		return err
	case "certificate":
		_, err := ParseCertificate(raw)
		return err
	case "chain":
		c, err := ParseChain(raw)
		if err != nil {
			return err
		}
		clock := noon
		switch v.Input["clock"] {
		case "2030":
			clock.now = epoch.AddDate(4, 0, 0)
		case "2020":
			clock.now = epoch.AddDate(-6, 0, 0)
		}
		return c.Verify(n.root, clock)
	case "prekey":
		p, err := ParsePrekey(raw)
		if err == nil && !p.Verify(n.root.ID(), n.deviceKey.Public()) {
			err = ErrSignature
		}
		return err
	case "compact-delegate":
		c, err := ExpandDelegate(raw, n.delegateKey.Public(), n.adminKey.Public().ID())
		if err == nil && !bytes.Equal(c.Raw(), n.delegate.Raw()) {
			t.Errorf("%s: expands to something else", v.Name)
		}
		return err
	case "voucher":
		v, err := ParseVoucher(raw)
		if err == nil {
			err = v.Verify(n.root.ID(), n.admin)
		}
		return err
	case "derived":
		return nil // compared byte for byte
	}
	t.Fatalf("vector of unknown type %q", v.Type)
	return nil
}

func makeVectors(t *testing.T) (out []vector) {
	n, other := newNetwork(t, "eagle"), newNetwork(t, "falcon")
	add := func(name, typ string, raw []byte, expect string, input map[string]string) {
		out = append(out, vector{name, typ, input, hex.EncodeToString(raw), expect})
	}
	add("root record", "root", n.root.Raw(), "ok", nil)
	add("root record, Ed25519 signature changed", "root", flipped(n.root.Raw(), len(n.root.Raw())-mldsaTail-1), "signature", nil)
	add("root record, ML-DSA signature changed", "root", flipped(n.root.Raw(), len(n.root.Raw())-1), "signature", nil)
	for _, name := range slices.Sorted(maps.Keys(n.chains)) {
		c := n.chains[name]
		add(name+" certificate", "certificate", c.Leaf().Raw(), "ok", nil)
		add(name+" chain", "chain", c.Marshal(), "ok", nil)
		add(name+" chain after its end", "chain", c.Marshal(), "expired", map[string]string{"clock": "2030"})
		add(name+" chain before its begin", "chain", c.Marshal(), "not-yet-valid", map[string]string{"clock": "2020"})
		add(name+" chain of another network", "chain", other.chains[name].Marshal(), "foreign", nil)
		add(name+" certificate, one byte short", "certificate", c.Leaf().Raw()[:len(c.Leaf().Raw())-1], "malformed", nil)
		bad := append(Chain{}, c...)
		bad[0].raw = flipped(bad[0].raw, len(bad[0].raw)-1)
		add(name+" chain, leaf's signature changed", "chain", bad.Marshal(), "signature", nil)
	}
	for _, a := range attacks(t, n) {
		add(a.name, "chain", a.chain.Marshal(), a.expect, nil)
	}
	compact := must2[[]byte](t)(CompactDelegate(n.delegate))
	add("delegate, compact", "compact-delegate", compact, "ok", nil)
	p := must2[PrekeyBundle](t)(PrekeyBundle{Number: 7, NotBefore: epoch, NotAfter: epoch.AddDate(0, 0, 14), KEM: 0x647a, Public: bytes.Repeat([]byte{5}, 1216)}.Sign(n.root.ID(), n.deviceKey))
	add("prekey bundle", "prekey", p.Raw(), "ok", nil)
	add("prekey bundle, key changed", "prekey", flipped(p.Raw(), 200), "signature", nil)
	addDerived(n, add)
	addVouchers(t, n, add)
	return out
}

// mldsaTail is the last field of a root record: head and ML-DSA-65 signature.
const mldsaTail = 3 + 3309

func addDerived(n *network, add func(string, string, []byte, string, map[string]string)) {
	s := NetworkSecret{Generation: 3, Secret: [32]byte(bytes.Repeat([]byte{0x42}, 32))}
	in := map[string]string{"secret": hex.EncodeToString(s.Secret[:]), "generation": "3"}
	gossip, tag, control, salt := s.GossipKey(), s.TagKey(), s.ControlKey(), s.ReconcileSalt()
	add("gossip key", "derived", gossip[:], "ok", in)
	add("tag key", "derived", tag[:], "ok", in)
	add("control key", "derived", control[:], "ok", in)
	add("reconcile salt", "derived", salt[:], "ok", in)
	key := n.deviceKey.Public()
	id, kid := key.DeviceID(), key.ID()
	dev := map[string]string{"tag key": hex.EncodeToString(tag[:]), "device": hex.EncodeToString(id[:]), "number": "7"}
	it, ct := InboxTag(tag, id, 7), ControlTag(tag)
	add("inbox tag", "derived", it[:], "ok", dev)
	add("control tag", "derived", ct[:], "ok", dev)
	add("device id", "derived", id[:], "ok", map[string]string{"key": hex.EncodeToString(key[:])})
	add("key id", "derived", kid[:], "ok", map[string]string{"key": hex.EncodeToString(key[:])})
	sig := n.deviceKey.Sign(DomainMessage, []byte("hello"))
	add("signature of 'hello' in domain message", "derived", sig[:], "ok", map[string]string{"key": hex.EncodeToString(key[:])})
}

func addVouchers(t *testing.T, n *network, add func(string, string, []byte, string, map[string]string)) {
	s := NetworkSecret{Generation: 3, Secret: [32]byte(bytes.Repeat([]byte{0x42}, 32))}
	in := map[string]string{"secret": hex.EncodeToString(s.Secret[:]), "generation": "3"}
	hash := s.Hash()
	add("hash of a network secret", "derived", hash[:], "ok", in)
	v := must2[Voucher](t)(s.Vouch(n.root.ID(), n.adminKey, 2, epoch.AddDate(0, 1, 0)))
	add("voucher for a network secret", "voucher", v.Raw(), "ok", in)
	add("voucher, generation changed", "voucher", flipped(v.Raw(), 1), "signature", in)
	add("voucher, one byte short", "voucher", v.Raw()[:len(v.Raw())-1], "malformed", in)
	foreign := must2[Voucher](t)(s.Vouch(newNetwork(t, "falcon").root.ID(), n.adminKey, 2, epoch.AddDate(0, 1, 0)))
	add("voucher of another network", "voucher", foreign.Raw(), "signature", in)
	user := must2[Voucher](t)(s.Vouch(n.root.ID(), n.userKey, 2, epoch.AddDate(0, 1, 0)))
	add("voucher by a user", "voucher", user.Raw(), "signature", in)
}

func flipped(b []byte, at int) []byte {
	b = bytes.Clone(b)
	b[at] ^= 1
	return b
}
