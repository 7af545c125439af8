package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
	"github.com/spf13/cobra"
	"go.uber.org/goleak"

	"outrider/mesh/identity"
	"outrider/mesh/identity/kdf"
	"outrider/offline/deeplink"
)

var update = flag.Bool("update", false, "write the golden files anew")

func TestMain(m *testing.M) {
	testscript.Main(leakChecked{m}, map[string]func(){
		"outrider": func() {
			provision = &fakeProvisioner{}
			version = "1.2.3"
			os.Exit(checkedMain())
		},
	})
}

type leakChecked struct{ m *testing.M }

func (l leakChecked) Run() int {
	code := l.m.Run()
	if err := goleak.Find(); code == 0 && err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return code
}

// checkedMain is realMain, with a look at what --json has printed: each line
// is one value.
func checkedMain() int {
	if !slices.Contains(os.Args, "--json") {
		return realMain()
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	var out, errOut bytes.Buffer
	code := run(ctx, os.Args[1:], os.Stdin, io.MultiWriter(os.Stdout, &out), io.MultiWriter(os.Stderr, &errOut))
	for _, line := range notJSON(out.String() + errOut.String()) {
		fmt.Fprintf(os.Stderr, "--json printed a line that is no JSON: %s\n", line)
		code = 99
	}
	return code
}

// notJSON returns the lines of a text that are no JSON.
func notJSON(text string) []string {
	var bad []string
	for line := range strings.Lines(text) {
		if !json.Valid([]byte(line)) {
			bad = append(bad, line)
		}
	}
	return bad
}

// TestEveryVerbSpeaksJSON: what any verb prints with --json, its help and the
// error of a folder without a node too, is JSON.
func TestEveryVerbSpeaksJSON(t *testing.T) {
	t.Setenv("HOME", t.TempDir())
	t.Setenv("XDG_RUNTIME_DIR", t.TempDir())
	t.Chdir(t.TempDir()) // report and others write where they are
	for _, c := range everyCommand((&app{env: func(string) string { return "" }}).root()) {
		words := strings.Fields(c.CommandPath())[1:]
		for _, more := range [][]string{nil, {"bash"}, {"--help"}} {
			var out, errOut strings.Builder
			args := append(append([]string{"--json", "--dir", filepath.Join(t.TempDir(), "node")}, words...), more...)
			code := run(t.Context(), args, strings.NewReader(""), &out, &errOut)
			if bad := notJSON(out.String() + errOut.String()); len(bad) > 0 {
				t.Errorf("%v printed %q", args[3:], bad)
			}
			if out.Len()+errOut.Len() == 0 || code == 0 && out.Len() == 0 || code != 0 && errOut.Len() == 0 {
				t.Errorf("%v: exit code %d, printed %q and %q", args[3:], code, out.String(), errOut.String())
			}
		}
	}
}

func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir: "testdata/script",
		Setup: func(e *testscript.Env) error {
			e.Setenv("TZ", "UTC")
			e.Setenv("GORACE", "atexit_sleep_ms=0") // a race build waits a second at each exit otherwise
			e.Setenv("HOME", filepath.Join(e.WorkDir, "home"))
			e.Setenv("XDG_RUNTIME_DIR", filepath.Join(e.WorkDir, "run"))
			e.Setenv("OUTRIDER_DIR", filepath.Join(e.WorkDir, "node"))
			link, err := aLink()
			if err != nil {
				return err
			}
			e.Setenv("JOINLINK", link)
			if err := os.CopyFS(filepath.Join(e.WorkDir, "dist"), os.DirFS("../dist")); err != nil {
				return err
			}
			return os.Mkdir(filepath.Join(e.WorkDir, "node"), 0o700)
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"node":     startNode,
			"exitcode": exitCodeOf,
			"mode":     checkMode,
			"random":   randomFile,
			"waitfor":  waitFor,
			"only":     onlyFiles,
			"loosen":   loosen,

			"terminate": terminate,
			"envsubst":  envSubst,
		},
	})
}

// aLink is a whole link, though nobody's.
var aLink = sync.OnceValues(func() (string, error) {
	key, err := identity.NewPrivateKey()
	if err != nil {
		return "", err
	}
	frame, err := deeplink.Seal(context.Background(), []byte{0x81, 0x01}, key, []byte("password of no one"), kdf.Floor())
	return deeplink.Link(frame), err
})

// exitCodeOf runs outrider and checks its exit code: exitcode 3 status --json.
func exitCodeOf(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 1 {
		ts.Fatalf("usage: exitcode N ARGS...")
	}
	err := ts.Exec("outrider", args[1:]...)
	got := 0
	var coded interface{ ExitCode() int }
	if errors.As(err, &coded) {
		got = coded.ExitCode()
	} else if err != nil {
		ts.Fatalf("run: %v", err)
	}
	if fmt.Sprint(got) != args[0] {
		ts.Fatalf("exit code %d, want %s", got, args[0])
	}
}

// checkMode checks a file's permission bits: mode 600 run/outrider.
func checkMode(ts *testscript.TestScript, _ bool, args []string) {
	names, err := filepath.Glob(ts.MkAbs(args[1]))
	ts.Check(err)
	if len(names) == 0 {
		ts.Fatalf("no file %s", args[1])
	}
	for _, n := range names {
		st, err := os.Stat(n)
		ts.Check(err)
		if got := fmt.Sprintf("%o", st.Mode().Perm()); got != args[0] {
			ts.Fatalf("%s has mode %s, want %s", n, got, args[0])
		}
	}
}

// randomFile writes so many random letters: random FILE BYTES.
func randomFile(ts *testscript.TestScript, _ bool, args []string) {
	var n int
	_, err := fmt.Sscan(args[1], &n)
	ts.Check(err)
	b := make([]byte, n)
	rand.Read(b)
	for i := range b {
		b[i] = 'a' + b[i]%26 // one line
	}
	ts.Check(os.WriteFile(ts.MkAbs(args[0]), b, 0o600))
}

// waitFor waits until a file of a running program holds a text: waitfor FILE TEXT.
func waitFor(ts *testscript.TestScript, _ bool, args []string) {
	for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); time.Sleep(5 * time.Millisecond) {
		if b, err := os.ReadFile(ts.MkAbs(args[0])); err == nil && strings.Contains(string(b), args[1]) {
			return
		}
	}
	ts.Fatalf("%s does not come to hold %q", args[0], args[1])
}

// onlyFiles checks what a folder holds: only DIR NAME...
func onlyFiles(ts *testscript.TestScript, _ bool, args []string) {
	entries, err := os.ReadDir(ts.MkAbs(args[0]))
	ts.Check(err)
	var got []string
	for _, e := range entries {
		got = append(got, e.Name())
	}
	slices.Sort(got)
	want := slices.Sorted(slices.Values(args[1:]))
	if !slices.Equal(got, want) {
		ts.Fatalf("%s holds %v, want %v", args[0], got, want)
	}
}

// terminate sends SIGTERM, as systemd does, to what runs in the background.
func terminate(ts *testscript.TestScript, _ bool, _ []string) {
	for _, c := range ts.BackgroundCmds() {
		ts.Check(c.Process.Signal(syscall.SIGTERM))
	}
}

// envSubst replaces $PAGEPORT in a file.
func envSubst(ts *testscript.TestScript, _ bool, args []string) {
	text := strings.ReplaceAll(ts.ReadFile(args[0]), "$PAGEPORT", ts.Getenv("PAGEPORT"))
	ts.Check(os.WriteFile(ts.MkAbs(args[0]), []byte(text), 0o600))
}

// loosen lets others read the files of a folder.
func loosen(ts *testscript.TestScript, _ bool, args []string) {
	names, err := filepath.Glob(ts.MkAbs(args[0]) + "/*")
	ts.Check(err)
	for _, n := range names {
		ts.Check(os.Chmod(n, 0o644))
	}
}

// fakeProvisioner keeps its node in one file of the folder.
type fakeProvisioner struct{}

func (*fakeProvisioner) Init(_ context.Context, dir string) (nodeInfo, error) {
	path := filepath.Join(dir, "state")
	if _, err := os.Stat(path); err == nil {
		return nodeInfo{}, &failure{exit: exitSetup, code: "initialised", message: "this folder already holds a node", next: "outrider up"}
	}
	return nodeInfo{Node: nodeA.String(), Dir: dir}, os.WriteFile(path, nil, 0o600)
}

func (*fakeProvisioner) CreateNetwork(_ context.Context, dir, name, preset string, pw []byte) (networkInfo, error) {
	return networkInfo{Network: strings.Repeat("n", 52), Name: name, Preset: preset, Fingerprint: "one two three four five six"},
		os.WriteFile(filepath.Join(dir, "admin"), pw, 0o600)
}

func (*fakeProvisioner) AddUser(_ context.Context, dir string, u newUser) (invitation, error) {
	want, err := os.ReadFile(filepath.Join(dir, "admin"))
	if err != nil {
		return invitation{}, &failure{exit: exitSetup, code: "no_network", message: "this node belongs to no network", next: "outrider network create NAME"}
	}
	if u.AdminPassword != string(want) {
		return invitation{}, &failure{exit: exitRefused, code: "bad_password", message: "the admin password is wrong"}
	}
	if u.Here {
		return invitation{Name: u.Name, User: "u1"}, os.WriteFile(filepath.Join(dir, "user"), []byte(u.Password), 0o600)
	}
	return invitation{Name: u.Name, Link: "outrider://c/#or1abc", Password: "six words of a made password",
		Expires: aTime.Add(time.Duration(u.TTLSeconds) * time.Second), Addrs: u.Addrs}, nil
}

func (f *fakeProvisioner) CanCreate(dir string) error { return f.CanInvite(dir) }

func (*fakeProvisioner) CanInvite(dir string) error {
	if _, err := os.Stat(filepath.Join(dir, "state")); err != nil {
		return &failure{exit: exitMissing, code: codeNoNode, message: "no node in this folder", next: "outrider init"}
	}
	return nil
}

func (*fakeProvisioner) Join(_ context.Context, dir string, j joinRequest) (joined, error) {
	if j.LinkPassword != "link password" {
		return joined{}, &failure{exit: exitRefused, code: "bad_password", message: "the password does not open this link"}
	}
	done := joined{User: "u2", Name: "bravo", Hint: "nobody answered yet at 192.168.7.1:7411"}
	done.Network.ID, done.Network.Name = strings.Repeat("n", 52), "eagle"
	return done, os.WriteFile(filepath.Join(dir, "joined"), []byte(j.Link+"\n"+j.UserPassword+"\n"), 0o600)
}

func (*fakeProvisioner) SetLink(_ context.Context, dir, node string, up bool) error {
	return os.WriteFile(filepath.Join(dir, "gate"), fmt.Appendf(nil, "%s %v\n", node, up), 0o600)
}

func (*fakeProvisioner) Up(ctx context.Context, o upOptions, ready func(upInfo)) error {
	if _, err := os.Stat(filepath.Join(o.Dir, "state")); err != nil {
		return &failure{exit: exitSetup, code: "not_initialised", message: "no node in this folder", next: "outrider init"}
	}
	o.Log.Info("up", "profile", o.Config.Profile)
	ready(upInfo{Node: nodeA.String(), Socket: filepath.Join(o.Dir, socketName), Pages: []string{"http://127.0.0.1:7480"}})
	<-ctx.Done()
	return nil
}

// everyCommand lists the tree's commands that a user can call.
func everyCommand(c *cobra.Command) []*cobra.Command {
	all := []*cobra.Command{c}
	for _, s := range c.Commands() {
		if s.Name() != "help" {
			all = append(all, everyCommand(s)...)
		}
	}
	return all
}

func TestHelpTexts(t *testing.T) {
	root := (&app{env: func(string) string { return "" }}).root()
	want := map[string]bool{}
	for _, c := range everyCommand(root) {
		words := strings.Fields(c.CommandPath())[1:]
		var out strings.Builder
		if code := run(t.Context(), append(words, "--help"), strings.NewReader(""), &out, &out); code != 0 {
			t.Errorf("%v --help: exit code %d", words, code)
		}
		got := out.String()
		name := strings.Join(append([]string{"outrider"}, words...), "-") + ".txt"
		want[name] = true
		golden(t, filepath.Join("testdata", "help", name), got)
		if i := strings.LastIndex(got, "\nExamples:\n  outrider"); i < 0 && !strings.Contains(got, "| outrider") {
			t.Errorf("%s: the help does not end with an example:\n%s", name, got)
		}
		if !strings.Contains(got, "--json") {
			t.Errorf("%s: no --json", name)
		}
		if !c.HasSubCommands() && !strings.Contains(got, "\nExit codes: 0, 1, 2") {
			t.Errorf("%s: no exit codes", name)
		}
		for _, line := range strings.Split(c.Long, "\n") {
			if len(line) > 90 {
				t.Errorf("%s: a line of %d characters", name, len(line))
			}
		}
	}
	files, err := os.ReadDir("testdata/help")
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		if !want[f.Name()] {
			t.Errorf("testdata/help/%s belongs to no command", f.Name())
		}
	}
}

func TestManualIsTheShippedOne(t *testing.T) {
	var out strings.Builder
	if code := run(t.Context(), []string{"man"}, strings.NewReader(""), &out, os.Stderr); code != 0 {
		t.Fatalf("exit code %d", code)
	}
	golden(t, "../dist/outrider.1", out.String())
	for i, line := range strings.Split(out.String(), "\n") {
		if strings.HasPrefix(line, ".") && !strings.HasPrefix(line, `.\"`) && strings.Fields(line + " x")[0] == "." {
			t.Errorf("line %d begins like a request: %q", i+1, line)
		}
	}
}

func golden(t *testing.T, path, got string) {
	t.Helper()
	if *update {
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("%s is not what the program prints; go test ./node/outrider -update writes it anew.\n%s", path, got)
	}
}

func TestExamplesParse(t *testing.T) {
	root := (&app{env: func(string) string { return "" }}).root()
	for _, c := range everyCommand(root) {
		for _, line := range strings.Split(c.Example, "\n") {
			words := shellWords(line)
			if i := lastIndex(words, "|"); i >= 0 && i+1 < len(words) && words[i+1] == "outrider" {
				words = words[i+1:]
			}
			for i, w := range words {
				if w == "|" || w == ">" || w == ">>" || w == "<" {
					words = words[:i]
					break
				}
			}
			if len(words) == 0 || words[0] != "outrider" {
				t.Errorf("%s: example %q does not call outrider", c.CommandPath(), line)
				continue
			}
			fresh := (&app{env: func(string) string { return "" }}).root()
			found, rest, err := fresh.Find(words[1:])
			if err == nil {
				err = found.ParseFlags(rest)
			}
			if err == nil && found.Args != nil {
				err = found.Args(found, found.Flags().Args())
			}
			if err != nil || !found.Runnable() {
				t.Errorf("%s: example %q: %v", c.CommandPath(), line, err)
			}
		}
	}
}

func lastIndex(words []string, w string) int {
	for i := len(words) - 1; i >= 0; i-- {
		if words[i] == w {
			return i
		}
	}
	return -1
}

// shellWords splits a line as far as our examples need it.
func shellWords(line string) []string {
	var words []string
	var cur strings.Builder
	quote := rune(0)
	for _, r := range strings.TrimSpace(line) + " " {
		switch {
		case quote != 0 && r == quote:
			quote = 0
		case quote != 0:
			cur.WriteRune(r)
		case r == '"' || r == '\'':
			quote = r
		case r == ' ':
			if cur.Len() > 0 {
				words = append(words, cur.String())
			}
			cur.Reset()
		default:
			cur.WriteRune(r)
		}
	}
	return words
}
