// Package vfs is the few things the store asks of a file system, so that
// tests can put one underneath that loses power (storetest.Disk).
//
// The promises are those of POSIX and no more: what was written is durable
// after File.Sync; a name that was made, renamed or removed is durable after
// SyncDir of its folder; without them anything may have happened, in any
// order and in part.
package vfs

import (
	"errors"
	"io"
)

// ErrInUse is returned by Lock when another holder has the lock.
var ErrInUse = errors.New("vfs: in use by another process")

// A File is an open file. ReadAt and WriteAt may be called concurrently.
type File interface {
	io.ReaderAt
	io.WriterAt
	io.Closer
	Size() (int64, error)
	Truncate(size int64) error
	// Sync makes everything written so far durable, and the size.
	Sync() error
}

// An Entry is a name in a folder.
type Entry struct {
	Name string
	Dir  bool
}

// A FS is a file system. Errors wrap fs.ErrNotExist, fs.ErrExist and
// syscall.ENOSPC where these are the cause.
type FS interface {
	// Open opens an existing file for reading and writing.
	Open(name string) (File, error)
	// Create makes a file, which must not exist.
	Create(name string) (File, error)
	Rename(from, to string) error
	Remove(name string) error
	// MkdirAll makes a folder and its parents and makes them durable.
	MkdirAll(dir string) error
	// ReadDir lists a folder, sorted by name.
	ReadDir(dir string) ([]Entry, error)
	SyncDir(dir string) error
	// Free returns the bytes that may still be written below dir.
	Free(dir string) (uint64, error)
	// Lock takes an exclusive lock on a file, making it if need be, until
	// the closer is closed or the process ends.
	Lock(name string) (io.Closer, error)
}
