package store

import (
	"bytes"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"outrider/store/internal/vfs"
)

// The anchor is the 32 bytes that open the root page. Its file has two slots
// of 512 bytes, at 0 and 4096; the one not in use holds zeros:
//
//	magic "ORvault1", generation 8, vault id 16
//	nonce 12, sealed { anchor 32, page of the root 4 } with tag 16
//	zeros; first 8 bytes of SHA-256 of what is before
//
// The seal is AES-256-GCM under HMAC-SHA-256(KEK, label || vault id ||
// generation), with what is before the nonce as additional data.
//
// A commit writes the slot not in use, syncs, overwrites the other with zeros,
// syncs. After a crash between the two, the higher generation counts and Open
// overwrites the other. A slot half written has a wrong check and does not
// count. Disks write a sector as a whole, so such a slot is more likely one
// that was damaged later, and what was committed with it is lost: FellBack.
const (
	anchorMagic  = "ORvault1"
	anchorLabel  = "outrider/v1/vault-anchor\x00"
	anchorSlot   = 512
	anchorStride = 4096
	anchorFile   = 2 * anchorStride
)

// An anchor says where the tree of pages begins.
type anchor struct {
	generation uint64
	vault      [16]byte
	root       child
}

func anchorKey(kek [32]byte, vault [16]byte, generation uint64) (key [32]byte) {
	m := hmac.New(sha256.New, kek[:])
	m.Write([]byte(anchorLabel))
	m.Write(vault[:])
	m.Write(binary.BigEndian.AppendUint64(nil, generation))
	m.Sum(key[:0])
	return key
}

func (a anchor) head() []byte {
	b := binary.BigEndian.AppendUint64([]byte(anchorMagic), a.generation)
	return append(b, a.vault[:]...)
}

func (a anchor) seal(kek [32]byte) []byte {
	var nonce [12]byte
	rand.Read(nonce[:])
	plain := binary.BigEndian.AppendUint32(bytes.Clone(a.root.key[:]), a.root.page)
	b := append(a.head(), nonce[:]...)
	b = gcm(anchorKey(kek, a.vault, a.generation)).Seal(b, nonce[:], plain, a.head())
	b = append(b, make([]byte, anchorSlot-checkSize-len(b))...)
	sum := sha256.Sum256(b)
	return append(b, sum[:checkSize]...)
}

// errNoAnchor says that a slot holds no whole anchor.
var errNoAnchor = errors.New("no anchor")

// openAnchor reads a slot. It returns errNoAnchor for one that is empty or
// torn, ErrWrongKey for a whole one that kek does not open.
func openAnchor(slot []byte, kek [32]byte) (anchor, error) {
	var a anchor
	if len(slot) != anchorSlot {
		return a, errNoAnchor
	}
	sum := sha256.Sum256(slot[:anchorSlot-checkSize])
	c := cutter{rest: slot[:anchorSlot-checkSize]}
	if string(c.take(len(anchorMagic))) != anchorMagic || !bytes.Equal(sum[:checkSize], slot[anchorSlot-checkSize:]) {
		return a, errNoAnchor
	}
	a.generation = c.uint64()
	c.copy(a.vault[:])
	nonce := c.take(12)
	plain, err := gcm(anchorKey(kek, a.vault, a.generation)).Open(nil, nonce, c.take(32+4+16), a.head())
	if err != nil {
		return a, ErrWrongKey
	}
	a.root = child{key: [32]byte(plain[:32]), page: binary.BigEndian.Uint32(plain[32:])}
	if a.root.page == 0 || !zero(c.rest) {
		return a, fmt.Errorf("anchor: %w", ErrCorrupt)
	}
	return a, nil
}

// A rest is what the slot beside the anchor that counts holds.
type rest uint8

const (
	restZeros   rest = iota
	restAnchor       // whole, of an older generation
	restDamaged      // half written, or damaged: perhaps newer than the one that counts
)

// readAnchor finds the anchor that counts, the slot it is in, and what the
// other slot holds.
func readAnchor(f vfs.File, kek [32]byte) (best anchor, slot int, other rest, err error) {
	best, slot, err = anchor{}, -1, errNoAnchor
	var raw [2][]byte
	var whole [2]bool
	for i := range raw {
		raw[i] = make([]byte, anchorSlot)
		if _, rerr := f.ReadAt(raw[i], int64(i)*anchorStride); rerr != nil && !errors.Is(rerr, io.EOF) {
			return best, -1, restZeros, rerr
		}
		a, aerr := openAnchor(raw[i], kek)
		whole[i] = !errors.Is(aerr, errNoAnchor)
		switch {
		case aerr == nil && (slot < 0 || a.generation > best.generation):
			best, slot, err = a, i, nil
		case slot < 0 && !errors.Is(aerr, errNoAnchor):
			err = aerr
		}
	}
	switch {
	case slot < 0:
		return best, slot, restZeros, err
	case zero(raw[1-slot]):
		return best, slot, restZeros, nil
	case whole[1-slot]:
		return best, slot, restAnchor, nil
	}
	return best, slot, restDamaged, nil
}

// writeAnchor makes a the durable content of a slot.
func writeAnchor(f vfs.File, slot int, a anchor, kek [32]byte) error {
	if _, err := f.WriteAt(a.seal(kek), int64(slot)*anchorStride); err != nil {
		return err
	}
	return f.Sync()
}

// eraseAnchor overwrites a slot.
func eraseAnchor(f vfs.File, slot int) error {
	if _, err := f.WriteAt(make([]byte, anchorSlot), int64(slot)*anchorStride); err != nil {
		return err
	}
	return f.Sync()
}
