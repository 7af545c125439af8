package gossip

import (
	"cmp"
	"errors"
	"math/rand/v2"
	"slices"
	"time"

	"outrider/mesh/identity"
)

// A Peer is what the book remembers of a node.
type Peer struct {
	ID        identity.NodeID
	Gossip    []string  // "ip:port" of its gossip socket, newest first, at most 3
	Addrs     []string  // "ip:port" where it listens for links, best first, at most 4
	Epoch     uint64    // of the metadata that said so
	LastHeard time.Time // zero if never directly
}

// A Book keeps the peers for ever, in the store. memberlist forgets who was
// out of reach for long, and never finds them again by itself.
type Book interface {
	Peers() ([]Peer, error)
	Remember(Peer) error // replaces what was known of the same ID
}

// maxPeers bounds the book and the members. Whoever has the gossip key can
// make up nodes; beyond this many, new ones are not taken.
const maxPeers = 1024

var errTooMany = errors.New("no room for another member")

const maxGossipAddrs = 3

// remembered merges what a peer said now into what is known of it.
func (p Peer) remembered(gossip string, addrs []string, epoch uint64) Peer {
	p.Gossip = slices.DeleteFunc(slices.Clone(p.Gossip), func(a string) bool { return a == gossip })
	p.Gossip = slices.Insert(p.Gossip, 0, gossip)
	p.Gossip = p.Gossip[:min(len(p.Gossip), maxGossipAddrs)]
	p.Addrs, p.Epoch = addrs, epoch
	return p
}

// peerForm is how a Peer is encoded.
type peerForm struct {
	_      struct{} `cbor:",toarray"`
	ID     []byte
	Gossip []string
	Addrs  []string
	Epoch  uint64
	Heard  int64 // Unix seconds, 0 for never
}

// MarshalBinary encodes the peer for a store.
func (p Peer) MarshalBinary() ([]byte, error) {
	f := peerForm{ID: p.ID[:], Gossip: p.Gossip, Addrs: p.Addrs, Epoch: p.Epoch}
	if !p.LastHeard.IsZero() {
		f.Heard = p.LastHeard.Unix()
	}
	return identity.Marshal(f)
}

// UnmarshalBinary decodes what MarshalBinary made.
func (p *Peer) UnmarshalBinary(b []byte) error {
	var f peerForm
	if err := identity.Unmarshal(b, &f); err != nil {
		return err
	}
	if len(f.ID) != len(p.ID) || len(f.Gossip) > maxGossipAddrs || len(f.Addrs) > 1+maxMoreAddrs {
		return identity.ErrMalformed
	}
	*p = Peer{ID: identity.NodeID(f.ID), Gossip: f.Gossip, Addrs: f.Addrs, Epoch: f.Epoch}
	if f.Heard != 0 {
		p.LastHeard = time.Unix(f.Heard, 0).UTC()
	}
	return nil
}

// A turns list says whom to try to rejoin next.
type turns struct {
	base, ceiling time.Duration
	next          map[string]*turn // by gossip address
}

type turn struct {
	tried   time.Time // zero for never
	backoff time.Duration
}

func newTurns(base, ceiling time.Duration) *turns {
	return &turns{base: base, ceiling: ceiling, next: make(map[string]*turn)}
}

// pick returns the address that waited longest of those whose back-off is
// over, or "".
func (t *turns) pick(now time.Time, addrs []string) string {
	var due []string
	for _, a := range addrs {
		if n := t.next[a]; n == nil || now.Sub(n.tried) >= n.backoff {
			due = append(due, a)
		}
	}
	if len(due) == 0 {
		return ""
	}
	return slices.MinFunc(due, func(a, b string) int { return cmp.Compare(t.when(a), t.when(b)) })
}

func (t *turns) when(addr string) int64 {
	if n := t.next[addr]; n != nil && !n.tried.IsZero() {
		return n.tried.UnixNano()
	}
	return 0
}

// tried notes an attempt that did not make the peer live.
func (t *turns) tried(now time.Time, addr string) {
	n := t.next[addr]
	if n == nil {
		if len(t.next) > maxGossipAddrs*maxPeers {
			clear(t.next)
		}
		n = &turn{}
		t.next[addr] = n
	}
	n.tried = now
	n.backoff = min(max(2*n.backoff, t.base), t.ceiling)
}

// heard forgets the back-off of an address, so that it is tried again soon.
func (t *turns) heard(addr string) {
	if n := t.next[addr]; n != nil {
		n.backoff = 0
	}
}

// reset forgets all back-offs.
func (t *turns) reset() {
	for _, n := range t.next {
		n.backoff = 0
	}
}

// jittered returns d ± 25 %.
func jittered(d time.Duration) time.Duration {
	if d < 4 {
		return d
	}
	return d - d/4 + rand.N(d/2)
}
