package plainsearch

import (
	"bytes"
	"io"

	"github.com/klauspost/compress/zstd"
)

const (
	depthMax    = 3        // frames within frames
	unpackedMax = 64 << 20 // bytes unpacked from one frame; the rest is not looked at
	windowBytes = 32 << 20 // memory one frame may ask for
	openMax     = 16       // frames being unpacked at once
	packedMax   = 256 << 20
)

// zstdMagic opens every zstd frame (RFC 8878, section 3.1.1).
var zstdMagic = []byte{0x28, 0xb5, 0x2f, 0xfd}

// zstdFinder watches a stream for zstd frames and unpacks them beside it. A
// frame that is damaged or cut off is unpacked as far as it goes.
type zstdFinder struct {
	parent *scanner
	tail   []byte // up to three bytes before the current piece
	open   []*unpacker
}

func (z *zstdFinder) write(b []byte) {
	for _, u := range z.open {
		u.write(b)
	}
	z.open = kept(z.open)
	z.find(b)
	keep := append(z.tail, b[max(0, len(b)-3):]...)
	z.tail = append(z.tail[:0], keep[max(0, len(keep)-3):]...)
}

// find starts an unpacker at every magic that ends in b.
func (z *zstdFinder) find(b []byte) {
	if head := append(append([]byte{}, z.tail...), b[:min(3, len(b))]...); len(z.tail) > 0 {
		for i := 0; i+4 <= len(head); i++ {
			if i < len(z.tail) && bytes.Equal(head[i:i+4], zstdMagic) {
				z.start(z.tail[i:], b)
			}
		}
	}
	for at := 0; ; {
		i := bytes.Index(b[at:], zstdMagic)
		if i < 0 {
			return
		}
		z.start(nil, b[at+i:])
		at += i + 1
	}
}

func (z *zstdFinder) start(before, b []byte) {
	if len(z.open) >= openMax {
		z.open[0].close()
		z.open = z.open[1:]
	}
	u := newUnpacker(z.parent)
	u.write(before)
	u.write(b)
	z.open = append(z.open, u)
}

func (z *zstdFinder) close() {
	for _, u := range z.open {
		u.close()
	}
	z.open = nil
}

// kept drops the unpackers that have ended.
func kept(us []*unpacker) []*unpacker {
	out := us[:0]
	for _, u := range us {
		if u.ended {
			u.close()
		} else {
			out = append(out, u)
		}
	}
	return out
}

// unpacker feeds the bytes from one magic on to a decoder, which runs in a
// goroutine and reports its hits when it has ended.
type unpacker struct {
	w     *io.PipeWriter
	sent  int
	ended bool // the decoder takes no more
	done  chan struct{}
	sink  *sink // the goroutine's until done is closed
	to    *sink
}

func newUnpacker(parent *scanner) *unpacker {
	r, w := io.Pipe()
	u := &unpacker{w: w, done: make(chan struct{}), sink: newSink(parent.sink.where), to: parent.sink}
	inside := "zstd"
	if parent.inside != "" {
		inside = parent.inside + ", zstd"
	}
	sc := parent.s.newScanner(u.sink, inside, parent.depth+1)
	go func() {
		defer close(u.done)
		defer r.Close() // writes fail from now on
		unpack(r, sc)
		sc.close()
	}()
	return u
}

// unpack decodes one frame as far as it is sound.
func unpack(r io.Reader, sc *scanner) {
	opts := []zstd.DOption{zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxMemory(unpackedMax),
		zstd.WithDecoderMaxWindow(windowBytes), zstd.IgnoreChecksum(true), zstd.WithDecoderLowmem(true)}
	if len(sc.s.dicts) > 0 {
		opts = append(opts, zstd.WithDecoderDicts(sc.s.dicts...))
	}
	d, err := zstd.NewReader(newFrameReader(r), opts...)
	if err != nil {
		return
	}
	defer d.Close()
	buf := make([]byte, 64<<10)
	for total := 0; total < unpackedMax; {
		n, err := d.Read(buf)
		sc.write(buf[:n])
		total += n
		if err != nil {
			return // the end, or where the frame stops making sense
		}
	}
}

func (u *unpacker) write(b []byte) {
	if u.ended || len(b) == 0 {
		return
	}
	u.sent += len(b)
	if _, err := u.w.Write(b); err != nil || u.sent > packedMax {
		u.ended = true
	}
}

// close waits for the decoder and hands its hits on.
func (u *unpacker) close() {
	if u.to == nil {
		return
	}
	u.w.Close()
	<-u.done
	for _, h := range u.sink.hits {
		u.to.add(h)
	}
	u.to, u.ended = nil, true
}
