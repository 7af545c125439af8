package faults

import (
	"crypto/rand"
	"os"
	"path/filepath"
	"testing"

	"outrider/field-tests/scenario"
)

// damage does something to every file of a box that matches a pattern.
func damage(t *testing.T, b *scenario.Box, pattern string, how func([]byte) []byte) {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(b.Dir, pattern))
	if err != nil || len(files) == 0 {
		t.Fatalf("no file %s: %v", pattern, err)
	}
	for _, f := range files {
		raw, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(f, how(raw), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

func noise(raw []byte) []byte { rand.Read(raw); raw[0] |= 0x80; return raw }
func half(raw []byte) []byte  { return raw[:len(raw)/2] }

// TestDamagedFiles damages what a node cannot start without. Each time the
// message says what to do, nothing is written over, and the good file put back
// makes it a node again.
func TestDamagedFiles(t *testing.T) {
	t.Parallel()
	d := newDuo(t)
	for _, c := range []struct {
		file string
		how  func([]byte) []byte
		says string
	}{
		{"state", half, "restore"},
		{"state", noise, "restore"},
		{"outrider.toml", noise, "outrider.toml"},
		{"db/index/MANIFEST", noise, "restore"},
		{"db/index/*.sst", noise, "restore"},
		{"db/index/*.sst", half, "restore"},
		{"db/index/KEYREGISTRY", half, "restore"},
	} {
		t.Run(filepath.Base(c.file), func(t *testing.T) {
			d := *d
			d.t = t
			box := copyBox(t, t.TempDir(), d.a)
			damage(t, box, c.file, c.how)
			d.failsWith(box, []string{"up"}, c.says)
			good := copyBox(t, t.TempDir(), d.a)
			files, err := filepath.Glob(filepath.Join(good.Dir, c.file))
			d.must(err)
			for _, f := range files {
				to, err := filepath.Rel(good.Dir, f)
				d.must(err)
				d.must(os.Rename(f, filepath.Join(box.Dir, to)))
			}
			d.must(configure(box, ""))
			d.up(box)
			d.login(box, "alice")
			d.stop(box)
		})
	}
}

// TestLostIndex: an index that lost everything must not pass for a new one,
// or the payloads would be cleared away after it.
func TestLostIndex(t *testing.T) {
	t.Parallel()
	d := newDuo(t)
	payload := filepath.Join(d.a.Dir, "db", "payload")
	before, err := os.ReadDir(payload)
	d.must(err)
	if len(before) == 0 {
		t.Fatal("there are no payloads")
	}
	damage(t, d.a, "db/index/MANIFEST", half)
	for range 2 {
		d.failsWith(d.a, []string{"up"}, "index is empty", "restore")
	}
	if after, err := os.ReadDir(payload); err != nil || len(after) != len(before) {
		t.Errorf("%d payload files became %d (%v)", len(before), len(after), err)
	}
}

// TestDamagedPayloads ruins all payloads of b. What the network knows it gets
// again from its neighbour, and goes on.
func TestDamagedPayloads(t *testing.T) {
	t.Parallel()
	d := newDuo(t)
	damage(t, d.b, "db/payload/*", noise)
	d.up(d.a, d.b)
	d.login(d.a, "alice")
	d.login(d.b, "bob") // by name, which was among what was lost
	m := d.send(d.b, "alice", "my disk is going")
	d.await(d.b, m.ID, "delivered")
	m = d.send(d.a, "bob", "get another one")
	d.await(d.a, m.ID, "delivered")
	d.stop(d.a, d.b)
}

// TestDamagedVault: a user whose secrets are damaged cannot log in, and the
// log says why; the node relays all the same, and other users are served.
func TestDamagedVault(t *testing.T) {
	t.Parallel()
	for _, file := range []string{"users/*/vault/*", "users/*/keystore"} {
		t.Run(filepath.Base(filepath.Dir(file)), func(t *testing.T) {
			d := newDuo(t)
			damage(t, d.a, file, func(raw []byte) []byte {
				if len(raw) == 0 {
					return raw
				}
				return noise(raw)
			})
			d.must(d.a.HostUser(d.ctx, "anna"))
			d.up(d.a)
			_, err := d.a.API.Login(d.ctx, "alice", scenario.UserPassword)
			d.refused(err, "internal")
			log, err := os.ReadFile(d.a.Log())
			d.must(err)
			says(t, string(log), "restore")
			d.login(d.a, "anna")
			d.stop(d.a)
		})
	}
}
