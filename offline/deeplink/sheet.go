package deeplink

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"slices"
	"strings"
)

// SheetWords is how many words a recovery sheet has: 32 bytes and 8 bits of
// check, 11 bits a word.
const SheetWords = 24

// ErrSheet means that words are no recovery sheet: one is not of our list,
// they are too few or too many, or the check does not fit.
var ErrSheet = errors.New("these are not the 24 words of a recovery sheet")

// SheetFrom writes a secret as the words of a recovery sheet.
func SheetFrom(secret [32]byte) string {
	all := append(secret[:], sha256.Sum256(secret[:])[0])
	out := make([]string, SheetWords)
	for i := range out {
		n := 0
		for bit := i * wordBits; bit < (i+1)*wordBits; bit++ {
			n = n<<1 | int(all[bit/8]>>(7-bit%8)&1)
		}
		out[i] = words[n]
	}
	return strings.Join(out, " ")
}

// ReadSheet undoes SheetFrom. Capitals, hyphens, numbers before the words and
// words cut to four letters are taken as people type them.
func ReadSheet(text string) (secret [32]byte, err error) {
	var all [33]byte
	at := 0
	for _, w := range strings.FieldsFunc(strings.ToLower(text), func(r rune) bool { return r < 'a' || r > 'z' }) {
		found, ok := findWord(words, wordStart, w)
		if !ok || at >= SheetWords {
			return secret, fmt.Errorf("deeplink: read recovery sheet: word %d: %w", at+1, ErrSheet)
		}
		n := wordIndex(found)
		for bit := range wordBits {
			to := at*wordBits + bit
			all[to/8] |= byte(n>>(wordBits-1-bit)&1) << (7 - to%8)
		}
		at++
	}
	copy(secret[:], all[:])
	if at != SheetWords || sha256.Sum256(secret[:])[0] != all[32] {
		return [32]byte{}, fmt.Errorf("deeplink: read recovery sheet: %w", ErrSheet)
	}
	return secret, nil
}

func wordIndex(w string) int {
	at, _ := slices.BinarySearch(words, w)
	return at
}
