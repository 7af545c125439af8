package chat

import (
	"bytes"
	"errors"
	"reflect"
	"testing"
	"time"

	"outrider/mesh/bundle"
	"outrider/mesh/envelope"
	"outrider/mesh/identity"
)

var (
	invite = CallSignal{Call: [16]byte{7}, Kind: envelope.CallInvite, Node: identity.NodeID{9}, Commit: bytes.Repeat([]byte{1}, 32)}
	hangUp = CallSignal{Call: [16]byte{7}, Kind: envelope.CallEnd, Reason: 1}
)

// took is what a node was told of calls since the last asking.
func (n *node) took() (out []step) {
	n.change(func() { out, n.signals = n.signals, nil })
	return out
}

func TestC08CallStepsTravelSealedAndLeaveNothing(t *testing.T) {
	scene(t, func(t *testing.T, p *pair) {
		if err := p.da.session().SendCall(t.Context(), p.bob.id, invite); err != nil {
			t.Fatal(err)
		}
		for _, b := range p.a.held {
			if b.b.Header.Kind == bundle.KindMessage && b.b.Header.Precedence != bundle.Immediate {
				t.Errorf("precedence %v", b.b.Header.Precedence)
			}
			if bytes.Contains(b.b.Payload, invite.Commit) {
				t.Error("a carrier can read the invitation")
			}
		}
		p.settle()
		want := []step{{p.bob.id, p.alice.id, invite}}
		if got := p.b.took(); !reflect.DeepEqual(got, want) {
			t.Fatalf("bob's node was told %+v", got)
		}
		if got := p.a.took(); got != nil {
			t.Errorf("alice's own node was told %+v", got)
		}
		if err := p.db.session().SendCall(t.Context(), p.alice.id, hangUp); err != nil {
			t.Fatal(err)
		}
		p.settle()
		if got := p.a.took(); len(got) != 1 || got[0].signal.Kind != envelope.CallEnd {
			t.Errorf("alice's node was told %+v", got)
		}
		if len(p.da.with(p.bob))+len(p.db.with(p.alice)) != 0 {
			t.Error("a step of a call is shown as a message")
		}
		p.b.restart()
		p.settle()
		if got := p.b.took(); got != nil {
			t.Errorf("after a restart it rings again: %+v", got)
		}
	})
}

// A call that comes late is none: who was away for an hour is not rung up.
func TestC08LateInvitationDoesNotRing(t *testing.T) {
	scene(t, func(t *testing.T, p *pair) {
		if err := p.da.session().SendCall(t.Context(), p.bob.id, invite); err != nil {
			t.Fatal(err)
		}
		p.b.svc.Lock(p.bob.id)
		give(p.a, p.b)
		p.rest(callLife + time.Second)
		p.db.unlock()
		p.settle()
		if got := p.b.took(); got != nil {
			t.Errorf("it rings: %+v", got)
		}
	})
}

// Two users of one node need no link at all.
func TestC08CallStepsWithinOneNode(t *testing.T) {
	scene(t, func(t *testing.T, p *pair) {
		carol := p.user("Carol")
		dc := p.device(carol, p.a)
		dc.unlock()
		p.rest(time.Second)
		if err := p.da.session().SendCall(t.Context(), carol.id, invite); err != nil {
			t.Fatal(err)
		}
		p.rest(time.Second)
		if got := p.a.took(); !reflect.DeepEqual(got, []step{{carol.id, p.alice.id, invite}}) {
			t.Errorf("told %+v", got)
		}
	})
}

func TestC08CallStepsThatCannotGo(t *testing.T) {
	scene(t, func(t *testing.T, p *pair) {
		s := p.da.session()
		stranger := p.user("Nobody")
		for name, c := range map[string]struct{ err, want error }{
			"oneself":  {s.SendCall(t.Context(), p.alice.id, invite), ErrInvalid},
			"no user":  {s.SendCall(t.Context(), identity.UserID{}, invite), ErrInvalid},
			"no keys":  {s.SendCall(t.Context(), stranger.id, invite), ErrState},
			"no shape": {s.SendCall(t.Context(), p.bob.id, CallSignal{Kind: envelope.CallAnswer}), envelope.ErrTooLarge},
		} {
			if !errors.Is(c.err, c.want) {
				t.Errorf("%s: %v", name, c.err)
			}
		}
		p.a.svc.Lock(p.alice.id)
		if err := s.SendCall(t.Context(), p.bob.id, invite); !errors.Is(err, ErrLocked) {
			t.Errorf("locked: %v", err)
		}
	})
}

func TestC08CallRecords(t *testing.T) {
	scene(t, func(t *testing.T, p *pair) {
		began := time.Now().Truncate(time.Millisecond)
		for i, status := range []CallStatus{envelope.CallCompleted, envelope.CallMissed, envelope.CallCancelled, envelope.CallDeclined} {
			call := Call{ID: [16]byte{byte(i)}, Status: status, Began: began, Duration: 95 * time.Second}
			m, err := p.da.session().SendCallRecord(t.Context(), p.bob.id, call)
			if err != nil {
				t.Fatal(err)
			}
			again, err := p.da.session().SendCallRecord(t.Context(), p.bob.id, call)
			if err != nil || again.ID != m.ID {
				t.Errorf("repeated: %v, %v", again.ID, err)
			}
		}
		p.settle()
		p.a.restart()
		p.b.restart()
		for _, side := range [][]Message{p.da.with(p.bob), p.db.with(p.alice)} {
			if len(side) != 4 {
				t.Fatalf("%d records", len(side))
			}
			for i, m := range side {
				if m.Type != TypeCall || m.Call == nil || m.Call.ID != [16]byte{byte(i)} || !m.Call.Began.Equal(began) || m.Call.Duration != 95*time.Second {
					t.Errorf("%+v %+v", m, m.Call)
				}
				news := m.Call != nil && (m.Call.Status == envelope.CallMissed || m.Call.Status == envelope.CallCancelled)
				if !m.Out && m.Unread != news {
					t.Errorf("status %d is unread: %v", m.Call.Status, m.Unread)
				}
			}
		}
	})
}
