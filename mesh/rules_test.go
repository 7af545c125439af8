package mesh

import (
	"go/ast"
	"go/parser"
	"go/token"
	"path/filepath"
	"strings"
	"testing"
)

// The machine must compute alike on amd64 and arm64, and must depend on
// nothing but its inputs (decisions 14). This test reads the syntax of all
// that runs inside Step: no floating point, no clock, no goroutine, no
// channel, no lock, no source of its own.
func TestMachineIsPure(t *testing.T) {
	for _, dir := range []string{".", "routing", "reconcile"} {
		files, err := filepath.Glob(filepath.Join(dir, "*.go"))
		if err != nil || len(files) == 0 {
			t.Fatalf("no files in %s: %v", dir, err)
		}
		for _, name := range files {
			if strings.HasSuffix(name, "_test.go") {
				continue
			}
			src, err := parser.ParseFile(token.NewFileSet(), name, nil, 0)
			if err != nil {
				t.Fatal(err)
			}
			shell := strings.HasPrefix(filepath.Base(name), "shell")
			ast.Inspect(src, func(n ast.Node) bool {
				if what := floats(n); what != "" {
					t.Errorf("%s uses floating point: %s", name, what)
				}
				if what := effects(n); what != "" && !shell {
					t.Errorf("%s is part of the machine and has %s", name, what)
				}
				return true
			})
		}
	}
}

func floats(n ast.Node) string {
	switch n := n.(type) {
	case *ast.Ident:
		switch n.Name {
		case "float32", "float64", "complex64", "complex128":
			return n.Name
		}
	case *ast.BasicLit:
		if n.Kind == token.FLOAT || n.Kind == token.IMAG {
			return n.Value
		}
	case *ast.SelectorExpr:
		if pkg, ok := n.X.(*ast.Ident); ok && pkg.Name == "time" {
			switch n.Sel.Name {
			case "Seconds", "Minutes", "Hours":
				return "time." + n.Sel.Name
			}
		}
	case *ast.CallExpr:
		if sel, ok := n.Fun.(*ast.SelectorExpr); ok && len(n.Args) == 0 {
			switch sel.Sel.Name {
			case "Seconds", "Minutes", "Hours": // of a time.Duration
				return "." + sel.Sel.Name + "()"
			}
		}
	case *ast.ImportSpec:
		if n.Path.Value == `"math"` || n.Path.Value == `"math/big"` {
			return "import " + n.Path.Value
		}
	}
	return ""
}

func effects(n ast.Node) string {
	switch n := n.(type) {
	case *ast.GoStmt:
		return "a goroutine"
	case *ast.SendStmt, *ast.SelectStmt, *ast.ChanType:
		return "a channel"
	case *ast.SelectorExpr:
		pkg, ok := n.X.(*ast.Ident)
		if !ok {
			return ""
		}
		switch pkg.Name + "." + n.Sel.Name {
		case "time.Now", "time.Since", "time.Until", "time.After", "time.NewTimer", "time.Sleep", "time.AfterFunc":
			return pkg.Name + "." + n.Sel.Name
		}
		if pkg.Name == "os" || pkg.Name == "sync" || pkg.Name == "net" || pkg.Name == "rand" && n.Sel.Name != "Source" {
			return pkg.Name + "." + n.Sel.Name
		}
	}
	return ""
}
