// Package mdns has one name below .local on the LAN (RFC 6762), so that people
// can type a name in place of an address.
//
// What it promises: before it answers to a name it asks whether another machine
// has it, and takes the next one if so (sections 8 and 9); it speaks of that
// name only, with the addresses of the interface that the question came in on
// and nothing else about the machine; beside three questions and two
// announcements for each name and interface it sends nothing that nobody asked
// for; an answer is smaller than 512 bytes, goes to the LAN's multicast group
// or, for simple askers, to a neighbour on the same network; and it sends at
// most answersPerSecond, however many questions come. It shares the port with
// other responders of the machine, and speaks over IPv4 and IPv6.
//
// mdns.go runs it, claim.go decides whose a name is, message.go reads and
// writes packets, wire.go has the sockets.
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
	"time"

	"golang.org/x/net/dns/dnsmessage"
	"golang.org/x/sync/errgroup"
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

var (
	group4 = netip.AddrFrom4([4]byte{224, 0, 0, 251})
	group6 = netip.MustParseAddr("ff02::fb")
)

// What we chose.
const (
	answersPerSecond = 20
	maxAddrs         = 8                // in one answer
	rejoin           = 15 * time.Second // between looks for new interfaces
	maxHeard         = 16               // packets that wait; the kernel drops what is more
)

// A Responder answers to Name, or to the next name if another machine has it.
type Responder struct {
	// Name is the whole name that is wanted, as outrider-abcdef.local.
	Name string
	// Has is told the name whenever it changes: "" while none is ours.
	Has func(name string)
	Log *slog.Logger

	claim   *claim
	told    string
	wires   []*wire
	answers []time.Time // of the last second
}

// Run answers until ctx ends. An error means that the port cannot be had.
func (r *Responder) Run(ctx context.Context) error {
	if r.Log == nil {
		r.Log = slog.New(slog.DiscardHandler)
	}
	var errs []error
	for _, open := range []func(context.Context) (*wire, error){wire4, wire6} {
		if w, err := open(ctx); err != nil {
			errs = append(errs, err)
		} else {
			r.wires = append(r.wires, w)
		}
	}
	if len(r.wires) == 0 {
		return fmt.Errorf("mdns: listen on %d/udp: %w", port, errors.Join(errs...))
	}
	g, ctx := errgroup.WithContext(ctx)
	in := make(chan heard, maxHeard)
	for _, w := range r.wires {
		stop := context.AfterFunc(ctx, func() { w.conn.Close() })
		defer stop()
		g.Go(func() error {
			if err := w.listenTo(ctx, in); err != nil && ctx.Err() == nil {
				return fmt.Errorf("mdns: read: %w", err)
			}
			return nil
		})
	}
	g.Go(func() error { r.serve(ctx, in); return nil })
	return g.Wait()
}

// serve holds the name until ctx ends.
func (r *Responder) serve(ctx context.Context, in <-chan heard) {
	r.claim = newClaim(r.Name, time.Now())
	look := time.NewTicker(rejoin)
	defer look.Stop()
	r.join()
	for {
		r.act(time.Now())
		r.tell()
		next := time.NewTimer(rejoin)
		if !r.claim.at.IsZero() {
			next.Reset(max(0, time.Until(r.claim.at)))
		}
		select {
		case h := <-in:
			r.hear(h, time.Now())
		case <-next.C:
		case <-look.C:
			r.join()
		case <-ctx.Done():
			next.Stop()
			return
		}
		next.Stop()
	}
}

// join looks for new interfaces. On a new one somebody else may have the name.
func (r *Responder) join() {
	fresh := false
	for _, w := range r.wires {
		fresh = w.join() || fresh
	}
	if fresh {
		r.claim.restart(time.Now())
	}
}

// tell passes the name on.
func (r *Responder) tell() {
	name := r.claim.name()
	if name == r.told || name != "" && !r.claim.ours {
		return
	}
	r.told = name
	switch {
	case name == "":
		r.Log.Warn("the page's .local names are all taken on the LAN; it is reached by address", "tried", namesMost)
	case r.claim.n > 1:
		r.Log.Warn("the page's .local name belongs to another machine on the LAN; the next one is used", "number", r.claim.n)
	}
	if r.Has != nil {
		r.Has(name)
	}
}

// act sends what the claim wants sent, on every interface with its addresses.
func (r *Responder) act(now time.Time) {
	for do := r.claim.due(now); do != nothing; do = r.claim.due(now) {
		for _, w := range r.wires {
			for index := range w.joined {
				has := addrs(networks(index))
				b := probeFor(r.claim.name(), has)
				if do == announce {
					b = announcement(r.claim.name(), has)
				}
				if b == nil {
					continue
				}
				if err := w.all(b, index); err != nil {
					r.Log.Debug("mdns: a packet was not sent", "err", err)
				}
			}
		}
	}
}

// hear takes a packet in: an answer of somebody who has the name, a probe of
// somebody who wants it, or a question.
func (r *Responder) hear(h heard, now time.Time) {
	name, nets := r.claim.name(), networks(h.index)
	if name == "" || !near(nets, h.from.Addr().WithZone("")) {
		return
	}
	records, response := recordsOf(h.packet, name)
	theirs := foreign(records, ownAddr)
	switch {
	case response && h.from.Port() == port && len(theirs) > 0: // others are to be ignored (section 6)
		r.claim.conflict(now)
		return
	case response:
		return
	case len(theirs) > 0 && !r.claim.ours:
		if won, differ := later(recordsFor(addrs(nets)), records); differ {
			r.claim.tie(won, now)
		}
		return
	case !r.claim.ours:
		return
	}
	a, unicast := answer(h.packet, name, addrs(nets), h.from.Port() != port)
	if a == nil || !r.allow(now) {
		return
	}
	err := error(nil)
	if unicast {
		err = h.wire.write(a, h.index, net.UDPAddrFromAddrPort(h.from))
	} else {
		err = h.wire.all(a, h.index)
	}
	if err != nil {
		r.Log.Debug("mdns: an answer was not sent", "err", err)
	}
}

// ownAddr reports whether an address is this machine's: what another of its
// interfaces says is heard as well.
func ownAddr(a netip.Addr) bool {
	list, err := net.InterfaceAddrs()
	if err != nil {
		return false
	}
	return slices.ContainsFunc(list, func(n net.Addr) bool {
		ip, ok := n.(*net.IPNet)
		return ok && ip.IP.Equal(a.AsSlice())
	})
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
	count := put(&b, h, has, v4, v6)
	out, err := b.Finish()
	if err != nil || count == 0 {
		return nil
	}
	return out
}
