package deeplink

import (
	"bytes"
	"crypto/rand"
	"fmt"
	"math/big"
	"slices"
	"strings"
	"unicode/utf8"

	"outrider/mesh/identity"
)

const (
	// PasswordWords words of 7,776 make a generated password worth 77 bits.
	PasswordWords = 6
	// FingerprintWords times 11 bits make 66 bits to be compared aloud.
	FingerprintWords = 6

	// So many letters tell a word of passwordWords from all others.
	passwordStart = 5
)

// Words returns a new password of six words with hyphens between them: 77
// bits.
func Words() (string, error) {
	list, out := passwordWords(), []string(nil)
	for range PasswordWords {
		n, err := rand.Int(rand.Reader, big.NewInt(int64(len(list))))
		if err != nil {
			return "", fmt.Errorf("deeplink: make password: %w", err)
		}
		out = append(out, list[n.Int64()])
	}
	return strings.Join(out, "-"), nil
}

// Fingerprint returns the six words by which two people make sure, by voice,
// that they mean the same network.
func Fingerprint(network identity.NetworkID) string {
	h := identity.Hash(identity.LabelFingerprint, network[:])
	out := make([]string, FingerprintWords)
	for i := range out {
		n := 0
		for bit := i * wordBits; bit < (i+1)*wordBits; bit++ {
			n = n<<1 | int(h[bit/8]>>(7-bit%8)&1)
		}
		out[i] = words[n]
	}
	return strings.Join(out, " ")
}

// CheckPassword refuses a new password that is too easy to guess, whatever it
// is for: a link, a user's keys, an admin's. Our words (Words) always pass.
func CheckPassword(password []byte) error {
	if utf8.RuneCount(password) < MinPassword {
		return ErrWeakPassword
	}
	return nil
}

// canonicalPassword undoes what people do to a generated password when they
// type it: capitals, spaces for hyphens, words cut to five letters. Any other
// password is taken as it is, but for a line break at its end.
func canonicalPassword(password []byte) []byte {
	password = bytes.TrimRight(password, "\r\n")
	parts := bytes.FieldsFunc(password, func(r rune) bool { return strings.ContainsRune(" \t-,.", r) })
	if len(parts) != PasswordWords {
		return password
	}
	out := make([]string, len(parts))
	for i, p := range parts {
		w, ok := findWord(passwordWords(), passwordStart, strings.ToLower(string(p)))
		if !ok {
			return password
		}
		out[i] = w
	}
	return []byte(strings.Join(out, "-"))
}

// findWord returns the word of an ordered list that is w or, if w has start
// letters or more, begins with it. No two words of the list begin with the same
// start letters.
func findWord(list []string, start int, w string) (string, bool) {
	at, exact := slices.BinarySearch(list, w)
	if exact {
		return w, true
	}
	if len(w) >= start && at < len(list) && strings.HasPrefix(list[at], w) {
		return list[at], true
	}
	return "", false
}
