// Package atak is a bridge for TAK clients: to a stock ATAK, WinTAK or iTAK
// the node is its TAK server, and what the client says goes through the mesh
// as the user's own sealed messages.
//
//	position (own SA event)         <-> live location
//	GeoChat to one person           <-> text
//	data package sent to somebody   <-> file
//
// A client proves itself with a certificate that this node's own CA issued for
// one user; the certificate also carries the secret that opens the user's
// keys, so that the node can act for the user while the client is connected,
// and cannot once it was taken without the client (DESIGN.md).
//
// What the package promises:
//
//   - Nothing is acknowledged to a client before it is durable, and what cannot
//     be carried is refused in words the client shows.
//   - Messages for a client that is away wait as unread messages of its user
//     and are given to it when it returns.
//   - Nobody gets back what they sent themselves; a position is replaced by the
//     newer one everywhere.
//   - Every queue, size and connection is bounded, also towards clients that
//     hold a certificate.
//
// The package knows neither chat nor the store: Accounts and User say what it
// needs of them.
package atak

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"time"
)

// Limits of the bridge.
const (
	MaxConns       = 64               // connections of each listener
	MaxSourceConns = 16               // of one source address
	MaxUserClients = 8                // event streams of one user
	MaxRecipients  = 64               // people one position or event goes to
	MaxPackage     = 256 << 20        // bytes of one uploaded file
	maxSpool       = 1 << 30          // bytes of one user's uploads and packages to fetch
	maxQueue       = 512              // events that wait for one slow client
	maxQueueBytes  = 4 << 20          // and their bytes
	maxRemembered  = 1024             // sent messages whose receipts go back to a client
	maxReplay      = 500              // unread messages given to a client that returns
	maxMarks       = 100              // marks given to a client that connects
	spoolTime      = 24 * time.Hour   // how long an upload is kept
	linger         = 2 * time.Minute  // how long a user stays open for requests after the last one
	handshakeTime  = 10 * time.Second // of TLS
	idleTime       = 5 * time.Minute  // of a stream without a byte; ATAK says something every 15 s
	writeTime      = 20 * time.Second // for one event to be taken
	offerTime      = 10 * time.Second // an offer of a file goes stale, as ATAK's own do
	chatTime       = 24 * time.Hour   // a chat message goes stale
	defaultSpan    = 75 * time.Second // a position goes stale when its sender said nothing, as ATAK's own do
	maxSpan        = 24 * time.Hour
)

// Errors that callers tell apart.
var (
	// ErrRefused means that a certificate opens nobody (any more).
	ErrRefused = errors.New("atak: this certificate is not accepted here; ask the operator for a new one (outrider atak enroll)")
	// ErrNotFound means that there is no such person, message or file.
	ErrNotFound = errors.New("atak: not found")
	// ErrFull means that there is no room for another file.
	ErrFull = errors.New("atak: no room for another file")
	// ErrTooLarge means that a file exceeds MaxPackage.
	ErrTooLarge = errors.New("atak: the file is too large")
)

// A PersonID and a MessageID are names the node gives, opaque here.
type (
	PersonID  string
	MessageID string
)

// Accounts opens the users of this node for the holders of their certificates.
type Accounts interface {
	// Open unlocks a user for as long as the User is not closed. The error
	// wraps ErrRefused when the certificate was withdrawn or the user may not
	// act.
	Open(ctx context.Context, c Credential) (User, error)
}

// A User is one unlocked user: what the bridge may do in their name.
type User interface {
	Self() Person
	// SpoolKey seals files at rest; it is the same for every client of the user.
	SpoolKey() [32]byte
	People(ctx context.Context) ([]Person, error)

	// The Send calls return when the message is durable. once names the act of
	// sending: repeated, it makes no second message.
	SendText(ctx context.Context, to PersonID, text, once string) (MessageID, error)
	SendPosition(ctx context.Context, to PersonID, p Position) error
	SendFile(ctx context.Context, to PersonID, name, once string, r io.Reader) (MessageID, error)

	OpenFile(ctx context.Context, id MessageID) (io.ReadCloser, error)
	Read(ctx context.Context, id MessageID) error
	// Unread returns what the user has not read, oldest first, at most n, and
	// Positions the newest live position of each other person and the newest
	// marks of others, at most that many, those taken back among them.
	Unread(ctx context.Context, n int) ([]Message, error)
	Positions(ctx context.Context, marks int) ([]Message, error)
	Close()
}

// A Person is somebody the user knows of.
type Person struct {
	ID      PersonID
	Name    string
	Keys    bool // a message could be sealed to them now
	Archive bool // they get a copy of everything and are written to by nobody
}

// A Kind tells what a message carries.
type Kind uint8

// The kinds.
const (
	Text  Kind = iota + 1
	Place      // a live position, until the person's next one
	Mark       // a position that was sent once: it stands until it expires or is taken back
	Package
)

// A Message is one message of a user with one other person.
type Message struct {
	ID        MessageID
	Peer      Person
	Out       bool // the user sent it
	Kind      Kind
	Text      string
	Position  Position
	File      File
	Sent      time.Time
	Expires   time.Time
	Gone      bool // it was taken back; only of marks
	Unread    bool
	Delivered bool
	Read      bool
	Failed    string // why it will not arrive, empty while it may
	// Withheld says what keeps the content from the user, a file or a position;
	// empty while nothing does.
	Withheld string
}

// A Forbidden error is a rule of the user's group, in words for the user.
type Forbidden struct{ Rule string }

func (f *Forbidden) Error() string { return f.Rule }

// A File is what a message of kind Package carries.
type File struct {
	Name      string
	MediaType string
	Size      int64
	Complete  bool
}

// A Position is where somebody is. HAE and CE are cot.Unknown when not known,
// course and speed negative.
type Position struct {
	Lat, Lon, HAE, CE float64
	Course            float64 // degrees from true north
	Speed             float64 // metres per second
	Time              time.Time
	Span              time.Duration // for how long it holds
	How               string        // as in an event: m-g, h-e
	Callsign          string        // of the device, if it has one
	Note              string
}

// Config is what a Server is made of.
type Config struct {
	Stream, HTTPS string   // addresses to listen on, with ports
	Name          string   // of the node, for people
	Version       string   // of the program
	ShareWith     []string // names or ids of those who get positions; "*" is everybody
	Interval      time.Duration
	TLS12         bool // accept TLS 1.2, which shows certificates to whoever listens

	Dir      string // of the bridge in the node's folder
	CA       *CA
	Hosts    []string // addresses of this machine, for the server's certificate
	Accounts Accounts
	Log      *slog.Logger
	Now      func() time.Time
}
