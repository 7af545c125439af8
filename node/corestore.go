package node

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"iter"
	"maps"
	"slices"
	"sync"
	"time"

	"outrider/mesh"
	"outrider/mesh/blob"
	"outrider/mesh/bundle"
	"outrider/mesh/identity"
	"outrider/offline/coresync"
)

// coreEdge is what the core's agent needs of the way there.
type coreEdge interface {
	coresync.Core
	PutManifest(ctx context.Context, d blob.Descriptor) error
}

// coreStore gives an agent the core for a store: what the agent commits is
// put there, and counts as written when the core has it. What came from there
// is kept in memory until the node has it on disk, and no longer.
//
// After a restart of the node it is empty, and the node hands everything over
// once more; the ledger knows what need not be sent.
type coreStore struct {
	ctx    context.Context // the agent's life: a commit waits through cuts, but not past it
	edge   coreEdge
	ledger *coresync.Ledger
	epoch  [8]byte
	put    func([]bundle.ID) // bundles that are at the core now
	files  coreFiles

	mu     sync.Mutex
	spool  map[parcelKey]*spooled
	mine   map[bundle.ID]identity.Tag // bundles put from here, until they are purged or die
	sentTo map[identity.Tag]time.Time // when something went there last
	values map[string][]byte
}

// A parcelKey names a parcel. A bundle and its own purge record wait side by
// side: both come to a node that reads the tag it has written to.
type parcelKey struct {
	id    bundle.ID
	purge bool
}

func keyOf(p coresync.Parcel) parcelKey { return parcelKey{p.ID, p.Purge != nil} }

// A spooled parcel waits for the node.
type spooled struct {
	coresync.Parcel
	at time.Time
}

var _ mesh.Store = (*coreStore)(nil)

func newCoreStore(ctx context.Context, edge coreEdge, ledger *coresync.Ledger, put func([]bundle.ID)) *coreStore {
	s := &coreStore{
		ctx: ctx, edge: edge, ledger: ledger, put: put, spool: map[parcelKey]*spooled{}, mine: map[bundle.ID]identity.Tag{}, sentTo: map[identity.Tag]time.Time{}, values: map[string][]byte{},
	}
	_, _ = rand.Read(s.epoch[:])
	s.files = newCoreFiles(ctx, edge)
	return s
}

func (s *coreStore) Epoch() [8]byte { return s.epoch }

// known says that the node has had a parcel already.
func (s *coreStore) known(p coresync.Parcel) bool {
	if p.Purge != nil {
		return s.ledger.Has(purgeKey(p.ID))
	}
	return s.ledger.Has(p.ID)
}

// has says that what a list names is here or on its way to the node's disk.
func (s *coreStore) has(n coresync.Name) bool {
	s.mu.Lock()
	_, here := s.spool[parcelKey{n.ID, n.Purge}]
	s.mu.Unlock()
	if n.Purge {
		return here || s.ledger.Has(purgeKey(n.ID))
	}
	return here || s.ledger.Has(n.ID)
}

// spooling is how many parcels wait for the node.
func (s *coreStore) spooling() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.spool)
}

// take keeps a parcel until forget.
func (s *coreStore) take(p coresync.Parcel) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.spool[keyOf(p)] = &spooled{p, time.Now()}
	if p.Bundle != nil && p.Bundle.Header.Kind == bundle.KindBlob {
		if d, err := blob.ParseDescriptor(p.Bundle.Payload); err == nil {
			s.files.fromCore(d)
		}
	}
}

// waiting lists what the node does not have yet, for all anybody knows.
func (s *coreStore) waiting() (ids []bundle.ID, parcels []*spooled) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for key, p := range s.spool {
		ids, parcels = append(ids, key.id), append(parcels, p)
	}
	return ids, parcels
}

// forget drops a parcel that the node has, or that is to come again.
func (s *coreStore) forget(p *spooled, known bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if key := keyOf(p.Parcel); s.spool[key] == p {
		delete(s.spool, key)
	}
	if !known {
		return
	}
	if p.Purge != nil {
		s.ledger.Add(purgeKey(p.ID))
	} else {
		s.ledger.Add(p.ID)
	}
}

// drop is forget for what was taken just now.
func (s *coreStore) drop(p coresync.Parcel, known bool) {
	s.mu.Lock()
	w := s.spool[keyOf(p)]
	s.mu.Unlock()
	if w != nil {
		s.forget(w, known)
	}
}

// purgesLinger is how long the purge records of a tag are still read after the
// last bundle that went there: conversations go on, and each new reading costs a
// list of all that lies there.
const purgesLinger = 24 * time.Hour

// purgesRead notes tags whose purge records were read before a restart.
func (s *coreStore) purgesRead(tags []identity.Tag) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, t := range tags {
		s.sentTo[t] = time.Now()
	}
}

// purgeTags are the tags whose purge records are waited for, at most so many:
// of bundles that were put from here and live, and of those to whom something
// went lately.
func (s *coreStore) purgeTags(most int) (tags []identity.Tag) {
	s.mu.Lock()
	defer s.mu.Unlock()
	live := map[identity.Tag]bool{}
	for _, t := range s.mine {
		live[t] = true
	}
	lately := slices.Collect(maps.Keys(s.sentTo))
	slices.SortFunc(lately, func(a, b identity.Tag) int { return s.sentTo[b].Compare(s.sentTo[a]) })
	for _, t := range lately {
		if !live[t] && time.Since(s.sentTo[t]) > purgesLinger {
			delete(s.sentTo, t)
		}
	}
	tags = slices.Collect(maps.Keys(live))
	for _, t := range lately {
		if _, ok := s.sentTo[t]; ok && !live[t] {
			tags = append(tags, t)
		}
	}
	return tags[:min(len(tags), most)]
}

// purgeKey is the ledger's entry of a bundle's purge record.
func purgeKey(id bundle.ID) [16]byte {
	sum := sha256.Sum256(append([]byte("outrider/v1/ledger-purge\x00"), id[:]...))
	return [16]byte(sum[:16])
}

// CommitEach puts what is new, all at once as far as the edge's window goes.
func (s *coreStore) CommitEach(_ context.Context, txns [][]mesh.Op) []error {
	began := time.Now()
	errs := make([]error, len(txns))
	var puts sync.WaitGroup
	var mu sync.Mutex
	var there []bundle.ID
	for i, ops := range txns {
		for _, op := range ops {
			it, key, id := s.item(op, began)
			if id != nil {
				there = append(there, *id)
			}
			if it == nil {
				continue
			}
			puts.Go(func() {
				_, err := s.edge.Put(s.ctx, *it)
				mu.Lock()
				defer mu.Unlock()
				if err != nil {
					errs[i] = fmt.Errorf("node: core: %w", err)
					return
				}
				s.ledger.Add(key)
				if it.Bundle != nil {
					there = append(there, it.Bundle.ID())
				}
			})
		}
	}
	puts.Wait()
	if len(there) > 0 {
		s.put(there)
	}
	return errs
}

// item is what an operation puts to the core, nil if nothing; id is a bundle
// that is there already.
func (s *coreStore) item(op mesh.Op, began time.Time) (it *coresync.Item, key [16]byte, id *bundle.ID) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch op := op.(type) {
	case mesh.PutBundle:
		r := op.Record
		if s.spool[parcelKey{id: r.ID}] != nil {
			return nil, key, nil
		}
		if r.Header.Kind != bundle.KindControl {
			s.mine[r.ID] = r.Header.Tag
			s.sentTo[r.Header.Tag] = began
		}
		if s.ledger.Has(r.ID) {
			return nil, key, &r.ID
		}
		b := bundle.Bundle{Hop: r.Hop, Header: r.Header, Payload: op.Payload}
		return &coresync.Item{Bundle: &b, Aged: ageing(r.Hop.Age, began)}, r.ID, nil
	case mesh.PutTombstone:
		t := op.Tombstone
		delete(s.mine, t.ID)
		key = purgeKey(t.ID)
		if s.spool[parcelKey{t.ID, true}] != nil || s.ledger.Has(key) {
			return nil, key, nil
		}
		return &coresync.Item{Purge: &t.Record, Aged: ageing(t.Record.Hop.Age, began)}, key, nil
	case mesh.DeleteBundle:
		delete(s.mine, op.ID)
	case mesh.PutValue:
		s.values[op.Key] = op.Value
	}
	return nil, key, nil
}

// ageing counts the time that a bundle waits for the core into its age.
func ageing(age uint32, began time.Time) func() uint32 {
	return func() uint32 { return bundle.Hop{Age: age}.Older(time.Since(began)).Age }
}

// Records and Tombstones are none: see coreStore.
func (s *coreStore) Records() iter.Seq2[mesh.Record, error] {
	return func(func(mesh.Record, error) bool) {}
}

func (s *coreStore) Tombstones() iter.Seq2[mesh.Tombstone, error] {
	return func(func(mesh.Tombstone, error) bool) {}
}

// Load returns what came from the core. What went there is not asked back:
// the node has it.
func (s *coreStore) Load(_ context.Context, id bundle.ID) (mesh.Record, []byte, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	p := s.spool[parcelKey{id: id}]
	if p == nil {
		return mesh.Record{}, nil, mesh.ErrNotStored
	}
	b := p.Bundle
	return mesh.Record{
		ID: id, Hop: b.Hop, Header: b.Header, PayloadHash: sha256.Sum256(b.Payload), Size: len(b.Payload),
		Meta: mesh.Meta{Own: true, Served: b.Header.Precedence},
	}, b.Payload, nil
}

func (s *coreStore) Tombstone(_ context.Context, id bundle.ID) (mesh.Tombstone, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	p := s.spool[parcelKey{id, true}]
	if p == nil {
		return mesh.Tombstone{}, mesh.ErrNotStored
	}
	return mesh.Tombstone{ID: id, Record: *p.Purge}, nil
}

func (s *coreStore) Value(key string) ([]byte, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.values[key], nil
}

func (s *coreStore) OpenBlob(_ context.Context, d blob.Descriptor) (*blob.Bitmap, error) {
	return s.files.open(d)
}

func (s *coreStore) WriteProof(_ context.Context, root blob.Root, group int, proof []byte) error {
	return s.files.writeProof(root, group, proof)
}

func (s *coreStore) WriteLeaf(_ context.Context, root blob.Root, leaf int, data []byte) error {
	return s.files.writeLeaf(root, leaf, data)
}

func (s *coreStore) SyncBlobs(_ context.Context, roots []blob.Root) error { return s.files.sync(roots) }

func (s *coreStore) ReadLeaf(ctx context.Context, root blob.Root, leaf int) ([]byte, error) {
	c, err := s.files.chunk(ctx, root, leaf/blob.GroupLeaves)
	if err != nil {
		return nil, err
	}
	return c.Leaves[leaf%blob.GroupLeaves], nil
}

func (s *coreStore) ReadProof(ctx context.Context, root blob.Root, group int) ([]byte, error) {
	c, err := s.files.chunk(ctx, root, group)
	return c.Proof, err
}

func (s *coreStore) DropBlob(_ context.Context, root blob.Root) error {
	s.files.drop(root)
	return nil
}

// notThere puts the edge's errors into the agent's words.
func notThere(err error) error {
	if errors.Is(err, coresync.ErrAbsent) {
		return mesh.ErrNotStored
	}
	return err
}
