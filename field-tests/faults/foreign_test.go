package faults

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"outrider/field-tests/scenario"
	"outrider/mesh/cla"
	"outrider/mesh/cla/p2p"
	"outrider/mesh/identity"
)

// TestForeignNode puts a node of another network beside two that belong
// together: it has their addresses as seeds, it is their seed too, and it
// knocks. They do not notice, and it learns nothing.
func TestForeignNode(t *testing.T) {
	t.Parallel()
	d := newDuo(t)
	x, err := scenario.NewBox(filepath.Dir(d.a.Dir), "x", d.a.Bin, "127.0.0.1")
	d.must(err)
	t.Cleanup(x.Kill)
	_, err = x.Init(d.ctx)
	d.must(err)
	d.must(x.CreateNetwork(d.ctx, "hawk"))
	d.must(configure(x, "", d.a.GossipAddr(), d.b.GossipAddr()))
	d.must(configure(d.a, "", x.GossipAddr(), d.b.GossipAddr()))
	d.must(configure(d.b, "", x.GossipAddr(), d.a.GossipAddr()))
	d.up(x, d.a, d.b)
	var before scenario.Status
	d.must(scenario.Poll(d.ctx, "the foreign node to have what it founded its network with", func() (_ bool, err error) {
		before, err = x.API.Status(d.ctx)
		return before.Store.Bundles >= 2, err // the certificates of its admin and its own
	}))

	p := &pair{a: d.a, b: d.b, tag: rawTag}
	l := &ledger{acked: map[[32]byte]bool{}, seen: map[[32]byte]bool{}}
	watching, stop := context.WithCancel(d.ctx)
	defer stop()
	go p.watch(watching, l)
	working, enough := context.WithCancel(d.ctx)
	defer enough()
	var worker sync.WaitGroup
	worker.Go(func() { p.submit(working, l, 1) })
	pause(d.ctx, 3*time.Second) // the foreign node knocks meanwhile
	d.must(scenario.Poll(d.ctx, "the load to begin", func() (bool, error) { return l.size() > 0, nil }))
	enough()
	worker.Wait()
	d.must(scenario.Poll(d.ctx, "the pair's own bundles", func() (bool, error) {
		m := l.missing()
		return m == 0, fmt.Errorf("%d missing", m)
	}))

	for _, b := range []*scenario.Box{d.a, d.b} {
		links, err := b.API.Links(d.ctx)
		d.must(err)
		if len(links) != 1 {
			t.Errorf("%s has links with %d nodes, want 1: %+v", b.Name, len(links), links)
		}
	}
	after, err := x.API.Status(d.ctx)
	d.must(err)
	if after.Contacts != 0 || after.Store.Bundles != before.Store.Bundles {
		t.Errorf("the foreign node has %d contacts, and %d bundles after %d", after.Contacts, after.Store.Bundles, before.Store.Bundles)
	}
	d.stop(d.a, d.b, x)
}

// A foreigner is a node that speaks the mesh's protocol perfectly and belongs
// to a network of its own.
type foreigner struct {
	root   *identity.RootRecord
	chain  identity.Chain
	served atomic.Int32 // links it was given
	layer  *p2p.Layer
}

func (f *foreigner) Hello() []byte      { return f.chain.Marshal() }
func (f *foreigner) RootRecord() []byte { return f.root.Raw() }
func (f *foreigner) Admit(identity.NodeID, []byte) (time.Time, error) {
	return time.Now().Add(time.Hour), nil // it would take anybody
}

func newForeigner(t *testing.T, ctx context.Context) *foreigner {
	t.Helper()
	root, rootKey, err := identity.CreateRoot("hawk", identity.PresetLean, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	adminKey, key := newKey(t), newKey(t)
	from, until := time.Now().Add(-time.Hour), time.Now().Add(time.Hour)
	admin, err := rootKey.IssueAdmin(root.ID(), identity.Certificate{Key: adminKey.Public(), Roles: identity.RoleAdmin, NotBefore: from, NotAfter: until})
	if err != nil {
		t.Fatal(err)
	}
	node, err := identity.Issue(root.ID(), adminKey, identity.Certificate{Class: identity.ClassNode, Key: key.Public(), NotBefore: from, NotAfter: until})
	if err != nil {
		t.Fatal(err)
	}
	f := &foreigner{root: root, chain: identity.Chain{node, admin}}
	if f.layer, err = p2p.New(p2p.Config{Key: key, Listen: []string{"127.0.0.1:0"}, Admission: f, Log: slog.New(slog.DiscardHandler)}); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(ctx)
	done := make(chan error, 1)
	go func() { done <- f.layer.Run(ctx, func(context.Context, cla.Link) { f.served.Add(1) }) }()
	<-f.layer.Ready()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("the foreigner's layer ended with %v", err)
		}
	})
	return f
}

func newKey(t *testing.T) identity.PrivateKey {
	t.Helper()
	k, err := identity.NewPrivateKey()
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// TestForeignPeer knocks at a running node as a foreigner: it is given the
// root record, which anybody may have, and a refusal. The honest neighbour
// keeps its link all the while.
func TestForeignPeer(t *testing.T) {
	t.Parallel()
	d := newDuo(t)
	d.up(d.a, d.b)
	d.login(d.a, "alice")
	d.login(d.b, "bob")
	m := d.send(d.a, "bob", "before anybody knocks")
	d.await(d.a, m.ID, "delivered")
	f := newForeigner(t, d.ctx)
	id, err := identity.ParseNodeID(d.aID)
	d.must(err)
	at := []string{fmt.Sprintf("127.0.0.1:%d", d.a.Mesh)}

	raw, err := f.layer.FetchRoot(d.ctx, id, at)
	d.must(err)
	root, err := identity.ParseRoot(raw)
	d.must(err)
	if root.Name() != "faults" || root.ID() == f.root.ID() {
		t.Errorf("the root record is that of %q", root.Name())
	}
	for range 5 {
		if err := f.layer.Dial(d.ctx, id, at); !errors.Is(err, cla.ErrRefused) {
			t.Errorf("the foreigner's dial ended with %v", err)
		}
	}
	if n := f.served.Load(); n != 0 || f.layer.Connected(id) {
		t.Errorf("the foreigner was given %d links", n)
	}
	rubbish(t, d.a.GossipAddr(), at[0])

	m = d.send(d.a, "bob", "while they knocked")
	d.await(d.a, m.ID, "delivered")
	links, err := d.a.API.Links(d.ctx)
	d.must(err)
	if len(links) != 1 || links[0].Node != d.bID || !links[0].Up {
		t.Errorf("after the knocking a has links %+v", links)
	}
	d.stop(d.a, d.b)
}

// rubbish sends random bytes to the sockets at addrs, tcp and udp, until they
// hang up or enough was sent.
func rubbish(t *testing.T, addrs ...string) {
	t.Helper()
	for _, addr := range addrs {
		for _, network := range []string{"tcp", "udp"} {
			c, err := net.DialTimeout(network, addr, time.Minute)
			if errors.Is(err, unix.ECONNRESET) {
				continue // turned away at once
			}
			if err != nil {
				t.Fatal(err)
			}
			_ = c.SetDeadline(time.Now().Add(2 * time.Second))
			piece := make([]byte, 1200)
			for range 200 {
				rand.Read(piece)
				if _, err := c.Write(piece); err != nil {
					break // hung up: fine
				}
			}
			if network == "tcp" {
				_, _ = io.Copy(io.Discard, c)
			}
			c.Close()
		}
	}
}
