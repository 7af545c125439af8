package cot

import (
	"fmt"
	"math"
	"strconv"
	"time"
	"unicode/utf8"

	"google.golang.org/protobuf/encoding/protowire"
)

// Field numbers of TAK protocol version 1. They are facts of the wire: tak.md,
// section 12.
const (
	fieldCotEvent = 2 // of TakMessage; 1 is TakControl, which streams do not need

	fieldType, fieldAccess, fieldQOS, fieldOpex, fieldUID  = 1, 2, 3, 4, 5
	fieldSend, fieldStart, fieldStale, fieldHow            = 6, 7, 8, 9
	fieldLat, fieldLon, fieldHAE, fieldCE, fieldLE         = 10, 11, 12, 13, 14
	fieldDetail, fieldCaveat, fieldReleaseable             = 15, 16, 17
	detailXML, detailContact, detailGroup, detailPrecision = 1, 2, 3, 4
	detailStatus, detailTakv, detailTrack                  = 5, 6, 7
)

// typed are the elements of a detail that have a message of their own, with
// the attribute behind each field.
var typed = map[protowire.Number]struct {
	element string
	fields  []typedField // by field number, from 1
}{
	detailContact:   {"contact", []typedField{{"endpoint", text, false}, {"callsign", text, true}}},
	detailGroup:     {"__group", []typedField{{"name", text, true}, {"role", text, true}}},
	detailPrecision: {"precisionlocation", []typedField{{"geopointsrc", text, false}, {"altsrc", text, false}}},
	detailStatus:    {"status", []typedField{{"battery", uint, true}}},
	detailTakv:      {"takv", []typedField{{"device", text, false}, {"platform", text, false}, {"os", text, false}, {"version", text, false}}},
	detailTrack:     {"track", []typedField{{"speed", double, true}, {"course", double, true}}},
}

type typedField struct {
	attr     string
	kind     fieldKind
	required bool
}

type fieldKind uint8

const (
	text fieldKind = iota
	uint
	double
)

// ParseProto reads one TakMessage that carries an event. Fields that are not
// known are skipped.
func ParseProto(b []byte) (Event, error) {
	if len(b) > MaxEvent {
		return Event{}, tooLarge(fmt.Sprintf("%d bytes, at most %d are taken", len(b), MaxEvent))
	}
	var e *Event
	err := fields(b, func(n protowire.Number, v value) (err error) {
		if n == fieldCotEvent && v.bytes != nil {
			var ev Event
			ev, err = parseEvent(v.bytes)
			e = &ev
		}
		return err
	})
	switch {
	case err != nil:
		return Event{}, err
	case e == nil:
		return Event{}, malformed("the message carries no event")
	}
	return *e, e.Check()
}

// A value is one field's value, whatever its wire type.
type value struct {
	bits  uint64
	bytes []byte // not nil: a length-delimited field
}

// fields calls each for every field of a message. Lengths are checked against
// what is there before anything is made of them.
func fields(b []byte, each func(protowire.Number, value) error) error {
	for count := 0; len(b) > 0; count++ {
		num, wire, n := protowire.ConsumeTag(b)
		if n < 0 || count > MaxElements {
			return malformed("it is no protobuf message")
		}
		b = b[n:]
		var v value
		switch wire {
		case protowire.VarintType:
			v.bits, n = protowire.ConsumeVarint(b)
		case protowire.Fixed64Type:
			v.bits, n = protowire.ConsumeFixed64(b)
		case protowire.BytesType:
			v.bytes, n = protowire.ConsumeBytes(b)
			if n >= 0 && v.bytes == nil {
				v.bytes = []byte{}
			}
		default:
			n = protowire.ConsumeFieldValue(num, wire, b)
		}
		if n < 0 {
			return malformed("a protobuf field is cut off")
		}
		b = b[n:]
		if err := each(num, v); err != nil {
			return err
		}
	}
	return nil
}

func parseEvent(b []byte) (Event, error) {
	var e Event
	texts := map[protowire.Number]*string{
		fieldType: &e.Type, fieldAccess: &e.Access, fieldQOS: &e.QOS, fieldOpex: &e.Opex, fieldUID: &e.UID, fieldHow: &e.How,
		fieldCaveat: &e.Caveat, fieldReleaseable: &e.ReleaseableTo,
	}
	times := map[protowire.Number]*time.Time{fieldSend: &e.Time, fieldStart: &e.Start, fieldStale: &e.Stale}
	doubles := map[protowire.Number]*float64{
		fieldLat: &e.Point.Lat, fieldLon: &e.Point.Lon, fieldHAE: &e.Point.HAE, fieldCE: &e.Point.CE, fieldLE: &e.Point.LE,
	}
	err := fields(b, func(n protowire.Number, v value) (err error) {
		switch {
		case texts[n] != nil:
			*texts[n], err = textOf(v)
		case times[n] != nil:
			if v.bits > uint64(maxTime.UnixMilli()) {
				return malformed("a time lies outside the years 1970 to 9999")
			}
			*times[n] = time.UnixMilli(int64(v.bits)).UTC()
		case doubles[n] != nil:
			*doubles[n] = math.Float64frombits(v.bits)
		case n == fieldDetail:
			e.Detail, err = parseDetail(v.bytes)
		}
		return err
	})
	for _, p := range []*float64{&e.Point.HAE, &e.Point.CE, &e.Point.LE} {
		if *p == unknownControl {
			*p = Unknown
		}
	}
	return e, err
}

func textOf(v value) (string, error) {
	if v.bytes == nil || !utf8.Valid(v.bytes) || !isXMLText(v.bytes) {
		return "", malformed("a text is none")
	}
	return string(v.bytes), nil
}

// isXMLText tells whether XML can say the text: an event that could be written
// in one form only would be lost on the way.
func isXMLText(b []byte) bool {
	for _, r := range string(b) {
		if r < 0x20 && r != '\t' && r != '\n' && r != '\r' || r == 0xFFFE || r == 0xFFFF {
			return false
		}
	}
	return true
}

// parseDetail puts the typed elements before those that came as XML. An
// element that is in both is taken from the XML.
func parseDetail(b []byte) ([]Element, error) {
	var out, loose []Element
	err := fields(b, func(n protowire.Number, v value) (err error) {
		if n == detailXML {
			loose, err = parseLoose(v)
			return err
		}
		t, ok := typed[n]
		if !ok {
			return nil
		}
		e := Element{Name: t.element}
		if e.Attrs, err = parseTyped(t.fields, v.bytes); err == nil {
			out = append(out, e)
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	kept := out[:0]
	for _, e := range out {
		if find(loose, e.Name) == nil {
			kept = append(kept, e)
		}
	}
	return append(kept, loose...), nil
}

// parseLoose reads the text of xmlDetail: elements without one around them.
func parseLoose(v value) ([]Element, error) {
	if v.bytes == nil {
		return nil, malformed("a detail is no text")
	}
	if len(v.bytes) > MaxEvent-len("<detail></detail>") {
		return nil, tooLarge("its detail")
	}
	root, err := ParseElement(fmt.Appendf(nil, "<detail>%s</detail>", v.bytes))
	if err != nil {
		return nil, err
	}
	if root.Name != "detail" {
		return nil, malformed("its detail is none")
	}
	return root.Children, nil
}

func parseTyped(list []typedField, b []byte) ([]Attr, error) {
	values := make([]string, len(list))
	seen := make([]bool, len(list))
	for i, f := range list { // what is not sent has its zero value, by proto3
		switch f.kind {
		case uint, double:
			values[i], seen[i] = "0", true
		case text:
			seen[i] = f.required
		}
	}
	err := fields(b, func(n protowire.Number, v value) (err error) {
		i := int(n) - 1
		if i < 0 || i >= len(list) {
			return nil
		}
		seen[i] = true
		switch list[i].kind {
		case text:
			values[i], err = textOf(v)
		case uint:
			values[i] = strconv.FormatUint(v.bits&math.MaxUint32, 10)
		case double:
			f := math.Float64frombits(v.bits)
			if isOff(f) {
				return malformed("a detail has no number")
			}
			values[i] = number(f)
		}
		return err
	})
	var out []Attr
	for i, f := range list {
		if seen[i] {
			out = append(out, Attr{f.attr, values[i]})
		}
	}
	return out, err
}

// Proto writes the event as a TakMessage.
func (e *Event) Proto() []byte {
	return appendBytes(nil, fieldCotEvent, e.appendEvent(nil))
}

func (e *Event) appendEvent(b []byte) []byte {
	for _, f := range []struct {
		n protowire.Number
		s string
	}{{fieldType, e.Type}, {fieldAccess, e.Access}, {fieldQOS, e.QOS}, {fieldOpex, e.Opex}, {fieldUID, e.UID}} {
		b = appendText(b, f.n, f.s)
	}
	for n, t := range []time.Time{e.Time, e.Start, e.Stale} {
		b = protowire.AppendTag(b, fieldSend+protowire.Number(n), protowire.VarintType)
		b = protowire.AppendVarint(b, uint64(max(0, t.UnixMilli())))
	}
	b = appendText(b, fieldHow, e.How)
	for n, v := range []float64{e.Point.Lat, e.Point.Lon, e.Point.HAE, e.Point.CE, e.Point.LE} {
		if n >= 2 && IsUnknown(v) {
			v = unknownControl // the form that the protobuf definition names
		}
		b = appendDouble(b, fieldLat+protowire.Number(n), v)
	}
	if d := e.appendDetail(nil); len(d) > 0 {
		b = appendBytes(b, fieldDetail, d)
	}
	return appendText(appendText(b, fieldCaveat, e.Caveat), fieldReleaseable, e.ReleaseableTo)
}

// appendDetail makes typed messages of the elements that fit wholly into one,
// and leaves all others untouched in xmlDetail.
func (e *Event) appendDetail(b []byte) []byte {
	var loose []byte
	made := make(map[protowire.Number][]byte)
	for i := range e.Detail {
		el := &e.Detail[i]
		n, msg, ok := el.typed()
		if _, twice := made[n]; ok && !twice && e.once(el.Name) {
			made[n] = msg
			continue
		}
		loose = el.appendXML(loose)
	}
	if len(loose) > 0 {
		b = appendBytes(b, detailXML, loose)
	}
	for n := protowire.Number(detailContact); n <= detailTrack; n++ {
		if msg, ok := made[n]; ok {
			b = appendBytes(b, n, msg)
		}
	}
	return b
}

func (e *Event) once(name string) bool {
	n := 0
	for i := range e.Detail {
		if e.Detail[i].Name == name {
			n++
		}
	}
	return n == 1
}

// typed makes the message of an element; ok is false when any of it would be
// lost.
func (e *Element) typed() (num protowire.Number, msg []byte, ok bool) {
	for n, t := range typed {
		if t.element == e.Name {
			msg, ok := e.typedAs(t.fields)
			return n, msg, ok
		}
	}
	return 0, nil, false
}

func (e *Element) typedAs(list []typedField) (msg []byte, ok bool) {
	if e.Text != "" || len(e.Children) > 0 {
		return nil, false
	}
	matched := 0
	for i, f := range list {
		n := protowire.Number(i + 1)
		at := -1
		for j, a := range e.Attrs {
			if a.Name == f.attr {
				at = j
			}
		}
		if at < 0 {
			if f.required {
				return nil, false
			}
			continue
		}
		matched++
		v := e.Attrs[at].Value
		switch f.kind {
		case text:
			if v == "" && !f.required {
				return nil, false // proto3 could not tell it from none
			}
			msg = appendText(msg, n, v)
		case uint:
			u, err := strconv.ParseUint(v, 10, 32)
			if err != nil {
				return nil, false
			}
			msg = protowire.AppendVarint(protowire.AppendTag(msg, n, protowire.VarintType), u)
		case double:
			d, err := strconv.ParseFloat(v, 64)
			if err != nil || isOff(d) {
				return nil, false
			}
			msg = appendDouble(msg, n, d)
		}
	}
	return msg, matched == len(e.Attrs)
}

func appendText(b []byte, n protowire.Number, s string) []byte {
	if s == "" {
		return b
	}
	return protowire.AppendString(protowire.AppendTag(b, n, protowire.BytesType), s)
}

func appendBytes(b []byte, n protowire.Number, v []byte) []byte {
	return protowire.AppendBytes(protowire.AppendTag(b, n, protowire.BytesType), v)
}

func appendDouble(b []byte, n protowire.Number, v float64) []byte {
	return protowire.AppendFixed64(protowire.AppendTag(b, n, protowire.Fixed64Type), math.Float64bits(v))
}
