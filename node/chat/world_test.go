package chat

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"io"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"outrider/mesh/blob"
	"outrider/mesh/bundle"
	"outrider/mesh/identity"
)

// A world is a few nodes with fakes for everything beneath chat. What the
// fakes keep survives a crash of their node; everything else does not.
type world struct {
	t       *testing.T
	network identity.NetworkID
	admin   identity.PrivateKey
	root    *identity.RootRecord
	cert    identity.Certificate
	start   time.Time
	nodes   []*node
	users   map[identity.UserID]*user
	invited map[identity.UserID]string // whose join links are open
	mu      sync.Mutex                 // guards who there is and what is known of them
	prekeys map[identity.DeviceID][]identity.PrekeyBundle
}

type user struct {
	id      identity.UserID
	name    string
	key     identity.PrivateKey
	chain   identity.Chain
	devices []*device
	frozen  bool
	revoked bool
}

type device struct {
	keys Keys
	id   identity.DeviceID
	user *user
	node *node
	dead bool
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

func newWorld(t *testing.T) *world {
	start := time.Now().UTC().Truncate(time.Minute)
	root, rootKey, err := identity.CreateRoot("test", identity.PresetStandard, start)
	if err != nil {
		t.Fatal(err)
	}
	w := &world{
		t: t, network: root.ID(), root: root, admin: must(identity.NewPrivateKey()), start: start,
		users: make(map[identity.UserID]*user), prekeys: make(map[identity.DeviceID][]identity.PrekeyBundle),
	}
	w.cert = must(rootKey.IssueAdmin(w.network, w.year(identity.Certificate{Key: w.admin.Public(), Roles: identity.RoleAdmin, Generation: 1})))
	return w
}

func (w *world) year(c identity.Certificate) identity.Certificate {
	c.NotBefore, c.NotAfter = w.start, w.start.AddDate(1, 0, 0)
	return c
}

// user makes a person without a device.
func (w *world) user(name string) *user {
	id := identity.UserID(newID())
	u := &user{id: id, name: name, key: must(identity.NewPrivateKey())}
	c := must(identity.Issue(w.network, w.admin, w.year(identity.Certificate{Class: identity.ClassUser, Subject: id[:], Key: u.key.Public(), Generation: 1})))
	u.chain = identity.Chain{c, w.cert}
	w.change(func() { w.users[id] = u })
	return u
}

// device gives a user a device on a node.
func (w *world) device(u *user, n *node) *device {
	key := must(identity.NewPrivateKey())
	c := must(identity.IssueDevice(w.network, u.key, key, w.year(identity.Certificate{Subject: u.id[:], Generation: 1})))
	d := &device{user: u, node: n, id: key.Public().DeviceID(), keys: Keys{
		User: u.key, Device: key, Chain: append(identity.Chain{c}, u.chain...), KEK: newKey(),
	}}
	w.change(func() {
		u.devices = append(u.devices, d)
		n.hosted = append(n.hosted, d)
	})
	return d
}

// change changes what the fakes know.
func (w *world) change(do func()) {
	w.mu.Lock()
	defer w.mu.Unlock()
	do()
}

// change changes what a node's fakes do.
func (n *node) change(do func()) {
	n.mu.Lock()
	defer n.mu.Unlock()
	do()
}

// node makes a node that knows everybody unless hide is called.
func (w *world) node(name string) *node {
	n := &node{
		w: w, name: name, id: identity.NodeID(newKey()), store: newFakeStore(), hidden: make(map[identity.UserID]bool),
		rules: make(map[identity.UserID]Policy), ruled: make(chan struct{}),
		keepers: make(map[identity.Tag]bool), kept: make(map[bundle.ID]*heldBundle),
		vaults: make(map[identity.UserID]*vaultDisk), blobs: make(map[blob.Root]*fakeBlob), changed: make(chan struct{}),
		held: make(map[bundle.ID]*heldBundle), purges: make(map[bundle.ID]bundle.PurgeRecord), watched: make(map[identity.Tag]bool),
	}
	w.nodes = append(w.nodes, n)
	return n
}

// A node is the disk of one node and what runs on it.
type node struct {
	w      *world
	name   string
	id     identity.NodeID
	hosted []*device

	store   *fakeStore
	vaults  map[identity.UserID]*vaultDisk
	hidden  map[identity.UserID]bool // users whose certificates have not arrived
	changed chan struct{}
	archive fakeArchive
	keepers map[identity.Tag]bool     // tags of a compliance reader here
	kept    map[bundle.ID]*heldBundle // own, purged, kept for one
	rules   map[identity.UserID]Policy
	ruled   chan struct{}

	mu         sync.Mutex
	blobs      map[blob.Root]*fakeBlob
	held       map[bundle.ID]*heldBundle
	seq        int
	purges     map[bundle.ID]bundle.PurgeRecord
	watched    map[identity.Tag]bool
	neighbours int
	full       bool
	untrusted  bool

	uncertified bool // its devices' certificates are on their way to its own roster

	steps   int // durable operations so far
	crashAt int // the operation that does not happen any more; 0 = none
	crashed bool
	failing error // what every store commit returns

	svc     *Service
	stop    context.CancelFunc
	done    chan error
	updates []Update
	signals []step // of calls
}

// A step is a call signal that arrived.
type step struct {
	user, peer identity.UserID
	signal     CallSignal
}

type heldBundle struct {
	b        bundle.Bundle
	seq      int // order of arrival, in which agents deliver
	at       time.Time
	age      time.Duration
	consumed bool
	carriers []*node
	atReader bool
}

var errCrash = errors.New("test: the node has crashed")

// step is called before every durable operation. The caller holds mu.
func (n *node) step() error {
	if n.crashed {
		return errCrash
	}
	if n.steps++; n.steps == n.crashAt {
		n.crashed = true
		return errCrash
	}
	return nil
}

func (n *node) locked(do func() error) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	if err := n.step(); err != nil {
		return err
	}
	return do()
}

// up starts the node; its users are locked.
func (n *node) up() *node {
	n.w.t.Helper()
	n.svc = New(Config{
		Self: n.id, Network: n.w.network, TagKeys: [][32]byte{{1}}, MaxTTL: 30 * 24 * time.Hour, MaxDelay: 30 * 24 * time.Hour,
		Agent: agent{n}, Store: storeOf{n}, Accounts: accounts{n}, Blobs: blobsOf{n}, Roster: roster{n}, Clock: clock{n},
		Policies: rulesOf{n}, Archive: &n.archive,
		Log: slog.New(slog.DiscardHandler),
		Notify: func(u identity.UserID, up Update) {
			n.mu.Lock()
			defer n.mu.Unlock()
			n.updates = append(n.updates, up)
		},
		Calls: func(u, peer identity.UserID, c CallSignal) {
			n.mu.Lock()
			defer n.mu.Unlock()
			n.signals = append(n.signals, step{u, peer, c})
		},
	})
	ctx, cancel := context.WithCancel(context.Background())
	n.stop, n.done = cancel, make(chan error, 1)
	go func(svc *Service) { n.done <- svc.Run(ctx) }(n.svc)
	return n
}

// down stops it; after a crash this only tidies up.
func (n *node) down() {
	n.stop()
	if err := <-n.done; err != nil && !errors.Is(err, errCrash) {
		n.w.t.Errorf("%s: Run: %v", n.name, err)
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	clear(n.watched)
	n.svc = nil
}

// restart is down and up, without any more crashes, and unlocks everybody.
func (n *node) restart() {
	n.w.t.Helper()
	n.down()
	n.mu.Lock()
	n.crashed, n.crashAt = false, 0
	for _, v := range n.vaults {
		v.drop()
	}
	n.mu.Unlock()
	n.up()
	for _, d := range n.hosted {
		d.unlock()
	}
}

// unlock opens the device's session without the cost of a password.
func (d *device) unlock() *Session {
	d.node.w.t.Helper()
	s, err := d.node.svc.adopt(context.Background(), d.user.id, d.keys)
	if err != nil {
		d.node.w.t.Fatalf("%s: unlock: %v", d.node.name, err)
	}
	return s
}

func (d *device) session() *Session {
	s, ok := d.node.svc.Session(d.user.id)
	if !ok {
		d.node.w.t.Fatalf("%s: %s is locked", d.node.name, d.user.name)
	}
	return s
}

// settle lets everybody meet everybody until nothing happens any more.
func (w *world) settle() {
	for range 4 {
		synctest.Wait()
		time.Sleep(3 * time.Second)
		synctest.Wait()
		for i, a := range w.nodes {
			for _, b := range w.nodes[i+1:] {
				meet(a, b)
			}
		}
	}
	synctest.Wait()
}

// rest only lets time pass.
func (w *world) rest(d time.Duration) {
	synctest.Wait()
	time.Sleep(d)
	synctest.Wait()
}

// meet lets two nodes exchange everything they hold.
func meet(a, b *node) {
	give(a, b)
	give(b, a)
}

func give(from, to *node) {
	from.mu.Lock()
	purges := maps.Clone(from.purges)
	held := maps.Clone(from.held)
	maps.Copy(held, from.kept)
	from.mu.Unlock()
	for _, id := range sortedIDs(purges) {
		to.mu.Lock()
		to.applyPurge(purges[id])
		to.mu.Unlock()
	}
	for _, id := range bySeq(held) {
		h := held[id]
		age := h.age + time.Since(h.at)
		if age >= h.b.Header.Lifetime {
			continue
		}
		to.mu.Lock()
		if from.kept[id] != nil && !to.keeps(h.b) {
			to.mu.Unlock()
			continue
		}
		fresh := to.accept(h.b, age, true)
		reader := to.watched[h.b.Header.Tag]
		to.mu.Unlock()
		if fresh {
			from.mu.Lock()
			h.carriers, h.atReader = append(h.carriers, to), h.atReader || reader
			from.tell(Carried{ID: id, Peer: to.id, AtReader: reader})
			from.mu.Unlock()
		}
		if h.b.Header.Kind == bundle.KindBlob {
			giveLeaves(from, to, h.b)
		}
	}
}

func sortedIDs[V any](m map[bundle.ID]V) []bundle.ID {
	return slices.SortedFunc(maps.Keys(m), func(a, b bundle.ID) int { return bytes.Compare(a[:], b[:]) })
}

func bySeq(m map[bundle.ID]*heldBundle) []bundle.ID {
	return slices.SortedFunc(maps.Keys(m), func(a, b bundle.ID) int { return cmp.Compare(m[a].seq, m[b].seq) })
}

// giveLeaves copies all leaves that are there, or as many as the giver's limit
// allows.
func giveLeaves(from, to *node, b bundle.Bundle) {
	d, err := blob.ParseDescriptor(b.Payload)
	if err != nil {
		return
	}
	from.mu.Lock()
	src := from.blobs[d.Root]
	from.mu.Unlock()
	to.mu.Lock()
	defer to.mu.Unlock()
	if src == nil || to.crashed {
		return
	}
	dst := to.blobs[d.Root]
	if dst == nil {
		dst = &fakeBlob{total: d.Geometry().Leaves(), leaves: make(map[int][]byte)}
		to.blobs[d.Root] = dst
	}
	was := len(dst.leaves)
	for i, l := range src.leaves {
		if src.limit > 0 && len(dst.leaves) >= src.limit {
			break
		}
		dst.leaves[i] = l
	}
	if was == len(dst.leaves) {
		return
	}
	to.tell(BlobProgress{Root: d.Root, Have: len(dst.leaves), Total: dst.total})
	if len(dst.leaves) == dst.total {
		to.tell(BlobComplete{Root: d.Root})
	}
}

// accept stores a bundle; the caller holds mu.
func (n *node) accept(b bundle.Bundle, age time.Duration, hop bool) (fresh bool) {
	id := b.ID()
	if n.crashed || n.held[id] != nil {
		return false
	}
	if _, gone := n.purges[id]; gone && !n.keeps(b) {
		return false
	}
	if hop {
		b.Hop = b.Hop.Next(0)
	}
	n.seq++
	n.held[id] = &heldBundle{seq: n.seq, b: b, at: time.Now(), age: age}
	if n.watched[b.Header.Tag] {
		n.tell(Arrived{ID: id, Tag: b.Header.Tag, Kind: b.Header.Kind})
	}
	return true
}

// keeps tells whether a bundle stays although it is purged, as decisions.md 6
// and mesh/archive.go have it for a compliance reader.
func (n *node) keeps(b bundle.Bundle) bool {
	return b.Header.Flags&bundle.FlagArchive != 0 && n.keepers[b.Header.Tag]
}

// applyPurge removes a bundle; the caller holds mu.
func (n *node) applyPurge(r bundle.PurgeRecord) {
	id := r.ID()
	if _, known := n.purges[id]; known || n.crashed || !r.Valid() {
		return
	}
	n.purges[id] = r
	if h := n.held[id]; h != nil && !n.keeps(h.b) {
		delete(n.held, id)
		if h.b.Header.Flags&bundle.FlagArchive != 0 && h.b.Hop.Count == 0 {
			n.kept[id] = h
			n.tell(Purged{ID: id, Key: r.Key})
			return
		}
		if d, err := blob.ParseDescriptor(h.b.Payload); err == nil && h.b.Header.Kind == bundle.KindBlob && n.svc != nil && !n.svc.pinned(d.Root) {
			delete(n.blobs, d.Root)
		}
	}
	n.tell(Purged{ID: id, Key: r.Key})
}

// tell hands an event to chat, if it runs; the caller holds mu.
func (n *node) tell(ev Event) {
	if n.svc != nil && !n.crashed {
		n.svc.Handle(ev)
	}
}

type clock struct{ n *node }

func (c clock) Now() time.Time         { return time.Now() }
func (c clock) Elapsed() time.Duration { return time.Since(c.n.w.start) }

func (c clock) Trusted() bool {
	c.n.mu.Lock()
	defer c.n.mu.Unlock()
	return !c.n.untrusted
}

func (c clock) Source() ClockSource {
	if c.Trusted() {
		return ClockPeer
	}
	return ClockUnsynced
}

// A pair is the usual scene: Alice on one node, Bob on another.
type pair struct {
	*world
	a, b       *node
	alice, bob *user
	da, db     *device
}

// newPair starts both nodes and unlocks both users.
func newPair(t *testing.T) *pair {
	w := newWorld(t)
	p := &pair{world: w, a: w.node("alpha"), b: w.node("bravo"), alice: w.user("Alice"), bob: w.user("Bob")}
	p.da, p.db = w.device(p.alice, p.a), w.device(p.bob, p.b)
	p.a.up()
	p.b.up()
	p.da.unlock()
	p.db.unlock()
	synctest.Wait()
	return p
}

func (p *pair) close() {
	for _, n := range p.nodes {
		if n.svc != nil {
			n.down()
		}
	}
}

// scene runs a test with two users in a bubble of fake time.
func scene(t *testing.T, do func(t *testing.T, p *pair)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		p := newPair(t)
		defer p.close()
		do(t, p)
	})
}

func (d *device) text(to *user, text string) Message {
	d.node.w.t.Helper()
	m, err := d.session().Send(context.Background(), Draft{To: to.id, Text: text})
	if err != nil {
		d.node.w.t.Fatalf("%s sends %q: %v", d.user.name, text, err)
	}
	return m
}

func (d *device) message(id MessageID) Message {
	d.node.w.t.Helper()
	m, err := d.session().Message(context.Background(), id)
	if err != nil {
		d.node.w.t.Fatalf("%s: message: %v", d.user.name, err)
	}
	return m
}

// with lists the messages of a device with another user, oldest first.
func (d *device) with(u *user) []Message {
	d.node.w.t.Helper()
	s := d.session()
	ms, err := s.Messages(context.Background(), s.convOf(u.id), MessageID{}, MaxPage)
	if errors.Is(err, ErrNotFound) {
		return nil
	}
	if err != nil {
		d.node.w.t.Fatal(err)
	}
	return ms
}

func texts(ms []Message) (out []string) {
	for _, m := range ms {
		out = append(out, m.Text)
	}
	return out
}

func (d *device) wantTexts(u *user, want ...string) {
	d.node.w.t.Helper()
	if got := texts(d.with(u)); !slices.Equal(got, want) {
		d.node.w.t.Errorf("%s has %q with %s, want %q", d.user.name, got, u.name, want)
	}
}

func (d *device) wantState(id MessageID, want State) Message {
	d.node.w.t.Helper()
	m := d.message(id)
	if m.State != want {
		d.node.w.t.Errorf("%s: state is %s (%+v), want %s", d.user.name, m.State, m.Reason, want)
	}
	return m
}

// count is how many bundles a node holds.
func (n *node) count() int {
	n.mu.Lock()
	defer n.mu.Unlock()
	return len(n.held)
}

func readAll(t *testing.T, s *Session, id MessageID) []byte {
	t.Helper()
	_, r, err := s.OpenFile(context.Background(), id)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	b, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	return b
}
