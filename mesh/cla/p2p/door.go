package p2p

import (
	"net/netip"
	"sync"
	"time"

	"outrider/mesh/crowd"
)

// A door admits strangers: connections that have not proved a certificate
// yet. There are few places, one per source address, and who keeps silent
// past its grace is put out for the next one, without an answer. From where a
// peer was admitted lately one comes in before those from anywhere else.
// Nothing here counts against the connections of admitted peers, and nothing
// they do can be slowed by a crowd at the door.
type door struct {
	grace time.Duration
	now   func() time.Time

	mu     sync.Mutex
	inside map[*visitor]struct{}
}

// A visitor is a stranger with a place.
type visitor struct {
	door *door
	arrival
	since time.Time
	spoke bool   // has opened a stream, so it has proved its key as well
	out   func() // closes its connection; must not block
}

// An arrival is how a stranger came.
type arrival struct {
	source netip.Addr
	known  bool // a peer was admitted from there lately
	proven bool // the address is certainly its own: a handshake of TCP
}

func newDoor(grace time.Duration) *door {
	return &door{grace: grace, now: time.Now, inside: make(map[*visitor]struct{})}
}

// enter gives a place to an arrival, or nil if there is none. out is called
// when the visitor is put out before it left.
func (d *door) enter(a arrival, out func()) *visitor {
	d.mu.Lock()
	defer d.mu.Unlock()
	a.source = crowd.Household(a.source)
	old := d.inTheWay(a.source)
	switch {
	case old != nil:
		// Somebody else may have borrowed the address: who has proved it goes first.
		if !d.silent(old) && (old.spoke || old.proven || !a.proven) {
			return nil
		}
	case len(d.inside) >= maxStrangers:
		if old = d.longestSilent(); old == nil && a.known {
			old = d.longestUnknown()
		}
		if old == nil {
			return nil
		}
	}
	if old != nil {
		delete(d.inside, old)
		old.out()
	}
	v := &visitor{door: d, arrival: a, since: d.now(), out: out}
	d.inside[v] = struct{}{}
	return v
}

// inTheWay returns the visitor from the same address, if any.
func (d *door) inTheWay(source netip.Addr) *visitor {
	for v := range d.inside {
		if v.source == source {
			return v
		}
	}
	return nil
}

// silent reports whether v may be put out.
func (d *door) silent(v *visitor) bool {
	return !v.spoke && d.now().Sub(v.since) >= d.grace
}

func (d *door) longestSilent() *visitor {
	var longest *visitor
	for v := range d.inside {
		if d.silent(v) && (longest == nil || v.since.Before(longest.since)) {
			longest = v
		}
	}
	return longest
}

// longestUnknown returns the visitor that makes room for one from a place we
// know, if any.
func (d *door) longestUnknown() *visitor {
	var longest *visitor
	for v := range d.inside {
		if !v.known && (longest == nil || v.since.Before(longest.since)) {
			longest = v
		}
	}
	return longest
}

// speaks notes that the visitor has said something worth waiting for.
func (v *visitor) speaks() {
	v.door.mu.Lock()
	defer v.door.mu.Unlock()
	v.spoke = true
}

// leave gives the place free, because of admission or the connection's end.
func (v *visitor) leave() {
	v.door.mu.Lock()
	defer v.door.mu.Unlock()
	delete(v.door.inside, v)
}

// count returns how many strangers have a place.
func (d *door) count() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return len(d.inside)
}
