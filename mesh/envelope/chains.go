package envelope

import (
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"slices"
)

// chains are the two ratchets of one member of an epoch. The vault has their
// frontier (key and counter of each) and the key of every gap; the record
// lists the gaps, so that their keys can expire. Losing the record loses no
// message: the vault is asked for a key whatever the record says.
type chains struct {
	epoch  EpochID
	slot   int
	loaded bool // the frontier was read from the vault
	dirty  bool // the frontier moved since it was put into the vault
	mail   ratchet
	live   ratchet

	recordStale bool   // the record lists gaps that are closed
	version     uint64 // counts changes of the gaps
}

const chainsSize = 2 * (32 + 4)

func (c *chains) ratchet(at position) *ratchet {
	if at.live() {
		return &c.live
	}
	return &c.mail
}

func (c *chains) at(live bool, counter uint32) position {
	if live {
		counter |= liveBit
	}
	return position{uint16(c.slot), counter}
}

// each calls f for both ratchets.
func (c *chains) each(f func(r *ratchet, live bool) error) error {
	return errors.Join(f(&c.mail, false), f(&c.live, true))
}

func (c *chains) gapCount() int { return len(c.mail.gaps) + len(c.live.gaps) }

func (c *chains) load(box strongbox) error {
	if c.loaded {
		return nil
	}
	v, err := box.get(box.chainsID(c.epoch, c.slot), chainsSize)
	if err != nil {
		return fmt.Errorf("envelope: load chains: %w", err)
	}
	defer clear(v)
	c.mail.key, c.mail.next = key(v[:32]), binary.BigEndian.Uint32(v[32:])
	c.live.key, c.live.next = key(v[36:68]), binary.BigEndian.Uint32(v[68:])
	c.loaded = true
	// A record can be ahead of the vault after a crash.
	return c.each(func(r *ratchet, _ bool) error {
		maps.DeleteFunc(r.gaps, func(n uint32, _ *gap) bool { return n >= r.next })
		return nil
	})
}

// putFrontier stores the frontier; it is durable with the next commit.
func (c *chains) putFrontier(box strongbox) error {
	mail := binary.BigEndian.AppendUint32(nil, c.mail.next)
	live := binary.BigEndian.AppendUint32(nil, c.live.next)
	return box.put(box.chainsID(c.epoch, c.slot), c.mail.key[:], mail, c.live.key[:], live)
}

// store brings vault and record up to the memory: gaps first, then the
// frontier that passed them.
func (c *chains) store(box strongbox, rec Records) error {
	if !c.dirty {
		return nil
	}
	if c.gapsToStore() {
		if err := c.putRecord(rec); err != nil {
			return err
		}
		if err := c.storeGaps(box); err != nil {
			return err
		}
	}
	if err := c.putFrontier(box); err != nil {
		return err
	}
	c.dirty = false
	return nil
}

func (c *chains) gapsToStore() bool {
	for _, r := range []*ratchet{&c.mail, &c.live} {
		for _, g := range r.gaps {
			if !g.stored {
				return true
			}
		}
	}
	return false
}

func (c *chains) storeGaps(box strongbox) error {
	return c.each(func(r *ratchet, live bool) error {
		for n, g := range r.gaps {
			if g.stored {
				continue
			}
			if err := box.put(box.gapID(c.epoch, c.at(live, n)), g.key[:]); err != nil {
				return err
			}
			g.stored = true
			if !g.opened {
				g.key = key{} // from now on the vault has it
			}
		}
		return nil
	})
}

// close removes a gap: its message was accepted, or is given up.
func (c *chains) close(box strongbox, at position) error {
	r := c.ratchet(at)
	g, ok := r.gaps[at.counter()]
	if !ok {
		return nil
	}
	if g.stored {
		if err := box.shred(box.gapID(c.epoch, at)); err != nil {
			return err
		}
		c.recordStale = true
	}
	delete(r.gaps, at.counter())
	c.version++
	return nil
}

func (c *chains) giveUp(box strongbox, live bool, counters []uint32) error {
	r := c.ratchet(c.at(live, 0))
	for _, n := range counters {
		if err := c.close(box, c.at(live, n)); err != nil {
			return err
		}
		r.lose(Range{n, n})
		c.recordStale = true
	}
	return nil
}

// The record of a member's gaps: two lists, each with its number of entries
// (4 B): gaps (first index, last index, age of the keyring then; 4 B each) and lost
// indexes (first, last).
const gapsPrefix = "gaps/"

func (c *chains) recordKey() string {
	return fmt.Sprintf("%s%v/%04x", gapsPrefix, c.epoch, c.slot)
}

func parseGapsKey(s string) (e EpochID, slot int, err error) {
	raw, err := hex.DecodeString(s[len(gapsPrefix):min(len(s), len(gapsPrefix)+16)])
	if err != nil || len(s) != len(gapsPrefix)+16+5 {
		return e, 0, malformed("record of gaps: key")
	}
	_, err = fmt.Sscanf(s[len(gapsPrefix)+16:], "/%04x", &slot)
	return EpochID(raw), slot, err
}

func (c *chains) putRecord(rec Records) error {
	var gaps, lost []uint32
	c.each(func(r *ratchet, live bool) error {
		bit := c.at(live, 0).index
		for _, n := range slices.Sorted(maps.Keys(r.gaps)) {
			since := uint32(r.gaps[n].since)
			if k := len(gaps); k > 0 && gaps[k-2]+1 == bit|n && gaps[k-1] == since {
				gaps[k-2] = bit | n
			} else {
				gaps = append(gaps, bit|n, bit|n, since)
			}
		}
		for _, l := range r.lost {
			lost = append(lost, bit|l.From, bit|l.To)
		}
		return nil
	})
	var value []byte
	if len(gaps)+len(lost) > 0 {
		value = appendList(appendList(nil, gaps, 3), lost, 2)
	}
	if err := rec.PutRecord(c.recordKey(), value); err != nil {
		return fmt.Errorf("envelope: store record of gaps: %w", err)
	}
	c.recordStale = false
	return nil
}

func appendList(b []byte, list []uint32, width int) []byte {
	b = binary.BigEndian.AppendUint32(b, uint32(len(list)/width))
	for _, v := range list {
		b = binary.BigEndian.AppendUint32(b, v)
	}
	return b
}

func cutList(b []byte, width int) (list []uint32, rest []byte, err error) {
	if len(b) < 4 {
		return nil, nil, malformed("record of gaps")
	}
	n := uint64(binary.BigEndian.Uint32(b)) * uint64(width)
	if b = b[4:]; n > 4*MaxGaps*3 || n*4 > uint64(len(b)) {
		return nil, nil, malformed("record of gaps")
	}
	for range n {
		list, b = append(list, binary.BigEndian.Uint32(b)), b[4:]
	}
	return list, b, nil
}

// readRecord takes over what putRecord wrote.
func (c *chains) readRecord(value []byte) error {
	gaps, rest, err := cutList(value, 3)
	if err != nil {
		return err
	}
	lost, rest, err := cutList(rest, 2)
	if err != nil || len(rest) != 0 {
		return malformed("record of gaps")
	}
	for ; len(gaps) > 0; gaps = gaps[3:] {
		if gaps[1] < gaps[0] || gaps[1]-gaps[0] >= 2*MaxGaps {
			return malformed("record of gaps")
		}
		r := c.ratchet(position{index: gaps[0]})
		if r.gaps == nil {
			r.gaps = map[uint32]*gap{}
		}
		for n := gaps[0] &^ liveBit; n <= gaps[1]&^liveBit; n++ {
			r.gaps[n] = &gap{stored: true, since: int64(gaps[2])}
		}
	}
	for ; len(lost) > 0; lost = lost[2:] {
		r := c.ratchet(position{index: lost[0]})
		r.lost = append(r.lost, Range{lost[0] &^ liveBit, lost[1] &^ liveBit})
	}
	return nil
}
