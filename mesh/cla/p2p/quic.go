package p2p

import (
	"context"
	"crypto/hkdf"
	"crypto/sha256"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"os"
	"time"

	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/peer"
	p2ptls "github.com/libp2p/go-libp2p/p2p/security/tls"
	"github.com/quic-go/quic-go"

	"outrider/mesh/crowd"
	"outrider/mesh/identity"
)

// The windows a QUIC peer starts with and may grow to, in bytes. The first
// are what four strangers may fill.
const (
	quicFirstWindow = 64 << 10
	quicHandshake   = 5 * time.Second
)

// A quicPort is one UDP socket that listens and dials. The wire format is
// libp2p's quic-v1: TLS 1.3 with libp2p's certificate extension.
type quicPort struct {
	tr       *quic.Transport
	ln       *quic.Listener
	identity *p2ptls.Identity
	conf     *quic.Config
}

// openQUIC opens the socket at addr ("host:port") and listens.
func (l *Layer) openQUIC(addr string) (*quicPort, error) {
	// quic-go would print to stderr that the receive buffer is small, which
	// on a board it is meant to be.
	if err := os.Setenv("QUIC_GO_DISABLE_RECEIVE_BUFFER_WARNING", "true"); err != nil {
		return nil, err
	}
	id, err := p2ptls.NewIdentity(l.key)
	if err != nil {
		return nil, err
	}
	laddr, err := net.ResolveUDPAddr("udp", addr)
	if err != nil {
		return nil, err
	}
	conn, err := net.ListenUDP("udp", laddr)
	if err != nil {
		return nil, err
	}
	q := &quicPort{identity: id, conf: l.quicConfig()}
	q.tr = &quic.Transport{
		Conn: conn, ConnContext: l.knockQUIC, VerifySourceAddress: prove, MaxTokenAge: tokenAge,
		StatelessResetKey: &l.resetKey,
	}
	q.ln, err = q.tr.Listen(&tls.Config{
		GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) {
			conf, _ := id.ConfigForPeer("")
			return conf, nil
		},
		NextProtos: []string{alpnQUIC},
	}, q.conf)
	if err != nil {
		return nil, errors.Join(err, q.tr.Close(), conn.Close())
	}
	return q, nil
}

func (l *Layer) quicConfig() *quic.Config {
	return &quic.Config{
		Versions:                       []quic.Version{quic.Version1},
		HandshakeIdleTimeout:           quicHandshake,
		MaxIdleTimeout:                 2 * l.profile.KeepAlive,
		KeepAlivePeriod:                l.profile.KeepAlive,
		InitialStreamReceiveWindow:     quicFirstWindow,
		MaxStreamReceiveWindow:         uint64(l.profile.Window),
		InitialConnectionReceiveWindow: quicFirstWindow,
		MaxConnectionReceiveWindow:     uint64(l.profile.Window),
		MaxIncomingStreams:             maxPeerStreams,
		MaxIncomingUniStreams:          -1,
		TokenStore:                     quic.NewLRUTokenStore(tokensKept, 1),
	}
}

func (q *quicPort) close() error {
	return errors.Join(q.ln.Close(), q.tr.Close(), q.tr.Conn.Close())
}

// visitorKey finds the visitor in the context of a QUIC connection.
type visitorKey struct{}

// knockQUIC finds a place for an inbound connection before its handshake.
func (l *Layer) knockQUIC(ctx context.Context, from *quic.ClientInfo) (context.Context, error) {
	ctx, cancel := context.WithCancel(ctx)
	source := crowd.Of(from.RemoteAddr.String())
	if !l.crowd.Admit(source) {
		l.turned.crowded.Add(1)
		cancel()
		return nil, errBusy
	}
	v := l.door.enter(arrival{source: source, known: l.crowd.Known(source)}, cancel)
	if v == nil {
		l.turned.crowded.Add(1)
		l.crowd.Refuse(source)
		cancel()
		return nil, errBusy
	}
	context.AfterFunc(ctx, v.leave) // the context ends with the connection
	return context.WithValue(ctx, visitorKey{}, v), nil
}

// prove makes every newcomer prove its address by a further round trip, unless
// it still has the proof of an earlier connection: a forged packet must neither
// cost a signature nor take the place of the node whose address it bears.
func prove(net.Addr) bool { return true }

// acceptQUIC serves inbound connections until the port is closed.
func (l *Layer) acceptQUIC(ctx context.Context, q *quicPort) error {
	for {
		c, err := q.ln.Accept(ctx)
		if err != nil {
			if ctx.Err() != nil {
				return nil
			}
			return fmt.Errorf("accept on QUIC: %v", err)
		}
		l.wg.Go(func() { l.arrive(ctx, c) })
	}
}

// arrive serves an inbound QUIC connection whose handshake is over.
func (l *Layer) arrive(ctx context.Context, c *quic.Conn) {
	v, _ := c.Context().Value(visitorKey{}).(*visitor)
	s, err := newQUICSession(c)
	if err != nil || v == nil {
		_ = c.CloseWithError(0, "")
		l.log.Debug("stranger left", "err", err)
		return
	}
	defer v.leave()
	// The place was lost to another stranger: the context ended, which does
	// not end the connection by itself.
	stop := context.AfterFunc(c.Context(), s.Close)
	defer stop()
	ctx, cancel := context.WithTimeout(ctx, l.profile.HelloTimeout)
	defer cancel()
	l.welcome(ctx, s, v)
}

func newQUICSession(c *quic.Conn) (*quicSession, error) {
	key, err := p2ptls.PubKeyFromCertChain(c.ConnectionState().TLS.PeerCertificates)
	if err != nil {
		return nil, err
	}
	id, err := nodeID(key)
	if err != nil {
		return nil, err
	}
	return &quicSession{Conn: c, peer: id}, nil
}

// dial connects to the peer at addr.
func (q *quicPort) dial(ctx context.Context, id identity.NodeID, addr string) (session, error) {
	p, err := peerID(id)
	if err != nil {
		return nil, err
	}
	raddr, err := net.ResolveUDPAddr("udp", addr)
	if err != nil {
		return nil, err
	}
	conf, _ := q.identity.ConfigForPeer(p) // verifies that the key is p's
	c, err := q.tr.Dial(ctx, raddr, conf, q.conf)
	if err != nil {
		return nil, err
	}
	s, err := newQUICSession(c)
	if err != nil {
		_ = c.CloseWithError(0, "")
		return nil, err
	}
	return s, nil
}

// quicResetKey is the same for every run of a node, so that peers learn at
// their next packet that it has restarted. The derivation is go-libp2p's.
func quicResetKey(k identity.PrivateKey) (key quic.StatelessResetKey, err error) {
	seed := k.Seed()
	b, err := hkdf.Key(sha256.New, seed[:], nil, "libp2p quic stateless reset key", len(key))
	if err != nil {
		return key, err
	}
	return quic.StatelessResetKey(b), nil
}

// hostKey converts a node's key for libp2p.
func hostKey(k identity.PrivateKey) (crypto.PrivKey, error) {
	seed, pub := k.Seed(), k.Public()
	return crypto.UnmarshalEd25519PrivateKey(append(seed[:], pub[:]...))
}

// peerID converts a node's identity for libp2p.
func peerID(id identity.NodeID) (peer.ID, error) {
	key, err := crypto.UnmarshalEd25519PublicKey(id[:])
	if err != nil {
		return "", err
	}
	return peer.IDFromPublicKey(key)
}

// nodeID converts a proven libp2p key. Only Ed25519 keys are nodes.
func nodeID(key crypto.PubKey) (identity.NodeID, error) {
	raw, err := key.Raw()
	if err != nil {
		return identity.NodeID{}, err
	}
	if key.Type() != crypto.Ed25519 || len(raw) != len(identity.NodeID{}) {
		return identity.NodeID{}, errors.New("peer's key is not an Ed25519 key")
	}
	return identity.NodeID(raw), nil
}
