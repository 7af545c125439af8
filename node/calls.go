package node

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"outrider/media"
	"outrider/media/rtc"
	"outrider/mesh/envelope"
	"outrider/mesh/identity"
	"outrider/node/api"
	"outrider/node/chat"
)

// calls are the calls of this node's users: it joins the machine (media), the
// sealed messages its signals travel in (chat), the server that forwards what
// it cannot open (media/rtc), and the page (api).
type calls struct {
	n     *Node
	rtc   *rtc.Server
	heard chan heardSignal

	mu      sync.Mutex // one step at a time, with all that comes of it
	machine *media.Calls
}

type heardSignal struct {
	user, peer identity.UserID
	signal     media.Signal
}

// maxHeard is how many signals wait for their step. One that finds no place is
// lost, as on a bad link; calls then end by their own time.
const maxHeard = 256

// newCalls makes the calls when the settings have them on.
func newCalls(n *Node) *calls {
	if !n.cfg.Calls.Enabled {
		return nil
	}
	c := &calls{n: n, heard: make(chan heardSignal, maxHeard), machine: media.NewCalls(n.home.ID())}
	c.rtc = rtc.New(rtc.Config{
		Listen: n.cfg.CallsAddr(), ForceTCP: n.cfg.Calls.ForceTCP, Log: n.log, Connected: c.connected, Gone: c.gone, Tap: callTap,
	})
	return c
}

// run serves until ctx ends.
func (c *calls) run(ctx context.Context) error {
	if c == nil {
		return nil
	}
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return c.rtc.Run(ctx) })
	g.Go(func() error { return c.listen(ctx) })
	return g.Wait()
}

func (c *calls) listen(ctx context.Context) error {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		select {
		case h := <-c.heard:
			c.step(ctx, func(now time.Time) []media.Effect { return c.machine.Take(now, h.user, h.peer, h.signal) })
		case <-tick.C:
			c.step(ctx, c.machine.Tick)
		case <-ctx.Done():
			return nil
		}
	}
}

// hear takes a step of a call from chat. It does not block.
func (c *calls) hear(user, peer identity.UserID, s chat.CallSignal) {
	if c == nil {
		return
	}
	h := heardSignal{user, peer, media.Signal{
		Call: s.Call, Kind: media.Kind(s.Kind), Node: s.Node, Commit: s.Commit, Key: s.Key, Reason: media.Reason(s.Reason),
	}}
	select {
	case c.heard <- h:
	default:
		c.n.log.Warn("calls: too many steps at once, one is lost")
	}
}

// step runs one step of the machine and what comes of it.
func (c *calls) step(ctx context.Context, do func(now time.Time) []media.Effect) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.carryOut(ctx, do(time.Now())...)
}

// carryOut does what the machine asks for. The caller holds mu.
func (c *calls) carryOut(ctx context.Context, effects ...media.Effect) {
	for _, e := range effects {
		c.n.hub.Call(c.view(e.Call))
		if e.Call.State.Over() {
			c.rtc.Leave(e.Call.ID, e.Call.User)
		}
		if err := c.tell(ctx, e); err != nil && !errors.Is(err, chat.ErrLocked) {
			c.n.log.Warn("calls: the other side was not told", "err", err)
		}
		if e.Record != nil {
			if err := c.keep(ctx, e); err != nil {
				c.n.log.Warn("calls: the record was not kept", "err", err)
			}
		}
	}
}

// tell sends an effect's signal as a sealed message.
func (c *calls) tell(ctx context.Context, e media.Effect) error {
	if e.Send == nil {
		return nil
	}
	s, ok := c.n.chat.Session(e.Call.User)
	if !ok {
		return chat.ErrLocked
	}
	m := e.Send
	return s.SendCall(ctx, e.Call.Peer, chat.CallSignal{
		Call: m.Call, Kind: envelope.CallKind(m.Kind), Node: m.Node, Commit: m.Commit, Key: m.Key, Reason: uint8(m.Reason),
	})
}

// keep puts a call's record into the conversation. Its time is by the node's
// clock, which the machine's is not.
func (c *calls) keep(ctx context.Context, e media.Effect) error {
	s, ok := c.n.chat.Session(e.Call.User)
	if !ok {
		return chat.ErrLocked
	}
	r := e.Record
	_, err := s.SendCallRecord(ctx, e.Call.Peer, chat.Call{
		ID: r.Call, Status: envelope.CallStatus(r.Status), Began: c.n.clock.Now().Add(-time.Since(r.Began)), Duration: r.Duration,
	})
	return err
}

func (c *calls) view(m media.Call) api.Call {
	return api.Call{Call: m, With: chat.Person{ID: m.Peer, Name: c.name(m.Peer)}}
}

func (c *calls) name(id identity.UserID) string {
	if u, ok := c.n.roster.User(id); ok && u.Name != "" {
		return u.Name
	}
	return "user " + id.String()[:8]
}

// connected and gone come from the media server.
func (c *calls) connected(id media.CallID, user identity.UserID) {
	c.step(context.Background(), func(time.Time) []media.Effect {
		if e, ok := c.machine.Connected(user, id); ok {
			return []media.Effect{e}
		}
		return nil
	})
}

func (c *calls) gone(id media.CallID, user identity.UserID) {
	c.step(context.Background(), func(now time.Time) []media.Effect {
		c.machine.Lost(now, user, id)
		return nil
	})
}

// leave ends the calls of a user whose keys are about to be locked.
func (c *calls) leave(user identity.UserID) {
	if c != nil {
		c.step(context.Background(), func(now time.Time) []media.Effect { return c.machine.EndAll(now, user) })
	}
}

// act is a step that a user asked for.
func (c *calls) act(ctx context.Context, do func(now time.Time) (media.Effect, error)) (api.Call, error) {
	if c == nil {
		return api.Call{}, api.ErrCallsOff
	}
	ctx = context.WithoutCancel(ctx) // a step is not done by half
	c.mu.Lock()
	defer c.mu.Unlock()
	e, err := do(time.Now())
	if err != nil {
		return api.Call{}, err
	}
	c.carryOut(ctx, e)
	return c.view(e.Call), nil
}

var _ api.Calls = (*calls)(nil)

// Start calls a user of this node. That the invitation cannot be sent is the
// caller's to know at once.
func (c *calls) Start(ctx context.Context, user, to identity.UserID, id media.CallID, commit []byte) (api.Call, error) {
	if c == nil {
		return api.Call{}, api.ErrCallsOff
	}
	hosted, err := c.n.home.Users()
	if err != nil {
		return api.Call{}, fmt.Errorf("node: call: %w", err)
	}
	if _, known := c.n.roster.User(to); !known {
		return api.Call{}, chat.ErrNotFound
	}
	if to != user && !slices.Contains(hosted, to) {
		return api.Call{}, api.ErrElsewhere
	}
	ctx = context.WithoutCancel(ctx)
	c.mu.Lock()
	defer c.mu.Unlock()
	now := time.Now()
	e, err := c.machine.Start(now, user, to, id, commit)
	if err != nil {
		return api.Call{}, err
	}
	if err := c.tell(ctx, e); err != nil {
		_, _ = c.machine.End(now, user, e.Call.ID, media.ReasonLost) // it never rang, so there is no record
		return api.Call{}, err
	}
	e.Send = nil
	c.carryOut(ctx, e)
	return c.view(e.Call), nil
}

func (c *calls) Answer(ctx context.Context, user identity.UserID, id media.CallID, key []byte) (api.Call, error) {
	return c.act(ctx, func(now time.Time) (media.Effect, error) { return c.machine.Answer(now, user, id, key) })
}

func (c *calls) Reveal(ctx context.Context, user identity.UserID, id media.CallID, key []byte) (api.Call, error) {
	return c.act(ctx, func(time.Time) (media.Effect, error) { return c.machine.Reveal(user, id, key) })
}

func (c *calls) End(ctx context.Context, user identity.UserID, id media.CallID, reason media.Reason) (api.Call, error) {
	return c.act(ctx, func(now time.Time) (media.Effect, error) { return c.machine.End(now, user, id, reason) })
}

// Media connects a participant of an accepted call.
func (c *calls) Media(ctx context.Context, user identity.UserID, id media.CallID, o media.Offer) (media.Answer, error) {
	if c == nil {
		return media.Answer{}, api.ErrCallsOff
	}
	accepted := func() error {
		c.mu.Lock()
		defer c.mu.Unlock()
		call, err := c.machine.Get(user, id)
		if err == nil && call.State != media.StateAccepted {
			err = media.ErrState
		}
		return err
	}
	if err := accepted(); err != nil {
		return media.Answer{}, err
	}
	answer, err := c.rtc.Join(ctx, id, user, o)
	if err == nil {
		if err = accepted(); err != nil {
			c.rtc.Leave(id, user) // it ended meanwhile
		}
	}
	return answer, err
}

// Of lists a user's calls.
func (c *calls) Of(user identity.UserID) ([]api.Call, error) {
	if c == nil {
		return nil, api.ErrCallsOff
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	var out []api.Call
	for _, m := range c.machine.Of(user) {
		out = append(out, c.view(m))
	}
	return out, nil
}

// health counts for figures.
func (c *calls) health() api.HealthCalls {
	if c == nil {
		return api.HealthCalls{}
	}
	c.mu.Lock()
	running := c.machine.Running()
	c.mu.Unlock()
	f := c.rtc.Figures()
	return api.HealthCalls{Running: running, Participants: f.Participants, Forwarded: f.Forwarded, Dropped: f.Dropped}
}

// callingChat ends a user's calls before the keys that seal their signals are
// locked.
type callingChat struct {
	api.Chat
	calls *calls
}

func (c callingChat) Lock(user identity.UserID) {
	c.calls.leave(user)
	c.Chat.Lock(user)
}
