package chat

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"outrider/mesh/bundle"
	"outrider/mesh/envelope"
	"outrider/mesh/identity"
)

// errNoKeys means that no device of the recipient has a usable prekey here.
var errNoKeys = errors.New("chat: no keys of the recipient")

// wrapPatience is how long an epoch is written in although its start was not
// acknowledged. The start dies with the network's longest lifetime; messages
// written much later would outlive what opens them.
const wrapPatience = 24 * time.Hour

// A wrapRecord is one of our epoch starts that its reader has not confirmed.
type wrapRecord struct {
	Epoch envelope.EpochID `cbor:"1,keyasint"`
	At    int64            `cbor:"2,keyasint"` // s of Clock.Elapsed
	Own   bool             `cbor:"3,keyasint,omitempty"`
	// Homes are nodes that serve the reader and have taken it. A locked reader's
	// node cannot know the epoch's own tags yet, so whatever else of the epoch
	// they take is at the reader's node too (decisions.md 9). At most maxHomes.
	Homes []identity.NodeID `cbor:"4,keyasint,omitempty"`
}

const maxHomes = 4

func (s *Session) loadWraps() error {
	old := s.elapsed() - int64(s.svc.cfg.MaxTTL/time.Second)
	for name, v := range s.recs.Records(recWrap) {
		id, err := bundle.ParseID(name[len(recWrap):])
		if err != nil {
			return errShape
		}
		var w wrapRecord
		if err := identity.Unmarshal(v, &w); err != nil {
			return errShape
		}
		if w.At < old {
			if err := s.recs.PutRecord(name, nil); err != nil {
				return err
			}
			continue
		}
		s.wraps[id] = w
	}
	return nil
}

// recipients lists the devices a message to a user is sealed for: all of
// theirs, and the other ones of our own, as far as they have usable prekeys,
// and the compliance readers'. ok is false when none of theirs has, or none of
// a reader's.
func (s *Session) recipients(peer identity.UserID) (out []envelope.Recipient, ok bool) {
	for _, user := range []identity.UserID{peer, s.user} {
		for _, d := range s.svc.cfg.Roster.Devices(user) {
			p := s.prekeyOf(d)
			if d.ID == s.device || p == nil {
				continue
			}
			out = append(out, envelope.Recipient{User: d.User, Device: d.ID, DeviceKey: d.Key, Prekey: p})
			ok = ok || user == peer
		}
	}
	if !ok {
		return out, false
	}
	return s.readerRecipients(out)
}

// reachable tells whether a message to a user could be sealed now.
func (s *Session) reachable(peer identity.UserID) bool {
	_, ok := s.recipients(peer)
	return ok
}

func (s *Session) conversation(peer identity.UserID) envelope.ConversationID {
	return envelope.DirectConversation(s.svc.cfg.Network, s.user, peer)
}

// epochFor returns the epoch to write to a user in, starting one if there is
// none for exactly the devices of now.
func (s *Session) epochFor(ctx context.Context, peer identity.UserID, p bundle.Precedence) (envelope.EpochID, error) {
	if s.archives() {
		return envelope.EpochID{}, ErrReceiveOnly
	}
	to, ok := s.recipients(peer)
	if !ok {
		return envelope.EpochID{}, errNoKeys
	}
	members := []envelope.Member{{User: s.user, Device: s.device}}
	for _, r := range to {
		members = append(members, envelope.Member{User: r.User, Device: r.Device, Flags: r.Flags})
	}
	if id, ok := s.ring.EpochFor(s.conversation(peer), members); ok && !s.unconfirmed(id) {
		return id, nil
	}
	return s.startEpoch(ctx, to, p)
}

// unconfirmed tells whether the start of an epoch has been under way for too
// long.
func (s *Session) unconfirmed(id envelope.EpochID) bool {
	limit := s.elapsed() - int64(wrapPatience/time.Second)
	for _, w := range s.wraps {
		if w.Epoch == id && w.At < limit {
			return true
		}
	}
	return false
}

// startEpoch starts an epoch: its tags are watched, its wraps are in the
// agent's custody when it returns nil. After an error or a crash the keyring
// does not use it.
func (s *Session) startEpoch(ctx context.Context, to []envelope.Recipient, p bundle.Precedence) (envelope.EpochID, error) {
	before := s.ring.Tags()
	id, wraps, err := s.ring.StartEpoch(to, envelope.EpochOptions{
		Header: func(tag identity.Tag, purge envelope.PurgeKey) ([]byte, error) {
			// Nothing of the epoch can be read without it, so it goes ahead of
			// routine mail and lives as long as the network permits.
			h, err := s.header(tag, max(p, bundle.Priority), s.svc.cfg.MaxTTL, bundle.PurgeKey(purge), bundle.KindEpoch, 0)
			return h.Raw(), err
		},
	})
	if err != nil {
		return id, fmt.Errorf("chat: start epoch: %w", err)
	}
	bundles, err := s.noteWraps(ctx, id, wraps)
	if err != nil {
		return id, err
	}
	if err := s.learn(ctx, id, before); err != nil {
		return id, err
	}
	for _, b := range bundles {
		if err := s.svc.cfg.Agent.Submit(ctx, b); err != nil {
			return id, fmt.Errorf("chat: hand over epoch start: %w", err)
		}
	}
	return id, nil
}

// noteWraps makes the bundles of the wraps and remembers them until they are
// confirmed.
func (s *Session) noteWraps(ctx context.Context, id envelope.EpochID, wraps []envelope.Wrap) ([]bundle.Bundle, error) {
	t := s.begin()
	var bundles []bundle.Bundle
	for _, w := range wraps {
		h, err := bundle.ParseHeader(w.Header)
		if err != nil {
			return nil, fmt.Errorf("chat: epoch start: %w", err)
		}
		b := bundle.Bundle{Header: h, Payload: w.Payload}
		bundles = append(bundles, b)
		rec := wrapRecord{Epoch: id, At: s.elapsed(), Own: s.isOwn(w.Device)}
		s.record(t, recWrap+b.ID().String(), rec)
		t.then(func() { s.wraps[b.ID()] = rec })
		if w.NoFS {
			s.record(t, recWeak+id.String(), true)
		}
	}
	return bundles, s.commit(ctx, t)
}

// record adds a change of a named record to a tx; nil deletes it.
func (s *Session) record(t *tx, name string, v any) {
	var b []byte
	if v != nil {
		var err error
		if b, err = identity.Marshal(v); err != nil {
			t.err = errors.Join(t.err, err)
			return
		}
	}
	t.addErr(s.recs.op(name, b))
	t.then(func() { s.recs.note(name, b) })
}

func (s *Session) hasRecord(name string) bool { return s.recs.vals[name] != nil }

// readRecord reads a named record; false when there is none.
func (s *Session) readRecord(name string, v any) bool {
	b := s.recs.vals[name]
	return b != nil && identity.Unmarshal(b, v) == nil
}

func (s *Session) isWeak(id envelope.EpochID) bool { return s.hasRecord(recWeak + id.String()) }

// learn watches the tags of a new epoch and remembers which they are.
func (s *Session) learn(ctx context.Context, id envelope.EpochID, before []identity.Tag) error {
	var tags []byte
	for _, t := range s.ring.Tags() {
		if _, old := slices.BinarySearchFunc(before, t, identity.Tag.Compare); !old {
			tags = append(tags, t[:]...)
		}
	}
	if err := s.recs.PutRecord(recTags+id.String(), tags); err != nil {
		return err
	}
	return s.watch(ctx)
}

// epochOf finds the epoch a tag belongs to.
func (s *Session) epochOf(t identity.Tag) (id envelope.EpochID, ok bool) {
	for name, tags := range s.recs.vals {
		if len(name) != len(recTags)+16 || name[:len(recTags)] != recTags {
			continue
		}
		for c := range slices.Chunk(tags, len(t)) {
			if string(c) == string(t[:]) {
				return id, id.UnmarshalText([]byte(name[len(recTags):])) == nil
			}
		}
	}
	return id, false
}

// hostedReaders lists the users of this node that belong to the epoch of a tag.
func (s *Session) hostedReaders(t identity.Tag) (out []identity.UserID) {
	id, ok := s.epochOf(t)
	if !ok {
		return nil
	}
	hosted, err := s.svc.cfg.Accounts.Users()
	if err != nil {
		s.log.Warn("chat: list hosted users", "err", err)
		return nil
	}
	info, _ := s.ring.Info(id)
	for _, m := range info.Members {
		if slices.Contains(hosted, m.User) && !slices.Contains(out, m.User) {
			out = append(out, m.User)
		}
	}
	return out
}

// isOwn tells whether a device is one of this user's.
func (s *Session) isOwn(d identity.DeviceID) bool {
	dev, ok := s.svc.cfg.Roster.Device(d)
	return ok && dev.User == s.user
}

// wrapCarried notes a node that serves the recipient and took an epoch's start,
// and that what it took before of the epoch is at the recipient's node.
func (s *Session) wrapCarried(ctx context.Context, ev Carried) error {
	w := s.wraps[ev.ID]
	if !ev.AtReader || w.Own || len(w.Homes) >= maxHomes || slices.Contains(w.Homes, ev.Peer) {
		return nil
	}
	w.Homes = append(slices.Clone(w.Homes), ev.Peer)
	t := s.begin()
	s.record(t, recWrap+ev.ID.String(), w)
	t.then(func() { s.wraps[ev.ID] = w })
	if err := s.commit(ctx, t); err != nil {
		return err
	}
	for id := range s.outgoing {
		r, err := s.get(id)
		if err != nil || r.Sealed == nil || r.Sealed.Epoch != w.Epoch || r.State != StateCarried {
			continue // a row that cannot be read is somebody else's to report
		}
		if slices.Contains(s.svc.cfg.Agent.Explain(ctx, r.Sealed.ID).Carriers, ev.Peer) {
			if err := s.raise(ctx, r, StateAtNode); err != nil {
				return err
			}
		}
	}
	return nil
}

// atHome tells whether one of nodes serves the recipient of an epoch.
func (s *Session) atHome(id envelope.EpochID, nodes ...identity.NodeID) bool {
	for _, w := range s.wraps {
		if w.Epoch == id && slices.ContainsFunc(nodes, func(n identity.NodeID) bool { return slices.Contains(w.Homes, n) }) {
			return true
		}
	}
	return false
}

// confirmWrap forgets a wrap that its reader has purged, or that has expired.
func (s *Session) confirmWrap(id bundle.ID) bool {
	if _, ok := s.wraps[id]; !ok {
		return false
	}
	delete(s.wraps, id)
	if err := s.recs.PutRecord(recWrap+id.String(), nil); err != nil {
		s.log.Warn("chat: forget epoch start", "err", err) // forgotten at the next unlocking
	}
	return true
}

// forgetEpochs drops the records of epochs that the keyring has destroyed.
func (s *Session) forgetEpochs() error {
	for name := range s.recs.Records(recTags) {
		var id envelope.EpochID
		if id.UnmarshalText([]byte(name[len(recTags):])) != nil {
			return errShape
		}
		if _, ok := s.ring.Info(id); ok {
			continue
		}
		for _, prefix := range []string{recWeak, recShown, recFiles, recNewest, recAcked, recTags} { // what finds them last
			if err := s.forgetRecords(prefix + id.String()); err != nil {
				return err
			}
		}
	}
	return nil
}

func (s *Session) forgetRecords(prefix string) error {
	for n := range s.recs.Records(prefix) {
		if err := s.recs.PutRecord(n, nil); err != nil {
			return err
		}
	}
	return nil
}
