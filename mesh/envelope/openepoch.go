package envelope

import (
	"errors"
	"fmt"
	"slices"

	"outrider/mesh/identity"
)

// OpenEpoch opens a wrap: tag, header and payload are the bundle's. The epoch
// is usable at once and durable after Commit; only then may the bundle be
// consumed. A wrap of an epoch already held is opened again and changes
// nothing (EpochInfo.Known).
//
// ErrUnknownSender: keep the bundle and try again when certificates arrive.
// ErrNoPrekey: the secret was destroyed on schedule; publish Prekeys.
// ErrUnsupported: an operation of a later version.
func (k *Keyring) OpenEpoch(tag identity.Tag, header, payload []byte) (EpochInfo, error) {
	k.lock()
	defer k.mu.Unlock()
	number, ok := k.inbox[tag]
	if !ok {
		return EpochInfo{}, fmt.Errorf("envelope: open epoch: %w", ErrNotForUs)
	}
	seed, err := k.box.getKey(k.box.prekeyID(number))
	switch {
	case errors.Is(err, ErrNoSecret):
		return EpochInfo{}, fmt.Errorf("envelope: open epoch: %w", ErrNoPrekey)
	case err != nil:
		return EpochInfo{}, err
	}
	defer clear(seed[:])
	in, err := k.openWrap(number, seed, header, payload)
	if err != nil {
		return EpochInfo{}, err
	}
	defer in.clear()
	known := k.epochs[in.epoch.id]
	if known == nil {
		if err := k.permit(in.epoch); err != nil {
			return EpochInfo{}, err
		}
		if err := k.join(in); err != nil {
			return EpochInfo{}, err
		}
		known = in.epoch
	}
	if number&replyBit != 0 { // used once: destroyed with the commit that keeps the epoch
		if err := k.box.shred(k.box.prekeyID(number)); err != nil {
			return EpochInfo{}, err
		}
	}
	info := k.info(known)
	info.Known, info.Number, info.PurgeKey = known != in.epoch, number, in.purge
	return info, nil
}

// permit asks whether an epoch that is authentic may be used.
func (k *Keyring) permit(e *epoch) error {
	if k.self.Permit == nil {
		return nil
	}
	if err := k.self.Permit(slices.Clone(e.roster), e.op.Sent); err != nil {
		return fmt.Errorf("envelope: open epoch: %w", err)
	}
	return nil
}

// An incoming epoch: authenticated, not yet kept.
type incoming struct {
	epoch *epoch
	keys  epochKeys
	reply []byte
	purge PurgeKey
}

func (in *incoming) clear() { in.keys = epochKeys{} }

// openWrap opens a wrap and believes it only when seal, signature, path and
// authorisation hold. It changes nothing.
func (k *Keyring) openWrap(number uint32, seed key, header, payload []byte) (*incoming, error) {
	if len(payload) < encSize+aeadExtra || len(payload) > MaxPayload || len(header) == 0 || len(header) > MaxHeader {
		return nil, malformed(fmt.Sprintf("open epoch: payload of %d bytes, header of %d", len(payload), len(header)))
	}
	enc := payload[:encSize]
	w, err := decapsulate(k.self.Network, k.self.Device, number, seed, enc)
	if err != nil {
		return nil, err
	}
	plain, err := w.frameKey().open(payload[encSize:], frameAAD(header))
	if err != nil {
		return nil, forged("open epoch: seal")
	}
	f, err := parseFrame(plain)
	if err != nil {
		return nil, err
	}
	e, err := k.readStart(f)
	if err != nil {
		return nil, err
	}
	issuer, err := k.issuer(e)
	if err != nil {
		return nil, err
	}
	leaf := wrapLeaf(k.self.Device, number, header, enc, f.Secret, f.Reply)
	root, ok := climb(leaf, f.Path, int(f.Leaf), int(f.Leaves))
	if !ok || !issuer.Verify(identity.DomainEpoch, epochSigned(e.hash, root), f.Signature) {
		return nil, forged("open epoch: signature")
	}
	e.proof = append(root[:], f.Signature...)
	wrapped, err := w.secretKey(e.hash, e.op.Issuer, k.self.Device).
		open(f.Secret, secretAAD(e.hash, e.op.Issuer, k.self.Device, e.op.RosterHash))
	if err != nil {
		return nil, forged("open epoch: secret")
	}
	defer clear(wrapped)
	keys := expand(epochSecret(key(wrapped), nil, e.hash, e.op.RosterHash))
	return &incoming{epoch: e, keys: keys, reply: f.Reply, purge: w.purge()}, nil
}

// readStart reads operation and roster of a frame and checks that they fit
// each other and this device.
func (k *Keyring) readStart(f frame) (*epoch, error) {
	op, err := ParseOp(f.Op)
	if err != nil {
		return nil, err
	}
	if op.Kind != OpDirect || op.Transport != TransportCold || len(op.Parents) > 0 || f.Roster == nil {
		return nil, fmt.Errorf("envelope: open epoch: operation %d by transport %d: %w", op.Kind, op.Transport, ErrUnsupported)
	}
	ros, err := parseRoster(f.Roster)
	if err != nil {
		return nil, err
	}
	hash := hashOp(k.self.Network, f.Op)
	e := &epoch{
		id: hash.epoch(), op: op, opRaw: f.Op, hash: hash, roster: ros, slot: ros.slot(k.self.Device), members: map[int]*chains{},
	}
	if hashRoster(f.Roster) != op.RosterHash {
		return nil, forged("open epoch: roster is not the one signed")
	}
	if e.slot < 0 || ros[e.slot].User != k.self.User {
		return nil, forged("open epoch: this device is not in the roster")
	}
	return e, nil
}

// issuer returns the key of the device that started a direct epoch, if it was
// entitled to.
func (k *Keyring) issuer(e *epoch) (identity.PublicKey, error) {
	slot := e.roster.slot(e.op.Issuer)
	if slot < 0 || e.op.Issuer == k.self.Device || e.roster[slot].Flags&MemberCompliance != 0 {
		return identity.PublicKey{}, forged("open epoch: issuer is no sending member")
	}
	if c, err := k.direct(e.roster); err != nil || c != e.op.Conversation {
		return identity.PublicKey{}, forged("open epoch: not the conversation of its members")
	}
	for i, m := range e.roster {
		d, known := k.self.Lookup.Device(m.Device)
		switch {
		case known && d.User != m.User:
			return identity.PublicKey{}, forged("open epoch: a device of another user in the roster")
		case i == slot && !known:
			return identity.PublicKey{}, &UnknownDevice{m.Device}
		case i == slot && d.Key.DeviceID() != m.Device:
			return identity.PublicKey{}, forged("open epoch: key of another device")
		}
	}
	d, _ := k.self.Lookup.Device(e.op.Issuer)
	return d.Key, nil
}

// join keeps an epoch that was opened for the first time.
func (k *Keyring) join(in *incoming) error {
	e := in.epoch
	if err := k.makeRoom(e.op.Conversation); err != nil {
		return err
	}
	e.learned = k.age.now
	if err := k.keep(e, in.keys); err != nil {
		return err
	}
	if in.reply != nil {
		if err := k.keepReply(e.op.Issuer, in.reply, k.now()); err != nil {
			return err
		}
	}
	k.add(e)
	return k.supersede(e.op.Conversation)
}
