package api

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// conn is a connection from somewhere, that notes when it is closed.
type fakeConn struct {
	net.Conn
	from   net.Addr
	closed bool
}

func (c *fakeConn) RemoteAddr() net.Addr { return c.from }
func (c *fakeConn) Close() error         { c.closed = true; return nil }

func quiet() *slog.Logger { return slog.New(slog.DiscardHandler) }

// come knocks from an address and returns the connection, and whether it has
// a place.
func come(l *boundedListener, ip string) (*boundedConn, *fakeConn, bool) {
	f := &fakeConn{from: net.TCPAddrFromAddrPort(netip.AddrPortFrom(netip.MustParseAddr(ip), 1))}
	b := l.newConn(f)
	return b, f, l.enter(b)
}

func age(b *boundedConn, d time.Duration) { b.since = b.since.Add(-d) }

func TestStrangersLeaveRoom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newBoundedListener(nil, 4, 3, 2, NewGuests("test", quiet()))
		l.guests.conns.Vouch(netip.MustParseAddr("10.0.0.9"))
		first, firstConn, ok := come(l, "10.0.0.1")
		if !ok {
			t.Fatal("no place for the first")
		}
		come(l, "10.0.0.1")
		if _, _, ok := come(l, "10.0.0.1"); ok {
			t.Error("one past the limit of an address")
		}
		if _, _, ok := come(l, "10.0.0.2"); !ok {
			t.Error("no place for a third stranger")
		}
		if _, _, ok := come(l, "10.0.0.3"); ok {
			t.Error("strangers take the places of those we know")
		}
		if _, _, ok := come(l, "10.0.0.9"); !ok {
			t.Error("no place for one we know")
		}
		age(first, silentGrace)
		if _, _, ok := come(l, "10.0.0.4"); !ok || !firstConn.closed {
			t.Error("who is silent does not make room")
		}
		if n := len(l.open); n != 4 {
			t.Errorf("%d open", n)
		}
		if r := l.guests.conns.Report(); r.Refused != 2 {
			t.Errorf("%d refused", r.Refused)
		}
	})
}

func TestSlowStrangersMakeRoom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newBoundedListener(nil, 2, 2, 2, NewGuests("test", quiet()))
		l.guests.conns.Vouch(netip.MustParseAddr("10.0.0.9"))
		known, knownConn, _ := come(l, "10.0.0.9")
		slow, slowConn, _ := come(l, "10.0.0.1")
		for _, b := range []*boundedConn{known, slow} {
			noteState(b, http.StateActive)
			age(b, busyGrace-time.Second)
		}
		if _, _, ok := come(l, "10.0.0.2"); ok {
			t.Error("a request was cut off within its grace")
		}
		age(known, time.Hour)
		age(slow, time.Second)
		if _, _, ok := come(l, "10.0.0.2"); !ok || !slowConn.closed || knownConn.closed {
			t.Error("a stranger's slow request does not make room, or one we know had to")
		}
	})
}

func TestSocketHasRoomAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newBoundedListener(nil, 3, 3, 2, NewGuests("test", quiet()))
		unix := &net.UnixAddr{Net: "unix"}
		var open []*boundedConn
		for range 2 {
			b := l.newConn(&fakeConn{from: unix})
			if !l.admits(b) || !l.enter(b) {
				t.Fatal("no place")
			}
			open = append(open, b)
		}
		if l.enter(l.newConn(&fakeConn{from: unix})) {
			t.Error("one past the limit")
		}
		age(open[0], silentGrace)
		if !l.enter(l.newConn(&fakeConn{from: unix})) {
			t.Error("a silent program holds up the operator")
		}
		if r := l.guests.conns.Report(); r.Refused != 1 || len(r.Offenders) != 1 || r.Offenders[0].Who != "uid 65534" {
			t.Errorf("who was refused is not told: %+v", r)
		}
	})
}

// Who asks too much is told so and put out, and costs nothing to others.
func TestRequestsAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		served := 0
		h := bounded(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { served++ }), Timeouts{}.withDefaults())
		l := newBoundedListener(nil, 4, 4, 4, NewGuests("test", quiet()))
		ask := func(b *boundedConn) *recorderOf {
			w := &recorderOf{header: http.Header{}}
			r, err := http.NewRequestWithContext(withConn(context.Background(), b), "GET", "/", nil)
			if err != nil {
				t.Fatal(err)
			}
			h.ServeHTTP(w, r)
			return w
		}
		b, _, _ := come(l, "10.0.0.1")
		var last *recorderOf
		for range 2 * requestLimits.Stranger.Burst {
			last = ask(b)
		}
		if served != requestLimits.Stranger.Burst || last.code != http.StatusTooManyRequests ||
			last.header.Get("Connection") != "close" || last.header.Get("Retry-After") == "" {
			t.Errorf("%d served, then %d %v", served, last.code, last.header)
		}
		other, _, _ := come(l, "10.0.0.2")
		if w := ask(other); w.code == http.StatusTooManyRequests {
			t.Error("another address pays for it")
		}
		b.vouch()
		if w := ask(b); w.code == http.StatusTooManyRequests || strange(requestOn(t, b)) || !strange(requestOn(t, other)) {
			t.Error("a session makes no difference")
		}
	})
}

func requestOn(t *testing.T, b *boundedConn) *http.Request {
	t.Helper()
	r, err := http.NewRequestWithContext(withConn(context.Background(), b), "GET", "/", nil)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

type recorderOf struct {
	header http.Header
	code   int
}

func (w *recorderOf) Header() http.Header         { return w.header }
func (w *recorderOf) Write(b []byte) (int, error) { return len(b), nil }
func (w *recorderOf) WriteHeader(code int)        { w.code = code }

// All strangers together get a share of a processor for their passwords.
func TestStrangersShareDerivations(t *testing.T) {
	now := time.Unix(1e9, 0)
	l := newLimiter(func() time.Time { return now })
	for i := range maxStrangeTries {
		if wait := l.beginStrange(); wait > 0 {
			t.Fatalf("attempt %d waits %v", i, wait)
		}
	}
	if l.beginStrange() <= 0 {
		t.Error("one too many at once")
	}
	for range maxStrangeTries {
		l.endStrange(time.Second)
	}
	tries := maxStrangeTries
	for l.beginStrange() <= 0 {
		l.endStrange(time.Second)
		tries++
	}
	if most := int(strangerAdvance/time.Second)/strangerShare + 1; tries != most+1 && tries != most {
		t.Errorf("%d attempts of a second each, at once", tries)
	}
	before := tries
	for range 100 {
		now = now.Add(time.Second)
		if l.beginStrange() <= 0 {
			l.endStrange(time.Second)
			tries++
		}
	}
	if n := tries - before; n < 100/strangerShare-1 || n > 100/strangerShare+1 {
		t.Errorf("%d seconds of 100 were given to strangers", n)
	}
}

// A body that never comes holds a request up for its deadline, not for ever,
// also where nobody reads it.
func TestUnreadBodiesHaveADeadline(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	ln := listen(t)
	served := make(chan error, 1)
	go func() {
		served <- Listeners{Pages: []Page{{Listener: ln}}, Timeouts: Timeouts{Body: 50 * time.Millisecond, Header: time.Minute, Idle: time.Minute}}.
			Serve(ctx, http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	}()
	c, err := net.Dial("tcp", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(time.Minute))
	if _, err := io.WriteString(c, "POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\n\r\nhalf"); err != nil {
		t.Fatal(err)
	}
	got, err := io.ReadAll(c)
	if err != nil && !strings.Contains(err.Error(), "reset") {
		t.Fatalf("held up: %q, %v", got, err)
	}
	cancel()
	if err := <-served; err != nil {
		t.Error(err)
	}
}

// Who connects from this machine is told by account, over either kind of
// socket; a connection that its program has closed is nobody's.
func TestAccountOf(t *testing.T) {
	want := uint32(os.Getuid())
	for _, at := range []struct{ network, addr string }{
		{"tcp", "127.0.0.1:0"}, {"tcp", "[::1]:0"}, {"unix", filepath.Join(t.TempDir(), "s")},
	} {
		ln, err := net.Listen(at.network, at.addr)
		if err != nil {
			t.Fatal(err)
		}
		defer ln.Close()
		mine, err := net.Dial(at.network, ln.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer mine.Close()
		c, err := ln.Accept()
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		if got := accountOf(c); got != want {
			t.Errorf("%s: account %d, want %d", ln.Addr(), got, want)
		}
		if at.network == "unix" {
			continue
		}
		mine.Close()
		if _, err := c.Read(make([]byte, 1)); err != io.EOF { // it is closed here as well
			t.Fatal(err)
		}
		if got := accountOf(c); got != nobody {
			t.Errorf("%s: what is closed belongs to account %d", ln.Addr(), got)
		}
	}
	if got := accountOf(&fakeConn{from: &net.TCPAddr{}}); got != nobody {
		t.Errorf("no socket at all: account %d", got)
	}
}

// Answers of the kernel are not trusted for their length.
func FuzzDiagAnswer(f *testing.F) {
	f.Add(make([]byte, 16+diagAnswerBytes))
	f.Add([]byte{16, 0, 0, 0, 2, 0})
	f.Fuzz(func(t *testing.T, b []byte) { _, _ = diagAnswer(b) })
}

// Accounts of this machine have places, requests and submissions each of
// their own.
func TestAccountsAreApart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newBoundedListener(nil, 8, 8, 2, NewGuests("test", quiet()))
		at := func(uid uint32) *boundedConn {
			b := &boundedConn{Conn: &fakeConn{}, l: l, home: true, known: true, account: uid, source: fmt.Sprint("uid ", uid), since: time.Now()}
			b.leave = func() { l.remove(b) }
			return b
		}
		for i, uid := range []uint32{1, 1, 2, 1} {
			if got, want := l.enter(at(uid)), i != 3; got != want {
				t.Errorf("connection %d of account %d: %v", i, uid, got)
			}
		}
		b := at(1)
		get, post := requestOn(t, b), requestOn(t, b)
		post.Method, post.URL.Path = http.MethodPost, "/v1/bundles"
		for b.mayAsk(get) {
		}
		if !at(2).mayAsk(get) || !b.mayAsk(post) {
			t.Error("another account pays, or a bundle that is submitted is counted as a question")
		}
		var inside []func()
		for range maxSubmissions {
			leave, err := submit(post)
			if err != nil {
				t.Fatal(err)
			}
			inside = append(inside, leave)
		}
		over, cancel := context.WithCancel(post.Context())
		cancel()
		if _, err := submit(post.WithContext(over)); err == nil {
			t.Error("one past the submissions of an account")
		}
		if leave, err := submit(requestOn(t, at(2))); err != nil {
			t.Error("another account waits")
		} else {
			leave()
		}
		for _, leave := range inside {
			leave()
		}
		if n := len(l.guests.submitting.at); n != 0 {
			t.Errorf("%d accounts are remembered", n)
		}
	})
}
