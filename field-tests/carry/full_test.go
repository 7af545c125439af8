package carry

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"outrider/mesh/bundle"
	"outrider/mesh/identity"
	medium "outrider/offline/carry"
)

var eagle = identity.NetworkID{7}

// smallStick is a file system of its own.
func smallStick(t *testing.T, options string) string {
	t.Helper()
	dir := t.TempDir()
	if err := unix.Mount("none", dir, "tmpfs", 0, options+",mode=0755"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Unmount(dir, unix.MNT_DETACH) })
	return dir
}

func plugged(t *testing.T, dir string) *medium.Medium {
	t.Helper()
	m, err := medium.Open(dir, eagle)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func unplugged(t *testing.T, m *medium.Medium) {
	t.Helper()
	if err := m.Close(); err != nil {
		t.Fatal(err)
	}
}

// put writes a bundle of so many bytes.
func put(t *testing.T, m *medium.Medium, n, size int) (bundle.ID, error) {
	t.Helper()
	h := bundle.Header{Version: 1, Tag: identity.Tag{1}, Lifetime: time.Hour, Kind: bundle.KindMessage}
	h.Commitment = bundle.PurgeKey{9}.Commit(h.Tag)
	payload := make([]byte, size)
	copy(payload, fmt.Sprint(n))
	b, err := bundle.New(h, payload, 4)
	if err != nil {
		t.Fatal(err)
	}
	id := b.ID()
	return id, m.Commit(t.Context(), [][]medium.Op{{{Kind: medium.KindBundle, Key: id[:], Data: b.Append(nil)}}})
}

// filled is a stick that holds count bundles of 50 kB, closed.
func filled(t *testing.T, dir string, count int) (ids []bundle.ID) {
	t.Helper()
	m := plugged(t, dir)
	for n := range count {
		id, err := put(t, m, n, 50_000)
		if err != nil {
			t.Fatal(err)
		}
		ids = append(ids, id)
	}
	unplugged(t, m)
	return ids
}

// readable counts those of ids that can be read.
func readable(m *medium.Medium, ids []bundle.ID) (n int) {
	for _, id := range ids {
		if _, _, err := m.Load(id); err == nil {
			n++
		}
	}
	return n
}

func onlyLog(t *testing.T, dir string) string {
	t.Helper()
	logs, err := filepath.Glob(filepath.Join(dir, medium.Folder, "*", "log-*"))
	if err != nil || len(logs) != 1 {
		t.Fatalf("the stick has the logs %q, want one: %v", logs, err)
	}
	return logs[0]
}

func rot(t *testing.T, name string, at int64) {
	t.Helper()
	f, err := os.OpenFile(name, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var b [1]byte
	if _, err := f.ReadAt(b[:], at); err != nil {
		t.Fatal(err)
	}
	b[0] ^= 1
	if _, err := f.WriteAt(b[:], at); err != nil {
		t.Fatal(err)
	}
}

// TestM01CarryFullAndRotten: a stick with a rotten byte and no room to be
// tidied in. What is good on it is read, what fits is written, and it is
// mended once there is room.
func TestM01CarryFullAndRotten(t *testing.T) {
	dir := smallStick(t, "size=6m")
	ids := filled(t, dir, 40)
	rot(t, onlyLog(t, dir), 1_000_000)
	filler := filepath.Join(dir, "films.mkv") // the owner's own
	if err := os.WriteFile(filler, make([]byte, 3_900_000), 0o644); err != nil {
		t.Fatal(err)
	}

	m := plugged(t, dir)
	if d := m.Damage(); d.Frames != 1 || m.Full() {
		t.Errorf("damage %+v, full %v", d, m.Full())
	}
	if n := readable(m, ids); n != 39 {
		t.Errorf("%d bundles can be read, want 39", n)
	}
	onlyLog(t, dir)
	fits, err := put(t, m, 100, 1000)
	if err != nil {
		t.Fatalf("what fits is not written: %v", err)
	}
	for n := 101; ; n++ {
		if _, err := put(t, m, n, 50_000); err != nil {
			if !errors.Is(err, medium.ErrFull) || !m.Full() {
				t.Errorf("full %v: %v", m.Full(), err)
			}
			break
		}
	}
	unplugged(t, m)

	if err := os.Remove(filler); err != nil {
		t.Fatal(err)
	}
	for frames := 1; frames >= 0; frames-- { // mended when it is opened for the first time
		m = plugged(t, dir)
		if d := m.Damage(); d.Frames != frames {
			t.Errorf("damage %+v, want %d", d, frames)
		}
		if n := readable(m, append(ids, fits)); n != 40 {
			t.Errorf("%d bundles can be read with room again, want 40", n)
		}
		unplugged(t, m)
	}
}

// TestM01CarryNoRoomToTidy: most of a stick is dead, and there is not even room for
// the name of a new log. The old one stays.
func TestM01CarryNoRoomToTidy(t *testing.T) {
	dir := smallStick(t, "size=8m,nr_inodes=64")
	ids := filled(t, dir, 60)
	m := plugged(t, dir)
	for _, id := range ids[10:] {
		if err := m.Commit(t.Context(), [][]medium.Op{{{Kind: medium.KindDrop, Key: id[:]}}}); err != nil {
			t.Fatal(err)
		}
	}
	unplugged(t, m)
	for n := 0; ; n++ {
		err := os.WriteFile(filepath.Join(dir, fmt.Sprint(n)), nil, 0o644)
		if errors.Is(err, unix.ENOSPC) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	for range 2 {
		m = plugged(t, dir)
		if n := readable(m, ids); n != 10 || m.Full() || m.Damage() != (medium.Damage{}) {
			t.Errorf("%d bundles can be read, want 10; full %v, damage %+v", n, m.Full(), m.Damage())
		}
		unplugged(t, m)
		onlyLog(t, dir)
	}
	if err := os.Remove(filepath.Join(dir, "0")); err != nil {
		t.Fatal(err)
	}
	before := length(t, onlyLog(t, dir))
	m = plugged(t, dir)
	if n := readable(m, ids); n != 10 {
		t.Errorf("%d bundles can be read after tidying, want 10", n)
	}
	unplugged(t, m)
	if after := length(t, onlyLog(t, dir)); after > before/2 {
		t.Errorf("the log has %d bytes after tidying, %d before", after, before)
	}
}

func length(t *testing.T, name string) int64 {
	t.Helper()
	f, err := os.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	n, err := f.Seek(0, io.SeekEnd)
	if err != nil {
		t.Fatal(err)
	}
	return n
}
