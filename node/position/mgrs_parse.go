package position

import (
	"errors"
	"math"
	"regexp"
	"strconv"
	"strings"
)

// ErrNotMGRS means that a text names no square of the MGRS grid.
var ErrNotMGRS = errors.New("position: not an MGRS reference, like 32U PU 91349 35012")

// beta undoes alpha (Krüger 1912, to order 4).
var beta = [4]float64{
	third/2 - 2*third*third/3 + 37*third*third*third/96 - third*third*third*third/360,
	third*third/48 + third*third*third/15 - 437*third*third*third*third/1440,
	17*third*third*third/480 - 37*third*third*third*third/840,
	4397 * third * third * third * third / 161280,
}

// reference is zone, band, column, row and digits, without spaces.
var reference = regexp.MustCompile(`^(0?[1-9]|[1-5][0-9]|60)([C-HJ-NP-X])([A-HJ-NP-Z])([A-HJ-NP-V])((?:[0-9]{2}){0,5})$`)

// maxReference bounds what is looked at: a reference has 15 signs, and spaces.
const maxReference = 64

// ParseMGRS reads a grid reference, with spaces or without: the middle of the
// square it names, in degrees of WGS 84, and the square's side in metres, from
// 1 to 100,000. References near the poles (UPS) are ErrPolar, everything else
// that names no place is ErrNotMGRS.
func ParseMGRS(text string) (lat, lon, size float64, err error) {
	if len(text) > maxReference {
		return 0, 0, 0, ErrNotMGRS
	}
	text = strings.ToUpper(strings.Join(strings.Fields(text), ""))
	if text != "" && strings.Contains("ABYZ", text[:1]) {
		return 0, 0, 0, ErrPolar
	}
	m := reference.FindStringSubmatch(text)
	if m == nil {
		return 0, 0, 0, ErrNotMGRS
	}
	zone, _ := strconv.Atoi(m[1])
	column := strings.Index(columns[(zone-1)%3], m[3])
	row := strings.Index(rows, m[4])
	if column < 0 || row < 0 {
		return 0, 0, 0, ErrNotMGRS
	}
	half := len(m[5]) / 2
	size = math.Pow10(5 - half)
	east, north := middle(m[5][:half], size), middle(m[5][half:], size)
	lat, lon, ok := inBand(UTM{
		Zone: zone, South: m[2] < "N",
		Easting: float64(column+1)*square + east, Northing: float64((row-rowShift(zone)+len(rows))%len(rows))*square + north,
	}, strings.Index(bands, m[2]), size)
	if !ok {
		return 0, 0, 0, ErrNotMGRS
	}
	return lat, lon, size, nil
}

// middle is the middle of the square that digits name inside their 100 km.
func middle(digits string, size float64) float64 {
	n, _ := strconv.Atoi(digits) // none: the whole square
	return float64(n)*size + size/2
}

// inBand finds the cycle of rows, which repeat every 2,000 km, that lies in the
// band. A square on a band's edge reaches over it, by its own size.
func inBand(u UTM, band int, size float64) (lat, lon float64, ok bool) {
	low := float64(8*band - 80)
	high := low + 8
	if band == len(bands)-1 {
		high = 84
	}
	slack := math.Max(0.02, size/square*1.2)
	for range 5 {
		lat, lon = u.degrees()
		if lat >= low-slack && lat < high+slack {
			return lat, lon, inZone(lat, lon, u.Zone, size)
		}
		u.Northing += float64(len(rows)) * square
	}
	return 0, 0, false
}

// inZone tells whether a square touches its zone; outside of it a reference is a
// typing error, not a place.
func inZone(lat, lon float64, zone int, size float64) bool {
	up := (0.75*size + 1) / 110_000
	right := up / math.Cos(lat*math.Pi/180)
	for _, i := range []float64{-1, 0, 1} {
		for _, j := range []float64{-1, 0, 1} {
			if zoneOf(lat+i*up, math.Remainder(lon+j*right, 360)) == zone {
				return true
			}
		}
	}
	return false
}

// degrees undoes ToUTM.
func (u UTM) degrees() (lat, lon float64) {
	north := u.Northing
	if u.South {
		north -= falseNorthing
	}
	xi1, eta1 := north/(utmScale*rectifying), (u.Easting-falseEasting)/(utmScale*rectifying)
	xi, eta := xi1, eta1
	for i, b := range beta {
		k := float64(2 * (i + 1))
		xi -= b * math.Sin(k*xi1) * math.Cosh(k*eta1)
		eta -= b * math.Cos(k*xi1) * math.Sinh(k*eta1)
	}
	tau := geographic(math.Sin(xi) / math.Hypot(math.Sinh(eta), math.Cos(xi)))
	lon = math.Atan2(math.Sinh(eta), math.Cos(xi))*180/math.Pi + float64(6*u.Zone-183)
	return math.Atan(tau) * 180 / math.Pi, math.Remainder(lon, 360)
}

// geographic undoes conformal by Newton's method. Three steps suffice.
func geographic(want float64) float64 {
	const ee = 1 - flattening*(2-flattening) // 1 - e²
	tau := want
	for range 7 {
		have := conformal(tau)
		step := (want - have) / math.Hypot(1, have) * (1 + ee*tau*tau) / (ee * math.Hypot(1, tau))
		tau += step
		if math.Abs(step) < 1e-14*math.Max(1, math.Abs(tau)) {
			break
		}
	}
	return tau
}
