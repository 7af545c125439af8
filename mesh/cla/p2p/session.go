package p2p

import (
	"context"
	"errors"
	"io"
	"sync"
	"sync/atomic"
	"time"

	"github.com/libp2p/go-yamux/v5"
	"github.com/quic-go/quic-go"

	"outrider/mesh/identity"
)

// A session is one secured connection that carries streams: yamux over Noise
// over TCP, or QUIC. The peer's key is proven, nothing else is.
type session interface {
	Peer() identity.NodeID
	Addr() string // remote address
	Open(context.Context) (stream, error)
	Accept(context.Context) (stream, error)
	Done() <-chan struct{} // closed when the connection has ended
	Admitted()             // lifts what a stranger is limited to
	Close()
}

// A stream is one stream of a session.
type stream interface {
	io.Reader
	io.Writer
	CloseWrite() error
	Close() error // both ways; what was written is still sent
	Reset()
	SetDeadline(time.Time) error
	SetWriteDeadline(time.Time) error
	// Count begins to count what gets through to the socket.
	Count()
	// Queued returns how many of the n bytes written since Count wait above
	// the socket, and a channel that receives when they may be fewer.
	Queued(n uint64) (uint64, <-chan struct{})
}

// tcpSession is yamux over Noise over TCP.
type tcpSession struct {
	*yamux.Session
	pace *pace
	wire *wire
	peer identity.NodeID
	addr string
}

func (s *tcpSession) Peer() identity.NodeID { return s.peer }
func (s *tcpSession) Addr() string          { return s.addr }
func (s *tcpSession) Done() <-chan struct{} { return s.CloseChan() }
func (s *tcpSession) Admitted()             { s.wire.admitted.Store(true) }

// Close ends the connection without a yamux goodbye, which would wait for
// bulk on its way.
func (s *tcpSession) Close() { _ = s.Session.Close() }

func (s *tcpSession) Open(ctx context.Context) (stream, error) {
	st, err := s.OpenStream(ctx)
	if err != nil {
		return nil, err
	}
	return tcpStream{st, s.pace}, nil
}

// Accept ends with the session, not with a context: whoever wants it to end
// closes the session.
func (s *tcpSession) Accept(context.Context) (stream, error) {
	st, err := s.AcceptStream()
	if err != nil {
		return nil, err
	}
	return tcpStream{st, s.pace}, nil
}

type tcpStream struct {
	*yamux.Stream
	pace *pace
}

func (s tcpStream) Reset() { _ = s.Stream.Reset() }

func (s tcpStream) Count() { s.pace.count(s.StreamID()) }

func (s tcpStream) Queued(n uint64) (uint64, <-chan struct{}) { return s.pace.queued(n) }

// A pace stands between yamux and Noise and counts what one stream has got
// through to the socket. yamux queues 64 frames before a write blocks; on a
// radio that is a minute of bulk which nothing urgent could pass.
type pace struct {
	secured
	sent chan struct{} // 1 deep: something was sent since it was last taken

	mu     sync.Mutex
	stream uint32 // the one that is counted
	bytes  uint64
}

// secured is what pace needs of Noise; yamux asks for a net.Conn.
type secured = netConn

const yamuxHeader = 12

func (p *pace) Write(b []byte) (int, error) {
	n, err := p.secured.Write(b)
	if len(b) > yamuxHeader && b[1] == 0 { // version, type, flags, stream, length: a data frame
		p.mu.Lock()
		if be32(b[4:]) == p.stream {
			p.bytes += uint64(len(b) - yamuxHeader)
		}
		p.mu.Unlock()
		select {
		case p.sent <- struct{}{}:
		default:
		}
	}
	return n, err
}

// count begins to count a stream. What was written of it before and waits in
// yamux will be counted too: an opening of a hundred bytes at most.
func (p *pace) count(id uint32) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.stream, p.bytes = id, 0
}

func (p *pace) queued(n uint64) (uint64, <-chan struct{}) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return n - min(n, p.bytes), p.sent
}

// budget limits the receive windows of all yamux streams of admitted peers.
type budget struct{ left atomic.Int64 }

func newBudget(n int64) *budget {
	b := &budget{}
	b.left.Store(n)
	return b
}

func (b *budget) take(n int64) bool {
	if b.left.Add(-n) < 0 {
		b.left.Add(n)
		return false
	}
	return true
}

var errMemory = errors.New("receive windows use up the memory set aside for them")

// An account limits the receive windows of one session. A stranger's are not
// charged to the budget: it cannot fill them, and must not use it up.
type account struct {
	all   *budget
	wire  *wire
	limit int64
	held  atomic.Int64
}

// span implements yamux.MemoryManager for one stream.
type span struct {
	*account
	own, charged atomic.Int64
}

func (a *account) span() (yamux.MemoryManager, error) { return &span{account: a}, nil }

func (s *span) ReserveMemory(size int, _ uint8) error {
	n := int64(size)
	if s.held.Add(n) > s.limit {
		s.held.Add(-n)
		return errMemory
	}
	if s.wire.admitted.Load() {
		if !s.all.take(n) {
			s.held.Add(-n)
			return errMemory
		}
		s.charged.Add(n)
	}
	s.own.Add(n)
	return nil
}

// ReleaseMemory is part of the interface; yamux releases all with Done.
func (s *span) ReleaseMemory(size int) {
	n := min(int64(size), s.own.Load())
	s.own.Add(-n)
	s.held.Add(-n)
	c := min(n, s.charged.Load())
	s.charged.Add(-c)
	s.all.left.Add(c)
}

func (s *span) Done() { s.ReleaseMemory(int(s.own.Load())) }

// quicSession is a QUIC connection.
type quicSession struct {
	*quic.Conn
	peer identity.NodeID
}

func (s *quicSession) Peer() identity.NodeID { return s.peer }
func (s *quicSession) Addr() string          { return s.RemoteAddr().String() }
func (s *quicSession) Done() <-chan struct{} { return s.Context().Done() }
func (s *quicSession) Admitted()             {}
func (s *quicSession) Close()                { _ = s.CloseWithError(0, "") }

func (s *quicSession) Open(ctx context.Context) (stream, error) {
	st, err := s.OpenStreamSync(ctx)
	if err != nil {
		return nil, err
	}
	return quicStream{st}, nil
}

func (s *quicSession) Accept(ctx context.Context) (stream, error) {
	st, err := s.AcceptStream(ctx)
	if err != nil {
		return nil, err
	}
	return quicStream{st}, nil
}

type quicStream struct{ *quic.Stream }

func (s quicStream) CloseWrite() error { return s.Stream.Close() }

func (s quicStream) Close() error {
	s.CancelRead(0)
	return s.Stream.Close()
}

func (s quicStream) Reset() {
	s.CancelRead(0)
	s.CancelWrite(0)
}

func (s quicStream) Count() {}

// Queued is none: QUIC's Write returns only when the data are in packets, and
// QUIC is not for links where they could wait long.
func (s quicStream) Queued(uint64) (uint64, <-chan struct{}) { return 0, nil }
