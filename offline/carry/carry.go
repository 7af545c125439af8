// Package carry keeps bundles on removable media.
//
// A medium is a node that sleeps: it holds bundles, purge records and leaves
// of files as a relay does, can open none of them, and takes part in the mesh
// while it is plugged in (node: carry.go). This package is its store: files
// that survive being pulled out at any moment, on file systems as poor as FAT,
// in a form that CARRY.md describes to whoever wants to read a stick without
// Outrider.
//
// A folder serves one network. Nothing in it is secret: bundles are sealed,
// and who carries a stick learns of them what a relay learns.
package carry

import (
	"errors"

	"outrider/mesh/blob"
	"outrider/mesh/bundle"
)

// Errors that callers distinguish.
var (
	// ErrForeign: the folder belongs to another network.
	ErrForeign = errors.New("carry: the folder holds bundles of another network")
	// ErrNotMedium: there are files, but not those of a medium.
	ErrNotMedium = errors.New("carry: not a carry folder, or its label is damaged")
	// ErrBusy: another process uses the folder.
	ErrBusy = errors.New("carry: another program uses the folder")
	// ErrFull: no space is left. Nothing of the call was kept.
	ErrFull = errors.New("carry: the medium is full")
	// ErrBroken: a write failed; nothing more is promised until it is opened anew.
	ErrBroken = errors.New("carry: the medium failed; take it out, put it in again and repeat")
	// ErrNotFound: no such bundle, purge record, leaf or proof here.
	ErrNotFound = errors.New("carry: not on the medium")
	// ErrVerify: a leaf or proof does not fit its root.
	ErrVerify = errors.New("carry: does not verify")
)

// Limits of the form, in bytes where nothing else is said. They bound what a
// medium of unknown origin can cost.
const (
	MaxFrame   = 4 << 20  // of one transaction
	MaxEntries = 400_000  // bundles and purge records; more is ErrFull
	logRoll    = 1 << 30  // a log longer than this is continued in the next
	partSize   = 1 << 30  // of a blob's leaves in one file
	tidyFrom   = 1 << 20  // dead bytes below this are left alone
	MaxKey     = 256      // of a value's name
	MaxValue   = 4 << 10  // of a value
	MaxValues  = 4096     // their number
	MaxMeta    = 256      // of what the agent notes with a bundle
	MaxLeaves  = 64 << 20 // of all blobs together: 1 TiB
)

// A Kind says what an Op does. The numbers are on the medium.
type Kind uint8

// The kinds. Those a caller may use are exported; the others belong to blobs
// and to tidying up.
const (
	KindBundle    Kind = 1 // Key = id, Data = the bundle as bundle.Append writes it, Meta
	KindMeta      Kind = 2 // Key = id, Meta
	KindDrop      Kind = 3 // Key = id
	KindPurge     Kind = 4 // Key = id, Data = bundle.PurgeRecord, Meta
	KindDropPurge Kind = 5 // Key = id
	KindValue     Kind = 6 // Key = name, Data; empty Data deletes

	kindBlob     Kind = 7  // Key = root, Data = descriptor
	kindProof    Kind = 8  // Key = root, Data = proof, First = group
	kindLeaves   Kind = 9  // Key = root, First, Count: leaves that are durable
	kindDropBlob Kind = 10 // Key = root
	kindBase     Kind = 11 // opens a log that replaces all before it
	kindBaseEnd  Kind = 12 // the replacement is whole
)

// An Op is one change. Several in one transaction happen together or not at
// all.
type Op struct {
	_     struct{} `cbor:",toarray"`
	Kind  Kind
	Key   []byte
	Data  []byte
	Meta  []byte
	First uint32
	Count uint32
}

// A Record is what is held of a bundle besides its payload. Meta is the
// agent's, in its own form.
type Record struct {
	ID          bundle.ID
	Hop         bundle.Hop
	Header      bundle.Header
	PayloadHash [32]byte
	Size        int
	Blob        *blob.Descriptor // of a blob bundle
	Meta        []byte

	at place
}

// A Purge is a purge record that is held. Meta is the agent's.
type Purge struct {
	ID     bundle.ID
	Record bundle.PurgeRecord
	Meta   []byte
	raw    []byte
}

// Damage counts what a medium lost since it was opened last, and before that
// if there was no room to tidy it away.
type Damage struct {
	Frames int   // transactions that do not check
	Bytes  int64 // of the log that could not be read at all
}
