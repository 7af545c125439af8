package node

import (
	"bufio"
	"bytes"
	"errors"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"outrider/mesh/identity"
)

func contains(s, part string) bool { return strings.Contains(s, part) }

func TestInit(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "deep", "node")
	h, err := Init(dir)
	if err != nil {
		t.Fatal(err)
	}
	id := h.ID()
	if _, err := Init(dir); !errors.Is(err, ErrAtWork) {
		t.Errorf("init beside an open folder: %v", err)
	}
	if err := h.Close(); err != nil {
		t.Fatal(err)
	}
	before := readState(t, dir)
	_, err = Init(dir)
	wantError(t, err, ErrInitialised, dir, "outrider up")
	if !bytes.Equal(before, readState(t, dir)) {
		t.Error("the second init changed the node")
	}
	if st, err := os.Stat(filepath.Join(dir, "state")); err != nil || st.Mode().Perm() != 0o600 {
		t.Errorf("state: %v %v, want mode 0600", st.Mode(), err)
	}
	if h := reopen(t, dir); h.ID() != id {
		t.Error("the node has another key after reopening")
	}
}

// A crash in the first init leaves no state, perhaps half of a new one.
func TestInitAfterCrash(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "state.new"), []byte{0xa1}, 0o600); err != nil {
		t.Fatal(err)
	}
	_, err := OpenHome(dir)
	wantError(t, err, ErrNotInitialised)
	h, err := Init(dir)
	if err != nil {
		t.Fatal(err)
	}
	h.Close()
	reopen(t, dir)
}

// A state that cannot be looked at may be somebody's only key.
func TestInitLeavesAlone(t *testing.T) {
	dir := t.TempDir()
	loop := filepath.Join(dir, "state")
	if err := os.Symlink(loop, loop); err != nil { // stat fails, and not with "not there"
		t.Fatal(err)
	}
	if _, err := Init(dir); err == nil {
		t.Fatal("init went over a state it could not look at")
	}
	if to, err := os.Readlink(loop); err != nil || to != loop {
		t.Errorf("the state was replaced: %q %v", to, err)
	}
}

func TestOpenHome(t *testing.T) {
	dir := t.TempDir()
	_, err := OpenHome(dir)
	wantError(t, err, ErrNotInitialised, dir, "outrider init")
	_, err = OpenHome(filepath.Join(dir, "nowhere"))
	wantError(t, err, ErrNotInitialised)
	h := newHome(t)
	_, err = OpenHome(h.Dir())
	wantError(t, err, ErrAtWork, h.Dir(), "another outrider command")
	l, err := net.Listen("unix", h.path(socketName))
	if err != nil {
		t.Fatal(err)
	}
	_, err = OpenHome(h.Dir())
	wantError(t, err, ErrRunning, h.Dir(), "--dir")
	l.Close()
	h.Close()
	reopen(t, h.Dir())
}

// TestStateLost: where a node's keys or mail lie without its state, init makes
// no new identity over them, and nobody is told to try.
func TestStateLost(t *testing.T) {
	for _, part := range []string{"db", "users", "admin"} {
		dir := t.TempDir()
		if err := os.Mkdir(filepath.Join(dir, part), 0o750); err != nil {
			t.Fatal(err)
		}
		_, err := OpenHome(dir)
		wantError(t, err, ErrStateLost, dir, "from a backup")
		_, err = Init(dir)
		wantError(t, err, ErrStateLost, dir, "from a backup")
		if _, err := os.Stat(filepath.Join(dir, "state")); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("init beside %s made a state: %v", part, err)
		}
	}
}

func readState(t *testing.T, dir string) []byte {
	t.Helper()
	raw, err := os.ReadFile(filepath.Join(dir, "state"))
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

func writeState(t *testing.T, dir string, raw []byte) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(dir, "state"), raw, 0o600); err != nil {
		t.Fatal(err)
	}
}

// TestDamagedState cuts and flips a state file everywhere. Each time the error
// names the file and what to do, or, where a flip only changed a value, the
// node opens. Nothing is written over.
func TestDamagedState(t *testing.T) {
	h, _, _ := founded(t)
	dir := h.Dir()
	h.Close()
	good := readState(t, dir)
	damaged := [][]byte{nil, {0xff}, append(bytes.Clone(good), 0)}
	for n := 1; n < len(good); n += 1 + len(good)/24 {
		damaged = append(damaged, good[:n])
	}
	refused := len(damaged)
	for n := 0; n < len(good); n += 1 + len(good)/24 {
		flipped := bytes.Clone(good)
		flipped[n] ^= 0x41
		damaged = append(damaged, flipped)
	}
	for i, raw := range damaged {
		writeState(t, dir, raw)
		h, err := OpenHome(dir)
		switch {
		case err == nil && i < refused:
			t.Errorf("opened a state cut to %d bytes", len(raw))
			h.Close()
		case err == nil:
			h.Close()
		case !contains(err.Error(), "restore "+filepath.Join(dir, "state")) && !contains(err.Error(), "later version"):
			t.Errorf("%d bytes: the error does not say what to do: %v", len(raw), err)
		}
		if !bytes.Equal(readState(t, dir), raw) {
			t.Fatal("a damaged state was written over")
		}
	}
	writeState(t, dir, good)
	reopen(t, dir)
}

// TestLaterState reads what a later version wrote: other fields, other shapes.
// The advice must not be to remove the folder.
func TestLaterState(t *testing.T) {
	h := newHome(t)
	dir := h.Dir()
	h.Close()
	for _, later := range []any{
		map[uint64]any{1: uint64(2)},
		map[uint64]any{1: uint64(2), 2: "not a seed any more", 99: []uint64{1}},
	} {
		raw, err := identity.Marshal(later)
		if err != nil {
			t.Fatal(err)
		}
		writeState(t, dir, raw)
		_, err = OpenHome(dir)
		wantError(t, err, nil, "later version (2)")
		if err != nil && contains(err.Error(), "remove") {
			t.Errorf("the advice destroys a node: %v", err)
		}
	}
	raw, err := identity.Marshal(map[uint64]any{2: make([]byte, 32)})
	if err != nil {
		t.Fatal(err)
	}
	writeState(t, dir, raw)
	_, err = OpenHome(dir)
	wantError(t, err, nil, "damaged")
}

// TestStateWriteFails makes each step of replacing the file fail. The old
// state stays, in the file and in memory, and the next change goes through.
func TestStateWriteFails(t *testing.T) {
	for _, c := range []struct {
		name  string
		spoil func(t *testing.T, dir string) (mend func())
		cause error
	}{
		{"the new file cannot be made", func(t *testing.T, dir string) func() {
			p := filepath.Join(dir, "state.new")
			if err := os.Mkdir(p, 0o700); err != nil {
				t.Fatal(err)
			}
			return func() { os.Remove(p) }
		}, unix.EISDIR},
		{"the disk is full", func(t *testing.T, dir string) func() {
			p := filepath.Join(dir, "state.new")
			if err := os.Symlink("/dev/full", p); err != nil {
				t.Fatal(err)
			}
			return func() { os.Remove(p) }
		}, unix.ENOSPC},
		{"the rename fails", func(t *testing.T, dir string) func() {
			p, aside := filepath.Join(dir, "state"), filepath.Join(dir, "aside")
			if err := os.Rename(p, aside); err != nil {
				t.Fatal(err)
			}
			if err := os.MkdirAll(filepath.Join(p, "x"), 0o700); err != nil {
				t.Fatal(err)
			}
			return func() { os.RemoveAll(p); os.Rename(aside, p) }
		}, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			h := newHome(t)
			if err := h.SetBlocked(madeUpNode(1), true); err != nil {
				t.Fatal(err)
			}
			before := readState(t, h.Dir())
			g := newGate(h)
			for id, up := range map[int]bool{2: false, 1: true} {
				mend := c.spoil(t, h.Dir())
				wantError(t, g.set(madeUpNode(id), up), c.cause, "write state")
				mend()
			}
			if !g.Allowed(madeUpNode(2)) || g.Allowed(madeUpNode(1)) || len(h.blockedNodes()) != 1 {
				t.Error("what could not be written is in force")
			}
			if !bytes.Equal(before, readState(t, h.Dir())) {
				t.Error("the old state did not stay")
			}
			if err := g.set(madeUpNode(2), false); err != nil {
				t.Fatal(err)
			}
			h.Close()
			if again := reopen(t, h.Dir()); len(again.blockedNodes()) != 2 {
				t.Errorf("after mending %d nodes are blocked, want 2", len(again.blockedNodes()))
			}
		})
	}
}

// A state that could be written but not read again would be the end of the
// node; it must be refused while the old one is still there.
func TestStateTooLarge(t *testing.T) {
	h, _, _ := founded(t)
	before := readState(t, h.Dir())
	h.mu.Lock()
	err := h.attempt(func() error {
		for range 2000 {
			h.state.Publish = append(h.state.Publish, publication{Payload: randomBytes(600)})
		}
		return nil
	})
	h.mu.Unlock()
	wantError(t, err, nil, "outrider up")
	if !bytes.Equal(before, readState(t, h.Dir())) {
		t.Error("the state was written all the same")
	}
	if n := len(h.unpublished()); n > 10 {
		t.Errorf("%d publications stayed in memory", n)
	}
}

// child starts this program as one that blocks node after node, and returns a
// scanner of what it acknowledges.
func child(t *testing.T, dir string, wrap ...string) (*exec.Cmd, *bufio.Scanner) {
	t.Helper()
	argv := append(wrap, os.Args[0])
	cmd := exec.Command(argv[0], argv[1:]...)
	cmd.Env = append(os.Environ(), childEnv+"="+dir)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	return cmd, bufio.NewScanner(out)
}

// TestStateSurvivesKill kills a program that changes its state without a
// pause, at random moments. Every reopening must work and show all that was
// acknowledged, and at most one change more.
func TestStateSurvivesKill(t *testing.T) {
	h := newHome(t)
	dir, acked := h.Dir(), 0
	h.Close()
	for range 8 {
		cmd, lines := child(t, dir)
		for enough := acked + 1 + rand.IntN(40); acked < enough && lines.Scan(); {
			n, err := strconv.Atoi(lines.Text())
			if err != nil {
				t.Fatal(err)
			}
			acked = n
		}
		if err := cmd.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		for lines.Scan() { // acknowledged before the kill, read after it
			acked++
		}
		_ = cmd.Wait()
		h, err := OpenHome(dir)
		if err != nil {
			t.Fatalf("after %d changes: %v", acked, err)
		}
		if n := len(h.blockedNodes()); n != acked && n != acked+1 {
			t.Fatalf("%d nodes are blocked, %d were acknowledged", n, acked)
		}
		acked = len(h.blockedNodes())
		h.Close()
	}
	if acked < 16 {
		t.Fatalf("only %d changes in 8 kills: the load was no load", acked)
	}
}

// TestStateIsSynced looks at the system calls of one change: the new file is
// synced before it takes the old one's place, and the folder after that, all
// before the change is acknowledged.
func TestStateIsSynced(t *testing.T) {
	strace, err := exec.LookPath("strace")
	if err != nil {
		t.Fatal("strace is not installed; run as root: apt-get install strace")
	}
	h := newHome(t)
	dir := h.Dir()
	h.Close()
	t.Setenv(childEnv+"_LIMIT", "1")
	trace := filepath.Join(t.TempDir(), "trace")
	cmd, lines := child(t, dir, strace, "-f", "-y", "-o", trace, "-e", "trace=write,fsync,rename,renameat,renameat2")
	for lines.Scan() {
	}
	if err := cmd.Wait(); err != nil {
		t.Fatal(err)
	}
	raw, err := os.ReadFile(trace)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for line := range strings.Lines(string(raw)) {
		switch {
		case contains(line, "write(") && contains(line, "state.new>"):
			got = append(got, "write")
		case contains(line, "fsync(") && contains(line, "state.new>"):
			got = append(got, "sync file")
		case contains(line, "rename") && contains(line, "state.new"):
			got = append(got, "rename")
		case contains(line, "fsync(") && contains(line, dir+">"):
			got = append(got, "sync folder")
		case contains(line, "write(1<") && contains(line, `"1\n"`):
			got = append(got, "acknowledge")
		}
	}
	if s := strings.Join(got, ", "); s != "write, sync file, rename, sync folder, acknowledge" {
		t.Errorf("one change did: %s", s)
	}
}

func TestBlockedLimit(t *testing.T) {
	h := newHome(t)
	h.mu.Lock()
	for i := range maxBlocked {
		h.state.Blocked = append(h.state.Blocked, madeUpNode(i))
	}
	h.mu.Unlock()
	wantError(t, h.SetBlocked(madeUpNode(maxBlocked), true), nil, strconv.Itoa(maxBlocked), "revoke")
	if err := h.SetBlocked(madeUpNode(0), true); err != nil {
		t.Errorf("one that is blocked already: %v", err)
	}
	if err := h.SetBlocked(madeUpNode(0), false); err != nil {
		t.Fatal(err)
	}
	if err := h.SetBlocked(madeUpNode(maxBlocked), true); err != nil {
		t.Errorf("there is room for one: %v", err)
	}
}

func TestGatePersists(t *testing.T) {
	h := newHome(t)
	g := newGate(h)
	for i := range 3 {
		if err := g.set(madeUpNode(i), false); err != nil {
			t.Fatal(err)
		}
	}
	if err := g.set(madeUpNode(1), true); err != nil {
		t.Fatal(err)
	}
	h.Close()
	g = newGate(reopen(t, h.Dir()))
	if got := g.Blocked(); len(got) != 2 || got[0] != madeUpNode(0) || got[1] != madeUpNode(2) {
		t.Errorf("blocked after reopening: %v", got)
	}
	if g.Allowed(madeUpNode(0)) || !g.Allowed(madeUpNode(1)) {
		t.Error("the gate forgot what it was told")
	}
}

// The floor moves in whole steps, never back, and survives.
func TestClockFloor(t *testing.T) {
	h := newHome(t)
	at := time.Now().Truncate(time.Second)
	for _, step := range []struct{ raise, want time.Time }{
		{at, at}, {at.Add(floorStep - time.Second), at}, {at.Add(-24 * time.Hour), at}, {at.Add(floorStep), at.Add(floorStep)},
	} {
		if err := h.raiseFloor(step.raise); err != nil {
			t.Fatal(err)
		}
		if got := time.Unix(h.state.Clock.Floor, 0); !got.Equal(step.want) {
			t.Fatalf("raised to %v: the floor is %v, want %v", step.raise, got, step.want)
		}
	}
	h.Close()
	c := reopen(t, h.Dir()).clock()
	if !c.Suspect() || c.Now().Before(at.Add(floorStep)) {
		t.Errorf("the floor was forgotten: %v", c.Now())
	}
}

func FuzzState(f *testing.F) {
	h, err := Init(filepath.Join(f.TempDir(), "node"))
	if err != nil {
		f.Fatal(err)
	}
	defer h.Close()
	h.state.Network = &membership{Name: "n", Secrets: []networkSecret{{Generation: 1}}, Chain: []byte{1}, Seeds: []string{"192.0.2.1:1"}}
	h.state.Publish = []publication{{Payload: []byte{1}, Urgent: true}}
	h.state.Users = []hosted{{}}
	h.state.Blocked = []identity.NodeID{{1}}
	for _, s := range []state{h.state, {Version: stateVersion}, {Version: stateVersion + 1}} {
		raw, err := identity.Marshal(s)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(raw)
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		if err := os.WriteFile(h.path("state"), raw, 0o600); err != nil {
			t.Fatal(err)
		}
		read := Home{dir: h.dir}
		if err := read.load(); err != nil {
			return
		}
		if again, err := identity.Marshal(read.state); err != nil || !bytes.Equal(again, raw) {
			t.Errorf("a state read from %x is written as %x (%v)", raw, again, err)
		}
	})
}
