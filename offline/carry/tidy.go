package carry

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"outrider/mesh/blob"
)

// tidyBatch is how many bytes of operations go into one transaction of a
// replacement.
const tidyBatch = 1 << 20

// tidy replaces the logs by one that says the same, when more than half of
// them is dead or some of it is damaged, and removes leaves nobody names. The
// old logs go when the new one is whole; a cut in between leaves either. A
// medium with no room for the new one stays as it was: what is good can be
// read, what fits can be written, and the damage is there to be mended next
// time.
func (m *Medium) tidy() error {
	if err := m.sweepParts(); err != nil {
		return err
	}
	var size int64
	for _, n := range m.sizes {
		size += n
	}
	damaged := m.lost != Damage{}
	if dead := size - m.state.live; !damaged && (dead < tidyFrom || dead < m.state.live) {
		return nil
	}
	err := m.replace()
	if errors.Is(err, ErrFull) {
		m.full, m.broken = false, nil // said of the new log alone; nobody's bundle was refused
		return nil
	}
	if !damaged && m.broken == nil {
		return nil // as it was is good enough
	}
	return err
}

// replace writes the state into a new log, then deletes the others. If that
// fails they stay, and the new one goes.
func (m *Medium) replace() error {
	was := m.newest
	next, err := m.writeState()
	if err == nil {
		return m.adopt(next)
	}
	if m.newest != was {
		err = errors.Join(err, m.removeLog(m.newest))
	}
	return err
}

// adopt goes over to the state in the newest log, and deletes the others.
func (m *Medium) adopt(next *state) error {
	m.state = next
	for n := range m.logs {
		if n < m.newest {
			if err := m.removeLog(n); err != nil {
				return err
			}
		}
	}
	return m.syncDir()
}

// writeState writes the state into a new log, and returns it as it lies there.
func (m *Medium) writeState() (*state, error) {
	if err := m.newLog(); err != nil {
		return nil, err
	}
	next, number := newState(), m.newest
	var batch []Op
	pending := 0
	flush := func() error {
		buf, err := appendFrame(nil, number, batch)
		if err != nil {
			return err
		}
		at := place{log: number, offset: m.sizes[number], length: len(buf)}
		if _, err := m.logs[number].WriteAt(buf, at.offset); err != nil {
			return m.failure(err)
		}
		m.sizes[number] += int64(len(buf))
		for at.op = range batch {
			next.apply(at, batch[at.op])
		}
		batch, pending = nil, 0
		return nil
	}
	put := func(op Op) error {
		batch = append(batch, op)
		if pending += len(op.Data) + len(op.Meta) + len(op.Key); pending > tidyBatch || op.Kind == KindBundle || op.Kind == kindProof {
			return flush() // those that are read again lie alone
		}
		return nil
	}
	batch = append(batch, Op{Kind: kindBase})
	if err := flush(); err != nil {
		return nil, err
	}
	if err := m.rewrite(put); err != nil {
		return nil, err
	}
	batch = append(batch, Op{Kind: kindBaseEnd})
	if err := flush(); err != nil {
		return nil, err
	}
	if err := m.logs[number].Sync(); err != nil {
		m.broken = ErrBroken
		return nil, m.failure(err)
	}
	return next, nil
}

// rewrite puts everything the state has. What cannot be read is left out.
func (m *Medium) rewrite(put func(Op) error) error {
	for _, r := range m.state.bundles {
		op, err := readOp(m.logs[r.at.log], r.at)
		if err != nil {
			m.lost.Frames++
			continue
		}
		op.Meta = r.Meta
		if err := put(op); err != nil {
			return err
		}
	}
	for id, p := range m.state.purges {
		if err := put(Op{Kind: KindPurge, Key: id[:], Data: p.raw, Meta: p.Meta}); err != nil {
			return err
		}
	}
	for k, v := range m.state.values {
		if err := put(Op{Kind: KindValue, Key: []byte(k), Data: v}); err != nil {
			return err
		}
	}
	for root, b := range m.state.blobs {
		if err := m.rewriteBlob(root, b, put); err != nil {
			return err
		}
	}
	return nil
}

func (m *Medium) rewriteBlob(root blob.Root, b *blobState, put func(Op) error) error {
	raw, err := b.desc.MarshalBinary()
	if err != nil {
		return err
	}
	if err := put(Op{Kind: kindBlob, Key: root[:], Data: raw}); err != nil {
		return err
	}
	for group := range b.proofs {
		raw, err := m.readProof(root, group)
		if err != nil {
			m.lost.Frames++
			continue
		}
		if err := put(Op{Kind: kindProof, Key: root[:], Data: raw, First: uint32(group)}); err != nil {
			return err
		}
	}
	for i := b.have.Next(0); i < b.have.Len(); {
		end := b.have.NextMissing(i)
		if err := put(Op{Kind: kindLeaves, Key: root[:], First: uint32(i), Count: uint32(end - i)}); err != nil {
			return err
		}
		i = b.have.Next(end)
	}
	return nil
}

// sweepParts deletes leaves of blobs that the log does not name.
func (m *Medium) sweepParts() error {
	keep := map[string]bool{}
	for root, b := range m.state.blobs {
		last, _ := leafPlace(b.have.Len() - 1)
		for part := range last + 1 {
			keep[filepath.Base(m.partName(root, part))] = true
		}
	}
	entries, err := os.ReadDir(m.dir)
	if err != nil {
		return fmt.Errorf("carry: tidy: %w", err)
	}
	for _, e := range entries {
		if isPart(e.Name()) && !keep[e.Name()] {
			if err := os.Remove(filepath.Join(m.dir, e.Name())); err != nil {
				return fmt.Errorf("carry: tidy: %w", err)
			}
		}
	}
	return nil
}
