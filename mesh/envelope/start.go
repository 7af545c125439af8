package envelope

import (
	"crypto/rand"
	"errors"
	"fmt"
	"slices"
	"time"

	"outrider/mesh/identity"
)

// A Recipient is a device to be in an epoch.
type Recipient struct {
	User      identity.UserID
	Device    identity.DeviceID
	DeviceKey identity.PublicKey
	Prekey    *Prekey // see ChoosePrekey; not needed if the device gave a reply key
	Flags     MemberFlags
}

// EpochOptions say what kind of epoch to start.
type EpochOptions struct {
	// Header makes the bundle header for a wrap: the tag is where it goes, the
	// purge key is what the header commits to. The wrap is sealed to these
	// bytes, so the bundle must carry exactly them. It is called with the
	// keyring unlocked.
	Header func(tag identity.Tag, purge PurgeKey) ([]byte, error)
	// ReplyKeys attaches to each wrap a key for one epoch back, 1.2 kB each:
	// for fat links, or every few epochs.
	ReplyKeys bool
}

// A Wrap is the start of an epoch for one device, to be sent as a bundle of
// its own. Payload and Header together are what the device opens.
type Wrap struct {
	Device   identity.DeviceID
	Tag      identity.Tag
	Header   []byte
	Payload  []byte
	PurgeKey PurgeKey // the device gets it too
	Number   uint32   // of the prekey used
	NoFS     bool     // made for the last resort: tell the sender
	Stale    bool     // the prekey was past its end
}

// An EpochInfo describes an epoch.
type EpochInfo struct {
	ID           EpochID
	Conversation ConversationID
	Kind         OpKind
	Issuer       identity.DeviceID
	Sent         uint64 // hlc of the issuer, milliseconds since 1970
	Members      []Member
	Slot         int           // this device's place in Members
	Age          time.Duration // since this device learnt of it
	Due          bool          // time to start the next one
	Superseded   bool          // a newer one is in use

	// What only OpenEpoch fills in.
	Known    bool     // it was held already
	Number   uint32   // of the prekey the wrap was made for; 0 is the last resort
	PurgeKey PurgeKey // of the wrap
}

// StartEpoch makes an epoch of a direct conversation: all recipients belong
// to at most two users, this device's one of them. It is durable when
// StartEpoch returns. The caller must submit every wrap before the first
// Draft; an epoch in which nothing was drafted is not offered by EpochFor
// after a restart, so that half an epoch is never used.
func (k *Keyring) StartEpoch(to []Recipient, opts EpochOptions) (EpochID, []Wrap, error) {
	s, err := k.prepare(to, opts)
	if err != nil {
		return EpochID{}, nil, err
	}
	defer s.clear()
	if err := s.exchange(k, opts); err != nil {
		return EpochID{}, nil, err
	}
	wraps, err := s.wrapAll(k)
	if err != nil {
		return EpochID{}, nil, err
	}
	k.lock()
	defer k.mu.Unlock()
	e := s.epoch
	e.pending, e.learned = true, k.age.now
	if err := k.keep(e, s.keys); err != nil {
		return EpochID{}, nil, err
	}
	if err := k.box.commit(); err != nil {
		return EpochID{}, nil, err
	}
	k.add(e)
	return e.id, wraps, nil
}

// A starting is an epoch in the making.
type starting struct {
	*epoch
	wrapped  key // what the wraps carry
	keys     epochKeys
	outgoing []*outgoing
}

// outgoing is one wrap in the making.
type outgoing struct {
	to      Recipient
	number  uint32
	public  []byte
	reply   []byte
	wrap    Wrap
	enc     []byte
	wrapper wrapper
	secret  []byte // sealed
}

func (s *starting) clear() {
	clear(s.wrapped[:])
	s.keys = epochKeys{}
}

// prepare checks the recipients, fixes operation and roster and sets reply
// keys aside.
func (k *Keyring) prepare(to []Recipient, opts EpochOptions) (*starting, error) {
	if opts.Header == nil {
		return nil, errors.New("envelope: start epoch: no header function")
	}
	members := []Member{{User: k.self.User, Device: k.self.Device}}
	for _, r := range to {
		members = append(members, Member{r.User, r.Device, r.Flags})
	}
	ros, err := newRoster(members)
	if err != nil {
		return nil, fmt.Errorf("envelope: start epoch: %w", err)
	}
	if len(ros) > maxInline {
		return nil, fmt.Errorf("envelope: start epoch: %d devices in a direct conversation, at most %d: %w", len(ros), maxInline, ErrTooLarge)
	}
	conversation, err := k.direct(ros)
	if err != nil {
		return nil, fmt.Errorf("envelope: start epoch: %w", err)
	}
	k.lock()
	defer k.mu.Unlock()
	if err := k.makeRoom(conversation); err != nil {
		return nil, err
	}
	s := &starting{}
	if s.outgoing, err = k.outgoing(to, opts); err != nil {
		return nil, err
	}
	op := Op{
		Kind: OpDirect, Conversation: conversation, Issuer: k.self.Device, Sent: uint64(max(0, k.now().UnixMilli())),
		RosterHash: hashRoster(ros.encode()), Transport: TransportCold,
	}
	rand.Read(op.Nonce[:])
	rand.Read(s.wrapped[:])
	if s.epoch, err = k.newEpoch(op, ros); err != nil {
		return nil, err
	}
	s.keys = expand(epochSecret(s.wrapped, nil, s.hash, op.RosterHash))
	return s, nil
}

func (k *Keyring) newEpoch(op Op, ros roster) (*epoch, error) {
	raw, err := op.encode()
	if err != nil {
		return nil, err
	}
	hash := hashOp(k.self.Network, raw)
	return &epoch{
		id: hash.epoch(), op: op, opRaw: raw, hash: hash, roster: ros, slot: ros.slot(k.self.Device), members: map[int]*chains{},
	}, nil
}

// direct returns the conversation of a roster of one or two users; compliance
// readers do not count.
func (k *Keyring) direct(r roster) (ConversationID, error) {
	users := r.users()
	if len(users) == 0 || len(users) > 2 {
		return ConversationID{}, forged("a direct conversation has one or two users")
	}
	return DirectConversation(k.self.Network, users[0], users[len(users)-1]), nil
}

func (k *Keyring) outgoing(to []Recipient, opts EpochOptions) (out []*outgoing, err error) {
	now := k.now()
	for _, r := range to {
		o := &outgoing{to: r}
		if err := k.choose(o, now); err != nil {
			return nil, err
		}
		if opts.ReplyKeys {
			if o.reply, err = k.makeReply(now); err != nil {
				return nil, err
			}
		}
		out = append(out, o)
	}
	if !opts.ReplyKeys {
		return out, nil
	}
	// Their inbox tags must be known before any wrap is out.
	if err := errors.Join(k.box.commit(), k.putPrekeysRecord()); err != nil {
		return nil, err
	}
	k.indexInbox()
	return out, nil
}

// choose takes the reply key of a recipient if there is one, else the prekey.
func (k *Keyring) choose(o *outgoing, now time.Time) error {
	reply, ok, err := k.takeReply(o.to.Device, now)
	switch {
	case err != nil:
		return err
	case ok:
		o.number, o.public = reply.number, reply.public
		return nil
	}
	p := o.to.Prekey
	if p == nil || p.KEM != KEMID || p.Device != o.to.Device || !p.Verify(k.self.Network, o.to.DeviceKey) {
		return fmt.Errorf("envelope: start epoch: %w", ErrPrekey)
	}
	o.number, o.public = p.Number, p.Public
	o.wrap.NoFS = p.Number == 0
	o.wrap.Stale = !p.NotAfter.After(now)
	return nil
}

// exchange runs the KEM with every recipient, asks for the headers and seals
// the secrets.
func (s *starting) exchange(k *Keyring, opts EpochOptions) (err error) {
	for _, o := range s.outgoing {
		if o.enc, o.wrapper, err = encapsulate(k.self.Network, o.to.Device, o.number, o.public); err != nil {
			return err
		}
		o.wrap.Device, o.wrap.Number = o.to.Device, o.number
		o.wrap.Tag = identity.InboxTag(k.tagKey(), o.to.Device, o.number)
		o.wrap.PurgeKey = o.wrapper.purge()
		if o.wrap.Header, err = opts.Header(o.wrap.Tag, o.wrap.PurgeKey); err != nil {
			return fmt.Errorf("envelope: start epoch: header: %w", err)
		}
		if len(o.wrap.Header) == 0 || len(o.wrap.Header) > MaxHeader {
			return fmt.Errorf("envelope: start epoch: header of %d bytes, want 1 to %d: %w", len(o.wrap.Header), MaxHeader, ErrTooLarge)
		}
		o.secret = o.wrapper.secretKey(s.hash, k.self.Device, o.to.Device).
			seal(nil, s.wrapped[:], secretAAD(s.hash, k.self.Device, o.to.Device, s.op.RosterHash))
	}
	return nil
}

func (k *Keyring) tagKey() [32]byte {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.self.TagKeys[0]
}

// wrapAll signs the tree over all wraps and seals the frames.
func (s *starting) wrapAll(k *Keyring) (wraps []Wrap, err error) {
	leaves := make([]treeHash, len(s.outgoing))
	for i, o := range s.outgoing {
		leaves[i] = wrapLeaf(o.to.Device, o.number, o.wrap.Header, o.enc, o.secret, o.reply)
	}
	levels, root := [][]treeHash(nil), treeHash{}
	if len(leaves) > 0 { // else a user with a single device writes notes
		levels = treeLevels(leaves)
		root = levels[len(levels)-1][0]
	}
	sig := k.self.Key.Sign(identity.DomainEpoch, epochSigned(s.hash, root))
	s.proof = append(root[:], sig[:]...)
	f := frame{Op: s.opRaw, Roster: s.roster.encode(), Leaves: uint64(len(leaves)), Signature: sig[:]}
	for i, o := range s.outgoing {
		f.Leaf, f.Path, f.Secret, f.Reply = uint64(i), treePath(levels, i), o.secret, o.reply
		plain, err := f.encode(k.self.Padding)
		if err != nil {
			return nil, err
		}
		o.wrap.Payload = o.wrapper.frameKey().seal(slices.Clip(o.enc), plain, frameAAD(o.wrap.Header))
		wraps = append(wraps, o.wrap)
	}
	return wraps, nil
}

// keep puts a new epoch into vault and records: its tag, header and control
// keys and the start of every chain. The epoch's secret and root are not kept,
// nor the carry: direct epochs have no children.
func (k *Keyring) keep(e *epoch, keys epochKeys) error {
	e.tag, e.header = keys.tag, keys.header
	for slot, m := range e.roster {
		c := e.member(slot)
		c.mail.key, c.live.key = keys.chainStart(m.Device, false), keys.chainStart(m.Device, true)
		c.loaded = true
		if err := c.putFrontier(k.box); err != nil {
			return err
		}
	}
	if err := k.box.put(k.box.epochID(e.id), keys.tag[:], keys.header[:], keys.control[:]); err != nil {
		return err
	}
	return k.putEpochRecord(e)
}

// makeRoom sees to it that one more epoch fits, giving up the oldest of the
// conversation if it has too many: whoever floods one has only that to flood.
func (k *Keyring) makeRoom(c ConversationID) error {
	if es := k.conversations[c]; len(es) >= maxConversationEpochs {
		return k.destroy(es[0])
	}
	if len(k.epochs) >= maxEpochs {
		return fmt.Errorf("envelope: %d epochs held: %w", len(k.epochs), ErrFull)
	}
	return nil
}
