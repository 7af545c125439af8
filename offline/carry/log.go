package carry

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"

	"outrider/mesh/identity"
)

// A frame is one transaction:
//
//	length 4 | CRC-32C of the body 4 | CRC-32C of these 8 and the log's number 4 | body
//
// The head has a check of its own, so that a rotten body costs one
// transaction and not all that follow; the number keeps what is left of an
// older log in reused sectors from being read.
const frameHead = 12

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// A place is where a frame lies.
type place struct {
	log    uint32
	offset int64
	length int // with its head
	op     int // which operation in it
}

func headCheck(head []byte, log uint32) uint32 {
	sum := crc32.Update(0, castagnoli, head[:8])
	return crc32.Update(sum, castagnoli, binary.BigEndian.AppendUint32(nil, log))
}

// appendFrame encodes one transaction for log.
func appendFrame(dst []byte, log uint32, ops []Op) ([]byte, error) {
	body, err := identity.Marshal(ops)
	if err != nil {
		return dst, fmt.Errorf("carry: encode: %w", err)
	}
	if len(body) > MaxFrame {
		return dst, fmt.Errorf("carry: transaction of %d bytes exceeds %d", len(body), MaxFrame)
	}
	start := len(dst)
	dst = binary.BigEndian.AppendUint32(dst, uint32(len(body)))
	dst = binary.BigEndian.AppendUint32(dst, crc32.Checksum(body, castagnoli))
	dst = binary.BigEndian.AppendUint32(dst, headCheck(dst[start:], log))
	return append(dst, body...), nil
}

var (
	errHead = errors.New("carry: no frame here")
	errBody = errors.New("carry: frame does not check")
)

// parseBody checks and decodes the body that belongs to head.
func parseBody(head, body []byte) ([]Op, error) {
	if crc32.Checksum(body, castagnoli) != binary.BigEndian.Uint32(head[4:]) {
		return nil, errBody
	}
	var ops []Op
	if err := identity.Unmarshal(body, &ops); err != nil {
		return nil, errBody
	}
	return ops, nil
}

// bodyLength returns the length a head states, or errHead.
func bodyLength(head []byte, log uint32) (int, error) {
	n := binary.BigEndian.Uint32(head)
	if headCheck(head, log) != binary.BigEndian.Uint32(head[8:]) || n > MaxFrame {
		return 0, errHead
	}
	return int(n), nil
}

// scan calls each for every transaction of a log in order, and returns where
// the last of them ends and what was lost before it. Behind bytes that are no
// frame it looks for the next one; what is left at the end is a write that
// was cut off, not damage.
func scan(file io.Reader, log uint32, each func(place, []Op)) (end int64, lost Damage, err error) {
	r := bufio.NewReaderSize(file, frameHead+MaxFrame)
	for at, skipped := int64(0), int64(0); ; {
		raw, ops, err := next(r, log)
		switch {
		case errors.Is(err, errHead):
			skipped++
			at++
			_, _ = r.Discard(1) // it was peeked at
			continue
		case errors.Is(err, io.EOF):
			return end, lost, nil
		case err != nil && !errors.Is(err, errBody):
			return end, lost, fmt.Errorf("carry: read: %w", err)
		}
		lost.Bytes += skipped
		skipped = 0
		if err != nil {
			lost.Frames++
		} else {
			each(place{log: log, offset: at, length: raw}, ops)
		}
		at += int64(raw)
		end = at
		_, _ = r.Discard(raw)
	}
}

// next peeks at the frame that begins here: io.EOF when there is no head any
// more, errHead when it is none or its body is cut off, errBody when the body
// does not check.
func next(r *bufio.Reader, log uint32) (length int, ops []Op, err error) {
	head, err := r.Peek(frameHead)
	if err != nil {
		return 0, nil, err
	}
	n, err := bodyLength(head, log)
	if err != nil {
		return 0, nil, err
	}
	raw, err := r.Peek(frameHead + n)
	if errors.Is(err, io.EOF) {
		return 0, nil, errHead
	}
	if err != nil {
		return 0, nil, err
	}
	ops, err = parseBody(raw[:frameHead], raw[frameHead:])
	return len(raw), ops, err
}

// readOp reads one operation again.
func readOp(f *os.File, at place) (Op, error) {
	raw := make([]byte, at.length)
	if _, err := f.ReadAt(raw, at.offset); err != nil {
		return Op{}, fmt.Errorf("carry: read: %w", err)
	}
	if n, err := bodyLength(raw, at.log); err != nil || n != at.length-frameHead {
		return Op{}, errHead
	}
	ops, err := parseBody(raw[:frameHead], raw[frameHead:])
	if err != nil || at.op >= len(ops) {
		return Op{}, errBody
	}
	return ops[at.op], nil
}
