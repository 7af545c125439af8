package config

import (
	"strings"
	"testing"
)

// The table [core] is refused with the line when something is missing or
// out of bounds, one past each limit.
func TestCoreSettings(t *testing.T) {
	const pin = "47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU="
	good := "[core]\nservers = [\"core.example.org:4222\", \"tls://192.0.2.1:4222\"]\nseed_file = \"core/n.seed\"\npins = [\"" + pin + "\", \"sha256/" + pin + "\"]\n"
	c, err := Parse([]byte(good))
	if err != nil || len(c.Core.Servers) != 2 || len(c.Core.Pins) != 2 {
		t.Fatalf("%+v, %v", c.Core, err)
	}
	if d := Default().Core; len(d.Servers) != 0 {
		t.Error("a core by default")
	}
	list := func(s string, n int) string { return strings.Repeat("\""+s+"\", ", n-1) + "\"" + s + "\"" }
	for name, x := range map[string][2]string{
		"no port":        {"[core]\nservers = [\"core\"]\nseed_file = \"x\"\nca_file = \"x\"", "core.servers: \"core\" is no name"},
		"port 0":         {"[core]\nservers = [\"core:0\"]\nseed_file = \"x\"\nca_file = \"x\"", "core.servers: \"core:0\""},
		"nine servers":   {"[core]\nservers = [" + list("a:1", 9) + "]\nseed_file = \"x\"\nca_file = \"x\"", "core.servers: 9 entries"},
		"no seed":        {"[core]\nservers = [\"a:1\"]\nca_file = \"x\"", "core.seed_file: the core has to know this node"},
		"no trust":       {"[core]\nservers = [\"a:1\"]\nseed_file = \"x\"", "core.pins: nothing says which server is the core"},
		"half a pair":    {"[core]\nservers = [\"a:1\"]\nseed_file = \"x\"\nca_file = \"x\"\ncert_file = \"x\"", "core.key_file: a certificate and its key"},
		"a short pin":    {"[core]\npins = [\"AAAA\"]", "core.pins: \"AAAA\" is no pin"},
		"five pins":      {"[core]\npins = [" + list(pin, 5) + "]", "core.pins: 5 entries"},
		"a long path":    {"[core]\nseed_file = \"" + strings.Repeat("x", corePathMax+1) + "\"", "core.seed_file:"},
		"an unknown key": {"[core]\nserver = []", "server"},
	} {
		if _, err := Parse([]byte(x[0])); err == nil || !strings.Contains(err.Error(), x[1]) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
