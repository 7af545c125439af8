package faults

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"outrider/field-tests/scenario"
)

// A duo is two nodes that have met: a, the admin's, with alice, and b with
// bob. Nothing runs until it is told to.
type duo struct {
	t        *testing.T
	ctx      context.Context
	a, b     *scenario.Box
	aID, bID string // nodes
	ids      map[string]string
}

// met is the folders of two nodes that have met, made once: each password
// costs a derivation, and meeting costs a round of gossip.
var met struct {
	once sync.Once
	dir  string
	duo  duo
	err  error
}

func makeMet(bin string) (err error) {
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	if met.dir, err = os.MkdirTemp("", "outrider-faults-"); err != nil {
		return err
	}
	d := &met.duo
	if err := d.found(ctx, met.dir, bin); err != nil {
		return err
	}
	defer d.a.Kill()
	defer d.b.Kill()
	d.ids = map[string]string{}
	for _, x := range []struct {
		box  *scenario.Box
		name string
	}{{d.a, "alice"}, {d.b, "bob"}} {
		if err := x.box.Up(ctx); err != nil {
			return err
		}
		p, err := login(ctx, x.box, x.name)
		if err != nil {
			return err
		}
		d.ids[x.name] = p.ID
	}
	for _, b := range []*scenario.Box{d.a, d.b} {
		if err := keysOfAll(ctx, b); err != nil {
			return err
		}
	}
	return errors.Join(d.a.Stop(), d.b.Stop())
}

// found makes two nodes of one network below dir that have not met.
func (d *duo) found(ctx context.Context, dir, bin string) (err error) {
	for _, x := range []struct {
		box  **scenario.Box
		id   *string
		name string
	}{{&d.a, &d.aID, "a"}, {&d.b, &d.bID, "b"}} {
		if *x.box, err = scenario.NewBox(dir, x.name, bin, "127.0.0.1"); err != nil {
			return err
		}
		if *x.id, err = (*x.box).Init(ctx); err != nil {
			return err
		}
		if err := configure(*x.box, ""); err != nil {
			return err
		}
	}
	if err := d.a.CreateNetwork(ctx, "faults"); err != nil {
		return err
	}
	if err := d.a.HostUser(ctx, "alice"); err != nil {
		return err
	}
	inv, err := d.a.Invite(ctx, "bob", d.a.GossipAddr())
	if err != nil {
		return err
	}
	return d.b.Join(ctx, inv)
}

// limit is how long one of these tests may take on a machine that is busy; a
// quiet one needs a small part of it.
const limit = 5 * time.Minute

// newDuo returns two nodes that have met, in folders and on ports of their own.
func newDuo(t *testing.T) *duo {
	t.Helper()
	bin := scenario.Binary(t)
	met.once.Do(func() { met.err = makeMet(bin) })
	if met.err != nil {
		t.Fatal(met.err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	t.Cleanup(cancel)
	d := &duo{t: t, ctx: ctx, aID: met.duo.aID, bID: met.duo.bID, ids: met.duo.ids}
	dir := t.TempDir()
	d.a, d.b = copyBox(t, dir, met.duo.a), copyBox(t, dir, met.duo.b)
	d.must(configure(d.a, "", d.b.GossipAddr()))
	d.must(configure(d.b, "", d.a.GossipAddr()))
	return d
}

func copyBox(t *testing.T, parent string, from *scenario.Box) *scenario.Box {
	t.Helper()
	b, err := scenario.NewBox(parent, from.Name, from.Bin, "127.0.0.1")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.CopyFS(b.Dir, os.DirFS(from.Dir)); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(b.Kill)
	return b
}

// configure writes a box's settings, with the gossip sockets it tries first.
func configure(b *scenario.Box, extra string, seeds ...string) error {
	quoted := make([]string, len(seeds))
	for i, s := range seeds {
		quoted[i] = fmt.Sprintf("%q", s)
	}
	toml := fmt.Sprintf("[gossip]\nlisten = \"%s:%d\"\nseeds = [%s]\n\n[mesh]\nlisten = [\"%s:%d\"]\n\n[page]\nlisten = [\"127.0.0.1:%d\"]\n\n%s",
		b.IP, b.Gossip, strings.Join(quoted, ", "), b.IP, b.Mesh, b.Page, extra)
	return os.WriteFile(filepath.Join(b.Dir, "outrider.toml"), []byte(toml), 0o640)
}

func (d *duo) must(err error) {
	d.t.Helper()
	if err != nil {
		d.t.Fatal(err)
	}
}

// up starts nodes.
func (d *duo) up(boxes ...*scenario.Box) {
	d.t.Helper()
	for _, b := range boxes {
		d.must(b.Up(d.ctx))
	}
}

// login unlocks one of the people on a node, once the node knows enough for
// that.
func login(ctx context.Context, b *scenario.Box, name string) (p scenario.Person, err error) {
	return p, scenario.Poll(ctx, name+"'s login at "+b.Name, func() (bool, error) {
		var err error
		p, err = b.API.Login(ctx, name, scenario.UserPassword)
		return err == nil, err
	})
}

func (d *duo) login(b *scenario.Box, name string) {
	d.t.Helper()
	_, err := login(d.ctx, b, name)
	d.must(err)
}

// keysOfAll waits until whoever is logged in at b could write to everybody.
func keysOfAll(ctx context.Context, b *scenario.Box, names ...string) error {
	return scenario.Poll(ctx, "everybody's keys at "+b.Name, func() (bool, error) {
		users, err := b.API.Users(ctx)
		for _, u := range users {
			if !u.HasKeys && !u.Self {
				return false, fmt.Errorf("%s has no keys", u.Name)
			}
		}
		for _, name := range names {
			if !slices.ContainsFunc(users, func(u scenario.Person) bool { return u.Name == name }) {
				return false, fmt.Errorf("%s is not known yet", name)
			}
		}
		return err == nil && len(users) > 1, err
	})
}

// await waits until the message is in one of the states, as b sees it.
func (d *duo) await(b *scenario.Box, id string, states ...string) (m scenario.Message) {
	d.t.Helper()

	d.must(scenario.Poll(d.ctx, fmt.Sprintf("state %v at %s", states, b.Name), func() (bool, error) {
		var err error
		if m, err = b.API.Message(d.ctx, id); err != nil {
			return false, err
		}
		for _, s := range states {
			if m.State == s {
				return true, nil
			}
		}
		return false, fmt.Errorf("it is %s (%s)", m.State, m.Reason)
	}))
	return m
}

func (d *duo) send(b *scenario.Box, to, text string) scenario.Message {
	d.t.Helper()
	m, err := b.API.Send(d.ctx, to, text)
	d.must(err)
	return m
}

// inbox returns the texts and files that whoever is logged in at b has, by
// what they say.
func (d *duo) inbox(b *scenario.Box) map[string]scenario.Message {
	d.t.Helper()
	all, err := b.API.Inbox(d.ctx)
	d.must(err)
	out := map[string]scenario.Message{}
	for _, m := range all {
		key := m.Text
		if m.File != nil {
			key = m.File.Name
		}
		out[key] = m
	}
	return out
}

// refused fails the test unless err is the node's refusal with this code.
func (d *duo) refused(err error, code string) {
	d.t.Helper()
	var e *scenario.APIError
	if !errors.As(err, &e) || e.Code != code {
		d.t.Errorf("the answer is %v, want the code %s", err, code)
	}
}

// stop ends nodes in good order; each must end with 0.
func (d *duo) stop(boxes ...*scenario.Box) {
	d.t.Helper()
	for _, b := range boxes {
		if err := b.Stop(); err != nil {
			d.t.Errorf("%s ended with %v", b.Name, err)
		}
	}
}

// failsWith runs a command on a box that must fail and say all of words.
func (d *duo) failsWith(b *scenario.Box, args []string, words ...string) {
	d.t.Helper()
	out, err := b.CLI(d.ctx, "", args...)
	if err == nil {
		d.t.Errorf("%v succeeded: %s", args, out)
		return
	}
	says(d.t, err.Error(), words...)
}

// says fails the test unless a message has all the words.
func says(t *testing.T, message string, words ...string) {
	t.Helper()
	for _, w := range words {
		if !strings.Contains(message, w) {
			t.Errorf("the message does not say %q: %s", w, message)
		}
	}
}
