package envelope

import (
	"fmt"
	"maps"
	"testing"
)

// A vault that goes back, to a copy or by a damaged commit, makes no index
// used twice: chains skip ahead to what the records say, readers open what is
// sent on, and the epoch is to be replaced.
func TestVaultThatWentBack(t *testing.T) {
	for _, live := range []bool{false, true} {
		if twice := goBack(t, live, true); twice != 0 {
			t.Errorf("live %v: %d indexes used twice", live, twice)
		}
		if twice := goBack(t, live, false); twice == 0 {
			t.Errorf("live %v: no index used twice although the records went back too: the test proves nothing", live)
		}
	}
}

// goBack sends, puts the vault of before into its place, sends on, and counts
// the indexes used twice. Without records of what was used, they went back too.
func goBack(t *testing.T, live, records bool) (twice int) {
	w := newWorld(t)
	alice, bob := w.node('a', 1), w.node('b', 1)
	e := alice.start(bob)
	seen := map[uint32]bool{}
	send := func(n int) {
		for i := range n {
			m, err := alice.trySend(e, fmt.Sprint("message ", i), live)
			if err != nil {
				t.Fatal(err)
			}
			if seen[m.index] {
				twice++
				continue
			}
			seen[m.index] = true
			bob.receive(m)
		}
	}
	send(3)
	old := maps.Clone(alice.disk.durable)
	send(3 * reserveBlock)
	alice.disk.durable = old
	if !records {
		delete(alice.disk.records, usedPrefix+e.String())
	}
	alice.restart()
	if alice.RolledBack() != records {
		t.Errorf("the keyring knows that its vault went back: %v", alice.RolledBack())
	}
	send(2 * reserveBlock)
	if _, ok := alice.EpochFor(alice.epochs[e].op.Conversation, nil); ok == records {
		t.Errorf("the epoch is still in use: %v", ok)
	}
	alice.restart()
	send(reserveBlock + 1)
	return twice
}

// A crash explains a block of indexes; it is no alarm.
func TestCrashIsNoRollback(t *testing.T) {
	w := newWorld(t)
	alice, bob := w.node('a', 1), w.node('b', 1)
	e := alice.start(bob)
	bob.receive(alice.send(e, "x"))
	old := maps.Clone(alice.disk.durable)
	for range reserveBlock {
		bob.receive(alice.send(e, "y"))
	}
	alice.disk.durable = old // as if the last commit had not been
	alice.restart()
	bob.receive(alice.send(e, "z"))
	if alice.RolledBack() {
		t.Error("a crash passes for a rollback")
	}
}

// fallen is a disk that says it fell back.
type fallen struct{ *disk }

func (fallen) FellBack() bool { return true }

// A vault that says it fell back makes every epoch due.
func TestVaultThatFellBack(t *testing.T) {
	w := newWorld(t)
	alice, bob := w.node('a', 1), w.node('b', 1)
	e := alice.start(bob)
	bob.receive(alice.send(e, "x"))
	commits := alice.disk.commits
	k, err := NewKeyring(fallen{alice.disk}, alice.disk, alice.self, w.clock)
	if err != nil {
		t.Fatal(err)
	}
	if !k.RolledBack() || alice.disk.commits == commits {
		t.Errorf("rolled back %v, %d commits", k.RolledBack(), alice.disk.commits-commits)
	}
	if info, ok := k.Info(e); !ok || !info.Due {
		t.Errorf("the epoch is due: %v", info.Due)
	}
	alice.restart()
	if alice.RolledBack() {
		t.Error("says so for ever")
	}
	if info, _ := alice.Info(e); !info.Due {
		t.Error("the epoch is in use again")
	}
}

// Records that are not of the form are errors.
func TestRecordOfUsedIndexes(t *testing.T) {
	for name, value := range map[string][]byte{"used/zz": make([]byte, 8), "used/0011223344556677": make([]byte, 7)} {
		w := newWorld(t)
		alice := w.node('a', 1)
		alice.disk.records[name] = value
		if _, err := NewKeyring(alice.disk, alice.disk, alice.self, w.clock); err == nil {
			t.Errorf("%s of %d bytes is accepted", name, len(value))
		}
	}
}
