package position

import (
	"errors"
	"fmt"
	"math"
)

// ErrPolar means that a point is south of 80 S or north of 84 N, where MGRS
// has a grid of its own (UPS) that this package does not write.
var ErrPolar = errors.New("position: no UTM grid beyond 80° S and 84° N; use latitude and longitude there")

// ErrOffEarth means that a latitude or longitude is out of range.
var ErrOffEarth = errors.New("position: not a point on Earth")

// The ellipsoid of WGS 84 (NGA.STND.0036) and the third flattening's series
// for the transverse Mercator projection (Krüger 1912, to order 4: well under
// a millimetre inside a zone).
const (
	axis       = 6378137.0 // equatorial, metres
	flattening = 1 / 298.257223563
	third      = flattening / (2 - flattening)
	rectifying = axis / (1 + third) * (1 + third*third/4 + third*third*third*third/64)

	utmScale      = 0.9996
	falseEasting  = 500_000.0
	falseNorthing = 10_000_000.0 // of the southern hemisphere
	square        = 100_000.0    // metres
	onLine        = 1e-6         // metres added, so that a point on a grid line stays on its side
)

var eccentricity = math.Sqrt(flattening * (2 - flattening))

var alpha = [4]float64{
	third/2 - 2*third*third/3 + 5*third*third*third/16 + 41*third*third*third*third/180,
	13*third*third/48 - 3*third*third*third/5 + 557*third*third*third*third/1440,
	61*third*third*third/240 - 103*third*third*third*third/140,
	49561 * third * third * third * third / 161280,
}

// The letters of DMA TM 8358.1, scheme AA.
const (
	bands = "CDEFGHJKLMNPQRSTUVWX" // of 8 degrees from 80 S; X has 12
	rows  = "ABCDEFGHJKLMNPQRSTUV" // of 100 km; even zones start at F
)

var columns = [3]string{"ABCDEFGH", "JKLMNPQR", "STUVWXYZ"} // by (zone-1) mod 3

// UTM is a point in the Universal Transverse Mercator grid, metres.
type UTM struct {
	Zone              int // 1 to 60
	South             bool
	Easting, Northing float64
}

// ToUTM projects a point of WGS 84, in degrees.
func ToUTM(lat, lon float64) (UTM, error) {
	if !(math.Abs(lat) <= 90 && math.Abs(lon) <= 180) {
		return UTM{}, ErrOffEarth
	}
	if lat < -80 || lat >= 84 {
		return UTM{}, ErrPolar
	}
	zone := zoneOf(lat, lon)
	fromMeridian := math.Remainder(lon-float64(6*zone-183), 360)
	east, north := project(lat*math.Pi/180, fromMeridian*math.Pi/180)
	u := UTM{Zone: zone, South: lat < 0, Easting: falseEasting + east, Northing: north}
	if u.South {
		u.Northing += falseNorthing
	}
	return u, nil
}

// zoneOf is the UTM zone, with the exceptions of Norway and Svalbard.
func zoneOf(lat, lon float64) int {
	if lon == 180 {
		lon = -180
	}
	switch {
	case lat >= 56 && lat < 64 && lon >= 3 && lon < 12:
		return 32
	case lat >= 72 && lon >= 0 && lon < 42:
		switch {
		case lon < 9:
			return 31
		case lon < 21:
			return 33
		case lon < 33:
			return 35
		}
		return 37
	}
	return int(math.Floor((lon+180)/6)) + 1
}

// project is the transverse Mercator projection around a meridian: radians
// in, metres out.
func project(lat, lon float64) (east, north float64) {
	tau := conformal(math.Tan(lat))
	xi0 := math.Atan2(tau, math.Cos(lon))
	eta0 := math.Asinh(math.Sin(lon) / math.Hypot(tau, math.Cos(lon)))
	xi, eta := xi0, eta0
	for i, a := range alpha {
		k := float64(2 * (i + 1))
		xi += a * math.Sin(k*xi0) * math.Cosh(k*eta0)
		eta += a * math.Cos(k*xi0) * math.Sinh(k*eta0)
	}
	return utmScale * rectifying * eta, utmScale * rectifying * xi
}

// conformal is the tangent of the conformal latitude for that of the latitude.
func conformal(tau float64) float64 {
	sigma := math.Sinh(eccentricity * math.Atanh(eccentricity*tau/math.Hypot(1, tau)))
	return tau*math.Hypot(1, sigma) - sigma*math.Hypot(1, tau)
}

// rowShift is by how many letters the rows of a zone are shifted.
func rowShift(zone int) int {
	if zone%2 == 0 {
		return 5
	}
	return 0
}

// MGRS is the grid reference of a point to one metre, like
// "32T LT 81852 00565". Digits are cut off, never rounded: a reference names
// the square that holds the point.
func MGRS(lat, lon float64) (string, error) {
	u, err := ToUTM(lat, lon)
	if err != nil {
		return "", err
	}
	e, n := u.Easting+onLine, u.Northing+onLine
	band := bands[min(len(bands)-1, int((lat+80)/8))]
	column := columns[(u.Zone-1)%3][int(e/square)-1]
	row := rows[(int(n/square)+rowShift(u.Zone))%len(rows)]
	return fmt.Sprintf("%02d%c %c%c %05d %05d", u.Zone, band, column, row, int(math.Mod(e, square)), int(math.Mod(n, square))), nil
}
