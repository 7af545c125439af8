package compliance

import (
	"encoding/hex"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// withFile writes an archive of one record with a file, and returns the file's
// path.
func withFile(t *testing.T, o Options, name string) string {
	t.Helper()
	j := opened(t, o)
	a, err := j.Attach(time.Date(2026, 1, 2, 10, 7, 12, 0, time.UTC), name, strings.NewReader("blue route"))
	if err != nil {
		t.Fatal(err)
	}
	r := text(1)
	r.MsgType, r.Message = TypeFile, ""
	r.File, r.Outrider = &File{Filename: name, LocalFilename: a.Path}, &Extensions{SHA256: hex.EncodeToString(a.SHA256[:])}
	if err := errors.Join(j.Append(r), j.Close()); err != nil {
		t.Fatal(err)
	}
	return a.Path
}

// found is what Verify finds in an archive, by code.
func found(t *testing.T, o Options) string {
	t.Helper()
	rep, err := Verify(o, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	codes := []string{}
	for _, f := range rep.Findings {
		codes = append(codes, f.Code)
	}
	return strings.Join(codes, " ")
}

func copied(t *testing.T, from string) (to string) {
	t.Helper()
	to = filepath.Join(t.TempDir(), "copy")
	must(t, os.CopyFS(to, os.DirFS(from)))
	return to
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// TestK08CopiedArchiveIsCheckedWithItsOwnFiles: never with those of the archive
// that it was copied from.
func TestK08CopiedArchiveIsCheckedWithItsOwnFiles(t *testing.T) {
	dir := t.TempDir()
	name := filepath.Base(withFile(t, Options{Dir: dir}, "../../route.kmz"))
	there := copied(t, dir)
	its := filepath.Join(there, "attachments", name)
	if got := found(t, Options{Dir: there}); got != "" {
		t.Errorf("a copy: %s", got)
	}
	must(t, os.WriteFile(its, []byte("red route"), 0o600))
	if got := found(t, Options{Dir: there}); got != FindAttachment {
		t.Errorf("its file altered: %q", got)
	}
	if got := found(t, Options{Dir: dir}); got != "" {
		t.Errorf("the archive that it was copied from: %s", got)
	}
	must(t, os.Remove(its))
	if got := found(t, Options{Dir: there}); got != NoteRemoved {
		t.Errorf("its file removed: %q", got)
	}
	// That the other archive is only full files now makes them no less others'.
	must(t, os.Rename(log(dir), filepath.Join(dir, "receivedMessages_20260102T100300.log")))
	if got := found(t, Options{Dir: there}); got != NoteRemoved {
		t.Errorf("its file removed, and the other archive rotated: %q", got)
	}
}

func TestK08MovedArchiveHasItsFiles(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "arch")
	must(t, os.Mkdir(dir, 0o700))
	name := filepath.Base(withFile(t, Options{Dir: dir}, "route.kmz"))
	there := dir + "4"
	must(t, os.Rename(dir, there))
	rep := verified(t, there, nil)
	if len(rep.Findings) != 0 || rep.Attachments != 1 {
		t.Errorf("%+v", rep)
	}
	must(t, os.WriteFile(filepath.Join(there, "attachments", name), []byte("red route"), 0o600))
	if got := found(t, Options{Dir: there}); got != FindAttachment {
		t.Errorf("altered: %q", got)
	}
}

// TestK08AttachmentsInAFolderOfTheirOwn are found where they were written, or
// where somebody says they are now.
func TestK08AttachmentsInAFolderOfTheirOwn(t *testing.T) {
	dir, disk := t.TempDir(), filepath.Join(t.TempDir(), "attachments")
	must(t, os.Mkdir(disk, 0o700))
	name := filepath.Base(withFile(t, Options{Dir: dir, Attachments: disk}, "route.kmz"))
	if rep := verified(t, dir, nil); len(rep.Findings) != 0 || rep.Attachments != 1 {
		t.Errorf("where they were written: %+v", rep)
	}
	moved := copied(t, disk)
	must(t, os.WriteFile(filepath.Join(moved, name), []byte("red route"), 0o600))
	if got := found(t, Options{Dir: dir, Attachments: moved}); got != FindAttachment {
		t.Errorf("altered where they are now: %q", got)
	}
	must(t, os.Remove(filepath.Join(moved, name)))
	if got := found(t, Options{Dir: dir, Attachments: moved}); got != NoteRemoved {
		t.Errorf("removed where they are now: %q", got)
	}
	if _, err := Verify(Options{Dir: dir, Attachments: filepath.Join(moved, "gone")}, nil, nil); !errors.Is(err, ErrNoFolder) {
		t.Errorf("a folder that is not mounted: %v", err)
	}
	must(t, os.Remove(filepath.Join(disk, name)))
	if got := found(t, Options{Dir: dir}); got != NoteRemoved {
		t.Errorf("removed: %q", got)
	}
}

// TestK08RecordedPathIsNoPathOut: what a record says of its copy's place leads
// to no other file by .. , and to no copy by a name that is none.
func TestK08RecordedPathIsNoPathOut(t *testing.T) {
	dir := t.TempDir()
	secret := filepath.Join(dir, "secret")
	must(t, os.WriteFile(secret, []byte("blue route"), 0o600))
	o := Options{Dir: filepath.Join(dir, "arch"), Prefix: DefaultPrefix}
	must(t, os.MkdirAll(filepath.Join(o.Dir, "attachments"), 0o700))
	for _, recorded := range []string{
		o.Dir + "/attachments/../../secret", "../secret", "secret", "..", "/", ".", o.Dir + "/attachments/..", dir + "//secret",
		strings.Repeat("x", 1<<16), "/" + strings.Repeat("x/", 1<<16) + "x", "/a\x00b", secret + "/x",
	} {
		if p, err := o.copyOf(recorded); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s leads to %s, %v", recorded, p, err)
		}
	}
	if p, err := o.copyOf(secret); p != secret || err != nil {
		t.Errorf("a folder of its own: %s, %v", p, err) // as --attachments names one
	}
	here := filepath.Join(o.Dir, "attachments", "secret")
	must(t, os.WriteFile(here, nil, 0o600))
	for _, recorded := range []string{secret, "/x/../secret", "/gone/attachments/secret"} {
		if p, err := o.copyOf(recorded); p != here || err != nil {
			t.Errorf("%s leads to %s, %v", recorded, p, err)
		}
	}
}

// TestK08NoFileInACopysPlace: what has no end is not read.
func TestK08NoFileInACopysPlace(t *testing.T) {
	dir := t.TempDir()
	path := withFile(t, Options{Dir: dir}, "route.kmz")
	for what, put := range map[string]func() error{
		"a pipe":            func() error { return unix.Mkfifo(path, 0o600) },
		"a device":          func() error { return os.Symlink("/dev/zero", path) },
		"a folder":          func() error { return os.Mkdir(path, 0o700) },
		"a link to nothing": func() error { return os.Symlink(path+".gone", path) },
		"a link to itself":  func() error { return os.Symlink(path, path) },
		"a socket":          func() error { return unix.Mknod(path, unix.S_IFSOCK|0o600, 0) },
	} {
		must(t, os.Remove(path))
		must(t, put())
		if got := found(t, Options{Dir: dir}); got != FindAttachment {
			t.Errorf("%s: %q", what, got)
		}
	}
}
