package api

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"

	"golang.org/x/sync/errgroup"
)

// Listeners are where the interface is reached. A nil Socket and no Pages are
// allowed.
type Listeners struct {
	Socket   net.Listener // unix socket for the operator, see ListenSocket
	Pages    []Page
	Timeouts Timeouts
	Guests   *Guests // who comes to the pages; nil for ones of its own
	Locals   *Guests // who comes to the socket; nil for ones of its own
	Most     int     // connections of a page in all; 0 for MaxConns
	Log      *slog.Logger
}

// Serve hands requests to h until ctx ends or a listener fails, and closes the
// listeners. The context of a request that lasts, such as an event stream,
// ends first.
func (l Listeners) Serve(ctx context.Context, h http.Handler) error {
	if l.Log == nil {
		l.Log = slog.New(slog.DiscardHandler)
	}
	if l.Guests == nil {
		l.Guests = NewGuests("page", l.Log)
	}
	if l.Locals == nil {
		l.Locals = NewGuests("socket", l.Log)
	}
	if l.Most == 0 {
		l.Most = MaxConns
	}
	l.Timeouts = l.Timeouts.withDefaults()
	g, ctx := errgroup.WithContext(ctx)
	if l.Socket != nil {
		g.Go(func() error {
			return l.serve(ctx, newBoundedListener(l.Socket, MaxConns, MaxConns, maxAccountConns, l.Locals), nil, fromSocket, h)
		})
	}
	for _, p := range l.Pages {
		g.Go(func() error {
			return l.serve(ctx, newBoundedListener(p.Listener, l.Most, l.Most*3/4, l.Most*MaxSourceConns/MaxConns, l.Guests), p.TLS, fromPage, h)
		})
	}
	return g.Wait()
}

func (l Listeners) serve(ctx context.Context, ln net.Listener, tc *tls.Config, o origin, h http.Handler) error {
	base, cancel := context.WithCancel(withOrigin(context.WithoutCancel(ctx), o))
	defer cancel()
	srv := &http.Server{
		Handler:           bounded(h, l.Timeouts),
		BaseContext:       func(net.Listener) context.Context { return base },
		ConnContext:       withConn,
		ConnState:         noteState,
		ReadHeaderTimeout: l.Timeouts.Header,
		IdleTimeout:       l.Timeouts.Idle,
		MaxHeaderBytes:    MaxHeaderBytes,
		ErrorLog:          slog.NewLogLogger(l.Log.Handler(), slog.LevelDebug),
	}
	if tc != nil {
		tc = tc.Clone()
		tc.MinVersion = max(tc.MinVersion, tls.VersionTLS12)
		tc.NextProtos = []string{"http/1.1"} // deadlines per request are those of the connection
		ln = tls.NewListener(ln, tc)
	}
	stopped := make(chan struct{})
	go func() {
		defer close(stopped)
		<-ctx.Done()
		cancel() // ends event streams, which would hold Shutdown up
		drain, done := context.WithTimeout(context.WithoutCancel(ctx), l.Timeouts.Drain)
		defer done()
		if srv.Shutdown(drain) != nil {
			srv.Close()
		}
	}()
	err := srv.Serve(ln)
	if errors.Is(err, http.ErrServerClosed) {
		<-stopped
		return nil
	}
	return fmt.Errorf("api: serve: %w", err)
}

// ListenSocket listens on a unix socket that owner and group may use. A socket
// that a killed node left behind is replaced; one that answers is not.
func ListenSocket(path string) (net.Listener, error) {
	if c, err := net.Dial("unix", path); err == nil {
		c.Close()
		return nil, fmt.Errorf("api: listen on socket: another node answers there")
	}
	if st, err := os.Lstat(path); err == nil {
		if st.Mode()&os.ModeSocket == 0 {
			return nil, fmt.Errorf("api: listen on socket: something that is no socket has that name")
		}
		if err := os.Remove(path); err != nil {
			return nil, fmt.Errorf("api: listen on socket: %w", err)
		}
	}
	ln, err := listenUnix(path)
	if err != nil {
		return nil, fmt.Errorf("api: listen on socket: %w", err)
	}
	if err := os.Chmod(path, 0o660); err != nil {
		ln.Close()
		return nil, fmt.Errorf("api: listen on socket: %w", err)
	}
	return ln, nil
}

// CloseWrite ends what this side says, for connections that became a link.
func (c *boundedConn) CloseWrite() error {
	half, ok := c.Conn.(interface{ CloseWrite() error })
	if !ok {
		return errors.ErrUnsupported
	}
	return half.CloseWrite()
}
