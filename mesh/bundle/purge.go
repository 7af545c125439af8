package bundle

import (
	"crypto/sha256"
	"crypto/subtle"
	"fmt"
	"log/slog"

	"outrider/mesh/identity"
)

// A PurgeKey lets whoever holds it remove one bundle everywhere. Before it is
// released only the author and the readers can compute it.
type PurgeKey [16]byte

// String hides the key, which is a secret until it is released.
func (PurgeKey) String() string { return "[purge key]" }

// LogValue hides the key.
func (PurgeKey) LogValue() slog.Value { return slog.StringValue("[purge key]") }

const purgeLabel = "outrider/v1/purge\x00"

// Commit returns what a header carries so that k purges bundles of that tag.
func (k PurgeKey) Commit(tag identity.Tag) Commitment {
	b := append([]byte(purgeLabel), tag[:]...)
	sum := sha256.Sum256(append(b, k[:]...))
	return Commitment(sum[:8])
}

// A PurgeRecord removes one bundle and is its tombstone until the lifetime
// ends. Anybody can check it: header and payload hash give the bundle's id,
// and the key must fit the header's commitment. It names nobody.
type PurgeRecord struct {
	Hop         Hop // age continues the bundle's
	Header      Header
	PayloadHash [32]byte
	Key         PurgeKey
}

// NewPurgeRecord makes the record that removes b, with the age b has now.
func NewPurgeRecord(b Bundle, k PurgeKey) PurgeRecord {
	return PurgeRecord{Hop: Hop{Age: b.Hop.Age}, Header: b.Header, PayloadHash: sha256.Sum256(b.Payload), Key: k}
}

// ID returns the id of the bundle that the record removes.
func (r PurgeRecord) ID() ID { return HashOf(r.Header.raw, r.PayloadHash).ID() }

// Valid reports whether the key fits the header's commitment.
func (r PurgeRecord) Valid() bool {
	c := r.Key.Commit(r.Header.Tag)
	return subtle.ConstantTimeCompare(c[:], r.Header.Commitment[:]) == 1
}

// MaxPurgeRecord is the largest encoded purge record, in bytes.
const MaxPurgeRecord = MaxHop + MaxHeader + 4 + 32 + 16

// Append appends the record: hop part and header, each with its length as in
// a bundle, then payload hash (32 B) and key (16 B).
func (r PurgeRecord) Append(dst []byte) []byte {
	dst = appendBytes(dst, r.Hop.Append(nil))
	dst = appendBytes(dst, r.Header.raw)
	dst = append(dst, r.PayloadHash[:]...)
	return append(dst, r.Key[:]...)
}

// ParsePurgeRecord reads one record that fills data to its end. It does not
// check the key: see Valid.
func ParsePurgeRecord(data []byte) (PurgeRecord, error) {
	var r PurgeRecord
	hop, rest, err := cutBytes(data, "purge record's hop part", MaxHop)
	if err != nil {
		return r, err
	}
	header, rest, err := cutBytes(rest, "purge record's header", MaxHeader)
	if err != nil {
		return r, err
	}
	if len(rest) != len(r.PayloadHash)+len(r.Key) {
		return r, fmt.Errorf("bundle: parse purge record: %d bytes after the header: %w", len(rest), ErrMalformed)
	}
	if r.Hop, err = ParseHop(hop); err != nil {
		return r, err
	}
	if r.Header, err = ParseHeader(header); err != nil {
		return r, err
	}
	copy(r.PayloadHash[:], rest)
	copy(r.Key[:], rest[len(r.PayloadHash):])
	return r, nil
}
