package attack

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"outrider/field-tests/scenario"
)

// Honest work goes on all the time: programs on A submit bundles that B
// receives, a user who is logged in uses A's page over TLS, and Prometheus asks
// A for its figures.
const (
	forwarders = 4
	bundleSize = 1024
	tag        = "eaaaaaaaaaaaa"
	freshEvery = 20 // each so many requests of the user come over a new connection

	// Bundles end while the test runs, so that hours of it need no more store
	// than minutes. One that ends before it arrives counts as lost.
	lifetime = 2 // minutes
)

type work struct {
	a, b *scenario.Box

	arrived, asked, scraped atomic.Int64
	worst                   atomic.Int64 // longest request of the page since last asked, in ns

	mu    sync.Mutex
	acked map[string]bool
	seen  map[string]bool
	err   error

	pace   bool // work comes at a steady rate, else as fast as it is done
	ends   [2]context.CancelFunc
	wg     [2]sync.WaitGroup // those who ask, and those who receive
	token  string
	client *http.Client
}

// What comes at a steady rate is about half of what two processors can do.
const (
	forwardPause = 8 * time.Millisecond  // between two bundles of one program
	browsePause  = 4 * time.Millisecond  // between two requests of the user
	scrapePause  = 15 * time.Millisecond // between two scrapes; an account may ask 100 times a second

	// At no steady rate, the user still stays within what a page allows anybody:
	// 1,000 requests a second.
	browseLeast = 1500 * time.Microsecond
)

func newWork(ctx context.Context, a, b *scenario.Box, pace bool) (*work, error) {
	w := &work{a: a, b: b, pace: pace, acked: map[string]bool{}, seen: map[string]bool{}}
	w.client = &http.Client{Timeout: 20 * time.Second, Transport: &http.Transport{
		DialContext: from(visitor), TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, MaxIdleConnsPerHost: 2,
	}}
	if err := w.login(ctx); err != nil {
		return nil, err
	}
	var run, watch context.Context
	run, w.ends[0] = context.WithCancel(context.Background())
	watch, w.ends[1] = context.WithCancel(context.Background())
	w.wg[1].Go(func() { _ = b.API.Arrived(watch, tag, w.saw) })
	for range forwarders {
		w.wg[0].Go(func() { w.forward(run) })
	}
	w.wg[0].Go(func() { w.browse(run) })
	w.wg[0].Go(func() { w.scrape(run) })
	return w, scenario.Poll(ctx, "the first bundle to arrive", func() (bool, error) {
		return w.arrived.Load() > 0 && w.asked.Load() > 0 && w.scraped.Load() > 0, w.failed()
	})
}

// rest ends what asks; what was acknowledged may still arrive.
func (w *work) rest() {
	w.ends[0]()
	w.wg[0].Wait()
	w.client.CloseIdleConnections()
}

func (w *work) stop() {
	w.rest()
	w.ends[1]()
	w.wg[1].Wait()
}

// turn waits until it is time for the next piece of work.
func (w *work) turn(ctx context.Context, last *time.Time, pause, least time.Duration) {
	if !w.pace {
		pause = least
	}
	wait(ctx, time.Until(last.Add(pause)))
	*last = time.Now()
}

func (w *work) fail(err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.err == nil {
		w.err = err
	}
}

func (w *work) failed() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.err
}

func (w *work) saw(hash string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !w.seen[hash] {
		w.seen[hash] = true
		w.arrived.Add(1)
	}
}

// forward submits bundles one after the other.
func (w *work) forward(ctx context.Context) {
	c := scenario.NewClient(w.a.Socket())
	var last time.Time
	for ctx.Err() == nil {
		w.turn(ctx, &last, forwardPause, 0)
		p := make([]byte, bundleSize)
		_, _ = rand.Read(p)
		err := c.Do(ctx, "POST", fmt.Sprintf("/v1/bundles?lifetime_min=%d&tag=%s", lifetime, tag), bytes.NewReader(p), nil)
		if ctx.Err() != nil {
			return
		}
		if err != nil {
			w.fail(fmt.Errorf("a bundle was refused: %w", err))
			wait(ctx, 10*time.Millisecond)
			continue
		}
		h := sha256.Sum256(p)
		w.mu.Lock()
		w.acked[hex.EncodeToString(h[:])] = true
		w.mu.Unlock()
	}
}

// lost is how much was acknowledged and has not arrived.
func (w *work) lost() (n int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for h := range w.acked {
		if !w.seen[h] {
			n++
		}
	}
	return n
}

const page = "https://10.66.0.1:7443"

func (w *work) login(ctx context.Context) error {
	body, _ := json.Marshal(map[string]string{"user": "alice", "password": scenario.UserPassword})
	r, err := http.NewRequestWithContext(ctx, "POST", page+"/v1/session", bytes.NewReader(body))
	if err != nil {
		return err
	}
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set("X-Outrider", "1")
	resp, err := w.client.Do(r)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	var out struct{ Token string }
	if err := json.NewDecoder(resp.Body).Decode(&out); err != nil || out.Token == "" {
		return fmt.Errorf("log in at the page: %s: %v", resp.Status, err)
	}
	w.token = out.Token
	return nil
}

// browse loads the page and asks for the status, one after the other.
func (w *work) browse(ctx context.Context) {
	paths := []string{"/", "/v1/status", "/v1/conversations"}
	var last time.Time
	for i := 0; ctx.Err() == nil; i++ {
		w.turn(ctx, &last, browsePause, browseLeast)
		if i%freshEvery == 0 {
			w.client.CloseIdleConnections()
		}
		begin := time.Now()
		err := w.get(ctx, w.client, paths[i%len(paths)])
		if ctx.Err() != nil {
			return
		}
		if err != nil {
			w.fail(err)
			wait(ctx, 10*time.Millisecond)
			continue
		}
		if took := int64(time.Since(begin)); took > w.worst.Load() {
			w.worst.Store(took)
		}
		w.asked.Add(1)
	}
}

func (w *work) get(ctx context.Context, c *http.Client, path string) error {
	r, err := http.NewRequestWithContext(ctx, "GET", page+path, nil)
	if err != nil {
		return err
	}
	r.Header.Set("Authorization", "Bearer "+w.token)
	if err := fetch(c, r); err != nil {
		return fmt.Errorf("the user's request failed: %w", err)
	}
	return nil
}

// fetch reads an answer and throws it away.
func fetch(c *http.Client, r *http.Request) error {
	resp, err := c.Do(r)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if _, err := io.Copy(io.Discard, resp.Body); err != nil {
		return err
	}
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("%s was answered %s", r.URL.Path, resp.Status)
	}
	return nil
}

// scrape asks for the figures, one after the other, as Prometheus does: over a
// connection that is kept, and a new one now and then.
func (w *work) scrape(ctx context.Context) {
	c := &http.Client{Timeout: 20 * time.Second, Transport: &http.Transport{}}
	defer c.CloseIdleConnections()
	var last time.Time
	for i := 0; ctx.Err() == nil; i++ {
		w.turn(ctx, &last, scrapePause, scrapePause)
		if i%freshEvery == 0 {
			c.CloseIdleConnections()
		}
		r, err := http.NewRequestWithContext(ctx, "GET", "http://127.0.0.1:7490/metrics", nil)
		if err == nil {
			err = fetch(c, r)
		}
		switch {
		case ctx.Err() != nil:
			return
		case err != nil:
			w.fail(fmt.Errorf("a scrape failed: %w", err))
			wait(ctx, 10*time.Millisecond)
		default:
			w.scraped.Add(1)
		}
	}
}

// newcomer loads the page's first file from an address that nobody knows.
func (w *work) newcomer(ctx context.Context) error {
	c := &http.Client{Timeout: 5 * time.Second, Transport: &http.Transport{
		DialContext: from(many()), TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, DisableKeepAlives: true,
	}}
	r, err := http.NewRequest("GET", page+"/", nil)
	if err == nil {
		err = fetch(c, r)
	}
	if err != nil {
		return fmt.Errorf("a newcomer's request failed: %w", err)
	}
	return nil
}
