package node

import (
	"context"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"
	"time"

	"outrider/mesh/identity"
	"outrider/node/api"
	"outrider/node/chat"
	"outrider/offline/roster"
)

// startGeneration keeps objects to be published and the network secret that
// follows a revocation. The objects are sealed under the secret that all have
// now: whoever was away must be able to read the revocation first.
func (h *Home) startGeneration(a admin, network identity.NetworkID, revocation roster.Object, objects []roster.Object, r *roster.Roster, now time.Time) (g roster.Generation, err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	newest := h.state.Network.Secrets[0].Generation
	for _, s := range r.Secrets() {
		newest = max(newest, s.Generation)
	}
	secret, err := identity.NewNetworkSecret(newest + 1)
	if err != nil {
		return g, err
	}
	v, err := secret.Vouch(network, a.key, revocation.Number, now)
	if err != nil {
		return g, fmt.Errorf("node: new network secret: %w", err)
	}
	g = roster.Generation{Secret: secret, Voucher: v.Raw(), Admin: a.cert.Raw()}
	return g, h.attempt(func() error {
		if err := h.publish(objects...); err != nil {
			return err
		}
		h.state.Network.Secrets = withGenerations(h.state.Network.Secrets, []roster.Generation{g}, now)
		return nil
	})
}

// finals makes the certificates that an admin confirms an enrolment with:
// nodes before their user, so that a user is never without a node.
func (n *Node) finals(a admin, e roster.Enrolment, users, nodes []identity.Certificate) (out []roster.Object, err error) {
	now := n.clock.Now()
	issue := func(c identity.Certificate, valid time.Duration) error {
		c.Generation, c.Subject = e.Delegate.Generation, e.Subject[:]
		c.NotBefore, c.NotAfter = now.Add(-backdate), now.Add(valid-backdate)
		c, err := identity.Issue(n.root.ID(), a.key, c)
		if err == nil {
			out = append(out, roster.Certificate(identity.Chain{c, a.cert}))
		}
		return err
	}
	for _, c := range nodes {
		if err := issue(identity.Certificate{Class: identity.ClassNode, Key: c.Key}, nodeValidity); err != nil {
			return nil, err
		}
	}
	for _, c := range users {
		valid := userValidity
		if c.Guest() {
			valid = identity.GuestLease
		}
		if err := issue(identity.Certificate{Class: identity.ClassUser, Key: c.Key, Roles: c.Roles}, valid); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// Enrolments lists the join links that are open or wait for a decision. Every
// node can tell: the one where a link was used marks what is its own, for the
// admin to compare by voice.
func (p provision) Enrolments(context.Context) ([]api.Enrolment, error) {
	n := p.n
	if n.agent == nil {
		return nil, errEnrolling
	}
	keys := n.home.hostedKeys()
	var out []api.Enrolment
	for _, e := range n.roster.Enrolments() {
		x := api.Enrolment{Subject: identity.UserID(e.Subject).String(), Name: e.Name, State: api.EnrolmentWaiting, Ends: e.Delegate.NotAfter}
		for _, c := range e.Users {
			x.Users = append(x.Users, api.Enrolled{ID: keyName(c.Key), Here: slices.Contains(keys, c.Key)})
		}
		for _, c := range e.Nodes {
			x.Nodes = append(x.Nodes, api.Enrolled{ID: c.NodeID().String(), Here: c.NodeID() == n.home.ID()})
		}
		switch {
		case len(e.Users) > 1 || len(e.Nodes) > 1:
			x.State = api.EnrolmentConflict
		case len(e.Users)+len(e.Nodes) == 0:
			x.State = api.EnrolmentUnused
		}
		out = append(out, x)
	}
	return out, nil
}

// keyName is how a user's key is read out: 16 hexadecimal digits.
func keyName(k identity.PublicKey) string {
	id := k.ID()
	return hex.EncodeToString(id[:])
}

// Accept confirms an enrolment with the final certificates. They close its
// link: who uses it later is refused, and freezes nobody.
func (p provision) Accept(ctx context.Context, q api.Acceptance) (api.Admitted, error) {
	n := p.n
	if n.agent == nil {
		return api.Admitted{}, errEnrolling
	}
	e, err := n.enrolment(q.Who)
	if err != nil {
		return api.Admitted{}, err
	}
	users, nodes, err := choose(e, q)
	if err != nil {
		return api.Admitted{}, err
	}
	a, err := n.adminKey(ctx, q.AdminPassword)
	if err != nil {
		return api.Admitted{}, provisionError(err)
	}
	return n.confirm(a, e, users, nodes)
}

// enrolment finds the one that waits for a decision under a name or an id.
func (n *Node) enrolment(who string) (roster.Enrolment, error) {
	var found []roster.Enrolment
	for _, e := range n.roster.Enrolments() {
		named := identity.UserID(e.Subject).String() == who || e.Name != "" && strings.EqualFold(e.Name, who)
		if named && len(e.Users)+len(e.Nodes) > 0 {
			found = append(found, e)
		}
	}
	switch {
	case len(found) == 0:
		return roster.Enrolment{}, fmt.Errorf("node: admit: nothing waits under that name or id; outrider admit list shows what does: %w", chat.ErrNotFound)
	case len(found) > 1:
		return roster.Enrolment{}, fmt.Errorf("node: admit: %d enrolments have that name, give the id (outrider admit list): %w", len(found), chat.ErrState)
	}
	return found[0], nil
}

// choose picks whom a decision confirms. Where there is one of a kind it is
// that one; where there are more the admin must say which.
func choose(e roster.Enrolment, q api.Acceptance) (users, nodes []identity.Certificate, err error) {
	for _, c := range e.Users {
		if q.UserKey == "" || keyName(c.Key) == q.UserKey {
			users = append(users, c)
		}
	}
	for _, c := range e.Nodes {
		if q.Node == "" || c.NodeID().String() == q.Node {
			nodes = append(nodes, c)
		}
	}
	switch {
	case len(users) > 1 || len(nodes) > 1:
		return nil, nil, fmt.Errorf("node: admit: the link was used more than once: ask the person which key and node outrider admit list marks as theirs, and name both: %w", chat.ErrState)
	case q.UserKey != "" && len(users) == 0, q.Node != "" && len(nodes) == 0:
		return nil, nil, fmt.Errorf("node: admit: no such user key or node was made with this link: %w", chat.ErrNotFound)
	}
	return users, nodes, nil
}

// confirm publishes final certificates.
func (n *Node) confirm(a admin, e roster.Enrolment, users, nodes []identity.Certificate) (api.Admitted, error) {
	if n.clock.Suspect() {
		return api.Admitted{}, provisionError(ErrClockWrong)
	}
	objects, err := n.finals(a, e, users, nodes)
	if err == nil {
		err = n.home.addPublications(objects)
	}
	if err != nil {
		return api.Admitted{}, provisionError(err)
	}
	n.publishSoon()
	return api.Admitted{Users: len(users), Nodes: len(nodes)}, nil
}

func (h *Home) addPublications(objects []roster.Object) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.attempt(func() error { return h.publish(objects...) })
}

// Refuse revokes a link and everything that was made with it.
func (p provision) Refuse(ctx context.Context, who string, password []byte) (api.Revoked, error) {
	n := p.n
	if n.agent == nil {
		return api.Revoked{}, errEnrolling
	}
	e, err := n.enrolment(who)
	if err != nil {
		return api.Revoked{}, err
	}
	a, err := n.adminKey(ctx, password)
	if err != nil {
		return api.Revoked{}, provisionError(err)
	}
	k := roster.Keys{Own: []identity.PublicKey{e.Delegate.Key}}
	for _, c := range append(slices.Clone(e.Users), e.Nodes...) {
		if c.NodeID() == n.home.ID() && c.Class == identity.ClassNode {
			return api.Revoked{}, fmt.Errorf("node: refuse: %w: %w", ErrRevokeSelf, chat.ErrInvalid)
		}
		k.Own = append(k.Own, c.Key)
	}
	generation, err := n.revokeKeys(ctx, a, k)
	return api.Revoked{Kind: api.RevokeUser, ID: identity.UserID(e.Subject).String(), Name: e.Name, Generation: generation}, provisionError(err)
}

// hostedKeys returns the public keys of the users whose keys lie here.
func (h *Home) hostedKeys() (keys []identity.PublicKey) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, u := range h.state.Users {
		keys = append(keys, u.Key)
	}
	return keys
}
