package chat

import (
	"crypto/rand"
	"errors"
	"fmt"

	"outrider/mesh/blob"
	"outrider/mesh/bundle"
	"outrider/mesh/envelope"
	"outrider/mesh/identity"
)

// A record is one message as it lies in a row: CBOR, padded, sealed under the
// message's own key from the vault. Fields are numbered for ever.
type record struct {
	Msg      MessageID         `cbor:"1,keyasint"`
	Conv     ConversationID    `cbor:"2,keyasint"`
	Order    uint64            `cbor:"3,keyasint"`
	Out      bool              `cbor:"4,keyasint,omitempty"`
	Peer     identity.UserID   `cbor:"5,keyasint"`
	From     identity.DeviceID `cbor:"6,keyasint"` // the sending device; with SentMS the message's identity however often it is sealed
	Type     Type              `cbor:"7,keyasint"`
	Text     string            `cbor:"8,keyasint,omitempty"`
	File     *fileRecord       `cbor:"9,keyasint,omitempty"`
	Loc      []byte            `cbor:"10,keyasint,omitempty"` // envelope.Location
	Prec     bundle.Precedence `cbor:"11,keyasint,omitempty"`
	SentMS   int64             `cbor:"12,keyasint"`
	GotMS    int64             `cbor:"13,keyasint,omitempty"`
	TTL      int64             `cbor:"14,keyasint"`           // s
	Ends     int64             `cbor:"15,keyasint"`           // s of Clock.Elapsed
	Burn     int64             `cbor:"16,keyasint,omitempty"` // s
	Read     bool              `cbor:"17,keyasint,omitempty"`
	Hops     int               `cbor:"18,keyasint,omitempty"`
	State    State             `cbor:"19,keyasint,omitempty"` // stored part of the state, see state.go
	Fail     string            `cbor:"20,keyasint,omitempty"` // reason code
	Sealed   *sealedRecord     `cbor:"21,keyasint,omitempty"`
	Devices  []deviceRecord    `cbor:"22,keyasint,omitempty"`
	Gone     bool              `cbor:"23,keyasint,omitempty"` // content was shredded, only the fact remains
	BurnEnds int64             `cbor:"24,keyasint,omitempty"` // s of Clock.Elapsed
	Past     []sealedRecord    `cbor:"25,keyasint,omitempty"` // earlier sealings
	Owed     bool              `cbor:"26,keyasint,omitempty"` // the recall has not been told yet
	Weak     bool              `cbor:"27,keyasint,omitempty"` // sealed without forward secrecy
	Clone    bool              `cbor:"28,keyasint,omitempty"` // another message had its identity
	Sole     bool              `cbor:"29,keyasint,omitempty"` // one reader device: its purge is the receipt
	Synced   bool              `cbor:"30,keyasint,omitempty"` // sent by another device of this user
	Act      *actRecord        `cbor:"31,keyasint,omitempty"` // the act of sending that made it, see act
	Aside    State             `cbor:"32,keyasint,omitempty"` // the user dismissed it in this state
	Carriers []identity.NodeID `cbor:"33,keyasint,omitempty"` // who took copies, the oldest first; at most maxCarriers
	Arch     *archRecord       `cbor:"40,keyasint,omitempty"` // it came to this device as a compliance reader
	Barred   bool              `cbor:"34,keyasint,omitempty"` // its sender was not allowed to send it when it came
	Call     []byte            `cbor:"36,keyasint,omitempty"` // envelope.CallRecord
}

// fileRecord is what a reader needs to open a file whose leaves are here.
type fileRecord struct {
	Body    []byte        `cbor:"1,keyasint"` // envelope.File, with the file's key
	Root    blob.Root     `cbor:"2,keyasint"`
	Done    bool          `cbor:"3,keyasint,omitempty"` // complete here and checked
	Bad     bool          `cbor:"4,keyasint,omitempty"` // complete here and not what was announced
	Blob    *sealedRecord `cbor:"5,keyasint,omitempty"` // outgoing: the blob bundle
	Arrived bool          `cbor:"6,keyasint,omitempty"` // outgoing: the recipient has all of it
}

// sealedRecord names a bundle made from a message.
type sealedRecord struct {
	ID     bundle.ID        `cbor:"1,keyasint"`
	Header []byte           `cbor:"2,keyasint"`
	Sum    [32]byte         `cbor:"3,keyasint"` // SHA-256 of the payload
	Key    bundle.PurgeKey  `cbor:"4,keyasint"` // kept to recall, and to release when all receipts are in
	Epoch  envelope.EpochID `cbor:"5,keyasint"`
	Slot   uint16           `cbor:"6,keyasint,omitempty"`
	Index  uint32           `cbor:"7,keyasint,omitempty"`
	Taken  bool             `cbor:"8,keyasint,omitempty"` // the agent has custody
	At     int64            `cbor:"9,keyasint,omitempty"` // s of Clock.Elapsed when it was made
}

type deviceRecord struct {
	ID   identity.DeviceID `cbor:"1,keyasint"`
	Own  bool              `cbor:"5,keyasint,omitempty"` // another device of the sender
	Got  bool              `cbor:"2,keyasint,omitempty"`
	Read bool              `cbor:"3,keyasint,omitempty"`
	File bool              `cbor:"4,keyasint,omitempty"`
}

// rowPad is the step to which rows are padded, so that their length tells
// little of what was said.
const rowPad = 128

// errUnreadable means that a row or value does not open with the key there is.
var errUnreadable = errors.New("chat: row cannot be read")

// errShape means that something this package wrote has another form now.
var errShape = errors.New("chat: record has the wrong shape")

// A row begins with the kind of its key: the message's own, or, once the
// content was shredded, the user's master key. What is left then names a
// conversation and a time and no content.
const (
	rowContent = 'c'
	rowNote    = 'n'
)

func rowAAD(kind byte, user identity.UserID, msg MessageID) []byte {
	b := append(identity.LabelVaultRow.Prefix(), 'r', kind)
	return append(append(b, user[:]...), msg[:]...)
}

// sealRow encrypts a record under the key that belongs to its kind.
func sealRow(user identity.UserID, key [32]byte, r *record) (Row, error) {
	b, err := identity.Marshal(r)
	if err != nil {
		return Row{}, fmt.Errorf("chat: encode row: %w", err)
	}
	kind := r.rowKind()
	data := append([]byte{kind}, identity.Seal(key, pad(b), rowAAD(kind, user, r.Msg))...)
	return Row{User: user, Msg: r.Msg, Conv: r.Conv, Order: r.Order, Data: data}, nil
}

func (r *record) rowKind() byte {
	if r.Gone {
		return rowNote
	}
	return rowContent
}

// openRow undoes sealRow.
func openRow(user identity.UserID, key [32]byte, row Row) (*record, error) {
	if len(row.Data) < 1 {
		return nil, errUnreadable
	}
	b, err := identity.Open(key, row.Data[1:], rowAAD(row.Data[0], user, row.Msg))
	if err != nil {
		return nil, errUnreadable
	}
	r := new(record)
	if err := decodePadded(b, r); err != nil {
		return nil, err
	}
	if r.Msg != row.Msg || r.Conv != row.Conv || r.Order != row.Order || r.rowKind() != row.Data[0] {
		return nil, fmt.Errorf("chat: row stands in another's place: %w", errUnreadable)
	}
	return r, nil
}

// pad appends 0x80 and zeros up to a multiple of rowPad (ISO/IEC 7816-4).
func pad(b []byte) []byte {
	n := (len(b)/rowPad + 1) * rowPad
	out := make([]byte, n)
	copy(out, b)
	out[len(b)] = 0x80
	return out
}

func unpad(b []byte) ([]byte, error) {
	for i := len(b) - 1; i >= 0; i-- {
		switch b[i] {
		case 0:
		case 0x80:
			return b[:i], nil
		default:
			return nil, errUnreadable
		}
	}
	return nil, errUnreadable
}

// decodePadded reads a record; the bytes were sealed by this node, so a wrong
// shape means that another version wrote them.
func decodePadded(b []byte, v any) error {
	b, err := unpad(b)
	if err != nil {
		return err
	}
	if err := identity.UnmarshalOpen(b, v); err != nil {
		return fmt.Errorf("chat: decode row: %w", err)
	}
	return nil
}

// newID returns a random message id.
func newID() (id MessageID) {
	rand.Read(id[:]) // never fails: crypto/rand
	return id
}

func newKey() (k [32]byte) {
	rand.Read(k[:])
	return k
}
