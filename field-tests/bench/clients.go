package bench

import (
	"bufio"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"sync"
	"time"

	"outrider/field-tests/scenario"
)

// Clients is how many programs submit at once (decisions 27).
const Clients = 16

// tag is what the bundles are addressed to; any will do.
const tag = "eaaaaaaaaaaaa"

// A Load is payloads to submit, with what became of each.
type Load struct {
	payloads [][]byte

	mu    sync.Mutex
	acked map[[32]byte]bool
	seen  map[[32]byte]bool
	last  time.Time     // when the last new one was seen
	done  chan struct{} // closed when n were seen
	n     int
}

// NewLoad makes n random payloads of size bytes; a seed gives the same again.
func NewLoad(n, size int, seed uint64) *Load {
	l := &Load{acked: make(map[[32]byte]bool, n), seen: make(map[[32]byte]bool, n), done: make(chan struct{}), n: n}
	r := rand.NewChaCha8([32]byte{byte(seed), byte(seed >> 8), byte(seed >> 16), byte(seed >> 24)})
	for range n {
		p := make([]byte, size)
		r.Read(p)
		l.payloads = append(l.payloads, p)
	}
	return l
}

func (l *Load) ack(payload []byte) {
	h := sha256.Sum256(payload)
	l.mu.Lock()
	defer l.mu.Unlock()
	l.acked[h] = true
}

// saw notes the hash of a bundle that arrived.
func (l *Load) saw(text string) {
	raw, err := hex.DecodeString(text)
	if err != nil || len(raw) != 32 {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if h := [32]byte(raw); !l.seen[h] {
		l.seen[h], l.last = true, time.Now()
		if len(l.seen) == l.n {
			close(l.done)
		}
	}
}

// Lost counts what was acknowledged and not seen.
func (l *Load) Lost() (n int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for h := range l.acked {
		if !l.seen[h] {
			n++
		}
	}
	return n
}

// Last is when the last bundle was seen for the first time.
func (l *Load) Last() time.Time {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.last
}

// Await waits until as many different bundles were seen as the load has, and
// nothing was lost.
func (l *Load) Await(ctx context.Context) error {
	select {
	case <-l.done:
	case <-ctx.Done():
	}
	if n := l.Lost(); n > 0 || ctx.Err() != nil {
		return fmt.Errorf("bench: %d of %d acknowledged bundles did not arrive: %w", n, len(l.acked), errors.Join(ctx.Err(), errLost))
	}
	return nil
}

var errLost = errors.New("bundles lost")

// Submit sends every payload alone, in a call of its own, by Clients programs
// at once, and returns when all are acknowledged as durable.
func (l *Load) Submit(ctx context.Context, b *scenario.Box) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	next := make(chan []byte)
	var clients sync.WaitGroup
	for range Clients {
		clients.Go(func() {
			if err := l.client(ctx, b.Socket(), next); err != nil {
				cancel(err)
			}
		})
	}
feed:
	for _, p := range l.payloads {
		select {
		case next <- p:
		case <-ctx.Done():
			break feed
		}
	}
	close(next)
	clients.Wait()
	return context.Cause(ctx)
}

// client submits over one connection of its own, in plain HTTP/1.1: on two
// processors a heavier client would take from the nodes what is measured.
func (l *Load) client(ctx context.Context, socket string, next <-chan []byte) error {
	var d net.Dialer
	c, err := d.DialContext(ctx, "unix", socket)
	if err != nil {
		return fmt.Errorf("bench: submit: %w", err)
	}
	defer c.Close()
	stop := context.AfterFunc(ctx, func() { c.Close() })
	defer stop()
	in := bufio.NewReader(c)
	var req []byte
	for payload := range next {
		req = fmt.Appendf(req[:0], "POST /v1/bundles?lifetime_min=600&tag=%s HTTP/1.1\r\nHost: outrider\r\nContent-Type: application/octet-stream\r\nContent-Length: %d\r\n\r\n", tag, len(payload))
		req = append(req, payload...)
		if _, err := c.Write(req); err != nil {
			return fmt.Errorf("bench: submit: %w", err)
		}
		resp, err := http.ReadResponse(in, nil)
		if err != nil {
			return fmt.Errorf("bench: submit: %w", err)
		}
		body, err := io.ReadAll(resp.Body)
		if err != nil {
			return fmt.Errorf("bench: submit: %w", err)
		}
		if resp.StatusCode != http.StatusCreated {
			return fmt.Errorf("bench: submit: status %d: %s", resp.StatusCode, body)
		}
		l.ack(payload)
	}
	return nil
}

// Watch notes what arrives at b until ctx ends. It returns when the node has
// the watch; the stream's end is sent on the channel.
func (l *Load) Watch(ctx context.Context, b *scenario.Box) <-chan error {
	end := make(chan error, 1)
	go func() { end <- b.API.Arrived(ctx, tag, l.saw) }()
	return end
}
