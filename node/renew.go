package node

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"outrider/mesh/identity"
	"outrider/node/api"
	"outrider/offline/roster"
)

// renewAhead is how long before its end a certificate is renewed. A node that
// is away for a month still finds its new one when it comes back.
const renewAhead = 30 * 24 * time.Hour

// ErrClockWrong means that the clock stands below what is certain: what it
// would issue might be void.
var ErrClockWrong = errors.New("this node's clock is behind a time that an admin has signed; set it, then try again")

// ErrAdminLocked means that a decision needs the admin key, and neither its
// password was given nor was it unlocked.
var ErrAdminLocked = errors.New("the admin password is needed")

// An adminDesk is where a node with an admin key confirms and renews: by
// command, or by itself while the key is unlocked.
type adminDesk struct {
	wake chan struct{} // 1 deep: look for work now

	mu       sync.Mutex
	unlocked *admin // while the operator keeps the key open

	work   sync.Mutex      // one at a time decides
	issued map[string]bool // certificates that were replaced in this run
}

func newAdminDesk() adminDesk {
	return adminDesk{wake: make(chan struct{}, 1), issued: map[string]bool{}}
}

// adminKey returns the admin key: unlocked with the password, or as it was
// left unlocked.
func (n *Node) adminKey(ctx context.Context, password []byte) (admin, error) {
	if len(password) > 0 {
		return n.home.openAdmin(ctx, password)
	}
	n.admin.mu.Lock()
	defer n.admin.mu.Unlock()
	if n.admin.unlocked == nil {
		return admin{}, ErrAdminLocked
	}
	return *n.admin.unlocked, nil
}

// UnlockAdmin keeps the admin key in memory, so that this node confirms and renews
// by itself.
func (p provision) UnlockAdmin(ctx context.Context, password []byte) error {
	a, err := p.n.home.openAdmin(ctx, password)
	if err != nil {
		return provisionError(err)
	}
	d := &p.n.admin
	d.mu.Lock()
	d.unlocked = &a
	d.mu.Unlock()
	select {
	case d.wake <- struct{}{}:
	default:
	}
	return nil
}

// LockAdmin forgets the admin key.
func (p provision) LockAdmin(context.Context) error {
	p.n.admin.mu.Lock()
	defer p.n.admin.mu.Unlock()
	p.n.admin.unlocked = nil
	return nil
}

// Renew does once what an unlocked node does by itself.
func (p provision) Renew(ctx context.Context, password []byte) (api.Admitted, error) {
	if p.n.agent == nil {
		return api.Admitted{}, errEnrolling
	}
	a, err := p.n.adminKey(ctx, password)
	if err != nil {
		return api.Admitted{}, provisionError(err)
	}
	return p.n.serveAdmin(a)
}

// administer confirms enrolments and renews certificates while the admin key
// is unlocked: when the roster changes, and now and then.
func (n *Node) administer(ctx context.Context) error {
	tick := time.NewTicker(time.Hour)
	defer tick.Stop()
	for {
		changed := n.roster.Changed()
		if a, err := n.adminKey(ctx, nil); err == nil {
			done, err := n.serveAdmin(a)
			if err != nil {
				n.log.Warn("nobody is confirmed or renewed", "err", err)
			} else if done != (api.Admitted{}) {
				n.log.Info("certificates issued", "users", done.Users, "nodes", done.Nodes)
			}
		}
		select {
		case <-ctx.Done():
			return nil
		case <-changed:
		case <-n.admin.wake:
		case <-tick.C:
		}
	}
}

// serveAdmin confirms every enrolment without conflict and renews what ends
// soon. What was issued a moment ago and has not come round to the roster is
// not issued twice.
func (n *Node) serveAdmin(a admin) (sum api.Admitted, err error) {
	n.admin.work.Lock()
	defer n.admin.work.Unlock()
	for _, e := range n.roster.Enrolments() {
		if len(e.Users) > 1 || len(e.Nodes) > 1 {
			continue // only a person can tell who is who
		}
		users, nodes := n.notIssued(e.Users), n.notIssued(e.Nodes)
		if len(users)+len(nodes) == 0 {
			continue
		}
		done, err := n.confirm(a, e, users, nodes)
		if err != nil {
			return sum, err
		}
		n.noteIssued(users)
		n.noteIssued(nodes)
		sum.Users, sum.Nodes = sum.Users+done.Users, sum.Nodes+done.Nodes
	}
	done, err := n.renewEnding(a)
	return api.Admitted{Users: sum.Users + done.Users, Nodes: sum.Nodes + done.Nodes}, err
}

// renewEnding issues the final certificates anew that end soon.
func (n *Node) renewEnding(a admin) (sum api.Admitted, err error) {
	var objects []roster.Object
	now := n.clock.Now()
	ending := n.notIssued(n.roster.Ending(now.Add(renewAhead)))
	if len(ending) > 0 && n.clock.Suspect() {
		return sum, provisionError(ErrClockWrong)
	}
	for _, c := range ending {
		valid := nodeValidity
		if c.Class == identity.ClassUser {
			valid = userValidity
			sum.Users++
		} else {
			sum.Nodes++
		}
		c, err := identity.Issue(n.root.ID(), a.key, identity.Certificate{
			Class: c.Class, Subject: c.Subject, Key: c.Key, Roles: c.Roles, Generation: c.Generation,
			NotBefore: now.Add(-backdate), NotAfter: now.Add(valid - backdate),
		})
		if err != nil {
			return api.Admitted{}, fmt.Errorf("node: renew: %w", err)
		}
		objects = append(objects, roster.Certificate(identity.Chain{c, a.cert}))
	}
	if len(objects) == 0 {
		return sum, nil
	}
	if err := n.home.addPublications(objects); err != nil {
		return api.Admitted{}, provisionError(err)
	}
	n.noteIssued(ending)
	n.publishSoon()
	return sum, nil
}

// notIssued leaves out certificates that were replaced in this run.
func (n *Node) notIssued(list []identity.Certificate) (out []identity.Certificate) {
	for _, c := range list {
		if !n.admin.issued[string(c.Raw())] {
			out = append(out, c)
		}
	}
	return out
}

func (n *Node) noteIssued(list []identity.Certificate) {
	for _, c := range list {
		n.admin.issued[string(c.Raw())] = true
	}
}
