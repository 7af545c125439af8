package doctor

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"flag"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"outrider/node/config"
)

var update = flag.Bool("update", false, "write FINDINGS.md anew")

func TestMain(m *testing.M) {
	knockTime = time.Minute // a busy machine takes long, and what answers here does answer
	goleak.VerifyTestMain(m)
}

const docHead = `# What outrider doctor finds

Each finding with its id (for programs: ` + "`outrider doctor --json`" + `), what is said of it, and its cure. Words in braces stand for what was found. A fault means that something
does not work or that mail is in danger; a warning means that it works for now, or badly. ` + "`outrider doctor`" + ` ends with 10 when it has either, else with 0.
This page is written from the program's own table: ` + "`go test ./node/doctor -update`" + `.

`

func TestDocumentHasTheTable(t *testing.T) {
	want := docHead + strings.TrimSuffix(Markdown(), "\n")
	if *update {
		if err := os.WriteFile("FINDINGS.md", []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	raw, err := os.ReadFile("FINDINGS.md")
	if err != nil || string(raw) != want {
		t.Errorf("FINDINGS.md is not the table (%v): go test ./node/doctor -update", err)
	}
}

func TestTable(t *testing.T) {
	seen := map[string]bool{}
	for _, k := range Kinds {
		if seen[k.ID] || !regexp.MustCompile(`^[a-z]+(-[a-z]+)+$`).MatchString(k.ID) {
			t.Errorf("%q: twice, or no id", k.ID)
		}
		if k.Severity != Fault && k.Severity != Warning || !strings.HasSuffix(k.Sentence, ".") || k.Cure == "" {
			t.Errorf("%s: severity, sentence or cure", k.ID)
		}
		seen[k.ID] = true
	}
	// Every kind is used, and every use has a kind.
	var code strings.Builder
	files, _ := filepath.Glob("*.go")
	for _, f := range files {
		if raw, err := os.ReadFile(f); err == nil && !strings.HasSuffix(f, "_test.go") {
			code.Write(raw)
		}
	}
	used := map[string]bool{}
	for _, m := range regexp.MustCompile(`found\("([\w-]+)"`).FindAllStringSubmatch(code.String(), -1) {
		used[m[1]] = true
		if !seen[m[1]] {
			t.Errorf("%s is not in the table", m[1])
		}
	}
	for id := range seen {
		if !used[id] {
			t.Errorf("nothing ever finds %s", id)
		}
	}
}

func TestFoundFillsWords(t *testing.T) {
	f := found("port-busy", "port", "1/tcp", "use", "x", "owner", "y", "key", "k")
	if f.Sentence != "1/tcp (x) is taken by y." || f.Cure != "Stop that program, or change k." || f.Severity != Fault {
		t.Errorf("%+v", f)
	}
	defer func() {
		if recover() == nil {
			t.Error("an unknown id does not panic")
		}
	}()
	found("nothing-at-all")
}

// quiet is an Env with no fault in what the tests below look at.
func quiet(t *testing.T) Env {
	c := config.Default()
	c.Gossip.Listen, c.Mesh.Listen, c.Page.Listen = "127.0.0.1:0", []string{"127.0.0.1:0"}, nil
	return Env{Dir: t.TempDir(), Config: c, Folder: Folder{Network: true, Enrolled: true},
		Now: func() time.Time { return firstClock.AddDate(1, 0, 0) }, Synced: func() bool { return true }}
}

func ids(list []Finding) (out []string) {
	for _, f := range list {
		out = append(out, f.ID)
	}
	return out
}

func examine(t *testing.T, e Env) []string { return ids(Examine(t.Context(), e)) }

func TestClock(t *testing.T) {
	for _, c := range []struct {
		name   string
		now    time.Time
		floor  time.Time
		synced bool
		want   string
	}{
		{"epoch", time.Unix(60, 0), time.Time{}, true, "clock-unset"},
		{"just unset", firstClock.Add(-time.Second), time.Time{}, true, "clock-unset"},
		{"below the floor", firstClock.Add(time.Hour), firstClock.Add(2 * time.Hour), true, "clock-below-floor"},
		{"drifting", firstClock.Add(time.Hour), firstClock, false, "clock-unsynchronised"},
		{"good", firstClock.Add(time.Hour), firstClock, true, ""},
	} {
		e := quiet(t)
		e.Now, e.Synced, e.Folder.Floor = func() time.Time { return c.now }, func() bool { return c.synced }, c.floor
		got := slices.DeleteFunc(examine(t, e), func(id string) bool { return !strings.HasPrefix(id, "clock-") })
		if strings.Join(got, " ") != c.want {
			t.Errorf("%s: %v, want %q", c.name, got, c.want)
		}
	}
}

// tree writes files below a new folder.
func tree(t *testing.T, files map[string]string) string {
	dir := t.TempDir()
	for name, text := range files {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func TestMemory(t *testing.T) {
	meminfo := func(kb, swap int) string {
		return fmt.Sprintf("MemTotal: 500000 kB\nMemAvailable: %d kB\nSwapFree: %d kB\n", kb, swap)
	}
	for _, c := range []struct {
		name  string
		files map[string]string
		runs  bool
		want  string
	}{
		{"plenty", map[string]string{"meminfo": meminfo(400_000, 0)}, false, ""},
		{"little", map[string]string{"meminfo": meminfo(100_000, 0)}, false, "memory-low"},
		{"little, but the node runs already", map[string]string{"meminfo": meminfo(100_000, 0)}, true, ""},
		{"less", map[string]string{"meminfo": meminfo(80_000, 0)}, true, "memory-low"},
		{"swap", map[string]string{"meminfo": meminfo(80_000, 100_000)}, true, ""},
		{"version 2", map[string]string{"self/cgroup": "0::/a/b\n", "fs/cgroup/a/memory.max": "209715200\n", "fs/cgroup/a/memory.current": "150000000\n",
			"fs/cgroup/a/b/memory.max": "max\n", "fs/cgroup/a/b/memory.current": "1\n"}, true, "memory-cgroup"},
		{"files that can be had back", map[string]string{"self/cgroup": "0::/a\n", "fs/cgroup/a/memory.max": "209715200\n", "fs/cgroup/a/memory.current": "150000000\n",
			"fs/cgroup/a/memory.stat": "anon 5\ninactive_file 100000000\n"}, true, ""},
		{"version 1", map[string]string{"self/cgroup": "4:memory:/x\n0::/\n", "fs/cgroup/memory/x/memory.limit_in_bytes": "100000000\n", "fs/cgroup/memory/x/memory.usage_in_bytes": "50000000\n"},
			true, "memory-cgroup memory-setting"},
		{"version 1 without a limit", map[string]string{"self/cgroup": "4:memory:/x\n", "fs/cgroup/memory/x/memory.limit_in_bytes": "9223372036854771712\n", "fs/cgroup/memory/x/memory.usage_in_bytes": "5\n"}, true, ""},
		{"nothing can be read", nil, true, ""},
		{"nonsense", map[string]string{"meminfo": "MemAvailable: many kB\n", "self/cgroup": "::::\n\n0\n"}, true, ""},
	} {
		e := quiet(t)
		e.Proc = tree(t, c.files)
		e.Sys, e.Running.Answers = e.Proc, c.runs
		got := ids(checkMemory(t.Context(), e))
		if strings.Join(got, " ") != c.want {
			t.Errorf("%s: %v, want %q", c.name, got, c.want)
		}
	}
}

// page serves TLS on loopback with a certificate as asked for.
func page(t *testing.T, until time.Time, ips ...net.IP) config.Config {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	x := &x509.Certificate{SerialNumber: big.NewInt(1), NotBefore: until.Add(-time.Hour), NotAfter: until, IPAddresses: ips}
	der, err := x509.CreateCertificate(rand.Reader, x, x, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	l, err := tls.Listen("tcp", "0.0.0.0:0", &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}})
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			_ = c.(*tls.Conn).Handshake()
			c.Close()
		}
	}()
	t.Cleanup(func() { l.Close(); <-done })
	c := config.Default()
	c.Page.Listen = []string{fmt.Sprintf("0.0.0.0:%d", l.Addr().(*net.TCPAddr).Port)}
	return c
}

func TestPage(t *testing.T) {
	var own []net.IP
	for _, a := range outsideAddrs() {
		own = append(own, a.AsSlice())
	}
	e := quiet(t)
	e.Running.Answers = true
	now := e.Now()
	e.Config = page(t, now.Add(time.Hour), own...)
	if got := ids(checkPage(t.Context(), e)); len(got) != 0 {
		t.Errorf("a good certificate: %v", got)
	}
	e.Config = page(t, now.Add(-time.Second), own...)
	if got := ids(checkPage(t.Context(), e)); !slices.Equal(got, []string{"page-certificate-expired"}) {
		t.Errorf("one that ended: %v", got)
	}
	e.Config = page(t, now.Add(time.Hour), net.IPv4(203, 0, 113, 9))
	if got := checkPage(t.Context(), e); len(own) > 0 && (len(got) != 1 || got[0].ID != "page-certificate-address" || !strings.Contains(got[0].Sentence, own[0].String())) {
		t.Errorf("one for another address: %v", got)
	}
	// On one address alone the certificate must name that one.
	_, port, err := net.SplitHostPort(e.Config.Page.Listen[0])
	if err != nil {
		t.Fatal(err)
	}
	if got := ids(checkCertificate(t.Context(), e, mustAddr("127.0.0.1:"+port))); !slices.Equal(got, []string{"page-certificate-address"}) {
		t.Errorf("loopback is not named: %v", got)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := l.Addr().String()
	l.Close()
	if got := ids(checkCertificate(t.Context(), e, mustAddr(addr))); !slices.Equal(got, []string{"page-silent"}) {
		t.Errorf("nobody listens: %v", got)
	}
	e.Running.Answers = false
	if got := checkPage(t.Context(), e); got != nil {
		t.Errorf("no node, but %v", got)
	}
}

func TestMesh(t *testing.T) {
	e := quiet(t)
	e.Running = Running{Answers: true, Uptime: lonely, Foreign: 3, Last: e.Now()}
	if got := ids(checkMesh(t.Context(), e)); !slices.Equal(got, []string{"wrong-network", "no-peer-ever"}) {
		t.Errorf("%v", got)
	}
	e.Running.Uptime, e.Running.Foreign = lonely-time.Second, 0
	if got := checkMesh(t.Context(), e); got != nil {
		t.Errorf("a node that was just started: %v", got)
	}
	e.Running.Uptime, e.Running.Peers = time.Hour, 1
	if got := checkMesh(t.Context(), e); got != nil {
		t.Errorf("a node that heard one: %v", got)
	}
}

func TestMistakesKeepPortsAlone(t *testing.T) {
	e := quiet(t)
	e.Mistakes, e.File = []string{"line 3: x"}, "/f"
	if got := Examine(t.Context(), e); !slices.ContainsFunc(got, func(f Finding) bool { return f.ID == "config-error" && strings.Contains(f.Cure, "/f") }) {
		t.Errorf("%v", got)
	}
	for _, check := range []func(context.Context, Env) []Finding{checkPorts, checkFirewall, checkPage} {
		if got := check(t.Context(), e); got != nil {
			t.Errorf("ports of settings that cannot be read: %v", got)
		}
	}
}

func TestNames(t *testing.T) {
	if got := nameIn("root:x:0:0::/:/bin/sh\nbroken\nbob:x:1000:1000::/:/bin/sh\n", 1000); got != "bob" {
		t.Error(got)
	}
	if got := nameIn("root:x:0:0::/:/bin/sh\n", 7); got != "7" {
		t.Error(got)
	}
	for n, want := range map[uint64]string{999: "0 kB", 5e6: "5 MB", 20e9: "20 GB"} {
		if got := size(n); got != want {
			t.Errorf("%d: %s", n, got)
		}
	}
}
