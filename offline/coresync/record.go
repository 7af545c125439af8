package coresync

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"slices"

	"outrider/mesh/blob"
	"outrider/mesh/bundle"
	"outrider/mesh/identity"
)

// Wire forms. CORE.md, sections 3 and 4.

// openParcel reads a BOX message: it must be what its subject says.
func openParcel(subject string, data []byte) (p Parcel, err error) {
	n, err := parseBox(subject)
	if err != nil {
		return p, err
	}
	if len(data) > maxParcel {
		return p, fmt.Errorf("coresync: a parcel of %d bytes: %w", len(data), ErrMalformed)
	}
	p.ID = n.id
	if n.purge {
		r, err := bundle.ParsePurgeRecord(data)
		if err != nil || !r.Valid() || r.ID() != n.id || r.Header.Tag != n.tag || purgeSubject(r) != subject {
			return p, fmt.Errorf("coresync: a purge record is not what it was filed as: %w", ErrMalformed)
		}
		p.Purge = &r
		return p, nil
	}
	b, err := bundle.Parse(data)
	if err != nil || b.ID() != n.id || b.Header.Tag != n.tag {
		return p, fmt.Errorf("coresync: a bundle is not what it was filed as: %w", ErrMalformed)
	}
	b.Payload = bytes.Clone(b.Payload)
	p.Bundle = &b
	return p, nil
}

// appendChunk encodes a chunk: length of the proof (2 B), proof, leaves.
func (c Chunk) append(dst []byte) []byte {
	dst = binary.BigEndian.AppendUint16(dst, uint16(len(c.Proof)))
	dst = append(dst, c.Proof...)
	for _, leaf := range c.Leaves {
		dst = append(dst, leaf...)
	}
	return dst
}

// openChunk reads a chunk and verifies it against the file's root.
func openChunk(d blob.Descriptor, index int, data []byte) (c Chunk, err error) {
	bad := func(what string) (Chunk, error) {
		return Chunk{}, fmt.Errorf("coresync: chunk %d: %s: %w", index, what, ErrMalformed)
	}
	if len(data) < 2 || len(data) > maxChunk {
		return bad("size")
	}
	n := int(binary.BigEndian.Uint16(data))
	if n > blob.MaxProof || len(data) < 2+n {
		return bad("length of its proof")
	}
	c = Chunk{Blob: d, Index: index, Proof: data[2 : 2+n]}
	proof, err := blob.ParseProof(c.Proof)
	if err != nil || proof.Verify(d.Root, d.Length, index) != nil {
		return bad("its proof does not fit the file")
	}
	rest, geo := data[2+n:], d.Geometry()
	first, end := geo.GroupRange(index)
	for i := first; i < end; i++ {
		size := geo.LeafLen(i)
		if len(rest) < size || proof.CheckLeaf(i-first, rest[:size]) != nil {
			return bad("a leaf does not fit the file")
		}
		c.Leaves, rest = append(c.Leaves, rest[:size]), rest[size:]
	}
	if len(rest) > 0 {
		return bad("bytes behind the last leaf")
	}
	return c, nil
}

// What is asked of the desk.
const (
	askHello = 1
	askBoxes = 2 // read these mailboxes from now on
	askCheck = 3 // is what lies on a bundle's subject that bundle?
	askHave  = 4 // which chunks of a file are there?
	askChunk = 5
	askList  = 6 // what lies in these mailboxes?
	askBox   = 7 // one thing of the list
)

// A question to the desk. Lists of tags are one byte string, so that they
// cost 8 B each.
type question struct {
	Ask    uint8  `cbor:"1,keyasint"`
	Tags   []byte `cbor:"2,keyasint,omitempty"`
	Purges []byte `cbor:"3,keyasint,omitempty"`
	Name   []byte `cbor:"4,keyasint,omitempty"` // of a thing in a list: after it, or itself
	Tag    []byte `cbor:"5,keyasint,omitempty"`
	ID     []byte `cbor:"6,keyasint,omitempty"`
	Root   []byte `cbor:"7,keyasint,omitempty"`
	Node   string `cbor:"8,keyasint,omitempty"`
	Index  uint32 `cbor:"9,keyasint,omitempty"`
	Again  bool   `cbor:"10,keyasint,omitempty"`
}

// The desk's verdicts.
const (
	deskOK     = 1
	deskAbsent = 2
	deskForged = 3 // something else lies there
	deskBad    = 4 // the question is malformed or beyond a limit
	deskFailed = 5 // try again
)

type answer struct {
	Verdict uint8    `cbor:"1,keyasint"`
	Core    []byte   `cbor:"2,keyasint,omitempty"` // 16 B, drawn when the streams were made
	Now     int64    `cbor:"3,keyasint,omitempty"` // the core's clock, in ns
	Holders []holder `cbor:"4,keyasint,omitempty"`
	Data    []byte   `cbor:"5,keyasint,omitempty"`
	Stored  int64    `cbor:"6,keyasint,omitempty"` // when a parcel came to the core, by its clock, in ns
	More    bool     `cbor:"7,keyasint,omitempty"` // the list goes on
	Since   int64    `cbor:"8,keyasint,omitempty"` // when the core began to deliver to the node, by its clock, in ns
}

// A holder's chunks are a bitmap, lowest bit first.
type holder struct {
	Node   string `cbor:"1,keyasint"`
	Chunks []byte `cbor:"2,keyasint"`
}

const (
	maxHolders = 64   // named for one file
	listTags   = 256  // asked for in one list
	listNames  = 8192 // named in one answer
)

func parseQuestion(data []byte) (q question, err error) {
	if err := identity.Unmarshal(data, &q); err != nil {
		return q, fmt.Errorf("coresync: a question does not parse: %w", ErrMalformed)
	}
	ok := true
	switch q.Ask {
	case askHello:
	case askBoxes:
		ok = len(q.Tags)%tagBytes == 0 && len(q.Tags) <= MaxTags*tagBytes && len(q.Purges)%tagBytes == 0 && len(q.Purges) <= MaxTags*tagBytes
	case askList:
		ok = len(q.Tags)%tagBytes == 0 && len(q.Purges)%tagBytes == 0 && len(q.Tags)+len(q.Purges) <= listTags*tagBytes && (len(q.Name) == 0 || len(q.Name) == nameBytes)
	case askBox:
		_, _, _, err := unpackName(q.Name)
		ok = err == nil
	case askCheck:
		ok = len(q.Tag) == tagBytes && len(q.ID) == len(bundle.ID{})
	case askHave:
		ok = len(q.Root) == blob.HashSize
	case askChunk:
		ok = len(q.Root) == blob.HashSize && validNode(q.Node) && q.Index < (blob.MaxLeaves+chunkLeaves-1)/chunkLeaves
	default:
		ok = false
	}
	if !ok {
		return q, fmt.Errorf("coresync: a question out of bounds: %w", ErrMalformed)
	}
	return q, nil
}

func parseAnswer(data []byte) (a answer, err error) {
	if err := identity.Unmarshal(data, &a); err != nil || a.Verdict == 0 || len(a.Core) != 0 && len(a.Core) != 16 || len(a.Holders) > maxHolders || len(a.Data) > max(maxChunk, listNames*nameBytes) {
		return a, fmt.Errorf("coresync: the desk's answer does not parse: %w", ErrMalformed)
	}
	for _, h := range a.Holders {
		if !validNode(h.Node) || len(h.Chunks) > (blob.MaxLeaves/chunkLeaves+7)/8 {
			return a, fmt.Errorf("coresync: the desk's answer names no node: %w", ErrMalformed)
		}
	}
	return a, nil
}

func packTags(tags []identity.Tag) []byte {
	slices.SortFunc(tags, func(a, b identity.Tag) int { return bytes.Compare(a[:], b[:]) })
	var out []byte
	for _, t := range slices.Compact(tags) {
		out = append(out, t[:]...)
	}
	return out
}

func unpackTags(raw []byte) (tags []identity.Tag) {
	for c := range slices.Chunk(raw, tagBytes) {
		tags = append(tags, identity.Tag(c))
	}
	return tags
}
