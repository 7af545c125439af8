package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"outrider/mesh/bundle"
	"outrider/node/api"
	"outrider/node/chat"
)

func TestReadEvents(t *testing.T) {
	var got []string
	err := readEvents(strings.NewReader(": hi\n\nid: 7\nevent: state\ndata: a\ndata: b\n\nevent: lost\n\ndata:c\nid: 8\nretry: 5\n\ndata: cut"), func(e event) (bool, error) {
		got = append(got, fmt.Sprintf("%s|%s|%q", e.id, e.name, e.data))
		return true, nil
	})
	if want := `7|state|"a\nb" 8|message|"c"`; strings.Join(got, " ") != want || !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("got %v, %v", got, err)
	}
	if err := readEvents(strings.NewReader("data: "+strings.Repeat("x", eventMax)), nil); !errors.Is(err, errEventSize) {
		t.Errorf("a long line: %v", err)
	}
	long := strings.Repeat("data: "+strings.Repeat("x", 1000)+"\n", eventMax/1000+1)
	if err := readEvents(strings.NewReader(long), nil); !errors.Is(err, errEventSize) {
		t.Errorf("a long event: %v", err)
	}
	want := errors.New("enough")
	if err := readEvents(strings.NewReader("data: x\n\n"), func(event) (bool, error) { return true, want }); err != want {
		t.Errorf("the reader's error: %v", err)
	}
}

func FuzzReadEvents(f *testing.F) {
	f.Add([]byte("id: 7\nevent: state\ndata: a\n\n: c\n\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		n := 0
		_ = readEvents(strings.NewReader(string(data)), func(e event) (bool, error) {
			if n++; n > len(data) || len(e.data) > eventMax || e.name == "" {
				t.Fatalf("event %d of %d bytes: %+v", n, len(data), e)
			}
			return true, nil
		})
	})
}

// lines hands on what a program prints, line by line.
type lines chan string

func (l lines) Write(p []byte) (int, error) {
	for _, line := range strings.Split(strings.TrimSuffix(string(p), "\n"), "\n") {
		l <- line
	}
	return len(p), nil
}

func serveFake(t *testing.T, n *fakeNode) (stop func()) {
	t.Helper()
	ln, err := api.ListenSocket(filepath.Join(os.Getenv("OUTRIDER_DIR"), socketName))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- api.New(api.Config{Socket: ln, Chat: n, Node: n, Provision: n, Hub: n.hub}).Run(ctx) }()
	return func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
}

func runWith(t *testing.T, args ...string) (int, string) {
	t.Helper()
	var out strings.Builder
	code := run(t.Context(), args, strings.NewReader("open sesame\n"), &out, &out)
	return code, out.String()
}

func TestWatchFollows(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("OUTRIDER_DIR", dir)
	t.Setenv("XDG_RUNTIME_DIR", filepath.Join(dir, "run"))
	n := &fakeNode{messages: map[chat.MessageID]*chat.Message{}, hub: api.NewHub()}
	stop := serveFake(t, n)
	defer stop()
	if code, out := runWith(t, "login", "alice", "--password-file", "-"); code != 0 {
		t.Fatal(code, out)
	}
	text, asJSON := make(lines, 100), make(lines, 100)
	ended := make(chan int, 2)
	ctx, interrupt := context.WithCancel(t.Context())
	defer interrupt()
	go func() { ended <- run(ctx, []string{"inbox", "watch"}, nil, text, io.Discard) }()
	go func() {
		ended <- run(ctx, []string{"inbox", "watch", "--json", "--count", "2"}, nil, asJSON, io.Discard)
	}()

	// A stream begins when it is opened: send until both have seen one.
	seen := map[string]string{}
	deadline := time.After(time.Minute)
	for i := 0; len(seen) < 2; i++ {
		if _, err := (*fakeUser)(n).keep(chat.Message{Type: chat.TypeText, Text: fmt.Sprintf("word %d", i), Precedence: bundle.Flash}); err != nil {
			t.Fatal(err)
		}
		for next := time.After(20 * time.Millisecond); next != nil; {
			select {
			case l := <-text:
				seen["text"] = l
			case l := <-asJSON:
				seen["json"] = l
			case <-next:
				next = nil
			case <-deadline:
				t.Fatalf("after %d messages only %v", i, seen)
			}
		}
	}
	if !strings.Contains(seen["text"], "alice > bravo  word ") || !strings.Contains(seen["json"], `"event":"message"`) || !strings.Contains(seen["json"], `"text":"word `) {
		t.Errorf("%v", seen)
	}
	banner := chat.Banner{State: chat.BannerAlone}
	n.hub.Update(alice, chat.Update{Kind: chat.UpdateBanner, Banner: &banner})
	if code := <-ended; code != 0 { // --count 2
		t.Errorf("exit code %d", code)
	}
	for l := range text {
		if l == "alone, nobody in reach" {
			break
		}
	}
	interrupt()
	if code := <-ended; code != 0 {
		t.Errorf("interrupted: exit code %d", code)
	}
}

// brokenNode answers as no node of ours would.
func brokenNode(t *testing.T, h http.HandlerFunc) {
	t.Helper()
	dir := t.TempDir()
	t.Setenv("OUTRIDER_DIR", dir)
	t.Setenv("XDG_RUNTIME_DIR", filepath.Join(dir, "run"))
	ln, err := api.ListenSocket(filepath.Join(dir, socketName))
	if err != nil {
		t.Fatal(err)
	}
	srv := &http.Server{Handler: h}
	done := make(chan error, 1)
	go func() { done <- srv.Serve(ln) }()
	t.Cleanup(func() { srv.Close(); <-done })
}

func TestBrokenAnswers(t *testing.T) {
	for name, c := range map[string]struct {
		answer func(w http.ResponseWriter, r *http.Request)
		exit   int
		want   string
	}{
		"no JSON":    {func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "<html>") }, 1, "no JSON of the expected form"},
		"wrong type": {func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, `{"uptime_s":"long"}`) }, 1, "expected form"},
		"endless": {func(w http.ResponseWriter, _ *http.Request) {
			for range answerMax/(1<<20) + 1 {
				w.Write(make([]byte, 1<<20))
			}
		}, 1, "too long"},
		"cut": {func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", "100")
			io.WriteString(w, "{")
		}, 1, "gave no answer"},
		"hangs up":   {func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }, 1, "gave no answer"},
		"bare error": {func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(500) }, 1, "500 Internal Server Error"},
		"redirect": {func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "http://192.0.2.1/", http.StatusFound)
		}, 1, "302"},
		"hostile error": {func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(404)
			io.WriteString(w, `{"error":{"code":"x","message":"a\u001b[31m"}}`)
		}, 6, `a\u{1b}[31m`},
		"later": {func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Retry-After", "7")
			w.WriteHeader(429)
			io.WriteString(w, `{"error":{"code":"too_many_attempts","message":"slow"}}`)
		}, 8, "try again in 7 s"},
	} {
		t.Run(name, func(t *testing.T) {
			brokenNode(t, c.answer)
			code, out := runWith(t, "status")
			if code != c.exit || !strings.Contains(out, c.want) {
				t.Errorf("exit code %d, printed %s", code, out)
			}
		})
	}
}

func TestLoginRefusesAStrangeToken(t *testing.T) {
	brokenNode(t, func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, `{"token":"two words"}`) })
	if code, out := runWith(t, "login", "alice", "--password-file", "-"); code != 1 || !strings.Contains(out, "no session token") {
		t.Errorf("%d %s", code, out)
	}
}

func TestAHalfFileIsNotKept(t *testing.T) {
	brokenNode(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Length", "100")
		io.WriteString(w, "half")
	})
	t.Chdir(t.TempDir())
	if code, out := runWith(t, "file", "get", strings.Repeat("a", 26), "-o", "y"); code != 1 || !strings.Contains(out, "nothing was kept") {
		t.Errorf("%d %s", code, out)
	}
	if left, err := os.ReadDir("."); err != nil || len(left) != 0 {
		t.Errorf("left behind: %v", left)
	}
}

func TestALongFolderIsReached(t *testing.T) {
	dir := filepath.Join(t.TempDir(), strings.Repeat("long/", 30))
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	t.Setenv("OUTRIDER_DIR", dir)
	t.Chdir(dir) // the node itself may listen on a relative path
	ln, err := api.ListenSocket(socketName)
	if err != nil {
		t.Fatal(err)
	}
	srv := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, `{"node":"reached"}`) })}
	done := make(chan error, 1)
	go func() { done <- srv.Serve(ln) }()
	defer func() { srv.Close(); <-done }()
	if code, out := runWith(t, "status"); code != 0 || !strings.Contains(out, "reached") {
		t.Errorf("%d %s", code, out)
	}
}

func TestExitCodes(t *testing.T) {
	for i, e := range exitCodes {
		if int(e.code) != i || e.text == "" {
			t.Errorf("row %d is %d %q", i, e.code, e.text)
		}
	}
	for _, c := range []struct {
		status int
		code   string
		want   exitCode
	}{{401, "bad_password", exitRefused}, {401, "no_session", exitLogin}, {401, "locked", exitLogin}, {403, "", exitRefused}, {404, "", exitMissing}, {410, "", exitMissing},
		{409, "not_complete", exitConflict}, {429, "", exitBusy}, {503, "", exitBusy}, {507, "", exitBusy}, {400, "", exitUsage}, {500, "", exitFailed}} {
		if got := exitFor(c.status, c.code); got != c.want {
			t.Errorf("%d %s: %d, want %d", c.status, c.code, got, c.want)
		}
	}
}

// A full disk behind standard output must not look like success.
func TestAFailedWriteIsAFailure(t *testing.T) {
	w := writerFunc(func([]byte) (int, error) { return 0, errors.New("no space left on device") })
	var errs strings.Builder
	if code := run(t.Context(), []string{"version"}, nil, w, &errs); code != 1 || !strings.Contains(errs.String(), "no space left") {
		t.Errorf("%d %s", code, errs.String())
	}
}
