package api

import (
	"encoding/base64"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"
	"time"

	"outrider/mesh/identity"
	"outrider/node/chat"
)

const goodLogin = `{"user":"Alice","password":"open sesame"}`

func cookieOf(t *testing.T, w *httptest.ResponseRecorder) *http.Cookie {
	t.Helper()
	for _, c := range w.Result().Cookies() {
		if c.Name == cookieName {
			return c
		}
	}
	t.Fatalf("no cookie in %v", w.Header())
	return nil
}

func TestBrowserLogin(t *testing.T) {
	b := newBench(t)
	w := b.page("POST", "/v1/session", goodLogin).want(201, "")
	c := cookieOf(t, w)
	if !c.HttpOnly || c.SameSite != http.SameSiteStrictMode || c.Secure || c.Path != "/" || c.Domain != "" {
		t.Errorf("cookie %v", c)
	}
	if raw, err := base64.RawURLEncoding.DecodeString(c.Value); err != nil || len(raw) != 32 {
		t.Errorf("token %q has not 32 bytes", c.Value)
	}
	if strings.Contains(w.Body.String(), c.Value) {
		t.Error("the page's scripts can see the token")
	}
	if field(t, w, "user_id") != alice.String() || field(t, w, "name") != "Alice" {
		t.Errorf("answer %s", w.Body)
	}
	b.page("GET", "/v1/session", "").cookie(c.Value).want(200, "")
	out := b.page("DELETE", "/v1/session", "").cookie(c.Value).want(204, "")
	if gone := cookieOf(t, out); gone.MaxAge >= 0 || gone.Value != "" {
		t.Errorf("the cookie is not removed: %v", gone)
	}
	b.page("GET", "/v1/session", "").cookie(c.Value).want(401, "no_session")
	if b.chat.lockedTimes(alice) != 1 {
		t.Error("the last logout does not lock the user's keys")
	}
}

func TestCookieIsSecureOnTLS(t *testing.T) {
	b := newBench(t)
	r := b.page("POST", "/v1/session", goodLogin).at("node.local:7443").with("Origin", "https://node.local:7443").from("192.0.2.7:1")
	r.TLS = &tlsState
	if c := cookieOf(t, r.want(201, "")); !c.Secure {
		t.Error("the cookie would go over plain HTTP")
	}
}

func TestNoPasswordOverPlainHTTP(t *testing.T) {
	b := newBench(t)
	b.page("POST", "/v1/session", goodLogin).at("node.local").with("Origin", "http://node.local").from("192.0.2.7:1").want(403, "tls_required")
	if b.chat.logins != 0 {
		t.Error("the password was looked at")
	}
}

func TestBadLogins(t *testing.T) {
	for _, body := range []string{
		`{"user":"","password":"x"}`, `{"user":"Alice","password":""}`, `{"user":"Alice"}`, `{}`,
		`{"user":"` + strings.Repeat("x", maxName+1) + `","password":"x"}`,
		`{"user":"Alice","password":"` + strings.Repeat("x", maxPassword+1) + `"}`,
		`{"user":"Alice","password":"open sesame","admin":true}`,
	} {
		b := newBench(t)
		b.page("POST", "/v1/session", body).want(400, "bad_request")
		if b.chat.logins != 0 {
			t.Errorf("%s reached the password check", body)
		}
	}
	b := newBench(t)
	wrong := b.page("POST", "/v1/session", `{"user":"Alice","password":"x"}`).want(401, "bad_password").Body.String()
	nobody := b.page("POST", "/v1/session", `{"user":"Mallory","password":"x"}`).want(401, "bad_password").Body.String()
	if wrong != nobody {
		t.Error("the answer tells whether a name exists")
	}
}

func TestForeignTokens(t *testing.T) {
	b := newBench(t)
	good := b.login("Alice")
	for _, token := range []string{"", "x", good[:42], good + "A", strings.ToUpper(good), strings.Repeat("A", 43), strings.Repeat("\x00", 43)} {
		if token == good {
			continue
		}
		b.socket("GET", "/v1/users", "").bearer(token).want(401, "no_session")
	}
}

func TestSessionsExpire(t *testing.T) {
	b := newBench(t, func(c *Config) { c.SessionIdle, c.SessionLimit = time.Hour, 3*time.Hour })
	idle, busy := b.login("Alice"), b.login("Alice")
	for range 3 {
		b.pass(40 * time.Minute)
		b.socket("GET", "/v1/users", "").bearer(busy).want(200, "")
	}
	b.socket("GET", "/v1/users", "").bearer(idle).want(401, "no_session")
	b.srv.sessions.sweep()
	if b.chat.lockedTimes(alice) != 0 {
		t.Error("locked while a session is open")
	}
	b.pass(61 * time.Minute) // 3 h 1 min: over, whatever its use
	b.socket("GET", "/v1/users", "").bearer(busy).want(401, "no_session")
	b.srv.sessions.sweep()
	if b.chat.lockedTimes(alice) != 1 {
		t.Error("the end of the last session does not lock the user's keys")
	}
}

func TestSessionLimits(t *testing.T) {
	b := newBench(t)
	first := b.login("Alice")
	for range MaxUserSession - 1 {
		b.pass(time.Second)
		b.login("Alice")
	}
	b.socket("GET", "/v1/session", "").bearer(first).want(200, "")
	b.pass(time.Second)
	second := b.login("Alice") // one past: the longest unused goes, which is no longer the first
	b.socket("GET", "/v1/session", "").bearer(first).want(200, "")
	b.socket("GET", "/v1/session", "").bearer(second).want(200, "")
	if n := len(b.srv.sessions.byID); n != MaxUserSession {
		t.Errorf("%d sessions, want %d", n, MaxUserSession)
	}
	for i := range MaxSessions {
		u := &fakeUser{self: chat.Person{ID: identity.UserID{3, byte(i), byte(i >> 8)}}}
		b.pass(time.Second)
		b.srv.sessions.create(u)
	}
	if n := len(b.srv.sessions.byID); n != MaxSessions {
		t.Errorf("%d sessions in all, want %d", n, MaxSessions)
	}
	if b.chat.lockedTimes(alice) != 1 {
		t.Errorf("Alice was pushed out and locked %d times", b.chat.lockedTimes(alice))
	}
}

func TestGuessingIsSlow(t *testing.T) {
	b := newBench(t)
	guess := func(user, from string) req {
		return b.page("POST", "/v1/session", `{"user":"`+user+`","password":"x"}`).from(from)
	}
	for range freeAttempts {
		guess("Alice", "127.0.0.1:1").want(401, "bad_password")
	}
	w := guess("Alice", "127.0.0.1:2").want(429, "too_many_attempts")
	if s, err := strconv.Atoi(w.Header().Get("Retry-After")); err != nil || s < 1 || s > 2 {
		t.Errorf("Retry-After is %q", w.Header().Get("Retry-After"))
	}
	before := b.chat.logins
	guess("ALICE", "127.0.0.9:1").want(429, "too_many_attempts") // the name counts from everywhere, however written
	guess("Bob", "127.0.0.1:1").want(429, "too_many_attempts")   // the source counts for every name
	if b.chat.logins != before {
		t.Error("a refused attempt was checked all the same")
	}
	guess("Bob", "127.0.0.9:1").want(401, "bad_password") // others go on
	b.pass(2 * time.Second)
	b.page("POST", "/v1/session", goodLogin).want(201, "") // the owner gets in soon
}

func TestDelaysGrowAndAreBounded(t *testing.T) {
	now := aTime
	l := newLimiter(func() time.Time { return now })
	var waits []time.Duration
	for range 20 {
		if w := l.begin("Alice", "s"); w > 0 {
			t.Fatalf("refused after the delay was waited for: %v", w)
		}
		w := l.begin("Alice", "other")
		waits = append(waits, w)
		now = now.Add(20 * time.Minute) // more than any delay, less than forgetting
	}
	// Two attempts a round: the fifth is the first half of the third round.
	if waits[1] != 0 || waits[2] != time.Second || waits[3] != 2*time.Second || waits[19] != maxUserDelay {
		t.Errorf("delays of a name: %v", waits)
	}
	l = newLimiter(func() time.Time { return now })
	for i := range 30 {
		now = now.Add(16 * time.Minute)
		l.begin(fmt.Sprint(i), "s")
	}
	if w := l.begin("x", "s"); w != maxSourceDelay {
		t.Errorf("the delay of a source is %v, want %v", w, maxSourceDelay)
	}
	now = now.Add(attemptMemory + time.Second)
	if w := l.begin("y", "s"); w != 0 {
		t.Errorf("nothing is forgotten: %v", w)
	}
}

func TestAttemptsAtOnceCountAtOnce(t *testing.T) {
	l := newLimiter(func() time.Time { return aTime })
	through := 0
	for range 100 { // all begun before one is judged
		if l.begin("Alice", "s") == 0 {
			through++
		}
	}
	if through != freeAttempts {
		t.Errorf("%d attempts at once, want %d", through, freeAttempts)
	}
}

func TestSuccessKeepsTheSourceCounted(t *testing.T) {
	now := aTime
	l := newLimiter(func() time.Time { return now })
	refused := false
	for i := range 40 { // guesses at others, hidden between logins to one's own account
		if l.begin(fmt.Sprint("victim", i), "s") > 0 {
			refused = true
			break
		}
		if l.begin("own", "s") == 0 {
			l.success("own", "s")
		}
	}
	if !refused {
		t.Error("own logins wash guesses away")
	}
}

func TestLimiterIsBounded(t *testing.T) {
	now := aTime
	l := newLimiter(func() time.Time { return now })
	for i := range 3 * maxAttemptKeys {
		now = now.Add(time.Millisecond)
		l.begin(fmt.Sprint(i), fmt.Sprint(i))
	}
	if n := len(l.keys); n > maxAttemptKeys {
		t.Errorf("%d entries, want at most %d", n, maxAttemptKeys)
	}
}

func TestBusyIsNotAFailedAttempt(t *testing.T) {
	b := newBench(t)
	b.chat.err = chat.ErrBusy
	for range 3 * freeAttempts {
		if w := b.page("POST", "/v1/session", goodLogin).want(503, "busy"); w.Header().Get("Retry-After") == "" {
			t.Error("no Retry-After")
		}
	}
	b.chat.err = nil
	b.page("POST", "/v1/session", goodLogin).want(201, "")
}
