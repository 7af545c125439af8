package compliance

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"

	"outrider/mesh/identity"
)

// MessageID is the message_id of a message: it follows from what every reader
// of it knows (epoch, device, index), so that every archive calls it the same.
func MessageID(network identity.NetworkID, epoch [8]byte, device identity.DeviceID, index uint32) string {
	h := identity.Hash(identity.LabelArchiveMessage, network[:], epoch[:], device[:], binary.BigEndian.AppendUint32(nil, index))
	return hex.EncodeToString(h[:16])
}

// DirectGroup is the vgroupid of a conversation of two.
func DirectGroup(network identity.NetworkID, conversation [16]byte) string {
	h := identity.Hash(identity.LabelArchiveGroup, network[:], conversation[:])
	return hex.EncodeToString(h[:])
}

// RoomGroup is the vgroupid of a secure room ('S') or group ('G'): the letter
// takes the place of a digit.
func RoomGroup(letter byte, network identity.NetworkID, conversation [16]byte) string {
	return string(letter) + DirectGroup(network, conversation)[1:]
}

// GUID is the id of a file transfer: from the message's id, in UUID text.
func GUID(messageID string) string {
	h := sha256.Sum256([]byte("file " + messageID))
	h[6], h[8] = h[6]&0x0f|0x80, h[8]&0x3f|0x80 // version 8, variant of RFC 9562
	s := hex.EncodeToString(h[:16])
	return s[:8] + "-" + s[8:12] + "-" + s[12:16] + "-" + s[16:20] + "-" + s[20:]
}

// StartID is the message_id of a call's start, from that of its end: one
// message tells both.
func StartID(endID string) string {
	h := sha256.Sum256([]byte("call start " + endID))
	return hex.EncodeToString(h[:16])
}

// ParticipantHash stands for a user in a call's record: features.md 2.8.
func ParticipantHash(network identity.NetworkID, name string) string {
	h := sha256.New()
	h.Write(network[:])
	h.Write([]byte{0})
	h.Write([]byte(name))
	return hex.EncodeToString(h.Sum(nil))
}

// Participants tells whose hashes a call's start has; nil for other records.
func (r *Record) Participants() map[string]string {
	if c := r.Call; c != nil && c.Status == CallStarting && len(c.Participants) == 2 && r.Sender != "" && r.Receiver != "" {
		return map[string]string{c.Participants[0]: r.Sender, c.Participants[1]: r.Receiver}
	}
	return nil
}
