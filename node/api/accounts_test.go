package api

import (
	"context"
	"crypto/tls"
	"slices"
	"strings"
	"testing"
	"time"

	"outrider/mesh/identity"
	"outrider/node/chat"
)

// fakeAccounts has one good code, "AAAAA", for Bob, and Alice's password.
type fakeAccounts struct {
	newKey   bool
	redeemed int
	guesses  int
	open     time.Duration
	asked    NewCode
}

func (f *fakeAccounts) NewCode(_ context.Context, q NewCode) (Code, error) {
	f.asked = q
	return Code{Code: "AAAAA", Name: q.Name, Expires: aTime}, nil
}

func (f *fakeAccounts) CheckCode(_ context.Context, code string) (CodeInfo, error) {
	f.guesses++
	if code != "AAAAA" {
		return CodeInfo{}, ErrCode
	}
	return CodeInfo{Name: "Bob", NewKey: f.newKey, Expires: aTime, Words: "some words"}, nil
}

func (f *fakeAccounts) Redeem(_ context.Context, code string, _ []byte, newKey bool) (identity.UserID, error) {
	f.guesses++
	switch {
	case code != "AAAAA":
		return identity.UserID{}, ErrCode
	case f.newKey && !newKey:
		return identity.UserID{}, ErrNewKey
	}
	f.redeemed++
	return bob, nil
}

func (f *fakeAccounts) ChangePassword(_ context.Context, _ identity.UserID, old, _ []byte) error {
	if string(old) != "open sesame" {
		return chat.ErrPassword
	}
	return nil
}

func (f *fakeAccounts) RecoverySheet(_ context.Context, user identity.UserID, password []byte) (Sheet, error) {
	if string(password) != "open sesame" {
		return Sheet{}, chat.ErrPassword
	}
	return Sheet{User: user, Name: "Alice", Words: "w w w"}, nil
}

func (f *fakeAccounts) Restore(_ context.Context, words string, _ []byte) (Restored, error) {
	f.guesses++
	if words != "w w w" {
		return Restored{}, ErrWords
	}
	return Restored{User: bob, Content: true}, nil
}

func (f *fakeAccounts) Page(context.Context) (PageInfo, error) {
	return PageInfo{URLs: []string{"https://192.0.2.1:7443/"}, CAName: "n", Fingerprint: "AB", CAURLs: []string{"http://192.0.2.1:7481/"}, CAUntil: aTime}, nil
}

func (f *fakeAccounts) OpenCA(_ context.Context, d time.Duration) error {
	if f.open = d; d == 13*time.Second {
		return ErrConflict
	}
	return nil
}

func accountBench(t *testing.T) (*bench, *fakeAccounts) {
	f := &fakeAccounts{}
	return newBench(t, func(c *Config) { c.Accounts, c.Door, c.Chat = f, f, justSet{c.Chat} }), f
}

// justSet knows Bob by his id too, under whatever password was set.
type justSet struct{ Chat }

func (c justSet) Login(ctx context.Context, name string, password []byte) (User, error) {
	if name == bob.String() {
		name, password = "Bob", []byte("open sesame")
	}
	return c.Chat.Login(ctx, name, password)
}

const (
	redeemBob  = `{"code":"AAAAA","password":"open sesame!"}`
	restoreBob = `{"words":"w w w","password":"open sesame!"}`
	changeHer  = `{"old":"open sesame","password":"open sesame!"}`
	sheetHer   = `{"password":"open sesame"}`
)

// TestP04NoSecretOverPlainHTTP: from another machine no call that carries a
// password, a code or the words of a sheet is looked at without TLS.
func TestP04NoSecretOverPlainHTTP(t *testing.T) {
	for path, body := range map[string]string{
		"/v1/session": goodLogin, "/v1/codes/check": `{"code":"AAAAA"}`, "/v1/codes/redeem": redeemBob, "/v1/password": changeHer,
		"/v1/recovery": sheetHer, "/v1/recovery/restore": restoreBob,
	} {
		b, f := accountBench(t)
		token := b.login("Alice")
		logins := b.chat.logins
		b.page("POST", path, body).at("node.local").with("Origin", "http://node.local").from("192.0.2.7:1").bearer(token).want(403, "tls_required")
		if f.guesses+f.redeemed != 0 || b.chat.logins != logins {
			t.Errorf("%s: the secret was looked at", path)
		}
		over := b.page("POST", path, body).at("node.local").with("Origin", "https://node.local").from("192.0.2.7:1").bearer(token)
		over.TLS = &tls.ConnectionState{}
		if w := over.do(); w.Code == 403 {
			t.Errorf("%s: refused over TLS too: %s", path, w.Body)
		}
	}
}

func TestP04RedeemBeginsASession(t *testing.T) {
	b, f := accountBench(t)
	b.page("POST", "/v1/codes/check", `{"code":"AAAAA"}`).want(200, "")
	w := b.page("POST", "/v1/codes/redeem", redeemBob).want(201, "")
	if f.redeemed != 1 || !strings.Contains(w.Header().Get("Set-Cookie"), cookieName) || strings.Contains(w.Body.String(), "token") {
		t.Errorf("redeemed %d times, %v %s", f.redeemed, w.Header(), w.Body)
	}
	if w := b.socket("POST", "/v1/codes/redeem", redeemBob).want(201, ""); field(t, w, "token") == "" {
		t.Error("a program gets no token")
	}
	f.newKey = true
	b.page("POST", "/v1/codes/redeem", redeemBob).want(409, "new_key")
	b.page("POST", "/v1/codes/redeem", `{"code":"AAAAA","password":"open sesame!","new_key":true}`).want(201, "")
	b.page("POST", "/v1/recovery/restore", restoreBob).want(201, "")
}

func TestP04RedeemEndsSessionsFromBefore(t *testing.T) {
	b, _ := accountBench(t)
	token := b.login("Bob")
	b.page("POST", "/v1/codes/redeem", redeemBob).want(201, "")
	b.socket("GET", "/v1/session", "").bearer(token).want(401, "no_session")
}

func TestP04ChangeKeepsOnlyTheSessionThatAsked(t *testing.T) {
	b, _ := accountBench(t)
	mine, other := b.login("Alice"), b.login("Alice")
	b.socket("POST", "/v1/password", `{"old":"wrong","password":"open sesame!"}`).bearer(mine).want(401, "bad_password")
	b.socket("POST", "/v1/password", changeHer).bearer(mine).want(204, "")
	b.socket("GET", "/v1/session", "").bearer(mine).want(200, "")
	b.socket("GET", "/v1/session", "").bearer(other).want(401, "no_session")
	b.socket("POST", "/v1/password", changeHer).want(401, "no_session")
	b.socket("POST", "/v1/recovery", sheetHer).want(401, "no_session")
	b.socket("POST", "/v1/recovery", sheetHer).bearer(mine).want(200, "")
	b.socket("POST", "/v1/recovery", `{"password":"wrong"}`).bearer(mine).want(401, "bad_password")
}

// TestP04GuessesAreLimited: a source's guesses at codes and sheets slow down
// like those at passwords, and nobody else's.
func TestP04GuessesAreLimited(t *testing.T) {
	for _, c := range []struct{ path, wrong, good, code string }{
		{"/v1/codes/check", `{"code":"BBBBB"}`, `{"code":"AAAAA"}`, "bad_code"},
		{"/v1/codes/redeem", `{"code":"BBBBB","password":"open sesame!"}`, redeemBob, "bad_code"},
		{"/v1/recovery/restore", `{"words":"x","password":"open sesame!"}`, restoreBob, "bad_words"},
	} {
		b, f := accountBench(t)
		over := func(from, body string) req {
			r := b.page("POST", c.path, body).at("node.local").with("Origin", "https://node.local").from(from)
			r.TLS = &tls.ConnectionState{}
			return r
		}
		for range freeAttempts {
			over("192.0.2.7:1", c.wrong).want(401, c.code)
		}
		f.guesses = 0
		if w := over("192.0.2.7:1", c.good).want(429, "too_many_attempts"); w.Header().Get("Retry-After") == "" || f.guesses != 0 {
			t.Errorf("%s: looked at %d times, %v", c.path, f.guesses, w.Header())
		}
		if w := over("192.0.2.8:1", c.good).do(); w.Code >= 400 {
			t.Errorf("%s: another source is held up: %s", c.path, w.Body)
		}
	}
}

func TestP04Limits(t *testing.T) {
	b, f := accountBench(t)
	token := b.login("Alice")
	long := strings.Repeat("x", maxPassword+1)
	for _, c := range []struct{ path, body, code string }{
		{"/v1/codes/redeem", `{"code":"AAAAA","password":"eleven char"}`, "weak_password"},
		{"/v1/codes/redeem", `{"code":"AAAAA","password":"` + long + `"}`, "bad_request"},
		{"/v1/codes/redeem", `{"code":"` + strings.Repeat("A", maxCode+1) + `","password":"open sesame!"}`, "bad_request"},
		{"/v1/codes/check", `{"code":""}`, "bad_request"},
		{"/v1/codes/check", `{"code":"` + strings.Repeat("A", maxCode+1) + `"}`, "bad_request"},
		{"/v1/password", `{"old":"open sesame","password":"eleven char"}`, "weak_password"},
		{"/v1/password", `{"old":"` + long + `","password":"open sesame!"}`, "bad_request"},
		{"/v1/recovery", `{"password":"` + long + `"}`, "bad_request"},
		{"/v1/recovery/restore", `{"words":"` + strings.Repeat("w", maxWords+1) + `","password":"open sesame!"}`, "bad_request"},
		{"/v1/recovery/restore", `{"words":"w w w","password":"eleven char"}`, "weak_password"},
		{"/v1/codes", `{"name":"Bob","admin_password":"a","ttl_s":59}`, "bad_request"},
		{"/v1/codes", `{"name":"Bob","admin_password":"a","ttl_s":86401}`, "bad_request"},
		{"/v1/codes", `{"name":"Bob","admin_password":"a","ttl_s":9223372036854775807}`, "bad_request"},
		{"/v1/codes", `{"name":"Bob"}`, "bad_request"},
		{"/v1/codes", `{"link":"outrider://c/#X"}`, "bad_request"},
		{"/v1/page/ca", `{"for_s":86401}`, "bad_request"},
		{"/v1/page/ca", `{"for_s":-1}`, "bad_request"},
		{"/v1/page/ca", `{}`, "bad_request"},
	} {
		b.socket("POST", c.path, c.body).bearer(token).want(400, c.code)
	}
	if f.redeemed != 0 {
		t.Error("something was spent")
	}
	// Twelve characters are enough, whatever bytes they have.
	b.socket("POST", "/v1/codes/redeem", `{"code":"AAAAA","password":"äöüäöüäöüäöü"}`).want(201, "")
}

func TestP04OperatorsCalls(t *testing.T) {
	b, f := accountBench(t)
	for _, c := range [][3]string{{"POST", "/v1/codes", `{"name":"Bob","admin_password":"a"}`}, {"GET", "/v1/page", ""}, {"POST", "/v1/page/ca", `{"for_s":60}`}} {
		b.page(c[0], c[1], c[2]).want(403, "operator_only")
	}
	b.socket("POST", "/v1/codes", `{"name":"Bob","admin_password":"a","ttl_s":60}`).want(201, "")
	if f.asked.TTL != time.Minute || f.asked.Name != "Bob" {
		t.Errorf("%+v", f.asked)
	}
	if w := b.socket("POST", "/v1/page/ca", `{"for_s":900}`).want(200, ""); f.open != 15*time.Minute || !strings.Contains(w.Body.String(), "7481") {
		t.Errorf("%v %s", f.open, w.Body)
	}
	b.socket("POST", "/v1/page/ca", `{"for_s":13}`).want(409, "exists")
	b.socket("GET", "/v1/page", "").want(200, "")
}

// TestP04CallsAreDocumented: API.md has the calls that only a node with
// accounts and a page serves.
func TestP04CallsAreDocumented(t *testing.T) {
	b, _ := accountBench(t)
	doc := textOf(t, "API.md")
	for _, p := range []string{"/v1/codes", "/v1/codes/check", "/v1/codes/redeem", "/v1/password", "/v1/recovery", "/v1/recovery/restore", "/v1/page", "/v1/page/ca"} {
		if !strings.Contains(doc, p) || !slices.ContainsFunc(b.srv.patterns, func(s string) bool { return strings.HasSuffix(s, " "+p) }) {
			t.Errorf("%s is missing in API.md or in the server", p)
		}
	}
}
