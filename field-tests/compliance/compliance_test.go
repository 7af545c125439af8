package compliance

import (
	"bytes"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"outrider/field-tests/scenario"
	archive "outrider/offline/compliance"
)

var update = flag.Bool("update", false, "write the golden files anew")

func TestMain(m *testing.M) {
	flag.Parse()
	code := m.Run()
	scenario.Clean()
	os.Exit(code)
}

// A stage is alice at Alpha, bob at Bravo, and keeper at Charlie.
type stage struct {
	t                     *testing.T
	alpha, bravo, charlie *scenario.Box
	keeper                string // user id
	out                   string // the archive's folder
}

func (s *stage) must(err error) {
	s.t.Helper()
	if err != nil {
		s.t.Fatal(err)
	}
}

func (s *stage) await(ctx context.Context, what string, ask func() (bool, error)) {
	s.t.Helper()
	s.must(scenario.Poll(ctx, what, ask))
}

func newStage(t *testing.T, ctx context.Context) *stage {
	t.Helper()
	bin, dir := scenario.Binary(t), t.TempDir()
	s := &stage{t: t, out: filepath.Join(dir, "archive")}
	s.must(os.Mkdir(s.out, 0o700))
	for i, box := range []**scenario.Box{&s.alpha, &s.bravo, &s.charlie} {
		b, err := scenario.NewBox(dir, []string{"alpha", "bravo", "charlie"}[i], bin, fmt.Sprintf("127.0.0.%d", i+1))
		s.must(err)
		_, err = b.Init(ctx)
		s.must(err)
		s.must(b.Configure("lan", "\n[store]\nfree_floor_mb = 16\n"))
		*box = b
	}
	s.must(s.alpha.CreateNetwork(ctx, "eagle"))
	s.must(s.alpha.HostUser(ctx, "alice"))
	for _, g := range []struct {
		name string
		box  *scenario.Box
	}{{"bob", s.bravo}, {"keeper", s.charlie}} {
		inv, err := s.alpha.Invite(ctx, g.name, s.alpha.GossipAddr())
		s.must(err)
		s.must(g.box.Join(ctx, inv))
		if g.name == "keeper" {
			s.keeper = inv.User
		}
	}
	for i, b := range []*scenario.Box{s.alpha, s.bravo, s.charlie} {
		s.must(b.Up(ctx))
		t.Cleanup(b.Kill)
		s.login(ctx, b, []string{"alice", "bob", "keeper"}[i])
	}
	return s
}

func (s *stage) login(ctx context.Context, b *scenario.Box, name string) {
	s.t.Helper()
	s.await(ctx, name+" to log in", func() (bool, error) {
		_, err := b.API.Login(ctx, name, scenario.UserPassword)
		return err == nil, err
	})
}

// designate lets the admin name keeper as archive reader, and waits until
// alice and bob have been told and could seal to it.
func (s *stage) designate(ctx context.Context) {
	s.t.Helper()
	_, err := s.alpha.CLI(ctx, scenario.AdminPassword+"\n", "config", "push", "default", "--compliance", s.keeper, "--admin-password-file", "-")
	s.must(err)
	for _, b := range []*scenario.Box{s.alpha, s.bravo} {
		s.await(ctx, "the archive to be known at "+b.Name, func() (bool, error) {
			v, err := readers(ctx, b)
			return len(v) == 1 && v[0].User.ID == s.keeper && v[0].HasKeys, err
		})
	}
}

type reader struct {
	User    scenario.Person `json:"user"`
	HasKeys bool            `json:"has_keys"`
	Self    bool            `json:"self"`
}

func readers(ctx context.Context, b *scenario.Box) ([]reader, error) {
	var v struct{ Readers []reader }
	err := b.API.Do(ctx, "GET", "/v1/archive", nil, &v)
	return v.Readers, err
}

// say lets alice and bob exchange a text, a file, a position, live positions
// and a recall, each delivered before the next.
func (s *stage) say(ctx context.Context) {
	s.t.Helper()
	bob, alice := s.person(ctx, s.alpha, "bob"), s.person(ctx, s.bravo, "alice")
	delivered := func(b *scenario.Box, m scenario.Message, err error) scenario.Message {
		s.t.Helper()
		s.must(err)
		s.await(ctx, "delivery", func() (bool, error) {
			m, err := b.API.Message(ctx, m.ID)
			return m.State == "delivered", err
		})
		return m
	}
	m, err := s.alpha.API.Send(ctx, bob, "Fuel at grid 4512 <confirmed> & \"safe\"\nGrüße")
	delivered(s.alpha, m, err)
	m, err = s.bravo.API.SendFile(ctx, alice, "../route-blue.kmz", bytes.NewReader(route))
	delivered(s.bravo, m, err)
	m, err = s.alpha.API.SendLocation(ctx, bob, 46.94809, 7.44744, "rally")
	delivered(s.alpha, m, err)
	for _, lat := range []float64{46.94901, 46.94951} {
		var m scenario.Message
		err := s.alpha.API.Do(ctx, "POST", "/v1/locations", map[string]any{"to": bob, "lat": lat, "lon": 7.44902, "live": true}, &m)
		delivered(s.alpha, m, err)
	}
	m, err = s.bravo.API.Send(ctx, alice, "Move at first light")
	delivered(s.bravo, m, err)
	s.must(s.bravo.API.Do(ctx, "POST", "/v1/messages/"+m.ID+"/recall", nil, nil))
}

const saidRecords = 7

var route = bytes.Repeat([]byte("blue route, waypoint by waypoint\n"), 2000)

func (s *stage) person(ctx context.Context, b *scenario.Box, name string) (id string) {
	s.t.Helper()
	s.await(ctx, name+"'s keys at "+b.Name, func() (bool, error) {
		users, err := b.API.Users(ctx)
		for _, u := range users {
			if u.Name == name && u.HasKeys {
				id = u.ID
			}
		}
		return id != "", err
	})
	return id
}

// run is `outrider compliance run` until nothing waits.
func (s *stage) run(ctx context.Context) (string, error) {
	return s.charlie.CLI(ctx, scenario.UserPassword+"\n", "compliance", "run", "keeper", "--out", s.out, "--password-file", "-", "--once", "--json")
}

func (s *stage) journal() []byte {
	s.t.Helper()
	b, err := os.ReadFile(filepath.Join(s.out, "receivedMessages.log"))
	if err != nil && !os.IsNotExist(err) {
		s.t.Fatal(err)
	}
	return b
}

// archived drains until the archive has n records.
func (s *stage) archived(ctx context.Context, n int) {
	s.t.Helper()
	s.await(ctx, fmt.Sprintf("%d records", n), func() (bool, error) {
		if _, err := s.run(ctx); err != nil {
			return false, err
		}
		return bytes.Count(s.journal(), []byte("\n")) >= n, nil
	})
}

// TestComplianceK01K05K09: alice and bob speak while the archive is away; all
// of it was delivered, and purged, when the archive comes back. It gets
// everything from those who wrote it, its records are those of the golden
// file, and killing it anywhere neither loses nor doubles one.
func TestComplianceK01K05K09(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	s := newStage(t, ctx)

	// Before the designation nothing is for keeper, then or ever.
	bob := s.person(ctx, s.alpha, "bob")
	before, err := s.alpha.API.Send(ctx, bob, "said before anybody archived")
	s.must(err)
	s.await(ctx, "delivery", func() (bool, error) {
		m, err := s.alpha.API.Message(ctx, before.ID)
		return m.State == "delivered", err
	})
	if _, err := s.run(ctx); err == nil || !strings.Contains(err.Error(), "not named as archive reader") {
		t.Errorf("without a designation: %v", err)
	}

	s.designate(ctx)
	_, err = s.alpha.CLI(ctx, scenario.UserPassword+"\n", "login", "alice", "--password-file", "-")
	s.must(err)
	if out, err := s.alpha.CLI(ctx, "", "compliance", "status"); err != nil || !strings.Contains(out, "archived by keeper, for everybody from ") && !strings.Contains(out, "archived by keeper, since ") {
		t.Errorf("status: %q %v", out, err)
	}
	if _, err := s.alpha.CLI(ctx, "", "send", "nobody", "hi"); err == nil || !strings.Contains(err.Error(), "archived by keeper") {
		t.Errorf("before a message: %v", err)
	}
	var refusal *scenario.APIError
	if _, err := s.alpha.API.Send(ctx, s.keeper, "x"); !isAPI(err, &refusal, "bad_request") {
		t.Errorf("writing to the reader: %v", err)
	}
	s.await(ctx, "keeper's node to know", func() (bool, error) {
		v, err := readers(ctx, s.charlie)
		return len(v) == 1 && v[0].Self, err
	})
	if _, err := s.charlie.API.Send(ctx, bob, "x"); !isAPI(err, &refusal, "receive_only") {
		t.Errorf("the reader writes: %v", err)
	}

	s.must(s.charlie.Stop()) // away
	s.say(ctx)
	s.must(s.charlie.Up(ctx)) // in contact again, keeper locked
	s.killed(ctx)
	s.archived(ctx, saidRecords)
	s.golden()
	s.attachment()

	// What came after: everything again from a node that was killed.
	s.charlie.Kill()
	s.must(s.charlie.Up(ctx))
	_, err = s.run(ctx)
	s.must(err)
	if n := bytes.Count(s.journal(), []byte("\n")); n != saidRecords {
		t.Errorf("%d records after a restart, want %d", n, saidRecords)
	}
	if bytes.Contains(s.journal(), []byte("before anybody archived")) {
		t.Error("what was said before the designation is in the archive")
	}
	_, err = s.charlie.CLI(ctx, scenario.UserPassword+"\n", "login", "keeper", "--password-file", "-")
	s.must(err)
	if out, err := s.charlie.CLI(ctx, "", "compliance", "verify", s.out); err != nil {
		t.Errorf("verify: %s %v", out, err)
	}
	s.diagnosed(ctx)
	s.spoiled(ctx)
}

func isAPI(err error, as **scenario.APIError, code string) bool {
	e, ok := err.(*scenario.APIError)
	*as = e
	return ok && e.Code == code
}

// killed starts the archiver and kills it, at several moments.
func (s *stage) killed(ctx context.Context) {
	s.t.Helper()
	for i := range 4 {
		cmd := exec.CommandContext(ctx, s.charlie.Bin, "--dir", s.charlie.Dir, "compliance", "run", "keeper", "--out", s.out, "--password-file", "-")
		cmd.Stdin = strings.NewReader(scenario.UserPassword + "\n")
		s.must(cmd.Start())
		want := min(i*2, saidRecords) // records that must be there before it dies
		err := scenario.Poll(ctx, "some records", func() (bool, error) { return bytes.Count(s.journal(), []byte("\n")) >= want, nil })
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		s.must(err)
	}
}

// golden compares the journal with the golden file.
func (s *stage) golden() {
	s.t.Helper()
	got, err := Normalise(s.journal(), s.out)
	s.must(err)
	const path = "testdata/journal.golden"
	if *update {
		s.must(os.WriteFile(path, got, 0o644))
	}
	want, err := os.ReadFile(path)
	s.must(err)
	if !bytes.Equal(got, want) {
		s.t.Errorf("the journal is\n%s\nand not\n%s", got, want)
	}
	seen := map[string]bool{}
	for line := range bytes.Lines(s.journal()) {
		r, err := archive.Parse(bytes.TrimSpace(line))
		s.must(err)
		if seen[r.MessageID] {
			s.t.Errorf("%s stands there twice", r.MessageID)
		}
		seen[r.MessageID] = true
	}
}

func (s *stage) attachment() {
	s.t.Helper()
	for line := range bytes.Lines(s.journal()) {
		r, err := archive.Parse(bytes.TrimSpace(line))
		s.must(err)
		if r.File == nil {
			continue
		}
		b, err := os.ReadFile(r.File.LocalFilename)
		if err != nil || !bytes.Equal(b, route) || filepath.Dir(r.File.LocalFilename) != filepath.Join(s.out, "attachments") {
			s.t.Errorf("%s: %d bytes, %v", r.File.LocalFilename, len(b), err)
		}
	}
}

// diagnosed: doctor finds nothing in a sound archive, names a record that was
// altered, and a folder that is gone.
func (s *stage) diagnosed(ctx context.Context) {
	s.t.Helper()
	finds := func(what, id string) {
		s.t.Helper()
		out, _ := s.charlie.CLI(ctx, "", "doctor", "--json") // of the machine nothing is promised
		if found := strings.Contains(out, `"archive-`); found != (id != "") || !strings.Contains(out, id) {
			s.t.Errorf("%s: doctor says %s", what, out)
		}
	}
	whole, path := s.journal(), filepath.Join(s.out, "receivedMessages.log")
	finds("a sound archive", "")
	altered := bytes.Replace(whole, []byte("first light"), []byte("later light"), 1)
	s.must(os.WriteFile(path, altered, 0o600))
	finds("an altered record", "archive-broken")
	s.must(os.WriteFile(path, whole, 0o600))
	s.must(os.Rename(s.out, s.out+"-away"))
	finds("no folder", "archive-folder")
	s.must(os.Rename(s.out+"-away", s.out))
}

// spoiled: the archive refuses a folder that is not the one it knows, and
// verify names what was done to it.
func (s *stage) spoiled(ctx context.Context) {
	s.t.Helper()
	whole, good := s.journal(), s.out
	cutEnd := whole[:bytes.LastIndexByte(whole[:len(whole)-1], '\n')+1]
	s.must(os.WriteFile(filepath.Join(good, "receivedMessages.log"), cutEnd, 0o600))
	out, err := s.charlie.CLI(ctx, "", "--json", "compliance", "verify", good)
	var v struct {
		Sound  bool
		Report struct{ Findings []archive.Finding }
	}
	if jerr := json.Unmarshal([]byte(out), &v); err == nil || jerr != nil || v.Sound || len(v.Report.Findings) != 1 || v.Report.Findings[0].Code != archive.FindEnd {
		s.t.Errorf("a cut end: %s %v", out, err)
	}
	if _, err := s.run(ctx); err == nil || !strings.Contains(err.Error(), "is not the archive") {
		s.t.Errorf("running on a cut end: %v", err)
	}
	s.out = s.t.TempDir()
	if _, err := s.run(ctx); err == nil || !strings.Contains(err.Error(), "folder is empty") {
		s.t.Errorf("running on an empty folder: %v", err)
	}
	s.out = filepath.Join(s.out, "gone")
	if _, err := s.run(ctx); err == nil || !strings.Contains(err.Error(), "not there") {
		s.t.Errorf("running without a folder: %v", err)
	}
}
