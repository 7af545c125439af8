package plainsearch

import (
	"bufio"
	"errors"
	"io"
)

// errFrame means that a zstd frame's structure makes no sense.
var errFrame = errors.New("plainsearch: not a zstd frame")

// frameReader gives exactly one zstd frame (RFC 8878, section 3.1.1) out of a
// longer stream, by walking its blocks: what follows is not this frame's.
type frameReader struct {
	r        *bufio.Reader
	pending  []byte // header bytes to hand out
	left     int    // bytes of the current block to hand out
	started  bool
	last     bool // the last block has begun
	checksum bool
	ended    bool
}

func newFrameReader(r io.Reader) *frameReader { return &frameReader{r: bufio.NewReaderSize(r, 64<<10)} }

// Read implements io.Reader.
func (f *frameReader) Read(p []byte) (int, error) {
	for len(f.pending) == 0 && f.left == 0 {
		if f.ended {
			return 0, io.EOF
		}
		if err := f.advance(); err != nil {
			return 0, err
		}
	}
	if len(f.pending) > 0 {
		n := copy(p, f.pending)
		f.pending = f.pending[n:]
		return n, nil
	}
	n, err := f.r.Read(p[:min(len(p), f.left)])
	f.left -= n
	return n, err
}

// advance reads the frame's header or a block's.
func (f *frameReader) advance() error {
	switch {
	case !f.started:
		f.started = true
		return f.header()
	case f.last:
		f.ended = true
		if f.checksum {
			f.left = 4
		}
		return nil
	}
	h, err := f.take(3)
	if err != nil {
		return err
	}
	v := int(h[0]) | int(h[1])<<8 | int(h[2])<<16
	f.last = v&1 != 0
	switch v >> 1 & 3 {
	case 1: // RLE: one byte, repeated
		f.left = 1
	case 3:
		return errFrame
	default:
		f.left = v >> 3
	}
	return nil
}

func (f *frameReader) header() error {
	h, err := f.take(5) // magic, descriptor
	if err != nil {
		return err
	}
	d := h[4]
	single := d&0x20 != 0
	f.checksum = d&4 != 0
	rest := [4]int{0, 1, 2, 4}[d&3] + [4]int{0, 2, 4, 8}[d>>6]
	if single && d>>6 == 0 {
		rest++
	}
	if !single {
		rest++
	}
	_, err = f.take(rest)
	return err
}

// take reads n bytes, hands them out later, and returns them.
func (f *frameReader) take(n int) ([]byte, error) {
	b := make([]byte, n)
	if _, err := io.ReadFull(f.r, b); err != nil {
		return nil, err
	}
	f.pending = append(f.pending, b...)
	return b, nil
}
