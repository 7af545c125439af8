package chat

import (
	"context"
	"errors"
	"fmt"
	"time"

	"outrider/mesh/bundle"
	"outrider/mesh/identity"
)

// handle acts on what the agent tells about our own bundles and about blobs.
func (s *Session) handle(ctx context.Context, ev Event) {
	if s.enter() != nil {
		return
	}
	defer s.mu.Unlock()
	var err error
	switch ev := ev.(type) {
	case Carried:
		err = s.carried(ctx, ev)
	case Purged:
		err = s.purged(ctx, ev)
	case Expired:
		s.confirmWrap(ev.ID) // messages expire by our own records
	case BlobProgress:
		s.blobEvent(ev.Root, false)
	case BlobComplete:
		s.blobEvent(ev.Root, true)
	}
	if err != nil && !quiet(err) {
		s.log.Warn("chat: note an event", "err", err)
	}
}

// rank orders the stored states: a message never goes back.
var rank = map[State]int{StateWaiting: 0, StateFailed: 0, StateQueued: 1, StateCarried: 2, StateAtCore: 3, StateAtNode: 4}

func (s *Session) carried(ctx context.Context, ev Carried) error {
	if _, ok := s.wraps[ev.ID]; ok {
		return s.wrapCarried(ctx, ev)
	}
	r, err := s.findOrNil(nameBundle, ev.ID[:])
	if err != nil || r == nil || r.Sealed == nil || r.Sealed.ID != ev.ID {
		return err
	}
	switch {
	case ev.AtCore: // no node, so nobody's name is noted
		return s.raise(ctx, r, StateAtCore)
	case ev.AtReader || s.atHome(r.Sealed.Epoch, ev.Peer):
		return s.raiseBy(ctx, r, StateAtNode, ev.Peer)
	}
	return s.raiseBy(ctx, r, StateCarried, ev.Peer)
}

// raiseBy moves the stored state forward and notes who took a copy, so that
// it is known after a restart too.
func (s *Session) raiseBy(ctx context.Context, r *record, st State, peers ...identity.NodeID) error {
	before, known := r.State, len(r.Carriers)
	r.Carriers = merged(r.Carriers, peers)
	if err := s.raise(ctx, r, st); err != nil || r.State != before {
		return err
	}
	if len(r.Carriers) == known || r.Gone {
		return nil
	}
	return s.save(ctx, r)
}

// raise moves the stored state forward.
func (s *Session) raise(ctx context.Context, r *record, st State) error {
	if was, ok := rank[r.State]; !ok || r.Gone || rank[st] <= was || r.sealedInVain() {
		return nil
	}
	return s.setState(ctx, r, st, "")
}

// sealedInVain tells whether a message failed for how it is sealed, wherever
// its bundle goes.
func (r *record) sealedInVain() bool {
	return r.State == StateFailed && (r.Fail == failUnarchived || r.Fail == failKeyChanged)
}

// purged: where one device reads, its purge is the receipt.
func (s *Session) purged(ctx context.Context, ev Purged) error {
	if s.confirmWrap(ev.ID) {
		return nil
	}
	r, err := s.findOrNil(nameBundle, ev.ID[:])
	if err != nil || r == nil || !r.Out || r.Synced || r.State == StateRecalled || r.Sealed == nil {
		return err
	}
	return s.purgedRecord(ctx, r, ev.ID, &ev.Key)
}

func (s *Session) purgedRecord(ctx context.Context, r *record, id bundle.ID, key *bundle.PurgeKey) error {
	part := r.Sealed
	if part.ID != id {
		part = r.blob()
	}
	switch {
	case part == nil || part.ID != id || !r.Sole || r.settled():
		return nil
	case key != nil && *key != part.Key:
		// Somebody found another key that fits the commitment: 2^64 work
		// to kill one bundle. It goes out again under a new id.
		return s.reseal(ctx, r)
	case part == r.Sealed:
		r.Devices[0].Got = true
	case r.File.Arrived:
		return nil
	default:
		r.File.Arrived = true
		r.Devices[0].Got, r.Devices[0].File = true, true // who knows the key has opened the message
	}
	t := s.begin()
	s.delivered(t, r)
	if err := s.commit(ctx, t); err != nil {
		return err
	}
	s.changed(r)
	return nil
}

// catchUp learns what happened to a message while the user was locked.
func (s *Session) catchUp(ctx context.Context, r *record) error {
	if !r.Out || r.Synced || r.Gone || r.Sealed == nil || !r.Sealed.Taken {
		return nil
	}
	ex := s.svc.cfg.Agent.Explain(ctx, r.Sealed.ID)
	st := r.State
	switch {
	case ex.AtReader || s.atHome(r.Sealed.Epoch, ex.Carriers...):
		st = StateAtNode
	case len(ex.Carriers) > 0:
		st = StateCarried
	}
	if err := s.raiseBy(ctx, r, st, ex.Carriers...); err != nil {
		return err
	}
	if ex.Purged && r.Sole && len(r.Devices) > 0 && !r.Devices[0].Got {
		if err := s.purgedRecord(ctx, r, r.Sealed.ID, nil); err != nil {
			return err
		}
	}
	if b := r.blob(); b != nil && b.Taken && r.Sole && !r.File.Arrived && s.svc.cfg.Agent.Explain(ctx, b.ID).Purged {
		return s.purgedRecord(ctx, r, b.ID, nil)
	}
	return nil
}

// expiredNote is how long the failures list remembers a message that was not
// delivered in time.
const expiredNote = 7 * 24 * time.Hour

// expire ends the time of a row. A message of ours that was not delivered
// leaves a note without content, so that the user learns of it.
func (s *Session) expire(t *tx, r *record) {
	switch s.ending(r) {
	case endsBurned:
		s.empty(t, r, r.State)
		t.then(func() { s.changed(r) })
	case endsUndelivered:
		t.add(s.outboxDrops(r)...) // it stays among the outgoing, for the list of failures
		t.add(DeleteKV{Bucket: bucketChat, Key: s.expiryKey(r)})
		r.BurnEnds = 0
		s.empty(t, r, StateExpired)
		r.Ends = s.elapsed() + int64(expiredNote/time.Second)
		s.change(t, r)
		t.add(PutKV{Bucket: bucketChat, Key: s.expiryKey(r), Value: []byte{1}})
		t.then(func() {
			s.outgoing[r.Msg] = false
			s.changed(r)
		})
	case endsWhole:
		s.erase(t, r)
	}
}

// anyGot tells whether a device of the recipient has the message.
func (r *record) anyGot() bool {
	n, _ := r.count()
	return n > 0
}

// readElsewhere notes that another device of this user has shown a message.
func (s *Session) readElsewhere(o *opening, r *record) {
	if r.Read || r.Gone {
		return
	}
	s.markRead(o.t, r)
	o.after = append(o.after, func(context.Context) { s.changed(r) })
}

// markRead notes that a message was shown and starts its burn time.
func (s *Session) markRead(t *tx, r *record) {
	if _, c := t.conv(s, r.Peer); c.Unread > 0 {
		c.Unread--
	}
	r.Read = true
	if r.Burn > 0 {
		if ends := s.elapsed() + r.Burn; ends < r.Ends {
			t.add(DeleteKV{Bucket: bucketChat, Key: s.expiryKey(r)})
			r.BurnEnds = ends
			t.add(PutKV{Bucket: bucketChat, Key: s.expiryKey(r), Value: []byte{1}})
		}
	}
	s.change(t, r)
}

// Read notes that the user has looked at a received message, and tells its
// author.
func (s *Session) Read(ctx context.Context, id MessageID) (Message, error) {
	return s.act(ctx, id, func(ctx context.Context, r *record) error {
		if r.Out || r.Read || r.Gone || s.withheld(r) != "" {
			return nil // nobody has read what is withheld
		}
		t := s.begin()
		s.markRead(t, r)
		s.noteIndex(t, recShown, r)
		s.owe(t, r.Sealed.Epoch, oweRead)
		if err := s.commit(ctx, t); err != nil {
			return err
		}
		s.changed(r)
		return nil
	})
}

// Retry hands the same sealed bundle to the mesh again.
func (s *Session) Retry(ctx context.Context, id MessageID) (Message, error) {
	return s.act(ctx, id, func(ctx context.Context, r *record) error {
		st := s.stateOf(r)
		switch {
		case r.Out && !r.Synced && st == StateWaiting:
			return fmt.Errorf("%w: it waits for keys, and goes by itself as soon as they arrive", ErrState)
		case !r.Out || r.Synced || st != StateQueued && st != StateFailed:
			return fmt.Errorf("%w: only what is queued or has failed can be tried again", ErrState)
		}
		if r.sealedInVain() {
			return s.reseal(ctx, r) // anew, with the archive, or for the new key
		}
		if r.State == StateFailed {
			r.State, r.Fail = StateQueued, ""
		}
		if err := s.advance(ctx, r); err != nil {
			return err
		}
		return s.save(ctx, r)
	})
}

// act runs one action on one message.
func (s *Session) act(ctx context.Context, id MessageID, do func(ctx context.Context, r *record) error) (Message, error) {
	if err := s.enter(); err != nil {
		return Message{}, err
	}
	defer s.mu.Unlock()
	r, err := s.shown(id)
	if err != nil {
		return Message{}, notFound(err)
	}
	if err := do(context.WithoutCancel(ctx), r); err != nil {
		return Message{}, err
	}
	if s.closed {
		return Message{}, ErrLocked
	}
	return s.view(r), nil
}

// notFound makes one error of all that mean a row is not there.
func notFound(err error) error {
	if errors.Is(err, ErrNotFound) || errors.Is(err, errUnreadable) {
		return ErrNotFound
	}
	return err
}
