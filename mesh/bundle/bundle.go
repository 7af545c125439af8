// Package bundle defines the unit that nodes store, carry and forward.
//
// A bundle on a link, on disk and on a stick is three byte strings, each with
// its length in front as an unsigned varint (as protobuf's; encoding/binary):
//
//	hop     CBOR array [age s, hop count, replica budget, ...]; rewritten at each hop, outside the id
//	header  deterministic CBOR map with integer keys, immutable, at most 256 bytes
//	payload a sealed envelope, opaque here, at most 64 KiB
//
// Header keys: 1 version, 2 tag (8 B), 3 precedence, 4 lifetime (minutes),
// 5 purge commitment (8 B), 6 payload kind, 7 flags (absent when 0). A relay
// carries any version whose keys 1 to 5 it understands; keys and hop fields it
// does not know are kept byte for byte.
//
//	hash = SHA-256("outrider/v1/bundle\x00" || header length (2 B, big endian) || header as received || SHA-256(payload))
//
// The first 16 bytes of the hash are the bundle's ID, used in sets and on
// links; whoever receives a bundle computes the full hash. The terms are those
// of RFC 9171; the format is our own, for its size: header and hop part of a
// typical message are 37 bytes together.
package bundle

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"time"
)

// Limits that the format fixes.
const (
	Version    = 1        // the version this package writes
	MaxHeader  = 256      // bytes
	MaxHop     = 64       // bytes
	MaxPayload = 64 << 10 // bytes
	MaxBudget  = 32       // a larger replica budget is read as this
	MaxSize    = MaxPayload + MaxHeader + MaxHop + 3*binary.MaxVarintLen32
)

// MaxLifetime is the longest lifetime a header can state. Networks set lower
// ceilings.
const MaxLifetime = 366 * 24 * time.Hour

// ErrMalformed is wrapped by every error about bytes that are not a bundle.
var ErrMalformed = errors.New("malformed")

// An ID is the first 16 bytes of a bundle's hash.
type ID [16]byte

// A Hash is the full hash of a bundle; see the package comment.
type Hash [32]byte

// ID returns the part of the hash that sets and links use.
func (h Hash) ID() ID { return ID(h[:16]) }

func (id ID) String() string               { return hex.EncodeToString(id[:]) }
func (id ID) MarshalText() ([]byte, error) { return []byte(id.String()), nil }
func (id ID) IsZero() bool                 { return id == ID{} }

// UnmarshalText reads 32 hexadecimal digits.
func (id *ID) UnmarshalText(b []byte) error {
	if len(b) != 2*len(id) {
		return fmt.Errorf("bundle: parse id: want %d hexadecimal digits: %w", 2*len(id), ErrMalformed)
	}
	if _, err := hex.Decode(id[:], b); err != nil {
		return fmt.Errorf("bundle: parse id: not hexadecimal: %w", ErrMalformed)
	}
	return nil
}

// ParseID reads an ID from its text form.
func ParseID(s string) (id ID, err error) { return id, id.UnmarshalText([]byte(s)) }

const hashLabel = "outrider/v1/bundle\x00"

// HashOf computes the hash of a bundle from its header as received and the
// SHA-256 of its payload.
func HashOf(header []byte, payloadHash [32]byte) Hash {
	b := make([]byte, 0, len(hashLabel)+2+MaxHeader+32)
	b = append(b, hashLabel...)
	b = binary.BigEndian.AppendUint16(b, uint16(len(header)))
	b = append(b, header...)
	b = append(b, payloadHash[:]...)
	return sha256.Sum256(b)
}

// A Bundle is a header with its payload and the hop part it arrived with.
type Bundle struct {
	Hop     Hop
	Header  Header
	Payload []byte
}

// New makes a bundle that starts here: age zero, no hops.
func New(h Header, payload []byte, budget uint8) (Bundle, error) {
	if len(payload) > MaxPayload {
		return Bundle{}, fmt.Errorf("bundle: new: payload of %d bytes exceeds %d", len(payload), MaxPayload)
	}
	h, err := h.Encode()
	if err != nil {
		return Bundle{}, err
	}
	return Bundle{Hop: Hop{Budget: min(budget, MaxBudget)}, Header: h, Payload: payload}, nil
}

// Hash returns the full hash. The header must have been encoded or parsed.
func (b Bundle) Hash() Hash { return HashOf(b.Header.raw, sha256.Sum256(b.Payload)) }

// ID returns the first half of the hash.
func (b Bundle) ID() ID { return b.Hash().ID() }

// Append appends the three length-prefixed byte strings to dst.
func (b Bundle) Append(dst []byte) []byte {
	dst = appendBytes(dst, b.Hop.Append(nil))
	dst = appendBytes(dst, b.Header.raw)
	return appendBytes(dst, b.Payload)
}

// Parse reads one bundle that fills data to its end. The payload aliases data.
func Parse(data []byte) (Bundle, error) {
	var b Bundle
	hop, rest, err := cutBytes(data, "hop part", MaxHop)
	if err != nil {
		return b, err
	}
	header, rest, err := cutBytes(rest, "header", MaxHeader)
	if err != nil {
		return b, err
	}
	if b.Payload, rest, err = cutBytes(rest, "payload", MaxPayload); err != nil {
		return b, err
	}
	if len(rest) != 0 {
		return b, fmt.Errorf("bundle: parse: %d bytes after the payload: %w", len(rest), ErrMalformed)
	}
	if b.Hop, err = ParseHop(hop); err != nil {
		return b, err
	}
	b.Header, err = ParseHeader(header)
	return b, err
}

func appendBytes(dst, b []byte) []byte {
	return append(binary.AppendUvarint(dst, uint64(len(b))), b...)
}

// cutBytes splits a length-prefixed byte string off data. The length is
// checked before anything is done with it, and only its shortest encoding is
// accepted, so that a bundle has one form.
func cutBytes(data []byte, what string, limit uint64) (b, rest []byte, err error) {
	n, w := binary.Uvarint(data)
	switch {
	case w <= 0 || w > 1 && data[w-1] == 0:
		return nil, nil, fmt.Errorf("bundle: parse %s: bad length: %w", what, ErrMalformed)
	case n > limit:
		return nil, nil, fmt.Errorf("bundle: parse %s: %d bytes exceed %d: %w", what, n, limit, ErrMalformed)
	case n > uint64(len(data)-w):
		return nil, nil, fmt.Errorf("bundle: parse %s: truncated: %w", what, ErrMalformed)
	}
	return data[w : w+int(n)], data[w+int(n):], nil
}
