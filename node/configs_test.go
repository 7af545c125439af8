package node

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"outrider/mesh/identity"
	"outrider/mesh/identity/kdf"
	"outrider/node/api"
	"outrider/node/chat"
	"outrider/node/config"
	"outrider/offline/deeplink"
	"outrider/offline/policy"
	"outrider/offline/roster"
)

// A ministry is a network's root and two admins, and a node of theirs.
type ministry struct {
	t       *testing.T
	root    *identity.RootRecord
	rootKey identity.RootKey
	admins  [2]admin
	secret  identity.NetworkSecret
	now     time.Time
	home    *Home
	desk    configDesk
	member  identity.UserID
}

func newMinistry(t *testing.T) *ministry {
	t.Helper()
	m := &ministry{t: t, now: time.Now().Truncate(time.Minute), home: newHome(t), secret: identity.NetworkSecret{Generation: 3, Secret: [32]byte{7}}, member: identity.UserID{5}}
	var err error
	if m.root, m.rootKey, err = identity.CreateRoot(networkName, identity.PresetLean, m.now.AddDate(-1, 0, 0)); err != nil {
		t.Fatal(err)
	}
	for i := range m.admins {
		m.admins[i] = m.newAdmin(identity.RoleAdmin)
	}
	self, err := identity.Issue(m.root.ID(), m.admins[0].key, identity.Certificate{Class: identity.ClassNode, Key: m.home.key.Public(), NotBefore: m.now.AddDate(-1, 0, 0), NotAfter: m.now.AddDate(1, 0, 0)})
	if err != nil {
		t.Fatal(err)
	}
	err = m.home.change(func() error {
		m.home.state.Network = &membership{ID: m.root.ID(), Name: networkName, Root: m.root.Raw(), Secrets: []networkSecret{secretState(m.secret)}, Chain: identity.Chain{self, m.admins[0].cert}.Marshal()}
		m.home.state.Users = []hosted{{ID: m.member}}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	m.open(true)
	return m
}

func (m *ministry) newAdmin(roles identity.Role) admin {
	m.t.Helper()
	key, err := identity.NewPrivateKey()
	if err != nil {
		m.t.Fatal(err)
	}
	cert, err := m.rootKey.IssueAdmin(m.root.ID(), identity.Certificate{Key: key.Public(), Roles: roles, NotBefore: m.now.AddDate(-1, 0, 0), NotAfter: m.now.AddDate(1, 0, 0)})
	if err != nil {
		m.t.Fatal(err)
	}
	return admin{key, cert}
}

// open reads the folder as a start does. Its clock shows m.now and is, or is
// not, to be trusted.
func (m *ministry) open(trusted bool) {
	m.t.Helper()
	clock := roster.NewClock(func() time.Time { return m.now }, time.Unix(0, 0))
	if trusted {
		clock.Vouch()
	}
	r := roster.New(m.root, []identity.NetworkSecret{m.secret}, clock, slog.New(slog.DiscardHandler))
	for _, a := range m.admins {
		m.tell(r, roster.Certificate(identity.Chain{a.cert}))
	}
	rules, err := loadPolicies(m.home, r, slog.New(slog.DiscardHandler))
	if err != nil {
		m.t.Fatal(err)
	}
	m.desk = configDesk{home: m.home, cfg: config.Default(), rules: rules, roster: r, root: m.root, clock: clock, published: func() {}}
}

func (m *ministry) tell(r *roster.Roster, o roster.Object) {
	m.t.Helper()
	payload, err := r.Seal(o)
	if err == nil {
		err = r.Apply(payload)
	}
	if err != nil {
		m.t.Fatal(err)
	}
}

// convoy is version n of a group that has the member and forbids files.
func (m *ministry) convoy(n uint64) policy.Config {
	return policy.Config{
		Group: "convoy", Sequence: n, NotBefore: m.now.Add(-time.Hour), Expires: m.now.Add(24 * time.Hour), Members: []identity.UserID{m.member},
		Switches: policy.Switches{Location: true},
	}
}

// link signs a config and seals it to the network.
func (m *ministry) link(c policy.Config, by admin) string {
	m.t.Helper()
	s, err := c.Sign(m.root.ID(), by.key)
	if err != nil {
		m.t.Fatal(err)
	}
	return m.linkOf(deeplink.Update{Config: s, Admin: by.cert}, by)
}

func (m *ministry) linkOf(u deeplink.Update, by admin) string {
	m.t.Helper()
	frame, err := deeplink.SealUpdateTo(u, by.key, m.secret)
	if err != nil {
		m.t.Fatal(err)
	}
	return deeplink.Link(frame)
}

func (m *ministry) apply(link string) (api.OpenedConfig, error) {
	return m.desk.ApplyConfig(m.t.Context(), api.GivenConfig{Link: link})
}

func (m *ministry) mustApply(link string) api.OpenedConfig {
	m.t.Helper()
	out, err := m.apply(link)
	if err != nil {
		m.t.Fatal(err)
	}
	return out
}

// files is the version of convoy in force, 0 for none, and whether the member
// may send files.
func (m *ministry) inForce() (sequence uint64, files bool) {
	st := m.desk.rules.State()
	for _, g := range st.Groups {
		if g.Group == "convoy" {
			sequence = g.Sequence
		}
	}
	return sequence, st.Policy(m.member).Files
}

func (m *ministry) want(what string, sequence uint64, files bool) {
	m.t.Helper()
	if s, f := m.inForce(); s != sequence || f != files {
		m.t.Errorf("%s: version %d in force, files %v; want %d, %v", what, s, f, sequence, files)
	}
}

func TestP02LinkApplies(t *testing.T) {
	m := newMinistry(t)
	link := m.link(m.convoy(1), m.admins[0])
	shown, err := m.desk.ReadConfig(t.Context(), api.GivenConfig{Link: link})
	if err != nil || !shown.Changed || !shown.InForce || len(shown.Changes) == 0 || !strings.Contains(shown.Changes[0], "may no longer send or open files (group convoy)") {
		t.Fatalf("shown as %+v, %v", shown, err)
	}
	m.want("after show", 0, true)
	m.mustApply(link)
	m.want("applied", 1, false)
	again := m.mustApply(link)
	if again.Changed {
		t.Error("the second time changed something")
	}
	m.open(true)
	m.want("after a restart", 1, false)
}

// TestP05SourcesAndVersions: pushed over file over link; within one the higher
// version; what was seen stays known.
func TestP05SourcesAndVersions(t *testing.T) {
	m := newMinistry(t)
	m.mustApply(m.link(m.convoy(6), m.admins[0]))
	open := m.convoy(4)
	open.Switches = policy.Allowed
	frame, err := deeplink.SealUpdate(t.Context(), m.update(open, m.admins[1]), m.admins[1].key, []byte("a good long password"), kdf.Floor())
	if err != nil {
		t.Fatal(err)
	}
	file := api.GivenConfig{Link: deeplink.Link(frame), Password: []byte("a good long password"), File: true}
	if out, err := m.desk.ApplyConfig(t.Context(), file); err != nil || out.Source != "file" || !out.InForce || out.Seen != 6 {
		t.Fatalf("file: %+v, %v", out, err)
	}
	m.want("a file over a link", 4, true)
	if out := m.mustApply(m.link(m.convoy(7), m.admins[0])); out.InForce {
		t.Error("a link outranks a file")
	}
	m.want("a newer link beside a file", 4, true)

	push := m.convoy(3)
	push.Pushed, push.Expires = true, time.Time{}
	m.push(push, m.admins[0])
	m.want("pushed", 3, false)
	if st := m.desk.rules.State().Groups[0]; st.Seen != 7 || st.Source != policy.FromMesh {
		t.Errorf("seen %d, from the %v", st.Seen, st.Source)
	}
	push.Sequence, push.Switches = 8, policy.Allowed
	m.push(push, m.admins[1])
	m.want("pushed again", 8, true)
	m.open(true)
	m.want("after a restart whose store is lost", 8, true)

	// A link without a password counts as a link when it lies in a file.
	if out, err := m.desk.ReadConfig(t.Context(), api.GivenConfig{Link: m.link(m.convoy(9), m.admins[0]), File: true}); err != nil || out.Source != "link" {
		t.Errorf("a file without a password: %+v, %v", out.Source, err)
	}
}

func (m *ministry) update(c policy.Config, by admin) deeplink.Update {
	m.t.Helper()
	s, err := c.Sign(m.root.ID(), by.key)
	if err != nil {
		m.t.Fatal(err)
	}
	return deeplink.Update{Config: s, Admin: by.cert}
}

func (m *ministry) push(c policy.Config, by admin) {
	m.t.Helper()
	s, err := c.Sign(m.root.ID(), by.key)
	if err != nil {
		m.t.Fatal(err)
	}
	m.tell(m.desk.roster, roster.Config(s))
	if err := m.desk.rules.refresh(); err != nil {
		m.t.Fatal(err)
	}
}

// TestP01Refused: what is wrong in any way changes nothing, and says why.
func TestP01Refused(t *testing.T) {
	m := newMinistry(t)
	m.mustApply(m.link(m.convoy(5), m.admins[0]))
	other := newMinistry(t)
	other.secret = m.secret
	user := m.admins[0]
	var err error
	if user.key, err = identity.NewPrivateKey(); err != nil {
		t.Fatal(err)
	}
	user.cert, err = identity.Issue(m.root.ID(), m.admins[0].key, identity.Certificate{Class: identity.ClassUser, Subject: m.member[:], Key: user.key.Public(), Generation: 1, NotBefore: m.now.AddDate(-1, 0, 0), NotAfter: m.now.AddDate(1, 0, 0)})
	if err != nil {
		t.Fatal(err)
	}
	revoked := m.newAdmin(identity.RoleAdmin)
	m.tell(m.desk.roster, roster.Certificate(identity.Chain{revoked.cert}))
	o, err := m.desk.roster.Revoke(m.admins[0].key, m.now, revoked.key.Public())
	if err != nil {
		t.Fatal(err)
	}
	m.tell(m.desk.roster, o)
	liar := m.newAdmin(identity.RoleAdmin)
	forged := m.update(m.convoy(9), m.admins[0])
	forged.Admin = liar.cert
	locked, err := deeplink.SealUpdate(t.Context(), m.update(m.convoy(9), m.admins[0]), m.admins[0].key, []byte("a good long password"), kdf.Floor())
	if err != nil {
		t.Fatal(err)
	}
	elsewhere := *m
	elsewhere.secret.Secret[0]++
	late, early, old := m.convoy(9), m.convoy(9), m.convoy(9)
	late.NotBefore, late.Expires = m.now.Add(-48*time.Hour), m.now.Add(-time.Minute)
	early.NotBefore, early.Expires = m.now.Add(48*time.Hour), m.now.Add(49*time.Hour)
	old.NotBefore, old.MaxAge = m.now.Add(-5*24*time.Hour), 4*24*time.Hour
	cases := []struct {
		name, link string
		password   string
		is         error
		says       string
	}{
		{"ended", m.link(late, m.admins[0]), "", identity.ErrExpired, "expired"},
		{"not yet valid", m.link(early, m.admins[0]), "", identity.ErrNotYetValid, "not yet valid"},
		{"past its maximum age", m.link(old, m.admins[0]), "", identity.ErrExpired, "maximum age"},
		{"of another network", other.link(m.convoy(9), other.admins[0]), "", identity.ErrForeign, "of another network"},
		{"older than what is known", m.link(m.convoy(4), m.admins[0]), "", ErrConfigOlder, "knows a newer version"},
		{"by a user", m.link(m.convoy(9), user), "", identity.ErrRole, "role"},
		{"by an admin without the role", m.link(m.convoy(9), m.newAdmin(identity.RoleIssue)), "", identity.ErrRole, "role"},
		{"by a revoked admin", m.link(m.convoy(9), revoked), "", errIssuerRevoked, "revoked"},
		{"somebody else's config in an admin's frame", m.linkOf(forged, liar), "", deeplink.ErrIssuer, "not signed"},
		{"wrong password", deeplink.Link(locked), "not the password", deeplink.ErrPassword, "wrong password"},
		{"another network's key", elsewhere.link(m.convoy(9), m.admins[0]), "", deeplink.ErrSecret, "another network"},
		{"10 MB", deeplink.Scheme + strings.Repeat("J5JDD", 2<<20), "", deeplink.ErrTooLarge, "too large"},
		{"10 MB file", "OR1" + strings.Repeat("x", 10<<20), "", deeplink.ErrTooLarge, "too large"},
		{"no link", "outrider://c/#", "", deeplink.ErrDamaged, "damaged"},
	}
	before := m.snapshot()
	for _, c := range cases {
		_, err := m.desk.ApplyConfig(t.Context(), api.GivenConfig{Link: c.link, Password: []byte(c.password)})
		switch {
		case err == nil:
			t.Errorf("%s: applied", c.name)
			continue
		case !errors.Is(err, c.is) || !strings.Contains(err.Error(), c.says):
			t.Errorf("%s: %v, want %v", c.name, err, c.is)
		case !errors.Is(err, api.ErrConfig) && !errors.Is(err, api.ErrLink):
			t.Errorf("%s: the API has no class for it: %v", c.name, err)
		}
		if _, err := m.desk.ReadConfig(t.Context(), api.GivenConfig{Link: c.link, Password: []byte(c.password)}); err == nil {
			t.Errorf("%s: shown as if it were good", c.name)
		}
		if got := m.snapshot(); got != before {
			t.Errorf("%s: changed something:\n%s\n%s", c.name, before, got)
		}
	}
}

// snapshot is all that a refused config must not change.
func (m *ministry) snapshot() string {
	m.t.Helper()
	raw, err := os.ReadFile(m.home.path("policy"))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		m.t.Fatal(err)
	}
	return fmt.Sprintf("%x %+v", raw, m.desk.rules.State())
}

// TestP01Altered: one changed byte anywhere, with the check mended, and every
// truncation, changes nothing.
func TestP01Altered(t *testing.T) {
	m := newMinistry(t)
	link := m.link(m.convoy(1), m.admins[0])
	frame, err := deeplink.DecodeLink(link)
	if err != nil {
		t.Fatal(err)
	}
	before := m.snapshot()
	for i := range frame {
		bad := slices.Clone(frame)
		bad[i] ^= 1 << (i % 8)
		for _, b := range [][]byte{bad, mended(bad), frame[:i]} {
			if string(b) == string(frame) {
				continue // it was the check that was changed
			}
			if _, err := m.apply(deeplink.Link(b)); err == nil {
				t.Fatalf("byte %d of %d: applied", i, len(frame))
			}
		}
	}
	if m.snapshot() != before {
		t.Error("something changed")
	}
	m.mustApply(link)
}

// mended is a frame whose check bytes fit again.
func mended(frame []byte) []byte {
	rest := slices.Clone(frame[:len(frame)-2])
	sum := sha256.Sum256(rest)
	return append(rest, sum[:2]...)
}

// TestP05Equivocation: one number that stands for two things is shown, and the
// stricter value of each field is in force until the next number.
func TestP05Equivocation(t *testing.T) {
	m := newMinistry(t)
	a, b := m.convoy(2), m.convoy(2)
	b.Switches = policy.Switches{Files: true}
	m.mustApply(m.link(a, m.admins[0]))
	out := m.mustApply(m.link(b, m.admins[0]))
	if !out.Conflict {
		t.Error("no alarm")
	}
	if r := m.desk.rules.Policy(m.member); r.Files || r.Location {
		t.Errorf("not the stricter value: %+v", r)
	}
	m.open(true)
	if g := m.desk.rules.State().Groups[0]; len(g.Against) != 1 {
		t.Error("forgotten over a restart")
	}
	next := m.convoy(3)
	next.Switches = policy.Allowed
	if out := m.mustApply(m.link(next, m.admins[0])); out.Conflict {
		t.Error("the next version does not end it")
	}
	m.want("the next version", 3, true)
}

// TestP01NeverStops: what is in force stays so past its date, and says so.
func TestP01NeverStops(t *testing.T) {
	m := newMinistry(t)
	m.mustApply(m.link(m.convoy(1), m.admins[0]))
	m.now = m.now.Add(24*time.Hour + 12*24*time.Hour)
	m.open(true)
	m.want("twelve days past date", 1, false)
	p, err := m.desk.Policy(t.Context(), m.member)
	if err != nil || len(p.Configs) != 1 || p.Configs[0].PastDays != 13 {
		t.Errorf("%+v, %v", p.Configs, err)
	}
}

// TestP01UnsetClock: a clock that nobody vouches for lets it in, marked; when
// the time is known it stays or goes.
func TestP01UnsetClock(t *testing.T) {
	for name, late := range map[string]bool{"in time": false, "too late": true} {
		m := newMinistry(t)
		m.open(false)
		link := m.link(m.convoy(1), m.admins[0])
		out := m.mustApply(link)
		if !out.Unverified || !m.desk.rules.marked() {
			t.Fatalf("%s: not marked", name)
		}
		m.open(false)
		m.want(name+", marked", 1, false)
		now := m.now.Add(time.Minute)
		if late {
			now = m.now.AddDate(0, 1, 0)
		}
		// The clock was set by a month, as far as anybody can tell, or not.
		if err := m.desk.rules.confirm(now, time.Second, late); err != nil {
			t.Fatal(err)
		}
		if late {
			m.want(name, 0, true)
		} else {
			m.want(name, 1, false)
		}
		if m.desk.rules.marked() {
			t.Errorf("%s: still marked", name)
		}
	}
}

// TestP01IssuerRevokedLater: what a captured admin key has said counts no more.
func TestP01IssuerRevokedLater(t *testing.T) {
	m := newMinistry(t)
	open := m.convoy(2)
	open.Switches = policy.Allowed
	m.mustApply(m.link(m.convoy(1), m.admins[0]))
	m.mustApply(m.link(open, m.admins[1]))
	m.want("before", 2, true)
	o, err := m.desk.roster.Revoke(m.admins[0].key, m.now, m.admins[1].key.Public())
	if err != nil {
		t.Fatal(err)
	}
	m.tell(m.desk.roster, o)
	if err := m.desk.rules.refresh(); err != nil {
		t.Fatal(err)
	}
	m.want("after", 1, false)
}

// TestP02FullDisk: what cannot be written is not in force, and says so.
func TestP02FullDisk(t *testing.T) {
	m := newMinistry(t)
	if err := os.Mkdir(m.home.path("policy.new"), 0o700); err != nil { // where the new file would be written
		t.Fatal(err)
	}
	link := m.link(m.convoy(1), m.admins[0])
	if _, err := m.apply(link); err == nil {
		t.Fatal("no error")
	}
	m.want("not written", 0, true)
	if err := os.Remove(m.home.path("policy.new")); err != nil {
		t.Fatal(err)
	}
	m.mustApply(link)
	m.want("written", 1, false)
}

// A damaged file of rules is not taken for no rules.
func TestP02DamagedFile(t *testing.T) {
	m := newMinistry(t)
	m.mustApply(m.link(m.convoy(1), m.admins[0]))
	raw := readFile(t, m.home.path("policy"))
	if err := os.WriteFile(m.home.path("policy"), raw[:len(raw)-1], 0o600); err != nil {
		t.Fatal(err)
	}
	_, err := loadPolicies(m.home, nil, slog.New(slog.DiscardHandler))
	wantError(t, err, identity.ErrMalformed, "policy", "backup")
}

// TestP01Issue goes through an admin's verbs on a folder whose node does not
// run: numbers never repeat, links come again, a withdrawal ends them.
func TestP01Issue(t *testing.T) {
	h, alice, _ := founded(t)
	open := func() (api.Configs, func() error) {
		t.Helper()
		d, shut, err := OfflineConfigs(h, config.Default(), slog.New(slog.DiscardHandler))
		if err != nil {
			t.Fatal(err)
		}
		return d, shut
	}
	d, shut := open()
	no, pw := false, []byte(adminPassword)
	_, err := d.IssueConfig(t.Context(), api.NewConfig{Group: "convoy", AdminPassword: []byte("not the admin's password")})
	wantError(t, err, ErrAdminPassword)
	_, err = d.IssueConfig(t.Context(), api.NewConfig{Group: "convoy", Members: []string{"nobody"}, AdminPassword: pw})
	wantError(t, err, chat.ErrNotFound, "nobody")
	_, err = d.IssueConfig(t.Context(), api.NewConfig{Group: "../x", AdminPassword: pw})
	wantError(t, err, chat.ErrInvalid, "small letters")
	first, err := d.IssueConfig(t.Context(), api.NewConfig{Group: "convoy", Members: []string{aliceName}, Files: &no, AdminPassword: pw})
	if err != nil {
		t.Fatal(err)
	}
	if first.Sequence != 1 || first.Password == "" || !first.NeedsPassword || first.Files || !first.Location || len(first.Members) != 1 || first.Members[0].User != alice {
		t.Fatalf("issued %+v", first)
	}
	again, err := d.IssueConfig(t.Context(), api.NewConfig{Group: "convoy", Again: true})
	if err != nil || again.Link != first.Link || again.Password != "" {
		t.Errorf("again: %+v, %v", again, err)
	}
	out, err := d.ApplyConfig(t.Context(), api.GivenConfig{Link: first.Link, Password: []byte(first.Password)})
	if err != nil || !out.InForce {
		t.Fatalf("%+v, %v", out, err)
	}
	if err := shut(); err != nil {
		t.Fatal(err)
	}

	d, shut = open()
	defer shut()
	reader := alice.String()
	_, err = d.IssueConfig(t.Context(), api.NewConfig{Group: "convoy", Open: true, Compliance: &reader, TTL: 25 * time.Hour, AdminPassword: pw})
	wantError(t, err, policy.ErrWindow, "24h")
	second, err := d.IssueConfig(t.Context(), api.NewConfig{Group: "convoy", Open: true, Compliance: &reader, AdminPassword: pw})
	if err != nil || second.Sequence != 2 || second.NeedsPassword || second.Files || second.Expires.Sub(second.Issued) != 24*time.Hour || second.Compliance != alice || second.ComplianceName != aliceName {
		t.Fatalf("P07: %+v, %v", second, err)
	}
	gone, err := d.IssueConfig(t.Context(), api.NewConfig{Group: "convoy", Withdraw: true, AdminPassword: pw})
	if err != nil || gone.Sequence != 3 || !gone.Pushed || !gone.Withdrawn {
		t.Fatalf("withdrawn: %+v, %v", gone, err)
	}
	if err := shut(); err != nil {
		t.Fatal(err)
	}
	d, shut = open()
	defer shut()
	_, err = d.ApplyConfig(t.Context(), api.GivenConfig{Link: second.Link})
	wantError(t, err, ErrConfigWithdrawn)
	p, err := d.Policy(t.Context(), identity.UserID{})
	if err != nil || len(p.Configs) != 0 {
		t.Errorf("in force: %+v, %v", p.Configs, err)
	}
	list, err := d.Issued(t.Context())
	if err != nil || len(list) != 3 || slices.ContainsFunc(list, func(c api.IssuedConfig) bool { return c.Live }) {
		t.Errorf("issued: %+v, %v", list, err)
	}
	fourth, err := d.IssueConfig(t.Context(), api.NewConfig{Group: "convoy", Open: true, AdminPassword: pw})
	if err != nil || fourth.Sequence != 4 || !fourth.Files {
		t.Errorf("after the withdrawal: %+v, %v", fourth, err)
	}
}

// TestA14GroupLimit: the hundred and first group is refused.
func TestA14GroupLimit(t *testing.T) {
	m := newMinistry(t)
	for i := range policy.MaxGroups {
		c := m.convoy(1)
		c.Group = fmt.Sprintf("g%d", i)
		s, err := c.Sign(m.root.ID(), m.admins[0].key)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.MkdirAll(m.home.path("admin"), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := m.home.addIssued(issuedConfig{Raw: s.Raw()}); err != nil {
			t.Fatal(err)
		}
	}
	_, err := m.desk.nextConfig(api.NewConfig{Group: "one-more"})
	wantError(t, err, chat.ErrInvalid, "at most 100")
	if _, err := m.desk.nextConfig(api.NewConfig{Group: "g7"}); err != nil {
		t.Errorf("another version of a group there is: %v", err)
	}
}
