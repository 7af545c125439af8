package node

import (
	"cmp"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"outrider/mesh/identity"
	"outrider/node/api"
	"outrider/store"
)

// bucketContacts holds who was near in the last day. The key is the start, in
// ms, and the peer. It tells whoever takes the disk what the peer book tells
// too, and when; it is gone after a day.
const bucketContacts = "contacts"

const (
	maxContacts    = 1000             // kept; beyond, the oldest go first
	contactPause   = time.Minute      // a shorter interruption is the same contact
	contactSave    = 2 * time.Second  // changes are gathered so long before they are written
	contactRefresh = time.Minute      // open contacts are written anew, so that a crash costs no more of them
	contactsKept   = api.ContactsKept // after their end
)

// contacts remembers the links of this run, what they carried, and, over
// restarts, who was near in the last day.
type contacts struct {
	store *store.Store // nil: in memory only
	now   func() time.Time
	log   *slog.Logger
	kick  chan struct{} // something is to be written

	mu    sync.Mutex
	byID  map[identity.NodeID]*contact
	past  []*nearness // by start
	gone  []string    // keys to be deleted
	dirty bool
}

// contact is the link with one peer.
type contact struct {
	link  api.Link
	count func() (tx, rx uint64) // of the open link, nil when there is none
	tx    uint64                 // of those that ended
	rx    uint64
	near  *nearness // the contact it is part of
}

// nearness is one contact in the history.
type nearness struct {
	peer  identity.NodeID
	start time.Time
	rec   nearnessRecord
	count func() (tx, rx uint64)
	dirty bool
}

// nearnessRecord is what is written of a contact. Times are ms since 1970.
type nearnessRecord struct {
	Class string `cbor:"1,keyasint,omitempty"`
	End   int64  `cbor:"2,keyasint,omitempty"` // 0 while it lasts
	Seen  int64  `cbor:"3,keyasint"`           // when it was written
	Tx    uint64 `cbor:"4,keyasint,omitempty"`
	Rx    uint64 `cbor:"5,keyasint,omitempty"`
	Times int    `cbor:"6,keyasint"`
}

func newContacts(s *store.Store, now func() time.Time, log *slog.Logger) *contacts {
	return &contacts{store: s, now: now, log: log, kick: make(chan struct{}, 1), byID: map[identity.NodeID]*contact{}}
}

func nearnessKey(peer identity.NodeID, start time.Time) string {
	return string(binary.BigEndian.AppendUint64(nil, uint64(start.UnixMilli()))) + string(peer[:])
}

// parseNearness reads one pair of the bucket.
func parseNearness(key string, value []byte) (*nearness, error) {
	var peer identity.NodeID
	if len(key) != 8+len(peer) {
		return nil, errors.New("node: contact: the key has the wrong length")
	}
	copy(peer[:], key[8:])
	n := &nearness{peer: peer, start: time.UnixMilli(int64(binary.BigEndian.Uint64([]byte(key))))}
	if err := identity.UnmarshalOpen(value, &n.rec); err != nil {
		return nil, fmt.Errorf("node: contact: %w", err)
	}
	return n, nil
}

// load reads the history of earlier runs. A contact that lasted when the node
// died ended when it was written last.
func (c *contacts) load() error {
	if c.store == nil {
		return nil
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for kv, err := range c.store.List(bucketContacts, "") {
		if err != nil {
			return fmt.Errorf("node: contacts: %w", err)
		}
		n, err := parseNearness(kv.Key, kv.Value)
		if err != nil { // of another version, or damaged: no reason not to start
			c.gone = append(c.gone, kv.Key)
			c.log.Warn("a contact of earlier is not readable", "err", err)
			continue
		}
		if n.rec.End == 0 {
			n.rec.End, n.dirty = n.rec.Seen, true
		}
		c.past = append(c.past, n)
	}
	c.prune()
	c.dirty = true
	return nil
}

func (c *contacts) of(peer identity.NodeID) *contact {
	if c.byID[peer] == nil {
		c.byID[peer] = &contact{link: api.Link{Peer: peer}}
	}
	return c.byID[peer]
}

// opened notes a link, with the way to ask what it has carried.
func (c *contacts) opened(peer identity.NodeID, addr, class string, count func() (tx, rx uint64)) {
	c.mu.Lock()
	defer c.mu.Unlock()
	k := c.of(peer)
	k.link.Addr, k.link.Class, k.link.Up, k.link.Since = addr, class, true, time.Now()
	k.count = count
	k.near = c.begin(peer, class)
	k.near.count = count
	c.changed(k.near)
}

// begin finds the contact that a link takes up again, or starts one.
func (c *contacts) begin(peer identity.NodeID, class string) *nearness {
	now := c.now()
	for _, n := range slices.Backward(c.past) {
		if n.peer != peer {
			continue
		}
		if n.rec.End > 0 && now.Sub(time.UnixMilli(n.rec.End)) >= contactPause {
			break
		}
		n.settle()
		n.rec.Class, n.rec.End, n.rec.Times = class, 0, n.rec.Times+1
		return n
	}
	n := &nearness{peer: peer, start: time.UnixMilli(now.UnixMilli()), rec: nearnessRecord{Class: class, Times: 1}}
	c.past = append(c.past, n)
	return n
}

// closed adds up what the link carried.
func (c *contacts) closed(peer identity.NodeID) {
	c.mu.Lock()
	defer c.mu.Unlock()
	k := c.of(peer)
	if k.count != nil {
		tx, rx := k.count()
		k.tx, k.rx, k.count = k.tx+tx, k.rx+rx, nil
	}
	k.link.Up, k.link.Since, k.link.LastHeard = false, time.Now(), time.Now()
	if k.near != nil {
		k.near.settle()
		k.near.rec.End = c.now().UnixMilli()
		c.changed(k.near)
		k.near = nil
	}
}

// settle takes what an ended link carried into the record.
func (n *nearness) settle() {
	if n.count != nil {
		n.rec.Tx, n.rec.Rx = n.carried()
		n.count = nil
	}
}

func (n *nearness) carried() (tx, rx uint64) {
	if n.count == nil {
		return n.rec.Tx, n.rec.Rx
	}
	tx, rx = n.count()
	return n.rec.Tx + tx, n.rec.Rx + rx
}

// changed asks for a contact to be written. The caller holds mu.
func (c *contacts) changed(n *nearness) {
	n.dirty, c.dirty = true, true
	select {
	case c.kick <- struct{}{}:
	default:
	}
}

// prune forgets what is too old or too much. The caller holds mu.
func (c *contacts) prune() {
	oldest, extra := c.now().Add(-contactsKept).UnixMilli(), len(c.past)-maxContacts
	c.past = slices.DeleteFunc(c.past, func(n *nearness) bool {
		if n.rec.End == 0 || n.rec.End >= oldest && extra <= 0 {
			return false
		}
		extra--
		c.gone = append(c.gone, nearnessKey(n.peer, n.start))
		c.dirty = true
		return true
	})
}

// run writes the history until ctx ends, and then once more.
func (c *contacts) run(ctx context.Context) error {
	refresh := time.NewTicker(contactRefresh)
	defer refresh.Stop()
	wait := time.NewTimer(contactSave)
	defer wait.Stop()
	for {
		select {
		case <-c.kick:
			wait.Reset(contactSave)
			continue
		case <-wait.C:
		case <-refresh.C:
			c.touch()
		case <-ctx.Done():
			c.touch()
			c.save(context.WithoutCancel(ctx))
			return nil
		}
		c.save(ctx)
	}
}

// touch marks open contacts to be written with what they carried so far.
func (c *contacts) touch() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, n := range c.past {
		if n.rec.End == 0 {
			n.dirty, c.dirty = true, true
		}
	}
	c.prune()
}

// save writes what has changed. A history that cannot be written is no reason
// to stop: it is tried again with the next change.
func (c *contacts) save(ctx context.Context) {
	ops, written, err := c.pending()
	if err == nil && len(ops) > 0 && c.store != nil {
		err = c.store.Commit(ctx, ops...)
	}
	if err == nil {
		return
	}
	c.log.Warn("contacts not written", "err", err)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.dirty = true
	for _, n := range written {
		n.dirty = true
	}
}

// pending gathers what is to be written.
func (c *contacts) pending() (ops []store.Op, written []*nearness, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.dirty {
		return nil, nil, nil
	}
	c.prune()
	for _, key := range c.gone {
		ops = append(ops, store.DeleteKV{Bucket: bucketContacts, Key: key})
	}
	for _, n := range c.past {
		if !n.dirty {
			continue
		}
		rec := n.rec
		rec.Seen = c.now().UnixMilli()
		rec.Tx, rec.Rx = n.carried()
		b, err := identity.Marshal(rec)
		if err != nil {
			return nil, nil, fmt.Errorf("node: contact: %w", err)
		}
		n.dirty = false
		written = append(written, n)
		ops = append(ops, store.PutKV{Bucket: bucketContacts, Key: nearnessKey(n.peer, n.start), Value: b})
	}
	c.gone, c.dirty = nil, false
	return ops, written, nil
}

// history lists the contacts of the last day, the newest first.
func (c *contacts) history() []api.Contact {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.prune()
	out := make([]api.Contact, 0, len(c.past))
	for _, n := range c.past {
		k := api.Contact{Peer: n.peer, Class: n.rec.Class, Start: n.start, Times: n.rec.Times}
		k.TxBytes, k.RxBytes = n.carried()
		if n.rec.End > 0 {
			k.End = time.UnixMilli(n.rec.End)
		}
		out = append(out, k)
	}
	slices.SortStableFunc(out, func(a, b api.Contact) int { return cmp.Or(b.Start.Compare(a.Start), a.Peer.Compare(b.Peer)) })
	return out
}

// list is the links of this run.
func (c *contacts) list() []api.Link {
	c.mu.Lock()
	defer c.mu.Unlock()
	out := make([]api.Link, 0, len(c.byID))
	for _, k := range c.byID {
		l := k.link
		l.TxBytes, l.RxBytes = k.tx, k.rx
		if k.count != nil {
			tx, rx := k.count()
			l.TxBytes, l.RxBytes, l.LastHeard = l.TxBytes+tx, l.RxBytes+rx, time.Now()
		}
		out = append(out, l)
	}
	slices.SortFunc(out, func(a, b api.Link) int { return a.Peer.Compare(b.Peer) })
	return out
}
