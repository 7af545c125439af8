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
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"outrider/mesh/identity"
	"outrider/node/chat"
)

// A Server serves the interface. Its state is the table of sessions.
type Server struct {
	cfg      Config
	log      *slog.Logger
	timeouts Timeouts
	maxFile  int64
	hosts    map[string]bool
	sessions *sessions
	limiter  *limiter
	streams  *streamCount

	patterns []string // of all routes, for the test that API.md has them
}

// New returns a server. It listens on what cfg names once Run is called.
func New(cfg Config) *Server {
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Hub == nil {
		cfg.Hub = NewHub()
	}
	s := &Server{
		cfg: cfg, log: cfg.Log, timeouts: cfg.Timeouts.withDefaults(), maxFile: cfg.MaxFile,
		hosts: make(map[string]bool), limiter: newLimiter(cfg.Now), streams: &streamCount{by: make(map[identity.UserID]int)},
	}
	if s.maxFile <= 0 {
		s.maxFile = chat.MaxFileDefault
	}
	for _, h := range cfg.Hosts {
		s.hosts[strings.ToLower(hostOnly(h))] = true
	}
	idle, limit := cfg.SessionIdle, cfg.SessionLimit
	if idle <= 0 {
		idle = defaultIdle
	}
	if limit <= 0 {
		limit = defaultAbsolute
	}
	s.sessions = newSessions(cfg.Now, idle, limit, s.lockUser)
	return s
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

// Run serves until ctx ends or a listener fails.
func (s *Server) Run(ctx context.Context) error {
	defer s.endAll()
	g, ctx := errgroup.WithContext(ctx)
	h := s.handler()
	if ln := s.cfg.Socket; ln != nil {
		g.Go(func() error { return s.serve(ctx, ln, nil, fromSocket, h) })
	}
	for _, p := range s.cfg.Pages {
		g.Go(func() error {
			return s.serve(ctx, newBoundedListener(p.Listener, MaxConns, MaxSourceConns), p.TLS, fromPage, h)
		})
	}
	g.Go(func() error { return s.keepSessions(ctx) })
	return g.Wait()
}

func (s *Server) serve(ctx context.Context, ln net.Listener, tc *tls.Config, o origin, h http.Handler) error {
	base, cancel := context.WithCancel(withOrigin(context.WithoutCancel(ctx), o))
	defer cancel()
	srv := &http.Server{
		Handler:           h,
		BaseContext:       func(net.Listener) context.Context { return base },
		ReadHeaderTimeout: s.timeouts.Header,
		IdleTimeout:       s.timeouts.Idle,
		MaxHeaderBytes:    MaxHeaderBytes,
		ErrorLog:          slog.NewLogLogger(s.log.Handler(), slog.LevelDebug),
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
		drain, done := context.WithTimeout(context.WithoutCancel(ctx), s.timeouts.Drain)
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

// keepSessions ends sessions whose time is over.
func (s *Server) keepSessions(ctx context.Context) error {
	t := time.NewTicker(time.Minute)
	defer t.Stop()
	for {
		select {
		case <-t.C:
			s.sessions.sweep()
		case <-ctx.Done():
			return nil
		}
	}
}

// endAll ends every session: a node that stops locks its users.
func (s *Server) endAll() {
	s.sessions.mu.Lock()
	var all []*session
	for _, ses := range s.sessions.byID {
		all = append(all, ses)
	}
	s.sessions.mu.Unlock()
	for _, ses := range all {
		s.sessions.end(ses)
	}
}

// A handler answers or returns an error to be written.
type handler func(w http.ResponseWriter, r *http.Request) error

// A sessionHandler needs a logged-in user.
type sessionHandler func(w http.ResponseWriter, r *http.Request, ses *session) error

func (s *Server) routes() *http.ServeMux {
	m := http.NewServeMux()
	s.patterns = nil
	s.route(m, "GET /v1/status", s.status)
	s.route(m, "GET /v1/peers", s.operatorOrUser(s.peers))
	s.route(m, "GET /v1/links", s.operatorOrUser(s.links))
	s.route(m, "POST /v1/links/{node}/up", s.operator(s.setLink(true)))
	s.route(m, "POST /v1/links/{node}/down", s.operator(s.setLink(false)))

	s.route(m, "POST /v1/session", s.login)
	s.route(m, "GET /v1/session", s.user(s.getSession))
	s.route(m, "DELETE /v1/session", s.user(s.logout))

	s.route(m, "GET /v1/users", s.user(s.users))
	s.route(m, "GET /v1/conversations", s.user(s.conversations))
	s.route(m, "GET /v1/conversations/{id}/messages", s.user(s.conversation))
	s.route(m, "POST /v1/messages", s.user(s.send))
	s.route(m, "GET /v1/messages/{id}", s.user(s.message))
	s.route(m, "GET /v1/messages/{id}/why", s.user(s.why))
	s.route(m, "POST /v1/messages/{id}/retry", s.user(s.action(retry)))
	s.route(m, "POST /v1/messages/{id}/recall", s.user(s.action(recall)))
	s.route(m, "POST /v1/messages/{id}/read", s.user(s.action(read)))
	s.route(m, "POST /v1/files", s.user(s.sendFile))
	s.route(m, "GET /v1/files/{id}", s.user(s.getFile))
	s.route(m, "POST /v1/locations", s.user(s.sendLocation))
	s.route(m, "GET /v1/failures", s.user(s.failures))
	s.route(m, "GET /v1/events", s.events)

	if s.cfg.Bundles != nil {
		s.route(m, "POST /v1/bundles", s.operator(s.submitRaw))
		s.route(m, "GET /v1/bundles/arrived", s.operator(s.arrivedRaw))
	}
	if s.cfg.Provision != nil {
		s.route(m, "GET /v1/network", s.operator(s.network))
		s.route(m, "POST /v1/network/users", s.operator(s.addUser))
		s.route(m, "POST /v1/network/join", s.operator(s.join))
	}
	return m
}

// route binds a handler. Bodies have a deadline as a whole; those who stream
// set their own as they go.
func (s *Server) route(m *http.ServeMux, pattern string, h handler) {
	s.patterns = append(s.patterns, pattern)
	m.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) {
		rc := http.NewResponseController(w)
		_ = rc.SetReadDeadline(time.Now().Add(s.timeouts.Body))
		_ = rc.SetWriteDeadline(time.Now().Add(s.timeouts.Body + s.timeouts.Progress))
		if err := h(w, r); err != nil {
			if classify(err).Status == http.StatusInternalServerError && r.Context().Err() == nil {
				s.log.Error("api: a call failed", "call", pattern, "err", err)
			}
			writeError(w, err)
		}
	})
}

// operator lets only the socket through. To others the call is not there.
func (s *Server) operator(h handler) handler {
	return func(w http.ResponseWriter, r *http.Request) error {
		if originOf(r) != fromSocket {
			return fail(http.StatusForbidden, "operator_only", "this call is for the node's operator", "use the outrider command on the node itself")
		}
		return h(w, r)
	}
}

func (s *Server) operatorOrUser(h handler) handler {
	return func(w http.ResponseWriter, r *http.Request) error {
		if originOf(r) != fromSocket && s.sessionOf(r) == nil {
			return errNoSession
		}
		return h(w, r)
	}
}

func (s *Server) sessionOf(r *http.Request) *session {
	token, _ := tokenOf(r)
	return s.sessions.find(token)
}

// user lets logged-in users through, and what changes something only when it
// is meant.
func (s *Server) user(h sessionHandler) handler {
	return func(w http.ResponseWriter, r *http.Request) error {
		token, byCookie := tokenOf(r)
		if r.Method != http.MethodGet && r.Method != http.MethodHead {
			if err := requireIntent(r, byCookie); err != nil {
				return err
			}
		}
		ses := s.sessions.find(token)
		if ses == nil {
			return errNoSession
		}
		err := h(w, r, ses)
		if errors.Is(err, chat.ErrLocked) {
			s.sessions.end(ses)
		}
		return err
	}
}

// A boundedListener closes connections beyond a number in all and per source,
// so that no stranger nearby can take all of them.
type boundedListener struct {
	net.Listener
	most, perSource int

	mu  sync.Mutex
	all int
	by  map[string]int
}

func newBoundedListener(ln net.Listener, most, perSource int) *boundedListener {
	return &boundedListener{Listener: ln, most: most, perSource: perSource, by: make(map[string]int)}
}

func (l *boundedListener) Accept() (net.Conn, error) {
	for {
		c, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		src := sourceOf(c.RemoteAddr().String())
		if l.enter(src) {
			return &boundedConn{Conn: c, leave: sync.OnceFunc(func() { l.leave(src) })}, nil
		}
		c.Close()
	}
}

func (l *boundedListener) enter(src string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.all >= l.most || l.by[src] >= l.perSource {
		return false
	}
	l.all++
	l.by[src]++
	return true
}

func (l *boundedListener) leave(src string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.all--
	if l.by[src]--; l.by[src] == 0 {
		delete(l.by, src)
	}
}

type boundedConn struct {
	net.Conn
	leave func()
}

func (c *boundedConn) Close() error {
	c.leave()
	return c.Conn.Close()
}
