package mdns

import (
	"bytes"
	"net/netip"
	"slices"
	"strings"

	"golang.org/x/net/dns/dnsmessage"
)

// A record is one address record of a name, or another type, which has no
// address.
type record struct {
	typ  dnsmessage.Type
	addr netip.Addr
}

// foreign are the records that are not of this machine.
func foreign(rs []record, own func(netip.Addr) bool) []record {
	return slices.DeleteFunc(slices.Clone(rs), func(r record) bool { return r.addr.IsValid() && own(r.addr) })
}

// recordsOf returns the records of a name: what a response has among its
// answers, or a probe among its authorities. Garbage ends the list.
func recordsOf(packet []byte, name string) (out []record, response bool) {
	var p dnsmessage.Parser
	head, err := p.Start(packet)
	if err != nil || head.OpCode != 0 || p.SkipAllQuestions() != nil {
		return nil, false
	}
	next, addr4, addr6, skip := p.AnswerHeader, p.AResource, p.AAAAResource, p.SkipAnswer
	if !head.Response {
		if p.SkipAllAnswers() != nil {
			return nil, false
		}
		next, skip = p.AuthorityHeader, p.SkipAuthority
	}
	for {
		h, err := next()
		if err != nil {
			return out, head.Response
		}
		if !strings.EqualFold(h.Name.String(), name+".") || h.Class&^flushBit != dnsmessage.ClassINET || h.TTL == 0 && head.Response {
			if skip() != nil {
				return out, head.Response
			}
			continue
		}
		r := record{typ: h.Type}
		switch h.Type {
		case dnsmessage.TypeA:
			a, err := addr4()
			if err != nil {
				return out, head.Response
			}
			r.addr = netip.AddrFrom4(a.A)
		case dnsmessage.TypeAAAA:
			a, err := addr6()
			if err != nil {
				return out, head.Response
			}
			r.addr = netip.AddrFrom16(a.AAAA)
		default:
			if skip() != nil {
				return out, head.Response
			}
		}
		out = append(out, r)
	}
}

// later reports whether our records come later than theirs in the order that
// decides a tie (RFC 6762, section 8.2.1), and whether they differ.
func later(ours, theirs []record) (won, differ bool) {
	order := func(a, b record) int {
		if a.typ != b.typ {
			return int(a.typ) - int(b.typ)
		}
		return bytes.Compare(a.addr.AsSlice(), b.addr.AsSlice())
	}
	ours, theirs = slices.SortedFunc(slices.Values(ours), order), slices.SortedFunc(slices.Values(theirs), order)
	switch c := slices.CompareFunc(ours, theirs, order); {
	case c == 0:
		return false, false
	default:
		return c > 0, true
	}
}

func recordsFor(has []netip.Addr) (out []record) {
	for _, a := range has {
		r := record{dnsmessage.TypeA, a}
		if a.Is6() {
			r.typ = dnsmessage.TypeAAAA
		}
		out = append(out, r)
	}
	return out
}

// probeFor asks whether anybody has a name, and says which records would be
// ours. It does not ask for an answer to us alone, as it may: of programs that
// share the port only one would hear that.
func probeFor(name string, has []netip.Addr) []byte {
	n, err := dnsmessage.NewName(name + ".")
	if err != nil {
		return nil
	}
	b := dnsmessage.NewBuilder(nil, dnsmessage.Header{})
	b.EnableCompression()
	if b.StartQuestions() != nil || b.Question(dnsmessage.Question{Name: n, Type: dnsmessage.TypeALL, Class: dnsmessage.ClassINET}) != nil || b.StartAuthorities() != nil {
		return nil
	}
	if put(&b, dnsmessage.ResourceHeader{Name: n, Class: dnsmessage.ClassINET, TTL: ttlSeconds}, has, true, true) == 0 {
		return nil
	}
	out, err := b.Finish()
	if err != nil {
		return nil
	}
	return out
}

// announcement tells everybody what the name has, so that they forget what
// they had.
func announcement(name string, has []netip.Addr) []byte {
	return build(0, dnsmessage.Question{}, name, has, true, true, false)
}

// put adds address records and returns their number, 0 if one does not fit.
func put(b *dnsmessage.Builder, h dnsmessage.ResourceHeader, has []netip.Addr, v4, v6 bool) (n int) {
	var err error
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
			return 0
		}
		n++
	}
	return n
}
