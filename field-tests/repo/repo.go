// Package repo holds the tests over the repository itself: who may import
// whom and why, that every package says what it promises, that nothing of a
// developer's machine is in the files, that only free licences are linked,
// that documents repeat the code's own tables, and that a source bundle builds
// with the network unplugged.
//
// It has no code of its own but the readers of `go list` that the tests share.
package repo

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// module is the path all our packages begin with.
const module = "outrider"

// A Package is what `go list -json` says of one, as far as the tests ask.
type Package struct {
	ImportPath   string
	Dir          string
	Name         string
	Doc          string
	Standard     bool
	Imports      []string
	Deps         []string
	GoFiles      []string
	TestGoFiles  []string
	XTestGoFiles []string
	TestImports  []string
	XTestImports []string
	Module       *Module
}

// A Module is where a package comes from.
type Module struct {
	Path, Version, Dir string
	Main               bool
}

// Root finds the repository from the working directory up.
func Root() (string, error) {
	dir, err := os.Getwd()
	if err != nil {
		return "", fmt.Errorf("repo: %w", err)
	}
	for {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			return dir, nil
		}
		up := filepath.Dir(dir)
		if up == dir {
			return "", errors.New("repo: no go.mod here or above")
		}
		dir = up
	}
}

// List runs go list in the repository.
func List(root string, args ...string) ([]Package, error) {
	cmd := exec.Command("go", append([]string{"list", "-json"}, args...)...)
	cmd.Dir = root
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("repo: go list: %w: %s", err, strings.TrimSpace(stderr.String()))
	}
	var pkgs []Package
	for d := json.NewDecoder(bytes.NewReader(out)); ; {
		var p Package
		switch err := d.Decode(&p); {
		case errors.Is(err, io.EOF):
			return pkgs, nil
		case err != nil:
			return nil, fmt.Errorf("repo: go list: %w", err)
		}
		pkgs = append(pkgs, p)
	}
}

// short is an import path without the module, "" for others.
func short(path string) string {
	s, ok := strings.CutPrefix(path, module+"/")
	if !ok {
		return ""
	}
	return s
}

// inTree says whether path is prefix or lies below it.
func inTree(path, prefix string) bool {
	return path == prefix || strings.HasPrefix(path, prefix+"/")
}
