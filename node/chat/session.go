package chat

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"outrider/mesh/bundle"
	"outrider/mesh/envelope"
	"outrider/mesh/identity"
)

// A Session is one unlocked user. All its methods return ErrLocked once the
// user is locked.
type Session struct {
	svc    *Service
	user   identity.UserID
	device identity.DeviceID
	log    *slog.Logger
	dead   atomic.Bool // closed, for whoever does not hold mu

	mu       sync.Mutex
	closed   bool
	vault    Vault
	ring     *envelope.Keyring
	master   [32]byte // seals values
	names    [32]byte // makes names
	recs     *records
	convs    map[ConversationID]*convRecord
	fresh    map[MessageID][32]byte // keys of rows that are not in the vault yet
	shredded bool                   // the vault has something to commit
	lastSent int64                  // hlc of the newest message sent, ms

	outgoing map[MessageID]bool                      // not delivered yet (kindOpen); true: something is to be handed over
	pending  map[bundle.ID]Arrived                   // arrived, cannot be opened yet
	blobs    map[[32]byte]bundle.ID                  // blob bundles that arrived, by root
	offered  map[identity.DeviceID][]envelope.Prekey // prekeys that came inside a seal
	wraps    map[bundle.ID]wrapRecord                // own wraps that are not acknowledged
	owed     map[envelope.EpochID]owing              // receipts to be sent
	owedAt   time.Duration                           // when, by Elapsed
	checking map[MessageID]bool                      // files that are being checked
	archive  archiveState                            // who archives, as far as is known here

	refusing   []identity.UserID     // who else is in what was refused last
	turnedAway map[bundle.ID]refusal // what was not let in because of the archive
	unshown    bool                  // the prekeys could not be published; tried again soon
	regrouped  bool                  // devices may have come or gone since the last look for stranded messages
	tickets    ticks
}

// ticks is when periodic work was done last, by Elapsed.
type ticks struct{ minute, hour time.Duration }

// Names of secrets and records. The vault's ids are fixed for what there is
// one of; all others are random.
var (
	masterID = identity.Hash(identity.LabelKeystoreVault, []byte("master"))
	namesID  = identity.Hash(identity.LabelKeystoreVault, []byte("names"))
)

const (
	recSent   = "sent"     // hlc of the newest message sent
	recWrap   = "wrap/"    // + bundle id: wrapRecord
	recTags   = "tags/"    // + epoch: its tags
	recAsked  = "asked/"   // + device: when it was last asked to rekey, or asked us
	recAcked  = "acked/"   // + epoch, kind, slot, device: ranges that were acted on
	recShown  = "shown/"   // + epoch: what was read here
	recFiles  = "files/"   // + epoch: files that are complete here
	recWeak   = "weak/"    // + epoch: without forward secrecy
	recNewest = "receipt/" // + epoch, kind: purge record of our newest receipt
)

// open makes the session of a user whose keystore was opened.
func (s *Service) open(ctx context.Context, user identity.UserID, keys Keys) (*Session, error) {
	if err := s.setAside(ctx, user); err != nil {
		return nil, err
	}
	vault, err := s.cfg.Accounts.OpenVault(user, keys.KEK)
	if err != nil {
		return nil, fmt.Errorf("open vault: %w", err)
	}
	u := &Session{
		svc: s, user: user, device: keys.Device.Public().DeviceID(), log: s.log, vault: vault,
		fresh: make(map[MessageID][32]byte), outgoing: make(map[MessageID]bool), pending: make(map[bundle.ID]Arrived),
		blobs: make(map[[32]byte]bundle.ID), offered: make(map[identity.DeviceID][]envelope.Prekey),
		wraps: make(map[bundle.ID]wrapRecord), owed: make(map[envelope.EpochID]owing), checking: make(map[MessageID]bool),
		turnedAway: make(map[bundle.ID]refusal),
	}
	if err := u.load(ctx, keys); err != nil {
		return nil, errors.Join(err, vault.Close())
	}
	return u, nil
}

func (s *Session) load(ctx context.Context, keys Keys) error {
	if err := s.loadKeys(); err != nil {
		return err
	}
	if err := errors.Join(s.loadRecords(), s.loadConvs()); err != nil {
		return err
	}
	if err := s.loadArchive(); err != nil {
		return err
	}
	cfg := &s.svc.cfg
	ring, err := envelope.NewKeyring(s.vault, s.recs, envelope.Self{
		Network: cfg.Network, TagKeys: s.svc.tagKeys(), User: s.user, Device: s.device, Key: keys.Device,
		NotAfter: keys.Chain.Leaf().NotAfter, MaxDelay: cfg.MaxDelay, Lookup: envelope.LookupFunc(s.lookupDevice), Permit: s.permit,
	}, cfg.Clock.Now)
	if err != nil {
		return err
	}
	s.ring = ring
	if ring.RolledBack() {
		s.log.Error("chat: the disk lost the newest keys of a user; messages of the last minutes may not open, and every conversation starts a new epoch before it is written to again; check the disk, and restore no key vault from a backup")
	}
	if err := s.sweep(ctx, true); err != nil {
		return err
	}
	return errors.Join(s.loadOutgoing(), s.loadWraps(), s.loadOwed(), s.watch(ctx))
}

// loadKeys reads the two keys that everything outside the vault is sealed and
// named by, and makes them at first.
func (s *Session) loadKeys() error {
	for id, key := range map[[16]byte]*[32]byte{[16]byte(masterID[:16]): &s.master, [16]byte(namesID[:16]): &s.names} {
		b, err := s.vault.Get(id)
		switch {
		case errors.Is(err, envelope.ErrNoSecret):
			*key = newKey()
			if err := s.vault.Put(id, key[:]); err != nil {
				return fmt.Errorf("make keys: %w", err)
			}
			s.shredded = true
		case err != nil:
			return fmt.Errorf("read keys: %w", err)
		case len(b) != 32:
			return errShape
		default:
			*key = [32]byte(b)
		}
	}
	if !s.shredded {
		return nil
	}
	s.shredded = false
	if err := s.vault.Commit(); err != nil {
		return fmt.Errorf("make keys: %w", err)
	}
	return nil
}

// lookupDevice is the keyring's view of the roster: devices whose messages may
// be believed.
func (s *Session) lookupDevice(id identity.DeviceID) (envelope.Device, bool) {
	d, ok := s.svc.cfg.Roster.Device(id)
	if !ok {
		return envelope.Device{}, false
	}
	if u, ok := s.svc.cfg.Roster.User(d.User); !ok || u.Frozen {
		return envelope.Device{}, false
	}
	return envelope.Device{User: d.User, Key: d.Key}, true
}

func (s *Session) loadOutgoing() error {
	for p, err := range s.svc.cfg.Store.List(bucketChat, s.key(kindOpen)) {
		if err != nil {
			return fmt.Errorf("read outgoing: %w", err)
		}
		if len(p.Key) != len(s.user)+1+16 {
			return errShape
		}
		s.outgoing[MessageID([]byte(p.Key[len(s.user)+1:]))] = true
	}
	for _, v := range s.recs.Records(recSent) {
		s.lastSent = int64(uintOf(v))
	}
	return nil
}

// watch brings the clear index of tags, and the agent, up to the keyring.
func (s *Session) watch(ctx context.Context) error {
	want := s.ring.Tags()
	have := make(map[identity.Tag]string)
	for p, err := range s.svc.cfg.Store.List(bucketWatch, string(s.user[:])) {
		if err != nil {
			return fmt.Errorf("read watched tags: %w", err)
		}
		if len(p.Key) != len(s.user)+8 {
			return errShape
		}
		have[identity.Tag([]byte(p.Key[len(s.user):]))] = string(p.Value)
	}
	var ops []Op
	var add, remove, keep []identity.Tag
	kept := s.archiveTags()
	for _, t := range want {
		value := watchedTag
		if kept[t] {
			value = watchedToKeep
			keep = append(keep, t)
		}
		if have[t] == "" {
			add = append(add, t)
		}
		if have[t] != value {
			ops = append(ops, PutKV{Bucket: bucketWatch, Key: watchKey(s.user, t), Value: []byte(value)})
		}
		delete(have, t)
	}
	for t := range have {
		remove = append(remove, t)
		ops = append(ops, DeleteKV{Bucket: bucketWatch, Key: watchKey(s.user, t)})
	}
	for part := range commits(ops) {
		if err := s.svc.cfg.Store.Commit(ctx, part...); err != nil {
			return fmt.Errorf("write watched tags: %w", err)
		}
	}
	s.svc.watchArchive(keep) // before neighbours are told what is served here
	s.svc.rewatch(s.user, add, remove)
	return nil
}

// close drops the keys.
func (s *Session) close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.shut()
}

func (s *Session) shut() {
	if s.closed {
		return
	}
	s.closed = true
	s.dead.Store(true)
	if err := s.vault.Close(); err != nil {
		s.log.Warn("chat: close vault", "err", err)
	}
	clear(s.master[:])
	clear(s.names[:])
	clear(s.fresh)
	s.ring, s.recs, s.convs = nil, nil, nil
}

// broken ends the session after an error of the vault, when nobody knows what
// is durable: opening it again finds out.
func (s *Session) broken(err error) error {
	s.log.Error("chat: a user's vault failed; the user must log in again", "err", err)
	s.shut()
	return fmt.Errorf("%w: %w", ErrLocked, err)
}

// enter locks the session for one call.
func (s *Session) enter() error {
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return ErrLocked
	}
	return nil
}

// resume goes on with what was begun before the last lock or crash: sends what
// is still queued, learns what happened meanwhile, and lets everything that
// waited at the node be delivered.
func (s *Session) resume(ctx context.Context) {
	if s.enter() != nil {
		return
	}
	defer s.mu.Unlock()
	s.regrouped = true
	s.meetPeople(ctx)
	s.publishPrekeys(ctx)
	s.sweepPurges(ctx)
	for id := range s.outgoing {
		if s.closed || ctx.Err() != nil {
			return
		}
		s.resumeOne(ctx, id)
	}
	if !s.closed {
		s.tellEnds(ctx)
	}
	if !s.closed {
		s.free(ctx) // the policy may have changed meanwhile
	}
	if !s.closed {
		tags := s.ring.Tags()
		s.svc.cfg.Agent.Watch(nil, tags)
		s.svc.cfg.Agent.Watch(tags, nil)
		s.svc.refreshBanner()
	}
}

// resumeOne looks after one outgoing message.
func (s *Session) resumeOne(ctx context.Context, id MessageID) {
	r, err := s.get(id)
	if errors.Is(err, ErrNotFound) {
		delete(s.outgoing, id)
		return
	}
	if err == nil {
		err = s.advance(ctx, r)
	}
	if err == nil {
		err = s.catchUp(ctx, r)
	}
	if err != nil && !quiet(err) {
		s.log.Warn("chat: an outgoing message cannot go on now", "err", err)
	}
}

// publishPrekeys lets others seal to this device. The network takes prekeys of a
// device only once it has the device's certificate: after a first login that may
// be a moment away.
func (s *Session) publishPrekeys(ctx context.Context) {
	bundles, err := s.ring.Prekeys()
	if err == nil {
		err = s.svc.cfg.Roster.PublishPrekeys(ctx, s.device, bundles)
	}
	if err == nil {
		err = s.watch(ctx)
	}
	if err != nil && !quiet(err) && !s.unshown {
		s.log.Warn("chat: prekeys are not published yet", "err", err)
	}
	s.unshown = err != nil
}

// showAgain publishes prekeys that could not be published before.
func (s *Session) showAgain(ctx context.Context) {
	if s.unshown {
		s.publishPrekeys(ctx)
	}
}

// tick does what is due.
func (s *Session) tick(ctx context.Context) {
	if s.enter() != nil {
		return
	}
	defer s.mu.Unlock()
	now := s.svc.cfg.Clock.Elapsed()
	if len(s.owed) > 0 && now >= s.owedAt {
		s.sendReceipts(ctx)
	}
	if !s.closed && now-s.tickets.minute >= time.Minute {
		s.tickets.minute = now
		s.minute(ctx)
	}
	if !s.closed && now-s.tickets.hour >= time.Hour {
		if s.tickets.hour > 0 { // the first time resume has just done it
			s.publishPrekeys(ctx)
		}
		s.tickets.hour = now
	}
}

func (s *Session) minute(ctx context.Context) {
	if err := s.sweep(ctx, false); err != nil && !quiet(err) {
		s.log.Warn("chat: sweep", "err", err)
	}
	if s.closed {
		return
	}
	if err := s.ring.Sweep(); err != nil {
		s.broken(err)
		return
	}
	if err := errors.Join(s.watch(ctx), s.forgetEpochs(), s.forgetRecalls()); err != nil && !quiet(err) {
		s.log.Warn("chat: tidy up", "err", err)
	}
	s.showAgain(ctx)
	s.retryPending(ctx)
	s.freeStranded(ctx)
	s.resumeUnsent(ctx)
	s.tellEnds(ctx)
}

// resumeUnsent goes on with messages that could not be handed over before.
func (s *Session) resumeUnsent(ctx context.Context) {
	for id, unsent := range s.outgoing {
		if s.closed || ctx.Err() != nil {
			return
		}
		if unsent {
			s.resumeOne(ctx, id)
		}
	}
}

// rosterChanged sends what waited for keys and opens what waited for
// certificates.
func (s *Session) rosterChanged(ctx context.Context) {
	if s.enter() != nil {
		return
	}
	defer s.mu.Unlock()
	s.regrouped = true
	s.showAgain(ctx)
	s.resumeUnsent(ctx)
	if s.closed {
		return
	}
	s.meetPeople(ctx)
	s.retryPending(ctx)
	s.notify(Update{Kind: UpdateContact})
}

func (s *Session) notify(u Update) { s.svc.cfg.Notify(s.user, u) }

// elapsed is Clock.Elapsed in seconds.
func (s *Session) elapsed() int64 { return int64(s.svc.cfg.Clock.Elapsed() / time.Second) }

func (s *Session) nowMS() int64 { return s.svc.cfg.Clock.Now().UnixMilli() }

func uintOf(b []byte) (v uint64) {
	for _, c := range b {
		v = v<<8 | uint64(c)
	}
	return v
}
