package mesh_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"outrider/mesh"
	"outrider/mesh/bundle"
	"outrider/mesh/cla"
	"outrider/mesh/cla/memcla"
	"outrider/mesh/identity"
	"outrider/mesh/meshtest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// patience bounds what has to happen; nothing waits so long unless it fails.
const patience = time.Minute

var lan = memcla.Options{Class: cla.LAN}

func nodeID(n byte) identity.NodeID { return identity.NodeID{n} }

func tagOf(n byte) identity.Tag { return identity.Tag{n, 1, 2, 3, 4, 5, 6, 7} }

// makeBundle makes a bundle whose purge key is derived from its number.
func makeBundle(t testing.TB, tag identity.Tag, n uint64, size int, prec bundle.Precedence) (bundle.Bundle, bundle.PurgeKey) {
	t.Helper()
	var key bundle.PurgeKey
	binary.BigEndian.PutUint64(key[:], n)
	payload := make([]byte, size)
	rand.NewChaCha8([32]byte{byte(n), byte(n >> 8), byte(n >> 16), 7}).Read(payload)
	b, err := bundle.New(bundle.Header{
		Version: 1, Tag: tag, Precedence: prec, Lifetime: time.Hour, Commitment: key.Commit(tag), Kind: bundle.KindMessage,
	}, payload, 0)
	if err != nil {
		t.Fatal(err)
	}
	return b, key
}

// acceptAll is a judge that accepts everything, each object for itself.
type acceptAll struct{}

func (acceptAll) Judge(payload []byte) mesh.Verdict {
	sum := sha256.Sum256(payload)
	return mesh.Verdict{Code: mesh.VerdictAccept, Key: [16]byte(sum[:16])}
}

// A testNode is a running shell.
type testNode struct {
	*mesh.Shell
	id    identity.NodeID
	store *meshtest.Store
	stop  func()
}

func startNode(t testing.TB, n byte, st *meshtest.Store, change func(*mesh.ShellConfig)) *testNode {
	t.Helper()
	c := mesh.ShellConfig{Self: nodeID(n), Store: st, Judge: acceptAll{}, Log: slog.New(slog.DiscardHandler), Rand: rand.NewPCG(uint64(n), 1)}
	if change != nil {
		change(&c)
	}
	sh := mesh.NewShell(c)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- sh.Run(ctx) }()
	stop := sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("run: %v", err)
		}
	})
	t.Cleanup(stop)
	return &testNode{Shell: sh, id: nodeID(n), store: st, stop: stop}
}

// join links two nodes until the returned function is called.
func join(t testing.TB, a, b *testNode, seed uint64, o memcla.Options) (cut func()) {
	t.Helper()
	la, lb := memcla.Pipe(a.id, b.id, seed, o)
	var wg sync.WaitGroup
	wg.Go(func() { a.AddLink(context.Background(), la) })
	wg.Go(func() { b.AddLink(context.Background(), lb) })
	cut = sync.OnceFunc(func() {
		la.Close()
		lb.Close()
		wg.Wait()
	})
	t.Cleanup(cut)
	return cut
}

// wait reads events until one is as wanted.
func wait[E mesh.Event](t testing.TB, sub *mesh.Subscription, ok func(E) bool) E {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	for {
		ev, err := sub.Next(ctx)
		if err != nil {
			t.Fatalf("waiting for %T: %v", *new(E), err)
		}
		if e, is := ev.(E); is && ok(e) {
			return e
		}
	}
}

func submit(t testing.TB, n *testNode, b bundle.Bundle) {
	t.Helper()
	if err := n.Submit(context.Background(), b, mesh.SubmitOptions{}); err != nil {
		t.Fatalf("submit: %v", err)
	}
}

func TestBundleCrossesThreeNodes(t *testing.T) {
	for _, size := range []int{0, 1, 1000, 4096, 4097, 40_000, bundle.MaxPayload} {
		t.Run(fmt.Sprint(size), func(t *testing.T) {
			a, b, c := startNode(t, 1, meshtest.NewStore(1), nil), startNode(t, 2, meshtest.NewStore(2), nil), startNode(t, 3, meshtest.NewStore(3), nil)
			got, carried := c.Events(), a.Events()
			c.Watch([]identity.Tag{tagOf(9)}, nil)
			join(t, a, b, 1, lan)
			join(t, b, c, 2, lan)
			msg, key := makeBundle(t, tagOf(9), uint64(size), size, bundle.Priority)
			submit(t, a, msg)
			arrived := wait(t, got, func(e mesh.Arrived) bool { return e.ID == msg.ID() })
			if arrived.Tag != tagOf(9) || arrived.Kind != bundle.KindMessage {
				t.Fatalf("announced as %+v", arrived)
			}
			back, err := c.Load(context.Background(), msg.ID())
			if err != nil || !bytes.Equal(back.Payload, msg.Payload) || !bytes.Equal(back.Header.Raw(), msg.Header.Raw()) {
				t.Fatalf("loaded bundle differs: %v", err)
			}
			if back.Hop.Count != 2 {
				t.Fatalf("%d hops counted, want 2", back.Hop.Count)
			}
			wait(t, carried, func(e mesh.Carried) bool { return e.ID == msg.ID() && e.Peer == b.id })
			// The reader releases the purge key: the bundle goes everywhere.
			if err := c.Consumed(context.Background(), []bundle.ID{msg.ID()}); err != nil {
				t.Fatal(err)
			}
			if err := c.Purge(context.Background(), bundle.NewPurgeRecord(back, key)); err != nil {
				t.Fatal(err)
			}
			if e := wait(t, carried, func(e mesh.Purged) bool { return e.ID == msg.ID() }); e.Key != key {
				t.Fatal("the purge key did not come home")
			}
			for _, n := range []*testNode{a, b, c} {
				if n.store.Holds(msg.ID()) {
					t.Errorf("node %v still holds a purged bundle", n.id.Short())
				}
			}
		})
	}
}

func TestBlobCrossesRelay(t *testing.T) {
	a, b, c := startNode(t, 1, meshtest.NewStore(1), nil), startNode(t, 2, meshtest.NewStore(2), nil), startNode(t, 3, meshtest.NewStore(3), nil)
	got := c.Events()
	c.Watch([]identity.Tag{tagOf(9)}, nil)
	data := make([]byte, 1_500_000)
	rand.NewChaCha8([32]byte{1}).Read(data)
	d := a.store.PutBlob(data)
	payload, err := d.MarshalBinary()
	if err != nil {
		t.Fatal(err)
	}
	var key bundle.PurgeKey
	msg, err := bundle.New(bundle.Header{Version: 1, Tag: tagOf(9), Lifetime: time.Hour, Commitment: key.Commit(tagOf(9)), Kind: bundle.KindBlob}, payload, 0)
	if err != nil {
		t.Fatal(err)
	}
	submit(t, a, msg)
	relayed := b.Events()
	cut := join(t, a, b, 1, lan)
	wait(t, relayed, func(e mesh.BlobComplete) bool { return e.Root == d.Root })
	cut() // the sender is gone before the reader comes
	join(t, b, c, 2, lan)
	wait(t, got, func(e mesh.BlobComplete) bool { return e.Root == d.Root })
	if back, ok := c.store.Blob(d); !ok || !bytes.Equal(back, data) {
		t.Fatal("the blob that arrived is not the one that was sent")
	}
	if err := c.Purge(context.Background(), bundle.NewPurgeRecord(msg, key)); err != nil {
		t.Fatal(err)
	}
	wait(t, relayed, func(e mesh.Purged) bool { return e.ID == msg.ID() })
	b.stop() // waits for the deletion
	if _, err := b.store.ReadLeaf(context.Background(), d.Root, 0); !errors.Is(err, mesh.ErrNotStored) {
		t.Fatalf("leaves of a purged blob: %v", err)
	}
}
