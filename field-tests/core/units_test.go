package core

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"outrider/field-tests/plainsearch"
	"outrider/field-tests/scenario"
	"outrider/offline/coresync"
)

func TestMain(m *testing.M) {
	code := m.Run()
	scenario.Clean()
	os.Exit(code)
}

// units are two nodes that cannot hear each other: each is a unit of its own,
// enrolled by a stick before they parted. A core connects them, alpha through
// a backhaul that can be cut.
type units struct {
	core         *Core
	up           *Backhaul // alpha's
	alpha, bravo *scenario.Box
	settings     map[string]Settings
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// newUnits provisions both and starts the core; no node is up.
func newUnits(t testing.TB, ctx context.Context) *units {
	t.Helper()
	bin, dir := scenario.Binary(t), t.TempDir()
	u := &units{settings: map[string]Settings{}}
	box := func(name, ip string) *scenario.Box {
		b, err := scenario.NewBox(dir, name, bin, ip)
		must(t, err)
		_, err = b.Init(ctx)
		must(t, err)
		must(t, b.Configure("lan", "\n[store]\nfree_floor_mb = 16\n"))
		return b
	}
	u.alpha, u.bravo = box("alpha", "127.0.0.1"), box("bravo", "127.0.0.2")
	must(t, u.alpha.CreateNetwork(ctx, "eagle"))
	must(t, u.alpha.HostUser(ctx, "alice"))
	inv, err := u.alpha.Invite(ctx, "bob", "192.0.2.1:7410") // TEST-NET: nobody is there
	must(t, err)
	must(t, u.bravo.Join(ctx, inv))
	for _, b := range []*scenario.Box{u.alpha, u.bravo} {
		t.Cleanup(b.Kill)
		must(t, b.Up(ctx))
	}
	stick := t.TempDir()
	for _, b := range []*scenario.Box{u.alpha, u.bravo} {
		_, err := b.CLI(ctx, "", "--json", "carry", stick)
		must(t, err)
	}
	for _, b := range []*scenario.Box{u.alpha, u.bravo} {
		must(t, b.Stop())
	}
	u.core, err = Start(ctx, bin, filepath.Join(dir, "core"))
	must(t, err)
	t.Cleanup(func() {
		if err := u.core.Stop(); err != nil {
			t.Error(err)
		}
	})
	for name, b := range map[string]*scenario.Box{"unit-a": u.alpha, "unit-b": u.bravo} {
		s, err := u.core.Add(ctx, name)
		must(t, err)
		u.settings[name] = s
		if b == u.alpha {
			u.up, err = NewBackhaul(s.Servers)
			must(t, err)
			t.Cleanup(func() { _ = u.up.Close() })
			s.Servers = u.up.Addrs
		}
		must(t, b.Append(s.TOML()))
	}
	return u
}

// raise brings both up and their users in; alice then knows bob's keys, which
// come through the core.
func (u *units) raise(t testing.TB, ctx context.Context) {
	t.Helper()
	must(t, u.alpha.Up(ctx))
	must(t, u.bravo.Up(ctx))
	login(t, ctx, u.alpha, "alice")
	login(t, ctx, u.bravo, "bob")
	for box, name := range map[*scenario.Box]string{u.alpha: "bob", u.bravo: "alice"} {
		poll(t, ctx, "the keys of "+name+" to come through the core", func() (bool, error) {
			users, err := box.API.Users(ctx)
			for _, p := range users {
				if p.Name == name && p.HasKeys {
					return true, nil
				}
			}
			return false, err
		})
	}
}

func login(t testing.TB, ctx context.Context, b *scenario.Box, name string) {
	t.Helper()
	poll(t, ctx, name+" to log in", func() (bool, error) {
		_, err := b.API.Login(ctx, name, scenario.UserPassword)
		return err == nil, err
	})
}

func poll(t testing.TB, ctx context.Context, what string, done func() (bool, error)) {
	t.Helper()
	if err := scenario.Poll(ctx, what, done); err != nil {
		t.Fatal(err)
	}
}

// state waits until a message is in a state.
func state(t testing.TB, ctx context.Context, b *scenario.Box, id, want string) {
	t.Helper()
	last := ""
	err := scenario.Poll(ctx, "the state "+want, func() (bool, error) {
		m, err := b.API.Message(ctx, id)
		last = m.State
		return m.State == want, err
	})
	if err != nil {
		t.Fatalf("%v (it is %s)", err, last)
	}
}

// Status of GET /v1/core, as far as tests look at it.
type status struct {
	Up                              bool
	Code, Error                     string
	Waiting, Arriving               int
	InSync                          bool `json:"in_sync"`
	Stored, Present, Resent, Pulled uint64
	Squatted, Malformed             uint64
	LastReached                     string `json:"last_reached"`
}

func coreOf(t testing.TB, ctx context.Context, b *scenario.Box) (s status) {
	t.Helper()
	must(t, b.API.Do(ctx, "GET", "/v1/core", nil, &s))
	return s
}

func noise(seed byte, size int) []byte {
	body := make([]byte, size)
	rand.NewChaCha8([32]byte{seed}).Read(body)
	return body
}

// arrived waits until a box's inbox has n messages of somebody with everything
// in them, and finds the file among them once, by its hash.
func arrived(t testing.TB, ctx context.Context, b *scenario.Box, from string, n int, file []byte) {
	t.Helper()
	poll(t, ctx, "everything to arrive", func() (bool, error) {
		in, err := b.API.Inbox(ctx)
		got := 0
		for _, m := range in {
			if m.From.Name == from && (m.File == nil || m.File.Complete) {
				got++
			}
		}
		if got > n {
			t.Fatalf("%d messages of %d: something came twice", got, n)
		}
		return got == n, err
	})
	in, err := b.API.Inbox(ctx)
	must(t, err)
	want, equal := sha256.Sum256(file), 0
	for _, m := range in {
		if m.Type != "file" {
			continue
		}
		h := sha256.New()
		must(t, b.API.File(ctx, m.ID, h))
		if bytes.Equal(h.Sum(nil), want[:]) {
			equal++
		}
	}
	if equal != 1 {
		t.Errorf("the file is there %d times", equal)
	}
}

// TestCoreUnitsThroughCore: two units that cannot hear each other, and three
// real servers between them. The parts follow each other on the same nodes.
func TestCoreUnitsThroughCore(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 8*time.Minute)
	defer cancel()
	u := newUnits(t, ctx)
	u.raise(t, ctx)
	for _, part := range []struct {
		name string
		play func(t *testing.T, ctx context.Context, u *units)
	}{
		{"M01TextAndFile", textAndFile}, {"CutInTheMiddle", cutInTheMiddle}, {"ServerKilled", serverKilled}, {"EdgeKilled", edgeKilled},
		{"M16Banner", banner}, {"NothingReadable", nothingReadable}, {"WrongPin", wrongPin},
	} {
		start := time.Now()
		if !t.Run(part.name, func(t *testing.T) { part.play(t, ctx, u) }) {
			t.Log(u.alpha.Tail())
			t.Fatal("the rest stands on this part")
		}
		t.Logf("%s: %v", part.name, time.Since(start).Round(time.Millisecond))
	}
}

const (
	secretText = "the ford by the old mill is clear, bring the ambulance"
	secretName = "overlay-of-the-mill.bin"
)

// textAndFile: a text and a file cross while the reader's unit is away, the
// sender sees at-core, then delivered, and an answer comes back.
func textAndFile(t *testing.T, ctx context.Context, u *units) {
	u.bravo.Kill()
	msg, err := u.alpha.API.Send(ctx, "bob", secretText)
	must(t, err)
	body := noise(1, 4<<20)
	file, err := u.alpha.API.SendFile(ctx, "bob", secretName, bytes.NewReader(body))
	must(t, err)
	state(t, ctx, u.alpha, msg.ID, "at-core")
	state(t, ctx, u.alpha, file.ID, "at-core")
	must(t, u.bravo.Up(ctx))
	login(t, ctx, u.bravo, "bob")
	arrived(t, ctx, u.bravo, "alice", 2, body)
	state(t, ctx, u.alpha, msg.ID, "delivered")
	state(t, ctx, u.alpha, file.ID, "delivered")
	reply, err := u.bravo.API.Send(ctx, "alice", "it is under way")
	must(t, err)
	state(t, ctx, u.bravo, reply.ID, "delivered")
	u.synced(t, ctx)
}

// synced waits until nothing is on its way, by the command.
func (u *units) synced(t *testing.T, ctx context.Context) {
	t.Helper()
	for _, b := range []*scenario.Box{u.alpha, u.bravo} {
		poll(t, ctx, b.Name+" to be in sync", func() (bool, error) {
			_, err := b.CLI(ctx, "", "core", "sync", "--wait", "20s")
			return err == nil, err
		})
		if s := coreOf(t, ctx, b); !s.Up || s.LastReached == "" || s.Malformed+s.Squatted > 0 {
			t.Errorf("%s: %+v", b.Name, s)
		}
	}
}

// chunks counts the messages that the core has of files: one for each 512 KiB
// and one that says what the file is.
func (u *units) chunks(t *testing.T, ctx context.Context) int {
	t.Helper()
	n, err := u.look(t).Count(ctx, "or.f.>")
	must(t, err)
	return n
}

func (u *units) look(t *testing.T) *coresync.Dev {
	t.Helper()
	d, err := coresync.OpenDev(u.core.Dir)
	must(t, err)
	return d
}

// whole fails unless the core has exactly the chunks of so many bytes more
// than before, and every bundle under its own name only.
func (u *units) whole(t *testing.T, ctx context.Context, before, bytes int) {
	t.Helper()
	const chunk = 512 << 10
	sealed := bytes + bytes/1000 + 1 // a file grows by its seal and its padding
	want := func(n int) int { return before + (n+chunk-1)/chunk + 1 }
	if got := u.chunks(t, ctx); got < want(bytes) || got > want(sealed+bytes/8) {
		t.Errorf("the core has %d messages of files, %d before; expected %d to %d", got, before, want(bytes), want(sealed+bytes/8))
	}
	n, err := u.look(t).Count(ctx, "or.b.*.*.r.*")
	must(t, err)
	if n != 0 {
		t.Errorf("%d bundles lie under a second name", n)
	}
}

// burst sends texts and a file from alpha.
func (u *units) burst(t *testing.T, ctx context.Context, texts int, body []byte) (ids []string) {
	t.Helper()
	file, err := u.alpha.API.SendFile(ctx, "bob", "burst", bytes.NewReader(body))
	must(t, err)
	ids = append(ids, file.ID)
	for i := range texts {
		m, err := u.alpha.API.Send(ctx, "bob", fmt.Sprintf("text %d of the burst", i))
		must(t, err)
		ids = append(ids, m.ID)
	}
	return ids
}

// delivered waits until all have arrived, once each and equal, and were
// receipted.
func (u *units) delivered(t *testing.T, ctx context.Context, had int, ids []string, body []byte) {
	t.Helper()
	arrived(t, ctx, u.bravo, "alice", had+len(ids), body)
	for _, id := range ids {
		state(t, ctx, u.alpha, id, "delivered")
	}
}

func (u *units) inbox(t *testing.T, ctx context.Context) int {
	t.Helper()
	in, err := u.bravo.API.Inbox(ctx)
	must(t, err)
	n := 0
	for _, m := range in {
		if m.From.Name == "alice" {
			n++
		}
	}
	return n
}

// cutInTheMiddle: silence in both directions in the middle of a burst loses
// and doubles nothing.
func cutInTheMiddle(t *testing.T, ctx context.Context, u *units) {
	had, before, body := u.inbox(t, ctx), u.chunks(t, ctx), noise(2, 6<<20)
	resent := coreOf(t, ctx, u.alpha).Resent
	u.up.Limit(2 << 20)
	ids := u.burst(t, ctx, 20, body)
	poll(t, ctx, "the cut", func() (bool, error) { return u.up.IsCut(), nil })
	poll(t, ctx, "alpha to see it", func() (bool, error) { return !coreOf(t, ctx, u.alpha).Up, nil })
	u.up.Restore()
	u.delivered(t, ctx, had, ids, body)
	u.synced(t, ctx)
	u.whole(t, ctx, before, len(body))
	s := coreOf(t, ctx, u.alpha)
	t.Logf("resent %d, stored %d, present %d", s.Resent-resent, s.Stored, s.Present)
	if s.Resent-resent > 256+16 {
		t.Errorf("%d sent again: more than the window", s.Resent-resent)
	}
}

// serverKilled: one of three servers dies in the middle of a burst.
func serverKilled(t *testing.T, ctx context.Context, u *units) {
	had, before, body := u.inbox(t, ctx), u.chunks(t, ctx), noise(3, 4<<20)
	ids := u.burst(t, ctx, 20, body)
	pid, err := u.core.Pid(2)
	must(t, err)
	must(t, syscall.Kill(pid, syscall.SIGKILL))
	u.delivered(t, ctx, had, ids, body)
	u.synced(t, ctx)
	u.whole(t, ctx, before, len(body))
}

// edgeKilled: the sending node dies in the middle of a file, loses what it
// knew of the core, and goes on.
func edgeKilled(t *testing.T, ctx context.Context, u *units) {
	had, before, body := u.inbox(t, ctx), u.chunks(t, ctx), noise(4, 6<<20)
	u.up.Limit(3 << 20)
	ids := u.burst(t, ctx, 5, body)
	poll(t, ctx, "half of it to be up", func() (bool, error) { return u.up.IsCut(), nil })
	u.alpha.Kill()
	must(t, os.RemoveAll(filepath.Join(u.alpha.Dir, "core")))
	u.up.Restore()
	must(t, u.alpha.Up(ctx))
	login(t, ctx, u.alpha, "alice")
	u.delivered(t, ctx, had, ids, body)
	u.synced(t, ctx)
	u.whole(t, ctx, before, len(body))
	s := coreOf(t, ctx, u.alpha)
	t.Logf("after the loss: stored %d, present %d", s.Stored, s.Present)
	if s.Present == 0 {
		t.Error("nothing was found there although all that was known of it is lost")
	}
}

// banner: the page says whether the core is reachable, or when it was last.
func banner(t *testing.T, ctx context.Context, u *units) {
	state := func() (b struct {
		State    string
		CoreLast string `json:"core_last"`
	}) {
		var s struct{ Banner json.RawMessage }
		must(t, u.alpha.API.Do(ctx, "GET", "/v1/status", nil, &s))
		must(t, json.Unmarshal(s.Banner, &b))
		return b
	}
	poll(t, ctx, "the banner to say that the core is there", func() (bool, error) { return state().State == "core", nil })
	u.up.Cut()
	poll(t, ctx, "the banner to say that it is not", func() (bool, error) { b := state(); return b.State == "alone" && b.CoreLast != "", nil })
	out, err := u.alpha.CLI(ctx, "", "core", "status")
	must(t, err)
	if !strings.Contains(out, "out of reach; last in reach") {
		t.Errorf("core status says %q", out)
	}
	u.up.Restore()
	poll(t, ctx, "the banner to say that it is back", func() (bool, error) { return state().State == "core", nil })
}

// nothingReadable: no text, file or name of these units can be found in what
// the core keeps, in any form; what was handed over unsealed is found there by
// the same search.
func nothingReadable(t *testing.T, ctx context.Context, u *units) {
	const open = "handed over without a seal, to prove that the search finds it"
	body := noise(1, 4<<20)
	search, err := plainsearch.New([]plainsearch.Needle{
		plainsearch.Text("text", secretText), plainsearch.Text("file name", secretName), plainsearch.Block("block of the file", body[1<<20:1<<20+64]),
		plainsearch.Text("network", "eagle"), plainsearch.Text("control", open),
	})
	must(t, err)
	must(t, u.alpha.API.Do(ctx, "POST", "/v1/bundles?tag=aaaaaaaaaaaaa&lifetime_min=60", strings.NewReader(open), nil))
	u.synced(t, ctx)
	var hits []plainsearch.Hit
	poll(t, ctx, "the control to be found", func() (bool, error) {
		hits = nil
		for i := 1; i <= 3; i++ {
			h, err := search.Tree(filepath.Join(u.core.Dir, fmt.Sprintf("n%d", i)))
			if err != nil {
				return false, err
			}
			hits = append(hits, h...)
		}
		return len(hits) >= 2, nil // a majority of the servers has it
	})
	for _, h := range hits {
		if !strings.Contains(h.String(), "control") {
			t.Errorf("readable at the core: %s", h)
		}
	}
}

// wrongPin: nothing goes to servers that do not show the pinned key; the
// operator is told which key they show, by status and doctor.
func wrongPin(t *testing.T, ctx context.Context, u *units) {
	must(t, u.alpha.Stop())
	file := filepath.Join(u.alpha.Dir, "outrider.toml")
	raw, err := os.ReadFile(file)
	must(t, err)
	right := u.settings["unit-a"].Pins
	wrong := base64.StdEncoding.EncodeToString(make([]byte, 32))
	changed := strings.ReplaceAll(string(raw), strconv.Quote(right[0])+", "+strconv.Quote(right[1]), strconv.Quote(wrong))
	must(t, os.WriteFile(file, []byte(changed), 0o640))
	must(t, u.alpha.Up(ctx))
	var s status
	poll(t, ctx, "the pin to be refused", func() (bool, error) {
		s = coreOf(t, ctx, u.alpha)
		return s.Code == "pin", nil
	})
	if s.Up || s.Stored+s.Present+s.Pulled != 0 || !strings.Contains(s.Error, right[0]) {
		t.Errorf("%+v", s)
	}
	out, _ := u.alpha.CLI(ctx, "", "doctor", "--json")
	if !strings.Contains(out, `"core-pin"`) || !strings.Contains(out, right[0]) {
		t.Errorf("doctor says %s", out)
	}
}
