package api

import (
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
