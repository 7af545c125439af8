package store

import (
	"bytes"
	"encoding/binary"
	"fmt"

	"outrider/mesh/bundle"
	"outrider/mesh/identity"
	"outrider/store/internal/segment"
)

// Meta is what a node knows of a bundle or purge record beyond its bytes. The
// store gives meaning to Due and Seq only.
type Meta struct {
	// Due is when the lifetime ends, in seconds of the agent's own elapsed
	// time. It orders the expiry index.
	Due uint64
	// Seq is the order of acceptance, given by the agent. It orders bundles
	// of equal precedence, and cursors of neighbours point at it.
	Seq uint64

	Ingress   identity.NodeID // who handed it over; zero if Own
	Own       bool            // submitted at this node
	Consumed  bool            // delivered here, and not to be again
	Budget    uint8           // replicas this node may still make
	Replicas  uint8           // replicas known to exist elsewhere
	StoredAge uint32          // age in seconds when it was accepted
	Supersede [16]byte        // key of the control object it is; zero for others
	Extra     []byte          // whatever else the agent wants to keep, at most MaxExtra
}

// A Record is everything about a stored bundle but its payload.
type Record struct {
	ID          bundle.ID
	Hop         bundle.Hop
	Header      []byte // as received; bundle.ParseHeader reads it
	PayloadHash [32]byte
	PayloadLen  uint32
	Meta        Meta

	// Filled in by the store from the header.
	Tag        identity.Tag
	Precedence bundle.Precedence

	place segment.Place // of the payload, if PayloadLen > 0
}

// Flags of an encoded record or purge record.
const (
	flagOwn = 1 << iota
	flagConsumed
	flagIngress
	flagSupersede
	flagsKnown = flagOwn | flagConsumed | flagIngress | flagSupersede
)

const recordVersion = 1

// cost is what the record counts against the quota.
func (r Record) cost() uint64 { return uint64(r.PayloadLen) + RecordCost }

// frame is what the payload occupies in its segment.
func (r Record) frame() uint32 {
	if r.PayloadLen == 0 {
		return 0
	}
	return segment.FrameHeader + r.PayloadLen
}

// encode returns the record as the index keeps it:
//
//	version 1, meta (see appendMeta), tag 8, precedence 1, payload hash 32, payload length 4,
//	segment 4, offset 4, hop part with its length in 1 byte, header with its length in 2
func (r Record) encode() []byte {
	b := make([]byte, 0, 160+len(r.Header)+len(r.Meta.Extra))
	b = r.Meta.append(append(b, recordVersion))
	b = append(append(b, r.Tag[:]...), byte(r.Precedence))
	b = append(b, r.PayloadHash[:]...)
	b = binary.BigEndian.AppendUint32(b, r.PayloadLen)
	b = binary.BigEndian.AppendUint32(b, r.place.Segment)
	b = binary.BigEndian.AppendUint32(b, r.place.Offset)
	hop := r.Hop.Append(nil)
	b = append(append(b, byte(len(hop))), hop...)
	b = binary.BigEndian.AppendUint16(b, uint16(len(r.Header)))
	return append(b, r.Header...)
}

// append appends the meta: flags 1, due 8, seq 8, budget 1, replicas 1, age 4,
// ingress 32 and supersede key 16 if their flags are set, extra with its length
// in 2 bytes.
func (m Meta) append(b []byte) []byte {
	var flags byte
	set := func(on bool, f byte) {
		if on {
			flags |= f
		}
	}
	set(m.Own, flagOwn)
	set(m.Consumed, flagConsumed)
	set(!m.Ingress.IsZero(), flagIngress)
	set(m.Supersede != [16]byte{}, flagSupersede)
	b = append(b, flags)
	b = binary.BigEndian.AppendUint64(b, m.Due)
	b = binary.BigEndian.AppendUint64(b, m.Seq)
	b = append(b, m.Budget, m.Replicas)
	b = binary.BigEndian.AppendUint32(b, m.StoredAge)
	if flags&flagIngress != 0 {
		b = append(b, m.Ingress[:]...)
	}
	if flags&flagSupersede != 0 {
		b = append(b, m.Supersede[:]...)
	}
	b = binary.BigEndian.AppendUint16(b, uint16(len(m.Extra)))
	return append(b, m.Extra...)
}

func parseRecord(id bundle.ID, raw []byte) (Record, error) {
	r := Record{ID: id}
	c := cutter{rest: raw}
	version := c.byte()
	r.Meta = parseMeta(&c)
	c.copy(r.Tag[:])
	r.Precedence = bundle.Precedence(c.byte())
	c.copy(r.PayloadHash[:])
	r.PayloadLen = c.uint32()
	r.place.Segment, r.place.Offset = c.uint32(), c.uint32()
	hop := c.take(int(c.byte()))
	r.Header = bytes.Clone(c.take(int(c.uint16())))
	if !c.ended() || version != recordVersion || len(r.Header) > bundle.MaxHeader || r.PayloadLen > bundle.MaxPayload {
		return Record{}, fmt.Errorf("store: read record of %v: %w", id, ErrCorrupt)
	}
	var err error
	if r.Hop, err = bundle.ParseHop(hop); err != nil || !bytes.Equal(r.Hop.Append(nil), hop) {
		return Record{}, fmt.Errorf("store: read record of %v: hop part: %w", id, ErrCorrupt)
	}
	return r, nil
}

func parseMeta(c *cutter) (m Meta) {
	flags := c.byte()
	m.Own, m.Consumed = flags&flagOwn != 0, flags&flagConsumed != 0
	m.Due, m.Seq = c.uint64(), c.uint64()
	m.Budget, m.Replicas = c.byte(), c.byte()
	m.StoredAge = c.uint32()
	if flags&flagIngress != 0 {
		c.copy(m.Ingress[:])
		c.bad = c.bad || m.Ingress.IsZero()
	}
	if flags&flagSupersede != 0 {
		c.copy(m.Supersede[:])
		c.bad = c.bad || m.Supersede == [16]byte{}
	}
	if n := int(c.uint16()); n > 0 {
		m.Extra = bytes.Clone(c.take(n))
	}
	c.bad = c.bad || flags&^flagsKnown != 0 || len(m.Extra) > MaxExtra
	return m
}

// A Purge is a stored purge record.
type Purge struct {
	Record bundle.PurgeRecord
	Meta   Meta
}

// ID returns the id of the bundle that the record removes.
func (p Purge) ID() bundle.ID { return p.Record.ID() }

// encode: version 1, meta, record as bundle.PurgeRecord.Append writes it.
func (p Purge) encode() []byte {
	return p.Record.Append(p.Meta.append([]byte{recordVersion}))
}

func parsePurge(id bundle.ID, raw []byte) (Purge, error) {
	var p Purge
	c := cutter{rest: raw}
	version := c.byte()
	p.Meta = parseMeta(&c)
	if c.bad || version != recordVersion {
		return Purge{}, fmt.Errorf("store: read purge record of %v: %w", id, ErrCorrupt)
	}
	var err error
	if p.Record, err = bundle.ParsePurgeRecord(c.rest); err != nil || p.ID() != id || !bytes.Equal(p.Record.Append(nil), c.rest) {
		return Purge{}, fmt.Errorf("store: read purge record of %v: %w", id, ErrCorrupt)
	}
	return p, nil
}

// A cutter takes fields off the front of a byte string. After the first one
// that is not there, all are zero and bad is set.
type cutter struct {
	rest []byte
	bad  bool
}

func (c *cutter) take(n int) []byte {
	if c.bad || n > len(c.rest) {
		c.bad = true
		return nil
	}
	b := c.rest[:n:n]
	c.rest = c.rest[n:]
	return b
}

func (c *cutter) copy(dst []byte) { copy(dst, c.take(len(dst))) }

func (c *cutter) byte() byte {
	if b := c.take(1); b != nil {
		return b[0]
	}
	return 0
}

func (c *cutter) uint16() uint16 {
	if b := c.take(2); b != nil {
		return binary.BigEndian.Uint16(b)
	}
	return 0
}

func (c *cutter) uint32() uint32 {
	if b := c.take(4); b != nil {
		return binary.BigEndian.Uint32(b)
	}
	return 0
}

func (c *cutter) uint64() uint64 {
	if b := c.take(8); b != nil {
		return binary.BigEndian.Uint64(b)
	}
	return 0
}

// ended reports whether everything was there and nothing is left.
func (c *cutter) ended() bool { return !c.bad && len(c.rest) == 0 }
