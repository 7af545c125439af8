package store_test

import (
	"testing"

	"outrider/mesh/bundle"
	"outrider/store"
	"outrider/store/storetest"
)

// Every decoder of what lies on disk: it either says ErrCorrupt (or, for an
// anchor, that there is none), or what it returns encodes to the same bytes.

func FuzzRecord(f *testing.F) {
	p := storetest.Draft{Payload: []byte("x"), Meta: store.Meta{Own: true, Ingress: [32]byte{1}, Supersede: [16]byte{2}, Extra: []byte("e")}}.Put(f)
	f.Add(store.EncodeRecord(p.Record))
	f.Add(store.EncodeRecord(store.Record{Hop: bundle.Hop{Age: 1, Count: 2, Budget: 3}}))
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, raw []byte) { same(t, raw, store.RecodeRecord) })
}

func FuzzPurge(f *testing.F) {
	p := storetest.Draft{Payload: []byte("x")}.Put(f)
	f.Add(store.EncodePurge(storetest.Purge(f, p, store.Meta{Due: 3, Extra: []byte("e")})))
	f.Add([]byte{1, 0, 0})
	f.Fuzz(func(t *testing.T, raw []byte) { same(t, raw, store.RecodePurge) })
}

func FuzzState(f *testing.F) {
	f.Add(make([]byte, 40))
	f.Add([]byte{0, 0, 0, 9, 0, 0, 0, 3})
	f.Add(make([]byte, 24))
	f.Fuzz(func(t *testing.T, raw []byte) {
		same(t, raw, store.RecodeCounters)
		same(t, raw, store.RecodeSegmentState)
		same(t, raw, store.RecodeWhere)
	})
}

func FuzzVaultPage(f *testing.F) {
	for _, page := range store.SamplePages() {
		f.Add(page)
	}
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, raw []byte) { same(t, raw, store.RecodePage) })
}

func FuzzVaultAnchor(f *testing.F) {
	f.Add(store.SampleAnchor(kek))
	f.Add(make([]byte, 512))
	f.Fuzz(func(t *testing.T, raw []byte) {
		if err := store.OpenSomeAnchor(raw, kek); err == nil && len(raw) != 512 {
			t.Fatalf("an anchor of %d bytes", len(raw))
		}
	})
}

func FuzzBlobProofs(f *testing.F) {
	s := newSample(f, 1, 40*16384)
	f.Add(store.SampleProofs(s.Descriptor, s.hashes), false)
	f.Add(store.SampleProofs(s.Descriptor, s.hashes), true)
	f.Add(make([]byte, 2048), true)
	f.Fuzz(func(t *testing.T, raw []byte, correct bool) {
		if correct { // or hardly anything gets past the checks
			store.CorrectChecks(raw)
		}
		if err := store.ReadProofs(raw); err != nil {
			t.Fatal(err)
		}
	})
}

func same(t *testing.T, raw []byte, recode func([]byte) ([]byte, error)) {
	t.Helper()
	again, err := recode(raw)
	if err != nil {
		wantErr(t, err, store.ErrCorrupt)
		return
	}
	if string(again) != string(raw) {
		t.Fatalf("%x decodes, and encodes as %x", raw, again)
	}
}
