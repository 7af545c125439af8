package node

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"outrider/mesh"
	"outrider/mesh/bundle"
	"outrider/mesh/cla"
	"outrider/mesh/cla/pipe"
	"outrider/mesh/identity"
	"outrider/mesh/reconcile"
	"outrider/node/chat"
	"outrider/offline/coresync"
)

// The core is a stick that is far away (node/carry.go): an agent of its own
// stands for it inside the node and is a neighbour of the node's agent while
// the core is in reach. So what goes up and what comes down is scheduled,
// charged, judged and verified as with any neighbour; the core's agent has the
// core itself for a store.

// coreNode is the neighbour that stands for the core. It is no key's name, so
// nobody can be admitted under it.
var coreNode = identity.NodeID([]byte("outrider/v1 the core's own agent"))

// What the way to the core waits for.
const (
	coreFolder   = "core"
	coreTick     = 100 * time.Millisecond // between two looks for what the node has on disk now
	corePatient  = 2 * time.Minute        // for the node to take a parcel, then it comes again later
	coreAgain    = 10 * time.Minute       // later
	coreBoxes    = time.Second            // between two looks whether the mailboxes have changed
	coreLookMin  = time.Second            // between two looks for more of a file that is not whole there
	coreLookMax  = 10 * time.Second
	coreLooks    = 60 // in vain, after which they become rare
	coreLookRare = 2 * time.Minute
	coreBytes    = 1 << 40 // no limit: the core has its own
)

// uplink is the node's way to its core. A nil one is that of a node without.
type uplink struct {
	n    *Node
	edge *coresync.Edge
	log  *slog.Logger

	broken error // why it cannot run

	mu      sync.Mutex
	reached time.Time // in a run before this one
	agent   *mesh.Shell
	store   *coreStore
	boxes   int
}

// errOpsec: in an opsec network nobody is told who reads what.
var errOpsec = errors.New("node: the network's preset is opsec: it tells nobody which tags it reads, so no core is used")

// newUplink reads the settings; nil when they name no core. A node without its
// core is still a node: what is wrong is told by status and doctor.
func (n *Node) newUplink() *uplink {
	if len(n.cfg.Core.Servers) == 0 {
		return nil
	}
	u := &uplink{n: n, log: n.log}
	u.reached = u.readReached()
	if u.edge, u.broken = coresync.New(n.coreConfig(), n.log); u.broken == nil && n.root.Preset() == identity.PresetOpsec {
		u.broken = errOpsec
	}
	return u
}

// coreConfig is the settings' table [core]; files are in the node's folder
// unless they say otherwise.
func (n *Node) coreConfig() coresync.Config {
	c := n.cfg.Core
	at := func(path string) string {
		if path == "" || filepath.IsAbs(path) {
			return path
		}
		return n.home.path(path)
	}
	return coresync.Config{
		Servers: c.Servers, SeedFile: at(c.SeedFile), CertFile: at(c.CertFile), KeyFile: at(c.KeyFile), CAFile: at(c.CAFile), Pins: c.Pins,
	}
}

// run serves until ctx ends.
func (u *uplink) run(ctx context.Context) error {
	if u == nil {
		return nil
	}
	if u.broken != nil {
		u.log.Error("the core is not used", "err", u.broken)
		return nil
	}
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return u.edge.Run(ctx) })
	g.Go(func() error { return u.tell(ctx) })
	g.Go(func() error {
		for {
			_, core, err := u.edge.Up(ctx)
			if err != nil {
				return ignoreEnd(ctx, err)
			}
			if err := u.runAgent(ctx, core); err != nil {
				return err
			}
		}
	})
	return ignoreEnd(ctx, g.Wait())
}

// tell keeps screens and the note of when the core was reached up to date.
func (u *uplink) tell(ctx context.Context) error {
	minute := time.NewTicker(time.Minute)
	defer minute.Stop()
	for {
		changed := u.edge.Changed()
		if u.edge.Status().Up {
			u.writeReached()
		}
		u.n.chat.Handle(chat.ContactsChanged{})
		select {
		case <-ctx.Done():
			if u.edge.Status().Up {
				u.writeReached()
			}
			return nil
		case <-changed:
		case <-minute.C:
		}
	}
}

func (u *uplink) reachedFile() string { return filepath.Join(u.n.home.path(coreFolder), "reached") }

func (u *uplink) readReached() (t time.Time) {
	raw, err := os.ReadFile(u.reachedFile())
	if err == nil {
		err = t.UnmarshalText(raw)
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		u.log.Warn("when the core was reached last is not known any more", "err", err)
	}
	return t
}

func (u *uplink) writeReached() {
	raw, err := u.n.clock.Now().UTC().Truncate(time.Second).MarshalText()
	if err == nil {
		if err = os.MkdirAll(u.n.home.path(coreFolder), 0o700); err == nil {
			err = os.WriteFile(u.reachedFile(), raw, 0o600)
		}
	}
	if err != nil {
		u.log.Warn("when the core was reached cannot be written", "err", err)
	}
}

// standing is whether the core is in reach, and when it was last.
func (u *uplink) standing() (up bool, last time.Time) {
	if u == nil {
		return false, time.Time{}
	}
	if u.broken != nil {
		return false, u.reached
	}
	st := u.edge.Status()
	if st.Reached.IsZero() {
		return st.Up, u.reached
	}
	return st.Up, u.n.clock.Now().Add(-time.Since(st.Reached))
}

// runAgent runs the agent of one core, until ctx ends or another core is
// reached instead.
func (u *uplink) runAgent(ctx context.Context, core [16]byte) (err error) {
	ledger, err := coresync.OpenLedger(u.n.home.path(coreFolder), core)
	if err != nil {
		return fmt.Errorf("node: core: %w", err)
	}
	defer func() { err = errors.Join(err, ledger.Close()) }()
	done, err := openCaught(filepath.Join(u.n.home.path(coreFolder), "mailboxes"), core)
	if err != nil {
		return err
	}
	ctx, end := context.WithCancel(ctx)
	defer end()
	c := &coreLife{u: u, lists: u.edge, core: core, ledger: ledger, caught: done, arrived: make(chan struct{}, 1), boxes: make(chan struct{}, 1)}
	c.store = newCoreStore(ctx, u.edge, ledger, c.isThere)
	c.store.purgesRead(done.purges())
	defer c.store.files.close()
	terms := carrier{u.n}.CarryTerms()
	c.generation = terms.Generation
	c.agent = mesh.NewShell(mesh.ShellConfig{
		Self: coreNode, Store: c.store, Judge: blindJudge{}, Salt: reconcile.Salt(terms.Salt), Generation: terms.Generation, Blind: true, ReadsAll: true,
		Limits: mesh.Limits{Bytes: coreBytes, BlobBytes: coreBytes, Ceiling: terms.Ceiling}, Log: u.log,
		TimeOff: func(time.Time) (time.Duration, bool) { return 0, true },
	})
	u.set(c.agent, c.store)
	defer u.set(nil, nil)
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return c.agent.Run(ctx) })
	g.Go(func() error { return c.settle(ctx) })
	g.Go(func() error { return c.lookForMore(ctx) })
	g.Go(func() error {
		defer end()
		return c.contacts(ctx)
	})
	return ignoreEnd(ctx, g.Wait())
}

func (u *uplink) set(a *mesh.Shell, s *coreStore) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.agent, u.store = a, s
}

// coreLife is the life of one core's agent.
type coreLife struct {
	u          *uplink
	lists      lists
	core       [16]byte
	ledger     *coresync.Ledger
	agent      *mesh.Shell
	store      *coreStore
	generation uint64
	caught     *caught
	arrived    chan struct{} // 1 deep: a parcel waits for the node
	boxes      chan struct{} // 1 deep: the core was told of mailboxes

	mu   sync.Mutex
	told coresync.Mailboxes
}

// isThere tells the users of bundles that are at the core. Theirs are those
// that were submitted here.
func (c *coreLife) isThere(ids []bundle.ID) {
	for i, st := range c.u.n.agent.Standings(ids) {
		if st.Own {
			c.u.n.chat.Handle(chat.Carried{ID: ids[i], AtCore: true})
		}
	}
}

// contacts is a contact with the core after the other, until another core
// answers.
func (c *coreLife) contacts(ctx context.Context) error {
	for {
		up, core, err := c.u.edge.Up(ctx)
		if err != nil {
			return ignoreEnd(ctx, err)
		}
		if core != c.core {
			c.u.log.Warn("another core answers than before; everything is handed over anew")
			return nil
		}
		if err := c.contact(ctx, up); err != nil {
			return ignoreEnd(ctx, err)
		}
	}
}

// contact lasts as long as the connection.
func (c *coreLife) contact(ctx, up context.Context) error {
	ctx, end := context.WithCancel(ctx)
	defer end()
	stop := context.AfterFunc(up, end)
	defer stop()
	boxes, err := c.watch(ctx, nil)
	if err != nil {
		c.u.log.Warn("the core does not take this node's mailboxes; it is asked again", "err", err)
		sleepy(ctx, coreBoxes)
		return nil
	}
	var parts sync.WaitGroup
	defer parts.Wait()
	parts.Go(func() { defer end(); c.follow(ctx, boxes) })
	parts.Go(func() {
		defer end()
		if err := c.u.edge.Pull(ctx, func(p coresync.Parcel) error { return c.take(ctx, p) }); err != nil && ctx.Err() == nil {
			c.u.log.Warn("nothing can be taken from the core", "err", err)
		}
	})
	parts.Go(func() { defer end(); c.link(ctx) })
	parts.Go(func() { defer end(); c.catchUp(ctx) })
	<-ctx.Done()
	return nil
}

// sleepy waits, or until ctx ends.
func sleepy(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
	case <-t.C:
	}
}

// link joins the two agents.
func (c *coreLife) link(ctx context.Context) {
	for ctx.Err() == nil {
		if t := (carrier{c.u.n}).CarryTerms(); t.Generation != c.generation {
			c.generation = t.Generation
			c.agent.SetGeneration(t.Generation, reconcile.Salt(t.Salt))
		}
		near, far, err := streamPair()
		if err != nil {
			c.u.log.Error("no link to the core's agent", "err", err)
			return
		}
		var ends sync.WaitGroup
		ends.Go(func() {
			_ = c.agent.AddLink(ctx, pipe.New(far, nil, c.u.n.home.ID(), cla.Info{Class: cla.LAN, Addr: "node", Version: 1}))
		})
		if err := c.u.n.agent.AddLink(ctx, pipe.New(near, nil, coreNode, cla.Info{Class: cla.LAN, Addr: "core", Dialled: true, Version: 1})); err != nil && ctx.Err() == nil {
			c.u.log.Debug("link to the core's agent ended", "err", err)
		}
		ends.Wait()
		sleepy(ctx, coreTick)
	}
}

// streamPair is a stream inside the process.
func streamPair() (a, b *net.UnixConn, err error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return nil, nil, fmt.Errorf("node: core: %w", err)
	}
	var conns [2]*net.UnixConn
	for i, fd := range fds {
		f := os.NewFile(uintptr(fd), "core")
		c, err := net.FileConn(f) // has a descriptor of its own
		f.Close()
		if err != nil {
			return nil, nil, fmt.Errorf("node: core: %w", err)
		}
		conns[i] = c.(*net.UnixConn)
	}
	return conns[0], conns[1], nil
}

// mailboxes are what this node reads now: the tags of its users and of control
// objects, and the purge records of what it has put.
func (c *coreLife) mailboxes() coresync.Mailboxes {
	m := coresync.Mailboxes{Tags: c.u.n.agent.Served(), Purges: c.store.purgeTags(coresync.MaxTags)}
	if len(m.Tags) > coresync.MaxTags {
		c.u.log.Warn("more tags are read here than the core takes; the rest comes through the mesh only", "tags", len(m.Tags))
		m.Tags = m.Tags[:coresync.MaxTags]
	}
	for _, list := range [][]identity.Tag{m.Tags, m.Purges} {
		slices.SortFunc(list, func(a, b identity.Tag) int { return slices.Compare(a[:], b[:]) })
	}
	return m
}

// reads is what the core was told last.
func (c *coreLife) reads() coresync.Mailboxes {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.told
}

// watch tells the core what this node reads, unless that is what it was told
// on this connection.
func (c *coreLife) watch(ctx context.Context, told *coresync.Mailboxes) (*coresync.Mailboxes, error) {
	m := c.mailboxes()
	if told != nil && slices.Equal(told.Tags, m.Tags) && slices.Equal(told.Purges, m.Purges) {
		return told, nil
	}
	m.Again = told == nil
	if err := c.caught.keep(m); err != nil {
		return told, err
	}
	since, err := c.u.edge.Watch(ctx, m)
	if err == nil {
		err = c.caught.delivered(since)
	}
	if err != nil {
		return told, err
	}
	c.mu.Lock()
	c.told = m
	c.mu.Unlock()
	c.u.mu.Lock()
	c.u.boxes = len(m.Tags)
	c.u.mu.Unlock()
	select {
	case c.boxes <- struct{}{}:
	default:
	}
	return &m, nil
}

// follow tells the core of tags that come and go.
func (c *coreLife) follow(ctx context.Context, told *coresync.Mailboxes) {
	for ctx.Err() == nil {
		sleepy(ctx, coreBoxes)
		var err error
		if told, err = c.watch(ctx, told); err != nil && ctx.Err() == nil {
			c.u.log.Warn("the core does not take this node's mailboxes; it is asked again", "err", err)
		}
	}
}

// take hands a parcel to the core's agent, which offers it to the node.
func (c *coreLife) take(ctx context.Context, p coresync.Parcel) error {
	if c.store.known(p) { // such as what was put from here into a mailbox that is read here too
		c.u.edge.Ack(p)
		return nil
	}
	c.store.take(p)
	var err error
	if p.Purge != nil {
		err = c.agent.Purge(ctx, *p.Purge)
	} else {
		err = c.agent.Submit(ctx, *p.Bundle, mesh.SubmitOptions{Budget: p.Bundle.Hop.Budget})
	}
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case errors.Is(err, mesh.ErrLifetime):
		c.store.drop(p, true) // it died at the core
		c.u.edge.Ack(p)
		return nil
	case err != nil && !errors.Is(err, mesh.ErrExists):
		c.u.log.Warn("a parcel from the core is not taken; it comes again later", "bundle", p.ID, "err", err)
		c.store.drop(p, false)
		c.u.edge.Later(p, coreAgain)
		return nil
	}
	select {
	case c.arrived <- struct{}{}:
	default:
	}
	return nil
}

// settle acknowledges what the node has on disk, and puts off what it does
// not take.
func (c *coreLife) settle(ctx context.Context) error {
	tick := time.NewTicker(coreTick)
	defer tick.Stop()
	for {
		ids, parcels := c.store.waiting()
		if len(ids) == 0 {
			select {
			case <-ctx.Done():
				return nil
			case <-c.arrived:
			}
			continue
		}
		here, there := c.u.n.agent.Standings(ids), c.agent.Standings(ids)
		for i, p := range parcels {
			if i < len(here) && i < len(there) {
				c.settleOne(p, here[i], there[i])
			}
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

func (c *coreLife) settleOne(p *spooled, here, there mesh.Standing) {
	done := here.Settled()
	if p.Purge != nil {
		done = here.Gone()
	}
	switch {
	case done, p.Purge == nil && there.State == "superseded": // the latter: the node has judged it and wants none of it
		c.store.forget(p, true)
		c.u.edge.Ack(p.Parcel)
	case here.Refused(), time.Since(p.at) > corePatient:
		c.store.forget(p, false)
		c.u.edge.Later(p.Parcel, coreAgain)
	}
}

// lookForMore asks for the missing chunks of files that were not whole at the
// core when their bundle came: often while they are likely on their way up,
// rarely when nothing has come for long.
func (c *coreLife) lookForMore(ctx context.Context) error {
	wait, vain := coreLookMin, 0
	for ctx.Err() == nil {
		list := c.store.files.incomplete()
		if len(list) == 0 {
			wait, vain = coreLookMin, 0
			select {
			case <-ctx.Done():
			case <-c.store.files.news:
			}
			continue
		}
		sleepy(ctx, wait)
		wait = min(wait*3/2, coreLookMax)
		if vain++; vain > coreLooks {
			wait = coreLookRare
		}
		for _, d := range list {
			leaves, err := c.store.files.look(ctx, d)
			if err == nil && len(leaves) > 0 {
				c.agent.LeavesHere(d.Root, leaves)
				wait, vain = coreLookMin, 0
			}
		}
	}
	return nil
}

// linked are the nodes in contact; the core is none.
func (n *Node) linked() []identity.NodeID {
	return slices.DeleteFunc(n.agent.Linked(), func(id identity.NodeID) bool { return id == coreNode })
}

// neighbours tells how the nodes in contact stand, which the agent has to find
// out.
func (n *Node) neighbours() []mesh.Neighbour {
	return slices.DeleteFunc(n.agent.Neighbours(), func(nb mesh.Neighbour) bool { return nb.Peer == coreNode })
}
