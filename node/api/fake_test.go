package api

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"outrider/mesh/bundle"
	"outrider/mesh/identity"
	"outrider/node/chat"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var (
	alice = identity.UserID{1}
	bob   = identity.UserID{2}
	nodeA = identity.NodeID{0xa}
	nodeB = identity.NodeID{0xb}
	someT = identity.Tag{1, 2, 3, 4, 5, 6, 7, 8}
	aTime = time.Date(2026, 3, 4, 5, 6, 7, 8e6, time.UTC)
)

// fakeChat has two users, Alice and Bob, with the password "open sesame".
type fakeChat struct {
	mu     sync.Mutex
	locked map[identity.UserID]int
	users  map[string]*fakeUser
	logins int
	err    error
}

func newFakeChat() *fakeChat {
	return &fakeChat{
		locked: make(map[identity.UserID]int),
		users: map[string]*fakeUser{
			"Alice": {self: chat.Person{ID: alice, Name: "Alice", Self: true, Here: true}},
			"Bob":   {self: chat.Person{ID: bob, Name: "Bob", Self: true, Here: true}},
		},
	}
}

func (c *fakeChat) Login(_ context.Context, name string, password []byte) (User, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.logins++
	if c.err != nil {
		return nil, c.err
	}
	u := c.users[name]
	if u == nil || string(password) != "open sesame" {
		return nil, chat.ErrPassword
	}
	return u, nil
}

func (c *fakeChat) Lock(id identity.UserID) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.locked[id]++
}

func (c *fakeChat) lockedTimes(id identity.UserID) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.locked[id]
}

func (c *fakeChat) Banner() chat.Banner {
	return chat.Banner{State: chat.BannerContact, Contacts: 2, CoreLast: aTime}
}

func (c *fakeChat) Hosted() []chat.Hosted {
	return []chat.Hosted{{User: alice, Name: "Alice", Unlocked: true}, {User: bob, Name: "Bob", Waiting: 3}}
}

// fakeUser remembers what it was asked for.
type fakeUser struct {
	self chat.Person

	mu    sync.Mutex
	err   error
	draft chat.Draft
	file  chat.FileDraft
	body  []byte
	loc   chat.LocationDraft
	asked chat.MessageID
	limit int
	fakeArchive
}

func (u *fakeUser) fail(err error) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.err = err
}

func (u *fakeUser) problem() error {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.err
}

func (u *fakeUser) sample(id chat.MessageID) chat.Message {
	return chat.Message{
		ID: id, Conversation: chat.ConversationID{9}, From: u.self, To: chat.Person{ID: bob, Name: "Bob"}, Out: true,
		Type: chat.TypeText, Text: "hello", Precedence: bundle.Priority, Sent: aTime, Expires: aTime.Add(time.Hour),
		State: chat.StateQueued, Devices: 1, Reason: chat.Reason{Code: "no_contact", Text: "no neighbour", Hint: "wait"},
	}
}

func (u *fakeUser) Self() chat.Person { return u.self }

func (u *fakeUser) People(context.Context) ([]chat.Person, error) {
	return []chat.Person{u.self, {ID: bob, Name: "Bob", HasKeys: true, Devices: 1}}, u.problem()
}

func (u *fakeUser) Resolve(_ context.Context, s string) (identity.UserID, error) {
	if s == "Bob" || s == bob.String() {
		return bob, nil
	}
	return identity.UserID{}, fmt.Errorf("chat: nobody has that name: %w", chat.ErrNotFound)
}

func (u *fakeUser) Conversations(context.Context) ([]chat.Conversation, error) {
	m := u.sample(chat.MessageID{7})
	return []chat.Conversation{{ID: chat.ConversationID{9}, With: chat.Person{ID: bob, Name: "Bob"}, Last: &m, Unread: 4}}, u.problem()
}

func (u *fakeUser) Messages(_ context.Context, c chat.ConversationID, before chat.MessageID, limit int) ([]chat.Message, error) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.asked, u.limit = before, limit
	if c != (chat.ConversationID{9}) {
		return nil, chat.ErrNotFound
	}
	return []chat.Message{u.sample(chat.MessageID{7})}, u.err
}

func (u *fakeUser) one(id chat.MessageID) (chat.Message, error) {
	if err := u.problem(); err != nil {
		return chat.Message{}, err
	}
	if id != (chat.MessageID{7}) {
		return chat.Message{}, chat.ErrNotFound
	}
	return u.sample(id), nil
}

func (u *fakeUser) Message(_ context.Context, id chat.MessageID) (chat.Message, error) {
	return u.one(id)
}

func (u *fakeUser) Why(_ context.Context, id chat.MessageID) (chat.Why, error) {
	m, err := u.one(id)
	return chat.Why{Message: m, Summary: chat.Sentence{Code: "state_queued"}, Facts: []chat.Sentence{{Code: "contact", Args: map[string]any{"n": 2}}}, Next: chat.Sentence{Code: "next_queued"}}, err
}

func (u *fakeUser) Send(_ context.Context, d chat.Draft) (chat.Message, error) {
	if err := u.problem(); err != nil {
		return chat.Message{}, err
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	u.draft = d
	return u.sample(chat.MessageID{7}), nil
}

func (u *fakeUser) SendFile(_ context.Context, d chat.FileDraft, r io.Reader) (chat.Message, error) {
	b, err := io.ReadAll(r)
	if err != nil {
		return chat.Message{}, fmt.Errorf("chat: read file: %w", err)
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	u.file, u.body = d, b
	m := u.sample(chat.MessageID{7})
	m.Type, m.Text = chat.TypeFile, ""
	m.File = &chat.File{Name: d.Name, Size: uint64(len(b)), MediaType: d.MediaType, Have: 1, Total: 1, Complete: true}
	return m, u.err
}

func (u *fakeUser) SendLocation(_ context.Context, d chat.LocationDraft) (chat.Message, error) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.loc = d
	m := u.sample(chat.MessageID{7})
	m.Type, m.Text, m.Location = chat.TypeLocation, "", &d.Location
	return m, u.err
}

const fileContent = "the file's bytes"

func (u *fakeUser) OpenFile(_ context.Context, id chat.MessageID) (chat.File, io.ReadCloser, error) {
	switch id {
	case chat.MessageID{7}:
		return chat.File{Name: "../../etc/\"pass\r\nwd\u202e.txt", Size: uint64(len(fileContent))}, io.NopCloser(strings.NewReader(fileContent)), nil
	case chat.MessageID{8}:
		return chat.File{Have: 3, Total: 9}, nil, chat.ErrNotComplete
	case chat.MessageID{9}:
		broken := io.MultiReader(strings.NewReader("half"), failingReader{})
		return chat.File{Name: "x", Size: 1000}, io.NopCloser(broken), nil
	}
	return chat.File{}, nil, chat.ErrNotFound
}

type failingReader struct{}

func (failingReader) Read([]byte) (int, error) { return 0, errors.New("leaf is damaged") }

func (u *fakeUser) Retry(_ context.Context, id chat.MessageID) (chat.Message, error) {
	return u.one(id)
}
func (u *fakeUser) Recall(_ context.Context, id chat.MessageID) (chat.Message, error) {
	return u.one(id)
}
func (u *fakeUser) Read(_ context.Context, id chat.MessageID) (chat.Message, error) { return u.one(id) }
func (u *fakeUser) Dismiss(_ context.Context, id chat.MessageID) (chat.Message, error) {
	m, err := u.one(id)
	m.Dismissed = true
	return m, err
}
func (u *fakeUser) Trust(_ context.Context, id identity.UserID, fingerprint string, verified bool) (chat.Person, error) {
	if fingerprint != "12345" {
		return chat.Person{}, chat.ErrOtherKey
	}
	return chat.Person{ID: id, Name: "Bob", Fingerprint: fingerprint, Verified: verified}, u.problem()
}
func (u *fakeUser) Files(_ context.Context, before chat.MessageID, limit int) ([]chat.Message, error) {
	m := u.sample(chat.MessageID{7})
	m.Type, m.File = chat.TypeFile, &chat.File{Name: "a.txt", Size: 3, Have: 3, Total: 3, Complete: true}
	if !before.IsZero() || limit < 1 {
		return nil, u.problem()
	}
	return []chat.Message{m}, u.problem()
}
func (u *fakeUser) Places(context.Context) ([]chat.Message, error) {
	m := u.sample(chat.MessageID{7})
	m.Type, m.Location = chat.TypeLocation, &chat.Location{Lat: 48.5, Lon: 11.25, Live: true}
	return []chat.Message{m}, u.problem()
}
func (u *fakeUser) Failures(context.Context) ([]chat.Message, error) {
	return []chat.Message{u.sample(chat.MessageID{7})}, u.problem()
}

// fakeNode is the node, its bundles and its provisioning.
type fakeNode struct {
	mu      sync.Mutex
	blocked map[identity.NodeID]bool
	raw     RawBundle
	added   NewUser
	err     error
}

func (n *fakeNode) Status(context.Context) Status {
	return Status{
		Node: nodeA, Network: identity.NetworkID{5}, NetworkName: "eagle", Version: "v0", Uptime: 90 * time.Second,
		Bundles: 3, Bytes: 400, LimitBytes: 1000, Contacts: 2, Warnings: []string{"node_ends"},
	}
}

func (n *fakeNode) Peers(context.Context) []Peer {
	return []Peer{{ID: nodeB, Name: "bravo", Up: true, LastHeard: aTime}}
}

func (n *fakeNode) Links(context.Context) []Link {
	return []Link{{Peer: nodeB, Name: "bravo", Addr: "192.0.2.1:7411", Class: "lan", Up: true, Since: aTime, TxBytes: 5, RxBytes: 6}}
}

func (n *fakeNode) Contacts(context.Context) ([]Contact, error) {
	return []Contact{{Peer: nodeB, Name: "bravo", Class: "lan", Start: aTime, TxBytes: 5, RxBytes: 6, Times: 2}}, n.err
}

func (n *fakeNode) SetLink(_ context.Context, id identity.NodeID, up bool) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.blocked[id] = !up
	return n.err
}

func (n *fakeNode) SubmitRaw(_ context.Context, b RawBundle) (bundle.ID, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.raw = b
	return bundle.ID{4}, n.err
}

func (n *fakeNode) Arrived(ctx context.Context, tag identity.Tag, each func(RawArrived) error) error {
	if tag != someT {
		return errors.New("another tag")
	}
	if err := each(RawArrived{ID: bundle.ID{6}, SHA256: [32]byte{7}, Size: 8}); err != nil {
		return err
	}
	<-ctx.Done()
	return nil
}

func (n *fakeNode) Network(context.Context) (Network, error) {
	if n.err != nil {
		return Network{}, n.err
	}
	return Network{ID: identity.NetworkID{5}, Name: "eagle", Preset: "standard", Fingerprint: "one two", Admin: true}, nil
}

func (n *fakeNode) AddUser(_ context.Context, u NewUser) (AddedUser, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.added = u
	if n.err != nil {
		return AddedUser{}, n.err
	}
	return AddedUser{Name: u.Name, Link: "outrider://c/#X", PageLink: "https://a:7443/c/#X", Password: "six words", Expires: aTime}, nil
}

func (n *fakeNode) Join(_ context.Context, j NewJoin) (Joined, error) {
	if j.Link != "outrider://c/#X" {
		return Joined{}, hinted{fmt.Errorf("the j.Link is damaged: %w", ErrLink), "copy it again, whole"}
	}
	return Joined{Network: identity.NetworkID{5}, NetworkName: "eagle", User: bob, Name: "Bob", Hint: "nobody answered on 7411"}, nil
}

type hinted struct {
	error
	hint string
}

func (h hinted) Hint() string  { return h.hint }
func (h hinted) Unwrap() error { return h.error }

// A bench is a server with fakes behind it and a clock to turn.
type bench struct {
	t    *testing.T
	chat *fakeChat
	node *fakeNode
	hub  *Hub
	srv  *Server
	h    http.Handler

	mu  sync.Mutex
	now time.Time
}

func newBench(t *testing.T, change ...func(*Config)) *bench {
	b := &bench{t: t, chat: newFakeChat(), node: &fakeNode{blocked: make(map[identity.NodeID]bool)}, hub: NewHub(), now: aTime}
	cfg := Config{
		Chat: b.chat, Node: b.node, Bundles: b.node, Provision: b.node, Hub: b.hub, Hosts: []string{"Node.local"},
		Web: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, "page "+r.URL.Path) }),
		Now: b.clock,
	}
	for _, c := range change {
		c(&cfg)
	}
	b.srv = New(cfg)
	b.h = b.srv.Handler()
	return b
}

func (b *bench) clock() time.Time {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.now
}

func (b *bench) pass(d time.Duration) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.now = b.now.Add(d)
}

// A req is a request to be changed before it is sent.
type req struct {
	*http.Request
	b *bench
}

// page makes a request as our own page in a browser on the machine would.
func (b *bench) page(method, path, body string) req {
	r := httptest.NewRequest(method, "http://localhost:7480"+path, strings.NewReader(body))
	r = r.WithContext(withOrigin(r.Context(), fromPage))
	r.RemoteAddr = "127.0.0.1:50000"
	r.Header.Set("Origin", "http://localhost:7480")
	r.Header.Set("Sec-Fetch-Site", "same-origin")
	r.Header.Set("X-Outrider", "1")
	if body != "" {
		r.Header.Set("Content-Type", "application/json")
	}
	return req{r, b}
}

// socket makes a request as a program of the operator would.
func (b *bench) socket(method, path, body string) req {
	r := httptest.NewRequest(method, "http://outrider"+path, strings.NewReader(body))
	r = r.WithContext(withOrigin(r.Context(), fromSocket))
	r.RemoteAddr = "@"
	if body != "" {
		r.Header.Set("Content-Type", "application/json")
	}
	return req{r, b}
}

func (r req) with(key, value string) req {
	r.Header.Set(key, value)
	return r
}

func (r req) without(key string) req {
	r.Header.Del(key)
	return r
}

func (r req) from(addr string) req {
	r.RemoteAddr = addr
	return r
}

func (r req) at(host string) req {
	r.Host = host
	return r
}

func (r req) cookie(token string) req {
	r.Request.AddCookie(&http.Cookie{Name: cookieName, Value: token})
	return r
}

func (r req) bearer(token string) req { return r.with("Authorization", "Bearer "+token) }

func (r req) do() *httptest.ResponseRecorder {
	w := httptest.NewRecorder()
	r.b.h.ServeHTTP(w, r.Request)
	return w
}

// want sends the request and checks status and, for errors, the code.
func (r req) want(status int, code string) *httptest.ResponseRecorder {
	r.b.t.Helper()
	w := r.do()
	if w.Code != status {
		r.b.t.Fatalf("%s %s: status %d, want %d: %s", r.Method, r.URL, w.Code, status, w.Body)
	}
	if code != "" && !bytes.Contains(w.Body.Bytes(), []byte(`"code":"`+code+`"`)) {
		r.b.t.Fatalf("%s %s: answer %s, want code %s", r.Method, r.URL, w.Body, code)
	}
	return w
}

// login returns a token that was got in the browser's way and in a program's.
func (b *bench) login(name string) string {
	b.t.Helper()
	w := b.socket("POST", "/v1/session", `{"user":"`+name+`","password":"open sesame"}`).want(201, "")
	return field(b.t, w, "token")
}

func serveOn(t *testing.T, s *Server) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	return func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run: %v", err)
		}
	}
}

func listen(t *testing.T) net.Listener {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return ln
}
