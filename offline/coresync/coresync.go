// Package coresync brings bundles and files to the core and from there, over
// a backhaul that breaks. The core is a NATS JetStream cluster far away; this
// package alone knows it. CORE.md is its wire form, DESIGN.md says why.
//
// What it promises:
//
//   - Whatever Put returned nil for is stored by a majority of the core's
//     servers. A cut, a server or an edge that dies in between costs a second
//     sending, of at most the window, and stores nothing twice: the core
//     refuses a second message of one subject, and that counts as success.
//   - Nothing is believed because the core says it: a bundle must have the id
//     it is filed under, a chunk must fit its tree, and its age only grows.
//   - The core sees tags and ciphertext. It can lose and delay, not read.
//   - A server that does not show a pinned key gets nothing, ever.
//
// An Edge is the node's side. A Desk is the core's own service beside its
// servers: it lets each node read the mailboxes it names, and no others.
package coresync

import (
	"context"
	"errors"
	"time"

	"outrider/mesh/blob"
	"outrider/mesh/bundle"
	"outrider/mesh/identity"
)

// What the protocol fixes; a change breaks other nodes and cores.
const (
	streamBox   = "BOX"
	streamFiles = "FILES"

	chunkLeaves = blob.GroupLeaves // leaves of one FILES message
	maxChunk    = 2 + blob.MaxProof + chunkLeaves*blob.LeafSize
	maxParcel   = bundle.MaxPayload + bundle.MaxHeader + bundle.MaxHop + 16

	// MaxTags is how many tags one list of Mailboxes takes.
	MaxTags  = 4096
	tagBytes = 8
)

// What we chose; other nodes may choose otherwise.
const (
	windowParcels = 256 // publishes under way (coresync.md 6)
	windowChunks  = 16
	pullWindow    = 256 // delivered and not acknowledged
	pingEvery     = 3 * time.Second
	pingsOut      = 2
	pingMax       = time.Minute // on a backhaul where a single message takes longer than two pings
	retryWait     = 500 * time.Millisecond
	retryJitter   = 500 * time.Millisecond
	dialTimeout   = 10 * time.Second // TCP, TLS and the server's greeting
	askTimeout    = 20 * time.Second // for an answer of the desk
	lostAfter     = 12 * time.Second // a publish that later ones have overtaken; a cut is noticed before
	quietAfter    = 12 * time.Second // without any answer, and without a cut
	quietRate     = 16 << 10         // bytes per second, below which an answer may take longer
	quietMax      = 10 * time.Minute
)

// Errors that callers distinguish.
var (
	// ErrPin: the server's key is none of those configured.
	ErrPin = errors.New("coresync: the server shows a key that is not pinned")
	// ErrCredentials: the seed or certificate files cannot be used.
	ErrCredentials = errors.New("coresync: credentials cannot be used")
	// ErrRefused: the core knows us and does not permit it.
	ErrRefused = errors.New("coresync: refused by the core")
	// ErrFull: the core has no room for it.
	ErrFull = errors.New("coresync: the core is full")
	// ErrAbsent: the core has no such chunk that verifies.
	ErrAbsent = errors.New("coresync: not at the core")
	// ErrMalformed: what came from the core does not parse or is not what it
	// was filed as.
	ErrMalformed = errors.New("coresync: malformed")
	// ErrTooMany: more than 4,096 tags.
	ErrTooMany = errors.New("coresync: too many tags")
)

// A Core is a place far away where bundles are left and found. An Edge
// reaches it through NATS; a folder or another broker could be one.
type Core interface {
	// Put leaves something, and returns nil when it is durably there. It
	// waits through cuts, until ctx ends.
	Put(ctx context.Context, it Item) (Fate, error)
	// Have tells which chunks of a file are there, by who put them.
	Have(ctx context.Context, d blob.Descriptor) ([]Holding, error)
	// Get returns one chunk that verifies, from any of the holders.
	Get(ctx context.Context, d blob.Descriptor, group int, from []Holding) (Chunk, error)
	// Pull calls take for whatever lies in the mailboxes of Watch, until ctx
	// or the connection ends.
	Pull(ctx context.Context, take func(Parcel) error) error
	// List names what lies in mailboxes, Fetch takes one thing of that: for
	// what lay there before this node read them, which Pull does not bring.
	List(ctx context.Context, m Mailboxes) ([]Name, error)
	Fetch(ctx context.Context, n Name) (Parcel, error)
	// Ack says that a parcel need not be delivered again.
	Ack(p Parcel)
	// Later asks to deliver it again after a while.
	Later(p Parcel, after time.Duration)
}

var _ Core = (*Edge)(nil)

// A Fate is what became of a Put.
type Fate uint8

// The fates.
const (
	Stored  Fate = iota + 1 // by this sending
	Present                 // it was there already
)

// An Item is one thing to put: exactly one of its fields.
type Item struct {
	Bundle *bundle.Bundle
	Purge  *bundle.PurgeRecord
	Chunk  *Chunk
	// Aged, unless nil, is asked for the age of bundle or purge record right
	// before each sending, in seconds.
	Aged func() uint32
}

// A Chunk is a group of leaves with its proof. Index is the group.
type Chunk struct {
	Blob   blob.Descriptor
	Index  int
	Proof  []byte
	Leaves [][]byte
}

// A Holding is what one node has put of a file.
type Holding struct {
	Node   string
	Own    bool // by these credentials
	Chunks []int
}

// A Parcel is what came out of a mailbox: a bundle or a purge record, already
// verified to be what it was filed as, with its age now.
type Parcel struct {
	ID     bundle.ID
	Bundle *bundle.Bundle
	Purge  *bundle.PurgeRecord
	msg    delivery
}

// Mailboxes is what a node reads at the core.
type Mailboxes struct {
	Tags   []identity.Tag // whose bundles are for it
	Purges []identity.Tag // of bundles it has put, whose purge records it waits for
	Again  bool           // on a new connection: deliver now what the last one had not acknowledged
}

// A Name names a parcel at the core.
type Name struct {
	Tag   identity.Tag
	ID    bundle.ID
	Purge bool
	raw   string
}

// delivery is a message that waits for its acknowledgement.
type delivery interface {
	Ack() error
	NakWithDelay(time.Duration) error
}
