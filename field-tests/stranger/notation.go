// Package stranger is a second, minimal peer, written from the documents alone:
// mesh/PROTOCOL.md, mesh/cla/p2p/STREAMS.md, mesh/identity/IDENTITY.md,
// offline/deeplink/DEEPLINK.md and mesh/envelope/ENVELOPE.md. It shares no line
// with the product and imports nothing of it, so what it can do a stranger
// can; where it could not be written, the documents were mended.
//
// It redeems a join link, connects to a real node, is admitted, finds out by
// coded symbols what each lacks, takes bundles into custody and hands one over;
// and it opens the envelopes of the vectors.
package stranger

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/bits"

	"github.com/fxamacker/cbor/v2"
)

// IDENTITY.md 1: labels, hashes, keys.

func label(x string) []byte { return append([]byte("outrider/v1/"+x), 0) }

func join(parts ...[]byte) []byte { return bytes.Join(parts, nil) }

func hash(l string, parts ...[]byte) [32]byte {
	return sha256.Sum256(append(label(l), join(parts...)...))
}

func mac(key []byte, l string, parts ...[]byte) []byte {
	m := hmac.New(sha256.New, key)
	m.Write(label(l))
	m.Write(join(parts...))
	return m.Sum(nil)
}

func derive(secret, salt []byte, l string, context ...[]byte) []byte {
	k, err := hkdf.Key(sha256.New, secret, salt, string(append(label(l), join(context...)...)), 32)
	if err != nil {
		panic(err) // 32 bytes are within HKDF's bounds
	}
	return k
}

// unseal opens nonce 12, ciphertext, tag 16.
func unseal(key, sealed, aad []byte) ([]byte, error) {
	if len(sealed) < 12+16 {
		return nil, errors.New("stranger: sealed bytes too short")
	}
	return gcm(key).Open(nil, sealed[:12], sealed[12:], aad)
}

func gcm(key []byte) cipher.AEAD {
	block, err := aes.NewCipher(key)
	if err != nil {
		panic(err) // keys here have 32 bytes
	}
	g, err := cipher.NewGCM(block)
	if err != nil {
		panic(err)
	}
	return g
}

// Deterministic CBOR (RFC 8949, 4.2.1). Reading here is more lenient than the
// documents ask of a real peer.

var encoding = func() cbor.EncMode {
	m, err := cbor.CoreDetEncOptions().EncMode()
	if err != nil {
		panic(err)
	}
	return m
}()

func encode(v any) []byte {
	b, err := encoding.Marshal(v)
	if err != nil {
		panic(err) // only what this package makes is encoded
	}
	return b
}

func u16(n int) []byte    { return binary.BigEndian.AppendUint16(nil, uint16(n)) }
func u32(n uint32) []byte { return binary.BigEndian.AppendUint32(nil, n) }
func u64(n uint64) []byte { return binary.BigEndian.AppendUint64(nil, n) }

// PROTOCOL.md 2: notation of frames.

func uvarint(n uint64) []byte { return binary.AppendUvarint(nil, n) }

func part(b []byte) []byte { return append(uvarint(uint64(len(b))), b...) }

// A reader takes a frame apart; the first fault stays.
type reader struct {
	b   []byte
	err error
}

func (r *reader) bytes(n uint64) []byte {
	if n > uint64(len(r.b)) {
		r.err, r.b = errors.Join(r.err, io.ErrUnexpectedEOF), nil
		return make([]byte, min(n, 64))
	}
	out := r.b[:n]
	r.b = r.b[n:]
	return out
}

func (r *reader) uvarint() uint64 {
	n, size := binary.Uvarint(r.b)
	if size <= 0 {
		r.err, r.b = errors.Join(r.err, io.ErrUnexpectedEOF), nil
		return 0
	}
	r.b = r.b[size:]
	return n
}

func (r *reader) part() []byte { return r.bytes(r.uvarint()) }
func (r *reader) byte() byte   { return r.bytes(1)[0] }
func (r *reader) u64() uint64  { return binary.BigEndian.Uint64(r.bytes(8)) }

func (r *reader) zigzag() int64 {
	n := r.uvarint()
	return int64(n>>1) ^ -int64(n&1)
}

func zigzag(n int64) []byte { return uvarint(uint64(n<<1) ^ uint64(n>>63)) }

// STREAMS.md: blocks.

func readUvarint(r io.Reader) (uint64, error) {
	var n uint64
	var b [1]byte
	for shift := 0; shift < 35; shift += 7 {
		if _, err := io.ReadFull(r, b[:]); err != nil {
			return 0, err
		}
		n |= uint64(b[0]&0x7f) << shift
		if b[0] < 0x80 {
			return n, nil
		}
	}
	return 0, errors.New("stranger: length too long")
}

func readBlock(r io.Reader, limit uint64) ([]byte, error) {
	n, err := readUvarint(r)
	if err != nil {
		return nil, err
	}
	if n == 0 || n > limit {
		return nil, fmt.Errorf("stranger: block of %d bytes, at most %d", n, limit)
	}
	b := make([]byte, n)
	_, err = io.ReadFull(r, b)
	return b, err
}

// sipHash is SipHash-2-4, whose key is two little-endian words.
func sipHash(key [16]byte, data []byte) uint64 {
	k0, k1 := binary.LittleEndian.Uint64(key[:]), binary.LittleEndian.Uint64(key[8:])
	v := [4]uint64{k0 ^ 0x736f6d6570736575, k1 ^ 0x646f72616e646f6d, k0 ^ 0x6c7967656e657261, k1 ^ 0x7465646279746573}
	rounds := func(n int) {
		for range n {
			v[0] += v[1]
			v[1] = bits.RotateLeft64(v[1], 13) ^ v[0]
			v[0] = bits.RotateLeft64(v[0], 32)
			v[2] += v[3]
			v[3] = bits.RotateLeft64(v[3], 16) ^ v[2]
			v[0] += v[3]
			v[3] = bits.RotateLeft64(v[3], 21) ^ v[0]
			v[2] += v[1]
			v[1] = bits.RotateLeft64(v[1], 17) ^ v[2]
			v[2] = bits.RotateLeft64(v[2], 32)
		}
	}
	last := make([]byte, 8)
	copy(last, data[len(data)/8*8:])
	last[7] = byte(len(data))
	for _, b := range [][]byte{data[:len(data)/8*8], last} {
		for ; len(b) > 0; b = b[8:] {
			m := binary.LittleEndian.Uint64(b)
			v[3] ^= m
			rounds(2)
			v[0] ^= m
		}
	}
	v[2] ^= 0xff
	rounds(4)
	return v[0] ^ v[1] ^ v[2] ^ v[3]
}
