package blob

import (
	"encoding/binary"
	"fmt"
)

const (
	descriptorVersion = 1
	// DescriptorSize is the size of an encoded Descriptor, in bytes.
	DescriptorSize = 1 + HashSize + 8
)

// A Descriptor tells relays which blob to carry. It is the whole payload of a
// blob bundle; tag, precedence and lifetime are the bundle's.
//
// Encoded: version (1 byte, 1), root (32 bytes), length (8 bytes, big-endian).
type Descriptor struct {
	Root   Root
	Length uint64 // of the ciphertext, in bytes
}

// Geometry returns how the blob is divided.
func (d Descriptor) Geometry() Geometry { return Geometry{d.Length} }

// Check returns an error unless d could name a blob.
func (d Descriptor) Check() error {
	if d.Root.IsZero() {
		return fmt.Errorf("blob: descriptor without a root: %w", ErrMalformed)
	}
	return d.Geometry().Check()
}

// MarshalBinary encodes d, which must pass Check.
func (d Descriptor) MarshalBinary() ([]byte, error) {
	if err := d.Check(); err != nil {
		return nil, err
	}
	b := append(make([]byte, 0, DescriptorSize), descriptorVersion)
	b = append(b, d.Root[:]...)
	return binary.BigEndian.AppendUint64(b, d.Length), nil
}

// ParseDescriptor decodes the payload of a blob bundle. A version other than 1
// is ErrMalformed: such a bundle is carried, but its leaves cannot be asked for.
func ParseDescriptor(raw []byte) (Descriptor, error) {
	if len(raw) != DescriptorSize || raw[0] != descriptorVersion {
		return Descriptor{}, fmt.Errorf("blob: parse descriptor of %d bytes: %w", len(raw), ErrMalformed)
	}
	var d Descriptor
	copy(d.Root[:], raw[1:])
	d.Length = binary.BigEndian.Uint64(raw[1+HashSize:])
	return d, d.Check()
}
