package node

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"sync"
	"time"

	"outrider/mesh/identity"
	"outrider/offline/coresync"
)

// caught are the mailboxes that need no list: this node has all that lay in
// them, and the core has delivered from them without a gap since. One that is
// not read any more leaves the set before the core is told, and on disk: what
// comes into it meanwhile is not delivered, and the next reading begins with a
// list. So do all if the core has begun to deliver anew.
type caught struct {
	path string
	head []byte // what the file begins with

	mu      sync.Mutex
	since   time.Time // when the core began to deliver
	set     map[mailbox]bool
	dropped int // times that something left
}

// A mailbox is what is filed under a tag, or only the purge records of it.
type mailbox struct {
	purges bool
	tag    identity.Tag
}

const (
	caughtRow  = 1 + len(identity.Tag{})
	caughtTime = 8
)

// openCaught reads the set of one core. What cannot be read is listed again.
func openCaught(path string, core [16]byte) (*caught, error) {
	c := &caught{path: path, head: append([]byte("outrider core mailboxes 1\n"), core[:]...), set: map[mailbox]bool{}}
	raw, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return c, nil
	}
	if err != nil {
		return nil, fmt.Errorf("node: core: %w", err)
	}
	body, ok := bytes.CutPrefix(raw, c.head)
	end := len(body) - sha256.Size
	if !ok || end < caughtTime || (end-caughtTime)%caughtRow != 0 || sha256.Sum256(body[:end]) != [sha256.Size]byte(body[end:]) {
		return c, nil
	}
	c.since = time.Unix(0, int64(binary.BigEndian.Uint64(body)))
	for row := range slices.Chunk(body[caughtTime:end], caughtRow) {
		c.set[mailbox{row[0] == 'p', identity.Tag(row[1:])}] = true
	}
	return c, nil
}

// write replaces the file. One that cannot be written must not stay either.
func (c *caught) write() error {
	out := binary.BigEndian.AppendUint64(bytes.Clone(c.head), uint64(c.since.UnixNano()))
	for b := range c.set {
		kind := byte('b')
		if b.purges {
			kind = 'p'
		}
		out = append(append(out, kind), b.tag[:]...)
	}
	sum := sha256.Sum256(out[len(c.head):])
	err := replaceFile(c.path, append(out, sum[:]...))
	if err == nil {
		return nil
	}
	if gone := os.Remove(c.path); gone != nil && !errors.Is(gone, fs.ErrNotExist) {
		return err
	}
	return nil // without a file everything is listed at the next start
}

func mailboxesOf(m coresync.Mailboxes) map[mailbox]bool {
	set := make(map[mailbox]bool, len(m.Tags)+len(m.Purges))
	for _, t := range m.Tags {
		set[mailbox{false, t}] = true
	}
	for _, t := range m.Purges {
		set[mailbox{true, t}] = true
	}
	return set
}

// keep drops all mailboxes but these. The core may be told of these only once
// it has returned nil.
func (c *caught) keep(m coresync.Mailboxes) error {
	read := mailboxesOf(m)
	c.mu.Lock()
	defer c.mu.Unlock()
	left := false
	for b := range c.set {
		if !read[b] {
			delete(c.set, b)
			left = true
		}
	}
	if !left {
		return nil
	}
	c.dropped++
	return c.write()
}

// delivered tells since when the core delivers. If that has changed, all
// mailboxes need a list.
func (c *caught) delivered(since time.Time) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.since.Equal(since) {
		return nil
	}
	c.since = since
	clear(c.set)
	c.dropped++
	return c.write()
}

// behind are those of the mailboxes that need a list; asOf is for add.
func (c *caught) behind(m coresync.Mailboxes) (out coresync.Mailboxes, asOf int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, t := range m.Tags {
		if !c.set[mailbox{false, t}] {
			out.Tags = append(out.Tags, t)
		}
	}
	for _, t := range m.Purges {
		if !c.set[mailbox{true, t}] {
			out.Purges = append(out.Purges, t)
		}
	}
	return out, c.dropped
}

// add notes mailboxes of which everything is here, unless some have left since
// asOf: then these may be among them.
func (c *caught) add(m coresync.Mailboxes, asOf int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.dropped != asOf {
		return
	}
	before := len(c.set)
	for b := range mailboxesOf(m) {
		c.set[b] = true
	}
	if len(c.set) != before {
		_ = c.write() // without it there is one list more
	}
}

// purges are the mailboxes of purge records among them.
func (c *caught) purges() (tags []identity.Tag) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for b := range c.set {
		if b.purges {
			tags = append(tags, b.tag)
		}
	}
	return tags
}
