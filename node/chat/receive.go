package chat

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"time"

	"outrider/mesh/bundle"
	"outrider/mesh/envelope"
	"outrider/mesh/identity"
)

// An opening is a batch of arrived bundles on its way into rows. Order of
// writing: rows with the purge records that may be released later; then, in
// one commit of the vault, the rows' keys and the keyring's acceptance; then
// purges and the agent's Consumed. A crash after the first leaves unreadable
// rows and opens the bundles again; a crash after the second is caught up when
// the keyring calls them duplicates.
type opening struct {
	t        *tx
	msgs     []*envelope.Opened
	epochs   bool // the keyring has something to commit
	purges   []release
	done     []Arrived
	later    []Arrived
	visible  []*record               // what users see, to be put in order of sending
	deferred []func() error          // what speaks of other messages, done when those are put
	shares   map[string]*shareRecord // of live positions that are archived, as this batch leaves them
	after    []func(ctx context.Context)
}

// A release is a purge record that acknowledges a bundle.
type release struct {
	ev  Arrived
	rec bundle.PurgeRecord
}

// receive opens a batch of arrived bundles.
func (s *Session) receive(ctx context.Context, batch []Arrived) {
	if s.enter() != nil {
		return
	}
	defer s.mu.Unlock()
	s.openBatch(ctx, batch)
}

func (s *Session) openBatch(ctx context.Context, batch []Arrived) {
	o := &opening{t: s.begin()}
	opened := make(map[bundle.ID]bool, len(batch))
	for _, ev := range batch {
		delete(s.pending, ev.ID)
		if !opened[ev.ID] { // the ring knows of duplicates only once the batch is settled
			opened[ev.ID] = true
			s.openOne(ctx, o, ev)
		}
	}
	for _, ev := range o.later {
		s.wait(ev)
	}
	if err := s.settle(ctx, o); err != nil {
		if !quiet(err) {
			s.log.Warn("chat: arrived bundles wait", "err", err)
		}
		for _, ev := range batch {
			s.wait(ev)
		}
	}
}

// wait keeps a bundle for another try. The agent holds it in any case, so what
// does not fit here comes back with the next unlocking.
func (s *Session) wait(ev Arrived) {
	if !s.closed && len(s.pending) < maxPending {
		s.pending[ev.ID] = ev
	}
}

// retryPending tries what could not be opened again.
func (s *Session) retryPending(ctx context.Context) {
	var batch []Arrived
	for _, ev := range s.pending {
		if batch = append(batch, ev); len(batch) == maxBatch {
			s.openBatch(ctx, batch)
			batch = nil
		}
		if s.closed {
			return
		}
	}
	if len(batch) > 0 {
		s.openBatch(ctx, batch)
	}
}

func (s *Session) openOne(ctx context.Context, o *opening, ev Arrived) {
	b, err := s.svc.cfg.Agent.Load(ctx, ev.ID)
	switch {
	case errors.Is(err, ErrNotFound):
		delete(s.turnedAway, ev.ID)
		return // purged or expired meanwhile
	case err != nil:
		o.later = append(o.later, ev)
		return
	}
	switch b.Header.Kind {
	case bundle.KindMessage:
		s.openMessage(o, ev, b)
	case bundle.KindEpoch:
		s.openEpoch(o, ev, b)
	case bundle.KindBlob:
		s.openBlob(o, ev, b)
	default:
		o.done = append(o.done, ev)
	}
}

func (s *Session) openMessage(o *opening, ev Arrived, b bundle.Bundle) {
	m, err := s.ring.Open(b.Header.Tag, b.Header.Raw(), b.Payload)
	switch {
	case err == nil:
		s.take(o, ev, b, m)
	case errors.Is(err, envelope.ErrDuplicate):
		s.again(o, ev)
	case errors.Is(err, envelope.ErrOwn):
		o.done = append(o.done, ev)
	case errors.Is(err, envelope.ErrCloned):
		s.log.Error("chat: a copy of this device is sending; revoke the device")
		o.done = append(o.done, ev)
	case errors.Is(err, envelope.ErrKeyGone):
		o.after = append(o.after, func(ctx context.Context) { s.askRekey(ctx, ev.Tag, envelope.RekeyKeyGone) })
		o.done = append(o.done, ev)
	case errors.Is(err, envelope.ErrTooFarAhead):
		o.after = append(o.after, func(ctx context.Context) { s.askRekey(ctx, ev.Tag, envelope.RekeyTooFarAhead) })
		o.later = append(o.later, ev)
	case errors.Is(err, envelope.ErrForged), errors.Is(err, envelope.ErrMalformed):
		s.log.Debug("chat: dropped a bundle that does not open", "bundle", ev.ID, "err", err)
		o.done = append(o.done, ev)
	default: // unknown sender or epoch, a later version, too many at once, a fault of ours
		o.later = append(o.later, ev)
	}
}

// again handles a message that was accepted before, perhaps just before a
// crash: what was to be released then is released now.
func (s *Session) again(o *opening, ev Arrived) {
	if rec, ok := s.purgeFor(ev.ID); ok && !s.hasRecord(heldName(ev.ID)) {
		o.purges = append(o.purges, release{ev, rec})
		return
	}
	o.done = append(o.done, ev)
}

// purgeFor is the purge record that is owed for a bundle.
func (s *Session) purgeFor(id bundle.ID) (rec bundle.PurgeRecord, ok bool) {
	var v purgeValue
	if s.getValue(s.purgeKey(id), &v) != nil {
		return rec, false
	}
	rec, err := bundle.ParsePurgeRecord(v.Record)
	return rec, err == nil
}

// openEpoch opens the start of an epoch.
func (s *Session) openEpoch(o *opening, ev Arrived, b bundle.Bundle) {
	before := s.ring.Tags()
	info, err := s.ring.OpenEpoch(b.Header.Tag, b.Header.Raw(), b.Payload)
	switch {
	case err == nil:
		s.letIn(info.Issuer)
		o.epochs = true
		s.owePurge(o, ev, b, bundle.PurgeKey(info.PurgeKey))
		if !info.Known || !s.hasRecord(recTags+info.ID.String()) {
			// Watching makes the agent deliver what came before the start.
			o.after = append(o.after, func(ctx context.Context) {
				if err := s.learn(ctx, info.ID, before); err != nil {
					s.log.Warn("chat: watch a new epoch", "err", err)
				}
			})
		}
	case errors.Is(err, envelope.ErrNoPrekey):
		// Opened before a crash with a key that serves once, or made for a key
		// destroyed on schedule: current ones are published all the time.
		s.again(o, ev)
	case errors.Is(err, errReaderSends):
		s.log.Warn("chat: dropped an epoch of an archive reader, who may not send", "bundle", ev.ID)
		o.done = append(o.done, ev)
	case errors.Is(err, errUnarchived), errors.Is(err, errUnknownReader):
		s.log.Info("chat: an epoch waits", "bundle", ev.ID, "err", err)
		s.noteRefused(ev.ID, err)
		o.later = append(o.later, ev)
	case errors.Is(err, envelope.ErrForged), errors.Is(err, envelope.ErrMalformed), errors.Is(err, envelope.ErrNotForUs):
		s.log.Debug("chat: dropped an epoch start that does not open", "bundle", ev.ID, "err", err)
		o.done = append(o.done, ev)
	default:
		o.later = append(o.later, ev)
	}
}

// owePurge notes that a bundle is to be purged once everything is durable.
func (s *Session) owePurge(o *opening, ev Arrived, b bundle.Bundle, key bundle.PurgeKey) {
	rec := bundle.NewPurgeRecord(b, key)
	o.purges = append(o.purges, release{ev, rec})
	o.t.addErr(s.sealValue(s.purgeKey(ev.ID), purgeValue{ev.ID, rec.Append(nil)}))
}

// settle makes a batch durable and then tells the network.
func (s *Session) settle(ctx context.Context, o *opening) error {
	if err := s.place(o); err != nil {
		clear(s.fresh)
		return err
	}
	if err := s.commitRows(ctx, o.t); err != nil {
		clear(s.fresh)
		return err
	}
	if len(o.msgs) > 0 || o.epochs || len(s.fresh) > 0 || s.shredded {
		err := errors.Join(s.putKeys(), s.ring.Accept(o.msgs...))
		if err == nil {
			err = s.ring.Commit()
		}
		if err != nil {
			return s.broken(err)
		}
		s.shredded = false
	}
	for _, r := range o.visible {
		m := s.view(r)
		s.notify(Update{Kind: UpdateMessage, Message: &m})
	}
	for _, do := range o.after {
		if s.closed {
			return ErrLocked
		}
		do(ctx)
	}
	s.acknowledge(ctx, o)
	return nil
}

// acknowledge releases purges and tells the agent what needs no delivery any
// more. Whatever fails is repeated when the agent delivers the bundle again.
func (s *Session) acknowledge(ctx context.Context, o *opening) {
	t := s.begin()
	for _, p := range o.purges {
		if err := s.svc.cfg.Agent.Purge(ctx, p.rec); err != nil {
			s.log.Warn("chat: acknowledge", "bundle", p.ev.ID, "err", err)
			s.wait(p.ev)
			continue
		}
		t.add(DeleteKV{Bucket: bucketChat, Key: s.purgeKey(p.ev.ID)})
	}
	if err := s.svc.finished(ctx, s.user, o.done, s.hostedReaders); err != nil {
		s.log.Warn("chat: mark as consumed", "err", err)
	}
	if s.closed {
		return
	}
	if err := s.commitRows(ctx, t); err != nil && !quiet(err) {
		s.log.Warn("chat: forget acknowledged bundles", "err", err)
	}
}

// sweepPurges forgets purge records of bundles that are gone.
func (s *Session) sweepPurges(ctx context.Context) {
	t := s.begin()
	for p, err := range s.svc.cfg.Store.List(bucketChat, s.key(kindPurge)) {
		var v purgeValue
		if err != nil || len(t.ops) >= 500 {
			break
		}
		if s.openValue(p.Key, p.Value, &v) != nil || !s.svc.cfg.Agent.Explain(ctx, v.Bundle).Held {
			t.add(DeleteKV{Bucket: bucketChat, Key: p.Key})
		}
	}
	if err := s.commitRows(ctx, t); err != nil && !quiet(err) {
		s.log.Warn("chat: forget old acknowledgements", "err", err)
	}
}

// maxUnknown is how many messages of unknown types wait unopened for a later
// version of this program.
const maxUnknown = 64

// take gives an opened message its place.
func (s *Session) take(o *opening, ev Arrived, b bundle.Bundle, m *envelope.Opened) {
	if s.isArchive(m.Epoch) {
		s.takeCopy(o, ev, b, m)
		return
	}
	if err := s.admit(m); err != nil {
		s.turnAway(o, ev, m, err)
		return
	}
	var err error
	visible := false
	switch m.Inner.Type {
	case envelope.TypeText, envelope.TypeFile, envelope.TypeLocation, envelope.TypeCallRecord:
		visible = true
		err = s.takeVisible(o, ev, b, m)
	case envelope.TypeReceipt, envelope.TypeRead, typeComplete:
		err = s.takeReceipt(o, m)
	case envelope.TypeRecall:
		err = s.takeRecall(o, m)
	case envelope.TypeNeedRekey:
		err = s.takeNeedRekey(o, m)
	case envelope.TypeCall:
		err = s.takeCall(o, b, m)
	default:
		if len(s.pending) < maxUnknown {
			o.later = append(o.later, ev)
			return
		}
	}
	switch {
	case errors.Is(err, errLate): // never acknowledged: it was not delivered
		o.msgs, o.done = append(o.msgs, m), append(o.done, ev)
		return
	case errors.Is(err, envelope.ErrUnsupported):
		o.later = append(o.later, ev)
		return
	case errors.Is(err, envelope.ErrMalformed):
		s.log.Debug("chat: dropped content that is malformed", "bundle", ev.ID)
		o.msgs, o.done = append(o.msgs, m), append(o.done, ev)
		return
	case err != nil:
		o.t.err = errors.Join(o.t.err, err)
		return
	}
	o.msgs = append(o.msgs, m)
	held := visible && s.holdBack(o, ev, m)
	if m.ReaderPurges {
		s.owePurge(o, ev, b, bundle.PurgeKey(m.PurgeKey))
		if !held {
			return
		}
		o.purges = o.purges[:len(o.purges)-1] // written down, not told
	}
	o.done = append(o.done, ev)
	if visible && !held {
		s.owe(o.t, m.Epoch, oweReceipt)
	}
}

// errLate means that a message's own time was over when it came.
var errLate = errors.New("chat: message came after its time")

// place puts the rows of a batch in order of sending, and then does what
// depends on them.
func (s *Session) place(o *opening) error {
	slices.SortStableFunc(o.visible, func(a, b *record) int { return cmp.Compare(a.SentMS, b.SentMS) })
	all := o.visible
	kept := make([]*record, 0, len(all))
	for _, r := range all {
		if r.Arch != nil {
			s.placeArchive(o, r)
			continue
		}
		if r.live() {
			if newer, err := s.replaceLive(o, r); err != nil {
				return err
			} else if newer {
				continue
			}
		}
		kept = append(kept, r)
		s.put(o.t, r)
		o.t.add(s.nameOps(r)...)
		if r.File != nil {
			s.pinOp(o.t, r)
			o.after = append(o.after, func(context.Context) { s.checkFile(r.Msg) })
		}
	}
	if slices.ContainsFunc(all, func(r *record) bool { return r.Arch != nil }) {
		o.after = append(o.after, func(context.Context) { s.notify(Update{Kind: UpdateArchive}) })
	}
	o.visible = kept
	for _, do := range o.deferred {
		if err := do(); err != nil {
			return err
		}
	}
	return nil
}

// takeVisible makes the record of a text, file or location, unless it is here.
func (s *Session) takeVisible(o *opening, ev Arrived, b bundle.Bundle, m *envelope.Opened) error {
	r, err := s.newIncoming(ev, b, m)
	if err != nil {
		return err
	}
	if s.recalledBefore(m) {
		return nil
	}
	old, err := s.known(m.Device, m.Inner.Sent)
	if err != nil {
		return err
	}
	i := slices.IndexFunc(o.visible, func(o *record) bool { return o.From == r.From && o.SentMS == r.SentMS && o.same(r) })
	if i >= 0 || old != nil && (old.Gone || r.same(old)) {
		return nil // sealed again for somebody else, or delivered twice
	}
	o.visible = append(o.visible, r)
	return nil
}

// newIncoming makes the record of a received message.
func (s *Session) newIncoming(ev Arrived, b bundle.Bundle, m *envelope.Opened) (*record, error) {
	left := s.remaining(m.Inner, b.Hop)
	if left <= 0 {
		return nil, errLate
	}
	r := &record{
		Msg: newID(), Peer: m.User, From: m.Device, Prec: b.Header.Precedence, SentMS: int64(min(m.Inner.Sent, math.MaxInt64)), GotMS: s.nowMS(),
		TTL: int64(m.Inner.TTL / time.Second), Ends: s.elapsed() + int64(left/time.Second), Burn: int64(m.Inner.Burn / time.Second),
		Hops: int(b.Hop.Count), Sole: m.ReaderPurges, Clone: m.Clone, State: StateDelivered,
		Sealed: &sealedRecord{ID: ev.ID, Epoch: m.Epoch, Slot: m.Slot, Index: m.Index}, Barred: s.barred(m),
	}
	if m.User == s.user { // from another device of this user
		r.Out, r.Synced, r.State = true, true, StateCarried
		if r.Peer = s.otherMember(m.Epoch); r.Peer.IsZero() {
			return nil, fmt.Errorf("chat: conversation without another member: %w", envelope.ErrMalformed)
		}
	}
	return r, s.fillContent(r, m.Inner)
}

func (s *Session) otherMember(e envelope.EpochID) (u identity.UserID) {
	info, _ := s.ring.Info(e)
	for _, m := range info.Members {
		if m.User != s.user && m.Flags&envelope.MemberCompliance == 0 {
			return m.User
		}
	}
	return u
}

// remaining is how long a received message may still live. Its time counts
// from sending, by the clocks of both ends if ours can be trusted, else by the
// age the bundle came with. That age is only a hint: a relay could overstate
// it, so it shortens a message's life and never ends it. A sender's clock that
// is ahead gains nothing: no message lives longer than its TTL from now.
func (s *Session) remaining(in envelope.Inner, hop bundle.Hop) time.Duration {
	ttl := in.TTL
	if ttl <= 0 || ttl > s.svc.cfg.MaxTTL {
		ttl = s.svc.cfg.MaxTTL
	}
	passed := time.Duration(0)
	if s.svc.cfg.Clock.Trusted() {
		passed = max(0, s.svc.cfg.Clock.Now().Sub(time.UnixMilli(int64(min(in.Sent, 1<<62)))))
	}
	if age := hop.AgeDuration(); passed == 0 && age < ttl {
		passed = age
	}
	return ttl - passed
}
