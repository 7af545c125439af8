package faults

import (
	"encoding/json"
	"errors"
	"fmt"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"outrider/field-tests/scenario"
)

// TestJoinWithoutAdmin: a node enrolled while the admin's node is off joins
// through one that never heard of it, and its user talks to whoever is there.
func TestJoinWithoutAdmin(t *testing.T) {
	t.Parallel()
	d := newDuo(t)
	inv, err := d.a.Invite(d.ctx, "carol", d.b.GossipAddr())
	d.must(err)
	c, err := scenario.NewBox(filepath.Dir(d.a.Dir), "c", d.a.Bin, "127.0.0.1")
	d.must(err)
	t.Cleanup(c.Kill)
	_, err = c.Init(d.ctx)
	d.must(err)
	d.must(configure(c, ""))

	d.up(d.b) // a has not been up since it issued the link
	d.login(d.b, "bob")
	users, err := d.b.API.Users(d.ctx)
	d.must(err)
	if len(users) != 2 {
		t.Fatalf("b knows %d people already", len(users))
	}
	d.must(c.Join(d.ctx, inv))
	d.up(c)
	d.login(c, "carol")
	m := d.send(c, d.ids["bob"], "nobody introduced me")
	d.await(c, m.ID, "delivered")
	got := d.inbox(d.b)["nobody introduced me"]
	if got.From.ID != inv.User {
		t.Fatalf("bob has it from %+v", got.From)
	}
	m = d.send(d.b, inv.User, "you are welcome")
	d.await(d.b, m.ID, "delivered")

	d.up(d.a)
	d.login(d.a, "alice")
	m = d.send(d.a, inv.User, "I am back")
	d.await(d.a, m.ID, "delivered")
	d.stop(d.a, d.b, c)
}

// TestJoinRefusals: what a command line says of links that cannot be used, and
// that the right one works afterwards.
func TestJoinRefusals(t *testing.T) {
	t.Parallel()
	d := newDuo(t)
	inv, err := d.a.Invite(d.ctx, "carol", d.a.GossipAddr())
	d.must(err)
	wrong := inv
	wrong.Password = "not-the-password"
	damaged := inv
	damaged.Link = inv.Link[:len(inv.Link)/2] + "AAAA" + inv.Link[len(inv.Link)/2+4:]
	c, err := scenario.NewBox(filepath.Dir(d.a.Dir), "c", d.a.Bin, "127.0.0.1")
	d.must(err)
	t.Cleanup(c.Kill)
	_, err = c.Init(d.ctx)
	d.must(err)
	d.must(configure(c, ""))
	d.failsWith(c, []string{"up"}, "no network yet", "outrider join")
	d.wantSays(c.Join(d.ctx, wrong), "password")
	d.wantSays(c.Join(d.ctx, damaged), "damaged")
	d.must(c.Join(d.ctx, inv))
	d.wantSays(c.Join(d.ctx, inv), "on this node already")
	foreign, err := scenario.NewBox(filepath.Dir(d.a.Dir), "f", d.a.Bin, "127.0.0.1")
	d.must(err)
	_, err = foreign.Init(d.ctx)
	d.must(err)
	d.must(foreign.CreateNetwork(d.ctx, "hawk"))
	d.wantSays(foreign.Join(d.ctx, inv), "hawk", "--dir")
}

// TestJoinLinkLives: a link lives as long as was ordered: a minute before its
// end it is taken, after it it is refused with its sentence and exit code.
func TestJoinLinkLives(t *testing.T) {
	t.Parallel()
	bin := shiftedBinary(t)
	d := newDuo(t)
	out, err := d.a.CLI(d.ctx, scenario.AdminPassword+"\n", "--json", "user", "add", "carol", "--ttl", "5m", "--admin-password-file", "-", "--address", d.a.GossipAddr())
	d.must(err)
	var inv struct {
		scenario.Invitation
		Expires time.Time
	}
	d.must(json.Unmarshal([]byte(out), &inv))
	if left := time.Until(inv.Expires); left > 6*time.Minute {
		t.Errorf("a link of 5 minutes ends in %v", left)
	}
	box := func(name string, now time.Time) *scenario.Box {
		b, err := scenario.NewBox(filepath.Dir(d.a.Dir), name, bin, "127.0.0.1")
		d.must(err)
		b.Wrap = []string{"env", fmt.Sprintf("%s=%d", shiftVariable, int64(time.Until(now).Seconds()))}
		_, err = b.Init(d.ctx)
		d.must(err)
		return b
	}
	err = box("late", inv.Expires.Add(time.Minute)).Join(d.ctx, inv.Invitation)
	d.wantSays(err, "link has expired: ask for a new one", "ended "+inv.Expires.UTC().Format(time.RFC3339), "this node's clock says")
	if e, ok := errors.AsType[*exec.ExitError](err); !ok || e.ExitCode() != 5 {
		t.Errorf("an ended link: %v, want exit code 5", err)
	}
	d.must(box("early", inv.Expires.Add(-time.Minute)).Join(d.ctx, inv.Invitation))
}

func (d *duo) wantSays(err error, words ...string) {
	d.t.Helper()
	if err == nil {
		d.t.Fatalf("no error, want one that says %q", words)
	}
	says(d.t, err.Error(), words...)
}
