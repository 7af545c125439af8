package sim

import (
	"context"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	"outrider/mesh"
	"outrider/mesh/blob"
	"outrider/mesh/bundle"
	"outrider/mesh/identity"
	"outrider/mesh/meshtest"
	"outrider/mesh/reconcile"
)

// A node is a box with a disk, a clock, an agent and somebody who reads.
type node struct {
	w     *World
	index int
	id    identity.NodeID
	tag   identity.Tag
	rand  *rand.Rand

	store    *meshtest.Store
	diskFull bool
	drift    int64 // of its clock, parts per million
	machine  *mesh.Machine
	boots    int
	base     mesh.Time
	bootedAt time.Duration
	offAt    time.Duration

	payloads map[mesh.Token][]byte
	tokens   mesh.Token
	links    map[mesh.LinkID]*end
	commits  []mesh.Commit
	writing  bool
	blobOps  []mesh.Output
	blobbing bool
	alarm    uint64 // the last one counts
	replies  map[uint64]func(error)
	reqs     uint64
	consumed map[bundle.ID]bool // durably
	applied  map[[16]byte]uint64
}

var background = context.Background()

func (w *World) newNode(i int) *node {
	n := &node{w: w, index: i, rand: w.rand("node", i), store: meshtest.NewStore(w.cfg.Seed<<8 | uint64(i)), consumed: map[bundle.ID]bool{}}
	r := w.rand("id", i)
	for j := range n.id {
		n.id[j] = byte(r.Uint32())
	}
	binary.BigEndian.PutUint64(n.tag[:], r.Uint64())
	if w.faults.Drift {
		n.drift = r.Int64N(2001) - 1000
	}
	n.store.Fail = func([]mesh.Op) error {
		if n.diskFull {
			return mesh.ErrStoreFull
		}
		return nil
	}
	return n
}

func (n *node) config() mesh.Config {
	c := mesh.Config{
		Self: n.id, Salt: reconcile.Salt{1, 2, 3}, Generation: 1, Epoch: n.store.Epoch(),
		Rand: rand.NewPCG(n.w.cfg.Seed, uint64(n.index)<<32|uint64(n.boots)),
	}
	if n.w.faults.Small && n.index%3 == 0 {
		c.Limits.Bytes = 60_000
	}
	return c
}

// boot starts the agent from what is on disk.
func (n *node) boot() {
	n.boots++
	n.machine = mesh.NewMachine(n.config())
	n.payloads, n.links, n.replies = map[mesh.Token][]byte{}, map[mesh.LinkID]*end{}, map[uint64]func(error){}
	n.commits, n.blobOps, n.writing, n.blobbing = nil, nil, false, false
	n.applied = map[[16]byte]uint64{}
	n.base = n.restoreTime()
	n.bootedAt = n.w.now
	for r, err := range n.store.Records() {
		n.must(err)
		n.carryOut(n.machine.Step(0, mesh.RestoredBundle{Record: r}))
		if _, payload, err := n.store.Load(background, r.ID); err == nil && r.Header.Kind == bundle.KindControl && r.Meta.Consumed {
			n.apply(payload)
		}
	}
	for t, err := range n.store.Tombstones() {
		n.must(err)
		n.carryOut(n.machine.Step(0, mesh.RestoredTombstone{Tombstone: t}))
	}
	n.step(mesh.Started{})
	n.step(mesh.Watched{Add: []identity.Tag{n.tag, controlTag}})
	n.saveTime(n.boots)
	if n.boots > 1 {
		n.w.checkBoot(n)
	}
}

func (n *node) must(err error) {
	if err != nil {
		n.w.fail("node %d: store does not restore: %v", n.index, err)
	}
}

// restoreTime is what mesh.Shell does: node time goes on from the latest
// moment on disk, and from the time off if the clock is to be trusted.
func (n *node) restoreTime() mesh.Time {
	var base mesh.Time
	for r := range n.store.Records() {
		base = max(base, mesh.Time(r.Meta.Stored)*mesh.Time(time.Second))
	}
	for t := range n.store.Tombstones() {
		base = max(base, mesh.Time(t.Stored)*mesh.Time(time.Second))
	}
	saved, _ := n.store.Value("elapsed")
	if len(saved) == 16 {
		base = max(base, mesh.Time(binary.BigEndian.Uint64(saved)))
		if !n.w.faults.Forgetful {
			base = base.Add(n.w.now - time.Duration(binary.BigEndian.Uint64(saved[8:])))
		}
	}
	return base
}

func (n *node) saveTime(boot int) {
	if n.machine == nil || n.boots != boot {
		return
	}
	b := binary.BigEndian.AppendUint64(nil, uint64(n.time()))
	b = binary.BigEndian.AppendUint64(b, uint64(n.w.now))
	n.commits = append(n.commits, mesh.Commit{Ops: []mesh.Op{mesh.PutValue{Key: "elapsed", Value: b}}})
	n.write()
	n.w.after(time.Minute, func() { n.saveTime(boot) })
}

// time is node time; it runs fast or slow by the drift.
func (n *node) time() mesh.Time {
	up := int64(n.w.now - n.bootedAt)
	return n.base + mesh.Time(up+up/1_000_000*n.drift)
}

// kill takes the power away for a while. Commits under way are lost or done,
// but nobody hears.
func (n *node) kill(off time.Duration) {
	if n.machine == nil || n.w.healed {
		return
	}
	n.w.say("kill %d for %v", n.index, off)
	n.w.count.Kills++
	if n.writing && n.rand.IntN(2) == 0 {
		n.apply1()
	}
	n.machine = nil
	n.offAt = n.w.now
	n.store.Crash()
	for _, c := range sortedContacts(n.w.pairs) {
		if c.ends[0].node == n || c.ends[1].node == n {
			c.cut(20 * time.Second)
		}
	}
	n.w.after(off, func() {
		if n.machine == nil {
			n.boot()
		}
	})
}

// step gives the agent an input and does what it decides.
func (n *node) step(in mesh.Input) {
	if n.machine == nil || len(n.w.broken) > 0 {
		return
	}
	n.w.count.Steps++
	n.carryOut(slices.Clone(n.machine.Step(n.time(), in)))
}

func (n *node) carryOut(outs []mesh.Output) {
	for _, out := range outs {
		switch o := out.(type) {
		case mesh.Send:
			if e := n.links[o.Link]; e != nil {
				e.send(o)
			}
		case mesh.Commit:
			n.commits = append(n.commits, o)
			n.write()
		case mesh.JudgeControl:
			n.later(time.Millisecond, func() { n.step(mesh.Judged{Token: o.Token, Verdict: n.judge(n.payloads[o.Token])}) })
		case mesh.OpenBlob, mesh.WriteProof, mesh.WriteLeaf, mesh.DropBlob:
			n.blobOps = append(n.blobOps, o)
			n.writeBlobs()
		case mesh.Free:
			n.release(o.Token)
		case mesh.Join:
			n.payloads[o.Into] = append(slices.Clip(n.payloads[o.Into]), n.payloads[o.From]...)
			n.release(o.From)
		case mesh.Alarm:
			n.setAlarm(o.At)
		case mesh.Reply:
			if done := n.replies[o.Req]; done != nil {
				delete(n.replies, o.Req)
				done(o.Err)
			}
		case mesh.Hangup:
			if e := n.links[o.Link]; e != nil {
				n.w.say("node %d hangs up: %s", n.index, o.Reason)
				n.w.after(0, func() { e.c.cut(time.Second) })
			}
		case mesh.Emit:
			n.happened(o.Event)
		}
	}
}

// later runs something unless the node has crashed by then.
func (n *node) later(d time.Duration, run func()) {
	boot := n.boots
	n.w.after(d, func() {
		if n.machine != nil && n.boots == boot {
			run()
		}
	})
}

func (n *node) setAlarm(at mesh.Time) {
	n.alarm++
	mine := n.alarm
	wait := time.Duration(max(0, at-n.time()))
	wait += wait/1000 + time.Microsecond // its clock may be slow
	n.later(wait, func() {
		if n.alarm == mine {
			n.step(mesh.Wake{})
		}
	})
}

func (n *node) keep(data []byte) mesh.Token {
	if len(data) == 0 {
		return 0
	}
	n.tokens++
	n.payloads[n.tokens] = data
	return n.tokens
}

func (n *node) release(t mesh.Token) {
	if _, ok := n.payloads[t]; !ok && t != 0 {
		n.w.fail("node %d: token %d given back twice", n.index, t)
	}
	delete(n.payloads, t)
}

// write starts a commit: everything that waits goes with one sync.
func (n *node) write() {
	if n.writing || len(n.commits) == 0 {
		return
	}
	n.writing = true
	n.later(time.Duration(1+n.rand.IntN(20))*time.Millisecond, func() {
		results := n.apply1()
		n.writing = false
		n.step(mesh.Committed{Results: results})
		n.write()
	})
}

func (n *node) apply1() (results []mesh.CommitResult) {
	list := n.commits
	n.commits = nil
	for _, c := range list {
		err := n.fillOps(c.Ops)
		if err == nil {
			err = n.store.Commit(background, c.Ops)
		}
		n.w.note(n.index, 'c', []byte(fmt.Sprint(c.Commit, err)))
		for _, op := range c.Ops {
			if p, ok := op.(mesh.PutBundle); ok && p.Token != 0 {
				n.release(p.Token)
			}
		}
		results = append(results, mesh.CommitResult{Commit: c.Commit, Err: err})
	}
	return results
}

func (n *node) fillOps(ops []mesh.Op) error {
	for i, op := range ops {
		if p, ok := op.(mesh.PutBundle); ok {
			p.Payload = n.payloads[p.Token]
			if p.Check && hashOf(p.Payload) != p.Record.PayloadHash {
				return mesh.ErrVerify
			}
			ops[i] = p
		}
	}
	return nil
}

func (n *node) writeBlobs() {
	if n.blobbing || len(n.blobOps) == 0 {
		return
	}
	n.blobbing = true
	n.later(time.Duration(1+n.rand.IntN(20))*time.Millisecond, func() {
		list := n.blobOps
		n.blobOps, n.blobbing = nil, false
		for _, out := range list {
			n.blobOp(out)
		}
		n.writeBlobs()
	})
}

func (n *node) blobOp(out mesh.Output) {
	done := func(root blob.Root, group, leaf int, err error) {
		if err == nil {
			err = n.store.SyncBlobs(background, []blob.Root{root})
		}
		n.step(mesh.BlobsWritten{Results: []mesh.BlobResult{{Root: root, Group: group, Leaf: leaf, Err: err}}})
	}
	switch o := out.(type) {
	case mesh.OpenBlob:
		have, err := n.store.OpenBlob(background, o.Blob)
		n.step(mesh.BlobOpened{Blob: o.Blob, Have: have, Err: err})
	case mesh.DropBlob:
		n.must(n.store.DropBlob(background, o.Root))
	case mesh.WriteProof:
		err := n.store.WriteProof(background, o.Root, o.Group, n.payloads[o.Token])
		n.release(o.Token)
		done(o.Root, o.Group, -1, err)
	case mesh.WriteLeaf:
		err := n.store.WriteLeaf(background, o.Root, o.Leaf, n.payloads[o.Token])
		n.release(o.Token)
		done(o.Root, o.Leaf/blob.GroupLeaves, o.Leaf, err)
	}
}

func (n *node) fill(o mesh.Send) ([]byte, error) {
	return mesh.Fill(o, mesh.Reader{
		Bundle:    func(id bundle.ID) (mesh.Record, []byte, error) { return n.store.Load(background, id) },
		Tombstone: func(id bundle.ID) (mesh.Tombstone, error) { return n.store.Tombstone(background, id) },
		Proof:     func(r blob.Root, g int) ([]byte, error) { return n.store.ReadProof(background, r, g) },
		Leaf:      func(r blob.Root, i int) ([]byte, error) { return n.store.ReadLeaf(background, r, i) },
	})
}

// call gives the agent an input that it answers with a Reply.
func (n *node) call(in func(req uint64) mesh.Input, done func(error)) {
	n.reqs++
	n.replies[n.reqs] = done
	n.step(in(n.reqs))
}
