package kv

import (
	"bytes"
	"fmt"
	"iter"

	"github.com/dgraph-io/badger/v4"
)

// A Batch is a set of changes that happen together. The zero value is empty.
// A later change of a key takes the place of an earlier one.
type Batch struct {
	index   map[string]int
	entries []entry
	size    int
}

type entry struct {
	key, value []byte
	delete     bool
}

func (e entry) cost() int { return len(e.key) + len(e.value) + entryBytes }

// Set puts value at key. The batch keeps both slices.
func (b *Batch) Set(key, value []byte) { b.add(entry{key: key, value: value}) }

// Delete removes key, if it is there.
func (b *Batch) Delete(key []byte) { b.add(entry{key: key, delete: true}) }

func (b *Batch) add(e entry) {
	if i, ok := b.index[string(e.key)]; ok {
		b.size += e.cost() - b.entries[i].cost()
		b.entries[i] = e
		return
	}
	if b.index == nil {
		b.index = make(map[string]int)
	}
	b.index[string(e.key)] = len(b.entries)
	b.entries = append(b.entries, e)
	b.size += e.cost()
}

// Get returns what the batch does to key: the value it sets, or that it
// deletes it; touched is false if the batch leaves it alone.
func (b *Batch) Get(key []byte) (value []byte, deleted, touched bool) {
	i, ok := b.index[string(key)]
	if !ok {
		return nil, false, false
	}
	return b.entries[i].value, b.entries[i].delete, true
}

// Merge adds the changes of o after those of b.
func (b *Batch) Merge(o *Batch) {
	for _, e := range o.entries {
		b.add(e)
	}
}

// Len is the number of keys changed.
func (b *Batch) Len() int { return len(b.entries) }

// Size is what the batch counts against MaxBatch, in bytes.
func (b *Batch) Size() int { return b.size }

func (b *Batch) check() error {
	if b.size > MaxBatch || len(b.entries) > MaxBatchOps {
		return fmt.Errorf("kv: write: batch of %d keys and %d bytes (at most %d and %d): %w", len(b.entries), b.size, MaxBatchOps, MaxBatch, ErrTooLarge)
	}
	for _, e := range b.entries {
		if len(e.key) == 0 || len(e.key) > MaxKey || len(e.value) > MaxValue {
			return fmt.Errorf("kv: write: key of %d bytes with %d bytes (at most %d and %d): %w", len(e.key), len(e.value), MaxKey, MaxValue, ErrTooLarge)
		}
	}
	return nil
}

func (b *Batch) fill(txn *badger.Txn) error {
	for _, e := range b.entries {
		var err error
		if e.delete {
			err = txn.Delete(e.key)
		} else {
			err = txn.Set(e.key, e.value)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// Puts visits the keys with a prefix to which the batch gives a value.
func (b *Batch) Puts(prefix []byte) iter.Seq[[]byte] {
	return func(yield func([]byte) bool) {
		for _, e := range b.entries {
			if !e.delete && bytes.HasPrefix(e.key, prefix) && !yield(e.key) {
				return
			}
		}
	}
}
