package plainsearch

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net/netip"

	"outrider/field-tests/pcap"
)

const (
	// earlyMax bounds the TCP segments of one stream held back until the ones
	// before them come, in bytes. Beyond it the gap is given up.
	earlyMax   = 1 << 20
	streamsMax = 4096
)

// capture searches a capture stream by stream: what one side of a TCP
// connection sent, in order, without headers; and all that one UDP socket sent
// to another, packet after packet.
func (s *Searcher) capture(where string, r io.Reader) ([]Hit, error) {
	p, err := pcap.NewReader(r)
	if errors.Is(err, pcap.ErrMalformed) {
		return nil, nil // it was searched as a file
	}
	if err != nil {
		return nil, fmt.Errorf("plainsearch: %w", err)
	}
	c := &streams{s: s, sink: newSink(where), open: map[flow]*stream{}}
	for {
		pkt, err := p.Next()
		if errors.Is(err, io.EOF) || errors.Is(err, pcap.ErrMalformed) {
			break
		}
		if err != nil {
			return c.sink.hits, fmt.Errorf("plainsearch: %w", err)
		}
		c.packet(pkt.Data)
	}
	for _, st := range c.open {
		st.close()
	}
	return c.sink.hits, nil
}

// flow names one direction of a conversation.
type flow struct {
	src, dst netip.AddrPort
	tcp      bool
}

func (f flow) String() string {
	proto := "udp"
	if f.tcp {
		proto = "tcp"
	}
	return fmt.Sprintf("stream %s->%s/%s", f.src, f.dst, proto)
}

type streams struct {
	s    *Searcher
	sink *sink
	open map[flow]*stream
}

// packet takes one Ethernet frame apart; what is no TCP or UDP over IP has
// been searched as part of the file.
func (c *streams) packet(b []byte) {
	src, dst, proto, rest, ok := ipPacket(b)
	if !ok {
		return
	}
	f := flow{tcp: proto == 6}
	var seq uint32
	syn := false
	switch {
	case proto == 6 && len(rest) >= 20: // RFC 9293, section 3.1
		head := int(rest[12]>>4) * 4
		if head < 20 || head > len(rest) {
			return
		}
		seq, syn = binary.BigEndian.Uint32(rest[4:]), rest[13]&2 != 0
		f.src, f.dst = ports(src, dst, rest)
		rest = rest[head:]
	case proto == 17 && len(rest) >= 8: // RFC 768
		f.src, f.dst = ports(src, dst, rest)
		rest = rest[8:min(len(rest), max(8, int(binary.BigEndian.Uint16(rest[4:]))))]
	default:
		return
	}
	st := c.open[f]
	if st == nil || syn {
		if st != nil {
			st.close()
		} else if len(c.open) >= streamsMax {
			c.closeOne()
		}
		st = &stream{sc: c.s.newScanner(c.sink, f.String(), 0), early: map[uint32][]byte{}}
		c.open[f] = st
	}
	if !f.tcp {
		st.sc.write(rest)
		return
	}
	if syn {
		seq++
	}
	st.segment(seq, rest)
}

func (c *streams) closeOne() {
	for f, st := range c.open {
		st.close()
		delete(c.open, f)
		return
	}
}

func ports(src, dst netip.Addr, b []byte) (netip.AddrPort, netip.AddrPort) {
	return netip.AddrPortFrom(src, binary.BigEndian.Uint16(b)), netip.AddrPortFrom(dst, binary.BigEndian.Uint16(b[2:]))
}

// ipPacket finds the IP packet in an Ethernet frame and what it carries.
func ipPacket(b []byte) (src, dst netip.Addr, proto byte, rest []byte, ok bool) {
	if len(b) < 14 {
		return
	}
	kind := binary.BigEndian.Uint16(b[12:])
	b = b[14:]
	switch {
	case kind == 0x0800 && len(b) >= 20: // RFC 791; fragments are left to the search of the file
		head, total := int(b[0]&15)*4, int(binary.BigEndian.Uint16(b[2:]))
		if head < 20 || total < head || total > len(b) || binary.BigEndian.Uint16(b[6:])&0x3fff != 0 {
			return
		}
		return netip.AddrFrom4([4]byte(b[12:])), netip.AddrFrom4([4]byte(b[16:])), b[9], b[head:total], true
	case kind == 0x86dd && len(b) >= 40: // RFC 8200, without extension headers
		total := 40 + int(binary.BigEndian.Uint16(b[4:]))
		if total > len(b) {
			return
		}
		return netip.AddrFrom16([16]byte(b[8:])), netip.AddrFrom16([16]byte(b[24:])), b[6], b[40:total], true
	}
	return
}

// stream puts one direction of a TCP connection in order.
type stream struct {
	sc      *scanner
	next    uint32 // sequence number expected
	known   bool
	early   map[uint32][]byte
	earlySz int
}

// segment takes a segment, whatever its place; sequence numbers wrap.
func (st *stream) segment(seq uint32, data []byte) {
	if !st.known {
		st.next, st.known = seq, true
	}
	if ahead := int32(seq - st.next); ahead > 0 {
		if len(data) > 0 && len(st.early[seq]) < len(data) {
			st.earlySz += len(data) - len(st.early[seq])
			st.early[seq] = append([]byte(nil), data...)
		}
		if st.earlySz > earlyMax {
			st.skip()
		}
		return
	}
	st.take(seq, data)
	st.drain()
}

// take writes what is new of a segment that begins at or before next.
func (st *stream) take(seq uint32, data []byte) {
	if old := int(int32(st.next - seq)); old < len(data) {
		st.sc.write(data[old:])
		st.next += uint32(len(data) - old)
	}
}

// drain takes the early segments whose turn has come.
func (st *stream) drain() {
	for again := true; again; {
		again = false
		for seq, data := range st.early {
			if int32(seq-st.next) <= 0 {
				st.earlySz -= len(data)
				delete(st.early, seq)
				st.take(seq, data)
				again = true
			}
		}
	}
}

// skip gives up a gap: the stream goes on at the nearest early segment.
func (st *stream) skip() {
	best, found := uint32(0), false
	for seq := range st.early {
		if !found || int32(seq-best) < 0 {
			best, found = seq, true
		}
	}
	if found {
		st.next = best
		st.drain()
	}
}

func (st *stream) close() {
	for len(st.early) > 0 {
		st.skip()
	}
	st.sc.close()
}
