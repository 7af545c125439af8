// Package meshtest has what tests of the agent need: a store in memory that
// loses on a crash what a disk would lose.
package meshtest

import (
	"context"
	"encoding/binary"
	"fmt"
	"iter"
	"slices"
	"sync"

	"outrider/mesh"
	"outrider/mesh/blob"
	"outrider/mesh/bundle"
)

// A Store is a mesh.Store in memory. What a commit returned nil for survives
// Crash; leaves survive it once SyncBlobs returned.
type Store struct {
	// Limit is the number of payload bytes Commit takes before it returns
	// mesh.ErrStoreFull, 0 for any.
	Limit int64
	// Fail, if set, is asked before each commit and sync; its error is
	// returned and nothing is changed.
	Fail func(ops []mesh.Op) error

	mu      sync.Mutex
	epoch   [8]byte
	bytes   int64
	bundles map[bundle.ID]stored
	tombs   map[bundle.ID]mesh.Tombstone
	values  map[string][]byte
	blobs   map[blob.Root]*leaves
	commits int
}

type stored struct {
	record  mesh.Record
	payload []byte
}

type leaves struct {
	desc   blob.Descriptor
	proofs map[int][]byte
	leaves map[int][]byte
	synced map[int]bool
}

var _ mesh.Store = (*Store)(nil)

// NewStore returns an empty store of the given epoch.
func NewStore(epoch uint64) *Store {
	s := &Store{
		bundles: map[bundle.ID]stored{}, tombs: map[bundle.ID]mesh.Tombstone{}, values: map[string][]byte{}, blobs: map[blob.Root]*leaves{},
	}
	binary.BigEndian.PutUint64(s.epoch[:], epoch)
	return s
}

// Epoch implements mesh.Store.
func (s *Store) Epoch() [8]byte { return s.epoch }

// CommitEach implements mesh.Store.
func (s *Store) CommitEach(ctx context.Context, txns [][]mesh.Op) []error {
	errs := make([]error, len(txns))
	for i, ops := range txns {
		errs[i] = s.Commit(ctx, ops)
	}
	return errs
}

// Commit applies all operations or none, as CommitEach does for each of its
// transactions.
func (s *Store) Commit(_ context.Context, ops []mesh.Op) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(ops) > mesh.MaxCommitOps {
		return fmt.Errorf("meshtest: commit of %d operations, at most %d", len(ops), mesh.MaxCommitOps)
	}
	if s.Fail != nil {
		if err := s.Fail(ops); err != nil {
			return err
		}
	}
	if s.Limit > 0 && s.bytes+s.growth(ops) > s.Limit {
		return fmt.Errorf("meshtest: commit: %w", mesh.ErrStoreFull)
	}
	for _, op := range ops {
		s.apply(op)
	}
	s.commits++
	return nil
}

func (s *Store) growth(ops []mesh.Op) (n int64) {
	for _, op := range ops {
		switch op := op.(type) {
		case mesh.PutBundle:
			n += int64(len(op.Payload))
		case mesh.DeleteBundle:
			n -= int64(len(s.bundles[op.ID].payload))
		}
	}
	return n
}

func (s *Store) apply(op mesh.Op) {
	s.bytes += s.growth([]mesh.Op{op})
	switch op := op.(type) {
	case mesh.PutBundle:
		s.bundles[op.Record.ID] = stored{op.Record, slices.Clone(op.Payload)}
	case mesh.SetMeta:
		if b, ok := s.bundles[op.ID]; ok {
			b.record.Meta = op.Meta
			s.bundles[op.ID] = b
		}
	case mesh.DeleteBundle:
		delete(s.bundles, op.ID)
	case mesh.PutTombstone:
		s.tombs[op.Tombstone.ID] = op.Tombstone
	case mesh.DropTomb:
		delete(s.tombs, op.ID)
	case mesh.PutValue:
		if op.Value == nil {
			delete(s.values, op.Key)
			return
		}
		s.values[op.Key] = slices.Clone(op.Value)
	default:
		panic(fmt.Sprintf("meshtest: operation of type %T", op))
	}
}

// Records implements mesh.Store, in order of arrival.
func (s *Store) Records() iter.Seq2[mesh.Record, error] {
	s.mu.Lock()
	defer s.mu.Unlock()
	list := make([]mesh.Record, 0, len(s.bundles))
	for _, b := range s.bundles {
		list = append(list, b.record)
	}
	slices.SortFunc(list, func(a, b mesh.Record) int { return compare(a.Meta.Seq, b.Meta.Seq, a.ID, b.ID) })
	return each(list)
}

// Tombstones implements mesh.Store, in order of arrival.
func (s *Store) Tombstones() iter.Seq2[mesh.Tombstone, error] {
	s.mu.Lock()
	defer s.mu.Unlock()
	list := make([]mesh.Tombstone, 0, len(s.tombs))
	for _, t := range s.tombs {
		list = append(list, t)
	}
	slices.SortFunc(list, func(a, b mesh.Tombstone) int { return compare(a.Seq, b.Seq, a.ID, b.ID) })
	return each(list)
}

func compare(a, b uint64, x, y bundle.ID) int {
	if a != b {
		return int(min(1, max(-1, int64(a)-int64(b))))
	}
	return slices.Compare(x[:], y[:])
}

func each[T any](list []T) iter.Seq2[T, error] {
	return func(yield func(T, error) bool) {
		for _, v := range list {
			if !yield(v, nil) {
				return
			}
		}
	}
}

// Load implements mesh.Store.
func (s *Store) Load(_ context.Context, id bundle.ID) (mesh.Record, []byte, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	b, ok := s.bundles[id]
	if !ok {
		return mesh.Record{}, nil, mesh.ErrNotStored
	}
	return b.record, b.payload, nil
}

// Tombstone implements mesh.Store.
func (s *Store) Tombstone(_ context.Context, id bundle.ID) (mesh.Tombstone, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	t, ok := s.tombs[id]
	if !ok {
		return mesh.Tombstone{}, mesh.ErrNotStored
	}
	return t, nil
}

// Value implements mesh.Store.
func (s *Store) Value(key string) ([]byte, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.values[key]), nil
}

// OpenBlob implements mesh.Store.
func (s *Store) OpenBlob(_ context.Context, d blob.Descriptor) (*blob.Bitmap, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	b := s.blobs[d.Root]
	if b != nil && b.desc != d && len(b.synced) > 0 {
		return nil, mesh.ErrVerify
	}
	if b == nil || b.desc != d {
		b = &leaves{desc: d, proofs: map[int][]byte{}, leaves: map[int][]byte{}, synced: map[int]bool{}}
		s.blobs[d.Root] = b
	}
	have := blob.NewBitmap(d.Geometry().Leaves())
	for i := range b.synced {
		have.Set(i)
	}
	return have, nil
}

// WriteProof implements mesh.Store.
func (s *Store) WriteProof(_ context.Context, root blob.Root, group int, raw []byte) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	b := s.blobs[root]
	if b == nil {
		return mesh.ErrNotStored
	}
	p, err := blob.ParseProof(raw)
	if err == nil {
		err = p.Verify(root, b.desc.Length, group)
	}
	if err != nil {
		return fmt.Errorf("meshtest: write proof: %v: %w", err, mesh.ErrVerify)
	}
	b.proofs[group] = slices.Clone(raw)
	return nil
}

// WriteLeaf implements mesh.Store.
func (s *Store) WriteLeaf(_ context.Context, root blob.Root, leaf int, data []byte) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	b := s.blobs[root]
	if b == nil {
		return mesh.ErrNotStored
	}
	p, err := blob.ParseProof(b.proofs[leaf/blob.GroupLeaves])
	if err != nil {
		return fmt.Errorf("meshtest: write leaf: no proof: %w", mesh.ErrVerify)
	}
	if err := p.CheckLeaf(leaf%blob.GroupLeaves, data); err != nil {
		return fmt.Errorf("meshtest: write leaf: %v: %w", err, mesh.ErrVerify)
	}
	b.leaves[leaf] = slices.Clone(data)
	return nil
}

// SyncBlobs implements mesh.Store.
func (s *Store) SyncBlobs(_ context.Context, roots []blob.Root) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.Fail != nil {
		if err := s.Fail(nil); err != nil {
			return err
		}
	}
	for _, r := range roots {
		if b := s.blobs[r]; b != nil {
			for i := range b.leaves {
				b.synced[i] = true
			}
		}
	}
	return nil
}

// ReadLeaf implements mesh.Store.
func (s *Store) ReadLeaf(_ context.Context, root blob.Root, leaf int) ([]byte, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if b := s.blobs[root]; b != nil && b.leaves[leaf] != nil {
		return b.leaves[leaf], nil
	}
	return nil, mesh.ErrNotStored
}

// ReadProof implements mesh.Store.
func (s *Store) ReadProof(_ context.Context, root blob.Root, group int) ([]byte, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if b := s.blobs[root]; b != nil && b.proofs[group] != nil {
		return b.proofs[group], nil
	}
	return nil, mesh.ErrNotStored
}

// DropBlob implements mesh.Store.
func (s *Store) DropBlob(_ context.Context, root blob.Root) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.blobs, root)
	return nil
}

// PutBlob stores a whole blob, as the sender's own node does before it
// submits the blob bundle.
func (s *Store) PutBlob(data []byte) blob.Descriptor {
	var build blob.Builder
	var cut [][]byte
	for rest := data; len(rest) > 0; {
		n := min(len(rest), blob.LeafSize)
		cut = append(cut, rest[:n])
		if err := build.AddLeaf(rest[:n]); err != nil {
			panic(err) // data within blob.MaxLength is the caller's duty
		}
		rest = rest[n:]
	}
	root, hashes := build.Finish()
	d := blob.Descriptor{Root: root, Length: build.Length()}
	b := &leaves{desc: d, proofs: map[int][]byte{}, leaves: map[int][]byte{}, synced: map[int]bool{}}
	for i, leaf := range cut {
		b.leaves[i], b.synced[i] = slices.Clone(leaf), true
	}
	for g := range d.Geometry().Groups() {
		raw, err := blob.Proof(hashes, g).MarshalBinary()
		if err != nil {
			panic(err)
		}
		b.proofs[g] = raw
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.blobs[root] = b
	return d
}

// Blob returns the bytes of a blob that is complete.
func (s *Store) Blob(d blob.Descriptor) ([]byte, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	b := s.blobs[d.Root]
	if b == nil || len(b.synced) < d.Geometry().Leaves() {
		return nil, false
	}
	var out []byte
	for i := range d.Geometry().Leaves() {
		out = append(out, b.leaves[i]...)
	}
	return out, true
}

// Crash loses what was not synced.
func (s *Store) Crash() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, b := range s.blobs {
		for i := range b.leaves {
			if !b.synced[i] {
				delete(b.leaves, i)
			}
		}
	}
}

// Len returns how many bundles and purge records are stored.
func (s *Store) Len() (bundles, tombstones int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.bundles), len(s.tombs)
}

// Holds reports whether a bundle is stored.
func (s *Store) Holds(id bundle.ID) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	_, ok := s.bundles[id]
	return ok
}

// Tombed reports whether a purge record is stored.
func (s *Store) Tombed(id bundle.ID) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	_, ok := s.tombs[id]
	return ok
}

// Commits returns how many commits succeeded.
func (s *Store) Commits() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.commits
}

// Spoil flips a bit of a stored leaf: what a disk or a lying neighbour does.
func (s *Store) Spoil(root blob.Root, leaf int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	b := s.blobs[root]
	b.leaves[leaf] = slices.Clone(b.leaves[leaf])
	b.leaves[leaf][0] ^= 1
}
