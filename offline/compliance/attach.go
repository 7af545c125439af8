package compliance

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"
	"unicode/utf8"

	"outrider/mesh/envelope"
)

// An Attachment is a decrypted copy at the archive.
type Attachment struct {
	Path   string // absolute
	SHA256 [32]byte
	Size   int64
}

// Attach writes a file beside the journal and returns when it is on disk. The
// stamp is the message's time, so that after a crash the same file is found
// and not written twice: one of that name and content is taken as it is, one
// of other content moves the stamp on by a millisecond.
func (j *Journal) Attach(at time.Time, name string, content io.Reader) (Attachment, error) {
	a, err := j.attach(at, name, content)
	if err != nil {
		return a, fmt.Errorf("compliance: write attachment: %w", full(err))
	}
	return a, nil
}

func (j *Journal) attach(at time.Time, name string, content io.Reader) (a Attachment, err error) {
	part, err := os.CreateTemp(j.o.Attachments, ".part-*")
	if err != nil {
		return a, err
	}
	defer func() {
		cerr := errors.Join(part.Close(), os.Remove(part.Name()))
		if !errors.Is(cerr, fs.ErrNotExist) {
			err = errors.Join(err, cerr)
		}
	}()
	sum := sha256.New()
	if a.Size, err = io.Copy(io.MultiWriter(part, sum), content); err != nil {
		return a, err
	}
	a.SHA256 = [32]byte(sum.Sum(nil))
	if err := part.Sync(); err != nil {
		return a, err
	}
	return j.place(a, part.Name(), at.UTC(), name)
}

// maxStamps is how many files of one name may begin in one second.
const maxStamps = 1000

// place gives the file its name, without ever replacing another.
func (j *Journal) place(a Attachment, part string, at time.Time, name string) (Attachment, error) {
	for i := range maxStamps {
		a.Path = filepath.Join(j.o.Attachments, AttachmentName(at.Add(time.Duration(i)*time.Millisecond), name))
		err := os.Link(part, a.Path)
		if errors.Is(err, fs.ErrExist) {
			if same(a) {
				return a, syncDir(j.o.Attachments)
			}
			continue
		}
		if err != nil { // a file system without links
			err = renameNew(part, a.Path)
		}
		if errors.Is(err, fs.ErrExist) {
			continue
		}
		return a, errors.Join(err, syncDir(j.o.Attachments))
	}
	return a, fmt.Errorf("%d files of this name in one second", maxStamps)
}

// renameNew renames without replacing, as far as one program can tell: the
// journal's lock keeps others away.
func renameNew(from, to string) error {
	if _, err := os.Lstat(to); err == nil {
		return fs.ErrExist
	}
	return os.Rename(from, to)
}

// same tells whether the file at a's path is a.
func same(a Attachment) bool {
	f, err := os.Open(a.Path)
	if err != nil {
		return false
	}
	defer func() { _ = f.Close() }()
	sum := hash.Hash(sha256.New())
	n, err := io.Copy(sum, f)
	return err == nil && n == a.Size && [32]byte(sum.Sum(nil)) == a.SHA256
}

// AttachmentName is the name of a copy at the archive: the moment in 17 digits
// and the name it had, made safe. If it is too long, the end of the original
// name goes, but for its extension.
func AttachmentName(at time.Time, name string) string {
	at = at.UTC()
	stamp := at.Format("20060102150405") + fmt.Sprintf("%03d", at.Nanosecond()/int(time.Millisecond))
	prefix := "attachment_" + stamp + "_"
	name = envelope.SafeName(name)
	room := MaxName - len(prefix)
	if len(name) <= room {
		return prefix + name
	}
	ext := filepath.Ext(name)
	if len(ext) > 32 {
		ext = ""
	}
	stem := cut(strings.TrimSuffix(name, ext), room-len(ext))
	return prefix + stem + ext
}

// cut shortens to n bytes, at the begin of a character.
func cut(s string, n int) string {
	if len(s) <= n {
		return s
	}
	for n > 0 && !utf8.RuneStart(s[n]) {
		n--
	}
	return s[:n]
}
