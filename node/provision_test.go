package node

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"outrider/mesh/identity"
	"outrider/node/api"
	"outrider/node/chat"
	"outrider/node/config"
	"outrider/offline/deeplink"
	"outrider/offline/roster"
)

func TestCreateNetwork(t *testing.T) {
	h := newHome(t)
	for _, weak := range []string{"", "eleven char"} {
		_, err := h.CreateNetwork(t.Context(), networkName, identity.PresetLean, []byte(weak))
		wantError(t, err, deeplink.ErrWeakPassword, "12 characters")
	}
	_, err := h.CreateNetwork(t.Context(), strings.Repeat("n", identity.MaxNetworkName+1), identity.PresetLean, []byte(adminPassword))
	wantError(t, err, identity.ErrMalformed)
	if h.network() != nil || h.IsAdmin() {
		t.Fatal("a refused network left something behind")
	}
	root, err := h.CreateNetwork(t.Context(), strings.Repeat("n", identity.MaxNetworkName), identity.PresetOpsec, []byte(adminPassword))
	if err != nil {
		t.Fatal(err)
	}
	keys := readFile(t, h.path("admin", "keys"))
	_, err = h.CreateNetwork(t.Context(), "other", identity.PresetLean, []byte("another password"))
	wantError(t, err, ErrHasNetwork, root.Name())
	if !bytes.Equal(keys, readFile(t, h.path("admin", "keys"))) {
		t.Error("the second network took the first one's admin keys")
	}
	h.Close()
	again := reopen(t, h.Dir())
	m := again.network()
	if m == nil || m.ID != root.ID() || !again.IsAdmin() {
		t.Fatal("the network was forgotten")
	}
	chain, err := identity.ParseChain(m.Chain)
	if err != nil {
		t.Fatal(err)
	}
	if err := chain.Verify(root, today()); err != nil {
		t.Errorf("the founder's own certificate: %v", err)
	}
}

func readFile(t *testing.T, path string) []byte {
	t.Helper()
	raw, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

func TestCheckName(t *testing.T) {
	for _, c := range []struct {
		name string
		want string // in the error; empty for a good name
	}{
		{"alice", ""}, {"Ásta Zoë-Marie O'Hara_2.", ""}, {"山田 太郎", ""}, {"हिन्दी", ""},
		{strings.Repeat("a", roster.MaxName), ""},
		{strings.Repeat("a", roster.MaxName+1), "at most 64"},
		{strings.Repeat("é", roster.MaxName/2) + "é", "at most 64"},
		{"", "empty"}, {" alice", "space"}, {"alice ", "space"}, {"\u00a0alice", "space"},
		{strings.Repeat("a", 26), "reads as an identifier"}, {strings.Repeat("a", 25), ""}, {strings.Repeat("a", 27), ""},
		{"a\nb", "U+000A"}, {"a\x00b", "U+0000"}, {"a\x1b[2Jb", "U+001B"}, {"<b>", "U+003C"}, {"../x", "U+002F"},
		{"a\u202eb", "U+202E"}, {"a\u200bb", "U+200B"}, {"a\xffb", "U+FFFD"}, {"a@b", "U+0040"},
	} {
		err := checkName("user", c.name, roster.MaxName)
		switch {
		case c.want == "" && err != nil:
			t.Errorf("%q is refused: %v", c.name, err)
		case c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)):
			t.Errorf("%q: %v, want %q", c.name, err, c.want)
		}
	}
}

func TestInviteUserLimits(t *testing.T) {
	h, _, _ := founded(t)
	before := readState(t, h.Dir())
	good := UserRequest{Name: bobName, AdminPassword: []byte(adminPassword), Addrs: []string{"192.0.2.1:7410"}}
	with := func(change func(*UserRequest)) UserRequest {
		q := good
		change(&q)
		return q
	}
	for _, c := range []struct {
		name  string
		q     UserRequest
		is    error
		words []string
	}{
		{"shorter than a minute", with(func(q *UserRequest) { q.TTL = time.Minute - 1 }), nil, []string{"1 minute", "30 days"}},
		{"negative", with(func(q *UserRequest) { q.TTL = -time.Hour }), nil, []string{"1 minute"}},
		{"longer than a month", with(func(q *UserRequest) { q.TTL = api.MaxLinkTTL + 1 }), nil, []string{"30 days"}},
		{"no address", with(func(q *UserRequest) { q.Addrs = nil }), ErrLoopback, []string{"--address", "gossip.listen"}},
		{"four addresses", with(func(q *UserRequest) { q.Addrs = []string{"192.0.2.1:1", "192.0.2.2:1", "192.0.2.3:1", "192.0.2.4:1"} }), deeplink.ErrTooLarge, []string{"at most 3"}},
		{"no address at all", with(func(q *UserRequest) { q.Addrs = []string{"nonsense"} }), nil, []string{"host:port"}},
		{"name too long", with(func(q *UserRequest) { q.Name = strings.Repeat("b", roster.MaxName+1) }), nil, []string{"at most 64"}},
		{"wrong admin password", with(func(q *UserRequest) { q.AdminPassword = []byte("wrong") }), ErrAdminPassword, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := h.InviteUser(t.Context(), c.q)
			wantError(t, err, c.is, c.words...)
			if !bytes.Equal(before, readState(t, h.Dir())) {
				t.Error("a refused invitation was published")
			}
		})
	}
	for _, ttl := range []time.Duration{api.MinLinkTTL, 90 * time.Second, 90 * time.Minute, api.MaxLinkTTL} {
		before := time.Now()
		l, err := h.InviteUser(t.Context(), with(func(q *UserRequest) { q.TTL = ttl }))
		if err != nil {
			t.Fatalf("%v: %v", ttl, err)
		}
		if l.Expires.Before(before.Add(ttl)) || l.Expires.After(time.Now().Add(ttl+time.Minute)) {
			t.Errorf("a link of %v, made between %v and now, ends %v", ttl, before, l.Expires)
		}
	}
	other := newHome(t)
	_, err := other.InviteUser(t.Context(), good)
	wantError(t, err, ErrNoNetwork)
}

// TestInviteLargest: a name that does not fit beside the addresses is left out
// of the link before an address is; the network tells it later.
func TestInviteLargest(t *testing.T) {
	h, _, _ := founded(t)
	addrs := []string{"[2001:db8:ffff:ffff:ffff:ffff:ffff:fff1]:65535", "[2001:db8:ffff:ffff:ffff:ffff:ffff:fff2]:65535", "192.0.2.200:65535"}
	l, err := h.InviteUser(t.Context(), UserRequest{Name: strings.Repeat("n", deeplink.MaxUser), AdminPassword: []byte(adminPassword), Addrs: addrs})
	if err != nil {
		t.Fatal(err)
	}
	j, _, err := deeplink.OpenJoin(t.Context(), deeplink.Link(l.Frame), []byte(l.Password), today())
	if err != nil {
		t.Fatal(err)
	}
	if len(j.Addrs) != 3 || j.User != "" || len(l.Frame) > deeplink.MaxJoin {
		t.Errorf("%d addresses and the name %q in %d bytes", len(j.Addrs), j.User, len(l.Frame))
	}
	if _, err := deeplink.QR(deeplink.Link(l.Frame)); err != nil {
		t.Errorf("the largest link fits no code: %v", err)
	}
}

func TestHostUser(t *testing.T) {
	h, _, link := founded(t)
	before := readState(t, h.Dir())
	q := UserRequest{Name: bobName, AdminPassword: []byte("wrong")}
	_, err := h.HostUser(t.Context(), q, []byte(bobPassword))
	wantError(t, err, ErrAdminPassword)
	q.AdminPassword = []byte(adminPassword)
	_, err = h.HostUser(t.Context(), q, nil)
	wantError(t, err, deeplink.ErrWeakPassword)
	if users, _ := h.Users(); len(users) != 1 || !bytes.Equal(before, readState(t, h.Dir())) {
		t.Fatal("a refused user left something behind")
	}
	_, err = newHome(t).HostUser(t.Context(), q, []byte(bobPassword))
	wantError(t, err, ErrNoNetwork)

	guest := newHome(t)
	if _, _, err := guest.Join(t.Context(), joinRequest(link), today()); err != nil {
		t.Fatal(err)
	}
	_, err = guest.HostUser(t.Context(), q, []byte(bobPassword))
	wantError(t, err, ErrNotAdmin, "network create")

	id, err := h.HostUser(t.Context(), q, []byte(bobPassword))
	if err != nil {
		t.Fatal(err)
	}
	sealed, err := h.Keystore(id)
	if err != nil {
		t.Fatal(err)
	}
	keys, err := chat.OpenKeys(t.Context(), id, []byte(bobPassword), sealed)
	if err != nil {
		t.Fatal(err)
	}
	root, err := identity.ParseRoot(h.network().Root)
	if err != nil {
		t.Fatal(err)
	}
	if err := keys.Chain.Verify(root, today()); err != nil {
		t.Errorf("the user's chain: %v", err)
	}
}

// TestHostUserDiskFull: what does not reach the disk is not there, and the
// next try makes it whole.
func TestHostUserDiskFull(t *testing.T) {
	h, _, _ := founded(t)
	if err := os.Symlink("/dev/full", h.path("state.new")); err != nil {
		t.Fatal(err)
	}
	add := api.NewUser{Name: carolName, Here: true, AdminPassword: []byte(adminPassword), Password: []byte(bobPassword)}
	_, err := AddUser(t.Context(), h, config.Default(), add)
	wantError(t, err, chat.ErrFull)
	wantError(t, err, unix.ENOSPC)
	if users, _ := h.Users(); len(users) != 1 {
		t.Errorf("%d users are hosted in memory, 1 in the file", len(users))
	}
	if _, err := AddUser(t.Context(), h, config.Default(), add); err != nil {
		t.Fatal(err)
	}
	h.Close()
	if users, _ := reopen(t, h.Dir()).Users(); len(users) != 2 {
		t.Errorf("%d users after reopening, want 2", len(users))
	}
}

// TestHostUserWeakPassword: nobody is made whose keys a guess would open.
func TestHostUserWeakPassword(t *testing.T) {
	h, _, _ := founded(t)
	before := readState(t, h.Dir())
	_, err := AddUser(t.Context(), h, config.Default(), api.NewUser{Name: carolName, Here: true, AdminPassword: []byte(adminPassword), Password: []byte("eleven char")})
	wantError(t, err, deeplink.ErrWeakPassword, "12 characters")
	if !bytes.Equal(before, readState(t, h.Dir())) {
		t.Error("a refused user changed the node")
	}
}

func TestAddUserAddresses(t *testing.T) {
	h, _, _ := founded(t)
	c := config.Default()
	c.Gossip.Listen = "127.0.0.1:7410"
	add := api.NewUser{Name: carolName, AdminPassword: []byte(adminPassword)}
	_, err := AddUser(t.Context(), h, c, add)
	wantError(t, err, ErrLoopback, "--address")
	c.Gossip.Listen = "192.0.2.7:7999"
	u, err := AddUser(t.Context(), h, c, add)
	if err != nil {
		t.Fatal(err)
	}
	if len(u.Addrs) != 1 || u.Addrs[0] != "192.0.2.7:7999" {
		t.Errorf("addresses in the link: %v", u.Addrs)
	}
	if !strings.HasPrefix(u.PageLink, "https://192.0.2.7:7443/c/#") || !strings.HasPrefix(u.Link, deeplink.Scheme) {
		t.Errorf("links: %s %s", u.PageLink, u.Link)
	}
	c.Page.Listen = []string{"127.0.0.1", "192.0.2.7:8443"}
	add.Name += " the second"
	if u, err = AddUser(t.Context(), h, c, add); err != nil || !strings.HasPrefix(u.PageLink, "https://192.0.2.7:8443/c/#") {
		t.Errorf("with another port: %s, %v", u.PageLink, err)
	}
	c.Mesh.Advertise = []string{"198.51.100.1", "198.51.100.2:7000"}
	if got := reachableAddrs(c); strings.Join(got, " ") != "198.51.100.1:7999 198.51.100.2:7999" {
		t.Errorf("advertised addresses give %v", got)
	}
	add.Roles = []string{"king"}
	_, err = AddUser(t.Context(), h, c, add)
	wantError(t, err, chat.ErrInvalid, "king", "guest")
}

func TestJoin(t *testing.T) {
	admin, _, link := founded(t)
	h := newHome(t)
	user, name, err := h.Join(t.Context(), joinRequest(link), today())
	if err != nil {
		t.Fatal(err)
	}
	if user != link.User || name != bobName {
		t.Errorf("joined as %v %q", user, name)
	}
	m := h.network()
	if m == nil || m.ID != admin.network().ID || m.Root != nil || len(m.Seeds) != 1 {
		t.Fatalf("membership: %+v", m)
	}
	chain, err := identity.ParseChain(m.Chain)
	if err != nil {
		t.Fatal(err)
	}
	root, err := identity.ParseRoot(admin.network().Root)
	if err != nil {
		t.Fatal(err)
	}
	if err := chain.Verify(root, today()); err != nil || chain.Leaf().Class != identity.ClassNode {
		t.Errorf("the node's chain: %v", err)
	}
	before := readState(t, h.Dir())
	_, _, err = h.Join(t.Context(), joinRequest(link), today())
	wantError(t, err, nil, "on this node already")
	if !bytes.Equal(before, readState(t, h.Dir())) {
		t.Error("the second use changed the node")
	}
	h.Close()
	if users, _ := reopen(t, h.Dir()).Users(); len(users) != 1 || users[0] != link.User {
		t.Errorf("users after reopening: %v", users)
	}
}

// TestJoinRefusals: each refusal says what is the matter and leaves the node
// as it was, so that the right link still works.
func TestJoinRefusals(t *testing.T) {
	_, _, link := founded(t)
	good := joinRequest(link)
	flipped := bytes.Clone(link.Frame)
	flipped[len(flipped)/2] ^= 1
	h := newHome(t)
	before := readState(t, h.Dir())
	for _, c := range []struct {
		name  string
		q     JoinRequest
		clock identity.Clock
		is    error
	}{
		{"wrong password", JoinRequest{good.Link, []byte("wrong"), good.Password}, today(), deeplink.ErrPassword},
		{"expired", good, fixedClock(link.Expires), deeplink.ErrExpired},
		{"flipped bit", JoinRequest{deeplink.Link(flipped), good.LinkPassword, good.Password}, today(), deeplink.ErrDamaged},
		{"cut", JoinRequest{good.Link[:len(good.Link)/2], good.LinkPassword, good.Password}, today(), deeplink.ErrDamaged},
		{"no link", JoinRequest{"https://example.org/", good.LinkPassword, good.Password}, today(), deeplink.ErrDamaged},
		{"empty", JoinRequest{"", good.LinkPassword, good.Password}, today(), deeplink.ErrDamaged},
		{"too long", JoinRequest{deeplink.Scheme + strings.Repeat("A", 1<<20), good.LinkPassword, good.Password}, today(), deeplink.ErrTooLarge},
		{"no password for the user", JoinRequest{good.Link, good.LinkPassword, nil}, today(), deeplink.ErrWeakPassword},
		{"weak password for the user", JoinRequest{good.Link, good.LinkPassword, []byte("eleven char")}, today(), deeplink.ErrWeakPassword},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, _, err := h.Join(t.Context(), c.q, c.clock)
			wantError(t, err, c.is)
			if h.network() != nil || !bytes.Equal(before, readState(t, h.Dir())) {
				t.Error("a refused link changed the node")
			}
		})
	}
	if _, _, err := h.Join(t.Context(), good, fixedClock(link.Expires.Add(-time.Second))); err != nil {
		t.Errorf("in its last second: %v", err)
	}
}

func TestJoinForeign(t *testing.T) {
	admin, alice, link := founded(t)
	other := newHome(t)
	if _, err := other.CreateNetwork(t.Context(), "hawk", identity.PresetLean, []byte(adminPassword)); err != nil {
		t.Fatal(err)
	}
	before := readState(t, other.Dir())
	_, err := Join(t.Context(), other, api.NewJoin{Link: joinRequest(link).Link, Password: []byte("wrong")})
	wantError(t, err, api.ErrLink)
	_, _, err = other.Join(t.Context(), joinRequest(link), today())
	wantError(t, err, ErrHasNetwork, "hawk", networkName, "--dir")
	wantError(t, provisionError(err), api.ErrConflict)
	if !bytes.Equal(before, readState(t, other.Dir())) {
		t.Error("a foreign link changed the node")
	}

	// A second user on a node that is in the network already.
	chain := admin.network().Chain
	if _, _, err := admin.Join(t.Context(), joinRequest(link), today()); err != nil {
		t.Fatal(err)
	}
	if users, _ := admin.Users(); len(users) != 2 || users[0] != alice || users[1] != link.User {
		t.Errorf("users: %v", users)
	}
	if !bytes.Equal(chain, admin.network().Chain) {
		t.Error("the second user's link replaced the node's final certificate by a provisional one")
	}
}

// TestJoinClock: a link that has ended is refused by a clock that was set,
// confirmed or not, and the refusal shows that clock. One below its floor
// cannot tell.
func TestJoinClock(t *testing.T) {
	admin, _, _ := founded(t)
	l, err := admin.InviteUser(t.Context(), UserRequest{Name: bobName, AdminPassword: []byte(adminPassword), TTL: time.Minute, Addrs: []string{"192.0.2.1:1"}})
	if err != nil {
		t.Fatal(err)
	}
	q := joinRequest(l)
	late := func() time.Time { return l.Expires.Add(time.Hour) }
	clock := setClock{roster.NewClock(late, time.Time{})}
	_, _, err = newHome(t).Join(t.Context(), q, clock)
	wantError(t, err, deeplink.ErrExpired)
	below := setClock{roster.NewClock(late, late().Add(time.Hour))}
	if _, _, err := newHome(t).Join(t.Context(), q, below); err != nil {
		t.Errorf("a clock below its floor: %v", err)
	}
}

// TestNothingReadable issues and joins, then looks through both folders for
// every secret and name there was, in the forms that programs leave them in.
// What a node needs to come back alone (its own key, the network secret) is
// found by the same search, which shows that it searches.
func TestNothingReadable(t *testing.T) {
	admin, alice, link := founded(t)
	h := newHome(t)
	if _, _, err := h.Join(t.Context(), joinRequest(link), today()); err != nil {
		t.Fatal(err)
	}
	secret := map[string][]byte{
		"admin password": []byte(adminPassword), "alice's password": []byte(alicePassword), "bob's password": []byte(bobPassword),
		"the link's password": []byte(link.Password), "alice's name": []byte(aliceName), "bob's name": []byte(bobName), "the link": link.Frame[40:],
	}
	a, err := admin.openAdmin(t.Context(), []byte(adminPassword))
	if err != nil {
		t.Fatal(err)
	}
	seed := a.key.Seed()
	secret["the admin's key"] = seed[:]
	j, _, err := deeplink.OpenJoin(t.Context(), deeplink.Link(link.Frame), []byte(link.Password), today())
	if err != nil {
		t.Fatal(err)
	}
	secret["the delegate's key"], secret["the ticket"] = j.DelegateSeed[:], j.TicketSecret[:]
	addKeys(t, secret, admin, "alice", alice, alicePassword)
	addKeys(t, secret, h, "bob", link.User, bobPassword)
	for _, h := range []*Home{admin, h} {
		for what, n := range secret {
			for _, where := range search(t, h.Dir(), n) {
				t.Errorf("%s is readable in %s", what, where)
			}
		}
		own := h.key.Seed()
		for what, n := range map[string][]byte{"the node's own key": own[:], "the network secret": h.state.Network.Secrets[0].Secret[:]} {
			if len(search(t, h.Dir(), n)) == 0 {
				t.Errorf("the search does not find %s, which is there", what)
			}
		}
	}
	checkSearch(t)
}

func addKeys(t *testing.T, secret map[string][]byte, h *Home, name string, user identity.UserID, password string) {
	t.Helper()
	sealed, err := h.Keystore(user)
	if err != nil {
		t.Fatal(err)
	}
	keys, err := chat.OpenKeys(t.Context(), user, []byte(password), sealed)
	if err != nil {
		t.Fatal(err)
	}
	us, ds := keys.User.Seed(), keys.Device.Seed()
	secret[name+"'s user key"], secret[name+"'s device key"], secret[name+"'s vault key"] = us[:], ds[:], keys.KEK[:]
}

// checkSearch is the positive control: every form must be found.
func checkSearch(t *testing.T) {
	t.Helper()
	needle := []byte("a needle of some length")
	for i, form := range forms(needle) {
		dir := t.TempDir()
		padded := append(append(randomBytes(1000+i), form...), randomBytes(1000)...)
		if err := os.WriteFile(filepath.Join(dir, "hay"), padded, 0o600); err != nil {
			t.Fatal(err)
		}
		if len(search(t, dir, needle)) != 1 {
			t.Errorf("the search does not find form %d, %q", i, form)
		}
	}
}
