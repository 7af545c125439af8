package cot

import (
	"bytes"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"
)

// ParseXML reads one event in its XML form, with or without an XML
// declaration.
func ParseXML(b []byte) (Event, error) {
	root, err := ParseElement(b)
	if err != nil {
		return Event{}, err
	}
	if root.Name != "event" {
		return Event{}, malformed("the outer element is no event")
	}
	return eventOf(root)
}

// ParseElement reads one XML document as a tree, under the limits of an event.
func ParseElement(b []byte) (*Element, error) {
	if len(b) > MaxEvent {
		return nil, tooLarge(fmt.Sprintf("%d bytes, at most %d are taken", len(b), MaxEvent))
	}
	p := parser{d: xml.NewDecoder(bytes.NewReader(b))}
	for {
		t, err := p.d.RawToken()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, malformed("it is no XML (" + syntax(err) + ")")
		}
		if err := p.token(t); err != nil {
			return nil, err
		}
	}
	if p.root == nil || len(p.open) > 0 {
		return nil, malformed("an element is not closed")
	}
	return p.root, nil
}

// syntax says what the decoder found, without the bytes that it quotes.
func syntax(err error) string {
	var s *xml.SyntaxError
	if errors.As(err, &s) {
		return fmt.Sprintf("line %d", s.Line)
	}
	return "its encoding"
}

// A parser builds the tree.
type parser struct {
	d     *xml.Decoder
	root  *Element
	open  []*Element // from the root inwards
	count int
}

func (p *parser) token(t xml.Token) error {
	switch t := t.(type) {
	case xml.StartElement:
		return p.start(t)
	case xml.EndElement:
		return p.end(rawName(t.Name))
	case xml.CharData:
		if p.count++; p.count > MaxElements { // pieces that comments and CDATA cut
			return tooLarge(fmt.Sprintf("more than %d pieces", MaxElements))
		}
		if n := len(p.open); n > 0 {
			p.open[n-1].Text += string(t)
		} else if len(bytes.TrimSpace(t)) > 0 {
			return malformed("text stands outside of the event")
		}
	case xml.Directive:
		return malformed("document types and entities are not taken")
	}
	return nil
}

func (p *parser) start(t xml.StartElement) error {
	p.count += 1 + len(t.Attr)
	switch {
	case p.count > MaxElements:
		return tooLarge(fmt.Sprintf("more than %d elements and attributes", MaxElements))
	case len(p.open) >= MaxDepth:
		return tooLarge(fmt.Sprintf("elements lie more than %d deep", MaxDepth))
	case p.root != nil && len(p.open) == 0:
		return malformed("more than one outer element")
	}
	e := Element{Name: rawName(t.Name)}
	for _, a := range t.Attr {
		e.Attrs = append(e.Attrs, Attr{rawName(a.Name), a.Value})
	}
	if len(p.open) == 0 {
		p.root = &e
		p.open = append(p.open, p.root)
		return nil
	}
	// Only the innermost open element grows, so pointers to its ancestors'
	// places in their parents stay true.
	parent := p.open[len(p.open)-1]
	parent.Children = append(parent.Children, e)
	p.open = append(p.open, &parent.Children[len(parent.Children)-1])
	return nil
}

func (p *parser) end(name string) error {
	n := len(p.open)
	if n == 0 || p.open[n-1].Name != name {
		return malformed("an end tag closes nothing")
	}
	e := p.open[n-1]
	if strings.TrimSpace(e.Text) == "" {
		e.Text = "" // it only laid out the document
	}
	p.open = p.open[:n-1]
	return nil
}

// rawName is a name as it stands in the document: prefixes mean nothing here.
func rawName(n xml.Name) string {
	if n.Space != "" {
		return n.Space + ":" + n.Local
	}
	return n.Local
}

// eventOf reads the tree of an event.
func eventOf(root *Element) (Event, error) {
	e := Event{
		UID: root.Attr("uid"), Type: root.Attr("type"), How: root.Attr("how"), Access: root.Attr("access"), QOS: root.Attr("qos"),
		Opex: root.Attr("opex"), Caveat: root.Attr("caveat"), ReleaseableTo: root.Attr("releaseableTo"),
	}
	for name, at := range map[string]*time.Time{"time": &e.Time, "start": &e.Start, "stale": &e.Stale} {
		t, err := time.Parse(time.RFC3339Nano, strings.TrimSpace(root.Attr(name)))
		if err != nil {
			return Event{}, malformed("its " + name + " is no time")
		}
		*at = t.UTC()
	}
	point := root.Child("point")
	if point == nil {
		return Event{}, malformed("it has no point")
	}
	for name, v := range map[string]*float64{"lat": &e.Point.Lat, "lon": &e.Point.Lon, "hae": &e.Point.HAE, "ce": &e.Point.CE, "le": &e.Point.LE} {
		n, err := strconv.ParseFloat(strings.TrimSpace(point.Attr(name)), 64)
		if err != nil {
			return Event{}, malformed("the " + name + " of its point is no number")
		}
		*v = n
	}
	if d := root.Child("detail"); d != nil {
		e.Detail = d.Children
	}
	return e, e.Check()
}

// timeLayout is how ATAK writes times.
const timeLayout = "2006-01-02T15:04:05.000Z"

// XML writes the event in its XML form, without a declaration.
func (e *Event) XML() []byte {
	root := E("event", "version", "2.0", "uid", e.UID, "type", e.Type, "how", e.How,
		"time", e.Time.UTC().Format(timeLayout), "start", e.Start.UTC().Format(timeLayout), "stale", e.Stale.UTC().Format(timeLayout))
	for _, a := range []Attr{{"access", e.Access}, {"qos", e.QOS}, {"opex", e.Opex}, {"caveat", e.Caveat}, {"releaseableTo", e.ReleaseableTo}} {
		if a.Value != "" {
			root.Attrs = append(root.Attrs, a)
		}
	}
	point := E("point", "lat", number(e.Point.Lat), "lon", number(e.Point.Lon), "hae", number(e.Point.HAE), "ce", number(e.Point.CE), "le", number(e.Point.LE))
	root.Children = []Element{point, {Name: "detail", Children: e.Detail}}
	return root.appendXML(nil)
}

// number is the shortest text that is exactly v; what is unknown gets the form
// that ATAK writes.
func number(v float64) string {
	if v == Unknown {
		return "9999999.0"
	}
	return strconv.FormatFloat(v, 'f', -1, 64)
}

func (e *Element) appendXML(b []byte) []byte {
	b = append(append(b, '<'), e.Name...)
	for _, a := range e.Attrs {
		b = append(append(append(b, ' '), a.Name...), `="`...)
		b = append(appendEscaped(b, a.Value), '"')
	}
	if e.Text == "" && len(e.Children) == 0 {
		return append(b, "/>"...)
	}
	b = appendEscaped(append(b, '>'), e.Text)
	for i := range e.Children {
		b = e.Children[i].appendXML(b)
	}
	return append(append(append(b, "</"...), e.Name...), '>')
}

func appendEscaped(b []byte, s string) []byte {
	if s == "" {
		return b
	}
	buf := bytes.NewBuffer(b)
	_ = xml.EscapeText(buf, []byte(s)) // a Buffer takes everything
	return buf.Bytes()
}
