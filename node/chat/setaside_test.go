package chat

import (
	"context"
	"iter"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"outrider/mesh/identity"
)

// TestP04SetAsideAndEnded: content of two messages lies as sessions leave it; it is
// moved as a whole, once, and each message ends at its lifetime.
func TestP04SetAsideAndEnded(t *testing.T) {
	st := newMemStore()
	user := identity.UserID{7}
	early, late := MessageID{1}, MessageID{2}
	expiry := func(minute uint32, id MessageID) string {
		return string(user[:]) + string(rune(kindExpiry)) + string(uint32Bytes(minute)) + string(id[:])
	}
	record := string(user[:]) + string(rune(kindRecord)) + "0123456789abcdef"
	tag := identity.Tag{9}
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	must(st.Commit(t.Context(),
		PutRow{Row: Row{User: user, Msg: early, Data: []byte("sealed early")}}, PutRow{Row: Row{User: user, Msg: late, Data: []byte("sealed late")}},
		PutKV{bucketChat, expiry(1, early), nil}, PutKV{bucketChat, expiry(1000, late), nil},
		PutKV{bucketChat, record, []byte("sealed record")}, PutKV{bucketWatch, watchKey(user, tag), []byte{1}}))
	marked := 0
	aside := AsideID(user, 1)
	clock := &elapsedClock{}
	s := New(Config{
		Store: st, Agent: noAgent{}, Clock: clock, Aside: func() []identity.UserID { return []identity.UserID{aside} },
		Outgrown: func(id identity.UserID) (uint32, func() error, error) {
			if id != user || marked > 0 {
				return 0, nil, nil
			}
			return 1, func() error { marked++; return nil }, nil
		},
	})
	for range 2 {
		must(s.setAside(t.Context(), user))
	}
	if marked != 1 {
		t.Errorf("marked %d times", marked)
	}
	if left := keysOf(t, st, string(user[:])); len(left) != 0 {
		t.Errorf("left with the user: %q", left)
	}
	for id, want := range map[MessageID]string{early: "sealed early", late: "sealed late"} {
		if r, err := st.Row(aside, id); err != nil || string(r.Data) != want {
			t.Errorf("%s: %q %v", id, r.Data, err)
		}
		if _, err := st.Row(user, id); err == nil {
			t.Errorf("%s is with the user still", id)
		}
	}
	if n := len(keysOf(t, st, string(aside[:]))); n != 3 {
		t.Errorf("%d values are aside", n)
	}

	clock.now = 2 * time.Minute
	must(s.endAside(t.Context()))
	if _, err := st.Row(aside, early); err == nil {
		t.Error("what has expired is still there")
	}
	if _, err := st.Row(aside, late); err != nil {
		t.Errorf("what has not expired is gone: %v", err)
	}
	clock.now = 1000 * time.Minute
	must(s.endAside(t.Context()))
	if left := keysOf(t, st, string(aside[:])); len(left) != 0 {
		t.Errorf("left for ever: %q", left)
	}
}

func keysOf(t *testing.T, st Store, prefix string) (keys []string) {
	t.Helper()
	for _, bucket := range []string{bucketChat, bucketWatch} {
		for p, err := range st.List(bucket, prefix) {
			if err != nil {
				t.Fatal(err)
			}
			keys = append(keys, p.Key)
		}
	}
	slices.Sort(keys)
	return keys
}

// elapsedClock has lived through as much as it is told.
type elapsedClock struct{ now time.Duration }

func (c *elapsedClock) Now() time.Time         { return time.Unix(0, 0).Add(c.now) }
func (c *elapsedClock) Trusted() bool          { return true }
func (c *elapsedClock) Source() ClockSource    { return ClockTime }
func (c *elapsedClock) Elapsed() time.Duration { return c.now }

// noAgent takes note of nothing.
type noAgent struct{ Agent }

func (noAgent) Watch(add, remove []identity.Tag) {}

// memStore keeps rows and values in maps.
type memStore struct {
	rows map[string]Row
	kv   map[string][]byte
}

func newMemStore() *memStore { return &memStore{map[string]Row{}, map[string][]byte{}} }

func rowKey(u identity.UserID, m MessageID) string { return string(u[:]) + string(m[:]) }

func (s *memStore) Commit(_ context.Context, ops ...Op) error {
	for _, op := range ops {
		switch op := op.(type) {
		case PutRow:
			s.rows[rowKey(op.Row.User, op.Row.Msg)] = op.Row
		case DeleteRow:
			delete(s.rows, rowKey(op.User, op.Msg))
		case PutKV:
			s.kv[op.Bucket+"\x00"+op.Key] = op.Value
		case DeleteKV:
			delete(s.kv, op.Bucket+"\x00"+op.Key)
		}
	}
	return nil
}

func (s *memStore) Row(u identity.UserID, m MessageID) (Row, error) {
	r, ok := s.rows[rowKey(u, m)]
	if !ok {
		return r, ErrNotFound
	}
	return r, nil
}

func (s *memStore) Rows(identity.UserID, ConversationID, uint64, int) ([]Row, error) { return nil, nil }

func (s *memStore) Get(bucket, key string) ([]byte, error) {
	v, ok := s.kv[bucket+"\x00"+key]
	if !ok {
		return nil, ErrNotFound
	}
	return v, nil
}

func (s *memStore) List(bucket, prefix string) iter.Seq2[Pair, error] {
	return func(yield func(Pair, error) bool) {
		for _, k := range slices.Sorted(maps.Keys(s.kv)) {
			key, ok := strings.CutPrefix(k, bucket+"\x00")
			if ok && strings.HasPrefix(key, prefix) && !yield(Pair{Key: key, Value: s.kv[k]}, nil) {
				return
			}
		}
	}
}
