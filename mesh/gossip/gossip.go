// Package gossip finds out which nodes are around. It runs memberlist (SWIM:
// probes, suspicion, gossip) on a UDP and a TCP socket of one port, keyed
// with secrets of the network, and adds what memberlist lacks: entries signed
// by the nodes they are about, a book of peers that never forgets, a loop
// that re-joins silent peers for ever and so heals any split, and a gate that
// makes links down look like links down.
//
// What it says is a hint where a neighbour may be reached. It authorises
// nothing: whoever has the group key can claim any address, and who connects
// there must prove a certificate (mesh/cla/p2p).
//
// # Formats
//
// A member's name is its NodeID as text. Its metadata, at most 200 bytes, is
//
//	body       deterministic CBOR map, unknown keys are skipped and signed:
//	             1  epoch, unsigned: higher with every start and every change
//	             2  mesh port, TCP and UDP, 1 to 65535
//	             3  up to 3 further IP addresses of the node, 4 or 16 bytes each (optional)
//	signature  64 bytes, Ed25519 by the NodeID, domain "gossip-member", over
//	             NodeID (32) || gossip IP (16, IPv4 mapped) || gossip port (2, big endian) || body
//
// so that it vouches for the address it is spread with. While a member is
// live, metadata with a smaller epoch is refused. Entries that fail are
// ignored as a whole and reach neither membership nor the book.
//
// Packets are memberlist's, protocol version 2, sealed with the newest key
// (AES-GCM, encryption version 1, no label). A stream begins with a preamble
// of each side, the dialler's first,
//
//	magic      "OGS2"
//	nonce      12 bytes
//	sealed     AES-256-GCM with a group key, additional data
//	           "outrider/v1/gossip-stream\x00", followed in the answer by the
//	           dialler's whole preamble, of NodeID (32) || gossip port (2)
//	tag        16 bytes
//
// then the dialler's confirmation, that it is here and not a recording,
//
//	nonce      12 bytes
//	tag        16 bytes, AES-256-GCM of nothing, additional data
//	           "outrider/v1/gossip-confirm\x00" || the answer's whole preamble
//
// and continues with memberlist's push/pull. A side that cannot open the
// preamble, or whose gate is closed for the NodeID, closes the stream.
//
// Limits: 2,048 bytes a packet, 256 KiB a stream, 16 inbound streams at once,
// 8 of one address and 8 of addresses without members, 1,024 members; packets
// that come twice, and more than transport.go allows an address, are dropped.
package gossip

import (
	"cmp"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/hashicorp/memberlist"

	"outrider/mesh/cla"
	"outrider/mesh/crowd"
	"outrider/mesh/identity"
)

// A Neighbour is a node that is around.
type Neighbour struct {
	ID        identity.NodeID
	Addrs     []string  // "ip:port" where it listens for links, best first
	LastHeard time.Time // when anything last came from it directly, zero if never
}

// A Change says that a neighbour came, moved or went.
type Change struct {
	Neighbour Neighbour
	Up        bool
}

// A Gate is the operator's switch for single peers. After a change call
// Recheck.
type Gate interface {
	Allowed(identity.NodeID) bool
}

// A Config says what Gossip needs.
type Config struct {
	Self       identity.NodeID     // must be Key's, or zero
	Key        identity.PrivateKey // of the node, signs its metadata
	SecretKeys [][]byte            // 32 bytes each, newest first; the first one seals, all open
	Bind       string              // "ip:port"; an unspecified ip binds all interfaces
	MeshPort   int                 // where the node listens for links
	Profile    Profile             // zero for ProfileOf(cla.LAN)
	Seeds      []string            // "host:port" of gossip sockets to join, as in a join link
	Book       Book
	Gate       Gate // nil allows all
	Log        *slog.Logger
}

// Gossip keeps track of the nodes around.
type Gossip struct {
	c    Config
	self identity.NodeID
	bind netip.AddrPort
	log  *slog.Logger

	locate func(port uint16) place // where we are, replaced by tests
	look   time.Duration           // between calls of locate

	foreign foreign // what other networks sent
	lines   *memberlistLog
	atDoor  [2]*crowd.Crowd // of packets and of streams

	changes chan Change
	news    chan struct{} // 1 deep: dirty is not empty
	nudge   chan struct{} // 1 deep: try to rejoin now
	ready   chan struct{} // closed when the sockets are open

	mu      sync.Mutex
	ran     bool
	ending  bool // the memberlist at hand is being left
	at      netip.AddrPort
	ring    *memberlist.Keyring
	members map[identity.NodeID]*member
	owners  map[netip.AddrPort]identity.NodeID
	dirty   map[identity.NodeID]bool
	seeds   []string
	turns   *turns
}

// A member is a node we know of, live or not. Gossip.mu guards it.
type member struct {
	at    netip.AddrPort // of its gossip socket, zero if only from the book
	raw   []byte         // its metadata
	meta  metadata
	live  bool // for memberlist
	told  bool // live as far as Changes told
	addrs []string
	peer  Peer // as in the book
	heard time.Time
}

// New returns a Gossip that does nothing before Run.
func New(c Config) (*Gossip, error) {
	if c.Key.IsZero() || c.Book == nil || c.Log == nil {
		return nil, errors.New("gossip: new: key, book and log are needed")
	}
	self := c.Key.Public().NodeID()
	if !c.Self.IsZero() && c.Self != self {
		return nil, errors.New("gossip: new: the key is not the node's")
	}
	bind, err := netip.ParseAddrPort(c.Bind)
	if err != nil {
		return nil, fmt.Errorf("gossip: new: bind: %v", err)
	}
	if c.MeshPort < 1 || c.MeshPort > 65535 {
		return nil, fmt.Errorf("gossip: new: mesh port %d is out of range", c.MeshPort)
	}
	if c.Profile == (Profile{}) {
		c.Profile = ProfileOf(cla.LAN)
	}
	g := &Gossip{
		c: c, self: self, bind: bind, log: c.Log,
		changes: make(chan Change), news: make(chan struct{}, 1), nudge: make(chan struct{}, 1),
		ready:   make(chan struct{}),
		members: make(map[identity.NodeID]*member), owners: make(map[netip.AddrPort]identity.NodeID),
		dirty: make(map[identity.NodeID]bool), seeds: slices.Clone(c.Seeds),
		turns: newTurns(c.Profile.RejoinInterval, c.Profile.RejoinMax),
	}
	g.locate, g.look = g.here, watchAddrs
	g.lines = &memberlistLog{log: g.log, now: time.Now, foreign: &g.foreign}
	g.atDoor = newDoors(g.log)
	return g, g.SetKeys(c.SecretKeys)
}

// SetKeys replaces the group keys, newest first. Old keys open what members
// still seal with them; leave them out to forget them.
func (g *Gossip) SetKeys(keys [][]byte) error {
	if len(keys) == 0 {
		return errors.New("gossip: set keys: at least one key is needed")
	}
	for _, k := range keys {
		if len(k) != 32 {
			return fmt.Errorf("gossip: set keys: key of %d bytes, want 32", len(k))
		}
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.ring == nil {
		ring, err := memberlist.NewKeyring(keys, keys[0])
		g.ring = ring
		return err
	}
	err := errors.Join(g.ring.AddKey(keys[0]), g.ring.UseKey(keys[0]))
	for _, old := range g.ring.GetKeys() {
		if !slices.ContainsFunc(keys, func(k []byte) bool { return string(k) == string(old) }) {
			err = errors.Join(err, g.ring.RemoveKey(old))
		}
	}
	for _, k := range keys[1:] {
		err = errors.Join(err, g.ring.AddKey(k))
	}
	if err != nil {
		return fmt.Errorf("gossip: set keys: %v", err)
	}
	return nil
}

// AddSeeds adds gossip sockets ("host:port") to join.
func (g *Gossip) AddSeeds(addrs []string) {
	g.mu.Lock()
	for _, a := range addrs {
		if !slices.Contains(g.seeds, a) && len(g.seeds) < maxSeeds {
			g.seeds = append(g.seeds, a)
		}
	}
	g.mu.Unlock()
	g.poke()
}

// maxSeeds bounds the addresses to join that are not in the book.
const maxSeeds = 64

// Refused reports what was turned away: packets, then streams.
func (g *Gossip) Refused() []crowd.Report {
	return []crowd.Report{g.atDoor[packetDoor].Report(), g.atDoor[streamDoor].Report()}
}

// Recheck looks at all members again after the gate changed, and tries those
// that are out of reach anew.
func (g *Gossip) Recheck() {
	g.mu.Lock()
	for id := range g.members {
		g.changed(id)
	}
	g.turns.reset()
	g.mu.Unlock()
	g.poke()
}

func (g *Gossip) poke() {
	select {
	case g.nudge <- struct{}{}:
	default:
	}
}

// Changes returns the channel of changes. It must be read while Run is in
// progress and is closed when Run returns. Changes of one node that were not
// read in time are merged; the last one is never lost.
func (g *Gossip) Changes() <-chan Change { return g.changes }

// Members returns the neighbours that are around now, by ID.
func (g *Gossip) Members() []Neighbour {
	g.mu.Lock()
	defer g.mu.Unlock()
	var all []Neighbour
	for id, m := range g.members {
		if m.live && g.allowed(id) {
			all = append(all, m.neighbour(id))
		}
	}
	slices.SortFunc(all, func(a, b Neighbour) int { return a.ID.Compare(b.ID) })
	return all
}

// Remembered returns the peers of the book that are not around, by when they
// were last heard, the latest first.
func (g *Gossip) Remembered() []Neighbour {
	g.mu.Lock()
	defer g.mu.Unlock()
	var all []Neighbour
	for _, id := range g.silent() {
		if nb := g.members[id].neighbour(id); len(nb.Addrs) > 0 {
			all = append(all, nb)
		}
	}
	slices.SortStableFunc(all, func(a, b Neighbour) int { return b.LastHeard.Compare(a.LastHeard) })
	return all
}

func (m *member) neighbour(id identity.NodeID) Neighbour {
	addrs := m.peer.Addrs
	if m.at.IsValid() {
		addrs = m.meta.meshAddrs(m.at)
	}
	return Neighbour{ID: id, Addrs: slices.Clone(addrs), LastHeard: m.lastHeard()}
}

func (m *member) lastHeard() time.Time {
	if m.heard.After(m.peer.LastHeard) {
		return m.heard
	}
	return m.peer.LastHeard
}

// Ready returns a channel that is closed when the sockets are open.
func (g *Gossip) Ready() <-chan struct{} { return g.ready }

// Addr returns the gossip address that others are told, "" before Ready.
func (g *Gossip) Addr() string {
	g.mu.Lock()
	defer g.mu.Unlock()
	if !g.at.IsValid() {
		return ""
	}
	return g.at.String()
}

func (g *Gossip) allowed(id identity.NodeID) bool {
	return g.c.Gate == nil || g.c.Gate.Allowed(id)
}

// keys returns the group keys, newest first.
func (g *Gossip) keys() [][]byte { return g.ring.GetKeys() }

// owner returns the member at a gossip address, zero if there is none.
func (g *Gossip) owner(at netip.AddrPort) identity.NodeID {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.owners[at]
}

// heard notes that something came from an address.
func (g *Gossip) heard(at netip.AddrPort) {
	g.mu.Lock()
	defer g.mu.Unlock()
	m := g.members[g.owners[at]]
	if m == nil {
		return
	}
	m.heard = time.Now()
	if !m.live {
		g.turns.heard(at.String())
	}
}

// met notes that a member answers at an address, before it has said more.
func (g *Gossip) met(id identity.NodeID, at netip.AddrPort) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if id == g.self {
		return
	}
	if m := g.members[id]; (m == nil || !m.live) && len(g.owners) < 4*maxPeers {
		g.own(id, at)
	}
}

// loadBook fills the members with what was known before, and returns our
// epoch, higher than any before.
func (g *Gossip) loadBook() (epoch uint64, err error) {
	peers, err := g.c.Book.Peers()
	if err != nil {
		return 0, fmt.Errorf("read the peer book: %w", err)
	}
	epoch = uint64(max(time.Now().Unix(), 1))
	g.mu.Lock()
	defer g.mu.Unlock()
	// The newest first, should the book hold more than we take.
	slices.SortStableFunc(peers, func(a, b Peer) int { return cmp.Compare(b.LastHeard.Unix(), a.LastHeard.Unix()) })
	for _, p := range peers {
		if p.ID == g.self {
			epoch = max(epoch, p.Epoch+1)
			continue
		}
		if len(g.members) >= maxPeers {
			break
		}
		g.members[p.ID] = &member{peer: p, live: g.c.Profile.Off}
		for _, a := range p.Gossip {
			if at, err := netip.ParseAddrPort(a); err == nil {
				g.owners[at] = p.ID
			}
		}
		g.changed(p.ID)
	}
	return epoch, nil
}

// silent returns the members that are not live and may be, sorted for a stable order.
func (g *Gossip) silent() []identity.NodeID {
	ids := slices.Collect(maps.Keys(g.members))
	ids = slices.DeleteFunc(ids, func(id identity.NodeID) bool { return g.members[id].live || !g.allowed(id) })
	slices.SortFunc(ids, identity.NodeID.Compare)
	return ids
}
