package browser

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"outrider/field-tests/browser/fakeapi"
	"outrider/node/web"
)

const (
	account  = "Alice"
	password = "correct horse battery staple"
)

var (
	chromium    *Browser
	errChromium error
)

func TestMain(m *testing.M) { os.Exit(run(m)) }

func run(m *testing.M) int {
	chromium, errChromium = Start(context.Background(), Options{})
	code := m.Run()
	if chromium == nil {
		return code
	}
	chromium.Close()
	err := goleak.Find()
	for end := time.Now().Add(Patience); err != nil && time.Now().Before(end); { // what was told to end may need a while
		err = goleak.Find()
	}
	if err != nil && code == 0 {
		fmt.Fprintln(os.Stderr, "goroutines are left:", err)
		return 1
	}
	return code
}

// A stage is a fake node and a window on it. Whatever the window does that no
// good page does fails the test when it ends.
type stage struct {
	t *testing.T
	s *fakeapi.Server
	*Page
}

func newStage(t *testing.T, o PageOptions) *stage {
	t.Helper()
	if errChromium != nil {
		t.Fatal(errChromium)
	}
	s := fakeapi.New(web.Handler(), account, password)
	t.Cleanup(s.Close)
	return &stage{t, s, newPage(t, o)}
}

func newPage(t *testing.T, o PageOptions) *Page {
	t.Helper()
	p, err := chromium.Page(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		for _, problem := range p.Problems() {
			t.Errorf("the page: %s", problem)
		}
		if t.Failed() {
			if shown, err := Eval[string](p, `document.body.innerText.slice(0, 1500)`); err == nil {
				t.Logf("the page shows:\n%s", shown)
			}
		}
		p.Close()
	})
	return p
}

// in is newStage with the page open and the account logged in; the page knows
// what the node told first, and follows it.
func in(t *testing.T, o PageOptions, fill func(*fakeapi.Server)) *stage {
	t.Helper()
	st := newStage(t, o)
	if fill != nil {
		fill(st.s)
	}
	st.must(st.Open(st.s.URL()))
	st.must(st.Login(account, password))
	st.following()
	return st
}

// following waits until the page has the node's first answers and its events.
func (st *stage) following() {
	st.t.Helper()
	st.must(st.Wait("the first answers and the stream", called(`const { state } = `+module("model.mjs")+`; return state.connection === 'live' && state.users && state.status && state.conversations;`)))
}

func (st *stage) must(err error) {
	st.t.Helper()
	if err != nil {
		st.t.Fatal(err)
	}
}

// eval evaluates and fails the test on an error.
func eval[T any](st *stage, expression string) T {
	st.t.Helper()
	v, err := Eval[T](st.Page, expression)
	st.must(err)
	return v
}

// until waits for something outside the page, as a request at the fake node.
func until(t *testing.T, what string, holds func() bool) {
	t.Helper()
	for end := time.Now().Add(Patience); !holds(); {
		if time.Now().After(end) {
			t.Fatalf("%s did not come in %v", what, Patience)
		}
		<-time.After(pause) // polling with a deadline: two real processes
	}
}

// module is the JavaScript that imports one of the page's modules.
func module(name string) string {
	return `await import(new URL(` + quote(name) + `, document.querySelector('script[type="module"]').src).href)`
}

// called runs an async function body in the page.
func called(body string) string { return `(async () => {` + body + `})()` }

func TestMissingChromiumSaysWhatToDo(t *testing.T) {
	t.Setenv("PATH", t.TempDir())
	_, err := Start(t.Context(), Options{})
	if !errors.Is(err, ErrMissing) || !strings.Contains(err.Error(), "apt-get install chromium") {
		t.Fatalf("error %v", err)
	}
}
