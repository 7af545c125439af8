// Package wire measures what one message costs on the wire: real nodes in
// network namespaces, every Ethernet frame between them counted.
//
// It stands apart from the other benchmarks because it needs root, or
// unprivileged user namespaces, and /dev/net/tun.
package wire

import (
	"encoding/binary"
	"errors"
	"io"
	"os"
	"time"

	"outrider/field-tests/pcap"
)

// AnyPort stands for all frames.
const AnyPort = 0

// A Window is the time of one message.
type Window struct{ From, To time.Time }

// Count returns for each window the bytes and frames of a capture that
// belonged to a link between two nodes: those with the mesh port at either
// end, TCP or UDP. What finds neighbours has a port of its own and is not
// counted, nor is ARP. A frame counts as it was captured: with its Ethernet
// header, without preamble, padding and check sequence. With AnyPort all
// frames count.
func Count(path string, meshPort uint16, windows []Window) (sizes, frames []int, err error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, nil, err
	}
	defer f.Close()
	r, err := pcap.NewReader(f)
	if err != nil {
		return nil, nil, err
	}
	sizes, frames = make([]int, len(windows)), make([]int, len(windows))
	for {
		p, err := r.Next()
		if errors.Is(err, io.EOF) {
			return sizes, frames, nil
		}
		if err != nil {
			return nil, nil, err
		}
		if meshPort != AnyPort && !hasPort(p.Data, meshPort) {
			continue
		}
		for i, w := range windows {
			if !p.At.Before(w.From) && p.At.Before(w.To) {
				sizes[i] += len(p.Data)
				frames[i]++
			}
		}
	}
}

const (
	etherHeader = 14
	etherIPv4   = 0x0800
	protoTCP    = 6
	protoUDP    = 17
)

// hasPort reports whether an Ethernet frame holds a TCP or UDP packet over
// IPv4 from or to a port. Namespaces here have no IPv6.
func hasPort(frame []byte, port uint16) bool {
	if len(frame) < etherHeader+20 || binary.BigEndian.Uint16(frame[12:]) != etherIPv4 {
		return false
	}
	ip := frame[etherHeader:]
	head := int(ip[0]&0x0f) * 4
	if ip[9] != protoTCP && ip[9] != protoUDP || len(ip) < head+4 {
		return false
	}
	return binary.BigEndian.Uint16(ip[head:]) == port || binary.BigEndian.Uint16(ip[head+2:]) == port
}
