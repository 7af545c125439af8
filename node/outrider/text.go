package main

import (
	"fmt"
	"strings"
	"text/tabwriter"
	"time"
	"unicode"
	"unicode/utf8"
)

// clean makes text that others wrote safe for a terminal: control characters,
// bytes that are no UTF-8, and characters that reorder or hide text are
// written as escapes. Names and messages come from the air.
func clean(s string) string {
	if plain(s) {
		return s
	}
	var b strings.Builder
	for i := 0; i < len(s); {
		r, n := utf8.DecodeRuneInString(s[i:])
		switch {
		case r == utf8.RuneError && n == 1:
			fmt.Fprintf(&b, `\x%02x`, s[i])
		case r == '\n':
			b.WriteString(`\n`)
		case r == '\t':
			b.WriteString(`\t`)
		case r == '\r':
			b.WriteString(`\r`)
		case !printable(r):
			fmt.Fprintf(&b, `\u{%x}`, r)
		default:
			b.WriteRune(r)
		}
		i += n
	}
	return b.String()
}

// printable says whether a character may go to a terminal as it is. Format
// characters (category Cf: bidirectional overrides, zero-width ones) may not.
func printable(r rune) bool {
	return r == ' ' || unicode.IsPrint(r) && !unicode.Is(unicode.Cf, r)
}

func plain(s string) bool {
	for _, r := range s {
		if r == utf8.RuneError || !printable(r) {
			return false
		}
	}
	return true
}

// cleanJSON escapes, in a JSON text, what clean would: there, with \u.
func cleanJSON(line []byte) string {
	var b strings.Builder
	for _, r := range string(line) {
		switch {
		case r < utf8.RuneSelf || printable(r):
			b.WriteRune(r) // JSON has escaped ASCII control characters already
		case r > 0xffff:
			r1, r2 := (r-0x10000)>>10+0xd800, (r-0x10000)&0x3ff+0xdc00
			fmt.Fprintf(&b, `\u%04x\u%04x`, r1, r2)
		default:
			fmt.Fprintf(&b, `\u%04x`, r)
		}
	}
	return strings.ReplaceAll(b.String(), "\x7f", `\u007f`)
}

func shorten(s string) string {
	const most = 60
	if utf8.RuneCountInString(s) <= most {
		return s
	}
	return string([]rune(s)[:most]) + "…"
}

// table prints rows in aligned columns, cells cleaned.
func (a *app) table(head []string, rows [][]string) {
	w := tabwriter.NewWriter(writerFunc(func(p []byte) (int, error) { a.printf("%s", p); return len(p), nil }), 0, 8, 2, ' ', 0)
	fmt.Fprintln(w, strings.Join(head, "\t"))
	for _, r := range rows {
		for i, cell := range r {
			if cell == "" {
				cell = "-"
			}
			r[i] = clean(cell)
		}
		fmt.Fprintln(w, strings.Join(r, "\t"))
	}
	w.Flush()
}

type writerFunc func([]byte) (int, error)

func (f writerFunc) Write(p []byte) (int, error) { return f(p) }

// when writes a time as operators read it, to the second, with its zone.
func when(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.Local().Format("2006-01-02 15:04:05 MST")
}

// bytesText writes a number of bytes with three digits.
func bytesText(n int64) string {
	const units = "kMGT"
	if n < 1000 {
		return fmt.Sprintf("%d B", n)
	}
	v, i := float64(n)/1000, 0
	for v >= 999.5 && i < len(units)-1 {
		v, i = v/1000, i+1
	}
	return fmt.Sprintf("%.3g %cB", v, units[i])
}

func plural(n int, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %s", n, many)
}
