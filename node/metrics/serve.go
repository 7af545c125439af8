package metrics

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"
)

// Limits of the listener. Whoever can reach loopback can ask, and nobody
// else; a scrape is a few kilobytes.
const (
	maxHeader   = 4 << 10
	maxConns    = 16
	readTime    = 5 * time.Second
	writeTime   = 15 * time.Second
	idleTime    = 2 * time.Minute
	drainTime   = time.Second
	contentType = "text/plain; version=0.0.4; charset=utf-8"
)

// A Server answers GET /metrics.
type Server struct {
	// Collect gathers the figures of now.
	Collect func(context.Context) *Set
}

// Serve answers on l until ctx ends, and closes it.
func (s Server) Serve(ctx context.Context, l net.Listener) error {
	srv := &http.Server{
		Handler: s, ReadHeaderTimeout: readTime, ReadTimeout: readTime, WriteTimeout: writeTime, IdleTimeout: idleTime, MaxHeaderBytes: maxHeader,
	}
	stopped := make(chan struct{})
	go func() {
		defer close(stopped)
		<-ctx.Done()
		end, cancel := context.WithTimeout(context.WithoutCancel(ctx), drainTime)
		defer cancel()
		if srv.Shutdown(end) != nil {
			_ = srv.Close()
		}
	}()
	err := srv.Serve(newLimited(l, maxConns))
	if errors.Is(err, http.ErrServerClosed) && ctx.Err() != nil {
		<-stopped
		return nil
	}
	return fmt.Errorf("metrics: serve: %v", err)
}

// ServeHTTP writes the figures. The host is checked, so that a page from
// elsewhere whose name was bent to loopback cannot read them.
func (s Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	switch {
	case !loopbackHost(r.Host):
		http.Error(w, "metrics are for this machine", http.StatusForbidden)
	case r.URL.Path != "/metrics":
		http.Error(w, "ask for /metrics", http.StatusNotFound)
	case r.Method != http.MethodGet && r.Method != http.MethodHead:
		w.Header().Set("Allow", "GET, HEAD")
		http.Error(w, "GET only", http.StatusMethodNotAllowed)
	default:
		w.Header().Set("Content-Type", contentType)
		w.Header().Set("Cache-Control", "no-store")
		_, _ = s.Collect(r.Context()).WriteTo(w)
	}
}

func loopbackHost(hostport string) bool {
	host, _, err := net.SplitHostPort(hostport)
	if err != nil {
		host = strings.Trim(hostport, "[]")
	}
	if host == "localhost" {
		return true
	}
	ip := net.ParseIP(host)
	return ip != nil && ip.IsLoopback()
}

// limited holds back connections beyond a number.
type limited struct {
	net.Listener
	places chan struct{}
}

func newLimited(l net.Listener, n int) *limited {
	return &limited{Listener: l, places: make(chan struct{}, n)}
}

// Accept turns away what finds no place, so that those who have one are not
// waited for.
func (l *limited) Accept() (net.Conn, error) {
	for {
		c, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		select {
		case l.places <- struct{}{}:
			return &place{Conn: c, leave: l.places}, nil
		default:
			_ = c.Close()
		}
	}
}

// A place is given free once, however often its connection is closed.
type place struct {
	net.Conn
	leave chan struct{}
	once  sync.Once
}

// Close ends the connection and gives its place free.
func (p *place) Close() error {
	p.once.Do(func() { <-p.leave })
	return p.Conn.Close()
}
