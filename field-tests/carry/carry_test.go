// Package carry tests the stick with real nodes: two that never hear each
// other, and a folder that is carried between them.
package carry

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"outrider/field-tests/netns"
	"outrider/field-tests/plainsearch"
	"outrider/field-tests/scenario"
)

func TestMain(m *testing.M) {
	os.Exit(netns.Main(func() int { // where a small file system can be mounted
		defer scenario.Clean()
		return m.Run()
	}))
}

// two returns Alpha with alice, who founded the network, and Bravo with bob,
// who has joined by link. Neither knows an address of the other.
func two(t *testing.T, ctx context.Context) (alpha, bravo *scenario.Box) {
	t.Helper()
	bin, dir := scenario.Binary(t), t.TempDir()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	box := func(name, ip string) *scenario.Box {
		b, err := scenario.NewBox(dir, name, bin, ip)
		must(err)
		_, err = b.Init(ctx)
		must(err)
		must(b.Configure("lan", "\n[store]\nfree_floor_mb = 16\n"))
		return b
	}
	alpha, bravo = box("alpha", "127.0.0.1"), box("bravo", "127.0.0.2")
	must(alpha.CreateNetwork(ctx, "eagle"))
	must(alpha.HostUser(ctx, "alice"))
	inv, err := alpha.Invite(ctx, "bob", "192.0.2.1:7410") // TEST-NET: nobody is there
	must(err)
	must(bravo.Join(ctx, inv))
	for _, b := range []*scenario.Box{alpha, bravo} {
		must(b.Up(ctx))
		t.Cleanup(func() { b.Kill() })
	}
	return alpha, bravo
}

type carried struct {
	Took, Gave uint64
	Held       int
	Complete   bool
	Damaged    int
}

func carry(t *testing.T, ctx context.Context, b *scenario.Box, stick string) (c carried) {
	t.Helper()
	out, err := b.CLI(ctx, "", "--json", "carry", stick)
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal([]byte(out), &c); err != nil {
		t.Fatalf("%q: %v", out, err)
	}
	t.Logf("%s: %+v", b.Name, c)
	if !c.Complete {
		t.Error("the contact was not complete")
	}
	return c
}

func login(t *testing.T, ctx context.Context, b *scenario.Box, name string) {
	t.Helper()
	err := scenario.Poll(ctx, name+" to log in", func() (bool, error) {
		_, err := b.API.Login(ctx, name, scenario.UserPassword)
		return err == nil, err
	})
	if err != nil {
		t.Fatal(err)
	}
}

// limit is how long one of these tests may take on a machine that is busy; a
// quiet one needs a small part of it.
const limit = 5 * time.Minute

// introduce carries the stick until alice could write to bob: his node publishes
// his keys a moment after he has logged in.
func introduce(t *testing.T, ctx context.Context, alpha, bravo *scenario.Box, stick string) {
	t.Helper()
	err := scenario.Poll(ctx, "bob's keys to come to alpha", func() (bool, error) {
		carry(t, ctx, bravo, stick)
		carry(t, ctx, alpha, stick)
		users, err := alpha.API.Users(ctx)
		return slices.ContainsFunc(users, func(p scenario.Person) bool { return p.Name == "bob" && p.HasKeys }), err
	})
	if err != nil {
		t.Fatal(err)
	}
}

// confirmed carries the stick until all that alice has sent is delivered, and
// returns alpha's last contact with it: bob's node confirms a moment after it
// shows what came.
func confirmed(t *testing.T, ctx context.Context, alpha, bravo *scenario.Box, stick string, ids ...string) (last carried) {
	t.Helper()
	err := scenario.Poll(ctx, "the receipts", func() (bool, error) {
		carry(t, ctx, bravo, stick)
		last = carry(t, ctx, alpha, stick)
		for _, id := range ids {
			if m, err := alpha.API.Message(ctx, id); err != nil || m.State != "delivered" {
				return false, errors.Join(err, errors.New("it is "+m.State))
			}
		}
		return true, nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return last
}

// TestM01Carry: a text and a file go from one node to another that never met
// it nor anybody else, by a folder alone: enrolment, keys, content and the
// receipts. The folder then holds nothing that can be read, and gets lighter
// once everything has arrived.
func TestM01Carry(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	alpha, bravo := two(t, ctx)
	stick := t.TempDir()

	carry(t, ctx, alpha, stick) // root record, certificates
	carry(t, ctx, bravo, stick) // Bravo enrols
	login(t, ctx, alpha, "alice")
	login(t, ctx, bravo, "bob")
	introduce(t, ctx, alpha, bravo, stick)

	const text = "the ford by the old mill is clear, bring the ambulance"
	msg, err := alpha.API.Send(ctx, "bob", text)
	if err != nil {
		t.Fatal(err)
	}
	body := make([]byte, 3<<20)
	rand.NewChaCha8([32]byte{1}).Read(body)
	file, err := alpha.API.SendFile(ctx, "bob", "overlay-of-the-mill.bin", bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	full := carry(t, ctx, alpha, stick)
	search, err := plainsearch.New([]plainsearch.Needle{plainsearch.Text("text", text), plainsearch.Text("file name", "overlay-of-the-mill.bin"),
		plainsearch.Block("block of the file", body[1<<20:1<<20+64])})
	if err != nil {
		t.Fatal(err)
	}
	if hits, err := search.Tree(stick); err != nil || len(hits) > 0 {
		t.Errorf("readable on the stick: %s, %v", plainsearch.Summary(hits), err)
	}

	carry(t, ctx, bravo, stick)
	err = scenario.Poll(ctx, "bob to have both", func() (bool, error) {
		in, err := bravo.API.Inbox(ctx)
		texts, files := 0, 0
		for _, m := range in {
			if m.Text == text {
				texts++
			}
			if m.File != nil && m.File.Complete {
				files++
			}
		}
		return texts == 1 && files == 1 && len(in) == 2, err
	})
	if err != nil {
		t.Fatal(err)
	}
	in, err := bravo.API.Inbox(ctx)
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range in {
		if m.Type != "file" {
			continue
		}
		h := sha256.New()
		if err := bravo.API.File(ctx, m.ID, h); err != nil {
			t.Fatal(err)
		}
		if want := sha256.Sum256(body); !bytes.Equal(h.Sum(nil), want[:]) {
			t.Error("the file is another one")
		}
	}
	empty := confirmed(t, ctx, alpha, bravo, stick, msg.ID, file.ID)
	if empty.Held >= full.Held {
		t.Errorf("the stick holds %d bundles after all has arrived, %d before", empty.Held, full.Held)
	}
}

// TestM01CarryPulledOut: the command is killed in the middle of a file, again and
// again; the next goes on, and what arrives is whole.
func TestM01CarryPulledOut(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	alpha, bravo := two(t, ctx)
	stick := t.TempDir()
	carry(t, ctx, alpha, stick)
	carry(t, ctx, bravo, stick)
	login(t, ctx, alpha, "alice")
	login(t, ctx, bravo, "bob")
	introduce(t, ctx, alpha, bravo, stick)
	body := make([]byte, 24<<20)
	rand.NewChaCha8([32]byte{2}).Read(body)
	file, err := alpha.API.SendFile(ctx, "bob", "f", bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	for _, b := range []*scenario.Box{alpha, bravo} {
		for range 4 {
			pulled(t, ctx, b, stick)
		}
		carry(t, ctx, b, stick)
	}
	h := sha256.New()
	err = scenario.Poll(ctx, "the file", func() (bool, error) {
		in, err := bravo.API.Inbox(ctx)
		if err != nil || len(in) != 1 || in[0].File == nil || !in[0].File.Complete {
			return false, err
		}
		return true, bravo.API.File(ctx, in[0].ID, h)
	})
	if want := sha256.Sum256(body); err != nil || !bytes.Equal(h.Sum(nil), want[:]) {
		t.Errorf("the file is not what was sent: %v", err)
	}
	confirmed(t, ctx, alpha, bravo, stick, file.ID)
}

// pulled kills a carry once leaves are moving.
func pulled(t *testing.T, ctx context.Context, b *scenario.Box, stick string) {
	t.Helper()
	cmd := exec.CommandContext(ctx, b.Bin, "--dir", b.Dir, "--json", "carry", stick)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() { defer close(ended); cmd.Wait() }()
	before := size(stick)
	err := scenario.Poll(ctx, "bytes to move", func() (bool, error) {
		select {
		case <-ended:
			return true, nil
		default:
		}
		return size(stick) > before+1<<20, nil
	})
	if err != nil {
		t.Fatal(err)
	}
	cmd.Process.Kill()
	<-ended
}

func size(dir string) (n int64) {
	filepath.WalkDir(dir, func(_ string, d os.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			if st, err := d.Info(); err == nil {
				n += st.Size()
			}
		}
		return nil
	})
	return n
}

// TestM01CarryRefused: what is wrong with a folder is said, with what to do, and
// the node is none the worse.
func TestM01CarryRefused(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	alpha, bravo := two(t, ctx)
	stick := t.TempDir()
	fails := func(b *scenario.Box, folder string, words ...string) {
		t.Helper()
		_, err := b.CLI(ctx, "", "carry", folder)
		if err == nil {
			t.Fatalf("carry %s succeeded", folder)
		}
		for _, w := range words {
			if !strings.Contains(err.Error(), w) {
				t.Errorf("%q does not say %q", err, w)
			}
		}
	}
	fails(alpha, filepath.Join(stick, "not-mounted"), "mounted")
	fails(bravo, stick, "has not met its network")
	if left, err := os.ReadDir(stick); err != nil || len(left) > 0 {
		t.Errorf("a refused carry leaves %v on the stick, %v", left, err)
	}
	text := filepath.Join(t.TempDir(), "notes.txt")
	if err := os.WriteFile(text, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	fails(alpha, text, "not a directory", "name the folder")
	fails(alpha, readOnly(t, stick), "read-only", "remount,rw")
	carry(t, ctx, alpha, stick)
	labels, err := filepath.Glob(filepath.Join(stick, "outrider-carry", "*", "label"))
	if err != nil || len(labels) != 1 {
		t.Fatal(labels, err)
	}
	root := filepath.Join(filepath.Dir(labels[0]), "root")
	good, err := os.ReadFile(root)
	if err != nil {
		t.Fatal(err)
	}
	bad := bytes.Clone(good)
	bad[len(bad)/2] ^= 1
	if err := os.WriteFile(root, bad, 0o644); err != nil {
		t.Fatal(err)
	}
	fails(bravo, stick, "root record")
	if err := os.WriteFile(root, good, 0o644); err != nil {
		t.Fatal(err)
	}
	raw, err := os.ReadFile(labels[0])
	if err != nil {
		t.Fatal(err)
	}
	raw[60] ^= 1
	if err := os.WriteFile(labels[0], raw, 0o644); err != nil {
		t.Fatal(err)
	}
	fails(alpha, stick, "label", "begin anew")
	raw[60] ^= 1
	if err := os.WriteFile(labels[0], raw, 0o644); err != nil {
		t.Fatal(err)
	}
	carry(t, ctx, bravo, stick)
	fails(alpha, readOnly(t, stick), "read-only", "remount,rw") // one that holds bundles

	rot(t, onlyLog(t, stick), 100)
	if c := carry(t, ctx, alpha, stick); c.Damaged == 0 {
		t.Error("a rotten byte was not noticed")
	}
	finds(t, ctx, alpha, "carry-damaged", true)
	finds(t, ctx, bravo, "carry-damaged", false)
	carry(t, ctx, alpha, stick)
	finds(t, ctx, alpha, "carry-damaged", false)
}

// readOnly is the same folder, mounted so that nothing in it can be written.
func readOnly(t *testing.T, dir string) string {
	t.Helper()
	ro := t.TempDir()
	if err := unix.Mount(dir, ro, "", unix.MS_BIND, ""); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Unmount(ro, unix.MNT_DETACH) })
	if err := unix.Mount("", ro, "", unix.MS_BIND|unix.MS_REMOUNT|unix.MS_RDONLY|unix.MS_NOSUID|unix.MS_NODEV, ""); err != nil {
		t.Fatal(err)
	}
	return ro
}

// finds asks a node's doctor whether it has a finding.
func finds(t *testing.T, ctx context.Context, b *scenario.Box, id string, want bool) {
	t.Helper()
	out, err := b.CLI(ctx, "", "--json", "doctor") // ends with 10 for whatever it finds
	var answer struct{ Findings []struct{ ID string } }
	if jerr := json.Unmarshal([]byte(out), &answer); jerr != nil {
		t.Fatalf("doctor printed %q: %v", out, err)
	}
	found := false
	for _, f := range answer.Findings {
		found = found || f.ID == id
	}
	if found != want {
		t.Errorf("%s: %s is found: %v, want %v: %s", b.Name, id, found, want, out)
	}
}

// TestM01CarryFull: the stick is full in the middle of a contact. The command
// says so and what to do, nothing is lost on either side, what is on the stick
// arrives, and with room again the same stick takes the rest.
func TestM01CarryFull(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	alpha, bravo := two(t, ctx)
	stick := t.TempDir()
	if err := unix.Mount("none", stick, "tmpfs", 0, "size=32m,mode=0755"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Unmount(stick, unix.MNT_DETACH) })
	carry(t, ctx, alpha, stick)
	carry(t, ctx, bravo, stick)
	login(t, ctx, alpha, "alice")
	login(t, ctx, bravo, "bob")
	introduce(t, ctx, alpha, bravo, stick)
	filler := filepath.Join(stick, "films.mkv") // the owner's own
	if err := os.WriteFile(filler, make([]byte, 28<<20), 0o644); err != nil {
		t.Fatal(err)
	}

	body := make([]byte, 8<<20)
	rand.NewChaCha8([32]byte{3}).Read(body)
	const text = "the stick is small"
	msg, err := alpha.API.Send(ctx, "bob", text)
	if err != nil {
		t.Fatal(err)
	}
	file, err := alpha.API.SendFile(ctx, "bob", "large.bin", bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	_, err = alpha.CLI(ctx, "", "carry", stick)
	if err == nil || !strings.Contains(err.Error(), "the stick is full") || !strings.Contains(err.Error(), "make room on the stick") {
		t.Fatalf("a full stick: %v", err)
	}
	t.Log(err)
	finds(t, ctx, alpha, "carry-full", true)
	if _, err := bravo.CLI(ctx, "", "carry", stick); err != nil && !strings.Contains(err.Error(), "full") {
		t.Fatal(err)
	}
	err = scenario.Poll(ctx, "the text that found room", func() (bool, error) {
		in, err := bravo.API.Inbox(ctx)
		for _, m := range in {
			if m.Text == text {
				return true, nil
			}
		}
		return false, err
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(filler); err != nil {
		t.Fatal(err)
	}
	carry(t, ctx, alpha, stick)
	finds(t, ctx, alpha, "carry-full", false)
	carry(t, ctx, bravo, stick)
	h := sha256.New()
	err = scenario.Poll(ctx, "the file", func() (bool, error) {
		in, err := bravo.API.Inbox(ctx)
		for _, m := range in {
			if m.File != nil && m.File.Complete {
				return true, bravo.API.File(ctx, m.ID, h)
			}
		}
		return false, err
	})
	if want := sha256.Sum256(body); err != nil || !bytes.Equal(h.Sum(nil), want[:]) {
		t.Errorf("the file is not what was sent: %v", err)
	}
	confirmed(t, ctx, alpha, bravo, stick, msg.ID, file.ID)
	if in, err := bravo.API.Inbox(ctx); err != nil || len(in) != 2 {
		t.Errorf("%d messages, want two: %v", len(in), err)
	}
}
