package mesh

import (
	"iter"

	"outrider/mesh/bundle"
	"outrider/mesh/identity"
	"outrider/mesh/reconcile"
	"outrider/mesh/routing"
)

// maxKnown bounds the index whatever the configuration says.
const maxKnown = 300_000

// A state is how a known bundle stands here.
type state uint8

const (
	free       state = iota // slot not in use
	pending                 // being written; not yet told to anybody
	held                    // on disk
	purging                 // on disk, its tombstone being written
	purged                  // tombstone on disk
	refused                 // no space for it: in the set, wanted back; damaged on disk: wanted back
	superseded              // a newer control object is held; not in the set
	expired                 // lifetime ended; remembered for a while, not in the set
)

// flags of an entry
const (
	flagOwn      = 1 << iota // submitted here
	flagConsumed             // handed over here
	flagUrgent               // revocation or configuration
	flagInSet                // its short id is in its scope's set
	flagArchive              // FlagArchive: kept at its origin when purged
	flagKept                 // purged, yet still on disk
	flagDemoted              // over its neighbour's rate: served as ROUTINE
)

// An entry is what is kept in memory of a known bundle: 64 bytes.
type entry struct {
	id       bundle.ID
	seq      uint64 // arrival order, 0 if never stored
	has      uint64 // bit per link slot: that neighbour has it, or must not be sent it again
	tag      identity.Tag
	deadline uint32 // node time in seconds
	stored   uint32 // node time in seconds
	life     uint32 // lifetime in seconds
	size     uint32 // of the payload
	ingress  uint16 // index into Machine.peers; 0 is this node
	flags    uint8
	state    state
	header   bundle.Precedence // precedence in its header
	kind     uint8             // bundle.Kind, 255 for those that do not fit
	budget   uint8             // replicas this copy may still make
	replicas uint8             // neighbours that acknowledged custody
}

func (e *entry) is(flag uint8) bool { return e.flags&flag != 0 }

func (e *entry) set(flag uint8, on bool) {
	if on {
		e.flags |= flag
	} else {
		e.flags &^= flag
	}
}

// served is the precedence a bundle is treated with here.
func (e *entry) served() bundle.Precedence {
	if e.is(flagDemoted) {
		return bundle.Routine
	}
	return e.header
}

// onDisk reports whether the payload can be read.
func (e *entry) onDisk() bool {
	return e.state == held || e.state == purging || e.state == purged && e.is(flagKept)
}

// age returns the bundle's age in seconds.
func (e *entry) age(now Time) uint32 {
	left := int64(e.deadline) - int64(now.secs())
	return uint32(min(max(int64(e.life)-left, 0), int64(e.life)))
}

func (e *entry) left(now Time) int64 { return int64(e.deadline) - int64(now.secs()) }

// An index finds entries by short id. The live short id of every known bundle
// is in it; of purged ones, the short id with the purged bit as well.
//
// Two bundles with the same short id cannot be told apart by neighbours, so
// the second is not taken: chance makes that 3e-10 at 100,000 bundles, and
// whoever contrives it hits only one of two bundles of their own making.
type index struct {
	salt    reconcile.Salt
	flood   bool // opsec: nothing is sprayed
	entries []entry
	unused  []uint32
	byShort map[uint64]uint32
}

func newIndex(salt reconcile.Salt, flood bool) index {
	return index{salt: salt, flood: flood, entries: make([]entry, 1), byShort: map[uint64]uint32{}}
}

// A ref names an entry as long as it is the same one: slots are used again.
type ref struct {
	slot  uint32
	stamp uint32
}

func (x *index) ref(slot uint32) ref { return ref{slot, x.entries[slot].stamp()} }

// stamp differs between the bundles that use a slot one after another.
func (e *entry) stamp() uint32 {
	return uint32(e.id[0]) | uint32(e.id[1])<<8 | uint32(e.id[2])<<16 | uint32(e.id[3])<<24
}

// at returns the entry a ref names, nil if it is gone.
func (x *index) at(r ref) *entry {
	e := &x.entries[r.slot]
	if e.state == free || e.stamp() != r.stamp {
		return nil
	}
	return e
}

func (x *index) len() int { return len(x.entries) - 1 - len(x.unused) }

func (x *index) short(id bundle.ID) uint64 { return x.salt.Short(id, false) }

// find returns the slot of a bundle, 0 if it is unknown.
func (x *index) find(id bundle.ID) uint32 {
	slot := x.byShort[x.short(id)]
	if slot != 0 && x.entries[slot].id != id {
		return 0
	}
	return slot
}

// collides reports whether another bundle holds the short id of this one.
func (x *index) collides(id bundle.ID) bool {
	slot := x.byShort[x.short(id)]
	return slot != 0 && x.entries[slot].id != id
}

func (x *index) add(e entry) uint32 {
	slot := uint32(len(x.entries))
	if n := len(x.unused); n > 0 {
		slot, x.unused = x.unused[n-1], x.unused[:n-1]
		x.entries[slot] = e
	} else {
		x.entries = append(x.entries, e)
	}
	x.byShort[x.short(e.id)] = slot
	return slot
}

// alias makes the purged short id of an entry known.
func (x *index) alias(slot uint32) {
	x.byShort[x.salt.Short(x.entries[slot].id, true)] = slot
}

func (x *index) remove(slot uint32) {
	e := &x.entries[slot]
	delete(x.byShort, x.short(e.id))
	if p := x.salt.Short(e.id, true); x.byShort[p] == slot {
		delete(x.byShort, p)
	}
	*e = entry{}
	x.unused = append(x.unused, slot)
}

// all yields every known entry in slot order.
func (x *index) all() iter.Seq2[uint32, *entry] {
	return func(yield func(uint32, *entry) bool) {
		for i := 1; i < len(x.entries); i++ {
			if e := &x.entries[i]; e.state != free && !yield(uint32(i), e) {
				return
			}
		}
	}
}

// setShort is the short id by which an entry is in its set.
func (x *index) setShort(e *entry) uint64 {
	return x.salt.Short(e.id, e.state == purged)
}

// scope is that of the bundle's header, whatever happened to it since. Purge
// records are small and flood, also those of sprayed bundles.
func (x *index) scope(e *entry) routing.Scope {
	size := int(e.size)
	if e.state == purged {
		size = 0
	}
	return routing.ScopeOf(bundle.Header{Kind: bundle.Kind(e.kind), Precedence: e.header}, size, x.flood)
}

// members yields the short ids of a scope's set.
func (x *index) members(s routing.Scope) iter.Seq[uint64] {
	return func(yield func(uint64) bool) {
		for _, e := range x.all() {
			if e.is(flagInSet) && x.scope(e) == s && !yield(x.setShort(e)) {
				return
			}
		}
	}
}
