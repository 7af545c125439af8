package node

import (
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"math"
	"net/http"
	"strings"
	"testing"
	"time"

	"outrider/atak"
	"outrider/atak/cot"
	"outrider/atak/tak"
	"outrider/mesh/identity"
	"outrider/node/chat"
)

// enrolled makes a certificate for a user of this node.
func (r *running) enrolled(name, password string) (cert tls.Certificate) {
	r.t.Helper()
	eventually(r.t, "the user's name", func() error {
		code, pkg := r.post("/v1/atak/clients", `{"name":"`+name+`","password":"`+password+`","host":"127.0.0.1"}`)
		if code != http.StatusCreated {
			return fmt.Errorf("%d %s", code, pkg)
		}
		cert = certificateIn(r.t, pkg)
		return nil
	})
	return cert
}

// A stream is what a TAK client reads.
type stream struct {
	*tls.Conn
	t *testing.T
	r *tak.Reader
}

func (r *running) stream(cert tls.Certificate) stream {
	r.t.Helper()
	conn, err := r.connected(cert)
	if err != nil {
		r.t.Fatal(err)
	}
	return stream{conn, r.t, tak.NewReader(io.MultiReader(strings.NewReader("<?xml"), conn))}
}

// wait reads up to the first event of a type.
func (s stream) wait(kind string) cot.Event {
	s.t.Helper()
	if err := s.SetReadDeadline(time.Now().Add(patience)); err != nil {
		s.t.Fatal(err)
	}
	for {
		m, err := s.r.Next()
		if err != nil {
			s.t.Fatalf("waiting for %s: %v", kind, err)
		}
		e, err := cot.ParseXML(m.Data)
		if err != nil {
			s.t.Fatal(err)
		}
		if e.Type == kind {
			return e
		}
	}
}

// L03: a position that is sent once stands on the map of the other node's TAK
// client, again when it comes back, and goes when its sender takes it back.
func TestL03MarkReachesTheClient(t *testing.T) {
	adminHome, alice, link := founded(t)
	ca, cb := onLoopback(t), withBridge(t)
	cb.Gossip.Seeds = []string{ca.Gossip.Listen}
	joined := newHome(t)
	if _, _, err := joined.Join(t.Context(), joinRequest(link), today()); err != nil {
		t.Fatal(err)
	}
	a, b := up(t, adminHome, ca), up(t, joined, cb)
	a.login(alice, alicePassword)
	cert := b.enrolled(bobName, bobPassword)
	first := b.stream(cert)
	var sent struct{ ID string }
	err := a.do("POST", "/v1/locations", map[string]any{"to": link.User.String(), "lat": 48.77, "lon": 11.77, "note": "rally point", "ttl_s": 3600}, &sent)
	if err != nil {
		t.Fatal(err)
	}
	mark := first.wait("b-m-p-s-m")
	if span := mark.Stale.Sub(mark.Time); mark.Point.Lat != 48.77 || mark.Point.Lon != 11.77 || mark.Callsign() != aliceName ||
		mark.Find("remarks").Text != aliceName+": rally point" || span < 59*time.Minute || span > 61*time.Minute {
		t.Errorf("mark: %s", mark.XML())
	}
	first.Close()
	second := b.stream(cert)
	if again := second.wait("b-m-p-s-m"); again.UID != mark.UID {
		t.Errorf("shown as another object: %s", again.XML())
	}
	if err := a.do("POST", "/v1/messages/"+sent.ID+"/recall", nil, new(any)); err != nil {
		t.Fatal(err)
	}
	if e := second.wait("t-x-d-d"); e.Find("link").Attr("uid") != mark.UID {
		t.Errorf("removal: %s", e.XML())
	}
	second.Close()
	third := b.stream(cert) // it may have the mark from before
	if e := third.wait("t-x-d-d"); e.Find("link").Attr("uid") != mark.UID {
		t.Errorf("removal: %s", e.XML())
	}
	third.Close()
	if err := errors.Join(a.down(), b.down()); err != nil {
		t.Error(err)
	}
}

// What kind a position is for the bridge: live ones move, others stand until
// their message ends.
func TestL03KindsOfPositions(t *testing.T) {
	at := time.UnixMilli(1_700_000_000_000)
	m := chat.Message{
		ID: chat.MessageID{1}, Type: chat.TypeLocation, From: chat.Person{ID: identity.UserID{2}, Name: "Alice"}, Sent: at, Expires: at.Add(time.Hour),
		Location: &chat.Location{Lat: 1, Lon: 2, Note: "n", Fix: &chat.Fix{AltitudeM: math.NaN(), CourseDeg: math.NaN(), SpeedMS: math.NaN(), Source: chat.SourceEntered}},
	}
	got := atakMessage(m)
	if got.Kind != atak.Mark || got.Gone || !got.Expires.Equal(m.Expires) || got.Position.Lat != 1 || got.Position.Note != "n" || got.Position.How != "h-e" {
		t.Errorf("sent once: %+v", got)
	}
	m.Location.Live = true
	if got := atakMessage(m); got.Kind != atak.Place {
		t.Errorf("live: %+v", got)
	}
	m.Location, m.State = nil, chat.StateRecalled
	if got := atakMessage(m); got.Kind != atak.Mark || !got.Gone {
		t.Errorf("recalled: %+v", got)
	}
	m.State = chat.StateDelivered // its time is over, the sweep has not come by
	if got := atakMessage(m); got.Kind != 0 {
		t.Errorf("without content: %+v", got)
	}
}
