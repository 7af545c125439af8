package position

import (
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
	}
	if n < 200 {
		t.Errorf("only %d vectors", n)
	}
}
