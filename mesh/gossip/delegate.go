package gossip

import (
	"errors"
	"net/netip"

	"github.com/hashicorp/memberlist"

	"outrider/mesh/identity"
)

// A delegate answers memberlist's questions. memberlist holds its lock while
// it asks, so nothing in here may call it back or wait.
type delegate struct {
	g    *Gossip
	meta []byte // ours, signed for the address of this instance
}

var (
	_ memberlist.Delegate      = (*delegate)(nil)
	_ memberlist.AliveDelegate = (*delegate)(nil)
	_ memberlist.EventDelegate = (*delegate)(nil)
)

// NodeMeta implements memberlist.Delegate.
func (d *delegate) NodeMeta(int) []byte { return d.meta }

// NotifyMsg implements memberlist.Delegate; nothing is broadcast this way.
func (d *delegate) NotifyMsg([]byte) {}

// GetBroadcasts implements memberlist.Delegate.
func (d *delegate) GetBroadcasts(int, int) [][]byte { return nil }

// LocalState implements memberlist.Delegate.
func (d *delegate) LocalState(bool) []byte { return nil }

// MergeRemoteState implements memberlist.Delegate.
func (d *delegate) MergeRemoteState([]byte, bool) {}

var errOldEpoch = errors.New("metadata is older than what we have from the live node")

// NotifyAlive implements memberlist.AliveDelegate: an entry without a valid
// signature of the node it names goes no further.
func (d *delegate) NotifyAlive(n *memberlist.Node) error {
	id, err := identity.ParseNodeID(n.Name)
	if err != nil {
		return err
	}
	if id == d.g.self {
		return nil // memberlist refutes what others say of us
	}
	at, err := nodeAddr(n.Addr, n.Port)
	if err != nil {
		return err
	}
	return d.g.vouched(id, at, n.Meta)
}

// NotifyJoin implements memberlist.EventDelegate.
func (d *delegate) NotifyJoin(n *memberlist.Node) { d.g.alive(n.Name, true) }

// NotifyUpdate implements memberlist.EventDelegate.
func (d *delegate) NotifyUpdate(n *memberlist.Node) { d.g.alive(n.Name, true) }

// NotifyLeave implements memberlist.EventDelegate.
func (d *delegate) NotifyLeave(n *memberlist.Node) { d.g.alive(n.Name, false) }

// vouched checks an entry's signature and learns from it.
func (g *Gossip) vouched(id identity.NodeID, at netip.AddrPort, meta []byte) error {
	g.mu.Lock()
	m := g.members[id]
	same := m != nil && m.at == at && string(m.raw) == string(meta)
	g.mu.Unlock()
	if same {
		return nil
	}
	opened, err := openMetadata(id, at, meta) // some 100 µs: not under the lock
	if err != nil {
		return err
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	m = g.members[id]
	if m == nil {
		if len(g.members) >= maxPeers && !g.forgetOne() {
			return errTooMany
		}
		m = &member{}
		g.members[id] = m
	}
	if m.live && opened.Epoch < m.meta.Epoch {
		return errOldEpoch
	}
	g.forgetAddrs(id, m)
	m.at, m.raw, m.meta = at, append([]byte(nil), meta...), opened
	for _, ip := range opened.ips(at) {
		g.own(id, netip.AddrPortFrom(ip, at.Port()))
	}
	if m.live {
		g.changed(id)
	}
	return nil
}

// forgetOne makes room for a member by dropping one that is not live; the
// book still has it. g.mu is held.
func (g *Gossip) forgetOne() bool {
	for id, m := range g.members {
		if !m.live && !m.told {
			g.forgetAddrs(id, m)
			delete(g.members, id)
			return true
		}
	}
	return false
}

// own notes whose gossip address this is, unless a live member has it: else
// somebody who is switched off could claim it and take the other along. g.mu
// is held.
func (g *Gossip) own(id identity.NodeID, at netip.AddrPort) {
	if m := g.members[g.owners[at]]; m != nil && m.live {
		return
	}
	g.owners[at] = id
}

// forgetAddrs takes a member's addresses from the index. g.mu is held.
func (g *Gossip) forgetAddrs(id identity.NodeID, m *member) {
	if !m.at.IsValid() {
		return
	}
	for _, ip := range m.meta.ips(m.at) {
		at := netip.AddrPortFrom(ip, m.at.Port())
		if g.owners[at] == id {
			delete(g.owners, at)
		}
	}
}

// alive notes what memberlist thinks of a node now.
func (g *Gossip) alive(name string, live bool) {
	id, err := identity.ParseNodeID(name)
	if err != nil || id == g.self {
		return
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	m := g.members[id]
	if m == nil || g.ending {
		return
	}
	m.live = live
	g.changed(id)
}

// changed puts a node on the list of what to tell. g.mu is held.
func (g *Gossip) changed(id identity.NodeID) {
	g.dirty[id] = true
	select {
	case g.news <- struct{}{}:
	default:
	}
}
