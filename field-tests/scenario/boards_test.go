//go:build field

package scenario_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"outrider/field-tests/scenario"
)

// TestStoryOnThreeBoards is the story with one amd64, one arm64 and one armv7
// node, the latter two under user-mode emulation: what one writes the others
// read, on the wire and sealed inside.
func TestStoryOnThreeBoards(t *testing.T) {
	dir := t.TempDir()
	wrap := map[string][]string{"alpha": {}}
	boards := map[string]string{"alpha": scenario.Binary(t)}
	for _, b := range []struct{ node, arch, emulator string }{
		{"bravo", "arm64", "qemu-aarch64-static"}, {"charlie", "arm", "qemu-arm-static"},
	} {
		emulator, err := exec.LookPath(b.emulator)
		if err != nil {
			t.Fatalf("%s is missing: apt-get install qemu-user-static", b.emulator)
		}
		wrap[b.node], boards[b.node] = []string{emulator}, crossBuild(t, dir, b.arch)
	}
	f := newField(t, t.Context(), boards, wrap)
	play(t, f, 10*time.Minute)
	f.finish(t)
}

func crossBuild(t *testing.T, dir, arch string) string {
	t.Helper()
	root, err := scenario.Root()
	if err != nil {
		t.Fatal(err)
	}
	bin := filepath.Join(dir, "outrider-"+arch)
	cmd := exec.Command("go", "build", "-trimpath", "-o", bin, "./node/outrider")
	cmd.Dir, cmd.Env = root, append(os.Environ(), "CGO_ENABLED=0", "GOOS=linux", "GOARCH="+arch, "GOARM=7")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("build for %s: %v\n%s", arch, err, out)
	}
	return bin
}
