package envelope

import (
	"bytes"
	"encoding/binary"
	"slices"

	"outrider/mesh/identity"
)

// MemberFlags say what a member of an epoch may do. Unknown bits are kept.
type MemberFlags uint8

// MemberCompliance marks a compliance reader: it receives and cannot send.
const MemberCompliance MemberFlags = 1 << 0

// A Member is one device of an epoch's roster. Its place in the roster is its slot.
type Member struct {
	User   identity.UserID
	Device identity.DeviceID
	Flags  MemberFlags
}

type rosterHash [32]byte

const memberSize = 16 + 16 + 1

// A roster is sorted by device and has each device once. Encoded: number of
// members (2 B), then user (16 B), device (16 B), flags (1 B) of each. Device
// ids are hashes of device keys, so the roster's hash commits to the keys.
type roster []Member

func newRoster(members []Member) (roster, error) {
	r := roster(slices.Clone(members))
	slices.SortFunc(r, func(a, b Member) int { return a.Device.Compare(b.Device) })
	return r, r.check()
}

func (r roster) check() error {
	if len(r) == 0 || len(r) > MaxMembers {
		return malformed("roster: number of members out of bounds")
	}
	for i := range r[1:] {
		if r[i].Device.Compare(r[i+1].Device) >= 0 {
			return malformed("roster: devices not in ascending order")
		}
	}
	return nil
}

func (r roster) encode() []byte {
	b := binary.BigEndian.AppendUint16(make([]byte, 0, 2+len(r)*memberSize), uint16(len(r)))
	for _, m := range r {
		b = append(b, m.User[:]...)
		b = append(b, m.Device[:]...)
		b = append(b, byte(m.Flags))
	}
	return b
}

func parseRoster(raw []byte) (roster, error) {
	if len(raw) < 2 || len(raw) != 2+int(binary.BigEndian.Uint16(raw))*memberSize {
		return nil, malformed("roster: wrong length")
	}
	r := make(roster, binary.BigEndian.Uint16(raw))
	for i := range r {
		m := raw[2+i*memberSize:]
		r[i] = Member{identity.UserID(m[:16]), identity.DeviceID(m[16:32]), MemberFlags(m[32])}
	}
	return r, r.check()
}

func hashRoster(raw []byte) rosterHash {
	return rosterHash(identity.Hash(identity.LabelRosterHash, raw))
}

// slot returns the place of a device, -1 if it is no member.
func (r roster) slot(d identity.DeviceID) int {
	i, ok := slices.BinarySearchFunc(r, d, func(m Member, d identity.DeviceID) int { return m.Device.Compare(d) })
	if !ok {
		return -1
	}
	return i
}

// users returns the distinct users, compliance readers left out, in order.
func (r roster) users() []identity.UserID {
	var us []identity.UserID
	for _, m := range r {
		if m.Flags&MemberCompliance == 0 {
			us = append(us, m.User)
		}
	}
	slices.SortFunc(us, func(a, b identity.UserID) int { return bytes.Compare(a[:], b[:]) })
	return slices.Compact(us)
}

// readers is the number of devices that are to read what slot sends: all but
// the sender's and the compliance readers' (decisions.md 6).
func (r roster) readers(slot int) (n int) {
	for i, m := range r {
		if i != slot && m.Flags&MemberCompliance == 0 {
			n++
		}
	}
	return n
}

// same reports whether the roster consists of exactly these members.
func (r roster) same(members []Member) bool {
	other, err := newRoster(members)
	return err == nil && slices.Equal(r, other)
}
