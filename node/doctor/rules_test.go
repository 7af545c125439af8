package doctor

import (
	"fmt"
	"net/netip"
	"os/exec"
	"strings"
	"testing"
)

func mustAddr(s string) netip.AddrPort { return netip.MustParseAddrPort(s) }

// compiled lets nft itself turn rules into JSON, without touching the kernel's.
func compiled(t *testing.T, lines ...string) *ruleset {
	t.Helper()
	return compiledBy(t, "true", lines...)
}

// compiledBy is compiled after a shell script.
func compiledBy(t *testing.T, script string, lines ...string) *ruleset {
	t.Helper()
	nft, err := exec.LookPath("nft")
	if err != nil {
		if nft, err = exec.LookPath("/usr/sbin/nft"); err != nil {
			t.Fatal("nft is missing; as root: apt-get install -y --no-install-recommends nftables")
		}
	}
	// A network namespace of its own: root's, or one in a user namespace.
	script = fmt.Sprintf("{ %s; } && %s -f - && %s -j list ruleset", script, nft, nft)
	cmd := exec.Command("unshare", "-rn", "sh", "-c", script)
	cmd.Stdin = strings.NewReader(strings.Join(lines, "\n"))
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("nft: %v: %s", err, err.(*exec.ExitError).Stderr)
	}
	r, err := parseRules(out)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestFirewall(t *testing.T) {
	chain := func(policy string, rules ...string) string {
		return "table inet filter {\nset ours { type inet_service; elements = { 7410, 7411 } }\nchain sub {\ntcp dport 7411 drop\n}\nchain in { type filter hook input priority 0; policy " + policy + ";\n" + strings.Join(rules, "\n") + "\n}\n}"
	}
	for _, c := range []struct {
		name  string
		rules string
		want  string // in what is said of 7411/tcp, "" for let in
	}{
		{"none", "", ""},
		{"open", chain("accept"), ""},
		{"shut", chain("drop"), "policy of chain in"},
		{"shut but for loopback", chain("drop", "iifname lo accept", "ct state established accept"), "policy"},
		{"our own line", chain("drop", "tcp dport { 7410, 7411 } accept"), ""},
		{"a range", chain("drop", "tcp dport 7000-7999 accept"), ""},
		{"a named set", chain("drop", "tcp dport @ours accept"), ""},
		{"the other protocol", chain("drop", "udp dport { 7410, 7411 } accept"), "policy"},
		{"any protocol", chain("drop", "meta l4proto { tcp, udp } th dport 7411 accept"), ""},
		{"all but ssh", chain("accept", "tcp dport != 22 reject"), "rule 1 of chain in"},
		{"not loopback", chain("accept", `iifname != "lo" drop`), "rule 1"},
		{"one line before", chain("drop", "tcp dport 7411 drop", "tcp dport 7411 accept"), "rule 1"},
		{"a jump", chain("accept", "jump sub"), "rule 1 of chain sub"},
		{"a jump for others", chain("accept", "udp dport 1 jump sub"), ""},
		{"new ones", chain("drop", "ct state new tcp dport 7411 accept"), ""},
		{"a map", chain("drop", "ct state vmap { established : accept, new : jump sub }"), "chain sub"},
		{"from somewhere", chain("drop", "ip saddr 10.0.0.0/8 accept"), ""},   // nobody knows from where
		{"an interface", chain("drop", "iifname eth0 accept"), ""},            // nor by which
		{"some are dropped", chain("accept", "ip saddr 10.0.0.0/8 drop"), ""}, // and this proves nothing
		{"limited", chain("drop", "limit rate 5/second accept"), ""},
		{"counted", chain("drop", "counter tcp dport 7411 counter accept"), ""},
		{"another family", "table ip6 filter {\nchain in { type filter hook input priority 0; policy drop; }\n}", ""},
		{"the way out", "table inet filter {\nchain out { type filter hook output priority 0; policy drop; }\n}", ""},
		{"a second table", chain("accept") + "\ntable ip late {\nchain in { type filter hook input priority 10; policy drop; }\n}", "table late"},
	} {
		got, _ := compiled(t, c.rules).drops(packet{proto: "tcp", port: 7411})
		if (got == "") != (c.want == "") || !strings.Contains(got, c.want) {
			t.Errorf("%s: %q, want %q", c.name, got, c.want)
		}
	}
}

func FuzzRules(f *testing.F) {
	f.Add([]byte(`{"nftables":[{"chain":{"family":"inet","table":"t","name":"c","type":"filter","hook":"input","policy":"drop"}},
		{"set":{"family":"inet","table":"t","name":"s","elem":[1,{"range":[2,3]}]}},
		{"rule":{"family":"inet","table":"t","chain":"c","expr":[{"match":{"op":"==","left":{"payload":{"protocol":"tcp","field":"dport"}},"right":"@s"}},{"jump":{"target":"c"}}]}},
		{"rule":{"family":"inet","table":"t","chain":"c","expr":[{"vmap":{"key":{"ct":{"key":"state"}},"data":{"set":[["new",{"goto":{"target":"c"}}]]}}}]}}]}`))
	f.Add([]byte(`{"nftables":[]}`))
	f.Add([]byte(`{"nftables":[{"rule":{}}]}`))
	f.Fuzz(func(t *testing.T, raw []byte) {
		if r, err := parseRules(raw); err == nil {
			r.drops(packet{proto: "tcp", port: 7411})
			r.drops(packet{proto: "udp", v6: true})
		}
	})
}

// What only IPv6 is led through says nothing of IPv4, and the other way round.
func TestP04FirewallIPv6(t *testing.T) {
	chain := func(family string, rules string) string {
		return "table " + family + " t {\nchain in { type filter hook input priority 0; policy drop;\n" + rules + "\n}\n}"
	}
	for _, c := range []struct {
		name, rules    string
		drops4, drops6 bool
	}{
		{"ip6 alone", chain("ip6", ""), false, true},
		{"ip alone", chain("ip", ""), true, false},
		{"inet", chain("inet", ""), true, true},
		{"inet, IPv4 let in", chain("inet", "meta nfproto ipv4 tcp dport 7411 accept"), false, true},
		{"inet, IPv6 let in", chain("inet", "meta nfproto ipv6 tcp dport 7411 accept"), true, false},
		{"inet, a header of IPv6", chain("inet", "ip6 nexthdr tcp accept"), true, false},
		{"inet, a header of IPv4", chain("inet", "ip protocol tcp accept"), false, true},
		{"neighbours are found", chain("ip6", "icmpv6 type { nd-neighbor-solicit, nd-router-advert } accept"), false, true},
		{"from link-local", chain("ip6", "ip6 saddr fe80::/10 accept"), false, false}, // nobody knows from where
		{"let in", chain("ip6", "udp dport 7410 accept\ntcp dport { 7411, 7443 } accept"), false, false},
	} {
		r := compiled(t, c.rules)
		four, _ := r.drops(packet{proto: "tcp", port: 7411})
		six, in := r.drops(packet{proto: "tcp", port: 7411, v6: true})
		if (four != "") != c.drops4 || (six != "") != c.drops6 || c.drops6 && in == nil {
			t.Errorf("%s: over IPv4 %q, over IPv6 %q", c.name, four, six)
		}
	}
}
