package envelope

import (
	"errors"
	"fmt"
	"testing"

	"pgregory.net/rapid"

	"outrider/mesh/identity"
)

// The power is cut before every single operation of vault and records, and
// each time the story goes on from what was durable then.

// No index is ever used for two payloads, and everything that was handed out
// opens.
func TestPowerCutWhileSending(t *testing.T) {
	total := 0
	for cutAt := 1; ; cutAt++ {
		w := newWorld(t)
		alice, bob := w.node('a', 1), w.node('b', 1)
		e := alice.start(bob)
		alice.disk.ops, alice.disk.cutAt = 0, cutAt
		var sent []mail
		cuts := 0
		for i := 0; len(sent) < 80; i++ {
			m, err := alice.trySend(e, fmt.Sprint("message ", i), i%3 == 0)
			if err == nil {
				sent = append(sent, m)
				continue
			}
			if !errors.Is(err, errPower) || cuts > 0 {
				t.Fatalf("cut before operation %d: %v", cutAt, err)
			}
			cuts++
			alice.restart()
		}
		if cuts == 0 {
			if cutAt < 5 {
				t.Fatal("the cuts missed everything")
			}
			return
		}
		total++
		seen := map[uint32]bool{}
		for _, m := range sent {
			if seen[m.index] {
				t.Fatalf("cut before operation %d: index %d used twice", cutAt, m.index)
			}
			seen[m.index] = true
			bob.receive(m)
		}
	}
}

// Every epoch whose wraps were handed out is held by its issuer.
func TestPowerCutWhileStarting(t *testing.T) {
	for cutAt := 1; ; cutAt++ {
		w := newWorld(t)
		alice, bob := w.node('a', 1), w.node('b', 1)
		to := []Recipient{bob.recipient()}
		alice.disk.ops, alice.disk.cutAt = 0, cutAt
		_, first, err := alice.StartEpoch(to, EpochOptions{Header: headerFunc, ReplyKeys: true})
		cut := alice.disk.cut
		if cut && !errors.Is(err, errPower) {
			t.Fatalf("cut before operation %d: %v", cutAt, err)
		}
		alice.restart()
		e, wraps, err := alice.StartEpoch(to, EpochOptions{Header: headerFunc, ReplyKeys: true})
		if err != nil {
			t.Fatalf("cut before operation %d: %v", cutAt, err)
		}
		for _, wr := range append(first, wraps...) {
			info, err := bob.OpenEpoch(wr.Tag, wr.Header, wr.Payload)
			if err != nil {
				t.Fatal(err)
			}
			alice.receive(bob.send(info.ID, "in every epoch that got out"))
		}
		bob.receive(alice.send(e, "x"))
		_, back, err := bob.StartEpoch([]Recipient{alice.recipient()}, EpochOptions{Header: headerFunc})
		if err != nil || back[0].Number&replyBit == 0 {
			t.Fatal(err)
		}
		if _, err := alice.OpenEpoch(back[0].Tag, back[0].Header, back[0].Payload); err != nil {
			t.Fatalf("cut before operation %d: reply key: %v", cutAt, err)
		}
		if !cut {
			return
		}
	}
}

// A reader works as its package comment says: open, make durable, accept,
// commit, consumed. Whatever the moment of the cut, every message ends up
// durable exactly once, and nothing that was accepted and committed opens
// again. The order has gaps, repetitions and an epoch that arrives late.
func TestPowerCutWhileReceiving(t *testing.T) {
	for cutAt := 1; ; cutAt++ {
		w := newWorld(t)
		alice, bob := w.node('a', 1), w.node('b', 1)
		e1 := alice.start(bob)
		var mails []mail
		for i := range 12 {
			mails = append(mails, alice.send(e1, fmt.Sprint("message ", i)))
		}
		w.pass(1)
		e2, wraps := alice.startOnly(bob)
		mails = append(mails, alice.send(e2, "in the second epoch"))
		order := []int{12, 3, 0, 1, 11, 3, 2, 7, 5, 4, 6, 10, 8, 9, 12, 0}

		bob.disk.ops, bob.disk.cutAt = 0, cutAt
		r := &reader{node: bob, rows: map[string]int{}, consumed: map[int]bool{}}
		cut := false
		for pass := 0; len(r.consumed) < len(mails); pass++ {
			if pass > 20 {
				t.Fatalf("cut before operation %d: %d of %d consumed", cutAt, len(r.consumed), len(mails))
			}
			err := r.pass(wraps[0], mails, order)
			if bob.disk.cut {
				cut = true
				bob.restart()
			} else if err != nil {
				t.Fatalf("cut before operation %d: %v", cutAt, err)
			}
		}
		for _, m := range mails {
			if r.rows[m.text] != 1 {
				t.Fatalf("cut before operation %d: %q is there %d times", cutAt, m.text, r.rows[m.text])
			}
			bob.refuse(m, ErrDuplicate)
		}
		bob.restart()
		for _, m := range mails {
			bob.refuse(m, ErrDuplicate)
		}
		if !cut {
			return
		}
	}
}

// A reader is what node/chat is to a keyring.
type reader struct {
	*node
	rows     map[string]int // durable: text to times stored
	ids      map[messageID]bool
	epoch    bool
	consumed map[int]bool
}

func (r *reader) pass(wrap Wrap, mails []mail, order []int) error {
	if r.ids == nil {
		r.ids = map[messageID]bool{}
	}
	for n, i := range order {
		if n == 2 && !r.epoch { // the wrap arrives in the middle
			if _, err := r.OpenEpoch(wrap.Tag, wrap.Header, wrap.Payload); err != nil {
				return err
			}
			if err := r.Commit(); err != nil {
				return err
			}
			r.epoch = true
		}
		if r.consumed[i] {
			continue
		}
		if err := r.take(i, mails[i]); err != nil {
			return err
		}
	}
	return nil
}

func (r *reader) take(i int, m mail) error {
	o, err := r.open(m)
	switch {
	case errors.Is(err, ErrUnknownEpoch):
		return nil // stays with the agent
	case errors.Is(err, ErrDuplicate):
		r.consumed[i] = true
		return nil
	case err != nil:
		return err
	}
	id := messageID{o.Epoch, position{o.Slot, o.Index}}
	if !r.ids[id] {
		r.ids[id] = true
		r.rows[m.text]++
	}
	if err := r.Accept(o); err != nil {
		return err
	}
	if err := r.Commit(); err != nil {
		return err
	}
	r.consumed[i] = true
	return nil
}

// Others commit the vault whenever they like: that must never make a message
// used up that was opened and not accepted.
func TestForeignCommitUsesNothingUp(t *testing.T) {
	w := newWorld(t)
	alice, bob := w.node('a', 1), w.node('b', 1)
	e := alice.start(bob)
	m0, m1 := alice.send(e, "zero"), alice.send(e, "one")
	if _, err := bob.open(m1); err != nil {
		t.Fatal(err)
	}
	bob.send(e, "a draft commits the vault")
	if err := bob.disk.Commit(); err != nil {
		t.Fatal(err)
	}
	bob.restart()
	o0, err := bob.open(m0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := bob.open(m1); err != nil {
		t.Fatal(err)
	}
	// Accepting one message leaves its neighbour open, also over a power cut.
	if err := errors.Join(bob.Accept(o0), bob.Commit()); err != nil {
		t.Fatal(err)
	}
	bob.restart()
	bob.refuse(m0, ErrDuplicate)
	bob.receive(m1)
}

// Records are a help, not a need: if the disk lost those about gaps, late
// messages still open.
func TestLostGapRecordsLoseNoMessage(t *testing.T) {
	w := newWorld(t)
	alice, bob := w.node('a', 1), w.node('b', 1)
	e := alice.start(bob)
	late := alice.send(e, "late")
	bob.receive(alice.send(e, "x"))
	for name := range bob.disk.records {
		if name[:len(gapsPrefix)] == gapsPrefix {
			delete(bob.disk.records, name)
		}
	}
	bob.restart()
	bob.receive(late)
	bob.refuse(late, ErrDuplicate)
	bob.restart()
	bob.refuse(late, ErrDuplicate)
}

func TestVaultErrorsAreNotLosses(t *testing.T) {
	w := newWorld(t)
	alice, bob := w.node('a', 1), w.node('b', 1)
	e := alice.start(bob)
	m0, m1 := alice.send(e, "zero"), alice.send(e, "one")
	o, err := bob.open(m1)
	if err != nil {
		t.Fatal(err)
	}
	for fail := 1; fail < 5; fail++ { // the disk fails and comes back without a restart
		bob.disk.ops, bob.disk.cutAt = 0, fail
		err := errors.Join(bob.Accept(o), bob.Commit())
		if fail < 4 && !errors.Is(err, errPower) {
			t.Fatalf("operation %d failed: %v", fail, err)
		}
		bob.disk.cut, bob.disk.cutAt = false, 0
	}
	if err := errors.Join(bob.Accept(o), bob.Commit()); err != nil {
		t.Fatal(err)
	}
	bob.restart()
	bob.refuse(m1, ErrDuplicate)
	bob.receive(m0)
}

// Any permutation within the window opens, each message exactly once, with
// restarts, repetitions and late accepts anywhere.
func TestAnyOrderExactlyOnce(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := newWorld(t)
		alice, bob, bob2 := w.node('a', 1), w.node('b', 1), w.node('b', 2)
		e := alice.start(bob, bob2)
		var mails []mail
		for i := range rapid.IntRange(1, 60).Draw(t, "messages") {
			from := []*node{alice, bob2}[i%2]
			m, err := from.trySend(e, fmt.Sprint(i), i%5 == 4)
			if err != nil {
				t.Fatal(err)
			}
			mails = append(mails, m)
			if rapid.IntRange(0, 9).Draw(t, "skip") == 0 {
				if _, err := from.Draft(e); err != nil { // an index that is never sent
					t.Fatal(err)
				}
			}
		}
		order := rapid.Permutation(mails).Draw(t, "order")
		var waiting []*Opened
		count := map[string]int{}
		accept := func() {
			if err := errors.Join(bob.Accept(waiting...), bob.Commit()); err != nil {
				t.Fatal(err)
			}
			for _, o := range waiting {
				count[mustText(o)]++
			}
			waiting = nil
		}
		for i := 0; i < len(order); i++ {
			switch rapid.IntRange(0, 9).Draw(t, "event") {
			case 0:
				accept()
				bob.restart()
			case 1: // a crash before the accept: they come again
				for _, o := range waiting {
					for _, m := range mails {
						if m.text == mustText(o) {
							order = append(order, m)
						}
					}
				}
				waiting = nil
				bob.restart()
			case 2, 3:
				accept()
			}
			o, err := bob.open(order[i])
			if err != nil {
				t.Fatalf("message %s: %v", order[i].text, err)
			}
			if o.Clone {
				t.Fatal("false alarm")
			}
			waiting = append(waiting, o)
		}
		accept()
		for _, m := range mails {
			if count[m.text] != 1 {
				t.Fatalf("message %s opened %d times", m.text, count[m.text])
			}
			bob.refuse(m, ErrDuplicate)
		}
	})
}

func mustText(o *Opened) string {
	text, err := ParseText(o.Inner.Body)
	if err != nil {
		panic(err)
	}
	return text.Text
}

// Every prekey that was handed out opens what is made with it.
func TestPowerCutWhileMakingPrekeys(t *testing.T) {
	for cutAt := 1; ; cutAt++ {
		w := newWorld(t)
		alice, bob := w.node('a', 1), w.node('b', 1)
		bob.disk.ops, bob.disk.cutAt = 0, cutAt
		published := map[uint32]Prekey{}
		cut := false
		for range 3 { // two rotations
			raws, err := bob.Prekeys()
			if err != nil {
				cut = true
				bob.restart()
				raws, err = bob.Prekeys()
			}
			if err != nil {
				t.Fatalf("cut before operation %d: %v", cutAt, err)
			}
			for _, raw := range raws {
				p, err := identity.ParsePrekey(raw)
				if err != nil {
					t.Fatal(err)
				}
				if old, ok := published[p.Number]; ok && string(old.Public) != string(p.Public) {
					t.Fatalf("cut before operation %d: two keys of number %d published", cutAt, p.Number)
				}
				published[p.Number] = p
			}
			w.pass(PrekeyLife)
		}
		bob.restart()
		for number, p := range published {
			to := Recipient{User: bob.self.User, Device: bob.self.Device, DeviceKey: bob.self.Key.Public(), Prekey: &p}
			_, wraps, err := alice.StartEpoch([]Recipient{to}, EpochOptions{Header: headerFunc})
			if err != nil {
				t.Fatal(err)
			}
			if _, err := bob.OpenEpoch(wraps[0].Tag, wraps[0].Header, wraps[0].Payload); err != nil {
				t.Fatalf("cut before operation %d: prekey %d: %v", cutAt, number, err)
			}
		}
		if !cut {
			return
		}
	}
}
