package stranger

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/base32"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"go/parser"
	"go/token"
	"io"
	mathrand "math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestImportsNothingOfOurs: else it would be no stranger.
func TestImportsNothingOfOurs(t *testing.T) {
	files, err := filepath.Glob("*.go")
	if err != nil || len(files) < 5 {
		t.Fatalf("%d files: %v", len(files), err)
	}
	for _, name := range files {
		f, err := parser.ParseFile(token.NewFileSet(), name, nil, parser.ImportsOnly)
		if err != nil {
			t.Fatal(err)
		}
		for _, imp := range f.Imports {
			path := strings.Trim(imp.Path.Value, `"`)
			if path == "outrider" || strings.HasPrefix(path, "outrider/") {
				t.Errorf("%s imports %s", name, path)
			}
		}
	}
}

// base32Text is how ids and tags are written (IDENTITY.md 1), in lower case.
var base32Text = base32.StdEncoding.WithPadding(base32.NoPadding)

func text(b []byte) string { return strings.ToLower(base32Text.EncodeToString(b)) }

// A real node: the program, spoken to by its command line and socket.
type real struct {
	t        *testing.T
	bin, dir string
	addr     string // of the mesh
	id       []byte
}

const adminPassword = "admin password of the strangers' friend"

func (n *real) cli(stdin string, args ...string) []byte {
	n.t.Helper()
	cmd := exec.CommandContext(n.t.Context(), n.bin, append([]string{"--dir", n.dir, "--json"}, args...)...)
	cmd.Stdin = strings.NewReader(stdin)
	var fault bytes.Buffer
	cmd.Stderr = &fault
	out, err := cmd.Output()
	if err != nil {
		n.t.Fatalf("outrider %v: %v: %s", args, err, fault.Bytes())
	}
	return out
}

func (n *real) client() *http.Client {
	return &http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", filepath.Join(n.dir, "outrider.sock"))
	}}}
}

// freeAddrs finds addresses that are free for tcp and udp alike, below the ports
// that the kernel gives to connections: the node comes up much later.
func freeAddrs(t *testing.T, n int) (addrs []string) {
	t.Helper()
	for range 1000 {
		l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", 10_000+mathrand.IntN(20_000)))
		if err != nil {
			continue
		}
		defer l.Close()
		p, err := net.ListenPacket("udp", l.Addr().String())
		if err != nil {
			continue
		}
		defer p.Close()
		if addrs = append(addrs, l.Addr().String()); len(addrs) == n {
			return addrs
		}
	}
	t.Fatal("no free ports")
	return nil
}

// startReal builds the program, founds a network and starts the node.
func startReal(t *testing.T) *real {
	t.Helper()
	dir := t.TempDir()
	n := &real{t: t, bin: filepath.Join(dir, "outrider"), dir: filepath.Join(dir, "node")}
	build := exec.CommandContext(t.Context(), "go", "build", "-o", n.bin, "./node/outrider")
	build.Dir, build.Env = "../..", append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build: %v: %s", err, out)
	}
	var self struct{ Node string }
	if err := json.Unmarshal(n.cli("", "init"), &self); err != nil {
		t.Fatal(err)
	}
	var err error
	if n.id, err = base32Text.DecodeString(strings.ToUpper(self.Node)); err != nil {
		t.Fatal(err)
	}
	n.cli(adminPassword+"\n", "network", "create", "strange", "--password-file", "-")
	addrs := freeAddrs(t, 3)
	n.addr = addrs[1]
	toml := fmt.Sprintf("profile = \"lan\"\n[gossip]\nlisten = %q\n[mesh]\nlisten = [%q]\n[page]\nlisten = [%q]\n",
		addrs[0], n.addr, addrs[2])
	if err := os.WriteFile(filepath.Join(n.dir, "outrider.toml"), []byte(toml), 0o600); err != nil {
		t.Fatal(err)
	}
	n.up()
	return n
}

func (n *real) up() {
	n.t.Helper()
	var log bytes.Buffer
	cmd := exec.Command(n.bin, "--dir", n.dir, "up")
	cmd.Stdout, cmd.Stderr = &log, &log
	if err := cmd.Start(); err != nil {
		n.t.Fatal(err)
	}
	n.t.Cleanup(func() {
		_ = cmd.Process.Signal(os.Interrupt)
		_ = cmd.Wait()
		if n.t.Failed() {
			n.t.Logf("the node's log:\n%s", log.Bytes())
		}
	})
	deadline := time.After(time.Minute)
	for {
		r, err := n.client().Get("http://node/v1/status")
		if err == nil {
			r.Body.Close()
			return
		}
		select {
		case <-deadline:
			n.t.Fatalf("the node does not come up: %v", err)
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// invite issues a join link for a stranger.
func (n *real) invite(name string) (link, password string) {
	n.t.Helper()
	var inv struct{ Link, Password string }
	out := n.cli(adminPassword+"\n", "user", "add", name, "--admin-password-file", "-", "--address", "192.0.2.1:7410")
	if err := json.Unmarshal(out, &inv); err != nil {
		n.t.Fatal(err)
	}
	return inv.Link, inv.Password
}

// submit gives the node a bundle of its own and returns its id.
func (n *real) submit(tag string, payload []byte) string {
	n.t.Helper()
	r, err := n.client().Post("http://node/v1/bundles?tag="+tag, "application/octet-stream", bytes.NewReader(payload))
	if err != nil {
		n.t.Fatal(err)
	}
	defer r.Body.Close()
	raw, err := io.ReadAll(r.Body)
	var made struct{ ID string }
	if err != nil || json.Unmarshal(raw, &made) != nil || r.StatusCode != http.StatusCreated {
		n.t.Fatalf("submit: %s: %s (%v)", r.Status, raw, err)
	}
	return made.ID
}

// has waits until the node announces a bundle under a tag.
func (n *real) has(tag, id string) {
	n.t.Helper()
	ctx, cancel := context.WithTimeout(n.t.Context(), time.Minute)
	defer cancel()
	q, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://node/v1/bundles/arrived?tag="+tag, nil)
	if err != nil {
		n.t.Fatal(err)
	}
	r, err := n.client().Do(q)
	if err != nil {
		n.t.Fatal(err)
	}
	defer r.Body.Close()
	var seen []byte
	for buf := make([]byte, 4096); ; {
		k, err := r.Body.Read(buf)
		if seen = append(seen, buf[:k]...); bytes.Contains(seen, []byte(`"id":"`+id+`"`)) {
			return
		}
		if err != nil {
			n.t.Fatalf("bundle %s did not arrive: %v; seen %s", id, err, seen)
		}
	}
}

// ours makes a bundle of the stranger's own.
func ours(tag, payload []byte) bundle {
	key := make([]byte, 16)
	rand.Read(key)
	commitment := hash("purge", tag, key)
	return bundle{
		hop:     encode([]uint64{0, 0, 0}),
		header:  encode(header{Version: 1, Tag: tag, Precedence: 1, Lifetime: 60, Commitment: commitment[:8], Kind: 1}),
		payload: payload,
	}
}

// TestStranger meets a real node twice: once with a NodeID above the node's,
// so that the stranger follows and decodes, once with one below, so that it
// leads and streams. Each time it takes a bundle and gives one.
func TestStranger(t *testing.T) {
	real := startReal(t)
	defer func() { real.t = t }()
	for name, below := range map[string]bool{"decodes": false, "streams": true} {
		t.Run(name, func(t *testing.T) {
			real.t = t
			link, password := real.invite(name)
			m, err := redeem(link, password, func(id []byte) bool { return (bytes.Compare(id, real.id) < 0) == below })
			if err != nil {
				t.Fatal(err)
			}
			n := newNode(m, t.TempDir())
			tag := append([]byte("strange"), byte(len(name)))
			gift := ours(tag, []byte("a gift of "+name))
			if err := n.keep(gift); err != nil {
				t.Fatal(err)
			}
			payload := []byte("something for " + name)
			id := real.submit(text([]byte("wishes!"+name[:1])), payload)

			ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
			defer cancel()
			l, err := meet(ctx, real.addr, m, real.id)
			if err != nil {
				t.Fatal(err)
			}
			if l.lead != below {
				t.Errorf("leads: %v", l.lead)
			}
			err = n.contact(l, func() bool {
				_, given := n.accepted[string(gift.id())]
				return given && n.holds(id)
			})
			if err != nil {
				t.Fatal(err)
			}
			if code := n.accepted[string(gift.id())]; code != 0 {
				t.Errorf("the gift was answered with code %d", code)
			}
			raw, err := os.ReadFile(filepath.Join(n.dir, id))
			if err != nil || !bytes.Contains(raw, payload) {
				t.Errorf("the node's bundle is not in custody: %v", err)
			}
			real.has(text(tag), hex.EncodeToString(gift.id()))
		})
	}
}

func (n *node) holds(id string) bool {
	raw, err := hex.DecodeString(id)
	if err != nil {
		return false
	}
	_, ok := n.held[n.short(raw)]
	return ok
}

// TestStrangerOfAnotherNetwork is refused, with a code.
func TestStrangerOfAnotherNetwork(t *testing.T) {
	real := startReal(t)
	link, password := real.invite("forger")
	m, err := redeem(link, password, func([]byte) bool { return true })
	if err != nil {
		t.Fatal(err)
	}
	m.chain[len(m.chain)-1] ^= 1 // the admin's signature
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	_, err = meet(ctx, real.addr, m, real.id)
	if code := errRefused(0); !errors.As(err, &code) || code != 1 {
		t.Errorf("admitted with a forged chain: %v", err)
	}
}

// TestOpenVectors opens what a reader can, and nothing else.
func TestOpenVectors(t *testing.T) {
	raw, err := os.ReadFile("../../mesh/envelope/testdata/vectors/open.json")
	if err != nil {
		t.Fatal(err)
	}
	type hexBytes = string
	var v struct {
		Network    hexBytes
		TagKey     hexBytes `json:"tag_key"`
		User       hexBytes
		DeviceSeed hexBytes `json:"device_seed"`
		Prekeys    []struct {
			Number uint32
			Seed   hexBytes
		}
		Devices []struct{ User, Key hexBytes }
		Steps   []struct {
			Name, Kind, Class, Tag, Header, Payload string
			PurgeKey                                string `json:"purge_key"`
			Message                                 struct {
				Device string
				Index  uint32
				Type   uint64
				Sent   uint64 `json:"sent_ms"`
				Body   string
			}
		}
	}
	if err := json.Unmarshal(raw, &v); err != nil {
		t.Fatal(err)
	}
	b := func(s string) []byte {
		t.Helper()
		out, err := hex.DecodeString(s)
		if err != nil {
			t.Fatal(err)
		}
		return out
	}
	d := newDevice(b(v.Network), b(v.TagKey), b(v.User), b(v.DeviceSeed))
	for _, p := range v.Prekeys {
		d.prekeys[p.Number] = b(p.Seed)
	}
	for _, x := range v.Devices {
		d.keys[string(deviceID(b(x.Key)))] = b(x.Key)
	}
	opened := 0
	for _, s := range v.Steps {
		var purge []byte
		var c *content
		var err error
		if s.Kind == "epoch" {
			purge, err = d.openWrap(b(s.Tag), b(s.Header), b(s.Payload))
		} else if c, err = d.openMessage(b(s.Tag), b(s.Header), b(s.Payload)); err == nil {
			purge = c.purge
		}
		if (err == nil) != (s.Class == "ok") {
			t.Errorf("%s: %v, want class %s", s.Name, err, s.Class)
			continue
		}
		if err != nil {
			continue
		}
		opened++
		if hex.EncodeToString(purge) != s.PurgeKey {
			t.Errorf("%s: purge key %x", s.Name, purge)
		}
		if c == nil {
			continue
		}
		want := s.Message
		if hex.EncodeToString(c.device) != want.Device || c.index != want.Index || c.Type != want.Type || c.Sent != want.Sent {
			t.Errorf("%s: device %x, index %d, type %d, sent %d", s.Name, c.device, c.index, c.Type, c.Sent)
		}
		if c.Packing == 0 && hex.EncodeToString(c.Body) != want.Body {
			t.Errorf("%s: body %x, want %s", s.Name, c.Body, want.Body)
		}
	}
	if opened < 6 {
		t.Errorf("%d vectors opened", opened)
	}
}
