package api

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"net/http"
	"strings"
	"sync"
	"time"

	"outrider/mesh/identity"
	"outrider/node/chat"
)

const (
	cookieName      = "outrider_session"
	tokenBytes      = 32
	maxPassword     = 1024 // bytes; longer ones are not even looked at
	maxName         = 256  // bytes of a login name
	defaultIdle     = 12 * time.Hour
	defaultAbsolute = 7 * 24 * time.Hour
)

// A session is one login. The token itself is kept nowhere, only its hash.
type session struct {
	key     [32]byte
	user    User
	id      identity.UserID
	name    string
	created time.Time
	expires time.Time     // wall clock, for people
	used    time.Time     // monotonic
	ended   chan struct{} // closed when the session is over
}

// sessions is the table of logins. When a user's last session ends, onEmpty
// locks the user's keys.
type sessions struct {
	now     func() time.Time
	idle    time.Duration
	limit   time.Duration
	onEmpty func(identity.UserID)

	mu   sync.Mutex
	byID map[[32]byte]*session
}

func newSessions(now func() time.Time, idle, limit time.Duration, onEmpty func(identity.UserID)) *sessions {
	return &sessions{now: now, idle: idle, limit: limit, onEmpty: onEmpty, byID: make(map[[32]byte]*session)}
}

// create makes a session and returns its token.
func (t *sessions) create(u User) (token string, s *session) {
	var raw [tokenBytes]byte
	rand.Read(raw[:]) // never fails: crypto/rand
	token = base64.RawURLEncoding.EncodeToString(raw[:])
	self, now := u.Self(), t.now()
	s = &session{
		key: sha256.Sum256([]byte(token)), user: u, id: self.ID, name: self.Name,
		created: now, used: now, expires: now.Add(t.limit), ended: make(chan struct{}),
	}
	t.mu.Lock()
	out := t.makeRoom(self.ID)
	t.byID[s.key] = s
	emptied := out != nil && t.count(out.id) == 0
	t.mu.Unlock()
	if emptied {
		t.onEmpty(out.id)
	}
	return token, s
}

// makeRoom ends the longest unused session when a limit is reached, the
// user's own first, and returns it.
func (t *sessions) makeRoom(user identity.UserID) *session {
	var own, all *session
	mine := 0
	for _, s := range t.byID {
		if s.id == user {
			mine++
			if own == nil || s.used.Before(own.used) {
				own = s
			}
		}
		if all == nil || s.used.Before(all.used) {
			all = s
		}
	}
	switch {
	case mine >= MaxUserSession:
		t.drop(own)
		return own
	case len(t.byID) >= MaxSessions:
		t.drop(all)
		return all
	}
	return nil
}

func (t *sessions) drop(s *session) {
	delete(t.byID, s.key)
	close(s.ended)
}

// find returns the session of a token and notes its use.
func (t *sessions) find(token string) *session {
	if len(token) != base64.RawURLEncoding.EncodedLen(tokenBytes) {
		return nil
	}
	key := sha256.Sum256([]byte(token)) // a lookup by hash has no timing to learn from
	t.mu.Lock()
	defer t.mu.Unlock()
	s := t.byID[key]
	if s == nil || t.over(s, t.now()) {
		return nil
	}
	s.used = t.now()
	return s
}

func (t *sessions) over(s *session, now time.Time) bool {
	return now.Sub(s.used) > t.idle || now.Sub(s.created) > t.limit
}

// end ends one session.
func (t *sessions) end(s *session) {
	t.mu.Lock()
	if t.byID[s.key] != s {
		t.mu.Unlock()
		return
	}
	t.drop(s)
	last := t.count(s.id) == 0
	t.mu.Unlock()
	if last {
		t.onEmpty(s.id)
	}
}

// endUser ends a user's sessions but one, which may be nil.
func (t *sessions) endUser(user identity.UserID, but *session) {
	t.mu.Lock()
	var all []*session
	for _, s := range t.byID {
		if s.id == user && s != but {
			all = append(all, s)
		}
	}
	t.mu.Unlock()
	for _, s := range all {
		t.end(s)
	}
}

func (t *sessions) count(user identity.UserID) (n int) {
	for _, s := range t.byID {
		if s.id == user {
			n++
		}
	}
	return n
}

// sweep ends sessions whose time is over.
func (t *sessions) sweep() {
	t.mu.Lock()
	now := t.now()
	var over []*session
	for _, s := range t.byID {
		if t.over(s, now) {
			over = append(over, s)
		}
	}
	t.mu.Unlock()
	for _, s := range over {
		t.end(s)
	}
}

// tokenOf returns the token of a request and whether it came by cookie. An
// Authorization header wins, for a program that was given both.
func tokenOf(r *http.Request) (token string, byCookie bool) {
	if a := r.Header.Get("Authorization"); a != "" {
		scheme, t, ok := strings.Cut(a, " ")
		if !ok || !strings.EqualFold(scheme, "Bearer") {
			return "", false
		}
		return strings.TrimSpace(t), false
	}
	c, err := r.Cookie(cookieName)
	if err != nil {
		return "", false
	}
	return c.Value, true
}

// errNoSession is the answer to whoever is not logged in.
var errNoSession = fail(http.StatusUnauthorized, "no_session", "you are not logged in", "log in with POST /v1/session")

// login is POST /v1/session.
func (s *Server) login(w http.ResponseWriter, r *http.Request) error {
	if err := requireIntent(r, false); err != nil {
		return err
	}
	if err := private(r); err != nil {
		return err
	}
	var in struct {
		User     string `json:"user"`
		Password string `json:"password"`
	}
	if err := decodeJSON(r, &in); err != nil {
		return err
	}
	if in.User == "" || len(in.User) > maxName || in.Password == "" || len(in.Password) > maxPassword {
		return badRequest("user must have 1 to %d bytes and password 1 to %d", maxName, maxPassword)
	}
	u, err := s.tryLogin(r, in.User, []byte(in.Password))
	if err != nil {
		return err
	}
	s.startSession(w, r, u)
	return nil
}

func (s *Server) tryLogin(r *http.Request, name string, password []byte) (User, error) {
	key, src := strings.ToLower(name), source(r)
	if wait := s.limiter.begin(key, src); wait > 0 {
		return nil, tooManyAttempts(wait)
	}
	end, wait := s.payFor(r)
	if wait > 0 {
		s.limiter.cancel(key, src)
		return nil, tooManyAttempts(wait)
	}
	defer end()
	u, err := s.cfg.Chat.Login(r.Context(), name, password)
	switch {
	case err == nil:
		s.limiter.success(key, src)
	case !errors.Is(err, chat.ErrPassword):
		s.limiter.cancel(key, src)
	}
	return u, err
}

// payFor charges an attempt that derives a key to the strangers' share, if it
// comes from an address that nobody has vouched for. A positive wait means
// that the share is used up.
func (s *Server) payFor(r *http.Request) (end func(), wait time.Duration) {
	if !strange(r) {
		return func() {}, 0
	}
	if wait := s.limiter.beginStrange(); wait > 0 {
		return nil, wait
	}
	begin := s.cfg.Now()
	return func() { s.limiter.endStrange(s.cfg.Now().Sub(begin)) }, 0
}

func tooManyAttempts(wait time.Duration) error {
	f := fail(http.StatusTooManyRequests, "too_many_attempts", "too many attempts to log in", "wait as long as Retry-After says")
	f.RetryAfter = wait
	return f
}

func (s *Server) startSession(w http.ResponseWriter, r *http.Request, u User) {
	token, ses := s.sessions.create(u)
	vouch(r)
	s.cfg.Hub.open(ses.id)
	out := map[string]any{"user_id": ses.id, "name": ses.name, "expires": stamp(ses.expires)}
	if originOf(r) == fromPage && r.Header.Get("Origin") != "" {
		// A browser needs no token: scripts then never see one.
		http.SetCookie(w, s.cookie(r, token, int(s.sessions.limit/time.Second)))
	} else {
		out["token"] = token
	}
	writeJSON(w, http.StatusCreated, out)
}

func (s *Server) cookie(r *http.Request, value string, maxAge int) *http.Cookie {
	return &http.Cookie{
		Name: cookieName, Value: value, Path: "/", MaxAge: maxAge,
		HttpOnly: true, Secure: r.TLS != nil, SameSite: http.SameSiteStrictMode,
	}
}

// getSession is GET /v1/session.
func (s *Server) getSession(w http.ResponseWriter, r *http.Request, ses *session) error {
	writeJSON(w, http.StatusOK, map[string]any{"user_id": ses.id, "name": ses.user.Self().Name, "expires": stamp(ses.expires)})
	return nil
}

// logout is DELETE /v1/session.
func (s *Server) logout(w http.ResponseWriter, r *http.Request, ses *session) error {
	s.sessions.end(ses)
	http.SetCookie(w, s.cookie(r, "", -1))
	w.WriteHeader(http.StatusNoContent)
	return nil
}

// lockUser runs when a user's last session has ended.
func (s *Server) lockUser(id identity.UserID) {
	s.cfg.Hub.close(id)
	s.cfg.Chat.Lock(id)
}

// alive reports whether a session that listens still holds, and counts the
// listening as use.
func (t *sessions) alive(s *session) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.byID[s.key] != s || t.now().Sub(s.created) > t.limit {
		return false
	}
	s.used = t.now()
	return true
}
