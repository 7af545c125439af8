package chat

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"outrider/mesh/blob"
	"outrider/mesh/bundle"
	"outrider/mesh/envelope"
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
	mu      sync.Mutex // guards who there is and what is known of them
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

	mu         sync.Mutex
	blobs      map[blob.Root]*fakeBlob
	held       map[bundle.ID]*heldBundle
	seq        int
	purges     map[bundle.ID]bundle.PurgeRecord
	watched    map[identity.Tag]bool
	neighbours int
	full       bool
	untrusted  bool

	steps   int // durable operations so far
	crashAt int // the operation that does not happen any more; 0 = none
	crashed bool
	failing error // what every store commit returns

	svc     *Service
	stop    context.CancelFunc
	done    chan error
	updates []Update
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
		Log: slog.New(slog.DiscardHandler),
		Notify: func(u identity.UserID, up Update) {
			n.mu.Lock()
			defer n.mu.Unlock()
			n.updates = append(n.updates, up)
		},
	})
	if err := n.svc.Load(); err != nil {
		n.w.t.Fatal(err)
	}
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
	if src == nil || to.crashed {
		return
	}
	to.mu.Lock()
	defer to.mu.Unlock()
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
	if _, gone := n.purges[id]; gone {
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

// applyPurge removes a bundle; the caller holds mu.
func (n *node) applyPurge(r bundle.PurgeRecord) {
	id := r.ID()
	if _, known := n.purges[id]; known || n.crashed || !r.Valid() {
		return
	}
	n.purges[id] = r
	if h := n.held[id]; h != nil {
		delete(n.held, id)
		if d, err := blob.ParseDescriptor(h.b.Payload); err == nil && h.b.Header.Kind == bundle.KindBlob && n.svc != nil && !n.svc.Pinned(d.Root) {
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

// The agent.
type agent struct{ n *node }

func (a agent) Submit(_ context.Context, b bundle.Bundle) error {
	return a.n.locked(func() error {
		if a.n.full {
			return fmt.Errorf("test: %w", ErrFull)
		}
		a.n.accept(b, b.Hop.AgeDuration(), false)
		return nil
	})
}

func (a agent) Purge(_ context.Context, r bundle.PurgeRecord) error {
	return a.n.locked(func() error {
		if !r.Valid() {
			return errors.New("test: purge key does not fit")
		}
		a.n.applyPurge(r)
		return nil
	})
}

func (a agent) Watch(add, remove []identity.Tag) {
	a.n.mu.Lock()
	defer a.n.mu.Unlock()
	for _, t := range remove {
		delete(a.n.watched, t)
	}
	for _, t := range add {
		a.n.watched[t] = true
	}
	for _, id := range bySeq(a.n.held) {
		h := a.n.held[id]
		if !h.consumed && slices.Contains(add, h.b.Header.Tag) {
			a.n.tell(Arrived{ID: id, Tag: h.b.Header.Tag, Kind: h.b.Header.Kind})
		}
	}
}

func (a agent) Consumed(_ context.Context, ids []bundle.ID) error {
	return a.n.locked(func() error {
		for _, id := range ids {
			if h := a.n.held[id]; h != nil {
				h.consumed = true
			}
		}
		return nil
	})
}

func (a agent) Load(_ context.Context, id bundle.ID) (bundle.Bundle, error) {
	a.n.mu.Lock()
	defer a.n.mu.Unlock()
	if a.n.crashed {
		return bundle.Bundle{}, errCrash
	}
	h := a.n.held[id]
	if h == nil {
		return bundle.Bundle{}, fmt.Errorf("test: %w", ErrNotFound)
	}
	b := h.b
	b.Hop = b.Hop.Older(h.age + time.Since(h.at) - b.Hop.AgeDuration())
	return b, nil
}

func (a agent) Explain(_ context.Context, id bundle.ID) Explanation {
	a.n.mu.Lock()
	defer a.n.mu.Unlock()
	_, purged := a.n.purges[id]
	ex := Explanation{Purged: purged}
	if h := a.n.held[id]; h != nil {
		ex.Held, ex.AtReader, ex.Age = true, h.atReader, h.age+time.Since(h.at)
		for _, c := range h.carriers {
			ex.Carriers = append(ex.Carriers, c.id)
		}
	}
	return ex
}

func (a agent) Contacts() Contacts {
	a.n.mu.Lock()
	defer a.n.mu.Unlock()
	return Contacts{Neighbours: a.n.neighbours}
}

// The store.
type fakeStore struct {
	rows map[string]Row
	kv   map[string][]byte // bucket \x00 key
}

func newFakeStore() *fakeStore {
	return &fakeStore{rows: make(map[string]Row), kv: make(map[string][]byte)}
}

type storeOf struct{ n *node }

func rowKeyOf(u identity.UserID, m MessageID) string { return string(u[:]) + string(m[:]) }

func (s storeOf) Commit(_ context.Context, ops ...Op) error {
	return s.n.locked(func() error {
		if s.n.failing != nil {
			return s.n.failing
		}
		if len(ops) > 1024 {
			return fmt.Errorf("test: %d ops in one commit", len(ops))
		}
		st := s.n.store
		for _, op := range ops {
			switch op := op.(type) {
			case PutRow:
				op.Row.Data = bytes.Clone(op.Row.Data)
				st.rows[rowKeyOf(op.Row.User, op.Row.Msg)] = op.Row
			case DeleteRow:
				delete(st.rows, rowKeyOf(op.User, op.Msg))
			case PutKV:
				if len(op.Value) > 64<<10 {
					return errors.New("test: value is too large")
				}
				st.kv[op.Bucket+"\x00"+op.Key] = bytes.Clone(op.Value)
			case DeleteKV:
				delete(st.kv, op.Bucket+"\x00"+op.Key)
			}
		}
		return nil
	})
}

func (s storeOf) Row(u identity.UserID, m MessageID) (Row, error) {
	s.n.mu.Lock()
	defer s.n.mu.Unlock()
	r, ok := s.n.store.rows[rowKeyOf(u, m)]
	if !ok {
		return Row{}, fmt.Errorf("test: %w", ErrNotFound)
	}
	return r, nil
}

func (s storeOf) Rows(u identity.UserID, c ConversationID, before uint64, n int) (out []Row, err error) {
	s.n.mu.Lock()
	defer s.n.mu.Unlock()
	for _, r := range s.n.store.rows {
		if r.User == u && r.Conv == c && r.Order < before {
			out = append(out, r)
		}
	}
	slices.SortFunc(out, func(a, b Row) int { return cmp.Compare(b.Order, a.Order) })
	return out[:min(n, len(out))], nil
}

func (s storeOf) Get(bucket, key string) ([]byte, error) {
	s.n.mu.Lock()
	defer s.n.mu.Unlock()
	v, ok := s.n.store.kv[bucket+"\x00"+key]
	if !ok {
		return nil, fmt.Errorf("test: %w", ErrNotFound)
	}
	return bytes.Clone(v), nil
}

func (s storeOf) List(bucket, prefix string) iter.Seq2[Pair, error] {
	return func(yield func(Pair, error) bool) {
		s.n.mu.Lock()
		snapshot := maps.Clone(s.n.store.kv)
		s.n.mu.Unlock()
		for _, k := range slices.Sorted(maps.Keys(snapshot)) {
			if key, ok := strings.CutPrefix(k, bucket+"\x00"); ok && strings.HasPrefix(key, prefix) {
				if !yield(Pair{Key: key, Value: snapshot[k]}, nil) {
					return
				}
			}
		}
	}
}

// The vault: what was committed survives a crash.
type vaultDisk struct {
	mu     sync.Mutex
	disk   map[[16]byte][]byte
	staged map[[16]byte][]byte
	broken error
}

func (v *vaultDisk) drop() {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.staged = make(map[[16]byte][]byte)
}

type vaultOf struct {
	n *node
	v *vaultDisk
}

func (v vaultOf) Put(id [16]byte, value []byte) error {
	if len(value) > 96 {
		return errors.New("test: secret is too large")
	}
	v.v.mu.Lock()
	defer v.v.mu.Unlock()
	v.v.staged[id] = bytes.Clone(value)
	return nil
}

func (v vaultOf) Get(id [16]byte) ([]byte, error) {
	v.v.mu.Lock()
	defer v.v.mu.Unlock()
	b, ok := v.v.staged[id]
	if !ok {
		b = v.v.disk[id]
	}
	if b == nil {
		return nil, fmt.Errorf("test: %w", envelope.ErrNoSecret)
	}
	return bytes.Clone(b), nil
}

func (v vaultOf) Shred(id [16]byte) error {
	v.v.mu.Lock()
	defer v.v.mu.Unlock()
	v.v.staged[id] = nil
	return nil
}

func (v vaultOf) Commit() error {
	return v.n.locked(func() error {
		v.v.mu.Lock()
		defer v.v.mu.Unlock()
		if v.v.broken != nil {
			return v.v.broken
		}
		for id, b := range v.v.staged {
			if b == nil {
				delete(v.v.disk, id)
			} else {
				v.v.disk[id] = b
			}
		}
		clear(v.v.staged)
		return nil
	})
}

func (v vaultOf) Close() error { return nil }

type accounts struct{ n *node }

func (a accounts) Users() (out []identity.UserID, err error) {
	a.n.w.mu.Lock()
	defer a.n.w.mu.Unlock()
	for _, d := range a.n.hosted {
		out = append(out, d.user.id)
	}
	return out, nil
}

func (a accounts) Keystore(u identity.UserID) ([]byte, error) {
	a.n.mu.Lock()
	defer a.n.mu.Unlock()
	if b := a.n.store.kv["keystore\x00"+string(u[:])]; b != nil {
		return b, nil
	}
	return nil, ErrNotFound
}

func (a accounts) SaveKeystore(u identity.UserID, b []byte) error {
	return a.n.locked(func() error {
		a.n.store.kv["keystore\x00"+string(u[:])] = b
		return nil
	})
}

func (a accounts) OpenVault(u identity.UserID, kek [32]byte) (Vault, error) {
	a.n.mu.Lock()
	defer a.n.mu.Unlock()
	v := a.n.vaults[u]
	if v == nil {
		v = &vaultDisk{disk: make(map[[16]byte][]byte), staged: make(map[[16]byte][]byte)}
		a.n.vaults[u] = v
	}
	v.drop()
	return vaultOf{a.n, v}, nil
}

// Blobs.
type fakeBlob struct {
	total  int
	leaves map[int][]byte
	limit  int // how many leaves are given away, 0 = all
}

type blobsOf struct{ n *node }

type blobWriter struct {
	n       *node
	builder blob.Builder
	leaves  map[int][]byte
}

func (b blobsOf) NewWriter(context.Context) (BlobWriter, error) {
	b.n.mu.Lock()
	defer b.n.mu.Unlock()
	if b.n.full {
		return nil, fmt.Errorf("test: %w", ErrFull)
	}
	return &blobWriter{n: b.n, leaves: make(map[int][]byte)}, nil
}

func (w *blobWriter) WriteLeaf(l []byte) error {
	w.leaves[len(w.leaves)] = bytes.Clone(l)
	return w.builder.AddLeaf(l)
}

func (w *blobWriter) Finish(context.Context) (d blob.Descriptor, err error) {
	return d, w.n.locked(func() error {
		root, _ := w.builder.Finish()
		d = blob.Descriptor{Root: root, Length: w.builder.Length()}
		w.n.blobs[root] = &fakeBlob{total: len(w.leaves), leaves: w.leaves}
		return nil
	})
}

func (w *blobWriter) Abort() error { return nil }

func (b blobsOf) ReadLeaf(_ context.Context, root blob.Root, i int) ([]byte, error) {
	b.n.mu.Lock()
	defer b.n.mu.Unlock()
	if f := b.n.blobs[root]; f != nil && f.leaves[i] != nil {
		return f.leaves[i], nil
	}
	return nil, fmt.Errorf("test: leaf %d: %w", i, ErrNotFound)
}

func (b blobsOf) Progress(root blob.Root) (have, total int, err error) {
	b.n.mu.Lock()
	defer b.n.mu.Unlock()
	f := b.n.blobs[root]
	if f == nil {
		return 0, 0, ErrNotFound
	}
	return len(f.leaves), f.total, nil
}

func (b blobsOf) Drop(_ context.Context, root blob.Root) error {
	return b.n.locked(func() error {
		delete(b.n.blobs, root)
		return nil
	})
}

// The roster: everybody, but for those whose certificates this node lacks.
type roster struct{ n *node }

func (n *node) hide(u *user) { n.w.change(func() { n.hidden[u.id] = true }) }

func (n *node) show(u *user) {
	n.w.change(func() { delete(n.hidden, u.id) })
	n.rosterChanged()
}

func (n *node) rosterChanged() {
	n.mu.Lock()
	defer n.mu.Unlock()
	close(n.changed)
	n.changed = make(chan struct{})
}

func (r roster) see(u *user) bool { return u != nil && !r.n.hidden[u.id] && !u.revoked }

func (r roster) Users() (out []User) {
	r.n.w.mu.Lock()
	defer r.n.w.mu.Unlock()
	for _, u := range r.n.w.users {
		if r.see(u) {
			out = append(out, User{u.id, u.name, u.frozen})
		}
	}
	return out
}

func (r roster) User(id identity.UserID) (User, bool) {
	r.n.w.mu.Lock()
	defer r.n.w.mu.Unlock()
	u := r.n.w.users[id]
	if !r.see(u) {
		return User{}, false
	}
	return User{u.id, u.name, u.frozen}, true
}

func (r roster) Revoked(id identity.UserID) bool {
	r.n.w.mu.Lock()
	defer r.n.w.mu.Unlock()
	u := r.n.w.users[id]
	return u != nil && u.revoked
}

func (r roster) Devices(id identity.UserID) (out []Device) {
	r.n.w.mu.Lock()
	defer r.n.w.mu.Unlock()
	u := r.n.w.users[id]
	if !r.see(u) {
		return nil
	}
	for _, d := range u.devices {
		if !d.dead {
			out = append(out, r.view(d))
		}
	}
	return out
}

func (r roster) view(d *device) Device {
	return Device{ID: d.id, User: d.user.id, Key: d.keys.Device.Public(), Prekeys: slices.Clone(r.n.w.prekeys[d.id])}
}

func (r roster) Device(id identity.DeviceID) (Device, bool) {
	r.n.w.mu.Lock()
	defer r.n.w.mu.Unlock()
	for _, u := range r.n.w.users {
		for _, d := range u.devices {
			if d.id == id && !d.dead && r.see(u) {
				return r.view(d), true
			}
		}
	}
	return Device{}, false
}

func (r roster) NodeName(id identity.NodeID) string {
	for _, n := range r.n.w.nodes {
		if n.id == id {
			return n.name
		}
	}
	return "a node"
}

func (r roster) Changed() <-chan struct{} {
	r.n.mu.Lock()
	defer r.n.mu.Unlock()
	return r.n.changed
}

func (r roster) PublishPrekeys(_ context.Context, d identity.DeviceID, bundles [][]byte) error {
	return r.n.locked(func() error {
		var ps []identity.PrekeyBundle
		for _, b := range bundles {
			ps = append(ps, must(identity.ParsePrekey(b)))
		}
		r.n.w.mu.Lock()
		defer r.n.w.mu.Unlock()
		r.n.w.prekeys[d] = ps
		return nil
	})
}

type clock struct{ n *node }

func (c clock) Now() time.Time         { return time.Now() }
func (c clock) Elapsed() time.Duration { return time.Since(c.n.w.start) }

func (c clock) Trusted() bool {
	c.n.mu.Lock()
	defer c.n.mu.Unlock()
	return !c.n.untrusted
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
