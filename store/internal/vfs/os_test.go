package vfs_test

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"outrider/store/internal/vfs"
	"outrider/store/storetest"
)

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// The machine's file system and the ones for tests keep the same promises.
func TestFileSystems(t *testing.T) {
	for name, fsys := range map[string]vfs.FS{
		"machine": vfs.OS{}, "unsynced": vfs.NoSync{FS: vfs.OS{}}, "disk": storetest.NewDisk(), "volatile": storetest.NewVolatile(),
	} {
		t.Run(name, func(t *testing.T) { testFS(t, fsys, filepath.Join(t.TempDir(), "a", "b")) })
	}
}

func testFS(t *testing.T, fsys vfs.FS, dir string) {
	must(t, fsys.MkdirAll(dir))
	must(t, fsys.MkdirAll(dir))
	name, moved := filepath.Join(dir, "file"), filepath.Join(dir, "moved")
	if _, err := fsys.Open(name); !errors.Is(err, fs.ErrNotExist) {
		t.Fatalf("open of nothing: %v", err)
	}
	f, err := fsys.Create(name)
	must(t, err)
	if _, err := fsys.Create(name); !errors.Is(err, fs.ErrExist) {
		t.Fatalf("create twice: %v", err)
	}
	testFile(t, f)
	must(t, fsys.SyncDir(dir))
	must(t, fsys.Rename(name, moved))
	list, err := fsys.ReadDir(dir)
	if err != nil || len(list) != 1 || list[0] != (vfs.Entry{Name: "moved"}) {
		t.Fatalf("folder %v (%v)", list, err)
	}
	f, err = fsys.Open(moved)
	must(t, err)
	if n, err := f.Size(); err != nil || n != 2 {
		t.Fatalf("size %d (%v) after a rename", n, err)
	}
	must(t, f.Close())
	must(t, fsys.Remove(moved))
	if err := fsys.Remove(moved); !errors.Is(err, fs.ErrNotExist) {
		t.Fatalf("remove twice: %v", err)
	}
	if free, err := fsys.Free(dir); err != nil || free == 0 {
		t.Fatalf("%d bytes free (%v)", free, err)
	}
	testLock(t, fsys, filepath.Join(dir, "lock"))
}

func testFile(t *testing.T, f vfs.File) {
	t.Helper()
	write := func(s string, off int64) {
		_, err := f.WriteAt([]byte(s), off)
		must(t, err)
	}
	write("world", 3)
	write("hi", 0)
	must(t, f.Truncate(7))
	must(t, f.Sync())
	write("W", 3)
	buf := make([]byte, 7)
	n, err := f.ReadAt(buf, 0)
	must(t, err)
	if string(buf[:n]) != "hi\x00Worl" {
		t.Fatalf("read %q", buf[:n])
	}
	if n, err := f.ReadAt(buf, 5); n != 2 || err == nil {
		t.Fatalf("read of %d bytes past the end (%v)", n, err)
	}
	must(t, f.Truncate(2))
	must(t, f.Sync())
	must(t, f.Close())
}

func testLock(t *testing.T, fsys vfs.FS, name string) {
	t.Helper()
	l, err := fsys.Lock(name)
	must(t, err)
	if _, err := fsys.Lock(name); !errors.Is(err, vfs.ErrInUse) {
		t.Fatalf("lock twice: %v", err)
	}
	must(t, l.Close())
	l, err = fsys.Lock(name)
	must(t, err)
	must(t, l.Close())
}

func TestMkdirAllOverFile(t *testing.T) {
	name := filepath.Join(t.TempDir(), "file")
	must(t, os.WriteFile(name, nil, 0o600))
	if err := (vfs.OS{}).MkdirAll(name); err == nil {
		t.Fatal("a file is no folder")
	}
}

func TestIsTmpfs(t *testing.T) {
	if is, err := vfs.IsTmpfs("/proc"); err != nil || is {
		t.Errorf("proc: %v (%v)", is, err)
	}
	if is, err := vfs.IsTmpfs("/dev/shm"); err != nil || !is {
		t.Errorf("/dev/shm: %v (%v)", is, err)
	}
}
