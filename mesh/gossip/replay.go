package gossip

// memoryOfPackets is how many packets are remembered, so that they do not
// pass twice. Members send a few a second; the flood of one who replays what
// it recorded passes once.
const memoryOfPackets = 4096

// A recorder remembers the newest packets by their nonces, 12 random bytes
// each. Only packets that a key of ours opens get that far, so outsiders
// cannot make it forget. It is not safe for concurrent use.
type recorder struct {
	seen map[[nonceSize]byte]struct{}
	ring [][nonceSize]byte // oldest at next once it is full
	next int
}

// again notes a nonce and reports whether it was there.
func (r *recorder) again(nonce [nonceSize]byte) bool {
	if _, ok := r.seen[nonce]; ok {
		return true
	}
	if r.seen == nil {
		r.seen = make(map[[nonceSize]byte]struct{}, memoryOfPackets)
	}
	if len(r.ring) < memoryOfPackets {
		r.ring = append(r.ring, nonce)
	} else {
		delete(r.seen, r.ring[r.next])
		r.ring[r.next] = nonce
		r.next = (r.next + 1) % memoryOfPackets
	}
	r.seen[nonce] = struct{}{}
	return false
}

// ofGroup reports whether a key of the group opens a packet of memberlist's:
// its version, a nonce, then what is sealed. memberlist will open it again;
// twice is what a packet costs that is honest, once one that is not.
func ofGroup(keys [][]byte, b []byte) bool {
	if len(b) < minPacket || b[0] != wireVersion {
		return false
	}
	var room [maxPacket]byte
	for _, key := range keys {
		aead, err := sealer(key)
		if err != nil {
			return false
		}
		if _, err := aead.Open(room[:0], b[1:1+nonceSize], b[1+nonceSize:], nil); err == nil {
			return true
		}
	}
	return false
}
