package envelope

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"iter"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"outrider/mesh/identity"
)

// errPower is what every operation of a disk returns once its power is cut.
var errPower = errors.New("power cut")

// A disk holds a vault and records. It can be cut off before any operation;
// what the vault had not committed is then lost. It is what a keyring of a
// real node stands on, with nothing forgiven.
type disk struct {
	mu      sync.Mutex
	durable map[[16]byte][]byte
	pending map[[16]byte][]byte // nil value: shredded
	records map[string][]byte
	ops     int
	commits int
	cutAt   int // number of the operation that fails, 0 for none
	cut     bool
}

func newDisk() *disk {
	return &disk{durable: map[[16]byte][]byte{}, pending: map[[16]byte][]byte{}, records: map[string][]byte{}}
}

func (d *disk) op() error {
	d.ops++
	if d.cutAt > 0 && d.ops >= d.cutAt {
		d.cut = true
	}
	if d.cut {
		return errPower
	}
	return nil
}

func (d *disk) Put(id [16]byte, value []byte) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if len(value) == 0 || len(value) > 96 {
		panic(fmt.Sprintf("secret of %d bytes", len(value)))
	}
	if err := d.op(); err != nil {
		return err
	}
	d.pending[id] = bytes.Clone(value)
	return nil
}

func (d *disk) Get(id [16]byte) ([]byte, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.cut {
		return nil, errPower
	}
	if v, ok := d.pending[id]; ok {
		if v == nil {
			return nil, fmt.Errorf("get: %w", ErrNoSecret)
		}
		return bytes.Clone(v), nil
	}
	if v, ok := d.durable[id]; ok {
		return bytes.Clone(v), nil
	}
	return nil, fmt.Errorf("get: %w", ErrNoSecret)
}

func (d *disk) Shred(id [16]byte) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := d.op(); err != nil {
		return err
	}
	d.pending[id] = nil
	return nil
}

func (d *disk) Commit() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := d.op(); err != nil {
		return err
	}
	d.commits++
	for id, v := range d.pending {
		if v == nil {
			delete(d.durable, id)
		} else {
			d.durable[id] = v
		}
	}
	clear(d.pending)
	return nil
}

func (d *disk) PutRecord(key string, value []byte) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := d.op(); err != nil {
		return err
	}
	if value == nil {
		delete(d.records, key)
	} else {
		d.records[key] = bytes.Clone(value)
	}
	return nil
}

func (d *disk) Records(prefix string) iter.Seq2[string, []byte] {
	d.mu.Lock()
	defer d.mu.Unlock()
	all := maps.Clone(d.records)
	return func(yield func(string, []byte) bool) {
		for _, k := range slices.Sorted(maps.Keys(all)) {
			if strings.HasPrefix(k, prefix) && !yield(k, all[k]) {
				return
			}
		}
	}
}

// powerUp is the disk after a power cut: only what was committed is there.
func (d *disk) powerUp() {
	d.mu.Lock()
	defer d.mu.Unlock()
	clear(d.pending)
	d.cut, d.cutAt = false, 0
}

// A world is a network of devices with one clock.
type world struct {
	t       fataler
	network identity.NetworkID
	tagKey  [32]byte
	mu      sync.Mutex
	now     time.Time
	certs   map[identity.DeviceID]Device
	padding Padding
}

func newWorld(t fataler) *world {
	return &world{
		t: t, network: identity.NetworkID{1, 2, 3}, tagKey: [32]byte{9}, now: time.Date(2026, 5, 1, 12, 0, 0, 0, time.UTC),
		certs: map[identity.DeviceID]Device{},
	}
}

func (w *world) clock() time.Time {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.now
}

func (w *world) pass(d time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.now = w.now.Add(d)
}

func (w *world) lookup(d identity.DeviceID) (Device, bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	c, ok := w.certs[d]
	return c, ok
}

// A node is one device of the world with its keyring and disk.
type node struct {
	*Keyring
	world *world
	self  Self
	disk  *disk
}

func (w *world) node(name byte, device byte) *node {
	seed := [32]byte{name, device, 0xd0}
	key := identity.PrivateKeyFromSeed(seed)
	n := &node{world: w, disk: newDisk(), self: Self{
		Network: w.network, TagKeys: [][32]byte{w.tagKey}, User: identity.UserID{name}, Device: key.Public().DeviceID(), Key: key,
		NotAfter: w.now.Add(90 * 24 * time.Hour), Padding: w.padding, Lookup: LookupFunc(w.lookup),
	}}
	w.certs[n.self.Device] = Device{n.self.User, key.Public()}
	n.restart()
	return n
}

// restart cuts the power and starts the keyring again.
func (n *node) restart() {
	n.world.t.Helper()
	n.disk.powerUp()
	k, err := NewKeyring(n.disk, n.disk, n.self, n.world.clock)
	if err != nil {
		n.world.t.Fatal(err)
	}
	n.Keyring = k
}

func (n *node) prekeys() (ps []Prekey) {
	n.world.t.Helper()
	raws, err := n.Prekeys()
	if err != nil {
		n.world.t.Fatal(err)
	}
	for _, raw := range raws {
		p, err := identity.ParsePrekey(raw)
		if err != nil {
			n.world.t.Fatal(err)
		}
		ps = append(ps, p)
	}
	return ps
}

func (n *node) recipient() Recipient {
	p := ChoosePrekey(n.prekeys(), n.world.clock(), DefaultMaxDelay, true)
	return Recipient{User: n.self.User, Device: n.self.Device, DeviceKey: n.self.Key.Public(), Prekey: p}
}

// header is a header as mesh/bundle writes it, in size and in what it depends on.
func header(tag identity.Tag, purge PurgeKey) []byte {
	commitment := digestOf(tag[:], purge[:])
	b := []byte{0xa6, 1, 1, 2, 0x48}
	b = append(b, tag[:]...)
	b = append(b, 3, 1, 4, 0x19)
	b = binary.BigEndian.AppendUint16(b, 1440)
	b = append(b, 5, 0x48)
	b = append(b, commitment[:8]...)
	return append(b, 6, 1)
}

func headerFunc(tag identity.Tag, purge PurgeKey) ([]byte, error) { return header(tag, purge), nil }

// start makes n start an epoch with the others and has them open it.
func (n *node) start(others ...*node) EpochID {
	n.world.t.Helper()
	id, wraps := n.startOnly(others...)
	for i, o := range others {
		info, err := o.OpenEpoch(wraps[i].Tag, wraps[i].Header, wraps[i].Payload)
		if err != nil || info.ID != id || info.PurgeKey != wraps[i].PurgeKey {
			n.world.t.Fatalf("open epoch: %v", err)
		}
		if err := o.Commit(); err != nil {
			n.world.t.Fatal(err)
		}
	}
	return id
}

func (n *node) startOnly(others ...*node) (EpochID, []Wrap) {
	n.world.t.Helper()
	var to []Recipient
	for _, o := range others {
		to = append(to, o.recipient())
	}
	id, wraps, err := n.StartEpoch(to, EpochOptions{Header: headerFunc})
	if err != nil {
		n.world.t.Fatal(err)
	}
	return id, wraps
}

// A mail is a sealed message on its way.
type mail struct {
	tag     identity.Tag
	header  []byte
	payload []byte
	index   uint32
	purge   PurgeKey
	text    string
}

func textInner(w *world, text string) Inner {
	body, err := Text{text}.Encode()
	if err != nil {
		w.t.Fatal(err)
	}
	return Inner{Type: TypeText, Sent: uint64(w.clock().UnixMilli()), TTL: 24 * time.Hour, Body: body}
}

func (n *node) send(e EpochID, text string) mail {
	n.world.t.Helper()
	m, err := n.trySend(e, text, false)
	if err != nil {
		n.world.t.Fatal(err)
	}
	return m
}

func (n *node) trySend(e EpochID, text string, live bool) (mail, error) {
	draft := n.Draft
	if live {
		draft = n.DraftLive
	}
	d, err := draft(e)
	if err != nil {
		return mail{}, err
	}
	h := header(d.Tag(), d.PurgeKey())
	payload, err := d.Seal(h, textInner(n.world, text))
	return mail{d.Tag(), h, payload, d.Index(), d.PurgeKey(), text}, err
}

func (n *node) open(m mail) (*Opened, error) { return n.Open(m.tag, m.header, m.payload) }

// receive opens and accepts a message and checks its text.
func (n *node) receive(m mail) *Opened {
	n.world.t.Helper()
	o, err := n.open(m)
	if err != nil {
		n.world.t.Fatalf("message %d: %v", m.index, err)
	}
	if got, err := ParseText(o.Inner.Body); err != nil || got.Text != m.text {
		n.world.t.Fatalf("text %q, want %q; %v", got.Text, m.text, err)
	}
	if err := errors.Join(n.Accept(o), n.Commit()); err != nil {
		n.world.t.Fatal(err)
	}
	return o
}

func (n *node) refuse(m mail, want error) {
	n.world.t.Helper()
	if o, err := n.open(m); !errors.Is(err, want) {
		n.world.t.Fatalf("message %d: %v (opened: %v), want %v", m.index, err, o != nil, want)
	}
}

// state is everything a keyring stands on, to show that nothing changed.
func (d *disk) state() string {
	d.mu.Lock()
	defer d.mu.Unlock()
	return fmt.Sprintf("%v|%v|%v", d.durable, d.pending, d.records)
}

// A fataler is a testing.TB or a rapid.T.
type fataler interface {
	Helper()
	Fatal(args ...any)
	Fatalf(format string, args ...any)
}
