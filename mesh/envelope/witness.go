package envelope

import (
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"

	"outrider/mesh/identity"
)

// A vault can go back: its newest commit is damaged, or somebody put a copy of
// yesterday into its place. Chains that went back with it would seal a second
// message under a key that is out already. So how far this device's chains
// were handed out stands in a record too, written before the vault's commit,
// and a chain behind its record skips ahead to it. A crash between the two
// costs a block of indexes, and nothing else; a chain further behind makes its
// epoch one to be replaced.
//
// Record: "used/" + epoch; counter of the mail chain (4 B), of the live chain
// (4 B), both exclusive.
const usedPrefix = "used/"

// used is how far one chain of this device was handed out by the record.
type used struct {
	until   uint32
	checked bool // the chain in the vault was compared with it
}

func chainNumber(live bool) int {
	if live {
		return 1
	}
	return 0
}

// skipUsed moves a chain that is behind its record ahead, once after loading.
func (e *epoch) skipUsed(live bool, r *ratchet) {
	u := &e.used[chainNumber(live)]
	if !u.checked && r.next < u.until {
		_, _, r.key = r.seek(u.until - 1)
		r.next = u.until
	}
	u.checked = true
}

// wentBack reports whether the own chains of an epoch are further behind their
// record than a crash explains.
func (k *Keyring) wentBack(e *epoch) (bool, error) {
	c := e.member(e.slot)
	switch err := c.load(k.box); {
	case errors.Is(err, ErrNoSecret):
		return true, nil
	case err != nil:
		return false, err
	}
	behind := func(r *ratchet, u used) bool { return r.next < u.until && u.until-r.next > reserveBlock }
	return behind(&c.mail, e.used[0]) || behind(&c.live, e.used[1]), nil
}

// witness records that a chain is handed out up to a counter.
func (k *Keyring) witness(e *epoch, live bool, until uint32) error {
	u := &e.used[chainNumber(live)]
	if until <= u.until {
		return nil // a commit that failed is tried again
	}
	before := u.until
	u.until = until
	value := binary.BigEndian.AppendUint32(binary.BigEndian.AppendUint32(nil, e.used[0].until), e.used[1].until)
	if err := k.rec.PutRecord(usedPrefix+e.id.String(), value); err != nil {
		u.until = before
		return fmt.Errorf("envelope: store record of used indexes: %w", err)
	}
	return nil
}

func (k *Keyring) loadWitness() error {
	var gone []string
	for name, value := range k.rec.Records(usedPrefix) {
		raw, err := hex.DecodeString(name[len(usedPrefix):])
		if err != nil || len(raw) != len(EpochID{}) || len(value) != 8 {
			return malformed("record of used indexes")
		}
		e := k.epochs[EpochID(raw)]
		if e == nil {
			gone = append(gone, name)
			continue
		}
		e.used[0].until, e.used[1].until = binary.BigEndian.Uint32(value), binary.BigEndian.Uint32(value[4:])
		if max(e.used[0].until, e.used[1].until) > liveBit {
			return malformed("record of used indexes")
		}
		back, err := k.wentBack(e)
		if err == nil && back {
			k.rolledBack = true
			err = k.markRefresh(e)
		}
		if err != nil {
			return err
		}
	}
	for _, name := range gone {
		if err := k.rec.PutRecord(name, nil); err != nil {
			return fmt.Errorf("envelope: delete record of used indexes: %w", err)
		}
	}
	return nil
}

// RolledBack reports whether the vault was found to have lost what was
// committed last. Messages may not open that came since; every conversation
// starts a new epoch before the next one is sent.
func (k *Keyring) RolledBack() bool {
	k.lock()
	defer k.mu.Unlock()
	return k.rolledBack
}

// recoveryMark is put into a vault that went back, so that it commits and
// does not say so again.
var recoveryMark = identity.Hash(identity.LabelEnvelopeID, []byte("recovered"))

// recover takes a vault that says it went back: all epochs are to be replaced.
func (k *Keyring) recover() error {
	k.rolledBack = true
	var errs []error
	for _, e := range k.epochs {
		errs = append(errs, k.markRefresh(e))
	}
	if err := errors.Join(errs...); err != nil {
		return err
	}
	id := secretID(recoveryMark[:16])
	if err := k.box.put(id, []byte{1}); err != nil {
		return err
	}
	if err := k.box.commit(); err != nil {
		return err
	}
	return k.box.shred(id) // with the next commit
}
