package api

import (
	"context"
	"crypto/tls"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"sync"
	"time"

	"outrider/mesh/crowd"
)

// What strangers may do to a page: whoever has not shown a session from their
// address within the hour, and is not on this machine. On this machine each
// account is on its own.
const (
	maxAccountConns = MaxConns * 3 / 4 // connections of one account to the socket
	maxSubmissions  = 16               // bundles that one account submits at once
	silentGrace     = time.Second      // without a request for so long, a connection makes room
	busyGrace       = 5 * time.Second  // with a stranger's request for so long, it does as well
)

// connLimits bound new connections. A TLS handshake costs a node about a
// millisecond, so a crowd costs 5 % of a processor at most. One without TLS
// costs some 50 µs.
var connLimits = crowd.Limits{
	Stranger: crowd.Rate{Burst: 64, Every: 100 * time.Millisecond},
	All:      crowd.Rate{Burst: 128, Every: 20 * time.Millisecond},
	Known:    crowd.Rate{Burst: 256, Every: 20 * time.Millisecond},
	Account:  crowd.Rate{Burst: 512, Every: 2 * time.Millisecond},
}

// requestLimits bound requests, which cost some 0.1 ms, the dearest of the
// operator's 0.7 ms. Bundles that programs submit are bounded by maxSubmissions
// and the disk instead.
var requestLimits = crowd.Limits{
	Stranger: crowd.Rate{Burst: 100, Every: 20 * time.Millisecond},
	All:      crowd.Rate{Burst: 200, Every: 10 * time.Millisecond},
	Known:    crowd.Rate{Burst: 1000, Every: time.Millisecond},
	Account:  crowd.Rate{Burst: 1000, Every: 2 * time.Millisecond},
}

// Scrapes cost some 0.3 ms each, and come some a minute.
var (
	scraperConns    = crowd.Limits{Stranger: scrapes, All: scrapes, Known: scrapes, Account: scrapes}
	scraperRequests = scraperConns
	scrapes         = crowd.Rate{Burst: 100, Every: 10 * time.Millisecond}
)

// Guests are who comes to the listeners of one kind.
type Guests struct {
	conns, requests *crowd.Crowd
	submitting      queues
}

// NewGuests returns the guests of the listener called name in log and reports.
func NewGuests(name string, log *slog.Logger) *Guests {
	return &Guests{conns: crowd.New(name, connLimits, log), requests: crowd.New(name+"/requests", requestLimits, log)}
}

// NewScrapers returns the guests of a listener on loopback where accounts of
// this machine ask for figures now and then.
func NewScrapers(name string, log *slog.Logger) *Guests {
	return &Guests{conns: crowd.New(name, scraperConns, log), requests: crowd.New(name+"/requests", scraperRequests, log)}
}

// Refused reports who was turned away: connections, then requests.
func (g *Guests) Refused() []crowd.Report {
	return []crowd.Report{g.conns.Report(), g.requests.Report()}
}

// A boundedListener closes connections beyond a number in all, of strangers
// and per source, so that nobody nearby can take all of them. One that does
// nothing makes room for the next.
type boundedListener struct {
	net.Listener
	most, strange, perSource int
	guests                   *Guests

	mu   sync.Mutex
	open map[*boundedConn]struct{}
}

func newBoundedListener(ln net.Listener, most, strange, perSource int, g *Guests) *boundedListener {
	return &boundedListener{
		Listener: ln, most: most, strange: strange, perSource: perSource, guests: g,
		open: make(map[*boundedConn]struct{}),
	}
}

// Accept waits for a connection that has a place.
func (l *boundedListener) Accept() (net.Conn, error) {
	for {
		c, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		b := l.newConn(c)
		if l.admits(b) && l.enter(b) {
			return b, nil
		}
		drop(c)
		// Turning away as fast as they come would take the processor from
		// those who are served; the kernel holds the others meanwhile.
		time.Sleep(l.guests.conns.Rest()) // a tenth of a second at most
	}
}

func (l *boundedListener) newConn(c net.Conn) *boundedConn {
	at := crowd.Of(c.RemoteAddr().String())
	b := &boundedConn{Conn: c, l: l, at: at, source: sourceOf(c.RemoteAddr().String()), since: time.Now()}
	if b.home = at.Unmap().IsLoopback() || c.RemoteAddr().Network() == "unix"; b.home {
		b.account = accountOf(c)
		b.source = fmt.Sprint("uid ", b.account)
	}
	b.known = b.home || l.guests.conns.Known(at)
	b.leave = sync.OnceFunc(func() { l.remove(b) })
	return b
}

// admits counts a knock.
func (l *boundedListener) admits(b *boundedConn) bool {
	if b.home {
		return l.guests.conns.AdmitAccount(b.account)
	}
	return l.guests.conns.Admit(b.at)
}

// drop closes a connection without a goodbye, so that nothing of it is kept.
func drop(c net.Conn) {
	if t, ok := c.(*net.TCPConn); ok {
		_ = t.SetLinger(0)
	}
	_ = c.Close()
}

// enter gives a connection a place, if need be that of another.
func (l *boundedListener) enter(b *boundedConn) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	out, ok := l.inTheWay(b)
	if !ok {
		if b.home {
			l.guests.conns.RefuseAccount(b.account)
		} else {
			l.guests.conns.Refuse(b.at)
		}
		return false
	}
	if out != nil {
		delete(l.open, out)
		drop(out.Conn)
	}
	l.open[b] = struct{}{}
	return true
}

// inTheWay returns the connection that has to go for b, nil if there is room;
// ok is false if b has to. l.mu is held.
func (l *boundedListener) inTheWay(b *boundedConn) (out *boundedConn, ok bool) {
	same, strange := 0, 0
	for o := range l.open {
		if o.source == b.source {
			same++
		}
		if !o.known {
			strange++
		}
	}
	var fits func(o *boundedConn) bool
	switch {
	case same >= l.perSource:
		fits = func(o *boundedConn) bool { return o.source == b.source }
	case !b.known && strange >= l.strange:
		fits = func(o *boundedConn) bool { return !o.known }
	case len(l.open) >= l.most:
		fits = func(*boundedConn) bool { return true }
	default:
		return nil, true
	}
	now := time.Now()
	for o := range l.open {
		if fits(o) && o.idle(now) && (out == nil || o.since.Before(out.since)) {
			out = o
		}
	}
	return out, out != nil
}

func (l *boundedListener) remove(b *boundedConn) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.open, b)
}

// A boundedConn is a connection with a place.
type boundedConn struct {
	net.Conn
	l       *boundedListener
	at      netip.Addr
	home    bool   // it comes from this machine
	account uint32 // of this machine, if home
	source  string
	leave   func()

	// Guarded by l.mu.
	known bool
	state http.ConnState
	since time.Time // in this state
}

// Close implements net.Conn.
func (c *boundedConn) Close() error {
	c.leave()
	return c.Conn.Close()
}

// idle reports whether the connection may be ended for another: it has said
// nothing yet, or nothing more, or is a stranger's that takes long.
func (c *boundedConn) idle(now time.Time) bool {
	quiet := now.Sub(c.since)
	if c.state == http.StateActive {
		return !c.known && quiet >= busyGrace
	}
	return quiet >= silentGrace
}

// vouch makes the connection's address known: a session was shown there.
func (c *boundedConn) vouch() {
	if c.home {
		return
	}
	c.l.guests.conns.Vouch(c.at)
	c.l.guests.requests.Vouch(c.at)
	c.l.mu.Lock()
	defer c.l.mu.Unlock()
	c.known = true
}

// mayAsk counts a request.
func (c *boundedConn) mayAsk(r *http.Request) bool {
	switch {
	case !c.home:
		return c.l.guests.requests.Admit(c.at)
	case submits(r):
		return true
	}
	return c.l.guests.requests.AdmitAccount(c.account)
}

// submit waits until the account behind a request may submit one more bundle.
func submit(r *http.Request) (leave func(), err error) {
	c := connOf(r)
	if c == nil || !c.home {
		return func() {}, nil
	}
	return c.l.guests.submitting.enter(r.Context(), c.account, maxSubmissions)
}

// submits reports whether a request submits a bundle.
func submits(r *http.Request) bool { return r.Method == http.MethodPost && r.URL.Path == "/v1/bundles" }

// beneath returns the bounded connection under what the HTTP server has.
func beneath(c net.Conn) *boundedConn {
	if t, ok := c.(*tls.Conn); ok {
		c = t.NetConn()
	}
	b, _ := c.(*boundedConn)
	return b
}

// noteState is the HTTP server's ConnState.
func noteState(c net.Conn, s http.ConnState) {
	if b := beneath(c); b != nil {
		b.l.mu.Lock()
		defer b.l.mu.Unlock()
		b.state, b.since = s, time.Now()
	}
}

type connKey struct{}

func withConn(ctx context.Context, c net.Conn) context.Context {
	return context.WithValue(ctx, connKey{}, beneath(c))
}

func connOf(r *http.Request) *boundedConn {
	b, _ := r.Context().Value(connKey{}).(*boundedConn)
	return b
}

// vouch notes that a request carried a session of ours.
func vouch(r *http.Request) {
	if c := connOf(r); c != nil {
		c.vouch()
	}
}

// strange reports whether nobody has vouched for where a request comes from.
func strange(r *http.Request) bool {
	c := connOf(r)
	return c != nil && !c.home && !c.l.guests.conns.Known(c.at)
}

// bounded gives every request its deadlines, also those that no route takes
// and whose body nobody reads, and turns away who asks too much.
func bounded(h http.Handler, t Timeouts) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		rc := http.NewResponseController(w)
		_ = rc.SetReadDeadline(time.Now().Add(t.Body))
		_ = rc.SetWriteDeadline(time.Now().Add(t.Body + t.Progress))
		if c := connOf(r); c != nil && !c.mayAsk(r) {
			w.Header().Set("Connection", "close")
			f := fail(http.StatusTooManyRequests, "too_many_requests", "too many requests from this address or account, or from all that are not logged in", "wait as long as Retry-After says")
			f.RetryAfter = time.Second
			writeError(w, f)
			return
		}
		h.ServeHTTP(w, r)
	})
}
