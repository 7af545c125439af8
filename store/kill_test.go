package store_test

import (
	"bufio"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"outrider/store"
)

// kills is how often the tests kill: 20 times, or OUTRIDER_KILLS.
func kills(t *testing.T) int {
	t.Helper()
	text := os.Getenv("OUTRIDER_KILLS")
	if text == "" {
		return 20
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 1 {
		t.Fatalf("OUTRIDER_KILLS is %q, want a number", text)
	}
	return n
}

// killOnce runs a child until it has said about n lines, kills it, and hears
// everything it said.
func killOnce(program, dir string, round, n int, env []string, p *promises) error {
	cmd := exec.Command(program)
	cmd.Env = append(os.Environ(), append([]string{childEnv + "=load", dirEnv + "=" + dir, fmt.Sprintf("%s=%d", roundEnv, round)}, env...)...)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	lines := bufio.NewScanner(out)
	for heard := 0; lines.Scan(); heard++ {
		if err := p.hear(lines.Text()); err != nil {
			return errors.Join(err, cmd.Process.Kill(), cmd.Wait())
		}
		if heard == n {
			if err := cmd.Process.Kill(); err != nil {
				return err
			}
		}
	}
	var exit *exec.ExitError
	if err := cmd.Wait(); !errors.As(err, &exit) || exit.String() != "signal: killed" {
		return fmt.Errorf("the child ended by itself: %v", err)
	}
	return nil
}

// moment chooses when to kill: sometimes while the store is opened, mostly
// under load.
func moment(r *rand.Rand) int {
	if r.IntN(5) == 0 {
		return r.IntN(3)
	}
	return r.IntN(3000)
}

// A node is killed at any moment: the store opens again, and everything it
// has acknowledged is there.
func TestKill(t *testing.T) {
	program, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	lost, p := killMany(t, program, kills(t), nil)
	if lost != 0 {
		t.Fatalf("%d promises broken", lost)
	}
	if p.lines < 1000 {
		t.Fatalf("the children did only %d things", p.lines)
	}
	t.Logf("%d kills, %d acknowledgements, 0 lost, 0 failed reopens", kills(t), p.lines)
}

func killMany(t *testing.T, program string, times int, env []string) (lost int, p *promises) {
	t.Helper()
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 0))
	dir := t.TempDir()
	p = newPromises()
	for round := range times {
		p.nextRound()
		if err := killOnce(program, dir, round+1, moment(r), env, p); err != nil {
			t.Fatalf("kill %d: %v", round, err)
		}
		broken, err := p.broken(dir, round%20 == 19 || round == times-1)
		if err != nil {
			t.Fatalf("after kill %d: %v", round, err)
		}
		for _, b := range broken[:min(5, len(broken))] {
			t.Logf("after kill %d: %s", round, b)
		}
		if lost += len(broken); lost > 0 {
			return lost, p
		}
	}
	return lost, p
}

// The power is cut: as TestKill, with a program in which everything that is
// not synced dies with the process. The index's mapped files are private to
// it, and written only by msync; other files are storetest.Volatile. Without
// syncs, the same test must find losses of each kind.
func TestPowerCut(t *testing.T) {
	program := buildPowerCut(t)
	t.Run("synced", func(t *testing.T) {
		lost, p := killMany(t, program, kills(t), []string{volatileEnv + "=1"})
		if lost != 0 {
			t.Fatalf("%d promises broken", lost)
		}
		t.Logf("%d power cuts, %d acknowledgements, 0 lost, 0 failed reopens", kills(t), p.lines)
	})
	t.Run("control", func(t *testing.T) {
		dir, p := t.TempDir(), newPromises()
		if err := killOnce(program, dir, 1, 3000, []string{volatileEnv + "=1", noSyncEnv + "=1"}, p); err != nil {
			t.Fatal(err)
		}
		broken, err := p.broken(dir, true)
		if errors.Is(err, store.ErrCorrupt) {
			// An index without anything in it: bundles, values and leaves are gone,
			// and the store says so by itself. The vault is a folder of its own.
			var secrets []string
			p.brokenSecrets(dir, func(f string, a ...any) { secrets = append(secrets, fmt.Sprintf(f, a...)) })
			if len(secrets) == 0 {
				t.Error("no secret was lost although nothing was synced: the test proves nothing")
			}
			t.Logf("the store found out: %v", err)
			return
		}
		if err != nil {
			t.Fatal(err)
		}
		all := "\n" + strings.Join(broken, "\n")
		for _, kind := range []string{"bundle", "value", "secret", "leaf"} {
			if !strings.Contains(all, "\n"+kind+" ") {
				t.Errorf("no %s was lost although nothing was synced: the test proves nothing", kind)
			}
		}
		t.Logf("%d of %d promises broken", len(broken), p.lines)
	})
}

// buildPowerCut builds this test program with testdata/powercut in place of
// the files of badger's library that map files. The go command refuses to
// overlay files of modules, so the module is copied and replaced.
func buildPowerCut(t *testing.T) string {
	t.Helper()
	const module = "github.com/dgraph-io/ristretto/v2"
	dir := t.TempDir()
	must(t, os.CopyFS(filepath.Join(dir, "ristretto"), os.DirFS(goOutput(t, "list", "-mod=mod", "-m", "-f", "{{.Dir}}", module))))
	for _, name := range []string{"mmap_linux.go", "mremap_size.go", "mremap_nosize.go"} {
		original := filepath.Join(dir, "ristretto", "z", name)
		if _, err := os.Stat(original); err != nil {
			t.Fatalf("the library no longer has this file; testdata/powercut must follow: %v", err)
		}
		raw, err := os.ReadFile(filepath.Join("testdata/powercut", name+".txt"))
		must(t, err)
		must(t, os.Remove(original)) // the copy is read-only
		must(t, os.WriteFile(original, raw, 0o600))
	}
	mod := filepath.Join(dir, "go.mod")
	root := filepath.Dir(goOutput(t, "env", "GOMOD"))
	for _, name := range []string{"go.mod", "go.sum"} {
		raw, err := os.ReadFile(filepath.Join(root, name))
		must(t, err)
		must(t, os.WriteFile(filepath.Join(dir, name), raw, 0o600))
	}
	goOutput(t, "mod", "edit", "-replace", module+"="+filepath.Join(dir, "ristretto"), mod)
	program := filepath.Join(dir, "powercut.test")
	goOutput(t, "test", "-c", "-trimpath", "-mod=mod", "-modfile", mod, "-o", program, ".")
	return program
}

func goOutput(t *testing.T, args ...string) string {
	t.Helper()
	cmd := exec.Command("go", args...)
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go %s: %v\n%s", strings.Join(args, " "), err, stderr.String())
	}
	return strings.TrimSpace(string(out))
}
