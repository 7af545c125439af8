package twomachines_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"outrider/field-tests/linkemu"
	"outrider/field-tests/netns"
	"outrider/field-tests/scenario"
	"outrider/field-tests/twomachines"
	"outrider/offline/deeplink"
)

func TestMain(m *testing.M) {
	os.Exit(netns.Main(func() int {
		code := m.Run()
		scenario.Clean()
		return code
	}))
}

const (
	adminPassword = "the admin's long password"
	alicePassword = "correct horse battery"
	bravoPassword = "staple battery horse"
)

// people are two machines side by side, and whoever else the network has.
type people struct {
	*testing.T
	ctx   context.Context
	world *netns.World
	bin   string
	link  string // the last that was printed
	words string // its password
}

func meet(t *testing.T, names ...string) *people {
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	t.Cleanup(cancel)
	w := netns.New(t, linkemu.Scenario{Nodes: names, Nets: []linkemu.Net{{Name: "lan", Subnet: "192.168.7.0/24"}}})
	p := &people{T: t, ctx: ctx, world: w, bin: filepath.Join(t.TempDir(), "outrider")}
	if err := os.Symlink(scenario.Binary(t), p.bin); err != nil {
		t.Fatal(err)
	}
	return p
}

// machine is a person's shell with a home of its own in a node's network.
func (p *people) machine(node string) *twomachines.Machine {
	p.Helper()
	home := p.TempDir()
	return &twomachines.Machine{
		Node: p.world.Node(node), Columns: 120, Answers: map[string]string{},
		Env: []string{"PATH=" + filepath.Dir(p.bin) + ":/usr/bin:/bin", "HOME=" + home, "OUTRIDER_DIR=" + filepath.Join(home, "node"),
			"XDG_RUNTIME_DIR=" + home, "TERM=xterm-256color", "LANG=C.UTF-8", "TZ=UTC"},
	}
}

// run carries out one line to its end. A line that ends in & is left running
// and waited for until it says that it is up.
func (p *people) run(m *twomachines.Machine, line string) string {
	p.Helper()
	inBackground := strings.HasSuffix(line, "&")
	term, err := m.Start(strings.TrimSuffix(line, "&"))
	if err != nil {
		p.Fatal(err)
	}
	p.Cleanup(term.Kill)
	if inBackground {
		if err := term.Await(p.ctx, " is up, page "); err != nil {
			p.Fatal(err)
		}
		return term.Output()
	}
	out, err := term.Wait(p.ctx)
	if err != nil {
		p.Fatal(err)
	}
	for asked, typed := range m.Answers { // no password is shown, nor taken from the line
		if strings.Contains(strings.ToLower(asked), "password") && strings.Contains(out, typed) {
			p.Errorf("%q shows the answer to %q", line, asked)
		}
	}
	return out
}

// fails carries out a line that must fail.
func (p *people) fails(m *twomachines.Machine, line string) string {
	p.Helper()
	term, err := m.Start(line)
	if err != nil {
		p.Fatal(err)
	}
	p.Cleanup(term.Kill)
	out, err := term.Wait(p.ctx)
	if err == nil {
		p.Fatalf("%q should fail, and printed %s", line, out)
	}
	return out
}

// until repeats a line until it succeeds and prints a text: nodes take a
// moment to meet.
func (p *people) until(m *twomachines.Machine, line, text string) string {
	p.Helper()
	var out string
	err := scenario.Poll(p.ctx, line, func() (bool, error) {
		term, err := m.Start(line)
		if err != nil {
			return false, err
		}
		out, err = term.Wait(p.ctx)
		return err == nil && strings.Contains(out, text), err
	})
	if err != nil {
		p.Fatalf("%v\n%s", err, out)
	}
	return out
}

var (
	linkLine     = regexp.MustCompile(`(?m)^outrider://c/#[A-Z2-7]+$`)
	passwordLine = regexp.MustCompile(`(?m)^password {3}([a-z-]+)$`)
	addressLine  = regexp.MustCompile(`(?m)^addresses {2}(.*)$`)
)

// invitation reads what user add printed, and checks that all of it is there.
func (p *people) invitation(out string) {
	p.Helper()
	link, password, addrs := linkLine.FindString(out), passwordLine.FindStringSubmatch(out), addressLine.FindStringSubmatch(out)
	if link == "" || password == nil || addrs == nil || !strings.Contains(out, "expires    ") {
		p.Fatalf("an invitation lacks something:\n%s", out)
	}
	if words := strings.Split(password[1], "-"); len(words) != deeplink.PasswordWords {
		p.Errorf("the password has %d words", len(words))
	}
	if want := p.world.Addr("first", "lan").String() + ":7410"; addrs[1] != want {
		p.Errorf("the link carries %q, want %s alone", addrs[1], want)
	}
	p.link, p.words = link, password[1]
}

func (p *people) answers(first, second *twomachines.Machine) {
	first.Answers["New admin password"], first.Answers["Admin password"] = adminPassword, adminPassword
	first.Answers["New password for alice"], first.Answers["Password for alice"] = alicePassword, alicePassword
	second.Answers["New password for the user"], second.Answers["Password for bravo"] = bravoPassword, bravoPassword
}

func readme(t *testing.T) []twomachines.Block {
	t.Helper()
	top, err := scenario.Root()
	if err != nil {
		t.Fatal(err)
	}
	raw, err := os.ReadFile(filepath.Join(top, "README.md"))
	if err != nil {
		t.Fatal(err)
	}
	blocks := twomachines.Blocks(string(raw), "Two machines in five minutes")
	var where []string
	for _, b := range blocks {
		where = append(where, b.Where)
	}
	if !slices.Equal(where, []string{"first", "second", "first", "other"}) {
		t.Fatalf("the section's blocks are for %v", where)
	}
	return blocks
}

func TestReadmeLineByLine(t *testing.T) {
	blocks := readme(t)
	p := meet(t, "first", "second", "third")
	first, second := p.machine("first"), p.machine("second")
	p.answers(first, second)
	start := time.Now()
	for _, b := range blocks[:3] {
		for _, line := range b.Lines {
			m := map[string]*twomachines.Machine{"first": first, "second": second}[b.Where]
			p.carryOut(m, line)
			if line == "outrider user add bravo" {
				second.Answers["Link"], second.Answers["Password of the link"] = p.link, p.words
			}
		}
	}
	t.Logf("all lines took %.1f s", time.Since(start).Seconds())
	for i, line := range blocks[3].Lines {
		p.joinAgain(first, fmt.Sprint("charlie", i), line)
	}
}

// carryOut runs a line of the README in the way it is meant.
func (p *people) carryOut(m *twomachines.Machine, line string) {
	p.Helper()
	switch {
	case strings.HasPrefix(line, "outrider send "):
		p.until(m, line, "")
	case line == "outrider inbox list":
		p.until(m, line, "can you read this?")
	case line == "outrider user add bravo":
		out := p.run(m, line)
		p.invitation(out)
		p.qr(out)
	case line == "outrider login bravo" || line == "outrider login alice":
		p.until(m, line, "")
	default:
		p.run(m, line)
	}
}

// qr compares the half blocks on the screen with the code of the link.
func (p *people) qr(out string) {
	p.Helper()
	code, err := deeplink.QR(p.link)
	if err != nil {
		p.Fatal(err)
	}
	const quiet = 4
	var rows [][]rune
	for _, line := range strings.Split(out, "\n") {
		if body, ok := strings.CutPrefix(line, "\x1b[38;5;16;48;5;231m"); ok {
			rows = append(rows, []rune(strings.TrimSuffix(body, "\x1b[0m")))
		}
	}
	if want := (code.Size + 2*quiet + 1) / 2; len(rows) != want {
		p.Fatalf("the QR code has %d lines on the screen, want %d", len(rows), want)
	}
	for y := range code.Size {
		for x := range code.Size {
			r := rows[(y+quiet)/2][x+quiet]
			dark := r == '█' || (y+quiet)%2 == 0 && r == '▀' || (y+quiet)%2 == 1 && r == '▄'
			if dark != code.Black(x, y) {
				p.Fatalf("module %d,%d of the QR code is wrong on the screen", x, y)
			}
		}
	}
}

// joinAgain tries one more form of join, on a fresh machine with a fresh link.
func (p *people) joinAgain(first *twomachines.Machine, name, line string) {
	p.Helper()
	out := p.run(first, "outrider user add "+name+" --no-qr")
	p.invitation(out)
	if strings.Contains(out, "▄") {
		p.Error("--no-qr draws a code")
	}
	m := p.machine("third")
	home := strings.TrimPrefix(m.Env[1], "HOME=")
	if err := os.WriteFile(filepath.Join(home, "bravo.orc"), []byte(p.link+"\n"), 0o600); err != nil {
		p.Fatal(err)
	}
	m.Answers = map[string]string{"Password of the link": p.words, "New password for the user": bravoPassword}
	said := p.run(m, "cd && "+strings.ReplaceAll(line, "outrider://c/#...", p.link))
	if !strings.Contains(said, "is on this node, in network eagle") || !strings.Contains(said, "a node answers at 192.168.7.") {
		p.Errorf("%s: %s", line, said)
	}
}

// A narrow terminal gets no torn code, and output that is no terminal none.
func TestQRWhereItFits(t *testing.T) {
	p := meet(t, "first")
	m := p.machine("first")
	p.answers(m, m)
	p.run(m, "outrider init")
	p.run(m, "outrider network create eagle")
	m.Columns = 80
	if out := p.run(m, "outrider user add bravo"); !strings.Contains(out, "it needs a terminal of ") || strings.Contains(out, "▄") {
		t.Errorf("on 80 columns: %s", out)
	}
	m.Columns = 120
	if out := p.run(m, "outrider user add charlie | cat"); strings.Contains(out, "▄") || !linkLine.MatchString(out) {
		t.Errorf("into a pipe: %s", out)
	}
}

// Whoever starts at the wrong end is told the next command to type.
func TestWrongOrderNamesTheNextCommand(t *testing.T) {
	p := meet(t, "first")
	m := p.machine("first")
	p.answers(m, m)
	expect := func(line, want string) {
		t.Helper()
		if out := p.fails(m, line); !strings.Contains(out, want) {
			t.Errorf("%s: no %q in:\n%s", line, want, out)
		}
	}
	expect("outrider up", "next: outrider init")
	expect("outrider user add bravo", "next: outrider init")
	expect("outrider network create eagle", "next: outrider init")
	p.run(m, "outrider init")
	expect("outrider init", "next: outrider up")
	expect("outrider up", "next: outrider network create NAME")
	expect("outrider user add bravo", "next: outrider network create NAME")
	expect("outrider send bravo hello", "next: outrider up")
	p.run(m, "outrider network create eagle")
	expect("outrider network create falcon", "next: outrider status")
}

// A machine without any network gives no link that leads nowhere.
func TestNoLinkToLoopback(t *testing.T) {
	p := meet(t, "first")
	m := p.machine("first")
	p.answers(m, m)
	p.run(m, "outrider init")
	p.run(m, "outrider network create eagle")
	p.run(m, "ip link set lan down")
	for _, up := range []bool{false, true} {
		if up {
			p.run(m, "outrider up &")
		}
		out := p.fails(m, "outrider user add bravo")
		if !strings.Contains(out, "from this machine only") || !strings.Contains(out, "--address") {
			t.Errorf("running %v: %s", up, out)
		}
	}
}

// With nobody in reach join succeeds, says what may be in the way, and the
// node finds its network when the other one comes.
func TestJoinWithNobodyInReach(t *testing.T) {
	p := meet(t, "first", "second")
	first, second := p.machine("first"), p.machine("second")
	p.answers(first, second)
	p.run(first, "outrider init")
	p.run(first, "outrider network create eagle")
	p.run(first, "outrider user add alice --here")
	p.invitation(p.run(first, "outrider user add bravo")) // and `up` is forgotten
	second.Answers["Link"], second.Answers["Password of the link"] = p.link, p.words
	out := p.run(second, "outrider join")
	for _, want := range []string{
		"nobody answers yet; the node keeps trying", p.world.Addr("first", "lan").String() + ":7410: that machine is there, but nothing listens",
		"nft 'add rule inet filter input udp dport { 7410, 7411 } accept", "ufw allow proto tcp to any port 7410,7411", "next: outrider up, then outrider login",
	} {
		if !strings.Contains(out, want) {
			t.Errorf("join does not say %q:\n%s", want, out)
		}
	}
	p.run(second, "outrider up &")
	p.run(first, "outrider up &")
	p.until(second, "outrider login bravo", "")
	p.until(second, "outrider send alice hello", "")
}
