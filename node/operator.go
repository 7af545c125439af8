package node

import (
	"cmp"
	"context"
	"slices"
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
	s := api.Status{Node: n.home.ID(), Version: n.version, Uptime: time.Since(n.started), Locked: true, Refused: n.turnedAway.get(n.refused)}
	if m := n.home.network(); m != nil {
		s.Network, s.NetworkName = m.ID, m.Name
	}
	if n.agent == nil {
		return s
	}
	st := n.agentStatus.get(n.agent.Status)
	s.Bundles, s.Bytes, s.LimitBytes, s.Contacts = st.Held, st.Bytes, st.MaxByte, len(n.linked())
	s.Syncs = n.store.Syncs()
	s.Warnings = n.warnings()
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
	for _, id := range n.linked() {
		up[id] = true
	}
	heard := map[identity.NodeID]time.Time{} // on links; the book has what gossip heard
	for _, l := range n.contacts.list() {
		heard[l.Peer] = l.LastHeard
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
		out = append(out, api.Peer{ID: p.ID, Name: n.people.NodeName(p.ID), Addrs: p.Addrs, Up: up[p.ID], Blocked: !n.gate.Allowed(p.ID), LastHeard: newer(p.LastHeard, heard[p.ID])})
	}
	for _, id := range n.gate.Blocked() {
		if !seen[id] {
			out = append(out, api.Peer{ID: id, Name: n.people.NodeName(id), Blocked: true})
		}
	}
	slices.SortFunc(out, func(a, b api.Peer) int { return cmp.Or(cmp.Compare(a.Name, b.Name), a.ID.Compare(b.ID)) })
	return out
}

// newer is the later of two times.
func newer(a, b time.Time) time.Time {
	if b.After(a) {
		return b
	}
	return a
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

// Contacts lists who was near in the last day.
func (o operator) Contacts(context.Context) ([]api.Contact, error) {
	n := o.n
	if n.agent == nil {
		return nil, nil
	}
	out := n.contacts.history()
	for i := range out {
		out[i].Name = n.people.NodeName(out[i].Peer)
	}
	return out, nil
}
