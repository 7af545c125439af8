package mesh

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"outrider/mesh/bundle"
	"outrider/mesh/identity"
	"outrider/mesh/reconcile"
)

// Bounds of the shell.
const (
	inputQueue   = 256                  // inputs that wait for the machine
	payloadBytes = 32 << 20             // of received and submitted bundles on their way to disk
	linkQueue    = 4 << 20              // bytes of frames that wait for one link; beyond, it is closed
	linkFrames   = 16384                // and their number
	eventBacklog = 16384                // events one subscriber may leave unread before intake stops
	batchBytes   = 4 << 20              // payload of one commit to the store
	batchCommits = 512                  // transactions of the machine in one commit to the store
	gatherQuiet  = time.Millisecond     // without a further transaction, after which those gathered are written
	gatherMost   = 4 * time.Millisecond // and at the latest
	cacheBytes   = 8 << 20              // payloads kept after they were stored, for sending on
	savePeriod   = time.Minute          // between two savings of node time
	elapsedKey   = "mesh/elapsed"
)

// ShellConfig is what a shell is told once. Self, Store, Judge and Log are
// required.
type ShellConfig struct {
	Self       identity.NodeID
	Store      Store
	Judge      Judge
	Salt       reconcile.Salt
	Generation uint64
	Opsec      bool
	Blind      bool // as in Config
	ReadsAll   bool // as in Config
	Limits     Limits
	Log        *slog.Logger
	Rand       rand.Source    // nil: seeded by the system
	Clock      identity.Clock // for the validity of control objects; nil: headers' lifetimes only
	// TimeOff tells how long the node was off, given the wall time saved
	// last, and whether that can be relied on (decisions 4). Nil, and
	// anything unreliable, counts as zero: bundles get older too slowly.
	TimeOff func(saved time.Time) (off time.Duration, certain bool)
	// WallCertain tells whether wall time can be relied on now, for what the
	// next start is to count from; nil means that it can. A date saved by a
	// clock that was years behind would end every lifetime at the next start.
	WallCertain func() bool
}

// A Shell drives a Machine: one goroutine owns the machine and never blocks,
// the store, the judge and the links work beside it and answer by inputs.
type Shell struct {
	cfg      ShellConfig
	log      *slog.Logger
	in       chan Input
	ready    chan struct{} // closed when the store is restored
	done     chan struct{} // closed when Run ends
	payloads payloads
	cache    cache
	commits  queue[Commit]
	judges   queue[JudgeControl]
	blobs    queue[Output]
	events   events

	base      Time
	start     time.Time
	later     atomic.Int64 // nanoseconds switched off that CountOff has added
	uncertain atomic.Bool  // time switched off was counted as zero

	mu      sync.Mutex // guards what follows
	state   shellState
	nextReq uint64
	nextID  LinkID
	replies map[uint64]chan error
	links   map[LinkID]*shellLink
	users   sync.WaitGroup // AddLink calls
}

type shellState uint8

const (
	shellIdle shellState = iota
	shellRunning
	shellEnded
)

// NewShell allocates a shell; Run starts it.
func NewShell(c ShellConfig) *Shell {
	if c.Rand == nil {
		c.Rand = rand.NewPCG(rand.Uint64(), rand.Uint64())
	}
	s := &Shell{
		cfg: c, log: c.Log, in: make(chan Input, inputQueue), ready: make(chan struct{}), done: make(chan struct{}),
		replies: map[uint64]chan error{}, links: map[LinkID]*shellLink{},
	}
	s.payloads.init(payloadBytes)
	s.cache.init(cacheBytes)
	s.commits.init()
	s.judges.init()
	s.blobs.init()
	return s
}

// Run serves until ctx ends or the store cannot be read. A shell runs once.
func (s *Shell) Run(ctx context.Context) error {
	s.mu.Lock()
	if s.state != shellIdle {
		s.mu.Unlock()
		return errors.New("mesh: run: a shell runs once")
	}
	s.state = shellRunning
	s.mu.Unlock()

	m, err := s.restore()
	var workers sync.WaitGroup
	if err == nil {
		workers.Go(s.commitLoop)
		workers.Go(s.judgeLoop)
		workers.Go(s.blobLoop)
		close(s.ready)
		s.serve(ctx, m)
		s.saveTime()
	}
	s.mu.Lock()
	s.state = shellEnded
	s.mu.Unlock()
	close(s.done)
	s.commits.close() // what was decided is still written
	s.judges.close()
	s.blobs.close()
	s.payloads.close()
	s.users.Wait()
	workers.Wait()
	s.events.close()
	return err
}

// serve owns the machine until ctx ends.
func (s *Shell) serve(ctx context.Context, m *Machine) {
	alarm := time.NewTimer(0)
	defer alarm.Stop()
	save := time.NewTicker(savePeriod)
	defer save.Stop()
	for {
		var in Input
		select {
		case <-ctx.Done():
			return
		case in = <-s.in:
		case <-alarm.C:
			in = Wake{}
		case <-save.C:
			s.saveTime()
			continue
		}
		if q, ok := in.(query); ok {
			q.ask(m, s.now())
			close(q.done)
			continue
		}
		s.carryOut(m.Step(s.now(), in), alarm)
	}
}

// carryOut does what the machine decided. Nothing here blocks.
func (s *Shell) carryOut(outs []Output, alarm *time.Timer) {
	for _, out := range outs {
		switch o := out.(type) {
		case Send:
			s.sendOn(o)
		case Commit:
			s.commits.put(o)
		case JudgeControl:
			s.judges.put(o)
		case OpenBlob, WriteProof, WriteLeaf, DropBlob:
			s.blobs.put(o)
		case Free:
			s.payloads.free(o.Token)
		case Join:
			s.payloads.join(o.Into, o.From)
		case Alarm:
			alarm.Reset(o.At.Sub(s.now()))
		case Reply:
			s.reply(o)
		case Hangup:
			s.hangup(o)
		case Emit:
			s.events.emit(o.Event)
		}
	}
}

func (s *Shell) now() Time {
	return s.base.Add(time.Since(s.start) + time.Duration(s.later.Load()))
}

// CountOff adds the time that the node was switched off, once that has become
// known after the start. It counts once, and only if it was not counted yet.
func (s *Shell) CountOff(off time.Duration) {
	select {
	case <-s.ready: // before, it is not known whether it was counted
	case <-s.done:
		return
	}
	if off < 0 || !s.uncertain.CompareAndSwap(true, false) {
		return
	}
	s.later.Store(int64(off))
	s.post(Wake{}) // what has died meanwhile
}

// post hands an input to the machine; false if the shell has ended.
func (s *Shell) post(in Input) bool {
	select {
	case s.in <- in:
		return true
	case <-s.done:
		return false
	}
}

// restore reads the store into a new machine and sets the clock: node time
// goes on from the latest moment the store knows of.
func (s *Shell) restore() (*Machine, error) {
	m := NewMachine(Config{
		Self: s.cfg.Self, Salt: s.cfg.Salt, Generation: s.cfg.Generation, Epoch: s.cfg.Store.Epoch(),
		Opsec: s.cfg.Opsec, Blind: s.cfg.Blind, ReadsAll: s.cfg.ReadsAll, Limits: s.cfg.Limits, Rand: s.cfg.Rand,
	})
	saved, err := s.cfg.Store.Value(elapsedKey)
	if err != nil {
		return nil, fmt.Errorf("mesh: restore node time: %w", err)
	}
	base, err := s.restoreAll(m)
	if err != nil {
		return nil, err
	}
	if len(saved) == 16 {
		base = max(base, Time(binary.BigEndian.Uint64(saved)))
		wall := time.Unix(int64(binary.BigEndian.Uint64(saved[8:])), 0)
		off, certain := time.Duration(0), false
		if s.cfg.TimeOff != nil && wall.Unix() != 0 {
			off, certain = s.cfg.TimeOff(wall)
		}
		s.uncertain.Store(!certain)
		if certain {
			base = base.Add(max(0, off))
		}
	}
	s.base, s.start = base, time.Now()
	s.carryOut(m.Step(s.now(), Started{}), time.NewTimer(time.Hour))
	return m, nil
}

func (s *Shell) restoreAll(m *Machine) (latest Time, err error) {
	outs := time.NewTimer(time.Hour)
	defer outs.Stop()
	for r, err := range s.cfg.Store.Records() {
		if err != nil {
			return 0, fmt.Errorf("mesh: restore bundles: %w", err)
		}
		latest = max(latest, fromSecs(r.Meta.Stored))
		s.carryOut(m.Step(0, RestoredBundle{r}), outs)
	}
	for t, err := range s.cfg.Store.Tombstones() {
		if err != nil {
			return 0, fmt.Errorf("mesh: restore purge records: %w", err)
		}
		latest = max(latest, fromSecs(t.Stored))
		s.carryOut(m.Step(0, RestoredTombstone{t}), outs)
	}
	return latest, nil
}

// saveTime writes node time and wall time, so that a restart goes on from
// here. A crash loses at most savePeriod of age. A wall time that cannot be
// relied on is written as 0.
func (s *Shell) saveTime() {
	wall := time.Now().Unix()
	if s.cfg.WallCertain != nil && !s.cfg.WallCertain() {
		wall = 0
	}
	b := binary.BigEndian.AppendUint64(nil, uint64(s.now()))
	b = binary.BigEndian.AppendUint64(b, uint64(wall))
	s.commits.put(Commit{Ops: []Op{PutValue{elapsedKey, b}}})
}

// A query looks at the machine between two steps.
type query struct {
	ask  func(*Machine, Time)
	done chan struct{}
}

func (query) input() {}

func (s *Shell) look(ask func(*Machine, Time)) bool {
	q := query{ask, make(chan struct{})}
	if !s.post(q) {
		return false
	}
	select {
	case <-q.done:
		return true
	case <-s.done:
		return false
	}
}

// Explain tells how a bundle stands here and what it waits for.
func (s *Shell) Explain(id bundle.ID) (x Explanation) {
	s.look(func(m *Machine, now Time) { x = m.Explain(now, id) })
	return x
}

// Status sums up the agent.
func (s *Shell) Status() (st Status) {
	s.look(func(m *Machine, now Time) { st = m.Status(now) })
	st.AgeUncertain = s.uncertain.Load()
	return st
}

// Elapsed returns the time this node has lived through. It waits until the
// store is restored, and is zero when the agent ends before.
func (s *Shell) Elapsed() time.Duration {
	select {
	case <-s.ready:
		return time.Duration(s.now())
	case <-s.done:
		return 0
	}
}

// Neighbours lists the nodes in contact, with the bytes of their links.
func (s *Shell) Neighbours() (list []Neighbour) {
	s.look(func(m *Machine, _ Time) { list = m.Neighbours() })
	s.mu.Lock()
	defer s.mu.Unlock()
	for i := range list {
		if l := s.links[list[i].Link]; l != nil {
			list[i].Tx, list[i].Rx = l.cla.Counters()
		}
	}
	return list
}

// Linked returns the peers of the links that are ready.
func (s *Shell) Linked() (peers []identity.NodeID) {
	s.look(func(m *Machine, _ Time) { peers = m.Linked() })
	return peers
}

// Events returns a subscription to everything that happens from now on.
//
// No event is lost: a subscriber must keep reading. While one has more than
// 16,384 unread events, the agent takes in no more frames and submissions; what is
// under way goes on. Close ends a subscription.
func (s *Shell) Events() *Subscription { return s.events.subscribe() }

// Submit stores a bundle made on this node and sends it on its way. When it
// returns nil the bundle is on disk. ErrFull means that nothing was stored.
func (s *Shell) Submit(ctx context.Context, b bundle.Bundle, o SubmitOptions) error {
	if len(b.Payload) > bundle.MaxPayload || len(b.Header.Raw()) == 0 {
		return fmt.Errorf("mesh: submit: payload of %d bytes, header of %d: out of bounds", len(b.Payload), len(b.Header.Raw()))
	}
	if err := s.events.wait(ctx, s.done); err != nil {
		return err
	}
	hash := sha256.Sum256(b.Payload)
	token, err := s.payloads.add(ctx, bytes.Clone(b.Payload)) // kept longer than the call
	if err != nil {
		return err
	}
	return s.call(ctx, func(req uint64) Input {
		return Submitted{
			Req: req, ID: bundle.HashOf(b.Header.Raw(), hash).ID(), Hop: b.Hop, Header: b.Header,
			PayloadHash: hash, Size: len(b.Payload), Blob: descriptor(b.Header, b.Payload), Token: token, Options: o,
		}
	})
}

// Purge releases a purge record: the bundle goes here and, with time,
// everywhere. Nil when the record is on disk.
func (s *Shell) Purge(ctx context.Context, r bundle.PurgeRecord) error {
	return s.call(ctx, func(req uint64) Input { return PurgeAsked{Req: req, Record: r} })
}

// Consumed marks bundles as handed over: they are not announced again. Nil
// when that is on disk.
func (s *Shell) Consumed(ctx context.Context, ids []bundle.ID) error {
	return s.call(ctx, func(req uint64) Input { return ConsumedAsked{Req: req, IDs: ids} })
}

// Watch changes what is delivered here and told to neighbours. What is held
// of the added tags and not yet consumed is announced (again).
func (s *Shell) Watch(add, remove []identity.Tag) { s.post(Watched{Add: add, Remove: remove}) }

// WatchArchive says that tags are a compliance reader's: what is purged stays
// there, and what was purged before it came is taken all the same. Call it
// before Watch.
func (s *Shell) WatchArchive(tags []identity.Tag) { s.post(Watched{Add: tags, Archive: true}) }

// WatchQuiet is Watch for tags that neighbours are not told.
func (s *Shell) WatchQuiet(add, remove []identity.Tag) {
	s.post(Watched{Add: add, Remove: remove, Quiet: true})
}

// Rejudge asks the judge again about control objects that were put off; to be
// called when the judge has learnt something.
func (s *Shell) Rejudge() { s.post(Rejudge{}) }

// SetHeads changes the revocation heads told to neighbours, at most 64 bytes.
func (s *Shell) SetHeads(heads []byte) { s.post(HeadsChanged{heads}) }

// SetGeneration goes over to another generation of the network secret. All
// links are closed, to be made anew under it.
func (s *Shell) SetGeneration(generation uint64, salt reconcile.Salt) {
	s.post(GenerationChanged{Salt: salt, Generation: generation})
}

// Load returns a bundle that is held here, with its present age.
func (s *Shell) Load(ctx context.Context, id bundle.ID) (bundle.Bundle, error) {
	select {
	case <-s.ready:
	case <-s.done:
		return bundle.Bundle{}, ErrClosed
	case <-ctx.Done():
		return bundle.Bundle{}, ctx.Err()
	}
	r, payload, err := s.load(ctx, id)
	if errors.Is(err, ErrNotStored) {
		return bundle.Bundle{}, ErrUnknown
	}
	if err != nil {
		return bundle.Bundle{}, fmt.Errorf("mesh: load bundle: %w", err)
	}
	left := int64(r.Meta.Deadline) - int64(s.now().secs())
	r.Hop.Age = uint32(max(0, int64(r.Header.Lifetime/time.Second)-max(left, 0)))
	return bundle.Bundle{Hop: r.Hop, Header: r.Header, Payload: payload}, nil
}

// call posts an input that the machine answers with a Reply.
func (s *Shell) call(ctx context.Context, input func(req uint64) Input) error {
	answer := make(chan error, 1)
	s.mu.Lock()
	s.nextReq++
	req := s.nextReq
	s.replies[req] = answer
	s.mu.Unlock()
	defer func() {
		s.mu.Lock()
		delete(s.replies, req)
		s.mu.Unlock()
	}()
	if !s.post(input(req)) {
		return ErrClosed
	}
	select {
	case err := <-answer:
		return err
	case <-ctx.Done():
		return ctx.Err()
	case <-s.done:
		return ErrClosed
	}
}

func (s *Shell) reply(r Reply) {
	s.mu.Lock()
	answer := s.replies[r.Req]
	s.mu.Unlock()
	if answer != nil {
		answer <- r.Err
	}
}
