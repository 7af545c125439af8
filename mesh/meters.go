package mesh

import (
	"outrider/mesh/bundle"
	"outrider/mesh/cla"
)

// classes is one more than the highest cla.Class.
const classes = int(cla.LAN) + 1

// Precedences is how many there are, from ROUTINE to FLASH.
const Precedences = int(bundle.Flash) + 1

// Traffic is payload of bundles that went over links and was accepted: what
// is of use, without frames, repetitions and what was refused.
type Traffic struct{ SentBytes, ReceivedBytes uint64 }

// DelayBounds are the upper bounds of the buckets of Delays, in seconds, from
// a neighbour in reach to the longest lifetime.
var DelayBounds = [...]uint32{1, 5, 15, 60, 300, 900, 3600, 4 * 3600, 12 * 3600, 86400, 3 * 86400, 7 * 86400, 30 * 86400}

// Delays counts how old bundles for readers on this node were when they were
// stored here, by node time (decisions 4), so that wrong clocks play no part.
type Delays struct {
	Buckets [len(DelayBounds) + 1]uint64 // the last one: older than all bounds
	Seconds uint64                       // sum of all
}

func (d *Delays) count(age uint32) {
	d.Seconds += uint64(age)
	for i, bound := range DelayBounds {
		if age <= bound {
			d.Buckets[i]++
			return
		}
	}
	d.Buckets[len(DelayBounds)]++
}

// A QueueLevel is what is held of one precedence.
type QueueLevel struct {
	Bundles int
	Bytes   int64  // of payload
	Oldest  uint32 // age in seconds
}

func (q *QueueLevel) add(e *entry, now Time) {
	q.Bundles++
	q.Bytes += int64(e.size)
	q.Oldest = max(q.Oldest, e.age(now))
}

// accepted counts a bundle that a neighbour gave us and that is on disk now.
func (m *Machine) accepted(a *arrival, e *entry) {
	if l := m.links[a.link]; l != nil {
		m.count.Payload[classOf(l)].ReceivedBytes += uint64(e.size)
	}
	if e.kind != uint8(bundle.KindControl) && m.tags.watched(e.tag) {
		m.count.Delay.count(e.age(m.now))
	}
}

func classOf(l *link) int { return min(int(l.info.Class), classes-1) }

// Reasons is every reason, for lists that must be complete.
var Reasons = []Reason{
	DropExpired, DropOld, DropPurged, DropDuplicate, DropNoSpace, DropShare,
	DropEvicted, DropSuperseded, DropForged, DropLater, DropCollision, DropHash,
	DropPartial, DropStore, DropDamaged, DropMalformed, DropUnknown, DropUnexpected,
	DropLeaf, DropBlobSpace, DropQuery,
}
