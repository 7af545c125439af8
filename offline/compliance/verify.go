package compliance

import (
	"bufio"
	"bytes"
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"golang.org/x/sys/unix"
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

// Verify reads a whole archive and checks its chain and its attachments; of o,
// the folders and the prefix count. known is where the archive ended when
// somebody last looked, nil if nobody did: a chain cannot tell by itself that
// its end was cut off. Each, if not nil, gets every record. The error means that
// the archive could not be read.
func Verify(o Options, known *Head, each func(line []byte, r *Record) error) (Report, error) {
	if o.Prefix == "" {
		o.Prefix = DefaultPrefix
	}
	v := &verifier{o: o, each: each, known: known, rep: Report{Head: Head{Hash: Genesis}}}
	files, err := o.list()
	if err != nil {
		return v.rep, fmt.Errorf("compliance: verify: %w", err)
	}
	for _, f := range append(files, o.current()) {
		if err := v.file(f); err != nil {
			return v.rep, fmt.Errorf("compliance: verify: %w", err)
		}
	}
	v.end()
	return v.rep, nil
}

// list returns the full files of an archive whose folders are there. A folder
// for attachments that is not mounted is no attachment taken away.
func (o *Options) list() ([]string, error) {
	for _, dir := range []string{o.Dir, o.Attachments} {
		if st, err := os.Stat(dir); dir != "" && (errors.Is(err, fs.ErrNotExist) || err == nil && !st.IsDir()) {
			return nil, fmt.Errorf("%s: %w", dir, ErrNoFolder)
		}
	}
	return rotatedFiles(o.Dir, o.Prefix)
}

type verifier struct {
	o     Options
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

// attachment checks the copy that a record names.
func (v *verifier) attachment(r *Record) error {
	if r.File == nil || r.File.LocalFilename == "" || r.Outrider.SHA256 == "" {
		return nil
	}
	path, err := v.o.copyOf(r.File.LocalFilename)
	if errors.Is(err, fs.ErrNotExist) {
		v.find(NoteRemoved, "the copy of record %d was taken away", r.Outrider.N)
		return nil
	}
	if err != nil {
		return err
	}
	v.rep.Attachments++
	sum, err := hashFile(path)
	if errors.Is(err, fs.ErrInvalid) || absent(err) {
		err = nil // a device, a pipe or a link to nothing stands in its place; sum is nobody's
	}
	if err == nil && hex.EncodeToString(sum) != r.Outrider.SHA256 {
		v.find(FindAttachment, "the copy of record %d is not the file that was archived", r.Outrider.N)
	}
	return err
}

// copyOf finds the copy that a record names, wherever the archive lies now: by
// its name in the folder for attachments. The place it was written to counts
// only for an archive whose copies lie in a folder of their own, and nobody
// said where that is: in the folder of another archive, as that from which
// this one was copied, there are only others' copies. fs.ErrNotExist: it is
// nowhere.
func (o *Options) copyOf(recorded string) (string, error) {
	name := filepath.Base(recorded)
	if name == "." || name == ".." || name == "/" {
		return "", fs.ErrNotExist
	}
	places := []string{filepath.Join(o.Dir, attachments, name)}
	switch {
	case o.Attachments != "":
		places = append([]string{filepath.Join(o.Attachments, name)}, places...)
	case filepath.IsAbs(recorded) && recorded == filepath.Clean(recorded) && !o.inArchive(filepath.Dir(recorded)):
		places = append(places, recorded)
	}
	for _, p := range places {
		if _, err := os.Lstat(p); !absent(err) {
			return p, err
		}
	}
	return "", fs.ErrNotExist
}

// absent tells whether an error means that there is no such file, or none can
// be. A record may claim any path.
func absent(err error) bool {
	return slices.ContainsFunc([]error{fs.ErrNotExist, unix.ENOTDIR, unix.ENAMETOOLONG, unix.EINVAL, unix.ELOOP},
		func(e error) bool { return errors.Is(err, e) })
}

// inArchive tells whether a folder is that for attachments within an archive's.
func (o *Options) inArchive(dir string) bool {
	if filepath.Base(dir) != attachments {
		return false
	}
	parent := Options{Dir: filepath.Dir(dir), Prefix: o.Prefix}
	full, err := rotatedFiles(parent.Dir, o.Prefix)
	_, open := os.Lstat(parent.current())
	return err != nil || open == nil || len(full) > 0
}

// hashFile is the SHA-256 of a regular file; anything else is fs.ErrInvalid and
// is not read: it might have no end.
func hashFile(path string) (_ []byte, err error) {
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NONBLOCK, 0) // a pipe's end is not waited for
	if errors.Is(err, unix.ENXIO) {                             // a socket
		err = fs.ErrInvalid
	}
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	if st, err := f.Stat(); err != nil || !st.Mode().IsRegular() {
		return nil, cmp.Or(err, fs.ErrInvalid)
	}
	sum := sha256.New()
	_, err = io.Copy(sum, f)
	return sum.Sum(nil), err
}
