// Package routing holds the choices of the agent as pure functions: which
// scope a bundle is reconciled in, in which order bundles go over a link, how
// many replicas a large bundle gets and who is given one, and how two nodes
// that meet find their difference. Integers only: amd64 and arm64 must choose
// alike. Nothing here reads a clock or keeps state.
package routing

import (
	"math/bits"
	"time"

	"outrider/mesh/bundle"
)

// FloodMax is the largest payload, in bytes, that every node of the network
// gets a copy of. Larger bundles are sprayed. It is part of the protocol:
// both ends of a reconciliation must draw the line at the same place.
const FloodMax = 4096

// A Scope is a set that two nodes reconcile. Its number is on the wire, and
// scopes are reconciled in the order of their numbers.
type Scope uint8

// The scopes.
const (
	FloodFlash Scope = iota
	Control
	FloodImmediate
	FloodPriority
	FloodRoutine
	Scopes // number of reconciled scopes
	Spray  = Scopes
)

// ScopeOf is a function of what no hop can change, so that all nodes of a
// network put a bundle into the same scope. Flood is the opsec preset, where
// everything floods and no tag is advertised.
func ScopeOf(h bundle.Header, size int, flood bool) Scope {
	switch {
	case h.Kind == bundle.KindControl:
		return Control
	case size > FloodMax && !flood:
		return Spray
	}
	switch h.Precedence {
	case bundle.Flash:
		return FloodFlash
	case bundle.Immediate:
		return FloodImmediate
	case bundle.Priority:
		return FloodPriority
	}
	return FloodRoutine
}

// A Level is a step of strict priority on a link; level 0 goes first.
type Level uint8

// The levels. Leaves of blobs come after all of them.
const (
	LevelFlash Level = iota
	LevelUrgent
	LevelImmediate
	LevelPriority
	LevelRoutine
	Levels // number of levels
)

// LevelOf returns where a bundle queues: by the precedence it is served with,
// revocations and configuration right behind FLASH.
func LevelOf(served bundle.Precedence, urgent bool) Level {
	switch {
	case served == bundle.Flash:
		return LevelFlash
	case urgent:
		return LevelUrgent
	case served == bundle.Immediate:
		return LevelImmediate
	case served == bundle.Priority:
		return LevelPriority
	}
	return LevelRoutine
}

// Rank orders what waits in one level; the smallest goes first: what the peer
// is the destination of, then purge records, then small before large, then
// what dies first, then what came first.
func Rank(forPeer, purge bool, size int, left time.Duration, seq uint64) uint64 {
	var r uint64
	if !forPeer {
		r |= 1 << 63
	}
	if !purge {
		r |= 1 << 62
		r |= uint64(min(bits.Len(uint(size)>>8), 15)) << 58
	}
	r |= uint64(min(bits.Len64(uint64(max(left, 0)/time.Minute)), 31)) << 53
	return r | seq&(1<<53-1)
}

// Copies returns the replica budget of a new bundle that is sprayed, by its
// payload's size: small ones may use more of the network.
func Copies(size int) uint8 {
	switch {
	case size <= 8<<10:
		return 16
	case size <= 16<<10:
		return 12
	case size <= 32<<10:
		return 8
	}
	return 6
}

// Standing is what the holder of a sprayed bundle knows of a peer.
type Standing struct {
	Reads  bool // the peer serves the bundle's tag
	OnPath bool // the peer is the next hop to a node that does
}

// Split decides what a peer gets of a replica budget, and what stays: half,
// rounded down, to any peer (binary spray: Spyropoulos et al., 2005); one
// replica, and the rest kept, to a reader. The last replica moves only to a
// reader or along a path. Keep is 0 for a copy that has moved on: it is kept
// while there is room, and spreads no further.
func Split(budget uint8, p Standing) (give, keep uint8, ok bool) {
	switch {
	case p.Reads:
		return 1, budget, true
	case budget > 1:
		return budget / 2, budget - budget/2, true
	case budget == 1 && p.OnPath:
		return 1, 0, true
	}
	return 0, budget, false
}

// Push decides how a bundle that has just arrived goes to one of n neighbours:
// at once, or as an offer that the peer may decline. An offer costs a round
// trip and saves the bytes of a copy the peer has from elsewhere; the more
// neighbours, the likelier that is.
func Push(served bundle.Precedence, purge, forPeer bool, size, neighbours int, peerFull bool) bool {
	switch {
	case peerFull && !forPeer && !purge:
		return false
	case served >= bundle.Immediate || forPeer || neighbours <= 2:
		return true
	case neighbours <= 4:
		return size <= 1024
	}
	return size <= 128
}

// cursorLimit is how many ids two nodes rather list since they last met than
// search for. A list costs 8 B an id, known or not; a search 18 B for each
// difference only.
const cursorLimit = 128

// UseCursor decides between listing what arrived since the last contact, at
// both ends together, and searching.
func UseCursor(arrivals uint64) bool { return arrivals <= cursorLimit }

// symbolBytes is what a coded symbol takes on the wire, on average.
const symbolBytes = 13

// SymbolCap returns how many symbols are worth decoding for sets of these
// sizes: beyond it the streaming side's plain list is cheaper.
func SymbolCap(streamer, decoder uint64, limit int) int {
	least := max(64, 8*streamer/symbolBytes)
	if d := difference(streamer, decoder); d > streamer/2 && d*14/10 > least {
		return 0 // hopeless from the start
	}
	return int(min(least, uint64(limit)))
}

func difference(a, b uint64) uint64 { return max(a, b) - min(a, b) }

// FirstBatch returns how many symbols to send unasked: enough for a handful
// of differences, or for what the counts betray.
func FirstBatch(streamer, decoder uint64, limit int) int {
	return int(min(max(16, difference(streamer, decoder)*3/2), uint64(limit)))
}

// NextBatch returns how many more to ask for after having got so many: half
// as many again, which bounds both the waste and the number of round trips.
func NextBatch(have, limit int) int { return min(max(8, have/2), limit) }
