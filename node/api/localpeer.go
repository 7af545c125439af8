package api

import (
	"encoding/binary"
	"errors"
	"net"
	"net/netip"
	"syscall"

	"golang.org/x/sys/unix"
)

// nobody is the account of whoever cannot be told: one that this machine does
// not map, or whose end of the connection is gone already. They share one
// allowance.
const nobody = 65534

// accountOf tells which account of this machine is at the other end of a
// connection. A peer on loopback has no credentials as one on a unix socket
// has, but the kernel knows whose socket it is.
func accountOf(c net.Conn) uint32 {
	uid, err := uint32(nobody), error(nil)
	switch c := c.(type) {
	case *net.UnixConn:
		uid, err = peerAccount(c)
	case *net.TCPConn:
		uid, err = socketAccount(addrPort(c.RemoteAddr()), addrPort(c.LocalAddr()))
	}
	if err != nil {
		return nobody
	}
	return uid
}

func addrPort(a net.Addr) netip.AddrPort {
	t, ok := a.(*net.TCPAddr)
	if !ok {
		return netip.AddrPort{}
	}
	ap := t.AddrPort()
	return netip.AddrPortFrom(ap.Addr().Unmap(), ap.Port())
}

// peerAccount asks for the credentials of who connected (unix(7), SO_PEERCRED).
func peerAccount(c syscall.Conn) (uid uint32, err error) {
	raw, err := c.SyscallConn()
	if err != nil {
		return 0, err
	}
	var cred *unix.Ucred
	if e := raw.Control(func(fd uintptr) { cred, err = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED) }); e != nil {
		return 0, e
	}
	if err != nil {
		return 0, err
	}
	return cred.Uid, nil
}

// What sock_diag(7) speaks: struct inet_diag_req_v2 and inet_diag_msg.
const (
	sockDiagByFamily = 20
	diagRequestBytes = unix.SizeofNlMsghdr + 56
	diagAnswerBytes  = 72
	diagUIDAt        = 64
	diagInodeAt      = 68
	tcpEstablished   = 1
)

var errNoOwner = errors.New("api: the kernel does not tell whose connection it is")

// socketAccount asks the kernel who owns the TCP socket whose own end is at
// local and whose other end is at remote. It answers for open connections
// only: one whose program has closed it belongs to nobody any more.
func socketAccount(local, remote netip.AddrPort) (uid uint32, err error) {
	if !local.IsValid() || local.Addr().Is4() != remote.Addr().Is4() {
		return 0, errNoOwner
	}
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, unix.NETLINK_INET_DIAG)
	if err != nil {
		return 0, err
	}
	defer unix.Close(fd)
	if err := unix.Sendto(fd, diagRequest(local, remote), 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return 0, err
	}
	var b [512]byte
	n, _, err := unix.Recvfrom(fd, b[:], unix.MSG_DONTWAIT) // the kernel answers before send returns
	if err != nil {
		return 0, err
	}
	return diagAnswer(b[:n])
}

func diagRequest(local, remote netip.AddrPort) []byte {
	b := make([]byte, diagRequestBytes)
	ne := binary.NativeEndian
	ne.PutUint32(b, diagRequestBytes)
	ne.PutUint16(b[4:], sockDiagByFamily)
	ne.PutUint16(b[6:], unix.NLM_F_REQUEST)
	q := b[unix.SizeofNlMsghdr:]
	q[0], q[1] = unix.AF_INET6, unix.IPPROTO_TCP
	if local.Addr().Is4() {
		q[0] = unix.AF_INET
	}
	ne.PutUint32(q[4:], 1<<tcpEstablished)
	binary.BigEndian.PutUint16(q[8:], local.Port())
	binary.BigEndian.PutUint16(q[10:], remote.Port())
	copy(q[12:28], local.Addr().AsSlice())
	copy(q[28:44], remote.Addr().AsSlice())
	ne.PutUint64(q[48:], 1<<64-1) // no cookie
	return b
}

func diagAnswer(b []byte) (uid uint32, err error) {
	ne := binary.NativeEndian
	if len(b) < unix.SizeofNlMsghdr+diagAnswerBytes || ne.Uint16(b[4:]) != sockDiagByFamily {
		return 0, errNoOwner
	}
	m := b[unix.SizeofNlMsghdr:]
	if m[1] != tcpEstablished || ne.Uint32(m[diagInodeAt:]) == 0 {
		return 0, errNoOwner
	}
	return ne.Uint32(m[diagUIDAt:]), nil
}
