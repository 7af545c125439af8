package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"outrider/mesh/bundle"
	"outrider/mesh/crowd"
	"outrider/mesh/identity"
	"outrider/node/api"
	"outrider/node/chat"
)

// The scripts talk to the real API server over a real socket; behind it stand
// a user, a node and a provisioner that remember what they are told.

var (
	alice = identity.UserID{1}
	bravo = identity.UserID{2}
	nodeA = identity.NodeID{0xa}
	nodeB = identity.NodeID{0xb}
	aTime = time.Date(2026, 3, 4, 5, 6, 7, 0, time.UTC)
	convB = chat.ConversationID{7}
)

// hostile is a name as nobody's name should be.
const hostile = "Ev\x1b[31mil\u202ename\n"

// startNode serves the API on the folder of the script: node [full].
func startNode(ts *testscript.TestScript, neg bool, args []string) {
	ln, err := api.ListenSocket(filepath.Join(ts.Getenv("OUTRIDER_DIR"), socketName))
	ts.Check(err)
	n := &fakeNode{messages: map[chat.MessageID]*chat.Message{}, bodies: map[chat.MessageID][]byte{}, blocked: map[identity.NodeID]bool{}}
	n.hub = api.NewHub()
	for _, a := range args {
		switch a {
		case "full":
			n.full = true
		case "alone":
			n.alone = true
		case "member":
			n.member = true
		case "namesakes":
			n.namesakes = true
		}
	}
	page, err := net.Listen("tcp", "127.0.0.1:0")
	ts.Check(err)
	_, port, err := net.SplitHostPort(page.Addr().String())
	ts.Check(err)
	ts.Setenv("PAGEPORT", port)
	accounts := &fakeAccounts{}
	s := api.New(api.Config{Socket: ln, Pages: []api.Page{{Listener: page}}, Chat: n, Node: n, Provision: n, Accounts: accounts, Door: accounts, ATAK: fakeATAK{}, Position: &fakePosition{}, Core: fakeCore{}, Configs: fakeConfigs{}, Hub: n.hub})
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	ts.Defer(func() {
		cancel()
		ts.Check(<-done)
	})
}

type fakeNode struct {
	fakeArchive
	hub         *api.Hub
	full, alone bool
	member      bool // without the admin key
	namesakes   bool // who live here

	mu       sync.Mutex
	messages map[chat.MessageID]*chat.Message
	order    []chat.MessageID
	bodies   map[chat.MessageID][]byte
	blocked  map[identity.NodeID]bool
}

func (n *fakeNode) Login(_ context.Context, name string, password []byte) (api.User, error) {
	if name == alice.String() { // whose password was just set
		return (*fakeUser)(n), nil
	}
	if n.namesakes && name == "alice" {
		return nil, fmt.Errorf("chat: 2 users have that name here: use the id: %w", chat.ErrAmbiguous)
	}
	if name != "alice" || string(password) != "open sesame" {
		return nil, chat.ErrPassword
	}
	return (*fakeUser)(n), nil
}

func (n *fakeNode) Lock(identity.UserID) {}

func (n *fakeNode) Banner() chat.Banner {
	if n.alone {
		return chat.Banner{State: chat.BannerAlone, CoreLast: aTime}
	}
	return chat.Banner{State: chat.BannerContact, Contacts: 1}
}

func (n *fakeNode) Hosted() []chat.Hosted {
	if n.namesakes {
		return []chat.Hosted{{User: alice, Name: "alice"}, {User: bravo, Name: "bravo"}, {User: identity.UserID{9}, Name: "alice"}}
	}
	return []chat.Hosted{{User: alice, Name: "alice", Unlocked: true}, {User: bravo, Name: hostile, Waiting: 2}}
}

func (n *fakeNode) Status(context.Context) api.Status {
	st := api.Status{Node: nodeA, Name: "alpha", Version: "1.2.3", Uptime: 90 * time.Second, Bundles: 3, Bytes: 4096, LimitBytes: 2e9, Contacts: 1}
	st.Refused = []crowd.Report{
		{Listener: "page"}, {Listener: "mesh", Refused: 14},
		{Listener: "metrics", Refused: 210, Offenders: []crowd.Offender{{Who: "uid 1000", Refused: 210, Last: aTime}}},
	}
	if !n.alone {
		st.Network, st.NetworkName = identity.NetworkID{5}, "eagle"
	}
	return st
}

func (n *fakeNode) Peers(context.Context) []api.Peer {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.alone {
		return nil
	}
	return []api.Peer{{ID: nodeB, Name: hostile, Addrs: []string{"192.168.7.2:7411"}, Up: !n.blocked[nodeB], Blocked: n.blocked[nodeB], LastHeard: aTime}}
}

func (n *fakeNode) Links(context.Context) []api.Link {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.alone {
		return nil
	}
	return []api.Link{
		{Peer: identity.NodeID{0xc}, Name: "charlie", Class: "radio", LastHeard: aTime},
		{Peer: nodeB, Name: "bravo", Addr: "192.168.7.2:7411", Class: "lan", Up: !n.blocked[nodeB], Since: aTime, TxBytes: 1234567, RxBytes: 89, Blocked: n.blocked[nodeB]},
	}
}

func (n *fakeNode) Contacts(context.Context) ([]api.Contact, error) {
	if n.alone {
		return nil, nil
	}
	return []api.Contact{
		{Peer: nodeB, Name: hostile, Class: "lan", Start: aTime.Add(time.Hour), TxBytes: 1234567, RxBytes: 89, Times: 2},
		{Peer: identity.NodeID{0xc}, Name: "charlie", Class: "radio", Start: aTime, End: aTime.Add(90 * time.Second), Times: 1},
	}, nil
}

func (n *fakeNode) SetLink(_ context.Context, id identity.NodeID, up bool) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.blocked[id] = !up
	return nil
}

func (n *fakeNode) Network(context.Context) (api.Network, error) {
	if n.alone {
		return api.Network{}, api.ErrNoNetwork
	}
	return api.Network{ID: identity.NetworkID{5}, Name: "eagle", Admin: !n.member}, nil
}

func (n *fakeNode) AddUser(_ context.Context, u api.NewUser) (api.AddedUser, error) {
	switch {
	case string(u.AdminPassword) != "admin secret":
		return api.AddedUser{}, chat.ErrPassword
	case u.Name == "alice":
		return api.AddedUser{}, fmt.Errorf("%w: a user of that name", api.ErrConflict)
	case u.Here:
		return api.AddedUser{Name: u.Name, User: bravo}, nil
	}
	return api.AddedUser{Name: u.Name, Link: "outrider://c/#or1running", Password: "six words", Expires: aTime.Add(u.TTL), Addrs: u.Addrs}, nil
}

func (n *fakeNode) Join(_ context.Context, j api.NewJoin) (api.Joined, error) {
	if string(j.Password) != "link password" {
		return api.Joined{}, fmt.Errorf("%w: wrong password", api.ErrLink)
	}
	return api.Joined{Network: identity.NetworkID{5}, NetworkName: "eagle", User: bravo, Name: "bravo", Reached: true}, nil
}

// fakeUser is alice.
type fakeUser fakeNode

func (u *fakeUser) Self() chat.Person {
	return chat.Person{ID: alice, Name: "alice", Self: true, Here: true}
}

func (u *fakeUser) other() chat.Person {
	return chat.Person{ID: bravo, Name: "bravo", HasKeys: true, Devices: 1}
}

func (u *fakeUser) People(context.Context) ([]chat.Person, error) {
	return []chat.Person{u.Self(), u.other(), {ID: identity.UserID{3}, Name: hostile}}, nil
}

func (u *fakeUser) Resolve(_ context.Context, name string) (identity.UserID, error) {
	if name != "bravo" && name != bravo.String() {
		return identity.UserID{}, fmt.Errorf("%w: nobody called %q", chat.ErrNotFound, name)
	}
	return bravo, nil
}

func (u *fakeUser) Conversations(context.Context) ([]chat.Conversation, error) {
	c := chat.Conversation{ID: convB, With: u.other(), Unread: 1}
	if ms, _ := u.list(); len(ms) > 0 {
		c.Last = &ms[len(ms)-1]
	}
	return []chat.Conversation{c}, nil
}

func (u *fakeUser) list() ([]chat.Message, error) {
	u.mu.Lock()
	defer u.mu.Unlock()
	var out []chat.Message
	for _, id := range u.order {
		out = append(out, *u.messages[id])
	}
	return out, nil
}

func (u *fakeUser) Messages(context.Context, chat.ConversationID, chat.MessageID, int) ([]chat.Message, error) {
	return u.list()
}

func (u *fakeUser) Message(_ context.Context, id chat.MessageID) (chat.Message, error) {
	u.mu.Lock()
	defer u.mu.Unlock()
	m := u.messages[id]
	if m == nil {
		return chat.Message{}, fmt.Errorf("%w: no such message", chat.ErrNotFound)
	}
	return *m, nil
}

func (u *fakeUser) Why(ctx context.Context, id chat.MessageID) (chat.Why, error) {
	m, err := u.Message(ctx, id)
	return chat.Why{Message: m, Summary: chat.Sentence{Code: "state_queued"}, Facts: []chat.Sentence{{Code: "keys_none", Args: map[string]any{"name": hostile}}},
		Next: chat.Sentence{Code: "next_queued"}, Todo: chat.Sentence{Code: "move_closer"}}, err
}

// keep stores a message under a number that scripts can foresee.
func (u *fakeUser) keep(m chat.Message) (chat.Message, error) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.full {
		return m, fmt.Errorf("%w: 0 bytes left", chat.ErrFull)
	}
	m.ID = chat.MessageID{0xff, byte(len(u.order) + 1)}
	m.Conversation, m.From, m.To, m.Out = convB, u.Self(), u.other(), true
	m.Sent, m.Expires, m.State, m.Devices = aTime, aTime.Add(time.Hour), chat.StateQueued, 1
	u.messages[m.ID] = &m
	u.order = append(u.order, m.ID)
	u.hub.Update(alice, chat.Update{Kind: chat.UpdateMessage, Message: &m})
	return m, nil
}

func (u *fakeUser) Send(_ context.Context, d chat.Draft) (chat.Message, error) {
	return u.keep(chat.Message{Type: chat.TypeText, Text: d.Text, Precedence: d.Precedence, BurnAfter: d.Burn})
}

func (u *fakeUser) SendFile(_ context.Context, d chat.FileDraft, r io.Reader) (chat.Message, error) {
	b, err := io.ReadAll(r)
	if err != nil {
		return chat.Message{}, err
	}
	f := chat.File{Name: d.Name, Size: uint64(len(b)), MediaType: "application/octet-stream", Have: 10, Total: 10, Complete: true}
	if strings.HasPrefix(d.Name, "half") {
		f.Have, f.Complete = 5, false
	}
	m, err := u.keep(chat.Message{Type: chat.TypeFile, Precedence: d.Precedence, File: &f})
	u.mu.Lock()
	defer u.mu.Unlock()
	u.bodies[m.ID] = b
	return m, err
}

func (u *fakeUser) SendLocation(_ context.Context, d chat.LocationDraft) (chat.Message, error) {
	return u.keep(chat.Message{Type: chat.TypeLocation, Location: &d.Location, Precedence: d.Precedence})
}

func (u *fakeUser) OpenFile(ctx context.Context, id chat.MessageID) (chat.File, io.ReadCloser, error) {
	m, err := u.Message(ctx, id)
	switch {
	case err != nil:
		return chat.File{}, nil, err
	case m.File == nil:
		return chat.File{}, nil, chat.ErrNotFound
	case !m.File.Complete:
		return *m.File, nil, chat.ErrNotComplete
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	return *m.File, io.NopCloser(bytes.NewReader(u.bodies[id])), nil
}

func (u *fakeUser) act(ctx context.Context, id chat.MessageID, to chat.State) (chat.Message, error) {
	if _, err := u.Message(ctx, id); err != nil {
		return chat.Message{}, err
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	m := u.messages[id]
	if m.State == chat.StateRecalled {
		return *m, fmt.Errorf("%w: it was recalled", chat.ErrState)
	}
	m.State = to
	return *m, nil
}

func (u *fakeUser) Retry(ctx context.Context, id chat.MessageID) (chat.Message, error) {
	return u.act(ctx, id, chat.StateQueued)
}

func (u *fakeUser) Recall(ctx context.Context, id chat.MessageID) (chat.Message, error) {
	return u.act(ctx, id, chat.StateRecalled)
}

func (u *fakeUser) Read(ctx context.Context, id chat.MessageID) (chat.Message, error) {
	return u.act(ctx, id, chat.StateRead)
}

func (u *fakeUser) Failures(context.Context) ([]chat.Message, error) {
	ms, err := u.list()
	if len(ms) == 0 || ms[0].Precedence != bundle.Flash || ms[0].Dismissed {
		return nil, err
	}
	ms[0].State, ms[0].Reason = chat.StateFailed, chat.Reason{Code: "expired_key", Text: "the key is too old", Hint: "recall it and send it again"}
	return ms[:1], err
}

func (u *fakeUser) Dismiss(ctx context.Context, id chat.MessageID) (chat.Message, error) {
	if _, err := u.Message(ctx, id); err != nil {
		return chat.Message{}, err
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	u.messages[id].Dismissed = true
	return *u.messages[id], nil
}

func (u *fakeUser) Files(context.Context, chat.MessageID, int) (out []chat.Message, err error) {
	ms, err := u.list()
	for _, m := range ms {
		if m.File != nil {
			out = append(out, m)
		}
	}
	return out, err
}

func (u *fakeUser) Places(context.Context) (out []chat.Message, err error) {
	ms, err := u.list()
	for _, m := range ms {
		if m.Location != nil && !m.Out {
			out = append(out, m)
		}
	}
	return out, err
}

func (u *fakeUser) Trust(_ context.Context, id identity.UserID, fingerprint string, verified bool) (chat.Person, error) {
	if fingerprint != "00000 11111" {
		return chat.Person{}, chat.ErrOtherKey
	}
	return chat.Person{ID: id, Name: "bravo", Fingerprint: fingerprint, Verified: verified}, nil
}
