package api

import (
	"errors"
	"mime"
	"net/http/httptest"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"

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

// A name is safe to save a file under and survives its own header.
func FuzzFileName(f *testing.F) {
	for _, s := range []string{"a.txt", "../x", "\x00", "con", "\u202etxt.exe", strings.Repeat("é", 200), "..", "a/b\\c"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		n := SafeFileName(s)
		if n == "" || n == "." || n == ".." || len(n) > chat.MaxFileName || !utf8.ValidString(n) || n[0] == '.' {
			t.Fatalf("%q became %q", s, n)
		}
		if strings.ContainsAny(n, "/\\\x00\r\n\"<>:|?*") || strings.ContainsFunc(n, unicode.IsControl) {
			t.Fatalf("%q became %q", s, n)
		}
		if SafeFileName(n) != n {
			t.Fatalf("%q is not stable: %q", n, SafeFileName(n))
		}
		kind, params, err := mime.ParseMediaType(disposition(s))
		if err != nil || kind != "attachment" || params["filename"] != n {
			t.Fatalf("header of %q reads %q %q, %v", n, kind, params["filename"], err)
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
