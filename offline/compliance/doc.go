// Package compliance writes and reads the archive of a network's messages.
//
// An archive is a folder. Its journal is one JSON object per line (UTF-8, \n):
//
//	receivedMessages.log                    what is being written
//	receivedMessages_20260102T100301.log    full files, by the UTC second they were closed
//	attachments/attachment_20260102100712044_route.kmz
//
// The records are those of features.md 2, with the keys in alphabetical order
// and missing where they do not apply. All message types are read; node writes
// those that Outrider's users have: text, file, position, recall and call. What
// Outrider adds stands below the one key x_outrider.
//
// msg_ts is the author's word where that is within an hour of when the message
// came to a node whose clock is trusted, less the age it was carried with; it
// is never after it came. Then clock says what that clock is trusted for: ntp
// if the kernel says that something sets it (NTP, or a daemon that listens to
// GPS: gnss is never written), peer if a time that an admin signed agrees with
// it. Without a trusted clock, or with an author further off, msg_ts is when
// the message came less its age, and clock is unsynced. sent is the author's
// word where msg_ts is not.
//
// A call has two records, its start and its end: its caller tells both in one
// message when it is over. The start lies before the end by what the caller's
// clock counted. It has the hashes of its sender's and its receiver's name, in
// this order, from which an export makes the map beside it. DESIGN.md says what
// is not written of a call.
//
// Below x_outrider every record carries its number and the SHA-256 of the line
// before it, across files: a change, a gap and a removal can be seen (Verify). A
// record is never split, and is on disk (fsync) when Append returns.
//
// A power cut can tear the last line. It was never acknowledged, so Open
// removes it, and whoever reads the queue writes it again. Records that the
// archive has are known by their message id, so that nothing stands in it
// twice.
//
// The package knows nothing of chat or the mesh: node translates.
package compliance

import "errors"

// What the format and this program fix.
const (
	DefaultPrefix   = "receivedMessages"
	DefaultMaxBytes = 1_073_741_824 // bytes of a journal file before the next is begun; features.md K02
	MinMaxBytes     = 4096
	MaxRecord       = 1 << 20  // bytes of a line; readers refuse longer ones
	MaxName         = 255      // bytes of a file's name
	recallBytes     = 32 << 20 // of the newest records: what Open looks through for records written before a crash
	attachments     = "attachments"
)

// Errors that callers tell apart.
var (
	// ErrMalformed: the line is no record of the format.
	ErrMalformed = errors.New("malformed record")
	// ErrNoFolder: the folder is not there. It is not made unasked: its disk
	// may only be unmounted.
	ErrNoFolder = errors.New("the archive folder is not there")
	// ErrOtherMount: the attachments would lie on another file system than
	// the journal, and nobody said so.
	ErrOtherMount = errors.New("the attachments lie on another file system")
	// ErrBusy: another program writes this archive.
	ErrBusy = errors.New("another program writes this archive")
	// ErrDamaged: the end of the journal is not what was written.
	ErrDamaged = errors.New("the journal is damaged")
	// ErrFull: the disk has no room.
	ErrFull = errors.New("the disk of the archive is full")
)
