package node

import (
	"cmp"
	"context"
	"slices"
	"sync"
	"time"

	"outrider/mesh/identity"
	"outrider/node/api"
)

// operator gives the API the node itself. While the node is enrolling the
// parts that need its network are missing, and little is told.
type operator struct{ n *Node }

var _ api.Node = operator{}

func (o operator) Status(context.Context) api.Status {
	n := o.n
	s := api.Status{Node: n.home.ID(), Version: n.version, Uptime: time.Since(n.started), Locked: true}
	if m := n.home.network(); m != nil {
		s.Network, s.NetworkName = m.ID, m.Name
	}
	if n.agent == nil {
		return s
	}
	st := n.agent.Status()
	s.Bundles, s.Bytes, s.LimitBytes, s.Contacts = st.Held, st.Bytes, st.MaxByte, st.Links
	s.Syncs = n.store.Syncs()
	for _, h := range n.chat.Hosted() {
		s.Locked = s.Locked && !h.Unlocked
	}
	return s
}

// Peers lists every node that was ever heard of, the gate's included.
func (o operator) Peers(context.Context) []api.Peer {
	n := o.n
	var out []api.Peer
	if n.agent == nil {
		return out
	}
	up := map[identity.NodeID]bool{}
	for _, nb := range n.agent.Neighbours() {
		up[nb.Peer] = true
	}
	seen := map[identity.NodeID]bool{}
	known, err := n.book.Peers()
	if err != nil {
		n.log.Warn("peer book not readable", "err", err)
	}
	for _, p := range known {
		if p.ID == n.home.ID() {
			continue
		}
		seen[p.ID] = true
		out = append(out, api.Peer{ID: p.ID, Name: n.people.NodeName(p.ID), Addrs: p.Addrs, Up: up[p.ID], Blocked: !n.gate.Allowed(p.ID), LastHeard: p.LastHeard})
	}
	for _, id := range n.gate.Blocked() {
		if !seen[id] {
			out = append(out, api.Peer{ID: id, Name: n.people.NodeName(id), Blocked: true})
		}
	}
	slices.SortFunc(out, func(a, b api.Peer) int { return cmp.Or(cmp.Compare(a.Name, b.Name), a.ID.Compare(b.ID)) })
	return out
}

// Links lists the contacts of this run, with what they carried so far.
func (o operator) Links(context.Context) []api.Link {
	n := o.n
	if n.agent == nil {
		return nil
	}
	out := n.contacts.list()
	for i := range out {
		out[i].Name, out[i].Blocked = n.people.NodeName(out[i].Peer), !n.gate.Allowed(out[i].Peer)
	}
	for _, id := range n.gate.Blocked() {
		if !slices.ContainsFunc(out, func(l api.Link) bool { return l.Peer == id }) {
			out = append(out, api.Link{Peer: id, Name: n.people.NodeName(id), Blocked: true})
		}
	}
	return out
}

func (o operator) SetLink(_ context.Context, node identity.NodeID, up bool) error {
	n := o.n
	if err := n.gate.set(node, up); err != nil {
		return provisionError(err)
	}
	n.log.Info("gate changed", "peer", node.Short(), "up", up)
	if n.agent == nil {
		return nil
	}
	n.links.Recheck()
	n.gossip.Recheck()
	if up {
		n.dialer.wakeUp()
	}
	n.announceLink(node)
	return nil
}

// announceLink tells screens how a link stands.
func (n *Node) announceLink(peer identity.NodeID) {
	for _, l := range (operator{n}).Links(context.Background()) {
		if l.Peer == peer {
			n.hub.Link(l)
		}
	}
}

// contacts remembers the links of this run: those that are open, and of those
// that ended what they carried.
type contacts struct {
	mu   sync.Mutex
	byID map[identity.NodeID]*contact
}

type contact struct {
	link  api.Link
	count func() (tx, rx uint64) // of the open link, nil when there is none
	tx    uint64                 // of those that ended
	rx    uint64
}

func newContacts() *contacts { return &contacts{byID: map[identity.NodeID]*contact{}} }

func (c *contacts) of(peer identity.NodeID) *contact {
	if c.byID[peer] == nil {
		c.byID[peer] = &contact{link: api.Link{Peer: peer}}
	}
	return c.byID[peer]
}

// opened notes a link, with the way to ask what it has carried.
func (c *contacts) opened(peer identity.NodeID, addr, class string, count func() (tx, rx uint64)) {
	c.mu.Lock()
	defer c.mu.Unlock()
	k := c.of(peer)
	k.link.Addr, k.link.Class, k.link.Up, k.link.Since = addr, class, true, time.Now()
	k.count = count
}

// closed adds up what the link carried.
func (c *contacts) closed(peer identity.NodeID) {
	c.mu.Lock()
	defer c.mu.Unlock()
	k := c.of(peer)
	if k.count != nil {
		tx, rx := k.count()
		k.tx, k.rx, k.count = k.tx+tx, k.rx+rx, nil
	}
	k.link.Up, k.link.Since, k.link.LastHeard = false, time.Now(), time.Now()
}

func (c *contacts) list() []api.Link {
	c.mu.Lock()
	defer c.mu.Unlock()
	out := make([]api.Link, 0, len(c.byID))
	for _, k := range c.byID {
		l := k.link
		l.TxBytes, l.RxBytes = k.tx, k.rx
		if k.count != nil {
			tx, rx := k.count()
			l.TxBytes, l.RxBytes, l.LastHeard = l.TxBytes+tx, l.RxBytes+rx, time.Now()
		}
		out = append(out, l)
	}
	slices.SortFunc(out, func(a, b api.Link) int { return a.Peer.Compare(b.Peer) })
	return out
}
