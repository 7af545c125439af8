package main

import (
	"bytes"
	"encoding/json"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"outrider/field-tests/linkemu"
	"outrider/field-tests/netns"
)

// ctlEnv makes the test binary the command itself, for drivers to call.
const ctlEnv = "LINKEMU_TEST_ARGS"

func TestMain(m *testing.M) {
	if args := os.Getenv(ctlEnv); args != "" {
		if err := realMain(strings.Split(args, "|")); err != nil {
			os.Stderr.WriteString(err.Error() + "\n")
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(netns.Main(m.Run))
}

func TestArguments(t *testing.T) {
	for _, args := range [][]string{nil, {"fly"}, {"check"}, {"check", "no-such-file"}, {"run"}, {"run", "no-such-file"}, {"ctl", "sock"}, {"clean", "up"}} {
		if err := realMain(args); err == nil {
			t.Errorf("%v was taken", args)
		}
	}
	if err := realMain([]string{"check", "../example.json"}); err != nil {
		t.Error(err)
	}
}

// captureStdout returns what f prints.
func captureStdout(t *testing.T, f func() error) (string, error) {
	t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	old := os.Stdout
	os.Stdout = w
	var out bytes.Buffer
	copied := make(chan error, 1)
	go func() { _, err := io.Copy(&out, r); copied <- err }()
	ferr := f()
	os.Stdout = old
	w.Close()
	if err := <-copied; err != nil {
		t.Fatal(err)
	}
	return out.String(), ferr
}

// A whole run: namespaces come, a program starts, a driver looks and changes
// links, everything goes again.
func TestRun(t *testing.T) {
	if err := unix.Mount("tmpfs", "/run", "tmpfs", 0, ""); err != nil { // ours alone, see netns.Main
		t.Fatal(err)
	}
	if err := os.Mkdir("/run/netns", 0o755); err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	scenario, sock, mark := filepath.Join(dir, "s.json"), filepath.Join(dir, "ctl"), filepath.Join(dir, "mark")
	text := `{"prefix":"lt-","nodes":["a","b"],"nets":[{"name":"vhf","subnet":"10.77.1.0/24"}],
		"run":[{"node":"b","cmd":["sh","-c","ip -o -4 addr show vhf >` + mark + `.new; mv ` + mark + `.new ` + mark + `"]}]}`
	if err := os.WriteFile(scenario, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	driver := `set -e
ip netns exec ${LINKEMU_PREFIX}a ip -o -4 addr show vhf | grep -q 10.77.1.1/24
until [ -e ` + mark + ` ]; do :; done
grep -q 10.77.1.2/24 ` + mark + `
` + ctlEnv + `="ctl|$LINKEMU_CONTROL|{\"net\":\"vhf\",\"up\":false}|{\"net\":\"no\",\"up\":true}|{\"counters\":true}" /proc/self/exe >` + mark + `.ctl || true
`
	driver = strings.ReplaceAll(driver, "/proc/self/exe", os.Args[0])
	if !filepath.IsAbs(os.Args[0]) {
		t.Fatalf("the test binary is %s", os.Args[0])
	}
	out, err := captureStdout(t, func() error {
		return realMain([]string{"run", "-control", sock, scenario, "--", "sh", "-c", driver})
	})
	if err != nil {
		t.Fatal(err)
	}
	first, last, ok := strings.Cut(strings.TrimSpace(out), "\n")
	var r linkemu.Report
	if !ok || first != `{"ready":true}` || json.Unmarshal([]byte(last), &r) != nil || len(r.Nets) != 1 {
		t.Errorf("printed %s", out)
	}
	answers, err := os.ReadFile(mark + ".ctl")
	if err != nil || strings.Count(string(answers), "\n") != 3 || !strings.Contains(string(answers), `"ok":true`) || !strings.Contains(string(answers), "unknown net") {
		t.Errorf("answers %s, %v", answers, err)
	}
	if left, err := os.ReadDir("/run/netns"); err != nil || len(left) != 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
	if err := realMain([]string{"run", scenario, "--", "false"}); err == nil {
		t.Error("a driver's failure is not the run's")
	}
	cleanAfterAKill(t)
}

// cleanAfterAKill leaves what a killed run leaves, and has it removed.
func cleanAfterAKill(t *testing.T) {
	t.Helper()
	if err := ip("netns", "add", "lt-x"); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(stateDir+"/999999999", []byte("lt-x\nlt-gone"), 0o600); err != nil {
		t.Fatal(err)
	}
	if out, err := captureStdout(t, clean); err != nil || out != "removed lt-x\n" {
		t.Errorf("%q, %v", out, err)
	}
}
