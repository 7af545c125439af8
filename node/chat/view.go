package chat

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"time"

	"outrider/mesh/identity"
)

// Reason codes. API.md lists them.
const (
	failRevoked = "revoked"
	failFull    = "store_full"
	failNoRoom  = "no_room"

	failUnarchived = "archive_started"
	failKeyChanged = "key_changed"
)

// count is how many devices of the recipient have the message, of how many.
// A file counts when all of it is there.
func (r *record) count() (n, of int) {
	for _, d := range r.Devices {
		if d.Own {
			continue
		}
		of++
		if d.Got && (r.File == nil || d.File || r.Sole && r.File.Arrived) {
			n++
		}
	}
	return n, of
}

// stateOf is the state of a message now.
func (s *Session) stateOf(r *record) State {
	switch {
	case r.State == StateRecalled:
		return StateRecalled
	case !r.Out && r.Read:
		return StateRead
	case !r.Out:
		return StateDelivered
	}
	n, _ := r.count()
	switch {
	case n > 0 && slices.ContainsFunc(r.Devices, func(d deviceRecord) bool { return d.Read && !d.Own }):
		return StateRead
	case n > 0:
		return StateDelivered
	case r.State == StateExpired || s.elapsed() >= r.Ends:
		return StateExpired
	}
	return r.State
}

// view makes what a user sees of a record.
func (s *Session) view(r *record) Message {
	now, elapsed := s.svc.cfg.Clock.Now(), s.elapsed()
	m := Message{
		ID: r.Msg, Conversation: r.Conv, Out: r.Out, Type: r.Type, Text: r.Text, Precedence: r.Prec,
		Sent: time.UnixMilli(r.SentMS), Expires: now.Add(time.Duration(r.Ends-elapsed) * time.Second).Truncate(time.Second),
		BurnAfter: time.Duration(r.Burn) * time.Second, State: s.stateOf(r), Hops: r.Hops,
	}
	self, peer := s.person(s.user), s.person(r.Peer)
	if m.From, m.To = self, peer; !r.Out {
		m.From, m.To = peer, self
		m.Received, m.Unread = time.UnixMilli(r.GotMS), !r.Read
		m.Sent = time.UnixMilli(min(r.SentMS, r.GotMS)) // a sender's clock may be ahead; nothing comes before it was sent
	}
	if r.State == StateExpired {
		m.Expires = time.UnixMilli(r.SentMS).Add(time.Duration(r.TTL) * time.Second)
	}
	m.Withheld = s.withheld(r)
	if r.File != nil && m.Withheld == "" {
		f, _ := s.fileView(r)
		m.File = &f
	}
	if r.Loc != nil && m.Withheld == "" {
		m.Location = locationView(r.Loc)
	}
	if r.Call != nil {
		m.Call = callView(r.Call)
	}
	if s.ending(r) != endsLater {
		m.Text, m.File, m.Location, m.Call = "", nil, nil, nil // the sweep has not come by yet
	}
	m.Delivered, m.Devices = r.count()
	m.Reason = s.reason(r, m)
	m.Dismissed = r.Aside == m.State
	return m
}

// reason says why a message does not go on, or what is special about it.
func (s *Session) reason(r *record, m Message) Reason {
	if m.Withheld != "" && r.State != StateRecalled {
		return withheldReason(r.Type, m.Withheld)
	}
	if !r.Out {
		return r.incomingReason()
	}
	name := m.To.Name
	if g := s.stopped(r); g != "" && (m.State == StateQueued || m.State == StateWaiting) {
		return Reason{"policy", "the policy of group " + g + " forbids it now", "it goes by itself when a newer policy allows it; or recall it"}
	}
	if g := s.withheldThere(r); g != "" && rank[m.State] >= rank[StateQueued] && (m.State == StateQueued || m.State == StateCarried || m.State == StateAtCore || m.State == StateAtNode) {
		return Reason{"withheld", "the policy of group " + g + " withholds it from " + name, "nothing to do: " + name + " gets it when a newer policy allows it"}
	}
	switch m.State {
	case StateWaiting:
		if _, ok := s.readerRecipients(nil); !ok {
			return Reason{"no_archive_keys", "this network is archived, and the keys of its archive have not arrived at this node",
				"they come by themselves with the next contact that has them; the message then goes by itself"}
		}
		if s.unknown(r.Peer) {
			return Reason{"unknown_id", "nobody with the identifier " + r.Peer.String() + " is known at this node",
				"compare it with theirs: if it is right, the message goes by itself once their keys have arrived, else recall it"}
		}
		return Reason{"no_keys", "the keys of " + name + " have not arrived at this node",
			"they come by themselves with the next contact that has them; the message then goes by itself"}
	case StateFailed:
		return failReason(r.Fail, name)
	case StateExpired:
		return Reason{"expired", "its time ran out before it reached " + name, "send it again if it still matters"}
	case StateQueued:
		if c := s.svc.cfg.Agent.Contacts(); c.Neighbours == 0 && !c.Core {
			return Reason{"no_contact", "no other node is in contact", "move closer, or check the links; it goes by itself with the next contact"}
		}
		return Reason{"underway", "no neighbour has taken it yet", "nothing to do"}
	case StateCarried, StateAtCore, StateAtNode:
		if r.File != nil && slices.ContainsFunc(r.Devices, func(d deviceRecord) bool { return d.Got && !d.Own }) {
			return Reason{"file_underway", "the announcement has arrived, parts of the file are still on the way", "nothing to do"}
		}
		if m.State == StateAtNode {
			return Reason{"not_opened", "the node of " + name + " has it; " + name + " has not opened it yet", "nothing to do: it opens when " + name + " logs in"}
		}
	}
	if r.Weak && m.State != StateRecalled {
		return Reason{"weak_keys", "it was sealed with a long-lived key, because no newer one of " + name + " was known", "nothing to do; later messages use newer keys"}
	}
	return Reason{}
}

func (r *record) incomingReason() Reason {
	switch {
	case r.State == StateRecalled:
		return Reason{"recalled", "the sender took it back", ""}
	case r.Gone:
		return Reason{"burned", "it was shredded after reading, as its sender asked", ""}
	case r.Clone:
		return Reason{"cloned", "two different messages claim one place: the sender's device was copied or rolled back", "ask the sender by another way, and have the device revoked"}
	case r.File != nil && r.File.Bad:
		return Reason{"file_bad", "the file is not what its sender announced", "ask for it again"}
	case r.File != nil && !r.File.Done:
		return Reason{"file_underway", "parts of the file are still on the way", "nothing to do"}
	}
	return Reason{}
}

func failReason(code, name string) Reason {
	switch code {
	case failRevoked:
		return Reason{code, "the certificates of " + name + " were revoked", "recall the message; ask an administrator"}
	case failFull:
		return Reason{code, "this node has no room for it", "free space or raise the limit, then retry"}
	case failUnarchived:
		return Reason{code, "it was written before this node knew that the network is archived, and is not delivered without the archive",
			"retry it, then it is archived too; or recall it"}
	case failKeyChanged:
		return Reason{code, name + " has another key than the one that you compared, and nobody can open this any more",
			"compare the new key, then retry: it is sealed for that one; or recall it"}
	case failNoRoom:
		return Reason{code, "too many conversations are open at once", "retry tomorrow, or recall what is no longer needed"}
	}
	return Reason{code, "it cannot go on", "retry, or recall it"}
}

// person describes a user.
func (s *Session) person(id identity.UserID) Person {
	return Person{ID: id, Name: s.svc.nameOf(id), Self: id == s.user}
}

// Self is the session's user.
func (s *Session) Self() Person {
	p := s.person(s.user)
	p.Here, p.HasKeys, p.Devices = true, true, len(s.svc.cfg.Roster.Devices(s.user))
	return p
}

// People lists everybody the roster knows.
func (s *Session) People(context.Context) ([]Person, error) {
	if err := s.enter(); err != nil {
		return nil, err
	}
	defer s.mu.Unlock()
	hosted, err := s.svc.cfg.Accounts.Users()
	if err != nil {
		return nil, fmt.Errorf("chat: list hosted users: %w", err)
	}
	var out []Person
	for _, u := range s.svc.cfg.Roster.Users() {
		out = append(out, s.describe(u.ID, hosted))
	}
	slices.SortFunc(out, func(a, b Person) int { return cmp.Or(cmp.Compare(a.Name, b.Name), a.ID.Compare(b.ID)) })
	return out, nil
}

// describe is all that is known of a person.
func (s *Session) describe(id identity.UserID, hosted []identity.UserID) Person {
	p := s.person(id)
	p.Here, p.Devices = slices.Contains(hosted, id), len(s.svc.cfg.Roster.Devices(id))
	p.HasKeys, p.Archive = p.Self || s.reachable(id), s.reader(id) != nil
	return s.withKey(p)
}

// Resolve finds the person that an id or a unique name stands for. An id need
// not be known: the message then waits for keys.
func (s *Session) Resolve(_ context.Context, nameOrID string) (identity.UserID, error) {
	if id, err := identity.ParseUserID(nameOrID); err == nil {
		return id, nil
	}
	found := called(s.svc.cfg.Roster.Users(), nameOrID)
	if len(found) == 0 {
		found = called(s.svc.cfg.Roster.Invited(), nameOrID)
	}
	switch len(found) {
	case 0:
		return identity.UserID{}, &plain{"nobody known here has that name", ErrNotFound}
	case 1:
		return found[0], nil
	}
	return identity.UserID{}, &plain{fmt.Sprintf("%d people have that name: use the id", len(found)), ErrAmbiguous}
}

// called returns those who have a name.
func called(list []User, name string) (ids []identity.UserID) {
	for _, u := range list {
		if u.Name == name {
			ids = append(ids, u.ID)
		}
	}
	return ids
}

// unknown tells whether nothing here names a person: neither the roster, nor
// what this user knows of keys. The id may be mistyped, or of somebody who was
// enrolled where this node has not been since.
func (s *Session) unknown(id identity.UserID) bool {
	r := s.svc.cfg.Roster
	if _, met := s.trusted(id); met || r.Revoked(id) {
		return false
	}
	if _, ok := r.User(id); ok {
		return false
	}
	_, heard := r.Heard(id)
	return !heard
}

// Conversations lists all conversations, the newest first.
func (s *Session) Conversations(context.Context) ([]Conversation, error) {
	if err := s.enter(); err != nil {
		return nil, err
	}
	defer s.mu.Unlock()
	var out []Conversation
	at := make(map[ConversationID]int64)
	for id, c := range s.convs {
		if c.Peer == s.user {
			continue // the archive's queue
		}
		conv := Conversation{ID: id, With: s.person(c.Peer), Unread: c.Unread}
		last, err := s.newest(id, c)
		if err != nil {
			return nil, err
		}
		if last != nil {
			m := s.view(last)
			conv.Last = &m
		}
		at[id] = c.AtMS
		out = append(out, conv)
	}
	slices.SortFunc(out, func(a, b Conversation) int {
		return cmp.Or(cmp.Compare(at[b.ID], at[a.ID]), a.With.ID.Compare(b.With.ID))
	})
	return out, nil
}

// newest is the newest message of a conversation that is still there.
func (s *Session) newest(id ConversationID, c *convRecord) (*record, error) {
	r, err := s.shown(c.Last)
	if err == nil {
		return r, nil
	}
	rows, err := s.page(id, math.MaxUint64, 1)
	if err != nil || len(rows) == 0 {
		return nil, err
	}
	return rows[0], nil
}

// page reads rows that can be read, newest first.
func (s *Session) page(conv ConversationID, before uint64, n int) (out []*record, err error) {
	for len(out) < n {
		rows, err := s.svc.cfg.Store.Rows(s.user, conv, before, n-len(out))
		if err != nil || len(rows) == 0 {
			return out, err
		}
		for _, row := range rows {
			before = row.Order
			r, err := s.read(row)
			switch {
			case err == nil && s.ending(r) == endsWhole:
			case err == nil:
				out = append(out, r)
			case !errors.Is(err, ErrNotFound) && !errors.Is(err, errUnreadable):
				return nil, err
			}
		}
	}
	return out, nil
}

// Messages returns the newest limit messages of a conversation, or those
// before a message; the newest is last.
func (s *Session) Messages(_ context.Context, conv ConversationID, before MessageID, limit int) ([]Message, error) {
	if limit < 1 || limit > MaxPage {
		return nil, fmt.Errorf("chat: a page has 1 to %d messages: %w", MaxPage, ErrInvalid)
	}
	if err := s.enter(); err != nil {
		return nil, err
	}
	defer s.mu.Unlock()
	if s.convs[conv] == nil {
		return nil, ErrNotFound
	}
	from := uint64(math.MaxUint64)
	if !before.IsZero() {
		row, err := s.svc.cfg.Store.Row(s.user, before)
		if err != nil || row.Conv != conv {
			return nil, cmp.Or(notFound(err), ErrNotFound)
		}
		from = row.Order
	}
	rows, err := s.page(conv, from, limit)
	if err != nil {
		return nil, err
	}
	out := make([]Message, 0, len(rows))
	for _, r := range reversed(rows) {
		out = append(out, s.view(r))
	}
	return out, nil
}

// Message returns one message.
func (s *Session) Message(ctx context.Context, id MessageID) (Message, error) {
	return s.act(ctx, id, func(context.Context, *record) error { return nil })
}

// Failures lists what cannot go on without something happening: messages that
// have failed, have expired undelivered, or wait for keys; oldest first. What
// the user dismissed stays out while it is in the same state.
func (s *Session) Failures(context.Context) ([]Message, error) {
	if err := s.enter(); err != nil {
		return nil, err
	}
	defer s.mu.Unlock()
	var out []Message
	for id := range s.outgoing {
		r, err := s.get(id)
		if errors.Is(err, ErrNotFound) || errors.Is(err, errUnreadable) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("chat: list failures: %w", err)
		}
		if st := s.stateOf(r); stuck(st) && r.Aside != st {
			out = append(out, s.view(r))
		}
	}
	slices.SortFunc(out, func(a, b Message) int { return a.Sent.Compare(b.Sent) })
	return out, nil
}

// stuck tells whether a message in that state is one of the failures.
func stuck(st State) bool { return st == StateFailed || st == StateExpired || st == StateWaiting }

// Dismiss takes a message out of the list of failures for good. In another
// state it is listed again.
func (s *Session) Dismiss(ctx context.Context, id MessageID) (Message, error) {
	return s.act(ctx, id, func(ctx context.Context, r *record) error {
		st := s.stateOf(r)
		if !r.Out || !stuck(st) {
			return fmt.Errorf("%w: only what is among the failures can be dismissed", ErrState)
		}
		if r.Aside == st {
			return nil
		}
		r.Aside = st
		if err := s.save(ctx, r); err != nil {
			return err
		}
		s.changed(r)
		return nil
	})
}

// Files lists the messages with files of all conversations, the newest first:
// at most limit of those older than before. A file whose content was shredded
// is not among them.
func (s *Session) Files(_ context.Context, before MessageID, limit int) ([]Message, error) {
	if limit < 1 || limit > MaxPage {
		return nil, fmt.Errorf("chat: a page has 1 to %d messages: %w", MaxPage, ErrInvalid)
	}
	if err := s.enter(); err != nil {
		return nil, err
	}
	defer s.mu.Unlock()
	var end *record
	if !before.IsZero() {
		r, err := s.get(before)
		if err != nil {
			return nil, notFound(err)
		}
		end = r
	}
	var found []*record
	for _, id := range s.svc.pinnedBy() {
		r, err := s.get(id)
		switch {
		case errors.Is(err, ErrNotFound), errors.Is(err, errUnreadable): // another user's
			continue
		case err != nil:
			return nil, fmt.Errorf("chat: list files: %w", err)
		}
		if r.File == nil || r.Arch != nil || s.withheld(r) != "" || s.ending(r) != endsLater || end != nil && r.newer(end) >= 0 {
			continue
		}
		found = append(found, r)
	}
	slices.SortFunc(found, func(a, b *record) int { return b.newer(a) })
	out := make([]Message, 0, min(limit, len(found)))
	for _, r := range found[:min(limit, len(found))] {
		out = append(out, s.view(r))
	}
	return out, nil
}

// newer orders messages by when they came to be here.
func (r *record) newer(o *record) int {
	at := func(r *record) int64 {
		if r.GotMS > 0 {
			return r.GotMS
		}
		return r.SentMS
	}
	return cmp.Or(cmp.Compare(at(r), at(o)), slices.Compare(r.Msg[:], o.Msg[:]))
}
