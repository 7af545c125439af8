package report

import (
	"archive/zip"
	"bytes"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var when = time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)

func TestWrite(t *testing.T) {
	long := append(make([]byte, partMax), "the newest"...)
	var a, b bytes.Buffer
	for _, w := range []io.Writer{&a, &b} {
		if err := Write(w, when, []Part{{"a.txt", []byte("one")}, {"b.txt", long}}); err != nil {
			t.Fatal(err)
		}
	}
	if !bytes.Equal(a.Bytes(), b.Bytes()) {
		t.Error("the same parts give other bytes")
	}
	z, err := zip.NewReader(bytes.NewReader(a.Bytes()), int64(a.Len()))
	if err != nil || len(z.File) != 2 {
		t.Fatal(err)
	}
	if f := z.File[1]; f.UncompressedSize64 != partMax {
		t.Errorf("a part of %d bytes", f.UncompressedSize64)
	}
	r, err := z.File[1].Open()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if raw, err := io.ReadAll(r); err != nil || !bytes.HasSuffix(raw, []byte("the newest")) {
		t.Errorf("the end is not kept: %v", err)
	}
	if err := Write(broken{}, when, []Part{{"a", nil}}); err == nil {
		t.Error("a stick that breaks is not told")
	}
}

type broken struct{}

func (broken) Write([]byte) (int, error) { return 0, io.ErrShortWrite }

func TestRedact(t *testing.T) {
	var r Redactor
	for _, c := range []struct{ in, want string }{
		{`listen = "192.168.7.1:7410"`, `listen = "address-1:7410"`},
		{"again 192.168.7.1, and 10.0.0.9.", "again address-1, and address-2."},
		{"[2001:db8::7]:7411", "[address-3]:7411"},
		{"fe80::1%eth0 up", "address-4 up"},
		{"127.0.0.1:7480 0.0.0.0:7410 ::1", "127.0.0.1:7480 0.0.0.0:7410 ::1"},
		{"time=2026-11-22T12:00:01.5Z v1.2.3 node.go:123 0xc000 300.1.1.1", "time=2026-11-22T12:00:01.5Z v1.2.3 node.go:123 0xc000 300.1.1.1"},
		{"", ""},
	} {
		if got := string(r.Redact([]byte(c.in))); got != c.want {
			t.Errorf("%q: %q, want %q", c.in, got, c.want)
		}
	}
}

func FuzzRedact(f *testing.F) {
	f.Add("10.1.2.3:4 ::ffff:10.1.2.3 [fe80::1%25eth0]")
	f.Fuzz(func(t *testing.T, s string) {
		var r Redactor
		once := r.Redact([]byte(s + " 203.0.113.9 "))
		if bytes.Contains(once, []byte(" 203.0.113.9 ")) {
			t.Error("an address is left")
		}
	})
}

func TestLogIsBounded(t *testing.T) {
	dir := t.TempDir()
	l, err := OpenLog(dir)
	if err != nil {
		t.Fatal(err)
	}
	l.max = 1000
	for i := range 500 {
		fmt.Fprintf(l, "line %d\n", i)
	}
	if n, err := l.Write(bytes.Repeat([]byte("x"), 5000)); n != 5000 || err != nil {
		t.Errorf("a line longer than a file: %d %v", n, err)
	}
	fmt.Fprintln(l, "the newest")
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) != 2 {
		t.Fatalf("%v %v", entries, err)
	}
	for _, e := range entries {
		st, err := e.Info()
		if err != nil || st.Size() > 1000 || st.Mode().Perm() != 0o600 {
			t.Errorf("%s: %v %v", e.Name(), st, err)
		}
	}
	lines, err := Lines(dir)
	if err != nil || !bytes.HasSuffix(lines, []byte("the newest\n")) {
		t.Errorf("%q %v", lines, err)
	}
	// It goes on where it ended, and a closed one takes lines and forgets them.
	if l, err = OpenLog(dir); err != nil {
		t.Fatal(err)
	}
	fmt.Fprintln(l, "another start")
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if n, err := fmt.Fprintln(l, "too late"); n == 0 || err != nil {
		t.Errorf("%d %v", n, err)
	}
	if lines, _ = Lines(dir); !bytes.Contains(lines, []byte("the newest\nanother start\n")) || bytes.Contains(lines, []byte("too late")) {
		t.Errorf("%q", lines)
	}
	if _, err := OpenLog(filepath.Join(dir, "nowhere")); err == nil {
		t.Error("a folder that is not there")
	}
	if none, err := Lines(t.TempDir()); err != nil || len(none) > 0 {
		t.Errorf("no log: %q %v", none, err)
	}
}

func TestCrashIsKeptOnce(t *testing.T) {
	dir := t.TempDir()
	stop, err := WatchCrashes(dir)
	if err != nil {
		t.Fatal(err)
	}
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	if trace, at := Crash(dir, time.Now()); trace != nil || !at.IsZero() {
		t.Errorf("a crash that never was: %q", trace)
	}
	// What a run that crashed leaves is longer than what is kept.
	big := append([]byte("panic: first\n"), bytes.Repeat([]byte("g"), crashMax)...)
	if err := os.WriteFile(filepath.Join(dir, crashName), big, 0o600); err != nil {
		t.Fatal(err)
	}
	if stop, err = WatchCrashes(dir); err != nil {
		t.Fatal(err)
	}
	trace, at := Crash(dir, time.Now())
	if len(trace) != crashMax || !strings.HasPrefix(string(trace), "panic: first") || at.IsZero() {
		t.Errorf("%d bytes of %v", len(trace), at)
	}
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	if trace, _ := Crash(dir, time.Now().Add(crashFresh+time.Hour)); trace != nil {
		t.Error("an old crash is still news")
	}
	if _, err := WatchCrashes(filepath.Join(dir, "nowhere")); err == nil {
		t.Error("a folder that is not there")
	}
}

func TestMachineNamesNobody(t *testing.T) {
	text := string(Machine(t.TempDir()))
	for _, want := range []string{"go ", "kernel ", "cpus ", "meminfo", "disk "} {
		if !strings.Contains(text, want) {
			t.Errorf("%q is missing in\n%s", want, text)
		}
	}
	host, err := os.Hostname()
	if err == nil && len(host) > 5 && strings.Contains(text, host) {
		t.Error("the machine's name is told")
	}
}
