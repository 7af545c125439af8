package scenario_test

import (
	"context"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"outrider/field-tests/linkemu"
	"outrider/field-tests/netns"
	"outrider/field-tests/plainsearch"
	"outrider/field-tests/scenario"
)

func TestMain(m *testing.M) {
	os.Exit(netns.Main(func() int {
		code := m.Run()
		scenario.Clean()
		return code
	}))
}

// people have names long enough that a search cannot meet them by chance.
var people = [3]string{"alice kestrel northwood", "bob merlin southgate", "carol goshawk eastbrook"}

// needles are what no disk and no capture may hold in a form that can be read.
func needles(t *testing.T, s *scenario.Story) []plainsearch.Needle {
	t.Helper()
	all := []plainsearch.Needle{
		plainsearch.Text("message", scenario.StoryText),
		plainsearch.Text("answer", scenario.StoryReply),
		plainsearch.Text("note of a position", scenario.StoryNote),
		plainsearch.Text("file name", scenario.StoryFile),
		plainsearch.Block("block of the file", s.File[123_456:123_456+4096]),
	}
	for _, p := range people {
		all = append(all, plainsearch.Text("user name "+p[:5], p))
	}
	return append(all, plainsearch.Coordinates("position", scenario.StoryLat, scenario.StoryLon)...)
}

// field is three nodes on one medium, with everything captured that each
// sends or hears.
type field struct {
	*scenario.Story
	world    *netns.World
	dir      string
	captures []*netns.Capture
}

// newField sets the nodes up in namespaces on a lossy medium. Alpha and Charlie
// are out of each other's reach; whom Bravo reaches, the story decides.
func newField(t *testing.T, ctx context.Context, bins map[string]string, wrap map[string][]string) *field {
	t.Helper()
	f := &field{dir: t.TempDir()}
	off := false
	f.world = netns.New(t, linkemu.Scenario{
		Seed: 1, Nodes: []string{"alpha", "bravo", "charlie"},
		Nets:  []linkemu.Net{{Name: "air", Subnet: "10.77.0.0/24", Rate: 50e6, DelayMS: 2, Loss: 0.001, Up: &off}},
		Links: []linkemu.Change{},
	})
	newBox := func(name string) (*scenario.Box, error) {
		b := scenario.NewBoxAlone(f.dir, name, bins[name], f.world.Addr(name, "air").String())
		b.Wrap = wrap[name]
		node := f.world.Node(name)
		b.Launch = func(cmd *exec.Cmd) error {
			cmd.SysProcAttr.Pdeathsig = 0 // it would act when the namespace's thread ends
			return node.Do(cmd.Start)
		}
		capture, err := node.Capture("air", filepath.Join(f.dir, name+".pcap"))
		f.captures = append(f.captures, capture)
		return b, err
	}
	trio, err := scenario.NewTrio(ctx, newBox, people)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		for _, b := range []*scenario.Box{trio.Alpha, trio.Bravo, trio.Charlie} {
			b.Kill()
		}
	})
	f.Story = scenario.NewStory(ctx, trio, testWriter{t})
	f.Hears = f.hears
	return f
}

// everywhere runs one binary on all nodes.
func everywhere(bin string) map[string]string {
	return map[string]string{"alpha": bin, "bravo": bin, "charlie": bin}
}

// hears lets Bravo reach one of the two, by the air itself.
func (f *field) hears(_ context.Context, node string) error {
	for name, id := range map[string]string{"alpha": f.AlphaID, "charlie": f.CharlieID} {
		if id != node {
			if err := f.world.Cut("air", "bravo", name); err != nil {
				return err
			}
		}
	}
	switch node {
	case f.AlphaID:
		return f.world.Heal("air", "bravo", "alpha")
	case f.CharlieID:
		return f.world.Heal("air", "bravo", "charlie")
	}
	return nil
}

// finish ends the nodes in good order and completes the captures.
func (f *field) finish(t *testing.T) {
	t.Helper()
	if err := f.Close(); err != nil {
		t.Error(err)
	}
	for _, c := range f.captures {
		if r, err := c.Close(); err != nil || r.Packets == 0 {
			t.Errorf("capture of %d packets, %d dropped: %v", r.Packets, r.Dropped, err)
		}
	}
}

type testWriter struct{ t *testing.T }

func (w testWriter) Write(b []byte) (int, error) {
	w.t.Log(strings.TrimRight(string(b), "\n"))
	return len(b), nil
}

func play(t *testing.T, f *field, limit time.Duration) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	err := f.Play(ctx)
	f.Summary(ctx)
	if err != nil {
		for _, b := range []*scenario.Box{f.Alpha, f.Bravo, f.Charlie} {
			t.Logf("%s says:\n%s", b.Name, b.Tail())
		}
		t.Fatal(err)
	}
}

// TestStoryAcrossBrokenMesh is the story with the real binary in namespaces:
// M01, M04, M05, F01, F05, L01, M16; then two TAK clients, L03. Afterwards nothing that was said can be
// found on any disk or in any capture (decisions.md 29).
func TestStoryAcrossBrokenMesh(t *testing.T) {
	f := newField(t, t.Context(), everywhere(scenario.Binary(t)), nil)
	withTAK(t, f)
	play(t, f, 4*time.Minute)
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	pkg := f.takExchange(t, ctx)
	f.finish(t)
	search, err := plainsearch.New(append(needles(t, f.Story), takNeedles(pkg)...))
	if err != nil {
		t.Fatal(err)
	}
	hits, err := search.Tree(f.dir)
	if err != nil {
		t.Fatal(err)
	}
	if len(hits) > 0 {
		t.Errorf("what was said can be read:\n%s", plainsearch.Summary(hits))
	}
}

// TestPlaintextSearchFindsUnsealed is the search's positive control: with
// sealing and the links' encryption replaced by identity the same search must
// find everything that the story said, on disks and in captures. The profile
// is wifi, where links are Noise over TCP.
func TestPlaintextSearchFindsUnsealed(t *testing.T) {
	f := newField(t, t.Context(), everywhere(unsealedBinary(t)), nil)
	for _, b := range []*scenario.Box{f.Alpha, f.Bravo, f.Charlie} {
		if err := b.Configure("wifi", ""); err != nil {
			t.Fatal(err)
		}
	}
	withTAK(t, f)
	play(t, f, 4*time.Minute)
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	pkg := f.takExchange(t, ctx)
	f.finish(t)
	all := append(needles(t, f.Story), takNeedles(pkg)...)
	search, err := plainsearch.New(all)
	if err != nil {
		t.Fatal(err)
	}
	hits, err := search.Tree(f.dir)
	if err != nil {
		t.Fatal(err)
	}
	onDisk, onAir := map[string]int{}, map[string]int{}
	for _, h := range hits {
		if strings.Contains(h.Where, ".pcap") {
			onAir[h.Needle]++
		} else {
			onDisk[h.Needle]++
		}
	}
	for _, n := range []string{"message", "answer", "note of a position", "file name", "block of the file", "user name alice", "user name carol",
		"chat of a TAK client", "callsign", "callsign of carol", "name of a data package", "block of a data package"} {
		if onDisk[n]+onAir[n] == 0 {
			t.Errorf("the search does not find %q where nothing is sealed", n)
		}
	}
	for _, n := range []string{"message", "answer", "note of a position", "file name", "user name alice", "chat of a TAK client", "callsign", "name of a data package"} {
		if onAir[n] == 0 {
			t.Errorf("the search does not find %q in the captures of open links", n)
		}
	}
	t.Logf("hits on disk %v, in captures %v", onDisk, onAir)
	if len(onDisk) == 0 {
		t.Error("nothing found on disk")
	}
}

// unsealedBinary builds the product with its sealing replaced by identity. The
// replacement exists in this test only: an overlay for the compiler, no switch
// in the product.
func unsealedBinary(t *testing.T) string {
	t.Helper()
	root, err := scenario.Root()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	overlay := struct{ Replace map[string]string }{map[string]string{}}
	replace := func(name, call, by string, more ...string) {
		src, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		if strings.Count(string(src), call) != 1 {
			t.Fatalf("%s does not seal as this control expects: mend the control", name)
		}
		changed := strings.Replace(string(src), call, by, 1)
		if len(more) == 2 {
			changed = strings.Replace(changed, more[0], more[1], 1)
		}
		to := filepath.Join(dir, strings.ReplaceAll(name, "/", "_"))
		if err := os.WriteFile(to, []byte(changed+unsealedCode), 0o600); err != nil {
			t.Fatal(err)
		}
		overlay.Replace[name] = to
	}
	for _, name := range []string{"mesh/identity/aead.go", "mesh/envelope/schedule.go"} {
		replace(filepath.Join(root, name), "cipher.NewGCMWithRandomNonce(block)", "plainly{12}, error(nil)\n_ = block")
	}
	mod := openNoise(t, root, dir, func(name string) {
		replace(name, "chacha20poly1305.New(k[:])", "plainly{}, error(nil)",
			`"golang.org/x/crypto/chacha20poly1305"`, `_ "golang.org/x/crypto/chacha20poly1305"`)
	})
	raw, err := json.Marshal(overlay)
	if err != nil {
		t.Fatal(err)
	}
	file, bin := filepath.Join(dir, "overlay.json"), filepath.Join(dir, "outrider")
	if err := os.WriteFile(file, raw, 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("go", "build", "-modfile", mod, "-overlay", file, "-o", bin, "./node/outrider")
	cmd.Dir, cmd.Env = root, append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("build without sealing: %v\n%s", err, out)
	}
	return bin
}

// openNoise lets change name a file of a copy of the Noise library to be
// replaced, and returns a go.mod by which the build takes the copy: the
// compiler replaces no files of the module cache.
func openNoise(t *testing.T, root, dir string, change func(cipherSuite string)) (modfile string) {
	t.Helper()
	const module = "github.com/flynn/noise"
	cmd := exec.Command("go", "list", "-m", "-f", "{{.Dir}}", module)
	cmd.Dir = root
	from, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	to := filepath.Join(dir, "noise")
	if err := os.CopyFS(to, os.DirFS(strings.TrimSpace(string(from)))); err != nil {
		t.Fatal(err)
	}
	change(filepath.Join(to, "cipher_suite.go"))
	for _, name := range []string{"go.mod", "go.sum"} {
		raw, err := os.ReadFile(filepath.Join(root, name))
		if err != nil {
			t.Fatal(err)
		}
		if name == "go.mod" {
			raw = append(raw, "\nreplace "+module+" => "+to+"\n"...)
		}
		if err := os.WriteFile(filepath.Join(dir, "open"+filepath.Ext(name)), raw, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return filepath.Join(dir, "open.mod")
}

// unsealedCode keeps the shape of what is sealed, room for a nonce in front of
// a message and the tag behind, and the content as it is. The tag still tells
// what belongs together, or nothing would be delivered.
const unsealedCode = `

type plainly struct{ front int }

func (p plainly) NonceSize() int { return 12 - p.front }
func (p plainly) Overhead() int  { return p.front + 16 }

func (p plainly) Seal(dst, nonce, plaintext, aad []byte) []byte {
	tag := unsealedTag(plaintext, aad)
	dst = append(dst, make([]byte, p.front)...)
	dst = append(dst, plaintext...)
	return append(dst, tag...)
}

func (p plainly) Open(dst, nonce, ciphertext, aad []byte) ([]byte, error) {
	if len(ciphertext) < p.front+16 {
		return nil, unsealedErr("short")
	}
	plaintext, tag := ciphertext[p.front:len(ciphertext)-16], ciphertext[len(ciphertext)-16:]
	if string(tag) != string(unsealedTag(plaintext, aad)) {
		return nil, unsealedErr("changed")
	}
	return append(dst, plaintext...), nil
}

type unsealedErr string

func (e unsealedErr) Error() string { return string(e) }

func unsealedTag(plaintext, aad []byte) []byte {
	var tag [16]byte
	h := uint64(14695981039346656037)
	for _, b := range [][]byte{plaintext, aad} {
		for _, x := range b {
			h = (h ^ uint64(x)) * 1099511628211
		}
	}
	for i := range tag {
		tag[i] = byte(h >> (8 * (uint(i) % 8)))
	}
	return tag[:]
}
`
