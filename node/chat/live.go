package chat

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"time"

	"outrider/mesh/envelope"
	"outrider/mesh/identity"
)

// recLive + user id: a live share of this user's position with another.
const recLive = "live/"

// Limits of live shares.
const (
	MinLive       = MinLiveEvery
	MaxLive       = 24 * time.Hour
	MinLiveEvery  = 10 * time.Second
	MaxLiveEvery  = time.Hour
	MaxLiveShares = 16 // of one user at a time
)

// A LiveSource says where the positions of a live share come from.
type LiveSource uint8

// The sources of live shares.
const (
	LiveReceiver LiveSource = 0 // the node's receiver
	LiveDevice   LiveSource = 1 // a device of the user, which tells the node again and again
	LiveEntered  LiveSource = 2 // the user typed it, once
)

// A LiveDraft asks for a live share.
type LiveDraft struct {
	To     identity.UserID
	Span   time.Duration // from now
	Every  time.Duration // between two positions
	Source LiveSource
	Place  *Location // of LiveEntered: where; else nil
}

// A LiveShare is the user's wish that another gets the position again and
// again, until a time. It is kept until then, over restarts; whoever knows
// positions sends them with SendLive.
type LiveShare struct {
	ID     MessageID // of this wish; the next one with the same person has another
	To     Person
	Until  time.Time
	Every  time.Duration
	Source LiveSource
	Place  *Location // of LiveEntered: where; else nil
}

// A liveRecord is a share as it is kept. It ends by the clock and by the time
// that has gone by, whichever is first: a clock that is set back does not make
// a share longer than was asked for.
type liveRecord struct {
	UntilMS int64      `cbor:"1,keyasint"`
	Ends    int64      `cbor:"2,keyasint"` // seconds of Clock.Elapsed
	EveryS  int64      `cbor:"3,keyasint"`
	Source  LiveSource `cbor:"4,keyasint,omitempty"`
	Place   []byte     `cbor:"5,keyasint,omitempty"` // the body of a location message
	ID      MessageID  `cbor:"6,keyasint"`
	Last    []byte     `cbor:"7,keyasint,omitempty"` // the body of the position that was sent last
	Over    bool       `cbor:"8,keyasint,omitempty"` // it has ended, and its reader is still to be told
}

// ShareLive begins a live share, in place of the one there may be with that
// user. It is durable when this returns.
func (s *Session) ShareLive(ctx context.Context, d LiveDraft) (LiveShare, error) {
	to, span, every := d.To, d.Span, d.Every
	place, err := d.place(s.svc.cfg.Clock.Now())
	if err != nil {
		return LiveShare{}, err
	}
	if span < MinLive || span > MaxLive {
		return LiveShare{}, fmt.Errorf("chat: a live share lasts %v to %v: %w", MinLive, MaxLive, ErrInvalid)
	}
	if every < MinLiveEvery || every > MaxLiveEvery {
		return LiveShare{}, fmt.Errorf("chat: a live share sends every %v to %v: %w", MinLiveEvery, MaxLiveEvery, ErrInvalid)
	}
	if err := s.enter(); err != nil {
		return LiveShare{}, err
	}
	defer s.mu.Unlock()
	if to == s.user || to.IsZero() {
		return LiveShare{}, fmt.Errorf("chat: a live share is with somebody else: %w", ErrInvalid)
	}
	if err := s.mayShare(TypeLocation); err != nil {
		return LiveShare{}, err
	}
	shares, old := s.liveShares(), s.liveRecords()[to]
	if _, again := shares[to]; !again && len(shares) >= MaxLiveShares {
		return LiveShare{}, fmt.Errorf("chat: %d live shares are the most at a time, stop one first: %w", MaxLiveShares, ErrInvalid)
	}
	r := liveRecord{
		UntilMS: s.svc.cfg.Clock.Now().Add(span).UnixMilli(), Ends: s.elapsed() + int64(span/time.Second), EveryS: int64(every / time.Second),
		Source: d.Source, Place: place, ID: newID(),
	}
	if old != nil {
		r.Last = old.Last // its reader sees it until the first one of this share
	}
	t := s.begin()
	s.liveOp(t, to, &r)
	if err := s.commitRows(context.WithoutCancel(ctx), t); err != nil {
		return LiveShare{}, err
	}
	return s.liveView(to, r), nil
}

// place checks a draft's source and encodes its place.
func (d LiveDraft) place(now time.Time) ([]byte, error) {
	switch {
	case d.Source > LiveEntered:
		return nil, fmt.Errorf("chat: a live share has no such source: %w", ErrInvalid)
	case (d.Source == LiveEntered) != (d.Place != nil):
		return nil, fmt.Errorf("chat: a live share of a typed position has a place, no other has: %w", ErrInvalid)
	case d.Place == nil:
		return nil, nil
	}
	return encodeLocation(*d.Place, now)
}

// LiveShares returns the shares that have not ended, by name.
func (s *Session) LiveShares(ctx context.Context) ([]LiveShare, error) {
	if err := s.enter(); err != nil {
		return nil, err
	}
	defer s.mu.Unlock()
	if err := s.forgetEnded(ctx); err != nil {
		return nil, err
	}
	var out []LiveShare
	for to, r := range s.liveShares() {
		out = append(out, s.liveView(to, r))
	}
	slices.SortFunc(out, func(a, b LiveShare) int { return a.To.ID.Compare(b.To.ID) })
	return out, nil
}

// SendLive sends a position of a live share; with ErrNotFound when the share
// has ended or another has taken its place meanwhile. The share notes the
// position in the same commit.
func (s *Session) SendLive(ctx context.Context, l LiveShare, at Location) (Message, error) {
	at.Live = true
	body, err := encodeLocation(at, s.svc.cfg.Clock.Now())
	if err != nil {
		return Message{}, err
	}
	return s.post(ctx, address{to: l.To.ID, ttl: MaxLive}, act{}, func(r *record, t *tx) error {
		share, ok := s.liveShares()[r.Peer]
		if !ok || share.ID != l.ID {
			return fmt.Errorf("chat: the live share has ended: %w", ErrNotFound)
		}
		if err := s.mayShare(TypeLocation); err != nil {
			return err
		}
		share.Last = body
		s.liveOp(t, r.Peer, &share)
		s.placeLive(ctx, t, r, body)
		return nil
	})
}

// placeLive makes a live position of a new message.
func (s *Session) placeLive(ctx context.Context, t *tx, r *record, body []byte) {
	r.Type, r.Loc = TypeLocation, body
	s.supersede(ctx, t, r)
}

// StopLive ends the share with a user, or all with the zero user, and says how
// many there were. That their readers are to be told is durable with it.
func (s *Session) StopLive(ctx context.Context, to identity.UserID) (int, error) {
	if err := s.enter(); err != nil {
		return 0, err
	}
	defer s.mu.Unlock()
	t, n := s.begin(), 0
	for id, r := range s.liveShares() {
		if to.IsZero() || id == to {
			s.endOp(t, id, r)
			n++
		}
	}
	if n == 0 && !to.IsZero() {
		return 0, ErrNotFound
	}
	ctx = context.WithoutCancel(ctx)
	if err := s.commitRows(ctx, t); err != nil {
		return 0, err
	}
	s.tellEnds(ctx)
	return n, nil
}

// endOp ends a share: it goes, or stays as a note that its reader is to be
// told. A note goes the way of a removal in a full store too.
func (s *Session) endOp(t *tx, to identity.UserID, r liveRecord) {
	if s.endOf(r.Last) == nil {
		s.liveOp(t, to, nil)
		return
	}
	s.liveOp(t, to, &liveRecord{EveryS: r.EveryS, Last: r.Last, Over: true})
}

// endOf is the last position of a share once more, with an end that has come;
// nil when its reader knows already that it has ended.
func (s *Session) endOf(last []byte) []byte {
	w, err := envelope.ParseLocation(last)
	if err != nil {
		return nil
	}
	gone := max(1, int64(s.svc.cfg.Clock.Now().Sub(w.When())/time.Second))
	if w.Valid > 0 && int64(w.Valid) <= gone {
		return nil
	}
	w.Valid = uint32(min(gone, math.MaxUint32))
	b, err := w.Encode()
	if err != nil {
		return nil
	}
	return b
}

// tellEnds tells the readers of shares that have ended before their time. What
// cannot be told now is tried again, after a restart too.
func (s *Session) tellEnds(ctx context.Context) {
	for to, r := range s.liveRecords() {
		if s.closed || ctx.Err() != nil {
			return
		}
		if r == nil || !r.Over {
			continue
		}
		if err := s.tellEnd(ctx, to, *r); err != nil && !quiet(err) {
			s.log.Warn("chat: the end of a live share waits", "err", err)
		}
	}
}

// tellEnd sends the end of one share, and forgets the share once that message
// is durable with its key.
func (s *Session) tellEnd(ctx context.Context, to identity.UserID, l liveRecord) error {
	body, err := s.endToTell(to, l)
	if err != nil {
		return err
	}
	var r *record
	if body != nil {
		r = s.newOutgoing(address{to: to, ttl: min(MaxLive, s.svc.cfg.MaxTTL)})
		t := s.begin()
		s.placeLive(ctx, t, r, body)
		if err := s.putOutgoing(ctx, t, r); err != nil {
			return err
		}
	}
	t := s.begin()
	s.liveOp(t, to, nil)
	if err := s.commitRows(ctx, t); err != nil || r == nil {
		return err
	}
	if err := s.advance(ctx, r); err != nil {
		return err // the message stays queued
	}
	s.posted(r)
	return nil
}

// endToTell is what a reader must be told of a share's end; nil when nothing of
// it is to be seen there: its last position was recalled, or another live
// position has taken its place.
func (s *Session) endToTell(to identity.UserID, l liveRecord) ([]byte, error) {
	conv := s.convOf(to)
	newest, err := s.findOrNil(nameLive, liveKey(s.device[:], conv[:])...)
	if err != nil {
		return nil, err
	}
	if newest != nil && !bytes.Equal(newest.Loc, l.Last) || s.archives() || s.reader(to) != nil {
		return nil, nil
	}
	return s.endOf(l.Last), nil
}

// liveOp writes a share, or removes it.
func (s *Session) liveOp(t *tx, to identity.UserID, r *liveRecord) {
	name := recLive + to.String()
	var value []byte
	if r != nil {
		b, err := identity.Marshal(*r)
		if err != nil {
			t.err = errors.Join(t.err, fmt.Errorf("chat: encode live share: %w", err))
			return
		}
		value = b
	}
	t.addErr(s.recs.op(name, value))
	t.then(func() { s.recs.note(name, value) })
}

// liveShares reads those that have not ended.
func (s *Session) liveShares() map[identity.UserID]liveRecord {
	out := make(map[identity.UserID]liveRecord)
	for to, r := range s.liveRecords() {
		if r != nil && !r.Over && !s.liveEnded(*r) {
			out[to] = *r
		}
	}
	return out
}

// liveRecords reads all; nil is one that cannot be read.
func (s *Session) liveRecords() map[identity.UserID]*liveRecord {
	out := make(map[identity.UserID]*liveRecord)
	for name, value := range s.recs.Records(recLive) {
		to, err := identity.ParseUserID(name[len(recLive):])
		if err != nil {
			continue
		}
		r := new(liveRecord)
		if identity.Unmarshal(value, r) != nil || r.EveryS < 1 || r.Source > LiveEntered || r.Source == LiveEntered && locationView(r.Place) == nil {
			r = nil
		}
		out[to] = r
	}
	return out
}

func (s *Session) liveEnded(r liveRecord) bool {
	return s.nowMS() >= r.UntilMS || s.elapsed() >= r.Ends
}

// forgetEnded ends the shares whose time is over. Their readers know, but when
// a clock was set back, or the share took the place of a longer one.
func (s *Session) forgetEnded(ctx context.Context) error {
	t := s.begin()
	for to, r := range s.liveRecords() {
		switch {
		case r == nil:
			s.liveOp(t, to, nil)
		case !r.Over && s.liveEnded(*r):
			s.endOp(t, to, *r)
		}
	}
	return s.commitRows(context.WithoutCancel(ctx), t)
}

func (s *Session) liveView(to identity.UserID, r liveRecord) LiveShare {
	l := LiveShare{ID: r.ID, To: s.person(to), Until: time.UnixMilli(r.UntilMS), Every: time.Duration(r.EveryS) * time.Second, Source: r.Source}
	if r.Source == LiveEntered {
		l.Place = locationView(r.Place)
	}
	return l
}
