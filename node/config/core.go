package config

import (
	"encoding/base64"
	"net"
	"strconv"
	"strings"
)

// Limits of the table [core].
const (
	coreServersMax = 8
	corePinsMax    = 4
	corePathMax    = 1024
)

// core checks the way to the core; no file is opened.
func (v *validator) core(c Core) {
	v.count("core.servers", len(c.Servers), 0, coreServersMax)
	for _, s := range c.Servers {
		if !validServer(s) {
			v.fail("core.servers", "for example \"core.example.org:4222\"", "%q is no name or address with a port", shorten(s))
		}
	}
	v.count("core.pins", len(c.Pins), 0, corePinsMax)
	for _, s := range c.Pins {
		if raw, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(s, "sha256/")); err != nil || len(raw) != 32 {
			v.fail("core.pins", "the SHA-256 of a public key in base64, 44 characters", "%q is no pin", shorten(s))
		}
	}
	for _, f := range [][2]string{{"core.seed_file", c.SeedFile}, {"core.cert_file", c.CertFile}, {"core.key_file", c.KeyFile}, {"core.ca_file", c.CAFile}} {
		if len(f[1]) > corePathMax || strings.ContainsRune(f[1], 0) {
			v.fail(f[0], "a path", "%q is no path", shorten(f[1]))
		}
	}
	if len(c.Servers) == 0 {
		return
	}
	if c.SeedFile == "" {
		v.fail("core.seed_file", "the file that whoever runs the core has made for this node", "the core has to know this node")
	}
	if (c.CertFile == "") != (c.KeyFile == "") {
		v.fail("core.key_file", "set both cert_file and key_file, or none", "a certificate and its key belong together")
	}
	if c.CAFile == "" && len(c.Pins) == 0 {
		v.fail("core.pins", "set pins, ca_file or both", "nothing says which server is the core")
	}
}

// validServer takes host:port; the core may be reached by name, as there is
// no core where there is nobody to resolve it.
func validServer(s string) bool {
	host, port, err := net.SplitHostPort(strings.TrimPrefix(s, "tls://"))
	if err != nil || !validHost(host) {
		return false
	}
	n, err := strconv.ParseUint(port, 10, 16)
	return err == nil && n > 0
}
