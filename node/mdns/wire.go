package mdns

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"syscall"

	"golang.org/x/net/ipv4"
	"golang.org/x/net/ipv6"
	"golang.org/x/sys/unix"
)

// A wire is multicast over one version of IP.
type wire struct {
	conn  net.PacketConn
	group netip.Addr
	read  func(b []byte) (n, index int, from net.Addr, err error)
	write func(b []byte, index int, to net.Addr) error
	enter func(ifi *net.Interface) error

	joined map[int]bool // interfaces, by index
}

// A heard packet, and how to answer.
type heard struct {
	packet []byte
	wire   *wire
	index  int // of the interface
	from   netip.AddrPort
}

// listen shares the port with the machine's other responders.
func listen(ctx context.Context, network, addr string) (net.PacketConn, error) {
	lc := net.ListenConfig{Control: func(_, _ string, c syscall.RawConn) error {
		var opt error
		err := c.Control(func(fd uintptr) {
			opt = errors.Join(unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_REUSEADDR, 1),
				unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_REUSEPORT, 1))
		})
		return errors.Join(err, opt)
	}}
	return lc.ListenPacket(ctx, network, addr)
}

// hopLimit is what RFC 6762, section 11, expects of packets.
const hopLimit = 255

func wire4(ctx context.Context) (*wire, error) {
	conn, err := listen(ctx, "udp4", fmt.Sprintf("0.0.0.0:%d", port))
	if err != nil {
		return nil, err
	}
	p := ipv4.NewPacketConn(conn)
	if err := p.SetControlMessage(ipv4.FlagInterface, true); err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	_ = p.SetMulticastTTL(hopLimit)
	w := &wire{conn: conn, group: group4, joined: map[int]bool{}}
	w.read = func(b []byte) (int, int, net.Addr, error) {
		n, cm, from, err := p.ReadFrom(b)
		if cm == nil {
			return n, 0, from, err
		}
		return n, cm.IfIndex, from, err
	}
	w.write = func(b []byte, index int, to net.Addr) error {
		_, err := p.WriteTo(b, &ipv4.ControlMessage{IfIndex: index}, to)
		return err
	}
	w.enter = func(ifi *net.Interface) error { return p.JoinGroup(ifi, &net.UDPAddr{IP: group4.AsSlice()}) }
	return w, nil
}

func wire6(ctx context.Context) (*wire, error) {
	conn, err := listen(ctx, "udp6", fmt.Sprintf("[::]:%d", port))
	if err != nil {
		return nil, err
	}
	p := ipv6.NewPacketConn(conn)
	if err := p.SetControlMessage(ipv6.FlagInterface, true); err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	_ = p.SetMulticastHopLimit(hopLimit)
	w := &wire{conn: conn, group: group6, joined: map[int]bool{}}
	w.read = func(b []byte) (int, int, net.Addr, error) {
		n, cm, from, err := p.ReadFrom(b)
		if cm == nil {
			return n, 0, from, err
		}
		return n, cm.IfIndex, from, err
	}
	w.write = func(b []byte, index int, to net.Addr) error {
		_, err := p.WriteTo(b, &ipv6.ControlMessage{IfIndex: index}, to)
		return err
	}
	w.enter = func(ifi *net.Interface) error { return p.JoinGroup(ifi, &net.UDPAddr{IP: group6.AsSlice()}) }
	return w, nil
}

// join enters the group on every interface that has it and was not seen
// before, and reports whether there was one. One that refuses is tried again.
func (w *wire) join() (fresh bool) {
	ifis, err := net.Interfaces()
	if err != nil {
		return false
	}
	up := map[int]bool{}
	for _, ifi := range ifis {
		if need := net.FlagUp | net.FlagMulticast; ifi.Flags&need != need || ifi.Flags&net.FlagLoopback != 0 {
			continue
		}
		up[ifi.Index] = true
		if !w.joined[ifi.Index] && w.enter(&ifi) == nil {
			w.joined[ifi.Index], fresh = true, true
		}
	}
	for index := range w.joined {
		if !up[index] {
			delete(w.joined, index)
		}
	}
	return fresh
}

// listenTo passes on what is heard until the socket is closed.
func (w *wire) listenTo(ctx context.Context, to chan<- heard) error {
	buf := make([]byte, maxQuestion)
	for {
		n, index, src, err := w.read(buf)
		if err != nil {
			return err
		}
		from, ok := src.(*net.UDPAddr)
		if !ok || index == 0 {
			continue
		}
		ap := from.AddrPort()
		select {
		case to <- heard{append([]byte(nil), buf[:n]...), w, index, netip.AddrPortFrom(ap.Addr().Unmap(), ap.Port())}:
		case <-ctx.Done():
			return nil
		}
	}
}

// all sends a packet to everybody on an interface.
func (w *wire) all(b []byte, index int) error {
	return w.write(b, index, &net.UDPAddr{IP: w.group.AsSlice(), Port: port})
}
