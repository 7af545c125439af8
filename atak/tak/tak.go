// Package tak splits the byte stream between a TAK client and a server into
// messages, and writes them.
//
// Two forms share one stream. In version 0 messages are XML documents, one
// after the other, each ending right behind </event> (or </auth>, which may
// open a stream). In version 1 a message is a frame:
//
//	0xBF, length of the payload as unsigned varint, payload (a TakMessage)
//
// A Reader tells them apart by the first byte, so it needs not know what was
// negotiated. Whatever stands between messages is skipped and counted, as
// ATAK does: some writers send a newline or a zero byte behind each.
package tak

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

// TAK's own port numbers (tak.md, section 3), used only while the bridge is on.
const (
	PortStream = 8089 // events, TLS
	PortHTTPS  = 8443 // files and lists, TLS
)

// Limits of a stream.
const (
	MaxMessage = 1 << 20  // bytes of one message
	maxJunk    = 64 << 10 // bytes between two messages
)

const magic = 0xBF

// Errors that callers tell apart.
var (
	// ErrTooLarge means that a message exceeds MaxMessage. The stream cannot
	// be used any more.
	ErrTooLarge = errors.New("tak: read: message too large")
	// ErrJunk means that the stream carries no messages.
	ErrJunk = errors.New("tak: read: this is no TAK stream")
)

// A Message is one event in either form, or a client's <auth>.
type Message struct {
	Proto bool   // Data is a TakMessage, else an XML document
	Data  []byte // belongs to the caller
}

// A Reader reads messages. Its memory is bounded by MaxMessage.
type Reader struct {
	r    *bufio.Reader
	junk uint64
}

// NewReader returns a Reader of r.
func NewReader(r io.Reader) *Reader { return &Reader{r: bufio.NewReaderSize(r, 16<<10)} }

// Junk is how many bytes were skipped between messages, white space not
// counted.
func (r *Reader) Junk() uint64 { return r.junk }

// Next returns the next message. It fails with io.EOF at the end, and with
// io.ErrUnexpectedEOF when the stream ends inside a message.
func (r *Reader) Next() (Message, error) {
	for skipped := 0; skipped <= maxJunk; skipped++ {
		c, err := r.r.ReadByte()
		if err != nil {
			return Message{}, err
		}
		switch c {
		case magic:
			return r.frame()
		case '<':
			return r.document()
		case 0xEF: // a byte order mark, which ends in the magic byte
			if next, err := r.r.Peek(2); err == nil && next[0] == 0xBB && next[1] == magic {
				_, _ = r.r.Discard(2) // they were peeked
				continue
			}
			r.junk++
		case ' ', '\t', '\r', '\n':
		default:
			r.junk++
		}
	}
	return Message{}, ErrJunk
}

// frame reads what follows the magic byte. Space is taken as bytes come, not
// as they are announced.
func (r *Reader) frame() (Message, error) {
	n, err := binary.ReadUvarint(r.r)
	switch {
	case errors.Is(err, io.EOF):
		return Message{}, io.ErrUnexpectedEOF
	case err != nil && !errors.Is(err, io.ErrUnexpectedEOF):
		return Message{}, fmt.Errorf("%w: its length is no number", ErrTooLarge)
	case err != nil:
		return Message{}, err
	case n > MaxMessage:
		return Message{}, fmt.Errorf("%w: it announces %d bytes, at most %d are taken", ErrTooLarge, n, MaxMessage)
	}
	var b bytes.Buffer
	if _, err := io.CopyN(&b, r.r, int64(n)); err != nil {
		if errors.Is(err, io.EOF) {
			err = io.ErrUnexpectedEOF
		}
		return Message{}, err
	}
	return Message{Proto: true, Data: b.Bytes()}, nil
}

// document reads up to the end tag that closes a version 0 message.
func (r *Reader) document() (Message, error) {
	b := []byte{'<'}
	var end ender
	for {
		c, err := r.r.ReadByte()
		if errors.Is(err, io.EOF) {
			err = io.ErrUnexpectedEOF
		}
		if err != nil {
			return Message{}, err
		}
		if len(b) >= MaxMessage {
			return Message{}, fmt.Errorf("%w: no </event> in %d bytes", ErrTooLarge, MaxMessage)
		}
		b = append(b, c)
		if end.step(b) {
			return Message{Data: b}, nil
		}
	}
}

// An ender finds the end tag of a message: it remembers that one has begun.
type ender struct{ inside bool }

var ends = [][]byte{[]byte("</event"), []byte("</auth")}

func (e *ender) step(b []byte) bool {
	switch c := b[len(b)-1]; {
	case e.inside && c == '>':
		return true
	case e.inside && (c == ' ' || c == '\t' || c == '\r' || c == '\n'):
		return false
	default:
		e.inside = c == 't' && bytes.HasSuffix(b, ends[0]) || c == 'h' && bytes.HasSuffix(b, ends[1])
		return false
	}
}

// AppendFrame adds a version 1 frame to b.
func AppendFrame(b, payload []byte) []byte {
	return append(binary.AppendUvarint(append(b, magic), uint64(len(payload))), payload...)
}

const declaration = `<?xml version="1.0" encoding="UTF-8"?>` + "\n"

// AppendDocument adds a version 0 message to b: nothing may follow </event>.
func AppendDocument(b, event []byte) []byte { return append(append(b, declaration...), event...) }
