package sframe

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/sha512"
	"encoding/binary"
	"errors"
	"fmt"
)

// Fixed by RFC 9605 for AES_256_GCM_SHA512_128 (sections 4.4.2 and 4.5).
const (
	Suite     = 0x0005
	keySize   = 32
	nonceSize = 12
	tagSize   = 16

	// MaxOverhead is by how many bytes a sealed frame is longer, at most.
	MaxOverhead = MaxHeader + tagSize
)

// Chosen here (crypto.md, section 9).
const (
	Window    = 128     // counters below the newest one that are still taken
	MaxJump   = 1 << 16 // leap of a counter that is still believed
	MaxFrames = 1 << 32 // frames sealed by one key
	MaxKeys   = 16      // keys an Opener holds
	MaxFrame  = 1 << 20 // bytes of one frame
	minBase   = 16      // bytes of a base key
)

// Errors that callers tell apart.
var (
	// ErrUnknownKey means that no key of that KID is held.
	ErrUnknownKey = errors.New("sframe: unknown key")
	// ErrReplay means that the frame was opened before, or is too old to tell.
	ErrReplay = errors.New("sframe: replayed frame")
	// ErrJump means that the counter leaps too far.
	ErrJump = errors.New("sframe: counter leaps")
	// ErrForged means that the frame was not sealed with this key, or changed.
	ErrForged = errors.New("sframe: frame does not authenticate")
	// ErrSpent means that the key has sealed all it may.
	ErrSpent = errors.New("sframe: key is spent")
	// ErrKey means that a key cannot be used.
	ErrKey = errors.New("sframe: unusable key")
)

// derived is what one base key becomes for one KID: RFC 9605, section 4.4.2.
type derived struct {
	aead cipher.AEAD
	salt [nonceSize]byte
}

func derive(base []byte, kid uint64) (derived, error) {
	var d derived
	if len(base) < minBase {
		return d, fmt.Errorf("sframe: derive: base key of %d bytes: %w", len(base), ErrKey)
	}
	secret, err := hkdf.Extract(sha512.New, base, nil)
	if err != nil {
		return d, fmt.Errorf("sframe: derive: %v: %w", err, ErrKey)
	}
	key, err := hkdf.Expand(sha512.New, secret, label("SFrame 1.0 Secret key ", kid), keySize)
	if err != nil {
		return d, fmt.Errorf("sframe: derive: %v: %w", err, ErrKey)
	}
	salt, err := hkdf.Expand(sha512.New, secret, label("SFrame 1.0 Secret salt ", kid), nonceSize)
	if err != nil {
		return d, fmt.Errorf("sframe: derive: %v: %w", err, ErrKey)
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		return d, fmt.Errorf("sframe: derive: %v: %w", err, ErrKey)
	}
	d.salt = [nonceSize]byte(salt)
	if d.aead, err = cipher.NewGCM(block); err != nil {
		return d, fmt.Errorf("sframe: derive: %v: %w", err, ErrKey)
	}
	return d, nil
}

// label is an info string with KID and suite appended.
func label(text string, kid uint64) string {
	b := binary.BigEndian.AppendUint64([]byte(text), kid)
	return string(binary.BigEndian.AppendUint16(b, Suite))
}

// nonce is the salt with the counter mixed in: RFC 9605, section 4.4.3.
func (d *derived) nonce(ctr uint64) []byte {
	n := d.salt
	tail := n[nonceSize-8:]
	binary.BigEndian.PutUint64(tail, binary.BigEndian.Uint64(tail)^ctr)
	return n[:]
}

// A Sealer seals the frames of one sender. It is not safe for concurrent use.
type Sealer struct {
	key  derived
	kid  uint64
	next uint64
}

// NewSealer returns a sealer whose first frame has the counter 0. A base key
// must be used by one sealer only: a counter that is used twice breaks it.
func NewSealer(base []byte, kid uint64) (*Sealer, error) {
	d, err := derive(base, kid)
	return &Sealer{key: d, kid: kid}, err
}

// Seal appends the sealed frame to dst. metadata is authenticated, not sent.
func (s *Sealer) Seal(dst, frame, metadata []byte) ([]byte, error) {
	if s.next >= MaxFrames {
		return dst, ErrSpent
	}
	if len(frame) > MaxFrame {
		return dst, fmt.Errorf("sframe: seal %d bytes, at most %d: %w", len(frame), MaxFrame, ErrMalformed)
	}
	h := Header{s.kid, s.next}
	s.next++
	at := len(dst)
	dst = h.Append(dst)
	aad := append(dst[at:len(dst):len(dst)], metadata...)
	return s.key.aead.Seal(dst, s.key.nonce(h.CTR), frame, aad), nil
}

// An Opener opens frames of several senders. It is not safe for concurrent
// use.
type Opener struct {
	keys map[uint64]*incoming
}

type incoming struct {
	key    derived
	begun  bool
	newest uint64
	seen   [Window / 64]uint64 // bit i: newest-i was opened
}

// NewOpener returns an opener without keys.
func NewOpener() *Opener { return &Opener{keys: make(map[uint64]*incoming)} }

// Add takes a sender's base key. A KID that is held is replaced.
func (o *Opener) Add(kid uint64, base []byte) error {
	if _, again := o.keys[kid]; !again && len(o.keys) >= MaxKeys {
		return fmt.Errorf("sframe: %d keys are held: %w", len(o.keys), ErrKey)
	}
	d, err := derive(base, kid)
	if err != nil {
		return err
	}
	o.keys[kid] = &incoming{key: d}
	return nil
}

// Remove forgets a key.
func (o *Opener) Remove(kid uint64) { delete(o.keys, kid) }

// Open appends the opened frame to dst.
func (o *Opener) Open(dst, sealed, metadata []byte) ([]byte, error) {
	h, n, err := ParseHeader(sealed)
	if err != nil {
		return dst, err
	}
	if len(sealed)-n < tagSize || len(sealed) > MaxFrame+MaxOverhead {
		return dst, ErrMalformed
	}
	in := o.keys[h.KID]
	if in == nil {
		return dst, ErrUnknownKey
	}
	if err := in.check(h.CTR); err != nil {
		return dst, err
	}
	aad := append(sealed[:n:n], metadata...)
	out, err := in.key.aead.Open(dst, in.key.nonce(h.CTR), sealed[n:], aad)
	if err != nil {
		return dst, ErrForged
	}
	in.note(h.CTR)
	return out, nil
}

// check refuses what must not be opened, before any key is used.
func (in *incoming) check(ctr uint64) error {
	switch {
	case !in.begun:
		return nil // whoever comes late may begin anywhere
	case ctr > in.newest:
		if ctr-in.newest > MaxJump {
			return ErrJump
		}
		return nil
	case in.newest-ctr >= Window:
		return ErrReplay
	}
	if back := in.newest - ctr; in.seen[back/64]>>(back%64)&1 != 0 {
		return ErrReplay
	}
	return nil
}

// note remembers an authentic frame.
func (in *incoming) note(ctr uint64) {
	if !in.begun || ctr > in.newest {
		in.shift(ctr - in.newest)
		in.begun, in.newest = true, ctr
	}
	back := in.newest - ctr
	in.seen[back/64] |= 1 << (back % 64)
}

// shift makes room for n newer counters.
func (in *incoming) shift(n uint64) {
	for ; n >= 64; n -= 64 {
		copy(in.seen[1:], in.seen[:len(in.seen)-1])
		in.seen[0] = 0
		if in.seen == ([Window / 64]uint64{}) {
			return
		}
	}
	if n == 0 {
		return
	}
	for i := len(in.seen) - 1; i >= 0; i-- {
		in.seen[i] <<= n
		if i > 0 {
			in.seen[i] |= in.seen[i-1] >> (64 - n)
		}
	}
}
