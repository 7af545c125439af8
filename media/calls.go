package media

import (
	"bytes"
	"crypto/rand"
	"fmt"
	"slices"
	"time"

	"outrider/mesh/identity"
)

// An Effect is one change of a call and what has to be done about it: the
// user's screens are told, Send goes to the peer, Record is kept, and media of
// a call that is over is released.
type Effect struct {
	Call   Call
	Send   *Signal
	Record *Record
}

// Calls holds the sides of calls of one node's users. It is not safe for
// concurrent use.
type Calls struct {
	self  identity.NodeID
	sides map[side]*Call
}

type side struct {
	user identity.UserID
	call CallID
}

// NewCalls returns a machine for the calls that meet on the node self.
func NewCalls(self identity.NodeID) *Calls {
	return &Calls{self: self, sides: make(map[side]*Call)}
}

// Len is how many sides there are.
func (c *Calls) Len() int { return len(c.sides) }

// Running is how many calls there are: those with both sides here count once.
func (c *Calls) Running() int {
	ids := make(map[CallID]bool)
	for s := range c.sides {
		ids[s.call] = true
	}
	return len(ids)
}

// Of lists a user's calls.
func (c *Calls) Of(user identity.UserID) []Call {
	var out []Call
	for s, call := range c.sides {
		if s.user == user {
			out = append(out, *call)
		}
	}
	slices.SortFunc(out, func(a, b Call) int { return bytes.Compare(a.ID[:], b.ID[:]) })
	return out
}

// Get returns a user's side of a call.
func (c *Calls) Get(user identity.UserID, id CallID) (Call, error) {
	call, ok := c.sides[side{user, id}]
	if !ok {
		return Call{}, ErrNotFound
	}
	return *call, nil
}

func (c *Calls) busy(user identity.UserID) bool {
	for s := range c.sides {
		if s.user == user {
			return true
		}
	}
	return false
}

// Start begins a call. commit is the caller's commitment to its key; the call
// id is part of it, so it is drawn by the caller too. The zero id draws one.
func (c *Calls) Start(now time.Time, user, peer identity.UserID, id CallID, commit []byte) (Effect, error) {
	switch {
	case peer == user || peer.IsZero():
		return Effect{}, fmt.Errorf("media: a call is with somebody else: %w", ErrInvalid)
	case len(commit) != CommitSize:
		return Effect{}, fmt.Errorf("media: a commitment has %d bytes: %w", CommitSize, ErrInvalid)
	case c.busy(user):
		return Effect{}, ErrBusy
	case len(c.sides) >= MaxCalls:
		return Effect{}, ErrFull
	}
	if id == (CallID{}) {
		rand.Read(id[:]) // never fails: crypto/rand
	}
	for s := range c.sides {
		if s.call == id {
			return Effect{}, fmt.Errorf("media: that call id is taken: %w", ErrInvalid)
		}
	}
	call := &Call{ID: id, User: user, Peer: peer, Outgoing: true, State: StateCalling, Began: now, Commit: bytes.Clone(commit)}
	c.sides[side{user, id}] = call
	return Effect{Call: *call, Send: &Signal{Call: id, Kind: KindInvite, Node: c.self, Commit: call.Commit}}, nil
}

// Answer accepts a call that rings. The first of a user's screens wins, the
// others get ErrState.
func (c *Calls) Answer(now time.Time, user identity.UserID, id CallID, key []byte) (Effect, error) {
	call, ok := c.sides[side{user, id}]
	switch {
	case !ok:
		return Effect{}, ErrNotFound
	case len(key) != KeySize:
		return Effect{}, fmt.Errorf("media: a key has %d bytes: %w", KeySize, ErrInvalid)
	case call.Outgoing || call.State != StateRinging:
		return Effect{}, ErrState
	}
	call.State, call.Accepted = StateAccepted, now
	return Effect{Call: *call, Send: &Signal{Call: id, Kind: KindAnswer, Key: bytes.Clone(key)}}, nil
}

// Reveal shows the caller's key after the answer.
func (c *Calls) Reveal(user identity.UserID, id CallID, key []byte) (Effect, error) {
	call, ok := c.sides[side{user, id}]
	switch {
	case !ok:
		return Effect{}, ErrNotFound
	case len(key) != KeySize:
		return Effect{}, fmt.Errorf("media: a key has %d bytes: %w", KeySize, ErrInvalid)
	case !call.Outgoing || call.State != StateAccepted || call.Ready:
		return Effect{}, ErrState
	}
	call.Ready = true
	return Effect{Call: *call, Send: &Signal{Call: id, Kind: KindReveal, Key: bytes.Clone(key)}}, nil
}

// Connected notes that a side's media flows.
func (c *Calls) Connected(user identity.UserID, id CallID) (Effect, bool) {
	call, ok := c.sides[side{user, id}]
	if !ok || call.State != StateAccepted {
		return Effect{}, false
	}
	first := !call.Flowing
	call.Flowing, call.lost = true, time.Time{}
	return Effect{Call: *call}, first
}

// Lost notes that a side's media is gone. A client that hangs up takes its
// connection down as well, and that may be seen first; one whose network
// changed comes back. So the call goes on for LostTime.
func (c *Calls) Lost(now time.Time, user identity.UserID, id CallID) {
	if call, ok := c.sides[side{user, id}]; ok && call.lost.IsZero() {
		call.lost = now
	}
}

// End ends a call from this side: what rings is declined, what is not answered
// is cancelled, anything else is over. reason is ReasonHangup unless something
// else made the end.
func (c *Calls) End(now time.Time, user identity.UserID, id CallID, reason Reason) (Effect, error) {
	call, ok := c.sides[side{user, id}]
	if !ok {
		return Effect{}, ErrNotFound
	}
	if reason == ReasonHangup && !call.Outgoing && call.State == StateRinging {
		reason = ReasonDeclined
	}
	return c.over(now, call, endState(call, reason, true), reason, true), nil
}

// EndAll ends all calls of a user who leaves.
func (c *Calls) EndAll(now time.Time, user identity.UserID) (effects []Effect) {
	for _, call := range c.Of(user) {
		if e, err := c.End(now, user, call.ID, ReasonLeft); err == nil {
			effects = append(effects, e)
		}
	}
	return effects
}

// endState is what an end for a reason makes of a call; own says which side
// gave the reason.
func endState(call *Call, reason Reason, own bool) State {
	switch {
	case call.State == StateAccepted && (reason == ReasonLost || reason == ReasonKeys):
		return StateFailed
	case call.State == StateAccepted:
		return StateEnded
	case reason == ReasonDeclined || reason == ReasonBusy:
		return StateDeclined
	case reason == ReasonTimeout:
		return StateMissed
	case own == call.Outgoing:
		return StateCancelled // the caller gave up
	}
	return StateMissed // the callee went away
}

// over removes a side.
func (c *Calls) over(now time.Time, call *Call, st State, reason Reason, tell bool) Effect {
	delete(c.sides, side{call.User, call.ID})
	call.State, call.Reason, call.Over = st, reason, now
	e := Effect{Call: *call}
	if tell {
		e.Send = &Signal{Call: call.ID, Kind: KindEnd, Reason: reason}
	}
	if call.Outgoing {
		e.Record = &Record{Call: call.ID, Status: call.status(), Began: call.Began, Duration: call.Duration()}
	}
	return e
}

// status is how it went, seen by the caller.
func (c *Call) status() Status {
	switch {
	case !c.Accepted.IsZero():
		return StatusCompleted
	case c.State == StateDeclined:
		return StatusDeclined
	case c.State == StateCancelled:
		return StatusCancelled
	}
	return StatusMissed
}

// Take takes a signal that peer has sent to user. Signals that do not fit the
// call's state come late or from somebody who lies: they change nothing.
func (c *Calls) Take(now time.Time, user, peer identity.UserID, s Signal) (effects []Effect) {
	if s.Kind == KindInvite {
		return c.invited(now, user, peer, s)
	}
	call, ok := c.sides[side{user, s.Call}]
	if !ok || call.Peer != peer {
		return nil
	}
	switch {
	case s.Kind == KindRing && call.Outgoing && call.State == StateCalling:
		call.State = StateRinging
	case s.Kind == KindAnswer && call.Outgoing && call.State != StateAccepted && len(s.Key) == KeySize:
		call.State, call.Accepted, call.PeerKey = StateAccepted, now, bytes.Clone(s.Key)
	case s.Kind == KindReveal && !call.Outgoing && call.State == StateAccepted && call.PeerKey == nil && len(s.Key) == KeySize:
		call.PeerKey, call.Ready = bytes.Clone(s.Key), true
	case s.Kind == KindEnd:
		return []Effect{c.over(now, call, endState(call, s.Reason, false), s.Reason, false)}
	default:
		return nil
	}
	return []Effect{{Call: *call}}
}

// invited lets a call ring, unless the user is in another.
func (c *Calls) invited(now time.Time, user, peer identity.UserID, s Signal) []Effect {
	_, again := c.sides[side{user, s.Call}]
	switch {
	case again, user == peer, len(s.Commit) != CommitSize, s.Node != c.self:
		return nil // elsewhere it may ring; here its media cannot be reached
	case c.busy(user), len(c.sides) >= MaxCalls:
		refused := Call{ID: s.Call, User: user, Peer: peer, State: StateDeclined, Reason: ReasonBusy, Began: now, Over: now}
		return []Effect{{Call: refused, Send: &Signal{Call: s.Call, Kind: KindEnd, Reason: ReasonBusy}}}
	}
	call := &Call{ID: s.Call, User: user, Peer: peer, State: StateRinging, Began: now, Commit: bytes.Clone(s.Commit)}
	c.sides[side{user, s.Call}] = call
	return []Effect{{Call: *call, Send: &Signal{Call: s.Call, Kind: KindRing}}}
}

// Tick ends what has waited too long.
func (c *Calls) Tick(now time.Time) (effects []Effect) {
	for _, call := range c.sides {
		switch {
		case call.State != StateAccepted && now.Sub(call.Began) >= RingTime:
			effects = append(effects, c.over(now, call, StateMissed, ReasonTimeout, true))
		case call.State == StateAccepted && !call.Flowing && now.Sub(call.Accepted) >= SetupTime:
			effects = append(effects, c.over(now, call, StateFailed, ReasonLost, true))
		case !call.lost.IsZero() && now.Sub(call.lost) >= LostTime:
			effects = append(effects, c.over(now, call, StateFailed, ReasonLost, true))
		}
	}
	return effects
}
