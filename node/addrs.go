package node

import (
	"cmp"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"outrider/node/chat"
	"outrider/node/config"
	"outrider/offline/deeplink"
)

// An ownAddr is an address of this machine, with what is known of its
// interface.
type ownAddr struct {
	ip      netip.Addr
	iface   string
	carrier bool // a cable or a radio is there
}

// reachableAddrs returns this node's gossip addresses as others may reach it,
// best first: those advertised, else those of the interfaces. Loopback is never
// among them: whoever tries a second node on this machine names it in the link
// (checkAddrs).
func reachableAddrs(c config.Config) []string {
	listen := c.GossipAddr()
	port := fmt.Sprint(listen.Port())
	var out []string
	for _, a := range c.MeshAdvertise() {
		if host, _, err := net.SplitHostPort(a); err == nil && !loopbackHost(host) {
			out = append(out, net.JoinHostPort(host, port))
		}
	}
	switch {
	case len(c.MeshAdvertise()) > 0: // nothing but those, even if none is left
	case listen.Addr().IsUnspecified():
		for _, ip := range bestAddrs(ownAddrs(), listen.Addr().Is4()) {
			out = append(out, net.JoinHostPort(ip.String(), port))
		}
	case !listen.Addr().IsLoopback():
		out = append(out, listen.String())
	}
	return out[:min(len(out), deeplink.MaxAddrs)]
}

func loopbackHost(host string) bool {
	ip, err := netip.ParseAddr(host)
	return err == nil && ip.Unmap().IsLoopback()
}

// checkAddrs refuses addresses for a link at which nobody can be reached.
// Loopback is let through: a link for another node of this machine needs it.
func checkAddrs(addrs []string) error {
	for _, a := range addrs {
		host := strings.Trim(hostOf(a), "[]")
		if ip, err := netip.ParseAddr(host); err == nil && (ip.Unmap().IsUnspecified() || ip.IsMulticast()) {
			return fmt.Errorf("node: nobody can be reached at %s; name an address of this machine that others reach: %w", host, chat.ErrInvalid)
		}
	}
	return nil
}

// bestAddrs puts the addresses of one family (our sockets are of one) into the
// order in which a stranger should try them.
func bestAddrs(all []ownAddr, v4 bool) []netip.Addr {
	var fit []ownAddr
	for _, a := range all {
		if rank(a) < rankNever && a.ip.Is4() == v4 {
			fit = append(fit, a)
		}
	}
	slices.SortStableFunc(fit, func(a, b ownAddr) int { return cmp.Compare(rank(a), rank(b)) })
	var out []netip.Addr
	for _, a := range fit {
		if !slices.Contains(out, a.ip) {
			out = append(out, a.ip)
		}
	}
	return out
}

const rankNever = 1 << 8

// rank judges an address; less is better. What a cable or radio carries comes
// before bridges that only containers on this machine hang on, and those come
// before link-local addresses, which one wire knows.
func rank(a ownAddr) int {
	switch {
	case a.ip.IsLoopback() || a.ip.IsUnspecified() || a.ip.IsMulticast():
		return rankNever
	case a.ip.Is6() && a.ip.IsLinkLocalUnicast():
		return rankNever // it means nothing without the reader's own interface
	}
	r := 0
	if a.ip.IsLinkLocalUnicast() {
		r += 4
	}
	if virtual(a.iface) {
		r += 2
	}
	if !a.carrier {
		r++
	}
	return r
}

// virtual tells bridges for containers and virtual machines by the names that
// their programs give them.
func virtual(iface string) bool {
	for _, p := range []string{"docker", "br-", "veth", "virbr", "lxc", "lxd", "cni", "podman"} {
		if strings.HasPrefix(iface, p) {
			return true
		}
	}
	return false
}

// ownAddrs lists the addresses of the interfaces that are up.
func ownAddrs() []ownAddr {
	ifaces, err := net.Interfaces()
	if err != nil {
		return nil
	}
	var out []ownAddr
	for _, i := range ifaces {
		addrs, err := i.Addrs()
		if err != nil || i.Flags&net.FlagUp == 0 {
			continue
		}
		for _, a := range addrs {
			n, ok := a.(*net.IPNet)
			if !ok {
				continue
			}
			if ip, ok := netip.AddrFromSlice(n.IP); ok {
				out = append(out, ownAddr{ip.Unmap(), i.Name, i.Flags&net.FlagRunning != 0})
			}
		}
	}
	return out
}

// knockTime is how long a join waits for an answer from the link's addresses.
// It is for the person in front of the screen; the node keeps trying anyway.
const knockTime = 2 * time.Second

// knock tries the addresses at once, by TCP to the gossip port, and returns
// what each said; nil means that something listens there.
func knock(addrs []string) []error {
	out := make([]error, len(addrs))
	var all sync.WaitGroup
	for i, a := range addrs {
		all.Go(func() {
			c, err := net.DialTimeout("tcp", a, knockTime)
			if err == nil {
				err = c.Close()
			}
			out[i] = err
		})
	}
	all.Wait()
	return out
}

// joinHint says whether somebody answers at the link's addresses, and if not,
// what to look at: address, port and firewall.
func joinHint(m *membership) string {
	if len(m.Seeds) == 0 {
		return "the link names no address: the node waits to be found by a neighbour"
	}
	said := knock(m.Seeds)
	if slices.Contains(said, nil) {
		return "a node answers at " + m.Seeds[slices.Index(said, nil)]
	}
	var b strings.Builder
	b.WriteString("nobody answers yet; the node keeps trying:\n")
	for i, a := range m.Seeds {
		fmt.Fprintf(&b, "  %s: %v\n", a, knockText(said[i]))
	}
	b.WriteString("on that machine, is `outrider up` running, and does its firewall let others in? One of these does:")
	ports := config.Default()
	if at, err := netip.ParseAddrPort(m.Seeds[0]); err == nil {
		ports.Gossip.Listen = netip.AddrPortFrom(netip.IPv4Unspecified(), at.Port()).String()
	}
	for _, line := range slices.Concat(config.Firewall(ports.Ports()), config.FirewallUFW(ports.Ports())) {
		b.WriteString("\n  " + line)
	}
	b.WriteString("\nmesh.listen may name another port than 7411 there: outrider config ports on that machine tells")
	return b.String()
}

// knockText puts the usual answers of a network into words.
func knockText(err error) string {
	var timeout net.Error
	switch text := err.Error(); {
	case strings.Contains(text, "connection refused"):
		return "that machine is there, but nothing listens on the port"
	case strings.Contains(text, "unreachable"), strings.Contains(text, "no route"):
		return "there is no way to that address from here"
	case errors.As(err, &timeout) && timeout.Timeout():
		return "no answer at all: wrong address, no link, or a firewall that drops"
	default:
		return text
	}
}
