package web

import (
	"bytes"
	"compress/gzip"
	"io"
	"io/fs"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"testing/fstest"
)

func get(t *testing.T, h http.Handler, method, path string, header map[string]string) *http.Response {
	t.Helper()
	r := httptest.NewRequest(method, path, nil)
	for k, v := range header {
		r.Header.Set(k, v)
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w.Result()
}

func body(t *testing.T, res *http.Response) []byte {
	t.Helper()
	b, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	if res.Header.Get("Content-Encoding") != "gzip" {
		return b
	}
	zr, err := gzip.NewReader(bytes.NewReader(b))
	if err != nil {
		t.Fatal(err)
	}
	if b, err = io.ReadAll(zr); err != nil {
		t.Fatal(err)
	}
	return b
}

// references are all assets that the document names.
func references(t *testing.T) []string {
	t.Helper()
	index := body(t, get(t, Handler(), "GET", "/", nil))
	var refs []string
	for _, m := range regexp.MustCompile(`(?:href|src)="([^"]+)"`).FindAllSubmatch(index, -1) {
		refs = append(refs, string(m[1]))
	}
	if len(refs) < 10 {
		t.Fatalf("the document names only %d assets", len(refs))
	}
	return refs
}

func TestDocument(t *testing.T) {
	res := get(t, Handler(), "GET", "/", nil)
	if res.StatusCode != 200 || res.Header.Get("Content-Type") != "text/html; charset=utf-8" || res.Header.Get("Cache-Control") != "no-cache" {
		t.Fatalf("status %d, headers %v", res.StatusCode, res.Header)
	}
	if res.Header.Get("Content-Security-Policy") != CSP {
		t.Fatalf("policy %q", res.Header.Get("Content-Security-Policy"))
	}
	if b := body(t, res); bytes.ContainsRune(b, '@') {
		t.Fatal("a placeholder was left in the document")
	}
}

func TestEveryReferenceIsServedForEver(t *testing.T) {
	for _, ref := range references(t) {
		res := get(t, Handler(), "GET", ref, map[string]string{"Accept-Encoding": "gzip"})
		if res.StatusCode != 200 || res.Header.Get("Cache-Control") != cacheImmutable {
			t.Errorf("%s: status %d, cache %q", ref, res.StatusCode, res.Header.Get("Cache-Control"))
		}
		if !strings.HasPrefix(ref, site().prefix) {
			t.Errorf("%s lies outside %s", ref, site().prefix)
		}
	}
}

func TestContentTypes(t *testing.T) {
	want := map[string]string{
		"app.mjs": "text/javascript; charset=utf-8", "theme.js": "text/javascript; charset=utf-8", "style.css": "text/css; charset=utf-8",
		"icon.svg": "image/svg+xml", "outrider.webmanifest": "application/manifest+json",
	}
	for name, mime := range want {
		res := get(t, Handler(), "GET", site().prefix+name, nil)
		if res.StatusCode != 200 || res.Header.Get("Content-Type") != mime || res.Header.Get("X-Content-Type-Options") != "nosniff" {
			t.Errorf("%s: status %d, type %q", name, res.StatusCode, res.Header.Get("Content-Type"))
		}
	}
}

// What a browser can show by itself carries the policy, also when it is no
// document; scripts and styles cannot be taken for anything else.
func TestPolicyOnEverythingThatCanBeShown(t *testing.T) {
	for path := range site().assets {
		h := get(t, Handler(), "GET", path, nil).Header
		if h.Get("X-Content-Type-Options") != "nosniff" || h.Get("Cross-Origin-Resource-Policy") != "same-origin" {
			t.Errorf("%s: headers %v", path, h)
		}
		if part := strings.HasPrefix(h.Get("Content-Type"), "text/javascript") || strings.HasPrefix(h.Get("Content-Type"), "text/css"); !part && h.Get("Content-Security-Policy") != CSP {
			t.Errorf("%s has no policy", path)
		}
		if path == "/" && h.Get("X-Frame-Options") != "DENY" {
			t.Errorf("the document may be framed")
		}
	}
}

func TestLean(t *testing.T) {
	for in, want := range map[string]string{
		"  a;\n\n\t// c\n  b; // d\n":                     "a;\nb; // d\n",
		"/* one */\n/**\n * two\n * // x */\n  x();\n":    "x();\n",
		"/* a */ x();\n  y();":                            "/* a */ x();\ny();\n",
		"  const s = `a\n   // b\n\n  ${c}` + d;\n  e;\n": "const s = `a\n   // b\n\n  ${c}` + d;\ne;\n",
		"  t = '\\`';\n  // x\n":                          "t = '\\`';\n",
		"":                                                "",
	} {
		if got := string(lean("x.mjs", []byte(in))); got != want {
			t.Errorf("%q became %q, want %q", in, got, want)
		}
	}
	if got := string(lean("x.css", []byte("/* a */\na {\n  b: url(//x);\n}\n"))); got != "a {\nb: url(//x);\n}\n" {
		t.Errorf("%q", got)
	}
	if got := string(lean("x.svg", []byte("  <a/>\n"))); got != "  <a/>\n" {
		t.Errorf("%q", got)
	}
}

// lean follows templates by counting backquotes: no line of ours may hold one
// in a string or pattern without escaping it.
func TestTemplatesCanBeCounted(t *testing.T) {
	quoted := regexp.MustCompile("'[^'`\n]*`[^'`\n]*'|//.*[^\\\\]`[^`]*$")
	err := fs.WalkDir(static, "static", func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || !strings.HasSuffix(name, "js") {
			return err
		}
		data, err := fs.ReadFile(static, name)
		if err != nil {
			return err
		}
		open := false
		for line := range bytes.Lines(data) {
			if !open && quoted.Match(line) && bytes.Count(line, []byte("`"))%2 == 1 {
				t.Errorf("%s: a lone backquote: %s", name, line)
			}
			open = openTemplate(line, open)
		}
		if open {
			t.Errorf("%s ends inside a template", name)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

func TestRevalidation(t *testing.T) {
	for _, enc := range []string{"", "gzip"} {
		for _, path := range []string{"/", site().prefix + "app.mjs"} {
			h := map[string]string{"Accept-Encoding": enc}
			first := get(t, Handler(), "GET", path, h)
			tag := first.Header.Get("ETag")
			if tag == "" {
				t.Fatalf("%s: no ETag", path)
			}
			for _, value := range []string{tag, "W/" + tag, `"other", ` + tag, "*"} {
				h["If-None-Match"] = value
				res := get(t, Handler(), "GET", path, h)
				if res.StatusCode != http.StatusNotModified || len(body(t, res)) != 0 || res.Header.Get("ETag") != tag {
					t.Errorf("%s with If-None-Match %s: status %d", path, value, res.StatusCode)
				}
			}
			h["If-None-Match"] = `"other"`
			if res := get(t, Handler(), "GET", path, h); res.StatusCode != 200 {
				t.Errorf("%s with a foreign tag: status %d", path, res.StatusCode)
			}
		}
	}
	plain, zipped := get(t, Handler(), "GET", "/", nil), get(t, Handler(), "GET", "/", map[string]string{"Accept-Encoding": "gzip"})
	if plain.Header.Get("ETag") == zipped.Header.Get("ETag") {
		t.Error("both encodings have the same strong ETag")
	}
}

func TestGzip(t *testing.T) {
	path := site().prefix + "style.css"
	plain := body(t, get(t, Handler(), "GET", path, nil))
	for header, want := range map[string]bool{
		"gzip": true, "br, gzip;q=0.5": true, "*": true, "GZIP": true, "": false, "br": false, "gzip;q=0": false, "gzip; q=0.000": false,
		"*;q=0": false, "gzip;q=0, *": false, "identity": false, "*;q=0, gzip": true,
	} {
		res := get(t, Handler(), "GET", path, map[string]string{"Accept-Encoding": header})
		if got := res.Header.Get("Content-Encoding") == "gzip"; got != want {
			t.Errorf("Accept-Encoding %q: gzip %v, want %v", header, got, want)
		}
		if res.Header.Get("Vary") != "Accept-Encoding" {
			t.Errorf("Accept-Encoding %q: no Vary", header)
		}
		if !bytes.Equal(body(t, res), plain) {
			t.Errorf("Accept-Encoding %q: other bytes", header)
		}
	}
}

func TestHead(t *testing.T) {
	res := get(t, Handler(), "HEAD", "/", nil)
	full := get(t, Handler(), "GET", "/", nil)
	if res.StatusCode != 200 || len(body(t, res)) != 0 || res.Header.Get("Content-Length") != full.Header.Get("Content-Length") {
		t.Fatalf("status %d, headers %v", res.StatusCode, res.Header)
	}
}

func TestRefused(t *testing.T) {
	prefix := site().prefix
	for _, path := range []string{
		"/index.html", "/app.mjs", "/nothing", prefix, prefix + "index.html", prefix + "nothing.mjs", "/a/0000000000000000/app.mjs", "/a/",
		prefix + "../web.go", prefix + "lib/", "/favicon.ico", "//", prefix + "%2e%2e/web.go", "/.git/config",
	} {
		res := get(t, Handler(), "GET", path, nil)
		if res.StatusCode != 404 || res.Header.Get("Content-Security-Policy") != CSP {
			t.Errorf("%s: status %d", path, res.StatusCode)
		}
		if strings.Contains(res.Header.Get("Cache-Control"), "immutable") {
			t.Errorf("%s: a refusal may be cached for ever", path)
		}
	}
	for _, method := range []string{"POST", "PUT", "DELETE", "OPTIONS", "TRACE"} {
		res := get(t, Handler(), method, "/", nil)
		if res.StatusCode != 405 || res.Header.Get("Allow") != "GET, HEAD" {
			t.Errorf("%s: status %d", method, res.StatusCode)
		}
	}
}

func TestTreeChangesWithAnyFile(t *testing.T) {
	files := func() fstest.MapFS {
		return fstest.MapFS{
			"s/index.html": {Data: []byte(`<link href="@assets/a.css">@modules`)}, "s/a.css": {Data: []byte("a{}")},
			"s/app.mjs": {Data: []byte("1")}, "s/x/y.mjs": {Data: []byte("1")},
		}
	}
	first, err := load(files(), "s")
	if err != nil {
		t.Fatal(err)
	}
	again, _ := load(files(), "s")
	if first.prefix != again.prefix {
		t.Error("the same files have two prefixes")
	}
	changed := files()
	changed["s/x/y.mjs"].Data = []byte("2")
	renamed := files()
	renamed["s/x/z.mjs"] = renamed["s/x/y.mjs"]
	delete(renamed, "s/x/y.mjs")
	for name, f := range map[string]fstest.MapFS{"changed": changed, "renamed": renamed} {
		if other, err := load(f, "s"); err != nil || other.prefix == first.prefix {
			t.Errorf("%s: prefix %s, %v", name, other.prefix, err)
		}
	}
	if want := `<link href="` + first.prefix + `a.css"><link rel="modulepreload" href="` + first.prefix + `x/y.mjs">`; string(first.assets["/"].raw) != want {
		t.Errorf("document %s, want %s", first.assets["/"].raw, want)
	}
}

func TestLoadErrors(t *testing.T) {
	for name, f := range map[string]fstest.MapFS{
		"no document":  {"s/a.css": {Data: []byte("a{}")}},
		"unknown kind": {"s/index.html": {}, "s/a.exe": {Data: []byte("MZ")}},
		"no folder":    {},
	} {
		if _, err := load(f, "s"); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

// The source itself may not contain what could turn text into markup or code,
// nor any address of another origin.
func TestSourceHasNoMarkupSinks(t *testing.T) {
	banned := regexp.MustCompile(`innerHTML|outerHTML|insertAdjacentHTML|document\.write|DOMParser|createContextualFragment|\beval\b|new Function|setHTML|srcdoc=|\.style\b|cssText|javascript:|localStorage|sessionStorage|indexedDB|document\.cookie|serviceWorker|window\.open|postMessage|importScripts|WebSocket|EventSource\(|sendBeacon`)
	address := regexp.MustCompile(`(?i)\b(?:https?|wss?|ftp|data):(?://)?[^\s'"` + "`" + `]*`)
	allowed := map[string]bool{"http://www.w3.org/2000/svg": true, "https://": true}
	err := fs.WalkDir(static, "static", func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		data, err := fs.ReadFile(static, name)
		if err != nil {
			return err
		}
		code := string(data)
		if name == "static/theme.js" {
			code = strings.ReplaceAll(code, "localStorage.", "") // the theme, and nothing else, is stored
		}
		if strings.HasPrefix(name, "static/call/") {
			code = strings.ReplaceAll(code, "postMessage(", "") // to and from the worker that seals, which is ours
		}
		if m := banned.FindString(strings.ReplaceAll(code, "lower === 'srcdoc'", "")); m != "" {
			t.Errorf("%s contains %q", name, m)
		}
		for _, a := range address.FindAllString(code, -1) {
			if a = strings.TrimRight(a, ".,;:)"); !allowed[a] && a != "https" && a != "data" {
				t.Errorf("%s contains the address %q", name, a)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

var (
	keyPattern  = regexp.MustCompile(`(?m)^  '([^']+)':(.*)$`)
	usedPattern = regexp.MustCompile(`\bt\('([^']+)'`)
)

// Every word that the modules ask for by name exists, and no word is left that
// nobody can ask for. The door has words of its own.
func TestWordsAreUsedAndExist(t *testing.T) {
	for _, c := range []struct{ words, more, modules, without string }{
		{"static/lang/en.mjs", "static/map/lang/en.mjs", "static", "static/door"},
		{"static/door/lang/en.mjs", "", "static/door", "-"},
	} {
		have := wordsOf(t, c.words)
		if c.more != "" { // loaded on demand, beside the others
			for key, words := range wordsOf(t, c.more) {
				if _, twice := have[key]; twice {
					t.Errorf("%s: %q stands in %s too", c.more, key, c.words)
				}
				have[key] = words
			}
		}
		code := sourceOf(t, c.modules, c.without)
		for _, m := range usedPattern.FindAllStringSubmatch(code, -1) {
			if _, ok := have[m[1]]; !ok {
				t.Errorf("no word of %s is called %q", c.words, m[1])
			}
		}
		// Words asked for by a computed name: t(`state.${...}`) and the like.
		families := regexp.MustCompile("`([a-z_.]+\\.|[a-z_.]+_)\\$\\{").FindAllStringSubmatch(code, -1)
		for key := range have {
			used := strings.Contains(code, "'"+key+"'")
			for _, f := range families {
				used = used || strings.HasPrefix(key, f[1])
			}
			if !used {
				t.Errorf("%s: nobody asks for the word %q", c.words, key)
			}
		}
	}
}

// All languages have the same words with the same holes to fill.
func TestLanguagesAreEqual(t *testing.T) {
	hole := regexp.MustCompile(`\{(\w+)\}`)
	holes := func(s string) string {
		seen := map[string]bool{}
		for _, m := range hole.FindAllStringSubmatch(s, -1) {
			seen[m[1]] = true
		}
		return strings.Join(slices.Sorted(maps.Keys(seen)), " ")
	}
	for _, dir := range []string{"static/lang/", "static/door/lang/", "static/map/lang/"} {
		en, de := wordsOf(t, dir+"en.mjs"), wordsOf(t, dir+"de.mjs")
		for key, words := range en {
			other, ok := de[key]
			if !ok {
				t.Errorf("%sde.mjs has no %q", dir, key)
			} else if holes(words) != holes(other) {
				t.Errorf("%s %s: %q against %q", dir, key, words, other)
			}
		}
		if len(en) != len(de) || len(en) < 20 {
			t.Errorf("%s: %d words in English, %d in German", dir, len(en), len(de))
		}
	}
}

// Whatever the node says by a code, a person reads in their own language: every
// error, reason, warning and sentence of the tables in API.md has words. What
// only the door is told, the door has words for.
func TestEveryCodeHasWords(t *testing.T) {
	data, err := os.ReadFile("../api/API.md")
	if err != nil {
		t.Fatal(err)
	}
	doc := string(data)
	codes := func(head string, at int) (list []string) {
		t.Helper()
		_, table, found := strings.Cut(doc, head)
		table, _, _ = strings.Cut(table, "\n\n")
		for _, row := range strings.Split(table, "\n|")[1:] {
			for _, m := range regexp.MustCompile("`([a-z_]+)`").FindAllStringSubmatch(strings.Split(row, "|")[at], -1) {
				list = append(list, m[1])
			}
		}
		if !found || len(list) < 8 {
			t.Fatalf("%d codes in the table %q", len(list), head)
		}
		return list
	}
	needed := map[string]bool{}
	for _, c := range codes("| status | code | when |", 1) {
		needed["error."+c] = true
	}
	hintless := []string{"recalled", "burned"} // nothing can be done
	for _, c := range codes("| `reason_code` | of | meaning |", 0) {
		needed["reason."+c] = true
		needed["hint."+c] = !slices.Contains(hintless, c)
	}
	for _, c := range codes("| code | arguments | says |", 0) {
		needed["why."+c] = !strings.HasSuffix(c, "_")
	}
	for _, c := range codes("| `code` | meaning |", 0) {
		needed["warn."+c], needed["warn."+c+".todo"] = true, true
	}
	for _, lang := range []string{"en.mjs", "de.mjs"} {
		page, door := wordsOf(t, "static/lang/"+lang), wordsOf(t, "static/door/lang/"+lang)
		for key, need := range needed {
			if need && page[key] == "" && door[key] == "" {
				t.Errorf("%s: no words for %s", lang, key)
			}
		}
	}
}

// wordsOf reads a catalogue: the rest of the line by key.
func wordsOf(t *testing.T, name string) map[string]string {
	t.Helper()
	data, err := static.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	have := make(map[string]string)
	for _, m := range keyPattern.FindAllSubmatch(data, -1) {
		if _, twice := have[string(m[1])]; twice {
			t.Errorf("%s: %q stands twice", name, m[1])
		}
		have[string(m[1])] = string(m[2])
	}
	return have
}

// sourceOf is the code of all modules under dir but the languages.
func sourceOf(t *testing.T, dir, without string) string {
	t.Helper()
	var source strings.Builder
	err := fs.WalkDir(static, dir, func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || !strings.HasSuffix(name, ".mjs") || strings.Contains(name, "/lang/") || strings.HasPrefix(name, without) {
			return err
		}
		data, err := fs.ReadFile(static, name)
		source.Write(data)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return source.String()
}

// Whatever a client sends, the answer is one of four, and carries the
// content policy; the encoding is one that was asked for.
func FuzzHandler(f *testing.F) {
	f.Add("GET", "/", "gzip", `"x"`)
	f.Add("HEAD", site().prefix+"app.mjs", "gzip;q=0, *", "*")
	f.Add("POST", "/a/../..", ";q=;;,", `W/"`+"\x00")
	f.Fuzz(func(t *testing.T, method, path, encoding, match string) {
		r := httptest.NewRequest("GET", "/", nil)
		r.Method, r.URL.Path = method, path
		r.Header["Accept-Encoding"], r.Header["If-None-Match"] = []string{encoding}, []string{match}
		w := httptest.NewRecorder()
		Handler().ServeHTTP(w, r)
		switch w.Code {
		case 200, 304, 404, 405:
		default:
			t.Fatalf("status %d", w.Code)
		}
		part := w.Code < 400 && partTypes[filepath.Ext(path)]
		if w.Header().Get("Content-Security-Policy") != CSP && !part || w.Header().Get("X-Content-Type-Options") != "nosniff" {
			t.Fatal("no content policy")
		}
		if w.Header().Get("Content-Encoding") == "gzip" && !acceptsGzip(encoding) {
			t.Fatal("gzip was not asked for")
		}
	})
}
