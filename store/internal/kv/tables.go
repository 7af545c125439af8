package kv

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/dgraph-io/badger/v4"
	"github.com/dgraph-io/badger/v4/table"
)

// checkTables looks at the end of every table that counts. Badger trusts the
// lengths it reads there and panics, in a goroutine of its own, on a table
// that was cut or overwritten; all else about a table it checks by itself.
// Tables that the manifest does not name are left over from a crash, and
// badger removes them unread.
func checkTables(dir string) error {
	f, err := os.Open(filepath.Join(dir, badger.ManifestFilename))
	if errors.Is(err, fs.ErrNotExist) {
		return nil // a new map
	}
	if err != nil {
		return fmt.Errorf("kv: open %s: %v", dir, err)
	}
	defer f.Close()
	m, _, err := badger.ReplayManifestFile(f, 0, small(dir))
	if err != nil {
		return nil // badger will say so, better
	}
	for id := range m.Tables {
		err := checkTable(table.NewFilename(id, dir))
		if err != nil && !errors.Is(err, fs.ErrNotExist) { // badger will say so
			return fmt.Errorf("kv: open %s: %w", dir, err)
		}
	}
	return nil
}

// checkTable checks the two lengths at a table's end:
//
//	blocks | index | index length 4 | checksum | checksum length 4
func checkTable(name string) error {
	f, err := os.Open(name)
	if err != nil {
		return err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return err
	}
	left := info.Size()
	for _, what := range []string{"checksum", "index"} {
		var length [4]byte
		if left -= int64(len(length)); left < 0 {
			return fmt.Errorf("table %s ends too early: %w", filepath.Base(name), ErrCorrupt)
		}
		if _, err := f.ReadAt(length[:], left); err != nil {
			return err
		}
		n := int64(binary.BigEndian.Uint32(length[:]))
		if left -= n; n == 0 || left < 0 {
			return fmt.Errorf("table %s has no %s of %d bytes: %w", filepath.Base(name), what, n, ErrCorrupt)
		}
	}
	return nil
}
