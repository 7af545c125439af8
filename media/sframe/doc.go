// Package sframe seals media frames between the ends of a call, so that the
// nodes which forward them cannot open them (RFC 9605).
//
// A sealed frame is
//
//	config  1 byte: X, K (3 bits), Y, C (3 bits)
//	KID     0 to 8 bytes, big endian, none when K itself is the value (X = 0)
//	CTR     0 to 8 bytes, likewise (Y = 0)
//	sealed  AES-256-GCM of the frame, with a tag of 16 bytes
//
// and the bytes before sealed, with the metadata both ends know, are
// authenticated. The one suite spoken here is AES_256_GCM_SHA512_128: node and
// page use the same, and the RFC's test vectors are tests of both.
//
// What the package promises beyond the RFC: a frame is opened once (a window
// of Window counters below the newest one), a counter that leaps by more than
// MaxJump is refused before any work, only authentic frames move the window,
// and one key seals at most MaxFrames frames.
//
// Only the ends of a call import this package. A test holds that no node does.
package sframe
