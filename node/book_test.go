package node

import (
	"context"
	"reflect"
	"slices"
	"testing"
	"time"

	"outrider/mesh/gossip"
	"outrider/store"
)

func TestBook(t *testing.T) {
	dir := t.TempDir()
	open := func() *store.Store {
		s, err := store.Open(dir, store.Options{})
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	peers := []gossip.Peer{
		{ID: madeUpNode(1), Gossip: []string{"192.0.2.1:7410"}, Addrs: []string{"192.0.2.1:7411", "[2001:db8::1]:7411"}, Epoch: 3, LastHeard: time.Unix(1_750_000_000, 0).UTC()},
		{ID: madeUpNode(2), Gossip: []string{"192.0.2.2:7410"}, Addrs: []string{"192.0.2.2:7411"}, Epoch: 1 << 60},
	}
	s := open()
	for what, b := range map[string]*book{"in the store": newBook(s), "in memory": newBook(nil)} {
		first := peers[0]
		first.Epoch = 1
		for _, p := range append([]gossip.Peer{first}, peers...) { // the first is replaced
			if err := b.Remember(p); err != nil {
				t.Fatal(err)
			}
		}
		if got := sorted(t, b); !reflect.DeepEqual(got, peers) {
			t.Errorf("%s: %+v", what, got)
		}
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = open()
	defer s.Close()
	b := newBook(s)
	if got := sorted(t, b); !reflect.DeepEqual(got, peers) {
		t.Errorf("after reopening: %+v", got)
	}
	id := madeUpNode(1)
	if err := s.Commit(context.Background(), store.PutKV{Bucket: bucketPeers, Key: string(id[:]), Value: []byte("rubbish")}); err != nil {
		t.Fatal(err)
	}
	_, err := b.Peers()
	wantError(t, err, nil, "peer book")
}

func sorted(t *testing.T, b *book) []gossip.Peer {
	t.Helper()
	got, err := b.Peers()
	if err != nil {
		t.Fatal(err)
	}
	slices.SortFunc(got, func(a, b gossip.Peer) int { return a.ID.Compare(b.ID) })
	return got
}
