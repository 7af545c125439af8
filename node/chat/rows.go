package chat

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math"

	"outrider/mesh/envelope"
	"outrider/mesh/identity"
)

// put adds a new row to a tx: the row, its names, its expiry, and its place in
// the conversation. The row's key goes into the vault with putKeys, after the
// tx is durable: a row without a key was never there.
func (s *Session) put(t *tx, r *record) {
	conv, c := t.conv(s, r.Peer)
	c.Order++
	c.Last, c.AtMS = r.Msg, s.nowMS()
	if !r.Out && !r.Read {
		c.Unread++
	}
	r.Conv, r.Order = conv, c.Order
	if !r.Gone {
		s.fresh[r.Msg] = newKey()
	}
	for _, b := range r.sealings() {
		t.places[s.placeKey(b.Epoch, b.Slot, b.Index)] = r
	}
	s.change(t, r)
	t.add(PutKV{Bucket: bucketChat, Key: s.expiryKey(r), Value: []byte{1}})
}

func (s *Session) rowOp(key [32]byte, r *record) (Op, error) {
	row, err := sealRow(s.user, key, r)
	if err != nil {
		return nil, err
	}
	return PutRow{Row: row}, nil
}

// putKeys hands the keys of new rows to the vault, to be committed with it.
func (s *Session) putKeys() error {
	for id, key := range s.fresh {
		if err := s.vault.Put(id, key[:]); err != nil {
			return fmt.Errorf("chat: keep row key: %w", err)
		}
	}
	clear(s.fresh)
	return nil
}

// commit makes a tx durable and then the keys of its new rows.
func (s *Session) commit(ctx context.Context, t *tx) error {
	if err := s.commitRows(ctx, t); err != nil {
		clear(s.fresh)
		return err
	}
	if s.closed {
		return ErrLocked
	}
	if len(s.fresh) == 0 && !s.shredded {
		return nil
	}
	if err := s.putKeys(); err != nil {
		return s.broken(err)
	}
	if err := s.vault.Commit(); err != nil {
		return s.broken(fmt.Errorf("chat: commit vault: %w", err))
	}
	s.shredded = false
	return nil
}

// change adds the new content of a row to a tx. The key stays, but for a row
// that has become a note.
func (s *Session) change(t *tx, r *record) {
	key, err := s.rowKey(r.rowKind(), r.Msg)
	if err != nil {
		t.err = errors.Join(t.err, err)
		return
	}
	t.rows[r.Msg] = r
	t.addErr(s.rowOp(key, r))
}

// save changes one row, durably.
func (s *Session) save(ctx context.Context, r *record) error {
	t := s.begin()
	s.change(t, r)
	return s.commit(ctx, t)
}

func (s *Session) rowKey(kind byte, id MessageID) ([32]byte, error) {
	if kind == rowNote {
		return s.master, nil
	}
	if key, ok := s.fresh[id]; ok {
		return key, nil
	}
	b, err := s.vault.Get(id)
	switch {
	case errors.Is(err, envelope.ErrNoSecret):
		return [32]byte{}, ErrNotFound
	case err != nil:
		return [32]byte{}, fmt.Errorf("chat: read row key: %w", err)
	case len(b) != 32:
		return [32]byte{}, errShape
	}
	return [32]byte(b), nil
}

// get reads a row. A row whose key is not in the vault is not there.
func (s *Session) get(id MessageID) (*record, error) {
	row, err := s.svc.cfg.Store.Row(s.user, id)
	if err != nil {
		return nil, err
	}
	return s.read(row)
}

func (s *Session) read(row Row) (*record, error) {
	if len(row.Data) == 0 {
		return nil, errUnreadable
	}
	key, err := s.rowKey(row.Data[0], row.Msg)
	if err != nil {
		return nil, err
	}
	return openRow(s.user, key, row)
}

// find is lookup and get: the message with a name, if it is really there.
func (s *Session) find(kind byte, parts ...[]byte) (*record, error) {
	id, err := s.lookup(kind, parts...)
	if err != nil {
		return nil, err
	}
	return s.get(id)
}

// findOrNil is find with nil for what is not there.
func (s *Session) findOrNil(kind byte, parts ...[]byte) (*record, error) {
	r, err := s.find(kind, parts...)
	if errors.Is(err, ErrNotFound) || errors.Is(err, errUnreadable) {
		return nil, nil
	}
	return r, err
}

// The expiry index is in the clear, to the minute, so that rows can be found
// when their time is over. It tells no more than the lifetimes of bundles do.
func (s *Session) expiryKey(r *record) string {
	return s.key(kindExpiry, uint32Bytes(minuteAfter(r.ends())), r.Msg[:])
}

// minuteAfter is the first whole minute at or after an elapsed time in seconds.
func minuteAfter(sec int64) uint32 {
	return uint32(min(max(0, (sec+59)/60), math.MaxUint32))
}

// ends is when a row is to be shredded, in seconds of Elapsed.
func (r *record) ends() int64 {
	if r.BurnEnds > 0 {
		return min(r.Ends, r.BurnEnds)
	}
	return r.Ends
}

// erase adds the end of a row to a tx and shreds its key with the next commit
// of the vault, which the caller asks for by commit.
func (s *Session) erase(t *tx, r *record) {
	t.add(DeleteRow{User: s.user, Msg: r.Msg}, DeleteKV{Bucket: bucketChat, Key: s.expiryKey(r)})
	t.add(s.nameDrops(r)...)
	if r.Out {
		t.add(s.openDrops(r)...)
	}
	s.dropFile(t, r)
	if !r.Out && !r.Read {
		if _, c := t.conv(s, r.Peer); c.Unread > 0 {
			c.Unread--
		}
	}
	delete(t.rows, r.Msg)
	t.then(func() { delete(s.outgoing, r.Msg) })
	t.shreds = append(t.shreds, r.Msg)
}

// empty shreds the content of a row and leaves a note that it was there: a
// late copy of the message is then still known. The note is durable before
// the key is gone; a crash between the two is mended at the next unlocking.
func (s *Session) empty(t *tx, r *record, state State) {
	if !r.Out && !r.Read {
		if _, c := t.conv(s, r.Peer); c.Unread > 0 {
			c.Unread--
		}
		r.Read = true
	}
	s.dropFile(t, r)
	r.Text, r.Loc, r.Call, r.File, r.State, r.Gone, r.Fail = "", nil, nil, nil, state, true, ""
	if r.BurnEnds > 0 { // the note stays until the message's own end
		t.add(DeleteKV{Bucket: bucketChat, Key: s.expiryKey(r)})
		r.BurnEnds = 0
		t.add(PutKV{Bucket: bucketChat, Key: s.expiryKey(r), Value: []byte{1}})
	}
	delete(s.fresh, r.Msg) // it may have come in this very batch
	t.shreds = append(t.shreds, r.Msg)
	s.change(t, r)
}

// sweep removes rows whose time is over, and at unlocking also rows whose key
// never became durable. It takes at most maxSweep at a time.
func (s *Session) sweep(ctx context.Context, all bool) error {
	const maxSweep = 200
	now := s.elapsed()
	t, n := s.begin(), 0
	for p, err := range s.svc.cfg.Store.List(bucketChat, s.key(kindExpiry)) {
		if err != nil {
			return fmt.Errorf("chat: sweep: %w", err)
		}
		minute, id, ok := parseExpiry(p.Key[len(s.user)+1:])
		if !ok {
			return fmt.Errorf("chat: sweep: %w", errShape)
		}
		due := int64(minute)*60 <= now
		if !due && !all {
			break // the rest is later
		}
		if err := s.sweepOne(t, p.Key, id, due, all); err != nil {
			return err
		}
		if n++; n%maxSweep == 0 {
			if err := s.commit(ctx, t); err != nil {
				return err
			}
			t = s.begin()
			if !all {
				break
			}
		}
	}
	return s.commit(ctx, t)
}

// sweepOne looks at one row of the expiry index.
func (s *Session) sweepOne(t *tx, key string, id MessageID, due, all bool) error {
	r, err := s.get(id)
	switch {
	case errors.Is(err, ErrNotFound), errors.Is(err, errUnreadable):
		t.add(DeleteRow{User: s.user, Msg: id}, DeleteKV{Bucket: bucketChat, Key: key})
		t.shreds = append(t.shreds, id)
		return nil
	case err != nil:
		return err
	case !due:
		if all && r.Gone { // a crash may have come before the key was shredded
			return s.shredLeft(t, id)
		}
		return nil
	}
	s.expire(t, r)
	return nil
}

func (s *Session) shredLeft(t *tx, id MessageID) error {
	_, err := s.vault.Get(id)
	switch {
	case errors.Is(err, envelope.ErrNoSecret):
		return nil
	case err != nil:
		return fmt.Errorf("chat: read row key: %w", err)
	}
	t.shreds = append(t.shreds, id)
	return nil
}

func parseExpiry(key string) (minute uint32, id MessageID, ok bool) {
	if len(key) != 4+len(id) {
		return 0, id, false
	}
	copy(id[:], key[4:])
	return binary.BigEndian.Uint32([]byte(key)), id, true
}

// names are all names of a row, to be put or dropped.
func (s *Session) allNames(r *record) (keys []string) {
	if !r.Out {
		keys = append(keys, s.indexKey(nameSender, r.From[:], uint64Bytes(uint64(r.SentMS))))
	}
	if r.File != nil {
		keys = append(keys, s.indexKey(nameRoot, r.File.Root[:]))
	}
	if r.Act != nil {
		keys = append(keys, s.key(kindIndex, r.Act.Name[:]))
	}
	for _, b := range r.sealings() {
		keys = append(keys, s.placeKey(b.Epoch, b.Slot, b.Index))
	}
	for _, b := range []*sealedRecord{r.Sealed, r.blob()} {
		if b != nil && r.Out {
			keys = append(keys, s.indexKey(nameBundle, b.ID[:]))
		}
	}
	return keys
}

func (s *Session) placeKey(e envelope.EpochID, slot uint16, index uint32) string {
	return s.indexKey(namePlace, e[:], uint32Bytes(uint32(slot)), uint32Bytes(index))
}

func (s *Session) nameOps(r *record) (ops []Op) {
	for _, k := range s.allNames(r) {
		ops = append(ops, PutKV{Bucket: bucketChat, Key: k, Value: r.Msg[:]})
	}
	return ops
}

func (s *Session) nameDrops(r *record) (ops []Op) {
	for _, k := range s.allNames(r) {
		ops = append(ops, DeleteKV{Bucket: bucketChat, Key: k})
	}
	return ops
}

// sealings are all sealings of a message, the newest first.
func (r *record) sealings() (all []sealedRecord) {
	if r.Sealed != nil {
		all = append(all, *r.Sealed)
	}
	return append(all, r.Past...)
}

// blob is the bundle of a file, nil if there is none.
func (r *record) blob() *sealedRecord {
	if r.File == nil {
		return nil
	}
	return r.File.Blob
}

// known returns a received message that is here already, also if only a note
// of it is left, nil if it is new.
func (s *Session) known(from identity.DeviceID, sentMS uint64) (*record, error) {
	return s.findOrNil(nameSender, from[:], uint64Bytes(sentMS))
}
