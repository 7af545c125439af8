package envelope

import (
	"encoding/binary"
	"errors"
	"fmt"
	"iter"

	"outrider/mesh/identity"
)

// A Vault keeps small secrets and can forget them: after Shred and Commit no
// byte on the disk leads to the value. Implementations are safe for
// concurrent use.
type Vault interface {
	// Put sets a secret of at most 96 bytes; it may replace another.
	Put(id [16]byte, value []byte) error
	// Get returns the secret as the last Put left it, committed or not. For an
	// id that is not held the error wraps ErrNoSecret.
	Get(id [16]byte) ([]byte, error)
	// Shred forgets a secret; one that is not held is no error.
	Shred(id [16]byte) error
	// Commit makes all Puts and Shreds since the last Commit durable, all or
	// none of them.
	Commit() error
}

// fallible is a Vault that can tell whether it lost, to a damaged disk, what
// was committed last. It says so as long as it is open, and again
// when it is opened before a commit.
type fallible interface{ FellBack() bool }

// Records keeps what is not secret but nobody's business: operations,
// rosters, numbers. The implementation encrypts it.
type Records interface {
	// PutRecord sets a record; nil deletes it. It is durable when it returns.
	PutRecord(key string, value []byte) error
	// Records yields the records whose keys begin with prefix, in any order.
	Records(prefix string) iter.Seq2[string, []byte]
}

// The kinds of secret in a vault; the first byte behind their id's label.
const (
	secretPrekey = 1 // number (4 B): KEM seed
	secretEpoch  = 2 // epoch (8 B): tag key, header key, control key
	secretChains = 3 // epoch (8 B), slot (2 B): mail key, counter, live key, counter
	secretGap    = 4 // epoch (8 B), slot (2 B), index (4 B): message key
)

// A strongbox is the vault as this package sees it. The ids it uses are MACs,
// so that they reveal neither epochs nor how many there are.
type strongbox struct {
	vault Vault
	ids   key
}

func newStrongbox(v Vault, device identity.PrivateKey) strongbox {
	return strongbox{v, key(identity.Derive(device.Seed(), identity.LabelEnvelopeID))}
}

type secretID [16]byte

func (s strongbox) id(kind byte, context ...[]byte) secretID {
	m := identity.MAC(s.ids, identity.LabelEnvelopeID, append([][]byte{{kind}}, context...)...)
	return secretID(m[:16])
}

func (s strongbox) prekeyID(number uint32) secretID {
	return s.id(secretPrekey, binary.BigEndian.AppendUint32(nil, number))
}

func (s strongbox) epochID(e EpochID) secretID { return s.id(secretEpoch, e[:]) }

func (s strongbox) chainsID(e EpochID, slot int) secretID {
	return s.id(secretChains, e[:], binary.BigEndian.AppendUint16(nil, uint16(slot)))
}

func (s strongbox) gapID(e EpochID, at position) secretID {
	b := at.bytes()
	return s.id(secretGap, e[:], b[:])
}

func (s strongbox) put(id secretID, parts ...[]byte) error {
	var value []byte
	for _, p := range parts {
		value = append(value, p...)
	}
	defer clear(value)
	if err := s.vault.Put(id, value); err != nil {
		return fmt.Errorf("envelope: store secret: %w", err)
	}
	return nil
}

// get returns a secret of exactly size bytes. ErrNoSecret is passed on.
func (s strongbox) get(id secretID, size int) ([]byte, error) {
	v, err := s.vault.Get(id)
	switch {
	case errors.Is(err, ErrNoSecret):
		return nil, ErrNoSecret
	case err != nil:
		return nil, fmt.Errorf("envelope: read secret: %w", err)
	case len(v) != size:
		return nil, fmt.Errorf("envelope: read secret: %d bytes, want %d", len(v), size)
	}
	return v, nil
}

func (s strongbox) getKey(id secretID) (k key, err error) {
	v, err := s.get(id, len(k))
	if err != nil {
		return k, err
	}
	defer clear(v)
	return key(v), nil
}

func (s strongbox) shred(id secretID) error {
	if err := s.vault.Shred(id); err != nil {
		return fmt.Errorf("envelope: shred secret: %w", err)
	}
	return nil
}

func (s strongbox) commit() error {
	if err := s.vault.Commit(); err != nil {
		return fmt.Errorf("envelope: commit secrets: %w", err)
	}
	return nil
}
