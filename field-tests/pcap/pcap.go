// Package pcap reads and writes captures in the classic pcap format
// (draft-ietf-opsawg-pcap), which tcpdump and Wireshark read: microsecond or
// nanosecond stamps, either byte order, Ethernet frames.
//
// A Writer keeps whole frames and nothing but them. A Reader takes any file:
// what is no capture, or is cut off or damaged, is an error that wraps
// ErrMalformed, after all packets that came before it.
package pcap

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"time"
)

const (
	magicMicro = 0xa1b2c3d4
	magicNano  = 0xa1b23c4d
	ethernet   = 1 // LINKTYPE_ETHERNET

	// MaxPacket is the longest packet written or read, in bytes.
	MaxPacket = 256 << 10
)

// ErrMalformed is wrapped by errors about bytes that are no capture.
var ErrMalformed = errors.New("malformed capture")

// A Writer writes a capture. It is not safe for concurrent use.
type Writer struct{ w *bufio.Writer }

// NewWriter writes the file header.
func NewWriter(w io.Writer) (*Writer, error) {
	var h [24]byte
	le := binary.LittleEndian
	le.PutUint32(h[0:], magicMicro)
	le.PutUint16(h[4:], 2) // version 2.4
	le.PutUint16(h[6:], 4)
	le.PutUint32(h[16:], MaxPacket)
	le.PutUint32(h[20:], ethernet)
	b := bufio.NewWriterSize(w, 64<<10)
	if _, err := b.Write(h[:]); err != nil {
		return nil, fmt.Errorf("pcap: write: %w", err)
	}
	return &Writer{b}, nil
}

// Write adds one frame, whole; longer ones than MaxPacket are an error.
func (w *Writer) Write(at time.Time, frame []byte) error {
	if len(frame) > MaxPacket {
		return fmt.Errorf("pcap: write: a frame of %d bytes", len(frame))
	}
	var h [16]byte
	le := binary.LittleEndian
	le.PutUint32(h[0:], uint32(at.Unix()))
	le.PutUint32(h[4:], uint32(at.Nanosecond()/1000))
	le.PutUint32(h[8:], uint32(len(frame)))
	le.PutUint32(h[12:], uint32(len(frame)))
	_, err := w.w.Write(h[:])
	if err == nil {
		_, err = w.w.Write(frame)
	}
	if err != nil {
		return fmt.Errorf("pcap: write: %w", err)
	}
	return nil
}

// Flush hands everything written to the underlying writer.
func (w *Writer) Flush() error { return w.w.Flush() }

// A Packet is one captured frame.
type Packet struct {
	At   time.Time
	Data []byte // valid until the next call of Next
	Cut  bool   // the frame was longer on the wire
}

// A Reader reads a capture.
type Reader struct {
	r     *bufio.Reader
	order binary.ByteOrder
	nano  bool
	buf   []byte
}

// IsCapture says whether a file that begins with these bytes is a capture.
func IsCapture(head []byte) bool {
	_, _, ok := magicOf(head)
	return ok
}

func magicOf(head []byte) (order binary.ByteOrder, nano, ok bool) {
	if len(head) < 4 {
		return nil, false, false
	}
	for _, o := range []binary.ByteOrder{binary.LittleEndian, binary.BigEndian} {
		switch o.Uint32(head) {
		case magicMicro:
			return o, false, true
		case magicNano:
			return o, true, true
		}
	}
	return nil, false, false
}

// NewReader reads the file header.
func NewReader(r io.Reader) (*Reader, error) {
	b := bufio.NewReaderSize(r, 64<<10)
	var h [24]byte
	if _, err := io.ReadFull(b, h[:]); err != nil {
		return nil, malformed("header", err)
	}
	order, nano, ok := magicOf(h[:])
	if !ok {
		return nil, fmt.Errorf("pcap: magic %x: %w", h[:4], ErrMalformed)
	}
	if kind := order.Uint32(h[20:]) & 0x0fffffff; kind != ethernet {
		return nil, fmt.Errorf("pcap: link type %d, want Ethernet: %w", kind, ErrMalformed)
	}
	return &Reader{r: b, order: order, nano: nano}, nil
}

// malformed turns an early end into ErrMalformed and leaves other errors.
func malformed(what string, err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return fmt.Errorf("pcap: %s is cut off: %w", what, ErrMalformed)
	}
	return fmt.Errorf("pcap: read %s: %w", what, err)
}

// Next returns the next packet, io.EOF after the last.
func (r *Reader) Next() (Packet, error) {
	var h [16]byte
	if n, err := io.ReadFull(r.r, h[:]); err != nil {
		if n == 0 && errors.Is(err, io.EOF) {
			return Packet{}, io.EOF
		}
		return Packet{}, malformed("record header", err)
	}
	have, full := r.order.Uint32(h[8:]), r.order.Uint32(h[12:])
	if have > MaxPacket {
		return Packet{}, fmt.Errorf("pcap: a record of %d bytes: %w", have, ErrMalformed)
	}
	if cap(r.buf) < int(have) {
		r.buf = make([]byte, have, max(int(have), 4096))
	}
	r.buf = r.buf[:have]
	if _, err := io.ReadFull(r.r, r.buf); err != nil {
		return Packet{}, malformed("record", err)
	}
	frac := int64(r.order.Uint32(h[4:]))
	if !r.nano {
		frac *= 1000
	}
	return Packet{At: time.Unix(int64(r.order.Uint32(h[0:])), frac), Data: r.buf, Cut: full > have}, nil
}
