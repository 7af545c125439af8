package identity

import (
	"bytes"
	"errors"
	"strings"
	"testing"
	"time"
)

func someConfig() SignedConfig {
	return SignedConfig{
		Scope: "convoy", Sequence: 4, Supersedes: [32]byte{1}, Handout: HandedOut, NotBefore: epoch.Add(time.Hour), Expires: epoch.Add(48 * time.Hour),
		MaxAge: 24 * time.Hour, Body: []byte{0xa0},
	}
}

func TestP05SignedConfig(t *testing.T) {
	n := newNetwork(t, "eagle")
	c, err := someConfig().Sign(n.root.ID(), n.adminKey)
	if err != nil {
		t.Fatal(err)
	}
	got, err := ParseConfig(c.Raw())
	if err != nil {
		t.Fatal(err)
	}
	want := someConfig()
	if got.Issuer != n.adminKey.Public().ID() || got.Scope != want.Scope || got.Sequence != 4 || got.Supersedes != want.Supersedes || !got.NotBefore.Equal(want.NotBefore) ||
		!got.Expires.Equal(want.Expires) || got.MaxAge != want.MaxAge || !bytes.Equal(got.Body, want.Body) || got.Handout != HandedOut || got.Hash() != c.Hash() {
		t.Errorf("read back as %+v", got)
	}
	if err := got.Verify(n.root.ID(), n.admin); err != nil {
		t.Errorf("not verified: %v", err)
	}
}

// Each byte counts, and so do network, key, role and validity of the admin.
func TestP05SignedConfigRefused(t *testing.T) {
	n, other := newNetwork(t, "eagle"), newNetwork(t, "raven")
	c, err := someConfig().Sign(n.root.ID(), n.adminKey)
	if err != nil {
		t.Fatal(err)
	}
	for i := range c.Raw() {
		bad := bytes.Clone(c.Raw())
		bad[i] ^= 1
		if got, err := ParseConfig(bad); err == nil && got.Verify(n.root.ID(), n.admin) == nil {
			t.Fatalf("byte %d does not count", i)
		}
		if _, err := ParseConfig(c.Raw()[:i]); !errors.Is(err, ErrMalformed) {
			t.Fatalf("%d bytes of it: %v", i, err)
		}
	}
	weak := n.admin
	weak.Roles &^= RoleConfig
	early, late := someConfig(), someConfig()
	early.NotBefore = n.admin.NotBefore.Add(-2 * time.Hour)
	late.NotBefore, late.Expires = n.admin.NotAfter, n.admin.NotAfter.Add(time.Hour)
	sign := func(c SignedConfig, key PrivateKey) SignedConfig {
		t.Helper()
		c, err := c.Sign(n.root.ID(), key)
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	for name, x := range map[string]struct {
		c       SignedConfig
		network NetworkID
		admin   Certificate
		err     error
	}{
		"another network":        {c, other.root.ID(), n.admin, ErrSignature},
		"without the role":       {c, n.root.ID(), weak, ErrRole},
		"by a user":              {sign(someConfig(), n.userKey), n.root.ID(), n.user, ErrRole},
		"another key":            {sign(someConfig(), n.userKey), n.root.ID(), n.admin, ErrSignature},
		"before the certificate": {sign(early, n.adminKey), n.root.ID(), n.admin, ErrRole},
		"after the certificate":  {sign(late, n.adminKey), n.root.ID(), n.admin, ErrRole},
	} {
		if err := x.c.Verify(x.network, x.admin); !errors.Is(err, x.err) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestP05SignedConfigLimits(t *testing.T) {
	n := newNetwork(t, "eagle")
	for name, change := range map[string]func(*SignedConfig){
		"no scope":            func(c *SignedConfig) { c.Scope = "" },
		"scope too long":      func(c *SignedConfig) { c.Scope = strings.Repeat("x", MaxScope+1) },
		"sequence 0":          func(c *SignedConfig) { c.Sequence = 0 },
		"no way":              func(c *SignedConfig) { c.Handout = 0 },
		"an unknown way":      func(c *SignedConfig) { c.Handout = 3 },
		"before 1970":         func(c *SignedConfig) { c.NotBefore = time.Unix(-60, 0) },
		"ends at its begin":   func(c *SignedConfig) { c.Expires = c.NotBefore },
		"handed out for ever": func(c *SignedConfig) { c.Expires = time.Time{} },
		"negative age":        func(c *SignedConfig) { c.MaxAge = -time.Minute },
		"no body":             func(c *SignedConfig) { c.Body = nil },
		"too large":           func(c *SignedConfig) { c.Body = make([]byte, MaxConfig) },
	} {
		c := someConfig()
		change(&c)
		if _, err := c.Sign(n.root.ID(), n.adminKey); !errors.Is(err, ErrMalformed) {
			t.Errorf("%s: %v", name, err)
		}
	}
	c := someConfig()
	c.Scope = strings.Repeat("x", MaxScope)
	s, err := c.Sign(n.root.ID(), n.adminKey)
	if err != nil {
		t.Fatal(err)
	}
	c.Body = make([]byte, MaxConfig-len(s.Raw())-1) // the length takes two bytes more, the one body byte is gone
	if s, err = c.Sign(n.root.ID(), n.adminKey); err != nil || len(s.Raw()) != MaxConfig {
		t.Errorf("the largest: %d bytes, %v", len(s.Raw()), err)
	}
}

func FuzzParseConfig(f *testing.F) {
	n := newNetwork(f, "eagle")
	for _, h := range []Handout{HandedOut, Pushed} {
		c := someConfig()
		c.Handout = h
		c, err := c.Sign(n.root.ID(), n.adminKey)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(c.Raw())
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		c, err := ParseConfig(b)
		if err != nil {
			if !errors.Is(err, ErrMalformed) {
				t.Fatal(err)
			}
			return
		}
		if !bytes.Equal(c.Raw(), b) {
			t.Fatal("accepted, but not kept")
		}
		again, err := c.Sign(n.root.ID(), n.adminKey)
		if err != nil || len(again.Raw()) != len(b) {
			t.Fatalf("is written differently: %v", err)
		}
		_, _ = c.CheckTime(noon)
	})
}
