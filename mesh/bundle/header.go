package bundle

import (
	"bytes"
	"fmt"
	"time"

	"github.com/fxamacker/cbor/v2"

	"outrider/mesh/identity"
)

// Precedence orders everything that waits for a link or for space.
type Precedence uint8

// The precedences of military message handling (ACP 121), lowest first.
const (
	Routine Precedence = iota
	Priority
	Immediate
	Flash
)

var precedenceNames = [...]string{"routine", "priority", "immediate", "flash"}

func (p Precedence) String() string {
	if int(p) < len(precedenceNames) {
		return precedenceNames[p]
	}
	return fmt.Sprintf("precedence %d", uint8(p))
}

// ParsePrecedence reads a precedence's name in lower case.
func ParsePrecedence(s string) (Precedence, error) {
	for i, name := range precedenceNames {
		if s == name {
			return Precedence(i), nil
		}
	}
	return 0, fmt.Errorf("bundle: parse precedence: %q is none of routine, priority, immediate, flash: %w", s, ErrMalformed)
}

// Kind says what the payload is, as far as a relay must know.
type Kind uint64

// The payload kinds of version 1. A relay carries kinds it does not know.
const (
	KindMessage Kind = 1 // sealed under an epoch's chain
	KindEpoch   Kind = 2 // a wrapped epoch secret for one device
	KindControl Kind = 3 // a control object: certificate, prekey, profile, revocation, config
	KindBlob    Kind = 4 // root and length of a blob whose leaves travel apart
)

// Flags modify how relays treat a bundle.
type Flags uint64

// FlagArchive keeps a purged bundle at its origin and at core gateways until
// the core has it.
const FlagArchive Flags = 1 << 0

// A Commitment binds a bundle to the key that may purge it.
type Commitment [8]byte

// A Header is the immutable part of a bundle that every relay can read. It
// tells a tag, an urgency and a size class of time, and names nobody.
type Header struct {
	Version    uint64
	Tag        identity.Tag
	Precedence Precedence
	Lifetime   time.Duration // whole minutes, counted by age, not by date
	Commitment Commitment
	Kind       Kind
	Flags      Flags

	raw []byte
}

// wireHeader is the CBOR form. Keys beyond 7 belong to later versions and are
// skipped when reading; the bytes are kept as they came.
type wireHeader struct {
	Version    uint64 `cbor:"1,keyasint"`
	Tag        []byte `cbor:"2,keyasint"`
	Precedence uint64 `cbor:"3,keyasint"`
	Lifetime   uint64 `cbor:"4,keyasint"`
	Commitment []byte `cbor:"5,keyasint"`
	Kind       uint64 `cbor:"6,keyasint,omitempty"`
	Flags      uint64 `cbor:"7,keyasint,omitempty"`
}

var (
	encMode = must(cbor.CoreDetEncOptions().EncMode())
	decMode = must(cbor.DecOptions{
		DupMapKey:        cbor.DupMapKeyEnforcedAPF,
		IndefLength:      cbor.IndefLengthForbidden,
		TagsMd:           cbor.TagsForbidden,
		MaxNestedLevels:  4,
		MaxArrayElements: 16,
		MaxMapPairs:      16,
	}.DecMode())
)

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

// Encode checks h and returns it with its bytes made. Only version 1 can be
// encoded.
func (h Header) Encode() (Header, error) {
	switch {
	case h.Version != Version:
		return h, fmt.Errorf("bundle: encode header: version %d, only %d can be written", h.Version, Version)
	case h.Precedence > Flash:
		return h, fmt.Errorf("bundle: encode header: %v is out of range", h.Precedence)
	case h.Lifetime < time.Minute || h.Lifetime > MaxLifetime || h.Lifetime%time.Minute != 0:
		return h, fmt.Errorf("bundle: encode header: lifetime %v is not whole minutes from 1 min to %v", h.Lifetime, MaxLifetime)
	}
	raw, err := encMode.Marshal(wireHeader{
		Version: h.Version, Tag: h.Tag[:], Precedence: uint64(h.Precedence), Lifetime: uint64(h.Lifetime / time.Minute),
		Commitment: h.Commitment[:], Kind: uint64(h.Kind), Flags: uint64(h.Flags),
	})
	if err != nil {
		return h, fmt.Errorf("bundle: encode header: %v", err)
	}
	h.raw = raw
	return h, nil
}

// ParseHeader reads a header of any version whose keys 1 to 5 are there. The
// bytes are copied and kept exactly.
func ParseHeader(raw []byte) (Header, error) {
	if len(raw) > MaxHeader {
		return Header{}, fmt.Errorf("bundle: parse header: %d bytes exceed %d: %w", len(raw), MaxHeader, ErrMalformed)
	}
	var w wireHeader
	if err := decMode.Unmarshal(raw, &w); err != nil {
		return Header{}, fmt.Errorf("bundle: parse header: %v: %w", err, ErrMalformed)
	}
	switch {
	case w.Version == 0:
		return Header{}, fmt.Errorf("bundle: parse header: no version: %w", ErrMalformed)
	case len(w.Tag) != len(identity.Tag{}) || len(w.Commitment) != len(Commitment{}):
		return Header{}, fmt.Errorf("bundle: parse header: tag and commitment must have 8 bytes: %w", ErrMalformed)
	case w.Precedence > uint64(Flash):
		return Header{}, fmt.Errorf("bundle: parse header: precedence %d: %w", w.Precedence, ErrMalformed)
	case w.Lifetime == 0 || w.Lifetime > uint64(MaxLifetime/time.Minute):
		return Header{}, fmt.Errorf("bundle: parse header: lifetime of %d minutes: %w", w.Lifetime, ErrMalformed)
	}
	return Header{
		Version: w.Version, Tag: identity.Tag(w.Tag), Precedence: Precedence(w.Precedence),
		Lifetime: time.Duration(w.Lifetime) * time.Minute, Commitment: Commitment(w.Commitment),
		Kind: Kind(w.Kind), Flags: Flags(w.Flags), raw: bytes.Clone(raw),
	}, nil
}

// Raw returns the header's bytes as received or encoded. The caller must not
// change them.
func (h Header) Raw() []byte { return h.raw }
