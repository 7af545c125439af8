package node

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"iter"

	"outrider/mesh"
	"outrider/mesh/blob"
	"outrider/mesh/bundle"
	"outrider/store"
)

// agentStore gives the agent the store in the agent's own words.
type agentStore struct{ blobStore }

var _ mesh.Store = agentStore{}

// bucketAgent holds the agent's own small values.
const bucketAgent = "agent"

func (s agentStore) Epoch() [8]byte { return s.store.Epoch() }

func (s agentStore) CommitEach(ctx context.Context, txns [][]mesh.Op) []error {
	out := make([][]store.Op, len(txns))
	for i, ops := range txns {
		out[i] = make([]store.Op, len(ops))
		for j, op := range ops {
			out[i][j] = storeOp(op)
		}
	}
	errs := s.store.CommitEach(ctx, out)
	for i, err := range errs {
		errs[i] = agentError(err)
	}
	return errs
}

func storeOp(op mesh.Op) store.Op {
	switch op := op.(type) {
	case mesh.PutBundle:
		r := op.Record
		return store.PutBundle{Payload: op.Payload, Record: store.Record{
			ID: r.ID, Hop: r.Hop, Header: r.Header.Raw(), PayloadHash: r.PayloadHash, Meta: storeMeta(r.Meta),
		}}
	case mesh.SetMeta:
		return store.SetMeta{ID: op.ID, Meta: storeMeta(op.Meta)}
	case mesh.DeleteBundle:
		return store.DeleteBundle{ID: op.ID}
	case mesh.PutTombstone:
		return store.PutPurge{Purge: storePurge(op.Tombstone)}
	case mesh.DropTomb:
		return store.DeletePurge{ID: op.ID}
	case mesh.PutValue:
		if op.Value == nil {
			return store.DeleteKV{Bucket: bucketAgent, Key: op.Key}
		}
		return store.PutKV{Bucket: bucketAgent, Key: op.Key, Value: op.Value}
	}
	panic(fmt.Sprintf("node: the agent's operation %T is unknown here", op))
}

// Records reads everything held, without payloads; of a blob bundle the
// payload says which blob.
func (s agentStore) Records() iter.Seq2[mesh.Record, error] {
	return func(yield func(mesh.Record, error) bool) {
		for r, err := range s.store.Bundles(store.Query{}) {
			var out mesh.Record
			if err == nil {
				out, err = s.record(r)
			}
			if !yield(out, err) || err != nil {
				return
			}
		}
	}
}

func (s agentStore) record(r store.Record) (mesh.Record, error) {
	h, err := bundle.ParseHeader(r.Header)
	if err != nil {
		return mesh.Record{}, fmt.Errorf("node: stored bundle %v: %w", r.ID, err)
	}
	out := mesh.Record{ID: r.ID, Hop: r.Hop, Header: h, PayloadHash: r.PayloadHash, Size: int(r.PayloadLen)}
	if out.Meta, err = agentMeta(r.Meta); err != nil {
		return out, err
	}
	if h.Kind == bundle.KindBlob {
		out.Blob = s.descriptor(r.ID)
	}
	return out, nil
}

// descriptor returns what a blob bundle is about, nil if it says nothing that
// makes sense: it is carried all the same.
func (s agentStore) descriptor(id bundle.ID) *blob.Descriptor {
	payload, err := s.store.Payload(id)
	if err != nil {
		return nil
	}
	d, err := blob.ParseDescriptor(payload)
	if err != nil {
		return nil
	}
	return &d
}

func (s agentStore) Tombstones() iter.Seq2[mesh.Tombstone, error] {
	return func(yield func(mesh.Tombstone, error) bool) {
		for p, err := range s.store.Purges() {
			var t mesh.Tombstone
			if err == nil {
				t, err = agentTombstone(p)
			}
			if !yield(t, err) || err != nil {
				return
			}
		}
	}
}

func (s agentStore) Load(_ context.Context, id bundle.ID) (mesh.Record, []byte, error) {
	r, err := s.store.Bundle(id)
	if err != nil {
		return mesh.Record{}, nil, agentError(err)
	}
	payload, err := s.store.Payload(id)
	if err != nil {
		return mesh.Record{}, nil, agentError(err)
	}
	out, err := s.record(r)
	return out, payload, err
}

func (s agentStore) Tombstone(_ context.Context, id bundle.ID) (mesh.Tombstone, error) {
	p, err := s.store.Purge(id)
	if err != nil {
		return mesh.Tombstone{}, agentError(err)
	}
	return agentTombstone(p)
}

func (s agentStore) Value(key string) ([]byte, error) {
	v, err := s.store.Get(bucketAgent, key)
	if errors.Is(err, store.ErrNotFound) {
		return nil, nil
	}
	return v, err
}

// agentError translates the store's errors into those the agent knows.
func agentError(err error) error {
	switch {
	case errors.Is(err, store.ErrFull):
		return fmt.Errorf("%w: %v", mesh.ErrStoreFull, err)
	case errors.Is(err, store.ErrNotFound):
		return fmt.Errorf("%w: %v", mesh.ErrNotStored, err)
	case errors.Is(err, store.ErrCorrupt):
		return fmt.Errorf("%w: %v", mesh.ErrDamaged, err)
	}
	return err
}

// What the agent keeps of a bundle beyond the store's own fields: a flag byte,
// the precedence it is served as, and a control object's number (8 B).
const (
	extraUrgent = 1 << iota
	extraKept

	extraSize = 10
)

func storeMeta(m mesh.Meta) store.Meta {
	return store.Meta{
		Due: uint64(m.Deadline), Seq: m.Seq, Ingress: m.Ingress, Own: m.Own, Consumed: m.Consumed,
		Budget: m.Budget, Replicas: m.Replicas, StoredAge: m.Stored, Supersede: m.Key,
		Extra: extra(flag(m.Urgent, extraUrgent), byte(m.Served), m.Number),
	}
}

func agentMeta(m store.Meta) (mesh.Meta, error) {
	flags, served, number, err := parseExtra(m.Extra)
	return mesh.Meta{
		Ingress: m.Ingress, Own: m.Own, Consumed: m.Consumed, Urgent: flags&extraUrgent != 0, Served: bundle.Precedence(served),
		Budget: m.Budget, Replicas: m.Replicas, Seq: m.Seq, Stored: m.StoredAge, Deadline: uint32(m.Due), Key: m.Supersede, Number: number,
	}, err
}

func storePurge(t mesh.Tombstone) store.Purge {
	return store.Purge{Record: t.Record, Meta: store.Meta{
		Due: uint64(t.Deadline), Seq: t.Seq, Ingress: t.Ingress, StoredAge: t.Stored, Extra: extra(flag(t.Kept, extraKept), 0, 0),
	}}
}

func agentTombstone(p store.Purge) (mesh.Tombstone, error) {
	flags, _, _, err := parseExtra(p.Meta.Extra)
	return mesh.Tombstone{
		ID: p.ID(), Record: p.Record, Ingress: p.Meta.Ingress, Seq: p.Meta.Seq, Stored: p.Meta.StoredAge,
		Deadline: uint32(p.Meta.Due), Kept: flags&extraKept != 0,
	}, err
}

func flag(on bool, f byte) byte {
	if on {
		return f
	}
	return 0
}

func extra(flags, served byte, number uint64) []byte {
	return binary.BigEndian.AppendUint64([]byte{flags, served}, number)
}

func parseExtra(b []byte) (flags, served byte, number uint64, err error) {
	if len(b) != extraSize {
		return 0, 0, 0, fmt.Errorf("node: stored bundle has %d bytes of the agent's own, want %d: %w", len(b), extraSize, store.ErrCorrupt)
	}
	return b[0], b[1], binary.BigEndian.Uint64(b[2:]), nil
}

func isNotFound(err error) bool { return errors.Is(err, store.ErrNotFound) }
