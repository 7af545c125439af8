package mesh

import (
	"encoding/binary"
	"slices"
	"time"

	"outrider/mesh/identity"
	"outrider/mesh/routing"
)

const (
	maxPeers = 4096 // neighbours remembered
	maxShun  = 4096 // ids one neighbour is not asked for
	shunSecs = 1800 // that long: it may have been a mistake, or mended since
	maxBlame = 64   // faults after which a link is closed
)

// A peer is a neighbour, past or present.
type peer struct {
	id      identity.NodeID
	index   uint16
	bytes   int64 // charged to it
	ids     int
	links   int
	faults  int
	shun    map[uint64]Time // until when
	buckets [4]bucket
	known   cursor // what it is known to have offered us
	saved   cursor // as on disk
	tags    []uint32
	allTags bool
	archive bool // some of its tags are a compliance reader's
}

// A cursor says how far a peer's bundles are known, in its own numbers.
type cursor struct {
	epoch [8]byte
	seq   uint64 // reconciled scopes: everything up to here was offered
	spray uint64 // the same of sprayed bundles
}

func (c cursor) marshal() []byte {
	b := append([]byte(nil), c.epoch[:]...)
	return binary.BigEndian.AppendUint64(binary.BigEndian.AppendUint64(b, c.seq), c.spray)
}

func parseCursor(b []byte) (c cursor) {
	if len(b) == 24 {
		copy(c.epoch[:], b)
		c.seq, c.spray = binary.BigEndian.Uint64(b[8:]), binary.BigEndian.Uint64(b[16:])
	}
	return c
}

// CursorKey is the store's key of a peer's cursor; the value goes into PeerUp.
func CursorKey(id identity.NodeID) string { return "mesh/cursor/" + id.String() }

// peerOf returns the record of a neighbour, nil if there are too many. One
// that is charged nothing and is not linked gives way to a new one.
func (m *Machine) peerOf(id identity.NodeID) *peer {
	if p := m.byPeer[id]; p != nil {
		return p
	}
	p := &peer{id: id}
	if len(m.peers) < maxPeers {
		p.index = uint16(len(m.peers))
		m.peers = append(m.peers, p)
	} else {
		i := slices.IndexFunc(m.peers[1:], func(q *peer) bool { return q.ids == 0 && q.links == 0 })
		if i < 0 {
			return nil
		}
		delete(m.byPeer, m.peers[i+1].id)
		p.index = uint16(i + 1)
		m.peers[i+1] = p
	}
	m.byPeer[id] = p
	return p
}

// bitsOf returns the bits of all links to a neighbour.
func (m *Machine) bitsOf(p *peer) (bits uint64) {
	for _, l := range m.slots {
		if l != nil && l.peer == p {
			bits |= l.bit
		}
	}
	return bits
}

// avoid makes sure a neighbour is not asked for an id for a while: it could
// not or must not deliver it.
func (m *Machine) avoid(p *peer, short uint64) {
	if p.shun == nil || len(p.shun) >= maxShun {
		p.shun = map[uint64]Time{} // a wrong guess costs one request
	}
	p.shun[short] = m.now.Add(shunSecs * time.Second)
}

func (m *Machine) avoided(p *peer, short uint64) bool { return m.now < p.shun[short] }

// serves reports whether the neighbour has told that it serves the tag.
func (p *peer) serves(hash uint32) bool {
	if p.allTags {
		return true
	}
	_, ok := slices.BinarySearch(p.tags, hash)
	return ok
}

// saveCursor writes a peer's cursor if it moved.
func (m *Machine) saveCursor(p *peer) {
	if p.known == p.saved {
		return
	}
	p.saved = p.known
	m.commit(func(error) {}, PutValue{CursorKey(p.id), p.known.marshal()})
}

// blame counts a fault of the neighbour behind a link.
func (m *Machine) blame(l *link, r Reason) {
	m.drop(r)
	l.peer.faults++
	l.faults++
	if l.faults == maxBlame {
		m.hangup(l, "too many faults: "+string(r))
	}
}

func (m *Machine) standing(l *link, e *entry) routing.Standing {
	return routing.Standing{Reads: l.peer.serves(m.tags.hash(m, e.tag)), OnPath: m.queries.onPath(m.now, e.tag, l.id)}
}
