package api

import (
	"os"
	"slices"
	"strings"
	"testing"
)

func TestWarnings(t *testing.T) {
	doc := textOf(t, "API.md")
	var codes []string
	for _, w := range knownWarnings {
		if w.Code == "" || w.Message == "" || w.Hint == "" || slices.Contains(codes, w.Code) {
			t.Errorf("warning %+v", w)
		}
		if !strings.Contains(doc, "`"+w.Code+"`") {
			t.Errorf("API.md lacks the warning %s", w.Code)
		}
		codes = append(codes, w.Code)
	}
	if got := warningViews([]string{"user_ends", "nobody knows", "clock_behind"}); len(got) != 2 || got[0].Code != "clock_behind" {
		t.Errorf("shown: %v", got)
	}
	if got := warningViews(nil); got == nil || len(got) != 0 {
		t.Errorf("no warning is %v", got)
	}
}

// The page says each warning, and what to do, in both its languages, and none
// that there is not.
func TestThePageKnowsEachWarning(t *testing.T) {
	for _, lang := range []string{"en", "de"} {
		b, err := os.ReadFile("../web/static/lang/" + lang + ".mjs")
		if err != nil {
			t.Fatal(err)
		}
		words := string(b)
		for _, w := range knownWarnings {
			for _, key := range []string{"warn." + w.Code, "warn." + w.Code + ".todo"} {
				if !strings.Contains(words, "\n  '"+key+"': '") {
					t.Errorf("%s has no %s", lang, key)
				}
			}
		}
		const others = 2 // title and badge
		if n := strings.Count(words, "\n  'warn."); n != 2*len(knownWarnings)+others {
			t.Errorf("%s has %d words about warnings for %d warnings", lang, n, len(knownWarnings))
		}
	}
}

// Whoever is logged in is told, since nobody else may be near; a login screen
// is not.
func TestWhoIsWarned(t *testing.T) {
	b := newBench(t)
	alice := b.login("Alice")
	for who, r := range map[string]req{"socket": b.socket("GET", "/v1/status", ""), "page with a session": b.page("GET", "/v1/status", "").bearer(alice)} {
		if got := r.want(200, "").Body.String(); !strings.Contains(got, `"code":"node_ends"`) {
			t.Errorf("%s: %s", who, got)
		}
	}
	if got := b.page("GET", "/v1/status", "").want(200, "").Body.String(); strings.Contains(got, "warnings") {
		t.Errorf("a login screen: %s", got)
	}
}
