package config

import (
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"strings"
	"testing"
)

func TestDefaultPortsDoNotCollide(t *testing.T) {
	seen := map[string]string{}
	for _, p := range Default().Ports() {
		if p.Port < 1024 {
			t.Errorf("%s: port %d is privileged", p.Name, p.Port)
		}
		k := p.Proto + string(rune(p.Port))
		if other, ok := seen[k]; ok {
			t.Errorf("%s and %s share %d/%s", p.Name, other, p.Port, p.Proto)
		}
		seen[k] = p.Name
		if p.Open && p.Key == "" {
			t.Errorf("%s is open and cannot be moved", p.Name)
		}
	}
	for _, want := range []string{"7410/udp", "7410/tcp", "7411/tcp", "7411/udp", "7412/udp", "7480/tcp", "7443/tcp", "7481/tcp", "7420/udp", "7420/tcp", "7490/tcp"} {
		if !strings.Contains(PortTable(Default().Ports()), "| "+want+" |") {
			t.Errorf("%s is missing from the table", want)
		}
	}
}

func TestPageListeners(t *testing.T) {
	c := Default()
	c.Page.Listen = []string{"127.0.0.1", "::1", "192.168.7.1", "[fd00::1]:9443", "127.0.0.9:8080", "::ffff:127.0.0.1"}
	want := []PageListener{
		{netip.MustParseAddrPort("127.0.0.1:7480"), false},
		{netip.MustParseAddrPort("[::1]:7480"), false},
		{netip.MustParseAddrPort("192.168.7.1:7443"), true},
		{netip.MustParseAddrPort("[fd00::1]:9443"), true},
		{netip.MustParseAddrPort("127.0.0.9:8080"), false},
		{netip.MustParseAddrPort("127.0.0.1:7480"), false},
	}
	for i, l := range c.Page.Listeners() {
		if l != want[i] {
			t.Errorf("%s: got %v", c.Page.Listen[i], l)
		}
	}
	c.Page.Listen = []string{"0.0.0.0:80"}
	if l := c.Page.Listeners(); len(l) != 1 || !l[0].TLS {
		t.Errorf("all interfaces without TLS: %v", l)
	}
}

func TestFirewallOpensOnlyWhatIsOutside(t *testing.T) {
	got := strings.Join(Firewall(Default().Ports()), "\n")
	want := `nft 'add rule inet filter input udp dport { 7410, 7411 } accept comment "outrider gossip, mesh"'
nft 'add rule inet filter input tcp dport { 7410, 7411 } accept comment "outrider gossip, mesh"'`
	if got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	c := Default()
	c.Page.Listen = append(c.Page.Listen, "0.0.0.0")
	if got := strings.Join(Firewall(c.Ports()), "\n"); !strings.Contains(got, "tcp dport { 7410, 7411, 7420, 7443, 7481 }") {
		t.Errorf("page not let in:\n%s", got)
	}
	c = Default()
	c.Gossip.Listen, c.Mesh.Listen = "127.0.0.1", []string{"127.0.0.1"}
	if got := Firewall(c.Ports()); len(got) != 0 {
		t.Errorf("loopback let in: %v", got)
	}
}

func TestBusyPortNamesItsOwner(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	u, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer u.Close()
	me, err := os.ReadFile("/proc/self/comm")
	if err != nil {
		t.Fatal(err)
	}
	c := Default()
	c.Gossip.Listen = u.LocalAddr().String() // its tcp side may be free
	c.Mesh.Listen = []string{"127.0.0.1:0"}
	c.Page.Listen = []string{l.Addr().String()}
	found := map[string]Finding{}
	for _, f := range c.Check() {
		found[f.Port.Name+"/"+f.Port.Proto] = f
	}
	for _, k := range []string{"gossip/udp", "page/tcp"} {
		f, ok := found[k]
		if !ok {
			t.Errorf("%s: busy port not found", k)
			continue
		}
		if f.Owner.PID != os.Getpid() || f.Owner.Name != strings.TrimSpace(string(me)) {
			t.Errorf("%s: owner %+v, want %d %s", k, f.Owner, os.Getpid(), me)
		}
		if !strings.Contains(f.Hint, f.Port.Key) {
			t.Errorf("%s: hint %q does not name the setting", k, f.Hint)
		}
	}
	l.Close()
	for _, f := range c.Check() {
		if f.Port.Name == "page" {
			t.Errorf("free port reported: %s", f.Message)
		}
	}
}

func TestForeignAddressIsExplained(t *testing.T) {
	c := Default()
	c.Gossip.Listen, c.Mesh.Listen, c.Page.Listen = "127.0.0.1:0", []string{"192.0.2.7:7411"}, nil // RFC 5737: nobody has it
	got := c.Check()
	if len(got) != 2 || !strings.Contains(got[0].Hint, "no interface has 192.0.2.7") {
		t.Errorf("%+v", got)
	}
}

func TestKernelAddr(t *testing.T) {
	for in, want := range map[string]string{
		"0100007F":                         "127.0.0.1",
		"00000000":                         "0.0.0.0",
		"00000000000000000000000001000000": "::1",
		"0000000000000000FFFF00000100007F": "127.0.0.1",
	} {
		if a, ok := kernelAddr(in); !ok || a.String() != want {
			t.Errorf("%s: %v %v, want %s", in, a, ok, want)
		}
	}
	for _, bad := range []string{"", "0", "zz", "010000", "0100007F00"} {
		if a, ok := kernelAddr(bad); ok {
			t.Errorf("%q: %v", bad, a)
		}
	}
}

// The README's table is held equal to this one by field-tests/repo; here the
// form is checked, so that a row cannot break the table.
func TestPortTableIsOneTable(t *testing.T) {
	for i, line := range strings.Split(strings.TrimSpace(PortTable(Default().Ports())), "\n") {
		if strings.Count(line, "|") != 6 {
			t.Errorf("line %d: %s", i+1, line)
		}
	}
}

// Another program, not this one: the kernel's tables lead to its name.
func TestBusyPortNamesAnotherProgram(t *testing.T) {
	cmd := exec.Command(os.Args[0], "-test.run=TestHelperHoldsAPort")
	cmd.Env = append(os.Environ(), "HOLD_A_PORT=1")
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		in.Close() // its end
		_ = cmd.Wait()
	}()
	var tcp, udp string
	if _, err := fmt.Fscan(out, &tcp, &udp); err != nil {
		t.Fatal(err)
	}
	name, err := os.ReadFile(fmt.Sprintf("/proc/%d/comm", cmd.Process.Pid))
	if err != nil {
		t.Fatal(err)
	}
	c := Default()
	c.Gossip.Listen, c.Mesh.Listen, c.Page.Listen = "127.0.0.1:0", []string{udp}, []string{tcp}
	found := 0
	for _, f := range c.Check() {
		if f.Port.Name == "page" || f.Port.Name == "mesh" && f.Port.Proto == "udp" {
			found++
			if f.Owner.PID != cmd.Process.Pid || f.Owner.Name != strings.TrimSpace(string(name)) || !strings.Contains(f.Message, f.Owner.Name) {
				t.Errorf("%+v, want process %d %s", f, cmd.Process.Pid, name)
			}
		}
	}
	if found != 2 {
		t.Errorf("%d of 2 busy ports found", found)
	}
}

// TestHelperHoldsAPort is the other program: with nobody to ask for it, it
// checks that nothing is held.
func TestHelperHoldsAPort(t *testing.T) {
	if os.Getenv("HOLD_A_PORT") == "" {
		c := Default()
		c.Gossip.Listen, c.Mesh.Listen, c.Page.Listen = "127.0.0.1:0", []string{"127.0.0.1:0"}, []string{"127.0.0.1:0"}
		if got := c.Check(); len(got) != 0 {
			t.Errorf("ports that the kernel chooses are busy: %+v", got)
		}
		return
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	u, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer u.Close()
	fmt.Println(l.Addr(), u.LocalAddr())
	_, _ = io.Copy(io.Discard, os.Stdin) // until the test lets go
}

func TestFirewallUFW(t *testing.T) {
	got := strings.Join(FirewallUFW(Default().Ports()), "\n")
	want := `ufw allow proto udp to any port 7410,7411 comment 'outrider gossip, mesh'
ufw allow proto tcp to any port 7410,7411 comment 'outrider gossip, mesh'`
	if got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}
