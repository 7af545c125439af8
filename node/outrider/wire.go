package main

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"time"

	"outrider/mesh/identity"
	"outrider/node"
	"outrider/node/api"
	"outrider/node/config"
	"outrider/node/web"
	"outrider/offline/deeplink"
)

func init() { provision = local{} }

// local does on the node's folder itself what the verbs ask, while no node
// runs there.
type local struct{}

func (local) Init(_ context.Context, dir string) (nodeInfo, error) {
	if err := asOwner(dir); err != nil {
		return nodeInfo{}, setupError(err)
	}
	h, err := node.Init(dir)
	if err != nil {
		return nodeInfo{}, setupError(err)
	}
	defer h.Close()
	sample := filepath.Join(dir, config.FileName)
	if _, err := os.Lstat(sample); errors.Is(err, os.ErrNotExist) {
		if err := os.WriteFile(sample, []byte(config.Sample()), 0o640); err != nil {
			return nodeInfo{}, setupError(err)
		}
	}
	return nodeInfo{Node: h.ID().String(), Dir: dir}, nil
}

// withHome opens the folder for one verb.
func withHome(dir string, use func(*node.Home) error) error {
	if err := asOwner(dir); err != nil {
		return setupError(err)
	}
	h, err := node.OpenHome(dir)
	if err != nil {
		return setupError(err)
	}
	defer h.Close()
	return setupError(use(h))
}

func (local) CreateNetwork(ctx context.Context, dir, name, preset string, password []byte) (info networkInfo, err error) {
	return info, withHome(dir, func(h *node.Home) error {
		p, err := identity.ParsePreset(preset)
		if err != nil {
			return err
		}
		root, err := h.CreateNetwork(ctx, name, p, password)
		if err != nil {
			return err
		}
		info = networkInfo{Network: root.ID().String(), Name: root.Name(), Preset: root.Preset().String(), Fingerprint: deeplink.Fingerprint(root.ID())}
		return nil
	})
}

func (local) AddUser(ctx context.Context, dir string, u newUser) (inv invitation, err error) {
	return inv, withHome(dir, func(h *node.Home) error {
		c, err := config.Load(filepath.Join(dir, config.FileName))
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
		a, err := node.AddUser(ctx, h, c, api.NewUser{
			Name: u.Name, TTL: time.Duration(u.TTLSeconds) * time.Second, Roles: u.Roles, Here: u.Here, Again: u.Again,
			Password: []byte(u.Password), AdminPassword: []byte(u.AdminPassword), Addrs: u.Addrs,
		})
		if err != nil {
			return err
		}
		inv = invitation{User: a.User.String(), Name: a.Name, Link: a.Link, PageLink: a.PageLink, Password: a.Password, Expires: a.Expires, Addrs: a.Addrs}
		return nil
	})
}

func (local) CanInvite(dir string) error { return looked(dir, node.CanInvite) }

func (local) CanCreate(dir string) error { return looked(dir, node.CanCreate) }

// looked asks a folder before anybody is asked for a password.
func looked(dir string, can func(*node.Home) error) error {
	h, err := node.OpenHome(dir) // as who we are: a password file may be ours alone
	if err != nil {
		return setupError(err)
	}
	return setupError(errors.Join(can(h), h.Close()))
}

func (local) Join(ctx context.Context, dir string, j joinRequest) (done joined, err error) {
	return done, withHome(dir, func(h *node.Home) error {
		r, err := node.Join(ctx, h, api.NewJoin{Link: j.Link, Password: []byte(j.LinkPassword), UserPassword: []byte(j.UserPassword)})
		if err != nil {
			return err
		}
		done = joined{User: r.User.String(), Name: r.Name, Reached: r.Reached, Hint: r.Hint}
		done.Network.ID, done.Network.Name = r.Network.String(), r.NetworkName
		return nil
	})
}

func (local) SetLink(_ context.Context, dir, id string, up bool) error {
	peer, err := identity.ParseNodeID(id)
	if err != nil {
		return err
	}
	return withHome(dir, func(h *node.Home) error { return h.SetBlocked(peer, !up) })
}

func (local) Up(ctx context.Context, o upOptions, ready func(upInfo)) error {
	return withHome(o.Dir, func(h *node.Home) error {
		defer keepTraces(&o)()
		n := node.New(node.Options{Home: h, Config: o.Config, Version: o.Version, Web: web.Handler(), Log: o.Log})
		return n.Run(ctx, func(r node.Ready) {
			ready(upInfo{Node: r.Node.String(), Network: r.Network, Socket: r.Socket, Pages: r.Pages})
		})
	})
}

// codeNoNode is the code of a folder without a node.
const codeNoNode = "no_node"

// joinFirst is what a node without a network is told.
const joinFirst = "outrider network create NAME, or outrider join"

// setupErrors are what a person can mend, with the command that does.
var setupErrors = []struct {
	is   error
	exit exitCode
	code string
	next string
}{
	{node.ErrNotInitialised, exitMissing, codeNoNode, "outrider init"},
	{node.ErrStateLost, exitSetup, "state_lost", ""},
	{node.ErrInitialised, exitConflict, "exists", "outrider up"},
	{node.ErrNoNetwork, exitSetup, "no_network", joinFirst},
	{node.ErrHasNetwork, exitConflict, "has_network", "outrider status"},
	{node.ErrAtWork, exitConflict, "at_work", ""},
	{node.ErrRunning, exitConflict, "running", "outrider status"},
	{node.ErrLoopback, exitSetup, "loopback", "outrider user add NAME --address ADDRESS"},
	{deeplink.ErrPassword, exitRefused, "bad_password", ""},
	{deeplink.ErrExpired, exitRefused, "link_expired", ""},
	{deeplink.ErrIssuer, exitRefused, "link_issuer", ""},
	{deeplink.ErrDamaged, exitUsage, "link_damaged", ""},
	{deeplink.ErrVersion, exitUsage, "link_version", ""},
	{deeplink.ErrWeakPassword, exitUsage, codeWeak, ""},
}

// setupError gives an error of the node's folder its exit code and the next
// command.
func setupError(err error) error {
	var f *failure
	if err == nil || errors.As(err, &f) {
		return err
	}
	for _, e := range setupErrors {
		if errors.Is(err, e.is) {
			return &failure{exit: e.exit, code: e.code, message: api.Sentence(err), next: e.next}
		}
	}
	if status, code, hint, ok := api.Classified(err); ok { // as the running node answers
		return &failure{exit: exitFor(status, code), code: code, message: api.Sentence(err), hint: hint}
	}
	return &failure{exit: exitSetup, code: "setup", message: api.Sentence(err)}
}
