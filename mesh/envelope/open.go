package envelope

import (
	"errors"
	"fmt"
	"slices"

	"outrider/mesh/identity"
)

// An Opened is a message whose seal and signature hold. It opens again until
// it is accepted.
type Opened struct {
	Epoch        EpochID
	Conversation ConversationID
	Device       identity.DeviceID // epoch, device and index are the message's identity
	User         identity.UserID
	Slot         uint16
	Index        uint32
	Live         bool // of the chain for live positions
	Hash         MessageHash
	Inner        Inner
	// ReaderPurges: this device is the only reader, and releasing PurgeKey
	// once the message is durable is the receipt. Otherwise PurgeKey is zero.
	ReaderPurges bool
	PurgeKey     PurgeKey
	// Clone: an authentic message with this identity and other content was
	// opened before. The sender's device was copied or rolled back: show both,
	// raise an alarm. The epoch is due for refresh by now.
	Clone bool

	digest digest
}

// Open opens a message: tag, header and payload are the bundle's. The errors
// wrap one of the classes of errors.go; none changes any state. At most one
// chain is tried.
func (k *Keyring) Open(tag identity.Tag, header, payload []byte) (*Opened, error) {
	k.lock()
	defer k.mu.Unlock()
	e := k.tags[tag]
	if e == nil {
		return nil, fmt.Errorf("envelope: open: %w", ErrUnknownEpoch)
	}
	if len(header) == 0 || len(header) > MaxHeader {
		return nil, malformed(fmt.Sprintf("open: header of %d bytes", len(header)))
	}
	at, err := e.binding().locate(payload)
	if err != nil {
		return nil, err
	}
	a := &attempt{keyring: k, epoch: e, at: at, header: header, payload: payload}
	switch {
	case int(at.slot) >= len(e.roster):
		return nil, forged("open: no such slot")
	case int(at.slot) == e.slot:
		return nil, a.own()
	case e.roster[at.slot].Flags&MemberCompliance != 0:
		return nil, forged("open: sender may only receive")
	}
	return a.run()
}

// An attempt is one payload being opened.
type attempt struct {
	keyring         *Keyring
	epoch           *epoch
	at              position
	header, payload []byte

	chains  *chains
	ratchet *ratchet
}

func (a *attempt) locateChain() error {
	a.chains = a.epoch.member(int(a.at.slot))
	if err := a.chains.load(a.keyring.box); err != nil {
		return err
	}
	a.ratchet = a.chains.ratchet(a.at)
	return nil
}

func (a *attempt) run() (*Opened, error) {
	if err := a.locateChain(); err != nil {
		return nil, err
	}
	if a.at.counter() >= a.ratchet.next {
		return a.ahead()
	}
	g, err := a.gap()
	switch {
	case err != nil:
		return nil, err
	case g == nil:
		return a.behind()
	}
	return a.fill(g)
}

// ahead opens a message that the chain has not reached, and only then moves
// the chain.
func (a *attempt) ahead() (*Opened, error) {
	k, r, c := a.keyring, a.ratchet, a.at.counter()
	switch {
	case c-r.next > MaxJump:
		return nil, fmt.Errorf("envelope: open: %w", ErrTooFarAhead)
	case k.unaccepted >= maxUnaccepted:
		return nil, fmt.Errorf("envelope: open: %w", ErrBusy)
	}
	passed, message, next := r.seek(c)
	o, err := a.openWith(message)
	if err != nil {
		return nil, err
	}
	r.advance(c, passed, next, k.age.now)
	r.gaps[c] = &gap{key: message, since: k.age.now, opened: true, seen: []digest{o.digest}}
	a.chains.dirty = true
	a.chains.version++
	k.unaccepted++
	if err := k.limitGaps(a.chains, a.at.live(), len(passed)); err != nil {
		return nil, err
	}
	return o, nil
}

// gap returns the gap that the message would fill, nil if there is none. The
// vault is asked whatever the memory says: a record may have been lost.
func (a *attempt) gap() (*gap, error) {
	c := a.at.counter()
	g := a.ratchet.gaps[c]
	if g != nil && g.key != (key{}) {
		return g, nil
	}
	m, err := a.keyring.box.getKey(a.keyring.box.gapID(a.epoch.id, a.at))
	switch {
	case errors.Is(err, ErrNoSecret):
		return nil, nil
	case err != nil:
		return nil, err
	}
	found := &gap{key: m, stored: true, since: a.keyring.age.now}
	if g != nil {
		found.since = g.since
	}
	return found, nil
}

// fill opens a message that others overtook.
func (a *attempt) fill(g *gap) (*Opened, error) {
	k := a.keyring
	if !g.opened && k.unaccepted >= maxUnaccepted {
		return nil, fmt.Errorf("envelope: open: %w", ErrBusy)
	}
	o, err := a.openWith(g.key)
	if err != nil {
		return nil, err
	}
	if !g.opened {
		g.opened = true
		k.unaccepted++
	}
	if a.ratchet.gaps == nil {
		a.ratchet.gaps = map[uint32]*gap{}
	}
	a.ratchet.gaps[a.at.counter()] = g
	return a.see(o, &g.seen)
}

// behind judges a message whose key is used up: a repetition, one that came
// too late, or proof of a clone.
func (a *attempt) behind() (*Opened, error) {
	used := a.keyring.recent.keys[messageID{a.epoch.id, a.at}]
	switch d := digestOf(a.header, a.payload); {
	case used == nil && a.ratchet.isLost(a.at.counter()):
		return nil, fmt.Errorf("envelope: open: %w", ErrKeyGone)
	case used == nil || used.seen[0] == d || len(used.seen) >= maxClones:
		return nil, fmt.Errorf("envelope: open: %w", ErrDuplicate)
	}
	o, err := a.openWith(used.key)
	if err != nil {
		return nil, err
	}
	return a.see(o, &used.seen)
}

// see compares an opened message with what opened under the same key before.
func (a *attempt) see(o *Opened, seen *[]digest) (*Opened, error) {
	if len(*seen) > 0 && (*seen)[0] != o.digest {
		o.Clone = true
	}
	if !slices.Contains(*seen, o.digest) && len(*seen) < maxClones {
		*seen = append(*seen, o.digest)
	}
	if o.Clone {
		if err := a.keyring.markRefresh(a.epoch); err != nil {
			return nil, err
		}
	}
	return o, nil
}

// openWith checks seal, sender and signature with a message key, in this
// order, and changes nothing.
func (a *attempt) openWith(message key) (*Opened, error) {
	e, bound := a.epoch, a.epoch.binding()
	u, err := bound.openSeal(message, a.at, a.header, a.payload)
	if err != nil {
		return nil, err
	}
	m := e.roster[a.at.slot]
	sender, ok := a.keyring.self.Lookup.Device(m.Device)
	switch {
	case !ok:
		return nil, &UnknownDevice{m.Device}
	case sender.User != m.User || sender.Key.DeviceID() != m.Device:
		return nil, forged("open: sender is not the member")
	}
	hash, err := bound.verify(u, a.at, a.header, sender.Key)
	if err != nil {
		return nil, err
	}
	in, err := parseInner(u.fields)
	if err != nil {
		return nil, err
	}
	o := &Opened{
		Epoch: e.id, Conversation: e.op.Conversation, Device: m.Device, User: m.User, Slot: a.at.slot, Index: a.at.index,
		Live: a.at.live(), Hash: hash, Inner: in, digest: digestOf(a.header, a.payload),
	}
	if e.roster.readers(int(a.at.slot)) == 1 && e.roster[e.slot].Flags&MemberCompliance == 0 {
		o.ReaderPurges, o.PurgeKey = true, message.messagePurge()
	}
	return o, nil
}

// own judges a message of this device's own chain. One that it has sealed is
// nothing; an authentic one beyond them is the work of a copy.
func (a *attempt) own() error {
	if err := a.locateChain(); err != nil {
		return err
	}
	c := a.at.counter()
	if c < a.ratchet.next || c-a.ratchet.next > MaxJump {
		return fmt.Errorf("envelope: open: %w", ErrOwn)
	}
	_, message, _ := a.ratchet.seek(c)
	bound := a.epoch.binding()
	u, err := bound.openSeal(message, a.at, a.header, a.payload)
	if err != nil {
		return err
	}
	if _, err := bound.verify(u, a.at, a.header, a.keyring.self.Key.Public()); err != nil {
		return err
	}
	if err := a.keyring.markRefresh(a.epoch); err != nil {
		return err
	}
	return fmt.Errorf("envelope: open: %w", ErrCloned)
}
