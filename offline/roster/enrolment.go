package roster

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"time"

	"outrider/mesh/identity"
)

// An Enrolment is what has been made of one ticket, for an admin to decide
// about: the delegate, and who redeemed it.
type Enrolment struct {
	Subject  [identity.SubjectSize]byte // the user's id, or the ticket's for nodes only
	Name     string                     // what the user is called; empty if unknown
	Delegate identity.Certificate
	// Users and Nodes stand on the delegate alone and are not revoked. More
	// than one user is a conflict.
	Users []identity.Certificate
	Nodes []identity.Certificate
}

// Enrolments lists the tickets that are neither revoked nor ended, with what
// still waits for an admin's final certificate, by subject. A ticket that
// nobody has redeemed yet is among them.
func (r *Roster) Enrolments() []Enrolment {
	r.mu.RLock()
	defer r.mu.RUnlock()
	var out []Enrolment
	for _, chain := range r.state.issuers {
		d := chain.Leaf()
		if d.Class != identity.ClassDelegate || !r.usable(chain) {
			continue
		}
		e := Enrolment{Subject: [identity.SubjectSize]byte(d.Subject), Delegate: d}
		e.Name = r.nameOf(identity.UserID(d.Subject))
		e.Users = r.redeemedUsers(d)
		e.Nodes = r.redeemedNodes(d)
		if len(e.Users) == 0 && len(e.Nodes) == 0 && r.spent(d) {
			continue
		}
		out = append(out, e)
	}
	slices.SortFunc(out, func(a, b Enrolment) int {
		if c := bytes.Compare(a.Subject[:], b.Subject[:]); c != 0 {
			return c
		}
		return bytes.Compare(a.Delegate.Raw(), b.Delegate.Raw())
	})
	return out
}

// spent reports whether an admin has closed all that a delegate may certify.
// The lock is held.
func (r *Roster) spent(d identity.Certificate) bool {
	node := uint64(d.Generation) < r.state.closed[[identity.SubjectSize]byte(d.Subject)]
	final, ok := r.state.finalGeneration(identity.UserID(d.Subject))
	user := ok && d.Generation <= final
	if d.Roles&identity.RoleUser == 0 {
		return node
	}
	return user // whose node may have been in the network before
}

func (r *Roster) redeemedUsers(d identity.Certificate) (out []identity.Certificate) {
	for _, o := range r.state.users[identity.UserID(d.Subject)] {
		if o.chain.Provisional() && o.cert.Issuer == d.Key.ID() && r.usable(o.chain) && !r.state.ticketClosed(o.chain) {
			out = append(out, o.cert)
		}
	}
	sortCertificates(out)
	return out
}

func (r *Roster) redeemedNodes(d identity.Certificate) (out []identity.Certificate) {
	for _, list := range r.state.nodes {
		for _, o := range list {
			if o.chain.Provisional() && o.cert.Issuer == d.Key.ID() && r.usable(o.chain) && !r.state.ticketClosed(o.chain) {
				out = append(out, o.cert)
			}
		}
	}
	sortCertificates(out)
	return out
}

func sortCertificates(list []identity.Certificate) {
	slices.SortFunc(list, func(a, b identity.Certificate) int { return bytes.Compare(a.Key[:], b.Key[:]) })
}

// nameOf is what a user is called whatever stands for them now. The lock is
// held.
func (r *Roster) nameOf(id identity.UserID) string {
	if name := r.name(id, r.current(id)); name != "" {
		return name
	}
	var best *object
	for _, p := range r.state.profiles[id] {
		if best == nil || p.wins(best) {
			best = p
		}
	}
	if best == nil {
		return ""
	}
	return best.profile.name
}

// Keys is what to revoke of a user or a node, and what stands or falls with
// it.
type Keys struct {
	Own []identity.PublicKey // every key that a live certificate gives it
	// Tickets are the delegates that could make it anew. To revoke one takes
	// down all that stands on it, so the others are confirmed first.
	Tickets []Enrolment
}

// UserKeys returns what to revoke of a user.
func (r *Roster) UserKeys(id identity.UserID) Keys {
	var k Keys
	r.mu.RLock()
	for _, o := range r.state.users[id] {
		if !r.state.chainRevoked(o.chain) {
			k.Own = append(k.Own, o.cert.Key)
		}
	}
	r.mu.RUnlock()
	for _, e := range r.Enrolments() {
		if e.Subject == id && e.Delegate.Roles&identity.RoleUser != 0 {
			k.Tickets = append(k.Tickets, e)
		}
	}
	return k
}

// NodeKeys returns what to revoke of a node. Its key is its id, known or not.
func (r *Roster) NodeKeys(id identity.NodeID) Keys {
	k := Keys{Own: []identity.PublicKey{identity.PublicKey(id)}}
	for _, e := range r.Enrolments() {
		if slices.ContainsFunc(e.Nodes, func(c identity.Certificate) bool { return c.NodeID() == id }) {
			k.Tickets = append(k.Tickets, e)
		}
	}
	return k
}

// FindUser returns the users that a name or an id stands for, those included
// whose link nobody has used yet.
func (r *Roster) FindUser(nameOrID string) ([]identity.UserID, error) {
	if id, err := identity.ParseUserID(nameOrID); err == nil {
		return []identity.UserID{id}, nil
	}
	if nameOrID == "" || len(nameOrID) > MaxName {
		return nil, fmt.Errorf("roster: find user: %w", identity.ErrMalformed)
	}
	r.mu.RLock()
	defer r.mu.RUnlock()
	var out []identity.UserID
	for id := range r.state.profiles {
		if strings.EqualFold(r.nameOf(id), nameOrID) {
			out = append(out, id)
		}
	}
	slices.SortFunc(out, identity.UserID.Compare)
	return out, nil
}

// Ending lists the final certificates of users and nodes that end before a
// time, are still valid and not revoked: what an admin renews. Guests are
// invited anew instead.
func (r *Roster) Ending(before time.Time) (out []identity.Certificate) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	for _, list := range r.state.users {
		out = append(out, r.ending(list, before)...)
	}
	for _, list := range r.state.nodes {
		out = append(out, r.ending(list, before)...)
	}
	sortCertificates(out)
	return out
}

// ending picks the newest final certificate if it ends. The lock is held.
func (r *Roster) ending(list []*object, before time.Time) []identity.Certificate {
	var best *object
	for _, o := range list {
		if !o.chain.Provisional() && r.usable(o.chain) && (best == nil || o.wins(best)) {
			best = o
		}
	}
	if best == nil || best.cert.Guest() || !best.cert.NotAfter.Before(before) {
		return nil
	}
	return []identity.Certificate{best.cert}
}

// UserChain returns the best chain known for a user's key, the final one if an
// admin has issued it; nil if there is none that counts now.
func (r *Roster) UserChain(user identity.UserID, key identity.PublicKey) identity.Chain {
	r.mu.RLock()
	defer r.mu.RUnlock()
	o := r.state.userWithKey(user, key.ID())
	if o == nil || !r.usable(o.chain) || r.state.ticketClosed(o.chain) {
		return nil
	}
	return o.chain
}
