package config

import (
	"fmt"
	"reflect"
	"strings"
)

// A Field documents one setting. From this table come the sample file, the
// text of `outrider config show` and the hint for a misspelt key.
type Field struct {
	Key  string // dotted, as in the file
	Unit string // what the value counts or is made of
	Doc  string // what it does, for the operator; one to three short lines
}

// Fields is every setting in the order of the sample file.
var Fields = []Field{
	{"profile", "lan, wifi or radio",
		"The slowest kind of link this node hears others on. It sets gossip and link\n" +
			"timing: lan for cable, wifi from 200 kb/s, radio below that."},
	{"memory_limit_mb", "MiB, 0 or 32 to 1048576",
		"Memory the Go runtime tries to stay below. 0 leaves it without a limit.\n" +
			"128 suits a board of 512 MB."},

	{"gossip.listen", "address:port",
		"Where neighbours are found, udp and tcp. Without a port: 7410."},
	{"gossip.seeds", "list of address[:port], at most 16",
		"Gossip addresses of nodes to try first. Every node ever met is remembered\n" +
			"besides, so this matters for the first contact only."},

	{"mesh.listen", "list of address:port, 1 to 4",
		"Where other nodes hand over bundles, tcp and udp. Without a port: 7411.\n" +
			"Add \"[::]:7411\" for IPv6."},
	{"mesh.advertise", "list of address[:port], at most 3",
		"Addresses others should use to reach this node, best first; they go into\n" +
			"join links. Empty: those of the interfaces that are up."},

	{"page.listen", "list of address[:port], at most 4",
		"Where the web page is served. On loopback plain HTTP, port 7480; on any\n" +
			"other address TLS only, port 7443. An empty list turns the page off."},
	{"page.allowed_hosts", "list of host names, at most 16",
		"Names a browser may use for this node beside its addresses and localhost.\n" +
			"Requests for any other name are refused."},
	{"page.name", "one label of letters, digits and -",
		"The page's name on the LAN, to which .local is added. Empty: outrider- and\n" +
			"the first characters of the node's identifier."},
	{"page.mdns", "true or false",
		"Answer on the LAN to that name (multicast DNS, 5353/udp), and to no other.\n" +
			"Only with profile lan, and where the page is served beyond loopback."},
	{"page.ca", "true or false",
		"Hand out the page's CA certificate all the time, in plain HTTP. It can be\n" +
			"done for some minutes instead: outrider page --ca-for 15m."},
	{"page.ca_port", "port, 0 to 65535",
		"Where that is done, on the addresses where the page is served with TLS."},

	{"store.limit_mb", "MB, 16 to 1000000",
		"Space on the disk, about, for messages carried and kept: they may fill half of\n" +
			"it, the other half is for their index and for what was deleted and not yet\n" +
			"cleared away. When it is full the neighbour with the largest share loses\n" +
			"first; the node's own mail is never evicted."},
	{"store.files_limit_mb", "MB, 0 to 100000000",
		"Space for the parts of files, own and carried; carried ones are taken until\n" +
			"half of it is used. 0 carries none."},
	{"store.reserve_percent", "percent, 0 to 90",
		"Share of the room for messages that is kept for this node's own users: what\n" +
			"is only carried never fills it."},
	{"store.free_floor_mb", "MB, 0 to 1000000",
		"Space on the disk that is never used: below it new mail is refused."},

	{"atak.enabled", "true or false",
		"Whether ATAK, WinTAK and iTAK can use this node as their TAK server. Each\n" +
			"client needs a connection package: outrider atak enroll."},
	{"atak.listen", "address[:port]",
		"Where TAK clients connect, TLS. Without a port: TAK's own."},
	{"atak.listen_https", "address[:port]",
		"Where TAK clients fetch and hand in files, TLS. Without a port: TAK's own."},
	{"atak.share_with", "list of names or ids, at most 64; \"*\" is everybody",
		"Who gets the positions of this node's TAK clients, each sealed for its reader.\n" +
			"An empty list shares none."},
	{"atak.interval_s", "seconds, 1 to 3600",
		"The least time between two positions of one user. Only the newest is sent."},
	{"atak.tls12", "true or false",
		"Takes TLS 1.2 from old clients too. It shows their certificates to whoever\n" +
			"listens; with one of them and this node's disk that user's mail can be read."},

	{"calls.enabled", "true or false",
		"Whether users of this node can call each other. The port is open while\n" +
			"somebody is in a call, and shut otherwise."},
	{"calls.listen", "address[:port], or empty",
		"Where the sealed media of calls is taken and given, udp and tcp. Without a\n" +
			"port: 7420. Empty: where the page is served."},
	{"calls.force_tcp", "true or false",
		"Leave udp out, for networks that drop it. Calls then stutter where packets\n" +
			"are lost."},

	{"position.source", "gpsd://address[:port], a path, or empty",
		"The node's receiver: gpsd (port 2947), or a serial device that speaks NMEA 0183\n" +
			"such as /dev/ttyACM0, for which the packaged service needs receiver.conf of\n" +
			"/usr/share/doc/outrider/examples. Its position is sent only when a user shares it."},

	{"core.servers", "list of name-or-address:port, at most 8",
		"The servers of the core, which takes mail for far units while a backhaul is\n" +
			"there. An empty list turns it off. See outrider core --help."},
	{"core.seed_file", "path",
		"This node's nkey at the core, from whoever runs it; readable by the node alone.\n" +
			"This and the paths below may begin in the node's folder."},
	{"core.cert_file", "path, or empty",
		"Certificate that this node shows to the core's servers."},
	{"core.key_file", "path, or empty",
		"The certificate's key."},
	{"core.ca_file", "path, or empty",
		"CA that has signed the servers' certificates. Without one the pins decide alone."},
	{"core.pins", "list of SHA-256 in base64, at most 4",
		"Public keys that the servers may show, the current and the backup. With any\n" +
			"other key nothing is sent, whoever has signed its certificate."},

	{"log.level", "debug, info, warn or error",
		"The least urgent lines that are written."},
	{"log.format", "text or json",
		"How log lines look, on standard error."},

	{"metrics.listen", "loopback address[:port], or empty",
		"Where figures for Prometheus are handed out, at /metrics; \"127.0.0.1\" takes\n" +
			"port 7490. Empty: nowhere. Everybody on this machine can read them."},
}

// leaf finds a field's value in c by its key.
func leaf(c *Config, key string) (reflect.Value, bool) {
	v := reflect.ValueOf(c).Elem()
	for _, part := range strings.Split(key, ".") {
		found := false
		for i := range v.NumField() {
			if v.Type().Field(i).Tag.Get("toml") == part {
				v, found = v.Field(i), true
				break
			}
		}
		if !found {
			return reflect.Value{}, false
		}
	}
	return v, true
}

// Value returns the text of one setting as it would stand in the file.
func (c Config) Value(key string) string {
	v, ok := leaf(&c, key)
	if !ok {
		return ""
	}
	return literal(v)
}

func literal(v reflect.Value) string {
	switch v.Kind() {
	case reflect.String:
		return quote(v.String())
	case reflect.Slice:
		parts := make([]string, v.Len())
		for i := range parts {
			parts[i] = literal(v.Index(i))
		}
		return "[" + strings.Join(parts, ", ") + "]"
	default:
		return fmt.Sprint(v.Interface())
	}
}

// quote writes a TOML basic string (TOML 1.0, "String").
func quote(s string) string {
	var b strings.Builder
	b.WriteByte('"')
	for _, r := range s {
		switch {
		case r == '"' || r == '\\':
			b.WriteByte('\\')
			b.WriteRune(r)
		case r < 0x20 || r == 0x7f:
			fmt.Fprintf(&b, `\u%04x`, r)
		default:
			b.WriteRune(r)
		}
	}
	b.WriteByte('"')
	return b.String()
}

// Text writes c as a file that Parse reads back to the same value. With
// comment, every setting is explained; settings that have their default are
// then written behind a '#', so that a later version's default can reach them.
func (c Config) Text(comment bool) string {
	var b strings.Builder
	def, section := Default(), ""
	if comment {
		b.WriteString("# Settings of this Outrider node. Every line that is commented out shows the\n" +
			"# default. `outrider config check` finds mistakes without starting the node.\n")
	}
	for _, f := range Fields {
		sec, name := "", f.Key
		if i := strings.IndexByte(f.Key, '.'); i >= 0 {
			sec, name = f.Key[:i], f.Key[i+1:]
		}
		if sec != section {
			fmt.Fprintf(&b, "\n[%s]\n", sec)
			section = sec
		}
		value, mark := c.Value(f.Key), ""
		if comment {
			b.WriteString("\n")
			for _, line := range strings.Split(f.Doc, "\n") {
				fmt.Fprintf(&b, "# %s\n", line)
			}
			fmt.Fprintf(&b, "# Unit: %s. Default: %s\n", f.Unit, def.Value(f.Key))
			if value == def.Value(f.Key) {
				mark = "# "
			}
		}
		fmt.Fprintf(&b, "%s%s = %s\n", mark, name, value)
	}
	return b.String()
}

// Sample is the documented file with nothing but defaults: what
// node/dist/outrider.toml holds and `outrider config show --defaults` prints.
func Sample() string { return Default().Text(true) }
