package api

import (
	"errors"
	"mime"
	"net/http/httptest"
	"strings"
	"testing"
	"unicode/utf8"

	"outrider/mesh/envelope"
	"outrider/node/chat"
)

// A body is decoded or refused with a 4xx, and what is decoded has each field
// once.
func FuzzParseJSON(f *testing.F) {
	for _, s := range []string{`{"to":"Bob","text":"x"}`, `{}`, `[]`, `{"to":{"to":[[]]}}`, `{"a":1,"A":2}`, "{\"to\":\"\\ud800\"}", `{"ttl_s":1e99}`} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		var in struct {
			draftJSON
			Text string `json:"text"`
		}
		err := parseJSON(b, &in)
		var fl *failure
		if err != nil && (!errors.As(err, &fl) || fl.Status != 400) {
			t.Errorf("%q: %v", b, err)
		}
		if err == nil && (!utf8.ValidString(in.Text) || !utf8.ValidString(in.To)) {
			t.Errorf("%q yields text that is not UTF-8", b)
		}
	})
}

// Whatever a peer calls a file, the header is one line, and names a file that
// is safe to save.
func FuzzFileName(f *testing.F) {
	for _, s := range []string{"a.txt", "../x", "\x00", "con", "\u202etxt.exe", strings.Repeat("é", 120), "..", "a/b\\c", "%41\"; x=y"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		h := disposition(s)
		kind, params, err := mime.ParseMediaType(h)
		if err != nil || kind != "attachment" || len(params) != 1 || params["filename"] != envelope.SafeName(s) {
			t.Fatalf("header of %q reads %q %q, %v", s, kind, params, err)
		}
		if n := params["filename"]; strings.ContainsAny(n, "/\\\x00\r\n\"<>:|?*") || n[0] == '.' || len(n) > chat.MaxFileName {
			t.Fatalf("%q became %q", s, n)
		}
		if strings.ContainsFunc(h, func(r rune) bool { return r < ' ' || r > '~' }) {
			t.Fatalf("the header is %q", h)
		}
	})
}

func FuzzEventPosition(f *testing.F) {
	h := NewHub()
	f.Add(h.epoch + "-5")
	f.Add("x-1")
	f.Fuzz(func(t *testing.T, id string) {
		r := newRing()
		r.add("a", nil)
		if seq, ok := h.position(id); ok {
			r.after(seq)
		}
	})
}

// No path, host or origin makes the server fail or lets a stranger read.
func FuzzStranger(f *testing.F) {
	f.Add("GET", "/v1/users", "localhost", "http://localhost")
	f.Add("POST", "/v1/messages/../x", "127.0.0.1:1", "null")
	f.Add("PUT", "//v1//", "[::1", "http://[::1")
	f.Fuzz(func(t *testing.T, method, path, host, origin string) {
		b := newBench(t)
		r := httptest.NewRequest("GET", "/", nil)
		r.Method, r.URL.Path, r.Host = method, path, host
		r.Header.Set("Origin", origin)
		r.RemoteAddr = "192.0.2.1:5"
		w := httptest.NewRecorder()
		b.h.ServeHTTP(w, r)
		if w.Code >= 500 || w.Code == 200 && isAPI(path) {
			t.Errorf("%s %q from %q at %q: %d %s", method, path, origin, host, w.Code, w.Body)
		}
	})
}
