package mesh

import (
	"context"
	"encoding/binary"
	"errors"
	"iter"

	"outrider/mesh/blob"
	"outrider/mesh/bundle"
	"outrider/mesh/identity"
)

// Errors a Store returns, to be wrapped as it likes.
var (
	ErrStoreFull = errors.New("mesh: store is full")    // no space, by quota or on disk
	ErrNotStored = errors.New("mesh: not in the store") // no such bundle, leaf or proof
	ErrVerify    = errors.New("mesh: does not verify")  // a leaf or proof does not fit its root
	ErrDamaged   = errors.New("mesh: damaged on disk")  // what is stored is not what was stored
)

// MaxCommitOps bounds the operations of one transaction; every Store takes as
// many deletions.
const MaxCommitOps = 512

// A Store keeps what the agent must not forget. Package store has the real
// one, meshtest one in memory that can crash.
type Store interface {
	// Epoch is chosen at random when the store is created. Peers that knew
	// another epoch forget what they believed this node to have.
	Epoch() [8]byte
	// CommitEach applies transactions in order, of each all operations or
	// none, and returns the outcome of each; a transaction that fails
	// leaves the others alone. Those it returns nil for are on disk. The
	// shell calls it from one goroutine at a time, so operations are
	// applied in the order they were decided. The store makes as few syncs
	// of it as it can.
	CommitEach(ctx context.Context, txns [][]Op) []error
	// Records yields every bundle that is held, without payloads, and
	// Tombstones every purge record, both in any order. They are read once,
	// at start. An error ends the sequence.
	Records() iter.Seq2[Record, error]
	Tombstones() iter.Seq2[Tombstone, error]
	// Load returns a bundle with its payload, verified: one whose payload the
	// disk has changed is ErrDamaged.
	Load(ctx context.Context, id bundle.ID) (Record, []byte, error)
	Tombstone(ctx context.Context, id bundle.ID) (Tombstone, error)
	// Value returns what a PutValue stored, nil if there is none.
	Value(key string) ([]byte, error)

	// OpenBlob starts or continues a blob and tells which leaves of it are
	// here. Any number of calls with the same descriptor is fine. Where leaves
	// verified with another length the error wraps ErrVerify.
	OpenBlob(ctx context.Context, d blob.Descriptor) (*blob.Bitmap, error)
	// WriteProof keeps a group's proof after verifying it (ErrVerify).
	WriteProof(ctx context.Context, root blob.Root, group int, proof []byte) error
	// WriteLeaf keeps a leaf after verifying it against its group's proof.
	WriteLeaf(ctx context.Context, root blob.Root, leaf int, data []byte) error
	// SyncBlobs puts everything written on disk; until then no leaf counts
	// as had.
	SyncBlobs(ctx context.Context, roots []blob.Root) error
	ReadLeaf(ctx context.Context, root blob.Root, leaf int) ([]byte, error)
	ReadProof(ctx context.Context, root blob.Root, group int) ([]byte, error)
	// DropBlob deletes the leaves and proofs of a blob.
	DropBlob(ctx context.Context, root blob.Root) error
}

// A Record is what is kept of a bundle besides its payload.
type Record struct {
	ID          bundle.ID
	Hop         bundle.Hop // as it arrived; the age then is in Meta.Deadline
	Header      bundle.Header
	PayloadHash [32]byte
	Size        int              // of the payload, in bytes
	Blob        *blob.Descriptor // of a blob bundle
	Meta        Meta
}

// Meta is what the agent knows of a bundle and must find again after a crash.
type Meta struct {
	Ingress  identity.NodeID // the neighbour that is charged for it, zero for our own
	Own      bool            // submitted here: never evicted
	Consumed bool            // handed over here, not to be again
	Urgent   bool            // a revocation or configuration
	Served   bundle.Precedence
	Budget   uint8    // replicas this copy may still make
	Replicas uint8    // neighbours that acknowledged custody, saturating
	Seq      uint64   // arrival order in this store epoch, from 1
	Stored   uint32   // node time of arrival, in seconds
	Deadline uint32   // node time at which the lifetime ends, in seconds
	Key      [16]byte // of a control object: what it is the newest of
	Number   uint64   // of a control object
}

// A Tombstone is a purge record with what must be known of it after a crash.
type Tombstone struct {
	ID       bundle.ID
	Record   bundle.PurgeRecord
	Ingress  identity.NodeID
	Seq      uint64
	Stored   uint32
	Deadline uint32
	Kept     bool // the bundle is kept although purged (archive, own)
}

// An Op is one operation of a commit.
type Op interface{ op() }

// The operations. Drivers of the machine fill in the payload that Token names
// and, when Check is on, refuse the commit with ErrVerify unless its SHA-256
// is the record's PayloadHash. A Store sees neither of the two.
type (
	PutBundle struct {
		Record  Record
		Payload []byte
		Token   Token
		Check   bool
	}
	SetMeta struct {
		ID   bundle.ID
		Meta Meta
	}
	DeleteBundle struct{ ID bundle.ID }
	PutTombstone struct{ Tombstone Tombstone }
	DropTomb     struct{ ID bundle.ID }
	PutValue     struct {
		Key   string
		Value []byte // nil deletes
	}
)

func (PutBundle) op()    {}
func (SetMeta) op()      {}
func (DeleteBundle) op() {}
func (PutTombstone) op() {}
func (DropTomb) op()     {}
func (PutValue) op()     {}

// extraVersion begins the form of Meta.Extra.
const extraVersion = 1

// ErrExtra is returned by SetExtra for bytes Extra did not make.
var ErrExtra = errors.New("mesh: stored meta is of an unknown form")

// Extra encodes what stores have no field of their own for: Stored, Number,
// Urgent and Served, in 15 bytes.
func (m Meta) Extra() []byte {
	b := []byte{extraVersion, bitIf(m.Urgent, 1), byte(m.Served)}
	b = binary.BigEndian.AppendUint32(b, m.Stored)
	return binary.BigEndian.AppendUint64(b, m.Number)
}

// SetExtra reads what Extra wrote.
func (m *Meta) SetExtra(b []byte) error {
	if len(b) != 15 || b[0] != extraVersion || b[1] > 1 || b[2] > byte(bundle.Flash) {
		return ErrExtra
	}
	m.Urgent, m.Served = b[1] == 1, bundle.Precedence(b[2])
	m.Stored, m.Number = binary.BigEndian.Uint32(b[3:]), binary.BigEndian.Uint64(b[7:])
	return nil
}
