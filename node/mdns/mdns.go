// Package mdns answers on the LAN to one name below .local (RFC 6762), so that
// people can type a name in place of an address.
//
// What it promises: it speaks of that name only, with the addresses of the
// interface that the question came in on and nothing else about the machine;
// it sends nothing that nobody asked for; an answer is smaller than 512 bytes,
// goes to the LAN's multicast group or, for simple askers, to a neighbour on
// the same network; and it sends at most answersPerSecond, however many
// questions come. It shares the port with other responders of the machine.
//
// It does not probe for its name (RFC 6762, section 8): the default name holds
// a part of the node's identifier, and whoever gives two nodes one name gets
// the address of either.
package mdns

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"strings"
	"syscall"
	"time"

	"golang.org/x/net/dns/dnsmessage"
	"golang.org/x/net/ipv4"
	"golang.org/x/sys/unix"
)

// What the protocol fixes (RFC 6762, sections 3, 5.4, 6.7 and 10).
const (
	port        = 5353
	unicastBit  = 1 << 15 // of a question's class: answer me alone
	flushBit    = 1 << 15 // of a record's class: forget what you had
	ttlSeconds  = 120
	ttlLegacy   = 10
	maxQuestion = 9000 // bytes of a packet
)

var group = netip.AddrFrom4([4]byte{224, 0, 0, 251})

// What we chose.
const (
	answersPerSecond = 20
	maxAddrs         = 8                // in one answer
	rejoin           = 15 * time.Second // between looks for new interfaces
)

// A Responder answers to Name.
type Responder struct {
	// Name is the whole name, as outrider-abcdef.local.
	Name string
	Log  *slog.Logger

	answers []time.Time // of the last second
}

// Run answers until ctx ends. An error means that the port cannot be had.
func (r *Responder) Run(ctx context.Context) error {
	if r.Log == nil {
		r.Log = slog.New(slog.DiscardHandler)
	}
	conn, err := listen(ctx)
	if err != nil {
		return fmt.Errorf("mdns: listen on %d/udp: %w", port, err)
	}
	defer conn.Close()
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	defer stop()
	p := ipv4.NewPacketConn(conn)
	if err := p.SetControlMessage(ipv4.FlagInterface, true); err != nil {
		return fmt.Errorf("mdns: learn interfaces of questions: %w", err)
	}
	_ = p.SetMulticastTTL(255) // RFC 6762, section 11: expected, no longer checked
	joined := map[int]bool{}
	for ctx.Err() == nil {
		join(p, joined)
		if err := conn.SetReadDeadline(time.Now().Add(rejoin)); err != nil {
			break
		}
		if err := r.serve(p); err != nil && !errors.Is(err, net.ErrClosed) {
			return fmt.Errorf("mdns: read: %w", err)
		}
	}
	return nil
}

// listen shares the port with the machine's other responders.
func listen(ctx context.Context) (net.PacketConn, error) {
	lc := net.ListenConfig{Control: func(_, _ string, c syscall.RawConn) error {
		var opt error
		err := c.Control(func(fd uintptr) {
			opt = errors.Join(unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_REUSEADDR, 1),
				unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_REUSEPORT, 1))
		})
		return errors.Join(err, opt)
	}}
	return lc.ListenPacket(ctx, "udp4", fmt.Sprintf("0.0.0.0:%d", port))
}

// join enters the group on every interface that has it and was not seen
// before. One that refuses is tried again.
func join(p *ipv4.PacketConn, joined map[int]bool) {
	ifis, err := net.Interfaces()
	if err != nil {
		return
	}
	for _, ifi := range ifis {
		if up := net.FlagUp | net.FlagMulticast; ifi.Flags&up != up || ifi.Flags&net.FlagLoopback != 0 {
			delete(joined, ifi.Index)
			continue
		}
		if !joined[ifi.Index] && (p.JoinGroup(&ifi, &net.UDPAddr{IP: group.AsSlice()}) == nil) {
			joined[ifi.Index] = true
		}
	}
}

// serve answers questions until the read deadline.
func (r *Responder) serve(p *ipv4.PacketConn) error {
	buf := make([]byte, maxQuestion)
	for {
		n, cm, src, err := p.ReadFrom(buf)
		if err != nil {
			if t, ok := errors.AsType[net.Error](err); ok && t.Timeout() {
				return nil
			}
			return err
		}
		from, ok := src.(*net.UDPAddr)
		if !ok || cm == nil {
			continue
		}
		nets := networks(cm.IfIndex)
		if !near(nets, from.AddrPort().Addr().Unmap()) {
			continue
		}
		a, unicast := answer(buf[:n], r.Name, addrs(nets), from.Port != port)
		if a == nil || !r.allow(time.Now()) {
			continue
		}
		to := net.Addr(&net.UDPAddr{IP: group.AsSlice(), Port: port})
		if unicast {
			to = src
		}
		if _, err := p.WriteTo(a, &ipv4.ControlMessage{IfIndex: cm.IfIndex}, to); err != nil {
			r.Log.Debug("mdns: an answer was not sent", "err", err)
		}
	}
}

// allow bounds the answers of any second.
func (r *Responder) allow(now time.Time) bool {
	r.answers = slices.DeleteFunc(r.answers, func(t time.Time) bool { return now.Sub(t) >= time.Second })
	if len(r.answers) >= answersPerSecond {
		return false
	}
	r.answers = append(r.answers, now)
	return true
}

// networks returns the addresses of an interface with their prefixes.
func networks(index int) (out []netip.Prefix) {
	ifi, err := net.InterfaceByIndex(index)
	if err != nil {
		return nil
	}
	list, err := ifi.Addrs()
	if err != nil {
		return nil
	}
	for _, a := range list {
		if n, ok := a.(*net.IPNet); ok {
			ip, _ := netip.AddrFromSlice(n.IP)
			bits, _ := n.Mask.Size()
			out = append(out, netip.PrefixFrom(ip.Unmap(), bits))
		}
	}
	return out
}

// near reports whether an asker is on the interface's own network: nobody
// farther away is answered (RFC 6762, section 11).
func near(nets []netip.Prefix, a netip.Addr) bool {
	return slices.ContainsFunc(nets, func(p netip.Prefix) bool { return p.Contains(a) })
}

// addrs are what an asker can reach: IPv4 first, link-local IPv6 left out,
// since a browser cannot use it without a zone.
func addrs(nets []netip.Prefix) (out []netip.Addr) {
	for _, p := range nets {
		if a := p.Addr(); !a.IsLoopback() && !(a.Is6() && a.IsLinkLocalUnicast()) {
			out = append(out, a)
		}
	}
	slices.SortStableFunc(out, func(a, b netip.Addr) int { return a.BitLen() - b.BitLen() })
	return out[:min(len(out), maxAddrs)]
}

// answer returns the packet that answers a question, nil when it is none or
// not about name. legacy says that it did not come from the protocol's port.
func answer(packet []byte, name string, has []netip.Addr, legacy bool) (out []byte, unicast bool) {
	var p dnsmessage.Parser
	head, err := p.Start(packet)
	if err != nil || head.Response || head.OpCode != 0 {
		return nil, false
	}
	var v4, v6 bool
	var asked dnsmessage.Question
	unicast = true
	for {
		q, err := p.Question()
		if err != nil {
			break // the end, or garbage behind what was understood
		}
		class := q.Class &^ unicastBit
		if !strings.EqualFold(q.Name.String(), name+".") || class != dnsmessage.ClassINET && class != dnsmessage.ClassANY {
			continue
		}
		v4 = v4 || q.Type == dnsmessage.TypeA || q.Type == dnsmessage.TypeALL
		v6 = v6 || q.Type == dnsmessage.TypeAAAA || q.Type == dnsmessage.TypeALL
		unicast = unicast && (legacy || q.Class&unicastBit != 0)
		asked = q
	}
	if !v4 && !v6 {
		return nil, false
	}
	return build(head.ID, asked, name, has, v4, v6, legacy), unicast
}

// build writes the answer. Simple askers get their question and its number
// back and keep the answer for a short time (RFC 6762, section 6.7).
func build(id uint16, asked dnsmessage.Question, name string, has []netip.Addr, v4, v6, legacy bool) []byte {
	h := dnsmessage.ResourceHeader{Class: dnsmessage.ClassINET | flushBit, TTL: ttlSeconds}
	head := dnsmessage.Header{Response: true, Authoritative: true}
	if legacy {
		h.Class, h.TTL, head.ID = dnsmessage.ClassINET, ttlLegacy, id
	}
	n, err := dnsmessage.NewName(name + ".")
	if err != nil {
		return nil
	}
	h.Name = n
	b := dnsmessage.NewBuilder(nil, head)
	b.EnableCompression()
	if legacy {
		asked.Class &^= unicastBit
		if b.StartQuestions() != nil || b.Question(asked) != nil {
			return nil
		}
	}
	if b.StartAnswers() != nil {
		return nil
	}
	count := 0
	for _, a := range has {
		switch {
		case a.Is4() && v4:
			err = b.AResource(h, dnsmessage.AResource{A: a.As4()})
		case a.Is6() && v6:
			err = b.AAAAResource(h, dnsmessage.AAAAResource{AAAA: a.As16()})
		default:
			continue
		}
		if err != nil {
			return nil
		}
		count++
	}
	out, err := b.Finish()
	if err != nil || count == 0 {
		return nil
	}
	return out
}
