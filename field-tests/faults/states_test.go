package faults

import (
	"fmt"
	"path/filepath"
	"slices"
	"testing"

	"outrider/field-tests/scenario"
)

// TestWaitsForKeys writes to somebody who has not joined yet, kills the node,
// and lets the other join: the message goes by itself.
func TestWaitsForKeys(t *testing.T) {
	t.Parallel()
	d := newDuo(t)
	inv, err := d.a.Invite(d.ctx, "carol", d.a.GossipAddr())
	d.must(err)
	d.up(d.a)
	d.login(d.a, "alice")
	m := d.send(d.a, inv.User, "welcome, carol")
	if m.State != "waiting-for-keys" {
		t.Fatalf("sent to somebody without keys, it is %s", m.State)
	}
	d.a.Kill()
	d.up(d.a)
	d.login(d.a, "alice")
	d.await(d.a, m.ID, "waiting-for-keys")

	c, err := scenario.NewBox(filepath.Dir(d.a.Dir), "c", d.a.Bin, "127.0.0.1")
	d.must(err)
	t.Cleanup(c.Kill)
	_, err = c.Init(d.ctx)
	d.must(err)
	d.must(configure(c, ""))
	d.must(c.Join(d.ctx, inv))
	d.up(c)
	d.login(c, "carol")
	d.await(d.a, m.ID, "delivered")
	if _, ok := d.inbox(c)["welcome, carol"]; !ok {
		t.Error("delivered, but carol does not have it")
	}
	d.stop(d.a, c)
}

// TestLockedUser: mail for a user who is locked waits at the user's node,
// through a kill of it, and is delivered after the login.
func TestLockedUser(t *testing.T) {
	t.Parallel()
	d := newDuo(t)
	d.up(d.a, d.b)
	d.login(d.a, "alice")
	m := d.send(d.a, "bob", "when you are back")
	d.await(d.a, m.ID, "at-node")
	d.b.Kill()
	d.up(d.b)
	d.await(d.a, m.ID, "at-node")
	d.login(d.b, "bob")
	d.await(d.a, m.ID, "delivered")
	got, ok := d.inbox(d.b)["when you are back"]
	if !ok {
		t.Fatal("delivered, but bob does not have it")
	}
	d.must(d.b.API.Do(d.ctx, "POST", "/v1/messages/"+got.ID+"/read", nil, nil))
	d.await(d.a, m.ID, "read")
	d.stop(d.a, d.b)
}

// TestTwoUsersOneNode: who is unlocked on a node opens nothing of who is not.
func TestTwoUsersOneNode(t *testing.T) {
	t.Parallel()
	d := newDuo(t)
	inv, err := d.a.Invite(d.ctx, "beth", d.a.GossipAddr())
	d.must(err)
	d.must(d.b.Join(d.ctx, inv))
	d.up(d.a, d.b)
	bob, beth := d.b.API, scenario.NewClient(d.b.Socket())
	d.login(d.a, "alice")
	d.login(d.b, "bob")
	// Before the node knows her name a login would pass for a guess, and guesses
	// at one name hold up those at others.
	d.must(scenario.Poll(d.ctx, "beth to be known", func() (bool, error) {
		users, err := bob.Users(d.ctx)
		return slices.ContainsFunc(users, func(u scenario.Person) bool { return u.Name == "beth" }), err
	}))
	_, err = beth.Login(d.ctx, "beth", scenario.UserPassword)
	d.must(err)
	d.must(keysOfAll(d.ctx, d.a, "bob", "beth"))
	d.must(beth.Do(d.ctx, "DELETE", "/v1/session", nil, nil))

	forBob, forBeth := d.send(d.a, "bob", "only for bob"), d.send(d.a, "beth", "only for beth")
	d.await(d.a, forBob.ID, "delivered")
	d.await(d.a, forBeth.ID, "at-node")
	if in := d.inbox(d.b); len(in) != 1 {
		t.Errorf("bob sees %d messages", len(in))
	}
	_, err = beth.Users(d.ctx)
	d.refused(err, "no_session")
	_, err = beth.Login(d.ctx, "beth", "not her password")
	d.refused(err, "bad_password")
	d.await(d.a, forBeth.ID, "at-node")

	d.must(bob.Do(d.ctx, "DELETE", "/v1/session", nil, nil))
	_, err = beth.Login(d.ctx, "beth", scenario.UserPassword)
	d.must(err)
	d.await(d.a, forBeth.ID, "delivered")
	forBob = d.send(d.a, "bob", "for bob once more")
	d.await(d.a, forBob.ID, "at-node")
	d.b.API = beth
	in := d.inbox(d.b)
	if _, ok := in["only for beth"]; !ok || len(in) != 1 {
		t.Errorf("beth sees %v", in)
	}
	d.stop(d.a, d.b)
}

// act does something to a message at a.
func (d *duo) act(id, verb string) (m scenario.Message, err error) {
	return m, d.a.API.Do(d.ctx, "POST", "/v1/messages/"+id+"/"+verb, nil, &m)
}

// TestRetryAndRecall takes messages through the states that a person can
// bring about.
func TestRetryAndRecall(t *testing.T) {
	t.Parallel()
	d := newDuo(t)
	d.up(d.a)
	d.login(d.a, "alice")
	stays, goes := d.send(d.a, "bob", "this one goes"), d.send(d.a, "bob", "this one is taken back")
	for _, m := range []scenario.Message{stays, goes} {
		if m.State != "queued" || m.Reason == "" {
			t.Errorf("alone, it is %s, because %q", m.State, m.Reason)
		}
	}
	m, err := d.act(stays.ID, "retry")
	d.must(err)
	if m.State != "queued" || m.ID != stays.ID {
		t.Errorf("after retry: %+v", m)
	}
	m, err = d.act(goes.ID, "recall")
	d.must(err)
	if m.State != "recalled" || m.Text != "" {
		t.Errorf("after recall: %+v", m)
	}
	_, err = d.act(goes.ID, "recall")
	d.refused(err, "wrong_state")
	_, err = d.act(goes.ID, "retry")
	d.refused(err, "wrong_state")
	d.a.Kill()
	d.up(d.a, d.b)
	d.login(d.a, "alice")
	d.login(d.b, "bob")
	d.await(d.a, goes.ID, "recalled")
	d.await(d.a, stays.ID, "delivered")
	if in := d.inbox(d.b); len(in) != 1 || in["this one goes"].ID == "" {
		t.Errorf("bob has %v", in)
	}
	_, err = d.act(stays.ID, "retry")
	d.refused(err, "wrong_state")

	// One that was delivered is shredded at the reader too.
	_, err = d.act(stays.ID, "recall")
	d.must(err)
	d.must(scenario.Poll(d.ctx, "the recall to reach bob", func() (bool, error) {
		for _, m := range d.inbox(d.b) {
			if m.State != "recalled" || m.Text != "" {
				return false, fmt.Errorf("it is %s", m.State)
			}
		}
		return true, nil
	}))
	d.stop(d.a, d.b)
}
