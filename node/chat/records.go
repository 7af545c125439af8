package chat

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"iter"
	"maps"
	"slices"
	"strings"

	"outrider/mesh/bundle"
	"outrider/mesh/identity"
)

// bucketChat holds everything of a user that is no row. A key is the user, a
// kind and a random or keyed name; a value is sealed but where noted.
const bucketChat = "chat"

const (
	kindRecord  = 'k' // keyed name: a named record, see records
	kindConv    = 'c' // conversation: convRecord
	kindIndex   = 'i' // keyed name: message id, in the clear, since it is random
	kindExpiry  = 'x' // minute of Elapsed (4 B), message: empty; in the clear
	kindOutbox  = 'o' // message, part: a sealed bundle the agent does not have yet
	kindOpen    = 'w' // message: empty; an outgoing message that is not under way
	kindPurge   = 'd' // keyed bundle id: purge record to release when the bundle is consumed
	kindReceipt = 'q' // epoch: empty; receipts are owed in it
)

// What an entry of the index is a name of. Together with the names key they
// make kindIndex keys.
const (
	nameConv   = 'c' // user
	nameRecord = 'k' // record name
	nameBundle = 'b' // bundle id
	namePlace  = 'p' // epoch, slot, index: a message
	nameRoot   = 'f' // blob root: the message of a file
	nameSender = 's' // device, hlc: a received message
	namePurge  = 'd' // bundle id
	nameLive   = 'l' // sender's device, conversation: the newest live location
	nameAct    = 'a' // name of an act of sending: the message it made
)

// name returns a keyed hash: the same for the same thing, and nothing to
// whoever lacks the key.
func (s *Session) name(kind byte, parts ...[]byte) (n [16]byte) {
	m := identity.MAC(s.names, identity.LabelVaultRow, append([][]byte{{kind}}, parts...)...)
	copy(n[:], m[:])
	return n
}

// key makes a key in bucketChat.
func (s *Session) key(kind byte, parts ...[]byte) string {
	b := append(make([]byte, 0, 64), s.user[:]...)
	b = append(b, kind)
	for _, p := range parts {
		b = append(b, p...)
	}
	return string(b)
}

func (s *Session) indexKey(kind byte, parts ...[]byte) string {
	n := s.name(kind, parts...)
	return s.key(kindIndex, n[:])
}

func valueAAD(key string) []byte { return append(append(identity.LabelVaultRow.Prefix(), 'v'), key...) }

// sealValue encrypts a value for its key.
func (s *Session) sealValue(key string, v any) (PutKV, error) {
	b, err := identity.Marshal(v)
	if err != nil {
		return PutKV{}, fmt.Errorf("chat: encode value: %w", err)
	}
	return PutKV{Bucket: bucketChat, Key: key, Value: identity.Seal(s.master, pad(b), valueAAD(key))}, nil
}

func (s *Session) openValue(key string, sealed []byte, v any) error {
	b, err := identity.Open(s.master, sealed, valueAAD(key))
	if err != nil {
		return errUnreadable
	}
	return decodePadded(b, v)
}

// getValue reads a sealed value; ErrNotFound when there is none.
func (s *Session) getValue(key string, v any) error {
	sealed, err := s.svc.cfg.Store.Get(bucketChat, key)
	if err != nil {
		return err
	}
	return s.openValue(key, sealed, v)
}

// lookup finds a message by one of its names.
func (s *Session) lookup(kind byte, parts ...[]byte) (id MessageID, err error) {
	b, err := s.svc.cfg.Store.Get(bucketChat, s.indexKey(kind, parts...))
	if err != nil {
		return id, err
	}
	if len(b) != len(id) {
		return id, errShape
	}
	return MessageID(b), nil
}

func (s *Session) nameOp(id MessageID, kind byte, parts ...[]byte) Op {
	return PutKV{Bucket: bucketChat, Key: s.indexKey(kind, parts...), Value: id[:]}
}

func (s *Session) dropName(kind byte, parts ...[]byte) Op {
	return DeleteKV{Bucket: bucketChat, Key: s.indexKey(kind, parts...)}
}

func uint32Bytes(v uint32) []byte { return binary.BigEndian.AppendUint32(nil, v) }
func uint64Bytes(v uint64) []byte { return binary.BigEndian.AppendUint64(nil, v) }

// records keeps small named values: the keyring's, and chat's own. All are in
// memory while the user is unlocked. It is envelope.Records.
type records struct {
	s    *Session
	vals map[string][]byte
}

// A namedValue is what lies in the store: the name is sealed too.
type namedValue struct {
	Name  string `cbor:"1,keyasint"`
	Value []byte `cbor:"2,keyasint"`
}

func (s *Session) loadRecords() error {
	s.recs = &records{s: s, vals: make(map[string][]byte)}
	for p, err := range s.svc.cfg.Store.List(bucketChat, s.key(kindRecord)) {
		if err != nil {
			return fmt.Errorf("chat: read records: %w", err)
		}
		var v namedValue
		if err := s.openValue(p.Key, p.Value, &v); err != nil {
			return fmt.Errorf("chat: read records: %w", err)
		}
		s.recs.vals[v.Name] = v.Value
	}
	return nil
}

// PutRecord is part of envelope.Records: durable when it returns nil.
func (r *records) PutRecord(name string, value []byte) error {
	op, err := r.op(name, value)
	if err != nil {
		return err
	}
	if err := r.s.svc.cfg.Store.Commit(context.Background(), op); err != nil {
		return fmt.Errorf("chat: write record: %w", err)
	}
	r.note(name, value)
	return nil
}

// op makes the change for a commit together with other things; the caller
// calls note when it is durable.
func (r *records) op(name string, value []byte) (Op, error) {
	n := r.s.name(nameRecord, []byte(name))
	key := r.s.key(kindRecord, n[:])
	if value == nil {
		return DeleteKV{Bucket: bucketChat, Key: key}, nil
	}
	return r.s.sealValue(key, namedValue{Name: name, Value: value})
}

func (r *records) note(name string, value []byte) {
	if value == nil {
		delete(r.vals, name)
		return
	}
	r.vals[name] = slices.Clone(value)
}

// Records is part of envelope.Records.
func (r *records) Records(prefix string) iter.Seq2[string, []byte] {
	return func(yield func(string, []byte) bool) {
		for _, name := range slices.Sorted(maps.Keys(r.vals)) {
			if strings.HasPrefix(name, prefix) && !yield(name, slices.Clone(r.vals[name])) {
				return
			}
		}
	}
}

// A convRecord is what the list of conversations shows, but for the newest
// message itself, which is in its row.
type convRecord struct {
	Peer   identity.UserID `cbor:"1,keyasint"`
	Order  uint64          `cbor:"2,keyasint"` // of the newest row ever written
	Last   MessageID       `cbor:"3,keyasint"`
	Unread int             `cbor:"4,keyasint"`
	AtMS   int64           `cbor:"5,keyasint"` // when the newest was written
}

func (s *Session) convOf(peer identity.UserID) ConversationID {
	return ConversationID(s.name(nameConv, peer[:]))
}

func (s *Session) loadConvs() error {
	s.convs = make(map[ConversationID]*convRecord)
	for p, err := range s.svc.cfg.Store.List(bucketChat, s.key(kindConv)) {
		if err != nil {
			return fmt.Errorf("chat: read conversations: %w", err)
		}
		c := new(convRecord)
		if err := s.openValue(p.Key, p.Value, c); err != nil || len(p.Key) != len(s.user)+1+16 {
			return fmt.Errorf("chat: read conversations: %w", errors.Join(err, errShape))
		}
		s.convs[ConversationID([]byte(p.Key[len(s.user)+1:]))] = c
	}
	return nil
}

func (s *Session) convKey(id ConversationID) string { return s.key(kindConv, id[:]) }

// A tx gathers what is to become durable together, and what to do when it is.
type tx struct {
	ops    []Op
	after  []func()
	convs  map[ConversationID]*convRecord // changed copies
	rows   map[MessageID]*record          // rows written, as this tx leaves them
	places map[string]*record             // new rows by the key of their place
	shreds []MessageID                    // keys to be shredded once the rows are durable
	err    error
}

func (s *Session) begin() *tx {
	return &tx{convs: make(map[ConversationID]*convRecord), rows: make(map[MessageID]*record), places: make(map[string]*record)}
}

func (t *tx) add(ops ...Op) { t.ops = append(t.ops, ops...) }

// addErr is add for calls that also return an error.
func (t *tx) addErr(op Op, err error) {
	if err != nil {
		t.err = errors.Join(t.err, err)
		return
	}
	t.ops = append(t.ops, op)
}

// then runs do when the tx is durable.
func (t *tx) then(do func()) { t.after = append(t.after, do) }

// conv returns the conversation with a peer, to be changed.
func (t *tx) conv(s *Session, peer identity.UserID) (ConversationID, *convRecord) {
	id := s.convOf(peer)
	if c, ok := t.convs[id]; ok {
		return id, c
	}
	c := &convRecord{Peer: peer}
	if old, ok := s.convs[id]; ok {
		*c = *old
	}
	t.convs[id] = c
	return id, c
}

// What goes into one commit of the store, whose own limits are 1,024 ops and
// 256 KiB of index.
const (
	commitOps   = 512
	commitBytes = 128 << 10
)

// commits cuts what is to be written into commits, in order. What concerns one
// message fits in one; of more, some may be written and the rest not, and is
// then done again: arrived bundles are opened once more, receipts are taken once
// more, a sweep goes on where it was.
func commits(ops []Op) iter.Seq[[]Op] {
	return func(yield func([]Op) bool) {
		for len(ops) > 0 {
			n, size := 0, 0
			for n < min(len(ops), commitOps) {
				size += opBytes(ops[n])
				if n > 0 && size > commitBytes {
					break
				}
				n++
			}
			if !yield(ops[:n]) {
				return
			}
			ops = ops[n:]
		}
	}
}

// opBytes is about what an op takes in the store's index.
func opBytes(op Op) int {
	const around = 128 // keys of a row, and the store's own words
	switch op := op.(type) {
	case PutRow:
		return around + len(op.Row.Data)
	case PutKV:
		return around + len(op.Bucket) + len(op.Key) + len(op.Value)
	}
	return around
}

// commitRows makes a tx durable in the store. The vault learns what is to be
// shredded, and is not committed.
func (s *Session) commitRows(ctx context.Context, t *tx) error {
	for id, c := range t.convs {
		t.addErr(s.sealValue(s.convKey(id), c))
	}
	if t.err != nil {
		return t.err
	}
	for part := range commits(t.ops) {
		if err := s.svc.cfg.Store.Commit(ctx, part...); err != nil {
			return fmt.Errorf("chat: commit: %w", err)
		}
	}
	for id, c := range t.convs {
		s.convs[id] = c
	}
	for _, id := range t.shreds {
		if err := s.vault.Shred(id); err != nil {
			return s.broken(fmt.Errorf("chat: shred: %w", err))
		}
		s.shredded = true
	}
	for _, do := range t.after {
		do()
	}
	return nil
}

// A purgeValue is a purge record that may be released once the keyring says
// that its bundle was accepted.
type purgeValue struct {
	Bundle bundle.ID `cbor:"1,keyasint"`
	Record []byte    `cbor:"2,keyasint"`
}

func (s *Session) purgeKey(id bundle.ID) string {
	n := s.name(namePurge, id[:])
	return s.key(kindPurge, n[:])
}
