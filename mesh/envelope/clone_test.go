package envelope

import (
	"bytes"
	"fmt"
	"testing"
	"time"
)

// A device restored from a snapshot sends two messages with one identity.
func TestAttackClonedSender(t *testing.T) {
	w := newWorld(t)
	alice, bob := w.node('a', 1), w.node('b', 1)
	e := alice.start(bob)
	bob.receive(alice.send(e, "before the snapshot"))
	clone := w.node('a', 1)
	clone.disk = alice.disk.snapshot()
	clone.restart()
	alice.restart()
	first, second := alice.send(e, "from alice"), clone.send(e, "from the clone")
	if first.index != second.index {
		t.Fatal("the clone does not repeat an index")
	}
	if o := bob.receive(first); o.Clone {
		t.Fatal("alarm at the first")
	}
	garbled := second
	garbled.payload = flip(second.payload, 40) // not authentic: no alarm
	bob.refuse(garbled, ErrForged)
	conv := DirectConversation(w.network, alice.self.User, bob.self.User)
	if _, ok := bob.EpochFor(conv, nil); !ok {
		t.Fatal("garbage forced a refresh")
	}
	if o := bob.receive(second); !o.Clone || o.Index != first.index {
		t.Fatal("no alarm")
	}
	if _, ok := bob.EpochFor(conv, nil); ok {
		t.Fatal("no refresh after a clone")
	}
	bob.refuse(first, ErrDuplicate)
	// The original device notices its copy by a message it never sent.
	clone.send(e, "x")
	for range reserveBlock {
		clone.send(e, "x")
	}
	alice.refuse(clone.send(e, "unheard of"), ErrCloned)
}

func (d *disk) snapshot() *disk {
	c := newDisk()
	for k, v := range d.durable {
		c.durable[k] = v
	}
	for k, v := range d.records {
		c.records[k] = v
	}
	return c
}

func TestCloneBeforeTheFirstIsAccepted(t *testing.T) {
	w := newWorld(t)
	alice, bob := w.node('a', 1), w.node('b', 1)
	e := alice.start(bob)
	clone := w.node('a', 1)
	clone.disk = alice.disk.snapshot()
	clone.restart()
	a, b := alice.send(e, "a"), clone.send(e, "b")
	o1, err := bob.open(a)
	if err != nil || o1.Clone {
		t.Fatal(err)
	}
	o2, err := bob.open(b)
	if err != nil || !o2.Clone {
		t.Fatalf("clone %v: %v", o2 != nil && o2.Clone, err)
	}
	if again, err := bob.open(a); err != nil || again.Clone {
		t.Fatalf("the first is called a clone: %v", err)
	}
	if err := bob.Accept(o1, o2, o1); err != nil || bob.unaccepted != 0 {
		t.Fatalf("%d unaccepted: %v", bob.unaccepted, err)
	}
	bob.refuse(a, ErrDuplicate)
}

func TestForgetDropsTheKeyOfABurnedMessage(t *testing.T) {
	w := newWorld(t)
	alice, bob := w.node('a', 1), w.node('b', 1)
	e := alice.start(bob)
	o := bob.receive(alice.send(e, "burn"))
	if len(bob.recent.keys) != 1 {
		t.Fatal("not remembered")
	}
	bob.Forget(o)
	if len(bob.recent.keys) != 0 || len(bob.recent.order) != 0 {
		t.Fatal("not forgotten")
	}
}

// After a message is accepted and committed nothing on the disk opens it, not
// even with everything the vault holds then.
func TestUsedKeysAreGone(t *testing.T) {
	w := newWorld(t)
	alice, bob := w.node('a', 1), w.node('b', 1)
	e := alice.start(bob)
	var mails []mail
	for i := range 40 {
		mails = append(mails, alice.send(e, fmt.Sprint(i)))
	}
	for _, i := range []int{5, 2, 39, 0} {
		bob.receive(mails[i])
	}
	used := map[int]bool{5: true, 2: true, 39: true, 0: true}
	for _, n := range []*node{alice, bob} {
		for i, m := range mails {
			opened := opensWithVault(t, n.disk, bob.epochs[e].binding(), m)
			if want := n == bob && !used[i]; opened != want {
				t.Fatalf("message %d opens from the vault: %v, want %v (bob %v)", i, opened, want, n == bob)
			}
		}
	}
}

// opensWithVault tries every 32 bytes of every secret as a message key and as
// a chain key.
func opensWithVault(t *testing.T, d *disk, b binding, m mail) bool {
	t.Helper()
	at, err := b.locate(m.payload)
	if err != nil {
		t.Fatal(err)
	}
	for _, v := range d.durable {
		for off := 0; off+32 <= len(v); off += 4 {
			k := key(v[off:])
			for range 45 {
				msg, next := k.step()
				for _, try := range []key{k, msg} {
					if _, err := b.openSeal(try, at, m.header, m.payload); err == nil {
						return true
					}
				}
				k = next
			}
		}
	}
	return false
}

// Nothing of what is sealed, who sealed it or for whom shows in a payload.
func TestPayloadsShowNothing(t *testing.T) {
	w := newWorld(t)
	alice, bob := w.node('a', 1), w.node('b', 1)
	e, wraps := alice.startOnly(bob)
	m := alice.send(e, "the text in the clear, the text in the clear")
	conv := DirectConversation(w.network, alice.self.User, bob.self.User)
	for name, secret := range map[string][]byte{
		"text": []byte("text in the clear"), "epoch": e[:], "conversation": conv[:],
		"sender": alice.self.Device[:], "recipient": bob.self.Device[:], "sending user": alice.self.User[:], "network": w.network[:],
	} {
		for _, payload := range [][]byte{m.payload, wraps[0].Payload} {
			if bytes.Contains(payload, secret) {
				t.Errorf("%s shows in a payload", name)
			}
		}
	}
}

func TestSkippedKeysExpire(t *testing.T) {
	w := newWorld(t)
	alice, bob := w.node('a', 1), w.node('b', 1)
	e := alice.start(bob)
	late := alice.send(e, "late")
	bob.receive(alice.send(e, "x"))
	for range 31 {
		w.pass(24 * time.Hour)
		if err := bob.Sweep(); err != nil {
			t.Fatal(err)
		}
	}
	bob.refuse(late, ErrKeyGone)
	if err := bob.Commit(); err != nil {
		t.Fatal(err)
	}
	bob.restart()
	bob.refuse(late, ErrKeyGone)
	if _, ok := bob.disk.durable[bob.box.gapID(e, position{late.slotOf(bob, e), 0})]; ok {
		t.Fatal("key still in the vault")
	}
	bob.receive(alice.send(e, "goes on"))
}

func (m mail) slotOf(n *node, e EpochID) uint16 {
	at, err := n.epochs[e].binding().locate(m.payload)
	if err != nil {
		panic(err)
	}
	return at.slot
}
