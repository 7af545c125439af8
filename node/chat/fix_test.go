package chat

import (
	"bytes"
	"errors"
	"math"
	"strings"
	"testing"
	"time"
)

// L01: what a device knows beyond the place arrives.
func TestFixRoundTrip(t *testing.T) {
	at := time.UnixMilli(1_700_000_000_123)
	in := Location{Lat: 1, Lon: 2, Live: true, Note: "rally", Fix: &Fix{
		At: at, Holds: 75 * time.Second, Until: at.Add(8 * time.Hour), AltitudeM: -4.5, CourseDeg: 359.99, SpeedMS: 1.25, Source: SourceGPS, Callsign: "VIPER-2",
	}}
	b, err := encodeLocation(in, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	got := locationView(b)
	if got == nil || got.Note != "rally" || !got.Fix.At.Equal(at) {
		t.Fatalf("%+v", got)
	}
	if !got.Fix.Until.Equal(in.Fix.Until) {
		t.Errorf("it ends at %v, want %v", got.Fix.Until, in.Fix.Until)
	}
	got.Fix.At, got.Fix.Until = at, in.Fix.Until
	if *got.Fix != *in.Fix {
		t.Errorf("%+v became %+v", *in.Fix, *got.Fix)
	}
	nothing := Location{Fix: &Fix{AltitudeM: math.NaN(), CourseDeg: math.NaN(), SpeedMS: math.Inf(1)}}
	if b, err = encodeLocation(nothing, at); err != nil {
		t.Fatal(err)
	}
	if got := locationView(b).Fix; !math.IsNaN(got.AltitudeM) || !math.IsNaN(got.CourseDeg) || got.SpeedMS != 655.34 || !got.At.Equal(at) {
		t.Errorf("%+v", got)
	}
	for _, callsign := range []string{"a\nb", strings.Repeat("x", MaxCallsign+1), "\xff"} {
		if _, err := encodeLocation(Location{Fix: &Fix{Callsign: callsign}}, at); !errors.Is(err, ErrInvalid) {
			t.Errorf("callsign %q: %v", callsign, err)
		}
	}
	if bytes.Equal(in.hash(), Location{Lat: 1, Lon: 2, Live: true, Note: "rally"}.hash()) {
		t.Error("the act does not see the fix")
	}
}

// Keys that were wrapped open with the secret and for their user only.
func TestWrappedKeys(t *testing.T) {
	w := newWorld(t)
	u := w.user("alice")
	d := w.device(u, w.node("a"))
	secret := newKey()
	sealed, err := WrapKeys(u.id, secret, d.keys)
	if err != nil {
		t.Fatal(err)
	}
	got, err := UnwrapKeys(u.id, secret, sealed)
	if err != nil || got.KEK != d.keys.KEK || got.Device.Seed() != d.keys.Device.Seed() {
		t.Fatalf("%v", err)
	}
	damaged := bytes.Clone(sealed)
	damaged[len(damaged)-1] ^= 1
	for name, open := range map[string]func() (Keys, error){
		"another secret": func() (Keys, error) { return UnwrapKeys(u.id, newKey(), sealed) },
		"another user":   func() (Keys, error) { return UnwrapKeys(w.user("bob").id, secret, sealed) },
		"damaged":        func() (Keys, error) { return UnwrapKeys(u.id, secret, damaged) },
		"cut":            func() (Keys, error) { return UnwrapKeys(u.id, secret, sealed[:11]) },
		"nothing":        func() (Keys, error) { return UnwrapKeys(u.id, secret, nil) },
	} {
		if _, err := open(); !errors.Is(err, ErrPassword) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
