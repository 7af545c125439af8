package envelope

import "errors"

// Accept uses opened messages up: they do not open again once the vault is
// committed. The caller has made them durable. Accepting one twice is no
// error; after an error everything can be accepted again.
func (k *Keyring) Accept(messages ...*Opened) error {
	k.lock()
	defer k.mu.Unlock()
	touched := map[*chains]bool{}
	for _, o := range messages {
		e := k.epochs[o.Epoch]
		if e == nil {
			continue // destroyed meanwhile
		}
		c := e.member(int(o.Slot))
		touched[c] = true
		if err := k.accept(c, position{o.Slot, o.Index}); err != nil {
			return err
		}
	}
	for c := range touched {
		if err := c.store(k.box, k.rec); err != nil {
			return err
		}
		if c.recordStale {
			k.stale[c] = true
		}
	}
	return nil
}

func (k *Keyring) accept(c *chains, at position) error {
	g, ok := c.ratchet(at).gaps[at.counter()]
	if !ok || !g.opened {
		return nil
	}
	if err := c.close(k.box, at); err != nil {
		return err
	}
	k.unaccepted--
	k.recent.add(messageID{c.epoch, at}, recentKey{g.key, g.seen})
	return nil
}

// Refuse takes back that messages were opened: they count as never seen, and
// open again later. It is for what may not be shown yet.
func (k *Keyring) Refuse(messages ...*Opened) {
	k.lock()
	defer k.mu.Unlock()
	for _, o := range messages {
		e := k.epochs[o.Epoch]
		if e == nil {
			continue // destroyed meanwhile
		}
		at := position{o.Slot, o.Index}
		if g := e.member(int(o.Slot)).ratchet(at).gaps[at.counter()]; g != nil && g.opened {
			g.opened = false
			k.unaccepted--
		}
	}
}

// Forget drops the key that memory keeps of an accepted message to recognise
// clones. Call it when a message is burned.
func (k *Keyring) Forget(o *Opened) {
	k.lock()
	defer k.mu.Unlock()
	k.recent.forget(messageID{o.Epoch, position{o.Slot, o.Index}})
}

// limitGaps gives up the oldest gaps of a ratchet that has too many, and of
// the member with the most while there are too many over all. added is how
// many there are more now.
func (k *Keyring) limitGaps(c *chains, live bool, added int) error {
	if added == 0 {
		return nil
	}
	r := c.ratchet(c.at(live, 0))
	old := r.evictable()
	if err := k.giveUp(c, live, old[:max(0, len(old)-MaxGaps)]); err != nil {
		return err
	}
	if k.gapsAtMost += added; k.gapsAtMost <= MaxGapsTotal {
		return nil // not worth counting
	}
	total, largest := k.countGaps()
	k.gapsAtMost = total
	over := total - k.unaccepted - MaxGapsTotal
	if over <= 0 {
		return nil
	}
	mail, liveGaps := largest.mail.evictable(), largest.live.evictable()
	n := min(over, len(mail))
	return errors.Join(k.giveUp(largest, false, mail[:n]), k.giveUp(largest, true, liveGaps[:min(over-n, len(liveGaps))]))
}

// countGaps counts the gaps of all chains and finds the member with the most.
func (k *Keyring) countGaps() (total int, largest *chains) {
	for _, e := range k.epochs {
		for _, c := range e.members {
			n := c.gapCount()
			total += n
			if largest == nil || n > largest.gapCount() {
				largest = c
			}
		}
	}
	return total, largest
}

func (k *Keyring) giveUp(c *chains, live bool, counters []uint32) error {
	err := c.giveUp(k.box, live, counters)
	if c.recordStale {
		k.stale[c] = true
	}
	return err
}

// A ChainRanges names messages of one member of an epoch by their indexes.
type ChainRanges struct {
	Epoch  EpochID
	Slot   uint16
	Ranges []Range // ascending
}

// Received returns what was accepted of others in an epoch.
func (k *Keyring) Received(id EpochID) []ChainRanges { return k.ranges(id, (*ratchet).received) }

// Missing returns what was given up in an epoch: ask for it by TypeNeedRekey.
func (k *Keyring) Missing(id EpochID) []ChainRanges {
	return k.ranges(id, func(r *ratchet) []Range { return r.lost })
}

func (k *Keyring) ranges(id EpochID, of func(*ratchet) []Range) (out []ChainRanges) {
	k.lock()
	defer k.mu.Unlock()
	e := k.epochs[id]
	if e == nil {
		return nil
	}
	for slot := range e.roster {
		c := e.member(slot)
		if slot == e.slot || c.load(k.box) != nil {
			continue
		}
		var rs []Range
		c.each(func(r *ratchet, live bool) error {
			for _, x := range of(r) {
				rs = append(rs, Range{c.at(live, x.From).index, c.at(live, x.To).index})
			}
			return nil
		})
		if len(rs) > 0 {
			out = append(out, ChainRanges{id, uint16(slot), rs})
		}
	}
	return out
}
