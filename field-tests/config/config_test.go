// Package config tests signed configs with real nodes: an admin's whose network
// is cut or whose node does not run, and another that applies what it issued
// from each carrier, enforces it, and hears of newer versions by the mesh.
package config

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"outrider/field-tests/scenario"
)

func TestMain(m *testing.M) {
	code := m.Run()
	scenario.Clean()
	os.Exit(code)
}

// A unit is Alpha with alice, who holds the admin key, and Bravo with bob.
type unit struct {
	t            *testing.T
	ctx          context.Context
	dir          string
	alpha, bravo *scenario.Box
	alphaID      string
}

func (u *unit) must(err error) {
	u.t.Helper()
	if err != nil {
		u.t.Fatal(err)
	}
}

// newUnit makes the two nodes, lets them meet once, and stops Alpha.
func newUnit(t *testing.T, ctx context.Context) *unit {
	t.Helper()
	u := &unit{t: t, ctx: ctx, dir: t.TempDir()}
	bin := scenario.Binary(t)
	box := func(name, ip string) (*scenario.Box, string) {
		b, err := scenario.NewBox(u.dir, name, bin, ip)
		u.must(err)
		id, err := b.Init(ctx)
		u.must(err)
		u.must(b.Configure("lan", "\n[store]\nfree_floor_mb = 16\n"))
		t.Cleanup(b.Kill)
		return b, id
	}
	u.alpha, u.alphaID = box("alpha", "127.0.0.1")
	u.bravo, _ = box("bravo", "127.0.0.2")
	u.must(u.alpha.CreateNetwork(ctx, "eagle"))
	u.must(u.alpha.HostUser(ctx, "alice"))
	inv, err := u.alpha.Invite(ctx, "bob", u.alpha.GossipAddr())
	u.must(err)
	u.must(u.bravo.Join(ctx, inv))
	u.up(u.alpha, "alice")
	u.up(u.bravo, "bob")
	for b, peer := range map[*scenario.Box]string{u.alpha: "bob", u.bravo: "alice"} {
		u.poll(b.Name+" to have keys of "+peer, func() (bool, error) {
			people, err := b.API.Users(ctx)
			for _, p := range people {
				if p.Name == peer && p.HasKeys {
					return true, err
				}
			}
			return false, err
		})
	}
	return u
}

func (u *unit) poll(what string, ask func() (bool, error)) {
	u.t.Helper()
	u.must(scenario.Poll(u.ctx, what, ask))
}

func (u *unit) up(b *scenario.Box, user string) {
	u.t.Helper()
	u.must(b.Up(u.ctx))
	u.poll(user+" to log in", func() (bool, error) {
		_, err := b.API.Login(u.ctx, user, scenario.UserPassword)
		return err == nil, nil
	})
}

// cut shuts, or opens, Bravo's gate towards Alpha.
func (u *unit) cut(shut bool) {
	u.t.Helper()
	u.must(u.bravo.API.SetLink(u.ctx, u.alphaID, !shut))
}

// issued is what config new and config push print.
type issued struct {
	Group    string
	Sequence uint64
	Link     string
	Password string
}

// issue runs a verb on Alpha, whether it runs or not.
func (u *unit) issue(args ...string) (out issued) {
	u.t.Helper()
	text, err := u.alpha.CLI(u.ctx, scenario.AdminPassword+"\n", append([]string{"--json", "config"}, append(args, "--admin-password-file", "-")...)...)
	u.must(err)
	u.must(json.Unmarshal([]byte(text), &out))
	return out
}

type applied struct {
	Group    string
	Sequence uint64
	Source   string
	InForce  bool `json:"in_force"`
	Changed  bool
	Changes  []string
}

// apply hands a config to Bravo; stdin is the link or nothing.
func (u *unit) apply(password, stdin, arg string) (out applied, err error) {
	u.t.Helper()
	args := []string{"--json", "config", "apply", arg}
	if password != "" {
		file := filepath.Join(u.dir, "password")
		u.must(os.WriteFile(file, []byte(password+"\n"), 0o600))
		args = append(args, "--password-file", file)
	}
	text, err := u.bravo.CLI(u.ctx, stdin, args...)
	if err != nil {
		return out, err
	}
	return out, json.Unmarshal([]byte(text), &out)
}

// policy is what GET /v1/policy says.
type policy struct {
	Configs []struct {
		Group    string
		Sequence uint64
		Source   string
	}
	Switches map[string]struct {
		Allowed bool
		Group   string
	}
}

func (u *unit) policyAt(b *scenario.Box) (p policy) {
	u.t.Helper()
	u.must(b.API.Do(u.ctx, "GET", "/v1/policy", nil, &p))
	return p
}

// wantPolicy checks the version of convoy in force at Bravo and what bob may.
func (u *unit) wantPolicy(what string, sequence uint64, source string, files, location bool) {
	u.t.Helper()
	p := u.policyAt(u.bravo)
	if len(p.Configs) != 1 || p.Configs[0].Sequence != sequence || p.Configs[0].Source != source ||
		p.Switches["files"].Allowed != files || p.Switches["location"].Allowed != location {
		u.t.Fatalf("%s: %+v", what, p)
	}
}

func refusedBy(err error, code string) bool {
	var e *scenario.APIError
	return errors.As(err, &e) && e.Code == code
}

// message is a message with what the scenarios' own type leaves out.
type message struct {
	ID         string
	Type       string
	State      string
	ReasonCode string `json:"reason_code"`
	Reason     string
	Withheld   string
	File       *struct{ Complete bool }
	Location   *struct{ Lat float64 }
}

func (u *unit) message(b *scenario.Box, id string) (m message) {
	u.t.Helper()
	u.must(b.API.Do(u.ctx, "GET", "/v1/messages/"+id, nil, &m))
	return m
}

// received waits until Bravo has n messages of a type, and returns them.
func (u *unit) received(kind string, n int) (ids []string) {
	u.t.Helper()
	u.poll("bob to have it", func() (bool, error) {
		in, err := u.bravo.API.Inbox(u.ctx)
		ids = nil
		for _, m := range in {
			if m.Type == kind {
				ids = append(ids, m.ID)
			}
		}
		return len(ids) == n, err
	})
	return ids
}

// TestP02EachCarrier: Alpha's node does not even run when the configs are
// issued; Bravo, which hears nobody, applies one from a link, one from standard
// input, one from a QR code, one from a file. Then the sending node refuses.
func TestP02EachCarrier(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	u := newUnit(t, ctx)
	u.cut(true)
	u.must(u.alpha.Stop())

	one := u.issue("new", "convoy", "--member", "bob", "--files", "off")
	if _, err := u.apply("wrong words altogether", "", one.Link); err == nil || !strings.Contains(err.Error(), "bad_password") && !strings.Contains(err.Error(), "wrong password") {
		t.Errorf("a wrong password: %v", err)
	}
	if p := u.policyAt(u.bravo); len(p.Configs) != 0 {
		t.Fatalf("in force before anything was applied: %+v", p)
	}
	shown, err := u.bravo.CLI(ctx, one.Password+"\n", "config", "show", one.Link, "--password-file", "-")
	u.must(err)
	for _, want := range []string{"group convoy, version 1", "bob may no longer send or open files", "files      off", "signed by an admin of this network"} {
		if !strings.Contains(shown, want) {
			t.Errorf("config show does not say %q:\n%s", want, shown)
		}
	}
	out, err := u.apply(one.Password, "", one.Link)
	u.must(err)
	if !out.InForce || out.Source != "link" {
		t.Errorf("link: %+v", out)
	}
	u.wantPolicy("link", 1, "link", false, true)
	if _, err := u.bravo.API.SendFile(ctx, "alice", "x.bin", bytes.NewReader([]byte("x"))); !refusedBy(err, "policy") || !strings.Contains(err.Error(), "group convoy forbids files") {
		t.Errorf("a file: %v", err)
	}
	if _, err := u.bravo.API.SendLocation(ctx, "alice", 47, 8, ""); err != nil {
		t.Errorf("a position: %v", err)
	}

	two := u.issue("new", "convoy", "--location", "off", "--no-password")
	out, err = u.apply("", two.Link+"\n", "-")
	u.must(err)
	u.wantPolicy("standard input", 2, "link", false, false)
	if _, err := u.bravo.API.SendLocation(ctx, "alice", 47, 8, ""); !refusedBy(err, "policy") {
		t.Errorf("a position: %v", err)
	}

	code := filepath.Join(u.dir, "convoy.png")
	three := u.issue("new", "convoy", "--files", "on", "--qr-file", code)
	out, err = u.apply(three.Password, "", code) // as a picture
	u.must(err)
	u.wantPolicy("QR code", 3, "link", true, false)

	file := filepath.Join(u.dir, "convoy.orc")
	four := u.issue("new", "convoy", "--files", "off", "--location", "on", "--out", file)
	out, err = u.apply(four.Password, "", file)
	u.must(err)
	u.wantPolicy("file", 4, "file", false, true)

	before := u.policyAt(u.bravo)
	u.refuseAll(one, file, four.Password)
	if after := u.policyAt(u.bravo); len(after.Configs) != 1 || after.Configs[0] != before.Configs[0] {
		t.Errorf("something refused has changed the policy: %+v", after)
	}

	// It holds over a restart, and while nothing runs.
	u.bravo.Kill()
	list, err := u.bravo.CLI(ctx, "", "config", "list")
	u.must(err)
	if !strings.Contains(list, "convoy") || !strings.Contains(list, "off") {
		t.Errorf("config list: %s", list)
	}
	u.up(u.bravo, "bob")
	u.wantPolicy("after kill -9", 4, "file", false, true)
}

// refuseAll tries what changes nothing: an older version, a damaged file, a
// truncated one, 10 MB, another network's, a join link.
func (u *unit) refuseAll(old issued, file, password string) {
	u.t.Helper()
	raw, err := os.ReadFile(file)
	u.must(err)
	bad := func(name string, content []byte) string {
		path := filepath.Join(u.dir, name)
		u.must(os.WriteFile(path, content, 0o600))
		return path
	}
	flipped := bytes.Clone(raw)
	flipped[len(raw)/2] ^= 1
	foreign, err := scenario.NewBox(u.dir, "foreign", u.alpha.Bin, "127.0.0.3")
	u.must(err)
	_, err = foreign.Init(u.ctx)
	u.must(err)
	u.must(foreign.CreateNetwork(u.ctx, "raven"))
	text, err := foreign.CLI(u.ctx, scenario.AdminPassword+"\n", "--json", "config", "new", "convoy", "--admin-password-file", "-")
	u.must(err)
	var theirs issued
	u.must(json.Unmarshal([]byte(text), &theirs))
	invitation, err := u.alpha.Invite(u.ctx, "carol", "192.0.2.1:7410")
	u.must(err)
	for _, c := range []struct{ name, password, arg, says string }{
		{"older", old.Password, old.Link, "newer version"},
		{"one bit changed", password, bad("bit.orc", flipped), "damaged"},
		{"truncated", password, bad("short.orc", raw[:len(raw)-7]), "damaged"},
		{"10 MB", password, bad("huge.orc", append(bytes.Clone(raw), make([]byte, 10<<20)...)), "larger than any config"},
		{"another network's", theirs.Password, theirs.Link, "of another network"},
		{"a join link", invitation.Password, invitation.Link, "outrider join"},
	} {
		if _, err := u.apply(c.password, "", c.arg); err == nil || !strings.Contains(err.Error(), c.says) {
			u.t.Errorf("%s: %v, want %q", c.name, err, c.says)
		}
	}
	if _, err := u.bravo.CLI(u.ctx, old.Link+"\n"+old.Password+"\n"+scenario.UserPassword+"\n", "join", "-", "--password-file", "-", "--user-password-file", "-"); err == nil || !strings.Contains(err.Error(), "config apply") {
		u.t.Errorf("a config given to join: %v", err)
	}
}

// TestP05PushSupersedesTheLink: Bravo has a link that forbids alice, whose own
// node does not know it, to send files and positions: her file reaches Bravo
// and is withheld, and she is not told that it was delivered. A version pushed
// by the mesh supersedes the link, and the file comes free.
func TestP05PushSupersedesTheLink(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	u := newUnit(t, ctx)
	link := u.issue("new", "convoy", "--member", "alice", "--files", "off", "--location", "off", "--no-password")
	out, err := u.apply("", "", link.Link)
	u.must(err)
	if !out.InForce {
		t.Fatalf("%+v", out)
	}

	body := bytes.Repeat([]byte("overlay "), 20_000)
	sent, err := u.alpha.API.SendFile(ctx, "bob", "overlay.bin", bytes.NewReader(body))
	u.must(err)
	place, err := u.alpha.API.SendLocation(ctx, "bob", 47.1, 8.2, "")
	u.must(err)
	text, err := u.alpha.API.Send(ctx, "bob", "a text all the same")
	u.must(err)
	file := u.received("file", 1)[0]
	where := u.received("location", 1)[0]
	u.poll("the text to be delivered", func() (bool, error) {
		return u.message(u.alpha, text.ID).State == "delivered", nil
	})
	for _, id := range []string{file, where} {
		if m := u.message(u.bravo, id); m.Withheld != "convoy" || m.ReasonCode != "withheld" || m.File != nil || m.Location != nil {
			t.Errorf("bob sees %+v", m)
		}
	}
	if err := u.bravo.API.File(ctx, file, new(bytes.Buffer)); !refusedBy(err, "policy") {
		t.Errorf("the file was handed out: %v", err)
	}
	for _, id := range []string{sent.ID, place.ID} {
		if m := u.message(u.alpha, id); m.State == "delivered" || m.State == "read" {
			t.Errorf("alice is told %+v", m)
		}
	}

	pushed := u.issue("push", "convoy", "--files", "on")
	if pushed.Sequence != link.Sequence+1 {
		t.Errorf("pushed as version %d", pushed.Sequence)
	}
	u.poll("the pushed version to be in force at Bravo", func() (bool, error) {
		p := u.policyAt(u.bravo)
		return len(p.Configs) == 0 || p.Configs[0].Source == "mesh", nil
	})
	u.poll("the file to come free", func() (bool, error) {
		m := u.message(u.bravo, file)
		return m.Withheld == "" && m.File != nil && m.File.Complete, nil
	})
	var got bytes.Buffer
	u.must(u.bravo.API.File(ctx, file, &got))
	if !bytes.Equal(got.Bytes(), body) {
		t.Error("the file is another")
	}
	u.poll("alice to be told that the file was delivered", func() (bool, error) {
		return u.message(u.alpha, sent.ID).State == "delivered", nil
	})
	if m := u.message(u.bravo, where); m.Withheld != "convoy" {
		t.Errorf("the position is free as well: %+v", m)
	}
	// Her own node has heard it too, and stops her before anything leaves.
	u.poll("Alpha to stop alice", func() (bool, error) {
		_, err := u.alpha.API.SendLocation(ctx, "bob", 47.1, 8.2, "")
		return refusedBy(err, "policy"), nil
	})

	// The link again, and a newer link: the pushed one stays in force.
	if _, err := u.apply("", "", link.Link); err == nil || !strings.Contains(err.Error(), "newer version") {
		t.Errorf("the link again: %v", err)
	}
	newer := u.issue("new", "convoy", "--files", "off", "--no-password")
	if out, err := u.apply("", "", newer.Link); err != nil || out.InForce {
		t.Errorf("a newer link: %+v, %v", out, err)
	}

	// Withdrawn, everything is allowed, and no link counts any more.
	u.issue("expire", "convoy")
	u.poll("the withdrawal to reach Bravo", func() (bool, error) {
		return u.message(u.bravo, where).Withheld == "", nil
	})
	if _, err := u.apply("", "", newer.Link); err == nil || !strings.Contains(err.Error(), "withdrawn") {
		t.Errorf("a link that was withdrawn: %v", err)
	}
	if p := u.policyAt(u.bravo); len(p.Configs) != 0 {
		t.Errorf("still in force: %+v", p)
	}
}
