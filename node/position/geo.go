package position

import "math"

// meanRadius of the Earth in metres (IUGG); on the sphere a distance is within
// 0.6 % of the one on the ellipsoid.
const meanRadius = 6371008.8

// Between returns the great circle from one point to another: its length in
// metres and the bearing it starts with, degrees from true north, 0 to 360.
func Between(lat1, lon1, lat2, lon2 float64) (metres, bearing float64) {
	p1, p2, dl := lat1*math.Pi/180, lat2*math.Pi/180, (lon2-lon1)*math.Pi/180
	y := math.Sin(dl) * math.Cos(p2)
	x := math.Cos(p1)*math.Sin(p2) - math.Sin(p1)*math.Cos(p2)*math.Cos(dl)
	z := math.Sin(p1)*math.Sin(p2) + math.Cos(p1)*math.Cos(p2)*math.Cos(dl)
	bearing = math.Mod(math.Atan2(y, x)*180/math.Pi+360, 360)
	return meanRadius * math.Atan2(math.Hypot(x, y), z), bearing
}
