package carry

import (
	"crypto/sha256"
	"slices"

	"outrider/mesh/blob"
	"outrider/mesh/bundle"
)

// state is what the logs say, without payloads and leaves.
type state struct {
	bundles map[bundle.ID]*Record
	purges  map[bundle.ID]*Purge
	values  map[string][]byte
	blobs   map[blob.Root]*blobState
	leaves  int   // of all blobs, here or not
	live    int64 // bytes of log that the state stands on, about
	whole   bool  // the log that replaced others was whole
	based   bool  // the log began as a replacement
}

type blobState struct {
	desc   blob.Descriptor
	proofs map[int]place
	have   *blob.Bitmap
	fresh  []int // leaves written since the last sync
}

func newState() *state {
	return &state{
		bundles: map[bundle.ID]*Record{}, purges: map[bundle.ID]*Purge{}, values: map[string][]byte{}, blobs: map[blob.Root]*blobState{},
	}
}

// check tells whether an operation makes sense by itself. A medium comes from
// anywhere, so this is asked of what is read as of what is written.
func (op Op) check() bool {
	if len(op.Meta) > MaxMeta {
		return false
	}
	switch op.Kind {
	case KindBundle:
		b, err := bundle.Parse(op.Data)
		return err == nil && len(op.Key) == 16 && b.ID() == bundle.ID(op.Key)
	case KindPurge:
		r, err := bundle.ParsePurgeRecord(op.Data)
		return err == nil && len(op.Key) == 16 && r.ID() == bundle.ID(op.Key)
	case KindMeta, KindDrop, KindDropPurge:
		return len(op.Key) == 16
	case KindValue:
		return len(op.Key) > 0 && len(op.Key) <= MaxKey && len(op.Data) <= MaxValue
	case kindBlob:
		d, err := blob.ParseDescriptor(op.Data)
		return err == nil && len(op.Key) == len(d.Root) && blob.Root(op.Key) == d.Root
	case kindProof, kindLeaves, kindDropBlob:
		return len(op.Key) == blob.HashSize
	case kindBase, kindBaseEnd:
		return true
	}
	return false // of a later version: passed over
}

// apply takes over one operation that lies at the given place.
func (s *state) apply(at place, op Op) {
	if !op.check() {
		return
	}
	switch op.Kind {
	case KindBundle:
		s.putBundle(at, op)
	case KindMeta:
		if r := s.bundles[bundle.ID(op.Key)]; r != nil {
			r.Meta = slices.Clone(op.Meta)
		}
	case KindDrop:
		if r := s.bundles[bundle.ID(op.Key)]; r != nil {
			s.live -= int64(r.at.length)
			delete(s.bundles, r.ID)
		}
	case KindPurge:
		r, _ := bundle.ParsePurgeRecord(op.Data)
		if id := bundle.ID(op.Key); s.room(s.purges[id] != nil) {
			s.purges[id] = &Purge{ID: id, Record: r, Meta: slices.Clone(op.Meta), raw: slices.Clone(op.Data)}
			s.live += int64(len(op.Data) + len(op.Meta))
		}
	case KindDropPurge:
		delete(s.purges, bundle.ID(op.Key))
	case KindValue:
		if len(op.Data) == 0 {
			delete(s.values, string(op.Key))
		} else if len(s.values) < MaxValues {
			s.values[string(op.Key)] = slices.Clone(op.Data)
		}
	case kindBase:
		s.based = true
	case kindBaseEnd:
		s.whole = true
	default:
		s.applyBlob(at, op)
	}
}

func (s *state) room(known bool) bool { return known || len(s.bundles)+len(s.purges) < MaxEntries }

func (s *state) putBundle(at place, op Op) {
	id := bundle.ID(op.Key)
	if !s.room(s.bundles[id] != nil) {
		return
	}
	b, _ := bundle.Parse(slices.Clone(op.Data))
	r := &Record{
		ID: id, Hop: b.Hop, Header: b.Header, PayloadHash: sha256.Sum256(b.Payload), Size: len(b.Payload), Meta: slices.Clone(op.Meta), at: at,
	}
	if b.Header.Kind == bundle.KindBlob {
		if d, err := blob.ParseDescriptor(b.Payload); err == nil {
			r.Blob = &d
		}
	}
	s.bundles[id] = r
	s.live += int64(at.length)
}

func (s *state) applyBlob(at place, op Op) {
	root := blob.Root(op.Key)
	if op.Kind == kindBlob {
		d, _ := blob.ParseDescriptor(op.Data)
		n := d.Geometry().Leaves()
		if s.blobs[root] == nil && s.leaves+n <= MaxLeaves {
			s.blobs[root] = &blobState{desc: d, proofs: map[int]place{}, have: blob.NewBitmap(n)}
			s.leaves += n
		}
		return
	}
	b := s.blobs[root]
	if b == nil {
		return
	}
	switch op.Kind {
	case kindProof:
		if int64(op.First) < int64(b.desc.Geometry().Groups()) {
			b.proofs[int(op.First)] = at
			s.live += int64(at.length)
		}
	case kindLeaves:
		for i := uint64(op.First); i < uint64(op.First)+uint64(op.Count) && i < uint64(b.have.Len()); i++ {
			b.have.Set(int(i))
		}
	case kindDropBlob:
		delete(s.blobs, root)
		s.leaves -= b.have.Len()
	}
}
