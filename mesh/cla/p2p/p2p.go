// Package p2p is the convergence layer over IP: TCP with Noise and yamux,
// and QUIC where the link is fat, in libp2p's wire formats.
//
// What it promises. A link is to a node that proved a certificate of our
// network and that nobody has switched off; when its admission ends, so does
// the link, at once. Until then a connection is a stranger: it may fetch the
// root record and introduce itself, it has one of four places, little time
// and little memory, and admitted peers do not notice a crowd of them. Two
// nodes have at most one live link, whoever dialled and however often.
// Nothing runs that nobody asked for: no discovery, relays, identify, pings
// of its own; the streams and their messages are in STREAMS.md.
//
// Of go-libp2p only the parts that define the wire are used (keys, Noise, TLS
// certificates, yamux). Its host and swarm would bring timers that slow links
// miss, a dial back-off and an identify exchange that we would have to fight,
// and 12 MB of binary.
package p2p

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"syscall"
	"time"

	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/gologshim"
	"github.com/libp2p/go-libp2p/p2p/net/upgrader"
	"github.com/libp2p/go-libp2p/p2p/security/noise"
	"github.com/quic-go/quic-go"
	"golang.org/x/sync/errgroup"

	"outrider/mesh/cla"
	"outrider/mesh/crowd"
	"outrider/mesh/identity"
)

// An Admission decides who is one of us. Its methods may be called at any
// time and from several goroutines.
type Admission interface {
	// Hello returns our own certificates, opaque here, at most 3.5 KiB.
	Hello() []byte
	// Admit judges the certificates of a peer whose key is proven. The
	// answer holds until then, zero meaning until Recheck. Errors that are
	// identity.ErrForeign, ErrExpired or ErrMalformed are told to the peer as
	// such; of others it learns nothing.
	Admit(peer identity.NodeID, hello []byte) (until time.Time, err error)
	// RootRecord returns the network's root record, which anybody may have,
	// at most 8 KiB.
	RootRecord() []byte
}

// A Gate is the operator's switch for single peers. After a change call
// Recheck, which closes what is no longer allowed.
type Gate interface {
	Allowed(identity.NodeID) bool
}

// A Config says what a Layer needs.
type Config struct {
	Key       identity.PrivateKey // of the node
	Listen    []string            // "host:port", TCP and with QUIC also UDP
	Admission Admission
	Gate      Gate    // nil allows all
	Secrets   Secrets // nil hands over nothing
	Profile   Profile // zero for ProfileOf(cla.LAN)
	Features  uint64  // feature bits told to peers
	// Now is the time that admissions end by, default time.Now.
	Now func() time.Time
	Log *slog.Logger

	protocolMin, protocolMax uint16 // for tests; zero for ours
}

// ErrNotRunning is returned by calls that need Run to be in progress.
var ErrNotRunning = errors.New("p2p: layer is not running")

// A Layer makes links over IP. It implements cla.Layer.
type Layer struct {
	admission Admission
	gate      Gate
	secrets   Secrets
	profile   Profile
	listen    []string
	features  uint64
	versions  [2]uint16
	now       func() time.Time
	log       *slog.Logger

	self     identity.NodeID
	key      crypto.PrivKey
	noise    *noise.Transport
	resetKey quic.StatelessResetKey
	instance []byte // tells one run of this node from another

	door    *door
	crowd   *crowd.Crowd
	refused sparse // what is logged of strangers
	starved sparse // what is logged of failed accepts
	turned  turnedAway
	memory  *budget
	dialing chan struct{} // a place for each dial in progress
	ready   chan struct{} // closed when Run listens
	wg      sync.WaitGroup

	mu       sync.Mutex
	run      context.Context // of Run, nil when it is not in progress
	serve    func(context.Context, cla.Link)
	ran      bool
	addrs    []string
	quic     []*quicPort
	peers    map[identity.NodeID]*peerState
	conns    int    // admitted connections
	accepted uint64 // mesh streams accepted
	opened   uint64 // mesh streams opened
	rechecks uint64 // calls of Recheck
}

var _ cla.Layer = (*Layer)(nil)

// New returns a layer that does nothing before Run.
func New(c Config) (*Layer, error) {
	if c.Key.IsZero() || c.Admission == nil || c.Log == nil {
		return nil, errors.New("p2p: new: key, admission and log are needed")
	}
	if c.Profile == (Profile{}) {
		c.Profile = ProfileOf(cla.LAN)
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.protocolMax == 0 {
		c.protocolMin, c.protocolMax = ProtocolMin, ProtocolMax
	}
	key, err := hostKey(c.Key)
	if err != nil {
		return nil, fmt.Errorf("p2p: new: %v", err)
	}
	nt, err := noise.New(protoNoise, key, []upgrader.StreamMuxer{{ID: protoYamux}})
	if err != nil {
		return nil, fmt.Errorf("p2p: new: %v", err)
	}
	reset, err := quicResetKey(c.Key)
	if err != nil {
		return nil, fmt.Errorf("p2p: new: %v", err)
	}
	instance := make([]byte, instanceSize)
	if _, err := rand.Read(instance); err != nil {
		return nil, fmt.Errorf("p2p: new: %v", err)
	}
	gologshim.SetDefaultHandler(c.Log.Handler())
	return &Layer{
		admission: c.Admission, gate: c.Gate, secrets: c.Secrets, profile: c.Profile, listen: c.Listen,
		features: c.Features, versions: [2]uint16{c.protocolMin, c.protocolMax},
		now: c.Now, log: c.Log,
		self: c.Key.Public().NodeID(), key: key, noise: nt, resetKey: reset, instance: instance,
		door:    newDoor(c.Profile.HelloTimeout / graceShare),
		crowd:   crowd.New("mesh", knocks, c.Log),
		memory:  newBudget(maxMemory),
		dialing: make(chan struct{}, maxDials),
		ready:   make(chan struct{}),
		peers:   make(map[identity.NodeID]*peerState),
	}, nil
}

// Run implements cla.Layer. It can be called once.
func (l *Layer) Run(ctx context.Context, serve func(context.Context, cla.Link)) (err error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	g, ctx := errgroup.WithContext(ctx)
	l.mu.Lock()
	if l.ran {
		l.mu.Unlock()
		return errors.New("p2p: run: a layer runs once")
	}
	l.ran, l.run, l.serve = true, ctx, serve
	l.mu.Unlock()

	closePorts, err := l.openPorts(ctx, g)
	if err == nil {
		close(l.ready)
		<-ctx.Done()
	}
	cancel()
	l.stop()
	closePorts()
	gerr := g.Wait()
	l.wg.Wait()
	if err = errors.Join(err, gerr); err != nil {
		return fmt.Errorf("p2p: run: %w", err)
	}
	return nil
}

// openPorts opens all listening sockets and begins to accept.
func (l *Layer) openPorts(ctx context.Context, g *errgroup.Group) (closeAll func(), err error) {
	var closers []func()
	closeAll = func() {
		for _, c := range closers {
			c()
		}
	}
	for _, addr := range l.listen {
		ln, q, err := l.openPort(ctx, addr)
		if err != nil {
			return closeAll, err
		}
		closers = append(closers, func() { _ = ln.Close() })
		g.Go(func() error { return l.acceptTCP(ctx, ln) })
		if q != nil {
			closers = append(closers, func() { _ = q.close() })
			g.Go(func() error { return l.acceptQUIC(ctx, q) })
			l.mu.Lock()
			l.quic = append(l.quic, q)
			l.mu.Unlock()
		}
		l.mu.Lock()
		l.addrs = append(l.addrs, ln.Addr().String())
		l.mu.Unlock()
	}
	return closeAll, nil
}

// openPort listens on addr on TCP and, if the profile has it, on QUIC: at the
// same port, also if it was 0.
func (l *Layer) openPort(ctx context.Context, addr string) (ln net.Listener, q *quicPort, err error) {
	const tries = 10 // for port 0, which may be free on TCP and taken on UDP
	_, port, _ := net.SplitHostPort(addr)
	for range tries {
		if ln, err = l.listenTCP(ctx, addr); err != nil {
			return nil, nil, fmt.Errorf("listen: %v", err)
		}
		if !l.profile.QUIC {
			return ln, nil, nil
		}
		if q, err = l.openQUIC(ln.Addr().String()); err == nil {
			return ln, q, nil
		}
		_ = ln.Close()
		if port != "0" || !errors.Is(err, syscall.EADDRINUSE) {
			break
		}
	}
	return nil, nil, fmt.Errorf("listen on QUIC: %v", err)
}

// stop ends all connections and lets no new ones be made.
func (l *Layer) stop() {
	l.mu.Lock()
	l.run = nil
	var open []*conn
	for _, p := range l.peers {
		open = append(open, p.conns...)
	}
	l.mu.Unlock()
	for _, c := range open {
		c.Close()
	}
}

// enter joins the caller to Run, which waits for leave, and returns Run's
// context.
func (l *Layer) enter() (ctx context.Context, leave func(), err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.run == nil || l.run.Err() != nil {
		return nil, nil, ErrNotRunning
	}
	l.wg.Add(1)
	return l.run, l.wg.Done, nil
}

// Ready returns a channel that is closed when the layer listens.
func (l *Layer) Ready() <-chan struct{} { return l.ready }

// Addrs returns the addresses listened on, with the ports that stand for 0.
func (l *Layer) Addrs() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return append([]string(nil), l.addrs...)
}

// Connected reports whether there is a live link to peer.
func (l *Layer) Connected(peer identity.NodeID) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	p := l.peers[peer]
	return p != nil && p.live != nil
}

// Refused reports who was turned away at the listeners before admission.
func (l *Layer) Refused() crowd.Report { return l.crowd.Report() }

func (l *Layer) allowed(peer identity.NodeID) bool {
	return peer != l.self && (l.gate == nil || l.gate.Allowed(peer))
}

// quicPort returns a port to dial QUIC from, nil if there is none.
func (l *Layer) quicPort() *quicPort {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.quic) == 0 {
		return nil
	}
	return l.quic[0]
}

// A sparse log line is written at most once a minute at the level meant for
// operators, however many strangers call for it, and else as Debug.
type sparse struct {
	mu   sync.Mutex
	last time.Time
}

const sparseEvery = time.Minute

func (s *sparse) level(of slog.Level) slog.Level {
	s.mu.Lock()
	defer s.mu.Unlock()
	if now := time.Now(); s.last.IsZero() || now.Sub(s.last) >= sparseEvery {
		s.last = now
		return of
	}
	return slog.LevelDebug
}

// isTimeout reports whether err is a deadline that passed.
func isTimeout(err error) bool {
	var t net.Error
	return errors.As(err, &t) && t.Timeout()
}
