package atak

import (
	"context"
	"errors"
	"io"
	"net"
	"sync"
	"time"

	"outrider/atak/cot"
	"outrider/atak/tak"
)

// A client is one event stream. One goroutine reads, one writes; the desk
// puts events into the queue.
type client struct {
	desk *desk
	conn net.Conn

	mu       sync.Mutex
	uid      string // of the device, from its first own event
	callsign string
	queue    []outgoing
	bytes    int
	closed   bool
	told     map[string]bool // kinds of events the client was told about
	wake     chan struct{}
}

// An outgoing event waits for the writer. Switch makes frames of all that
// follow.
type outgoing struct {
	event  cot.Event
	frames bool // switch to version 1 behind this one
	size   int
}

func newClient(d *desk, conn net.Conn) *client {
	return &client{desk: d, conn: conn, told: make(map[string]bool), wake: make(chan struct{}, 1)}
}

// run serves the stream until it ends.
func (c *client) run(ctx context.Context) {
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	var writer sync.WaitGroup
	writer.Add(1)
	go func() {
		defer writer.Done()
		c.write(ctx)
	}()
	go func() { // closing the connection ends the reader
		<-ctx.Done()
		c.conn.Close()
	}()
	c.send(c.desk.srv.offerVersion())
	c.desk.welcome(ctx, c)
	c.read(ctx)
	stop()
	c.conn.Close()
	writer.Wait()
}

// patient gives each read a new deadline.
type patient struct{ net.Conn }

func (p patient) Read(b []byte) (int, error) {
	if err := p.SetReadDeadline(time.Now().Add(idleTime)); err != nil {
		return 0, err
	}
	return p.Conn.Read(b)
}

// read handles one event after the other. Events that are malformed are told
// about and passed over; what breaks the stream ends it.
func (c *client) read(ctx context.Context) {
	r := tak.NewReader(patient{c.conn})
	srv := c.desk.srv
	defer func() { srv.note(func(st *Stats) { st.Junk += r.Junk() }) }()
	for ctx.Err() == nil {
		m, err := r.Next()
		if err != nil {
			if errors.Is(err, tak.ErrTooLarge) || errors.Is(err, tak.ErrJunk) {
				srv.note(func(st *Stats) { st.Broken++ })
				srv.log.Warn("atak: a client's stream was ended", "err", err)
			} else if !errors.Is(err, io.EOF) && ctx.Err() == nil {
				srv.log.Debug("atak: a client's stream ended", "err", err)
			}
			return
		}
		e, auth, err := parseMessage(m)
		switch {
		case auth: // the certificate has said it
		case err != nil:
			srv.note(func(st *Stats) { st.Broken++ })
			srv.log.Warn("atak: an event was refused", "err", err)
			c.tellOnce("malformed", "An event of your device was refused and not sent: "+err.Error())
		default:
			c.desk.handle(ctx, c, e)
		}
	}
}

func parseMessage(m tak.Message) (e cot.Event, auth bool, err error) {
	if m.Proto {
		e, err = cot.ParseProto(m.Data)
		return e, false, err
	}
	root, err := cot.ParseElement(m.Data)
	if err == nil && root.Name == "auth" {
		return e, true, nil
	}
	if err != nil {
		return e, false, err
	}
	e, err = cot.ParseXML(m.Data)
	return e, false, err
}

// send queues an event. A client that takes nothing is closed: what it missed
// is given to it when it returns.
func (c *client) send(e cot.Event) { c.put(outgoing{event: e}) }

func (c *client) put(o outgoing) {
	o.size = sizeOf(o.event)
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return
	}
	if len(c.queue) >= maxQueue || c.bytes+o.size > maxQueueBytes {
		c.closed = true
		c.conn.Close()
		c.desk.srv.note(func(st *Stats) { st.Overflow++ })
		c.desk.srv.log.Warn("atak: a client takes nothing and was closed")
		return
	}
	c.queue, c.bytes = append(c.queue, o), c.bytes+o.size
	select {
	case c.wake <- struct{}{}:
	default:
	}
}

// sizeOf is about what an event needs in memory.
func sizeOf(e cot.Event) int {
	n := 512 + len(e.UID)
	for _, d := range e.Detail {
		n += 64*(1+len(d.Attrs)+len(d.Children)) + len(d.Text)
	}
	return n
}

func (c *client) take() []outgoing {
	c.mu.Lock()
	defer c.mu.Unlock()
	q := c.queue
	c.queue, c.bytes = nil, 0
	return q
}

// write writes what is queued, in order, in the form that was agreed on.
func (c *client) write(ctx context.Context) {
	frames := false
	for {
		for _, o := range c.take() {
			var b []byte
			if frames {
				b = tak.AppendFrame(nil, o.event.Proto())
			} else {
				b = tak.AppendDocument(nil, o.event.XML())
			}
			err := c.conn.SetWriteDeadline(time.Now().Add(writeTime))
			if err == nil {
				_, err = c.conn.Write(b)
			}
			if err != nil {
				c.conn.Close()
				return
			}
			frames = frames || o.frames
		}
		select {
		case <-c.wake:
		case <-ctx.Done():
			return
		}
	}
}

// identity returns who the client's device says it is; ok is false before it
// has.
func (c *client) identity() (uid, callsign string, ok bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.uid, c.callsign, c.uid != ""
}

// identify takes the device's own uid from its first own event, and its
// callsign from each; first is true the first time.
func (c *client) identify(uid, callsign string) (first bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	first = c.uid == ""
	if first {
		c.uid = uid
	}
	if c.uid == uid {
		c.callsign = callsign
	}
	return first
}

// tellOnce says something to the person at the device, once for each kind.
func (c *client) tellOnce(kind, text string) {
	c.mu.Lock()
	done := c.told[kind]
	c.told[kind] = true
	c.mu.Unlock()
	if !done {
		c.tell(text)
	}
}

// tell shows a text as a chat message of the node itself.
func (c *client) tell(text string) {
	uid, callsign, ok := c.identity()
	if !ok {
		uid, callsign = "all", "all"
	}
	c.send(c.desk.srv.notice(uid, callsign, text))
}
