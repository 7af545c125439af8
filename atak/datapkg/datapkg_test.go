package datapkg

import (
	"archive/zip"
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
)

const manifest = `<MissionPackageManifest version="2"><Configuration><Parameter name="uid" value="6b1e"/><Parameter name="name" value="ao"/></Configuration>` +
	`<Contents><Content ignore="false" zipEntry="9405/9405.cot"><Parameter name="uid" value="9405"/></Content></Contents></MissionPackageManifest>`

// pack makes a zip file of names and contents in turn.
func pack(t testing.TB, parts ...string) []byte {
	t.Helper()
	var b bytes.Buffer
	z := zip.NewWriter(&b)
	for i := 0; i < len(parts); i += 2 {
		w, err := z.Create(parts[i])
		if err == nil && !strings.HasSuffix(parts[i], "/") {
			_, err = io.WriteString(w, parts[i+1])
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func check(b []byte) (Manifest, error) { return Check(bytes.NewReader(b), int64(len(b))) }

func TestL03DataPackage(t *testing.T) {
	m, err := check(pack(t, "9405/", "", "manifest/MANIFEST.XML", manifest, "9405/9405.cot", "<event/>"))
	if err != nil || m.UID != "6b1e" || m.Name != "ao" || len(m.Entries) != 1 || m.Entries[0].UID != "9405" {
		t.Fatalf("%+v, %v", m, err)
	}
	var b bytes.Buffer
	if err := Make(&b, m, []File{{"certs/a.p12", []byte("key")}}, "onReceiveDelete", "true"); err != nil {
		t.Fatal(err)
	}
	if again, err := check(b.Bytes()); err != nil || again.Name != "ao" || again.Entries[0].Path != "certs/a.p12" {
		t.Errorf("%+v, %v", again, err)
	}
	if Make(io.Discard, m, []File{{"../x", nil}}) == nil || Make(io.Discard, Manifest{}, nil) == nil {
		t.Error("an unsafe package was made")
	}
}

func TestL03UnsafePackagesAreRefused(t *testing.T) {
	ok := []string{ManifestName, manifest, "9405/9405.cot", "x"}
	with := func(parts ...string) []byte { return pack(t, append(parts, ok...)...) }
	many := append([]string{}, ok...)
	for i := range MaxEntries - 2 {
		many = append(many, fmt.Sprint("f", i), "")
	}
	damaged := pack(t, ok...)
	damaged[bytes.Index(damaged, []byte("<Mission"))+3] ^= 1
	if bytes.Contains(damaged, []byte("<Missiom")) {
		t.Fatal("not damaged")
	}
	for name, b := range map[string][]byte{
		"up and out":           with("../../evil", "x"),
		"up inside":            with("a/../../evil", "x"),
		"from the root":        with("/etc/passwd", "x"),
		"backslash":            with(`..\evil`, "x"),
		"a drive":              with("c:evil", "x"),
		"no name":              with("", "x"),
		"a dot":                with("./", "x"),
		"too long a name":      with(strings.Repeat("n", MaxName+1), "x"),
		"the same twice":       with("a", "x", "A", "y"),
		"a bomb":               with("zeros", strings.Repeat("\x00", 8<<20)),
		"too many entries":     pack(t, append(many, "one-more", "")...),
		"no manifest":          pack(t, "a", "x"),
		"no uid":               pack(t, ManifestName, strings.Replace(manifest, "6b1e", "", 1), "9405/9405.cot", "x"),
		"an entry not there":   pack(t, ManifestName, manifest),
		"manifest that is big": pack(t, ManifestName, manifest+strings.Repeat(" ", maxManifest), "9405/9405.cot", "x"),
		"manifest of entities": pack(t, ManifestName, `<!DOCTYPE x [<!ENTITY a "b">]>`+strings.Replace(manifest, "6b1e", "&a;", 1), "9405/9405.cot", "x"),
		"damaged":              damaged[:len(damaged)-30],
		"no zip":               []byte("PK\x03\x04"),
		"nothing":              nil,
	} {
		if m, err := check(b); !errors.Is(err, ErrUnsafe) {
			t.Errorf("%s: %+v, %v", name, m, err)
		}
	}
	for name, b := range map[string][]byte{
		"as many as are taken":  pack(t, many...),
		"as long as is taken":   with(strings.Repeat("n", MaxName), "x"),
		"small and well packed": with("zeros", strings.Repeat("\x00", freeRatio-1000)),
	} {
		if _, err := check(b); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func FuzzCheck(f *testing.F) {
	f.Add(pack(f, ManifestName, manifest, "9405/9405.cot", "x"))
	f.Add(pack(f, "../x", "y"))
	f.Fuzz(func(t *testing.T, in []byte) {
		m, err := check(in)
		if err != nil {
			if !errors.Is(err, ErrUnsafe) {
				t.Fatal(err)
			}
			return
		}
		for _, e := range m.Entries {
			if !safeName(e.Path) && !safeName(strings.ToLower(e.Path)) {
				t.Fatalf("entry %q passed", e.Path)
			}
		}
	})
}
