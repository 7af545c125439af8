// Package cla defines the convergence layer: what the agent needs of a way
// to reach another node, and nothing of how that way works.
//
// A Link is one contact: an ordered, authenticated pipe of frames to one
// admitted neighbour. It may be cut at any moment, also in the middle of a
// frame; a frame is then delivered whole or not at all. The term is that of
// RFC 4838, section 3.1 (convergence layer) and 3.7 (contact).
package cla

import (
	"context"
	"errors"

	"outrider/mesh/identity"
)

// MaxFrame is the largest frame a link carries, in bytes.
const MaxFrame = 64<<10 + 512

// ErrClosed is returned by Send and Recv of a link that has ended, by Close
// or by a cut.
var ErrClosed = errors.New("cla: link closed")

// ErrFrameSize is returned by Send for a frame that is empty or larger than
// MaxFrame; the link stays usable.
var ErrFrameSize = errors.New("cla: frame size out of bounds")

// ErrUnreachable is returned by Dial when nobody answered at any address. It
// means "not now", never "not any more".
var ErrUnreachable = errors.New("cla: peer cannot be reached now")

// ErrRefused is returned by Dial when either side would not have the other:
// not admitted, of another network, switched off by an operator, no common
// protocol version. The wrapping error says which.
var ErrRefused = errors.New("cla: refused")

// A Class is the kind of medium a link runs over. It chooses chunk sizes and
// control budgets, never what is delivered.
type Class uint8

// The classes, from thin to fat.
const (
	Radio Class = 1 // under 200 kb/s, often shared and half-duplex
	WiFi  Class = 2 // 200 kb/s and more
	LAN   Class = 3 // 10 Mb/s and more
)

func (c Class) String() string {
	switch c {
	case Radio:
		return "radio"
	case WiFi:
		return "wifi"
	case LAN:
		return "lan"
	}
	return "unknown"
}

// Info describes a link when it comes up.
type Info struct {
	Class   Class
	RateBps uint64 // estimated rate in bit/s, 0 if unknown
	Addr    string // remote address as text, for people only
	Dialled bool   // this side opened it

	// Version and Features are what both sides speak: the highest common
	// protocol version and the feature bits both have set (hello).
	Version  uint16
	Features uint64
}

// A Link is one contact with one neighbour. Send and Recv may be called from
// different goroutines; neither may be called by two at once. Frames arrive
// in the order sent, each whole and once, until the link ends. Package
// clatest holds every implementation to this.
type Link interface {
	// Peer is the neighbour's proven identity.
	Peer() identity.NodeID
	Info() Info
	// Send hands one frame to the transport. It blocks while the transport
	// is full, which is the back-pressure the agent schedules by. The slice
	// is the caller's again when Send returns. If ctx ends first the frame
	// arrives whole or not at all, and the link may have ended.
	Send(ctx context.Context, frame []byte) error
	// Recv returns the next frame. The slice is the caller's. If ctx ends
	// first nothing is lost: the next call returns what this one would have.
	// Frames that arrived before the other side's Close are still returned.
	Recv(ctx context.Context) ([]byte, error)
	// Counters returns bytes sent and received on this link so far,
	// including framing but not the transport's own overhead.
	Counters() (tx, rx uint64)
	// Close ends the link on both sides. Frames that Send has taken are
	// still delivered if the medium lets them through within a few seconds;
	// calls blocked in Send or Recv here return ErrClosed at once.
	Close() error
}

// A Layer makes links of one kind. It has at most one live link to a peer.
type Layer interface {
	// Run serves until ctx ends. For each link that comes up, dialled here
	// or there, it calls serve in a goroutine of its own; the link is closed
	// when serve returns. A new link to a peer is served only after serve
	// has returned for the one before.
	Run(ctx context.Context, serve func(context.Context, Link)) error
	// Dial makes a link to peer at one of addrs, which are tried in order,
	// and returns nil when there is one, also if there was one already.
	Dial(ctx context.Context, peer identity.NodeID, addrs []string) error
}
