package api

import (
	"bufio"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"outrider/mesh/identity"
	"outrider/node/chat"
)

var tlsState = tls.ConnectionState{HandshakeComplete: true}

// A live server on a socket and a page, with a client for each.
type live struct {
	*bench
	addr   string // of the page
	client *http.Client
	unix   *http.Client
}

func newLive(t *testing.T, change ...func(*Config)) *live {
	dir := t.TempDir()
	path := filepath.Join(dir, "o.sock")
	sock, err := ListenSocket(path)
	if err != nil {
		t.Fatal(err)
	}
	ln := listen(t)
	b := newBench(t, append([]func(*Config){func(c *Config) { c.Socket, c.Pages = sock, []Page{{Listener: ln}} }}, change...)...)
	stop := serveOn(t, b.srv)
	l := &live{bench: b, addr: ln.Addr().String(), client: &http.Client{Transport: &http.Transport{}}}
	l.unix = &http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", path)
	}}}
	t.Cleanup(func() {
		stop()
		l.client.CloseIdleConnections()
		l.unix.CloseIdleConnections()
	})
	return l
}

func (l *live) get(t *testing.T, c *http.Client, url, token, last string) *http.Response {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), "GET", url, nil)
	if err != nil {
		t.Fatal(err)
	}
	if token != "" {
		r.Header.Set("Authorization", "Bearer "+token)
	}
	if last != "" {
		r.Header.Set("Last-Event-ID", last)
	}
	resp, err := c.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { resp.Body.Close() })
	return resp
}

// A reader of server-sent events.
type sseReader struct {
	t *testing.T
	s *bufio.Scanner
}

type sseEvent struct{ id, kind, data string }

func (l *live) events(t *testing.T, token, last string) *sseReader {
	t.Helper()
	resp := l.get(t, l.client, "http://"+l.addr+"/v1/events", token, last)
	if resp.StatusCode != 200 || !strings.HasPrefix(resp.Header.Get("Content-Type"), "text/event-stream") {
		t.Fatalf("events: %s", resp.Status)
	}
	return &sseReader{t, bufio.NewScanner(resp.Body)}
}

// next returns the next event, ok is false at the end of the stream.
func (r *sseReader) next() (e sseEvent, ok bool) {
	for r.s.Scan() {
		line := r.s.Text()
		switch k, v, _ := strings.Cut(line, ": "); {
		case line == "" && e.kind != "":
			return e, true
		case k == "id":
			e.id = v
		case k == "event":
			e.kind = v
		case k == "data":
			e.data = v
		}
	}
	return e, false
}

func (r *sseReader) want(kind, inData string) sseEvent {
	r.t.Helper()
	e, ok := r.next()
	if !ok || e.kind != kind || !strings.Contains(e.data, inData) {
		r.t.Fatalf("event %+v (%v), want %s with %q", e, ok, kind, inData)
	}
	return e
}

func update(kind chat.UpdateKind, text string) chat.Update {
	return chat.Update{Kind: kind, Message: &chat.Message{Type: chat.TypeText, Text: text, State: chat.StateQueued, Sent: aTime, Expires: aTime}}
}

func TestEventStream(t *testing.T) {
	l := newLive(t)
	token := l.login("Alice")
	r := l.events(t, token, "")
	hello := r.want("hello", "version")
	l.hub.Update(alice, update(chat.UpdateMessage, "one"))
	l.hub.Update(bob, update(chat.UpdateMessage, "for Bob"))
	l.hub.Update(alice, update(chat.UpdateState, "two\nlines"))
	l.hub.Update(alice, chat.Update{Kind: chat.UpdateContact})
	l.hub.Update(identity.UserID{}, chat.Update{Kind: chat.UpdateBanner, Banner: &chat.Banner{State: chat.BannerAlone}})
	l.hub.Link(Link{Peer: nodeB, Up: true})
	first := r.want("message", "one")
	r.want("state", `two\nlines`)
	r.want("contact", "{}")
	r.want("banner", "alone")
	last := r.want("link", nodeB.String())

	again := l.events(t, token, first.id)
	if e := again.want("state", "two"); e.id <= first.id {
		t.Errorf("ids do not grow: %s after %s", e.id, first.id)
	}
	l.events(t, token, hello.id).want("message", "one")
	l.hub.Update(alice, update(chat.UpdateFile, "three"))
	l.events(t, token, last.id).want("file", "three")
}

func TestEventsTooOld(t *testing.T) {
	l := newLive(t)
	token := l.login("Alice")
	hello := l.events(t, token, "").want("hello", "")
	for i := range ringEvents {
		l.hub.Update(alice, update(chat.UpdateMessage, fmt.Sprint("m", i)))
	}
	l.events(t, token, hello.id).want("message", "m0") // all of them are just there
	l.hub.Update(alice, update(chat.UpdateMessage, "one past"))
	reset := l.events(t, token, hello.id).want("reset", "")
	resumed := l.events(t, token, reset.id)
	l.hub.Update(alice, update(chat.UpdateMessage, "after the reset"))
	resumed.want("message", "after the reset")
	for _, bad := range []string{"0-1", "x", "-", "deadbeef-5", l.hub.epoch + "-99999", l.hub.epoch + "--1", l.hub.epoch + "-18446744073709551615", l.hub.epoch} {
		l.events(t, token, bad).want("reset", "")
	}
}

func TestRingIsBoundedInBytes(t *testing.T) {
	r := newRing()
	for range 100 {
		r.add("x", make([]byte, ringBytes/10))
	}
	if r.bytes > ringBytes || len(r.events) != 10 {
		t.Errorf("%d events of %d bytes", len(r.events), r.bytes)
	}
	r.add("x", make([]byte, 2*ringBytes))
	if len(r.events) != 1 {
		t.Errorf("%d events beside one that is too large", len(r.events))
	}
}

func TestEventsNeedASession(t *testing.T) {
	l := newLive(t)
	if resp := l.get(t, l.client, "http://"+l.addr+"/v1/events", "", ""); resp.StatusCode != 401 {
		t.Errorf("events without a session: %s", resp.Status)
	}
	resp := l.get(t, l.unix, "http://outrider/v1/events", "", "") // the operator sees the node's own
	r := &sseReader{t, bufio.NewScanner(resp.Body)}
	r.want("hello", "")
	l.login("Alice")
	l.hub.Update(alice, update(chat.UpdateMessage, "private"))
	l.hub.Link(Link{Peer: nodeB})
	r.want("link", "")
}

func TestStreamEndsWithTheSession(t *testing.T) {
	l := newLive(t)
	token := l.login("Alice")
	r := l.events(t, token, "")
	r.want("hello", "")
	l.socket("DELETE", "/v1/session", "").bearer(token).want(204, "")
	if e, ok := r.next(); ok {
		t.Errorf("the stream went on with %+v", e)
	}
	token = l.login("Alice")
	l.events(t, token, l.hub.epoch+"-1").want("reset", "") // what was kept is gone with the keys
}

func TestStreamLimit(t *testing.T) {
	l := newLive(t)
	token := l.login("Alice")
	for range MaxUserStreams {
		l.events(t, token, "").want("hello", "")
	}
	resp := l.get(t, l.client, "http://"+l.addr+"/v1/events", token, "")
	if b, _ := io.ReadAll(resp.Body); resp.StatusCode != 429 || !strings.Contains(string(b), "too_many_streams") {
		t.Errorf("one past the limit: %s %s", resp.Status, b)
	}
	l.events(t, l.login("Bob"), "").want("hello", "") // others are not concerned
}

func TestHeartbeat(t *testing.T) {
	l := newLive(t, func(c *Config) { c.Timeouts.Beat = 10 * time.Millisecond })
	resp := l.get(t, l.client, "http://"+l.addr+"/v1/events", l.login("Alice"), "")
	s := bufio.NewScanner(resp.Body)
	for s.Scan() {
		if s.Text() == ": beat" {
			return
		}
	}
	t.Error("no heartbeat")
}

func TestArrivedStream(t *testing.T) {
	l := newLive(t)
	resp := l.get(t, l.unix, "http://outrider/v1/bundles/arrived?tag="+someT.String(), "", "")
	r := &sseReader{t, bufio.NewScanner(resp.Body)}
	e := r.want("bundle", `"sha256":"07`)
	if !strings.HasPrefix(e.id, "06") || !strings.Contains(e.data, `"size":8`) {
		t.Errorf("event %+v", e)
	}
}

func TestServerStopsWithOpenStreams(t *testing.T) {
	l := newLive(t) // its cleanup fails when Run does not return
	r := l.events(t, l.login("Alice"), "")
	r.want("hello", "")
}

func TestSocketIsForOwnerAndGroup(t *testing.T) {
	path := filepath.Join(t.TempDir(), "o.sock")
	ln, err := ListenSocket(path)
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	st, err := os.Stat(path)
	if err != nil || st.Mode().Perm() != 0o660 {
		t.Errorf("mode %v, %v", st.Mode(), err)
	}
	if _, err := ListenSocket(path); err == nil {
		t.Error("a second node took the socket of the first")
	}
}

func TestSocketOfAKilledNodeIsReplaced(t *testing.T) {
	path := filepath.Join(t.TempDir(), "o.sock")
	ln, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	ln.SetUnlinkOnClose(false)
	ln.Close()
	again, err := ListenSocket(path)
	if err != nil {
		t.Fatal(err)
	}
	again.Close()
	if err := os.WriteFile(path, []byte("a letter"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := ListenSocket(path); err == nil {
		t.Error("a file that is no socket was removed")
	}
}
