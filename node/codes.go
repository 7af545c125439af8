package node

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"outrider/mesh/identity"
	"outrider/node/api"
	"outrider/node/chat"
	"outrider/offline/deeplink"
	"outrider/offline/roster"
)

// codeAlphabet is Crockford's base32: no letter that reads like a digit.
const codeAlphabet = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"

const (
	codeLength = 10 // characters: 50 bits, far beyond what a limited rate of guesses finds in a day
	maxCodes   = 16 // at once
)

// accounts brings users to their keys on this node (api.Accounts). Codes are
// kept in memory only: they end with the node, or with their time, or when
// they are spent, and nothing of them is ever written.
type accounts struct {
	n *Node

	mu    sync.Mutex
	codes []*code
}

var _ api.Accounts = (*accounts)(nil)

// A code is an enrolment that waits for its user's password.
type code struct {
	digest  [32]byte
	user    identity.UserID
	name    string
	newKey  bool // the user has keys here; these replace them
	expires time.Time
	redeem  func(ctx context.Context, password []byte) error
}

// NewCode certifies a user with the admin's keys, or opens a join link, and
// keeps the rest for whoever brings the code.
func (a *accounts) NewCode(ctx context.Context, q api.NewCode) (api.Code, error) {
	if a.n.agent == nil {
		return api.Code{}, errEnrolling
	}
	var c *code
	var err error
	if q.Link != "" {
		c, err = a.byLink(ctx, q)
	} else {
		c, err = a.byAdmin(ctx, q)
	}
	if err != nil {
		return api.Code{}, provisionError(err)
	}
	text := newCodeText()
	c.digest, c.expires = digestOf(text), time.Now().Add(q.TTL)
	if err := a.keep(c); err != nil {
		return api.Code{}, err
	}
	out := api.Code{Code: text, Name: c.name, NewKey: c.newKey, Expires: c.expires}
	if urls := a.n.pageDoor.secureURLs(); len(urls) > 0 {
		out.URL = urls[0] + "c/#CODE-" + text
	}
	if urls := a.n.pageDoor.localURLs(); len(urls) > 0 {
		out.LocalURL = urls[0] + "c/#CODE-" + text
	}
	return out, nil
}

func newCodeText() string {
	var random [codeLength]byte
	rand.Read(random[:]) // never fails: crypto/rand
	text := make([]byte, 0, codeLength+1)
	for i, b := range random {
		if i == codeLength/2 {
			text = append(text, '-')
		}
		text = append(text, codeAlphabet[b%32]) // 256 is a multiple of 32: no character is likelier
	}
	return string(text)
}

// digestOf is a code as people type it, hashed: small letters, spaces, O for 0
// and I or L for 1 are all right.
func digestOf(text string) [32]byte {
	text = strings.Map(func(r rune) rune {
		switch r {
		case 'O':
			return '0'
		case 'I', 'L':
			return '1'
		}
		if strings.ContainsRune(codeAlphabet, r) {
			return r
		}
		return -1
	}, strings.ToUpper(text))
	return sha256.Sum256([]byte(text))
}

// keep enters a code. A user has one at a time.
func (a *accounts) keep(c *code) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.codes = slices.DeleteFunc(a.codes, func(o *code) bool { return !time.Now().Before(o.expires) || o.user == c.user || o.name == c.name })
	if len(a.codes) >= maxCodes {
		return fmt.Errorf("node: new code: %d codes are waiting, which is all there may be at once: %w", maxCodes, chat.ErrBusy)
	}
	a.codes = append(a.codes, c)
	return nil
}

// find returns the code that is still good.
func (a *accounts) find(text string) (*code, error) {
	digest := digestOf(text)
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, c := range a.codes {
		if subtle.ConstantTimeCompare(c.digest[:], digest[:]) == 1 && time.Now().Before(c.expires) {
			return c, nil
		}
	}
	return nil, api.ErrCode
}

// take removes a code, so that nobody else spends it meanwhile.
func (a *accounts) take(c *code) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	at := slices.Index(a.codes, c)
	if at < 0 {
		return false
	}
	a.codes = slices.Delete(a.codes, at, at+1)
	return true
}

// CheckCode is part of api.Accounts.
func (a *accounts) CheckCode(_ context.Context, text string) (api.CodeInfo, error) {
	c, err := a.find(text)
	if err != nil {
		return api.CodeInfo{}, err
	}
	words, err := deeplink.Words()
	if err != nil {
		return api.CodeInfo{}, err
	}
	return api.CodeInfo{Name: c.name, NetworkName: a.n.home.network().Name, NewKey: c.newKey, Expires: c.expires, Words: words}, nil
}

// Redeem is part of api.Accounts. A code whose redeeming failed is good again:
// nothing was changed.
func (a *accounts) Redeem(ctx context.Context, text string, password []byte, newKey bool) (identity.UserID, error) {
	c, err := a.find(text)
	if err != nil {
		return identity.UserID{}, err
	}
	if c.newKey && !newKey {
		return identity.UserID{}, api.ErrNewKey
	}
	if !a.take(c) {
		return identity.UserID{}, api.ErrCode
	}
	if err := c.redeem(ctx, password); err != nil {
		a.mu.Lock()
		a.codes = append(a.codes, c)
		a.mu.Unlock()
		return identity.UserID{}, provisionError(err)
	}
	a.n.publishSoon()
	return c.user, nil
}

// byLink prepares what a join link is for: a user of this network whom the
// admin certified elsewhere.
func (a *accounts) byLink(ctx context.Context, q api.NewCode) (*code, error) {
	clock := setClock{a.n.clock}
	j, _, err := deeplink.OpenJoin(ctx, q.Link, q.LinkPassword, clock)
	if err != nil {
		return nil, err
	}
	user := identity.UserID(j.Delegate.Subject)
	if j.Delegate.Roles&identity.RoleUser == 0 {
		return nil, errors.New("node: new code: the link is for a node, not for a user")
	}
	if a.n.home.hosts(user) {
		return a.nextByLink(j, user)
	}
	if err := a.n.home.checkJoin(j, user); err != nil {
		return nil, err
	}
	link, linkPassword := q.Link, slices.Clone(q.LinkPassword)
	return &code{user: user, name: j.User, redeem: func(ctx context.Context, password []byte) error {
		_, _, err := a.n.home.Join(ctx, JoinRequest{Link: link, LinkPassword: linkPassword, Password: password}, clock)
		return err
	}}, nil
}

// nextByLink prepares the next keys of a user who lives here, by a link that
// the admin made for that (UserRequest.Generation).
func (a *accounts) nextByLink(j deeplink.Join, user identity.UserID) (*code, error) {
	known, ok := a.n.roster.User(user)
	switch {
	case j.Network != a.n.root.ID():
		return nil, fmt.Errorf("node: new code: the link is for another network: %w", chat.ErrInvalid)
	case !ok:
		return nil, fmt.Errorf("node: new code: an admin has to decide about this user first: %w", api.ErrConflict)
	case j.Delegate.Generation <= known.Generation:
		return nil, fmt.Errorf("node: new code: the link was used already; new keys after a forgotten password need a new one (outrider user add NAME --again): %w", api.ErrConflict)
	}
	name := j.User
	if name == "" {
		name = known.Name
	}
	key, err := identity.NewPrivateKey()
	if err != nil {
		return nil, err
	}
	chain, err := j.CertifyUser(key.Public())
	if err != nil {
		return nil, err
	}
	return &code{user: user, name: name, newKey: true, redeem: func(ctx context.Context, password []byte) error {
		a.n.chat.Lock(user)
		return a.n.home.replaceKeys(ctx, user, key, chain, name, password)
	}}, nil
}

// byAdmin certifies a key made here: the first of a new user, or the next of
// one who lives on this node.
func (a *accounts) byAdmin(ctx context.Context, q api.NewCode) (*code, error) {
	h := a.n.home
	if !h.IsAdmin() {
		return nil, ErrNotAdmin
	}
	c := &code{name: q.Name, user: newUserID()}
	generation := uint32(1)
	old, here, err := a.whoIs(q.Name)
	if err == nil && !here {
		err = checkName("user", q.Name, roster.MaxName)
	}
	if err != nil {
		return nil, err
	}
	if here {
		c.name, c.user, c.newKey, generation = old.Name, old.ID, true, old.Generation+1
	}
	admin, err := h.openAdmin(ctx, q.AdminPassword)
	if err != nil {
		return nil, err
	}
	key, err := identity.NewPrivateKey()
	if err != nil {
		return nil, err
	}
	now := time.Now()
	cert, err := identity.Issue(h.network().ID, admin.key, identity.Certificate{
		Class: identity.ClassUser, Subject: c.user[:], Key: key.Public(), Generation: generation,
		NotBefore: now.Add(-backdate), NotAfter: now.Add(userValidity),
	})
	if err != nil {
		return nil, err
	}
	chain := identity.Chain{cert, admin.cert}
	c.redeem = func(ctx context.Context, password []byte) error {
		if c.newKey {
			a.n.chat.Lock(c.user)
			return h.replaceKeys(ctx, c.user, key, chain, c.name, password)
		}
		return h.hostCertified(ctx, c.user, key, chain, c.name, a.n.roster, password)
	}
	return c, nil
}

// whoIs finds the user a name stands for. One who lives elsewhere gets no
// second identity of the same name here.
func (a *accounts) whoIs(name string) (u roster.User, here bool, err error) {
	hosted, err := a.n.home.Users()
	if err != nil {
		return u, false, err
	}
	found := a.n.roster.ByName(name)
	if id, err := identity.ParseUserID(name); err == nil {
		if known, ok := a.n.roster.User(id); ok {
			found = []roster.User{known}
		}
	}
	switch {
	case len(found) == 0:
		return u, false, a.n.home.nameFree(name, a.n.roster)
	case len(found) > 1:
		return u, false, fmt.Errorf("node: new code: %d users have that name: give the id of the one who is meant (outrider status): %w", len(found), chat.ErrAmbiguous)
	case !slices.Contains(hosted, found[0].ID):
		return u, false, fmt.Errorf("node: new code: a user of that name lives on another node, where their code has to be made: %w", api.ErrConflict)
	}
	return found[0], true, nil
}
