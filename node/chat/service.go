package chat

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"outrider/mesh/blob"
	"outrider/mesh/bundle"
	"outrider/mesh/identity"
	"outrider/mesh/identity/kdf"
)

// Config is what a Service is made of.
type Config struct {
	Self     identity.NodeID
	Network  identity.NetworkID
	TagKeys  [][32]byte // of the network's generations, newest first
	MaxTTL   time.Duration
	MaxDelay time.Duration // D: how long secrets for late mail are kept

	Agent    Agent
	Store    Store
	Accounts Accounts
	Outgrown Outgrown // nil: nobody's keys are ever replaced
	// Aside lists the names under which content of replaced keys lies
	// (AsideID); nil: there is none.
	Aside   func() []identity.UserID
	Renewer Renewer // nil: devices end with their first certificate
	Blobs   Blobs
	Roster  Roster
	// Policies tells what users may not do; nil: everything is allowed.
	Policies Policies
	Archive  Archive // nil: nobody archives
	Clock    Clock
	// Notify tells a user's screens what changed. It must not block and must
	// not call back.
	Notify func(user identity.UserID, u Update)
	// Calls takes a step of a call that peer has told user. As Notify it must
	// not block and must not call back; nil: steps are dropped.
	Calls func(user, peer identity.UserID, c CallSignal)
	Log   *slog.Logger

	// ReceiptDelay is how long receipts are gathered; default 2 s.
	ReceiptDelay time.Duration
}

// A Service serves the users hosted on this node.
type Service struct {
	cfg Config
	log *slog.Logger

	inbox mailbox

	unlocking sync.Mutex // one change of who is unlocked at a time

	mu        sync.Mutex
	sessions  map[identity.UserID]*Session
	watched   map[identity.Tag][]identity.UserID // of all users, also locked ones
	doneBy    map[bundle.ID][]identity.UserID    // bundles for several users that some have opened
	pins      map[blob.Root][]MessageID          // blobs that messages here need
	waiting   map[identity.UserID]map[bundle.ID]bool
	archivers map[identity.UserID]archiver // who drains the queues of readers
	banner    Banner
	running   context.Context // nil while Run does not run
	jobs      sync.WaitGroup
}

// New returns a service. Users whose mail it watches for are read when Run
// begins.
func New(cfg Config) *Service {
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if cfg.Notify == nil {
		cfg.Notify = func(identity.UserID, Update) {}
	}
	if cfg.Policies == nil {
		cfg.Policies = everything{}
	}
	if cfg.ReceiptDelay <= 0 {
		cfg.ReceiptDelay = 2 * time.Second
	}
	return &Service{
		cfg: cfg, log: cfg.Log, inbox: newMailbox(),
		sessions:  make(map[identity.UserID]*Session),
		watched:   make(map[identity.Tag][]identity.UserID),
		doneBy:    make(map[bundle.ID][]identity.UserID),
		pins:      make(map[blob.Root][]MessageID),
		waiting:   make(map[identity.UserID]map[bundle.ID]bool),
		archivers: make(map[identity.UserID]archiver),
	}
}

// Handle takes an event of the agent. It never blocks: what the agent tells is
// bounded by what it holds, and progress of one blob replaces earlier progress.
func (s *Service) Handle(ev Event) { s.inbox.put(ev) }

// Run serves until ctx ends: it opens what arrives for unlocked users, sends
// what waits, sends receipts, and shreds what has expired. When it returns,
// all users are locked.
func (s *Service) Run(ctx context.Context) error {
	if err := errors.Join(s.loadPins(), s.watchAll()); err != nil {
		return err
	}
	s.mu.Lock()
	s.running = ctx
	early := s.all() // unlocked before Run
	s.mu.Unlock()
	defer s.stop()
	for _, u := range early {
		u.resume(ctx)
	}
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	changed, policy, archived := s.cfg.Roster.Changed(), s.cfg.Policies.Changed(), s.archiveNews()
	var endedAt time.Time
	for {
		if time.Since(endedAt) >= asideEvery {
			endedAt = time.Now()
			if err := s.endAside(ctx); err != nil && ctx.Err() == nil {
				s.log.Warn("chat: what was set aside stays longer", "err", err)
			}
		}
		select {
		case <-s.inbox.ready:
			s.dispatch(ctx, s.inbox.take())
		case <-changed:
			changed = s.cfg.Roster.Changed()
			for _, u := range s.unlocked() {
				u.rosterChanged(ctx)
			}
		case <-policy:
			policy = s.cfg.Policies.Changed()
			for _, u := range s.unlocked() {
				u.policyChanged(ctx)
			}
		case <-archived:
			archived = s.archiveNews()
			for _, u := range s.unlocked() {
				u.archiveChanged(ctx)
			}
		case <-tick.C:
			for _, u := range s.unlocked() {
				u.tick(ctx)
			}
			s.refreshBanner()
		case <-ctx.Done():
			return nil
		}
	}
}

func (s *Service) stop() {
	for _, u := range s.unlocked() {
		s.Lock(u.user)
	}
	s.mu.Lock()
	s.running = nil
	s.mu.Unlock()
	s.jobs.Wait()
}

// all returns the open sessions; the caller holds mu.
func (s *Service) all() []*Session {
	out := make([]*Session, 0, len(s.sessions))
	for _, u := range s.sessions {
		out = append(out, u)
	}
	slices.SortFunc(out, func(a, b *Session) int { return a.user.Compare(b.user) })
	return out
}

func (s *Service) unlocked() []*Session {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.all()
}

// maxNamesakes is how many users of one name a login tries the password of;
// more can log in by their ids.
const maxNamesakes = 4

// Login unlocks the hosted user that name, or an id, stands for. A wrong name
// costs as much as a wrong password and looks the same. Of users who have the
// same name the password decides; ErrAmbiguous says that it is the same too,
// and only who knows it learns of them.
func (s *Service) Login(ctx context.Context, name string, password []byte) (*Session, error) {
	ids := s.hostedBy(name)
	if len(ids) == 1 {
		return s.Unlock(ctx, ids[0], password)
	}
	if len(ids) == 0 {
		if _, err := kdf.Derive(ctx, password, [16]byte{}, kdf.Default()); err != nil {
			return nil, kdfError(err)
		}
		return nil, ErrPassword
	}
	var found []identity.UserID
	failed := ErrPassword
	for _, id := range ids {
		switch err := s.check(ctx, id, password); {
		case err == nil:
			found = append(found, id)
		case !errors.Is(err, ErrPassword):
			failed = err // another namesake may still be the one
		}
	}
	switch len(found) {
	case 0:
		return nil, failed
	case 1:
		return s.Unlock(ctx, found[0], password)
	}
	return nil, &plain{fmt.Sprintf("%d users have that name here: use the id", len(found)), ErrAmbiguous}
}

// check tries a hosted user's password.
func (s *Service) check(ctx context.Context, user identity.UserID, password []byte) error {
	sealed, err := s.cfg.Accounts.Keystore(user)
	if err != nil {
		return fmt.Errorf("chat: unlock: %w", err)
	}
	_, err = OpenKeys(ctx, user, password, sealed)
	return err
}

// hostedBy returns the hosted users, at most maxNamesakes, that a name stands
// for, or the one of an id.
func (s *Service) hostedBy(name string) (found []identity.UserID) {
	hosted, err := s.cfg.Accounts.Users()
	if err != nil {
		return nil
	}
	if id, err := identity.ParseUserID(name); err == nil && slices.Contains(hosted, id) {
		return []identity.UserID{id}
	}
	for _, id := range hosted {
		if u, ok := s.cfg.Roster.User(id); ok && u.Name == name && len(found) < maxNamesakes {
			found = append(found, id)
		}
	}
	return found
}

// Unlock checks the password and opens the user's keys. A user who is
// unlocked already gets the open session, after the same check.
func (s *Service) Unlock(ctx context.Context, user identity.UserID, password []byte) (*Session, error) {
	sealed, err := s.cfg.Accounts.Keystore(user)
	if err != nil {
		return nil, fmt.Errorf("chat: unlock: %w", err)
	}
	keys, err := OpenKeys(ctx, user, password, sealed)
	if err != nil {
		return nil, err
	}
	return s.adopt(ctx, user, s.renewed(ctx, user, password, keys))
}

// adopt opens a session with keys that a password has opened.
func (s *Service) adopt(ctx context.Context, user identity.UserID, keys Keys) (*Session, error) {
	s.unlocking.Lock()
	defer s.unlocking.Unlock()
	if open, ok := s.Session(user); ok {
		return open, nil // it may have waited for the lock
	}
	u, err := s.open(ctx, user, keys)
	if err != nil {
		return nil, fmt.Errorf("chat: unlock: %w", err)
	}
	s.mu.Lock()
	s.sessions[user] = u
	delete(s.waiting, user)
	running := s.running
	s.mu.Unlock()
	if running != nil {
		s.inbox.put(resumeSession{u})
	}
	return u, nil
}

// resumeSession asks the loop to go on with what a session had begun.
type resumeSession struct{ *Session }

func (resumeSession) event() {}

// Session returns the open session of a user.
func (s *Service) Session(user identity.UserID) (*Session, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	u, ok := s.sessions[user]
	return u, ok && !u.dead.Load()
}

// Lock drops a user's keys. Mail goes on arriving at the node and waits there.
func (s *Service) Lock(user identity.UserID) {
	s.unlocking.Lock()
	defer s.unlocking.Unlock()
	s.mu.Lock()
	u := s.sessions[user]
	delete(s.sessions, user)
	s.mu.Unlock()
	if u != nil {
		u.close()
	}
}

// Hosted lists the users of this node.
func (s *Service) Hosted() []Hosted {
	ids, err := s.cfg.Accounts.Users()
	if err != nil {
		s.log.Warn("chat: list hosted users", "err", err)
		return nil
	}
	out := make([]Hosted, 0, len(ids))
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, id := range ids {
		out = append(out, Hosted{User: id, Name: s.nameOf(id), Unlocked: s.sessions[id] != nil, Waiting: len(s.waiting[id])})
	}
	slices.SortFunc(out, func(a, b Hosted) int { return cmp.Or(cmp.Compare(a.Name, b.Name), a.User.Compare(b.User)) })
	return out
}

// nameOf is the name to show for a user.
func (s *Service) nameOf(id identity.UserID) string {
	if u, ok := s.cfg.Roster.User(id); ok && u.Name != "" {
		return u.Name
	}
	if name, _ := s.cfg.Roster.Heard(id); name != "" {
		return name
	}
	return "user " + id.String()[:8]
}

// Banner tells what the network looks like from here.
func (s *Service) Banner() Banner {
	c := s.cfg.Agent.Contacts()
	b := Banner{State: BannerAlone, Contacts: c.Neighbours, CoreLast: c.CoreLast}
	switch {
	case c.Core:
		b.State = BannerCore
	case c.Neighbours > 0:
		b.State = BannerContact
	}
	return b
}

// refreshBanner tells everybody when the banner has changed.
func (s *Service) refreshBanner() {
	b := s.Banner()
	s.mu.Lock()
	same := s.banner.State == b.State && s.banner.Contacts == b.Contacts
	s.banner = b
	s.mu.Unlock()
	if !same {
		s.cfg.Notify(identity.UserID{}, Update{Kind: UpdateBanner, Banner: &b})
	}
}

// dispatch hands events to the sessions they concern. Arrivals of one user go
// together, so that one commit serves many.
func (s *Service) dispatch(ctx context.Context, evs []Event) {
	arrived := make(map[identity.UserID][]Arrived)
	for _, ev := range evs {
		switch ev := ev.(type) {
		case Arrived:
			s.sort(ev, arrived)
		case ContactsChanged:
			s.refreshBanner()
		case resumeSession:
			ev.resume(ctx)
		default:
			for _, u := range s.unlocked() {
				u.handle(ctx, ev)
			}
		}
	}
	for _, u := range s.unlocked() {
		for batch := range slices.Chunk(arrived[u.user], maxBatch) {
			u.receive(ctx, batch)
		}
	}
}

// maxBatch is how many arrivals one commit serves: it bounds the memory for
// their payloads to 2 MiB.
const maxBatch = 32

// sort finds the users a bundle is for. Mail of a locked user waits.
func (s *Service) sort(ev Arrived, arrived map[identity.UserID][]Arrived) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, user := range s.watched[ev.Tag] { // none: the agent keeps it as a relay
		if u := s.sessions[user]; u != nil && !u.dead.Load() {
			arrived[user] = append(arrived[user], ev)
			continue
		}
		w := s.waiting[user]
		if w == nil {
			w = make(map[bundle.ID]bool)
			s.waiting[user] = w
		}
		if len(w) < maxPending {
			w[ev.ID] = true // only counted: unlocking makes the agent deliver again
		}
	}
}

// finished notes that a user is done with bundles, and tells the agent about
// those that nobody else here waits for. Two users of one conversation on one
// node watch the same tags, and one of them may not know the epoch yet: others
// names the users of this node that a bundle is for besides those who watch.
func (s *Service) finished(ctx context.Context, user identity.UserID, evs []Arrived, others func(identity.Tag) []identity.UserID) error {
	var ids []bundle.ID
	for _, ev := range evs {
		if s.doneWith(user, ev, others(ev.Tag)) {
			ids = append(ids, ev.ID)
		}
	}
	if len(ids) == 0 {
		return nil
	}
	return s.cfg.Agent.Consumed(ctx, ids)
}

func (s *Service) doneWith(user identity.UserID, ev Arrived, others []identity.UserID) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	done := s.doneBy[ev.ID]
	if !slices.Contains(done, user) {
		done = append(done, user)
	}
	for _, w := range slices.Concat(s.watched[ev.Tag], others) {
		if slices.Contains(done, w) {
			continue
		}
		if len(s.doneBy) < maxPending {
			s.doneBy[ev.ID] = done // forgotten over a restart, then it is delivered again
		}
		return false
	}
	delete(s.doneBy, ev.ID)
	return true
}

// The clear index of watched tags: user || tag. It tells whoever takes the
// disk which tags are served here, as decisions.md 9 accepts, and lets mail
// arrive for locked users.
const bucketWatch = "chat-watch"

func watchKey(user identity.UserID, t identity.Tag) string {
	return string(user[:]) + string(t[:])
}

// watchAll reads the clear index and watches for everybody.
func (s *Service) watchAll() error {
	users, err := s.cfg.Accounts.Users()
	if err != nil {
		return fmt.Errorf("chat: list hosted users: %w", err)
	}
	for _, user := range users {
		var tags, kept []identity.Tag
		for p, err := range s.cfg.Store.List(bucketWatch, string(user[:])) {
			if err != nil {
				return fmt.Errorf("chat: read watched tags: %w", err)
			}
			if len(p.Key) != len(user)+len(identity.Tag{}) {
				return fmt.Errorf("chat: read watched tags: %w", errShape)
			}
			tag := identity.Tag([]byte(p.Key[len(user):]))
			tags = append(tags, tag)
			if string(p.Value) == watchedToKeep {
				kept = append(kept, tag)
			}
		}
		s.watchArchive(kept) // before neighbours are told what is served here
		s.rewatch(user, tags, nil)
	}
	return nil
}

// rewatch changes what is watched for a user.
func (s *Service) rewatch(user identity.UserID, add, remove []identity.Tag) {
	s.mu.Lock()
	for _, t := range add {
		if !slices.Contains(s.watched[t], user) {
			s.watched[t] = append(s.watched[t], user)
		}
	}
	var gone []identity.Tag
	for _, t := range remove {
		rest := slices.DeleteFunc(s.watched[t], func(u identity.UserID) bool { return u == user })
		if len(rest) > 0 {
			s.watched[t] = rest
			continue
		}
		delete(s.watched, t)
		gone = append(gone, t)
	}
	s.mu.Unlock()
	if len(add)+len(gone) > 0 {
		s.cfg.Agent.Watch(add, gone)
	}
}

// Pins: which blobs the messages of this node need, in the clear, so that they
// are kept for locked users too. Key: root || message.
// BucketPin is the bucket of pins: the key is a blob's root and the message
// that needs it. The node reads it before chat runs.
const BucketPin = "chat-pin"

func pinKey(root blob.Root, msg MessageID) string { return string(root[:]) + string(msg[:]) }

// pinned tells whether a message on this node needs a blob.
func (s *Service) pinned(root blob.Root) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.pins[root]) > 0
}

func (s *Service) pin(root blob.Root, msg MessageID) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !slices.Contains(s.pins[root], msg) {
		s.pins[root] = append(s.pins[root], msg)
	}
}

// pinnedBy lists the messages that need blobs, of all users.
func (s *Service) pinnedBy() (ids []MessageID) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, msgs := range s.pins {
		ids = append(ids, msgs...)
	}
	return ids
}

// unpin reports whether it was the last pin of the blob.
func (s *Service) unpin(root blob.Root, msg MessageID) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	rest := slices.DeleteFunc(s.pins[root], func(m MessageID) bool { return m == msg })
	if len(rest) > 0 {
		s.pins[root] = rest
		return false
	}
	delete(s.pins, root)
	return true
}

// loadPins reads the pins of this and earlier runs.
func (s *Service) loadPins() error {
	for p, err := range s.cfg.Store.List(BucketPin, "") {
		if err != nil {
			return fmt.Errorf("chat: read pins: %w", err)
		}
		if len(p.Key) != len(blob.Root{})+len(MessageID{}) {
			return fmt.Errorf("chat: read pins: %w", errShape)
		}
		s.pin(blob.Root([]byte(p.Key[:32])), MessageID([]byte(p.Key[32:])))
	}
	return nil
}

// A mailbox holds events between the agent and the loop.
type mailbox struct {
	ready chan struct{}
	state *mailboxState
}

type mailboxState struct {
	mu     sync.Mutex
	events []Event
	blobs  map[blob.Root]int // where the newest progress of a blob stands
}

func newMailbox() mailbox {
	return mailbox{ready: make(chan struct{}, 1), state: &mailboxState{blobs: make(map[blob.Root]int)}}
}

func (m mailbox) put(ev Event) {
	m.state.mu.Lock()
	defer m.state.mu.Unlock()
	if p, ok := ev.(BlobProgress); ok {
		if i, ok := m.state.blobs[p.Root]; ok {
			m.state.events[i] = ev
			return
		}
		m.state.blobs[p.Root] = len(m.state.events)
	}
	m.state.events = append(m.state.events, ev)
	select {
	case m.ready <- struct{}{}:
	default:
	}
}

func (m mailbox) take() []Event {
	m.state.mu.Lock()
	defer m.state.mu.Unlock()
	evs := m.state.events
	m.state.events = nil
	clear(m.state.blobs)
	return evs
}

// job runs work that may take long beside the loop; false means that the loop
// does not run. Run waits for it.
func (s *Service) job(do func(ctx context.Context)) bool {
	s.mu.Lock()
	ctx := s.running
	if ctx != nil {
		s.jobs.Add(1)
	}
	s.mu.Unlock()
	if ctx == nil {
		return false
	}
	go func() {
		defer s.jobs.Done()
		do(ctx)
	}()
	return true
}

// quiet tells whether an error only says that the node is stopping.
func quiet(err error) bool {
	return errors.Is(err, context.Canceled) || errors.Is(err, ErrLocked)
}
