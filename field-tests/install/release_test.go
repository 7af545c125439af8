//go:build field

package install_test

import (
	"debug/elf"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"outrider/field-tests/scenario"
)

// starts runs the program that a package holds, on its own kind of processor or
// what stands for it: it says what it is and makes a node.
func starts(t *testing.T, inside string, on []string) {
	t.Helper()
	argv := append(on, filepath.Join(inside, "usr/bin/outrider"))
	if out := output(t, inside, nil, argv[0], append(argv[1:], "version")...); !strings.Contains(out, "9.9.9") {
		t.Errorf("%v says it is %q", argv, out)
	}
	node := filepath.Join(t.TempDir(), "node")
	output(t, inside, nil, argv[0], append(argv[1:], "--dir", node, "init")...)
	if _, err := os.Stat(filepath.Join(node, "state")); err != nil {
		t.Errorf("%v made no node: %v", argv, err)
	}
}

// `make release` in two folders gives the same bytes for every file, and the
// files are what they say they are.
func TestReleaseIsReproducible(t *testing.T) {
	top, err := scenario.Root()
	if err != nil {
		t.Fatal(err)
	}
	work := t.TempDir()
	var sums [2]string
	for i, folder := range []string{"one", "another/deeper"} {
		dir := filepath.Join(work, folder)
		if err := os.MkdirAll(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		output(t, top, nil, "sh", "-c", `tar -c --exclude=./bin --exclude=./.git . | tar -x -C "$0" && mkdir "$0/bin" && cp -r bin/tools "$0/bin/tools"`, dir)
		output(t, dir, []string{"VERSION=9.9.9", "MAKEFLAGS="}, "make", "release", "VERSION=9.9.9")
		raw, err := os.ReadFile(filepath.Join(dir, "bin/release/SHA256SUMS"))
		if err != nil {
			t.Fatal(err)
		}
		sums[i] = string(raw)
	}
	if sums[0] != sums[1] {
		t.Errorf("two releases of the same sources differ:\n%s\n%s", sums[0], sums[1])
	}
	if n := strings.Count(sums[0], "\n"); n != 6 {
		t.Errorf("%d files in the release, want 6:\n%s", n, sums[0])
	}
	out := filepath.Join(work, "one/bin/release")
	for suffix, machine := range map[string]elf.Machine{"amd64": elf.EM_X86_64, "arm64": elf.EM_AARCH64, "armv7": elf.EM_ARM} {
		bin := filepath.Join(out, "outrider-9.9.9-linux-"+suffix)
		isStatic(t, bin, machine)
		arch := strings.Replace(suffix, "armv7", "armhf", 1)
		inside := filepath.Join(work, arch)
		output(t, work, nil, "dpkg-deb", "-x", filepath.Join(out, "outrider_9.9.9_"+arch+".deb"), inside)
		if sum(t, filepath.Join(inside, "usr/bin/outrider")) != sum(t, bin) {
			t.Errorf("the package of %s holds another program", arch)
		}
		starts(t, inside, map[string][]string{"amd64": nil, "arm64": {"qemu-aarch64-static"}, "armhf": {"qemu-arm-static"}}[arch])
	}
}
