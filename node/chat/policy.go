package chat

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"

	"outrider/mesh/bundle"
	"outrider/mesh/envelope"
	"outrider/mesh/identity"
)

// What a policy forbids is enforced on both ends (features.md F03, L02). The
// sender's node sends nothing of the kind. The receiver's node withholds it,
// both when the receiver may not have it and when the sender was not allowed
// to send it: a sender's node may not have heard the newest policy.
//
// Withheld is not lost. The message is durable here as any other; nobody gets
// to see it, no file is opened, and its receipt is held back, so that its
// author is not told that it was delivered. What is withheld comes free when a
// newer policy allows it; only a message's own lifetime ends it.

// A Policy tells what a user may not do: the group that forbids it, empty
// where it is allowed.
type Policy struct {
	NoFiles    string
	NoLocation string
}

// Policies is what chat needs to know of the network's policies.
type Policies interface {
	Policy(user identity.UserID) Policy
	// Changed returns a channel that is closed at the next change.
	Changed() <-chan struct{}
}

// everything is allowed where nobody says otherwise.
type everything struct{}

func (everything) Policy(identity.UserID) Policy { return Policy{} }
func (everything) Changed() <-chan struct{}      { return nil }

// ErrPolicy is wrapped by every PolicyError.
var ErrPolicy = errors.New("chat: forbidden by policy")

// A PolicyError says which group's policy forbids what.
type PolicyError struct {
	Group string
	Type  Type // what it forbids
}

func (e *PolicyError) Error() string {
	what := "files and voice memos"
	if e.Type == TypeLocation {
		what = "sharing positions"
	}
	return fmt.Sprintf("the policy of group %s forbids %s", e.Group, what)
}

// Is makes it an ErrPolicy.
func (e *PolicyError) Is(target error) bool { return target == ErrPolicy }

// Hint says what can be done.
func (e *PolicyError) Hint() string {
	return "an admin can change it with: outrider config push " + e.Group
}

// forbids returns the group that forbids a type of content, or "".
func (p Policy) forbids(t Type) string {
	switch t {
	case TypeFile:
		return p.NoFiles
	case TypeLocation:
		return p.NoLocation
	}
	return ""
}

// ownRule is what forbids this user a type of content, or "".
func (s *Session) ownRule(t Type) string { return s.svc.cfg.Policies.Policy(s.user).forbids(t) }

// mayShare refuses what this user may not send.
func (s *Session) mayShare(t Type) error {
	if g := s.ownRule(t); g != "" {
		return &PolicyError{Group: g, Type: t}
	}
	return nil
}

// withheld returns the group whose policy keeps the content of a received
// message from the user, or "".
func (s *Session) withheld(r *record) string {
	if r.Out && !r.Synced || r.Gone || r.Arch != nil {
		return ""
	}
	if g := s.ownRule(r.Type); g != "" || !r.Barred {
		return g
	}
	return s.svc.cfg.Policies.Policy(r.Peer).forbids(r.Type)
}

// stopped returns the group whose policy keeps an outgoing message from going
// out, or "". What a neighbour has already cannot be stopped here; the
// receiver's node does that.
func (s *Session) stopped(r *record) string {
	if !r.Out || r.Synced || s.taken(r) {
		return ""
	}
	return s.ownRule(r.Type)
}

// withheldThere returns the group whose policy keeps an outgoing message from
// its recipient, as far as this node knows the policies, or "".
func (s *Session) withheldThere(r *record) string {
	if g := s.svc.cfg.Policies.Policy(r.Peer).forbids(r.Type); g != "" {
		return g
	}
	return s.ownRule(r.Type)
}

// withheldReason is told to a user whose message it is.
func withheldReason(t Type, group string) Reason {
	what := "a file was"
	if t == TypeLocation {
		what = "a position was"
	}
	return Reason{"withheld", what + " withheld by the policy of group " + group, "it is kept as long as any message; it opens when a newer policy allows it"}
}

// recHeld + bundle id: a receipt that is held back.
const recHeld = "held/"

// maxHeld bounds the receipts held back for one user. What comes beyond is
// withheld all the same, and its author told that it has arrived.
const maxHeld = 4096

// A heldReceipt is what must be told when a message comes free.
type heldReceipt struct {
	Bundle bundle.ID        `cbor:"1,keyasint"`
	Epoch  envelope.EpochID `cbor:"2,keyasint"`
	Slot   uint16           `cbor:"3,keyasint"`
	Index  uint32           `cbor:"4,keyasint"`
	From   identity.UserID  `cbor:"5,keyasint"`
	Type   Type             `cbor:"6,keyasint"`
	Barred bool             `cbor:"7,keyasint,omitempty"` // the sender was not allowed to send it
	Sole   bool             `cbor:"8,keyasint,omitempty"` // a purge is the receipt
	Ends   int64            `cbor:"9,keyasint"`           // s of Clock.Elapsed: after that there is nobody to tell
}

var typesOf = map[envelope.Type]Type{envelope.TypeFile: TypeFile, envelope.TypeLocation: TypeLocation}

// holdBack notes the receipt of a message that is withheld, and reports
// whether it is.
func (s *Session) holdBack(o *opening, ev Arrived, m *envelope.Opened) bool {
	h := heldReceipt{
		Bundle: ev.ID, Epoch: m.Epoch, Slot: m.Slot, Index: m.Index, From: m.User, Type: typesOf[m.Inner.Type], Sole: m.ReaderPurges,
		Barred: s.barred(m), Ends: s.elapsed() + int64(s.svc.cfg.MaxTTL.Seconds()),
	}
	if !s.holds(h) || s.heldCount() >= maxHeld {
		return false
	}
	s.record(o.t, heldName(ev.ID), h)
	return true
}

func heldName(id bundle.ID) string { return recHeld + hex.EncodeToString(id[:]) }

// barred tells whether the author of a message may not send its type.
func (s *Session) barred(m *envelope.Opened) bool {
	return s.svc.cfg.Policies.Policy(m.User).forbids(typesOf[m.Inner.Type]) != ""
}

// holds tells whether what a held receipt is for is withheld now.
func (s *Session) holds(h heldReceipt) bool {
	return s.ownRule(h.Type) != "" || h.Barred && s.svc.cfg.Policies.Policy(h.From).forbids(h.Type) != ""
}

func (s *Session) heldCount() (n int) {
	for range s.recs.Records(recHeld) {
		n++
	}
	return n
}

// held lists the receipts held back, by the names they are kept under.
func (s *Session) held() map[string]heldReceipt {
	out := make(map[string]heldReceipt)
	for name, raw := range s.recs.Records(recHeld) {
		var h heldReceipt
		if identity.UnmarshalOpen(raw, &h) == nil {
			out[name] = h
		}
	}
	return out
}

// withoutHeld takes from what was received what nobody was shown.
func (s *Session) withoutHeld(e envelope.EpochID, chains []envelope.ChainRanges) (out []envelope.ChainRanges) {
	held := s.held()
	for _, c := range chains {
		for _, h := range held {
			if h.Epoch == e && h.Slot == c.Slot {
				c.Ranges = withoutIndex(c.Ranges, h.Index)
			}
		}
		if len(c.Ranges) > 0 {
			out = append(out, c)
		}
	}
	return out
}

// withoutIndex takes one index from ascending ranges.
func withoutIndex(rs []envelope.Range, n uint32) (out []envelope.Range) {
	for _, r := range rs {
		if n < r.From || n > r.To {
			out = append(out, r)
			continue
		}
		if r.From < n {
			out = append(out, envelope.Range{From: r.From, To: n - 1})
		}
		if n < r.To {
			out = append(out, envelope.Range{From: n + 1, To: r.To})
		}
	}
	return out
}

// policyChanged does what a new policy makes possible, and tells the screens
// to look again.
func (s *Session) policyChanged(ctx context.Context) {
	if s.enter() != nil {
		return
	}
	defer s.mu.Unlock()
	s.free(ctx)
	if s.closed {
		return
	}
	s.resumeUnsent(ctx)
	if s.closed {
		return
	}
	for _, id := range s.svc.pinnedBy() { // files that were not looked at while they were withheld
		s.checkFile(id)
	}
	s.notify(Update{Kind: UpdatePolicy})
}

// free tells the authors of what is not withheld any more that it has arrived,
// and this user's screens too. The caller holds mu.
func (s *Session) free(ctx context.Context) {
	o := &opening{t: s.begin()}
	var shown []string
	for name, h := range s.held() {
		switch rec, ok := s.purgeFor(h.Bundle); {
		case s.elapsed() >= h.Ends:
		case s.holds(h):
			continue
		case !h.Sole:
			s.owe(o.t, h.Epoch, oweReceipt)
		case ok:
			o.purges = append(o.purges, release{Arrived{ID: h.Bundle}, rec})
		}
		s.record(o.t, name, nil)
		shown = append(shown, s.placeKey(h.Epoch, h.Slot, h.Index))
	}
	if len(shown) == 0 {
		return
	}
	s.acknowledge(ctx, o) // first: after a crash it is done once more
	if s.closed {
		return
	}
	if err := s.commitRows(ctx, o.t); err != nil {
		s.log.Warn("chat: receipts stay held back", "err", err)
		return
	}
	for _, key := range shown {
		if s.closed {
			return
		}
		if r, err := (&opening{t: s.begin()}).at(s, key); err == nil && r != nil {
			m := s.view(r)
			s.notify(Update{Kind: UpdateMessage, Message: &m})
		}
	}
}
