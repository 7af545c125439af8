package mdns

import (
	"net/netip"
	"testing"
	"time"

	"golang.org/x/net/dns/dnsmessage"
)

const name = "outrider-abcdef.local"

var own = []netip.Addr{netip.MustParseAddr("192.168.7.1"), netip.MustParseAddr("fd00::7")}

func question(t testing.TB, typ dnsmessage.Type, class dnsmessage.Class, names ...string) []byte {
	t.Helper()
	b := dnsmessage.NewBuilder(nil, dnsmessage.Header{ID: 77})
	if err := b.StartQuestions(); err != nil {
		t.Fatal(err)
	}
	for _, n := range names {
		if err := b.Question(dnsmessage.Question{Name: dnsmessage.MustNewName(n), Type: typ, Class: class}); err != nil {
			t.Fatal(err)
		}
	}
	out, err := b.Finish()
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func read(t testing.TB, packet []byte) (out []string, m dnsmessage.Message) {
	t.Helper()
	if err := m.Unpack(packet); err != nil {
		t.Fatal(err)
	}
	for _, r := range m.Answers {
		switch b := r.Body.(type) {
		case *dnsmessage.AResource:
			out = append(out, netip.AddrFrom4(b.A).String())
		case *dnsmessage.AAAAResource:
			out = append(out, netip.AddrFrom16(b.AAAA).String())
		}
	}
	return out, m
}

func TestN04AnswersToItsName(t *testing.T) {
	for _, c := range []struct {
		typ  dnsmessage.Type
		name string
		want int
	}{
		{dnsmessage.TypeA, name + ".", 1}, {dnsmessage.TypeAAAA, name + ".", 1}, {dnsmessage.TypeALL, name + ".", 2},
		{dnsmessage.TypeA, "OUTRIDER-ABCDEF.local.", 1},
	} {
		a, unicast := answer(question(t, c.typ, dnsmessage.ClassINET, "printer.local.", c.name), name, own, false)
		if a == nil || unicast {
			t.Fatalf("%v: %d bytes, unicast %v", c, len(a), unicast)
		}
		got, m := read(t, a)
		if len(got) != c.want || m.ID != 0 || len(m.Questions) != 0 || !m.Response || !m.Authoritative || m.Answers[0].Header.TTL != ttlSeconds {
			t.Errorf("%v: %v %+v", c, got, m.Header)
		}
		if len(a) > 512 {
			t.Errorf("%d bytes", len(a))
		}
	}
}

func TestN04SimpleAskersGetTheirQuestionBack(t *testing.T) {
	a, unicast := answer(question(t, dnsmessage.TypeA, dnsmessage.ClassINET, name+"."), name, own, true)
	got, m := read(t, a)
	if !unicast || m.ID != 77 || len(m.Questions) != 1 || len(got) != 1 || m.Answers[0].Header.TTL != ttlLegacy || m.Answers[0].Header.Class != dnsmessage.ClassINET {
		t.Errorf("unicast %v, %+v", unicast, m)
	}
	if _, unicast := answer(question(t, dnsmessage.TypeA, dnsmessage.ClassINET|unicastBit, name+"."), name, own, false); !unicast {
		t.Error("who asks for an answer of their own gets one for all")
	}
}

func TestN04SaysNothingElse(t *testing.T) {
	response := question(t, dnsmessage.TypeA, dnsmessage.ClassINET, name+".")
	response[2] |= 0x80
	for what, packet := range map[string][]byte{
		"another name":     question(t, dnsmessage.TypeA, dnsmessage.ClassINET, "printer.local."),
		"a longer name":    question(t, dnsmessage.TypeA, dnsmessage.ClassINET, "x."+name+"."),
		"services":         question(t, dnsmessage.TypePTR, dnsmessage.ClassINET, "_services._dns-sd._udp.local."),
		"another type":     question(t, dnsmessage.TypeTXT, dnsmessage.ClassINET, name+"."),
		"another class":    question(t, dnsmessage.TypeA, dnsmessage.ClassCHAOS, name+"."),
		"somebody's reply": response, "nothing": nil, "half a header": {0, 0, 0},
	} {
		if a, _ := answer(packet, name, own, false); a != nil {
			t.Errorf("%s was answered", what)
		}
	}
	if a, _ := answer(question(t, dnsmessage.TypeAAAA, dnsmessage.ClassINET, name+"."), name, own[:1], false); a != nil {
		t.Error("an address family that is not there was answered")
	}
}

func TestN04AnswersAreFew(t *testing.T) {
	r := &Responder{}
	now := time.Now()
	for i := range answersPerSecond {
		if !r.allow(now) {
			t.Fatalf("answer %d refused", i)
		}
	}
	if r.allow(now) {
		t.Error("one too many was allowed")
	}
	if !r.allow(now.Add(time.Second)) {
		t.Error("a second later it is still silent")
	}
}

func TestN04OnlyNeighbours(t *testing.T) {
	nets := []netip.Prefix{netip.MustParsePrefix("192.168.7.1/24"), netip.MustParsePrefix("fe80::1/64"), netip.MustParsePrefix("fd00::1/64")}
	if !near(nets, netip.MustParseAddr("192.168.7.200")) || near(nets, netip.MustParseAddr("8.8.8.8")) || near(nil, own[0]) {
		t.Error("who is a neighbour is judged wrongly")
	}
	if got := addrs(nets); len(got) != 2 || got[0].String() != "192.168.7.1" || got[1].String() != "fd00::1" {
		t.Errorf("%v", got)
	}
	many := nets
	for range maxAddrs + 1 {
		many = append(many, nets[0])
	}
	if n := len(addrs(many)); n != maxAddrs {
		t.Errorf("%d addresses in one answer", n)
	}
}

func FuzzAnswer(f *testing.F) {
	f.Add(question(f, dnsmessage.TypeA, dnsmessage.ClassINET, name+"."), false)
	f.Add(question(f, dnsmessage.TypeALL, dnsmessage.ClassANY|unicastBit, "a.local.", name+"."), true)
	f.Add([]byte{0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0xc0, 0x0c}, false)
	f.Fuzz(func(t *testing.T, packet []byte, legacy bool) {
		a, _ := answer(packet, name, own, legacy)
		if a == nil {
			return
		}
		if got, _ := read(t, a); len(got) == 0 || len(a) > 512 {
			t.Fatalf("%v, %d bytes", got, len(a))
		}
	})
}
