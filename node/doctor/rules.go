package doctor

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// The kernel's packet filter, as `nft -j list ruleset` prints it
// (libnftables-json(5)); iptables of today is a front of the same, and that of
// yesterday is read by iptables.go. A packet that begins a connection from another machine is led through the chains
// that see incoming packets. What is not understood counts as "may match":
// then nothing is claimed of the rules behind it.

// A ruleset is what filters incoming packets.
type ruleset struct {
	chains []*chain
	sets   map[string]json.RawMessage // family/table/name to elements
	steps  int                        // rules looked at for one packet
}

type chain struct {
	Family, Table, Name, Type, Hook, Policy string
	Prio                                    json.RawMessage

	rules  []rule
	legacy bool // of iptables-legacy
}

type rule struct {
	Family, Table, Chain string
	Expr                 []map[string]json.RawMessage
	Comment              string
}

// A packet begins a connection to a port of ours, from another machine.
type packet struct {
	proto string // tcp, udp
	port  uint16
	v6    bool
}

// family is the packet's in the words of nft: of chains, and of nfproto.
func (p packet) family() (chains, nfproto string) {
	if p.v6 {
		return "ip6", "ipv6"
	}
	return "ip", "ipv4"
}

// A fate is what becomes of a packet in a chain.
type fate int

const (
	goesOn  fate = iota // the chain's end, or return
	let                 // accepted
	dropped             // for certain
	unsure              // a rule that may match may let it in
)

const (
	rulesTime = 5 * time.Second
	rulesMax  = 16 << 20 // bytes of a ruleset
	jumpsMax  = 16       // nf_tables allows as many
	stepsMax  = 100_000  // rules looked at for one packet
)

var errNoRules = errors.New("doctor: the firewall's rules cannot be read")

// readRules asks nft, and iptables-legacy for what is still in its own tables.
// It fails where neither tells: the program is not there, or we may not.
func readRules(ctx context.Context, proc string) (*ruleset, error) {
	old, oldErr := readLegacy(ctx, proc)
	var r *ruleset
	raw, err := printRules(ctx, "nft", "-j", "list", "ruleset")
	if err == nil {
		r, err = parseRules(raw)
	}
	switch {
	case err != nil && (oldErr != nil || len(old.chains) == 0):
		return nil, errNoRules
	case err != nil:
		return old, nil
	case oldErr == nil:
		r.chains = append(r.chains, old.chains...)
	}
	return r, nil
}

// printRules runs a program that prints rules.
func printRules(ctx context.Context, name string, args ...string) ([]byte, error) {
	path := name
	for _, dir := range []string{"/usr/sbin", "/sbin", "/usr/bin"} {
		if p, err := exec.LookPath(filepath.Join(dir, name)); err == nil {
			path = p
			break
		}
	}
	ctx, cancel := context.WithTimeout(ctx, rulesTime)
	defer cancel()
	raw, err := exec.CommandContext(ctx, path, args...).Output()
	if err != nil || len(raw) == 0 || len(raw) > rulesMax {
		return nil, errNoRules
	}
	return raw, nil
}

func parseRules(raw []byte) (*ruleset, error) {
	var doc struct {
		Nftables []map[string]json.RawMessage
	}
	if err := json.Unmarshal(raw, &doc); err != nil || doc.Nftables == nil {
		return nil, errNoRules
	}
	r := &ruleset{sets: map[string]json.RawMessage{}}
	for _, item := range doc.Nftables {
		if v, ok := item["chain"]; ok {
			c := &chain{}
			if json.Unmarshal(v, c) == nil {
				r.chains = append(r.chains, c)
			}
		}
		if v, ok := item["set"]; ok {
			var s struct {
				Family, Table, Name string
				Elem                json.RawMessage
			}
			if json.Unmarshal(v, &s) == nil {
				r.sets[s.Family+"/"+s.Table+"/"+s.Name] = s.Elem
			}
		}
		if v, ok := item["rule"]; ok {
			var u rule
			if json.Unmarshal(v, &u) == nil {
				if c := r.chain(u.Family, u.Table, u.Chain); c != nil {
					c.rules = append(c.rules, u)
				}
			}
		}
	}
	return r, nil
}

func (r *ruleset) chain(family, table, name string) *chain {
	for _, c := range r.chains {
		if c.Family == family && c.Table == table && c.Name == name {
			return c
		}
	}
	return nil
}

// drops says which rule or policy certainly drops a packet, and in which base
// chain; "" if none does.
func (r *ruleset) drops(p packet) (why string, in *chain) {
	r.steps = 0
	family, _ := p.family()
	for _, c := range r.chains {
		if c.Hook != "input" && c.Hook != "prerouting" || c.Type != "filter" || c.Family != "inet" && c.Family != family {
			continue
		}
		f, why := r.run(c, p, 0)
		if f == goesOn && c.Policy == "drop" {
			f, why = dropped, "the policy of chain "+c.Name+" in table "+c.Table
		}
		if f == dropped {
			return why, c
		}
	}
	return "", nil
}

// run leads a packet through a chain.
func (r *ruleset) run(c *chain, p packet, depth int) (fate, string) {
	if depth > jumpsMax {
		return unsure, ""
	}
	maybe := false
	for i, u := range c.rules {
		if r.steps++; r.steps > stepsMax {
			return unsure, ""
		}
		f, why, certain := r.apply(u, p, depth)
		if f == dropped && certain && why == "" {
			why = fmt.Sprintf("rule %d of chain %s in table %s", i+1, c.Name, c.Table)
		}
		switch {
		case f == goesOn:
		case f == unsure, !certain && f == let:
			maybe = true // it may have been let in already
		case !certain:
			// a rule that may drop proves nothing
		case maybe && f == dropped:
			return unsure, ""
		case f == returned:
			return end(maybe)
		default:
			return f, why
		}
	}
	return end(maybe)
}

func end(maybe bool) (fate, string) {
	if maybe {
		return unsure, ""
	}
	return goesOn, ""
}

// returned is goesOn with the rest of the chain left out.
const returned fate = 100

// apply says what a rule does with a packet, and whether it matches for
// certain.
func (r *ruleset) apply(u rule, p packet, depth int) (f fate, why string, certain bool) {
	certain = true
	for _, x := range u.Expr {
		for key, raw := range x {
			switch key {
			case "match":
				switch r.match(u, raw, p) {
				case no:
					return goesOn, "", true
				case perhaps:
					certain = false
				}
			case "accept":
				return let, "", certain
			case "drop", "reject":
				return dropped, "", certain
			case "return":
				return returned, "", certain
			case "jump", "goto":
				var to struct{ Target string }
				if json.Unmarshal(raw, &to) != nil {
					return unsure, "", false
				}
				return r.enter(u, to.Target, key == "goto", p, depth, certain)
			case "vmap":
				return r.verdictMap(u, raw, p, depth, certain)
			case "counter", "log", "comment", "mangle", "notrack", "meta":
			default: // limits, quotas, extensions of iptables
				certain = false
			}
		}
	}
	return goesOn, "", certain
}

// enter follows a jump. What a goto's chain lets pass leaves this one, too.
func (r *ruleset) enter(u rule, target string, final bool, p packet, depth int, certain bool) (fate, string, bool) {
	c := r.chain(u.Family, u.Table, target)
	if c == nil {
		return unsure, "", false
	}
	f, why := r.run(c, p, depth+1)
	if f == goesOn && final {
		f = returned
	}
	return f, why, certain
}

// verdictMap is a rule such as `ct state vmap { established : accept }`.
func (r *ruleset) verdictMap(u rule, raw json.RawMessage, p packet, depth int, certain bool) (fate, string, bool) {
	var m struct {
		Key  json.RawMessage
		Data struct{ Set [][2]json.RawMessage }
	}
	if json.Unmarshal(raw, &m) != nil || m.Data.Set == nil {
		return unsure, "", false
	}
	maybe := false
	for _, pair := range m.Data.Set {
		match, err := json.Marshal(map[string]json.RawMessage{"op": json.RawMessage(`"=="`), "left": m.Key, "right": pair[0]})
		var verdict map[string]json.RawMessage
		if err != nil || json.Unmarshal(pair[1], &verdict) != nil {
			return unsure, "", false
		}
		switch r.match(u, match, p) {
		case perhaps:
			maybe = true
		case yes:
			return r.apply(rule{Family: u.Family, Table: u.Table, Expr: []map[string]json.RawMessage{verdict}}, p, depth)
		}
	}
	if maybe {
		return unsure, "", false
	}
	return goesOn, "", certain
}

// An answer says whether a match fits a packet.
type answer int

const (
	no answer = iota
	yes
	perhaps
)

func not(a answer) answer {
	switch a {
	case no:
		return yes
	case yes:
		return no
	}
	return perhaps
}

func is(b bool) answer {
	if b {
		return yes
	}
	return no
}

func (r *ruleset) match(u rule, raw json.RawMessage, p packet) answer {
	var m struct {
		Op          string
		Left, Right json.RawMessage
	}
	if json.Unmarshal(raw, &m) != nil {
		return perhaps
	}
	value, a := fieldOf(m.Left, p)
	if value == nil {
		return a
	}
	switch fits := r.in(u, m.Right, value); m.Op {
	case "==", "in":
		return fits
	case "!=":
		return not(fits)
	}
	return perhaps
}

// fieldOf returns what a packet has in the field that a match looks at; nil
// and an answer where the field decides by itself.
func fieldOf(raw json.RawMessage, p packet) (any, answer) {
	var left struct {
		Payload *struct{ Protocol, Field string }
		Meta    *struct{ Key string }
		Ct      *struct{ Key string }
	}
	if json.Unmarshal(raw, &left) != nil {
		return nil, perhaps
	}
	_, nfproto := p.family()
	other := map[bool]string{false: "ip6", true: "ip"}[p.v6] // a header that this packet has not
	switch {
	case left.Payload != nil && left.Payload.Field == "dport":
		if left.Payload.Protocol != "th" && left.Payload.Protocol != p.proto {
			return nil, no
		}
		return float64(p.port), yes
	case left.Payload != nil && left.Payload.Protocol == other:
		return nil, no
	case left.Payload != nil && left.Payload.Protocol == "ip" && left.Payload.Field == "protocol",
		left.Payload != nil && left.Payload.Protocol == "ip6" && left.Payload.Field == "nexthdr",
		left.Meta != nil && left.Meta.Key == "l4proto":
		return p.proto, yes
	case left.Payload != nil && slices.Contains([]string{"icmp", "icmpv6", "sctp", "dccp"}, left.Payload.Protocol),
		left.Payload != nil && (left.Payload.Protocol == "tcp" || left.Payload.Protocol == "udp") && left.Payload.Protocol != p.proto:
		return nil, no
	case left.Meta != nil && left.Meta.Key == "nfproto":
		return nfproto, yes
	case left.Meta != nil && (left.Meta.Key == "iifname" || left.Meta.Key == "iif"):
		return elsewhere, yes
	case left.Ct != nil && left.Ct.Key == "state":
		return "new", yes
	}
	return nil, perhaps
}

// elsewhere stands for any interface but loopback.
type anyInterface struct{}

var elsewhere = anyInterface{}

// in says whether a value is what stands on the right of a match: a value, a
// range, a list, or a set by name.
func (r *ruleset) in(u rule, raw json.RawMessage, value any) answer {
	var right any
	if json.Unmarshal(raw, &right) != nil {
		return perhaps
	}
	return r.fits(u, right, value, 0)
}

func (r *ruleset) fits(u rule, right, value any, depth int) answer {
	switch v := right.(type) {
	case string:
		if name, ok := strings.CutPrefix(v, "@"); ok {
			elem, known := r.sets[u.Family+"/"+u.Table+"/"+name]
			var list any
			if !known || depth > 0 || json.Unmarshal(elem, &list) != nil && len(elem) > 0 {
				return perhaps
			}
			return r.fits(u, list, value, depth+1)
		}
		if value == elsewhere {
			if v == "lo" {
				return no
			}
			return perhaps
		}
		return is(v == value)
	case float64:
		return is(v == value)
	case nil:
		return no // an empty set
	case []any:
		return r.anyOf(u, v, value, depth)
	case map[string]any:
		if set, ok := v["set"].([]any); ok {
			return r.anyOf(u, set, value, depth)
		}
		if elem, ok := v["elem"].(map[string]any); ok {
			return r.fits(u, elem["val"], value, depth)
		}
		port, isPort := value.(float64)
		if ends, ok := v["range"].([]any); ok && len(ends) == 2 && isPort {
			low, ok1 := ends[0].(float64)
			high, ok2 := ends[1].(float64)
			if ok1 && ok2 {
				return is(low <= port && port <= high)
			}
		}
	}
	return perhaps
}

func (r *ruleset) anyOf(u rule, list []any, value any, depth int) answer {
	out := no
	for _, v := range list {
		switch r.fits(u, v, value, depth) {
		case yes:
			return yes
		case perhaps:
			out = perhaps
		}
	}
	return out
}
