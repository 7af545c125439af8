package gossip

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log"
	"log/slog"
	"net"
	"net/netip"
	"runtime"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/memberlist"

	"outrider/mesh/crowd"
	"outrider/mesh/identity"
)

// An insider has the group key and runs memberlist, but says what it likes.
type insider struct {
	*memberlist.Memberlist
	t *transport
}

// sneak makes an insider that calls itself name and joins n. meta makes its
// metadata for the address it has.
func sneak(t *testing.T, n *node, name identity.NodeID, meta func(at netip.AddrPort) []byte) *insider {
	t.Helper()
	tr := &transport{
		self: name, keys: func() [][]byte { return oneKey },
		allowed: func(identity.NodeID) bool { return true },
		met:     func(identity.NodeID, netip.AddrPort) {},
		owner:   func(netip.AddrPort) (id identity.NodeID) { return id },
		heard:   func(netip.AddrPort) {},
		atDoor:  newDoors(slog.New(slog.DiscardHandler)),
	}
	if err := tr.listen(netip.MustParseAddrPort("127.0.0.1:0")); err != nil {
		t.Fatal(err)
	}
	at := netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), tr.port)
	tr.addr = func() (netip.AddrPort, error) { return at, nil }
	tr.start(context.Background())
	ring, _ := memberlist.NewKeyring(oneKey, oneKey[0])
	c := memberlist.DefaultLANConfig()
	calm().apply(c)
	c.Name, c.Transport, c.Keyring = name.String(), tr, ring
	c.BindAddr, c.BindPort, c.AdvertisePort = "127.0.0.1", int(tr.port), int(tr.port)
	c.Delegate = &delegate{meta: meta(at)}
	c.Logger = log.New(io.Discard, "", 0)
	m, err := memberlist.Create(c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		tr.stop()
		tr.unblock(m)
		m.Shutdown()
	})
	if _, err := m.Join([]string{n.Addr()}); err != nil {
		t.Fatalf("join: %v", err)
	}
	return &insider{m, tr}
}

// signed returns metadata of node n, for the address it is asked for.
func signed(t *testing.T, n int, m metadata) func(netip.AddrPort) []byte {
	return func(at netip.AddrPort) []byte {
		b, err := signMetadata(key(n), at, m)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
}

func TestForgedMetadata(t *testing.T) {
	elsewhere := netip.MustParseAddrPort("127.0.0.1:1")
	good := metadata{Epoch: 5, MeshPort: 7411}
	a := start(t, 1, calmly)
	b := start(t, 2, with(seeds(a), calmly))
	eventually(t, "a and b meet", func() bool { return a.sees(2) && b.sees(1) })
	for name, meta := range map[string]func(netip.AddrPort) []byte{
		"unsigned":          func(netip.AddrPort) []byte { return nil },
		"garbage":           func(netip.AddrPort) []byte { return slices.Repeat([]byte{0xa1}, maxMetadata) },
		"too long":          func(at netip.AddrPort) []byte { return slices.Repeat([]byte{1}, maxMetadata+1) },
		"another address":   func(netip.AddrPort) []byte { return signed(t, 8, good)(elsewhere) },
		"another's key":     signed(t, 9, good),
		"mesh port 0":       signed(t, 8, metadata{Epoch: 5}),
		"four addresses":    signed(t, 8, metadata{Epoch: 5, MeshPort: 1, More: slices.Repeat([][]byte{{1, 2, 3, 4}}, 4)}),
		"address of 5":      signed(t, 8, metadata{Epoch: 5, MeshPort: 1, More: [][]byte{{1, 2, 3, 4, 5}}}),
		"changed signature": func(at netip.AddrPort) []byte { b := signed(t, 8, good)(at); b[len(b)-1] ^= 1; return b },
		"changed body":      func(at netip.AddrPort) []byte { b := signed(t, 8, good)(at); b[2] ^= 1; return b },
	} {
		t.Run(name, func(t *testing.T) {
			x := sneak(t, a, id(8), meta)
			eventually(t, "the insider has a's state", func() bool { return x.NumMembers() == 3 })
			b.rounds(t, 1, 2)
			if a.knows(8) || b.knows(8) || a.book.has(id(8)) || b.book.has(id(8)) {
				t.Fatal("an entry that its node did not sign was taken")
			}
			eventually(t, "a and b go on", func() bool { return a.sees(2) && b.sees(1) })
		})
	}
	t.Run("control", func(t *testing.T) {
		sneak(t, a, id(8), signed(t, 8, good))
		eventually(t, "an honest entry is taken", func() bool { return a.sees(2, 8) && a.book.has(id(8)) })
	})
}

// Somebody who recorded what a node said earlier, elsewhere, cannot move the
// live node there.
func TestOldMetadataIsRefused(t *testing.T) {
	a := start(t, 1, calmly)
	b := start(t, 2, with(seeds(a), calmly))
	eventually(t, "a and b meet", func() bool { return a.sees(2) && b.sees(1) })
	here := b.Addr()
	sneak(t, a, id(2), signed(t, 2, metadata{Epoch: 1, MeshPort: 6666}))
	a.rounds(t, 2, 5)
	if m := a.Members(); len(m) != 1 || m[0].Addrs[0] != "127.0.0.1:7002" {
		t.Fatalf("a was misled about b: %+v", m)
	}
	if p, _ := a.book.get(id(2)); len(p.Gossip) == 0 || p.Gossip[0] != here {
		t.Fatalf("the book was misled about b: %+v", p)
	}
	g := a.Gossip
	at := netip.MustParseAddrPort("127.0.0.1:9")
	if err := g.vouched(id(2), at, signed(t, 2, metadata{Epoch: 1, MeshPort: 6666})(at)); !errors.Is(err, errOldEpoch) {
		t.Fatalf("old metadata of a live node: %v", err)
	}
}

// Members are bounded, and those that are not live make room.
func TestMemberLimit(t *testing.T) {
	g := start(t, 1, nil).Gossip
	join := func(n int, live bool) error {
		k := identity.PrivateKeyFromSeed([32]byte{200, byte(n), byte(n >> 8)})
		at := netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 1, byte(n >> 8), byte(n)}), 7410)
		meta, err := signMetadata(k, at, metadata{Epoch: 1, MeshPort: 1})
		if err != nil {
			t.Fatal(err)
		}
		if err := g.vouched(k.Public().NodeID(), at, meta); err != nil {
			return err
		}
		g.alive(k.Public().NodeID().String(), live)
		return nil
	}
	for n := range maxPeers {
		if err := join(n, n > 0); err != nil {
			t.Fatalf("member %d: %v", n, err)
		}
	}
	if err := join(maxPeers, true); err != nil {
		t.Fatalf("a dead member did not make room: %v", err)
	}
	if err := join(maxPeers+1, true); !errors.Is(err, errTooMany) {
		t.Fatalf("one member over the limit: %v", err)
	}
}

// What strangers and insiders may do to the sockets leaves members and
// newcomers alone, and costs little.
func TestFloods(t *testing.T) {
	a := start(t, 1, nil)
	b := start(t, 2, seeds(a))
	eventually(t, "a and b meet", func() bool { return a.sees(2) && b.sees(1) })
	preamble := func() []byte {
		p, err := sealPreamble(oneKey[0], greeting{id(7), 1}, nil)
		if err != nil {
			t.Fatal(err)
		}
		return p
	}
	insider := &transport{
		self: id(7), port: 1, allowed: func(identity.NodeID) bool { return true }, keys: func() [][]byte { return oneKey },
		met: func(identity.NodeID, netip.AddrPort) {}, atDoor: newDoors(slog.New(slog.DiscardHandler)),
	}
	saying := func(b []byte) func(net.Conn) { return func(c net.Conn) { _, _ = c.Write(b) } }
	fromInside := func(b []byte) func(net.Conn) {
		return func(c net.Conn) {
			_ = c.SetDeadline(time.Now().Add(patience))
			if _, err := insider.exchange(c, true); err == nil {
				_, _ = c.Write(b)
			}
		}
	}
	for name, attack := range map[string]func(net.Conn){
		"silent":    saying(nil),
		"one byte":  saying([]byte(preambleMagic)[:1]),
		"garbage":   saying(slices.Repeat([]byte{0xee}, 4096)),
		"truncated": saying(preamble()[:preambleSize-1]),
		"recording": saying(append(preamble(), make([]byte, confirmSize)...)),
		"half way":  saying(preamble()),
		"4 GiB":     fromInside(binary.BigEndian.AppendUint32([]byte{10}, 0xffffffff)), // a length that nobody has
		"16 MiB":    fromInside(append(binary.BigEndian.AppendUint32([]byte{10}, 16<<20), make([]byte, maxStreamBytes)...)),
	} {
		t.Run(name, func(t *testing.T) {
			heap := heapBytes()
			stop := flood(t, a.Addr(), attack)
			a.rounds(t, 2, 5)
			if n := count("(*transport).greet(") + count("(*Memberlist).handleConn("); n > 4*maxStreams {
				t.Errorf("%d goroutines serve the flood", n)
			}
			if h := heapBytes(); h > heap+16<<20 {
				t.Errorf("heap grew by %d kB during the flood", (h-heap)>>10)
			}
			c := start(t, 3, seeds(a))
			eventually(t, "a newcomer gets in", func() bool { return c.sees(1, 2) })
			c.stop(t)
			stop()
			eventually(t, "it is forgotten again", func() bool { return a.sees(2) && b.sees(1) })
		})
	}
}

func heapBytes() uint64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

// flood keeps 100 connections open that attack and do no more.
func flood(t *testing.T, addr string, attack func(net.Conn)) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	opened := make(chan struct{}, 100)
	for range 100 {
		wg.Go(func() {
			once := true
			for ctx.Err() == nil {
				c, err := net.Dial("tcp", addr)
				if err != nil { // the backlog is full for a moment
					pausing(ctx, 20*time.Millisecond)
					continue
				}
				end := context.AfterFunc(ctx, func() { c.Close() })
				attack(c)
				if once {
					once = false
					opened <- struct{}{}
				}
				io.Copy(io.Discard, c)
				end()
				c.Close()
				pausing(ctx, 20*time.Millisecond)
			}
		})
	}
	for range 100 {
		<-opened
	}
	return func() {
		cancel()
		wg.Wait()
	}
}

func pausing(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}

func TestOversizePackets(t *testing.T) {
	a := start(t, 1, calmly)
	b := start(t, 2, with(seeds(a), calmly))
	eventually(t, "a and b meet", func() bool { return a.sees(2) && b.sees(1) })
	c, err := net.Dial("udp", a.Addr())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	for _, size := range []int{0, 1, minPacket - 1, maxPacket + 1, 60000} {
		for range 50 {
			if _, err := c.Write(make([]byte, size)); err != nil {
				t.Fatal(err)
			}
		}
	}
	a.rounds(t, 2, 5)
	if !a.sees(2) {
		t.Fatal("odd packets disturbed the members")
	}
}

func TestPreamble(t *testing.T) {
	older, newer := oneKey[0], slices.Repeat([]byte{2}, 32)
	g := greeting{id(1), 7410}
	p, err := sealPreamble(older, g, nil)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := openPreamble([][]byte{newer, older}, p, nil); err != nil || got != g {
		t.Fatalf("%+v, %v", got, err)
	}
	if _, err := openPreamble([][]byte{newer}, p, nil); !errors.Is(err, errOutsider) {
		t.Fatalf("with another key: %v", err)
	}
	for i := range p {
		q := slices.Clone(p)
		q[i] ^= 0x40
		if _, err := openPreamble([][]byte{older}, q, nil); err == nil {
			t.Fatalf("byte %d may be changed", i)
		}
	}
	for _, n := range []int{0, preambleSize - 1} {
		if _, err := openPreamble([][]byte{older}, p[:n], nil); !errors.Is(err, identity.ErrMalformed) {
			t.Fatalf("%d bytes: %v", n, err)
		}
	}
	zero, _ := sealPreamble(older, greeting{id(1), 0}, nil)
	if _, err := openPreamble([][]byte{older}, zero, nil); !errors.Is(err, identity.ErrMalformed) {
		t.Fatalf("port 0: %v", err)
	}
}

// An answer and a confirmation are good for one preamble only.
func TestPreamblesAnswerEachOther(t *testing.T) {
	first, err := sealPreamble(oneKey[0], greeting{id(1), 1}, nil)
	if err != nil {
		t.Fatal(err)
	}
	answer, err := sealPreamble(oneKey[0], greeting{id(2), 2}, first)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := openPreamble(oneKey, answer, first); err != nil {
		t.Fatal(err)
	}
	for what, to := range map[string][]byte{"none": nil, "another": answer} {
		if _, err := openPreamble(oneKey, answer, to); !errors.Is(err, errOutsider) {
			t.Errorf("as answer to %s: %v", what, err)
		}
	}
	confirm, err := sealConfirm(oneKey[0], answer)
	if err != nil {
		t.Fatal(err)
	}
	if err := openConfirm(oneKey, confirm, answer); err != nil {
		t.Fatal(err)
	}
	if err := openConfirm(oneKey, confirm, first); !errors.Is(err, errOutsider) {
		t.Errorf("a confirmation of something else: %v", err)
	}
	if err := openConfirm(oneKey, confirm[1:], answer); !errors.Is(err, identity.ErrMalformed) {
		t.Errorf("a byte short: %v", err)
	}
	if err := openConfirm(oneKey, make([]byte, confirmSize), answer); !errors.Is(err, errOutsider) {
		t.Errorf("zeros: %v", err)
	}
}

// A packet passes once, whoever sends it again, and one that no key opens
// never; both are counted against the sender.
func TestPacketsPassOnce(t *testing.T) {
	stranger := netip.MustParseAddrPort("192.0.2.1:7410")
	limits := packetLimits
	limits.Stranger.Every, limits.All.Every = time.Hour, time.Hour // no more than the burst, however long this takes
	tr := &transport{
		keys:   func() [][]byte { return oneKey },
		atDoor: [2]*crowd.Crowd{packetDoor: crowd.New("gossip/udp", limits, slog.New(slog.DiscardHandler))},
		owner:  func(netip.AddrPort) (none identity.NodeID) { return none },
	}
	aead, err := sealer(oneKey[0])
	if err != nil {
		t.Fatal(err)
	}
	packet := func(n byte) []byte {
		b := append([]byte{wireVersion}, make([]byte, nonceSize)...)
		b[1] = n
		return aead.Seal(b, b[1:], []byte("ping"), nil)
	}
	var past recorder
	if !tr.genuine(packet(1), stranger, &past) || !tr.genuine(packet(2), stranger, &past) {
		t.Fatal("a packet of the group does not pass")
	}
	if tr.genuine(packet(1), stranger, &past) {
		t.Error("a recording passes")
	}
	long := append(packet(3), make([]byte, maxPacket)...)
	for what, b := range map[string][]byte{"empty": nil, "short": packet(3)[:minPacket-1], "changed": append(packet(3)[:20], 0), "long": long} {
		if tr.genuine(b, stranger, &past) {
			t.Errorf("passes: %s", what)
		}
	}
	if r := tr.atDoor[packetDoor].Report(); r.Refused != 5 || r.Offenders[0].Addr != stranger.Addr() {
		t.Errorf("report %+v", r)
	}
	for i := range 2 * packetLimits.Stranger.Burst {
		if ok := tr.genuine(packet(byte(10+i)), stranger, &past); ok && i >= packetLimits.Stranger.Burst {
			t.Fatalf("packet %d of a stranger passes", i)
		}
	}
}

func TestRecorderForgetsTheOldest(t *testing.T) {
	var r recorder
	nonce := func(i int) (n [nonceSize]byte) { binary.BigEndian.PutUint32(n[:], uint32(i)); return n }
	for i := range memoryOfPackets + 1 {
		if r.again(nonce(i)) {
			t.Fatalf("packet %d was never there", i)
		}
	}
	if r.again(nonce(0)) || !r.again(nonce(memoryOfPackets)) || len(r.seen) != memoryOfPackets || len(r.ring) != memoryOfPackets {
		t.Errorf("%d and %d remembered", len(r.seen), len(r.ring))
	}
}

func TestMetadataSize(t *testing.T) {
	ip := netip.MustParseAddr("fd00:1234:5678:9abc:def0:1234:5678:9abc").AsSlice()
	m := metadata{Epoch: 1<<64 - 1, MeshPort: 65535, More: [][]byte{ip, ip, ip}}
	at := netip.MustParseAddrPort("10.0.0.1:7410")
	b, err := signMetadata(key(1), at, m)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("the largest metadata has %d bytes", len(b))
	got, err := openMetadata(id(1), at, b)
	if err != nil || got.Epoch != m.Epoch || len(got.More) != 3 {
		t.Fatalf("%+v, %v", got, err)
	}
	if addrs := got.meshAddrs(at); len(addrs) != 2 || addrs[0] != "10.0.0.1:65535" {
		t.Fatalf("mesh addresses %v", addrs) // the same address twice is listed once
	}
	// A later version's keys are skipped, and signed.
	body, err := identity.Marshal(map[int]any{1: 3, 2: 7411, 9: "later"})
	if err != nil {
		t.Fatal(err)
	}
	sig := key(1).Sign(identity.DomainMember, signedPart(id(1), at, body))
	if m, err := openMetadata(id(1), at, append(body, sig[:]...)); err != nil || m.MeshPort != 7411 {
		t.Fatalf("unknown key: %+v, %v", m, err)
	}
}

func FuzzDecodeMetadata(f *testing.F) {
	at := netip.MustParseAddrPort("10.0.0.1:7410")
	seed, err := signMetadata(key(1), at, metadata{Epoch: 1, MeshPort: 2, More: [][]byte{{10, 0, 0, 2}}})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(seed[:len(seed)-64])
	f.Fuzz(func(t *testing.T, body []byte) {
		m, err := decodeMetadata(body)
		if err != nil {
			if !errors.Is(err, identity.ErrMalformed) {
				t.Fatalf("not ErrMalformed: %v", err)
			}
			return
		}
		if len(m.meshAddrs(at)) == 0 || m.MeshPort == 0 {
			t.Fatal("decoded without an address")
		}
	})
}

func FuzzOpenPreamble(f *testing.F) {
	seed, err := sealPreamble(oneKey[0], greeting{id(1), 7410}, nil)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(seed)
	f.Fuzz(func(t *testing.T, b []byte) {
		g, err := openPreamble(oneKey, b, nil)
		if err != nil && !errors.Is(err, identity.ErrMalformed) && !errors.Is(err, errOutsider) {
			t.Fatalf("unexpected error %v", err)
		}
		if err == nil && g.port == 0 {
			t.Fatal("port 0")
		}
	})
}

func FuzzOpenConfirm(f *testing.F) {
	answer, err := sealPreamble(oneKey[0], greeting{id(1), 7410}, nil)
	if err != nil {
		f.Fatal(err)
	}
	seed, err := sealConfirm(oneKey[0], answer)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(seed)
	f.Add(seed[1:])
	f.Fuzz(func(t *testing.T, b []byte) {
		err := openConfirm(oneKey, b, answer)
		if err != nil && !errors.Is(err, identity.ErrMalformed) && !errors.Is(err, errOutsider) {
			t.Fatalf("unexpected error %v", err)
		}
		if err == nil && !slices.Equal(b, seed) {
			t.Fatal("a second confirmation was found")
		}
	})
}

// FuzzPacket is what an outsider can send: nothing of it may pass.
func FuzzPacket(f *testing.F) {
	f.Add([]byte{wireVersion})
	f.Add(append([]byte{wireVersion}, make([]byte, minPacket)...))
	f.Add(make([]byte, maxPacket+1))
	f.Fuzz(func(t *testing.T, b []byte) {
		if ofGroup(oneKey, b[:min(len(b), maxPacket)]) {
			t.Fatal("made without the key, and passes")
		}
	})
}

func FuzzPeer(f *testing.F) {
	p := Peer{ID: id(1), Gossip: []string{"10.0.0.1:7410"}, Addrs: []string{"10.0.0.1:7411"}, Epoch: 3, LastHeard: time.Unix(9, 0)}
	seed, err := p.MarshalBinary()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(seed)
	f.Fuzz(func(t *testing.T, b []byte) {
		var p Peer
		if err := p.UnmarshalBinary(b); err != nil {
			if !errors.Is(err, identity.ErrMalformed) {
				t.Fatalf("not ErrMalformed: %v", err)
			}
			return
		}
		again, err := p.MarshalBinary()
		if err != nil || string(again) != string(b) {
			t.Fatalf("does not round-trip: %x, %v", again, err)
		}
	})
}

func TestTurns(t *testing.T) {
	now := time.Unix(1000, 0)
	tr := newTurns(10*time.Second, 40*time.Second)
	addrs := []string{"a", "b", "c"}
	for _, want := range []string{"a", "b", "c"} {
		got := tr.pick(now, addrs)
		if got != want {
			t.Fatalf("picked %q, want %q, which waited longest", got, want)
		}
		tr.tried(now, got)
		now = now.Add(time.Second)
	}
	if got := tr.pick(now, addrs); got != "" {
		t.Fatalf("%q was picked within its back-off", got)
	}
	for i, want := range []time.Duration{10, 20, 40, 40} { // a's back-offs, with its ceiling
		tr.tried(now, "a")
		if i == 0 { // the second attempt
			want = 20
		} else if i == 1 {
			want = 40
		}
		if got := tr.pick(now.Add(want*time.Second-1), []string{"a"}); got != "" {
			t.Fatalf("attempt %d: picked before %d s", i+2, want)
		}
		if got := tr.pick(now.Add(want*time.Second), []string{"a"}); got != "a" {
			t.Fatalf("attempt %d: not picked after %d s", i+2, want)
		}
	}
	tr.heard("a")
	if got := tr.pick(now, []string{"a"}); got != "a" {
		t.Fatal("a peer that was heard is still backed off")
	}
	tr.tried(now, "a")
	tr.reset()
	if got := tr.pick(now, []string{"a"}); got != "a" {
		t.Fatal("reset left a back-off")
	}
	for range 1000 {
		if d := jittered(time.Minute); d < 45*time.Second || d >= 75*time.Second {
			t.Fatalf("a minute became %v", d)
		}
	}
}

func TestRemembered(t *testing.T) {
	var p Peer
	for i := range 5 {
		p = p.remembered(fmt.Sprint("10.0.0.", i, ":7410"), []string{"x"}, uint64(i))
	}
	p = p.remembered("10.0.0.3:7410", []string{"y"}, 9)
	want := []string{"10.0.0.3:7410", "10.0.0.4:7410", "10.0.0.2:7410"}
	if !slices.Equal(p.Gossip, want) || p.Epoch != 9 || p.Addrs[0] != "y" {
		t.Fatalf("remembered %+v", p)
	}
}
