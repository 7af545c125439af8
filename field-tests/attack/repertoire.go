package attack

import (
	"bufio"
	"context"
	"crypto/tls"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"net/http"
	"time"
)

// A row is an attack and what it must amount to.
type row struct {
	name     string
	listener string // as the node names it, "" where nobody can be named
	from     sources
	rate     int   // per second, at most
	hold     int   // connections kept open
	least    int64 // of what it counts, per second, for the row to mean anything
	run      func(context.Context, *assault)
	grow     float64       // MiB by which the node may grow beyond what every row may
	warm     time.Duration // it goes on for so long before it is looked at: what is given in advance is used up
}

// rows are all attacks.
var rows = []row{
	{"mesh/tcp silent, many addresses", "mesh", many, 1000, 400, 50, onMesh(says(nil)), 0, 0},
	{"mesh/tcp flood, one address", "mesh", one, 2000, 0, 100, onMesh(says(nil)), 0, 0},
	{"mesh/tcp flood, many addresses", "mesh", many, 2000, 0, 100, onMesh(says(nil)), 0, 0},
	{"mesh/tcp garbage", "mesh", many, 1000, 50, 50, onMesh(says(garbage(64 << 10))), 0, 0},
	{"mesh/tcp slow negotiation", "mesh", many, 500, 200, 25, onMesh(slowly(noiseOpening)), 0, 0},
	{"mesh/tcp half a noise handshake", "mesh", many, 1000, 200, 50, onMesh(says(append(noiseOpening[:len(noiseOpening):len(noiseOpening)], 0xff, 0xff, 1))), 0, 0},
	{"mesh/tcp half a yamux stream", "mesh", many, 500, 100, 25, onMesh(behindNoise(token("/multistream/1.0.0", "/yamux/1.0.0"), frame(yamuxData, yamuxSYN, 1, 100, nil))), 0, 0},
	{"mesh/tcp 4 GiB yamux frame", "mesh", many, 500, 100, 25, onMesh(behindNoise(token("/multistream/1.0.0", "/yamux/1.0.0"), frame(yamuxData, yamuxSYN, 1, 1<<32-1, garbage(1000)))), 0, 0},
	{"mesh/tcp half a hello", "mesh", many, 500, 100, 25, onMesh(hello([]byte{200, 1, 0xa7})), 0, 0},
	{"mesh/tcp 4 GiB hello", "mesh", many, 500, 100, 25, onMesh(hello(binary.AppendUvarint(nil, 1<<32-1))), 0, 0},
	{"mesh/tcp replayed", "mesh", many, 500, 100, 25, replayStreams(func(t targets) string { return t.Mesh }), 0, 0},
	{"mesh/udp noise", "", many, 300, 0, 2000, func(ctx context.Context, a *assault) { a.datagrams(ctx, a.Mesh, random(1000)) }, 0, 0},
	{"mesh/udp first packets", "", many, 100, 0, 1000, func(ctx context.Context, a *assault) { a.datagrams(ctx, a.Mesh, initials) }, 0, 0},
	{"mesh/udp replayed", "", many, 100, 0, 1000, func(ctx context.Context, a *assault) { a.datagrams(ctx, a.Mesh, replayed(a.Datagrams[a.Mesh])) }, 0, 0},
	{"gossip/tcp silent, many addresses", "gossip/tcp", many, 1000, 400, 50, onGossip(says(nil)), 0, 0},
	{"gossip/tcp flood, one address", "gossip/tcp", one, 2000, 0, 100, onGossip(says(nil)), 0, 0},
	{"gossip/tcp 4 GiB", "gossip/tcp", many, 1000, 50, 50, onGossip(says(append([]byte("OGS2\xff\xff\xff\xff"), garbage(64<<10)...))), 0, 0},
	{"gossip/tcp slow preamble", "gossip/tcp", many, 500, 200, 25, onGossip(slowly(append([]byte("OGS2\x00\x00\x20\x00"), garbage(8192)...))), 0, 0},
	{"gossip/tcp replayed", "gossip/tcp", many, 1000, 100, 50, replayStreams(func(t targets) string { return t.Gossip }), 0, 0},
	{"gossip/udp noise", "gossip/udp", many, 300, 0, 2000, func(ctx context.Context, a *assault) { a.datagrams(ctx, a.Gossip, random(200)) }, 0, 0},
	{"gossip/udp replayed", "gossip/udp", many, 100, 0, 1000, func(ctx context.Context, a *assault) {
		a.datagrams(ctx, a.Gossip, replayed(a.Datagrams[a.Gossip]))
	}, 0, 0},
	{"page silent, many addresses", "page", many, 1000, 400, 50, onPage(says(nil)), 0, 0},
	{"page flood, one address", "page", one, 2000, 0, 100, onPage(says(nil)), 0, 0},
	{"page garbage", "page", many, 1000, 50, 50, onPage(says(garbage(64 << 10))), 0, 0},
	{"page replayed", "page", many, 500, 100, 25, replayStreams(func(t targets) string { return t.Page }), 0, 0},
	{"page half a TLS handshake", "page", many, 1000, 200, 50, onPage(says([]byte{22, 3, 1, 2, 0, 1, 0, 1, 0xfc})), 0, 0},
	{"page TLS handshakes", "page", many, 500, 0, 25, onPage(behindTLS("")), 0, 0},
	{"page half a header", "page", many, 500, 200, 25, onPage(behindTLS("GET / HTTP/1.1\r\nHost: 10.66.0.1\r\nX-Slow: ")), 0, 0},
	{"page half a body", "page", many, 500, 200, 25, onPage(behindTLS("POST /v1/session HTTP/1.1\r\nHost: 10.66.0.1\r\nX-Outrider: 1\r\nContent-Type: application/json\r\nContent-Length: 200000\r\n\r\n{")), 0, 0},
	{"page huge header and body", "page", many, 500, 50, 25, onPage(behindTLS("POST /v1/session HTTP/1.1\r\nHost: 10.66.0.1\r\nContent-Length: 4294967296\r\nX-Big: " + string(garbage(64<<10)))), 0, 0},
	{"page requests, one address", "page/requests", one, 2000, 0, 50, requests("GET", "/", ""), 0, 0},
	{"page logins", "page/requests", many, 200, 0, 10, requests("POST", "/v1/session", `{"user":"alice","password":"a wrong one"}`), 64, 4 * time.Second},
	{"CA page silent", "page-ca", many, 1000, 200, 50, onCA(says(nil)), 0, 0},
	{"CA page flood, one address", "page-ca", one, 2000, 0, 100, onCA(says(nil)), 0, 0},
	{"CA page garbage", "page-ca", many, 1000, 50, 50, onCA(says(garbage(64 << 10))), 0, 0},
	{"CA page half a header", "page-ca", many, 1000, 200, 50, onCA(says([]byte("GET / HTTP/1.1\r\nHost: "))), 0, 0},
	{"CA page huge header", "page-ca", many, 1000, 50, 50, onCA(says([]byte("GET / HTTP/1.1\r\nHost: 10.66.0.1\r\nX-Big: " + string(garbage(64<<10))))), 0, 0},
	{"mdns/udp noise", "", many, 300, 0, 2000, func(ctx context.Context, a *assault) { a.datagrams(ctx, a.MDNS, random(500)) }, 0, 0},
	{"mdns/udp questions", "", many, 300, 0, 2000, func(ctx context.Context, a *assault) { a.datagrams(ctx, a.MDNS, questions) }, 0, 0},
	{"socket silent", "socket", neighbour, 2000, 600, 100, onSocket(says(nil)), 0, 0},
	{"socket flood", "socket", neighbour, 4000, 0, 500, onSocket(says(nil)), 0, 0},
	{"socket garbage", "socket", neighbour, 2000, 50, 100, onSocket(says(garbage(64 << 10))), 0, 0},
	{"socket half a header", "socket", neighbour, 2000, 400, 100, onSocket(says([]byte("GET /v1/status HTTP/1.1\r\nHost: outrider\r\n"))), 0, 0},
	{"socket slow header", "", neighbour, 500, 400, 25, onSocket(slowly([]byte("GET /v1/status HTTP/1.1\r\nHost: outrider\r\n"))), 0, 0},
	{"socket huge header and body", "socket", neighbour, 1000, 50, 50, onSocket(says([]byte("POST /v1/session HTTP/1.1\r\nHost: outrider\r\nContent-Length: 4294967296\r\nX-Big: " + string(garbage(64<<10))))), 0, 0},
	{"socket half a body", "socket", neighbour, 2000, 400, 100, onSocket(says([]byte("POST /v1/session HTTP/1.1\r\nHost: outrider\r\nX-Outrider: 1\r\nContent-Type: application/json\r\nContent-Length: 200000\r\n\r\n{"))), 0, 0},
	{"socket requests", "socket/requests", neighbour, 6000, 0, 200, asks(socketOf, "GET", "/v1/status", ""), 0, 4 * time.Second},
	{"socket submissions", "", neighbour, 0, 0, 50, asks(socketOf, "POST", "/v1/bundles?lifetime_min=1&tag=faaaaaaaaaaaa", string(garbage(1024))), 0, 0},
	{"metrics silent", "metrics", neighbour, 1000, 200, 50, onMetrics(says(nil)), 0, 0},
	{"metrics flood", "metrics", neighbour, 4000, 0, 500, onMetrics(says(nil)), 0, 0},
	{"metrics garbage", "metrics", neighbour, 2000, 50, 50, onMetrics(says(garbage(64 << 10))), 0, 0},
	{"metrics half a header", "metrics", neighbour, 1000, 200, 50, onMetrics(says([]byte("GET /metrics HTTP/1.1\r\nHost: localhost\r\n"))), 0, 0},
	{"metrics huge header", "metrics", neighbour, 1000, 50, 50, onMetrics(says([]byte("GET /metrics HTTP/1.1\r\nHost: localhost\r\nX-Big: " + string(garbage(64<<10))))), 0, 0},
	{"metrics requests", "metrics/requests", neighbour, 3000, 0, 100, asks(func(t targets) string { return t.Metrics }, "GET", "/metrics", ""), 0, 2 * time.Second},
}

func garbage(n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = 'a' + byte(i*7%26)
	}
	return b
}

type saying = func(context.Context, net.Conn)

func onMesh(say saying) func(context.Context, *assault) {
	return func(ctx context.Context, a *assault) { a.connections(ctx, a.Mesh, say) }
}

func onGossip(say saying) func(context.Context, *assault) {
	return func(ctx context.Context, a *assault) { a.connections(ctx, a.Gossip, say) }
}

func onPage(say saying) func(context.Context, *assault) {
	return func(ctx context.Context, a *assault) { a.connections(ctx, a.Page, say) }
}

func onCA(say saying) func(context.Context, *assault) {
	return func(ctx context.Context, a *assault) { a.connections(ctx, a.CA, say) }
}

// questions asks for all services there are, 40 times in one packet (RFC 6763,
// section 9).
func questions() []byte {
	b := []byte{0, 0, 0, 0, 0, 40, 0, 0, 0, 0, 0, 0}
	for range 40 {
		b = append(b, "\x09_services\x07_dns-sd\x04_udp\x05local\x00\x00\x0c\x00\x01"...)
	}
	return b
}

// behindNoise proves a key that nobody knows and says something after.
func behindNoise(messages ...[]byte) saying {
	key := strangerKey()
	return func(_ context.Context, c net.Conn) {
		_ = c.SetDeadline(time.Now().Add(2 * time.Second))
		s, err := secure(c, key)
		for _, m := range messages {
			if err == nil {
				err = s.say(m)
			}
		}
		_ = c.SetDeadline(time.Time{})
	}
}

// hello opens a hello stream and sends first on it.
func hello(first []byte) saying {
	body := append(token("/multistream/1.0.0", "/outrider/hello/1"), first...)
	return behindNoise(token("/multistream/1.0.0", "/yamux/1.0.0"), frame(yamuxData, yamuxSYN, 1, uint32(len(body)), body))
}

// replayStreams says again what real diallers said.
func replayStreams(at func(targets) string) func(context.Context, *assault) {
	return func(ctx context.Context, a *assault) {
		next := replayed(a.Streams[at(a.targets)])
		a.connections(ctx, at(a.targets), func(ctx context.Context, c net.Conn) { says(next())(ctx, c) })
	}
}

// behindTLS says something after a handshake.
func behindTLS(text string) saying {
	return func(ctx context.Context, c net.Conn) {
		_ = c.SetDeadline(time.Now().Add(2 * time.Second))
		t := tls.Client(c, &tls.Config{InsecureSkipVerify: true}) // an attacker does not care who it is
		if t.HandshakeContext(ctx) == nil {
			_, _ = t.Write([]byte(text))
		}
		_ = c.SetDeadline(time.Time{})
	}
}

func onSocket(say saying) func(context.Context, *assault) {
	return func(ctx context.Context, a *assault) { a.connections(ctx, a.Socket, say) }
}

func onMetrics(say saying) func(context.Context, *assault) {
	return func(ctx context.Context, a *assault) { a.connections(ctx, a.Metrics, say) }
}

// requests asks the page over TLS.
func requests(method, path, body string) func(context.Context, *assault) {
	return asking(func(t targets) string { return t.Page }, "10.66.0.1", true, method, path, body)
}

func socketOf(t targets) string { return t.Socket }

// asks asks a listener of this machine.
func asks(at func(targets) string, method, path, body string) func(context.Context, *assault) {
	return asking(at, "localhost", false, method, path, body)
}

// asking asks over connections that are kept, as fast as the answers come.
func asking(at func(targets) string, host string, secure bool, method, path, body string) func(context.Context, *assault) {
	text := fmt.Sprintf("%s %s HTTP/1.1\r\nHost: %s\r\nX-Outrider: 1\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s", method, path, host, len(body), body)
	return func(ctx context.Context, a *assault) {
		stop := context.AfterFunc(ctx, a.end)
		defer stop()
		a.paced(ctx, 8, func() {
			c, err := a.dial(ctx, at(a.targets))
			if err != nil {
				return
			}
			defer a.forget(c)
			_ = c.SetDeadline(time.Now().Add(5 * time.Second))
			over := c
			if secure {
				over = tls.Client(c, &tls.Config{InsecureSkipVerify: true})
			}
			for in := bufio.NewReader(over); ctx.Err() == nil && a.ask(over, in, text); {
			}
		})
	}
}

// ask sends one request and reports whether another may follow.
func (a *assault) ask(over net.Conn, in *bufio.Reader, text string) bool {
	if _, err := io.WriteString(over, text); err != nil {
		return false
	}
	a.done.Add(1)
	resp, err := http.ReadResponse(in, nil)
	if err != nil {
		return false
	}
	defer resp.Body.Close()
	_, err = io.Copy(io.Discard, resp.Body)
	return err == nil && !resp.Close
}
