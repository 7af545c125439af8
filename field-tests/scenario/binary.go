package scenario

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
)

// built is the binary of this test process, made once.
var built struct {
	once sync.Once
	path string
	err  error
}

// Binary builds outrider as it is in the tree now and returns its path. With
// OUTRIDER_BIN set it returns that.
func Binary(tb testing.TB) string {
	tb.Helper()
	if bin := os.Getenv("OUTRIDER_BIN"); bin != "" {
		return bin
	}
	built.once.Do(func() { built.path, built.err = build() })
	if built.err != nil {
		tb.Fatal(built.err)
	}
	return built.path
}

func build() (string, error) {
	root, err := Root()
	if err != nil {
		return "", err
	}
	// Not by process id: tests in namespaces of their own all have small ones.
	top := filepath.Join(root, "bin", "_test") // the go command looks into no folder with such a name
	if err := os.MkdirAll(top, 0o755); err != nil {
		return "", fmt.Errorf("scenario: build outrider: %w", err)
	}
	dir, err := os.MkdirTemp(top, "build-")
	if err != nil {
		return "", fmt.Errorf("scenario: build outrider: %w", err)
	}
	path := filepath.Join(dir, "outrider")
	cmd := exec.Command("go", "build", "-trimpath", "-o", path, "./node/outrider")
	cmd.Dir, cmd.Env = root, append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("scenario: build outrider: %w: %s", err, out)
	}
	return path, nil
}

// Clean removes what Binary built. Call it at the end of TestMain.
func Clean() {
	if built.path != "" {
		_ = os.RemoveAll(filepath.Dir(built.path))
	}
}

// Root returns the top of the source tree.
func Root() (string, error) {
	dir, err := os.Getwd()
	if err != nil {
		return "", err
	}
	for ; dir != "/"; dir = filepath.Dir(dir) {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			return dir, nil
		}
	}
	return "", fmt.Errorf("scenario: no go.mod above the working folder")
}
