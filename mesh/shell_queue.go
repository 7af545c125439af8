package mesh

import (
	"context"
	"sync"
	"time"

	"outrider/mesh/bundle"
)

// A queue takes work from the machine's goroutine without blocking it. The
// machine bounds what is under way; see PROTOCOL.md on windows.
type queue[T any] struct {
	mu     sync.Mutex
	wake   sync.Cond
	list   []T
	want   int // while the taker waits for more: how many, else 0
	closed bool
}

func (q *queue[T]) init() { q.wake.L = &q.mu }

func (q *queue[T]) put(v T) {
	q.mu.Lock()
	q.list = append(q.list, v)
	enough := len(q.list) >= q.want
	q.mu.Unlock()
	if enough {
		q.wake.Signal()
	}
}

func (q *queue[T]) len() int {
	q.mu.Lock()
	defer q.mu.Unlock()
	return len(q.list)
}

// take waits for work and returns all of it; nil when the queue is closed and
// empty.
func (q *queue[T]) take() []T { return q.gather(0, 0, 0) }

// gather is take with patience: while there is less than want it waits on,
// until nothing came for quiet or most is over.
func (q *queue[T]) gather(want int, quiet, most time.Duration) []T {
	q.mu.Lock()
	defer q.mu.Unlock()
	for len(q.list) == 0 && !q.closed {
		q.wake.Wait()
	}
	if len(q.list) < want {
		q.await(want, quiet, most)
	}
	list := q.list
	q.list = nil
	return list
}

// await is called with the lock held.
func (q *queue[T]) await(want int, quiet, most time.Duration) {
	begin, n := time.Now(), len(q.list)
	var look *time.Timer
	look = time.AfterFunc(quiet, func() {
		q.mu.Lock()
		defer q.mu.Unlock()
		if len(q.list) > n && time.Since(begin) < most {
			n = len(q.list)
			look.Reset(quiet)
			return
		}
		q.want = 0
		q.wake.Signal()
	})
	defer look.Stop()
	for q.want = want; len(q.list) < q.want && !q.closed; {
		q.wake.Wait()
	}
	q.want = 0
}

func (q *queue[T]) close() {
	q.mu.Lock()
	q.closed = true
	q.mu.Unlock()
	q.wake.Broadcast()
}

// payloads keeps the bytes that tokens name, within a bound: whoever adds
// waits until there is room.
type payloads struct {
	mu     sync.Mutex
	limit  int
	bytes  int
	next   Token
	byID   map[Token][]byte
	room   chan struct{} // closed and replaced when bytes go
	closed bool
}

func (p *payloads) init(limit int) {
	p.limit, p.byID, p.room = limit, map[Token][]byte{}, make(chan struct{})
}

// add keeps data, which the table owns from then on. No bytes need no token.
func (p *payloads) add(ctx context.Context, data []byte) (Token, error) {
	for {
		p.mu.Lock()
		if p.closed {
			p.mu.Unlock()
			return 0, ErrClosed
		}
		if p.bytes == 0 || p.bytes+len(data) <= p.limit {
			p.next++
			p.byID[p.next] = data
			p.bytes += len(data)
			t := p.next
			p.mu.Unlock()
			return t, nil
		}
		room := p.room
		p.mu.Unlock()
		select {
		case <-room:
		case <-ctx.Done():
			return 0, ctx.Err()
		}
	}
}

func (p *payloads) get(t Token) []byte {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.byID[t]
}

func (p *payloads) join(into, from Token) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.byID[into] = append(p.byID[into], p.byID[from]...)
	delete(p.byID, from)
}

func (p *payloads) free(t Token) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.bytes -= len(p.byID[t])
	delete(p.byID, t)
	close(p.room)
	p.room = make(chan struct{})
}

func (p *payloads) close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.closed = true
	close(p.room)
	p.room = make(chan struct{})
}

// cache keeps what was stored last, so that passing it on costs no read.
type cache struct {
	mu    sync.Mutex
	limit int
	bytes int
	byID  map[bundle.ID]cached
	order []bundle.ID
}

type cached struct {
	record  Record
	payload []byte
}

func (c *cache) init(limit int) { c.limit, c.byID = limit, map[bundle.ID]cached{} }

func (c *cache) put(r Record, payload []byte) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if _, ok := c.byID[r.ID]; ok {
		return
	}
	c.byID[r.ID] = cached{r, payload}
	c.order = append(c.order, r.ID)
	c.bytes += len(payload)
	for c.bytes > c.limit || len(c.order) > 2*batchCommits*16 {
		c.bytes -= len(c.byID[c.order[0]].payload)
		delete(c.byID, c.order[0])
		c.order = c.order[1:]
	}
}

// drop forgets a bundle that was deleted; its place in order runs out by
// itself.
func (c *cache) drop(id bundle.ID) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if v, ok := c.byID[id]; ok {
		c.bytes -= len(v.payload)
		delete(c.byID, id)
	}
}

func (c *cache) get(id bundle.ID) (cached, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	v, ok := c.byID[id]
	return v, ok
}

func (c *cache) update(op SetMeta) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if v, ok := c.byID[op.ID]; ok {
		v.record.Meta = op.Meta
		c.byID[op.ID] = v
	}
}
