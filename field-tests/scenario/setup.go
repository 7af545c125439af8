package scenario

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// Passwords of a scenario's people. They protect folders that live as long as
// the scenario does.
const (
	AdminPassword = "admin password of the scenario"
	UserPassword  = "correct horse battery"
)

// Init makes the box's node and returns its identifier.
func (b *Box) Init(ctx context.Context) (string, error) {
	out, err := b.CLI(ctx, "", "--json", "init")
	if err != nil {
		return "", err
	}
	var info struct{ Node string }
	if err := json.Unmarshal([]byte(out), &info); err != nil {
		return "", fmt.Errorf("scenario: %s: init printed %q: %w", b.Name, out, err)
	}
	return info.Node, nil
}

// CreateNetwork founds a network on the box.
func (b *Box) CreateNetwork(ctx context.Context, name string) error {
	_, err := b.CLI(ctx, AdminPassword+"\n", "network", "create", name, "--password-file", "-")
	return err
}

// HostUser adds a user whose keys lie on the box, which must hold the admin
// key.
func (b *Box) HostUser(ctx context.Context, name string) error {
	_, err := b.CLI(ctx, AdminPassword+"\n"+UserPassword+"\n", "user", "add", name, "--here", "--admin-password-file", "-", "--password-file", "-")
	return err
}

// An Invitation is a join link with its password.
type Invitation struct {
	User     string `json:"user_id"`
	Link     string `json:"link"`
	Password string `json:"password"`
}

// Invite issues a join link on the box, with the given addresses inside.
func (b *Box) Invite(ctx context.Context, name string, addrs ...string) (inv Invitation, err error) {
	out, err := b.CLI(ctx, AdminPassword+"\n", "--json", "user", "add", name, "--admin-password-file", "-", "--address", strings.Join(addrs, ","))
	if err != nil {
		return inv, err
	}
	return inv, json.Unmarshal([]byte(out), &inv)
}

// Join applies an invitation on the box.
func (b *Box) Join(ctx context.Context, inv Invitation) error {
	// The password goes by file: argv is visible to everybody on the machine.
	file := filepath.Join(filepath.Dir(b.Dir), b.Name+".linkpw")
	if err := os.WriteFile(file, []byte(inv.Password+"\n"), 0o600); err != nil {
		return err
	}
	defer os.Remove(file)
	_, err := b.CLI(ctx, inv.Link+"\n"+UserPassword+"\n", "join", "-", "--password-file", file, "--user-password-file", "-")
	return err
}

// People are the names of the three users: Alpha's, Bravo's, Charlie's.
var People = [3]string{"alice", "bob", "carol"}

// A Trio is the network of the demonstration: Alpha, Bravo and Charlie with a
// user each. Alpha and Charlie never hear each other: each has shut its gate
// to the other before it first comes up.
type Trio struct {
	Alpha, Bravo, Charlie       *Box
	AlphaID, BravoID, CharlieID string
	People                      [3]string
	Carol                       string // user id of Charlie's
}

// NewTrio makes three nodes and provisions them. Nothing runs when it returns.
func NewTrio(ctx context.Context, newBox func(name string) (*Box, error), people [3]string) (*Trio, error) {
	t := &Trio{People: people}
	for _, x := range []struct {
		box  **Box
		id   *string
		name string
	}{{&t.Alpha, &t.AlphaID, "alpha"}, {&t.Bravo, &t.BravoID, "bravo"}, {&t.Charlie, &t.CharlieID, "charlie"}} {
		b, err := newBox(x.name)
		if err != nil {
			return nil, err
		}
		*x.box = b
		if *x.id, err = b.Init(ctx); err != nil {
			return nil, err
		}
		if err := b.Configure("lan", ""); err != nil {
			return nil, err
		}
	}
	return t, t.provision(ctx)
}

func (t *Trio) provision(ctx context.Context) error {
	if err := t.Alpha.CreateNetwork(ctx, "eagle"); err != nil {
		return err
	}
	if err := t.Alpha.HostUser(ctx, t.People[0]); err != nil {
		return err
	}
	bob, err := t.Alpha.Invite(ctx, t.People[1], t.Alpha.GossipAddr())
	if err != nil {
		return err
	}
	// Charlie enters through Bravo, which never heard of it.
	carol, err := t.Alpha.Invite(ctx, t.People[2], t.Bravo.GossipAddr())
	if err != nil {
		return err
	}
	t.Carol = carol.User
	if err := t.Bravo.Join(ctx, bob); err != nil {
		return err
	}
	if err := t.Charlie.Join(ctx, carol); err != nil {
		return err
	}
	if _, err := t.Alpha.CLI(ctx, "", "link", "down", t.CharlieID); err != nil {
		return err
	}
	_, err = t.Charlie.CLI(ctx, "", "link", "down", t.AlphaID)
	return err
}

// BravoHears lets Bravo hear one of the two, or with "" neither.
func (t *Trio) BravoHears(ctx context.Context, node string) error {
	for _, id := range []string{t.AlphaID, t.CharlieID} { // first shut, then open: never both
		if id != node {
			if err := t.Bravo.API.SetLink(ctx, id, false); err != nil {
				return err
			}
		}
	}
	if node == "" {
		return nil
	}
	return t.Bravo.API.SetLink(ctx, node, true)
}

// Stop ends all three in good order.
func (t *Trio) Stop() error {
	var first error
	for _, b := range []*Box{t.Bravo, t.Charlie, t.Alpha} {
		if err := b.Stop(); err != nil && first == nil {
			first = err
		}
	}
	return first
}
