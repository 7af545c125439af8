package identity

import "time"

// A Clock tells the time that certificates are judged by: the larger of the
// local clock and the highest admin-signed time seen (crypto.md 3.2).
type Clock interface {
	Now() time.Time
	// Trusted reports whether GPS, NTP or an admin-signed object set the
	// clock since the machine started. Expiry is hard only then.
	Trusted() bool
}

const (
	// Grace is how long past its end a certificate still counts for a node
	// whose clock is not trusted.
	Grace = 30 * 24 * time.Hour
	// skew is how far before its begin a certificate is already accepted by
	// a trusted clock: issuers' clocks are never quite ours.
	skew = time.Hour
)

// maxMinutes bounds times to 31 bits, so that a certificate's generation,
// standing and begin fit 64 (see offline/roster).
const maxMinutes = 1<<31 - 1

// minutes converts a time to whole minutes since 1970, as every format
// stores it. It reports false if the time does not fit.
func minutes(t time.Time) (uint32, bool) {
	m := t.Unix() / 60
	if t.Unix() < 0 || m > maxMinutes {
		return 0, false
	}
	return uint32(m), true
}

func fromMinutes(m uint32) time.Time { return time.Unix(int64(m)*60, 0).UTC() }
