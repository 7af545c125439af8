package store

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"iter"
	"math"

	"outrider/mesh/bundle"
	"outrider/mesh/identity"
	"outrider/store/internal/kv"
)

// An Index is an order in which bundles can be visited.
type Index uint8

const (
	ByID         Index = iota // no particular order; the cheapest
	ByExpiry                  // Meta.Due, earliest first
	ByPrecedence              // highest precedence first, then Meta.Seq
	ByTag                     // one tag; highest precedence first, then Meta.Seq
)

// A Query says which bundles to visit, and in which order.
type Query struct {
	Index   Index
	Tag     identity.Tag       // ByTag: the tag
	Until   uint64             // ByExpiry: only Meta.Due up to this; 0 is no limit
	Only    *bundle.Precedence // ByPrecedence, ByTag: only this precedence
	Seq     uint64             // with Only: only Meta.Seq from this on
	After   *Record            // continue after this record of an earlier page
	Reverse bool               // the other way round
	Limit   int                // at most so many; 0 is no limit
}

// Bundles visits the records of stored bundles: everything but the payloads.
// The iteration sees the store as it was at its beginning, less what has been
// removed since. It holds up Close and the reuse of disk space, so pages are
// better than long visits. After an error it ends.
func (s *Store) Bundles(q Query) iter.Seq2[Record, error] {
	if q.Index == ByID {
		return limited(s.bundlesByID(q), q.Limit)
	}
	return limited(s.bundlesByIndex(q), q.Limit)
}

// limited ends a sequence after n items; 0 is no limit.
func limited[T any](seq iter.Seq2[T, error], n int) iter.Seq2[T, error] {
	if n == 0 {
		return seq
	}
	return func(yield func(T, error) bool) {
		left := n
		for v, err := range seq {
			left--
			if !yield(v, err) || err != nil || left == 0 {
				return
			}
		}
	}
}

func (s *Store) bundlesByID(q Query) iter.Seq2[Record, error] {
	return func(yield func(Record, error) bool) {
		r := kv.Range{Prefix: []byte{prefixBundle}, Reverse: q.Reverse}
		if q.After != nil {
			r.From = keyBundle(q.After.ID)
		}
		for p, err := range s.kv.Scan(r) {
			if err != nil {
				yield(Record{}, fmt.Errorf("store: list bundles: %w", err))
				return
			}
			id := indexID(p.Key)
			if q.After != nil && id == q.After.ID {
				continue
			}
			rec, err := parseRecord(id, p.Value)
			if !yield(rec, err) || err != nil {
				return
			}
		}
	}
}

func (s *Store) bundlesByIndex(q Query) iter.Seq2[Record, error] {
	return func(yield func(Record, error) bool) {
		r := q.keys()
		after := q.afterKey()
		if after != nil {
			r.From = after
		}
		for p, err := range s.kv.Scan(r) {
			if err != nil {
				yield(Record{}, fmt.Errorf("store: list bundles: %w", err))
				return
			}
			if q.ended(p.Key) {
				return
			}
			if string(p.Key) == string(after) || q.skips(p.Key) {
				continue
			}
			rec, err := s.Bundle(indexID(p.Key))
			if errors.Is(err, ErrNotFound) {
				continue // removed meanwhile
			}
			if !yield(rec, err) || err != nil {
				return
			}
		}
	}
}

// keys is the range of index keys a query visits.
func (q Query) keys() kv.Range {
	r := kv.Range{Reverse: q.Reverse, KeysOnly: true}
	switch q.Index {
	case ByExpiry:
		r.Prefix = []byte{prefixDue}
		if q.Reverse && q.Until != 0 && q.Until < math.MaxUint64 {
			r.From = keyDue(q.Until+1, 0, bundle.ID{})
		}
		return r
	case ByTag:
		r.Prefix = append([]byte{prefixTag}, q.Tag[:]...)
	default:
		r.Prefix = []byte{prefixPrecedence}
	}
	if q.Only != nil {
		r.Prefix = append(r.Prefix, 255-byte(*q.Only))
		if !q.Reverse && q.Seq > 0 {
			r.From = binary.BigEndian.AppendUint64(append([]byte{}, r.Prefix...), q.Seq)
		}
	}
	return r
}

// afterKey is the index key of the record to continue after.
func (q Query) afterKey() []byte {
	if q.After == nil {
		return nil
	}
	keys := indexKeys(*q.After)
	switch q.Index {
	case ByExpiry:
		return keys[0]
	case ByPrecedence:
		return keys[1]
	}
	return keys[2]
}

// ended reports whether the query's limits lie before key.
func (q Query) ended(key []byte) bool {
	switch {
	case q.Index == ByExpiry:
		return !q.Reverse && q.Until != 0 && binary.BigEndian.Uint64(key[1:]) > q.Until
	case q.Only != nil && q.Reverse:
		return binary.BigEndian.Uint64(key[len(key)-len(bundle.ID{})-8:]) < q.Seq
	}
	return false
}

// skips reports whether an index key is not of the query, though those behind
// it may be.
func (q Query) skips(key []byte) bool {
	if q.Index != ByExpiry {
		return false
	}
	return key[9] != dueBundle || q.Until != 0 && binary.BigEndian.Uint64(key[1:]) > q.Until
}

// readTries bounds how often a payload is looked up anew because its segment
// was tidied away under the reader.
const readTries = 4

// Payload returns the payload of a bundle. It is verified: a payload that is
// not what was stored is ErrCorrupt.
func (s *Store) Payload(id bundle.ID) ([]byte, error) {
	_, payload, err := s.load(id)
	return payload, err
}

// Load returns a whole bundle, with the hop part it is stored with.
func (s *Store) Load(id bundle.ID) (bundle.Bundle, error) {
	r, payload, err := s.load(id)
	if err != nil {
		return bundle.Bundle{}, err
	}
	h, err := bundle.ParseHeader(r.Header)
	if err != nil {
		return bundle.Bundle{}, fmt.Errorf("store: load %v: %v: %w", id, err, ErrCorrupt)
	}
	return bundle.Bundle{Hop: r.Hop, Header: h, Payload: payload}, nil
}

func (s *Store) load(id bundle.ID) (Record, []byte, error) {
	var err error
	for range readTries {
		var r Record
		if r, err = s.Bundle(id); err != nil {
			return r, nil, err
		}
		if r.PayloadLen == 0 {
			return r, nil, nil
		}
		var payload []byte
		if payload, err = s.log.Read(r.place, r.PayloadLen); err == nil {
			return r, payload, r.verify(payload)
		}
		if !gone(err) {
			break
		}
	}
	return Record{}, nil, fmt.Errorf("store: payload of %v: %w: %v; ask a neighbour for it again or delete it", id, ErrCorrupt, err)
}

func (r Record) verify(payload []byte) error {
	if sha256.Sum256(payload) != r.PayloadHash {
		return fmt.Errorf("store: payload of %v is not what was stored: %w; ask a neighbour for it again or delete it", r.ID, ErrCorrupt)
	}
	return nil
}

// Purge returns the purge record of a bundle.
func (s *Store) Purge(id bundle.ID) (Purge, error) {
	raw, err := s.kv.Get(keyPurge(id))
	if err != nil {
		return Purge{}, fmt.Errorf("store: purge record of %v: %w", id, err)
	}
	return parsePurge(id, raw)
}

// Purges visits all purge records, in no particular order.
func (s *Store) Purges() iter.Seq2[Purge, error] {
	return func(yield func(Purge, error) bool) {
		for p, err := range s.kv.Scan(kv.Range{Prefix: []byte{prefixPurge}}) {
			if err != nil {
				yield(Purge{}, fmt.Errorf("store: list purge records: %w", err))
				return
			}
			rec, err := parsePurge(indexID(p.Key), p.Value)
			if !yield(rec, err) || err != nil {
				return
			}
		}
	}
}

// An Expiry says that something ends at Due.
type Expiry struct {
	ID    bundle.ID
	Due   uint64
	Purge bool // it is a purge record, not a bundle
}

// Expiring visits bundles and purge records whose Meta.Due is at most until,
// earliest first, and at most limit of them (0 is no limit).
func (s *Store) Expiring(until uint64, limit int) iter.Seq2[Expiry, error] {
	return limited(func(yield func(Expiry, error) bool) {
		for p, err := range s.kv.Scan(kv.Range{Prefix: []byte{prefixDue}, KeysOnly: true}) {
			if err != nil {
				yield(Expiry{}, fmt.Errorf("store: list expiries: %w", err))
				return
			}
			e := Expiry{ID: indexID(p.Key), Due: binary.BigEndian.Uint64(p.Key[1:]), Purge: p.Key[9] == duePurge}
			if e.Due > until || !yield(e, nil) {
				return
			}
		}
	}, limit)
}

// Get returns the value of a key in a bucket.
func (s *Store) Get(bucket, key string) ([]byte, error) {
	if err := checkBucket(bucket, key); err != nil {
		return nil, err
	}
	v, err := s.kv.Get(keyBucket(bucket, key))
	if err != nil {
		return nil, fmt.Errorf("store: get from bucket %q: %w", bucket, err)
	}
	return v, nil
}

// A KV is a key of a bucket with its value.
type KV struct {
	Key   string
	Value []byte
}

// List visits the keys of a bucket that begin with prefix, in order.
func (s *Store) List(bucket, prefix string) iter.Seq2[KV, error] {
	return func(yield func(KV, error) bool) {
		if err := checkBucket(bucket, prefix); err != nil {
			yield(KV{}, err)
			return
		}
		skip := len(keyBucket(bucket, ""))
		for p, err := range s.kv.Scan(kv.Range{Prefix: keyBucket(bucket, prefix)}) {
			if err != nil {
				yield(KV{}, fmt.Errorf("store: list bucket %q: %w", bucket, err))
				return
			}
			if !yield(KV{Key: string(p.Key[skip:]), Value: append([]byte{}, p.Value...)}, nil) {
				return
			}
		}
	}
}
