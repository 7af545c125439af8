package store_test

import (
	"bytes"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"outrider/store"
)

// TestVaultDamagedNewestAnchor damages, in real files, each byte range of the
// newest anchor. Open then goes back by a commit, and says so until something
// was committed.
func TestVaultDamagedNewestAnchor(t *testing.T) {
	for _, at := range []int64{0, 8, 20, 40, 70, 200, 511} {
		dir := filepath.Join(t.TempDir(), "vault")
		v, err := store.OpenVault(dir, kek)
		must(t, err)
		if v.FellBack() {
			t.Error("a new vault says that it fell back")
		}
		must(t, v.Put(vaultID(1), []byte("first")))
		must(t, v.Commit())
		must(t, v.Put(vaultID(2), []byte("second")))
		must(t, v.Commit())
		must(t, v.Close())
		flip(t, filepath.Join(dir, "anchor"), newestSlot(t, dir)*4096+at)

		var log bytes.Buffer
		o := store.VaultOptions{Log: slog.New(slog.NewTextHandler(&log, nil))}
		for range 2 { // and again, as nothing was committed
			v, err = o.Open(dir, kek)
			must(t, err)
			if !v.FellBack() || !strings.Contains(log.String(), "anchor is damaged") {
				t.Fatalf("byte %d: fell back %v, log %q", at, v.FellBack(), log.String())
			}
			checkVault(t, v, map[int][]byte{1: []byte("first")})
			must(t, v.Close())
		}
		v, err = o.Open(dir, kek)
		must(t, err)
		must(t, v.Put(vaultID(3), []byte("third")))
		must(t, v.Commit())
		must(t, v.Close())
		v, err = o.Open(dir, kek)
		must(t, err)
		if v.FellBack() {
			t.Errorf("byte %d: says so after a commit", at)
		}
		checkVault(t, v, map[int][]byte{1: []byte("first"), 3: []byte("third")})
		must(t, v.Close())
	}
}

// After a commit that replaced something there is no older anchor to go back
// to: damage is an error, and chain state that moved on cannot come back.
func TestVaultNothingToFallBackTo(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "vault")
	v, err := store.OpenVault(dir, kek)
	must(t, err)
	for _, value := range []string{"chain at 32", "chain at 64"} {
		must(t, v.Put(vaultID(1), []byte(value)))
		must(t, v.Commit())
	}
	must(t, v.Close())
	flip(t, filepath.Join(dir, "anchor"), newestSlot(t, dir)*4096+100)
	_, err = store.VaultOptions{}.Open(dir, kek)
	wantErr(t, err, store.ErrCorrupt)
	if !strings.Contains(err.Error(), "restore") {
		t.Errorf("the error does not say what to do: %v", err)
	}
}

// newestSlot finds the slot of the higher generation.
func newestSlot(t *testing.T, dir string) int64 {
	raw, err := os.ReadFile(filepath.Join(dir, "anchor"))
	must(t, err)
	if bytes.Compare(raw[8:16], raw[4096+8:4096+16]) > 0 {
		return 0
	}
	return 1
}

func flip(t *testing.T, name string, at int64) {
	t.Helper()
	raw, err := os.ReadFile(name)
	must(t, err)
	raw[at] ^= 1
	must(t, os.WriteFile(name, raw, 0o600))
}
