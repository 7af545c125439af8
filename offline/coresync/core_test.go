package coresync

import (
	"bytes"
	"log/slog"
	"testing"

	"outrider/mesh/bundle"
	"outrider/mesh/identity"
)

// A bundle goes into a mailbox and out of it, once, however often it is put;
// what lay there before its reader named the mailbox is listed and fetched.
func TestCoreBundleCrossesOnce(t *testing.T) {
	a, b := edge(t, "cross-a"), edge(t, "cross-b")
	tag, other := newTag(), newTag()
	ctx := patiently(t)
	first, second, foreign := mail(t, tag, 1000), mail(t, tag, bundle.MaxPayload), mail(t, other, 10)
	if f := put(t, a, Item{Bundle: &first}); f != Stored {
		t.Fatalf("fate %d", f)
	}
	put(t, a, Item{Bundle: &foreign})
	watch(t, b, Mailboxes{Tags: []identity.Tag{newTag()}})
	in := pulling(t, b)
	watch(t, b, Mailboxes{Tags: []identity.Tag{tag}})
	put(t, a, Item{Bundle: &second})
	for range 3 {
		if f := put(t, a, Item{Bundle: &second}); f != Present {
			t.Fatalf("put again: fate %d", f)
		}
	}
	until(t, "the second bundle arrives", func() bool { return in.count(second.ID()) == 1 })
	names, err := b.List(ctx, Mailboxes{Tags: []identity.Tag{tag}, Purges: []identity.Tag{tag}})
	if err != nil || len(names) != 2 {
		t.Fatalf("%v, %v", names, err)
	}
	for _, n := range names {
		p, err := b.Fetch(ctx, n)
		if err != nil || p.Bundle == nil || p.ID != n.ID || n.Tag != tag || p.ID != first.ID() && p.ID != second.ID() {
			t.Errorf("%+v, %v", p, err)
		}
	}
	if got := in.parcel(second.ID()).Bundle; !bytes.Equal(got.Payload, second.Payload) || !bytes.Equal(got.Header.Raw(), second.Header.Raw()) {
		t.Error("the bundle came changed")
	}
	if in.count(foreign.ID()) != 0 || in.len() != 1 {
		t.Error("somebody else's mail was delivered")
	}
	if st := a.Status(); st.Stored != 3 || st.Present != 3 || !st.Up || st.Core == [16]byte{} {
		t.Errorf("status %+v", st)
	}
}

// What comes into a mailbox while it is not read is never delivered: it is only
// in the list. A node can tell from the time that Watch returns when the core
// has begun anew, and from its own sets when it has not read for a while.
func TestCoreGapIsListed(t *testing.T) {
	a, b := edge(t, "gap-a"), edge(t, "gap-b")
	tag, other := newTag(), newTag()
	since := watch(t, b, Mailboxes{Tags: []identity.Tag{tag}})
	in := pulling(t, b)
	first, missed, last := mail(t, tag, 10), mail(t, tag, 20), mail(t, tag, 30)
	put(t, a, Item{Bundle: &first})
	until(t, "the first arrives", func() bool { return in.count(first.ID()) == 1 })
	if again := watch(t, b, Mailboxes{Tags: []identity.Tag{other}}); since.IsZero() || !again.Equal(since) {
		t.Errorf("other mailboxes: since %v, then %v", since, again)
	}
	put(t, a, Item{Bundle: &missed})
	mark := mail(t, other, 10)
	put(t, a, Item{Bundle: &mark})
	until(t, "what comes behind it arrives", func() bool { return in.count(mark.ID()) == 1 })
	if again := watch(t, b, Mailboxes{Tags: []identity.Tag{tag, other}, Again: true}); !again.Equal(since) {
		t.Errorf("read again: since %v, then %v", since, again)
	}
	put(t, a, Item{Bundle: &last})
	until(t, "the last arrives", func() bool { return in.count(last.ID()) == 1 })
	if in.count(missed.ID()) != 0 {
		t.Error("the core delivers what came before; then lists are not needed")
	}
	names, err := b.List(patiently(t), Mailboxes{Tags: []identity.Tag{tag}})
	if err != nil || len(names) != 3 {
		t.Errorf("%d names, %v", len(names), err)
	}

	d := cluster(t)
	desk, err := d.desk(slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	nc, err := desk.connect()
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	if err := desk.js.DeleteConsumer(patiently(t), streamBox, consumerOf(b.Node())); err != nil {
		t.Fatal(err)
	}
	if anew := watch(t, b, Mailboxes{Tags: []identity.Tag{tag}}); !anew.After(since) {
		t.Errorf("after the core has lost the consumer: since %v, before %v", anew, since)
	}
}

// A purge record finds whoever waits for it by the bundle's tag.
func TestCorePurgeRecordGoesBack(t *testing.T) {
	a, b := edge(t, "purge-a"), edge(t, "purge-b")
	tag := newTag()
	m := mail(t, tag, 100)
	put(t, a, Item{Bundle: &m})
	watch(t, a, Mailboxes{Purges: []identity.Tag{tag}})
	in := pulling(t, a)
	r := bundle.NewPurgeRecord(m, aKey)
	put(t, b, Item{Purge: &r})
	if f := put(t, b, Item{Purge: &r}); f != Present {
		t.Errorf("fate %d", f)
	}
	until(t, "the purge record arrives", func() bool { return in.count(m.ID()) == 1 })
	if p := in.parcel(m.ID()); p.Purge == nil || p.Purge.Key != aKey {
		t.Errorf("got %+v", p)
	}
}

// A file's chunks are asked for before they are sent, and verified when they
// come.
func TestCoreFileResumes(t *testing.T) {
	a, b := edge(t, "file-a"), edge(t, "file-b")
	d, chunks := file(t, 3*512<<10+1000)
	ctx := patiently(t)
	for _, c := range chunks[:2] {
		put(t, a, Item{Chunk: &c})
	}
	list, err := a.Have(ctx, d)
	if err != nil || len(list) != 1 || !list[0].Own || len(list[0].Chunks) != 2 {
		t.Fatalf("have %+v, %v", list, err)
	}
	for _, c := range chunks[2:] {
		put(t, a, Item{Chunk: &c})
	}
	if err := a.PutManifest(ctx, d); err != nil {
		t.Fatal(err)
	}
	if list, err = b.Have(ctx, d); err != nil || len(list) != 1 || list[0].Own || len(list[0].Chunks) != 4 {
		t.Fatalf("have %+v, %v", list, err)
	}
	for i, c := range chunks {
		got, err := b.Get(ctx, d, i, list)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(got.append(nil), c.append(nil)) {
			t.Errorf("chunk %d came changed", i)
		}
	}
	if _, err := b.Get(ctx, d, 9, list); err == nil {
		t.Error("a chunk that is not there was got")
	}
}
