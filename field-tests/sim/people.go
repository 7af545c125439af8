package sim

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"math/rand/v2"
	"time"

	"outrider/mesh"
	"outrider/mesh/blob"
	"outrider/mesh/bundle"
	"outrider/mesh/identity"
)

// A message is a bundle that somebody sent and the agent accepted.
type message struct {
	id       bundle.ID
	from, to int
	at       time.Duration
	lifetime time.Duration
	payload  []byte
	key      bundle.PurgeKey
	header   bundle.Header
	accepted bool
	arrived  bool // at its reader
	blob     *blob.Descriptor
	control  bool
}

var controlTag = identity.Tag{0xc0, 1}

func hashOf(b []byte) [32]byte { return sha256.Sum256(b) }

// planMessages lets people write to each other, send files, and the admin
// issue control objects of which some depend on others.
func (w *World) planMessages() {
	r := w.rand("messages", 0)
	for i := range w.cfg.Messages {
		at := time.Duration(r.Int64N(int64(w.cfg.Faulty * 9 / 10)))
		m := &message{from: r.IntN(len(w.nodes)), to: r.IntN(len(w.nodes))}
		size := 200 + r.IntN(800)
		switch d := r.IntN(100); {
		case d < 10:
			size = 1000 + r.IntN(3000)
		case d < 25:
			size = 5000 + r.IntN(20_000)
		case d < 28:
			size = 30_000 + r.IntN(35_000)
		}
		m.lifetime = []time.Duration{20 * time.Minute, time.Hour, 6 * time.Hour, 24 * time.Hour}[r.IntN(4)]
		prec := []bundle.Precedence{0, 0, 0, 0, 1, 1, 2, 3}[r.IntN(8)]
		seed := r.Uint64()
		if m.from != m.to {
			w.after(at, func() { w.write(m, i, size, prec, seed) })
		}
	}
	for i := range w.cfg.Messages / 40 {
		m := &message{from: r.IntN(len(w.nodes)), to: r.IntN(len(w.nodes)), lifetime: 24 * time.Hour}
		at, size, seed := time.Duration(r.Int64N(int64(w.cfg.Faulty/2))), 20_000+r.IntN(600_000), r.Uint64()
		w.after(at, func() { w.writeFile(m, i, size, seed) })
	}
	w.planControl(r)
}

// planControl issues objects in pairs: of the second the judge says Later
// until it knows the first; both get newer versions.
func (w *World) planControl(r *rand.Rand) {
	for i := range w.cfg.Messages / 20 {
		at := time.Duration(r.Int64N(int64(w.cfg.Faulty / 2)))
		root, leaf := [16]byte{1, byte(i)}, [16]byte{2, byte(i)}
		from := r.IntN(len(w.nodes))
		for v := range 2 {
			w.after(at+time.Duration(v)*10*time.Minute, func() { w.writeControl(from, root, [16]byte{}, uint64(v+1)) })
			w.after(at+time.Duration(v)*10*time.Minute+5*time.Second, func() { w.writeControl(from, leaf, root, uint64(v+1)) })
		}
	}
}

func (w *World) newPayload(seed uint64, i, size int, key bundle.PurgeKey) []byte {
	p := make([]byte, size)
	r := rand.New(rand.NewPCG(seed, uint64(i)))
	for j := range p {
		p[j] = byte(r.Uint32())
	}
	copy(p, key[:])
	sum := hashOf(p[:size-8])
	copy(p[size-8:], sum[:8]) // stands for the seal: the reader knows a forgery
	return p
}

func (w *World) write(m *message, i, size int, prec bundle.Precedence, seed uint64) {
	binary.BigEndian.PutUint64(m.key[:], seed)
	w.submit(m, bundle.Header{
		Version: 1, Tag: w.nodes[m.to].tag, Precedence: prec, Lifetime: m.lifetime, Kind: bundle.KindMessage,
	}, w.newPayload(seed, i, size, m.key), 0)
}

func (w *World) writeFile(m *message, i, size int, seed uint64) {
	n := w.nodes[m.from]
	if n.machine == nil || m.from == m.to {
		return
	}
	d := n.store.PutBlob(w.newPayload(seed, i, size, m.key))
	m.blob = &d
	payload, err := d.MarshalBinary()
	if err != nil {
		w.fail("descriptor: %v", err)
		return
	}
	binary.BigEndian.PutUint64(m.key[:], seed)
	w.count.Blobs++
	w.submit(m, bundle.Header{Version: 1, Tag: w.nodes[m.to].tag, Lifetime: m.lifetime, Kind: bundle.KindBlob}, payload, 0)
}

func (w *World) writeControl(from int, key, parent [16]byte, number uint64) {
	m := &message{from: from, to: -1, lifetime: 300 * 24 * time.Hour, control: true}
	p := append(append([]byte(nil), key[:]...), parent[:]...)
	p = binary.BigEndian.AppendUint64(p, number)
	sum := hashOf(p)
	w.submit(m, bundle.Header{Version: 1, Tag: controlTag, Precedence: bundle.Priority, Lifetime: m.lifetime, Kind: bundle.KindControl}, append(p, sum[:8]...), 0)
}

// submit hands a bundle to its writer's agent; a node that is off writes
// nothing. A refusal is no loss: the writer was told.
func (w *World) submit(m *message, h bundle.Header, payload []byte, budget uint8) {
	n := w.nodes[m.from]
	if n.machine == nil {
		return
	}
	h.Commitment = m.key.Commit(h.Tag)
	b, err := bundle.New(h, payload, budget)
	if err != nil {
		w.fail("bundle: %v", err)
		return
	}
	m.id, m.header, m.payload, m.at = b.ID(), b.Header, payload, w.now
	if w.sent[m.id] == nil {
		w.sent[m.id] = m
	}
	n.call(func(req uint64) mesh.Input {
		return mesh.Submitted{
			Req: req, ID: m.id, Hop: b.Hop, Header: b.Header, PayloadHash: hashOf(payload), Size: len(payload), Blob: m.blob, Token: n.keep(payload),
		}
	}, func(err error) { w.submitted(m, err) })
}

func (w *World) submitted(m *message, err error) {
	w.note(m.from, 'm', m.id[:])
	if err != nil {
		w.count.Refused++
		return
	}
	w.count.Accepted++
	m.accepted = true
	w.checkAccepted(m)
}

// judge stands for the roster: a checksum for the signature, a parent for the
// chain.
func (n *node) judge(payload []byte) mesh.Judgement {
	if len(payload) != 48 || !bytes.Equal(payload[40:], hash8(payload[:40])) {
		return mesh.Judgement{Code: mesh.VerdictForged}
	}
	j := mesh.Judgement{Code: mesh.VerdictAccept, Key: [16]byte(payload), Number: binary.BigEndian.Uint64(payload[32:])}
	if parent := [16]byte(payload[16:]); parent != ([16]byte{}) && n.applied[parent] == 0 {
		j.Code = mesh.VerdictLater
	}
	return j
}

func hash8(b []byte) []byte {
	sum := hashOf(b)
	return sum[:8]
}

func (n *node) apply(payload []byte) {
	if len(payload) == 48 {
		key := [16]byte(payload)
		n.applied[key] = max(n.applied[key], binary.BigEndian.Uint64(payload[32:]))
	}
}

// happened is the part of the application: it reads what arrives, marks it as
// read, and releases the receipt.
func (n *node) happened(ev mesh.Event) {
	switch ev := ev.(type) {
	case mesh.Arrived:
		n.w.note(n.index, 'a', ev.ID[:])
		n.w.checkArrived(n, ev)
		n.later(time.Duration(1+n.rand.IntN(500))*time.Millisecond, func() { n.read(ev.ID) })
	case mesh.Purged:
		n.w.note(n.index, 'p', ev.ID[:])
		n.w.checkPurged(n, ev)
	case mesh.BlobComplete:
		n.w.note(n.index, 'b', ev.Root[:])
		n.w.checkBlob(n, ev.Root)
	case mesh.Expired:
		n.w.note(n.index, 'e', ev.ID[:])
		n.w.count.Expired++
	}
}

func (n *node) read(id bundle.ID) {
	_, payload, err := n.store.Load(background, id)
	if err != nil {
		return // purged or expired meanwhile
	}
	m := n.w.sent[id]
	if n.judge(payload).Code == mesh.VerdictAccept { // whatever header it came in
		n.apply(payload)
	}
	if m != nil && m.to == n.index && m.blob == nil {
		n.w.delivered(m, payload)
	}
	n.call(func(req uint64) mesh.Input { return mesh.ConsumedAsked{Req: req, IDs: []bundle.ID{id}} }, func(err error) {
		if err != nil {
			n.later(30*time.Second, func() { n.read(id) })
			return
		}
		n.consumed[id] = true
		if m != nil && m.to == n.index && m.blob == nil && m.id[0]%4 != 0 {
			n.release1(m)
		}
	})
}

// release1 gives the purge key out: the receipt of the only reader.
func (n *node) release1(m *message) {
	n.w.purged[m.id] = true
	rec := bundle.PurgeRecord{Header: m.header, PayloadHash: hashOf(m.payload), Key: m.key}
	rec.Hop.Age = uint32(max(0, n.w.now-m.at) / time.Second)
	n.call(func(req uint64) mesh.Input { return mesh.PurgeAsked{Req: req, Record: rec} }, func(err error) {
		if err != nil {
			n.later(time.Minute, func() { n.release1(m) })
		}
	})
}
