package gossip

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/hashicorp/memberlist"

	"outrider/mesh/identity"
)

// What we chose.
const (
	watchAddrs  = 10 * time.Second // between looks at our own addresses
	leaveTime   = time.Second      // for saying goodbye
	resolveTime = 5 * time.Second
)

// errMoved ends an instance of memberlist whose address is not ours any more.
var errMoved = errors.New("own address changed")

// Run keeps track of the nodes around until ctx ends. It can be called once.
func (g *Gossip) Run(ctx context.Context) error {
	g.mu.Lock()
	if g.ran {
		g.mu.Unlock()
		return errors.New("gossip: run: it runs once")
	}
	g.ran = true
	g.mu.Unlock()
	defer close(g.changes)
	epoch, err := g.loadBook()
	if err != nil {
		return fmt.Errorf("gossip: run: %w", err)
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var wg sync.WaitGroup
	defer wg.Wait()
	wg.Go(func() { g.publish(ctx) })
	defer cancel() // before wg.Wait

	if g.c.Profile.Off {
		close(g.ready)
		<-ctx.Done()
		return nil
	}
	for first := true; ; first = false {
		err := g.instance(ctx, epoch, first)
		if ctx.Err() != nil {
			return nil
		}
		if !errors.Is(err, errMoved) {
			return fmt.Errorf("gossip: run: %w", err)
		}
		g.log.Info("own address changed, joining anew")
		epoch++
	}
}

// instance runs one memberlist, until ctx ends or our address changes: it
// cannot change its address in flight.
func (g *Gossip) instance(ctx context.Context, epoch uint64, first bool) error {
	t := &transport{
		self: g.self, keys: g.keys, allowed: g.allowed, met: g.met, owner: g.owner, heard: g.heard,
		foreign: g.lines.countUnopened, atDoor: g.atDoor,
	}
	if err := t.listen(g.bind); err != nil {
		return err
	}
	here := g.locate(t.port)
	t.addr = func() (netip.AddrPort, error) { return here.at, nil }
	d := &delegate{g: g}
	var err error
	if d.meta, err = g.introduce(epoch, here); err != nil {
		return errors.Join(err, t.udp.Close(), t.tcp.Close())
	}
	t.start(ctx)
	defer t.stop()
	m, err := memberlist.Create(g.memberlistConfig(t, d))
	if err != nil {
		return fmt.Errorf("memberlist: %v", err)
	}
	if first {
		close(g.ready)
	}
	ictx, cancel := context.WithCancel(ctx)
	var wg sync.WaitGroup
	wg.Go(func() { g.rejoin(ictx, m) })
	err = g.watch(ictx, t.port, here)
	cancel()
	g.leave(t, m)
	wg.Wait()
	return err
}

// memberlistConfig returns the configuration for one instance.
func (g *Gossip) memberlistConfig(t *transport, d *delegate) *memberlist.Config {
	c := memberlist.DefaultLANConfig()
	g.c.Profile.apply(c)
	c.Name = g.self.String()
	c.BindAddr, c.BindPort, c.AdvertisePort = g.bind.Addr().String(), int(t.port), int(t.port)
	c.Transport = t
	c.Keyring = g.ring
	c.Delegate, c.Alive, c.Events = d, d, d
	c.Logger = g.lines.logger()
	return c
}

// introduce signs our metadata for an address and puts it in the book, so
// that the next start has a higher epoch.
func (g *Gossip) introduce(epoch uint64, here place) ([]byte, error) {
	m := metadata{Epoch: epoch, MeshPort: uint16(g.c.MeshPort), More: here.more}
	meta, err := signMetadata(g.c.Key, here.at, m)
	if err != nil {
		return nil, fmt.Errorf("sign metadata: %w", err)
	}
	own := Peer{ID: g.self, Gossip: []string{here.at.String()}, Addrs: m.meshAddrs(here.at), Epoch: epoch}
	if err := g.c.Book.Remember(own); err != nil {
		return nil, fmt.Errorf("write the peer book: %w", err)
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	g.at, g.ending = here.at, false
	return meta, nil
}

// leave says goodbye and ends m with all its goroutines.
func (g *Gossip) leave(t *transport, m *memberlist.Memberlist) {
	g.mu.Lock()
	g.ending = true
	for id, mem := range g.members {
		if mem.live {
			mem.live = false
			g.changed(id)
		}
	}
	g.mu.Unlock()
	_ = m.Leave(min(2*g.c.Profile.GossipInterval, leaveTime)) // nobody there to hear it is no fault
	t.stop()
	t.unblock(m)
	_ = m.Shutdown()
}

// A place is where we are.
type place struct {
	at   netip.AddrPort // advertised
	more [][]byte       // further addresses
}

func (p place) equal(o place) bool {
	return p.at == o.at && slices.EqualFunc(p.more, o.more, func(a, b []byte) bool { return string(a) == string(b) })
}

// here finds out where we are: at the address we are bound to or, if that is
// unspecified, at those of the interfaces.
func (g *Gossip) here(port uint16) place {
	if ip := g.bind.Addr(); !ip.IsUnspecified() {
		return place{at: netip.AddrPortFrom(ip.Unmap(), port)}
	}
	ips := interfaceAddrs(g.bind.Addr().Is4())
	p := place{at: netip.AddrPortFrom(ips[0], port)}
	for _, ip := range ips[1:min(len(ips), 1+maxMoreAddrs)] {
		p.more = append(p.more, ip.AsSlice())
	}
	return p
}

// interfaceAddrs returns our addresses, those first that others most likely
// reach: IPv4 before IPv6, private before public. There is always one.
func interfaceAddrs(only4 bool) []netip.Addr {
	var ips []netip.Addr
	all, _ := net.InterfaceAddrs() // without any, loopback remains
	for _, a := range all {
		p, err := netip.ParsePrefix(a.String())
		if err != nil {
			continue
		}
		ip := p.Addr().Unmap()
		if ip.IsGlobalUnicast() && (ip.Is4() || !only4) {
			ips = append(ips, ip)
		}
	}
	slices.SortStableFunc(ips, func(a, b netip.Addr) int { return rank(a) - rank(b) })
	if len(ips) == 0 {
		return []netip.Addr{netip.AddrFrom4([4]byte{127, 0, 0, 1})}
	}
	return ips
}

func rank(ip netip.Addr) (n int) {
	if !ip.Is4() {
		n += 2
	}
	if !ip.IsPrivate() {
		n++
	}
	return n
}

// watch returns errMoved when our addresses have changed, for two looks in a
// row, and nil when ctx ends.
func (g *Gossip) watch(ctx context.Context, port uint16, was place) error {
	tick := time.NewTicker(g.look)
	defer tick.Stop()
	last := was
	for {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return nil
		}
		now := g.locate(port)
		if !now.equal(was) && now.equal(last) {
			return errMoved
		}
		last = now
	}
}

// publish writes the book and tells of changes until ctx ends.
func (g *Gossip) publish(ctx context.Context) {
	for {
		select {
		case <-g.news:
		case <-ctx.Done():
			return
		}
		for {
			id, ok := g.nextDirty()
			if !ok {
				break
			}
			if c, tell := g.update(id); tell {
				select {
				case g.changes <- c:
				case <-ctx.Done():
					return
				}
			}
		}
	}
}

func (g *Gossip) nextDirty() (id identity.NodeID, ok bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for id := range g.dirty {
		delete(g.dirty, id)
		return id, true
	}
	return id, false
}

// update brings the book up to date about a node and says whether there is
// something to tell.
func (g *Gossip) update(id identity.NodeID) (c Change, tell bool) {
	g.mu.Lock()
	m := g.members[id]
	if m == nil {
		g.mu.Unlock()
		return c, false
	}
	if m.at.IsValid() {
		m.peer = m.peer.remembered(m.at.String(), m.meta.meshAddrs(m.at), m.meta.Epoch)
		m.peer.ID, m.peer.LastHeard = id, m.lastHeard()
	}
	peer, fresh := m.peer, m.at.IsValid()
	c = Change{Neighbour: m.neighbour(id), Up: m.live && g.allowed(id)}
	tell = c.Up != m.told || (c.Up && !slices.Equal(m.addrs, c.Neighbour.Addrs))
	m.told, m.addrs = c.Up, c.Neighbour.Addrs
	g.mu.Unlock()

	if fresh {
		if err := g.c.Book.Remember(peer); err != nil {
			g.log.Warn("peer book not written", "peer", id.Short(), "err", err)
		}
	}
	return c, tell
}

// rejoin tries silent peers and seeds, one at a time, until ctx ends.
func (g *Gossip) rejoin(ctx context.Context, m *memberlist.Memberlist) {
	g.boot(ctx, m)
	p := g.c.Profile
	turn := time.NewTimer(jittered(p.RejoinInterval))
	defer turn.Stop()
	state := time.NewTimer(jittered(max(p.SyncInterval, time.Second)))
	defer state.Stop()
	for {
		select {
		case <-turn.C:
		case <-g.nudge:
		case <-state.C:
			if p.SyncInterval > 0 {
				g.joinOne(ctx, m, g.randomLive())
				state.Reset(jittered(p.SyncInterval))
			}
			continue
		case <-ctx.Done():
			return
		}
		g.joinOne(ctx, m, g.pick())
		turn.Reset(jittered(p.RejoinInterval))
	}
}

// boot tries everybody once until somebody answers.
func (g *Gossip) boot(ctx context.Context, m *memberlist.Memberlist) {
	for ctx.Err() == nil {
		addr := g.pick()
		if addr == "" || g.joinOne(ctx, m, addr) {
			return
		}
	}
}

// pick chooses the next address to join, "" for none.
func (g *Gossip) pick() string {
	g.mu.Lock()
	defer g.mu.Unlock()
	var addrs []string
	for _, s := range g.seeds {
		if at, err := netip.ParseAddrPort(s); err == nil {
			if at == g.at {
				continue
			}
			if id := g.owners[at]; !id.IsZero() && g.members[id] != nil && (g.members[id].live || !g.allowed(id)) {
				continue
			}
		}
		addrs = append(addrs, s)
	}
	for _, id := range g.silent() {
		for _, a := range g.members[id].peer.Gossip {
			if a != g.at.String() && !slices.Contains(addrs, a) {
				addrs = append(addrs, a)
			}
		}
	}
	return g.turns.pick(time.Now(), addrs)
}

// randomLive returns the address of a live member, "" for none.
func (g *Gossip) randomLive() string {
	g.mu.Lock()
	defer g.mu.Unlock()
	for id, m := range g.members { // the order of a map is random enough
		if m.live && m.at.IsValid() && g.allowed(id) {
			return m.at.String()
		}
	}
	return ""
}

// joinOne exchanges state with whoever is at addr and reports whether
// somebody was.
func (g *Gossip) joinOne(ctx context.Context, m *memberlist.Memberlist, addr string) bool {
	if addr == "" {
		return false
	}
	g.mu.Lock()
	g.turns.tried(time.Now(), addr)
	g.mu.Unlock()
	at, err := resolve(ctx, addr)
	if err == nil {
		_, err = m.Join([]string{at})
	}
	if err != nil {
		g.log.Debug("nobody joined", "err", err)
		return false
	}
	return true
}

// resolve turns "host:port" into "ip:port".
func resolve(ctx context.Context, addr string) (string, error) {
	if at, err := netip.ParseAddrPort(addr); err == nil {
		return at.String(), nil
	}
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return "", err
	}
	ctx, cancel := context.WithTimeout(ctx, resolveTime)
	defer cancel()
	ips, err := net.DefaultResolver.LookupNetIP(ctx, "ip", host)
	if err != nil {
		return "", err
	}
	return net.JoinHostPort(ips[0].Unmap().String(), port), nil
}
