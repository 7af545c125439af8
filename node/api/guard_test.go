package api

import (
	"net/http"
	"strings"
	"testing"
)

func TestEveryAnswerIsGuarded(t *testing.T) {
	b := newBench(t)
	token := b.login("Alice")
	for name, r := range map[string]req{
		"no page":   b.socket("GET", "/", ""),
		"call":      b.page("GET", "/v1/status", ""),
		"error":     b.page("GET", "/v1/users", ""),
		"not found": b.page("GET", "/v1/x", ""),
		"refused":   b.page("GET", "/", "").at("evil.example"),
		"download":  b.page("GET", "/v1/files/"+msg7, "").cookie(token),
	} {
		h := r.do().Header()
		for k, v := range map[string]string{
			"Content-Security-Policy": "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
			"X-Content-Type-Options":  "nosniff", "Referrer-Policy": "no-referrer", "Cross-Origin-Opener-Policy": "same-origin",
			"Cross-Origin-Resource-Policy": "same-origin", "X-Frame-Options": "DENY",
		} {
			if got := h.Get(k); got != v {
				t.Errorf("%s: %s is %q, want %q", name, k, got, v)
			}
		}
		if h.Get("Access-Control-Allow-Origin") != "" {
			t.Errorf("%s: other origins are let in", name)
		}
	}
	if h := b.page("GET", "/", "").want(200, "").Header(); h.Get("Content-Security-Policy") != "" {
		t.Errorf("the page's headers are its own: %v", h)
	}
	if cc := b.page("GET", "/v1/status", "").do().Header().Get("Cache-Control"); cc != "no-store" {
		t.Errorf("answers may be cached: %q", cc)
	}
}

// DNS rebinding: a page of evil.example whose name now points to this machine
// is same-origin with itself and sends its own name as Host.
func TestForeignHosts(t *testing.T) {
	b := newBench(t, func(c *Config) { c.HostAllowed = func(h string) bool { return h == "192.0.2.9" } })
	token := b.login("Alice")
	for _, host := range []string{"evil.example", "evil.example:7480", "localhost.evil.example", "127.0.0.1.evil.example:7480", "", ":7480", "[::2]:7480", "192.0.2.8", "node.local.evil"} {
		b.page("GET", "/", "").at(host).want(421, "wrong_host")
		b.page("GET", "/v1/users", "").at(host).cookie(token).want(421, "wrong_host")
		b.page("POST", "/v1/session", `{"user":"Alice","password":"open sesame"}`).at(host).with("Origin", "http://"+host).want(421, "wrong_host")
	}
	for _, host := range []string{"localhost", "localhost:1", "LOCALHOST:7480", "127.0.0.1:7480", "[::1]:7480", "::1", "node.local:7443", "NODE.local", "192.0.2.9:7443"} {
		b.page("GET", "/", "").at(host).without("Origin").want(200, "")
	}
}

func TestForeignOrigins(t *testing.T) {
	b := newBench(t)
	token := b.login("Alice")
	for _, o := range []string{
		"http://evil.example", "null", "https://localhost:7480", "http://localhost:7481", "http://localhost", "http://localhost:7480/",
		"http://localhost:7480.evil.example", "http://localhost:7480@evil.example", "file://", "http://", "localhost:7480",
	} {
		b.page("POST", "/v1/messages", `{"to":"Bob","text":"x"}`).cookie(token).with("Origin", o).want(403, "forbidden")
		b.page("GET", "/v1/users", "").cookie(token).with("Origin", o).want(403, "forbidden")
	}
	two := b.page("POST", "/v1/messages", `{"to":"Bob","text":"x"}`).cookie(token)
	two.Header.Add("Origin", "http://evil.example")
	two.want(403, "forbidden")
	for _, site := range []string{"cross-site", "same-site"} {
		b.page("GET", "/v1/users", "").cookie(token).without("Origin").with("Sec-Fetch-Site", site).want(403, "forbidden")
		b.page("POST", "/", "").cookie(token).without("Origin").with("Sec-Fetch-Site", site).want(403, "forbidden")
	}
}

func TestForgedRequestsChangeNothing(t *testing.T) {
	b := newBench(t)
	token := b.login("Alice")
	send := func() req { return b.page("POST", "/v1/messages", `{"to":"Bob","text":"x"}`) }
	send().cookie(token).want(201, "")
	send().cookie(token).without("X-Outrider").want(403, "missing_header")
	send().cookie(token).with("X-Outrider", "0").want(403, "missing_header")
	send().cookie(token).without("Origin").want(403, "missing_origin")
	send().cookie(token).without("Origin").without("Sec-Fetch-Site").want(403, "missing_origin")
	send().bearer(token).without("Origin").without("Sec-Fetch-Site").want(201, "") // a program
	send().bearer(token).without("Origin").without("X-Outrider").want(403, "missing_header")
	send().bearer(token).with("Origin", "http://evil.example").want(403, "forbidden")
	b.page("DELETE", "/v1/session", "").cookie(token).without("X-Outrider").want(403, "missing_header")
	b.page("POST", "/v1/session", `{"user":"Alice","password":"open sesame"}`).without("X-Outrider").want(403, "missing_header") // login CSRF
	b.page("POST", "/v1/files?to=Bob&name=x", "b").cookie(token).without("X-Outrider").want(403, "missing_header")
	b.page("GET", "/v1/users", "").cookie(token).without("X-Outrider").without("Origin").want(200, "") // reading needs no proof
	for _, auth := range []string{"Bearer", "Basic " + token, "bearer x", token} {
		send().cookie(token).with("Authorization", auth).want(401, "no_session") // a wrong header does not fall back to the cookie
	}
}

func TestSocketRefusesBrowsers(t *testing.T) {
	b := newBench(t)
	b.socket("GET", "/v1/peers", "").with("Origin", "http://localhost:7480").want(403, "forbidden")
	b.socket("GET", "/v1/peers", "").with("Sec-Fetch-Site", "same-origin").want(403, "forbidden")
}

func TestCrossOriginPreflightGetsNothing(t *testing.T) {
	b := newBench(t)
	w := b.page("OPTIONS", "/v1/messages", "").with("Origin", "http://evil.example").with("Access-Control-Request-Headers", "x-outrider").want(403, "forbidden")
	for k := range w.Header() {
		if strings.HasPrefix(k, "Access-Control") {
			t.Errorf("preflight is answered with %s", k)
		}
	}
	b.page("OPTIONS", "/v1/messages", "").want(405, "method_not_allowed")
}

func TestSourceOf(t *testing.T) {
	for remote, want := range map[string]string{
		"192.0.2.1:99": "192.0.2.1", "[::ffff:192.0.2.1]:99": "192.0.2.1", "[2001:db8:1:2:3::4]:5": "2001:db8:1:2::/64", "@": "@", "[fe80::1%eth0]:1": "fe80::/64",
	} {
		if got := sourceOf(remote); got != want {
			t.Errorf("source of %s is %s, want %s", remote, got, want)
		}
	}
}

func TestDisposition(t *testing.T) {
	for name, want := range map[string]string{
		"report.pdf":         `attachment; filename="report.pdf"; filename*=UTF-8''report.pdf`,
		"../../etc/passwd":   `attachment; filename="passwd"; filename*=UTF-8''passwd`,
		`C:\x\y.exe`:         `attachment; filename="y.exe"; filename*=UTF-8''y.exe`,
		"a\"; x=\r\nSet: y":  `attachment; filename="a_; x=Set_ y"; filename*=UTF-8''a_%3B%20x%3DSet_%20y`,
		"схема.txt":          `attachment; filename="_____.txt"; filename*=UTF-8''%D1%81%D1%85%D0%B5%D0%BC%D0%B0.txt`,
		"gpj.\u202etxe.exe":  `attachment; filename="gpj.txe.exe"; filename*=UTF-8''gpj.txe.exe`,
		"..":                 `attachment; filename="file"; filename*=UTF-8''file`,
		"":                   `attachment; filename="file"; filename*=UTF-8''file`,
		".bashrc":            `attachment; filename="bashrc"; filename*=UTF-8''bashrc`,
		"con.txt":            `attachment; filename="_con.txt"; filename*=UTF-8''_con.txt`,
		"x\xff\xfe.txt":      `attachment; filename="x_.txt"; filename*=UTF-8''x_.txt`,
		"100%.txt":           `attachment; filename="100_.txt"; filename*=UTF-8''100%25.txt`,
		"trailing. . ":       `attachment; filename="trailing"; filename*=UTF-8''trailing`,
		"\u2028line\u00adx":  `attachment; filename="linex"; filename*=UTF-8''linex`,
		"zero\u200bwidth.go": `attachment; filename="zerowidth.go"; filename*=UTF-8''zerowidth.go`,
	} {
		if got := disposition(name); got != want {
			t.Errorf("%q:\n got %s\nwant %s", name, got, want)
		}
	}
}

func TestDownloadsAreAttachments(t *testing.T) {
	b := newBench(t)
	token := b.login("Alice")
	w := b.page("GET", "/v1/files/"+msg7, "").cookie(token).want(200, "")
	if w.Body.String() != fileContent || w.Header().Get("Content-Length") != "16" {
		t.Errorf("the file is %q", w.Body)
	}
	if ct := w.Header().Get("Content-Type"); ct != "application/octet-stream" {
		t.Errorf("type %q could be shown", ct)
	}
	if cd := w.Header().Get("Content-Disposition"); !strings.HasPrefix(cd, `attachment; filename="_passwd.txt"`) {
		t.Errorf("disposition %q", cd)
	}
	for _, v := range w.Header() {
		if strings.ContainsAny(strings.Join(v, ""), "\r\n") {
			t.Errorf("a header has a line break: %q", v)
		}
	}
	if w := b.page("HEAD", "/v1/files/"+msg7, "").cookie(token).want(200, ""); w.Body.Len() != 0 || w.Header().Get("Content-Length") != "16" {
		t.Error("HEAD is answered wrongly")
	}
	nc := b.page("GET", "/v1/files/"+"baaaaaaaaaaaaaaaaaaaaaaaaa", "").cookie(token).do()
	if nc.Code != http.StatusConflict || field(t, nc, "error", "have") != "3" || field(t, nc, "error", "total") != "9" {
		t.Errorf("an incomplete file is answered %d %s", nc.Code, nc.Body)
	}
}
