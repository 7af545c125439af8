package identity

import (
	"bytes"
	"fmt"

	"github.com/fxamacker/cbor/v2"
)

// Limits of what Unmarshal reads, whatever the type.
const (
	maxDepth    = 8       // nested arrays and maps
	maxElements = 4096    // of one array or map
	maxEncoded  = 1 << 20 // bytes of one item
)

// encMode is RFC 8949, section 4.2.1: shortest integers, definite lengths,
// map keys in bytewise order.
var encMode = must(cbor.CoreDetEncOptions().EncMode())

var decMode = must(cbor.DecOptions{
	DupMapKey:        cbor.DupMapKeyEnforcedAPF,
	IndefLength:      cbor.IndefLengthForbidden,
	TagsMd:           cbor.TagsForbidden,
	MaxNestedLevels:  maxDepth,
	MaxArrayElements: maxElements,
	MaxMapPairs:      maxElements,
}.DecMode())

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

// Marshal encodes v as deterministic CBOR (RFC 8949, section 4.2.1).
func Marshal(v any) ([]byte, error) {
	b, err := encMode.Marshal(v)
	if err != nil {
		return nil, fmt.Errorf("identity: encode: %v", err)
	}
	return b, nil
}

// Unmarshal decodes exactly what Marshal would have written for the value it
// yields, and nothing else: a form that is not deterministic, a duplicate or
// unknown map key, a byte string too short or too long for its array, null
// for a value, trailing bytes, tags, depth over 8, more than 4,096 elements
// or 1 MiB are all ErrMalformed. A format that must read its successors uses
// UnmarshalOpen.
func Unmarshal(data []byte, v any) error {
	if err := decode(data, v); err != nil {
		return err
	}
	again, err := encMode.Marshal(v)
	if err != nil || !bytes.Equal(again, data) {
		return fmt.Errorf("identity: decode: not the deterministic form: %w", ErrMalformed)
	}
	return nil
}

// UnmarshalOpen is Unmarshal for formats that skip map keys they do not know.
// It keeps the limits but cannot tell the deterministic form from another, so
// whatever is signed or hashed must be the bytes received; and fixed-size byte
// strings must be declared []byte and their length checked by the caller.
func UnmarshalOpen(data []byte, v any) error { return decode(data, v) }

func decode(data []byte, v any) error {
	if len(data) > maxEncoded {
		return fmt.Errorf("identity: decode: %d bytes exceed %d: %w", len(data), maxEncoded, ErrMalformed)
	}
	if err := decMode.Unmarshal(data, v); err != nil {
		return fmt.Errorf("identity: decode: %v: %w", err, ErrMalformed)
	}
	return nil
}
