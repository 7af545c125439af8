package chat

import (
	"context"
	"errors"
	"fmt"
	"time"

	"outrider/mesh/bundle"
	"outrider/mesh/envelope"
	"outrider/mesh/identity"
)

// CallSignal is one step of a call, as it travels between two users.
type CallSignal = envelope.CallSignal

// CallStatus says how a call went.
type CallStatus = envelope.CallStatus

// callLife is how long a step of a call is worth anything.
const callLife = time.Minute

// A Call is what a message of TypeCall tells: a call that was.
type Call struct {
	ID       [16]byte
	Status   CallStatus
	Began    time.Time
	Duration time.Duration // from the answer to the end
}

// SendCall tells a user one step of a call. It leaves no row: a step that does
// not arrive within a minute is as good as never said.
func (s *Session) SendCall(ctx context.Context, to identity.UserID, c CallSignal) error {
	body, err := c.Encode()
	if err != nil {
		return fmt.Errorf("chat: call: %w", err)
	}
	if err := s.enter(); err != nil {
		return err
	}
	defer s.mu.Unlock()
	if to == s.user || to.IsZero() {
		return fmt.Errorf("chat: a call is with somebody else: %w", ErrInvalid)
	}
	ctx = context.WithoutCancel(ctx)
	epoch, err := s.epochFor(ctx, to, bundle.Immediate)
	if errors.Is(err, errNoKeys) {
		return fmt.Errorf("chat: the keys of that user have not arrived at this node: %w", ErrState)
	}
	if err != nil {
		return err
	}
	_, err = s.sendControl(ctx, epoch, envelope.TypeCall, body, bundle.Immediate, callLife)
	return err
}

// SendCallRecord puts what stays of a call into the conversation, here and at
// the other user's. Repeated for the same call, it makes no second message.
func (s *Session) SendCallRecord(ctx context.Context, to identity.UserID, c Call) (Message, error) {
	body, err := envelope.CallRecord{
		Call: c.ID, Status: c.Status, Began: uint64(max(0, c.Began.UnixMilli())), Duration: uint32(max(0, c.Duration/time.Second)),
	}.Encode()
	if err != nil {
		return Message{}, fmt.Errorf("chat: call record: %w", err)
	}
	at := address{to: to}
	a, err := newAct("call/"+idText.EncodeToString(c.ID[:]), TypeCall, at, body)
	if err != nil {
		return Message{}, err
	}
	return s.post(ctx, at, a, func(r *record, _ *tx) error {
		r.Type, r.Call = TypeCall, body
		return nil
	})
}

// takeCall hands a step of a call on, once it is durable that it was taken.
func (s *Session) takeCall(o *opening, b bundle.Bundle, m *envelope.Opened) error {
	c, err := envelope.ParseCall(m.Inner.Body)
	switch {
	case err != nil:
		return err
	case m.User == s.user:
		return nil // said by another device of this user
	case s.remaining(m.Inner, b.Hop) <= 0 || m.Inner.TTL > callLife:
		return errLate
	}
	if s.svc.cfg.Calls != nil {
		o.after = append(o.after, func(context.Context) { s.svc.cfg.Calls(s.user, m.User, c) })
	}
	return nil
}

// fillCall reads a record of a call. Only what was not answered is news to
// whoever was called.
func (r *record) fillCall(body []byte) error {
	c, err := envelope.ParseCallRecord(body)
	if err != nil {
		return err
	}
	r.Type, r.Call = TypeCall, body
	r.Read = !r.Out && (c.Status == envelope.CallCompleted || c.Status == envelope.CallDeclined)
	return nil
}

func callView(body []byte) *Call {
	c, err := envelope.ParseCallRecord(body)
	if err != nil {
		return nil // it was read when it came
	}
	return &Call{ID: c.Call, Status: c.Status, Began: time.UnixMilli(int64(c.Began)), Duration: time.Duration(c.Duration) * time.Second}
}
