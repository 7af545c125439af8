package node

import (
	"encoding/base64"
	"errors"
	"fmt"
	"strings"
	"testing"

	"go.uber.org/goleak"

	"outrider/media"
	"outrider/mesh/identity"
)

// callSeen is a call in an answer.
type callSeen struct{ ID, State, Reason string }

var callKey = base64.RawURLEncoding.EncodeToString(make([]byte, media.KeySize))

// ring starts a call and returns its path.
func (r *running) ring(to identity.UserID, id media.CallID) (string, error) {
	commit := base64.RawURLEncoding.EncodeToString(make([]byte, media.CommitSize))
	return "/v1/calls/" + id.String(), r.do("POST", "/v1/calls", map[string]string{"to": to.String(), "id": id.String(), "commit": commit}, new(callSeen))
}

// awaitCall waits until the user's only call is in a state, or with "" gone.
func (r *running) awaitCall(state string) {
	r.t.Helper()
	eventually(r.t, "the call to be "+state, func() error {
		var out struct{ Calls []callSeen }
		if err := r.do("GET", "/v1/calls", nil, &out); err != nil {
			return err
		}
		if state == "" && len(out.Calls) == 0 || len(out.Calls) == 1 && out.Calls[0].State == state {
			return nil
		}
		return fmt.Errorf("calls %+v", out.Calls)
	})
}

// records lists how the calls of the user's conversations went.
func (r *running) records() (out []string) {
	r.t.Helper()
	var convs struct{ Conversations []struct{ ID string } }
	if err := r.do("GET", "/v1/conversations", nil, &convs); err != nil {
		r.t.Fatal(err)
	}
	for _, c := range convs.Conversations {
		var page struct {
			Messages []struct{ Call *struct{ Status string } }
		}
		if err := r.do("GET", "/v1/conversations/"+c.ID+"/messages", nil, &page); err != nil {
			r.t.Fatal(err)
		}
		for _, m := range page.Messages {
			if m.Call != nil {
				out = append(out, m.Call.Status)
			}
		}
	}
	return out
}

func (r *running) awaitRecords(want ...string) {
	r.t.Helper()
	eventually(r.t, "the records", func() error {
		if got := r.records(); strings.Join(got, " ") != strings.Join(want, " ") {
			return fmt.Errorf("records %q, want %q", got, want)
		}
		return nil
	})
}

// keysOf waits until a user's keys are known.
func (r *running) keysOf(user identity.UserID) {
	r.t.Helper()
	eventually(r.t, "the keys", func() error {
		var out struct {
			Users []struct {
				ID      identity.UserID
				HasKeys bool `json:"has_keys"`
			}
		}
		if err := r.do("GET", "/v1/users", nil, &out); err != nil {
			return err
		}
		for _, u := range out.Users {
			if u.ID == user && u.HasKeys {
				return nil
			}
		}
		return errors.New("not yet")
	})
}

// C08: whoever logs out in a call hangs up first, so that the other learns of
// it and the record is kept; a second window that answers is told.
func TestC08LoggingOutHangsUp(t *testing.T) {
	before := goleak.IgnoreCurrent()
	home, alice, _ := founded(t)
	bob, err := home.HostUser(t.Context(), UserRequest{Name: bobName, AdminPassword: []byte(adminPassword)}, []byte(bobPassword))
	if err != nil {
		t.Fatal(err)
	}
	c := onLoopback(t)
	c.Calls.Listen = freeAddr(t)
	a := up(t, home, c)
	b := new(running)
	*b = *a
	a.login(alice, alicePassword)
	b.login(bob, bobPassword)
	a.keysOf(bob)

	if _, err := a.ring(bob, media.CallID{1}); err != nil {
		t.Fatal(err)
	}
	b.awaitCall("ringing")
	_ = b.do("DELETE", "/v1/session", nil, nil) // answered without a body
	a.awaitCall("")
	a.awaitRecords("missed")

	b.login(bob, bobPassword)
	at, err := a.ring(bob, media.CallID{2})
	if err != nil {
		t.Fatal(err)
	}
	b.awaitCall("ringing")
	answer := map[string]string{"key": callKey}
	if err := b.do("POST", at+"/answer", answer, new(callSeen)); err != nil {
		t.Fatal(err)
	}
	if err := b.do("POST", at+"/answer", answer, new(callSeen)); err == nil || !strings.Contains(err.Error(), "wrong_state") {
		t.Errorf("answered twice: %v", err)
	}
	a.awaitCall("accepted")
	if err := a.do("POST", at+"/media", map[string]string{"sdp": "v=0\r\n"}, new(callSeen)); err == nil || !strings.Contains(err.Error(), "bad_request") {
		t.Errorf("an offer that is none: %v", err)
	}
	_ = a.do("DELETE", "/v1/session", nil, nil)
	b.awaitCall("")
	b.awaitRecords("missed", "completed")
	if err := a.down(); err != nil {
		t.Errorf("Run returned %v", err)
	}
	noneLeft(t, before)
}

// C01: a call to somebody of another node, or of a node that takes none, is
// refused in words that say so.
func TestC01CallsThatCannotBe(t *testing.T) {
	home, alice, link := founded(t)
	ca, cb := onLoopback(t), onLoopback(t)
	cb.Gossip.Seeds, cb.Calls.Enabled = []string{ca.Gossip.Listen}, false
	joined := newHome(t)
	if _, _, err := joined.Join(t.Context(), joinRequest(link), today()); err != nil {
		t.Fatal(err)
	}
	a, b := up(t, home, ca), up(t, joined, cb)
	a.login(alice, alicePassword)
	b.login(link.User, bobPassword)
	a.keysOf(link.User)
	if _, err := a.ring(link.User, media.CallID{1}); err == nil || !strings.Contains(err.Error(), `"elsewhere"`) || !strings.Contains(err.Error(), "same node") {
		t.Errorf("somebody elsewhere: %v", err)
	}
	if _, err := a.ring(alice, media.CallID{1}); err == nil || !strings.Contains(err.Error(), "bad_request") {
		t.Errorf("oneself: %v", err)
	}
	if _, err := b.ring(alice, media.CallID{1}); err == nil || !strings.Contains(err.Error(), `"calls_off"`) {
		t.Errorf("calls are off: %v", err)
	}
	if err := a.do("POST", "/v1/calls/"+media.CallID{1}.String()+"/media", map[string]string{"sdp": "v=0\r\n"}, new(callSeen)); err == nil || !strings.Contains(err.Error(), "not_found") {
		t.Errorf("no such call: %v", err)
	}
	for _, r := range []*running{a, b} {
		if err := r.down(); err != nil {
			t.Errorf("Run returned %v", err)
		}
	}
}
