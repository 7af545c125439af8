package api

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

func textOf(t *testing.T, pattern string) string {
	t.Helper()
	files, err := filepath.Glob(pattern)
	if err != nil || len(files) == 0 {
		t.Fatalf("%s: %d files, %v", pattern, len(files), err)
	}
	var all strings.Builder
	for _, f := range files {
		if strings.HasSuffix(f, "_test.go") {
			continue
		}
		b, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		all.Write(b)
	}
	return all.String()
}

// API.md names every call, error code, reason, state and event there is.
func TestDocumentIsComplete(t *testing.T) {
	doc := textOf(t, "API.md")
	b := newBench(t)
	for _, p := range b.srv.patterns {
		method, path, _ := strings.Cut(p, " ")
		path = strings.NewReplacer("/v1/messages/{id}", "/v1/messages/{id}", "/v1/files/{id}", "/v1/files/{message id}").Replace(path)
		parts := strings.Split(path, "/")
		if !strings.Contains(doc, path) && !strings.Contains(doc, "/"+parts[len(parts)-1]) {
			t.Errorf("%s %s is missing", method, path)
		}
	}
	code := textOf(t, "*.go")
	words := map[string][]string{
		"error code": submatches(code, `(?s)fail\(http\.\w+,\s*"(\w+)"`, `http\.Status\w+, "(\w+)", `),
		"reason":     submatches(textOf(t, "../chat/view.go"), `Reason\{"(\w+)"`, `fail\w+\s+= "(\w+)"`),
		"state":      submatches(textOf(t, "../chat/chat.go"), `State = "([\w-]+)"`),
		"event":      append(submatches(textOf(t, "../chat/chat.go"), `UpdateKind = "(\w+)"`), "hello", "reset", "link", "bundle"),
		"field":      submatches(textOf(t, "views.go"), "json:\"(\\w+)"),
	}
	tables := map[string]string{"error code": "\\| \\d+ \\| `%s` \\|", "reason": "(?m)^\\| `%s` \\|"} // clients make their words from these
	for what, list := range words {
		if len(list) < 4 {
			t.Errorf("only %d of kind %s were found", len(list), what)
		}
		for _, w := range list {
			if !regexp.MustCompile(`\b` + w + `\b`).MatchString(doc) {
				t.Errorf("%s %s is missing", what, w)
			}
			if row := tables[what]; row != "" && !regexp.MustCompile(fmt.Sprintf(row, w)).MatchString(doc) {
				t.Errorf("%s %s has no row in its table", what, w)
			}
		}
	}
}

func submatches(text string, patterns ...string) (out []string) {
	for _, p := range patterns {
		for _, m := range regexp.MustCompile(p).FindAllStringSubmatch(text, -1) {
			out = append(out, m[1])
		}
	}
	return out
}
