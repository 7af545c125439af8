package position

import (
	"errors"
	"math"
	"os"
	"strconv"
	"strings"
	"testing"
)

// The page and the node give the same references: both are held against
// GeographicLib's GeoConvert.
func TestL01MGRSAgainstGeographicLib(t *testing.T) {
	data, err := os.ReadFile("../../field-tests/browser/testdata/mgrs.txt")
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for line := range strings.Lines(string(data)) {
		point, rest, ok := strings.Cut(strings.TrimSpace(line), "|")
		if !ok || strings.HasPrefix(line, "#") {
			continue
		}
		want, _, _ := strings.Cut(rest, "|")
		at := strings.Fields(point)
		lat, err1 := strconv.ParseFloat(at[0], 64)
		lon, err2 := strconv.ParseFloat(at[1], 64)
		if err1 != nil || err2 != nil {
			t.Fatal(line)
		}
		if lat < -80 || lat >= 84 {
			continue // refused, see TestMGRSRefusesPolesAndNonsense
		}
		n++
		got, err := MGRS(lat, lon)
		if strings.ReplaceAll(got, " ", "") != want || err != nil {
			t.Errorf("%s: %s, %v; want %s", point, got, err, want)
		}
		backLat, backLon, size, err := ParseMGRS(strings.ToLower(got))
		if away, _ := Between(lat, lon, backLat, backLon); err != nil || size != 1 || away > 0.75 {
			t.Errorf("%s is read as %v %v of %v m, %v m away: %v", got, backLat, backLon, size, away, err)
		}
	}
	if n < 200 {
		t.Errorf("only %d vectors", n)
	}
}

func TestL01ParseMGRS(t *testing.T) {
	for text, want := range map[string]struct{ lat, lon, size float64 }{
		"32U PU 91349 35012": {48.139566, 11.572200, 1},
		" 32upu9134935012 ":  {48.139566, 11.572200, 1},
		"32UPU 913 350":      {48.139903, 11.572224, 100},
		"56H LH 3437 5134":   {-33.865225, 151.209443, 10},
		"1K FT":              {-20.342165, -175.563022, 100_000},
	} {
		lat, lon, size, err := ParseMGRS(text)
		if away, _ := Between(lat, lon, want.lat, want.lon); err != nil || size != want.size || away > math.Max(0.2, size/1000) {
			t.Errorf("%q: %v %v, %v m, %v", text, lat, lon, size, err)
		}
	}
	for _, text := range []string{
		"", "32U", "32U PU 1", "32U PU 12 3", "32U PU 123456 123456", "61U PU 1 1", "0U PU 1 1", "32I PU 1 1", "32U OU 1 1", "32U PW 1 1",
		"32U AU 1 1", // a column of another zone
		"32U PJ 1 1", // a row of another band
		"33X VQ 1 1", // beyond 84 N
		"48.1 11.5", "32U PU 91349 35012" + strings.Repeat(" ", maxReference),
	} {
		if lat, lon, _, err := ParseMGRS(text); !errors.Is(err, ErrNotMGRS) {
			t.Errorf("%q: %v %v, %v", text, lat, lon, err)
		}
	}
	if _, _, _, err := ParseMGRS("Z AH 12345 12345"); !errors.Is(err, ErrPolar) {
		t.Errorf("a pole's grid: %v", err)
	}
}

func FuzzMGRS(f *testing.F) {
	f.Add("32U PU 91349 35012")
	f.Add("31N AA 66021 00000")
	f.Add("60X")
	f.Fuzz(func(t *testing.T, text string) {
		lat, lon, size, err := ParseMGRS(text)
		if err != nil {
			return
		}
		if _, err := MGRS(lat, lon); err != nil && lat < 84 && lat >= -80 || !(size >= 1 && size <= square) {
			t.Errorf("%q: %v %v %v, %v", text, lat, lon, size, err)
		}
	})
}
