package api

import (
	"bufio"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"
)

// hasty changes a server's timeouts, which are longer than any test otherwise: a
// busy machine may hold a client up anywhere.
func hasty(change func(*Timeouts)) func(*Config) {
	return func(c *Config) {
		c.Timeouts = Timeouts{Header: time.Minute, Body: time.Minute, Progress: time.Minute, Idle: 2 * time.Minute}
		change(&c.Timeouts)
	}
}

// raw writes text to the page's port and returns what comes back before the
// server hangs up. The deadline is only there for a server that never does.
func raw(t *testing.T, addr, text string) string {
	t.Helper()
	return rawThen(t, addr, text, func(*net.TCPConn) {})
}

// cut is raw by a client that has no more to say.
func cut(t *testing.T, addr, text string) string {
	t.Helper()
	return rawThen(t, addr, text, func(c *net.TCPConn) { _ = c.CloseWrite() })
}

func rawThen(t *testing.T, addr, text string, then func(*net.TCPConn)) string {
	t.Helper()
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(time.Minute))
	if _, err := io.WriteString(c, text); err != nil {
		return ""
	}
	then(c.(*net.TCPConn))
	b, err := io.ReadAll(c)
	if ne, ok := err.(net.Error); ok && ne.Timeout() {
		t.Fatalf("the server still waits after %q", text[:min(len(text), 60)])
	}
	return string(b)
}

func TestSlowClientsAreCutOff(t *testing.T) {
	l := newLive(t, hasty(func(c *Timeouts) { c.Header = 100 * time.Millisecond }))
	raw(t, l.addr, "")                                     // says nothing
	raw(t, l.addr, "GET /v1/status HTTP/1.1\r\nHost: loc") // stops in the header
	l = newLive(t, hasty(func(c *Timeouts) { c.Idle = 100 * time.Millisecond }))
	if got := raw(t, l.addr, "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"); !strings.Contains(got, " 200 ") { // keeps the connection for nothing
		t.Errorf("before the connection is idle it is answered %q", got)
	}
	l = newLive(t, hasty(func(c *Timeouts) { c.Body = 100 * time.Millisecond }))
	token := l.login("Alice")
	head := "Host: localhost\r\nX-Outrider: 1\r\nAuthorization: Bearer " + token + "\r\nContent-Type: application/json\r\n"
	got := raw(t, l.addr, "POST /v1/messages HTTP/1.1\r\n"+head+"Content-Length: 40\r\n\r\n{\"to\":")
	if !strings.Contains(got, "408") || !strings.Contains(got, "too_slow") {
		t.Errorf("a body that stops is answered %q", got)
	}
	got = raw(t, l.addr, "POST /v1/session HTTP/1.1\r\nHost: localhost\r\nX-Outrider: 1\r\nContent-Type: application/json\r\nContent-Length: 9\r\n\r\n{")
	if !strings.Contains(got, "408") {
		t.Errorf("a login that stops is answered %q", got)
	}
	l = newLive(t, hasty(func(c *Timeouts) { c.Progress = 100 * time.Millisecond }))
	head = strings.Replace(head, token, l.login("Alice"), 1)
	got = raw(t, l.addr, "POST /v1/files?to=Bob&name=x HTTP/1.1\r\n"+head+"Content-Length: 4000\r\n\r\nbytes")
	if !strings.Contains(got, "408") {
		t.Errorf("a file that stops is answered %q", got)
	}
}

func TestCutBodies(t *testing.T) {
	l := newLive(t)
	token := l.login("Alice")
	c, err := net.Dial("tcp", l.addr)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	fmt.Fprintf(c, "POST /v1/files?to=Bob&name=x HTTP/1.1\r\nHost: localhost\r\nX-Outrider: 1\r\nAuthorization: Bearer %s\r\nContent-Length: 4000\r\n\r\nbytes", token)
	c.(*net.TCPConn).CloseWrite()
	b, err := io.ReadAll(c)
	if err != nil || !strings.Contains(string(b), "400") {
		t.Errorf("a cut file is answered %q, %v", b, err)
	}
	if l.chat.users["Alice"].body != nil {
		t.Error("half a file was sent")
	}
}

func TestHugeHeaders(t *testing.T) {
	l := newLive(t)
	got := raw(t, l.addr, "GET /v1/status HTTP/1.1\r\nHost: localhost\r\nX: "+strings.Repeat("x", MaxHeaderBytes+8192)+"\r\n\r\n")
	if !strings.Contains(got, "431") {
		t.Errorf("huge headers are answered %.60q", got)
	}
}

func TestGarbage(t *testing.T) {
	l := newLive(t)
	for _, text := range []string{
		"\x16\x03\x01\x02\x00\x01\x00", "\x00\x00\x00\x00", "GET / HTTP/9.9\r\n\r\n", "GET /v1/status HTTP/1.1\r\n\r\n",
		"POST /v1/session HTTP/1.1\r\nHost: localhost\r\nContent-Length: 99999999999999999999\r\n\r\n",
		"POST /v1/session HTTP/1.1\r\nHost: localhost\r\nContent-Length: -1\r\n\r\n",
		"POST /v1/session HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
		"POST /v1/session HTTP/1.1\r\nHost: localhost\r\nHost: evil\r\n\r\n",
		"OPTIONS * HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n",
		"CONNECT evil.example:443 HTTP/1.1\r\nHost: evil.example\r\nConnection: close\r\n\r\n",
		"GET http://evil.example/v1/users HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n",
	} {
		if got := cut(t, l.addr, text); strings.Contains(got, " 200 ") && !strings.HasPrefix(text, "OPTIONS *") {
			t.Errorf("%q is answered %q", text, got)
		}
	}
	resp := l.get(t, l.client, "http://"+l.addr+"/v1/status", "", "") // honest clients do not notice
	if resp.StatusCode != 200 {
		t.Errorf("afterwards: %s", resp.Status)
	}
}

func TestBrokenDownloadIsSeenAsBroken(t *testing.T) {
	l := newLive(t)
	r, err := http.NewRequestWithContext(t.Context(), "GET", "http://"+l.addr+"/v1/files/beaaaaaaaaaaaaaaaaaaaaaaaa", nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Authorization", "Bearer "+l.login("Alice"))
	resp, err := l.client.Do(r)
	if err != nil {
		return // cut before the header was out
	}
	defer resp.Body.Close()
	if _, err := io.ReadAll(resp.Body); err == nil {
		t.Error("half a file looks whole")
	}
}

func TestConnectionsAreBounded(t *testing.T) {
	ln := newBoundedListener(listen(t), 4, 4, 3, NewGuests("test", slog.New(slog.DiscardHandler)))
	defer ln.Close()
	accepted := make(chan net.Conn)
	go func() {
		defer close(accepted)
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			accepted <- c
		}
	}()
	dial := func() net.Conn {
		c, err := net.Dial("tcp", ln.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		return c
	}
	var open []net.Conn
	for range 3 {
		dial()
		c := <-accepted
		noteState(c, http.StateActive) // at work: however long it takes, it makes no room
		open = append(open, c)
	}
	one, err := net.Dial("tcp", ln.Addr().String()) // one past, from the same source
	if err == nil {
		defer one.Close()
		_ = one.SetReadDeadline(time.Now().Add(time.Minute))
		_, err = one.Read(make([]byte, 1))
	}
	if err != io.EOF && !strings.Contains(fmt.Sprint(err), "reset") {
		t.Errorf("a connection too many is not closed: %v", err)
	}
	open[0].Close()
	open[0].Close() // twice counts once
	dial()
	c := <-accepted
	c.Close()
	for _, c := range open {
		c.Close()
	}
	ln.Close()
	for range accepted {
	}
	if len(ln.open) != 0 {
		t.Errorf("%d connections counted after all were closed", len(ln.open))
	}
}

func TestPipelinedRequestsKeepTheirDeadlines(t *testing.T) {
	l := newLive(t)
	c, err := net.Dial("tcp", l.addr)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	br := bufio.NewReader(c)
	for range 3 {
		fmt.Fprint(c, "GET /v1/status HTTP/1.1\r\nHost: localhost\r\n\r\n")
		resp, err := http.ReadResponse(br, nil)
		if err != nil || resp.StatusCode != 200 {
			t.Fatalf("%v, %v", resp, err)
		}
		io.Copy(io.Discard, resp.Body)
	}
}
