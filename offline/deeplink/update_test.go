package deeplink

import (
	"bytes"
	"errors"
	"strings"
	"testing"
	"time"

	"outrider/mesh/identity"
	"outrider/mesh/identity/kdf"
)

func newUpdate(t testing.TB) (issuer, Update) {
	t.Helper()
	is := newIssuer()
	c, err := identity.SignedConfig{
		Scope: "convoy", Sequence: 2, Handout: identity.HandedOut, NotBefore: epoch, Expires: epoch.Add(24 * time.Hour), Body: []byte{0xa0},
	}.Sign(is.root.ID(), is.key)
	if err != nil {
		t.Fatal(err)
	}
	return is, Update{Config: c, Admin: is.admin}
}

var secretOfThree = identity.NetworkSecret{Generation: 1<<24 + 3, Secret: [32]byte{5}}

// TestP02UpdateRoundTrip: under a password and to the network, through a link,
// a QR code's text and a file's bytes.
func TestP02UpdateRoundTrip(t *testing.T) {
	is, u := newUpdate(t)
	locked, err := SealUpdate(t.Context(), u, is.key, password, kdf.Floor())
	if err != nil {
		t.Fatal(err)
	}
	open, err := SealUpdateTo(u, is.key, secretOfThree)
	if err != nil {
		t.Fatal(err)
	}
	if !NeedsPassword(locked) || NeedsPassword(open) || !IsUpdate(locked) || !IsUpdate(open) {
		t.Error("the frames do not say what they are")
	}
	if _, err := QR(Link(locked)); err != nil {
		t.Errorf("a small config of %d bytes fits no QR code: %v", len(locked), err)
	}
	for name, text := range map[string]string{"link": Link(locked), "short link": ShortLink(locked), "file": string(locked), "open": Link(open)} {
		frame, err := DecodeLink(text)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		got, err := OpenUpdate(t.Context(), frame, password, []identity.NetworkSecret{{Generation: 2}, secretOfThree})
		if err != nil || !bytes.Equal(got.Config.Raw(), u.Config.Raw()) || !bytes.Equal(got.Admin.Raw(), u.Admin.Raw()) {
			t.Errorf("%s: %v", name, err)
		}
		if err := got.Chain().Authenticate(is.root); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestP02UpdateRefused(t *testing.T) {
	is, u := newUpdate(t)
	locked, err := SealUpdate(t.Context(), u, is.key, password, kdf.Floor())
	if err != nil {
		t.Fatal(err)
	}
	open, err := SealUpdateTo(u, is.key, secretOfThree)
	if err != nil {
		t.Fatal(err)
	}
	_, j := newJoin(t, both, "192.0.2.1:1")
	join := seal(t, is, j)
	stranger, err := identity.NewPrivateKey()
	if err != nil {
		t.Fatal(err)
	}
	forged, err := SealUpdateTo(u, stranger, secretOfThree)
	if err != nil {
		t.Fatal(err)
	}
	asUpdate := sealFrameOf(t, is, flagUpdate, j) // a join object behind the other flag
	for name, c := range map[string]struct {
		frame    []byte
		password string
		secret   identity.NetworkSecret
		err      error
	}{
		"wrong password":      {locked, "another password", secretOfThree, ErrPassword},
		"other secret":        {open, "", identity.NetworkSecret{Generation: secretOfThree.Generation, Secret: [32]byte{6}}, ErrSecret},
		"other generation":    {open, "", identity.NetworkSecret{Generation: 4, Secret: [32]byte{5}}, ErrSecret},
		"a join link":         {join, string(password), secretOfThree, ErrIsJoin},
		"a join as an update": {asUpdate, string(password), secretOfThree, ErrDamaged},
		"somebody's frame":    {forged, "", secretOfThree, ErrIssuer},
		"truncated":           {open[:len(open)-1], "", secretOfThree, ErrDamaged},
		"too large":           {make([]byte, MaxFrame+1), "", secretOfThree, ErrTooLarge},
	} {
		if _, err := OpenUpdate(t.Context(), c.frame, []byte(c.password), []identity.NetworkSecret{c.secret}); !errors.Is(err, c.err) {
			t.Errorf("%s: %v, want %v", name, err, c.err)
		}
	}
	if _, _, err := OpenJoin(t.Context(), Link(locked), password, noon); !errors.Is(err, ErrIsUpdate) || !strings.Contains(err.Error(), "config apply") {
		t.Errorf("an update given to join: %v", err)
	}
	flag := appendCheck(append(append(bytes.Clone(locked[:3]), locked[3]&^flagUpdate), locked[4:len(locked)-checkSize]...))
	if _, _, err := OpenJoin(t.Context(), Link(flag), password, noon); err == nil {
		t.Error("an update whose flag was taken off was taken for a join")
	}
	big := u
	big.Config.Body = nil
	c, err := identity.SignedConfig{Scope: "g", Sequence: 1, Handout: identity.Pushed, NotBefore: epoch, Body: make([]byte, identity.MaxConfig-200)}.Sign(is.root.ID(), is.key)
	if err != nil {
		t.Fatal(err)
	}
	big.Config = c
	frame, err := SealUpdateTo(big, is.key, secretOfThree)
	if err != nil {
		t.Fatalf("the largest config: %v", err)
	}
	if _, err := QR(Link(frame)); !errors.Is(err, ErrTooLarge) {
		t.Errorf("as a QR code: %v", err)
	}
}

func sealFrameOf(t *testing.T, is issuer, flags byte, j Join) []byte {
	t.Helper()
	content, err := NewJoin(j)
	if err != nil {
		t.Fatal(err)
	}
	frame, err := sealFrame(t.Context(), content, is.key, password, kdf.Floor(), flags)
	if err != nil {
		t.Fatal(err)
	}
	return frame
}

func FuzzParseUpdate(f *testing.F) {
	is, u := newUpdate(f)
	content, err := u.content()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(content)
	f.Fuzz(func(t *testing.T, b []byte) {
		signed := sign(b, is.key)
		got, err := parseUpdate(Frame{Issuer: is.key.Public().ID(), content: b, sig: signed[len(signed)-identity.SignatureSize:]})
		if err != nil {
			if !errors.Is(err, ErrDamaged) && !errors.Is(err, ErrVersion) && !errors.Is(err, ErrIssuer) {
				t.Fatal(err)
			}
			return
		}
		if again, err := got.content(); err != nil || !bytes.Equal(again, b) {
			t.Fatalf("accepted, but written differently: %v", err)
		}
	})
}
