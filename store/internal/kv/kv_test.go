package kv_test

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
	"pgregory.net/rapid"

	"outrider/store/internal/kv"
)

// TestMain makes the model test shorter, unless the command line says how long
// it is to be: each of its runs opens a database several times.
func TestMain(m *testing.M) {
	flag.Parse()
	given := false
	flag.Visit(func(f *flag.Flag) { given = given || f.Name == "rapid.checks" })
	if !given {
		if err := flag.Set("rapid.checks", "30"); err != nil {
			panic(err)
		}
	}
	os.Exit(m.Run())
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func open(t testing.TB, dir string) *kv.DB {
	t.Helper()
	d, err := kv.Open(dir, kv.Options{})
	must(t, err)
	return d
}

func batch(pairs ...string) *kv.Batch {
	var b kv.Batch
	for i := 0; i < len(pairs); i += 2 {
		b.Set([]byte(pairs[i]), []byte(pairs[i+1]))
	}
	return &b
}

func keys(t testing.TB, d *kv.DB, r kv.Range) (out []string) {
	t.Helper()
	for p, err := range d.Scan(r) {
		must(t, err)
		out = append(out, string(p.Key))
	}
	return out
}

func TestScan(t *testing.T) {
	d := open(t, t.TempDir())
	defer d.Close()
	must(t, d.Write(batch("a1", "x", "a2", "y", "a3", "z", "b", "", "a2\xff\xff", "w")))
	for _, tt := range []struct {
		r    kv.Range
		want string
	}{
		{kv.Range{}, "a1 a2 a2\xff\xff a3 b"},
		{kv.Range{Prefix: []byte("a")}, "a1 a2 a2\xff\xff a3"},
		{kv.Range{Prefix: []byte("a"), Reverse: true}, "a3 a2\xff\xff a2 a1"},
		{kv.Range{Prefix: []byte("a2"), Reverse: true}, "a2\xff\xff a2"},
		{kv.Range{Prefix: []byte("a"), From: []byte("a2")}, "a2 a2\xff\xff a3"},
		{kv.Range{Prefix: []byte("a"), From: []byte("a2"), Reverse: true}, "a2 a1"},
		{kv.Range{Prefix: []byte("c")}, ""},
	} {
		if got := strings.Join(keys(t, d, tt.r), " "); got != tt.want {
			t.Errorf("%+v: %q, want %q", tt.r, got, tt.want)
		}
	}
}

func TestModel(t *testing.T) {
	root, run := t.TempDir(), 0
	rapid.Check(t, func(t *rapid.T) {
		run++
		dir := fmt.Sprintf("%s/%d", root, run)
		d, err := kv.Open(dir, kv.Options{})
		if err != nil {
			t.Fatal(err)
		}
		defer func() { d.Close() }()
		want := make(map[string]string)
		t.Repeat(map[string]func(*rapid.T){
			"write": func(t *rapid.T) {
				var a, b kv.Batch
				for i := range rapid.IntRange(1, 20).Draw(t, "changes") {
					into := &a
					if i%2 == 1 {
						into = &b
					}
					k := rapid.StringN(1, 3, -1).Draw(t, "key")
					if rapid.Bool().Draw(t, "delete") {
						into.Delete([]byte(k))
					} else {
						into.Set([]byte(k), []byte(rapid.String().Draw(t, "value")))
					}
				}
				a.Merge(&b)
				for k := range want {
					if v, deleted, touched := a.Get([]byte(k)); touched && deleted {
						delete(want, k)
					} else if touched {
						want[k] = string(v)
					}
				}
				for k := range a.Puts(nil) {
					v, _, _ := a.Get(k)
					want[string(k)] = string(v)
				}
				if err := d.Write(&a); err != nil {
					t.Fatal(err)
				}
			},
			"reopen": func(t *rapid.T) {
				if rapid.IntRange(0, 4).Draw(t, "really") > 0 {
					return // it takes long
				}
				if err := d.Close(); err != nil {
					t.Fatal(err)
				}
				if d, err = kv.Open(dir, kv.Options{}); err != nil {
					t.Fatal(err)
				}
			},
			"": func(t *rapid.T) {
				var got []string
				for p, err := range d.Scan(kv.Range{}) {
					if err != nil || want[string(p.Key)] != string(p.Value) {
						t.Fatalf("%q is %q (%v), want %q", p.Key, p.Value, err, want[string(p.Key)])
					}
					if v, err := d.Get(p.Key); err != nil || !bytes.Equal(v, p.Value) {
						t.Fatalf("get %q: %q (%v)", p.Key, v, err)
					}
					got = append(got, string(p.Key))
				}
				if len(got) != len(want) || !slices.IsSorted(got) {
					t.Fatalf("%d keys, want %d", len(got), len(want))
				}
			},
		})
	})
}

func TestLimits(t *testing.T) {
	d := open(t, t.TempDir())
	defer d.Close()
	must(t, d.Write(batch(strings.Repeat("k", kv.MaxKey), strings.Repeat("v", kv.MaxValue))))
	for _, b := range []*kv.Batch{
		batch(strings.Repeat("k", kv.MaxKey+1), ""), batch("k", strings.Repeat("v", kv.MaxValue+1)), batch("", "v"),
	} {
		if err := d.Write(b); !errors.Is(err, kv.ErrTooLarge) {
			t.Errorf("error %v", err)
		}
	}
	// The largest batches that are permitted must also pass in badger.
	var many, big, over kv.Batch
	for i := range kv.MaxBatchOps {
		many.Set(fmt.Append(nil, "many", i), nil)
	}
	must(t, d.Write(&many))
	for i := 0; big.Size()+kv.MaxValue+100 < kv.MaxBatch; i++ {
		big.Set(fmt.Append(nil, "big", i), make([]byte, kv.MaxValue))
	}
	big.Set([]byte("fill"), make([]byte, kv.MaxBatch-big.Size()-64-4))
	if big.Size() != kv.MaxBatch {
		t.Fatalf("batch of %d", big.Size())
	}
	must(t, d.Write(&big))
	over.Merge(&big)
	over.Set([]byte("k"), nil)
	if err := d.Write(&over); !errors.Is(err, kv.ErrTooLarge) {
		t.Errorf("error %v", err)
	}
	many.Set([]byte("one more"), nil)
	if err := d.Write(&many); !errors.Is(err, kv.ErrTooLarge) {
		t.Errorf("error %v", err)
	}
}

// A clean Close leaves no goroutine. (A failing Open of badger's leaves two.)
func TestCloseLeavesNothing(t *testing.T) {
	before := goleak.IgnoreCurrent()
	d := open(t, t.TempDir())
	must(t, d.Write(batch("a", "1")))
	must(t, d.Close())
	for end := time.Now().Add(time.Minute); goleak.Find(before) != nil && time.Now().Before(end); { // they may take their time to end
	}
	goleak.VerifyNone(t, before)
}

func TestSecondOpen(t *testing.T) {
	dir := t.TempDir()
	d := open(t, dir)
	if _, err := kv.Open(dir, kv.Options{}); !errors.Is(err, kv.ErrInUse) {
		t.Fatalf("error %v", err)
	}
	must(t, d.Close())
	must(t, open(t, dir).Close())
}

func TestClosed(t *testing.T) {
	d := open(t, t.TempDir())
	must(t, d.Write(batch("a", "1", "b", "2")))
	steps := 0
	for _, err := range d.Scan(kv.Range{}) { // Close waits for the scan, and Get inside it does not hang
		must(t, err)
		if steps++; steps == 1 {
			_, err := d.Get([]byte("b"))
			must(t, err)
		}
	}
	must(t, d.Close())
	must(t, d.Close())
	if err := d.Write(batch("a", "")); !errors.Is(err, kv.ErrClosed) {
		t.Errorf("write: %v", err)
	}
	if _, err := d.Get([]byte("a")); !errors.Is(err, kv.ErrClosed) {
		t.Errorf("get: %v", err)
	}
	for _, err := range d.Scan(kv.Range{}) {
		if !errors.Is(err, kv.ErrClosed) {
			t.Errorf("scan: %v", err)
		}
	}
}

// A crash can leave logs of no bytes. Badger alone would refuse to open.
func TestEmptyLogsAreRemoved(t *testing.T) {
	dir := t.TempDir()
	d := open(t, dir)
	must(t, d.Write(batch("a", "1")))
	must(t, d.Close())
	for _, name := range []string{"00091.mem", "000077.vlog"} {
		must(t, os.WriteFile(filepath.Join(dir, name), nil, 0o600))
	}
	d = open(t, dir)
	if v, err := d.Get([]byte("a")); err != nil || string(v) != "1" {
		t.Fatalf("%q (%v)", v, err)
	}
	must(t, d.Write(batch("b", "2")))
	must(t, d.Close())
}

// A log torn in the middle keeps what is before the tear.
func TestTornLog(t *testing.T) {
	dir, copied := t.TempDir(), t.TempDir()
	d := open(t, dir)
	for i := range 50 {
		must(t, d.Write(batch(fmt.Sprintf("key %02d", i), "value")))
	}
	copyDir(t, dir, copied) // as a kill would leave it
	must(t, d.Close())
	log := newestLog(t, copied)
	raw, err := os.ReadFile(log)
	must(t, err)
	at := bytes.Index(raw, []byte("key 30"))
	if at < 0 {
		t.Fatal("the log does not hold what was written")
	}
	raw[at] ^= 0xff
	must(t, os.WriteFile(log, raw, 0o600))
	d = open(t, copied)
	defer d.Close()
	if got := keys(t, d, kv.Range{}); len(got) != 30 {
		t.Fatalf("%d keys before the tear, want 30", len(got))
	}
	must(t, d.Write(batch("more", "")))
}

func newestLog(t *testing.T, dir string) string {
	t.Helper()
	logs, err := filepath.Glob(filepath.Join(dir, "*.mem"))
	must(t, err)
	if len(logs) == 0 {
		t.Fatal("no log")
	}
	return slices.Max(logs)
}

func copyDir(t *testing.T, from, to string) {
	t.Helper()
	must(t, os.CopyFS(to, os.DirFS(from)))
}

func TestDamagedManifest(t *testing.T) {
	dir := t.TempDir()
	must(t, open(t, dir).Close())
	name := filepath.Join(dir, "MANIFEST")
	raw, err := os.ReadFile(name)
	must(t, err)
	raw[0] ^= 0xff
	must(t, os.WriteFile(name, raw, 0o600))
	if _, err := kv.Open(dir, kv.Options{}); !errors.Is(err, kv.ErrCorrupt) {
		t.Fatalf("error %v", err)
	}
}

func TestMissingTable(t *testing.T) {
	dir := t.TempDir()
	d := open(t, dir)
	must(t, d.Write(batch("a", "1")))
	must(t, d.Close()) // writes a table
	tables, err := filepath.Glob(filepath.Join(dir, "*.sst"))
	must(t, err)
	if len(tables) == 0 {
		t.Fatal("no table")
	}
	must(t, os.Remove(tables[0]))
	if _, err := kv.Open(dir, kv.Options{}); !errors.Is(err, kv.ErrCorrupt) {
		t.Fatalf("error %v", err)
	}
}

// Keys and values never get into the log.
func TestLogsNoContent(t *testing.T) {
	var out bytes.Buffer
	log := slog.New(slog.NewTextHandler(&out, &slog.HandlerOptions{Level: slog.LevelDebug}))
	dir := t.TempDir()
	for range 2 {
		d, err := kv.Open(dir, kv.Options{Log: log})
		must(t, err)
		for i := range 200 {
			must(t, d.Write(batch(fmt.Sprintf("telltale key %d", i), strings.Repeat("telltale value", 3000))))
		}
		must(t, d.Close())
	}
	if out.Len() == 0 {
		t.Fatal("nothing was logged: the test proves nothing")
	}
	if strings.Contains(out.String(), "telltale") {
		t.Fatal("the log holds keys or values")
	}
}

// When the folder cannot be synced, the write is not acknowledged, and none
// after it is.
func TestFailedSyncEndsWriting(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "index")
	d := open(t, dir)
	defer d.Close()
	must(t, d.Write(batch("a", "1")))
	// A new log appears, and the folder is not there to be synced.
	var err error
	for i := 0; err == nil && i < 500; i++ {
		if i == 1 {
			must(t, os.Rename(dir, dir+".moved"))
		}
		err = d.Write(batch(fmt.Sprint(i), strings.Repeat("x", kv.MaxValue)))
	}
	if err == nil {
		t.Fatal("a log in a folder that is gone was acknowledged")
	}
	must(t, os.Rename(dir+".moved", dir))
	if err := d.Write(batch("b", "2")); !errors.Is(err, kv.ErrBroken) {
		t.Fatalf("after a failed sync: %v", err)
	}
	if errors.Is(err, fs.ErrNotExist) {
		t.Error("a foreign error is part of our own")
	}
}
