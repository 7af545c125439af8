package deeplink

import (
	"bytes"
	"crypto/rand"
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"

	"outrider/mesh/identity"
)

const (
	// PasswordWords times 11 bits make a generated password worth 77 bits.
	PasswordWords = 7
	// FingerprintWords times 11 bits make 66 bits to be compared aloud.
	FingerprintWords = 6
)

// Words returns a new password of seven words with hyphens between them: 77
// bits.
func Words() (string, error) {
	var random [2 * PasswordWords]byte
	if _, err := rand.Read(random[:]); err != nil {
		return "", fmt.Errorf("deeplink: make password: %w", err)
	}
	var out []string
	for i := range PasswordWords {
		n := int(random[2*i])<<8 | int(random[2*i+1])
		out = append(out, words[n%len(words)]) // 2^16 is a multiple of 2^11: no word is likelier
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
// type it: capitals, spaces for hyphens, words cut to four letters. Any other
// password is taken as it is, but for a line break at its end.
func canonicalPassword(password []byte) []byte {
	password = bytes.TrimRight(password, "\r\n")
	parts := bytes.FieldsFunc(password, func(r rune) bool { return strings.ContainsRune(" \t-,.", r) })
	if len(parts) != PasswordWords {
		return password
	}
	out := make([]string, len(parts))
	for i, p := range parts {
		w, ok := findWord(strings.ToLower(string(p)))
		if !ok {
			return password
		}
		out[i] = w
	}
	return []byte(strings.Join(out, "-"))
}

// findWord returns the listed word that is w or, if w has four letters or
// more, begins with it.
func findWord(w string) (string, bool) {
	at, exact := slices.BinarySearch(words, w)
	if exact {
		return w, true
	}
	if len(w) >= 4 && at < len(words) && strings.HasPrefix(words[at], w) {
		return words[at], true
	}
	return "", false
}
