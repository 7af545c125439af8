package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
)

// losing is a node that takes messages and loses its first answers.
type losing struct {
	mu    sync.Mutex
	lose  int             // answers still to be lost
	keys  map[string]bool // acts that were taken
	calls int
	sizes []int
	after string // code of the error answered when no answer is lost any more
}

func (l *losing) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.Method == http.MethodGet { // what is asked beside, not an act
		w.WriteHeader(http.StatusNotFound)
		return
	}
	b, _ := io.ReadAll(r.Body)
	l.mu.Lock()
	defer l.mu.Unlock()
	l.calls++
	l.sizes = append(l.sizes, len(b))
	l.keys[r.Header.Get("Idempotency-Key")] = true
	if l.lose > 0 {
		l.lose--
		c, _, err := w.(http.Hijacker).Hijack()
		if err == nil {
			_ = c.Close()
		}
		return
	}
	if l.after != "" {
		w.WriteHeader(http.StatusUnauthorized)
		fmt.Fprintf(w, `{"error":{"code":%q,"message":"x"}}`, l.after)
		return
	}
	w.WriteHeader(http.StatusCreated)
	_ = json.NewEncoder(w).Encode(map[string]string{"id": "abc", "state": "queued"})
}

// seen is what has come so far.
func (l *losing) seen() (calls int, keys map[string]bool, sizes []int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.calls, maps.Clone(l.keys), slices.Clone(l.sizes)
}

// serve makes an app that talks to the node.
func (l *losing) serve(t *testing.T, in io.Reader) (a *app, out *bytes.Buffer) {
	t.Helper()
	l.keys = map[string]bool{}
	dir, err := os.MkdirTemp("", "once") // a socket's path is short
	if err != nil {
		t.Fatal(err)
	}
	ln, err := net.Listen("unix", filepath.Join(dir, socketName))
	if err != nil {
		t.Fatal(err)
	}
	srv := &http.Server{Handler: l}
	done := make(chan struct{})
	go func() { defer close(done); _ = srv.Serve(ln) }()
	t.Cleanup(func() {
		_ = srv.Close()
		<-done
		_ = os.RemoveAll(dir)
	})
	out = new(bytes.Buffer)
	return &app{in: in, out: out, err: io.Discard, env: func(string) string { return "" }, dirFlag: dir}, out
}

func TestLostAnswersAreAskedAgain(t *testing.T) {
	file := filepath.Join(t.TempDir(), "f")
	if err := os.WriteFile(file, bytes.Repeat([]byte("x"), 70_000), 0o600); err != nil {
		t.Fatal(err)
	}
	sends := map[string]func(a *app) error{
		"text": func(a *app) error { return a.send(context.Background(), "bravo", []string{"hello"}, sendFlags{}) },
		"file": func(a *app) error { return a.sendFile(context.Background(), "bravo", file, "", sendFlags{}) },
		"location": func(a *app) error {
			return a.shareLocation(context.Background(), []string{"bravo", "1", "2"}, shareFlags{})
		},
	}
	for name, send := range sends {
		for lose := range sendTries {
			l := &losing{lose: lose}
			a, out := l.serve(t, nil)
			if err := send(a); err != nil || !strings.Contains(out.String(), "abc queued") {
				t.Errorf("%s, %d answers lost: %v, %q", name, lose, err, out)
			}
			_, keys, sizes := l.seen()
			if len(keys) != 1 || keys[""] {
				t.Errorf("%s, %d answers lost: acts %v", name, lose, keys)
			}
			for _, n := range sizes {
				if n != sizes[0] {
					t.Errorf("%s: bodies of %v bytes", name, sizes)
				}
			}
		}
		l := &losing{lose: 1000}
		a, _ := l.serve(t, nil)
		err := send(a)
		calls, keys, _ := l.seen()
		if !coded(err, "unsure") || !strings.Contains(err.(*failure).hint, "--once "+only(keys)) || calls < sendTries {
			t.Errorf("%s, all answers lost: %v after %d calls", name, err, calls)
		}
	}
}

func only(keys map[string]bool) string {
	for k := range keys {
		return k
	}
	return ""
}

// A node that was started anew knows no session: whether it has the message
// is open, and the error says how to find out.
func TestNodeThatBeganAnew(t *testing.T) {
	l := &losing{lose: 1, after: "no_session"}
	a, _ := l.serve(t, nil)
	err := a.send(context.Background(), "bravo", []string{"x"}, sendFlags{once: "mine"})
	if _, keys, _ := l.seen(); !coded(err, "unsure") || !keys["mine"] || len(keys) != 1 {
		t.Errorf("%v, acts %v", err, keys)
	}
	l = &losing{after: "no_session"} // the first answer is an answer
	a, _ = l.serve(t, nil)
	if err := a.send(context.Background(), "bravo", []string{"x"}, sendFlags{}); !coded(err, "no_session") {
		t.Errorf("%v", err)
	}
}

// A pipe cannot be read twice.
func TestLostAnswerToAPipe(t *testing.T) {
	l := &losing{lose: 1}
	a, _ := l.serve(t, strings.NewReader("content"))
	a.in = io.MultiReader(a.in)
	err := a.sendFile(context.Background(), "bravo", "-", "n", sendFlags{once: "mine"})
	if calls, _, _ := l.seen(); !coded(err, "unsure") || calls != 1 {
		t.Errorf("%v after %d calls", err, calls)
	}
}

func TestNameOfAnActIsBounded(t *testing.T) {
	f := sendFlags{once: strings.Repeat("x", onceMax+1)}
	if _, _, err := f.parse(); !coded(err, "usage") {
		t.Errorf("%v", err)
	}
}
