// Package fakeapi is a stand-in for a node's HTTP interface (node/api/API.md):
// the user's calls with their strictness, sessions and events, over a world
// that a test sets up and changes while a browser looks at it. It can also fail
// the ways a node fails: stop, come back without its sessions, cut the event
// stream, lose the answer to a request it has carried out.
package fakeapi

import (
	"crypto/rand"
	"encoding/base32"
	"fmt"
	"math"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"time"
)

// A Person is a user as the API names them.
type Person struct {
	ID   string `json:"id"`
	Name string `json:"name"`
}

// A User is a known person with what the roster says of them.
type User struct {
	Person
	Self    bool `json:"self"`
	Here    bool `json:"here"`
	HasKeys bool `json:"has_keys"`
	Devices int  `json:"devices"`

	Fingerprint string `json:"fingerprint,omitempty"`
	Verified    bool   `json:"verified"`
	KeyChanged  bool   `json:"key_changed"`
	Frozen      bool   `json:"frozen,omitempty"`
}

// A File is an attachment.
type File struct {
	Name      string `json:"name"`
	Size      int64  `json:"size"`
	MediaType string `json:"media_type"`
	Have      int64  `json:"have"`
	Total     int64  `json:"total"`
	Complete  bool   `json:"complete"`
}

// A Location is a shared position.
type Location struct {
	Lat       float64 `json:"lat"`
	Lon       float64 `json:"lon"`
	AccuracyM int     `json:"accuracy_m,omitempty"`
	Note      string  `json:"note,omitempty"`

	Live      bool       `json:"live,omitempty"`
	Time      *time.Time `json:"time,omitempty"`
	StaleAt   *time.Time `json:"stale_at,omitempty"`
	LiveUntil *time.Time `json:"live_until,omitempty"`
}

// A Share is a live share of the account's position.
type Share struct {
	To       Person    `json:"to"`
	Until    time.Time `json:"until"`
	EveryS   int       `json:"every_s"`
	Source   string    `json:"source"`
	Lat, Lon float64   `json:"-"` // of source entered
	ForS     int       `json:"-"`
}

// A Place is where the account's device said it is.
type Place struct{ Lat, Lon, AccuracyM float64 }

// Delivered counts devices.
type Delivered struct {
	N int `json:"n"`
	M int `json:"m"`
}

// A Message is one entry of a conversation.
type Message struct {
	ID           string     `json:"id"`
	Conversation string     `json:"conversation"`
	From         Person     `json:"from"`
	To           Person     `json:"to"`
	Outgoing     bool       `json:"outgoing"`
	Type         string     `json:"type"`
	Text         *string    `json:"text,omitempty"`
	File         *File      `json:"file,omitempty"`
	Location     *Location  `json:"location,omitempty"`
	Precedence   string     `json:"precedence"`
	Sent         time.Time  `json:"sent"`
	Received     *time.Time `json:"received,omitempty"`
	Expires      time.Time  `json:"expires"`
	State        string     `json:"state"`
	Delivered    *Delivered `json:"delivered,omitempty"`
	ReasonCode   string     `json:"reason_code,omitempty"`
	Reason       string     `json:"reason,omitempty"`
	Hint         string     `json:"hint,omitempty"`
	Hops         *int       `json:"hops,omitempty"`
	Unread       bool       `json:"unread"`
	Dismissed    bool       `json:"dismissed,omitempty"`
	Withheld     string     `json:"withheld,omitempty"`
}

// A Why explains a message.
type Why struct {
	Summary string   `json:"summary"`
	Facts   []string `json:"facts"`
	Next    string   `json:"next"`
	Todo    string   `json:"todo"`

	SummarySaid *Sentence  `json:"summary_said,omitempty"`
	FactsSaid   []Sentence `json:"facts_said,omitempty"`
	NextSaid    *Sentence  `json:"next_said,omitempty"`
	TodoSaid    *Sentence  `json:"todo_said,omitempty"`
}

// A Sentence is a sentence as code and arguments.
type Sentence struct {
	Code string         `json:"code"`
	Args map[string]any `json:"args,omitempty"`
}

// A Contact is a time when a node was near.
type Contact struct {
	Node    string     `json:"node"`
	Name    string     `json:"name"`
	Class   string     `json:"class"`
	Start   time.Time  `json:"start"`
	End     *time.Time `json:"end"`
	TxBytes int64      `json:"tx_bytes"`
	RxBytes int64      `json:"rx_bytes"`
	Times   int        `json:"times"`
}

// A Link is one neighbour's link.
type Link struct {
	Node      string     `json:"node"`
	Name      string     `json:"name"`
	Addr      string     `json:"addr"`
	Class     string     `json:"class"`
	Up        bool       `json:"up"`
	Since     *time.Time `json:"since"`
	TxBytes   int64      `json:"tx_bytes"`
	RxBytes   int64      `json:"rx_bytes"`
	LastHeard *time.Time `json:"last_heard"`
	Blocked   bool       `json:"blocked"`
}

// A Banner is the node's situation.
type Banner struct {
	State    string     `json:"state"`
	Contacts int        `json:"contacts"`
	CoreLast *time.Time `json:"core_last"`
}

// A Request is what a test may want to know of one that came.
type Request struct {
	Method, Path, LastEventID string
}

// A Server is the fake node. All its methods may be called at any time.
type Server struct {
	http *httptest.Server
	page http.Handler

	mu       sync.Mutex
	me       Person
	password string
	sessions map[string]bool
	users    []User
	messages []*Message // of all conversations, oldest first
	content  map[string][]byte
	why      map[string]Why
	links    []Link
	contacts []Contact
	banner   Banner
	fix      map[string]any // the node's own position; nil: none
	shares   []Share
	told     []Place
	warnings []Warning
	archive  []string // names of those who archive
	forbids  string   // the group whose policy forbids files and positions
	version  string
	name     string
	epoch    int
	events   []event
	changed  chan struct{} // closed at each event, cut or stop
	cut      int           // streams opened before this number end
	streams  int
	requests []Request
	down     bool
	noEvents bool
	limit    time.Duration
	loseSend bool // the answer of the next message is lost
	killed   bool // and the node stops with it
	slowCSS  time.Duration
	fail     map[string]apiError // by "METHOD path"
	once     map[string]*Message // by Idempotency-Key
	held     chan struct{}       // answers to heldCall wait until it is closed
	heldCall string              // "POST /v1/messages": method and end of the path
}

type event struct {
	kind string
	data any
}

// New starts a fake node that serves page and has one account.
func New(page http.Handler, name, password string) *Server {
	s := &Server{
		page: page, me: Person{ID: NewID(), Name: name}, password: password, sessions: make(map[string]bool),
		content: make(map[string][]byte), why: make(map[string]Why), changed: make(chan struct{}), fail: make(map[string]apiError), once: make(map[string]*Message),
		version: "1.0.0", name: "Alpha", banner: Banner{State: "alone"},
	}
	s.users = []User{{Person: s.me, Self: true, Here: true, HasKeys: true, Devices: 1, Fingerprint: fingerprint(0)}}
	s.http = httptest.NewServer(http.HandlerFunc(s.serve))
	return s
}

// URL is the page's address.
func (s *Server) URL() string { return s.http.URL }

// Close ends the server and its streams.
func (s *Server) Close() {
	s.mu.Lock()
	s.cut = math.MaxInt // those too that come just now
	s.wake()
	s.mu.Unlock()
	s.http.CloseClientConnections()
	s.http.Close()
}

var idText = base32.NewEncoding("abcdefghijklmnopqrstuvwxyz234567").WithPadding(base32.NoPadding)

// NewID makes an id as the API has them.
func NewID() string {
	var b [16]byte
	rand.Read(b[:])
	return idText.EncodeToString(b[:])
}

// Me is the account's person.
func (s *Server) Me() Person {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.me
}

// wake tells the streams that something changed. The lock is held.
func (s *Server) wake() {
	close(s.changed)
	s.changed = make(chan struct{})
}

// publish adds an event. The lock is held.
func (s *Server) publish(kind string, data any) {
	s.events = append(s.events, event{kind, data})
	s.wake()
}

// AddUser makes a person known and returns them.
func (s *Server) AddUser(name string, hasKeys bool, devices int) Person {
	s.mu.Lock()
	defer s.mu.Unlock()
	p := Person{ID: NewID(), Name: name}
	s.users = append(s.users, User{Person: p, HasKeys: hasKeys, Devices: devices, Fingerprint: fingerprint(len(s.users))})
	s.publish("contact", struct{}{})
	return p
}

// fingerprint is that of the nth person's key.
func fingerprint(n int) string {
	return fmt.Sprintf("%05d 00917 55120 39044 71286 %05d", 48213+7*n, 62035+n)
}

// conversationOf is the id of the conversation with a person.
func conversationOf(p Person) string { return "c" + p.ID }

// base is a message as it would be now, between the account and a person.
func (s *Server) base(with Person, outgoing bool) *Message {
	now := time.Now().UTC().Truncate(time.Millisecond)
	m := &Message{
		ID: NewID(), Conversation: conversationOf(with), Outgoing: outgoing, Type: "text", Precedence: "routine",
		Sent: now, Expires: now.Add(30 * 24 * time.Hour),
	}
	if outgoing {
		m.From, m.To, m.State, m.Delivered = s.me, with, "queued", &Delivered{0, 1}
		return m
	}
	hops := 2
	m.From, m.To, m.State, m.Received, m.Unread, m.Hops = with, s.me, "delivered", &now, true, &hops
	return m
}

// Receive lets a message from a person arrive. change may alter it first.
func (s *Server) Receive(from Person, text string, change func(*Message)) *Message {
	return s.put(from, false, text, change)
}

// Sent puts a message that the account sent earlier.
func (s *Server) Sent(to Person, text string, change func(*Message)) *Message {
	return s.put(to, true, text, change)
}

func (s *Server) put(with Person, outgoing bool, text string, change func(*Message)) *Message {
	s.mu.Lock()
	defer s.mu.Unlock()
	m := s.base(with, outgoing)
	m.Text = &text
	if change != nil {
		change(m)
	}
	if m.Type != "text" {
		m.Text = nil
	}
	s.messages = append(s.messages, m)
	s.publish("message", *m)
	return m
}

// Update changes a message and tells the page.
func (s *Server) Update(id string, change func(*Message)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	m := s.find(id)
	if m == nil {
		panic("fakeapi: no message " + id)
	}
	kind := "state"
	if m.File != nil && m.File.Have < m.File.Total {
		kind = "file"
	}
	change(m)
	s.publish(kind, *m)
}

func (s *Server) find(id string) *Message {
	i := slices.IndexFunc(s.messages, func(m *Message) bool { return m.ID == id })
	if i < 0 {
		return nil
	}
	return s.messages[i]
}

// Messages returns copies of all messages, oldest first.
func (s *Server) Messages() []Message {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := make([]Message, len(s.messages))
	for i, m := range s.messages {
		out[i] = *m
	}
	return out
}

// SetContent gives a file message its bytes.
func (s *Server) SetContent(id string, data []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.content[id] = data
}

// Content returns the bytes of a file that was sent.
func (s *Server) Content(id string) []byte {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.content[id]
}

// SetWhy explains a message.
func (s *Server) SetWhy(id string, w Why) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.why[id] = w
}

// SetBanner changes the node's situation.
func (s *Server) SetBanner(b Banner) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.banner = b
	s.publish("banner", b)
}

// SetContacts sets who was near, the newest first.
func (s *Server) SetContacts(c ...Contact) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.contacts = c
}

// SetUser changes what is known of a person.
func (s *Server) SetUser(id string, change func(*User)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i := range s.users {
		if s.users[i].ID == id {
			change(&s.users[i])
		}
	}
	s.publish("contact", struct{}{})
}

// SetLinks changes the neighbours.
func (s *Server) SetLinks(links ...Link) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.links = links
	for _, l := range links {
		s.publish("link", l)
	}
}

// SetName names the node; SetVersion its version, as after an upgrade.
func (s *Server) SetName(name string) { s.mu.Lock(); defer s.mu.Unlock(); s.name = name }

// SetVersion changes the version the node tells.
func (s *Server) SetVersion(v string) { s.mu.Lock(); defer s.mu.Unlock(); s.version = v }

// Restart forgets sessions and events, as a node does that was killed.
func (s *Server) Restart() {
	s.mu.Lock()
	clear(s.sessions)
	s.epoch++
	s.events = nil
	s.cut = s.streams + 1
	s.wake()
	s.mu.Unlock()
	s.http.CloseClientConnections()
}

// Stop answers nothing any more: every connection is closed. Start ends it.
func (s *Server) Stop() {
	s.mu.Lock()
	s.down = true
	s.cut = s.streams + 1
	s.wake()
	s.mu.Unlock()
	s.http.CloseClientConnections()
}

// Start answers again after Stop.
func (s *Server) Start() { s.mu.Lock(); defer s.mu.Unlock(); s.down = false }

// CutStreams ends open event streams; they may come back and resume.
func (s *Server) CutStreams() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.cut = s.streams + 1
	s.wake()
}

// DropEvents forgets the events so far and cuts the streams: those that come
// back are told to load everything anew.
func (s *Server) DropEvents() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.epoch++
	s.events = nil
	s.cut = s.streams + 1
	s.wake()
}

// PutSilently lets a message arrive of which no event tells.
func (s *Server) PutSilently(from Person, text string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	m := s.base(from, false)
	m.Text = &text
	s.messages = append(s.messages, m)
}

// RefuseStreams refuses event streams, as a proxy in between may.
func (s *Server) RefuseStreams(refuse bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.noEvents = refuse
	if refuse {
		s.cut = s.streams + 1
		s.wake()
	}
}

// LimitLogins refuses logins and names a wait; 0 ends it.
func (s *Server) LimitLogins(wait time.Duration) { s.mu.Lock(); defer s.mu.Unlock(); s.limit = wait }

// LoseNextAnswer takes the next message that is sent, but closes the connection
// in place of an answer. With killed the node then stops, as one does that is
// killed just after a message became durable; Start ends that.
func (s *Server) LoseNextAnswer(killed bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.loseSend, s.killed = true, killed
}

// HoldAnswers carries calls out but keeps back the answers until release is
// called. The call is a method and the end of a path, "POST /v1/messages".
func (s *Server) HoldAnswers(call string) (release func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	held := make(chan struct{})
	s.held, s.heldCall = held, call
	return sync.OnceFunc(func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.held = nil
		close(held)
	})
}

// wait waits for the release of answers, if they are held.
func (s *Server) wait(r *http.Request) {
	s.mu.Lock()
	held := s.held
	method, path, _ := strings.Cut(s.heldCall, " ")
	s.mu.Unlock()
	if held == nil || r.Method != method || !strings.HasSuffix(r.URL.Path, path) {
		return
	}
	select {
	case <-held:
	case <-r.Context().Done():
	}
}

// SlowStyles delays style sheets, so that a page shows what it paints before.
func (s *Server) SlowStyles(d time.Duration) { s.mu.Lock(); defer s.mu.Unlock(); s.slowCSS = d }

// A Warning is something about the node that an operator must know.
type Warning struct {
	Code    string `json:"code"`
	Message string `json:"message"`
	Hint    string `json:"hint"`
}

// Warn makes the node warn of these and of nothing else.
func (s *Server) Warn(w ...Warning) { s.mu.Lock(); defer s.mu.Unlock(); s.warnings = w }

// Fail answers a call ("POST /v1/messages") with an error until it is cleared
// with an empty code.
func (s *Server) Fail(call string, status int, code, message, hint string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.fail[call] = apiError{status: status, Code: code, Message: message, Hint: hint}
	if code == "" {
		delete(s.fail, call)
	}
}

// Requests returns what came so far.
func (s *Server) Requests() []Request {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.requests)
}

// Streams returns how many event streams were opened so far.
func (s *Server) Streams() int { s.mu.Lock(); defer s.mu.Unlock(); return s.streams }

func (s *Server) serve(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	down, slow := s.down, s.slowCSS
	s.requests = append(s.requests, Request{r.Method, r.URL.Path, r.Header.Get("Last-Event-ID")})
	s.mu.Unlock()
	if down {
		hangUp(w)
		return
	}
	if !strings.HasPrefix(r.URL.Path, "/v1/") {
		if slow > 0 && strings.HasSuffix(r.URL.Path, ".css") {
			select {
			case <-time.After(slow):
			case <-r.Context().Done():
			}
		}
		s.page.ServeHTTP(w, r)
		return
	}
	s.api(w, r)
}

// hangUp closes the connection without an answer.
func hangUp(w http.ResponseWriter) {
	c, _, err := w.(http.Hijacker).Hijack()
	if err != nil {
		panic(fmt.Sprintf("fakeapi: hijack: %v", err))
	}
	if tc, ok := c.(*net.TCPConn); ok {
		tc.SetLinger(0)
	}
	c.Close()
}

// Rename gives the node another account, with nobody known and no messages.
func (s *Server) Rename(name, password string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.me, s.password = Person{ID: NewID(), Name: name}, password
	s.users = []User{{Person: s.me, Self: true, Here: true, HasKeys: true, Devices: 1, Fingerprint: fingerprint(0)}}
	s.messages = nil
}
