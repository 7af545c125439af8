package node

import (
	"context"
	"fmt"
	"log/slog"
	"testing"
	"time"

	"outrider/mesh/cla"
	"outrider/mesh/cla/p2p"
	"outrider/mesh/identity"
	"outrider/node/config"
)

// A squad is an admin's node and others that joined by links of their own.
type squad struct {
	t     *testing.T
	alice identity.UserID
	admin *running
	cfg   config.Config
}

func newSquad(t *testing.T) (*squad, UserLink) {
	t.Helper()
	h, alice, link := founded(t)
	s := &squad{t: t, alice: alice, cfg: onLoopback(t)}
	s.admin = up(t, h, s.cfg)
	return s, link
}

// invite issues another link on the running admin's node.
func (s *squad) invite(name string) (link, password string, user identity.UserID) {
	s.t.Helper()
	var out struct {
		Link     string          `json:"link"`
		Password string          `json:"password"`
		User     identity.UserID `json:"user_id"`
	}
	body := map[string]any{"name": name, "admin_password": adminPassword, "addrs": []string{s.cfg.Gossip.Listen}}
	if err := s.admin.do("POST", "/v1/network/users", body, &out); err != nil {
		s.t.Fatal(err)
	}
	return out.Link, out.Password, out.User
}

// join makes a node of a link, without starting it.
func (s *squad) join(link, password string) *Home {
	s.t.Helper()
	h := newHome(s.t)
	if _, _, err := h.Join(s.t.Context(), JoinRequest{Link: link, LinkPassword: []byte(password), Password: []byte(bobPassword)}, today()); err != nil {
		s.t.Fatal(err)
	}
	return h
}

func (s *squad) settings() config.Config {
	c := onLoopback(s.t)
	c.Gossip.Seeds = []string{s.cfg.Gossip.Listen}
	return c
}

func (s *squad) revoke(kind, who string) {
	s.t.Helper()
	var out struct{ Generation int }
	err := s.admin.do("POST", "/v1/network/revocations", map[string]string{"kind": kind, "who": who, "admin_password": adminPassword}, &out)
	if err != nil || out.Generation < 2 {
		s.t.Fatalf("revoke %s: generation %d, %v", kind, out.Generation, err)
	}
}

// linked reports whether r has an open link to peer.
func (r *running) linked(peer identity.NodeID) (bool, error) {
	var out struct {
		Links []struct {
			Node identity.NodeID
			Up   bool
		}
	}
	err := r.do("GET", "/v1/links", nil, &out)
	for _, l := range out.Links {
		if l.Node == peer && l.Up {
			return true, err
		}
	}
	return false, err
}

func (r *running) awaitLink(peer identity.NodeID, want bool) {
	r.t.Helper()
	eventually(r.t, fmt.Sprintf("link to %s: %v", peer.Short(), want), func() error {
		got, err := r.linked(peer)
		if err == nil && got != want {
			err = fmt.Errorf("it is %v", got)
		}
		return err
	})
}

// generation is that of the newest network secret in the folder.
func (h *Home) newestGeneration() uint32 { return h.network().Secrets[0].Generation }

func awaitGeneration(t *testing.T, h *Home, want uint32) {
	t.Helper()
	eventually(t, fmt.Sprintf("network secret of generation %d", want), func() error {
		if got := h.newestGeneration(); got != want {
			return fmt.Errorf("it is %d", got)
		}
		return nil
	})
}

// TestRevokeNode: a captured node is put out everywhere at once, the others go
// over to a new network secret without a restart and go on talking, a node
// that was away follows at its next contact, and the captured one gets
// nothing, although it still has its folder and the old secret.
func TestRevokeNode(t *testing.T) {
	s, bobLink := newSquad(t)
	bob := s.join(joinRequest(bobLink).Link, bobLink.Password)
	eve := s.join(tuple(s.invite("Eve")))
	awayLink, awayPassword, away := s.invite("Away")
	awayHome := s.join(awayLink, awayPassword)

	bobCfg := s.settings()
	b, e, w := up(t, bob, bobCfg), up(t, eve, s.settings()), up(t, awayHome, s.settings())
	for _, h := range []*Home{bob, eve, awayHome} {
		s.admin.awaitLink(h.ID(), true)
	}
	b.awaitLink(eve.ID(), true)
	w.login(away, bobPassword) // its keys have to be known
	b.login(bobLink.User, bobPassword)
	if err := w.down(); err != nil {
		t.Fatal(err)
	}

	s.revoke("node", eve.ID().String())
	s.admin.awaitLink(eve.ID(), false)
	b.awaitLink(eve.ID(), false)
	awaitGeneration(t, bob, 2)
	if got := s.admin.home.newestGeneration(); got != 2 {
		t.Errorf("the admin's node is at generation %d", got)
	}

	// The two that stay still talk, under the new secret.
	s.admin.login(s.alice, alicePassword)
	m := s.admin.send(bobLink.User, "eve's truck is gone; new secret, same mission")
	s.admin.awaitState(m.ID, "delivered")

	// One that was away through all of it comes back with the old secret.
	if got := awayHome.newestGeneration(); got != 1 {
		t.Fatalf("the node that is away has generation %d", got)
	}
	w = up(t, awayHome, s.settings())
	awaitGeneration(t, awayHome, 2)
	w.login(away, bobPassword)
	m = s.admin.send(away, "welcome back")
	s.admin.awaitState(m.ID, "delivered")
	w.awaitLink(bob.ID(), true)
	if err := w.down(); err != nil {
		t.Error(err)
	}

	// The captured one never: not by itself, not when it is started anew.
	if err := e.down(); err != nil {
		t.Error(err)
	}
	for victim, addrs := range map[identity.NodeID][]string{s.admin.home.ID(): s.cfg.Mesh.Listen, bob.ID(): bobCfg.Mesh.Listen} {
		if given := steal(t, eve, victim, addrs); given != nil {
			t.Errorf("the revoked node was let in and given %d bytes", len(given))
		}
	}
	if given := steal(t, awayHome, bob.ID(), bobCfg.Mesh.Listen); len(given) < 64 {
		t.Errorf("a member that says it has no secret was given %d bytes: the attack above proves nothing", len(given))
	}
	if got := eve.newestGeneration(); got != 1 {
		t.Errorf("the revoked node has got generation %d", got)
	}
	for _, r := range []*running{s.admin, b} {
		if err := r.down(); err != nil {
			t.Errorf("Run returned %v", err)
		}
	}
}

func tuple(link, password string, _ identity.UserID) (string, string) { return link, password }

// A thief is a revoked node that plays by no rules: it admits anybody, says
// that it has no secret at all, and takes what it is given.
type thief struct {
	chain []byte
	got   chan []byte
}

func (t thief) Hello() []byte      { return t.chain }
func (t thief) RootRecord() []byte { return nil }
func (t thief) Admit(identity.NodeID, []byte) (time.Time, error) {
	return time.Time{}, nil
}
func (t thief) Held() []byte                                 { return []byte{0x80} }
func (t thief) Give(identity.NodeID, []byte) ([]byte, error) { return []byte{0x80}, nil }
func (t thief) Take(_ identity.NodeID, given []byte) error {
	t.got <- given
	return nil
}

// steal dials a node as a thief with h's key and certificate, and returns what
// it was given, nil if it was not let in.
func steal(t *testing.T, h *Home, victim identity.NodeID, addrs []string) []byte {
	t.Helper()
	th := thief{chain: h.network().Chain, got: make(chan []byte, 8)}
	l, err := p2p.New(p2p.Config{Key: h.Key(), Admission: th, Secrets: th, Profile: p2p.ProfileOf(cla.LAN), Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	done := make(chan error, 1)
	go func() {
		done <- l.Run(ctx, func(ctx context.Context, k cla.Link) { <-k.(interface{ Done() <-chan struct{} }).Done() })
	}()
	defer func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	}()
	<-l.Ready()
	if err := l.Dial(ctx, victim, addrs); err != nil {
		return nil
	}
	select {
	case given := <-th.got:
		return given
	case <-ctx.Done():
		return nil
	}
}
