package store

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"

	"outrider/mesh/bundle"
	"outrider/mesh/identity"
)

// An Op is one change. The types that begin with Put, Set and Delete are Ops.
type Op interface {
	// check looks at the Op alone, and may fill in what follows from it.
	check() (Op, error)
	// apply makes the change in t.
	apply(t *tx) error
	// need says how much free space the Op wants to see.
	need() need
}

// A need is a share of the floor of free space.
type need uint8

const (
	bookkeeping need = iota // goes on to a quarter of the floor
	growth
)

// PutBundle stores a bundle, or stores it anew. Record.ID and PayloadHash must
// fit the header and the payload; PayloadLen, Tag and Precedence are filled in.
type PutBundle struct {
	Record  Record
	Payload []byte
}

// SetMeta changes what is known of a stored bundle: its Meta and, if Hop is
// not nil, its hop part. A bundle that is not stored is ErrNotFound.
type SetMeta struct {
	ID   bundle.ID
	Hop  *bundle.Hop
	Meta Meta
}

// DeleteBundle removes a bundle. It is no error if there is none.
type DeleteBundle struct{ ID bundle.ID }

// PutPurge stores a purge record, or stores it anew. It does not touch the
// bundle.
type PutPurge struct{ Purge Purge }

// DeletePurge removes a purge record. It is no error if there is none.
type DeletePurge struct{ ID bundle.ID }

// PutKV sets the value of a key in a bucket.
type PutKV struct {
	Bucket, Key string
	Value       []byte
}

// DeleteKV removes a key from a bucket. It is no error if it is not there.
type DeleteKV struct{ Bucket, Key string }

func (PutBundle) need() need          { return growth }
func (p PutBundle) payloadBytes() int { return len(p.Payload) }

func (PutPurge) need() need     { return bookkeeping }
func (SetMeta) need() need      { return bookkeeping }
func (DeleteBundle) need() need { return bookkeeping }
func (DeletePurge) need() need  { return bookkeeping }
func (PutKV) need() need        { return bookkeeping }
func (DeleteKV) need() need     { return bookkeeping }

func (p PutBundle) check() (Op, error) {
	r := &p.Record
	h, err := bundle.ParseHeader(r.Header)
	if err != nil {
		return nil, fmt.Errorf("store: put bundle: %w: %w", err, ErrInvalid)
	}
	if len(p.Payload) > bundle.MaxPayload {
		return nil, fmt.Errorf("store: put bundle: payload of %d bytes: %w", len(p.Payload), ErrTooLarge)
	}
	// Reading verifies the hash; a wrong one must not get in.
	if sha256.Sum256(p.Payload) != r.PayloadHash || bundle.HashOf(r.Header, r.PayloadHash).ID() != r.ID {
		return nil, fmt.Errorf("store: put bundle %v: id or hash does not fit its bytes: %w", r.ID, ErrInvalid)
	}
	r.Tag, r.Precedence, r.PayloadLen = h.Tag, h.Precedence, uint32(len(p.Payload))
	r.Hop = normal(r.Hop)
	return p, r.Meta.check()
}

// normal returns h with the budget it is read back with.
func normal(h bundle.Hop) bundle.Hop {
	h.Budget = min(h.Budget, bundle.MaxBudget)
	return h
}

func (m Meta) check() error {
	if len(m.Extra) > MaxExtra {
		return fmt.Errorf("store: meta with %d extra bytes (at most %d): %w", len(m.Extra), MaxExtra, ErrTooLarge)
	}
	return nil
}

func (p PutBundle) apply(t *tx) error {
	old, err := t.bundle(p.Record.ID)
	switch {
	case err == nil:
		t.removeBundle(old)
	case !errors.Is(err, ErrNotFound):
		return err
	}
	r := p.Record
	if t.state.count.bytes()+r.cost() > t.s.o.MaxBytes {
		return fmt.Errorf("store: put bundle %v: %d of %d bytes used: %w", r.ID, t.state.count.bytes(), t.s.o.MaxBytes, ErrFull)
	}
	if len(p.Payload) > 0 {
		r.place = t.addPayload(r.ID, p.Payload)
	}
	t.addBundle(r)
	t.state.count.lastSeq = max(t.state.count.lastSeq, r.Meta.Seq)
	return nil
}

func (s SetMeta) check() (Op, error) {
	if s.Hop != nil {
		h := normal(*s.Hop)
		s.Hop = &h
	}
	return s, s.Meta.check()
}

func (s SetMeta) apply(t *tx) error {
	old, err := t.bundle(s.ID)
	if err != nil {
		return err
	}
	r := old
	r.Meta = s.Meta
	if s.Hop != nil {
		r.Hop = *s.Hop
	}
	t.changeBundle(old, r)
	t.state.count.lastSeq = max(t.state.count.lastSeq, r.Meta.Seq)
	return nil
}

func (d DeleteBundle) check() (Op, error) { return d, nil }

func (d DeleteBundle) apply(t *tx) error {
	old, err := t.bundle(d.ID)
	if errors.Is(err, ErrNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	t.removeBundle(old)
	return nil
}

func (p PutPurge) check() (Op, error) {
	raw := p.Purge.Record.Append(nil)
	r, err := bundle.ParsePurgeRecord(raw)
	if err != nil {
		return nil, fmt.Errorf("store: put purge record: %w: %w", err, ErrInvalid)
	}
	p.Purge.Record = r
	return p, p.Purge.Meta.check()
}

func (p PutPurge) apply(t *tx) error {
	id := p.Purge.ID()
	if err := (DeletePurge{id}).apply(t); err != nil {
		return err
	}
	if t.state.count.bytes()+RecordCost > t.s.o.MaxBytes {
		return fmt.Errorf("store: put purge record of %v: %w", id, ErrFull)
	}
	t.batch.Set(keyPurge(id), p.Purge.encode())
	t.batch.Set(keyDue(p.Purge.Meta.Due, duePurge, id), nil)
	t.state.count.purges++
	return nil
}

func (d DeletePurge) check() (Op, error) { return d, nil }

func (d DeletePurge) apply(t *tx) error {
	raw, err := t.get(keyPurge(d.ID))
	if errors.Is(err, ErrNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	old, err := parsePurge(d.ID, raw)
	if err != nil {
		return err
	}
	t.batch.Delete(keyPurge(d.ID))
	t.batch.Delete(keyDue(old.Meta.Due, duePurge, d.ID))
	t.state.count.purges--
	return nil
}

func checkBucket(bucket, key string) error {
	if bucket == "" || len(bucket) > 64 || len(key) > MaxKey {
		return fmt.Errorf("store: bucket name of %d bytes (1 to 64), key of %d (at most %d): %w", len(bucket), len(key), MaxKey, ErrTooLarge)
	}
	return nil
}

func (p PutKV) check() (Op, error) {
	if len(p.Value) > MaxValue {
		return nil, fmt.Errorf("store: put into bucket %q: %d bytes (at most %d): %w", p.Bucket, len(p.Value), MaxValue, ErrTooLarge)
	}
	return p, checkBucket(p.Bucket, p.Key)
}

func (p PutKV) apply(t *tx) error {
	t.batch.Set(keyBucket(p.Bucket, p.Key), bytes.Clone(p.Value))
	return nil
}

func (d DeleteKV) check() (Op, error) { return d, checkBucket(d.Bucket, d.Key) }

func (d DeleteKV) apply(t *tx) error {
	t.batch.Delete(keyBucket(d.Bucket, d.Key))
	return nil
}

// A Row is one line of a user's timeline. Data is opaque: it is sealed before
// it comes here.
type Row struct {
	User  identity.UserID
	Conv  [16]byte // conversation
	Msg   [16]byte // message; one row for each (User, Msg)
	Order uint64   // place in the conversation
	Data  []byte   // at most MaxValue
}

// PutRow stores a row, or stores it anew: also at another place.
type PutRow struct{ Row Row }

// DeleteRow removes a row. It is no error if there is none.
type DeleteRow struct {
	User identity.UserID
	Msg  [16]byte
}

func (PutRow) need() need    { return growth }
func (DeleteRow) need() need { return bookkeeping }

func (p PutRow) check() (Op, error) {
	if len(p.Row.Data) > MaxValue {
		return nil, fmt.Errorf("store: put row of %d bytes (at most %d): %w", len(p.Row.Data), MaxValue, ErrTooLarge)
	}
	return p, nil
}

func (p PutRow) apply(t *tx) error {
	r := p.Row
	if err := (DeleteRow{r.User, r.Msg}).apply(t); err != nil {
		return err
	}
	t.batch.Set(keyRow(r.User, r.Conv, r.Order, r.Msg), bytes.Clone(r.Data))
	t.batch.Set(keyMessage(r.User, r.Msg), encodeWhere(r.Conv, r.Order))
	t.state.count.rows++
	newest, err := t.newest(r.User, r.Conv)
	if err != nil {
		return err
	}
	if newest == nil || *newest < r.Order {
		t.setNewest(r.User, r.Conv, r.Order)
	}
	return nil
}

func (d DeleteRow) check() (Op, error) { return d, nil }

func (d DeleteRow) apply(t *tx) error {
	raw, err := t.get(keyMessage(d.User, d.Msg))
	if errors.Is(err, ErrNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	conv, order, err := parseWhere(raw)
	if err != nil {
		return err
	}
	t.batch.Delete(keyMessage(d.User, d.Msg))
	t.batch.Delete(keyRow(d.User, conv, order, d.Msg))
	t.state.count.rows--
	return t.lowerNewest(d.User, conv, order)
}

func encodeWhere(conv [16]byte, order uint64) []byte {
	return binary.BigEndian.AppendUint64(bytes.Clone(conv[:]), order)
}

// parseWhere reads where the row of a message is.
func parseWhere(raw []byte) (conv [16]byte, order uint64, err error) {
	c := cutter{rest: raw}
	c.copy(conv[:])
	order = c.uint64()
	if !c.ended() {
		return conv, 0, fmt.Errorf("store: read place of a row: %w", ErrCorrupt)
	}
	return conv, order, nil
}
