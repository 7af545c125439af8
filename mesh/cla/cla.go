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
}

// A Link is one contact with one neighbour. Send and Recv may be called from
// different goroutines; neither may be called by two at once.
type Link interface {
	// Peer is the neighbour's proven identity.
	Peer() identity.NodeID
	Info() Info
	// Send hands one frame to the transport. It blocks while the transport
	// is full, which is the back-pressure the agent schedules by.
	Send(ctx context.Context, frame []byte) error
	// Recv returns the next frame. The slice is the caller's.
	Recv(ctx context.Context) ([]byte, error)
	// Counters returns bytes sent and received on this link so far,
	// including framing but not the transport's own overhead.
	Counters() (tx, rx uint64)
	Close() error
}
