package roster

import (
	"bytes"
	"slices"
	"strings"
	"time"

	"outrider/mesh/identity"
)

// A User is a person, as far as this node has heard.
type User struct {
	ID          identity.UserID
	Name        string             // display name; empty if none has arrived
	Key         identity.PublicKey // of the current certificate
	Generation  uint32
	Roles       identity.Role
	Provisional bool // an admin has not confirmed the enrolment yet
	// Frozen: one ticket was redeemed twice. Until an admin decides, the user
	// may receive and what it sends must not be accepted.
	Frozen bool
	Until  time.Time // when the certificate ends
}

// A Device is one user on one node.
type Device struct {
	ID         identity.DeviceID
	User       identity.UserID
	Key        identity.PublicKey
	Chain      identity.Chain
	Prekey     *identity.PrekeyBundle // the newest known, possibly stale; nil if none has arrived
	LastResort *identity.PrekeyBundle // nil if none has arrived
}

// Users returns everybody with a valid certificate, by name and then by id.
func (r *Roster) Users() []User {
	r.mu.RLock()
	defer r.mu.RUnlock()
	var out []User
	for id := range r.state.users {
		if u, ok := r.user(id); ok {
			out = append(out, u)
		}
	}
	slices.SortFunc(out, func(a, b User) int {
		if c := strings.Compare(strings.ToLower(a.Name), strings.ToLower(b.Name)); c != 0 {
			return c
		}
		return a.ID.Compare(b.ID)
	})
	return out
}

// User returns one user, if there is a valid certificate.
func (r *Roster) User(id identity.UserID) (User, bool) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return r.user(id)
}

// Heard returns what a user without a valid certificate is called, empty if
// nobody has said so, and whether anything here names them at all: a
// certificate that has ended, a profile, or a ticket.
func (r *Roster) Heard(id identity.UserID) (name string, known bool) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	name = r.name(id, r.current(id))
	known = len(r.state.users[id]) > 0 || len(r.state.profiles[id]) > 0
	for _, chain := range r.state.issuers {
		known = known || invites(chain.Leaf(), id)
	}
	return name, known
}

// invites reports whether a certificate is the ticket of a user.
func invites(c identity.Certificate, id identity.UserID) bool {
	return c.Class == identity.ClassDelegate && c.Roles&identity.RoleUser != 0 && identity.UserID(c.Subject) == id
}

// Invited returns those whose join link is open and was not used yet, as far
// as is known here; they have no certificate.
func (r *Roster) Invited() (out []User) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	seen := map[identity.UserID]bool{}
	for _, chain := range r.state.issuers {
		c := chain.Leaf()
		if c.Class != identity.ClassDelegate || c.Roles&identity.RoleUser == 0 || !r.usable(chain) {
			continue
		}
		id := identity.UserID(c.Subject)
		if certs := r.current(id); len(certs) == 0 && !seen[id] {
			seen[id] = true
			out = append(out, User{ID: id, Name: r.name(id, nil)})
		}
	}
	slices.SortFunc(out, func(a, b User) int { return a.ID.Compare(b.ID) })
	return out
}

// ByKey finds the user whose current certificate is for key, and its chain. A
// user who is frozen is not found: an admin has to decide first.
func (r *Roster) ByKey(key identity.PublicKey) (identity.UserID, identity.Chain, bool) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	id, ok := r.state.userKeys[key.ID()]
	if !ok {
		return id, nil, false
	}
	certs := r.current(id)
	if len(certs) != 1 || certs[0].cert.Key != key {
		return id, nil, false
	}
	return id, slices.Clone(certs[0].chain), true
}

// ByName returns the users with a display name, capitals aside. Names are not
// unique: nobody hands them out.
func (r *Roster) ByName(name string) []User {
	var out []User
	for _, u := range r.Users() {
		if strings.EqualFold(u.Name, name) {
			out = append(out, u)
		}
	}
	return out
}

// Holders returns whom a name belongs to, capitals aside: the users who bear
// it, and those whose link can still be redeemed.
func (r *Roster) Holders(name string) (out []identity.UserID) {
	for _, u := range r.ByName(name) {
		out = append(out, u.ID)
	}
	for _, e := range r.Enrolments() {
		id := identity.UserID(e.Subject)
		if e.Delegate.Roles&identity.RoleUser != 0 && strings.EqualFold(e.Name, name) && !slices.Contains(out, id) {
			out = append(out, id)
		}
	}
	return out
}

// Met reports whether a user's name and a certificate made for them have
// arrived, valid or not.
func (r *Roster) Met(id identity.UserID) bool {
	r.mu.RLock()
	defer r.mu.RUnlock()
	if len(r.state.profiles[id]) == 0 {
		return false
	}
	if len(r.state.users[id]) > 0 {
		return true
	}
	for _, chain := range r.state.issuers {
		if d := chain.Leaf(); d.Class == identity.ClassDelegate && identity.UserID(d.Subject) == id {
			return true
		}
	}
	return false
}

// NameIn returns the display name that a sealed object gives, if it is such an
// object and genuine as far as its seal tells.
func (r *Roster) NameIn(payload []byte) (id identity.UserID, name string, ok bool) {
	plain, _, err := r.open(payload)
	if err != nil {
		return id, "", false
	}
	o, err := parseObject(plain)
	if err != nil || o.Kind != KindProfile {
		return id, "", false
	}
	return o.profile.user, o.profile.name, true
}

// user makes the view of one user. The lock is held.
func (r *Roster) user(id identity.UserID) (User, bool) {
	certs := r.current(id)
	if len(certs) == 0 {
		return User{}, false
	}
	c := certs[0]
	return User{
		ID: id, Name: r.name(id, certs), Key: c.cert.Key, Generation: c.cert.Generation, Roles: c.cert.Roles,
		Provisional: c.chain.Provisional(), Frozen: len(certs) > 1, Until: c.chain.Until(),
	}, true
}

// current returns the certificates that stand for a user now: normally one,
// of the highest generation; more if a ticket was redeemed more than once.
func (r *Roster) current(id identity.UserID) (out []*object) {
	for _, o := range r.state.users[id] {
		if !r.usable(o.chain) {
			continue
		}
		switch {
		case len(out) > 0 && o.cert.Generation < out[0].cert.Generation:
			continue
		case len(out) > 0 && o.cert.Generation > out[0].cert.Generation:
			out = out[:0]
		}
		out = append(out, o)
	}
	slices.SortFunc(out, func(a, b *object) int { return bytes.Compare(a.sum[:], b.sum[:]) })
	return out
}

// usable reports whether a chain counts now. The lock is held.
func (r *Roster) usable(c identity.Chain) bool {
	return c != nil && !r.state.chainRevoked(c) && c.CheckTime(r.clock) == nil
}

// name returns what the user's devices, or failing them an admin, say the
// user is called: the highest number, a device's word before an admin's.
func (r *Roster) name(id identity.UserID, certs []*object) string {
	var best *object
	byDevice := false
	for _, p := range r.state.profiles[id] {
		chain := r.state.signerChain(p.signer)
		if !r.usable(chain) {
			continue
		}
		device := chain.Leaf().Class == identity.ClassDevice
		if device && !slices.ContainsFunc(certs, func(o *object) bool { return o.cert.Key.ID() == chain.Leaf().Issuer }) {
			continue // of a device whose user key has been replaced
		}
		if best == nil || device && !byDevice || device == byDevice && p.wins(best) {
			best, byDevice = p, device
		}
	}
	if best == nil {
		return ""
	}
	return best.profile.name
}

// Devices returns the user's valid devices, by id.
func (r *Roster) Devices(user identity.UserID) []Device {
	r.mu.RLock()
	defer r.mu.RUnlock()
	certs := r.current(user)
	var out []Device
	for id := range r.state.ofUser[user] {
		d, ok := r.device(id)
		if ok && d.User == user && slices.ContainsFunc(certs, func(o *object) bool { return o.cert.Key.ID() == d.Chain.Leaf().Issuer }) {
			out = append(out, d)
		}
	}
	slices.SortFunc(out, func(a, b Device) int { return a.ID.Compare(b.ID) })
	return out
}

// Device returns one device, if it and its user have valid certificates. A
// message from it may still have to be refused: see User.Frozen.
func (r *Roster) Device(id identity.DeviceID) (Device, bool) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	d, ok := r.device(id)
	if !ok || !slices.ContainsFunc(r.current(d.User), func(o *object) bool { return o.cert.Key.ID() == d.Chain.Leaf().Issuer }) {
		return Device{}, false
	}
	return d, true
}

// device makes the view of one device. The lock is held.
func (r *Roster) device(id identity.DeviceID) (Device, bool) {
	chain := r.state.deviceChain(id)
	if !r.usable(chain) {
		return Device{}, false
	}
	leaf := chain.Leaf()
	d := Device{ID: id, User: leaf.UserID(), Key: leaf.Key, Chain: chain}
	if o := r.state.prekeys[id]; o != nil {
		p := o.prekey
		d.Prekey = &p
	}
	if o := r.state.lastResort[id]; o != nil {
		p := o.prekey
		d.LastResort = &p
	}
	return d, true
}

// Conflicts returns the certificates that stand against each other for a
// frozen user, for an admin to choose from; nil for any other.
func (r *Roster) Conflicts(user identity.UserID) []identity.Certificate {
	r.mu.RLock()
	defer r.mu.RUnlock()
	certs := r.current(user)
	if len(certs) < 2 {
		return nil
	}
	var out []identity.Certificate
	for _, o := range certs {
		out = append(out, o.cert)
	}
	return out
}

// A Node is a box with a certificate published as a control object. Nodes
// are admitted by their hello; this list is for people.
type Node struct {
	ID          identity.NodeID
	Roles       identity.Role
	Provisional bool
	Subject     []byte // the ticket's subject, empty for nodes issued directly
	Until       time.Time
}

// Nodes returns the nodes whose valid certificates have arrived, by id.
func (r *Roster) Nodes() []Node {
	r.mu.RLock()
	defer r.mu.RUnlock()
	var out []Node
	for id, list := range r.state.nodes {
		var best *object
		for _, o := range list {
			if r.usable(o.chain) && !r.state.ticketClosed(o.chain) && (best == nil || o.wins(best)) {
				best = o
			}
		}
		if best != nil {
			out = append(out, Node{id, best.cert.Roles, best.chain.Provisional(), best.cert.Subject, best.chain.Until()})
		}
	}
	slices.SortFunc(out, func(a, b Node) int { return a.ID.Compare(b.ID) })
	return out
}
