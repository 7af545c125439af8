package pageca

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"time"
)

// namesFor is how long the addresses of this machine are believed unchanged,
// so that a flood of handshakes does not become one of questions to the kernel.
const namesFor = time.Second

// renewAhead is how long before its end a certificate is replaced.
const renewAhead = leafAhead / 3

// A Keeper holds the certificate of this node's page. Its key is made at the
// start and lies in memory only.
type Keeper struct {
	ca    *CA
	key   *ecdsa.PrivateKey
	names func() Names
	now   func() time.Time
	log   *slog.Logger

	mu     sync.Mutex
	cert   *tls.Certificate
	has    Names
	wanted Names     // as of asked
	asked  time.Time // monotonic
}

// NewKeeper returns a keeper for the names that names returns; it is asked
// again and again. now is the date that certificates are made by.
func NewKeeper(ca *CA, names func() Names, now func() time.Time, log *slog.Logger) (*Keeper, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("pageca: make key: %w", err)
	}
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	return &Keeper{ca: ca, key: key, names: names, now: now, log: log}, nil
}

// CA returns the authority.
func (k *Keeper) CA() *CA { return k.ca }

// TLS returns the server's configuration.
func (k *Keeper) TLS() *tls.Config {
	return &tls.Config{MinVersion: tls.VersionTLS12, GetCertificate: func(h *tls.ClientHelloInfo) (*tls.Certificate, error) {
		return k.Certificate(localAddr(h.Conn))
	}}
}

func localAddr(c net.Conn) netip.Addr {
	if c == nil {
		return netip.Addr{}
	}
	ap, _ := netip.ParseAddrPort(c.LocalAddr().String()) // the zero address is left out of names
	return ap.Addr()
}

// Certificate returns a certificate that is valid now and carries the node's
// names and the address a connection came to. What a client says has no part
// in it, so no client can make the node sign.
func (k *Keeper) Certificate(local netip.Addr) (*tls.Certificate, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	now := k.now()
	if k.cert != nil && time.Since(k.asked) < namesFor && !k.due(now) && k.has.covers(Names{Addrs: []netip.Addr{local}}.normal()) {
		return k.cert, nil
	}
	k.wanted, k.asked = k.names(), time.Now()
	want := Names{Hosts: k.wanted.Hosts, Addrs: append([]netip.Addr{local}, k.wanted.Addrs...)}.normal()
	if k.cert != nil && !k.due(now) && k.has.covers(want) {
		return k.cert, nil
	}
	cert, err := k.ca.issue(k.key, want, now)
	if err != nil {
		return nil, err
	}
	if k.cert != nil {
		k.log.Info("page certificate renewed", "until", cert.Leaf.NotAfter.Format(time.DateOnly))
	}
	k.cert, k.has = cert, want
	return cert, nil
}

// due reports whether the certificate has to be made anew for its dates: also
// when the clock was set back behind its beginning.
func (k *Keeper) due(now time.Time) bool {
	leaf := k.cert.Leaf
	return now.Before(leaf.NotBefore) || leaf.NotAfter.Sub(now) < renewAhead
}
