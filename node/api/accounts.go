package api

import (
	"context"
	"errors"
	"net/http"
	"time"

	"outrider/mesh/identity"
	"outrider/node/chat"
	"outrider/offline/deeplink"
)

// Accounts is what brings users to their keys on this node when they have no
// password yet, or not any more. Errors wrap chat's, ErrCode or ErrNewKey.
type Accounts interface {
	// NewCode makes a one-time code for a user of this node.
	NewCode(ctx context.Context, q NewCode) (Code, error)
	// CheckCode tells whom a code is for. It spends nothing.
	CheckCode(ctx context.Context, code string) (CodeInfo, error)
	// Redeem spends a code: the user's keys are then under password. A code
	// that makes a new key for a user who has one needs newKey; without it the
	// error wraps ErrNewKey and the code is as good as before.
	Redeem(ctx context.Context, code string, password []byte, newKey bool) (identity.UserID, error)
	// ChangePassword puts a user's keys under another password.
	ChangePassword(ctx context.Context, user identity.UserID, old, password []byte) error
	// RecoverySheet returns the words that bring the user's keys back. It
	// needs the password, since a session does not hold what is on the sheet.
	RecoverySheet(ctx context.Context, user identity.UserID, password []byte) (Sheet, error)
	// Restore puts the keys that the words bring back under password.
	Restore(ctx context.Context, words string, password []byte) (Restored, error)
}

// NewCode asks for a code. The user is certified with the admin's keys of this
// node, or by a join link.
type NewCode struct {
	Name          string
	AdminPassword []byte
	Link          string
	LinkPassword  []byte
	TTL           time.Duration
}

// A Code lets one person set a password, once.
type Code struct {
	Code    string
	Name    string
	NewKey  bool // the user has a key here, which the code replaces
	Expires time.Time
	// Of the page, with the code behind the #: for every machine, empty when no
	// other one reaches it, and for a browser on this one, empty without plain HTTP.
	URL, LocalURL string
}

// CodeInfo says what a code is good for.
type CodeInfo struct {
	Name        string
	NetworkName string
	NewKey      bool
	Expires     time.Time
	Words       string // a password that could be taken
}

// A Sheet is what a user prints and locks away.
type Sheet struct {
	User        identity.UserID
	Name        string
	NetworkName string
	Words       string
}

// Restored is the outcome of Restore.
type Restored struct {
	User    identity.UserID
	Content bool // the messages that are here can be read again
}

var (
	// ErrCode means that a code is wrong, spent or has expired; it does not
	// say which.
	ErrCode = errors.New("api: this code is not good, or not any more")
	// ErrNewKey means that the person must agree to a new key first.
	ErrNewKey = errors.New("api: this code makes a new key")
	// ErrWords means that the words of a recovery sheet are wrong.
	ErrWords = errors.New("api: these words are no recovery sheet of this network")
)

// Limits of codes and passwords.
const (
	MinCodeTTL = time.Minute
	MaxCodeTTL = 24 * time.Hour
	codeTTL    = 15 * time.Minute
	maxCode    = 64   // bytes
	maxWords   = 1024 // bytes
)

// private refuses secrets that crossed a wire in the clear.
func private(r *http.Request) error {
	if originOf(r) == fromPage && r.TLS == nil && !loopback(r) {
		return fail(http.StatusForbidden, "tls_required", "passwords are taken over https only", "use the https address that `outrider page` prints")
	}
	return nil
}

// goodPassword refuses a new password that is too easy to guess, or too long.
func goodPassword(p string) error {
	if err := deeplink.CheckPassword([]byte(p)); err != nil {
		return err
	}
	if len(p) > maxPassword {
		return badRequest("a password must have at most %d bytes", maxPassword)
	}
	return nil
}

// attempt runs one guess at a secret, counted like a login.
func (s *Server) attempt(r *http.Request, what string, guess func() error) error {
	src := source(r)
	what += " from " + src // a stranger who guesses delays nobody else
	if wait := s.limiter.begin(what, src); wait > 0 {
		f := fail(http.StatusTooManyRequests, "too_many_attempts", "too many attempts", "wait as long as Retry-After says")
		f.RetryAfter = wait
		return f
	}
	end, wait := s.payFor(r)
	if wait > 0 {
		s.limiter.cancel(what, src)
		return tooManyAttempts(wait)
	}
	defer end()
	err := guess()
	switch {
	case err == nil:
		s.limiter.success(what, src)
	case !errors.Is(err, chat.ErrPassword) && !errors.Is(err, ErrCode) && !errors.Is(err, ErrWords):
		s.limiter.cancel(what, src)
	}
	return err
}

// newCode is POST /v1/codes.
func (s *Server) newCode(w http.ResponseWriter, r *http.Request) error {
	var in struct {
		Name          string `json:"name"`
		AdminPassword string `json:"admin_password"`
		Link          string `json:"link"`
		LinkPassword  string `json:"link_password"`
		TTLS          *int64 `json:"ttl_s"`
	}
	if err := decodeJSON(r, &in); err != nil {
		return err
	}
	q := NewCode{Name: in.Name, AdminPassword: []byte(in.AdminPassword), Link: in.Link, LinkPassword: []byte(in.LinkPassword), TTL: codeTTL}
	if in.TTLS != nil {
		q.TTL = time.Duration(min(*in.TTLS, int64(MaxCodeTTL/time.Second)+1)) * time.Second
	}
	switch {
	case q.TTL < MinCodeTTL || q.TTL > MaxCodeTTL:
		return badRequest("ttl_s must be %d to %d", int64(MinCodeTTL/time.Second), int64(MaxCodeTTL/time.Second))
	case len(in.Name) > maxName || len(in.Link) > 16<<10 || len(in.AdminPassword) > maxPassword || len(in.LinkPassword) > maxPassword:
		return badRequest("name, link or password is too long")
	case in.Link == "" && (in.Name == "" || in.AdminPassword == ""):
		return badRequest("name and admin_password are needed, or link and link_password")
	case in.Link != "" && in.LinkPassword == "":
		return badRequest("link_password is needed")
	}
	c, err := s.cfg.Accounts.NewCode(r.Context(), q)
	if err != nil {
		return err
	}
	writeJSON(w, http.StatusCreated, map[string]any{"code": c.Code, "name": c.Name, "new_key": c.NewKey, "expires": stamp(c.Expires), "url": c.URL, "local_url": c.LocalURL})
	return nil
}

// checkCode is POST /v1/codes/check.
func (s *Server) checkCode(w http.ResponseWriter, r *http.Request) error {
	var in struct {
		Code string `json:"code"`
	}
	if err := s.secretBody(r, &in); err != nil {
		return err
	}
	if in.Code == "" || len(in.Code) > maxCode {
		return badRequest("code must have 1 to %d bytes", maxCode)
	}
	var c CodeInfo
	err := s.attempt(r, "a code", func() (err error) { c, err = s.cfg.Accounts.CheckCode(r.Context(), in.Code); return err })
	if err != nil {
		return err
	}
	writeJSON(w, http.StatusOK, map[string]any{
		"name": c.Name, "network": c.NetworkName, "new_key": c.NewKey, "expires": stamp(c.Expires), "words": c.Words,
	})
	return nil
}

// secretBody reads a body that holds a secret, from a page that may send one.
func (s *Server) secretBody(r *http.Request, in any) error {
	if err := requireIntent(r, false); err != nil {
		return err
	}
	if err := private(r); err != nil {
		return err
	}
	return decodeJSON(r, in)
}

// redeem is POST /v1/codes/redeem.
func (s *Server) redeem(w http.ResponseWriter, r *http.Request) error {
	var in struct {
		Code     string `json:"code"`
		Password string `json:"password"`
		NewKey   bool   `json:"new_key"`
	}
	if err := s.secretBody(r, &in); err != nil {
		return err
	}
	if in.Code == "" || len(in.Code) > maxCode {
		return badRequest("code must have 1 to %d bytes", maxCode)
	}
	if err := goodPassword(in.Password); err != nil {
		return err
	}
	var user identity.UserID
	err := s.attempt(r, "a code", func() (err error) {
		user, err = s.cfg.Accounts.Redeem(r.Context(), in.Code, []byte(in.Password), in.NewKey)
		return err
	})
	if err != nil {
		return err
	}
	return s.enter(w, r, user, in.Password)
}

// enter begins the session of a user whose password was just set. Sessions
// from before end.
func (s *Server) enter(w http.ResponseWriter, r *http.Request, user identity.UserID, password string) error {
	s.sessions.endUser(user, nil)
	u, err := s.cfg.Chat.Login(r.Context(), user.String(), []byte(password))
	if err != nil {
		return err
	}
	s.startSession(w, r, u)
	return nil
}

// changePassword is POST /v1/password.
func (s *Server) changePassword(w http.ResponseWriter, r *http.Request, ses *session) error {
	var in struct {
		Old      string `json:"old"`
		Password string `json:"password"`
	}
	if err := s.secretBody(r, &in); err != nil {
		return err
	}
	if in.Old == "" || len(in.Old) > maxPassword {
		return badRequest("old must have 1 to %d bytes", maxPassword)
	}
	if err := goodPassword(in.Password); err != nil {
		return err
	}
	err := s.attempt(r, ses.id.String(), func() error {
		return s.cfg.Accounts.ChangePassword(r.Context(), ses.id, []byte(in.Old), []byte(in.Password))
	})
	if err != nil {
		return err
	}
	s.sessions.endUser(ses.id, ses)
	w.WriteHeader(http.StatusNoContent)
	return nil
}

// recoverySheet is POST /v1/recovery.
func (s *Server) recoverySheet(w http.ResponseWriter, r *http.Request, ses *session) error {
	var in struct {
		Password string `json:"password"`
	}
	if err := s.secretBody(r, &in); err != nil {
		return err
	}
	if in.Password == "" || len(in.Password) > maxPassword {
		return badRequest("password must have 1 to %d bytes", maxPassword)
	}
	var sheet Sheet
	err := s.attempt(r, ses.id.String(), func() (err error) {
		sheet, err = s.cfg.Accounts.RecoverySheet(r.Context(), ses.id, []byte(in.Password))
		return err
	})
	if err != nil {
		return err
	}
	writeJSON(w, http.StatusOK, map[string]any{
		"user_id": sheet.User, "name": sheet.Name, "network": sheet.NetworkName, "words": sheet.Words,
	})
	return nil
}

// restore is POST /v1/recovery/restore.
func (s *Server) restore(w http.ResponseWriter, r *http.Request) error {
	var in struct {
		Words    string `json:"words"`
		Password string `json:"password"`
	}
	if err := s.secretBody(r, &in); err != nil {
		return err
	}
	if in.Words == "" || len(in.Words) > maxWords {
		return badRequest("words must have 1 to %d bytes", maxWords)
	}
	if err := goodPassword(in.Password); err != nil {
		return err
	}
	var done Restored
	err := s.attempt(r, "a recovery sheet", func() (err error) {
		done, err = s.cfg.Accounts.Restore(r.Context(), in.Words, []byte(in.Password))
		return err
	})
	if err != nil {
		return err
	}
	return s.enter(w, r, done.User, in.Password)
}
