package node

import (
	"context"
	"errors"
	"fmt"

	"outrider/mesh/identity"
	"outrider/node/api"
	"outrider/node/chat"
	"outrider/offline/roster"
)

// ErrRevokeSelf means that the node which holds the admin key was to be
// revoked.
var ErrRevokeSelf = errors.New("this is the node that holds the admin key; a revocation of it would leave the network without an admin")

// ErrTicketTwice means that a ticket has been redeemed more than once, so that
// nobody can say who else stands on it.
var ErrTicketTwice = errors.New("its join link was used more than once; decide with `outrider admit accept` or `outrider admit refuse` first")

// Revoke takes back a user or a node for ever: the revocation goes to the
// whole network before everything else, and a new network secret is made that
// the revoked will never be handed. It returns once this node acts on it.
func (p provision) Revoke(ctx context.Context, q api.NewRevocation) (api.Revoked, error) {
	n := p.n
	if n.agent == nil {
		return api.Revoked{}, errEnrolling
	}
	out, keys, err := n.toRevoke(q)
	if err != nil {
		return out, err
	}
	a, err := n.adminKey(ctx, q.AdminPassword)
	if err != nil {
		return out, provisionError(err)
	}
	out.Generation, err = n.revokeKeys(ctx, a, keys)
	return out, provisionError(err)
}

// toRevoke finds who is meant, and what has to be revoked for it.
func (n *Node) toRevoke(q api.NewRevocation) (out api.Revoked, k roster.Keys, err error) {
	out.Kind = q.Kind
	switch q.Kind {
	case api.RevokeUser:
		id, err := n.findUser(q.Who)
		if err != nil {
			return out, k, err
		}
		u, _ := n.roster.User(id)
		k = n.roster.UserKeys(id)
		out.ID, out.Name = id.String(), u.Name
		if len(k.Own) == 0 && len(k.Tickets) == 0 && n.roster.Revoked(id) {
			return out, k, fmt.Errorf("node: revoke: this user is revoked already: %w", chat.ErrState)
		}
	case api.RevokeNode:
		id, err := n.findNode(q.Who)
		if err != nil {
			return out, k, err
		}
		k = n.roster.NodeKeys(id)
		out.ID, out.Name = id.String(), n.people.NodeName(id)
		switch {
		case id == n.home.ID():
			return out, k, fmt.Errorf("node: revoke: %w: %w", ErrRevokeSelf, chat.ErrInvalid)
		case n.roster.KeyRevoked(identity.PublicKey(id)):
			return out, k, fmt.Errorf("node: revoke: this node is revoked already: %w", chat.ErrState)
		}
	}
	if len(k.Own) == 0 && len(k.Tickets) == 0 {
		return out, k, fmt.Errorf("node: revoke: nobody of that name or id is known here: %w", chat.ErrNotFound)
	}
	return out, k, nil
}

func (n *Node) findUser(who string) (id identity.UserID, err error) {
	list, err := n.roster.FindUser(who)
	switch {
	case err != nil:
		return id, fmt.Errorf("node: revoke: %w: %w", err, chat.ErrInvalid)
	case len(list) == 0:
		return id, fmt.Errorf("node: revoke: nobody of that name or id is known here: %w", chat.ErrNotFound)
	case len(list) > 1:
		return id, fmt.Errorf("node: revoke: %d users have that name, give the id (outrider user list): %w", len(list), chat.ErrState)
	}
	return list[0], nil
}

// findNode takes a node's id, or the name of the user it was issued for.
func (n *Node) findNode(who string) (id identity.NodeID, err error) {
	if id, err := identity.ParseNodeID(who); err == nil {
		return id, nil
	}
	var found []identity.NodeID
	for _, k := range n.roster.Nodes() {
		if n.people.NodeName(k.ID) == who || k.ID.Short() == who {
			found = append(found, k.ID)
		}
	}
	switch {
	case len(found) == 0:
		return id, fmt.Errorf("node: revoke: no node of that name or id is known here: %w", chat.ErrNotFound)
	case len(found) > 1:
		return id, fmt.Errorf("node: revoke: %d nodes have that name, give the id (outrider peers): %w", len(found), chat.ErrState)
	}
	return found[0], nil
}

// revokeKeys publishes the revocation with what has to go before it, and goes
// over to a new network secret. All of that is in the state file at once, so
// that a crash leaves it undone or to be finished at the next start.
func (n *Node) revokeKeys(ctx context.Context, a admin, k roster.Keys) (generation uint32, err error) {
	now := n.clock.Now()
	before, gone, err := n.beforeRevocation(a, k)
	if err != nil {
		return 0, err
	}
	o, err := n.roster.Revoke(a.key, now, gone...)
	if err != nil {
		return 0, err
	}
	next, err := n.home.startGeneration(a, n.root.ID(), o, append(before, o), n.roster, now)
	if err != nil {
		return 0, err
	}
	n.publishSoon()
	if err := n.awaitRevoked(ctx, gone); err != nil {
		return 0, err
	}
	n.learn([]roster.Generation{next})
	return next.Secret.Generation, nil
}

// beforeRevocation returns the final certificates of those who stand on the
// same ticket as the revoked and are to stay, and the keys to revoke.
func (n *Node) beforeRevocation(a admin, k roster.Keys) (objects []roster.Object, gone []identity.PublicKey, err error) {
	gone = k.Own
	is := map[identity.PublicKey]bool{}
	for _, key := range k.Own {
		is[key] = true
	}
	stay := func(list []identity.Certificate) (out []identity.Certificate) {
		for _, c := range list {
			if !is[c.Key] {
				out = append(out, c)
			}
		}
		return out
	}
	for _, e := range k.Tickets {
		users, nodes := stay(e.Users), stay(e.Nodes)
		if len(users) > 1 || len(users) > 0 && len(nodes) > 0 {
			return nil, nil, ErrTicketTwice
		}
		final, err := n.finals(a, e, users, nodes)
		if err != nil {
			return nil, nil, err
		}
		objects, gone = append(objects, final...), append(gone, e.Delegate.Key)
	}
	return objects, gone, nil
}

// awaitRevoked waits until this node's own roster has taken the keys in.
func (n *Node) awaitRevoked(ctx context.Context, keys []identity.PublicKey) error {
	for {
		changed := n.roster.Changed()
		done := true
		for _, k := range keys {
			done = done && n.roster.KeyRevoked(k)
		}
		if done {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return fmt.Errorf("node: revoke: the revocation is kept and goes out, but this node did not act on it in time: %w", ctx.Err())
		}
	}
}
