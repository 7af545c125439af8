package identity

import (
	"bytes"
	"encoding/base32"
	"errors"
	"fmt"
	"strings"
)

// A NodeID names a radio-bearing box. It is the node's Ed25519 public key.
type NodeID [32]byte

// A UserID names a person. It is random, chosen when the user is issued.
type UserID [16]byte

// A DeviceID names one user on one node: the first 16 bytes of
// SHA-256("outrider/v1/device-id\x00" || device public key).
type DeviceID [16]byte

// A NetworkID is the SHA-256 of a network's root record.
type NetworkID [32]byte

// A Tag is a routing tag: eight bytes that tell a reader's node, and nobody
// else, that a bundle is for somebody it serves.
type Tag [8]byte

// ErrMalformed is wrapped by every error of a decoder in this package that
// was handed bytes or text not of its form.
var ErrMalformed = errors.New("malformed")

// idText is how identifiers are written: lower-case base32 without padding,
// which survives voice, URLs and file names.
var idText = base32.NewEncoding("abcdefghijklmnopqrstuvwxyz234567").WithPadding(base32.NoPadding)

func parseID(dst []byte, what, s string) error {
	b, err := idText.DecodeString(strings.ToLower(s))
	if err != nil || len(b) != len(dst) {
		return fmt.Errorf("identity: parse %s: want %d base32 characters: %w", what, idText.EncodedLen(len(dst)), ErrMalformed)
	}
	copy(dst, b)
	return nil
}

// ParseNodeID reads the text form of a node's identifier.
func ParseNodeID(s string) (id NodeID, err error) { return id, parseID(id[:], "node id", s) }

// ParseUserID reads the text form of a user's identifier.
func ParseUserID(s string) (id UserID, err error) { return id, parseID(id[:], "user id", s) }

// ParseDeviceID reads the text form of a device's identifier.
func ParseDeviceID(s string) (id DeviceID, err error) { return id, parseID(id[:], "device id", s) }

// ParseNetworkID reads the text form of a network's identifier.
func ParseNetworkID(s string) (id NetworkID, err error) { return id, parseID(id[:], "network id", s) }

// ParseTag reads the text form of a routing tag.
func ParseTag(s string) (t Tag, err error) { return t, parseID(t[:], "tag", s) }

func (id NodeID) String() string    { return idText.EncodeToString(id[:]) }
func (id UserID) String() string    { return idText.EncodeToString(id[:]) }
func (id DeviceID) String() string  { return idText.EncodeToString(id[:]) }
func (id NetworkID) String() string { return idText.EncodeToString(id[:]) }
func (t Tag) String() string        { return idText.EncodeToString(t[:]) }

// Short returns the first eight characters, enough for a log line.
func (id NodeID) Short() string { return id.String()[:8] }

// Short returns the first eight characters, enough for a log line.
func (id NetworkID) Short() string { return id.String()[:8] }

func (id NodeID) MarshalText() ([]byte, error)    { return []byte(id.String()), nil }
func (id UserID) MarshalText() ([]byte, error)    { return []byte(id.String()), nil }
func (id DeviceID) MarshalText() ([]byte, error)  { return []byte(id.String()), nil }
func (id NetworkID) MarshalText() ([]byte, error) { return []byte(id.String()), nil }
func (t Tag) MarshalText() ([]byte, error)        { return []byte(t.String()), nil }

func (id *NodeID) UnmarshalText(b []byte) error { return parseID(id[:], "node id", string(b)) }
func (id *UserID) UnmarshalText(b []byte) error { return parseID(id[:], "user id", string(b)) }
func (id *DeviceID) UnmarshalText(b []byte) error {
	return parseID(id[:], "device id", string(b))
}
func (id *NetworkID) UnmarshalText(b []byte) error {
	return parseID(id[:], "network id", string(b))
}
func (t *Tag) UnmarshalText(b []byte) error { return parseID(t[:], "tag", string(b)) }

func (id NodeID) IsZero() bool    { return id == NodeID{} }
func (id UserID) IsZero() bool    { return id == UserID{} }
func (id DeviceID) IsZero() bool  { return id == DeviceID{} }
func (id NetworkID) IsZero() bool { return id == NetworkID{} }
func (t Tag) IsZero() bool        { return t == Tag{} }

func (id NodeID) Compare(o NodeID) int     { return bytes.Compare(id[:], o[:]) }
func (id UserID) Compare(o UserID) int     { return bytes.Compare(id[:], o[:]) }
func (id DeviceID) Compare(o DeviceID) int { return bytes.Compare(id[:], o[:]) }
func (t Tag) Compare(o Tag) int            { return bytes.Compare(t[:], o[:]) }
