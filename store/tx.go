package store

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"

	"outrider/mesh/bundle"
	"outrider/mesh/identity"
	"outrider/store/internal/kv"
	"outrider/store/internal/segment"
)

// A tx gathers changes in memory: those of one Commit, or of a whole batch of
// them. It reads through to its parent and, at the bottom, to the index.
type tx struct {
	s      *Store
	parent *tx
	batch  kv.Batch
	state  state
	items  []segment.Item // payloads to append, and where
	places []segment.Place
}

func (s *Store) newTx() *tx {
	s.mu.Lock()
	defer s.mu.Unlock()
	return &tx{s: s, state: s.state.clone()}
}

// child returns a tx that can be dropped or merged. Its state is a copy: a
// payload segment or two, and some counters.
func (t *tx) child() *tx { return &tx{s: t.s, parent: t, state: t.state.clone()} }

func (t *tx) merge(c *tx) {
	t.batch.Merge(&c.batch)
	t.state = c.state
	t.items = append(t.items, c.items...)
	t.places = append(t.places, c.places...)
}

func (t *tx) get(key []byte) ([]byte, error) {
	for at := t; at != nil; at = at.parent {
		if v, deleted, touched := at.batch.Get(key); touched {
			if deleted {
				return nil, ErrNotFound
			}
			return v, nil
		}
	}
	return t.s.kv.Get(key)
}

func (t *tx) bundle(id bundle.ID) (Record, error) {
	raw, err := t.get(keyBundle(id))
	if err != nil {
		return Record{}, fmt.Errorf("store: bundle %v: %w", id, err)
	}
	return parseRecord(id, raw)
}

// indexKeys are the keys under which a record can be found, besides its id.
func indexKeys(r Record) [3][]byte {
	return [3][]byte{
		keyDue(r.Meta.Due, dueBundle, r.ID),
		keyPrecedence(r.Precedence, r.Meta.Seq, r.ID),
		keyTag(r.Tag, r.Precedence, r.Meta.Seq, r.ID),
	}
}

func (t *tx) addBundle(r Record) {
	t.batch.Set(keyBundle(r.ID), r.encode())
	for _, k := range indexKeys(r) {
		t.batch.Set(k, nil)
	}
	t.state.count.bundles++
	t.state.count.payload += uint64(r.PayloadLen)
}

func (t *tx) removeBundle(r Record) {
	t.batch.Delete(keyBundle(r.ID))
	for _, k := range indexKeys(r) {
		t.batch.Delete(k)
	}
	t.state.count.bundles--
	t.state.count.payload -= uint64(r.PayloadLen)
	t.state.release(r.place, r.frame())
}

// changeBundle rewrites a record, and those index keys that differ.
func (t *tx) changeBundle(old, r Record) {
	t.batch.Set(keyBundle(r.ID), r.encode())
	was, is := indexKeys(old), indexKeys(r)
	for i := range is {
		if !slices.Equal(was[i], is[i]) {
			t.batch.Delete(was[i])
			t.batch.Set(is[i], nil)
		}
	}
}

// addPayload plans where a payload goes.
func (t *tx) addPayload(id bundle.ID, payload []byte) segment.Place {
	it := segment.Item{ID: id, Payload: payload}
	p := t.state.allot(it.Size(), t.s.o.SegmentBytes)
	t.items = append(t.items, it)
	t.places = append(t.places, p)
	return p
}

// planned is the number of payload bytes waiting to be appended.
func (t *tx) planned() (sum int) {
	for _, it := range t.items {
		sum += len(it.Payload)
	}
	return sum
}

// newest returns the order of the newest row of a conversation, nil if it has
// none.
func (t *tx) newest(user identity.UserID, conv [16]byte) (*uint64, error) {
	raw, err := t.get(keyConv(user, conv))
	if errors.Is(err, ErrNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	if len(raw) != 8 {
		return nil, fmt.Errorf("store: read conversation: %w", ErrCorrupt)
	}
	order := binary.BigEndian.Uint64(raw)
	return &order, nil
}

func (t *tx) setNewest(user identity.UserID, conv [16]byte, order uint64) {
	t.batch.Set(keyConv(user, conv), binary.BigEndian.AppendUint64(nil, order))
}

// lowerNewest corrects the newest order after a row at order was removed.
func (t *tx) lowerNewest(user identity.UserID, conv [16]byte, order uint64) error {
	newest, err := t.newest(user, conv)
	if err != nil || newest == nil || *newest != order {
		return err
	}
	best, err := t.findNewest(user, conv)
	if err != nil {
		return err
	}
	if best == nil {
		t.batch.Delete(keyConv(user, conv))
		return nil
	}
	t.setNewest(user, conv, *best)
	return nil
}

// findNewest looks for the highest order among the rows of a conversation: in
// the index, where rows this tx or a parent deleted do not count, and among
// the rows they put.
func (t *tx) findNewest(user identity.UserID, conv [16]byte) (best *uint64, err error) {
	prefix := keyRow(user, conv, 0, [16]byte{})[:1+16+16]
	for p, err := range t.s.kv.Scan(kv.Range{Prefix: prefix, Reverse: true, KeysOnly: true}) {
		if err != nil {
			return nil, err
		}
		if _, err := t.get(p.Key); err == nil {
			order := rowOrder(p.Key)
			best = &order
			break
		} else if !errors.Is(err, ErrNotFound) {
			return nil, err
		}
	}
	for at := t; at != nil; at = at.parent {
		for key := range at.batch.Puts(prefix) {
			if _, err := t.get(key); err != nil {
				continue // put, then deleted by a later tx
			}
			if order := rowOrder(key); best == nil || order > *best {
				best = &order
			}
		}
	}
	return best, nil
}

func rowOrder(key []byte) uint64 { return binary.BigEndian.Uint64(key[1+16+16:]) }
