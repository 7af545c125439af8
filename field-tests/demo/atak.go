package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"outrider/atak/datapkg"
	"outrider/field-tests/scenario"
	"outrider/field-tests/takclient"
)

// Where the two TAK clients say they are, and what they say.
const (
	takLatCarol, takLonCarol = 48.21912, 16.38004
	takLatAlice, takLonAlice = 48.20655, 16.36012
	takText                  = "Overlay follows, check the crossing."
	takAnswer                = "Got it, crossing is clear."
	takPackage               = "crossing.zip"
	takBytes                 = 60_000
)

// takDevices: a TAK client of Alpha that speaks protobuf and one of Charlie that
// speaks XML exchange positions, a chat with its receipt and a data package.
// Nobody is logged in for it: each client's certificate opens its user.
func takDevices() step {
	t := &takStep{ports: map[string][2]string{}}
	return step{
		title:   "ATAK: two TAK clients, a position, a chat and a data package",
		prepare: t.prepare,
		play:    t.play,
	}
}

type takStep struct {
	ports        map[string][2]string // stream and https address of each bridge
	alice, carol *takclient.Client
}

func (t *takStep) prepare(_ context.Context, s *scenario.Story) error {
	for _, b := range []*scenario.Box{s.Alpha, s.Charlie} {
		ports, err := scenario.FreePorts("127.0.0.1", 2)
		if err != nil {
			return err
		}
		stream, https := net.JoinHostPort("127.0.0.1", strconv.Itoa(ports[0])), net.JoinHostPort("127.0.0.1", strconv.Itoa(ports[1]))
		t.ports[b.Name] = [2]string{stream, https}
		if err := b.Append(fmt.Sprintf("[atak]\nenabled = true\nlisten = %q\nlisten_https = %q\ninterval_s = 1\n", stream, https)); err != nil {
			return err
		}
	}
	return nil
}

func (t *takStep) play(ctx context.Context, s *scenario.Story) (err error) {
	if t.alice, err = t.connect(ctx, s, s.Alpha, s.People[0], "ANDROID-alice", "RAVEN", true); err != nil {
		return err
	}
	defer t.alice.Close()
	if t.carol, err = t.connect(ctx, s, s.Charlie, s.People[2], "ANDROID-carol", "HERON", false); err != nil {
		return err
	}
	defer t.carol.Close()
	contact, err := t.carolIsSeen(ctx, s)
	if err != nil {
		return err
	}
	pkg, err := overlay()
	if err != nil {
		return err
	}
	if err := t.aliceSays(ctx, s, contact, pkg); err != nil {
		return err
	}
	return t.carolAnswers(ctx, s, pkg)
}

// connect enrols a client on the command line and connects it.
func (t *takStep) connect(ctx context.Context, s *scenario.Story, b *scenario.Box, user, uid, callsign string, proto bool) (*takclient.Client, error) {
	file := filepath.Join(filepath.Dir(b.Dir), b.Name+"-tak.zip")
	if _, err := b.CLI(ctx, scenario.UserPassword+"\n", "atak", "enroll", user, "--to", file, "--address", "127.0.0.1", "--password-file", "-"); err != nil {
		return nil, err
	}
	pkg, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	id, err := takclient.Import(pkg)
	if err != nil {
		return nil, err
	}
	c, err := takclient.Dial(ctx, takclient.Options{Identity: id, Stream: t.ports[b.Name][0], HTTPS: t.ports[b.Name][1], UID: uid, Callsign: callsign, Proto: proto})
	if err != nil {
		return nil, err
	}
	if err := c.Ping(ctx); err != nil {
		return nil, err
	}
	form := map[bool]string{true: "protobuf", false: "XML"}[c.All(takclient.Is("t-x-c-t-r"))[0].Proto]
	s.Say(b.Name, "the TAK client %s of %s is connected, the node answers it in %s", callsign, user, form)
	return c, nil
}

// carolIsSeen shows carol's position to alice's client, which so has a contact
// to write to.
func (t *takStep) carolIsSeen(ctx context.Context, s *scenario.Story) (contact takclient.Somebody, err error) {
	sent, err := underWay(ctx, s.Charlie, s.People[2], 1)
	if err != nil {
		return contact, err
	}
	s.Count(scenario.Tally{Sent: 1})
	if err := t.carol.Position(takLatCarol, takLonCarol); err != nil {
		return contact, err
	}
	if err := s.Meet(ctx, s.CharlieID, sent); err != nil {
		return contact, err
	}
	var e takclient.Received
	err = s.Ferry(ctx, s.AlphaID, func() (bool, error) {
		e, err = t.alice.Wait(short(ctx), "carol's position", positionAt(takLatCarol, takLonCarol))
		return err == nil, nil
	})
	if err != nil {
		return contact, err
	}
	s.Count(scenario.Tally{Delivered: 1, Equal: 1})
	tellPosition(s, "alpha", e)
	return takclient.Somebody{UID: e.UID, Callsign: e.Callsign()}, nil
}

// aliceSays sends a position, a chat and a package, and sees them on Bravo.
func (t *takStep) aliceSays(ctx context.Context, s *scenario.Story, to takclient.Somebody, pkg []byte) error {
	sent, err := underWay(ctx, s.Alpha, s.People[0], 3)
	if err != nil {
		return err
	}
	before, err := s.Sent(ctx, s.Alpha, s.BravoID)
	if err != nil {
		return err
	}
	s.Count(scenario.Tally{Sent: 3})
	if err := t.alice.Position(takLatAlice, takLonAlice); err != nil {
		return err
	}
	if err := t.alice.Chat(to, takclient.NewID(), takText); err != nil {
		return err
	}
	if _, err := t.alice.Share(ctx, takPackage, pkg, s.People[2]); err != nil {
		return err
	}
	return s.Meet(ctx, s.AlphaID, func() (bool, error) {
		if ok, err := sent(); !ok {
			return false, err
		}
		now, err := s.Sent(ctx, s.Alpha, s.BravoID)
		return now-before >= uint64(len(pkg)), err
	})
}

// carolAnswers sees all three, fetches the package, and answers; alice sees
// the receipt and the answer.
func (t *takStep) carolAnswers(ctx context.Context, s *scenario.Story, pkg []byte) error {
	var at, chat, offer takclient.Received
	err := s.Ferry(ctx, s.CharlieID, func() (bool, error) {
		soon := short(ctx)
		var err1, err2, err3 error
		at, err1 = t.carol.Wait(soon, "alice's position", positionAt(takLatAlice, takLonAlice))
		chat, err2 = t.carol.Wait(soon, "the chat", takclient.Text(takText))
		offer, err3 = t.carol.Wait(soon, "the package", takclient.Is("b-f-t-r"))
		return err1 == nil && err2 == nil && err3 == nil, nil
	})
	if err != nil {
		return err
	}
	tellPosition(s, "charlie", at)
	s.Say("charlie", "TAK client: chat from %s: %q", chat.Find("__chat").Attr("senderCallsign"), chat.Find("remarks").Text)
	got, err := t.carol.Fetch(ctx, offer)
	if err != nil {
		return err
	}
	if !bytes.Equal(got, pkg) {
		return fmt.Errorf("the data package that came is another one")
	}
	s.Say("charlie", "TAK client: data package %s fetched, %d bytes, SHA-256 as offered", offer.Find("fileshare").Attr("filename"), len(got))
	s.Count(scenario.Tally{Delivered: 3, Equal: 3})

	sent, err := underWay(ctx, s.Charlie, s.People[2], 1)
	if err != nil {
		return err
	}
	s.Count(scenario.Tally{Sent: 1})
	if err := t.carol.Chat(takclient.Somebody{UID: chat.Find("link").Attr("uid"), Callsign: at.Callsign()}, takclient.NewID(), takAnswer); err != nil {
		return err
	}
	if err := s.Meet(ctx, s.CharlieID, sent); err != nil {
		return err
	}
	err = s.Ferry(ctx, s.AlphaID, func() (bool, error) {
		soon := short(ctx)
		_, err1 := t.alice.Wait(soon, "the receipt", takclient.Is("b-t-f-d"))
		_, err2 := t.alice.Wait(soon, "the answer", takclient.Text(takAnswer))
		return err1 == nil && err2 == nil, nil
	})
	if err != nil {
		return err
	}
	s.Say("alpha", "TAK client: its chat is delivered, and the answer is here")
	s.Count(scenario.Tally{Delivered: 1, Equal: 1})
	return nil
}

// tellPosition prints a position as a TAK client got it.
func tellPosition(s *scenario.Story, box string, e takclient.Received) {
	s.Say(box, "TAK client: %s is at %.5f %.5f, %.0f s ago, how %s, stale in %.0f s",
		e.Callsign(), e.Point.Lat, e.Point.Lon, time.Since(e.Time).Seconds(), e.How, time.Until(e.Stale).Seconds())
}

func positionAt(lat, lon float64) func(takclient.Received) bool {
	return func(e takclient.Received) bool {
		return strings.HasPrefix(e.Type, "a-") && scenario.Near(e.Point.Lat, lat) && scenario.Near(e.Point.Lon, lon)
	}
}

// short is a context for one look; what is not here is looked for again.
func short(ctx context.Context) context.Context {
	ctx, cancel := context.WithTimeout(ctx, 50*time.Millisecond)
	context.AfterFunc(ctx, cancel)
	return ctx
}

// underWay returns a condition: a user has sent n more messages than now, and
// none of them is on its node alone.
func underWay(ctx context.Context, b *scenario.Box, user string, n int) (func() (bool, error), error) {
	count := func() (all, waiting int, err error) {
		inbox, err := b.API.Inbox(ctx)
		for _, m := range inbox {
			if m.From.Name == user {
				all++
				if m.State == "queued" || m.State == "waiting-for-keys" {
					waiting++
				}
			}
		}
		return all, waiting, err
	}
	before, _, err := count()
	return func() (bool, error) {
		all, waiting, err := count()
		return all >= before+n && waiting == 0, err
	}, err
}

// overlay makes a data package whose content no compression makes smaller.
func overlay() ([]byte, error) {
	data := make([]byte, takBytes)
	rand.Read(data)
	var b bytes.Buffer
	err := datapkg.Make(&b, datapkg.Manifest{UID: takclient.NewID(), Name: "crossing"}, []datapkg.File{{Path: "overlay/crossing.bin", Data: data}})
	return b.Bytes(), err
}
