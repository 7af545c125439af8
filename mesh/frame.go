package mesh

import (
	"outrider/mesh/blob"
	"outrider/mesh/bundle"
	"outrider/mesh/identity"
	"outrider/mesh/reconcile"
	"outrider/mesh/routing"
)

// What the protocol fixes. Changing one of these breaks other nodes; see
// PROTOCOL.md.
const (
	protocolMin = 1
	protocolMax = 1

	maxHeads      = 64    // bytes of revocation heads in STATE
	maxBatch      = 2048  // symbols in one SYMBOLS, ids in one OFFER
	maxShorts     = 4096  // short ids in one WANT or GONE
	maxRuns       = 1024  // runs in one ACK
	maxPartials   = 64    // bundles in one PARTIAL
	maxRoots      = 64    // roots in one BLOBASK
	maxStretch    = 4096  // bytes of bitmap in one BLOBHAVE
	maxData       = 65536 // payload bytes in one frame
	maxQueryHops  = 16    // links a QUERY may cross
	countedFrames = 0x40  // types from here on use up the sender's window
)

// The frame types.
const (
	typeState    = 0x01
	typeSync     = 0x02
	typeTags     = 0x03
	typeScopes   = 0x04
	typeAsk      = 0x05
	typeWant     = 0x06
	typeList     = 0x07
	typePick     = 0x08
	typeGone     = 0x09
	typeAck      = 0x0a
	typeAbort    = 0x0b
	typePartial  = 0x0c
	typeQuery    = 0x0d
	typePath     = 0x0e
	typeDiffer   = 0x0f
	typeBlobAsk  = 0x10
	typeBlobHave = 0x11
	typeBlobWant = 0x12
	typeBlobEnd  = 0x13
	typeSymbols  = 0x40
	typeOffer    = 0x41
	typeBundle   = 0x42
	typeBegin    = 0x43
	typeData     = 0x44
	typePurge    = 0x45
	typeProof    = 0x46
	typeLeaf     = 0x47
)

// A Code answers a transfer in an ACK.
type Code uint8

// The codes. Only CodeDurable moves custody.
const (
	CodeDurable    Code = 0  // stored and synced: custody accepted
	CodeDuplicate  Code = 1  // held already
	CodeLater      Code = 2  // a control object whose parents are not here yet; not stored
	CodeNoSpace    Code = 3  // refused for space or share; will be asked for when there is some
	CodeExpired    Code = 4  // older than its lifetime
	CodeBad        Code = 5  // hash, key or signature does not fit
	CodeSuperseded Code = 6  // a newer control object is here
	CodePurged     Code = 7  // removed here by a purge record
	CodeRestart    Code = 8  // the offset does not continue what is here; send from 0
	CodeBusy       Code = 9  // arriving from another neighbour, or too much at once
	CodeFailed     Code = 10 // the receiver could not store it; try again in a later contact
	codes               = 11
)

// A Frame is one message between neighbours, taken apart.
type Frame interface{ kind() byte }

type (
	stateFrame struct {
		Min, Max   uint8
		Features   uint64
		Heads      []byte
		Generation uint64
		Epoch      [8]byte
		Seq        uint64
		KnownEpoch [8]byte // of the receiver's store
		KnownSeq   uint64
		KnownSpray uint64
		Root       [16]byte
		FreeKiB    uint64
		AckEvery   uint64
	}
	syncFrame struct {
		Seq     uint64
		Root    [16]byte
		FreeKiB uint64
	}
	tagsFrame struct {
		Replace, All bool
		Archive      bool // some of the sender's tags are a compliance reader's
		Add, Remove  []uint32
	}
	scopesFrame struct {
		Prints [routing.Scopes]reconcile.Fingerprint
	}
	differFrame struct{ Mask uint8 } // a bit for each scope that differs
	askFrame    struct {
		Scope routing.Scope
		Start int
		Count int
	}
	wantFrame struct {
		Scope  routing.Scope
		Last   bool
		Shorts []uint64
	}
	listFrame struct{ Scope routing.Scope }
	pickFrame struct {
		Num  uint64
		Bits []byte
	}
	goneFrame struct{ Shorts []uint64 }
	ackRun    struct {
		First, Count uint64
		Code         Code
	}
	ackFrame struct {
		Got  uint64 // counted frames received so far
		Runs []ackRun
	}
	abortFrame  struct{ Num uint64 }
	partialItem struct {
		ID   bundle.ID
		Have int
	}
	partialFrame struct{ Items []partialItem }
	queryFrame   struct {
		Query uint64
		Tag   identity.Tag
		Hops  uint8
	}
	pathFrame struct {
		Query uint64
		Tag   identity.Tag
		Hops  uint8
	}
	blobAskFrame  struct{ Roots []blob.Root }
	blobHaveFrame struct {
		Root    blob.Root
		Length  uint64
		Stretch []byte
	}
	blobWantFrame struct {
		Pull         uint64
		Root         blob.Root
		First, Count int
		Offset       int
		Proof        bool
	}
	blobEndFrame struct{ Pull uint64 }
	symbolsFrame struct {
		Scope   routing.Scope
		Start   int
		Total   uint64
		Symbols []reconcile.Symbol
	}
	offerFrame struct {
		Num               uint64
		List, Last, Spray bool // List: of all of the scope; Last: nothing follows
		Scope             routing.Scope
		Upto              uint64
		Shorts            []uint64    // either these
		IDs               []bundle.ID // or, between key generations, these
	}
	// transfer is what BUNDLE and BEGIN tell of a bundle.
	transferHead struct {
		Num         uint64
		ID          bundle.ID
		Hop         bundle.Hop
		Header      bundle.Header
		PayloadHash [32]byte
		Size        int // of the payload
		Blob        *blob.Descriptor
	}
	bundleFrame struct {
		transferHead
		Body []byte
	}
	beginFrame struct {
		transferHead
		Offset int
		Body   []byte
	}
	dataFrame struct {
		Num    uint64
		Offset int
		Body   []byte
	}
	purgeFrame struct {
		Num    uint64
		ID     bundle.ID
		Record bundle.PurgeRecord
		Valid  bool
	}
	proofFrame struct {
		Pull  uint64
		Group int
		Body  []byte
	}
	leafFrame struct {
		Pull   uint64
		Leaf   int
		Offset int
		Body   []byte
	}
	// unknownFrame is of a type this version does not know.
	unknownFrame struct{ Type byte }
)

func (stateFrame) kind() byte     { return typeState }
func (syncFrame) kind() byte      { return typeSync }
func (tagsFrame) kind() byte      { return typeTags }
func (scopesFrame) kind() byte    { return typeScopes }
func (differFrame) kind() byte    { return typeDiffer }
func (askFrame) kind() byte       { return typeAsk }
func (wantFrame) kind() byte      { return typeWant }
func (listFrame) kind() byte      { return typeList }
func (pickFrame) kind() byte      { return typePick }
func (goneFrame) kind() byte      { return typeGone }
func (ackFrame) kind() byte       { return typeAck }
func (abortFrame) kind() byte     { return typeAbort }
func (partialFrame) kind() byte   { return typePartial }
func (queryFrame) kind() byte     { return typeQuery }
func (pathFrame) kind() byte      { return typePath }
func (blobAskFrame) kind() byte   { return typeBlobAsk }
func (blobHaveFrame) kind() byte  { return typeBlobHave }
func (blobWantFrame) kind() byte  { return typeBlobWant }
func (blobEndFrame) kind() byte   { return typeBlobEnd }
func (symbolsFrame) kind() byte   { return typeSymbols }
func (offerFrame) kind() byte     { return typeOffer }
func (bundleFrame) kind() byte    { return typeBundle }
func (beginFrame) kind() byte     { return typeBegin }
func (dataFrame) kind() byte      { return typeData }
func (purgeFrame) kind() byte     { return typePurge }
func (proofFrame) kind() byte     { return typeProof }
func (leafFrame) kind() byte      { return typeLeaf }
func (f unknownFrame) kind() byte { return f.Type }

// Body returns the payload bytes that a frame carries, if it is one of those
// that do. Drivers of the machine keep them under a Token.
func Body(f Frame) []byte {
	switch f := f.(type) {
	case bundleFrame:
		return f.Body
	case beginFrame:
		return f.Body
	case dataFrame:
		return f.Body
	case proofFrame:
		return f.Body
	case leafFrame:
		return f.Body
	}
	return nil
}

// FrameName returns a frame type's name as PROTOCOL.md has it.
func FrameName(kind byte) string {
	if n, ok := frameNames[kind]; ok {
		return n
	}
	return "unknown"
}

var frameNames = map[byte]string{
	typeState: "STATE", typeSync: "SYNC", typeTags: "TAGS", typeScopes: "SCOPES", typeAsk: "ASK", typeWant: "WANT",
	typeList: "LIST", typePick: "PICK", typeGone: "GONE", typeAck: "ACK", typeAbort: "ABORT", typePartial: "PARTIAL",
	typeQuery: "QUERY", typePath: "PATH", typeDiffer: "DIFFER", typeBlobAsk: "BLOBASK", typeBlobHave: "BLOBHAVE", typeBlobWant: "BLOBWANT",
	typeBlobEnd: "BLOBEND", typeSymbols: "SYMBOLS", typeOffer: "OFFER", typeBundle: "BUNDLE", typeBegin: "BEGIN",
	typeData: "DATA", typePurge: "PURGE", typeProof: "PROOF", typeLeaf: "LEAF",
}
