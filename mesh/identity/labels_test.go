package identity

import (
	"bytes"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

// writtenOut are the labels that other packages spell themselves, with the
// folder that may.
var writtenOut = map[string]string{
	"bundle": "mesh/bundle", "purge": "mesh/bundle", "root": "mesh/reconcile", "gossip-stream": "mesh/gossip", "gossip-confirm": "mesh/gossip",
	"vault-page": "store", "vault-anchor": "store", "admin-keys": "node", "service-wrap": "node/chat",
	"call-commit": "media/agree", "call-secret": "media/agree", "call-sender": "media/agree", "call-code": "media/agree",
	"ledger-box": "node", "ledger-purge": "node", "core-purge": "offline/coresync",
}

// TestLabels holds crypto.md 2.4: one table, all distinct, none the prefix of
// another. It reads the table from the source, so that a new line is in it,
// and the whole product for labels that stand elsewhere.
func TestLabels(t *testing.T) {
	all := map[string]bool{}
	add := func(l string) {
		if all[l] {
			t.Errorf("label %q stands for two things", l)
		}
		all[l] = true
		if l == "" || strings.ContainsFunc(l, func(r rune) bool { return (r < 'a' || r > 'z') && (r < '0' || r > '9') && r != '-' }) {
			t.Errorf("label %q has characters that could break the prefix", l)
		}
	}
	for _, l := range labelsInSource(t) {
		add(l)
	}
	for l := range writtenOut {
		add(l)
	}
	if len(all) < 40 {
		t.Fatalf("only %d labels found", len(all))
	}
	for a := range all {
		for b := range all {
			if a != b && bytes.HasPrefix(Label(a).Prefix(), Label(b).Prefix()) {
				t.Errorf("%q begins with %q", a, b)
			}
		}
	}
	if string(DomainRoot.Prefix()) != "outrider/v1/root-record\x00" || string(LabelWrap.Prefix()) != "outrider/v1/wrap\x00" {
		t.Error("prefix is not what the documents say")
	}
	found := 0
	eachLiteral(t, func(folder, literal string) {
		label, ours := strings.CutPrefix(literal, labelRoot)
		if !ours || folder == "mesh/identity" {
			return
		}
		found++
		if writtenOut[strings.TrimSuffix(label, "\x00")] != folder {
			t.Errorf("%s spells the label %q: use a constant of mesh/identity/labels.go, or list it in labels_test.go", folder, label)
		}
	})
	if found == 0 {
		t.Error("no label was found outside this package: the search is broken")
	}
}

// labelsInSource returns the values of all constants of type Domain or Label.
func labelsInSource(t *testing.T) (out []string) {
	t.Helper()
	f, err := parser.ParseFile(token.NewFileSet(), "labels.go", nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	ast.Inspect(f, func(n ast.Node) bool {
		spec, ok := n.(*ast.ValueSpec)
		if !ok {
			return true
		}
		if id, ok := spec.Type.(*ast.Ident); !ok || id.Name != "Domain" && id.Name != "Label" {
			return true
		}
		for _, v := range spec.Values {
			s, err := strconv.Unquote(v.(*ast.BasicLit).Value)
			if err != nil {
				t.Fatal(err)
			}
			out = append(out, s)
		}
		return true
	})
	return out
}

// eachLiteral calls f with every string literal of the module's programs.
func eachLiteral(t *testing.T, f func(folder, literal string)) {
	t.Helper()
	top := filepath.Join("..", "..")
	err := filepath.WalkDir(top, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() && path != top && (strings.HasPrefix(d.Name(), ".") || d.Name() == "vendor" || d.Name() == "testdata" || d.Name() == "field-tests" || d.Name() == "bin") {
			return fs.SkipDir
		}
		if !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
			return nil
		}
		file, err := parser.ParseFile(token.NewFileSet(), path, nil, 0)
		if err != nil {
			return err
		}
		folder, err := filepath.Rel(top, filepath.Dir(path))
		ast.Inspect(file, func(n ast.Node) bool {
			if lit, ok := n.(*ast.BasicLit); ok && lit.Kind == token.STRING {
				if s, err := strconv.Unquote(lit.Value); err == nil {
					f(filepath.ToSlash(folder), s)
				}
			}
			return true
		})
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}
