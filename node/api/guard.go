package api

import (
	"context"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"runtime/debug"
	"strings"
)

// answerPolicy is the content policy of answers, which are data: should a
// browser be made to show one, it runs and loads nothing. The page's own
// policy comes with the page (node/web).
const answerPolicy = "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"

// secure sets the headers that every answer of the interface carries.
func secure(h http.Header) {
	h.Set("Content-Security-Policy", answerPolicy)
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("X-Frame-Options", "DENY")
	h.Set("Referrer-Policy", "no-referrer")
	h.Set("Cross-Origin-Opener-Policy", "same-origin")
	h.Set("Cross-Origin-Resource-Policy", "same-origin")
}

// origin says over which listener a request came.
type origin int

const (
	fromPage   origin = iota
	fromSocket        // whoever may open the socket is the operator
)

type originKey struct{}

func originOf(r *http.Request) origin {
	o, _ := r.Context().Value(originKey{}).(origin)
	return o
}

func withOrigin(ctx context.Context, o origin) context.Context {
	return context.WithValue(ctx, originKey{}, o)
}

// Handler returns the interface: the routes with everything that holds for all
// requests. It is meant for Listeners, which mark what came by the socket.
func (s *Server) Handler() http.Handler {
	s.build.Do(func() { s.mux = s.routes() })
	routes := s.mux
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		defer s.survive(w, r)
		if err := s.admit(r); err != nil {
			secure(w.Header())
			writeError(w, err)
			return
		}
		if !isAPI(r.URL.Path) {
			s.serveWeb(w, r)
			return
		}
		secure(w.Header())
		w.Header().Set("Cache-Control", "no-store")
		if _, pattern := routes.Handler(r); pattern == "" {
			writeError(w, noRoute(routes, w, r))
			return
		}
		routes.ServeHTTP(w, r)
	})
}

func isAPI(path string) bool { return path == "/v1" || strings.HasPrefix(path, "/v1/") }

func (s *Server) serveWeb(w http.ResponseWriter, r *http.Request) {
	if s.cfg.Web == nil || originOf(r) == fromSocket {
		secure(w.Header())
		writeError(w, fail(http.StatusNotFound, "not_found", "there is no such path", "the calls are under /v1, see API.md"))
		return
	}
	s.cfg.Web.ServeHTTP(w, r)
}

// noRoute tells a wrong path from a wrong method.
func noRoute(routes *http.ServeMux, w http.ResponseWriter, r *http.Request) error {
	var allow []string
	for _, m := range []string{http.MethodGet, http.MethodPost, http.MethodDelete} {
		probe := r.Clone(r.Context())
		probe.Method = m
		if _, pattern := routes.Handler(probe); pattern != "" {
			allow = append(allow, m)
		}
	}
	if len(allow) == 0 {
		return fail(http.StatusNotFound, "not_found", "there is no such call", "see API.md for the list")
	}
	w.Header().Set("Allow", strings.Join(allow, ", "))
	return fail(http.StatusMethodNotAllowed, "method_not_allowed", "this path takes "+strings.Join(allow, ", "), "")
}

// survive keeps the server alive when a handler panics, which is a bug of
// ours: the log gets the stack, the client an error.
func (s *Server) survive(w http.ResponseWriter, r *http.Request) {
	v := recover()
	if v == nil {
		return
	}
	if v == http.ErrAbortHandler {
		panic(v)
	}
	s.log.Error("api: handler panicked", "err", v, "stack", string(debug.Stack()))
	secure(w.Header())
	writeError(w, fail(http.StatusInternalServerError, "internal", "the node could not do this", "the node's log tells more"))
}

// admit refuses what no honest client of ours sends: a Host that is not ours
// (DNS rebinding), and requests a browser makes on behalf of another site.
func (s *Server) admit(r *http.Request) error {
	if originOf(r) == fromSocket {
		return s.admitSocket(r)
	}
	if !s.hostAllowed(r.Host) {
		return fail(http.StatusMisdirectedRequest, "wrong_host", "this node is not known under that name",
			"use one of the addresses that `outrider page` prints, or add the name to page.allowed_hosts")
	}
	if site := r.Header.Get("Sec-Fetch-Site"); site == "cross-site" || site == "same-site" {
		if isAPI(r.URL.Path) || r.Method != http.MethodGet {
			return forbidden("the request comes from another site")
		}
	}
	if o := r.Header.Get("Origin"); o != "" && !sameOrigin(r, o) {
		return forbidden("the request comes from another origin")
	}
	if len(r.Header.Values("Origin")) > 1 {
		return forbidden("the request names two origins")
	}
	return nil
}

// admitSocket refuses browsers, which reach a unix socket only through a
// proxy that would lend them the operator's rights.
func (s *Server) admitSocket(r *http.Request) error {
	if r.Header.Get("Origin") != "" || r.Header.Get("Sec-Fetch-Site") != "" {
		return forbidden("browsers are served on the page's address, not through the socket")
	}
	return nil
}

func forbidden(message string) error {
	return fail(http.StatusForbidden, "forbidden", message, "")
}

// sameOrigin compares an Origin header with the address the request came to.
func sameOrigin(r *http.Request, o string) bool {
	u, err := url.Parse(o)
	if err != nil || u.Host == "" || u.Path != "" || u.User != nil || u.RawQuery != "" || u.Fragment != "" {
		return false
	}
	scheme := "http"
	if r.TLS != nil {
		scheme = "https"
	}
	return u.Scheme == scheme && strings.EqualFold(u.Host, r.Host)
}

// hostAllowed checks the Host header. Ports are not compared: a forwarded port
// is harmless, a foreign name is not.
func (s *Server) hostAllowed(hostport string) bool {
	host := strings.ToLower(hostOnly(hostport))
	switch host {
	case "":
		return false
	case "localhost", "127.0.0.1", "::1":
		return true
	}
	return s.hosts[host] || s.cfg.HostAllowed != nil && s.cfg.HostAllowed(host)
}

func hostOnly(hostport string) string {
	if h, _, err := net.SplitHostPort(hostport); err == nil {
		return h
	}
	return strings.TrimSuffix(strings.TrimPrefix(hostport, "["), "]")
}

// requireIntent guards calls that change something. A browser sends cookies
// by itself, so a request that lives on its cookie must prove that our own
// page made it: Origin is then there and ours (admit compared it), and
// X-Outrider cannot be set by a foreign page without our consent. A program
// that sends its token in Authorization shows its intent by that.
func requireIntent(r *http.Request, byCookie bool) error {
	if originOf(r) == fromSocket {
		return nil
	}
	if r.Header.Get("X-Outrider") != "1" {
		return fail(http.StatusForbidden, "missing_header", "the request lacks the header X-Outrider: 1", "programs and pages that change something must send it")
	}
	if byCookie && r.Header.Get("Origin") == "" {
		return fail(http.StatusForbidden, "missing_origin", "a request with a cookie must carry Origin", "programs send their token as Authorization: Bearer")
	}
	return nil
}

// source names who a request comes from, for limits: the address, for IPv6
// its /64, since a machine has all of those.
func source(r *http.Request) string {
	if originOf(r) == fromSocket {
		return "socket"
	}
	return sourceOf(r.RemoteAddr)
}

func sourceOf(remote string) string {
	ap, err := netip.ParseAddrPort(remote)
	if err != nil {
		return remote
	}
	a := ap.Addr().Unmap().WithZone("")
	if a.Is6() {
		if p, err := a.Prefix(64); err == nil {
			return p.String()
		}
	}
	return a.String()
}

func loopback(r *http.Request) bool {
	ap, err := netip.ParseAddrPort(r.RemoteAddr)
	return err == nil && ap.Addr().Unmap().IsLoopback()
}
