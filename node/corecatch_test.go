package node

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"outrider/mesh"
	"outrider/mesh/bundle"
	"outrider/mesh/identity"
	"outrider/offline/coresync"
)

func boxes(tags ...byte) (m coresync.Mailboxes) {
	for _, t := range tags {
		m.Tags = append(m.Tags, identity.Tag{t})
		m.Purges = append(m.Purges, identity.Tag{t, 'p'})
	}
	return m
}

// A mailbox that was not read for a while is listed again, across restarts and
// whatever list was under way.
func TestCoreCaughtForgetsWhatIsNotRead(t *testing.T) {
	path, core, since := filepath.Join(t.TempDir(), "mailboxes"), [16]byte{1}, time.Unix(1_700_000_000, 5)
	open := func(core [16]byte) *caught {
		t.Helper()
		c, err := openCaught(path, core)
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	c := open(core)
	want := func(m coresync.Mailboxes, of ...byte) (asOf int) {
		t.Helper()
		got, asOf := c.behind(m)
		if e := boxes(of...); !slices.Equal(got.Tags, e.Tags) || !slices.Equal(got.Purges, e.Purges) {
			t.Errorf("to be listed: %v, want %v", got, of)
		}
		return asOf
	}
	do := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	do(c.delivered(since))
	c.add(boxes(1, 2, 3), want(boxes(1, 2, 3), 1, 2, 3))
	want(boxes(1, 2, 3, 4), 4)
	c = open(core)
	do(c.delivered(since))
	want(boxes(1, 2, 3, 4), 4)
	if got := c.purges(); len(got) != 3 {
		t.Errorf("purge mailboxes of before: %v", got)
	}

	asOf := want(boxes(1, 2, 4), 4)
	do(c.keep(boxes(1, 2, 4))) // 3 is not read any more, nor its list worth anything
	c.add(boxes(3, 4), asOf)
	want(boxes(1, 2, 3, 4), 3, 4)
	c = open(core)
	want(boxes(1, 2, 3), 3)

	do(c.delivered(since.Add(1))) // the core has lost the consumer
	want(boxes(1, 2), 1, 2)
	c = open(core)
	want(boxes(1, 2), 1, 2)
	c.add(boxes(1, 2), want(boxes(1, 2), 1, 2))
	c = open([16]byte{2})
	want(boxes(1, 2), 1, 2)

	raw, err := os.ReadFile(path)
	do(err)
	for at := range raw {
		damaged := slices.Clone(raw)
		damaged[at] ^= 1
		do(os.WriteFile(path, damaged, 0o600))
		c = open(core)
		want(boxes(1, 2), 1, 2)
		do(os.WriteFile(path, raw[:at], 0o600))
		c = open(core)
		want(boxes(1, 2), 1, 2)
	}
}

// A core with these things in its mailboxes.
type fakeLists map[coresync.Name]error

func (f fakeLists) List(context.Context, coresync.Mailboxes) ([]coresync.Name, error) {
	return slices.Collect(maps.Keys(f)), nil
}

func (f fakeLists) Fetch(_ context.Context, n coresync.Name) (p coresync.Parcel, err error) {
	return p, f[n]
}

// What is malformed or has died is no reason to list its mailbox again and
// again; what could not be fetched is.
func TestCoreMalformedIsListedOnce(t *testing.T) {
	ledger, err := coresync.OpenLedger(t.TempDir(), [16]byte{1})
	if err != nil {
		t.Fatal(err)
	}
	defer ledger.Close()
	done, err := openCaught(filepath.Join(t.TempDir(), "mailboxes"), [16]byte{1})
	if err != nil {
		t.Fatal(err)
	}
	core := fakeLists{
		{Tag: identity.Tag{1}, ID: bundle.ID{1}}:                   coresync.ErrMalformed,
		{Tag: identity.Tag{2}, ID: bundle.ID{2}}:                   coresync.ErrAbsent,
		{Tag: identity.Tag{3, 'p'}, ID: bundle.ID{3}, Purge: true}: fmt.Errorf("wrapped: %w", coresync.ErrMalformed),
	}
	c := &coreLife{lists: core, caught: done, store: newCoreStore(t.Context(), nil, ledger, nil)}
	core[coresync.Name{Tag: identity.Tag{4}}] = io.ErrUnexpectedEOF
	if ok, err := c.catchOne(t.Context(), boxes(1, 2, 3, 4), 0); ok || !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("a broken connection: %v, %v", ok, err)
	}
	if m, _ := done.behind(boxes(1, 2, 3, 4)); len(m.Tags) != 4 {
		t.Errorf("after a broken connection only %v are listed again", m.Tags)
	}
	delete(core, coresync.Name{Tag: identity.Tag{4}})
	if ok, err := c.catchOne(t.Context(), boxes(1, 2, 3, 4), 0); !ok || err != nil {
		t.Errorf("nothing to take: %v, %v", ok, err)
	}
	if m, _ := done.behind(boxes(1, 2, 3, 4)); len(m.Tags)+len(m.Purges) != 0 {
		t.Errorf("listed again: %v", m)
	}
}

// Where a set cannot be written, the old one does not stay either: it would
// name mailboxes with a gap.
func TestCoreCaughtOnAFullDisk(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "mailboxes")
	c, err := openCaught(path, [16]byte{1})
	if err != nil {
		t.Fatal(err)
	}
	c.add(boxes(1, 2), 0)
	if err := os.Mkdir(path+".new", 0o700); err != nil { // nothing can be written beside it
		t.Fatal(err)
	}
	if err := c.keep(boxes(1)); err != nil {
		t.Errorf("keep: %v", err)
	}
	if _, err := os.Stat(path); err == nil {
		t.Error("the old set is still there")
	}
}

// The purge records of a conversation are read on when its last bundle has
// arrived, for a day, and the newest ones if there are too many.
func TestCorePurgesLinger(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ledger, err := coresync.OpenLedger(t.TempDir(), [16]byte{1})
		if err != nil {
			t.Fatal(err)
		}
		defer ledger.Close()
		s := newCoreStore(t.Context(), nil, ledger, nil)
		s.purgesRead([]identity.Tag{{9}})
		put := func(n byte) {
			rec := mesh.Record{ID: bundle.ID{n}, Header: bundle.Header{Tag: identity.Tag{n}}}
			s.item(mesh.PutBundle{Record: rec}, time.Now())
		}
		want := func(most int, of ...byte) {
			t.Helper()
			got := s.purgeTags(most)
			var first []byte
			for _, g := range got {
				first = append(first, g[0])
			}
			slices.Sort(first)
			if !slices.Equal(first, of) {
				t.Errorf("read %v, want %v", first, of)
			}
		}
		time.Sleep(time.Hour)
		put(1)
		time.Sleep(time.Hour)
		put(2)
		s.item(mesh.PutTombstone{Tombstone: mesh.Tombstone{ID: bundle.ID{2}}}, time.Now())
		want(10, 1, 2, 9)
		want(2, 1, 2)
		time.Sleep(purgesLinger)
		want(10, 1, 2) // 1 still lives, 2 is just a day old
		time.Sleep(time.Second)
		want(10, 1)
	})
}

// A node that reads the tag it has written to is given its own bundle and the
// purge record of it: neither takes the other's place.
func TestCoreBundleAndItsPurgeWaitSideBySide(t *testing.T) {
	ledger, err := coresync.OpenLedger(t.TempDir(), [16]byte{1})
	if err != nil {
		t.Fatal(err)
	}
	defer ledger.Close()
	s := newCoreStore(t.Context(), nil, ledger, nil)
	key := bundle.PurgeKey{7}
	b, err := bundle.New(bundle.Header{Version: 1, Tag: identity.Tag{1}, Lifetime: time.Hour, Commitment: key.Commit(identity.Tag{1})}, []byte("x"), 0)
	if err != nil {
		t.Fatal(err)
	}
	id := b.ID()
	parcels := []coresync.Parcel{{ID: id, Bundle: &b}, {ID: id, Purge: &bundle.PurgeRecord{Header: b.Header, Key: key}}}
	for first := range parcels {
		s.take(parcels[first])
		s.take(parcels[1-first])
		if _, _, err := s.Load(t.Context(), id); err != nil {
			t.Errorf("the bundle: %v", err)
		}
		if _, err := s.Tombstone(t.Context(), id); err != nil {
			t.Errorf("its purge record: %v", err)
		}
		if it, _, _ := s.item(mesh.PutTombstone{Tombstone: mesh.Tombstone{ID: id}}, time.Now()); it != nil {
			t.Error("the purge record goes back to where it came from")
		}
		s.drop(parcels[first], false)
		if ids, _ := s.waiting(); len(ids) != 1 || !s.has(coresync.Name{ID: id, Purge: first == 0}) || s.has(coresync.Name{ID: id, Purge: first == 1}) {
			t.Errorf("one is dropped: %d are left", len(ids))
		}
		s.drop(parcels[1-first], false)
	}
}
