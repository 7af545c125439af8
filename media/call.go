package media

import (
	"encoding/base32"
	"errors"
	"fmt"
	"strings"
	"time"
	"unicode/utf8"

	"outrider/mesh/identity"
)

// Limits of calls. API.md lists them.
const (
	MaxCalls        = 32               // sides of calls on one node at a time
	MaxParticipants = 2                // of one call
	MaxSDP          = 16 << 10         // bytes of an offer; a browser's has about 4 kB
	RingTime        = 45 * time.Second // until an unanswered call is missed
	SetupTime       = 30 * time.Second // from accepting until media must flow
	LostTime        = 3 * time.Second  // for media to come back, or for its end to be told
	CommitSize      = 32               // bytes
	KeySize         = 65               // bytes
)

// A CallID names a call; the caller's node draws it.
type CallID [16]byte

var idText = base32.NewEncoding("abcdefghijklmnopqrstuvwxyz234567").WithPadding(base32.NoPadding)

func (id CallID) String() string               { return idText.EncodeToString(id[:]) }
func (id CallID) MarshalText() ([]byte, error) { return []byte(id.String()), nil }

// ParseCallID reads 26 base32 characters.
func ParseCallID(s string) (id CallID, err error) {
	b, err := idText.DecodeString(strings.ToLower(s))
	if err != nil || len(b) != len(id) {
		return id, fmt.Errorf("media: parse call id: want %d base32 characters: %w", idText.EncodedLen(len(id)), ErrInvalid)
	}
	return CallID(b), nil
}

// State is where a call is, seen from one side.
type State string

// The states. Those from StateEnded on are over.
const (
	StateCalling   State = "calling"   // the invitation is out, nobody has confirmed that it rings
	StateRinging   State = "ringing"   // it rings at the callee
	StateAccepted  State = "accepted"  // answered; media may flow
	StateEnded     State = "ended"     // was accepted, and somebody hung up
	StateDeclined  State = "declined"  // the callee does not want it
	StateMissed    State = "missed"    // nobody answered in time
	StateCancelled State = "cancelled" // the caller gave up before an answer
	StateFailed    State = "failed"    // media did not come about, or broke
)

// Over tells whether nothing follows.
func (s State) Over() bool {
	switch s {
	case StateCalling, StateRinging, StateAccepted:
		return false
	}
	return true
}

// A Call is one user's side of a call.
type Call struct {
	ID       CallID
	User     identity.UserID // whose side it is
	Peer     identity.UserID
	Outgoing bool
	State    State
	Reason   Reason    // why it is over
	Began    time.Time // by the caller of Calls
	Accepted time.Time // zero before
	Over     time.Time
	Flowing  bool      // this side's media is connected
	lost     time.Time // since when it is not any more, zero while it is

	Commit  []byte // of the caller, told to the callee
	PeerKey []byte // once it has come
	Ready   bool   // both keys were sent: reveal is out, or has come
}

// Duration is how long the two were connected.
func (c Call) Duration() time.Duration {
	if c.Accepted.IsZero() || c.Over.IsZero() {
		return 0
	}
	return max(0, c.Over.Sub(c.Accepted))
}

// Kind says what a signal is. The numbers are ENVELOPE.md's.
type Kind uint8

// The kinds of signals.
const (
	KindInvite Kind = 1
	KindRing   Kind = 2
	KindAnswer Kind = 3
	KindReveal Kind = 4
	KindEnd    Kind = 5
)

// Reason says why a call is over. The numbers are ENVELOPE.md's.
type Reason uint8

// The reasons.
const (
	ReasonNone     Reason = 0
	ReasonHangup   Reason = 1
	ReasonDeclined Reason = 2
	ReasonBusy     Reason = 3 // the callee is in another call
	ReasonTimeout  Reason = 4 // nobody answered
	ReasonLost     Reason = 5 // media broke, or never came
	ReasonKeys     Reason = 6 // the revealed key is not the announced one
	ReasonLeft     Reason = 7 // the user logged out, or the node stopped
)

var reasonNames = [...]string{"", "hangup", "declined", "busy", "timeout", "lost", "keys", "left"}

// String is the reason's name in the API; "unknown" for those of a later
// version.
func (r Reason) String() string {
	if int(r) < len(reasonNames) {
		return reasonNames[r]
	}
	return "unknown"
}

// A Signal is what one side tells the other.
type Signal struct {
	Call   CallID
	Kind   Kind
	Node   identity.NodeID // invite: where the call's media meets
	Commit []byte          // invite
	Key    []byte          // answer, reveal
	Reason Reason          // end
}

// Status is how a call went, for its record: features.md C08.
type Status uint8

// The statuses. Starting is for records of calls that run, which we do not
// write.
const (
	StatusStarting  Status = 0
	StatusCompleted Status = 1
	StatusMissed    Status = 2
	StatusCancelled Status = 3
	StatusDeclined  Status = 4
)

// A Record is what stays of a call. The caller's side makes it.
type Record struct {
	Call     CallID
	Status   Status
	Began    time.Time
	Duration time.Duration
}

// An Offer is a client's half of the negotiation with its own node: JSEP's
// session description (RFC 9429), which never leaves the two.
type Offer struct {
	SDP      string
	TCPOnly  bool // the client cannot, or must not, use UDP
	Loopback bool // the client is on this machine
}

// Check refuses what is no session description.
func (o Offer) Check() error {
	switch {
	case len(o.SDP) > MaxSDP:
		return fmt.Errorf("media: an offer of %d bytes, at most %d: %w", len(o.SDP), MaxSDP, ErrInvalid)
	case !strings.HasPrefix(o.SDP, "v=0\r\n") && !strings.HasPrefix(o.SDP, "v=0\n") || !utf8.ValidString(o.SDP):
		return fmt.Errorf("media: the offer is no session description: %w", ErrInvalid)
	}
	return nil
}

// An Answer is the node's half.
type Answer struct{ SDP string }

// Errors that callers tell apart.
var (
	// ErrInvalid is wrapped by errors about requests that can never work.
	ErrInvalid = errors.New("invalid")
	// ErrNotFound means that the user is in no such call.
	ErrNotFound = errors.New("media: no such call")
	// ErrState means that the call's state does not allow it.
	ErrState = errors.New("media: not possible in this state of the call")
	// ErrBusy means that the user is in a call.
	ErrBusy = errors.New("media: already in a call")
	// ErrFull means that the node has as many calls as it takes.
	ErrFull = errors.New("media: too many calls on this node")
	// ErrPort means that the port of calls cannot be opened.
	ErrPort = errors.New("media: the port of calls cannot be opened")
)
