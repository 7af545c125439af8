package mesh

// A Reason says why a bundle or frame was dropped or refused. Each is a label
// of outrider_mesh_dropped_total.
type Reason string

// The reasons.
const (
	DropExpired    Reason = "expired"          // lifetime ended in the store
	DropOld        Reason = "expired_arrival"  // older than its lifetime when it came
	DropPurged     Reason = "purged"           // removed by its purge key
	DropDuplicate  Reason = "duplicate"        // came although it was known
	DropNoSpace    Reason = "no_space"         // store or index full
	DropShare      Reason = "share"            // the neighbour's share is used up
	DropEvicted    Reason = "evicted"          // made room for higher precedence
	DropSuperseded Reason = "superseded"       // a newer control object is here
	DropForged     Reason = "forged"           // control object or purge key does not verify
	DropLater      Reason = "later_full"       // put off, and too much was put off already
	DropCollision  Reason = "short_collision"  // another bundle has this short id
	DropHash       Reason = "bad_hash"         // assembled bytes are not those announced
	DropPartial    Reason = "partial_evicted"  // a cut transfer was forgotten for lack of room
	DropStore      Reason = "store_error"      // the store failed
	DropDamaged    Reason = "damaged"          // the disk changed its payload; wanted from neighbours
	DropMalformed  Reason = "malformed"        // frame does not parse
	DropUnknown    Reason = "unknown_frame"    // frame of a type not known here
	DropUnexpected Reason = "unexpected_frame" // frame that answers nothing
	DropLeaf       Reason = "bad_leaf"         // leaf does not verify
	DropBlobSpace  Reason = "blob_space"       // no room for more leaves
	DropQuery      Reason = "query_limit"      // tag query beyond the neighbour's rate
)

// Counters counts since the machine was made.
type Counters struct {
	Submitted, Received, Delivered, Sent uint64
	Demoted                              uint64 // over the rate of their precedence
	CommitErrors                         uint64
	Sessions, Lists, CursorContacts      uint64 // reconciliations by symbols, by list, by cursor
	EqualContacts                        uint64
	Resumed                              uint64 // transfers continued at an offset
	Stalls                               uint64 // links closed because nothing moved
	Dropped                              map[Reason]uint64
	Payload                              [classes]Traffic // by class of link
	Delay                                Delays           // of mail for readers here
}

func (m *Machine) drop(r Reason) { m.count.Dropped[r]++ }
