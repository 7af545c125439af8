package config

import (
	"errors"
	"fmt"
	"io/fs"
	"os"

	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"outrider/mesh/cla"
)

func TestEmptyFileIsTheDefault(t *testing.T) {
	c, err := Parse(nil)
	if err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(c, Default()) {
		t.Errorf("got %+v", c)
	}
}

// keysOf lists the dotted keys of every leaf of a struct.
func keysOf(v reflect.Type, prefix string) []string {
	var keys []string
	for i := range v.NumField() {
		f := v.Field(i)
		key := prefix + f.Tag.Get("toml")
		if f.Type.Kind() == reflect.Struct {
			keys = append(keys, keysOf(f.Type, key+".")...)
		} else {
			keys = append(keys, key)
		}
	}
	return keys
}

func TestEveryFieldIsDocumented(t *testing.T) {
	want := map[string]bool{}
	for _, k := range keysOf(reflect.TypeFor[Config](), "") {
		want[k] = true
	}
	for _, f := range Fields {
		if !want[f.Key] {
			t.Errorf("%s is documented twice or does not exist", f.Key)
		}
		delete(want, f.Key)
		if f.Unit == "" || f.Doc == "" {
			t.Errorf("%s has no unit or no text", f.Key)
		}
		for _, line := range strings.Split(f.Doc, "\n") {
			if len(line) > 90 {
				t.Errorf("%s: line of %d characters", f.Key, len(line))
			}
		}
	}
	for k := range want {
		t.Errorf("%s has no row in Fields", k)
	}
}

func TestShippedSampleIsTheTable(t *testing.T) {
	const path = "../dist/outrider.toml"
	got, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if string(got) != Sample() {
		t.Errorf("%s differs from the field table; write it anew: go run ./node/outrider config show --defaults > node/dist/outrider.toml", path)
	}
}

func TestSampleReadsBack(t *testing.T) {
	c, err := Parse([]byte(Sample()))
	if err != nil || !reflect.DeepEqual(c, Default()) {
		t.Fatalf("%+v, %v", c, err)
	}
	// The same with every line switched on.
	on := strings.ReplaceAll(Sample(), "\n# ", "\n#- ")
	for _, f := range Fields {
		name := f.Key[strings.LastIndexByte(f.Key, '.')+1:]
		on = strings.ReplaceAll(on, "\n#- "+name+" = ", "\n"+name+" = ")
	}
	c, err = Parse([]byte(on))
	if err != nil || !reflect.DeepEqual(c, Default()) {
		t.Fatalf("switched on: %+v, %v\n%s", c, err, on)
	}
}

// TestByteOrderMark: what some editors put before the first line is no mistake.
func TestByteOrderMark(t *testing.T) {
	c, err := Parse([]byte("\ufeffprofile = \"radio\"\n"))
	if err != nil || c.Profile != ProfileRadio {
		t.Errorf("%+v, %v", c, err)
	}
	if _, err := Parse([]byte("profile = \"lan\"\n\ufeff")); err == nil {
		t.Error("a mark in the middle is taken")
	}
}

func TestQuote(t *testing.T) {
	for in, want := range map[string]string{`a "b" \ c`: `"a \"b\" \\ c"`, "x\ny\x7f": `"x\u000ay\u007f"`} {
		if got := quote(in); got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	}
}

func TestTextReadsBack(t *testing.T) {
	c := Default()
	c.Profile = ProfileRadio
	c.Mesh.Advertise = []string{"192.168.7.1", "[fd00::1]:9000"}
	c.Page.AllowedHosts = []string{"node7.local"}
	for _, comment := range []bool{false, true} {
		got, err := Parse([]byte(c.Text(comment)))
		if err != nil || !reflect.DeepEqual(got, c) {
			t.Errorf("comment %v: %+v, %v", comment, got, err)
		}
	}
}

func TestMistakes(t *testing.T) {
	long := func(n int, s string) string { return "[" + strings.TrimSuffix(strings.Repeat(s+",", n), ",") + "]" }
	cases := []struct{ name, file, want string }{
		{"misspelt", "\nprofle = \"lan\"", "line 2: profle: no such setting (did you mean profile?)"},
		{"misspelt in table", "[store]\nlimit_m = 5", "line 2: store.limit_m: no such setting (did you mean store.limit_mb?)"},
		{"wrong table", "[mesh]\nseeds = []", "line 2: mesh.seeds: no such setting (did you mean gossip.seeds?)"},
		{"nothing near", "quux_frobnicate = 1", "no such setting (outrider config show --defaults lists all)"},
		{"wrong type", "[store]\n\nlimit_mb = \"much\"", "line 3: store.limit_mb: this takes a whole number (for example "},
		{"no list", "[page]\nlisten = \"127.0.0.1\" # here", `line 2: page.listen: this takes a list of texts (write ["127.0.0.1"])`},
		{"no list, no text", "[page]\nlisten = 7480", `line 2: page.listen: this takes a list of texts (write ["..."])`},
		{"no truth", "[atak]\nenabled = \"yes\"", "line 2: atak.enabled: this takes true or false (write it without quotes)"},
		{"no text", "[log]\nlevel = 1", `line 2: log.level: this takes a text (write it in quotes: "...")`},
		{"no section", "page = 1", "line 1: page: this is a section (write [page] on a line of its own)"},
		{"number too large", "[store]\nlimit_mb = 99999999999999999999", "too large"},
		{"in a list", "[page]\nlisten = [7480]", "line 2: page.listen: this takes a list of texts"},
		{"syntax", "[store\n", "line 1: "},
		{"twice", "profile = \"lan\"\nprofile = \"lan\"", "line 2: "},
		{"profile", "profile = \"lora\"", `line 1: profile: "lora" is not known (one of lan, wifi, radio)`},
		{"memory", "memory_limit_mb = 31", "31 is out of bounds (0 or 32 to 1048576)"},
		{"memory high", "memory_limit_mb = 1048577", "out of bounds"},
		{"address", "[mesh]\nlisten = [\"radio0:7411\"]", "names are not looked up"},
		{"port", "[mesh]\nlisten = [\"0.0.0.0:70000\"]", "0 to 65535"},
		{"multicast", "[mesh]\nlisten = [\"224.0.0.1\"]", "multicast"},
		{"same twice", "[mesh]\nlisten = [\"0.0.0.0\", \"0.0.0.0:7411\"]", "stands twice"},
		{"no listener", "[mesh]\nlisten = []", "0 entries (1 to 4)"},
		{"listeners", "[mesh]\nlisten = " + long(5, `"127.0.0.1:0"`), "5 entries (1 to 4)"},
		{"advertise", "[mesh]\nadvertise = " + long(4, `"10.0.0.1"`), "4 entries (0 to 3)"},
		{"advertise any", "[mesh]\nadvertise = [\"0.0.0.0\"]", "nobody can be reached there"},
		{"advertise port", "[mesh]\nadvertise = [\"10.0.0.1:0\"]", "port 0"},
		{"seeds", "[gossip]\nseeds = " + long(17, `"10.0.0.1"`), "17 entries"},
		{"page", "[page]\nlisten = " + long(5, `"127.0.0.1:0"`), "5 entries"},
		{"hosts", "[page]\nallowed_hosts = [\"https://node7\"]", "is no host name"},
		{"host count", "[page]\nallowed_hosts = " + long(17, `"a"`), "17 entries"},
		{"page name", "[page]\nname = \"node7.local\"", "is no name (one label"},
		{"metrics", "[metrics]\nlisten = \"0.0.0.0:7490\"", "line 2: metrics.listen: \"0.0.0.0:7490\" is no loopback address"},
		{"position", "[position]\nsource = \"ttyACM0\"", "line 2: position.source: \"ttyACM0\": neither gpsd:// nor a path"},
		{"position name", "[position]\nsource = \"gpsd://boat\"", "not an IP address"},
		{"position port", "[position]\nsource = \"gpsd://127.0.0.1:0\"", "nobody can be reached there"},
		{"position path", "[position]\nsource = \"/dev/../x\"", "is no path of a device"},
		{"position length", "[position]\nsource = \"/" + strings.Repeat("a", 255) + "\"", "is no path of a device"},
		{"ca port", "[page]\nca_port = 65536", "line 2: page.ca_port: 65536 is out of bounds"},
		{"ca alone", "[page]\nca = true", "line 2: page.ca: the page is served on this machine only"},
		{"ca collides", "[page]\nlisten = [\"0.0.0.0\"]\nca = true\nca_port = 7443", "wanted by"},
		{"ca collides when it is asked for", "[page]\nlisten = [\"127.0.0.1\", \"0.0.0.0:7481\"]", "wanted by"},
		{"store", "[store]\nlimit_mb = 15", "line 2: store.limit_mb: 15 is out of bounds (16 to 1000000)"},
		{"files", "[store]\nfiles_limit_mb = -1", "out of bounds"},
		{"reserve", "[store]\nreserve_percent = 91", "out of bounds"},
		{"floor", "store = { free_floor_mb = -1 }", "line 1: store.free_floor_mb"},
		{"level", "[log]\nlevel = \"loud\"", "debug, info, warn, error"},
		{"format", "[log]\nformat = \"xml\"", "text, json"},
		{"overflow", "memory_limit_mb = 99999999999999999999", "line 1"},
		{"collision", "[gossip]\nlisten = \"127.0.0.1:7411\"", "line 2: gossip.listen: port 7411/udp is wanted by mesh.listen too (choose another)"},
		{"size", strings.Repeat("#", fileMax+1), "larger than 256 KiB"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			got, err := Parse([]byte(c.file))
			if err == nil {
				t.Fatalf("accepted: %+v", got)
			}
			var all []string
			for _, e := range Errors(err) {
				all = append(all, e.Error())
			}
			if text := strings.Join(all, "\n"); !strings.Contains(text, c.want) {
				t.Errorf("got  %s\nwant %s", text, c.want)
			}
		})
	}
}

func TestAllMistakesAtOnce(t *testing.T) {
	_, err := Parse([]byte("profile = \"x\"\n[log]\nlevel = \"y\"\n[store]\nlimit_mb = 1\n"))
	var lines []string
	for _, e := range Errors(err) {
		lines = append(lines, fmt.Sprint(e.Line, e.Key))
	}
	if want := "1profile 5store.limit_mb 3log.level"; strings.Join(lines, " ") != want {
		t.Errorf("got %v, want %s", lines, want)
	}
}

func TestLoad(t *testing.T) {
	dir := t.TempDir()
	if _, err := Load(filepath.Join(dir, FileName)); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("missing file: %v", err)
	}
	path := filepath.Join(dir, FileName)
	if err := os.WriteFile(path, []byte("profile = \"radio\"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	c, err := Load(path)
	if err != nil || c.Profile != ProfileRadio {
		t.Errorf("%+v, %v", c, err)
	}
	if err := os.WriteFile(path, []byte("prfile = \"radio\"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err = Load(path); err == nil || !strings.Contains(err.Error(), path) || len(Errors(err)) != 1 {
		t.Errorf("error does not name the file: %v", err)
	}
	if _, err = Load(dir); err == nil || len(Errors(err)) != 0 {
		t.Errorf("a folder: %v", err)
	}
}

func TestProfiles(t *testing.T) {
	for name, class := range map[string]cla.Class{ProfileLAN: cla.LAN, ProfileWiFi: cla.WiFi, ProfileRadio: cla.Radio} {
		c := Default()
		c.Profile = name
		if err := c.Validate(); err != nil {
			t.Error(err)
		}
		if got := c.LinkClass(); got != class {
			t.Errorf("%s: class %v", name, got)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(Sample()))
	f.Add([]byte(Default().Text(false)))
	f.Add([]byte("profle = \"lan\"\n[mesh]\nadvertise = [\"1.2.3.4\", \"x\"]"))
	f.Add([]byte("store = {limit_mb = 3, a = {b = 1}}\n[[page]]\n"))
	f.Add([]byte("\"\\u0000\" = 1\n[a.b.'c']\nd.e = 2"))
	f.Fuzz(func(t *testing.T, data []byte) {
		c, err := Parse(data)
		if err != nil {
			if len(Errors(err)) == 0 {
				t.Fatalf("an error without a line: %v", err)
			}
			return
		}
		again, err := Parse([]byte(c.Text(true)))
		if err != nil {
			t.Fatalf("what was accepted does not read back: %v\n%s", err, c.Text(true))
		}
		if c.Text(false) != again.Text(false) {
			t.Fatalf("changed in a round trip:\n%s\n%s", c.Text(false), again.Text(false))
		}
	})
}

func TestPositionSource(t *testing.T) {
	for source, want := range map[string][2]string{
		"": {}, "gpsd://127.0.0.1": {"127.0.0.1:2947"}, "gpsd://localhost:1234": {"127.0.0.1:1234"}, "gpsd://localhost": {"127.0.0.1:2947"},
		"gpsd://[::1]": {"[::1]:2947"}, "/dev/ttyACM0": {"", "/dev/ttyACM0"},
	} {
		c := Default()
		c.Position.Source = source
		if err := c.Validate(); err != nil {
			t.Errorf("%q: %v", source, err)
		}
		if gpsd, device := c.PositionSource(); gpsd != want[0] || device != want[1] {
			t.Errorf("%q: %q %q", source, gpsd, device)
		}
	}
}
