package chat

import (
	"encoding/binary"
	"fmt"
	"math"
	"strings"
	"time"
	"unicode/utf8"

	"outrider/mesh/envelope"
)

// A Fix is what a receiver or a device says of a position beyond the place.
type Fix struct {
	At        time.Time     // of the fix; zero: of sending
	Holds     time.Duration // for how long it is good, 0 unknown; travels rounded up to a step (envelope.HoldSteps)
	Until     time.Time     // of a live share: when it ends, zero unknown
	AltitudeM float64       // above the WGS 84 ellipsoid, NaN unknown
	CourseDeg float64       // from true north, NaN unknown
	SpeedMS   float64       // metres per second, NaN unknown
	Source    Source
	Callsign  string // what the device calls itself, in one line
}

// A Source tells where a position comes from.
type Source = envelope.LocationSource

// The sources.
const (
	SourceUnknown = envelope.SourceUnknown
	SourceGPS     = envelope.SourceGPS
	SourceEntered = envelope.SourceEntered
	SourceMachine = envelope.SourceMachine
)

// MaxCallsign is the longest callsign, in bytes.
const MaxCallsign = 64

// put writes the fix into the body to be.
func (f *Fix) put(w *envelope.Location) error {
	if len(f.Callsign) > MaxCallsign || strings.ContainsAny(f.Callsign, "\r\n") || !utf8.ValidString(f.Callsign) {
		return fmt.Errorf("chat: a callsign is one line of at most %d bytes of UTF-8: %w", MaxCallsign, ErrInvalid)
	}
	if !f.At.IsZero() {
		w.Time = uint64(max(0, f.At.UnixMilli()))
	}
	w.Source = f.Source
	w.Holds = envelope.HoldStep(uint32(min(max(0, (f.Holds+time.Second-1)/time.Second), math.MaxUint32)))
	if goes := f.Until.Sub(w.When()); !f.Until.IsZero() {
		w.Valid = uint32(min(max(1, goes/time.Second), math.MaxUint32))
	}
	if v := f.AltitudeM * 100; math.Abs(v) < math.MaxInt32 { // false for NaN
		w.Altitude = int32(math.Round(v))
	}
	if f.CourseDeg >= 0 && f.CourseDeg <= 360 {
		w.Course = uint16(math.Round(f.CourseDeg*100)) % 36000
	}
	if f.SpeedMS >= 0 {
		w.Speed = uint16(min(math.Round(f.SpeedMS*100), envelope.SpeedUnknown-1))
	}
	if f.Callsign != "" {
		w.Named, w.Note = true, strings.TrimSuffix(f.Callsign+"\n"+w.Note, "\n")
	}
	return nil
}

// fixOf reads what a body says beyond the place, and its note.
func fixOf(w envelope.Location) (*Fix, string) {
	f := &Fix{
		At: w.When(), Holds: time.Duration(w.Holds) * time.Second, AltitudeM: math.NaN(), CourseDeg: math.NaN(), SpeedMS: math.NaN(), Source: w.Source,
	}
	if w.Kind == envelope.LocationLive && w.Valid > 0 {
		f.Until = f.At.Add(time.Duration(w.Valid) * time.Second)
	}
	if w.Altitude != envelope.AltitudeUnknown {
		f.AltitudeM = float64(w.Altitude) / 100
	}
	if w.Course != envelope.CourseUnknown {
		f.CourseDeg = float64(w.Course) / 100
	}
	if w.Speed != envelope.SpeedUnknown {
		f.SpeedMS = float64(w.Speed) / 100
	}
	note := w.Note
	if w.Named {
		f.Callsign, note, _ = strings.Cut(note, "\n")
		f.Callsign = f.Callsign[:min(len(f.Callsign), MaxCallsign)]
		f.Callsign = strings.ToValidUTF8(f.Callsign, "")
	}
	return f, note
}

// hash is the whole fix, for acts.
func (f *Fix) hash() []byte {
	if f == nil {
		return nil
	}
	b := []byte{byte(f.Source)}
	for _, v := range []uint64{uint64(f.At.UnixMilli()), uint64(f.Holds), uint64(f.Until.UnixMilli()), math.Float64bits(f.AltitudeM), math.Float64bits(f.CourseDeg), math.Float64bits(f.SpeedMS)} {
		b = binary.BigEndian.AppendUint64(b, v)
	}
	return append(b, f.Callsign...)
}
