package atak

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"outrider/atak/datapkg"
	"outrider/field-tests/gpsd"
	"outrider/field-tests/scenario"
	"outrider/field-tests/takclient"
)

// A device is a TAK client of a station that comes back after the node does.
type device struct {
	*takclient.Client
	t  *testing.T
	at *station
	o  takclient.Options
}

// device enrols a client of our own at a station and connects it.
func (s *station) device(t *testing.T, ctx context.Context, callsign string, proto bool) *device {
	t.Helper()
	file := filepath.Join(t.TempDir(), "client.zip")
	err := scenario.Poll(ctx, "the enrolment", func() (bool, error) {
		_, err := s.CLI(ctx, scenario.UserPassword+"\n", "atak", "enroll", s.user, "--to", file, "--address", "127.0.0.1", "--password-file", "-")
		return err == nil, err
	})
	if err != nil {
		t.Fatal(err)
	}
	pkg, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	id, err := takclient.Import(pkg)
	if err != nil {
		t.Fatal(err)
	}
	d := &device{t: t, at: s, o: takclient.Options{
		Identity: id, Stream: fmt.Sprintf("127.0.0.1:%d", s.stream), HTTPS: fmt.Sprintf("127.0.0.1:%d", s.https), UID: "ANDROID-" + callsign, Callsign: callsign, Proto: proto,
	}}
	t.Cleanup(func() { d.Close() })
	d.connect(ctx)
	return d
}

// connect connects, anew if it was connected, and says where the device is.
func (d *device) connect(ctx context.Context) {
	d.t.Helper()
	if d.Client != nil {
		d.Close()
	}
	err := scenario.Poll(ctx, "the bridge of "+d.at.Name, func() (ok bool, err error) {
		d.Client, err = takclient.Dial(ctx, d.o)
		return err == nil, err
	})
	d.must(err)
	d.must(d.Position(1, 2))
	d.must(d.Ping(ctx))
}

func (d *device) must(err error) {
	d.t.Helper()
	if err != nil {
		d.t.Fatalf("%v\n%s", err, d.at.Tail())
	}
}

// wait waits for an event as long as the test has patience.
func (d *device) wait(ctx context.Context, what string, fits func(takclient.Received) bool) takclient.Received {
	d.t.Helper()
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	e, err := d.Wait(ctx, what, fits)
	d.must(err)
	return e
}

// meet lets both devices see each other once, so that each node has the
// other's keys and each device a contact, and returns bob as alice sees him.
func meet(t *testing.T, ctx context.Context, a, b *device) takclient.Somebody {
	t.Helper()
	track := func(e takclient.Received) bool { return e.Type == "a-f-G-U-C" }
	err := scenario.Poll(ctx, "the first positions", func() (bool, error) {
		a.must(a.Position(1.5, 2.5))
		b.must(b.Position(3.5, 4.5))
		return len(a.All(track)) > 0 && len(b.All(track)) > 0, nil
	})
	a.must(err)
	e := a.wait(ctx, "bob", track)
	return takclient.Somebody{UID: e.UID, Callsign: e.Callsign()}
}

func kill(t *testing.T, ctx context.Context, s *station) {
	t.Helper()
	s.Kill()
	if err := s.Up(ctx); err != nil {
		t.Fatal(err)
	}
}

// once asserts that a text reached the user of a station in one message.
func once(t *testing.T, ctx context.Context, s *station, texts ...string) {
	t.Helper()
	if _, err := s.API.Login(ctx, s.user, scenario.UserPassword); err != nil {
		t.Fatal(err)
	}
	inbox, err := s.API.Inbox(ctx)
	if err != nil {
		t.Fatal(err)
	}
	for _, text := range texts {
		n := 0
		for _, m := range inbox {
			if m.Text == text || m.File != nil && m.File.Name == text {
				n++
			}
		}
		if n != 1 {
			t.Errorf("%d messages %q, want one", n, text)
		}
	}
}

// TestL03KilledBeforeTheMesh: the node is killed between what the TAK client
// says and the mesh. What was acknowledged, by a pong behind a chat or by 200
// for an upload, arrives; what was not and is said again arrives once.
func TestL03KilledBeforeTheMesh(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithTimeout(t.Context(), 8*time.Minute)
	defer cancel()
	sa, sb := pair(t, ctx)
	a, b := sa.device(t, ctx, "RAVEN", true), sb.device(t, ctx, "HERON", false)
	bob := meet(t, ctx, a, b)
	cut(t, ctx, sa, sb, true)

	var texts []string
	say := func(format string, i int, acknowledged bool) {
		t.Helper()
		text, id := fmt.Sprintf(format, i), takclient.NewID()
		texts = append(texts, text)
		a.must(a.Chat(bob, id, text))
		if acknowledged {
			a.must(a.Ping(ctx))
			kill(t, ctx, sa)
			a.connect(ctx)
			return
		}
		kill(t, ctx, sa)
		a.connect(ctx)
		a.must(a.Chat(bob, id, text)) // as somebody does who saw no tick
		a.must(a.Ping(ctx))
	}
	for i := range 3 {
		say("acknowledged %d", i, true)
		say("said again %d", i, false)
	}
	pkg := randomPackage(t)
	if _, err := a.Share(ctx, "killed.zip", pkg, "bob"); err != nil {
		t.Fatal(err)
	}
	a.must(a.Ping(ctx))
	kill(t, ctx, sa)
	a.connect(ctx)
	cut(t, ctx, sa, sb, false)

	for _, text := range texts {
		b.wait(ctx, text, takclient.Text(text))
	}
	offer := b.wait(ctx, "the package", takclient.Is("b-f-t-r"))
	if got, err := b.Fetch(ctx, offer); err != nil || !bytes.Equal(got, pkg) {
		t.Errorf("the package: %d bytes, %v", len(got), err)
	}
	b.must(b.Ping(ctx))
	for _, text := range texts {
		if n := len(b.All(takclient.Text(text))); n != 1 {
			t.Errorf("the device got %q %d times", text, n)
		}
	}
	once(t, ctx, sb, append(texts, "killed.zip")...)
}

// TestL03KilledWhileDelivering: the far node is killed while it delivers. Every
// chat reaches its device, and one that is given again, because nobody knows
// whether the device had taken it, is given under the same id.
func TestL03KilledWhileDelivering(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithTimeout(t.Context(), 8*time.Minute)
	defer cancel()
	sa, sb := pair(t, ctx)
	a, b := sa.device(t, ctx, "RAVEN", false), sb.device(t, ctx, "HERON", true)
	bob := meet(t, ctx, a, b)
	uids := map[string][]string{}
	gather := func() {
		for _, e := range b.All(takclient.Is("b-t-f")) {
			if text := e.Find("remarks").Text; !slices.Contains(uids[text], e.UID) {
				uids[text] = append(uids[text], e.UID)
			}
		}
	}
	var texts []string
	for round := range 3 {
		cut(t, ctx, sa, sb, true)
		first := len(texts)
		for i := range 8 {
			texts = append(texts, fmt.Sprintf("round %d chat %d", round, i))
			a.must(a.Chat(bob, takclient.NewID(), texts[len(texts)-1]))
		}
		a.must(a.Ping(ctx))
		cut(t, ctx, sa, sb, false)
		b.wait(ctx, "the first of a round", func(e takclient.Received) bool {
			return e.Type == "b-t-f" && slices.Contains(texts[first:], e.Find("remarks").Text)
		})
		gather()
		kill(t, ctx, sb)
		b.connect(ctx)
	}
	for _, text := range texts {
		b.wait(ctx, text, takclient.Text(text))
	}
	gather()
	for _, text := range texts {
		if len(uids[text]) != 1 {
			t.Errorf("%q came under the ids %v", text, uids[text])
		}
	}
	once(t, ctx, sb, texts...)
}

func randomPackage(t *testing.T) []byte {
	t.Helper()
	data := make([]byte, 300_000)
	rand.NewChaCha8([32]byte{9}).Read(data)
	var b bytes.Buffer
	if err := datapkg.Make(&b, datapkg.Manifest{UID: "p2", Name: "killed"}, []datapkg.File{{Path: "a/b.bin", Data: data}}); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// TestL01ReceiverReachesTAKClient: a live share that takes from a gpsd at one
// node is a track on a TAK client of the other: it moves, it is from a GPS, it
// goes stale when the share is stopped.
func TestL01ReceiverReachesTAKClient(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithTimeout(t.Context(), 8*time.Minute)
	defer cancel()
	receiver, err := gpsd.Listen()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { receiver.Close() })
	receiver.Move(48.1, 11.5)
	sa, sb := pairWith(t, ctx, map[string]string{"alpha": fmt.Sprintf("\n[position]\nsource = %q\n", receiver.Source())})
	b := sb.device(t, ctx, "HERON", true)
	err = scenario.Poll(ctx, "bob to be known at alpha", func() (bool, error) {
		if _, err := sa.API.Login(ctx, "alice", scenario.UserPassword); err != nil {
			return false, err
		}
		return true, sa.API.Do(ctx, "POST", "/v1/locations/live", map[string]any{"to": "bob", "for_s": 600, "every_s": 10}, nil)
	})
	if err != nil {
		t.Fatal(err)
	}
	at := func(lat float64) func(takclient.Received) bool {
		return func(e takclient.Received) bool { return e.Type == "a-f-G-U-C" && scenario.Near(e.Point.Lat, lat) }
	}
	e := b.wait(ctx, "alice's track", at(48.1))
	if e.How != "m-g" || e.Callsign() != "alice" || !e.Proto || e.Find("track").Attr("course") != "41.2" || e.Stale.Sub(e.Start) != time.Minute {
		t.Errorf("%s, good for %v", e.XML(), e.Stale.Sub(e.Start))
	}
	receiver.Move(48.2, 11.6)
	b.wait(ctx, "the track to move", at(48.2))
	if err := sa.API.Do(ctx, "DELETE", "/v1/locations/live?to=bob", nil, nil); err != nil {
		t.Fatal(err)
	}
	b.wait(ctx, "the end of the share", func(e takclient.Received) bool { return at(48.2)(e) && time.Until(e.Stale) < 5*time.Second })
}
