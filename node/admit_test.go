package node

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"outrider/mesh/identity"
)

type enrolmentView struct {
	ID, Name, State string
	Users, Nodes    []struct {
		ID   string
		Here bool
	}
}

func (r *running) enrolments() (list []enrolmentView, err error) {
	var out struct{ Enrolments []enrolmentView }
	err = r.do("GET", "/v1/network/enrolments", nil, &out)
	return out.Enrolments, err
}

// awaitEnrolment waits until a node shows an enrolment with so many users and
// nodes; none at all if both are -1.
func (r *running) awaitEnrolment(name string, users, nodes int) (e enrolmentView) {
	r.t.Helper()
	eventually(r.t, fmt.Sprintf("an enrolment with %d users and %d nodes", users, nodes), func() error {
		list, err := r.enrolments()
		if err != nil {
			return err
		}
		at := slices.IndexFunc(list, func(e enrolmentView) bool { return e.Name == name })
		if at < 0 {
			if users == -1 {
				return nil
			}
			return errors.New("there is none")
		}
		if e = list[at]; len(e.Users) != users || len(e.Nodes) != nodes {
			return fmt.Errorf("it has %d users and %d nodes", len(e.Users), len(e.Nodes))
		}
		return nil
	})
	return e
}

func (s *squad) post(path string, body map[string]string) error {
	s.t.Helper()
	body["admin_password"] = adminPassword
	return s.admin.do("POST", "/v1/network/"+path, body, &struct{}{})
}

// TestRevokeUser: what a revoked user sends is not accepted any more, nothing
// is sealed to them, and their node stays a relay that follows the network.
func TestRevokeUser(t *testing.T) {
	s, link := newSquad(t)
	bob := s.join(joinRequest(link).Link, link.Password)
	b := up(t, bob, s.settings())
	b.login(link.User, bobPassword)
	s.admin.login(s.alice, alicePassword)
	s.admin.awaitEnrolment(bobName, 1, 1)
	m := b.send(s.alice, "before")
	b.awaitState(m.ID, "delivered")

	s.revoke("user", bobName)
	awaitGeneration(t, bob, 2)
	s.admin.awaitLink(bob.ID(), true)
	err := s.post("revocations", map[string]string{"kind": "user", "who": link.User.String()})
	wantError(t, err, nil, "409", "revoked already")

	late := b.send(s.alice, "after")
	refused := s.admin.send(link.User, "to one who is gone")
	s.admin.awaitState(refused.ID, "failed")
	// The late message lies at alice's node, and stays unopened.
	eventually(t, "the late message at the admin's node", func() error {
		var got sentMessage
		if err := b.do("GET", "/v1/messages/"+late.ID, nil, &got); err != nil {
			return err
		}
		if !slices.Contains([]string{"carried", "at-node", "failed"}, got.State) {
			return errors.New("it is " + got.State)
		}
		return nil
	})
	if got := s.admin.texts(); slices.Contains(got, "after") || !slices.Contains(got, "before") {
		t.Errorf("alice reads %q", got)
	}
	if p := bob.network(); !strings.Contains(p.Name, networkName) || s.admin.home.newestGeneration() != 2 {
		t.Error("the relay did not stay")
	}
	down(t, s.admin, b)
}

func down(t *testing.T, list ...*running) {
	t.Helper()
	for _, r := range list {
		if err := r.down(); err != nil {
			t.Errorf("Run returned %v", err)
		}
	}
}

// TestAdmitByItself: a node whose admin key is open confirms a newcomer without
// being asked, the node before its user; whoever uses the link later is refused
// and freezes nobody.
func TestAdmitByItself(t *testing.T) {
	s, link := newSquad(t)
	if err := s.post("admin/unlock", map[string]string{}); err != nil {
		t.Fatal(err)
	}
	bob := s.join(joinRequest(link).Link, link.Password)
	b := up(t, bob, s.settings())
	s.admin.awaitEnrolment(bobName, -1, -1)
	eventually(t, "bob's node to hear of it", func() error { // also before it knows a name
		list, err := b.enrolments()
		if err == nil && len(list) != 0 {
			err = fmt.Errorf("it still shows %v", list)
		}
		return err
	})

	// The same link a second time, by somebody who listened in.
	mallory := s.join(joinRequest(link).Link, link.Password)
	if given := steal(t, mallory, s.admin.home.ID(), s.cfg.Mesh.Listen); given != nil {
		t.Errorf("a node on a closed link was let in and given %d bytes", len(given))
	}
	if given := steal(t, mallory, bob.ID(), b.cfg.Mesh.Listen); given != nil {
		t.Errorf("a node on a closed link was let in by another and given %d bytes", len(given))
	}
	b.login(link.User, bobPassword)
	s.admin.login(s.alice, alicePassword)
	m := b.send(s.alice, "still my name")
	b.awaitState(m.ID, "delivered")
	down(t, s.admin, b)
}

// TestLinkUsedTwice is the attack on an enrolment while the admin is away: the
// users freeze, both nodes relay, and a person decides.
func TestLinkUsedTwice(t *testing.T) {
	s, link := newSquad(t)
	bob := s.join(joinRequest(link).Link, link.Password)
	mallory := s.join(joinRequest(link).Link, link.Password)
	b, m := up(t, bob, s.settings()), up(t, mallory, s.settings())
	e := b.awaitEnrolment(bobName, 2, 2)
	s.admin.awaitEnrolment(bobName, 2, 2)
	if e.State != "conflict" {
		t.Errorf("state %q", e.State)
	}
	for _, h := range []*Home{bob, mallory} {
		s.admin.awaitLink(h.ID(), true) // relays both
	}
	b.login(link.User, bobPassword)
	m.login(link.User, bobPassword)
	frozen := []sentMessage{b.send(s.alice, "from the real one, frozen"), m.send(s.alice, "from the thief, frozen")}
	s.admin.login(s.alice, alicePassword)
	for i, r := range []*running{b, m} {
		eventually(t, "frozen mail at the admin's node", func() error {
			var got sentMessage
			if err := r.do("GET", "/v1/messages/"+frozen[i].ID, nil, &got); err != nil || got.State != "queued" && got.State != "waiting-for-keys" {
				return err
			}
			return errors.New("it is " + got.State)
		})
	}
	if got := s.admin.texts(); len(got) != 0 {
		t.Errorf("alice reads %q of a frozen user", got)
	}

	// Nobody is confirmed by guessing.
	if err := s.post("renew", map[string]string{}); err != nil {
		t.Fatal(err)
	}
	wantError(t, s.post("enrolments/accept", map[string]string{"who": bobName}), nil, "409", "more than once")
	wantError(t, s.post("revocations", map[string]string{"kind": "node", "who": mallory.ID().String()}), nil, "409", "more than once")
	var key string
	for _, u := range e.Users {
		if u.Here {
			key = u.ID
		}
	}
	if err := s.post("enrolments/accept", map[string]string{"who": bobName, "user_key": key, "node": bob.ID().String()}); err != nil {
		t.Fatal(err)
	}
	s.admin.awaitEnrolment(bobName, -1, -1)
	s.admin.awaitLink(mallory.ID(), false)
	s.admin.awaitLink(bob.ID(), true)
	b.awaitState(frozen[0].ID, "delivered")
	if got := s.admin.texts(); len(got) != 1 || got[0] != "from the real one, frozen" {
		t.Errorf("alice reads %q", got)
	}
	down(t, s.admin, b, m)
}

// TestRefuse: all that was made with a link goes, and the link with it.
func TestRefuse(t *testing.T) {
	s, link := newSquad(t)
	bob := s.join(joinRequest(link).Link, link.Password)
	b := up(t, bob, s.settings())
	s.admin.awaitEnrolment(bobName, 1, 1)
	if err := s.post("enrolments/refuse", map[string]string{"who": bobName}); err != nil {
		t.Fatal(err)
	}
	s.admin.awaitLink(bob.ID(), false)
	again := s.join(joinRequest(link).Link, link.Password)
	if given := steal(t, again, s.admin.home.ID(), s.cfg.Mesh.Listen); given != nil {
		t.Errorf("a node on a refused link was given %d bytes", len(given))
	}
	wantError(t, s.post("enrolments/refuse", map[string]string{"who": bobName}), nil, "404")
	down(t, s.admin, b)
}

// TestRevocationLimits: what cannot be revoked, and what it says.
func TestRevocationLimits(t *testing.T) {
	s, link := newSquad(t)
	s.admin.awaitEnrolment(bobName, 0, 0)
	for name, c := range map[string]struct{ kind, who, say string }{
		"the admin's node": {"node", s.admin.home.ID().String(), "without an admin"},
		"nobody":           {"user", "Nobody At All", "nobody of that name"},
		"no such node":     {"node", "Nobody At All", "no node of that name"},
		"a stranger's id":  {"user", identity.UserID{9}.String(), "nobody of that name"},
	} {
		t.Run(name, func(t *testing.T) {
			wantError(t, s.post("revocations", map[string]string{"kind": c.kind, "who": c.who}), nil, c.say)
		})
	}
	err := s.admin.do("POST", "/v1/network/revocations", map[string]string{"kind": "user", "who": bobName, "admin_password": "wrong"}, nil)
	wantError(t, err, nil, "401", "the admin password is wrong")
	err = s.admin.do("POST", "/v1/network/revocations", map[string]string{"kind": "user", "who": bobName}, nil)
	wantError(t, err, nil, "401", "admin password is needed")

	// A link that nobody has used is taken back by its user's name.
	s.revoke("user", bobName)
	bob := s.join(joinRequest(link).Link, link.Password)
	if given := steal(t, bob, s.admin.home.ID(), s.cfg.Mesh.Listen); given != nil {
		t.Errorf("a node on a revoked link was given %d bytes", len(given))
	}
	down(t, s.admin)
}
