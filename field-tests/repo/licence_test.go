package repo

import (
	"os"
	"path/filepath"
	"slices"
	"sort"
	"strings"
	"testing"
)

// weakCopyleft are modules under the Mozilla Public License 2.0, which binds
// changes to their own files only. Each is here for a reason; we change none.
var weakCopyleft = map[string]string{
	"github.com/hashicorp/memberlist":         "asked for by the order: it finds neighbours",
	"github.com/hashicorp/errwrap":            "of memberlist",
	"github.com/hashicorp/go-multierror":      "of memberlist",
	"github.com/hashicorp/go-immutable-radix": "of memberlist",
	"github.com/hashicorp/golang-lru":         "of memberlist",
	"github.com/hashicorp/golang-lru/v2":      "of libp2p",
	"github.com/hashicorp/go-sockaddr":        "of memberlist",
}

// phrases by which a licence's text is known. The first that fits wins, so
// those that ask for more come first.
var phrases = []struct{ name, phrase string }{
	{"MPL-2.0", "mozilla public license"}, // it names the GNU ones as others it goes with
	{"AGPL", "gnu affero general public license"},
	{"LGPL", "gnu lesser general public license"},
	{"GPL", "gnu general public license"},
	{"SSPL", "server side public license"},
	{"BUSL", "business source license"},
	{"Apache-2.0", "apache license"},
	{"Apache-2.0", "apache-2.0 software license"},
	{"ISC", "permission to use, copy, modify, and/or distribute this software"},
	{"ISC", "permission to use, copy, modify, and distribute this software"},
	{"MIT", "permission is hereby granted, free of charge"},
	{"BSD", "redistribution and use in source and binary forms"},
	{"CC0", "creative commons legal code"},
	{"Unlicense", "this is free and unencumbered software"},
}

var free = []string{"Apache-2.0", "ISC", "MIT", "BSD", "CC0", "Unlicense"}

// classify names the licence of a text, "" when it is none we know.
func classify(text string) string {
	text = strings.ToLower(strings.Join(strings.Fields(text), " "))
	for _, p := range phrases {
		if strings.Contains(text, p.phrase) {
			return p.name
		}
	}
	return ""
}

// licences reads the licence files at the root of a module.
func licences(dir string) ([]string, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	var out []string
	for _, e := range entries {
		name := strings.ToUpper(e.Name())
		if e.IsDir() || !(strings.HasPrefix(name, "LICENSE") || strings.HasPrefix(name, "LICENCE") || strings.HasPrefix(name, "COPYING") || strings.HasPrefix(name, "UNLICENSE")) {
			continue
		}
		b, err := os.ReadFile(filepath.Join(dir, e.Name()))
		if err != nil {
			return nil, err
		}
		if kind := classify(string(b)); kind != "" && !slices.Contains(out, kind) {
			out = append(out, kind)
		}
	}
	return out, nil
}

// acceptable says whether a module offered under these licences may be linked:
// under several, one free one is enough (they are alternatives).
func acceptable(module string, kinds []string) bool {
	for _, k := range kinds {
		if slices.Contains(free, k) || k == "MPL-2.0" && weakCopyleft[module] != "" {
			return true
		}
	}
	return false
}

func TestOnlyFreeLicencesAreLinked(t *testing.T) {
	deps, err := List(root(t), "-deps", "./node/outrider")
	if err != nil {
		t.Fatal(err)
	}
	dirs := map[string]string{}
	for _, p := range deps {
		if p.Module != nil && !p.Module.Main {
			dirs[p.Module.Path] = p.Module.Dir
		}
	}
	var names []string
	for m := range dirs {
		names = append(names, m)
	}
	sort.Strings(names)
	if len(names) == 0 {
		t.Fatal("no module is linked: go list told nothing")
	}
	for _, m := range names {
		dir := dirs[m]
		if dir == "" { // a vendored build
			dir = filepath.Join(root(t), "vendor", m)
		}
		kinds, err := licences(dir)
		if err != nil {
			t.Errorf("%s: %v", m, err)
			continue
		}
		if !acceptable(m, kinds) {
			t.Errorf("%s is under %v: link nothing that is not Apache, MIT, BSD or alike", m, kinds)
		}
	}
}

func TestClassify(t *testing.T) {
	for text, want := range map[string]string{
		"GNU AFFERO GENERAL PUBLIC LICENSE\nVersion 3":            "AGPL",
		"GNU GENERAL PUBLIC\n LICENSE Version 2":                  "GPL",
		"Permission is hereby granted, free of charge, to any":    "MIT",
		"Redistribution and use in source and binary forms, with": "BSD",
		"all rights reserved":                                     "",
	} {
		if got := classify(text); got != want {
			t.Errorf("%q: %q, want %q", text, got, want)
		}
	}
	if acceptable("x", []string{"GPL"}) || acceptable("x", nil) || acceptable("x", []string{"MPL-2.0"}) ||
		!acceptable("x", []string{"GPL", "MIT"}) || !acceptable("github.com/hashicorp/memberlist", []string{"MPL-2.0"}) {
		t.Error("acceptable")
	}
}
