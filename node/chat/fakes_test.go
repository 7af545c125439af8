package chat

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"iter"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"outrider/mesh/blob"
	"outrider/mesh/bundle"
	"outrider/mesh/envelope"
	"outrider/mesh/identity"
)

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

// WatchArchive is what the agent does for a compliance reader.
func (a agent) WatchArchive(tags []identity.Tag) {
	a.n.mu.Lock()
	defer a.n.mu.Unlock()
	for _, t := range tags {
		a.n.keepers[t] = true
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

// indexBytes is what the real store would count.
func indexBytes(ops []Op) (size int) {
	for _, op := range ops {
		size += 64
		switch op := op.(type) {
		case PutRow:
			size += len(op.Row.Data)
		case PutKV:
			size += len(op.Bucket) + len(op.Key) + len(op.Value)
		}
	}
	return size
}

func (s storeOf) Commit(_ context.Context, ops ...Op) error {
	return s.n.locked(func() error {
		if s.n.failing != nil {
			return s.n.failing
		}
		if len(ops) > 1024 {
			return fmt.Errorf("test: %d ops in one commit", len(ops))
		}
		if size := indexBytes(ops); size > 256<<10 {
			return fmt.Errorf("test: commit of %d bytes of index", size)
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
			out = append(out, User{ID: u.id, Name: u.name, Key: u.key.Public(), Frozen: u.frozen})
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
	return User{ID: u.id, Name: u.name, Key: u.key.Public(), Frozen: u.frozen}, true
}

func (r roster) Invited() (out []User) {
	r.n.w.mu.Lock()
	defer r.n.w.mu.Unlock()
	for id, name := range r.n.w.invited {
		out = append(out, User{ID: id, Name: name})
	}
	return out
}

// Heard: everybody's profile is everywhere, before their certificate.
func (r roster) Heard(id identity.UserID) (name string, known bool) {
	r.n.w.mu.Lock()
	defer r.n.w.mu.Unlock()
	if u := r.n.w.users[id]; u != nil {
		return u.name, true
	}
	name, known = r.n.w.invited[id]
	return name, known
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
		if r.n.uncertified {
			return errors.New("test: the device's certificate is not here yet")
		}
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
