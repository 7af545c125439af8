package node

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"outrider/mesh/identity"
	"outrider/mesh/identity/kdf"
	"outrider/node/api"
	"outrider/node/chat"
	"outrider/node/config"
	"outrider/offline/deeplink"
)

// provision gives the API what the operator may do to network and users.
type provision struct{ n *Node }

var _ api.Provision = provision{}

func (p provision) Network(context.Context) (api.Network, error) {
	m := p.n.home.network()
	if m == nil {
		return api.Network{}, api.ErrNoNetwork
	}
	out := api.Network{ID: m.ID, Name: m.Name, Fingerprint: deeplink.Fingerprint(m.ID), Admin: p.n.home.IsAdmin()}
	if root, err := identity.ParseRoot(m.Root); err == nil {
		out.Preset = root.Preset().String()
	}
	return out, nil
}

func (p provision) AddUser(ctx context.Context, u api.NewUser) (api.AddedUser, error) {
	if p.n.agent == nil {
		return api.AddedUser{}, errEnrolling
	}
	if u.Again {
		return p.addAgain(ctx, u)
	}
	out, err := inviteUser(ctx, p.n.home, p.n.cfg, u, UserRequest{Roster: p.n.roster})
	if err == nil {
		p.n.publishSoon()
	}
	return out, err
}

// addAgain issues a link for a user there is. Only the roster knows whose
// name it is, and of which generation the next keys must be.
func (p provision) addAgain(ctx context.Context, u api.NewUser) (api.AddedUser, error) {
	found := p.n.holders(u.Name)
	switch {
	case len(found) == 0:
		return api.AddedUser{}, fmt.Errorf("node: add user: nobody known here is called so; a new user needs no --again: %w", chat.ErrNotFound)
	case len(found) > 1:
		return api.AddedUser{}, fmt.Errorf("node: add user: %d users have that name; give the id (outrider user list): %w", len(found), chat.ErrAmbiguous)
	case u.Here:
		return api.AddedUser{}, fmt.Errorf("node: add user: new keys on this node come by outrider user code: %w", chat.ErrInvalid)
	}
	q := UserRequest{User: found[0], Generation: p.n.lastGeneration(found[0]) + 1}
	if known, ok := p.n.roster.User(found[0]); ok {
		u.Name = known.Name // an id may have been given
	}
	out, err := inviteUser(ctx, p.n.home, p.n.cfg, u, q)
	if err == nil {
		p.n.publishSoon()
	}
	return out, err
}

// holders returns whom a name stands for, or an id that is known here.
func (n *Node) holders(nameOrID string) []identity.UserID {
	if id, err := identity.ParseUserID(nameOrID); err == nil {
		if _, ok := n.roster.User(id); ok {
			return []identity.UserID{id}
		}
	}
	return n.roster.Holders(nameOrID)
}

// lastGeneration is the highest generation of keys that a user has, or may
// come to have by a link that is open: two links of one generation would stand
// against each other.
func (n *Node) lastGeneration(id identity.UserID) (g uint32) {
	if u, ok := n.roster.User(id); ok {
		g = u.Generation
	}
	for _, e := range n.roster.Enrolments() {
		if e.Subject == id && e.Delegate.Roles&identity.RoleUser != 0 {
			g = max(g, e.Delegate.Generation)
		}
	}
	return g
}

func (p provision) Join(ctx context.Context, j api.NewJoin) (api.Joined, error) {
	out, err := Join(ctx, p.n.home, j)
	if err != nil {
		return out, err
	}
	if p.n.agent != nil {
		if err := p.n.rejoined(); err != nil {
			return out, provisionError(err)
		}
		p.n.publishSoon()
		out.Reached = len(p.n.linked()) > 0
	}
	return out, nil
}

// AddUser issues a user on a node's folder, whether the node runs or not.
func AddUser(ctx context.Context, h *Home, c config.Config, u api.NewUser) (api.AddedUser, error) {
	if u.Again {
		return api.AddedUser{}, fmt.Errorf("node: add user: a link for a user there is needs the running node; outrider up: %w", chat.ErrInvalid)
	}
	if err := CanInvite(h); err != nil {
		return api.AddedUser{}, provisionError(err)
	}
	r, st, err := atRest(h, c, slog.New(slog.DiscardHandler))
	if err != nil {
		return api.AddedUser{}, fmt.Errorf("node: add user: %w", err)
	}
	out, err := inviteUser(ctx, h, c, u, UserRequest{Roster: r})
	return out, errors.Join(err, st.Close())
}

// inviteUser completes q, whose User is set for one there is already.
func inviteUser(ctx context.Context, h *Home, c config.Config, u api.NewUser, q UserRequest) (api.AddedUser, error) {
	q.Name, q.AdminPassword, q.TTL, q.Addrs = u.Name, u.AdminPassword, u.TTL, u.Addrs
	for _, r := range u.Roles {
		if r != "guest" {
			return api.AddedUser{}, fmt.Errorf("node: add user: role %q is not known; known is guest: %w", r, chat.ErrInvalid)
		}
		q.Guest = true
	}
	if u.Here {
		id, err := h.HostUser(ctx, q, u.Password)
		return api.AddedUser{User: id, Name: u.Name}, provisionError(err)
	}
	if len(q.Addrs) == 0 {
		q.Addrs = reachableAddrs(c)
	}
	q.Addrs = slices.Clone(q.Addrs)
	for i, a := range q.Addrs {
		if _, _, err := net.SplitHostPort(a); err != nil {
			q.Addrs[i] = net.JoinHostPort(strings.Trim(a, "[]"), fmt.Sprint(c.GossipAddr().Port()))
		}
	}
	if err := checkAddrs(q.Addrs); err != nil {
		return api.AddedUser{}, err
	}
	l, err := h.InviteUser(ctx, q)
	if err != nil {
		return api.AddedUser{}, provisionError(err)
	}
	out := api.AddedUser{User: l.User, Name: l.Name, Link: deeplink.Link(l.Frame), Password: l.Password, Expires: l.Expires, Addrs: l.Addrs}
	if host, _, err := net.SplitHostPort(l.Addrs[0]); err == nil {
		out.PageLink, _ = deeplink.WebLink(net.JoinHostPort(host, fmt.Sprint(c.PagePort())), l.Frame) // missing if the address fits no URL
	}
	return out, nil
}

// CanInvite says why no user could be added on this folder, before anybody is
// asked for a password.
func CanInvite(h *Home) error {
	switch {
	case h.network() == nil:
		return fmt.Errorf("node: add user: %w", ErrNoNetwork)
	case !h.IsAdmin():
		return fmt.Errorf("node: add user: %w", ErrNotAdmin)
	}
	return nil
}

// CanCreate says why a network cannot be founded, whatever the password.
func CanCreate(h *Home) error {
	if m := h.network(); m != nil {
		return fmt.Errorf("node: create network: %w (%s)", ErrHasNetwork, m.Name)
	}
	return nil
}

// Join applies a join link on a node's folder, whether the node runs or not.
func Join(ctx context.Context, h *Home, j api.NewJoin) (api.Joined, error) {
	clock := setClock{h.clock()}
	id, name, err := h.Join(ctx, JoinRequest{Link: j.Link, LinkPassword: j.Password, Password: j.UserPassword}, clock)
	if errors.Is(err, deeplink.ErrExpired) {
		err = fmt.Errorf("%w; this node's clock says %s: set it if that is wrong, else ask for a new link", err, clock.Now().Format(time.RFC3339))
	}
	if err != nil {
		return api.Joined{}, provisionError(err)
	}
	m := h.network()
	return api.Joined{Network: m.ID, NetworkName: m.Name, User: id, Name: name, Hint: joinHint(m)}, nil
}

// provisionError sorts errors into the classes the API tells apart.
func provisionError(err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, deeplink.ErrWeakPassword), errors.Is(err, api.ErrConflict), errors.Is(err, chat.ErrAmbiguous), errors.Is(err, ErrNotAdmin), errors.Is(err, ErrAdminPassword):
		return err
	case errors.Is(err, ErrNoNetwork):
		return fmt.Errorf("%w: %w", api.ErrNoNetwork, err)
	case errors.Is(err, ErrLoopback):
		return fmt.Errorf("%w: %w", api.ErrLoopback, err)
	case errors.Is(err, ErrAdminLocked):
		return fmt.Errorf("%w: %w", chat.ErrPassword, err)
	case errors.Is(err, kdf.ErrBusy):
		return fmt.Errorf("%w: %w", chat.ErrBusy, err)
	case errors.Is(err, unix.ENOSPC), errors.Is(err, unix.EDQUOT):
		return fmt.Errorf("%w: %w", chat.ErrFull, err)
	case errors.Is(err, ErrTicketTwice), errors.Is(err, ErrClockWrong):
		return fmt.Errorf("%w: %w", chat.ErrState, err)
	case errors.Is(err, ErrHasNetwork):
		return fmt.Errorf("%w: %w", api.ErrConflict, err)
	case errors.Is(err, deeplink.ErrDamaged), errors.Is(err, deeplink.ErrVersion), errors.Is(err, deeplink.ErrPassword),
		errors.Is(err, deeplink.ErrIssuer), errors.Is(err, deeplink.ErrExpired), errors.Is(err, deeplink.ErrTooLarge), errors.Is(err, kdf.ErrParams):
		return fmt.Errorf("%w: %w", api.ErrLink, err)
	}
	if _, ok := errors.AsType[unix.Errno](err); ok {
		return err // the disk's fault, not the asker's
	}
	return fmt.Errorf("%w: %w", err, chat.ErrInvalid)
}
