package chat

import (
	"errors"
	"strings"
	"testing"
	"testing/synctest"

	"outrider/mesh/identity"
)

func person(t *testing.T, d *device, id identity.UserID) Person {
	t.Helper()
	all, err := d.session().People(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range all {
		if p.ID == id {
			return p
		}
	}
	t.Fatal("the person is not known")
	return Person{}
}

func TestKeysOfPeople(t *testing.T) {
	scene(t, func(t *testing.T, p *pair) {
		synctest.Wait()
		bob := person(t, p.da, p.bob.id)
		if len(bob.Fingerprint) != 35 || strings.Count(bob.Fingerprint, " ") != 5 || bob.Verified || bob.KeyChanged || bob.Frozen {
			t.Fatalf("Bob: %+v", bob)
		}
		if self := person(t, p.da, p.alice.id); self.Fingerprint == bob.Fingerprint || self.KeyChanged {
			t.Errorf("Alice: %+v", self)
		}
		s := p.da.session()
		if got, err := s.Trust(t.Context(), p.bob.id, bob.Fingerprint, true); err != nil || !got.Verified {
			t.Fatalf("compared: %+v, %v", got, err)
		}
		p.a.restart()
		if bob := person(t, p.da, p.bob.id); !bob.Verified || bob.KeyChanged {
			t.Errorf("after a restart: %+v", bob)
		}

		p.world.change(func() { p.bob.key = must(identity.NewPrivateKey()) })
		p.a.rosterChanged()
		synctest.Wait()
		s = p.da.session()
		other := person(t, p.da, p.bob.id)
		if !other.KeyChanged || other.Verified || other.Fingerprint == bob.Fingerprint {
			t.Errorf("with another key: %+v", other)
		}
		if _, err := s.Trust(t.Context(), p.bob.id, bob.Fingerprint, true); !errors.Is(err, ErrOtherKey) {
			t.Errorf("the old fingerprint was taken: %v", err)
		}
		p.a.restart() // a start takes note of nobody's new key by itself
		if other := person(t, p.da, p.bob.id); !other.KeyChanged {
			t.Errorf("forgotten over a restart: %+v", other)
		}
		if got, err := p.da.session().Trust(t.Context(), p.bob.id, other.Fingerprint, false); err != nil || got.KeyChanged || got.Verified {
			t.Errorf("taken note of: %+v, %v", got, err)
		}
		s = p.da.session()
		if _, err := s.Trust(t.Context(), p.alice.id, person(t, p.da, p.alice.id).Fingerprint, true); !errors.Is(err, ErrInvalid) {
			t.Errorf("one's own key: %v", err)
		}
		if _, err := s.Trust(t.Context(), identity.UserID{9}, "x", true); !errors.Is(err, ErrNotFound) {
			t.Errorf("nobody: %v", err)
		}
	})
}

func FuzzTrust(f *testing.F) {
	f.Add(trust{key: identity.PublicKey{1}, verified: true}.encode())
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, b []byte) {
		if tr, ok := parseTrust(b); ok {
			if again, ok := parseTrust(tr.encode()); !ok || again != tr {
				t.Errorf("%x became %+v", b, again)
			}
		}
	})
}
