package chat

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"outrider/mesh/bundle"
	"outrider/mesh/envelope"
	"outrider/mesh/identity"
)

// An Archive tells who archives what the network says: compliance readers,
// named by the signed configuration (crypto.md 8). A reader is a visible
// member of every epoch and sends nothing.
type Archive interface {
	// Readers returns the readers that are named now, by id.
	Readers() []ArchiveReader
	// Changed returns a channel that is closed at the next change.
	Changed() <-chan struct{}
}

// An ArchiveReader is a user who archives, from a moment on.
type ArchiveReader struct {
	User  identity.UserID
	Since time.Time
}

// Archived says to a user who archives.
type Archived struct {
	By    Person
	Since time.Time
	Keys  bool // a message could be sealed to the reader now; without, none is sent
	Self  bool // the asking user is the reader
}

// A Refused is a kind of thing that was not let in because of the archive.
type Refused struct {
	Code  string // RefusedUnarchived or RefusedReader
	Count int    // bundles that wait here, or that were dropped
	From  []Person
}

// Why something is not let in because of the archive.
const (
	// RefusedUnarchived: sealed without the reader that the policy names. It
	// is kept, and opens when the sender has sent it again with the reader.
	RefusedUnarchived = "unarchived"
	// RefusedReader: sealed for a reader that no policy known here names. It
	// is kept until a configuration that does comes.
	RefusedReader = "unknown_reader"
)

// Errors of judgement. What they refuse waits.
var (
	errUnarchived    = errors.New("chat: sealed without the archive reader that the network's configuration names")
	errUnknownReader = errors.New("chat: sealed for an archive reader that no configuration known here names")
	errReaderSends   = errors.New("chat: from an archive reader, who may not send")
)

// ErrReceiveOnly means that the user archives what others say.
var ErrReceiveOnly = errors.New("chat: this user archives what others say, and sends nothing")

// recArchive names what this user's device knows of the readers.
const recArchive = "archive"

// archiveState is who archives, as far as this device has heard. The moment of
// a designation is the earliest that was ever heard.
type archiveState struct {
	Readers []readerRecord    `cbor:"1,keyasint,omitempty"`
	Past    []identity.UserID `cbor:"2,keyasint,omitempty"` // were readers; at most maxPastReaders
}

type readerRecord struct {
	User  identity.UserID `cbor:"1,keyasint"`
	Since int64           `cbor:"2,keyasint"` // ms since 1970
	At    int64           `cbor:"3,keyasint"` // s of Clock.Elapsed when it was heard here
}

const maxPastReaders = 64

// archiveNews is closed when the readers change; nil where there are none.
func (s *Service) archiveNews() <-chan struct{} {
	if s.cfg.Archive == nil {
		return nil
	}
	return s.cfg.Archive.Changed()
}

// loadArchive reads what was known and takes in what is known now.
func (s *Session) loadArchive() error {
	s.readRecord(recArchive, &s.archive)
	next := s.hearArchive()
	if next == nil {
		return nil
	}
	b, err := identity.Marshal(*next)
	if err == nil {
		err = s.recs.PutRecord(recArchive, b)
	}
	if err != nil {
		return fmt.Errorf("note who archives: %w", err)
	}
	s.archive = *next
	return nil
}

// hearArchive compares with the policy; nil if nothing has changed.
func (s *Session) hearArchive() *archiveState {
	if s.svc.cfg.Archive == nil {
		return nil
	}
	next := archiveState{Past: slices.Clone(s.archive.Past)}
	for _, r := range s.svc.cfg.Archive.Readers() {
		rec := readerRecord{User: r.User, Since: r.Since.UnixMilli(), At: s.elapsed()}
		if old := s.reader(r.User); old != nil {
			rec.Since, rec.At = min(rec.Since, old.Since), old.At
		}
		next.Readers = append(next.Readers, rec)
	}
	for _, old := range s.archive.Readers {
		gone := !slices.ContainsFunc(next.Readers, func(r readerRecord) bool { return r.User == old.User })
		if gone && !slices.Contains(next.Past, old.User) {
			next.Past = append(next.Past, old.User)
		}
	}
	next.Past = next.Past[max(0, len(next.Past)-maxPastReaders):]
	if slices.Equal(next.Readers, s.archive.Readers) && slices.Equal(next.Past, s.archive.Past) {
		return nil
	}
	return &next
}

// archiveChanged takes in a new policy. It never applies backwards: what was
// written before this device knew of a reader is sent to nobody more by
// itself. What others would refuse now is shown as failed, and trying again
// seals it with the reader.
func (s *Session) archiveChanged(ctx context.Context) {
	if s.enter() != nil {
		return
	}
	defer s.mu.Unlock()
	next := s.hearArchive()
	if next == nil {
		return
	}
	t := s.begin()
	s.record(t, recArchive, *next)
	t.then(func() { s.archive = *next })
	if err := s.commitRows(ctx, t); err != nil {
		s.log.Warn("chat: note who archives", "err", err)
		return
	}
	s.notify(Update{Kind: UpdateArchive})
	s.failUnarchived(ctx)
	if !s.closed {
		s.retryPending(ctx)
	}
	if !s.closed {
		s.resumeUnsent(ctx)
	}
}

// failUnarchived marks what is on its way without a reader that it should have.
func (s *Session) failUnarchived(ctx context.Context) {
	for id := range s.outgoing {
		r, err := s.get(id)
		if err != nil || s.closed || !s.unarchived(r) {
			continue // a row that cannot be read is somebody else's to report
		}
		if err := s.setState(ctx, r, StateFailed, failUnarchived); err != nil && !quiet(err) {
			s.log.Warn("chat: a message was sealed before the archive was known", "err", err)
		}
	}
}

// unarchived tells whether an outgoing message lacks a reader, and nobody has it.
func (s *Session) unarchived(r *record) bool {
	if !r.Out || r.Synced || r.Gone || r.Sealed == nil || r.State == StateRecalled || r.anyGot() {
		return false
	}
	info, ok := s.ring.Info(r.Sealed.Epoch)
	return ok && s.lacksReader(info.Members, r.SentMS)
}

func (s *Session) reader(u identity.UserID) *readerRecord {
	for i := range s.archive.Readers {
		if s.archive.Readers[i].User == u {
			return &s.archive.Readers[i]
		}
	}
	return nil
}

// archives tells whether this session's user is a reader.
func (s *Session) archives() bool { return s.reader(s.user) != nil }

// lacksReader tells whether a roster lacks a reader whom something said at a
// moment needs.
func (s *Session) lacksReader(members []envelope.Member, sentMS int64) bool {
	return slices.ContainsFunc(s.archive.Readers, func(r readerRecord) bool {
		return sentMS >= r.Since && !s.hasReader(members, r.User)
	})
}

// hasReader tells whether a device of the reader is a flagged member. The
// device must be known as the reader's: a made-up one reads nothing.
func (s *Session) hasReader(members []envelope.Member, reader identity.UserID) bool {
	return slices.ContainsFunc(members, func(m envelope.Member) bool {
		if m.User != reader || m.Flags&envelope.MemberCompliance == 0 {
			return false
		}
		if m.Device == s.device {
			return true
		}
		d, ok := s.svc.cfg.Roster.Device(m.Device)
		return ok && d.User == reader
	})
}

// permit judges the roster of an epoch that somebody else started; sent is by
// its issuer's clock. An epoch may lack a reader if it began before the reader
// was named; a claim to that is believed for as long as honest mail of that
// time can be on its way.
func (s *Session) permit(members []envelope.Member, sent uint64) error {
	sentMS := int64(min(sent, 1<<62))
	for _, r := range s.archive.Readers {
		if slices.ContainsFunc(members, func(m envelope.Member) bool { return m.User == r.User && m.Flags&envelope.MemberCompliance == 0 }) {
			return errReaderSends
		}
		late := s.elapsed()-r.At > int64(s.svc.cfg.MaxDelay/time.Second)
		if !s.hasReader(members, r.User) && (sentMS >= r.Since || late) {
			return s.refused(errUnarchived, members)
		}
	}
	before := len(s.archive.Readers) > 0 && !slices.ContainsFunc(s.archive.Readers, func(r readerRecord) bool { return sentMS >= r.Since })
	for _, m := range members {
		known := m.Flags&envelope.MemberCompliance == 0 || m.User == s.user || s.reader(m.User) != nil || slices.Contains(s.archive.Past, m.User)
		if !known && !before {
			return s.refused(errUnknownReader, members)
		}
	}
	return nil
}

// A refusal is a bundle that waits because of the archive.
type refusal struct {
	why  error
	from []identity.UserID // who else is in it
}

// refused keeps in mind who the others are, for noteRefused.
func (s *Session) refused(err error, members []envelope.Member) error {
	s.refusing = nil
	for _, m := range members {
		if m.User != s.user && m.Flags&envelope.MemberCompliance == 0 && !slices.Contains(s.refusing, m.User) {
			s.refusing = append(s.refusing, m.User)
		}
	}
	return err
}

// noteRefused remembers for people what was just refused.
func (s *Session) noteRefused(id bundle.ID, why error) {
	if len(s.turnedAway) < maxPending {
		s.turnedAway[id] = refusal{why, s.refusing}
	}
}

// letIn forgets the refusals of a user who has begun an epoch as it should be:
// what counts comes in that.
func (s *Session) letIn(issuer identity.DeviceID) {
	d, ok := s.svc.cfg.Roster.Device(issuer)
	if !ok {
		return
	}
	maps.DeleteFunc(s.turnedAway, func(_ bundle.ID, r refusal) bool { return slices.Contains(r.from, d.User) })
}

// admit judges a message that was opened in an epoch that was permitted.
func (s *Session) admit(m *envelope.Opened) error {
	if s.reader(m.User) != nil && m.User != s.user {
		return errReaderSends
	}
	switch m.Inner.Type {
	case envelope.TypeText, envelope.TypeFile, envelope.TypeLocation, envelope.TypeCallRecord:
	default:
		return nil // says nothing that could be archived
	}
	info, _ := s.ring.Info(m.Epoch)
	if s.lacksReader(info.Members, int64(min(m.Inner.Sent, 1<<62))) {
		return s.refused(errUnarchived, info.Members)
	}
	return nil
}

// readerRecipients adds the readers' devices to the recipients of an epoch. ok
// is false when a reader cannot be reached: then nothing may be sent.
func (s *Session) readerRecipients(out []envelope.Recipient) ([]envelope.Recipient, bool) {
	for _, r := range s.archive.Readers {
		usable := r.User == s.user
		for _, d := range s.svc.cfg.Roster.Devices(r.User) {
			p := s.prekeyOf(d)
			if d.ID == s.device || p == nil {
				continue
			}
			usable = true
			out = append(out, envelope.Recipient{User: d.User, Device: d.ID, DeviceKey: d.Key, Prekey: p, Flags: envelope.MemberCompliance})
		}
		if !usable {
			return out, false
		}
	}
	return out, true
}

// prekeyOf is the prekey to seal to a device with, nil if none is usable.
func (s *Session) prekeyOf(d Device) *envelope.Prekey {
	known := append(slices.Clone(s.offered[d.ID]), d.Prekeys...)
	p := envelope.ChoosePrekey(known, s.svc.cfg.Clock.Now(), s.svc.cfg.MaxDelay, true)
	if p == nil || !p.Verify(s.svc.cfg.Network, d.Key) {
		return nil
	}
	return p
}

// archiveFlags are the header's flags of what is sealed in an epoch
// (decisions.md 6).
func (s *Session) archiveFlags(e envelope.EpochID) bundle.Flags {
	info, _ := s.ring.Info(e)
	if slices.ContainsFunc(info.Members, func(m envelope.Member) bool { return m.Flags&envelope.MemberCompliance != 0 }) {
		return bundle.FlagArchive
	}
	return 0
}

// Archived lists who archives what this user says and is told, to be shown
// before the next message.
func (s *Session) Archived(context.Context) ([]Archived, error) {
	if err := s.enter(); err != nil {
		return nil, err
	}
	defer s.mu.Unlock()
	var out []Archived
	for _, r := range s.archive.Readers {
		a := Archived{By: s.person(r.User), Since: time.UnixMilli(r.Since), Self: r.User == s.user}
		a.Keys = a.Self || slices.ContainsFunc(s.svc.cfg.Roster.Devices(r.User), func(d Device) bool { return s.prekeyOf(d) != nil })
		out = append(out, a)
	}
	return out, nil
}

// Refused lists what was not let in because of the archive since the user
// unlocked.
func (s *Session) Refused(context.Context) ([]Refused, error) {
	if err := s.enter(); err != nil {
		return nil, err
	}
	defer s.mu.Unlock()
	var out []Refused
	for err, code := range map[error]string{errUnarchived: RefusedUnarchived, errUnknownReader: RefusedReader} {
		r := Refused{Code: code}
		var from []identity.UserID
		for _, t := range s.turnedAway {
			if errors.Is(t.why, err) {
				r.Count++
				from = append(from, t.from...)
			}
		}
		slices.SortFunc(from, identity.UserID.Compare)
		for _, u := range slices.Compact(from) {
			r.From = append(r.From, s.person(u))
		}
		if r.Count > 0 {
			out = append(out, r)
		}
	}
	slices.SortFunc(out, func(a, b Refused) int { return len(a.Code) - len(b.Code) })
	return out, nil
}
