package chat

import (
	"context"
	"errors"
	"fmt"
	"time"

	"outrider/mesh/bundle"
	"outrider/mesh/envelope"
)

// Recall takes an outgoing message back. Its content is shredded here before
// Recall returns; carriers are told to forget it and readers are asked to
// shred it, now or when the node is up again.
func (s *Session) Recall(ctx context.Context, id MessageID) (Message, error) {
	return s.act(ctx, id, func(ctx context.Context, r *record) error {
		if !r.Out || r.Synced || r.State == StateRecalled || s.stateOf(r) == StateExpired {
			return fmt.Errorf("chat: this message cannot be recalled: %w", ErrState)
		}
		var fileBlob *sealedRecord
		if b := r.blob(); b != nil {
			c := *b
			fileBlob = &c
		}
		told := s.taken(r)
		t := s.begin()
		t.add(s.openDrops(r)...)
		s.empty(t, r, StateRecalled)
		if r.Owed = told; told {
			if fileBlob != nil && fileBlob.Taken {
				r.Past = append(r.Past, *fileBlob) // to be purged too
			}
			t.add(PutKV{Bucket: bucketChat, Key: s.key(kindOpen, r.Msg[:]), Value: []byte{1}})
			s.change(t, r)
		}
		if err := s.commit(ctx, t); err != nil {
			return err
		}
		delete(s.outgoing, r.Msg)
		if told {
			s.outgoing[r.Msg] = true
		}
		s.changed(r)
		if err := s.tellRecall(ctx, r); err != nil && !quiet(err) {
			s.log.Warn("chat: a recall waits", "err", err) // it is durable that it is owed
		}
		return nil
	})
}

// tellRecall purges a recalled message from the mesh and asks its readers to
// shred it. It is repeated until it was done once.
func (s *Session) tellRecall(ctx context.Context, r *record) error {
	if !r.Owed {
		return nil
	}
	var refs []envelope.Ref
	for _, b := range r.sealings() {
		rec, err := s.purgeRecord(b)
		if err != nil {
			return err
		}
		if err := s.svc.cfg.Agent.Purge(ctx, rec); err != nil && !errors.Is(err, ErrNotFound) {
			return fmt.Errorf("chat: recall: %w", err)
		}
		if !b.Epoch.IsZero() && len(refs) < envelope.MaxRecalls {
			refs = append(refs, envelope.Ref{Epoch: b.Epoch, Slot: b.Slot, Index: b.Index})
		}
	}
	if err := s.sendRecall(ctx, r, refs); err != nil {
		return err
	}
	r.Owed = false
	t := s.begin()
	t.add(s.openDrops(r)...)
	s.change(t, r)
	if err := s.commit(ctx, t); err != nil {
		return err
	}
	delete(s.outgoing, r.Msg)
	return nil
}

func (s *Session) sendRecall(ctx context.Context, r *record, refs []envelope.Ref) error {
	left := r.left(s.elapsed())
	if len(refs) == 0 || left <= 0 {
		return nil
	}
	epoch, err := s.epochFor(ctx, r.Peer, r.Prec)
	if errors.Is(err, errNoKeys) && s.svc.cfg.Roster.Revoked(r.Peer) {
		return nil // nobody may be told any more
	}
	if err != nil {
		return err
	}
	body, err := envelope.Recall{Messages: refs}.Encode()
	if err != nil {
		return fmt.Errorf("chat: recall: %w", err)
	}
	_, err = s.sendControl(ctx, epoch, envelope.TypeRecall, body, max(r.Prec, bundle.Priority), max(left, time.Minute))
	return err
}

// recRecalled + epoch/slot/index: recalled before it came; the value is until
// when that is to be remembered, s of Clock.Elapsed.
const recRecalled = "recalled/"

func recalledName(ref envelope.Ref) string {
	return fmt.Sprintf("%s%v/%d/%d", recRecalled, ref.Epoch, ref.Slot, ref.Index)
}

// takeRecall shreds what a sender has taken back.
func (s *Session) takeRecall(o *opening, m *envelope.Opened) error {
	rec, err := envelope.ParseRecall(m.Inner.Body)
	if err != nil {
		return err
	}
	o.deferred = append(o.deferred, func() error { return s.takeRefs(o, m, rec) })
	return nil
}

func (s *Session) takeRefs(o *opening, m *envelope.Opened, rec envelope.Recall) error {
	for _, ref := range rec.Messages {
		info, ok := s.ring.Info(ref.Epoch)
		if !ok || int(ref.Slot) >= len(info.Members) || info.Members[ref.Slot].Device != m.Device {
			continue // not the sender's own
		}
		if err := s.takeRecallOf(o, ref); err != nil {
			return err
		}
	}
	return nil
}

func (s *Session) takeRecallOf(o *opening, ref envelope.Ref) error {
	r, err := o.at(s, s.placeKey(ref.Epoch, ref.Slot, ref.Index))
	if err != nil {
		return err
	}
	if r == nil { // it is still under way
		s.record(o.t, recalledName(ref), s.elapsed()+int64(s.svc.cfg.MaxTTL/time.Second))
		return nil
	}
	if r.Gone && r.State == StateRecalled {
		return nil
	}
	s.empty(o.t, r, StateRecalled)
	o.after = append(o.after, func(context.Context) { s.changed(r) })
	return nil
}

// recalledBefore tells whether a message was taken back before it came.
func (s *Session) recalledBefore(m *envelope.Opened) bool {
	return s.hasRecord(recalledName(envelope.Ref{Epoch: m.Epoch, Slot: m.Slot, Index: m.Index}))
}

// forgetRecalls drops notes of recalls whose messages cannot come any more.
func (s *Session) forgetRecalls() error {
	now := s.elapsed()
	for name := range s.recs.Records(recRecalled) {
		var until int64
		if s.readRecord(name, &until) && until > now {
			continue
		}
		if err := s.recs.PutRecord(name, nil); err != nil {
			return err
		}
	}
	return nil
}

// supersede lets a new live position take the place of our earlier one.
func (s *Session) supersede(ctx context.Context, t *tx, r *record) {
	conv := s.convOf(r.Peer)
	old, err := s.findOrNil(nameLive, liveKey(s.device[:], conv[:])...)
	if err != nil {
		t.err = errors.Join(t.err, err)
		return
	}
	if old != nil {
		s.erase(t, old)
		if s.taken(old) && !old.settled() {
			t.then(func() { s.purgeOwn(ctx, *old.Sealed) })
		}
	}
	t.add(s.nameOp(r.Msg, nameLive, liveKey(s.device[:], conv[:])...))
}
