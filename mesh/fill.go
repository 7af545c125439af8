package mesh

import (
	"fmt"

	"outrider/mesh/blob"
	"outrider/mesh/bundle"
)

// A Reader is what Fill reads.
type Reader struct {
	Bundle    func(bundle.ID) (Record, []byte, error)
	Tombstone func(bundle.ID) (Tombstone, error)
	Proof     func(root blob.Root, group int) ([]byte, error)
	Leaf      func(root blob.Root, leaf int) ([]byte, error)
}

// Fill makes the frame of a Send: its head and what its load names.
func Fill(o Send, read Reader) ([]byte, error) {
	switch l := o.Load.(type) {
	case nil:
		return o.Head, nil
	case LoadBundle:
		return fillBundle(l, read)
	case LoadPayload:
		_, payload, err := read.Bundle(l.ID)
		if err != nil {
			return nil, err
		}
		return fillPart(o.Head, payload, l.Offset, l.End)
	case LoadTombstone:
		t, err := read.Tombstone(l.ID)
		if err != nil {
			return nil, err
		}
		t.Record.Hop.Age = l.Age
		t.Record.Hop = t.Record.Hop.Next(0)
		return t.Record.Append(o.Head), nil
	case LoadProof:
		proof, err := read.Proof(l.Root, l.Group)
		if err != nil {
			return nil, err
		}
		return append(o.Head, proof...), nil
	case LoadLeaf:
		leaf, err := read.Leaf(l.Root, l.Leaf)
		if err != nil {
			return nil, err
		}
		return fillPart(o.Head, leaf, l.Offset, l.End)
	}
	panic(fmt.Sprintf("mesh: load of type %T", o.Load))
}

func fillPart(head, data []byte, from, to int) ([]byte, error) {
	if from > to || to > len(data) {
		return nil, ErrNotStored
	}
	out := make([]byte, 0, len(head)+to-from)
	return append(append(out, head...), data[from:to]...), nil
}

// fillBundle rewrites the hop part: one link further, with the age of now.
func fillBundle(l LoadBundle, read Reader) ([]byte, error) {
	r, payload, err := read.Bundle(l.ID)
	if err != nil {
		return nil, err
	}
	if l.End > len(payload) {
		return nil, ErrNotStored
	}
	h := transferHead{Num: l.Num, Hop: r.Hop, Header: r.Header, PayloadHash: r.PayloadHash, Size: len(payload)}
	h.Hop.Age = l.Age
	h.Hop = h.Hop.Next(l.Budget)
	out := make([]byte, 0, bundle.MaxHeader+bundle.MaxHop+32+16+l.End-l.Offset)
	out = appendTransfer(out, l.Begin, h, l.Offset)
	return append(out, payload[l.Offset:l.End]...), nil
}

// UnsentHead is the Head to report in Unsent for a Send that Fill refused.
func UnsentHead(o Send) []byte {
	if l, ok := o.Load.(LoadBundle); ok {
		return appendNum([]byte{typeBundle}, l.Num)
	}
	return o.Head
}
