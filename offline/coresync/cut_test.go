package coresync

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"syscall"
	"testing"
	"time"

	"outrider/field-tests/core"
	"outrider/mesh/bundle"
	"outrider/mesh/identity"
)

// behind puts a backhaul between an edge and the servers.
func behind(t testing.TB, c Config) (Config, *core.Backhaul) {
	t.Helper()
	b, err := core.NewBackhaul(c.Servers)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = b.Close() })
	c.Servers = b.Addrs
	return c, b
}

// putAll puts bundles at once, as far as the window goes.
func putAll(t testing.TB, e *Edge, list []bundle.Bundle) {
	t.Helper()
	var all sync.WaitGroup
	errs := make([]error, len(list))
	for i, b := range list {
		all.Go(func() { _, errs[i] = e.Put(patiently(t), Item{Bundle: &b}) })
	}
	all.Wait()
	if err := errors.Join(errs...); err != nil {
		t.Fatal(err)
	}
}

// onTag counts what the core has under a tag, by name and under other names.
func onTag(t testing.TB, tag identity.Tag) (own, retried int) {
	t.Helper()
	n, err := cluster(t).Count(patiently(t), boxFilters(tag))
	if err != nil {
		t.Fatal(err)
	}
	r, err := cluster(t).Count(patiently(t), boxFilters(tag)[:len(boxFilters(tag))-1]+"*.r.*")
	if err != nil {
		t.Fatal(err)
	}
	return n - r, r
}

// Silent cuts in the middle lose nothing and double nothing, and cost no more
// sendings than the window. One that lost its state replays everything: all is
// refused as present.
func TestCoreCutsLoseAndDoubleNothing(t *testing.T) {
	t.Parallel()
	c, way := behind(t, settings(t, "cut-a"))
	reader := edge(t, "cut-b")
	tag := newTag()
	watch(t, reader, Mailboxes{Tags: []identity.Tag{tag}})
	in := pulling(t, reader)
	e := running(t, c)
	list := make([]bundle.Bundle, 1500)
	for i := range list {
		list[i] = mail(t, tag, 1000)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		putAll(t, e, list)
	}()
	const cuts = 2
	for i := range cuts {
		way.Limit(400_000)
		until(t, fmt.Sprintf("cut %d", i+1), way.IsCut)
		until(t, "the edge to see it", func() bool { return !e.Status().Up })
		way.Restore()
	}
	<-done
	st := e.Status()
	t.Logf("%d bundles, %d cuts: %d resent, %d found present", len(list), cuts, st.Resent, st.Present)
	if st.Resent == 0 || st.Resent > cuts*windowParcels {
		t.Errorf("%d resent", st.Resent)
	}
	if st.Stored+st.Present != uint64(len(list)) {
		t.Errorf("%d stored, %d present", st.Stored, st.Present)
	}
	again := running(t, c)
	putAll(t, again, list)
	if st := again.Status(); st.Present != uint64(len(list)) || st.Stored != 0 {
		t.Errorf("replayed: %+v", st)
	}
	if own, retried := onTag(t, tag); own != len(list) || retried != 0 {
		t.Errorf("the core has %d and %d, want %d", own, retried, len(list))
	}
	until(t, "all to arrive", func() bool { return in.len() == len(list) })
	for _, b := range list {
		if n := in.count(b.ID()); n != 1 {
			t.Errorf("%v was delivered %d times", b.ID(), n)
		}
	}
}

// A server killed hard in the middle loses nothing.
func TestCoreServerKilledInTheMiddle(t *testing.T) {
	e := edge(t, "kill-a")
	tag := newTag()
	list := make([]bundle.Bundle, 1500)
	for i := range list {
		list[i] = mail(t, tag, 1000)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		putAll(t, e, list)
	}()
	until(t, "some are stored", func() bool { return e.Status().Stored > 200 })
	pid, ok := cluster(t).running(0)
	if !ok {
		t.Fatal("server 1 does not run")
	}
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	<-done
	if own, _ := onTag(t, tag); own != len(list) {
		t.Errorf("the core has %d of %d", own, len(list))
	}
	t.Logf("%+v", e.Status())
	until(t, "the server to be back", func() bool {
		now, ok := cluster(t).running(0)
		return ok && now != pid
	})
}

// A message whose answer is lost with the server that should have sent it is
// given up when later ones were answered, or when nothing comes at all.
func TestCoreLostAnswers(t *testing.T) {
	s := &session{under: map[uint64]*publish{}}
	gone := map[uint64]error{}
	start := time.Now()
	for num := uint64(1); num <= 3; num++ {
		s.under[num] = &publish{size: 1000, sent: start, fail: func(err error) { gone[num] = err }}
	}
	s.seq = 3
	s.leave(2, true)
	s.last = start.Add(5 * time.Second)
	s.sweep(start.Add(time.Second))
	s.sweep(start.Add(time.Second + lostAfter/2))
	if len(gone) != 0 {
		t.Fatalf("given up too early: %v", gone)
	}
	s.sweep(start.Add(time.Second + lostAfter + time.Millisecond))
	if gone[1] == nil || gone[3] != nil {
		t.Fatalf("overtaken: %v", gone)
	}
	s.leave(1, false)
	s.sweep(start.Add(quietAfter + 6*time.Second))
	if !errors.Is(gone[3], errLost) {
		t.Fatalf("quiet: %v", gone)
	}
	delete(gone, 3)
	s.under[3].sent = start.Add(quietAfter + 6*time.Second)
	s.sweep(start.Add(2*quietAfter + 7*time.Second))
	if gone[3] != nil {
		t.Error("the second quiet time is no longer than the first")
	}
}

// BenchmarkUp: bundles of 1 KB a second, from one edge, stored by a majority
// of three servers that sync each write.
func BenchmarkUp(b *testing.B) {
	e := edge(b, "bench")
	tag := newTag()
	if _, _, err := e.Up(patiently(b)); err != nil {
		b.Fatal(err)
	}
	b.SetBytes(1000)
	b.ResetTimer()
	work := make(chan bundle.Bundle)
	var workers sync.WaitGroup
	for range windowParcels {
		workers.Go(func() {
			for m := range work {
				if _, err := e.Put(context.Background(), Item{Bundle: &m}); err != nil {
					b.Error(err)
				}
			}
		})
	}
	for range b.N {
		work <- mail(b, tag, 1000)
	}
	close(work)
	workers.Wait()
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "bundles/s")
	b.ReportMetric(float64(e.Status().Resent), "resent")
}
