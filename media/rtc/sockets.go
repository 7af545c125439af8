package rtc

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/pion/ice/v4"
	"github.com/pion/interceptor"
	"github.com/pion/webrtc/v4"

	"outrider/media"
)

// Limits of a connection.
const (
	writeBuffer  = 4 << 20 // bytes that wait for one slow TCP client; then packets are dropped
	readPackets  = 64      // packets that wait for us, per TCP connection
	strangerTime = 10 * time.Second
	lostAfter    = 10 * time.Second // without a sign of life
	maxAddrs     = 16               // addresses with a socket of their own
)

// opus is the one codec: RFC 7587. Payloads are sealed, so what is agreed here
// only tells the ends which codec to use inside.
var opus = webrtc.RTPCodecCapability{MimeType: webrtc.MimeTypeOpus, ClockRate: 48000, Channels: 2, SDPFmtpLine: "minptime=10;useinbandfec=1"}

const opusType = 111 // payload type; every browser's

// sockets are the port of calls. Each address has a UDP socket of its own: a
// wildcard socket of a machine with several addresses answers from the wrong
// one, and the client then drops the path.
type sockets struct {
	listen netip.AddrPort
	log    *slog.Logger
	cert   webrtc.Certificate
	tcp    *ice.TCPMuxDefault

	mu  sync.Mutex
	udp map[netip.Addr]*ice.UDPMuxDefault
}

// openSockets listens. It fails if the port is taken, or no address is there.
func openSockets(listen netip.AddrPort, log *slog.Logger) (*sockets, error) {
	so := &sockets{listen: listen, log: log, udp: make(map[netip.Addr]*ice.UDPMuxDefault)}
	cert, err := newCertificate()
	if err != nil {
		return nil, fmt.Errorf("make a DTLS key: %v", err)
	}
	so.cert = cert
	l, err := net.ListenTCP("tcp"+family(listen.Addr()), net.TCPAddrFromAddrPort(listen))
	if err != nil {
		return nil, err
	}
	so.tcp = ice.NewTCPMuxDefault(ice.TCPMuxParams{
		Listener: l, Logger: library{log, "tcp"}, ReadBufferSize: readPackets, WriteBufferSize: writeBuffer,
		FirstStunBindTimeout: strangerTime, AliveDurationForConnFromStun: strangerTime,
	})
	if err := so.refresh(); err != nil {
		so.close()
		return nil, err
	}
	return so, nil
}

func family(a netip.Addr) string {
	if a.Is4() {
		return "4"
	}
	return "6"
}

// wanted are the addresses that should have a socket now.
func (so *sockets) wanted() []netip.Addr {
	if !so.listen.Addr().IsUnspecified() {
		return []netip.Addr{so.listen.Addr()}
	}
	list, err := net.InterfaceAddrs()
	if err != nil {
		return nil
	}
	var out []netip.Addr
	for _, a := range list {
		n, ok := a.(*net.IPNet)
		if !ok {
			continue
		}
		ip, ok := netip.AddrFromSlice(n.IP)
		ip = ip.Unmap()
		if ok && ip.Is4() == so.listen.Addr().Is4() && !ip.IsLinkLocalUnicast() && !slices.Contains(out, ip) {
			out = append(out, ip)
		}
	}
	// Loopback last: it serves clients on this machine only.
	slices.SortStableFunc(out, func(a, b netip.Addr) int { return boolInt(a.IsLoopback()) - boolInt(b.IsLoopback()) })
	return out[:min(len(out), maxAddrs)]
}

func boolInt(b bool) int {
	if b {
		return 1
	}
	return 0
}

// refresh opens sockets for addresses that are new and closes those of
// addresses that are gone. It fails when none is left.
func (so *sockets) refresh() error {
	so.mu.Lock()
	defer so.mu.Unlock()
	wanted := so.wanted()
	for a, mux := range so.udp {
		if !slices.Contains(wanted, a) {
			_ = mux.Close() // its address is gone already
			delete(so.udp, a)
		}
	}
	var last error
	for _, a := range wanted {
		if so.udp[a] != nil {
			continue
		}
		conn, err := net.ListenUDP("udp"+family(a), net.UDPAddrFromAddrPort(netip.AddrPortFrom(a, so.listen.Port())))
		if err != nil {
			last = err // an address that is still being checked for doubles can be had later
			continue
		}
		so.udp[a] = ice.NewUDPMuxDefault(ice.UDPMuxParams{UDPConn: conn, Logger: library{so.log, "udp"}})
	}
	if len(so.udp) == 0 {
		if last == nil {
			last = errors.New("this machine has no address")
		}
		return last
	}
	return nil
}

func (so *sockets) close() {
	so.mu.Lock()
	defer so.mu.Unlock()
	_ = so.tcp.Close()
	for _, mux := range so.udp {
		_ = mux.Close()
	}
	clear(so.udp)
}

// api is how one client is answered: the addresses it can reach, its
// transports, one codec, nothing gathered from elsewhere.
func (so *sockets) api(s *Server, offer media.Offer) (*webrtc.API, error) {
	if so == nil {
		return nil, nil
	}
	var m webrtc.MediaEngine
	if err := m.RegisterCodec(webrtc.RTPCodecParameters{RTPCodecCapability: opus, PayloadType: opusType}, webrtc.RTPCodecTypeAudio); err != nil {
		return nil, fmt.Errorf("rtc: register the codec: %v", err)
	}
	var e webrtc.SettingEngine
	e.LoggerFactory = loggers{s.log}
	e.SetLite(true)
	e.SetICEMulticastDNSMode(ice.MulticastDNSModeDisabled)
	e.SetICETimeouts(lostAfter/2, lostAfter/2, 2*time.Second)
	e.SetReceiveMTU(maxPacket)
	e.SetICETCPMux(so.tcp)
	e.SetIncludeLoopbackCandidate(true) // chosen by the filter
	e.DisableActiveTCP(true)

	so.mu.Lock()
	defer so.mu.Unlock()
	serves := func(a netip.Addr) bool {
		return so.udp[a] != nil && (offer.Loopback || !a.IsLoopback() || len(so.udp) == 1)
	}
	var muxes []ice.UDPMux
	allowed := make(map[netip.Addr]bool)
	for a, mux := range so.udp {
		if serves(a) {
			allowed[a] = true
			muxes = append(muxes, mux)
		}
	}
	e.SetIPFilter(func(ip net.IP) bool {
		a, ok := netip.AddrFromSlice(ip)
		return ok && allowed[a.Unmap()]
	})
	types := []webrtc.NetworkType{webrtc.NetworkTypeTCP4, webrtc.NetworkTypeTCP6}
	if !offer.TCPOnly && !s.cfg.ForceTCP {
		e.SetICEUDPMux(ice.NewMultiUDPMuxDefault(muxes...))
		types = append(types, webrtc.NetworkTypeUDP4, webrtc.NetworkTypeUDP6)
	}
	e.SetNetworkTypes(types)
	return webrtc.NewAPI(webrtc.WithMediaEngine(&m), webrtc.WithSettingEngine(e), webrtc.WithInterceptorRegistry(&interceptor.Registry{})), nil
}
