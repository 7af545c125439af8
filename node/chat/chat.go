// Package chat is what users mean by a message: conversations, text, files
// and locations, who has read what, and why something has not arrived yet.
//
// A Service serves the users hosted on one node. Unlocking a user opens the
// keystore and the vault and yields a Session, which can send and read; a
// locked user's mail stays at the node, sealed, until the next unlocking.
//
// What the package promises:
//
//   - A call that sends returns when the message is durable: it survives a
//     power cut at any moment and goes by itself, under the same message id.
//   - A reader sees a message once, however often it arrives.
//   - An arrived message is acknowledged only when its row and its key are
//     durable; only then is the network told to forget it.
//   - A state shown is true now. A message that cannot go on says why, and
//     what can be done.
//   - Nothing readable is handed to the store: rows, names and file names are
//     encrypted under keys that exist in the user's vault only. Row ids are
//     random and conversation ids are keyed hashes.
//
// The order of writing is the same everywhere: rows first, then the vault,
// then the mesh. A row whose key did not become durable is unreadable, was
// never acknowledged to anybody, and is swept when the user unlocks.
//
// The package knows neither the agent nor the store nor the roster; deps.go
// says what it needs of them.
package chat

import (
	"encoding/base32"
	"errors"
	"fmt"
	"strings"
	"time"

	"outrider/mesh/bundle"
	"outrider/mesh/envelope"
	"outrider/mesh/identity"
)

// Limits of what a user can send. Those marked wire are limits of the reader
// too: a peer that exceeds them is refused.
const (
	MaxText        = 32 << 10         // bytes of UTF-8 in a text; wire
	MaxFileName    = 255              // bytes of a file name; wire
	MaxMediaType   = 127              // bytes of a media type; wire
	MaxNote        = envelope.MaxNote // bytes of a location's note; wire
	MaxFileDefault = 5 << 30          // bytes of a file, where the policy says nothing else
	MaxOutstanding = 20_000           // messages of one user that are not delivered yet
	MaxPage        = 200              // messages in one answer
	MinTTL         = time.Minute
	MaxDevices     = 16     // reader devices for which receipts are kept; decisions.md 6
	maxPending     = 10_000 // bundles of one user that arrived and wait here
)

// A MessageID names one message of one user on this node. It is random.
type MessageID [16]byte

// A ConversationID names one conversation of one user on this node: a keyed
// hash, so that the store cannot tell who talks to whom.
type ConversationID [16]byte

var idText = base32.NewEncoding("abcdefghijklmnopqrstuvwxyz234567").WithPadding(base32.NoPadding)

func (id MessageID) String() string                    { return idText.EncodeToString(id[:]) }
func (id ConversationID) String() string               { return idText.EncodeToString(id[:]) }
func (id MessageID) MarshalText() ([]byte, error)      { return []byte(id.String()), nil }
func (id ConversationID) MarshalText() ([]byte, error) { return []byte(id.String()), nil }
func (id MessageID) IsZero() bool                      { return id == MessageID{} }
func (id ConversationID) IsZero() bool                 { return id == ConversationID{} }

// UnmarshalText reads 26 base32 characters.
func (id *MessageID) UnmarshalText(b []byte) error { return parse16(id[:], "message id", string(b)) }

// UnmarshalText reads 26 base32 characters.
func (id *ConversationID) UnmarshalText(b []byte) error {
	return parse16(id[:], "conversation id", string(b))
}

// ParseMessageID reads a message id's text form.
func ParseMessageID(s string) (id MessageID, err error) { return id, id.UnmarshalText([]byte(s)) }

// ParseConversationID reads a conversation id's text form.
func ParseConversationID(s string) (id ConversationID, err error) {
	return id, id.UnmarshalText([]byte(s))
}

func parse16(dst []byte, what, s string) error {
	b, err := idText.DecodeString(strings.ToLower(s))
	if err != nil || len(b) != len(dst) {
		return fmt.Errorf("chat: parse %s: want %d base32 characters: %w", what, idText.EncodedLen(len(dst)), ErrInvalid)
	}
	copy(dst, b)
	return nil
}

// State is where a message is. The words are decisions.md 22.
type State string

// The states. A message this user received is StateDelivered or StateRead.
const (
	StateWaiting   State = "waiting-for-keys" // the recipient's keys have not arrived here
	StateQueued    State = "queued"           // durable on this node, nobody else has it
	StateCarried   State = "carried"          // another node has taken a copy
	StateAtCore    State = "at-core"          // the core holds a copy
	StateAtNode    State = "at-node"          // a node that serves the recipient holds it
	StateDelivered State = "delivered"        // opened and durable on a device of the recipient
	StateRead      State = "read"             // the recipient has looked at it
	StateExpired   State = "expired"          // its time ran out before it was delivered
	StateRecalled  State = "recalled"         // the sender took it back
	StateFailed    State = "failed"           // it cannot go on; Reason says why
)

// Type is the kind of content a message has.
type Type string

// The types of content.
const (
	TypeText     Type = "text"
	TypeFile     Type = "file"
	TypeLocation Type = "location"
	TypeCall     Type = "call" // the record of a call
)

// A Person is a user as the roster knows them.
type Person struct {
	ID      identity.UserID
	Name    string // display name, from the sealed profile; the short id when none has arrived
	Self    bool   // the asking user
	Here    bool   // hosted on this node
	HasKeys bool   // a message could be sealed to this person now
	Devices int

	// Only from People and Trust.
	Fingerprint string // of the key, to be compared by voice
	Verified    bool   // the user compared it
	KeyChanged  bool   // it is not the one the user knew
	Frozen      bool   // may receive; what it sends is not accepted
	Archive     bool   // a reader of the archive: gets a copy of everything, and is written to by nobody
}

// A File describes an attachment.
type File struct {
	Name      string // as the sender gave it: never a path to open
	Size      uint64 // bytes of the file itself
	MediaType string
	Have      uint64 // sealed bytes that are here and verified
	Total     uint64 // sealed bytes in all
	Complete  bool   // all of it is here and was checked to the last byte
}

// A Location is a shared position.
type Location struct {
	Lat, Lon  float64 // degrees, WGS 84
	AccuracyM uint32  // metres, 0 when unknown
	Note      string
	Live      bool // replaces the sender's earlier live location
	Fix       *Fix // what is known beyond the place; received ones always have it
}

// A Reason says why a message does not go on, and what can be done.
type Reason struct {
	Code string // stable, for programs
	Text string // what is the matter
	Hint string // what to do about it
}

// A Message is one entry of a conversation, as it is at the moment of asking.
type Message struct {
	ID           MessageID
	Conversation ConversationID
	From, To     Person
	Out          bool // this user sent it
	Type         Type
	Text         string
	File         *File
	Location     *Location
	Call         *Call
	Precedence   bundle.Precedence
	Sent         time.Time
	Received     time.Time // zero for messages this user sent
	Expires      time.Time
	BurnAfter    time.Duration // shredded so long after it was read, 0 = not
	State        State
	Delivered    int // devices of the recipient that have it
	Devices      int // devices of the recipient it was sealed for
	Reason       Reason
	Hops         int // links it crossed to come here, for received messages
	Unread       bool
	Dismissed    bool // of the list of failures, in this state
	// Withheld is the group whose policy keeps the content from this user;
	// File and Location are then nil.
	Withheld string
}

// A Conversation is a list of messages with one other person.
type Conversation struct {
	ID     ConversationID
	With   Person
	Last   *Message
	Unread int
}

// A Draft is what a user wants to say. The zero Precedence is Routine; a zero
// TTL means the network's ceiling.
type Draft struct {
	To         identity.UserID
	Text       string
	Precedence bundle.Precedence
	TTL        time.Duration
	Burn       time.Duration // shred so long after reading, 0 = keep until TTL
	Once       string        // names the act of sending: repeated, it makes no second message
}

// A FileDraft is a file to be sent; its bytes come from a reader.
type FileDraft struct {
	To         identity.UserID
	Name       string
	MediaType  string
	Precedence bundle.Precedence
	TTL        time.Duration
	Once       string // as in Draft
}

// A LocationDraft is a position to be sent.
type LocationDraft struct {
	To         identity.UserID
	Location   Location
	Here       bool // the act is "where the node is": its repetition is the same act wherever that is by then
	Precedence bundle.Precedence
	TTL        time.Duration
	Once       string // as in Draft
}

// A Why tells in plain words where a message is and what it waits for.
type Why struct {
	Message Message
	Summary Sentence
	Facts   []Sentence // what this node knows, in order
	Next    Sentence   // what happens next by itself
	Todo    Sentence   // what a person can do, zero when nothing is needed
}

// BannerState is the node's own situation in one word (features.md M16).
type BannerState string

// The banner's states.
const (
	BannerAlone   BannerState = "alone"   // no neighbour in contact
	BannerContact BannerState = "contact" // neighbours, but no way to the core
	BannerCore    BannerState = "core"    // the core is reachable
)

// A Banner tells a user at a glance what the network looks like from here.
type Banner struct {
	State    BannerState
	Contacts int
	CoreLast time.Time // when the core was last reachable, zero = never
}

// A Hosted user has their keys on this node.
type Hosted struct {
	User     identity.UserID
	Name     string
	Unlocked bool
	Waiting  int // bundles that wait at this node for the user to unlock
}

// UpdateKind says what an Update is about.
type UpdateKind string

// The kinds of updates; they are the names of the API's events.
const (
	UpdateMessage UpdateKind = "message" // a message is new, sent or received
	UpdateState   UpdateKind = "state"   // a message's state, delivery count or reason changed
	UpdateFile    UpdateKind = "file"    // more of a file is here
	UpdateContact UpdateKind = "contact" // somebody's name, devices or keys changed
	UpdateBanner  UpdateKind = "banner"  // the banner changed
	UpdateArchive UpdateKind = "archive" // who archives has changed, or something waits to be archived
	UpdatePolicy  UpdateKind = "policy"  // what the user may do changed, and what is withheld
)

// An Update tells a user's screens what changed. Message is set for message,
// state and file updates, Banner for banner updates.
type Update struct {
	Kind    UpdateKind
	Message *Message
	Banner  *Banner
}

// Errors that callers tell apart.
var (
	// ErrInvalid is wrapped by errors about a request that can never work.
	ErrInvalid = errors.New("invalid")
	// ErrPassword means that the password or the name is wrong; it does not say which.
	ErrPassword = errors.New("chat: wrong name or password")
	// ErrAmbiguous means that a name stands for more than one person: use an id.
	ErrAmbiguous = errors.New("chat: the name is ambiguous")
	// ErrBusy means that too many people unlock at once; try again.
	ErrBusy = errors.New("chat: too many unlockings at once")
	// ErrLocked means that the user's keys are not open.
	ErrLocked = errors.New("chat: user is locked")
	// ErrNotFound means that there is no such message, conversation or person.
	ErrNotFound = errors.New("chat: not found")
	// ErrFull means that the node has no room for more mail.
	ErrFull = errors.New("chat: the node is full")
	// ErrNotComplete means that parts of the file have not arrived.
	ErrNotComplete = errors.New("chat: file is not complete")
	// ErrState means that the message's state does not allow the action.
	ErrState = errors.New("chat: not possible in this state")
	// ErrGone means that the content was shredded.
	ErrGone = errors.New("chat: content is gone")
	// ErrTooMany means that too many messages are waiting to be delivered.
	ErrTooMany = errors.New("chat: too many messages are waiting")
)

// A plain error says in its text all there is to say; is sorts it.
type plain struct {
	text string
	is   error
}

func (e *plain) Error() string { return "chat: " + e.text }
func (e *plain) Unwrap() error { return e.is }
