package repo

import (
	"bufio"
	"bytes"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"outrider/node/config"
)

// topLevel are the names the repository's root may have, beside what
// .gitignore names.
var topLevel = []string{
	"node", "mesh", "store", "media", "atak", "offline", "field-tests", "go.mod", "go.sum", "Makefile",
	"README.md", "LICENSE", "CHANGES.md", ".ci", ".gitignore",
	".git",   // a clone's own
	"vendor", // a source bundle's
}

func root(t *testing.T) string {
	t.Helper()
	dir, err := Root()
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

func read(t *testing.T, path ...string) string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(path...))
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// ignored are the names .gitignore lists for the root.
func ignored(t *testing.T) []string {
	var out []string
	for _, line := range strings.Split(read(t, root(t), ".gitignore"), "\n") {
		if line = strings.Trim(strings.TrimSpace(line), "/"); line != "" && line[0] != '#' {
			out = append(out, line)
		}
	}
	return out
}

func TestTopLevelNames(t *testing.T) {
	entries, err := os.ReadDir(root(t))
	if err != nil {
		t.Fatal(err)
	}
	allowed := slices.Concat(topLevel, ignored(t))
	for _, e := range entries {
		if !slices.Contains(allowed, e.Name()) {
			t.Errorf("%s is not in the agreed layout", e.Name())
		}
	}
	for _, must := range []string{"node", "mesh", "store", "offline", "field-tests", "go.mod", "Makefile", "README.md", "LICENSE", "CHANGES.md", ".ci"} {
		if !slices.ContainsFunc(entries, func(e fs.DirEntry) bool { return e.Name() == must }) {
			t.Errorf("%s is missing", must)
		}
	}
}

func TestEveryPackageHasAComment(t *testing.T) {
	for _, p := range packages(t) {
		doc := p.Doc
		if doc == "" && len(p.GoFiles) == 0 { // tests only
			doc = testDoc(t, p)
		}
		want := "Package " + p.Name + " "
		if p.Name == "main" {
			want = ""
		}
		if doc == "" || !strings.HasPrefix(doc, want) {
			t.Errorf("%s: the package comment must say what it promises and begin with %q; it is %q", short(p.ImportPath), want, doc)
		}
	}
}

// testDoc finds the package comment of a folder that has test files only.
func testDoc(t *testing.T, p Package) string {
	for _, name := range slices.Concat(p.TestGoFiles, p.XTestGoFiles) {
		f, err := parser.ParseFile(token.NewFileSet(), filepath.Join(p.Dir, name), nil, parser.ParseComments|parser.PackageClauseOnly)
		if err != nil {
			t.Fatal(err)
		}
		if f.Doc != nil {
			return f.Doc.Text()
		}
	}
	return ""
}

// machineWords are what only one machine, service or workplace knows. They
// are put together here, so that this file does not hold them.
var machineWords = regexp.MustCompile(`(?i)` + strings.Join([]string{
	`proxy\.` + `golang\.org`, `sum\.` + `golang\.org`, `registry\.` + `npmjs`, `deb\.` + `debian\.org`, `goproxy\.` + `(io|cn)`,
	`(^|[\s"'=(:])/` + `(home|Users|root|work|farm)/[a-z0-9]`, `/tmp/` + `(bash|go-build|design)`,
}, "|"))

func TestNothingOfOneMachine(t *testing.T) {
	for _, path := range []string{"see /" + "root/x", "GOPROXY=https://proxy." + "golang.org"} {
		if !machineWords.MatchString(path) {
			t.Fatalf("the search does not find %q", path)
		}
	}
	eachFile(t, func(path string, data []byte) {
		if filepath.Base(path) == "go.sum" || bytes.IndexByte(data, 0) >= 0 {
			return
		}
		sc := bufio.NewScanner(bytes.NewReader(data))
		sc.Buffer(nil, 8<<20)
		for n := 1; sc.Scan(); n++ {
			if m := machineWords.FindString(sc.Text()); m != "" {
				t.Errorf("%s:%d: %q belongs to one machine", path, n, strings.TrimSpace(m))
			}
		}
		if err := sc.Err(); err != nil {
			t.Errorf("%s: %v", path, err)
		}
	})
}

// eachFile calls do for every file that is the repository's own.
func eachFile(t *testing.T, do func(path string, data []byte)) {
	t.Helper()
	dir := root(t)
	skip := append(ignored(t), ".git", "vendor")
	n := 0
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(dir, path)
		if err != nil {
			return err
		}
		if slices.Contains(skip, rel) {
			if d.IsDir() {
				return fs.SkipDir
			}
			return nil
		}
		if !d.Type().IsRegular() {
			return nil
		}
		data, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		n++
		do(rel, data)
		return nil
	})
	if err != nil || n < 20 {
		t.Fatalf("%d files read: %v", n, err)
	}
}

func TestReadmeHasThePortTable(t *testing.T) {
	if want := config.PortTable(config.Default().Ports()); !strings.Contains(read(t, root(t), "README.md"), want) {
		t.Errorf("the README's port table is not that of node/config:\n%s", want)
	}
}

// Every folder that the README's layout names exists, and every package is
// named by one of its lines.
func TestReadmeNamesTheLayout(t *testing.T) {
	readme := read(t, root(t), "README.md")
	for _, p := range packages(t) {
		path := short(p.ImportPath)
		found := false
		for at := path; at != "." && !found; at = filepath.Dir(at) {
			found = strings.Contains(readme, "`"+at+"`")
		}
		if !found {
			t.Errorf("%s is not in the README's layout", path)
		}
	}
	for _, m := range regexp.MustCompile("`((?:mesh|node|store|media|atak|offline|field-tests)(?:/[a-z0-9-]+)*)`").FindAllStringSubmatch(readme, -1) {
		if _, err := os.Stat(filepath.Join(root(t), m[1])); err != nil {
			t.Errorf("the README names %s, which is not there", m[1])
		}
	}
}

func TestLicenseIsApache(t *testing.T) {
	text := read(t, root(t), "LICENSE")
	for _, want := range []string{"Apache License", "Version 2.0, January 2004", "END OF TERMS AND CONDITIONS", "3. Grant of Patent License"} {
		if !strings.Contains(text, want) {
			t.Errorf("LICENSE lacks %q", want)
		}
	}
}
