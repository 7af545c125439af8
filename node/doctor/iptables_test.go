package doctor

import (
	"encoding/json"
	"os/exec"
	"strings"
	"testing"

	"outrider/node/config"
)

// saved lets iptables itself print the rules that a script makes, in a network
// namespace of its own.
func saved(t *testing.T, family, script string) *ruleset {
	t.Helper()
	tool := map[string]string{"ip": "iptables-legacy-save", "ip6": "ip6tables-legacy-save"}[family]
	cmd := exec.Command("unshare", "-rn", "sh", "-ec", script+"\n"+tool)
	cmd.Env = append(cmd.Environ(), "PATH=/usr/sbin:/sbin:/usr/bin:/bin", "XTABLES_LOCKFILE=/dev/null")
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%s: %v: %s (iptables is needed; as root: apt-get install -y --no-install-recommends iptables)", tool, err, err.(*exec.ExitError).Stderr)
	}
	r := &ruleset{sets: map[string]json.RawMessage{}}
	r.addSaved(family, string(out))
	return r
}

func TestP04FirewallOfIptables(t *testing.T) {
	for _, c := range []struct{ name, rules, want string }{
		{"none", "", ""},
		{"shut", "-P INPUT DROP", "the policy of chain INPUT in table filter"},
		{"shut but for loopback", "-P INPUT DROP; -A INPUT -i lo -j ACCEPT; -A INPUT -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT", "policy"},
		{"let in", "-P INPUT DROP; -A INPUT -p tcp --dport 7411 -j ACCEPT", ""},
		{"let in, with a comment", "-P INPUT DROP; -A INPUT -p tcp -m tcp --dport 7411 -m comment --comment 'our \"own\" -j DROP' -j ACCEPT", ""},
		{"a range", "-P INPUT DROP; -A INPUT -p tcp --dport 7000:7999 -j ACCEPT", ""},
		{"a list", "-P INPUT DROP; -A INPUT -p tcp -m multiport --dports 22,7410:7411 -j ACCEPT", ""},
		{"a list without it", "-P INPUT DROP; -A INPUT -p tcp -m multiport --dports 22,7412:7419 -j ACCEPT", "policy"},
		{"the other protocol", "-P INPUT DROP; -A INPUT -p udp --dport 7411 -j ACCEPT", "policy"},
		{"any protocol", "-P INPUT DROP; -A INPUT -p all -j ACCEPT", ""},
		{"all but ssh", "-A INPUT -p tcp ! --dport 22 -j REJECT --reject-with tcp-reset", "rule 1 of chain INPUT in table filter"},
		{"all but udp", "-A INPUT ! -p udp -j DROP", "rule 1"},
		{"not loopback", "-A INPUT ! -i lo -j DROP", "rule 1"},
		{"new ones", "-P INPUT DROP; -A INPUT -p tcp -m state --state NEW --dport 7411 -j ACCEPT", ""},
		{"in order", "-A INPUT -p tcp --dport 7411 -j DROP; -I INPUT -p tcp --dport 7411 -j ACCEPT", ""},
		{"a chain of its own", "-N ours; -A ours -p tcp --dport 7411 -j DROP; -A INPUT -j ours", "rule 1 of chain ours"},
		{"a chain that returns", "-N ours; -A ours -j RETURN; -A ours -j DROP; -A INPUT -j ours", ""},
		{"gone to for good", "-P INPUT DROP; -N ours; -A INPUT -g ours; -A INPUT -j ACCEPT", "policy"},
		{"logged", "-A INPUT -j LOG --log-prefix 'a word '; -A INPUT -p tcp -j DROP", "rule 2"},
		{"from somewhere", "-P INPUT DROP; -A INPUT -s 10.0.0.0/8 -j ACCEPT", ""}, // nobody knows from where
		{"some interface", "-P INPUT DROP; -A INPUT -i eth+ -j ACCEPT", ""},
		{"limited", "-P INPUT DROP; -A INPUT -m limit --limit 5/second -j ACCEPT", ""},
		{"some are dropped", "-A INPUT -m limit --limit 5/second -j DROP", ""}, // and this proves nothing
		{"given to a program", "-P INPUT DROP; -A INPUT -j NFQUEUE --queue-num 1", ""},
		{"before the routes", "-t raw -A PREROUTING -p tcp --dport 7411 -j DROP", "rule 1 of chain PREROUTING in table raw"},
		{"the way out", "-P OUTPUT DROP; -P FORWARD DROP", ""},
	} {
		for family, tool := range map[string]string{"ip": "iptables-legacy", "ip6": "ip6tables-legacy"} {
			rules := c.rules
			if family == "ip6" {
				rules = strings.ReplaceAll(rules, "10.0.0.0/8", "fd00::/8")
			}
			script := ""
			for _, line := range strings.Split(rules, ";") {
				if line = strings.TrimSpace(line); line != "" {
					script += tool + " " + line + "\n"
				}
			}
			r := saved(t, family, script)
			got, in := r.drops(packet{proto: "tcp", port: 7411, v6: family == "ip6"})
			if (got == "") != (c.want == "") || !strings.Contains(got, c.want) || got != "" && iptables(in) != tool {
				t.Errorf("%s, %s: %q, want %q", tool, c.name, got, c.want)
			}
			if got, _ := r.drops(packet{proto: "tcp", port: 7411, v6: family != "ip6"}); got != "" {
				t.Errorf("%s, %s: the other IP: %q", tool, c.name, got)
			}
		}
	}
}

// Rules that today's iptables makes are seen through nft, and cured with
// iptables: a line in another table would not let anything in.
func TestP04CureFitsTheChain(t *testing.T) {
	r := compiledBy(t, "PATH=$PATH:/usr/sbin:/sbin; XTABLES_LOCKFILE=/dev/null iptables-nft -P INPUT DROP")
	why, in := r.drops(packet{proto: "tcp", port: 7411})
	if why == "" || in.legacy {
		t.Fatalf("a policy set with iptables-nft: %q", why)
	}
	p := outsidePort(t)
	for _, c := range []struct {
		in   *chain
		want string
	}{
		{in, "iptables -I INPUT -p tcp --dport 7411 -j ACCEPT"},
		{&chain{Family: "ip6", Table: "filter", Name: "INPUT", legacy: true}, "ip6tables-legacy -I INPUT -p tcp --dport 7411 -j ACCEPT"},
		{&chain{Family: "ip", Table: "raw", Name: "PREROUTING", legacy: true}, "iptables-legacy -t raw -I PREROUTING -p tcp --dport 7411 -j ACCEPT"},
		{&chain{Family: "inet", Table: "filter", Name: "input"}, "nft 'add rule inet filter input tcp dport { 7411 } accept"},
		{&chain{Family: "ip6", Table: "filter", Name: "input"}, "nft 'add rule inet filter input tcp dport { 7411 } accept"},
	} {
		if got := openCure(c.in, p); !strings.Contains(got, c.want) {
			t.Errorf("cure %q, want %q in it", got, c.want)
		}
	}
}

func FuzzSaved(f *testing.F) {
	f.Add("*filter\n:INPUT DROP [0:0]\n:a - [0:0]\n-A INPUT ! -p tcp -m tcp --dport 1:2 -m comment --comment \"x \\\" y\" -j a\n-A a -g INPUT\nCOMMIT\n")
	f.Add("*filter\n:INPUT ACCEPT [0:0]\n-A INPUT -m multiport --dports 1,2,x -j REJECT --reject-with y\n-A\n-A INPUT\n-A INPUT !\n-A INPUT -j")
	f.Fuzz(func(t *testing.T, text string) {
		r := &ruleset{sets: map[string]json.RawMessage{}}
		r.addSaved("ip", text)
		r.drops(packet{proto: "tcp", port: 7411})
		r.drops(packet{proto: "udp"})
	})
}

// outsidePort is the mesh's tcp port of the defaults.
func outsidePort(t *testing.T) config.Port {
	t.Helper()
	for _, p := range config.Default().Ports() {
		if p.Port == 7411 && p.Proto == "tcp" {
			return p
		}
	}
	t.Fatal("the defaults have no port 7411/tcp")
	return config.Port{}
}
