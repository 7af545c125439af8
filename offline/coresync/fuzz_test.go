package coresync

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"outrider/mesh/bundle"
	"outrider/mesh/identity"
)

// Whatever lies at the core is a parcel that is what its subject says, or
// ErrMalformed.
func FuzzOpenParcel(f *testing.F) {
	m := mail(f, newTag(), 20)
	r := bundle.NewPurgeRecord(m, aKey)
	f.Add(boxSubject(m.Header.Tag, m.ID()), m.Append(nil))
	f.Add(purgeSubject(r), r.Append(nil))
	f.Fuzz(func(t *testing.T, subject string, data []byte) {
		p, err := openParcel(subject, data)
		switch {
		case err != nil:
			if !errors.Is(err, ErrMalformed) {
				t.Fatalf("%v", err)
			}
		case p.Bundle != nil && p.Bundle.ID() != p.ID, p.Purge != nil && p.Purge.ID() != p.ID, (p.Bundle == nil) == (p.Purge == nil):
			t.Fatalf("%+v", p)
		}
	})
}

// A chunk verifies or is ErrMalformed.
func FuzzOpenChunk(f *testing.F) {
	d, chunks := file(f, 20_000)
	f.Add(0, chunks[0].append(nil))
	f.Add(-1, []byte{0, 0})
	f.Fuzz(func(t *testing.T, index int, data []byte) {
		c, err := openChunk(d, index, data)
		if err != nil && !errors.Is(err, ErrMalformed) || err == nil && string(c.append(nil)) != string(data) {
			t.Fatalf("%v", err)
		}
	})
}

// A question parses to what encodes the same, within its bounds, and so does
// an answer.
func FuzzDeskMessages(f *testing.F) {
	for _, q := range []question{{Ask: askHello}, {Ask: askBoxes, Tags: make([]byte, 16)}, {Ask: askHave, Root: make([]byte, 32)}} {
		raw, err := identity.Marshal(q)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(raw)
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		if q, err := parseQuestion(raw); err == nil {
			again, err := identity.Marshal(q)
			if err != nil || string(again) != string(raw) {
				t.Fatalf("%x becomes %x, %v", raw, again, err)
			}
		} else if !errors.Is(err, ErrMalformed) {
			t.Fatal(err)
		}
		if _, err := parseAnswer(raw); err != nil && !errors.Is(err, ErrMalformed) {
			t.Fatal(err)
		}
		_, _ = readPubAck(raw)
	})
}

// A name in a list is the subject it stands for.
func FuzzNames(f *testing.F) {
	m := mail(f, newTag(), 20)
	for _, s := range []string{boxSubject(m.Header.Tag, m.ID()), retrySubject(m.Header.Tag, m.ID(), 7), purgeSubject(bundle.NewPurgeRecord(m, aKey))} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, subject string) {
		n, err := parseBox(subject)
		if err != nil {
			return
		}
		raw := n.pack()
		got, id, purge, err := unpackName(raw)
		if err != nil || id != n.id || purge != n.purge {
			t.Fatalf("%q: %v %v %v", subject, id, purge, err)
		}
		if back, err := parseBox(got); err != nil || back != n {
			t.Fatalf("%q became %q", subject, got)
		}
	})
}

// The ledger survives restarts, forgets the oldest, and bears with damage.
func TestCoreLedger(t *testing.T) {
	dir, core := t.TempDir(), [16]byte{1}
	key := func(i int) [16]byte { return [16]byte{byte(i), byte(i >> 8), 7} }
	l, err := openLedger(dir, core, 10)
	if err != nil {
		t.Fatal(err)
	}
	for i := range 25 {
		l.Add(key(i))
		l.Add(key(i))
	}
	check := func(l *Ledger) {
		t.Helper()
		if l.Has(key(0)) || !l.Has(key(12)) || !l.Has(key(24)) || l.Len() > 20 {
			t.Errorf("%d entries", l.Len())
		}
	}
	check(l)
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if l, err = openLedger(dir, core, 10); err != nil {
		t.Fatal(err)
	}
	check(l)
	path := l.path("new")
	l.Close()
	raw, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, raw[:len(raw)-3], 0o600); err != nil { // torn by a power cut
		t.Fatal(err)
	}
	if l, err = openLedger(dir, core, 10); err != nil || l.Len() < 10 {
		t.Errorf("%v", err)
	}
	l.Close()
	if err := os.WriteFile(path, []byte("rubbish"), 0o600); err != nil {
		t.Fatal(err)
	}
	if l, err = openLedger(dir, core, 10); err != nil || l.Has(key(24)) {
		t.Errorf("%v", err)
	}
	l.Close()
	other, err := openLedger(dir, [16]byte{2}, 10)
	if err != nil || other.Len() != 0 {
		t.Errorf("another core's ledger has %d entries, %v", other.Len(), err)
	}
	other.Close()
	if err := os.WriteFile(filepath.Join(dir, "f"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := OpenLedger(filepath.Join(dir, "f"), core); err == nil {
		t.Error("a ledger in a file")
	}
}
