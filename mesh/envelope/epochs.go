package envelope

import (
	"errors"
	"fmt"
	"slices"

	"outrider/mesh/identity"
)

// EpochFor returns the epoch to write to a conversation in: the newest one in
// use, if it is not due for refresh and its roster is exactly these members.
// With nil members any roster will do. Otherwise start an epoch.
func (k *Keyring) EpochFor(c ConversationID, members []Member) (EpochID, bool) {
	k.lock()
	defer k.mu.Unlock()
	e := k.newest(c)
	if e == nil || k.due(e) || members != nil && !e.roster.same(members) || e.roster[e.slot].Flags&MemberCompliance != 0 {
		return EpochID{}, false
	}
	return e.id, true
}

// Info describes an epoch that is held.
func (k *Keyring) Info(id EpochID) (EpochInfo, bool) {
	k.lock()
	defer k.mu.Unlock()
	e := k.epochs[id]
	if e == nil {
		return EpochInfo{}, false
	}
	return k.info(e), true
}

func (k *Keyring) info(e *epoch) EpochInfo {
	return EpochInfo{
		ID: e.id, Conversation: e.op.Conversation, Kind: e.op.Kind, Issuer: e.op.Issuer, Sent: e.op.Sent,
		Members: slices.Clone(e.roster), Slot: e.slot, Age: k.age.since(e.learned), Due: k.due(e), Superseded: e.superseded != 0,
	}
}

// EpochTags returns the tags of all days of an epoch, nil if it is not held.
func (k *Keyring) EpochTags(id EpochID) []identity.Tag {
	k.lock()
	defer k.mu.Unlock()
	e := k.epochs[id]
	if e == nil {
		return nil
	}
	tags := make([]identity.Tag, Days)
	for j := range tags {
		tags[j] = dayTag(e.tag, uint32(j))
	}
	return tags
}

// Refresh makes every epoch of a conversation due: the next message starts a
// new one. It is the command "reset security".
func (k *Keyring) Refresh(c ConversationID) error {
	k.lock()
	defer k.mu.Unlock()
	for _, e := range k.conversations[c] {
		if err := k.markRefresh(e); err != nil {
			return err
		}
	}
	return nil
}

func (k *Keyring) markRefresh(e *epoch) error {
	if e.refresh {
		return nil
	}
	e.refresh = true
	return k.putEpochRecord(e)
}

// newest is the newest epoch in use of a conversation. One started here
// counts only when something was drafted in it.
func (k *Keyring) newest(c ConversationID) *epoch {
	es := k.conversations[c]
	for i := len(es) - 1; i >= 0; i-- {
		if !es[i].pending {
			return es[i]
		}
	}
	return nil
}

// due reports whether an epoch should be replaced (crypto.md 4.3).
func (k *Keyring) due(e *epoch) bool {
	return e.refresh || k.age.since(e.learned) >= RefreshAge || k.messages(e) >= RefreshMessages
}

// messages counts the messages of an epoch as far as they are known here.
func (k *Keyring) messages(e *epoch) (n int) {
	for slot := range e.roster {
		c := e.member(slot)
		if c.load(k.box) == nil {
			n += int(c.mail.next) + int(c.live.next)
		}
	}
	for _, b := range e.out {
		n -= len(b.keys) // set aside, not used
	}
	return n
}

// supersede notes since when older epochs of a conversation are out of use;
// their retention runs from then.
func (k *Keyring) supersede(c ConversationID) error {
	newest := k.newest(c)
	for _, e := range k.conversations[c] {
		if e == newest || e.superseded != 0 || newest == nil || e.order(newest) > 0 {
			continue
		}
		e.superseded = k.age.now
		if err := k.putEpochRecord(e); err != nil {
			return err
		}
	}
	return nil
}

// Sweep destroys what is past its time: prekeys after their end plus D, keys
// of missing messages after D, epochs D after they were superseded or became
// due, whichever is later; the newest of a conversation stays. It ends with a
// commit. Call it every few minutes.
func (k *Keyring) Sweep() error {
	k.lock()
	defer k.mu.Unlock()
	if err := errors.Join(k.putAgeRecord(), k.sweepPrekeys()); err != nil {
		return err
	}
	for _, e := range k.epochs {
		if k.expired(e) {
			if err := k.destroy(e); err != nil {
				return err
			}
		} else if err := k.sweepGaps(e); err != nil {
			return err
		}
	}
	return k.box.commit()
}

func (k *Keyring) expired(e *epoch) bool {
	if e.superseded == 0 && (!e.pending || k.newest(e.op.Conversation) == nil) {
		return false
	}
	end := max(e.superseded, e.learned+int64(RefreshAge.Seconds()))
	return k.age.now >= end+int64(k.self.MaxDelay.Seconds())
}

func (k *Keyring) sweepGaps(e *epoch) error {
	for _, c := range e.members {
		err := c.each(func(r *ratchet, live bool) error {
			return c.giveUp(k.box, live, r.expired(k.age.now, k.self.MaxDelay))
		})
		if err != nil {
			return err
		}
		if c.recordStale {
			k.stale[c] = true
		}
	}
	return nil
}

// probe is how many indexes behind a chain's frontier are shredded besides
// the gaps on record, in case a crash left a key that no record names.
const probe = 64

// destroy forgets an epoch: secrets first, durably, then the records that
// would find them.
func (k *Keyring) destroy(e *epoch) error {
	for slot := range e.roster {
		c := e.member(slot)
		if err := errors.Join(k.shredGaps(c), k.box.shred(k.box.chainsID(e.id, slot))); err != nil {
			return err
		}
	}
	if err := errors.Join(k.box.shred(k.box.epochID(e.id)), k.box.commit()); err != nil {
		return err
	}
	for _, c := range e.members {
		if err := k.rec.PutRecord(c.recordKey(), nil); err != nil {
			return fmt.Errorf("envelope: delete record of gaps: %w", err)
		}
	}
	for _, name := range []string{usedPrefix + e.id.String(), epochPrefix + e.id.String()} {
		if err := k.rec.PutRecord(name, nil); err != nil {
			return fmt.Errorf("envelope: delete record of epoch: %w", err)
		}
	}
	k.remove(e)
	return nil
}

func (k *Keyring) shredGaps(c *chains) error {
	if err := c.load(k.box); err != nil && !errors.Is(err, ErrNoSecret) {
		return err
	}
	return c.each(func(r *ratchet, live bool) error {
		var ids []uint32
		for n := range r.gaps {
			ids = append(ids, n)
		}
		for n := r.next; n > 0 && r.next-n < probe; n-- {
			ids = append(ids, n-1)
		}
		for _, n := range ids {
			if err := k.box.shred(k.box.gapID(c.epoch, c.at(live, n))); err != nil {
				return err
			}
		}
		return nil
	})
}
