// Package pipe is a convergence layer over a byte stream that somebody else
// has opened and vouches for, such as a unix socket to the node's operator:
// each frame goes behind its length as a uvarint. It proves nobody's identity.
package pipe

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"outrider/mesh/cla"
	"outrider/mesh/identity"
)

const (
	head = binary.MaxVarintLen32
	// linger is how long what was sent may take to get through after Close.
	linger = 3 * time.Second
)

// A Conn is a stream whose two directions end apart: *net.UnixConn,
// *net.TCPConn.
type Conn interface {
	net.Conn
	CloseWrite() error
}

// A Link is one end of the stream.
type Link struct {
	conn   Conn
	peer   identity.NodeID
	info   cla.Info
	in     *bufio.Reader
	tx, rx atomic.Uint64
	closed chan struct{}
	once   sync.Once
}

var _ cla.Link = (*Link)(nil)

// New makes a link of a stream. in holds what was already read of it, nil if
// nothing.
func New(conn Conn, in io.Reader, peer identity.NodeID, info cla.Info) *Link {
	if in == nil {
		in = conn
	}
	return &Link{conn: conn, peer: peer, info: info, in: bufio.NewReaderSize(in, head+cla.MaxFrame), closed: make(chan struct{})}
}

// Peer returns what New was told.
func (l *Link) Peer() identity.NodeID { return l.peer }

// Info returns what New was told.
func (l *Link) Info() cla.Info { return l.info }

// Counters implements cla.Link.
func (l *Link) Counters() (tx, rx uint64) { return l.tx.Load(), l.rx.Load() }

// Send implements cla.Link. If ctx ends meanwhile the link ends with it.
func (l *Link) Send(ctx context.Context, frame []byte) error {
	if len(frame) == 0 || len(frame) > cla.MaxFrame {
		return cla.ErrFrameSize
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	stop := context.AfterFunc(ctx, func() { _ = l.conn.SetWriteDeadline(time.Unix(1, 0)) })
	defer stop()
	buf := append(binary.AppendUvarint(make([]byte, 0, head+len(frame)), uint64(len(frame))), frame...)
	n, err := l.conn.Write(buf)
	l.tx.Add(uint64(n))
	switch {
	case err == nil:
		return nil
	case ctx.Err() != nil:
		l.Close()
		return ctx.Err()
	}
	return l.over(err)
}

// Recv implements cla.Link.
func (l *Link) Recv(ctx context.Context) ([]byte, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	woken := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(woken)
		_ = l.conn.SetReadDeadline(time.Unix(1, 0))
	})
	frame, err := l.read()
	if !stop() {
		<-woken
		_ = l.conn.SetReadDeadline(time.Time{}) // what was read of a frame waits for the next call
	}
	switch {
	case err == nil:
		return frame, nil
	case ctx.Err() != nil && isTimeout(err):
		return nil, ctx.Err()
	}
	return nil, l.over(err)
}

func (l *Link) read() ([]byte, error) {
	select {
	case <-l.closed:
		return nil, cla.ErrClosed
	default:
	}
	n, width, err := l.length()
	if err != nil {
		return nil, err
	}
	raw, err := l.in.Peek(width + n)
	if err != nil {
		return nil, err
	}
	frame := append([]byte(nil), raw[width:]...)
	_, _ = l.in.Discard(len(raw)) // it is in the buffer
	l.rx.Add(uint64(len(raw)))
	return frame, nil
}

// length peeks at the length of the next frame.
func (l *Link) length() (n, width int, err error) {
	for width = 1; width <= head; width++ {
		raw, err := l.in.Peek(width)
		if err != nil {
			return 0, 0, err
		}
		if v, w := binary.Uvarint(raw); w > 0 && v > 0 && v <= cla.MaxFrame {
			return int(v), w, nil
		} else if w != 0 {
			break
		}
	}
	return 0, 0, fmt.Errorf("pipe: %w", cla.ErrFrameSize)
}

func isTimeout(err error) bool {
	var t net.Error
	return errors.As(err, &t) && t.Timeout()
}

// over ends the link because of err.
func (l *Link) over(err error) error {
	l.Close()
	if errors.Is(err, cla.ErrFrameSize) {
		return err
	}
	return cla.ErrClosed
}

// Close implements cla.Link: it ends the own direction and, when the other end
// has done so too or after a few seconds, the stream.
func (l *Link) Close() error {
	l.once.Do(func() {
		close(l.closed)
		_ = l.conn.SetDeadline(time.Unix(1, 0)) // whoever is blocked here
		if l.conn.CloseWrite() != nil {
			l.conn.Close()
			return
		}
		go func() {
			defer l.conn.Close()
			_ = l.conn.SetReadDeadline(time.Now().Add(linger))
			_, _ = io.Copy(io.Discard, l.conn)
		}()
	})
	return nil
}
