package node

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"slices"
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
	page  *page
	hosts []string
}

// openDoors listens where the settings say: on the socket always, on loopback
// in plain HTTP, elsewhere with TLS only.
func openDoors(h *Home, c config.Config, now func() time.Time, log *slog.Logger) (_ *doors, err error) {
	d := &doors{turnstile: newTurnstile(), page: newPage(h, c, now, log)}
	d.hosts = slices.Clone(c.Page.AllowedHosts)
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
			d.Pages[len(d.Pages)-1].TLS = d.page.tls()
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
	handler := server.Handler() // here: Run makes one as well, and both note the routes
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return server.Run(ctx) })
	g.Go(func() error { d.turnstile.serve(ctx, handler); return nil })
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

// hostAllowed accepts as the page's host its name on the LAN, and any of this
// machine's own addresses.
func (p *page) hostAllowed(host string) bool {
	if host != "" && strings.EqualFold(host, p.localName()) {
		return true
	}
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
		Hosts: d.hosts, HostAllowed: d.page.hostAllowed,
		Chat: callingChat{heldChat{api.ChatService(n.chat), n.holds}, n.calls}, Calls: n.calls, ATAK: n.bridge, Node: operator{n}, Bundles: n.raw, Provision: provision{n}, Carrier: carrier{n},
		Door: d.page, Accounts: n.accounts, Position: n.where, Core: n.core, Configs: n.configs(), Records: scribe{n.root.ID(), n.home.ID().Short()}.records,
		Hub: n.hub, Web: n.page(), Log: n.log, Health: n.health,
	})
}

func (n *Node) page() http.Handler {
	if n.web == nil {
		return http.NotFoundHandler()
	}
	return n.web
}
