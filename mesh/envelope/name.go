package envelope

import (
	"path"
	"strings"
	"unicode"
	"unicode/utf8"
)

// maxFileName is the longest file name, in bytes.
const maxFileName = 255

// SafeName makes a name that came from somebody else fit to be a file's name
// on any system: the last element of a path, without control and formatting
// characters, without what Windows or a shell takes for something else, never
// empty, never hidden, at most 255 bytes.
func SafeName(name string) string {
	name = strings.ToValidUTF8(name, "_")
	name = path.Base(strings.ReplaceAll(name, `\`, "/"))
	name = strings.Map(safeRune, name)
	name = strings.TrimLeft(strings.TrimSpace(name), ".-~ ")
	name = strings.TrimRight(cutName(name), ". ")
	if name == "" {
		return "file"
	}
	if stem, _, _ := strings.Cut(name, "."); isDeviceName(strings.TrimRight(stem, " ")) {
		name = "_" + cutTo(name, maxFileName-1)
	}
	return name
}

func safeRune(r rune) rune {
	switch {
	case strings.ContainsRune(`<>:"|?*`, r):
		return '_'
	case r == '/' || unicode.IsControl(r) || unicode.Is(unicode.Cf, r) || unicode.In(r, unicode.Zl, unicode.Zp, unicode.Co, unicode.Cs):
		return -1
	}
	return r
}

// cutName shortens a name to 255 bytes and keeps a short extension.
func cutName(name string) string {
	ext := path.Ext(name)
	if len(name) <= maxFileName || len(ext) > 32 {
		return cutTo(name, maxFileName)
	}
	return cutTo(strings.TrimSuffix(name, ext), maxFileName-len(ext)) + ext
}

// cutTo cuts at a rune's begin, at n bytes or before.
func cutTo(s string, n int) string {
	if len(s) <= n {
		return s
	}
	for n > 0 && !utf8.RuneStart(s[n]) {
		n--
	}
	return s[:n]
}

// isDeviceName tells the names that Windows keeps for devices.
func isDeviceName(stem string) bool {
	switch s := strings.ToUpper(stem); s {
	case "CON", "PRN", "AUX", "NUL", "CONIN$", "CONOUT$":
		return true
	default:
		return len(s) == 4 && (strings.HasPrefix(s, "COM") || strings.HasPrefix(s, "LPT")) && s[3] >= '0' && s[3] <= '9'
	}
}
