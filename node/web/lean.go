package web

import (
	"bytes"
	"path"
)

// lean leaves out of a script or style sheet what only its readers need:
// indentation, empty lines, and comments that stand alone on their lines.
// Nothing else is touched, so a line is still the line that its author wrote.
// Templates and comments over several lines are followed, because inside a
// template every blank counts.
func lean(name string, data []byte) []byte {
	switch path.Ext(name) {
	case ".css":
		return leanLines(data, false)
	case ".js", ".mjs":
		return leanLines(data, true)
	}
	return data
}

func leanLines(data []byte, script bool) []byte {
	out := make([]byte, 0, len(data))
	comment, template := false, false
	for line := range bytes.Lines(data) {
		switch text := bytes.TrimSpace(line); {
		case template:
			out = append(out, line...)
			template = openTemplate(line, true)
		case comment:
			comment = !bytes.HasSuffix(text, []byte("*/"))
		case len(text) == 0, script && bytes.HasPrefix(text, []byte("//")):
		case bytes.HasPrefix(text, []byte("/*")):
			comment = !bytes.Contains(text, []byte("*/"))
			if !comment && !bytes.HasSuffix(text, []byte("*/")) { // code follows it
				out = append(append(out, text...), '\n')
			}
		default:
			out = append(append(out, text...), '\n')
			template = script && openTemplate(text, false)
		}
	}
	return out
}

// openTemplate tells whether a template is open after a line, by its
// backquotes: those in strings and patterns must be escaped in the source, a
// test sees to it.
func openTemplate(line []byte, open bool) bool {
	for i := 0; i < len(line); i++ {
		switch line[i] {
		case '\\':
			i++
		case '`':
			open = !open
		}
	}
	return open
}
