package envelope

import (
	"crypto/rand"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"time"

	"outrider/mesh/identity"
)

// A reply key is a prekey for one peer: it travels inside the wrap that starts
// an epoch and serves for one epoch back. Its secret is destroyed on first
// use, so an epoch started with it has no window in which a captured device
// opens it (crypto.md 4.2).
type replyKey struct {
	number uint32
	public []byte
	until  time.Time
}

const replyPrefix = "reply/"

func (k *Keyring) loadReplies() error {
	for name, value := range k.rec.Records(replyPrefix) {
		id, err := hex.DecodeString(name[len(replyPrefix):])
		if err != nil || len(id) != 16 || len(value) != 8+replySize {
			return malformed("record of reply key")
		}
		k.replies[identity.DeviceID(id)] = replyKey{
			until: time.Unix(int64(binary.BigEndian.Uint64(value)), 0), number: binary.BigEndian.Uint32(value[8:]), public: value[12:],
		}
	}
	return nil
}

// keepReply stores a reply key that a peer gave us; a newer one takes its place.
func (k *Keyring) keepReply(from identity.DeviceID, reply []byte, now time.Time) error {
	r := replyKey{binary.BigEndian.Uint32(reply), reply[4:], now.Add(k.self.MaxDelay)}
	if r.number&replyBit == 0 {
		return nil // not a reply key's number: of no use
	}
	value := binary.BigEndian.AppendUint64(nil, uint64(r.until.Unix()))
	if err := k.rec.PutRecord(replyPrefix+hex.EncodeToString(from[:]), append(value, reply...)); err != nil {
		return fmt.Errorf("envelope: store reply key: %w", err)
	}
	k.replies[from] = r
	return nil
}

// takeReply returns the reply key for a peer, if there is one, and forgets it:
// even if the epoch never gets out, a reply key is used once.
func (k *Keyring) takeReply(to identity.DeviceID, now time.Time) (replyKey, bool, error) {
	r, ok := k.replies[to]
	if !ok {
		return r, false, nil
	}
	if err := k.rec.PutRecord(replyPrefix+hex.EncodeToString(to[:]), nil); err != nil {
		return r, false, fmt.Errorf("envelope: delete reply key: %w", err)
	}
	delete(k.replies, to)
	return r, r.until.After(now), nil
}

// makeReply makes a reply key for a peer, encoded for a wrap; nil if too many
// are out. The caller commits the vault and stores the record of prekeys.
func (k *Keyring) makeReply(now time.Time) ([]byte, error) {
	if len(k.prekeys.replies) >= maxReplies {
		return nil, nil
	}
	var seed key
	rand.Read(seed[:])
	defer clear(seed[:])
	public, err := kemPublic(seed)
	if err != nil {
		return nil, err
	}
	number := k.prekeys.nextReply | replyBit
	if err := k.box.put(k.box.prekeyID(number), seed[:]); err != nil {
		return nil, err
	}
	k.prekeys.nextReply++
	// The peer may use it for D after it got it, and that takes D; so does the way back.
	k.prekeys.replies = append(k.prekeys.replies, ownPrekey{number, now, k.age.after(3 * k.self.MaxDelay)})
	return append(binary.BigEndian.AppendUint32(nil, number), public...), nil
}
