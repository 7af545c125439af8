package node

import (
	"context"
	"errors"
	"fmt"
	"time"

	"golang.org/x/sync/errgroup"

	"outrider/mesh/cla"
	"outrider/mesh/cla/p2p"
	"outrider/mesh/gossip"
	"outrider/mesh/identity"
	"outrider/node/api"
	"outrider/node/chat"
)

// errEnrolling is what users are told while the root record is missing.
var errEnrolling = fmt.Errorf("node: still looking for a first neighbour; check that one of the join link's addresses can be reached: %w", chat.ErrBusy)

// enrol looks for neighbours until one hands over the root record whose hash
// the join link carried. Nobody can be judged before, so nobody is admitted
// and nothing but the record is taken.
func (n *Node) enrol(ctx context.Context, m *membership, d *doors, ready func(Ready)) error {
	n.log.Info("looking for a first neighbour", "seeds", len(m.Seeds))
	links, err := n.newLinks(stranger{m.Chain}, nil)
	if err != nil {
		return err
	}
	g, err := n.newGossip(m, newBook(nil), seeking(gossip.ProfileOf(n.cfg.LinkClass())))
	if err != nil {
		return err
	}
	byStick := rootSeeker{m.ID, make(chan *identity.RootRecord)}
	server := api.New(api.Config{
		Hosts: d.hosts, HostAllowed: d.page.hostAllowed, Chat: nobody{}, Node: operator{n},
		Provision: provision{n}, Door: d.page, Carrier: byStick, Configs: noConfigs{}, Hub: n.hub, Web: n.page(), Log: n.log, Health: n.health,
	})
	ctx, done := context.WithCancel(ctx)
	defer done()
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return links.Run(ctx, func(context.Context, cla.Link) {}) })
	group.Go(func() error { return g.Run(ctx) })
	group.Go(func() error {
		return d.serve(ctx, server, func() { ready(n.ready(m, d)) }, links.Ready(), g.Ready())
	})
	group.Go(func() error {
		defer done()
		root, err := fetchRoot(ctx, g, links, m.ID, byStick.found)
		if err != nil {
			return ignoreEnd(ctx, err)
		}
		n.log.Info("met the network", "network", root.ID().Short())
		return n.home.setRoot(root)
	})
	return group.Wait()
}

// seeking is how neighbours are sought while there is none: a node that joins
// has a person in front of it, and little to say that could crowd the air.
func seeking(p gossip.Profile) gossip.Profile {
	p.RejoinInterval /= 6
	p.RejoinMax = 2 * p.RejoinInterval
	return p
}

func ignoreEnd(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return nil
	}
	return err
}

// askAgain is the pause before a neighbour is asked for the record again.
const askAgain = 2 * time.Second

// fetchRoot asks each neighbour that gossip tells of, until one has the root
// record with hash id, or a stick brings it.
func fetchRoot(ctx context.Context, g *gossip.Gossip, links *p2p.Layer, id identity.NetworkID, byStick <-chan *identity.RootRecord) (*identity.RootRecord, error) {
	tick := time.NewTicker(askAgain)
	defer tick.Stop()
	for {
		for _, nb := range g.Members() {
			raw, err := links.FetchRoot(ctx, nb.ID, nb.Addrs)
			if err != nil {
				continue // not in reach, or it has none either
			}
			if root, err := identity.ParseRoot(raw); err == nil && root.ID() == id {
				return root, nil
			}
		}
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case root := <-byStick:
			return root, nil
		case <-g.Changes():
		case <-tick.C:
		}
	}
}

// stranger is the admission of a node that cannot judge anybody yet.
type stranger struct{ chain []byte }

func (s stranger) Hello() []byte      { return s.chain }
func (s stranger) RootRecord() []byte { return nil }
func (s stranger) Admit(identity.NodeID, []byte) (time.Time, error) {
	return time.Time{}, errors.New("node: this node has no root record yet")
}

// nobody is chat while the node is enrolling.
type nobody struct{}

func (nobody) Login(context.Context, string, []byte) (api.User, error) { return nil, errEnrolling }
func (nobody) Lock(identity.UserID)                                    {}
func (nobody) Banner() chat.Banner                                     { return chat.Banner{State: chat.BannerAlone} }
func (nobody) Hosted() []chat.Hosted                                   { return nil }
