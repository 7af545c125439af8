// Package atak proves the TAK bridge from outside: two real nodes, and at each
// a TAK client that we did not write, from the library @tak-ps/node-tak.
package atak

import (
	"archive/zip"
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	pkcs12 "software.sslmate.com/src/go-pkcs12"

	"outrider/atak"
	"outrider/atak/datapkg"
	"outrider/field-tests/scenario"
)

func TestMain(m *testing.M) {
	code := m.Run()
	scenario.Clean()
	os.Exit(code)
}

// patience is how long a test waits for what must happen.
const patience = 2 * time.Minute

// library is the folder with the library, which the set-up fetches (.ci/setup),
// and our client beside it.
func library(t *testing.T) string {
	t.Helper()
	root, err := scenario.Root()
	if err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(root, "bin", "tak-client")
	if _, err := os.Stat(filepath.Join(dir, "node_modules", "@tak-ps", "node-tak", "package.json")); err != nil {
		t.Fatalf("the TAK client library is not here (%v): run `make setup`, which needs the npm registry once", err)
	}
	script, err := os.ReadFile(filepath.Join(root, "field-tests", "atak", "client", "client.mjs"))
	if err == nil {
		err = os.WriteFile(filepath.Join(dir, "client.mjs"), script, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

// A station is a node with the bridge on, and its user.
type station struct {
	*scenario.Box
	user          string
	stream, https int
	peer          string // node id of the other one
}

// pair makes two nodes of one network that know each other.
func pair(t *testing.T, ctx context.Context) (a, b *station) {
	t.Helper()
	return pairWith(t, ctx, nil)
}

// pairWith is pair with further settings by the name of the node.
func pairWith(t *testing.T, ctx context.Context, settings map[string]string) (a, b *station) {
	t.Helper()
	dir, bin := t.TempDir(), scenario.Binary(t)
	var ids [2]string
	var out [2]*station
	for i, name := range []string{"alpha", "bravo"} {
		box, err := scenario.NewBox(dir, name, bin, "127.0.0.1")
		if err != nil {
			t.Fatal(err)
		}
		spare, err := scenario.NewBox(dir, name+"-ports", bin, "127.0.0.1")
		if err != nil {
			t.Fatal(err)
		}
		s := &station{Box: box, user: []string{"alice", "bob"}[i], stream: spare.Gossip, https: spare.Mesh}
		if ids[i], err = box.Init(ctx); err != nil {
			t.Fatal(err)
		}
		extra := fmt.Sprintf("\n[atak]\nenabled = true\nlisten = \"127.0.0.1:%d\"\nlisten_https = \"127.0.0.1:%d\"\ninterval_s = 1\n", s.stream, s.https)
		if err := box.Configure("lan", extra+settings[name]); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if err := box.Stop(); err != nil {
				t.Errorf("%v\n%s", err, box.Tail())
			}
		})
		out[i] = s
	}
	out[0].peer, out[1].peer = ids[1], ids[0]
	steps := []func() error{
		func() error { return out[0].CreateNetwork(ctx, "eagle") },
		func() error { return out[0].HostUser(ctx, "alice") },
		func() error {
			inv, err := out[0].Invite(ctx, "bob", out[0].GossipAddr())
			if err != nil {
				return err
			}
			return out[1].Join(ctx, inv)
		},
		func() error { return out[0].Up(ctx) }, func() error { return out[1].Up(ctx) },
	}
	for _, do := range steps {
		if err := do(); err != nil {
			t.Fatal(err)
		}
	}
	return out[0], out[1]
}

// enrol asks for a connection package on the command line and takes what a
// client imports out of it.
func (s *station) enrol(t *testing.T, ctx context.Context) (cert, key string) {
	t.Helper()
	file := filepath.Join(filepath.Dir(s.Dir), s.Name+".zip")
	err := scenario.Poll(ctx, "the enrolment", func() (bool, error) { // a node that has just joined does not know its user's name yet
		_, err := s.CLI(ctx, scenario.UserPassword+"\n", "atak", "enroll", s.user, "--to", file, "--address", "127.0.0.1", "--password-file", "-")
		return err == nil, err
	})
	if err != nil {
		t.Fatal(err)
	}
	z, err := zip.OpenReader(file)
	if err != nil {
		t.Fatal(err)
	}
	defer z.Close()
	for _, f := range z.File {
		r, err := f.Open()
		if err != nil {
			t.Fatal(err)
		}
		b, err := io.ReadAll(r)
		if err = errors.Join(err, r.Close()); err != nil {
			t.Fatal(err)
		}
		switch {
		case strings.HasSuffix(f.Name, ".pref") && !bytes.Contains(b, fmt.Appendf(nil, "127.0.0.1:%d:ssl", s.stream)):
			t.Errorf("settings without the address: %s", b)
		case strings.HasSuffix(f.Name, ".p12") && !strings.HasSuffix(f.Name, "-ca.p12"):
			cert, key = pems(t, filepath.Dir(s.Dir), s.Name, b)
		}
	}
	if cert == "" {
		t.Fatal("the package has no certificate")
	}
	return cert, key
}

// pems turns a key store into what node.js reads.
func pems(t *testing.T, dir, name string, store []byte) (cert, key string) {
	t.Helper()
	k, c, _, err := pkcs12.DecodeChain(store, atak.Password)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(k)
	if err != nil {
		t.Fatal(err)
	}
	cert, key = filepath.Join(dir, name+".crt"), filepath.Join(dir, name+".key")
	for path, b := range map[string]*pem.Block{cert: {Type: "CERTIFICATE", Bytes: c.Raw}, key: {Type: "PRIVATE KEY", Bytes: der}} {
		if err := os.WriteFile(path, pem.EncodeToMemory(b), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return cert, key
}

// A line is what the client prints.
type line struct {
	Event, UID, Callsign, Form, Text, Hash, URL, Version string
	Size                                                 int
	Raw                                                  json.RawMessage
	List                                                 json.RawMessage
	Contacts                                             []struct{ Callsign, UID string }
}

// A client is one process of the library.
type client struct {
	t   *testing.T
	in  io.WriteCloser
	mu  sync.Mutex
	got []line
	new chan struct{}
}

func (s *station) client(t *testing.T, ctx context.Context, cert, key string, args ...string) *client {
	t.Helper()
	cmd := exec.CommandContext(ctx, "node", append([]string{"client.mjs", "127.0.0.1", fmt.Sprint(s.stream), fmt.Sprint(s.https), cert, key}, args...)...)
	cmd.Dir = library(t)
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	var errs bytes.Buffer
	cmd.Stderr = &errs
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatalf("node.js: %v; run `make setup`", err)
	}
	c := &client{t: t, in: in, new: make(chan struct{}, 1)}
	read := make(chan struct{})
	go func() {
		defer close(read)
		sc := bufio.NewScanner(out)
		sc.Buffer(nil, 4<<20)
		for sc.Scan() {
			var l line
			if err := json.Unmarshal(sc.Bytes(), &l); err != nil {
				l = line{Event: "unreadable", Text: sc.Text()}
			}
			c.mu.Lock()
			c.got = append(c.got, l)
			c.mu.Unlock()
			select {
			case c.new <- struct{}{}:
			default:
			}
		}
	}()
	t.Cleanup(func() {
		in.Close()
		<-read
		_ = cmd.Wait()
		if t.Failed() {
			t.Logf("client of %s: %s", s.Name, errs.String())
		}
	})
	return c
}

func (c *client) do(command map[string]any) {
	c.t.Helper()
	b, err := json.Marshal(command)
	if err == nil {
		_, err = c.in.Write(append(b, '\n'))
	}
	if err != nil {
		c.t.Fatal(err)
	}
}

// count tells how many lines fit.
func (c *client) count(fits func(line) bool) (n int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, l := range c.got {
		if fits(l) {
			n++
		}
	}
	return n
}

// wait returns the first line that fits.
func (c *client) wait(what string, fits func(line) bool) line {
	c.t.Helper()
	limit := time.After(patience)
	for {
		c.mu.Lock()
		for _, l := range c.got {
			if fits(l) {
				c.mu.Unlock()
				return l
			}
		}
		c.mu.Unlock()
		select {
		case <-c.new:
		case <-limit:
			c.mu.Lock()
			defer c.mu.Unlock()
			c.t.Fatalf("%s never came; %d lines did: %+v", what, len(c.got), c.got[max(0, len(c.got)-5):])
		}
	}
}

func event(kind string, parts ...string) func(line) bool {
	return func(l line) bool {
		if l.Event != kind {
			return false
		}
		for _, p := range parts {
			if !strings.Contains(string(l.Raw), p) {
				return false
			}
		}
		return true
	}
}

// cut opens or shuts the gate between the two, at both ends.
func cut(t *testing.T, ctx context.Context, a, b *station, shut bool) {
	t.Helper()
	for _, s := range []*station{a, b} {
		if err := s.API.SetLink(ctx, s.peer, !shut); err != nil {
			t.Fatal(err)
		}
	}
}

// TestL03PositionChatAndPackageAcrossACut: a library client at each node, one
// in XML as the library speaks it, one in protobuf, exchange a position, a
// direct chat and a data package while no link is ever up when they are sent.
// Nobody logs in: the certificates open the users. Then alice logs in, and a
// position that she sends once stands on bob's map until she recalls it.
func TestL03PositionChatAndPackageAcrossACut(t *testing.T) {
	library(t)
	ctx, cancel := context.WithTimeout(t.Context(), 8*time.Minute)
	defer cancel()
	a, b := pair(t, ctx)
	certA, keyA := a.enrol(t, ctx)
	certB, keyB := b.enrol(t, ctx)
	alice, bob := a.client(t, ctx, certA, keyA), b.client(t, ctx, certB, keyB, "--v1")
	alice.wait("an answer to the library's ping", func(l line) bool { return l.Event == "ping" && strings.HasPrefix(l.Version, "Outrider") })
	bob.wait("version 1", func(l line) bool { return l.Event == "negotiated" })

	// They meet once, so that each knows the other's keys; the positions show
	// it. Then everything is said while nobody hears.
	at := func(lat string) func(line) bool { return event("a-f-G-U-C", `"`+lat+`"`) }
	err := scenario.Poll(ctx, "the first positions", func() (bool, error) { // until keys have crossed a position goes to nobody
		alice.do(map[string]any{"do": "position", "uid": "ANDROID-aa", "callsign": "RAVEN", "lat": 1.5, "lon": 2.5})
		bob.do(map[string]any{"do": "position", "uid": "ANDROID-bb", "callsign": "bob", "lat": 3.5, "lon": 4.5})
		return bob.count(at("1.5")) > 0 && alice.count(at("3.5")) > 0, nil
	})
	if err != nil {
		t.Fatalf("%v\n%s\n%s", err, a.Tail(), b.Tail())
	}
	seenA, seenB := bob.wait("alice's position", at("1.5")), alice.wait("bob's position", at("3.5"))
	if seenA.Callsign != "RAVEN" || seenA.Form != "frame" || seenB.Callsign != "bob" || !strings.Contains(string(seenA.Raw), `"m-g"`) {
		t.Errorf("%+v\n%+v", seenA, seenB)
	}

	file, hash := packageFile(t)
	cut(t, ctx, a, b, true)
	alice.do(map[string]any{"do": "position", "uid": "ANDROID-aa", "callsign": "RAVEN", "lat": 59.9127, "lon": 10.7461})
	alice.do(map[string]any{"do": "chat", "from": who("ANDROID-aa", "RAVEN"), "to": who(seenB.UID, "bob"), "text": "moving <now> & later"})
	alice.do(map[string]any{"do": "share", "file": file, "uid": "ANDROID-aa", "callsign": "RAVEN", "to": "bob"})
	if up := alice.wait("the upload", func(l line) bool { return l.Event == "shared" || l.Event == "failed" }); up.Hash != hash {
		t.Fatalf("%+v", up)
	}
	awaitSent(t, ctx, a, 2)
	if n := bob.count(event("b-t-f")) + bob.count(event("b-f-t-r")) + alice.count(event("b-t-f-d")); n != 0 {
		t.Fatalf("%d things crossed a cut mesh", n)
	}
	cut(t, ctx, a, b, false)

	chat := bob.wait("the chat", event("b-t-f", "moving", seenA.UID))
	if !strings.Contains(string(chat.Raw), "ANDROID-bb") {
		t.Errorf("chat: %s", chat.Raw)
	}
	bob.wait("the newest position", event("a-f-G-U-C", `59.9127`))
	alice.wait("the receipt", event("b-t-f-d"))
	offer := bob.wait("the offer", event("b-f-t-r", hash, fmt.Sprintf("127.0.0.1:%d", b.https)))
	if !strings.Contains(string(offer.Raw), seenA.UID) {
		t.Errorf("offer: %s", offer.Raw)
	}
	bob.do(map[string]any{"do": "fetch", "hash": hash})
	if f := bob.wait("the download", func(l line) bool { return l.Event == "fetched" || l.Event == "failed" }); f.Hash != hash {
		t.Errorf("%+v", f)
	}
	alice.wait("the acknowledgement of the file", event("b-f-t-a", `"true"`))
	bob.do(map[string]any{"do": "list"})
	if l := bob.wait("the lists", func(l line) bool { return l.Event == "list" || l.Event == "failed" }); !strings.Contains(string(l.List), hash) || len(l.Contacts) != 1 || l.Contacts[0].UID != seenA.UID {
		t.Errorf("%+v", l)
	}
	bob.do(map[string]any{"do": "chat", "from": who("ANDROID-bb", "bob"), "to": who(seenA.UID, "RAVEN"), "text": "copy"})
	alice.wait("the answer", event("b-t-f", "copy"))
	if n := bob.count(event("b-t-f")); n != 1 {
		t.Errorf("bob got %d chats, want 1", n)
	}
	marked(t, ctx, a, bob, seenA.UID)
	withdrawn(t, ctx, b, bob)
}

// marked sends a position once, from alice's page to bob's map, and takes it back.
func marked(t *testing.T, ctx context.Context, a *station, bob *client, alice string) {
	t.Helper()
	if _, err := a.API.Login(ctx, a.user, scenario.UserPassword); err != nil {
		t.Fatal(err)
	}
	m, err := a.API.SendLocation(ctx, "bob", 48.77, 11.77, "rally point")
	if err != nil {
		t.Fatal(err)
	}
	mark := bob.wait("the mark", event("b-m-p-s-m", `"48.77"`, "alice: rally point", alice))
	if mark.Callsign != "alice" || mark.Form != "frame" {
		t.Errorf("%+v", mark)
	}
	if err := a.API.Do(ctx, "POST", "/v1/messages/"+m.ID+"/recall", nil, nil); err != nil {
		t.Fatal(err)
	}
	bob.wait("its removal", event("t-x-d-d", mark.UID))
	if n := bob.count(event("b-m-p-s-m")); n != 1 {
		t.Errorf("bob got %d marks, want 1", n)
	}
}

// withdrawn takes bob's certificate back: the stream ends.
func withdrawn(t *testing.T, ctx context.Context, b *station, bob *client) {
	t.Helper()
	out, err := b.CLI(ctx, "", "--json", "atak", "list")
	if err != nil {
		t.Fatal(err)
	}
	var list struct{ Clients []struct{ ID, Name string } }
	if err := json.Unmarshal([]byte(out), &list); err != nil || len(list.Clients) != 1 || list.Clients[0].Name != "bob" {
		t.Fatalf("%s: %v", out, err)
	}
	if _, err := b.CLI(ctx, "", "atak", "withdraw", list.Clients[0].ID); err != nil {
		t.Fatal(err)
	}
	bob.wait("the end of the stream", func(l line) bool { return l.Event == "end" || l.Event == "error" })
	if _, err := b.CLI(ctx, "", "atak", "withdraw", list.Clients[0].ID); err == nil {
		t.Error("withdrawn twice")
	}
}

func who(uid, callsign string) map[string]string {
	return map[string]string{"uid": uid, "callsign": callsign}
}

// awaitSent waits until the user of a node has n texts and files under way.
func awaitSent(t *testing.T, ctx context.Context, s *station, n int) {
	t.Helper()
	if _, err := s.API.Login(ctx, s.user, scenario.UserPassword); err != nil {
		t.Fatal(err)
	}
	err := scenario.Poll(ctx, "what was sent to be under way", func() (bool, error) {
		list, err := s.API.Inbox(ctx)
		found := 0
		for _, m := range list {
			if m.From.Name == s.user && m.Type != "location" {
				found++
			}
		}
		return found >= n, err
	})
	if err != nil {
		t.Fatal(err)
	}
}

func packageFile(t *testing.T) (file, hash string) {
	t.Helper()
	var b bytes.Buffer
	cot := strings.Repeat("<event/>", 20_000)
	if err := datapkg.Make(&b, datapkg.Manifest{UID: "p1", Name: "ao"}, []datapkg.File{{Path: "9405/9405.cot", Data: []byte(cot)}}); err != nil {
		t.Fatal(err)
	}
	file = filepath.Join(t.TempDir(), "ao.zip")
	if err := os.WriteFile(file, b.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256(b.Bytes())
	return file, hex.EncodeToString(sum[:])
}
