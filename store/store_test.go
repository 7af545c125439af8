package store_test

import (
	"context"
	"errors"
	"fmt"
	"math"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"outrider/mesh/bundle"
	"outrider/mesh/identity"
	"outrider/store"
	"outrider/store/storetest"
)

func open(t testing.TB, dir string, o store.Options) *store.Store {
	t.Helper()
	s, err := store.Open(dir, o)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestSuite(t *testing.T) {
	storetest.Run(t, func(t *testing.T, o store.Options) storetest.Store { return open(t, t.TempDir(), o) })
}

func TestSuiteMemory(t *testing.T) {
	storetest.Run(t, func(t *testing.T, o store.Options) storetest.Store { return storetest.New(o) })
}

// A model is the real store and the one in maps, which must not differ.
type model struct {
	dir  string
	o    store.Options
	real *store.Store
	mem  *storetest.Memory
	puts []store.PutBundle // drawn from again and again
	seq  uint64
}

func (m *model) commit(t *rapid.T, ops ...store.Op) {
	t.Helper()
	got, want := m.real.Commit(context.Background(), ops...), m.mem.Commit(context.Background(), ops...)
	for _, kind := range []error{store.ErrFull, store.ErrNotFound, nil} {
		if (kind == nil && (got == nil) != (want == nil)) || kind != nil && errors.Is(got, kind) != errors.Is(want, kind) {
			t.Fatalf("commit of %d ops: %v, want %v", len(ops), got, want)
		}
	}
}

func (m *model) op(t *rapid.T, label string) store.Op {
	m.seq++
	p := rapid.SampledFrom(m.puts).Draw(t, label+" bundle")
	id := p.Record.ID
	meta := store.Meta{Seq: m.seq, Due: rapid.Uint64Range(0, 50).Draw(t, label+" due"), Own: m.seq%2 == 0}
	user, conv := identity.UserID{rapid.ByteRange(0, 1).Draw(t, "user")}, [16]byte{rapid.ByteRange(0, 2).Draw(t, "conv")}
	msg := [16]byte{rapid.ByteRange(0, 20).Draw(t, "msg")}
	key := fmt.Sprint(rapid.IntRange(0, 20).Draw(t, "key"))
	switch rapid.IntRange(0, 9).Draw(t, label+" kind") {
	case 0, 1, 2:
		p.Record.Meta = meta
		return p
	case 3:
		return store.SetMeta{ID: id, Meta: meta}
	case 4:
		return store.DeleteBundle{ID: id}
	case 5:
		return store.PutPurge{Purge: purgeOf(p, meta)}
	case 6:
		return store.DeletePurge{ID: id}
	case 7:
		return store.PutKV{Bucket: "b", Key: key, Value: []byte(label)}
	case 8:
		return store.DeleteKV{Bucket: "b", Key: key}
	}
	if m.seq%3 == 0 {
		return store.DeleteRow{User: user, Msg: msg}
	}
	return store.PutRow{Row: store.Row{User: user, Conv: conv, Msg: msg, Order: rapid.Uint64Range(0, 9).Draw(t, "order"), Data: []byte(label)}}
}

func purgeOf(p store.PutBundle, m store.Meta) store.Purge {
	h, err := bundle.ParseHeader(p.Record.Header)
	if err != nil {
		panic(err)
	}
	return store.Purge{Meta: m, Record: bundle.PurgeRecord{Header: h, PayloadHash: p.Record.PayloadHash}}
}

// all is everything a store answers, as text.
func all(t *rapid.T, s storetest.Store) string {
	var out strings.Builder
	add := func(format string, args ...any) { fmt.Fprintf(&out, format+"\n", args...) }
	q := []store.Query{{}, {Index: store.ByExpiry}, {Index: store.ByPrecedence}}
	for tag := range 3 {
		q = append(q, store.Query{Index: store.ByTag, Tag: identity.Tag{byte(tag)}})
	}
	for _, q := range q {
		for r, err := range s.Bundles(q) {
			check(t, err)
			payload, err := s.Payload(r.ID)
			check(t, err)
			add("%d %v %v %+v %+v %d", q.Index, r.ID, r.Precedence, r.Meta, r.Hop, len(payload))
		}
	}
	for e, err := range s.Expiring(math.MaxUint64, 0) {
		check(t, err)
		add("%+v", e)
	}
	for kv, err := range s.List("b", "") {
		check(t, err)
		add("%s=%s", kv.Key, kv.Value)
	}
	for user := range 2 {
		convs, err := s.Convs(identity.UserID{byte(user)})
		check(t, err)
		for _, c := range convs {
			add("%+v", c)
			rows, err := s.Rows(identity.UserID{byte(user)}, c.ID, math.MaxUint64, 100)
			check(t, err)
			add("%+v", rows)
		}
	}
	st, err := s.Stats()
	check(t, err)
	add("%d bundles %d purges %d rows %d bytes, seq %d", st.Bundles, st.Purges, st.Rows, st.Bytes, s.LastSeq())
	return out.String()
}

func check(t *rapid.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func TestModel(t *testing.T) {
	var puts []store.PutBundle
	for i := range 30 {
		size := []int{0, 10, 700, 4000}[i%4]
		puts = append(puts, storetest.Draft{
			Payload: []byte(strings.Repeat(fmt.Sprint(i), size)[:size]), Tag: identity.Tag{byte(i % 3)}, Precedence: bundle.Precedence(i % 4),
		}.Put(t))
	}
	root := t.TempDir()
	run := 0
	rapid.Check(t, func(t *rapid.T) {
		run++
		// Small segments and a small quota, so that both are met.
		o := store.Options{MaxBytes: 30_000, SegmentBytes: 9000}
		m := &model{dir: fmt.Sprintf("%s/%d", root, run), o: o, mem: storetest.New(o), puts: puts}
		var err error
		m.real, err = store.Open(m.dir, store.WithoutSync(o))
		check(t, err)
		defer func() { check(t, m.real.Close()) }()
		t.Repeat(map[string]func(*rapid.T){
			"commit": func(t *rapid.T) {
				var ops []store.Op
				for i := range rapid.IntRange(1, 8).Draw(t, "ops") {
					ops = append(ops, m.op(t, fmt.Sprint(i)))
				}
				m.commit(t, ops...)
			},
			"reopen": func(t *rapid.T) {
				if rapid.IntRange(0, 4).Draw(t, "really") > 0 {
					return // it takes long
				}
				epoch := m.real.Epoch()
				check(t, m.real.Close())
				m.real, err = store.Open(m.dir, store.WithoutSync(m.o))
				check(t, err)
				if m.real.Epoch() != epoch {
					t.Fatal("the epoch changed")
				}
			},
			"": func(t *rapid.T) {
				if got, want := all(t, m.real), all(t, m.mem); got != want {
					t.Fatalf("the store answers\n%s\nwant\n%s", got, want)
				}
			},
		})
	})
}
