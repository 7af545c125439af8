package web

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io/fs"
	"path"
	"sort"
	"strings"
)

// Placeholders in the document: the tree's path prefix, and the links that
// fetch all modules at once instead of one level of imports after the other.
const (
	placeholder        = "@assets/"
	placeholderModules = "@modules"
)

// mimeTypes is fixed here: the mime package asks the operating system, and a
// board's table may lack .mjs, which browsers then refuse to run.
var mimeTypes = map[string]string{
	".html":        "text/html; charset=utf-8",
	".css":         "text/css; charset=utf-8",
	".js":          "text/javascript; charset=utf-8",
	".mjs":         "text/javascript; charset=utf-8",
	".svg":         "image/svg+xml",
	".webmanifest": "application/manifest+json",
}

// partTypes are the kinds of files that only a document makes something of.
var partTypes = map[string]bool{".css": true, ".js": true, ".mjs": true}

// documents are the pages by their paths. The door at /c/ is where a link or a
// one-time code leads; its modules lie in door/ and are not the page's.
var documents = map[string]string{"/": "index.html", "/c/": "door.html"}

// An asset is one file ready to be sent. zipped is nil when gzip does not help.
type asset struct {
	raw, zipped      []byte
	etag, etagZipped string
	mime, cache      string
	part             bool // a script or style, which is nothing by itself
	worker           bool // a script that runs by itself
}

// A tree is the page: assets by URL path. It does not change once loaded.
type tree struct {
	prefix string // "/a/<hash>/"
	assets map[string]*asset
}

// load reads dir of fsys, hashes it as a whole and prepares every answer.
func load(fsys fs.FS, dir string) (*tree, error) {
	files, err := read(fsys, dir)
	if err != nil {
		return nil, err
	}
	docs := map[string][]byte{}
	for path, name := range documents {
		doc, ok := files[name]
		if !ok && path == "/" {
			return nil, fmt.Errorf("web: load: no %s in %s", name, dir)
		}
		if ok {
			docs[path] = doc
			delete(files, name)
		}
	}

	t := &tree{prefix: "/a/" + treeHash(files) + "/", assets: make(map[string]*asset, len(files)+1)}
	for name, data := range files {
		a, err := newAsset(name, data, cacheImmutable)
		if err != nil {
			return nil, err
		}
		t.assets[t.prefix+name] = a
	}
	for path, doc := range docs {
		doc = bytes.ReplaceAll(doc, []byte(placeholderModules), preloads(files))
		doc = bytes.ReplaceAll(doc, []byte(placeholder), []byte(t.prefix))
		if t.assets[path], err = newAsset(documents[path], doc, cacheIndex); err != nil {
			return nil, err
		}
	}
	return t, nil
}

func read(fsys fs.FS, dir string) (map[string][]byte, error) {
	files := make(map[string][]byte)
	err := fs.WalkDir(fsys, dir, func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		data, err := fs.ReadFile(fsys, name)
		files[strings.TrimPrefix(name, dir+"/")] = data
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("web: load: %v", err)
	}
	return files, nil
}

// treeHash covers names and contents of all files, in the order of names.
func treeHash(files map[string][]byte) string {
	names := make([]string, 0, len(files))
	for name := range files {
		names = append(names, name)
	}
	sort.Strings(names)
	h := sha256.New()
	for _, name := range names {
		sum := sha256.Sum256(files[name])
		fmt.Fprintf(h, "%s\x00%x\n", name, sum)
	}
	return hex.EncodeToString(h.Sum(nil)[:8])
}

// preloads links every module but the entry, which the document names itself,
// the languages other than English, and calls and the map, which are fetched
// when asked for.
func preloads(files map[string][]byte) []byte {
	var names []string
	for name := range files {
		lang := strings.HasPrefix(name, "lang/") && name != "lang/en.mjs"
		if path.Ext(name) == ".mjs" && name != "app.mjs" && !lang && !strings.HasPrefix(name, "door/") && !strings.HasPrefix(name, "call/") && !strings.HasPrefix(name, "map/") {
			names = append(names, name)
		}
	}
	sort.Strings(names)
	var buf bytes.Buffer
	for i, name := range names {
		if i > 0 {
			buf.WriteByte('\n')
		}
		fmt.Fprintf(&buf, `<link rel="modulepreload" href="%s%s">`, placeholder, name)
	}
	return buf.Bytes()
}

func newAsset(name string, data []byte, cache string) (*asset, error) {
	mime, ok := mimeTypes[path.Ext(name)]
	if !ok {
		return nil, fmt.Errorf("web: load %s: no content type is known for this kind of file", name)
	}
	sum := sha256.Sum256(data)
	tag := hex.EncodeToString(sum[:12])
	data = lean(name, data)
	a := &asset{part: partTypes[path.Ext(name)], worker: path.Base(name) == "worker.mjs", raw: data, etag: `"` + tag + `"`, etagZipped: `"` + tag + `-gz"`, mime: mime, cache: cache}
	zipped, err := zip(data)
	if err != nil {
		return nil, fmt.Errorf("web: load %s: %v", name, err)
	}
	if len(zipped) < len(data)*9/10 {
		a.zipped = zipped
	}
	return a, nil
}

func zip(data []byte) ([]byte, error) {
	var buf bytes.Buffer
	w, err := gzip.NewWriterLevel(&buf, gzip.BestCompression)
	if err != nil {
		return nil, err
	}
	if _, err := w.Write(data); err != nil {
		return nil, err
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	return buf.Bytes(), nil
}
