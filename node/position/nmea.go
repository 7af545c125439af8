package position

import (
	"encoding/hex"
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
)

// maxSentence is the longest NMEA sentence we read, in bytes. The standard
// says 82; receivers with many satellites write more.
const maxSentence = 128

const (
	knot = 1852.0 / 3600 // metres per second

	// rangeError is what a receiver's dilution of precision is multiplied by
	// to get metres: the error of one range, 95 % of the time, in the open
	// (GPS SPS Performance Standard 2020, rounded up).
	rangeError = 8.0

	// joinWithin is how long what one sentence said goes with another's place.
	joinWithin = 5 * time.Second
)

var errSentence = errors.New("position: not a good NMEA sentence")

// An nmea reader turns NMEA 0183 sentences into fixes: GGA for height and
// accuracy, RMC for course and speed, either for the place. The others are
// passed over.
type nmea struct {
	gga, rmc Fix
}

// line reads one line. ok is false when it has no fix.
func (r *nmea) line(raw []byte, now time.Time) (f Fix, ok bool, err error) {
	kind, fields, err := sentence(raw)
	if err != nil {
		return f, false, err
	}
	switch kind {
	case "GGA":
		f, ok, err = parseGGA(fields)
	case "RMC":
		f, ok, err = parseRMC(fields)
	default:
		return f, false, nil
	}
	if !ok || err != nil {
		return f, false, err
	}
	f.At = now
	if kind == "GGA" {
		r.gga = f
	} else {
		r.rmc = f
	}
	if !r.gga.At.IsZero() && now.Sub(r.gga.At) <= joinWithin {
		f.AltitudeM, f.AccuracyM = r.gga.AltitudeM, r.gga.AccuracyM
	}
	if !r.rmc.At.IsZero() && now.Sub(r.rmc.At) <= joinWithin {
		f.CourseDeg, f.SpeedMS = r.rmc.CourseDeg, r.rmc.SpeedMS
	}
	return f, true, nil
}

// sentence checks frame and checksum and returns the sentence's kind and
// fields. Whichever system the receiver used (GP, GN, GL, …) is all the same.
func sentence(raw []byte) (kind string, fields []string, err error) {
	s := strings.TrimRight(string(raw), "\r\n")
	body, sum, found := strings.Cut(strings.TrimPrefix(s, "$"), "*")
	if !found || len(s) > maxSentence || s[0] != '$' || len(sum) != 2 || len(body) < 6 || body[5] != ',' {
		return "", nil, errSentence
	}
	want, err := hex.DecodeString(sum)
	if err != nil {
		return "", nil, errSentence
	}
	var x byte
	for i := range len(body) {
		if body[i] < ' ' || body[i] > '~' {
			return "", nil, errSentence
		}
		x ^= body[i]
	}
	if x != want[0] {
		return "", nil, errSentence
	}
	return body[2:5], strings.Split(body[6:], ","), nil
}

// parseGGA reads time, latitude, N, longitude, E, quality, satellites, HDOP,
// height above the geoid, M, the geoid's height above the ellipsoid, M, …
func parseGGA(v []string) (Fix, bool, error) {
	if len(v) < 11 {
		return Fix{}, false, errSentence
	}
	switch v[5] {
	case "1", "2", "3", "4", "5", "6":
	default: // no fix; typed in by hand; simulated
		return Fix{}, false, nil
	}
	f, err := place(v[1:5])
	if err != nil {
		return f, false, err
	}
	if hdop := decimal(v[7]); hdop > 0 && hdop < 100 {
		f.AccuracyM = hdop * rangeError
	}
	if v[9] == "M" {
		f.AltitudeM = decimal(v[8]) + decimal(v[10]) // NaN when either is missing
	}
	return f, true, nil
}

// parseRMC reads time, status, latitude, N, longitude, E, knots, course, date …
func parseRMC(v []string) (Fix, bool, error) {
	if len(v) < 9 {
		return Fix{}, false, errSentence
	}
	if v[1] != "A" || len(v) > 11 && (v[11] == "N" || v[11] == "S" || v[11] == "M") {
		return Fix{}, false, nil // void; simulated; typed in by hand
	}
	f, err := place(v[2:6])
	if err != nil {
		return f, false, err
	}
	if s := decimal(v[6]); s >= 0 {
		f.SpeedMS = s * knot
	}
	if c := decimal(v[7]); c >= 0 && c <= 360 {
		f.CourseDeg = c
	}
	return f, true, nil
}

// place reads latitude, N or S, longitude, E or W: ddmm.mmm and dddmm.mmm.
func place(v []string) (Fix, error) {
	f := blank()
	lat, ok1 := angle(v[0], 2, v[1], "N", "S")
	lon, ok2 := angle(v[2], 3, v[3], "E", "W")
	if !ok1 || !ok2 || lat > 90 || lat < -90 || lon > 180 || lon < -180 {
		return f, fmt.Errorf("%w: no place in it", errSentence)
	}
	f.Lat, f.Lon = lat, lon
	return f, nil
}

func angle(s string, digits int, sign, plus, minus string) (float64, bool) {
	if len(s) < digits+2 {
		return 0, false
	}
	deg, minutes := decimal(s[:digits]), decimal(s[digits:])
	if !(deg >= 0 && minutes >= 0 && minutes < 60) {
		return 0, false
	}
	v := deg + minutes/60
	switch sign {
	case plus:
		return v, true
	case minus:
		return -v, true
	}
	return 0, false
}

// decimal is a plain number, NaN for anything else.
func decimal(s string) float64 {
	if s == "" || strings.Trim(s, "0123456789.-") != "" {
		return math.NaN()
	}
	v, err := strconv.ParseFloat(s, 64)
	if err != nil {
		return math.NaN()
	}
	return v
}
