package cot

import (
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"math"
	"reflect"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/encoding/protowire"
)

const position = `<?xml version="1.0" encoding="UTF-8"?>
<!-- as field devices write it --><event how='m-g' version="2.0" uid="ANDROID-0a1b" type="a-f-G-U-C" time="2026-03-01T12:00:00Z" start="2026-03-01T13:00:00.123456789+01:00"
 stale="2026-03-01T12:01:15.000Z" access="Undefined"><point lat="59.9127" lon="10.7461" hae="41.3" ce="4.9" le="9999999.0"/>
 <detail><takv device="X" platform="ATAK-CIV" os="34" version="5.4"/><contact callsign="VIPER-2" endpoint="*:-1:stcp"/><uid Droid="VIPER-2"/>
 <__group name="Cyan" role="Team Member"/><status battery="81"/><track speed="1.2" course="274.0"/><x:odd y:z='"&lt;&#10;'>a <![CDATA[<b>]]><c/></x:odd></detail></event>`

func parse(t testing.TB, s string) Event {
	t.Helper()
	e, err := ParseXML([]byte(s))
	if err != nil {
		t.Fatal(err)
	}
	return e
}

// L03: what a device says survives both forms, also what nobody here knows.
func TestL03EventSurvivesBothForms(t *testing.T) {
	e := parse(t, position)
	if e.UID != "ANDROID-0a1b" || e.Callsign() != "VIPER-2" || e.Point.HAE != 41.3 || !IsUnknown(e.Point.LE) || e.Access != "Undefined" {
		t.Fatalf("%+v", e)
	}
	if want := time.Date(2026, 3, 1, 12, 0, 0, 123456789, time.UTC); !e.Start.Equal(want) {
		t.Errorf("start %v, want %v", e.Start, want)
	}
	odd := e.Find("x:odd")
	if odd.Attr("y:z") != "\"<\n" || odd.Text != "a <b>" || odd.Child("c") == nil {
		t.Errorf("unknown element: %+v", odd)
	}
	again := parse(t, string(e.XML()))
	proto, err := ParseProto(e.Proto())
	if err != nil {
		t.Fatal(err)
	}
	e.Start = e.Start.Truncate(time.Millisecond)
	if !reflect.DeepEqual(again, e) {
		t.Errorf("by XML:\n%+v\nwant\n%+v", again, e)
	}
	if len(proto.Detail) != len(e.Detail) {
		t.Fatalf("by protobuf: %d elements, want %d", len(proto.Detail), len(e.Detail))
	}
	for i := range e.Detail {
		want := e.Detail[i]
		got := proto.Find(want.Name)
		if got == nil || len(got.Attrs) != len(want.Attrs) || got.Text != want.Text {
			t.Errorf("by protobuf: %+v, want %+v", got, want)
		}
	}
	proto.Detail, e.Detail = nil, nil
	if !reflect.DeepEqual(proto, e) {
		t.Errorf("by protobuf: %+v, want %+v", proto, e)
	}
}

// An element becomes a message of its own only whole, and the XML wins.
func TestL03TypedOnlyWhole(t *testing.T) {
	for name, detail := range map[string]string{
		"attribute beyond":   `<contact callsign="a" phone="1"/>`,
		"a child":            `<contact callsign="a"><x/></contact>`,
		"none required":      `<contact endpoint="x"/>`,
		"two of them":        `<track speed="1" course="2"/><track speed="3" course="4"/>`,
		"no number":          `<status battery="full"/>`,
		"negative":           `<status battery="-1"/>`,
		"not finite":         `<track speed="NaN" course="1"/>`,
		"empty but optional": `<takv device="" platform="p"/>`,
		"same twice":         `<contact callsign="a" endpoint="b"/><contact callsign="a" endpoint="b"/>`,
	} {
		e := parse(t, strings.Replace(position, "<detail>", "<detail>"+detail, 1))
		e.Detail = e.Detail[:strings.Count(detail, "<")-strings.Count(detail, "</")-strings.Count(detail, "<x/>")]
		got, err := ParseProto(e.Proto())
		if err != nil || !reflect.DeepEqual(got.Detail, e.Detail) {
			t.Errorf("%s: %+v, %v; want %+v", name, got.Detail, err, e.Detail)
		}
	}
	e := parse(t, position)
	both := appendBytes(nil, detailXML, []byte(`<contact callsign="xml"/>`))
	both = appendBytes(both, detailContact, appendText(nil, 2, "typed"))
	e.Detail = nil
	msg := appendBytes(nil, fieldCotEvent, appendBytes(e.appendEvent(nil), fieldDetail, both))
	if got, err := ParseProto(msg); err != nil || got.Callsign() != "xml" || len(got.Detail) != 1 {
		t.Errorf("%+v, %v", got.Detail, err)
	}
}

// The bytes of a message written by hand from the field table of tak.md.
func TestL03ProtobufByTheTable(t *testing.T) {
	raw, err := hex.DecodeString("1247" + "0a09612d662d472d552d43" + "2a0161" + "30e807" + "38e807" + "40d00f" + "4a036d2d67" +
		"510000000000002540" + "590000000000002440" + "610000000000000000" + "69000000007e842e41" + "7a07" + "1205" + "1203" + "526176")
	if err != nil {
		t.Fatal(err)
	}
	raw[1] = byte(len(raw) - 2)
	e, err := ParseProto(raw)
	if err != nil || e.Type != "a-f-G-U-C" || e.UID != "a" || e.Stale.UnixMilli() != 2000 || e.Point.Lat != 10.5 || e.Callsign() != "Rav" || !IsUnknown(e.Point.CE) {
		t.Errorf("%+v, %v", e, err)
	}
}

func TestL03MalformedIsRefused(t *testing.T) {
	bombs := map[string]string{
		"entity bomb":      `<!DOCTYPE x [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;">]>` + position[strings.Index(position, "<event"):],
		"unknown entity":   strings.Replace(position, "VIPER-2", "&a;", 1),
		"other encoding":   strings.Replace(position, "UTF-8", "UTF-7", 1),
		"not closed":       strings.TrimSuffix(position, "</event>"),
		"closed twice":     position + "</event>",
		"wrong end":        strings.Replace(position, "</detail>", "</deta>", 1),
		"two events":       position + position[strings.Index(position, "<event"):],
		"text outside":     position + "x",
		"no event":         "<events/>",
		"nothing":          "",
		"no uid":           strings.Replace(position, `uid="ANDROID-0a1b"`, "", 1),
		"blank uid":        strings.Replace(position, `ANDROID-0a1b`, " ", 1),
		"no how":           strings.Replace(position, `how='m-g'`, "", 1),
		"no time":          strings.Replace(position, ` time="2026-03-01T12:00:00Z"`, "", 1),
		"odd time":         strings.Replace(position, `time="2026-03-01T12:00:00Z"`, `time="noon"`, 1),
		"before 1970":      strings.Replace(position, `time="2026-`, `time="1026-`, 1),
		"no point":         strings.Replace(position, "<point", "<pt", 1),
		"beyond the pole":  strings.Replace(position, "59.9127", "90.0001", 1),
		"not a number":     strings.Replace(position, "59.9127", "NaN", 1),
		"endless":          strings.Replace(position, "41.3", "Inf", 1),
		"empty":            strings.Replace(position, "41.3", "", 1),
		"control in value": strings.Replace(position, "VIPER-2", "\x01", 1),
		"no UTF-8":         strings.Replace(position, "VIPER-2", "\xff", 1),
	}
	for name, s := range bombs {
		if e, err := ParseXML([]byte(s)); !errors.Is(err, ErrMalformed) {
			t.Errorf("%s: %v, %v", name, e.UID, err)
		} else if strings.Contains(err.Error(), "VIPER") || strings.Contains(err.Error(), "59.9") {
			t.Errorf("%s: the error tells content: %v", name, err)
		}
	}
	e := parse(t, position)
	msg := e.Proto()
	for i := range msg {
		if _, err := ParseProto(msg[:i]); !errors.Is(err, ErrMalformed) {
			t.Errorf("protobuf cut at %d: %v", i, err)
		}
	}
	huge := protowire.AppendVarint(protowire.AppendTag(nil, fieldCotEvent, protowire.BytesType), math.MaxUint64)
	inside := appendBytes(nil, fieldCotEvent, protowire.AppendVarint(protowire.AppendTag(nil, fieldUID, protowire.BytesType), 4<<30))
	inject := appendBytes(nil, fieldCotEvent, appendBytes(nil, fieldDetail, appendBytes(nil, detailXML, []byte("</detail><detail>"))))
	for name, b := range map[string][]byte{"length of 2^64": huge, "4 GiB inside": inside, "XML that leaves its detail": inject, "nothing": nil,
		"a control message": appendBytes(nil, 1, nil)} {
		if _, err := ParseProto(b); !errors.Is(err, ErrMalformed) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestL03LimitsOfAnEvent(t *testing.T) {
	with := func(detail string) []byte { return []byte(strings.Replace(position, "<detail>", "<detail>"+detail, 1)) }
	known := parse(t, position)
	count := 0
	var walk func([]Element)
	walk = func(list []Element) {
		for _, e := range list {
			count += 1 + len(e.Attrs)
			walk(e.Children)
		}
	}
	walk(known.Detail)
	base := len(with(""))
	deep := func(n int) []byte {
		return with(strings.Repeat("<d>", n) + strings.Repeat("</d>", n))
	}
	for name, c := range map[string]struct {
		in   []byte
		want error
	}{
		"deepest":            {deep(MaxDepth - 2), nil},
		"one deeper":         {deep(MaxDepth - 1), ErrTooLarge},
		"largest":            {with(fmt.Sprintf("<a b='%s'/>", strings.Repeat("x", MaxEvent-base-len("<a b=''/>")))), nil},
		"one byte more":      {with(fmt.Sprintf("<a b='%s'/>", strings.Repeat("x", MaxEvent-base-len("<a b=''/>")+1))), ErrTooLarge},
		"too many elements":  {with(strings.Repeat("<a/>", MaxElements)), ErrTooLarge},
		"too many pieces":    {with("<a>" + strings.Repeat("<![CDATA[x]]>", MaxElements) + "</a>"), ErrTooLarge},
		"too many values":    {with("<a " + strings.Repeat("b='' ", MaxElements) + "/>"), ErrTooLarge},
		"longest uid":        {bytes.Replace(with(""), []byte("ANDROID-0a1b"), bytes.Repeat([]byte("u"), MaxID), 1), nil},
		"uid of a byte more": {bytes.Replace(with(""), []byte("ANDROID-0a1b"), bytes.Repeat([]byte("u"), MaxID+1), 1), ErrTooLarge},
	} {
		if _, err := ParseXML(c.in); !errors.Is(err, c.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := ParseProto(make([]byte, MaxEvent+1)); !errors.Is(err, ErrTooLarge) {
		t.Errorf("protobuf of a byte too much: %v", err)
	}
}

func TestL03Dests(t *testing.T) {
	e := parse(t, strings.Replace(position, "<detail>", `<detail><marti><dest callsign="A"/><dest uid="u"/><dest mission="m"/><other/></marti>`, 1))
	calls, uids, other := e.Dests()
	if !reflect.DeepEqual(calls, []string{"A"}) || !reflect.DeepEqual(uids, []string{"u"}) || !other {
		t.Error(calls, uids, other)
	}
}

// Round-trips or is refused.
func FuzzXML(f *testing.F) {
	f.Add([]byte(position))
	f.Add([]byte("<!DOCTYPE x><event/>"))
	f.Fuzz(func(t *testing.T, in []byte) {
		e, err := ParseXML(in)
		if err != nil {
			if !errors.Is(err, ErrMalformed) && !errors.Is(err, ErrTooLarge) {
				t.Fatal(err)
			}
			return
		}
		again(t, e)
	})
}

func FuzzProto(f *testing.F) {
	e := parse(f, position)
	f.Add(e.Proto())
	f.Add([]byte{0x12, 0xff, 0xff, 0xff, 0xff, 0x0f})
	f.Fuzz(func(t *testing.T, in []byte) {
		e, err := ParseProto(in)
		if err != nil {
			if !errors.Is(err, ErrMalformed) && !errors.Is(err, ErrTooLarge) {
				t.Fatal(err)
			}
			return
		}
		again(t, e)
	})
}

// again writes an event in both forms and reads it back.
func again(t *testing.T, e Event) {
	x, err := ParseXML(e.XML())
	if errors.Is(err, ErrTooLarge) {
		return // escaping made it longer
	}
	if err != nil {
		t.Fatalf("written XML is refused: %v\n%s", err, e.XML())
	}
	p, err := ParseProto(x.Proto())
	if err != nil && !errors.Is(err, ErrTooLarge) {
		t.Fatalf("written protobuf is refused: %v", err)
	}
	if err == nil && (p.UID != x.UID || p.Type != x.Type || p.Point.Lat != x.Point.Lat || len(p.Detail) != len(x.Detail) || p.Callsign() != x.Callsign()) {
		t.Fatalf("%+v became %+v", x, p)
	}
}
