package position

import (
	"encoding/json"
	"fmt"
	"math"
	"time"
)

// watch asks gpsd for reports (gpsd_json(5)).
const watch = `?WATCH={"enable":true,"json":true};` + "\n"

// A tpv is gpsd's time-position-velocity report, as far as we need it.
type tpv struct {
	Class  string   `json:"class"`
	Mode   int      `json:"mode"` // 2: place, 3: place and height
	Lat    *float64 `json:"lat"`
	Lon    *float64 `json:"lon"`
	AltHAE *float64 `json:"altHAE"` // metres above the ellipsoid
	EPH    *float64 `json:"eph"`    // metres, horizontal error, 95 %
	EPX    *float64 `json:"epx"`
	EPY    *float64 `json:"epy"`
	Track  *float64 `json:"track"` // degrees from true north
	Speed  *float64 `json:"speed"` // m/s
}

// parseGPSD reads one line of gpsd. ok is false when it has no fix.
func parseGPSD(raw []byte, now time.Time) (f Fix, ok bool, err error) {
	var r tpv
	if err := json.Unmarshal(raw, &r); err != nil {
		return f, false, fmt.Errorf("position: not a report of gpsd")
	}
	if r.Class != "TPV" || r.Mode < 2 || r.Lat == nil || r.Lon == nil {
		return f, false, nil
	}
	f = blank()
	f.Lat, f.Lon, f.At = *r.Lat, *r.Lon, now
	if !(math.Abs(f.Lat) <= 90 && math.Abs(f.Lon) <= 180) {
		return f, false, ErrOffEarth
	}
	if r.Mode >= 3 && r.AltHAE != nil {
		f.AltitudeM = *r.AltHAE
	}
	switch {
	case r.EPH != nil && *r.EPH > 0:
		f.AccuracyM = *r.EPH
	case r.EPX != nil && r.EPY != nil && *r.EPX > 0 && *r.EPY > 0:
		f.AccuracyM = math.Hypot(*r.EPX, *r.EPY)
	}
	if r.Track != nil && *r.Track >= 0 && *r.Track <= 360 {
		f.CourseDeg = *r.Track
	}
	if r.Speed != nil && *r.Speed >= 0 {
		f.SpeedMS = *r.Speed
	}
	return f, true, nil
}
