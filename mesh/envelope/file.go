package envelope

import (
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/bits"

	"github.com/klauspost/compress/zstd"

	"outrider/mesh/blob"
	"outrider/mesh/identity"
)

// A FileKey opens one file. Whoever has it and the leaves reads the file.
type FileKey [32]byte

// Format implements fmt.Formatter, so that no verb prints the key.
func (FileKey) Format(s fmt.State, _ rune) { fmt.Fprint(s, "redacted") }

// LogValue implements slog.LogValuer.
func (FileKey) LogValue() slog.Value { return slog.StringValue("redacted") }

// A FileSeal is how a file was sealed: what a reader needs besides the leaves.
//
// The sealed stream is the file, packed or not, followed by zeros. It is cut
// into pieces of leafPlain bytes, each of which becomes one leaf of ciphertext.
type FileSeal struct {
	Blob   blob.Descriptor // of the ciphertext
	Key    FileKey
	Size   uint64 // of the file, bytes
	Stream uint64 // of the stream without its zeros, bytes
	Packed bool   // the stream is one zstd frame
}

// leafPlain is the plaintext of a full leaf, bytes.
const leafPlain = blob.LeafSize - aeadExtra

// A LeafWriter takes the leaves of a file in order. The data is good until it returns.
type LeafWriter interface {
	WriteLeaf(i int, data []byte) error
}

// EncryptFile seals what r yields into leaves. The leaves are complete only
// when it returns nil; the hashes prove them to relays. Memory is bounded
// whatever the length, but for 32 B per leaf.
func EncryptFile(r io.Reader, w LeafWriter, p Padding) (FileSeal, blob.Hashes, error) {
	var s FileSeal
	rand.Read(s.Key[:])
	probe := make([]byte, packProbe)
	n, err := io.ReadFull(r, probe)
	switch {
	case errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF):
		r = nil // all of it is in the probe
	case err != nil:
		return s, blob.Hashes{}, fmt.Errorf("envelope: encrypt file: read: %w", err)
	}
	probe = probe[:n]
	s.Packed = packs(probe)
	lw := &leafCutter{out: w, key: fileLeafKey(s.Key)}
	if s.Size, err = s.copy(lw, probe, r); err != nil {
		return s, blob.Hashes{}, err
	}
	s.Stream = lw.length
	zeros := paddedLength(p, s.Stream, s.Size) - s.Stream
	if err := errors.Join(lw.zeros(zeros), lw.close()); err != nil {
		return s, blob.Hashes{}, err
	}
	root, hashes := lw.tree.Finish()
	s.Blob = blob.Descriptor{Root: root, Length: lw.tree.Length()}
	return s, hashes, nil
}

// packProbe is how much of a file decides whether it is packed, bytes. A file
// no longer than that is decided by its own packed size.
const packProbe = 1 << 20

func fileEncoder(w io.Writer) *zstd.Encoder {
	e, err := zstd.NewWriter(w, zstd.WithEncoderConcurrency(1), zstd.WithWindowSize(fileWindow), zstd.WithLowerEncoderMem(true))
	if err != nil {
		panic("envelope: " + err.Error()) // the options are constants
	}
	return e
}

// packs reports whether packing makes the beginning of a file more than 5 %
// smaller.
func packs(probe []byte) bool {
	var c counter
	e := fileEncoder(&c)
	e.Write(probe) // a counter does not fail
	e.Close()
	return uint64(c)*20 < uint64(len(probe))*19
}

type counter uint64

func (c *counter) Write(b []byte) (int, error) { *c += counter(len(b)); return len(b), nil }

// copy writes the stream: the probe and what is left of r.
func (s *FileSeal) copy(w io.Writer, probe []byte, r io.Reader) (size uint64, err error) {
	dst := w
	var e *zstd.Encoder
	if s.Packed {
		e = fileEncoder(w)
		dst = e
	}
	_, err = dst.Write(probe)
	n := int64(0)
	if err == nil && r != nil {
		n, err = io.Copy(dst, r)
	}
	if e != nil {
		err = errors.Join(err, e.Close())
	}
	if err != nil {
		return 0, fmt.Errorf("envelope: encrypt file: %w", err)
	}
	return uint64(len(probe)) + uint64(n), nil
}

// paddedLength hides a file's length: the lowest bits of the length are
// rounded up so that about log log n of them remain (Padmé, from "Reducing
// Metadata Leakage from Encrypted Files and Communication with PURBs"), at
// most 12 %, under 3 % from 5 MB on. It is never so short that the file would
// be more than maxRatio times the stream, nor empty.
func paddedLength(p Padding, stream, size uint64) uint64 {
	n := max(stream, (size+maxRatio-1)/maxRatio, 1)
	switch {
	case p == PadOff:
		return n
	case p == Pad64 || n <= 512:
		return (n + 63) / 64 * 64
	}
	exponent := bits.Len64(n) - 1
	drop := exponent - bits.Len(uint(exponent))
	mask := uint64(1)<<drop - 1
	return (n + mask) &^ mask
}

func fileLeafKey(k FileKey) key { return key(k).derive(identity.LabelFileKey) }

// leafAAD makes each leaf fit one place only, and the last one nowhere but at
// the end.
func leafAAD(i int, last bool) []byte {
	b := binary.BigEndian.AppendUint64(identity.LabelFileLeaf.Prefix(), uint64(i))
	if last {
		return append(b, 1)
	}
	return append(b, 0)
}

// A leafCutter cuts a stream into leaves. A full piece waits until it is known
// whether more follows, for the last leaf is marked.
type leafCutter struct {
	out    LeafWriter
	key    key
	tree   blob.Builder
	piece  []byte
	sealed []byte
	length uint64
	next   int
}

func (c *leafCutter) Write(b []byte) (int, error) {
	written := len(b)
	for len(b) > 0 {
		if len(c.piece) == leafPlain {
			if err := c.flush(false); err != nil {
				return 0, err
			}
		}
		n := min(len(b), leafPlain-len(c.piece))
		c.piece, b = append(c.piece, b[:n]...), b[n:]
		c.length += uint64(n)
	}
	return written, nil
}

var zeroPage [4096]byte

func (c *leafCutter) zeros(n uint64) error {
	for n > 0 {
		m := min(n, uint64(len(zeroPage)))
		if _, err := c.Write(zeroPage[:m]); err != nil {
			return err
		}
		n -= m
	}
	return nil
}

func (c *leafCutter) close() error { return c.flush(true) }

func (c *leafCutter) flush(last bool) error {
	c.sealed = c.key.seal(c.sealed[:0], c.piece, leafAAD(c.next, last))
	if err := c.tree.AddLeaf(c.sealed); err != nil {
		return fmt.Errorf("envelope: encrypt file: %w", err)
	}
	if err := c.out.WriteLeaf(c.next, c.sealed); err != nil {
		return fmt.Errorf("envelope: encrypt file: write leaf %d: %w", c.next, err)
	}
	c.piece = c.piece[:0]
	c.next++
	return nil
}
