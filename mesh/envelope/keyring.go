package envelope

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"outrider/mesh/identity"
)

// Self is the device a keyring belongs to.
type Self struct {
	Network  identity.NetworkID
	TagKeys  [][32]byte // of the network's secrets, newest first; at least one
	User     identity.UserID
	Device   identity.DeviceID
	Key      identity.PrivateKey
	NotAfter time.Time     // end of the device certificate, and of the last-resort prekey
	MaxDelay time.Duration // the network's maximum delay D; 0 means DefaultMaxDelay
	Padding  Padding
	Lookup   Lookup
	// Permit says whether an epoch that somebody else started may be used: its
	// roster against what the network's policy demands (compliance readers).
	// The error is OpenEpoch's, and nothing has changed then. It is called with
	// the keyring locked and must not call back. nil permits everything.
	Permit func(members []Member, sent uint64) error
}

// A Device is what the network's certificates say of a device.
type Device struct {
	User identity.UserID
	Key  identity.PublicKey
}

// A Lookup finds devices by the certificates known so far. It is called with
// the keyring locked and must not call back.
type Lookup interface {
	// Device returns false for a device whose certificate is not known, or
	// not good for sending.
	Device(identity.DeviceID) (Device, bool)
}

// LookupFunc makes a function a Lookup.
type LookupFunc func(identity.DeviceID) (Device, bool)

// Device calls f.
func (f LookupFunc) Device(d identity.DeviceID) (Device, bool) { return f(d) }

// A Keyring holds one device's prekeys, epochs and chains. It is safe for
// concurrent use.
//
// What is opened is not used up until it is accepted: the caller makes an
// opened message durable, calls Accept, then Commit, and only then tells the
// agent that the bundle is consumed. A crash anywhere between opens the
// message again, and after Accept and Commit never.
type Keyring struct {
	box  strongbox
	rec  Records
	self Self
	now  func() time.Time

	mu            sync.Mutex
	age           age
	epochs        map[EpochID]*epoch
	tags          map[identity.Tag]*epoch
	conversations map[ConversationID][]*epoch // oldest first
	prekeys       prekeys
	replies       map[identity.DeviceID]replyKey // reply keys that others gave this device
	inbox         map[identity.Tag]uint32        // inbox tags to prekey numbers
	stale         map[*chains]bool               // whose records list closed gaps
	recent        recent
	unaccepted    int
	gapsAtMost    int  // never less than the gaps of all chains
	rolledBack    bool // see RolledBack
}

// NewKeyring loads the keyring of a device, which may be empty. The clock is
// the node's hlc.
func NewKeyring(v Vault, r Records, self Self, clock func() time.Time) (*Keyring, error) {
	switch {
	case self.Key.IsZero() || self.Key.Public().DeviceID() != self.Device:
		return nil, errors.New("envelope: keyring: the device key is not that of the device")
	case len(self.TagKeys) == 0:
		return nil, errors.New("envelope: keyring: no tag key")
	case self.Lookup == nil:
		return nil, errors.New("envelope: keyring: no lookup")
	}
	if self.MaxDelay <= 0 {
		self.MaxDelay = DefaultMaxDelay
	}
	k := &Keyring{
		box: newStrongbox(v, self.Key), rec: r, self: self, now: clock,
		epochs: map[EpochID]*epoch{}, tags: map[identity.Tag]*epoch{},
		conversations: map[ConversationID][]*epoch{}, stale: map[*chains]bool{},
		replies: map[identity.DeviceID]replyKey{},
	}
	if err := errors.Join(k.loadAge(), k.loadPrekeys(), k.loadEpochs(), k.loadGaps(), k.loadWitness()); err != nil {
		return nil, err
	}
	if f, ok := v.(fallible); ok && f.FellBack() {
		if err := k.recover(); err != nil {
			return nil, err
		}
	}
	return k, nil
}

// SetTagKeys replaces the network's tag keys, newest first.
func (k *Keyring) SetTagKeys(keys [][32]byte) {
	k.lock()
	defer k.mu.Unlock()
	if len(keys) > 0 {
		k.self.TagKeys = slices.Clone(keys)
		k.indexInbox()
	}
}

// Tags returns all tags to watch for this device, in ascending order: inbox
// tags of the newest prekeys, the last resort and reply keys, for each tag
// key; and those of all days of all epochs.
func (k *Keyring) Tags() []identity.Tag {
	k.lock()
	defer k.mu.Unlock()
	tags := make([]identity.Tag, 0, len(k.inbox)+len(k.tags))
	for t := range k.inbox {
		tags = append(tags, t)
	}
	for t := range k.tags {
		tags = append(tags, t)
	}
	slices.SortFunc(tags, identity.Tag.Compare)
	return tags
}

// Commit makes what was opened as an epoch, accepted or swept durable. The
// vault may be committed by others at any time; that does no harm.
func (k *Keyring) Commit() error {
	k.lock()
	versions := make(map[*chains]uint64, len(k.stale))
	for c := range k.stale {
		versions[c] = c.version
	}
	k.mu.Unlock()
	if err := k.box.commit(); err != nil {
		return err
	}
	k.lock()
	defer k.mu.Unlock()
	for c, v := range versions {
		if c.version != v || !c.recordStale {
			continue // changed while committing: next time
		}
		if err := c.putRecord(k.rec); err != nil {
			return err
		}
		delete(k.stale, c)
	}
	return nil
}

// An epoch as its keyring holds it.
type epoch struct {
	id         EpochID
	op         Op
	opRaw      []byte
	hash       opHash
	roster     roster
	slot       int    // this device's
	proof      []byte // root of all wraps and the issuer's signature
	learned    int64  // by the keyring's age
	superseded int64  // 0: newest of its conversation
	pending    bool   // started here, nothing drafted in it yet
	refresh    bool   // to be replaced whatever its age

	tag, header key
	members     map[int]*chains
	out         [2]block // indexes set aside for mail and for live positions
	used        [2]used
}

func (e *epoch) binding() binding { return binding{e.hash, e.header} }

func (e *epoch) member(slot int) *chains {
	c := e.members[slot]
	if c == nil {
		c = &chains{epoch: e.id, slot: slot}
		e.members[slot] = c
	}
	return c
}

// order tells which of two epochs of a conversation is newer.
func (e *epoch) order(o *epoch) int {
	return cmp.Or(cmp.Compare(e.op.Sent, o.op.Sent), strings.Compare(string(e.id[:]), string(o.id[:])))
}

// wireEpoch is the record of an epoch.
type wireEpoch struct {
	_          struct{} `cbor:",toarray"`
	Version    uint64
	Op         []byte
	Roster     []byte
	Proof      []byte
	Learned    int64
	Superseded int64
	Pending    bool
	Refresh    bool
}

const epochPrefix = "epoch/"

func (k *Keyring) putEpochRecord(e *epoch) error {
	value, err := identity.Marshal(wireEpoch{
		Version: 1, Op: e.opRaw, Roster: e.roster.encode(), Proof: e.proof,
		Learned: e.learned, Superseded: e.superseded, Pending: e.pending, Refresh: e.refresh,
	})
	if err != nil {
		return err
	}
	if err := k.rec.PutRecord(epochPrefix+e.id.String(), value); err != nil {
		return fmt.Errorf("envelope: store record of epoch: %w", err)
	}
	return nil
}

func (k *Keyring) loadEpochs() error {
	var gone []string
	for name, value := range k.rec.Records(epochPrefix) {
		e, err := k.readEpoch(value)
		switch {
		case errors.Is(err, ErrNoSecret):
			gone = append(gone, name) // recorded, but a crash came before its secrets were committed
		case err != nil:
			return fmt.Errorf("envelope: load epoch: %w", err)
		default:
			k.add(e)
		}
	}
	for _, es := range k.conversations {
		slices.SortFunc(es, (*epoch).order)
	}
	for _, name := range gone {
		if err := k.rec.PutRecord(name, nil); err != nil {
			return fmt.Errorf("envelope: delete record of epoch: %w", err)
		}
	}
	return nil
}

func (k *Keyring) readEpoch(value []byte) (*epoch, error) {
	var w wireEpoch
	if err := identity.Unmarshal(value, &w); err != nil || w.Version != 1 {
		return nil, malformed("record of epoch")
	}
	op, err := ParseOp(w.Op)
	if err != nil {
		return nil, err
	}
	r, err := parseRoster(w.Roster)
	if err != nil {
		return nil, err
	}
	hash := hashOp(k.self.Network, w.Op)
	e := &epoch{
		id: hash.epoch(), op: op, opRaw: w.Op, hash: hash, roster: r, slot: r.slot(k.self.Device), proof: w.Proof,
		learned: w.Learned, superseded: w.Superseded, pending: w.Pending, refresh: w.Refresh,
		members: map[int]*chains{},
	}
	secret, err := k.box.get(k.box.epochID(e.id), epochSecretSize)
	if err != nil {
		return nil, err
	}
	defer clear(secret)
	e.tag, e.header = key(secret[:32]), key(secret[32:64])
	return e, nil
}

// epochSecretSize is the size of an epoch's secret in the vault: tag key,
// header key and control key.
const epochSecretSize = 96

// add puts an epoch into the indexes of the keyring.
func (k *Keyring) add(e *epoch) {
	k.epochs[e.id] = e
	for j := range uint32(Days) {
		k.tags[dayTag(e.tag, j)] = e
	}
	es := append(k.conversations[e.op.Conversation], e)
	slices.SortFunc(es, (*epoch).order)
	k.conversations[e.op.Conversation] = es
}

func (k *Keyring) remove(e *epoch) {
	delete(k.epochs, e.id)
	for j := range uint32(Days) {
		delete(k.tags, dayTag(e.tag, j))
	}
	es := slices.DeleteFunc(k.conversations[e.op.Conversation], func(o *epoch) bool { return o == e })
	if len(es) == 0 {
		delete(k.conversations, e.op.Conversation)
	} else {
		k.conversations[e.op.Conversation] = es
	}
	for _, c := range e.members {
		delete(k.stale, c)
		for _, r := range []*ratchet{&c.mail, &c.live} {
			for _, g := range r.gaps {
				if g.opened {
					k.unaccepted--
				}
			}
		}
	}
}

func (k *Keyring) loadGaps() error {
	var gone []string
	for name, value := range k.rec.Records(gapsPrefix) {
		id, slot, err := parseGapsKey(name)
		if err != nil {
			return err
		}
		e := k.epochs[id]
		if e == nil || slot >= len(e.roster) {
			gone = append(gone, name)
			continue
		}
		if err := e.member(slot).readRecord(value); err != nil {
			return err
		}
		k.gapsAtMost += e.member(slot).gapCount()
	}
	for _, name := range gone {
		if err := k.rec.PutRecord(name, nil); err != nil {
			return fmt.Errorf("envelope: delete record of gaps: %w", err)
		}
	}
	return nil
}
