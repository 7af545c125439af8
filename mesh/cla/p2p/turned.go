package p2p

import "sync/atomic"

// turnedAway counts strangers that did not become peers.
type turnedAway struct{ crowded, refused atomic.Uint64 }

// TurnedAway says how many inbound connections found no place at the door
// since the layer was made, and how many got one and were not admitted: no
// certificate of this network, blocked by the operator, silent for too long.
func (l *Layer) TurnedAway() (crowded, refused uint64) {
	return l.turned.crowded.Load(), l.turned.refused.Load()
}
