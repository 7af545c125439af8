package node

import (
	"errors"
	"strings"
	"testing"

	"outrider/mesh/identity"
	"outrider/node/api"
	"outrider/node/config"
	"outrider/offline/deeplink"
)

// TestP04NameIsGivenOnce: neither a repeated command nor another spelling makes
// a second user of a name, whether the node runs or not.
func TestP04NameIsGivenOnce(t *testing.T) {
	h, alice, _ := founded(t)
	before := readState(t, h.Dir())
	for _, c := range []struct{ name, hint string }{
		{aliceName, "outrider user code NAME"}, {strings.ToUpper(aliceName), "outrider user code NAME"}, {strings.ToLower(bobName), "--again"},
	} {
		for _, here := range []bool{true, false} {
			_, err := AddUser(t.Context(), h, config.Default(), api.NewUser{
				Name: c.name, Here: here, AdminPassword: []byte(adminPassword), Password: []byte(carolPassword), Addrs: []string{"192.0.2.1:7410"},
			})
			wantError(t, err, api.ErrConflict)
			if hint, ok := errors.AsType[api.Hinted](err); !ok || !strings.Contains(hint.Hint(), c.hint) {
				t.Errorf("%s, here %v: no way out in %v", c.name, here, err)
			}
		}
	}
	if string(readState(t, h.Dir())) != string(before) {
		t.Error("a refused user changed the node")
	}

	r := up(t, h, onLoopback(t))
	add := func(name string) error {
		return r.ask("POST", "/v1/network/users", map[string]any{"name": name, "here": true, "admin_password": adminPassword, "password": carolPassword}, nil)
	}
	wantCode(t, add(aliceName), "exists")
	wantCode(t, add(bobName), "exists")
	r.must(add(carolName))
	wantCode(t, add(carolName), "exists") // at once, before the roster has heard of the first
	wantCode(t, r.ask("POST", "/v1/codes", map[string]any{"name": bobName, "admin_password": adminPassword}, nil), "exists")
	code := r.code("Dora")
	r.must(add("Dora"))
	_, err := r.redeem(code.Code, carolPassword, false)
	wantCode(t, err, "exists") // the name was given while the code waited
	r.login(alice, alicePassword)
	eventually(t, "carol to log in by name", func() error {
		return r.ask("POST", "/v1/session", map[string]string{"user": carolName, "password": carolPassword}, nil)
	})
	r.must(r.down())

	_, err = AddUser(t.Context(), h, config.Default(), api.NewUser{Name: carolName, Here: true, AdminPassword: []byte(adminPassword), Password: []byte(carolPassword)})
	wantError(t, err, api.ErrConflict)
}

// TestP04LinkAgainBeforeTheFirstIsUsed: a link that went astray is made again
// for the same user, and whoever uses it is that user.
func TestP04LinkAgainBeforeTheFirstIsUsed(t *testing.T) {
	h, _, bob := founded(t)
	r := up(t, h, onLoopback(t))
	var link struct {
		User           identity.UserID `json:"user_id"`
		Link, Password string
	}
	eventually(t, "the first link to be known", func() error {
		return r.ask("POST", "/v1/network/users", map[string]any{"name": bobName, "again": true, "admin_password": adminPassword, "addrs": []string{"127.0.0.1:9"}}, &link)
	})
	j, _, err := deeplink.OpenJoin(t.Context(), link.Link, []byte(link.Password), today())
	if err != nil || link.User != bob.User || j.Delegate.Generation != 2 {
		t.Errorf("a link for %s of generation %d, %v", link.User, j.Delegate.Generation, err)
	}
	r.must(r.down())
}

// TestP04NamesakesLogIn: nodes that were cut off can have made namesakes. The
// password tells them apart; where it is the same one, the id does.
func TestP04NamesakesLogIn(t *testing.T) {
	h, alice, _ := founded(t)
	second, err := h.HostUser(t.Context(), UserRequest{Name: aliceName, AdminPassword: []byte(adminPassword)}, []byte(carolPassword))
	if err != nil {
		t.Fatal(err)
	}
	third, err := h.HostUser(t.Context(), UserRequest{Name: aliceName, AdminPassword: []byte(adminPassword)}, []byte(carolPassword))
	if err != nil {
		t.Fatal(err)
	}
	r := up(t, h, onLoopback(t))
	login := func(name, password string) (id identity.UserID, err error) {
		var s struct {
			UserID identity.UserID `json:"user_id"`
		}
		err = r.ask("POST", "/v1/session", map[string]string{"user": name, "password": password}, &s)
		return s.UserID, err
	}
	for _, id := range []identity.UserID{second, third} {
		eventually(t, "the namesakes to be known", func() error { _, err := login(id.String(), carolPassword); return err })
	}
	eventually(t, "all three to bear the name", func() error {
		_, err := login(aliceName, carolPassword)
		if err == nil || !strings.Contains(err.Error(), "2 users have that name here: use the id") {
			return errors.Join(errors.New("not told"), err)
		}
		return nil
	})
	if id, err := login(aliceName, alicePassword); err != nil || id != alice {
		t.Errorf("%s, %v", id, err)
	}
	_, err = login(aliceName, "a password that nobody has")
	wantCode(t, err, "bad_password")
	wantCode(t, r.ask("POST", "/v1/codes", map[string]any{"name": aliceName, "admin_password": adminPassword}, nil), "ambiguous")
	if c := r.code(third.String()); !c.NewKey || c.Name != aliceName {
		t.Errorf("a code by id: %+v", c)
	}
	r.must(r.down())
}
