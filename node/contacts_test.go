package node

import (
	"context"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"outrider/node/api"
	"outrider/store"
)

func quietLog() *slog.Logger { return slog.New(slog.DiscardHandler) }

func none() (tx, rx uint64) { return 0, 0 }

func openContacts(t *testing.T, dir string) (*contacts, *store.Store) {
	t.Helper()
	s, err := store.Open(dir, store.Options{})
	if err != nil {
		t.Fatal(err)
	}
	c := newContacts(s, time.Now, quietLog())
	if err := c.load(); err != nil {
		t.Fatal(err)
	}
	return c, s
}

func closeStore(t *testing.T, s *store.Store) {
	t.Helper()
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
}

// What was written is there after a restart; a contact that lasted when the
// node died ended when it was last written.
func TestContactsOverRestarts(t *testing.T) {
	dir := t.TempDir()
	c, s := openContacts(t, dir)
	a, b := madeUpNode(1), madeUpNode(2)
	c.opened(a, "192.0.2.1:7411", "radio", func() (uint64, uint64) { return 7, 8 })
	c.closed(a)
	c.opened(b, "192.0.2.2:7411", "lan", func() (uint64, uint64) { return 100, 200 })
	c.save(t.Context())
	died := time.Now()
	closeStore(t, s)

	c, s = openContacts(t, dir)
	got := c.history()
	if len(got) == 2 && got[0].Peer == a { // both began in the same millisecond
		got[0], got[1] = got[1], got[0]
	}
	if len(got) != 2 || got[0].Peer != b || got[1].Peer != a {
		t.Fatalf("history %+v", got)
	}
	if k := got[1]; k.TxBytes != 7 || k.RxBytes != 8 || k.Class != "radio" || k.Times != 1 || k.End.IsZero() {
		t.Errorf("a contact that ended: %+v", k)
	}
	if k := got[0]; k.TxBytes != 100 || k.End.IsZero() || k.End.After(died) || died.Sub(k.End) > time.Minute {
		t.Errorf("a contact that lasted when the node died at %v: %+v", died, k)
	}
	c.save(t.Context())
	if err := s.Commit(t.Context(), store.PutKV{Bucket: bucketContacts, Key: "short", Value: []byte("x")}); err != nil {
		t.Fatal(err)
	}
	closeStore(t, s)

	c, s = openContacts(t, dir) // what cannot be read stops nobody, and goes
	if n := len(c.history()); n != 2 {
		t.Errorf("%d contacts beside an unreadable one", n)
	}
	c.save(t.Context())
	for kv, err := range s.List(bucketContacts, "short") {
		t.Errorf("%q is still there, %v", kv.Key, err)
	}
	closeStore(t, s)
}

func TestShortInterruptionsAreOneContact(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newContacts(nil, time.Now, quietLog())
		a := madeUpNode(1)
		began := time.Now()
		for range 3 {
			c.opened(a, "x", "lan", func() (uint64, uint64) { return 10, 1 })
			time.Sleep(time.Second)
			c.closed(a)
			time.Sleep(contactPause - time.Second)
		}
		got := c.history()
		if len(got) != 1 || got[0].Times != 3 || got[0].TxBytes != 30 || got[0].RxBytes != 3 || !got[0].Start.Equal(began) {
			t.Fatalf("history %+v", got)
		}
		time.Sleep(time.Second)
		c.opened(a, "x", "lan", none)
		if got := c.history(); len(got) != 2 || !got[0].End.IsZero() {
			t.Errorf("after a longer one: %+v", got)
		}
	})
}

func TestContactsAreForgotten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newContacts(nil, time.Now, quietLog())
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- c.run(ctx) }()
		lasting := madeUpNode(0)
		c.opened(lasting, "x", "lan", none)
		for i := range maxContacts {
			c.opened(madeUpNode(i+1), "x", "lan", none)
			c.closed(madeUpNode(i + 1))
			time.Sleep(time.Second)
		}
		got := c.history()
		if len(got) != maxContacts || got[len(got)-1].Peer != lasting || got[len(got)-2].Peer != madeUpNode(2) {
			t.Errorf("%d contacts, the first are %v and %v", len(got), got[len(got)-1].Peer.Short(), got[len(got)-2].Peer.Short())
		}
		time.Sleep(api.ContactsKept)
		if got := c.history(); len(got) != 1 || got[0].Peer != lasting || !got[0].End.IsZero() {
			t.Errorf("after a day: %+v", got)
		}
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

// A history that cannot be written is written later.
func TestContactsAreWrittenAgain(t *testing.T) {
	dir := t.TempDir()
	c, s := openContacts(t, dir)
	c.opened(madeUpNode(1), "x", "lan", none)
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	c.save(gone) // fails, or is written: both are right
	c.save(t.Context())
	closeStore(t, s)
	c, s = openContacts(t, dir)
	defer closeStore(t, s)
	if n := len(c.history()); n != 1 {
		t.Errorf("%d contacts", n)
	}
}

func FuzzNearness(f *testing.F) {
	f.Add(nearnessKey(madeUpNode(1), time.UnixMilli(5)), []byte{0xa1, 0x03, 0x05})
	f.Add("", []byte{})
	f.Add(strings.Repeat("k", 41), []byte{0xff})
	f.Fuzz(func(t *testing.T, key string, value []byte) {
		n, err := parseNearness(key, value)
		if err == nil && nearnessKey(n.peer, n.start) != key {
			t.Errorf("%x became %x", key, nearnessKey(n.peer, n.start))
		}
	})
}
