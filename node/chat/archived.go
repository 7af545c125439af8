package chat

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
	"time"

	"outrider/mesh/bundle"
	"outrider/mesh/envelope"
	"outrider/mesh/identity"
)

// What a compliance reader's device opens becomes a row like any other, in a
// queue of its own: the conversation of the reader with itself, which nobody
// else can have. kindArchive lists what waits, in the order it came. The
// archiver writes it down elsewhere, and then the row becomes a note: a copy
// that comes late is known by it.

// kindArchive + order (8 B): message id; what waits to be archived.
const kindArchive = 'a'

// recArchived names where the archive ended when the archiver last said so.
const recArchived = "archived"

// archiveKeep is how long a row may wait to be archived: expiry binds members,
// not the archive.
const archiveKeep = 50 * 365 * 24 * time.Hour

// maxArchiveScan is how many entries of the queue one call looks at.
const maxArchiveScan = 2000

// MaxArchiveBatch is how many entries ArchiveNext returns at most.
const MaxArchiveBatch = 100

// TypeRecall is an entry of the archive about another message. Members never
// see one.
const TypeRecall Type = "recall"

// A Ref names a message for the archive, the same at every device.
type Ref struct {
	Epoch  envelope.EpochID  `cbor:"1,keyasint"`
	Device identity.DeviceID `cbor:"2,keyasint"`
	Index  uint32            `cbor:"3,keyasint"`
}

// archRecord is what a row of the queue knows besides.
type archRecord struct {
	Ref   Ref                     `cbor:"1,keyasint"`
	Conv  envelope.ConversationID `cbor:"2,keyasint"`
	From  identity.UserID         `cbor:"3,keyasint"`
	To    identity.UserID         `cbor:"4,keyasint"`
	About *Ref                    `cbor:"5,keyasint,omitempty"` // recall: of what; live position: what opened the share
	AgeMS int64                   `cbor:"6,keyasint,omitempty"`
	Due   int64                   `cbor:"8,keyasint,omitempty"` // s of Clock.Elapsed: when a file that is not here never comes
	Clock ClockSource             `cbor:"9,keyasint,omitempty"` // when it came; 7 said only that it was trusted
}

// An ArchiveEntry is one thing to be archived.
type ArchiveEntry struct {
	ID           MessageID // names the entry on this node only
	Ref          Ref
	Conversation envelope.ConversationID
	From, To     Person
	Type         Type
	Text         string
	File         *File // not Complete: it never came
	Location     *Location
	Call         *Call
	About        *Ref // recall: what was recalled; live position: what opened the share
	Sent         time.Time
	Received     time.Time
	Age          time.Duration // the bundle's, carried
	Clock        ClockSource   // what vouched for it
	TTL, Burn    time.Duration
	Bundle       bundle.ID
	Hops         int
}

// An ArchiveHead is where the archive ended.
type ArchiveHead struct {
	N    uint64    `cbor:"1,keyasint"`
	Hash [32]byte  `cbor:"2,keyasint"`
	At   time.Time `cbor:"3,keyasint"`
}

// An ArchiveState is how a reader's queue stands.
type ArchiveState struct {
	Reader  bool // the policy names this user
	Waiting int  // entries, at most maxArchiveScan counted
	Files   int  // of these wait for their file
	Oldest  time.Time
	Head    ArchiveHead
}

// isArchive tells whether a message came to this device as a compliance reader.
func (s *Session) isArchive(e envelope.EpochID) bool {
	info, ok := s.ring.Info(e)
	return ok && info.Members[info.Slot].Flags&envelope.MemberCompliance != 0
}

// takeArchive makes an entry of the queue of an opened message. Nothing of it
// is acknowledged to anybody, and nothing is too late.
func (s *Session) takeArchive(o *opening, ev Arrived, b bundle.Bundle, m *envelope.Opened) error {
	r := &record{
		Msg: newID(), Peer: s.user, From: m.Device, Prec: b.Header.Precedence, SentMS: int64(min(m.Inner.Sent, math.MaxInt64)), GotMS: s.nowMS(),
		TTL: int64(m.Inner.TTL / time.Second), Burn: int64(m.Inner.Burn / time.Second), Ends: s.elapsed() + int64(archiveKeep/time.Second),
		Hops: int(b.Hop.Count), Clone: m.Clone, State: StateDelivered, Read: true,
		Sealed: &sealedRecord{ID: ev.ID, Epoch: m.Epoch, Slot: m.Slot, Index: m.Index},
	}
	r.Arch = &archRecord{
		Ref: Ref{m.Epoch, m.Device, m.Index}, Conv: m.Conversation, From: m.User, To: s.otherThan(m.Epoch, m.User),
		AgeMS: b.Hop.AgeDuration().Milliseconds(), Clock: s.svc.cfg.Clock.Source(),
		Due: s.elapsed() + int64(max(s.remaining(m.Inner, b.Hop), 0)/time.Second),
	}
	switch m.Inner.Type {
	case envelope.TypeRecall:
		rec, err := envelope.ParseRecall(m.Inner.Body)
		if err != nil {
			return err
		}
		r.Type = TypeRecall
		o.deferred = append(o.deferred, func() error { return s.archiveRecall(o, m, r, rec) })
		return nil
	case envelope.TypeText, envelope.TypeFile, envelope.TypeLocation, envelope.TypeCallRecord:
	default:
		return nil // receipts and requests for keys say nothing
	}
	if err := s.fillContent(r, m.Inner); err != nil {
		return err
	}
	old, err := s.known(m.Device, m.Inner.Sent)
	if err != nil {
		return err
	}
	i := slices.IndexFunc(o.visible, func(o *record) bool { return o.From == r.From && o.SentMS == r.SentMS && o.same(r) })
	if i >= 0 || old != nil && (old.Gone || r.same(old)) {
		return nil // sealed again for somebody else
	}
	o.visible = append(o.visible, r)
	return nil
}

// takeCopy is take for a message that came to this device as a reader.
func (s *Session) takeCopy(o *opening, ev Arrived, b bundle.Bundle, m *envelope.Opened) {
	err := s.takeArchive(o, ev, b, m)
	switch {
	case errors.Is(err, envelope.ErrUnsupported):
		s.ring.Refuse(m)
		o.later = append(o.later, ev)
		return
	case errors.Is(err, envelope.ErrMalformed):
		s.log.Debug("chat: dropped content that is malformed", "bundle", ev.ID)
	case err != nil:
		o.t.err = errors.Join(o.t.err, err)
		return
	}
	o.msgs, o.done = append(o.msgs, m), append(o.done, ev)
}

// turnAway keeps what may not be shown for later, unopened; what can never be
// shown is dropped.
func (s *Session) turnAway(o *opening, ev Arrived, m *envelope.Opened, why error) {
	if errors.Is(why, errReaderSends) {
		s.log.Warn("chat: dropped a message of an archive reader, who may not send", "bundle", ev.ID)
		o.msgs, o.done = append(o.msgs, m), append(o.done, ev)
		return
	}
	s.log.Info("chat: a message waits", "bundle", ev.ID, "err", why)
	s.noteRefused(ev.ID, why)
	s.ring.Refuse(m)
	o.later = append(o.later, ev)
}

// otherThan is the other user of a direct conversation.
func (s *Session) otherThan(e envelope.EpochID, u identity.UserID) identity.UserID {
	info, _ := s.ring.Info(e)
	for _, m := range info.Members {
		if m.User != u && m.Flags&envelope.MemberCompliance == 0 {
			return m.User
		}
	}
	return u // notes to oneself
}

// placeArchive writes an entry and puts it into the queue.
func (s *Session) placeArchive(o *opening, r *record) {
	if r.live() {
		s.joinShare(o, r)
	}
	s.put(o.t, r)
	o.t.add(s.nameOps(r)...)
	o.t.add(PutKV{Bucket: bucketChat, Key: s.key(kindArchive, uint64Bytes(r.Order)), Value: r.Msg[:]})
	if r.File != nil {
		s.pinOp(o.t, r)
		o.after = append(o.after, func(context.Context) { s.checkFile(r.Msg) })
	}
}

// archiveRecall makes the entry of a recall. It names the first of the
// message's sealings that was archived: the last in the list that is known.
func (s *Session) archiveRecall(o *opening, m *envelope.Opened, r *record, rec envelope.Recall) error {
	for _, ref := range rec.Messages {
		info, ok := s.ring.Info(ref.Epoch)
		if !ok || int(ref.Slot) >= len(info.Members) || info.Members[ref.Slot].Device != m.Device {
			continue // not the sender's own
		}
		about := &Ref{ref.Epoch, m.Device, ref.Index}
		old, err := o.at(s, s.placeKey(ref.Epoch, ref.Slot, ref.Index))
		if err != nil {
			return err
		}
		if r.Arch.About == nil || old != nil {
			r.Arch.About = about
		}
		if old != nil && old.File != nil && !old.File.Done && !old.Gone {
			old.Arch.Due = s.elapsed() // its leaves will not come any more
			s.change(o.t, old)
		}
	}
	if r.Arch.About != nil {
		s.placeArchive(o, r)
	}
	return nil
}

// recShare + conversation, device: the share that live positions belong to.
const recShare = "share/"

// shareIdle is how long after its last position a share without a known end is
// over.
const shareIdle = time.Hour

type shareRecord struct {
	Opened Ref   `cbor:"1,keyasint"`
	Until  int64 `cbor:"2,keyasint"` // ms
}

// joinShare finds the share that a live position belongs to, or opens one.
func (s *Session) joinShare(o *opening, r *record) {
	name := fmt.Sprintf("%s%x/%v", recShare, r.Arch.Conv, r.From)
	until := r.SentMS + shareIdle.Milliseconds()
	if l := locationView(r.Loc); l != nil && l.Fix != nil && !l.Fix.Until.IsZero() {
		until = l.Fix.Until.UnixMilli()
	}
	share := o.shares[name]
	if share == nil {
		share = new(shareRecord)
		if !s.readRecord(name, share) {
			share = nil
		}
	}
	if share != nil && r.SentMS <= share.Until {
		r.Arch.About = &share.Opened
		share = &shareRecord{share.Opened, max(until, share.Until)}
	} else {
		share = &shareRecord{r.Arch.Ref, until}
	}
	if o.shares == nil {
		o.shares = make(map[string]*shareRecord)
	}
	o.shares[name] = share
	s.record(o.t, name, *share)
}

// ArchiveNext returns what waits to be archived and is ready, oldest first: at
// most n entries. A file that is still on its way keeps nothing else up.
func (s *Session) ArchiveNext(_ context.Context, n int) ([]ArchiveEntry, error) {
	if n < 1 || n > MaxArchiveBatch {
		return nil, fmt.Errorf("chat: 1 to %d entries at a time: %w", MaxArchiveBatch, ErrInvalid)
	}
	if err := s.enter(); err != nil {
		return nil, err
	}
	defer s.mu.Unlock()
	var out []ArchiveEntry
	err := s.eachArchived(func(r *record) bool {
		if !s.awaitsFile(r) {
			out = append(out, s.archiveEntry(r))
		}
		return len(out) < n
	})
	return out, err
}

// eachArchived goes through the queue.
func (s *Session) eachArchived(do func(r *record) bool) error {
	left := maxArchiveScan
	for p, err := range s.svc.cfg.Store.List(bucketChat, s.key(kindArchive)) {
		if err != nil {
			return fmt.Errorf("chat: read archive queue: %w", err)
		}
		if len(p.Value) != len(MessageID{}) {
			return errShape
		}
		r, err := s.get(MessageID(p.Value))
		switch {
		case errors.Is(err, ErrNotFound), errors.Is(err, errUnreadable):
			continue // its key never became durable: it comes again
		case err != nil:
			return err
		case r.Arch == nil || r.Gone:
			continue
		}
		if left--; left < 0 || !do(r) {
			return nil
		}
	}
	return nil
}

// awaitsFile tells whether an entry waits for its file.
func (s *Session) awaitsFile(r *record) bool {
	return r.File != nil && !r.File.Done && !r.File.Bad && s.elapsed() < r.Arch.Due
}

func (s *Session) archiveEntry(r *record) ArchiveEntry {
	a := r.Arch
	e := ArchiveEntry{
		ID: r.Msg, Ref: a.Ref, Conversation: a.Conv, From: s.person(a.From), To: s.person(a.To), Type: r.Type, Text: r.Text, About: a.About,
		Sent: time.UnixMilli(r.SentMS), Received: time.UnixMilli(r.GotMS), Age: time.Duration(a.AgeMS) * time.Millisecond, Clock: a.Clock,
		TTL: time.Duration(r.TTL) * time.Second, Burn: time.Duration(r.Burn) * time.Second, Bundle: r.Sealed.ID, Hops: r.Hops,
	}
	if r.File != nil {
		f, _ := s.fileView(r)
		e.File = &f
	}
	if r.Call != nil {
		e.Call = callView(r.Call)
	}
	if r.Loc != nil {
		e.Location = locationView(r.Loc)
	}
	return e
}

// ArchiveFile opens the file of an entry.
func (s *Session) ArchiveFile(ctx context.Context, id MessageID) (File, io.ReadCloser, error) {
	return s.OpenFile(ctx, id)
}

// ArchiveDone says that entries are in the archive, on its disk, and where it
// ends now. Their content is shredded here. What is done already is passed
// over.
func (s *Session) ArchiveDone(ctx context.Context, ids []MessageID, head ArchiveHead) error {
	if len(ids) > MaxArchiveBatch {
		return fmt.Errorf("chat: at most %d entries at a time: %w", MaxArchiveBatch, ErrInvalid)
	}
	if err := s.enter(); err != nil {
		return err
	}
	defer s.mu.Unlock()
	t := s.begin()
	for _, id := range ids {
		r, err := s.get(id)
		if errors.Is(err, ErrNotFound) || errors.Is(err, errUnreadable) {
			continue
		}
		if err != nil {
			return err
		}
		if r.Arch == nil {
			return fmt.Errorf("chat: not an entry of the archive: %w", ErrInvalid)
		}
		s.archiveDone(t, r)
	}
	head.At = s.svc.cfg.Clock.Now()
	s.record(t, recArchived, head)
	return s.commit(context.WithoutCancel(ctx), t)
}

func (s *Session) archiveDone(t *tx, r *record) {
	t.add(DeleteKV{Bucket: bucketChat, Key: s.key(kindArchive, binary.BigEndian.AppendUint64(nil, r.Order))})
	if r.Gone {
		return
	}
	t.add(DeleteKV{Bucket: bucketChat, Key: s.expiryKey(r)})
	r.Ends = s.elapsed() + int64(s.svc.cfg.MaxTTL/time.Second) // for as long as a copy can come
	s.empty(t, r, StateDelivered)
	t.add(PutKV{Bucket: bucketChat, Key: s.expiryKey(r), Value: []byte{1}})
}

// ArchiveState tells how the queue stands.
func (s *Session) ArchiveState(context.Context) (ArchiveState, error) {
	if err := s.enter(); err != nil {
		return ArchiveState{}, err
	}
	defer s.mu.Unlock()
	st := ArchiveState{Reader: s.archives()}
	s.readRecord(recArchived, &st.Head)
	err := s.eachArchived(func(r *record) bool {
		st.Waiting++
		if s.awaitsFile(r) {
			st.Files++
		}
		if got := time.UnixMilli(r.GotMS); st.Oldest.IsZero() || got.Before(st.Oldest) {
			st.Oldest = got
		}
		return true
	})
	return st, err
}

// What stands at a tag in bucketWatch: that it is watched, or that what comes there is also
// kept when it was purged, for a compliance reader.
const (
	watchedTag    = "\x01"
	watchedToKeep = "\x02"
)

// watchArchive tells the agent at which tags this node is a compliance
// reader's: there it keeps what others have purged (decisions.md 6).
func (s *Service) watchArchive(tags []identity.Tag) {
	if w, ok := s.cfg.Agent.(interface{ WatchArchive([]identity.Tag) }); ok && len(tags) > 0 {
		w.WatchArchive(tags)
	}
}

// archiveTags are the tags of epochs in which this device is a reader.
func (s *Session) archiveTags() map[identity.Tag]bool {
	out := make(map[identity.Tag]bool)
	for name := range s.recs.Records(recTags) {
		var id envelope.EpochID
		if id.UnmarshalText([]byte(name[len(recTags):])) != nil || !s.isArchive(id) {
			continue
		}
		for _, t := range s.ring.EpochTags(id) {
			out[t] = true
		}
	}
	return out
}
