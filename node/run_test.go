package node

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/netip"
	"testing"
	"time"

	"go.uber.org/goleak"

	"outrider/mesh/identity"
	"outrider/node/config"
	"outrider/node/web"
)

// A running node, spoken to through its socket as any program would.
type running struct {
	t    *testing.T
	home *Home
	http *http.Client
	stop context.CancelFunc
	done chan error
	cfg  config.Config

	token string
}

// onLoopback returns settings with ports of 127.0.0.1 that are free now.
func onLoopback(t *testing.T) config.Config {
	t.Helper()
	c := config.Default()
	c.Gossip.Listen, c.Mesh.Listen, c.Page.Listen = freeAddr(t), []string{freeAddr(t)}, []string{freeAddr(t)}
	c.Store.FreeFloorMB = 16
	if err := c.Validate(); err != nil {
		t.Fatal(err)
	}
	return c
}

// taken keeps freeAddr from giving one address twice.
var taken = map[string]bool{}

// freeAddr returns an address that is free for tcp and udp. Its port is none
// that the kernel gives to connections meanwhile.
func freeAddr(t *testing.T) string {
	t.Helper()
	for range 1000 {
		l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", 10_000+rand.IntN(20_000)))
		if err != nil {
			continue
		}
		addr := l.Addr().String()
		l.Close()
		p, err := net.ListenPacket("udp", addr)
		if err != nil || taken[addr] {
			continue
		}
		p.Close()
		taken[addr] = true
		return addr
	}
	t.Fatal("no free port")
	return ""
}

// up runs a node and waits until it takes requests.
func up(t *testing.T, h *Home, c config.Config) *running {
	t.Helper()
	return upWith(t, h, c, func(*Node) {})
}

// upWith is up with a change to the node before it runs.
func upWith(t *testing.T, h *Home, c config.Config, change func(*Node)) *running {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	r := &running{t: t, home: h, stop: cancel, done: make(chan error, 1), cfg: c}
	r.http = &http.Client{Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			var d net.Dialer
			return d.DialContext(ctx, "unix", h.path(socketName))
		},
	}}
	ready := make(chan Ready, 1)
	n := New(Options{Home: h, Config: c, Version: "test", Web: web.Handler()})
	change(n)
	go func() { r.done <- n.Run(ctx, func(r Ready) { ready <- r }) }()
	t.Cleanup(cancel)
	select {
	case got := <-ready:
		if got.Node != h.ID() || got.Network != networkName || got.Socket != h.path(socketName) || len(got.Pages) != 1 {
			t.Errorf("ready says %+v", got)
		}
	case err := <-r.done:
		t.Fatalf("the node did not come up: %v", err)
	}
	return r
}

// down ends the node and returns what Run returned.
func (r *running) down() error {
	r.stop()
	return <-r.done
}

// do makes one call; a status of 400 and more is an error.
func (r *running) do(method, path string, body, out any) error {
	var in io.Reader
	if body != nil {
		b, err := json.Marshal(body)
		if err != nil {
			return err
		}
		in = bytes.NewReader(b)
	}
	req, err := http.NewRequest(method, "http://node"+path, in)
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/json")
	if r.token != "" {
		req.Header.Set("Authorization", "Bearer "+r.token)
	}
	resp, err := r.http.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	raw, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode >= 400 {
		return fmt.Errorf("%s %s: %s %s (%v)", method, path, resp.Status, raw, err)
	}
	return json.Unmarshal(raw, out)
}

// patience is how long a test waits for what must happen: a busy machine takes
// many times as long as a quiet one.
const patience = time.Minute

// eventually polls a condition of another goroutine's making.
func eventually(t *testing.T, what string, ask func() error) {
	t.Helper()
	deadline := time.After(patience)
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		err := ask()
		if err == nil {
			return
		}
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("waiting for %s: %v", what, err)
		}
	}
}

// noneLeft waits until no goroutine is left but those of before. Libraries let
// some go without waiting for their end.
func noneLeft(t *testing.T, before goleak.Option) {
	t.Helper()
	eventually(t, "the node's goroutines to end", func() error { return goleak.Find(before) })
}

func (r *running) login(user identity.UserID, password string) {
	r.t.Helper()
	eventually(r.t, "the login", func() error {
		var s struct{ Token string }
		err := r.do("POST", "/v1/session", map[string]string{"user": user.String(), "password": password}, &s)
		r.token = s.Token
		return err
	})
}

type sentMessage struct {
	ID    string
	State string
	Text  string
	From  struct{ ID identity.UserID }
}

func (r *running) send(to identity.UserID, text string) (m sentMessage) {
	r.t.Helper()
	if err := r.do("POST", "/v1/messages", map[string]string{"to": to.String(), "text": text}, &m); err != nil {
		r.t.Fatal(err)
	}
	return m
}

func (r *running) awaitState(id, state string) {
	r.t.Helper()
	eventually(r.t, "the state "+state, func() error {
		var m sentMessage
		if err := r.do("GET", "/v1/messages/"+id, nil, &m); err != nil || m.State == state {
			return err
		}
		return errors.New("it is " + m.State)
	})
}

// texts returns what is in the user's only conversation.
func (r *running) texts() []string {
	r.t.Helper()
	var convs struct{ Conversations []struct{ ID string } }
	if err := r.do("GET", "/v1/conversations", nil, &convs); err != nil {
		r.t.Fatal(err)
	}
	var out []string
	for _, c := range convs.Conversations {
		var page struct{ Messages []sentMessage }
		if err := r.do("GET", "/v1/conversations/"+c.ID+"/messages", nil, &page); err != nil {
			r.t.Fatal(err)
		}
		for _, m := range page.Messages {
			out = append(out, m.Text)
		}
	}
	return out
}

func TestRunWithoutNetwork(t *testing.T) {
	err := New(Options{Home: newHome(t), Config: onLoopback(t)}).Run(t.Context(), func(Ready) { t.Error("it said it was ready") })
	wantError(t, err, ErrNoNetwork, "network create", "join")
}

// TestRun is the whole node on real sockets, twice: one founds, one joins and
// meets it, a message crosses and is receipted, both end without a goroutine
// left, and both come up again on the same folders and go on. What was written
// and said is then nowhere in the folders.
func TestRun(t *testing.T) {
	before := goleak.IgnoreCurrent()
	adminHome, alice, link := founded(t)
	ca, cb := onLoopback(t), onLoopback(t)
	cb.Gossip.Seeds = []string{ca.Gossip.Listen}
	joined := newHome(t)
	if _, _, err := joined.Join(t.Context(), joinRequest(link), today()); err != nil {
		t.Fatal(err)
	}
	const there, back = "the bridge at the mill is gone, take the ford", "understood: the ford, not the bridge at the mill"

	a, b := up(t, adminHome, ca), up(t, joined, cb)
	a.login(alice, alicePassword)
	m := a.send(link.User, there)
	b.login(link.User, bobPassword)
	a.awaitState(m.ID, "delivered")
	a.heardNow(joined.ID())
	if got := b.texts(); len(got) != 1 || got[0] != there {
		t.Errorf("bob reads %q", got)
	}
	for _, r := range []*running{a, b} {
		if err := r.down(); err != nil {
			t.Errorf("Run returned %v", err)
		}
	}
	noneLeft(t, before)

	a, b = up(t, adminHome, ca), up(t, joined, cb)
	if n := a.contacts(joined.ID()); n == 0 {
		t.Error("the contact of the first run is forgotten")
	}
	b.login(link.User, bobPassword)
	m = b.send(alice, back)
	a.login(alice, alicePassword)
	b.awaitState(m.ID, "delivered")
	if got := a.texts(); len(got) != 2 || got[0] != there || got[1] != back {
		t.Errorf("alice reads %q", got)
	}
	for _, r := range []*running{a, b} {
		if err := r.down(); err != nil {
			t.Errorf("Run returned %v", err)
		}
		for _, needle := range []string{there, back, aliceName, bobName, alicePassword, bobPassword} {
			for _, where := range search(t, r.home.Dir(), []byte(needle)) {
				t.Errorf("%q is readable in %s", needle, where)
			}
		}
	}
	noneLeft(t, before)
}

// heardNow checks that a peer whose link is up is heard at this moment, and not
// only when gossip last had it.
func (r *running) heardNow(peer identity.NodeID) {
	r.t.Helper()
	eventually(r.t, "the peer to be up", func() error {
		asked := time.Now().Truncate(time.Millisecond)
		var out struct {
			Peers []struct {
				ID        identity.NodeID
				Up        bool
				LastHeard time.Time `json:"last_heard"`
			}
		}
		if err := r.do("GET", "/v1/peers", nil, &out); err != nil {
			return err
		}
		for _, p := range out.Peers {
			if p.ID == peer && p.Up {
				if p.LastHeard.Before(asked) {
					r.t.Errorf("at %v a peer that is up was heard at %v", asked, p.LastHeard)
				}
				return nil
			}
		}
		return fmt.Errorf("peers: %+v", out.Peers)
	})
}

// TestNameOfAnInvitation: who has a join link that is still open is written to
// by name; an id with a letter mistyped waits too, and that is said.
func TestNameOfAnInvitation(t *testing.T) {
	h, alice, link := founded(t)
	r := up(t, h, onLoopback(t))
	r.login(alice, alicePassword)
	type answer struct {
		ID, State, Hint string
		ReasonCode      string `json:"reason_code"`
		To              struct{ Name string }
	}
	send := func(to string) (m answer, err error) {
		return m, r.do("POST", "/v1/messages", map[string]string{"to": to, "text": "welcome"}, &m)
	}
	eventually(t, "the invited to have a name", func() error {
		m, err := send(bobName)
		if err == nil && (m.State != "waiting-for-keys" || m.ReasonCode != "no_keys" || m.To.Name != bobName) {
			t.Errorf("to somebody invited: %+v", m)
		}
		return err
	})
	wrong := link.User
	wrong[3] ^= 1
	m, err := send(wrong.String())
	if err != nil || m.State != "waiting-for-keys" || m.ReasonCode != "unknown_id" || !contains(m.Hint, "compare it") {
		t.Errorf("to a mistyped id: %+v, %v", m, err)
	}
	if err := r.down(); err != nil {
		t.Error(err)
	}
}

// A node that has met nobody ends as cleanly as one that has.
func TestRunAlone(t *testing.T) {
	before := goleak.IgnoreCurrent()
	_, _, link := founded(t)
	h := newHome(t)
	if _, _, err := h.Join(t.Context(), joinRequest(link), today()); err != nil {
		t.Fatal(err)
	}
	r := up(t, h, onLoopback(t))
	err := r.do("POST", "/v1/session", map[string]string{"user": bobName, "password": bobPassword}, nil)
	wantError(t, err, nil, "busy", "first neighbour")
	var status struct{ Network struct{ Name string } }
	if err := r.do("GET", "/v1/status", nil, &status); err != nil || status.Network.Name != networkName {
		t.Errorf("status while looking for a neighbour: %+v %v", status, err)
	}
	if err := r.down(); err != nil {
		t.Errorf("Run returned %v", err)
	}
	noneLeft(t, before)
}

// A port that is taken ends Run with an error that names it, whichever it is.
func TestRunBusyPort(t *testing.T) {
	before := goleak.IgnoreCurrent()
	h, _, _ := founded(t)
	for name, busy := range map[string]func(*config.Config, string){
		"page":   func(c *config.Config, addr string) { c.Page.Listen = []string{addr} },
		"mesh":   func(c *config.Config, addr string) { c.Mesh.Listen = []string{addr} },
		"gossip": func(c *config.Config, addr string) { c.Gossip.Listen = addr },
	} {
		t.Run(name, func(t *testing.T) {
			l, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			defer l.Close()
			c := onLoopback(t)
			busy(&c, l.Addr().String())
			ctx, cancel := context.WithTimeout(t.Context(), patience)
			defer cancel()
			err = New(Options{Home: h, Config: c}).Run(ctx, func(Ready) {})
			wantError(t, err, nil, fmt.Sprint(netip.MustParseAddrPort(l.Addr().String()).Port()), "in use", "config check")
		})
	}
	noneLeft(t, before)
}

// TestRunClockBehind: a board whose clock lost hours, as its state knows,
// still meets its network and delivers (decisions.md 4).
func TestRunClockBehind(t *testing.T) {
	adminHome, alice, link := founded(t)
	ca, cb := onLoopback(t), onLoopback(t)
	cb.Gossip.Seeds = []string{ca.Gossip.Listen}
	joined := newHome(t)
	if _, _, err := joined.Join(t.Context(), joinRequest(link), today()); err != nil {
		t.Fatal(err)
	}
	if err := joined.raiseFloor(time.Now().Add(3 * time.Hour)); err != nil {
		t.Fatal(err)
	}
	a, b := up(t, adminHome, ca), up(t, joined, cb)
	b.login(link.User, bobPassword)
	m := b.send(alice, "sent by a clock that is three hours wrong")
	a.login(alice, alicePassword)
	b.awaitState(m.ID, "delivered")
	for _, r := range []*running{a, b} {
		if err := r.down(); err != nil {
			t.Errorf("Run returned %v", err)
		}
	}
}

// A limit of 0 in the settings is a limit, not a default of somebody else's.
func TestZeroLimits(t *testing.T) {
	h, _, _ := founded(t)
	c := onLoopback(t)
	c.Store.FilesLimitMB, c.Store.FreeFloorMB = 0, 0
	n := New(Options{Home: h, Config: c})
	var err error
	if n.root, err = identity.ParseRoot(h.network().Root); err != nil {
		t.Fatal(err)
	}
	if o := n.storeOptions(); o.MaxBlobBytes != 1 || o.FreeFloor != 1 {
		t.Errorf("the store is told %d bytes of files and %d to keep free", o.MaxBlobBytes, o.FreeFloor)
	}
	if l := n.limits(); l.BlobBytes != 1 {
		t.Errorf("the agent is told %d bytes of files", l.BlobBytes)
	}
}
