package store

import (
	"crypto/aes"
	"crypto/cipher"
	"encoding/binary"
	"fmt"
)

// A vault page is 4 KiB: 4080 bytes under AES-256-GCM and the tag. Each page
// that is written has a random key of its own, kept in its parent and used for
// nothing else, so the nonce is zero. Inside:
//
//	version 1, kind 1, zero 2, expiry hour 4 (leaf; else zero), zero 4
//	leaf   36 slots: id 16, length+1 (0: free) 1, value 96
//	index  113 children: page number 4 (0: none), key 32; zero 16... to the end
//	root   as index, its children are index pages
//
// Page n (from 1) lies at offset (n-1)*4096. A vault holds 113*113 leaves,
// 459,684 values.
const (
	pageSize    = 4096
	pageTag     = 16
	pagePlain   = pageSize - pageTag
	pageHead    = 12
	slotSize    = 16 + 1 + MaxSecret
	leafSlots   = (pagePlain - pageHead) / slotSize
	childSize   = 4 + 32
	fanout      = (pagePlain - pageHead) / childSize
	maxLeaves   = fanout * fanout
	pageVersion = 1
)

// MaxSecret is the length of the longest value a vault keeps, in bytes.
const MaxSecret = 96

type pageKind uint8

const (
	kindLeaf pageKind = iota + 1
	kindIndex
	kindRoot
)

func (k pageKind) String() string {
	return [...]string{"unknown", "leaf", "index", "root"}[min(k, kindRoot)]
}

// A child is how a page is found and opened. Page 0 is no page.
type child struct {
	page uint32
	key  [32]byte
}

// A leaf is the content of a leaf page.
type leaf struct {
	hour  uint32
	slots [leafSlots]slot
}

type slot struct {
	used  bool
	id    [16]byte
	value []byte
}

func (l *leaf) count() (n int) {
	for i := range l.slots {
		if l.slots[i].used {
			n++
		}
	}
	return n
}

func (l *leaf) encode() []byte {
	b := make([]byte, pagePlain)
	b[0], b[1] = pageVersion, byte(kindLeaf)
	binary.BigEndian.PutUint32(b[4:], l.hour)
	for i, s := range l.slots {
		if !s.used {
			continue
		}
		at := b[pageHead+i*slotSize:]
		copy(at, s.id[:])
		at[16] = byte(len(s.value) + 1)
		copy(at[17:], s.value)
	}
	return b
}

func parseLeaf(b []byte) (*leaf, error) {
	if err := checkPage(b, kindLeaf); err != nil {
		return nil, err
	}
	l := &leaf{hour: binary.BigEndian.Uint32(b[4:])}
	for i := range l.slots {
		at := b[pageHead+i*slotSize:][:slotSize]
		n := int(at[16]) - 1
		if n > MaxSecret || !zero(at[17+max(n, 0):]) || n < 0 && !zero(at) {
			return nil, fmt.Errorf("slot %d: %w", i, ErrCorrupt)
		}
		if n >= 0 {
			l.slots[i] = slot{used: true, id: [16]byte(at[:16]), value: at[17 : 17+n : 17+n]}
		}
	}
	return l, nil
}

func encodeChildren(kind pageKind, children *[fanout]child) []byte {
	b := make([]byte, pagePlain)
	b[0], b[1] = pageVersion, byte(kind)
	for i, c := range children {
		if c.page == 0 {
			continue
		}
		at := b[pageHead+i*childSize:]
		binary.BigEndian.PutUint32(at, c.page)
		copy(at[4:], c.key[:])
	}
	return b
}

func parseChildren(kind pageKind, b []byte) (*[fanout]child, error) {
	if err := checkPage(b, kind); err != nil {
		return nil, err
	}
	if !zero(b[4:pageHead]) || !zero(b[pageHead+fanout*childSize:]) {
		return nil, fmt.Errorf("head or end: %w", ErrCorrupt)
	}
	var children [fanout]child
	for i := range children {
		at := b[pageHead+i*childSize:][:childSize]
		children[i] = child{page: binary.BigEndian.Uint32(at), key: [32]byte(at[4:])}
		if children[i].page == 0 && !zero(at) {
			return nil, fmt.Errorf("child %d: %w", i, ErrCorrupt)
		}
	}
	return &children, nil
}

func checkPage(b []byte, kind pageKind) error {
	if len(b) != pagePlain || b[0] != pageVersion || b[1] != byte(kind) || b[2] != 0 || b[3] != 0 || !zero(b[8:pageHead]) {
		return fmt.Errorf("head: %w", ErrCorrupt)
	}
	return nil
}

func zero(b []byte) bool {
	for _, x := range b {
		if x != 0 {
			return false
		}
	}
	return true
}

const pageLabel = "outrider/v1/vault-page\x00"

func pageAAD(vault [16]byte, kind pageKind) []byte {
	return append(append([]byte(pageLabel), vault[:]...), byte(kind))
}

// sealPage encrypts a page under a key that is used this once.
func sealPage(key [32]byte, vault [16]byte, kind pageKind, plain []byte) []byte {
	var nonce [12]byte
	return gcm(key).Seal(make([]byte, 0, pageSize), nonce[:], plain, pageAAD(vault, kind))
}

func openPage(key [32]byte, vault [16]byte, kind pageKind, sealed []byte) ([]byte, error) {
	var nonce [12]byte
	plain, err := gcm(key).Open(nil, nonce[:], sealed, pageAAD(vault, kind))
	if err != nil {
		return nil, fmt.Errorf("%v page: %w", kind, ErrCorrupt)
	}
	return plain, nil
}

func gcm(key [32]byte) cipher.AEAD {
	block, err := aes.NewCipher(key[:])
	if err != nil {
		panic(err) // 32 bytes are a key
	}
	g, err := cipher.NewGCM(block)
	if err != nil {
		panic(err)
	}
	return g
}
