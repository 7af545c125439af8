package plainsearch

import (
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"math"
	"strconv"
	"unicode/utf16"
	"unicode/utf8"
)

// A Needle is something that must not be found.
type Needle struct {
	Name  string // how a hit is reported; never the needle itself
	Bytes []byte
}

// Text is a needle of text: a message, a file's name, somebody's name.
func Text(name, text string) Needle { return Needle{name, []byte(text)} }

// Block is a needle of bytes, such as a part of a file.
func Block(name string, b []byte) Needle { return Needle{name, b} }

// Coordinates returns the forms in which a position would be stored: both
// numbers as decimal text with five and more digits, as IEEE doubles in both
// byte orders, and as integers of 1e-7 degrees side by side.
func Coordinates(name string, lat, lon float64) []Needle {
	var out []Needle
	add := func(form string, b []byte) { out = append(out, Needle{name + " " + form, b}) }
	for _, v := range []struct {
		what string
		deg  float64
	}{{"latitude", lat}, {"longitude", lon}} {
		// The first five decimals (about a metre) begin every longer form too.
		text := strconv.FormatFloat(v.deg, 'f', 9, 64)
		add(v.what+" text", []byte(text[:len(text)-4]))
		bits := math.Float64bits(v.deg)
		add(v.what+" double", binary.BigEndian.AppendUint64(nil, bits))
		add(v.what+" double, little endian", binary.LittleEndian.AppendUint64(nil, bits))
	}
	a, o := int32(math.Round(lat*1e7)), int32(math.Round(lon*1e7))
	add("integers", binary.BigEndian.AppendUint32(binary.BigEndian.AppendUint32(nil, uint32(a)), uint32(o)))
	add("integers, little endian", binary.LittleEndian.AppendUint32(binary.LittleEndian.AppendUint32(nil, uint32(a)), uint32(o)))
	return out
}

const (
	// needleMin is the shortest needle, in bytes: shorter ones would be found
	// in random bytes now and then.
	needleMin = 5
	// Needles longer than windowLen are cut into windows of that length, so
	// that parts are found too: any part of 2*windowLen-1 bytes holds a whole
	// window. Of a very long needle windowMax windows are taken, evenly.
	windowLen = 16
	windowMax = 64
)

// A form is one spelling of a needle.
type form struct {
	needle int    // index
	how    string // "hex", "base64" ...
	bytes  []byte
}

// forms spells a needle, or a window of it, in every way.
func (n Needle) forms(index int) ([]form, error) {
	if len(n.Bytes) < needleMin {
		return nil, fmt.Errorf("plainsearch: needle %q has %d bytes, fewer than %d", n.Name, len(n.Bytes), needleMin)
	}
	var out []form
	for _, w := range windows(n.Bytes) {
		out = append(out, form{index, "raw", w})
		lower := hex.EncodeToString(w)
		out = append(out, form{index, "hex", []byte(lower)}, form{index, "hex", []byte(fmt.Sprintf("%X", w))})
		out = append(out, base64Forms(index, w)...)
	}
	// UTF-16 spells characters, not bytes: the text is spelt whole, then cut.
	if utf8.Valid(n.Bytes) {
		units := utf16.Encode([]rune(string(n.Bytes)))
		var le, be []byte
		for _, u := range units {
			le = binary.LittleEndian.AppendUint16(le, u)
			be = binary.BigEndian.AppendUint16(be, u)
		}
		for _, w := range windows(le) {
			out = append(out, form{index, "UTF-16LE", w})
		}
		for _, w := range windows(be) {
			out = append(out, form{index, "UTF-16BE", w})
		}
	}
	return out, nil
}

// windows cuts a needle as described at windowLen.
func windows(b []byte) [][]byte {
	if len(b) < 2*windowLen {
		return [][]byte{b}
	}
	n := len(b) / windowLen
	take := min(n, windowMax)
	out := make([][]byte, 0, take)
	for i := range take {
		at := i * n / take * windowLen
		out = append(out, b[at:at+windowLen])
	}
	return out
}

// base64Forms spells w in base64 (RFC 4648) at the three places it can have
// within the groups of three bytes, in both alphabets. Characters that depend
// on the neighbours are left out.
func base64Forms(index int, w []byte) []form {
	var out []form
	for shift := range 3 {
		padded := append(make([]byte, shift), w...)
		for _, enc := range []*base64.Encoding{base64.RawStdEncoding, base64.RawURLEncoding} {
			s := enc.EncodeToString(padded)
			from := (shift*8 + 5) / 6      // first character made of w alone
			to := (shift + len(w)) * 8 / 6 // first one that is not
			out = append(out, form{index, "base64", []byte(s[from:to])})
		}
	}
	return out
}
