package repo

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
)

func TestMain(m *testing.M) { os.Exit(m.Run()) }

// ours lists the repository's packages with all they depend on.
var ours = sync.OnceValues(func() ([]Package, error) {
	root, err := Root()
	if err != nil {
		return nil, err
	}
	return List(root, "-e", "./...")
})

func packages(t *testing.T) []Package {
	t.Helper()
	pkgs, err := ours()
	if err != nil {
		t.Fatal(err)
	}
	if len(pkgs) < 10 {
		t.Fatalf("go list found %d packages only", len(pkgs))
	}
	return pkgs
}

// rows says who may import whom: a row imports rows above it in this list,
// never its neighbours. Packages under internal/ belong to their parent.
var rows = [][]string{
	{"mesh/identity", "mesh/crowd"},
	{"mesh/identity/kdf"},
	{"mesh/bundle", "mesh/blob"},
	{"mesh/envelope"},
	{"mesh/routing", "mesh/reconcile", "mesh/cla"},
	{"offline/deeplink"},
	{"atak/cot", "atak/datapkg", "atak/tak", "media", "media/sframe", "media/agree"},
	{"store", "media/rtc", "atak", "offline/roster", "offline/policy", "offline/compliance", "offline/carry",
		"offline/coresync", "mesh", "mesh/gossip", "mesh/cla/p2p", "mesh/cla/memcla", "mesh/cla/pipe"},
	{"node/pageca", "node/mdns", "node/position"},
	{"node/chat"},
	{"node/api"},
	{"node/web", "node/config", "node/metrics", "node/report"},
	{"node/doctor"},
	{"node"},
	{"node/outrider"},
}

// forbidden are promises that hold for everything a package reaches, however
// indirectly.
var forbidden = []promise{
	{"mesh", "mesh/envelope", "the code that forwards mail has no means to open it"},
	{"mesh/routing", "mesh/envelope", "who gets a copy is decided without knowing what is in it"},
	{"mesh/gossip", "mesh/envelope", "whoever finds neighbours has no means to open mail"},
	{"mesh/cla/p2p", "mesh/envelope", "whoever moves frames has no means to open mail"},
	{"mesh/envelope", "mesh/bundle", "sealing knows header bytes and tags, not how they travel"},
	{"store", "mesh/envelope", "the store keeps sealed bytes and must not be able to open them"},
	{"store", "mesh", "the store serves the agent, it does not know it"},
	{"mesh", "store", "the machine names store operations; the shell's adapter in node runs them"},
	{"mesh", "node", "the agent knows nothing of users"},
	{"mesh", "net/http", "the agent does no I/O of its own"},
	{"node/chat", "mesh/cla", "what a user means does not depend on how it travels"},
	{"node/chat", "store", "chat names the storage it needs; node passes it in"},
	{"node/web", "node/chat", "the page is a client of the API like any other"},
	{"media", "mesh/envelope", "calls are led by people's signals and open no mail"},
	{"media/rtc", "mesh/envelope", "the code that forwards media has no means to open mail"},
	{"media/rtc", "media/sframe", "the code that forwards media has no means to open it"},
	{"media/rtc", "media/agree", "the code that forwards media has no means to make its keys"},
	{"node/outrider", "media/sframe", "no node has the means to open a call"},
	{"node/outrider", "media/agree", "no node has the means to make a call's keys"},
	{"field-tests/sim", "node", "the simulator drives the machine of the product, not the daemon around it"},
	{"field-tests/sim", "store", "the simulator keeps its store in memory, so that hours pass in seconds"},
	{"field-tests/sim", "mesh/envelope", "what the simulator carries is opaque, as on the air"},
}

type promise struct{ who, never, why string }

// hit says whether reaching dep breaks the promise: the package itself or one
// below it (but mesh is meant alone, not with its parts).
func (f promise) hit(dep string) bool {
	if ours := short(dep); ours != "" {
		dep = ours
	}
	return dep == f.never || f.never != "mesh" && inTree(dep, f.never)
}

// stranger is the peer written from the documents alone.
const stranger = "field-tests/stranger"

// A peer that reached a line of ours would prove nothing about the documents.
func TestTheStrangerIsOne(t *testing.T) {
	for _, p := range packages(t) {
		if short(p.ImportPath) != stranger {
			continue
		}
		for _, dep := range slices.Concat(p.Deps, p.TestImports, p.XTestImports) {
			if ours := short(dep); ours != "" && ours != stranger {
				t.Errorf("%s reaches %s%s", stranger, ours, through(p, dep))
			}
		}
		return
	}
	t.Errorf("there is no package %s", stranger)
}

// borders are libraries that few packages may name. What crosses the border
// instead is in the second column of the README's layout.
var borders = []struct {
	library string
	known   []string
	why     string
}{
	{"github.com/libp2p/", []string{"mesh/cla/p2p", stranger}, "authenticated pipes, go-yamux among them; a NodeID and a cla.Link cross instead"},
	{"github.com/multiformats/", []string{"mesh/cla/p2p"}, "addresses are text everywhere else"},
	{"github.com/quic-go/", []string{"mesh/cla/p2p"}, "a transport of libp2p"},
	{"github.com/hashicorp/", []string{"mesh/gossip"}, "membership; gossip.Neighbour crosses instead"},
	{"github.com/dgraph-io/", []string{"store/internal/kv"}, "the database can be replaced in one place; no transaction crosses"},
	{"github.com/pion/", []string{"media/rtc", "media/rtc/rtctest"}, "calls; our own offers and answers cross instead"},
	{"github.com/nats-io/", []string{"offline/coresync"}, "the way to the core; our own records cross instead"},
	{"github.com/klauspost/", []string{"mesh/envelope", "offline/carry", "field-tests/plainsearch"},
		"compression happens before sealing and nowhere else; the search unpacks what it finds"},
	{"software.sslmate.com/", []string{"atak", "node", "field-tests/atak", "field-tests/takclient"}, "key stores for TAK clients; node has it for tests only"},
	{"google.golang.org/protobuf", []string{"atak/cot"}, "the wire form of TAK events; cot.Event crosses instead"},
	{"golang.org/x/crypto/", []string{"mesh/identity", "mesh/identity/kdf", "mesh/envelope", stranger}, "cryptography in reviewed places only"},
	{"filippo.io/", []string{"mesh/identity"}, "the post-quantum signature of the root record"},
	{"github.com/pelletier/", []string{"node/config"}, "settings are a struct everywhere else"},
	{"github.com/spf13/", []string{"node/outrider"}, "the command line is the outermost layer"},
	{"github.com/chromedp/", []string{"field-tests/browser", "field-tests/scenario"}, "a browser belongs to tests"},
	{"github.com/rogpeppe/", []string{"node/outrider"}, "scripts test the command line"},
}

// rowOf finds a package's row; ok is false for field-tests, which may import
// everything, and for packages of test helpers.
func rowOf(path string) (int, bool) {
	if i := strings.Index(path, "/internal/"); i >= 0 {
		path = path[:i]
	}
	for i, row := range rows {
		if slices.Contains(row, path) {
			return i, true
		}
	}
	return 0, false
}

// family is what a package under internal/ belongs to.
func family(path string) string {
	if i := strings.Index(path, "/internal/"); i >= 0 {
		return path[:i]
	}
	return path
}

// testHelper says whether a package exists for tests only (storetest,
// clatest), by its name.
func testHelper(path string) bool {
	return strings.HasSuffix(path, "test") || strings.HasPrefix(path, "field-tests/")
}

func TestRows(t *testing.T) {
	for _, p := range packages(t) {
		who := short(p.ImportPath)
		if testHelper(who) {
			continue
		}
		row, ok := rowOf(who)
		if !ok {
			t.Errorf("%s is in no row: say in border_test.go who may import it", who)
			continue
		}
		for _, imp := range p.Imports {
			dep := short(imp)
			if dep == "" || family(dep) == family(who) {
				continue
			}
			if testHelper(dep) {
				t.Errorf("%s imports %s, which is for tests", who, dep)
				continue
			}
			if below, ok := rowOf(dep); ok && below >= row {
				t.Errorf("%s imports %s, which is not below it: name what you need in an interface and let node pass it in", who, dep)
			}
		}
	}
}

func TestPromises(t *testing.T) {
	seen := map[string]bool{}
	for _, p := range packages(t) {
		who := short(p.ImportPath)
		seen[who] = true
		for _, f := range forbidden {
			if who != f.who {
				continue
			}
			for _, dep := range p.Deps {
				if f.hit(dep) {
					t.Errorf("%s reaches %s: %s%s", who, dep, f.why, through(p, dep))
				}
			}
		}
	}
	for _, f := range forbidden {
		if !seen[f.who] {
			t.Errorf("the promise about %s is about nobody: there is no such package", f.who)
		}
	}
}

// through names the direct import by which p reaches dep.
func through(p Package, dep string) string {
	pkgs, _ := ours()
	for _, q := range pkgs {
		if slices.Contains(p.Imports, q.ImportPath) && slices.Contains(q.Deps, dep) {
			return fmt.Sprintf(" (through %s)", short(q.ImportPath))
		}
	}
	return ""
}

func TestLibrariesStayBehindTheirBorders(t *testing.T) {
	for _, p := range packages(t) {
		who := short(p.ImportPath)
		all := slices.Concat(p.Imports, p.TestImports, p.XTestImports)
		for _, b := range borders {
			if slices.Contains(b.known, who) {
				continue
			}
			for _, imp := range all {
				// Its own tests may look at what a border package keeps inside.
				if strings.HasPrefix(imp, b.library) {
					t.Errorf("%s imports %s, which only %s may know: %s", who, imp, strings.Join(b.known, ", "), b.why)
				}
			}
		}
	}
}

// The machine must hash alike on every board: no floating point, no clock, no
// randomness of its own in mesh and mesh/routing. The syntax is checked where
// those packages are; that they cannot reach a clock's rounding is checked
// here by what they import.
func TestTheMachineDrawsOnNothing(t *testing.T) {
	for _, p := range packages(t) {
		who := short(p.ImportPath)
		if who != "mesh/routing" && who != "mesh/reconcile" {
			continue
		}
		for _, bad := range []string{"math/rand", "math/rand/v2", "crypto/rand", "net", "os"} {
			if slices.Contains(p.Imports, bad) {
				t.Errorf("%s imports %s: it decides from its inputs alone", who, bad)
			}
		}
	}
}

func TestRulesWork(t *testing.T) {
	for path, want := range map[string]string{"store/internal/kv": "store", "mesh": "mesh", "node/api": "node/api"} {
		if got := family(path); got != want {
			t.Errorf("family of %s: %s", path, got)
		}
	}
	low, ok1 := rowOf("mesh/identity")
	high, ok2 := rowOf("store/internal/kv")
	if !ok1 || !ok2 || low >= high {
		t.Errorf("rows %d and %d", low, high)
	}
	if _, ok := rowOf("mesh/unheard"); ok {
		t.Error("an unknown package has a row")
	}
	if !inTree("a/b", "a") || inTree("ab", "a") {
		t.Error("inTree")
	}
}
