package memcla

import (
	"bytes"
	"context"
	"encoding/binary"
	"math/rand/v2"
	"sync"
	"time"

	"outrider/mesh/cla"
	"outrider/mesh/identity"
)

// Options describe the medium. The zero value is an endless, instant wire.
type Options struct {
	Class   cla.Class     // default cla.LAN
	RateBps uint64        // bit/s each way, 0 for endless
	Delay   time.Duration // one way
	Jitter  time.Duration // added to Delay, drawn per frame; frames stay in order
	Window  int           // bytes in flight each way before Send blocks, default 256 KiB
	Silence time.Duration // how long a cut goes unnoticed by both ends
	CutPPM  uint32        // chance that a frame cuts the whole link, in millionths

	Version  uint16 // reported by Info, default 1
	Features uint64

	Hostile Hostile
}

// Hostile breaks the promises of cla.Link on purpose, for tests of what
// stands above. Each is a chance per frame in millionths.
type Hostile struct {
	DropPPM, DuplicatePPM, SwapPPM, CorruptPPM uint32
}

const (
	defaultWindow = 256 << 10
	million       = 1_000_000
)

// Pipe returns the two ends of a link between a and b; a dialled. Equal seeds
// make equal choices.
func Pipe(a, b identity.NodeID, seed uint64, o Options) (*Link, *Link) {
	if o.Class == 0 {
		o.Class = cla.LAN
	}
	if o.Window == 0 {
		o.Window = defaultWindow
	}
	if o.Version == 0 {
		o.Version = 1
	}
	m := &medium{changed: make(chan struct{}), silence: o.Silence}
	ab := &lane{medium: m, o: o, rnd: rand.New(rand.NewPCG(seed, 1))}
	ba := &lane{medium: m, o: o, rnd: rand.New(rand.NewPCG(seed, 2))}
	info := cla.Info{Class: o.Class, RateBps: o.RateBps, Version: o.Version, Features: o.Features}
	la := &Link{peer: b, info: info, out: ab, in: ba, m: m}
	la.info.Dialled, la.info.Addr = true, "mem:"+b.Short()
	lb := &Link{peer: a, info: info, out: ba, in: ab, m: m}
	lb.info.Addr = "mem:" + a.Short()
	return la, lb
}

// A Link is one end of a pipe. It implements cla.Link.
type Link struct {
	peer    identity.NodeID
	info    cla.Info
	out, in *lane
	m       *medium
	tx, rx  uint64 // guarded by m.mu
	closed  bool   // guarded by m.mu: this end was closed
}

var _ cla.Link = (*Link)(nil)

// A medium is what both directions of a link share. Whoever changes anything
// wakes everybody who waits.
type medium struct {
	mu      sync.Mutex
	changed chan struct{}
	silent  bool // cut, but nobody knows yet
	dead    bool // cut, and known
	silence time.Duration
}

// wake tells all waiters to look again. m.mu is held.
func (m *medium) wake() {
	close(m.changed)
	m.changed = make(chan struct{})
}

// wait sleeps until something changes, d has passed (if not negative) or ctx
// ends. m.mu is held and given up meanwhile.
func (m *medium) wait(ctx context.Context, d time.Duration) error {
	changed := m.changed
	m.mu.Unlock()
	defer m.mu.Lock()
	var timeout <-chan time.Time
	if d >= 0 {
		t := time.NewTimer(d)
		defer t.Stop()
		timeout = t.C
	}
	select {
	case <-changed:
	case <-timeout:
	case <-ctx.Done():
		return ctx.Err()
	}
	return nil
}

// Cut breaks the link as a lost radio contact does: what is in flight is gone
// and, after Options.Silence, both ends learn that the link has ended.
func (l *Link) Cut() {
	l.m.mu.Lock()
	defer l.m.mu.Unlock()
	l.m.cut()
}

func (m *medium) cut() {
	if m.silent || m.dead {
		return
	}
	m.silent = true
	if m.silence == 0 {
		m.end()
		return
	}
	time.AfterFunc(m.silence, func() {
		m.mu.Lock()
		defer m.mu.Unlock()
		m.end()
	})
	m.wake()
}

// end makes both ends know. m.mu is held.
func (m *medium) end() {
	if m.dead {
		return
	}
	m.dead = true
	m.wake()
}

// gone reports whether either end knows that the link is over.
func (l *Link) gone() bool {
	l.m.mu.Lock()
	defer l.m.mu.Unlock()
	return l.m.dead || l.in.closed || l.out.closed
}

// A lane is one direction of a link.
type lane struct {
	*medium
	o      Options
	rnd    *rand.Rand
	queue  []flight
	inAir  int       // bytes queued
	free   time.Time // when the transmitter is free again
	last   time.Time // arrival of the last frame queued
	closed bool      // nothing more will be queued
}

// A flight is a frame on its way.
type flight struct {
	frame []byte
	at    time.Time
}

func (l *Link) Peer() identity.NodeID { return l.peer }
func (l *Link) Info() cla.Info        { return l.info }

// Send implements cla.Link.
func (l *Link) Send(ctx context.Context, frame []byte) error {
	if len(frame) == 0 || len(frame) > cla.MaxFrame {
		return cla.ErrFrameSize
	}
	l.m.mu.Lock()
	defer l.m.mu.Unlock()
	for {
		if err := ctx.Err(); err != nil {
			return err
		}
		if l.over() || l.in.closed || l.out.closed {
			return cla.ErrClosed
		}
		if l.out.inAir == 0 || l.out.inAir+len(frame) <= l.out.o.Window {
			break
		}
		if err := l.m.wait(ctx, -1); err != nil {
			return err
		}
	}
	l.tx += framed(len(frame))
	l.out.fly(bytes.Clone(frame))
	return nil
}

// over reports whether this end may neither send nor receive any more.
func (l *Link) over() bool { return l.closed || l.m.dead }

// fly puts a frame on the lane.
func (a *lane) fly(frame []byte) {
	if a.chance(a.o.CutPPM) {
		a.cut()
	}
	if a.silent || a.dead {
		a.inAir += len(frame) // nobody will take it: the sender fills its window and blocks
		return
	}
	now := time.Now()
	if a.free.Before(now) {
		a.free = now
	}
	if a.o.RateBps > 0 {
		a.free = a.free.Add(time.Duration(uint64(len(frame)) * 8 * uint64(time.Second) / a.o.RateBps))
	}
	at := a.free.Add(a.o.Delay)
	if a.o.Jitter > 0 {
		at = at.Add(time.Duration(a.rnd.Int64N(int64(a.o.Jitter))))
	}
	if at.Before(a.last) {
		at = a.last
	}
	a.last = at
	a.land(frame, at)
	a.wake()
}

// land queues the frame for its arrival, after Hostile had its say.
func (a *lane) land(frame []byte, at time.Time) {
	h := a.o.Hostile
	if a.chance(h.DropPPM) {
		return
	}
	if a.chance(h.CorruptPPM) {
		i := a.rnd.IntN(len(frame) * 8)
		frame[i/8] ^= 1 << (i % 8)
	}
	copies := 1
	if a.chance(h.DuplicatePPM) {
		copies = 2
	}
	for range copies {
		a.queue = append(a.queue, flight{bytes.Clone(frame), at})
		a.inAir += len(frame)
	}
	if n := len(a.queue); n > 1 && a.chance(h.SwapPPM) {
		a.queue[n-1].frame, a.queue[n-2].frame = a.queue[n-2].frame, a.queue[n-1].frame
	}
}

func (a *lane) chance(ppm uint32) bool { return ppm > 0 && a.rnd.Uint32N(million) < ppm }

// Recv implements cla.Link.
func (l *Link) Recv(ctx context.Context) ([]byte, error) {
	l.m.mu.Lock()
	defer l.m.mu.Unlock()
	for {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		if l.over() {
			return nil, cla.ErrClosed
		}
		frame, wait := l.in.take()
		if frame != nil {
			l.rx += framed(len(frame))
			return frame, nil
		}
		if l.in.closed && len(l.in.queue) == 0 {
			return nil, cla.ErrClosed
		}
		if err := l.m.wait(ctx, wait); err != nil {
			return nil, err
		}
	}
}

// take returns the next frame if it has arrived, else how long to wait for
// it, negative if nothing is on the way.
func (a *lane) take() ([]byte, time.Duration) {
	if len(a.queue) == 0 || a.silent {
		return nil, -1
	}
	next := a.queue[0]
	if d := time.Until(next.at); d > 0 {
		return nil, d
	}
	a.queue = a.queue[1:]
	a.inAir -= len(next.frame)
	a.wake()
	return next.frame, 0
}

// framed is what a frame counts, with its length before it as on a stream.
func framed(n int) uint64 {
	return uint64(n + len(binary.AppendUvarint(nil, uint64(n))))
}

// Counters implements cla.Link.
func (l *Link) Counters() (tx, rx uint64) {
	l.m.mu.Lock()
	defer l.m.mu.Unlock()
	return l.tx, l.rx
}

// Close implements cla.Link.
func (l *Link) Close() error {
	l.m.mu.Lock()
	defer l.m.mu.Unlock()
	if l.closed {
		return nil
	}
	l.closed = true
	l.out.closed = true
	if l.in.closed {
		l.m.end()
	}
	l.m.wake()
	return nil
}
