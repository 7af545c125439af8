package chat

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"hash"
	"io"
	"math"
)

// MaxOnce is the longest name of an act of sending, in bytes.
const MaxOnce = 128

// ErrRepeat means that an act's name stands for another message already.
var ErrRepeat = errors.New("chat: that name was given to another message")

var errOnce = fmt.Errorf("chat: the name of an act has at most %d bytes: %w", MaxOnce, ErrInvalid)

// An act is one wish to send something. Whoever loses the answer repeats the
// act under the same name, and the message exists once: its row keeps a keyed
// hash of the name, and what was asked, for as long as there is the row. That
// holds over crashes, because row and name become durable together, and bounds
// what is kept by the rows there are.
type act struct {
	once string // as the client gave it; empty: every call is an act of its own
	sum  [16]byte
}

// actRecord is an act as it lies in a row.
type actRecord struct {
	Name [16]byte `cbor:"1,keyasint"` // keyed hash
	Sum  [16]byte `cbor:"2,keyasint"` // hash of what was asked
}

// newAct names an act. What is asked for is hashed field by field, so that the
// same name with anything else is found out.
func newAct(once string, t Type, to address, fields ...[]byte) (act, error) {
	if once == "" {
		return act{}, nil
	}
	if len(once) > MaxOnce {
		return act{}, errOnce
	}
	h := sha256.New()
	hashField(h, []byte(t))
	hashField(h, to.to[:])
	hashField(h, []byte{byte(to.prec)})
	hashField(h, uint64Bytes(uint64(to.ttl)))
	for _, f := range fields {
		hashField(h, f)
	}
	return act{once: once, sum: [16]byte(h.Sum(nil))}, nil
}

// hashField adds a field with its length, so that no two lists of fields are
// hashed alike.
func hashField(h hash.Hash, b []byte) {
	h.Write(binary.BigEndian.AppendUint64(nil, uint64(len(b))))
	h.Write(b)
}

// hash is the whole location, for acts.
func (l Location) hash() []byte {
	h := sha256.New()
	for _, v := range []float64{l.Lat, l.Lon} {
		hashField(h, uint64Bytes(math.Float64bits(v)))
	}
	hashField(h, uint64Bytes(uint64(l.AccuracyM)))
	hashField(h, []byte(l.Note))
	hashField(h, l.Fix.hash())
	if l.Live {
		hashField(h, []byte{1})
	}
	return h.Sum(nil)
}

// repeated returns the message that an act made before, nil when it is new.
func (s *Session) repeated(a act) (*record, error) {
	if a.once == "" {
		return nil, nil
	}
	r, err := s.findOrNil(nameAct, []byte(a.once))
	if err != nil || r == nil {
		return nil, err
	}
	if r.Act == nil || r.Act.Sum != a.sum {
		return nil, ErrRepeat
	}
	return r, nil
}

// mark writes the act into a new row.
func (s *Session) mark(r *record, a act) {
	if a.once != "" {
		r.Act = &actRecord{Name: s.name(nameAct, []byte(a.once)), Sum: a.sum}
	}
}

// knownAct tells whether a name was used, whatever for.
func (s *Session) knownAct(once string) (bool, error) {
	if once == "" {
		return false, nil
	}
	if len(once) > MaxOnce {
		return false, errOnce
	}
	r, err := s.findOrNil(nameAct, []byte(once))
	return r != nil, err
}

// repeatFile answers an act of sending a file that was done before: the file
// is read to its end to see that it is the same, and goes nowhere.
func (s *Session) repeatFile(ctx context.Context, d FileDraft, a address, r io.Reader) (Message, error) {
	h := sha256.New()
	if _, err := io.Copy(h, ctxReader{ctx, r}); err != nil {
		return Message{}, fmt.Errorf("chat: read file: %w", err)
	}
	act, err := fileAct(d, a, h)
	if err != nil {
		return Message{}, err
	}
	return s.post(ctx, a, act, func(*record, *tx) error {
		return fmt.Errorf("chat: the message of this act is gone: %w", ErrGone)
	})
}

func fileAct(d FileDraft, a address, content hash.Hash) (act, error) {
	return newAct(d.Once, TypeFile, a, []byte(d.Name), []byte(d.MediaType), content.Sum(nil))
}
