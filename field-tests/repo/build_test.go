package repo

import (
	"crypto/sha256"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
)

// command runs a program in dir with further environment, and fails the test
// with all it printed when it fails.
func command(t *testing.T, dir string, env []string, name string, args ...string) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), name, args...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), env...)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
	return string(out)
}

// unplugged runs a program where there is no network at all, not even a
// loopback that is up.
func unplugged(t *testing.T, dir string, env []string, name string, args ...string) (string, error) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), name, args...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), env...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET}
	if os.Geteuid() != 0 {
		cmd.SysProcAttr.Cloneflags |= syscall.CLONE_NEWUSER
		cmd.SysProcAttr.UidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Geteuid(), Size: 1}}
		cmd.SysProcAttr.GidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getegid(), Size: 1}}
	}
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// The bundle is unpacked and built in a namespace without interfaces, with an
// empty module cache. Only compiled parts may be shared with this machine,
// and with FIELD=long not even those.
func TestBundleBuildsUnplugged(t *testing.T) {
	top, work := root(t), t.TempDir()
	archive := filepath.Join(work, "source.tar.gz")
	stamp := []string{"VERSION=9.8.7", "GO=go"}
	command(t, top, stamp, "bash", ".ci/source-bundle", archive)
	again := filepath.Join(work, "again.tar.gz")
	command(t, top, stamp, "bash", ".ci/source-bundle", again)
	if sum(t, archive) != sum(t, again) {
		t.Error("two bundles of one tree differ")
	}
	command(t, work, nil, "tar", "xzf", archive)
	src := filepath.Join(work, "outrider-9.8.7")
	modules := filepath.Join(work, "modules")
	env := []string{"GOMODCACHE=" + modules, "GOPROXY=off", "GOFLAGS=", "GOTOOLCHAIN=local", "HOME=" + work, "GOCACHE=" + buildCache(t, top, work)}

	if out, err := unplugged(t, src, env, "ip", "-o", "link"); err != nil || strings.Count(out, "\n") > 1 || strings.Contains(out, "state UP") {
		t.Fatalf("the namespace has a network: %v\n%s", err, out)
	}
	// The positive control: without the vendored modules it must not build.
	if out, err := unplugged(t, src, append(env, "GOFLAGS=-mod=mod"), "go", "build", "-o", filepath.Join(work, "none"), "./node/outrider"); err == nil {
		t.Fatalf("it builds without its modules: the check proves nothing\n%s", out)
	}
	if out, err := unplugged(t, src, env, "make"); err != nil {
		t.Fatalf("make: %v\n%s", err, out)
	}
	if out, err := unplugged(t, src, env, "bin/outrider", "version"); err != nil || !strings.Contains(out, "outrider 9.8.7 ") {
		t.Errorf("what it built says %q, %v", out, err)
	}
	if entries, err := os.ReadDir(modules); err == nil && slices.ContainsFunc(entries, func(e os.DirEntry) bool { return e.Name() != "cache" }) {
		t.Errorf("modules were unpacked from elsewhere: %v", entries)
	}
	for _, must := range []string{"LICENSE", "README.md", "vendor/modules.txt", ".ci/VERSION", "go.sum"} {
		if _, err := os.Stat(filepath.Join(src, must)); err != nil {
			t.Errorf("the bundle lacks %s", must)
		}
	}
}

func buildCache(t *testing.T, top, work string) string {
	if os.Getenv("FIELD") == "long" {
		return filepath.Join(work, "gocache")
	}
	return strings.TrimSpace(command(t, top, nil, "go", "env", "GOCACHE"))
}

func sum(t *testing.T, path string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf("%x", sha256.Sum256(b))
}

// The same sources give the same bytes, wherever they lie.
func TestBuildIsReproducible(t *testing.T) {
	work := t.TempDir()
	here, there := filepath.Join(work, "here"), filepath.Join(work, "there")
	copied := filepath.Join(work, "a", "longer", "path")
	if err := os.MkdirAll(copied, 0o755); err != nil {
		t.Fatal(err)
	}
	eachFile(t, func(path string, data []byte) {
		to := filepath.Join(copied, path)
		if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(to, data, 0o644); err != nil {
			t.Fatal(err)
		}
	})
	flags := buildFlags(t)
	command(t, root(t), []string{"CGO_ENABLED=0"}, "go", slices.Concat([]string{"build"}, flags, []string{"-o", here, "./node/outrider"})...)
	command(t, copied, []string{"CGO_ENABLED=0"}, "go", slices.Concat([]string{"build"}, flags, []string{"-o", there, "./node/outrider"})...)
	if sum(t, here) != sum(t, there) {
		t.Error("the same sources in two folders give two binaries")
	}
	b, err := os.ReadFile(here)
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(string(b), root(t)+"/") {
		t.Error("the binary knows where it was built")
	}
	if out := command(t, work, nil, "go", "version", "-m", here); !strings.Contains(out, "CGO_ENABLED=0") {
		t.Errorf("cgo is on:\n%s", out)
	}
}

// buildFlags reads the flags of the Makefile's build.
func buildFlags(t *testing.T) []string {
	t.Helper()
	m := regexp.MustCompile(`(?m)^BUILD = CGO_ENABLED=0 \$\(GO\) build (.*) -ldflags "(.*)"$`).FindStringSubmatch(read(t, root(t), "Makefile"))
	if m == nil || !strings.Contains(m[1], "-trimpath") || !strings.Contains(m[2], "-buildid=") {
		t.Fatalf("the Makefile's build is not reproducible, or this test does not understand it: %v", m)
	}
	return append(strings.Fields(m[1]), "-ldflags", strings.ReplaceAll(m[2], "$(VERSION)", "1.2.3"))
}

// fakeGo makes a folder with a go that answers like an old or broken one.
func fakeGo(t *testing.T, script string) string {
	t.Helper()
	dir := t.TempDir()
	if script != "" {
		if err := os.WriteFile(filepath.Join(dir, "go"), []byte("#!/bin/sh\n"+script), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func TestMissingOrOldGoIsNamedInOneLine(t *testing.T) {
	for _, c := range []struct{ name, script, want string }{
		{"none", "", "There is no Go here: install Go 1.26 or later from "},
		{"old", "echo go version go1.19.8 linux/amd64", "Go 1.19 is too old: install Go 1.26 or later from "},
		{"cannot fetch", `[ "$1" = env ] && echo go1.24.4; exit 1`, "Go 1.24.4 is too old: install Go 1.26 or later from "},
		{"broken", "exit 1", "This Go does not say its version: install Go 1.26 or later from "},
		{"the one", "echo go version go1.26.0 linux/amd64", ""},
		{"later", "echo go version go1.30.1 linux/amd64", ""},
		{"much later", "echo go version go2.0 linux/amd64", ""},
	} {
		cmd := exec.Command("make", "--no-print-directory", "-s", "go")
		if c.script == "" {
			cmd.Args = append(cmd.Args, "GO=no-go-of-this-name") // whatever else the machine has
		}
		cmd.Dir = root(t)
		cmd.Env = append(os.Environ(), "PATH="+fakeGo(t, c.script)+":/usr/bin:/bin", "MAKEFLAGS=", "VERSION=1")
		out, err := cmd.CombinedOutput()
		first, _, _ := strings.Cut(string(out), "\n")
		if !strings.HasPrefix(first, c.want) || (err == nil) != (c.want == "") || c.want == "" && len(out) > 0 {
			t.Errorf("%s: %v, printed:\n%s", c.name, err, out)
		}
	}
}

// Every stage begins with the check of Go, so that its line comes first.
func TestEveryStageChecksGoFirst(t *testing.T) {
	dir := fakeGo(t, "echo go version go1.19.8 linux/amd64")
	for _, target := range []string{"build", "run", "test", "check", "release", "source-bundle", "field", "bench", "soak"} {
		cmd := exec.Command("make", "--no-print-directory", target)
		cmd.Dir = root(t)
		cmd.Env = append(os.Environ(), "PATH="+dir+":/usr/bin:/bin", "MAKEFLAGS=", "VERSION=1")
		out, err := cmd.CombinedOutput()
		if first, _, _ := strings.Cut(string(out), "\n"); err == nil || !strings.HasPrefix(first, "Go 1.19 is too old") {
			t.Errorf("make %s: %v, printed:\n%s", target, err, out)
		}
	}
}

func TestStageFailsAndCounts(t *testing.T) {
	top, work := root(t), t.TempDir()
	run := func(args ...string) (string, error) {
		cmd := exec.Command("sh", append([]string{filepath.Join(top, ".ci/stage")}, args...)...)
		cmd.Dir = work
		out, err := cmd.CombinedOutput()
		return string(out), err
	}
	if out, err := run("one", "true"); err != nil || !regexp.MustCompile(`== one: good, \d+ s\n`).MatchString(out) {
		t.Errorf("%v %s", err, out)
	}
	out, err := run("two", "sh", "-c", "exit 7")
	if code := err.(*exec.ExitError).ExitCode(); code != 7 || !strings.Contains(out, "== two: FAILED with 7") {
		t.Errorf("%d %s", code, out)
	}
	if out, err := run("--summary"); err != nil || !strings.Contains(out, "together") || strings.Count(out, "\n") != 4 {
		t.Errorf("%v %s", err, out)
	}
}

// The nftables lines of the port table are loaded where they can do no harm.
func TestFirewallLinesAreNftables(t *testing.T) {
	bin := filepath.Join(t.TempDir(), "outrider")
	command(t, root(t), []string{"CGO_ENABLED=0"}, "go", "build", "-o", bin, "./node/outrider")
	script := `set -e
nft 'add table inet filter'
nft 'add chain inet filter input { type filter hook input priority 0; policy drop; }'
"$0" --dir "$PWD" config ports | sed -n 's/^  nft /nft /p' > lines
test -s lines
sh -e lines
nft list chain inet filter input`
	out, err := unplugged(t, t.TempDir(), []string{"PATH=" + os.Getenv("PATH") + ":/usr/sbin:/sbin"}, "sh", "-c", script, bin)
	if err != nil || !strings.Contains(out, "udp dport { 7410, 7411 } accept") || !strings.Contains(out, "tcp dport { 7410, 7411 } accept") {
		t.Errorf("%v\n%s", err, out)
	}
}
