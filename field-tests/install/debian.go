// Package install tries the Debian package where it will live: on Debian, with
// systemd as process 1. A Machine is a Debian root file system that boots in
// namespaces of its own (processes, mounts, cgroup, host name) and, when it is
// placed in a node of field-tests/netns, on an emulated network. Its disk
// outlasts a power cut, which is SIGKILL for everything on it at once.
//
// It needs root, a cgroup2 hierarchy and mmdebstrap; what is missing is named
// and fails the test.
package install

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"

	"outrider/field-tests/scenario"
)

// packages are what the root holds beside Debian's minimum: an init that can
// be PID 1, and what reads the files that our package brings.
var packages = []string{"systemd", "systemd-sysv", "dbus", "desktop-file-utils", "bash-completion", "zsh", "fish"}

var root struct {
	once sync.Once
	dir  string
	err  error
}

// Root returns a Debian root file system that must not be written to. It is
// made once and kept in bin.
func Root(ctx context.Context) (string, error) {
	root.once.Do(func() { root.dir, root.err = makeRoot(ctx) })
	return root.dir, root.err
}

func makeRoot(ctx context.Context) (string, error) {
	if os.Geteuid() != 0 {
		return "", errors.New("install: a Debian machine boots for root only: run the test as root")
	}
	top, err := scenario.Root()
	if err != nil {
		return "", err
	}
	suite, err := codename()
	if err != nil {
		return "", err
	}
	dir := filepath.Join(top, "bin", "debian", fmt.Sprintf("%s-%.4x", suite, sha256.Sum256([]byte(strings.Join(packages, " "))))) // another list, another root
	if _, err := os.Stat(filepath.Join(dir, "usr/lib/systemd/systemd")); err == nil {
		return dir, nil
	}
	if _, err := exec.LookPath("mmdebstrap"); err != nil {
		return "", errors.New("install: there is no mmdebstrap to make a Debian root with: apt-get install mmdebstrap, or sh .ci/setup")
	}
	work := fmt.Sprintf("%s.%d", dir, os.Getpid())
	if err := os.MkdirAll(work, 0o755); err != nil {
		return "", err
	}
	defer os.RemoveAll(work)
	cmd := exec.CommandContext(ctx, "mmdebstrap", "--quiet", "--mode=root", "--variant=minbase", "--include="+strings.Join(packages, ","), suite, work)
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("install: make a Debian root: %w (does apt-get update work here?): %s", err, bytes.TrimSpace(out))
	}
	if err := os.Rename(work, dir); err != nil && !errors.Is(err, os.ErrExist) {
		return "", fmt.Errorf("install: keep the Debian root: %w", err)
	}
	return dir, nil
}

// codename is the release of this machine, whose packages it can fetch.
func codename() (string, error) {
	raw, err := os.ReadFile("/etc/os-release")
	if err != nil {
		return "", fmt.Errorf("install: which Debian is this: %w", err)
	}
	for _, line := range strings.Split(string(raw), "\n") {
		if v, ok := strings.CutPrefix(line, "VERSION_CODENAME="); ok && strings.Contains(string(raw), "ID=debian") {
			return strings.Trim(v, `"`), nil
		}
	}
	return "", errors.New("install: this machine is no Debian, so there is no Debian root to be made of its packages")
}

// Prepare fetches what machines and packages are made of. It needs the network
// of this machine, so it goes before any namespace is entered.
func Prepare(ctx context.Context) error {
	if _, err := Root(ctx); err != nil {
		return err
	}
	top, err := scenario.Root()
	if err != nil {
		return err
	}
	fetch := exec.CommandContext(ctx, "bash", ".ci/deb", "--fetch")
	fetch.Dir = top
	if out, err := fetch.CombinedOutput(); err != nil {
		return fmt.Errorf("install: get nfpm: %w: %s", err, bytes.TrimSpace(out))
	}
	return nil
}

// Package builds the program as it is in the tree, stamped with a version, and
// packs it as `make release` does. It returns the package's path.
func Package(ctx context.Context, dir, version string) (string, error) {
	top, err := scenario.Root()
	if err != nil {
		return "", err
	}
	bin, deb := filepath.Join(dir, "outrider-"+version), filepath.Join(dir, "outrider_"+version+".deb")
	build := exec.CommandContext(ctx, "go", "build", "-trimpath", "-buildvcs=false", "-ldflags", "-s -w -buildid= -X main.version="+version, "-o", bin, "./node/outrider")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	arch, err := exec.CommandContext(ctx, "dpkg", "--print-architecture").Output()
	if err != nil {
		return "", fmt.Errorf("install: which architecture is this: %w", err)
	}
	pack := exec.CommandContext(ctx, "bash", ".ci/deb", strings.TrimSpace(string(arch)), bin, deb)
	pack.Env = append(os.Environ(), "VERSION="+version, "TOOL="+bin)
	for _, cmd := range []*exec.Cmd{build, pack} {
		cmd.Dir = top
		if out, err := cmd.CombinedOutput(); err != nil {
			return "", fmt.Errorf("install: %s: %w: %s", cmd.Args[0], err, bytes.TrimSpace(out))
		}
	}
	return deb, nil
}
