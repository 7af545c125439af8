package coresync

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"sync"
	"time"
)

// Status is how the way to the core stands.
type Status struct {
	Up      bool
	Core    [16]byte // zero before it was ever reached
	Since   time.Time
	Reached time.Time // when it was up last; now, while it is
	Error   error     // why it is not
	Tried   int       // attempts since it was up last

	Stored, Present uint64    // messages: stored by us, and found there already
	Resent          uint64    // sendings beyond the first
	Pulled          uint64    // parcels taken out of mailboxes
	Squatted        uint64    // bundles whose subject held something else
	Malformed       uint64    // parcels that were not what they were filed as
	Full            bool      // the core had no room for the last one
	Clock           time.Time // what the core's clock says, while it is up
}

// An Edge is a node's way to its core.
type Edge struct {
	cfg   Config
	log   *slog.Logger
	seed  Seed
	trust *trust

	parcels, chunks chan struct{} // windows

	mu      sync.Mutex
	live    *session
	changed chan struct{} // closed and replaced when live changes
	status  Status
	ping    time.Duration
	poke    chan struct{} // 1 deep: try now
	unheard error         // what the handshake found wrong
}

// New makes an edge. Nothing is opened but the credentials' files.
func New(c Config, log *slog.Logger) (*Edge, error) {
	e := &Edge{
		cfg: c, log: log, parcels: make(chan struct{}, windowParcels), chunks: make(chan struct{}, windowChunks),
		changed: make(chan struct{}), poke: make(chan struct{}, 1), ping: pingEvery,
	}
	if len(c.Servers) == 0 || len(c.Servers) > maxServers || len(c.Pins) > maxPins {
		return nil, fmt.Errorf("%w: 1 to %d servers and at most %d pins", ErrCredentials, maxServers, maxPins)
	}
	var err error
	if e.seed, err = ReadSeed(c.SeedFile); err != nil {
		return nil, err
	}
	if e.trust, err = newTrust(c, e.wrong); err != nil {
		return nil, err
	}
	return e, nil
}

// Node is this node's name at the core.
func (e *Edge) Node() string { return e.seed.Node }

func (e *Edge) wrong(err error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.unheard = err
}

// Run keeps a connection until ctx ends. It never gives up: a backhaul that
// was away for nine days is there again on the tenth.
func (e *Edge) Run(ctx context.Context) error {
	for ctx.Err() == nil {
		s, err := e.open(ctx)
		if err == nil {
			e.serve(s)
			err = errCut
		}
		e.down(err)
		wait := time.NewTimer(retryWait + rand.N(retryJitter))
		select {
		case <-ctx.Done():
		case <-wait.C:
		case <-e.poke:
		}
		wait.Stop()
	}
	return nil
}

// Poke tries now what would be tried in a moment.
func (e *Edge) Poke() {
	select {
	case e.poke <- struct{}{}:
	default:
	}
}

// open connects and learns which core it is.
func (e *Edge) open(ctx context.Context) (*session, error) {
	sctx, cancel := context.WithCancelCause(ctx)
	s := &session{node: e.seed.Node, ctx: sctx, cancel: cancel, under: map[uint64]*publish{}}
	e.wrong(nil)
	nc, err := dial(e.cfg, e.seed, e.trust, e.pingTime(), s.heard, func() { cancel(errCut) })
	if err != nil {
		cancel(err)
		return nil, e.better(err)
	}
	s.nc = nc
	if err := s.hello(); err != nil {
		cancel(err)
		nc.Close()
		return nil, err
	}
	return s, nil
}

// better prefers what the handshake said to the library's summary.
func (e *Edge) better(err error) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.unheard != nil {
		return e.unheard
	}
	return err
}

func (e *Edge) pingTime() time.Duration {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.ping
}

// serve makes a session usable until it ends.
func (e *Edge) serve(s *session) {
	defer s.nc.Close()
	var watcher sync.WaitGroup
	watcher.Go(s.watch)
	defer watcher.Wait()
	e.mu.Lock()
	e.live = s
	e.status.Up, e.status.Core, e.status.Since, e.status.Error, e.status.Tried = true, s.core, time.Now(), nil, 0
	e.turn()
	e.mu.Unlock()
	e.log.Info("core reached")
	<-s.ctx.Done()
}

// turn wakes whoever waits for the connection to come or go. e.mu is held.
func (e *Edge) turn() {
	close(e.changed)
	e.changed = make(chan struct{})
}

func (e *Edge) down(err error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if s := e.live; s != nil {
		e.log.Info("core out of reach")
		e.status.Since, e.status.Reached = time.Now(), time.Now()
		e.repace(s)
		e.live = nil
		e.turn()
	}
	if e.status.Error == nil && !errors.Is(err, errCut) && e.status.Tried == 0 {
		e.log.Warn("core cannot be reached; it will be tried again and again", "err", err)
	}
	e.status.Up, e.status.Error = false, err
	e.status.Tried++
}

// repace gives a thin backhaul longer for a ping: one that waits behind a
// message which takes longer than two pings would end every connection.
// e.mu is held.
func (e *Edge) repace(s *session) {
	s.mu.Lock()
	waiting := s.seq > 0
	s.mu.Unlock()
	switch {
	case s.acked.Load() > 0:
		e.ping = max(pingEvery, e.ping/2)
	case waiting:
		e.ping = min(pingMax, e.ping*2)
	}
}

// Status tells how the way stands.
func (e *Edge) Status() Status {
	e.mu.Lock()
	defer e.mu.Unlock()
	st := e.status
	if st.Up {
		st.Reached = time.Now()
		if e.live != nil {
			st.Clock = e.live.coreTime()
		}
	}
	return st
}

// count changes a figure of the status.
func (e *Edge) count(f func(*Status)) {
	e.mu.Lock()
	defer e.mu.Unlock()
	f(&e.status)
}

// Up waits until the core is reached and returns a context that ends with the
// connection, and which core it is.
func (e *Edge) Up(ctx context.Context) (context.Context, [16]byte, error) {
	s, err := e.session(ctx)
	if err != nil {
		return nil, [16]byte{}, err
	}
	return s.ctx, s.core, nil
}

// Changed returns a channel that is closed when the core comes or goes.
func (e *Edge) Changed() <-chan struct{} {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.changed
}

func (e *Edge) session(ctx context.Context) (*session, error) {
	for {
		e.mu.Lock()
		s, changed := e.live, e.changed
		e.mu.Unlock()
		if s != nil && s.ctx.Err() == nil {
			return s, nil
		}
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-changed:
		}
	}
}

// again repeats what a cut or a lost answer has ended. It waits a moment
// after an answer that was lost, so that nothing spins.
func (e *Edge) again(ctx context.Context, do func(*session) error) error {
	for {
		s, err := e.session(ctx)
		if err != nil {
			return err
		}
		err = do(s)
		switch {
		case err == nil:
			return nil
		case ctx.Err() != nil:
			return ctx.Err()
		case errors.Is(err, errCut):
			// The end of a connection may be seen here first.
			if !pause(ctx, s.ctx, retryWait) {
				return ctx.Err()
			}
		case errors.Is(err, errLost), errors.Is(err, ErrFull):
			if errors.Is(err, ErrFull) {
				e.count(func(st *Status) { st.Full = true })
			}
			if !pause(ctx, s.ctx, retryWait+rand.N(retryJitter)) {
				return ctx.Err()
			}
		default:
			return err
		}
	}
}

// send is again for a publish, whose repetitions are counted.
func (e *Edge) send(ctx context.Context, do func(*session) error) error {
	first := true
	return e.again(ctx, func(s *session) error {
		if !first {
			e.count(func(st *Status) { st.Resent++ })
		}
		first = false
		return do(s)
	})
}

// pause waits, but not past a cut; false when ctx has ended.
func pause(ctx, cut context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-cut.Done():
	case <-t.C:
	}
	return true
}
