package p2p

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"outrider/mesh/cla"
	"outrider/mesh/crowd"
	"outrider/mesh/identity"
)

// stranger connects to n as node k and proves the key, but says nothing.
func stranger(t testing.TB, n *node, k int, change func(*Config)) session {
	t.Helper()
	l := newLayer(t, k, change)
	var s session
	eventually(t, "the door has room for a stranger", func() (ok bool) {
		var err error
		s, err = l.dialTCP(soon(t), n.self, n.Addrs()[0])
		if err != nil && !errors.Is(err, errBusy) {
			t.Fatalf("connect as a stranger: %v", err)
		}
		return err == nil
	})
	t.Cleanup(s.Close)
	return s
}

// ask proposes a protocol with first behind it and returns what is answered.
func ask(t testing.TB, s session, proto string, first []byte) (stream, *bufio.Reader, error) {
	t.Helper()
	st, err := s.Open(soon(t))
	if err != nil {
		return nil, nil, err
	}
	st.SetDeadline(time.Now().Add(patience))
	if err := propose(st, proto, first); err != nil {
		return nil, nil, err
	}
	r := bufio.NewReader(st)
	return st, r, agreed(r, proto)
}

func encode(t testing.TB, m message) []byte {
	t.Helper()
	b, err := appendMessage(nil, m)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// helloOf is an honest hello with other certificates.
func helloOf(word string) message {
	return message{
		MinVersion: 1, MaxVersion: 1, Class: uint8(cla.LAN), Instance: make([]byte, instanceSize), Chain: []byte(word),
	}
}

// wantGone waits until the other side has closed the connection.
func wantGone(t testing.TB, s session) {
	t.Helper()
	select {
	case <-s.Done():
	case <-time.After(patience):
		t.Fatal("the connection was not closed")
	}
}

func TestForeignNodeGetsRefusalAndRoot(t *testing.T) {
	ours := start(t, newLayer(t, 0, nil))
	theirs := start(t, newLayer(t, 1, func(c *Config) { c.Admission = newClub("theirs") }))
	root, err := theirs.FetchRoot(soon(t), ours.self, ours.Addrs())
	if err != nil || !bytes.Equal(root, newClub("ours").RootRecord()) {
		t.Fatalf("root record: %d bytes, %v", len(root), err)
	}
	err = theirs.Dial(soon(t), ours.self, ours.Addrs())
	if !errors.Is(err, cla.ErrRefused) || !strings.Contains(err.Error(), "another network") {
		t.Fatalf("dial across networks: %v", err)
	}

	s := stranger(t, ours, 2, nil)
	_, r, err := ask(t, s, protoHello, encode(t, helloOf("theirs")))
	if err != nil {
		t.Fatal(err)
	}
	answer, err := io.ReadAll(r)
	if want := encode(t, message{Code: codeForeign}); err != nil || !bytes.Equal(answer, want) {
		t.Fatalf("the refusal is %x, %v, want %x and nothing else", answer, err, want)
	}
	wantGone(t, s)
	if len(ours.links) > 0 {
		t.Fatal("a foreign node got a link")
	}
}

func TestStrangersMayNotOpenMesh(t *testing.T) {
	n := start(t, newLayer(t, 0, nil))
	for _, proto := range []string{protoMesh, "/ipfs/id/1.0.0", "/outrider/hello/2"} {
		s := stranger(t, n, 1, nil)
		if _, _, err := ask(t, s, proto, nil); !errors.Is(err, errNoProtocol) {
			t.Fatalf("%s: %v, want a refusal", proto, err)
		}
		s.Close()
	}
}

// bound admits only a hello that names the peer who shows it, as a
// certificate does.
type bound struct {
	*club
	self identity.NodeID
}

func (b bound) Hello() []byte { return b.self[:] }

func (b bound) Admit(peer identity.NodeID, hello []byte) (time.Time, error) {
	if !bytes.Equal(hello, peer[:]) {
		return time.Time{}, errors.New("certificate is another node's")
	}
	return time.Time{}, nil
}

func TestReplayedHelloIsRefused(t *testing.T) {
	mine := func(k int) func(*Config) {
		return func(c *Config) { c.Admission = bound{newClub("ours"), id(k)} }
	}
	_, b, _, _ := linked(t, newLayer(t, 0, mine(0)), newLayer(t, 1, mine(1)))
	s := stranger(t, b, 2, nil)
	self := id(0)
	_, r, err := ask(t, s, protoHello, encode(t, helloOf(string(self[:]))))
	if err != nil {
		t.Fatal(err)
	}
	if m, err := readMessage(r); err != nil || m.Code != codeRefused {
		t.Fatalf("answer to node 0's hello from node 2: %+v, %v", m, err)
	}
	wantGone(t, s)
}

func TestBadHellos(t *testing.T) {
	n := start(t, newLayer(t, 0, nil))
	spoil := func(f func(*message)) []byte {
		m := helloOf("ours")
		f(&m)
		return encode(t, m)
	}
	for name, hello := range map[string]struct {
		bytes []byte
		want  code
	}{
		"no version":       {spoil(func(m *message) { m.MinVersion = 0 }), codeMalformed},
		"versions crossed": {spoil(func(m *message) { m.MaxVersion = 0 }), codeMalformed},
		"later version":    {spoil(func(m *message) { m.MinVersion, m.MaxVersion = 2, 9 }), codeVersion},
		"no instance":      {spoil(func(m *message) { m.Instance = nil }), codeMalformed},
		"no class":         {spoil(func(m *message) { m.Class = 4 }), codeMalformed},
		"no chain":         {spoil(func(m *message) { m.Chain = nil }), codeMalformed},
		"not CBOR":         {[]byte{3, 0xff, 0xff, 0xff}, codeMalformed},
		"empty":            {[]byte{0}, codeMalformed},
		"one too long":     {append(binary.AppendUvarint(nil, maxHello+1), make([]byte, maxHello+1)...), codeMalformed},
		"4 GiB":            {binary.AppendUvarint(nil, 1<<32-1), codeMalformed},
		"2^63":             {binary.AppendUvarint(nil, 1<<63), codeMalformed},
		"needless bytes":   {[]byte{0x81, 0x00, 0xa0}, codeMalformed},
	} {
		t.Run(name, func(t *testing.T) {
			s := stranger(t, n, 1, nil)
			defer s.Close()
			_, r, err := ask(t, s, protoHello, hello.bytes)
			if err != nil {
				t.Fatal(err)
			}
			if m, err := readMessage(r); err != nil || m.Code != hello.want {
				t.Fatalf("answer %v, %v, want %v", m.Code, err, hello.want)
			}
		})
	}
	t.Run("largest", func(t *testing.T) {
		word := strings.Repeat("x", 4000)
		n := start(t, newLayer(t, 0, func(c *Config) { c.Admission = newClub(word) }))
		s := stranger(t, n, 1, nil)
		_, r, err := ask(t, s, protoHello, encode(t, helloOf(word)))
		if err != nil {
			t.Fatal(err)
		}
		if m, err := readMessage(r); err != nil || m.Code != codeOK || string(m.Chain) != word {
			t.Fatalf("answer %v, %v", m.Code, err)
		}
	})
}

func TestRootRecordLimit(t *testing.T) {
	big := &bigRoot{newClub("ours"), maxRoot}
	a := start(t, newLayer(t, 0, func(c *Config) { c.Admission = big }))
	b := start(t, newLayer(t, 1, nil))
	if root, err := b.FetchRoot(soon(t), a.self, a.Addrs()); err != nil || len(root) != maxRoot {
		t.Fatalf("the largest root record: %d bytes, %v", len(root), err)
	}
	big.size++
	if _, err := b.FetchRoot(soon(t), a.self, a.Addrs()); err == nil {
		t.Fatal("a root record one byte too long was served and taken")
	}
}

type bigRoot struct {
	*club
	size int
}

func (b *bigRoot) RootRecord() []byte { return make([]byte, b.size) }

func TestDoor(t *testing.T) {
	now := time.Unix(1000, 0)
	d := newDoor(time.Second)
	d.now = func() time.Time { return now }
	put := map[string]int{}
	come := func(ip string) *visitor {
		return d.enter(arrival{source: netip.MustParseAddr(ip)}, func() { put[ip]++ })
	}
	if come("10.0.0.1") == nil {
		t.Fatal("the first stranger was not let in")
	}
	if come("10.0.0.1") != nil || come("::ffff:10.0.0.1") != nil {
		t.Fatal("two strangers from one address within the grace of the first")
	}
	now = now.Add(time.Second)
	first := come("10.0.0.1")
	if first == nil || put["10.0.0.1"] != 1 {
		t.Fatal("a silent stranger was not put out for the next from its address")
	}
	first.speaks()
	now = now.Add(time.Hour)
	if come("10.0.0.1") != nil {
		t.Fatal("a speaking stranger was put out")
	}
	for _, ip := range []string{"10.0.0.2", "10.0.0.3", "10.0.0.4"} {
		if come(ip) == nil {
			t.Fatalf("no place for %s", ip)
		}
		now = now.Add(300 * time.Millisecond)
	}
	if come("10.0.0.5") != nil {
		t.Fatal("five strangers, none of them silent for long")
	}
	now = now.Add(300 * time.Millisecond)
	if come("10.0.0.5") == nil || put["10.0.0.2"] != 1 {
		t.Fatalf("the longest silent stranger did not make room: %v", put)
	}
	first.leave()
	first.leave()
	if d.count() != maxStrangers-1 || come("10.0.0.6") == nil || come("10.0.0.7") != nil {
		t.Fatal("a place that was left is not counted right")
	}
}

// admitted is a peer that went through the hello by hand and holds the mesh
// stream, to do with it what an honest node would not.
func admitted(t *testing.T, n *node, k int) (session, stream, *bufio.Reader) {
	t.Helper()
	s := stranger(t, n, k, nil)
	st, r, err := ask(t, s, protoHello, encode(t, helloOf("ours")))
	if err != nil {
		t.Fatal(err)
	}
	if m, err := readMessage(r); err != nil || m.Code != codeOK {
		t.Fatalf("hello: %v, %v", m.Code, err)
	}
	if err := writeMessage(st, message{}); err != nil {
		t.Fatal(err)
	}
	if id(k).Compare(n.self) < 0 { // we lead
		st, r, err := ask(t, s, protoMesh, encode(t, message{Serial: 1}))
		if err != nil {
			t.Fatal(err)
		}
		if m, err := readMessage(r); err != nil || m.Code != codeOK {
			t.Fatalf("mesh: %v, %v", m.Code, err)
		}
		return s, st, r
	}
	st, err = s.Accept(soon(t))
	if err != nil {
		t.Fatal(err)
	}
	r = bufio.NewReader(st)
	if _, err := choose(buffered{r, st}, protoMesh); err != nil {
		t.Fatal(err)
	}
	if _, err := readMessage(r); err != nil {
		t.Fatal(err)
	}
	if err := writeMessage(st, message{Number: 1}); err != nil {
		t.Fatal(err)
	}
	return s, st, r
}

func TestBadFrames(t *testing.T) {
	for name, b := range map[string][]byte{
		"empty":          {0},
		"one too long":   binary.AppendUvarint(nil, cla.MaxFrame+1),
		"4 GiB":          binary.AppendUvarint(nil, 1<<32-1),
		"2^64-1":         binary.AppendUvarint(nil, 1<<64-1),
		"endless length": bytes.Repeat([]byte{0xff}, 100),
		"needless bytes": {0x81, 0x80, 0x00, 1},
	} {
		for who, k := range map[string]int{"leader": 0, "follower": 2} {
			t.Run(name+"/"+who, func(t *testing.T) {
				n := start(t, newLayer(t, 1, nil))
				s, st, _ := admitted(t, n, k)
				if _, err := st.Write([]byte{1, 42}); err != nil { // a good one first
					t.Fatal(err)
				}
				l := n.next(t)
				if got, err := l.Recv(soon(t)); err != nil || !bytes.Equal(got, []byte{42}) {
					t.Fatalf("the good frame: %x, %v", got, err)
				}
				if _, err := st.Write(b); err != nil {
					t.Fatal(err)
				}
				wantEnd(t, l)
				wantGone(t, s)
			})
		}
	}
}

func TestOnlyTheLeaderOpens(t *testing.T) {
	n := start(t, newLayer(t, 0, nil))
	s, _, _ := admitted(t, n, 1)
	l := n.next(t)
	ask(t, s, protoMesh, encode(t, message{Serial: 1}))
	wantGone(t, s)
	wantEnd(t, l)
}

// A leader's opening that was overtaken by a later one does not end the link
// that the later one made.
func TestLateOpeningIsRefused(t *testing.T) {
	n := start(t, newLayer(t, 1, nil))
	connect := func() session {
		s := stranger(t, n, 0, nil)
		st, r, err := ask(t, s, protoHello, encode(t, helloOf("ours")))
		if err != nil {
			t.Fatal(err)
		}
		readMessage(r)
		writeMessage(st, message{})
		return s
	}
	first, second := connect(), connect()
	st, r, err := ask(t, second, protoMesh, encode(t, message{Serial: 2}))
	if err != nil {
		t.Fatal(err)
	}
	if m, err := readMessage(r); err != nil || m.Code != codeOK || m.Number == 0 {
		t.Fatalf("%+v, %v", m, err)
	}
	_, r, err = ask(t, first, protoMesh, encode(t, message{Serial: 1}))
	if err != nil {
		t.Fatal(err)
	}
	if m, err := readMessage(r); err != nil || m.Code != codeDuplicate {
		t.Fatalf("late opening: %+v, %v", m, err)
	}
	wantGone(t, first)
	st.Write([]byte{1, 7})
	if got, err := n.next(t).Recv(soon(t)); err != nil || got[0] != 7 {
		t.Fatalf("the link suffered: %x, %v", got, err)
	}
}

func TestConnectionLimit(t *testing.T) {
	n := start(t, newLayer(t, 0, nil))
	var last session
	for k := 1; k <= maxConns; k++ {
		last, _, _ = admitted(t, n, k)
		n.next(t)
	}
	s := stranger(t, n, maxConns+1, nil)
	_, r, err := ask(t, s, protoHello, encode(t, helloOf("ours")))
	if err != nil {
		t.Fatal(err)
	}
	if m, err := readMessage(r); err != nil || m.Code != codeBusy {
		t.Fatalf("connection %d: %v, %v, want %v", maxConns+1, m.Code, err, codeBusy)
	}
	last.Close()
	eventually(t, "a place is free", func() bool {
		n.mu.Lock()
		defer n.mu.Unlock()
		return n.conns < maxConns
	})
	admitted(t, n, maxConns+2)
}

func TestQUICStrangersAreLimited(t *testing.T) {
	set := func(c *Config) {
		c.Profile = calm(cla.LAN, true)
		c.Profile.HelloTimeout = 5 * time.Second
	}
	l := newLayer(t, 0, set)
	l.door.grace = time.Hour // the first stranger keeps its place, however long the second takes
	a, _, la, lb := linked(t, l, newLayer(t, 1, set))
	if a.quicPort() == nil || !strings.HasPrefix(la.Info().Addr, "127.0.0.1:") {
		t.Fatal("no QUIC")
	}
	x := newLayer(t, 2, set)
	q, err := x.openQUIC("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer q.close()
	// A link may be up a moment before its peer has left the door.
	eventually(t, "the door is free", func() bool { return a.door.count() == 0 })
	s, err := q.dial(soon(t), a.self, a.Addrs()[0])
	if err != nil {
		t.Fatalf("the first stranger: %v", err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	if s2, err := q.dial(ctx, a.self, a.Addrs()[0]); err == nil {
		wantGone(t, s2)
	}
	if n := a.door.count(); n != 1 {
		t.Fatalf("%d strangers from one address", n)
	}
	passes(t, la, lb)
	wantGone(t, s) // its time is over
	passes(t, lb, la)
	eventually(t, "the place is free", func() bool { return a.door.count() == 0 })
}

// An address that was only claimed yields to one that was proven, and the
// crowd to a place from where peers came.
func TestDoorKnowsWhoComes(t *testing.T) {
	now := time.Unix(1000, 0)
	d := newDoor(time.Second)
	d.now = func() time.Time { return now }
	put := map[string]int{}
	come := func(ip string, known, proven bool) *visitor {
		return d.enter(arrival{netip.MustParseAddr(ip), known, proven}, func() { put[ip]++ })
	}
	if come("10.0.0.1", true, false) == nil || come("10.0.0.1", true, false) != nil {
		t.Fatal("a claimed address")
	}
	if come("10.0.0.1", true, true) == nil || put["10.0.0.1"] != 1 {
		t.Fatal("a proven address does not come before a claimed one")
	}
	if come("10.0.0.1", true, true) != nil {
		t.Fatal("two with one proven address")
	}
	for _, ip := range []string{"10.0.0.2", "10.0.0.3", "10.0.0.4"} {
		v := come(ip, false, true)
		if v == nil {
			t.Fatalf("no place for %s", ip)
		}
		v.speaks()
		now = now.Add(time.Millisecond)
	}
	if come("10.0.0.5", false, true) != nil {
		t.Fatal("a fifth stranger got in")
	}
	if come("10.0.0.6", true, true) == nil || put["10.0.0.2"] != 1 {
		t.Fatalf("the crowd does not make room for a place we know: %v", put)
	}
	if d.count() != maxStrangers {
		t.Fatalf("%d inside", d.count())
	}
}

// One address gets no more handshakes out of a node than its allowance, and
// is named.
func TestKnocksAreLimited(t *testing.T) {
	a := start(t, newLayer(t, 0, nil))
	tries := 3 * knocks.Stranger.Burst
	for range tries {
		c, err := net.Dial("tcp", a.Addrs()[0])
		if errors.Is(err, syscall.ECONNRESET) {
			continue // put out before Dial had looked
		}
		if err != nil {
			t.Fatal(err)
		}
		_ = c.SetDeadline(time.Now().Add(patience))
		_, _ = c.Write([]byte("no multistream at all"))
		_, _ = io.Copy(io.Discard, c) // until it is put out
		c.Close()
	}
	var r crowd.Report
	eventually(t, "the strangers are counted", func() bool { r = a.Refused(); return r.Refused >= uint64(tries) })
	if len(r.Offenders) != 1 || r.Offenders[0].Addr != netip.MustParseAddr("127.0.0.1") {
		t.Errorf("offenders: %+v", r.Offenders)
	}
}

func TestMultistream(t *testing.T) {
	talk := func(theirs []byte) (string, []byte, error) {
		var out bytes.Buffer
		got, err := choose(struct {
			io.Reader
			io.Writer
		}{bytes.NewReader(theirs), &out}, protoRoot, protoHello)
		return got, out.Bytes(), err
	}
	open := appendToken(nil, protoMultistream)
	second := appendToken(appendToken(slices.Clone(open), "/x"), protoHello)
	got, out, err := talk(second)
	want := appendToken(appendToken(slices.Clone(open), "na"), protoHello)
	if err != nil || got != protoHello || !bytes.Equal(out, want) {
		t.Fatalf("second proposal: %q, %q, %v", got, out, err)
	}
	for name, b := range map[string][]byte{
		"empty token":    {0},
		"long token":     append([]byte{maxToken + 1}, make([]byte, maxToken+1)...),
		"no line feed":   {2, 'a', 'b'},
		"another magic":  appendToken(nil, "/multistream/2.0.0"),
		"endless":        appendToken(appendToken(appendToken(slices.Clone(open), "/x"), "/y"), "/z"),
		"cut in a token": open[:5],
	} {
		if _, _, err := talk(b); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

// The example in STREAMS.md is what we send.
func TestDocumentedExample(t *testing.T) {
	doc, err := os.ReadFile("STREAMS.md")
	if err != nil {
		t.Fatal(err)
	}
	b := encode(t, message{
		MinVersion: 1, MaxVersion: 1, Class: 3, Instance: []byte{1, 2, 3, 4, 5, 6, 7, 8}, Number: 2, Chain: []byte{0xaa, 0xbb},
	})
	text := strings.NewReplacer(" ", "", "\n", "").Replace(string(doc))
	if !strings.Contains(text, hex.EncodeToString(b)) {
		t.Fatalf("STREAMS.md does not have the example %x", b)
	}
}

func FuzzMessage(f *testing.F) {
	b, err := identity.Marshal(helloOf("ours"))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := decodeMessage(b)
		if err == nil {
			err = m.hello()
		}
		if err != nil {
			if !errors.Is(err, identity.ErrMalformed) {
				t.Fatalf("not ErrMalformed: %v", err)
			}
			return
		}
		again, err := appendMessage(nil, m)
		if err != nil {
			if len(b) <= maxHello {
				t.Fatal(err)
			}
			return
		}
		back, err := readMessage(bufio.NewReader(bytes.NewReader(again)))
		if err != nil || back.MaxVersion != m.MaxVersion || !bytes.Equal(back.Chain, m.Chain) {
			t.Fatalf("does not round-trip: %+v, %v", back, err)
		}
	})
}

func FuzzFrame(f *testing.F) {
	f.Add([]byte{3, 1, 2, 3, 1, 9})
	f.Fuzz(func(t *testing.T, b []byte) {
		r := bufio.NewReader(bytes.NewReader(b))
		var again []byte
		for {
			frame, err := readBlock(r, cla.MaxFrame)
			if err == io.EOF || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, identity.ErrMalformed) {
				break
			}
			if err != nil {
				t.Fatalf("unexpected error %v", err)
			}
			again = append(binary.AppendUvarint(again, uint64(len(frame))), frame...)
		}
		if !bytes.HasPrefix(b, again) {
			t.Fatal("frames do not round-trip")
		}
	})
}

func FuzzChoose(f *testing.F) {
	f.Add(appendToken(appendToken(nil, protoMultistream), protoHello))
	f.Fuzz(func(t *testing.T, b []byte) {
		var out bytes.Buffer
		got, err := choose(struct {
			io.Reader
			io.Writer
		}{bytes.NewReader(b), &out}, protoHello)
		if err == nil && got != protoHello {
			t.Fatalf("chose %q", got)
		}
		if out.Len() > maxProposals*(maxToken+2)+maxToken {
			t.Fatal("answers without end")
		}
	})
}
