package p2p

import (
	"net/netip"
	"sync"
	"time"
)

// A door admits strangers: connections that have not proved a certificate
// yet. There are few places, one per source address, and who keeps silent
// past its grace is put out for the next one, without an answer. Nothing here
// counts against the connections of admitted peers, and nothing they do can
// be slowed by a crowd at the door.
type door struct {
	grace time.Duration
	now   func() time.Time

	mu     sync.Mutex
	inside map[*visitor]struct{}
}

// A visitor is a stranger with a place.
type visitor struct {
	door   *door
	source netip.Addr
	since  time.Time
	spoke  bool   // has opened a stream, so it has proved its key as well
	out    func() // closes its connection; must not block
}

func newDoor(grace time.Duration) *door {
	return &door{grace: grace, now: time.Now, inside: make(map[*visitor]struct{})}
}

// enter gives a place to a connection from source, or nil if there is none.
// out is called when the visitor is put out before it left.
func (d *door) enter(source netip.Addr, out func()) *visitor {
	d.mu.Lock()
	defer d.mu.Unlock()
	source = household(source)
	old := d.inTheWay(source)
	if old == nil && len(d.inside) >= maxStrangers {
		old = d.longestSilent()
		if old == nil {
			return nil
		}
	}
	if old != nil {
		if !d.silent(old) {
			return nil
		}
		delete(d.inside, old)
		old.out()
	}
	v := &visitor{door: d, source: source, since: d.now(), out: out}
	d.inside[v] = struct{}{}
	return v
}

// household is what counts as one source: an IPv4 address, or the /64 that an
// IPv6 host chooses its addresses from. Link-local ones are the hosts' own.
func household(a netip.Addr) netip.Addr {
	a = a.Unmap()
	if a.Is6() && !a.IsLinkLocalUnicast() {
		if p, err := a.Prefix(64); err == nil {
			return p.Addr()
		}
	}
	return a
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
