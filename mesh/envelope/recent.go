package envelope

import (
	"crypto/sha256"
	"encoding/binary"
	"slices"
)

// A digest tells payloads apart; the header counts.
type digest [16]byte

func digestOf(header, payload []byte) digest {
	h := sha256.New()
	h.Write(binary.BigEndian.AppendUint16(nil, uint16(len(header))))
	h.Write(header)
	h.Write(payload)
	return digest(h.Sum(nil)[:16])
}

// recent holds the keys of the last accepted messages, in memory only. A
// second, different message for one of them can still be opened: that, and
// only that, proves that its sender was cloned or rolled back. On disk the
// keys are gone.
type recent struct {
	keys  map[messageID]*recentKey
	order []messageID
}

// A messageID is what a message is known by once it is open.
type messageID struct {
	epoch EpochID
	at    position
}

type recentKey struct {
	key  key
	seen []digest
}

// maxClones is the number of different payloads told apart per message.
const maxClones = 4

func (r *recent) add(id messageID, k recentKey) {
	if r.keys == nil {
		r.keys = map[messageID]*recentKey{}
	}
	if _, ok := r.keys[id]; ok {
		return
	}
	if len(r.order) == maxRecent {
		delete(r.keys, r.order[0])
		r.order = slices.Delete(r.order, 0, 1)
	}
	r.keys[id] = &k
	r.order = append(r.order, id)
}

func (r *recent) forget(id messageID) {
	if _, ok := r.keys[id]; ok {
		delete(r.keys, id)
		r.order = slices.DeleteFunc(r.order, func(o messageID) bool { return o == id })
	}
}
