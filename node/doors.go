package node

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"math/big"
	"net"
	"net/http"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"outrider/node/api"
	"outrider/node/config"
)

// socketName is the API's unix socket in the node's folder.
const socketName = "outrider.sock"

// doors are the listeners of the API. They are open from the node's first
// moment to its last; the turnstile behind them lets the requests through.
type doors struct {
	api.Listeners
	*turnstile
	hosts []string
}

// openDoors listens where the settings say: on the socket always, on loopback
// in plain HTTP, elsewhere with TLS only.
func openDoors(h *Home, c config.Config) (_ *doors, err error) {
	d := &doors{turnstile: newTurnstile(), hosts: c.Page.AllowedHosts}
	defer func() {
		if err != nil {
			err = errors.Join(err, d.close())
		}
	}()
	if d.Socket, err = api.ListenSocket(h.path(socketName)); err != nil {
		return d, fmt.Errorf("node: up: %w", err)
	}
	for _, p := range c.Page.Listeners() {
		l, err := net.Listen("tcp", p.Addr.String())
		if err != nil {
			return d, fmt.Errorf("node: up: page: %v", err)
		}
		page := api.Page{Listener: l}
		d.Pages = append(d.Pages, page)
		d.hosts = append(d.hosts, p.Addr.Addr().String())
		if p.TLS {
			if d.Pages[len(d.Pages)-1].TLS, err = pageTLS(p.Addr.Addr().AsSlice()); err != nil {
				return d, err
			}
		}
	}
	return d, nil
}

// serve runs server for the requests once everything else listens, so that a
// node that says it is up is.
func (d *doors) serve(ctx context.Context, server *api.Server, ready func(), others ...<-chan struct{}) error {
	for _, listens := range others {
		select {
		case <-listens:
		case <-ctx.Done():
			return nil
		}
	}
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return server.Run(ctx) })
	g.Go(func() error { d.turnstile.serve(ctx, server.Handler()); return nil })
	ready()
	return g.Wait()
}

// portHint says what to do about a port that is taken. Links and gossip give
// the cause as text only: their libraries' errors end there.
func portHint(err error) error {
	if err != nil && strings.Contains(err.Error(), unix.EADDRINUSE.Error()) {
		return fmt.Errorf("%w; `outrider config check` tells who has the port", err)
	}
	return err
}

// close is for doors that were never served.
func (d *doors) close() error {
	var errs []error
	if d.Socket != nil {
		errs = append(errs, d.Socket.Close())
	}
	for _, p := range d.Pages {
		errs = append(errs, p.Listener.Close())
	}
	return errors.Join(errs...)
}

func (d *doors) urls() []string {
	var out []string
	for _, p := range d.Pages {
		scheme := "http"
		if p.TLS != nil {
			scheme = "https"
		}
		out = append(out, scheme+"://"+p.Listener.Addr().String()+"/")
	}
	return out
}

// pageTLS makes a certificate for one start of the node. A browser warns of
// it, and says so truly: nobody vouches for it.
func pageTLS(ip net.IP) (*tls.Config, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("node: page certificate: %w", err)
	}
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 120))
	if err != nil {
		return nil, fmt.Errorf("node: page certificate: %w", err)
	}
	ips := []net.IP{ip}
	if ip.IsUnspecified() {
		ips = interfaceIPs()
	}
	t := &x509.Certificate{
		SerialNumber: serial, Subject: pkix.Name{CommonName: "Outrider page"}, IPAddresses: ips,
		NotBefore: time.Now().Add(-24 * time.Hour), NotAfter: time.Now().Add(365 * 24 * time.Hour),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, t, t, &key.PublicKey, key)
	if err != nil {
		return nil, fmt.Errorf("node: page certificate: %w", err)
	}
	return &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}, MinVersion: tls.VersionTLS12}, nil
}

// interfaceIPs returns the addresses of this machine that others can reach.
func interfaceIPs() []net.IP {
	addrs, err := net.InterfaceAddrs()
	if err != nil {
		return nil
	}
	var out []net.IP
	for _, a := range addrs {
		n, ok := a.(*net.IPNet)
		if ok && !n.IP.IsLoopback() && !n.IP.IsLinkLocalUnicast() {
			out = append(out, n.IP)
		}
	}
	return out
}

// hostAllowed accepts any of this machine's own addresses as the page's host.
func hostAllowed(host string) bool {
	ip := net.ParseIP(host)
	for _, own := range interfaceIPs() {
		if own.Equal(ip) {
			return true
		}
	}
	return false
}

// server returns the API over the whole node.
func (n *Node) server(d *doors) *api.Server {
	return api.New(api.Config{
		Hosts: d.hosts, HostAllowed: hostAllowed,
		Chat: api.ChatService(n.chat), Node: operator{n}, Bundles: n.raw, Provision: provision{n},
		Hub: n.hub, Web: n.page(), Log: n.log,
	})
}

func (n *Node) page() http.Handler {
	if n.web == nil {
		return http.NotFoundHandler()
	}
	return n.web
}
