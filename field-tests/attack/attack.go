// Package attack is the product under attack from outside the network: real
// nodes of the real binary, and attackers that have no key of the network but
// everything else: many addresses, recordings of real traffic, patience.
//
// Two nodes forward bundles and serve pages while a row's attack is switched
// on and off in turns. A row fails when honest work falls below its share, when
// the attack was weaker than the row says, when the node's memory grows beyond
// its bound, when the node does not recover, when anything acknowledged is
// lost, or when nobody was named.
//
// It all runs in one network namespace where every address of 10.66.0.0/16 is
// this machine's own, so that attackers come from as many as they like. They
// are a process of their own that gets what processor time nobody else wants:
// what they cost the node counts, not what they cost the machine. Those on the
// node's own machine are another, under another account.
package attack

import (
	"context"
	"crypto/ed25519"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// The addresses of the stage.
var (
	nodeA   = netip.MustParseAddr("10.66.0.1") // attacked
	nodeB   = netip.MustParseAddr("10.66.0.2")
	visitor = netip.MustParseAddr("10.66.0.3") // an honest user's browser
	villain = netip.MustParseAddr("10.66.9.9") // one attacker
)

// ownStage makes every address of the stage this machine's own. The caller
// must be in a network namespace of its own.
func ownStage() error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("attack: stage: %w", err)
	}
	defer unix.Close(fd)
	set := func(req uint, a netip.Addr) error {
		r, err := unix.NewIfreq("lo:1")
		if err != nil {
			return err
		}
		b := a.As4()
		if err := r.SetInet4Addr(b[:]); err != nil {
			return err
		}
		return unix.IoctlIfreq(fd, req, r)
	}
	if err := errors.Join(set(unix.SIOCSIFADDR, nodeA), set(unix.SIOCSIFNETMASK, netip.MustParseAddr("255.255.0.0"))); err != nil {
		return fmt.Errorf("attack: stage: %w", err)
	}
	return nil
}

// Where an attack comes from.
type sources func() netip.Addr

func one() netip.Addr { return villain }

// many is any of 57,000 addresses.
func many() netip.Addr {
	b := nodeA.As4()
	b[2], b[3] = byte(16+rand.N(224)), byte(1+rand.N(254))
	return netip.AddrFrom4(b)
}

// neighbour is another account of the attacked machine, one of the node's group.
func neighbour() netip.Addr { return netip.MustParseAddr("127.0.0.9") }

// neighbourUID is that account: nobody's, on every Linux.
const neighbourUID = 65534

// A targets says what attackers know of the node: its addresses, its
// certificate's absence, and what passed on the air.
type targets struct {
	Mesh, Gossip, Page, CA, Metrics string
	MDNS                            string
	Socket                          string
	Datagrams                       map[string][][]byte // recorded, by the address they went to
	Streams                         map[string][][]byte // beginnings of recorded TCP streams, the dialler's side
}

// An assault is one attack at work. It counts what it does.
type assault struct {
	targets
	from sources
	rate int // per second; 0 is as fast as it goes
	hold int // connections kept open at most

	done atomic.Int64

	mu   sync.Mutex
	open map[net.Conn]struct{}
}

// keep notes an open connection, so that the attack can end.
func (a *assault) keep(c net.Conn) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.open == nil {
		a.open = map[net.Conn]struct{}{}
	}
	a.open[c] = struct{}{}
}

func (a *assault) forget(c net.Conn) {
	a.mu.Lock()
	delete(a.open, c)
	a.mu.Unlock()
	if t, ok := c.(*net.TCPConn); ok {
		_ = t.SetLinger(0) // no time-wait: ports would run out
	}
	_ = c.Close()
}

func (a *assault) end() {
	a.mu.Lock()
	var all []net.Conn
	for c := range a.open {
		all = append(all, c)
	}
	a.mu.Unlock()
	for _, c := range all {
		a.forget(c)
	}
}

// dial connects from one of the attack's addresses.
func (a *assault) dial(ctx context.Context, to string) (net.Conn, error) {
	if to == "" {
		return nil, errors.New("attack: no target")
	}
	d := net.Dialer{Timeout: 2 * time.Second}
	network := "unix"
	if _, err := netip.ParseAddrPort(to); err == nil {
		network = "tcp"
		d.LocalAddr = &net.TCPAddr{IP: a.from().AsSlice()}
	}
	c, err := d.DialContext(ctx, network, to)
	if err != nil {
		return nil, err
	}
	a.keep(c)
	return c, nil
}

// paced calls do in turns from so many goroutines until ctx ends, at most at
// the attack's rate.
func (a *assault) paced(ctx context.Context, workers int, do func()) {
	var wg sync.WaitGroup
	begin := time.Now()
	var turns atomic.Int64
	for range workers {
		wg.Go(func() {
			for ctx.Err() == nil {
				n := turns.Add(1)
				if a.rate > 0 {
					at := begin.Add(time.Duration(n) * time.Second / time.Duration(a.rate))
					if !wait(ctx, time.Until(at)) {
						return
					}
				}
				do()
			}
		})
	}
	wg.Wait()
}

// wait waits for d and reports false if ctx ended first.
func wait(ctx context.Context, d time.Duration) bool {
	if d <= 0 {
		return ctx.Err() == nil
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// connections floods a target with connections that say something and hold
// on until the node has had enough of them, or the attack ends.
func (a *assault) connections(ctx context.Context, to string, say func(context.Context, net.Conn)) {
	var held atomic.Int64
	var holders sync.WaitGroup
	stop := context.AfterFunc(ctx, a.end)
	defer stop()
	a.paced(ctx, 16, func() {
		c, err := a.dial(ctx, to)
		if err != nil {
			return
		}
		a.done.Add(1)
		if held.Load() >= int64(a.hold) {
			say(ctx, c)
			a.forget(c)
			return
		}
		held.Add(1)
		holders.Go(func() {
			defer held.Add(-1)
			defer a.forget(c)
			say(ctx, c)
			_, _ = c.Read(make([]byte, 1)) // until it is put out
		})
	})
	a.end()
	holders.Wait()
}

// says sends one thing and no more.
func says(b []byte) func(context.Context, net.Conn) {
	return func(_ context.Context, c net.Conn) {
		_ = c.SetWriteDeadline(time.Now().Add(time.Second))
		_, _ = c.Write(b)
	}
}

// slowly sends a byte at a time.
func slowly(b []byte) func(context.Context, net.Conn) {
	return func(ctx context.Context, c net.Conn) {
		for i := range b {
			if _, err := c.Write(b[i : i+1]); err != nil || !wait(ctx, 50*time.Millisecond) {
				return
			}
		}
	}
}

// datagrams floods a target with what next makes, from a changing set of
// sockets.
func (a *assault) datagrams(ctx context.Context, to string, next func() []byte) {
	at := netip.MustParseAddrPort(to)
	const sockets = 64
	a.paced(ctx, 2, func() {
		c, err := net.DialUDP("udp", &net.UDPAddr{IP: a.from().AsSlice()}, net.UDPAddrFromAddrPort(at))
		if err != nil {
			return
		}
		defer c.Close()
		for range sockets {
			if _, err := c.Write(next()); err == nil || errors.Is(err, syscall.ECONNREFUSED) {
				a.done.Add(1)
			}
			if ctx.Err() != nil {
				return
			}
		}
	})
}

// random makes datagrams of noise.
func random(size int) func() []byte {
	seed := rand.Uint64()
	return func() []byte {
		b := make([]byte, size)
		r := rand.NewChaCha8([32]byte{byte(seed)})
		r.Read(b[:min(size, 64)])
		seed++
		binary.BigEndian.PutUint64(b[1:], seed)
		return b
	}
}

// initials makes datagrams that look like the first of a QUIC connection.
func initials() []byte {
	b := make([]byte, 1200)
	b[0] = 0xc3
	binary.BigEndian.PutUint32(b[1:], 1) // version
	b[5] = 8
	binary.BigEndian.PutUint64(b[6:], rand.Uint64())
	b[14], b[15] = 0, 0                             // no source id, no token
	binary.BigEndian.PutUint16(b[16:], 0x4000|1182) // length
	return b
}

// replayed repeats recordings.
func replayed(all [][]byte) func() []byte {
	var n atomic.Int64
	return func() []byte {
		if len(all) == 0 {
			return nil
		}
		return all[int(n.Add(1))%len(all)]
	}
}

// strangerKey is an attacker's own identity, which any may have.
func strangerKey() ed25519.PrivateKey {
	_, key, err := ed25519.GenerateKey(nil)
	if err != nil {
		panic(err) // no randomness: nothing works
	}
	return key
}
