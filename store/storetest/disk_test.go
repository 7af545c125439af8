package storetest_test

import (
	"errors"
	"io/fs"
	"math/rand/v2"
	"strings"
	"syscall"
	"testing"

	"outrider/store/storetest"
)

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// outcomes cuts the power of a freshly prepared disk many times and counts
// what becomes of a file.
func outcomes(t *testing.T, name string, prepare func(d *storetest.Disk)) map[string]int {
	t.Helper()
	out := make(map[string]int)
	for seed := range 400 {
		d := storetest.NewDisk()
		prepare(d)
		after := d.PowerCut(rand.New(rand.NewPCG(uint64(seed), 1)))
		if _, err := after.Open(name); errors.Is(err, fs.ErrNotExist) {
			out["none"]++
			continue
		}
		out[string(after.Content(name))]++
		if _, err := d.Open(name); !errors.Is(err, storetest.ErrPower) {
			t.Fatalf("the old disk answers: %v", err)
		}
	}
	return out
}

func write(t *testing.T, d *storetest.Disk, name, content string, sync bool) {
	t.Helper()
	f, err := d.Create(name)
	must(t, err)
	_, err = f.WriteAt([]byte(content), 0)
	must(t, err)
	if sync {
		must(t, f.Sync())
	}
}

// What is synced survives; what is not may be there, may not, and may be torn.
func TestPowerCut(t *testing.T) {
	old, fresh := strings.Repeat("o", 1024), strings.Repeat("n", 1024)
	all := outcomes(t, "/f", func(d *storetest.Disk) {
		write(t, d, "/f", old, true)
		must(t, d.SyncDir("/"))
	})
	if len(all) != 1 || all[old] == 0 {
		t.Errorf("synced: %d outcomes", len(all))
	}
	all = outcomes(t, "/f", func(d *storetest.Disk) { write(t, d, "/f", old, true) })
	if len(all) != 2 || all[old] == 0 || all["none"] == 0 {
		t.Errorf("name not synced: %d outcomes", len(all))
	}
	all = outcomes(t, "/f", func(d *storetest.Disk) {
		write(t, d, "/f", old, true)
		must(t, d.SyncDir("/"))
		f, err := d.Open("/f")
		must(t, err)
		_, err = f.WriteAt([]byte(fresh), 0)
		must(t, err)
	})
	if len(all) != 4 || all[old] == 0 || all[fresh] == 0 || all[old[:512]+fresh[512:]] == 0 || all[fresh[:512]+old[512:]] == 0 {
		t.Errorf("overwritten, not synced: %d outcomes", len(all))
	}
}

// A rename is whole or not at all, whatever else is lost.
func TestPowerCutRename(t *testing.T) {
	all := outcomes(t, "/f", func(d *storetest.Disk) {
		write(t, d, "/f", "old", true)
		must(t, d.SyncDir("/"))
		write(t, d, "/f.new", "new", true)
		must(t, d.Rename("/f.new", "/f"))
	})
	if len(all) != 2 || all["old"] == 0 || all["new"] == 0 {
		t.Errorf("outcomes %v", all)
	}
	all = outcomes(t, "/f.new", func(d *storetest.Disk) {
		write(t, d, "/f.new", "new", true)
		must(t, d.Rename("/f.new", "/f"))
		must(t, d.SyncDir("/"))
	})
	if len(all) != 1 || all["none"] == 0 {
		t.Errorf("after a synced rename the old name is %v", all)
	}
}

func TestCutAfter(t *testing.T) {
	d := storetest.NewDisk()
	d.CutAfter(1)
	f, err := d.Create("/f")
	must(t, err)
	if _, err := f.WriteAt([]byte("x"), 0); !errors.Is(err, storetest.ErrPower) {
		t.Fatalf("error %v", err)
	}
	if err := d.SyncDir("/"); !errors.Is(err, storetest.ErrPower) {
		t.Fatalf("error %v", err)
	}
}

func TestCapacity(t *testing.T) {
	d := storetest.NewDisk()
	d.Capacity = 10
	f, err := d.Create("/f")
	must(t, err)
	_, err = f.WriteAt(make([]byte, 10), 0)
	must(t, err)
	_, err = f.WriteAt(make([]byte, 10), 0) // in place
	must(t, err)
	if _, err = f.WriteAt([]byte("x"), 10); !errors.Is(err, syscall.ENOSPC) {
		t.Fatalf("error %v", err)
	}
	must(t, f.Truncate(0))
	if free, err := d.Free("/"); err != nil || free != 10 {
		t.Fatalf("%d free (%v)", free, err)
	}
}
