// Package plainsearch looks for plaintext where none may be: on the disks of
// nodes and in captures of what went over the air.
//
// A Searcher is given needles: texts, parts of files, names, coordinates. It
// finds each raw, in hexadecimal (both cases), in base64 (every alignment,
// both alphabets), in UTF-16 (both byte orders), and any of these inside zstd
// frames. Of needles of 32 bytes and more it finds parts. Captures are
// searched as files and once more stream by stream, so that what two packets
// share is found too. Names of files and folders are searched like contents.
//
// Input is read as a stream; memory does not grow with it. What the search
// cannot look into, such as a damaged zstd frame, is still searched raw.
package plainsearch

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"outrider/field-tests/pcap"
)

const (
	chunk = 256 << 10
	// hitsMax bounds the hits reported for one needle in one file.
	hitsMax = 8
)

// A Hit is a needle found. It names the needle, never shows it.
type Hit struct {
	Needle string
	Form   string // raw, hex, base64, UTF-16LE, UTF-16BE
	Where  string // file, as given or found
	Inside string // "" or what it was unpacked from: "zstd", "stream 10.0.0.1:1->10.0.0.2:2/tcp"
	Offset int64  // of the hit's first byte, within Inside if that is set
}

// String is one line for a test's failure.
func (h Hit) String() string {
	s := fmt.Sprintf("%s (%s) in %s", h.Needle, h.Form, h.Where)
	if h.Inside != "" {
		s += ", " + h.Inside
	}
	return fmt.Sprintf("%s at %d", s, h.Offset)
}

// A Searcher holds the needles in all their forms. It may be used by several
// goroutines at once.
type Searcher struct {
	needles []Needle
	forms   []form
	auto    *automaton
	dicts   [][]byte
}

// New prepares a search. It fails for needles that are too short to tell from
// chance. Dictionaries are those of zstd that frames may have been made with.
func New(needles []Needle, dicts ...[]byte) (*Searcher, error) {
	if len(needles) == 0 {
		return nil, errors.New("plainsearch: nothing to look for")
	}
	s := &Searcher{needles: needles, dicts: dicts}
	for i, n := range needles {
		f, err := n.forms(i)
		if err != nil {
			return nil, err
		}
		s.forms = append(s.forms, f...)
	}
	s.auto = newAutomaton(s.forms)
	return s, nil
}

// Tree searches files and folders, to the last file. What it cannot read is an
// error; sockets, pipes and devices are searched by name only.
func (s *Searcher) Tree(paths ...string) ([]Hit, error) {
	var hits []Hit
	var errs []error
	for _, root := range paths {
		err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
			if err != nil {
				errs = append(errs, err)
				return nil
			}
			if rel, rerr := filepath.Rel(root, path); rerr == nil && rel != "." {
				hits = append(hits, s.name(path, d.Name())...)
			}
			if d.Type()&fs.ModeSymlink != 0 {
				if target, lerr := os.Readlink(path); lerr == nil {
					hits = append(hits, s.name(path, target)...)
				}
			}
			if !d.Type().IsRegular() {
				return nil
			}
			found, err := s.File(path)
			hits = append(hits, found...)
			if err != nil {
				errs = append(errs, err)
			}
			return nil
		})
		errs = append(errs, err)
	}
	if err := errors.Join(errs...); err != nil {
		return hits, fmt.Errorf("plainsearch: %w", err)
	}
	return hits, nil
}

// name searches the name of a file.
func (s *Searcher) name(path, name string) []Hit {
	sink := newSink(path)
	sc := s.newScanner(sink, "file name", depthMax)
	sc.write([]byte(name))
	return sink.hits
}

// File searches one file; a capture also stream by stream.
func (s *Searcher) File(path string) ([]Hit, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("plainsearch: %w", err)
	}
	defer f.Close()
	hits, err := s.Reader(path, f)
	if err != nil {
		return hits, err
	}
	var head [4]byte
	if n, _ := f.ReadAt(head[:], 0); !pcap.IsCapture(head[:n]) {
		return hits, nil
	}
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return hits, fmt.Errorf("plainsearch: %w", err)
	}
	more, err := s.capture(path, f)
	return append(hits, more...), err
}

// Reader searches what r gives, as one string of bytes.
func (s *Searcher) Reader(where string, r io.Reader) ([]Hit, error) {
	sink := newSink(where)
	sc := s.newScanner(sink, "", 0)
	defer sc.close()
	buf := make([]byte, chunk)
	for {
		n, err := r.Read(buf)
		sc.write(buf[:n])
		if errors.Is(err, io.EOF) {
			sc.close()
			return sink.hits, nil
		}
		if err != nil {
			return sink.hits, fmt.Errorf("plainsearch: read %s: %w", where, err)
		}
	}
}

// sink collects the hits of one file.
type sink struct {
	where string
	hits  []Hit
	count map[string]int
}

func newSink(where string) *sink { return &sink{where: where, count: map[string]int{}} }

func (k *sink) add(h Hit) {
	key := h.Needle + "\x00" + h.Form + "\x00" + h.Inside
	if k.count[key]++; k.count[key] > hitsMax {
		return
	}
	h.Where = k.where
	k.hits = append(k.hits, h)
}

// scanner searches one stream of bytes that comes in pieces.
type scanner struct {
	s      *Searcher
	sink   *sink
	inside string
	depth  int
	state  int32
	offset int64
	zstd   *zstdFinder
}

func (s *Searcher) newScanner(k *sink, inside string, depth int) *scanner {
	sc := &scanner{s: s, sink: k, inside: inside, depth: depth}
	if depth < depthMax {
		sc.zstd = &zstdFinder{parent: sc}
	}
	return sc
}

var zeros = make([]byte, chunk)

func (sc *scanner) write(b []byte) {
	// Long runs of zeros, of which sparse files are full, hold no needle.
	if len(b) > 4096 && bytes.Equal(b, zeros[:min(len(b), chunk)]) {
		sc.state = sc.s.auto.scan(sc.state, b[:64], sc.found)
		sc.state = 0
		if sc.zstd != nil {
			sc.zstd.write(b)
		}
		sc.offset += int64(len(b))
		return
	}
	sc.state = sc.s.auto.scan(sc.state, b, sc.found)
	if sc.zstd != nil {
		sc.zstd.write(b)
	}
	sc.offset += int64(len(b))
}

func (sc *scanner) found(i, end int) {
	f := sc.s.forms[i]
	sc.sink.add(Hit{Needle: sc.s.needles[f.needle].Name, Form: f.how, Inside: sc.inside, Offset: sc.offset + int64(end-len(f.bytes))})
}

func (sc *scanner) close() {
	if sc.zstd != nil {
		sc.zstd.close()
	}
}

// Summary counts hits by needle, one line each, for a failure message.
func Summary(hits []Hit) string {
	var lines []string
	for _, h := range hits {
		lines = append(lines, h.String())
	}
	slices.Sort(lines)
	return strings.Join(slices.Compact(lines), "\n")
}
