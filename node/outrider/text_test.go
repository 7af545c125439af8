package main

import (
	"encoding/json"
	"strings"
	"testing"
	"time"
	"unicode/utf8"
)

func TestClean(t *testing.T) {
	for in, want := range map[string]string{
		"plain":             "plain",
		"Zoë 北 🙂":           "Zoë 北 🙂",
		"a\nb\tc\rd":        `a\nb\tc\rd`,
		"\x1b[31m":          `\u{1b}[31m`,
		"\u009b31m":         `\u{9b}31m`,
		"\x07\x00\x7f":      `\u{7}\u{0}\u{7f}`,
		"a\u202eb\u2066c":   `a\u{202e}b\u{2066}c`,
		"a\u200bb\ufeffc":   `a\u{200b}b\u{feff}c`,
		"bad\xff\xc0utf":    `bad\xff\xc0utf`,
		"no\u2028break":     `no\u{2028}break`,
		"\U000e0041 tagged": `\u{e0041} tagged`,
	} {
		if got := clean(in); got != want {
			t.Errorf("%q: got %s, want %s", in, got, want)
		}
	}
}

func FuzzClean(f *testing.F) {
	f.Add("Ev\x1b[31mil\u202ename\n\xff")
	f.Fuzz(func(t *testing.T, s string) {
		for _, r := range clean(s) {
			if r == utf8.RuneError && !strings.ContainsRune(s, utf8.RuneError) || r != utf8.RuneError && !printable(r) {
				t.Fatalf("%q leaves %U", s, r)
			}
		}
		line, err := json.Marshal(map[string]string{"v": s})
		if err != nil {
			t.Fatal(err)
		}
		out := cleanJSON(line)
		for _, r := range out {
			if r != utf8.RuneError && !printable(r) {
				t.Fatalf("JSON of %q leaves %U", s, r)
			}
		}
		var before, after map[string]string
		if json.Unmarshal(line, &before) != nil || json.Unmarshal([]byte(out), &after) != nil || before["v"] != after["v"] {
			t.Fatalf("%q changed: %s", s, out)
		}
		name := safeName(s)
		if name == "" || len(name) > 200 || strings.ContainsAny(name, "/\\") || name[0] == '.' || name[0] == '-' || clean(name) != name {
			t.Fatalf("%q as a file name: %q", s, name)
		}
	})
}

func TestSafeName(t *testing.T) {
	for in, want := range map[string]string{
		"map.pdf": "map.pdf", "../../etc/passwd": "passwd", `C:\x\y.doc`: "y.doc", "/": "file", "..": "file", "": "file",
		".bashrc": "bashrc", "-rf": "rf", "a\nb\x00c": "a_b_c", "~root": "root", "evil\u202egpj.exe": "evil_gpj.exe",
		strings.Repeat("ü", 300): strings.Repeat("ü", 100),
	} {
		if got := safeName(in); got != want {
			t.Errorf("%q: got %q, want %q", in, got, want)
		}
	}
}

func TestSmallTexts(t *testing.T) {
	for n, want := range map[int64]string{0: "0 B", 999: "999 B", 1000: "1 kB", 1234567: "1.23 MB", 999_600: "1 MB", 2e9: "2 GB", 5e15: "5e+03 TB"} {
		if got := bytesText(n); got != want {
			t.Errorf("%d: %s, want %s", n, got, want)
		}
	}
	if plural(1, "node", "nodes") != "1 node" || plural(2, "node", "nodes") != "2 nodes" {
		t.Error("plural")
	}
	for in, want := range map[string]string{"90m": "1h30m0s", "5d": "120h0m0s", "0s": "", "-1h": "", "367d": "", "d": "", "1.5d": "", "99999d": ""} {
		d, err := parseDuration(in)
		if (err != nil) != (want == "") || err == nil && d.String() != want {
			t.Errorf("%s: %v %v", in, d, err)
		}
	}
	for _, c := range []struct {
		in string
		ok bool
	}{{"59s", false}, {"1m", true}, {"30d", true}, {"720h1s", false}, {"31d", false}} {
		_, err := parseSpan(c.in, time.Minute, 30*24*time.Hour)
		if (err == nil) != c.ok || err != nil && !strings.Contains(err.Error(), "from 1m to 30d") {
			t.Errorf("%s: %v", c.in, err)
		}
	}
	for d, want := range map[time.Duration]string{90 * time.Second: "1m30s", time.Minute: "1m", 24 * time.Hour: "24h", 72 * time.Hour: "3d", 36 * time.Hour: "36h"} {
		if got := spanText(d); got != want {
			t.Errorf("%v: %s, want %s", d, got, want)
		}
	}
}
