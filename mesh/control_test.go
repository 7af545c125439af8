package mesh_test

import (
	"encoding/binary"
	"errors"
	"testing"
	"time"

	"outrider/mesh"
	"outrider/mesh/bundle"
	"outrider/mesh/cla"
)

func control(t testing.TB, n uint64, payload string, life time.Duration) bundle.Bundle {
	t.Helper()
	var key bundle.PurgeKey
	binary.BigEndian.PutUint64(key[:], n)
	b, err := bundle.New(bundle.Header{Version: 1, Tag: tagOf(200), Lifetime: life, Commitment: key.Commit(tagOf(200)), Kind: bundle.KindControl}, []byte(payload), 0)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestControlObjectsWaitForTheirParents(t *testing.T) {
	r := newRig(t)
	a, b := r.node(1, nil), r.node(2, nil)
	known := false
	b.judge = func(p []byte) mesh.Judgement {
		j := mesh.Judgement{Code: mesh.VerdictAccept, Key: [16]byte{p[0]}, Number: 1}
		if p[0] == 'c' && !known {
			j.Code = mesh.VerdictLater
		}
		return j
	}
	child, parent := control(t, 1, "child", time.Hour), control(t, 2, "parent", time.Hour)
	if err := a.submit(child, mesh.SubmitOptions{}); err != nil {
		t.Fatal(err)
	}
	r.connect(a, b, cla.LAN)
	if got := b.Status(r.now).Put; b.state(child.ID()) != "unknown" || got != 1 {
		t.Fatalf("state %s, %d put off", b.state(child.ID()), got)
	}
	if err := a.submit(parent, mesh.SubmitOptions{}); err != nil {
		t.Fatal(err)
	}
	if b.arrivals(parent.ID()) != 1 {
		t.Fatal("control objects are announced whatever is watched")
	}
	known = true // the roster has applied it
	if err := b.consume(parent.ID()); err != nil {
		t.Fatal(err)
	}
	if b.state(child.ID()) != "held" {
		t.Fatalf("after its parent came: %s", b.state(child.ID()))
	}
	if err := b.submit(control(t, 3, "c2", time.Hour), mesh.SubmitOptions{}); err != nil {
		t.Fatal(err)
	}
	known = false
	if err := b.submit(control(t, 4, "c3", time.Hour), mesh.SubmitOptions{}); !errors.Is(err, mesh.ErrLater) {
		t.Fatalf("submitted before its parent: %v", err)
	}
	r.noLeaks()
}

func versions(p []byte) mesh.Judgement {
	if p[0] == 'x' {
		return mesh.Judgement{Code: mesh.VerdictForged}
	}
	return mesh.Judgement{Code: mesh.VerdictAccept, Key: [16]byte{p[0]}, Number: uint64(p[1])}
}

func TestNewestControlObjectOnly(t *testing.T) {
	r := newRig(t)
	a, b, c := r.node(1, nil), r.node(2, nil), r.node(3, nil)
	for _, n := range r.nodes {
		n.judge = versions
	}
	v1, v2 := control(t, 1, "k1", time.Hour), control(t, 2, "k2", time.Hour)
	if err := a.submit(v1, mesh.SubmitOptions{}); err != nil {
		t.Fatal(err)
	}
	if err := c.submit(v2, mesh.SubmitOptions{}); err != nil {
		t.Fatal(err)
	}
	r.connect(a, b, cla.LAN)
	r.connect(b, c, cla.LAN)
	r.advance(time.Minute)
	for i, n := range r.nodes {
		if n.store.Holds(v1.ID()) || !n.store.Holds(v2.ID()) {
			t.Errorf("node %d holds the old one %v, the new one %v", i, n.store.Holds(v1.ID()), n.store.Holds(v2.ID()))
		}
		if n.Status(r.now).Root != a.Status(r.now).Root {
			t.Errorf("node %d: sets differ for good", i)
		}
	}
	if err := a.submit(v1, mesh.SubmitOptions{}); err == nil {
		t.Error("an old version was taken back")
	}
	if err := a.submit(control(t, 9, "x9", time.Hour), mesh.SubmitOptions{}); !errors.Is(err, mesh.ErrRefused) {
		t.Errorf("a forged object: %v", err)
	}
}

// Nobody can make a control object die early by putting another header
// around it, nor by a purge key of their own.
func TestControlObjectInAnotherHeader(t *testing.T) {
	r := newRig(t)
	a := r.node(1, nil)
	a.judge = versions
	real := control(t, 1, "k1", 24*time.Hour)
	if err := a.submit(real, mesh.SubmitOptions{}); err != nil {
		t.Fatal(err)
	}
	short := control(t, 2, "k1", time.Minute)
	if err := a.submit(short, mesh.SubmitOptions{}); err == nil || a.state(real.ID()) != "held" {
		t.Fatalf("a shorter life replaced the object: %v", err)
	}
	long := control(t, 3, "k1", 48*time.Hour)
	if err := a.submit(long, mesh.SubmitOptions{}); err != nil {
		t.Fatal(err)
	}
	var key bundle.PurgeKey
	binary.BigEndian.PutUint64(key[:], 3)
	if err := a.purge(bundle.NewPurgeRecord(long, key)); !errors.Is(err, mesh.ErrRefused) || a.state(long.ID()) != "held" {
		t.Fatalf("a control object was purged: %v, %s", err, a.state(long.ID()))
	}
}

func TestTwoNewControlObjectsADay(t *testing.T) {
	r := newRig(t)
	a, b := r.node(1, nil), r.node(2, nil)
	for _, n := range r.nodes {
		n.judge = versions
	}
	r.connect(a, b, cla.LAN)
	for v := byte(1); v <= 3; v++ {
		if err := a.submit(control(t, uint64(v), string([]byte{'k', v}), 90*24*time.Hour), mesh.SubmitOptions{}); err != nil {
			t.Fatal(err)
		}
		r.advance(time.Second)
	}
	third := control(t, 3, string([]byte{'k', 3}), 90*24*time.Hour).ID()
	if b.state(third) == "held" {
		t.Fatal("a third version within a day was taken at once")
	}
	r.advance(25 * time.Hour)
	if b.state(third) != "held" {
		t.Fatalf("a day later it is %s", b.state(third))
	}
}

func TestFailedSupersedingKeepsTheOld(t *testing.T) {
	r := newRig(t)
	a := r.node(1, nil)
	a.judge = versions
	v1, v2 := control(t, 1, "k1", time.Hour), control(t, 2, "k2", time.Hour)
	if err := a.submit(v1, mesh.SubmitOptions{}); err != nil {
		t.Fatal(err)
	}
	root := a.Status(r.now).Root
	a.store.Fail = func([]mesh.Op) error { return errors.New("no") }
	if err := a.submit(v2, mesh.SubmitOptions{}); err == nil {
		t.Fatal("stored in a broken store")
	}
	if a.state(v1.ID()) != "held" || a.Status(r.now).Root != root {
		t.Fatalf("the old version is %s", a.state(v1.ID()))
	}
	a.store.Fail = nil
	if err := a.submit(v2, mesh.SubmitOptions{}); err != nil || a.state(v1.ID()) != "superseded" {
		t.Fatalf("%v, %s", err, a.state(v1.ID()))
	}
}

// A blind agent, a stick's, gives up a control object that a neighbour who can
// judge calls superseded or bad; the sets become equal. An agent that can
// judge keeps what it judged good, whatever a neighbour says.
func TestBlindAgentGivesUpWhatOthersRefuse(t *testing.T) {
	for _, blind := range []bool{true, false} {
		r := newRig(t)
		a := r.node(1, func(c *mesh.Config) { c.Blind = blind })
		b := r.node(2, nil)
		a.judge = func(p []byte) mesh.Judgement {
			return mesh.Judgement{Code: mesh.VerdictAccept, Key: [16]byte{p[0], p[1]}}
		}
		b.judge = func(p []byte) mesh.Judgement {
			if p[0] == 'f' {
				return mesh.Judgement{Code: mesh.VerdictForged}
			}
			return mesh.Judgement{Code: mesh.VerdictAccept, Key: [16]byte{p[0]}, Number: uint64(p[1])}
		}
		older, newer, forged := control(t, 1, "v1", time.Hour), control(t, 2, "v2", time.Hour), control(t, 3, "f0", time.Hour)
		for _, c := range []bundle.Bundle{older, newer, forged} {
			if err := a.submit(c, mesh.SubmitOptions{}); err != nil {
				t.Fatal(err)
			}
		}
		if err := b.submit(newer, mesh.SubmitOptions{}); err != nil {
			t.Fatal(err)
		}
		r.connect(a, b, cla.LAN)
		r.advance(10 * time.Second)
		want := "held"
		if blind {
			want = "superseded"
		}
		if a.state(older.ID()) != want || a.state(forged.ID()) != want || a.state(newer.ID()) != "held" {
			t.Errorf("blind %v: older %s, forged %s, newer %s", blind, a.state(older.ID()), a.state(forged.ID()), a.state(newer.ID()))
		}
		if equal := a.Status(r.now).Root == b.Status(r.now).Root; equal != blind {
			t.Errorf("blind %v: sets equal %v", blind, equal)
		}
	}
}
