package envelope

import (
	"encoding/hex"
	"fmt"
	"slices"

	"outrider/mesh/identity"
)

// An EpochID is the first 8 bytes of the hash of the operation that started
// the epoch. The operation names its issuer, so nobody can make another
// device's epoch.
type EpochID [8]byte

func (id EpochID) String() string { return hex.EncodeToString(id[:]) }

// IsZero reports whether id is unset.
func (id EpochID) IsZero() bool { return id == EpochID{} }

// MarshalText returns the text form.
func (id EpochID) MarshalText() ([]byte, error) { return []byte(id.String()), nil }

// UnmarshalText reads the text form.
func (id *EpochID) UnmarshalText(b []byte) error {
	if len(b) != 2*len(id) {
		return malformed("parse epoch id")
	}
	if _, err := hex.Decode(id[:], b); err != nil {
		return malformed("parse epoch id")
	}
	return nil
}

// A ConversationID names a direct conversation or a room. It never leaves the seal.
type ConversationID [16]byte

func (c ConversationID) String() string { return hex.EncodeToString(c[:]) }

// IsZero reports whether c is unset.
func (c ConversationID) IsZero() bool { return c == ConversationID{} }

// DirectConversation is the conversation of two users, or of one with
// themselves; the order does not matter.
func DirectConversation(network identity.NetworkID, a, b identity.UserID) ConversationID {
	if a.Compare(b) > 0 {
		a, b = b, a
	}
	h := identity.Hash(identity.LabelConversation, network[:], a[:], b[:])
	return ConversationID(h[:16])
}

// An OpKind says what an operation does to a conversation.
type OpKind uint8

// The operations of rooms (crypto.md 5.1), and the one of direct
// conversations, whose epochs have no parents: each stands alone.
const (
	OpCreate    OpKind = 1
	OpAdd       OpKind = 2
	OpRemove    OpKind = 3
	OpSetRole   OpKind = 4
	OpSetPolicy OpKind = 5
	OpRekey     OpKind = 6
	OpMerge     OpKind = 7
	OpLeave     OpKind = 8
	OpDirect    OpKind = 9
)

// A Transport says how the secret of an epoch reaches the roster (crypto.md 5.3).
type Transport uint8

// The transports. Operations that start no epoch have TransportNone.
const (
	TransportNone    Transport = 0
	TransportCold    Transport = 1 // a wrap for each device, under its prekey
	TransportWarm    Transport = 2 // sealed under pairwise chains
	TransportSubtree Transport = 3 // one broadcast under tree keys
)

type opHash [32]byte

func (h opHash) epoch() EpochID { return EpochID(h[:8]) }

// An Op is a signed step of a conversation's history. Encoded it is a CBOR map
// with the keys given; the hash is over the bytes as received, so keys of
// later versions survive and count.
type Op struct {
	Kind         OpKind
	Conversation ConversationID
	Issuer       identity.DeviceID
	Nonce        [16]byte   // makes equal operations differ
	Parents      [][32]byte // hashes of the operations it follows; the first one's carry is used
	Sent         uint64     // hlc, milliseconds since 1970
	RosterHash   [32]byte   // of the epoch it starts, zero if none
	Transport    Transport
	Body         []byte // what Kind needs, at most 2 KiB
}

type wireOp struct {
	Suite        uint64   `cbor:"1,keyasint"`
	Kind         uint64   `cbor:"2,keyasint"`
	Conversation []byte   `cbor:"3,keyasint"`
	Issuer       []byte   `cbor:"4,keyasint"`
	Nonce        []byte   `cbor:"5,keyasint"`
	Parents      [][]byte `cbor:"6,keyasint,omitempty"`
	Sent         uint64   `cbor:"7,keyasint"`
	RosterHash   []byte   `cbor:"8,keyasint,omitempty"`
	Transport    uint64   `cbor:"9,keyasint,omitempty"`
	Body         []byte   `cbor:"10,keyasint,omitempty"`
}

const maxOpBody = 2048

func (o Op) encode() ([]byte, error) {
	if len(o.Body) > maxOpBody || len(o.Parents) > maxOpParents {
		return nil, fmt.Errorf("envelope: encode operation: %w", ErrTooLarge)
	}
	w := wireOp{
		Suite: Suite, Kind: uint64(o.Kind), Conversation: o.Conversation[:], Issuer: o.Issuer[:], Nonce: o.Nonce[:],
		Sent: o.Sent, Transport: uint64(o.Transport), Body: o.Body,
	}
	for _, p := range o.Parents {
		w.Parents = append(w.Parents, p[:])
	}
	if o.RosterHash != [32]byte{} {
		w.RosterHash = o.RosterHash[:]
	}
	return identity.Marshal(w)
}

// ParseOp decodes an operation. It is authentic only if what carried it was.
func ParseOp(raw []byte) (Op, error) {
	var w wireOp
	if len(raw) > maxOp || identity.UnmarshalOpen(raw, &w) != nil {
		return Op{}, malformed("operation")
	}
	if w.Suite != Suite {
		return Op{}, fmt.Errorf("envelope: operation of suite %d: %w", w.Suite, ErrUnsupported)
	}
	if !w.wellFormed() {
		return Op{}, malformed("operation: a field has the wrong length")
	}
	o := Op{
		Kind: OpKind(w.Kind), Conversation: ConversationID(w.Conversation), Issuer: identity.DeviceID(w.Issuer),
		Nonce: [16]byte(w.Nonce), Sent: w.Sent, Transport: Transport(w.Transport), Body: w.Body,
	}
	for _, p := range w.Parents {
		o.Parents = append(o.Parents, [32]byte(p))
	}
	if w.RosterHash != nil {
		o.RosterHash = [32]byte(w.RosterHash)
	}
	return o, nil
}

func (w wireOp) wellFormed() bool {
	return w.Kind <= 255 && w.Transport <= 255 &&
		len(w.Conversation) == 16 && len(w.Issuer) == 16 && len(w.Nonce) == 16 &&
		(w.RosterHash == nil || len(w.RosterHash) == 32) &&
		len(w.Body) <= maxOpBody && len(w.Parents) <= maxOpParents &&
		!slices.ContainsFunc(w.Parents, func(p []byte) bool { return len(p) != 32 })
}

func hashOp(network identity.NetworkID, raw []byte) opHash {
	return opHash(identity.Hash(identity.LabelEpochID, network[:], raw))
}
