package carry

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"outrider/mesh/blob"
)

// Leaves lie at their own offsets in files of at most 1 GiB, since FAT ends
// files at 4; which of them count is written into the log after they are
// durable.

func (m *Medium) partName(root blob.Root, part int) string {
	return filepath.Join(m.dir, fmt.Sprintf("blob-%s-%02d", root, part))
}

// place returns in which part, and where in it, a leaf lies.
func leafPlace(leaf int) (part int, offset int64) {
	at := int64(leaf) * blob.LeafSize
	return int(at / partSize), at % partSize
}

// OpenBlob begins or goes on with a blob and returns which leaves are here.
func (m *Medium) OpenBlob(ctx context.Context, d blob.Descriptor) (*blob.Bitmap, error) {
	raw, err := d.MarshalBinary()
	if err != nil {
		return nil, fmt.Errorf("carry: blob: %w", err)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	b := m.state.blobs[d.Root]
	var ops []Op
	if b != nil && b.desc != d {
		if b.have.Count() > 0 {
			return nil, ErrVerify // a root commits to its length
		}
		ops = append(ops, Op{Kind: kindDropBlob, Key: d.Root[:]}) // what nothing has verified may be wrong
	}
	if b == nil || b.desc != d {
		if m.state.leaves+d.Geometry().Leaves() > MaxLeaves {
			m.full = true
			return nil, ErrFull
		}
		if err := m.commit([][]Op{append(ops, Op{Kind: kindBlob, Key: d.Root[:], Data: raw})}); err != nil {
			return nil, err
		}
	}
	have := blob.NewBitmap(d.Geometry().Leaves())
	b = m.state.blobs[d.Root]
	for i := b.have.Next(0); i < b.have.Len(); i = b.have.Next(i + 1) {
		have.Set(i)
	}
	return have, nil
}

// PutProof keeps the proof of a group of leaves.
func (m *Medium) PutProof(root blob.Root, group int, raw []byte) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	b := m.state.blobs[root]
	if b == nil {
		return ErrNotFound
	}
	if _, ok := b.proofs[group]; ok {
		return nil
	}
	p, err := blob.ParseProof(raw)
	if err == nil {
		err = p.Verify(root, b.desc.Length, group)
	}
	if err != nil {
		return errors.Join(ErrVerify, err)
	}
	return m.commit([][]Op{{{Kind: kindProof, Key: root[:], Data: raw, First: uint32(group)}}})
}

// Proof reads a group's proof.
func (m *Medium) Proof(root blob.Root, group int) ([]byte, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.readProof(root, group)
}

func (m *Medium) readProof(root blob.Root, group int) ([]byte, error) {
	b := m.state.blobs[root]
	if b == nil {
		return nil, ErrNotFound
	}
	at, ok := b.proofs[group]
	if !ok {
		return nil, ErrNotFound
	}
	op, err := readOp(m.logs[at.log], at)
	if err != nil {
		delete(b.proofs, group)
		return nil, errors.Join(ErrNotFound, err)
	}
	return op.Data, nil
}

// proofOf returns a group's proof, verified; the last one is remembered since
// leaves come and go in runs.
func (m *Medium) proofOf(root blob.Root, group int) (*blob.GroupProof, error) {
	if key := (proofKey{root, group}); m.proof == nil || m.group != key {
		raw, err := m.readProof(root, group)
		if err != nil {
			return nil, err
		}
		p, err := blob.ParseProof(raw)
		if err == nil {
			err = p.Verify(root, m.state.blobs[root].desc.Length, group)
		}
		if err != nil {
			return nil, errors.Join(ErrVerify, err)
		}
		m.proof, m.group = &p, key
	}
	return m.proof, nil
}

// PutLeaf verifies a leaf and writes it. It counts after Sync.
func (m *Medium) PutLeaf(root blob.Root, leaf int, data []byte) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.broken != nil {
		return m.broken
	}
	b := m.state.blobs[root]
	if b == nil || leaf < 0 || leaf >= b.have.Len() {
		return ErrNotFound
	}
	if b.have.Has(leaf) {
		return nil
	}
	if err := m.verify(root, leaf, data); err != nil {
		return err
	}
	part, offset := leafPlace(leaf)
	f, err := os.OpenFile(m.partName(root, part), os.O_CREATE|os.O_WRONLY, 0o644)
	if err != nil {
		return m.failure(err)
	}
	_, err = f.WriteAt(data, offset)
	if err = errors.Join(err, f.Close()); err != nil {
		return m.failure(err)
	}
	b.fresh = append(b.fresh, leaf)
	return nil
}

func (m *Medium) verify(root blob.Root, leaf int, data []byte) error {
	p, err := m.proofOf(root, leaf/blob.GroupLeaves)
	if err != nil {
		return errors.Join(ErrVerify, err)
	}
	if err := p.CheckLeaf(leaf%blob.GroupLeaves, data); err != nil {
		return errors.Join(ErrVerify, err)
	}
	return nil
}

// Sync makes the leaves written since the last call count: first they are
// made durable, then it is written that they are here.
func (m *Medium) Sync(root blob.Root) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	b := m.state.blobs[root]
	if b == nil || len(b.fresh) == 0 {
		return nil
	}
	if m.broken != nil {
		return m.broken
	}
	parts := map[int]bool{}
	var ops []Op
	for _, leaf := range b.fresh {
		part, _ := leafPlace(leaf)
		parts[part] = true
		if n := len(ops); n > 0 && ops[n-1].First+ops[n-1].Count == uint32(leaf) {
			ops[n-1].Count++
		} else {
			ops = append(ops, Op{Kind: kindLeaves, Key: root[:], First: uint32(leaf), Count: 1})
		}
	}
	for part := range parts {
		if err := syncFile(m.partName(root, part)); err != nil {
			m.broken = ErrBroken
			return m.failure(err)
		}
	}
	if err := m.syncDir(); err != nil {
		return err
	}
	if err := m.commit([][]Op{ops}); err != nil {
		return err
	}
	b.fresh = b.fresh[:0]
	return nil
}

func syncFile(name string) error {
	f, err := os.OpenFile(name, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}

// Leaf reads a leaf. One that has rotted is disowned and ErrNotFound.
func (m *Medium) Leaf(root blob.Root, leaf int) ([]byte, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	b := m.state.blobs[root]
	if b == nil || leaf < 0 || leaf >= b.have.Len() || !b.have.Has(leaf) {
		return nil, ErrNotFound
	}
	data := make([]byte, b.desc.Geometry().LeafLen(leaf))
	part, offset := leafPlace(leaf)
	f, err := os.Open(m.partName(root, part))
	if err == nil {
		_, err = f.ReadAt(data, offset)
		err = errors.Join(err, f.Close())
	}
	if err == nil {
		err = m.verify(root, leaf, data)
	}
	if err != nil {
		b.have.Clear(leaf)
		return nil, errors.Join(ErrNotFound, err)
	}
	return data, nil
}

// DropBlob deletes a blob's leaves and proofs.
func (m *Medium) DropBlob(root blob.Root) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	b := m.state.blobs[root]
	if b == nil {
		return nil
	}
	last, _ := leafPlace(b.have.Len() - 1)
	if err := m.commit([][]Op{{{Kind: kindDropBlob, Key: root[:]}}}); err != nil {
		return err
	}
	for part := range last + 1 {
		if err := os.Remove(m.partName(root, part)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("carry: drop blob: %w", err)
		}
	}
	return nil
}
