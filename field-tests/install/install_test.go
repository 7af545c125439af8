package install_test

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"outrider/field-tests/install"
	"outrider/field-tests/linkemu"
	"outrider/field-tests/netns"
	"outrider/field-tests/scenario"
)

func TestMain(m *testing.M) {
	if err := install.Prepare(context.Background()); err != nil { // at the first of two passes, outside
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(netns.Main(m.Run))
}

const (
	adminPassword = "admin password of the machines"
	userPassword  = "correct horse battery"
)

// limit is for one test; machines boot in seconds, on a busy one in many.
const limit = 10 * time.Minute

// bench is one network of machines.
type bench struct {
	*testing.T
	ctx   context.Context
	world *netns.World
	dir   string
	debs  map[string]string
}

func newBench(t *testing.T, names ...string) *bench {
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	t.Cleanup(cancel)
	w := netns.New(t, linkemu.Scenario{Nodes: names, Nets: []linkemu.Net{{Name: "lan", Subnet: "192.168.7.0/24"}}})
	return &bench{T: t, ctx: ctx, world: w, dir: t.TempDir(), debs: map[string]string{}}
}

// machine boots a fresh Debian in the node of that name.
func (b *bench) machine(name string) *install.Machine {
	b.Helper()
	m, err := install.New(b.ctx, b.dir, name)
	if err != nil {
		b.Fatal(err)
	}
	m.Launch = func(cmd *exec.Cmd) error { return b.world.Node(name).Do(cmd.Start) }
	b.boot(m)
	b.Cleanup(func() {
		if err := m.PowerCut(); err != nil {
			b.Error(err)
		}
	})
	return m
}

func (b *bench) boot(m *install.Machine) {
	b.Helper()
	if err := m.Boot(b.ctx); err != nil {
		b.Fatal(err)
	}
}

// run runs a command that must succeed.
func (b *bench) run(m *install.Machine, stdin string, argv ...string) string {
	b.Helper()
	out, err := m.Run(b.ctx, stdin, argv...)
	if err != nil {
		if log, lerr := m.Run(b.ctx, "", "journalctl", "--no-pager", "-n", "60", "-u", "outrider"); lerr == nil {
			b.Log(log)
		}
		b.Fatal(err)
	}
	return out
}

// fails runs a command that must fail and returns what it said.
func (b *bench) fails(m *install.Machine, argv ...string) string {
	b.Helper()
	out, err := m.Run(b.ctx, "", argv...)
	if err == nil {
		b.Fatalf("%s: it should fail, and said %q", strings.Join(argv, " "), out)
	}
	return err.Error()
}

// install puts the package of a version onto the machine.
func (b *bench) install(m *install.Machine, version string) string {
	b.Helper()
	if b.debs[version] == "" {
		deb, err := install.Package(b.ctx, b.dir, version)
		if err != nil {
			b.Fatal(err)
		}
		b.debs[version] = deb
	}
	to, err := m.Put(b.ctx, b.debs[version])
	if err != nil {
		b.Fatal(err)
	}
	return b.run(m, "", "dpkg", "-i", to)
}

// found makes the machine's node the first of a network, with a user, and
// starts the service.
func (b *bench) found(m *install.Machine, user string) {
	b.Helper()
	b.run(m, "", "outrider", "init")
	b.run(m, adminPassword+"\n", "outrider", "network", "create", "eagle", "--password-file", "-")
	b.run(m, adminPassword+"\n"+userPassword+"\n", "outrider", "user", "add", user, "--here", "--admin-password-file", "-", "--password-file", "-")
	b.run(m, "", "systemctl", "start", "outrider")
}

// join brings another machine into the network of the first.
func (b *bench) join(first, m *install.Machine, user string) {
	b.Helper()
	var inv struct {
		Link, Password string
		Addrs          []string
	}
	b.decode(b.run(first, adminPassword+"\n", "outrider", "--json", "user", "add", user, "--admin-password-file", "-"), &inv)
	if len(inv.Addrs) == 0 || !strings.HasPrefix(inv.Addrs[0], "192.168.7.") {
		b.Fatalf("the link carries %v, not the machine's address", inv.Addrs)
	}
	b.run(m, inv.Link+"\n"+inv.Password+"\n"+userPassword+"\n", "outrider", "join", "-", "--password-file", "-", "--user-password-file", "-")
	b.run(m, "", "systemctl", "start", "outrider")
}

func (b *bench) decode(text string, v any) {
	b.Helper()
	if err := json.Unmarshal([]byte(text), v); err != nil {
		b.Fatalf("%v: %s", err, text)
	}
}

type status struct {
	Node    string
	Version string
	Users   []struct{ Unlocked bool }
}

// locked reports whether the node has users and none of them is logged in.
func (s status) locked() bool {
	return len(s.Users) > 0 && !slices.ContainsFunc(s.Users, func(u struct{ Unlocked bool }) bool { return u.Unlocked })
}

func (b *bench) status(m *install.Machine) (s status) {
	b.Helper()
	b.decode(b.run(m, "", "outrider", "--json", "status"), &s)
	return s
}

// property is one of systemd's about our service.
func (b *bench) property(m *install.Machine, name string) string {
	b.Helper()
	return strings.TrimSpace(b.run(m, "", "systemctl", "show", "--value", "--property", name, "outrider"))
}

func (b *bench) await(what string, ask func() bool) {
	b.Helper()
	ctx, cancel := context.WithTimeout(b.ctx, 3*time.Minute)
	defer cancel()
	if err := scenario.Poll(ctx, what, func() (bool, error) { return ask(), nil }); err != nil {
		b.Fatal(err)
	}
}

func (b *bench) active(m *install.Machine) bool {
	_, err := m.Run(b.ctx, "", "systemctl", "is-active", "--quiet", "outrider")
	return err == nil
}

func (b *bench) login(m *install.Machine, user string) {
	b.Helper()
	b.await(user+" to log in", func() bool {
		_, err := m.Run(b.ctx, userPassword+"\n", "outrider", "login", user, "--password-file", "-")
		return err == nil
	})
}

// A package's whole life on one machine.
func TestInstallUpgradeRemovePurge(t *testing.T) {
	b := newBench(t, "alpha")
	m := b.machine("alpha")
	if said := b.install(m, "1.0.0"); !strings.Contains(said, "next: outrider init") {
		t.Errorf("the package does not say what to do next: %s", said)
	}
	b.afterInstall(m)
	b.found(m, "alice")
	before := b.status(m)
	if before.Version != "1.0.0" {
		t.Errorf("version %q runs", before.Version)
	}
	b.confined(m)
	b.group(m)

	b.install(m, "1.1.0")
	b.await("the new version to run", func() bool {
		out, err := m.Run(b.ctx, "", "outrider", "--json", "status")
		return err == nil && strings.Contains(out, `"1.1.0"`)
	})
	if after := b.status(m); after.Node != before.Node {
		t.Error("the upgrade lost the node")
	}
	b.login(m, "alice")

	b.run(m, "", "dpkg", "--remove", "outrider")
	b.run(m, "", "sh", "-c", "! ls /proc/*/exe -l 2>/dev/null | grep -q /usr/bin/outrider")
	b.run(m, "", "test", "-s", "/var/lib/outrider/state")
	b.install(m, "1.1.0")
	b.await("the node to run again", func() bool { return b.active(m) })
	if again := b.status(m); again.Node != before.Node {
		t.Error("remove and install lost the node")
	}

	b.run(m, "", "systemctl", "disable", "--now", "outrider")
	b.install(m, "1.2.0")
	if b.active(m) || !strings.Contains(b.fails(m, "systemctl", "is-enabled", "outrider"), "disabled") {
		t.Error("an upgrade switched on what the operator had switched off")
	}

	b.run(m, "", "dpkg", "--purge", "outrider")
	for _, gone := range []string{"/var/lib/outrider", "/usr/bin/outrider", "/usr/lib/systemd/system/outrider.service", "/etc/systemd/system/multi-user.target.wants/outrider.service"} {
		b.fails(m, "test", "-e", gone)
	}
	b.fails(m, "getent", "passwd", "outrider")
	b.fails(m, "getent", "group", "outrider")
}

// afterInstall checks what lies on the machine before there is a node.
func (b *bench) afterInstall(m *install.Machine) {
	b.Helper()
	if got := strings.TrimSpace(b.run(m, "", "stat", "-c", "%U:%G %a", "/var/lib/outrider")); got != "outrider:outrider 750" {
		b.Errorf("the node's folder is %s", got)
	}
	if got := b.run(m, "", "getent", "passwd", "outrider"); !strings.Contains(got, "nologin") {
		b.Errorf("somebody can log in as the service: %s", got)
	}
	if got := strings.TrimSpace(b.run(m, "", "systemctl", "is-enabled", "outrider")); got != "enabled" {
		b.Errorf("the service is %s", got)
	}
	b.run(m, "", "systemctl", "start", "outrider") // before init: no node, no failure, no restart in circles
	if b.active(m) || b.property(m, "Result") != "success" || b.property(m, "ConditionResult") != "no" {
		b.Error("without a node the service should be skipped")
	}
	if out := b.run(m, "", "systemd-analyze", "verify", "--man=no", "outrider.service"); strings.Contains(out, "outrider") {
		b.Errorf("systemd finds fault with the unit: %s", out)
	}
	b.run(m, "", "desktop-file-validate", "/usr/share/applications/outrider.desktop")
	if out := b.run(m, "", "cat", "/usr/share/applications/mimeinfo.cache"); !strings.Contains(out, "x-scheme-handler/outrider=outrider.desktop;") {
		b.Errorf("the scheme is not registered: %s", out)
	}
	b.run(m, "", "sh", "-c", "gunzip -c /usr/share/man/man1/outrider.1.gz | cmp - - <<E\n$(outrider man)\nE")
	b.completes(m)
	b.run(m, "", "outrider", "config", "check", "--file", "/usr/share/doc/outrider/examples/outrider.toml")
}

// shells are scripts that print what each shell makes of "outrider contac" and
// a tab.
var shells = map[string]string{
	"bash": `. /usr/share/bash-completion/bash_completion
_completion_loader outrider
COMP_LINE="outrider contac" COMP_POINT=15 COMP_WORDS=(outrider contac) COMP_CWORD=1
$(complete -p outrider | sed 's/.*-F \([^ ]*\).*/\1/')
echo "${COMPREPLY[@]}"`,
	"zsh": `zmodload zsh/zpty
zpty shell TERM=dumb zsh -f -i
zpty -w shell 'PS1=; unsetopt zle_bracketed_paste; autoload -Uz compinit; compinit -u -D; echo re""ady'
zpty -r -m shell said '*ready*'
zpty -w -n shell $'outrider contac\t' # and no return: the program would name the verb itself
zpty -r -m shell said '*contacts*' && print -r -- "$said"
zpty -d shell`,
	"fish": `complete -C "outrider contac"`,
}

// completes types half a verb in each shell.
func (b *bench) completes(m *install.Machine) {
	b.Helper()
	for shell, script := range shells {
		if out := b.run(m, "", "timeout", "60", shell, "-c", script); !strings.Contains(out, "contacts") {
			b.Errorf("%s completes to %q", shell, out)
		}
	}
}

// confined checks what the running service may do.
func (b *bench) confined(m *install.Machine) {
	b.Helper()
	pid := b.property(m, "MainPID")
	about := b.run(m, "", "cat", "/proc/"+pid+"/status")
	for _, want := range []string{`CapEff:\s+0+\n`, `CapBnd:\s+0+\n`, `CapPrm:\s+0+\n`, `NoNewPrivs:\s+1\n`, `Seccomp:\s+2\n`} {
		if !regexp.MustCompile(want).MatchString(about) {
			b.Errorf("the process is not %s", want)
		}
	}
	if got := strings.TrimSpace(b.run(m, "", "stat", "-c", "%U:%G", "/proc/"+pid)); got != "outrider:outrider" {
		b.Errorf("it runs as %s", got)
	}
	inside := []string{"nsenter", "--target", pid, "--mount", "--"}
	for _, no := range []string{"/usr/x", "/etc/x", "/var/lib/x", "/opt/x"} {
		if out := b.fails(m, append(inside, "touch", no)...); !strings.Contains(out, "Read-only") {
			b.Errorf("%s can be written by the service: %s", no, out)
		}
	}
	b.run(m, "", append(inside, "touch", "/var/lib/outrider/x")...)
	out := b.run(m, "", "systemd-analyze", "security", "--no-pager", "outrider")
	score := regexp.MustCompile(`exposure level for outrider.service: ([0-9.]+)`).FindStringSubmatch(out)
	if score == nil {
		b.Fatalf("no score in %q", out)
	}
	if v, err := strconv.ParseFloat(score[1], 64); err != nil || v > 1.5 {
		b.Errorf("exposure %s, want at most 1.5\n%s", score[1], out)
	}
	b.Logf("systemd-analyze security: %s", score[1])
	b.serialOnly(m)
	if out := b.run(m, "", "journalctl", "--no-pager", "-u", "outrider"); strings.Contains(out, "not permitted") || strings.Contains(out, "level=ERROR") {
		b.Errorf("the confined node complains: %s", out)
	}
}

// serialOnly: no device is open to the service; with the drop-in for a
// receiver serial ones are, and no other (L01).
func (b *bench) serialOnly(m *install.Machine) {
	b.Helper()
	if got := b.property(m, "PrivateDevices") + " " + b.property(m, "DevicePolicy") + " " + b.property(m, "SupplementaryGroups"); got != "yes closed " {
		b.Errorf("without a receiver: %q", got)
	}
	b.run(m, "", "sh", "-c", "mkdir -p /etc/systemd/system/outrider.service.d && cp /usr/share/doc/outrider/examples/receiver.conf /etc/systemd/system/outrider.service.d/ && systemctl daemon-reload")
	if got := b.property(m, "PrivateDevices") + " " + b.property(m, "DevicePolicy") + " " + b.property(m, "SupplementaryGroups"); got != "no closed dialout" {
		b.Errorf("with a receiver: %q", got)
	}
	for _, d := range strings.Split(strings.TrimSpace(b.property(m, "DeviceAllow")), "\n") {
		if !strings.HasPrefix(strings.TrimPrefix(d, "DeviceAllow="), "char-tty") {
			b.Errorf("the drop-in opens %q", d)
		}
	}
	if out := b.run(m, "", "systemd-analyze", "verify", "--man=no", "outrider.service"); strings.Contains(out, "outrider") {
		b.Errorf("systemd finds fault with the drop-in: %s", out)
	}
	b.run(m, "", "systemctl", "restart", "outrider")
	if !b.active(m) {
		b.Error("the service does not run with the drop-in")
	}
	b.run(m, "", "sh", "-c", "rm /etc/systemd/system/outrider.service.d/receiver.conf && systemctl daemon-reload && systemctl restart outrider")
}

// group: who is in the group talks to the node, who is not does not.
func (b *bench) group(m *install.Machine) {
	b.Helper()
	b.run(m, "", "useradd", "--create-home", "--home-dir", "/srv/sergeant", "--groups", "outrider", "sergeant")
	b.run(m, "", "useradd", "--create-home", "--home-dir", "/srv/stranger", "stranger")
	b.run(m, "", "setpriv", "--reuid=sergeant", "--regid=sergeant", "--init-groups", "env", "HOME=/srv/sergeant", "outrider", "status")
	b.fails(m, "setpriv", "--reuid=stranger", "--regid=stranger", "--init-groups", "env", "HOME=/srv/stranger", "outrider", "status")
	b.fails(m, "setpriv", "--reuid=stranger", "--regid=stranger", "--init-groups", "outrider", "--dir", "/var/lib/outrider", "status")
}

// A node that dies or hangs is started anew, however often.
func TestServiceComesBack(t *testing.T) {
	b := newBench(t, "alpha")
	m := b.machine("alpha")
	b.install(m, "1.0.0")
	b.run(m, "[Service]\nWatchdogSec=10s\nRestartSec=100ms\n", "sh", "-c", "mkdir -p /etc/systemd/system/outrider.service.d && cat >/etc/systemd/system/outrider.service.d/test.conf && systemctl daemon-reload")
	b.found(m, "alice")
	node := b.status(m).Node
	for n, signal := range []string{"KILL", "KILL", "STOP"} { // stopped, it hangs: only the watchdog sees that
		old := b.property(m, "MainPID")
		b.run(m, "", "sh", "-c", "kill -"+signal+" "+old)
		b.await("a new process after SIG"+signal, func() bool {
			pid := b.property(m, "MainPID")
			return pid != old && pid != "0" && b.active(m) && b.property(m, "NRestarts") == fmt.Sprint(n+1)
		})
	}
	if b.status(m).Node != node {
		t.Error("it came back as another node")
	}
	if out := b.run(m, "", "journalctl", "--no-pager", "-u", "outrider"); !strings.Contains(out, "Watchdog timeout") {
		t.Errorf("the watchdog had no part in it: %s", out[:min(len(out), 2000)])
	}
	// Left alone it stays: the signs of life come.
	pid, since := b.property(m, "MainPID"), time.Now()
	b.await("two periods of the watchdog", func() bool { return time.Since(since) > 20*time.Second })
	if now := b.property(m, "MainPID"); now != pid {
		t.Error("the watchdog ended a healthy node")
	}
}

// After a power cut a node nobody attends relays again by itself, its users'
// keys locked: Alpha and Charlie never hear each other.
func TestPowerCut(t *testing.T) {
	b := newBench(t, "alpha", "bravo", "charlie")
	if err := b.world.Cut("lan", "alpha", "charlie"); err != nil {
		t.Fatal(err)
	}
	alpha, bravo, charlie := b.machine("alpha"), b.machine("bravo"), b.machine("charlie")
	for _, m := range []*install.Machine{alpha, bravo, charlie} {
		b.install(m, "1.0.0")
	}
	b.found(alpha, "alice")
	b.join(alpha, bravo, "bob")
	b.join(alpha, charlie, "carol")
	// Charlie's link names Alpha, whom it cannot hear: Bravo is found by seed.
	b.run(charlie, "[gossip]\nseeds = [\""+b.world.Addr("bravo", "lan").String()+"\"]\n", "sh", "-c", "cat >/var/lib/outrider/outrider.toml && systemctl restart outrider")
	b.login(alpha, "alice")
	b.login(bravo, "bob")
	b.login(charlie, "carol")
	b.delivered(alpha, charlie, "carol", "before the cut")
	if b.status(bravo).locked() {
		t.Fatal("bob is logged in, and yet his keys are locked")
	}

	if err := bravo.PowerCut(); err != nil {
		t.Fatal(err)
	}
	b.boot(bravo)
	b.await("bravo's node to be back by itself", func() bool { return b.active(bravo) })
	if s := b.status(bravo); !s.locked() {
		t.Errorf("after a power cut a user's keys are open: %+v", s)
	}
	b.delivered(alpha, charlie, "carol", "after the cut")
}

// delivered sends a text and waits until it stands in the other's inbox.
func (b *bench) delivered(from, to *install.Machine, user, text string) {
	b.Helper()
	b.await("to know "+user, func() bool {
		_, err := from.Run(b.ctx, "", "outrider", "send", user, text)
		return err == nil
	})
	b.await(text, func() bool {
		out, err := to.Run(b.ctx, "", "outrider", "inbox", "list")
		return err == nil && strings.Contains(out, text)
	})
}

// Two fresh machines with the package in hand, to the first message read.
func TestFirstMessage(t *testing.T) {
	b := newBench(t, "alpha", "bravo")
	alpha, bravo := b.machine("alpha"), b.machine("bravo")
	if _, err := install.Package(b.ctx, b.dir, "1.0.0"); err != nil {
		t.Fatal(err)
	}
	b.debs["1.0.0"] = filepath.Join(b.dir, "outrider_1.0.0.deb")
	start := time.Now()
	b.install(alpha, "1.0.0")
	b.install(bravo, "1.0.0")
	installed := time.Since(start)
	b.found(alpha, "alice")
	b.join(alpha, bravo, "bob")
	b.login(alpha, "alice")
	b.login(bravo, "bob")
	joined := time.Since(start)
	b.delivered(bravo, alpha, "alice", "first light")
	all := time.Since(start)
	t.Logf("dpkg -i on both: %.1f s; joined and logged in: %.1f s; first message delivered: %.1f s", installed.Seconds(), joined.Seconds(), all.Seconds())
	if all > time.Minute {
		t.Errorf("the first message took %v from dpkg -i, want at most a minute", all)
	}
}
