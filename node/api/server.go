package api

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
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

	build    sync.Once // of mux: every listener asks for the handler
	mux      *http.ServeMux
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

// Run keeps the sessions, and serves the listeners of the configuration, until
// ctx ends or a listener fails. Then every user is locked.
func (s *Server) Run(ctx context.Context) error {
	defer s.endAll()
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error {
		return Listeners{Socket: s.cfg.Socket, Pages: s.cfg.Pages, Timeouts: s.timeouts, Log: s.log}.Serve(ctx, s.Handler())
	})
	g.Go(func() error { return s.keepSessions(ctx) })
	return g.Wait()
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
	s.route(m, "GET /v1/contacts", s.operatorOrUser(s.contacts))
	s.route(m, "POST /v1/links/{node}/up", s.operator(s.setLink(true)))
	s.route(m, "POST /v1/links/{node}/down", s.operator(s.setLink(false)))

	s.route(m, "POST /v1/session", s.login)
	s.route(m, "GET /v1/session", s.user(s.getSession))
	s.route(m, "DELETE /v1/session", s.user(s.logout))

	s.route(m, "GET /v1/users", s.user(s.users))
	s.route(m, "POST /v1/users/{id}/key", s.user(s.trustKey))
	s.route(m, "GET /v1/conversations", s.user(s.conversations))
	s.route(m, "GET /v1/conversations/{id}/messages", s.user(s.conversation))
	s.route(m, "POST /v1/messages", s.user(s.send))
	s.route(m, "GET /v1/messages/{id}", s.user(s.message))
	s.route(m, "GET /v1/messages/{id}/why", s.user(s.why))
	s.route(m, "POST /v1/messages/{id}/retry", s.user(s.action(retry)))
	s.route(m, "POST /v1/messages/{id}/recall", s.user(s.action(recall)))
	s.route(m, "POST /v1/messages/{id}/read", s.user(s.action(read)))
	s.route(m, "POST /v1/messages/{id}/dismiss", s.user(s.action(dismiss)))
	s.route(m, "GET /v1/files", s.user(s.fileList))
	s.route(m, "POST /v1/files", s.user(s.sendFile))
	s.route(m, "GET /v1/files/{id}", s.user(s.getFile))
	s.route(m, "POST /v1/locations", s.user(s.sendLocation))
	s.route(m, "GET /v1/locations", s.user(s.places))
	s.route(m, "GET /v1/failures", s.user(s.failures))
	s.route(m, "GET /v1/archive", s.user(s.archive))
	s.route(m, "GET /v1/events", s.events)

	if s.cfg.Health != nil {
		s.route(m, "GET /v1/health", s.operator(s.health))
	}
	if s.cfg.Bundles != nil {
		s.route(m, "POST /v1/bundles", s.operator(s.submitRaw))
		s.route(m, "GET /v1/bundles/arrived", s.operator(s.arrivedRaw))
	}
	if s.cfg.Carrier != nil {
		s.route(m, "GET /v1/carry", s.operator(s.carryTerms))
		s.route(m, "POST /v1/carry", s.operator(s.carry))
		s.route(m, "POST /v1/carry/root", s.operator(s.takeRoot))
		s.route(m, "POST /v1/carry/result", s.operator(s.carried))
	}
	if s.cfg.Door != nil {
		s.route(m, "GET /v1/page", s.operator(s.pageInfo))
		s.route(m, "POST /v1/page/ca", s.operator(s.openCA))
	}
	if s.cfg.Accounts != nil {
		s.route(m, "POST /v1/codes", s.operator(s.newCode))
		s.route(m, "POST /v1/codes/check", s.checkCode)
		s.route(m, "POST /v1/codes/redeem", s.redeem)
		s.route(m, "POST /v1/password", s.user(s.changePassword))
		s.route(m, "POST /v1/recovery", s.user(s.recoverySheet))
		s.route(m, "POST /v1/recovery/restore", s.restore)
	}
	if s.cfg.Position != nil {
		s.route(m, "GET /v1/position", s.operatorOrUser(s.position))
		s.route(m, "GET /v1/locations/live", s.user(s.liveShares))
		s.route(m, "POST /v1/locations/live", s.user(s.shareLive))
		s.route(m, "DELETE /v1/locations/live", s.user(s.stopLive))
		s.route(m, "PUT /v1/locations/live/position", s.user(s.moved))
	}
	if s.cfg.Calls != nil {
		s.route(m, "GET /v1/calls", s.user(s.calls))
		s.route(m, "POST /v1/calls", s.user(s.startCall))
		s.route(m, "POST /v1/calls/{id}/answer", s.user(s.callKey(true)))
		s.route(m, "POST /v1/calls/{id}/key", s.user(s.callKey(false)))
		s.route(m, "POST /v1/calls/{id}/media", s.user(s.callMedia))
		s.route(m, "POST /v1/calls/{id}/end", s.user(s.endCall))
	}
	if s.cfg.Records != nil {
		s.route(m, "GET /v1/archive/queue", s.user(s.archiveQueue))
		s.route(m, "POST /v1/archive/done", s.user(s.archiveDone))
	}
	if s.cfg.Core != nil {
		s.route(m, "GET /v1/core", s.operatorOrUser(s.core))
		s.route(m, "POST /v1/core/sync", s.operator(s.coreSync))
	}
	if s.cfg.ATAK != nil {
		s.route(m, "GET /v1/atak/clients", s.operator(s.takClients))
		s.route(m, "POST /v1/atak/clients", s.operator(s.takEnroll))
		s.route(m, "DELETE /v1/atak/clients/{id}", s.operator(s.takWithdraw))
	}
	s.configRoutes(m)
	if s.cfg.Provision != nil {
		s.route(m, "GET /v1/network", s.operator(s.network))
		s.route(m, "POST /v1/network/users", s.operator(s.addUser))
		s.route(m, "POST /v1/network/join", s.operator(s.join))
		s.adminRoutes(m)
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
	ses := s.sessions.find(token)
	if ses != nil {
		vouch(r)
	}
	return ses
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
		vouch(r)
		err := h(w, r, ses)
		if errors.Is(err, chat.ErrLocked) {
			s.sessions.end(ses)
		}
		return err
	}
}
