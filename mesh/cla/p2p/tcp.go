package p2p

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/sec"
	"github.com/libp2p/go-yamux/v5"

	"outrider/mesh/crowd"
	"outrider/mesh/identity"
)

type netConn = net.Conn

func be32(b []byte) uint32 { return binary.BigEndian.Uint32(b) }

// errAllowance ends a stranger that sends more than a hello can need.
var errAllowance = errors.New("stranger sent too much")

// A wire is a TCP connection below Noise. Until its peer is admitted it
// passes only maxStrangerBytes, so that a stranger can fill no window.
type wire struct {
	net.Conn
	admitted  atomic.Bool
	allowance atomic.Int64
}

func newWire(c net.Conn) *wire {
	w := &wire{Conn: c}
	w.allowance.Store(maxStrangerBytes)
	return w
}

func (w *wire) Read(b []byte) (int, error) {
	n, err := w.Conn.Read(b)
	if !w.admitted.Load() && w.allowance.Add(int64(-n)) < 0 {
		return 0, errAllowance
	}
	return n, err
}

// drop closes the connection with a reset: no answer, nothing kept waiting.
func (w *wire) drop() {
	if c, ok := w.Conn.(*net.TCPConn); ok {
		_ = c.SetLinger(0)
	}
	_ = w.Conn.Close()
}

// listenTCP listens on addr ("host:port"). Go's keep-alive is off: yamux has
// one, and the profile says how often.
func (l *Layer) listenTCP(ctx context.Context, addr string) (net.Listener, error) {
	lc := net.ListenConfig{KeepAlive: -1}
	return lc.Listen(ctx, "tcp", addr)
}

// acceptTCP shows in what knocks at ln, until ln is closed.
func (l *Layer) acceptTCP(ctx context.Context, ln net.Listener) error {
	for {
		c, err := ln.Accept()
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			// Out of descriptors, or a connection that ended before we took
			// it: the listener itself is fine.
			l.log.Log(ctx, l.starved.level(slog.LevelWarn), "connection not accepted", "err", err)
			if !pause(ctx, acceptPause) {
				return nil
			}
			continue
		}
		l.knock(ctx, c)
		if d := l.crowd.Rest(); d > 0 && !pause(ctx, d) {
			return nil
		}
	}
}

// acceptPause keeps a listener without descriptors from spinning.
const acceptPause = 100 * time.Millisecond

// knock finds a place for an inbound connection and serves it there.
func (l *Layer) knock(ctx context.Context, c net.Conn) {
	w, source := newWire(c), crowd.Of(c.RemoteAddr().String())
	if !l.crowd.Admit(source) {
		l.turned.crowded.Add(1)
		w.drop()
		return
	}
	v := l.door.enter(arrival{source: source, known: l.crowd.Known(source), proven: true}, w.drop)
	if v == nil {
		l.turned.crowded.Add(1)
		l.crowd.Refuse(source)
		w.drop()
		return
	}
	if raw, err := c.(*net.TCPConn).SyscallConn(); err == nil {
		_ = l.profile.tuneSocket("", "", raw)
	}
	l.wg.Go(func() {
		defer v.leave()
		ctx, cancel := context.WithTimeout(ctx, l.profile.HelloTimeout)
		defer cancel()
		s, err := l.secure(ctx, w, "")
		if err != nil {
			w.drop()
			l.turned.refused.Add(1)
			l.crowd.Refuse(source)
			l.log.Debug("stranger left", "err", err)
			return
		}
		l.welcome(ctx, s, v)
	})
}

// dialTCP connects and secures. errBusy means that the other side closed
// before it had proved its key, as a full door does.
func (l *Layer) dialTCP(ctx context.Context, id identity.NodeID, addr string) (session, error) {
	d := net.Dialer{KeepAlive: -1, Control: l.profile.tuneSocket}
	c, err := d.DialContext(ctx, "tcp", addr)
	if errors.Is(err, syscall.ECONNRESET) { // accepted, and dropped before we looked
		return nil, fmt.Errorf("%w: %v", errBusy, err)
	}
	if err != nil {
		return nil, err
	}
	w := newWire(c)
	p, err := peerID(id)
	if err != nil {
		w.drop()
		return nil, err
	}
	s, err := l.secure(ctx, w, p)
	if err != nil {
		w.drop()
		var mismatch sec.ErrPeerIDMismatch
		if ctx.Err() == nil && !errors.As(err, &mismatch) {
			err = fmt.Errorf("%w: %v", errBusy, err)
		}
		return nil, err
	}
	return s, nil
}

// errBusy is a connection that ended before its peer was proven.
var errBusy = errors.New("closed before the handshake was over, the other node may be busy with strangers")

// secure makes a session of a TCP connection: Noise, then yamux. expect is
// the peer to be found there, empty for an inbound connection.
func (l *Layer) secure(ctx context.Context, w *wire, expect peer.ID) (session, error) {
	stop := context.AfterFunc(ctx, w.drop)
	defer stop()
	inbound := expect == ""
	if err := upgrade(w, inbound, protoNoise); err != nil {
		return nil, fmt.Errorf("choose noise: %v", err)
	}
	conn, err := l.handshake(ctx, w, expect)
	if err != nil {
		return nil, err
	}
	id, err := nodeID(conn.RemotePublicKey())
	if err != nil {
		return nil, err
	}
	if conn.ConnState().StreamMultiplexer != protoYamux {
		if err := upgrade(conn, inbound, protoYamux); err != nil {
			return nil, fmt.Errorf("choose yamux: %v", err)
		}
	}
	return l.multiplex(conn, w, id, inbound)
}

// handshake runs Noise XX with libp2p's identity payload.
func (l *Layer) handshake(ctx context.Context, w *wire, expect peer.ID) (sec.SecureConn, error) {
	if expect == "" {
		return l.noise.SecureInbound(ctx, w, "")
	}
	return l.noise.SecureOutbound(ctx, w, expect)
}

// upgrade agrees on the one protocol that may come next.
func upgrade(rw io.ReadWriter, inbound bool, proto string) error {
	if inbound {
		_, err := choose(rw, proto)
		return err
	}
	if err := propose(rw, proto, nil); err != nil {
		return err
	}
	return agreed(rw, proto)
}

func (l *Layer) multiplex(conn net.Conn, w *wire, id identity.NodeID, inbound bool) (session, error) {
	p := &pace{secured: conn, sent: make(chan struct{}, 1)}
	open := yamux.Client
	if inbound {
		open = yamux.Server
	}
	mem := &account{all: l.memory, wire: w, limit: maxPeerStreams*yamuxWindow + int64(l.profile.Window)}
	y, err := open(p, l.yamuxConfig(), mem.span)
	if err != nil {
		return nil, err
	}
	return &tcpSession{Session: y, pace: p, wire: w, peer: id, addr: w.RemoteAddr().String()}, nil
}

// yamuxConfig is yamux as mesh.md 3.8 measured it to survive thin links.
func (l *Layer) yamuxConfig() *yamux.Config {
	c := yamux.DefaultConfig()
	c.AcceptBacklog = maxPeerStreams
	c.MaxIncomingStreams = maxPeerStreams
	c.KeepAliveInterval = l.profile.KeepAlive
	c.ConnectionWriteTimeout = l.profile.WriteTimeout
	c.MeasureRTTInterval = time.Hour
	c.MaxMessageSize = uint32(l.profile.Message)
	c.MaxStreamWindowSize = uint32(l.profile.Window)
	c.LogOutput = io.Discard // every error also ends the session, where we log it
	c.ReadBufSize = 0        // Noise buffers
	return c
}

// pause waits for d. It reports false if ctx ended first.
func pause(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}
