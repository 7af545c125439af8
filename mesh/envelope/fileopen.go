package envelope

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"slices"
	"unicode/utf8"

	"github.com/klauspost/compress/zstd"

	"outrider/mesh/blob"
	"outrider/mesh/identity"
)

// A LeafReader gives the leaves of one blob in any order.
type LeafReader interface {
	ReadLeaf(i int) ([]byte, error)
}

// streamLength is the length of the sealed stream with its zeros.
func (s FileSeal) streamLength() uint64 {
	return s.Blob.Length - uint64(s.Blob.Geometry().Leaves())*aeadExtra
}

// Check reports whether the numbers of a seal fit each other: the stream fits
// the leaves, and the file is at most a hundred times the stream.
func (s FileSeal) Check() error {
	if err := s.Blob.Check(); err != nil {
		return fmt.Errorf("envelope: file: %v: %w", err, ErrMalformed)
	}
	g := s.Blob.Geometry()
	switch {
	case g.LeafLen(g.Leaves()-1) <= aeadExtra:
		return malformed("file: last leaf is empty")
	case s.Stream > s.streamLength():
		return malformed("file: stream longer than its leaves")
	case s.Packed && (s.Stream == 0 || s.Size > maxRatio*s.streamLength()):
		return malformed("file: packed beyond measure")
	case !s.Packed && s.Size != s.Stream:
		return malformed("file: size is not that of the stream")
	}
	return nil
}

// OpenLeaf opens leaf i of a file. The result is good until the buffer that
// holds the leaf is changed. Of a file that is not packed, the plaintext of
// leaf i begins at i times the plaintext of a full leaf and may end in zeros
// beyond the file.
func (s FileSeal) OpenLeaf(i int, leaf []byte) ([]byte, error) {
	g := s.Blob.Geometry()
	if i < 0 || i >= g.Leaves() || len(leaf) != g.LeafLen(i) {
		return nil, forged(fmt.Sprintf("open leaf %d of %d bytes", i, len(leaf)))
	}
	plain, err := fileLeafKey(s.Key).open(leaf, leafAAD(i, i == g.Leaves()-1))
	if err != nil {
		return nil, forged(fmt.Sprintf("open leaf %d", i))
	}
	return plain, nil
}

// ReadRange returns bytes of a file that is not packed, from offset on, at
// most n; it opens only the leaves it needs.
func (s FileSeal) ReadRange(leaves LeafReader, offset uint64, n int) ([]byte, error) {
	if err := s.Check(); err != nil {
		return nil, err
	}
	if s.Packed {
		return nil, fmt.Errorf("envelope: read range of a packed file: %w", ErrUnsupported)
	}
	var out []byte
	for n > 0 && offset < s.Size {
		i, skip := int(offset/leafPlain), offset%leafPlain
		leaf, err := leaves.ReadLeaf(i)
		if err != nil {
			return nil, fmt.Errorf("envelope: read leaf %d: %w", i, err)
		}
		plain, err := s.OpenLeaf(i, leaf)
		if err != nil {
			return nil, err
		}
		plain = plain[skip:]
		plain = plain[:min(uint64(len(plain)), uint64(n), s.Size-offset)]
		out = append(out, plain...)
		n, offset = n-len(plain), offset+uint64(len(plain))
	}
	return out, nil
}

// DecryptFile opens a file and writes it to w. Every byte written belongs to
// the leaf its seal says, but only nil means that the file is whole and is the
// one of the manifest: write to a temporary file and release it then.
func DecryptFile(s FileSeal, leaves LeafReader, w io.Writer) error {
	if err := s.Check(); err != nil {
		return err
	}
	in := &leafStream{seal: s, leaves: leaves}
	body := io.Reader(io.LimitReader(in, int64(s.Stream)))
	var err error
	if s.Packed {
		err = unpackFile(body, w, s.Size)
	} else {
		_, err = io.Copy(w, body)
	}
	if err != nil {
		return fmt.Errorf("envelope: decrypt file: %w", err)
	}
	return in.finish()
}

// unpackFile writes size bytes of a zstd stream; more or fewer are malformed.
func unpackFile(r io.Reader, w io.Writer, size uint64) error {
	d, err := zstd.NewReader(r, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true), zstd.WithDecoderMaxWindow(maxWindow))
	if err != nil {
		return malformed("packed stream")
	}
	defer d.Close()
	out := &faultTap{w: w}
	n, err := io.Copy(out, io.LimitReader(d, int64(size)+1))
	switch {
	case out.err != nil:
		return out.err
	case err != nil:
		return packFault(err)
	case uint64(n) != size:
		return malformed("packed stream has another size")
	}
	return nil
}

// packFault keeps our own errors, which the decoder passes on, and makes its
// own malformed.
func packFault(err error) error {
	for _, class := range []error{ErrForged, ErrMalformed, errLeaf} {
		if errors.Is(err, class) {
			return err
		}
	}
	return malformed("packed stream")
}

// A faultTap remembers that the destination failed: such an error is not the
// fault of the stream.
type faultTap struct {
	w   io.Writer
	err error
}

func (t *faultTap) Write(b []byte) (n int, err error) {
	n, err = t.w.Write(b)
	if err != nil {
		t.err = err
	}
	return n, err
}

// errLeaf marks errors of the LeafReader.
var errLeaf = errors.New("read leaf")

// A leafStream reads the plaintext of all leaves and hashes the leaves.
type leafStream struct {
	seal   FileSeal
	leaves LeafReader
	tree   blob.Builder
	next   int
	rest   []byte
}

func (s *leafStream) Read(b []byte) (int, error) {
	for len(s.rest) == 0 {
		if s.next == s.seal.Blob.Geometry().Leaves() {
			return 0, io.EOF
		}
		if err := s.advance(); err != nil {
			return 0, err
		}
	}
	n := copy(b, s.rest)
	s.rest = s.rest[n:]
	return n, nil
}

func (s *leafStream) advance() error {
	leaf, err := s.leaves.ReadLeaf(s.next)
	if err != nil {
		return fmt.Errorf("%w %d: %w", errLeaf, s.next, err)
	}
	if s.rest, err = s.seal.OpenLeaf(s.next, leaf); err != nil {
		return err
	}
	if err := s.tree.AddLeaf(leaf); err != nil {
		return fmt.Errorf("leaf %d: %v: %w", s.next, err, ErrForged)
	}
	s.next++
	return nil
}

// finish checks that what follows the stream is zeros and that the leaves are
// those of the root.
func (s *leafStream) finish() error {
	buf := make([]byte, len(zeroPage))
	for {
		n, err := s.Read(buf)
		if !bytes.Equal(buf[:n], zeroPage[:n]) {
			return malformed("decrypt file: padding is not zero")
		}
		if err == io.EOF {
			break
		}
		if err != nil {
			return fmt.Errorf("envelope: decrypt file: %w", err)
		}
	}
	if root, _ := s.tree.Finish(); root != s.seal.Blob.Root {
		return forged("decrypt file: leaves are not those of the manifest")
	}
	return nil
}

// A File is the body of TypeFile.
type File struct {
	Name string // as the sender wrote it; see SafeName
	Type string // media type, as the sender says
	Seal FileSeal
}

const maxMediaType = 127

// SafeName is the name under which the file may be stored here.
func (f File) SafeName() string { return SafeName(f.Name) }

type wireFile struct {
	Name   string `cbor:"1,keyasint"`
	Type   string `cbor:"2,keyasint,omitempty"`
	Size   uint64 `cbor:"3,keyasint"`
	Root   []byte `cbor:"4,keyasint"`
	Length uint64 `cbor:"5,keyasint"`
	Key    []byte `cbor:"6,keyasint"`
	Stream uint64 `cbor:"7,keyasint,omitempty"` // absent: Size
	Packed uint64 `cbor:"8,keyasint,omitempty"` // 1: zstd
}

// Encode makes the body.
func (f File) Encode() ([]byte, error) {
	if len(f.Name) > maxFileName || len(f.Type) > maxMediaType || !utf8.ValidString(f.Name) || !utf8.ValidString(f.Type) {
		return nil, fmt.Errorf("envelope: encode file: name of %d bytes, type of %d: %w", len(f.Name), len(f.Type), ErrTooLarge)
	}
	if err := f.Seal.Check(); err != nil {
		return nil, err
	}
	w := wireFile{
		Name: f.Name, Type: f.Type, Size: f.Seal.Size, Root: slices.Clone(f.Seal.Blob.Root[:]), Length: f.Seal.Blob.Length,
		Key: slices.Clone(f.Seal.Key[:]),
	}
	if f.Seal.Packed {
		w.Stream, w.Packed = f.Seal.Stream, packZstd
	}
	return identity.Marshal(w)
}

// ParseFile reads the body of TypeFile.
func ParseFile(body []byte) (File, error) {
	var w wireFile
	if identity.UnmarshalOpen(body, &w) != nil || len(w.Name) > maxFileName || len(w.Type) > maxMediaType ||
		len(w.Root) != blob.HashSize || len(w.Key) != 32 {
		return File{}, malformed("file")
	}
	if w.Packed > packZstd {
		return File{}, fmt.Errorf("envelope: file packed by method %d: %w", w.Packed, ErrUnsupported)
	}
	f := File{Name: w.Name, Type: w.Type, Seal: FileSeal{
		Blob: blob.Descriptor{Root: blob.Root(w.Root), Length: w.Length},
		Key:  FileKey(w.Key), Size: w.Size, Stream: w.Stream, Packed: w.Packed == packZstd,
	}}
	if !f.Seal.Packed {
		if w.Stream != 0 {
			return File{}, malformed("file: stream without packing")
		}
		f.Seal.Stream = w.Size
	}
	return f, f.Seal.Check()
}
