package atak

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"maps"
	"net"
	"net/http"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
	pkcs12 "software.sslmate.com/src/go-pkcs12"

	"outrider/atak/cot"
	"outrider/atak/tak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(settling{m}) }

// settling gives what the last test left behind the time to end, which on a
// busy machine is more than goleak does.
type settling struct{ *testing.M }

func (s settling) Run() int {
	code := s.M.Run()
	for end := time.Now().Add(patience); goleak.Find() != nil && time.Now().Before(end); {
	}
	return code
}

// patience is how long a test waits for what must happen.
const patience = time.Minute

// A mesh is an honest stand-in for chat and the network: messages are kept per
// user, cross when it is not cut, once, and every change is told.
type mesh struct {
	mu    sync.Mutex
	cut   bool
	next  int
	users map[PersonID]*fakeUser
	acts  map[string]MessageID
	held  []func() // what waits for the cut to end

	toArchive int // messages to a reader of the archive, which were refused
}

type fakeUser struct {
	mesh     *mesh
	node     *Server
	self     Person
	key      [32]byte
	messages []*fakeMessage
	open     int
	fail     error
}

type fakeMessage struct {
	Message
	body  []byte
	other *fakeMessage
}

func (m *mesh) person(name string) PersonID { return PersonID("id-" + name) }

func (u *fakeUser) Self() Person       { return u.self }
func (u *fakeUser) SpoolKey() [32]byte { return u.key }
func (u *fakeUser) Close()             { u.mesh.mu.Lock(); u.open--; u.mesh.mu.Unlock() }
func (u *fakeUser) People(context.Context) ([]Person, error) {
	u.mesh.mu.Lock()
	defer u.mesh.mu.Unlock()
	var out []Person
	for _, id := range slices.Sorted(maps.Keys(u.mesh.users)) {
		out = append(out, u.mesh.users[id].self)
	}
	return out, nil
}

func (u *fakeUser) SendText(_ context.Context, to PersonID, text, once string) (MessageID, error) {
	return u.send(to, once, Message{Kind: Text, Text: text}, nil)
}

func (u *fakeUser) SendPosition(_ context.Context, to PersonID, p Position) error {
	_, err := u.send(to, "", Message{Kind: Place, Position: p}, nil)
	return err
}

func (u *fakeUser) SendFile(_ context.Context, to PersonID, name, once string, r io.Reader) (MessageID, error) {
	b, err := io.ReadAll(r)
	if err != nil {
		return "", err
	}
	return u.send(to, once, Message{Kind: Package, File: File{Name: name, Size: int64(len(b)), Complete: true}}, b)
}

func (u *fakeUser) send(to PersonID, once string, m Message, body []byte) (MessageID, error) {
	w := u.mesh
	w.mu.Lock()
	defer w.mu.Unlock()
	peer := w.users[to]
	switch {
	case u.fail != nil:
		return "", u.fail
	case peer == nil || peer == u:
		return "", ErrNotFound
	case peer.self.Archive:
		w.toArchive++
		return "", errors.New("an archive reader is written to by nobody")
	}
	if id, ok := w.acts[once]; ok && once != "" {
		return id, nil
	}
	w.next++
	out, in := m, m
	out.ID, in.ID = MessageID("out"+strconv.Itoa(w.next)), MessageID("in"+strconv.Itoa(w.next))
	w.acts[once] = out.ID
	out.Out, out.Peer, in.Peer, in.Unread = true, peer.self, u.self, true
	out.Sent, in.Sent = time.Now(), time.Now()
	mine, theirs := &fakeMessage{Message: out, body: body}, &fakeMessage{Message: in, body: body}
	theirs.other = mine
	u.messages = append(u.messages, mine)
	w.later(func() {
		if m.Kind == Place {
			peer.messages = slices.DeleteFunc(peer.messages, func(o *fakeMessage) bool { return o.Kind == Place && o.Peer.ID == u.self.ID })
		}
		peer.messages = append(peer.messages, theirs)
		peer.node.Update(to, theirs.Message)
		mine.Delivered = true
		u.node.Update(u.self.ID, mine.Message)
	})
	return out.ID, nil
}

// later does what crosses the mesh; the caller holds mu.
func (w *mesh) later(do func()) {
	if w.cut {
		w.held = append(w.held, do)
		return
	}
	do()
}

func (w *mesh) setCut(cut bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.cut = cut
	for !cut && len(w.held) > 0 {
		do := w.held[0]
		w.held = w.held[1:]
		do()
	}
}

func (u *fakeUser) find(id MessageID) *fakeMessage {
	for _, m := range u.messages {
		if m.ID == id {
			return m
		}
	}
	return nil
}

func (u *fakeUser) OpenFile(_ context.Context, id MessageID) (io.ReadCloser, error) {
	u.mesh.mu.Lock()
	defer u.mesh.mu.Unlock()
	if m := u.find(id); m != nil {
		return io.NopCloser(bytes.NewReader(m.body)), nil
	}
	return nil, ErrNotFound
}

func (u *fakeUser) Read(_ context.Context, id MessageID) error {
	u.mesh.mu.Lock()
	defer u.mesh.mu.Unlock()
	m := u.find(id)
	if m == nil || m.Out {
		return ErrNotFound
	}
	m.Unread = false
	u.mesh.later(func() {
		m.other.Read = true
		peer := u.mesh.users[m.Peer.ID]
		peer.node.Update(m.Peer.ID, m.other.Message)
	})
	return nil
}

func (u *fakeUser) Unread(_ context.Context, n int) (out []Message, err error) {
	return u.filter(func(m *fakeMessage) bool { return !m.Out && m.Unread && m.Kind != Place && m.Kind != Mark })
}

func (u *fakeUser) Positions(_ context.Context, marks int) ([]Message, error) {
	return u.filter(func(m *fakeMessage) bool { return !m.Out && (m.Kind == Place || m.Kind == Mark) })
}

func (u *fakeUser) filter(keep func(*fakeMessage) bool) (out []Message, err error) {
	u.mesh.mu.Lock()
	defer u.mesh.mu.Unlock()
	for _, m := range u.messages {
		if keep(m) {
			out = append(out, m.Message)
		}
	}
	return out, nil
}

// accounts opens the users of one node.
type accounts struct {
	mesh      *mesh
	withdrawn map[string]bool
}

func (a *accounts) Open(_ context.Context, c Credential) (User, error) {
	a.mesh.mu.Lock()
	defer a.mesh.mu.Unlock()
	u := a.mesh.users[c.User]
	if u == nil || a.withdrawn[c.Serial] {
		return nil, ErrRefused
	}
	u.open++
	return u, nil
}

// A node is one bridge that runs, with its user.
type node struct {
	t        *testing.T
	mesh     *mesh
	srv      *Server
	user     *fakeUser
	ca       *CA
	accounts *accounts
	cfg      Config
	stop     func()
}

var cas [3]func() *CA // RSA keys take a while; each node has one for all tests

func init() {
	for i := range cas {
		cas[i] = sync.OnceValue(func() *CA {
			dir, err := os.MkdirTemp("", "ca")
			if err != nil {
				panic(err)
			}
			defer os.RemoveAll(dir)
			ca, err := OpenCA(dir)
			if err != nil {
				panic(err)
			}
			return ca
		})
	}
}

// world makes nodes with one user each.
func world(t *testing.T, names ...string) []*node {
	w := &mesh{users: make(map[PersonID]*fakeUser), acts: make(map[string]MessageID)}
	var out []*node
	for i, name := range names {
		n := &node{t: t, mesh: w, ca: cas[i](), accounts: &accounts{w, map[string]bool{}}}
		n.user = &fakeUser{mesh: w, self: Person{ID: w.person(name), Name: name, Keys: true}, key: [32]byte{byte(i + 1)}}
		n.cfg = Config{
			Stream: "127.0.0.1:0", HTTPS: "127.0.0.1:0", Version: "test", ShareWith: []string{"*"}, Interval: time.Millisecond,
			Dir: t.TempDir(), CA: n.ca, Hosts: []string{"127.0.0.1"}, Accounts: n.accounts,
		}
		w.mu.Lock()
		w.users[n.user.self.ID] = n.user
		w.mu.Unlock()
		n.start()
		out = append(out, n)
	}
	return out
}

func (n *node) start() {
	n.srv = New(n.cfg)
	n.mesh.mu.Lock() // the other nodes may be telling
	n.user.node = n.srv
	n.mesh.mu.Unlock()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- n.srv.Run(ctx) }()
	n.stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			n.t.Errorf("run: %v", err)
		}
	})
	n.t.Cleanup(n.stop)
	select {
	case <-n.srv.Ready():
	case <-time.After(patience):
		n.t.Fatal("the bridge does not listen")
	}
}

// eventually waits until the node's counters are as they must become.
func (n *node) eventually(what string, holds func(Stats) bool) {
	n.t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	end := time.After(patience)
	for !holds(n.srv.Stats()) {
		select {
		case <-tick.C:
		case <-end:
			n.t.Fatalf("never happened: %s: %+v", what, n.srv.Stats())
		}
	}
}

// enrol makes a client's certificate by way of its connection package.
func (n *node) enrol() (tls.Certificate, Credential) {
	cred, err := NewCredential(n.user.self.ID)
	if err != nil {
		n.t.Fatal(err)
	}
	_, store, err := n.ca.keyStores(cred)
	if err != nil {
		n.t.Fatal(err)
	}
	key, cert, _, err := pkcs12.DecodeChain(store, Password)
	if err != nil {
		n.t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{cert.Raw}, PrivateKey: key}, cred
}

func (n *node) tls(cert ...tls.Certificate) *tls.Config {
	pool := x509.NewCertPool()
	pool.AddCert(n.ca.cert)
	return &tls.Config{RootCAs: pool, Certificates: cert, ServerName: "127.0.0.1"}
}

// A device is a TAK client: version 0 until it asks for version 1.
type device struct {
	*node
	uid, callsign string
	cert          tls.Certificate
	conn          net.Conn
	events        chan cot.Event
	frames        chan bool // of each event, whether it came as a frame
	v1            bool
	passed        []cot.Event // read and not asked for yet
}

func (n *node) connect(uid, callsign string, cert tls.Certificate) *device {
	n.t.Helper()
	addr, _ := n.srv.Addrs()
	conn, err := tls.Dial("tcp", addr.String(), n.tls(cert))
	if err != nil {
		n.t.Fatal(err)
	}
	d := &device{node: n, uid: uid, callsign: callsign, cert: cert, conn: conn, events: make(chan cot.Event, 1000), frames: make(chan bool, 1000)}
	done := make(chan struct{})
	go func() {
		defer close(done)
		defer close(d.events)
		r := tak.NewReader(conn)
		for {
			m, err := r.Next()
			if err != nil {
				return
			}
			e, _, err := parseMessage(m)
			if err != nil {
				n.t.Errorf("the bridge sent what cannot be read: %v", err)
				return
			}
			d.events <- e
			d.frames <- m.Proto
		}
	}()
	n.t.Cleanup(func() { conn.Close(); <-done })
	return d
}

// device connects and says who it is.
func (n *node) device(uid, callsign string) *device {
	n.t.Helper()
	cert, _ := n.enrol()
	d := n.connect(uid, callsign, cert)
	d.here(1, 2)
	return d
}

func (d *device) send(e cot.Event) {
	d.t.Helper()
	b := tak.AppendDocument(nil, e.XML())
	if d.v1 {
		b = tak.AppendFrame(nil, e.Proto())
	}
	d.raw(b)
}

func (d *device) raw(b []byte) {
	d.t.Helper()
	if _, err := d.conn.Write(b); err != nil {
		d.t.Fatal(err)
	}
}

func made(uid, kind, how string, holds time.Duration, detail ...cot.Element) cot.Event {
	now := time.Now().UTC().Truncate(time.Millisecond)
	return cot.Event{UID: uid, Type: kind, How: how, Time: now, Start: now, Stale: now.Add(holds), Point: cot.NoPoint, Detail: detail}
}

// here is the device's own position.
func (d *device) here(lat, lon float64) {
	d.t.Helper()
	e := made(d.uid, "a-f-G-U-C", "m-g", 75*time.Second, cot.E("contact", "callsign", d.callsign, "endpoint", viaServer),
		cot.E("takv", "device", "x", "platform", "test", "os", "1", "version", "1"), cot.E("track", "speed", "1.5", "course", "90"))
	e.Point = cot.Point{Lat: lat, Lon: lon, HAE: 41.5, CE: 5, LE: cot.Unknown}
	d.send(e)
}

func (d *device) chat(to PersonID, id, text string) cot.Event {
	e := made("GeoChat."+d.uid+"."+uidOf(to)+"."+id, "b-t-f", "h-g-i-g-o", 24*time.Hour,
		cot.E("__chat", "parent", "RootContactGroup", "groupOwner", "false", "messageId", id, "chatroom", "Bravo", "id", uidOf(to), "senderCallsign", d.callsign).
			With(cot.E("chatgrp", "uid0", d.uid, "uid1", uidOf(to), "id", uidOf(to))),
		cot.E("link", "uid", d.uid, "type", "a-f-G-U-C", "relation", "p-p"))
	r := cot.E("remarks", "source", "BAO.F.ATAK."+d.uid, "to", uidOf(to))
	r.Text = text
	e.Detail = append(e.Detail, r)
	return e
}

// wait returns the first event that fits; others stay for later calls.
func (d *device) wait(what string, fits func(cot.Event) bool) cot.Event {
	d.t.Helper()
	if i := slices.IndexFunc(d.passed, fits); i >= 0 {
		e := d.passed[i]
		d.passed = slices.Delete(d.passed, i, i+1)
		return e
	}
	timer := time.NewTimer(patience)
	defer timer.Stop()
	for {
		select {
		case e, ok := <-d.events:
			if !ok {
				d.t.Fatalf("%s: the connection ended", what)
			}
			if fits(e) {
				return e
			}
			d.passed = append(d.passed, e)
		case <-timer.C:
			d.t.Fatalf("%s never came; %d others did", what, len(d.passed))
		}
	}
}

func (d *device) waitType(kind string) cot.Event {
	d.t.Helper()
	return d.wait(kind, func(e cot.Event) bool { return e.Type == kind })
}

func (d *device) waitText(part string) cot.Event {
	d.t.Helper()
	return d.wait("a chat with "+part, func(e cot.Event) bool {
		r := e.Find("remarks")
		return e.Type == "b-t-f" && r != nil && strings.Contains(r.Text, part)
	})
}

// quiet asserts that nothing that fits came before the answer to a ping.
func (d *device) quiet(what string, fits func(cot.Event) bool) {
	d.t.Helper()
	d.send(made(d.uid+"-ping", "t-x-c-t", "m-g", 10*time.Second))
	for {
		e := d.wait("an answer to the ping", func(cot.Event) bool { return true })
		if fits(e) {
			d.t.Errorf("%s came: %s %s", what, e.Type, e.UID)
		}
		if e.Type == "t-x-c-t-r" {
			return
		}
	}
}

func (d *device) waitEnd() {
	d.t.Helper()
	timer := time.NewTimer(patience)
	defer timer.Stop()
	for {
		select {
		case _, ok := <-d.events:
			if !ok {
				return
			}
		case <-timer.C:
			d.t.Fatal("the connection is still open")
		}
	}
}

// http asks the HTTPS interface.
func (n *node) http(cert tls.Certificate, method, path, contentType string, body io.Reader) (int, string, http.Header) {
	n.t.Helper()
	tr := &http.Transport{TLSClientConfig: n.tls(cert)}
	defer tr.CloseIdleConnections()
	_, files := n.srv.Addrs()
	req, err := http.NewRequest(method, "https://"+files.String()+path, body)
	if err != nil {
		n.t.Fatal(err)
	}
	req.Header.Set("Content-Type", contentType)
	resp, err := (&http.Client{Transport: tr, Timeout: patience}).Do(req)
	if err != nil {
		n.t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil && !errors.Is(err, io.ErrUnexpectedEOF) {
		n.t.Fatal(err)
	}
	return resp.StatusCode, string(b), resp.Header
}
