// Package operate tests what an operator has in hand: doctor, top, figures for
// Prometheus and the report, with the real binary and real faults.
package operate

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"outrider/field-tests/netns"
	"outrider/field-tests/scenario"
)

// outside is this namespace's address that others would use.
const outside = "10.9.0.1"

func TestMain(m *testing.M) {
	os.Exit(netns.Main(func() int {
		defer scenario.Clean()
		defer cleanTemplates()
		if out, err := exec.Command("ip", "address", "add", outside+"/32", "dev", "lo").CombinedOutput(); err != nil {
			fmt.Fprintf(os.Stderr, "ip address add: %v: %s\n", err, out)
			return 1
		}
		return m.Run()
	}))
}

// A template is a folder that is made once, because every password costs a
// derivation, and copied for each test.
type template struct {
	once sync.Once
	dir  string
	err  error
}

var founder, joined template

func cleanTemplates() {
	for _, t := range []*template{&founder, &joined} {
		if t.dir != "" {
			os.RemoveAll(t.dir)
		}
	}
}

// founded is a box whose node founded a network and hosts alice.
func founded(t *testing.T, name string) *scenario.Box {
	t.Helper()
	founder.once.Do(func() {
		founder.err = func() error {
			var err error
			if founder.dir, err = os.MkdirTemp("", "outrider-operate-"); err != nil {
				return err
			}
			b := scenario.NewBoxAlone(founder.dir, "node", scenario.Binary(t), outside)
			if _, err := b.Init(t.Context()); err != nil {
				return err
			}
			if err := b.CreateNetwork(t.Context(), "eaglesnest-17"); err != nil {
				return err
			}
			return b.HostUser(t.Context(), aliceName)
		}()
	})
	if founder.err != nil {
		t.Fatal(founder.err)
	}
	return copied(t, &founder, name)
}

// copied is a box on a copy of a template, with ports of its own.
func copied(t *testing.T, from *template, name string) *scenario.Box {
	t.Helper()
	b := box(t, name)
	if err := os.CopyFS(b.Dir, os.DirFS(filepath.Join(from.dir, "node"))); err != nil {
		t.Fatal(err)
	}
	for path, mode := range map[string]os.FileMode{"": 0o750, "state": 0o600, "lock": 0o640} {
		if err := os.Chmod(filepath.Join(b.Dir, path), mode); err != nil {
			t.Fatal(err)
		}
	}
	configure(t, b, "")
	return b
}

func box(t *testing.T, name string) *scenario.Box {
	t.Helper()
	b, err := scenario.NewBox(t.TempDir(), name, scenario.Binary(t), outside)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(b.Kill)
	return b
}

func configure(t *testing.T, b *scenario.Box, extra string) {
	t.Helper()
	if err := b.Configure("lan", extra); err != nil {
		t.Fatal(err)
	}
}

func up(t *testing.T, b *scenario.Box) {
	t.Helper()
	if err := b.Up(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// finding is what doctor prints of one.
type finding struct{ ID, Severity, Sentence, Cure string }

// consult runs doctor on a box, behind the words of wrap and with env, and
// holds its exit code to what it found.
func consult(t *testing.T, b *scenario.Box, wrap []string, env ...string) []finding {
	t.Helper()
	return consultBy(t, b.Bin, b.Dir, wrap, env...)
}

func consultBy(t *testing.T, bin, dir string, wrap []string, env ...string) []finding {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	argv := append(slices.Clone(wrap), bin, "--dir", dir, "--json", "doctor")
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
	cmd.Env = append(os.Environ(), env...)
	var out, errOut bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errOut
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatalf("doctor: %v: %s", err, errOut.String())
	}
	var answer struct{ Findings []finding }
	if err := json.Unmarshal(out.Bytes(), &answer); err != nil {
		t.Fatalf("doctor printed %q (%s): %v", out.String(), errOut.String(), err)
	}
	if code, found := cmd.ProcessState.ExitCode(), len(answer.Findings); code != map[bool]int{true: 10, false: 0}[found > 0] {
		t.Errorf("doctor ended with %d and %d findings: %s", code, found, errOut.String())
	}
	for _, f := range answer.Findings {
		if strings.ContainsAny(f.Sentence+f.Cure, "{}") && !strings.Contains(f.Cure, "nft") {
			t.Errorf("%s: words are left unfilled: %s %s", f.ID, f.Sentence, f.Cure)
		}
	}
	return answer.Findings
}

// get returns a finding by id.
func get(list []finding, id string) (finding, bool) {
	i := slices.IndexFunc(list, func(f finding) bool { return f.ID == id })
	if i < 0 {
		return finding{}, false
	}
	return list[i], true
}

// expect fails unless a finding is there whose sentence holds the words.
func expect(t *testing.T, list []finding, id string, words ...string) {
	t.Helper()
	says := func(f finding) bool {
		return f.ID == id && !slices.ContainsFunc(words, func(w string) bool { return !strings.Contains(f.Sentence+" "+f.Cure, w) })
	}
	if !slices.ContainsFunc(list, says) {
		t.Errorf("doctor does not find %s with %q, but %+v", id, words, list)
	}
}

// need finds a program or fails with the package that has it.
func need(t *testing.T, program, pkg string) string {
	t.Helper()
	path, err := exec.LookPath(program)
	if err != nil {
		t.Fatalf("%s is missing; as root: apt-get install -y --no-install-recommends %s", program, pkg)
	}
	return path
}

// must runs a program that has to succeed.
func must(t *testing.T, name string, args ...string) string {
	t.Helper()
	out, err := exec.Command(name, args...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s %v: %v: %s", name, args, err, out)
	}
	return string(out)
}

// soon bounds what a test waits for, generously: machines are slow at times.
func soon(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	t.Cleanup(cancel)
	return ctx
}
