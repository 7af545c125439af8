// Package takclient is a TAK client for scenarios, as a device of the field
// would be at a node: it imports a connection package, connects with the
// certificate in it, speaks XML or asks for protobuf, says where it is, chats
// with one person and exchanges data packages.
//
// It reads and writes events with the product's own codecs. That these are
// right is proven elsewhere, with a library that others wrote (field-tests/atak);
// here the subject is what the nodes do.
package takclient

import (
	"archive/zip"
	"bytes"
	"context"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"time"

	pkcs12 "software.sslmate.com/src/go-pkcs12"

	"outrider/atak"
	"outrider/atak/cot"
	"outrider/atak/tak"
)

// An Identity is what a connection package gives to a client.
type Identity struct {
	Cert tls.Certificate
	CA   *x509.CertPool
}

// Import reads a connection package.
func Import(pkg []byte) (id Identity, err error) {
	z, err := zip.NewReader(bytes.NewReader(pkg), int64(len(pkg)))
	if err != nil {
		return id, fmt.Errorf("takclient: read connection package: %w", err)
	}
	for _, f := range z.File {
		if !strings.HasSuffix(f.Name, ".p12") {
			continue
		}
		r, err := f.Open()
		if err != nil {
			return id, err
		}
		store, err := io.ReadAll(r)
		if err = errors.Join(err, r.Close()); err != nil {
			return id, err
		}
		if err := id.take(store, strings.HasSuffix(f.Name, "-ca.p12")); err != nil {
			return id, fmt.Errorf("takclient: read %s: %w", f.Name, err)
		}
	}
	if id.CA == nil || id.Cert.PrivateKey == nil {
		return id, errors.New("takclient: the connection package has no key stores")
	}
	return id, nil
}

// take reads one key store: the CA's, or the client's own.
func (id *Identity) take(store []byte, ca bool) error {
	if ca {
		certs, err := pkcs12.DecodeTrustStore(store, atak.Password)
		if err != nil {
			return err
		}
		id.CA = x509.NewCertPool()
		for _, c := range certs {
			id.CA.AddCert(c)
		}
		return nil
	}
	key, cert, _, err := pkcs12.DecodeChain(store, atak.Password)
	if err != nil {
		return err
	}
	id.Cert = tls.Certificate{Certificate: [][]byte{cert.Raw}, PrivateKey: key}
	return nil
}

// Options is who a client is and where its node is.
type Options struct {
	Identity      Identity
	Stream, HTTPS string // addresses of the node's bridge
	UID, Callsign string // of the device
	Proto         bool   // go over to protobuf (version 1)
	// Dial connects in place of net.Dialer, for nodes that are elsewhere.
	Dial func(ctx context.Context, network, addr string) (net.Conn, error)
}

// A Client is connected until Close, or until the node ends the stream.
type Client struct {
	o     Options
	conn  net.Conn
	write sync.Mutex
	v1    bool

	mu    sync.Mutex
	got   []Received
	news  chan struct{} // closed and made anew with every event
	ended bool
	done  chan struct{}
}

// A Received is one event that came, and whether it came as a protobuf frame.
type Received struct {
	cot.Event
	Proto bool
}

// Dial connects, and with Proto negotiates version 1.
func Dial(ctx context.Context, o Options) (*Client, error) {
	conn, err := o.dial(ctx, "tcp", o.Stream)
	if err != nil {
		return nil, fmt.Errorf("takclient: connect: %w", err)
	}
	c := &Client{o: o, conn: conn, news: make(chan struct{}), done: make(chan struct{})}
	go c.read()
	if o.Proto {
		if err := c.negotiate(ctx); err != nil {
			c.Close()
			return nil, err
		}
	}
	return c, nil
}

// dial connects and shakes hands.
func (o Options) dial(ctx context.Context, network, addr string) (net.Conn, error) {
	dial := o.Dial
	if dial == nil {
		dial = new(net.Dialer).DialContext
	}
	conn, err := dial(ctx, network, addr)
	if err != nil {
		return nil, err
	}
	secure := tls.Client(conn, o.tls())
	if err := secure.HandshakeContext(ctx); err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	return secure, nil
}

func (o Options) tls() *tls.Config {
	host, _, _ := net.SplitHostPort(o.Stream)
	return &tls.Config{RootCAs: o.Identity.CA, Certificates: []tls.Certificate{o.Identity.Cert}, ServerName: host}
}

// Close ends the connection.
func (c *Client) Close() {
	_ = c.conn.Close() // what a connection that is given up has to say is of no use
	<-c.done
}

// read takes events until the connection ends.
func (c *Client) read() {
	defer close(c.done)
	r := tak.NewReader(c.conn)
	for {
		m, err := r.Next()
		if err != nil {
			c.add(nil)
			return
		}
		parse := cot.ParseXML
		if m.Proto {
			parse = cot.ParseProto
		}
		e, err := parse(m.Data)
		if err != nil {
			e = cot.Event{Type: "unreadable", UID: err.Error()} // whoever waits will say so
		}
		c.add(&Received{e, m.Proto})
	}
}

// add notes an event, or with nil the end, and wakes who waits.
func (c *Client) add(e *Received) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if e == nil {
		c.ended = true
	} else {
		c.got = append(c.got, *e)
	}
	close(c.news)
	c.news = make(chan struct{})
}

// ErrEnded means that the node has ended the stream.
var ErrEnded = errors.New("takclient: the stream has ended")

// Wait returns the first event that fits, of those that came and those that
// will.
func (c *Client) Wait(ctx context.Context, what string, fits func(Received) bool) (Received, error) {
	for seen := 0; ; {
		c.mu.Lock()
		for ; seen < len(c.got); seen++ {
			if fits(c.got[seen]) {
				defer c.mu.Unlock()
				return c.got[seen], nil
			}
		}
		news, ended := c.news, c.ended
		c.mu.Unlock()
		if ended {
			return Received{}, fmt.Errorf("waiting for %s: %w", what, ErrEnded)
		}
		select {
		case <-news:
		case <-ctx.Done():
			return Received{}, fmt.Errorf("takclient: waiting for %s, %d other events came: %w", what, seen, ctx.Err())
		}
	}
}

// All returns the events that fit and have come.
func (c *Client) All(fits func(Received) bool) (out []Received) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, e := range c.got {
		if fits(e) {
			out = append(out, e)
		}
	}
	return out
}

// Send writes an event in the form that was agreed on.
func (c *Client) Send(e cot.Event) error {
	c.write.Lock()
	defer c.write.Unlock()
	b := tak.AppendDocument(nil, e.XML())
	if c.v1 {
		b = tak.AppendFrame(nil, e.Proto())
	}
	if _, err := c.conn.Write(b); err != nil {
		return fmt.Errorf("takclient: send: %w", err)
	}
	return nil
}

// negotiate goes over to version 1 as ATAK does.
func (c *Client) negotiate(ctx context.Context) error {
	offer, err := c.Wait(ctx, "the offer of version 1", Is("t-x-takp-v"))
	if err != nil {
		return err
	}
	if err := c.Send(Event(offer.UID, "t-x-takp-q", "m-g", time.Minute, cot.E("TakControl").With(cot.E("TakRequest", "version", "1")))); err != nil {
		return err
	}
	yes, err := c.Wait(ctx, "version 1", Is("t-x-takp-r"))
	if err != nil {
		return err
	}
	if yes.Find("TakControl").Child("TakResponse").Attr("status") != "true" {
		return errors.New("takclient: the node refuses version 1")
	}
	c.write.Lock()
	defer c.write.Unlock()
	c.v1 = true
	return nil
}

// Is fits events of a type.
func Is(kind string) func(Received) bool {
	return func(e Received) bool { return e.Type == kind }
}

// Event makes an event of now that is nowhere.
func Event(uid, kind, how string, holds time.Duration, detail ...cot.Element) cot.Event {
	now := time.Now().UTC().Truncate(time.Millisecond)
	return cot.Event{UID: uid, Type: kind, How: how, Time: now, Start: now, Stale: now.Add(holds), Point: cot.NoPoint, Detail: detail}
}

// NewID is a name for an act of sending.
func NewID() string {
	b := make([]byte, 8)
	rand.Read(b) // never fails, says its documentation
	return hex.EncodeToString(b)
}
