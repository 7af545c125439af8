package node

import (
	"context"
	"errors"
	"math"
	"sync"
	"time"

	"outrider/mesh/identity"
	"outrider/node/api"
	"outrider/node/chat"
	"outrider/node/position"
)

// liveTick is how often live shares are looked at, at least: what was not there
// to be sent may be there by then. What is due sooner is sent when it is due.
const liveTick = chat.MinLiveEvery / 2

// whereabouts is the node's own position: the receiver, and the live shares
// that take from it.
type whereabouts struct {
	n        *Node
	receiver *position.Source
	wake     chan struct{} // 1 deep: a share was made

	mu     sync.Mutex
	sent   map[chat.MessageID]time.Time     // when the last position of a share went, monotonic
	device map[identity.UserID]position.Fix // what users' own devices told last
}

// deviceFresh is how long a position of a user's device is where the user is.
// Browsers wake a page in the background once a minute.
const deviceFresh = 2 * time.Minute

func newWhereabouts(n *Node) *whereabouts {
	gpsd, device := n.cfg.PositionSource()
	return &whereabouts{
		n: n, receiver: position.New(position.Options{GPSD: gpsd, Device: device, Log: n.log}),
		wake: make(chan struct{}, 1), sent: make(map[chat.MessageID]time.Time), device: make(map[identity.UserID]position.Fix),
	}
}

// run sends what live shares ask for until ctx ends.
func (w *whereabouts) run(ctx context.Context) error {
	due := time.NewTimer(liveTick)
	defer due.Stop()
	for {
		select {
		case <-due.C:
		case <-w.wake:
		case <-ctx.Done():
			return nil
		}
		due.Reset(w.share(ctx))
	}
}

// share sends the position for each share that is due, and says when the next
// one will be. Users whose keys are locked wait for their next login.
func (w *whereabouts) share(ctx context.Context) (next time.Duration) {
	next = liveTick
	seen := make(map[chat.MessageID]bool)
	for _, h := range w.n.chat.Hosted() {
		s, ok := w.n.chat.Session(h.User)
		if !ok {
			continue
		}
		list, err := s.LiveShares(ctx)
		if err != nil {
			continue // locked meanwhile
		}
		for _, l := range list {
			seen[l.ID] = true
			next = min(next, w.shareOne(ctx, s, l))
		}
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	for id := range w.sent {
		if !seen[id] {
			delete(w.sent, id)
		}
	}
	return next
}

// shareOne sends one position if one is due and there is one, and says when to
// look again. A position that cannot be sent now is left out; the next one is
// as good. A share that was stopped since it was read sends nothing.
func (w *whereabouts) shareOne(ctx context.Context, s *chat.Session, l chat.LiveShare) time.Duration {
	w.mu.Lock()
	last, again := w.sent[l.ID]
	w.mu.Unlock()
	if again && l.Source == chat.LiveEntered {
		return liveTick // what was typed stays as it is: once is enough
	}
	if left := l.Every - time.Since(last); again && left > 0 {
		return left
	}
	loc, ok := w.place(s.Self().ID, l)
	if !ok {
		return liveTick
	}
	_, err := s.SendLive(ctx, l, loc)
	if err != nil {
		if !errors.Is(err, chat.ErrNotFound) && !errors.Is(err, chat.ErrLocked) && !errors.Is(err, chat.ErrPolicy) { // what a policy forbids pauses
			w.n.log.Warn("node: a live position is left out", "err", err)
		}
		return liveTick
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.sent[l.ID] = time.Now()
	return l.Every
}

// place is where a share says its user is now; ok is false when nobody knows.
func (w *whereabouts) place(user identity.UserID, l chat.LiveShare) (loc chat.Location, ok bool) {
	holds := 2*l.Every + position.FreshFor // one may be late or lost on the way
	switch l.Source {
	case chat.LiveEntered:
		loc, ok = *l.Place, true
		holds = l.Until.Sub(loc.Fix.At)
	case chat.LiveDevice:
		w.mu.Lock()
		f, known := w.device[user]
		w.mu.Unlock()
		age := time.Since(f.At)
		loc, ok = w.locationOf(f, age), known && age <= deviceFresh
	default:
		loc, ok = w.here()
	}
	if !ok {
		return loc, false
	}
	loc.Live, loc.Fix.Holds, loc.Fix.Until = true, holds, l.Until
	return loc, true
}

// here is the receiver's fix as a position to be sent; ok is false when there
// is no fresh one.
func (w *whereabouts) here() (l chat.Location, ok bool) {
	f, age, ok := w.receiver.Latest()
	if !ok || age > position.FreshFor {
		return l, false
	}
	return w.locationOf(f, age), true
}

// locationOf is a fix as a position to be sent.
func (w *whereabouts) locationOf(f position.Fix, age time.Duration) chat.Location {
	l := chat.Location{Lat: f.Lat, Lon: f.Lon, Fix: &chat.Fix{
		At: w.n.clock.Now().Add(-age), AltitudeM: f.AltitudeM, CourseDeg: f.CourseDeg, SpeedMS: f.SpeedMS, Source: chat.SourceGPS,
	}}
	if f.AccuracyM > 0 {
		l.AccuracyM = uint32(min(math.Ceil(f.AccuracyM), math.MaxUint32/100))
	}
	return l
}

// Own tells the API where the node is.
func (w *whereabouts) Own() api.OwnPosition {
	out := api.OwnPosition{State: w.receiver.State()}
	if f, age, ok := w.receiver.Latest(); ok {
		out.Fix, out.Age, out.At = &f, age, w.n.clock.Now().Add(-age)
	}
	return out
}

// Here is part of api.Position.
func (w *whereabouts) Here() (chat.Location, bool) { return w.here() }

func (w *whereabouts) session(user identity.UserID) (*chat.Session, error) {
	s, ok := w.n.chat.Session(user)
	if !ok {
		return nil, chat.ErrLocked
	}
	return s, nil
}

// ShareLive is part of api.Position.
func (w *whereabouts) ShareLive(ctx context.Context, user identity.UserID, d chat.LiveDraft) (chat.LiveShare, error) {
	s, err := w.session(user)
	if err != nil {
		return chat.LiveShare{}, err
	}
	if d.Source == chat.LiveReceiver && w.receiver.State() == position.Off {
		return chat.LiveShare{}, api.ErrNoReceiver
	}
	l, err := s.ShareLive(ctx, d)
	if err != nil {
		return l, err
	}
	w.look() // the first position goes now
	return l, nil
}

// look has the shares looked at without waiting for the next tick.
func (w *whereabouts) look() {
	select {
	case w.wake <- struct{}{}:
	default:
	}
}

// Moved is part of api.Position.
func (w *whereabouts) Moved(user identity.UserID, f position.Fix) error {
	if _, err := w.session(user); err != nil {
		return err
	}
	f.At = time.Now()
	w.mu.Lock()
	w.device[user] = f
	w.mu.Unlock()
	w.look()
	return nil
}

// LiveShares is part of api.Position.
func (w *whereabouts) LiveShares(ctx context.Context, user identity.UserID) ([]chat.LiveShare, error) {
	s, err := w.session(user)
	if err != nil {
		return nil, err
	}
	return s.LiveShares(ctx)
}

// StopLive is part of api.Position.
func (w *whereabouts) StopLive(ctx context.Context, user, to identity.UserID) (int, error) {
	s, err := w.session(user)
	if err != nil {
		return 0, err
	}
	return s.StopLive(ctx, to)
}
