package stranger

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net"
	"time"

	"github.com/fxamacker/cbor/v2"
	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/p2p/security/noise"
	"github.com/libp2p/go-yamux/v5"
)

// STREAMS.md 1: connection and streams.

const multistream = "/multistream/1.0.0"

func proposal(s string) []byte { return part([]byte(s + "\n")) }

// agree opens a multistream-select negotiation for a protocol, with what
// follows behind it, and checks the answer.
func agree(rw io.ReadWriter, protocol string, behind []byte) error {
	if _, err := rw.Write(join(proposal(multistream), proposal(protocol), behind)); err != nil {
		return err
	}
	for _, want := range []string{multistream, protocol} {
		got, err := readBlock(rw, 64)
		if err != nil {
			return fmt.Errorf("stranger: negotiate %s: %w", protocol, err)
		}
		if string(got) != want+"\n" {
			return fmt.Errorf("stranger: negotiate %s: answer %q", protocol, got)
		}
	}
	return nil
}

// serve answers a negotiation for the one protocol we serve.
func serve(rw io.ReadWriter, protocol string) error {
	for _, want := range []string{multistream, protocol} {
		got, err := readBlock(rw, 64)
		if err != nil {
			return err
		}
		if string(got) != want+"\n" {
			return fmt.Errorf("stranger: %q was proposed", got)
		}
	}
	_, err := rw.Write(join(proposal(multistream), proposal(protocol)))
	return err
}

func dial(ctx context.Context, addr string, m *member, node []byte) (*yamux.Session, error) {
	raw, err := new(net.Dialer).DialContext(ctx, "tcp", addr)
	if err != nil {
		return nil, err
	}
	session, err := secure(ctx, raw, m, node)
	if err != nil {
		return nil, errors.Join(err, raw.Close())
	}
	return session, nil
}

func secure(ctx context.Context, raw net.Conn, m *member, node []byte) (*yamux.Session, error) {
	if d, ok := ctx.Deadline(); ok {
		if err := raw.SetDeadline(d); err != nil {
			return nil, err
		}
	}
	key, err := crypto.UnmarshalEd25519PrivateKey(m.key)
	if err != nil {
		return nil, err
	}
	public, err := crypto.UnmarshalEd25519PublicKey(node)
	if err != nil {
		return nil, err
	}
	id, err := peer.IDFromPublicKey(public)
	if err != nil {
		return nil, err
	}
	transport, err := noise.New(noise.ID, key, nil)
	if err != nil {
		return nil, err
	}
	if err := agree(raw, noise.ID, nil); err != nil {
		return nil, err
	}
	conn, err := transport.SecureOutbound(ctx, raw, id) // refuses another key than the one dialled
	if err != nil {
		return nil, err
	}
	if err := agree(conn, "/yamux/1.0.0", nil); err != nil {
		return nil, err
	}
	c := yamux.DefaultConfig()
	c.LogOutput = io.Discard
	return yamux.Client(conn, c, nil)
}

// STREAMS.md 3: admission.

type hello struct {
	Code     uint64 `cbor:"0,keyasint,omitempty"`
	Min      uint64 `cbor:"1,keyasint,omitempty"`
	Max      uint64 `cbor:"2,keyasint,omitempty"`
	Features uint64 `cbor:"3,keyasint,omitempty"`
	Class    uint64 `cbor:"4,keyasint,omitempty"`
	Instance []byte `cbor:"5,keyasint,omitempty"`
	Number   uint64 `cbor:"6,keyasint,omitempty"`
	Serial   uint64 `cbor:"7,keyasint,omitempty"`
	Chain    []byte `cbor:"8,keyasint,omitempty"`
}

func message(h hello) []byte { return part(encode(h)) }

func readMessage(r io.Reader) (h hello, err error) {
	b, err := readBlock(r, 4096)
	if err != nil {
		return h, err
	}
	return h, cbor.Unmarshal(b, &h)
}

// errRefused is how the node says no.
type errRefused uint64

func (e errRefused) Error() string { return fmt.Sprintf("stranger: refused with code %d", uint64(e)) }

const classLAN = 3

// knock is the dialler's part of the hello.
func knock(ctx context.Context, s *yamux.Session, m *member) error {
	stream, err := s.OpenStream(ctx)
	if err != nil {
		return err
	}
	defer stream.Close()
	var instance [8]byte
	rand.Read(instance[:])
	us := message(hello{Min: 1, Max: 1, Class: classLAN, Instance: instance[:], Chain: m.chain})
	if err := agree(stream, "/outrider/hello/1", us); err != nil {
		return err
	}
	them, err := readMessage(stream)
	switch {
	case err != nil:
		return err
	case them.Code != 0:
		return errRefused(them.Code)
	case them.Min > 1 || them.Max < 1 || len(them.Chain) == 0:
		return errors.New("stranger: the listener's hello has no version 1 or no certificates")
	}
	_, err = stream.Write(message(hello{}))
	return err
}

// meshStream is the stream of frames: the leader opens it (STREAMS.md 4).
func meshStream(ctx context.Context, s *yamux.Session, lead bool) (*yamux.Stream, error) {
	if lead {
		stream, err := s.OpenStream(ctx)
		if err != nil {
			return nil, err
		}
		if err := agree(stream, "/outrider/mesh/1", message(hello{Serial: 1})); err != nil {
			return nil, err
		}
		answer, err := readMessage(stream)
		if err == nil && answer.Code != 0 {
			err = errRefused(answer.Code)
		}
		return stream, err
	}
	stream, err := s.AcceptStream()
	if err != nil {
		return nil, err
	}
	if err := serve(stream, "/outrider/mesh/1"); err != nil {
		return nil, err
	}
	if _, err := readMessage(stream); err != nil {
		return nil, err
	}
	_, err = stream.Write(message(hello{Number: 1}))
	return stream, err
}

// A link is a contact with a node.
type link struct {
	session *yamux.Session
	stream  *yamux.Stream
	lead    bool // our NodeID is smaller: we opened the stream, and we stream symbols
}

// meet dials a node, is admitted, and has a stream of frames when it returns.
func meet(ctx context.Context, addr string, m *member, node []byte) (*link, error) {
	s, err := dial(ctx, addr, m, node)
	if err != nil {
		return nil, err
	}
	l := &link{session: s, lead: bytes.Compare(m.id(), node) < 0}
	if err := knock(ctx, s, m); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	if l.stream, err = meshStream(ctx, s, l.lead); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return l, nil
}

const maxFrame = 66_048

func (l *link) send(frame ...[]byte) error {
	_, err := l.stream.Write(part(join(frame...)))
	return err
}

func (l *link) recv() ([]byte, error) { return readBlock(l.stream, maxFrame) }

// end closes our direction, reads on until the other side has closed too, and
// closes the connection.
func (l *link) end() error {
	if err := l.stream.CloseWrite(); err != nil {
		return errors.Join(err, l.session.Close())
	}
	if err := l.stream.SetReadDeadline(time.Now().Add(5 * time.Second)); err != nil {
		return errors.Join(err, l.session.Close())
	}
	_, _ = io.Copy(io.Discard, l.stream)
	return l.session.Close()
}
