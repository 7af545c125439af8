package mesh

import (
	"errors"
	"time"

	"outrider/mesh/blob"
	"outrider/mesh/bundle"
	"outrider/mesh/cla"
	"outrider/mesh/identity"
)

// Errors that callers of the agent distinguish.
var (
	// ErrFull: the node is full of bundles it must keep. Nothing was
	// stored. Purge, wait for lifetimes to end, or raise the limit.
	ErrFull = errors.New("mesh: node is full")
	// ErrUnknown: no such bundle here.
	ErrUnknown = errors.New("mesh: bundle is not here")
	// ErrExists: the bundle is here already, or was purged.
	ErrExists = errors.New("mesh: bundle is already known")
	// ErrLifetime: the lifetime exceeds the network's ceiling, or has ended.
	ErrLifetime = errors.New("mesh: lifetime out of bounds")
	// ErrPurgeKey: the key does not fit the bundle's commitment.
	ErrPurgeKey = errors.New("mesh: purge key does not fit the bundle")
	// ErrRefused: the judge found the control object forged or superseded.
	ErrRefused = errors.New("mesh: control object refused")
	// ErrLater: what the control object depends on is not here yet. Submit
	// that first.
	ErrLater = errors.New("mesh: control object depends on one that is not here")
	// ErrClosed: the agent is not running.
	ErrClosed = errors.New("mesh: agent is not running")
)

// SubmitOptions are choices of the submitter that do not travel.
type SubmitOptions struct {
	Budget uint8 // replica budget of a sprayed bundle, 0 for the default of its size
	Urgent bool  // a revocation or configuration: goes right behind FLASH
}

// A VerdictCode is a Judge's answer.
type VerdictCode uint8

// The verdicts.
const (
	VerdictForged     VerdictCode = iota // chain or signature does not hold
	VerdictAccept                        // the newest of its key
	VerdictSuperseded                    // a newer one is known
	VerdictLater                         // what it depends on is not here yet
)

// A Verdict is what a Judge says of a control object.
type Verdict struct {
	Code     VerdictCode
	Key      [16]byte // what it is the newest of: subject and kind
	Number   uint64   // the higher one supersedes
	Urgent   bool     // a revocation or configuration
	NotAfter time.Time
}

// A Judge checks control objects before they are stored or passed on. It is
// called by several goroutines.
type Judge interface{ Judge(payload []byte) Verdict }

// An Event tells what happened to a bundle, a blob or a link.
type Event interface{ event() }

// The events.
type (
	// Arrived: a bundle of a watched tag is durably here and was not yet
	// consumed. It is repeated after a restart and when its tag is watched
	// anew, until Consumed.
	Arrived struct {
		ID   bundle.ID
		Tag  identity.Tag
		Kind bundle.Kind
	}
	// Carried: a neighbour has accepted custody of a bundle of ours.
	Carried struct {
		ID       bundle.ID
		Peer     identity.NodeID
		Replicas int  // neighbours that did so
		AtReader bool // the neighbour serves the bundle's tag
	}
	// Purged: a bundle was removed by its purge key, which is the
	// delivery receipt where there is one reader.
	Purged struct {
		ID  bundle.ID
		Key bundle.PurgeKey
	}
	// Expired: the lifetime of a bundle ended here.
	Expired struct {
		ID  bundle.ID
		Own bool
	}
	// BlobProgress: so many leaves of a blob are durably here.
	BlobProgress struct {
		Root        blob.Root
		Have, Total int
	}
	// BlobComplete: all of them are.
	BlobComplete struct{ Root blob.Root }
	// LinkUp and LinkDown frame a contact.
	LinkUp struct {
		Peer  identity.NodeID
		Class cla.Class
	}
	LinkDown struct {
		Peer  identity.NodeID
		Class cla.Class
	}
	// PeerHeads: a neighbour told its revocation heads.
	PeerHeads struct {
		Peer  identity.NodeID
		Heads []byte
	}
)

func (Arrived) event()      {}
func (Carried) event()      {}
func (Purged) event()       {}
func (Expired) event()      {}
func (BlobProgress) event() {}
func (BlobComplete) event() {}
func (LinkUp) event()       {}
func (LinkDown) event()     {}
func (PeerHeads) event()    {}

// Limits bound the agent. The zero value of a field stands for its default.
type Limits struct {
	Bytes     int64         // of bundles in the store, with RecordCost for each and for each purge record; default 256 MiB
	Reserve   int           // per cent of Bytes that neighbours' bundles never take; default 30, below 0 for none
	BlobBytes int64         // of leaves taken from neighbours; default 1 GiB
	Known     int           // ids known, held or not; default 300,000
	Ceiling   time.Duration // longest lifetime and custody, control objects excepted; default 30 days
	Flash     Rate          // FLASH from one neighbour that is served as such
	Immediate Rate          // the same of IMMEDIATE
	Priority  Rate          // the same of PRIORITY
}

// A Rate is a token bucket: what a minute brings, and what it holds.
type Rate struct{ Bundles, Bytes int64 }

func (l Limits) withDefaults() Limits {
	def := func(v *int64, d int64) {
		if *v == 0 {
			*v = d
		}
	}
	def(&l.Bytes, 256<<20)
	def(&l.BlobBytes, 1<<30)
	def((*int64)(&l.Ceiling), int64(30*24*time.Hour))
	def(&l.Flash.Bundles, 12)
	def(&l.Flash.Bytes, 64_000)
	def(&l.Immediate.Bundles, 120)
	def(&l.Immediate.Bytes, 1_000_000)
	def(&l.Priority.Bundles, 1200)
	def(&l.Priority.Bytes, 8_000_000)
	if l.Reserve == 0 {
		l.Reserve = ownReserve
	}
	l.Reserve = max(l.Reserve, 0)
	if l.Known == 0 {
		l.Known = maxKnown
	}
	l.Known = min(l.Known, maxKnown)
	return l
}
