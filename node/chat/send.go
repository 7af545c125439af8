package chat

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"slices"
	"time"
	"unicode/utf8"

	"outrider/mesh/bundle"
	"outrider/mesh/envelope"
	"outrider/mesh/identity"
)

// Send sends a text. When it returns, the message is durable.
func (s *Session) Send(ctx context.Context, d Draft) (Message, error) {
	if d.Text == "" || len(d.Text) > MaxText || !utf8.ValidString(d.Text) {
		return Message{}, fmt.Errorf("chat: a text has 1 to %d bytes of UTF-8, this one has %d: %w", MaxText, len(d.Text), ErrInvalid)
	}
	if d.Burn < 0 || d.Burn > envelopeMax {
		return Message{}, fmt.Errorf("chat: burn time is out of range: %w", ErrInvalid)
	}
	to := address{d.To, d.Precedence, d.TTL}
	a, err := newAct(d.Once, TypeText, to, []byte(d.Text), uint64Bytes(uint64(d.Burn)))
	if err != nil {
		return Message{}, err
	}
	return s.post(ctx, to, a, func(r *record, _ *tx) error {
		r.Type, r.Text, r.Burn = TypeText, d.Text, int64(d.Burn/time.Second)
		return nil
	})
}

// SendLocation sends a position. A live one takes the place of the earlier
// live ones to the same person.
func (s *Session) SendLocation(ctx context.Context, d LocationDraft) (Message, error) {
	body, err := encodeLocation(d.Location, s.svc.cfg.Clock.Now())
	if err != nil {
		return Message{}, err
	}
	to := address{d.To, d.Precedence, d.TTL}
	said := d.Location.hash()
	if d.Here {
		said = Location{Note: d.Location.Note, Live: d.Location.Live, Fix: new(Fix)}.hash()
	}
	a, err := newAct(d.Once, TypeLocation, to, said)
	if err != nil {
		return Message{}, err
	}
	return s.post(ctx, to, a, func(r *record, t *tx) error {
		if err := s.mayShare(TypeLocation); err != nil {
			return err
		}
		if d.Location.Live {
			s.placeLive(ctx, t, r, body)
			return nil
		}
		r.Type, r.Loc = TypeLocation, body
		return nil
	})
}

const envelopeMax = (1<<32 - 1) * time.Second // what an envelope can say

// An address is where a message goes and how.
type address struct {
	to   identity.UserID
	prec bundle.Precedence
	ttl  time.Duration
}

func (s *Session) checkAddress(a *address) error {
	limit := s.svc.cfg.MaxTTL
	if a.ttl == 0 || a.ttl > limit {
		a.ttl = limit
	}
	switch {
	case a.to == s.user:
		return fmt.Errorf("chat: a message to oneself goes nowhere: %w", ErrInvalid)
	case s.archives():
		return ErrReceiveOnly
	case s.reader(a.to) != nil:
		return fmt.Errorf("chat: an archive reader gets a copy of everything and is written to by nobody: %w", ErrInvalid)
	case a.to.IsZero():
		return fmt.Errorf("chat: no recipient: %w", ErrInvalid)
	case a.prec > bundle.Flash:
		return fmt.Errorf("chat: unknown precedence: %w", ErrInvalid)
	case a.ttl < MinTTL:
		return fmt.Errorf("chat: time to live is at least %v: %w", MinTTL, ErrInvalid)
	case len(s.outgoing) >= MaxOutstanding:
		return ErrTooMany
	}
	return nil
}

// post is the way of every new message: row first, durable as queued; then
// sealed, durable too; then into the agent's custody. A crash anywhere goes on
// from what is durable. An act that was done before is answered with its
// message as it is now.
func (s *Session) post(ctx context.Context, a address, by act, fill func(r *record, t *tx) error) (Message, error) {
	if err := s.enter(); err != nil {
		return Message{}, err
	}
	defer s.mu.Unlock()
	if r, err := s.repeated(by); err != nil || r != nil {
		if err != nil {
			return Message{}, err
		}
		return s.view(r), nil
	}
	if err := s.checkAddress(&a); err != nil {
		return Message{}, err
	}
	ctx = context.WithoutCancel(ctx) // the client's going away must not stop it half-way
	r := s.newOutgoing(a)
	s.mark(r, by)
	t := s.begin()
	if err := fill(r, t); err != nil {
		return Message{}, err
	}
	if err := s.putOutgoing(ctx, t, r); err != nil {
		return Message{}, err
	}
	if err := s.advance(ctx, r); errors.Is(err, ErrFull) && !s.taken(r) {
		return Message{}, s.withdraw(ctx, r, err) // a full origin refuses new mail: decisions.md 17
	} else if err != nil && !quiet(err) {
		s.log.Warn("chat: a message stays queued", "err", err) // it is durable, and goes on by itself
	}
	if s.closed {
		return Message{}, ErrLocked
	}
	return s.posted(r), nil
}

// posted tells the screens of a new message.
func (s *Session) posted(r *record) Message {
	m := s.view(r)
	s.notify(Update{Kind: UpdateMessage, Message: &m})
	return m
}

func (s *Session) newOutgoing(a address) *record {
	s.lastSent = max(s.lastSent+1, s.nowMS())
	return &record{
		Msg: newID(), Out: true, Peer: a.to, From: s.device, Prec: a.prec, SentMS: s.lastSent,
		TTL: int64(a.ttl / time.Second), Ends: s.elapsed() + int64(a.ttl/time.Second), State: StateQueued,
	}
}

// putOutgoing writes the row of a new message, and that it is to be sent.
func (s *Session) putOutgoing(ctx context.Context, t *tx, r *record) error {
	if !s.reachable(r.Peer) {
		r.State = StateWaiting
	}
	s.put(t, r)
	t.add(s.nameOps(r)...)
	t.add(PutKV{Bucket: bucketChat, Key: s.key(kindOpen, r.Msg[:]), Value: []byte{1}})
	t.addErr(s.recs.op(recSent, uint64Bytes(uint64(s.lastSent))))
	if err := s.commit(ctx, t); err != nil {
		return err
	}
	s.outgoing[r.Msg] = true
	return nil
}

// withdraw removes a message that nobody has seen.
func (s *Session) withdraw(ctx context.Context, r *record, cause error) error {
	t := s.begin()
	s.erase(t, r)
	if err := s.commit(ctx, t); err != nil {
		return errors.Join(cause, err)
	}
	return cause
}

func (s *Session) taken(r *record) bool { return r.Sealed != nil && r.Sealed.Taken }

// unsent tells whether something of the message must still be given to the
// agent.
func (r *record) unsent() bool {
	if r.State == StateRecalled {
		return r.Owed
	}
	if !r.Out || r.Synced || r.Gone || r.State == StateExpired {
		return false
	}
	b := r.blob()
	return r.Sealed == nil || !r.Sealed.Taken || r.File != nil && (b == nil || !b.Taken)
}

// advance takes an outgoing message as far as it can go now. Without the
// recipient's keys it waits, which is no error.
func (s *Session) advance(ctx context.Context, r *record) error {
	defer func() {
		if _, ok := s.outgoing[r.Msg]; ok {
			s.outgoing[r.Msg] = r.unsent()
		}
	}()
	if !r.unsent() || r.State == StateFailed && r.Fail == failRevoked {
		return nil
	}
	if r.State != StateRecalled && s.stopped(r) != "" {
		return nil // it waits for another policy, or its end
	}
	if r.State == StateRecalled {
		return s.tellRecall(ctx, r)
	}
	ok, err := true, error(nil)
	if r.Sealed == nil {
		ok, err = s.sealMessage(ctx, r)
	}
	if ok && err == nil {
		err = s.submitAll(ctx, r)
	}
	switch {
	case errors.Is(err, ErrFull) && !s.closed:
		return errors.Join(err, s.setState(ctx, r, StateFailed, failFull))
	case err != nil || !ok:
		return err
	case s.hostedHere(r.Peer):
		return s.raise(ctx, r, StateAtNode) // this is a node that serves the recipient
	case r.State == StateFailed || r.State == StateWaiting:
		return s.setState(ctx, r, StateQueued, "")
	}
	return nil
}

func (s *Session) hostedHere(u identity.UserID) bool {
	hosted, err := s.svc.cfg.Accounts.Users()
	return err == nil && slices.Contains(hosted, u)
}

// sealMessage seals a message and makes the sealed bundles durable. ok is
// false when it has to wait.
func (s *Session) sealMessage(ctx context.Context, r *record) (ok bool, err error) {
	if s.elapsed() >= r.Ends {
		return false, nil // it will expire
	}
	epoch, err := s.epochFor(ctx, r.Peer, r.Prec)
	switch {
	case errors.Is(err, errNoKeys):
		state, fail := StateWaiting, ""
		if s.svc.cfg.Roster.Revoked(r.Peer) {
			state, fail = StateFailed, failRevoked
		}
		return false, s.setState(ctx, r, state, fail)
	case errors.Is(err, envelope.ErrFull):
		return false, s.setState(ctx, r, StateFailed, failNoRoom)
	case err != nil:
		return false, err
	}
	inner, err := s.innerOf(r)
	if err != nil {
		return false, err
	}
	sealed, err := s.seal(epoch, r.Prec, r.left(s.elapsed()), inner, r.live())
	if err != nil {
		return false, err
	}
	return true, s.keepSealed(ctx, r, sealed)
}

// keepSealed makes the sealed form of a message durable before it goes out,
// so that whatever is sent again is the same bundle.
func (s *Session) keepSealed(ctx context.Context, r *record, b sealedBundle) error {
	r.Sealed, r.Sole, r.Weak, r.Carriers = &b.rec, b.sole, s.isWeak(b.rec.Epoch), nil
	r.Devices = s.readers(b.rec.Epoch, r)
	t := s.begin()
	t.addErr(s.outboxOp(r.Msg, partMessage, b.bundle))
	if r.File != nil {
		fb, err := s.blobBundle(r, b.bundle.Header)
		if err != nil {
			return err
		}
		r.File.Blob = &fb.rec
		t.addErr(s.outboxOp(r.Msg, partBlob, fb.bundle))
	}
	if r.State != StateQueued {
		r.State, r.Fail = StateQueued, ""
	}
	t.add(s.nameOps(r)...)
	s.change(t, r)
	return s.commit(ctx, t)
}

// readers lists the devices that are to read a message, keeping what is known
// of them from an earlier sealing.
func (s *Session) readers(e envelope.EpochID, r *record) (out []deviceRecord) {
	info, _ := s.ring.Info(e)
	for i, m := range info.Members {
		if i == info.Slot || m.Flags&envelope.MemberCompliance != 0 {
			continue
		}
		d := deviceRecord{ID: m.Device, Own: m.User == s.user}
		if i := slices.IndexFunc(r.Devices, func(o deviceRecord) bool { return o.ID == m.Device }); i >= 0 {
			d = r.Devices[i]
		}
		out = append(out, d)
	}
	return out
}

// A sealedBundle is a bundle of ours with what must be remembered of it.
type sealedBundle struct {
	bundle bundle.Bundle
	rec    sealedRecord
	sole   bool
}

// seal drafts and seals one message in an epoch.
func (s *Session) seal(e envelope.EpochID, p bundle.Precedence, life time.Duration, in envelope.Inner, live bool) (sealedBundle, error) {
	if s.archives() {
		return sealedBundle{}, fmt.Errorf("chat: seal: %w", envelope.ErrReceiveOnly)
	}
	draft := s.ring.Draft
	if live {
		draft = s.ring.DraftLive
	}
	d, err := draft(e)
	if err != nil {
		return sealedBundle{}, fmt.Errorf("chat: seal: %w", err)
	}
	key := bundle.PurgeKey(d.PurgeKey())
	h, err := s.header(d.Tag(), p, life, key, bundle.KindMessage, s.archiveFlags(e))
	if err != nil {
		return sealedBundle{}, err
	}
	payload, err := d.Seal(h.Raw(), in)
	if err != nil {
		return sealedBundle{}, fmt.Errorf("chat: seal: %w", err)
	}
	b, err := s.made(h, payload, key)
	b.rec.Epoch, b.rec.Slot, b.rec.Index, b.sole = e, d.Slot(), d.Index(), d.ReaderPurges()
	return b, err
}

func (s *Session) header(t identity.Tag, p bundle.Precedence, life time.Duration, key bundle.PurgeKey, kind bundle.Kind, flags bundle.Flags) (bundle.Header, error) {
	life = min((max(life, time.Minute) + time.Minute - 1).Truncate(time.Minute), s.svc.cfg.MaxTTL.Truncate(time.Minute))
	h, err := bundle.Header{
		Version: bundle.Version, Tag: t, Precedence: p, Lifetime: life, Commitment: key.Commit(t), Kind: kind, Flags: flags,
	}.Encode()
	if err != nil {
		return h, fmt.Errorf("chat: make header: %w", err)
	}
	return h, nil
}

func (s *Session) made(h bundle.Header, payload []byte, key bundle.PurgeKey) (sealedBundle, error) {
	b, err := bundle.New(h, payload, 0)
	if err != nil {
		return sealedBundle{}, fmt.Errorf("chat: make bundle: %w", err)
	}
	return sealedBundle{bundle: b, rec: sealedRecord{
		ID: b.ID(), Header: b.Header.Raw(), Sum: sha256.Sum256(payload), Key: key, At: s.elapsed(),
	}}, nil
}

// purgeRecord is what removes one of our own bundles everywhere.
func (s *Session) purgeRecord(b sealedRecord) (bundle.PurgeRecord, error) {
	h, err := bundle.ParseHeader(b.Header)
	if err != nil {
		return bundle.PurgeRecord{}, fmt.Errorf("chat: stored header: %w", err)
	}
	age := max(0, s.elapsed()-b.At)
	return bundle.PurgeRecord{Hop: bundle.Hop{}.Older(time.Duration(age) * time.Second), Header: h, PayloadHash: b.Sum, Key: b.Key}, nil
}

// The outbox: sealed bundles between the sealing and the agent's custody.
const (
	partMessage = 0
	partBlob    = 1
)

type outboxValue struct {
	Bundle []byte `cbor:"1,keyasint"`
}

func (s *Session) outboxKey(id MessageID, part byte) string {
	return s.key(kindOutbox, id[:], []byte{part})
}

func (s *Session) outboxOp(id MessageID, part byte, b bundle.Bundle) (Op, error) {
	return s.sealValue(s.outboxKey(id, part), outboxValue{b.Append(nil)})
}

func (s *Session) openDrops(r *record) []Op {
	return append(s.outboxDrops(r), DeleteKV{Bucket: bucketChat, Key: s.key(kindOpen, r.Msg[:])})
}

func (s *Session) outboxDrops(r *record) []Op {
	return []Op{
		DeleteKV{Bucket: bucketChat, Key: s.outboxKey(r.Msg, partMessage)},
		DeleteKV{Bucket: bucketChat, Key: s.outboxKey(r.Msg, partBlob)},
	}
}

// submitAll gives the agent what it does not have yet of a message.
func (s *Session) submitAll(ctx context.Context, r *record) error {
	for part, b := range []*sealedRecord{r.Sealed, r.blob()} {
		if b == nil || b.Taken {
			continue
		}
		if err := s.submitPart(ctx, r, b, byte(part)); err != nil {
			return err
		}
	}
	return nil
}

func (s *Session) submitPart(ctx context.Context, r *record, b *sealedRecord, part byte) error {
	var v outboxValue
	if err := s.getValue(s.outboxKey(r.Msg, part), &v); err != nil {
		return fmt.Errorf("chat: read outbox: %w", err)
	}
	bun, err := bundle.Parse(v.Bundle)
	if err != nil {
		return fmt.Errorf("chat: read outbox: %w", err)
	}
	bun.Hop = bun.Hop.Older(time.Duration(max(0, s.elapsed()-b.At)) * time.Second)
	if err := s.svc.cfg.Agent.Submit(ctx, bun); err != nil {
		return fmt.Errorf("chat: hand over: %w", err)
	}
	b.Taken = true
	t := s.begin()
	t.add(DeleteKV{Bucket: bucketChat, Key: s.outboxKey(r.Msg, part)})
	s.change(t, r)
	return s.commit(ctx, t)
}

// setState changes the stored state and tells the screens.
func (s *Session) setState(ctx context.Context, r *record, st State, fail string) error {
	if r.State == st && r.Fail == fail {
		return nil
	}
	r.State, r.Fail = st, fail
	if err := s.save(ctx, r); err != nil {
		return err
	}
	s.changed(r)
	return nil
}

// changed tells the screens that a message is not what it was.
func (s *Session) changed(r *record) {
	if s.closed {
		return
	}
	m := s.view(r)
	s.notify(Update{Kind: UpdateState, Message: &m})
}

// left is what is left of a message's time.
func (r *record) left(elapsed int64) time.Duration {
	return time.Duration(max(0, r.Ends-elapsed)) * time.Second
}
