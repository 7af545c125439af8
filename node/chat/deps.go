package chat

import (
	"context"
	"iter"
	"time"

	"outrider/mesh/blob"
	"outrider/mesh/bundle"
	"outrider/mesh/envelope"
	"outrider/mesh/identity"
)

// An Agent is what chat needs of the bundle agent.
type Agent interface {
	// Submit takes custody of a bundle: it is durable when Submit returns
	// nil. A bundle that is already held, or was purged, is no error. The
	// error wraps ErrFull when there is no room. If its tag is watched, it is
	// delivered here too.
	Submit(ctx context.Context, b bundle.Bundle) error
	// Purge removes a bundle here and tells everybody else. Durable when nil.
	Purge(ctx context.Context, r bundle.PurgeRecord) error
	// Watch changes which tags are delivered here. Bundles held under an added
	// tag that were not consumed are delivered (again) as Arrived events.
	Watch(add, remove []identity.Tag)
	// Consumed marks bundles as opened; they are not delivered again. Durable
	// when nil.
	Consumed(ctx context.Context, ids []bundle.ID) error
	// Load returns a held bundle; the error wraps ErrNotFound when it is gone.
	Load(ctx context.Context, id bundle.ID) (bundle.Bundle, error)
	// Explain tells what the agent knows about a bundle.
	Explain(ctx context.Context, id bundle.ID) Explanation
	// Contacts tells who is in contact now.
	Contacts() Contacts
}

// An Explanation is what the agent knows about one bundle.
type Explanation struct {
	Held     bool              // a copy is here
	Purged   bool              // its purge record is here
	Age      time.Duration     // by the clocks that ran
	Carriers []identity.NodeID // neighbours that took a copy, oldest first, at most 16
	AtReader bool              // one of them serves the bundle's tag
	Note     Sentence          // what it waits for, may be zero
}

// Contacts is who is in contact now.
type Contacts struct {
	Neighbours int
	Core       bool
	CoreLast   time.Time // zero = never
}

// An Event is something the agent tells: one of the types below.
type Event interface{ event() }

// Arrived: a bundle with a watched tag is durable here.
type Arrived struct {
	ID   bundle.ID
	Tag  identity.Tag
	Kind bundle.Kind
}

// Carried: a neighbour has taken a durable copy. AtReader is set when that
// neighbour serves the bundle's tag, AtCore when it is the core.
type Carried struct {
	ID       bundle.ID
	Peer     identity.NodeID
	AtReader bool
	AtCore   bool
}

// Purged: a purge record for a bundle is durable here.
type Purged struct {
	ID  bundle.ID
	Key bundle.PurgeKey
}

// Expired: the agent dropped a bundle for its age.
type Expired struct{ ID bundle.ID }

// BlobProgress: leaves of a blob have arrived. Have and Total count leaves.
type BlobProgress struct {
	Root        blob.Root
	Have, Total int
}

// BlobComplete: all leaves of a blob are here, each verified.
type BlobComplete struct{ Root blob.Root }

// ContactsChanged: a link came up or went down.
type ContactsChanged struct{}

func (Arrived) event()         {}
func (Carried) event()         {}
func (Purged) event()          {}
func (Expired) event()         {}
func (BlobProgress) event()    {}
func (BlobComplete) event()    {}
func (ContactsChanged) event() {}

// A Store keeps opaque rows and values. Everything chat puts there is
// ciphertext or a random or keyed name.
type Store interface {
	// Commit makes all ops durable, or none of them. The error wraps ErrFull
	// when there is no room.
	Commit(ctx context.Context, ops ...Op) error
	// Row returns a row by its message; the error wraps ErrNotFound when there
	// is none.
	Row(user identity.UserID, msg MessageID) (Row, error)
	// Rows returns the newest n rows of a conversation with Order below
	// before, newest first.
	Rows(user identity.UserID, conv ConversationID, before uint64, n int) ([]Row, error)
	// Get returns a value; the error wraps ErrNotFound when there is none.
	Get(bucket, key string) ([]byte, error)
	// List yields all pairs of a bucket whose key begins with prefix, in
	// order of keys. An error ends the sequence.
	List(bucket, prefix string) iter.Seq2[Pair, error]
}

// A Row is one message in the store, as ciphertext.
type Row struct {
	User  identity.UserID
	Conv  ConversationID
	Msg   MessageID
	Order uint64 // place in the conversation
	Data  []byte
}

// A Pair is a key with its value.
type Pair struct {
	Key   string
	Value []byte
}

// An Op is one change in the store: PutRow, DeleteRow, PutKV or DeleteKV.
type Op interface{ op() }

// PutRow writes or replaces a row.
type PutRow struct{ Row Row }

// DeleteRow removes a row; removing one that is not there is no error.
type DeleteRow struct {
	User identity.UserID
	Msg  MessageID
}

// PutKV writes a value.
type PutKV struct {
	Bucket, Key string
	Value       []byte
}

// DeleteKV removes a value; removing one that is not there is no error.
type DeleteKV struct{ Bucket, Key string }

func (PutRow) op()    {}
func (DeleteRow) op() {}
func (PutKV) op()     {}
func (DeleteKV) op()  {}

// A Vault keeps small secrets so that shredding one is real: crypto.md 6.3.
// Get of an id that is not held wraps envelope.ErrNoSecret.
type Vault interface {
	envelope.Vault
	Close() error
}

// Accounts keeps what a hosted user needs to unlock.
type Accounts interface {
	// Users returns the users hosted here.
	Users() ([]identity.UserID, error)
	// Keystore returns a user's password-sealed keystore.
	Keystore(user identity.UserID) ([]byte, error)
	// SaveKeystore replaces it, durably and all or nothing.
	SaveKeystore(user identity.UserID, sealed []byte) error
	// OpenVault opens the user's vault, making an empty one at first.
	OpenVault(user identity.UserID, kek [32]byte) (Vault, error)
}

// Blobs keeps the leaves of files. A blob for which there is a pin (BucketPin)
// must be kept whatever the mesh does; chat drops it when the last message
// that needs it is gone.
type Blobs interface {
	// NewWriter begins a blob of our own. The error wraps ErrFull when there
	// is no room.
	NewWriter(ctx context.Context) (BlobWriter, error)
	// ReadLeaf returns one leaf of ciphertext.
	ReadLeaf(ctx context.Context, root blob.Root, leaf int) ([]byte, error)
	// Progress tells how many leaves are here and durable; ErrNotFound when
	// nothing is known of the blob.
	Progress(root blob.Root) (have, total int, err error)
	// Drop deletes a blob; one that is not there is no error.
	Drop(ctx context.Context, root blob.Root) error
}

// A BlobWriter takes the leaves of a new blob in order. It is ended by Finish,
// which makes the blob durable, or by Abort.
type BlobWriter interface {
	WriteLeaf(leaf []byte) error
	Finish(ctx context.Context) (blob.Descriptor, error)
	Abort() error
}

// A Roster is what chat needs to know of people.
type Roster interface {
	// Users returns everybody with a valid certificate.
	Users() []User
	User(id identity.UserID) (User, bool)
	// Invited returns who can still enter with a join link, without a key.
	Invited() []User
	// Heard returns the name of somebody without a valid certificate, which may
	// be empty, and whether anything here names them at all.
	Heard(id identity.UserID) (name string, known bool)
	// Revoked tells whether a user's certificates were taken back.
	Revoked(id identity.UserID) bool
	// Devices returns the valid devices of a user.
	Devices(id identity.UserID) []Device
	// Device finds a valid device.
	Device(id identity.DeviceID) (Device, bool)
	// NodeName returns a short name of a node for people.
	NodeName(id identity.NodeID) string
	// Changed returns a channel that is closed at the next change.
	Changed() <-chan struct{}
	// PublishPrekeys seals prekey bundles of a device as control objects and gives
	// them to the agent. Durable when nil.
	PublishPrekeys(ctx context.Context, device identity.DeviceID, bundles [][]byte) error
}

// A User is a person in the roster.
type User struct {
	ID     identity.UserID
	Name   string // from the profile, empty before it arrived
	Key    identity.PublicKey
	Frozen bool // may receive; what it sends must not be accepted
}

// A Device is one user's device.
type Device struct {
	ID      identity.DeviceID
	User    identity.UserID
	Key     identity.PublicKey
	Prekeys []identity.PrekeyBundle // that are known, in any order, last resort included
}

// A ClockSource says what vouches for a clock. Its values are kept in rows.
type ClockSource uint8

// The sources.
const (
	ClockUnsynced ClockSource = 0 // nothing does
	ClockPeer     ClockSource = 1 // a time that an admin signed, and a peer brought, agrees with it
	ClockTime     ClockSource = 2 // NTP, or a daemon that listens to GPS, disciplines it
)

// A Clock is the node's idea of time.
type Clock interface {
	// Now is the best estimate of UTC; it never goes back.
	Now() time.Time
	// Trusted tells whether Now came from somewhere better than a battery.
	Trusted() bool
	// Source tells from where; ClockUnsynced if it is not trusted.
	Source() ClockSource
	// Elapsed is the time this node has lived through since its store was
	// made. It goes on across restarts and never jumps: decisions.md 4.
	Elapsed() time.Duration
}
