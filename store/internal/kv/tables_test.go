package kv_test

import (
	"crypto/rand"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"outrider/store/internal/kv"
)

// A table that was cut or overwritten is an error that can be handled, not the
// end of the process; one that the manifest does not name is nobody's.
func TestDamagedTable(t *testing.T) {
	dir := t.TempDir()
	d := open(t, dir)
	must(t, d.Write(batch("a", "1")))
	must(t, d.Close()) // writes a table
	tables, err := filepath.Glob(filepath.Join(dir, "*.sst"))
	must(t, err)
	if len(tables) == 0 {
		t.Fatal("no table")
	}
	good, err := os.ReadFile(tables[0])
	must(t, err)
	noise := make([]byte, len(good))
	rand.Read(noise)
	noise[len(noise)-4] |= 0x80 // a length beyond any file
	for what, raw := range map[string][]byte{
		"empty": {}, "three bytes": good[:3], "seven bytes": good[:7], "half": good[:len(good)/2], "noise": noise,
		"zeros": make([]byte, len(good)), "one byte short": good[:len(good)-1],
	} {
		must(t, os.WriteFile(tables[0], raw, 0o600))
		if _, err := kv.Open(dir, kv.Options{}); !errors.Is(err, kv.ErrCorrupt) {
			t.Errorf("%s: error %v", what, err)
		}
	}
	must(t, os.WriteFile(tables[0], good, 0o600))
	must(t, os.WriteFile(filepath.Join(dir, "009999.sst"), good[:3], 0o600))
	d = open(t, dir)
	if v, err := d.Get([]byte("a")); err != nil || string(v) != "1" {
		t.Errorf("beside a table left over from a crash: %q %v", v, err)
	}
	must(t, d.Close())
}
