package chat

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"strings"

	"outrider/mesh/identity"
)

// recTrust + user id: what this user knows of another's key.
const recTrust = "trust/"

// ErrOtherKey means that the key that was compared is not the person's any
// more.
var ErrOtherKey = errors.New("chat: the person has another key now")

// A trust is what a user knows of another's key: the first one that was seen
// is taken, as long as nobody says otherwise; a later one is told about until
// the user has taken note of it.
type trust struct {
	key      identity.PublicKey
	verified bool // compared by another way
}

func (t trust) encode() []byte {
	b := append(make([]byte, 0, 33), 0)
	if t.verified {
		b[0] = 1
	}
	return append(b, t.key[:]...)
}

func parseTrust(b []byte) (t trust, ok bool) {
	if len(b) != 1+len(t.key) {
		return t, false
	}
	copy(t.key[:], b[1:])
	t.verified = b[0] == 1
	return t, true
}

// Fingerprint is a person's key as six groups of five digits, to be compared
// by voice: 99 bits of a hash over user and key.
func Fingerprint(user identity.UserID, key identity.PublicKey) string {
	h := identity.Hash(identity.LabelFingerprint, user[:], key[:])
	groups := make([]string, 6)
	for i := range groups {
		v := uint64(h[5*i])<<32 | uint64(binary.BigEndian.Uint32(h[5*i+1:]))
		groups[i] = fmt.Sprintf("%05d", v%100_000)
	}
	return strings.Join(groups, " ")
}

// trusted returns what is known of a person's key.
func (s *Session) trusted(user identity.UserID) (trust, bool) {
	return parseTrust(s.recs.vals[recTrust+user.String()])
}

// meetPeople takes the keys of people who were never seen before for theirs.
// What cannot be written now is met again with the next change.
func (s *Session) meetPeople(ctx context.Context) {
	if err := s.meetNew(ctx); err != nil && !quiet(err) {
		s.log.Warn("chat: note people's keys", "err", err)
	}
}

func (s *Session) meetNew(ctx context.Context) error {
	t := s.begin()
	for _, u := range s.svc.cfg.Roster.Users() {
		if _, known := s.trusted(u.ID); known || u.ID == s.user {
			continue
		}
		s.trustOp(t, u.ID, trust{key: u.Key})
	}
	return s.commitRows(ctx, t)
}

func (s *Session) trustOp(t *tx, user identity.UserID, tr trust) {
	name, value := recTrust+user.String(), tr.encode()
	t.addErr(s.recs.op(name, value))
	t.then(func() { s.recs.note(name, value) })
}

// withKey adds to a person what is known of the key.
func (s *Session) withKey(p Person) Person {
	u, ok := s.svc.cfg.Roster.User(p.ID)
	if !ok {
		return p
	}
	p.Fingerprint, p.Frozen = Fingerprint(u.ID, u.Key), u.Frozen
	if tr, known := s.trusted(u.ID); known && !p.Self {
		p.KeyChanged = tr.key != u.Key
		p.Verified = tr.verified && !p.KeyChanged
	}
	return p
}

// Trust notes that the user has looked at a person's key: with verified, that
// the fingerprint was compared by another way; without, only that it is this
// one now. The fingerprint is the one that was compared: if the key has
// changed meanwhile the error is ErrOtherKey.
func (s *Session) Trust(ctx context.Context, id identity.UserID, fingerprint string, verified bool) (Person, error) {
	if err := s.enter(); err != nil {
		return Person{}, err
	}
	defer s.mu.Unlock()
	u, ok := s.svc.cfg.Roster.User(id)
	switch {
	case !ok:
		return Person{}, ErrNotFound
	case id == s.user:
		return Person{}, fmt.Errorf("chat: one's own key needs no comparing: %w", ErrInvalid)
	case fingerprint != Fingerprint(u.ID, u.Key):
		return Person{}, ErrOtherKey
	}
	hosted, err := s.svc.cfg.Accounts.Users()
	if err != nil {
		return Person{}, fmt.Errorf("chat: list hosted users: %w", err)
	}
	t := s.begin()
	s.trustOp(t, id, trust{key: u.Key, verified: verified})
	if err := s.commitRows(context.WithoutCancel(ctx), t); err != nil {
		return Person{}, err
	}
	s.notify(Update{Kind: UpdateContact})
	return s.describe(u.ID, hosted), nil
}
