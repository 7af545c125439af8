// Package datapkg reads and writes TAK data packages: zip files with a
// manifest that says what each entry is.
//
// A package is made by a stranger's device and unpacked by another one, so
// what passes Check is harmless to unpack: no entry leaves the folder it is
// unpacked in, none appears twice, and nothing inflates beyond MaxInflated.
// Check unpacks nothing to disk.
package datapkg

import (
	"archive/zip"
	"bytes"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strings"
	"unicode/utf8"
)

// Limits of a package.
const (
	MaxEntries  = 2_000
	MaxInflated = 1 << 30 // bytes of all entries together
	MaxRatio    = 200     // inflated bytes for each byte of the zip file
	MaxName     = 255     // bytes of an entry's name

	maxManifest = 256 << 10
	freeRatio   = 1 << 20 // bytes below which the ratio does not matter
)

// ManifestName is where the manifest lies. Some writers use other cases.
const ManifestName = "MANIFEST/manifest.xml"

// ErrUnsafe means that a package is damaged, no package, or could harm who
// unpacks it.
var ErrUnsafe = errors.New("datapkg: refused")

// A Manifest is what a package says about itself.
type Manifest struct {
	UID, Name string
	Entries   []Entry
}

// An Entry is one file of a package.
type Entry struct {
	Path    string // inside the zip file
	UID     string // of the thing it belongs to
	Ignored bool   // carried but not imported
}

// The manifest's XML.
type manifestXML struct {
	XMLName  xml.Name   `xml:"MissionPackageManifest"`
	Version  string     `xml:"version,attr"`
	Config   []paramXML `xml:"Configuration>Parameter"`
	Contents []entryXML `xml:"Contents>Content"`
}

type paramXML struct {
	Name  string `xml:"name,attr"`
	Value string `xml:"value,attr"`
}

type entryXML struct {
	Ignore string     `xml:"ignore,attr"`
	Path   string     `xml:"zipEntry,attr"`
	Params []paramXML `xml:"Parameter"`
}

// Check reads a package from end to end and returns its manifest. Its work is
// bounded by size and MaxInflated. The error wraps ErrUnsafe and says what is
// wrong, unless reading r itself failed.
func Check(r io.ReaderAt, size int64) (Manifest, error) {
	z, err := zip.NewReader(r, size)
	switch {
	case err != nil && !errors.Is(err, zip.ErrInsecurePath):
		return Manifest{}, refused("it is no zip file")
	case len(z.File) > MaxEntries:
		return Manifest{}, refused(fmt.Sprintf("it has %d entries, at most %d are taken", len(z.File), MaxEntries))
	}
	budget := min(MaxInflated, max(freeRatio, size*MaxRatio))
	names := make(map[string]bool)
	var manifest []byte
	for _, f := range z.File {
		fold := strings.ToLower(strings.TrimSuffix(f.Name, "/"))
		switch {
		case !safeName(f.Name):
			return Manifest{}, refused("an entry's name leads out of the folder it is unpacked in, or is none")
		case names[fold]:
			return Manifest{}, refused("two entries have one name")
		case f.Mode()&fs.ModeType&^fs.ModeDir != 0:
			return Manifest{}, refused("an entry is no file")
		}
		names[fold] = true
		b, err := inflate(f, &budget, strings.EqualFold(f.Name, ManifestName))
		if err != nil {
			return Manifest{}, err
		}
		if b != nil {
			manifest = b
		}
	}
	if manifest == nil {
		return Manifest{}, refused("it has no " + ManifestName)
	}
	m, err := parseManifest(manifest)
	if err != nil {
		return Manifest{}, err
	}
	for _, e := range m.Entries {
		if !names[strings.ToLower(e.Path)] {
			return Manifest{}, refused("its manifest names an entry that is not there")
		}
	}
	return m, nil
}

// safeName tells whether a name can be unpacked below any folder, on any
// system that TAK clients run on.
func safeName(name string) bool {
	name = strings.TrimSuffix(name, "/")
	return len(name) <= MaxName && utf8.ValidString(name) && name != "." && fs.ValidPath(name) && !strings.ContainsAny(name, "\\:\x00")
}

// inflate reads one entry to its end, which checks its length and sum, and
// returns it when it is the manifest.
func inflate(f *zip.File, budget *int64, keep bool) ([]byte, error) {
	r, err := f.Open()
	if err != nil {
		return nil, refused("an entry is packed in a way that is not known")
	}
	defer r.Close()
	var b bytes.Buffer
	w, limit := io.Discard, *budget
	if keep {
		w, limit = io.Writer(&b), min(limit, maxManifest)
	}
	n, err := io.Copy(w, io.LimitReader(r, limit+1))
	*budget -= n
	switch {
	case n > limit && keep:
		return nil, refused(fmt.Sprintf("its manifest has more than %d bytes", maxManifest))
	case n > limit:
		return nil, refused("it inflates to more than is taken")
	case err != nil:
		return nil, refused("an entry is damaged")
	case keep:
		return b.Bytes(), nil
	}
	return nil, nil
}

func parseManifest(b []byte) (Manifest, error) {
	var w manifestXML
	d := xml.NewDecoder(bytes.NewReader(b))
	if err := d.Decode(&w); err != nil {
		return Manifest{}, refused("its manifest is none")
	}
	var m Manifest
	for _, p := range w.Config {
		switch p.Name {
		case "uid":
			m.UID = p.Value
		case "name":
			m.Name = p.Value
		}
	}
	if m.UID == "" || m.Name == "" {
		return Manifest{}, refused("its manifest has no uid or no name")
	}
	for _, c := range w.Contents {
		e := Entry{Path: c.Path, Ignored: c.Ignore == "true"}
		for _, p := range c.Params {
			if p.Name == "uid" {
				e.UID = p.Value
			}
		}
		m.Entries = append(m.Entries, e)
	}
	return m, nil
}

// A File is one file to be packed.
type File struct {
	Path string
	Data []byte
}

// Make writes a package. params are further parameters of the configuration,
// names and values in turn.
func Make(w io.Writer, m Manifest, files []File, params ...string) error {
	if m.UID == "" || m.Name == "" {
		return errors.New("datapkg: make: a package needs a uid and a name")
	}
	x := manifestXML{Version: "2", Config: []paramXML{{"uid", m.UID}, {"name", m.Name}}}
	for i := 0; i+1 < len(params); i += 2 {
		x.Config = append(x.Config, paramXML{params[i], params[i+1]})
	}
	for _, f := range files {
		if !safeName(f.Path) {
			return errors.New("datapkg: make: an entry's name leads out of the folder it is unpacked in")
		}
		x.Contents = append(x.Contents, entryXML{Ignore: "false", Path: f.Path})
	}
	manifest, err := xml.MarshalIndent(x, "", "  ")
	if err != nil {
		return fmt.Errorf("datapkg: make: %v", err)
	}
	z := zip.NewWriter(w)
	for _, f := range append([]File{{ManifestName, append(manifest, '\n')}}, files...) {
		e, err := z.Create(f.Path)
		if err == nil {
			_, err = e.Write(f.Data)
		}
		if err != nil {
			return fmt.Errorf("datapkg: make: %w", err)
		}
	}
	if err := z.Close(); err != nil {
		return fmt.Errorf("datapkg: make: %w", err)
	}
	return nil
}

func refused(why string) error { return fmt.Errorf("%w: %s", ErrUnsafe, why) }
