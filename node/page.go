package node

import (
	"cmp"
	"context"
	"crypto/tls"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"outrider/mesh/identity"
	"outrider/node/api"
	"outrider/node/config"
	"outrider/node/mdns"
	"outrider/node/pageca"
)

// A page is the web page as phones and laptops on the node's network meet it:
// its certificate, its name, and the hand-out of the CA.
type page struct {
	home *Home
	cfg  config.Config
	now  func() time.Time
	log  *slog.Logger

	local atomic.Pointer[string] // the name that is ours on the LAN, "" for none; nil before that is known

	mu         sync.Mutex
	generation uint32 // of the network secret that keeper's CA is made from
	keeper     *pageca.Keeper

	handout handout
}

func newPage(h *Home, c config.Config, now func() time.Time, log *slog.Logger) *page {
	p := &page{home: h, cfg: c, now: now, log: log}
	p.handout = handout{wake: make(chan struct{}, 1), log: log, serve: func(w http.ResponseWriter, r *http.Request) {
		k, err := p.certificates()
		if err != nil {
			http.Error(w, "the certificate cannot be made now", http.StatusInternalServerError)
			return
		}
		k.CA().Handout(p.secureURLs).ServeHTTP(w, r)
	}}
	return p
}

// certificates returns the keeper of the page's certificate. A new generation
// of the network's secret brings a new CA: whoever was revoked knows the key
// of the old one.
func (p *page) certificates() (*pageca.Keeper, error) {
	m := p.home.network()
	if m == nil {
		return nil, ErrNoNetwork
	}
	secret := m.Secrets[0].secret()
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.keeper != nil && p.generation == secret.Generation {
		return p.keeper, nil
	}
	ca, err := pageca.New(secret.PageCASeed(), caName(m.ID, secret.Generation))
	if err != nil {
		return nil, fmt.Errorf("node: page: %w", err)
	}
	k, err := pageca.NewKeeper(ca, p.names, p.now, p.log)
	if err != nil {
		return nil, fmt.Errorf("node: page: %w", err)
	}
	p.keeper, p.generation = k, secret.Generation
	return k, nil
}

// caName tells networks, and generations of one, apart in a phone's list.
func caName(id identity.NetworkID, generation uint32) string {
	return fmt.Sprintf("%s-%d", id.Short(), generation)
}

// tls is the configuration of a listener: each handshake asks for what is
// right at that moment.
func (p *page) tls() *tls.Config {
	return &tls.Config{MinVersion: tls.VersionTLS12, GetCertificate: func(h *tls.ClientHelloInfo) (*tls.Certificate, error) {
		k, err := p.certificates()
		if err != nil {
			return nil, err
		}
		return k.TLS().GetCertificate(h)
	}}
}

// names are what the page's certificate carries: the addresses it is reached
// at, also those that only others know (mesh.advertise), and its names.
func (p *page) names() pageca.Names {
	n := pageca.Names{Hosts: slices.Clone(p.cfg.Page.AllowedHosts)}
	if name := p.localName(); name != "" {
		n.Hosts = append([]string{name}, n.Hosts...)
	}
	for _, s := range slices.Concat(p.cfg.MeshAdvertise(), p.cfg.Page.AllowedHosts) {
		if a, err := netip.ParseAddr(hostOf(s)); err == nil {
			n.Addrs = append(n.Addrs, a)
		}
	}
	n.Addrs = append(n.Addrs, p.addrs()...)
	return n
}

func hostOf(s string) string {
	if host, _, err := net.SplitHostPort(s); err == nil {
		return host
	}
	return s
}

// localName is the page's name on the LAN: the one that is wanted, or the next
// that no other machine has; "" if there is none.
func (p *page) localName() string {
	if name := p.local.Load(); name != nil {
		return *name
	}
	return p.wantedName()
}

func (p *page) wantedName() string {
	if p.cfg.Page.Name != "" {
		return strings.ToLower(p.cfg.Page.Name) + ".local"
	}
	return "outrider-" + p.home.ID().String()[:6] + ".local"
}

// addrs are the addresses of this machine where the page is served with TLS,
// IPv4 first.
func (p *page) addrs() (out []netip.Addr) {
	for _, l := range p.cfg.Page.Listeners() {
		switch {
		case !l.TLS:
		case l.Addr.Addr().IsUnspecified():
			for _, ip := range interfaceIPs() {
				a, _ := netip.AddrFromSlice(ip)
				if a = a.Unmap(); a.Is4() == l.Addr.Addr().Is4() {
					out = append(out, a)
				}
			}
		default:
			out = append(out, l.Addr.Addr())
		}
	}
	slices.SortStableFunc(out, func(a, b netip.Addr) int { return a.BitLen() - b.BitLen() })
	return slices.Compact(out)
}

// secureURLs are where the page is, best first: by name where the name is
// answered to, then by address.
func (p *page) secureURLs() (out []string) {
	if !slices.ContainsFunc(p.cfg.Page.Listeners(), func(l config.PageListener) bool { return l.TLS }) {
		return nil
	}
	port := strconv.Itoa(int(p.cfg.PagePort()))
	for _, a := range p.addrs() {
		out = append(out, "https://"+net.JoinHostPort(a.String(), port)+"/")
	}
	if name := p.localName(); p.cfg.MDNS() && name != "" {
		out = append(out, "https://"+net.JoinHostPort(name, port)+"/")
	}
	return out
}

// localURLs are where the page is for a browser on this machine.
func (p *page) localURLs() (out []string) {
	for _, l := range p.cfg.Page.Listeners() {
		if !l.TLS {
			out = append(out, "http://"+l.Addr.String()+"/")
		}
	}
	return out
}

// Page describes the page for the operator.
func (p *page) Page(context.Context) (api.PageInfo, error) {
	k, err := p.certificates()
	if err != nil {
		return api.PageInfo{}, fmt.Errorf("%w: %w", api.ErrNoNetwork, err)
	}
	info := api.PageInfo{URLs: slices.Concat(p.secureURLs(), p.localURLs()), CAName: k.CA().Name(), Fingerprint: k.CA().Fingerprint(), CAUntil: p.handout.until()}
	if p.cfg.MDNS() {
		info.Name = p.localName()
	}
	if p.handout.open() {
		for _, a := range p.addrs() {
			info.CAURLs = append(info.CAURLs, "http://"+net.JoinHostPort(a.String(), strconv.Itoa(p.handout.port()))+"/")
		}
	}
	return info, nil
}

// OpenCA hands the CA out for d, or no longer when d is 0.
func (p *page) OpenCA(_ context.Context, d time.Duration) error {
	if d <= 0 {
		p.handout.shut()
		return nil
	}
	var at []netip.AddrPort
	for _, l := range p.cfg.Page.Listeners() {
		if l.TLS {
			at = append(at, netip.AddrPortFrom(l.Addr.Addr(), uint16(p.cfg.Page.CAPort)))
		}
	}
	if len(at) == 0 {
		return errPageAlone
	}
	return p.handout.openAt(at, time.Now().Add(d))
}

var errPageAlone = fmt.Errorf("node: page: %w", &hinted{
	text: "the page is served on this machine only, so nobody needs its certificate",
	hint: `set page.listen = ["127.0.0.1", "0.0.0.0"] in outrider.toml and start the node again`,
})

// hinted is an error that a setting mends.
type hinted struct {
	text, hint string
	is         error // its class; nil for what the node's state does not allow
}

func (e *hinted) Error() string { return e.text }
func (e *hinted) Hint() string  { return e.hint }

// Is sorts it into its class.
func (e *hinted) Is(err error) bool { return err == cmp.Or(e.is, api.ErrConflict) }

// run hands the CA out and answers to the page's name until ctx ends. Neither
// is needed for a node to live.
func (p *page) run(ctx context.Context) error {
	if p.cfg.Page.CA {
		if err := p.OpenCA(ctx, 100*365*24*time.Hour); err != nil {
			return fmt.Errorf("node: page.ca: %w", err)
		}
	}
	var wait sync.WaitGroup
	if p.cfg.MDNS() {
		wait.Go(func() {
			r := mdns.Responder{Name: p.wantedName(), Has: func(name string) { p.local.Store(&name) }, Log: p.log}
			if err := r.Run(ctx); err != nil && ctx.Err() == nil {
				p.log.Warn("the page's .local name is not answered to", "err", err)
			}
		})
	}
	p.handout.run(ctx)
	wait.Wait()
	return nil
}

// errBusyPort is an address the hand-out cannot have.
func errBusyPort(at netip.AddrPort, err error) error {
	return fmt.Errorf("node: hand out the CA: %w", &hinted{text: fmt.Sprintf("listen on %s: %v", at, err), hint: "stop the other program, or change page.ca_port"})
}
