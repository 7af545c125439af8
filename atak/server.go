package atak

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"path/filepath"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
)

// A Server is the bridge. It opens its listeners in Run.
type Server struct {
	cfg     Config
	log     *slog.Logger
	listens func() // closes ready
	tag     string // of _flow-tags_: an event that carries it has been here
	ready   chan struct{}

	mu      sync.Mutex
	addrs   [2]net.Addr // stream, https
	desks   map[PersonID]*desk
	running context.Context // nil while Run does not run
	stats   Stats
	wg      sync.WaitGroup // desks and connections
}

// Stats counts what an operator asks for. The counts are since the start.
type Stats struct {
	Clients  int    // event streams that are open now
	Users    int    // users that are open for the bridge now
	Refused  uint64 // connections without a certificate that is accepted, or too many
	Broken   uint64 // streams ended for what they carried
	Ignored  uint64 // events of kinds that are not carried
	Overflow uint64 // streams ended because the client took nothing
	Junk     uint64 // bytes between messages
}

// New makes a Server.
func New(cfg Config) *Server {
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Interval <= 0 {
		cfg.Interval = 30 * time.Second
	}
	s := &Server{cfg: cfg, log: cfg.Log, tag: "Outrider-" + cfg.CA.id(), ready: make(chan struct{}), desks: make(map[PersonID]*desk)}
	s.listens = sync.OnceFunc(func() { close(s.ready) })
	return s
}

// Ready is closed once the server listens.
func (s *Server) Ready() <-chan struct{} { return s.ready }

// Addrs returns where the server listens, once it is ready.
func (s *Server) Addrs() (stream, https net.Addr) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.addrs[0], s.addrs[1]
}

// Stats returns the counts.
func (s *Server) Stats() Stats {
	s.mu.Lock()
	defer s.mu.Unlock()
	st := s.stats
	st.Users = len(s.desks)
	for _, d := range s.desks {
		st.Clients += d.count()
	}
	return st
}

func (s *Server) note(count func(*Stats)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	count(&s.stats)
}

// Run serves until ctx ends or a listener fails. When it returns, every
// connection is closed and every user given back.
func (s *Server) Run(ctx context.Context) (err error) {
	conf, err := s.cfg.CA.tlsConfig(s.cfg.Hosts, s.cfg.TLS12)
	if err != nil {
		return err
	}
	ctx, stop := context.WithCancel(ctx)
	defer s.wg.Wait()
	defer stop()
	stream, err := listen(s.cfg.Stream)
	if err != nil {
		return err
	}
	defer stream.Close()
	files, err := listen(s.cfg.HTTPS)
	if err != nil {
		return err
	}
	defer files.Close()
	s.mu.Lock()
	s.addrs, s.running = [2]net.Addr{stream.Addr(), files.Addr()}, ctx
	s.mu.Unlock()
	defer func() {
		s.mu.Lock()
		s.running = nil
		s.mu.Unlock()
	}()
	s.listens()
	g, gctx := errgroup.WithContext(ctx)
	g.Go(func() error { <-gctx.Done(); return errors.Join(stream.Close(), files.Close()) })
	g.Go(func() error { return s.serveStreams(gctx, newGuard(stream, s.refused), conf) })
	g.Go(func() error { return s.serveHTTPS(gctx, newGuard(files, s.refused), conf.Clone()) })
	if err := g.Wait(); err != nil && ctx.Err() == nil {
		return err
	}
	return nil
}

func listen(addr string) (net.Listener, error) {
	l, err := net.Listen("tcp", addr)
	if err != nil {
		return nil, fmt.Errorf("atak: listen: %v", err)
	}
	return l, nil
}

func (s *Server) refused() { s.note(func(st *Stats) { st.Refused++ }) }

// serveStreams accepts event streams.
func (s *Server) serveStreams(ctx context.Context, l net.Listener, conf *tls.Config) error {
	for {
		conn, err := l.Accept()
		if err != nil {
			if ctx.Err() != nil {
				return nil
			}
			return fmt.Errorf("atak: accept: %w", err)
		}
		s.wg.Add(1)
		go func() {
			defer s.wg.Done()
			defer conn.Close()
			s.serveStream(ctx, conn, conf)
		}()
	}
}

// serveStream serves one connection: certificate first, then its user.
func (s *Server) serveStream(ctx context.Context, raw net.Conn, conf *tls.Config) {
	conn := tls.Server(raw, conf)
	hand, cancel := context.WithTimeout(ctx, handshakeTime)
	defer cancel()
	if err := conn.HandshakeContext(hand); err != nil {
		s.refused()
		s.log.Debug("atak: a connection was refused: no certificate of this bridge", "err", err)
		return
	}
	d, err := s.desk(ctx, conn.ConnectionState())
	if err != nil {
		s.refused()
		s.log.Warn("atak: a client was refused", "err", err)
		return
	}
	defer d.leave()
	c := newClient(d, conn)
	if !d.enter(c) {
		s.refused()
		s.log.Warn("atak: a user has too many clients at once")
		return
	}
	defer d.exit(c)
	c.run(ctx)
}

// desk returns the desk of the user a certificate was issued for, and counts
// the caller as working at it until it leaves.
func (s *Server) desk(ctx context.Context, state tls.ConnectionState) (*desk, error) {
	if len(state.PeerCertificates) == 0 {
		return nil, ErrRefused
	}
	cred, err := credentialOf(state.PeerCertificates[0])
	if err != nil {
		return nil, err
	}
	user, err := s.cfg.Accounts.Open(ctx, cred) // each time: it may have been withdrawn
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	d := s.desks[cred.User]
	if d == nil || !d.join() {
		if s.running == nil {
			s.mu.Unlock()
			user.Close()
			return nil, ErrRefused
		}
		d, err = s.newDesk(user)
		if err != nil {
			s.mu.Unlock()
			user.Close()
			return nil, err
		}
		s.desks[cred.User] = d
		s.mu.Unlock()
		return d, nil
	}
	s.mu.Unlock()
	user.Close() // the desk has its own
	return d, nil
}

// newDesk opens a desk with one worker; the caller holds mu.
func (s *Server) newDesk(user User) (*desk, error) {
	sp, err := openSpool(filepath.Join(s.cfg.Dir, "spool", string(user.Self().ID)), user.SpoolKey(), s.cfg.Now)
	if err != nil {
		return nil, err
	}
	d, ctx := newDesk(s, user, sp), s.running
	s.wg.Add(1)
	go func() {
		defer s.wg.Done()
		defer user.Close()
		d.run(ctx)
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.desks[user.Self().ID] == d {
			delete(s.desks, user.Self().ID)
		}
	}()
	return d, nil
}

// Update tells that a message of a user is new or has changed. It never
// blocks.
func (s *Server) Update(user PersonID, m Message) {
	s.mu.Lock()
	d := s.desks[user]
	s.mu.Unlock()
	if d != nil {
		d.inbox.put(m)
	}
}

// Drop closes the connections of a user and the desk behind them. Clients
// whose certificate is good connect again.
func (s *Server) Drop(user PersonID) {
	s.mu.Lock()
	d := s.desks[user]
	s.mu.Unlock()
	if d != nil {
		d.shut()
	}
}

// A guard bounds a listener's connections, in all and by source.
type guard struct {
	net.Listener
	over func()

	mu  sync.Mutex
	all int
	by  map[string]int
}

func newGuard(l net.Listener, over func()) *guard {
	return &guard{Listener: l, over: over, by: make(map[string]int)}
}

// Accept returns the next connection that is not one too many.
func (g *guard) Accept() (net.Conn, error) {
	for {
		c, err := g.Listener.Accept()
		if err != nil {
			return nil, err
		}
		host, _, _ := net.SplitHostPort(c.RemoteAddr().String())
		g.mu.Lock()
		full := g.all >= MaxConns || g.by[host] >= MaxSourceConns
		if !full {
			g.all, g.by[host] = g.all+1, g.by[host]+1
		}
		g.mu.Unlock()
		if !full {
			return &guarded{Conn: c, leave: sync.OnceFunc(func() { g.leave(host) })}, nil
		}
		g.over()
		c.Close()
	}
}

func (g *guard) leave(host string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.all--
	if g.by[host]--; g.by[host] == 0 {
		delete(g.by, host)
	}
}

type guarded struct {
	net.Conn
	leave func()
}

func (c *guarded) Close() error {
	c.leave()
	return c.Conn.Close()
}

// serveHTTPS serves files and lists.
func (s *Server) serveHTTPS(ctx context.Context, l net.Listener, conf *tls.Config) error {
	srv := &http.Server{
		Handler: s.routes(), TLSConfig: conf, ReadHeaderTimeout: handshakeTime, IdleTimeout: 2 * time.Minute, MaxHeaderBytes: 16 << 10,
		TLSNextProto: map[string]func(*http.Server, *tls.Conn, http.Handler){}, // HTTP/1.1 as TAK servers speak it: one request, one connection
		ErrorLog:     slog.NewLogLogger(s.log.Handler(), slog.LevelDebug),
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		<-ctx.Done()
		grace, cancel := context.WithTimeout(context.WithoutCancel(ctx), 3*time.Second)
		defer cancel()
		if srv.Shutdown(grace) != nil {
			srv.Close()
		}
	}()
	err := srv.ServeTLS(l, "", "")
	if ctx.Err() == nil {
		return fmt.Errorf("atak: serve files: %w", err)
	}
	<-done
	return nil
}
