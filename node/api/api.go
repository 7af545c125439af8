// Package api serves a node's HTTP interface: the same calls over a unix
// socket for the operator's programs and over page listeners for browsers.
// API.md is its reference and is kept equal to the code.
//
// What the package promises:
//
//   - Nothing a browser on another site, a rebound DNS name, or a machine
//     nearby can send changes anything or reads anything: page requests are
//     checked for Host, Origin and a header that no foreign page can set, and
//     everything of a user needs that user's session.
//   - Every request is bounded in size, time and memory, also those of slow
//     and hostile clients.
//   - An answer that says "created" comes after the message is durable.
//   - Errors have a stable code, a sentence, and where possible a hint.
//
// The package keeps no state but sessions and the newest events, both in
// memory.
package api

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"time"

	"outrider/mesh/bundle"
	"outrider/mesh/crowd"
	"outrider/mesh/identity"
	"outrider/node/chat"
)

// Limits of the interface. API.md lists them.
const (
	MaxJSON        = 256 << 10 // bytes of a JSON body
	MaxHeaderBytes = 16 << 10  // bytes of a request's header
	MaxSessions    = 256       // sessions in all
	MaxUserSession = 16        // sessions of one user; the oldest idle one goes first
	MaxStreams     = 64        // event streams in all
	MaxUserStreams = 16        // event streams of one user
	MaxConns       = 256       // connections of one page listener
	MaxSourceConns = 64        // connections of one source address
	ringEvents     = 512       // events kept for resuming, per user
	ringBytes      = 1 << 20   // bytes of events kept, per user
)

// Timeouts bound slow clients. A zero field means the default.
type Timeouts struct {
	Header   time.Duration // reading a request's header; default 10 s
	Body     time.Duration // reading a JSON body; default 15 s
	Progress time.Duration // longest pause inside a streamed body or answer; default 60 s
	Idle     time.Duration // between requests of a connection; default 2 min
	Beat     time.Duration // comment line in an event stream; default 20 s
	Drain    time.Duration // for running requests when the server stops; default 3 s
}

func (t Timeouts) withDefaults() Timeouts {
	def := func(d *time.Duration, v time.Duration) {
		if *d <= 0 {
			*d = v
		}
	}
	def(&t.Header, 10*time.Second)
	def(&t.Body, 15*time.Second)
	def(&t.Progress, time.Minute)
	def(&t.Idle, 2*time.Minute)
	def(&t.Beat, 20*time.Second)
	def(&t.Drain, 3*time.Second)
	return t
}

// A Page is one listener for browsers. The listener is plain; TLS is put on
// top of it when set. Without TLS passwords are taken from loopback only.
type Page struct {
	Listener net.Listener
	TLS      *tls.Config
}

// Config is what a Server is made of. Provision, Bundles, Web and Socket may
// be nil; their calls are then not found.
type Config struct {
	// Socket and Pages are what Run listens on. Whoever listens elsewhere
	// leaves them out and hands requests to Handler.
	Socket net.Listener
	Pages  []Page
	// Hosts are the names and addresses, without port, under which browsers
	// may ask for the page. localhost, 127.0.0.1 and ::1 are always allowed.
	Hosts []string
	// HostAllowed is asked for names that Hosts does not have; nil means no.
	HostAllowed func(host string) bool

	Chat      Chat
	Node      Node
	Bundles   Bundles
	ATAK      ATAK
	Provision Provision
	Door      Door        // may be nil
	Accounts  Accounts    // may be nil
	Position  Position    // nil while the node is enrolling
	Core      Core        // nil while the node is enrolling
	Carrier   Carrier     // nil while the node is enrolling
	Calls     Calls       // nil while the node is enrolling
	Configs   Configs     // may be nil
	Records   RecordsFunc // nil while the node is enrolling
	// Health tells the operator's programs how the node is; may be nil too.
	Health func(context.Context) Health
	Hub    *Hub
	Web    http.Handler // the embedded page
	Log    *slog.Logger

	MaxFile      int64         // bytes of an uploaded file; default chat.MaxFileDefault
	SessionIdle  time.Duration // default 12 h
	SessionLimit time.Duration // absolute, default 7 days
	Timeouts     Timeouts
	Now          func() time.Time // monotonic; default time.Now
}

// Chat is what the API needs of the users hosted here. ChatService adapts
// *chat.Service.
type Chat interface {
	// Login unlocks a hosted user by name or id.
	Login(ctx context.Context, name string, password []byte) (User, error)
	// Lock drops a user's keys.
	Lock(user identity.UserID)
	Banner() chat.Banner
	Hosted() []chat.Hosted
}

// User is one unlocked user: *chat.Session.
type User interface {
	Self() chat.Person
	People(ctx context.Context) ([]chat.Person, error)
	Resolve(ctx context.Context, nameOrID string) (identity.UserID, error)
	Trust(ctx context.Context, user identity.UserID, fingerprint string, verified bool) (chat.Person, error)
	Conversations(ctx context.Context) ([]chat.Conversation, error)
	Messages(ctx context.Context, conv chat.ConversationID, before chat.MessageID, limit int) ([]chat.Message, error)
	Message(ctx context.Context, id chat.MessageID) (chat.Message, error)
	Why(ctx context.Context, id chat.MessageID) (chat.Why, error)
	Send(ctx context.Context, d chat.Draft) (chat.Message, error)
	SendFile(ctx context.Context, d chat.FileDraft, r io.Reader) (chat.Message, error)
	SendLocation(ctx context.Context, d chat.LocationDraft) (chat.Message, error)
	OpenFile(ctx context.Context, id chat.MessageID) (chat.File, io.ReadCloser, error)
	Retry(ctx context.Context, id chat.MessageID) (chat.Message, error)
	Recall(ctx context.Context, id chat.MessageID) (chat.Message, error)
	Read(ctx context.Context, id chat.MessageID) (chat.Message, error)
	Failures(ctx context.Context) ([]chat.Message, error)
	Dismiss(ctx context.Context, id chat.MessageID) (chat.Message, error)
	Files(ctx context.Context, before chat.MessageID, limit int) ([]chat.Message, error)
	// Places returns positions of others that a map shows.
	Places(ctx context.Context) ([]chat.Message, error)
	ArchiveUser
}

// ChatService adapts a *chat.Service.
func ChatService(s *chat.Service) Chat { return chatService{s} }

type chatService struct{ *chat.Service }

func (c chatService) Login(ctx context.Context, name string, password []byte) (User, error) {
	s, err := c.Service.Login(ctx, name, password)
	if err != nil {
		return nil, err
	}
	return s, nil
}

// Node is what the API needs of the node itself.
type Node interface {
	Status(ctx context.Context) Status
	Peers(ctx context.Context) []Peer
	Links(ctx context.Context) []Link
	// Contacts returns who was near in the last 24 h, the newest first.
	Contacts(ctx context.Context) ([]Contact, error)
	// SetLink opens or shuts this node's own gate towards another node. The
	// change is durable and closes an open link at once.
	SetLink(ctx context.Context, node identity.NodeID, up bool) error
}

// Status is what a node says about itself.
type Status struct {
	Node        identity.NodeID
	Name        string // the node's short name for people, may be empty
	Network     identity.NetworkID
	NetworkName string // empty before a network was created or joined
	Version     string
	Uptime      time.Duration
	Bundles     int
	Bytes       int64
	LimitBytes  int64
	Syncs       uint64 // of the disk by the store, since the start
	Contacts    int
	Locked      bool     // no user of this node is unlocked
	Warnings    []string // codes of warnings.go: what the operator must know
	// Refused is who was turned away at the listeners, each kind apart.
	Refused []crowd.Report
}

// A Peer is a node this one knows of.
type Peer struct {
	ID        identity.NodeID
	Name      string
	Addrs     []string
	Up        bool
	Blocked   bool // by the operator's gate
	LastHeard time.Time
}

// A Link is one contact, open or the last one with that peer.
type Link struct {
	Peer      identity.NodeID
	Name      string
	Addr      string
	Class     string // radio, wifi, lan
	Up        bool
	Since     time.Time
	TxBytes   uint64
	RxBytes   uint64
	LastHeard time.Time
	Blocked   bool
}

// ContactsKept is how far back the list of contacts goes.
const ContactsKept = 24 * time.Hour

// A Contact is a time when another node was near.
type Contact struct {
	Peer    identity.NodeID
	Name    string
	Class   string // radio, wifi, lan
	Start   time.Time
	End     time.Time // zero while it lasts
	TxBytes uint64
	RxBytes uint64
	Times   int // short interruptions are one contact: how often it began
}

// Bundles lets programs on the node send and receive payloads of their own:
// gateways, benchmarks.
type Bundles interface {
	// SubmitRaw is durable when it returns nil.
	SubmitRaw(ctx context.Context, b RawBundle) (bundle.ID, error)
	// Arrived watches a tag and calls each for every bundle, those held
	// already first. A bundle counts as consumed when each returned nil. It
	// returns when ctx ends or each fails.
	Arrived(ctx context.Context, tag identity.Tag, each func(RawArrived) error) error
}

// A RawBundle is a payload with the header fields its sender chooses.
type RawBundle struct {
	Tag        identity.Tag
	Precedence bundle.Precedence
	Lifetime   time.Duration
	Payload    []byte
}

// A RawArrived names a bundle that came for a watched tag.
type RawArrived struct {
	ID     bundle.ID
	SHA256 [32]byte // of the payload
	Size   int
}

// Provision is what the operator may do to the network and its users.
type Provision interface {
	// Network describes the network this node belongs to; ErrNoNetwork
	// before there is one.
	Network(ctx context.Context) (Network, error)
	AddUser(ctx context.Context, u NewUser) (AddedUser, error)
	// Join applies a join link on this node.
	Join(ctx context.Context, j NewJoin) (Joined, error)
	Admin
}

// Network describes a network.
type Network struct {
	ID          identity.NetworkID
	Name        string
	Preset      string
	Fingerprint string // words to compare by voice
	Admin       bool   // this node holds an admin key
}

// NewUser asks for a user. With Here the user's keys are made on this node,
// under Password; otherwise a join link for another node is issued.
type NewUser struct {
	Name          string
	TTL           time.Duration // of the join link; 0: 7 days
	Roles         []string
	Here          bool
	Again         bool // a link that brings a user there is their next keys
	Password      []byte
	AdminPassword []byte
	Addrs         []string // to put into the link, best first; none: the node's own
}

// AddedUser is the outcome of AddUser.
type AddedUser struct {
	User     identity.UserID // zero while the user has not redeemed the link
	Name     string
	Link     string // outrider://c/#…
	PageLink string // https://<node>:7443/c/#…
	Password string // of the link, to be told apart from it
	Expires  time.Time
	Addrs    []string // reachable addresses inside the link
}

// NewJoin asks to apply a join link: the link's user will live on this node,
// under UserPassword.
type NewJoin struct {
	Link         string
	Password     []byte // of the link
	UserPassword []byte
}

// Joined is the outcome of Join.
type Joined struct {
	Network     identity.NetworkID
	NetworkName string
	User        identity.UserID
	Name        string
	Reached     bool   // a node of the network has answered already
	Hint        string // what to look at when none has
}

// Errors that implementations of the interfaces above may wrap.
var (
	// ErrNoNetwork means that the node belongs to no network yet.
	ErrNoNetwork = errors.New("api: this node belongs to no network yet")
	// ErrConflict means that the thing exists already.
	ErrConflict = errors.New("api: exists already")
	// ErrNotAdmin means that no admin key lies on this node.
	ErrNotAdmin = errors.New("api: this node holds no admin key; run this where `outrider network create` was run")
	// ErrAdminPassword means that the admin password is wrong.
	ErrAdminPassword = errors.New("api: wrong admin password")
	// ErrLoopback means that a link would name only addresses that nobody else
	// can reach.
	ErrLoopback = errors.New("api: no address that others reach")
	// ErrLink means that a link, to join or with a config, is expired, foreign or
	// its password is wrong; the text says which. A damaged one is an error of
	// package deeplink.
	ErrLink = errors.New("api: link refused")
)

// A Hinted error carries what a person can do about it.
type Hinted interface {
	error
	Hint() string
}
