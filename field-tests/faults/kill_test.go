// Package faults does to running nodes what the field does: it kills them at
// any moment, fills their disk, and sends them rubbish. What must hold
// afterwards is always the same: what was acknowledged is there.
package faults

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"outrider/field-tests/scenario"
)

func TestMain(m *testing.M) {
	code := m.Run()
	scenario.Clean()
	if met.dir != "" {
		_ = os.RemoveAll(met.dir)
	}
	os.Exit(code)
}

// pair is two nodes of one network: what is submitted at the first must
// arrive at the second.
type pair struct {
	a, b *scenario.Box
	tag  string
}

const rawTag = "eaaaaaaaaaaaa"

func newPair(t *testing.T, ctx context.Context) *pair {
	t.Helper()
	dir, bin := t.TempDir(), scenario.Binary(t)
	p := &pair{tag: rawTag}
	var err error
	for _, x := range []struct {
		box  **scenario.Box
		name string
	}{{&p.a, "a"}, {&p.b, "b"}} {
		if *x.box, err = scenario.NewBox(dir, x.name, bin, "127.0.0.1"); err != nil {
			t.Fatal(err)
		}
		if _, err := (*x.box).Init(ctx); err != nil {
			t.Fatal(err)
		}
		if err := (*x.box).Configure("lan", ""); err != nil {
			t.Fatal(err)
		}
		t.Cleanup((*x.box).Kill)
	}
	if err := p.a.CreateNetwork(ctx, "faults"); err != nil {
		t.Fatal(err)
	}
	inv, err := p.a.Invite(ctx, "b", p.a.GossipAddr())
	if err != nil {
		t.Fatal(err)
	}
	if err := p.b.Join(ctx, inv); err != nil {
		t.Fatal(err)
	}
	return p
}

// A ledger is what was acknowledged at a and what was seen at b, by hash.
type ledger struct {
	mu    sync.Mutex
	acked map[[32]byte]bool
	seen  map[[32]byte]bool
}

func (l *ledger) missing() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	n := 0
	for h := range l.acked {
		if !l.seen[h] {
			n++
		}
	}
	return n
}

// size is how many bundles were acknowledged.
func (l *ledger) size() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.acked)
}

// arrived is how many bundles were seen at b.
func (l *ledger) arrived() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.seen)
}

// submit sends bundles one by one until ctx ends, and notes those that the
// node acknowledged.
func (p *pair) submit(ctx context.Context, l *ledger, seed uint64) {
	payload := make([]byte, 300)
	r := rand.NewChaCha8([32]byte{byte(seed), byte(seed >> 8), byte(seed >> 16)})
	for ctx.Err() == nil {
		r.Read(payload)
		hash := sha256.Sum256(payload)
		var out struct{ ID string }
		err := p.a.API.Do(ctx, "POST", "/v1/bundles?lifetime_min=600&tag="+p.tag, bytes.NewReader(payload), &out)
		if err == nil && out.ID != "" {
			l.mu.Lock()
			l.acked[hash] = true
			l.mu.Unlock()
		}
	}
}

// watch notes what arrives at b, over all its lives, until ctx ends.
func (p *pair) watch(ctx context.Context, l *ledger) {
	for ctx.Err() == nil {
		_ = p.b.API.Arrived(ctx, p.tag, func(sum string) {
			raw, err := hex.DecodeString(sum)
			if err == nil && len(raw) == 32 {
				l.mu.Lock()
				l.seen[[32]byte(raw)] = true
				l.mu.Unlock()
			}
		})
		pause(ctx, 20*time.Millisecond) // it is down, or coming up
	}
}

func pause(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
	case <-t.C:
	}
}

// kills is how often a node is killed: KILLS, 20 by default.
func kills(t *testing.T) int {
	s := os.Getenv("KILLS")
	if s == "" {
		return 20
	}
	n, err := strconv.Atoi(s)
	if err != nil || n < 1 {
		t.Fatalf("KILLS=%q: want a number of kills", s)
	}
	return n
}

// TestKillsLoseNothing kills one of two nodes at random moments while bundles
// are submitted and carried. Every reopening must work, and every bundle that
// the first node acknowledged must arrive at the second.
func TestKillsLoseNothing(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithTimeout(t.Context(), 60*time.Minute)
	defer cancel()
	p := newPair(t, ctx)
	for _, b := range []*scenario.Box{p.a, p.b} {
		if err := b.Up(ctx); err != nil {
			t.Fatal(err)
		}
	}
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 0))
	l := &ledger{acked: map[[32]byte]bool{}, seen: map[[32]byte]bool{}}
	work, stop := context.WithCancel(ctx)
	var submitters, workers sync.WaitGroup
	defer workers.Wait()
	defer submitters.Wait()
	defer stop()
	for i := range uint64(4) {
		submitters.Go(func() { p.submit(work, l, seed+i) })
	}
	watching, stopWatching := context.WithCancel(ctx)
	defer stopWatching()
	workers.Go(func() { p.watch(watching, l) })

	n := kills(t)
	for i := range n {
		victim := []*scenario.Box{p.a, p.b}[r.IntN(2)]
		pause(ctx, time.Duration(r.IntN(300))*time.Millisecond)
		victim.Kill()
		if err := victim.Up(ctx); err != nil {
			t.Fatalf("kill %d: %s does not come back: %v", i+1, victim.Name, err)
		}
	}
	carried := l.arrived()
	stop()
	submitters.Wait() // what was acknowledged at the last moment counts as well
	err := scenario.Poll(ctx, "everything acknowledged to arrive", func() (bool, error) {
		m := l.missing()
		return m == 0, fmt.Errorf("%d of %d acknowledged bundles are missing", m, l.size())
	})
	if err != nil {
		t.Fatal(err)
	}
	stopWatching()
	if l.size() < 50*n || carried < 10*n {
		t.Fatalf("only %d bundles were acknowledged and %d carried in %d kills: the load was no load", l.size(), carried, n)
	}
	t.Logf("%d kills, %d bundles acknowledged, %d of them carried between kills, all arrived", n, l.size(), carried)
	for _, b := range []*scenario.Box{p.a, p.b} {
		if err := b.Stop(); err != nil {
			t.Errorf("%s after the kills: %v", b.Name, err)
		}
	}
}

// TestSecondStartIsRefused starts a node twice on one folder.
func TestSecondStartIsRefused(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	p := newPair(t, ctx)
	if err := p.a.Up(ctx); err != nil {
		t.Fatal(err)
	}
	out, err := p.a.CLI(ctx, "", "--json", "up")
	if err == nil {
		t.Fatalf("a second node came up on one folder: %s", out)
	}
	if exit, ok := errors.AsType[*exec.ExitError](err); !ok || exit.ExitCode() != 7 || !strings.Contains(err.Error(), "already running") {
		t.Errorf("the refusal does not say why, or not by its code: %v", err)
	}
	if _, err := p.a.API.Status(ctx); err != nil {
		t.Errorf("the first node suffered: %v", err)
	}
	if err := p.a.Stop(); err != nil {
		t.Error(err)
	}
}
