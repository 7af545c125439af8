package node

import (
	"bytes"
	"net"
	"net/netip"
	"strings"
	"testing"

	"outrider/node/api"
	"outrider/node/chat"
	"outrider/node/config"
	"outrider/offline/deeplink"
)

func TestBestAddrs(t *testing.T) {
	own := func(ip, iface string, carrier bool) ownAddr {
		return ownAddr{netip.MustParseAddr(ip), iface, carrier}
	}
	all := []ownAddr{
		own("127.0.0.1", "lo", true), own("169.254.7.7", "usb0", true), own("172.17.0.1", "docker0", true), own("10.9.0.1", "eth1", false),
		own("fe80::1", "eth0", true), own("fd00::7", "eth0", true), own("192.168.7.1", "eth0", true), own("198.51.100.9", "wwan0", true),
		own("192.168.7.1", "eth0.1", true), own("::1", "lo", true), own("224.0.0.1", "eth0", true), own("0.0.0.0", "eth0", true),
	}
	for v4, want := range map[bool]string{
		true:  "192.168.7.1 198.51.100.9 10.9.0.1 172.17.0.1 169.254.7.7",
		false: "fd00::7",
	} {
		var got []string
		for _, ip := range bestAddrs(all, v4) {
			got = append(got, ip.String())
		}
		if strings.Join(got, " ") != want {
			t.Errorf("IPv4 %v: %v, want %s", v4, got, want)
		}
	}
	if got := bestAddrs([]ownAddr{own("127.0.0.1", "lo", true), own("127.0.0.2", "eth0", true)}, true); len(got) != 0 {
		t.Errorf("loopback in a link: %v", got)
	}
}

func TestJoinHint(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	silent, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	shut := silent.Addr().String()
	silent.Close()
	if got := joinHint(&membership{}); !strings.Contains(got, "names no address") {
		t.Errorf("without addresses: %s", got)
	}
	if got := joinHint(&membership{Seeds: []string{shut, l.Addr().String()}}); got != "a node answers at "+l.Addr().String() {
		t.Errorf("one answers: %s", got)
	}
	_, port, _ := net.SplitHostPort(shut)
	got := joinHint(&membership{Seeds: []string{shut}})
	for _, want := range []string{shut + ": that machine is there, but nothing listens", "udp dport { " + port + ", 7411 } accept", "ufw allow proto udp to any port " + port + ",7411", "outrider up", "mesh.listen may name another port than 7411 there"} {
		if !strings.Contains(got, want) {
			t.Errorf("no %q in:\n%s", want, got)
		}
	}
}

// One address more than a link holds is left out, the worst.
func TestReachableAddrsAreAtMostThree(t *testing.T) {
	c := config.Default()
	c.Mesh.Advertise = []string{"198.51.100.1", "198.51.100.2", "198.51.100.3", "198.51.100.4"} // Validate would refuse it
	got := reachableAddrs(c)
	if len(got) != deeplink.MaxAddrs || got[0] != "198.51.100.1:7410" {
		t.Errorf("%v", got)
	}
	c.Mesh.Advertise = []string{"127.0.0.1", "198.51.100.2", "[::1]:9000"}
	if got := reachableAddrs(c); len(got) != 1 || got[0] != "198.51.100.2:7410" {
		t.Errorf("loopback beside an address: %v", got)
	}
	c.Mesh.Advertise = []string{"127.0.0.1", "::ffff:127.0.0.2"}
	if got := reachableAddrs(c); len(got) != 0 {
		t.Errorf("loopback alone is advertised: %v", got)
	}
	c = config.Default()
	c.Gossip.Listen = "127.0.0.1:7410"
	if got := reachableAddrs(c); len(got) != 0 {
		t.Errorf("loopback: %v", got)
	}
}

// A link at whose addresses nobody can be reached is not made. Loopback is made
// if it was asked for by name, and never otherwise.
func TestAddUserRefusesUselessAddresses(t *testing.T) {
	h, _, _ := founded(t)
	before := readState(t, h.Dir())
	c := config.Default()
	add := api.NewUser{Name: carolName, AdminPassword: []byte(adminPassword)}
	for _, a := range []string{"0.0.0.0", "0.0.0.0:7410", "::", "[::]", "[::]:7410", "224.0.0.1", "[ff02::1]:7410", "::ffff:0.0.0.0"} {
		add.Addrs = []string{"192.0.2.1", a}
		_, err := AddUser(t.Context(), h, c, add)
		wantError(t, err, chat.ErrInvalid, "nobody can be reached at")
	}
	c.Mesh.Advertise, add.Addrs = []string{"127.0.0.1"}, nil
	_, err := AddUser(t.Context(), h, c, add)
	wantError(t, err, ErrLoopback, "--address")
	if !bytes.Equal(before, readState(t, h.Dir())) {
		t.Error("a refused link changed the node")
	}
	add.Addrs = []string{"127.0.0.71"}
	if u, err := AddUser(t.Context(), h, c, add); err != nil || len(u.Addrs) != 1 || u.Addrs[0] != "127.0.0.71:7410" {
		t.Errorf("loopback by name: %v, %v", u.Addrs, err)
	}
}
