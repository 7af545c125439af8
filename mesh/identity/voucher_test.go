package identity

import (
	"bytes"
	"errors"
	"testing"
	"time"
)

func vouched(t testing.TB) (n *network, v Voucher, s NetworkSecret, admin Certificate) {
	t.Helper()
	n = newNetwork(t, "eagle")
	s = NetworkSecret{Generation: 7, Secret: [32]byte{1, 2, 3}}
	admin = n.admin
	v, err := s.Vouch(n.root.ID(), n.adminKey, 3, admin.NotBefore.Add(time.Hour))
	if err != nil {
		t.Fatal(err)
	}
	return n, v, s, admin
}

func TestVoucher(t *testing.T) {
	n, v, s, admin := vouched(t)
	got, err := ParseVoucher(v.Raw())
	if err != nil {
		t.Fatal(err)
	}
	if got.Generation != 7 || got.After != 3 || !got.At.Equal(admin.NotBefore.Add(time.Hour)) || !got.For(s) {
		t.Errorf("read back as %+v", got)
	}
	if err := got.Verify(n.root.ID(), admin); err != nil {
		t.Errorf("not verified: %v", err)
	}
	if bytes.Contains(v.Raw(), s.Secret[:8]) {
		t.Error("the voucher holds the secret")
	}
	other := s
	other.Secret[31] ^= 1
	later := s
	later.Generation++
	if got.For(other) || got.For(later) {
		t.Error("it is for another secret as well")
	}
}

func TestVoucherRefused(t *testing.T) {
	n, v, s, admin := vouched(t)
	late, err := s.Vouch(n.root.ID(), n.adminKey, 0, admin.NotAfter)
	if err != nil {
		t.Fatal(err)
	}
	weak := admin
	weak.Roles &^= RoleConfig
	stranger, err := NewPrivateKey()
	if err != nil {
		t.Fatal(err)
	}
	forged, err := s.Vouch(n.root.ID(), stranger, 0, v.At)
	if err != nil {
		t.Fatal(err)
	}
	flipped, err := ParseVoucher(append(bytes.Clone(v.Raw()[:len(v.Raw())-1]), v.Raw()[len(v.Raw())-1]^1))
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		v       Voucher
		network NetworkID
		admin   Certificate
		want    error
	}{
		"of another network":       {v, NetworkID{1}, admin, ErrSignature},
		"admin who may not":        {v, n.root.ID(), weak, ErrRole},
		"after the admin's time":   {late, n.root.ID(), admin, ErrRole},
		"by a stranger":            {forged, n.root.ID(), admin, ErrSignature},
		"a bit of the signature":   {flipped, n.root.ID(), admin, ErrSignature},
		"by nobody":                {Voucher{}, n.root.ID(), admin, ErrRole},
		"certificate of no admin":  {v, n.root.ID(), Certificate{Class: ClassUser, Roles: RoleConfig}, ErrRole},
		"never signed, made by us": {Voucher{Generation: 7, Signer: admin.Key.ID(), At: v.At}, n.root.ID(), admin, ErrSignature},
	} {
		t.Run(name, func(t *testing.T) {
			if err := c.v.Verify(c.network, c.admin); !errors.Is(err, c.want) {
				t.Errorf("%v, want %v", err, c.want)
			}
		})
	}
	if _, err := (NetworkSecret{}).Vouch(n.root.ID(), n.adminKey, 0, v.At); !errors.Is(err, ErrMalformed) {
		t.Errorf("generation 0: %v", err)
	}
	if _, err := ParseVoucher(append(v.Raw(), make([]byte, MaxVoucher)...)); !errors.Is(err, ErrMalformed) {
		t.Errorf("too long: %v", err)
	}
}

func FuzzParseVoucher(f *testing.F) {
	_, v, _, _ := vouched(f)
	f.Add(v.Raw())
	f.Add(v.Raw()[:SignatureSize])
	f.Fuzz(func(t *testing.T, raw []byte) {
		v, err := ParseVoucher(raw)
		if err != nil {
			if !errors.Is(err, ErrMalformed) {
				t.Fatalf("%v is not ErrMalformed", err)
			}
			return
		}
		if !bytes.Equal(v.Raw(), raw) || v.Generation == 0 {
			t.Fatalf("read as %+v", v)
		}
	})
}
