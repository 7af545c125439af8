package policy

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"flag"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"outrider/mesh/identity"
)

var update = flag.Bool("update", false, "write the vectors anew")

var (
	epoch   = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	network = identity.NetworkID(sha256.Sum256([]byte("network")))
	adminA  = identity.PrivateKeyFromSeed(sha256.Sum256([]byte("admin a")))
	adminB  = identity.PrivateKeyFromSeed(sha256.Sum256([]byte("admin b")))
)

func user(n byte) identity.UserID { return identity.UserID(bytes.Repeat([]byte{n}, 16)) }

// convoy is a group's policy with every field set.
func convoy() Config {
	return Config{
		Group: "convoy", Sequence: 3, Supersedes: sha256.Sum256([]byte("second")), NotBefore: epoch, Expires: epoch.Add(24 * time.Hour),
		MaxAge: 30 * 24 * time.Hour, Members: []identity.UserID{user(1), user(2)}, Switches: Switches{Location: true}, Compliance: user(9),
	}
}

func sign(t testing.TB, c Config, key identity.PrivateKey) identity.SignedConfig {
	t.Helper()
	s, err := c.Sign(network, key)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestA14RoundTrip(t *testing.T) {
	pushed := convoy()
	pushed.Pushed, pushed.Expires = true, time.Time{}
	withdrawn := Config{Group: "convoy", Sequence: 4, Pushed: true, NotBefore: epoch, Switches: Allowed, Withdrawn: true}
	for name, c := range map[string]Config{
		"every field": convoy(), "pushed": pushed, "withdrawn": withdrawn,
		"default": {Group: Default, Sequence: 1, NotBefore: epoch, Expires: epoch.Add(time.Hour), Switches: Allowed},
	} {
		s := sign(t, c, adminA)
		again, err := identity.ParseConfig(s.Raw())
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		got, err := Read(again)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if !reflect.DeepEqual(got, c) {
			t.Errorf("%s comes back as\n%+v, want\n%+v", name, got, c)
		}
	}
}

// What is out of bounds is refused on both sides: one past each limit.
func TestA14Limits(t *testing.T) {
	for name, change := range map[string]func(*Config){
		"no name":             func(c *Config) { c.Group = "" },
		"name too long":       func(c *Config) { c.Group = strings.Repeat("x", MaxName+1) },
		"name of a path":      func(c *Config) { c.Group = "../convoy" },
		"capital":             func(c *Config) { c.Group = "Convoy" },
		"begins with hyphen":  func(c *Config) { c.Group = "-convoy" },
		"sequence 0":          func(c *Config) { c.Sequence = 0 },
		"ends before begin":   func(c *Config) { c.Expires = c.NotBefore },
		"no end":              func(c *Config) { c.Expires = time.Time{} },
		"privileged too long": func(c *Config) { c.Expires = c.NotBefore.Add(MaxPrivilegedExpiry + time.Minute) },
		"too long":            func(c *Config) { c.Compliance, c.Expires = identity.UserID{}, c.NotBefore.Add(MaxExpiry+time.Minute) },
		"default has members": func(c *Config) { c.Group = Default },
		"nobody as member":    func(c *Config) { c.Members = []identity.UserID{{}} },
		"too many members":    func(c *Config) { c.Members = many(MaxMembers + 1) },
	} {
		c := convoy()
		change(&c)
		if _, err := c.Sign(network, adminA); !errors.Is(err, ErrMalformed) {
			t.Errorf("%s: %v", name, err)
		}
	}
	c := convoy()
	c.Members, c.Group = many(MaxMembers), strings.Repeat("x", MaxName)
	if s := sign(t, c, adminA); len(s.Raw()) > identity.MaxConfig {
		t.Errorf("the largest has %d bytes", len(s.Raw()))
	}
}

func many(n int) (out []identity.UserID) {
	for i := range n {
		h := sha256.Sum256([]byte{byte(i), byte(i >> 8)})
		out = append(out, identity.UserID(h[:16]))
	}
	return out
}

// A later version's switch is noticed, and what is known is enforced.
func TestP05LaterVersion(t *testing.T) {
	raw, err := identity.Marshal(map[uint64]any{2: map[uint64]any{1: true, 7: true}, 9: "x"})
	if err != nil {
		t.Fatal(err)
	}
	s, err := identity.SignedConfig{Scope: "convoy", Sequence: 1, Handout: identity.Pushed, NotBefore: epoch, Body: raw}.Sign(network, adminA)
	if err != nil {
		t.Fatal(err)
	}
	c, err := Read(s)
	if err != nil || !c.Later || c.Switches != (Switches{Location: true}) {
		t.Errorf("read as %+v, %v", c, err)
	}
}

// version makes a version for Judge.
func version(t testing.TB, src Source, key identity.PrivateKey, c Config) Version {
	t.Helper()
	c.NotBefore = epoch
	if c.Pushed = src == FromMesh; !c.Pushed {
		c.Expires = epoch.Add(time.Hour)
	}
	s := sign(t, c, key)
	c, err := Read(s)
	if err != nil {
		t.Fatal(err)
	}
	return Version{Config: c, Signed: s, Source: src}
}

func group(seq uint64, s Switches, members ...identity.UserID) Config {
	return Config{Group: "convoy", Sequence: seq, Switches: s, Members: members}
}

// TestP05Order: pushed over file over link, then the higher sequence, whatever
// the order of arrival.
func TestP05Order(t *testing.T) {
	noFiles, noPlace := Switches{Location: true}, Switches{Files: true}
	link5 := version(t, FromLink, adminA, group(5, noFiles, user(1)))
	link6 := version(t, FromLink, adminA, group(6, Allowed, user(1)))
	file4 := version(t, FromFile, adminA, group(4, noPlace, user(1)))
	push2 := version(t, FromMesh, adminA, group(2, Switches{}, user(1)))
	push3 := version(t, FromMesh, adminB, group(3, Allowed, user(1)))
	for _, c := range []struct {
		name string
		have []Version
		want uint64
		src  Source
	}{
		{"one link", []Version{link5}, 5, FromLink},
		{"newer link", []Version{link5, link6}, 6, FromLink},
		{"file over a newer link", []Version{link6, file4}, 4, FromFile},
		{"push over all", []Version{link6, file4, push2}, 2, FromMesh},
		{"newer push, of another admin", []Version{push2, link6, push3, file4}, 3, FromMesh},
	} {
		for range permutations(c.have) {
			st := Judge(c.have)
			if len(st.Groups) != 1 || st.Groups[0].Sequence != c.want || st.Groups[0].Source != c.src || len(st.Groups[0].Against) != 0 {
				t.Fatalf("%s: in force %+v", c.name, st.Groups)
			}
			want := uint64(0)
			for _, v := range c.have {
				want = max(want, v.Sequence)
			}
			if st.Groups[0].Seen != want {
				t.Errorf("%s: seen %d, want %d", c.name, st.Groups[0].Seen, want)
			}
		}
	}
}

// permutations puts list into every order, one after the other.
func permutations[T any](list []T) func(yield func() bool) {
	return func(yield func() bool) {
		var rec func(n int) bool
		rec = func(n int) bool {
			if n <= 1 {
				return yield()
			}
			for i := range n {
				list[i], list[n-1] = list[n-1], list[i]
				if !rec(n - 1) {
					return false
				}
				list[i], list[n-1] = list[n-1], list[i]
			}
			return true
		}
		rec(len(list))
	}
}

// TestP05Equivocation: one number, two bodies, by one issuer or two: the
// stricter value of each field, from whatever source, in any order.
func TestP05Equivocation(t *testing.T) {
	for name, other := range map[string]identity.PrivateKey{"one issuer": adminA, "two issuers": adminB} {
		a := group(4, Switches{Location: true}, user(1))
		b := group(4, Switches{Files: true}, user(2))
		a.Compliance = user(9)
		list := []Version{
			version(t, FromMesh, adminA, a), version(t, FromMesh, other, b), version(t, FromMesh, adminA, a), version(t, FromMesh, adminA, group(3, Allowed, user(3))),
		}
		var first *State
		for range permutations(list) {
			st := Judge(slices.Clone(list))
			if first == nil {
				first = &st
			}
			if !reflect.DeepEqual(st, *first) {
				t.Fatalf("%s: the order of arrival matters", name)
			}
		}
		g := first.Groups[0]
		if len(g.Against) != 1 || g.Switches != (Switches{}) || !slices.Equal(g.Members, []identity.UserID{user(1), user(2)}) {
			t.Errorf("%s: %+v", name, g)
		}
		if len(first.ComplianceReaders()) != 0 {
			t.Errorf("%s: somebody reads along whom only one version names", name)
		}
	}
	link := version(t, FromLink, adminA, group(4, Switches{}, user(1)))
	push := version(t, FromMesh, adminA, group(4, Allowed, user(1)))
	if g := Judge([]Version{link, push}).Groups[0]; len(g.Against) != 1 || g.Switches != (Switches{}) {
		t.Errorf("one number on two ways: %+v", g)
	}
}

// A withdrawal ends all versions before it, and a later link counts again.
func TestP03Withdrawn(t *testing.T) {
	gone := Config{Group: "convoy", Sequence: 5, Switches: Allowed, Withdrawn: true}
	list := []Version{version(t, FromLink, adminA, group(4, Switches{}, user(1))), version(t, FromMesh, adminA, gone), version(t, FromMesh, adminA, group(3, Switches{}, user(1)))}
	for range permutations(list) {
		if st := Judge(list); len(st.Groups) != 0 || st.Withdrawn["convoy"] != 5 || st.Policy(user(1)).Switches != Allowed {
			t.Fatalf("in force: %+v", st)
		}
	}
	if st := Judge(append(list, version(t, FromLink, adminA, group(6, Switches{}, user(1))))); len(st.Groups) != 1 || st.Groups[0].Sequence != 6 {
		t.Errorf("a later link does not count: %+v", st.Groups)
	}
}

func TestA14PolicyOfAUser(t *testing.T) {
	st := Judge([]Version{
		version(t, FromLink, adminA, group(1, Switches{Location: true}, user(1), user(2))),
		version(t, FromLink, adminA, Config{Group: "scouts", Sequence: 1, Switches: Switches{Files: true}, Members: []identity.UserID{user(2)}}),
		version(t, FromLink, adminA, Config{Group: Default, Sequence: 1, Switches: Switches{}}),
	})
	for _, c := range []struct {
		user identity.UserID
		want Ruling
	}{
		{user(1), Ruling{Switches: Switches{Location: true}, Groups: []string{"convoy"}, NoFiles: "convoy"}},
		{user(2), Ruling{Switches: Switches{}, Groups: []string{"convoy", "scouts"}, NoFiles: "convoy", NoLocation: "scouts"}},
		{user(3), Ruling{Switches: Switches{}, Groups: []string{Default}, NoFiles: Default, NoLocation: Default}},
	} {
		if got := st.Policy(c.user); !reflect.DeepEqual(got, c.want) {
			t.Errorf("%v: %+v, want %+v", c.user, got, c.want)
		}
	}
	if got := (State{}).Policy(user(1)); !reflect.DeepEqual(got, Ruling{Switches: Allowed}) {
		t.Errorf("without any policy: %+v", got)
	}
}

func TestP07ComplianceReaders(t *testing.T) {
	a, b := group(1, Allowed, user(1)), Config{Group: Default, Sequence: 1, Switches: Allowed, Compliance: user(8)}
	a.Compliance = user(9)
	st := Judge([]Version{version(t, FromMesh, adminA, a), version(t, FromMesh, adminA, b)})
	if got := st.ComplianceReaders(); !slices.Equal(got, []identity.UserID{user(8), user(9)}) {
		t.Errorf("readers %v", got)
	}
}

// fixed is a clock.
type fixed struct {
	at      time.Time
	trusted bool
	lowest  time.Time
}

func (f fixed) Now() time.Time    { return f.at }
func (f fixed) Trusted() bool     { return f.trusted }
func (f fixed) Lowest() time.Time { return f.lowest }

// The clock ten years early, ten years late, and unset (config-and-ui.md 7).
func TestP01Clocks(t *testing.T) {
	c := convoy()
	c.MaxAge = 10 * 24 * time.Hour
	s := sign(t, c, adminA)
	c.Pushed = true
	push := sign(t, c, adminA)
	ten := 10 * 365 * 24 * time.Hour
	for name, x := range map[string]struct {
		clock      fixed
		unverified bool
		err        error
	}{
		"right":             {fixed{at: epoch.Add(time.Hour), trusted: true}, false, nil},
		"the last moment":   {fixed{at: epoch.Add(24*time.Hour - time.Second), trusted: true}, false, nil},
		"ended":             {fixed{at: epoch.Add(24 * time.Hour), trusted: true}, false, identity.ErrExpired},
		"ten years early":   {fixed{at: epoch.Add(-ten), trusted: true}, false, identity.ErrNotYetValid},
		"ten years late":    {fixed{at: epoch.Add(ten), trusted: true}, false, identity.ErrExpired},
		"unset":             {fixed{at: time.Unix(0, 0)}, true, nil},
		"unset, far ahead":  {fixed{at: epoch.Add(ten)}, true, nil},
		"unset, but signed": {fixed{at: time.Unix(0, 0), lowest: epoch.Add(c.MaxAge + time.Minute)}, false, identity.ErrExpired},
		"too old":           {fixed{at: epoch.Add(time.Hour), trusted: true, lowest: epoch.Add(c.MaxAge)}, false, nil},
	} {
		unverified, err := s.CheckTime(x.clock)
		if unverified != x.unverified || !errors.Is(err, x.err) {
			t.Errorf("%s: %v, %v", name, unverified, err)
		}
		if unverified, err := push.CheckTime(x.clock); unverified || err != nil {
			t.Errorf("%s: what was pushed is refused by the clock: %v", name, err)
		}
	}
}

func FuzzRead(f *testing.F) {
	s := sign(f, convoy(), adminA)
	f.Add(s.Raw())
	f.Add(sign(f, Config{Group: Default, Sequence: 1, Pushed: true, NotBefore: epoch, Switches: Allowed}, adminA).Raw())
	f.Fuzz(func(t *testing.T, b []byte) {
		s, err := identity.ParseConfig(b)
		if err != nil {
			if !errors.Is(err, identity.ErrMalformed) {
				t.Fatal(err)
			}
			return
		}
		if !bytes.Equal(s.Raw(), b) {
			t.Fatal("accepted, but not kept")
		}
		c, err := Read(s)
		if err != nil {
			if !errors.Is(err, ErrMalformed) {
				t.Fatal(err)
			}
			return
		}
		if c.Later {
			return
		}
		again, err := c.Sign(network, adminA)
		if err != nil || !bytes.Equal(again.Body, s.Body) {
			t.Fatalf("reads as %+v, which is written differently: %v", c, err)
		}
		Judge([]Version{{Config: c, Signed: s, Source: FromLink}}).Policy(user(1))
	})
}

// A vector is one line of testdata/vectors/policy.json.
type vector struct {
	Name     string   `json:"name"`
	Raw      string   `json:"raw"` // hex
	Good     bool     `json:"good"`
	Group    string   `json:"group,omitempty"`
	Sequence uint64   `json:"sequence,omitempty"`
	Pushed   bool     `json:"pushed,omitempty"`
	Files    bool     `json:"files,omitempty"`
	Location bool     `json:"location,omitempty"`
	Members  []string `json:"members,omitempty"`
}

// TestVectors keeps the format: seeds are "admin a" and the network "network",
// each SHA-256.
func TestVectors(t *testing.T) {
	path := filepath.Join("testdata", "vectors", "policy.json")
	if *update {
		writeVectors(t, path)
	}
	raw, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var list []vector
	if err := json.Unmarshal(raw, &list); err != nil {
		t.Fatal(err)
	}
	good := 0
	for _, v := range list {
		b, err := hex.DecodeString(v.Raw)
		if err != nil {
			t.Fatal(err)
		}
		s, err := identity.ParseConfig(b)
		var c Config
		if err == nil {
			c, err = Read(s)
		}
		if (err == nil) != v.Good {
			t.Errorf("%s: %v", v.Name, err)
		}
		if !v.Good || err != nil {
			continue
		}
		good++
		var members []string
		for _, m := range c.Members {
			members = append(members, m.String())
		}
		if c.Group != v.Group || c.Sequence != v.Sequence || c.Pushed != v.Pushed || c.Switches != (Switches{v.Files, v.Location}) || !slices.Equal(members, v.Members) {
			t.Errorf("%s reads as %+v", v.Name, c)
		}
		again, err := c.Sign(network, adminA)
		if err != nil || !bytes.Equal(again.Raw(), b) {
			t.Errorf("%s is written differently: %v", v.Name, err)
		}
	}
	if good < 3 || len(list) < good+4 {
		t.Errorf("%d good vectors of %d", good, len(list))
	}
}

func writeVectors(t *testing.T, path string) {
	var list []vector
	for name, c := range map[string]Config{
		"1 handed out": convoy(), "2 pushed": {Group: "convoy", Sequence: 4, Pushed: true, NotBefore: epoch, Members: []identity.UserID{user(1)}, Switches: Switches{Files: true}},
		"3 default": {Group: Default, Sequence: 1, NotBefore: epoch, Expires: epoch.Add(time.Hour), Switches: Switches{}},
	} {
		s := sign(t, c, adminA)
		v := vector{Name: name, Raw: hex.EncodeToString(s.Raw()), Good: true, Group: c.Group, Sequence: c.Sequence, Pushed: c.Pushed, Files: c.Switches.Files, Location: c.Switches.Location}
		for _, m := range c.Members {
			v.Members = append(v.Members, m.String())
		}
		list = append(list, v)
	}
	bad := func(name string, s identity.SignedConfig) {
		s, err := s.Sign(network, adminA)
		if err != nil {
			t.Fatal(err)
		}
		list = append(list, vector{Name: name, Raw: hex.EncodeToString(s.Raw())})
	}
	base := identity.SignedConfig{Scope: "convoy", Sequence: 1, Handout: identity.Pushed, NotBefore: epoch}
	for name, body := range map[string][]byte{
		"4 bad: members out of order":  must(identity.Marshal(map[uint64]any{1: append(slices.Clone(user2()), user1()...)})),
		"5 bad: half a member":         must(identity.Marshal(map[uint64]any{1: user1()[:8]})),
		"6 bad: body is no map":        {0x80},
		"7 bad: false written out":     must(identity.Marshal(map[uint64]any{4: false})),
		"8 bad: a byte after the body": {0xa0, 0x00},
	} {
		s := base
		s.Body = body
		bad(name, s)
	}
	s := base
	s.Scope, s.Body = "Convoy 1", []byte{0xa0}
	bad("9 bad: name of the group", s)
	slices.SortFunc(list, func(a, b vector) int { return strings.Compare(a.Name, b.Name) })
	raw, err := json.MarshalIndent(list, "", " ")
	if err == nil {
		err = os.MkdirAll(filepath.Dir(path), 0o755)
	}
	if err == nil {
		err = os.WriteFile(path, append(raw, '\n'), 0o644)
	}
	if err != nil {
		t.Fatal(err)
	}
}

func user1() []byte { u := user(1); return u[:] }
func user2() []byte { u := user(2); return u[:] }

func must(b []byte, err error) []byte {
	if err != nil {
		panic(err)
	}
	return b
}
