package node

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"slices"
	"time"

	"outrider/mesh/identity"
	"outrider/mesh/identity/kdf"
	"outrider/node/api"
	"outrider/node/chat"
	"outrider/offline/deeplink"
	"outrider/offline/roster"
)

// How long certificates last. A lease that ends is the only revocation a
// partition cannot hold up, so nothing is issued for ever.
const (
	adminValidity  = 5 * 365 * 24 * time.Hour
	nodeValidity   = 2 * 365 * 24 * time.Hour
	userValidity   = 365 * 24 * time.Hour
	backdate       = time.Hour // for clocks that run behind the issuer's
	linkTTLDefault = 7 * 24 * time.Hour
)

// ErrAdminPassword means that the admin password is wrong.
var ErrAdminPassword = api.ErrAdminPassword

// ErrNotAdmin means that no admin key lies on this node.
var ErrNotAdmin = api.ErrNotAdmin

// ErrLoopback means that a link would lead nowhere from another machine.
var ErrLoopback = errors.New("this node is reachable from this machine only, so a link to it would lead nowhere; name an address with --address, or set gossip.listen")

// adminKeys are what makes a node an admin's: sealed under a password in
// admin/keys.
type adminKeys struct {
	RootSeed  [32]byte `cbor:"1,keyasint"`
	AdminSeed [32]byte `cbor:"2,keyasint"`
	Admin     []byte   `cbor:"3,keyasint"` // certificate
}

// CreateNetwork founds a network with this node as its first. The root and
// admin keys are sealed under adminPassword.
func (h *Home) CreateNetwork(ctx context.Context, name string, preset identity.Preset, adminPassword []byte) (*identity.RootRecord, error) {
	h.ops.Lock()
	defer h.ops.Unlock()
	if m := h.network(); m != nil {
		return nil, fmt.Errorf("node: create network: %w (%s)", ErrHasNetwork, m.Name)
	}
	if err := deeplink.CheckPassword(adminPassword); err != nil {
		return nil, fmt.Errorf("node: create network: %w", err)
	}
	root, rootKey, err := identity.CreateRoot(name, preset, time.Now())
	if err != nil {
		return nil, fmt.Errorf("node: create network: %w", err)
	}
	adminKey, err := identity.NewPrivateKey()
	if err != nil {
		return nil, err
	}
	now := time.Now()
	admin, err := rootKey.IssueAdmin(root.ID(), identity.Certificate{
		Key: adminKey.Public(), Roles: identity.RoleAdmin, NotBefore: now.Add(-backdate), NotAfter: now.Add(adminValidity),
	})
	if err != nil {
		return nil, err
	}
	self, err := identity.Issue(root.ID(), adminKey, identity.Certificate{
		Class: identity.ClassNode, Key: h.key.Public(), NotBefore: now.Add(-backdate), NotAfter: now.Add(nodeValidity),
	})
	if err != nil {
		return nil, err
	}
	secret, err := identity.NewNetworkSecret(1)
	if err != nil {
		return nil, err
	}
	voucher, err := secret.Vouch(root.ID(), adminKey, 0, now)
	if err != nil {
		return nil, err
	}
	first := networkSecret{Generation: secret.Generation, Secret: secret.Secret, Voucher: voucher.Raw(), Admin: admin.Raw()}
	if err := h.saveAdmin(ctx, adminPassword, adminKeys{RootSeed: rootKey.Seed(), AdminSeed: adminKey.Seed(), Admin: admin.Raw()}); err != nil {
		return nil, err
	}
	chain := identity.Chain{self, admin}
	return root, h.change(func() error {
		h.state.Network = &membership{ID: root.ID(), Name: root.Name(), Root: root.Raw(), Secrets: []networkSecret{first}, Chain: chain.Marshal()}
		return h.publish(roster.Certificate(identity.Chain{admin}), roster.Certificate(chain))
	})
}

var adminAAD = []byte("outrider/v1/admin-keys\x00")

func (h *Home) saveAdmin(ctx context.Context, password []byte, k adminKeys) error {
	plain, err := identity.Marshal(k)
	if err != nil {
		return err
	}
	defer clear(plain)
	sealed, err := kdf.Lock(ctx, password, plain, adminAAD, keyCost)
	if err != nil {
		return fmt.Errorf("node: seal admin keys: %w", err)
	}
	if err := os.MkdirAll(h.path("admin"), 0o700); err != nil {
		return fmt.Errorf("node: seal admin keys: %w", err)
	}
	return replaceFile(h.path("admin", "keys"), sealed)
}

// IsAdmin reports whether an admin key lies on this node.
func (h *Home) IsAdmin() bool {
	_, err := os.Stat(h.path("admin", "keys"))
	return err == nil
}

// An admin is an unlocked admin key.
type admin struct {
	key  identity.PrivateKey
	cert identity.Certificate
}

func (h *Home) openAdmin(ctx context.Context, password []byte) (admin, error) {
	sealed, err := os.ReadFile(h.path("admin", "keys"))
	if err != nil {
		return admin{}, fmt.Errorf("node: open admin keys: %w", ErrNotAdmin)
	}
	plain, err := kdf.Unlock(ctx, password, sealed, adminAAD)
	if errors.Is(err, kdf.ErrPassword) {
		return admin{}, fmt.Errorf("node: open admin keys: %w", ErrAdminPassword)
	}
	if err != nil {
		return admin{}, fmt.Errorf("node: open admin keys: %w", err)
	}
	defer clear(plain)
	var k adminKeys
	if err := identity.Unmarshal(plain, &k); err != nil {
		return admin{}, fmt.Errorf("node: open admin keys: %w", err)
	}
	cert, err := identity.ParseCertificate(k.Admin)
	return admin{key: identity.PrivateKeyFromSeed(k.AdminSeed), cert: cert}, err
}

// A UserRequest asks for a user.
type UserRequest struct {
	Name          string
	AdminPassword []byte
	TTL           time.Duration // of the link; 0 is 7 days
	Addrs         []string      // for the link, best first; at most 3
	Guest         bool

	// User and Generation are set for a link that brings a user there is their
	// next keys: after a forgotten password, or a lost node.
	User       identity.UserID
	Generation uint32

	// Roster tells which names are taken; without one every name is free.
	Roster *roster.Roster
}

// A UserLink is what a new user's node is handed.
type UserLink struct {
	User     identity.UserID
	Name     string
	Frame    []byte // sealed join object; deeplink.Link makes the link
	Password string // six words
	Expires  time.Time
	Addrs    []string
}

// InviteUser issues a join link that lets another node enter the network with
// the user on it.
func (h *Home) InviteUser(ctx context.Context, q UserRequest) (UserLink, error) {
	h.ops.Lock()
	defer h.ops.Unlock()
	m := h.network()
	ttl, err := checkInvite(m, &q)
	if err != nil {
		return UserLink{}, err
	}
	a, err := h.openAdmin(ctx, q.AdminPassword)
	if err != nil {
		return UserLink{}, err
	}
	if q.User.IsZero() {
		if err := h.freeName(q.Name, q.Roster); err != nil {
			return UserLink{}, err
		}
	}
	user, now := q.User, time.Now()
	if user.IsZero() {
		user, q.Generation = newUserID(), 1
	}
	join, err := newTicket(m, a, user, q, now, wholeMinute(now.Add(ttl)))
	if err != nil {
		return UserLink{}, err
	}
	if len(q.Name) <= deeplink.MaxUser {
		join.User = q.Name
	}
	content, err := deeplink.NewJoin(join)
	if errors.Is(err, deeplink.ErrTooLarge) && join.User != "" {
		join.User = "" // addresses matter more; the network tells the name later
		content, err = deeplink.NewJoin(join)
	}
	if err != nil {
		return UserLink{}, err
	}
	words, err := deeplink.Words()
	if err != nil {
		return UserLink{}, err
	}
	frame, err := deeplink.Seal(ctx, content, a.key, []byte(words), keyCost)
	if err != nil {
		return UserLink{}, err
	}
	err = h.change(func() error {
		return errors.Join(h.publishName(a.key, user, q.Name), h.publish(roster.Certificate(join.Chain())))
	})
	if err != nil {
		return UserLink{}, err
	}
	h.nameGiven(user, q.Name)
	return UserLink{User: user, Name: q.Name, Frame: frame, Password: words, Expires: join.Expiry, Addrs: q.Addrs}, nil
}

func checkInvite(m *membership, q *UserRequest) (time.Duration, error) {
	if m == nil {
		return 0, fmt.Errorf("node: add user: %w", ErrNoNetwork)
	}
	if err := checkName("user", q.Name, roster.MaxName); err != nil {
		return 0, err
	}
	if len(q.Addrs) == 0 {
		return 0, fmt.Errorf("node: add user: %w", ErrLoopback)
	}
	ttl := q.TTL
	if ttl == 0 {
		ttl = linkTTLDefault
	}
	if ttl < api.MinLinkTTL || ttl > api.MaxLinkTTL {
		return 0, fmt.Errorf("node: add user: a link can be valid from 1 minute to %d days, not %v", int(api.MaxLinkTTL.Hours())/24, ttl)
	}
	return ttl, nil
}

// wholeMinute is the end of the minute that t is in: links count in minutes,
// and none ends before its time.
func wholeMinute(t time.Time) time.Time {
	return t.Add(time.Minute - 1).Truncate(time.Minute)
}

// newTicket makes a delegate that may certify one node and this user once.
func newTicket(m *membership, a admin, user identity.UserID, q UserRequest, now, expiry time.Time) (deeplink.Join, error) {
	key, err := identity.NewPrivateKey()
	if err != nil {
		return deeplink.Join{}, err
	}
	roles := identity.RoleUser | identity.RoleNode
	if q.Guest {
		roles |= identity.RoleGuest
	}
	delegate, err := identity.Issue(m.ID, a.key, identity.Certificate{
		Class: identity.ClassDelegate, Subject: user[:], Key: key.Public(), Roles: roles, Generation: q.Generation,
		NotBefore: now.Add(-backdate), NotAfter: expiry.Add(identity.ProvisionalGrace),
	})
	if err != nil {
		return deeplink.Join{}, err
	}
	j := deeplink.Join{
		Network: m.ID, Name: m.Name, Admin: a.cert, Delegate: delegate, DelegateSeed: key.Seed(),
		Secret: m.Secrets[0].secret(), Addrs: q.Addrs, Expiry: expiry,
	}
	_, err = rand.Read(j.TicketID[:])
	_, err2 := rand.Read(j.TicketSecret[:])
	return j, errors.Join(err, err2)
}

// HostUser issues a user whose keys lie on this node, certified by the admin
// at once.
func (h *Home) HostUser(ctx context.Context, q UserRequest, password []byte) (identity.UserID, error) {
	h.ops.Lock()
	defer h.ops.Unlock()
	m := h.network()
	if m == nil {
		return identity.UserID{}, fmt.Errorf("node: add user: %w", ErrNoNetwork)
	}
	if err := checkName("user", q.Name, roster.MaxName); err != nil {
		return identity.UserID{}, err
	}
	a, err := h.openAdmin(ctx, q.AdminPassword)
	if err != nil {
		return identity.UserID{}, err
	}
	if err := h.freeName(q.Name, q.Roster); err != nil {
		return identity.UserID{}, err
	}
	key, err := identity.NewPrivateKey()
	if err != nil {
		return identity.UserID{}, err
	}
	id, now := newUserID(), time.Now()
	cert, err := identity.Issue(m.ID, a.key, identity.Certificate{
		Class: identity.ClassUser, Subject: id[:], Key: key.Public(), Generation: 1,
		NotBefore: now.Add(-backdate), NotAfter: now.Add(userValidity),
	})
	if err != nil {
		return identity.UserID{}, err
	}
	dev, err := h.newDevice(ctx, m.ID, id, key, identity.Chain{cert, a.cert}, password)
	if err != nil {
		return identity.UserID{}, err
	}
	err = h.change(func() error {
		return errors.Join(h.addHosted(dev), h.publishName(a.key, id, q.Name))
	})
	if err == nil {
		h.nameGiven(id, q.Name)
	}
	return id, err
}

// A device is a user's new device on this node, whose keys lie on the disk.
type device struct {
	user  identity.UserID
	key   identity.PrivateKey
	chain identity.Chain // device, user, and whoever certified the user
}

// newDevice makes a device of the user on this node and seals the keys under
// the password, which takes seconds on a small board. The chain is the user's.
func (h *Home) newDevice(ctx context.Context, network identity.NetworkID, id identity.UserID, user identity.PrivateKey, chain identity.Chain, password []byte) (device, error) {
	if err := deeplink.CheckPassword(password); err != nil {
		return device{}, fmt.Errorf("node: seal keys: %w", err)
	}
	key, err := identity.NewPrivateKey()
	if err != nil {
		return device{}, err
	}
	cert, err := identity.IssueDevice(network, user, key, identity.Certificate{
		Subject: id[:], Generation: chain.Leaf().Generation, NotBefore: chain.Leaf().NotBefore, NotAfter: deviceEnd(chain.Leaf().NotBefore, chain.Leaf()),
	})
	if err != nil {
		return device{}, err
	}
	whole := append(identity.Chain{cert}, chain...)
	sealed, err := chat.SealKeys(ctx, id, password, chat.Keys{User: user, Device: key, Chain: whole}, keyCost)
	if err != nil {
		return device{}, err
	}
	return device{id, key, whole}, h.SaveKeystore(id, sealed)
}

// addHosted makes this node a host of a user, and notes what has to be
// published. The caller holds mu.
func (h *Home) addHosted(d device) error {
	h.state.Users = append(h.state.Users, hosted{ID: d.user, Key: d.chain[1].Key})
	return h.publish(roster.Certificate(d.chain[1:]), roster.Certificate(d.chain))
}

// A JoinRequest applies a join link on this node.
type JoinRequest struct {
	Link         string
	LinkPassword []byte
	Password     []byte // of the user's keys on this node
}

// Join enters the network that a link is for, or adds the link's user to this
// node if it is in that network already. Nobody needs to be in reach. It
// returns the user and the name in the link, which may be empty.
func (h *Home) Join(ctx context.Context, q JoinRequest, clock identity.Clock) (user identity.UserID, name string, err error) {
	h.ops.Lock()
	defer h.ops.Unlock()
	j, _, err := deeplink.OpenJoin(ctx, q.Link, q.LinkPassword, clock)
	if err != nil {
		return user, "", err
	}
	user = identity.UserID(j.Delegate.Subject)
	if err := h.checkJoin(j, user); err != nil {
		return user, "", err
	}
	if err := h.redeem(ctx, j, q.Password, unverifiedJoin(clock, j.Delegate.NotBefore, j.Expiry)); err != nil {
		return user, "", err
	}
	if j.Delegate.Roles&identity.RoleUser == 0 {
		return identity.UserID{}, "", nil
	}
	return user, j.User, nil
}

// redeem spends a ticket on what it is good for: this node, if it is in no
// network yet, and the ticket's user.
func (h *Home) redeem(ctx context.Context, j deeplink.Join, password []byte, mark *unverified) error {
	if j.Delegate.Roles&identity.RoleUser == 0 {
		return h.change(func() error { return h.enter(j, mark) })
	}
	key, err := identity.NewPrivateKey()
	if err != nil {
		return err
	}
	chain, err := j.CertifyUser(key.Public())
	if err != nil {
		return err
	}
	user := identity.UserID(j.Delegate.Subject)
	dev, err := h.newDevice(ctx, j.Network, user, key, chain, password)
	if err != nil {
		return err
	}
	return h.change(func() error {
		if err := h.enter(j, mark); err != nil {
			return err
		}
		if err := h.addHosted(dev); err != nil || j.User == "" {
			return err
		}
		return h.publishName(dev.key, user, j.User)
	})
}

func (h *Home) checkJoin(j deeplink.Join, user identity.UserID) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	m := h.state.Network
	if m != nil && m.ID != j.Network {
		return fmt.Errorf("node: join: %w (%s), and the link is for another (%s); use another --dir for that one", ErrHasNetwork, m.Name, j.Name)
	}
	if slices.ContainsFunc(h.state.Users, func(u hosted) bool { return u.ID == user }) {
		return errors.New("node: join: the user of this link is on this node already; to give them new keys after a forgotten password: outrider user code NAME --link FILE")
	}
	return nil
}

// enter makes this node a member: provisional, by the ticket's delegate. One
// that is a member already stays what it is, unless its last join was void.
// The caller holds mu.
func (h *Home) enter(j deeplink.Join, mark *unverified) error {
	old := h.state.Network
	if old != nil && !old.Void {
		return nil
	}
	chain, err := j.CertifyNode(h.ID())
	if err != nil {
		return err
	}
	h.state.Network = &membership{
		ID: j.Network, Name: j.Name, Secrets: []networkSecret{secretState(j.Secret)}, Chain: chain.Marshal(), Seeds: j.Addrs, Unverified: mark,
	}
	if old != nil {
		h.state.Network.Root = old.Root
		h.state.Network.Secrets = withGenerations(old.Secrets, []roster.Generation{{Secret: j.Secret}}, time.Now())
	}
	return h.publish(roster.Certificate(identity.Chain{j.Admin}), roster.Certificate(j.Chain()), roster.Certificate(chain))
}

func (h *Home) publishName(signer identity.PrivateKey, user identity.UserID, name string) error {
	o, err := roster.Profile(h.state.Network.ID, user, name, uint64(time.Now().Unix()), signer)
	if err != nil {
		return err
	}
	return h.publish(o)
}

// publish notes control objects that this node must bring into the mesh.
func (h *Home) publish(objects ...roster.Object) error {
	m := h.state.Network
	for _, o := range objects {
		payload, err := roster.Seal(m.ID, m.Secrets[0].secret(), o)
		if err != nil {
			return fmt.Errorf("node: publish: %w", err)
		}
		h.state.Publish = append(h.state.Publish, publication{Payload: payload, Urgent: o.Kind == roster.KindRevocation || o.Kind == roster.KindConfig})
	}
	return nil
}

func newUserID() (id identity.UserID) {
	rand.Read(id[:]) // never fails: crypto/rand, since Go 1.24
	return id
}
