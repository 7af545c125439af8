package agree

import (
	"bytes"
	"crypto/ecdh"
	"encoding/hex"
	"encoding/json"
	"errors"
	"flag"
	"os"
	"testing"
)

var update = flag.Bool("update", false, "write testdata/vectors.json")

type vector struct {
	Call      string    `json:"call"`
	CallerKey string    `json:"caller_private"` // scalars, hexadecimal
	CalleeKey string    `json:"callee_private"`
	Caller    string    `json:"caller_key"`
	Callee    string    `json:"callee_key"`
	Commit    string    `json:"commit"`
	Base      [2]string `json:"base"`
	Code      string    `json:"code"`
}

func fixed(t *testing.T, fill byte) Key {
	t.Helper()
	k, err := ecdh.P256().NewPrivateKey(bytes.Repeat([]byte{fill}, 32))
	if err != nil {
		t.Fatal(err)
	}
	return Key{k}
}

func TestC01AgreementVectors(t *testing.T) {
	var got []vector
	for i := range byte(3) {
		a, b, call := fixed(t, 1+i), fixed(t, 101+i), Call(bytes.Repeat([]byte{200 + i}, 16))
		sa, err := a.Agree(call, a.Public(), b.Public())
		if err != nil {
			t.Fatal(err)
		}
		sb, err := b.Agree(call, a.Public(), b.Public())
		if err != nil || sa != sb {
			t.Fatalf("the ends differ: %v", err)
		}
		commit := Commit(call, a.Public())
		got = append(got, vector{
			hex.EncodeToString(call[:]), hex.EncodeToString(a.private.Bytes()), hex.EncodeToString(b.private.Bytes()), hex.EncodeToString(a.Public()), hex.EncodeToString(b.Public()),
			hex.EncodeToString(commit[:]), [2]string{hex.EncodeToString(sa.Base(Caller)), hex.EncodeToString(sa.Base(Callee))}, sa.Code(),
		})
	}
	raw, err := json.MarshalIndent(got, "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	raw = append(raw, '\n')
	if *update {
		if err := os.WriteFile("testdata/vectors.json", raw, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile("testdata/vectors.json")
	if err != nil || !bytes.Equal(raw, want) {
		t.Errorf("the derivations changed (%v):\n%s", err, raw)
	}
}

func TestC01EveryInputMatters(t *testing.T) {
	a, b, c := fixed(t, 1), fixed(t, 2), fixed(t, 3)
	base, err := a.Agree(Call{1}, a.Public(), b.Public())
	if err != nil {
		t.Fatal(err)
	}
	for name, s := range map[string]func() (Secrets, error){
		"another call": func() (Secrets, error) { return a.Agree(Call{2}, a.Public(), b.Public()) },
		"another peer": func() (Secrets, error) { return a.Agree(Call{1}, a.Public(), c.Public()) },
		"roles":        func() (Secrets, error) { return a.Agree(Call{1}, b.Public(), a.Public()) },
	} {
		got, err := s()
		if err != nil || got.base[0] == base.base[0] || got.base[1] == base.base[1] {
			t.Errorf("%s: %v", name, err)
		}
	}
	if base.base[0] == base.base[1] {
		t.Error("both senders have one key")
	}
}

func TestC01BadKeys(t *testing.T) {
	a, b := fixed(t, 1), fixed(t, 2)
	off := bytes.Clone(b.Public())
	off[64] ^= 1
	for name, bad := range map[string][]byte{"none": nil, "short": b.Public()[:64], "long": append(b.Public(), 0), "not on the curve": off, "infinity": {0}} {
		if _, err := a.Agree(Call{}, a.Public(), bad); !errors.Is(err, ErrKey) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// Somebody between the two shows each a key of their own. The commitment was
// sent before the callee's key was known, so it fits one key only.
func TestC01WhoeverStandsBetweenIsSeen(t *testing.T) {
	call := Call{9}
	alice, bob, mallory := fixed(t, 1), fixed(t, 2), fixed(t, 3)
	if err := CheckCommit(call, Commit(call, alice.Public()), mallory.Public()); !errors.Is(err, ErrCommitment) {
		t.Errorf("a key that was not announced: %v", err)
	}
	if err := CheckCommit(Call{8}, Commit(call, alice.Public()), alice.Public()); !errors.Is(err, ErrCommitment) {
		t.Errorf("the commitment of another call: %v", err)
	}
	toAlice, err := alice.Agree(call, alice.Public(), mallory.Public())
	if err != nil {
		t.Fatal(err)
	}
	toBob, err := bob.Agree(call, mallory.Public(), bob.Public())
	if err != nil {
		t.Fatal(err)
	}
	if toAlice.Code() == toBob.Code() {
		t.Error("the two codes are equal")
	}
}
