package config

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"reflect"
	"strings"

	"github.com/pelletier/go-toml/v2"
	"github.com/pelletier/go-toml/v2/unstable"
)

// fileMax bounds a configuration file, in bytes; the sample is under 4 kB.
const fileMax = 256 << 10

// An Error is one mistake in a configuration file.
type Error struct {
	Line    int    `json:"line,omitempty"` // 1-based; 0 when the value is a default or a flag
	Key     string `json:"key,omitempty"`  // dotted
	Message string `json:"message"`
	Hint    string `json:"hint,omitempty"` // what to write instead

	other string // the second setting of a mistake between two
}

// Error gives line, key, message and hint in one line.
func (e *Error) Error() string {
	var b strings.Builder
	b.WriteString("config: ")
	if e.Line > 0 {
		fmt.Fprintf(&b, "line %d: ", e.Line)
	}
	if e.Key != "" {
		fmt.Fprintf(&b, "%s: ", e.Key)
	}
	b.WriteString(e.Message)
	if e.Hint != "" {
		fmt.Fprintf(&b, " (%s)", e.Hint)
	}
	return b.String()
}

// Errors unpacks the mistakes inside an error of Load or Parse; it is empty
// for errors of the file system.
func Errors(err error) []*Error {
	switch x := err.(type) {
	case *Error:
		return []*Error{x}
	case interface{ Unwrap() []error }:
		var out []*Error
		for _, e := range x.Unwrap() {
			out = append(out, Errors(e)...)
		}
		return out
	case interface{ Unwrap() error }:
		return Errors(x.Unwrap())
	}
	return nil
}

// Load reads and validates the file at path. Its errors wrap those of the file
// system, or are *Error values, several joined (see Errors). A missing file is
// an error that matches fs.ErrNotExist.
func Load(path string) (Config, error) {
	f, err := os.Open(path)
	if err != nil {
		return Config{}, fmt.Errorf("config: open: %w", err)
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, fileMax+1))
	if err != nil {
		return Config{}, fmt.Errorf("config: read: %w", err)
	}
	c, err := Parse(data)
	if err != nil {
		return Config{}, fmt.Errorf("%s: %w", path, err)
	}
	return c, nil
}

// Parse decodes and validates a configuration. What it returns is valid.
func Parse(data []byte) (Config, error) {
	if len(data) > fileMax {
		return Config{}, &Error{Message: fmt.Sprintf("the file is larger than %d KiB", fileMax>>10)}
	}
	data = bytes.TrimPrefix(data, []byte("\ufeff")) // editors of other systems put it there
	// bytes.Clone with exact capacity: the library finds positions by capacity.
	data = bytes.Clone(data)[:len(data):len(data)]
	c := Default()
	dec := toml.NewDecoder(bytes.NewReader(data))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&c); err != nil {
		return Config{}, translate(err, data)
	}
	if err := c.Validate(); err != nil {
		lines := keyLines(data)
		for _, e := range Errors(err) {
			if e.other != "" && lines[e.Key] == 0 { // name the one that was written
				e.Message = strings.Replace(e.Message, e.other, e.Key, 1)
				e.Key, e.other = e.other, e.Key
			}
			e.Line = lines[e.Key]
		}
		return Config{}, err
	}
	return c, nil
}

// translate turns the library's errors into ours.
func translate(err error, data []byte) error {
	var strict *toml.StrictMissingError
	if errors.As(err, &strict) {
		var all []error
		for i := range strict.Errors {
			all = append(all, unknownKey(&strict.Errors[i]))
		}
		return errors.Join(all...)
	}
	var de *toml.DecodeError
	if errors.As(err, &de) {
		line, _ := de.Position()
		key := strings.Join(de.Key(), ".")
		if strings.Contains(de.Error(), "cannot decode") {
			return wrongKind(key, data, line)
		}
		return &Error{Line: line, Key: key, Message: strings.TrimPrefix(de.Error(), "toml: ")}
	}
	return &Error{Message: strings.TrimPrefix(err.Error(), "toml: ")}
}

// wrongKind says what kind of value a setting takes, and how to write it. The
// library speaks of Go's types.
func wrongKind(key string, data []byte, line int) *Error {
	def := Default()
	v, _ := leaf(&def, key)
	m := &Error{Line: line, Key: key, Message: "this takes a value of another kind", Hint: "outrider config show --defaults shows it"}
	switch v.Kind() {
	case reflect.Slice:
		m.Message, m.Hint = "this takes a list of texts", "write "+asList(data, line)
	case reflect.Bool:
		m.Message, m.Hint = "this takes true or false", "write it without quotes"
	case reflect.Int:
		m.Message, m.Hint = "this takes a whole number", "for example "+literal(v)
	case reflect.String:
		m.Message, m.Hint = "this takes a text", `write it in quotes: "..."`
	case reflect.Struct:
		m.Message, m.Hint = "this is a section", "write ["+key+"] on a line of its own"
	}
	return m
}

// asList puts the value that stands in a line into brackets.
func asList(data []byte, line int) string {
	lines := bytes.Split(data, []byte("\n"))
	if line < 1 || line > len(lines) {
		return `["..."]`
	}
	_, value, _ := strings.Cut(string(lines[line-1]), "=")
	value = strings.TrimSpace(value)
	if end := strings.LastIndexByte(value, '"'); end > 0 && end < 80 && value[0] == '"' && strings.Count(value, `"`) == 2 {
		return "[" + value[:end+1] + "]"
	}
	return `["..."]`
}

func unknownKey(e *toml.DecodeError) *Error {
	line, _ := e.Position()
	key := strings.Join(e.Key(), ".")
	out := &Error{Line: line, Key: key, Message: "no such setting"}
	if near := nearest(key); near != "" {
		out.Hint = "did you mean " + near + "?"
	} else {
		out.Hint = "outrider config show --defaults lists all"
	}
	return out
}

// nearest returns the setting whose key is most like key, or "".
func nearest(key string) string {
	if len(key) > 64 {
		return ""
	}
	best, bestD := "", 0
	for _, f := range Fields {
		d := distance(key, f.Key)
		if i := strings.LastIndexByte(f.Key, '.'); i >= 0 { // right name, wrong table
			d = min(d, 1+distance(key[strings.LastIndexByte(key, '.')+1:], f.Key[i+1:]))
		}
		if best == "" || d < bestD {
			best, bestD = f.Key, d
		}
	}
	if bestD > 1+len(key)/3 {
		return ""
	}
	return best
}

// distance is Levenshtein's edit distance in bytes.
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diag := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := 1
			if a[i] == b[j] {
				cost = 0
			}
			diag, row[j+1] = row[j+1], min(diag+cost, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}

// keyLines maps every key that stands in the file to its line.
func keyLines(data []byte) map[string]int {
	lines := map[string]int{}
	var p unstable.Parser
	p.Reset(data)
	table := ""
	for p.NextExpression() {
		n := p.Expression()
		if n.Kind != unstable.KeyValue && n.Kind != unstable.Table {
			continue
		}
		var parts []string
		line := 0
		for it := n.Key(); it.Next(); {
			k := it.Node()
			if line == 0 {
				line = p.Shape(k.Raw).Start.Line
			}
			parts = append(parts, string(k.Data))
		}
		key := strings.Join(parts, ".")
		if n.Kind == unstable.Table {
			table = key + "."
			continue
		}
		if n.Value() != nil && n.Value().Kind == unstable.InlineTable {
			inlineLines(table+key, n.Value(), line, lines)
			continue
		}
		lines[table+key] = line
	}
	return lines
}

// inlineLines notes the keys of an inline table; they share its line
// (TOML 1.0 keeps one on a single line).
func inlineLines(prefix string, table *unstable.Node, line int, lines map[string]int) {
	for it := table.Children(); it.Next(); {
		kv := it.Node()
		if kv.Kind != unstable.KeyValue {
			continue
		}
		var parts []string
		for k := kv.Key(); k.Next(); {
			parts = append(parts, string(k.Node().Data))
		}
		key := prefix + "." + strings.Join(parts, ".")
		lines[key] = line
		if v := kv.Value(); v != nil && v.Kind == unstable.InlineTable {
			inlineLines(key, v, line, lines)
		}
	}
}
