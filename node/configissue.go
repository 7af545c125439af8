package node

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"time"

	"outrider/mesh/identity"
	"outrider/node/api"
	"outrider/node/chat"
	"outrider/offline/deeplink"
	"outrider/offline/policy"
	"outrider/offline/roster"
)

// How long what is handed out may be applied, if nobody says otherwise.
const (
	configTTLDefault    = 7 * 24 * time.Hour
	configTTLPrivileged = policy.MaxPrivilegedExpiry
)

// maxIssued is how many versions the admin's list keeps; the oldest go first,
// and never the newest of a group.
const maxIssued = 400

// issuedFile is the admin's list, in admin/issued: which number comes next,
// and the links to hand out once more. Passwords are nowhere in it.
type issuedFile struct {
	Configs []issuedConfig `cbor:"1,keyasint"`
}

type issuedConfig struct {
	Raw   []byte `cbor:"1,keyasint"`
	Frame []byte `cbor:"2,keyasint,omitempty"` // absent if pushed
}

func (h *Home) loadIssued() (f issuedFile, err error) {
	raw, err := os.ReadFile(h.path("admin", "issued"))
	if errors.Is(err, fs.ErrNotExist) {
		return f, nil
	}
	if err == nil {
		err = identity.Unmarshal(raw, &f)
	}
	if err != nil {
		return f, fmt.Errorf("node: read the list of issued configs: %w; restore %s from a backup: without it a number could be given twice", err, h.path("admin", "issued"))
	}
	return f, nil
}

// addIssued writes a version down before anybody gets to see it, so that its
// number is never given again.
func (h *Home) addIssued(c issuedConfig) error {
	f, err := h.loadIssued()
	if err != nil {
		return err
	}
	f.Configs = append(f.Configs, c)
	for len(f.Configs) > maxIssued {
		at := slices.IndexFunc(f.Configs, func(o issuedConfig) bool { return !f.newest(o) })
		if at < 0 {
			break
		}
		f.Configs = slices.Delete(f.Configs, at, at+1)
	}
	raw, err := identity.Marshal(f)
	if err != nil {
		return fmt.Errorf("node: list of issued configs: %w", err)
	}
	return replaceFile(h.path("admin", "issued"), raw)
}

// newest reports whether no later version of the same group is listed.
func (f issuedFile) newest(c issuedConfig) bool {
	s, err := identity.ParseConfig(c.Raw)
	return err == nil && !slices.ContainsFunc(f.Configs, func(o issuedConfig) bool {
		t, err := identity.ParseConfig(o.Raw)
		return err == nil && t.Scope == s.Scope && t.Sequence > s.Sequence
	})
}

// IssueConfig makes the next version of a group's policy. It needs no network
// and nobody in reach.
func (d configDesk) IssueConfig(ctx context.Context, q api.NewConfig) (api.IssuedConfig, error) {
	out, err := d.issue(ctx, q)
	return out, configError(err)
}

func (d configDesk) issue(ctx context.Context, q api.NewConfig) (out api.IssuedConfig, err error) {
	m := d.home.network()
	switch {
	case m == nil:
		return out, fmt.Errorf("node: issue config: %w", ErrNoNetwork)
	case !d.home.IsAdmin():
		return out, fmt.Errorf("node: issue config: %w", ErrNotAdmin)
	case d.root == nil:
		return out, fmt.Errorf("node: issue config: %w", ErrNoRootYet)
	}
	if err := policy.CheckName(q.Group); err != nil {
		return out, fmt.Errorf("node: issue config: %w", err)
	}
	if q.Again {
		return d.again(q.Group)
	}
	c, err := d.nextConfig(q)
	if err != nil {
		return out, err
	}
	a, err := d.admin(ctx, q.AdminPassword)
	if err != nil {
		return out, err
	}
	signed, err := c.Sign(m.ID, a.key)
	if err != nil {
		return out, err
	}
	if c, err = policy.Read(signed); err != nil {
		return out, err
	}
	if c.Pushed {
		return d.issuedView(c, signed, nil), d.push(signed)
	}
	frame, password, err := d.seal(ctx, q, a, m, signed)
	if err != nil {
		return out, err
	}
	if err := d.home.addIssued(issuedConfig{Raw: signed.Raw(), Frame: frame}); err != nil {
		return out, err
	}
	out = d.issuedView(c, signed, frame)
	out.Password = password
	return out, nil
}

// push writes a version down and has it brought into the mesh.
func (d configDesk) push(s identity.SignedConfig) error {
	if err := d.home.addIssued(issuedConfig{Raw: s.Raw()}); err != nil {
		return err
	}
	if err := d.home.change(func() error { return d.home.publish(roster.Config(s)) }); err != nil {
		return err
	}
	d.published()
	return nil
}

// seal makes the frame to hand out, and the password that was made for it.
func (d configDesk) seal(ctx context.Context, q api.NewConfig, a admin, m *membership, s identity.SignedConfig) (frame []byte, password string, err error) {
	u := deeplink.Update{Config: s, Admin: a.cert}
	if q.Open {
		frame, err = deeplink.SealUpdateTo(u, a.key, m.Secrets[0].secret())
		return frame, "", err
	}
	secret := q.Password
	if len(secret) == 0 {
		if password, err = deeplink.Words(); err != nil {
			return nil, "", err
		}
		secret = []byte(password)
	}
	frame, err = deeplink.SealUpdate(ctx, u, a.key, secret, keyCost)
	return frame, password, err
}

// nextConfig is what the next version of a group says.
func (d configDesk) nextConfig(q api.NewConfig) (c policy.Config, err error) {
	issued, err := d.home.loadIssued()
	if err != nil {
		return c, err
	}
	prev, known, highest := d.previous(issued, q.Group)
	if q.Withdraw && !known {
		return c, fmt.Errorf("node: issue config: group %s has no policy here: %w", q.Group, chat.ErrNotFound)
	}
	if !known && d.groups(issued) >= policy.MaxGroups {
		return c, fmt.Errorf("node: issue config: a network has at most %d security groups: %w", policy.MaxGroups, chat.ErrInvalid)
	}
	now := d.clock.Now()
	c = policy.Config{
		Group: q.Group, Sequence: highest + 1, Pushed: q.Push || q.Withdraw, NotBefore: now, MaxAge: q.MaxAge, Withdrawn: q.Withdraw,
		Switches: policy.Allowed,
	}
	if known {
		c.Supersedes = prev.Signed.Hash()
		if !q.Withdraw {
			c.Switches, c.Members, c.Compliance = prev.Switches, prev.Members, prev.Compliance
		}
	}
	if !q.Withdraw {
		if err := d.fill(&c, q); err != nil {
			return c, err
		}
	}
	switch {
	case q.TTL > 0:
		c.Expires = now.Add(q.TTL)
	case c.Pushed:
	case !c.Compliance.IsZero():
		c.Expires = now.Add(configTTLPrivileged)
	default:
		c.Expires = now.Add(configTTLDefault)
	}
	return c, nil
}

// fill enters what is asked for.
func (d configDesk) fill(c *policy.Config, q api.NewConfig) error {
	if q.Files != nil {
		c.Switches.Files = *q.Files
	}
	if q.Location != nil {
		c.Switches.Location = *q.Location
	}
	if q.Compliance != nil {
		c.Compliance = identity.UserID{}
		if *q.Compliance != "" {
			id, err := d.findUser(*q.Compliance)
			if err != nil {
				return err
			}
			c.Compliance = id
		}
	}
	if q.Members == nil {
		return nil
	}
	c.Members = nil
	for _, who := range q.Members {
		id, err := d.findUser(who)
		if err != nil {
			return err
		}
		c.Members = append(c.Members, id)
	}
	return nil
}

func (d configDesk) findUser(who string) (id identity.UserID, err error) {
	list, err := d.roster.FindUser(who)
	switch {
	case err != nil:
		return id, fmt.Errorf("node: issue config: %q: %w: %w", who, err, chat.ErrInvalid)
	case len(list) == 0:
		return id, fmt.Errorf("node: issue config: nobody called %q is known here; give the user's id: %w", who, chat.ErrNotFound)
	case len(list) > 1:
		return id, fmt.Errorf("node: issue config: %d users are called %q, give the id (outrider user list): %w", len(list), who, chat.ErrState)
	}
	return list[0], nil
}

// previous finds the newest version of a group that is known, issued here or
// not, and the highest sequence ever seen.
func (d configDesk) previous(issued issuedFile, group string) (prev policy.Version, known bool, highest uint64) {
	take := func(v policy.Version) {
		if highest = max(highest, v.Sequence); !known || v.Sequence > prev.Sequence {
			prev, known = v, true
		}
	}
	for _, v := range issued.versions() {
		if v.Group == group {
			take(v)
		}
	}
	for _, g := range d.rules.State().Groups {
		if g.Group == group {
			take(g.Version)
		}
	}
	return prev, known && !prev.Withdrawn, max(highest, d.rules.seen(group))
}

func (f issuedFile) versions() (out []policy.Version) {
	for _, c := range f.Configs {
		if v, err := (keptVersion{Raw: c.Raw}).version(); err == nil {
			out = append(out, v)
		}
	}
	return out
}

// groups counts the groups that have a policy.
func (d configDesk) groups(issued issuedFile) int {
	newest := map[string]policy.Version{}
	for _, v := range issued.versions() {
		if v.Sequence > newest[v.Group].Sequence {
			newest[v.Group] = v
		}
	}
	for _, g := range d.rules.State().Groups {
		if g.Sequence > newest[g.Group].Sequence {
			newest[g.Group] = g.Version
		}
	}
	n := 0
	for _, v := range newest {
		if !v.Withdrawn {
			n++
		}
	}
	return n
}

// again is the newest link of a group once more (features.md P03).
func (d configDesk) again(group string) (out api.IssuedConfig, err error) {
	list, err := d.Issued(context.Background())
	if err != nil {
		return out, err
	}
	for _, c := range list { // the newest first
		if c.Group == group && c.Link != "" {
			if !c.Live {
				return out, fmt.Errorf("node: issue config: the newest link of group %s can no longer be applied; make a new one: %w", group, chat.ErrState)
			}
			return c, nil
		}
	}
	return out, fmt.Errorf("node: issue config: no link of group %s was issued here: %w", group, chat.ErrNotFound)
}

// Issued lists what was issued here, by group, the newest first.
func (d configDesk) Issued(context.Context) (out []api.IssuedConfig, err error) {
	f, err := d.home.loadIssued()
	if err != nil {
		return nil, configError(err)
	}
	for _, c := range f.Configs {
		v, err := (keptVersion{Raw: c.Raw}).version()
		if err != nil {
			return nil, fmt.Errorf("node: read the list of issued configs: %w", err)
		}
		out = append(out, d.issuedView(v.Config, v.Signed, c.Frame))
	}
	slices.SortStableFunc(out, func(a, b api.IssuedConfig) int {
		return cmp.Or(cmp.Compare(a.Group, b.Group), cmp.Compare(b.Sequence, a.Sequence))
	})
	return out, nil
}

func (d configDesk) issuedView(c policy.Config, s identity.SignedConfig, frame []byte) api.IssuedConfig {
	out := api.IssuedConfig{
		ConfigState: d.stateView(policy.Group{Version: policy.Version{Config: c, Signed: s}, Seen: c.Sequence}), Pushed: c.Pushed, Withdrawn: c.Withdrawn,
	}
	_, err := s.CheckTime(setClock{d.clock})
	out.Live = err == nil && c.Sequence > d.rules.State().Withdrawn[c.Group] && !c.Withdrawn
	if frame != nil {
		out.Link, out.PageLink, out.NeedsPassword = deeplink.Link(frame), d.pageLink(frame), deeplink.NeedsPassword(frame)
	}
	return out
}
