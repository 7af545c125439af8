package node

import (
	"bytes"
	"encoding/base32"
	"encoding/base64"
	"encoding/hex"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
	"unicode/utf16"
)

// forms are the ways a needle may lie in a file: as it is, in hex, base32,
// base64 at each of the three alignments, and in UTF-16 both ways.
func forms(needle []byte) [][]byte {
	out := [][]byte{
		needle, []byte(hex.EncodeToString(needle)), bytes.ToUpper([]byte(hex.EncodeToString(needle))),
		[]byte(base32.StdEncoding.WithPadding(base32.NoPadding).EncodeToString(needle[:len(needle)/5*5])),
	}
	out = append(out, bytes.ToLower(out[3]))
	for _, enc := range []*base64.Encoding{base64.RawStdEncoding, base64.RawURLEncoding} {
		for skip := range 3 {
			part := needle[skip:]
			out = append(out, []byte(enc.EncodeToString(part[:len(part)/3*3])))
		}
	}
	var le, be []byte
	for _, u := range utf16.Encode([]rune(string(needle))) {
		le, be = append(le, byte(u), byte(u>>8)), append(be, byte(u>>8), byte(u))
	}
	return append(out, le, be)
}

// search returns the files below dir, names included, that hold a needle in
// one of its forms.
func search(t *testing.T, dir string, needle []byte) (found []string) {
	t.Helper()
	if len(needle) < 16 {
		t.Fatalf("a needle of %d bytes could be found by chance", len(needle))
	}
	ways := forms(needle)
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		raw, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		raw = append(raw, filepath.Base(path)...)
		for _, w := range ways {
			if bytes.Contains(raw, w) {
				found = append(found, path)
				break
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return found
}
