package coresync

import (
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nkeys"
)

// Config is how a node reaches its core. At least one of Pins and CAFile must
// be set; both are checked when both are.
type Config struct {
	Servers  []string // host:port or tls://host:port, tried in random order
	SeedFile string   // the node's nkey
	CertFile string   // client certificate, with KeyFile; both empty: none
	KeyFile  string
	CAFile   string
	Pins     []string // current and backup: SHA-256 of the server key's SPKI, base64
}

const (
	maxServers  = 8
	maxPins     = 4
	maxSeedFile = 4 << 10
)

// ParsePin reads a pin, with or without "sha256/" before it.
func ParsePin(s string) (pin [32]byte, err error) {
	raw, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(s, "sha256/"))
	if err != nil || len(raw) != len(pin) {
		return pin, errors.New("coresync: a pin is the SHA-256 of a public key in base64: 44 characters")
	}
	return [32]byte(raw), nil
}

// PinOf is the pin of a certificate's key.
func PinOf(cert *x509.Certificate) string {
	sum := sha256.Sum256(cert.RawSubjectPublicKeyInfo)
	return base64.StdEncoding.EncodeToString(sum[:])
}

// Seed is a node's nkey: its name at the core, and how it proves it.
type Seed struct {
	Node string
	pair nkeys.KeyPair
}

// ReadSeed reads a seed file; others of the machine must not be able to.
func ReadSeed(path string) (Seed, error) {
	info, err := os.Stat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return Seed{}, fmt.Errorf("%w: there is no seed file %s", ErrCredentials, path)
	case err != nil:
		return Seed{}, fmt.Errorf("%w: seed file: %v", ErrCredentials, err)
	case !info.Mode().IsRegular() || info.Size() > maxSeedFile:
		return Seed{}, fmt.Errorf("%w: %s is no seed file", ErrCredentials, path)
	case info.Mode().Perm()&0o077 != 0:
		return Seed{}, fmt.Errorf("%w: others can read the seed file %s (mode %04o); chmod 600 it", ErrCredentials, path, info.Mode().Perm())
	}
	raw, err := os.ReadFile(path)
	if err != nil {
		return Seed{}, fmt.Errorf("%w: seed file: %v", ErrCredentials, err)
	}
	defer clear(raw)
	pair, err := nkeys.ParseDecoratedNKey(raw)
	if err != nil {
		return Seed{}, fmt.Errorf("%w: %s holds no nkey seed", ErrCredentials, path)
	}
	node, err := pair.PublicKey()
	if err != nil || !validNode(node) {
		return Seed{}, fmt.Errorf("%w: %s holds the seed of something else than a user", ErrCredentials, path)
	}
	return Seed{Node: node, pair: pair}, nil
}

// A pinned connection keeps what the last handshake found wrong, since the
// library's own errors do not say.
type trust struct {
	pins [][32]byte
	tls  *tls.Config
	fail func(error)
}

// newTrust reads the certificates.
func newTrust(c Config, fail func(error)) (*trust, error) {
	t := &trust{fail: fail, tls: &tls.Config{MinVersion: tls.VersionTLS13}}
	for _, s := range c.Pins {
		pin, err := ParsePin(s)
		if err != nil {
			return nil, fmt.Errorf("%w: %v", ErrCredentials, err)
		}
		t.pins = append(t.pins, pin)
	}
	switch {
	case c.CAFile != "":
		pem, err := os.ReadFile(c.CAFile)
		if err != nil {
			return nil, fmt.Errorf("%w: CA file: %v", ErrCredentials, err)
		}
		t.tls.RootCAs = x509.NewCertPool()
		if !t.tls.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("%w: %s holds no certificate", ErrCredentials, c.CAFile)
		}
	case len(t.pins) == 0:
		return nil, fmt.Errorf("%w: neither a CA nor a pin says which server is ours", ErrCredentials)
	default:
		t.tls.InsecureSkipVerify = true // the pin alone vouches: see check
	}
	if c.CertFile != "" || c.KeyFile != "" {
		pair, err := tls.LoadX509KeyPair(c.CertFile, c.KeyFile)
		if err != nil {
			return nil, fmt.Errorf("%w: client certificate: %v", ErrCredentials, err)
		}
		t.tls.Certificates = []tls.Certificate{pair}
	}
	t.tls.VerifyConnection = t.check
	return t, nil
}

// check compares the server's key with the pins, in addition to the chain.
func (t *trust) check(s tls.ConnectionState) error {
	if len(t.pins) == 0 {
		return nil
	}
	if len(s.PeerCertificates) == 0 {
		return ErrPin
	}
	leaf := s.PeerCertificates[0]
	if slices.Contains(t.pins, sha256.Sum256(leaf.RawSubjectPublicKeyInfo)) {
		return nil
	}
	err := fmt.Errorf("%w: it shows %s", ErrPin, PinOf(leaf))
	t.fail(err)
	return err
}

// dial makes one connection. It ends for good with the first cut: the next
// session begins with a connection of its own.
func dial(c Config, seed Seed, t *trust, ping time.Duration, onError func(error), onClosed func()) (*nats.Conn, error) {
	nc, err := nats.Connect(strings.Join(serverURLs(c.Servers), ","),
		nats.Nkey(seed.Node, seed.pair.Sign),
		nats.Secure(t.tls),
		nats.CustomInboxPrefix(inboxPrefix(seed.Node)),
		nats.NoReconnect(),
		nats.IgnoreDiscoveredServers(), // only those that the operator has named
		nats.PingInterval(ping), nats.MaxPingsOutstanding(pingsOut),
		nats.Timeout(dialTimeout), nats.FlusherTimeout((pingsOut+1)*ping), // a write that is stuck counts as silence, too
		nats.ErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) { onError(err) }),
		nats.ClosedHandler(func(*nats.Conn) { onClosed() }),
	)
	if err != nil {
		return nil, translate(err)
	}
	return nc, nil
}

// translate puts the library's errors into our words.
func translate(err error) error {
	switch {
	case errors.Is(err, nats.ErrAuthorization), errors.Is(err, nats.ErrAuthExpired):
		return fmt.Errorf("%w: it does not know this node's key", ErrRefused)
	case errors.Is(err, nats.ErrMaxPayload):
		return fmt.Errorf("%w: the message is larger than its limit", ErrRefused)
	case errors.Is(err, ErrPin):
		return err
	case errors.Is(err, nats.ErrNoServers):
		return errors.New("coresync: no server answers")
	}
	var unknown x509.UnknownAuthorityError
	var host x509.HostnameError
	var invalid x509.CertificateInvalidError
	switch {
	case errors.As(err, &unknown):
		return errors.New("coresync: the server's certificate is not signed by the configured CA")
	case errors.As(err, &host):
		return errors.New("coresync: the server's certificate is made out for another name")
	case errors.As(err, &invalid):
		return errors.New("coresync: the server's certificate is not valid now; look at the clock")
	}
	return fmt.Errorf("coresync: connect: %v", err)
}

func serverURLs(list []string) (out []string) {
	for _, s := range list {
		if !strings.Contains(s, "://") {
			s = "tls://" + s
		}
		out = append(out, s)
	}
	return out
}
