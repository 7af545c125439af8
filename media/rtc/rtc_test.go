package rtc

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"net"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/pion/rtp"
	"go.uber.org/goleak"

	"outrider/media"
	"outrider/media/rtc/rtctest"
	"outrider/media/sframe"
	"outrider/mesh/identity"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(settling{m}) }

// settling gives what the last test left behind the time to end, which on a
// busy machine is more than goleak does.
type settling struct{ *testing.M }

func (s settling) Run() int {
	code := s.M.Run()
	for end := time.Now().Add(patience); goleak.Find() != nil && time.Now().Before(end); {
	}
	return code
}

// patience is how long a test waits for what must happen.
const patience = time.Minute

var (
	alice, bob, carol = identity.UserID{1}, identity.UserID{2}, identity.UserID{3}
	theCall           = media.CallID{7}
	tone              = []byte("a known tone of twenty milliseconds")
)

// logBuffer keeps a log. The library may write to it until a while after the
// server has ended.
type logBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *logBuffer) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(b)
}

func (l *logBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// A place is a running server that keeps what it forwards.
type place struct {
	t *testing.T
	*Server
	log  logBuffer
	stop func()

	mu        sync.Mutex
	tapped    [][]byte
	connected int
	gone      chan identity.UserID
}

func newPlace(t *testing.T, change func(*Config)) *place {
	t.Helper()
	p := &place{t: t, gone: make(chan identity.UserID, 8)}
	cfg := Config{
		Listen: netip.MustParseAddrPort("127.0.0.1:0"), Log: slog.New(slog.NewTextHandler(&p.log, &slog.HandlerOptions{Level: slog.LevelDebug})),
		Connected: func(media.CallID, identity.UserID) { p.mu.Lock(); p.connected++; p.mu.Unlock() },
		Gone:      func(_ media.CallID, u identity.UserID) { p.gone <- u },
		Tap: func(b []byte) {
			p.mu.Lock()
			defer p.mu.Unlock()
			p.tapped = append(p.tapped, bytes.Clone(b))
		},
	}
	if change != nil {
		change(&cfg)
	}
	p.Server = New(cfg)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- p.Run(ctx) }()
	p.stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
		if f := p.Figures(); f.Participants != 0 || p.Listening() {
			t.Errorf("after the end: %+v, listening %v", f, p.Listening())
		}
	})
	t.Cleanup(p.stop)
	until(t, "the server", func() bool {
		_, err := p.Join(t.Context(), theCall, alice, media.Offer{SDP: "v=0\r\n"})
		return !errors.Is(err, errStopped)
	})
	return p
}

func until(t *testing.T, what string, holds func() bool) {
	t.Helper()
	for end := time.Now().Add(patience); !holds(); {
		if time.Now().After(end) {
			t.Fatalf("%s did not come in %v", what, patience)
		}
		<-time.After(5 * time.Millisecond) // polling with a deadline: real sockets
	}
}

// client makes a client whose frames are sealed for slot me; the other's open.
func client(t *testing.T, me, other uint64, o rtctest.Options) *rtctest.Client {
	t.Helper()
	var err error
	if o.Sealer, err = sframe.NewSealer(bytes.Repeat([]byte{byte(me + 1)}, 32), me); err != nil {
		t.Fatal(err)
	}
	o.Opener = sframe.NewOpener()
	if err := o.Opener.Add(other, bytes.Repeat([]byte{byte(other + 1)}, 32)); err != nil {
		t.Fatal(err)
	}
	return plain(t, o)
}

func plain(t *testing.T, o rtctest.Options) *rtctest.Client {
	t.Helper()
	c, err := rtctest.New(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	})
	return c
}

// connect takes a client into the call.
func (p *place) connect(user identity.UserID, c *rtctest.Client, tcp bool) {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(p.t.Context(), patience)
	defer cancel()
	offer, err := c.Offer()
	if err != nil {
		p.t.Fatal(err)
	}
	answer, err := p.Join(ctx, theCall, user, media.Offer{SDP: offer, TCPOnly: tcp, Loopback: true})
	if err != nil {
		p.t.Fatal(err)
	}
	if err := c.Accept(ctx, answer.SDP); err != nil {
		p.t.Fatalf("%v\n%s", err, answer.SDP)
	}
}

// talk lets clients talk until the condition holds.
func talk(t *testing.T, what string, holds func() bool, clients ...*rtctest.Client) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	for _, c := range clients {
		wg.Go(func() { c.Talk(ctx, func() []byte { return tone }) })
	}
	defer wg.Wait()
	defer cancel()
	until(t, what, holds)
}

func TestC01TwoClientsHearEachOtherAndTheNodeCannot(t *testing.T) {
	p := newPlace(t, nil)
	a, b := client(t, 0, 1, rtctest.Options{}), client(t, 1, 0, rtctest.Options{})
	p.connect(alice, a, false)
	p.connect(bob, b, false)
	talk(t, "20 frames each way", func() bool { return a.Counts().Opened > 20 && b.Counts().Opened > 20 }, a, b)
	for _, c := range []*rtctest.Client{a, b} {
		until(t, "what was received to be opened", func() bool { n := c.Counts(); return n.Received == n.Opened+n.Failed })
		if n := c.Counts(); n.Failed != 0 {
			t.Errorf("%+v", n)
		}
	}
	// The server counts a frame after the client may have it.
	until(t, "40 frames to be counted", func() bool { return p.Figures().Forwarded >= 40 })
	if f := p.Figures(); f.Participants != 2 {
		t.Errorf("%+v", f)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.tapped) < 40 || heard(p.tapped) {
		t.Errorf("the node saw the tone in one of %d payloads", len(p.tapped))
	}
}

// heard tells whether a known tone can be seen in what the node forwarded.
func heard(payloads [][]byte) bool {
	for _, b := range payloads {
		if bytes.Contains(b, tone[4:12]) {
			return true
		}
	}
	return false
}

// The same search finds the tone when nothing is sealed: it can find it.
func TestC01UnsealedToneIsSeenByTheNode(t *testing.T) {
	p := newPlace(t, nil)
	a, b := plain(t, rtctest.Options{}), plain(t, rtctest.Options{})
	p.connect(alice, a, false)
	p.connect(bob, b, false)
	talk(t, "5 frames", func() bool { return b.Counts().Opened > 5 }, a)
	p.mu.Lock()
	defer p.mu.Unlock()
	if !heard(p.tapped) {
		t.Error("the search does not find what is there")
	}
}

func TestC01WrongKeyOpensNothing(t *testing.T) {
	p := newPlace(t, nil)
	a := client(t, 0, 1, rtctest.Options{})
	o := sframe.NewOpener()
	if err := o.Add(0, bytes.Repeat([]byte{99}, 32)); err != nil {
		t.Fatal(err)
	}
	b := plain(t, rtctest.Options{Opener: o})
	p.connect(alice, a, false)
	p.connect(bob, b, false)
	talk(t, "20 frames", func() bool { return b.Counts().Received > 20 }, a)
	until(t, "what was received to be tried", func() bool { n := b.Counts(); return n.Received == n.Opened+n.Failed })
	if n := b.Counts(); n.Opened != 0 {
		t.Errorf("%+v", n)
	}
}

func TestC05TCPOnly(t *testing.T) {
	for name, force := range map[string]bool{"asked for by the client": false, "forced by the settings": true} {
		t.Run(name, func(t *testing.T) {
			p := newPlace(t, func(c *Config) { c.ForceTCP = force })
			a, b := client(t, 0, 1, rtctest.Options{}), client(t, 1, 0, rtctest.Options{})
			p.connect(alice, a, !force)
			p.connect(bob, b, !force)
			talk(t, "20 frames each way", func() bool { return a.Counts().Opened > 20 && b.Counts().Opened > 20 }, a, b)
			if a.Transport() != "tcp" || b.Transport() != "tcp" {
				t.Errorf("by %s and %s", a.Transport(), b.Transport())
			}
		})
	}
}

func TestC01ClientThatGoesIsNoticedAndEverythingIsFreed(t *testing.T) {
	p := newPlace(t, nil)
	a, b := client(t, 0, 1, rtctest.Options{}), client(t, 1, 0, rtctest.Options{})
	p.connect(alice, a, false)
	p.connect(bob, b, false)
	if err := a.Close(); err != nil {
		t.Fatal(err)
	}
	select {
	case u := <-p.gone:
		if u != alice {
			t.Errorf("%v is gone", u)
		}
	case <-time.After(patience):
		t.Fatal("nobody noticed")
	}
	p.End(theCall)
	until(t, "closed ports", func() bool { return !p.Listening() && p.Figures().Participants == 0 })
	select {
	case u := <-p.gone:
		t.Errorf("%v is gone, who was put out", u)
	default:
	}
}

func TestC01ConnectionMadeAnewGoesOn(t *testing.T) {
	p := newPlace(t, nil)
	a, b := client(t, 0, 1, rtctest.Options{}), client(t, 1, 0, rtctest.Options{})
	p.connect(alice, a, false)
	p.connect(bob, b, false)
	talk(t, "5 frames", func() bool { return b.Counts().Opened > 5 }, a)
	s, err := sframe.NewSealer(bytes.Repeat([]byte{1}, 32), 0)
	if err != nil {
		t.Fatal(err)
	}
	for range 1000 { // the ends keep counting: the key stays
		if _, err := s.Seal(nil, nil, nil); err != nil {
			t.Fatal(err)
		}
	}
	again := plain(t, rtctest.Options{Sealer: s})
	p.connect(alice, again, false)
	before := b.Counts().Opened
	talk(t, "more frames", func() bool { return b.Counts().Opened > before+5 }, again)
	if f := p.Figures(); f.Participants != 2 {
		t.Errorf("%+v", f)
	}
}

func TestC01ThirdParticipantIsRefused(t *testing.T) {
	p := newPlace(t, nil)
	p.connect(alice, client(t, 0, 1, rtctest.Options{}), false)
	p.connect(bob, client(t, 1, 0, rtctest.Options{}), false)
	offer, err := client(t, 2, 0, rtctest.Options{}).Offer()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := p.Join(t.Context(), theCall, carol, media.Offer{SDP: offer, Loopback: true}); !errors.Is(err, media.ErrFull) {
		t.Errorf("a third one: %v", err)
	}
}

func TestC01GarbageOffersCostNothing(t *testing.T) {
	p := newPlace(t, nil)
	good, err := client(t, 0, 1, rtctest.Options{}).Offer()
	if err != nil {
		t.Fatal(err)
	}
	half := good[:len(good)/2]
	for name, sdp := range map[string]string{
		"nothing": "", "1 MB": "v=0\r\n" + strings.Repeat("a=x\r\n", 1<<18), "noise": "v=0\r\n\x00\x01\x02", "only a version": "v=0\r\n", "cut": half,
		"video": strings.ReplaceAll(good, "m=audio", "m=video"), "one section": good[:strings.LastIndex(good, "m=audio")],
		"no fingerprint": strings.ReplaceAll(good, "a=fingerprint", "a=x-fingerprint"), "sendrecv": strings.ReplaceAll(strings.ReplaceAll(good, "a=sendonly", "a=sendrecv"), "a=recvonly", "a=sendrecv"),
		"no codec of ours": strings.ReplaceAll(good, "opus/48000/2", "G722/8000"),
	} {
		if _, err := p.Join(t.Context(), theCall, alice, media.Offer{SDP: sdp, Loopback: true}); !errors.Is(err, media.ErrInvalid) {
			t.Errorf("%s: %v", name, err)
		}
	}
	until(t, "closed ports", func() bool { return !p.Listening() })
	if f := p.Figures(); f.Participants != 0 {
		t.Errorf("%+v", f)
	}
}

func TestC05BusyPort(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	p := newPlace(t, func(c *Config) { c.Listen = l.Addr().(*net.TCPAddr).AddrPort() })
	offer, err := client(t, 0, 1, rtctest.Options{}).Offer()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := p.Join(t.Context(), theCall, alice, media.Offer{SDP: offer}); !errors.Is(err, media.ErrPort) {
		t.Errorf("a busy port: %v", err)
	}
}

func TestC01NothingOfAnOfferIsLogged(t *testing.T) {
	p := newPlace(t, nil)
	a, b := client(t, 0, 1, rtctest.Options{}), client(t, 1, 0, rtctest.Options{})
	p.connect(alice, a, false)
	p.connect(bob, b, false)
	talk(t, "frames", func() bool { return b.Counts().Opened > 2 }, a)
	p.stop()
	for _, bad := range []string{"127.0.0.1", "ufrag", "candidate:", "m=audio"} {
		if strings.Contains(p.log.String(), bad) {
			t.Errorf("the log holds %q:\n%s", bad, p.log.String())
		}
	}
}

func TestC01JoinNeedsARunningServer(t *testing.T) {
	s := New(Config{Listen: netip.MustParseAddrPort("127.0.0.1:0")})
	if _, err := s.Join(t.Context(), theCall, alice, media.Offer{SDP: "v=0\r\n"}); !errors.Is(err, errStopped) {
		t.Errorf("%v", err)
	}
}

func TestC01NumbersGoOnWithoutALeap(t *testing.T) {
	var d downstream
	a, b := &participant{}, &participant{}
	number := func(from *participant, seq uint16, ts uint32) (uint16, uint32) {
		h := rtp.Header{SequenceNumber: seq, Timestamp: ts}
		d.renumber(from, &h)
		return h.SequenceNumber, h.Timestamp
	}
	steps := []struct {
		from   *participant
		seq    uint16
		ts     uint32
		wantS  uint16
		wantTS uint32
	}{
		{a, 65534, 1000, 65534, 1000}, {a, 65535, 1960, 65535, 1960}, {a, 0, 2920, 0, 2920}, {a, 2, 4840, 2, 4840}, {a, 1, 3880, 1, 3880},
		{b, 500, 9, 3, 4840 + frameTS}, {b, 502, 1929, 5, 4840 + 3*frameTS}, {a, 7, 0, 6, 4840 + 4*frameTS},
	}
	for i, s := range steps {
		if seq, ts := number(s.from, s.seq, s.ts); seq != s.wantS || ts != s.wantTS {
			t.Errorf("step %d: %d %d, want %d %d", i, seq, ts, s.wantS, s.wantTS)
		}
	}
}
