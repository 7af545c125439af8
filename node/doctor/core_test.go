package doctor

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"outrider/offline/coresync"
)

// Each fault of the way to the core is found, and nothing else is.
func TestCore(t *testing.T) {
	e := quiet(t)
	look := func() []string { return ids(checkCore(t.Context(), e)) }
	if got := look(); len(got) != 0 {
		t.Errorf("without a core: %v", got)
	}
	dev, err := coresync.MakeDev(filepath.Join(t.TempDir(), "core"), 0)
	if err != nil {
		t.Fatal(err)
	}
	c, err := dev.Add("unit")
	if err != nil {
		t.Fatal(err)
	}
	raw, err := os.ReadFile(c.SeedFile)
	if err != nil {
		t.Fatal(err)
	}
	seed := filepath.Join(e.Dir, "unit.seed")
	if err := os.WriteFile(seed, raw, 0o600); err != nil {
		t.Fatal(err)
	}
	k := &e.Config.Core
	k.Servers, k.SeedFile, k.CAFile, k.Pins = c.Servers, "unit.seed", c.CAFile, c.Pins
	want := func(what string, want ...string) {
		t.Helper()
		if got := look(); !slices.Equal(got, want) {
			t.Errorf("%s: %v", what, got)
		}
	}
	want("not running")
	e.Running.Core = Core{Told: true, Up: true, Skew: -4 * time.Minute}
	want("in reach")
	e.Running.Core.Skew = -6 * time.Minute
	want("a clock six minutes off", "core-clock")
	e.Running.Core = Core{Told: true, Full: true, Up: true}
	want("full", "core-full")
	for code, id := range map[string]string{"pin": "core-pin", "credentials": "core-credentials", "refused": "core-refused", "opsec": "core-opsec", "unreachable": "core-unreachable"} {
		e.Running.Core = Core{Told: true, Code: code, Error: "coresync: so"}
		want(code, id)
	}
	e.Running.Core = Core{Told: true, Code: "unreachable", Error: "coresync: so"}
	e.Running.Core.Since = time.Date(2026, 11, 20, 10, 0, 0, 0, time.UTC)
	if s := checkCore(t.Context(), e)[0].Sentence; !strings.Contains(s, "2026-11-20 10:00 UTC") || strings.Contains(s, "coresync") {
		t.Errorf("says %q", s)
	}
	if err := os.Chmod(seed, 0o640); err != nil {
		t.Fatal(err)
	}
	want("a seed that others can read", "core-credentials")
	if err := os.Remove(seed); err != nil {
		t.Fatal(err)
	}
	want("no seed", "core-credentials")
}
