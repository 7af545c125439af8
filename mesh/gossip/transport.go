package gossip

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"time"

	"github.com/hashicorp/memberlist"

	"outrider/mesh/crowd"
	"outrider/mesh/identity"
)

// What we chose.
const (
	maxPacket       = 2048             // bytes of a packet read, more than any profile sends
	minPacket       = 1 + 12 + 16      // memberlist's version byte, nonce and tag
	maxStreamBytes  = 256 << 10        // read from one stream: the state of 1024 members
	maxStreams      = 16               // inbound streams at once, together
	maxSourceStream = 8                // inbound streams at once from one address
	maxStrange      = 8                // inbound streams at once from addresses without members
	greetTime       = 10 * time.Second // for the preamble
	acceptPause     = 100 * time.Millisecond
)

// What may come in. A packet costs 2 µs to open, and once more to deal with; a
// stream 50 µs. Strangers have so much together, each address with members so
// much for itself.
var (
	packetLimits = crowd.Limits{
		Stranger: crowd.Rate{Burst: 32, Every: 50 * time.Millisecond},
		All:      crowd.Rate{Burst: 256, Every: 4 * time.Millisecond},
		Known:    crowd.Rate{Burst: 2048, Every: time.Millisecond},
	}
	streamLimits = crowd.Limits{
		Stranger: crowd.Rate{Burst: 8, Every: 500 * time.Millisecond},
		All:      crowd.Rate{Burst: 16, Every: 50 * time.Millisecond},
		Known:    crowd.Rate{Burst: 128, Every: 5 * time.Millisecond},
	}
)

// errStopped is returned for packets after the end; it is no *net.OpError,
// so that memberlist's probes give up at once.
var errStopped = errors.New("gossip has stopped")

// A transport carries memberlist's packets and streams on one UDP and one TCP
// socket of the same port. It is where a gate bites: nothing passes to or
// from a node that is switched off, whatever memberlist wants.
type transport struct {
	self    identity.NodeID
	port    uint16
	keys    func() [][]byte                       // newest first
	allowed func(identity.NodeID) bool            // by the gate
	met     func(identity.NodeID, netip.AddrPort) // a member is at this address
	owner   func(netip.AddrPort) identity.NodeID  // zero if unknown
	heard   func(netip.AddrPort)                  // a packet or stream came from here
	addr    func() (netip.AddrPort, error)        // to advertise
	foreign func()                                // something came that no key of ours opens; may be nil
	atDoor  [2]*crowd.Crowd                       // who sends packets, who opens streams
	ctx     context.Context                       // ends dials
	cancel  context.CancelFunc
	udp     *net.UDPConn
	tcp     *net.TCPListener
	packets chan *memberlist.Packet
	streams chan net.Conn
	done    chan struct{}
	once    sync.Once
	wg      sync.WaitGroup

	mu    sync.Mutex
	conns map[*streamConn]struct{} // all open streams
}

var _ memberlist.NodeAwareTransport = (*transport)(nil)

// listen opens both sockets at bind ("ip:port", port 0 for any).
func (t *transport) listen(bind netip.AddrPort) error {
	const tries = 10 // for port 0, which may be free on TCP and taken on UDP
	var err error
	for range tries {
		t.tcp, err = net.ListenTCP("tcp", net.TCPAddrFromAddrPort(bind))
		if err != nil {
			return fmt.Errorf("listen on %s: %v", bind, err)
		}
		at := t.tcp.Addr().(*net.TCPAddr)
		t.udp, err = net.ListenUDP("udp", &net.UDPAddr{IP: at.IP, Zone: at.Zone, Port: at.Port})
		if err == nil {
			t.port = uint16(at.Port)
			return nil
		}
		t.tcp.Close()
		if bind.Port() != 0 {
			break
		}
	}
	return fmt.Errorf("listen on %s: %v", bind, err)
}

// start begins to receive.
func (t *transport) start(ctx context.Context) {
	t.ctx, t.cancel = context.WithCancel(ctx)
	t.packets = make(chan *memberlist.Packet)
	t.streams = make(chan net.Conn)
	t.done = make(chan struct{})
	t.conns = make(map[*streamConn]struct{})
	t.wg.Go(t.receive)
	t.wg.Go(t.accept)
}

// stop closes the sockets and all streams and waits for our goroutines.
// Packets may still be handed to memberlist with inject.
func (t *transport) stop() {
	t.once.Do(func() {
		close(t.done)
		t.cancel()
		t.udp.Close()
		t.tcp.Close()
		t.mu.Lock()
		open := make([]*streamConn, 0, len(t.conns))
		for c := range t.conns {
			open = append(open, c)
		}
		t.mu.Unlock()
		for _, c := range open {
			c.Close()
		}
		t.wg.Wait()
	})
}

// Shutdown implements memberlist.Transport.
func (t *transport) Shutdown() error {
	t.stop()
	return nil
}

func (t *transport) stopped() bool {
	select {
	case <-t.done:
		return true
	default:
		return false
	}
}

// FinalAdvertiseAddr implements memberlist.Transport.
func (t *transport) FinalAdvertiseAddr(string, int) (net.IP, int, error) {
	at, err := t.addr()
	if err != nil {
		return nil, 0, err
	}
	return at.Addr().AsSlice(), int(at.Port()), nil
}

// The doors of a transport.
const (
	packetDoor = iota
	streamDoor
)

func newDoors(log *slog.Logger) [2]*crowd.Crowd {
	return [2]*crowd.Crowd{crowd.New("gossip/udp", packetLimits, log), crowd.New("gossip/tcp", streamLimits, log)}
}

// vouch makes an address known at both doors: a member is there.
func (t *transport) vouch(at netip.Addr) {
	for _, door := range t.atDoor {
		door.Vouch(at)
	}
}

// receive reads packets until the socket is closed.
func (t *transport) receive() {
	b := make([]byte, maxPacket+1)
	var past recorder
	for {
		n, from, err := t.udp.ReadFromUDPAddrPort(b)
		if t.stopped() {
			return
		}
		if err != nil {
			if !t.pause(acceptPause) {
				return
			}
			continue
		}
		from = netip.AddrPortFrom(from.Addr().Unmap(), from.Port())
		if !t.passes("", from) || !t.genuine(b[:n], from, &past) {
			continue
		}
		t.heard(from)
		p := &memberlist.Packet{
			Buf: append([]byte(nil), b[:n]...), From: net.UDPAddrFromAddrPort(from), Timestamp: time.Now(),
		}
		select {
		case t.packets <- p:
		case <-t.done:
			return
		}
	}
}

// genuine reports whether a packet comes from the group, for the first time,
// and is not one too many. What only looks so is for memberlist to judge.
func (t *transport) genuine(b []byte, from netip.AddrPort, past *recorder) bool {
	door := t.atDoor[packetDoor]
	if !t.owner(from).IsZero() {
		t.vouch(from.Addr())
	}
	if !door.Admit(from.Addr()) {
		return false
	}
	if len(b) > maxPacket || !ofGroup(t.keys(), b) {
		door.Refuse(from.Addr())
		if t.foreign != nil {
			t.foreign()
		}
		return false
	}
	if past.again([nonceSize]byte(b[1:])) {
		door.Refuse(from.Addr())
		return false
	}
	return true
}

// passes reports whether anything may pass between us and a node, known by
// its name, its address or both.
func (t *transport) passes(name string, at netip.AddrPort) bool {
	if name != "" {
		id, err := identity.ParseNodeID(name)
		if err != nil || !t.allowed(id) {
			return false
		}
	}
	id := t.owner(at)
	return id.IsZero() || t.allowed(id)
}

func (t *transport) pause(d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-t.done:
		return false
	}
}

// PacketCh implements memberlist.Transport.
func (t *transport) PacketCh() <-chan *memberlist.Packet { return t.packets }

// StreamCh implements memberlist.Transport.
func (t *transport) StreamCh() <-chan net.Conn { return t.streams }

// WriteTo implements memberlist.Transport.
func (t *transport) WriteTo(b []byte, addr string) (time.Time, error) {
	return t.WriteToAddress(b, memberlist.Address{Addr: addr})
}

// WriteToAddress implements memberlist.NodeAwareTransport. A packet to a node
// that is switched off is lost, as on a link that is down.
func (t *transport) WriteToAddress(b []byte, a memberlist.Address) (time.Time, error) {
	if t.stopped() {
		return time.Time{}, errStopped
	}
	at, err := netip.ParseAddrPort(a.Addr)
	if err != nil {
		return time.Time{}, err
	}
	if !t.passes(a.Name, netip.AddrPortFrom(at.Addr().Unmap(), at.Port())) {
		return time.Now(), nil
	}
	_, err = t.udp.WriteToUDPAddrPort(b, at)
	return time.Now(), err
}

// DialTimeout implements memberlist.Transport.
func (t *transport) DialTimeout(addr string, timeout time.Duration) (net.Conn, error) {
	return t.DialAddressTimeout(memberlist.Address{Addr: addr}, timeout)
}

// DialAddressTimeout implements memberlist.NodeAwareTransport.
func (t *transport) DialAddressTimeout(a memberlist.Address, timeout time.Duration) (net.Conn, error) {
	at, err := netip.ParseAddrPort(a.Addr)
	if err != nil {
		return nil, err
	}
	if !t.passes(a.Name, netip.AddrPortFrom(at.Addr().Unmap(), at.Port())) {
		return nil, errBlocked
	}
	d := net.Dialer{Timeout: timeout, KeepAlive: -1}
	raw, err := d.DialContext(t.ctx, "tcp", a.Addr)
	if err != nil {
		return nil, err
	}
	c := t.track(raw, true)
	if c == nil {
		raw.Close()
		return nil, errStopped
	}
	c.SetDeadline(time.Now().Add(min(timeout, greetTime)))
	g, err := t.exchange(c, true)
	if err == nil && a.Name != "" && a.Name != g.id.String() {
		err = errors.New("another node answers at this address")
	}
	if err != nil {
		c.Close()
		return nil, fmt.Errorf("greet: %w", err)
	}
	c.SetDeadline(time.Time{})
	return c, nil
}

// accept takes in streams until the listener is closed.
func (t *transport) accept() {
	for {
		raw, err := t.tcp.AcceptTCP()
		if t.stopped() {
			if err == nil {
				raw.Close()
			}
			return
		}
		if err != nil {
			if !t.pause(acceptPause) {
				return
			}
			continue
		}
		t.receiveStream(raw)
		if d := t.atDoor[streamDoor].Rest(); d > 0 && !t.pause(d) {
			return
		}
	}
}

// receiveStream hears out a stream if there is room for it.
func (t *transport) receiveStream(raw *net.TCPConn) {
	door, source := t.atDoor[streamDoor], crowd.Of(raw.RemoteAddr().String())
	var c *streamConn
	if door.Admit(source) {
		if c = t.track(raw, false); c == nil {
			door.Refuse(source)
		}
	}
	if c == nil {
		_ = raw.SetLinger(0)
		_ = raw.Close()
		return
	}
	t.wg.Go(func() { t.greet(c) })
}

// greet hears a newcomer's preamble and hands the stream to memberlist.
func (t *transport) greet(c *streamConn) {
	c.SetDeadline(time.Now().Add(greetTime))
	if _, err := t.exchange(c, false); err != nil {
		c.Close()
		t.atDoor[streamDoor].Refuse(c.source)
		return
	}
	c.SetDeadline(time.Time{})
	t.mu.Lock()
	c.greeted = true
	t.mu.Unlock()
	if at, err := netip.ParseAddrPort(c.RemoteAddr().String()); err == nil {
		t.heard(at)
	}
	select {
	case t.streams <- c:
	case <-t.done:
		c.Close()
	}
}

// A streamConn is a stream with a limit on what is read from it: memberlist
// would take 20 MB from anybody.
type streamConn struct {
	net.Conn
	t       *transport
	source  netip.Addr
	since   time.Time
	left    int64 // bytes that may still be read
	dialled bool
	known   bool // a member is at its address
	greeted bool // guarded by t.mu
}

// track takes a stream into the books, or returns nil if there is no room.
// When it is full, the longest unannounced inbound stream makes room.
func (t *transport) track(raw net.Conn, dialled bool) *streamConn {
	at, _ := netip.ParseAddrPort(raw.RemoteAddr().String())
	c := &streamConn{
		Conn: raw, t: t, source: crowd.Household(at.Addr()), since: time.Now(),
		left: maxStreamBytes, dialled: dialled,
	}
	c.known = t.atDoor[streamDoor].Known(c.source)
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.stopped() || (!dialled && !t.makeRoom(c.source, c.known)) {
		return nil
	}
	t.conns[c] = struct{}{}
	return c
}

// makeRoom finds a place for an inbound stream. Those from addresses without
// members take half of the places at most. t.mu is held.
func (t *transport) makeRoom(source netip.Addr, known bool) bool {
	var all, same, strange int
	var oldest, oldestSame, oldestStrange *streamConn
	older := func(a, b *streamConn) *streamConn {
		if b.greeted || (a != nil && a.since.Before(b.since)) {
			return a
		}
		return b
	}
	for c := range t.conns {
		if c.dialled {
			continue
		}
		all++
		oldest = older(oldest, c)
		if c.source == source {
			same++
			oldestSame = older(oldestSame, c)
		}
		if !c.known {
			strange++
			oldestStrange = older(oldestStrange, c)
		}
	}
	var out *streamConn
	switch {
	case same >= maxSourceStream:
		out = oldestSame
	case !known && strange >= maxStrange:
		out = oldestStrange
	case all >= maxStreams && oldestStrange != nil:
		out = oldestStrange
	case all >= maxStreams:
		out = oldest
	default:
		return true
	}
	if out == nil {
		return false
	}
	delete(t.conns, out)
	out.Conn.Close() // its goroutine ends by the error
	return true
}

func (c *streamConn) Read(b []byte) (int, error) {
	if c.left <= 0 {
		return 0, fmt.Errorf("stream over %d bytes: %w", maxStreamBytes, io.ErrShortBuffer)
	}
	n, err := c.Conn.Read(b[:min(int64(len(b)), c.left)])
	c.left -= int64(n)
	return n, err
}

func (c *streamConn) Close() error {
	c.t.mu.Lock()
	delete(c.t.conns, c)
	c.t.mu.Unlock()
	return c.Conn.Close()
}
