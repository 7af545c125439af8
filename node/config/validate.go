package config

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"unicode"

	"outrider/atak/tak"
)

// Limits of this file's making; each has a test one past it.
const (
	advertiseMax   = 3 // addresses in a join link (decisions: a join object)
	seedsMax       = 16
	meshListenMax  = 4
	pageListenMax  = 4
	allowedHostMax = 16
	shareMax       = 64
	devicePathMax  = 255 // of a position receiver
	hostNameMax    = 253 // RFC 1035, section 2.3.4
)

// Validate checks every value and every pair of listeners. Its error joins one
// *Error for each mistake, without lines.
func (c Config) Validate() error {
	v := &validator{}
	v.oneOf("profile", c.Profile, ProfileLAN, ProfileWiFi, ProfileRadio)
	if n := c.MemoryLimitMB; n != 0 && (n < 32 || n > 1<<20) {
		v.fail("memory_limit_mb", fmt.Sprintf("0 or 32 to %d", 1<<20), "%d is out of bounds", n)
	}
	v.addrs("gossip.listen", []string{c.Gossip.Listen}, portGossip)
	v.count("gossip.seeds", len(c.Gossip.Seeds), 0, seedsMax)
	v.peers("gossip.seeds", c.Gossip.Seeds, portGossip)
	v.count("mesh.listen", len(c.Mesh.Listen), 1, meshListenMax)
	v.addrs("mesh.listen", c.Mesh.Listen, portMesh)
	v.count("mesh.advertise", len(c.Mesh.Advertise), 0, advertiseMax)
	v.peers("mesh.advertise", c.Mesh.Advertise, portMesh)
	v.count("page.listen", len(c.Page.Listen), 0, pageListenMax)
	v.addrs("page.listen", c.Page.Listen, 0)
	v.count("page.allowed_hosts", len(c.Page.AllowedHosts), 0, allowedHostMax)
	v.hosts("page.allowed_hosts", c.Page.AllowedHosts)
	if n := c.Page.Name; n != "" && (strings.Contains(n, ".") || !validHost(n)) {
		v.fail("page.name", "one label such as node7, without .local", "%q is no name", shorten(n))
	}
	v.within("page.ca_port", c.Page.CAPort, 0, 65535)
	if c.Page.CA && !slices.ContainsFunc(c.Page.Listeners(), func(l PageListener) bool { return l.TLS }) {
		v.fail("page.ca", "add an address that others reach to page.listen, for example \"0.0.0.0\"", "the page is served on this machine only, so nobody needs its certificate")
	}
	v.within("store.limit_mb", c.Store.LimitMB, 16, 1_000_000)
	v.within("store.files_limit_mb", c.Store.FilesLimitMB, 0, 100_000_000)
	v.within("store.reserve_percent", c.Store.ReservePercent, 0, 90)
	v.within("store.free_floor_mb", c.Store.FreeFloorMB, 0, 1_000_000)
	v.addrs("atak.listen", []string{c.ATAK.Listen}, tak.PortStream)
	v.addrs("atak.listen_https", []string{c.ATAK.ListenHTTPS}, tak.PortHTTPS)
	v.count("atak.share_with", len(c.ATAK.ShareWith), 0, shareMax)
	v.within("atak.interval_s", c.ATAK.IntervalS, 1, 3600)
	if c.Calls.Listen != "" {
		v.addrs("calls.listen", []string{c.Calls.Listen}, portCalls)
	}
	v.position(c.Position.Source)
	v.core(c.Core)
	v.oneOf("log.level", c.Log.Level, "debug", "info", "warn", "error")
	v.oneOf("log.format", c.Log.Format, "text", "json")
	v.metrics(c.Metrics.Listen)
	if len(v.errs) == 0 {
		v.collisions(c)
	}
	return errors.Join(v.errs...)
}

// position checks where the receiver is; it is not opened.
func (v *validator) position(source string) {
	const hint = `"gpsd://127.0.0.1:2947", a device such as "/dev/ttyACM0", or "" for none`
	switch {
	case source == "":
	case strings.HasPrefix(source, "/"):
		if len(source) > devicePathMax || strings.ContainsFunc(source, unicode.IsControl) || filepath.Clean(source) != source || source == "/" {
			v.fail("position.source", hint, "%q is no path of a device", shorten(source))
		}
	default:
		if a, err := parseGPSD(source); err != nil {
			v.fail("position.source", hint, "%q: %v", shorten(source), err)
		} else if a.Port() == 0 || a.Addr().IsUnspecified() || a.Addr().IsMulticast() {
			v.fail("position.source", hint, "%q: nobody can be reached there", shorten(source))
		}
	}
}

// metrics refuses all but loopback: the figures have no password.
func (v *validator) metrics(listen string) {
	if listen == "" {
		return
	}
	if a, err := parseAddr(listen, portMetrics); err != nil || !a.Addr().IsLoopback() {
		v.fail("metrics.listen", "for example 127.0.0.1; from elsewhere ask through an ssh tunnel", "%q is no loopback address", shorten(listen))
	}
}

// validator collects mistakes.
type validator struct{ errs []error }

func (v *validator) fail(key, hint, format string, args ...any) {
	v.errs = append(v.errs, &Error{Key: key, Message: fmt.Sprintf(format, args...), Hint: hint})
}

func (v *validator) oneOf(key, got string, allowed ...string) {
	if !slices.Contains(allowed, got) {
		v.fail(key, "one of "+strings.Join(allowed, ", "), "%q is not known", shorten(got))
	}
}

func (v *validator) within(key string, got, low, high int) {
	if got < low || got > high {
		v.fail(key, fmt.Sprintf("%d to %d", low, high), "%d is out of bounds", got)
	}
}

func (v *validator) count(key string, got, low, high int) {
	if got < low || got > high {
		v.fail(key, fmt.Sprintf("%d to %d", low, high), "%d entries", got)
	}
}

// addrs checks addresses to listen on; they may be unspecified, and port 0
// lets the kernel choose.
func (v *validator) addrs(key string, list []string, port uint16) {
	seen := map[netip.AddrPort]bool{}
	for _, s := range list {
		a, err := parseAddr(s, port)
		if err == nil && a.Addr().IsMulticast() {
			err = errors.New("a multicast address")
		}
		if err != nil {
			v.fail(key, "an IP address of this machine, for example 0.0.0.0 or 127.0.0.1, then :port", "%q: %v", shorten(s), err)
			continue
		}
		if a.Port() != 0 && seen[a] {
			v.fail(key, "", "%q stands twice", shorten(s))
		}
		seen[a] = true
	}
}

// peers checks addresses that others are reached at.
func (v *validator) peers(key string, list []string, port uint16) {
	for _, s := range list {
		a, err := parseAddr(s, port)
		switch {
		case err != nil:
		case a.Addr().IsUnspecified() || a.Addr().IsMulticast():
			err = errors.New("nobody can be reached there")
		case a.Port() == 0:
			err = errors.New("port 0")
		}
		if err != nil {
			v.fail(key, "an IP address others reach, for example 192.168.7.1", "%q: %v", shorten(s), err)
		}
	}
}

func (v *validator) hosts(key string, list []string) {
	for _, s := range list {
		if !validHost(s) {
			v.fail(key, "a name such as node7.local, without scheme and port", "%q is no host name", shorten(s))
		}
	}
}

// validHost follows RFC 1123, section 2.1, and takes IP addresses too.
func validHost(s string) bool {
	if _, err := netip.ParseAddr(s); err == nil {
		return true
	}
	if s == "" || len(s) > hostNameMax {
		return false
	}
	for _, label := range strings.Split(s, ".") {
		if label == "" || len(label) > 63 || label[0] == '-' || label[len(label)-1] == '-' {
			return false
		}
		for _, r := range label {
			if (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && r != '-' {
				return false
			}
		}
	}
	return true
}

// collisions finds two listeners of ours that want one port.
func (v *validator) collisions(c Config) {
	ports := c.Ports()
	for i, a := range ports {
		for _, b := range ports[:i] {
			if a.Open && b.Open && a.Proto == b.Proto && a.Port != 0 && a.Port == b.Port && overlap(a.Addr, b.Addr) {
				v.errs = append(v.errs, collision(a, b))
			}
		}
	}
}

func collision(a, b Port) *Error {
	return &Error{Key: a.Key, other: b.Key, Message: fmt.Sprintf("port %d/%s is wanted by %s too", a.Port, a.Proto, b.Key), Hint: "choose another"}
}

// overlap says whether two of our sockets on these addresses would compete.
// The families are apart: we bind IPv6 sockets to IPv6 only.
func overlap(a, b netip.Addr) bool {
	return a.Is4() == b.Is4() && (a == b || a.IsUnspecified() || b.IsUnspecified())
}

// parseAddr reads "address:port", or an address alone when port is a default.
// Names are refused: in the field there is nobody to resolve them.
func parseAddr(s string, port uint16) (netip.AddrPort, error) {
	if a, err := netip.ParseAddr(strings.Trim(s, "[]")); err == nil {
		return netip.AddrPortFrom(a.Unmap(), port), nil
	}
	host, p, err := net.SplitHostPort(s)
	if err != nil {
		return netip.AddrPort{}, errors.New("not an IP address with an optional port")
	}
	a, err := netip.ParseAddr(host)
	if err != nil {
		return netip.AddrPort{}, errors.New("not an IP address (names are not looked up)")
	}
	n, err := strconv.ParseUint(p, 10, 16)
	if err != nil {
		return netip.AddrPort{}, errors.New("the port is not a number from 0 to 65535")
	}
	return netip.AddrPortFrom(a.Unmap(), uint16(n)), nil
}

// hasPort says whether an address that parseAddr takes names its port.
func hasPort(s string) bool {
	_, err := netip.ParseAddr(strings.Trim(s, "[]"))
	return err != nil
}

// shorten keeps an error readable whatever was written.
func shorten(s string) string {
	if len(s) > 80 {
		return s[:80] + "..."
	}
	return s
}
