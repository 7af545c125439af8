package chat

import (
	"context"
	"errors"
	"math"
	"time"

	"outrider/mesh/bundle"
	"outrider/mesh/envelope"
	"outrider/mesh/identity"
)

// rekeyPause is how often a device is asked for a new epoch, or may ask us.
const rekeyPause = 24 * time.Hour

// rekeyDue tells whether a pause is over and begins the next one.
func (s *Session) rekeyDue(who string) bool {
	name := recAsked + who
	var last int64
	if s.readRecord(name, &last) && s.elapsed()-last < int64(rekeyPause/time.Second) {
		return false
	}
	b, err := identity.Marshal(s.elapsed())
	if err == nil {
		err = s.recs.PutRecord(name, b)
	}
	return err == nil
}

// askRekey asks the authors of an epoch to start a new one and to seal again
// what cannot be opened here any more.
func (s *Session) askRekey(ctx context.Context, t identity.Tag, why envelope.RekeyReason) {
	old, ok := s.epochOf(t)
	if !ok || s.isArchive(old) { // a reader asks nobody
		return
	}
	peer := s.otherMember(old)
	if peer.IsZero() || !s.rekeyDue("to/"+peer.String()) {
		return
	}
	if err := s.sendNeedRekey(ctx, old, peer, why); err != nil && !quiet(err) {
		s.log.Warn("chat: ask for a new epoch", "err", err)
	}
}

func (s *Session) sendNeedRekey(ctx context.Context, old envelope.EpochID, peer identity.UserID, why envelope.RekeyReason) error {
	n := envelope.NeedRekey{Reason: why, Epochs: []envelope.EpochID{old}, Missing: trim(s.ring.Missing(old))}
	raw, err := s.ring.Prekeys()
	if err != nil {
		return err
	}
	for _, b := range raw[max(0, len(raw)-2):] { // the current one and the next
		p, err := identity.ParsePrekey(b)
		if err != nil {
			return err
		}
		n.Prekeys = append(n.Prekeys, p)
	}
	body, err := n.Encode()
	if err != nil {
		return err
	}
	if err := s.ring.Refresh(s.conversation(peer)); err != nil {
		return err
	}
	epoch, err := s.epochFor(ctx, peer, bundle.Priority)
	if err != nil {
		return err
	}
	_, err = s.sendControl(ctx, epoch, envelope.TypeNeedRekey, body, bundle.Priority, receiptLife)
	return err
}

// maxResealed bounds what one request to rekey can make us send again.
const maxResealed = 500

// takeNeedRekey answers a device that cannot read what we sent.
func (s *Session) takeNeedRekey(o *opening, m *envelope.Opened) error {
	n, err := envelope.ParseNeedRekey(m.Inner.Body)
	if err != nil {
		return err
	}
	if m.User == s.user {
		return nil
	}
	o.after = append(o.after, func(ctx context.Context) {
		if s.rekeyDue("by/" + m.Device.String()) {
			if err := s.rekey(ctx, m.User, m.Device, n); err != nil && !quiet(err) {
				s.log.Warn("chat: seal again", "err", err)
			}
		}
	})
	return nil
}

// rekey starts a new epoch with the next message and seals what the device
// has not acknowledged again.
func (s *Session) rekey(ctx context.Context, peer identity.UserID, device identity.DeviceID, n envelope.NeedRekey) error {
	s.offered[device] = n.Prekeys // not believed: their signatures are checked when they are used
	if err := s.ring.Refresh(s.conversation(peer)); err != nil {
		return err
	}
	old := make(map[envelope.EpochID]bool)
	for _, e := range n.Epochs {
		old[e] = true
	}
	for _, c := range n.Missing {
		old[c.Epoch] = true
	}
	again, err := s.unacknowledged(peer, device, old)
	if err != nil {
		return err
	}
	for _, r := range again {
		if err := s.reseal(ctx, r); err != nil {
			return err
		}
	}
	return nil
}

// unacknowledged lists our messages to a user that a device has not confirmed
// and that were sealed in one of the epochs, oldest first.
func (s *Session) unacknowledged(peer identity.UserID, device identity.DeviceID, in map[envelope.EpochID]bool) ([]*record, error) {
	var out []*record
	before := uint64(math.MaxUint64)
	for pages := 0; pages < 50 && len(out) < maxResealed; pages++ {
		rows, err := s.svc.cfg.Store.Rows(s.user, s.convOf(peer), before, MaxPage)
		if err != nil || len(rows) == 0 {
			return reversed(out), err
		}
		for _, row := range rows {
			before = row.Order
			if r, err := s.read(row); err == nil && r.wanted(device, in) && s.elapsed() < r.Ends {
				out = append(out, r)
			}
		}
	}
	return reversed(out), nil
}

func (r *record) wanted(device identity.DeviceID, in map[envelope.EpochID]bool) bool {
	if !r.Out || r.Synced || r.Gone || r.Sealed == nil || !in[r.Sealed.Epoch] {
		return false
	}
	for _, d := range r.Devices {
		if d.ID == device {
			return !d.Got
		}
	}
	return true // it was not among the readers
}

func reversed[T any](in []T) []T {
	out := make([]T, len(in))
	for i, v := range in {
		out[len(in)-1-i] = v
	}
	return out
}

// maxPast is how many sealings of a message are remembered.
const maxPast = 8

// reseal seals a message anew, in the epoch of now. A bundle that only the
// asking device could read is withdrawn.
func (s *Session) reseal(ctx context.Context, r *record) error {
	old, oldBlob, sole := *r.Sealed, r.blob(), r.Sole
	r.Past = append([]sealedRecord{old}, r.Past[:min(len(r.Past), maxPast-1)]...)
	r.Sealed = nil
	t := s.begin()
	t.add(s.dropName(nameBundle, old.ID[:]))
	if r.File != nil && oldBlob != nil {
		r.File.Blob = nil
		t.add(s.dropName(nameBundle, oldBlob.ID[:]))
	}
	r.State, r.Fail = StateQueued, ""
	s.change(t, r)
	t.add(PutKV{Bucket: bucketChat, Key: s.key(kindOpen, r.Msg[:]), Value: []byte{1}})
	if err := s.commit(ctx, t); err != nil {
		return err
	}
	s.outgoing[r.Msg] = true
	if err := s.advance(ctx, r); err != nil && !errors.Is(err, ErrFull) {
		return err
	}
	if sole && s.taken(r) {
		s.purgeOwn(ctx, old)
		if oldBlob != nil {
			s.purgeOwn(ctx, *oldBlob)
		}
	}
	s.changed(r)
	return nil
}
