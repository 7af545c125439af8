package compliance

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
)

// What can be found in an archive.
const (
	FindChanged    = "changed"    // a line is not the one that was written
	FindGap        = "gap"        // records are missing between two
	FindBeginning  = "beginning"  // records before the first are missing
	FindEnd        = "end"        // records after the last are missing
	FindMalformed  = "malformed"  // a line is no record
	FindDouble     = "double"     // a number comes again
	FindAttachment = "attachment" // a copy is not the file that was archived
	NoteTorn       = "torn"       // the last line was cut; the next start mends it
	NoteRemoved    = "removed"    // a copy was taken away, as may be
)

// A Finding is one thing wrong with an archive.
type Finding struct {
	Code string `json:"code"`
	File string `json:"file"`           // its name
	Line int    `json:"line,omitempty"` // from 1
	Text string `json:"text"`
	Note bool   `json:"note,omitempty"` // worth knowing, no fault
}

// A Report is what Verify found.
type Report struct {
	Records     uint64    `json:"records"`
	Files       int       `json:"files"`
	Attachments int       `json:"attachments"`
	Findings    []Finding `json:"findings"`
	Head        Head      `json:"-"`
}

// Sound tells whether nothing is wrong.
func (r Report) Sound() bool {
	for _, f := range r.Findings {
		if !f.Note {
			return false
		}
	}
	return true
}

// maxFindings is how many findings a report lists; the rest is of one cause.
const maxFindings = 100

// Verify reads a whole archive and checks its chain and its attachments. known
// is where the archive ended when somebody last looked, nil if nobody did: a
// chain cannot tell by itself that its end was cut off. Each, if not nil, gets
// every record. The error means that the archive could not be read.
func Verify(dir, prefix string, known *Head, each func(line []byte, r *Record) error) (Report, error) {
	if prefix == "" {
		prefix = DefaultPrefix
	}
	v := &verifier{each: each, known: known, rep: Report{Head: Head{Hash: Genesis}}}
	files, err := rotatedFiles(dir, prefix)
	if errors.Is(err, fs.ErrNotExist) {
		err = fmt.Errorf("%s: %w", dir, ErrNoFolder)
	}
	if err != nil {
		return v.rep, fmt.Errorf("compliance: verify: %w", err)
	}
	for _, f := range append(files, filepath.Join(dir, prefix+".log")) {
		if err := v.file(f); err != nil {
			return v.rep, fmt.Errorf("compliance: verify: %w", err)
		}
	}
	v.end()
	return v.rep, nil
}

type verifier struct {
	rep   Report
	each  func([]byte, *Record) error
	known *Head
	met   bool // known was met
	begun bool
	name  string
	line  int
}

func (v *verifier) find(code, text string, args ...any) {
	if len(v.rep.Findings) >= maxFindings {
		return
	}
	note := code == NoteTorn || code == NoteRemoved
	v.rep.Findings = append(v.rep.Findings, Finding{Code: code, File: v.name, Line: v.line, Text: fmt.Sprintf(text, args...), Note: note})
}

func (v *verifier) file(path string) (err error) {
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil // nothing was written yet, or only full files are kept
	}
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	v.name, v.line = filepath.Base(path), 0
	v.rep.Files++
	in := bufio.NewReaderSize(f, 64<<10)
	for {
		line, whole, err := readLine(in)
		switch {
		case err == nil:
		case errors.Is(err, io.EOF) && len(line) == 0:
			return nil
		case errors.Is(err, io.EOF):
			v.line++
			v.find(NoteTorn, "the last line is cut; it was never acknowledged, and the next start takes it away")
			return nil
		default:
			return err
		}
		v.line++
		if err := v.record(line, whole); err != nil {
			return err
		}
	}
}

// readLine reads a line without its line feed, at most MaxRecord of it.
func readLine(in *bufio.Reader) (line []byte, whole bool, err error) {
	whole = true
	for {
		part, err := in.ReadSlice('\n')
		if len(line)+len(part) <= MaxRecord+1 {
			line = append(line, part...)
		} else {
			whole = false
		}
		if !errors.Is(err, bufio.ErrBufferFull) {
			return bytes.TrimSuffix(line, []byte{'\n'}), whole, err
		}
	}
}

func (v *verifier) record(line []byte, whole bool) error {
	r, err := Parse(line)
	if !whole || err != nil || r.Outrider == nil || r.Outrider.N == 0 {
		v.find(FindMalformed, "this line is no record of an archive")
		v.rep.Head.Hash = sha256.Sum256(line) // the next one says whether it was always so
		v.rep.Head.N++
		v.begun = true
		return nil
	}
	v.rep.Records++
	v.chain(r)
	v.rep.Head = Head{N: r.Outrider.N, Hash: sha256.Sum256(line)}
	v.begun = true
	v.meet()
	if err := v.attachment(r); err != nil {
		return err
	}
	if v.each != nil {
		return v.each(line, r)
	}
	return nil
}

// chain compares a record with the one before it.
func (v *verifier) chain(r *Record) {
	at, want := r.Outrider.N, v.rep.Head.N+1
	fits := r.Outrider.Prev == hex.EncodeToString(v.rep.Head.Hash[:])
	switch {
	case at == want && fits:
	case !v.begun:
		v.find(FindBeginning, "the archive begins with record %d: %d before it are missing, or are kept elsewhere", at, at-1)
	case at > want:
		v.find(FindGap, "records %d to %d are missing before this line", want, at-1)
	case at < want:
		v.find(FindDouble, "record %d stands here behind record %d", at, v.rep.Head.N)
	default:
		v.find(FindChanged, "record %d before this line is not the one that was written", want-1)
	}
}

// meet compares with what somebody knows of the archive.
func (v *verifier) meet() {
	if v.known == nil || v.rep.Head.N != v.known.N {
		return
	}
	v.met = true
	if v.rep.Head.Hash != v.known.Hash {
		v.find(FindChanged, "record %d is not the one that the node knows of", v.known.N)
	}
}

func (v *verifier) end() {
	if v.known == nil || v.met || v.known.N == 0 || v.known.N < v.rep.Head.N {
		return
	}
	v.line = 0
	v.find(FindEnd, "the archive ends with record %d, and the node knows of %d", v.rep.Head.N, v.known.N)
}

// attachment checks the copy that a record names, wherever the archive's
// folder lies now.
func (v *verifier) attachment(r *Record) error {
	if r.File == nil || r.File.LocalFilename == "" || r.Outrider.SHA256 == "" {
		return nil
	}
	f, err := os.Open(r.File.LocalFilename)
	if errors.Is(err, fs.ErrNotExist) {
		v.find(NoteRemoved, "the copy of record %d was taken away", r.Outrider.N)
		return nil
	}
	if err != nil {
		return err
	}
	sum := sha256.New()
	_, err = io.Copy(sum, f)
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	v.rep.Attachments++
	if hex.EncodeToString(sum.Sum(nil)) != r.Outrider.SHA256 {
		v.find(FindAttachment, "the copy of record %d is not the file that was archived", r.Outrider.N)
	}
	return nil
}
