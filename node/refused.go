package node

import (
	"log/slog"

	"outrider/mesh/crowd"
	"outrider/node/api"
)

// guests are who comes to the node's own listeners, each kind apart.
type guests struct{ page, handout, socket, metrics *api.Guests }

func newGuests(log *slog.Logger) guests {
	return guests{
		page: api.NewGuests("page", log), handout: api.NewGuests("page-ca", log), socket: api.NewGuests("socket", log),
		metrics: api.NewScrapers("metrics", log),
	}
}

// refused reports who was turned away at the node's listeners, each kind
// apart. While the node is enrolling, those of mesh and gossip are not told.
func (n *Node) refused() (out []crowd.Report) {
	for _, g := range []*api.Guests{n.guests.page, n.guests.handout, n.guests.socket, n.guests.metrics} {
		if g != nil {
			out = append(out, g.Refused()...)
		}
	}
	if n.agent == nil {
		return out
	}
	out = append(out, n.gossip.Refused()...)
	return append(out, n.links.Refused())
}
