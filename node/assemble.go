package node

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strconv"
	"time"

	"outrider/mesh"
	"outrider/mesh/cla"
	"outrider/mesh/cla/p2p"
	"outrider/mesh/gossip"
	"outrider/mesh/identity"
	"outrider/node/chat"
	"outrider/offline/roster"
	"outrider/store"
)

// assemble makes the parts of a member node and gives each what it needs of
// the others. Nothing runs yet.
func (n *Node) assemble(m *membership) error {
	chain, err := identity.ParseChain(m.Chain)
	if err != nil {
		return fmt.Errorf("node: own certificate: %w", err)
	}
	n.roster = roster.New(n.root, nil, n.clock, n.log)
	for _, s := range m.Secrets {
		n.roster.AddGeneration(s.generation())
	}
	newest := m.Secrets[0].secret()
	if err := n.roster.SetOwn(chain); err != nil {
		return fmt.Errorf("node: own certificate: %w", err)
	}
	if err := n.recall(); err != nil {
		return err
	}
	if n.rules, err = loadPolicies(n.home, n.roster, n.log); err != nil {
		return err
	}
	n.people = people{Roster: n.roster, submit: n.submitControl}

	blobs := blobStore{n.store}
	as := agentStore{blobs}
	if err := as.sweep(); err != nil {
		return err
	}
	n.agent = mesh.NewShell(mesh.ShellConfig{
		Self: n.home.ID(), Store: as, Judge: judge{n.roster}, Salt: newest.ReconcileSalt(), Generation: uint64(newest.Generation),
		Opsec: n.root.Preset() == identity.PresetOpsec, Limits: n.limits(), Log: n.log, Clock: n.clock, TimeOff: n.timeOff, WallCertain: n.clock.Trusted,
	})
	n.contacts, n.book = newContacts(n.store, n.clock.Now, n.log), newBook(n.store)
	if err := n.contacts.load(); err != nil {
		return err
	}
	if n.links, err = n.newLinks(admission{n.roster, n.home.joinVoid}, handover{n}); err != nil {
		return err
	}
	if n.gossip, err = n.newGossip(m, n.book, gossip.ProfileOf(n.cfg.LinkClass())); err != nil {
		return err
	}
	n.dialer = &dialer{
		dial: n.links.Dial, connected: n.links.Connected, allowed: n.gate.Allowed, members: n.gossip.Members, strays: n.gossip.Remembered, changes: n.gossip.Changes(),
		idle: idleContact(n.cfg.LinkClass()), peers: map[identity.NodeID]*attempt{}, kick: make(chan struct{}, 1),
	}
	n.post, n.raw = newPost(n.agent, n.dialer.news), newRawTags(n.agent, n.dialer.news)
	n.calls = newCalls(n)
	n.post.core = func() (bool, time.Time) { return n.core.standing() }
	n.chat = chat.New(n.chatConfig(m, blobs))
	n.holds = newHolds(n.chat.Lock)
	return nil
}

func (n *Node) chatConfig(m *membership, blobs blobStore) chat.Config {
	d := n.root.Preset().MaxDelay()
	keys := tagKeysOf(m.lives(n.clock.Now(), d))
	return chat.Config{
		Self: n.home.ID(), Network: n.root.ID(), TagKeys: keys, MaxTTL: d, MaxDelay: d,
		Agent: n.post, Store: chatStore{n.store}, Accounts: n.home, Renewer: renewer{n}, Outgrown: n.home.outgrown, Aside: n.home.aside, Blobs: chatBlobs{blobs}, Roster: n.people, Policies: chatRules{n.rules},
		Archive: archive{n.rules}, Clock: nodeClock{n}, Notify: n.notify, Calls: n.calls.hear, Log: n.log,
	}
}

// The agent charges for everything at least half of what the store does, so
// with half of the store's limit it is the agent that refuses.
const _ = uint(2*mesh.RecordCost - store.RecordCost)

// limits bounds the agent to half of what the store may take, since on the disk
// a bundle takes more than its bytes: its record, and the room of deleted ones
// that was not yet given back (store/tidy.go). What the agent says is full is
// what people are told (storeShares). Of the room for files, which take just
// their size, half is kept for the node's own.
func (n *Node) limits() mesh.Limits {
	reserve := n.cfg.Store.ReservePercent
	if reserve == 0 {
		reserve = -1 // for the agent 0 is its default
	}
	return mesh.Limits{
		Bytes: n.cfg.StoreLimit() / 2, Reserve: reserve, BlobBytes: max(1, n.cfg.FilesLimit()/2), Ceiling: n.root.Preset().MaxDelay(),
	}
}

func (n *Node) newLinks(a p2p.Admission, s p2p.Secrets) (*p2p.Layer, error) {
	return p2p.New(p2p.Config{
		Key: n.home.Key(), Listen: n.cfg.MeshListen(), Admission: a, Gate: n.gate, Secrets: s, Profile: p2p.ProfileOf(n.cfg.LinkClass()), Log: n.log,
	})
}

// admission gives the links the roster's judgement of neighbours.
type admission struct {
	*roster.Roster
	void func() bool
}

var _ p2p.Admission = admission{}

func (a admission) Admit(peer identity.NodeID, hello []byte) (until time.Time, err error) {
	if a.void() {
		return time.Time{}, ErrJoinVoid
	}
	return a.AdmitNode(peer, hello)
}

// Hello is empty while this node's own enrolment does not count.
func (a admission) Hello() []byte {
	if a.void() {
		return nil
	}
	return a.Roster.Hello()
}

func (a admission) RootRecord() []byte { return a.Root().Raw() }

// serveLink hands a link to the agent and keeps count of it.
func (n *Node) serveLink(ctx context.Context, l cla.Link) {
	info := l.Info()
	n.contacts.opened(l.Peer(), info.Addr, info.Class.String(), l.Counters)
	defer n.contacts.closed(l.Peer())
	defer n.meter.carry(info.Class, l.Counters)()
	if err := n.agent.AddLink(ctx, l); err != nil && ctx.Err() == nil {
		n.log.Debug("link ended", "peer", l.Peer().Short(), "err", err)
	}
}

// meshPort is the port of the first mesh listener, which gossip tells.
func (n *Node) meshPort() int {
	for _, a := range n.cfg.MeshListen() {
		if _, p, err := net.SplitHostPort(a); err == nil {
			if v, err := strconv.Atoi(p); err == nil {
				return v
			}
		}
	}
	return 0
}

// controlTags are where control objects of the known generations arrive.
func (n *Node) controlTags() []identity.Tag {
	var tags []identity.Tag
	for _, s := range n.roster.Secrets() {
		tags = append(tags, identity.ControlTag(s.TagKey()))
	}
	return tags
}

// publish brings control objects of this node's folder into the mesh: those
// that were waiting at the start, and new ones when publishSoon says so.
func (n *Node) publish(ctx context.Context) error {
	n.agent.WatchQuiet(n.controlTags(), nil)
	for {
		waiting := n.home.unpublished()
		for _, p := range waiting {
			if err := n.publishOne(ctx, p); err != nil {
				return ignoreEnd(ctx, fmt.Errorf("node: publish: %w", err))
			}
		}
		if len(waiting) > 0 {
			if err := n.home.published(len(waiting)); err != nil {
				return err
			}
		}
		select {
		case <-ctx.Done():
			return nil
		case <-n.toPublish:
		}
	}
}

// publishOne waits for what the object depends on: the one before it, which
// the roster learns of a moment after it is stored.
func (n *Node) publishOne(ctx context.Context, p publication) error {
	for {
		changed := n.roster.Changed()
		err := n.submitControl(ctx, p.Payload, p.Urgent)
		if !errors.Is(err, mesh.ErrLater) {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-changed:
		}
	}
}

func (n *Node) publishSoon() {
	select {
	case n.toPublish <- struct{}{}:
	default:
	}
}

// newGossip makes the finder of neighbours. The seeds are those of the join
// link and of the settings.
func (n *Node) newGossip(m *membership, b *book, p gossip.Profile) (*gossip.Gossip, error) {
	return gossip.New(gossip.Config{
		Self: n.home.ID(), Key: n.home.Key(), SecretKeys: gossipKeys(m, n.clock.Now()), Bind: n.cfg.GossipAddr().String(), MeshPort: n.meshPort(),
		Profile: p, Seeds: append(n.cfg.Seeds(), m.Seeds...), Book: b, Gate: n.gate, Log: n.log,
	})
}
