package clatest

import (
	"bytes"
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"outrider/mesh/cla"
	"outrider/mesh/identity"
)

// A Node is a layer that is not running yet, and how others find it.
type Node struct {
	ID    identity.NodeID
	Layer cla.Layer
	// Addrs waits until the layer can be dialled and returns where.
	Addrs func(ctx context.Context) []string
}

// TestLayer runs the suite for layers. open makes two nodes that may talk to
// each other, fresh for each test.
func TestLayer(t *testing.T, in Runner, open func(t *testing.T) (a, b Node)) {
	tests := []struct {
		name string
		run  func(t *testing.T, a, b *running)
	}{
		{"Dial", testDial},
		{"DialTwice", testDialTwice},
		{"BothDialAtOnce", testBothDial},
		{"Redial", testRedial},
		{"OneAfterTheOther", testOneAfterTheOther},
		{"Unreachable", testUnreachable},
		{"RunEnds", testRunEnds},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			in(t, func(t *testing.T) {
				a, b := open(t)
				ra, rb := run(t, a), run(t, b)
				tt.run(t, ra, rb)
				ra.stop(t)
				rb.stop(t)
			})
		})
	}
}

// running is a node whose Run is in progress.
type running struct {
	Node
	links  chan *served
	live   atomic.Int32 // serve calls in progress
	most   atomic.Int32 // the most of them at once
	cancel context.CancelFunc
	done   chan error
	once   sync.Once
}

// served is a link within its serve call, which ends when release is called
// or the layer stops.
type served struct {
	cla.Link
	ctx     context.Context
	release context.CancelFunc
}

func run(t *testing.T, n Node) *running {
	ctx, cancel := context.WithCancel(context.Background())
	r := &running{Node: n, links: make(chan *served, 16), cancel: cancel, done: make(chan error, 1)}
	go func() { r.done <- n.Layer.Run(ctx, r.serve) }()
	t.Cleanup(func() { r.stop(t) })
	n.Addrs(within(t))
	return r
}

func (r *running) serve(ctx context.Context, l cla.Link) {
	if n := r.live.Add(1); n > r.most.Load() {
		r.most.Store(n)
	}
	defer r.live.Add(-1)
	ctx, release := context.WithCancel(ctx)
	r.links <- &served{Link: l, ctx: ctx, release: release}
	<-ctx.Done()
}

func (r *running) stop(t *testing.T) {
	r.once.Do(func() {
		r.cancel()
		select {
		case err := <-r.done:
			if err != nil {
				t.Errorf("run: %v, want nil after its context ended", err)
			}
		case <-time.After(patience):
			t.Errorf("run did not return %v after its context ended", patience)
		}
	})
}

func (r *running) next(t *testing.T) *served {
	t.Helper()
	select {
	case l := <-r.links:
		return l
	case <-time.After(patience):
		t.Fatal("no link came up")
		return nil
	}
}

func (r *running) dial(t *testing.T, to *running) {
	t.Helper()
	if err := r.Layer.Dial(within(t), to.ID, to.Addrs(within(t))); err != nil {
		t.Fatalf("dial: %v", err)
	}
}

// talk checks that frames pass both ways between the two ends.
func talk(t *testing.T, a, b cla.Link) {
	t.Helper()
	for i, ends := range [][2]cla.Link{{a, b}, {b, a}} {
		send(t, ends[0], numbered(i, 500))
		if got := recv(t, ends[1]); !bytes.Equal(got, numbered(i, 500)) {
			t.Fatal("a frame arrived changed")
		}
	}
}

func testDial(t *testing.T, a, b *running) {
	a.dial(t, b)
	la, lb := a.next(t), b.next(t)
	if la.Peer() != b.ID || lb.Peer() != a.ID {
		t.Fatal("a link names the wrong peer")
	}
	if !la.Info().Dialled || lb.Info().Dialled {
		t.Fatal("Info.Dialled is the wrong way round")
	}
	talk(t, la, lb)
}

func testDialTwice(t *testing.T, a, b *running) {
	a.dial(t, b)
	la, lb := a.next(t), b.next(t)
	a.dial(t, b)
	b.dial(t, a)
	talk(t, la, lb)
	if a.live.Load() != 1 || b.live.Load() != 1 {
		t.Fatalf("%d and %d links after a needless dial, want one", a.live.Load(), b.live.Load())
	}
}

// Whatever the timing, one link stays at both ends and it is the same one:
// what is sent on it arrives.
func testBothDial(t *testing.T, a, b *running) {
	for round := range 20 {
		var wg sync.WaitGroup
		for _, d := range [][2]*running{{a, b}, {b, a}} {
			wg.Go(func() {
				if err := d[0].Layer.Dial(within(t), d[1].ID, d[1].Addrs(within(t))); err != nil {
					t.Errorf("round %d: dial: %v", round, err)
				}
			})
		}
		wg.Wait()
		if t.Failed() {
			return
		}
		la, lb := a.next(t), b.next(t)
		talk(t, la, lb)
		if len(a.links)+len(b.links) != 0 {
			t.Fatalf("round %d: a second link came up", round)
		}
		la.Close()
		wantClosed(t, lb)
		la.release()
		lb.release()
	}
	if a.most.Load() != 1 || b.most.Load() != 1 {
		t.Fatalf("%d and %d links were served at once, want one", a.most.Load(), b.most.Load())
	}
}

func testRedial(t *testing.T, a, b *running) {
	for _, d := range [][2]*running{{a, b}, {b, a}, {a, b}} {
		d[0].dial(t, d[1])
		la, lb := a.next(t), b.next(t)
		talk(t, la, lb)
		d[1].release(t, lb, la)
	}
}

// release ends the link mine by returning from its serve call, and waits
// until the other end has noticed.
func (r *running) release(t *testing.T, l1, l2 *served) {
	t.Helper()
	l1.release()
	l2.release()
	wantClosed(t, l1)
	wantClosed(t, l2)
}

// A serve call that hangs on must not meet a second one for the same peer.
func testOneAfterTheOther(t *testing.T, a, b *running) {
	a.dial(t, b)
	la, lb := a.next(t), b.next(t)
	lb.Close()
	wantClosed(t, la) // b's serve has not returned yet
	dialled := make(chan error, 1)
	go func() { dialled <- a.Layer.Dial(within(t), b.ID, b.Addrs(within(t))) }()
	la.release()
	lb.release()
	if err := <-dialled; err != nil {
		t.Fatalf("dial: %v", err)
	}
	talk(t, a.next(t), b.next(t))
	if a.most.Load() != 1 || b.most.Load() != 1 {
		t.Fatal("two links to one peer were served at once")
	}
}

func testUnreachable(t *testing.T, a, b *running) {
	addrs := b.Addrs(within(t))
	b.stop(t)
	if err := a.Layer.Dial(within(t), b.ID, addrs); !errors.Is(err, cla.ErrUnreachable) {
		t.Fatalf("dial to nobody: %v, want cla.ErrUnreachable", err)
	}
}

func testRunEnds(t *testing.T, a, b *running) {
	a.dial(t, b)
	la, lb := a.next(t), b.next(t)
	a.stop(t)
	wantClosed(t, la)
	wantClosed(t, lb)
	if la.ctx.Err() == nil {
		t.Fatal("the context given to serve outlived Run")
	}
}
