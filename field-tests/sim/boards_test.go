//go:build field

package sim

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// boardSeeds are played on every kind of board. Each takes about a second here
// and ten under an emulator.
var boardSeeds = []uint64{1, 2, 7, 11, 23}

func boardConfig(seed uint64) Config {
	c := standard(seed)
	c.Nodes, c.Faulty, c.Heal = 12, 40*time.Minute, 10*time.Minute
	return c
}

// hashesOf plays the seeds and returns a line for each.
func hashesOf() string {
	var b strings.Builder
	for _, seed := range boardSeeds {
		log, stats, broken := Run(boardConfig(seed))
		fmt.Fprintf(&b, "seed %d log %s steps %d broken %d\n", seed, log, stats.Steps, len(broken))
	}
	return b.String()
}

// TestMain lets the cross-compiled program print its hashes instead.
func TestMain(m *testing.M) {
	if os.Getenv("SIM_PRINT_HASHES") != "" {
		fmt.Print(hashesOf())
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// TestSameLogOnAllBoards: one seed gives one event log on amd64, arm64 and
// armv7, with words of 64 and of 32 bits (decisions.md 14).
func TestSameLogOnAllBoards(t *testing.T) {
	want := hashesOf()
	if strings.Count(want, "broken 0") != len(boardSeeds) {
		t.Fatalf("seeds that fail here already:\n%s", want)
	}
	for _, b := range []struct{ arch, emulator string }{{"arm64", "qemu-aarch64-static"}, {"arm", "qemu-arm-static"}} {
		t.Run(b.arch, func(t *testing.T) {
			t.Parallel()
			emulator, err := exec.LookPath(b.emulator)
			if err != nil {
				t.Fatalf("%s is missing: apt-get install qemu-user-static", b.emulator)
			}
			bin := filepath.Join(t.TempDir(), "sim.test")
			build := exec.Command("go", "test", "-c", "-tags", "field", "-o", bin, ".")
			build.Env = append(os.Environ(), "GOOS=linux", "GOARCH="+b.arch, "GOARM=7", "CGO_ENABLED=0")
			if out, err := build.CombinedOutput(); err != nil {
				t.Fatalf("build: %v: %s", err, out)
			}
			run := exec.CommandContext(t.Context(), emulator, bin)
			run.Env = append(os.Environ(), "SIM_PRINT_HASHES=1")
			got, err := run.Output()
			if err != nil {
				t.Fatalf("run: %v", err)
			}
			if string(got) != want {
				t.Errorf("the logs differ. Here:\n%son %s:\n%s", want, b.arch, got)
			}
		})
	}
}
