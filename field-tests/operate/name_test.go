package operate

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/dns/dnsmessage"

	"outrider/field-tests/scenario"
)

// The LAN: this namespace has a bridge, each machine a leg of it.
const (
	lan     = "lan0"
	lanHere = "10.77.0.254"
	group4  = "224.0.0.251:5353"
)

func makeLAN(t *testing.T) {
	t.Helper()
	must(t, "ip", "link", "add", lan, "type", "bridge", "mcast_snooping", "0")
	t.Cleanup(func() { _ = exec.Command("ip", "link", "delete", lan).Run() })
	must(t, "sh", "-c", "echo 0 > /proc/sys/net/ipv6/conf/"+lan+"/accept_dad")
	must(t, "ip", "address", "add", lanHere+"/24", "dev", lan)
	must(t, "ip", "address", "add", "fd77::254/64", "dev", lan, "nodad")
	must(t, "ip", "link", "set", lan, "up")
	must(t, "ip", "route", "add", "224.0.0.0/4", "dev", lan)
}

// machine is a box in a network namespace of its own on the LAN, which calls
// its page hq.
func machine(t *testing.T, number int) *scenario.Box {
	t.Helper()
	hold := exec.Command("unshare", "--net", "sh", "-c", "echo; exec sleep 3600")
	out, err := hold.StdoutPipe()
	if err == nil {
		err = hold.Start()
	}
	if err == nil {
		_, err = out.Read(make([]byte, 1)) // it is in its namespace
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = hold.Process.Kill()
		_ = hold.Wait()
	})
	leg, pid := fmt.Sprintf("leg%d", number), fmt.Sprint(hold.Process.Pid)
	inside := []string{"nsenter", "--target", pid, "--net", "--"}
	must(t, "ip", "link", "add", leg, "type", "veth", "peer", "name", "eth0", "netns", pid)
	must(t, "ip", "link", "set", leg, "master", lan, "up")
	for _, line := range []string{
		"echo 0 > /proc/sys/net/ipv6/conf/eth0/accept_dad", "ip link set lo up", fmt.Sprintf("ip address add 10.77.0.%d/24 dev eth0", number),
		fmt.Sprintf("ip address add fd77::%d/64 dev eth0 nodad", number), "ip link set eth0 up",
	} {
		must(t, inside[0], append(slices.Clone(inside[1:]), "sh", "-c", line)...)
	}
	b := founded(t, fmt.Sprintf("machine%d", number))
	b.Wrap, b.IP = inside, "127.0.0.1" // the nodes need not meet
	configure(t, b, "")
	if err := b.Append("name = \"hq\"\n"); err != nil { // the last table is [page]
		t.Fatal(err)
	}
	must(t, "sed", "-i", `/^.page.$/,$ s|^listen = \["127.0.0.1:\([0-9]*\)"\]|listen = ["127.0.0.1:\1", "0.0.0.0:7443"]|`, b.Dir+"/outrider.toml")
	return b
}

// shows waits until a box prints a name for its page, and no other.
func shows(t *testing.T, b *scenario.Box, name string) {
	t.Helper()
	if err := scenario.Poll(soon(t), b.Name+" to be called "+name, func() (bool, error) {
		out, err := b.CLI(t.Context(), "", "page")
		if err == nil && !strings.Contains(out, "https://"+name+":7443/") {
			err = fmt.Errorf("page prints %s", out)
		}
		return err == nil, err
	}); err != nil {
		t.Fatal(err)
	}
}

// ask asks the LAN for a name, as a program without a responder does, and
// returns the addresses of the first answer.
func ask(t *testing.T, name, to string, typ dnsmessage.Type) (addrs []string, err error) {
	t.Helper()
	b := dnsmessage.NewBuilder(nil, dnsmessage.Header{ID: 7})
	q := dnsmessage.Question{Name: dnsmessage.MustNewName(name + "."), Type: typ, Class: dnsmessage.ClassINET}
	if err := errors.Join(b.StartQuestions(), b.Question(q)); err != nil {
		t.Fatal(err)
	}
	packet, err := b.Finish()
	if err != nil {
		t.Fatal(err)
	}
	at, err := net.ResolveUDPAddr("udp", to)
	if err != nil {
		t.Fatal(err)
	}
	c, err := net.ListenUDP("udp", nil)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := c.WriteTo(packet, at); err != nil {
		return nil, err
	}
	_ = c.SetReadDeadline(time.Now().Add(time.Second))
	buf := make([]byte, 9000)
	n, _, err := c.ReadFrom(buf)
	if err != nil {
		return nil, err
	}
	var m dnsmessage.Message
	if err := m.Unpack(buf[:n]); err != nil {
		return nil, err
	}
	for _, a := range m.Answers {
		switch r := a.Body.(type) {
		case *dnsmessage.AResource:
			addrs = append(addrs, netip.AddrFrom4(r.A).String())
		case *dnsmessage.AAAAResource:
			addrs = append(addrs, netip.AddrFrom16(r.AAAA).String())
		}
	}
	return addrs, nil
}

// resolves waits until a name has these addresses.
func resolves(t *testing.T, name, to string, typ dnsmessage.Type, want ...string) {
	t.Helper()
	if err := scenario.Poll(soon(t), name+" to be found at "+to, func() (bool, error) {
		got, err := ask(t, name, to, typ)
		if err == nil && !slices.Equal(got, want) {
			err = fmt.Errorf("%s has %v, want %v", name, got, want)
		}
		return err == nil, err
	}); err != nil {
		t.Fatal(err)
	}
}

// Two machines were given one name: the second takes the next, and everything
// that names its page follows. Then somebody hostile is on the LAN.
func TestN04NamesOnTheLAN(t *testing.T) {
	makeLAN(t)
	first, second := machine(t, 1), machine(t, 2)
	up(t, first)
	group6 := "[ff02::fb%" + lan + "]:5353"
	resolves(t, "hq.local", group4, dnsmessage.TypeA, "10.77.0.1")
	resolves(t, "hq.local", group6, dnsmessage.TypeAAAA, "fd77::1")

	up(t, second)
	shows(t, second, "hq-2.local")
	shows(t, first, "hq.local")
	resolves(t, "hq-2.local", group4, dnsmessage.TypeALL, "10.77.0.2", "fd77::2")
	resolves(t, "hq.local", group6, dnsmessage.TypeALL, "10.77.0.1", "fd77::1")
	certified(t, "10.77.0.2:7443", "hq-2.local", "hq.local")

	garbage(t, group4, group6)
	resolves(t, "hq.local", group4, dnsmessage.TypeA, "10.77.0.1")

	// Who only says once that the name is theirs, and does not defend it, has
	// not got it; who does gets it, and the next free one is taken.
	rogue := newRogue(t)
	rogue.claim("hq.local")
	rogue.heard(t, "hq.local") // it probes anew
	resolves(t, "hq.local", group4, dnsmessage.TypeA, "10.77.0.1")
	rogue.defend("hq.local")
	rogue.claim("hq.local")
	shows(t, first, "hq-3.local")
	certified(t, "10.77.0.1:7443", "hq-3.local", "hq.local")

	// A LAN without IPv4.
	for i, b := range []*scenario.Box{first, second} {
		must(t, b.Wrap[0], append(slices.Clone(b.Wrap[1:]), "ip", "address", "del", fmt.Sprintf("10.77.0.%d/24", i+1), "dev", "eth0")...)
	}
	resolves(t, "hq-2.local", group6, dnsmessage.TypeALL, "fd77::2")
}

// certified waits until the page at an address shows a certificate for its
// name, not for another's, and answers to that name alone.
func certified(t *testing.T, at, name, not string) {
	t.Helper()
	if err := scenario.Poll(soon(t), at+" to be certified as "+name, func() (bool, error) {
		c, err := tls.Dial("tcp", at, &tls.Config{InsecureSkipVerify: true}) // looked at, not believed
		if err != nil {
			return false, err
		}
		defer c.Close()
		has := c.ConnectionState().PeerCertificates[0].DNSNames
		return slices.Contains(has, name) && !slices.Contains(has, not), fmt.Errorf("its certificate names %v", has)
	}); err != nil {
		t.Fatal(err)
	}
	client := &http.Client{Timeout: time.Minute, Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, DisableKeepAlives: true}}
	for host, want := range map[string]int{name: http.StatusOK, not: http.StatusMisdirectedRequest} {
		r, err := http.NewRequest("GET", "https://"+at+"/", nil)
		if err != nil {
			t.Fatal(err)
		}
		r.Host = host + ":7443"
		resp, err := client.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode != want {
			t.Errorf("%s as %s: %s", at, host, resp.Status)
		}
	}
}

// garbage is what no responder should stumble over: noise, counts that lie,
// names that point at themselves, packets as large as they come.
func garbage(t *testing.T, groups ...string) {
	t.Helper()
	hello := []byte{0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 2, 'h', 'q', 5, 'l', 'o', 'c', 'a', 'l', 0}
	for _, g := range groups {
		c, err := net.Dial("udp", g)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		for i := range 500 {
			packet := append(slices.Clone(hello), byte(i), byte(i>>8), 0x80)
			switch i % 5 {
			case 0:
				packet = packet[:i%len(packet)]
			case 1: // 65,535 of everything
				copy(packet[4:12], "\xff\xff\xff\xff\xff\xff\xff\xff")
			case 2: // a name that points at itself
				packet = append(packet[:12], 0xc0, 0x0c, 0, 1, 0, 1)
			case 3: // an answer with a length that is not there
				packet = append(packet, 0, 0, 0, 0, 0, 120, 0xff, 0xff)
				packet[2], packet[5], packet[7] = 0x84, 0, 1
			case 4:
				packet = append(packet, make([]byte, 1200)...)
			}
			_, _ = c.Write(packet) // the kernel may have enough of it
		}
	}
}

// A rogue is a responder that claims what it likes.
type rogue struct {
	conn   *net.UDPConn
	group  *net.UDPAddr
	probes chan string
	defend func(name string)
}

func newRogue(t *testing.T) *rogue {
	t.Helper()
	ifi, err := net.InterfaceByName(lan)
	if err != nil {
		t.Fatal(err)
	}
	r := &rogue{group: net.UDPAddrFromAddrPort(netip.MustParseAddrPort(group4)), probes: make(chan string, 1024)}
	if r.conn, err = net.ListenMulticastUDP("udp4", ifi, r.group); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	defended, done := make(chan string, 1), make(chan struct{})
	r.defend = func(name string) { defended <- name }
	go func() {
		defer close(done)
		r.listen(ctx, defended)
	}()
	t.Cleanup(func() {
		cancel()
		r.conn.Close()
		<-done
	})
	return r
}

func (r *rogue) listen(ctx context.Context, defended <-chan string) {
	buf, mine := make([]byte, 9000), ""
	for ctx.Err() == nil {
		n, _, err := r.conn.ReadFrom(buf)
		if err != nil {
			return
		}
		select {
		case mine = <-defended:
		default:
		}
		var m dnsmessage.Message
		if m.Unpack(buf[:n]) != nil || m.Response || len(m.Questions) != 1 || len(m.Authorities) == 0 {
			continue
		}
		name := strings.TrimSuffix(m.Questions[0].Name.String(), ".")
		select {
		case r.probes <- name:
		default:
		}
		if name == mine {
			r.claim(name)
		}
	}
}

// claim says that a name is the rogue's.
func (r *rogue) claim(name string) {
	b := dnsmessage.NewBuilder(nil, dnsmessage.Header{Response: true, Authoritative: true})
	h := dnsmessage.ResourceHeader{Name: dnsmessage.MustNewName(name + "."), Class: dnsmessage.ClassINET | 1<<15, TTL: 120}
	if b.StartAnswers() != nil || b.AResource(h, dnsmessage.AResource{A: netip.MustParseAddr(lanHere).As4()}) != nil {
		return
	}
	if packet, err := b.Finish(); err == nil {
		_, _ = r.conn.WriteTo(packet, r.group)
	}
}

// heard waits until somebody probes for a name.
func (r *rogue) heard(t *testing.T, name string) {
	t.Helper()
	ctx := soon(t)
	for {
		select {
		case got := <-r.probes:
			if got == name {
				return
			}
		case <-ctx.Done():
			t.Fatalf("nobody probes for %s", name)
		}
	}
}
