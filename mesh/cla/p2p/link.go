package p2p

import (
	"bufio"
	"context"
	"encoding/binary"
	"io"
	"sync"
	"sync/atomic"
	"time"

	"outrider/mesh/cla"
	"outrider/mesh/identity"
)

// A link is a mesh stream that carries frames: a uvarint length, then so many
// bytes. It implements cla.Link. A connection carries one link and ends with
// it.
type link struct {
	conn   *conn
	stream stream
	r      *bufio.Reader
	serial uint64 // counted by the leader, who opened it
	number uint64 // counted by the follower, who accepted it
	info   cla.Info
	since  time.Time

	before <-chan struct{} // serve of the link before has returned
	served chan struct{}   // serve of this one has

	frames chan []byte   // from the reader, closed by it at the end of the stream
	ended  chan struct{} // closed by the reader before frames is: no more comes in
	closed chan struct{} // closed by Close or cut
	once   sync.Once

	tx, rx atomic.Uint64
	used   atomic.Int64 // when the last frame passed, in ns of since's clock

	// sending has one place, taken by Send, and by finish when no Send is left.
	sending chan struct{}
	rest    []byte // of a frame whose Send was cancelled in the middle
	handed  uint64 // bytes written to the stream

	idleMu sync.Mutex
	idle   *time.Timer
}

var _ cla.Link = (*link)(nil)

func newLink(c *conn, s stream, r *bufio.Reader) *link {
	return &link{
		conn: c, stream: s, r: r, info: c.info(), since: time.Now(),
		served: make(chan struct{}), sending: make(chan struct{}, 1),
		frames: make(chan []byte), ended: make(chan struct{}), closed: make(chan struct{}),
	}
}

// start begins to read. The link may have been cut already.
func (k *link) start() {
	k.stream.Count()
	k.conn.layer.wg.Go(k.read)
	if d := k.conn.layer.profile.IdleClose; d > 0 {
		k.idleMu.Lock()
		k.idle = time.AfterFunc(d, k.closeIdle)
		k.idleMu.Unlock()
	}
}

func (k *link) Peer() identity.NodeID { return k.conn.Peer() }
func (k *link) Info() cla.Info        { return k.info }

// Done is closed when the connection under the link has ended.
func (k *link) Done() <-chan struct{} { return k.conn.Done() }

// Counters implements cla.Link.
func (k *link) Counters() (tx, rx uint64) { return k.tx.Load(), k.rx.Load() }

// read hands frames to Recv until the stream ends. After Close it reads on
// and drops what comes, to see when the other side has had everything.
func (k *link) read() {
	defer close(k.frames)
	defer k.conn.layer.ended(k)
	defer close(k.ended)
	for {
		frame, err := readBlock(k.r, cla.MaxFrame)
		if err != nil {
			if err != io.EOF {
				k.conn.layer.log.Debug("link broke", "peer", k.Peer().Short(), "err", err)
				k.conn.Close()
			}
			return
		}
		k.rx.Add(uint64(framed(len(frame))))
		k.touch()
		select {
		case k.frames <- frame:
		case <-k.closed:
		}
	}
}

// framed is the size of a frame of n bytes on the stream.
func framed(n int) int {
	var b [binary.MaxVarintLen64]byte
	return n + binary.PutUvarint(b[:], uint64(n))
}

// Recv implements cla.Link.
func (k *link) Recv(ctx context.Context) ([]byte, error) {
	select {
	case <-k.closed:
		return nil, cla.ErrClosed
	default:
	}
	select {
	case frame, ok := <-k.frames:
		if !ok {
			_ = k.Close()
			return nil, cla.ErrClosed
		}
		return frame, nil
	case <-k.closed:
		return nil, cla.ErrClosed
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// frameBufs hold a frame behind its length while it is written.
var frameBufs = sync.Pool{New: func() any { return new([]byte) }}

// Send implements cla.Link.
func (k *link) Send(ctx context.Context, frame []byte) error {
	if len(frame) == 0 || len(frame) > cla.MaxFrame {
		return cla.ErrFrameSize
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	select {
	case k.sending <- struct{}{}:
		defer func() { <-k.sending }()
	case <-k.closed:
		return cla.ErrClosed
	}
	if err := k.flushRest(ctx); err != nil {
		return err
	}
	pooled := frameBufs.Get().(*[]byte)
	defer frameBufs.Put(pooled)
	b := append(binary.AppendUvarint((*pooled)[:0], uint64(len(frame))), frame...)
	*pooled = b
	n, err := k.write(ctx, b)
	if n > 0 { // a frame begun counts as sent: it cannot be taken back
		k.tx.Add(uint64(len(b)))
		k.touch()
	}
	if err != nil {
		if n > 0 {
			k.rest = append([]byte(nil), b[n:]...)
		}
		return err
	}
	k.drain(ctx)
	return nil
}

// flushRest writes what a cancelled Send left of its frame.
func (k *link) flushRest(ctx context.Context) error {
	if len(k.rest) == 0 {
		return nil
	}
	n, err := k.write(ctx, k.rest)
	k.rest = k.rest[n:]
	return err
}

// longAgo is a deadline that has passed.
var longAgo = time.Unix(1, 0)

// write writes b to the stream. It ends early when ctx does, when the link is
// closed, and when the other side has taken nothing for the profile's
// WriteTimeout, which ends the link.
func (k *link) write(ctx context.Context, b []byte) (n int, err error) {
	stop := context.AfterFunc(ctx, func() { _ = k.stream.SetWriteDeadline(longAgo) })
	defer stop()
	for n < len(b) {
		deadline := time.Now().Add(k.conn.layer.profile.WriteTimeout)
		_ = k.stream.SetWriteDeadline(deadline)
		// Only now: whoever ends the write says so first and sets a deadline
		// then, which must not be overtaken by ours.
		if err := k.over(); err != nil {
			return n, err
		}
		if err := ctx.Err(); err != nil {
			return n, err
		}
		m, err := k.stream.Write(b[n:])
		n += m
		k.handed += uint64(m)
		stuck := m == 0 && !time.Now().Before(deadline)
		if err != nil && (stuck || !isTimeout(err)) {
			k.cut()
			return n, cla.ErrClosed
		}
	}
	return n, nil
}

// over reports ErrClosed when the link has ended on either side.
func (k *link) over() error {
	select {
	case <-k.closed:
		return cla.ErrClosed
	case <-k.ended:
		return cla.ErrClosed
	default:
		return nil
	}
}

// drain waits until the frame is about to be on the wire, so that the next
// one can be chosen by what is urgent then. The frame is sent whatever
// happens, so the end of ctx is no error any more.
func (k *link) drain(ctx context.Context) {
	for {
		n, changed := k.stream.Queued(k.handed)
		if n <= uint64(k.conn.layer.profile.Unsent) {
			return
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return
		case <-k.closed:
			return
		case <-k.Done():
			return
		}
	}
}

// touch notes that a frame has passed.
func (k *link) touch() { k.used.Store(int64(time.Since(k.since))) }

// closeIdle closes the link if no frame has passed for the profile's time.
func (k *link) closeIdle() {
	limit := k.conn.layer.profile.IdleClose
	quiet := time.Since(k.since) - time.Duration(k.used.Load())
	if quiet >= limit {
		k.conn.layer.log.Debug("link idle", "peer", k.Peer().Short(), "dur", quiet)
		_ = k.Close()
		return
	}
	k.idleMu.Lock()
	k.idle.Reset(limit - quiet)
	k.idleMu.Unlock()
}

// Close implements cla.Link. The rest happens in the background: it may take
// the other side a while to read what was sent.
func (k *link) Close() error {
	k.once.Do(func() {
		close(k.closed)
		k.conn.layer.ended(k)
		k.stopIdle()
		_, leave, err := k.conn.layer.enter()
		if err != nil {
			k.conn.Close()
			return
		}
		go func() {
			defer leave()
			k.finish()
		}()
	})
	return nil
}

func (k *link) stopIdle() {
	k.idleMu.Lock()
	defer k.idleMu.Unlock()
	if k.idle != nil {
		k.idle.Stop()
	}
}

// finish ends the stream behind the last frame, waits until the other side
// has ended it too and closes the connection. If half a frame is out because
// its Send was cancelled, the other side drops that half.
func (k *link) finish() {
	defer k.conn.Close()
	limit := time.AfterFunc(closeLinger, k.conn.Close)
	defer limit.Stop()
	_ = k.stream.SetWriteDeadline(longAgo) // puts out a Send that is blocked
	k.sending <- struct{}{}
	if k.stream.CloseWrite() != nil {
		return
	}
	select {
	case <-k.ended:
	case <-k.Done():
	}
}

// cut ends the link without waiting for anything.
func (k *link) cut() {
	k.once.Do(func() {
		close(k.closed)
		k.conn.layer.ended(k)
		k.stopIdle()
	})
	k.conn.Close()
}
