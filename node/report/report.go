// Package report keeps what a developer needs after a fault, and puts it into
// one file that may be handed on (features.md A20).
//
// A running node writes its log lines also into two small files of its folder
// (Log), and the stacks of all goroutines when it dies of a panic or a fatal
// signal (WatchCrashes). `outrider report` packs both with settings, figures,
// the doctor's findings and facts of the machine. No key, name, text or
// position is in it: none of its sources has any, which a search over a real
// report proves; addresses are replaced unless asked for.
package report

import (
	"archive/zip"
	"fmt"
	"io"
	"net/netip"
	"regexp"
	"time"
)

// A Part is one file of a report.
type Part struct {
	Name string
	Data []byte
}

// partMax bounds a part, in bytes; of a longer one the end is kept, where the
// newest lines are.
const partMax = 2 << 20

// Write packs parts. All have the date of when, so that the same parts give
// the same bytes.
func Write(w io.Writer, when time.Time, parts []Part) error {
	z := zip.NewWriter(w)
	for _, p := range parts {
		f, err := z.CreateHeader(&zip.FileHeader{Name: p.Name, Method: zip.Deflate, Modified: when.UTC()})
		if err != nil {
			return fmt.Errorf("report: write: %w", err)
		}
		if _, err := f.Write(tail(p.Data, partMax)); err != nil {
			return fmt.Errorf("report: write: %w", err)
		}
	}
	if err := z.Close(); err != nil {
		return fmt.Errorf("report: write: %w", err)
	}
	return nil
}

func tail(b []byte, n int) []byte {
	if len(b) > n {
		return b[len(b)-n:]
	}
	return b
}

// A Redactor replaces addresses by words, the same address by the same word,
// so that a reader still sees which lines belong together.
type Redactor struct{ words map[netip.Addr]string }

// candidate finds what may be an IP address; netip decides.
var candidate = regexp.MustCompile(`[0-9a-fA-F.:]*[0-9a-fA-F:](%[0-9A-Za-z._-]+)?`)

// Redact replaces the addresses in text. Loopback and unspecified ones stay:
// every machine has them.
func (r *Redactor) Redact(text []byte) []byte {
	return candidate.ReplaceAllFunc(text, func(m []byte) []byte {
		return []byte(r.word(string(m)))
	})
}

func (r *Redactor) word(s string) string {
	if a, err := netip.ParseAddr(s); err == nil {
		return r.name(a, s)
	}
	for i := len(s) - 1; i > 0; i-- { // address:port
		if s[i] != ':' {
			continue
		}
		if a, err := netip.ParseAddr(s[:i]); err == nil && a.Is4() {
			return r.name(a, s[:i]) + s[i:]
		}
		break
	}
	return s
}

func (r *Redactor) name(a netip.Addr, as string) string {
	if a.IsLoopback() || a.IsUnspecified() {
		return as
	}
	if r.words == nil {
		r.words = map[netip.Addr]string{}
	}
	if r.words[a] == "" {
		r.words[a] = fmt.Sprintf("address-%d", len(r.words)+1)
	}
	return r.words[a]
}
