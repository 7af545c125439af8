package envelope

import (
	"encoding/binary"
	"fmt"
	"math"
	"slices"
	"time"
	"unicode/utf8"
)

// A Location is the body of TypeLocation: a position at a time. It has a
// fixed layout and is never packed, so that its length tells nothing; a note
// follows if there is one. 34 bytes, integers big-endian:
//
//	kind (1) flags (1: source in bits 0 to 2, named in bit 3, holds in bits 4 to 7) latitude (4) longitude (4) altitude (4) accuracy (4) time (8) valid (4) course (2) speed (2)
type Location struct {
	Kind      LocationKind
	Source    LocationSource `json:",omitempty"`
	Named     bool           `json:",omitempty"` // the note's first line is what the sender's device calls itself
	Latitude  int32          // 1e-7 degrees, north positive
	Longitude int32          // 1e-7 degrees, east positive
	Altitude  int32          // centimetres above the WGS 84 ellipsoid, or AltitudeUnknown
	Accuracy  uint32         // centimetres, radius of 68 %, or AccuracyUnknown
	Time      uint64         // of the fix, milliseconds since 1970
	Valid     uint32         // of live positions: seconds from Time for which sharing goes on; 0 unknown
	Holds     uint32         `json:",omitempty"` // seconds from Time after which it is stale, one of HoldSteps; 0 unknown
	Course    uint16         // hundredths of a degree from true north, or CourseUnknown
	Speed     uint16         // centimetres per second, or SpeedUnknown
	Note      string         // at most MaxNote bytes
}

// A LocationKind tells a single position from a live one.
type LocationKind uint8

// The kinds.
const (
	LocationStatic LocationKind = 1
	LocationLive   LocationKind = 2 // the next one takes its place
)

// A LocationSource tells where a position comes from.
type LocationSource uint8

// The sources. Readers take those they do not know for SourceUnknown.
const (
	SourceUnknown LocationSource = 0
	SourceGPS     LocationSource = 1
	SourceEntered LocationSource = 2 // by a person
	SourceMachine LocationSource = 3 // worked out by a machine in another way
)

// Bits of the flags.
const (
	flagSource = 0x07
	flagNamed  = 0x08
	holdsShift = 4 // bits 4 to 7: the number of a step
)

// HoldSteps are the seconds for which a position can say that it holds; the
// first says nothing. 75 is what TAK clients say of their own.
var HoldSteps = [16]uint32{0, 10, 20, 30, 45, 60, 75, 90, 120, 180, 300, 600, 1200, 3600, 21600, 86400}

// HoldStep is the shortest step that is not shorter than a span in seconds, or
// the longest there is.
func HoldStep(seconds uint32) uint32 {
	for _, s := range HoldSteps {
		if s >= seconds {
			return s
		}
	}
	return HoldSteps[len(HoldSteps)-1]
}

// Values for what is not known, and limits.
const (
	AltitudeUnknown = math.MinInt32
	AccuracyUnknown = math.MaxUint32
	CourseUnknown   = math.MaxUint16
	SpeedUnknown    = math.MaxUint16
	MaxNote         = 200

	locationSize = 34
	maxLatitude  = 90e7
	maxLongitude = 180e7
	maxCourse    = 36000
	// maxFix is the year 9999, the last a time can be written in.
	maxFix = 253_402_300_799_999
)

// When is the time of the fix.
func (l Location) When() time.Time { return time.UnixMilli(int64(l.Time)) }

func (l Location) check() error {
	switch {
	case l.Kind != LocationStatic && l.Kind != LocationLive:
		return malformed("location: kind")
	case l.Latitude < -maxLatitude || l.Latitude > maxLatitude || l.Longitude < -maxLongitude || l.Longitude > maxLongitude:
		return malformed("location: not on Earth")
	case l.Source > SourceMachine:
		return malformed("location: source")
	case l.Course >= maxCourse && l.Course != CourseUnknown:
		return malformed("location: course")
	case !slices.Contains(HoldSteps[:], l.Holds):
		return malformed("location: for how long it holds")
	case l.Time > maxFix:
		return malformed("location: time")
	case len(l.Note) > MaxNote || !utf8.ValidString(l.Note):
		return malformed("location: note")
	}
	return nil
}

// Encode makes the body.
func (l Location) Encode() ([]byte, error) {
	if err := l.check(); err != nil {
		return nil, fmt.Errorf("envelope: encode: %w", err)
	}
	b := append(make([]byte, 0, locationSize+len(l.Note)), byte(l.Kind), l.flags())
	b = binary.BigEndian.AppendUint32(b, uint32(l.Latitude))
	b = binary.BigEndian.AppendUint32(b, uint32(l.Longitude))
	b = binary.BigEndian.AppendUint32(b, uint32(l.Altitude))
	b = binary.BigEndian.AppendUint32(b, l.Accuracy)
	b = binary.BigEndian.AppendUint64(b, l.Time)
	b = binary.BigEndian.AppendUint32(b, l.Valid)
	b = binary.BigEndian.AppendUint16(b, l.Course)
	b = binary.BigEndian.AppendUint16(b, l.Speed)
	return append(b, l.Note...), nil
}

func (l Location) flags() byte {
	f := byte(l.Source)
	if l.Named {
		f |= flagNamed
	}
	return f | byte(slices.Index(HoldSteps[:], l.Holds))<<holdsShift
}

// ParseLocation reads the body of TypeLocation.
func ParseLocation(b []byte) (Location, error) {
	if len(b) < locationSize {
		return Location{}, malformed("location: too short")
	}
	l := Location{
		Kind:      LocationKind(b[0]),
		Source:    LocationSource(b[1] & flagSource),
		Named:     b[1]&flagNamed != 0,
		Holds:     HoldSteps[b[1]>>holdsShift],
		Latitude:  int32(binary.BigEndian.Uint32(b[2:])),
		Longitude: int32(binary.BigEndian.Uint32(b[6:])),
		Altitude:  int32(binary.BigEndian.Uint32(b[10:])),
		Accuracy:  binary.BigEndian.Uint32(b[14:]),
		Time:      binary.BigEndian.Uint64(b[18:]),
		Valid:     binary.BigEndian.Uint32(b[26:]),
		Course:    binary.BigEndian.Uint16(b[30:]),
		Speed:     binary.BigEndian.Uint16(b[32:]),
		Note:      string(b[locationSize:]),
	}
	if l.Source > SourceMachine {
		l.Source = SourceUnknown
	}
	return l, l.check()
}
