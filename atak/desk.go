package atak

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"slices"
	"strings"
	"sync"
	"time"

	"outrider/atak/cot"
)

// A desk is one user's place at the bridge: all clients of the user, what is
// under way for them, and the user themselves, who is unlocked for as long as
// somebody works at the desk.
type desk struct {
	srv      *Server
	user     User
	self     Person
	spool    *spool
	inbox    *mailbox // what the node tells
	packages *mailbox // packages to be looked at
	kick     chan struct{}
	over     chan struct{} // closed by shut
	shut     func()

	mu      sync.Mutex
	workers int
	idle    time.Time // since when nobody works here
	ended   bool
	clients map[*client]bool
	own     *ownPosition
	tracks  map[PersonID]Position
	given   *memory[bool]  // incoming messages that went to the clients
	kept    *memory[bool]  // what the clients were told is withheld
	sent    *memory[sent]  // outgoing messages whose receipts go to a device
	early   *memory[state] // states that came before the message was noted

	markMu sync.Mutex    // each client is told of a mark's changes in their order
	marks  *memory[mark] // what was shown, or taken off
}

// An ownPosition is the newest position of the user's devices.
type ownPosition struct {
	at     Position
	to     []PersonID // nil: those of the settings
	dirty  bool
	sentAt time.Time
}

// state is how far a message has come.
type state struct{ delivered, read bool }

func newDesk(s *Server, u User, sp *spool) *desk {
	d := &desk{
		srv: s, user: u, self: u.Self(), spool: sp, inbox: newMailbox(), packages: newMailbox(), kick: make(chan struct{}, 1),
		over: make(chan struct{}), workers: 1, clients: make(map[*client]bool), tracks: make(map[PersonID]Position),
		given: newMemory[bool](), kept: newMemory[bool](), sent: newMemory[sent](), early: newMemory[state](), marks: newMemory[mark](),
	}
	d.shut = sync.OnceFunc(func() { close(d.over) })
	return d
}

// join counts a worker; it fails when the desk has ended.
func (d *desk) join() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.ended {
		return false
	}
	d.workers++
	return true
}

func (d *desk) leave() {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.workers--; d.workers == 0 {
		d.idle = time.Now()
	}
}

// enter adds a client; it fails when the user has too many.
func (d *desk) enter(c *client) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.ended || len(d.clients) >= MaxUserClients {
		return false
	}
	d.clients[c] = true
	return true
}

func (d *desk) exit(c *client) {
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.clients, c)
}

func (d *desk) count() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return len(d.clients)
}

// all returns the clients.
func (d *desk) all() []*client {
	d.mu.Lock()
	defer d.mu.Unlock()
	out := make([]*client, 0, len(d.clients))
	for c := range d.clients {
		out = append(out, c)
	}
	return out
}

// run serves the desk until nobody has worked at it for a while.
func (d *desk) run(ctx context.Context) {
	ctx, stop := context.WithCancel(ctx)
	var worker sync.WaitGroup
	worker.Add(1)
	go func() {
		defer worker.Done()
		d.lookAtPackages(ctx)
	}()
	defer worker.Wait()
	defer stop()
	defer d.end()
	tick, hour := time.NewTicker(time.Second), time.NewTicker(time.Hour)
	defer tick.Stop()
	defer hour.Stop()
	for {
		select {
		case <-d.inbox.ready:
			for _, m := range d.inbox.take() {
				d.update(ctx, m)
			}
		case <-d.kick:
			d.share(ctx)
		case <-tick.C:
			if d.forgotten() {
				return
			}
			d.share(ctx)
			d.unmarkExpired()
		case <-hour.C:
			if err := d.spool.sweep(false); err != nil {
				d.srv.log.Warn("atak: sweep files", "err", err)
			}
		case <-d.over:
			return
		case <-ctx.Done():
			return
		}
	}
}

// forgotten ends the desk when nobody has worked at it for long enough.
func (d *desk) forgotten() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.ended = d.workers == 0 && time.Since(d.idle) >= linger
	return d.ended
}

// end closes the desk for all who work at it.
func (d *desk) end() {
	d.mu.Lock()
	d.ended = true
	d.mu.Unlock()
	for _, c := range d.all() {
		c.conn.Close()
	}
}

// update handles what the node tells about a message.
func (d *desk) update(ctx context.Context, m Message) {
	switch {
	case m.Out:
		d.progress(m)
	case m.Withheld != "":
		if m.Unread && d.kept.add(keptAs(m), true) {
			d.withheld(m, d.all()...)
		}
	case m.Kind == Place:
		d.moved(ctx, m)
	case m.Kind == Mark:
		d.marked(m)
	case m.Kind == Text && m.Unread && d.given.add(m.ID, true):
		d.deliver(m, d.all()...)
	case m.Kind == Package && m.Unread && m.File.Complete && d.given.add(m.ID, true):
		d.packages.put(m)
	}
}

// keptAs names what is told once: each file, and of each person that there are
// positions.
func keptAs(m Message) MessageID {
	if m.Kind == Place {
		return MessageID("positions of " + m.Peer.ID)
	}
	return m.ID
}

// withheld says what is kept from the user.
func (d *desk) withheld(m Message, to ...*client) {
	for _, c := range to {
		c.tell(m.Peer.Name + ": " + m.Withheld + ". It opens when a newer policy allows it.")
	}
}

// moved shows a newer position to the clients.
func (d *desk) moved(ctx context.Context, m Message) {
	d.mu.Lock()
	old, known := d.tracks[m.Peer.ID]
	newer := !known || !m.Position.Time.Before(old.Time) && m.Position != old
	if newer {
		d.tracks[m.Peer.ID] = m.Position
	}
	d.mu.Unlock()
	if newer {
		e := d.srv.track(m.Peer, d.honest(ctx, m))
		for _, c := range d.all() {
			c.send(e)
		}
	}
}

// honest drops a callsign that is somebody else's name.
func (d *desk) honest(ctx context.Context, m Message) Position {
	p := m.Position
	if p.Callsign == "" {
		return p
	}
	people, err := d.user.People(ctx)
	if err != nil || strings.EqualFold(p.Callsign, d.self.Name) || slices.ContainsFunc(people, func(o Person) bool {
		return o.ID != m.Peer.ID && strings.EqualFold(o.Name, p.Callsign)
	}) {
		p.Callsign = ""
	}
	return p
}

// welcome shows a new client where everybody is, and what they have marked.
func (d *desk) welcome(ctx context.Context, c *client) {
	list, err := d.user.Positions(ctx, maxMarks)
	if err != nil {
		d.srv.log.Warn("atak: read positions", "err", err)
		return
	}
	for _, m := range list {
		if m.Kind == Mark {
			d.mark(m, c)
			continue
		}
		d.mu.Lock()
		if old, ok := d.tracks[m.Peer.ID]; !ok || m.Position.Time.After(old.Time) {
			d.tracks[m.Peer.ID] = m.Position
		} else {
			m.Position = old
		}
		d.mu.Unlock()
		c.send(d.srv.track(m.Peer, d.honest(ctx, m)))
	}
}

// replay gives a client that has said who it is what its user has not read.
func (d *desk) replay(ctx context.Context, c *client) {
	list, err := d.user.Unread(ctx, maxReplay)
	if err != nil {
		d.srv.log.Warn("atak: read what is unread", "err", err)
		return
	}
	for _, m := range list {
		switch {
		case m.Withheld != "":
			d.kept.add(keptAs(m), true)
			d.withheld(m, c)
		case m.Kind == Text:
			d.given.add(m.ID, true)
			d.deliver(m, c)
		case m.Kind == Package && m.File.Complete:
			d.given.add(m.ID, true)
			d.packages.put(m)
		}
	}
}

// deliver gives a text to clients. One that has not said who it is gets it
// when it does.
func (d *desk) deliver(m Message, to ...*client) {
	for _, c := range to {
		if uid, callsign, ok := c.identity(); ok {
			c.send(d.srv.chat(m.Peer.ID, m.Peer.Name, uid, callsign, string(m.ID), m.Text, m.Sent))
		}
	}
}

// handle acts on an event of a client.
func (d *desk) handle(ctx context.Context, c *client, e cot.Event) {
	if e.Find("_flow-tags_").Attr(d.srv.tag) != "" {
		return // it has been here
	}
	switch kind := e.Type; {
	case kind == "t-x-c-t":
		c.send(d.srv.pong())
	case kind == "t-x-takp-q":
		yes := e.Find("TakControl").Child("TakRequest").Attr("version") == "1"
		c.put(outgoing{event: d.srv.answerVersion(yes), frames: yes})
	case kind == "b-t-f":
		d.chatted(ctx, c, e)
	case kind == "b-t-f-r":
		d.read(ctx, e.UID)
	case kind == "b-f-t-r":
		d.offered(ctx, c, e)
	case kind == "b-f-t-a":
		if a := e.Find("ackresponse"); a.Attr("success") == "true" {
			d.read(ctx, a.Attr("uid"))
		}
	case strings.HasPrefix(kind, "a-") && e.Callsign() != "":
		d.located(ctx, c, e)
	case strings.HasPrefix(kind, "t-"), kind == "b-t-f-d":
	default:
		d.srv.note(func(st *Stats) { st.Ignored++ })
		c.tellOnce("kind", "Markers, drawings, routes and alerts are not carried yet: they stay on your device. Positions, chats to one person and data packages are carried.")
	}
}

// read marks a message as read. Events carry ids of devices too, so an id
// that is none of ours is no fault.
func (d *desk) read(ctx context.Context, id string) {
	if err := d.user.Read(ctx, MessageID(id)); err != nil {
		d.srv.log.Debug("atak: mark as read", "err", err)
	}
}

// located notes a device's own position. Only what the device says of itself
// is a position of the user.
func (d *desk) located(ctx context.Context, c *client, e cot.Event) {
	first := c.identify(e.UID, e.Callsign())
	if uid, _, _ := c.identity(); uid != e.UID {
		d.srv.note(func(st *Stats) { st.Ignored++ })
		c.tellOnce("second", "Your device speaks for several; only its own position is carried.")
		return
	}
	to, err := d.dests(ctx, e)
	if err != nil {
		c.tellOnce("dests", "Your position was not sent: "+err.Error())
	} else {
		d.setPosition(positionOf(e), to)
	}
	if first {
		d.replay(ctx, c)
	}
}

func (d *desk) setPosition(p Position, to []PersonID) {
	if strings.EqualFold(p.Callsign, d.self.Name) {
		p.Callsign = "" // the name says it
	}
	d.mu.Lock()
	if d.own == nil {
		d.own = &ownPosition{}
	}
	if !p.Time.Before(d.own.at.Time) {
		d.own.at, d.own.to, d.own.dirty = p, to, true
	}
	d.mu.Unlock()
	select {
	case d.kick <- struct{}{}:
	default:
	}
}

// share sends the newest position when it is due. What was overtaken
// meanwhile is never sent.
func (d *desk) share(ctx context.Context) {
	d.mu.Lock()
	own := d.own
	if own == nil || !own.dirty || time.Since(own.sentAt) < d.srv.cfg.Interval {
		d.mu.Unlock()
		return
	}
	own.dirty, own.sentAt = false, time.Now()
	at, to := own.at, own.to
	d.mu.Unlock()
	if to == nil {
		var err error
		if to, err = d.audience(ctx); err != nil {
			d.srv.log.Warn("atak: find who gets positions", "err", err)
			return
		}
	}
	failed := 0
	for _, p := range to {
		err := d.user.SendPosition(ctx, p, at)
		var rule *Forbidden
		switch {
		case errors.As(err, &rule):
			for _, c := range d.all() {
				c.tellOnce("forbidden", "Your position is not sent: "+rule.Rule+".")
			}
		case err != nil:
			failed++
			d.srv.log.Debug("atak: send a position", "err", err)
		}
	}
	if failed > 0 {
		d.srv.log.Warn("atak: a position could not be sent to everybody", "failed", failed)
	}
}

// audience is who gets positions by the settings: only people a message can be
// sealed to now, for a position that waits for keys is of no use.
func (d *desk) audience(ctx context.Context) ([]PersonID, error) {
	people, err := d.contacts(ctx)
	if err != nil {
		return nil, err
	}
	var out []PersonID
	for _, p := range people {
		if p.Keys && len(out) < MaxRecipients && slices.ContainsFunc(d.srv.cfg.ShareWith, func(s string) bool {
			return s == "*" || s == p.Name || s == string(p.ID)
		}) {
			out = append(out, p.ID)
		}
	}
	return out, nil
}

// contacts are those whom the user can write to.
func (d *desk) contacts(ctx context.Context) ([]Person, error) {
	people, err := d.user.People(ctx)
	return slices.DeleteFunc(people, func(p Person) bool { return p.ID == d.self.ID || p.Archive }), err
}

// act names an act of sending, so that an event that comes twice is sent once.
func act(kind string, e cot.Event, to PersonID) string {
	h := sha256.Sum256([]byte(kind + "\x00" + e.UID + "\x00" + string(to)))
	return "atak-" + hex.EncodeToString(h[:])
}

// A mailbox holds messages between the node and a desk. It is bounded by
// number: of one message only the newest state is kept, and behind the limit
// new ones wait as unread until the client returns.
type mailbox struct {
	ready chan struct{}

	mu    sync.Mutex
	order []MessageID
	by    map[MessageID]Message
}

const maxMailbox = 4096

func newMailbox() *mailbox {
	return &mailbox{ready: make(chan struct{}, 1), by: make(map[MessageID]Message)}
}

func (m *mailbox) put(msg Message) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if _, ok := m.by[msg.ID]; !ok {
		if len(m.order) >= maxMailbox {
			return
		}
		m.order = append(m.order, msg.ID)
	}
	m.by[msg.ID] = msg
	select {
	case m.ready <- struct{}{}:
	default:
	}
}

func (m *mailbox) take() []Message {
	m.mu.Lock()
	defer m.mu.Unlock()
	out := make([]Message, 0, len(m.order))
	for _, id := range m.order {
		out = append(out, m.by[id])
	}
	m.order = nil
	clear(m.by)
	return out
}

// A memory keeps the newest maxRemembered things by message.
type memory[T any] struct {
	mu    sync.Mutex
	order []MessageID
	by    map[MessageID]T
}

func newMemory[T any]() *memory[T] { return &memory[T]{by: make(map[MessageID]T)} }

// add reports whether id is new; what is known is not changed.
func (m *memory[T]) add(id MessageID, v T) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	if _, ok := m.by[id]; ok {
		return false
	}
	m.set(id, v)
	return true
}

func (m *memory[T]) set(id MessageID, v T) {
	if _, ok := m.by[id]; !ok {
		if len(m.order) >= maxRemembered {
			delete(m.by, m.order[0])
			m.order = m.order[1:]
		}
		m.order = append(m.order, id)
	}
	m.by[id] = v
}

// change sets what edit makes of the value there is.
func (m *memory[T]) change(id MessageID, edit func(v T, known bool) (T, bool)) {
	m.mu.Lock()
	defer m.mu.Unlock()
	old, ok := m.by[id]
	if v, keep := edit(old, ok); keep {
		m.set(id, v)
	}
}

// drop forgets the values for which over holds and returns their messages.
func (m *memory[T]) drop(over func(T) bool) (out []MessageID) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.order = slices.DeleteFunc(m.order, func(id MessageID) bool {
		if !over(m.by[id]) {
			return false
		}
		delete(m.by, id)
		out = append(out, id)
		return true
	})
	return out
}

func (m *memory[T]) get(id MessageID) (T, bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	v, ok := m.by[id]
	return v, ok
}
