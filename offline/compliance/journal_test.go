package compliance

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func text(n int) *Record {
	r := &Record{Message: fmt.Sprintf("message %d", n), MessageID: fmt.Sprintf("%032x", n), MsgType: TypeText, Sender: "mora"}
	r.SetTime(time.Unix(1767348181+int64(n), 0))
	return r
}

func opened(t testing.TB, o Options) *Journal {
	t.Helper()
	j, err := Open(o)
	if err != nil {
		t.Fatal(err)
	}
	return j
}

func write(t testing.TB, o Options, from, to int) Head {
	t.Helper()
	j := opened(t, o)
	for n := from; n <= to; n++ {
		if err := j.Append(text(n)); err != nil {
			t.Fatal(err)
		}
	}
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
	return j.Head()
}

func verified(t testing.TB, dir string, known *Head) Report {
	t.Helper()
	rep, err := Verify(Options{Dir: dir}, known, nil)
	if err != nil {
		t.Fatal(err)
	}
	return rep
}

func log(dir string) string { return filepath.Join(dir, "receivedMessages.log") }

func TestK02JournalGoesOnWhereItWas(t *testing.T) {
	dir := t.TempDir()
	write(t, Options{Dir: dir}, 1, 3)
	head := write(t, Options{Dir: dir}, 4, 5)
	rep := verified(t, dir, &head)
	if !rep.Sound() || rep.Records != 5 || head.N != 5 || rep.Head != head {
		t.Errorf("%+v, head %d", rep, head.N)
	}
}

// TestK02JournalRotates: by size, never inside a record, in the order of names
// whatever the clock does.
func TestK02JournalRotates(t *testing.T) {
	dir := t.TempDir()
	now := time.Date(2026, 1, 2, 10, 3, 1, 0, time.UTC)
	o := Options{Dir: dir, MaxBytes: MinMaxBytes, Now: func() time.Time { now = now.Add(-time.Second); return now }}
	head := write(t, o, 1, 60)
	files, err := rotatedFiles(dir, DefaultPrefix)
	if err != nil || len(files) < 3 || filepath.Base(files[0]) != "receivedMessages_20260102T100300.log" {
		t.Fatalf("%v %v", files, err)
	}
	for _, f := range append(files, log(dir)) {
		b, err := os.ReadFile(f)
		if err != nil || len(b) > MinMaxBytes || len(b) == 0 || b[len(b)-1] != '\n' {
			t.Errorf("%s: %d bytes, %v", f, len(b), err)
		}
	}
	if rep := verified(t, dir, &head); !rep.Sound() || rep.Records != 60 {
		t.Errorf("%+v", rep)
	}
	if err := os.Remove(files[1]); err != nil {
		t.Fatal(err)
	}
	if rep := verified(t, dir, &head); rep.Sound() || rep.Findings[0].Code != FindGap {
		t.Errorf("a missing file: %+v", rep)
	}
}

// A record that fills a file by itself is not split either.
func TestK02RecordLargerThanAFile(t *testing.T) {
	dir := t.TempDir()
	j := opened(t, Options{Dir: dir, MaxBytes: MinMaxBytes})
	big := text(2)
	big.Message = strings.Repeat("x", 3*MinMaxBytes)
	if err := j.Append(text(1), big, text(3)); err != nil {
		t.Fatal(err)
	}
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
	if rep := verified(t, dir, nil); !rep.Sound() || rep.Records != 3 || rep.Files != 3 {
		t.Errorf("%+v", rep)
	}
}

// TestK05PowerCutAtEveryByte: whatever the last line had become, the archive
// goes on with the record that was never acknowledged, once.
func TestK05PowerCutAtEveryByte(t *testing.T) {
	whole := t.TempDir()
	write(t, Options{Dir: whole}, 1, 2)
	b, err := os.ReadFile(log(whole))
	if err != nil {
		t.Fatal(err)
	}
	first := bytes.IndexByte(b, '\n') + 1
	for n := first; n <= len(b); n += 7 {
		dir := t.TempDir()
		if err := os.WriteFile(log(dir), b[:n], 0o600); err != nil {
			t.Fatal(err)
		}
		torn := n > first && n < len(b)
		if rep := verified(t, dir, nil); !rep.Sound() || torn != (len(rep.Findings) == 1 && rep.Findings[0].Code == NoteTorn) {
			t.Fatalf("cut at %d: %+v", n, rep)
		}
		j := opened(t, Options{Dir: dir})
		if torn != (j.Healed() > 0) {
			t.Fatalf("cut at %d: healed %d", n, j.Healed())
		}
		if err := j.Append(text(1), text(2), text(3)); err != nil {
			t.Fatal(err)
		}
		if err := j.Close(); err != nil {
			t.Fatal(err)
		}
		if rep := verified(t, dir, nil); !rep.Sound() || rep.Records != 3 {
			t.Fatalf("cut at %d: %+v", n, rep)
		}
	}
}

// TestK05NothingTwice: what was written and not acknowledged comes again, also
// across a rotation, and is passed over.
func TestK05NothingTwice(t *testing.T) {
	dir := t.TempDir()
	o := Options{Dir: dir, MaxBytes: MinMaxBytes}
	write(t, o, 1, 20)
	head := write(t, o, 10, 22)
	if rep := verified(t, dir, nil); !rep.Sound() || rep.Records != 22 || head.N != 22 {
		t.Errorf("%+v", rep)
	}
}

// TestK09ChainShows a change, a removal, a swap and a cut end.
func TestK09ChainShows(t *testing.T) {
	for _, c := range []struct {
		name, code string
		spoil      func(lines [][]byte) [][]byte
	}{
		{"a changed line", FindChanged, func(l [][]byte) [][]byte {
			l[2] = bytes.Replace(l[2], []byte("message 3"), []byte("message 8"), 1)
			return l
		}},
		{"a removed line", FindGap, func(l [][]byte) [][]byte { return append(l[:2:2], l[3:]...) }},
		{"a swap", FindGap, func(l [][]byte) [][]byte { l[1], l[2] = l[2], l[1]; return l }},
		{"a line twice", FindDouble, func(l [][]byte) [][]byte { return append(l[:3:3], l[2:]...) }},
		{"no begin", FindBeginning, func(l [][]byte) [][]byte { return l[1:] }},
		{"no end", FindEnd, func(l [][]byte) [][]byte { return l[:4] }},
		{"another end", FindChanged, func(l [][]byte) [][]byte {
			l[4] = bytes.Replace(l[4], []byte("message 5"), []byte("message 9"), 1)
			return l
		}},
		{"no record", FindMalformed, func(l [][]byte) [][]byte { l[1] = []byte(`{"msgtype":1000}`); return l }},
		{"a line without end", FindMalformed, func(l [][]byte) [][]byte {
			l[1] = bytes.Repeat([]byte("x"), 3*MaxRecord)
			return l
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := t.TempDir()
			head := write(t, Options{Dir: dir}, 1, 5)
			b, err := os.ReadFile(log(dir))
			if err != nil {
				t.Fatal(err)
			}
			l := c.spoil(bytes.Split(bytes.TrimSuffix(b, []byte("\n")), []byte("\n")))
			if err := os.WriteFile(log(dir), append(bytes.Join(l, []byte("\n")), '\n'), 0o600); err != nil {
				t.Fatal(err)
			}
			rep := verified(t, dir, &head)
			if rep.Sound() || rep.Findings[0].Code != c.code {
				t.Errorf("%+v", rep.Findings)
			}
		})
	}
}

func TestK02OneWriterAtATime(t *testing.T) {
	dir := t.TempDir()
	j := opened(t, Options{Dir: dir})
	if _, err := Open(Options{Dir: dir}); !errors.Is(err, ErrBusy) {
		t.Errorf("a second writer: %v", err)
	}
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
	write(t, Options{Dir: dir}, 1, 1)
}

// TestK03FoldersAreNotMadeUnasked: a folder that is not there may lie on a disk
// that is not mounted.
func TestK03FoldersAreNotMadeUnasked(t *testing.T) {
	dir := t.TempDir()
	gone := filepath.Join(dir, "gone")
	for name, o := range map[string]Options{
		"the journal's": {Dir: gone}, "the attachments'": {Dir: dir, Attachments: gone}, "a file": {Dir: log(dir)},
	} {
		if name == "a file" {
			if err := os.WriteFile(log(dir), nil, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := Open(o); !errors.Is(err, ErrNoFolder) {
			t.Errorf("%s: %v", name, err)
		}
		if _, err := os.Stat(gone); err == nil {
			t.Errorf("%s folder was made", name)
		}
	}
	if _, err := Verify(Options{Dir: gone}, nil, nil); !errors.Is(err, ErrNoFolder) {
		t.Errorf("verify: %v", err)
	}
}

// TestK03AttachmentsOnAnotherMount are meant only when they are named.
func TestK03AttachmentsOnAnotherMount(t *testing.T) {
	dir, other := t.TempDir(), "/dev/shm"
	var a, b unix.Stat_t
	if unix.Stat(dir, &a) != nil || unix.Stat(other, &b) != nil || a.Dev == b.Dev {
		other = "/proc/self/fdinfo" // surely another one; not writable, which is found first
	}
	if err := os.Symlink(other, filepath.Join(dir, "attachments")); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(Options{Dir: dir}); err == nil || other == "/dev/shm" && !errors.Is(err, ErrOtherMount) {
		t.Errorf("another mount: %v", err)
	}
}

func TestK02Refuses(t *testing.T) {
	dir := t.TempDir()
	for name, o := range map[string]Options{
		"a file below the least": {Dir: dir, MaxBytes: MinMaxBytes - 1}, "a path as prefix": {Dir: dir, Prefix: "../x"},
		"a hidden prefix": {Dir: dir, Prefix: ".x"}, "a long prefix": {Dir: dir, Prefix: strings.Repeat("x", 65)},
	} {
		if _, err := Open(o); err == nil {
			t.Errorf("%s is taken", name)
		}
	}
	if err := os.WriteFile(log(dir), []byte("something else\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(Options{Dir: dir}); !errors.Is(err, ErrDamaged) {
		t.Errorf("another file: %v", err)
	}
	if err := os.WriteFile(log(dir), make([]byte, 3*MaxRecord), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(Options{Dir: dir}); !errors.Is(err, ErrDamaged) {
		t.Errorf("zeros: %v", err)
	}
}

// TestK02FullDisk: what does not fit leaves no half line, and is written when
// there is room.
func TestK02FullDisk(t *testing.T) {
	dir := t.TempDir()
	j := opened(t, Options{Dir: dir})
	if err := j.Append(text(1)); err != nil {
		t.Fatal(err)
	}
	real := j.file
	dead, err := os.OpenFile("/dev/full", os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	j.file = dead
	if err := j.Append(text(2)); !errors.Is(err, ErrFull) {
		t.Fatalf("a full disk: %v", err)
	}
	_ = dead.Close()
	j.file, j.bad = real, nil // /dev/full cannot be truncated; a file can
	if err := j.Append(text(2)); err != nil {
		t.Fatal(err)
	}
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
	if rep := verified(t, dir, nil); !rep.Sound() || rep.Records != 2 {
		t.Errorf("%+v", rep)
	}
}

func TestK09LegacyOptions(t *testing.T) {
	dir := t.TempDir()
	j := opened(t, Options{Dir: dir, LegacyID: true, LegacyQUID: true})
	r := text(1)
	r.MsgType, r.Control = TypeRoomSettings, &Control{MsgType: TypeRoomSettings, ChangeMask: ptr(ChangeSaved), FileVaultInfo: &SavedItem{GUID: "2E77", Key: "00"}}
	if err := j.Append(r); err != nil {
		t.Fatal(err)
	}
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(log(dir))
	if err != nil || !bytes.Contains(b, []byte(`"id":"`+r.MessageID)) || !bytes.Contains(b, []byte(`"quid":"2E77"`)) || bytes.Contains(b, []byte(`guid"`)) {
		t.Errorf("%s %v", b, err)
	}
	if r.ID != "" || r.Control.FileVaultInfo.GUID != "2E77" {
		t.Error("the caller's record was changed")
	}
	write(t, Options{Dir: dir}, 1, 2) // and it is read on
}

func TestK03AttachmentNames(t *testing.T) {
	at := time.Date(2026, 1, 2, 10, 7, 12, 44_190_000, time.UTC)
	const p = "attachment_20260102100712044_"
	long := strings.Repeat("ä", 200)
	for name, want := range map[string]string{
		"route-blue.kmz":     p + "route-blue.kmz",
		"../../etc/passwd":   p + "passwd",
		`C:\secret\plan.doc`: p + "plan.doc",
		"a\x00b.txt":         p + "ab.txt",
		"gnp.\u202eexe":      p + "gnp.exe",
		"":                   p + "file",
		"..":                 p + "file",
		long + ".kmz":        p + strings.Repeat("ä", 111) + ".kmz",
		"x." + long:          p + "x." + strings.Repeat("ä", 112),
	} {
		got := AttachmentName(at, name)
		if got != want {
			t.Errorf("%q becomes %q, want %q", name, got, want)
		}
		if len(got) > MaxName || strings.ContainsAny(got, "/\x00") {
			t.Errorf("%q: %d bytes", got, len(got))
		}
	}
	if got := AttachmentName(at, strings.Repeat("x", 255-len(p))); len(got) != 255 || !strings.HasSuffix(got, "xx") {
		t.Errorf("exactly 255 bytes become %d", len(got))
	}
}

func TestK03AttachmentsAreWrittenOnce(t *testing.T) {
	dir := t.TempDir()
	j := opened(t, Options{Dir: dir})
	at := time.Date(2026, 1, 2, 10, 7, 12, 0, time.UTC)
	attach := func(name, content string) Attachment {
		a, err := j.Attach(at, name, strings.NewReader(content))
		if err != nil {
			t.Fatal(err)
		}
		return a
	}
	a, again, other := attach("plan.txt", "one"), attach("plan.txt", "one"), attach("plan.txt", "two")
	if a != again || a.Path == other.Path || !strings.HasSuffix(other.Path, "712001_plan.txt") {
		t.Errorf("%s %s %s", a.Path, again.Path, other.Path)
	}
	if _, err := j.Attach(at, "half.txt", io.MultiReader(strings.NewReader("x"), failing{})); !errors.Is(err, errFailing) {
		t.Errorf("half a file: %v", err)
	}
	list, err := os.ReadDir(filepath.Join(dir, "attachments"))
	if err != nil || len(list) != 2 {
		t.Errorf("%v %v", list, err)
	}
	r := text(1)
	r.File, r.Outrider = &File{Filename: "plan.txt", LocalFilename: a.Path}, &Extensions{SHA256: fmt.Sprintf("%x", a.SHA256)}
	if err := errors.Join(j.Append(r), j.Close()); err != nil {
		t.Fatal(err)
	}
	if rep := verified(t, dir, nil); !rep.Sound() || rep.Attachments != 1 {
		t.Errorf("%+v", rep)
	}
	if err := os.WriteFile(a.Path, []byte("new"), 0o600); err != nil {
		t.Fatal(err)
	}
	if rep := verified(t, dir, nil); rep.Sound() || rep.Findings[0].Code != FindAttachment {
		t.Errorf("a changed copy: %+v", rep)
	}
	if err := os.Remove(a.Path); err != nil {
		t.Fatal(err)
	}
	if rep := verified(t, dir, nil); !rep.Sound() || rep.Findings[0].Code != NoteRemoved {
		t.Errorf("a removed copy: %+v", rep)
	}
}

var errFailing = errors.New("failing")

type failing struct{}

func (failing) Read([]byte) (int, error) { return 0, errFailing }
