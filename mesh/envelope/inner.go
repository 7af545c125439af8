package envelope

import (
	"encoding/binary"
	"fmt"
	"time"

	"outrider/mesh/identity"
)

// A Type says what the body of an Inner is; content.go has the bodies.
// Unknown types are handed on as they are.
type Type uint64

// The types of content.
const (
	TypeText      Type = 1
	TypeFile      Type = 2
	TypeLocation  Type = 3
	TypeReceipt   Type = 4
	TypeRecall    Type = 5
	TypeRead      Type = 6
	TypeNeedRekey Type = 7
	TypeProfile   Type = 8
	TypeComplete  Type = 9 // all leaves of these files are here; body as a receipt

	TypeCall       Type = 10 // a step of a call
	TypeCallRecord Type = 11 // how a call went
)

// A MessageHash is the first 8 bytes of the hash of what a message's sender
// signed. Messages name the ones they follow by it.
type MessageHash [8]byte

// A RevocationHead says up to where a sender knows the revocations: sequence
// number and the first bytes of the newest hash. Zero means none.
type RevocationHead struct {
	Sequence uint32
	Hash     [4]byte
}

// An Inner is what is inside a seal.
type Inner struct {
	Type    Type
	Sent    uint64        // hlc, milliseconds since 1970
	TTL     time.Duration // from Sent; whole seconds, 0 for none
	Burn    time.Duration // from the first display; whole seconds, 0 for none
	Parents []MessageHash // newest messages of the conversation the sender knows
	Head    RevocationHead
	Body    []byte // see content.go
}

// Times that Inner can carry, in seconds.
const maxSeconds = 1<<32 - 1

// Packings of a body. Numbers from 2 on are zstd with the frozen dictionary
// of number minus one; there is none yet.
const (
	packNone = 0
	packZstd = 1
)

// wireInner is the CBOR form: a map, keys as given, absent when zero.
type wireInner struct {
	Type    uint64 `cbor:"1,keyasint"`
	Sent    uint64 `cbor:"2,keyasint"`
	TTL     uint64 `cbor:"3,keyasint,omitempty"`
	Burn    uint64 `cbor:"4,keyasint,omitempty"`
	Parents []byte `cbor:"5,keyasint,omitempty"`
	Head    []byte `cbor:"6,keyasint,omitempty"`
	Body    []byte `cbor:"7,keyasint,omitempty"`
	Packing uint64 `cbor:"8,keyasint,omitempty"`
}

// encode makes the fields of an Inner, packing the body of types that may be
// packed if the sealed message gets smaller by it.
func (in Inner) encode(p Padding) ([]byte, error) {
	w := wireInner{Type: uint64(in.Type), Sent: in.Sent, TTL: uint64(in.TTL / time.Second), Burn: uint64(in.Burn / time.Second), Body: in.Body}
	switch {
	case len(in.Body) > MaxBody:
		return nil, fmt.Errorf("envelope: seal: body of %d bytes, at most %d: %w", len(in.Body), MaxBody, ErrTooLarge)
	case len(in.Parents) > MaxParents:
		return nil, fmt.Errorf("envelope: seal: %d parents, at most %d: %w", len(in.Parents), MaxParents, ErrTooLarge)
	case in.TTL < 0 || in.Burn < 0 || w.TTL > maxSeconds || w.Burn > maxSeconds:
		return nil, fmt.Errorf("envelope: seal: time to live out of range: %w", ErrTooLarge)
	}
	for _, h := range in.Parents {
		w.Parents = append(w.Parents, h[:]...)
	}
	if in.Head != (RevocationHead{}) {
		w.Head = append(binary.BigEndian.AppendUint32(nil, in.Head.Sequence), in.Head.Hash[:]...)
	}
	if in.Type == TypeText && len(in.Body) >= minPack {
		if packed := packBody(in.Body); len(in.Body) <= maxRatio*len(packed) && p.size(len(packed)+innerExtra) < p.size(len(in.Body)+innerExtra) {
			w.Body, w.Packing = packed, packZstd
		}
	}
	return identity.Marshal(w)
}

// innerExtra is about what stands around a body in a plaintext.
const innerExtra = 2 + sigSize + 32

func parseInner(fields []byte) (Inner, error) {
	var w wireInner
	if err := identity.UnmarshalOpen(fields, &w); err != nil {
		return Inner{}, malformed("inner message")
	}
	if w.TTL > maxSeconds || w.Burn > maxSeconds || len(w.Parents)%8 != 0 || len(w.Parents)/8 > MaxParents ||
		w.Head != nil && len(w.Head) != 8 || len(w.Body) > MaxBody {
		return Inner{}, malformed("inner message: a field is out of bounds")
	}
	in := Inner{
		Type: Type(w.Type), Sent: w.Sent, Body: w.Body,
		TTL: time.Duration(w.TTL) * time.Second, Burn: time.Duration(w.Burn) * time.Second,
	}
	for p := w.Parents; len(p) > 0; p = p[8:] {
		in.Parents = append(in.Parents, MessageHash(p[:8]))
	}
	if w.Head != nil {
		in.Head = RevocationHead{binary.BigEndian.Uint32(w.Head), [4]byte(w.Head[4:])}
	}
	return in, in.unpack(w.Packing)
}

func (in *Inner) unpack(packing uint64) (err error) {
	switch packing {
	case packNone:
	case packZstd:
		in.Body, err = unpackBody(in.Body)
	default:
		err = fmt.Errorf("envelope: body packed with dictionary %d: %w", packing-1, ErrUnsupported)
	}
	return err
}
