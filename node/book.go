package node

import (
	"context"
	"fmt"
	"sync"

	"outrider/mesh/gossip"
	"outrider/mesh/identity"
	"outrider/store"
)

// bucketPeers holds the peer book: every node ever heard of.
const bucketPeers = "peers"

// A book is gossip's peer book, in the store; in memory only while the node
// has no store yet.
type book struct {
	store *store.Store

	mu     sync.Mutex
	memory map[identity.NodeID]gossip.Peer
}

var _ gossip.Book = (*book)(nil)

func newBook(s *store.Store) *book { return &book{store: s, memory: map[identity.NodeID]gossip.Peer{}} }

// Peers returns everybody in the book.
func (b *book) Peers() ([]gossip.Peer, error) {
	var out []gossip.Peer
	if b.store == nil {
		b.mu.Lock()
		defer b.mu.Unlock()
		for _, p := range b.memory {
			out = append(out, p)
		}
		return out, nil
	}
	for kv, err := range b.store.List(bucketPeers, "") {
		if err != nil {
			return nil, fmt.Errorf("node: peer book: %w", err)
		}
		var p gossip.Peer
		if err := p.UnmarshalBinary(kv.Value); err != nil {
			return nil, fmt.Errorf("node: peer book: %w", err)
		}
		out = append(out, p)
	}
	return out, nil
}

// Remember replaces what is known of a peer.
func (b *book) Remember(p gossip.Peer) error {
	if b.store == nil {
		b.mu.Lock()
		defer b.mu.Unlock()
		b.memory[p.ID] = p
		return nil
	}
	raw, err := p.MarshalBinary()
	if err != nil {
		return fmt.Errorf("node: peer book: %w", err)
	}
	return b.store.Commit(context.Background(), store.PutKV{Bucket: bucketPeers, Key: string(p.ID[:]), Value: raw})
}
