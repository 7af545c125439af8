package doctor

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"strings"
)

// Rules of iptables-legacy lie in tables of their own, which nft does not show.
// iptables-save prints them one a line, as iptables-extensions(8) has them; here
// they become what nft would say, so that one judge does for all. An option that
// is not understood makes a rule one that may match.

// legacyFamilies are the two front ends: how nft calls their family, where the
// kernel lists the tables in use, and what prints them.
var legacyFamilies = []struct{ family, names, tool, other string }{
	{"ip", "/net/ip_tables_names", "iptables-legacy-save", "iptables-save"},
	{"ip6", "/net/ip6_tables_names", "ip6tables-legacy-save", "ip6tables-save"},
}

// readLegacy reads the rules of iptables-legacy and ip6tables-legacy. Where the
// kernel has none of them nothing is started: their programs would load modules.
func readLegacy(ctx context.Context, proc string) (*ruleset, error) {
	r := &ruleset{sets: map[string]json.RawMessage{}}
	for _, f := range legacyFamilies {
		names, err := os.ReadFile(proc + f.names)
		if os.IsNotExist(err) || err == nil && len(names) == 0 {
			continue
		}
		if err != nil {
			return nil, errNoRules
		}
		raw, err := printRules(ctx, f.tool)
		if err != nil {
			if raw, err = printRules(ctx, f.other); err != nil || strings.Contains(firstLine(raw), "nf_tables") {
				return nil, errNoRules
			}
		}
		r.addSaved(f.family, string(raw))
	}
	return r, nil
}

func firstLine(raw []byte) string {
	line, _, _ := strings.Cut(string(raw), "\n")
	return line
}

// hooks are the chains that see packets for this machine.
var hooks = map[string]string{"PREROUTING": "prerouting", "INPUT": "input"}

// addSaved adds the rules that iptables-save printed for a family. Those of nat
// only choose where to; they are left out, as nft's are.
func (r *ruleset) addSaved(family, text string) {
	table := ""
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		switch {
		case strings.HasPrefix(line, "*"):
			table = line[1:]
		case table == "" || table == "nat" || line == "COMMIT":
		case strings.HasPrefix(line, ":"):
			name, rest, _ := strings.Cut(line[1:], " ")
			policy, _, _ := strings.Cut(rest, " ")
			c := &chain{Family: family, Table: table, Name: name, Hook: hooks[name], Policy: strings.ToLower(policy), legacy: true}
			if c.Hook != "" {
				c.Type = "filter"
			}
			r.chains = append(r.chains, c)
		case strings.HasPrefix(line, "-A "):
			words := splitWords(line)
			if c := r.chain(family, table, words[1]); c != nil {
				c.rules = append(c.rules, rule{Family: family, Table: table, Chain: c.Name, Expr: r.saved(family, table, words[2:])})
			}
		}
	}
}

// splitWords splits a line at spaces; what stands in double quotes is one word.
func splitWords(line string) (words []string) {
	word, quoted, any := "", false, false
	for i := 0; i < len(line); i++ {
		switch c := line[i]; {
		case c == '\\' && quoted && i+1 < len(line):
			i++
			word += line[i : i+1]
		case c == '"':
			quoted, any = !quoted, true
		case c == ' ' && !quoted:
			if any {
				words = append(words, word)
			}
			word, any = "", false
		default:
			word, any = word+string(c), true
		}
	}
	if any {
		words = append(words, word)
	}
	if len(words) < 2 {
		words = append(words, "", "")
	}
	return words
}

type expr = map[string]json.RawMessage

// saved says a rule in nft's words.
func (r *ruleset) saved(family, table string, words []string) (out []expr) {
	proto := "th"
	for i := 0; i < len(words); i++ {
		negated := words[i] == "!"
		if negated && i+1 < len(words) {
			i++
		}
		option, value := words[i], ""
		if i+1 < len(words) {
			value = words[i+1]
		}
		op := "=="
		if negated {
			op = "!="
		}
		switch option {
		case "-p":
			if proto = protocol(value); negated {
				proto = "th"
			}
			out = append(out, matching(op, `{"meta":{"key":"l4proto"}}`, protocol(value)))
		case "--dport", "--destination-port":
			out = append(out, matching(op, `{"payload":{"protocol":"`+clean(proto)+`","field":"dport"}}`, ports(value)))
		case "--dports", "--destination-ports":
			out = append(out, matching(op, `{"payload":{"protocol":"`+clean(proto)+`","field":"dport"}}`, list(value, ports)))
		case "-i":
			out = append(out, matching(op, `{"meta":{"key":"iifname"}}`, value))
		case "--state", "--ctstate":
			out = append(out, matching(op, `{"ct":{"key":"state"}}`, list(strings.ToLower(value), func(s string) any { return s })))
		case "-m", "--comment", "--reject-with", "--log-prefix", "--log-level", "--nflog-group":
		case "-j", "-g":
			return append(out, r.target(family, table, option, value)...)
		default:
			out = append(out, expr{"unknown": nil})
			continue // what follows is its value, or another option: neither makes the rule certain
		}
		i++
	}
	return out
}

// matching is a match in nft's words.
func matching(op, left string, right any) expr {
	raw, err := json.Marshal(map[string]any{"op": op, "left": json.RawMessage(left), "right": right})
	if err != nil {
		return expr{"unknown": nil}
	}
	return expr{"match": raw}
}

// protocol is a protocol's name: some print its number.
func protocol(word string) string {
	switch word {
	case "6":
		return "tcp"
	case "17":
		return "udp"
	}
	return word
}

// clean is a word that can stand in JSON as it is.
func clean(word string) string {
	for _, c := range word {
		if (c < 'a' || c > 'z') && (c < '0' || c > '9') {
			return "th"
		}
	}
	return word
}

// ports is a port, or a range such as 7000:7999.
func ports(text string) any {
	var low, high int
	if n, _ := fmt.Sscanf(text, "%d:%d", &low, &high); n == 2 {
		return map[string]any{"range": []int{low, high}}
	}
	if n, _ := fmt.Sscanf(text, "%d", &low); n == 1 {
		return low
	}
	return map[string]any{"prefix": text} // nothing that is known
}

func list(text string, of func(string) any) any {
	var out []any
	for _, s := range strings.Split(text, ",") {
		out = append(out, of(s))
	}
	return map[string]any{"set": out}
}

// target says what a rule does with what it matches.
func (r *ruleset) target(family, table, option, name string) []expr {
	switch name {
	case "ACCEPT", "DROP", "REJECT", "RETURN":
		return []expr{{strings.ToLower(name): nil}}
	case "LOG", "NFLOG", "MARK", "CONNMARK", "TRACE", "ULOG", "AUDIT":
		return []expr{{"log": nil}}
	}
	if r.chain(family, table, name) == nil { // an extension that may take the packet
		return []expr{{"unknown": nil}, {"accept": nil}}
	}
	raw, err := json.Marshal(map[string]string{"target": name})
	if err != nil {
		return []expr{{"unknown": nil}, {"accept": nil}}
	}
	if option == "-g" {
		return []expr{{"goto": raw}}
	}
	return []expr{{"jump": raw}}
}
