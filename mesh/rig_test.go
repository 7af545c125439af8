package mesh_test

import (
	"context"
	"crypto/sha256"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"outrider/mesh"
	"outrider/mesh/blob"
	"outrider/mesh/bundle"
	"outrider/mesh/cla"
	"outrider/mesh/identity"
	"outrider/mesh/meshtest"
	"outrider/mesh/reconcile"
)

// A rig drives machines step by step: links without delay, a store that
// answers when it is told to, time that stands still until it is moved.
type rig struct {
	t     *testing.T
	now   mesh.Time
	nodes []*rigNode
	links mesh.LinkID
}

type rigNode struct {
	*mesh.Machine
	r        *rig
	id       identity.NodeID
	store    *meshtest.Store
	config   mesh.Config
	payloads map[mesh.Token][]byte
	tokens   mesh.Token
	inputs   []mesh.Input
	commits  []mesh.Commit
	hold     bool // commits wait
	alarm    mesh.Time
	peers    map[mesh.LinkID]*rigEnd
	events   []mesh.Event
	replies  map[uint64]error
	hangups  []string
	judge    func(payload []byte) mesh.Judgement
	frames   []string // types sent
	bytes    int      // sent
	raw      [][]byte // sent
}

type rigEnd struct {
	node *rigNode
	link mesh.LinkID
	mute bool // frames to it are lost
	pass func(kind string) bool
}

func newRig(t *testing.T) *rig { return &rig{t: t} }

// node adds a machine; change may alter its configuration.
func (r *rig) node(n byte, change func(*mesh.Config)) *rigNode {
	c := mesh.Config{Self: nodeID(n), Generation: 1, Salt: reconcile.Salt{1}, Rand: rand.NewPCG(uint64(n), 0)}
	if change != nil {
		change(&c)
	}
	x := &rigNode{r: r, id: c.Self, config: c, store: meshtest.NewStore(uint64(n))}
	x.judge = func(p []byte) mesh.Judgement {
		sum := sha256.Sum256(p)
		return mesh.Judgement{Code: mesh.VerdictAccept, Key: [16]byte(sum[:16]), Number: 1}
	}
	r.nodes = append(r.nodes, x)
	x.start()
	return x
}

// start makes the machine anew from what is in the store: a crash.
func (x *rigNode) start() {
	x.config.Epoch = x.store.Epoch()
	x.Machine = mesh.NewMachine(x.config)
	x.payloads, x.peers, x.replies = map[mesh.Token][]byte{}, map[mesh.LinkID]*rigEnd{}, map[uint64]error{}
	x.inputs, x.commits, x.events, x.alarm = nil, nil, nil, 1<<62
	for rec := range x.store.Records() {
		x.step(mesh.RestoredBundle{Record: rec})
	}
	for tomb := range x.store.Tombstones() {
		x.step(mesh.RestoredTombstone{Tombstone: tomb})
	}
	x.step(mesh.Started{})
}

func (r *rig) connect(a, b *rigNode, class cla.Class) (cut func()) {
	return r.connectWatching(a, b, class, nil)
}

// connectWatching is connect with a filter on frames from a to b.
func (r *rig) connectWatching(a, b *rigNode, class cla.Class, pass func(kind string) bool) (cut func()) {
	r.links++
	la := r.links
	r.links++
	lb := r.links
	a.peers[la], b.peers[lb] = &rigEnd{node: b, link: lb, pass: pass}, &rigEnd{node: a, link: la}
	a.input(mesh.PeerUp{Link: la, Peer: b.id, Info: cla.Info{Class: class}, Cursor: a.cursor(b)})
	b.input(mesh.PeerUp{Link: lb, Peer: a.id, Info: cla.Info{Class: class}, Cursor: b.cursor(a)})
	r.run()
	return func() {
		delete(a.peers, la)
		delete(b.peers, lb)
		a.input(mesh.PeerDown{Link: la})
		b.input(mesh.PeerDown{Link: lb})
		r.run()
	}
}

func (x *rigNode) cursor(peer *rigNode) []byte {
	v, _ := x.store.Value(mesh.CursorKey(peer.id))
	return v
}

func (x *rigNode) input(in mesh.Input) { x.inputs = append(x.inputs, in) }

// run goes on until nothing happens without time.
func (r *rig) run() {
	for busy := true; busy; {
		busy = false
		for _, x := range r.nodes {
			for len(x.inputs) > 0 {
				in := x.inputs[0]
				x.inputs = x.inputs[1:]
				x.step(in)
				busy = true
			}
			if !x.hold && len(x.commits) > 0 {
				x.write()
				busy = true
			}
		}
	}
}

// advance moves time, waking whoever is due.
func (r *rig) advance(d time.Duration) {
	end := r.now.Add(d)
	for {
		r.run()
		next := end
		for _, x := range r.nodes {
			next = min(next, x.alarm)
		}
		if next >= end {
			break
		}
		r.now = max(r.now, next)
		for _, x := range r.nodes {
			if x.alarm <= r.now {
				x.alarm = 1 << 62
				x.input(mesh.Wake{})
			}
		}
	}
	r.now = end
	r.run()
}

func (x *rigNode) write() {
	list := x.commits
	x.commits = nil
	var results []mesh.CommitResult
	for _, c := range list {
		err := error(nil)
		for i, op := range c.Ops {
			if p, ok := op.(mesh.PutBundle); ok {
				p.Payload = x.payloads[p.Token]
				if p.Check && sha256.Sum256(p.Payload) != p.Record.PayloadHash {
					err = mesh.ErrVerify
				}
				c.Ops[i] = p
				delete(x.payloads, p.Token)
			}
		}
		if err == nil {
			err = x.store.Commit(context.Background(), c.Ops)
		}
		results = append(results, mesh.CommitResult{Commit: c.Commit, Err: err})
	}
	x.input(mesh.Committed{Results: results})
}

func (x *rigNode) step(in mesh.Input) {
	for _, out := range slices.Clone(x.Step(x.r.now, in)) {
		x.do(out)
	}
}

func (x *rigNode) do(out mesh.Output) {
	ctx := context.Background()
	switch o := out.(type) {
	case mesh.Send:
		x.send(o)
	case mesh.Commit:
		x.commits = append(x.commits, o)
	case mesh.JudgeControl:
		x.input(mesh.Judged{Token: o.Token, Verdict: x.judge(x.payloads[o.Token])})
	case mesh.Free:
		delete(x.payloads, o.Token)
	case mesh.Join:
		x.payloads[o.Into] = append(slices.Clip(x.payloads[o.Into]), x.payloads[o.From]...)
		delete(x.payloads, o.From)
	case mesh.Alarm:
		x.alarm = o.At
	case mesh.Reply:
		x.replies[o.Req] = o.Err
	case mesh.Hangup:
		x.hangups = append(x.hangups, o.Reason)
		x.input(mesh.PeerDown{Link: o.Link})
	case mesh.Emit:
		x.events = append(x.events, o.Event)
	case mesh.OpenBlob:
		have, err := x.store.OpenBlob(ctx, o.Blob)
		x.input(mesh.BlobOpened{Blob: o.Blob, Have: have, Err: err})
	case mesh.DropBlob:
		if err := x.store.DropBlob(ctx, o.Root); err != nil {
			x.r.t.Fatal(err)
		}
	case mesh.WriteProof:
		x.wrote(o.Root, o.Group, -1, x.store.WriteProof(ctx, o.Root, o.Group, x.payloads[o.Token]))
		delete(x.payloads, o.Token)
	case mesh.WriteLeaf:
		x.wrote(o.Root, o.Leaf/blob.GroupLeaves, o.Leaf, x.store.WriteLeaf(ctx, o.Root, o.Leaf, x.payloads[o.Token]))
		delete(x.payloads, o.Token)
	}
}

func (x *rigNode) wrote(root blob.Root, group, leaf int, err error) {
	if err == nil {
		err = x.store.SyncBlobs(context.Background(), []blob.Root{root})
	}
	x.input(mesh.BlobsWritten{Results: []mesh.BlobResult{{Root: root, Group: group, Leaf: leaf, Err: err}}})
}

func (x *rigNode) send(o mesh.Send) {
	ctx := context.Background()
	frame, err := mesh.Fill(o, mesh.Reader{
		Bundle:    func(id bundle.ID) (mesh.Record, []byte, error) { return x.store.Load(ctx, id) },
		Tombstone: func(id bundle.ID) (mesh.Tombstone, error) { return x.store.Tombstone(ctx, id) },
		Proof:     func(r blob.Root, g int) ([]byte, error) { return x.store.ReadProof(ctx, r, g) },
		Leaf:      func(r blob.Root, i int) ([]byte, error) { return x.store.ReadLeaf(ctx, r, i) },
	})
	if err != nil {
		x.input(mesh.Unsent{Link: o.Link, Head: mesh.UnsentHead(o), Gone: true})
		return
	}
	x.frames = append(x.frames, mesh.FrameName(frame[0]))
	x.bytes += len(frame)
	x.raw = append(x.raw, frame)
	if e := x.peers[o.Link]; e != nil && !e.mute && (e.pass == nil || e.pass(mesh.FrameName(frame[0]))) {
		e.node.hear(e.link, frame)
	}
}

// hear hands a machine a frame as it came.
func (x *rigNode) hear(link mesh.LinkID, frame []byte) {
	f, err := mesh.ParseFrame(slices.Clone(frame))
	if err != nil {
		x.input(mesh.Malformed{Link: link, Type: frame[0]})
		return
	}
	var t mesh.Token
	if body := mesh.Body(f); len(body) > 0 {
		x.tokens++
		t = x.tokens
		x.payloads[t] = body
	}
	x.input(mesh.Received{Link: link, Frame: f, Token: t})
}

var rigReq uint64

// submit hands over a bundle and returns what the machine answered once the
// store had.
func (x *rigNode) submit(b bundle.Bundle, o mesh.SubmitOptions) error {
	x.r.t.Helper()
	req := x.submitOnly(b, o)
	x.r.run()
	err, ok := x.replies[req]
	if !ok {
		x.r.t.Fatal("submission was not answered")
	}
	return err
}

func (x *rigNode) submitOnly(b bundle.Bundle, o mesh.SubmitOptions) uint64 {
	rigReq++
	x.tokens++
	x.payloads[x.tokens] = b.Payload
	hash := sha256.Sum256(b.Payload)
	in := mesh.Submitted{
		Req: rigReq, ID: b.ID(), Hop: b.Hop, Header: b.Header, PayloadHash: hash, Size: len(b.Payload), Token: x.tokens, Options: o,
	}
	if b.Header.Kind == bundle.KindBlob {
		if d, err := blob.ParseDescriptor(b.Payload); err == nil {
			in.Blob = &d
		}
	}
	x.input(in)
	return rigReq
}

func (x *rigNode) ask(in func(req uint64) mesh.Input) error {
	x.r.t.Helper()
	rigReq++
	req := rigReq
	x.input(in(req))
	x.r.run()
	err, ok := x.replies[req]
	if !ok {
		x.r.t.Fatal("call was not answered")
	}
	return err
}

func (x *rigNode) purge(rec bundle.PurgeRecord) error {
	return x.ask(func(req uint64) mesh.Input { return mesh.PurgeAsked{Req: req, Record: rec} })
}

func (x *rigNode) consume(id bundle.ID) error {
	return x.ask(func(req uint64) mesh.Input { return mesh.ConsumedAsked{Req: req, IDs: []bundle.ID{id}} })
}

func (x *rigNode) watch(tags ...identity.Tag) {
	x.input(mesh.Watched{Add: tags})
	x.r.run()
}

func (x *rigNode) state(id bundle.ID) string { return x.Explain(x.r.now, id).State }

func (x *rigNode) drops(why mesh.Reason) uint64 { return x.Status(x.r.now).Counters.Dropped[why] }

func count[E mesh.Event](x *rigNode, ok func(E) bool) (n int) {
	for _, ev := range x.events {
		if e, is := ev.(E); is && ok(e) {
			n++
		}
	}
	return n
}

func (x *rigNode) arrivals(id bundle.ID) int {
	return count(x, func(e mesh.Arrived) bool { return e.ID == id })
}

func (x *rigNode) sentFrames(kind string) (n int) {
	for _, f := range x.frames {
		if f == kind {
			n++
		}
	}
	return n
}

// noLeaks checks that every payload was given back.
func (r *rig) noLeaks() {
	r.t.Helper()
	for i, x := range r.nodes {
		st := x.Status(r.now)
		if want := st.Partials + st.LeafParts + st.Put + st.Judging; len(x.payloads) != want {
			r.t.Errorf("node %d keeps %d payloads, needs %d", i, len(x.payloads), want)
		}
	}
}

func newStoreOf(epoch uint64) *meshtest.Store { return meshtest.NewStore(epoch) }
