package config

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
)

// Our port numbers: none below 1024, no two alike. They are defaults, every
// one that is open can be changed.
const (
	portGossip   = 7410
	portMesh     = 7411
	portDatagram = 7412
	portCalls    = 7420
	portPageTLS  = 7443
	portPage     = 7480
	portPageCA   = 7481
	portMDNS     = 5353 // RFC 6762: of all responders of a machine together
	portMetrics  = 7490
)

// A Port is one row of the port table. It is the only one: README, `outrider
// config ports`, the firewall lines and the collision check come from here.
type Port struct {
	Name  string     `json:"name"`
	Proto string     `json:"proto"` // tcp or udp
	Port  uint16     `json:"port"`
	Addr  netip.Addr `json:"address"`
	Key   string     `json:"key,omitempty"` // the setting that moves it
	Open  bool       `json:"open"`          // this configuration listens on it; else the number is reserved
	Use   string     `json:"use"`
}

// Outside says whether other machines have to reach the port, so that a
// firewall must let it in.
func (p Port) Outside() bool { return p.Open && !p.Addr.Unmap().IsLoopback() }

// Where describes the address for people.
func (p Port) Where() string {
	switch {
	case !p.Open:
		return "reserved"
	case p.Addr.Unmap().IsLoopback():
		return "loopback"
	case p.Addr.IsUnspecified():
		return "all interfaces"
	}
	return p.Addr.String()
}

var anyAddr, loopback = netip.IPv4Unspecified(), netip.MustParseAddr("127.0.0.1")

// Ports returns the table for this configuration, in ascending order of the
// default numbers.
func (c Config) Ports() []Port {
	g := c.GossipAddr()
	t := []Port{
		{"gossip", "udp", g.Port(), g.Addr(), "gossip.listen", true, "finds neighbours"},
		{"gossip", "tcp", g.Port(), g.Addr(), "gossip.listen", true, "exchanges the list of neighbours"},
	}
	for _, s := range c.MeshListen() {
		a, _ := netip.ParseAddrPort(s)
		t = append(t,
			Port{"mesh", "tcp", a.Port(), a.Addr(), "mesh.listen", true, "carries bundles (Noise)"},
			Port{"mesh", "udp", a.Port(), a.Addr(), "mesh.listen", true, "carries bundles (QUIC)"})
	}
	t = append(t,
		reserved("datagram", "udp", portDatagram, anyAddr, "datagrams on thin radios"),
		c.callPort("udp", "voice, sealed between the ends; open during a call"),
		c.callPort("tcp", "voice where udp is blocked; open during a call"))
	return append(append(t, c.pagePorts()...), c.atakPorts()...)
}

// callPort is a row for calls. The port is bound while somebody is in a call;
// a firewall must let it in all the time.
func (c Config) callPort(proto, use string) Port {
	a := c.CallsAddr()
	open := c.Calls.Enabled && (proto == "tcp" || !c.Calls.ForceTCP)
	return Port{"calls", proto, a.Port(), a.Addr(), "calls.listen", open, use}
}

// atakPorts are TAK's own numbers, there only while the bridge is on.
func (c Config) atakPorts() []Port {
	if !c.ATAK.Enabled {
		return nil
	}
	stream, https := c.ATAKAddrs()
	return []Port{
		{"atak", "tcp", stream.Port(), stream.Addr(), "atak.listen", true, "events of TAK clients, TLS"},
		{"atak-https", "tcp", https.Port(), https.Addr(), "atak.listen_https", true, "files of TAK clients, TLS"},
	}
}

func (c Config) pagePorts() []Port {
	var plain, secure, ca []Port
	for _, l := range c.Page.Listeners() {
		row := Port{"page", "tcp", l.Addr.Port(), l.Addr.Addr(), "page.listen", true, "web page for users, plain HTTP"}
		if l.TLS {
			row.Name, row.Use = "page-tls", "web page for users, TLS"
			secure = append(secure, row)
			if c.Page.CA || c.Page.CAPort != 0 { // else it has a port only while it is asked for
				ca = append(ca, Port{pageCA, "tcp", uint16(c.Page.CAPort), row.Addr, "page.ca_port", true, useCA})
			}
		} else {
			plain = append(plain, row)
		}
	}
	if len(secure) == 0 {
		row := reserved("page-tls", "tcp", portPageTLS, anyAddr, "web page for users, TLS, when page.listen names another interface")
		row.Key = "page.listen"
		secure = append(secure, row)
	}
	if len(plain) == 0 {
		row := reserved("page", "tcp", portPage, loopback, "web page for users, plain HTTP")
		row.Key = "page.listen"
		plain = append(plain, row)
	}
	if len(ca) == 0 {
		row := reserved(pageCA, "tcp", uint16(c.Page.CAPort), anyAddr, useCA)
		row.Key = "page.ca_port"
		ca = []Port{row}
	}
	mdns := reserved("mdns", "udp", portMDNS, anyAddr, "answers to the page's .local name, when the page is served on a LAN")
	mdns.Key, mdns.Open = "page.mdns", c.MDNS()
	metrics := reserved("metrics", "tcp", portMetrics, loopback, "Prometheus metrics, when asked for")
	metrics.Key = "metrics.listen"
	if a, on := c.MetricsAddr(); on {
		metrics.Port, metrics.Addr, metrics.Open = a.Port(), a.Addr(), true
	}
	return slices.Concat([]Port{mdns}, secure, plain, ca, []Port{metrics})
}

const pageCA = "page-ca"

// Rare tells whether a port is bound for minutes at a time, when somebody asks:
// others may take it from us then, and a firewall that shuts it does no harm
// before.
func (c Config) Rare(p Port) bool { return p.Name == pageCA && !c.Page.CA }

const useCA = "hands out the page's CA certificate and nothing else, when asked for"

// PagePort is where other machines reach the page: the first of page.listen
// that is not loopback, else the port that is reserved for it.
func (c Config) PagePort() uint16 {
	for _, l := range c.Page.Listeners() {
		if l.TLS && l.Addr.Port() != 0 {
			return l.Addr.Port()
		}
	}
	return portPageTLS
}

// MDNS says whether this configuration answers to the page's .local name.
func (c Config) MDNS() bool {
	return c.Page.MDNS && c.Profile == ProfileLAN && slices.ContainsFunc(c.Page.Listeners(), func(l PageListener) bool { return l.TLS })
}

func reserved(name, proto string, port uint16, addr netip.Addr, use string) Port {
	return Port{Name: name, Proto: proto, Port: port, Addr: addr, Use: use}
}

// PortTable writes ports as a Markdown table, which is how the README has it.
func PortTable(ports []Port) string {
	var b strings.Builder
	b.WriteString("| port | listens on | name | setting | use |\n|---|---|---|---|---|\n")
	for _, p := range ports {
		key := "-"
		if p.Key != "" {
			key = "`" + p.Key + "`"
		}
		fmt.Fprintf(&b, "| %d/%s | %s | %s | %s | %s |\n", p.Port, p.Proto, p.Where(), p.Name, key, p.Use)
	}
	return b.String()
}

// Firewall returns the shell commands that let other machines in, for the
// usual table `inet filter` and chain `input` of nftables.
func Firewall(ports []Port) []string {
	return eachProto(ports, func(proto string, nums, names []string) string {
		return fmt.Sprintf("nft 'add rule inet filter input %s dport { %s } accept comment \"outrider %s\"'",
			proto, strings.Join(nums, ", "), strings.Join(names, ", "))
	})
}

// FirewallUFW is Firewall for machines with ufw, which keeps its rules.
func FirewallUFW(ports []Port) []string {
	return eachProto(ports, func(proto string, nums, names []string) string {
		return fmt.Sprintf("ufw allow proto %s to any port %s comment 'outrider %s'", proto, strings.Join(nums, ","), strings.Join(names, ", "))
	})
}

// eachProto calls line for udp and tcp with the ports that must be let in.
func eachProto(ports []Port, line func(proto string, nums, names []string) string) []string {
	var lines []string
	for _, proto := range []string{"udp", "tcp"} {
		var nums, names []string
		for _, p := range ports {
			n := fmt.Sprint(p.Port)
			if p.Proto != proto || !p.Outside() || p.Port == 0 || slices.Contains(nums, n) {
				continue
			}
			nums, names = append(nums, n), append(names, p.Name)
		}
		if len(nums) > 0 {
			lines = append(lines, line(proto, nums, names))
		}
	}
	return lines
}
