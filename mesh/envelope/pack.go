package envelope

import (
	"sync"

	"github.com/klauspost/compress/zstd"
)

// Bodies are packed one by one, without a dictionary, so that no length tells
// of another message. What does not shrink stays as it is.
const (
	minPack  = 96  // bytes below which packing is not tried
	maxRatio = 100 // bytes out for each byte in, at most
	// maxWindow bounds the memory of a decoder, in bytes.
	maxWindow = 8 << 20
	// fileWindow is the window with which files are packed, in bytes.
	fileWindow = 1 << 20
)

var bodyEncoder = sync.OnceValue(func() *zstd.Encoder {
	e, err := zstd.NewWriter(nil, zstd.WithEncoderConcurrency(1), zstd.WithWindowSize(64<<10),
		zstd.WithEncoderLevel(zstd.SpeedFastest), zstd.WithEncoderCRC(false), zstd.WithSingleSegment(true), zstd.WithLowerEncoderMem(true))
	if err != nil {
		panic("envelope: " + err.Error()) // the options are constants
	}
	return e
})

var bodyDecoder = sync.OnceValue(func() *zstd.Decoder {
	d, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true),
		zstd.WithDecoderMaxMemory(MaxBody), zstd.WithDecoderMaxWindow(64<<10))
	if err != nil {
		panic("envelope: " + err.Error()) // the options are constants
	}
	return d
})

func packBody(body []byte) []byte { return bodyEncoder().EncodeAll(body, nil) }

// unpackBody undoes packBody. A body of more than MaxBody bytes, or of more
// than a hundred times its packed size, is malformed.
func unpackBody(packed []byte) ([]byte, error) {
	body, err := bodyDecoder().DecodeAll(packed, nil)
	if err != nil || len(body) > MaxBody || len(body) > maxRatio*len(packed) {
		return nil, malformed("packed body")
	}
	return body, nil
}
