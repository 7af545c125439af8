package node

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"log/slog"
	mathrand "math/rand/v2"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"outrider/mesh"
	"outrider/mesh/bundle"
	"outrider/mesh/cla"
	"outrider/mesh/cla/memcla"
	"outrider/mesh/identity"
	"outrider/store"
)

type acceptAll struct{}

func (acceptAll) Judge([]byte) mesh.Verdict { return mesh.Verdict{Code: mesh.VerdictAccept} }

// An agent on a real store, in a folder that outlives it.
type testAgent struct {
	*mesh.Shell
	id  identity.NodeID
	log *bytes.Buffer
	end func()
}

func startAgent(t *testing.T, n byte, dir string) *testAgent {
	t.Helper()
	st, err := store.Open(dir, store.Options{})
	if err != nil {
		t.Fatal(err)
	}
	a := &testAgent{id: identity.NodeID{n}, log: &bytes.Buffer{}}
	a.Shell = mesh.NewShell(mesh.ShellConfig{
		Self: a.id, Store: agentStore{blobStore{st}}, Judge: acceptAll{}, Rand: mathrand.NewPCG(uint64(n), 1),
		Log: slog.New(slog.NewTextHandler(a.log, nil)),
	})
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- a.Run(ctx) }()
	a.end = sync.OnceFunc(func() {
		cancel()
		if err := errors.Join(<-done, st.Close()); err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(a.end)
	return a
}

// meet links two agents until the function returned is called.
func meet(t *testing.T, a, b *testAgent) (part func()) {
	la, lb := memcla.Pipe(a.id, b.id, 1, memcla.Options{Class: cla.LAN})
	var wg sync.WaitGroup
	wg.Go(func() { a.AddLink(t.Context(), la) })
	wg.Go(func() { b.AddLink(t.Context(), lb) })
	part = sync.OnceFunc(func() { la.Close(); lb.Close(); wg.Wait() })
	t.Cleanup(part)
	return part
}

// holds waits until an agent can read bundles as they were sent.
func (a *testAgent) holds(t *testing.T, want []bundle.Bundle) {
	t.Helper()
	deadline := time.After(patience)
	for _, w := range want {
		for {
			got, err := a.Load(t.Context(), w.ID())
			if err == nil && bytes.Equal(got.Payload, w.Payload) {
				break
			}
			select {
			case <-deadline:
				t.Fatalf("bundle %v is not here: %v", w.ID(), err)
			case <-time.After(20 * time.Millisecond):
			}
		}
	}
}

// TestDamagedPayloadComesAgain ruins the payloads of a node's mail on its
// disk. Each is found damaged when it is read, told, dropped, and fetched
// again from a neighbour: small mail and large.
func TestDamagedPayloadComesAgain(t *testing.T) {
	dir := t.TempDir()
	a, b := startAgent(t, 1, t.TempDir()), startAgent(t, 2, dir)
	var mail []bundle.Bundle
	for i, size := range []int{300, 2000, 30_000} {
		payload := make([]byte, size)
		rand.Read(payload)
		x, err := bundle.New(bundle.Header{
			Version: bundle.Version, Tag: identity.Tag{1}, Precedence: bundle.Precedence(i), Lifetime: time.Hour,
			Commitment: bundle.PurgeKey{1}.Commit(identity.Tag{1}), Kind: bundle.KindMessage,
		}, payload, 0)
		if err != nil {
			t.Fatal(err)
		}
		if err := a.Submit(t.Context(), x, mesh.SubmitOptions{}); err != nil {
			t.Fatal(err)
		}
		mail = append(mail, x)
	}
	part := meet(t, a, b)
	b.holds(t, mail)
	part()
	b.end()
	segments, err := filepath.Glob(filepath.Join(dir, "payload", "*.seg"))
	if err != nil || len(segments) == 0 {
		t.Fatalf("no payloads on the disk: %v", err)
	}
	for _, name := range segments {
		raw, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		for i := range raw {
			raw[i] ^= 0x5a
		}
		if err := os.WriteFile(name, raw, 0o600); err != nil {
			t.Fatal(err)
		}
	}

	b = startAgent(t, 2, dir)
	for _, x := range mail {
		if _, err := b.Load(t.Context(), x.ID()); !errors.Is(err, mesh.ErrDamaged) {
			t.Fatalf("reading what the disk has damaged: %v", err)
		}
	}
	if got := b.Status().Counters.Dropped[mesh.DropDamaged]; got != uint64(len(mail)) {
		t.Errorf("%d counted as damaged, want %d", got, len(mail))
	}
	part = meet(t, a, b)
	b.holds(t, mail)
	part()
	b.end()
	if !bytes.Contains(b.log.Bytes(), []byte("damaged")) {
		t.Error("the log says nothing of it")
	}
}
