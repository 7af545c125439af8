// Package node is the composition root: it makes one node out of the agent,
// its links, the store, the roster, chat and the API, and runs it. Only this
// package knows everybody; what two parts need of each other is translated
// here, in one file for each pair.
//
// A Home is the node's folder: identity, network, users. A Node is a Home that
// runs. A node that has joined but met nobody yet first looks for a neighbour
// to hand it the network's root record (enrol.go), and only then can tell
// friend from stranger.
package node

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"runtime/debug"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"outrider/mesh"
	"outrider/mesh/cla/p2p"
	"outrider/mesh/crowd"
	"outrider/mesh/gossip"
	"outrider/mesh/identity"
	"outrider/node/api"
	"outrider/node/chat"
	"outrider/node/config"
	"outrider/offline/roster"
	"outrider/store"
)

// Options is what a node is made of. Log and Web may be nil.
type Options struct {
	Home    *Home
	Config  config.Config
	Version string
	Web     http.Handler // the page
	Log     *slog.Logger
}

// Ready is what a node says once it takes requests.
type Ready struct {
	Node    identity.NodeID
	Network string // name
	Socket  string
	Pages   []string // URLs
}

// A Node runs on a Home.
type Node struct {
	home    *Home
	cfg     config.Config
	version string
	web     http.Handler
	log     *slog.Logger
	started time.Time

	clock  *roster.Clock
	gate   *gate
	hub    *api.Hub
	meter  *meter
	guests guests

	agentStatus recent[mesh.Status]
	turnedAway  recent[[]crowd.Report]
	lastCarry   atomic.Pointer[api.HealthCarry]

	// Set once the root record is known.
	root   *identity.RootRecord
	store  *store.Store
	roster *roster.Roster
	agent  *mesh.Shell
	links  *p2p.Layer
	gossip *gossip.Gossip
	chat   *chat.Service
	book   *book
	dialer *dialer
	post   *post
	raw    *rawTags
	people people
	bridge *bridge // nil: the settings leave it off
	where  *whereabouts
	core   *uplink // nil: the settings name none
	holds  *holds
	calls  *calls    // nil: the settings leave them off
	rules  *policies // what admins decided for users

	accounts *accounts
	pageDoor *page

	contacts   *contacts
	toPublish  chan struct{}
	newSecrets chan struct{} // 1 deep: the network secrets have changed
	heads      string        // digest of revocations told last; hear's alone
	admin      adminDesk
	watch      clockWatch
}

// New makes a node. Nothing is opened or started before Run.
func New(o Options) *Node {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	n := &Node{
		home: o.Home, cfg: o.Config, version: o.Version, web: o.Web, log: o.Log, started: time.Now(),
		clock: o.Home.clock(), gate: newGate(o.Home), hub: api.NewHub(), meter: newMeter(), toPublish: make(chan struct{}, 1), newSecrets: make(chan struct{}, 1), admin: newAdminDesk(), watch: newClockWatch(),
	}
	n.accounts = &accounts{n: n}
	return n
}

// Run serves until ctx ends or a part the node cannot live without fails. It
// calls ready once, when requests are taken. When it has returned, no
// goroutine of the node is left.
func (n *Node) Run(ctx context.Context, ready func(Ready)) error {
	m := n.home.network()
	if m == nil {
		return fmt.Errorf("node: up: %w", ErrNoNetwork)
	}
	doors, err := openDoors(n.home, n.cfg, n.clock.Now, n.log)
	if err != nil {
		return portHint(err)
	}
	doors.Log = n.log
	n.guests = newGuests(n.log)
	doors.Guests, doors.Locals, doors.page.handout.guests = n.guests.page, n.guests.socket, n.guests.handout
	n.pageDoor = doors.page
	figures, err := listenMetrics(n.cfg)
	if err != nil {
		return portHint(errors.Join(err, doors.close()))
	}
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return doors.Serve(ctx, doors) })
	g.Go(func() error { return doors.page.run(ctx) })
	g.Go(func() error { return n.serveMetrics(ctx, figures) })
	g.Go(func() error { return n.live(ctx, m, doors, ready) })
	return portHint(g.Wait())
}

// live is the node's life behind its doors: enrolling if it must, then whole.
func (n *Node) live(ctx context.Context, m *membership, doors *doors, ready func(Ready)) (err error) {
	if m.Root == nil {
		if err := n.enrol(ctx, m, doors, ready); err != nil || ctx.Err() != nil {
			return err
		}
		ready = func(Ready) {}
		m = n.home.network()
	}
	if n.root, err = identity.ParseRoot(m.Root); err != nil {
		return fmt.Errorf("node: up: %w", err)
	}
	return n.serve(ctx, m, doors, ready)
}

// serve runs the whole node.
func (n *Node) serve(ctx context.Context, m *membership, doors *doors, ready func(Ready)) (err error) {
	if n.store, err = store.Open(n.home.path("db"), n.storeOptions()); err != nil {
		return fmt.Errorf("node: up: %w", err)
	}
	defer func() { err = errors.Join(err, n.store.Close()) }() // opened first, closed last
	if err := n.assemble(m); err != nil {
		return err
	}
	if n.bridge, err = n.newBridge(); err != nil {
		return err
	}
	n.core = n.newUplink()
	n.where = newWhereabouts(n)
	n.meter.begin()
	defer n.meter.end()
	events := n.agent.Events() // before anything can happen
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return n.keepFloor(ctx) })
	g.Go(func() error { return settleDown(ctx) })
	g.Go(func() error { return n.agent.Run(ctx) })
	g.Go(func() error { return n.hear(ctx, events) })
	g.Go(func() error { return n.chat.Run(ctx) })
	g.Go(func() error { return n.publish(ctx) })
	g.Go(func() error { return n.bridge.run(ctx) })
	g.Go(func() error { return n.core.run(ctx) })
	g.Go(func() error { return n.calls.run(ctx) })
	g.Go(func() error { return n.where.receiver.Run(ctx) })
	g.Go(func() error { return n.where.run(ctx) })
	g.Go(func() error { return n.followSecrets(ctx) })
	g.Go(func() error { return n.administer(ctx) })
	g.Go(func() error { return n.watchClock(ctx) })
	g.Go(func() error { return n.rules.run(ctx) })
	g.Go(func() error { return n.links.Run(ctx, n.serveLink) })
	g.Go(func() error { return n.gossip.Run(ctx) })
	g.Go(func() error { return n.dialer.run(ctx) })
	g.Go(func() error { return n.contacts.run(ctx) })
	g.Go(func() error {
		return doors.serve(ctx, n.server(doors), func() { ready(n.ready(m, doors)) }, n.links.Ready(), n.gossip.Ready())
	})
	return g.Wait()
}

// storeOptions are the settings in the store's words. A limit of 0 is meant:
// for the store it would be its default.
func (n *Node) storeOptions() store.Options {
	return store.Options{
		MaxBytes: uint64(n.cfg.StoreLimit()), MaxBlobBytes: uint64(max(1, n.cfg.FilesLimit())), FreeFloor: uint64(max(1, n.cfg.FreeFloor())), Log: n.log,
	}
}

func (n *Node) ready(m *membership, d *doors) Ready {
	return Ready{Node: n.home.ID(), Network: m.Name, Socket: n.home.path(socketName), Pages: d.urls()}
}

// settleDown gives back the memory that only starting took. It would stay with a
// node that has nothing to do.
func settleDown(ctx context.Context) error {
	sleepy(ctx, settleAfter)
	if ctx.Err() == nil {
		debug.FreeOSMemory()
	}
	return nil
}

const settleAfter = 5 * time.Second
