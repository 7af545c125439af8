package storetest

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"iter"
	"math"
	"slices"
	"testing"
	"time"

	"outrider/mesh/bundle"
	"outrider/mesh/identity"
	"outrider/store"
)

// A Draft is what the suite makes bundles of.
type Draft struct {
	Payload    []byte
	Tag        identity.Tag
	Precedence bundle.Precedence
	Meta       store.Meta
}

// Put returns the op that stores a draft.
func (d Draft) Put(tb testing.TB) store.PutBundle {
	tb.Helper()
	h := bundle.Header{Version: 1, Tag: d.Tag, Precedence: d.Precedence, Lifetime: 48 * time.Hour, Kind: bundle.KindMessage}
	h.Commitment = bundle.PurgeKey{1}.Commit(h.Tag)
	b, err := bundle.New(h, d.Payload, 8)
	if err != nil {
		tb.Fatal(err)
	}
	return store.PutBundle{Payload: d.Payload, Record: store.Record{
		ID: b.ID(), Hop: b.Hop, Header: b.Header.Raw(), PayloadHash: sha256.Sum256(d.Payload), Meta: d.Meta,
	}}
}

// Purge returns the purge record of a bundle that Put made.
func Purge(tb testing.TB, p store.PutBundle, m store.Meta) store.Purge {
	tb.Helper()
	h, err := bundle.ParseHeader(p.Record.Header)
	if err != nil {
		tb.Fatal(err)
	}
	return store.Purge{Meta: m, Record: bundle.PurgeRecord{Header: h, PayloadHash: p.Record.PayloadHash, Key: bundle.PurgeKey{1}}}
}

// Run tests a kind of store. open returns a new, empty one.
func Run(t *testing.T, open func(t *testing.T, o store.Options) Store) {
	tests := []struct {
		name string
		run  func(t *testing.T, s Store)
	}{
		{"bundle", testBundle},
		{"empty payload", testEmptyPayload},
		{"put again", testPutAgain},
		{"all or nothing", testAllOrNothing},
		{"ops see each other", testOpsSeeEachOther},
		{"each", testEach},
		{"meta", testMeta},
		{"delete", testDelete},
		{"purge records", testPurges},
		{"orders", testOrders},
		{"pages", testPages},
		{"expiring", testExpiring},
		{"buckets", testBuckets},
		{"timeline", testTimeline},
		{"limits", testLimits},
		{"cancelled", testCancelled},
		{"closed", testClosed},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s := open(t, store.Options{})
			tt.run(t, s)
			if err := s.Close(); err != nil {
				t.Error(err)
			}
		})
	}
	t.Run("quota", func(t *testing.T) {
		s := open(t, store.Options{MaxBytes: 10 * (1000 + store.RecordCost)})
		testQuota(t, s)
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
}

func commit(t *testing.T, s Store, ops ...store.Op) {
	t.Helper()
	if err := s.Commit(t.Context(), ops...); err != nil {
		t.Fatal(err)
	}
}

func wantErr(t *testing.T, err, want error) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Fatalf("error %v, want %v", err, want)
	}
}

// collect gathers a sequence and fails on its error.
func collect[T any](tb testing.TB, seq iter.Seq2[T, error]) (out []T) {
	tb.Helper()
	for v, err := range seq {
		if err != nil {
			tb.Fatal(err)
		}
		out = append(out, v)
	}
	return out
}

func ids(records []store.Record) (out []bundle.ID) {
	for _, r := range records {
		out = append(out, r.ID)
	}
	return out
}

func testBundle(t *testing.T, s Store) {
	meta := store.Meta{
		Due: 77, Seq: 5, Ingress: identity.NodeID{4}, Own: true, Consumed: true, Budget: 3, Replicas: 2, StoredAge: 9,
		Supersede: [16]byte{8}, Extra: []byte("extra"),
	}
	p := Draft{Payload: []byte("sealed"), Tag: identity.Tag{1}, Precedence: bundle.Flash, Meta: meta}.Put(t)
	p.Record.Hop = bundle.Hop{Age: 100, Count: 3, Budget: 200}
	commit(t, s, p)
	r, err := s.Bundle(p.Record.ID)
	if err != nil {
		t.Fatal(err)
	}
	if r.ID != p.Record.ID || !bytes.Equal(r.Header, p.Record.Header) || r.PayloadHash != p.Record.PayloadHash || r.PayloadLen != 6 {
		t.Errorf("record %+v", r)
	}
	if r.Tag != (identity.Tag{1}) || r.Precedence != bundle.Flash {
		t.Errorf("tag %v precedence %v", r.Tag, r.Precedence)
	}
	if r.Hop.Age != 100 || r.Hop.Count != 3 || r.Hop.Budget != bundle.MaxBudget {
		t.Errorf("hop part %+v", r.Hop)
	}
	if fmt.Sprint(r.Meta) != fmt.Sprint(meta) {
		t.Errorf("meta %+v, want %+v", r.Meta, meta)
	}
	b, err := s.Load(p.Record.ID)
	if err != nil {
		t.Fatal(err)
	}
	if b.ID() != p.Record.ID || string(b.Payload) != "sealed" || b.Hop.Age != 100 {
		t.Errorf("bundle %+v", b)
	}
	if s.LastSeq() != 5 {
		t.Errorf("last seq %d, want 5", s.LastSeq())
	}
}

func testEmptyPayload(t *testing.T, s Store) {
	p := Draft{}.Put(t)
	commit(t, s, p)
	payload, err := s.Payload(p.Record.ID)
	if err != nil || len(payload) != 0 {
		t.Fatalf("payload %x (%v)", payload, err)
	}
	commit(t, s, store.DeleteBundle{ID: p.Record.ID})
}

func testPutAgain(t *testing.T, s Store) {
	p := Draft{Payload: []byte("x"), Meta: store.Meta{Seq: 1, Due: 1}}.Put(t)
	commit(t, s, p)
	p.Record.Meta = store.Meta{Seq: 2, Due: 2}
	commit(t, s, p)
	all := collect(t, s.Bundles(store.Query{Index: store.ByExpiry}))
	if len(all) != 1 || all[0].Meta.Due != 2 {
		t.Fatalf("records %+v", all)
	}
	if st := stats(t, s); st.Bundles != 1 || st.Bytes != 1+store.RecordCost {
		t.Fatalf("stats %+v", st)
	}
}

func stats(tb testing.TB, s Store) store.Stats {
	tb.Helper()
	st, err := s.Stats()
	if err != nil {
		tb.Fatal(err)
	}
	return st
}

func testAllOrNothing(t *testing.T, s Store) {
	p := Draft{Payload: []byte("x")}.Put(t)
	err := s.Commit(t.Context(), p, store.PutKV{Bucket: "b", Key: "k"}, store.SetMeta{ID: bundle.ID{9}})
	wantErr(t, err, store.ErrNotFound)
	_, err = s.Bundle(p.Record.ID)
	wantErr(t, err, store.ErrNotFound)
	_, err = s.Payload(p.Record.ID)
	wantErr(t, err, store.ErrNotFound)
	_, err = s.Get("b", "k")
	wantErr(t, err, store.ErrNotFound)
	if st := stats(t, s); st.Bundles != 0 || st.Bytes != 0 {
		t.Fatalf("stats %+v", st)
	}
}

func testOpsSeeEachOther(t *testing.T, s Store) {
	p := Draft{Payload: []byte("x"), Meta: store.Meta{Due: 1}}.Put(t)
	commit(t, s, p, store.SetMeta{ID: p.Record.ID, Meta: store.Meta{Due: 2}}, store.PutKV{Bucket: "b", Key: "k"}, store.DeleteKV{Bucket: "b", Key: "k"})
	all := collect(t, s.Bundles(store.Query{Index: store.ByExpiry}))
	if len(all) != 1 || all[0].Meta.Due != 2 {
		t.Fatalf("records %+v", all)
	}
	_, err := s.Get("b", "k")
	wantErr(t, err, store.ErrNotFound)
	commit(t, s, store.DeleteBundle{ID: p.Record.ID}, p, store.DeleteBundle{ID: p.Record.ID})
	if st := stats(t, s); st.Bundles != 0 || st.Bytes != 0 {
		t.Fatalf("stats %+v", st)
	}
}

// Transactions of one CommitEach are in order and see each other; one that
// fails leaves the others alone.
func testEach(t *testing.T, s Store) {
	p, q := Draft{Payload: []byte("p")}.Put(t), Draft{Payload: []byte("q")}.Put(t)
	invalid := Draft{Payload: []byte("x")}.Put(t)
	invalid.Record.ID[0] ^= 1
	errs := s.CommitEach(t.Context(), [][]store.Op{
		{p}, {}, {q, store.SetMeta{ID: bundle.ID{9}}}, {invalid}, {store.SetMeta{ID: p.Record.ID, Meta: store.Meta{Due: 3}}},
	})
	for i, want := range []error{nil, nil, store.ErrNotFound, store.ErrInvalid, nil} {
		if !errors.Is(errs[i], want) {
			t.Errorf("transaction %d: %v, want %v", i, errs[i], want)
		}
	}
	if r, err := s.Bundle(p.Record.ID); err != nil || r.Meta.Due != 3 {
		t.Errorf("record %+v (%v)", r, err)
	}
	_, err := s.Bundle(q.Record.ID)
	wantErr(t, err, store.ErrNotFound)
	if errs := s.CommitEach(t.Context(), nil); len(errs) != 0 {
		t.Errorf("errors of nothing: %v", errs)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	wantErr(t, s.CommitEach(ctx, [][]store.Op{{q}})[0], context.Canceled)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	wantErr(t, s.CommitEach(t.Context(), [][]store.Op{{q}})[0], store.ErrClosed)
}

func testMeta(t *testing.T, s Store) {
	p := Draft{Payload: []byte("x"), Meta: store.Meta{Due: 10, Seq: 1}}.Put(t)
	commit(t, s, p)
	commit(t, s, store.SetMeta{ID: p.Record.ID, Meta: store.Meta{Due: 5, Seq: 1, Consumed: true}})
	r, err := s.Bundle(p.Record.ID)
	if err != nil || !r.Meta.Consumed || r.Meta.Due != 5 || r.Hop.Age != 0 {
		t.Fatalf("record %+v (%v)", r, err)
	}
	commit(t, s, store.SetMeta{ID: p.Record.ID, Hop: &bundle.Hop{Age: 3}, Meta: store.Meta{Due: 7}})
	if got := collect(t, s.Expiring(6, 0)); len(got) != 0 {
		t.Fatalf("still found under its old time: %+v", got)
	}
	if got := collect(t, s.Expiring(7, 0)); len(got) != 1 {
		t.Fatalf("not found under its new time: %+v", got)
	}
	if b, err := s.Load(p.Record.ID); err != nil || b.Hop.Age != 3 {
		t.Fatalf("bundle %+v (%v)", b, err)
	}
	wantErr(t, s.Commit(t.Context(), store.SetMeta{ID: bundle.ID{1}}), store.ErrNotFound)
}

func testDelete(t *testing.T, s Store) {
	p := Draft{Payload: []byte("x"), Tag: identity.Tag{2}}.Put(t)
	commit(t, s, p)
	commit(t, s, store.DeleteBundle{ID: p.Record.ID}, store.DeleteBundle{ID: bundle.ID{1}})
	for _, q := range []store.Query{{}, {Index: store.ByExpiry}, {Index: store.ByPrecedence}, {Index: store.ByTag, Tag: identity.Tag{2}}} {
		if got := collect(t, s.Bundles(q)); len(got) != 0 {
			t.Errorf("index %d still finds %+v", q.Index, got)
		}
	}
	_, err := s.Payload(p.Record.ID)
	wantErr(t, err, store.ErrNotFound)
}

func testPurges(t *testing.T, s Store) {
	p := Draft{Payload: []byte("x")}.Put(t)
	g := Purge(t, p, store.Meta{Due: 4, Ingress: identity.NodeID{1}})
	commit(t, s, p)
	commit(t, s, store.DeleteBundle{ID: p.Record.ID}, store.PutPurge{Purge: g})
	got, err := s.Purge(p.Record.ID)
	if err != nil || !got.Record.Valid() || got.Meta.Ingress != (identity.NodeID{1}) || got.ID() != p.Record.ID {
		t.Fatalf("purge record %+v (%v)", got, err)
	}
	g.Meta.Due = 6
	commit(t, s, store.PutPurge{Purge: g})
	if st := stats(t, s); st.Purges != 1 || st.Bytes != store.RecordCost {
		t.Fatalf("stats %+v", st)
	}
	if all := collect(t, s.Purges()); len(all) != 1 || all[0].Meta.Due != 6 {
		t.Fatalf("purge records %+v", all)
	}
	if due := collect(t, s.Expiring(5, 0)); len(due) != 0 {
		t.Fatalf("still due at the old time: %+v", due)
	}
	if all := collect(t, s.Bundles(store.Query{Index: store.ByExpiry})); len(all) != 0 {
		t.Fatalf("purge records are no bundles: %+v", all)
	}
	commit(t, s, store.DeletePurge{ID: p.Record.ID}, store.DeletePurge{ID: bundle.ID{1}})
	_, err = s.Purge(p.Record.ID)
	wantErr(t, err, store.ErrNotFound)
	if due := collect(t, s.Expiring(math.MaxUint64, 0)); len(due) != 0 {
		t.Fatalf("still due: %+v", due)
	}
}

// some stores n bundles with mixed tags and precedences.
func some(t *testing.T, s Store, n int) {
	t.Helper()
	for i := range n {
		commit(t, s, Draft{
			Payload: fmt.Appendf(nil, "payload %d", i), Tag: identity.Tag{byte(i % 3)}, Precedence: bundle.Precedence(i % 4),
			Meta: store.Meta{Seq: uint64(i + 1), Due: uint64(1000 - i*7%50)},
		}.Put(t))
	}
}

func testOrders(t *testing.T, s Store) {
	some(t, s, 40)
	flash := bundle.Flash
	for _, q := range []store.Query{
		{}, {Index: store.ByExpiry}, {Index: store.ByExpiry, Until: 980}, {Index: store.ByPrecedence},
		{Index: store.ByTag, Tag: identity.Tag{1}}, {Index: store.ByPrecedence, Only: &flash, Seq: 9},
	} {
		var want []store.Record
		for _, r := range collect(t, s.Bundles(store.Query{})) {
			if matches(q, r) {
				want = append(want, r)
			}
		}
		slices.SortFunc(want, func(a, b store.Record) int { return compare(q.Index, a, b) })
		if len(want) == 0 {
			t.Fatalf("query %+v: an empty test", q)
		}
		if got := collect(t, s.Bundles(q)); !slices.Equal(ids(got), ids(want)) {
			t.Errorf("query %+v: %v, want %v", q, ids(got), ids(want))
		}
		q.Reverse = true
		slices.Reverse(want)
		if got := collect(t, s.Bundles(q)); !slices.Equal(ids(got), ids(want)) {
			t.Errorf("query %+v: %v, want %v", q, ids(got), ids(want))
		}
	}
}

func testPages(t *testing.T, s Store) {
	some(t, s, 40)
	for _, index := range []store.Index{store.ByID, store.ByExpiry, store.ByPrecedence, store.ByTag} {
		for _, reverse := range []bool{false, true} {
			q := store.Query{Index: index, Tag: identity.Tag{1}, Reverse: reverse}
			want := ids(collect(t, s.Bundles(q)))
			var got []bundle.ID
			q.Limit = 7
			for {
				page := collect(t, s.Bundles(q))
				if len(page) > q.Limit {
					t.Fatalf("a page of %d", len(page))
				}
				got = append(got, ids(page)...)
				if len(page) < q.Limit {
					break
				}
				q.After = &page[len(page)-1]
			}
			if !slices.Equal(got, want) {
				t.Errorf("index %d reverse %v: pages give %v, want %v", index, reverse, got, want)
			}
		}
	}
}

func testExpiring(t *testing.T, s Store) {
	some(t, s, 20)
	p := Draft{Payload: []byte("dead")}.Put(t)
	commit(t, s, store.PutPurge{Purge: Purge(t, p, store.Meta{Due: 960})})
	all := collect(t, s.Expiring(math.MaxUint64, 0))
	if len(all) != 21 || !slices.IsSortedFunc(all, func(a, b store.Expiry) int { return int(a.Due) - int(b.Due) }) {
		t.Fatalf("expiries %+v", all)
	}
	until := all[10].Due
	got := collect(t, s.Expiring(until, 0))
	for _, e := range got {
		if e.Due > until || e.Purge != (e.ID == p.Record.ID) {
			t.Errorf("expiry %+v, until %d", e, until)
		}
	}
	if len(got) < 11 || len(collect(t, s.Expiring(until, 3))) != 3 {
		t.Errorf("%d expiries until %d", len(got), until)
	}
}

func testBuckets(t *testing.T, s Store) {
	put := func(bucket, key, value string) store.Op {
		return store.PutKV{Bucket: bucket, Key: key, Value: []byte(value)}
	}
	commit(t, s, put("a", "x1", "1"), put("a", "x2", "2"), put("a", "y\xff", "3"), put("ab", "x1", "4"), put("a", "", "5"))
	if v, err := s.Get("a", "x1"); err != nil || string(v) != "1" {
		t.Errorf("value %q (%v)", v, err)
	}
	keys := func(bucket, prefix string) (out []string) {
		for _, kv := range collect(t, s.List(bucket, prefix)) {
			out = append(out, kv.Key+"="+string(kv.Value))
		}
		return out
	}
	if got, want := keys("a", ""), []string{"=5", "x1=1", "x2=2", "y\xff=3"}; !slices.Equal(got, want) {
		t.Errorf("bucket %q, want %q", got, want)
	}
	if got, want := keys("a", "x"), []string{"x1=1", "x2=2"}; !slices.Equal(got, want) {
		t.Errorf("bucket %q, want %q", got, want)
	}
	commit(t, s, put("a", "x1", "6"), store.DeleteKV{Bucket: "a", Key: "x2"})
	if got, want := keys("a", "x"), []string{"x1=6"}; !slices.Equal(got, want) {
		t.Errorf("bucket %q, want %q", got, want)
	}
}

func testTimeline(t *testing.T, s Store) {
	alice, bob := identity.UserID{1}, identity.UserID{2}
	row := func(user identity.UserID, conv, msg byte, order uint64, text string) store.PutRow {
		return store.PutRow{Row: store.Row{User: user, Conv: [16]byte{conv}, Msg: [16]byte{msg}, Order: order, Data: []byte(text)}}
	}
	commit(t, s, row(alice, 1, 1, 10, "a"), row(alice, 1, 2, 20, "b"), row(alice, 1, 3, 20, "c"), row(alice, 1, 4, 30, "d"), row(alice, 2, 5, 5, "e"))
	commit(t, s, row(bob, 1, 1, 99, "bob's"))
	text := func(before uint64, n int) (out string) {
		rows, err := s.Rows(alice, [16]byte{1}, before, n)
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range rows {
			out += string(r.Data)
		}
		return out
	}
	for _, tt := range []struct {
		before uint64
		n      int
		want   string
	}{
		{math.MaxUint64, 10, "dcba"}, {math.MaxUint64, 1, "d"}, {30, 1, "cb"}, {20, 5, "a"}, {10, 5, ""}, {math.MaxUint64, 0, ""},
	} {
		if got := text(tt.before, tt.n); got != tt.want {
			t.Errorf("rows before %d, %d of them: %q, want %q", tt.before, tt.n, got, tt.want)
		}
	}
	if r, err := s.Row(alice, [16]byte{1}); err != nil || string(r.Data) != "a" || r.Order != 10 {
		t.Errorf("row %+v (%v)", r, err)
	}
	testTimelineChanges(t, s, row, text)
}

func testTimelineChanges(t *testing.T, s Store, row func(identity.UserID, byte, byte, uint64, string) store.PutRow, text func(uint64, int) string) {
	alice := identity.UserID{1}
	newest := func() map[byte]uint64 {
		convs, err := s.Convs(alice)
		if err != nil {
			t.Fatal(err)
		}
		out := make(map[byte]uint64)
		for _, c := range convs {
			out[c.ID[0]] = c.Order
		}
		return out
	}
	if got := fmt.Sprint(newest()); got != "map[1:30 2:5]" {
		t.Errorf("conversations %s", got)
	}
	commit(t, s, row(alice, 1, 4, 15, "D"), store.DeleteRow{User: alice, Msg: [16]byte{5}}) // moved, removed
	if got := text(math.MaxUint64, 10); got != "cbDa" {
		t.Errorf("rows %q after moving one", got)
	}
	if got := fmt.Sprint(newest()); got != "map[1:20]" {
		t.Errorf("conversations %s", got)
	}
	commit(t, s, store.DeleteRow{User: alice, Msg: [16]byte{2}}, store.DeleteRow{User: alice, Msg: [16]byte{3}}, row(alice, 1, 9, 12, "z"))
	if got := fmt.Sprint(newest()); got != "map[1:15]" {
		t.Errorf("conversations %s", got)
	}
	_, err := s.Row(alice, [16]byte{5})
	wantErr(t, err, store.ErrNotFound)
	if st := stats(t, s); st.Rows != 4 {
		t.Errorf("%d rows, want 4", st.Rows)
	}
}

func testLimits(t *testing.T, s Store) {
	big := Draft{Payload: make([]byte, bundle.MaxPayload)}.Put(t)
	commit(t, s, big)
	big.Payload = make([]byte, bundle.MaxPayload+1)
	wantErr(t, s.Commit(t.Context(), big), store.ErrTooLarge)

	wrong := Draft{Payload: []byte("x")}.Put(t)
	wrong.Payload = []byte("y")
	wantErr(t, s.Commit(t.Context(), wrong), store.ErrInvalid)
	wrong = Draft{Payload: []byte("x")}.Put(t)
	wrong.Record.ID[0] ^= 1
	wantErr(t, s.Commit(t.Context(), wrong), store.ErrInvalid)
	wrong.Record.Header = []byte("no CBOR")
	wantErr(t, s.Commit(t.Context(), wrong), store.ErrInvalid)

	extra := Draft{Payload: []byte("x"), Meta: store.Meta{Extra: make([]byte, store.MaxExtra)}}
	commit(t, s, extra.Put(t))
	extra.Meta.Extra = make([]byte, store.MaxExtra+1)
	wantErr(t, s.Commit(t.Context(), extra.Put(t)), store.ErrTooLarge)

	kv := store.PutKV{Bucket: "b", Key: string(make([]byte, store.MaxKey)), Value: make([]byte, store.MaxValue)}
	commit(t, s, kv)
	kv.Value = make([]byte, store.MaxValue+1)
	wantErr(t, s.Commit(t.Context(), kv), store.ErrTooLarge)
	wantErr(t, s.Commit(t.Context(), store.PutKV{Bucket: "b", Key: string(make([]byte, store.MaxKey+1))}), store.ErrTooLarge)
	wantErr(t, s.Commit(t.Context(), store.PutKV{Key: "no bucket"}), store.ErrTooLarge)

	row := store.Row{Data: make([]byte, store.MaxValue)}
	commit(t, s, store.PutRow{Row: row})
	row.Data = make([]byte, store.MaxValue+1)
	wantErr(t, s.Commit(t.Context(), store.PutRow{Row: row}), store.ErrTooLarge)

	ops := make([]store.Op, store.MaxOps)
	for i := range ops {
		ops[i] = store.DeleteBundle{ID: bundle.ID{byte(i)}}
	}
	commit(t, s, ops...)
	wantErr(t, s.Commit(t.Context(), append(ops, ops[0])...), store.ErrTooLarge)
}

func testQuota(t *testing.T, s Store) {
	var last store.PutBundle
	for i := range 10 {
		last = Draft{Payload: bytes.Repeat([]byte{byte(i)}, 1000)}.Put(t)
		commit(t, s, last)
	}
	more := Draft{}.Put(t)
	wantErr(t, s.Commit(t.Context(), more), store.ErrFull)
	commit(t, s, last) // the same again needs no more
	commit(t, s, store.PutKV{Bucket: "b", Key: "k"}, store.SetMeta{ID: last.Record.ID})
	wantErr(t, s.Commit(t.Context(), store.PutPurge{Purge: Purge(t, more, store.Meta{})}), store.ErrFull)
	commit(t, s, store.DeleteBundle{ID: last.Record.ID}, store.PutPurge{Purge: Purge(t, last, store.Meta{})}, more)
	if st := stats(t, s); st.Bundles != 10 || st.Purges != 1 || st.Bytes > st.MaxBytes {
		t.Fatalf("stats %+v", st)
	}
}

func testCancelled(t *testing.T, s Store) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	p := Draft{Payload: []byte("x")}.Put(t)
	wantErr(t, s.Commit(ctx, p), context.Canceled)
	_, err := s.Bundle(p.Record.ID)
	wantErr(t, err, store.ErrNotFound)
}

func testClosed(t *testing.T, s Store) {
	p := Draft{Payload: []byte("x")}.Put(t)
	commit(t, s, p)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	wantErr(t, s.Commit(t.Context(), store.DeleteBundle{ID: p.Record.ID}), store.ErrClosed)
	_, err := s.Payload(p.Record.ID)
	wantErr(t, err, store.ErrClosed)
	for _, err := range s.Bundles(store.Query{}) {
		wantErr(t, err, store.ErrClosed)
	}
}
