package operate

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"outrider/field-tests/scenario"
	"outrider/offline/coresync"
)

// pillarFaults are the faults of calls, of the TAK bridge and of the way to
// the core that need no second program.
var pillarFaults = map[string]func(t *testing.T){
	"calls-unheard": func(t *testing.T) {
		b := founded(t, "unheard")
		toml := fmt.Sprintf("[page]\nlisten = [\"%s:%d\"]\n[calls]\nlisten = \"127.0.0.1:%d\"\n", outside, b.Page, freePorts(t, 1)[0])
		if err := os.WriteFile(filepath.Join(b.Dir, "outrider.toml"), []byte(toml), 0o640); err != nil {
			t.Fatal(err)
		}
		expect(t, consult(t, b, nil), "calls-unheard", "127.0.0.1")
	},
	"calls-page-unprotected": func(t *testing.T) {
		b := founded(t, "unprotected")
		configure(t, b, "allowed_hosts = [\"node7.example\"]\n") // still in the table of the page
		expect(t, consult(t, b, nil), "calls-page-unprotected", "node7.example")
	},
	"atak-no-client":      bridgeFaults("clientless", "", "atak-no-client"),
	"atak-shares-nothing": bridgeFaults("silent", "share_with = []\n", "atak-shares-nothing"),
	"atak-old-tls":        bridgeFaults("dated", "tls12 = true\n", "atak-old-tls"),
	"atak-ca-damaged": func(t *testing.T) {
		b := bridged(t, "unsigned", "")
		if err := errors.Join(b.Stop(), os.WriteFile(filepath.Join(b.Dir, "atak", "ca.key"), []byte("x"), 0o600)); err != nil {
			t.Fatal(err)
		}
		expect(t, consult(t, b, nil), "atak-ca-damaged", "atak")
	},
	"core-unreachable": func(t *testing.T) {
		b := founded(t, "cut-off")
		toCore(t, b)
		up(t, b)
		expect(t, consult(t, b, nil), "core-unreachable")
	},
	"core-opsec": func(t *testing.T) {
		b := box(t, "secretive")
		if _, err := b.Init(t.Context()); err != nil {
			t.Fatal(err)
		}
		if _, err := b.CLI(t.Context(), scenario.AdminPassword+"\n", "network", "create", "owl", "--preset", "opsec", "--password-file", "-"); err != nil {
			t.Fatal(err)
		}
		toCore(t, b)
		up(t, b)
		expect(t, consult(t, b, nil), "core-opsec")
	},
}

func freePorts(t *testing.T, n int) []int {
	t.Helper()
	ports, err := scenario.FreePorts("127.0.0.1", n)
	if err != nil {
		t.Fatal(err)
	}
	return ports
}

// bridged is a running node with a TAK bridge, to whose table extra is added.
func bridged(t *testing.T, name, extra string) *scenario.Box {
	t.Helper()
	b, ports := founded(t, name), freePorts(t, 2)
	configure(t, b, fmt.Sprintf("\n[atak]\nenabled = true\nlisten = \"127.0.0.1:%d\"\nlisten_https = \"127.0.0.1:%d\"\n%s", ports[0], ports[1], extra))
	up(t, b)
	return b
}

func bridgeFaults(name, extra, id string) func(*testing.T) {
	return func(t *testing.T) { expect(t, consult(t, bridged(t, name, extra), nil), id) }
}

// toCore gives a node the credentials of a core of which no server runs.
func toCore(t *testing.T, b *scenario.Box) {
	t.Helper()
	dev, err := coresync.MakeDev(filepath.Join(t.TempDir(), "core"), 0)
	if err != nil {
		t.Fatal(err)
	}
	c, err := dev.Add("unit")
	if err != nil {
		t.Fatal(err)
	}
	quoted := func(list []string) string { return `["` + strings.Join(list, `", "`) + `"]` }
	configure(t, b, fmt.Sprintf("\n[core]\nservers = %s\nseed_file = %q\ncert_file = %q\nkey_file = %q\nca_file = %q\npins = %s\n",
		quoted(c.Servers), c.SeedFile, c.CertFile, c.KeyFile, c.CAFile, quoted(c.Pins)))
}
