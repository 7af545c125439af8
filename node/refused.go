package node

import "outrider/mesh/crowd"

// refused reports who was turned away at the node's listeners, each kind
// apart. While the node is enrolling only those of the page are told.
func (n *Node) refused() []crowd.Report {
	var out []crowd.Report
	if n.guests != nil {
		out = append(out, n.guests.Refused()...)
	}
	if n.agent == nil {
		return out
	}
	out = append(out, n.gossip.Refused()...)
	return append(out, n.links.Refused())
}
