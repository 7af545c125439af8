package node

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"slices"
	"strings"
	"time"

	"outrider/mesh/identity"
	"outrider/node/api"
	"outrider/node/chat"
	"outrider/node/config"
	"outrider/offline/deeplink"
	"outrider/offline/policy"
	"outrider/offline/roster"
	"outrider/store"
)

// ErrConfigOlder means that a config is outdated by one this node knows.
var ErrConfigOlder = errors.New("this node knows a newer version of this group's policy; nothing was changed")

// ErrConfigWithdrawn means that an admin has taken a config back.
var ErrConfigWithdrawn = errors.New("an admin has withdrawn this version; nothing was changed")

// ErrNoRootYet means that the node cannot judge an admin's signature yet.
var ErrNoRootYet = errors.New("this node has not met its network yet, so it cannot tell its admins; apply the config after the first contact")

// errIssuerRevoked means that an admin's certificate was taken back.
var errIssuerRevoked = errors.New("the admin who issued it has been revoked")

// A configDesk issues, reads and applies signed configs on a node's folder. It
// works alike whether the node runs or not.
type configDesk struct {
	home   *Home
	cfg    config.Config
	rules  *policies
	roster *roster.Roster       // nil while the node is enrolling
	root   *identity.RootRecord // likewise
	clock  *roster.Clock

	admin     func(ctx context.Context, password []byte) (admin, error)
	published func() // something waits to be brought into the mesh
}

var _ api.Configs = configDesk{}

// configs is the desk of a running node that has met its network.
func (n *Node) configs() api.Configs {
	return configDesk{
		home: n.home, cfg: n.cfg, rules: n.rules, roster: n.roster, root: n.root, clock: n.clock, admin: n.adminKey, published: n.publishSoon,
	}
}

// OfflineConfigs opens the desk of a node that does not run. close gives back
// what it opened.
func OfflineConfigs(h *Home, c config.Config, log *slog.Logger) (desk api.Configs, close func() error, err error) {
	m := h.network()
	if m == nil {
		return nil, nil, fmt.Errorf("node: configs: %w", ErrNoNetwork)
	}
	d := configDesk{home: h, cfg: c, clock: h.clock(), published: func() {}, admin: func(ctx context.Context, password []byte) (admin, error) {
		h.ops.Lock()
		defer h.ops.Unlock()
		return h.openAdmin(ctx, password)
	}}
	close = func() error { return nil }
	if m.Root != nil {
		var st *store.Store
		if d.roster, st, err = atRest(h, c, log); err != nil {
			return nil, nil, fmt.Errorf("node: configs: %w", err)
		}
		d.root, close = d.roster.Root(), st.Close
	}
	if d.rules, err = loadPolicies(h, d.roster, log); err != nil {
		return nil, nil, errors.Join(err, close())
	}
	return d, close, nil
}

// ReadConfig says what a link would do.
func (d configDesk) ReadConfig(ctx context.Context, q api.GivenConfig) (api.OpenedConfig, error) {
	v, k, err := d.open(ctx, q)
	if err != nil {
		return api.OpenedConfig{}, configError(err)
	}
	out, err := d.outcome(v, k)
	return out, configError(err)
}

// ApplyConfig makes a link's config one this node knows.
func (d configDesk) ApplyConfig(ctx context.Context, q api.GivenConfig) (api.OpenedConfig, error) {
	v, k, err := d.open(ctx, q)
	if err != nil {
		return api.OpenedConfig{}, configError(err)
	}
	out, err := d.outcome(v, k)
	if err == nil {
		err = d.rules.take(k)
	}
	return out, configError(err)
}

// open opens a link and checks everything about it but what is known here of
// its group: parse, authenticate, authorise.
func (d configDesk) open(ctx context.Context, q api.GivenConfig) (v policy.Version, k keptVersion, err error) {
	m := d.home.network()
	if m == nil {
		return v, k, fmt.Errorf("node: read config: %w", ErrNoNetwork)
	}
	frame, err := deeplink.DecodeLink(q.Link)
	if err != nil {
		return v, k, err
	}
	var secrets []identity.NetworkSecret
	for _, s := range m.Secrets {
		secrets = append(secrets, s.secret())
	}
	u, err := deeplink.OpenUpdate(ctx, frame, q.Password, secrets)
	if err != nil {
		return v, k, err
	}
	if err := d.authorise(u); err != nil {
		return v, k, fmt.Errorf("node: read config: %w", err)
	}
	if v.Config, err = policy.Read(u.Config); err != nil {
		return v, k, err
	}
	clock := setClock{d.clock}
	unsure, err := u.Config.CheckTime(clock)
	if err != nil {
		return v, k, fmt.Errorf("%w; this node's clock says %s: set it if that is wrong, else ask for a new one", err, clock.Now().Format(time.RFC3339))
	}
	v.Signed, v.Source = u.Config, wayOf(u.Config, q.File && deeplink.NeedsPassword(frame))
	k = keptVersion{Raw: u.Config.Raw(), Admin: u.Admin.Raw(), Source: v.Source}
	if v.Source != policy.FromMesh {
		k.Mark = unverifiedJoin(clock, u.Config.NotBefore, u.Config.Expires)
	}
	v.Unverified = k.Mark != nil || unsure
	return v, k, nil
}

// wayOf is the way a config came. A file has a password (features.md P01), else
// it is a link that somebody has kept in one. One made to be pushed is that also when a
// courier brings it.
func wayOf(c identity.SignedConfig, file bool) policy.Source {
	switch {
	case c.Handout == identity.Pushed:
		return policy.FromMesh
	case file:
		return policy.FromFile
	}
	return policy.FromLink
}

// authorise checks that an admin of this network, whom nobody has revoked, may
// have said it.
func (d configDesk) authorise(u deeplink.Update) error {
	if d.root == nil {
		return ErrNoRootYet
	}
	chain := u.Chain()
	if err := chain.Authenticate(d.root); err != nil {
		return err
	}
	if _, revoked := d.roster.AdminChain(u.Config.Issuer); revoked {
		return errIssuerRevoked
	}
	if err := chain.CheckTime(d.clock); err != nil {
		return err
	}
	return u.Config.Verify(d.root.ID(), u.Admin)
}

// outcome works out what follows from a version that is genuine.
func (d configDesk) outcome(v policy.Version, k keptVersion) (out api.OpenedConfig, err error) {
	m := d.home.network()
	out = api.OpenedConfig{ConfigState: d.stateView(policy.Group{Version: v, Seen: v.Sequence}), Network: m.ID, NetworkName: m.Name, Issuer: fmt.Sprintf("%x", v.Signed.Issuer[:])}
	if err := d.rules.admits(v); err != nil {
		return out, fmt.Errorf("node: apply config: %w", err)
	}
	before, after := d.rules.with(k)
	for _, g := range after.Groups {
		if g.Group == v.Group {
			out.InForce = g.Source == v.Source && g.Sequence == v.Sequence
			out.Conflict, out.Seen = len(g.Against) > 0, g.Seen
		}
	}
	out.InForce = out.InForce || v.Withdrawn
	out.Changed = !sameState(before, after)
	out.Changes = d.changes(v, before, after)
	return out, nil
}

// changes says in plain words what a config changes for the users here, and
// for the group.
func (d configDesk) changes(v policy.Version, before, after policy.State) (lines []string) {
	hosted, _ := d.home.Users() // never fails for a folder that is open
	for _, id := range hosted {
		a, b := before.Policy(id), after.Policy(id)
		name := d.nameOf(id)
		for _, s := range []struct {
			what string
			was  bool
			is   bool
			by   string
		}{{"send or open files", a.Files, b.Files, b.NoFiles}, {"share or see positions", a.Location, b.Location, b.NoLocation}} {
			switch {
			case s.was && !s.is:
				lines = append(lines, fmt.Sprintf("%s may no longer %s (group %s)", name, s.what, s.by))
			case !s.was && s.is:
				lines = append(lines, fmt.Sprintf("%s may %s again", name, s.what))
			}
		}
		if !slices.Equal(a.Groups, b.Groups) && len(b.Groups) > 0 {
			lines = append(lines, fmt.Sprintf("%s is in group %s", name, strings.Join(b.Groups, ", ")))
		}
	}
	was, is := before.ComplianceReaders(), after.ComplianceReaders()
	for _, id := range is {
		if !slices.Contains(was, id) {
			lines = append(lines, fmt.Sprintf("%s reads along: everything said from now on is archived", d.nameOf(id)))
		}
	}
	for _, id := range was {
		if !slices.Contains(is, id) {
			lines = append(lines, fmt.Sprintf("%s no longer reads along", d.nameOf(id)))
		}
	}
	if v.Withdrawn {
		lines = append(lines, fmt.Sprintf("the policy of group %s is withdrawn, up to version %d", v.Group, v.Sequence))
	}
	return lines
}

func (d configDesk) nameOf(id identity.UserID) string {
	return cmp.Or(d.knownName(id), "user "+id.String()[:8])
}

// knownName is empty while a user's name has not arrived.
func (d configDesk) knownName(id identity.UserID) string {
	if d.roster == nil {
		return ""
	}
	u, _ := d.roster.User(id)
	return u.Name
}

func (d configDesk) reader(id identity.UserID) api.Reader {
	return api.Reader{User: id, Name: d.nameOf(id)}
}

// stateView describes a version, or what is in force of a group.
func (d configDesk) stateView(g policy.Group) api.ConfigState {
	c := api.ConfigState{
		Group: g.Group, Sequence: g.Sequence, Issued: g.NotBefore, Expires: g.Expires,
		Files: g.Switches.Files, Location: g.Switches.Location, Seen: g.Seen, Conflict: len(g.Against) > 0, Unverified: g.Unverified, Later: g.Later,
		Compliance: g.Compliance, ComplianceName: d.knownName(g.Compliance),
	}
	if g.Source != 0 {
		c.Source = g.Source.String()
	}
	c.PastDays = pastDays(g.Expires, d.clock)
	for _, id := range g.Members {
		c.Members = append(c.Members, d.reader(id))
	}
	return c
}

// pastDays is how many whole days, from one on, a date lies in the past.
func pastDays(end time.Time, clock *roster.Clock) int {
	if now := clock.Now(); !end.IsZero() && now.After(end) {
		return 1 + int(now.Sub(end)/(24*time.Hour))
	}
	return 0
}

// Policy tells what is in force.
func (d configDesk) Policy(_ context.Context, user identity.UserID) (out api.Policy, err error) {
	st := d.rules.State()
	for _, id := range st.ComplianceReaders() {
		out.Readers = append(out.Readers, d.reader(id))
	}
	r := st.Policy(user)
	if !user.IsZero() {
		out.Files, out.Location = api.Switch{Allowed: r.Files, Group: r.NoFiles}, api.Switch{Allowed: r.Location, Group: r.NoLocation}
		out.Groups = r.Groups
	}
	for _, g := range st.Groups {
		if !user.IsZero() && !slices.Contains(r.Groups, g.Group) {
			continue
		}
		c := d.stateView(g)
		if !user.IsZero() {
			c.Members = nil // who else is in it is the admins' business
		}
		out.Configs = append(out.Configs, c)
	}
	return out, nil
}

// pageLink is the form of a link for a phone near this node.
func (d configDesk) pageLink(frame []byte) string {
	addrs := reachableAddrs(d.cfg)
	if len(addrs) == 0 {
		return ""
	}
	host, _, err := net.SplitHostPort(addrs[0])
	if err != nil {
		return ""
	}
	link, _ := deeplink.WebLink(net.JoinHostPort(host, fmt.Sprint(d.cfg.PagePort())), frame) // missing if the address fits no URL
	return link
}

// configError sorts errors into the classes the API tells apart.
func configError(err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, ErrConfigOlder), errors.Is(err, ErrConfigWithdrawn), errors.Is(err, ErrNoRootYet), errors.Is(err, errIssuerRevoked),
		errors.Is(err, identity.ErrForeign), errors.Is(err, identity.ErrSignature), errors.Is(err, identity.ErrRole), errors.Is(err, identity.ErrExpired),
		errors.Is(err, identity.ErrNotYetValid):
		return fmt.Errorf("%w: %w", api.ErrConfig, err)
	case errors.Is(err, deeplink.ErrIsJoin), errors.Is(err, deeplink.ErrSecret):
		return fmt.Errorf("%w: %w", api.ErrLink, err)
	case errors.Is(err, policy.ErrWindow), errors.Is(err, policy.ErrMalformed):
		return fmt.Errorf("%w: %w", err, chat.ErrInvalid)
	case errors.Is(err, chat.ErrInvalid), errors.Is(err, chat.ErrNotFound), errors.Is(err, chat.ErrState):
		return err
	}
	return provisionError(err)
}

// noConfigs is the desk of a node that has not met its network yet.
type noConfigs struct{}

var _ api.Configs = noConfigs{}

func (noConfigs) Policy(context.Context, identity.UserID) (api.Policy, error) {
	return api.Policy{}, errEnrolling
}

func (noConfigs) Issued(context.Context) ([]api.IssuedConfig, error) { return nil, errEnrolling }

func (noConfigs) IssueConfig(context.Context, api.NewConfig) (api.IssuedConfig, error) {
	return api.IssuedConfig{}, errEnrolling
}

func (noConfigs) ReadConfig(context.Context, api.GivenConfig) (api.OpenedConfig, error) {
	return api.OpenedConfig{}, configError(ErrNoRootYet)
}

func (noConfigs) ApplyConfig(context.Context, api.GivenConfig) (api.OpenedConfig, error) {
	return api.OpenedConfig{}, configError(ErrNoRootYet)
}
