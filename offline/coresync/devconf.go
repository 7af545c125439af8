package coresync

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// The servers' configuration, as coresync.md 6 has it.

// serverConf is one server's. Each gives its own name, ports and folder.
func (d *Dev) serverConf(i int) string {
	var routes []string
	for _, p := range d.state.Route {
		routes = append(routes, fmt.Sprintf("    \"tls://127.0.0.1:%d\"", p))
	}
	tls := func(indent string) string {
		return fmt.Sprintf("tls {\n%[1]s  cert_file: %[2]q\n%[1]s  key_file: %[3]q\n%[1]s  ca_file: %[4]q\n%[1]s  verify: true\n%[1]s  timeout: 10\n%[1]s}",
			indent, d.path("server.crt"), d.path("server.key"), d.path("ca.crt"))
	}
	return fmt.Sprintf(`# Written by outrider core dev; changes are lost.
server_name: core-n%[1]d
listen: "127.0.0.1:%[2]d"
pid_file: %[3]q
max_payload: 1MB
ping_interval: "5s"
ping_max: 2
write_deadline: "10s"
%[4]s
jetstream {
  store_dir: %[5]q
  max_mem: 256MB
  max_file: 200GB
  domain: core
  sync_interval: always
}
cluster {
  name: core
  listen: "127.0.0.1:%[6]d"
  routes: [
%[7]s
  ]
  %[8]s
}
system_account: SYS
include "accounts.conf"
`, i+1, d.state.Client[i], d.pidFile(i), tls(""), d.path(fmt.Sprintf("n%d", i+1)), d.state.Route[i], strings.Join(routes, "\n"), tls("  "))
}

func (d *Dev) pidFile(i int) string { return d.path(fmt.Sprintf("core-n%d.pid", i+1)) }

func (d *Dev) confFile(i int) string { return d.path(fmt.Sprintf("core-n%d.conf", i+1)) }

// accountsConf says who may do what.
func (d *Dev) accountsConf() string {
	var users []string
	if d.state.Desk != "" {
		users = append(users, userConf(d.state.Desk, []string{">"}, []string{deskSubject("*"), inboxPrefix(d.state.Desk) + ".>"}))
	}
	for _, name := range slices.Sorted(maps.Keys(d.state.Nodes)) {
		node := d.state.Nodes[name]
		users = append(users, userConf(node, publishAllowed(node), []string{inboxPrefix(node) + ".>"}))
	}
	return "# Written by outrider core dev; changes are lost.\naccounts {\n  SYS {\n  }\n  UNITS {\n    jetstream: enabled\n    users: [\n" +
		strings.Join(users, "\n") + "\n    ]\n  }\n}\n"
}

// publishAllowed is all that a node may send: bundles and purge records into
// any mailbox, chunks under its own name, questions of its own, and what it
// takes to drain its own consumer.
func publishAllowed(node string) []string {
	c := consumerOf(node)
	return []string{
		"or.b.*.*", "or.b.*.*.r.*", "or.b.*.*.p.*", "or.f." + node + ".*.*", deskSubject(node),
		"$JS.API.CONSUMER.MSG.NEXT." + streamBox + "." + c, "$JS.API.CONSUMER.INFO." + streamBox + "." + c, "$JS.ACK." + streamBox + "." + c + ".>",
	}
}

func userConf(nkey string, publish, subscribe []string) string {
	quoted := func(list []string) string {
		var out []string
		for _, s := range list {
			out = append(out, fmt.Sprintf("            %q", s))
		}
		return strings.Join(out, "\n")
	}
	return fmt.Sprintf(`      {
        nkey: %s
        permissions: {
          publish: { allow: [
%s
          ] }
          subscribe: { allow: [
%s
          ] }
        }
      }`, nkey, quoted(publish), quoted(subscribe))
}

func (d *Dev) writeConf() error {
	for i := range devServers {
		if err := d.write(fmt.Sprintf("core-n%d.conf", i+1), []byte(d.serverConf(i)), 0o600); err != nil {
			return err
		}
	}
	return d.write("accounts.conf", []byte(d.accountsConf()), 0o600)
}
