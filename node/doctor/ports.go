package doctor

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"time"

	"outrider/node/config"
)

// checkPorts tries every port the settings open. Those the running node has
// are as they should be.
func checkPorts(_ context.Context, e Env) (out []Finding) {
	if len(e.Mistakes) > 0 {
		return nil
	}
	own := localAddrs()
	var told []netip.Addr
	for _, f := range e.Config.Check() {
		p := f.Port
		switch {
		case f.Busy && e.Running.PID != 0 && (f.Owner.PID == 0 || f.Owner.PID == e.Running.PID):
		case f.Busy:
			owner := "another program (run `outrider doctor` as root for its name)"
			if f.Owner.Name != "" {
				owner = fmt.Sprintf("%s, process %d", f.Owner.Name, f.Owner.PID)
			}
			out = append(out, found("port-busy", "port", portName(p), "use", p.Use, "owner", owner, "key", p.Key))
		case len(own) > 0 && !p.Addr.IsUnspecified() && !slices.Contains(own, p.Addr.Unmap()):
			if !slices.Contains(told, p.Addr) { // once for udp and tcp
				told = append(told, p.Addr)
				out = append(out, found("address-missing", "address", p.Addr.String(), "use", p.Name, "key", p.Key))
			}
		default:
			out = append(out, found("port-refused", "port", portName(p), "use", p.Use, "why", f.Message, "key", p.Key))
		}
	}
	return out
}

func portName(p config.Port) string { return fmt.Sprintf("%d/%s", p.Port, p.Proto) }

// localAddrs lists this machine's addresses.
func localAddrs() (out []netip.Addr) {
	addrs, err := net.InterfaceAddrs()
	if err != nil {
		return nil
	}
	for _, a := range addrs {
		if n, ok := a.(*net.IPNet); ok {
			if ip, ok := netip.AddrFromSlice(n.IP); ok {
				out = append(out, ip.Unmap())
			}
		}
	}
	return out
}

// outsideAddrs are those others may reach this machine by.
func outsideAddrs() (out []netip.Addr) {
	for _, a := range localAddrs() {
		if !a.IsLoopback() && !a.IsLinkLocalUnicast() {
			out = append(out, a)
		}
	}
	return out
}

// knockTime is how long somebody at a port of this machine may take to answer.
var knockTime = 2 * time.Second

// checkPage shakes hands with the page where it is served with TLS.
func checkPage(ctx context.Context, e Env) (out []Finding) {
	if !e.Running.Answers || len(e.Mistakes) > 0 {
		return nil
	}
	for _, l := range e.Config.Page.Listeners() {
		if l.TLS && l.Addr.Port() != 0 {
			out = append(out, checkCertificate(ctx, e, l.Addr)...)
		}
	}
	return out
}

func checkCertificate(ctx context.Context, e Env, at netip.AddrPort) (out []Finding) {
	to := at
	if at.Addr().IsUnspecified() {
		to = netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), at.Port())
	}
	cert, err := handshake(ctx, to.String())
	if err != nil {
		return []Finding{found("page-silent", "address", at.String(), "why", reason(err))}
	}
	if e.Now().After(cert.NotAfter) {
		out = append(out, found("page-certificate-expired", "address", at.String(), "end", cert.NotAfter.Local().Format("2006-01-02 15:04")))
	}
	want := []netip.Addr{at.Addr()}
	if at.Addr().IsUnspecified() {
		want = slices.DeleteFunc(outsideAddrs(), func(a netip.Addr) bool { return a.Is4() != at.Addr().Is4() })
	}
	var missing []string
	for _, a := range want {
		if cert.VerifyHostname(a.String()) != nil {
			missing = append(missing, a.String())
		}
	}
	if len(missing) > 0 {
		out = append(out, found("page-certificate-address", "address", at.String(), "missing", join(missing)))
	}
	return out
}

// handshake returns the certificate of whoever listens at addr. It is looked
// at, not believed: nothing is said over the connection.
func handshake(ctx context.Context, addr string) (*x509.Certificate, error) {
	ctx, cancel := context.WithTimeout(ctx, knockTime)
	defer cancel()
	d := tls.Dialer{Config: &tls.Config{InsecureSkipVerify: true, MinVersion: tls.VersionTLS12}}
	c, err := d.DialContext(ctx, "tcp", addr)
	if err != nil {
		return nil, err
	}
	defer c.Close()
	certs := c.(*tls.Conn).ConnectionState().PeerCertificates
	if len(certs) == 0 {
		return nil, errors.New("it shows no certificate")
	}
	return certs[0], nil
}

// checkFirewall asks the kernel's rules what becomes of a packet to each port
// that others must reach; where they cannot be read, it tries a connection.
func checkFirewall(ctx context.Context, e Env) (out []Finding) {
	if len(e.Mistakes) > 0 {
		return nil
	}
	var ports []config.Port
	for _, p := range e.Config.Ports() {
		same := func(o config.Port) bool {
			return o.Port == p.Port && o.Proto == p.Proto && o.Addr.Is4() == p.Addr.Is4()
		}
		if p.Outside() && !e.Config.Rare(p) && p.Port != 0 && !slices.ContainsFunc(ports, same) {
			ports = append(ports, p)
		}
	}
	rules, err := readRules(ctx, e.Proc)
	if err != nil {
		return loopTest(ctx, e, ports)
	}
	for _, p := range ports {
		if rule, in := rules.drops(packet{proto: p.Proto, port: p.Port, v6: p.Addr.Is6()}); rule != "" {
			out = append(out, found("firewall-drops", "port", portName(p), "use", p.Use, "rule", rule+whose(in, p), "cure", openCure(in, p)))
		}
	}
	return out
}

// whose says what the rule belongs to, where that is not plain.
func whose(in *chain, p config.Port) (out string) {
	if in.legacy {
		out = " of " + iptables(in)
	}
	if p.Addr.Is6() {
		out += ", for IPv6"
	}
	return out
}

// iptables is the program that changes a chain's rules.
func iptables(in *chain) string {
	name := "iptables"
	if in.Family == "ip6" {
		name = "ip6tables"
	}
	if in.legacy {
		name += "-legacy"
	}
	return name
}

// openCure lets a port in with the program that made the chain which drops: a
// packet that one chain lets pass, another still drops.
func openCure(in *chain, p config.Port) string {
	if in.legacy || in.Family != "inet" && hooks[in.Name] != "" { // chains in capitals are those of iptables, also in nftables
		line := fmt.Sprintf("%s -I %s -p %s --dport %d -j ACCEPT", iptables(in), in.Name, p.Proto, p.Port)
		if in.Table != "filter" {
			line = strings.Replace(line, " -I", " -t "+in.Table+" -I", 1)
		}
		return "Let it in: " + line + " (and keep it: iptables-persistent, or your firewall's own file)."
	}
	return "Let it in: " + strings.Join(config.Firewall([]config.Port{p}), "; ") + " (with your own table and chain; before the rule that drops)."
}

// loopTest connects to the machine's own tcp ports by an address that others
// use. Rules that look at the interface may judge such a connection otherwise,
// so that silence is a finding and an answer proves nothing.
func loopTest(ctx context.Context, e Env, ports []config.Port) (out []Finding) {
	addrs := outsideAddrs()
	for _, p := range ports {
		to := p.Addr
		if to.IsUnspecified() {
			i := slices.IndexFunc(addrs, func(a netip.Addr) bool { return a.Is4() == to.Is4() })
			if i < 0 {
				continue
			}
			to = addrs[i]
		}
		if p.Proto != "tcp" {
			continue
		}
		if !arrives(ctx, e, netip.AddrPortFrom(to, p.Port)) {
			out = append(out, found("firewall-loop", "port", portName(p), "use", p.Use))
		}
	}
	return out
}

// arrives reports whether a connection to one of our addresses does, or could
// not be tried. Where nobody listens, as at the port of calls while nobody
// calls, it listens itself for the moment.
func arrives(ctx context.Context, e Env, at netip.AddrPort) bool {
	if l, err := net.ListenTCP("tcp", net.TCPAddrFromAddrPort(at)); err == nil {
		defer l.Close()
	} else if !e.Running.Answers {
		return true // checkPorts tells
	}
	ctx, cancel := context.WithTimeout(ctx, knockTime)
	defer cancel()
	c, err := (&net.Dialer{}).DialContext(ctx, "tcp", at.String())
	if err == nil {
		_ = c.Close()
	}
	return err == nil
}
