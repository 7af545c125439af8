package rtc

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"outrider/media"
	"outrider/mesh/identity"
)

// negotiateTime bounds one exchange of offer and answer.
const negotiateTime = 5 * time.Second

// Config is what a Server is made of.
type Config struct {
	// Listen is where media is taken, for UDP and TCP. The unspecified
	// address means every address of the machine's interfaces.
	Listen netip.AddrPort
	// ForceTCP leaves UDP out for everybody: features.md C05.
	ForceTCP bool
	Log      *slog.Logger

	// Connected and Gone tell that a participant's media flows, and that its
	// connection is lost. They are called from goroutines of the server's own
	// and may call it back.
	Connected func(call media.CallID, user identity.UserID)
	Gone      func(call media.CallID, user identity.UserID)

	// Tap sees the payload of every packet that is forwarded; for tests.
	Tap func(payload []byte)
}

// Figures are what a Server did since it was made.
type Figures struct {
	Participants int
	Forwarded    uint64 // packets written to receivers
	Dropped      uint64 // packets that could not be
}

// A Server forwards the media of one node's calls.
type Server struct {
	cfg Config
	log *slog.Logger

	forwarded, dropped atomic.Uint64

	opening sync.Mutex // one change of the sockets at a time

	mu      sync.Mutex
	running bool
	jobs    sync.WaitGroup // everything that runs on our account
	rooms   map[media.CallID]map[identity.UserID]*participant
	joining int
	sockets *sockets // nil while nobody is in a call
}

// New returns a server. Nothing listens before the first Join.
func New(cfg Config) *Server {
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	nobody := func(media.CallID, identity.UserID) {}
	if cfg.Connected == nil {
		cfg.Connected = nobody
	}
	if cfg.Gone == nil {
		cfg.Gone = nobody
	}
	return &Server{cfg: cfg, log: cfg.Log, rooms: make(map[media.CallID]map[identity.UserID]*participant)}
}

// Run lets participants in until ctx ends. Then all of them are put out.
func (s *Server) Run(ctx context.Context) error {
	s.mu.Lock()
	s.running = true
	s.mu.Unlock()
	<-ctx.Done()
	s.mu.Lock()
	s.running = false
	var all []media.CallID
	for call := range s.rooms {
		all = append(all, call)
	}
	s.mu.Unlock()
	for _, call := range all {
		s.End(call)
	}
	s.jobs.Wait()
	s.closeUnused()
	return nil
}

// errStopped is the answer while Run does not run.
var errStopped = errors.New("rtc: not running")

// Join connects a user to a call and answers the client's offer. Who is in the
// call already gets the new connection in place of the old one.
func (s *Server) Join(ctx context.Context, call media.CallID, user identity.UserID, offer media.Offer) (media.Answer, error) {
	if err := offer.Check(); err != nil {
		return media.Answer{}, err
	}
	s.mu.Lock()
	room := s.rooms[call]
	_, again := room[user]
	switch {
	case !s.running:
		s.mu.Unlock()
		return media.Answer{}, errStopped
	case !again && len(room) >= media.MaxParticipants:
		s.mu.Unlock()
		return media.Answer{}, media.ErrFull
	}
	s.jobs.Add(1)
	s.joining++
	s.mu.Unlock()
	defer s.jobs.Done()
	defer s.joined()

	ctx, cancel := context.WithTimeout(ctx, negotiateTime)
	defer cancel()
	p := newParticipant(s, call, user)
	answer, err := s.negotiate(ctx, p, offer)
	if err == nil {
		err = s.enter(p)
	}
	if err != nil {
		p.close()
		return media.Answer{}, err
	}
	return answer, nil
}

// joined ends a Join: sockets that were opened for nothing are closed.
func (s *Server) joined() {
	s.mu.Lock()
	s.joining--
	s.mu.Unlock()
	s.closeUnused()
}

func (s *Server) negotiate(ctx context.Context, p *participant, offer media.Offer) (media.Answer, error) {
	s.opening.Lock()
	so, err := s.open()
	var api, apiErr = so.api(s, offer)
	s.opening.Unlock()
	if err = errors.Join(err, apiErr); err != nil {
		return media.Answer{}, err
	}
	return p.negotiate(ctx, api, offer.SDP)
}

// open opens the sockets, or brings them up to the interfaces there are now.
// The caller holds opening.
func (s *Server) open() (*sockets, error) {
	s.mu.Lock()
	so := s.sockets
	s.mu.Unlock()
	if so != nil {
		return so, so.refresh()
	}
	so, err := openSockets(s.cfg.Listen, s.log)
	if err != nil {
		return nil, fmt.Errorf("%w: %v", media.ErrPort, err)
	}
	s.mu.Lock()
	s.sockets = so
	s.mu.Unlock()
	return so, nil
}

// closeUnused closes the sockets when nobody is left.
func (s *Server) closeUnused() {
	s.opening.Lock()
	defer s.opening.Unlock()
	s.mu.Lock()
	so := s.sockets
	if so == nil || len(s.rooms) > 0 || s.joining > 0 {
		s.mu.Unlock()
		return
	}
	s.sockets = nil
	s.mu.Unlock()
	so.close()
}

// enter gives a participant its place, and puts out the one it replaces.
func (s *Server) enter(p *participant) error {
	s.mu.Lock()
	room := s.rooms[p.call]
	old := room[p.user]
	switch {
	case !s.running:
		s.mu.Unlock()
		return errStopped
	case old == nil && len(room) >= media.MaxParticipants:
		s.mu.Unlock()
		return media.ErrFull
	}
	if room == nil {
		room = make(map[identity.UserID]*participant)
		s.rooms[p.call] = room
	}
	room[p.user] = p
	if old != nil {
		s.put(old)
	}
	s.mu.Unlock()
	return nil
}

// put closes a participant that has no place any more. The caller holds mu.
func (s *Server) put(p *participant) {
	s.jobs.Add(1)
	go func() {
		defer s.jobs.Done()
		p.close()
		s.closeUnused()
	}()
}

// Leave puts one participant out.
func (s *Server) Leave(call media.CallID, user identity.UserID) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if p := s.rooms[call][user]; p != nil {
		s.drop(p)
	}
}

// drop takes a participant's place away. The caller holds mu.
func (s *Server) drop(p *participant) {
	delete(s.rooms[p.call], p.user)
	if len(s.rooms[p.call]) == 0 {
		delete(s.rooms, p.call)
	}
	s.put(p)
}

// End puts everybody out of a call.
func (s *Server) End(call media.CallID) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, p := range s.rooms[call] {
		s.drop(p)
	}
}

// lost is told by a participant whose connection is gone.
func (s *Server) lost(p *participant) {
	s.mu.Lock()
	placed := s.rooms[p.call][p.user] == p
	if placed {
		s.drop(p)
	}
	s.mu.Unlock()
	if placed {
		s.cfg.Gone(p.call, p.user)
	}
}

// job runs f on the server's account, unless it stops.
func (s *Server) job(f func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.running {
		return
	}
	s.jobs.Add(1)
	go func() {
		defer s.jobs.Done()
		f()
	}()
}

// others are the participants a packet goes to.
func (s *Server) others(p *participant, out []*participant) []*participant {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.rooms[p.call][p.user] != p {
		return out // replaced, or not in yet
	}
	for _, o := range s.rooms[p.call] {
		if o != p {
			out = append(out, o)
		}
	}
	return out
}

// Figures counts.
func (s *Server) Figures() Figures {
	s.mu.Lock()
	defer s.mu.Unlock()
	f := Figures{Forwarded: s.forwarded.Load(), Dropped: s.dropped.Load()}
	for _, room := range s.rooms {
		f.Participants += len(room)
	}
	return f
}

// Listening tells whether the ports are open.
func (s *Server) Listening() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.sockets != nil
}
