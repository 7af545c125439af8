// Package cot reads and writes Cursor-on-Target events, the unit in which TAK
// clients tell each other things, in both forms that are on their wires: XML
// (TAK protocol version 0) and protobuf (version 1).
//
// What the package promises:
//
//   - Reading is bounded: an event has at most MaxEvent bytes, MaxElements
//     elements and MaxDepth levels; document types and entities of one's own
//     are refused, so nothing can be blown up by expansion.
//   - An event that is returned is valid by the rule that ATAK itself applies:
//     uid, type and how are there, the times are there, and the point lies on
//     Earth.
//   - Attributes and elements that the package does not know survive: reading
//     one form and writing the other loses none of them.
//   - Whatever is written can be read back.
package cot

import (
	"errors"
	"fmt"
	"math"
	"strings"
	"time"
)

// Limits of an event. Ours: ATAK states none. Values of some hundred kilobytes
// in one attribute are seen in the field.
const (
	MaxEvent    = 1 << 20 // bytes, in either form
	MaxElements = 10_000
	MaxDepth    = 32
	MaxID       = 512 // bytes of uid, type, how and callsigns
)

// Unknown is what height and errors of a point say when nobody knows them. The
// protobuf form and negotiation write six nines: all from there on is unknown.
const (
	Unknown        = 9999999.0
	unknownFrom    = 999999.0
	unknownControl = 999999.0
)

// Errors that callers tell apart.
var (
	// ErrMalformed means that the bytes are no event.
	ErrMalformed = errors.New("malformed event")
	// ErrTooLarge means that an event exceeds a limit of this package.
	ErrTooLarge = errors.New("event too large")
)

// An Event is one statement: what UID is, where, and for how long that holds.
type Event struct {
	UID, Type, How     string
	Time, Start, Stale time.Time
	Point              Point

	Access, QOS, Opex, Caveat, ReleaseableTo string

	Detail []Element // the children of <detail>
}

// A Point is a position on WGS 84: degrees and metres. HAE is the height above
// the ellipsoid, CE and LE are errors.
type Point struct{ Lat, Lon, HAE, CE, LE float64 }

// NoPoint is for events that are nowhere.
var NoPoint = Point{HAE: Unknown, CE: Unknown, LE: Unknown}

// IsUnknown tells whether a height or an error is not known.
func IsUnknown(v float64) bool { return !(v < unknownFrom) }

// An Element is one XML element. Text is all its character data.
type Element struct {
	Name     string
	Attrs    []Attr
	Text     string
	Children []Element
}

// An Attr is one attribute.
type Attr struct{ Name, Value string }

// Attr returns an attribute's value, empty when it is not there.
func (e *Element) Attr(name string) string {
	if e == nil {
		return ""
	}
	for _, a := range e.Attrs {
		if a.Name == name {
			return a.Value
		}
	}
	return ""
}

// Child returns the first child of a name, nil when there is none.
func (e *Element) Child(name string) *Element {
	if e == nil {
		return nil
	}
	return find(e.Children, name)
}

// Find returns the first element of a name in the event's detail.
func (e *Event) Find(name string) *Element { return find(e.Detail, name) }

func find(list []Element, name string) *Element {
	for i := range list {
		if list[i].Name == name {
			return &list[i]
		}
	}
	return nil
}

// E makes an element; attrs are names and values in turn.
func E(name string, attrs ...string) Element {
	e := Element{Name: name}
	for i := 0; i+1 < len(attrs); i += 2 {
		e.Attrs = append(e.Attrs, Attr{attrs[i], attrs[i+1]})
	}
	return e
}

// With adds children.
func (e Element) With(children ...Element) Element {
	e.Children = append(e.Children, children...)
	return e
}

// Callsign is what the event's thing is called, empty when it is no person.
func (e *Event) Callsign() string { return e.Find("contact").Attr("callsign") }

// Dests returns the callsigns and uids that an event is addressed to. An event
// without any is for everybody. other is set when it is addressed by
// something else: a group, a mission.
func (e *Event) Dests() (callsigns, uids []string, other bool) {
	marti := e.Find("marti")
	if marti == nil {
		return nil, nil, false
	}
	for i := range marti.Children {
		d := &marti.Children[i]
		if d.Name != "dest" {
			continue
		}
		switch callsign, uid := d.Attr("callsign"), d.Attr("uid"); {
		case callsign != "":
			callsigns = append(callsigns, callsign)
		case uid != "":
			uids = append(uids, uid)
		default:
			other = true
		}
	}
	return callsigns, uids, other
}

// Span is for how long the event holds, by its sender's clock: the one thing
// about its times that does not depend on that clock being right.
func (e *Event) Span() time.Duration { return max(0, e.Stale.Sub(e.Start)) }

// Check tells whether the event is one that ATAK would accept, within the
// limits of this package.
func (e *Event) Check() error {
	for _, f := range []struct{ name, value string }{{"uid", e.UID}, {"type", e.Type}, {"how", e.How}} {
		switch {
		case strings.TrimSpace(f.value) == "":
			return malformed("it has no " + f.name)
		case len(f.value) > MaxID:
			return tooLarge(fmt.Sprintf("its %s has %d bytes, at most %d are taken", f.name, len(f.value), MaxID))
		}
	}
	switch {
	case e.Time.IsZero() || e.Start.IsZero() || e.Stale.IsZero():
		return malformed("it lacks one of time, start and stale")
	case !(math.Abs(e.Point.Lat) <= 90 && math.Abs(e.Point.Lon) <= 180):
		return malformed("its point is not on Earth")
	case isOff(e.Point.HAE) || isOff(e.Point.CE) || isOff(e.Point.LE):
		return malformed("its point has no number")
	}
	for _, t := range []time.Time{e.Time, e.Start, e.Stale} {
		if t.Before(minTime) || t.After(maxTime) {
			return malformed("a time lies outside the years 1970 to 9999")
		}
	}
	return nil
}

func isOff(v float64) bool { return math.IsNaN(v) || math.IsInf(v, 0) }

// The times that both forms can say.
var minTime, maxTime = time.UnixMilli(0), time.UnixMilli(253_402_300_799_999)

func malformed(why string) error { return fmt.Errorf("cot: read: %s: %w", why, ErrMalformed) }
func tooLarge(why string) error  { return fmt.Errorf("cot: read: %s: %w", why, ErrTooLarge) }
