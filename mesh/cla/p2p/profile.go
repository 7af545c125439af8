package p2p

import (
	"time"

	"outrider/mesh/cla"
)

// A Profile adapts the layer to its medium.
type Profile struct {
	Class   cla.Class
	RateBps uint64 // expected rate in bit/s, told to the agent
	QUIC    bool   // also listen and dial on QUIC; TCP is always there

	DialTimeout  time.Duration // to connect to one address
	HelloTimeout time.Duration // from the first byte to admission, and for a stranger in all
	WriteTimeout time.Duration // a write without progress for so long ends the link
	KeepAlive    time.Duration // between probes of a quiet connection
	IdleClose    time.Duration // a link without frames for so long is closed, 0 for never

	SendBuffer int // bytes, SO_SNDBUF; 0 leaves it to the kernel
	Unsent     int // bytes Send may leave above the socket, and the socket above the wire
	Message    int // bytes of the largest yamux frame, at least 1024
	Window     int // bytes of the largest receive window of a stream, at least 256 KiB
}

// ProfileOf returns the profile for a class of links. The numbers follow
// mesh.md 3.1 to 3.8: yamux must outlast a slow radio, and bulk must not sit
// in a socket where nothing more urgent can pass it.
func ProfileOf(c cla.Class) Profile {
	switch c {
	case cla.Radio:
		return Profile{
			Class: c, RateBps: 64_000,
			DialTimeout: 2 * time.Minute, HelloTimeout: 2 * time.Minute,
			WriteTimeout: 5 * time.Minute, KeepAlive: 5 * time.Minute, IdleClose: time.Minute,
			SendBuffer: 4 << 10, Unsent: 512, Message: 1 << 10, Window: 256 << 10,
		}
	case cla.WiFi:
		return Profile{
			Class: c, RateBps: 2_000_000,
			DialTimeout: 20 * time.Second, HelloTimeout: 10 * time.Second,
			WriteTimeout: 2 * time.Minute, KeepAlive: time.Minute, IdleClose: 3 * time.Minute,
			SendBuffer: 32 << 10, Unsent: 4 << 10, Message: 4 << 10, Window: 256 << 10,
		}
	default:
		return Profile{
			Class: cla.LAN, RateBps: 100_000_000, QUIC: true,
			DialTimeout: 5 * time.Second, HelloTimeout: 10 * time.Second,
			WriteTimeout: time.Minute, KeepAlive: 20 * time.Second,
			Unsent: 256 << 10, Message: 64 << 10, Window: 1 << 20,
		}
	}
}
