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

// liveTick is how often live shares are looked at. It is half of the shortest
// interval between two positions.
const liveTick = chat.MinLiveEvery / 2

// whereabouts is the node's own position: the receiver, and the live shares
// that take from it.
type whereabouts struct {
	n        *Node
	receiver *position.Source
	wake     chan struct{} // 1 deep: a share was made

	mu   sync.Mutex
	sent map[liveName]time.Time // the last position of a share, monotonic
}

// A liveName names a share.
type liveName struct{ from, to identity.UserID }

func newWhereabouts(n *Node) *whereabouts {
	gpsd, device := n.cfg.PositionSource()
	return &whereabouts{
		n: n, receiver: position.New(position.Options{GPSD: gpsd, Device: device, Log: n.log}),
		wake: make(chan struct{}, 1), sent: make(map[liveName]time.Time),
	}
}

// run sends what live shares ask for until ctx ends.
func (w *whereabouts) run(ctx context.Context) error {
	tick := time.NewTicker(liveTick)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
		case <-w.wake:
		case <-ctx.Done():
			return nil
		}
		w.share(ctx)
	}
}

// share sends the position for each share that is due. Users whose keys are
// locked wait for their next login.
func (w *whereabouts) share(ctx context.Context) {
	seen := make(map[liveName]bool)
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
			name := liveName{h.User, l.To.ID}
			seen[name] = true
			w.shareOne(ctx, s, name, l)
		}
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	for name := range w.sent {
		if !seen[name] {
			delete(w.sent, name)
		}
	}
}

// shareOne sends one position if one is due and there is one. A position that
// cannot be sent now is left out; the next one is as good.
func (w *whereabouts) shareOne(ctx context.Context, s *chat.Session, name liveName, l chat.LiveShare) {
	w.mu.Lock()
	last, again := w.sent[name]
	w.mu.Unlock()
	if again && time.Since(last) < l.Every {
		return
	}
	loc, ok := w.here()
	if !ok {
		return
	}
	loc.Live = true
	loc.Fix.Holds = 2*l.Every + position.FreshFor // one may be late or lost on the way
	_, err := s.SendLocation(ctx, chat.LocationDraft{To: name.to, Location: loc, TTL: positionTTL})
	if err != nil {
		if !errors.Is(err, chat.ErrLocked) {
			w.n.log.Warn("node: a live position is left out", "err", err)
		}
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.sent[name] = time.Now()
}

// here is the receiver's fix as a position to be sent; ok is false when there
// is no fresh one.
func (w *whereabouts) here() (l chat.Location, ok bool) {
	f, age, ok := w.receiver.Latest()
	if !ok || age > position.FreshFor {
		return l, false
	}
	l = chat.Location{Lat: f.Lat, Lon: f.Lon, Fix: &chat.Fix{
		At: w.n.clock.Now().Add(-age), AltitudeM: f.AltitudeM, CourseDeg: f.CourseDeg, SpeedMS: f.SpeedMS, Source: chat.SourceGPS,
	}}
	if f.AccuracyM > 0 {
		l.AccuracyM = uint32(min(math.Ceil(f.AccuracyM), math.MaxUint32/100))
	}
	return l, true
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
func (w *whereabouts) ShareLive(ctx context.Context, user, to identity.UserID, span, every time.Duration) (chat.LiveShare, error) {
	s, err := w.session(user)
	if err != nil {
		return chat.LiveShare{}, err
	}
	if w.receiver.State() == position.Off {
		return chat.LiveShare{}, api.ErrNoReceiver
	}
	l, err := s.ShareLive(ctx, to, span, every)
	if err != nil {
		return l, err
	}
	w.mu.Lock()
	delete(w.sent, liveName{user, to}) // the first position goes now
	w.mu.Unlock()
	select {
	case w.wake <- struct{}{}:
	default:
	}
	return l, nil
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
