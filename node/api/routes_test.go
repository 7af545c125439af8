package api

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"outrider/mesh/bundle"
	"outrider/node/chat"
)

func field(t *testing.T, w *httptest.ResponseRecorder, path ...string) string {
	t.Helper()
	var v any
	if err := json.Unmarshal(w.Body.Bytes(), &v); err != nil {
		t.Fatalf("answer is no JSON: %v: %s", err, w.Body)
	}
	for _, p := range path {
		m, ok := v.(map[string]any)
		if !ok {
			t.Fatalf("answer has no %v: %s", path, w.Body)
		}
		v = m[p]
	}
	if s, ok := v.(string); ok {
		return s
	}
	return fmt.Sprint(v)
}

var (
	msg7  = chat.MessageID{7}.String()
	conv9 = chat.ConversationID{9}.String()
)

// every call there is, with what makes it work.
var calls = []struct {
	method, path, body string
	status             int
	who                string // any, user, operator, both
}{
	{"GET", "/v1/status", "", 200, "any"},
	{"GET", "/v1/peers", "", 200, "both"},
	{"GET", "/v1/links", "", 200, "both"},
	{"GET", "/v1/contacts", "", 200, "both"},
	{"POST", "/v1/links/" + nodeB.String() + "/up", "", 200, "operator"},
	{"POST", "/v1/links/" + nodeB.String() + "/down", "{}", 200, "operator"},
	{"GET", "/v1/session", "", 200, "user"},
	{"GET", "/v1/users", "", 200, "user"},
	{"POST", "/v1/users/" + bob.String() + "/key", `{"fingerprint":"12345","verified":true}`, 200, "user"},
	{"GET", "/v1/conversations", "", 200, "user"},
	{"GET", "/v1/conversations/" + conv9 + "/messages?limit=10", "", 200, "user"},
	{"POST", "/v1/messages", `{"to":"Bob","text":"hi"}`, 201, "user"},
	{"GET", "/v1/messages/" + msg7, "", 200, "user"},
	{"GET", "/v1/messages/" + msg7 + "/why", "", 200, "user"},
	{"POST", "/v1/messages/" + msg7 + "/retry", "", 200, "user"},
	{"POST", "/v1/messages/" + msg7 + "/recall", "", 200, "user"},
	{"POST", "/v1/messages/" + msg7 + "/read", "", 200, "user"},
	{"POST", "/v1/messages/" + msg7 + "/dismiss", "", 200, "user"},
	{"POST", "/v1/files?to=Bob&name=a.txt", "bytes", 201, "user"},
	{"GET", "/v1/files?limit=10", "", 200, "user"},
	{"GET", "/v1/files/" + msg7, "", 200, "user"},
	{"POST", "/v1/locations", `{"to":"Bob","lat":1.5,"lon":-2.5}`, 201, "user"},
	{"GET", "/v1/locations", "", 200, "user"},
	{"GET", "/v1/failures", "", 200, "user"},
	{"GET", "/v1/archive", "", 200, "user"},
	{"POST", "/v1/bundles?tag=" + someT.String(), "payload", 201, "operator"},
	{"GET", "/v1/network", "", 200, "operator"},
	{"POST", "/v1/network/users", `{"name":"Carol","admin_password":"a"}`, 201, "operator"},
	{"POST", "/v1/network/join", `{"link":"outrider://c/#X","password":"p","user_password":"open sesame!"}`, 201, "operator"},
	{"POST", "/v1/network/revocations", `{"kind":"user","who":"bravo","admin_password":"p"}`, 201, "operator"},
	{"GET", "/v1/network/enrolments", ``, 200, "operator"},
	{"POST", "/v1/network/enrolments/accept", `{"who":"bravo","admin_password":"p"}`, 201, "operator"},
	{"POST", "/v1/network/enrolments/refuse", `{"who":"bravo","admin_password":"p"}`, 201, "operator"},
	{"POST", "/v1/network/renew", `{"admin_password":"p"}`, 201, "operator"},
	{"POST", "/v1/network/admin/unlock", `{"admin_password":"p"}`, 200, "operator"},
	{"POST", "/v1/network/admin/lock", `{}`, 200, "operator"},
	{"DELETE", "/v1/session", "", 204, "user"},
}

func TestEveryCall(t *testing.T) {
	for _, c := range calls {
		t.Run(c.method+" "+c.path, func(t *testing.T) {
			b := newBench(t)
			token := b.login("Alice")
			stranger := b.page(c.method, c.path, c.body).from("192.0.2.7:1")
			switch c.who {
			case "any":
				b.page(c.method, c.path, c.body).want(c.status, "")
				b.socket(c.method, c.path, c.body).want(c.status, "")
				stranger.want(401, "no_session")
				b.page(c.method, c.path, c.body).from("192.0.2.7:1").cookie(token).want(c.status, "")
			case "user":
				stranger.want(401, "no_session")
				b.page(c.method, c.path, c.body).want(401, "no_session")
				b.socket(c.method, c.path, c.body).want(401, "no_session")
				if c.method != "DELETE" { // it works only once
					b.socket(c.method, c.path, c.body).bearer(token).want(c.status, "")
				}
				b.page(c.method, c.path, c.body).cookie(token).want(c.status, "")
			case "both":
				stranger.want(401, "no_session")
				b.socket(c.method, c.path, c.body).want(c.status, "")
				b.page(c.method, c.path, c.body).cookie(token).want(c.status, "")
			case "operator":
				b.page(c.method, c.path, c.body).want(403, "operator_only")
				b.page(c.method, c.path, c.body).cookie(token).want(403, "operator_only")
				b.socket(c.method, c.path, c.body).want(c.status, "")
			}
		})
	}
}

// Every route of the server is in the table above, so that none is untested.
func TestEveryRouteIsInTheTable(t *testing.T) {
	b := newBench(t)
	routes := b.srv.routes()
	seen := make(map[string]bool)
	for _, c := range calls {
		_, pattern := routes.Handler(b.socket(c.method, c.path, "").Request)
		if pattern == "" {
			t.Errorf("%s %s reaches no route", c.method, c.path)
		}
		seen[pattern] = true
	}
	for _, p := range []string{"POST /v1/session", "GET /v1/events", "GET /v1/bundles/arrived"} { // have tests of their own
		seen[p] = true
	}
	if len(seen) != len(b.srv.patterns) {
		t.Errorf("%d routes are tested, there are %d", len(seen), len(b.srv.patterns))
	}
}

func TestWhatCallsPassOn(t *testing.T) {
	b := newBench(t)
	token, u := b.login("Alice"), b.chat.users["Alice"]
	b.socket("POST", "/v1/messages", `{"to":"Bob","text":"h\u00e9","precedence":"flash","ttl_s":3600,"burn_s":30}`).bearer(token).want(201, "")
	if want := (chat.Draft{To: bob, Text: "hé", Precedence: bundle.Flash, TTL: time.Hour, Burn: 30 * time.Second}); u.draft != want {
		t.Errorf("draft %+v, want %+v", u.draft, want)
	}
	b.socket("POST", "/v1/files?to="+bob.String()+"&name=%2e%2e%2fx.png&ttl_s=60", "PNG").with("Content-Type", "image/png; q=1").bearer(token).want(201, "")
	if want := (chat.FileDraft{To: bob, Name: "../x.png", MediaType: "image/png", TTL: time.Minute}); u.file != want || string(u.body) != "PNG" {
		t.Errorf("file %+v with %q, want %+v", u.file, u.body, want)
	}
	b.socket("POST", "/v1/locations", `{"to":"Bob","lat":0,"lon":-180,"accuracy_m":4.2,"note":"n","live":true}`).bearer(token).want(201, "")
	if want := (chat.Location{Lon: -180, AccuracyM: 5, Note: "n", Live: true}); u.loc.Location != want {
		t.Errorf("location %+v, want %+v", u.loc.Location, want)
	}
	b.socket("GET", "/v1/conversations/"+conv9+"/messages?before="+msg7, "").bearer(token).want(200, "")
	if u.asked != (chat.MessageID{7}) || u.limit != 50 {
		t.Errorf("asked for %d before %v", u.limit, u.asked)
	}
	b.socket("POST", "/v1/bundles?tag="+someT.String()+"&precedence=immediate&lifetime_min=5", "pay").want(201, "")
	if r := b.node.raw; r.Tag != someT || r.Precedence != bundle.Immediate || r.Lifetime != 5*time.Minute || string(r.Payload) != "pay" {
		t.Errorf("raw bundle %+v", r)
	}
	b.socket("POST", "/v1/network/users", `{"name":"Dora","ttl_s":90,"roles":["user"],"here":true,"password":"open sesame!","admin_password":"a"}`).want(201, "")
	if a := b.node.added; a.Name != "Dora" || a.TTL != 90*time.Second || !a.Here || string(a.Password) != "open sesame!" || len(a.Roles) != 1 {
		t.Errorf("new user %+v", a)
	}
	b.socket("POST", "/v1/links/"+nodeB.String()+"/down", "").want(200, "")
	if !b.node.blocked[nodeB] {
		t.Error("the link was not shut")
	}
}

func TestMessageForm(t *testing.T) {
	b := newBench(t)
	w := b.socket("GET", "/v1/messages/"+msg7, "").bearer(b.login("Alice")).want(200, "")
	want := map[string]string{
		"id": msg7, "conversation": conv9, "type": "text", "text": "hello", "precedence": "priority", "state": "queued",
		"sent": "2026-03-04T05:06:07.008Z", "expires": "2026-03-04T06:06:07.008Z", "outgoing": "true",
		"reason_code": "no_contact", "reason": "no neighbour", "hint": "wait",
	}
	for k, v := range want {
		if got := field(t, w, k); got != v {
			t.Errorf("%s is %q, want %q", k, got, v)
		}
	}
	if got := field(t, w, "delivered", "m") + field(t, w, "delivered", "n") + field(t, w, "to", "name"); got != "10Bob" {
		t.Errorf("delivered and to read %q", got)
	}
	if s := w.Body.String(); strings.Contains(s, "hops") || strings.Contains(s, "received") || strings.Contains(s, `"file"`) {
		t.Errorf("fields that do not apply are there: %s", s)
	}
}

func TestStatusForm(t *testing.T) {
	b := newBench(t)
	w := b.socket("GET", "/v1/status", "").want(200, "")
	for path, want := range map[string]string{
		"node": nodeA.String(), "version": "v0", "api": "1", "uptime_s": "90", "contacts": "2",
		"network.name": "eagle", "store.bundles": "3", "store.limit_bytes": "1000",
		"banner.state": "contact", "banner.core_last": "2026-03-04T05:06:07.008Z",
	} {
		if got := field(t, w, strings.Split(path, ".")...); got != want {
			t.Errorf("%s is %q, want %q", path, got, want)
		}
	}
	if !strings.Contains(w.Body.String(), `"waiting":3`) {
		t.Error("the operator does not see that mail waits for Bob")
	}
	if strings.Contains(b.page("GET", "/v1/status", "").want(200, "").Body.String(), "Alice") {
		t.Error("the login screen lists users")
	}
}

func TestBadRequests(t *testing.T) {
	long := strings.Repeat("x", maxName+1)
	for name, c := range map[string]struct {
		method, path, body string
		status             int
		code               string
	}{
		"unknown field":          {"POST", "/v1/messages", `{"to":"Bob","text":"x","tex":"y"}`, 400, "bad_request"},
		"field twice":            {"POST", "/v1/messages", `{"to":"Bob","to":"Eve","text":"x"}`, 400, "bad_request"},
		"field twice, by case":   {"POST", "/v1/messages", `{"to":"Bob","To":"Eve","text":"x"}`, 400, "bad_request"},
		"two objects":            {"POST", "/v1/messages", `{"to":"Bob","text":"x"}{}`, 400, "bad_request"},
		"array":                  {"POST", "/v1/messages", `[]`, 400, "bad_request"},
		"null":                   {"POST", "/v1/messages", `null`, 400, "bad_request"},
		"cut":                    {"POST", "/v1/messages", `{"to":"Bob"`, 400, "bad_request"},
		"wrong type":             {"POST", "/v1/messages", `{"to":5,"text":"x"}`, 400, "bad_request"},
		"not UTF-8":              {"POST", "/v1/messages", "{\"to\":\"Bob\",\"text\":\"\xff\"}", 400, "bad_request"},
		"deep":                   {"POST", "/v1/messages", `{"to":` + strings.Repeat("[", 5000) + strings.Repeat("]", 5000) + `}`, 400, "bad_request"},
		"no recipient":           {"POST", "/v1/messages", `{"text":"x"}`, 400, "bad_request"},
		"long recipient":         {"POST", "/v1/messages", `{"to":"` + long + `","text":"x"}`, 400, "bad_request"},
		"unknown recipient":      {"POST", "/v1/messages", `{"to":"Mallory","text":"x"}`, 404, "not_found"},
		"precedence":             {"POST", "/v1/messages", `{"to":"Bob","text":"x","precedence":"urgent"}`, 400, "bad_request"},
		"ttl too short":          {"POST", "/v1/messages", `{"to":"Bob","text":"x","ttl_s":59}`, 400, "bad_request"},
		"ttl too long":           {"POST", "/v1/messages", `{"to":"Bob","text":"x","ttl_s":31622401}`, 400, "bad_request"},
		"ttl fraction":           {"POST", "/v1/messages", `{"to":"Bob","text":"x","ttl_s":1e400}`, 400, "bad_request"},
		"burn negative":          {"POST", "/v1/messages", `{"to":"Bob","text":"x","burn_s":-1}`, 400, "bad_request"},
		"body too large":         {"POST", "/v1/messages", `{"to":"Bob","text":"` + strings.Repeat("x", MaxJSON) + `"}`, 413, "too_large"},
		"message id":             {"GET", "/v1/messages/..%2f..%2fetc", "", 400, "bad_request"},
		"message unknown":        {"GET", "/v1/messages/" + (chat.MessageID{8}).String(), "", 404, "not_found"},
		"conversation id":        {"GET", "/v1/conversations/x/messages", "", 400, "bad_request"},
		"conversation unknown":   {"GET", "/v1/conversations/" + (chat.ConversationID{1}).String() + "/messages", "", 404, "not_found"},
		"limit 0":                {"GET", "/v1/conversations/" + conv9 + "/messages?limit=0", "", 400, "bad_request"},
		"limit one past":         {"GET", "/v1/conversations/" + conv9 + "/messages?limit=201", "", 400, "bad_request"},
		"limit huge":             {"GET", "/v1/conversations/" + conv9 + "/messages?limit=99999999999999999999", "", 400, "bad_request"},
		"before":                 {"GET", "/v1/conversations/" + conv9 + "/messages?before=x", "", 400, "bad_request"},
		"query unknown":          {"GET", "/v1/conversations/" + conv9 + "/messages?offset=3", "", 400, "bad_request"},
		"query twice":            {"GET", "/v1/conversations/" + conv9 + "/messages?limit=3&limit=4", "", 400, "bad_request"},
		"query malformed":        {"GET", "/v1/conversations/" + conv9 + "/messages?limit=%zz", "", 400, "bad_request"},
		"action with body":       {"POST", "/v1/messages/" + msg7 + "/recall", `{"all":true}`, 400, "bad_request"},
		"file without recipient": {"POST", "/v1/files?name=x", "b", 400, "bad_request"},
		"file query":             {"POST", "/v1/files?to=Bob&name=x&path=/etc", "b", 400, "bad_request"},
		"file name not UTF-8":    {"POST", "/v1/files?to=Bob&name=%ff", "b", 400, "bad_request"},
		"file ttl":               {"POST", "/v1/files?to=Bob&name=x&ttl_s=soon", "b", 400, "bad_request"},
		"file not complete":      {"GET", "/v1/files/" + (chat.MessageID{8}).String(), "", 409, "not_complete"},
		"latitude":               {"POST", "/v1/locations", `{"to":"Bob","lat":90.0001,"lon":0}`, 400, "bad_request"},
		"longitude":              {"POST", "/v1/locations", `{"to":"Bob","lat":0,"lon":-180.0001}`, 400, "bad_request"},
		"no longitude":           {"POST", "/v1/locations", `{"to":"Bob","lat":0}`, 400, "bad_request"},
		"accuracy":               {"POST", "/v1/locations", `{"to":"Bob","lat":0,"lon":0,"accuracy_m":-1}`, 400, "bad_request"},
		"no such path":           {"GET", "/v1/nothing", "", 404, "not_found"},
		"wrong method":           {"DELETE", "/v1/messages", "", 405, "method_not_allowed"},
		"node id":                {"POST", "/v1/links/x/up", "", 400, "bad_request"},
		"tag":                    {"POST", "/v1/bundles?tag=zz", "p", 400, "bad_request"},
		"bundle empty":           {"POST", "/v1/bundles?tag=" + someT.String(), "", 400, "bad_request"},
		"bundle too large":       {"POST", "/v1/bundles?tag=" + someT.String(), strings.Repeat("x", bundle.MaxPayload+1), 413, "too_large"},
		"bundle lifetime":        {"POST", "/v1/bundles?lifetime_min=0&tag=" + someT.String(), "p", 400, "bad_request"},
		"bundle lifetime long":   {"POST", "/v1/bundles?lifetime_min=527041&tag=" + someT.String(), "p", 400, "bad_request"},
		"arrived tag":            {"GET", "/v1/bundles/arrived?tag=1", "", 400, "bad_request"},
		"user without name":      {"POST", "/v1/network/users", `{}`, 400, "bad_request"},
		"user link too long":     {"POST", "/v1/network/users", `{"name":"x","ttl_s":2592001}`, 400, "bad_request"},
		"user link too short":    {"POST", "/v1/network/users", `{"name":"x","ttl_s":59}`, 400, "bad_request"},
		"user here, no password": {"POST", "/v1/network/users", `{"name":"x","here":true}`, 400, "bad_request"},
		"user roles":             {"POST", "/v1/network/users", `{"name":"x","roles":["1","2","3","4","5","6","7","8","9"]}`, 400, "bad_request"},
		"user, no admin":         {"POST", "/v1/network/users", `{"name":"x"}`, 400, "bad_request"},
		"user, four addresses":   {"POST", "/v1/network/users", `{"name":"x","admin_password":"a","addrs":["1","2","3","4"]}`, 400, "bad_request"},
		"join, weak password":    {"POST", "/v1/network/join", `{"link":"outrider://c/#X","password":"p","user_password":"eleven char"}`, 400, "weak_password"},
		"user, weak password":    {"POST", "/v1/network/users", `{"name":"Dora","here":true,"password":"eleven char","admin_password":"a"}`, 400, "weak_password"},
		"join, no new password":  {"POST", "/v1/network/join", `{"link":"x","password":"p"}`, 400, "bad_request"},
		"join without password":  {"POST", "/v1/network/join", `{"link":"x"}`, 400, "bad_request"},
		"join long link":         {"POST", "/v1/network/join", `{"link":"` + strings.Repeat("x", 16<<10+1) + `","password":"p"}`, 400, "bad_request"},
		"join bad link":          {"POST", "/v1/network/join", `{"link":"x","password":"p","user_password":"open sesame!"}`, 422, "bad_link"},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBench(t)
			w := b.socket(c.method, c.path, c.body).bearer(b.login("Alice")).want(c.status, c.code)
			if field(t, w, "error", "message") == "" {
				t.Error("the error says nothing")
			}
		})
	}
}

func TestLimitsAreReached(t *testing.T) {
	b := newBench(t, func(c *Config) { c.MaxFile = 10 })
	token := b.login("Alice")
	full := `{"to":"Bob","text":"` + strings.Repeat("x", MaxJSON-len(`{"to":"Bob","text":""}`)) + `"}`
	b.socket("POST", "/v1/messages", full).bearer(token).want(201, "")
	b.socket("POST", "/v1/bundles?lifetime_min=527040&tag="+someT.String(), strings.Repeat("x", bundle.MaxPayload)).want(201, "")
	b.socket("GET", "/v1/conversations/"+conv9+"/messages?limit=200", "").bearer(token).want(200, "")
	b.socket("POST", "/v1/messages", `{"to":"Bob","text":"x","ttl_s":60}`).bearer(token).want(201, "")
	b.socket("POST", "/v1/locations", `{"to":"Bob","lat":-90,"lon":180,"accuracy_m":1e7}`).bearer(token).want(201, "")
	b.socket("POST", "/v1/files?to=Bob&name=x", "0123456789").bearer(token).want(201, "")
	b.socket("POST", "/v1/files?to=Bob&name=x", "0123456789a").bearer(token).want(413, "too_large")
	r := b.socket("POST", "/v1/files?to=Bob&name=x", "0123456789a").bearer(token)
	r.ContentLength = -1 // as with chunked encoding: the length is not announced
	r.want(413, "too_large")
}

func TestContentTypeMustBeJSON(t *testing.T) {
	b := newBench(t)
	token := b.login("Alice")
	for _, ct := range []string{"", "text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x", "application/json/x", "text/json"} {
		b.page("POST", "/v1/messages", `{"to":"Bob","text":"x"}`).cookie(token).with("Content-Type", ct).want(415, "bad_content_type")
	}
	b.page("POST", "/v1/messages", `{"to":"Bob","text":"x"}`).cookie(token).with("Content-Type", "application/json; charset=utf-8").want(201, "")
}

func TestErrorsOfTheParts(t *testing.T) {
	b := newBench(t)
	token, u := b.login("Alice"), b.chat.users["Alice"]
	for err, want := range map[error]struct {
		status int
		code   string
	}{
		chat.ErrFull:                             {507, "store_full"},
		chat.ErrTooMany:                          {507, "too_many_waiting"},
		fmt.Errorf("chat: x: %w", chat.ErrGone):  {410, "gone"},
		fmt.Errorf("chat: x: %w", chat.ErrState): {409, "wrong_state"},
		chat.ErrInvalid:                          {400, "bad_request"},
		io.ErrUnexpectedEOF:                      {500, "internal"},
	} {
		u.fail(err)
		w := b.socket("POST", "/v1/messages", `{"to":"Bob","text":"x"}`).bearer(token).want(want.status, want.code)
		if want.status == 500 && strings.Contains(w.Body.String(), err.Error()) {
			t.Error("an internal error is shown to the client")
		}
	}
	u.fail(chat.ErrLocked)
	b.socket("GET", "/v1/users", "").bearer(token).want(401, "locked")
	u.fail(nil)
	b.socket("GET", "/v1/users", "").bearer(token).want(401, "no_session") // a locked user's session is over
	b.node.err = fmt.Errorf("x: %w", ErrNoNetwork)
	if w := b.socket("GET", "/v1/network", "").want(409, "no_network"); !strings.Contains(field(t, w, "error", "hint"), "outrider network create") {
		t.Error("the hint does not say what to type")
	}
	b.node.err = fmt.Errorf("user Carol: %w", ErrConflict)
	b.socket("POST", "/v1/network/users", `{"name":"Carol","admin_password":"a"}`).want(409, "exists")
	if w := b.socket("POST", "/v1/network/join", `{"link":"y","password":"p","user_password":"open sesame!"}`).want(422, "bad_link"); field(t, w, "error", "hint") != "copy it again, whole" {
		t.Errorf("the hint of the part is lost: %s", w.Body)
	}
}

func TestPartsThatAreMissing(t *testing.T) {
	b := newBench(t, func(c *Config) { c.Bundles, c.Provision, c.Web = nil, nil, nil })
	b.socket("POST", "/v1/bundles?tag="+someT.String(), "x").want(404, "not_found")
	b.socket("GET", "/v1/network", "").want(404, "not_found")
	b.page("GET", "/", "").want(404, "not_found")
}

func TestPageIsServed(t *testing.T) {
	b := newBench(t)
	if got := b.page("GET", "/a/b.mjs", "").want(200, "").Body.String(); got != "page /a/b.mjs" {
		t.Errorf("the page's handler answered %q", got)
	}
	b.page("GET", "/", "").with("Sec-Fetch-Site", "cross-site").without("Origin").want(200, "") // a link on another page may lead here
	b.socket("GET", "/", "").want(404, "not_found")
}

func TestHandlerPanicIsSurvived(t *testing.T) {
	b := newBench(t, func(c *Config) { c.Node = nil })
	b.socket("GET", "/v1/peers", "").want(500, "internal")
}

// The key is handed on with what is to be sent, and a bad one is refused
// before anything is.
func TestIdempotencyKey(t *testing.T) {
	b := newBench(t)
	token := b.login("Alice")
	u := b.chat.users["Alice"]
	posts := map[string]struct {
		path, body string
		once       func() string
	}{
		"text":     {"/v1/messages", `{"to":"Bob","text":"hi"}`, func() string { return u.draft.Once }},
		"file":     {"/v1/files?to=Bob&name=a", "bytes", func() string { return u.file.Once }},
		"location": {"/v1/locations", `{"to":"Bob","lat":1,"lon":2}`, func() string { return u.loc.Once }},
	}
	for name, p := range posts {
		post := func() req { return b.page("POST", p.path, p.body).cookie(token) }
		for _, key := range []string{"x", strings.Repeat("k", chat.MaxOnce)} {
			post().with("Idempotency-Key", key).want(201, "")
			if p.once() != key {
				t.Errorf("%s: chat got the key %q", name, p.once())
			}
		}
		for _, bad := range []string{"", " ", "a b", "ä", "a\x7f", strings.Repeat("k", chat.MaxOnce+1)} {
			post().with("Idempotency-Key", bad).want(400, "bad_request")
		}
		twice := post()
		twice.Header["Idempotency-Key"] = []string{"a", "b"}
		twice.want(400, "bad_request")
		post().want(201, "")
		if p.once() != "" {
			t.Errorf("%s: chat got the key %q of another request", name, p.once())
		}
	}
	u.fail(chat.ErrRepeat)
	b.page("POST", "/v1/messages", `{"to":"Bob","text":"hi"}`).cookie(token).with("Idempotency-Key", "x").want(409, "key_reused")
}

func TestListsOfFilesAndContacts(t *testing.T) {
	b := newBench(t)
	token := b.login("Alice")
	for _, bad := range []string{"?limit=0", "?limit=201", "?limit=x", "?before=zz", "?of=1", "?limit=1&limit=2"} {
		b.page("GET", "/v1/files"+bad, "").cookie(token).want(400, "bad_request")
	}
	w := b.page("GET", "/v1/files?limit=1", "").cookie(token).want(200, "")
	if field(t, w, "more") != "true" {
		t.Errorf("a full page: %s", w.Body)
	}
	w = b.page("GET", "/v1/files?before="+msg7, "").cookie(token).want(200, "")
	if field(t, w, "more") != "false" || field(t, w, "messages") != "[]" {
		t.Errorf("the last page: %s", w.Body)
	}
	w = b.page("GET", "/v1/contacts", "").cookie(token).want(200, "")
	if got := w.Body.String(); field(t, w, "hours") != "24" || !strings.Contains(got, `"end":null`) || !strings.Contains(got, `"times":2`) {
		t.Errorf("contacts: %s", got)
	}
}

// A sentence goes out as English and as code with arguments.
func TestWhyForm(t *testing.T) {
	b := newBench(t)
	w := b.page("GET", "/v1/messages/"+msg7+"/why", "").cookie(b.login("Alice")).want(200, "")
	if field(t, w, "summary") != "The message is sealed on this node and waits for a neighbour to take it." || field(t, w, "summary_said", "code") != "state_queued" ||
		field(t, w, "facts") != "[2 nodes are in contact.]" || field(t, w, "facts_said") != "[map[args:map[n:2] code:contact]]" || field(t, w, "next_said", "code") != "next_queued" {
		t.Errorf("why: %s", w.Body)
	}
	if field(t, w, "todo") != "" || strings.Contains(w.Body.String(), "todo_said") {
		t.Errorf("there is nothing to do: %s", w.Body)
	}
}

func TestTrustInAKey(t *testing.T) {
	b := newBench(t)
	token := b.login("Alice")
	post := func(body string) req {
		return b.page("POST", "/v1/users/"+bob.String()+"/key", body).cookie(token)
	}
	if w := post(`{"fingerprint":"12345","verified":false}`).want(200, ""); field(t, w, "verified") != "false" || field(t, w, "fingerprint") != "12345" {
		t.Errorf("answer %s", w.Body)
	}
	post(`{"fingerprint":"54321","verified":true}`).want(409, "other_key")
	for _, bad := range []string{`{}`, `{"fingerprint":"12345"}`, `{"verified":true}`, `{"fingerprint":1,"verified":true}`} {
		post(bad).want(400, "bad_request")
	}
	b.page("POST", "/v1/users/zz/key", `{"fingerprint":"12345","verified":true}`).cookie(token).want(400, "bad_request")
}
