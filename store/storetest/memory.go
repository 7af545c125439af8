package storetest

import (
	"bytes"
	"cmp"
	"context"
	"crypto/rand"
	"fmt"
	"iter"
	"maps"
	"slices"
	"strings"
	"sync"

	"outrider/mesh/bundle"
	"outrider/mesh/identity"
	"outrider/store"
)

// A Store is what store.Store and Memory have in common: everything but blobs
// and vaults.
type Store interface {
	Commit(ctx context.Context, ops ...store.Op) error
	CommitEach(ctx context.Context, txns [][]store.Op) []error
	Bundle(id bundle.ID) (store.Record, error)
	Bundles(q store.Query) iter.Seq2[store.Record, error]
	Payload(id bundle.ID) ([]byte, error)
	Load(id bundle.ID) (bundle.Bundle, error)
	Purge(id bundle.ID) (store.Purge, error)
	Purges() iter.Seq2[store.Purge, error]
	Expiring(until uint64, limit int) iter.Seq2[store.Expiry, error]
	Get(bucket, key string) ([]byte, error)
	List(bucket, prefix string) iter.Seq2[store.KV, error]
	Row(user identity.UserID, msg [16]byte) (store.Row, error)
	Rows(user identity.UserID, conv [16]byte, before uint64, n int) ([]store.Row, error)
	Convs(user identity.UserID) ([]store.Conv, error)
	Epoch() [8]byte
	LastSeq() uint64
	Stats() (store.Stats, error)
	Close() error
}

var (
	_ Store = (*store.Store)(nil)
	_ Store = (*Memory)(nil)
)

// Memory is a store in maps, for tests of packages above and as the model the
// real one is tested against. It keeps the real one's rules, quota included.
type Memory struct {
	maxBytes uint64
	epoch    [8]byte

	mu     sync.Mutex
	closed bool
	content
}

type content struct {
	bundles  map[bundle.ID]store.Record
	payloads map[bundle.ID][]byte
	purges   map[bundle.ID]store.Purge
	kv       map[[2]string][]byte
	rows     map[rowKey]store.Row
	lastSeq  uint64
	commits  uint64
}

type rowKey struct {
	user identity.UserID
	msg  [16]byte
}

// New returns an empty store in memory. Of the options MaxBytes counts.
func New(o store.Options) *Memory {
	m := &Memory{maxBytes: cmp.Or(o.MaxBytes, 1<<30), content: content{
		bundles: make(map[bundle.ID]store.Record), payloads: make(map[bundle.ID][]byte), purges: make(map[bundle.ID]store.Purge),
		kv: make(map[[2]string][]byte), rows: make(map[rowKey]store.Row),
	}}
	rand.Read(m.epoch[:])
	return m
}

func (c content) clone() content {
	c.bundles, c.payloads, c.purges = maps.Clone(c.bundles), maps.Clone(c.payloads), maps.Clone(c.purges)
	c.kv, c.rows = maps.Clone(c.kv), maps.Clone(c.rows)
	return c
}

func (c content) bytes() (sum uint64) {
	for _, r := range c.bundles {
		sum += uint64(r.PayloadLen) + store.RecordCost
	}
	return sum + uint64(len(c.purges))*store.RecordCost
}

// Commit implements Store.
func (m *Memory) Commit(ctx context.Context, ops ...store.Op) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	ops, err := store.Check(ops...)
	if err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.closed {
		return fmt.Errorf("storetest: commit: %w", store.ErrClosed)
	}
	next := m.content.clone()
	for _, op := range ops {
		if err := next.apply(op, m.maxBytes); err != nil {
			return err
		}
	}
	next.commits++
	m.content = next
	return nil
}

// CommitEach implements Store.
func (m *Memory) CommitEach(ctx context.Context, txns [][]store.Op) []error {
	errs := make([]error, len(txns))
	for i, ops := range txns {
		if len(ops) > 0 {
			errs[i] = m.Commit(ctx, ops...)
		}
	}
	return errs
}

func (c *content) apply(op store.Op, maxBytes uint64) error {
	switch op := op.(type) {
	case store.PutBundle:
		return c.putBundle(op, maxBytes)
	case store.SetMeta:
		return c.setMeta(op)
	case store.DeleteBundle:
		delete(c.bundles, op.ID)
		delete(c.payloads, op.ID)
	case store.PutPurge:
		delete(c.purges, op.Purge.ID())
		if c.bytes()+store.RecordCost > maxBytes {
			return fmt.Errorf("storetest: put purge record: %w", store.ErrFull)
		}
		c.purges[op.Purge.ID()] = op.Purge
	case store.DeletePurge:
		delete(c.purges, op.ID)
	case store.PutKV:
		c.kv[[2]string{op.Bucket, op.Key}] = bytes.Clone(op.Value)
	case store.DeleteKV:
		delete(c.kv, [2]string{op.Bucket, op.Key})
	case store.PutRow:
		op.Row.Data = bytes.Clone(op.Row.Data)
		c.rows[rowKey{op.Row.User, op.Row.Msg}] = op.Row
	case store.DeleteRow:
		delete(c.rows, rowKey{op.User, op.Msg})
	default:
		panic(fmt.Sprintf("storetest: unknown op %T", op))
	}
	return nil
}

func (c *content) putBundle(op store.PutBundle, maxBytes uint64) error {
	r := op.Record
	delete(c.bundles, r.ID)
	if c.bytes()+uint64(r.PayloadLen)+store.RecordCost > maxBytes {
		return fmt.Errorf("storetest: put bundle: %w", store.ErrFull)
	}
	r.Header, r.Meta.Extra = bytes.Clone(r.Header), bytes.Clone(r.Meta.Extra)
	c.bundles[r.ID] = r
	c.payloads[r.ID] = bytes.Clone(op.Payload)
	c.lastSeq = max(c.lastSeq, r.Meta.Seq)
	return nil
}

func (c *content) setMeta(op store.SetMeta) error {
	r, ok := c.bundles[op.ID]
	if !ok {
		return fmt.Errorf("storetest: set meta: %w", store.ErrNotFound)
	}
	r.Meta = op.Meta
	r.Meta.Extra = bytes.Clone(op.Meta.Extra)
	if op.Hop != nil {
		r.Hop = *op.Hop
	}
	c.bundles[op.ID] = r
	c.lastSeq = max(c.lastSeq, r.Meta.Seq)
	return nil
}

// view returns the content of now, which nobody changes: Commit replaces it.
func (m *Memory) view() (content, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.closed {
		return content{}, fmt.Errorf("storetest: %w", store.ErrClosed)
	}
	return m.content, nil
}

// Bundle implements Store.
func (m *Memory) Bundle(id bundle.ID) (store.Record, error) {
	c, err := m.view()
	if err != nil {
		return store.Record{}, err
	}
	r, ok := c.bundles[id]
	if !ok {
		return store.Record{}, fmt.Errorf("storetest: bundle: %w", store.ErrNotFound)
	}
	return r, nil
}

// Payload implements Store.
func (m *Memory) Payload(id bundle.ID) ([]byte, error) {
	c, err := m.view()
	if err != nil {
		return nil, err
	}
	p, ok := c.payloads[id]
	if !ok {
		return nil, fmt.Errorf("storetest: payload: %w", store.ErrNotFound)
	}
	return bytes.Clone(p), nil
}

// Load implements Store.
func (m *Memory) Load(id bundle.ID) (bundle.Bundle, error) {
	r, err := m.Bundle(id)
	if err != nil {
		return bundle.Bundle{}, err
	}
	payload, err := m.Payload(id)
	if err != nil {
		return bundle.Bundle{}, err
	}
	h, err := bundle.ParseHeader(r.Header)
	return bundle.Bundle{Hop: r.Hop, Header: h, Payload: payload}, err
}

// sequence yields values, or the error.
func sequence[T any](err error, values func() []T) iter.Seq2[T, error] {
	return func(yield func(T, error) bool) {
		if err != nil {
			var none T
			yield(none, err)
			return
		}
		for _, v := range values() {
			if !yield(v, nil) {
				return
			}
		}
	}
}

// Bundles implements Store.
func (m *Memory) Bundles(q store.Query) iter.Seq2[store.Record, error] {
	c, err := m.view()
	return sequence(err, func() []store.Record { return c.query(q) })
}

func (c content) query(q store.Query) []store.Record {
	order := func(a, b store.Record) int { return compare(q.Index, a, b) }
	if q.Reverse {
		order = func(a, b store.Record) int { return compare(q.Index, b, a) }
	}
	var out []store.Record
	for _, r := range c.bundles {
		if matches(q, r) && (q.After == nil || order(*q.After, r) < 0) {
			out = append(out, r)
		}
	}
	slices.SortFunc(out, order)
	if q.Limit > 0 && len(out) > q.Limit {
		out = out[:q.Limit]
	}
	return out
}

func matches(q store.Query, r store.Record) bool {
	switch q.Index {
	case store.ByID:
		return true
	case store.ByExpiry:
		return q.Until == 0 || r.Meta.Due <= q.Until
	case store.ByTag:
		if r.Tag != q.Tag {
			return false
		}
	}
	return q.Only == nil || r.Precedence == *q.Only && r.Meta.Seq >= q.Seq
}

func compare(by store.Index, a, b store.Record) int {
	id := bytes.Compare(a.ID[:], b.ID[:])
	switch by {
	case store.ByID:
		return id
	case store.ByExpiry:
		return cmp.Or(cmp.Compare(a.Meta.Due, b.Meta.Due), id)
	}
	return cmp.Or(cmp.Compare(b.Precedence, a.Precedence), cmp.Compare(a.Meta.Seq, b.Meta.Seq), id)
}

// Purge implements Store.
func (m *Memory) Purge(id bundle.ID) (store.Purge, error) {
	c, err := m.view()
	if err != nil {
		return store.Purge{}, err
	}
	p, ok := c.purges[id]
	if !ok {
		return store.Purge{}, fmt.Errorf("storetest: purge record: %w", store.ErrNotFound)
	}
	return p, nil
}

// Purges implements Store.
func (m *Memory) Purges() iter.Seq2[store.Purge, error] {
	c, err := m.view()
	return sequence(err, func() []store.Purge { return slices.Collect(maps.Values(c.purges)) })
}

// Expiring implements Store.
func (m *Memory) Expiring(until uint64, limit int) iter.Seq2[store.Expiry, error] {
	c, err := m.view()
	return sequence(err, func() (out []store.Expiry) {
		for id, r := range c.bundles {
			out = append(out, store.Expiry{ID: id, Due: r.Meta.Due})
		}
		for id, p := range c.purges {
			out = append(out, store.Expiry{ID: id, Due: p.Meta.Due, Purge: true})
		}
		out = slices.DeleteFunc(out, func(e store.Expiry) bool { return e.Due > until })
		slices.SortFunc(out, func(a, b store.Expiry) int {
			kind := 0
			if a.Purge != b.Purge {
				kind = 1
				if b.Purge {
					kind = -1
				}
			}
			return cmp.Or(cmp.Compare(a.Due, b.Due), kind, bytes.Compare(a.ID[:], b.ID[:]))
		})
		if limit > 0 && len(out) > limit {
			out = out[:limit]
		}
		return out
	})
}

// Get implements Store.
func (m *Memory) Get(bucket, key string) ([]byte, error) {
	c, err := m.view()
	if err != nil {
		return nil, err
	}
	v, ok := c.kv[[2]string{bucket, key}]
	if !ok {
		return nil, fmt.Errorf("storetest: get: %w", store.ErrNotFound)
	}
	return bytes.Clone(v), nil
}

// List implements Store.
func (m *Memory) List(bucket, prefix string) iter.Seq2[store.KV, error] {
	c, err := m.view()
	return sequence(err, func() (out []store.KV) {
		for k, v := range c.kv {
			if k[0] == bucket && strings.HasPrefix(k[1], prefix) {
				out = append(out, store.KV{Key: k[1], Value: bytes.Clone(v)})
			}
		}
		slices.SortFunc(out, func(a, b store.KV) int { return strings.Compare(a.Key, b.Key) })
		return out
	})
}

// Row implements Store.
func (m *Memory) Row(user identity.UserID, msg [16]byte) (store.Row, error) {
	c, err := m.view()
	if err != nil {
		return store.Row{}, err
	}
	r, ok := c.rows[rowKey{user, msg}]
	if !ok {
		return store.Row{}, fmt.Errorf("storetest: row: %w", store.ErrNotFound)
	}
	return r, nil
}

// Rows implements Store.
func (m *Memory) Rows(user identity.UserID, conv [16]byte, before uint64, n int) ([]store.Row, error) {
	c, err := m.view()
	if err != nil {
		return nil, err
	}
	var out []store.Row
	for _, r := range c.rows {
		if r.User == user && r.Conv == conv && r.Order < before {
			out = append(out, r)
		}
	}
	slices.SortFunc(out, func(a, b store.Row) int {
		return cmp.Or(cmp.Compare(b.Order, a.Order), bytes.Compare(b.Msg[:], a.Msg[:]))
	})
	end := min(max(n, 0), len(out))
	for end > 0 && end < len(out) && out[end].Order == out[end-1].Order {
		end++
	}
	return out[:end], nil
}

// Convs implements Store.
func (m *Memory) Convs(user identity.UserID) ([]store.Conv, error) {
	c, err := m.view()
	if err != nil {
		return nil, err
	}
	newest := make(map[[16]byte]uint64)
	for _, r := range c.rows {
		if r.User == user {
			newest[r.Conv] = max(newest[r.Conv], r.Order)
		}
	}
	var out []store.Conv
	for id, order := range newest {
		out = append(out, store.Conv{ID: id, Order: order})
	}
	slices.SortFunc(out, func(a, b store.Conv) int { return bytes.Compare(a.ID[:], b.ID[:]) })
	return out, nil
}

// Epoch implements Store.
func (m *Memory) Epoch() [8]byte { return m.epoch }

// LastSeq implements Store.
func (m *Memory) LastSeq() uint64 {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.lastSeq
}

// Stats implements Store: what is counted, nothing about disks.
func (m *Memory) Stats() (store.Stats, error) {
	c, err := m.view()
	return store.Stats{
		Bundles: uint64(len(c.bundles)), Purges: uint64(len(c.purges)), Rows: uint64(len(c.rows)),
		Bytes: c.bytes(), MaxBytes: m.maxBytes, Commits: c.commits,
	}, err
}

// Close implements Store.
func (m *Memory) Close() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.closed = true
	return nil
}
