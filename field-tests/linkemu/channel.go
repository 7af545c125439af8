package linkemu

import (
	"context"
	"sync"
	"time"
)

// channel serialises frames on the air: one for a whole half-duplex net, or
// one for each link of a full-duplex net. Senders take turns, frame by frame.
type channel struct {
	net *medium

	mu     sync.Mutex
	cond   *sync.Cond // signalled when turn grows or the channel closes
	rate   float64    // bit/s, 0 = unlimited
	q      map[*port][]queued
	air    map[*port]float64 // queued airtime, seconds
	turn   []*port           // senders with something queued
	busy   time.Duration     // airtime used so far
	until  time.Time         // when the air is free
	closed bool
}

// queued is a frame in a sender's queue; to is the link of a full-duplex net.
type queued struct {
	frame
	to *link
}

func newChannel(m *medium) *channel {
	c := &channel{net: m, rate: m.cfg.Rate, q: map[*port][]queued{}, air: map[*port]float64{}}
	c.cond = sync.NewCond(&c.mu)
	m.chans = append(m.chans, c)
	return c
}

func (c *channel) setRate(rate float64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.rate = rate
}

func (c *channel) close() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.closed = true
	c.cond.Broadcast()
}

// airtime of a frame in seconds.
func (c *channel) airtime(bytes int) float64 {
	a := c.net.cfg.KeyMS / 1000
	if b := bytes + c.net.cfg.FrameOH; c.rate > 0 && b > 0 {
		a += float64(b) * 8 / c.rate
	}
	return a
}

// put queues a frame, or says false when the sender's queue is full. An empty
// queue always takes one frame, however slow the channel.
func (c *channel) put(f frame, to *link) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	a := c.airtime(len(f.b))
	if len(c.q[f.src]) > 0 && c.air[f.src]+a > c.net.cfg.QueueMS/1000 {
		return false
	}
	if len(c.q[f.src]) == 0 {
		c.turn = append(c.turn, f.src)
	}
	c.q[f.src] = append(c.q[f.src], queued{f, to})
	c.air[f.src] += a
	c.cond.Signal()
	return true
}

// serve puts one frame after the other on the air.
func (c *channel) serve(ctx context.Context) {
	for {
		p, f, until, ok := c.begin()
		if !ok || !sleepUntil(ctx, until) {
			return
		}
		c.end(p)
		wait := until.Sub(f.at)
		if f.to != nil {
			f.to.land(f.frame, wait, until)
			continue
		}
		f.src.eachReceiver(f.frame, func(l *link) { l.land(f.frame, wait, until) })
	}
}

// begin waits for a frame and takes the air for it until the time returned.
// The frame stays at the head of its queue, which it fills while on the air.
func (c *channel) begin() (p *port, f queued, until time.Time, ok bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for len(c.turn) == 0 && !c.closed {
		c.cond.Wait()
	}
	if c.closed {
		return nil, f, until, false
	}
	p = c.turn[0]
	c.turn = c.turn[1:]
	f = c.q[p][0]
	start := c.until
	if now := time.Now(); start.Before(now) {
		start = now
	}
	d := time.Duration(c.airtime(len(f.b)) * float64(time.Second))
	c.until = start.Add(d)
	c.busy += d
	return p, f, c.until, true
}

// end takes the sent frame off its queue and the sender to the back of the line.
func (c *channel) end(p *port) {
	c.mu.Lock()
	defer c.mu.Unlock()
	a := c.airtime(len(c.q[p][0].b))
	c.q[p] = c.q[p][1:]
	if len(c.q[p]) == 0 {
		delete(c.q, p)
		delete(c.air, p)
		return
	}
	c.turn = append(c.turn, p)
	c.air[p] = max(0, c.air[p]-a)
}

func (c *channel) busyTime() time.Duration {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.busy
}
