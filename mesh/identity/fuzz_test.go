package identity

import (
	"bytes"
	"errors"
	"testing"
)

// The property of every decoder: what it accepts it writes again byte for
// byte, and everything else is refused as malformed (or for a role that the
// class cannot bear, or a signature that a root record must bring along).

func FuzzCertificate(f *testing.F) {
	for _, c := range newNetwork(f, "eagle").chains {
		f.Add(c.Leaf().Raw())
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		c, err := ParseCertificate(b)
		if err != nil {
			if !errors.Is(err, ErrMalformed) && !errors.Is(err, ErrRole) {
				t.Fatal(err)
			}
			return
		}
		if !bytes.Equal(c.Raw(), b) || c.check() != nil {
			t.Fatal("accepted, but not kept")
		}
		c.CheckTime(noon)
		c.UserID()
	})
}

func FuzzChain(f *testing.F) {
	n := newNetwork(f, "eagle")
	for _, c := range n.chains {
		f.Add(c.Marshal())
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		c, err := ParseChain(b)
		if err != nil {
			if !errors.Is(err, ErrMalformed) && !errors.Is(err, ErrRole) {
				t.Fatal(err)
			}
			return
		}
		if !bytes.Equal(c.Marshal(), b) {
			t.Fatal("accepted, but written differently")
		}
		c.Verify(n.root, noon)
	})
}

func FuzzRoot(f *testing.F) {
	f.Add(newNetwork(f, "eagle").root.Raw())
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := ParseRoot(b)
		if err != nil {
			if !errors.Is(err, ErrMalformed) && !errors.Is(err, ErrSignature) {
				t.Fatal(err)
			}
			return
		}
		if !bytes.Equal(r.Raw(), b) || CheckNetworkName(r.Name()) != nil {
			t.Fatal("accepted, but not kept")
		}
	})
}

// FuzzRootBody goes where only the holder of the root keys could: behind the
// signatures.
func FuzzRootBody(f *testing.F) {
	var w rootWire
	if err := Unmarshal(newNetwork(f, "eagle").root.Raw(), &w); err != nil {
		f.Fatal(err)
	}
	f.Add(w.Body)
	f.Fuzz(func(t *testing.T, b []byte) {
		body, err := parseRootBody(b)
		if err != nil && !errors.Is(err, ErrMalformed) {
			t.Fatal(err)
		}
		if err == nil && body.Preset.MaxDelay() == 0 {
			t.Fatal("accepted an unknown preset")
		}
	})
}

func FuzzPrekey(f *testing.F) {
	n := newNetwork(f, "eagle")
	p, err := PrekeyBundle{Number: 1, NotBefore: epoch, NotAfter: epoch.AddDate(0, 0, 7), KEM: 1, Public: []byte("key")}.Sign(n.root.ID(), n.deviceKey)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(p.Raw())
	f.Fuzz(func(t *testing.T, b []byte) {
		p, err := ParsePrekey(b)
		if err != nil {
			if !errors.Is(err, ErrMalformed) {
				t.Fatal(err)
			}
			return
		}
		if !bytes.Equal(p.Raw(), b) || p.check() != nil {
			t.Fatal("accepted, but not kept")
		}
		p.Verify(n.root.ID(), n.deviceKey.Public())
	})
}

func FuzzCompactDelegate(f *testing.F) {
	n := newNetwork(f, "eagle")
	b, err := CompactDelegate(n.delegate)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	f.Fuzz(func(t *testing.T, b []byte) {
		c, err := ExpandDelegate(b, n.delegateKey.Public(), n.adminKey.Public().ID())
		if err != nil {
			if !errors.Is(err, ErrMalformed) && !errors.Is(err, ErrRole) {
				t.Fatal(err)
			}
			return
		}
		if again, err := CompactDelegate(c); err != nil || !bytes.Equal(again, b) {
			t.Fatalf("accepted, but written differently: %v", err)
		}
	})
}

func FuzzIDs(f *testing.F) {
	f.Add(seeded("id").Public().NodeID().String())
	f.Fuzz(func(t *testing.T, s string) {
		id, err := ParseNodeID(s)
		if err != nil {
			if !errors.Is(err, ErrMalformed) {
				t.Fatal(err)
			}
			return
		}
		if again, err := ParseNodeID(id.String()); err != nil || again != id {
			t.Fatal("does not come back")
		}
	})
}
