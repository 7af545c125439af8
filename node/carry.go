package node

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"iter"
	"log/slog"
	"net"
	"time"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"outrider/mesh"
	"outrider/mesh/blob"
	"outrider/mesh/bundle"
	"outrider/mesh/cla"
	"outrider/mesh/cla/pipe"
	"outrider/mesh/identity"
	"outrider/mesh/reconcile"
	"outrider/node/api"
	"outrider/node/chat"
	"outrider/offline/carry"
)

// A stick is a node that sleeps (package carry). While it is plugged in, an
// agent wakes on it and talks to the node's own agent as any neighbour does,
// over the API's socket: so the stick is read and written with the rights of
// whoever plugged it in, and the node needs none to its files.

// carrier is the node's side: the stick's agent is a neighbour that the
// operator vouches for.
type carrier struct{ n *Node }

var _ api.Carrier = carrier{}

// CarryTerms tells a stick's agent what it must know of the network.
func (c carrier) CarryTerms() api.CarryTerms {
	secret := c.n.roster.Secrets()[0]
	return api.CarryTerms{
		Network: c.n.root.ID(), Root: c.n.root.Raw(), Salt: secret.ReconcileSalt(), Generation: uint64(secret.Generation),
		Opsec: c.n.root.Preset() == identity.PresetOpsec, Ceiling: c.n.root.Preset().MaxDelay(), ClockTrusted: c.n.clock.Trusted() || kernelSynced(),
	}
}

// Carry is a contact with the stick behind conn. It returns when the contact
// ends.
func (c carrier) Carry(ctx context.Context, conn net.Conn, medium identity.NodeID) error {
	stream, ok := conn.(pipe.Conn)
	if !ok {
		return fmt.Errorf("node: carry: a stream of type %T cannot be a link", conn)
	}
	link := pipe.New(stream, nil, medium, cla.Info{Class: cla.LAN, Addr: "carry", Version: 1})
	c.n.serveLink(ctx, link)
	return nil
}

// Carried remembers how the stick was found, for the operator, until the next
// contact or the end of the node.
func (c carrier) Carried(r api.CarryResult) {
	c.n.lastCarry.Store(&api.HealthCarry{Ended: c.n.clock.Now(), CarryResult: r})
}

// TakeRoot has nothing to take: the record is known.
func (c carrier) TakeRoot(context.Context, []byte) error { return nil }

// rootSeeker is the carrier of a node that is enrolling: all it wants of a
// stick is the root record.
type rootSeeker struct {
	network identity.NetworkID
	found   chan *identity.RootRecord
}

var _ api.Carrier = rootSeeker{}

func (s rootSeeker) CarryTerms() api.CarryTerms { return api.CarryTerms{Network: s.network} }

func (s rootSeeker) TakeRoot(ctx context.Context, raw []byte) error {
	root, err := identity.ParseRoot(raw)
	if err != nil || root.ID() != s.network {
		return fmt.Errorf("node: the stick's root record is not that of the network joined: %w", chat.ErrInvalid)
	}
	select {
	case s.found <- root:
	case <-ctx.Done():
	}
	return ctx.Err()
}

func (s rootSeeker) Carried(api.CarryResult) {} // without a contact

func (s rootSeeker) Carry(context.Context, net.Conn, identity.NodeID) error { return errEnrolling }

// CarryProgress says how a contact with a stick stands.
type CarryProgress struct {
	Took, Gave           uint64 // bundles and purge records, onto the stick and from it
	BytesTaken, BytesOut uint64 // on the link, onto the stick and from it
	InSync               bool   // nothing is missing on either side, as far as told
}

// CarryResult is how it ended.
type CarryResult struct {
	CarryProgress
	Held     int   // bundles on the stick now
	Bytes    int64 // of these, and of files' leaves
	Complete bool  // all that could cross has
	Full     bool  // something found no room on the stick
}

// What a contact with a stick waits for. Sets that stay unequal are no
// failure: a node may put objects off until it knows what they depend on.
const (
	carryLook   = 100 * time.Millisecond
	carryQuiet  = time.Second     // nothing moved and both sets are equal: done
	carryStuck  = 6 * time.Second // nothing moved although they are not: done as far as possible
	carryMurmur = 4 << 10         // bytes of comparing that are no movement
)

// CarryContact runs the agent of a stick on conn, whose other end is Carry's,
// until both have what the other could give. in holds what was already read of
// conn; progress may be nil.
func CarryContact(ctx context.Context, m *carry.Medium, t api.CarryTerms, conn pipe.Conn, in io.Reader, log *slog.Logger, progress func(CarryProgress)) (r CarryResult, err error) {
	space, err := mediumSpace(m.Dir())
	if err != nil {
		return r, err
	}
	agent := mesh.NewShell(mesh.ShellConfig{
		Self: m.ID(), Store: mediumStore{m}, Judge: blindJudge{}, Salt: reconcile.Salt(t.Salt), Generation: t.Generation, Opsec: t.Opsec, Blind: true,
		Limits: mesh.Limits{Bytes: space / 4, BlobBytes: space / 2, Ceiling: t.Ceiling}, Log: log,
		TimeOff: func(saved time.Time) (time.Duration, bool) {
			off := time.Since(saved)
			return max(0, off), t.ClockTrusted && off >= 0
		},
	})
	ctx, done := context.WithCancel(ctx)
	defer done()
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return agent.Run(ctx) })
	over := make(chan struct{})
	g.Go(func() error {
		defer close(over)
		return agent.AddLink(ctx, pipe.New(conn, in, t.Node, cla.Info{Class: cla.LAN, Addr: "node", Dialled: true, Version: 1}))
	})
	g.Go(func() error {
		defer done()
		r = watchCarry(ctx, agent, over, progress)
		return nil
	})
	return r, ignoreEnd(ctx, g.Wait())
}

// watchCarry waits until nothing moves any more.
func watchCarry(ctx context.Context, agent *mesh.Shell, over <-chan struct{}, progress func(CarryProgress)) (r CarryResult) {
	tick := time.NewTicker(carryLook)
	defer tick.Stop()
	moved := time.Now()
	var last CarryProgress // when something moved
	for {
		select {
		case <-ctx.Done():
			return r
		case <-over:
			return r
		case <-tick.C:
		}
		st := agent.Status()
		r.Held, r.Bytes = st.Held, st.Bytes+st.BlobBytes
		for _, nb := range agent.Neighbours() {
			r.CarryProgress = CarryProgress{
				Took: st.Counters.Received, Gave: uint64(nb.Sent), BytesTaken: nb.Rx, BytesOut: nb.Tx,
				InSync: nb.InSync && nb.Queued == 0 && nb.InFlight == 0,
			}
		}
		if r.movedSince(last) {
			last, moved = r.CarryProgress, time.Now()
			if progress != nil {
				progress(last)
			}
		}
		if quiet := time.Since(moved); quiet >= carryStuck || r.InSync && quiet >= carryQuiet {
			r.Full = st.Counters.Dropped[mesh.DropNoSpace]+st.Counters.Dropped[mesh.DropShare]+st.Counters.Dropped[mesh.DropBlobSpace]+st.Counters.Dropped[mesh.DropStore] != 0
			r.Complete = !r.Full
			return r
		}
	}
}

func (p CarryProgress) movedSince(q CarryProgress) bool {
	return p.Took != q.Took || p.Gave != q.Gave || p.BytesTaken+p.BytesOut > q.BytesTaken+q.BytesOut+carryMurmur
}

// mediumSpace is what a stick can hold: what is free and what it holds now is
// its owner's to give, less a little for the file system.
func mediumSpace(dir string) (int64, error) {
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		return 0, fmt.Errorf("node: carry: %w", err)
	}
	return max(1<<20, int64(min(st.Blocks, 1<<40))*int64(st.Bsize)-8<<20), nil
}

// blindJudge takes every control object: the stick has no keys to judge by,
// and nobody believes what it hands on without judging it.
type blindJudge struct{}

func (blindJudge) Judge(payload []byte) mesh.Verdict {
	sum := sha256.Sum256(payload)
	return mesh.Verdict{Code: mesh.VerdictAccept, Key: [16]byte(sum[:16])}
}

// mediumStore gives an agent the stick in the agent's own words.
type mediumStore struct{ m *carry.Medium }

var _ mesh.Store = mediumStore{}

func (s mediumStore) Epoch() [8]byte { return s.m.Epoch() }

func (s mediumStore) CommitEach(ctx context.Context, txns [][]mesh.Op) []error {
	out := make([][]carry.Op, len(txns))
	for i, ops := range txns {
		for _, op := range ops {
			out[i] = append(out[i], carryOp(op))
		}
	}
	errs := make([]error, len(txns))
	if err := s.m.Commit(ctx, out); err != nil {
		for i, txn := range out { // one that does not fit leaves the others alone
			errs[i] = carryError(s.m.Commit(ctx, [][]carry.Op{txn}))
		}
	}
	return errs
}

func carryOp(op mesh.Op) carry.Op {
	switch op := op.(type) {
	case mesh.PutBundle:
		r := op.Record
		b := bundle.Bundle{Hop: r.Hop, Header: r.Header, Payload: op.Payload}
		return carry.Op{Kind: carry.KindBundle, Key: r.ID[:], Data: b.Append(nil), Meta: mediumMeta(r.Meta)}
	case mesh.SetMeta:
		return carry.Op{Kind: carry.KindMeta, Key: op.ID[:], Meta: mediumMeta(op.Meta)}
	case mesh.DeleteBundle:
		return carry.Op{Kind: carry.KindDrop, Key: op.ID[:]}
	case mesh.PutTombstone:
		t := op.Tombstone
		meta := mesh.Meta{Ingress: t.Ingress, Seq: t.Seq, Stored: t.Stored, Deadline: t.Deadline, Own: t.Kept}
		return carry.Op{Kind: carry.KindPurge, Key: t.ID[:], Data: t.Record.Append(nil), Meta: mediumMeta(meta)}
	case mesh.DropTomb:
		return carry.Op{Kind: carry.KindDropPurge, Key: op.ID[:]}
	case mesh.PutValue:
		return carry.Op{Kind: carry.KindValue, Key: []byte(op.Key), Data: op.Value}
	}
	panic(fmt.Sprintf("node: the agent's operation %T is unknown here", op))
}

// A mediumRow is the agent's notes with a bundle, as CARRY.md lists them.
type mediumRow struct {
	_                        struct{} `cbor:",toarray"`
	Ingress                  identity.NodeID
	Own, Consumed, Urgent    bool
	Served, Budget, Replicas uint8
	Seq, Number              uint64
	Stored, Deadline         uint32
	Key                      [16]byte
}

func mediumMeta(m mesh.Meta) []byte {
	raw, err := identity.Marshal(mediumRow{
		Ingress: m.Ingress, Own: m.Own, Consumed: m.Consumed, Urgent: m.Urgent, Served: uint8(m.Served), Budget: m.Budget,
		Replicas: m.Replicas, Seq: m.Seq, Number: m.Number, Stored: m.Stored, Deadline: m.Deadline, Key: m.Key,
	})
	if err != nil {
		panic(err) // numbers, flags and arrays always encode
	}
	return raw
}

func parseMediumMeta(raw []byte) (mesh.Meta, error) {
	var r mediumRow
	if err := identity.Unmarshal(raw, &r); err != nil || r.Served > uint8(bundle.Flash) {
		return mesh.Meta{}, fmt.Errorf("node: carry: notes do not parse: %w", carry.ErrNotMedium)
	}
	return mesh.Meta{
		Ingress: r.Ingress, Own: r.Own, Consumed: r.Consumed, Urgent: r.Urgent, Served: bundle.Precedence(r.Served), Budget: r.Budget,
		Replicas: r.Replicas, Seq: r.Seq, Number: r.Number, Stored: r.Stored, Deadline: r.Deadline, Key: r.Key,
	}, nil
}

// Records leaves out what has no notes that parse: a stick may come from
// anybody, and one bad entry is no reason to refuse the others.
func (s mediumStore) Records() iter.Seq2[mesh.Record, error] {
	return func(yield func(mesh.Record, error) bool) {
		for r := range s.m.Bundles() {
			out, err := mediumRecord(r)
			if err == nil && !yield(out, nil) {
				return
			}
		}
	}
}

func mediumRecord(r carry.Record) (mesh.Record, error) {
	meta, err := parseMediumMeta(r.Meta)
	return mesh.Record{ID: r.ID, Hop: r.Hop, Header: r.Header, PayloadHash: r.PayloadHash, Size: r.Size, Blob: r.Blob, Meta: meta}, err
}

func (s mediumStore) Tombstones() iter.Seq2[mesh.Tombstone, error] {
	return func(yield func(mesh.Tombstone, error) bool) {
		for p := range s.m.Purges() {
			t, err := mediumTombstone(p)
			if err == nil && !yield(t, nil) {
				return
			}
		}
	}
}

func mediumTombstone(p carry.Purge) (mesh.Tombstone, error) {
	m, err := parseMediumMeta(p.Meta)
	return mesh.Tombstone{ID: p.ID, Record: p.Record, Ingress: m.Ingress, Seq: m.Seq, Stored: m.Stored, Deadline: m.Deadline, Kept: m.Own}, err
}

func (s mediumStore) Load(_ context.Context, id bundle.ID) (mesh.Record, []byte, error) {
	r, payload, err := s.m.Load(id)
	if err != nil {
		return mesh.Record{}, nil, carryError(err)
	}
	out, err := mediumRecord(r)
	return out, payload, err
}

func (s mediumStore) Tombstone(_ context.Context, id bundle.ID) (mesh.Tombstone, error) {
	p, err := s.m.Purge(id)
	if err != nil {
		return mesh.Tombstone{}, carryError(err)
	}
	return mediumTombstone(p)
}

func (s mediumStore) Value(key string) ([]byte, error) { return s.m.Value(key), nil }

func (s mediumStore) OpenBlob(ctx context.Context, d blob.Descriptor) (*blob.Bitmap, error) {
	have, err := s.m.OpenBlob(ctx, d)
	return have, carryError(err)
}

func (s mediumStore) WriteProof(_ context.Context, root blob.Root, group int, proof []byte) error {
	return carryError(s.m.PutProof(root, group, proof))
}

func (s mediumStore) WriteLeaf(_ context.Context, root blob.Root, leaf int, data []byte) error {
	return carryError(s.m.PutLeaf(root, leaf, data))
}

func (s mediumStore) SyncBlobs(_ context.Context, roots []blob.Root) error {
	for _, r := range roots {
		if err := s.m.Sync(r); err != nil {
			return carryError(err)
		}
	}
	return nil
}

func (s mediumStore) ReadLeaf(_ context.Context, root blob.Root, leaf int) ([]byte, error) {
	b, err := s.m.Leaf(root, leaf)
	return b, carryError(err)
}

func (s mediumStore) ReadProof(_ context.Context, root blob.Root, group int) ([]byte, error) {
	b, err := s.m.Proof(root, group)
	return b, carryError(err)
}

func (s mediumStore) DropBlob(_ context.Context, root blob.Root) error {
	return carryError(s.m.DropBlob(root))
}

// carryError translates the stick's errors into those the agent knows.
func carryError(err error) error {
	switch {
	case errors.Is(err, carry.ErrVerify):
		return fmt.Errorf("%w: %v", mesh.ErrVerify, err)
	case errors.Is(err, carry.ErrFull):
		return fmt.Errorf("%w: %v", mesh.ErrStoreFull, err)
	case errors.Is(err, carry.ErrNotFound):
		return fmt.Errorf("%w: %v", mesh.ErrNotStored, err)
	}
	return err
}
