package node

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"outrider/atak"
	"outrider/mesh/identity"
	"outrider/node/api"
	"outrider/node/chat"
)

// bridge is the TAK bridge as part of a node: the accounts it opens, and the
// certificates that were issued. atak knows nothing of chat; this file
// translates.
type bridge struct {
	n   *Node
	ca  *atak.CA
	srv *atak.Server
}

// newBridge makes the bridge when the settings turn it on. The CA is made at
// the first start.
func (n *Node) newBridge() (*bridge, error) {
	if !n.cfg.ATAK.Enabled {
		return nil, nil
	}
	b := &bridge{n: n}
	var err error
	if b.ca, err = atak.OpenCA(n.home.path("atak")); err != nil {
		return nil, fmt.Errorf("node: up: %w", err)
	}
	if err := os.MkdirAll(n.home.path("atak", "clients"), 0o700); err != nil {
		return nil, fmt.Errorf("node: up: %w", err)
	}
	stream, https := n.cfg.ATAKAddrs()
	b.srv = atak.New(atak.Config{
		Stream: stream.String(), HTTPS: https.String(), Version: n.version, ShareWith: n.cfg.ATAK.ShareWith,
		Interval: time.Duration(n.cfg.ATAK.IntervalS) * time.Second, TLS12: n.cfg.ATAK.TLS12,
		Dir: n.home.path("atak"), CA: b.ca, Hosts: n.hostsOf(stream.Addr().AsSlice()), Accounts: b, Log: n.log, Now: n.clock.Now,
	})
	return b, nil
}

// hostsOf lists the addresses under which clients reach a listener.
func (n *Node) hostsOf(ip net.IP) []string {
	if !ip.IsUnspecified() {
		return []string{ip.String()}
	}
	out := []string{"127.0.0.1", "localhost"}
	for _, a := range reachableAddrs(n.cfg) {
		if host, _, err := net.SplitHostPort(a); err == nil {
			out = append(out, host)
		}
	}
	return out
}

// run serves until ctx ends. A node without a bridge is still a node: when it
// fails it is tried again, ever more rarely.
func (b *bridge) run(ctx context.Context) error {
	if b == nil {
		return nil
	}
	for pause := time.Second; ; pause = min(2*pause, time.Minute) {
		err := b.srv.Run(ctx)
		if ctx.Err() != nil {
			return nil
		}
		b.n.log.Error("the TAK bridge has failed; it is tried again", "err", portHint(err))
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return nil
		}
	}
}

// notify tells page and bridge what changed for a user.
func (n *Node) notify(user identity.UserID, u chat.Update) {
	n.hub.Update(user, u)
	if n.bridge != nil && u.Message != nil {
		n.bridge.srv.Update(atak.PersonID(user.String()), atakMessage(*u.Message))
	}
}

// clientPath is where the keys that a certificate opens lie, sealed under the
// certificate's secret.
func (b *bridge) clientPath(serial string) string { return b.n.home.path("atak", "clients", serial) }

// Open unlocks the user a certificate was issued for.
func (b *bridge) Open(ctx context.Context, c atak.Credential) (atak.User, error) {
	user, err := identity.ParseUserID(string(c.User))
	if err != nil {
		return nil, atak.ErrRefused
	}
	if err := b.permitted(user); err != nil {
		return nil, err
	}
	raw, err := os.ReadFile(b.clientPath(c.Serial))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, atak.ErrRefused
	}
	if err != nil {
		return nil, fmt.Errorf("node: TAK client: %w", err)
	}
	if len(raw) < len(user) || identity.UserID(raw[:len(user)]) != user {
		return nil, atak.ErrRefused
	}
	keys, err := chat.UnwrapKeys(user, c.Secret, raw[len(user):])
	if err != nil {
		return nil, atak.ErrRefused
	}
	s, err := b.n.holds.take(user, func() (*chat.Session, error) { return b.n.chat.UnlockKeys(ctx, user, keys) })
	if err != nil {
		return nil, fmt.Errorf("node: TAK client: the user's keys do not open, enrol the client again: %w", err)
	}
	return &takUser{b: b, id: user, session: s, spoolKey: identity.Derive(keys.KEK, identity.LabelKeystoreVault, []byte("atak spool"))}, nil
}

// permitted tells whether the bridge may act for a user now.
func (b *bridge) permitted(user identity.UserID) error {
	hosted, err := b.n.home.Users()
	if err != nil {
		return err
	}
	u, ok := b.n.roster.User(user)
	if !ok || u.Frozen || b.n.roster.Revoked(user) || !slices.Contains(hosted, user) {
		return atak.ErrRefused
	}
	return nil
}

// holds counts who needs a hosted user unlocked: the sessions of the API, and
// the bridge. Keys are dropped when nobody does.
type holds struct {
	lock func(identity.UserID)

	mu   sync.Mutex
	page map[identity.UserID]bool
	tak  map[identity.UserID]int
}

func newHolds(lock func(identity.UserID)) *holds {
	return &holds{lock: lock, page: make(map[identity.UserID]bool), tak: make(map[identity.UserID]int)}
}

// take unlocks a user for the bridge.
func (h *holds) take(user identity.UserID, unlock func() (*chat.Session, error)) (*chat.Session, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	s, err := unlock()
	if err == nil {
		h.tak[user]++
	}
	return s, err
}

// give ends one take.
func (h *holds) give(user identity.UserID) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.tak[user]--; h.tak[user] > 0 {
		return
	}
	delete(h.tak, user)
	if !h.page[user] {
		h.lock(user)
	}
}

// heldChat is the API's chat with holds.
type heldChat struct {
	api.Chat
	holds *holds
}

func (c heldChat) Login(ctx context.Context, name string, password []byte) (api.User, error) {
	u, err := c.Chat.Login(ctx, name, password)
	if err != nil {
		return nil, err
	}
	c.holds.mu.Lock()
	c.holds.page[u.Self().ID] = true
	c.holds.mu.Unlock()
	return u, nil
}

func (c heldChat) Lock(user identity.UserID) {
	c.holds.mu.Lock()
	defer c.holds.mu.Unlock()
	delete(c.holds.page, user)
	if c.holds.tak[user] == 0 {
		c.holds.lock(user)
	}
}

// takUser is one unlocked user for the bridge.
type takUser struct {
	b        *bridge
	id       identity.UserID
	session  *chat.Session
	spoolKey [32]byte
	once     sync.Once
}

var _ atak.User = (*takUser)(nil)

func (u *takUser) Self() atak.Person  { return atakPerson(u.session.Self()) }
func (u *takUser) SpoolKey() [32]byte { return u.spoolKey }
func (u *takUser) Close()             { u.once.Do(func() { u.b.n.holds.give(u.id) }) }

// positionTTL is how long a position travels: an old one is better than none,
// and a newer one takes its place anyway.
const positionTTL = 24 * time.Hour

func atakPerson(p chat.Person) atak.Person {
	return atak.Person{ID: atak.PersonID(p.ID.String()), Name: p.Name, Keys: p.HasKeys, Archive: p.Archive}
}

func (u *takUser) People(ctx context.Context) ([]atak.Person, error) {
	list, err := u.session.People(ctx)
	if err != nil {
		return nil, u.failed(err)
	}
	out := make([]atak.Person, len(list))
	for i, p := range list {
		out[i] = atakPerson(p)
	}
	return out, nil
}

// failed ends the clients of a user whose keys were closed under the bridge:
// what they say could not be kept. A policy's refusal is said in the bridge's
// words.
func (u *takUser) failed(err error) error {
	if errors.Is(err, chat.ErrLocked) {
		u.b.srv.Drop(atak.PersonID(u.id.String()))
	}
	var rule *chat.PolicyError
	if errors.As(err, &rule) {
		return &atak.Forbidden{Rule: rule.Error()}
	}
	return err
}

// address checks that the bridge may still act for the user, and whom it
// writes to.
func (u *takUser) address(to atak.PersonID) (identity.UserID, error) {
	if err := u.b.permitted(u.id); err != nil {
		return identity.UserID{}, err
	}
	id, err := identity.ParseUserID(string(to))
	if err != nil {
		return id, atak.ErrNotFound
	}
	return id, nil
}

func (u *takUser) SendText(ctx context.Context, to atak.PersonID, text, once string) (atak.MessageID, error) {
	id, err := u.address(to)
	if err != nil {
		return "", err
	}
	m, err := u.session.Send(ctx, chat.Draft{To: id, Text: text, Once: once})
	return atak.MessageID(m.ID.String()), u.failed(err)
}

func (u *takUser) SendFile(ctx context.Context, to atak.PersonID, name, once string, r io.Reader) (atak.MessageID, error) {
	id, err := u.address(to)
	if err != nil {
		return "", err
	}
	m, err := u.session.SendFile(ctx, chat.FileDraft{To: id, Name: name, MediaType: "application/x-zip-compressed", Once: once}, r)
	return atak.MessageID(m.ID.String()), u.failed(err)
}

func (u *takUser) SendPosition(ctx context.Context, to atak.PersonID, p atak.Position) error {
	id, err := u.address(to)
	if err != nil {
		return err
	}
	_, err = u.session.SendLocation(ctx, chat.LocationDraft{To: id, Location: chatLocation(p), TTL: positionTTL})
	return u.failed(err)
}

func (u *takUser) OpenFile(ctx context.Context, id atak.MessageID) (io.ReadCloser, error) {
	m, err := chat.ParseMessageID(string(id))
	if err != nil {
		return nil, atak.ErrNotFound
	}
	_, r, err := u.session.OpenFile(ctx, m)
	return r, u.failed(err)
}

func (u *takUser) Read(ctx context.Context, id atak.MessageID) error {
	m, err := chat.ParseMessageID(string(id))
	if err != nil {
		return atak.ErrNotFound
	}
	_, err = u.session.Read(ctx, m)
	return u.failed(err)
}

// scanMax is how many messages of a conversation are looked through for what
// is unread and for a position.
const scanMax = 1000

// Unread returns what was received and not read, oldest first.
func (u *takUser) Unread(ctx context.Context, n int) ([]atak.Message, error) {
	var out []atak.Message
	err := u.each(ctx, func(c chat.Conversation) bool { return c.Unread > 0 }, func(m chat.Message) bool {
		if m.Unread && m.Type != chat.TypeLocation {
			out = append(out, atakMessage(m))
		}
		return true
	})
	slices.SortStableFunc(out, func(a, b atak.Message) int { return a.Sent.Compare(b.Sent) })
	return out[max(0, len(out)-n):], err
}

// Positions returns the newest live position of each other person and the newest
// marks of others.
func (u *takUser) Positions(ctx context.Context, most int) ([]atak.Message, error) {
	var live, marks []atak.Message
	at := make(map[atak.PersonID]bool)
	err := u.each(ctx, func(chat.Conversation) bool { return true }, func(m chat.Message) bool {
		if m.Out || m.Type != chat.TypeLocation {
			return true
		}
		switch t := atakMessage(m); {
		case t.Kind == atak.Mark:
			marks = append(marks, t)
		case m.Location != nil && !at[t.Peer.ID]:
			at[t.Peer.ID], live = true, append(live, t)
		}
		return true
	})
	slices.SortStableFunc(marks, func(a, b atak.Message) int { return a.Sent.Compare(b.Sent) })
	return append(live, marks[max(0, len(marks)-most):]...), err
}

// each goes through the newest messages of conversations, newest first, until
// more says that a conversation has given what it has.
func (u *takUser) each(ctx context.Context, want func(chat.Conversation) bool, more func(chat.Message) bool) error {
	convs, err := u.session.Conversations(ctx)
	if err != nil {
		return u.failed(err)
	}
	for _, c := range convs {
		if !want(c) {
			continue
		}
		if err := u.scan(ctx, c.ID, more); err != nil {
			return err
		}
	}
	return nil
}

func (u *takUser) scan(ctx context.Context, conv chat.ConversationID, more func(chat.Message) bool) error {
	var before chat.MessageID
	for range scanMax / chat.MaxPage {
		page, err := u.session.Messages(ctx, conv, before, chat.MaxPage)
		if err != nil {
			return u.failed(err)
		}
		for _, m := range slices.Backward(page) {
			if !more(m) {
				return nil
			}
		}
		if len(page) < chat.MaxPage {
			return nil
		}
		before = page[0].ID
	}
	return nil
}

var errTAKOff = fmt.Errorf("node: the TAK bridge is off: %w", api.ErrATAKOff)

// Enroll issues a certificate for a hosted user and returns the connection
// package. The user's password opens the keys once, to seal them under the
// certificate's secret.
func (b *bridge) Enroll(ctx context.Context, e api.NewTAKClient) ([]byte, api.TAKClient, error) {
	if b == nil {
		return nil, api.TAKClient{}, errTAKOff
	}
	host, err := b.clientHost(e.Host)
	if err != nil {
		return nil, api.TAKClient{}, err
	}
	var found *chat.Hosted
	for _, h := range b.n.chat.Hosted() {
		if h.Name == e.Name || h.User.String() == e.Name {
			found = &h
		}
	}
	if found == nil {
		return nil, api.TAKClient{}, &hinted{
			text: "no user of that name has their keys on this node", is: chat.ErrNotFound,
			hint: "outrider status lists the users of this node; enroll others where they live",
		}
	}
	sealed, err := b.n.home.Keystore(found.User)
	if err != nil {
		return nil, api.TAKClient{}, err
	}
	keys, err := chat.OpenKeys(ctx, found.User, e.Password, sealed)
	if err != nil {
		return nil, api.TAKClient{}, err
	}
	cred, err := atak.NewCredential(atak.PersonID(found.User.String()))
	if err != nil {
		return nil, api.TAKClient{}, err
	}
	wrap, err := chat.WrapKeys(found.User, cred.Secret, keys)
	if err != nil {
		return nil, api.TAKClient{}, err
	}
	pkg, err := b.pack(cred, found.Name, host)
	if err != nil {
		return nil, api.TAKClient{}, err
	}
	if err := replaceFile(b.clientPath(cred.Serial), append(found.User[:], wrap...)); err != nil {
		return nil, api.TAKClient{}, err
	}
	return pkg, api.TAKClient{ID: cred.Serial, User: found.User, Name: found.Name, Since: time.Now()}, nil
}

// clientHost is where clients shall connect: the host that was asked for, or else
// the best one they can be told of.
func (b *bridge) clientHost(asked string) (string, error) {
	if asked != "" {
		if err := atak.CheckHost(asked); err != nil {
			return "", fmt.Errorf("%v: %w", err, chat.ErrInvalid)
		}
		return asked, nil
	}
	stream, _ := b.n.cfg.ATAKAddrs()
	hosts := []string{stream.Addr().String()}
	if stream.Addr().IsUnspecified() {
		hosts = nil
		for _, a := range reachableAddrs(b.n.cfg) {
			if host, _, err := net.SplitHostPort(a); err == nil {
				hosts = append(hosts, host)
			}
		}
	}
	for _, host := range hosts {
		if atak.CheckHost(host) == nil {
			return host, nil
		}
	}
	return "", fmt.Errorf("node: this machine has no IPv4 address or host name that clients could be told of; name one with --address: %w", chat.ErrInvalid)
}

// pack makes the connection package, with the host clients shall use.
func (b *bridge) pack(cred atak.Credential, name, host string) ([]byte, error) {
	stream, _ := b.n.cfg.ATAKAddrs()
	label := strings.TrimSpace(b.n.home.ID().Short())
	return b.ca.ConnectionPackage(atak.Enrolment{Credential: cred, Callsign: name, Node: label, Host: host, StreamPort: stream.Port()})
}

// Clients lists the certificates that are good.
func (b *bridge) Clients(context.Context) ([]api.TAKClient, error) {
	if b == nil {
		return nil, errTAKOff
	}
	list, err := os.ReadDir(b.n.home.path("atak", "clients"))
	if err != nil {
		return nil, fmt.Errorf("node: list TAK clients: %w", err)
	}
	var out []api.TAKClient
	for _, d := range list {
		info, err := d.Info()
		raw, rerr := os.ReadFile(b.clientPath(d.Name()))
		if err != nil || rerr != nil || len(raw) < 16 || len(d.Name()) != 32 {
			continue // gone meanwhile, or half written
		}
		id := identity.UserID(raw[:16])
		c := api.TAKClient{ID: d.Name(), User: id, Since: info.ModTime()}
		if u, ok := b.n.roster.User(id); ok {
			c.Name = u.Name
		}
		out = append(out, c)
	}
	return out, nil
}

// Withdraw makes a certificate worthless and closes its user's clients; those
// with another certificate connect again.
func (b *bridge) Withdraw(_ context.Context, id string) error {
	if b == nil {
		return errTAKOff
	}
	raw, err := os.ReadFile(b.clientPath(id))
	if errors.Is(err, fs.ErrNotExist) || err == nil && len(raw) < 16 {
		return fmt.Errorf("node: no such TAK client: %w", chat.ErrNotFound)
	}
	if err != nil {
		return fmt.Errorf("node: withdraw TAK client: %w", err)
	}
	err = errors.Join(os.Remove(b.clientPath(id)), syncDir(b.n.home.path("atak", "clients")))
	if err != nil {
		return fmt.Errorf("node: withdraw TAK client: %w", err)
	}
	b.srv.Drop(atak.PersonID(identity.UserID(raw[:16]).String()))
	return nil
}
