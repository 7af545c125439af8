package mesh

import (
	"time"

	"outrider/mesh/blob"
	"outrider/mesh/bundle"
	"outrider/mesh/cla"
	"outrider/mesh/identity"
	"outrider/mesh/reconcile"
)

// A LinkID names a link between Up and Down; it is not used twice.
type LinkID uint64

// A Token names payload bytes that the driver keeps for the machine: those of
// a received frame, or several joined. The machine gives each back exactly
// once, by Free, Join (From), PutBundle or WriteLeaf.
type Token uint64

// An Input is something that happened.
type Input interface{ input() }

// The inputs.
type (
	// PeerUp reports a new link to an admitted neighbour.
	PeerUp struct {
		Link LinkID
		Peer identity.NodeID
		Info cla.Info
		// Cursor is the store's value under CursorKey(Peer).
		Cursor []byte
	}
	// PeerDown reports that a link has ended.
	PeerDown struct{ Link LinkID }
	// Received is a frame from a neighbour. Token holds Body(Frame).
	Received struct {
		Link  LinkID
		Frame Frame
		Token Token
	}
	// Malformed reports a frame that did not parse.
	Malformed struct {
		Link LinkID
		Type byte
	}
	// Unsent reports that a frame could not be filled and was not sent. Gone
	// says that what it names is not in the store.
	Unsent struct {
		Link LinkID
		Head []byte // see UnsentHead
		Gone bool
	}
	// Damaged reports that the payload of a bundle could not be read as it was
	// stored.
	Damaged struct{ ID bundle.ID }
	// Wake reports that the time of the last Alarm has come.
	Wake struct{}
	// Submitted is a bundle made on this node. Token holds the payload.
	Submitted struct {
		Req         uint64
		ID          bundle.ID
		Hop         bundle.Hop
		Header      bundle.Header
		PayloadHash [32]byte
		Size        int
		Blob        *blob.Descriptor
		Token       Token
		Options     SubmitOptions
	}
	// PurgeAsked is a purge record released on this node.
	PurgeAsked struct {
		Req    uint64
		Record bundle.PurgeRecord
	}
	// Watched changes what is delivered here.
	Watched struct {
		Add, Remove []identity.Tag
		Quiet       bool // not told to neighbours
		Archive     bool // of a compliance reader, to be watched besides: what was purged is kept there; Remove has no meaning
	}
	// ConsumedAsked marks bundles as handed over.
	ConsumedAsked struct {
		Req uint64
		IDs []bundle.ID
	}
	// Committed answers Commit outputs, in their order.
	Committed struct{ Results []CommitResult }
	// Judged answers JudgeControl.
	Judged struct {
		Token   Token
		Verdict Judgement
	}
	// Rejudge asks to judge again what was put off.
	Rejudge struct{}
	// BlobOpened answers OpenBlob of the same descriptor. Have belongs to the
	// machine.
	BlobOpened struct {
		Blob blob.Descriptor
		Have *blob.Bitmap
		Err  error
	}
	// BlobsWritten answers WriteProof and WriteLeaf.
	BlobsWritten struct{ Results []BlobResult }
	// HeadsChanged changes the revocation heads told to neighbours.
	HeadsChanged struct{ Heads []byte }
	// GenerationChanged goes over to another generation of the network secret.
	GenerationChanged struct {
		Salt       reconcile.Salt
		Generation uint64
	}
	// RestoredBundle and RestoredTombstone are what the store held at
	// start; Started ends them.
	RestoredBundle    struct{ Record Record }
	RestoredTombstone struct{ Tombstone Tombstone }
	Started           struct{}
)

// A CommitResult is the outcome of one Commit output.
type CommitResult struct {
	Commit uint64
	Err    error
}

// A BlobResult is the outcome of one WriteProof (Leaf -1) or WriteLeaf.
type BlobResult struct {
	Root  blob.Root
	Group int
	Leaf  int
	Err   error
}

// A Judgement is a Verdict as the machine takes it: with a duration for a date.
type Judgement struct {
	Code   VerdictCode
	Key    [16]byte
	Number uint64
	Urgent bool
	Left   time.Duration // validity that is left, 0 for the header's lifetime
}

func (PeerUp) input()            {}
func (PeerDown) input()          {}
func (Received) input()          {}
func (Malformed) input()         {}
func (Unsent) input()            {}
func (Damaged) input()           {}
func (Wake) input()              {}
func (Submitted) input()         {}
func (PurgeAsked) input()        {}
func (Watched) input()           {}
func (ConsumedAsked) input()     {}
func (Committed) input()         {}
func (Judged) input()            {}
func (Rejudge) input()           {}
func (BlobOpened) input()        {}
func (BlobsWritten) input()      {}
func (HeadsChanged) input()      {}
func (GenerationChanged) input() {}
func (RestoredBundle) input()    {}
func (RestoredTombstone) input() {}
func (Started) input()           {}

// An Output is something to do. Outputs must be carried out in order, those
// for one link in order on that link, commits in order, blob writes in order.
type Output interface{ output() }

// The outputs.
type (
	// Send puts a frame on a link: Head, then what Load names.
	Send struct {
		Link LinkID
		Head []byte
		Load Load
	}
	// Commit asks for a durable transaction; Committed answers.
	Commit struct {
		Commit uint64
		Ops    []Op
	}
	// JudgeControl asks for the verdict on a control object; Judged answers.
	JudgeControl struct{ Token Token }
	// Free gives a token back.
	Free struct{ Token Token }
	// Join appends the bytes of From to those of Into; From is gone.
	Join struct{ Into, From Token }
	// Alarm asks for a Wake at a time; the last one counts.
	Alarm struct{ At Time }
	// Reply ends a call.
	Reply struct {
		Req uint64
		Err error
	}
	// Hangup closes a link; PeerDown must follow.
	Hangup struct {
		Link   LinkID
		Reason string
	}
	// Emit passes an event on.
	Emit struct{ Event Event }
	// OpenBlob, WriteProof, WriteLeaf and DropBlob go to the store.
	OpenBlob   struct{ Blob blob.Descriptor }
	WriteProof struct {
		Root  blob.Root
		Group int
		Token Token
	}
	WriteLeaf struct {
		Root  blob.Root
		Leaf  int
		Token Token
	}
	DropBlob struct{ Root blob.Root }
)

func (Send) output()         {}
func (Commit) output()       {}
func (JudgeControl) output() {}
func (Free) output()         {}
func (Join) output()         {}
func (Alarm) output()        {}
func (Reply) output()        {}
func (Hangup) output()       {}
func (Emit) output()         {}
func (OpenBlob) output()     {}
func (WriteProof) output()   {}
func (WriteLeaf) output()    {}
func (DropBlob) output()     {}

// A Load is what a driver reads from the store to complete a frame.
type Load interface{ load() }

// The loads.
type (
	// LoadBundle makes a whole BUNDLE, or a BEGIN when it has an End: the
	// head is empty, the record's hop part is sent with this age and
	// budget, one link further, and payload bytes [Offset, End) follow.
	LoadBundle struct {
		ID     bundle.ID
		Num    uint64
		Age    uint32
		Budget uint8
		Begin  bool
		Offset int
		End    int
	}
	// LoadPayload is bytes [Offset, End) of a payload.
	LoadPayload struct {
		ID          bundle.ID
		Offset, End int
	}
	// LoadTombstone is a purge record with this age.
	LoadTombstone struct {
		ID  bundle.ID
		Age uint32
	}
	// LoadProof is a group's proof.
	LoadProof struct {
		Root  blob.Root
		Group int
	}
	// LoadLeaf is bytes [Offset, End) of a leaf.
	LoadLeaf struct {
		Root        blob.Root
		Leaf        int
		Offset, End int
	}
)

func (LoadBundle) load()    {}
func (LoadPayload) load()   {}
func (LoadTombstone) load() {}
func (LoadProof) load()     {}
func (LoadLeaf) load()      {}
