// Package config holds the settings of one node: one struct, decoded strictly
// from TOML, with a default, a unit and a sentence for every field.
//
// What it promises: a file with an unknown key, a wrong type or a value out of
// bounds is refused with the line it stands on and, for a misspelt key, the
// key that was probably meant; nothing is read as something else, nothing is
// dropped in silence. An empty file is a complete configuration. Reading needs
// no running node and opens no socket (Check does, to find busy ports).
//
// The settings are local to a box: where it listens, how much it keeps, which
// kind of link it hears. What a network decides (lifetimes, presets, who may
// join) travels in signed objects and is no business of this file.
package config

import (
	"errors"
	"net/netip"
	"strings"

	"outrider/atak/tak"
)

// FileName is the configuration's name inside a node's folder.
const FileName = "outrider.toml"

// Config is the whole of a node's local settings. The table in fields.go says
// what each one means; a test holds the two together.
type Config struct {
	Profile       string `toml:"profile"`
	MemoryLimitMB int    `toml:"memory_limit_mb"`

	Gossip   Gossip   `toml:"gossip"`
	Mesh     Mesh     `toml:"mesh"`
	Page     Page     `toml:"page"`
	Store    Store    `toml:"store"`
	ATAK     ATAK     `toml:"atak"`
	Calls    Calls    `toml:"calls"`
	Position Position `toml:"position"`
	Core     Core     `toml:"core"`
	Log      Log      `toml:"log"`

	Metrics Metrics `toml:"metrics"`
}

// Gossip is how neighbours are found.
type Gossip struct {
	Listen string   `toml:"listen"`
	Seeds  []string `toml:"seeds"`
}

// Mesh is where bundles are taken and given.
type Mesh struct {
	Listen    []string `toml:"listen"`
	Advertise []string `toml:"advertise"`
}

// Page is the web page for the node's users.
type Page struct {
	Listen       []string `toml:"listen"`
	AllowedHosts []string `toml:"allowed_hosts"`
	Name         string   `toml:"name"`
	MDNS         bool     `toml:"mdns"`
	CA           bool     `toml:"ca"`
	CAPort       int      `toml:"ca_port"`
}

// Store bounds what the node keeps.
type Store struct {
	LimitMB        int `toml:"limit_mb"`
	FilesLimitMB   int `toml:"files_limit_mb"`
	ReservePercent int `toml:"reserve_percent"`
	FreeFloorMB    int `toml:"free_floor_mb"`
}

// ATAK is the bridge for TAK clients.
type ATAK struct {
	Enabled     bool     `toml:"enabled"`
	Listen      string   `toml:"listen"`
	ListenHTTPS string   `toml:"listen_https"`
	ShareWith   []string `toml:"share_with"`
	IntervalS   int      `toml:"interval_s"`
	TLS12       bool     `toml:"tls12"`
}

// Calls is where the media of calls meets.
type Calls struct {
	Enabled  bool   `toml:"enabled"`
	Listen   string `toml:"listen"`
	ForceTCP bool   `toml:"force_tcp"`
}

// Position is how the node learns where it is.
type Position struct {
	Source string `toml:"source"`
}

// Core is the far server and how this node proves itself there.
type Core struct {
	Servers  []string `toml:"servers"`
	SeedFile string   `toml:"seed_file"`
	CertFile string   `toml:"cert_file"`
	KeyFile  string   `toml:"key_file"`
	CAFile   string   `toml:"ca_file"`
	Pins     []string `toml:"pins"`
}

// Log is what the node tells its operator.
type Log struct {
	Level  string `toml:"level"`
	Format string `toml:"format"`
}

// Metrics is where figures for Prometheus are handed out.
type Metrics struct {
	Listen string `toml:"listen"`
}

// Default returns the settings of a node whose file is empty. The slices are
// fresh on every call.
func Default() Config {
	return Config{
		Profile:       ProfileLAN,
		MemoryLimitMB: 128,
		Gossip:        Gossip{Listen: "0.0.0.0:7410", Seeds: []string{}},
		Mesh:          Mesh{Listen: []string{"0.0.0.0:7411"}, Advertise: []string{}},
		Page:          Page{Listen: []string{"127.0.0.1:7480"}, AllowedHosts: []string{}, MDNS: true, CAPort: portPageCA},
		Store:         Store{LimitMB: 2048, FilesLimitMB: 8192, ReservePercent: 30, FreeFloorMB: 256},
		ATAK:          ATAK{Listen: "0.0.0.0", ListenHTTPS: "0.0.0.0", ShareWith: []string{"*"}, IntervalS: 30},
		Core:          Core{Servers: []string{}, Pins: []string{}},
		Calls:         Calls{Enabled: true},
		Log:           Log{Level: "info", Format: "text"},
	}
}

// A PageListener is one address the page is served on. TLS is true on every
// address that is not loopback: a password never crosses a wire in the clear.
type PageListener struct {
	Addr netip.AddrPort
	TLS  bool
}

// Listeners returns where the page is served, in the order written. The
// configuration must be valid.
func (p Page) Listeners() []PageListener {
	out := make([]PageListener, 0, len(p.Listen))
	for _, s := range p.Listen {
		a, err := parsePage(s)
		if err != nil {
			continue // Validate has refused it already
		}
		out = append(out, a)
	}
	return out
}

// parsePage reads an address with or without a port; the port that belongs to
// the interface (7480 on loopback, 7443 with TLS elsewhere) is filled in.
func parsePage(s string) (PageListener, error) {
	a, err := parseAddr(s, 0)
	if err != nil {
		return PageListener{}, err
	}
	tls := !a.Addr().Unmap().IsLoopback()
	if !hasPort(s) {
		port := uint16(portPage)
		if tls {
			port = portPageTLS
		}
		a = netip.AddrPortFrom(a.Addr(), port)
	}
	return PageListener{Addr: a, TLS: tls}, nil
}

// GossipAddr returns where the gossip sockets (udp and tcp) are bound.
func (c Config) GossipAddr() netip.AddrPort {
	a, _ := parseAddr(c.Gossip.Listen, portGossip)
	return a
}

// Seeds returns the gossip addresses of nodes to try first, with their ports.
func (c Config) Seeds() []string { return withPort(c.Gossip.Seeds, portGossip) }

// MeshListen returns where the mesh listens, with ports.
func (c Config) MeshListen() []string { return withPort(c.Mesh.Listen, portMesh) }

// MeshAdvertise returns the addresses this node states for itself, best
// first, with ports; empty means "find out from the interfaces".
func (c Config) MeshAdvertise() []string { return withPort(c.Mesh.Advertise, portMesh) }

// ATAKAddrs returns where TAK clients connect, for events and for files.
func (c Config) ATAKAddrs() (stream, https netip.AddrPort) {
	stream, _ = parseAddr(c.ATAK.Listen, tak.PortStream)
	https, _ = parseAddr(c.ATAK.ListenHTTPS, tak.PortHTTPS)
	return stream, https
}

// CallsAddr returns where the media of calls is taken, udp and tcp: where the
// page is, if nothing else is said, because callers come by the page.
func (c Config) CallsAddr() netip.AddrPort {
	if c.Calls.Listen != "" {
		a, _ := parseAddr(c.Calls.Listen, portCalls)
		return a
	}
	at := loopback
	for _, l := range c.Page.Listeners() {
		if l.TLS {
			at = l.Addr.Addr()
			break
		}
	}
	return netip.AddrPortFrom(at, portCalls)
}

func withPort(list []string, port uint16) []string {
	out := make([]string, 0, len(list))
	for _, s := range list {
		if a, err := parseAddr(s, port); err == nil {
			out = append(out, a.String())
		}
	}
	return out
}

// MetricsAddr returns where metrics are served, and whether they are.
func (c Config) MetricsAddr() (a netip.AddrPort, on bool) {
	if c.Metrics.Listen == "" {
		return a, false
	}
	a, err := parseAddr(c.Metrics.Listen, portMetrics)
	return a, err == nil
}

// PositionSource returns where the receiver is: the address of a gpsd or the
// path of a serial device; both are empty when there is none.
func (c Config) PositionSource() (gpsd, device string) {
	if strings.HasPrefix(c.Position.Source, "/") {
		return "", c.Position.Source
	}
	a, err := parseGPSD(c.Position.Source)
	if err != nil {
		return "", "" // Validate has refused it already
	}
	return a.String(), ""
}

// portGPSD is gpsd's own (IANA); we connect to it and never listen there.
const portGPSD = 2947

// parseGPSD reads gpsd://address[:port]. localhost needs no looking up.
func parseGPSD(s string) (netip.AddrPort, error) {
	rest, ok := strings.CutPrefix(s, "gpsd://")
	if !ok {
		return netip.AddrPort{}, errors.New("neither gpsd:// nor a path")
	}
	if after, ok := strings.CutPrefix(rest, "localhost"); ok {
		rest = "127.0.0.1" + after
	}
	return parseAddr(rest, portGPSD)
}

// MemoryLimit returns the runtime's soft memory limit in bytes, 0 for none.
func (c Config) MemoryLimit() int64 { return int64(c.MemoryLimitMB) << 20 }

// StoreLimit returns the bytes of bundles and metadata the store may hold.
func (c Config) StoreLimit() int64 { return int64(c.Store.LimitMB) * 1e6 }

// FilesLimit returns the bytes of file leaves the store may hold.
func (c Config) FilesLimit() int64 { return int64(c.Store.FilesLimitMB) * 1e6 }

// FreeFloor returns the bytes of the file system that are never filled.
func (c Config) FreeFloor() int64 { return int64(c.Store.FreeFloorMB) * 1e6 }
