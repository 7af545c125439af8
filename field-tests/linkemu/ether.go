package linkemu

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/netip"
	"sync"
	"time"
)

const (
	frameMax = 10240 // largest frame read from a port, bytes
	headLen  = 14    // Ethernet header
	inFlight = 4096  // frames of one link between leaving the air and delivery
)

// An Ether carries frames between the ports of one scenario.
type Ether struct {
	s    *Scenario
	nets []*medium

	mu    sync.Mutex
	start time.Time
}

// medium is one net with its ports.
type medium struct {
	cfg   Net
	ports []*port
	bymac map[[6]byte]*port
	chans []*channel

	rmu sync.Mutex
	rng *rand.Rand
}

// port is one node's interface on one net.
type port struct {
	node  string
	net   *medium
	mac   [6]byte
	addr  netip.Prefix
	conn  io.ReadWriteCloser
	links []*link // to every other port, in the net's order
}

// link is one direction between two ports.
type link struct {
	from, to *port
	ch       *channel // the shared one, or the link's own
	out      chan delivery

	mu                  sync.Mutex
	up                  bool
	delay, jitter, loss float64
	c                   Counters
	last                time.Time
}

type frame struct {
	b   []byte
	at  time.Time // when it entered
	src *port
	dst *port // nil: broadcast or multicast
}

type delivery struct {
	b  []byte
	at time.Time
}

// NewEther lays out a scenario that Check has accepted. Attach a port for
// every interface, then Run.
func NewEther(s *Scenario) (*Ether, error) {
	e := &Ether{s: s}
	for i, cfg := range s.Nets {
		m := &medium{cfg: cfg, bymac: map[[6]byte]*port{}, rng: rand.New(rand.NewPCG(s.Seed, uint64(i)))}
		prefix, err := netip.ParsePrefix(cfg.Subnet)
		if err != nil {
			return nil, wrong("net %s: %v", cfg.Name, err)
		}
		a := prefix.Masked().Addr()
		for j, node := range cfg.Nodes {
			a = a.Next()
			// A locally administered address: 02 'L' 'E' net node node.
			p := &port{node: node, net: m, mac: [6]byte{2, 0x4c, 0x45, byte(i), byte(j >> 8), byte(j)}, addr: netip.PrefixFrom(a, prefix.Bits())}
			m.ports = append(m.ports, p)
			m.bymac[p.mac] = p
		}
		m.connect()
		e.nets = append(e.nets, m)
	}
	for _, c := range s.Links {
		if err := e.Apply(c); err != nil {
			return nil, err
		}
	}
	return e, nil
}

// connect makes the links of a net, with their channels.
func (m *medium) connect() {
	var shared *channel
	if m.cfg.Duplex == "half" {
		shared = newChannel(m)
	}
	for _, f := range m.ports {
		for _, t := range m.ports {
			if f == t {
				continue
			}
			l := &link{from: f, to: t, ch: shared, up: m.cfg.Up == nil || *m.cfg.Up,
				delay: m.cfg.DelayMS, jitter: m.cfg.JitterMS, loss: m.cfg.Loss, out: make(chan delivery, inFlight)}
			if shared == nil {
				l.ch = newChannel(m)
			}
			f.links = append(f.links, l)
		}
	}
}

func (m *medium) random() float64 {
	m.rmu.Lock()
	defer m.rmu.Unlock()
	return m.rng.Float64()
}

func (e *Ether) port(net, node string) (*port, error) {
	for _, m := range e.nets {
		for _, p := range m.ports {
			if m.cfg.Name == net && p.node == node {
				return p, nil
			}
		}
	}
	return nil, fmt.Errorf("linkemu: node %q has no interface on net %q", node, net)
}

// Interface tells how a node's interface on a net must be set up.
type Interface struct {
	Net, Node string
	MAC       [6]byte
	Addr      netip.Prefix
	MTU       int
}

// Interfaces lists every interface of the scenario.
func (e *Ether) Interfaces() []Interface {
	var out []Interface
	for _, m := range e.nets {
		for _, p := range m.ports {
			out = append(out, Interface{Net: m.cfg.Name, Node: p.node, MAC: p.mac, Addr: p.addr, MTU: m.cfg.MTU})
		}
	}
	return out
}

// Attach gives a node's interface on a net its port: every Read returns one
// frame, every Write takes one. The ether closes it when Run ends.
func (e *Ether) Attach(net, node string, conn io.ReadWriteCloser) error {
	p, err := e.port(net, node)
	if err != nil {
		return err
	}
	if p.conn != nil {
		return fmt.Errorf("linkemu: node %q is attached to net %q already", node, net)
	}
	p.conn = conn
	return nil
}

// Run carries frames and applies the scenario's events until ctx ends. Then
// it closes all ports; no goroutine of it is left.
func (e *Ether) Run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var wg sync.WaitGroup
	for _, m := range e.nets {
		for _, p := range m.ports {
			if p.conn == nil {
				return fmt.Errorf("linkemu: node %q is not attached to net %q", p.node, m.cfg.Name)
			}
		}
	}
	e.mu.Lock()
	e.start = time.Now()
	e.mu.Unlock()
	for _, m := range e.nets {
		for _, c := range m.chans {
			wg.Go(func() { c.serve(ctx) })
		}
		for _, p := range m.ports {
			wg.Go(p.read)
			for _, l := range p.links {
				wg.Go(func() { l.deliver(ctx) })
			}
		}
	}
	wg.Go(func() { e.schedule(ctx) })
	<-ctx.Done()
	var errs []error
	for _, m := range e.nets {
		for _, c := range m.chans {
			c.close()
		}
		for _, p := range m.ports {
			errs = append(errs, p.conn.Close())
		}
	}
	wg.Wait()
	return errors.Join(errs...)
}

// schedule applies the events at their times.
func (e *Ether) schedule(ctx context.Context) {
	for _, c := range e.s.Events {
		if !sleepUntil(ctx, e.start.Add(time.Duration(c.At*float64(time.Second)))) {
			return
		}
		e.set(c)
	}
}

// sleepUntil waits for a time; false means that ctx ended first.
func sleepUntil(ctx context.Context, t time.Time) bool {
	w := time.Until(t)
	if w <= 0 {
		return ctx.Err() == nil
	}
	timer := time.NewTimer(w)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// Apply makes a change now.
func (e *Ether) Apply(c Change) error {
	if err := e.s.CheckChange(c); err != nil {
		return err
	}
	e.set(c)
	return nil
}

func (e *Ether) set(c Change) {
	for _, m := range e.nets {
		if c.Net != "" && c.Net != m.cfg.Name {
			continue
		}
		if c.Rate != nil && m.cfg.Duplex == "half" {
			m.chans[0].setRate(*c.Rate)
		}
		for _, p := range m.ports {
			for _, l := range p.links {
				if c.hits(l.from.node, l.to.node) {
					l.set(c)
				}
			}
		}
	}
}

// hits says whether a change is about the link from one node to another.
func (c Change) hits(from, to string) bool {
	is := func(want, got string) bool { return want == "" || want == got }
	return is(c.A, from) && is(c.B, to) || !c.OneWay && is(c.A, to) && is(c.B, from)
}

func (l *link) set(c Change) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if c.Up != nil {
		l.up = *c.Up
	}
	if c.DelayMS != nil {
		l.delay = *c.DelayMS
	}
	if c.JitterMS != nil {
		l.jitter = *c.JitterMS
	}
	if c.Loss != nil {
		l.loss = *c.Loss
	}
	if c.Rate != nil && l.from.net.cfg.Duplex == "full" {
		l.ch.setRate(*c.Rate)
	}
}

// read takes frames from one node's interface onto its net.
func (p *port) read() {
	buf := make([]byte, frameMax)
	for {
		n, err := p.conn.Read(buf)
		if err != nil {
			return // closed
		}
		if n < headLen {
			continue
		}
		f := frame{b: append([]byte(nil), buf[:n]...), at: time.Now(), src: p}
		if dst := [6]byte(f.b[:6]); dst[0]&1 == 0 { // unicast
			if f.dst = p.net.bymac[dst]; f.dst == nil || f.dst == p {
				continue
			}
		}
		p.send(f)
	}
}

func (p *port) send(f frame) {
	if p.net.cfg.Duplex == "half" {
		if !p.net.chans[0].put(f, nil) {
			p.eachReceiver(f, func(l *link) { l.count(func(c *Counters) { c.QueueDrop++ }) })
		}
		return
	}
	p.eachReceiver(f, func(l *link) {
		l.mu.Lock()
		up := l.up
		if !up {
			l.c.DownDrop++
		}
		l.mu.Unlock()
		if up && !l.ch.put(f, l) {
			l.count(func(c *Counters) { c.QueueDrop++ })
		}
	})
}

func (p *port) eachReceiver(f frame, do func(*link)) {
	for _, l := range p.links {
		if f.dst == nil || f.dst == l.to {
			do(l)
		}
	}
}

func (l *link) count(add func(*Counters)) {
	l.mu.Lock()
	defer l.mu.Unlock()
	add(&l.c)
}

// land decides whether the receiver hears a frame that has left the air at t.
func (l *link) land(f frame, wait time.Duration, t time.Time) {
	luck, late := l.from.net.random(), l.from.net.random()
	l.mu.Lock()
	defer l.mu.Unlock()
	l.c.TxFrames++
	l.c.TxBytes += int64(len(f.b))
	l.c.MaxQueueMS = max(l.c.MaxQueueMS, wait.Seconds()*1000)
	switch {
	case !l.up:
		l.c.DownDrop++
		return
	case luck < l.loss:
		l.c.Lost++
		return
	}
	at := t.Add(time.Duration((l.delay + late*l.jitter) * float64(time.Millisecond)))
	if at.Before(l.last) {
		at = l.last // never reorder
	}
	l.last = at
	select {
	case l.out <- delivery{f.b, at}:
	default:
		l.c.QueueDrop++
	}
}

// deliver hands frames to the receiver's interface when their time has come.
func (l *link) deliver(ctx context.Context) {
	for {
		select {
		case d := <-l.out:
			if !sleepUntil(ctx, d.at) {
				return
			}
			if _, err := l.to.conn.Write(d.b); err == nil {
				l.count(func(c *Counters) { c.RxFrames++; c.RxBytes += int64(len(d.b)) })
			} else {
				l.count(func(c *Counters) { c.Refused++ })
			}
		case <-ctx.Done():
			return
		}
	}
}
