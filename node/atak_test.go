package node

import (
	"archive/zip"
	"bytes"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	pkcs12 "software.sslmate.com/src/go-pkcs12"

	"outrider/atak"
	"outrider/atak/cot"
	"outrider/mesh/identity"
	"outrider/node/chat"
	"outrider/node/config"
)

// withBridge turns the bridge on.
func withBridge(t *testing.T) config.Config {
	c := onLoopback(t)
	c.ATAK.Enabled, c.ATAK.Listen, c.ATAK.ListenHTTPS = true, freeAddr(t), freeAddr(t)
	if err := c.Validate(); err != nil {
		t.Fatal(err)
	}
	return c
}

// post sends a body and returns status and answer.
func (r *running) post(path, body string) (int, []byte) {
	r.t.Helper()
	resp, err := r.http.Post("http://node"+path, "application/json", strings.NewReader(body))
	if err != nil {
		r.t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		r.t.Fatal(err)
	}
	return resp.StatusCode, b
}

// certificateIn takes the client's certificate out of a connection package.
func certificateIn(t *testing.T, pkg []byte) tls.Certificate {
	t.Helper()
	z, err := zip.NewReader(bytes.NewReader(pkg), int64(len(pkg)))
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range z.File {
		if !strings.HasSuffix(f.Name, ".p12") || strings.HasSuffix(f.Name, "-ca.p12") {
			continue
		}
		r, err := f.Open()
		if err != nil {
			t.Fatal(err)
		}
		defer r.Close()
		store, err := io.ReadAll(r)
		if err != nil {
			t.Fatal(err)
		}
		key, cert, _, err := pkcs12.DecodeChain(store, atak.Password)
		if err != nil {
			t.Fatal(err)
		}
		return tls.Certificate{Certificate: [][]byte{cert.Raw}, PrivateKey: key}
	}
	t.Fatal("the package has no certificate")
	return tls.Certificate{}
}

// connected opens an event stream and waits for the first word of the bridge.
func (r *running) connected(cert tls.Certificate) (*tls.Conn, error) {
	stream, _ := r.cfg.ATAKAddrs()
	eventually(r.t, "the bridge to listen", func() error { // a node is up without it
		probe, err := net.Dial("tcp", stream.String())
		if err != nil {
			return err
		}
		return probe.Close()
	})
	conn, err := tls.Dial("tcp", stream.String(), &tls.Config{Certificates: []tls.Certificate{cert}, InsecureSkipVerify: true}) // as node-tak does
	if err != nil {
		return nil, err
	}
	if err := conn.SetDeadline(time.Now().Add(patience)); err != nil {
		return nil, err
	}
	b := make([]byte, 5)
	if _, err := io.ReadFull(conn, b); err != nil || string(b) != "<?xml" {
		return nil, errors.Join(err, fmt.Errorf("first word %q", b), conn.Close())
	}
	return conn, nil
}

func (r *running) wantUnlocked(user identity.UserID, want bool) {
	r.t.Helper()
	eventually(r.t, fmt.Sprintf("unlocked to be %v", want), func() error {
		var s struct {
			Users []struct {
				ID       identity.UserID
				Unlocked bool
			}
		}
		if err := r.do("GET", "/v1/status", nil, &s); err != nil {
			return err
		}
		if len(s.Users) != 1 || s.Users[0].ID != user || s.Users[0].Unlocked != want {
			return fmt.Errorf("%+v", s.Users)
		}
		return nil
	})
}

// L03: the certificate opens its user, also after a restart and beside the
// page, and opens nobody once it is withdrawn.
func TestL03CertificateOpensItsUser(t *testing.T) {
	h, alice, _ := founded(t)
	r := up(t, h, withBridge(t))
	var code int
	var pkg []byte
	eventually(t, "the user's name", func() error {
		code, pkg = r.post("/v1/atak/clients", `{"name":"`+aliceName+`","password":"`+alicePassword+`","host":"127.0.0.1"}`)
		if code != http.StatusCreated {
			return fmt.Errorf("%d %s", code, pkg)
		}
		return nil
	})
	for body, want := range map[string]int{
		`{"name":"` + aliceName + `","password":"wrong"}`: 401, `{"name":"nobody","password":"x"}`: 404, `{"name":"","password":"x"}`: 400,
		`{"name":"` + aliceName + `","password":"` + alicePassword + `","host":"0.0.0.0"}`:     400,
		`{"name":"` + aliceName + `","password":"` + alicePassword + `","host":"bad host:99"}`: 400, `{"name":"` + aliceName + `","password":"` + alicePassword + `","host":"::1"}`: 400,
	} {
		if code, answer := r.post("/v1/atak/clients", body); code != want {
			t.Errorf("%s: %d %s", body, code, answer)
		}
	}
	cert := certificateIn(t, pkg)
	r.wantUnlocked(alice, false)
	if err := r.down(); err != nil {
		t.Fatal(err)
	}
	h = reopened(t, h)
	r = up(t, h, r.cfg)
	conn, err := r.connected(cert)
	if err != nil {
		t.Fatal(err)
	}
	r.wantUnlocked(alice, true)
	r.login(alice, alicePassword)
	if err := r.do("DELETE", "/v1/session", nil, new(any)); err != nil && !strings.Contains(err.Error(), "JSON") {
		t.Fatal(err)
	}
	r.token = ""
	r.wantUnlocked(alice, true) // the client still needs them

	var list struct{ Clients []struct{ ID, Name string } }
	if err := r.do("GET", "/v1/atak/clients", nil, &list); err != nil || len(list.Clients) != 1 || list.Clients[0].Name != aliceName {
		t.Fatalf("%+v, %v", list, err)
	}
	if err := r.do("DELETE", "/v1/atak/clients/"+list.Clients[0].ID, nil, new(any)); err != nil && !strings.Contains(err.Error(), "JSON") {
		t.Fatal(err)
	}
	if err := conn.SetDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	if _, err := io.Copy(io.Discard, conn); errors.Is(err, os.ErrDeadlineExceeded) {
		t.Error("the stream is open after the withdrawal")
	}
	conn.Close()
	r.wantUnlocked(alice, false)
	if _, err := r.connected(cert); err == nil {
		t.Error("a withdrawn certificate connects")
	}
	if err := r.down(); err != nil {
		t.Error(err)
	}
}

// reopened opens a folder again, as a new process would.
func reopened(t *testing.T, h *Home) *Home {
	t.Helper()
	if err := h.Close(); err != nil {
		t.Fatal(err)
	}
	again, err := OpenHome(h.Dir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { again.Close() })
	return again
}

// Off is the default, says so, and opens no port.
func TestL03BridgeIsOffByDefault(t *testing.T) {
	h, _, _ := founded(t)
	r := up(t, h, onLoopback(t))
	if code, answer := r.post("/v1/atak/clients", `{"name":"x","password":"x"}`); code != 409 || !strings.Contains(string(answer), "atak_off") {
		t.Errorf("%d %s", code, answer)
	}
	for _, p := range r.cfg.Ports() {
		if strings.HasPrefix(p.Name, "atak") {
			t.Errorf("%+v is in the port table", p)
		}
	}
	if _, err := os.Stat(h.path("atak")); err == nil {
		t.Error("a CA was made for a bridge that is off")
	}
	if err := r.down(); err != nil {
		t.Error(err)
	}
}

// A user is locked when neither page nor bridge needs the keys.
func TestL03Holds(t *testing.T) {
	var locked int
	h := newHolds(func(identity.UserID) { locked++ })
	user := identity.UserID{1}
	open := func() (*chat.Session, error) { return nil, nil }
	take := func() {
		if _, err := h.take(user, open); err != nil {
			t.Fatal(err)
		}
	}
	page := heldChat{holds: h}
	take()
	take()
	h.give(user)
	h.page[user] = true
	h.give(user)
	if locked != 0 {
		t.Error("locked while the page has a session")
	}
	take()
	page.Lock(user)
	if locked != 0 {
		t.Error("locked while the bridge has a client")
	}
	h.give(user)
	if locked != 1 || len(h.tak) != 0 || len(h.page) != 0 {
		t.Errorf("locked %d times, %+v", locked, h)
	}
	if _, err := h.take(user, func() (*chat.Session, error) { return nil, chat.ErrBusy }); !errors.Is(err, chat.ErrBusy) || len(h.tak) != 0 {
		t.Error("a failed unlocking holds")
	}
	page.Lock(user)
	if locked != 2 {
		t.Error("not locked by the page alone")
	}
}

// What a device says of its position is what the other node's client gets.
func TestL03PositionSurvivesTheMapping(t *testing.T) {
	at := time.UnixMilli(1_700_000_000_000)
	in := atak.Position{Lat: 1, Lon: 2, HAE: 3.25, CE: 4, Course: 90, Speed: 1.5, Time: at, Span: 75 * time.Second, How: "m-g", Callsign: "VIPER-2"}
	back := func(l chat.Location) atak.Position {
		return atakMessage(chat.Message{Type: chat.TypeLocation, Location: &l, Sent: at.Add(time.Second)}).Position
	}
	if got := back(chatLocation(in)); got != in {
		t.Errorf("%+v became %+v", in, got)
	}
	in = atak.Position{HAE: cot.Unknown, CE: cot.Unknown, Course: -1, Speed: -1, Time: at, How: "h-e"}
	if got := back(chatLocation(in)); got != in {
		t.Errorf("%+v became %+v", in, got)
	}
	l := chatLocation(atak.Position{HAE: cot.Unknown, CE: 1e12, Course: -1, Speed: -1, How: "x", Callsign: strings.Repeat("é", 64) + "\n"})
	if l.Fix.Source != chat.SourceUnknown || !math.IsNaN(l.Fix.AltitudeM) || len(l.Fix.Callsign) > chat.MaxCallsign || l.AccuracyM != 0 { // a million metres and more are unknown
		t.Errorf("%+v %+v", l, l.Fix)
	}
	ahead := chat.Location{Live: true, Fix: &chat.Fix{At: at.Add(time.Hour), AltitudeM: math.NaN(), CourseDeg: math.NaN(), SpeedMS: math.NaN()}}
	if got := back(ahead); !got.Time.Equal(at.Add(time.Second)) {
		t.Errorf("a fix of the future: %v", got.Time)
	}
}

// L02, F03: what a policy forbids or withholds is told in the bridge's words.
func TestL02PolicyForTheBridge(t *testing.T) {
	refused := (&takUser{}).failed(fmt.Errorf("chat: send: %w", &chat.PolicyError{Group: "convoy", Type: chat.TypeLocation}))
	var rule *atak.Forbidden
	if !errors.As(refused, &rule) || rule.Rule != "the policy of group convoy forbids sharing positions" {
		t.Errorf("a refusal is %v", refused)
	}
	if other := errors.New("another fault"); (&takUser{}).failed(other) != other {
		t.Error("another fault is taken for a rule")
	}
	for kind, want := range map[chat.Type]atak.Kind{chat.TypeFile: atak.Package, chat.TypeLocation: atak.Place} {
		m := chat.Message{Type: kind, Withheld: "convoy", Reason: chat.Reason{Code: "withheld", Text: "withheld by the policy of group convoy"}, Unread: true}
		if got := atakMessage(m); got.Kind != want || got.Withheld != m.Reason.Text {
			t.Errorf("%v is %+v", kind, got)
		}
		m.Out = true // here it is the other's policy, and the state of what was sent says it
		if got := atakMessage(m); got.Withheld != "" {
			t.Errorf("sent: %+v", got)
		}
	}
}

// Without a wish, clients are told of the best address they can be told of.
func TestL03HostOfAPackage(t *testing.T) {
	n := &Node{cfg: withBridge(t)}
	n.cfg.ATAK.Listen = "0.0.0.0:23114"
	for _, c := range []struct {
		advertise []string
		want      string
	}{
		{[]string{"[2001:db8::1]:7411", "192.0.2.9:7411"}, "192.0.2.9"},
		{[]string{"[2001:db8::1]:7411"}, ""},
	} {
		n.cfg.Mesh.Advertise = c.advertise
		got, err := (&bridge{n: n}).clientHost("")
		if got != c.want || (err == nil) != (c.want != "") || err != nil && !(errors.Is(err, chat.ErrInvalid) && strings.Contains(err.Error(), "--address")) {
			t.Errorf("of %v: %q, %v", c.advertise, got, err)
		}
	}
	if got, err := (&bridge{n: n}).clientHost("::1"); got != "" || !errors.Is(err, chat.ErrInvalid) || !strings.Contains(err.Error(), "IPv6") {
		t.Errorf("::1: %q, %v", got, err)
	}
}
