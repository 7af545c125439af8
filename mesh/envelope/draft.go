package envelope

import (
	"crypto/rand"
	"fmt"
	"slices"
	"sync"

	"outrider/mesh/identity"
)

// A block is a stretch of message keys of the own chain. The vault has only
// the chain's key behind it, so after a crash the rest of the block is skipped
// and no index is used twice. See witness.go for a vault that went back.
type block struct {
	at   uint32 // counter of keys[0]
	keys []key
}

// A Draft is one index of this device's chain, to be sealed once.
type Draft struct {
	keyring *Keyring
	epoch   EpochID
	bound   binding
	at      position
	tag     identity.Tag
	purge   PurgeKey
	sole    bool

	mu      sync.Mutex
	message key
	used    bool
	hash    MessageHash
}

// Draft sets an index of an epoch aside for a message. Nothing of the vault is
// committed but once in 32 drafts.
func (k *Keyring) Draft(id EpochID) (*Draft, error) { return k.draft(id, false) }

// DraftLive is Draft on the chain for live positions, whose volume does not
// use up the gaps of the mail.
func (k *Keyring) DraftLive(id EpochID) (*Draft, error) { return k.draft(id, true) }

func (k *Keyring) draft(id EpochID, live bool) (*Draft, error) {
	k.lock()
	defer k.mu.Unlock()
	e := k.epochs[id]
	switch {
	case e == nil:
		return nil, fmt.Errorf("envelope: draft: %w", ErrUnknownEpoch)
	case e.roster[e.slot].Flags&MemberCompliance != 0:
		return nil, fmt.Errorf("envelope: draft: %w", ErrReceiveOnly)
	}
	if err := k.use(e); err != nil {
		return nil, err
	}
	at, message, err := k.nextKey(e, live)
	if err != nil {
		return nil, err
	}
	d := &Draft{
		keyring: k, epoch: id, bound: e.binding(), at: at, message: message,
		tag: dayTag(e.tag, k.day(e)), sole: e.roster.readers(e.slot) == 1,
	}
	if d.sole {
		d.purge = message.messagePurge()
	} else {
		rand.Read(d.purge[:])
	}
	return d, nil
}

// use puts an epoch started here into use.
func (k *Keyring) use(e *epoch) error {
	if !e.pending {
		return nil
	}
	e.pending = false
	if err := k.putEpochRecord(e); err != nil {
		e.pending = true
		return err
	}
	return k.supersede(e.op.Conversation)
}

// day is how many days ago this device learnt of the epoch, by its own age.
func (k *Keyring) day(e *epoch) uint32 {
	return uint32(min(max(k.age.since(e.learned).Hours()/24, 0), Days-1))
}

func (k *Keyring) nextKey(e *epoch, live bool) (position, key, error) {
	b := &e.out[0]
	if live {
		b = &e.out[1]
	}
	if len(b.keys) == 0 {
		if err := k.reserve(e, live, b); err != nil {
			return position{}, key{}, err
		}
	}
	at, message := e.member(e.slot).at(live, b.at), b.keys[0]
	b.keys[0] = key{}
	b.keys, b.at = b.keys[1:], b.at+1
	return at, message, nil
}

// reserve moves the own chain in the vault on by a block, durably, and only
// then hands the block out.
func (k *Keyring) reserve(e *epoch, live bool, b *block) error {
	c := e.member(e.slot)
	if err := c.load(k.box); err != nil {
		return err
	}
	r := c.ratchet(c.at(live, 0))
	e.skipUsed(live, r)
	if r.next > liveBit-2*reserveBlock {
		return fmt.Errorf("envelope: draft: chain is used up: %w", ErrTooLarge)
	}
	if err := k.witness(e, live, r.next+reserveBlock); err != nil {
		return err
	}
	before := *r
	keys, last, next := r.seek(r.next + reserveBlock - 1)
	r.key, r.next = next, r.next+reserveBlock
	if err := c.putFrontier(k.box); err != nil {
		*r = before
		return err
	}
	if err := k.box.commit(); err != nil {
		*r = before
		return err
	}
	b.at, b.keys = before.next, append(slices.Clip(keys), last)
	return nil
}

// Tag is where the bundle goes.
func (d *Draft) Tag() identity.Tag { return d.tag }

// Index is the message's index in this device's chains. With epoch and device
// it is the message's identity.
func (d *Draft) Index() uint32 { return d.at.index }

// Slot is this device's slot in the epoch.
func (d *Draft) Slot() uint16 { return d.at.slot }

// Epoch is the epoch drafted in.
func (d *Draft) Epoch() EpochID { return d.epoch }

// PurgeKey is what the bundle's header commits to.
func (d *Draft) PurgeKey() PurgeKey { return d.purge }

// ReaderPurges reports whether the epoch has one reader device: that device
// derives the purge key too, and its purge is the receipt. Otherwise the key
// is random and the author alone has it, to keep until the lifetime ends.
func (d *Draft) ReaderPurges() bool { return d.sole }

// Hash is the message's hash, by which later ones name it as a parent; zero
// before Seal.
func (d *Draft) Hash() MessageHash {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.hash
}

// Seal makes the payload of the bundle with this header. A draft seals once;
// sending again means sending the same payload.
func (d *Draft) Seal(header []byte, in Inner) (payload []byte, err error) {
	self := &d.keyring.self
	fields, err := in.encode(self.Padding)
	if err != nil {
		return nil, err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.used {
		return nil, fmt.Errorf("envelope: seal: %w", ErrUsed)
	}
	payload, hash, err := d.bound.sealMessage(d.message, d.at, self.Key, header, fields, self.Padding)
	if err != nil {
		return nil, err
	}
	d.used, d.hash, d.message = true, hash, key{}
	return payload, nil
}
