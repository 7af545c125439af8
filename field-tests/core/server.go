// Package core tests nodes that reach each other through the core alone: two
// units of real outrider binaries, three real NATS servers.
package core

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"

	"outrider/field-tests/repo"
)

// Server builds the NATS server that go.mod pins, unless it is there already,
// and returns where it is.
var Server = sync.OnceValues(func() (string, error) {
	root, err := repo.Root()
	if err != nil {
		return "", err
	}
	path := filepath.Join(root, "bin", "nats-server")
	if newer(path, filepath.Join(root, "go.mod")) {
		return path, nil
	}
	cmd := exec.Command("go", "build", "-trimpath", "-o", path, "github.com/nats-io/nats-server/v2")
	cmd.Dir, cmd.Env = root, append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build nats-server: %v: %s", err, out)
	}
	return path, nil
})

// newer says whether a file was made after another.
func newer(path, than string) bool {
	a, err := os.Stat(path)
	if err != nil {
		return false
	}
	b, err := os.Stat(than)
	return err == nil && a.ModTime().After(b.ModTime())
}
